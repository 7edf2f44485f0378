//! Events for the issuer.

use super::row::{change, first, get, list, number, optional_id, signed, time};
use crate::LedgerError;
use crate::report::{Draft, EventKind, OutboxEvent};
use rusqlite::{Connection, params};
use scep_types::{DeviceId, TenantId};

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

pub(super) fn acknowledge(conn: &Connection, through: u64) -> Result<(), LedgerError> {
    let last = first(
        conn,
        "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'outbox'), 0)",
        [],
        |row| number::<u64>(row, 0, "sqlite_sequence.seq"),
    )?
    .unwrap_or(0);
    if through > last {
        return Err(LedgerError::OutboxBehind { acknowledged: through, last });
    }
    change(conn, "UPDATE ledger SET acknowledged = ?1 WHERE acknowledged < ?1", [signed(through)])?;
    change(conn, "DELETE FROM outbox WHERE sequence <= ?1", [signed(through)])?;
    Ok(())
}
