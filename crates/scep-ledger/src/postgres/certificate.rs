//! The inventory.

use super::connection::Connection;
use super::row::{get, id, number, octets, optional_id, optional_octets, signed, time};
use super::unit::{LedgerRow, Unit};
use crate::LedgerError;
use crate::inventory::{Delivery, InventoryEntry, RevocationReason, Standing};
use crate::report;
use crate::store::{PredecessorFacts, RememberedPredecessor};
use scep_types::{
    AuthorityName, CertificateDer, CertificateFingerprint, ChallengeId, DeviceId, NameHash,
    ProfileId, SerialNumber, SpkiHash, TenantId, Timestamp, TransactionId, UserId,
};
use tokio_postgres::Row;

pub(super) const fn standing_code(standing: Standing) -> i64 {
    match standing {
        Standing::Issued => 0,
        Standing::Withheld => 1,
    }
}

const fn delivery_code(delivery: Delivery) -> i64 {
    match delivery {
        Delivery::ConnectionLost => 0,
        Delivery::Flushed => 1,
    }
}

fn owner(row: &Row) -> Result<(TenantId, DeviceId), LedgerError> {
    Ok((
        id(row, 0, "certificate.tenant", TenantId::new)?,
        id(row, 1, "certificate.device", DeviceId::new)?,
    ))
}

/// A flushed reply stays flushed: the device may have asked twice, and one answer is enough.
pub(super) async fn sent(
    unit: &mut Unit,
    certificate: CertificateFingerprint,
    delivered: Delivery,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let rows = unit
        .query(
            "UPDATE certificate SET delivered = $2, delivered_at = $3 \
             WHERE fingerprint = $1 AND (delivered IS NULL OR delivered < $2) \
             RETURNING tenant, device",
            &[&certificate.as_bytes().as_slice(), &delivery_code(delivered), &now.seconds()],
        )
        .await?;
    if let Some(row) = rows.first() {
        let (tenant, device) = owner(row)?;
        unit.tell(report::delivery(tenant, device, certificate, delivered, now));
        if delivered == Delivery::Flushed {
            LedgerRow::add(&mut unit.row.delivered);
        }
    }
    Ok(())
}

pub(super) async fn revoke(
    unit: &mut Unit,
    certificate: CertificateFingerprint,
    reason: RevocationReason,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let rows = unit
        .query(
            "WITH found AS (SELECT id, tenant, device FROM certificate WHERE fingerprint = $1), \
             revoked AS (UPDATE certificate SET revoked_at = $2, revocation_reason = $3 \
             WHERE id = (SELECT id FROM found) AND revoked_at IS NULL RETURNING id) \
             SELECT tenant, device, EXISTS (SELECT 1 FROM revoked) FROM found",
            &[&certificate.as_bytes().as_slice(), &now.seconds(), &i64::from(reason.code())],
        )
        .await?;
    let row = rows.first().ok_or(LedgerError::NoSuchCertificate)?;
    if get(row, 2, "certificate.revoked_at")? {
        let (tenant, device) = owner(row)?;
        unit.tell(report::revoked(tenant, device, certificate, reason, now));
    }
    Ok(())
}

pub(super) async fn by_fingerprint(
    conn: &Connection,
    fingerprint: CertificateFingerprint,
) -> Result<Option<InventoryEntry>, LedgerError> {
    let rows = conn
        .read(
            "SELECT id, tenant, device, profile, user_id, challenge, transaction_id, signer, der, \
             standing, issued_at, delivered, revoked_at, revocation_reason, authority, \
             generation, predecessor FROM certificate \
             WHERE fingerprint = $1",
            &[&fingerprint.as_bytes().as_slice()],
        )
        .await?;
    rows.first().map(entry).transpose()
}

/// The latest that may be released.
pub(super) async fn by_serial(
    conn: &Connection,
    issuer: NameHash,
    serial: &SerialNumber,
) -> Result<Option<InventoryEntry>, LedgerError> {
    let rows = conn
        .read(
            "SELECT id, tenant, device, profile, user_id, challenge, transaction_id, signer, der, \
             standing, issued_at, delivered, revoked_at, revocation_reason, authority, \
             generation, predecessor FROM certificate WHERE standing = 0 AND id IN (\
             SELECT certificate FROM certificate_name WHERE issuer = $1 AND serial = $2) \
             ORDER BY id DESC LIMIT 1",
            &[&issuer.as_bytes().as_slice(), &serial.as_content()],
        )
        .await?;
    rows.first().map(entry).transpose()
}

const PREDECESSOR: &str = "SELECT der, tenant, device, authority, standing, issued_at, not_after, \
     generation, renewable_by, revoked_at IS NOT NULL \
     OR EXISTS (SELECT 1 FROM revocation r WHERE r.certificate = c.id) \
     FROM certificate c WHERE fingerprint = $1";

/// A certificate that another is to follow.
pub(super) async fn predecessor(
    conn: &Connection,
    fingerprint: CertificateFingerprint,
) -> Result<Option<RememberedPredecessor>, LedgerError> {
    let rows = conn.read(PREDECESSOR, &[&fingerprint.as_bytes().as_slice()]).await?;
    rows.first()
        .map(|row| {
            Ok(RememberedPredecessor { certificate: der(row, 0)?, facts: predecessor_facts(row)? })
        })
        .transpose()
}

/// The same, for a decision.
pub(super) async fn predecessor_within(
    unit: &mut Unit,
    fingerprint: CertificateFingerprint,
) -> Result<Option<PredecessorFacts>, LedgerError> {
    let rows = unit.query(PREDECESSOR, &[&fingerprint.as_bytes().as_slice()]).await?;
    rows.first().map(predecessor_facts).transpose()
}

fn predecessor_facts(row: &Row) -> Result<PredecessorFacts, LedgerError> {
    Ok(PredecessorFacts {
        tenant: id(row, 1, "certificate.tenant", TenantId::new)?,
        device: id(row, 2, "certificate.device", DeviceId::new)?,
        authority: id(row, 3, "certificate.authority", AuthorityName::new)?,
        issued: get::<i64>(row, 4, "certificate.standing")? == standing_code(Standing::Issued),
        issued_at: time(row, 5, "certificate.issued_at")?,
        not_after: time(row, 6, "certificate.not_after")?,
        generation: number(row, 7, "certificate.generation")?,
        renewable_by: get(row, 8, "certificate.renewable_by")?,
        revoked: get(row, 9, "certificate.revoked_at")?,
    })
}

pub(super) async fn page(
    conn: &Connection,
    limit: u32,
    before: Option<u64>,
) -> Result<Vec<InventoryEntry>, LedgerError> {
    let rows = conn
        .read(
            "SELECT id, tenant, device, profile, user_id, challenge, transaction_id, signer, der, \
             standing, issued_at, delivered, revoked_at, revocation_reason, authority, \
             generation, predecessor FROM certificate \
             WHERE id < $1 ORDER BY id DESC LIMIT $2",
            &[&before.map_or(i64::MAX, signed), &i64::from(limit)],
        )
        .await?;
    rows.iter().map(entry).collect()
}

/// A certificate out of its column.
pub(super) fn der(row: &Row, at: usize) -> Result<CertificateDer, LedgerError> {
    let what = "certificate.der";
    CertificateDer::parse(get::<&[u8]>(row, at, what)?).map_err(|_| LedgerError::Damaged { what })
}

fn entry(row: &Row) -> Result<InventoryEntry, LedgerError> {
    let damaged = |what| LedgerError::Damaged { what };
    Ok(InventoryEntry {
        row: number(row, 0, "certificate.id")?,
        tenant: id(row, 1, "certificate.tenant", TenantId::new)?,
        device: id(row, 2, "certificate.device", DeviceId::new)?,
        profile: id(row, 3, "certificate.profile", ProfileId::new)?,
        user: optional_id(row, 4, "certificate.user_id", UserId::new)?,
        challenge: octets(row, 5, "certificate.challenge").map(ChallengeId::from_bytes)?,
        transaction: id(row, 6, "certificate.transaction_id", TransactionId::new)?,
        signer: octets(row, 7, "certificate.signer").map(SpkiHash::from_bytes)?,
        certificate: der(row, 8)?,
        standing: match get(row, 9, "certificate.standing")? {
            0_i64 => Standing::Issued,
            1 => Standing::Withheld,
            _ => return Err(damaged("certificate.standing")),
        },
        issued_at: time(row, 10, "certificate.issued_at")?,
        delivered: match get::<Option<i64>>(row, 11, "certificate.delivered")? {
            None => None,
            Some(0) => Some(Delivery::ConnectionLost),
            Some(1) => Some(Delivery::Flushed),
            Some(_) => return Err(damaged("certificate.delivered")),
        },
        revoked_at: get::<Option<i64>>(row, 12, "certificate.revoked_at")?
            .map(Timestamp::from_seconds),
        revocation_reason: get::<Option<i64>>(row, 13, "certificate.revocation_reason")?
            .map(|code| {
                u8::try_from(code)
                    .ok()
                    .and_then(RevocationReason::from_code)
                    .ok_or_else(|| damaged("certificate.revocation_reason"))
            })
            .transpose()?,
        authority: id(row, 14, "certificate.authority", AuthorityName::new)?,
        generation: number(row, 15, "certificate.generation")?,
        renews: optional_octets(row, 16, "certificate.predecessor")?
            .map(CertificateFingerprint::from_bytes),
    })
}
