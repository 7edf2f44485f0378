//! The issuer's keys, and which connector is known to have which.

use crate::service::db::{Tx, values};
use crate::service::link::told::{self, Known};
use crate::service::store::StoreError;
use core::fmt;
use scep_link::{KeyChanges, MAX_KEY_CHANGES, TrustedKey, is_suitable};
use scep_types::{ConnectorId, GatewayGroupId, KeyAlgorithm, KeyId, Signer, TenantId, Timestamp};
use std::sync::Arc;
use thiserror::Error;

/// Most keys of one kind: a connector keeps no more.
const MOST: usize = 8;

/// A key of the issuer, and when it is valid.
#[derive(Clone, Debug)]
pub struct IssuerKey {
    /// The key.
    pub signer: Arc<dyn Signer>,
    /// From when on gateways are to accept it.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
}

impl IssuerKey {
    pub(crate) fn id(&self) -> KeyId {
        self.signer.public_key().key_id()
    }

    fn is_valid(&self, now: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    fn trusted(&self) -> TrustedKey {
        TrustedKey {
            key: self.signer.public_key().clone(),
            not_before: self.not_before,
            not_after: self.not_after,
        }
    }

    /// What a connector that has it knows of it.
    fn content(&self) -> String {
        format!("{} {}", self.not_before.seconds(), self.not_after.seconds())
    }
}

/// The keys of the issuer, at most 8 of each kind. No key is in both lists.
#[derive(Clone, Debug)]
pub struct IssuerKeys {
    /// Sign challenges. For a group with connectors the one with the latest beginning signs that is valid and that
    /// every confirmed connector of the group is known to have; for a group without, the first one that is valid.
    pub signing: Vec<IssuerKey>,
    /// Sign the answers to check-ins. The first one that is valid signs, once the connector is known to have it.
    pub command: Vec<IssuerKey>,
}

/// Why keys are none for an issuer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IssuerKeysError {
    /// None that signs challenges.
    #[error("no key signs challenges")]
    NoSigningKey,
    /// Connectors are served, and no key signs the answers to them.
    #[error("connectors are served, and there is no command key")]
    NoCommandKey,
    /// More than a connector keeps.
    #[error("{got} keys of one kind; at most {MOST} are allowed")]
    TooMany {
        /// How many.
        got: usize,
    },
    /// Neither P-256 nor RSA of 2,048 to 4,096 bits.
    #[error("key {key} is {algorithm}; P-256 and RSA of 2,048 to 4,096 bits are allowed")]
    UnsuitableKey {
        /// Which.
        key: KeyId,
        /// Its algorithm.
        algorithm: KeyAlgorithm,
    },
    /// One key twice, or in both roles.
    #[error(
        "key {key} is given twice; signing challenges and signing commands need keys of their own"
    )]
    SharedKey {
        /// Which.
        key: KeyId,
    },
    /// A validity that ends before it begins.
    #[error("key {key} is never valid")]
    NeverValid {
        /// Which.
        key: KeyId,
    },
}

impl IssuerKeys {
    /// One key, for challenges, at all times: an issuer without connectors.
    pub(crate) fn single(signer: Arc<dyn Signer>) -> Self {
        let (not_before, not_after) = (Timestamp::EPOCH, Timestamp::MAX);
        let key = IssuerKey { signer, not_before, not_after };
        Self { signing: vec![key], command: Vec::new() }
    }

    /// That they can be the keys of an issuer.
    pub(crate) fn check(&self) -> Result<(), IssuerKeysError> {
        if self.signing.is_empty() {
            return Err(IssuerKeysError::NoSigningKey);
        }
        for keys in [&self.signing, &self.command] {
            if keys.len() > MOST {
                return Err(IssuerKeysError::TooMany { got: keys.len() });
            }
        }
        let mut seen = Vec::new();
        for key in self.signing.iter().chain(&self.command) {
            let (id, algorithm) = (key.id(), key.signer.public_key().algorithm());
            if !is_suitable(algorithm) {
                return Err(IssuerKeysError::UnsuitableKey { key: id, algorithm });
            }
            if key.not_before >= key.not_after {
                return Err(IssuerKeysError::NeverValid { key: id });
            }
            if seen.contains(&id) {
                return Err(IssuerKeysError::SharedKey { key: id });
            }
            seen.push(id);
        }
        Ok(())
    }

    /// Whether one of them is this key.
    pub(crate) fn has(&self, id: KeyId) -> bool {
        self.signing.iter().chain(&self.command).any(|key| key.id() == id)
    }

    fn of(&self, role: Role) -> &[IssuerKey] {
        match role {
            Role::Signing => &self.signing,
            Role::Command => &self.command,
        }
    }
}

/// What a key of the issuer signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Signing,
    Command,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signing => "signing",
            Self::Command => "command",
        })
    }
}

const RETIRED: &str = "retired";

fn topic(role: Role, id: KeyId) -> String {
    format!("{role} {id}")
}

/// What a new connector is given with its id.
#[derive(Debug)]
pub(crate) struct Introduction {
    pub(crate) signer_keys: Vec<TrustedKey>,
    pub(crate) command_keys: Vec<TrustedKey>,
    pub(crate) last_sequence: u64,
}

/// Introduces the issuer to a connector, in the transaction that enrols it: what the answer to the enrolment brings is
/// known to the connector from then on, since without that answer it is none. Repeated, it gives the present keys.
pub(crate) fn introduce(
    tx: &Tx<'_>,
    connector: ConnectorId,
    keys: &IssuerKeys,
    now: Timestamp,
) -> Result<Introduction, StoreError> {
    let sequence = told::begin(tx, connector)?;
    let give = |role: Role| {
        let mut given = Vec::new();
        for key in keys.of(role).iter().filter(|key| key.not_after > now) {
            told::know(tx, connector, &topic(role, key.id()), &key.content(), sequence)?;
            given.push(key.trusted());
        }
        Ok::<_, StoreError>(given)
    };
    let signer_keys = give(Role::Signing)?;
    let command_keys = give(Role::Command)?;
    let last_sequence = u64::try_from(sequence).unwrap_or(0);
    Ok(Introduction { signer_keys, command_keys, last_sequence })
}

/// What a connector is to be told about the keys of one kind: those that it is not known to have with this validity,
/// and those that it is known to have and that are none any more. Puts what is told into `sent`.
pub(crate) fn changes(
    keys: &IssuerKeys,
    role: Role,
    known: &Known,
    now: Timestamp,
    sent: &mut Vec<(String, String)>,
) -> KeyChanges {
    let mut changes = KeyChanges::default();
    let mut wanted = Vec::new();
    for key in keys.of(role).iter().filter(|key| key.not_after > now) {
        let (topic, content) = (topic(role, key.id()), key.content());
        if known.get(&topic) != Some(&content) && changes.add.len() < MAX_KEY_CHANGES {
            changes.add.push(key.trusted());
            sent.push((topic.clone(), content));
        }
        wanted.push(topic);
    }
    for id in had(known, role) {
        let topic = topic(role, id);
        if !wanted.contains(&topic) && changes.retire.len() < MAX_KEY_CHANGES {
            changes.retire.push(id);
            sent.push((topic, RETIRED.to_owned()));
        }
    }
    changes
}

/// The keys of one kind that a connector with this knowledge has.
pub(crate) fn had(known: &Known, role: Role) -> impl Iterator<Item = KeyId> {
    let role = format!("{role} ");
    let present = known.iter().filter(|(_, content)| *content != RETIRED);
    present.filter_map(move |(topic, _)| topic.strip_prefix(&role).and_then(KeyId::from_hex))
}

/// Whether a connector with this knowledge accepts the key now.
fn accepts(content: Option<&String>, now: Timestamp) -> bool {
    content.and_then(|content| content.split_once(' ')).is_some_and(|(from, until)| {
        let at = |text: &str| text.parse().ok().map(Timestamp::from_seconds);
        at(from).zip(at(until)).is_some_and(|(from, until)| (from..=until).contains(&now))
    })
}

/// The key that signs the answer to a connector: the first one that is valid and that it accepts. Of one that is not
/// known to accept any, the oldest valid one is the likeliest.
pub(crate) fn command_key(
    keys: &IssuerKeys,
    known: &Known,
    now: Timestamp,
) -> Option<Arc<dyn Signer>> {
    let mut valid = keys.command.iter().filter(|key| key.is_valid(now));
    let accepted = |key: &&IssuerKey| accepts(known.get(&topic(Role::Command, key.id())), now);
    let first = valid.clone().find(accepted);
    let oldest = || valid.by_ref().min_by_key(|key| key.not_before);
    first.or_else(oldest).map(|key| Arc::clone(&key.signer))
}

/// Why no key signs a challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoSigner {
    /// None is valid now.
    NoneValid,
    /// None that is valid is known to every gateway of the group.
    NotKnown,
    /// The database.
    Store(StoreError),
}

impl From<StoreError> for NoSigner {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The key that signs challenges for a group: the newest that is valid and that each of its confirmed, active
/// connectors accepts. A connector that accepts no valid one cannot be served whichever signs, and holds nothing up. A
/// group without connectors has the first valid one.
pub(crate) fn signing_key(
    tx: &Tx<'_>,
    keys: &IssuerKeys,
    tenant: &TenantId,
    group: &GatewayGroupId,
    now: Timestamp,
) -> Result<Arc<dyn Signer>, NoSigner> {
    let mut valid: Vec<&IssuerKey> = keys.signing.iter().filter(|key| key.is_valid(now)).collect();
    let Some(first) = valid.first().copied() else { return Err(NoSigner::NoneValid) };
    let sql = "SELECT id FROM connector WHERE tenant = ?1 AND gateway_group = ?2 \
               AND membership = 'confirmed' AND standing = 'active'";
    let connectors: Vec<String> =
        tx.query(sql, values![tenant.as_str(), group.as_str()], |row| row.get(0))?;
    if connectors.is_empty() {
        return Ok(Arc::clone(&first.signer));
    }
    let mut accepted: Vec<Vec<KeyId>> = Vec::new();
    for connector in &connectors {
        let known = told::known(tx, connector)?;
        let has = |key: &&&IssuerKey| accepts(known.get(&topic(Role::Signing, key.id())), now);
        let keys: Vec<KeyId> = valid.iter().filter(has).map(|key| key.id()).collect();
        if !keys.is_empty() {
            accepted.push(keys);
        }
    }
    valid.sort_by_key(|key| core::cmp::Reverse(key.not_before));
    let by_all = |key: &&&IssuerKey| {
        !accepted.is_empty() && accepted.iter().all(|keys| keys.contains(&key.id()))
    };
    let newest = valid.iter().find(by_all).ok_or(NoSigner::NotKnown)?;
    Ok(Arc::clone(&newest.signer))
}
