//! Challenge blobs, PKCS #10 requests and SCEP messages as files, good and bad, for this and other implementations.
//!
//! [`all`] makes them, the same octets each time; the folder `vectors` of this crate holds them, and its README.md
//! describes the format. [`run`](Vector::run) gives one to the real libraries.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "part of tests: what does not fit is a failed test, and its message says what"
)]

mod challenge;
mod claims;
mod csr;
mod csr_extensions;
mod csr_form;
mod csr_keys;
mod csr_names;
mod csr_policy;
mod draft;
mod message;
mod message_envelope;
mod message_good;
mod message_signed;
mod run;
mod text;
mod world;

use core::fmt;
use scep_types::{Reason, Timestamp};

pub use run::Stage;
pub use text::TextError;
pub use world::SITE_RULES;

/// What a vector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The text of a challenge blob.
    Challenge,
    /// A PKCS #10 request with its challenge in it, DER.
    Csr,
    /// A SCEP message with a request in its envelope, BER.
    Message,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Challenge, Self::Csr, Self::Message];

    /// Its name in a header, which is that of its folder.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Challenge => "challenge",
            Self::Csr => "csr",
            Self::Message => "message",
        }
    }

    /// The label of its body.
    const fn label(self) -> &'static str {
        match self {
            Self::Challenge => "CHALLENGE PASSWORD",
            Self::Csr => "CERTIFICATE REQUEST",
            Self::Message => "CMS",
        }
    }
}

/// How it must end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// With verified claims, or with an approval.
    Accept,
    /// With a refusal.
    Refuse {
        /// Where.
        stage: Stage,
        /// The reason it is reported under.
        reason: Reason,
        /// Where the reason is an algorithm of a message that is not served: its name.
        algorithm: Option<String>,
    },
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accepted"),
            Self::Refuse { stage, reason, algorithm: None } => write!(f, "{reason} at {stage}"),
            Self::Refuse { stage, reason, algorithm: Some(name) } => {
                write!(f, "{reason} ({name}) at {stage}")
            }
        }
    }
}

/// What an operator may allow for old devices. Nothing of it is on by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// SHA-1 signatures, of messages and of requests, and 3DES envelopes.
    LegacyAlgorithms,
    /// BMPString in the names of requests.
    BmpNames,
    /// What is without effect in a request is refused instead of discarded.
    RefuseInert,
}

impl Setting {
    const ALL: [Self; 3] = [Self::LegacyAlgorithms, Self::BmpNames, Self::RefuseInert];

    const fn name(self) -> &'static str {
        match self {
            Self::LegacyAlgorithms => "legacy-algorithms",
            Self::BmpNames => "bmp-names",
            Self::RefuseInert => "refuse-inert",
        }
    }
}

/// A row that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// Of the catalogue of attacks in SECURITY.md.
    Attack(u8),
    /// Of the field's quirks in scep-message's CONFORMANCE.md.
    Quirk(u8),
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attack(number) => write!(f, "attack {number}"),
            Self::Quirk(number) => write!(f, "quirk {number}"),
        }
    }
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vector {
    /// What it is.
    pub kind: Kind,
    /// The file's name without its extension. That of a good one starts with `good-`.
    pub name: String,
    /// How it must end.
    pub expected: Expected,
    /// At what time.
    pub time: Timestamp,
    /// With which settings.
    pub settings: Vec<Setting>,
    /// Which files of the folder `keys` it takes to check it.
    pub keys: Vec<String>,
    /// Which good one it was, before the one change.
    pub base: Option<String>,
    /// What was changed, or what is particular about a good one.
    pub about: String,
    /// Where it belongs.
    pub rows: Vec<Row>,
    /// The octets.
    pub body: Vec<u8>,
}

impl Vector {
    /// Where it is, below the folder.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}.txt", self.kind.name(), self.name)
    }

    fn has(&self, setting: Setting) -> bool {
        self.settings.contains(&setting)
    }
}

/// Every vector, by kind and in the order in which they were thought of.
#[must_use]
pub fn all() -> Vec<Vector> {
    [challenge::vectors(), csr::vectors(), message::vectors()].concat()
}

/// What else is in the folder, beside its README.md: keys, certificates, and the site's rules. Path and contents.
#[must_use]
pub fn materials() -> Vec<(String, String)> {
    world::materials()
}

/// Collects the vectors of one kind.
struct Book {
    kind: Kind,
    vectors: Vec<Vector>,
}

impl Book {
    const fn new(kind: Kind) -> Self {
        Self { kind, vectors: Vec::new() }
    }

    fn good(&mut self, name: &str, about: &str, rows: &[Row], body: Vec<u8>) -> &mut Vector {
        assert!(name.starts_with("good-"), "{name}");
        self.add(name, Expected::Accept, None, about, rows, body)
    }

    fn bad(
        &mut self,
        (name, base): (&str, &str),
        (stage, reason): (Stage, Reason),
        about: &str,
        rows: &[Row],
        body: Vec<u8>,
    ) -> &mut Vector {
        assert!(!name.starts_with("good-") && base.starts_with("good-"), "{name} of {base}");
        let expected = Expected::Refuse { stage, reason, algorithm: None };
        self.add(name, expected, Some(base.to_owned()), about, rows, body)
    }

    fn add(
        &mut self,
        name: &str,
        expected: Expected,
        base: Option<String>,
        about: &str,
        rows: &[Row],
        body: Vec<u8>,
    ) -> &mut Vector {
        self.vectors.push(Vector {
            kind: self.kind,
            name: name.to_owned(),
            expected,
            time: world::NOW,
            settings: Vec::new(),
            keys: world::keys_of(self.kind),
            base,
            about: about.to_owned(),
            rows: rows.to_vec(),
            body,
        });
        self.vectors.last_mut().expect("one was pushed")
    }
}

impl Vector {
    fn at(&mut self, time: Timestamp) -> &mut Self {
        self.time = time;
        self
    }

    fn with(&mut self, setting: Setting) -> &mut Self {
        self.settings.push(setting);
        self
    }

    /// Names the algorithm that is not served.
    fn naming(&mut self, name: &str) -> &mut Self {
        if let Expected::Refuse { algorithm, .. } = &mut self.expected {
            *algorithm = Some(name.to_owned());
        }
        self
    }
}
