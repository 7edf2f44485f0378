//! Admissions, their outcomes, and what is remembered of them.

use super::certificate::{self, standing_code};
use super::connection::Connection;
use super::row::{get, id, number, octets};
use super::unit::{LedgerRow, Unit};
use super::{held, mismatch, revocation};
use crate::held::HeldVerdict;
use crate::inventory::Standing;
use crate::report::{self, Draft, Found};
use crate::settings::MAX_SKEW;
use crate::store::{
    AdmitFacts, Admitted, Attempt, BRAKE_SLOT, BRAKE_WINDOW, Intent, MAX_PRUNED, Mismatch,
    PriorUse, Pruned, Remembered, RememberedCertificate, RememberedHeld, Settlement, State, Terms,
    Verdict, freed_to, grounds_columns, judge_admission,
};
use crate::{LedgerError, LedgerSettings};
use core::time::Duration;
use scep_policy::Grounds;
use scep_types::{
    AuthorityName, CertificateDer, CsrInfoHash, Reason, SerialNumber, SpkiHash, Timestamp,
    TransactionId, UserId,
};
use tokio_postgres::Row;

pub(super) fn state(row: &Row, at: usize) -> Result<State, LedgerError> {
    let what = "enrolment.state";
    State::from_code(get(row, at, what)?).ok_or(LedgerError::Damaged { what })
}

fn slot(at: Timestamp) -> i64 {
    at.seconds().div_euclid(BRAKE_SLOT)
}

pub(super) async fn recall(
    conn: &Connection,
    info: CsrInfoHash,
) -> Result<Option<Remembered>, LedgerError> {
    // The latest counts: earlier ones of the same request were freed, or it would not have been admitted again.
    let rows = conn
        .read(
            "SELECT e.state, c.der, c.issued_at, c.revoked_at IS NOT NULL, EXISTS (\
             SELECT 1 FROM denial d WHERE d.tenant = e.tenant AND (d.kind, d.subject) IN (\
             (0, e.device), (1, e.user_id), (2, e.profile))), e.refusal, h.csr, h.claims, h.until, \
             h.verdict, e.authority FROM enrolment e LEFT JOIN certificate c ON c.id = e.certificate \
             LEFT JOIN held h ON h.enrolment = e.id \
             WHERE e.info_hash = $1 ORDER BY e.id DESC LIMIT 1",
            &[&info.as_bytes().as_slice()],
        )
        .await?;
    rows.first().map(remembered).transpose()
}

/// The latest of a transaction and its signer.
pub(super) async fn poll(
    conn: &Connection,
    transaction: &TransactionId,
    signer: SpkiHash,
) -> Result<Option<Remembered>, LedgerError> {
    let rows = conn
        .read(
            "SELECT e.state, c.der, c.issued_at, c.revoked_at IS NOT NULL, EXISTS (\
             SELECT 1 FROM denial d WHERE d.tenant = e.tenant AND (d.kind, d.subject) IN (\
             (0, e.device), (1, e.user_id), (2, e.profile))), e.refusal, h.csr, h.claims, h.until, \
             h.verdict, e.authority FROM enrolment e LEFT JOIN certificate c ON c.id = e.certificate \
             LEFT JOIN held h ON h.enrolment = e.id \
             WHERE e.id IN (SELECT id FROM enrolment WHERE transaction_id = $1 AND signer = $2 \
             UNION ALL SELECT enrolment FROM asked_again WHERE transaction_id = $1 AND signer = $2) \
             ORDER BY e.id DESC LIMIT 1",
            &[&transaction.as_str(), &signer.as_bytes().as_slice()],
        )
        .await?;
    rows.first().map(remembered).transpose()
}

fn remembered(row: &Row) -> Result<Remembered, LedgerError> {
    let certificate = match get::<Option<i64>>(row, 2, "certificate.issued_at")? {
        None => None,
        Some(issued_at) => Some(RememberedCertificate {
            certificate: certificate::der(row, 1)?,
            issued_at: Timestamp::from_seconds(issued_at),
            revoked: get(row, 3, "certificate.revoked_at")?,
        }),
    };
    let kept = match get::<Option<Vec<u8>>>(row, 6, "held.csr")? {
        None => None,
        Some(csr) => {
            let claims: Option<Vec<u8>> = get(row, 7, "held.claims")?;
            let until: Option<i64> = get(row, 8, "held.until")?;
            let verdict: Option<i64> = get(row, 9, "held.verdict")?;
            Some(RememberedHeld {
                csr,
                held: claims.zip(until.map(Timestamp::from_seconds)),
                approved: verdict == Some(HeldVerdict::Approve.code()),
                authority: id(row, 10, "enrolment.authority", AuthorityName::new)?,
            })
        }
    };
    Ok(Remembered {
        state: state(row, 0)?,
        certificate,
        kept,
        refusal: refusal(row, 5)?,
        denied: get(row, 4, "denial.subject")?,
    })
}

fn refusal(row: &Row, at: usize) -> Result<Option<Reason>, LedgerError> {
    let what = "enrolment.refusal";
    get::<Option<&str>>(row, at, what)?
        .map(|code| Reason::from_code(code).ok_or(LedgerError::Damaged { what }))
        .transpose()
}

pub(super) async fn admit(
    unit: &mut Unit,
    intent: &Intent,
    terms: &Terms,
    settings: &LedgerSettings,
) -> Result<Admitted, LedgerError> {
    let facts = facts(unit, intent).await?;
    match judge_admission(intent, terms, &facts, settings) {
        Verdict::Admit => {
            count_admission(unit, intent.at).await?;
            let row = insert(unit, intent, State::Open).await?;
            unit.admitted = Some(row);
            Ok(Admitted::Yes(Attempt::first(row)))
        }
        Verdict::Resume { row } => {
            count_admission(unit, intent.at).await?;
            let attempt = held::resume(unit, row, intent).await?;
            unit.admitted = Some(row);
            Ok(Admitted::Yes(attempt))
        }
        Verdict::Brake => {
            if unit.row.last_brake_alarm <= intent.at.minus(BRAKE_WINDOW) {
                unit.row.last_brake_alarm = intent.at;
                unit.tell(report::brake_engaged(terms.per_hour, intent.at));
            }
            Ok(Admitted::No(Reason::IssuanceBrakeEngaged))
        }
        other => refuse(unit, intent, other, settings).await,
    }
}

/// What is done about a request that is neither admitted nor held.
pub(super) async fn refuse(
    unit: &mut Unit,
    intent: &Intent,
    verdict: Verdict,
    settings: &LedgerSettings,
) -> Result<Admitted, LedgerError> {
    match verdict {
        Verdict::Refuse(reason) => Ok(Admitted::No(reason)),
        Verdict::Breach { row, nth } => {
            let breaches = i64::from(nth);
            unit.query("UPDATE enrolment SET breaches = $2 WHERE id = $1", &[&row, &breaches])
                .await?;
            unit.tell(report::breach(intent, row, nth, intent.at));
            LedgerRow::add(&mut unit.row.refused);
            Ok(Admitted::No(Reason::ChallengeAlreadyUsed))
        }
        Verdict::Mismatch(reason) => {
            let denied = Mismatch::of_intent(intent, reason);
            mismatch::count(unit, &denied, settings.max_mismatches, intent.at).await?;
            Ok(Admitted::No(reason))
        }
        // The caller's own; none of them is decided on a request to be held.
        Verdict::Admit | Verdict::Resume { .. } | Verdict::Brake => {
            Ok(Admitted::No(Reason::InternalError))
        }
    }
}

pub(super) async fn facts(unit: &mut Unit, intent: &Intent) -> Result<AdmitFacts, LedgerError> {
    let rows = unit
        .query(
            "SELECT p.id, p.info_hash, p.state, p.breaches, \
             coalesce((SELECT count FROM mismatch WHERE tenant = $1 AND challenge = $2), 0), \
             EXISTS (SELECT 1 FROM denial WHERE tenant = $1 AND (kind, subject) IN (\
             (0, $3), (1, $4), (2, $5))), \
             EXISTS (SELECT 1 FROM certificate \
             WHERE spki_hash = $6 AND (tenant <> $1 OR device <> $3)) \
             OR EXISTS (SELECT 1 FROM enrolment \
             WHERE state IN (0, 1, 2, 6, 7) AND spki_hash = $6 AND (tenant <> $1 OR device <> $3)), \
             (SELECT coalesce(sum(admitted), 0)::bigint FROM admission_rate WHERE slot >= $7), \
             p.refusal, h.claims, h.until, h.verdict, p.authority \
             FROM (SELECT 1) AS one LEFT JOIN enrolment p \
             ON p.tenant = $1 AND p.challenge = $2 AND p.state <> 5 \
             LEFT JOIN held h ON h.enrolment = p.id",
            &[
                &intent.tenant.as_str(),
                &intent.challenge.as_bytes().as_slice(),
                &intent.device.as_str(),
                &intent.user.as_ref().map(UserId::as_str),
                &intent.profile.as_str(),
                &intent.spki.hash().as_bytes().as_slice(),
                &slot(intent.at.minus(BRAKE_WINDOW)),
            ],
        )
        .await?;
    let row = rows.first().ok_or(LedgerError::Damaged { what: "enrolment" })?;
    let prior = match get::<Option<i64>>(row, 0, "enrolment.id")? {
        None => None,
        Some(prior) => Some(PriorUse {
            row: prior,
            info: octets(row, 1, "enrolment.info_hash").map(CsrInfoHash::from_bytes)?,
            state: state(row, 2)?,
            breaches: number(row, 3, "enrolment.breaches")?,
            refusal: refusal(row, 8)?,
            held: held::facts(row, 9)?,
            authority: id(row, 12, "enrolment.authority", AuthorityName::new)?,
        }),
    };
    let mut facts = AdmitFacts {
        prior,
        mismatches: number(row, 4, "mismatch.count")?,
        pruned_through: unit.row.pruned_through,
        restored_at: unit.row.restored_at,
        denied: get(row, 5, "denial.subject")?,
        key_of_another: get(row, 6, "certificate.spki_hash")?,
        admitted_last_hour: number(row, 7, "admission_rate.admitted")?,
        predecessor: None,
        succeeded: false,
    };
    if let Grounds::Renewal { predecessor, .. } = intent.grounds {
        facts.predecessor = certificate::predecessor_within(unit, predecessor).await?;
        // What is on record counts, even if its use was pruned.
        let rows = unit
            .query(
                "SELECT EXISTS (SELECT 1 FROM enrolment WHERE predecessor = $1 AND state <> 5) \
                 OR EXISTS (SELECT 1 FROM certificate WHERE predecessor = $1 AND standing = 0)",
                &[&predecessor.as_bytes().as_slice()],
            )
            .await?;
        let row = rows.first().ok_or(LedgerError::Damaged { what: "enrolment" })?;
        facts.succeeded = get(row, 0, "enrolment.predecessor")?;
    }
    Ok(facts)
}

async fn count_admission(unit: &mut Unit, at: Timestamp) -> Result<(), LedgerError> {
    unit.query(
        "INSERT INTO admission_rate (slot, admitted) VALUES ($1, 1) \
         ON CONFLICT (slot) DO UPDATE SET admitted = admission_rate.admitted + 1",
        &[&slot(at)],
    )
    .await?;
    Ok(())
}

pub(super) async fn insert(
    unit: &mut Unit,
    intent: &Intent,
    state: State,
) -> Result<i64, LedgerError> {
    let instance = unit.instance;
    let (grounds, predecessor, generation) = grounds_columns(intent.grounds);
    unit.count(
        "INSERT INTO enrolment (state, owner, tenant, challenge, issued_at, expires_at, device, \
         profile, user_id, audience, info_hash, spki, spki_hash, signer, transaction_id, serial, \
         expected, admitted_at, authority, grounds, predecessor, generation, renewable_by) \
         VALUES ($18, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
         $19, $20, $21, $22, $23) RETURNING id",
        &[
            &instance.octets(),
            &intent.tenant.as_str(),
            &intent.challenge.as_bytes().as_slice(),
            &intent.issued_at.seconds(),
            &intent.expires_at.seconds(),
            &intent.device.as_str(),
            &intent.profile.as_str(),
            &intent.user.as_ref().map(UserId::as_str),
            &intent.audience.as_str(),
            &intent.info.as_bytes().as_slice(),
            &intent.spki.as_der(),
            &intent.spki.hash().as_bytes().as_slice(),
            &intent.signer.as_bytes().as_slice(),
            &intent.transaction.as_str(),
            &intent.serial.as_ref().map(SerialNumber::as_content),
            &intent.expected.as_slice(),
            &intent.at.seconds(),
            &state.code(),
            &intent.authority.as_str(),
            &grounds,
            &predecessor.as_ref().map(|of| of.as_bytes().as_slice()),
            &i64::from(generation),
            &intent.renewable_by,
        ],
    )
    .await
}

/// Whether there was an intent to settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    Now,
    Before,
}

pub(super) async fn settle(
    unit: &mut Unit,
    attempt: Attempt,
    intent: &Intent,
    settlement: &Settlement,
    now: Timestamp,
) -> Result<Settled, LedgerError> {
    let row = attempt.row;
    let (state, event): (State, Option<Draft>) = match settlement {
        Settlement::Recorded(der, found) => {
            let settled = put(unit, attempt, intent, der, Standing::Issued, now).await?;
            return match (settled, found) {
                (true, _) => {
                    LedgerRow::add(&mut unit.row.issued);
                    unit.tell(report::issued(intent, row, der, *found, now));
                    Ok(Settled::Now)
                }
                (false, Found::InTurn) => late(unit, attempt, intent, der, now).await,
                // It found a certificate of a later intent of the challenge, who will record it.
                (false, Found::ByRecovery) => Ok(Settled::Before),
            };
        }
        Settlement::Withheld(der, detail) => {
            if put(unit, attempt, intent, der, Standing::Withheld, now).await? {
                LedgerRow::add(&mut unit.row.withheld);
                unit.tell(report::withheld(intent, attempt, der, detail, now));
                return Ok(Settled::Now);
            }
            if attempt.seen.is_some() && intent.serial.is_none() {
                // What is looked for by its key may be of a later intent, or attempt, who will record it.
                return Ok(Settled::Before);
            }
            return late(unit, attempt, intent, der, now).await;
        }
        Settlement::Freed(reason, detail) => {
            let event = report::failed(intent, attempt, *reason, detail, now);
            (freed_to(intent.grounds), Some(event))
        }
        Settlement::Unknown(_) => (State::Unknown, None),
        Settlement::Orphan(detail) => {
            (State::Orphan, Some(report::possible_orphan(intent, attempt, detail, now)))
        }
        Settlement::Pending(_) => (State::Pending, None),
        Settlement::Refused(reason, detail) => {
            (State::Refused, Some(report::over(intent, row, *reason, detail, now)))
        }
    };
    let refusal = match settlement {
        Settlement::Refused(reason, _) => Some(reason.code()),
        _ => None,
    };
    let settled_at = state.is_settled().then_some(now.seconds());
    // What was not issued does not count towards the brake. What the CA has said it decides on later, only what it
    // says then ends.
    let changed = unit
        .count(
            "WITH settled AS (UPDATE enrolment SET state = $2::bigint, settled_at = $3, refusal = $5, \
             failures = failures + CASE WHEN $2::bigint = 6 THEN 1 ELSE 0 END \
             WHERE id = $1 AND failures = $6 AND state = coalesce($7, state) \
             AND (state IN (0, 1) OR state = 7 AND $2::bigint IN (2, 8)) RETURNING id), \
             uncounted AS (UPDATE admission_rate SET admitted = admitted - 1 \
             WHERE slot = $4 AND admitted > 0 AND $2::bigint IN (5, 6, 8) AND EXISTS (SELECT 1 FROM settled)) \
             SELECT count(*) FROM settled",
            &[
                &row,
                &state.code(),
                &settled_at,
                &slot(intent.at),
                &refusal,
                &i64::from(attempt.failures),
                &attempt.only_in(settlement),
            ],
        )
        .await?;
    if changed != 1 {
        return match (settlement, attempt.seen) {
            (Settlement::Unknown(detail) | Settlement::Orphan(detail), None) => {
                late_unknown(unit, attempt, intent, detail, now).await
            }
            (Settlement::Pending(_), None) => {
                late_unknown(unit, attempt, intent, "the CA decides later", now).await
            }
            _ => Ok(Settled::Before),
        };
    }
    if let Settlement::Pending(csr) = settlement {
        held::keep(unit, row, csr).await?;
    }
    match settlement {
        Settlement::Freed(..) | Settlement::Refused(..) => LedgerRow::add(&mut unit.row.failed),
        Settlement::Orphan(_) => LedgerRow::add(&mut unit.row.withheld),
        Settlement::Recorded(..)
        | Settlement::Withheld(..)
        | Settlement::Unknown(_)
        | Settlement::Pending(_) => {}
    }
    if let Some(event) = event {
        unit.tell(event);
    }
    Ok(Settled::Now)
}

/// Settles an intent with a certificate; whether it was there to be settled. Otherwise nothing is written.
async fn put(
    unit: &mut Unit,
    attempt: Attempt,
    intent: &Intent,
    der: &CertificateDer,
    standing: Standing,
    now: Timestamp,
) -> Result<bool, LedgerError> {
    let state = match standing {
        Standing::Issued => State::Issued,
        Standing::Withheld => State::Withheld,
    };
    let (issuer, serial) = revocation::name(der);
    let (_, predecessor, generation) = grounds_columns(intent.grounds);
    let changed = unit
        .count(
            "WITH made AS (INSERT INTO certificate (standing, tenant, device, profile, user_id, \
             challenge, transaction_id, signer, fingerprint, spki_hash, der, not_after, issued_at, \
             authority, generation, predecessor, renewable_by) \
             SELECT $3::bigint, $4, $5, $6, $7, $8::bytea, $9, $10::bytea, $11::bytea, $12::bytea, \
             $13::bytea, $14::bigint, $15::bigint, $18, $19::bigint, $20::bytea, $21::bytea \
             WHERE EXISTS (SELECT 1 FROM enrolment WHERE id = $1 AND failures = $22 \
             AND state IN (0, 1, 7)) RETURNING id), \
             settled AS (UPDATE enrolment SET state = $2, settled_at = $15, \
             certificate = (SELECT id FROM made) \
             WHERE id = $1 AND failures = $22 AND state IN (0, 1, 7) RETURNING id), \
             named AS (INSERT INTO certificate_name (issuer, serial, certificate) \
             SELECT $16::bytea, $17::bytea, id FROM made) \
             SELECT count(*) FROM settled",
            &[
                &attempt.row,
                &state.code(),
                &standing_code(standing),
                &intent.tenant.as_str(),
                &intent.device.as_str(),
                &intent.profile.as_str(),
                &intent.user.as_ref().map(UserId::as_str),
                &intent.challenge.as_bytes().as_slice(),
                &intent.transaction.as_str(),
                &intent.signer.as_bytes().as_slice(),
                &der.fingerprint().as_bytes().as_slice(),
                &der.spki().hash().as_bytes().as_slice(),
                &der.as_der(),
                &der.not_after().seconds(),
                &now.seconds(),
                &issuer.as_slice(),
                &serial,
                &intent.authority.as_str(),
                &i64::from(generation),
                &predecessor.as_ref().map(|of| of.as_bytes().as_slice()),
                &intent.renewable_by,
                &i64::from(attempt.failures),
            ],
        )
        .await?;
    Ok(changed == 1)
}

/// A certificate whose intent the recovery of another gateway has settled meanwhile, as this one's lease was over. It
/// exists, so it goes on record and is reported, unless the recovery found it too; nobody may release it.
async fn late(
    unit: &mut Unit,
    attempt: Attempt,
    intent: &Intent,
    der: &CertificateDer,
    now: Timestamp,
) -> Result<Settled, LedgerError> {
    let (issuer, serial) = revocation::name(der);
    let (_, predecessor, generation) = grounds_columns(intent.grounds);
    let rows = unit
        .query(
            "WITH made AS (INSERT INTO certificate (standing, tenant, device, profile, user_id, \
             challenge, transaction_id, signer, fingerprint, spki_hash, der, not_after, issued_at, \
             authority, generation, predecessor, renewable_by) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $16, $17, $18, $19) \
             ON CONFLICT (fingerprint) DO NOTHING RETURNING id), \
             named AS (INSERT INTO certificate_name (issuer, serial, certificate) \
             SELECT $14, $15, id FROM made) SELECT id FROM made",
            &[
                &standing_code(Standing::Withheld),
                &intent.tenant.as_str(),
                &intent.device.as_str(),
                &intent.profile.as_str(),
                &intent.user.as_ref().map(UserId::as_str),
                &intent.challenge.as_bytes().as_slice(),
                &intent.transaction.as_str(),
                &intent.signer.as_bytes().as_slice(),
                &der.fingerprint().as_bytes().as_slice(),
                &der.spki().hash().as_bytes().as_slice(),
                &der.as_der(),
                &der.not_after().seconds(),
                &now.seconds(),
                &issuer.as_slice(),
                &serial,
                &intent.authority.as_str(),
                &i64::from(generation),
                &predecessor.as_ref().map(|of| of.as_bytes().as_slice()),
                &intent.renewable_by,
            ],
        )
        .await?;
    if !rows.is_empty() {
        LedgerRow::add(&mut unit.row.withheld);
        let detail = "it came after another gateway's recovery had settled its intent";
        unit.tell(report::withheld(intent, attempt, der, detail, now));
    }
    Ok(Settled::Before)
}

/// An outcome that nobody knows, of an intent that the recovery of another gateway has settled meanwhile as one of which
/// nothing was issued, or that was asked for anew since: the CA may have issued after recovery had looked.
async fn late_unknown(
    unit: &mut Unit,
    attempt: Attempt,
    intent: &Intent,
    detail: &str,
    now: Timestamp,
) -> Result<Settled, LedgerError> {
    // Its certificate is on record, it is reported already, or recovery asks on.
    let rows = unit
        .query(
            "SELECT 1 FROM enrolment WHERE id = $1 AND failures = $2 AND state NOT IN (5, 6, 8)",
            &[&attempt.row, &i64::from(attempt.failures)],
        )
        .await?;
    if !rows.is_empty() {
        return Ok(Settled::Before);
    }
    LedgerRow::add(&mut unit.row.withheld);
    let detail =
        format!("it came after another gateway's recovery had settled its intent: {detail}");
    unit.tell(report::possible_orphan(intent, attempt, &detail, now));
    Ok(Settled::Now)
}

/// Forgets what no opener accepts any more and no retry asks for: what has ended first, and not more than may be in one
/// transaction.
pub(super) async fn prune(
    unit: &mut Unit,
    retry_window: Duration,
    now: Timestamp,
) -> Result<Pruned, LedgerError> {
    let refused = held::refuse_overdue(unit, now).await?;
    let horizon = now.minus(MAX_SKEW).minus(retry_window).seconds();
    // Recovery may have recorded a certificate long after the challenge's expiry: its own window counts.
    let settled_by = now.minus(retry_window).seconds();
    let at_most = i64::from(MAX_PRUNED);
    unit.query(
        "DELETE FROM asked_again WHERE enrolment IN (SELECT id FROM enrolment \
         WHERE expires_at < $1 AND state IN (3, 4, 5, 8) AND settled_at < $2 \
         ORDER BY expires_at, id LIMIT $3)",
        &[&horizon, &settled_by, &at_most],
    )
    .await?;
    unit.query(
        "DELETE FROM held WHERE enrolment IN (SELECT id FROM enrolment \
         WHERE expires_at < $1 AND state IN (3, 4, 5, 8) AND settled_at < $2 \
         ORDER BY expires_at, id LIMIT $3)",
        &[&horizon, &settled_by, &at_most],
    )
    .await?;
    let rows = unit
        .query(
            "WITH uses AS (DELETE FROM enrolment WHERE id IN (SELECT id FROM enrolment \
             WHERE expires_at < $1 AND state IN (3, 4, 5, 8) AND settled_at < $2 \
             ORDER BY expires_at, id LIMIT $5) RETURNING expires_at), \
             mismatches AS (DELETE FROM mismatch WHERE (tenant, challenge) IN (\
             SELECT tenant, challenge FROM mismatch WHERE expires_at < $1 \
             ORDER BY expires_at, tenant, challenge LIMIT $5) RETURNING expires_at), \
             rates AS (DELETE FROM admission_rate WHERE slot < $3), \
             gateways AS (DELETE FROM gateway g \
             WHERE lease_until < clock_timestamp() - interval '1 day' AND instance <> $4) \
             SELECT (SELECT count(*) FROM uses), (SELECT count(*) FROM mismatches), \
             max(expires_at) FROM (SELECT expires_at FROM uses UNION ALL \
             SELECT expires_at FROM mismatches) AS pruned",
            &[
                &horizon,
                &settled_by,
                &slot(now.minus(BRAKE_WINDOW)),
                &unit.instance.0.to_vec(),
                &at_most,
            ],
        )
        .await?;
    let row = rows.first().ok_or(LedgerError::Damaged { what: "enrolment" })?;
    if let Some(latest) = get::<Option<i64>>(row, 2, "enrolment.expires_at")? {
        let latest = Timestamp::from_seconds(latest);
        unit.row.pruned_through = unit.row.pruned_through.max(latest);
    }
    let (uses, mismatches): (u64, u64) =
        (number(row, 0, "enrolment")?, number(row, 1, "mismatch")?);
    let at_most = u64::from(MAX_PRUNED);
    Ok(Pruned {
        count: refused.saturating_add(uses).saturating_add(mismatches),
        more: uses >= at_most || mismatches >= at_most,
    })
}
