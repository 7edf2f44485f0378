//! What gateways have reported: certificates, events, and how far each ledger has told.

use crate::service::Service;
use crate::service::alarms::at;
use crate::service::assignments::number;
use crate::service::db::{Row, Tx, values};
use crate::service::objects::{List, id, rows};
use crate::service::problem::Problem;
use crate::service::request::{Admin, Authorised, Body, Id, Page, Paging, Query, Read, limit};
use crate::service::store::StoreError;
use axum::Json;
use axum::extract::State;
use scep_types::{CertificateFingerprint, DeviceId, LedgerId, ProfileId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The largest number that every reader of JSON keeps exactly.
const MAX_SEQUENCE: i64 = (1 << 53) - 1;

/// A certificate that a gateway has reported.
#[derive(Serialize, ToSchema)]
pub(crate) struct Certificate {
    /// SHA-256 over the certificate, hexadecimal: its name here.
    thumbprint: String,
    issuer: String,
    /// SHA-256 over the issuer's DER Name.
    issuer_sha256: String,
    serial: String,
    #[schema(format = DateTime)]
    not_before: String,
    #[schema(format = DateTime)]
    not_after: String,
    device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    user: Option<String>,
    profile: String,
    /// The challenge that was spent on it; of one that follows another without, an id made of the other's thumbprint.
    challenge: String,
    /// The thumbprint of the certificate that it follows without a challenge; absent: a challenge was spent on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    renews: Option<String>,
    /// The thumbprint of the one that follows it so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    renewed_by: Option<String>,
    /// How far it is from the certificate that a challenge was spent on; 0: that one.
    generation: u32,
    /// SHA-256 over the key that signed the device's message.
    signer_spki_sha256: String,
    /// SHA-256 over the certificate's key.
    spki_sha256: String,
    ledger: String,
    #[schema(format = DateTime)]
    issued_at: String,
    /// Whether the reply got out: `flushed` or `connection-lost`; absent until that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    delivered: Option<String>,
    state: CertificateState,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    revoked_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<String>,
    /// Since when a CRL shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    on_crl_at: Option<String>,
}

/// How a certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CertificateState {
    /// It can be used.
    Live,
    /// It is not what was approved, and was not given to the device.
    Withheld,
    /// It is revoked.
    Revoked,
    /// Its time is over.
    Expired,
}

impl CertificateState {
    /// Over `state` and `not_after`, with the present instant as `?5`.
    const fn condition(self) -> &'static str {
        match self {
            Self::Live => "state = 'live' AND not_after >= ?5",
            Self::Withheld => "state = 'withheld' AND ?5 = ?5",
            Self::Revoked => "state = 'revoked' AND ?5 = ?5",
            Self::Expired => "state = 'live' AND not_after < ?5",
        }
    }

    fn stored(state: &str, not_after: i64, now: Timestamp) -> Self {
        match state {
            "revoked" => Self::Revoked,
            "withheld" => Self::Withheld,
            _ if not_after < now.seconds() => Self::Expired,
            _ => Self::Live,
        }
    }
}

const COLUMNS: &str = "thumbprint, issuer, issuer_hash, serial, not_before, not_after, device, owner, \
     profile, challenge, signer_spki, spki, ledger, issued_at, delivered, state, revoked_at, reason, \
     on_crl_at, id, renews, generation, (SELECT n.thumbprint FROM certificate n \
     WHERE n.tenant = certificate.tenant AND n.renews = certificate.thumbprint \
     ORDER BY n.id LIMIT 1)";

impl Certificate {
    fn row(row: &Row, now: Timestamp) -> Result<Self, StoreError> {
        let not_after: i64 = row.get(5)?;
        let state: String = row.get(15)?;
        Ok(Self {
            thumbprint: row.get(0)?,
            issuer: row.get(1)?,
            issuer_sha256: row.get(2)?,
            serial: row.get(3)?,
            not_before: at(row.get(4)?),
            not_after: at(not_after),
            device: row.get(6)?,
            user: row.get(7)?,
            profile: row.get(8)?,
            challenge: row.get(9)?,
            signer_spki_sha256: row.get(10)?,
            spki_sha256: row.get(11)?,
            ledger: row.get(12)?,
            issued_at: at(row.get(13)?),
            delivered: row.get(14)?,
            state: CertificateState::stored(&state, not_after, now),
            revoked_at: row.get::<Option<i64>>(16)?.map(at),
            reason: row.get(17)?,
            on_crl_at: row.get::<Option<i64>>(18)?.map(at),
            renews: row.get(20)?,
            generation: u32::try_from(row.get::<i64>(21)?).unwrap_or(u32::MAX),
            renewed_by: row.get(22)?,
        })
    }
}

/// Which certificates are wanted.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CertificateFilter {
    /// The `next` of the page before.
    #[param(max_length = 128, required = false, nullable = false)]
    after: Option<String>,
    /// How many items at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50, nullable = false)]
    limit: Option<String>,
    /// Those of this device.
    #[param(required = false, nullable = false, pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    device: Option<String>,
    /// Those of this profile.
    #[param(required = false, nullable = false, pattern = "^[A-Za-z0-9._:@-]{1,64}$")]
    profile: Option<String>,
    /// Those that stand so.
    #[param(inline, required = false, nullable = false)]
    state: Option<CertificateState>,
    /// Those that end before this instant, as 2027-01-01T00:00:00Z.
    #[param(required = false, nullable = false, format = DateTime)]
    expires_before: Option<String>,
}

/// A cursor that is a number.
pub(crate) fn cursor(after: Option<&str>) -> Result<i64, Problem> {
    after.map_or(Some(0), number).ok_or_else(|| Problem::field("after", "no cursor"))
}

/// An instant in a query.
fn instant(field: &str, text: Option<&str>) -> Result<Option<i64>, Problem> {
    let parse =
        |text: &str| text.parse::<Timestamp>().map_err(|error| Problem::field(field, error));
    Ok(text.map(parse).transpose()?.map(Timestamp::seconds))
}

/// The certificates that gateways have reported, in the order of their reports.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/certificates", tag = "certificates",
    operation_id = "list_certificates", params(CertificateFilter),
    responses((status = 200, body = List<Certificate>)))]
pub(crate) async fn list(
    State(service): State<Service>,
    caller: Authorised<Read>,
    Query(filter): Query<CertificateFilter>,
) -> Result<Json<List<Certificate>>, Problem> {
    let (after, size) = (cursor(filter.after.as_deref())?, limit(filter.limit.as_deref())?);
    let device = filter.device.map(|text| id("device", text, DeviceId::new)).transpose()?;
    let profile = filter.profile.map(|text| id("profile", text, ProfileId::new)).transpose()?;
    let before = instant("expires_before", filter.expires_before.as_deref())?;
    let state = filter.state.map_or("?5 = ?5", CertificateState::condition);
    let now = service.clock.now();
    let items = service
        .store
        .read(move |tx| {
            let sql = format!(
                "SELECT {COLUMNS} FROM certificate WHERE tenant = ?1 AND id > ?2 \
                 AND (?3 IS NULL OR device = ?3) AND (?4 IS NULL OR profile = ?4) AND {state} \
                 AND (?6 IS NULL OR not_after < ?6) ORDER BY id LIMIT ?7"
            );
            let values = values![
                caller.tenant.as_str(),
                after,
                device.as_ref().map(DeviceId::as_str),
                profile.as_ref().map(ProfileId::as_str),
                now.seconds(),
                before,
                rows(size),
            ];
            tx.query(&sql, values, |row| {
                Ok::<_, StoreError>((Certificate::row(row, now)?, row.get::<i64>(19)?))
            })
        })
        .await?;
    let List { items, next } = List::cut(items, size, |(_, id)| id.to_string());
    Ok(Json(List { items: items.into_iter().map(|(item, _)| item).collect(), next }))
}

/// One certificate, by its thumbprint.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/certificates/{id}", tag = "certificates",
    operation_id = "read_certificate", responses((status = 200, body = Certificate)))]
pub(crate) async fn read(
    State(service): State<Service>,
    caller: Authorised<Read>,
    id: Id,
) -> Result<Json<Certificate>, Problem> {
    let none = || Problem::not_found("certificate");
    let thumbprint = CertificateFingerprint::from_hex(&id.0).ok_or_else(none)?.to_string();
    let now = service.clock.now();
    service
        .store
        .read(move |tx| {
            let sql =
                format!("SELECT {COLUMNS} FROM certificate WHERE tenant = ?1 AND thumbprint = ?2");
            let found = tx.one(&sql, values![caller.tenant.as_str(), &thumbprint], |row| {
                Certificate::row(row, now)
            })?;
            found.map(Json).ok_or_else(none)
        })
        .await
}

// Events.

/// Something that a gateway has reported.
#[derive(Serialize, ToSchema)]
pub(crate) struct Event {
    id: String,
    ledger: String,
    /// Its number in its ledger.
    sequence: i64,
    idempotency_key: String,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    device: Option<String>,
    /// When it happened.
    #[schema(format = DateTime)]
    at: String,
    /// When it came here.
    #[schema(format = DateTime)]
    received_at: String,
    /// Whatever the gateway says of it.
    #[schema(value_type = Object)]
    facts: serde_json::Value,
}

impl Event {
    fn row(row: &Row) -> Result<Self, StoreError> {
        let body: String = row.get(8)?;
        Ok(Self {
            id: row.get::<i64>(0)?.to_string(),
            ledger: row.get(1)?,
            sequence: row.get(2)?,
            idempotency_key: row.get(3)?,
            kind: row.get(4)?,
            device: row.get(5)?,
            at: at(row.get(6)?),
            received_at: at(row.get(7)?),
            facts: serde_json::from_str(&body).map_err(|_| StoreError::Column { column: 8 })?,
        })
    }
}

/// Which events are wanted.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventFilter {
    /// The `next` of the page before.
    #[param(max_length = 128, required = false, nullable = false)]
    after: Option<String>,
    /// How many items at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50, nullable = false)]
    limit: Option<String>,
    /// Those about this device.
    #[param(required = false, nullable = false, pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    device: Option<String>,
    /// Those of this kind.
    #[param(required = false, nullable = false, pattern = "^[a-z-]{1,32}$")]
    kind: Option<String>,
}

/// The events that gateways have reported; those of one ledger, and so those of one device, in their order.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/events", tag = "certificates",
    operation_id = "list_events", params(EventFilter),
    responses((status = 200, body = List<Event>)))]
pub(crate) async fn list_events(
    State(service): State<Service>,
    caller: Authorised<Read>,
    Query(filter): Query<EventFilter>,
) -> Result<Json<List<Event>>, Problem> {
    let (after, size) = (cursor(filter.after.as_deref())?, limit(filter.limit.as_deref())?);
    let device = filter.device.map(|text| id("device", text, DeviceId::new)).transpose()?;
    let kind = filter.kind.map(|text| id("kind", text, scep_link::EventKind::new)).transpose()?;
    let items = service
        .store
        .read(move |tx| {
            tx.query(
                "SELECT id, ledger, sequence, idempotency_key, kind, device, happened_at, \
                 received_at, body FROM event WHERE tenant = ?1 AND id > ?2 \
                 AND (?3 IS NULL OR device = ?3) AND (?4 IS NULL OR kind = ?4) ORDER BY id LIMIT ?5",
                values![
                    caller.tenant.as_str(),
                    after,
                    device.as_ref().map(DeviceId::as_str),
                    kind.as_ref().map(scep_link::EventKind::as_str),
                    rows(size),
                ],
                Event::row,
            )
        })
        .await?;
    Ok(Json(List::cut(items, size, |event| event.id.clone())))
}

// Ledgers.

/// A ledger that has reported.
#[derive(Serialize, ToSchema)]
pub(crate) struct Ledger {
    id: String,
    group: String,
    /// The last event up to which all are here.
    acknowledged: i64,
    /// When it last sent a batch.
    #[schema(format = DateTime)]
    heard_at: String,
    /// How many events of each kind have come; `delivered` are those of `delivery` whose reply got out.
    counts: BTreeMap<String, i64>,
}

impl Ledger {
    fn row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get(0)?,
            group: row.get(1)?,
            acknowledged: row.get(2)?,
            heard_at: at(row.get(3)?),
            counts: BTreeMap::new(),
        })
    }

    fn with_counts(mut self, tx: &Tx<'_>) -> Result<Self, StoreError> {
        self.counts = counts(tx, &self.id)?;
        Ok(self)
    }
}

/// How many events of each kind a ledger has told.
pub(crate) fn counts(tx: &Tx<'_>, ledger: &str) -> Result<BTreeMap<String, i64>, StoreError> {
    let counts: Vec<(String, i64)> = tx.query(
        "SELECT kind, events FROM event_count WHERE ledger = ?1",
        values![ledger],
        |row| Ok::<_, StoreError>((row.get(0)?, row.get(1)?)),
    )?;
    Ok(counts.into_iter().collect())
}

const LEDGER: &str = "SELECT ledger, gateway_group, acknowledged, heard_at FROM ledger_report";

/// The ledgers that have reported, and their counts.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/ledgers", tag = "certificates",
    operation_id = "list_ledgers", params(Paging), responses((status = 200, body = List<Ledger>)))]
pub(crate) async fn list_ledgers(
    State(service): State<Service>,
    caller: Authorised<Read>,
    page: Page,
) -> Result<Json<List<Ledger>>, Problem> {
    let after = match page.after.as_deref() {
        None => String::new(),
        Some(text) => LedgerId::from_hex(text)
            .ok_or_else(|| Problem::field("after", "no cursor"))?
            .to_string(),
    };
    let items: Vec<Ledger> = service
        .store
        .read(move |tx| {
            let sql =
                format!("{LEDGER} WHERE tenant = ?1 AND ledger > ?2 ORDER BY ledger LIMIT ?3");
            let values = values![caller.tenant.as_str(), &after, rows(page.limit)];
            let ledgers: Vec<Ledger> = tx.query(&sql, values, Ledger::row)?;
            ledgers
                .into_iter()
                .map(|ledger| ledger.with_counts(tx))
                .collect::<Result<_, StoreError>>()
        })
        .await?;
    Ok(Json(List::cut(items, page.limit, |ledger| ledger.id.clone())))
}

/// Up to where events are given up.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Gap {
    /// The last event that will never come: the alarm `events-missing` says with which one the ledger goes on.
    #[schema(minimum = 1, maximum = 9007199254740991i64)]
    through: i64,
}

/// Goes on without events that a ledger has forgotten, because this issuer had acknowledged them before its database was
/// restored from a backup. What they said of certificates is missing from then on.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/ledgers/{id}/accept-gap", tag = "certificates",
    operation_id = "accept_gap", request_body = Gap, responses((status = 200, body = Ledger)))]
pub(crate) async fn accept_gap(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    id: Id,
    body: Body<Gap>,
) -> Result<Json<Ledger>, Problem> {
    let through = body.value.through;
    if !(1..=MAX_SEQUENCE).contains(&through) {
        return Err(Problem::field("through", "no number of an event"));
    }
    service
        .store
        .write(move |tx| {
            let before = one_ledger(tx, &caller.tenant, &id.0)?.acknowledged;
            tx.execute(
                "UPDATE ledger_report SET acknowledged = ?2 WHERE ledger = ?1 AND acknowledged < ?2",
                values![&id.0, through],
            )?;
            tracing::warn!(ledger = id.0, before, through, "events were given up");
            one_ledger(tx, &caller.tenant, &id.0).map(Json)
        })
        .await
}

fn one_ledger(tx: &Tx<'_>, tenant: &TenantId, id: &str) -> Result<Ledger, Problem> {
    let sql = format!("{LEDGER} WHERE tenant = ?1 AND ledger = ?2");
    let found = tx.one(&sql, values![tenant.as_str(), id], Ledger::row)?;
    Ok(found.ok_or_else(|| Problem::not_found("ledger"))?.with_counts(tx)?)
}

/// One ledger, and its counts.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/ledgers/{id}", tag = "certificates",
    operation_id = "read_ledger", responses((status = 200, body = Ledger)))]
pub(crate) async fn read_ledger(
    State(service): State<Service>,
    caller: Authorised<Read>,
    id: Id,
) -> Result<Json<Ledger>, Problem> {
    service.store.read(move |tx| one_ledger(tx, &caller.tenant, &id.0).map(Json)).await
}
