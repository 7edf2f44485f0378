//! What a connector has last said of itself, and orders to it: how much to log, which key to renew.

use crate::service::db::{Row, Tx, values};
use crate::service::document::BASE;
use crate::service::link::contact::{self, HEARD, Heard};
use crate::service::link::issuer_keys::{self, Role};
use crate::service::link::told;
use crate::service::objects::List;
use crate::service::once::{Done, Once};
use crate::service::problem::Problem;
use crate::service::request::{Admin, Authorised, Body, Id, Read};
use crate::service::store::StoreError;
use crate::service::{Service, changes, renewals};
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use scep_link::{LogLevel, RenewalSubject};
use scep_types::{ConnectorId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a connector has last said of itself. What it was never asked is absent.
#[derive(Serialize, ToSchema)]
pub(crate) struct ContactView {
    /// The connector.
    id: String,
    /// How much it is ordered to log; absent: as its configuration says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    log_level: Option<Level>,
    /// The issuer's keys for challenges that it is known to have. A new one signs once all of its group have it.
    signing_keys: Vec<String>,
    /// The issuer's command keys that it is known to have.
    command_keys: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    last: Option<CheckIn>,
    /// What an operator must know.
    alarms: Vec<AlarmView>,
}

/// The last check-in.
#[derive(Serialize, ToSchema)]
pub(crate) struct CheckIn {
    #[schema(format = DateTime)]
    at: String,
    software: String,
    /// The highest version of challenges that it opens.
    challenge_version: i64,
    /// `serving`, `degraded` or `stopped`.
    health: String,
    ledger: String,
    /// Events that it has not delivered yet.
    queue_depth: i64,
    /// The number of its last event.
    outbox_high_mark: i64,
    issued: i64,
    delivered: i64,
    reported: i64,
    certificates: Vec<CertificateView>,
    /// Why it has last refused an answer of the issuer, if it ever has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    refused: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    refused_at: Option<String>,
    /// How many answers it has refused.
    refusals: i64,
}

/// A certificate of the gateway.
#[derive(Serialize, ToSchema)]
pub(crate) struct CertificateView {
    /// `connector`, `ra-signing`, `ra-decryption`, `ra`, `ca` or `tls`.
    purpose: &'static str,
    thumbprint_sha256: String,
    #[schema(format = DateTime)]
    not_after: String,
    days_left: u64,
}

/// Something about a gateway that an operator must know.
#[derive(Serialize, ToSchema)]
pub(crate) struct AlarmView {
    /// `certificate-ends`, `counters-differ`, `ledger-restored` or `silent`. All but the last are among the alarms too.
    kind: &'static str,
    detail: String,
}

/// How much a gateway logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Level {
    /// Failures.
    Error,
    /// And what may become one.
    Warn,
    /// And each request.
    Info,
    /// And each step.
    Debug,
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::Error,
            LogLevel::Warn => Self::Warn,
            LogLevel::Info => Self::Info,
            LogLevel::Debug => Self::Debug,
        }
    }
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::Error,
            Level::Warn => Self::Warn,
            Level::Info => Self::Info,
            Level::Debug => Self::Debug,
        }
    }
}

/// The connector of the tenant with this id.
fn connector(tx: &Tx<'_>, tenant: &TenantId, id: &str) -> Result<ConnectorId, Problem> {
    let sql = "SELECT 1 FROM connector WHERE tenant = ?1 AND id = ?2";
    let none = || Problem::not_found("connector");
    let wanted = ConnectorId::from_hex(id).ok_or_else(none)?;
    // As it is stored: in lower case.
    let found = tx.exists(sql, values![tenant.as_str(), &wanted.to_string()])?;
    found.then_some(wanted).ok_or_else(none)
}

fn view(tx: &Tx<'_>, connector: ConnectorId, now: Timestamp) -> Result<ContactView, StoreError> {
    let id = connector.to_string();
    let sql = format!("SELECT log_level, {HEARD} FROM connector_contact WHERE connector = ?1");
    let read = |row: &Row| Ok::<_, StoreError>((row.get(0)?, Heard::row(row, 1)?));
    let found: Option<(Option<String>, Option<Heard>)> = tx.one(&sql, values![&id], read)?;
    let (level, heard) = found.unwrap_or_default();
    let log_level = level.as_deref().and_then(contact::level_from_name).map(Level::from);
    let known = told::known(tx, &id)?;
    let has = |role| issuer_keys::had(&known, role).map(|key| key.to_string()).collect();
    let (signing_keys, command_keys) = (has(Role::Signing), has(Role::Command));
    let Some(heard) = heard else {
        let (last, alarms) = (None, Vec::new());
        return Ok(ContactView { id, log_level, signing_keys, command_keys, last, alarms });
    };
    let alarms = heard.alarms(now).into_iter();
    let alarms = alarms.map(|alarm| AlarmView { kind: alarm.kind, detail: alarm.detail }).collect();
    let certificates = heard.certificates.iter().map(|certificate| CertificateView {
        purpose: contact::purpose_name(certificate.purpose),
        thumbprint_sha256: certificate.thumbprint_sha256.to_string(),
        not_after: certificate.not_after.to_string(),
        days_left: certificate.not_after.since(now).as_secs() / 86_400,
    });
    let last = CheckIn {
        at: heard.at.to_string(),
        certificates: certificates.collect(),
        software: heard.software,
        challenge_version: heard.challenge_version,
        health: heard.health,
        ledger: heard.ledger,
        queue_depth: heard.queue_depth,
        outbox_high_mark: heard.outbox_high_mark,
        issued: heard.issued,
        delivered: heard.delivered,
        reported: heard.reported,
        refused: heard.refused,
        refused_at: heard.refused_at.map(|at| at.to_string()),
        refusals: heard.refusals,
    };
    let last = Some(last);
    Ok(ContactView { id, log_level, signing_keys, command_keys, last, alarms })
}

/// What a connector has last said of itself, and what of that is alarming.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/connectors/{id}/contact", tag = "connectors",
    operation_id = "read_contact", responses((status = 200, body = ContactView)))]
pub(crate) async fn read(
    State(service): State<Service>,
    caller: Authorised<Read>,
    id: Id,
) -> Result<Json<ContactView>, Problem> {
    let now = service.clock.now();
    service
        .store
        .read(move |tx| {
            let connector = connector(tx, &caller.tenant, &id.0)?;
            Ok::<_, Problem>(Json(view(tx, connector, now)?))
        })
        .await
}

/// How much a connector is to log.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogLevelChange {
    /// Null: as its configuration says.
    log_level: Option<Level>,
}

/// Orders a connector to log more or less.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/connectors/{id}/log-level",
    tag = "connectors", operation_id = "set_log_level", request_body = LogLevelChange,
    responses((status = 200, body = ContactView)))]
pub(crate) async fn set_log_level(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    id: Id,
    body: Body<LogLevelChange>,
) -> Result<Json<ContactView>, Problem> {
    let now = service.clock.now();
    let level = body.value.log_level.map(|level| contact::level_name(level.into()));
    service
        .store
        .write(move |tx| {
            let connector = connector(tx, &caller.tenant, &id.0)?;
            tx.execute(
                "INSERT INTO connector_contact \
                 (connector, sequence, arrivals, refusals, alarms, log_level) \
                 VALUES (?1, 0, 0, 0, '[]', ?2) \
                 ON CONFLICT (connector) DO UPDATE SET log_level = excluded.log_level",
                values![&connector.to_string(), level],
            )?;
            changes::note(tx, &caller.tenant)?;
            Ok::<_, Problem>(Json(view(tx, connector, now)?))
        })
        .await
}

/// A key of a connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ConnectorKey {
    /// The one by which the issuer knows it, with its certificate.
    Authentication,
    /// The one that challenges are encrypted to.
    Decryption,
}

impl From<RenewalSubject> for ConnectorKey {
    fn from(subject: RenewalSubject) -> Self {
        match subject {
            RenewalSubject::Authentication => Self::Authentication,
            RenewalSubject::Decryption => Self::Decryption,
        }
    }
}

impl From<ConnectorKey> for RenewalSubject {
    fn from(key: ConnectorKey) -> Self {
        match key {
            ConnectorKey::Authentication => Self::Authentication,
            ConnectorKey::Decryption => Self::Decryption,
        }
    }
}

/// A key of a connector that is to be renewed.
#[derive(Serialize, ToSchema)]
pub(crate) struct RenewalView {
    id: String,
    subject: ConnectorKey,
    /// Until when.
    #[schema(format = DateTime)]
    by: String,
}

/// The renewals that a connector was ordered and has not done.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/connectors/{id}/renewals",
    tag = "connectors", operation_id = "list_renewals",
    responses((status = 200, body = List<RenewalView>)))]
pub(crate) async fn list_renewals(
    State(service): State<Service>,
    caller: Authorised<Read>,
    id: Id,
) -> Result<Json<List<RenewalView>>, Problem> {
    service
        .store
        .read(move |tx| {
            let connector = connector(tx, &caller.tenant, &id.0)?;
            let open = renewals::open(tx, connector)?.into_iter().map(|order| RenewalView {
                id: order.order.to_string(),
                subject: order.subject.into(),
                by: order.by.to_string(),
            });
            Ok::<_, Problem>(Json(List { items: open.collect(), next: None }))
        })
        .await
}

/// A key to be renewed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRenewal {
    subject: ConnectorKey,
    /// Until when; in UTC.
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]
    by: String,
}

/// Orders a connector to renew a key. One order for each key is open at a time, with the earliest instant.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/connectors/{id}/renewals",
    tag = "connectors", operation_id = "order_renewal", request_body = NewRenewal,
    responses((status = 201, body = RenewalView)))]
pub(crate) async fn order_renewal(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    id: Id,
    once: Once,
    body: Body<NewRenewal>,
) -> Result<Response, Problem> {
    let by: Timestamp = body.value.by.parse().map_err(|error| Problem::field("by", error))?;
    let subject = RenewalSubject::from(body.value.subject);
    let tenant = caller.tenant.clone();
    service
        .once(&caller, once, body.request, move |tx| {
            let connector = connector(tx, &tenant, &id.0)?;
            let wanted = renewals::order(tx, connector, subject, by)?;
            let open = renewals::open(tx, connector)?;
            let by = open.iter().find(|order| order.order == wanted).map_or(by, |order| order.by);
            let location = format!("{BASE}/tenants/{tenant}/connectors/{connector}/renewals");
            let view =
                RenewalView { id: wanted.to_string(), subject: subject.into(), by: by.to_string() };
            Done::created(location, &view)
        })
        .await
}
