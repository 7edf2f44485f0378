//! The attributes of a request (RFC 2986, 4.1; RFC 2985, 5.4).

use crate::extension::{self, Extensions};
use crate::{CsrError, MAX_ATTRIBUTES, MAX_CHALLENGE, Rules, oid};
use scep_types::tlv::{Tlv, tag};
use scep_types::{ObjectIdentifier, Secret};

/// What the attributes hold.
#[derive(Default)]
pub(crate) struct Attributes {
    pub(crate) extensions: Extensions,
    pub(crate) challenge_password: Option<Secret<String>>,
    pub(crate) others: Vec<ObjectIdentifier>,
    /// Attributes, then extensions.
    pub(crate) inert: Vec<ObjectIdentifier>,
}

/// Reads `[0] IMPLICIT Attributes`. DER sorts a SET OF; some clients do not, and no meaning hangs on the order.
pub(crate) fn read(set: &Tlv<'_>, rules: &Rules) -> Result<Attributes, CsrError> {
    let mut all = Attributes::default();
    let mut seen: Vec<ObjectIdentifier> = Vec::new();
    let mut reader = set.reader();
    while !reader.is_empty() {
        if seen.len() >= MAX_ATTRIBUTES {
            return Err(CsrError::TooManyAttributes { max: MAX_ATTRIBUTES });
        }
        let mut fields = reader.expect(tag::SEQUENCE)?.reader();
        let oid = fields.any()?.oid()?;
        let values = fields.expect(tag::SET)?;
        fields.finish()?;
        if seen.contains(&oid) {
            return Err(match oid {
                oid::EXTENSION_REQUEST => CsrError::RepeatedExtensionRequest,
                oid::CHALLENGE_PASSWORD => CsrError::RepeatedChallengePassword,
                _ => CsrError::RepeatedAttribute { oid },
            });
        }
        seen.push(oid);
        match oid {
            oid::EXTENSION_REQUEST => {
                let list = only_value(oid, &values)?;
                if list.tag != tag::SEQUENCE {
                    return Err(CsrError::Malformed(list.invalid("Extensions")));
                }
                all.extensions = extension::read(&list, rules)?;
            }
            oid::CHALLENGE_PASSWORD => {
                all.challenge_password = challenge_password(&only_value(oid, &values)?)?;
            }
            oid::MS_CERT_EXTENSIONS => return Err(CsrError::SecondExtensionSource),
            oid::MS_NAME_VALUE_PAIR => return Err(CsrError::EnrollmentNameValuePair),
            _ if oid::INERT_ATTRIBUTES.contains(&oid) => {
                only_value(oid, &values)?;
                all.inert.push(oid);
            }
            _ => {
                // What they mean is nobody's matter here; that they are values is.
                let mut values = values.reader();
                while !values.is_empty() {
                    values.any()?;
                }
                all.others.push(oid);
            }
        }
    }
    all.inert.append(&mut all.extensions.inert);
    Ok(all)
}

/// The one value of a single-valued attribute.
fn only_value<'a>(oid: ObjectIdentifier, values: &Tlv<'a>) -> Result<Tlv<'a>, CsrError> {
    let mut reader = values.reader();
    if reader.is_empty() {
        return Err(CsrError::AttributeValues { oid, got: 0 });
    }
    let value = reader.any()?;
    let mut got = 1_usize;
    while !reader.is_empty() {
        reader.any()?;
        got = got.saturating_add(1);
    }
    if got == 1 { Ok(value) } else { Err(CsrError::AttributeValues { oid, got }) }
}

/// Decodes a challengePassword. RFC 2985 has a DirectoryString of at most 255 characters; challenges are longer,
/// and the field has IA5String and OCTET STRING (read as UTF-8) besides. T61String is read as Latin-1, as all do.
/// A blank one counts as absent, so that it can never match anything.
fn challenge_password(value: &Tlv<'_>) -> Result<Option<Secret<String>>, CsrError> {
    let octets = value.value;
    let text = match value.tag {
        tag::UTF8_STRING | tag::OCTET_STRING => String::from_utf8(octets.to_vec()).ok(),
        tag::PRINTABLE_STRING if !octets.iter().all(|b| is_printable(*b)) => None,
        tag::IA5_STRING if !octets.is_ascii() => None,
        tag::PRINTABLE_STRING | tag::IA5_STRING | tag::T61_STRING => {
            Some(octets.iter().map(|b| char::from(*b)).collect())
        }
        tag::BMP_STRING => {
            let (units, rest) = octets.as_chunks::<2>();
            let units = units.iter().map(|unit| u16::from_be_bytes(*unit));
            char::decode_utf16(units).collect::<Result<_, _>>().ok().filter(|_| rest.is_empty())
        }
        tag::UNIVERSAL_STRING => {
            let (units, rest) = octets.as_chunks::<4>();
            let text = units.iter().map(|unit| char::from_u32(u32::from_be_bytes(*unit)));
            text.collect::<Option<_>>().filter(|_| rest.is_empty())
        }
        tag => return Err(CsrError::ChallengeType { tag }),
    };
    let text = Secret::new(text.ok_or(CsrError::ChallengeEncoding { tag: value.tag })?);
    let got = text.expose().len();
    if got > MAX_CHALLENGE {
        return Err(CsrError::ChallengeTooLong { got, max: MAX_CHALLENGE });
    }
    let blank = text.expose().chars().all(|c| c.is_whitespace() || c == '\0');
    Ok((!blank).then_some(text))
}

/// Whether X.680's PrintableString has this character.
pub(crate) const fn is_printable(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(
            b,
            b' ' | b'\'' | b'(' | b')' | b'+' | b',' | b'-' | b'.' | b'/' | b':' | b'=' | b'?'
        )
}
