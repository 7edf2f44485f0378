//! Private keys in software. STUB: signatures fixed, bodies to come.
#![allow(unused_variables, clippy::todo, clippy::missing_errors_doc)]
use scep_types::*;
use std::path::Path;
use std::sync::Arc;
use thiserror::Error;

/// Public-key operations on aws-lc-rs.
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
        todo!()
    }
    fn rsa_encrypt(
        &self,
        key: &SpkiDer,
        padding: RsaPadding,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        todo!()
    }
    fn ephemeral_agree(&self, peer: &SpkiDer) -> Result<EphemeralAgreement, KeyError> {
        todo!()
    }
    fn random(&self, out: &mut [u8]) -> Result<(), KeyError> {
        todo!()
    }
}

/// Which back end holds a software key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Backend {
    /// aws-lc-rs.
    #[default]
    AwsLc,
    /// The crates rsa, p256, p384: portable, slower; the oracle of the differential tests.
    PureRust,
}

/// A private key held in memory: RSA-2048..4096, P-256 or P-384. Parsed once. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SoftwareKey(());

impl SoftwareKey {
    /// Makes one.
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self, KeyFileError> {
        todo!()
    }
    /// From PKCS #8 DER.
    pub fn from_pkcs8_der(der: &[u8], backend: Backend) -> Result<Self, KeyFileError> {
        todo!()
    }
    /// From a PKCS #8 PEM file, which must be a regular file of mode 0600 or stricter.
    pub fn read(path: &Path, backend: Backend) -> Result<Self, KeyFileError> {
        todo!()
    }
    /// Writes PKCS #8 PEM to a new file of mode 0600, synced; refuses to overwrite.
    pub fn write_new(&self, path: &Path) -> Result<(), KeyFileError> {
        todo!()
    }
    /// PKCS #8 DER.
    pub fn to_pkcs8_der(&self) -> Result<Secret<Vec<u8>>, KeyFileError> {
        todo!()
    }
    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> &SpkiDer {
        todo!()
    }
    /// As a signer.
    #[must_use]
    pub fn signer(&self) -> Arc<dyn Signer> {
        todo!()
    }
    /// As a decryption key.
    pub fn decryption(&self) -> Result<DecryptionKey, KeyFileError> {
        todo!()
    }
}

/// Why a key could not be read, made or written.
#[derive(Debug, Error)]
#[error("key file")]
pub struct KeyFileError(()); // refine: enum with path
