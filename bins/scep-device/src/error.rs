//! What can go wrong, and what to do about it.

use scep_client::ClientError;
use scep_keys::{KeyFileError, PublicFileError};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use thiserror::Error;

/// Why a command could not be done.
#[derive(Debug, Error)]
pub(crate) enum DeviceError {
    /// The exchange with the server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// A certificate file.
    #[error(transparent)]
    Public(#[from] PublicFileError),
    /// Another file.
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    /// An argument that is not acceptable.
    #[error("{option}: {why}")]
    Argument { option: &'static str, why: String },
    /// The file of the certificate to be written exists.
    #[error("{path} exists; nothing is overwritten", path = path.display())]
    Exists { path: PathBuf },
    /// The server has not decided.
    #[error("still pending; transaction {transaction}")]
    Pending { transaction: String, request: PathBuf },
    /// The runtime did not start.
    #[error("the runtime did not start: {0}")]
    Runtime(io::Error),
}

impl DeviceError {
    pub(crate) fn argument(option: &'static str, why: impl std::fmt::Display) -> Self {
        Self::Argument { option, why: why.to_string() }
    }

    /// What to do.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Client(ClientError::Refused { .. }) => Some(
                "The server's log has the reason, under the reference in the text; the challenge is \
                 not spent by a refusal."
                    .into(),
            ),
            Self::Client(ClientError::FingerprintMismatch { .. } | ClientError::Untrusted) => Some(
                "Either the fingerprint or CA given is not this server's, or somebody is in between."
                    .into(),
            ),
            Self::Pending { transaction, request } => Some(format!(
                "Later: scep-device poll --transaction {transaction} --request {} --key KEY --out CERT ...",
                request.display()
            )),
            Self::Exists { .. } => Some("Choose another --out.".into()),
            _ => None,
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Client(ClientError::Refused { .. }) => ExitCode::from(3),
            Self::Pending { .. } => ExitCode::from(4),
            Self::Client(_) | Self::Runtime(_) => ExitCode::from(1),
            Self::Key(_)
            | Self::Public(_)
            | Self::File { .. }
            | Self::Argument { .. }
            | Self::Exists { .. } => ExitCode::from(2),
        }
    }
}
