//! What can go wrong, and what to do about it.

use scep_client::ClientError;
use scep_keys::{KeyFileError, PublicFileError};
use scep_types::Reason;
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
    /// The folder of a file to be written does not.
    #[error("there is no folder for {path}", path = path.display())]
    NoFolder { path: PathBuf },
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
            // Our gateway's texts end so.
            Self::Client(ClientError::Refused { text: Some(text), .. })
                if text.contains("(ref ") =>
            {
                Some(
                    "The server's log has the reason under that reference. A refusal spends no \
                     challenge."
                        .into(),
                )
            }
            Self::Client(ClientError::Refused { .. }) => {
                Some("Only the server's log can say more.".into())
            }
            Self::Client(ClientError::Reply(error))
                if error.reason() == Reason::AlgorithmNotSupported =>
            {
                Some(
                    "RFC 8894 replaced SHA-1 and 3DES; --legacy accepts them from servers that still \
                     use them."
                        .into(),
                )
            }
            Self::Client(ClientError::FingerprintMismatch { .. } | ClientError::Untrusted) => Some(
                "Either the fingerprint or CA given is not this server's, or somebody is in between."
                    .into(),
            ),
            Self::Client(ClientError::NoChallengeToOpenWith { .. }) => {
                Some("Give --challenge or --challenge-file, or use an RSA key.".into())
            }
            Self::Pending { transaction, request } => Some(format!(
                "Later: scep-device poll --transaction {transaction} --request {} --key KEY --out CERT ...",
                request.display()
            )),
            Self::Exists { .. } => Some("Choose another name for it.".into()),
            _ => None,
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Client(ClientError::Refused { .. }) => ExitCode::from(3),
            Self::Pending { .. } => ExitCode::from(4),
            Self::Client(ClientError::NoChallengeToOpenWith { .. }) => ExitCode::from(2),
            Self::Client(_) | Self::Runtime(_) => ExitCode::from(1),
            Self::Key(_)
            | Self::Public(_)
            | Self::File { .. }
            | Self::Argument { .. }
            | Self::Exists { .. }
            | Self::NoFolder { .. } => ExitCode::from(2),
        }
    }
}
