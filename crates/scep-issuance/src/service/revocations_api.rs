//! The routes about revocations: what is to be revoked, how far each is, and what the brake holds.

use crate::service::Service;
use crate::service::alarms::at;
use crate::service::certificates::cursor;
use crate::service::db::{Row, Tx, values};
use crate::service::document::BASE;
use crate::service::objects::{List, id, rows};
use crate::service::once::{Done, Once};
use crate::service::orders::{self, Decision, Ordered, Which};
use crate::service::problem::{Kind, Problem};
use crate::service::request::{Admin, Authorised, Body, Id, Query, Read, limit};
use crate::service::store::StoreError;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use scep_link::RevocationReason;
use scep_types::{CertificateFingerprint, DeviceId, NameHash, ProfileId, SerialNumber, TenantId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Characters of an operator's note.
const MAX_NOTE: usize = 200;
/// Orders that an answer names.
const NAMED: usize = 200;

/// How far an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OrderState {
    /// The brake holds it until an operator decides.
    Held,
    /// No gateway has it yet.
    Queued,
    /// A gateway has it durably.
    Sent,
    /// The CA refuses; it is asked again.
    Failed,
    /// The CA has revoked the certificate.
    Revoked,
    /// A CRL shows it.
    OnCrl,
    /// An operator has declined, here or at the gateway.
    Declined,
    /// No gateway of the tenant knows the certificate.
    NotFound,
}

impl OrderState {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Held, "held"),
        (Self::Queued, "queued"),
        (Self::Sent, "sent"),
        (Self::Failed, "failed"),
        (Self::Revoked, "revoked"),
        (Self::OnCrl, "on-crl"),
        (Self::Declined, "declined"),
        (Self::NotFound, "not-found"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("", |(_, name)| *name)
    }

    fn stored(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(state, _)| *state)
    }
}

/// An order to revoke a certificate.
#[derive(Serialize, ToSchema)]
pub(crate) struct Revocation {
    id: String,
    issuer_sha256: String,
    serial: String,
    /// Absent while the certificate was not reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    thumbprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    profile: Option<String>,
    /// The ledger whose gateways are to do it; absent while every ledger of the tenant is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    ledger: Option<String>,
    reason: String,
    /// `operator`, `wipe`, `unenrol`, `disable` or `profile-change`.
    cause: String,
    state: OrderState,
    /// Why the CA last refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    failure: Option<String>,
    /// Of the operator who has decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    note: Option<String>,
    #[schema(format = DateTime)]
    ordered_at: String,
    /// Since when it is in its state.
    #[schema(format = DateTime)]
    changed_at: String,
    /// What each ledger has said about it.
    results: Vec<LedgerResult>,
}

/// What the gateways of a ledger say about an order.
#[derive(Serialize, ToSchema)]
pub(crate) struct LedgerResult {
    ledger: String,
    /// `queued`, `awaiting-operator` (of the gateway), `revoked`, `published`, `not-issued-here` or `declined`.
    state: String,
    #[schema(format = DateTime)]
    at: String,
}

const COLUMNS: &str = "id, issuer_hash, serial, thumbprint, device, profile, ledger, reason, cause, \
     state, failure, note, ordered_at, changed_at, seq";

impl Revocation {
    fn row(row: &Row) -> Result<Self, StoreError> {
        let state: String = row.get(9)?;
        Ok(Self {
            id: row.get(0)?,
            issuer_sha256: row.get(1)?,
            serial: row.get(2)?,
            thumbprint: row.get(3)?,
            device: row.get(4)?,
            profile: row.get(5)?,
            ledger: row.get(6)?,
            reason: row.get(7)?,
            cause: row.get(8)?,
            state: OrderState::stored(&state).ok_or(StoreError::Column { column: 9 })?,
            failure: row.get(10)?,
            note: row.get(11)?,
            ordered_at: at(row.get(12)?),
            changed_at: at(row.get(13)?),
            results: Vec::new(),
        })
    }

    fn with_results(mut self, tx: &Tx<'_>) -> Result<Self, StoreError> {
        self.results = tx.query(
            "SELECT ledger, state, at FROM revocation_result WHERE revocation = ?1 ORDER BY ledger",
            values![&self.id],
            |row| {
                Ok::<_, StoreError>(LedgerResult {
                    ledger: row.get(0)?,
                    state: row.get(1)?,
                    at: at(row.get(2)?),
                })
            },
        )?;
        Ok(self)
    }
}

/// Which orders are wanted.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RevocationFilter {
    /// The `next` of the page before.
    #[param(max_length = 128, required = false, nullable = false)]
    after: Option<String>,
    /// How many items at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50, nullable = false)]
    limit: Option<String>,
    /// Those in this state.
    #[param(inline, required = false, nullable = false)]
    state: Option<OrderState>,
    /// Those for certificates of this device.
    #[param(required = false, nullable = false, pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    device: Option<String>,
}

/// The orders to revoke.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/revocations", tag = "revocations",
    operation_id = "list_revocations", params(RevocationFilter),
    responses((status = 200, body = List<Revocation>)))]
pub(crate) async fn list(
    State(service): State<Service>,
    caller: Authorised<Read>,
    Query(filter): Query<RevocationFilter>,
) -> Result<Json<List<Revocation>>, Problem> {
    let (after, size) = (cursor(filter.after.as_deref())?, limit(filter.limit.as_deref())?);
    let device = filter.device.map(|text| id("device", text, DeviceId::new)).transpose()?;
    let items: Vec<(Revocation, i64)> = service
        .store
        .read(move |tx| {
            let sql = format!(
                "SELECT {COLUMNS} FROM revocation WHERE tenant = ?1 AND seq > ?2 \
                 AND (?3 IS NULL OR state = ?3) AND (?4 IS NULL OR device = ?4) \
                 ORDER BY seq LIMIT ?5"
            );
            let values = values![
                caller.tenant.as_str(),
                after,
                filter.state.map(OrderState::name),
                device.as_ref().map(DeviceId::as_str),
                rows(size),
            ];
            let found: Vec<(Revocation, i64)> = tx.query(&sql, values, |row| {
                Ok::<_, StoreError>((Revocation::row(row)?, row.get(14)?))
            })?;
            let full = |(order, seq): (Revocation, i64)| Ok((order.with_results(tx)?, seq));
            found.into_iter().map(full).collect::<Result<_, StoreError>>()
        })
        .await?;
    let List { items, next } = List::cut(items, size, |(_, seq)| seq.to_string());
    Ok(Json(List { items: items.into_iter().map(|(item, _)| item).collect(), next }))
}

fn one(tx: &Tx<'_>, tenant: &TenantId, id: &str) -> Result<Revocation, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM revocation WHERE tenant = ?1 AND id = ?2");
    let found = tx.one(&sql, values![tenant.as_str(), id], Revocation::row)?;
    Ok(found.ok_or_else(|| Problem::not_found("revocation"))?.with_results(tx)?)
}

/// One order.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/revocations/{id}", tag = "revocations",
    operation_id = "read_revocation", responses((status = 200, body = Revocation)))]
pub(crate) async fn read(
    State(service): State<Service>,
    caller: Authorised<Read>,
    id: Id,
) -> Result<Json<Revocation>, Problem> {
    service.store.read(move |tx| one(tx, &caller.tenant, &id.0).map(Json)).await
}

/// What is to be revoked: exactly one of a certificate by its thumbprint; a certificate by its issuer and serial number,
/// reported or not; every live certificate of a device, of a profile, or of both together.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRevocation {
    #[schema(pattern = "^[0-9a-f]{64}$")]
    thumbprint: Option<String>,
    /// SHA-256 over the issuer's DER Name; with `serial`.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    issuer_sha256: Option<String>,
    /// Hexadecimal; with `issuer_sha256`.
    #[schema(pattern = "^[0-9A-F]{2,40}$")]
    serial: Option<String>,
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    device: Option<String>,
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,64}$")]
    profile: Option<String>,
    /// A reason of RFC 5280, 5.3.1, by its name there. A revocation is final: certificateHold is none.
    #[serde(default)]
    reason: Reason,
}

/// CRLReason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
pub(crate) enum Reason {
    #[default]
    #[serde(rename = "unspecified")]
    Unspecified,
    #[serde(rename = "keyCompromise")]
    KeyCompromise,
    #[serde(rename = "cACompromise")]
    CaCompromise,
    #[serde(rename = "affiliationChanged")]
    AffiliationChanged,
    #[serde(rename = "superseded")]
    Superseded,
    #[serde(rename = "cessationOfOperation")]
    CessationOfOperation,
    #[serde(rename = "privilegeWithdrawn")]
    PrivilegeWithdrawn,
    #[serde(rename = "aACompromise")]
    AaCompromise,
}

impl From<Reason> for RevocationReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Unspecified => Self::Unspecified,
            Reason::KeyCompromise => Self::KeyCompromise,
            Reason::CaCompromise => Self::CaCompromise,
            Reason::AffiliationChanged => Self::AffiliationChanged,
            Reason::Superseded => Self::Superseded,
            Reason::CessationOfOperation => Self::CessationOfOperation,
            Reason::PrivilegeWithdrawn => Self::PrivilegeWithdrawn,
            Reason::AaCompromise => Self::AaCompromise,
        }
    }
}

/// What was ordered.
#[derive(Serialize, ToSchema)]
pub(crate) struct OrderedView {
    /// How many orders are new.
    ordered: usize,
    /// How many of the certificates were ordered before.
    already: u64,
    /// Whether the new ones wait for an operator.
    held: bool,
    /// The new orders, the first 200.
    revocations: Vec<String>,
}

/// What is wanted, checked.
enum Wanted {
    Thumbprint(CertificateFingerprint),
    Name(NameHash, SerialNumber),
    Device(DeviceId),
    Profile(ProfileId),
    DeviceProfile(DeviceId, ProfileId),
}

impl Wanted {
    fn new(body: NewRevocation) -> Result<(Self, RevocationReason), Problem> {
        let hex = |field, text: &str| {
            Problem::field(field, format!("{} characters, not hexadecimal", text.len()))
        };
        let reason = body.reason.into();
        let device = body.device.map(|text| id("device", text, DeviceId::new)).transpose()?;
        let profile = body.profile.map(|text| id("profile", text, ProfileId::new)).transpose()?;
        let wanted = match (body.thumbprint, body.issuer_sha256, body.serial, device, profile) {
            (Some(text), None, None, None, None) => {
                let thumbprint = CertificateFingerprint::from_hex(&text);
                Self::Thumbprint(thumbprint.ok_or_else(|| hex("thumbprint", &text))?)
            }
            (None, Some(issuer), Some(serial), None, None) => Self::Name(
                NameHash::from_hex(&issuer).ok_or_else(|| hex("issuer_sha256", &issuer))?,
                orders::serial(&serial).ok_or_else(|| {
                    Problem::field("serial", "no positive number of at most 20 octets, hexadecimal")
                })?,
            ),
            (None, None, None, Some(device), None) => Self::Device(device),
            (None, None, None, None, Some(profile)) => Self::Profile(profile),
            (None, None, None, Some(device), Some(profile)) => Self::DeviceProfile(device, profile),
            _ => {
                let why = "exactly one of thumbprint, issuer_sha256 with serial, and device or \
                           profile or both";
                return Err(Problem::field("thumbprint", why));
            }
        };
        Ok((wanted, reason))
    }

    fn which(&self) -> Which<'_> {
        match self {
            Self::Thumbprint(thumbprint) => Which::Thumbprint(*thumbprint),
            Self::Name(issuer, serial) => Which::Name(*issuer, serial),
            Self::Device(device) => Which::Device(device),
            Self::Profile(profile) => Which::Profile(profile),
            Self::DeviceProfile(device, profile) => Which::DeviceProfile(device, profile),
        }
    }
}

/// Orders revocations. Certificates that are ordered already stay as they are.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/revocations", tag = "revocations",
    operation_id = "create_revocations", request_body = NewRevocation,
    responses((status = 201, body = OrderedView)))]
pub(crate) async fn create(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    once: Once,
    body: Body<NewRevocation>,
) -> Result<Response, Problem> {
    let (wanted, reason) = Wanted::new(body.value)?;
    let (tenant, now, brake) = (caller.tenant.clone(), service.clock.now(), service.upkeep.brake);
    service
        .once(&caller, once, body.request, move |tx| {
            let Ordered { mut orders, already, held } =
                orders::place(tx, brake, &tenant, &wanted.which(), reason, "operator", now)?;
            if orders.is_empty() && already == 0 {
                return Err(Problem::new(Kind::UnknownCertificate, "none was found"));
            }
            let base = format!("{BASE}/tenants/{tenant}/revocations");
            let location = match orders.as_slice() {
                [only] => format!("{base}/{only}"),
                _ => base,
            };
            let ordered = orders.len();
            orders.truncate(NAMED);
            Done::created(location, &OrderedView { ordered, already, held, revocations: orders })
        })
        .await
}

/// What an operator says about a decision.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Note {
    /// Who decides and why; kept with the orders.
    #[schema(max_length = 200)]
    note: Option<String>,
}

/// How many orders a decision was about.
#[derive(Serialize, ToSchema)]
pub(crate) struct Decided {
    decided: u64,
}

fn note(note: Option<String>) -> Result<Option<String>, Problem> {
    let good =
        |text: &String| text.chars().count() <= MAX_NOTE && !text.chars().any(char::is_control);
    match note {
        Some(text) if !good(&text) => Err(Problem::field(
            "note",
            format!("more than {MAX_NOTE} characters, or control characters"),
        )),
        note => Ok(note),
    }
}

async fn decide_one(
    service: Service,
    caller: Authorised<Admin>,
    id: Id,
    body: Body<Note>,
    decision: Decision,
) -> Result<Json<Revocation>, Problem> {
    let (note, now) = (note(body.value.note)?, service.clock.now());
    service
        .store
        .write(move |tx| {
            let note = note.as_deref();
            one(tx, &caller.tenant, &id.0)?;
            let decided = orders::decide(tx, &caller.tenant, Some(&id.0), decision, note, now)?;
            if decided == 0 {
                return Err(Problem::new(Kind::NotHeld, "it is in another state"));
            }
            one(tx, &caller.tenant, &id.0).map(Json)
        })
        .await
}

async fn decide_all(
    service: Service,
    caller: Authorised<Admin>,
    body: Body<Note>,
    decision: Decision,
) -> Result<Json<Decided>, Problem> {
    let (note, now) = (note(body.value.note)?, service.clock.now());
    let decided = service
        .store
        .write(move |tx| orders::decide(tx, &caller.tenant, None, decision, note.as_deref(), now))
        .await?;
    Ok(Json(Decided { decided }))
}

/// Lets one held revocation go. The brake holds the others, and new ones.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/revocations/{id}/confirm", tag = "revocations",
    operation_id = "confirm_revocation", request_body = Note,
    responses((status = 200, body = Revocation)))]
pub(crate) async fn confirm(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    id: Id,
    body: Body<Note>,
) -> Result<Json<Revocation>, Problem> {
    decide_one(service, caller, id, body, Decision::Confirm).await
}

/// Gives one held revocation up.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/revocations/{id}/decline", tag = "revocations",
    operation_id = "decline_revocation", request_body = Note,
    responses((status = 200, body = Revocation)))]
pub(crate) async fn decline(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    id: Id,
    body: Body<Note>,
) -> Result<Json<Revocation>, Problem> {
    decide_one(service, caller, id, body, Decision::Decline).await
}

/// Lets every held revocation go, and releases the brake, which counts from nothing then.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/revocations/confirm", tag = "revocations",
    operation_id = "confirm_revocations", request_body = Note,
    responses((status = 200, body = Decided)))]
pub(crate) async fn confirm_all(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    body: Body<Note>,
) -> Result<Json<Decided>, Problem> {
    decide_all(service, caller, body, Decision::Confirm).await
}

/// Gives every held revocation up, and releases the brake, which counts from nothing then.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/revocations/decline", tag = "revocations",
    operation_id = "decline_revocations", request_body = Note,
    responses((status = 200, body = Decided)))]
pub(crate) async fn decline_all(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    body: Body<Note>,
) -> Result<Json<Decided>, Problem> {
    decide_all(service, caller, body, Decision::Decline).await
}
