//! AlgorithmIdentifiers: which are understood, and how ours are written.

use crate::error::{CmsError, structure};
use crate::limits::LegacyAlgorithms;
use crate::oid;
use scep_types::tlv::{self, Reader, Tlv, tag};
use scep_types::{OaepHash, ObjectIdentifier, RsaPadding, SignatureScheme};
use sha2::Digest;

pub(crate) const NULL: &[u8] = &[tag::NULL, 0];

/// A received AlgorithmIdentifier.
pub(crate) struct Algorithm<'a> {
    pub(crate) oid: ObjectIdentifier,
    parameters: Option<Tlv<'a>>,
    at: usize,
}

impl<'a> Algorithm<'a> {
    pub(crate) fn read(tlv: &Tlv<'a>) -> Result<Self, CmsError> {
        if tlv.tag != tag::SEQUENCE {
            return Err(structure("AlgorithmIdentifier that is no SEQUENCE", tlv.at));
        }
        Self::read_as(tlv)
    }

    /// Under an implicit tag, which the caller has checked.
    pub(crate) fn read_as(tlv: &Tlv<'a>) -> Result<Self, CmsError> {
        let mut fields = tlv.reader();
        let oid = fields.any()?.oid()?;
        let parameters = if fields.is_empty() { None } else { Some(fields.any()?) };
        fields.finish()?;
        Ok(Self { oid, parameters, at: tlv.at })
    }

    pub(crate) fn from_der(der: &'a [u8]) -> Result<Self, CmsError> {
        Self::read(&Reader::new(der).only(tag::SEQUENCE)?)
    }

    pub(crate) fn parameters(&self) -> Result<&Tlv<'a>, CmsError> {
        self.parameters.as_ref().ok_or_else(|| structure("algorithm without parameters", self.at))
    }

    /// Demands NULL or absent parameters: RFC 5754 has senders of both, and receivers must take both.
    pub(crate) fn no_parameters(&self) -> Result<(), CmsError> {
        match &self.parameters {
            None => Ok(()),
            Some(null) if null.raw == NULL => Ok(()),
            Some(other) => Err(structure("unexpected algorithm parameters", other.at)),
        }
    }

    pub(crate) fn unsupported(&self, role: &'static str) -> CmsError {
        CmsError::Algorithm { role, name: oid::name(&self.oid) }
    }
}

/// A digest of RFC 5754, or SHA-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    const fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Sha1 => oid::SHA1,
            Self::Sha256 => oid::SHA256,
            Self::Sha384 => oid::SHA384,
            Self::Sha512 => oid::SHA512,
        }
    }

    fn from_oid(oid: &ObjectIdentifier) -> Option<Self> {
        [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512].into_iter().find(|h| h.oid() == *oid)
    }

    const fn len(self) -> u64 {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    pub(crate) fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => sha1::Sha1::digest(message).to_vec(),
            Self::Sha256 => sha2::Sha256::digest(message).to_vec(),
            Self::Sha384 => sha2::Sha384::digest(message).to_vec(),
            Self::Sha512 => sha2::Sha512::digest(message).to_vec(),
        }
    }

    /// A digestAlgorithm. SHA-1 on legacy endpoints only; MD5 never.
    pub(crate) fn read(
        algorithm: &Algorithm<'_>,
        legacy: LegacyAlgorithms,
    ) -> Result<Self, CmsError> {
        let hash = Self::from_oid(&algorithm.oid);
        match (hash, legacy) {
            (Some(Self::Sha1), LegacyAlgorithms::Refuse) | (None, _) => {
                Err(algorithm.unsupported("the message digest"))
            }
            (Some(hash), _) => {
                algorithm.no_parameters()?;
                Ok(hash)
            }
        }
    }

    /// As the digestAlgorithm of a message of ours. RFC 5754, 2: without parameters for SHA-2, which is also what
    /// OpenSSL and the Go servers write that iOS and strongSwan enrol with. SHA-1 goes to old devices only,
    /// which know the NULL of PKCS #7.
    pub(crate) fn digest_algorithm(self) -> Vec<u8> {
        match self {
            Self::Sha1 => self.with_null(),
            _ => tlv::sequence(&[&tlv::oid(&self.oid())]),
        }
    }

    fn with_null(self) -> Vec<u8> {
        tlv::sequence(&[&tlv::oid(&self.oid()), NULL])
    }

    /// MGF1 with this hash.
    fn mask(self) -> Vec<u8> {
        tlv::sequence(&[&tlv::oid(&oid::MGF1), &self.with_null()])
    }
}

impl From<OaepHash> for Hash {
    fn from(hash: OaepHash) -> Self {
        match hash {
            OaepHash::Sha1 => Self::Sha1,
            OaepHash::Sha256 => Self::Sha256,
            OaepHash::Sha384 => Self::Sha384,
            OaepHash::Sha512 => Self::Sha512,
        }
    }
}

/// The digest of a scheme.
pub(crate) const fn hash_of(scheme: SignatureScheme) -> Hash {
    use SignatureScheme as S;
    match scheme {
        S::RsaPkcs1Sha1 => Hash::Sha1,
        S::RsaPkcs1Sha256 | S::RsaPssSha256 | S::EcdsaSha256 => Hash::Sha256,
        S::RsaPkcs1Sha384 | S::RsaPssSha384 | S::EcdsaSha384 => Hash::Sha384,
        S::RsaPkcs1Sha512 | S::RsaPssSha512 | S::EcdsaSha512 => Hash::Sha512,
    }
}

const SIGNATURE: &str = "the signature";

/// The scheme of a signatureAlgorithm with the SignerInfo's digest. Both must name the same digest.
pub(crate) fn signature_scheme(
    algorithm: &Algorithm<'_>,
    digest: Hash,
) -> Result<SignatureScheme, CmsError> {
    use SignatureScheme as S;
    let pkcs1 = match digest {
        Hash::Sha1 => S::RsaPkcs1Sha1,
        Hash::Sha256 => S::RsaPkcs1Sha256,
        Hash::Sha384 => S::RsaPkcs1Sha384,
        Hash::Sha512 => S::RsaPkcs1Sha512,
    };
    let (scheme, named) = match algorithm.oid {
        oid::RSA_ENCRYPTION => (pkcs1, digest),
        oid::SHA1_WITH_RSA => (pkcs1, Hash::Sha1),
        oid::SHA256_WITH_RSA => (pkcs1, Hash::Sha256),
        oid::SHA384_WITH_RSA => (pkcs1, Hash::Sha384),
        oid::SHA512_WITH_RSA => (pkcs1, Hash::Sha512),
        oid::ECDSA_SHA256 => (S::EcdsaSha256, Hash::Sha256),
        oid::ECDSA_SHA384 => (S::EcdsaSha384, Hash::Sha384),
        oid::ECDSA_SHA512 => (S::EcdsaSha512, Hash::Sha512),
        oid::RSASSA_PSS => {
            let scheme = match digest {
                Hash::Sha256 => S::RsaPssSha256,
                Hash::Sha384 => S::RsaPssSha384,
                Hash::Sha512 => S::RsaPssSha512,
                Hash::Sha1 => return Err(algorithm.unsupported(SIGNATURE)),
            };
            let named = pss(algorithm.parameters()?)?;
            return if named == digest { Ok(scheme) } else { Err(disagree(algorithm)) };
        }
        _ => return Err(algorithm.unsupported(SIGNATURE)),
    };
    algorithm.no_parameters()?;
    if named == digest { Ok(scheme) } else { Err(disagree(algorithm)) }
}

const fn disagree(algorithm: &Algorithm<'_>) -> CmsError {
    structure("digestAlgorithm and signatureAlgorithm disagree", algorithm.at)
}

/// The signatureAlgorithm of a message of ours.
pub(crate) fn signature_algorithm(scheme: SignatureScheme) -> Vec<u8> {
    use SignatureScheme as S;
    match scheme {
        // Not sha*WithRSAEncryption: strongSwan refuses that form.
        S::RsaPkcs1Sha1 | S::RsaPkcs1Sha256 | S::RsaPkcs1Sha384 | S::RsaPkcs1Sha512 => {
            tlv::sequence(&[&tlv::oid(&oid::RSA_ENCRYPTION), NULL])
        }
        S::RsaPssSha256 | S::RsaPssSha384 | S::RsaPssSha512 => {
            let hash = hash_of(scheme);
            let parameters = tlv::sequence(&[
                &tlv::encode(tag::context_constructed(0), &hash.with_null()),
                &tlv::encode(tag::context_constructed(1), &hash.mask()),
                &tlv::encode(tag::context_constructed(2), &tlv::small_int(hash.len())),
            ]);
            tlv::sequence(&[&tlv::oid(&oid::RSASSA_PSS), &parameters])
        }
        S::EcdsaSha256 => tlv::sequence(&[&tlv::oid(&oid::ECDSA_SHA256)]),
        S::EcdsaSha384 => tlv::sequence(&[&tlv::oid(&oid::ECDSA_SHA384)]),
        S::EcdsaSha512 => tlv::sequence(&[&tlv::oid(&oid::ECDSA_SHA512)]),
    }
}

/// Reads the explicit `[n]` of a parameter SEQUENCE: its one value.
fn explicit<'a>(reader: &mut Reader<'a>, n: u8) -> Result<Option<Tlv<'a>>, CmsError> {
    let Some(wrapper) = reader.optional(tag::context_constructed(n))? else { return Ok(None) };
    let mut inner = wrapper.reader();
    let value = inner.any()?;
    inner.finish()?;
    Ok(Some(value))
}

/// The hash and mask generation of RSASSA-PSS-params and RSAES-OAEP-params (RFC 4055, 3.1 and 4.1): SHA-1 unless
/// they say otherwise, and both the same here.
fn hash_and_mask(fields: &mut Reader<'_>, role: &'static str) -> Result<Hash, CmsError> {
    let hash = |value: &Tlv<'_>| {
        let algorithm = Algorithm::read(value)?;
        algorithm.no_parameters()?;
        Hash::from_oid(&algorithm.oid).ok_or_else(|| algorithm.unsupported(role))
    };
    let at = fields.at();
    let digest = explicit(fields, 0)?.map_or(Ok(Hash::Sha1), |value| hash(&value))?;
    let mask = match explicit(fields, 1)? {
        None => Hash::Sha1,
        Some(value) => {
            let mask = Algorithm::read(&value)?;
            if mask.oid != oid::MGF1 {
                return Err(mask.unsupported(role));
            }
            hash(mask.parameters()?)?
        }
    };
    if mask == digest { Ok(digest) } else { Err(structure("MGF1 with another hash", at)) }
}

/// RSASSA-PSS-params: salt of the digest's length, trailer 1. Returns the digest.
fn pss(parameters: &Tlv<'_>) -> Result<Hash, CmsError> {
    let mut fields = sequence_fields(parameters)?;
    let digest = hash_and_mask(&mut fields, SIGNATURE)?;
    let salt = explicit(&mut fields, 2)?.map_or(Ok(20), |value| value.small_int())?;
    let trailer = explicit(&mut fields, 3)?.map_or(Ok(1), |value| value.small_int())?;
    fields.finish()?;
    if salt != digest.len() {
        return Err(structure("RSASSA-PSS salt not of the digest's length", parameters.at));
    }
    if trailer != 1 {
        return Err(structure("RSASSA-PSS trailer other than 1", parameters.at));
    }
    Ok(digest)
}

fn sequence_fields<'a>(tlv: &Tlv<'a>) -> Result<Reader<'a>, CmsError> {
    if tlv.tag == tag::SEQUENCE {
        Ok(tlv.reader())
    } else {
        Err(structure("algorithm parameters that are no SEQUENCE", tlv.at))
    }
}

const KEY_TRANSPORT: &str = "key transport";

/// The padding of a keyEncryptionAlgorithm.
pub(crate) fn key_transport(algorithm: &Algorithm<'_>) -> Result<RsaPadding, CmsError> {
    match algorithm.oid {
        oid::RSA_ENCRYPTION => {
            algorithm.no_parameters()?;
            Ok(RsaPadding::Pkcs1v15)
        }
        oid::RSAES_OAEP => {
            // RFC 3560, 3: parameters must be there; RFC 8017 reads absence as all defaults, and so do we.
            let Some(parameters) = &algorithm.parameters else {
                return Ok(RsaPadding::Oaep(OaepHash::Sha1));
            };
            let mut fields = sequence_fields(parameters)?;
            let hash = hash_and_mask(&mut fields, KEY_TRANSPORT)?;
            if let Some(source) = explicit(&mut fields, 2)? {
                let label = Algorithm::read(&source)?;
                if label.oid != oid::P_SPECIFIED {
                    return Err(label.unsupported(KEY_TRANSPORT));
                }
                let label = label.parameters()?;
                if label.tag != tag::OCTET_STRING || !label.value.is_empty() {
                    return Err(structure("OAEP label that is not empty", label.at));
                }
            }
            fields.finish()?;
            Ok(RsaPadding::Oaep(match hash {
                Hash::Sha1 => OaepHash::Sha1,
                Hash::Sha256 => OaepHash::Sha256,
                Hash::Sha384 => OaepHash::Sha384,
                Hash::Sha512 => OaepHash::Sha512,
            }))
        }
        _ => Err(algorithm.unsupported(KEY_TRANSPORT)),
    }
}

/// The keyEncryptionAlgorithm of an envelope of ours.
pub(crate) fn key_transport_algorithm(padding: RsaPadding) -> Vec<u8> {
    let RsaPadding::Oaep(hash) = padding else {
        return tlv::sequence(&[&tlv::oid(&oid::RSA_ENCRYPTION), NULL]);
    };
    let hash = Hash::from(hash);
    // DER leaves the defaults out.
    let parameters = match hash {
        Hash::Sha1 => tlv::sequence(&[]),
        _ => tlv::sequence(&[
            &tlv::encode(tag::context_constructed(0), &hash.with_null()),
            &tlv::encode(tag::context_constructed(1), &hash.mask()),
        ]),
    };
    tlv::sequence(&[&tlv::oid(&oid::RSAES_OAEP), &parameters])
}
