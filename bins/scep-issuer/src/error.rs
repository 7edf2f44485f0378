//! What can go wrong, and what to do about it.

use crate::admin::client::ApiError;
use scep_ca::CaError;
use scep_issuance::service::{
    GroupError, IssuerKeysError, ListenError, StoreError, TlsError, TokenError,
};
use scep_issuance::{AttributesError, MintError, MinterError, ProfileError};
use scep_keys::{KeyFileError, OpenKeyError, PublicFileError, SharedKey};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a command could not be done.
#[derive(Debug, Error)]
pub(crate) enum IssuerError {
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    /// The configuration is not TOML of the known keys.
    #[error("{path}: {source}", path = path.display())]
    Toml { path: PathBuf, source: Box<toml::de::Error> },
    /// The configuration cannot be written as TOML.
    #[error("the configuration cannot be written: {0}")]
    Write(Box<toml::ser::Error>),
    /// A value is not acceptable.
    #[error("{key}: {why}")]
    Config { key: String, why: String },
    /// A private key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// A key of the configuration, in a file or on a token.
    #[error(transparent)]
    OpenKey(#[from] OpenKeyError),
    /// A public key file.
    #[error(transparent)]
    Public(#[from] PublicFileError),
    /// Two purposes are served by one key.
    #[error(transparent)]
    Shared(#[from] SharedKey),
    /// The issuer's keys cannot be used.
    #[error(transparent)]
    Keys(#[from] IssuerKeysError),
    /// A certificate of the issuer's own could not be made.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The service did not do it.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The profile.
    #[error("{path}: {source}", path = path.display())]
    Profile { path: PathBuf, source: ProfileError },
    /// The attributes.
    #[error(transparent)]
    Attributes(#[from] AttributesError),
    /// The keys cannot be used for challenges.
    #[error(transparent)]
    Minter(#[from] MinterError),
    /// The challenge could not be made.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// There is no section `service`.
    #[error("service: the configuration has no such section")]
    NoService,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No token was made.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A gateway group of the configuration.
    #[error("gateway_groups: {0}")]
    Group(#[from] GroupError),
    /// TLS cannot be offered.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The service cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The system refuses threads or signals.
    #[error("the runtime: {0}")]
    Runtime(io::Error),
    /// No group of this id.
    #[error("there is no gateway group {id}")]
    NoSuchGroup { id: String },
    /// A group must be named.
    #[error("{}", which_group(*count))]
    WhichGroup { count: usize },
}

fn which_group(count: usize) -> String {
    match count {
        0 => "no gateway group has been added yet".to_owned(),
        _ => format!("there are {count} gateway groups, and --group does not say which"),
    }
}

impl IssuerError {
    /// What to do.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::WhichGroup { count: 0 } | Self::NoSuchGroup { .. } => Some(
                "scep-issuer add-gateway --config FILE --group GROUP --public-key challenge.pub.pem takes one up; GROUP \
                 is what `scep-gateway init --group` was given.",
            ),
            Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("scep-issuer init --dir DIR --tenant ID makes a complete folder.")
            }
            Self::NoService | Self::Toml { .. } => {
                Some("issuer.example.toml explains every key; unknown keys are refused.")
            }
            Self::Api(ApiError::Problem { status: 401, .. }) => {
                Some("scep-issuer token create makes a token; token list shows which are good.")
            }
            Self::Api(ApiError::Unreachable { why, .. }) if why.contains("certificate") => Some(
                "--ca-file tls.pem, or --pin with what `scep-issuer fingerprint` prints, says whom to trust. A proxy \
                 that opens TLS cannot be used.",
            ),
            _ => None,
        }
    }

    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    pub(crate) fn config(key: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Config { key: key.into(), why: why.to_string() }
    }
}
