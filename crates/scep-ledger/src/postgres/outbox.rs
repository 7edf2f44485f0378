//! Events for the issuer.

use super::connection::Connection;
use super::row::{get, id, number, optional_id, signed, time};
use super::unit::Unit;
use crate::LedgerError;
use crate::report::{self, Acknowledged, EventKind, OutboxEvent};
use crate::store::MAX_RESTORE_GAP;
use scep_types::{DeviceId, TenantId, Timestamp};

pub(super) async fn page(
    conn: &Connection,
    after: u64,
    limit: u32,
) -> Result<Vec<OutboxEvent>, LedgerError> {
    let rows = conn
        .read(
            "SELECT sequence, kind, tenant, device, idempotency_key, body, at FROM outbox \
             WHERE sequence > $1 ORDER BY sequence LIMIT $2",
            &[&signed(after), &i64::from(limit)],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let what = "outbox.kind";
            Ok(OutboxEvent {
                sequence: number(row, 0, "outbox.sequence")?,
                kind: EventKind::from_code(get(row, 1, what)?)
                    .ok_or(LedgerError::Damaged { what })?,
                tenant: optional_id(row, 2, "outbox.tenant", TenantId::new)?,
                device: optional_id(row, 3, "outbox.device", DeviceId::new)?,
                idempotency_key: id(row, 4, "outbox.idempotency_key", Ok)?,
                body_json: id(row, 5, "outbox.body", Ok)?,
                at: time(row, 6, "outbox.at")?,
            })
        })
        .collect()
}

pub(super) async fn acknowledge(
    unit: &mut Unit,
    through: u64,
    now: Timestamp,
) -> Result<Acknowledged, LedgerError> {
    // What this unit tells is not visible yet, so nobody can acknowledge it.
    let what = "ledger.last_event";
    let last = u64::try_from(unit.row.last_event).map_err(|_| LedgerError::Damaged { what })?;
    if through > last.saturating_add(MAX_RESTORE_GAP) {
        return Err(LedgerError::Implausible { acknowledged: through, last });
    }
    let bound = signed(through);
    if through <= last {
        unit.query("DELETE FROM outbox WHERE sequence <= $1", &[&bound]).await?;
        return Ok(Acknowledged::Known);
    }
    // Events that the issuer lacks have numbers that it knows for others; what they say is written again, in the order
    // that they have. Their idempotency keys tell the issuer which of them it had already.
    let moved = unit
        .count(
            "WITH moved AS (DELETE FROM outbox RETURNING *), written AS (\
             INSERT INTO outbox (sequence, kind, tenant, device, idempotency_key, body, at) \
             SELECT $1::bigint + row_number() OVER (ORDER BY sequence), kind, tenant, device, \
             idempotency_key, body, at FROM moved RETURNING sequence) SELECT count(*) FROM written",
            &[&bound],
        )
        .await?;
    unit.row.last_event = bound.saturating_add(moved);
    unit.row.restored_at = unit.row.restored_at.max(now);
    unit.tell(report::restored(through, last, now));
    Ok(Acknowledged::RestoreNoticed { last })
}
