//! Denials counted against a challenge.

use super::connection::Connection;
use super::row::{number, time};
use super::unit::{LedgerRow, Unit};
use crate::LedgerError;
use crate::report;
use crate::store::Mismatch;
use scep_types::{ChallengeId, TenantId, Timestamp};

/// Count and expiry.
pub(super) async fn read(
    conn: &Connection,
    tenant: &TenantId,
    challenge: ChallengeId,
) -> Result<Option<(u32, Timestamp)>, LedgerError> {
    let rows = conn
        .read(
            "SELECT count, expires_at FROM mismatch WHERE tenant = $1 AND challenge = $2",
            &[&tenant.as_str(), &challenge.as_bytes().as_slice()],
        )
        .await?;
    rows.first()
        .map(|row| Ok((number(row, 0, "mismatch.count")?, time(row, 1, "mismatch.expires_at")?)))
        .transpose()
}

/// Counts and reports, up to the limit; from there on nothing changes.
pub(super) async fn count(
    unit: &mut Unit,
    mismatch: &Mismatch,
    max: u32,
    now: Timestamp,
) -> Result<u32, LedgerError> {
    let rows = unit
        .query(
            "INSERT INTO mismatch (tenant, challenge, count, expires_at) SELECT $1, $2, 1, $3::bigint \
             WHERE $4::bigint > 0 ON CONFLICT (tenant, challenge) DO UPDATE SET count = mismatch.count + 1 \
             WHERE mismatch.count < $4 RETURNING count",
            &[
                &mismatch.tenant.as_str(),
                &mismatch.challenge.as_bytes().as_slice(),
                &mismatch.expires_at.seconds(),
                &i64::from(max),
            ],
        )
        .await?;
    let Some(row) = rows.first() else { return Ok(max) };
    let nth = number(row, 0, "mismatch.count")?;
    unit.tell(report::refused(&mismatch.as_denied(), nth, now));
    LedgerRow::add(&mut unit.row.refused);
    Ok(nth)
}
