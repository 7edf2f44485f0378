//! What a connector reports: events, kept once each and in their order, and what they say about certificates.

use crate::service::Service;
use crate::service::alarms::{self, AlarmKind};
use crate::service::db::{Tx, values};
use crate::service::link::answer::{Refusal, Success};
use crate::service::link::caller::{Caller, Received};
use crate::service::link::lineage::{self, Followed, Follower};
use crate::service::orders::{self, Reported, RevocationBrake};
use crate::service::store::StoreError;
use axum::extract::State;
use scep_link::{Acknowledgement, ErrorCode, Event, ReportBatch, V1};
use scep_types::{
    CertificateFingerprint, ChallengeId, DeviceId, LedgerId, NameHash, ProfileId, SpkiHash,
    TenantId, Timestamp, UserId,
};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Characters of a text out of an event.
const MAX_TEXT: usize = 1_000;
/// Its challenges are not made yet, and what it says of the group's ledger is not believed yet.
pub(crate) const AWAITING: &str = "an operator of the tenant has not confirmed this gateway yet";

/// `POST /connector/v1/reports`.
pub(crate) async fn reports(
    State(service): State<Service>,
    caller: Caller,
    Received(batch): Received<ReportBatch>,
) -> Result<Success<Acknowledgement>, Refusal> {
    caller.speaks_as(batch.connector)?;
    if !caller.confirmed {
        return Err(Refusal::new(ErrorCode::Unavailable, AWAITING));
    }
    let (brake, now, ledger) = (service.upkeep.brake, service.clock.now(), batch.ledger);
    let source = Source::of(&caller);
    // A refusal keeps nothing but its alarm, which is to be durable all the same.
    let acknowledged =
        service.store.write(move |tx| record(tx, brake, &source, &batch, now)).await??;
    Ok(Success(Acknowledgement { v: V1, code: scep_link::Success, ledger, acknowledged }))
}

/// Who tells.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) tenant: TenantId,
    pub(crate) group: String,
    /// The one with which it is enrolled.
    pub(crate) ledger: LedgerId,
}

impl Source {
    pub(crate) fn of(caller: &Caller) -> Self {
        let group = caller.group.as_str().to_owned();
        Self { tenant: caller.tenant.clone(), group, ledger: caller.ledger }
    }

    /// Whether it may speak for this ledger: it is enrolled with it, and its group is bound to it.
    pub(crate) fn has(&self, tx: &Tx<'_>, ledger: LedgerId) -> Result<bool, StoreError> {
        let bound: Option<Option<String>> = tx.one(
            "SELECT ledger FROM gateway_group WHERE tenant = ?1 AND id = ?2",
            values![self.tenant.as_str(), &self.group],
            |row| row.get(0),
        )?;
        Ok(self.ledger == ledger && bound.flatten() == Some(ledger.to_string()))
    }
}

/// Keeps the events that are not here yet. Gives the last event up to which all are here.
pub(crate) fn record(
    tx: &Tx<'_>,
    brake: RevocationBrake,
    source: &Source,
    batch: &ReportBatch,
    now: Timestamp,
) -> Result<Result<u64, Refusal>, StoreError> {
    if let Some(refusal) = foreign(tx, source, batch, now)? {
        return Ok(Err(refusal));
    }
    let (tenant, ledger) = (&source.tenant, batch.ledger.to_string());
    // Takes the row: of several gateways on one ledger, one is heard after the other.
    tx.execute(
        "INSERT INTO ledger_report (ledger, tenant, gateway_group, acknowledged, pruned, heard_at) \
         VALUES (?1, ?2, ?3, 0, 0, ?4) ON CONFLICT (ledger) DO UPDATE SET \
         gateway_group = excluded.gateway_group, heard_at = excluded.heard_at",
        values![&ledger, tenant.as_str(), &source.group, now.seconds()],
    )?;
    let marks: Option<(i64, i64)> = tx.one(
        "SELECT acknowledged, pruned FROM ledger_report WHERE ledger = ?1",
        values![&ledger],
        |row| Ok::<_, StoreError>((row.get(0)?, row.get(1)?)),
    )?;
    let (before, pruned) = marks.unwrap_or_default();
    let first = batch.events.first().map_or(0, |event| event.sequence);
    if number(first) > before.saturating_add(1) {
        let detail =
            format!("the batch begins with event {first}, and event {before} is the last here");
        // A gateway forgets what was acknowledged: this issuer has, before it was restored from a backup.
        alarms::raise(tx, tenant, AlarmKind::EventsMissing, &ledger, &detail, now)?;
        return Ok(Err(Refusal::new(ErrorCode::EventOutOfOrder, detail)));
    }
    let inbox = Inbox { tx, brake, source, ledger: &ledger, known: before, now };
    let (mut last, mut new) = (before, BTreeMap::new());
    for event in &batch.events {
        let sequence = number(event.sequence);
        if sequence > pruned && inbox.take(event)? {
            let flushed =
                event.kind.as_str() == "delivery" && fact(event, "reply") == Some("flushed");
            for kind in [Some(event.kind.as_str()), flushed.then_some("delivered")] {
                let count: &mut i64 = new.entry(kind).or_default();
                *count = count.saturating_add(1);
            }
        }
        last = last.max(sequence);
    }
    for (kind, events) in new {
        let Some(kind) = kind else { continue };
        tx.execute(
            "INSERT INTO event_count (ledger, kind, events) VALUES (?1, ?2, ?3) \
             ON CONFLICT (ledger, kind) DO UPDATE SET events = event_count.events + excluded.events",
            values![&ledger, kind, events],
        )?;
    }
    tx.execute(
        "UPDATE ledger_report SET acknowledged = ?2 WHERE ledger = ?1",
        values![&ledger, last],
    )?;
    Ok(Ok(u64::try_from(last).unwrap_or(0)))
}

fn number(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

/// Why the batch is not this connector's to send; then nothing of it is kept.
fn foreign(
    tx: &Tx<'_>,
    source: &Source,
    batch: &ReportBatch,
    now: Timestamp,
) -> Result<Option<Refusal>, StoreError> {
    let (tenant, ledger) = (&source.tenant, batch.ledger.to_string());
    let refuse = |kind, detail: String| {
        alarms::raise(tx, tenant, kind, &batch.connector.to_string(), &detail, now)?;
        Ok(Some(Refusal::new(ErrorCode::LedgerNotAccepted, detail)))
    };
    let owner: Option<String> =
        tx.one("SELECT tenant FROM ledger_report WHERE ledger = ?1", values![&ledger], |row| {
            row.get(0)
        })?;
    let ours = owner.is_none_or(|owner| owner == tenant.as_str());
    if !ours || !source.has(tx, batch.ledger)? {
        let detail = format!("ledger {ledger} is not the one of group {}", source.group);
        return refuse(AlarmKind::ForeignLedger, detail);
    }
    let other = |event: &&Event| {
        let told = event.body.facts().get("tenant").and_then(Value::as_str);
        event.tenant.as_ref().is_some_and(|of| of != tenant)
            || told.is_some_and(|told| told != tenant.as_str())
    };
    if let Some(event) = batch.events.iter().find(other) {
        let detail = format!("event {} of ledger {ledger} is another tenant's", event.sequence);
        return refuse(AlarmKind::ForeignTenant, detail);
    }
    Ok(None)
}

/// Where the events of one batch go.
struct Inbox<'a> {
    tx: &'a Tx<'a>,
    brake: RevocationBrake,
    source: &'a Source,
    ledger: &'a str,
    /// Every event up to it was here before the batch.
    known: i64,
    now: Timestamp,
}

/// What every event about an enrolment says, and what one about a certificate adds.
#[derive(Deserialize)]
struct Certified {
    thumbprint_sha256: String,
    serial: String,
    issuer: String,
    issuer_sha256: String,
    not_before: String,
    not_after: String,
    device: String,
    user: Option<String>,
    profile: String,
    audience: String,
    challenge: String,
    signer_spki_sha256: String,
    spki_sha256: String,
    /// The certificate that it follows without a challenge.
    renews: Option<String>,
    generation: Option<i64>,
}

impl Certified {
    /// The facts in their one form; nothing when one of them is none.
    fn read(event: &Event) -> Option<Self> {
        let facts = Value::Object(event.body.facts().clone());
        let raw: Self = serde_json::from_value(facts).ok()?;
        if event.device.as_ref().map(DeviceId::as_str) != Some(raw.device.as_str()) {
            return None;
        }
        ProfileId::new(raw.profile.as_str()).ok()?;
        raw.user.as_deref().map(UserId::new).transpose().ok()?;
        let renews = match &raw.renews {
            Some(text) => Some(CertificateFingerprint::from_hex(text)?.to_string()),
            None => None,
        };
        Some(Self {
            renews,
            thumbprint_sha256: CertificateFingerprint::from_hex(&raw.thumbprint_sha256)?
                .to_string(),
            issuer: cut(&raw.issuer),
            serial: orders::serial(&raw.serial)?.to_string(),
            issuer_sha256: NameHash::from_hex(&raw.issuer_sha256)?.to_string(),
            challenge: ChallengeId::from_hex(&raw.challenge)?.to_string(),
            signer_spki_sha256: SpkiHash::from_hex(&raw.signer_spki_sha256)?.to_string(),
            spki_sha256: SpkiHash::from_hex(&raw.spki_sha256)?.to_string(),
            ..raw
        })
    }
}

fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

fn instant(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

impl Inbox<'_> {
    /// Keeps an event, and what it says. Gives whether it is new.
    fn take(&self, event: &Event) -> Result<bool, StoreError> {
        let (key, kind, body) =
            (event.idempotency_key.as_str(), event.kind.as_str(), event.body.to_json());
        let sequence = number(event.sequence);
        let kept = self.tx.execute(
            "INSERT INTO event (tenant, ledger, sequence, idempotency_key, kind, device, \
             happened_at, received_at, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
             ON CONFLICT (ledger, idempotency_key) DO NOTHING",
            values![
                self.source.tenant.as_str(),
                self.ledger,
                sequence,
                key,
                kind,
                event.device.as_ref().map(DeviceId::as_str),
                event.at.seconds(),
                self.now.seconds(),
                &body,
            ],
        )?;
        if kept == 0 {
            // Told again: as it was, or under a new number by a ledger that was restored.
            let same = self.tx.exists(
                "SELECT 1 FROM event WHERE ledger = ?1 AND idempotency_key = ?2 AND kind = ?3 \
                 AND body = ?4",
                values![self.ledger, key, kind, &body],
            )?;
            if !same {
                // One ledger, two histories: it went on from a backup. The facts count, or a certificate would be
                // missed.
                self.forked(event, &format!("key {key} is known with other contents"))?;
                self.apply(event)?;
            }
            return Ok(false);
        }
        if sequence <= self.known {
            self.forked(event, "its number is known with another key")?;
        }
        self.apply(event)?;
        Ok(true)
    }

    fn alarm(&self, kind: AlarmKind, subject: &str, detail: &str) -> Result<(), StoreError> {
        alarms::raise(self.tx, &self.source.tenant, kind, subject, detail, self.now)
    }

    fn forked(&self, event: &Event, why: &str) -> Result<(), StoreError> {
        let (sequence, ledger) = (event.sequence, self.ledger);
        let body = event.body.to_json();
        let detail =
            format!("event {sequence} of ledger {ledger}: {why}: {} {body}", event.kind.as_str());
        self.alarm(AlarmKind::LedgerForked, ledger, &detail)
    }

    /// What the event says about certificates, and whether an operator must know. Kinds that are not known are kept and
    /// mean nothing here.
    fn apply(&self, event: &Event) -> Result<(), StoreError> {
        match event.kind.as_str() {
            "issued" => self.certificate(event, "live"),
            "withheld" => {
                self.certificate(event, "withheld")?;
                self.gateways(event, "withheld", fact(event, "thumbprint_sha256"))
            }
            "delivery" | "revoked" | "on-crl" | "revocation-failed" => self.progress(event),
            "possible-orphan" => self.gateways(event, "possible-orphan", fact(event, "challenge")),
            "breach" => self.gateways(event, "breach", fact(event, "challenge")),
            "restored" => self.gateways(event, "restored", None),
            "clock-reset" => self.gateways(event, "clock-reset", None),
            "brake-engaged" => self.gateways(event, "brake-engaged", None),
            "revocation-brake-engaged" => self.gateways(event, "revocation-brake-engaged", None),
            _ => Ok(()),
        }
    }

    /// A gateway's own alarm, passed on.
    fn gateways(
        &self,
        event: &Event,
        kind: &'static str,
        subject: Option<&str>,
    ) -> Result<(), StoreError> {
        let detail = event.body.to_json();
        self.alarm(AlarmKind::Gateway(kind), subject.unwrap_or(self.ledger), &detail)
    }

    fn unreadable(&self, event: &Event) -> Result<(), StoreError> {
        let (sequence, kind) = (event.sequence, event.kind.as_str());
        let detail =
            format!("event {sequence} of ledger {}: {kind} without its facts", self.ledger);
        self.alarm(AlarmKind::UnreadableEvent, &format!("{}:{sequence}", self.ledger), &detail)
    }

    fn certificate(&self, event: &Event, state: &str) -> Result<(), StoreError> {
        let Some(facts) = Certified::read(event) else { return self.unreadable(event) };
        let (Some(not_before), Some(not_after)) =
            (instant(&facts.not_before), instant(&facts.not_after))
        else {
            return self.unreadable(event);
        };
        let tenant = self.source.tenant.as_str();
        let new = self.tx.execute(
            "INSERT INTO certificate (tenant, thumbprint, issuer_hash, issuer, serial, not_before, \
             not_after, device, owner, profile, challenge, signer_spki, spki, ledger, issued_at, \
             state, renews, generation) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, \
             ?13, ?14, ?15, ?16, ?17, ?18) \
             ON CONFLICT (tenant, thumbprint) DO NOTHING",
            values![
                tenant,
                &facts.thumbprint_sha256,
                &facts.issuer_sha256,
                &facts.issuer,
                &facts.serial,
                not_before.seconds(),
                not_after.seconds(),
                &facts.device,
                facts.user.as_ref(),
                &facts.profile,
                &facts.challenge,
                &facts.signer_spki_sha256,
                &facts.spki_sha256,
                self.ledger,
                event.at.seconds(),
                state,
                facts.renews.as_ref(),
                facts.generation.unwrap_or(0),
            ],
        )?;
        if new == 0 {
            return self.known_already(event, &facts);
        }
        let challenged_at = self.compare(event, &facts)?;
        orders::follow(self.tx, &self.source.tenant, &facts.thumbprint_sha256, None, self.now)?;
        // Of a challenge, or a predecessor, that is not ours nothing is known, its device neither.
        let Some(challenged_at) = challenged_at else { return Ok(()) };
        let (Ok(device), Ok(profile), Some(thumbprint)) = (
            DeviceId::new(facts.device.as_str()),
            ProfileId::new(facts.profile.as_str()),
            CertificateFingerprint::from_hex(&facts.thumbprint_sha256),
        ) else {
            return Ok(());
        };
        let reported = Reported { device: &device, profile: &profile, thumbprint, challenged_at };
        orders::after_report(self.tx, self.brake, &self.source.tenant, &reported, self.now)
    }

    /// A certificate that is here, told again: an alarm when it is another ledger's, or is something else now.
    fn known_already(&self, event: &Event, facts: &Certified) -> Result<(), StoreError> {
        let thumbprint = &facts.thumbprint_sha256;
        let known: Option<[String; 6]> = self.tx.one(
            "SELECT ledger, issuer_hash, serial, device, profile, challenge FROM certificate \
             WHERE tenant = ?1 AND thumbprint = ?2",
            values![self.source.tenant.as_str(), thumbprint],
            |row| {
                let [a, b, c] = [row.get(0)?, row.get(1)?, row.get(2)?];
                Ok::<_, StoreError>([a, b, c, row.get(3)?, row.get(4)?, row.get(5)?])
            },
        )?;
        let Some([ledger, known @ ..]) = known else { return Ok(()) };
        if ledger != self.ledger {
            return self.anothers(event, thumbprint, &ledger);
        }
        let told =
            [&facts.issuer_sha256, &facts.serial, &facts.device, &facts.profile, &facts.challenge];
        if told.into_iter().ne(&known) {
            let why = format!("certificate {thumbprint} is known with other facts");
            return self.forked(event, &why);
        }
        Ok(())
    }

    /// What is told of a certificate that another ledger has reported.
    fn anothers(&self, event: &Event, thumbprint: &str, owner: &str) -> Result<(), StoreError> {
        let (kind, ledger) = (event.kind.as_str(), self.ledger);
        let detail = format!("ledger {ledger} tells {kind} of a certificate of ledger {owner}");
        self.alarm(AlarmKind::ForeignLedger, thumbprint, &detail)
    }

    /// Compares what was issued with the challenge that was made for it, or with the certificate that it follows. Gives
    /// when the challenge was made, if it was.
    fn compare(&self, event: &Event, facts: &Certified) -> Result<Option<Timestamp>, StoreError> {
        let subject = &facts.thumbprint_sha256;
        let challenge = &facts.challenge;
        let twice = self.tx.exists(
            "SELECT 1 FROM certificate WHERE tenant = ?1 AND challenge = ?2 AND thumbprint <> ?3",
            values![self.source.tenant.as_str(), challenge, subject],
        )?;
        if twice {
            let detail = format!("another certificate was issued for challenge {challenge}");
            self.alarm(AlarmKind::ChallengeUsedTwice, subject, &detail)?;
        }
        if let Some(renews) = facts.renews.as_deref().and_then(CertificateFingerprint::from_hex) {
            return self.compare_with(renews, event, facts);
        }
        let made: Option<([Option<String>; 4], i64)> = self.tx.one(
            "SELECT device, owner, profile, gateway_group, issued_at FROM challenge \
             WHERE tenant = ?1 AND id = ?2",
            values![self.source.tenant.as_str(), challenge],
            |row| {
                let made = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?];
                Ok::<_, StoreError>((made, row.get(4)?))
            },
        )?;
        let Some((made, issued_at)) = made else {
            let detail = format!("challenge {challenge} was never made here");
            self.alarm(AlarmKind::UnknownChallenge, subject, &detail)?;
            return Ok(None);
        };
        let told =
            [Some(&facts.device), facts.user.as_ref(), Some(&facts.profile), Some(&facts.audience)];
        let fields = ["device", "user", "profile", "group"];
        let differences: Vec<String> = fields
            .iter()
            .zip(made.iter().zip(told))
            .filter(|(_, (made, told))| made.as_ref() != *told)
            .map(|(field, (made, told))| format!("{field} {told:?}, not {made:?}"))
            .collect();
        if !differences.is_empty() {
            let detail = format!("challenge {challenge}: {}", differences.join(", "));
            self.alarm(AlarmKind::ChallengeDiffers, subject, &detail)?;
        }
        Ok(Some(Timestamp::from_seconds(issued_at)))
    }

    /// Compares what was issued without a challenge with the certificate that it follows.
    fn compare_with(
        &self,
        renews: CertificateFingerprint,
        event: &Event,
        facts: &Certified,
    ) -> Result<Option<Timestamp>, StoreError> {
        let told = Follower {
            renews,
            generation: facts.generation.unwrap_or(0),
            challenge: &facts.challenge,
            device: &facts.device,
            user: facts.user.as_deref(),
            profile: &facts.profile,
            ledger: self.ledger,
            issued_at: event.at,
        };
        let subject = &facts.thumbprint_sha256;
        match lineage::compare(self.tx, &self.source.tenant, &told)? {
            Followed::Unknown => {
                let detail = format!("it follows certificate {renews}, which was not reported");
                self.alarm(AlarmKind::UnknownCertificate, subject, &detail)?;
                Ok(None)
            }
            Followed::Known { differences, challenged_at } => {
                if !differences.is_empty() {
                    let detail = format!("renewal of {renews}: {}", differences.join(", "));
                    self.alarm(AlarmKind::RenewalDiffers, subject, &detail)?;
                }
                Ok(Some(challenged_at))
            }
        }
    }

    /// A certificate that is here has got further.
    fn progress(&self, event: &Event) -> Result<(), StoreError> {
        let thumbprint =
            fact(event, "thumbprint_sha256").and_then(CertificateFingerprint::from_hex);
        let Some(thumbprint) = thumbprint else { return self.unreadable(event) };
        let (tenant, thumbprint) = (&self.source.tenant, thumbprint.to_string());
        let here = "tenant = ?1 AND thumbprint = ?2";
        let owner: Option<String> = self.tx.one(
            &format!("SELECT ledger FROM certificate WHERE {here}"),
            values![tenant.as_str(), &thumbprint],
            |row| row.get(0),
        )?;
        let Some(owner) = owner else {
            let detail = format!("{} of a certificate that was not reported", event.kind.as_str());
            return self.alarm(AlarmKind::UnknownCertificate, &thumbprint, &detail);
        };
        // Where no group has the certificate's ledger any more, others are asked to revoke it, and may say that they did.
        if owner != self.ledger && orders::bound_ledgers(self.tx, tenant)?.contains(&owner) {
            return self.anothers(event, &thumbprint, &owner);
        }
        let at = event.at.seconds();
        let mut failure = None;
        match event.kind.as_str() {
            "delivery" => {
                let reply = match fact(event, "reply") {
                    Some("flushed") => "flushed",
                    Some("connection-lost") => "connection-lost",
                    _ => return self.unreadable(event),
                };
                // What has got out once is out.
                let sql = format!(
                    "UPDATE certificate SET delivered = ?3 WHERE {here} \
                     AND (delivered IS NULL OR delivered <> 'flushed')"
                );
                self.tx.execute(&sql, values![tenant.as_str(), &thumbprint, reply])?;
                return Ok(());
            }
            "revoked" => {
                let reason = fact(event, "reason").map(cut);
                let sql = format!(
                    "UPDATE certificate SET state = 'revoked', revoked_at = ?3, reason = ?4 \
                     WHERE {here} AND state <> 'revoked'"
                );
                let values = values![tenant.as_str(), &thumbprint, at, reason.as_ref()];
                self.tx.execute(&sql, values)?;
            }
            "on-crl" => {
                let sql = format!(
                    "UPDATE certificate SET on_crl_at = ?3, state = 'revoked', \
                     revoked_at = coalesce(revoked_at, ?3) WHERE {here} AND on_crl_at IS NULL"
                );
                self.tx.execute(&sql, values![tenant.as_str(), &thumbprint, at])?;
            }
            _ => failure = Some((cut(fact(event, "detail").unwrap_or_default()), event.at)),
        }
        let failure = failure.as_ref().map(|(why, at)| (why.as_str(), *at));
        orders::follow(self.tx, tenant, &thumbprint, failure, self.now)
    }
}

fn fact<'a>(event: &'a Event, name: &str) -> Option<&'a str> {
    event.body.facts().get(name).and_then(Value::as_str)
}

#[cfg(test)]
#[path = "reports_tests.rs"]
mod tests;
