//! What a connector has last said of itself, and what of that is alarming.

use crate::service::alarms::{self, AlarmKind};
use crate::service::db::{Row, Tx, values};
use crate::service::link::answer::Refusal;
use crate::service::link::{possession, told};
use crate::service::store::StoreError;
use crate::service::{denials, orders};
use core::fmt;
use core::time::Duration;
use scep_link::{
    CertificateExpiry, CertificatePurpose, CheckInRequest, ErrorCode, Health, LogLevel,
};
use scep_types::{ConnectorId, LedgerId, TenantId, Timestamp};

/// The topic under which a connector is told a whole list of denials, whatever it says that it knows: what it knows is
/// another history's. How far the last answer went, and whether that was all.
pub(crate) const LISTING: &str = "denial-list";

/// The topic under which the number of the last answer stands that a connector has said to have accepted.
const ACCEPTED: &str = "accepted";

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long counters may differ.
const BEHIND: Duration = Duration::from_secs(3600);
/// After how long without a check-in a connector counts as silent: several of the longest waits.
const SILENT: Duration = Duration::from_secs(10 * 60);

/// What the issuer keeps of its conversation with a connector.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Contact {
    /// The number of the last answer.
    pub(crate) sequence: i64,
    /// How many check-ins there were.
    pub(crate) arrivals: i64,
    /// How much it is to log.
    pub(crate) log_level: Option<LogLevel>,
    /// Up to which event the issuer had everything of its ledger at its last check-in.
    pub(crate) acknowledged: Option<i64>,
}

impl Contact {
    /// Of a connector that was never heard, nothing.
    pub(crate) fn find(tx: &Tx<'_>, connector: &str) -> Result<Self, StoreError> {
        let sql = "SELECT sequence, arrivals, log_level, acknowledged FROM connector_contact \
                   WHERE connector = ?1";
        let found = tx.one(sql, values![connector], |row| {
            let level: Option<String> = row.get(2)?;
            Ok::<_, StoreError>(Self {
                sequence: row.get(0)?,
                arrivals: row.get(1)?,
                log_level: level.as_deref().and_then(level_from_name),
                acknowledged: row.get(3)?,
            })
        })?;
        Ok(found.unwrap_or_default())
    }
}

pub(crate) const fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    }
}

pub(crate) fn level_from_name(name: &str) -> Option<LogLevel> {
    let all = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug];
    all.into_iter().find(|level| level_name(*level) == name)
}

const fn health_name(health: Health) -> &'static str {
    match health {
        Health::Serving => "serving",
        Health::Degraded => "degraded",
        Health::Stopped => "stopped",
    }
}

pub(crate) const fn purpose_name(purpose: CertificatePurpose) -> &'static str {
    match purpose {
        CertificatePurpose::Connector => "connector",
        CertificatePurpose::RaSigning => "ra-signing",
        CertificatePurpose::RaDecryption => "ra-decryption",
        CertificatePurpose::Ra => "ra",
        CertificatePurpose::Ca => "ca",
        CertificatePurpose::Tls => "tls",
    }
}

/// Numbers of the protocol have 64 bits, those of the database 63.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The number of the last answer that it has accepted. One that no other can be above is none that was ever given.
pub(crate) fn last_sequence(request: &CheckInRequest) -> Result<i64, Refusal> {
    let number = i64::try_from(request.last_sequence).ok().filter(|number| *number < i64::MAX);
    number.ok_or_else(|| Refusal::new(ErrorCode::RequestMalformed, "last_sequence was never given"))
}

/// Takes up a check-in: proofs, what it shows as known, and what the connector says of itself. Gives its number among
/// the check-ins of this connector.
pub(crate) fn heard(tx: &Tx<'_>, request: &CheckInRequest, now: Timestamp) -> Result<i64, Refusal> {
    let last = last_sequence(request)?;
    possession::accept(tx, request.connector, &request.possession, now)
        .map_err(|code| Refusal::new(code, "a proof of possession"))?;
    let id = request.connector.to_string();
    let sql = "SELECT tenant FROM connector WHERE id = ?1";
    let tenant: Option<String> = tx.one(sql, values![&id], |row| row.get::<String>(0))?;
    let unknown = || Refusal::new(ErrorCode::CertificateNotAccepted, "no such connector");
    let tenant = tenant.and_then(|tenant| TenantId::new(tenant).ok()).ok_or_else(unknown)?;
    denials::lapse(tx, &tenant, now)?;
    told::accepted(tx, &id, last)?;
    let contact = Contact::find(tx, &id)?;
    remembers(tx, &tenant, request.connector, last, contact.sequence, now)?;
    if last > contact.sequence {
        tracing::warn!(
            connector = %request.connector, theirs = last, ours = contact.sequence,
            "the connector knows answers that this issuer has not given: a backup was restored here"
        );
        denials::outrun(tx, &tenant, request.denial_cursor)?;
        told::know(tx, request.connector, LISTING, "nothing", 0)?;
        // What has changed since the backup is not known, so what can be said again is.
        for topic in ["log-level", "ledger", "restored"] {
            told::forget(tx, &id, topic)?;
        }
    }
    let before = Heard::find(tx, request.connector)?;
    let present = stored(acknowledged(tx, &tenant, request.ledger)?);
    let mut heard = Heard::of(request, before.as_ref(), present, now);
    let mut alarms = heard.alarms(now);
    alarms.extend(other_ledger(tx, request)?);
    let known = before.map(|before| before.logged).unwrap_or_default();
    heard.logged = alarms.iter().map(Alarm::name).collect();
    alarms.retain(|alarm| !known.contains(&alarm.name()));
    if let Some(reason) = request.refused {
        // Each of them counts.
        let detail = format!("it has refused an answer: {reason}");
        alarms.push(Alarm::new("answer-refused", &id, "", detail));
    }
    for alarm in alarms {
        let kind = AlarmKind::Gateway(alarm.kind);
        alarms::raise(tx, &tenant, kind, &alarm.subject, &alarm.detail, now)?;
    }
    heard.keep(tx, request)?;
    Ok(contact.arrivals.saturating_add(1))
}

/// A connector asks with the number that it asked with before, or with that of the answer that it got: it has one check-in
/// under way, and writes down what it accepts before it acts. Any other that was given here is of a state that was
/// restored from a backup, or of a copy of the gateway: those two raise an alarm each time that they take turns.
fn remembers(
    tx: &Tx<'_>,
    tenant: &TenantId,
    connector: ConnectorId,
    last: i64,
    given: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    let id = connector.to_string();
    let before: Option<i64> =
        told::known(tx, &id)?.get(ACCEPTED).and_then(|number| number.parse().ok());
    if before == Some(last) {
        return Ok(());
    }
    if let Some(before) = before.filter(|_| last < given) {
        let detail = format!(
            "it asks with answer {last} as its last, and had asked with {before} and been given \
             {given}: its state was restored from a backup, or a copy of the gateway runs with the \
             same keys"
        );
        alarms::raise(tx, tenant, AlarmKind::AnswersForgotten, &id, &detail, now)?;
    }
    told::know(tx, connector, ACCEPTED, &last.to_string(), 0)
}

/// Up to which event the issuer has everything of a ledger, if it is the tenant's.
pub(crate) fn acknowledged(
    tx: &Tx<'_>,
    tenant: &TenantId,
    ledger: LedgerId,
) -> Result<u64, StoreError> {
    let sql = "SELECT 1 FROM ledger WHERE id = ?1 AND tenant = ?2";
    match tx.exists(sql, values![&ledger.to_string(), tenant.as_str()])? {
        true => orders::acknowledged(tx, ledger),
        false => Ok(0),
    }
}

/// A gateway whose group is bound to another ledger than its own.
fn other_ledger(tx: &Tx<'_>, request: &CheckInRequest) -> Result<Option<Alarm>, StoreError> {
    let sql = "SELECT gateway_group.ledger FROM connector JOIN gateway_group \
               ON gateway_group.tenant = connector.tenant \
               AND gateway_group.id = connector.gateway_group WHERE connector.id = ?1";
    let id = request.connector.to_string();
    let bound: Option<Option<String>> = tx.one(sql, values![&id], |row| row.get(0))?;
    let own = request.ledger.to_string();
    let other = bound.flatten().filter(|bound| *bound != own);
    Ok(other.map(|bound| {
        let detail = format!("its ledger is {own}, its group's {bound}: it issues nothing");
        Alarm::new("ledger-differs", &id, own, detail)
    }))
}

/// Something about a gateway that an operator must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alarm {
    pub(crate) kind: &'static str,
    /// What it is about: a connector, a certificate.
    subject: String,
    /// How bad it is: an alarm is raised again with each step.
    step: String,
    pub(crate) detail: String,
}

impl Alarm {
    fn new(
        kind: &'static str,
        subject: impl fmt::Display,
        step: impl fmt::Display,
        detail: String,
    ) -> Self {
        Self { kind, subject: subject.to_string(), step: step.to_string(), detail }
    }

    fn name(&self) -> String {
        format!("{} {} {}", self.kind, self.subject, self.step)
    }
}

/// What a connector has said at its last check-in.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    connector: ConnectorId,
    pub(crate) at: Timestamp,
    pub(crate) software: String,
    pub(crate) challenge_version: i64,
    pub(crate) health: String,
    pub(crate) ledger: String,
    pub(crate) queue_depth: i64,
    pub(crate) outbox_high_mark: i64,
    /// Up to which event the issuer had everything of its ledger.
    acknowledged: i64,
    /// The same at the check-in before: its ledger has that many events, or was restored from a backup. What is reported
    /// while a check-in is under way says nothing.
    acknowledged_then: i64,
    pub(crate) issued: i64,
    pub(crate) delivered: i64,
    pub(crate) reported: i64,
    pub(crate) certificates: Vec<CertificateExpiry>,
    pub(crate) refused: Option<String>,
    pub(crate) refused_at: Option<Timestamp>,
    pub(crate) refusals: i64,
    /// Since when the other counters have not reached a count of issued certificates, and which.
    behind: Option<(Timestamp, i64)>,
    logged: Vec<String>,
}

pub(crate) const HEARD: &str = "heard_at, software, challenge_version, health, ledger, \
    queue_depth, outbox_high_mark, issued, delivered, reported, certificates, refused, refused_at, \
    refusals, behind_since, behind_goal, alarms, connector, acknowledged, \
    acknowledged_then";

impl Heard {
    /// Out of the columns [`HEARD`], of which the first is `first`; `None` when it was never heard.
    pub(crate) fn row(row: &Row, first: usize) -> Result<Option<Self>, StoreError> {
        let at = |column: usize| first.saturating_add(column);
        let Some(heard_at) = row.get::<Option<i64>>(at(0))? else { return Ok(None) };
        let json = |column: usize| row.get::<String>(at(column));
        let unreadable = |column: usize| move |_| StoreError::Column { column };
        let instant = |column: usize| {
            Ok::<_, StoreError>(row.get::<Option<i64>>(at(column))?.map(Timestamp::from_seconds))
        };
        let unknown = StoreError::Column { column: at(17) };
        Ok(Some(Self {
            connector: ConnectorId::from_hex(&row.get::<String>(at(17))?).ok_or(unknown)?,
            at: Timestamp::from_seconds(heard_at),
            software: row.get(at(1))?,
            challenge_version: row.get(at(2))?,
            health: row.get(at(3))?,
            ledger: row.get(at(4))?,
            queue_depth: row.get(at(5))?,
            outbox_high_mark: row.get(at(6))?,
            issued: row.get(at(7))?,
            delivered: row.get(at(8))?,
            reported: row.get(at(9))?,
            certificates: serde_json::from_str(&json(10)?).map_err(unreadable(10))?,
            refused: row.get(at(11))?,
            refused_at: instant(12)?,
            refusals: row.get(at(13))?,
            behind: instant(14)?.zip(row.get::<Option<i64>>(at(15))?),
            logged: serde_json::from_str(&json(16)?).map_err(unreadable(16))?,
            acknowledged: row.get(at(18))?,
            acknowledged_then: row.get(at(19))?,
        }))
    }

    fn find(tx: &Tx<'_>, connector: ConnectorId) -> Result<Option<Self>, StoreError> {
        let sql = format!("SELECT {HEARD} FROM connector_contact WHERE connector = ?1");
        let found = tx.one(&sql, values![&connector.to_string()], |row| Self::row(row, 0))?;
        Ok(found.flatten())
    }

    fn of(
        request: &CheckInRequest,
        before: Option<&Self>,
        acknowledged: i64,
        now: Timestamp,
    ) -> Self {
        let counters = request.counters;
        let (issued, delivered, reported) =
            (stored(counters.issued), stored(counters.delivered), stored(counters.reported));
        // While certificates are issued all the time the counters never agree; that they catch up is what matters.
        let reached = delivered.min(reported);
        let behind = before.and_then(|before| before.behind).filter(|(_, goal)| reached < *goal);
        let behind = behind.or_else(|| (reached < issued).then_some((now, issued)));
        let refused = request.refused.map(|reason| reason.code().to_owned());
        let refusals = before.map_or(0, |before| before.refusals);
        Self {
            connector: request.connector,
            at: now,
            software: request.software.to_string(),
            challenge_version: i64::from(request.challenge_version),
            health: health_name(request.health).to_owned(),
            ledger: request.ledger.to_string(),
            queue_depth: stored(request.queue_depth),
            outbox_high_mark: stored(request.outbox_high_mark),
            acknowledged,
            acknowledged_then: before.map_or(acknowledged, |before| before.acknowledged),
            issued,
            delivered,
            reported,
            certificates: request.certificates.clone(),
            refused_at: refused
                .as_ref()
                .map(|_| now)
                .or_else(|| before.and_then(|before| before.refused_at)),
            refusals: refusals.saturating_add(i64::from(refused.is_some())),
            refused: refused.or_else(|| before.and_then(|before| before.refused.clone())),
            behind,
            logged: Vec::new(),
        }
    }

    fn keep(&self, tx: &Tx<'_>, request: &CheckInRequest) -> Result<(), Refusal> {
        let json = |error| Refusal::new(ErrorCode::InternalError, error);
        let certificates = serde_json::to_string(&self.certificates).map_err(json)?;
        let alarms = serde_json::to_string(&self.logged).map_err(json)?;
        let id = request.connector.to_string();
        // A connector that was taken up otherwise than by an enrolment begins here.
        tx.execute(
            "INSERT INTO connector_contact \
             (connector, sequence, arrivals, refusals, alarms) \
             VALUES (?1, 0, 0, 0, '[]') ON CONFLICT (connector) DO NOTHING",
            values![&id],
        )?;
        tx.execute(
            "UPDATE connector_contact SET arrivals = arrivals + 1, heard_at = ?2, software = ?3, \
             challenge_version = ?4, health = ?5, ledger = ?6, queue_depth = ?7, \
             outbox_high_mark = ?8, issued = ?9, delivered = ?10, reported = ?11, \
             certificates = ?12, refused = ?13, refused_at = ?14, refusals = ?15, \
             behind_since = ?16, behind_goal = ?17, alarms = ?18, acknowledged = ?19, \
             acknowledged_then = ?20 WHERE connector = ?1",
            values![
                &id,
                self.at.seconds(),
                &self.software,
                self.challenge_version,
                &self.health,
                &self.ledger,
                self.queue_depth,
                self.outbox_high_mark,
                self.issued,
                self.delivered,
                self.reported,
                &certificates,
                self.refused.as_ref(),
                self.refused_at.map(Timestamp::seconds),
                self.refusals,
                self.behind.map(|(since, _)| since.seconds()),
                self.behind.map(|(_, goal)| goal),
                &alarms,
                self.acknowledged,
                self.acknowledged_then,
            ],
        )?;
        Ok(())
    }

    /// What is alarming, at this instant.
    pub(crate) fn alarms(&self, now: Timestamp) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        for certificate in &self.certificates {
            let (purpose, end) = (purpose_name(certificate.purpose), certificate.not_after);
            let left = end.since(now);
            let Some(step) = [7, 14, 30].into_iter().find(|days| left < DAY.saturating_mul(*days))
            else {
                continue;
            };
            let thumbprint = certificate.thumbprint_sha256;
            alarms.push(Alarm::new(
                "certificate-ends",
                thumbprint,
                step,
                format!(
                    "{purpose} certificate {thumbprint} ends at {end}, in less than {step} days"
                ),
            ));
        }
        if let Some((since, goal)) = self.behind
            && now.since(since) >= BEHIND
        {
            let detail = format!(
                "of {goal} certificates issued by {since}, {} were delivered and {} reported",
                self.delivered, self.reported
            );
            alarms.push(Alarm::new("counters-differ", self.connector, since, detail));
        }
        if self.outbox_high_mark < self.acknowledged_then {
            let had = self.acknowledged_then;
            let detail = format!(
                "the ledger's last event is {}, and the issuer has {had}: a backup was restored",
                self.outbox_high_mark
            );
            alarms.push(Alarm::new("ledger-restored", self.connector, had, detail));
        }
        if now.since(self.at) >= SILENT {
            let detail = format!("last heard at {}", self.at);
            alarms.push(Alarm::new("silent", self.connector, self.at, detail));
        }
        alarms
    }
}
