//! PKCS #10 requests that are nearly right.

use crate::tree::Change;
use arbitrary::Arbitrary;
use scep_testkit::{NoOpSigner, TestKey};
use scep_types::tlv::{self, tag};
use scep_types::{ObjectIdentifier, SignatureScheme, Signer as _, SpkiDer};

/// A request: right in its form, whatever it asks for, but for one change.
#[derive(Arbitrary, Debug)]
pub struct MadeCsr {
    subject: Vec<Vec<Attribute>>,
    key: Key,
    attributes: Vec<CsrAttribute>,
    sorted: bool,
    scheme: u8,
    change: Option<Change>,
}

/// A type and a value of a name.
#[derive(Arbitrary, Debug)]
pub(crate) struct Attribute {
    oid: Oid,
    text: Text,
}

/// A string in one of ASN.1's types for it.
#[derive(Arbitrary, Debug)]
pub(crate) struct Text {
    string_type: StringType,
    characters: Characters,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum StringType {
    Printable,
    Utf8,
    Ia5,
    Bmp,
    T61,
    Universal,
    Octets,
}

#[derive(Arbitrary, Debug)]
enum Characters {
    Usual(u8),
    Free(String),
}

/// An object identifier that somebody knows, or octets.
#[derive(Arbitrary, Debug)]
pub(crate) enum Oid {
    Known(u8),
    Free(u8, u8),
    Octets(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Key {
    Rsa,
    P256,
    P384,
    /// A modulus of this many octets of this value.
    FreeRsa(u8, u8, u32),
    /// A point that is on no curve.
    NoPoint(u8),
}

#[derive(Arbitrary, Debug)]
enum CsrAttribute {
    Extensions(Vec<Extension>),
    Challenge(Text),
    Inert(u8, Text),
    Other(Oid, Vec<Vec<u8>>),
    SecondSource(Vec<Extension>),
}

#[derive(Arbitrary, Debug)]
enum Extension {
    SubjectAltName(bool, Vec<San>),
    KeyUsage(bool, u16),
    ExtendedKeyUsage(bool, Vec<Oid>),
    BasicConstraints(bool),
    SubjectKeyId(Vec<u8>),
    Other(Oid, bool, Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum San {
    Dns(Characters),
    Email(Characters),
    Uri(Characters),
    Ip(bool, [u8; 16]),
    Upn(Text),
    Directory(Vec<Vec<Attribute>>),
    RegisteredId(Oid),
    Other(Oid, Vec<u8>),
    X400(Vec<u8>),
    EdiParty(Vec<u8>),
}

const KNOWN: &[&str] = &[
    "2.5.4.3",
    "2.5.4.5",
    "2.5.4.6",
    "2.5.4.10",
    "2.5.4.11",
    "2.5.4.65",
    "0.9.2342.19200300.100.1.25",
    "0.9.2342.19200300.100.1.1",
    "1.2.840.113549.1.9.1",
    "1.2.840.113549.1.9.2",
    "1.2.840.113549.1.9.7",
    "1.2.840.113549.1.9.14",
    "1.2.840.113549.1.9.20",
    "1.3.6.1.4.1.311.2.1.14",
    "1.3.6.1.4.1.311.13.2.1",
    "1.3.6.1.4.1.311.13.2.2",
    "1.3.6.1.4.1.311.20.2.3",
    "1.3.6.1.4.1.311.25.2",
    "1.3.6.1.5.5.7.3.1",
    "1.3.6.1.5.5.7.3.2",
    "2.5.29.37.0",
    "2.5.29.14",
    "2.5.29.15",
    "2.5.29.17",
    "2.5.29.19",
    "2.5.29.37",
    "2.16.840.1.113733.1.9.2",
    "2.16.840.1.113733.1.9.5",
    "2.16.840.1.113733.1.9.7",
];
const INERT: &[&str] = &[
    "1.2.840.113549.1.9.20",
    "1.3.6.1.4.1.311.13.2.2",
    "1.3.6.1.4.1.311.13.2.3",
    "1.3.6.1.4.1.311.21.20",
];
const USUAL: &[&str] = &[
    "device-1",
    "device-1.example.org",
    "device-1@example.org",
    "https://example.org/device-1",
    "CH",
    "Example, Inc. + Sons",
    "M\u{fc}ller \u{4e2d}\u{6587}",
    "a\\,OU=b",
];

pub(crate) fn oid(text: &str) -> Vec<u8> {
    tlv::oid(&ObjectIdentifier::new_unwrap(text))
}

fn pick<'a>(all: &[&'a str], n: u8) -> &'a str {
    all[usize::from(n) % all.len()]
}

impl Oid {
    pub(crate) fn der(&self) -> Vec<u8> {
        match self {
            Self::Known(n) => oid(pick(KNOWN, *n)),
            Self::Free(a, b) => tlv::encode(tag::OID, &[0x2b, a & 0x7f, b & 0x7f]),
            Self::Octets(octets) => tlv::encode(tag::OID, octets),
        }
    }
}

impl Characters {
    fn text(&self) -> &str {
        match self {
            Self::Usual(n) => pick(USUAL, *n),
            Self::Free(text) => text,
        }
    }
}

impl Text {
    pub(crate) fn der(&self) -> Vec<u8> {
        let text = self.characters.text();
        match self.string_type {
            StringType::Printable => tlv::encode(tag::PRINTABLE_STRING, text.as_bytes()),
            StringType::Utf8 => tlv::encode(tag::UTF8_STRING, text.as_bytes()),
            StringType::Ia5 => tlv::encode(tag::IA5_STRING, text.as_bytes()),
            StringType::T61 => tlv::encode(tag::T61_STRING, text.as_bytes()),
            StringType::Octets => tlv::encode(tag::OCTET_STRING, text.as_bytes()),
            StringType::Bmp => {
                let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
                tlv::encode(tag::BMP_STRING, &units)
            }
            StringType::Universal => {
                let units: Vec<u8> =
                    text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect();
                tlv::encode(tag::UNIVERSAL_STRING, &units)
            }
        }
    }
}

pub(crate) fn name(rdns: &[Vec<Attribute>]) -> Vec<u8> {
    let set = |rdn: &Vec<Attribute>| {
        tlv::set_of(rdn.iter().map(|a| tlv::sequence(&[&a.oid.der(), &a.text.der()])).collect())
    };
    tlv::encode(tag::SEQUENCE, &rdns.iter().flat_map(set).collect::<Vec<u8>>())
}

impl San {
    fn der(&self) -> Vec<u8> {
        match self {
            Self::Dns(text) => tlv::encode(0x82, text.text().as_bytes()),
            Self::Email(text) => tlv::encode(0x81, text.text().as_bytes()),
            Self::Uri(text) => tlv::encode(0x86, text.text().as_bytes()),
            Self::Ip(four, octets) => tlv::encode(0x87, &octets[..if *four { 4 } else { 16 }]),
            Self::Upn(text) => {
                let value = tlv::encode(0xa0, &text.der());
                tlv::construct(0xa0, &[&oid("1.3.6.1.4.1.311.20.2.3"), &value])
            }
            Self::Directory(rdns) => tlv::encode(0xa4, &name(rdns)),
            Self::RegisteredId(oid) => {
                let mut der = oid.der();
                der[0] = 0x88;
                der
            }
            Self::Other(oid, value) => {
                tlv::construct(0xa0, &[&oid.der(), &tlv::encode(0xa0, value)])
            }
            Self::X400(contents) => tlv::encode(0xa3, contents),
            Self::EdiParty(contents) => tlv::encode(0xa5, contents),
        }
    }
}

impl Extension {
    fn der(&self) -> Vec<u8> {
        let list = |parts: Vec<Vec<u8>>| tlv::encode(tag::SEQUENCE, &parts.concat());
        let (oid, critical, value) = match self {
            Self::SubjectAltName(critical, names) => {
                (oid("2.5.29.17"), *critical, list(names.iter().map(San::der).collect()))
            }
            Self::KeyUsage(critical, bits) => {
                let bits = bits & 0x1ff;
                let octets = bits.reverse_bits().to_be_bytes();
                let used = if bits > 0xff { 2 } else { usize::from(bits != 0) };
                let unused = octets[..used].last().map_or(0, |last| last.trailing_zeros());
                let unused = u8::try_from(unused).unwrap_or(0);
                let contents = [&[unused], &octets[..used]].concat();
                (oid("2.5.29.15"), *critical, tlv::encode(tag::BIT_STRING, &contents))
            }
            Self::ExtendedKeyUsage(critical, purposes) => {
                (oid("2.5.29.37"), *critical, list(purposes.iter().map(Oid::der).collect()))
            }
            Self::BasicConstraints(critical) => (oid("2.5.29.19"), *critical, list(vec![])),
            Self::SubjectKeyId(id) => (oid("2.5.29.14"), false, tlv::encode(tag::OCTET_STRING, id)),
            Self::Other(oid, critical, value) => (oid.der(), *critical, value.clone()),
        };
        let critical = if critical { &[tag::BOOLEAN, 1, 0xff][..] } else { &[] };
        tlv::sequence(&[&oid, critical, &tlv::encode(tag::OCTET_STRING, &value)])
    }
}

fn attribute(oid: &[u8], values: Vec<Vec<u8>>) -> Vec<u8> {
    tlv::sequence(&[oid, &tlv::set_of(values)])
}

fn extensions(all: &[Extension]) -> Vec<u8> {
    tlv::encode(tag::SEQUENCE, &all.iter().flat_map(Extension::der).collect::<Vec<u8>>())
}

impl CsrAttribute {
    fn der(&self) -> Vec<u8> {
        match self {
            Self::Extensions(all) => {
                attribute(&oid("1.2.840.113549.1.9.14"), vec![extensions(all)])
            }
            Self::SecondSource(all) => {
                attribute(&oid("1.3.6.1.4.1.311.2.1.14"), vec![extensions(all)])
            }
            Self::Challenge(text) => attribute(&oid("1.2.840.113549.1.9.7"), vec![text.der()]),
            Self::Inert(which, text) => attribute(&oid(pick(INERT, *which)), vec![text.der()]),
            Self::Other(oid, values) => attribute(&oid.der(), values.clone()),
        }
    }
}

impl Key {
    fn spki(&self) -> SpkiDer {
        let rsa = TestKey::RsaC.public_key();
        match self {
            Self::Rsa => rsa,
            Self::P256 => TestKey::P256D.public_key(),
            Self::P384 => TestKey::P384A.public_key(),
            Self::FreeRsa(octets, value, exponent) => {
                let modulus = vec![value | 0x80; 2 * usize::from(*octets)];
                SpkiDer::from_rsa_parts(&modulus, &exponent.to_be_bytes()).unwrap_or(rsa)
            }
            Self::NoPoint(octet) => {
                let point = [&[4][..], &[*octet; 64]].concat();
                SpkiDer::from_ec_point(&point).unwrap_or(rsa)
            }
        }
    }
}

impl MadeCsr {
    /// Its encoding.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        use SignatureScheme as S;
        let key = self.key.spki();
        let schemes = [
            S::default_for(key.algorithm()),
            S::RsaPkcs1Sha1,
            S::RsaPkcs1Sha512,
            S::RsaPssSha256,
            S::EcdsaSha384,
        ];
        let scheme = schemes[usize::from(self.scheme) % schemes.len()];
        let mut attributes: Vec<Vec<u8>> = self.attributes.iter().map(CsrAttribute::der).collect();
        if self.sorted {
            attributes.sort();
        }
        let signature = NoOpSigner::new(key.clone()).sign(scheme, &[]).unwrap_or_default();
        let info = tlv::sequence(&[
            &tlv::small_int(0),
            &name(&self.subject),
            key.as_der(),
            &tlv::encode(tag::context_constructed(0), &attributes.concat()),
        ]);
        let der = tlv::sequence(&[&info, &scheme.algorithm_der(), &tlv::whole_bits(&signature)]);
        self.change.as_ref().map_or(der.clone(), |change| change.apply(&der))
    }
}
