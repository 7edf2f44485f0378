//! Denials counted against a challenge.

use super::row::{change, first, number, time};
use super::{Tally, outbox};
use crate::LedgerError;
use crate::report;
use crate::store::Mismatch;
use rusqlite::{Connection, params};
use scep_types::{ChallengeId, TenantId, Timestamp};

/// Count and expiry.
pub(super) fn read(
    conn: &Connection,
    tenant: &TenantId,
    challenge: ChallengeId,
) -> Result<Option<(u32, Timestamp)>, LedgerError> {
    first(
        conn,
        "SELECT count, expires_at FROM mismatch WHERE tenant = ?1 AND challenge = ?2",
        params![tenant.as_str(), challenge.as_bytes()],
        |row| Ok((number(row, 0, "mismatch.count")?, time(row, 1, "mismatch.expires_at")?)),
    )
}

/// Counts and reports, up to the limit; from there on nothing changes.
pub(super) fn count(
    conn: &Connection,
    tally: &mut Tally,
    mismatch: &Mismatch,
    max: u32,
    now: Timestamp,
) -> Result<u32, LedgerError> {
    let before = read(conn, &mismatch.tenant, mismatch.challenge)?.map_or(0, |(count, _)| count);
    if before >= max {
        return Ok(before);
    }
    let nth = before.saturating_add(1);
    change(
        conn,
        "INSERT INTO mismatch (tenant, challenge, count, expires_at) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT DO UPDATE SET count = excluded.count",
        params![
            mismatch.tenant.as_str(),
            mismatch.challenge.as_bytes(),
            nth,
            mismatch.expires_at.seconds(),
        ],
    )?;
    outbox::insert(conn, &report::refused(&mismatch.as_denied(), nth, now))?;
    Tally::add(&mut tally.refused);
    Ok(nth)
}
