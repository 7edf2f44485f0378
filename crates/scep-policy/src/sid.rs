//! Windows security identifiers in certificates: a KDC maps a certificate to the account that it names.
//!
//! A SID comes as the extension szOID_NTDS_CA_SECURITY_EXT or as the SAN URI
//! `tag:microsoft.com,2022-09-14:sid:<SID>`. Whoever reads such a URI may be more tolerant than we are, so it is
//! recognised in every spelling, and accepted in one.

use scep_types::tlv::{Reader, tag};
use scep_types::{GeneralName, ObjectIdentifier, StringRules};

/// szOID_NTDS_CA_SECURITY_EXT.
pub(crate) const EXTENSION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.25.2");
/// szOID_NTDS_OBJECTSID: the type of the one otherName in it.
pub(crate) const OBJECT_SID: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.25.2.1");

const URI_PREFIX: &str = "tag:microsoft.com,2022-09-14:sid:";

/// Relative identifiers below this are the domain's built-in accounts and groups: Administrator is 500.
const FIRST_ORDINARY_RID: u32 = 1000;

/// The domain of a SID: `S-1-5-21-a-b-c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Domain([u32; 3]);

impl Domain {
    /// Reads the canonical text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("S-1-5-21-")?.split('-').map(number);
        let domain = [parts.next()??, parts.next()??, parts.next()??];
        parts.next().is_none().then_some(Self(domain))
    }
}

/// The SID of an account of a domain: `S-1-5-21-a-b-c-r`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sid {
    domain: Domain,
    rid: u32,
}

impl Sid {
    /// Reads the canonical text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (domain, rid) = text.rsplit_once('-')?;
        Some(Self { domain: Domain::parse(domain)?, rid: number(rid)? })
    }

    /// Out of a URI in the one accepted spelling.
    pub(crate) fn from_uri(uri: &str) -> Option<Self> {
        Self::parse(uri.strip_prefix(URI_PREFIX)?)
    }

    /// Out of the extension's value: GeneralNames with one otherName, whose value is an OCTET STRING of text.
    pub(crate) fn from_extension(value: &[u8]) -> Option<Self> {
        let names = GeneralName::list_from_der(value, StringRules::Strict).ok()?;
        let [GeneralName::Other(oid, inner)] = names.as_slice() else { return None };
        let text =
            Reader::new(inner).only(tag::OCTET_STRING).ok().filter(|_| *oid == OBJECT_SID)?;
        Self::parse(core::str::from_utf8(text.value).ok()?)
    }

    /// Whether it is an ordinary account of one of the domains.
    pub(crate) fn is_ordinary_in(&self, domains: &[Domain]) -> bool {
        self.rid >= FIRST_ORDINARY_RID && domains.contains(&self.domain)
    }
}

/// A sub-authority: decimal without leading zeros, 32 bits.
fn number(text: &str) -> Option<u32> {
    let minimal = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (minimal && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok()).flatten()
}

/// Whether a URI would be taken for a SID by a reader that ignores case, percent-encoding or blanks.
pub(crate) fn looks_like_sid(uri: &str) -> bool {
    let mut text = squeezed(uri);
    // Encoded percent signs: each pass undoes one layer, and the text gets shorter each time.
    loop {
        let decoded = squeezed(&percent_decoded(&text));
        if decoded == text {
            break;
        }
        text = decoded;
    }
    text.find("microsoft.com,").is_some_and(|at| {
        text.get(at..).is_some_and(|rest| rest.contains(":sid:") || rest.contains("sid:s-1-"))
    })
}

fn squeezed(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_whitespace() && !c.is_control())
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

fn percent_decoded(text: &str) -> String {
    let digit = |c: Option<&u8>| c.and_then(|b| char::from(*b).to_digit(16));
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        if let (b'%', Some(high), Some(low)) = (first, digit(tail.first()), digit(tail.get(1))) {
            out.push(u8::try_from((high << 4) | low).unwrap_or(b'%'));
            rest = tail.get(2..).unwrap_or_default();
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use scep_types::tlv;

    const SID: &str = "S-1-5-21-1111-2222-3333-4444";

    fn extension_value(oid: ObjectIdentifier, sid: &str) -> Vec<u8> {
        let value = tlv::encode(tag::OCTET_STRING, sid.as_bytes());
        GeneralName::list_to_der(&[GeneralName::Other(oid, value)])
    }

    #[test]
    fn one_spelling_is_read_in_both_places() {
        let sid = Sid::parse(SID).unwrap();
        assert_eq!(Sid::from_uri(&format!("tag:microsoft.com,2022-09-14:sid:{SID}")), Some(sid));
        assert_eq!(Sid::from_extension(&extension_value(OBJECT_SID, SID)), Some(sid));
        for bad in [
            "s-1-5-21-1-2-3-4444",
            "S-1-5-21-1-2-3",
            "S-1-5-21-1-2-3-4-5",
            "S-1-5-21-01-2-3-4444",
            "S-1-5-21-1-2-3-+4444",
            "S-1-5-21-1-2-3-4294967296",
            "S-1-5-32-544",
            "S-1-5-21-1-2-3- 4444",
        ] {
            assert_eq!(Sid::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn attack_42_every_spelling_is_recognised() {
        for uri in [
            "tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-4444",
            "TAG:Microsoft.COM,2022-09-14:SID:s-1-5-21-1-2-3-4444",
            "tag:microsoft.com,1999-01-01:sid:S-1-5-21-1-2-3-4444",
            "tag:microsoft.com,2022-09-14:%73id:S-1-5-21-1-2-3-500",
            "tag%3Amicrosoft.com%2C2022-09-14%3Asid%3AS-1-5-21-1-2-3-500",
            "tag%253Amicrosoft.com%252C2022-09-14%253Asid%253AS-1-5-21-1-2-3-500",
            " tag: microsoft.com, 2022-09-14: sid: S-1-5-21-1-2-3-500",
            "tag:microsoft.com,2022-09-14:%20sid:%09S-1-5-21-1-2-3-500",
            "URL=tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-500",
        ] {
            assert!(looks_like_sid(uri), "{uri}");
        }
        for uri in ["https://microsoft.com/sid", "tag:example.org,2022:sid:7", "urn:uuid:7"] {
            assert!(!looks_like_sid(uri), "{uri}");
        }
    }

    #[test]
    fn built_in_accounts_are_never_ordinary() {
        let domains = [Domain::parse("S-1-5-21-1-2-3").unwrap()];
        let ordinary = |text: &str| Sid::parse(text).unwrap().is_ordinary_in(&domains);
        assert!(!ordinary("S-1-5-21-1-2-3-500"));
        assert!(!ordinary("S-1-5-21-1-2-3-999"));
        assert!(ordinary("S-1-5-21-1-2-3-1000"));
        assert!(!ordinary("S-1-5-21-1-2-4-1000"));
    }
}
