//! AlgorithmIdentifiers (RFC 5280, 4.1.1.2) of signatures and digests: one table, for reading and for
//! writing. Requests, certificates and CMS all use this one.
//!
//! ```
//! use scep_types::{SignatureScheme, algorithm::signature_scheme_from_der};
//!
//! let der = SignatureScheme::EcdsaSha256.algorithm_der();
//! assert_eq!(signature_scheme_from_der(&der), Ok(SignatureScheme::EcdsaSha256));
//! ```

use crate::crypto::SignatureScheme;
use crate::spki::KeyAlgorithm;
use crate::tlv::{self, Reader, TlvError, tag};
use const_oid::ObjectIdentifier;
use core::fmt;
use thiserror::Error;

/// An AlgorithmIdentifier that is malformed, unknown, or has parameters that we do not accept.
///
/// Its name is fit for the failInfoText of badAlg: a device's owner must learn which algorithm to change.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("algorithm {name} is not supported")]
pub struct UnknownAlgorithm {
    /// The algorithm's name, or its dotted OID when we know none; with a remark where the algorithm is known
    /// and its parameters are not acceptable.
    pub name: String,
}

impl UnknownAlgorithm {
    fn because(name: &str, why: &str) -> Self {
        Self { name: format!("{name} ({why})") }
    }
}

const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const MGF1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.8");

/// The signature algorithms whose OID says everything: scheme, OID, name.
const SIGNATURES: &[(SignatureScheme, ObjectIdentifier, &str)] = &[
    (
        SignatureScheme::RsaPkcs1Sha1,
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5"),
        "sha1WithRSAEncryption",
    ),
    (
        SignatureScheme::RsaPkcs1Sha256,
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11"),
        "sha256WithRSAEncryption",
    ),
    (
        SignatureScheme::RsaPkcs1Sha384,
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12"),
        "sha384WithRSAEncryption",
    ),
    (
        SignatureScheme::RsaPkcs1Sha512,
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13"),
        "sha512WithRSAEncryption",
    ),
    (
        SignatureScheme::EcdsaSha256,
        ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2"),
        "ecdsa-with-SHA256",
    ),
    (
        SignatureScheme::EcdsaSha384,
        ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3"),
        "ecdsa-with-SHA384",
    ),
    (
        SignatureScheme::EcdsaSha512,
        ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4"),
        "ecdsa-with-SHA512",
    ),
];

/// What we never accept but meet in the field, for the name alone.
const OTHERS: &[(ObjectIdentifier, &str)] = &[
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1"), "rsaEncryption"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.2"), "md2WithRSAEncryption"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4"), "md5WithRSAEncryption"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.14"), "sha224WithRSAEncryption"),
    (ObjectIdentifier::new_unwrap("1.2.840.10040.4.3"), "dsa-with-sha1"),
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.2"), "dsa-with-sha256"),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.1"), "ecdsa-with-SHA1"),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.1"), "ecdsa-with-SHA224"),
    (ObjectIdentifier::new_unwrap("1.3.14.3.2.3"), "md5WithRSA"),
    (ObjectIdentifier::new_unwrap("1.3.14.3.2.29"), "sha1WithRSA"),
    (ObjectIdentifier::new_unwrap("1.3.101.112"), "Ed25519"),
    (ObjectIdentifier::new_unwrap("1.3.101.113"), "Ed448"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.2.2"), "MD2"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.2.5"), "MD5"),
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.4"), "SHA-224"),
];

fn unknown(oid: &ObjectIdentifier) -> UnknownAlgorithm {
    let name = OTHERS
        .iter()
        .find(|(o, _)| o == oid)
        .map_or_else(|| oid.to_string(), |(_, name)| (*name).to_owned());
    UnknownAlgorithm { name }
}

/// A digest algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DigestAlgorithm {
    /// SHA-1: legacy endpoints only.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// How the parameters of a digest's AlgorithmIdentifier are written. Readers must take both forms as equal
/// (RFC 4055, 2.1; RFC 5754, 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DigestParameters {
    /// Left out, as RFC 5754 prefers in CMS.
    Absent,
    /// NULL, as RFC 4055 writes them inside PSS and OAEP parameters.
    Null,
}

impl DigestAlgorithm {
    /// Every one of them.
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// Its name: `SHA-256`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
        }
    }

    /// Its object identifier.
    #[must_use]
    pub const fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Sha1 => ObjectIdentifier::new_unwrap("1.3.14.3.2.26"),
            Self::Sha256 => ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1"),
            Self::Sha384 => ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2"),
            Self::Sha512 => ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3"),
        }
    }

    /// The octets of a digest.
    #[must_use]
    pub const fn output_len(self) -> u8 {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Its AlgorithmIdentifier.
    #[must_use]
    pub fn algorithm_der(self, parameters: DigestParameters) -> Vec<u8> {
        match parameters {
            DigestParameters::Absent => tlv::sequence(&[&tlv::oid(&self.oid())]),
            DigestParameters::Null => tlv::sequence(&[&tlv::oid(&self.oid()), &NULL]),
        }
    }

    /// RSASSA-PKCS1-v1_5 with this digest: what the SignerInfo's `rsaEncryption` means beside this
    /// digestAlgorithm (RFC 8017, 8.2; RFC 3370, 3.2).
    #[must_use]
    pub const fn rsa_pkcs1(self) -> SignatureScheme {
        match self {
            Self::Sha1 => SignatureScheme::RsaPkcs1Sha1,
            Self::Sha256 => SignatureScheme::RsaPkcs1Sha256,
            Self::Sha384 => SignatureScheme::RsaPkcs1Sha384,
            Self::Sha512 => SignatureScheme::RsaPkcs1Sha512,
        }
    }
}

impl fmt::Display for DigestAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const NULL: [u8; 2] = [tag::NULL, 0];

/// Splits an AlgorithmIdentifier into its OID and the parameters' DER (empty when absent).
fn split(der: &[u8]) -> Result<(ObjectIdentifier, Reader<'_>), UnknownAlgorithm> {
    let inner = || -> Result<_, TlvError> {
        let mut fields = Reader::new(der).only(tag::SEQUENCE)?.reader();
        let oid = fields.any()?.oid()?;
        let parameters = fields;
        if !fields.is_empty() {
            fields.any()?;
            fields.finish()?;
        }
        Ok((oid, parameters))
    };
    inner().map_err(|_| UnknownAlgorithm { name: "malformed AlgorithmIdentifier".to_owned() })
}

/// NULL or nothing.
fn is_null_or_absent(mut parameters: Reader<'_>) -> bool {
    match parameters.any() {
        Ok(tlv) => tlv.raw == NULL && parameters.is_empty(),
        Err(_) => parameters.is_empty(),
    }
}

/// Reads a digest's AlgorithmIdentifier; its parameters are absent or NULL.
///
/// # Errors
/// When it is malformed or not one of [`DigestAlgorithm`].
pub fn digest_from_der(der: &[u8]) -> Result<DigestAlgorithm, UnknownAlgorithm> {
    let (oid, parameters) = split(der)?;
    let digest =
        DigestAlgorithm::ALL.into_iter().find(|d| d.oid() == oid).ok_or_else(|| unknown(&oid))?;
    if is_null_or_absent(parameters) {
        Ok(digest)
    } else {
        Err(UnknownAlgorithm::because(digest.name(), "with parameters"))
    }
}

/// Reads a signature's AlgorithmIdentifier.
///
/// RSASSA-PKCS1-v1_5: parameters NULL or absent (RFC 4055, 5, writes NULL; encoders that leave them out exist).
/// ECDSA: absent (RFC 5758, 3.2). RSASSA-PSS: exactly a digest of SHA-256, SHA-384 or SHA-512, MGF1 with the
/// same digest, a salt of the digest's length, and the trailer field left out as DER demands of a default;
/// anything else that RFC 4055 allows is refused, as nobody needs it and each degree of freedom is a risk.
///
/// # Errors
/// When it is malformed, unknown, or has other parameters.
pub fn signature_scheme_from_der(der: &[u8]) -> Result<SignatureScheme, UnknownAlgorithm> {
    let (oid, parameters) = split(der)?;
    if oid == RSASSA_PSS {
        return pss(parameters).ok().flatten().ok_or_else(|| {
            UnknownAlgorithm::because("RSASSA-PSS", "with parameters that are not accepted")
        });
    }
    let (scheme, _, name) =
        SIGNATURES.iter().find(|(_, o, _)| *o == oid).ok_or_else(|| unknown(&oid))?;
    let acceptable = match scheme {
        SignatureScheme::EcdsaSha256
        | SignatureScheme::EcdsaSha384
        | SignatureScheme::EcdsaSha512 => parameters.is_empty(),
        _ => is_null_or_absent(parameters),
    };
    if acceptable { Ok(*scheme) } else { Err(UnknownAlgorithm::because(name, "with parameters")) }
}

/// RSASSA-PSS-params. `None` when it is well-formed and not one of ours.
fn pss(mut parameters: Reader<'_>) -> Result<Option<SignatureScheme>, TlvError> {
    fn explicit<'a>(fields: &mut Reader<'a>, n: u8) -> Result<Reader<'a>, TlvError> {
        Ok(fields.expect(tag::context_constructed(n))?.reader())
    }
    let mut fields = parameters.expect(tag::SEQUENCE)?.reader();
    let hash = explicit(&mut fields, 0)?.only(tag::SEQUENCE)?;
    let mgf = explicit(&mut fields, 1)?.only(tag::SEQUENCE)?;
    let salt = explicit(&mut fields, 2)?.only(tag::INTEGER)?.small_int()?;
    fields.finish()?;
    let mut mgf_fields = mgf.reader();
    let mgf_oid = mgf_fields.any()?.oid()?;
    let mgf_hash = mgf_fields.only(tag::SEQUENCE)?;
    let (Ok(digest), Ok(mgf_digest)) = (digest_from_der(hash.raw), digest_from_der(mgf_hash.raw))
    else {
        return Ok(None);
    };
    let scheme = match digest {
        DigestAlgorithm::Sha1 => return Ok(None),
        DigestAlgorithm::Sha256 => SignatureScheme::RsaPssSha256,
        DigestAlgorithm::Sha384 => SignatureScheme::RsaPssSha384,
        DigestAlgorithm::Sha512 => SignatureScheme::RsaPssSha512,
    };
    let ours = mgf_oid == MGF1 && mgf_digest == digest && salt == u64::from(digest.output_len());
    Ok(ours.then_some(scheme))
}

impl SignatureScheme {
    /// Every one of them.
    pub const ALL: [Self; 10] = [
        Self::RsaPkcs1Sha1,
        Self::RsaPkcs1Sha256,
        Self::RsaPkcs1Sha384,
        Self::RsaPkcs1Sha512,
        Self::RsaPssSha256,
        Self::RsaPssSha384,
        Self::RsaPssSha512,
        Self::EcdsaSha256,
        Self::EcdsaSha384,
        Self::EcdsaSha512,
    ];

    /// The digest that it signs.
    #[must_use]
    pub const fn digest(self) -> DigestAlgorithm {
        match self {
            Self::RsaPkcs1Sha1 => DigestAlgorithm::Sha1,
            Self::RsaPkcs1Sha256 | Self::RsaPssSha256 | Self::EcdsaSha256 => {
                DigestAlgorithm::Sha256
            }
            Self::RsaPkcs1Sha384 | Self::RsaPssSha384 | Self::EcdsaSha384 => {
                DigestAlgorithm::Sha384
            }
            Self::RsaPkcs1Sha512 | Self::RsaPssSha512 | Self::EcdsaSha512 => {
                DigestAlgorithm::Sha512
            }
        }
    }

    /// Whether a key of this algorithm can make such signatures.
    #[must_use]
    pub const fn fits(self, key: KeyAlgorithm) -> bool {
        let rsa = match self {
            Self::RsaPkcs1Sha1
            | Self::RsaPkcs1Sha256
            | Self::RsaPkcs1Sha384
            | Self::RsaPkcs1Sha512
            | Self::RsaPssSha256
            | Self::RsaPssSha384
            | Self::RsaPssSha512 => true,
            Self::EcdsaSha256 | Self::EcdsaSha384 | Self::EcdsaSha512 => false,
        };
        match key {
            KeyAlgorithm::Rsa(_) => rsa,
            KeyAlgorithm::P256 | KeyAlgorithm::P384 => !rsa,
        }
    }

    /// Its AlgorithmIdentifier's DER, as certificates and requests carry it.
    ///
    /// CMS's SignerInfo is the exception: for RSASSA-PKCS1-v1_5 SCEP writes `rsaEncryption` there.
    #[must_use]
    pub fn algorithm_der(self) -> Vec<u8> {
        let rsa = matches!(
            self,
            Self::RsaPkcs1Sha1 | Self::RsaPkcs1Sha256 | Self::RsaPkcs1Sha384 | Self::RsaPkcs1Sha512
        );
        match SIGNATURES.iter().find(|(scheme, _, _)| *scheme == self) {
            Some((_, oid, _)) if rsa => tlv::sequence(&[&tlv::oid(oid), &NULL]),
            Some((_, oid, _)) => tlv::sequence(&[&tlv::oid(oid)]),
            None => {
                let hash = self.digest().algorithm_der(DigestParameters::Null);
                let mgf = tlv::sequence(&[&tlv::oid(&MGF1), &hash]);
                let salt = tlv::small_int(u64::from(self.digest().output_len()));
                let parameters = tlv::sequence(&[
                    &tlv::encode(tag::context_constructed(0), &hash),
                    &tlv::encode(tag::context_constructed(1), &mgf),
                    &tlv::encode(tag::context_constructed(2), &salt),
                ]);
                tlv::sequence(&[&tlv::oid(&RSASSA_PSS), &parameters])
            }
        }
    }
}

impl fmt::Display for SignatureScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIGNATURES.iter().find(|(scheme, _, _)| scheme == self) {
            Some((_, _, name)) => f.write_str(name),
            None => write!(f, "RSASSA-PSS with {}", self.digest()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_and_digest_survives_the_round_trip() {
        for scheme in SignatureScheme::ALL {
            assert_eq!(signature_scheme_from_der(&scheme.algorithm_der()), Ok(scheme));
            assert_ne!(scheme.fits(KeyAlgorithm::Rsa(2048)), scheme.fits(KeyAlgorithm::P256));
        }
        for digest in DigestAlgorithm::ALL {
            for parameters in [DigestParameters::Absent, DigestParameters::Null] {
                assert_eq!(digest_from_der(&digest.algorithm_der(parameters)), Ok(digest));
            }
            assert_eq!(digest.rsa_pkcs1().digest(), digest);
        }
    }

    #[test]
    fn encodings_are_those_of_openssl() {
        // From `openssl req -new -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1`.
        let pss = "304106092a864886f70d01010a3034a00f300d06096086480165030402010500\
                   a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120";
        assert_eq!(hex::encode(SignatureScheme::RsaPssSha256.algorithm_der()), pss);
        let rsa = "300d06092a864886f70d01010b0500";
        assert_eq!(hex::encode(SignatureScheme::RsaPkcs1Sha256.algorithm_der()), rsa);
        assert_eq!(
            hex::encode(SignatureScheme::EcdsaSha256.algorithm_der()),
            "300a06082a8648ce3d040302"
        );
    }

    #[test]
    fn rsa_takes_null_or_no_parameters_and_ecdsa_none() {
        let with = |oid: &str, parameters: &[u8]| {
            let oid = tlv::oid(&ObjectIdentifier::new_unwrap(oid));
            signature_scheme_from_der(&tlv::sequence(&[&oid, parameters]))
        };
        let named = |name: &str| Err(UnknownAlgorithm { name: name.to_owned() });
        let (rsa, ecdsa) = ("1.2.840.113549.1.1.11", "1.2.840.10045.4.3.2");
        assert_eq!(with(rsa, &[]), Ok(SignatureScheme::RsaPkcs1Sha256));
        assert_eq!(with(rsa, &[5, 0]), Ok(SignatureScheme::RsaPkcs1Sha256));
        assert_eq!(with(rsa, &[4, 0]), named("sha256WithRSAEncryption (with parameters)"));
        assert_eq!(with(rsa, &[5, 1, 0]), named("sha256WithRSAEncryption (with parameters)"));
        assert_eq!(with(rsa, &[5, 0, 5, 0]), named("malformed AlgorithmIdentifier"));
        assert_eq!(with(ecdsa, &[]), Ok(SignatureScheme::EcdsaSha256));
        assert_eq!(with(ecdsa, &[5, 0]), named("ecdsa-with-SHA256 (with parameters)"));
        assert_eq!(with("1.2.840.113549.1.1.4", &[5, 0]), named("md5WithRSAEncryption"));
        assert_eq!(with("1.2.3.4", &[]), named("1.2.3.4"));
    }

    #[test]
    fn pss_parameters_have_one_accepted_form_for_each_digest() {
        let refused = Err(UnknownAlgorithm {
            name: "RSASSA-PSS (with parameters that are not accepted)".to_owned(),
        });
        let sha1 = DigestAlgorithm::Sha1.algorithm_der(DigestParameters::Null);
        let sha256 = DigestAlgorithm::Sha256.algorithm_der(DigestParameters::Null);
        let read = |hash: &[u8], mgf_hash: &[u8], salt: u64, rest: &[u8]| {
            let mgf = tlv::sequence(&[&tlv::oid(&MGF1), mgf_hash]);
            let parameters = tlv::sequence(&[
                &tlv::encode(0xa0, hash),
                &tlv::encode(0xa1, &mgf),
                &tlv::encode(0xa2, &tlv::small_int(salt)),
                rest,
            ]);
            signature_scheme_from_der(&tlv::sequence(&[&tlv::oid(&RSASSA_PSS), &parameters]))
        };
        assert_eq!(read(&sha256, &sha256, 32, &[]), Ok(SignatureScheme::RsaPssSha256));
        assert_eq!(read(&sha1, &sha1, 20, &[]), refused);
        assert_eq!(read(&sha256, &sha1, 32, &[]), refused);
        assert_eq!(read(&sha256, &sha256, 20, &[]), refused);
        assert_eq!(read(&sha256, &sha256, 32, &tlv::encode(0xa3, &tlv::small_int(1))), refused);
        // No parameters mean SHA-1 in a request.
        let bare = tlv::sequence(&[&tlv::oid(&RSASSA_PSS)]);
        assert_eq!(signature_scheme_from_der(&bare), refused);
    }
}
