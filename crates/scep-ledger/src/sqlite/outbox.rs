//! Events for the issuer.

use super::row::{change, first, get, list, number, optional_id, signed, time};
use crate::LedgerError;
use crate::report::{self, Acknowledged, Draft, EventKind, OutboxEvent};
use crate::store::MAX_RESTORE_GAP;
use rusqlite::{Connection, params};
use scep_types::{DeviceId, TenantId, Timestamp};

/// One thread writes, so numbers become visible in order and without gaps: those of an undone job are given again.
pub(super) fn insert(conn: &Connection, draft: &Draft) -> Result<(), LedgerError> {
    change(
        conn,
        "INSERT INTO outbox (kind, tenant, device, idempotency_key, body, at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            draft.kind.code(),
            draft.tenant.as_ref().map(TenantId::as_str),
            draft.device.as_ref().map(DeviceId::as_str),
            draft.key,
            draft.body,
            draft.at.seconds(),
        ],
    )?;
    Ok(())
}

pub(super) fn page(
    conn: &Connection,
    after: u64,
    limit: u32,
) -> Result<Vec<OutboxEvent>, LedgerError> {
    list(
        conn,
        "SELECT sequence, kind, tenant, device, idempotency_key, body, at FROM outbox \
         WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
        params![signed(after), limit],
        |row| {
            Ok(OutboxEvent {
                sequence: number(row, 0, "outbox.sequence")?,
                kind: EventKind::from_code(&get::<String>(row, 1, "outbox.kind")?)
                    .ok_or(LedgerError::Damaged { what: "outbox.kind" })?,
                tenant: optional_id(row, 2, "outbox.tenant", TenantId::new)?,
                device: optional_id(row, 3, "outbox.device", DeviceId::new)?,
                idempotency_key: get(row, 4, "outbox.idempotency_key")?,
                body_json: get(row, 5, "outbox.body")?,
                at: time(row, 6, "outbox.at")?,
            })
        },
    )
}

pub(super) fn acknowledge(
    conn: &Connection,
    through: u64,
    now: Timestamp,
) -> Result<Acknowledged, LedgerError> {
    let last = first(
        conn,
        "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'outbox'), 0)",
        [],
        |row| number::<u64>(row, 0, "sqlite_sequence.seq"),
    )?
    .unwrap_or(0);
    if through > last.saturating_add(MAX_RESTORE_GAP) {
        return Err(LedgerError::Implausible { acknowledged: through, last });
    }
    if through <= last {
        change(conn, "DELETE FROM outbox WHERE sequence <= ?1", [signed(through)])?;
        return Ok(Acknowledged::Known);
    }
    // Events that the issuer lacks have numbers that it knows for others; what they say is written again.
    renumber(conn, through)?;
    insert(conn, &report::restored(through, last, now))?;
    change(conn, "UPDATE ledger SET restored_at = ?1 WHERE restored_at < ?1", [now.seconds()])?;
    Ok(Acknowledged::RestoreNoticed { last })
}

/// Gives every event a number after `through`, in the order they have. Their idempotency keys tell the issuer which
/// of them it had already.
fn renumber(conn: &Connection, through: u64) -> Result<(), LedgerError> {
    change(
        conn,
        "INSERT INTO outbox (sequence, kind, tenant, device, idempotency_key, body, at) \
         SELECT ?1 + row_number() OVER (ORDER BY sequence), kind, tenant, device, idempotency_key, \
         body, at FROM outbox",
        [signed(through)],
    )?;
    change(conn, "DELETE FROM outbox WHERE sequence <= ?1", [signed(through)])?;
    // Without events there was no row to move the numbers on.
    change(
        conn,
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'outbox', 0 \
         WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'outbox')",
        [],
    )?;
    change(
        conn,
        "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'outbox' AND seq < ?1",
        [signed(through)],
    )?;
    Ok(())
}
