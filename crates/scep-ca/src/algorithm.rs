//! Signature algorithms as AlgorithmIdentifiers (RFC 4055, 5758).

use scep_types::{KeyAlgorithm, ObjectIdentifier, SignatureScheme, tlv, tlv::tag};

const PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const MGF1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.8");
const NULL: &[u8] = &[tag::NULL, 0];

/// What a chain may be signed with. SHA-1 is not among them: a CA's own chain is ours to choose.
const VERIFIED: [SignatureScheme; 9] = [
    SignatureScheme::EcdsaSha256,
    SignatureScheme::EcdsaSha384,
    SignatureScheme::EcdsaSha512,
    SignatureScheme::RsaPkcs1Sha256,
    SignatureScheme::RsaPkcs1Sha384,
    SignatureScheme::RsaPkcs1Sha512,
    SignatureScheme::RsaPssSha256,
    SignatureScheme::RsaPssSha384,
    SignatureScheme::RsaPssSha512,
];

fn pss(hash: &str, salt: u64) -> Vec<u8> {
    let hash = tlv::sequence(&[&tlv::oid(&ObjectIdentifier::new_unwrap(hash)), NULL]);
    let mask = tlv::sequence(&[&tlv::oid(&MGF1), &hash]);
    let parameters = tlv::sequence(&[
        &tlv::construct(tag::context_constructed(0), &[&hash]),
        &tlv::construct(tag::context_constructed(1), &[&mask]),
        &tlv::construct(tag::context_constructed(2), &[&tlv::small_int(salt)]),
    ]);
    tlv::sequence(&[&tlv::oid(&PSS), &parameters])
}

/// The DER AlgorithmIdentifier of a scheme.
pub(crate) fn to_der(scheme: SignatureScheme) -> Vec<u8> {
    let plain = |oid: &str, parameters: &[u8]| {
        tlv::sequence(&[&tlv::oid(&ObjectIdentifier::new_unwrap(oid)), parameters])
    };
    match scheme {
        SignatureScheme::RsaPkcs1Sha1 => plain("1.2.840.113549.1.1.5", NULL),
        SignatureScheme::RsaPkcs1Sha256 => plain("1.2.840.113549.1.1.11", NULL),
        SignatureScheme::RsaPkcs1Sha384 => plain("1.2.840.113549.1.1.12", NULL),
        SignatureScheme::RsaPkcs1Sha512 => plain("1.2.840.113549.1.1.13", NULL),
        SignatureScheme::RsaPssSha256 => pss("2.16.840.1.101.3.4.2.1", 32),
        SignatureScheme::RsaPssSha384 => pss("2.16.840.1.101.3.4.2.2", 48),
        SignatureScheme::RsaPssSha512 => pss("2.16.840.1.101.3.4.2.3", 64),
        SignatureScheme::EcdsaSha256 => plain("1.2.840.10045.4.3.2", &[]),
        SignatureScheme::EcdsaSha384 => plain("1.2.840.10045.4.3.3", &[]),
        SignatureScheme::EcdsaSha512 => plain("1.2.840.10045.4.3.4", &[]),
    }
}

/// The scheme of a DER AlgorithmIdentifier, in exactly the form that [`to_der`] writes.
pub(crate) fn from_der(der: &[u8]) -> Option<SignatureScheme> {
    VERIFIED.into_iter().find(|scheme| to_der(*scheme) == der)
}

/// Whether the keys of CAs and of what they certify for us may be of this kind.
pub(crate) const fn allowed(algorithm: KeyAlgorithm) -> bool {
    match algorithm {
        KeyAlgorithm::Rsa(bits) => matches!(bits, 2048..=4096),
        KeyAlgorithm::P256 | KeyAlgorithm::P384 => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_survives_the_round_trip_but_sha1_is_not_read() {
        for scheme in VERIFIED {
            assert_eq!(from_der(&to_der(scheme)), Some(scheme));
        }
        assert_eq!(from_der(&to_der(SignatureScheme::RsaPkcs1Sha1)), None);
    }
}
