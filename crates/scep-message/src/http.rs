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
/// The content type of GetNextCACert's answer.
pub const NEXT_CA_CERT: &str = "application/x-x509-next-ca-cert";

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

/// Reads a GET's raw query: what follows the `?`, as on the wire, not decoded. At most
/// [`MAX_QUERY`] octets.
///
/// RFC 8894 has the message in standard base64, percent-escaped. Accepted besides, because clients
/// do it: an unescaped `+`, `/` or `=`; escapes of escapes, three deep; CR, LF and TAB anywhere; a
/// blank for a `+` (form decoding upstream has made it one); the base64url alphabet; no padding.
/// Parameter names and operations are compared without regard to case, as the RFC itself spells
/// `PKIOperation` in two ways. `message` means nothing but for PKIOperation, and unknown parameters
/// mean nothing at all.
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

/// Reads a POST's raw query and body. GetCACaps, GetCACert and GetNextCACert are served by POST
/// too. Whatever else `operation` is, or if there is none, it is a PKIOperation (RFC 8894, 4.3:
/// many servers do not even notice its absence), and the body is the message, whatever the query's
/// `message` says.
///
/// # Errors
/// [`OperationError::NoMessage`] when the body is empty, [`OperationError::TooLong`] for the query,
/// [`OperationError::Duplicate`] for two operations. The body's length is limited where it is
/// received, and by [`scep_cms::Limits`].
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

/// The raw value of a parameter. Two of one name are refused: who reads the first and who the
/// second would differ.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Encodes to base64 with `+`, `/` and padding in it, longer than a line of 64 characters.
    fn message() -> Vec<u8> {
        [&[0x30, 0x2f, 0xfb, 0xef, 0xff, 0xfe][..], &[0xa5; 43]].concat()
    }

    fn plain() -> String {
        general_purpose::STANDARD.encode(message())
    }

    fn get(message: &str) -> Result<Operation, OperationError> {
        from_query(&format!("operation=PKIOperation&message={message}"))
    }

    fn reads(text: &str) {
        assert_eq!(get(text), Ok(Operation::PkiOperation(message())), "{text}");
    }

    fn escape_all(text: &str) -> String {
        text.bytes().map(|b| format!("%{b:02x}")).collect()
    }

    #[test]
    fn the_message_of_the_tests_has_every_special_character() {
        let text = plain();
        assert!(text.contains('+') && text.contains('/') && text.ends_with('='), "{text}");
        assert!(text.len() > 64);
    }

    #[test]
    fn quirk_01_a_raw_plus_stays_a_plus() {
        reads(&plain());
        // What form decoding upstream makes of it, in both spellings of a blank.
        reads(&plain().replace('+', "%20"));
        reads(&plain().replace('+', " "));
    }

    #[test]
    fn quirk_02_line_ends_in_base64_are_ignored() {
        let text = plain();
        let (first, second) = text.split_at(64);
        reads(&format!("{first}%0A{second}"));
        reads(&format!("{first}%0A{second}%0A"));
        reads(&format!("{first}%0D%0A{second}%0d%0a"));
        reads(&format!("{first}\n{second}\n"));
    }

    #[test]
    fn quirk_03_raw_escaped_and_doubly_escaped_are_one() {
        let text = plain();
        reads(&text);
        let once = text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        reads(&once);
        reads(&once.replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d"));
        reads(&once.replace('%', "%25"));
        reads(&once.replace('%', "%2525"));
        reads(&escape_all(&text));
        reads(&escape_all(&once));
    }

    #[test]
    fn quirk_04_base64url_and_missing_padding_are_tolerated() {
        reads(&plain().replace('+', "-").replace('/', "_"));
        reads(plain().trim_end_matches('='));
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for bad in ["AA!A", "AAAA=AAA", "A", "%zz", "AB%C3%A9", "AA%00A", "%25252525"] {
            assert_eq!(get(bad), Err(OperationError::Base64), "{bad}");
        }
        // The last octet's unused bits must be zero: one message has one encoding.
        assert_eq!(get("QQ=="), Ok(Operation::PkiOperation(b"A".to_vec())));
        assert_eq!(get("QR=="), Err(OperationError::Base64));
    }

    #[test]
    fn quirk_08_the_message_of_caps_and_cert_means_nothing() {
        for message in [
            "",
            "&message",
            "&message=",
            "&message=0",
            "&message=default",
            "&message=CAIdentifier",
            "&message=SCEP%20Authority",
            "&message=SCEP Authority",
            "&message=a&message=b",
            "&message=R&D+Devices",
            "&message=%",
            "&message=50%25",
        ] {
            let caps = from_query(&format!("operation=GetCACaps{message}"));
            assert_eq!(caps, Ok(Operation::GetCaCaps), "{message}");
            let cert = from_query(&format!("operation=GetCACert{message}"));
            assert_eq!(cert, Ok(Operation::GetCaCert), "{message}");
        }
        assert_eq!(from_query("operation=GetNextCACert"), Ok(Operation::GetNextCaCert));
    }

    #[test]
    fn quirk_10_a_post_of_any_operation_is_a_pki_operation() {
        let body = message();
        for query in [
            None,
            Some(""),
            Some("operation="),
            Some("operation=PKIOperation"),
            // certmonger: the body is the message.
            Some("operation=PKIOperation&message="),
            Some("operation=PKIOperation&message=AAAA"),
            Some("operation=enroll"),
            Some("message=x"),
        ] {
            let read = from_post(query, body.clone());
            assert_eq!(read, Ok(Operation::PkiOperation(message())), "{query:?}");
            assert_eq!(from_post(query, Vec::new()), Err(OperationError::NoMessage), "{query:?}");
        }
        for body in [Vec::new(), message()] {
            let caps = from_post(Some("operation=GetCACaps&message=0"), body.clone());
            assert_eq!(caps, Ok(Operation::GetCaCaps));
            let cert = from_post(Some("operation=GetCACert"), body);
            assert_eq!(cert, Ok(Operation::GetCaCert));
        }
    }

    #[test]
    fn quirk_11_unknown_parameters_are_ignored() {
        let text = plain();
        for query in [
            format!("mac=01%3A02&operation=PKIOperation&message={text}"),
            format!("operation=PKIOperation&x=operation&message={text}&&y"),
            format!("message={text}&operation=PKIOperation"),
            format!("OPERATION=pkioperation&Message={text}"),
        ] {
            assert_eq!(from_query(&query), Ok(Operation::PkiOperation(message())), "{query}");
        }
    }

    #[test]
    fn requests_that_are_none_say_why() {
        for (query, error) in [
            ("", OperationError::Missing),
            ("message=AAAA", OperationError::Missing),
            ("operation=", OperationError::Missing),
            ("operation", OperationError::Missing),
            ("operation=GetCRL", OperationError::Unknown),
            ("operation=PKIOperation", OperationError::NoMessage),
            ("operation=PKIOperation&message=", OperationError::NoMessage),
            ("operation=PKIOperation&message=%0A", OperationError::NoMessage),
            (
                "operation=GetCACaps&operation=PKIOperation",
                OperationError::Duplicate { name: "operation" },
            ),
            (
                "operation=PKIOperation&message=AAAA&message=BBBB",
                OperationError::Duplicate { name: "message" },
            ),
        ] {
            assert_eq!(from_query(query), Err(error), "{query}");
        }
    }

    #[test]
    fn queries_have_a_limit() {
        let frame = "operation=PKIOperation&message=".len();
        let longest = "A".repeat((MAX_QUERY - frame) & !3);
        assert!(get(&longest).is_ok());
        let longer = "A".repeat(MAX_QUERY - frame + 1);
        assert_eq!(get(&longer), Err(OperationError::TooLong));
        let query = format!("operation=GetCACaps&message={}", "A".repeat(MAX_QUERY));
        assert_eq!(from_post(Some(&query), Vec::new()), Err(OperationError::TooLong));
    }

    #[test]
    fn quirk_14_a_get_of_16_kib_is_read() {
        let message = vec![0xfb; 16 << 10];
        assert_eq!(
            from_query(&pki_operation_query(&message)),
            Ok(Operation::PkiOperation(message))
        );
    }

    #[test]
    fn quirk_16_content_types_are_lower_case_without_parameters() {
        for name in [PKI_MESSAGE, CA_CERT, CA_RA_CERT, NEXT_CA_CERT, crate::caps::CONTENT_TYPE] {
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b"/-509".contains(&b)),
                "{name}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(message in prop::collection::vec(any::<u8>(), 1..300)) {
            let query = pki_operation_query(&message);
            prop_assert!(query.bytes().skip(31).all(|b| b.is_ascii_alphanumeric() || b == b'%'));
            prop_assert_eq!(from_query(&query), Ok(Operation::PkiOperation(message)));
        }

        #[test]
        fn no_query_panics(query in "(operation=|message=|PKIOperation|GetCACaps|[&=%+ \\n]|%[0-9A-Fa-f]{2}|.){0,40}") {
            let _ = from_query(&query);
            let _ = from_post(Some(&query), vec![1]);
        }
    }
}
