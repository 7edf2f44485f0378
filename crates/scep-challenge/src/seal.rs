//! Claims to text.

use crate::claims::{ChallengeClaims, ClaimsError};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use scep_cms::{CmsError, SignerId, ToSign};
use scep_types::{
    CryptoProvider, Fault, KeyAlgorithm, KeyId, ObjectIdentifier, SignatureScheme, Signer, SpkiDer,
};
use thiserror::Error;

/// Longest text of a blob, characters.
pub const MAX_TEXT: usize = 16 << 10;

/// id-ct-authEnvelopedData (RFC 5083).
pub(crate) const AUTH_ENVELOPED_DATA: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.23");

/// Whether a key may sign or open blobs: P-256, or RSA of 2,048 to 4,096 bits.
#[must_use]
pub const fn is_suitable(algorithm: KeyAlgorithm) -> bool {
    match algorithm {
        KeyAlgorithm::P256 => true,
        KeyAlgorithm::Rsa(bits) => bits >= 2048 && bits <= 4096,
        KeyAlgorithm::P384 => false,
    }
}

/// What a key is used for here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyRole {
    /// The issuer's, that signs.
    Signer,
    /// The gateway's, that opens.
    Recipient,
}

impl core::fmt::Display for KeyRole {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Signer => "signer",
            Self::Recipient => "recipient",
        })
    }
}

/// Why a blob could not be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    /// The claims.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    /// The claims name another key than the one given.
    #[error("the claims name the {role} {claimed}, but the key is {actual}")]
    OtherKey {
        /// Which.
        role: KeyRole,
        /// In the claims.
        claimed: KeyId,
        /// The key given.
        actual: KeyId,
    },
    /// Neither P-256 nor RSA of 2,048 to 4,096 bits.
    #[error("the {role}'s key is {algorithm}; P-256 and RSA of 2,048 to 4,096 bits are allowed")]
    UnsuitableKey {
        /// Which.
        role: KeyRole,
        /// Its algorithm.
        algorithm: KeyAlgorithm,
    },
    /// One key in both roles.
    #[error("signer and recipient are the same key")]
    SharedKey,
    /// The text would be longer than 16 KiB.
    #[error("the blob has {got} characters; at most {max} are allowed")]
    TooLong {
        /// Its characters.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// A key operation failed.
    #[error("the blob could not be made: {0}")]
    Cms(#[from] CmsError),
}

impl SealError {
    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Claims(_)
            | Self::OtherKey { .. }
            | Self::UnsuitableKey { .. }
            | Self::SharedKey
            | Self::TooLong { .. } => Fault::OurConfiguration,
            Self::Cms(CmsError::Key(error)) => error.fault(),
            Self::Cms(_) => Fault::OurBug,
        }
    }
}

/// Encrypts to the recipient, then signs: one signature. The text is standard base64 with padding on one line.
///
/// `claims.issuer_key` and `claims.recipient_key` must be the key ids of `signer` and `recipient`.
///
/// # Errors
/// When the claims are not valid or name other keys, a key is unsuitable, the text is longer than
/// [`MAX_TEXT`], or a key operation fails.
pub fn seal(
    claims: &ChallengeClaims,
    signer: &dyn Signer,
    recipient: &SpkiDer,
    provider: &dyn CryptoProvider,
) -> Result<String, SealError> {
    for (role, claimed, key) in [
        (KeyRole::Signer, claims.issuer_key, signer.public_key()),
        (KeyRole::Recipient, claims.recipient_key, recipient),
    ] {
        let actual = key.key_id();
        if claimed != actual {
            return Err(SealError::OtherKey { role, claimed, actual });
        }
        if !is_suitable(key.algorithm()) {
            return Err(SealError::UnsuitableKey { role, algorithm: key.algorithm() });
        }
    }
    if claims.issuer_key == claims.recipient_key {
        return Err(SealError::SharedKey);
    }
    let envelope = scep_cms::seal_auth(provider, recipient, &claims.to_der()?)?;
    let text = sign_envelope(&envelope, signer)?;
    if text.len() > MAX_TEXT {
        return Err(SealError::TooLong { got: text.len(), max: MAX_TEXT });
    }
    Ok(text)
}

/// The outer layer and the text, around an envelope that is taken as it is.
pub(crate) fn sign_envelope(envelope: &[u8], signer: &dyn Signer) -> Result<String, CmsError> {
    sign_content(AUTH_ENVELOPED_DATA, envelope, signer)
}

pub(crate) fn sign_content(
    content_type: ObjectIdentifier,
    content: &[u8],
    signer: &dyn Signer,
) -> Result<String, CmsError> {
    let der = scep_cms::sign(
        signer,
        &ToSign {
            content_type,
            content,
            attributes: &[],
            certificates: &[],
            signer_id: SignerId::KeyId,
            scheme: SignatureScheme::default_for(signer.public_key().algorithm()),
        },
    )?;
    Ok(STANDARD.encode(der))
}
