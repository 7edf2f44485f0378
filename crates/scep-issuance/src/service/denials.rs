//! What is disabled: devices, users, profiles, as a list with a cursor.
//!
//! Each subject is kept once, with the number of its last change. What has changed since a cursor is what has a higher
//! number: the disabled among it are added, the others removed. What was lifted is forgotten after a while; a
//! connector that knows less than that is given a new list.

use crate::service::assignments::number;
use crate::service::db::{Row, Tx, values};
use crate::service::document::BASE;
use crate::service::objects::{List, id, rows};
use crate::service::once::{Done, Once};
use crate::service::problem::{Kind, Problem};
use crate::service::request::{Admin, Authorised, Body, Id, Page, Paging, Read, param};
use crate::service::store::StoreError;
use crate::service::{Service, changes};
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use scep_link::{DenialChanges, DenialSubject, MAX_DENIALS};
use scep_types::{DeviceId, ProfileId, TenantId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How many lifted denials are remembered at least, and every how many changes the rest is forgotten.
const REMEMBERED: i64 = 4096;
const SWEEP: i64 = 256;
/// The furthest that numbers go forward at once.
const LEAP: i64 = 1_000_000_000;

/// Kind and id, as stored.
pub(crate) fn name(subject: &DenialSubject) -> (&'static str, &str) {
    match subject {
        DenialSubject::Device(id) => ("device", id.as_str()),
        DenialSubject::User(id) => ("user", id.as_str()),
        DenialSubject::Profile(id) => ("profile", id.as_str()),
    }
}

/// Disables or enables a subject, for every gateway of the tenant. Calls [`crate::service::changes::note`] when that
/// changes anything. Gives whether it does.
pub(crate) fn set(
    tx: &Tx<'_>,
    tenant: &TenantId,
    subject: &DenialSubject,
    denied: bool,
) -> Result<bool, StoreError> {
    put(tx, tenant, subject, denied, None)
}

/// Disables a subject that is gone, until nothing can come of what was issued for it.
pub(crate) fn set_until(
    tx: &Tx<'_>,
    tenant: &TenantId,
    subject: &DenialSubject,
    lapses: Timestamp,
) -> Result<bool, StoreError> {
    put(tx, tenant, subject, true, Some(lapses))
}

fn put(
    tx: &Tx<'_>,
    tenant: &TenantId,
    subject: &DenialSubject,
    denied: bool,
    lapses: Option<Timestamp>,
) -> Result<bool, StoreError> {
    let lapses = lapses.map(Timestamp::seconds);
    let (kind, id) = name(subject);
    if is_denied(tx, tenant, subject)? == denied {
        let sql = "UPDATE denial SET lapses = ?4 WHERE tenant = ?1 AND kind = ?2 AND subject = ?3";
        tx.execute(sql, values![tenant.as_str(), kind, id, lapses])?;
        return Ok(false);
    }
    let mark = next(tx, tenant)?;
    tx.execute(
        "INSERT INTO denial (tenant, kind, subject, denied, mark, lapses) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (tenant, kind, subject) DO UPDATE SET \
         denied = excluded.denied, mark = excluded.mark, lapses = excluded.lapses",
        values![tenant.as_str(), kind, id, i64::from(denied), mark, lapses],
    )?;
    if mark % SWEEP == 0 {
        forget(tx, tenant)?;
    }
    changes::note(tx, tenant)?;
    Ok(true)
}

/// Whether a subject is disabled.
pub(crate) fn is_denied(
    tx: &Tx<'_>,
    tenant: &TenantId,
    subject: &DenialSubject,
) -> Result<bool, StoreError> {
    let (kind, id) = name(subject);
    let sql = "SELECT 1 FROM denial \
               WHERE tenant = ?1 AND kind = ?2 AND subject = ?3 AND denied = 1";
    tx.exists(sql, values![tenant.as_str(), kind, id])
}

/// The number of the next change.
fn next(tx: &Tx<'_>, tenant: &TenantId) -> Result<i64, StoreError> {
    let sql = "INSERT INTO denial_list (tenant, mark, forgotten) VALUES (?1, 1, 0) \
               ON CONFLICT (tenant) DO UPDATE SET mark = denial_list.mark + 1 RETURNING mark";
    let mark = tx.one(sql, values![tenant.as_str()], |row| row.get(0))?;
    mark.ok_or(StoreError::Column { column: 0 })
}

/// Numbers what comes from now on above what a connector knows from another history, so that the two cannot be taken for
/// one another.
pub(crate) fn outrun(tx: &Tx<'_>, tenant: &TenantId, cursor: u64) -> Result<(), StoreError> {
    let mark = next(tx, tenant)?;
    let cursor = i64::try_from(cursor).unwrap_or(i64::MAX);
    if cursor < mark {
        return Ok(());
    }
    // A connector that lies must not use the numbers up.
    let above = cursor.min(mark.saturating_add(LEAP)).saturating_add(1);
    let sql = "UPDATE denial_list SET mark = ?2 WHERE tenant = ?1";
    tx.execute(sql, values![tenant.as_str(), above]).map(drop)
}

/// Forgets what was lifted long ago: all but the last few.
fn forget(tx: &Tx<'_>, tenant: &TenantId) -> Result<(), StoreError> {
    let sql = "SELECT mark FROM denial WHERE tenant = ?1 AND denied = 0 \
               ORDER BY mark DESC LIMIT 1 OFFSET ?2";
    let last: Option<i64> = tx.one(sql, values![tenant.as_str(), REMEMBERED], |row| row.get(0))?;
    let Some(last) = last else { return Ok(()) };
    let sql = "DELETE FROM denial WHERE tenant = ?1 AND denied = 0 AND mark <= ?2";
    tx.execute(sql, values![tenant.as_str(), last])?;
    let sql = "UPDATE denial_list SET forgotten = ?2 WHERE tenant = ?1";
    tx.execute(sql, values![tenant.as_str(), last]).map(drop)
}

/// Lifts the denials of devices that are gone and of which nothing can come any more; a few at a time.
pub(crate) fn lapse(tx: &Tx<'_>, tenant: &TenantId, now: Timestamp) -> Result<(), StoreError> {
    let sql = "SELECT kind, subject FROM denial \
               WHERE tenant = ?1 AND denied = 1 AND lapses <= ?2 ORDER BY mark LIMIT 64";
    for subject in tx.query(sql, values![tenant.as_str(), now.seconds()], subject)? {
        set(tx, tenant, &subject, false)?;
    }
    Ok(())
}

fn subject(row: &Row) -> Result<DenialSubject, StoreError> {
    let (kind, id): (String, String) = (row.get(0)?, row.get(1)?);
    let subject = match kind.as_str() {
        "device" => DeviceId::new(id).map(DenialSubject::Device),
        "user" => UserId::new(id).map(DenialSubject::User),
        _ => ProfileId::new(id).map(DenialSubject::Profile),
    };
    subject.map_err(|_| StoreError::Column { column: 1 })
}

/// The number of the last change, and that of the last one that is forgotten.
fn extent(tx: &Tx<'_>, tenant: &TenantId) -> Result<(i64, i64), StoreError> {
    let sql = "SELECT mark, forgotten FROM denial_list WHERE tenant = ?1";
    let list = tx.one(sql, values![tenant.as_str()], |row| {
        Ok::<(i64, i64), StoreError>((row.get(0)?, row.get(1)?))
    })?;
    Ok(list.unwrap_or((0, 0)))
}

/// What a connector with this cursor is told; without one, or with one that the list cannot go on from, it begins
/// anew. The second is whether that is news to it.
pub(crate) fn since(
    tx: &Tx<'_>,
    tenant: &TenantId,
    cursor: Option<u64>,
) -> Result<(DenialChanges, bool), StoreError> {
    since_at_most(tx, tenant, cursor, MAX_DENIALS)
}

fn since_at_most(
    tx: &Tx<'_>,
    tenant: &TenantId,
    cursor: Option<u64>,
    most: usize,
) -> Result<(DenialChanges, bool), StoreError> {
    let (mark, forgotten) = extent(tx, tenant)?;
    let known = cursor.and_then(|cursor| i64::try_from(cursor).ok());
    let known = known.filter(|cursor| (forgotten..=mark).contains(cursor));
    let from = known.unwrap_or(0);
    let limit = i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1);
    // From the beginning, what was lifted was never there.
    let sql = "SELECT kind, subject, denied, mark FROM denial \
               WHERE tenant = ?1 AND mark > ?2 AND (denied = 1 OR ?2 > 0) ORDER BY mark LIMIT ?3";
    let mut rows = tx.query(sql, values![tenant.as_str(), from, limit], |row| {
        Ok::<_, StoreError>((subject(row)?, row.get::<i64>(2)? == 1, row.get::<i64>(3)?))
    })?;
    // What was forgotten since the first look may be missing among them.
    if from > 0 && extent(tx, tenant)?.1 > from {
        return since_at_most(tx, tenant, None, most);
    }
    let complete = rows.len() <= most;
    rows.truncate(most);
    let to = if complete { mark } else { rows.last().map_or(from, |(.., mark)| *mark) };
    let (added, removed): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, denied, _)| *denied);
    let subjects = |rows: Vec<(DenialSubject, bool, i64)>| {
        rows.into_iter().map(|(subject, ..)| subject).collect()
    };
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    let changes = DenialChanges {
        from: unsigned(from),
        to: unsigned(to),
        added: subjects(added),
        removed: subjects(removed),
        complete,
    };
    Ok((changes, known != Some(mark)))
}

// The API.

/// Something that every gateway of the tenant refuses.
#[derive(Serialize, ToSchema)]
pub(crate) struct Denial {
    kind: DenialKind,
    id: String,
}

/// What can be disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DenialKind {
    /// A device; by its state alone.
    Device,
    /// A user.
    User,
    /// A profile.
    Profile,
}

impl DenialKind {
    fn subject(self, field: &str, text: String) -> Result<DenialSubject, Problem> {
        match self {
            Self::Device => Err(by_its_state()),
            Self::User => id(field, text, UserId::new).map(DenialSubject::User),
            Self::Profile => id(field, text, ProfileId::new).map(DenialSubject::Profile),
        }
    }
}

impl From<&DenialSubject> for Denial {
    fn from(subject: &DenialSubject) -> Self {
        let kind = match subject {
            DenialSubject::Device(_) => DenialKind::Device,
            DenialSubject::User(_) => DenialKind::User,
            DenialSubject::Profile(_) => DenialKind::Profile,
        };
        Self { kind, id: name(subject).1.to_owned() }
    }
}

/// A user or a profile to be disabled.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewDenial {
    /// `user` or `profile`; a device is disabled by its state.
    kind: DenialKind,
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    id: String,
}

/// What is disabled, in the order in which it was.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/denials", tag = "denials",
    operation_id = "list_denials", params(Paging),
    responses((status = 200, body = List<Denial>)))]
pub(crate) async fn list(
    State(service): State<Service>,
    caller: Authorised<Read>,
    page: Page,
) -> Result<Json<List<Denial>>, Problem> {
    let after = page.after.as_deref().map_or(Some(0), number);
    let after = after.ok_or_else(|| Problem::field("after", "no cursor"))?;
    let items = service
        .store
        .read(move |tx| {
            tx.query(
                "SELECT kind, subject, mark FROM denial \
                 WHERE tenant = ?1 AND denied = 1 AND mark > ?2 ORDER BY mark LIMIT ?3",
                values![caller.tenant.as_str(), after, rows(page.limit)],
                |row| Ok::<_, StoreError>((Denial::from(&subject(row)?), row.get::<i64>(2)?)),
            )
        })
        .await?;
    let List { items, next } = List::cut(items, page.limit, |(_, mark)| mark.to_string());
    Ok(Json(List { items: items.into_iter().map(|(denial, _)| denial).collect(), next }))
}

/// Disables a user or a profile: no challenge is made for it, and every gateway refuses those there are.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/denials", tag = "denials",
    operation_id = "create_denial", request_body = NewDenial,
    responses((status = 201, body = Denial)))]
pub(crate) async fn create(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    once: Once,
    body: Body<NewDenial>,
) -> Result<Response, Problem> {
    let subject = body.value.kind.subject("id", body.value.id)?;
    let tenant = caller.tenant.clone();
    service
        .once(&caller, once, body.request, move |tx| {
            let (kind, id) = name(&subject);
            let sql = match subject {
                DenialSubject::User(_) => "SELECT 1 FROM person WHERE tenant = ?1 AND id = ?2",
                _ => "SELECT 1 FROM profile WHERE tenant = ?1 AND id = ?2",
            };
            if !tx.exists(sql, values![tenant.as_str(), id])? {
                return Err(Problem::field("id", "it is not in this tenant"));
            }
            if !set(tx, &tenant, &subject, true)? {
                return Err(Problem::new(Kind::Exists, format!("the {kind} is disabled already")));
            }
            let location = format!("{BASE}/tenants/{tenant}/denials/{kind}/{id}");
            Done::created(location, &Denial::from(&subject))
        })
        .await
}

/// The kind in the path.
pub(crate) struct InPath(DenialKind);

impl FromRequestParts<Service> for InPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Problem> {
        let kind = param(parts, service, "kind").await?;
        match kind.as_deref() {
            Some("device") => Ok(Self(DenialKind::Device)),
            Some("user") => Ok(Self(DenialKind::User)),
            Some("profile") => Ok(Self(DenialKind::Profile)),
            _ => Err(Problem::not_found("denial")),
        }
    }
}

/// Enables a user or a profile again.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/denials/{kind}/{id}", tag = "denials",
    operation_id = "delete_denial", responses((status = 204)))]
pub(crate) async fn delete(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    InPath(kind): InPath,
    id: Id,
) -> Result<StatusCode, Problem> {
    let gone = || Problem::not_found("denial");
    let subject = match kind {
        DenialKind::Device => return Err(by_its_state()),
        DenialKind::User | DenialKind::Profile => kind.subject("id", id.0).map_err(|_| gone())?,
    };
    service
        .store
        .write(move |tx| {
            let lifted = set(tx, &caller.tenant, &subject, false)?;
            lifted.then_some(StatusCode::NO_CONTENT).ok_or_else(gone)
        })
        .await
}

fn by_its_state() -> Problem {
    Problem::field("kind", "a device is disabled and enabled by its state")
}
