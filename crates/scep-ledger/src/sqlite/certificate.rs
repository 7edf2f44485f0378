//! The inventory.

use super::row::{change, first, get, id, list, number, optional_id, signed, time};
use super::{Tally, outbox, revocation};
use crate::LedgerError;
use crate::inventory::{Delivery, InventoryEntry, RevocationReason, Standing};
use crate::report;
use crate::store::{Intent, PredecessorFacts, RememberedPredecessor, grounds_columns};
use rusqlite::{Connection, Row, params};
use scep_types::{
    AuthorityName, CertificateDer, CertificateFingerprint, ChallengeId, DeviceId, NameHash,
    ProfileId, SerialNumber, SpkiHash, TenantId, Timestamp, TransactionId, UserId,
};

const fn standing_code(standing: Standing) -> i64 {
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

pub(super) fn insert(
    conn: &Connection,
    intent: &Intent,
    certificate: &CertificateDer,
    standing: Standing,
    now: Timestamp,
) -> Result<i64, LedgerError> {
    let (_, predecessor, generation) = grounds_columns(intent.grounds);
    change(
        conn,
        "INSERT INTO certificate (standing, tenant, device, profile, user, challenge, transaction_id, \
         signer, fingerprint, spki_hash, der, not_after, issued_at, authority, generation, predecessor, \
         renewable_by) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        params![
            standing_code(standing),
            intent.tenant.as_str(),
            intent.device.as_str(),
            intent.profile.as_str(),
            intent.user.as_ref().map(UserId::as_str),
            intent.challenge.as_bytes(),
            intent.transaction.as_str(),
            intent.signer.as_bytes(),
            certificate.fingerprint().as_bytes(),
            certificate.spki().hash().as_bytes(),
            certificate.as_der(),
            certificate.not_after().seconds(),
            now.seconds(),
            intent.authority.as_str(),
            generation,
            predecessor.as_ref().map(CertificateFingerprint::as_bytes),
            intent.renewable_by,
        ],
    )?;
    let row = conn.last_insert_rowid();
    revocation::name(conn, row, certificate)?;
    Ok(row)
}

/// Whose a certificate is.
fn owner(
    conn: &Connection,
    certificate: CertificateFingerprint,
) -> Result<(TenantId, DeviceId), LedgerError> {
    first(
        conn,
        "SELECT tenant, device FROM certificate WHERE fingerprint = ?1",
        [certificate.as_bytes()],
        |row| {
            Ok((
                id(row, 0, "certificate.tenant", TenantId::new)?,
                id(row, 1, "certificate.device", DeviceId::new)?,
            ))
        },
    )?
    .ok_or(LedgerError::NoSuchCertificate)
}

/// A flushed reply stays flushed: the device may have asked twice, and one answer is enough.
pub(super) fn sent(
    conn: &Connection,
    tally: &mut Tally,
    certificate: CertificateFingerprint,
    delivered: Delivery,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let changed = change(
        conn,
        "UPDATE certificate SET delivered = ?2, delivered_at = ?3 \
         WHERE fingerprint = ?1 AND (delivered IS NULL OR delivered < ?2)",
        params![certificate.as_bytes(), delivery_code(delivered), now.seconds()],
    )?;
    if changed == 1 {
        let (tenant, device) = owner(conn, certificate)?;
        outbox::insert(conn, &report::delivery(tenant, device, certificate, delivered, now))?;
        if delivered == Delivery::Flushed {
            Tally::add(&mut tally.delivered);
        }
    }
    Ok(())
}

pub(super) fn revoke(
    conn: &Connection,
    certificate: CertificateFingerprint,
    reason: RevocationReason,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let (tenant, device) = owner(conn, certificate)?;
    let changed = change(
        conn,
        "UPDATE certificate SET revoked_at = ?2, revocation_reason = ?3 \
         WHERE fingerprint = ?1 AND revoked_at IS NULL",
        params![certificate.as_bytes(), now.seconds(), reason.code()],
    )?;
    if changed == 1 {
        outbox::insert(conn, &report::revoked(tenant, device, certificate, reason, now))?;
    }
    Ok(())
}

pub(super) fn by_fingerprint(
    conn: &Connection,
    fingerprint: CertificateFingerprint,
) -> Result<Option<InventoryEntry>, LedgerError> {
    first(
        conn,
        "SELECT id, tenant, device, profile, user, challenge, transaction_id, signer, der, standing, \
         issued_at, delivered, revoked_at, revocation_reason, authority, generation, predecessor \
         FROM certificate WHERE fingerprint = ?1",
        [fingerprint.as_bytes()],
        entry,
    )
}

/// The latest that may be released.
pub(super) fn by_serial(
    conn: &Connection,
    issuer: NameHash,
    serial: &SerialNumber,
) -> Result<Option<InventoryEntry>, LedgerError> {
    first(
        conn,
        "SELECT id, tenant, device, profile, user, challenge, transaction_id, signer, der, standing, \
         issued_at, delivered, revoked_at, revocation_reason, authority, generation, predecessor \
         FROM certificate WHERE standing = 0 AND id IN \
         (SELECT certificate FROM certificate_name WHERE issuer = ?1 AND serial = ?2) \
         ORDER BY id DESC LIMIT 1",
        params![issuer.as_bytes(), serial.as_content()],
        entry,
    )
}

/// A certificate that another is to follow.
pub(super) fn predecessor(
    conn: &Connection,
    fingerprint: CertificateFingerprint,
) -> Result<Option<RememberedPredecessor>, LedgerError> {
    first(
        conn,
        "SELECT der, tenant, device, authority, standing, issued_at, not_after, generation, renewable_by, \
         revoked_at IS NOT NULL OR EXISTS (SELECT 1 FROM revocation r WHERE r.certificate = c.id) \
         FROM certificate c WHERE fingerprint = ?1",
        [fingerprint.as_bytes()],
        |row| {
            let facts = PredecessorFacts {
                tenant: id(row, 1, "certificate.tenant", TenantId::new)?,
                device: id(row, 2, "certificate.device", DeviceId::new)?,
                authority: id(row, 3, "certificate.authority", AuthorityName::new)?,
                issued: get::<i64>(row, 4, "certificate.standing")? == 0,
                issued_at: time(row, 5, "certificate.issued_at")?,
                not_after: time(row, 6, "certificate.not_after")?,
                generation: get(row, 7, "certificate.generation")?,
                renewable_by: get(row, 8, "certificate.renewable_by")?,
                revoked: get(row, 9, "certificate.revoked_at")?,
            };
            Ok(RememberedPredecessor { certificate: der(row, 0)?, facts })
        },
    )
}

pub(super) fn page(
    conn: &Connection,
    limit: u32,
    before: Option<u64>,
) -> Result<Vec<InventoryEntry>, LedgerError> {
    list(
        conn,
        "SELECT id, tenant, device, profile, user, challenge, transaction_id, signer, der, standing, \
         issued_at, delivered, revoked_at, revocation_reason, authority, generation, predecessor \
         FROM certificate WHERE id < ?1 \
         ORDER BY id DESC LIMIT ?2",
        params![before.map_or(i64::MAX, signed), limit],
        entry,
    )
}

/// A certificate out of its column.
pub(super) fn der(row: &Row<'_>, at: usize) -> Result<CertificateDer, LedgerError> {
    let what = "certificate.der";
    CertificateDer::parse(&get::<Vec<u8>>(row, at, what)?)
        .map_err(|_| LedgerError::Damaged { what })
}

fn entry(row: &Row<'_>) -> Result<InventoryEntry, LedgerError> {
    let damaged = |what| LedgerError::Damaged { what };
    Ok(InventoryEntry {
        row: number(row, 0, "certificate.id")?,
        tenant: id(row, 1, "certificate.tenant", TenantId::new)?,
        device: id(row, 2, "certificate.device", DeviceId::new)?,
        profile: id(row, 3, "certificate.profile", ProfileId::new)?,
        user: optional_id(row, 4, "certificate.user", UserId::new)?,
        challenge: get(row, 5, "certificate.challenge").map(ChallengeId::from_bytes)?,
        transaction: id(row, 6, "certificate.transaction_id", TransactionId::new)?,
        signer: get(row, 7, "certificate.signer").map(SpkiHash::from_bytes)?,
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
        revocation_reason: get::<Option<u8>>(row, 13, "certificate.revocation_reason")?
            .map(|code| {
                RevocationReason::from_code(code)
                    .ok_or_else(|| damaged("certificate.revocation_reason"))
            })
            .transpose()?,
        authority: id(row, 14, "certificate.authority", AuthorityName::new)?,
        generation: get(row, 15, "certificate.generation")?,
        renews: get::<Option<[u8; 32]>>(row, 16, "certificate.predecessor")?
            .map(CertificateFingerprint::from_bytes),
    })
}
