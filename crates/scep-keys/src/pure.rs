//! Public-key operations and private keys on the pure-Rust crates rsa, p256 and p384.

use crate::aws::encryptable;
use crate::error::KeyProblem;
use crate::reject;
use getrandom::SysRng;
use getrandom::rand_core::TryCryptoRng;
use p256::elliptic_curve::sec1::ToSec1Point;
use pkcs8::DecodePrivateKey;
use rsa::traits::PublicKeyParts;
use rsa::{BoxedUint, PrivateKey, PublicKey, hazmat};
use scep_types::{
    CryptoProvider, EcdhKey, EphemeralAgreement, KeyAlgorithm, KeyError, OaepHash,
    RsaDecryptionKey, RsaPadding, Secret, SignatureInvalid, SignatureScheme, SpkiDer,
};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};
use signature::hazmat::{PrehashSigner, PrehashVerifier};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

/// Public-key operations on the pure-Rust crates rsa, p256 and p384, with the same limits as
/// [`AwsLc`](crate::AwsLc): portable, several times slower, and the oracle of the differential tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct PureRust;

impl CryptoProvider for PureRust {
    fn verify(
        &self,
        key: &SpkiDer,
        scheme: SignatureScheme,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureInvalid> {
        verify(key, scheme, message, signature)
    }

    fn rsa_encrypt(
        &self,
        key: &SpkiDer,
        padding: RsaPadding,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        rsa_encrypt(&mut SysRng, key, padding, plaintext)
    }

    fn ephemeral_agree(&self, peer: &SpkiDer) -> Result<EphemeralAgreement, KeyError> {
        ephemeral_agree(&mut SysRng, peer)
    }

    fn random(&self, out: &mut [u8]) -> Result<(), KeyError> {
        getrandom::fill(out).map_err(|_| no_randomness())
    }
}

fn no_randomness() -> KeyError {
    KeyError::Unavailable { why: "the source of randomness failed".into() }
}

pub(crate) fn rsa_encrypt(
    rng: &mut impl TryCryptoRng,
    key: &SpkiDer,
    padding: RsaPadding,
    plaintext: &[u8],
) -> Result<Vec<u8>, KeyError> {
    let canonical = encryptable(key)?;
    let key = rsa_public(&canonical)
        .ok_or(KeyError::Rejected { why: "the RSA public key is not acceptable" })?;
    match padding {
        RsaPadding::Pkcs1v15 => key.pkcs1v15_encrypt_with_rng(rng, plaintext),
        RsaPadding::Oaep(OaepHash::Sha1) => key.oaep_encrypt_with_rng::<Sha1, _>(rng, plaintext),
        RsaPadding::Oaep(OaepHash::Sha256) => {
            key.oaep_encrypt_with_rng::<Sha256, _>(rng, plaintext)
        }
        RsaPadding::Oaep(OaepHash::Sha384) => {
            key.oaep_encrypt_with_rng::<Sha384, _>(rng, plaintext)
        }
        RsaPadding::Oaep(OaepHash::Sha512) => {
            key.oaep_encrypt_with_rng::<Sha512, _>(rng, plaintext)
        }
    }
    .map_err(|error| match error {
        rsa::Error::Rng => no_randomness(),
        _ => KeyError::Rejected { why: "the plaintext is too long for the RSA key" },
    })
}

/// Octets that are no scalar of the curve come up less than once in 2^32 times; so often in a row, never.
const TRIES: usize = 16;

pub(crate) fn ephemeral_agree(
    rng: &mut impl TryCryptoRng,
    peer: &SpkiDer,
) -> Result<EphemeralAgreement, KeyError> {
    let len = match peer.algorithm() {
        KeyAlgorithm::P256 => 32,
        KeyAlgorithm::P384 => 48,
        other @ KeyAlgorithm::Rsa(_) => {
            return Err(KeyError::Unsupported {
                operation: "key agreement",
                key: other.to_string(),
            });
        }
    };
    for _ in 0..TRIES {
        let mut scalar = Zeroizing::new(vec![0; len]);
        rng.try_fill_bytes(&mut scalar).map_err(|_| no_randomness())?;
        let key = match peer.algorithm() {
            KeyAlgorithm::P256 => p256::SecretKey::from_slice(&scalar).map(PrivateHalf::P256),
            _ => p384::SecretKey::from_slice(&scalar).map(PrivateHalf::P384),
        };
        let Ok(key) = key else { continue };
        let public = key.public_key().map_err(|_| no_randomness())?;
        return Ok(EphemeralAgreement {
            public_point: public.key_octets().to_vec(),
            shared_secret: key.agree(peer.key_octets())?,
        });
    }
    Err(no_randomness())
}

fn rsa_public(key: &SpkiDer) -> Option<PublicKey> {
    let parts = key.rsa()?;
    let uint = |octets: &[u8]| {
        let bits = u32::try_from(octets.len().checked_mul(8)?).ok()?;
        BoxedUint::from_be_slice(octets, bits).ok()
    };
    PublicKey::new(uint(parts.modulus)?, uint(parts.exponent)?).ok()
}

pub(crate) fn verify(
    key: &SpkiDer,
    scheme: SignatureScheme,
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureInvalid> {
    use SignatureScheme as S;
    if let KeyAlgorithm::Rsa(_) = key.algorithm() {
        let key = rsa_public(key).ok_or(SignatureInvalid)?;
        return match scheme {
            S::RsaPkcs1Sha1 => key.pkcs1v15_verify::<Sha1>(message, signature),
            S::RsaPkcs1Sha256 => key.pkcs1v15_verify::<Sha256>(message, signature),
            S::RsaPkcs1Sha384 => key.pkcs1v15_verify::<Sha384>(message, signature),
            S::RsaPkcs1Sha512 => key.pkcs1v15_verify::<Sha512>(message, signature),
            S::RsaPssSha256 => key.pss_verify::<Sha256>(message, signature),
            S::RsaPssSha384 => key.pss_verify::<Sha384>(message, signature),
            S::RsaPssSha512 => key.pss_verify::<Sha512>(message, signature),
            S::EcdsaSha256 | S::EcdsaSha384 | S::EcdsaSha512 => Err(rsa::Error::Verification),
        }
        .map_err(|_| SignatureInvalid);
    }
    let prehash = ecdsa_prehash(scheme, message).ok_or(SignatureInvalid)?;
    match key.algorithm() {
        KeyAlgorithm::P256 => {
            let signature = p256::ecdsa::DerSignature::from_bytes(signature);
            p256::ecdsa::VerifyingKey::from_sec1_bytes(key.key_octets())
                .and_then(|key| key.verify_prehash(&prehash, &signature?))
        }
        KeyAlgorithm::P384 => {
            let signature = p384::ecdsa::DerSignature::from_bytes(signature);
            p384::ecdsa::VerifyingKey::from_sec1_bytes(key.key_octets())
                .and_then(|key| key.verify_prehash(&prehash, &signature?))
        }
        KeyAlgorithm::Rsa(_) => return Err(SignatureInvalid),
    }
    .map_err(|_| SignatureInvalid)
}

fn ecdsa_prehash(scheme: SignatureScheme, message: &[u8]) -> Option<Vec<u8>> {
    match scheme {
        SignatureScheme::EcdsaSha256 => Some(Sha256::digest(message).to_vec()),
        SignatureScheme::EcdsaSha384 => Some(Sha384::digest(message).to_vec()),
        SignatureScheme::EcdsaSha512 => Some(Sha512::digest(message).to_vec()),
        _ => None,
    }
}

fn off_curve() -> KeyError {
    KeyError::Rejected { why: "the peer's point is not on the key's curve" }
}

fn agree_p256(key: &p256::SecretKey, peer_point: &[u8]) -> Result<Secret<Vec<u8>>, KeyError> {
    if peer_point.first() != Some(&4) {
        return Err(off_curve());
    }
    let peer = p256::PublicKey::from_sec1_bytes(peer_point).map_err(|_| off_curve())?;
    Ok(Secret::new(key.diffie_hellman(&peer).raw_secret_bytes().to_vec()))
}

fn agree_p384(key: &p384::SecretKey, peer_point: &[u8]) -> Result<Secret<Vec<u8>>, KeyError> {
    if peer_point.first() != Some(&4) {
        return Err(off_curve());
    }
    let peer = p384::PublicKey::from_sec1_bytes(peer_point).map_err(|_| off_curve())?;
    Ok(Secret::new(key.diffie_hellman(&peer).raw_secret_bytes().to_vec()))
}

/// A private key for every operation.
pub(crate) enum PrivateHalf {
    // Boxed: an RSA key is many times as large as an EC key.
    Rsa(Box<PrivateKey>),
    P256(p256::SecretKey),
    P384(p384::SecretKey),
}

impl PrivateHalf {
    pub(crate) fn parse(pkcs8: &[u8], algorithm: KeyAlgorithm) -> Result<Self, KeyProblem> {
        let refused = |_| KeyProblem::Inconsistent;
        match algorithm {
            KeyAlgorithm::Rsa(_) => PrivateKey::from_pkcs8_der(pkcs8)
                .map(|key| Self::Rsa(Box::new(key)))
                .map_err(refused),
            KeyAlgorithm::P256 => {
                p256::SecretKey::from_pkcs8_der(pkcs8).map(Self::P256).map_err(refused)
            }
            KeyAlgorithm::P384 => {
                p384::SecretKey::from_pkcs8_der(pkcs8).map(Self::P384).map_err(refused)
            }
        }
    }

    pub(crate) fn public_key(&self) -> Result<SpkiDer, KeyProblem> {
        match self {
            Self::Rsa(key) => SpkiDer::from_rsa_parts(&key.n_bytes(), &key.e_bytes()),
            Self::P256(key) => {
                SpkiDer::from_ec_point(key.public_key().to_sec1_point(false).as_bytes())
            }
            Self::P384(key) => {
                SpkiDer::from_ec_point(key.public_key().to_sec1_point(false).as_bytes())
            }
        }
        .map_err(|_| KeyProblem::Malformed)
    }

    fn agree(&self, peer_point: &[u8]) -> Result<Secret<Vec<u8>>, KeyError> {
        match self {
            Self::P256(key) => agree_p256(key, peer_point),
            Self::P384(key) => agree_p384(key, peer_point),
            Self::Rsa(_) => {
                Err(KeyError::Unsupported { operation: "key agreement", key: "RSA".into() })
            }
        }
    }

    /// `None` when the scheme does not fit the key.
    pub(crate) fn sign(
        &self,
        scheme: SignatureScheme,
        message: &[u8],
    ) -> Option<Result<Vec<u8>, KeyError>> {
        let unavailable = |why: String| KeyError::Unavailable { why };
        match self {
            Self::Rsa(key) => rsa_sign(key, scheme, message)
                .map(|signature| signature.map_err(|error| unavailable(error.to_string()))),
            Self::P256(key) => {
                let prehash = ecdsa_prehash(scheme, message)?;
                let signature: Result<p256::ecdsa::DerSignature, _> =
                    p256::ecdsa::SigningKey::from(key).sign_prehash(&prehash);
                Some(
                    signature
                        .map(|signature| signature.as_bytes().to_vec())
                        .map_err(|error| unavailable(error.to_string())),
                )
            }
            Self::P384(key) => {
                let prehash = ecdsa_prehash(scheme, message)?;
                let signature: Result<p384::ecdsa::DerSignature, _> =
                    p384::ecdsa::SigningKey::from(key).sign_prehash(&prehash);
                Some(
                    signature
                        .map(|signature| signature.as_bytes().to_vec())
                        .map_err(|error| unavailable(error.to_string())),
                )
            }
        }
    }
}

impl PrivateHalf {
    /// For [`danger`](crate::danger) alone.
    pub(crate) fn sign_sha1(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match self {
            Self::Rsa(key) => key
                .pkcs1v15_sign_with_rng::<Sha1, _>(&mut SysRng, message)
                .map_err(|error| KeyError::Unavailable { why: error.to_string() }),
            Self::P256(_) | Self::P384(_) => Err(KeyError::Unsupported {
                operation: "signing with RSA PKCS #1 v1.5 and SHA-1",
                key: "EC".into(),
            }),
        }
    }
}

fn rsa_sign(
    key: &PrivateKey,
    scheme: SignatureScheme,
    message: &[u8],
) -> Option<rsa::Result<Vec<u8>>> {
    use SignatureScheme as S;
    let rng = &mut SysRng;
    match scheme {
        S::RsaPkcs1Sha256 => Some(key.pkcs1v15_sign_with_rng::<Sha256, _>(rng, message)),
        S::RsaPkcs1Sha384 => Some(key.pkcs1v15_sign_with_rng::<Sha384, _>(rng, message)),
        S::RsaPkcs1Sha512 => Some(key.pkcs1v15_sign_with_rng::<Sha512, _>(rng, message)),
        S::RsaPssSha256 => Some(key.pss_sign_with_rng::<Sha256, _>(rng, message)),
        S::RsaPssSha384 => Some(key.pss_sign_with_rng::<Sha384, _>(rng, message)),
        S::RsaPssSha512 => Some(key.pss_sign_with_rng::<Sha512, _>(rng, message)),
        S::RsaPkcs1Sha1 | S::EcdsaSha256 | S::EcdsaSha384 | S::EcdsaSha512 => None,
    }
}

/// A private key that decrypts or agrees.
pub(crate) struct Decryption {
    public: SpkiDer,
    key: PrivateHalf,
}

impl Decryption {
    pub(crate) fn parse(pkcs8: &[u8], public: SpkiDer) -> Result<Self, KeyProblem> {
        Ok(Self { key: PrivateHalf::parse(pkcs8, public.algorithm())?, public })
    }
}

impl RsaDecryptionKey for Decryption {
    fn public_key(&self) -> &SpkiDer {
        &self.public
    }

    fn decrypt_key(
        &self,
        padding: RsaPadding,
        ciphertext: &[u8],
        key: &mut Secret<Vec<u8>>,
    ) -> Result<(), KeyError> {
        let PrivateHalf::Rsa(private) = &self.key else {
            return Err(KeyError::Unsupported {
                operation: "RSA decryption",
                key: self.public.algorithm().to_string(),
            });
        };
        if ciphertext.len() != private.size() {
            return Err(reject::wrong_length());
        }
        let result = match padding {
            RsaPadding::Pkcs1v15 => return decrypt_pkcs1(private, ciphertext, key),
            RsaPadding::Oaep(OaepHash::Sha1) => {
                private.oaep_decrypt_with_rng::<Sha1, _>(&mut SysRng, ciphertext)
            }
            RsaPadding::Oaep(OaepHash::Sha256) => {
                private.oaep_decrypt_with_rng::<Sha256, _>(&mut SysRng, ciphertext)
            }
            RsaPadding::Oaep(OaepHash::Sha384) => {
                private.oaep_decrypt_with_rng::<Sha384, _>(&mut SysRng, ciphertext)
            }
            RsaPadding::Oaep(OaepHash::Sha512) => {
                private.oaep_decrypt_with_rng::<Sha512, _>(&mut SysRng, ciphertext)
            }
        };
        let plaintext = match result {
            Ok(plaintext) => Secret::new(plaintext),
            Err(rsa::Error::Rng) => return Err(no_randomness()),
            Err(rsa::Error::Internal) => return Err(fault_in_arithmetic()),
            Err(_) => Secret::new(Vec::new()),
        };
        let wanted = key.expose().len();
        let accept: Choice = plaintext.expose().len().ct_eq(&wanted);
        // As long as the key whatever came out, so that the selection always runs over all of it.
        let mut candidate = Secret::new(vec![0; wanted]);
        for (to, from) in candidate.expose_mut().iter_mut().zip(plaintext.expose()) {
            *to = *from;
        }
        reject::select(key.expose_mut(), candidate.expose(), accept);
        Ok(())
    }
}

fn fault_in_arithmetic() -> KeyError {
    KeyError::Unavailable { why: "the private-key operation came out wrong".into() }
}

/// Unpads here rather than in the `rsa` crate, whose own implicit rejection makes up a message of some length:
/// against the length that is expected, no length depends on the plaintext.
fn decrypt_pkcs1(
    private: &PrivateKey,
    ciphertext: &[u8],
    key: &mut Secret<Vec<u8>>,
) -> Result<(), KeyError> {
    let c = BoxedUint::from_be_slice(ciphertext, private.n_bits_precision())
        .map_err(|_| reject::wrong_length())?;
    let m = match hazmat::rsa_decrypt_and_check(private, Some(&mut SysRng), &c) {
        Ok(m) => Zeroizing::new(m),
        Err(rsa::Error::Rng) => return Err(no_randomness()),
        // Not below the modulus: public, and still no reason to answer otherwise.
        Err(rsa::Error::Decryption) => return Ok(()),
        Err(_) => return Err(fault_in_arithmetic()),
    };
    let octets = Zeroizing::new(m.to_be_bytes());
    let em = octets.len().checked_sub(private.size()).and_then(|at| octets.get(at..));
    let em = em.unwrap_or_default();
    let len = key.expose().len();
    let accept = reject::pkcs1_has_message_of(em, len);
    let message = em.len().checked_sub(len).and_then(|at| em.get(at..)).unwrap_or_default();
    reject::select(key.expose_mut(), message, accept);
    Ok(())
}

impl EcdhKey for Decryption {
    fn public_key(&self) -> &SpkiDer {
        &self.public
    }

    fn agree(&self, peer_point: &[u8]) -> Result<Secret<Vec<u8>>, KeyError> {
        self.key.agree(peer_point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AwsLc, Backend, SoftwareKey};
    use scep_types::DecryptionKey;

    fn opened(key: &SoftwareKey, padding: RsaPadding, ciphertext: &[u8]) -> Vec<u8> {
        let DecryptionKey::Rsa(key) = key.decryption().unwrap() else { panic!("not RSA") };
        let mut got = Secret::new(vec![0xa5; 16]);
        key.decrypt_key(padding, ciphertext, &mut got).unwrap();
        got.expose().clone()
    }

    #[test]
    fn the_leading_octet_of_a_padding_is_the_one_difference() {
        let aws = SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).unwrap();
        let pure = SoftwareKey::from_pkcs8_der(aws.pkcs8(), Backend::PureRust).unwrap();
        let private = PrivateKey::from_pkcs8_der(aws.pkcs8()).unwrap();
        let with_leading_one = |padding| {
            let good = AwsLc.rsa_encrypt(aws.public_key(), padding, &[7; 16]).unwrap();
            let c = BoxedUint::from_be_slice(&good, 2048).unwrap();
            let m = hazmat::rsa_decrypt_and_check(&private, Some(&mut SysRng), &c).unwrap();
            let mut em = m.to_be_bytes();
            assert_eq!(em[0], 0);
            em[0] = 1;
            let m = BoxedUint::from_be_slice(&em, 2048).unwrap();
            hazmat::rsa_encrypt(private.as_public_key(), &m).unwrap().to_be_bytes()
        };
        let bad = with_leading_one(RsaPadding::Pkcs1v15);
        assert_eq!(opened(&aws, RsaPadding::Pkcs1v15, &bad), [0xa5; 16]);
        assert_eq!(opened(&pure, RsaPadding::Pkcs1v15, &bad), [0xa5; 16]);
        // The rsa crate does not look at it in OAEP (RFC 8017, 7.1.2, step 3.g does). Only who chose the content
        // key can make such a ciphertext, so nothing is learnt by it; but the README must stay true.
        let padding = RsaPadding::Oaep(OaepHash::Sha256);
        let bad = with_leading_one(padding);
        assert_eq!(opened(&aws, padding, &bad), [0xa5; 16]);
        assert_eq!(opened(&pure, padding, &bad), [7; 16]);
    }
}
