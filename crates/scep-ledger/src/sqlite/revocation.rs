//! Revocations and CRLs.

use super::row::{change, exists, first, get, id, list, number, signed, time};
use super::{certificate, outbox};
use crate::LedgerError;
use crate::inventory::RevocationReason;
use crate::report::{self, EventKind};
use crate::revocation::{
    BrakeFacts, CertificateStatus, CrlEntry, OrderedBy, QueueOutcome, RevocationJob,
    RevocationOrder, RevocationState, RevocationWork, brake_holds,
};
use crate::settings::RevocationBrake;
use crate::store::BRAKE_WINDOW;
use rusqlite::{Connection, Row, params};
use scep_types::{
    CertificateDer, CertificateFingerprint, CrlDer, DeviceId, NameHash, SerialNumber, TenantId,
    Timestamp,
};
use std::collections::HashMap;

const QUEUED: i64 = 0;
const SENT: i64 = 1;
const REVOKED: i64 = 2;
const ON_CRL: i64 = 3;
const FAILED: i64 = 4;

fn state(row: &Row<'_>, at: usize, failure: usize) -> Result<RevocationState, LedgerError> {
    Ok(match get::<i64>(row, at, "revocation.state")? {
        QUEUED => RevocationState::Queued,
        SENT => RevocationState::Sent,
        REVOKED => RevocationState::Revoked,
        ON_CRL => RevocationState::OnCrl,
        FAILED => RevocationState::Failed(get(row, failure, "revocation.failure")?),
        _ => return Err(LedgerError::Damaged { what: "revocation.state" }),
    })
}

fn reason(row: &Row<'_>, at: usize) -> Result<RevocationReason, LedgerError> {
    let what = "revocation.reason";
    RevocationReason::from_code(get(row, at, what)?).ok_or(LedgerError::Damaged { what })
}

fn serial(row: &Row<'_>, at: usize) -> Result<SerialNumber, LedgerError> {
    let what = "revocation.serial";
    SerialNumber::from_content(&get::<Vec<u8>>(row, at, what)?)
        .map_err(|_| LedgerError::Damaged { what })
}

fn fingerprint(row: &Row<'_>, at: usize) -> Result<CertificateFingerprint, LedgerError> {
    get(row, at, "certificate.fingerprint").map(CertificateFingerprint::from_bytes)
}

/// Makes a certificate findable by issuer and serial number.
pub(super) fn name(
    conn: &Connection,
    row: i64,
    certificate: &CertificateDer,
) -> Result<(), LedgerError> {
    change(
        conn,
        "INSERT INTO certificate_name (issuer, serial, certificate) VALUES (?1, ?2, ?3)",
        params![
            NameHash::of(certificate.issuer_der()).as_bytes(),
            certificate.serial_content(),
            row
        ],
    )?;
    Ok(())
}

pub(super) fn queue(
    conn: &Connection,
    order: &RevocationOrder,
    now: Timestamp,
) -> Result<QueueOutcome, LedgerError> {
    let (tenant, operator) = match &order.by {
        OrderedBy::Tenant(tenant) => (Some(tenant.as_str()), None),
        OrderedBy::Operator(name) => (None, Some(name.as_str())),
    };
    let key = (order.issuer.as_bytes(), order.serial.as_content());
    let found = first(
        conn,
        "SELECT c.id, c.not_after FROM certificate_name n JOIN certificate c ON c.id = n.certificate \
         WHERE n.issuer = ?1 AND n.serial = ?2 AND (?3 IS NULL OR c.tenant = ?3) ORDER BY c.id LIMIT 1",
        params![key.0, key.1, tenant],
        |row| Ok((get::<i64>(row, 0, "certificate.id")?, time(row, 1, "certificate.not_after")?)),
    )?;
    let Some((certificate, not_after)) = found else { return Ok(QueueOutcome::NotFound) };
    let before = first(
        conn,
        "SELECT state, failure, id FROM revocation WHERE issuer = ?1 AND serial = ?2",
        params![key.0, key.1],
        |row| Ok((state(row, 0, 1)?, get::<i64>(row, 2, "revocation.id")?)),
    )?;
    // The brake is against orders from afar: an operator's own is one confirmed already.
    let counted = operator.is_none();
    let (row, outcome) = match before {
        None => {
            change(
                conn,
                "INSERT INTO revocation (issuer, serial, certificate, not_after, state, reason, counted, \
                 queued_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    key.0,
                    key.1,
                    certificate,
                    not_after.seconds(),
                    QUEUED,
                    order.reason.code(),
                    counted,
                    now.seconds()
                ],
            )?;
            (conn.last_insert_rowid(), QueueOutcome::Queued)
        }
        Some((RevocationState::Failed(_), row)) => {
            change(
                conn,
                "UPDATE revocation SET state = ?2, reason = ?3, counted = ?4, queued_at = ?5, \
                 sent_at = NULL, failure = NULL, attempts = attempts + 1 WHERE id = ?1",
                params![row, QUEUED, order.reason.code(), counted, now.seconds()],
            )?;
            (row, QueueOutcome::Queued)
        }
        Some((RevocationState::Queued, row)) => {
            if !counted {
                change(conn, "UPDATE revocation SET counted = 0 WHERE id = ?1", [row])?;
            }
            (row, QueueOutcome::Already(RevocationState::Queued))
        }
        Some((state, row)) => (row, QueueOutcome::Already(state)),
    };
    if let Some(operator) = operator {
        audit(conn, "revoke", operator, row, now)?;
    }
    Ok(outcome)
}

pub(super) fn audit(
    conn: &Connection,
    action: &str,
    operator: &str,
    value: i64,
    now: Timestamp,
) -> Result<i64, LedgerError> {
    change(
        conn,
        "INSERT INTO audit (action, operator, old_value, new_value, at) VALUES (?1, ?2, 0, ?3, ?4)",
        params![action, operator, value, now.seconds()],
    )?;
    Ok(conn.last_insert_rowid())
}

pub(super) fn read(
    conn: &Connection,
    issuer: NameHash,
    serial: &SerialNumber,
) -> Result<Option<RevocationState>, LedgerError> {
    first(
        conn,
        "SELECT state, failure FROM revocation WHERE issuer = ?1 AND serial = ?2",
        params![issuer.as_bytes(), serial.as_content()],
        |row| state(row, 0, 1),
    )
}

pub(super) fn status(
    conn: &Connection,
    issuer: NameHash,
    serial: &SerialNumber,
) -> Result<Option<CertificateStatus>, LedgerError> {
    let rows = list(
        conn,
        "SELECT c.standing, c.revoked_at, c.revocation_reason FROM certificate_name n \
         JOIN certificate c ON c.id = n.certificate WHERE n.issuer = ?1 AND n.serial = ?2",
        params![issuer.as_bytes(), serial.as_content()],
        |row| {
            let revoked = match get::<Option<i64>>(row, 1, "certificate.revoked_at")? {
                Some(at) => Some((Timestamp::from_seconds(at), reason(row, 2)?)),
                None => None,
            };
            CertificateStatus::of(get(row, 0, "certificate.standing")?, revoked)
        },
    )?;
    Ok(CertificateStatus::worst(rows))
}

fn engaged(conn: &Connection) -> Result<bool, LedgerError> {
    exists(conn, "SELECT 1 FROM revocation_brake", [])
}

pub(super) fn work(conn: &Connection, issuer: NameHash) -> Result<RevocationWork, LedgerError> {
    let engaged = engaged(conn)?;
    let count = |row: &Row<'_>, at| number::<u64>(row, at, "revocation.state");
    let (waiting, held, unpublished) = first(
        conn,
        "SELECT count(*) FILTER (WHERE state = 1 OR state = 0 AND NOT (counted AND ?2)), \
         count(*) FILTER (WHERE state = 0 AND counted AND ?2), count(*) FILTER (WHERE state = 2) \
         FROM revocation WHERE issuer = ?1 AND state <= 2",
        params![issuer.as_bytes(), engaged],
        |row| Ok((count(row, 0)?, count(row, 1)?, count(row, 2)?)),
    )?
    .unwrap_or_default();
    let last_crl = first(
        conn,
        "SELECT number, this_update FROM crl WHERE issuer = ?1",
        [issuer.as_bytes()],
        |row| Ok((number(row, 0, "crl.number")?, time(row, 1, "crl.this_update")?)),
    )?;
    Ok(RevocationWork { waiting, held, unpublished, last_crl })
}

fn facts(
    conn: &Connection,
    brake: RevocationBrake,
    now: Timestamp,
) -> Result<BrakeFacts, LedgerError> {
    let one = |sql, since: Timestamp| {
        first(conn, sql, [since.seconds()], |row| number::<u64>(row, 0, "revocation.counted"))
            .map(Option::unwrap_or_default)
    };
    let counted = one(
        "SELECT count(*) FROM revocation WHERE counted = 1 AND (sent_at IS NULL OR sent_at > ?1)",
        now.minus(BRAKE_WINDOW),
    )?;
    let live = if counted > u64::from(brake.at_least) {
        one(
            "SELECT count(*) FROM certificate WHERE standing = 0 AND revoked_at IS NULL \
             AND not_after >= ?1",
            now,
        )?
    } else {
        // Nothing that is decided depends on it.
        0
    };
    Ok(BrakeFacts { engaged: engaged(conn)?, counted, live })
}

pub(super) fn next(
    conn: &Connection,
    issuer: NameHash,
    limit: u32,
    brake: RevocationBrake,
    now: Timestamp,
) -> Result<Vec<RevocationJob>, LedgerError> {
    let facts = facts(conn, brake, now)?;
    let holds = brake_holds(&facts, brake);
    if holds && !facts.engaged {
        change(
            conn,
            "INSERT INTO revocation_brake (id, engaged_at) VALUES (1, ?1)",
            [now.seconds()],
        )?;
        outbox::insert(conn, &report::revocation_brake_engaged(facts.counted, facts.live, now))?;
    }
    change(
        conn,
        "UPDATE revocation SET state = 1, sent_at = ?4 WHERE id IN (SELECT id FROM revocation \
         WHERE issuer = ?1 AND state = 0 AND NOT (counted AND ?3) ORDER BY id \
         LIMIT max(0, ?2 - (SELECT count(*) FROM revocation WHERE issuer = ?1 AND state = 1)))",
        params![issuer.as_bytes(), limit, holds, now.seconds()],
    )?;
    list(
        conn,
        "SELECT r.id, r.serial, r.reason, c.fingerprint FROM revocation r \
         JOIN certificate c ON c.id = r.certificate \
         WHERE r.issuer = ?1 AND r.state = 1 AND r.state <= 2 ORDER BY r.id",
        [issuer.as_bytes()],
        |row| {
            Ok(RevocationJob {
                row: get(row, 0, "revocation.id")?,
                issuer,
                serial: serial(row, 1)?,
                reason: reason(row, 2)?,
                certificate: fingerprint(row, 3)?,
            })
        },
    )
}

pub(super) fn done(conn: &Connection, row: i64, at: Timestamp) -> Result<(), LedgerError> {
    let changed = change(
        conn,
        "UPDATE revocation SET state = 2, revoked_at = ?2 WHERE id = ?1 AND state = 1",
        params![row, at.seconds()],
    )?;
    if changed == 0 {
        return Ok(());
    }
    // A CA that gave one number twice has revoked both.
    let certificates = list(
        conn,
        "SELECT c.fingerprint, r.reason FROM revocation r \
         JOIN certificate_name n ON n.issuer = r.issuer AND n.serial = r.serial \
         JOIN certificate c ON c.id = n.certificate WHERE r.id = ?1",
        [row],
        |row| Ok((fingerprint(row, 0)?, reason(row, 1)?)),
    )?;
    for (fingerprint, reason) in certificates {
        certificate::revoke(conn, fingerprint, reason, at)?;
    }
    Ok(())
}

type Owner = (TenantId, DeviceId, CertificateFingerprint);

fn owner(row: &Row<'_>, from: usize) -> Result<Owner, LedgerError> {
    let [tenant, device, print] = [0, 1, 2].map(|n| from.saturating_add(n));
    Ok((
        id(row, tenant, "certificate.tenant", TenantId::new)?,
        id(row, device, "certificate.device", DeviceId::new)?,
        fingerprint(row, print)?,
    ))
}

pub(super) fn failed(
    conn: &Connection,
    row: i64,
    why: &str,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let changed = change(
        conn,
        "UPDATE revocation SET state = 4, failure = ?2 WHERE id = ?1 AND state = 1",
        params![row, why],
    )?;
    let told = first(
        conn,
        "SELECT c.tenant, c.device, c.fingerprint, r.attempts FROM revocation r \
         JOIN certificate c ON c.id = r.certificate WHERE r.id = ?1",
        [row],
        |row| Ok((owner(row, 0)?, number::<u64>(row, 3, "revocation.attempts")?)),
    )?;
    if let (1, Some((owner, attempt))) = (changed, told) {
        let kind = EventKind::RevocationFailed;
        let facts = [("detail", why)];
        outbox::insert(conn, &report::revocation_step(kind, (row, attempt), owner, &facts, now))?;
    }
    Ok(())
}

pub(super) fn confirm(
    conn: &Connection,
    operator: &str,
    now: Timestamp,
) -> Result<u64, LedgerError> {
    let waiting = first(
        conn,
        "SELECT count(*) FROM revocation WHERE counted = 1 AND state = 0",
        [],
        |row| number::<u64>(row, 0, "revocation.counted"),
    )?
    .unwrap_or(0);
    change(conn, "UPDATE revocation SET counted = 0 WHERE counted = 1", [])?;
    change(conn, "DELETE FROM revocation_brake", [])?;
    let nth = audit(conn, "confirm-revocations", operator, signed(waiting), now)?;
    outbox::insert(conn, &report::revocations_confirmed(nth, operator, waiting, now))?;
    Ok(waiting)
}

/// A page of the entries after a row, and the row it ends with; `None` when the page is the last one.
pub(super) fn entries(
    conn: &Connection,
    issuer: NameHash,
    after: i64,
    limit: usize,
) -> Result<(Vec<CrlEntry>, Option<i64>), LedgerError> {
    let page = list(
        conn,
        "SELECT r.id, r.serial, r.revoked_at, r.reason FROM revocation r \
         LEFT JOIN crl ON crl.issuer = r.issuer WHERE r.issuer = ?1 AND r.id > ?2 \
         AND (r.state = 2 OR r.state = 3 AND r.not_after >= coalesce(crl.this_update, 0)) \
         ORDER BY r.id LIMIT ?3",
        params![issuer.as_bytes(), after, i64::try_from(limit).unwrap_or(i64::MAX)],
        |row| {
            let entry = CrlEntry {
                serial: serial(row, 1)?,
                revoked_at: time(row, 2, "revocation.revoked_at")?,
                reason: reason(row, 3)?,
            };
            Ok((get::<i64>(row, 0, "revocation.id")?, entry))
        },
    )?;
    let last = page.last().filter(|_| page.len() >= limit).map(|(row, _)| *row);
    Ok((page.into_iter().map(|(_, entry)| entry).collect(), last))
}

pub(super) fn last_crl(
    conn: &Connection,
    issuer: NameHash,
) -> Result<Option<Vec<u8>>, LedgerError> {
    first(conn, "SELECT der FROM crl WHERE issuer = ?1", [issuer.as_bytes()], |row| {
        get(row, 0, "crl.der")
    })
}

pub(super) fn record_crl(
    conn: &Connection,
    issuer: NameHash,
    (after, crl_number): (Option<u64>, u64),
    crl: &CrlDer,
    now: Timestamp,
) -> Result<u64, LedgerError> {
    let last = work(conn, issuer)?.last_crl.map(|(number, _)| number);
    crate::revocation::check_crl_number(last, after, crl_number)?;
    change(
        conn,
        "INSERT INTO crl (issuer, number, this_update, der) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (issuer) DO UPDATE SET number = ?2, this_update = ?3, der = ?4",
        params![issuer.as_bytes(), signed(crl_number), crl.this_update().seconds(), crl.as_der()],
    )?;
    let mut unpublished: HashMap<Vec<u8>, (i64, Owner)> = list(
        conn,
        "SELECT r.serial, r.id, c.tenant, c.device, c.fingerprint FROM revocation r \
         JOIN certificate c ON c.id = r.certificate WHERE r.issuer = ?1 AND r.state = 2 AND r.state <= 2",
        [issuer.as_bytes()],
        |row| {
            let serial = get::<Vec<u8>>(row, 0, "revocation.serial")?;
            Ok((serial, (get(row, 1, "revocation.id")?, owner(row, 2)?)))
        },
    )?
    .into_iter()
    .collect();
    let mut published: u64 = 0;
    for serial in crl.serials() {
        if unpublished.is_empty() {
            break;
        }
        let Some((row, owner)) = unpublished.remove(serial) else { continue };
        change(
            conn,
            "UPDATE revocation SET state = 3, crl_number = ?2 WHERE id = ?1",
            params![row, signed(crl_number)],
        )?;
        let text = crl_number.to_string();
        let facts = [("crl_number", text.as_str())];
        let kind = EventKind::OnCrl;
        outbox::insert(conn, &report::revocation_step(kind, (row, 0), owner, &facts, now))?;
        published = published.saturating_add(1);
    }
    Ok(published)
}
