//! The one row about the ledger itself, and what operators did to it.

use super::outbox;
use super::row::{change, first, get, number, time};
use crate::LedgerError;
use crate::inventory::Counters;
use crate::report;
use rusqlite::{Connection, params};
use scep_types::Timestamp;

const GONE: LedgerError = LedgerError::Damaged { what: "ledger" };

pub(super) fn reset_clock(
    conn: &Connection,
    from: Timestamp,
    to: Timestamp,
    operator: &str,
) -> Result<(), LedgerError> {
    change(
        conn,
        "INSERT INTO audit (action, operator, old_value, new_value, at) \
         VALUES ('clock-reset', ?1, ?2, ?3, ?3)",
        params![operator, from.seconds(), to.seconds()],
    )?;
    let nth = conn.last_insert_rowid();
    change(conn, "UPDATE ledger SET high_water = ?1", [to.seconds()])?;
    outbox::insert(conn, &report::clock_reset(nth, from, to, operator, to))
}

pub(super) fn counters(conn: &Connection) -> Result<Counters, LedgerError> {
    first(
        conn,
        "SELECT issued, delivered, refused, failed, withheld, \
         (SELECT count(*) FROM enrolment WHERE state IN (0, 1, 7) AND state IN (0, 1)), \
         (SELECT count(*) FROM outbox), \
         issued - (SELECT count(*) FROM outbox WHERE kind = 'issued'), \
         coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'outbox'), 0), \
         (SELECT count(*) FROM enrolment WHERE state IN (0, 1, 7) AND state = 7), \
         (SELECT count(*) FROM enrolment WHERE state = 6), \
         (SELECT e.admitted_at FROM enrolment e JOIN held h ON h.enrolment = e.id \
         WHERE e.state = 6 AND h.verdict IS NULL ORDER BY e.id LIMIT 1) FROM ledger",
        [],
        |row| {
            Ok(Counters {
                issued: number(row, 0, "ledger.issued")?,
                delivered: number(row, 1, "ledger.delivered")?,
                refused: number(row, 2, "ledger.refused")?,
                failed: number(row, 3, "ledger.failed")?,
                withheld: number(row, 4, "ledger.withheld")?,
                unsettled: number(row, 5, "enrolment.state")?,
                outbox: number(row, 6, "outbox.sequence")?,
                reported: number(row, 7, "ledger.issued")?,
                last_event: number(row, 8, "sqlite_sequence.seq")?,
                pending: number(row, 9, "enrolment.state")?,
                held: number(row, 10, "enrolment.state")?,
                waiting_since: get::<Option<i64>>(row, 11, "enrolment.admitted_at")?
                    .map(Timestamp::from_seconds),
            })
        },
    )?
    .ok_or(GONE)
}

/// Whether the brake's alarm is due; if so, it counts as raised.
pub(super) fn raise_brake_alarm(
    conn: &Connection,
    now: Timestamp,
    quiet_since: Timestamp,
) -> Result<bool, LedgerError> {
    let raised = change(
        conn,
        "UPDATE ledger SET last_brake_alarm = ?1 WHERE last_brake_alarm <= ?2",
        params![now.seconds(), quiet_since.seconds()],
    )?;
    Ok(raised == 1)
}

/// The latest expiry that was pruned, and when a restore was last noticed.
pub(super) fn forgotten(conn: &Connection) -> Result<(Timestamp, Timestamp), LedgerError> {
    first(conn, "SELECT pruned_through, restored_at FROM ledger", [], |row| {
        Ok((time(row, 0, "ledger.pruned_through")?, time(row, 1, "ledger.restored_at")?))
    })?
    .ok_or(GONE)
}
