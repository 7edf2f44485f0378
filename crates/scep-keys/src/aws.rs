//! Public-key operations and private keys on aws-lc-rs.

use crate::error::KeyProblem;
use crate::{pure, reject};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512,
    OaepAlgorithm, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, Pkcs1PrivateDecryptingKey,
    Pkcs1PublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use aws_lc_rs::signature::{
    self as sig, EcdsaKeyPair, KeyPair, RsaKeyPair, RsaPublicKeyComponents,
};
use aws_lc_rs::{agreement, digest, encoding, rand};
use encoding::AsDer;
use scep_types::tlv::{Reader, tag};
use scep_types::{
    CryptoProvider, EcdhKey, EphemeralAgreement, KeyAlgorithm, KeyError, OaepHash,
    RsaDecryptionKey, RsaPadding, Secret, SignatureInvalid, SignatureScheme, SpkiDer,
};
use subtle::{Choice, ConstantTimeEq};

/// Public-key operations on aws-lc-rs.
///
/// Verifies RSA signatures with keys of 1024 to 8192 bits. aws-lc-rs has no algorithm for RSA keys below 2048 bits
/// with SHA-384 or PSS: these few, public-key operations on data that is no secret, are done by the `rsa` crate.
/// Encrypts to RSA keys of 2048 to 8192 bits.
#[derive(Clone, Copy, Debug, Default)]
pub struct AwsLc;

impl CryptoProvider for AwsLc {
    fn verify(
        &self,
        key: &SpkiDer,
        scheme: SignatureScheme,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureInvalid> {
        use SignatureScheme as S;
        if let KeyAlgorithm::Rsa(bits) = key.algorithm() {
            let parameters = match scheme {
                S::RsaPkcs1Sha1 => &sig::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
                S::RsaPkcs1Sha256 => &sig::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
                S::RsaPkcs1Sha512 => &sig::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
                S::RsaPkcs1Sha384 | S::RsaPssSha256 | S::RsaPssSha384 | S::RsaPssSha512
                    if bits < 2048 =>
                {
                    return pure::verify(key, scheme, message, signature);
                }
                S::RsaPkcs1Sha384 => &sig::RSA_PKCS1_2048_8192_SHA384,
                S::RsaPssSha256 => &sig::RSA_PSS_2048_8192_SHA256,
                S::RsaPssSha384 => &sig::RSA_PSS_2048_8192_SHA384,
                S::RsaPssSha512 => &sig::RSA_PSS_2048_8192_SHA512,
                S::EcdsaSha256 | S::EcdsaSha384 | S::EcdsaSha512 => return Err(SignatureInvalid),
            };
            let parts = key.rsa().ok_or(SignatureInvalid)?;
            return RsaPublicKeyComponents { n: parts.modulus, e: parts.exponent }
                .verify(parameters, message, signature)
                .map_err(|_| SignatureInvalid);
        }
        let algorithm: &'static dyn sig::VerificationAlgorithm = match (key.algorithm(), scheme) {
            (KeyAlgorithm::P256, S::EcdsaSha256) => &sig::ECDSA_P256_SHA256_ASN1,
            (KeyAlgorithm::P256, S::EcdsaSha384) => &sig::ECDSA_P256_SHA384_ASN1,
            (KeyAlgorithm::P256, S::EcdsaSha512) => &sig::ECDSA_P256_SHA512_ASN1,
            (KeyAlgorithm::P384, S::EcdsaSha256) => &sig::ECDSA_P384_SHA256_ASN1,
            (KeyAlgorithm::P384, S::EcdsaSha384) => &sig::ECDSA_P384_SHA384_ASN1,
            (KeyAlgorithm::P384, S::EcdsaSha512) => &sig::ECDSA_P384_SHA512_ASN1,
            _ => return Err(SignatureInvalid),
        };
        sig::UnparsedPublicKey::new(algorithm, key.key_octets())
            .verify(message, signature)
            .map_err(|_| SignatureInvalid)
    }

    fn rsa_encrypt(
        &self,
        key: &SpkiDer,
        padding: RsaPadding,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        let canonical = encryptable(key)?;
        let parsed = PublicEncryptingKey::from_der(canonical.as_der())
            .map_err(|_| KeyError::Rejected { why: "the RSA public key is not acceptable" })?;
        let failed = |_| KeyError::Rejected { why: "the plaintext is too long for the RSA key" };
        let mut out = vec![0; parsed.key_size_bytes()];
        let written = match padding {
            RsaPadding::Pkcs1v15 => Pkcs1PublicEncryptingKey::new(parsed)
                .and_then(|key| key.encrypt(plaintext, &mut out).map(|c| c.len()))
                .map_err(failed)?,
            RsaPadding::Oaep(hash) => OaepPublicEncryptingKey::new(parsed)
                .and_then(|key| key.encrypt(oaep(hash), plaintext, &mut out, None).map(|c| c.len()))
                .map_err(failed)?,
        };
        out.truncate(written);
        Ok(out)
    }

    fn ephemeral_agree(&self, peer: &SpkiDer) -> Result<EphemeralAgreement, KeyError> {
        let algorithm = ecdh(peer.algorithm())?;
        let ephemeral = agreement::PrivateKey::generate(algorithm)
            .map_err(|_| KeyError::Unavailable { why: "no ephemeral key could be made".into() })?;
        let public = ephemeral
            .compute_public_key()
            .map_err(|_| KeyError::Unavailable { why: "no ephemeral key could be made".into() })?;
        Ok(EphemeralAgreement {
            public_point: public.as_ref().to_vec(),
            shared_secret: agree(&ephemeral, peer.key_octets())?,
        })
    }

    fn random(&self, out: &mut [u8]) -> Result<(), KeyError> {
        rand::fill(out)
            .map_err(|_| KeyError::Unavailable { why: "the source of randomness failed".into() })
    }
}

/// The key in canonical encoding, when its size is one that we encrypt to.
pub(crate) fn encryptable(key: &SpkiDer) -> Result<SpkiDer, KeyError> {
    let unsupported =
        || KeyError::Unsupported { operation: "RSA encryption", key: key.algorithm().to_string() };
    let parts = key.rsa().ok_or_else(unsupported)?;
    match key.algorithm() {
        // aws-lc-rs refuses below 2048 bits, and so does the other back end, to be the same.
        KeyAlgorithm::Rsa(2048..=8192) => {}
        _ => return Err(unsupported()),
    }
    SpkiDer::from_rsa_parts(parts.modulus, parts.exponent).map_err(|_| unsupported())
}

const fn oaep(hash: OaepHash) -> &'static OaepAlgorithm {
    match hash {
        OaepHash::Sha1 => &OAEP_SHA1_MGF1SHA1,
        OaepHash::Sha256 => &OAEP_SHA256_MGF1SHA256,
        OaepHash::Sha384 => &OAEP_SHA384_MGF1SHA384,
        OaepHash::Sha512 => &OAEP_SHA512_MGF1SHA512,
    }
}

fn ecdh(algorithm: KeyAlgorithm) -> Result<&'static agreement::Algorithm, KeyError> {
    match algorithm {
        KeyAlgorithm::P256 => Ok(&agreement::ECDH_P256),
        KeyAlgorithm::P384 => Ok(&agreement::ECDH_P384),
        KeyAlgorithm::Rsa(_) => {
            Err(KeyError::Unsupported { operation: "key agreement", key: algorithm.to_string() })
        }
    }
}

fn agree(key: &agreement::PrivateKey, peer_point: &[u8]) -> Result<Secret<Vec<u8>>, KeyError> {
    let off_curve = KeyError::Rejected { why: "the peer's point is not on the key's curve" };
    // The back end would also take other encodings of a point; the trait says uncompressed.
    if peer_point.first() != Some(&4) {
        return Err(off_curve);
    }
    let peer = agreement::UnparsedPublicKey::new(key.algorithm(), peer_point);
    agreement::agree(key, peer, off_curve, |x| Ok(Secret::new(x.to_vec())))
}

/// A private key that signs.
pub(crate) enum SigningKey {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
}

impl SigningKey {
    pub(crate) fn parse(pkcs8: &[u8], algorithm: KeyAlgorithm) -> Result<Self, KeyProblem> {
        let refused = |_| KeyProblem::Inconsistent;
        match algorithm {
            KeyAlgorithm::Rsa(_) => RsaKeyPair::from_pkcs8(pkcs8).map(Self::Rsa).map_err(refused),
            KeyAlgorithm::P256 => {
                EcdsaKeyPair::from_pkcs8(&sig::ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8)
                    .map(Self::P256)
                    .map_err(refused)
            }
            KeyAlgorithm::P384 => {
                EcdsaKeyPair::from_pkcs8(&sig::ECDSA_P384_SHA384_ASN1_SIGNING, pkcs8)
                    .map(Self::P384)
                    .map_err(refused)
            }
        }
    }

    pub(crate) fn public_key(&self) -> Result<SpkiDer, KeyProblem> {
        match self {
            Self::Rsa(key) => {
                let mut parts = Reader::new(key.public_key().as_ref())
                    .only(tag::SEQUENCE)
                    .map_err(|_| KeyProblem::Malformed)?
                    .reader();
                let mut next = || parts.any().and_then(|tlv| tlv.unsigned());
                let modulus = next().map_err(|_| KeyProblem::Malformed)?;
                let exponent = next().map_err(|_| KeyProblem::Malformed)?;
                SpkiDer::from_rsa_parts(modulus, exponent).map_err(|_| KeyProblem::Exponent)
            }
            Self::P256(key) | Self::P384(key) => {
                SpkiDer::from_ec_point(key.public_key().as_ref()).map_err(|_| KeyProblem::Malformed)
            }
        }
    }

    /// `None` when the scheme does not fit the key.
    pub(crate) fn sign(
        &self,
        scheme: SignatureScheme,
        message: &[u8],
    ) -> Option<Result<Vec<u8>, KeyError>> {
        use SignatureScheme as S;
        match self {
            Self::Rsa(key) => {
                let encoding: &'static dyn sig::RsaEncoding = match scheme {
                    S::RsaPkcs1Sha256 => &sig::RSA_PKCS1_SHA256,
                    S::RsaPkcs1Sha384 => &sig::RSA_PKCS1_SHA384,
                    S::RsaPkcs1Sha512 => &sig::RSA_PKCS1_SHA512,
                    S::RsaPssSha256 => &sig::RSA_PSS_SHA256,
                    S::RsaPssSha384 => &sig::RSA_PSS_SHA384,
                    S::RsaPssSha512 => &sig::RSA_PSS_SHA512,
                    S::RsaPkcs1Sha1 | S::EcdsaSha256 | S::EcdsaSha384 | S::EcdsaSha512 => {
                        return None;
                    }
                };
                let mut signature = vec![0; key.public_modulus_len()];
                Some(
                    key.sign(encoding, &rand::SystemRandom::new(), message, &mut signature)
                        .map(|()| signature)
                        .map_err(|_| signing_failed()),
                )
            }
            Self::P256(key) => ecdsa(key, &digest::SHA256, scheme, message),
            Self::P384(key) => ecdsa(key, &digest::SHA384, scheme, message),
        }
    }
}

fn signing_failed() -> KeyError {
    KeyError::Unavailable { why: "aws-lc-rs could not sign".into() }
}

/// Signs with any of the three digests on either curve.
fn ecdsa(
    key: &EcdsaKeyPair,
    native: &'static digest::Algorithm,
    scheme: SignatureScheme,
    message: &[u8],
) -> Option<Result<Vec<u8>, KeyError>> {
    let digest = match scheme {
        SignatureScheme::EcdsaSha256 => digest::digest(&digest::SHA256, message),
        SignatureScheme::EcdsaSha384 => digest::digest(&digest::SHA384, message),
        SignatureScheme::EcdsaSha512 => digest::digest(&digest::SHA512, message),
        _ => return None,
    };
    // ECDSA takes as many leftmost bits as the order has (FIPS 186-5, 6.4.1), and a shorter digest as the number
    // it is. The back end signs only digests of the curve's own length, so they are brought to it here.
    let mut fitted = vec![0; native.output_len().saturating_sub(digest.as_ref().len())];
    fitted.extend(digest.as_ref().iter().take(native.output_len()));
    Some(
        digest::Digest::import_less_safe(&fitted, native)
            .and_then(|digest| key.sign_digest(&digest))
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| signing_failed()),
    )
}

/// An RSA private key that decrypts.
pub(crate) struct RsaDecryption {
    public: SpkiDer,
    pkcs1: Pkcs1PrivateDecryptingKey,
    oaep: OaepPrivateDecryptingKey,
}

impl RsaDecryption {
    pub(crate) fn parse(pkcs8: &[u8], public: SpkiDer) -> Result<Self, KeyProblem> {
        let key = PrivateDecryptingKey::from_pkcs8(pkcs8).map_err(|_| KeyProblem::Inconsistent)?;
        Ok(Self {
            public,
            pkcs1: Pkcs1PrivateDecryptingKey::new(key.clone())
                .map_err(|_| KeyProblem::Inconsistent)?,
            oaep: OaepPrivateDecryptingKey::new(key).map_err(|_| KeyProblem::Inconsistent)?,
        })
    }
}

impl RsaDecryptionKey for RsaDecryption {
    fn public_key(&self) -> &SpkiDer {
        &self.public
    }

    fn decrypt_key(
        &self,
        padding: RsaPadding,
        ciphertext: &[u8],
        key: &mut Secret<Vec<u8>>,
    ) -> Result<(), KeyError> {
        let size = self.pkcs1.key_size_bytes();
        if ciphertext.len() != size {
            return Err(reject::wrong_length());
        }
        let mut out = Secret::new(vec![0; size]);
        let result = match padding {
            RsaPadding::Pkcs1v15 => self.pkcs1.decrypt(ciphertext, out.expose_mut()),
            RsaPadding::Oaep(hash) => {
                self.oaep.decrypt(oaep(hash), ciphertext, out.expose_mut(), None)
            }
        };
        // A refusal and a plaintext of another length end here, as one bit.
        let length = result.as_ref().map_or(usize::MAX, |plaintext| plaintext.len());
        let accept: Choice = length.ct_eq(&key.expose().len());
        reject::select(key.expose_mut(), out.expose(), accept);
        Ok(())
    }
}

/// An EC private key that agrees.
pub(crate) struct EcDecryption {
    public: SpkiDer,
    key: agreement::PrivateKey,
}

impl EcDecryption {
    pub(crate) fn parse(pkcs8: &[u8], public: SpkiDer) -> Result<Self, KeyProblem> {
        let algorithm = ecdh(public.algorithm()).map_err(|_| KeyProblem::Curve)?;
        let key = agreement::PrivateKey::from_private_key_der(algorithm, pkcs8)
            .map_err(|_| KeyProblem::Inconsistent)?;
        Ok(Self { public, key })
    }
}

impl EcdhKey for EcDecryption {
    fn public_key(&self) -> &SpkiDer {
        &self.public
    }

    fn agree(&self, peer_point: &[u8]) -> Result<Secret<Vec<u8>>, KeyError> {
        agree(&self.key, peer_point)
    }
}

/// Makes a key; PKCS #8 DER.
pub(crate) fn generate(algorithm: KeyAlgorithm) -> Result<Secret<Vec<u8>>, KeyProblem> {
    use aws_lc_rs::rsa::KeySize;
    let rsa = |size| {
        let key = PrivateDecryptingKey::generate(size).map_err(|_| KeyProblem::NotMade)?;
        let der: encoding::Pkcs8V1Der<'_> = key.as_der().map_err(|_| KeyProblem::NotMade)?;
        Ok(Secret::new(der.as_ref().to_vec()))
    };
    let ec = |curve| {
        EcdsaKeyPair::generate(curve)
            .and_then(|key| key.to_pkcs8v1())
            .map(|der| Secret::new(der.as_ref().to_vec()))
            .map_err(|_| KeyProblem::NotMade)
    };
    match algorithm {
        KeyAlgorithm::Rsa(2048) => rsa(KeySize::Rsa2048),
        KeyAlgorithm::Rsa(3072) => rsa(KeySize::Rsa3072),
        KeyAlgorithm::Rsa(4096) => rsa(KeySize::Rsa4096),
        KeyAlgorithm::Rsa(_) => Err(KeyProblem::Size { algorithm }),
        KeyAlgorithm::P256 => ec(&sig::ECDSA_P256_SHA256_ASN1_SIGNING),
        KeyAlgorithm::P384 => ec(&sig::ECDSA_P384_SHA384_ASN1_SIGNING),
    }
}
