//! Revocations and CRLs.
//!
//! A job in `sent` belongs to the gateway that asks the CA. The others leave it alone until that gateway's lease is over,
//! as they do with intents; so a CA is asked by one at a time.

use super::certificate;
use super::connection::Connection;
use super::row::{get, id, number, octets, signed, time};
use super::unit::{Instance, Unit};
use crate::LedgerError;
use crate::inventory::RevocationReason;
use crate::report::{self, EventKind};
use crate::revocation::{
    BrakeFacts, CertificateStatus, CrlEntry, OrderedBy, QueueOutcome, RevocationJob,
    RevocationOrder, RevocationState, RevocationWork, brake_holds,
};
use crate::settings::RevocationBrake;
use crate::store::BRAKE_WINDOW;
use scep_types::{
    CertificateDer, CertificateFingerprint, CrlDer, DeviceId, NameHash, SerialNumber, TenantId,
    Timestamp,
};
use std::collections::HashMap;
use tokio_postgres::Row;

const QUEUED: i64 = 0;
const SENT: i64 = 1;
const REVOKED: i64 = 2;
const ON_CRL: i64 = 3;
const FAILED: i64 = 4;

fn state(row: &Row, at: usize, failure: usize) -> Result<RevocationState, LedgerError> {
    Ok(match get::<i64>(row, at, "revocation.state")? {
        QUEUED => RevocationState::Queued,
        SENT => RevocationState::Sent,
        REVOKED => RevocationState::Revoked,
        ON_CRL => RevocationState::OnCrl,
        FAILED => RevocationState::Failed(get(row, failure, "revocation.failure")?),
        _ => return Err(LedgerError::Damaged { what: "revocation.state" }),
    })
}

fn reason(row: &Row, at: usize) -> Result<RevocationReason, LedgerError> {
    let what = "revocation.reason";
    let code = number::<u8>(row, at, what)?;
    RevocationReason::from_code(code).ok_or(LedgerError::Damaged { what })
}

fn serial(row: &Row, at: usize) -> Result<SerialNumber, LedgerError> {
    let what = "revocation.serial";
    SerialNumber::from_content(get(row, at, what)?).map_err(|_| LedgerError::Damaged { what })
}

fn fingerprint(row: &Row, at: usize) -> Result<CertificateFingerprint, LedgerError> {
    octets(row, at, "certificate.fingerprint").map(CertificateFingerprint::from_bytes)
}

type Owner = (TenantId, DeviceId, CertificateFingerprint);

fn owner(row: &Row, [tenant, device, print]: [usize; 3]) -> Result<Owner, LedgerError> {
    Ok((
        id(row, tenant, "certificate.tenant", TenantId::new)?,
        id(row, device, "certificate.device", DeviceId::new)?,
        fingerprint(row, print)?,
    ))
}

/// Under what a certificate is found: the issuer's Name, hashed, and the serial number.
pub(super) fn name(certificate: &CertificateDer) -> ([u8; 32], &[u8]) {
    (*NameHash::of(certificate.issuer_der()).as_bytes(), certificate.serial_content())
}

pub(super) async fn queue(
    unit: &mut Unit,
    order: &RevocationOrder,
    now: Timestamp,
) -> Result<QueueOutcome, LedgerError> {
    let (tenant, operator) = match &order.by {
        OrderedBy::Tenant(tenant) => (Some(tenant.as_str()), None),
        OrderedBy::Operator(name) => (None, Some(name.as_str())),
    };
    let (issuer, serial) = (order.issuer.as_bytes().as_slice(), order.serial.as_content());
    let found = unit
        .query(
            "SELECT c.id, c.not_after, r.state, r.failure, r.id \
             FROM certificate_name n JOIN certificate c ON c.id = n.certificate \
             LEFT JOIN revocation r ON r.issuer = n.issuer AND r.serial = n.serial \
             WHERE n.issuer = $1 AND n.serial = $2 AND ($3::text IS NULL OR c.tenant = $3) \
             ORDER BY c.id LIMIT 1",
            &[&issuer, &serial, &tenant],
        )
        .await?;
    let Some(found) = found.first() else { return Ok(QueueOutcome::NotFound) };
    let (certificate, not_after): (i64, i64) =
        (get(found, 0, "certificate.id")?, get(found, 1, "certificate.not_after")?);
    let before = match get::<Option<i64>>(found, 4, "revocation.id")? {
        None => None,
        Some(row) => Some((state(found, 2, 3)?, row)),
    };
    // The brake is against orders from afar: an operator's own is one confirmed already.
    let counted = operator.is_none();
    let why = i64::from(order.reason.code());
    let (row, outcome) = match before {
        None => {
            let row = unit
                .count(
                    "INSERT INTO revocation (issuer, serial, certificate, not_after, state, reason, \
                     counted, queued_at) VALUES ($1, $2, $3, $4, 0, $5, $6, $7) RETURNING id",
                    &[&issuer, &serial, &certificate, &not_after, &why, &counted, &now.seconds()],
                )
                .await?;
            (row, QueueOutcome::Queued)
        }
        Some((RevocationState::Failed(_), row)) => {
            unit.query(
                "UPDATE revocation SET state = 0, reason = $2, counted = $3, queued_at = $4, \
                 sent_at = NULL, owner = NULL, failure = NULL, attempts = attempts + 1 WHERE id = $1",
                &[&row, &why, &counted, &now.seconds()],
            )
            .await?;
            (row, QueueOutcome::Queued)
        }
        Some((RevocationState::Queued, row)) => {
            if !counted {
                unit.query("UPDATE revocation SET counted = FALSE WHERE id = $1", &[&row]).await?;
            }
            (row, QueueOutcome::Already(RevocationState::Queued))
        }
        Some((state, row)) => (row, QueueOutcome::Already(state)),
    };
    if let Some(operator) = operator {
        audit(unit, "revoke", operator, row, now).await?;
    }
    Ok(outcome)
}

pub(super) async fn audit(
    unit: &mut Unit,
    action: &str,
    operator: &str,
    value: i64,
    now: Timestamp,
) -> Result<i64, LedgerError> {
    unit.count(
        "INSERT INTO audit (action, operator, old_value, new_value, at) VALUES ($1, $2, 0, $3, $4) \
         RETURNING id",
        &[&action, &operator, &value, &now.seconds()],
    )
    .await
}

pub(super) async fn read(
    conn: &Connection,
    issuer: NameHash,
    serial: &SerialNumber,
) -> Result<Option<RevocationState>, LedgerError> {
    let rows = conn
        .read(
            "SELECT state, failure FROM revocation WHERE issuer = $1 AND serial = $2",
            &[&issuer.as_bytes().as_slice(), &serial.as_content()],
        )
        .await?;
    rows.first().map(|row| state(row, 0, 1)).transpose()
}

pub(super) async fn status(
    conn: &Connection,
    issuer: NameHash,
    serial: &SerialNumber,
) -> Result<Option<CertificateStatus>, LedgerError> {
    let rows = conn
        .read(
            "SELECT c.standing, c.revoked_at, c.revocation_reason FROM certificate_name n \
             JOIN certificate c ON c.id = n.certificate WHERE n.issuer = $1 AND n.serial = $2",
            &[&issuer.as_bytes().as_slice(), &serial.as_content()],
        )
        .await?;
    let one = |row: &Row| {
        let revoked = match get::<Option<i64>>(row, 1, "certificate.revoked_at")? {
            Some(at) => Some((Timestamp::from_seconds(at), reason(row, 2)?)),
            None => None,
        };
        CertificateStatus::of(get(row, 0, "certificate.standing")?, revoked)
    };
    Ok(CertificateStatus::worst(rows.iter().map(one).collect::<Result<Vec<_>, _>>()?))
}

/// Of what is `sent`, only this gateway's own and what nobody works on any more is there to be done.
pub(super) async fn work(
    conn: &Connection,
    issuer: NameHash,
    instance: Instance,
) -> Result<RevocationWork, LedgerError> {
    // One statement: what it counts and the CRL that it names are of one moment.
    let rows = conn
        .read(
            "SELECT w.waiting, w.held, w.unpublished, crl.number, crl.this_update FROM (\
             SELECT count(*) FILTER (WHERE state = 1 AND (owner = $2 OR NOT EXISTS (\
             SELECT 1 FROM gateway g WHERE g.instance = owner AND g.lease_until > clock_timestamp())) \
             OR state = 0 AND NOT (counted AND engaged)) AS waiting, \
             count(*) FILTER (WHERE state = 0 AND counted AND engaged) AS held, \
             count(*) FILTER (WHERE state = 2) AS unpublished \
             FROM revocation, (SELECT EXISTS (SELECT 1 FROM revocation_brake) AS engaged) AS brake \
             WHERE issuer = $1 AND state <= 2) AS w LEFT JOIN crl ON crl.issuer = $1",
            &[&issuer.as_bytes().as_slice(), &instance.octets()],
        )
        .await?;
    let row = rows.first().ok_or(LedgerError::Damaged { what: "revocation" })?;
    let last_crl = match get::<Option<i64>>(row, 3, "crl.number")? {
        None => None,
        Some(_) => Some((number(row, 3, "crl.number")?, time(row, 4, "crl.this_update")?)),
    };
    Ok(RevocationWork {
        waiting: number(row, 0, "revocation.state")?,
        held: number(row, 1, "revocation.state")?,
        unpublished: number(row, 2, "revocation.state")?,
        last_crl,
    })
}

/// The orders to all gateways count together.
async fn facts(
    unit: &mut Unit,
    brake: RevocationBrake,
    now: Timestamp,
) -> Result<BrakeFacts, LedgerError> {
    let rows = unit
        .query(
            "SELECT EXISTS (SELECT 1 FROM revocation_brake), (SELECT count(*) FROM revocation \
             WHERE counted AND (sent_at IS NULL OR sent_at > $1))",
            &[&now.minus(BRAKE_WINDOW).seconds()],
        )
        .await?;
    let row = rows.first().ok_or(LedgerError::Damaged { what: "revocation" })?;
    let counted = number(row, 1, "revocation.counted")?;
    let live = if counted > u64::from(brake.at_least) {
        let live = unit
            .count(
                "SELECT count(*) FROM certificate WHERE standing = 0 AND revoked_at IS NULL \
                 AND not_after >= $1",
                &[&now.seconds()],
            )
            .await?;
        u64::try_from(live).map_err(|_| LedgerError::Damaged { what: "certificate" })?
    } else {
        // Nothing that is decided depends on it.
        0
    };
    Ok(BrakeFacts { engaged: get(row, 0, "revocation_brake")?, counted, live })
}

pub(super) async fn next(
    unit: &mut Unit,
    issuer: NameHash,
    limit: u32,
    brake: RevocationBrake,
    now: Timestamp,
) -> Result<Vec<RevocationJob>, LedgerError> {
    let facts = facts(unit, brake, now).await?;
    let holds = brake_holds(&facts, brake);
    if holds && !facts.engaged {
        unit.query(
            "INSERT INTO revocation_brake (id, engaged_at) VALUES (1, $1)",
            &[&now.seconds()],
        )
        .await?;
        unit.tell(report::revocation_brake_engaged(facts.counted, facts.live, now));
    }
    let (issuer_octets, instance) = (issuer.as_bytes().as_slice(), unit.instance);
    // What a gateway has left that is gone. Whether the CA has it, only the CA knows.
    unit.query(
        "UPDATE revocation r SET owner = $2 WHERE issuer = $1 AND state <= 2 AND state = 1 \
         AND owner <> $2 AND NOT EXISTS (SELECT 1 FROM gateway g \
         WHERE g.instance = r.owner AND g.lease_until > clock_timestamp())",
        &[&issuer_octets, &instance.octets()],
    )
    .await?;
    unit.query(
        "UPDATE revocation SET state = 1, owner = $4, sent_at = $5 WHERE id IN (\
         SELECT id FROM revocation WHERE issuer = $1 AND state <= 2 AND state = 0 \
         AND NOT (counted AND $3) ORDER BY id LIMIT greatest(0, $2::bigint - (\
         SELECT count(*) FROM revocation \
         WHERE issuer = $1 AND state <= 2 AND state = 1 AND owner = $4)))",
        &[&issuer_octets, &i64::from(limit), &holds, &instance.octets(), &now.seconds()],
    )
    .await?;
    let rows = unit
        .query(
            "SELECT r.id, r.serial, r.reason, c.fingerprint FROM revocation r \
             JOIN certificate c ON c.id = r.certificate \
             WHERE r.issuer = $1 AND r.state <= 2 AND r.state = 1 AND r.owner = $2 ORDER BY r.id",
            &[&issuer_octets, &instance.octets()],
        )
        .await?;
    let job = |row: &Row| {
        Ok(RevocationJob {
            row: get(row, 0, "revocation.id")?,
            issuer,
            serial: serial(row, 1)?,
            reason: reason(row, 2)?,
            certificate: fingerprint(row, 3)?,
        })
    };
    rows.iter().map(job).collect()
}

pub(super) async fn done(unit: &mut Unit, row: i64, at: Timestamp) -> Result<(), LedgerError> {
    // A CA that gave one number twice has revoked both.
    let certificates = unit
        .query(
            "WITH done AS (UPDATE revocation SET state = 2, owner = NULL, revoked_at = $2 \
             WHERE id = $1 AND state = 1 RETURNING issuer, serial, reason) \
             SELECT c.fingerprint, done.reason FROM done \
             JOIN certificate_name n ON n.issuer = done.issuer AND n.serial = done.serial \
             JOIN certificate c ON c.id = n.certificate ORDER BY c.id",
            &[&row, &at.seconds()],
        )
        .await?;
    for row in &certificates {
        certificate::revoke(unit, fingerprint(row, 0)?, reason(row, 1)?, at).await?;
    }
    Ok(())
}

pub(super) async fn failed(
    unit: &mut Unit,
    row: i64,
    why: &str,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let rows = unit
        .query(
            "WITH failed AS (UPDATE revocation SET state = 4, owner = NULL, failure = $2 \
             WHERE id = $1 AND state = 1 RETURNING certificate, attempts) \
             SELECT c.tenant, c.device, c.fingerprint, failed.attempts FROM failed \
             JOIN certificate c ON c.id = failed.certificate",
            &[&row, &why],
        )
        .await?;
    if let Some(told) = rows.first() {
        let attempt = number(told, 3, "revocation.attempts")?;
        let (kind, facts) = (EventKind::RevocationFailed, [("detail", why)]);
        let owner = owner(told, [0, 1, 2])?;
        unit.tell(report::revocation_step(kind, (row, attempt), owner, &facts, now));
    }
    Ok(())
}

pub(super) async fn confirm(
    unit: &mut Unit,
    operator: &str,
    now: Timestamp,
) -> Result<u64, LedgerError> {
    let waiting = unit
        .count(
            "WITH let_go AS (UPDATE revocation SET counted = FALSE WHERE counted RETURNING state), \
             brake AS (DELETE FROM revocation_brake) \
             SELECT count(*) FROM let_go WHERE state = 0",
            &[],
        )
        .await?;
    let nth = audit(unit, "confirm-revocations", operator, waiting, now).await?;
    let waiting =
        u64::try_from(waiting).map_err(|_| LedgerError::Damaged { what: "revocation" })?;
    unit.tell(report::revocations_confirmed(nth, operator, waiting, now));
    Ok(waiting)
}

/// A page of the entries after a row, and the row it ends with; `None` when the page is the last one.
pub(super) async fn entries(
    conn: &Connection,
    issuer: NameHash,
    after: i64,
    limit: usize,
) -> Result<(Vec<CrlEntry>, Option<i64>), LedgerError> {
    let rows = conn
        .read(
            "SELECT r.id, r.serial, r.revoked_at, r.reason FROM revocation r \
             LEFT JOIN crl ON crl.issuer = r.issuer WHERE r.issuer = $1 AND r.id > $2 \
             AND (r.state = 2 OR r.state = 3 AND r.not_after >= coalesce(crl.this_update, 0)) \
             ORDER BY r.id LIMIT $3",
            &[&issuer.as_bytes().as_slice(), &after, &i64::try_from(limit).unwrap_or(i64::MAX)],
        )
        .await?;
    let entry = |row: &Row| {
        Ok(CrlEntry {
            serial: serial(row, 1)?,
            revoked_at: time(row, 2, "revocation.revoked_at")?,
            reason: reason(row, 3)?,
        })
    };
    let last = match rows.last().filter(|_| rows.len() >= limit) {
        None => None,
        Some(row) => Some(get(row, 0, "revocation.id")?),
    };
    Ok((rows.iter().map(entry).collect::<Result<_, LedgerError>>()?, last))
}

pub(super) async fn last_crl(
    conn: &Connection,
    issuer: NameHash,
) -> Result<Option<Vec<u8>>, LedgerError> {
    let rows = conn
        .read("SELECT der FROM crl WHERE issuer = $1", &[&issuer.as_bytes().as_slice()])
        .await?;
    rows.first().map(|row| get(row, 0, "crl.der")).transpose()
}

pub(super) async fn record_crl(
    unit: &mut Unit,
    issuer: NameHash,
    (after, crl_number): (Option<u64>, u64),
    crl: &CrlDer,
    now: Timestamp,
) -> Result<u64, LedgerError> {
    let issuer = issuer.as_bytes().as_slice();
    let last = unit.query("SELECT number FROM crl WHERE issuer = $1", &[&issuer]).await?;
    let last = last.first().map(|row| number::<u64>(row, 0, "crl.number")).transpose()?;
    crate::revocation::check_crl_number(last, after, crl_number)?;
    let numbered = signed(crl_number);
    unit.query(
        "INSERT INTO crl (issuer, number, this_update, der) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (issuer) DO UPDATE SET number = $2, this_update = $3, der = $4",
        &[&issuer, &numbered, &crl.this_update().seconds(), &crl.as_der()],
    )
    .await?;
    let rows = unit
        .query(
            "SELECT r.serial, r.id, c.tenant, c.device, c.fingerprint FROM revocation r \
             JOIN certificate c ON c.id = r.certificate \
             WHERE r.issuer = $1 AND r.state <= 2 AND r.state = 2",
            &[&issuer],
        )
        .await?;
    let mut unpublished: HashMap<&[u8], (i64, Owner)> = HashMap::new();
    for row in &rows {
        let serial = get(row, 0, "revocation.serial")?;
        unpublished.insert(serial, (get(row, 1, "revocation.id")?, owner(row, [2, 3, 4])?));
    }
    let mut published: Vec<i64> = Vec::new();
    let text = crl_number.to_string();
    for serial in crl.serials() {
        if unpublished.is_empty() {
            break;
        }
        let Some((row, owner)) = unpublished.remove(serial) else { continue };
        published.push(row);
        let (kind, facts) = (EventKind::OnCrl, [("crl_number", text.as_str())]);
        unit.tell(report::revocation_step(kind, (row, 0), owner, &facts, now));
    }
    if !published.is_empty() {
        unit.query(
            "UPDATE revocation SET state = 3, crl_number = $2 WHERE id = ANY ($1)",
            &[&published, &numbered],
        )
        .await?;
    }
    Ok(u64::try_from(published.len()).unwrap_or(u64::MAX))
}
