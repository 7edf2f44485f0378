//! The connector's private keys, wherever they are kept.

use core::fmt;
use scep_types::{DecryptionKey, KeyId, Signer, SpkiDer};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use thiserror::Error;

/// What a key of the connector is for. No key has two purposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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

fn wrong_kind(slot: KeySlot) -> KeyStoreError {
    KeyStoreError { slot, why: "the key store gives a key of the other kind".to_owned() }
}

/// An authentication key. What the store gives is looked at: a wrong key here would be a wrong identity.
pub(crate) fn signer(keys: &dyn KeyStore, id: KeyId) -> Result<Arc<dyn Signer>, KeyStoreError> {
    let slot = KeySlot::Authentication;
    let key = keys.load(slot, id)?.into_signer().ok_or_else(|| wrong_kind(slot))?;
    named(slot, id, key.public_key())?;
    Ok(key)
}

/// A decryption key.
pub(crate) fn decryption(keys: &dyn KeyStore, id: KeyId) -> Result<DecryptionKey, KeyStoreError> {
    let slot = KeySlot::Decryption;
    let key = keys.load(slot, id)?.into_decryption().ok_or_else(|| wrong_kind(slot))?;
    named(slot, id, key.public_key())?;
    Ok(key)
}

fn named(slot: KeySlot, id: KeyId, key: &SpkiDer) -> Result<(), KeyStoreError> {
    if key.key_id() == id {
        return Ok(());
    }
    Err(KeyStoreError { slot, why: format!("the key store gives {} for {id}", key.key_id()) })
}

pub(crate) fn new_signer(keys: &dyn KeyStore) -> Result<Arc<dyn Signer>, KeyStoreError> {
    let slot = KeySlot::Authentication;
    keys.generate(slot)?.into_signer().ok_or_else(|| wrong_kind(slot))
}

pub(crate) fn new_decryption(keys: &dyn KeyStore) -> Result<DecryptionKey, KeyStoreError> {
    let slot = KeySlot::Decryption;
    keys.generate(slot)?.into_decryption().ok_or_else(|| wrong_kind(slot))
}
