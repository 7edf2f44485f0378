//! A device of the tests: a key, and the certificate it signs its messages with.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "part of tests: what does not fit is a failed test, and its message says what"
)]

use scep_keys::SoftwareKey;
use scep_types::tlv::{self, tag};
use scep_types::{
    CertificateDer, DistinguishedName, ObjectIdentifier, SerialNumber, SignatureScheme, Timestamp,
};

/// One extension of a certificate under construction.
#[derive(Clone, Debug)]
pub struct TestExtension {
    /// extnID.
    pub oid: ObjectIdentifier,
    /// critical.
    pub critical: bool,
    /// The contents of extnValue, DER.
    pub value: Vec<u8>,
}

impl TestExtension {
    /// keyUsage digitalSignature and keyEncipherment, as RFC 8894, 2.3 wants it.
    #[must_use]
    pub fn key_usage() -> Self {
        Self {
            oid: ObjectIdentifier::new_unwrap("2.5.29.15"),
            critical: true,
            value: vec![3, 2, 5, 0xa0],
        }
    }

    /// authorityKeyIdentifier marked critical, as Windows makes it (Q28).
    #[must_use]
    pub fn critical_authority_key_id(key: &SoftwareKey) -> Self {
        let id = tlv::encode(tag::context(0), key.public_key().key_id().as_bytes());
        Self {
            oid: ObjectIdentifier::new_unwrap("2.5.29.35"),
            critical: true,
            value: tlv::sequence(&[&id]),
        }
    }

    fn to_der(&self) -> Vec<u8> {
        let critical = if self.critical { &[tag::BOOLEAN, 1, 0xff][..] } else { &[] };
        tlv::sequence(&[
            &tlv::oid(&self.oid),
            critical,
            &tlv::encode(tag::OCTET_STRING, &self.value),
        ])
    }
}

/// A self-signed certificate, version 3 with extensions or version 1 without (certmonger's).
///
/// # Panics
/// When the key cannot sign: the tests' keys can.
#[must_use]
pub fn self_signed(
    key: &SoftwareKey,
    subject: &DistinguishedName,
    not_before: Timestamp,
    not_after: Timestamp,
    extensions: &[TestExtension],
) -> CertificateDer {
    let scheme = SignatureScheme::default_for(key.public_key().algorithm());
    let algorithm = scheme.algorithm_der();
    let serial = SerialNumber::from_random([0x5a; 16]);
    let name = subject.to_der();
    let version = tlv::construct(tag::context_constructed(0), &[&tlv::small_int(2)]);
    let list: Vec<Vec<u8>> = extensions.iter().map(TestExtension::to_der).collect();
    let list =
        tlv::construct(tag::context_constructed(3), &[&tlv::encode(tag::SEQUENCE, &list.concat())]);
    let tbs = tlv::sequence(&[
        if extensions.is_empty() { &[] } else { &version },
        &tlv::encode(tag::INTEGER, serial.as_content()),
        &algorithm,
        &name,
        &tlv::sequence(&[&tlv::time(not_before), &tlv::time(not_after)]),
        &name,
        key.public_key().as_der(),
        if extensions.is_empty() { &[] } else { &list },
    ]);
    let signature = key.signer().sign(scheme, &tbs).expect("a test key signs");
    let der = tlv::sequence(&[&tbs, &algorithm, &tlv::whole_bits(&signature)]);
    CertificateDer::parse(&der).expect("what was built parses")
}
