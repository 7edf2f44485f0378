//! Keys and public-key operations as traits: the libraries name no back end.
//!
//! Private keys are [`Signer`], [`RsaDecryptionKey`] and [`EcdhKey`]; everything that needs no private key, and
//! randomness, is one [`CryptoProvider`]. `scep-keys` implements them all; an HSM implements the first three.

use crate::fault::Fault;
use crate::secret::Secret;
use crate::spki::{KeyAlgorithm, SpkiDer};
use core::fmt;
use std::sync::Arc;
use thiserror::Error;

/// A signature algorithm with its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureScheme {
    /// RSASSA-PKCS1-v1_5 with SHA-1: verified on legacy endpoints only, never made with keys of ours
    /// elsewhere.
    RsaPkcs1Sha1,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RsaPkcs1Sha256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RsaPkcs1Sha384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RsaPkcs1Sha512,
    /// RSASSA-PSS with SHA-256, MGF1 with the same digest, salt of the digest's length.
    RsaPssSha256,
    /// RSASSA-PSS with SHA-384, MGF1 with the same digest, salt of the digest's length.
    RsaPssSha384,
    /// RSASSA-PSS with SHA-512, MGF1 with the same digest, salt of the digest's length.
    RsaPssSha512,
    /// ECDSA with SHA-256, on the key's curve; the signature is a DER ECDSA-Sig-Value.
    EcdsaSha256,
    /// ECDSA with SHA-384, on the key's curve.
    EcdsaSha384,
    /// ECDSA with SHA-512, on the key's curve.
    EcdsaSha512,
}

impl SignatureScheme {
    /// What a key of ours of this algorithm signs with unless told otherwise: PKCS#1 v1.5 with SHA-256, or ECDSA
    /// with the digest of the curve's size.
    #[must_use]
    pub const fn default_for(algorithm: KeyAlgorithm) -> Self {
        match algorithm {
            KeyAlgorithm::Rsa(_) => Self::RsaPkcs1Sha256,
            KeyAlgorithm::P256 => Self::EcdsaSha256,
            KeyAlgorithm::P384 => Self::EcdsaSha384,
        }
    }
}

/// The padding of RSA key transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RsaPadding {
    /// RSAES-PKCS1-v1_5 (RFC 8017, 7.2).
    Pkcs1v15,
    /// RSAES-OAEP (RFC 8017, 7.1) with this hash, MGF1 with the same, an empty label.
    Oaep(OaepHash),
}

/// The hash of RSAES-OAEP and its MGF1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OaepHash {
    /// SHA-1, the default of RFC 4055 and what Windows sends. OAEP does not need its collision resistance.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// Why a key operation could not be done at all. Never why a signature or a ciphertext is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The key or its back end does not do this operation.
    #[error("{operation} is not possible with a {key} key")]
    Unsupported {
        /// What was asked.
        operation: &'static str,
        /// The key's algorithm and size.
        key: String,
    },
    /// The back end refuses the key: too small, not on its curve, an exponent it does not take.
    #[error("the back end does not accept the key: {why}")]
    Rejected {
        /// As the back end says.
        why: &'static str,
    },
    /// The key's token, or the source of randomness, failed.
    #[error("the key's back end failed: {why}")]
    Unavailable {
        /// As the back end says.
        why: String,
    },
}

impl KeyError {
    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Unsupported { .. } | Self::Rejected { .. } => Fault::OurConfiguration,
            Self::Unavailable { .. } => Fault::OurDependency,
        }
    }
}

/// A signature does not verify: over other bytes, by another key, or malformed. One value for all, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the signature does not verify")]
pub struct SignatureInvalid;

/// A private key that signs.
pub trait Signer: Send + Sync + fmt::Debug {
    /// Its public half.
    fn public_key(&self) -> &SpkiDer;

    /// Signs a message (not its digest).
    ///
    /// # Errors
    /// When the scheme does not fit the key, or the back end fails.
    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError>;
}

/// An RSA private key that decrypts content keys.
pub trait RsaDecryptionKey: Send + Sync + fmt::Debug {
    /// Its public half.
    fn public_key(&self) -> &SpkiDer;

    /// Decrypts into `key`, whose length is that of the expected content key, and which the caller has filled
    /// with random octets. **Implicit rejection**: where the padding is wrong or the plaintext has another length,
    /// `key` keeps its random octets and the result is `Ok` all the same; nothing tells the cases apart.
    ///
    /// # Errors
    /// When the ciphertext has not the modulus's length (which is public), or the back end fails.
    fn decrypt_key(
        &self,
        padding: RsaPadding,
        ciphertext: &[u8],
        key: &mut Secret<Vec<u8>>,
    ) -> Result<(), KeyError>;
}

/// An EC private key that agrees on secrets.
pub trait EcdhKey: Send + Sync + fmt::Debug {
    /// Its public half.
    fn public_key(&self) -> &SpkiDer;

    /// The x coordinate of the shared point (RFC 5753, 7.1) with the peer's uncompressed point.
    ///
    /// # Errors
    /// [`KeyError::Rejected`] when the point is not on the key's curve; otherwise when the back end fails.
    fn agree(&self, peer_point: &[u8]) -> Result<Secret<Vec<u8>>, KeyError>;
}

/// A private key of either kind that opens envelopes.
#[derive(Clone, Debug)]
pub enum DecryptionKey {
    /// By key transport.
    Rsa(Arc<dyn RsaDecryptionKey>),
    /// By key agreement.
    Ec(Arc<dyn EcdhKey>),
}

impl DecryptionKey {
    /// Its public half.
    #[must_use]
    pub fn public_key(&self) -> &SpkiDer {
        match self {
            Self::Rsa(key) => key.public_key(),
            Self::Ec(key) => key.public_key(),
        }
    }
}

/// The result of an agreement with a key made for it.
#[derive(Debug)]
pub struct EphemeralAgreement {
    /// The ephemeral key's uncompressed point.
    pub public_point: Vec<u8>,
    /// The x coordinate of the shared point.
    pub shared_secret: Secret<Vec<u8>>,
}

/// What needs no private key of ours, and randomness.
///
/// A provider that says yes to everything disables every check downstream: name it in one place, at the top.
/// (That is what fuzzing does with the no-op provider of `scep-testkit`.)
pub trait CryptoProvider: Send + Sync + fmt::Debug {
    /// Verifies a signature over a message. RSA keys of 1024 bits and more are accepted here; which sizes are
    /// allowed is policy.
    ///
    /// # Errors
    /// When it does not verify, for whatever reason.
    fn verify(
        &self,
        key: &SpkiDer,
        scheme: SignatureScheme,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureInvalid>;

    /// Encrypts a content key to an RSA key.
    ///
    /// # Errors
    /// When the key is not RSA, too small, or the back end fails.
    fn rsa_encrypt(
        &self,
        key: &SpkiDer,
        padding: RsaPadding,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, KeyError>;

    /// Makes an ephemeral key on the peer's curve and agrees with the peer's key.
    ///
    /// # Errors
    /// When the peer's key is not on P-256 or P-384, or the back end fails.
    fn ephemeral_agree(&self, peer: &SpkiDer) -> Result<EphemeralAgreement, KeyError>;

    /// Fills with random octets fit for keys.
    ///
    /// # Errors
    /// When the source of randomness fails.
    fn random(&self, out: &mut [u8]) -> Result<(), KeyError>;
}

/// A certificate that may leave the house: recorded before, or public anyway.
///
/// An answer that carries a certificate demands one. `scep-ledger`'s `Releasable` is the implementation that
/// matters; implementing it elsewhere is a statement that the certificate is on record there, and easy to grep.
pub trait ReleasedCertificate {
    /// The certificate.
    fn certificate(&self) -> &crate::CertificateDer;
}
