//! Which keys may be used, and which one the challenges of a group are encrypted to.
//!
//! A group has one decryption key at a time. A gateway brings it; the group has it once a member that an operator has
//! confirmed has proven it. A member that renews it replaces it for all, with its proof: from then on the others open no
//! new challenge until the new key was brought to them (`has_group_key` in the API tells who has it). What was replaced
//! is listed for as long as a challenge that was made for it may be presented.

use crate::service::Service;
use crate::service::db::{Row, Tx, values};
use crate::service::link::answer::Refusal;
use crate::service::renewals;
use crate::service::store::StoreError;
use core::time::Duration;
use scep_ca::CertificateAuthority as _;
use scep_link::{ErrorCode, LedgerKind, RenewalSubject};
use scep_types::{
    ConnectorId, GatewayGroupId, KeyAlgorithm, KeyId, LedgerId, SpkiDer, SpkiHash, TenantId,
    Timestamp,
};

/// Within what time a key is to be replaced that a gateway knows that has left.
const ROTATION_TIME: Duration = Duration::from_secs(24 * 3600);

/// What a key is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyPurpose {
    Authentication,
    Decryption,
}

impl KeyPurpose {
    const fn name(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Decryption => "decryption",
        }
    }
}

/// What a key is or was in use for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Use {
    tenant: String,
    group: String,
    purpose: String,
}

impl Use {
    /// As a decryption key of this group.
    fn is_decryption_of(&self, tenant: &TenantId, group: &GatewayGroupId) -> bool {
        self.purpose == KeyPurpose::Decryption.name()
            && self.tenant == tenant.as_str()
            && self.group == group.as_str()
    }
}

/// What a key is or was in use for, with any tenant.
pub(crate) fn use_of(tx: &Tx<'_>, key: KeyId) -> Result<Option<Use>, StoreError> {
    tx.one(
        "SELECT tenant, gateway_group, purpose FROM used_key WHERE key_id = ?1",
        values![key.as_bytes()],
        |row| Ok(Use { tenant: row.get(0)?, group: row.get(1)?, purpose: row.get(2)? }),
    )
}

/// Writes down that a key is in use. False: it is, or was, for something else.
pub(crate) fn take(
    tx: &Tx<'_>,
    key: KeyId,
    tenant: &TenantId,
    group: &GatewayGroupId,
    purpose: KeyPurpose,
) -> Result<bool, StoreError> {
    let new = tx.execute(
        "INSERT INTO used_key (key_id, tenant, gateway_group, purpose) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT DO NOTHING",
        values![key.as_bytes(), tenant.as_str(), group.as_str(), purpose.name()],
    )?;
    if new > 0 {
        return Ok(true);
    }
    let known = use_of(tx, key)?;
    Ok(purpose == KeyPurpose::Decryption
        && known.is_some_and(|known| known.is_decryption_of(tenant, group)))
}

/// Whether a connector was asked to prove this key: it will be a decryption key, or would have been.
pub(crate) fn asked(tx: &Tx<'_>, key: KeyId) -> Result<bool, StoreError> {
    tx.exists("SELECT 1 FROM possession WHERE key_id = ?1", values![key.as_bytes()])
}

/// The issuer's own keys: nobody else may have them.
pub(crate) fn ours(service: &Service) -> Vec<SpkiHash> {
    let keys = service.keys();
    let issuer = keys.signing.iter().chain(&keys.command).map(|key| key.signer.public_key().hash());
    let mut ours: Vec<SpkiHash> = issuer.collect();
    if let Some(link) = &service.link {
        ours.extend(&link.tls_pins);
        ours.extend(link.connector_ca.chain().iter().map(|certificate| certificate.spki().hash()));
    }
    ours
}

/// P-256, or RSA of 2,048 to 4,096 bits without a known weakness, and none of the issuer's own.
pub(crate) fn suitable(what: &str, key: &SpkiDer, ours: &[SpkiHash]) -> Result<(), Refusal> {
    let refuse = |why: String| Refusal::new(ErrorCode::KeyNotAccepted, format!("{what}: {why}"));
    if !matches!(key.algorithm(), KeyAlgorithm::P256 | KeyAlgorithm::Rsa(2048..=4096)) {
        let got = key.algorithm();
        return Err(refuse(format!("{got}; P-256 and RSA of 2,048 to 4,096 bits are allowed")));
    }
    scep_pkcs10::check_key(key, &scep_pkcs10::Rules::default(), ours)
        .map_err(|error| refuse(error.to_string()))
}

/// What is stored of a group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) ledger: Option<LedgerId>,
    pub(crate) ledger_kind: Option<LedgerKind>,
    /// What challenges are encrypted to.
    pub(crate) key: Option<SpkiDer>,
    /// Whether a gateway has brought it, not an operator.
    pub(crate) key_by_gateway: bool,
}

pub(crate) const fn kind_name(kind: LedgerKind) -> &'static str {
    match kind {
        LedgerKind::Single => "single",
        LedgerKind::Shared => "shared",
    }
}

fn key_in(row: &Row, column: usize) -> Result<Option<SpkiDer>, StoreError> {
    let der: Option<Vec<u8>> = row.get(column)?;
    der.map(|der| SpkiDer::parse(&der).map_err(|_| StoreError::Column { column })).transpose()
}

impl Group {
    /// Reads a group; whatever else wants to change it waits until this transaction has ended.
    pub(crate) fn lock(
        tx: &Tx<'_>,
        tenant: &TenantId,
        group: &GatewayGroupId,
    ) -> Result<Option<Self>, StoreError> {
        let same = "UPDATE gateway_group SET id = id WHERE tenant = ?1 AND id = ?2";
        tx.execute(same, values![tenant.as_str(), group.as_str()])?;
        tx.one(
            "SELECT ledger, ledger_kind, public_key, key_by FROM gateway_group \
             WHERE tenant = ?1 AND id = ?2",
            values![tenant.as_str(), group.as_str()],
            |row| {
                let ledger: Option<String> = row.get(0)?;
                let bad = StoreError::Column { column: 0 };
                let ledger = ledger.map(|text| LedgerId::from_hex(&text).ok_or(bad)).transpose()?;
                let ledger_kind = match row.get::<Option<String>>(1)?.as_deref() {
                    Some("shared") => Some(LedgerKind::Shared),
                    Some(_) => Some(LedgerKind::Single),
                    None => None,
                };
                Ok(Self {
                    ledger,
                    ledger_kind,
                    key: key_in(row, 2)?,
                    key_by_gateway: row.get::<Option<String>>(3)?.is_some(),
                })
            },
        )
    }
}

/// A gateway of a group that has not left.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) decryption_key: SpkiDer,
    /// Confirmed, and neither revoked nor seen twice.
    pub(crate) counts: bool,
    /// When the last of its certificates ends.
    pub(crate) not_after: Timestamp,
}

/// The members of a group, the first to enrol first.
pub(crate) fn members(
    tx: &Tx<'_>,
    tenant: &TenantId,
    group: &GatewayGroupId,
) -> Result<Vec<Member>, StoreError> {
    tx.query(
        "SELECT c.id, c.name, c.decryption_key, c.membership, c.standing, \
           (SELECT max(t.not_after) FROM connector_certificate t WHERE t.connector = c.id) \
         FROM connector c WHERE c.tenant = ?1 AND c.gateway_group = ?2 AND c.membership <> 'left' \
         ORDER BY c.enrolled_at, c.id",
        values![tenant.as_str(), group.as_str()],
        |row| {
            let (membership, standing): (String, String) = (row.get(3)?, row.get(4)?);
            Ok(Member {
                id: row.get(0)?,
                name: row.get(1)?,
                decryption_key: key_in(row, 2)?.ok_or(StoreError::Column { column: 2 })?,
                counts: membership == "confirmed" && standing == "active",
                not_after: Timestamp::from_seconds(row.get::<Option<i64>>(5)?.unwrap_or(0)),
            })
        },
    )
}

pub(crate) fn has_proven(tx: &Tx<'_>, connector: &str, key: KeyId) -> Result<bool, StoreError> {
    tx.exists(
        "SELECT 1 FROM possession WHERE connector = ?1 AND key_id = ?2 AND proven_at IS NOT NULL",
        values![connector, key.as_bytes()],
    )
}

impl Group {
    /// The group's key, where somebody can open what is encrypted to it: a member has it, or an operator has set it.
    pub(crate) fn held_key(&self, members: &[Member]) -> Option<&SpkiDer> {
        self.key.as_ref().filter(|key| {
            let is = |member: &Member| member.decryption_key.key_id() == key.key_id();
            !self.key_by_gateway || members.iter().any(is)
        })
    }
}

/// Gives a group without a key, or with one that no confirmed member has shown to have any more, that of a confirmed
/// member that has proven it. After every proof, confirmation and departure. False: nobody opens the group's challenges.
pub(crate) fn settle(
    tx: &Tx<'_>,
    tenant: &TenantId,
    id: &GatewayGroupId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let Some(group) = Group::lock(tx, tenant, id)? else { return Ok(false) };
    let mut counting = members(tx, tenant, id)?;
    counting.retain(|member| member.counts);
    if let Some(key) = &group.key {
        let mut held = !group.key_by_gateway;
        for member in &counting {
            held = held || has_proven(tx, &member.id, key.key_id())?;
        }
        if held {
            return Ok(true);
        }
    }
    for member in &counting {
        let key = &member.decryption_key;
        if has_proven(tx, &member.id, key.key_id())? {
            switch(tx, tenant, id, &group, key, &member.id, now)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// A member has proven a further key: it is the group's from now on.
pub(crate) fn renewed(
    tx: &Tx<'_>,
    tenant: &TenantId,
    id: &GatewayGroupId,
    key: &SpkiDer,
    by: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    match Group::lock(tx, tenant, id)? {
        Some(group) => switch(tx, tenant, id, &group, key, by, now),
        None => Ok(()),
    }
}

/// From now on challenges are encrypted to this key.
fn switch(
    tx: &Tx<'_>,
    tenant: &TenantId,
    id: &GatewayGroupId,
    group: &Group,
    key: &SpkiDer,
    by: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    if let Some(old) = group.key.as_ref().filter(|old| old.key_id() != key.key_id()) {
        keep_former(tx, tenant, id, old, now)?;
    }
    tx.execute(
        "DELETE FROM former_key WHERE tenant = ?1 AND gateway_group = ?2 AND key_id = ?3",
        values![tenant.as_str(), id.as_str(), key.key_id().as_bytes()],
    )?;
    let same = group.key.as_ref().is_some_and(|old| old.key_id() == key.key_id());
    if !same {
        tx.execute(
            "UPDATE gateway_group SET rotation_since = NULL WHERE tenant = ?1 AND id = ?2",
            values![tenant.as_str(), id.as_str()],
        )?;
    }
    tx.execute(
        "UPDATE gateway_group SET public_key = ?3, key_by = ?4 WHERE tenant = ?1 AND id = ?2",
        values![tenant.as_str(), id.as_str(), key.as_der(), by],
    )?;
    tx.execute(
        "UPDATE connector SET decryption_key = ?3 WHERE tenant = ?1 AND gateway_group = ?2 \
         AND membership <> 'left' AND id IN \
           (SELECT connector FROM possession WHERE key_id = ?4 AND proven_at IS NOT NULL)",
        values![tenant.as_str(), id.as_str(), key.as_der(), key.key_id().as_bytes()],
    )?;
    tracing::info!(%tenant, group = %id, key = %key.key_id(), "challenges are encrypted to this key");
    Ok(())
}

/// Challenges that were made for it may come for as long as one lives.
fn keep_former(
    tx: &Tx<'_>,
    tenant: &TenantId,
    id: &GatewayGroupId,
    key: &SpkiDer,
    now: Timestamp,
) -> Result<(), StoreError> {
    let until = now.plus(scep_challenge::MAX_LIFETIME).plus(scep_challenge::MAX_SKEW);
    tx.execute("DELETE FROM former_key WHERE opens_until <= ?1", values![now.seconds()])?;
    tx.execute(
        "INSERT INTO former_key (tenant, gateway_group, key_id, public_key, opens_until) \
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (tenant, gateway_group, key_id) \
         DO UPDATE SET opens_until = excluded.opens_until",
        values![
            tenant.as_str(),
            id.as_str(),
            key.key_id().as_bytes(),
            key.as_der(),
            until.seconds()
        ],
    )?;
    Ok(())
}

/// A gateway has left. Where no confirmed member is left that can open challenges, none are made any more. Otherwise the
/// key must be replaced, since somebody else knows it: one of those who stay is ordered to renew it.
pub(crate) fn departed(
    tx: &Tx<'_>,
    tenant: &TenantId,
    id: &GatewayGroupId,
    connector: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let served = settle(tx, tenant, id, now)?;
    let Some(group) = Group::lock(tx, tenant, id)? else { return Ok(()) };
    if !served {
        if let Some(old) = &group.key {
            keep_former(tx, tenant, id, old, now)?;
        }
        tx.execute(
            "UPDATE gateway_group SET public_key = NULL, key_by = NULL, rotation_since = NULL \
             WHERE tenant = ?1 AND id = ?2",
            values![tenant.as_str(), id.as_str()],
        )?;
        return Ok(());
    }
    // Whoever was never shown to have a key has nothing to forget.
    let sql = "SELECT 1 FROM possession WHERE connector = ?1 AND proven_at IS NOT NULL";
    if !tx.exists(sql, values![connector])? {
        return Ok(());
    }
    let sql = "UPDATE gateway_group SET rotation_since = ?3 WHERE tenant = ?1 AND id = ?2";
    tx.execute(sql, values![tenant.as_str(), id.as_str(), now.seconds()])?;
    let members = members(tx, tenant, id)?;
    let renews = members.iter().find(|member| member.counts);
    if let Some(connector) = renews.and_then(|member| ConnectorId::from_hex(&member.id)) {
        renewals::order(tx, connector, RenewalSubject::Decryption, now.plus(ROTATION_TIME))?;
    }
    Ok(())
}
