//! When an answer is a success: in exactly one case.

use crate::json::{Message, MessageError, outline};
use core::fmt;
use scep_types::Fault;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// The longest problem that is read.
const MAX_PROBLEM: usize = 16 << 10;
/// Characters of a peer's free text that are kept.
const MAX_TEXT: usize = 255;

/// `application/json`.
pub(crate) const JSON: &str = "application/json";
/// `application/problem+json` (RFC 9457).
pub(crate) const PROBLEM: &str = "application/problem+json";
/// `application/cms` (RFC 7193).
pub(crate) const CMS: &str = "application/cms";

/// Whether to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The same request will be refused again: an operator must act, or the request must change.
    Never,
    /// The same request, later: with backoff, and not before Retry-After.
    Later,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident => $status:literal, $retry:ident;)*) => {
        /// Why an issuer refuses. Closed: a code that is not here is treated as a refusal too.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $name,)* }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The HTTP status that it is sent with.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// Whether to try again.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self { $(Self::$name => Retry::$retry,)* }
            }

            /// The code with this text.
            #[must_use]
            pub fn from_code(code: &str) -> Option<Self> {
                match code { $(stringify!($name) => Some(Self::$name),)* _ => None }
            }
        }
    };
}

codes! {
    /// The message is not one of this endpoint.
    RequestMalformed => 400, Never;
    /// Another version of the protocol.
    VersionNotServed => 400, Never;
    /// No token like this, used, or expired. One code for all, on purpose.
    TokenNotAccepted => 401, Never;
    /// No certificate, or none of a connector that is known.
    CertificateNotAccepted => 401, Never;
    /// The connector's certificate was revoked, or its enrolment was ended.
    ConnectorRevoked => 403, Never;
    /// The message is of another connector than the certificate.
    ConnectorMismatch => 403, Never;
    /// Two holders of one connector's key were seen: a copied machine, or a stolen key.
    ConnectorCloned => 403, Never;
    /// A proof of possession, or by the present key, does not hold.
    ProofNotAccepted => 403, Never;
    /// The key is in use already, here or elsewhere.
    KeyNotAccepted => 403, Never;
    /// The token is not for this group.
    GroupNotAllowed => 403, Never;
    /// The group is bound to another ledger, or has a member already and its ledger is not shared.
    LedgerNotAccepted => 409, Never;
    /// An event is not the one that follows what the issuer has.
    EventOutOfOrder => 409, Never;
    /// The message is too long.
    RequestTooLarge => 413, Never;
    /// Too many requests.
    RateExceeded => 429, Later;
    /// A failure of the issuer's.
    InternalError => 500, Later;
    /// The issuer cannot answer at present.
    Unavailable => 503, Later;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// What a code in an answer says. Only the exact text `Success` is a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was refused.
    Refused(ErrorCode),
    /// A text that is no code: a refusal.
    Unknown,
}

impl Outcome {
    /// What this text says.
    #[must_use]
    pub fn from_code(code: &str) -> Self {
        match code {
            Success::CODE => Self::Success,
            _ => ErrorCode::from_code(code).map_or(Self::Unknown, Self::Refused),
        }
    }
}

/// The code of an answer that is a success. Written as `Success`; nothing else is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Success;

impl Success {
    const CODE: &'static str = "Success";
}

impl Serialize for Success {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(Self::CODE)
    }
}

impl<'de> Deserialize<'de> for Success {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match String::deserialize(from)?.as_str() {
            Self::CODE => Ok(Self),
            _ => Err(serde::de::Error::custom("not Success")),
        }
    }
}

/// A message that answers a request, and has a [`Success`] in `code`.
pub trait Answer: Message {}

/// An error as the issuer sends it: `application/problem+json` (RFC 9457). At most 16 KiB.
///
/// The one object in which unknown fields are allowed: the standard demands it, and proxies make problems of their
/// own. No problem is a success, so nothing hangs on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Always `about:blank`: `code` tells what happened.
    #[serde(rename = "type", default = "about_blank")]
    kind: String,
    /// The code in words.
    #[serde(default)]
    title: String,
    /// The HTTP status.
    #[serde(default)]
    status: u16,
    /// The stable code.
    code: String,
    /// For the operator; at most 255 characters, none of them a control character.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

fn about_blank() -> String {
    "about:blank".to_owned()
}

impl Problem {
    /// A problem to be sent. Of `detail` control characters are left out, and what is too long is cut.
    #[must_use]
    pub fn new(code: ErrorCode, detail: Option<&str>) -> Self {
        Self {
            kind: about_blank(),
            title: words(code.code()),
            status: code.status(),
            code: code.code().to_owned(),
            detail: detail.map(clean),
        }
    }

    /// Reads one; `None` when it is none.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        if body.len() > MAX_PROBLEM {
            return None;
        }
        let problem: Self = serde_json::from_slice(body).ok()?;
        Some(Self {
            detail: problem.detail.as_deref().map(clean),
            title: clean(&problem.title),
            ..problem
        })
    }

    /// Writes it.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        // Text and a number: nothing that could not be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What it says: never a success.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        ErrorCode::from_code(&self.code)
    }

    /// For the operator.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

/// `TokenNotAccepted` as `Token not accepted`.
fn words(code: &str) -> String {
    let mut words = String::new();
    for letter in code.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
            words.push(letter.to_ascii_lowercase());
        } else {
            words.push(letter);
        }
    }
    words
}

/// A peer's free text, fit for a log line.
fn clean(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(MAX_TEXT).collect()
}

/// Why an answer is no success.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AnswerError {
    /// The issuer refuses, whatever the status.
    #[error("the issuer refuses with {code} and status {status}: {}", detail.as_deref().unwrap_or("no detail"))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Why.
        code: ErrorCode,
        /// In words.
        detail: Option<String>,
    },
    /// A code that is not known, whatever the status.
    #[error("the issuer answers with a code that is not known and status {status}")]
    UnknownCode {
        /// The HTTP status.
        status: u16,
    },
    /// Another status than 200, without a problem that could be read.
    #[error("the answer has status {status}")]
    Status {
        /// The HTTP status.
        status: u16,
    },
    /// Status 200, but another media type: a page of a proxy, most likely.
    #[error("the answer is of another media type than {expected}")]
    MediaType {
        /// What was due.
        expected: &'static str,
    },
    /// Status 200, but not the message that was due.
    #[error("the answer: {0}")]
    Message(#[from] MessageError),
}

impl AnswerError {
    /// Whose fault it is, as the connector sees it.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Refused { code, .. } => match code.retry() {
                Retry::Never => Fault::OurConfiguration,
                Retry::Later => Fault::OurDependency,
            },
            Self::UnknownCode { .. }
            | Self::Status { .. }
            | Self::MediaType { .. }
            | Self::Message(_) => Fault::OurDependency,
        }
    }

    /// Whether to try again. What is not understood may be a proxy's, and gone later.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Refused { code, .. } => code.retry(),
            Self::UnknownCode { .. }
            | Self::Status { .. }
            | Self::MediaType { .. }
            | Self::Message(_) => Retry::Later,
        }
    }
}

/// An answer in JSON. A success has status 200, media type `application/json`, and `"code": "Success"` in a message of
/// exactly this type; everything else is an error, a code of refusal under status 200 too.
///
/// # Errors
/// Whenever it is no success.
pub fn accept<A: Answer>(status: u16, media_type: &str, body: &[u8]) -> Result<A, AnswerError> {
    expect(status, media_type, body, JSON)?;
    if body.len() > A::MAX_BYTES {
        return Err(MessageError::Oversize { got: body.len(), max: A::MAX_BYTES }.into());
    }
    match outline(body)?.code.as_deref().map(Outcome::from_code) {
        Some(Outcome::Success) => Ok(crate::json::read(body)?),
        Some(Outcome::Refused(code)) => Err(AnswerError::Refused { status, code, detail: None }),
        Some(Outcome::Unknown) | None => Err(AnswerError::UnknownCode { status }),
    }
}

/// An answer that is signed: the body for [`CommandVerifier::open`](crate::CommandVerifier::open), where it has
/// status 200 and media type `application/cms`.
///
/// # Errors
/// Whenever it has not.
pub fn accept_signed<'a>(
    status: u16,
    media_type: &str,
    body: &'a [u8],
) -> Result<&'a [u8], AnswerError> {
    expect(status, media_type, body, CMS)?;
    Ok(body)
}

fn expect(
    status: u16,
    media_type: &str,
    body: &[u8],
    expected: &'static str,
) -> Result<(), AnswerError> {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(PROBLEM)
        && let Some(problem) = Problem::read(body)
    {
        return Err(match problem.code() {
            Some(code) => AnswerError::Refused { status, code, detail: problem.detail },
            None => AnswerError::UnknownCode { status },
        });
    }
    if status != 200 {
        return Err(AnswerError::Status { status });
    }
    if !essence.eq_ignore_ascii_case(expected) {
        return Err(AnswerError::MediaType { expected });
    }
    Ok(())
}
