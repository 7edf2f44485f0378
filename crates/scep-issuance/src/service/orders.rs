//! Revocation orders: who may be revoked, why, and how far each is.
//!
//! ```text
//! held ─► queued ─► sent ─► revoked ─► on-crl
//!   │               │  ▲
//!   ▼               ▼  │
//! declined         failed        not-found: no ledger of the tenant knows the certificate
//! ```
//!
//! `held` by the issuer's brake; `sent` once a gateway has the order durably; `declined` by an operator here or there;
//! `failed` while the CA refuses. An order goes to the ledger that has reported the certificate, whose gateways share
//! one queue for the CA, or else to every ledger of the tenant.

use crate::profile::{DEFAULT_REVOKE_ON, Profile, RevokeOn};
use crate::service::alarms::{self, AlarmKind};
use crate::service::changes;
use crate::service::db::{Row, Tx, Value, values};
use crate::service::store::StoreError;
use core::time::Duration;
use scep_link::{RevocationOrder, RevocationReason, RevocationResult, RevocationState};
use scep_types::{
    CertificateFingerprint, DeviceId, LedgerId, NameHash, OrderId, ProfileId, SerialNumber,
    TenantId, Timestamp,
};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// Within which the brake counts.
const WINDOW: Duration = Duration::from_secs(3600);

/// When revocations wait for an operator: as soon as more than this many were ordered within an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationBrake {
    /// Percent of the tenant's live certificates.
    pub percent: u8,
    /// And at least so many.
    pub at_least: u32,
}

impl Default for RevocationBrake {
    fn default() -> Self {
        Self { percent: 10, at_least: 20 }
    }
}

/// Which certificates are to be revoked. Those that are named one by one need not be live, nor reported yet.
pub(crate) enum Which<'a> {
    /// Every live one of a device.
    Device(&'a DeviceId),
    /// Every live one of a profile.
    Profile(&'a ProfileId),
    /// Every live one of a device that was made for a profile.
    DeviceProfile(&'a DeviceId, &'a ProfileId),
    /// The one with this thumbprint.
    Thumbprint(CertificateFingerprint),
    /// The one with this issuer and this serial number.
    Name(NameHash, &'a SerialNumber),
}

/// A certificate as far as it is known.
#[derive(Clone, Debug)]
struct Target {
    issuer: String,
    serial: String,
    thumbprint: Option<String>,
    device: Option<String>,
    profile: Option<String>,
    ledger: Option<String>,
}

impl Target {
    fn row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            issuer: row.get(0)?,
            serial: row.get(1)?,
            thumbprint: row.get(2)?,
            device: row.get(3)?,
            profile: row.get(4)?,
            ledger: row.get(5)?,
        })
    }
}

/// What was ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ordered {
    /// The new orders' ids.
    pub(crate) orders: Vec<String>,
    /// How many were ordered before.
    pub(crate) already: u64,
    /// Whether the brake holds the new ones.
    pub(crate) held: bool,
}

/// The serial number with this text.
pub(crate) fn serial(text: &str) -> Option<SerialNumber> {
    let mut content = hex::decode(text).ok()?;
    // The sign octet of the DER INTEGER is not part of the text.
    if content.first().is_some_and(|first| first & 0x80 != 0) {
        content.insert(0, 0);
    }
    SerialNumber::from_content(&content).ok()
}

/// Orders revocations; what is ordered already stays as it is. Calls [`changes::note`]. Gives how many orders are new,
/// those that the brake holds included.
pub(crate) fn order(
    tx: &Tx<'_>,
    brake: RevocationBrake,
    tenant: &TenantId,
    which: &Which<'_>,
    reason: RevocationReason,
    cause: &str,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let ordered = place(tx, brake, tenant, which, reason, cause, now)?;
    Ok(u64::try_from(ordered.orders.len()).unwrap_or(u64::MAX))
}

/// As [`order`], and says what became of it.
pub(crate) fn place(
    tx: &Tx<'_>,
    brake: RevocationBrake,
    tenant: &TenantId,
    which: &Which<'_>,
    reason: RevocationReason,
    cause: &str,
    now: Timestamp,
) -> Result<Ordered, StoreError> {
    take_turn(tx, tenant)?;
    let mut ordered = Ordered::default();
    let mut new = Vec::new();
    for target in targets(tx, tenant, which, now)? {
        let before: Vec<String> = tx.query(
            "SELECT state FROM revocation WHERE tenant = ?1 AND issuer_hash = ?2 AND serial = ?3",
            values![tenant.as_str(), &target.issuer, &target.serial],
            |row| row.get(0),
        )?;
        if before.iter().any(|state| !matches!(state.as_str(), "declined" | "not-found")) {
            ordered.already = ordered.already.saturating_add(1);
        } else {
            new.push((target, before.len()));
        }
    }
    if new.is_empty() {
        return Ok(ordered);
    }
    ordered.held = brake_holds(tx, brake, tenant, new.len(), now)?;
    for (target, nth) in new {
        let id = order_id(tenant, &target, nth, now);
        tx.execute(
            "INSERT INTO revocation (id, tenant, issuer_hash, serial, thumbprint, device, profile, \
             ledger, reason, cause, state, held, counted, ordered_at, changed_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 1, ?13, ?13)",
            values![
                &id,
                tenant.as_str(),
                &target.issuer,
                &target.serial,
                target.thumbprint.as_ref(),
                target.device.as_ref(),
                target.profile.as_ref(),
                target.ledger.as_ref(),
                reason.name(),
                cause,
                if ordered.held { "held" } else { "queued" },
                i64::from(ordered.held),
                now.seconds(),
            ],
        )?;
        tracing::info!(%tenant, order = id, cause, held = ordered.held, "revocation ordered");
        ordered.orders.push(id);
    }
    if !ordered.held {
        changes::note(tx, tenant)?;
    }
    Ok(ordered)
}

/// Orders of one tenant are placed one after the other, or each of two would take itself for the one below the brake.
fn take_turn(tx: &Tx<'_>, tenant: &TenantId) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO revocation_brake (tenant, engaged_at) VALUES (?1, NULL) \
         ON CONFLICT (tenant) DO UPDATE SET engaged_at = revocation_brake.engaged_at",
        values![tenant.as_str()],
    )
    .map(drop)
}

/// Unique, since the same certificate is not ordered twice at one place of its own list.
fn order_id(tenant: &TenantId, target: &Target, nth: usize, now: Timestamp) -> String {
    let mut hash = Sha256::new();
    for part in [
        "scep-issuer order",
        tenant.as_str(),
        &target.issuer,
        &target.serial,
        &nth.to_string(),
        &now.seconds().to_string(),
    ] {
        hash.update(part);
        hash.update([0]);
    }
    let hash: [u8; 32] = hash.finalize().into();
    let mut id = [0; 16];
    id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    OrderId::from_bytes(id).to_string()
}

fn targets(
    tx: &Tx<'_>,
    tenant: &TenantId,
    which: &Which<'_>,
    now: Timestamp,
) -> Result<Vec<Target>, StoreError> {
    const LIVE: &str = "state IN ('live', 'withheld') AND not_after >=";
    let ask = |condition: &str, values: &[Value<'_>]| {
        let sql = format!(
            "SELECT issuer_hash, serial, thumbprint, device, profile, ledger FROM certificate \
             WHERE tenant = ?1 AND {condition} ORDER BY id"
        );
        tx.query(&sql, values, Target::row)
    };
    let (tenant, now) = (tenant.as_str(), now.seconds());
    let found = match which {
        Which::Device(device) => {
            ask(&format!("device = ?2 AND {LIVE} ?3"), values![tenant, device.as_str(), now])
        }
        Which::Profile(profile) => {
            ask(&format!("profile = ?2 AND {LIVE} ?3"), values![tenant, profile.as_str(), now])
        }
        Which::DeviceProfile(device, profile) => ask(
            &format!("device = ?2 AND profile = ?3 AND {LIVE} ?4"),
            values![tenant, device.as_str(), profile.as_str(), now],
        ),
        Which::Thumbprint(thumbprint) => {
            ask("thumbprint = ?2", values![tenant, &thumbprint.to_string()])
        }
        Which::Name(issuer, number) => {
            let (issuer, serial) = (issuer.to_string(), number.to_string());
            let found = ask("issuer_hash = ?2 AND serial = ?3", values![tenant, &issuer, &serial])?;
            // A gateway may know it before its report is here.
            let unknown = Target {
                issuer,
                serial,
                thumbprint: None,
                device: None,
                profile: None,
                ledger: None,
            };
            Ok(if found.is_empty() { vec![unknown] } else { found })
        }
    }?;
    // One order revokes every certificate with its issuer and number; what has no number of RFC 5280 cannot be named.
    let mut names = BTreeSet::new();
    let mut named = |target: &Target| {
        serial(&target.serial).is_some()
            && names.insert((target.issuer.clone(), target.serial.clone()))
    };
    Ok(found.into_iter().filter(|target| named(target)).collect())
}

/// Whether the new orders must wait for an operator. All of them: a stolen token that asks for everything gets
/// nothing, not the first few.
fn brake_holds(
    tx: &Tx<'_>,
    brake: RevocationBrake,
    tenant: &TenantId,
    new: usize,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let engaged: Option<Option<i64>> = tx.one(
        "SELECT engaged_at FROM revocation_brake WHERE tenant = ?1",
        values![tenant.as_str()],
        |row| row.get(0),
    )?;
    if engaged.flatten().is_some() {
        return Ok(true);
    }
    let count = |sql: &str, since: Timestamp| {
        let counted: Option<i64> =
            tx.one(sql, values![tenant.as_str(), since.seconds()], |row| row.get(0))?;
        Ok::<u64, StoreError>(u64::try_from(counted.unwrap_or(0)).unwrap_or(0))
    };
    let before = count(
        "SELECT count(*) FROM revocation WHERE tenant = ?1 AND counted = 1 AND ordered_at > ?2",
        now.minus(WINDOW),
    )?;
    let counted = before.saturating_add(u64::try_from(new).unwrap_or(u64::MAX));
    if counted <= u64::from(brake.at_least) {
        return Ok(false);
    }
    let live = count(
        "SELECT count(*) FROM certificate WHERE tenant = ?1 AND state = 'live' AND not_after >= ?2",
        now,
    )?;
    let share = live.saturating_mul(u64::from(brake.percent)) / 100;
    if counted <= share.max(u64::from(brake.at_least)) {
        return Ok(false);
    }
    tx.execute(
        "UPDATE revocation_brake SET engaged_at = ?2 WHERE tenant = ?1",
        values![tenant.as_str(), now.seconds()],
    )?;
    let detail = format!(
        "{counted} revocations were ordered within an hour, and {live} certificates are live: \
         the last {new} and all further ones wait for an operator"
    );
    alarms::raise(tx, tenant, AlarmKind::RevocationBrake, "revocations", &detail, now)?;
    Ok(true)
}

/// What an operator decides about orders that the brake holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Confirm,
    Decline,
}

/// Decides about one held order, or about all; then the brake no longer holds, and counts from nothing. Gives how many
/// orders it was about.
pub(crate) fn decide(
    tx: &Tx<'_>,
    tenant: &TenantId,
    order: Option<&str>,
    decision: Decision,
    note: Option<&str>,
    now: Timestamp,
) -> Result<u64, StoreError> {
    take_turn(tx, tenant)?;
    let state = match decision {
        Decision::Confirm => "queued",
        Decision::Decline => "declined",
    };
    let decided = tx.execute(
        "UPDATE revocation SET state = ?3, held = 0, counted = 0, note = ?4, changed_at = ?5 \
         WHERE tenant = ?1 AND state = 'held' AND (?2 IS NULL OR id = ?2)",
        values![tenant.as_str(), order, state, note, now.seconds()],
    )?;
    if order.is_none() {
        tx.execute(
            "UPDATE revocation SET counted = 0 WHERE tenant = ?1 AND counted = 1",
            values![tenant.as_str()],
        )?;
        tx.execute(
            "UPDATE revocation_brake SET engaged_at = NULL WHERE tenant = ?1",
            values![tenant.as_str()],
        )?;
    }
    if decided > 0 {
        tracing::warn!(%tenant, decided, state, note, "an operator has decided about revocations");
        changes::note(tx, tenant)?;
    }
    Ok(u64::try_from(decided).unwrap_or(u64::MAX))
}

/// Orders what a profile says is to be revoked when this happens to the device. Certificates of a profile that is gone,
/// or unreadable, are revoked as by default.
pub(crate) fn on_device(
    tx: &Tx<'_>,
    brake: RevocationBrake,
    tenant: &TenantId,
    device: &DeviceId,
    event: RevokeOn,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let profiles: Vec<String> = tx.query(
        "SELECT DISTINCT profile FROM certificate WHERE tenant = ?1 AND device = ?2 \
         AND state IN ('live', 'withheld') AND not_after >= ?3",
        values![tenant.as_str(), device.as_str(), now.seconds()],
        |row| row.get(0),
    )?;
    let (reason, cause) = why(event);
    if matches!(event, RevokeOn::Wipe | RevokeOn::Unenrol) {
        tx.execute(
            "INSERT INTO device_end (tenant, device, event, ended_at) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (tenant, device) DO UPDATE SET event = excluded.event, \
             ended_at = excluded.ended_at",
            values![tenant.as_str(), device.as_str(), cause, now.seconds()],
        )?;
    }
    let mut new: u64 = 0;
    for profile in profiles {
        let Ok(profile) = ProfileId::new(profile) else { continue };
        if revokes_on(tx, tenant, &profile, event)? {
            let which = Which::DeviceProfile(device, &profile);
            new = new.saturating_add(order(tx, brake, tenant, &which, reason, cause, now)?);
        }
    }
    Ok(new)
}

/// The reason of RFC 5280 and the cause in words. A wiped device has no key any more, and nobody else has it: that is no
/// compromise. Whoever knows better orders a revocation for keyCompromise first.
pub(crate) const fn why(event: RevokeOn) -> (RevocationReason, &'static str) {
    match event {
        RevokeOn::Wipe => (RevocationReason::CessationOfOperation, "wipe"),
        RevokeOn::Unenrol => (RevocationReason::CessationOfOperation, "unenrol"),
        RevokeOn::Disable => (RevocationReason::PrivilegeWithdrawn, "disable"),
        RevokeOn::ProfileChange => (RevocationReason::AffiliationChanged, "profile-change"),
    }
}

fn revokes_on(
    tx: &Tx<'_>,
    tenant: &TenantId,
    profile: &ProfileId,
    event: RevokeOn,
) -> Result<bool, StoreError> {
    let toml: Option<String> = tx.one(
        "SELECT toml FROM profile WHERE tenant = ?1 AND id = ?2",
        values![tenant.as_str(), profile.as_str()],
        |row| row.get(0),
    )?;
    let profile = toml.and_then(|toml| Profile::from_toml(&toml).ok());
    Ok(profile
        .map_or_else(|| DEFAULT_REVOKE_ON.contains(&event), |profile| profile.revokes_on(event)))
}

/// A certificate that was reported just now.
pub(crate) struct Reported<'a> {
    pub(crate) device: &'a DeviceId,
    pub(crate) profile: &'a ProfileId,
    pub(crate) thumbprint: CertificateFingerprint,
    /// When its challenge was made.
    pub(crate) challenged_at: Timestamp,
}

/// Revokes what was reported for a device that may have nothing any more, or had its challenge before it was wiped or
/// removed: it was issued before its gateway knew.
pub(crate) fn after_report(
    tx: &Tx<'_>,
    brake: RevocationBrake,
    tenant: &TenantId,
    reported: &Reported<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let here = values![tenant.as_str(), reported.device.as_str()];
    let sql = "SELECT state FROM device WHERE tenant = ?1 AND id = ?2";
    let state: Option<String> = tx.one(sql, here, |row| row.get(0))?;
    let event = match state.as_deref() {
        None => RevokeOn::Unenrol,
        Some("wiped") => RevokeOn::Wipe,
        Some("disabled") => RevokeOn::Disable,
        Some(_) => {
            let sql = "SELECT event, ended_at FROM device_end WHERE tenant = ?1 AND device = ?2";
            let ended: Option<(String, i64)> =
                tx.one(sql, here, |row| Ok::<_, StoreError>((row.get(0)?, row.get(1)?)))?;
            match ended.filter(|(_, at)| reported.challenged_at.seconds() < *at) {
                Some((event, _)) if event == "wipe" => RevokeOn::Wipe,
                Some(_) => RevokeOn::Unenrol,
                None => return Ok(()),
            }
        }
    };
    if !revokes_on(tx, tenant, reported.profile, event)? {
        return Ok(());
    }
    let (reason, cause) = why(event);
    let which = Which::Thumbprint(reported.thumbprint);
    place(tx, brake, tenant, &which, reason, cause, now).map(drop)
}

/// The orders that a gateway on this ledger is to be given: not final, not held by the brake; and whether one of them
/// has no result of this ledger yet, which is news.
pub(crate) fn open(
    tx: &Tx<'_>,
    tenant: &TenantId,
    ledger: LedgerId,
    limit: usize,
) -> Result<(Vec<RevocationOrder>, bool), StoreError> {
    // What the ledger does not know yet comes first. A certificate of a ledger that no group has any more may be
    // known to others.
    let rows: Vec<(RevocationOrder, bool)> = tx.query(
        "SELECT r.id, r.issuer_hash, r.serial, r.reason, a.state FROM revocation r \
         LEFT JOIN revocation_result a ON a.revocation = r.id AND a.ledger = ?2 \
         WHERE r.tenant = ?1 AND r.state IN ('queued', 'sent', 'failed', 'revoked') \
         AND (r.ledger IS NULL OR r.ledger = ?2 OR r.ledger NOT IN \
         (SELECT ledger FROM gateway_group WHERE tenant = ?1 AND ledger IS NOT NULL)) \
         AND (a.state IS NULL OR a.state NOT IN ('not-issued-here', 'published', 'declined')) \
         ORDER BY CASE WHEN a.state IS NULL THEN 0 ELSE 1 END, r.seq LIMIT ?3",
        values![tenant.as_str(), &ledger.to_string(), i64::try_from(limit).unwrap_or(i64::MAX)],
        |row| {
            let order = RevocationOrder {
                order: parsed(row, 0, OrderId::from_hex)?,
                issuer: parsed(row, 1, NameHash::from_hex)?,
                serial: parsed(row, 2, serial)?,
                reason: parsed(row, 3, RevocationReason::from_name)?,
            };
            Ok::<_, StoreError>((order, row.get::<Option<String>>(4)?.is_none()))
        },
    )?;
    let news = rows.iter().any(|(_, new)| *new);
    Ok((rows.into_iter().map(|(order, _)| order).collect(), news))
}

fn parsed<T>(row: &Row, column: usize, parse: fn(&str) -> Option<T>) -> Result<T, StoreError> {
    parse(&row.get::<String>(column)?).ok_or(StoreError::Column { column })
}

/// Up to which event the issuer has everything of this ledger; 0: nothing.
pub(crate) fn acknowledged(tx: &Tx<'_>, ledger: LedgerId) -> Result<u64, StoreError> {
    let found: Option<i64> = tx.one(
        "SELECT acknowledged FROM ledger_report WHERE ledger = ?1",
        values![&ledger.to_string()],
        |row| row.get(0),
    )?;
    Ok(found.and_then(|number| u64::try_from(number).ok()).unwrap_or(0))
}

const fn state_name(state: RevocationState) -> &'static str {
    match state {
        RevocationState::Queued => "queued",
        RevocationState::AwaitingOperator => "awaiting-operator",
        RevocationState::Revoked => "revoked",
        RevocationState::Published => "published",
        RevocationState::NotIssuedHere => "not-issued-here",
        RevocationState::Declined => "declined",
    }
}

/// Records what a gateway on this ledger says about an order. What was final stays; what is not for this ledger is an
/// alarm and no result.
pub(crate) fn record(
    tx: &Tx<'_>,
    tenant: &TenantId,
    ledger: LedgerId,
    result: &RevocationResult,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (order, ledger) = (result.order.to_string(), ledger.to_string());
    let found: Option<(String, Option<String>)> =
        tx.one("SELECT tenant, ledger FROM revocation WHERE id = ?1", values![&order], |row| {
            Ok::<_, StoreError>((row.get(0)?, row.get(1)?))
        })?;
    let unasked = |why: &str| {
        let detail = format!("ledger {ledger} has reported on order {order}, which {why}");
        alarms::raise(tx, tenant, AlarmKind::ForeignOrder, &ledger, &detail, now)
    };
    let ours = found.filter(|(owner, _)| owner == tenant.as_str());
    let Some((_, addressee)) = ours else {
        return unasked("this tenant does not have");
    };
    let bound = bound_ledgers(tx, tenant)?;
    let addressee = addressee.filter(|addressee| bound.contains(addressee));
    if addressee.as_ref().is_some_and(|addressee| *addressee != ledger)
        && result.state != RevocationState::NotIssuedHere
    {
        return unasked("is for another ledger");
    }
    tx.execute(
        "INSERT INTO revocation_result (revocation, ledger, state, at) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (revocation, ledger) DO UPDATE SET state = excluded.state, at = excluded.at \
         WHERE revocation_result.state NOT IN ('published', 'not-issued-here', 'declined')",
        values![&order, &ledger, state_name(result.state), result.at.seconds()],
    )?;
    // The ledger that has it is from now on the only one that is asked; if it denies, all are.
    let said: Option<String> = tx.one(
        "SELECT state FROM revocation_result WHERE revocation = ?1 AND ledger = ?2",
        values![&order, &ledger],
        |row| row.get(0),
    )?;
    let denies = said.as_deref() == Some("not-issued-here");
    if denies && addressee.is_some_and(|addressee| addressee == ledger) {
        tx.execute("UPDATE revocation SET ledger = NULL WHERE id = ?1", values![&order])?;
        changes::note(tx, tenant)?;
    } else if !denies {
        tx.execute("UPDATE revocation SET ledger = ?2 WHERE id = ?1", values![&order, &ledger])?;
    }
    settle(tx, tenant, &order, now)
}

/// The ledgers that the tenant's groups are bound to.
pub(crate) fn bound_ledgers(
    tx: &Tx<'_>,
    tenant: &TenantId,
) -> Result<BTreeSet<String>, StoreError> {
    let ledgers: Vec<String> = tx.query(
        "SELECT DISTINCT ledger FROM gateway_group WHERE tenant = ?1 AND ledger IS NOT NULL",
        values![tenant.as_str()],
        |row| row.get(0),
    )?;
    Ok(ledgers.into_iter().collect())
}

/// How far an order is, made of everything that is known about it. Pure.
#[derive(Clone, Debug, Default)]
struct Facts {
    held: bool,
    failed_at: Option<i64>,
    /// Of its certificate.
    revoked: bool,
    on_crl: bool,
    /// What each ledger has said, and when.
    results: Vec<(String, String, i64)>,
    /// The ledgers that must have said that they do not know it.
    bound: BTreeSet<String>,
}

impl Facts {
    fn state(&self) -> &'static str {
        let said = |state: &str| self.results.iter().any(|(_, said, _)| said == state);
        if self.on_crl || said("published") {
            return "on-crl";
        }
        if said("declined") {
            return "declined";
        }
        if self.revoked || said("revoked") {
            return "revoked";
        }
        let waiting = self
            .results
            .iter()
            .filter(|(_, said, _)| said == "queued" || said == "awaiting-operator")
            .map(|(_, _, at)| *at)
            .max();
        match (waiting, self.failed_at) {
            (Some(at), Some(failed)) if failed >= at => return "failed",
            (Some(_), _) => return "sent",
            (None, Some(_)) => return "failed",
            (None, None) => {}
        }
        let denies = |ledger: &String| {
            let denial =
                |(who, said, _): &(String, String, i64)| who == ledger && said == "not-issued-here";
            self.results.iter().any(denial)
        };
        if !self.bound.is_empty() && self.bound.iter().all(denies) {
            return "not-found";
        }
        if self.held { "held" } else { "queued" }
    }
}

/// Brings an order's state up to date with what is known.
pub(crate) fn settle(
    tx: &Tx<'_>,
    tenant: &TenantId,
    order: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let found = tx.one(
        "SELECT r.state, r.held, r.failed_at, c.state, c.on_crl_at FROM revocation r \
         LEFT JOIN certificate c ON c.tenant = r.tenant AND c.thumbprint = r.thumbprint \
         WHERE r.tenant = ?1 AND r.id = ?2",
        values![tenant.as_str(), order],
        |row| {
            let facts = Facts {
                held: row.get::<i64>(1)? != 0,
                failed_at: row.get(2)?,
                revoked: row.get::<Option<String>>(3)?.as_deref() == Some("revoked"),
                on_crl: row.get::<Option<i64>>(4)?.is_some(),
                ..Facts::default()
            };
            Ok::<_, StoreError>((row.get::<String>(0)?, facts))
        },
    )?;
    let Some((before, mut facts)) = found else { return Ok(()) };
    if matches!(before.as_str(), "on-crl" | "declined" | "not-found") {
        return Ok(());
    }
    facts.results = tx.query(
        "SELECT ledger, state, at FROM revocation_result WHERE revocation = ?1",
        values![order],
        |row| Ok::<_, StoreError>((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    facts.bound = bound_ledgers(tx, tenant)?;
    let state = facts.state();
    if state == before {
        return Ok(());
    }
    tx.execute(
        "UPDATE revocation SET state = ?2, changed_at = ?3 WHERE id = ?1",
        values![order, state, now.seconds()],
    )?;
    tracing::info!(%tenant, order, state, "revocation");
    match state {
        "not-found" => {
            let detail = "every ledger of the tenant says that it has no such certificate";
            alarms::raise(tx, tenant, AlarmKind::RevocationNotFound, order, detail, now)
        }
        _ => Ok(()),
    }
}

/// The orders about a certificate that are not final.
fn of_certificate(
    tx: &Tx<'_>,
    tenant: &TenantId,
    thumbprint: &str,
) -> Result<Vec<String>, StoreError> {
    tx.query(
        "SELECT r.id FROM revocation r JOIN certificate c ON c.tenant = r.tenant \
         AND c.issuer_hash = r.issuer_hash AND c.serial = r.serial \
         WHERE c.tenant = ?1 AND c.thumbprint = ?2 \
         AND r.state NOT IN ('on-crl', 'declined', 'not-found') ORDER BY r.seq",
        values![tenant.as_str(), thumbprint],
        |row| row.get(0),
    )
}

/// Something was reported about a certificate: its orders follow. `failure`: why the CA refuses, and since when.
pub(crate) fn follow(
    tx: &Tx<'_>,
    tenant: &TenantId,
    thumbprint: &str,
    failure: Option<(&str, Timestamp)>,
    now: Timestamp,
) -> Result<(), StoreError> {
    for order in of_certificate(tx, tenant, thumbprint)? {
        tx.execute(
            "UPDATE revocation SET thumbprint = ?2, ledger = coalesce(ledger, (SELECT c.ledger \
             FROM certificate c WHERE c.tenant = ?3 AND c.thumbprint = ?2)), \
             device = coalesce(device, (SELECT c.device FROM certificate c \
             WHERE c.tenant = ?3 AND c.thumbprint = ?2)), \
             profile = coalesce(profile, (SELECT c.profile FROM certificate c \
             WHERE c.tenant = ?3 AND c.thumbprint = ?2)) \
             WHERE id = ?1 AND thumbprint IS NULL",
            values![&order, thumbprint, tenant.as_str()],
        )?;
        if let Some((why, at)) = failure {
            tx.execute(
                "UPDATE revocation SET failure = ?2, failed_at = ?3 WHERE id = ?1",
                values![&order, why, at.seconds()],
            )?;
            alarms::raise(tx, tenant, AlarmKind::RevocationFailed, thumbprint, why, now)?;
        }
        settle(tx, tenant, &order, now)?;
    }
    Ok(())
}
