//! The HTTP encoding of operations (RFC 8894, 4.1), with the quirks of the field.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose};
use thiserror::Error;

/// Content type of a pkiMessage.
pub const PKI_MESSAGE: &str = "application/x-pki-message";
/// Content type of one certificate.
pub const CA_CERT: &str = "application/x-x509-ca-cert";
/// Content type of a bundle.
pub const CA_RA_CERT: &str = "application/x-x509-ca-ra-cert";

/// The longest query that is read, octets.
pub const MAX_QUERY: usize = 64 << 10;

/// An operation.
#[derive(Debug, PartialEq, Eq)]
pub enum Operation {
    /// GetCACaps.
    GetCaCaps,
    /// GetCACert.
    GetCaCert,
    /// GetNextCACert.
    GetNextCaCert,
    /// PKIOperation with its message.
    PkiOperation(Vec<u8>),
}

/// Why a request is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OperationError {
    /// No `operation`.
    #[error("no operation parameter")]
    Missing,
    /// An `operation` that RFC 8894 does not know.
    #[error("unknown operation")]
    Unknown,
    /// `operation`, or the `message` of a PKIOperation, is there twice.
    #[error("parameter {name} is there twice")]
    Duplicate {
        /// Which.
        name: &'static str,
    },
    /// The `message` is not base64.
    #[error("the message is not base64")]
    Base64,
    /// A PKIOperation without message.
    #[error("no message")]
    NoMessage,
    /// The query is longer than [`MAX_QUERY`].
    #[error("too long")]
    TooLong,
}

/// Reads a GET's raw query: what follows the `?`, as on the wire, not decoded. At most [`MAX_QUERY`] octets.
///
/// RFC 8894 has the message in standard base64, percent-escaped. Accepted besides, because clients do it: an
/// unescaped `+`, `/` or `=`; escapes of escapes, three deep; CR, LF and TAB anywhere; a blank for a `+` (form
/// decoding upstream has made it one); the base64url alphabet; no padding. Parameter names and operations are
/// compared without regard to case, as the RFC itself spells `PKIOperation` in two ways. `message` means nothing
/// but for PKIOperation, and unknown parameters mean nothing at all.
///
/// # Errors
/// See [`OperationError`].
pub fn from_query(query: &str) -> Result<Operation, OperationError> {
    match named(query)? {
        None => Err(OperationError::Missing),
        Some(Named::Other) => Err(OperationError::Unknown),
        Some(Named::GetCaCaps) => Ok(Operation::GetCaCaps),
        Some(Named::GetCaCert) => Ok(Operation::GetCaCert),
        Some(Named::GetNextCaCert) => Ok(Operation::GetNextCaCert),
        Some(Named::PkiOperation) => {
            let message = parameter(query, "message")?.ok_or(OperationError::NoMessage)?;
            base64_message(message).map(Operation::PkiOperation)
        }
    }
}

/// Reads a POST's raw query and body. GetCACaps, GetCACert and GetNextCACert are served by POST too. Whatever else
/// `operation` is, or if there is none, it is a PKIOperation (RFC 8894, 4.3: many servers do not even notice its
/// absence), and the body is the message, whatever the query's `message` says.
///
/// # Errors
/// [`OperationError::NoMessage`] when the body is empty, [`OperationError::TooLong`] for the query. The body's
/// length is limited where it is received, and by [`scep_cms::Limits`].
pub fn from_post(query: Option<&str>, body: Vec<u8>) -> Result<Operation, OperationError> {
    match named(query.unwrap_or_default())? {
        Some(Named::GetCaCaps) => Ok(Operation::GetCaCaps),
        Some(Named::GetCaCert) => Ok(Operation::GetCaCert),
        Some(Named::GetNextCaCert) => Ok(Operation::GetNextCaCert),
        None | Some(Named::Other | Named::PkiOperation) => {
            if body.is_empty() {
                Err(OperationError::NoMessage)
            } else {
                Ok(Operation::PkiOperation(body))
            }
        }
    }
}

/// The query of a GET PKIOperation: base64, with `+`, `/` and `=` escaped.
#[must_use]
pub fn pki_operation_query(message: &[u8]) -> String {
    let mut query = String::from("operation=PKIOperation&message=");
    for c in general_purpose::STANDARD.encode(message).chars() {
        match c {
            '+' => query.push_str("%2B"),
            '/' => query.push_str("%2F"),
            '=' => query.push_str("%3D"),
            other => query.push(other),
        }
    }
    query
}

enum Named {
    GetCaCaps,
    GetCaCert,
    GetNextCaCert,
    PkiOperation,
    Other,
}

fn named(query: &str) -> Result<Option<Named>, OperationError> {
    if query.len() > MAX_QUERY {
        return Err(OperationError::TooLong);
    }
    let Some(value) = parameter(query, "operation")? else { return Ok(None) };
    let value = unescape(value.as_bytes()).to_ascii_lowercase();
    Ok(match value.trim_ascii() {
        b"" => None,
        b"getcacaps" => Some(Named::GetCaCaps),
        b"getcacert" => Some(Named::GetCaCert),
        b"getnextcacert" => Some(Named::GetNextCaCert),
        b"pkioperation" => Some(Named::PkiOperation),
        _ => Some(Named::Other),
    })
}

/// The raw value of a parameter. Two of one name are refused: who reads the first and who the second would differ.
fn parameter<'a>(query: &'a str, name: &'static str) -> Result<Option<&'a str>, OperationError> {
    let mut found = None;
    for pair in query.split('&') {
        // Base64's padding is `=` too: only the first one separates.
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if key.eq_ignore_ascii_case(name) && found.replace(value).is_some() {
            return Err(OperationError::Duplicate { name });
        }
    }
    Ok(found)
}

/// Undoes one layer of percent-escapes; what is no escape stays.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let escaped = match (first, after) {
            (b'%', [high, low, tail @ ..]) => hex(*high).zip(hex(*low)).map(|pair| (pair, tail)),
            _ => None,
        };
        match escaped {
            Some(((high, low), tail)) => {
                out.push((high << 4) | low);
                rest = tail;
            }
            None => out.push(first),
        }
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

fn base64_message(raw: &str) -> Result<Vec<u8>, OperationError> {
    let mut text = raw.as_bytes().to_vec();
    // Base64 has no `%`: as long as there is one, there is another layer of escapes.
    for _ in 0..3 {
        if text.contains(&b'%') {
            text = unescape(&text);
        }
    }
    let mut base64: Vec<u8> = text
        .into_iter()
        .filter(|b| !matches!(b, b'\r' | b'\n' | b'\t'))
        .map(|b| match b {
            b' ' | b'-' => b'+',
            b'_' => b'/',
            other => other,
        })
        .collect();
    while base64.last() == Some(&b'=') {
        base64.pop();
    }
    if base64.is_empty() {
        return Err(OperationError::NoMessage);
    }
    LENIENT.decode(base64).map_err(|_| OperationError::Base64)
}
