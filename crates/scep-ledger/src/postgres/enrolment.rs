//! Admissions, their outcomes, and what is remembered of them.

use super::certificate::{self, standing_code};
use super::connection::Connection;
use super::row::{get, id, number, octets, optional_id, time};
use super::unit::{LedgerRow, Unit};
use super::{mismatch, revocation};
use crate::inventory::Standing;
use crate::report::{self, Draft, Found};
use crate::settings::MAX_SKEW;
use crate::store::{
    AdmitFacts, Admitted, BRAKE_SLOT, BRAKE_WINDOW, Intent, Mismatch, OpenIntent, PriorUse,
    Remembered, RememberedCertificate, Settlement, State, Verdict, judge_admission,
};
use crate::{LedgerError, LedgerSettings};
use core::time::Duration;
use scep_policy::Grounds;
use scep_types::{
    CertificateDer, ChallengeId, CsrInfoHash, DeviceId, GatewayGroupId, ProfileId, Reason,
    SerialNumber, SpkiDer, SpkiHash, TenantId, Timestamp, TransactionId, UserId,
};
use tokio_postgres::Row;

fn state(row: &Row, at: usize) -> Result<State, LedgerError> {
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
             (0, e.device), (1, e.user_id), (2, e.profile))) \
             FROM enrolment e LEFT JOIN certificate c ON c.id = e.certificate \
             WHERE e.info_hash = $1 ORDER BY e.id DESC LIMIT 1",
            &[&info.as_bytes().as_slice()],
        )
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let certificate = match get::<Option<i64>>(row, 2, "certificate.issued_at")? {
        None => None,
        Some(issued_at) => Some(RememberedCertificate {
            certificate: certificate::der(row, 1)?,
            issued_at: Timestamp::from_seconds(issued_at),
            revoked: get(row, 3, "certificate.revoked_at")?,
        }),
    };
    let denied = get(row, 4, "denial.subject")?;
    Ok(Some(Remembered { state: state(row, 0)?, certificate, denied }))
}

pub(super) async fn admit(
    unit: &mut Unit,
    intent: &Intent,
    per_hour: u32,
    settings: &LedgerSettings,
) -> Result<Admitted, LedgerError> {
    let facts = facts(unit, intent).await?;
    match judge_admission(intent, per_hour, &facts, settings) {
        Verdict::Admit => {
            let row = insert(unit, intent).await?;
            unit.admitted = Some(row);
            Ok(Admitted::Yes(row))
        }
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
        Verdict::Brake => {
            if unit.row.last_brake_alarm <= intent.at.minus(BRAKE_WINDOW) {
                unit.row.last_brake_alarm = intent.at;
                unit.tell(report::brake_engaged(per_hour, intent.at));
            }
            Ok(Admitted::No(Reason::IssuanceBrakeEngaged))
        }
    }
}

async fn facts(unit: &mut Unit, intent: &Intent) -> Result<AdmitFacts, LedgerError> {
    let rows = unit
        .query(
            "SELECT p.id, p.info_hash, p.state, p.breaches, \
             coalesce((SELECT count FROM mismatch WHERE tenant = $1 AND challenge = $2), 0), \
             EXISTS (SELECT 1 FROM denial WHERE tenant = $1 AND (kind, subject) IN (\
             (0, $3), (1, $4), (2, $5))), \
             EXISTS (SELECT 1 FROM certificate \
             WHERE spki_hash = $6 AND (tenant <> $1 OR device <> $3)) \
             OR EXISTS (SELECT 1 FROM enrolment \
             WHERE state <= 2 AND spki_hash = $6 AND (tenant <> $1 OR device <> $3)), \
             (SELECT coalesce(sum(admitted), 0)::bigint FROM admission_rate WHERE slot >= $7) \
             FROM (SELECT 1) AS one LEFT JOIN enrolment p \
             ON p.tenant = $1 AND p.challenge = $2 AND p.state <> 5",
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
        }),
    };
    Ok(AdmitFacts {
        prior,
        mismatches: number(row, 4, "mismatch.count")?,
        pruned_through: unit.row.pruned_through,
        restored_at: unit.row.restored_at,
        denied: get(row, 5, "denial.subject")?,
        key_of_another: get(row, 6, "certificate.spki_hash")?,
        admitted_last_hour: number(row, 7, "admission_rate.admitted")?,
    })
}

async fn insert(unit: &mut Unit, intent: &Intent) -> Result<i64, LedgerError> {
    let instance = unit.instance;
    unit.count(
        "WITH counted AS (INSERT INTO admission_rate (slot, admitted) VALUES ($18, 1) \
         ON CONFLICT (slot) DO UPDATE SET admitted = admission_rate.admitted + 1) \
         INSERT INTO enrolment (state, owner, tenant, challenge, issued_at, expires_at, device, \
         profile, user_id, audience, info_hash, spki, spki_hash, signer, transaction_id, serial, \
         expected, admitted_at) VALUES (0, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, \
         $14, $15, $16, $17) RETURNING id",
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
            &slot(intent.at),
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
    row: i64,
    intent: &Intent,
    settlement: &Settlement,
    now: Timestamp,
) -> Result<Settled, LedgerError> {
    let (state, event): (State, Option<Draft>) = match settlement {
        Settlement::Recorded(der, found) => {
            let settled = put(unit, row, intent, der, Standing::Issued, now).await?;
            return match (settled, found) {
                (true, _) => {
                    LedgerRow::add(&mut unit.row.issued);
                    unit.tell(report::issued(intent, row, der, *found, now));
                    Ok(Settled::Now)
                }
                (false, Found::InTurn) => late(unit, row, intent, der, now).await,
                // It found a certificate of a later intent of the challenge, who will record it.
                (false, Found::ByRecovery) => Ok(Settled::Before),
            };
        }
        Settlement::Withheld(der, detail) => {
            if put(unit, row, intent, der, Standing::Withheld, now).await? {
                LedgerRow::add(&mut unit.row.withheld);
                unit.tell(report::withheld(intent, row, der, detail, now));
                return Ok(Settled::Now);
            }
            return late(unit, row, intent, der, now).await;
        }
        Settlement::Freed(reason, detail) => {
            (State::Freed, Some(report::failed(intent, row, *reason, detail, now)))
        }
        Settlement::Unknown => (State::Unknown, None),
        Settlement::Orphan(detail) => {
            (State::Orphan, Some(report::possible_orphan(intent, row, detail, now)))
        }
    };
    let settled_at = (state != State::Unknown).then_some(now.seconds());
    // What was not issued does not count towards the brake.
    let changed = unit
        .count(
            "WITH settled AS (UPDATE enrolment SET state = $2, settled_at = $3 \
             WHERE id = $1 AND state <= 1 RETURNING id), \
             uncounted AS (UPDATE admission_rate SET admitted = admitted - 1 \
             WHERE slot = $4 AND admitted > 0 AND $2::bigint = 5 AND EXISTS (SELECT 1 FROM settled)) \
             SELECT count(*) FROM settled",
            &[&row, &state.code(), &settled_at, &slot(intent.at)],
        )
        .await?;
    if changed != 1 {
        return Ok(Settled::Before);
    }
    match state {
        State::Freed => LedgerRow::add(&mut unit.row.failed),
        State::Orphan => LedgerRow::add(&mut unit.row.withheld),
        State::Open | State::Unknown | State::Issued | State::Withheld => {}
    }
    if let Some(event) = event {
        unit.tell(event);
    }
    Ok(Settled::Now)
}

/// Settles an intent with a certificate; whether it was there to be settled. Otherwise nothing is written.
async fn put(
    unit: &mut Unit,
    row: i64,
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
    let changed = unit
        .count(
            "WITH made AS (INSERT INTO certificate (standing, tenant, device, profile, user_id, \
             challenge, transaction_id, signer, fingerprint, spki_hash, der, not_after, issued_at) \
             SELECT $3::bigint, $4, $5, $6, $7, $8::bytea, $9, $10::bytea, $11::bytea, $12::bytea, $13::bytea, $14::bigint, $15::bigint \
             WHERE EXISTS (SELECT 1 FROM enrolment WHERE id = $1 AND state <= 1) RETURNING id), \
             settled AS (UPDATE enrolment SET state = $2, settled_at = $15, \
             certificate = (SELECT id FROM made) WHERE id = $1 AND state <= 1 RETURNING id), \
             named AS (INSERT INTO certificate_name (issuer, serial, certificate) \
             SELECT $16::bytea, $17::bytea, id FROM made) \
             SELECT count(*) FROM settled",
            &[
                &row,
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
            ],
        )
        .await?;
    Ok(changed == 1)
}

/// A certificate whose intent the recovery of another gateway has settled meanwhile, as this one's lease was over. It
/// exists, so it goes on record and is reported, unless the recovery found it too; nobody may release it.
async fn late(
    unit: &mut Unit,
    row: i64,
    intent: &Intent,
    der: &CertificateDer,
    now: Timestamp,
) -> Result<Settled, LedgerError> {
    let (issuer, serial) = revocation::name(der);
    let rows = unit
        .query(
            "WITH made AS (INSERT INTO certificate (standing, tenant, device, profile, user_id, \
             challenge, transaction_id, signer, fingerprint, spki_hash, der, not_after, issued_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
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
            ],
        )
        .await?;
    if !rows.is_empty() {
        LedgerRow::add(&mut unit.row.withheld);
        let detail = "it came after another gateway's recovery had settled its intent";
        unit.tell(report::withheld(intent, row, der, detail, now));
    }
    Ok(Settled::Before)
}

/// This gateway's intents without an outcome, and those of gateways whose lease is over, which become this one's: two
/// recoveries do not work on the same.
pub(super) async fn claim(unit: &mut Unit) -> Result<Vec<OpenIntent>, LedgerError> {
    let instance = unit.instance;
    // The first condition is the index's.
    unit.query(
        "UPDATE enrolment e SET owner = $1 WHERE state <= 2 AND state <= 1 AND owner <> $1 \
         AND NOT EXISTS (SELECT 1 FROM gateway g \
         WHERE g.instance = e.owner AND g.lease_until > clock_timestamp())",
        &[&instance.octets()],
    )
    .await?;
    let rows = unit
        .query(
            "SELECT id, state, tenant, challenge, issued_at, expires_at, device, profile, user_id, \
             audience, info_hash, spki, signer, transaction_id, serial, expected, admitted_at \
             FROM enrolment WHERE state <= 2 AND state <= 1 AND owner = $1 ORDER BY id",
            &[&instance.octets()],
        )
        .await?;
    rows.iter().map(open_intent).collect()
}

fn open_intent(row: &Row) -> Result<OpenIntent, LedgerError> {
    let damaged = |what| LedgerError::Damaged { what };
    Ok(OpenIntent {
        row: get(row, 0, "enrolment.id")?,
        state: state(row, 1)?,
        intent: Intent {
            tenant: id(row, 2, "enrolment.tenant", TenantId::new)?,
            challenge: octets(row, 3, "enrolment.challenge").map(ChallengeId::from_bytes)?,
            issued_at: time(row, 4, "enrolment.issued_at")?,
            expires_at: time(row, 5, "enrolment.expires_at")?,
            device: id(row, 6, "enrolment.device", DeviceId::new)?,
            profile: id(row, 7, "enrolment.profile", ProfileId::new)?,
            user: optional_id(row, 8, "enrolment.user_id", UserId::new)?,
            audience: id(row, 9, "enrolment.audience", GatewayGroupId::new)?,
            info: octets(row, 10, "enrolment.info_hash").map(CsrInfoHash::from_bytes)?,
            spki: SpkiDer::parse(get::<&[u8]>(row, 11, "enrolment.spki")?)
                .map_err(|_| damaged("enrolment.spki"))?,
            signer: octets(row, 12, "enrolment.signer").map(SpkiHash::from_bytes)?,
            transaction: id(row, 13, "enrolment.transaction_id", TransactionId::new)?,
            serial: get::<Option<&[u8]>>(row, 14, "enrolment.serial")?
                .map(SerialNumber::from_content)
                .transpose()
                .map_err(|_| damaged("enrolment.serial"))?,
            expected: get(row, 15, "enrolment.expected")?,
            authority: scep_types::AuthorityName::main(),
            grounds: Grounds::Challenge,
            renewable_by: None,
            at: time(row, 16, "enrolment.admitted_at")?,
        },
    })
}

/// Forgets what no opener accepts any more and no retry asks for.
pub(super) async fn prune(
    unit: &mut Unit,
    retry_window: Duration,
    now: Timestamp,
) -> Result<u64, LedgerError> {
    let horizon = now.minus(MAX_SKEW).minus(retry_window).seconds();
    // Recovery may have recorded a certificate long after the challenge's expiry: its own window counts.
    let settled_by = now.minus(retry_window).seconds();
    let rows = unit
        .query(
            "WITH uses AS (DELETE FROM enrolment \
             WHERE expires_at < $1 AND state >= 3 AND settled_at < $2 RETURNING expires_at), \
             mismatches AS (DELETE FROM mismatch WHERE expires_at < $1 RETURNING expires_at), \
             rates AS (DELETE FROM admission_rate WHERE slot < $3), \
             gateways AS (DELETE FROM gateway g \
             WHERE lease_until < clock_timestamp() - interval '1 day' AND instance <> $4) \
             SELECT count(*), max(expires_at) FROM (SELECT expires_at FROM uses UNION ALL \
             SELECT expires_at FROM mismatches) AS pruned",
            &[&horizon, &settled_by, &slot(now.minus(BRAKE_WINDOW)), &unit.instance.0.to_vec()],
        )
        .await?;
    let row = rows.first().ok_or(LedgerError::Damaged { what: "enrolment" })?;
    if let Some(latest) = get::<Option<i64>>(row, 1, "enrolment.expires_at")? {
        let latest = Timestamp::from_seconds(latest);
        unit.row.pruned_through = unit.row.pruned_through.max(latest);
    }
    number(row, 0, "enrolment")
}
