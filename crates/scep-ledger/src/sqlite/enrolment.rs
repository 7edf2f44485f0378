//! Admissions, their outcomes, and what is remembered of them.

use super::row::{change, exists, first, get, id, list, number, optional_id, time};
use super::{Tally, certificate, denial, held, ledger_row, mismatch, outbox};
use crate::held::HeldVerdict;
use crate::inventory::Standing;
use crate::settings::MAX_SKEW;
use crate::store::{
    AdmitFacts, Admitted, Attempt, BRAKE_SLOT, BRAKE_WINDOW, Intent, MAX_PRUNED, Mismatch,
    OpenIntent, PriorUse, Pruned, Remembered, RememberedCertificate, RememberedHeld, Settlement,
    State, Terms, Verdict, freed_to, grounds_columns, grounds_from, judge_admission,
};
use crate::{LedgerError, LedgerSettings, report};
use core::time::Duration;
use rusqlite::{Connection, Row, params};
use scep_policy::Grounds;
use scep_types::{
    AuthorityName, CertificateFingerprint, ChallengeId, CsrInfoHash, DeviceId, GatewayGroupId,
    ProfileId, Reason, SerialNumber, SpkiDer, SpkiHash, TenantId, Timestamp, TransactionId, UserId,
};

pub(super) fn state(row: &Row<'_>, at: usize) -> Result<State, LedgerError> {
    let what = "enrolment.state";
    State::from_code(get(row, at, what)?).ok_or(LedgerError::Damaged { what })
}

pub(super) fn recall(
    conn: &Connection,
    info: CsrInfoHash,
) -> Result<Option<Remembered>, LedgerError> {
    // The latest counts: earlier ones of the same request were freed, or it would not have been admitted again.
    first(
        conn,
        "SELECT e.state, c.der, c.issued_at, c.revoked_at IS NOT NULL, e.tenant, e.device, e.user, \
         e.profile, e.refusal, h.csr, h.claims, h.until, h.verdict, e.authority FROM enrolment e \
         LEFT JOIN certificate c ON c.id = e.certificate LEFT JOIN held h ON h.enrolment = e.id \
         WHERE e.info_hash = ?1 ORDER BY e.id DESC LIMIT 1",
        [info.as_bytes()],
        |row| remembered(conn, row),
    )
}

/// The latest of a transaction and its signer.
pub(super) fn poll(
    conn: &Connection,
    transaction: &TransactionId,
    signer: SpkiHash,
) -> Result<Option<Remembered>, LedgerError> {
    first(
        conn,
        "SELECT e.state, c.der, c.issued_at, c.revoked_at IS NOT NULL, e.tenant, e.device, e.user, \
         e.profile, e.refusal, h.csr, h.claims, h.until, h.verdict, e.authority FROM enrolment e \
         LEFT JOIN certificate c ON c.id = e.certificate LEFT JOIN held h ON h.enrolment = e.id \
         WHERE e.id IN (SELECT id FROM enrolment WHERE transaction_id = ?1 AND signer = ?2 UNION ALL \
         SELECT enrolment FROM asked_again WHERE transaction_id = ?1 AND signer = ?2) \
         ORDER BY e.id DESC LIMIT 1",
        params![transaction.as_str(), signer.as_bytes()],
        |row| remembered(conn, row),
    )
}

fn remembered(conn: &Connection, row: &Row<'_>) -> Result<Remembered, LedgerError> {
    let certificate = match get::<Option<i64>>(row, 2, "certificate.issued_at")? {
        None => None,
        Some(issued_at) => Some(RememberedCertificate {
            certificate: certificate::der(row, 1)?,
            issued_at: Timestamp::from_seconds(issued_at),
            revoked: get(row, 3, "certificate.revoked_at")?,
        }),
    };
    let kept = match get::<Option<Vec<u8>>>(row, 9, "held.csr")? {
        None => None,
        Some(csr) => {
            let claims: Option<Vec<u8>> = get(row, 10, "held.claims")?;
            let until: Option<i64> = get(row, 11, "held.until")?;
            let verdict: Option<i64> = get(row, 12, "held.verdict")?;
            Some(RememberedHeld {
                csr,
                held: claims.zip(until.map(Timestamp::from_seconds)),
                approved: verdict == Some(HeldVerdict::Approve.code()),
                authority: id(row, 13, "enrolment.authority", AuthorityName::new)?,
            })
        }
    };
    Ok(Remembered {
        state: state(row, 0)?,
        certificate,
        kept,
        refusal: refusal(row, 8)?,
        denied: denial::any(
            conn,
            &get::<String>(row, 4, "enrolment.tenant")?,
            &get::<String>(row, 5, "enrolment.device")?,
            get::<Option<String>>(row, 6, "enrolment.user")?.as_deref(),
            &get::<String>(row, 7, "enrolment.profile")?,
        )?,
    })
}

pub(super) fn refusal(row: &Row<'_>, at: usize) -> Result<Option<Reason>, LedgerError> {
    let what = "enrolment.refusal";
    get::<Option<String>>(row, at, what)?
        .map(|code| Reason::from_code(&code).ok_or(LedgerError::Damaged { what }))
        .transpose()
}

pub(super) fn admit(
    conn: &Connection,
    tally: &mut Tally,
    intent: &Intent,
    terms: &Terms,
    settings: &LedgerSettings,
) -> Result<Admitted, LedgerError> {
    let facts = facts(conn, intent)?;
    match judge_admission(intent, terms, &facts, settings) {
        Verdict::Admit => {
            count_admission(conn, intent.at)?;
            insert(conn, intent, State::Open).map(Attempt::first).map(Admitted::Yes)
        }
        Verdict::Resume { row } => {
            count_admission(conn, intent.at)?;
            held::resume(conn, row, intent).map(Admitted::Yes)
        }
        Verdict::Brake => {
            let quiet_since = intent.at.minus(BRAKE_WINDOW);
            if ledger_row::raise_brake_alarm(conn, intent.at, quiet_since)? {
                outbox::insert(conn, &report::brake_engaged(terms.per_hour, intent.at))?;
            }
            Ok(Admitted::No(Reason::IssuanceBrakeEngaged))
        }
        other => refuse(conn, tally, intent, other, settings),
    }
}

/// What is done about a request that is neither admitted nor held.
pub(super) fn refuse(
    conn: &Connection,
    tally: &mut Tally,
    intent: &Intent,
    verdict: Verdict,
    settings: &LedgerSettings,
) -> Result<Admitted, LedgerError> {
    match verdict {
        Verdict::Refuse(reason) => Ok(Admitted::No(reason)),
        Verdict::Breach { row, nth } => {
            change(conn, "UPDATE enrolment SET breaches = ?2 WHERE id = ?1", params![row, nth])?;
            outbox::insert(conn, &report::breach(intent, row, nth, intent.at))?;
            Tally::add(&mut tally.refused);
            Ok(Admitted::No(Reason::ChallengeAlreadyUsed))
        }
        Verdict::Mismatch(reason) => {
            let denied = Mismatch::of_intent(intent, reason);
            mismatch::count(conn, tally, &denied, settings.max_mismatches, intent.at)?;
            Ok(Admitted::No(reason))
        }
        // The caller's own; none of them is decided on a request to be held.
        Verdict::Admit | Verdict::Resume { .. } | Verdict::Brake => {
            Ok(Admitted::No(Reason::InternalError))
        }
    }
}

pub(super) fn facts(conn: &Connection, intent: &Intent) -> Result<AdmitFacts, LedgerError> {
    let prior = first(
        conn,
        "SELECT e.id, e.info_hash, e.state, e.breaches, e.refusal, h.claims, h.until, h.verdict, e.authority \
         FROM enrolment e LEFT JOIN held h ON h.enrolment = e.id \
         WHERE e.tenant = ?1 AND e.challenge = ?2 AND e.state <> 5",
        params![intent.tenant.as_str(), intent.challenge.as_bytes()],
        |row| {
            Ok(PriorUse {
                row: get(row, 0, "enrolment.id")?,
                info: get(row, 1, "enrolment.info_hash").map(CsrInfoHash::from_bytes)?,
                state: state(row, 2)?,
                breaches: number(row, 3, "enrolment.breaches")?,
                refusal: refusal(row, 4)?,
                held: held::facts(row, 5)?,
                authority: id(row, 8, "enrolment.authority", AuthorityName::new)?,
            })
        },
    )?;
    let spki_hash = intent.spki.hash();
    let key_of_another = exists(
        conn,
        "SELECT 1 FROM certificate WHERE spki_hash = ?1 AND (tenant <> ?2 OR device <> ?3) \
         UNION ALL SELECT 1 FROM enrolment WHERE state IN (0, 1, 2, 6, 7) AND spki_hash = ?1 \
         AND (tenant <> ?2 OR device <> ?3)",
        params![spki_hash.as_bytes(), intent.tenant.as_str(), intent.device.as_str()],
    )?;
    let since = intent.at.minus(BRAKE_WINDOW).seconds().div_euclid(BRAKE_SLOT);
    let admitted_last_hour = first(
        conn,
        "SELECT coalesce(sum(admitted), 0) FROM admission_rate WHERE slot >= ?1",
        [since],
        |row| number(row, 0, "admission_rate.admitted"),
    )?
    .unwrap_or(0);
    let (pruned_through, restored_at) = ledger_row::forgotten(conn)?;
    let (predecessor, succeeded) = match intent.grounds {
        Grounds::Challenge | Grounds::Held => (None, false),
        Grounds::Renewal { predecessor, .. } => (
            certificate::predecessor(conn, predecessor)?.map(|of| of.facts),
            // What is on record counts, even if its use was pruned.
            exists(
                conn,
                "SELECT 1 FROM enrolment WHERE predecessor = ?1 AND state <> 5 AND predecessor IS NOT NULL \
                 UNION ALL SELECT 1 FROM certificate WHERE predecessor = ?1 AND standing = 0 \
                 AND predecessor IS NOT NULL",
                [predecessor.as_bytes()],
            )?,
        ),
    };
    Ok(AdmitFacts {
        prior,
        mismatches: mismatch::read(conn, &intent.tenant, intent.challenge)?
            .map_or(0, |(count, _)| count),
        pruned_through,
        restored_at,
        denied: denial::any(
            conn,
            intent.tenant.as_str(),
            intent.device.as_str(),
            intent.user.as_ref().map(UserId::as_str),
            intent.profile.as_str(),
        )?,
        key_of_another,
        admitted_last_hour,
        predecessor,
        succeeded,
    })
}

fn count_admission(conn: &Connection, at: Timestamp) -> Result<(), LedgerError> {
    change(
        conn,
        "INSERT INTO admission_rate (slot, admitted) VALUES (?1, 1) \
         ON CONFLICT DO UPDATE SET admitted = admitted + 1",
        [at.seconds().div_euclid(BRAKE_SLOT)],
    )?;
    Ok(())
}

/// What was not issued does not count towards the brake.
fn discount_admission(conn: &Connection, at: Timestamp) -> Result<(), LedgerError> {
    change(
        conn,
        "UPDATE admission_rate SET admitted = admitted - 1 WHERE slot = ?1 AND admitted > 0",
        [at.seconds().div_euclid(BRAKE_SLOT)],
    )?;
    Ok(())
}

pub(super) fn insert(conn: &Connection, intent: &Intent, state: State) -> Result<i64, LedgerError> {
    let (grounds, predecessor, generation) = grounds_columns(intent.grounds);
    change(
        conn,
        "INSERT INTO enrolment (state, tenant, challenge, issued_at, expires_at, device, profile, user, audience, \
         info_hash, spki, spki_hash, signer, transaction_id, serial, expected, admitted_at, authority, grounds, \
         predecessor, generation, renewable_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, \
         ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)",
        params![
            state.code(),
            intent.tenant.as_str(),
            intent.challenge.as_bytes(),
            intent.issued_at.seconds(),
            intent.expires_at.seconds(),
            intent.device.as_str(),
            intent.profile.as_str(),
            intent.user.as_ref().map(UserId::as_str),
            intent.audience.as_str(),
            intent.info.as_bytes(),
            intent.spki.as_der(),
            intent.spki.hash().as_bytes(),
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
    )?;
    Ok(conn.last_insert_rowid())
}

pub(super) fn settle(
    conn: &Connection,
    tally: &mut Tally,
    attempt: Attempt,
    intent: &Intent,
    settlement: &Settlement,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let row = attempt.row;
    let (state, certificate, event) = match settlement {
        Settlement::Recorded(der, found) => {
            Tally::add(&mut tally.issued);
            let certificate = certificate::insert(conn, intent, der, Standing::Issued, now)?;
            (State::Issued, Some(certificate), Some(report::issued(intent, row, der, *found, now)))
        }
        Settlement::Withheld(der, detail) => {
            Tally::add(&mut tally.withheld);
            let certificate = certificate::insert(conn, intent, der, Standing::Withheld, now)?;
            let event = report::withheld(intent, attempt, der, detail, now);
            (State::Withheld, Some(certificate), Some(event))
        }
        Settlement::Freed(reason, detail) => {
            Tally::add(&mut tally.failed);
            discount_admission(conn, intent.at)?;
            let event = report::failed(intent, attempt, *reason, detail, now);
            (freed_to(intent.grounds), None, Some(event))
        }
        // One process has the ledger: nobody else can have settled it meanwhile.
        Settlement::Unknown(_) => (State::Unknown, None, None),
        Settlement::Orphan(detail) => {
            Tally::add(&mut tally.withheld);
            let event = report::possible_orphan(intent, attempt, detail, now);
            (State::Orphan, None, Some(event))
        }
        Settlement::Pending(csr) => {
            held::keep(conn, row, csr)?;
            (State::Pending, None, None)
        }
        Settlement::Refused(reason, detail) => {
            Tally::add(&mut tally.failed);
            discount_admission(conn, intent.at)?;
            let event = report::over(intent, row, *reason, detail, now);
            (State::Refused, None, Some(event))
        }
    };
    let refusal = match settlement {
        Settlement::Refused(reason, _) => Some(reason.code()),
        _ => None,
    };
    let settled_at = state.is_settled().then_some(now.seconds());
    // What the CA has said it decides on later, only what it says then ends.
    let changed = change(
        conn,
        "UPDATE enrolment SET state = ?2, certificate = ?3, settled_at = ?4, refusal = ?5, \
         failures = failures + (?2 = 6) \
         WHERE id = ?1 AND failures = ?6 AND state = coalesce(?7, state) \
         AND (state IN (0, 1) OR state = 7 AND ?2 IN (2, 3, 4, 8))",
        params![
            row,
            state.code(),
            certificate,
            settled_at,
            refusal,
            attempt.failures,
            attempt.only_in(settlement),
        ],
    )?;
    if changed != 1 {
        // The certificate's row is undone with this job.
        return Err(LedgerError::AlreadySettled);
    }
    event.map_or(Ok(()), |event| outbox::insert(conn, &event))
}

pub(super) fn unsettled(conn: &Connection) -> Result<Vec<OpenIntent>, LedgerError> {
    list(
        conn,
        "SELECT id, state, tenant, challenge, issued_at, expires_at, device, profile, user, audience, info_hash, \
         spki, signer, transaction_id, serial, expected, admitted_at, authority, grounds, predecessor, generation, \
         renewable_by, failures FROM enrolment WHERE state IN (0, 1, 7) ORDER BY id",
        [],
        open_intent,
    )
}

/// The intent of a row of which only some columns are needed otherwise.
pub(super) fn intent_of(conn: &Connection, row: i64) -> Result<Option<OpenIntent>, LedgerError> {
    first(
        conn,
        "SELECT id, state, tenant, challenge, issued_at, expires_at, device, profile, user, audience, info_hash, \
         spki, signer, transaction_id, serial, expected, admitted_at, authority, grounds, predecessor, generation, \
         renewable_by, failures FROM enrolment WHERE id = ?1",
        [row],
        open_intent,
    )
}

fn open_intent(row: &Row<'_>) -> Result<OpenIntent, LedgerError> {
    let damaged = |what| LedgerError::Damaged { what };
    Ok(OpenIntent {
        row: get(row, 0, "enrolment.id")?,
        state: state(row, 1)?,
        failures: number(row, 22, "enrolment.failures")?,
        intent: Intent {
            tenant: id(row, 2, "enrolment.tenant", TenantId::new)?,
            challenge: get(row, 3, "enrolment.challenge").map(ChallengeId::from_bytes)?,
            issued_at: time(row, 4, "enrolment.issued_at")?,
            expires_at: time(row, 5, "enrolment.expires_at")?,
            device: id(row, 6, "enrolment.device", DeviceId::new)?,
            profile: id(row, 7, "enrolment.profile", ProfileId::new)?,
            user: optional_id(row, 8, "enrolment.user", UserId::new)?,
            audience: id(row, 9, "enrolment.audience", GatewayGroupId::new)?,
            info: get(row, 10, "enrolment.info_hash").map(CsrInfoHash::from_bytes)?,
            spki: SpkiDer::parse(&get::<Vec<u8>>(row, 11, "enrolment.spki")?)
                .map_err(|_| damaged("enrolment.spki"))?,
            signer: get(row, 12, "enrolment.signer").map(SpkiHash::from_bytes)?,
            transaction: id(row, 13, "enrolment.transaction_id", TransactionId::new)?,
            serial: get::<Option<Vec<u8>>>(row, 14, "enrolment.serial")?
                .map(|octets| SerialNumber::from_content(&octets))
                .transpose()
                .map_err(|_| damaged("enrolment.serial"))?,
            expected: get(row, 15, "enrolment.expected")?,
            at: time(row, 16, "enrolment.admitted_at")?,
            authority: id(row, 17, "enrolment.authority", AuthorityName::new)?,
            grounds: grounds_from(
                get(row, 18, "enrolment.grounds")?,
                get::<Option<[u8; 32]>>(row, 19, "enrolment.predecessor")?
                    .map(CertificateFingerprint::from_bytes),
                get(row, 20, "enrolment.generation")?,
            )
            .ok_or_else(|| damaged("enrolment.grounds"))?,
            renewable_by: get(row, 21, "enrolment.renewable_by")?,
        },
    })
}

/// Forgets what no opener accepts any more and no retry asks for: what has ended first, and not more than may be in one
/// transaction.
pub(super) fn prune(
    conn: &Connection,
    tally: &mut Tally,
    retry_window: Duration,
    now: Timestamp,
) -> Result<Pruned, LedgerError> {
    let refused = held::refuse_overdue(conn, tally, now)?;
    let horizon = now.minus(MAX_SKEW).minus(retry_window).seconds();
    // Recovery may have recorded a certificate long after the challenge's expiry: its own window counts.
    let settled_by = now.minus(retry_window).seconds();
    let slot = now.minus(BRAKE_WINDOW).seconds().div_euclid(BRAKE_SLOT);
    change(conn, "DELETE FROM admission_rate WHERE slot < ?1", [slot])?;
    let latest = first(
        conn,
        "SELECT max(expires_at) FROM (\
         SELECT expires_at FROM (SELECT expires_at FROM enrolment \
         WHERE expires_at < ?1 AND state IN (3, 4, 5, 8) AND settled_at < ?2 \
         ORDER BY expires_at, id LIMIT ?3) \
         UNION ALL SELECT expires_at FROM (SELECT expires_at FROM mismatch WHERE expires_at < ?1 \
         ORDER BY expires_at, tenant, challenge LIMIT ?3))",
        params![horizon, settled_by, MAX_PRUNED],
        |row| get::<Option<i64>>(row, 0, "enrolment.expires_at"),
    )?
    .flatten();
    let Some(latest) = latest else { return Ok(Pruned { count: refused, more: false }) };
    change(conn, "UPDATE ledger SET pruned_through = ?1 WHERE pruned_through < ?1", [latest])?;
    change(
        conn,
        "DELETE FROM asked_again WHERE enrolment IN (SELECT id FROM enrolment \
         WHERE expires_at < ?1 AND state IN (3, 4, 5, 8) AND settled_at < ?2 \
         ORDER BY expires_at, id LIMIT ?3)",
        params![horizon, settled_by, MAX_PRUNED],
    )?;
    change(
        conn,
        "DELETE FROM held WHERE enrolment IN (SELECT id FROM enrolment \
         WHERE expires_at < ?1 AND state IN (3, 4, 5, 8) AND settled_at < ?2 \
         ORDER BY expires_at, id LIMIT ?3)",
        params![horizon, settled_by, MAX_PRUNED],
    )?;
    let uses = change(
        conn,
        "DELETE FROM enrolment WHERE id IN (SELECT id FROM enrolment \
         WHERE expires_at < ?1 AND state IN (3, 4, 5, 8) AND settled_at < ?2 \
         ORDER BY expires_at, id LIMIT ?3)",
        params![horizon, settled_by, MAX_PRUNED],
    )?;
    let mismatches = change(
        conn,
        "DELETE FROM mismatch WHERE (tenant, challenge) IN (SELECT tenant, challenge FROM mismatch \
         WHERE expires_at < ?1 ORDER BY expires_at, tenant, challenge LIMIT ?2)",
        params![horizon, MAX_PRUNED],
    )?;
    let at_most = usize::try_from(MAX_PRUNED).unwrap_or(usize::MAX);
    let forgotten = u64::try_from(uses.saturating_add(mismatches)).unwrap_or(u64::MAX);
    Ok(Pruned {
        count: refused.saturating_add(forgotten),
        more: uses >= at_most || mismatches >= at_most,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::open;

    fn intent(n: u8) -> Intent {
        let mut point = vec![n; 65];
        point[0] = 4;
        let spki = SpkiDer::from_ec_point(&point).unwrap();
        Intent {
            tenant: TenantId::new("t").unwrap(),
            challenge: ChallengeId::from_bytes([1; 16]),
            issued_at: Timestamp::from_seconds(1),
            expires_at: Timestamp::from_seconds(2),
            device: DeviceId::new("d").unwrap(),
            profile: ProfileId::new("p").unwrap(),
            user: None,
            audience: GatewayGroupId::new("g").unwrap(),
            info: CsrInfoHash::from_bytes([n; 32]),
            signer: spki.hash(),
            spki,
            transaction: TransactionId::new("x").unwrap(),
            serial: Some(SerialNumber::from_random([n; 16])),
            expected: vec![1, 2, 3],
            authority: AuthorityName::main(),
            grounds: Grounds::Challenge,
            renewable_by: None,
            at: Timestamp::from_seconds(1),
        }
    }

    #[test]
    fn attack_08_the_table_itself_holds_a_challenge_once() {
        let folder = tempfile::tempdir().unwrap();
        let conn = open::open(&folder.path().join("ledger")).unwrap().writer;
        let first = insert(&conn, &intent(1), State::Open).unwrap();
        // Even if every check before it were wrong.
        let LedgerError::Engine { source, .. } =
            insert(&conn, &intent(2), State::Open).unwrap_err()
        else {
            panic!("another error");
        };
        assert_eq!(source.code, Some(rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE));
        change(&conn, "UPDATE enrolment SET state = 5 WHERE id = ?1", [first]).unwrap();
        insert(&conn, &intent(2), State::Open).unwrap();
    }

    #[test]
    fn no_transaction_forgets_more_than_others_can_wait_for() {
        let folder = tempfile::tempdir().unwrap();
        let conn = open::open(&folder.path().join("ledger")).unwrap().writer;
        insert(&conn, &intent(1), State::Freed).unwrap();
        // The oldest have the highest numbers.
        conn.execute_batch(
            "UPDATE enrolment SET settled_at = 1, expires_at = 10000; \
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) \
             INSERT INTO enrolment (state, authority, tenant, challenge, issued_at, expires_at, device, \
             profile, audience, info_hash, spki, spki_hash, signer, transaction_id, expected, grounds, \
             generation, admitted_at, settled_at) SELECT state, authority, tenant, challenge, issued_at, \
             expires_at - i, device, profile, audience, info_hash, spki, spki_hash, signer, \
             transaction_id, expected, grounds, generation, admitted_at, settled_at FROM enrolment, n; \
             INSERT INTO mismatch SELECT tenant, randomblob(16), 1, 9000 FROM enrolment LIMIT 1500;",
        )
        .unwrap();
        let mut tally = Tally::default();
        let now = Timestamp::from_seconds(1_000_000);
        let mut forget = || {
            let pruned = prune(&conn, &mut tally, Duration::from_secs(60), now).unwrap();
            let (through, _) = ledger_row::forgotten(&conn).unwrap();
            (pruned.count, pruned.more, through.seconds())
        };
        assert_eq!(forget(), (2_000, true, 9_000));
        assert_eq!(forget(), (1_500, true, 9_499));
        assert_eq!(forget(), (501, false, 10_000));
        assert_eq!(forget(), (0, false, 10_000));
    }

    #[test]
    fn an_intent_reads_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let conn = open::open(&folder.path().join("ledger")).unwrap().writer;
        insert(&conn, &intent(7), State::Open).unwrap();
        let left = unsettled(&conn).unwrap().swap_remove(0);
        assert_eq!((left.state, left.intent), (State::Open, intent(7)));
    }

    #[test]
    fn a_damaged_row_is_an_error_and_not_a_default() {
        let folder = tempfile::tempdir().unwrap();
        let conn = open::open(&folder.path().join("ledger")).unwrap().writer;
        insert(&conn, &intent(7), State::Open).unwrap();
        for (damage, what) in [
            ("UPDATE enrolment SET device = 'a b'", "enrolment.device"),
            ("UPDATE enrolment SET spki = x'00'", "enrolment.spki"),
            ("UPDATE enrolment SET serial = x'00'", "enrolment.serial"),
        ] {
            conn.execute_batch("SAVEPOINT whole").unwrap();
            change(&conn, damage, []).unwrap();
            assert_eq!(unsettled(&conn).unwrap_err(), LedgerError::Damaged { what });
            conn.execute_batch("ROLLBACK TO whole").unwrap();
        }
    }
}
