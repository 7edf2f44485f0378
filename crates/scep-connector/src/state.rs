//! What the connector keeps durably: who it is at the issuer, whom it trusts, and how far it has listened.

use crate::ConnectorError;
use scep_link::TrustedKey;
use scep_types::{ConnectorId, GatewayGroupId, KeyId, SpkiDer, TenantId, Timestamp};
use std::path::{Path, PathBuf};

/// Whose challenges are accepted, and the keys that open them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// The tenant.
    pub tenant: TenantId,
    /// The gateway group.
    pub group: GatewayGroupId,
    /// The issuer's signing keys.
    pub signers: Vec<TrustedKey>,
    /// The decryption keys, the present one first.
    pub decryption: Vec<DecryptionState>,
}

/// A decryption key of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecryptionState {
    /// Its public half.
    pub key: SpkiDer,
    /// Until when it is kept after it was replaced; `None`: the present one.
    pub until: Option<Timestamp>,
}

/// The whole state, as in the file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct State {
    /// The connector's id.
    pub connector: ConnectorId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its gateway group.
    pub group: GatewayGroupId,
    /// The authentication key in use.
    pub authentication: KeyId,
    /// Whose challenges are accepted.
    pub trust: Trust,
    /// When the issuer was last heard.
    pub last_heard: Option<Timestamp>,
}

/// The file of the state: JSON, mode 0600, replaced as a whole (written beside, synced, renamed, folder synced).
#[derive(Clone, Debug)]
pub struct StateFile {
    pub(crate) path: PathBuf,
}

impl StateFile {
    /// At this path; nothing is read yet.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_path_buf() }
    }

    /// Reads it; `None` when there is no file: the gateway was never enrolled.
    ///
    /// # Errors
    /// When it cannot be read, or is none.
    pub fn read(&self) -> Result<Option<State>, ConnectorError> {
        todo!()
    }
}
