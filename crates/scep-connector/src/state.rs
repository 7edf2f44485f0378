//! What the connector keeps durably: who it is at the issuer, whom it trusts, and how far it has listened.

use crate::ConnectorError;
use crate::keys::KeySlot;
use crate::text::Octets;
use scep_link::{Membership, PossessionProof, TrustedKey};
use scep_types::{
    CertificateDer, ConnectorId, GatewayGroupId, GatewayName, KeyId, LedgerId, OrderId, SpkiDer,
    SpkiHash, TenantId, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Beyond this it is no state of ours.
const MAX_FILE: u64 = 4 << 20;

/// Whose challenges are accepted, and the keys that open them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// The tenant.
    #[serde(with = "crate::text")]
    pub tenant: TenantId,
    /// The gateway group.
    #[serde(with = "crate::text")]
    pub group: GatewayGroupId,
    /// The issuer's signing keys.
    pub signers: Vec<TrustedKey>,
    /// The decryption keys, the present one first.
    pub decryption: Vec<DecryptionState>,
}

/// A decryption key of the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecryptionState {
    /// Its public half.
    #[serde(with = "crate::text")]
    pub key: SpkiDer,
    /// Until when it is kept after it was replaced; `None`: in use. (Two are in use until the issuer has seen that the
    /// new one can be used.)
    #[serde(with = "crate::text::option")]
    pub until: Option<Timestamp>,
}

/// The whole state, as in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct State {
    /// The connector's id.
    #[serde(with = "crate::text")]
    pub connector: ConnectorId,
    /// Its tenant.
    #[serde(with = "crate::text")]
    pub tenant: TenantId,
    /// Its gateway group.
    #[serde(with = "crate::text")]
    pub group: GatewayGroupId,
    /// How its operator calls the gateway.
    #[serde(with = "crate::text")]
    pub gateway: GatewayName,
    /// Whether an operator of the tenant had confirmed the gateway when it enrolled.
    pub membership: Membership,
    /// The authentication key in use.
    #[serde(with = "crate::text")]
    pub authentication: KeyId,
    /// Its certificate.
    #[serde(with = "crate::text")]
    pub certificate: CertificateDer,
    /// The certificates above that one.
    #[serde(with = "crate::text::list")]
    pub certified_by: Vec<CertificateDer>,
    /// The keys that the issuer's TLS certificate may have.
    #[serde(with = "crate::text::list")]
    pub tls_pins: Vec<SpkiHash>,
    /// Whose challenges are accepted.
    pub trust: Trust,
    /// The keys whose answers to check-ins count.
    pub command_keys: Vec<TrustedKey>,
    /// The ledger that the issuer knows of.
    #[serde(with = "crate::text")]
    pub ledger: LedgerId,
    /// Whether the issuer has bound the group to another ledger than this gateway's.
    pub another_ledger: bool,
    /// When the issuer was last heard.
    #[serde(with = "crate::text::option")]
    pub last_heard: Option<Timestamp>,
    /// The highest sequence of commands that was accepted.
    pub last_sequence: u64,
    /// Up to where the denials in the ledger are the issuer's.
    pub denial_cursor: u64,
    /// What shows possession of decryption keys, until the issuer has seen it.
    pub(crate) proofs: Vec<PossessionProof>,
    /// The authentication key that is being renewed.
    pub(crate) next_authentication: Option<NextAuthentication>,
    /// The decryption key that is being renewed.
    pub(crate) next_decryption: Option<NextDecryption>,
    /// Keys to be destroyed.
    pub(crate) retired: Vec<Retired>,
    /// Renewals that were ordered and are done, the latest last.
    #[serde(with = "crate::text::list")]
    pub(crate) orders_done: Vec<OrderId>,
}

impl State {
    /// Whether a key is one of those in use, or about to be.
    pub(crate) fn uses(&self, key: &Retired) -> bool {
        match key.slot {
            KeySlot::Authentication => {
                self.authentication == key.key
                    || self.next_authentication.as_ref().is_some_and(|next| next.key == key.key)
            }
            KeySlot::Decryption => {
                self.trust.decryption.iter().any(|held| held.key.key_id() == key.key)
                    || self.next_decryption.as_ref().is_some_and(|next| next.key == key.key)
            }
        }
    }
}

/// A new authentication key, with its request: the same one however often it is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NextAuthentication {
    #[serde(with = "crate::text")]
    pub(crate) key: KeyId,
    #[serde(with = "crate::text")]
    pub(crate) request: Octets,
    #[serde(with = "crate::text::option")]
    pub(crate) order: Option<OrderId>,
}

/// A new decryption key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NextDecryption {
    #[serde(with = "crate::text")]
    pub(crate) key: KeyId,
    #[serde(with = "crate::text::option")]
    pub(crate) order: Option<OrderId>,
}

/// A key to be destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retired {
    pub(crate) slot: KeySlot,
    #[serde(with = "crate::text")]
    pub(crate) key: KeyId,
}

/// An enrolment whose answer has not come yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pending {
    /// Of which token; the token itself is not kept.
    pub(crate) token_sha256: String,
    #[serde(with = "crate::text")]
    pub(crate) authentication: KeyId,
    #[serde(with = "crate::text")]
    pub(crate) request: Octets,
    #[serde(with = "crate::text")]
    pub(crate) decryption: KeyId,
    /// Whether the decryption key was made for this enrolment.
    pub(crate) made: bool,
}

/// The file's contents.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contents {
    v: u32,
    pub(crate) enrolled: Option<State>,
    pub(crate) pending: Option<Pending>,
}

impl Contents {
    pub(crate) const fn new(enrolled: Option<State>, pending: Option<Pending>) -> Self {
        Self { v: 1, enrolled, pending }
    }
}

/// The file of the state: JSON, mode 0600, replaced as a whole (written beside, synced, renamed, folder synced).
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
}

/// Keeps other processes from the state for as long as it lives.
#[derive(Clone, Debug)]
pub(crate) struct StateLock {
    _file: Arc<File>,
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
        Ok(self.contents()?.enrolled)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, why: impl ToString) -> ConnectorError {
        ConnectorError::State { path: self.path.clone(), why: why.to_string() }
    }

    pub(crate) fn contents(&self) -> Result<Contents, ConnectorError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Contents::new(None, None));
            }
            Err(error) => return Err(self.failed(error)),
        };
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            let mode = file.metadata().map_err(|error| self.failed(error))?.mode() & 0o777;
            // Who can write it decides whom the gateway trusts.
            if mode & 0o077 != 0 {
                return Err(self.failed(format!("mode {mode:o}; others must have no access (600)")));
            }
        }
        let mut text = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut text).map_err(|error| self.failed(error))?;
        let contents: Contents =
            serde_json::from_slice(&text).map_err(|error| self.failed(error))?;
        if contents.v != 1 {
            return Err(self.failed("another version has written it"));
        }
        Ok(contents)
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(suffix);
        name.into()
    }

    /// Only one process at a time changes the state.
    pub(crate) fn lock(&self) -> Result<StateLock, ConnectorError> {
        let path = self.beside(".lock");
        let file = private(OpenOptions::new().write(true).create(true).truncate(false))
            .open(&path)
            .map_err(|error| self.failed(error))?;
        match file.try_lock() {
            Ok(()) => Ok(StateLock { _file: Arc::new(file) }),
            Err(TryLockError::WouldBlock) => {
                Err(ConnectorError::StateInUse { path: self.path.clone() })
            }
            Err(TryLockError::Error(error)) => Err(self.failed(error)),
        }
    }

    /// Durable when this returns. Some milliseconds of the calling thread, at most once a check-in.
    pub(crate) fn write(&self, contents: &Contents, _: &StateLock) -> Result<(), ConnectorError> {
        let text = serde_json::to_vec_pretty(contents).map_err(|error| self.failed(error))?;
        self.replace(&text).map_err(|error| self.failed(error))
    }

    fn replace(&self, text: &[u8]) -> std::io::Result<()> {
        let new = self.beside(".new");
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = private(OpenOptions::new().write(true).create_new(true)).open(&new)?;
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        #[cfg(unix)]
        {
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
        }
        Ok(())
    }
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options
}
