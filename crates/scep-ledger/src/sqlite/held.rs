//! Requests that wait.

use super::row::{change, first, get, id, list, number, signed, time};
use super::{Tally, enrolment, outbox, revocation};
use crate::held::{HeldRequest, HeldRow, HeldState, HeldVerdict};
use crate::store::{
    Admitted, Attempt, HeldFacts, Hold, Intent, MAX_ASKED_AGAIN, MAX_OVERDUE, State, Verdict,
    grounds_columns, judge_hold, judge_verdict,
};
use crate::{LedgerError, LedgerSettings, report};
use rusqlite::{Connection, Row, params};
use scep_types::{
    AuthorityName, CertificateFingerprint, CsrInfoHash, Reason, SerialNumber, SpkiHash, Timestamp,
    TransactionId,
};

fn verdict(row: &Row<'_>, at: usize) -> Result<Option<HeldVerdict>, LedgerError> {
    let what = "held.verdict";
    get::<Option<i64>>(row, at, what)?
        .map(|code| HeldVerdict::from_code(code).ok_or(LedgerError::Damaged { what }))
        .transpose()
}

/// Claims, end and verdict, from this column on; nothing where nobody was asked.
pub(super) fn facts(row: &Row<'_>, at: usize) -> Result<Option<HeldFacts>, LedgerError> {
    let Some(claims) = get::<Option<Vec<u8>>>(row, at, "held.claims")? else { return Ok(None) };
    Ok(Some(HeldFacts {
        claims,
        until: time(row, at.saturating_add(1), "held.until")?,
        verdict: verdict(row, at.saturating_add(2))?,
    }))
}

fn waiting(conn: &Connection) -> Result<u64, LedgerError> {
    let count = first(conn, "SELECT count(*) FROM enrolment WHERE state = 6", [], |row| {
        number(row, 0, "enrolment.state")
    })?;
    Ok(count.unwrap_or(0))
}

pub(super) fn hold(
    conn: &Connection,
    tally: &mut Tally,
    hold: &Hold,
    settings: &LedgerSettings,
) -> Result<Admitted, LedgerError> {
    let intent = &hold.intent;
    let facts = enrolment::facts(conn, intent)?;
    let mut held = waiting(conn)?;
    if held >= u64::from(settings.max_held) {
        refuse_overdue(conn, tally, intent.at)?;
        held = waiting(conn)?;
    }
    match judge_hold(intent, held, &facts, settings) {
        Verdict::Admit => {
            let row = enrolment::insert(conn, intent, State::Held)?;
            change(
                conn,
                "INSERT INTO held (enrolment, csr, claims, until) VALUES (?1, ?2, ?3, ?4)",
                params![row, hold.csr, hold.claims, hold.until.seconds()],
            )?;
            outbox::insert(conn, &report::held(intent, row, hold.until))?;
            Ok(Admitted::Yes(Attempt::first(row)))
        }
        other => enrolment::refuse(conn, tally, intent, other, settings),
    }
}

/// Keeps the request of an intent that its CA decides on later, unless it is kept already.
pub(super) fn keep(conn: &Connection, row: i64, csr: &[u8]) -> Result<(), LedgerError> {
    change(
        conn,
        "INSERT INTO held (enrolment, csr) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        params![row, csr],
    )?;
    Ok(())
}

/// A request that waits came again. Remembered are the key that it came from first and the one it asks to certify, and
/// no other: no stranger takes part in it, and none uses the room up.
pub(super) fn asked_again(
    conn: &Connection,
    info: CsrInfoHash,
    transaction: &TransactionId,
    signer: SpkiHash,
) -> Result<(), LedgerError> {
    change(
        conn,
        "INSERT INTO asked_again (transaction_id, signer, enrolment) \
         SELECT ?2, ?3, e.id FROM enrolment e WHERE e.info_hash = ?1 AND e.state IN (6, 7) \
         AND (e.signer = ?3 OR e.spki_hash = ?3) AND NOT (e.signer = ?3 AND e.transaction_id = ?2) \
         AND (SELECT count(*) FROM asked_again a WHERE a.enrolment = e.id) < ?4 \
         ON CONFLICT DO NOTHING",
        params![info.as_bytes(), transaction.as_str(), signer.as_bytes(), MAX_ASKED_AGAIN],
    )?;
    Ok(())
}

/// The CA is to be asked for what a person has approved. Who asked first still polls.
pub(super) fn resume(conn: &Connection, row: i64, intent: &Intent) -> Result<Attempt, LedgerError> {
    change(
        conn,
        "INSERT INTO asked_again (transaction_id, signer, enrolment) \
         SELECT transaction_id, signer, id FROM enrolment WHERE id = ?1 AND state = 6 \
         AND NOT (transaction_id = ?2 AND signer = ?3) ON CONFLICT DO NOTHING",
        params![row, intent.transaction.as_str(), intent.signer.as_bytes()],
    )?;
    let (grounds, predecessor, generation) = grounds_columns(intent.grounds);
    let failures = first(
        conn,
        "UPDATE enrolment SET state = 0, signer = ?2, transaction_id = ?3, serial = ?4, expected = ?5, \
         admitted_at = ?6, authority = ?7, grounds = ?8, predecessor = ?9, generation = ?10, renewable_by = ?11 \
         WHERE id = ?1 AND state = 6 RETURNING failures",
        params![
            row,
            intent.signer.as_bytes(),
            intent.transaction.as_str(),
            intent.serial.as_ref().map(SerialNumber::as_content),
            intent.expected,
            intent.at.seconds(),
            intent.authority.as_str(),
            grounds,
            predecessor.as_ref().map(CertificateFingerprint::as_bytes),
            generation,
            intent.renewable_by,
        ],
        |row| number(row, 0, "enrolment.failures"),
    )?;
    Ok(Attempt { row, failures: failures.ok_or(LedgerError::NotHeld)?, seen: None })
}

pub(super) fn page(
    conn: &Connection,
    limit: u32,
    after: Option<u64>,
) -> Result<Vec<HeldRequest>, LedgerError> {
    list(
        conn,
        "SELECT e.id, e.authority, e.transaction_id, e.spki_hash, h.claims, e.admitted_at, h.until, h.verdict, \
         h.person, h.decided_at FROM enrolment e JOIN held h ON h.enrolment = e.id \
         WHERE e.state = 6 AND e.id > ?1 ORDER BY e.id LIMIT ?2",
        params![after.map_or(0, signed), limit],
        |row| {
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
                spki: get(row, 3, "enrolment.spki_hash").map(SpkiHash::from_bytes)?,
                claims: get(row, 4, "held.claims")?,
                asked_at: time(row, 5, "enrolment.admitted_at")?,
                until: time(row, 6, "held.until")?,
                state,
            }
            .into_request()
        },
    )
}

pub(super) fn decide(
    conn: &Connection,
    tally: &mut Tally,
    row: u64,
    said: HeldVerdict,
    person: &str,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let row = signed(row);
    let found = first(
        conn,
        "SELECT claims, until, verdict FROM held WHERE enrolment = ?1",
        [row],
        |row| facts(row, 0),
    )?
    .flatten();
    let (Some(held), Some(open)) = (found, enrolment::intent_of(conn, row)?) else {
        return Err(LedgerError::NotHeld);
    };
    if !judge_verdict(open.state, &held, said, now)? {
        return Ok(());
    }
    change(
        conn,
        "UPDATE held SET verdict = ?2, person = ?3, decided_at = ?4 WHERE enrolment = ?1",
        params![row, said.code(), person, now.seconds()],
    )?;
    revocation::audit(conn, said.action(), person, row, now)?;
    outbox::insert(conn, &report::held_decided(&open.intent, row, said, person, now))?;
    match said {
        HeldVerdict::Approve => Ok(()),
        HeldVerdict::Deny => {
            let detail = "a person has refused it";
            refuse(conn, tally, row, &open.intent, (Reason::ApprovalDenied, detail), now)
        }
    }
}

fn refuse(
    conn: &Connection,
    tally: &mut Tally,
    row: i64,
    intent: &Intent,
    (reason, detail): (Reason, &str),
    now: Timestamp,
) -> Result<(), LedgerError> {
    change(
        conn,
        "UPDATE enrolment SET state = 8, refusal = ?2, settled_at = ?3 WHERE id = ?1 AND state = 6",
        params![row, reason.code(), now.seconds()],
    )?;
    Tally::add(&mut tally.refused);
    outbox::insert(conn, &report::over(intent, row, reason, detail, now))
}

/// Refuses what has waited longer than it may, the oldest first. Gives how many.
pub(super) fn refuse_overdue(
    conn: &Connection,
    tally: &mut Tally,
    now: Timestamp,
) -> Result<u64, LedgerError> {
    let overdue = list(
        conn,
        "SELECT e.id FROM enrolment e JOIN held h ON h.enrolment = e.id \
         WHERE e.state = 6 AND h.until < ?1 ORDER BY e.id LIMIT ?2",
        params![now.seconds(), MAX_OVERDUE],
        |row| get::<i64>(row, 0, "enrolment.id"),
    )?;
    let mut refused: u64 = 0;
    for row in overdue {
        let Some(open) = enrolment::intent_of(conn, row)? else { continue };
        let why = (Reason::ApprovalExpired, "its time is over");
        refuse(conn, tally, row, &open.intent, why, now)?;
        refused = refused.saturating_add(1);
    }
    Ok(refused)
}
