//! A vector through the libraries, from its octets to the last decision that its kind allows.

use super::{Expected, Kind, Setting, Vector, world};
use core::fmt;
use scep_keys::AwsLc;
use scep_message::{LegacyAlgorithms, Limits, MessageError, PkiMessage, Request};
use scep_pkcs10::{Rules, Sha1Signatures, UnprovenCsr, check_key};
use scep_policy::{Denials, InertContent, SiteRules, decide};
use scep_types::{Reason, StringRules};

macro_rules! stages {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The steps, in order. A challenge starts at `challenge-open` and ends there; a request starts at `csr-parse`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Stage { $($(#[$doc])* $name,)* }

        impl Stage {
            /// All of them, in order.
            pub const ALL: [Self; 8] = [$(Self::$name,)*];

            /// Its name in a header.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

stages! {
    /// BER to a SignedData.
    MessageParse = "message-parse",
    /// The message's signature and signed attributes.
    MessageVerify = "message-verify",
    /// The envelope and what is in it.
    MessageOpen = "message-open",
    /// The PKCS #10 request.
    CsrParse = "csr-parse",
    /// Whether its key is weak.
    CsrKey = "csr-key",
    /// Whether it is signed by that key.
    CsrProof = "csr-proof",
    /// The challenge blob, to verified claims.
    ChallengeOpen = "challenge-open",
    /// The request against the claims, the claims against the site's rules.
    Decide = "decide",
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How it ended, and why in words.
type Refused = (Expected, String);

fn refused(stage: Stage, reason: Reason, why: &impl fmt::Display) -> Refused {
    (Expected::Refuse { stage, reason, algorithm: None }, why.to_string())
}

fn message_refused(stage: Stage, error: &MessageError) -> Refused {
    let algorithm = error.algorithm().map(str::to_owned);
    (Expected::Refuse { stage, reason: error.reason(), algorithm }, error.to_string())
}

impl Vector {
    /// Runs it: how it ended, and for people why.
    ///
    /// # Panics
    /// When the keys of this crate do not make a gateway.
    #[must_use]
    pub fn run(&self) -> (Expected, String) {
        let ended = match self.kind {
            Kind::Challenge => {
                let text = core::str::from_utf8(&self.body).expect("a challenge is text");
                self.open(text).map(drop)
            }
            Kind::Csr => self.request(&self.body),
            Kind::Message => self.message(),
        };
        match ended {
            Ok(()) => (Expected::Accept, "accepted".to_owned()),
            Err(refused) => refused,
        }
    }

    fn message(&self) -> Result<(), Refused> {
        let legacy = if self.has(Setting::LegacyAlgorithms) {
            LegacyAlgorithms::Accept
        } else {
            LegacyAlgorithms::Refuse
        };
        let parsed = PkiMessage::parse(&self.body, &Limits::default())
            .map_err(|error| message_refused(Stage::MessageParse, &error))?;
        let verified = parsed
            .verify(&AwsLc, legacy)
            .map_err(|error| message_refused(Stage::MessageVerify, &error))?;
        let (request, _) = verified.decrypt(&world::ra(), &AwsLc);
        match request.map_err(|error| message_refused(Stage::MessageOpen, &error))? {
            Request::Enrol { csr, .. } => self.request(&csr),
            // These carry no challenge: that they can be read is all there is to see.
            Request::CertPoll | Request::GetCert { .. } | Request::GetCrl { .. } => Ok(()),
        }
    }

    fn request(&self, der: &[u8]) -> Result<(), Refused> {
        let mut rules = Rules::default();
        if self.has(Setting::BmpNames) {
            rules.strings = StringRules::AllowBmp;
        }
        if self.has(Setting::LegacyAlgorithms) {
            rules.sha1 = Sha1Signatures::Accept;
        }
        let unproven = UnprovenCsr::parse(der, &rules)
            .map_err(|error| refused(Stage::CsrParse, error.reason(), &error))?;
        check_key(unproven.spki(), &rules, &world::our_keys())
            .map_err(|error| refused(Stage::CsrKey, error.reason(), &error))?;
        let csr = unproven
            .prove(&AwsLc)
            .map_err(|error| refused(Stage::CsrProof, error.reason(), &error))?;
        let claims = match csr.challenge_password() {
            Some(text) => self.open(text.expose())?,
            None => self.open("")?,
        };
        let rules = SiteRules::from_toml(world::SITE_RULES).expect("the vectors' rules");
        let inert = if self.has(Setting::RefuseInert) {
            InertContent::Refuse
        } else {
            InertContent::Discard
        };
        decide(&csr, claims, &rules, &Denials::default(), inert, self.time)
            .map(drop)
            .map_err(|denial| refused(Stage::Decide, denial.reason(), &denial))
    }

    fn open(&self, text: &str) -> Result<scep_challenge::VerifiedClaims, Refused> {
        world::opener()
            .open(text, self.time, &AwsLc)
            .map_err(|error| refused(Stage::ChallengeOpen, error.reason(), &error))
    }
}
