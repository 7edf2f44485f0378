//! Requests that wait.

use super::connection::Connection;
use super::row::{get, id, number, octets, signed, time};
use super::unit::{LedgerRow, Unit};
use super::{enrolment, intent, revocation};
use crate::held::{HeldRequest, HeldRow, HeldState, HeldVerdict};
use crate::store::{
    Admitted, Attempt, HeldFacts, Hold, Intent, MAX_ASKED_AGAIN, MAX_OVERDUE, State, Verdict,
    grounds_columns, judge_hold, judge_verdict,
};
use crate::{LedgerError, LedgerSettings, report};
use scep_types::{
    AuthorityName, CsrInfoHash, Reason, SerialNumber, SpkiHash, Timestamp, TransactionId,
};
use tokio_postgres::Row;

fn verdict(row: &Row, at: usize) -> Result<Option<HeldVerdict>, LedgerError> {
    let what = "held.verdict";
    get::<Option<i64>>(row, at, what)?
        .map(|code| HeldVerdict::from_code(code).ok_or(LedgerError::Damaged { what }))
        .transpose()
}

/// Claims, end and verdict, from this column on; nothing where nobody was asked.
pub(super) fn facts(row: &Row, at: usize) -> Result<Option<HeldFacts>, LedgerError> {
    let Some(claims) = get::<Option<Vec<u8>>>(row, at, "held.claims")? else { return Ok(None) };
    Ok(Some(HeldFacts {
        claims,
        until: time(row, at.saturating_add(1), "held.until")?,
        verdict: verdict(row, at.saturating_add(2))?,
    }))
}

async fn waiting(unit: &mut Unit) -> Result<u64, LedgerError> {
    let rows = unit.query("SELECT count(*) FROM enrolment WHERE state = 6", &[]).await?;
    number(rows.first().ok_or(LedgerError::Damaged { what: "enrolment" })?, 0, "enrolment.state")
}

pub(super) async fn hold(
    unit: &mut Unit,
    hold: &Hold,
    settings: &LedgerSettings,
) -> Result<Admitted, LedgerError> {
    let intent = &hold.intent;
    let facts = enrolment::facts(unit, intent).await?;
    let mut held = waiting(unit).await?;
    if held >= u64::from(settings.max_held) {
        refuse_overdue(unit, intent.at).await?;
        held = waiting(unit).await?;
    }
    match judge_hold(intent, held, &facts, settings) {
        Verdict::Admit => {
            let row = enrolment::insert(unit, intent, State::Held).await?;
            unit.query(
                "INSERT INTO held (enrolment, csr, claims, until) VALUES ($1, $2, $3, $4)",
                &[&row, &hold.csr, &hold.claims, &hold.until.seconds()],
            )
            .await?;
            unit.tell(report::held(intent, row, hold.until));
            Ok(Admitted::Yes(Attempt::first(row)))
        }
        other => enrolment::refuse(unit, intent, other, settings).await,
    }
}

/// Keeps the request of an intent that its CA decides on later, unless it is kept already.
pub(super) async fn keep(unit: &mut Unit, row: i64, csr: &[u8]) -> Result<(), LedgerError> {
    unit.query(
        "INSERT INTO held (enrolment, csr) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        &[&row, &csr],
    )
    .await?;
    Ok(())
}

/// A request that waits came again. Remembered are the key that it came from first and the one it asks to certify, and
/// no other: no stranger takes part in it, and none uses the room up.
pub(super) async fn asked_again(
    unit: &mut Unit,
    info: CsrInfoHash,
    transaction: &TransactionId,
    signer: SpkiHash,
) -> Result<(), LedgerError> {
    unit.query(
        "INSERT INTO asked_again (transaction_id, signer, enrolment) \
         SELECT $2, $3, e.id FROM enrolment e WHERE e.info_hash = $1 AND e.state IN (6, 7) \
         AND (e.signer = $3 OR e.spki_hash = $3) AND NOT (e.signer = $3 AND e.transaction_id = $2) \
         AND (SELECT count(*) FROM asked_again a WHERE a.enrolment = e.id) < $4 \
         ON CONFLICT DO NOTHING",
        &[
            &info.as_bytes().as_slice(),
            &transaction.as_str(),
            &signer.as_bytes().as_slice(),
            &MAX_ASKED_AGAIN,
        ],
    )
    .await?;
    Ok(())
}

/// The CA is to be asked, by this gateway, for what a person has approved. Who asked first still polls.
pub(super) async fn resume(
    unit: &mut Unit,
    row: i64,
    intent: &Intent,
) -> Result<Attempt, LedgerError> {
    unit.query(
        "INSERT INTO asked_again (transaction_id, signer, enrolment) \
         SELECT transaction_id, signer, id FROM enrolment WHERE id = $1 AND state = 6 \
         AND NOT (transaction_id = $2 AND signer = $3) ON CONFLICT DO NOTHING",
        &[&row, &intent.transaction.as_str(), &intent.signer.as_bytes().as_slice()],
    )
    .await?;
    let instance = unit.instance;
    let (grounds, predecessor, generation) = grounds_columns(intent.grounds);
    let rows = unit
        .query(
            "UPDATE enrolment SET state = 0, owner = $12, signer = $2, transaction_id = $3, \
             serial = $4, expected = $5, admitted_at = $6, authority = $7, grounds = $8, \
             predecessor = $9, generation = $10, renewable_by = $11 \
             WHERE id = $1 AND state = 6 RETURNING failures",
            &[
                &row,
                &intent.signer.as_bytes().as_slice(),
                &intent.transaction.as_str(),
                &intent.serial.as_ref().map(SerialNumber::as_content),
                &intent.expected.as_slice(),
                &intent.at.seconds(),
                &intent.authority.as_str(),
                &grounds,
                &predecessor.as_ref().map(|of| of.as_bytes().as_slice()),
                &i64::from(generation),
                &intent.renewable_by,
                &instance.octets(),
            ],
        )
        .await?;
    let resumed = rows.first().ok_or(LedgerError::NotHeld)?;
    Ok(Attempt { row, failures: number(resumed, 0, "enrolment.failures")?, seen: None })
}

pub(super) async fn page(
    conn: &Connection,
    limit: u32,
    after: Option<u64>,
) -> Result<Vec<HeldRequest>, LedgerError> {
    let rows = conn
        .read(
            "SELECT e.id, e.authority, e.transaction_id, e.spki_hash, h.claims, e.admitted_at, \
             h.until, h.verdict, h.person, h.decided_at \
             FROM enrolment e JOIN held h ON h.enrolment = e.id \
             WHERE e.state = 6 AND e.id > $1 ORDER BY e.id LIMIT $2",
            &[&after.map_or(0, signed), &i64::from(limit)],
        )
        .await?;
    rows.iter().map(request).collect()
}

fn request(row: &Row) -> Result<HeldRequest, LedgerError> {
    let state = match verdict(row, 7)? {
        None => HeldState::Waiting,
        Some(verdict) => HeldState::Decided {
            verdict,
            person: get(row, 8, "held.person")?,
            at: time(row, 9, "held.decided_at")?,
        },
    };
    HeldRow {
        row: number(row, 0, "enrolment.id")?,
        authority: id(row, 1, "enrolment.authority", AuthorityName::new)?,
        transaction: id(row, 2, "enrolment.transaction_id", TransactionId::new)?,
        spki: octets(row, 3, "enrolment.spki_hash").map(SpkiHash::from_bytes)?,
        claims: get(row, 4, "held.claims")?,
        asked_at: time(row, 5, "enrolment.admitted_at")?,
        until: time(row, 6, "held.until")?,
        state,
    }
    .into_request()
}

pub(super) async fn decide(
    unit: &mut Unit,
    row: u64,
    said: HeldVerdict,
    person: &str,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let row = signed(row);
    let rows =
        unit.query("SELECT claims, until, verdict FROM held WHERE enrolment = $1", &[&row]).await?;
    let found = match rows.first() {
        Some(row) => facts(row, 0)?,
        None => None,
    };
    let (Some(held), Some(open)) = (found, intent::intent_of(unit, row).await?) else {
        return Err(LedgerError::NotHeld);
    };
    if !judge_verdict(open.state, &held, said, now)? {
        return Ok(());
    }
    unit.query(
        "UPDATE held SET verdict = $2, person = $3, decided_at = $4 WHERE enrolment = $1",
        &[&row, &said.code(), &person, &now.seconds()],
    )
    .await?;
    revocation::audit(unit, said.action(), person, row, now).await?;
    unit.tell(report::held_decided(&open.intent, row, said, person, now));
    match said {
        HeldVerdict::Approve => Ok(()),
        HeldVerdict::Deny => {
            let why = (Reason::ApprovalDenied, "a person has refused it");
            refuse(unit, row, &open.intent, why, now).await
        }
    }
}

async fn refuse(
    unit: &mut Unit,
    row: i64,
    intent: &Intent,
    (reason, detail): (Reason, &str),
    now: Timestamp,
) -> Result<(), LedgerError> {
    unit.query(
        "UPDATE enrolment SET state = 8, refusal = $2, settled_at = $3 WHERE id = $1 AND state = 6",
        &[&row, &reason.code(), &now.seconds()],
    )
    .await?;
    LedgerRow::add(&mut unit.row.refused);
    unit.tell(report::over(intent, row, reason, detail, now));
    Ok(())
}

/// Refuses what has waited longer than it may, the oldest first. Gives how many.
pub(super) async fn refuse_overdue(unit: &mut Unit, now: Timestamp) -> Result<u64, LedgerError> {
    let reason = Reason::ApprovalExpired;
    // The columns of an intent.
    let rows = unit
        .query(
            "WITH overdue AS (SELECT e.id FROM enrolment e JOIN held h ON h.enrolment = e.id \
             WHERE e.state = 6 AND h.until < $1 ORDER BY e.id LIMIT $3), \
             refused AS (UPDATE enrolment SET state = 8, refusal = $2, settled_at = $1 \
             WHERE state = 6 AND id IN (SELECT id FROM overdue) RETURNING *) \
             SELECT id, state, tenant, challenge, issued_at, expires_at, device, profile, user_id, \
             audience, info_hash, spki, signer, transaction_id, serial, expected, admitted_at, \
             authority, grounds, predecessor, generation, renewable_by, failures FROM refused ORDER BY id",
            &[&now.seconds(), &reason.code(), &i64::from(MAX_OVERDUE)],
        )
        .await?;
    for row in &rows {
        let open = intent::open_intent(row)?;
        LedgerRow::add(&mut unit.row.refused);
        unit.tell(report::over(&open.intent, open.row, reason, "its time is over", now));
    }
    Ok(u64::try_from(rows.len()).unwrap_or(u64::MAX))
}
