//! What only endpoints for old devices and makers of test vectors may use. Named so that a search finds it.

#[cfg(feature = "seeded")]
pub use crate::seeded::SeededProvider;

use crate::place::PrivateKey;
use crate::pure;
use crate::software::SoftwareKey;
use core::fmt;
use scep_types::{KeyAlgorithm, KeyError, SignatureScheme, Signer, SpkiDer};
use std::sync::Arc;

/// A signer that, beside all that the key signs otherwise, makes RSASSA-PKCS1-v1_5 signatures with SHA-1, for peers
/// that verify nothing else. The `rsa` crate makes them, whatever back end the key has: aws-lc-rs refuses to.
///
/// SHA-1 lets whoever chooses part of what is signed prepare two messages with one signature. Never give this to
/// anything that signs certificates.
///
/// # Errors
/// [`KeyError::Unsupported`] for an EC key.
pub fn sha1_signer(key: &SoftwareKey) -> Result<Arc<dyn Signer>, KeyError> {
    let algorithm = key.public_key().algorithm();
    let unsupported = || KeyError::Unsupported {
        operation: "signing with RSA PKCS #1 v1.5 and SHA-1",
        key: algorithm.to_string(),
    };
    let KeyAlgorithm::Rsa(_) = algorithm else {
        return Err(unsupported());
    };
    let private = pure::PrivateHalf::parse(key.pkcs8(), algorithm).map_err(|_| unsupported())?;
    Ok(Arc::new(Sha1Signer { key: key.clone(), private }))
}

/// [`sha1_signer`] for a key of either kind: a token signs SHA-1 itself, as it is given the digest.
///
/// # Errors
/// [`KeyError::Unsupported`] for an EC key; [`KeyError::Unavailable`] when the token cannot sign.
pub fn sha1_signer_of(key: &PrivateKey) -> Result<Arc<dyn Signer>, KeyError> {
    match key {
        PrivateKey::Software(key) => sha1_signer(key),
        #[cfg(feature = "pkcs11")]
        PrivateKey::Token(token) => match token.public_key().algorithm() {
            KeyAlgorithm::Rsa(_) => Ok(token.sha1_signer()?),
            other => Err(KeyError::Unsupported {
                operation: "signing with RSA PKCS #1 v1.5 and SHA-1",
                key: other.to_string(),
            }),
        },
    }
}

struct Sha1Signer {
    key: SoftwareKey,
    private: pure::PrivateHalf,
}

impl Signer for Sha1Signer {
    fn public_key(&self) -> &SpkiDer {
        self.key.public_key()
    }

    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match scheme {
            SignatureScheme::RsaPkcs1Sha1 => self.private.sign_sha1(message),
            _ => self.key.sign(scheme, message),
        }
    }
}

impl fmt::Debug for Sha1Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha1Signer({:?})", self.public_key())
    }
}
