//! What can stop the binary, each with what to do about it.

use scep_connector::ConnectorError;
use scep_keys::{KeyFileError, OpenKeyError, PublicFileError};
use scep_link::{AnswerError, ErrorCode};
use scep_types::AuthorityName;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use thiserror::Error;

/// Why a command could not be done. The first line says what happened, [`GatewayError::hint`] what to do.
#[derive(Debug, Error)]
pub(crate) enum GatewayError {
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    /// The configuration is not TOML of the known keys.
    #[error("{path}: {source}", path = path.display())]
    Toml { path: PathBuf, source: Box<toml::de::Error> },
    /// A value of the configuration is not acceptable.
    #[error("configuration: {key}: {why}")]
    Config { key: String, why: String },
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// A key of the configuration, in a file or on a token.
    #[error(transparent)]
    OpenKey(#[from] OpenKeyError),
    /// A file of public keys or certificates.
    #[error(transparent)]
    Public(#[from] PublicFileError),
    /// No suffix was given and nobody can be asked.
    #[error("no name suffix is allowed yet")]
    NoSuffix,
    /// The configured CAs and endpoints do not fit together.
    #[error(transparent)]
    Parts(#[from] scep_server::PartsError),
    /// A port could not be had.
    #[error("cannot listen on {address}: {source}")]
    Listen { address: std::net::SocketAddr, source: io::Error },
    /// The ledger.
    #[error("ledger: {}", causes(.0))]
    Ledger(#[from] scep_ledger::LedgerError),
    /// The link to the issuer.
    #[error("{0}")]
    Connector(#[from] ConnectorError),
    /// The configuration names an issuer, and the gateway has not enrolled with it.
    #[error("this gateway is not enrolled: {} does not exist", state.display())]
    NotEnrolled { state: PathBuf },
    /// The state is of an enrolment with another ledger.
    #[error("this gateway enrolled with ledger {enrolled}, and the configuration's is {present}")]
    AnotherLedger { enrolled: String, present: String },
    /// The group's key could not be exported or imported.
    #[error("{}: {why}", path.display())]
    Exchange { path: PathBuf, why: String },
    /// The CA.
    #[error("CA: {0}")]
    Ca(#[from] scep_ca::CaError),
    /// OpenBao is not as the gateway needs it.
    #[cfg(feature = "openbao")]
    #[error("the CA in OpenBao: {why}")]
    OpenBao { why: String, commands: Vec<String> },
    /// Revocation.
    #[error("{0}")]
    Revocation(#[from] scep_server::RevocationError),
    /// A certificate that should be revoked.
    #[error("no certificate with serial number {serial} was issued here")]
    NotIssued { serial: String },
    /// No such request is known to wait.
    #[error("no request {row} waits, or was decided on and not fetched since")]
    NoSuchRequest { row: u64 },
    /// The running gateway did not do what an operator asked for.
    #[error("the gateway at {address}: {why}")]
    Operator { address: std::net::SocketAddr, why: String },
    /// The gateway runs, and shows nobody what waits.
    #[error("the gateway runs, and `admin_token` is not in its configuration")]
    NoAdminToken,
    /// The runtime did not start.
    #[error("the runtime did not start: {0}")]
    Runtime(io::Error),
    /// A step of the demo that must work did not.
    #[error("demo: {0}")]
    Demo(String),
}

/// An error with what lies beneath it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut beneath = error.source();
    while let Some(cause) = beneath {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        beneath = cause.source();
    }
    text
}

impl GatewayError {
    /// What to do.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::File { path, source } if source.kind() == io::ErrorKind::NotFound => Some(format!(
                "{} does not exist. `scep-gateway init` makes a complete folder.",
                path.display()
            )),
            Self::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("Run as the user that owns the file, or give that user the right to it.".into())
            }
            Self::Toml { .. } => Some(
                "config.example.toml beside the binary's source explains every key; unknown keys are refused."
                    .into(),
            ),
            Self::Ledger(scep_ledger::LedgerError::InUse { .. }) => Some(
                "The gateway is running and has the ledger to itself: stop it, do this again, and start it.".into(),
            ),
            Self::Ledger(scep_ledger::LedgerError::NotHeld) | Self::NoSuchRequest { .. } => Some(
                "`scep-gateway held list` has the numbers of those that can be decided on.".into(),
            ),
            Self::NoAdminToken => Some(
                "Write 32 random characters or more into a file of mode 600, name it in `admin_token`, and start the \
                 gateway anew; or stop the gateway, and do this again."
                    .into(),
            ),
            Self::NotIssued { .. } => Some(
                "Give the serial number as `openssl x509 -noout -serial` prints it.".into(),
            ),
            Self::Connector(ConnectorError::Answer {
                error: AnswerError::Refused { code: ErrorCode::KeyNotAccepted, .. },
                ..
            }) => Some(
                "A group of several gateways: `connector export` at one of them and `connector import` here. A gateway \
                 that was removed from its group: `enroll --new-decryption-key`."
                    .into(),
            ),
            Self::NotEnrolled { .. } => Some(
                "Get a token and the issuer's fingerprint from its operator, and run `scep-gateway enroll`.".into(),
            ),
            Self::AnotherLedger { .. } => Some(
                "A gateway group has one ledger for good: put the ledger back that was there, or have the issuer's \
                 operator release the group and enrol again."
                    .into(),
            ),
            #[cfg(feature = "openbao")]
            Self::OpenBao { commands, .. } if !commands.is_empty() => Some(format!(
                "Have its operator run, and do this again:\n\n{}",
                commands.join("\n")
            )),
            Self::NoSuffix => Some(
                "Give --allow-suffix example.org (repeatable): which names this site may certify.".into(),
            ),
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Some("Another program has the port: choose another with `listen`.".into())
            }
            _ => None,
        }
    }

    /// 2 for what the caller can mend in arguments and files, 1 for the rest.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Runtime(_)
            | Self::Demo(_)
            | Self::Ledger(_)
            | Self::Connector(_)
            | Self::Revocation(_)
            | Self::Operator { .. }
            | Self::Ca(_) => ExitCode::from(1),
            _ => ExitCode::from(2),
        }
    }

    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// Names the CA whose configuration is wrong, where there are several.
    pub(crate) fn of_authority(self, name: &AuthorityName) -> Self {
        match self {
            Self::Config { key, why } if *name != AuthorityName::main() => {
                Self::Config { key: format!("authorities {name}: {key}"), why }
            }
            other => other,
        }
    }

    pub(crate) fn config(key: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Config { key: key.into(), why: why.to_string() }
    }
}
