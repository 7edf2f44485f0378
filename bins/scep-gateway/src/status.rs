//! `status`: what an operator wants to know, of a gateway that runs and of one that does not.
//!
//! The configuration and the connector's state are files. What else there is comes from the running gateway, over its
//! loopback listener; when nothing answers there, from the ledger.

use crate::cli::StatusOptions;
use crate::config::{Challenges, Config};
use crate::error::GatewayError;
use crate::keeper::{CONNECTOR, SIGNERS, last_signer};
use crate::label::Label;
use crate::renewal::{PREVIOUS_ENCRYPTION, PREVIOUS_SIGNING};
use scep_connector::{Offline, State};
use scep_keys::AwsLc;
use scep_ledger::LedgerError;
use scep_link::Membership;
use scep_server::{EXPIRY_ALARM_DAYS, SystemClock};
use scep_types::{Clock, CryptoProvider, NameHash, SpkiDer, Timestamp};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

const DAY: i64 = 86_400;

/// Everything, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Status {
    tenant: String,
    group: String,
    /// Whether a gateway of this configuration runs.
    running: bool,
    /// Whether it issues; null when it does not run.
    serving: Option<bool>,
    /// Why it does not issue: a code.
    reason: Option<String>,
    /// The ledger's id; null when neither the gateway nor the ledger's file says.
    ledger: Option<String>,
    /// Null: the configuration names no issuer.
    link: Option<LinkState>,
    /// Events that the issuer has not acknowledged.
    queue_depth: Option<u64>,
    /// Requests that wait for a person's approval.
    held: Option<Held>,
    /// Devices, users and profiles that are disabled.
    denials: Option<usize>,
    /// The brake on mass revocation, and what waits.
    revocations: Option<Revocations>,
    certificates: Vec<Ending>,
    keys: Vec<Key>,
    /// What needs an operator, for people.
    attention: Vec<String>,
}

#[derive(Debug, Serialize)]
struct LinkState {
    issuer: String,
    /// Null: not enrolled.
    connector: Option<String>,
    /// Whether an operator of the tenant had confirmed the gateway by then; what happened since is the issuer's to say.
    membership_at_enrolment: Option<Membership>,
    last_heard: Option<String>,
    /// Since the issuer was heard.
    silent_seconds: Option<u64>,
    trouble: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Held {
    /// Those that wait, and those decided on that their device has not fetched.
    count: u64,
    /// Since when the oldest of those waits that nobody has decided on.
    waiting_since: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Revocations {
    waiting: u64,
    /// Held by the brake until an operator confirms.
    held: u64,
    unpublished: u64,
}

/// What ends.
#[derive(Debug, Serialize)]
struct Ending {
    name: String,
    not_after: String,
    days_left: i64,
    /// The threshold of 30, 14 or 7 days that it is below; 0: it has ended.
    alarm_days: Option<i64>,
}

impl Ending {
    fn of(name: impl Into<String>, not_after: Timestamp, now: Timestamp) -> Self {
        let left = not_after.seconds().saturating_sub(now.seconds());
        let below = |days: &&i64| left < days.saturating_mul(DAY);
        let alarm_days =
            if left < 0 { Some(0) } else { EXPIRY_ALARM_DAYS.iter().filter(below).min().copied() };
        Self {
            name: name.into(),
            not_after: not_after.to_string(),
            days_left: left.div_euclid(DAY),
            alarm_days,
        }
    }
}

#[derive(Debug, Serialize)]
struct Key {
    role: String,
    algorithm: String,
    id: String,
    /// Until when it is used, where that is limited.
    until: Option<String>,
}

impl Key {
    fn of(role: &str, key: &SpkiDer, until: Option<Timestamp>) -> Self {
        Self {
            role: role.to_owned(),
            algorithm: key.algorithm().to_string(),
            id: key.key_id().to_string(),
            until: until.map(|until| until.to_string()),
        }
    }
}

/// What the running gateway says at `/healthz`. What else it says there is for others.
#[derive(Debug, Deserialize)]
struct Health {
    serving: bool,
    reason: Option<String>,
    ledger: String,
    outbox: Option<u64>,
    held: Option<Held>,
    denials: usize,
    revocations: Option<Revocations>,
    link: Option<HealthLink>,
}

#[derive(Debug, Deserialize)]
struct HealthLink {
    last_heard: Option<String>,
    silent_seconds: u64,
    trouble: Option<String>,
}

pub(crate) fn run(options: &StatusOptions) -> Result<ExitCode, GatewayError> {
    let now = SystemClock.now();
    let provider: Arc<dyn CryptoProvider> = Arc::new(AwsLc);
    let config = Config::load(&options.config, now, &provider)?;
    let status = gather(&config, now)?;
    let out = std::io::stdout();
    let written = if options.json {
        serde_json::to_string_pretty(&status)
            .map_err(std::io::Error::from)
            .and_then(|text| writeln!(&out, "{text}"))
    } else {
        print(&status, &out)
    };
    written.map_err(GatewayError::file("standard output"))?;
    Ok(if status.attention.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn gather(config: &Config, now: Timestamp) -> Result<Status, GatewayError> {
    let (link, state) = match &config.challenges {
        Challenges::Issuer(link) => (Some(link), link.state.read()?),
        Challenges::Pinned(_) => (None, None),
    };
    let mut status = Status {
        tenant: config.tenant.to_string(),
        group: config.group.to_string(),
        running: false,
        serving: None,
        reason: None,
        ledger: state.as_ref().map(|state| state.ledger.to_string()),
        link: link.map(|link| LinkState {
            issuer: link.settings.issuer.as_str().to_owned(),
            connector: state.as_ref().map(|state| state.connector.to_string()),
            membership_at_enrolment: state.as_ref().map(|state| state.membership),
            last_heard: state.as_ref().and_then(|s| s.last_heard).map(|at| at.to_string()),
            silent_seconds: state
                .as_ref()
                .and_then(|s| s.last_heard)
                .map(|at| now.since(at).as_secs()),
            trouble: None,
        }),
        queue_depth: None,
        held: None,
        denials: None,
        revocations: None,
        certificates: endings(config, state.as_ref(), now),
        keys: keys(config, state.as_ref()),
        attention: Vec::new(),
    };
    match ask(config.admin_listen) {
        Some(health) => live(&mut status, health),
        None => stopped(&mut status, config)?,
    }
    status.attention.extend(attention(&status));
    if let (Some(link), Some(last)) = (link, state.as_ref().and_then(|state| state.last_heard))
        && let Offline::RefuseAfter(limit) = link.settings.offline
        && now.since(last) > limit
    {
        status.attention.push(format!(
            "the issuer was last heard at {last}, longer ago than `offline` allows: nothing is issued"
        ));
    }
    Ok(status)
}

fn endings(config: &Config, state: Option<&State>, now: Timestamp) -> Vec<Ending> {
    let mut endings: Vec<Ending> = config
        .expiries
        .iter()
        .map(|(what, when)| Ending::of(what.to_string(), *when, now))
        .collect();
    if let Some(state) = state {
        endings.push(Ending::of(CONNECTOR, state.certificate.not_after(), now));
        endings.extend(last_signer(&state.trust).map(|last| Ending::of(SIGNERS, last, now)));
    }
    endings
}

fn keys(config: &Config, state: Option<&State>) -> Vec<Key> {
    let until = |role: &Label| {
        let of_it = config.authorities().find(|one| one.name == role.authority);
        let previous = of_it.and_then(|one| one.previous_ra.as_ref());
        let replaced = [PREVIOUS_ENCRYPTION, PREVIOUS_SIGNING].contains(&role.what);
        previous.filter(|_| replaced).map(|previous| previous.until)
    };
    let mut keys: Vec<Key> = config
        .keys
        .iter()
        .map(|(role, key)| Key::of(&role.to_string(), key, until(role)))
        .collect();
    let Some(state) = state else { return keys };
    for signer in &state.trust.signers {
        keys.push(Key::of("issuer signing", &signer.key, Some(signer.not_after)));
    }
    for command in &state.command_keys {
        keys.push(Key::of("issuer commands", &command.key, Some(command.not_after)));
    }
    for ours in &state.trust.decryption {
        let role = match ours.until {
            None => "challenge decryption",
            Some(_) => "previous challenge decryption",
        };
        keys.push(Key::of(role, &ours.key, ours.until));
    }
    let own = &state.certificate;
    keys.push(Key::of("connector authentication", own.spki(), Some(own.not_after())));
    keys
}

/// What the running gateway adds.
fn live(status: &mut Status, health: Health) {
    status.running = true;
    status.serving = Some(health.serving);
    status.reason = health.reason;
    status.ledger = Some(health.ledger);
    status.queue_depth = health.outbox;
    status.held = health.held;
    status.denials = Some(health.denials);
    status.revocations = health.revocations;
    if let (Some(link), Some(live)) = (&mut status.link, health.link) {
        link.last_heard = live.last_heard;
        link.silent_seconds = Some(live.silent_seconds);
        link.trouble = live.trouble;
    }
}

/// What the ledger adds, of a gateway that does not run.
fn stopped(status: &mut Status, config: &Config) -> Result<(), GatewayError> {
    let issuers = config.authorities().filter_map(|one| one.ca.chain().first());
    let issuers: Vec<NameHash> = issuers.map(|ca| NameHash::of(ca.subject_der())).collect();
    crate::serve::runtime()?.block_on(async {
        let ledger = match crate::serve::open_ledger(config).await {
            // It runs, and does not answer.
            Err(GatewayError::Ledger(LedgerError::InUse { .. })) => {
                status.running = true;
                status.attention.push(format!(
                    "a gateway has the ledger, and nothing answers at {}",
                    config.admin_listen
                ));
                return Ok(());
            }
            ledger => ledger?,
        };
        status.ledger = Some(ledger.id().to_string());
        let counters = ledger.counters().await?;
        status.queue_depth = Some(counters.outbox);
        let waiting_since = counters.waiting_since.map(|since| since.to_string());
        status.held = Some(Held { count: counters.held, waiting_since });
        let denials = ledger.denials().await?;
        let count = denials.devices.len().saturating_add(denials.users.len());
        status.denials = Some(count.saturating_add(denials.profiles.len()));
        for issuer in issuers {
            match ledger.revocation_work(issuer).await {
                Ok(work) => {
                    let all = status.revocations.get_or_insert_default();
                    all.waiting = all.waiting.saturating_add(work.waiting);
                    all.held = all.held.saturating_add(work.held);
                    all.unpublished = all.unpublished.saturating_add(work.unpublished);
                }
                Err(LedgerError::NoRevocations) => {}
                Err(error) => return Err(error.into()),
            }
        }
        status.attention.push("the gateway does not run".into());
        Ok(())
    })
}

/// What needs somebody.
fn attention(status: &Status) -> Vec<String> {
    let mut list = Vec::new();
    if status.serving == Some(false) {
        let reason = status.reason.as_deref().unwrap_or("no reason given");
        list.push(format!("the gateway runs, and does not issue: {reason}"));
    }
    for ending in &status.certificates {
        match ending.alarm_days {
            None => {}
            Some(0) => list.push(format!("{}: ended at {}", ending.name, ending.not_after)),
            Some(_) => list.push(format!("{}: {} days left", ending.name, ending.days_left)),
        }
    }
    if let Some(link) = &status.link {
        if link.connector.is_none() {
            list.push("not enrolled: run `scep-gateway enroll`".into());
        }
        if let Some(trouble) = &link.trouble {
            list.push(format!("the link to the issuer: {trouble}"));
        }
    }
    if let Some(since) = status.held.as_ref().and_then(|held| held.waiting_since.as_ref()) {
        list.push(format!("requests wait for approval, since {since}: `scep-gateway held list`"));
    }
    if let Some(revocations) = status.revocations
        && revocations.held > 0
    {
        list.push(format!(
            "the brake holds {} revocations: `scep-gateway confirm-revocations`",
            revocations.held
        ));
    }
    list
}

/// One question to a server on this machine. `None`: nothing answers, or something else does.
fn ask(address: SocketAddr) -> Option<Health> {
    serde_json::from_slice(&crate::loopback::get(address, "/healthz").ok()?.body).ok()
}

fn print(status: &Status, mut out: impl Write) -> std::io::Result<()> {
    let number = |n: Option<u64>| n.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
    let runs = match (status.running, status.serving, &status.reason) {
        (true, Some(true), _) => "runs and issues".to_owned(),
        (true, Some(false), Some(reason)) => format!("runs and does not issue: {reason}"),
        (true, _, _) => "runs".to_owned(),
        (false, _, _) => "does not run".to_owned(),
    };
    writeln!(out, "gateway      {runs}")?;
    writeln!(out, "tenant       {}, group {}", status.tenant, status.group)?;
    writeln!(out, "ledger       {}", status.ledger.as_deref().unwrap_or("unknown"))?;
    if let Some(link) = &status.link {
        let connector = link.connector.as_deref().unwrap_or("not enrolled");
        writeln!(out, "issuer       {}", link.issuer)?;
        writeln!(out, "connector    {connector}")?;
        let heard = match (&link.last_heard, link.silent_seconds) {
            (Some(at), Some(seconds)) => format!("{at}, {seconds} s ago"),
            _ => "never".to_owned(),
        };
        writeln!(out, "last heard   {heard}")?;
        if let Some(trouble) = &link.trouble {
            writeln!(out, "trouble      {trouble}")?;
        }
    }
    writeln!(out, "reports      {} not acknowledged", number(status.queue_depth))?;
    if let Some(held) = &status.held {
        let since = held.waiting_since.as_ref();
        let since = since.map_or(String::new(), |at| format!(", the oldest undecided since {at}"));
        writeln!(out, "held         {}{since}", held.count)?;
    }
    if let Some(denials) = status.denials {
        writeln!(out, "denials      {denials}")?;
    }
    if let Some(revocations) = status.revocations {
        writeln!(
            out,
            "revocations  {} waiting, {} held by the brake, {} on no CRL yet",
            revocations.waiting, revocations.held, revocations.unpublished
        )?;
    }
    for ending in &status.certificates {
        let Ending { name, not_after, days_left, .. } = ending;
        writeln!(out, "expires      {name:30} {not_after} ({days_left} days)")?;
    }
    for key in &status.keys {
        let until = key.until.as_ref().map_or(String::new(), |until| format!(" until {until}"));
        writeln!(out, "key          {:30} {} {}{until}", key.role, key.algorithm, key.id)?;
    }
    for attention in &status.attention {
        writeln!(out, "attention    {attention}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_left_and_alarms_are_those_of_healthz() {
        let end = Timestamp::from_seconds(1_795_507_200);
        for (left, days, alarm) in [
            (31 * DAY, 31, None),
            (30 * DAY - 1, 29, Some(30)),
            (14 * DAY - 1, 13, Some(14)),
            (0, 0, Some(7)),
            (-1, -1, Some(0)),
        ] {
            let now = Timestamp::from_seconds(end.seconds() - left);
            let ending = Ending::of("x", end, now);
            assert_eq!((ending.days_left, ending.alarm_days), (days, alarm), "{left}");
        }
    }
}
