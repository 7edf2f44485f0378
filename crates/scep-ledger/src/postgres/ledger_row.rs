//! The one row about the ledger itself, and what operators did to it.

use super::connection::Connection;
use super::row::{get, number};
use super::unit::Unit;
use crate::LedgerError;
use crate::inventory::Counters;
use crate::report;
use scep_types::Timestamp;

pub(super) async fn reset_clock(
    unit: &mut Unit,
    from: Timestamp,
    to: Timestamp,
    operator: &str,
) -> Result<(), LedgerError> {
    let nth = unit
        .count(
            "INSERT INTO audit (action, operator, old_value, new_value, at) \
             VALUES ('clock-reset', $1, $2, $3, $3) RETURNING id",
            &[&operator, &from.seconds(), &to.seconds()],
        )
        .await?;
    unit.row.high_water = to;
    unit.row.clock_epoch = unit.row.clock_epoch.saturating_add(1);
    unit.tell(report::clock_reset(nth, from, to, operator, to));
    Ok(())
}

pub(super) async fn counters(conn: &Connection) -> Result<Counters, LedgerError> {
    let rows = conn
        .read(
            "SELECT issued, delivered, refused, failed, withheld, \
             (SELECT count(*) FROM enrolment WHERE state IN (0, 1, 7) AND state IN (0, 1)), \
             (SELECT count(*) FROM outbox), \
             issued - (SELECT count(*) FROM outbox WHERE kind = 'issued'), last_event, \
             (SELECT count(*) FROM enrolment WHERE state IN (0, 1, 7) AND state = 7), \
             (SELECT count(*) FROM enrolment WHERE state = 6), \
             (SELECT e.admitted_at FROM enrolment e JOIN held h ON h.enrolment = e.id \
             WHERE e.state = 6 AND h.verdict IS NULL ORDER BY e.id LIMIT 1) FROM ledger",
            &[],
        )
        .await?;
    let row = rows.first().ok_or(LedgerError::Damaged { what: "ledger" })?;
    Ok(Counters {
        issued: number(row, 0, "ledger.issued")?,
        delivered: number(row, 1, "ledger.delivered")?,
        refused: number(row, 2, "ledger.refused")?,
        failed: number(row, 3, "ledger.failed")?,
        withheld: number(row, 4, "ledger.withheld")?,
        unsettled: number(row, 5, "enrolment.state")?,
        outbox: number(row, 6, "outbox.sequence")?,
        reported: number(row, 7, "ledger.issued")?,
        last_event: number(row, 8, "ledger.last_event")?,
        pending: number(row, 9, "enrolment.state")?,
        held: number(row, 10, "enrolment.state")?,
        waiting_since: get::<Option<i64>>(row, 11, "enrolment.admitted_at")?
            .map(Timestamp::from_seconds),
    })
}
