//! Why a CMS structure was refused.

use scep_types::{CertificateError, KeyError, Reason, tlv::TlvError};
use thiserror::Error;

/// Why a CMS structure was refused. Offsets are in bytes from the start of the input of the function that
/// failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CmsError {
    /// Not the expected structure.
    #[error("malformed: {0}")]
    Malformed(#[from] TlvError),
    /// A limit was passed.
    #[error("{what}: more than {max}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// Well-formed, but not what is allowed here.
    #[error("{what} at byte {at}")]
    Structure {
        /// What is wrong.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// The signer's certificate, or the only one, cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// An algorithm that is not served. `name` is the field's name of it (`des-cbc`, `md5`), or its dotted OID.
    #[error("algorithm {name} is not supported for {role}")]
    Algorithm {
        /// What it was used for.
        role: &'static str,
        /// Its name or dotted OID.
        name: String,
    },
    /// Signature or message digest is wrong.
    #[error("the signature does not verify")]
    SignatureInvalid,
    /// The signer is none of the pinned keys.
    #[error("the signer is not pinned")]
    SignerUnknown,
    /// No recipient names our key.
    #[error("the envelope is not for this key")]
    NotForUs,
    /// The envelope does not open: padding, key length, tag, content. One value for all, on purpose.
    #[error("the envelope does not open")]
    DoesNotOpen,
    /// A key or randomness failed on our side.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl CmsError {
    /// The code under which a SCEP message that fails so is reported. (A challenge blob that fails has reason
    /// codes of its own.)
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Malformed(_)
            | Self::Limit { .. }
            | Self::Structure { .. }
            | Self::Certificate(_) => Reason::MessageMalformed,
            Self::Algorithm { .. } => Reason::AlgorithmNotSupported,
            Self::SignatureInvalid | Self::SignerUnknown => Reason::MessageSignatureInvalid,
            Self::NotForUs => Reason::MessageNotForUs,
            Self::DoesNotOpen => Reason::MessageDecryptionFailed,
            Self::Key(_) => Reason::KeyUnavailable,
        }
    }
}

impl CmsError {
    /// The same error with offsets from the start of the message, where a part of it was read that starts at
    /// `start`.
    pub(crate) fn within(self, start: usize) -> Self {
        use TlvError as T;
        let from = |at: usize| at.saturating_add(start);
        match self {
            Self::Structure { what, at } => Self::Structure { what, at: from(at) },
            Self::Malformed(error) => Self::Malformed(match error {
                T::Truncated { at } => T::Truncated { at: from(at) },
                T::Tag { at, expected, got } => T::Tag { at: from(at), expected, got },
                T::LongTag { at } => T::LongTag { at: from(at) },
                T::Length { at } => T::Length { at: from(at) },
                T::Trailing { at } => T::Trailing { at: from(at) },
                T::Value { at, what } => T::Value { at: from(at), what },
            }),
            other => other,
        }
    }
}

pub(crate) const fn structure(what: &'static str, at: usize) -> CmsError {
    CmsError::Structure { what, at }
}
