//! Alarms: what an operator must know, one for each kind and subject.

use crate::service::Service;
use crate::service::assignments::number;
use crate::service::db::{Row, Tx, values};
use crate::service::objects::{List, rows};
use crate::service::problem::Problem;
use crate::service::request::{Admin, Authorised, Id, Page, Paging, Read};
use crate::service::store::StoreError;
use axum::Json;
use axum::extract::State;
use scep_types::{TenantId, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

/// Characters of a subject and of a detail.
const MAX_SUBJECT: usize = 300;
const MAX_DETAIL: usize = 2_000;

/// What an alarm is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AlarmKind {
    /// A certificate was issued for a challenge that was never made here.
    UnknownChallenge,
    /// A certificate was issued for another device, user, profile or group than its challenge's.
    ChallengeDiffers,
    /// Two certificates for one challenge.
    ChallengeUsedTwice,
    /// A certificate was issued as the successor of another, and does not fit it.
    RenewalDiffers,
    /// An event lacks what its kind must have.
    UnreadableEvent,
    /// An event is about a certificate that was never reported.
    UnknownCertificate,
    /// A connector has sent another tenant's events.
    ForeignTenant,
    /// A connector has sent events of a ledger that is not its group's, or about a certificate of another ledger.
    ForeignLedger,
    /// A connector has reported on an order that is not for its ledger.
    ForeignOrder,
    /// Two events of one ledger with one key or one number, and different contents.
    LedgerForked,
    /// A ledger goes on beyond what is here: events are missing.
    EventsMissing,
    /// A gateway's alarm, by its event's kind.
    Gateway(&'static str),
    /// The brake on revocations holds.
    RevocationBrake,
    /// The CA refuses to revoke a certificate.
    RevocationFailed,
    /// No gateway knows a certificate that was to be revoked.
    RevocationNotFound,
    /// Two holders of a connector's keys were seen: both are refused.
    ConnectorCloned,
    /// A connector knows an earlier answer than it should: its state is a backup, or there are two of it.
    AnswersForgotten,
}

impl AlarmKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::UnknownChallenge => "unknown-challenge",
            Self::ChallengeDiffers => "challenge-differs",
            Self::ChallengeUsedTwice => "challenge-used-twice",
            Self::RenewalDiffers => "renewal-differs",
            Self::UnreadableEvent => "unreadable-event",
            Self::UnknownCertificate => "unknown-certificate",
            Self::ForeignTenant => "foreign-tenant",
            Self::ForeignLedger => "foreign-ledger",
            Self::ForeignOrder => "foreign-order",
            Self::LedgerForked => "ledger-forked",
            Self::EventsMissing => "events-missing",
            Self::Gateway(kind) => kind,
            Self::RevocationBrake => "revocation-brake",
            Self::RevocationFailed => "revocation-failed",
            Self::RevocationNotFound => "revocation-not-found",
            Self::ConnectorCloned => "connector-cloned",
            Self::AnswersForgotten => "answers-forgotten",
        }
    }
}

/// Raises an alarm, in the transaction that has found its cause, and in the log. One that is there already counts
/// once more and is no longer acknowledged.
pub(crate) fn raise(
    tx: &Tx<'_>,
    tenant: &TenantId,
    kind: AlarmKind,
    subject: &str,
    detail: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let subject = shown(subject, MAX_SUBJECT);
    let detail = shown(detail, MAX_DETAIL);
    tracing::error!(%tenant, kind = kind.name(), subject, detail, "alarm");
    tx.execute(
        "INSERT INTO alarm (tenant, kind, subject, detail, times, first_at, last_at) \
         VALUES (?1, ?2, ?3, ?4, 1, ?5, ?5) ON CONFLICT (tenant, kind, subject) DO UPDATE SET \
         detail = excluded.detail, times = alarm.times + 1, last_at = excluded.last_at, \
         acknowledged_at = NULL",
        values![tenant.as_str(), kind.name(), &subject, &detail, now.seconds()],
    )
    .map(drop)
}

fn shown(text: &str, max: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(max).collect()
}

/// Something that an operator must know.
#[derive(Serialize, ToSchema)]
pub(crate) struct Alarm {
    id: String,
    kind: String,
    /// What it is about: a certificate, an order, a ledger, a device.
    subject: String,
    detail: String,
    /// How often it was raised.
    times: i64,
    #[schema(format = DateTime)]
    first_at: String,
    #[schema(format = DateTime)]
    last_at: String,
    /// When an operator has acknowledged it; absent until then, and again when it was raised since.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    acknowledged_at: Option<String>,
}

const COLUMNS: &str = "id, kind, subject, detail, times, first_at, last_at, acknowledged_at";

impl Alarm {
    fn row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get::<i64>(0)?.to_string(),
            kind: row.get(1)?,
            subject: row.get(2)?,
            detail: row.get(3)?,
            times: row.get(4)?,
            first_at: at(row.get(5)?),
            last_at: at(row.get(6)?),
            acknowledged_at: row.get::<Option<i64>>(7)?.map(at),
        })
    }
}

/// An instant as the API has it.
pub(crate) fn at(seconds: i64) -> String {
    Timestamp::from_seconds(seconds).to_string()
}

/// The alarms.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/alarms", tag = "alarms",
    operation_id = "list_alarms", params(Paging), responses((status = 200, body = List<Alarm>)))]
pub(crate) async fn list(
    State(service): State<Service>,
    caller: Authorised<Read>,
    page: Page,
) -> Result<Json<List<Alarm>>, Problem> {
    let after = page.after.as_deref().map_or(Some(0), number);
    let after = after.ok_or_else(|| Problem::field("after", "no cursor"))?;
    let items = service
        .store
        .read(move |tx| {
            let sql = format!(
                "SELECT {COLUMNS} FROM alarm WHERE tenant = ?1 AND id > ?2 ORDER BY id LIMIT ?3"
            );
            tx.query(&sql, values![caller.tenant.as_str(), after, rows(page.limit)], Alarm::row)
        })
        .await?;
    Ok(Json(List::cut(items, page.limit, |alarm| alarm.id.clone())))
}

fn one(tx: &Tx<'_>, tenant: &TenantId, number: i64) -> Result<Json<Alarm>, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM alarm WHERE tenant = ?1 AND id = ?2");
    let found = tx.one(&sql, values![tenant.as_str(), number], Alarm::row)?;
    found.map(Json).ok_or_else(|| Problem::not_found("alarm"))
}

/// One alarm.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/alarms/{id}", tag = "alarms",
    operation_id = "read_alarm", responses((status = 200, body = Alarm)))]
pub(crate) async fn read(
    State(service): State<Service>,
    caller: Authorised<Read>,
    id: Id,
) -> Result<Json<Alarm>, Problem> {
    let number = number(&id.0).ok_or_else(|| Problem::not_found("alarm"))?;
    service.store.read(move |tx| one(tx, &caller.tenant, number)).await
}

/// Acknowledges an alarm; one that is acknowledged already stays so.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/alarms/{id}/acknowledge", tag = "alarms",
    operation_id = "acknowledge_alarm", responses((status = 200, body = Alarm)))]
pub(crate) async fn acknowledge(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    id: Id,
) -> Result<Json<Alarm>, Problem> {
    let number = number(&id.0).ok_or_else(|| Problem::not_found("alarm"))?;
    let now = service.clock.now();
    service
        .store
        .write(move |tx| {
            tx.execute(
                "UPDATE alarm SET acknowledged_at = ?3 \
                 WHERE tenant = ?1 AND id = ?2 AND acknowledged_at IS NULL",
                values![caller.tenant.as_str(), number, now.seconds()],
            )?;
            one(tx, &caller.tenant, number)
        })
        .await
}
