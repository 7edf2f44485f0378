//! The inventory.

use super::connection::Connection;
use super::row::{get, id, number, octets, optional_id, signed, time};
use super::unit::{LedgerRow, Unit};
use crate::LedgerError;
use crate::inventory::{Delivery, InventoryEntry, RevocationReason, Standing};
use crate::report;
use scep_types::{
    CertificateDer, CertificateFingerprint, ChallengeId, DeviceId, ProfileId, SpkiHash, TenantId,
    Timestamp, TransactionId, UserId,
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
             standing, issued_at, delivered, revoked_at, revocation_reason FROM certificate \
             WHERE fingerprint = $1",
            &[&fingerprint.as_bytes().as_slice()],
        )
        .await?;
    rows.first().map(entry).transpose()
}

pub(super) async fn page(
    conn: &Connection,
    limit: u32,
    before: Option<u64>,
) -> Result<Vec<InventoryEntry>, LedgerError> {
    let rows = conn
        .read(
            "SELECT id, tenant, device, profile, user_id, challenge, transaction_id, signer, der, \
             standing, issued_at, delivered, revoked_at, revocation_reason FROM certificate \
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
    })
}
