//! Why something could not be checked. (Why it was refused is a verdict, not an error.)

use scep_keys::{KeyFileError, PublicFileError};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why something could not be checked.
#[derive(Debug, Error)]
pub(crate) enum VerifierError {
    /// A file could not be read.
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    /// An argument that is not acceptable.
    #[error("{option}: {why}")]
    Argument { option: &'static str, why: String },
    /// The decryption key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// A public key.
    #[error(transparent)]
    Public(#[from] PublicFileError),
    /// The ledger.
    #[error("ledger: {0}")]
    Ledger(#[from] scep_ledger::LedgerError),
    /// TLS cannot be offered.
    #[error("TLS: {0}")]
    Tls(String),
    /// The port cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen { address: std::net::SocketAddr, source: io::Error },
    /// The runtime did not start.
    #[error("the runtime did not start: {0}")]
    Runtime(io::Error),
}

impl VerifierError {
    pub(crate) fn argument(option: &'static str, why: impl std::fmt::Display) -> Self {
        Self::Argument { option, why: why.to_string() }
    }

    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
