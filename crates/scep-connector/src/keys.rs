//! The connector's private keys, wherever they are kept.

use core::fmt;
use scep_types::{DecryptionKey, KeyId, Signer, SpkiDer};
use std::sync::Arc;
use thiserror::Error;

/// What a key of the connector is for. No key has two purposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeySlot {
    /// Shows to the issuer who this is: TLS, PKCS #10 and renewal statements. P-256.
    Authentication,
    /// Opens challenges. P-256 or RSA.
    Decryption,
}

/// A private key.
#[derive(Clone, Debug)]
pub enum OwnKey {
    /// Of [`KeySlot::Authentication`].
    Authentication(Arc<dyn Signer>),
    /// Of [`KeySlot::Decryption`].
    Decryption(DecryptionKey),
}

impl OwnKey {
    /// Its public half.
    #[must_use]
    pub fn public_key(&self) -> &SpkiDer {
        match self {
            Self::Authentication(key) => key.public_key(),
            Self::Decryption(key) => key.public_key(),
        }
    }
}

/// Why a key could not be had.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{slot:?} key: {why}")]
pub struct KeyStoreError {
    /// Which.
    pub slot: KeySlot,
    /// Why.
    pub why: String,
}

/// Where private keys are kept: files, or a token. Keys are named by their key id.
pub trait KeyStore: Send + Sync + fmt::Debug {
    /// Makes a new key; durable when this returns.
    ///
    /// # Errors
    /// When it cannot be made or kept.
    fn generate(&self, slot: KeySlot) -> Result<OwnKey, KeyStoreError>;

    /// The key with this id.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    fn load(&self, slot: KeySlot, id: KeyId) -> Result<OwnKey, KeyStoreError>;

    /// Destroys a key that is no longer needed. One that is gone already is no error.
    ///
    /// # Errors
    /// When it is still there afterwards.
    fn destroy(&self, slot: KeySlot, id: KeyId) -> Result<(), KeyStoreError>;
}
