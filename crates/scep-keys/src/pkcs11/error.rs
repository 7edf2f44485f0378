//! Why a key on a token could not be used.

use crate::error::{KeyFileError, KeyProblem};
use cryptoki::error::{Error as CkError, RvError};
use scep_types::{Fault, KeyError};
use std::path::PathBuf;
use thiserror::Error;

/// Why a key on a token could not be opened, made or used. Keys are named by their URI without its query.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Pkcs11Error {
    /// The library of the token.
    #[error("{}: cannot load this PKCS #11 library: {why}", path.display())]
    Module {
        /// Its path.
        path: PathBuf,
        /// As the loader or the library says.
        why: String,
    },
    /// No token, or several, of this name.
    #[error(
        "{key}: {count} tokens of this name are there, and it takes one; `pkcs11-tool -L` lists them"
    )]
    Token {
        /// Which key was looked for.
        key: String,
        /// How many there are.
        count: usize,
    },
    /// No key, or several, of this name.
    #[error(
        "{key}: {count} private keys of this name are on the token, and it takes one; `pkcs11-tool -l -O` lists them"
    )]
    Count {
        /// Which key was looked for.
        key: String,
        /// How many there are.
        count: usize,
    },
    /// One is there, and is not overwritten.
    #[error("{key}: a key of this name is on the token already")]
    Exists {
        /// Which.
        key: String,
    },
    /// The file of the PIN.
    #[error("the PIN's file: {0}")]
    PinFile(KeyFileError),
    /// A PIN is one line of text.
    #[error("{place}: holds no PIN: one line of text is one")]
    PinText {
        /// The file or variable.
        place: String,
    },
    /// The environment variable of the PIN is not set.
    #[error("the environment variable {name}, which should hold the PIN, is not set")]
    PinMissing {
        /// Its name.
        name: String,
    },
    /// Two URIs name one token and two places of its PIN.
    #[error("{key}: another key of the same token names another pin-source; a token has one PIN")]
    PinTwice {
        /// The later one.
        key: String,
    },
    /// The token does not take the PIN.
    #[error(
        "{token}: refuses the PIN ({why}); it is not tried again before the next start, as tokens lock themselves"
    )]
    PinRefused {
        /// Which token.
        token: String,
        /// As the token says.
        why: String,
    },
    /// One wrong PIN more and the token locks itself.
    #[error(
        "{token}: one try of the PIN is left; log in by hand first, for example with `pkcs11-tool -l -O`"
    )]
    PinFinalTry {
        /// Which token.
        token: String,
    },
    /// There is no public half of it on the token.
    #[error("{key}: the token has neither a public key nor a certificate with the same CKA_ID")]
    NoPublicKey {
        /// Which key.
        key: String,
    },
    /// The key itself.
    #[error("{key}: {problem}")]
    Key {
        /// Which.
        key: String,
        /// What is wrong with it.
        problem: KeyProblem,
    },
    /// Its attributes, or the token's mechanisms, do not allow what it is for.
    #[error("{key}: {why}")]
    Usage {
        /// Which key.
        key: String,
        /// What is not possible, and what to do.
        why: &'static str,
    },
    /// The token failed, also at a second attempt with a new session.
    #[error("{key}: {why}")]
    Failed {
        /// Which key.
        key: String,
        /// What was tried and what the token said.
        why: String,
    },
    /// All sessions were in use for too long.
    #[error("{key}: no session of the token became free")]
    Busy {
        /// Which key.
        key: String,
    },
}

impl Pkcs11Error {
    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::PinFile(error) => error.fault(),
            Self::Token { count: 0, .. } | Self::Failed { .. } | Self::Busy { .. } => {
                Fault::OurDependency
            }
            Self::Module { .. }
            | Self::Token { .. }
            | Self::Count { .. }
            | Self::Exists { .. }
            | Self::PinText { .. }
            | Self::PinMissing { .. }
            | Self::PinTwice { .. }
            | Self::PinRefused { .. }
            | Self::PinFinalTry { .. }
            | Self::NoPublicKey { .. }
            | Self::Key { .. }
            | Self::Usage { .. } => Fault::OurConfiguration,
        }
    }
}

impl From<Pkcs11Error> for KeyError {
    fn from(error: Pkcs11Error) -> Self {
        Self::Unavailable { why: error.to_string() }
    }
}

/// One call of a token's library: what it said in one short line.
pub(crate) fn said(error: &CkError) -> String {
    match error {
        // The library's constants, rather than the paragraphs that explain them.
        CkError::Pkcs11(code, function) => format!("{function} says {code:?}"),
        other => other.to_string(),
    }
}

/// Whether a new session, a new login or another look for the key may mend it.
pub(crate) const fn lost(error: &CkError) -> bool {
    matches!(
        error,
        CkError::Pkcs11(
            RvError::UserNotLoggedIn
                | RvError::SessionHandleInvalid
                | RvError::SessionClosed
                | RvError::DeviceRemoved
                | RvError::DeviceError
                | RvError::TokenNotPresent
                | RvError::TokenNotRecognized
                | RvError::KeyHandleInvalid
                | RvError::ObjectHandleInvalid
                | RvError::SlotIdInvalid
                | RvError::CryptokiNotInitialized
                // What some libraries say for the above.
                | RvError::GeneralError
                | RvError::FunctionFailed,
            _
        )
    )
}
