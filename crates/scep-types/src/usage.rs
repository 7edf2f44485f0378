//! Key usage and extended key usage (RFC 5280, 4.2.1.3 and 4.2.1.12).

use crate::tlv::{self, Reader, TlvError, tag};
use const_oid::ObjectIdentifier;
use core::fmt;

/// The bits of a KeyUsage; bit 0 is digitalSignature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyUsages(u16);

const NAMES: [&str; 9] = [
    "digitalSignature",
    "nonRepudiation",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
];

impl KeyUsages {
    /// digitalSignature.
    pub const DIGITAL_SIGNATURE: Self = Self(1);
    /// keyEncipherment.
    pub const KEY_ENCIPHERMENT: Self = Self(1 << 2);
    /// keyAgreement.
    pub const KEY_AGREEMENT: Self = Self(1 << 4);
    /// keyCertSign.
    pub const KEY_CERT_SIGN: Self = Self(1 << 5);
    /// cRLSign.
    pub const CRL_SIGN: Self = Self(1 << 6);

    /// The bits of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it has all bits of `other`.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether it has a bit in common with `other`.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// From the standard's names; `None` when one is unknown or there are none.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut bits = 0;
        for name in names {
            let at = NAMES.iter().position(|n| n.eq_ignore_ascii_case(name))?;
            bits |= 1_u16.checked_shl(u32::try_from(at).ok()?)?;
        }
        (bits != 0).then_some(Self(bits))
    }

    /// The standard's names of its bits.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().enumerate().filter(move |(i, _)| (self.0 >> i) & 1 == 1).map(|(_, name)| *name)
    }

    /// Decodes the extension's value.
    ///
    /// # Errors
    /// When it is not the DER of a named bit string with 1 to 9 bits, at least one of them set.
    pub fn from_der(der: &[u8]) -> Result<Self, TlvError> {
        let tlv = Reader::new(der).only(tag::BIT_STRING)?;
        let bad = tlv.invalid("KeyUsage");
        let (unused, octets) = tlv.value.split_first().ok_or(bad)?;
        let bits = match *octets {
            [a] => u16::from(a.reverse_bits()),
            [a, 0x80] => u16::from(a.reverse_bits()) | 1 << 8,
            _ => return Err(bad),
        };
        let usages = Self(bits);
        // DER: trailing zero bits are removed, and `unused` says how many there are.
        if bits == 0 || usages.to_der() != der || *unused > 7 {
            return Err(bad);
        }
        Ok(usages)
    }

    /// Encodes the extension's value.
    #[must_use]
    pub fn to_der(self) -> Vec<u8> {
        let [low, high] = self.0.to_le_bytes();
        let contents = if high & 1 == 1 {
            vec![7, low.reverse_bits(), 0x80]
        } else {
            let octet = low.reverse_bits();
            vec![u8::try_from(octet.trailing_zeros().min(7)).unwrap_or(7), octet]
        };
        tlv::encode(tag::BIT_STRING, &contents)
    }
}

impl fmt::Display for KeyUsages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(", "))
    }
}

/// A set of KeyPurposeIds, 1 to 32.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExtendedKeyUsages(Vec<ObjectIdentifier>);

const PURPOSES: &[(&str, ObjectIdentifier)] = &[
    ("serverAuth", ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1")),
    ("clientAuth", ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2")),
    ("codeSigning", ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3")),
    ("emailProtection", ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.4")),
    ("timeStamping", ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8")),
    ("OCSPSigning", ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.9")),
    ("ipsecIKE", ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.17")),
    ("eapOverLAN", ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.14")),
    ("anyExtendedKeyUsage", ObjectIdentifier::new_unwrap("2.5.29.37.0")),
    ("smartcardLogon", ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.20.2.2")),
    ("certificateRequestAgent", ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.20.2.1")),
];

impl ExtendedKeyUsages {
    /// The most purposes.
    pub const MAX: usize = 32;

    /// A set of purposes; order carries no meaning. `None` when there are none, more than 32, or one
    /// twice.
    #[must_use]
    pub fn new(mut purposes: Vec<ObjectIdentifier>) -> Option<Self> {
        let count = purposes.len();
        purposes.sort();
        purposes.dedup();
        (count != 0 && count <= Self::MAX && purposes.len() == count).then_some(Self(purposes))
    }

    /// The purpose with this name (of any case) or dotted OID.
    #[must_use]
    pub fn purpose(name: &str) -> Option<ObjectIdentifier> {
        PURPOSES
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, oid)| *oid)
            .or_else(|| ObjectIdentifier::new(name).ok())
    }

    /// The name of a purpose, or its dotted OID.
    #[must_use]
    pub fn purpose_name(oid: &ObjectIdentifier) -> String {
        PURPOSES
            .iter()
            .find(|(_, o)| o == oid)
            .map_or_else(|| oid.to_string(), |(n, _)| (*n).to_owned())
    }

    /// The purposes, sorted.
    #[must_use]
    pub fn purposes(&self) -> &[ObjectIdentifier] {
        &self.0
    }

    /// Decodes the extension's value.
    ///
    /// # Errors
    /// When it is malformed, empty, too long or names a purpose twice.
    pub fn from_der(der: &[u8]) -> Result<Self, TlvError> {
        let tlv = Reader::new(der).only(tag::SEQUENCE)?;
        let mut reader = tlv.reader();
        let mut purposes = Vec::new();
        while !reader.is_empty() && purposes.len() <= Self::MAX {
            purposes.push(reader.any()?.oid()?);
        }
        Self::new(purposes).ok_or_else(|| tlv.invalid("ExtKeyUsageSyntax"))
    }

    /// Encodes the extension's value.
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        let parts: Vec<Vec<u8>> = self.0.iter().map(tlv::oid).collect();
        tlv::encode(tag::SEQUENCE, &parts.concat())
    }
}

impl fmt::Display for ExtendedKeyUsages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(Self::purpose_name).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_usage_bits_survive_the_round_trip_and_only_der_is_read() {
        for bits in 1..512 {
            let usages = KeyUsages(bits);
            assert_eq!(KeyUsages::from_der(&usages.to_der()).unwrap(), usages);
            assert_eq!(KeyUsages::from_names(usages.names()), Some(usages));
        }
        // OpenSSL's encoding of digitalSignature, keyEncipherment.
        assert_eq!(
            KeyUsages::from_names(["digitalSignature", "keyEncipherment"]).unwrap().to_der(),
            [3, 2, 5, 0xa0]
        );
        for bad in [&[3, 2, 0, 0xa0][..], &[3, 1, 0], &[3, 2, 7, 0], &[3, 3, 6, 0xa0, 0x40]] {
            assert!(KeyUsages::from_der(bad).is_err());
        }
    }

    #[test]
    fn extended_key_usages_are_a_set() {
        let client = ExtendedKeyUsages::purpose("clientAuth").unwrap();
        let server = ExtendedKeyUsages::purpose("serverAuth").unwrap();
        assert_eq!(
            ExtendedKeyUsages::new(vec![client, server]),
            ExtendedKeyUsages::new(vec![server, client])
        );
        assert_eq!(ExtendedKeyUsages::new(vec![client, client]), None);
        assert_eq!(ExtendedKeyUsages::new(vec![]), None);
        let set = ExtendedKeyUsages::new(vec![client, server]).unwrap();
        assert_eq!(ExtendedKeyUsages::from_der(&set.to_der()).unwrap(), set);
    }
}
