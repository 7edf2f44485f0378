//! Which device or user has which profile.

use crate::service::Service;
use crate::service::db::{Row, Tx, values};
use crate::service::document::BASE;
use crate::service::objects::{List, constraint, id, rows};
use crate::service::once::{Done, Once};
use crate::service::problem::{Kind, Problem};
use crate::service::request::{Admin, Authorised, Body, Id, Page, Paging, Read};
use crate::service::store::StoreError;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use scep_types::{DeviceId, ProfileId, TenantId, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A profile for a device or a user.
#[derive(Serialize, ToSchema)]
pub(crate) struct Assignment {
    id: String,
    profile: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    user: Option<String>,
}

impl Assignment {
    fn row(row: &Row) -> Result<Self, StoreError> {
        let id: i64 = row.get(0)?;
        Ok(Self {
            id: id.to_string(),
            profile: row.get(1)?,
            device: row.get(2)?,
            user: row.get(3)?,
        })
    }
}

/// A number as it stands in a path or a cursor; digits alone.
pub(crate) fn number(text: &str) -> Option<i64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Exactly one of `device` and `user`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAssignment {
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,64}$")]
    profile: String,
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    device: Option<String>,
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    user: Option<String>,
}

fn exists(
    tx: &Tx<'_>,
    field: &str,
    sql: &'static str,
    tenant: &TenantId,
    id: &str,
) -> Result<(), Problem> {
    if tx.exists(sql, values![tenant.as_str(), id])? {
        Ok(())
    } else {
        Err(Problem::field(field, "it is not in this tenant"))
    }
}

/// The assignments.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/assignments", tag = "assignments",
    operation_id = "list_assignments", params(Paging),
    responses((status = 200, body = List<Assignment>)))]
pub(crate) async fn list(
    State(service): State<Service>,
    caller: Authorised<Read>,
    page: Page,
) -> Result<Json<List<Assignment>>, Problem> {
    let after = page.after.as_deref().map_or(Some(0), number);
    let after = after.ok_or_else(|| Problem::field("after", "no cursor"))?;
    let items = service
        .store
        .read(move |tx| {
            tx.query(
                "SELECT id, profile, device, owner FROM assignment WHERE tenant = ?1 AND id > ?2 \
                 ORDER BY id LIMIT ?3",
                values![caller.tenant.as_str(), after, rows(page.limit)],
                Assignment::row,
            )
        })
        .await?;
    Ok(Json(List::cut(items, page.limit, |assignment| assignment.id.clone())))
}

/// Assigns a profile.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/assignments", tag = "assignments",
    operation_id = "create_assignment", request_body = NewAssignment,
    responses((status = 201, body = Assignment)))]
pub(crate) async fn create(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    once: Once,
    body: Body<NewAssignment>,
) -> Result<Response, Problem> {
    let NewAssignment { profile, device, user } = body.value;
    let profile = id("profile", profile, ProfileId::new)?;
    let device = device.map(|text| id("device", text, DeviceId::new)).transpose()?;
    let user = user.map(|text| id("user", text, UserId::new)).transpose()?;
    if device.is_some() == user.is_some() {
        return Err(Problem::field("device", "exactly one of device and user is needed"));
    }
    let tenant = caller.tenant.clone();
    service
        .once(&caller, once, body.request, move |tx| {
            let (device, user) =
                (device.as_ref().map(DeviceId::as_str), user.as_ref().map(UserId::as_str));
            let sql = "SELECT 1 FROM profile WHERE tenant = ?1 AND id = ?2";
            exists(tx, "profile", sql, &tenant, profile.as_str())?;
            if let Some(device) = device {
                let sql = "SELECT 1 FROM device WHERE tenant = ?1 AND id = ?2";
                exists(tx, "device", sql, &tenant, device)?;
            }
            if let Some(user) = user {
                let sql = "SELECT 1 FROM person WHERE tenant = ?1 AND id = ?2";
                exists(tx, "user", sql, &tenant, user)?;
            }
            let sql = "INSERT INTO assignment (tenant, profile, device, owner) \
                       VALUES (?1, ?2, ?3, ?4) RETURNING id, profile, device, owner";
            let values = values![tenant.as_str(), profile.as_str(), device, user];
            let view = tx
                .one(sql, values, Assignment::row)
                .map_err(|error| constraint(error, "assignment"))?
                .ok_or_else(|| Problem::new(Kind::Internal, "nothing was inserted"))?;
            Done::created(format!("{BASE}/tenants/{tenant}/assignments/{}", view.id), &view)
        })
        .await
}

/// One assignment.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/assignments/{id}", tag = "assignments",
    operation_id = "read_assignment", responses((status = 200, body = Assignment)))]
pub(crate) async fn read(
    State(service): State<Service>,
    caller: Authorised<Read>,
    id: Id,
) -> Result<Json<Assignment>, Problem> {
    let number = number(&id.0).ok_or_else(|| Problem::not_found("assignment"))?;
    service
        .store
        .read(move |tx| {
            let found = tx.one(
                "SELECT id, profile, device, owner FROM assignment WHERE tenant = ?1 AND id = ?2",
                values![caller.tenant.as_str(), number],
                Assignment::row,
            )?;
            found.map(Json).ok_or_else(|| Problem::not_found("assignment"))
        })
        .await
}

/// Takes a profile away.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/assignments/{id}", tag = "assignments",
    operation_id = "delete_assignment", responses((status = 204)))]
pub(crate) async fn delete(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    id: Id,
) -> Result<StatusCode, Problem> {
    let number = number(&id.0).ok_or_else(|| Problem::not_found("assignment"))?;
    service
        .store
        .write(move |tx| {
            let sql = "DELETE FROM assignment WHERE tenant = ?1 AND id = ?2";
            let gone = tx.execute(sql, values![caller.tenant.as_str(), number])?;
            match gone {
                0 => Err(Problem::not_found("assignment")),
                _ => Ok(StatusCode::NO_CONTENT),
            }
        })
        .await
}
