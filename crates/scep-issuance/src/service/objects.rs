//! Tenants, profiles, users and devices.

use crate::profile::{CertificateFor, Profile, RevokeOn};
use crate::service::Service;
use crate::service::db::{Row, Tx, values};
use crate::service::denials;
use crate::service::document::BASE;
use crate::service::once::{Done, Once};
use crate::service::orders::{self, Which};
use crate::service::problem::{Kind, Problem};
use crate::service::request::{Admin, Authorised, Body, Id, Page, Paging, Read};
use crate::service::store::StoreError;
use crate::variable::{About, Attributes, Variable};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use core::time::Duration;
use scep_link::DenialSubject;
use scep_types::{DeviceId, IdError, ProfileId, TenantId, UserId, format_duration};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// For how long gateways refuse a device that is gone: longer than any challenge for it, and the day of retries after
/// one was used, can last.
const DENIED_AFTERWARDS: Duration = Duration::from_secs(7 * 86_400);

/// One page.
#[derive(Serialize, ToSchema)]
pub(crate) struct List<T> {
    pub(crate) items: Vec<T>,
    /// Where the next page begins; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) next: Option<String>,
}

impl<T> List<T> {
    /// Of up to one more item than the page holds.
    pub(crate) fn cut(mut items: Vec<T>, limit: usize, key: impl Fn(&T) -> String) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(key);
        Self { items, next }
    }
}

/// How many rows to ask for, to see whether there is a further page.
pub(crate) fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}

/// A page of a table whose key is text.
async fn list<T: Send + 'static>(
    service: &Service,
    tenant: &TenantId,
    page: Page,
    check: fn(String) -> Result<(), IdError>,
    sql: &'static str,
    item: fn(&Row) -> Result<T, StoreError>,
    key: fn(&T) -> String,
) -> Result<Json<List<T>>, Problem> {
    if let Some(after) = &page.after {
        check(after.clone()).map_err(|error| Problem::field("after", error))?;
    }
    let (tenant, after) = (tenant.clone(), page.after.unwrap_or_default());
    let items: Vec<T> = service
        .store
        .read(move |tx| tx.query(sql, values![tenant.as_str(), &after, rows(page.limit)], item))
        .await?;
    Ok(Json(List::cut(items, page.limit, key)))
}

async fn one<T: Send + 'static>(
    service: &Service,
    tenant: &TenantId,
    id: Id,
    what: &'static str,
    sql: &'static str,
    item: fn(&Row) -> Result<T, StoreError>,
) -> Result<T, Problem> {
    let tenant = tenant.clone();
    service
        .store
        .read(move |tx| {
            let found = tx.one(sql, values![tenant.as_str(), &id.0], item)?;
            found.ok_or_else(|| Problem::not_found(what))
        })
        .await
}

async fn delete(
    service: &Service,
    tenant: &TenantId,
    id: Id,
    what: &'static str,
    sql: &'static str,
) -> Result<StatusCode, Problem> {
    let tenant = tenant.clone();
    service
        .store
        .write(move |tx| {
            let gone = tx
                .execute(sql, values![tenant.as_str(), &id.0])
                .map_err(|error| constraint(error, what))?;
            match gone {
                0 => Err(Problem::not_found(what)),
                _ => Ok(StatusCode::NO_CONTENT),
            }
        })
        .await
}

/// That a change met a row.
pub(crate) fn changed(rows: usize, what: &str) -> Result<(), Problem> {
    if rows == 0 { Err(Problem::not_found(what)) } else { Ok(()) }
}

/// A constraint that did not hold is the caller's conflict; anything else is ours.
pub(crate) fn constraint(error: StoreError, what: &str) -> Problem {
    match error {
        StoreError::Duplicate => Problem::new(Kind::Exists, format!("the {what} is there already")),
        StoreError::Reference => Problem::new(Kind::InUse, format!("the {what} has assignments")),
        error => error.into(),
    }
}

pub(crate) fn id<T>(
    field: &str,
    text: String,
    new: impl FnOnce(String) -> Result<T, IdError>,
) -> Result<T, Problem> {
    new(text).map_err(|error| Problem::field(field, error))
}

fn place(tenant: &TenantId, kind: &str, id: &str) -> String {
    format!("{BASE}/tenants/{tenant}/{kind}/{id}")
}

// Tenants.

/// A customer of the issuer.
#[derive(Serialize, ToSchema)]
pub(crate) struct Tenant {
    id: String,
}

/// The tenant of the token.
#[utoipa::path(get, path = "/api/v1/tenants", tag = "tenants", params(Paging),
    responses((status = 200, body = List<Tenant>)))]
pub(crate) async fn list_tenants(
    caller: Authorised<Read>,
    page: Page,
) -> Result<Json<List<Tenant>>, Problem> {
    let id = caller.tenant.as_str();
    let beyond = page.after.is_some_and(|after| after.as_str() >= id);
    let items = if beyond { Vec::new() } else { vec![Tenant { id: id.to_owned() }] };
    Ok(Json(List { items, next: None }))
}

/// One tenant.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}", tag = "tenants",
    responses((status = 200, body = Tenant)))]
pub(crate) async fn read_tenant(caller: Authorised<Read>) -> Json<Tenant> {
    Json(Tenant { id: caller.tenant.as_str().to_owned() })
}

// Profiles.

/// A certificate profile, and what is questionable about it.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProfileView {
    id: String,
    /// As written.
    toml: String,
    /// Whom its certificates are for; absent, as everything below, when the stored text is none for this release.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    certificate_for: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    validity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    challenge_lifetime: Option<String>,
    /// The variables that need a value.
    variables: Vec<&'static str>,
    scep_urls: Vec<String>,
    warnings: Vec<String>,
}

impl ProfileView {
    fn new(toml: String, profile: &Profile) -> Self {
        Self {
            id: profile.id().as_str().to_owned(),
            toml,
            certificate_for: Some(match profile.certificate_for() {
                CertificateFor::Device => "device",
                CertificateFor::User => "user",
            }),
            validity: Some(format_duration(profile.validity())),
            challenge_lifetime: Some(format_duration(profile.challenge_lifetime())),
            variables: profile.variables().into_iter().map(Variable::name).collect(),
            scep_urls: profile.scep_urls().to_vec(),
            warnings: profile.lint().iter().map(ToString::to_string).collect(),
        }
    }

    fn row(row: &Row) -> Result<Self, StoreError> {
        let (id, toml): (String, String) = (row.get(0)?, row.get(1)?);
        Ok(match Profile::from_toml(&toml) {
            Ok(profile) => Self::new(toml, &profile),
            Err(error) => Self {
                id,
                toml,
                certificate_for: None,
                validity: None,
                challenge_lifetime: None,
                variables: Vec::new(),
                scep_urls: Vec::new(),
                warnings: vec![error.to_string()],
            },
        })
    }
}

/// A profile to be checked.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProfileText {
    /// The profile's file; `profile.example.toml` explains every key.
    toml: String,
}

/// The profiles.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/profiles", tag = "profiles", params(Paging),
    responses((status = 200, body = List<ProfileView>)))]
pub(crate) async fn list_profiles(
    State(service): State<Service>,
    caller: Authorised<Read>,
    page: Page,
) -> Result<Json<List<ProfileView>>, Problem> {
    list(
        &service,
        &caller.tenant,
        page,
        |text| ProfileId::new(text).map(drop),
        "SELECT id, toml FROM profile WHERE tenant = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
        ProfileView::row,
        |profile| profile.id.clone(),
    )
    .await
}

/// Checks a profile and takes it up. Warnings do not refuse it.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/profiles", tag = "profiles",
    request_body = ProfileText, responses((status = 201, body = ProfileView)))]
pub(crate) async fn create_profile(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    once: Once,
    body: Body<ProfileText>,
) -> Result<Response, Problem> {
    let toml = body.value.toml;
    let profile = Profile::from_toml(&toml).map_err(|error| Problem::field("toml", error))?;
    let tenant = caller.tenant.clone();
    service
        .once(&caller, once, body.request, move |tx| {
            let sql = "INSERT INTO profile (tenant, id, toml) VALUES (?1, ?2, ?3)";
            tx.execute(sql, values![tenant.as_str(), profile.id().as_str(), &toml])
                .map_err(|error| constraint(error, "profile"))?;
            let location = place(&tenant, "profiles", profile.id().as_str());
            Done::created(location, &ProfileView::new(toml, &profile))
        })
        .await
}

/// One profile.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/profiles/{id}", tag = "profiles",
    responses((status = 200, body = ProfileView)))]
pub(crate) async fn read_profile(
    State(service): State<Service>,
    caller: Authorised<Read>,
    id: Id,
) -> Result<Json<ProfileView>, Problem> {
    let sql = "SELECT id, toml FROM profile WHERE tenant = ?1 AND id = ?2";
    one(&service, &caller.tenant, id, "profile", sql, ProfileView::row).await.map(Json)
}

/// Gives a profile another text. Its id stays.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/profiles/{id}", tag = "profiles",
    request_body = ProfileText, responses((status = 200, body = ProfileView)))]
pub(crate) async fn replace_profile(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    id: Id,
    body: Body<ProfileText>,
) -> Result<Json<ProfileView>, Problem> {
    let toml = body.value.toml;
    let profile = Profile::from_toml(&toml).map_err(|error| Problem::field("toml", error))?;
    if profile.id().as_str() != id.0 {
        return Err(Problem::field("toml", "its id is not the one in the path"));
    }
    let view = ProfileView::new(toml.clone(), &profile);
    let (now, brake) = (service.clock.now(), service.upkeep.brake);
    service
        .store
        .write(move |tx| {
            let before: Option<String> = tx.one(
                "SELECT toml FROM profile WHERE tenant = ?1 AND id = ?2",
                values![caller.tenant.as_str(), &id.0],
                |row| row.get(0),
            )?;
            let sql = "UPDATE profile SET toml = ?3 WHERE tenant = ?1 AND id = ?2";
            let rows = tx.execute(sql, values![caller.tenant.as_str(), &id.0, &toml])?;
            changed(rows, "profile")?;
            let before = before.and_then(|toml| Profile::from_toml(&toml).ok());
            let other = before.is_some_and(|before| !before.certificates_equal(&profile));
            if other && profile.revokes_on(RevokeOn::ProfileChange) {
                let (reason, cause) = orders::why(RevokeOn::ProfileChange);
                let which = Which::Profile(profile.id());
                orders::order(tx, brake, &caller.tenant, &which, reason, cause, now)?;
            }
            Ok::<_, Problem>(())
        })
        .await?;
    Ok(Json(view))
}

/// Removes a profile that is not assigned.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/profiles/{id}", tag = "profiles",
    responses((status = 204)))]
pub(crate) async fn delete_profile(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    id: Id,
) -> Result<StatusCode, Problem> {
    let sql = "DELETE FROM profile WHERE tenant = ?1 AND id = ?2";
    delete(&service, &caller.tenant, id, "profile", sql).await
}

// Attributes.

/// Values of variables, by name.
pub(crate) type Values = BTreeMap<String, String>;

/// The attributes, where each may be about `about` or either.
fn attributes(values: &Values, about: About) -> Result<Attributes, Problem> {
    let mut attributes = Attributes::new();
    for (name, value) in values {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        let field = format!("attributes.{shown}");
        let variable = Variable::from_name(name)
            .ok_or_else(|| Problem::field(&field, "no variable has this name"))?;
        if variable.about() != about && variable.about() != About::Either {
            return Err(Problem::field(&field, "the variable is not about this kind of object"));
        }
        attributes.insert(variable, value).map_err(|error| Problem::field(&field, error))?;
    }
    Ok(attributes)
}

fn attributes_json(attributes: &Attributes) -> Result<String, Problem> {
    let values: BTreeMap<&str, &str> =
        attributes.iter().map(|(variable, value)| (variable.name(), value)).collect();
    serde_json::to_string(&values).map_err(|error| Problem::new(Kind::Internal, error))
}

/// As stored, which was checked before.
pub(crate) fn stored_values(json: &str) -> Values {
    serde_json::from_str(json).unwrap_or_default()
}

// Users.

/// A user.
#[derive(Serialize, ToSchema)]
pub(crate) struct User {
    id: String,
    attributes: Values,
}

impl User {
    fn row(row: &Row) -> Result<Self, StoreError> {
        let attributes: String = row.get(1)?;
        Ok(Self { id: row.get(0)?, attributes: stored_values(&attributes) })
    }

    fn read(tx: &Tx<'_>, tenant: &TenantId, id: &str) -> Result<Self, Problem> {
        let sql = "SELECT id, attributes FROM person WHERE tenant = ?1 AND id = ?2";
        let found = tx.one(sql, values![tenant.as_str(), id], Self::row)?;
        found.ok_or_else(|| Problem::not_found("object"))
    }
}

/// A user to be taken up.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewUser {
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    id: String,
    /// What is known of the user, by the names of the variables of profiles.
    #[serde(default)]
    attributes: Values,
}

/// What may change about a user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserChange {
    attributes: Values,
}

/// The users.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/users", tag = "users", params(Paging),
    responses((status = 200, body = List<User>)))]
pub(crate) async fn list_users(
    State(service): State<Service>,
    caller: Authorised<Read>,
    page: Page,
) -> Result<Json<List<User>>, Problem> {
    list(
        &service,
        &caller.tenant,
        page,
        |text| UserId::new(text).map(drop),
        "SELECT id, attributes FROM person WHERE tenant = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
        User::row,
        |user| user.id.clone(),
    )
    .await
}

/// Takes up a user.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/users", tag = "users",
    request_body = NewUser, responses((status = 201, body = User)))]
pub(crate) async fn create_user(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    once: Once,
    body: Body<NewUser>,
) -> Result<Response, Problem> {
    let user = id("id", body.value.id, UserId::new)?;
    let json = attributes_json(&attributes(&body.value.attributes, About::User)?)?;
    let tenant = caller.tenant.clone();
    service
        .once(&caller, once, body.request, move |tx| {
            let sql = "INSERT INTO person (tenant, id, attributes) VALUES (?1, ?2, ?3)";
            tx.execute(sql, values![tenant.as_str(), user.as_str(), &json])
                .map_err(|error| constraint(error, "user"))?;
            let location = place(&tenant, "users", user.as_str());
            Done::created(location, &User::read(tx, &tenant, user.as_str())?)
        })
        .await
}

/// One user.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/users/{id}", tag = "users",
    responses((status = 200, body = User)))]
pub(crate) async fn read_user(
    State(service): State<Service>,
    caller: Authorised<Read>,
    id: Id,
) -> Result<Json<User>, Problem> {
    let sql = "SELECT id, attributes FROM person WHERE tenant = ?1 AND id = ?2";
    one(&service, &caller.tenant, id, "user", sql, User::row).await.map(Json)
}

/// Gives a user other attributes.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/users/{id}", tag = "users",
    request_body = UserChange, responses((status = 200, body = User)))]
pub(crate) async fn replace_user(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    id: Id,
    body: Body<UserChange>,
) -> Result<Json<User>, Problem> {
    let json = attributes_json(&attributes(&body.value.attributes, About::User)?)?;
    service
        .store
        .write(move |tx| {
            let sql = "UPDATE person SET attributes = ?3 WHERE tenant = ?1 AND id = ?2";
            let rows = tx.execute(sql, values![caller.tenant.as_str(), &id.0, &json])?;
            changed(rows, "user")?;
            User::read(tx, &caller.tenant, &id.0).map(Json)
        })
        .await
}

/// Removes a user and its assignments.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/users/{id}", tag = "users",
    responses((status = 204)))]
pub(crate) async fn delete_user(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    id: Id,
) -> Result<StatusCode, Problem> {
    let sql = "DELETE FROM person WHERE tenant = ?1 AND id = ?2";
    delete(&service, &caller.tenant, id, "user", sql).await
}

// Devices.

/// Whether a device may have certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DeviceState {
    /// It may.
    #[default]
    Enrolled,
    /// Not at present.
    Disabled,
    /// Its contents were erased.
    Wiped,
}

impl DeviceState {
    const fn name(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::Disabled => "disabled",
            Self::Wiped => "wiped",
        }
    }

    /// What the database does not know otherwise is the strictest.
    pub(crate) fn stored(text: &str) -> Self {
        match text {
            "enrolled" => Self::Enrolled,
            "disabled" => Self::Disabled,
            _ => Self::Wiped,
        }
    }
}

/// A device.
#[derive(Serialize, ToSchema)]
pub(crate) struct Device {
    id: String,
    state: DeviceState,
    attributes: Values,
}

impl Device {
    fn row(row: &Row) -> Result<Self, StoreError> {
        let (state, attributes): (String, String) = (row.get(1)?, row.get(2)?);
        Ok(Self {
            id: row.get(0)?,
            state: DeviceState::stored(&state),
            attributes: stored_values(&attributes),
        })
    }

    fn read(tx: &Tx<'_>, tenant: &TenantId, id: &str) -> Result<Self, Problem> {
        let sql = "SELECT id, state, attributes FROM device WHERE tenant = ?1 AND id = ?2";
        let found = tx.one(sql, values![tenant.as_str(), id], Self::row)?;
        found.ok_or_else(|| Problem::not_found("object"))
    }
}

/// A device to be taken up.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewDevice {
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    id: String,
    #[serde(default)]
    state: DeviceState,
    /// What is known of the device, by the names of the variables of profiles.
    #[serde(default)]
    attributes: Values,
}

/// What may change about a device.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceChange {
    state: DeviceState,
    attributes: Values,
}

/// The attributes of a device: `DeviceId` is its id and nothing else.
fn device_attributes(values: &Values, device: &str) -> Result<String, Problem> {
    let attributes = attributes(values, About::Device)?;
    if attributes.get(Variable::DeviceId).is_some_and(|given| given != device) {
        return Err(Problem::field("attributes.DeviceId", "not the device's id"));
    }
    attributes_json(&attributes)
}

/// The devices.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/devices", tag = "devices", params(Paging),
    responses((status = 200, body = List<Device>)))]
pub(crate) async fn list_devices(
    State(service): State<Service>,
    caller: Authorised<Read>,
    page: Page,
) -> Result<Json<List<Device>>, Problem> {
    list(
        &service,
        &caller.tenant,
        page,
        |text| DeviceId::new(text).map(drop),
        "SELECT id, state, attributes FROM device WHERE tenant = ?1 AND id > ?2 \
         ORDER BY id LIMIT ?3",
        Device::row,
        |device| device.id.clone(),
    )
    .await
}

/// Takes up a device.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/devices", tag = "devices",
    request_body = NewDevice, responses((status = 201, body = Device)))]
pub(crate) async fn create_device(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    once: Once,
    body: Body<NewDevice>,
) -> Result<Response, Problem> {
    let device = id("id", body.value.id, DeviceId::new)?;
    let json = device_attributes(&body.value.attributes, device.as_str())?;
    let (tenant, state) = (caller.tenant.clone(), body.value.state);
    service
        .once(&caller, once, body.request, move |tx| {
            let sql = "INSERT INTO device (tenant, id, state, attributes) VALUES (?1, ?2, ?3, ?4)";
            tx.execute(sql, values![tenant.as_str(), device.as_str(), state.name(), &json])
                .map_err(|error| constraint(error, "device"))?;
            tell(tx, &tenant, &device, state)?;
            let location = place(&tenant, "devices", device.as_str());
            Done::created(location, &Device::read(tx, &tenant, device.as_str())?)
        })
        .await
}

/// One device.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/devices/{id}", tag = "devices",
    responses((status = 200, body = Device)))]
pub(crate) async fn read_device(
    State(service): State<Service>,
    caller: Authorised<Read>,
    id: Id,
) -> Result<Json<Device>, Problem> {
    let sql = "SELECT id, state, attributes FROM device WHERE tenant = ?1 AND id = ?2";
    one(&service, &caller.tenant, id, "device", sql, Device::row).await.map(Json)
}

/// Tells the gateways whether a device may have certificates.
fn tell(
    tx: &Tx<'_>,
    tenant: &TenantId,
    device: &DeviceId,
    state: DeviceState,
) -> Result<(), StoreError> {
    let denied = state != DeviceState::Enrolled;
    denials::set(tx, tenant, &DenialSubject::Device(device.clone()), denied).map(drop)
}

/// The state of a device that is there. What is wiped stays wiped, until it is enrolled anew by an act of its own.
fn present_state(
    tx: &Tx<'_>,
    tenant: &TenantId,
    device: &DeviceId,
) -> Result<DeviceState, Problem> {
    let sql = "SELECT state FROM device WHERE tenant = ?1 AND id = ?2";
    let state: Option<String> =
        tx.one(sql, values![tenant.as_str(), device.as_str()], |row| row.get(0))?;
    state.map(|state| DeviceState::stored(&state)).ok_or_else(|| Problem::not_found("device"))
}

/// Gives a device another state and other attributes. A device that is wiped stays so: `re-enrol` is how it comes back.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/devices/{id}", tag = "devices",
    request_body = DeviceChange, responses((status = 200, body = Device)))]
pub(crate) async fn replace_device(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    id: Id,
    body: Body<DeviceChange>,
) -> Result<Json<Device>, Problem> {
    let json = device_attributes(&body.value.attributes, &id.0)?;
    let state = body.value.state;
    let (now, brake) = (service.clock.now(), service.upkeep.brake);
    service
        .store
        .write(move |tx| {
            let device = DeviceId::new(&*id.0).map_err(|_| Problem::not_found("device"))?;
            let before = present_state(tx, &caller.tenant, &device)?;
            if before == DeviceState::Wiped && state != DeviceState::Wiped {
                let why = "it comes back by re-enrol alone";
                return Err(Problem::new(Kind::DeviceWiped, why).at("state"));
            }
            let sql = "UPDATE device SET state = ?3, attributes = ?4 WHERE tenant = ?1 AND id = ?2";
            let values = values![caller.tenant.as_str(), device.as_str(), state.name(), &json];
            tx.execute(sql, values)?;
            tell(tx, &caller.tenant, &device, state)?;
            let event = match state {
                DeviceState::Wiped => Some(RevokeOn::Wipe),
                DeviceState::Disabled => Some(RevokeOn::Disable),
                DeviceState::Enrolled => None,
            };
            if let Some(event) = event.filter(|_| state != before) {
                orders::on_device(tx, brake, &caller.tenant, &device, event, now)?;
            }
            Device::read(tx, &caller.tenant, &id.0).map(Json)
        })
        .await
}

/// Nothing: that it was asked for is all.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReEnrolment {}

/// Takes a device up again that was wiped: it may have certificates anew. Its attributes stay.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/devices/{id}/re-enrol", tag = "devices",
    request_body = ReEnrolment, responses((status = 200, body = Device)))]
pub(crate) async fn re_enrol_device(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    id: Id,
    once: Once,
    body: Body<ReEnrolment>,
) -> Result<Response, Problem> {
    let tenant = caller.tenant.clone();
    service
        .once(&caller, once, body.request, move |tx| {
            let device = DeviceId::new(id.0).map_err(|_| Problem::not_found("device"))?;
            if present_state(tx, &tenant, &device)? != DeviceState::Wiped {
                return Err(Problem::new(Kind::NotWiped, format!("device {device}")).at("id"));
            }
            let state = DeviceState::Enrolled;
            let sql = "UPDATE device SET state = ?3 WHERE tenant = ?1 AND id = ?2";
            tx.execute(sql, values![tenant.as_str(), device.as_str(), state.name()])?;
            tell(tx, &tenant, &device, state)?;
            let location = place(&tenant, "devices", device.as_str());
            Done::changed(location, &Device::read(tx, &tenant, device.as_str())?)
        })
        .await
}

/// Removes a device and its assignments. Gateways refuse what was issued for it.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/devices/{id}", tag = "devices",
    responses((status = 204)))]
pub(crate) async fn delete_device(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    id: Id,
) -> Result<StatusCode, Problem> {
    let (now, brake) = (service.clock.now(), service.upkeep.brake);
    service
        .store
        .write(move |tx| {
            let device = DeviceId::new(id.0).map_err(|_| Problem::not_found("device"))?;
            let sql = "DELETE FROM device WHERE tenant = ?1 AND id = ?2";
            let gone = tx.execute(sql, values![caller.tenant.as_str(), device.as_str()])?;
            changed(gone, "device")?;
            orders::on_device(tx, brake, &caller.tenant, &device, RevokeOn::Unenrol, now)?;
            let subject = DenialSubject::Device(device);
            denials::set_until(tx, &caller.tenant, &subject, now.plus(DENIED_AFTERWARDS))?;
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}
