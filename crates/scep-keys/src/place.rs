//! Where a key is: in a file or on a token. The one place that decides.

use crate::error::KeyFileError;
#[cfg(feature = "pkcs11")]
use crate::pkcs11::{Pkcs11Error, Pkcs11Key};
use crate::software::{Backend, SoftwareKey};
use crate::uri::{SCHEME, TokenUri, TokenUriError};
use core::fmt;
use scep_types::{DecryptionKey, Fault, Signer, SpkiDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Where a private key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// A PKCS #8 PEM file.
    File(PathBuf),
    /// A token, behind PKCS #11.
    Token(TokenUri),
}

/// Why a key could not be opened where it is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenKeyError {
    /// The file.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The URI names no key.
    #[error("the PKCS #11 URI: {0}")]
    Uri(#[from] TokenUriError),
    /// The token.
    #[cfg(feature = "pkcs11")]
    #[error(transparent)]
    Token(#[from] Pkcs11Error),
    /// This program was built without tokens.
    #[error("{key}: this program was built without PKCS #11; build it with the feature pkcs11")]
    NotBuilt {
        /// Which key.
        key: String,
    },
}

impl OpenKeyError {
    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::File(error) => error.fault(),
            #[cfg(feature = "pkcs11")]
            Self::Token(error) => error.fault(),
            Self::Uri(_) | Self::NotBuilt { .. } => Fault::OurConfiguration,
        }
    }
}

impl KeyPlace {
    /// What a configuration says: a URI that begins with `pkcs11:`, or else the path of a file. Relative paths, also
    /// that of a PIN's file, are relative to `base`.
    ///
    /// # Errors
    /// [`OpenKeyError::Uri`] for a URI that names no key.
    pub fn parse(base: &Path, text: &str) -> Result<Self, OpenKeyError> {
        if text.get(..SCHEME.len()).is_some_and(|start| start.eq_ignore_ascii_case(SCHEME)) {
            Ok(Self::Token(TokenUri::parse(text, base)?))
        } else {
            Ok(Self::File(base.join(text)))
        }
    }

    /// The path, where it is a file.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Token(_) => None,
        }
    }
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Token(uri) => uri.fmt(f),
        }
    }
}

/// A private key of either kind. Nothing that is on a token is ever done by software.
#[derive(Clone, Debug)]
pub enum PrivateKey {
    /// In memory, read from a file.
    Software(SoftwareKey),
    /// On a token.
    #[cfg(feature = "pkcs11")]
    Token(Pkcs11Key),
}

/// Opens the key of a place: reads the file, on aws-lc-rs, or logs in to the token.
///
/// # Errors
/// [`OpenKeyError`] with the file or the token's key.
pub fn open_key(place: &KeyPlace) -> Result<PrivateKey, OpenKeyError> {
    match place {
        KeyPlace::File(path) => Ok(SoftwareKey::read(path, Backend::AwsLc)?.into()),
        #[cfg(feature = "pkcs11")]
        KeyPlace::Token(uri) => Ok(PrivateKey::Token(Pkcs11Key::open(uri)?)),
        #[cfg(not(feature = "pkcs11"))]
        KeyPlace::Token(uri) => Err(OpenKeyError::NotBuilt { key: uri.to_string() }),
    }
}

impl PrivateKey {
    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> &SpkiDer {
        match self {
            Self::Software(key) => key.public_key(),
            #[cfg(feature = "pkcs11")]
            Self::Token(key) => key.public_key(),
        }
    }

    /// As a signer.
    ///
    /// # Errors
    /// When the token's key may not sign, or does not.
    pub fn signer(&self) -> Result<Arc<dyn Signer>, OpenKeyError> {
        match self {
            Self::Software(key) => Ok(key.signer()),
            #[cfg(feature = "pkcs11")]
            Self::Token(key) => Ok(key.signer()?),
        }
    }

    /// As a decryption key.
    ///
    /// # Errors
    /// When the back end or the token will not decrypt with it.
    pub fn decryption(&self) -> Result<DecryptionKey, OpenKeyError> {
        match self {
            Self::Software(key) => Ok(key.decryption()?),
            #[cfg(feature = "pkcs11")]
            Self::Token(key) => Ok(key.decryption()?),
        }
    }

    /// The key itself, where it is in memory.
    #[must_use]
    pub const fn software(&self) -> Option<&SoftwareKey> {
        match self {
            Self::Software(key) => Some(key),
            #[cfg(feature = "pkcs11")]
            Self::Token(_) => None,
        }
    }
}

impl From<SoftwareKey> for PrivateKey {
    fn from(key: SoftwareKey) -> Self {
        Self::Software(key)
    }
}
