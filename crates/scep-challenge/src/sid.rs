//! Security identifiers of Active Directory, in the two forms that certificates carry them
//! (strong certificate mapping).

use crate::claims::ExtraExtension;
use core::fmt;
use scep_types::{
    GeneralName, NameError, ObjectIdentifier,
    tlv::{self, Reader, tag},
};
use thiserror::Error;

/// The extension szOID_NTDS_CA_SECURITY_EXT.
pub const SID_EXTENSION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.25.2");
/// The otherName type szOID_NTDS_OBJECTSID inside it.
const OBJECT_SID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.25.2.1");
/// What the URI form starts with.
const URI_PREFIX: &str = "tag:microsoft.com,2022-09-14:sid:";
const MAX_SUB_AUTHORITIES: usize = 15;

/// Why a text is no security identifier, or an extension or URI holds none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SidError {
    /// Not `S-1-` with an authority below 2^48 and 1 to 15 sub-authorities below 2^32, decimal without
    /// leading zeros.
    #[error("not a security identifier")]
    Text,
    /// The extension's value is not exactly one otherName of the right type with one OCTET STRING, or it is
    /// marked critical.
    #[error("not a security identifier extension")]
    Extension,
    /// A URI that a lenient reader could take for one of a security identifier, but is not exactly that.
    #[error("a URI that only resembles that of a security identifier")]
    Uri,
    /// More than one extension, or more than one URI.
    #[error("more than one {0}")]
    Twice(&'static str),
}

/// A security identifier, `S-1-5-21-…`.
///
/// ```
/// use scep_challenge::Sid;
///
/// let sid: Sid = "S-1-5-21-1004336348-1177238915-682003330-1105".parse()?;
/// assert_eq!(sid.relative_id(), 1105);
/// assert_eq!(Sid::from_extension(&sid.to_extension())?, sid);
/// assert!("s-1-5-21-7".parse::<Sid>().is_err());
/// # Ok::<(), scep_challenge::SidError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sid {
    text: String,
    domain_len: usize,
    relative_id: u32,
}

fn decimal(part: &str, max: u64) -> Option<u64> {
    let plain = part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'));
    part.parse().ok().filter(|n| plain && *n <= max)
}

impl core::str::FromStr for Sid {
    type Err = SidError;

    fn from_str(text: &str) -> Result<Self, SidError> {
        let mut parts = text.strip_prefix("S-1-").ok_or(SidError::Text)?.split('-');
        let authority = parts.next().ok_or(SidError::Text)?;
        decimal(authority, (1 << 48) - 1).ok_or(SidError::Text)?;
        let mut last = None;
        let mut count = 0_usize;
        for part in parts {
            last = Some((part, decimal(part, u64::from(u32::MAX)).ok_or(SidError::Text)?));
            count = count.saturating_add(1);
        }
        let (part, value) = last.ok_or(SidError::Text)?;
        if count > MAX_SUB_AUTHORITIES {
            return Err(SidError::Text);
        }
        Ok(Self {
            domain_len: text.len().saturating_sub(part.len()).saturating_sub(1),
            relative_id: u32::try_from(value).map_err(|_| SidError::Text)?,
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Sid {
    /// The text, `S-1-…`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The domain: everything but the last sub-authority.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.text.get(..self.domain_len).unwrap_or_default()
    }

    /// The last sub-authority. Below 1,000 it names a built-in account.
    #[must_use]
    pub const fn relative_id(&self) -> u32 {
        self.relative_id
    }

    /// The certificate extension that names it.
    #[must_use]
    pub fn to_extension(&self) -> ExtraExtension {
        let value = tlv::encode(
            tag::context_constructed(0),
            &tlv::encode(tag::OCTET_STRING, self.text.as_bytes()),
        );
        let other_name =
            tlv::construct(tag::context_constructed(0), &[&tlv::oid(&OBJECT_SID), &value]);
        ExtraExtension {
            oid: SID_EXTENSION,
            critical: false,
            value: tlv::encode(tag::SEQUENCE, &other_name),
        }
    }

    /// Reads a certificate extension.
    ///
    /// # Errors
    /// When it is another extension, critical, or holds anything but one security identifier.
    pub fn from_extension(extension: &ExtraExtension) -> Result<Self, SidError> {
        if extension.oid != SID_EXTENSION || extension.critical {
            return Err(SidError::Extension);
        }
        let text = (|| {
            let mut names = Reader::new(&extension.value).only(tag::SEQUENCE).ok()?.reader();
            let mut other = names.expect(tag::context_constructed(0)).ok()?.reader();
            names.finish().ok()?;
            if other.any().ok()?.oid().ok()? != OBJECT_SID {
                return None;
            }
            let value = other.expect(tag::context_constructed(0)).ok()?.reader();
            other.finish().ok()?;
            core::str::from_utf8(value.only(tag::OCTET_STRING).ok()?.value).ok()
        })();
        text.ok_or(SidError::Extension)?.parse()
    }

    /// The subjectAltName URI that names it.
    ///
    /// # Errors
    /// Never for a text of this length; the constructor of general names has the last word.
    pub fn to_uri(&self) -> Result<GeneralName, NameError> {
        GeneralName::uri(&format!("{URI_PREFIX}{}", self.text))
    }

    /// Reads a subjectAltName: `None` when it is nothing of the kind.
    ///
    /// # Errors
    /// When it is a URI that a lenient reader could take for one of a security identifier (other case,
    /// percent-encoded, with blanks, another authority or date), but is not exactly that.
    pub fn from_uri(name: &GeneralName) -> Result<Option<Self>, SidError> {
        let GeneralName::Uri(uri) = name else { return Ok(None) };
        match uri.strip_prefix(URI_PREFIX) {
            Some(text) => text.parse().map(Some),
            None if resembles_sid_uri(uri) => Err(SidError::Uri),
            None => Ok(None),
        }
    }
}

/// Whether a URI could be taken for that of a security identifier: after percent-decoding (up to three times),
/// without white space and regardless of case it starts with `tag:` and has `sid:` or `microsoft`, or has
/// `microsoft.com,` and `sid:` anywhere. Anything that resembles one must be exactly one, or absent.
#[must_use]
pub fn resembles_sid_uri(uri: &str) -> bool {
    let mut octets = uri.as_bytes().to_vec();
    for _ in 0..3 {
        let mut decoded = Vec::with_capacity(octets.len());
        let mut rest = &octets[..];
        while let Some((&first, after)) = rest.split_first() {
            let escaped = match after {
                [high, low, tail @ ..] if first == b'%' => {
                    let digit =
                        |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
                    digit(*high).zip(digit(*low)).map(|(h, l)| ((h << 4) | l, tail))
                }
                _ => None,
            };
            let (octet, tail) = escaped.unwrap_or((first, after));
            decoded.push(octet);
            rest = tail;
        }
        octets = decoded;
    }
    octets.retain(|b| !b.is_ascii_whitespace() && !b.is_ascii_control());
    octets.make_ascii_lowercase();
    let text = String::from_utf8_lossy(&octets);
    (text.starts_with("tag:") && (text.contains("sid:") || text.contains("microsoft")))
        || (text.contains("microsoft.com,") && text.contains("sid:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "S-1-5-21-1004336348-1177238915-682003330-1105";

    #[test]
    fn the_text_has_one_spelling() {
        let sid: Sid = TEXT.parse().unwrap();
        assert_eq!(sid.domain(), "S-1-5-21-1004336348-1177238915-682003330");
        assert_eq!(sid.relative_id(), 1105);
        for bad in [
            "",
            "S-1-",
            "S-1-5",
            "S-1-5-",
            "s-1-5-21-1",
            "S-2-5-21-1",
            "S-1-5-021-1",
            "S-1-5-21-4294967296",
            "S-1-281474976710656-1",
            "S-1-5-21-1 ",
            "S-1-5-21-+1",
            "S-1-5-1-2-3-4-5-6-7-8-9-10-11-12-13-14-15-16",
        ] {
            assert_eq!(bad.parse::<Sid>(), Err(SidError::Text), "{bad:?}");
        }
    }

    #[test]
    fn the_extension_is_the_one_windows_writes() {
        let sid: Sid = TEXT.parse().unwrap();
        let extension = sid.to_extension();
        let head = [
            0x30, 0x3f, 0xa0, 0x3d, 0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x19,
            0x02, 0x01, 0xa0, 0x2f, 0x04, 0x2d,
        ];
        assert_eq!(extension.value.strip_prefix(&head), Some(TEXT.as_bytes()));
        let critical = ExtraExtension { critical: true, ..extension.clone() };
        assert_eq!(Sid::from_extension(&critical), Err(SidError::Extension));
        let mut second = extension.value.clone();
        second.extend_from_slice(&[5, 0]);
        let names = extension.value.get(2..).unwrap();
        let two_names = tlv::encode(tag::SEQUENCE, &[names, names].concat());
        for value in [vec![], vec![0x30, 0], second, two_names] {
            let bad = ExtraExtension { value, ..extension.clone() };
            assert_eq!(Sid::from_extension(&bad), Err(SidError::Extension));
        }
    }

    #[test]
    fn attack_42_what_resembles_a_sid_uri_must_be_one() {
        let read = |uri: &str| Sid::from_uri(&GeneralName::Uri(uri.to_owned()));
        let sid: Sid = TEXT.parse().unwrap();
        assert_eq!(Sid::from_uri(&sid.to_uri().unwrap()), Ok(Some(sid)));
        for bad in [
            "TAG:microsoft.com,2022-09-14:sid:",
            "tag:Microsoft.com,2022-09-14:sid:",
            "tag:microsoft.com,2022-09-14:SID:",
            "tag:microsoft.com,2022-09-14%3Asid:",
            "tag:microsoft.com,2022-09-14:%73id:",
            "tag:microsoft.com,2022-09-14:%2573id:",
            "tag:example.org,2022-09-14:%252573id:",
            " tag:microsoft.com,2022-09-14:sid:",
            "tag:microsoft.com, 2022-09-14:sid:",
            "tag:microsoft.com,2021-01-01:sid:",
            "tag:com,2022-09-14:sid:",
            "URL=tag:microsoft.com,2022-09-14:sid:",
        ] {
            assert_eq!(read(&format!("{bad}{TEXT}")), Err(SidError::Uri), "{bad}");
        }
        assert_eq!(read("tag:microsoft.com,2022-09-14:sid:S-1-5"), Err(SidError::Text));
        assert_eq!(read("https://example.org/tag:microsoft.com"), Ok(None));
        assert_eq!(Sid::from_uri(&GeneralName::dns("a.example").unwrap()), Ok(None));
    }
}
