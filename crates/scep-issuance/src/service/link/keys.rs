//! Which keys may be used, and which one the challenges of a group are encrypted to.
//!
//! A group has one decryption key at a time. A gateway brings it; the group has it once a member that an operator has
//! confirmed has proven it. A further one (renewal) takes its place once **every** confirmed member has proven it: a
//! member that had not imported it would open no challenge any more. What was replaced is listed for as long as a
//! challenge that was made for it may be presented.

use crate::service::Service;
use crate::service::db::{Row, Tx, values};
use crate::service::link::answer::Refusal;
use crate::service::store::StoreError;
use scep_ca::CertificateAuthority as _;
use scep_link::{ErrorCode, LedgerKind};
use scep_types::{
    GatewayGroupId, KeyAlgorithm, KeyId, LedgerId, SpkiDer, SpkiHash, TenantId, Timestamp,
};

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
    pub(crate) fn is_decryption_of(&self, tenant: &TenantId, group: &GatewayGroupId) -> bool {
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
    /// What is to take its place.
    pub(crate) next_key: Option<SpkiDer>,
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
            "SELECT ledger, ledger_kind, public_key, key_by, next_key FROM gateway_group \
             WHERE tenant = ?1 AND id = ?2",
            values![tenant.as_str(), group.as_str()],
            |row| {
                let ledger: Option<String> = row.get(0)?;
                let bad = StoreError::Column { column: 0 };
                let ledger =
                    ledger.map(|text| LedgerId::from_hex(&text).ok_or(bad)).transpose()?;
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
                    next_key: key_in(row, 4)?,
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

/// Gives the group the key that it may have now. After every proof, confirmation and departure.
pub(crate) fn settle(
    tx: &Tx<'_>,
    tenant: &TenantId,
    id: &GatewayGroupId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(group) = Group::lock(tx, tenant, id)? else { return Ok(()) };
    let counting: Vec<Member> =
        members(tx, tenant, id)?.into_iter().filter(|member| member.counts).collect();
    let Some(first) = counting.first() else { return Ok(()) };
    if let Some(next) = &group.next_key {
        for member in &counting {
            if !has_proven(tx, &member.id, next.key_id())? {
                return Ok(());
            }
        }
        return switch(tx, tenant, id, &group, next, &first.id, now);
    }
    if group.key.is_none() {
        for member in &counting {
            let key = &member.decryption_key;
            if has_proven(tx, &member.id, key.key_id())? {
                return switch(tx, tenant, id, &group, key, &member.id, now);
            }
        }
    }
    Ok(())
}

/// From now on challenges are encrypted to this key.
pub(crate) fn switch(
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
        "UPDATE gateway_group SET public_key = ?3, key_by = ?4, next_key = NULL, \
         rotation_since = NULL WHERE tenant = ?1 AND id = ?2",
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

/// A gateway has left: without members no challenge can be opened, and with some the key must be replaced, since
/// somebody else knows it. True: those who stay must renew it.
pub(crate) fn departed(
    tx: &Tx<'_>,
    tenant: &TenantId,
    id: &GatewayGroupId,
    connector: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let Some(group) = Group::lock(tx, tenant, id)? else { return Ok(false) };
    if members(tx, tenant, id)?.is_empty() {
        if group.key_by_gateway {
            if let Some(old) = &group.key {
                keep_former(tx, tenant, id, old, now)?;
            }
            tx.execute(
                "UPDATE gateway_group SET public_key = NULL, key_by = NULL, next_key = NULL, \
                 rotation_since = NULL WHERE tenant = ?1 AND id = ?2",
                values![tenant.as_str(), id.as_str()],
            )?;
        }
        return Ok(false);
    }
    if let Some(next) = &group.next_key
        && has_proven(tx, connector, next.key_id())?
    {
        let sql = "UPDATE gateway_group SET next_key = NULL WHERE tenant = ?1 AND id = ?2";
        tx.execute(sql, values![tenant.as_str(), id.as_str()])?;
    }
    let knows = match &group.key {
        Some(key) => has_proven(tx, connector, key.key_id())?,
        None => false,
    };
    if knows {
        let sql = "UPDATE gateway_group SET rotation_since = ?3 WHERE tenant = ?1 AND id = ?2";
        tx.execute(sql, values![tenant.as_str(), id.as_str(), now.seconds()])?;
    }
    settle(tx, tenant, id, now)?;
    Ok(knows)
}
