//! Gateway groups: the key that challenges are encrypted to, the ledger, the members.

use crate::service::db::{Row, Tx, values};
use crate::service::document::BASE;
use crate::service::link::keys::{self, KeyPurpose};
use crate::service::objects::{List, changed, constraint, id, rows};
use crate::service::once::{Done, Once};
use crate::service::problem::{Kind, Problem};
use crate::service::request::{Admin, Authorised, Body, Id, Page, Paging, Read};
use crate::service::store::StoreError;
use crate::service::{Service, changes};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use scep_types::{CertificateDer, GatewayGroupId, SpkiDer, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A group of gateways that share a decryption key and a ledger.
#[derive(Serialize, ToSchema)]
pub(crate) struct Group {
    id: String,
    /// The public key that challenges are encrypted to, PEM; absent until a gateway that was confirmed has proven one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    public_key: Option<String>,
    /// The certificate of the CA behind the group's gateways, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    ca_certificate: Option<String>,
    /// The ledger that the group is bound to; absent until the first gateway has enrolled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    ledger: Option<Ledger>,
    /// Since when a gateway that has left knows the key. A renewal is ordered; absent once there is another key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    rotation_due_since: Option<String>,
    /// The connectors of the group that have not left.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<String>,
    /// Keys that were replaced, for as long as a challenge that was made for one may be presented.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    former_keys: Vec<FormerKey>,
}

/// What keeps the group's challenges from being used twice.
#[derive(Serialize, ToSchema)]
pub(crate) struct Ledger {
    #[schema(pattern = "^[0-9a-f]{32}$")]
    id: String,
    /// `single`: one gateway has it to itself. `shared`: the gateways of the group share it.
    kind: String,
}

/// A key that was replaced.
#[derive(Serialize, ToSchema)]
pub(crate) struct FormerKey {
    /// Its key id.
    id: String,
    #[schema(format = DateTime)]
    until: String,
}

fn pem_text(label: &str, der: Vec<u8>) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), config)
}

/// The contents of the one PEM block of a field.
fn pem_block(field: &str, label: &str, text: &str) -> Result<Vec<u8>, Problem> {
    pem::parse(text)
        .ok()
        .filter(|pem| pem.tag() == label)
        .map(pem::Pem::into_contents)
        .ok_or_else(|| Problem::field(field, format!("no PEM text of a {label}")))
}

/// The certificate of a CA, as it came.
fn ca_certificate(text: Option<String>) -> Result<Option<CertificateDer>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let field = "ca_certificate";
    let der = pem_block(field, "CERTIFICATE", &text)?;
    CertificateDer::parse(&der).map(Some).map_err(|error| Problem::field(field, error))
}

const COLUMNS: &str = "id, public_key, ca_certificate, ledger, ledger_kind, rotation_since";

fn at(seconds: i64) -> String {
    Timestamp::from_seconds(seconds).to_string()
}

impl Group {
    /// All but what is in other tables.
    fn row(row: &Row) -> Result<Self, StoreError> {
        let (key, ca): (Option<Vec<u8>>, Option<Vec<u8>>) = (row.get(1)?, row.get(2)?);
        let (ledger, kind): (Option<String>, Option<String>) = (row.get(3)?, row.get(4)?);
        Ok(Self {
            id: row.get(0)?,
            public_key: key.map(|der| pem_text("PUBLIC KEY", der)),
            ca_certificate: ca.map(|der| pem_text("CERTIFICATE", der)),
            ledger: ledger.zip(kind).map(|(id, kind)| Ledger { id, kind }),
            rotation_due_since: row.get::<Option<i64>>(5)?.map(at),
            members: Vec::new(),
            former_keys: Vec::new(),
        })
    }

    fn complete(
        mut self,
        tx: &Tx<'_>,
        tenant: &TenantId,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        self.members = tx.query(
            "SELECT id FROM connector WHERE tenant = ?1 AND gateway_group = ?2 \
             AND membership <> 'left' ORDER BY enrolled_at, id",
            values![tenant.as_str(), &self.id],
            |row| row.get::<String>(0),
        )?;
        self.former_keys = tx.query(
            "SELECT key_id, opens_until FROM former_key WHERE tenant = ?1 AND gateway_group = ?2 \
             AND opens_until > ?3 ORDER BY opens_until, key_id",
            values![tenant.as_str(), &self.id, now.seconds()],
            |row| {
                let id: [u8; 20] = row.get(0)?;
                Ok::<_, StoreError>(FormerKey { id: hex::encode(id), until: at(row.get(1)?) })
            },
        )?;
        Ok(self)
    }

    fn read(tx: &Tx<'_>, tenant: &TenantId, id: &str, now: Timestamp) -> Result<Self, Problem> {
        let sql = format!("SELECT {COLUMNS} FROM gateway_group WHERE tenant = ?1 AND id = ?2");
        let found = tx.one(&sql, values![tenant.as_str(), id], Self::row)?;
        let found = found.ok_or_else(|| Problem::not_found("gateway group"))?;
        Ok(found.complete(tx, tenant, now)?)
    }
}

/// A gateway group to be taken up.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewGroup {
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,64}$")]
    id: String,
    /// PEM, `PUBLIC KEY`: P-256, or RSA of 2,048 to 4,096 bits. Without it the first gateway that enrols brings it.
    public_key: Option<String>,
    /// PEM, `CERTIFICATE`: of the CA behind the group's gateways. Windows is told its root.
    ca_certificate: Option<String>,
}

/// What may change about a gateway group.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupChange {
    /// PEM, `CERTIFICATE`; without it the group has none.
    ca_certificate: Option<String>,
}

/// The gateway groups.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/gateway-groups", tag = "gateway groups",
    operation_id = "list_groups", params(Paging), responses((status = 200, body = List<Group>)))]
pub(crate) async fn list(
    State(service): State<Service>,
    caller: Authorised<Read>,
    page: Page,
) -> Result<Json<List<Group>>, Problem> {
    if let Some(after) = &page.after {
        id("after", after.clone(), GatewayGroupId::new)?;
    }
    let (now, limit) = (service.clock.now(), page.limit);
    let items = service
        .store
        .read(move |tx| {
            let sql = format!(
                "SELECT {COLUMNS} FROM gateway_group WHERE tenant = ?1 AND id > ?2 \
                 ORDER BY id LIMIT ?3"
            );
            let after = page.after.unwrap_or_default();
            let values = values![caller.tenant.as_str(), &after, rows(limit)];
            let groups: Vec<Group> = tx.query(&sql, values, Group::row)?;
            let complete = |group: Group| group.complete(tx, &caller.tenant, now);
            groups.into_iter().map(complete).collect::<Result<Vec<_>, StoreError>>()
        })
        .await?;
    Ok(Json(List::cut(items, limit, |group| group.id.clone())))
}

/// Takes up a gateway group.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/gateway-groups", tag = "gateway groups",
    operation_id = "create_group", request_body = NewGroup,
    responses((status = 201, body = Group)))]
pub(crate) async fn create(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    once: Once,
    body: Body<NewGroup>,
) -> Result<Response, Problem> {
    let group = id("id", body.value.id, GatewayGroupId::new)?;
    let field = "public_key";
    let key = match body.value.public_key {
        None => None,
        Some(text) => {
            let der = pem_block(field, "PUBLIC KEY", &text)?;
            let key = SpkiDer::parse(&der).map_err(|error| Problem::field(field, error))?;
            service.check_recipient(&key).map_err(|error| Problem::field(field, error))?;
            Some(key)
        }
    };
    let ca = ca_certificate(body.value.ca_certificate)?;
    let (tenant, now) = (caller.tenant.clone(), service.clock.now());
    service
        .once(&caller, once, body.request, move |tx| {
            let sql = "INSERT INTO gateway_group (tenant, id, public_key, ca_certificate) \
                       VALUES (?1, ?2, ?3, ?4)";
            let ca = ca.as_ref().map(CertificateDer::as_der);
            let der = key.as_ref().map(SpkiDer::as_der);
            tx.execute(sql, values![tenant.as_str(), group.as_str(), der, ca])
                .map_err(|error| constraint(error, "gateway group"))?;
            if let Some(key) = &key
                && !keys::take(tx, key.key_id(), &tenant, &group, KeyPurpose::Decryption)?
            {
                return Err(Problem::field(field, "the key is or was in use elsewhere"));
            }
            let location = format!("{BASE}/tenants/{tenant}/gateway-groups/{group}");
            Done::created(location, &Group::read(tx, &tenant, group.as_str(), now)?)
        })
        .await
}

/// One gateway group.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/gateway-groups/{id}", tag = "gateway groups",
    operation_id = "read_group", responses((status = 200, body = Group)))]
pub(crate) async fn read(
    State(service): State<Service>,
    caller: Authorised<Read>,
    id: Id,
) -> Result<Json<Group>, Problem> {
    let now = service.clock.now();
    service.store.read(move |tx| Group::read(tx, &caller.tenant, &id.0, now).map(Json)).await
}

/// Gives a gateway group the certificate of another CA.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/gateway-groups/{id}", tag = "gateway groups",
    operation_id = "replace_group", request_body = GroupChange,
    responses((status = 200, body = Group)))]
pub(crate) async fn replace(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    id: Id,
    body: Body<GroupChange>,
) -> Result<Json<Group>, Problem> {
    let (ca, now) = (ca_certificate(body.value.ca_certificate)?, service.clock.now());
    service
        .store
        .write(move |tx| {
            let sql = "UPDATE gateway_group SET ca_certificate = ?3 WHERE tenant = ?1 AND id = ?2";
            let ca = ca.as_ref().map(CertificateDer::as_der);
            let rows = tx.execute(sql, values![caller.tenant.as_str(), &id.0, ca])?;
            changed(rows, "gateway group")?;
            Group::read(tx, &caller.tenant, &id.0, now).map(Json)
        })
        .await
}

/// The group with this id, against which nothing else is decided meanwhile.
fn lock(
    tx: &Tx<'_>,
    tenant: &TenantId,
    id: &str,
) -> Result<(GatewayGroupId, keys::Group), Problem> {
    let none = || Problem::not_found("gateway group");
    let id = GatewayGroupId::new(id).map_err(|_| none())?;
    let group = keys::Group::lock(tx, tenant, &id)?.ok_or_else(none)?;
    Ok((id, group))
}

/// That nobody is in the group.
fn empty(tx: &Tx<'_>, tenant: &TenantId, id: &GatewayGroupId) -> Result<(), Problem> {
    let members = keys::members(tx, tenant, id)?;
    match members.first() {
        None => Ok(()),
        Some(member) => {
            let why = format!("gateway {} is in the group: remove it first", member.name);
            Err(Problem::new(Kind::InUse, why))
        }
    }
}

/// Unbinds the group from its ledger, for when that is lost: the next gateway that enrols binds it to its own. No
/// gateway may be in the group. Challenges that were used with the lost ledger, and have not expired, could be used once
/// more: what a group has made is safe again after the longest lifetime of its challenges.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/gateway-groups/{id}/release-ledger",
    tag = "gateway groups", operation_id = "release_ledger",
    responses((status = 200, body = Group)))]
pub(crate) async fn release_ledger(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    id: Id,
) -> Result<Json<Group>, Problem> {
    let now = service.clock.now();
    service
        .store
        .write(move |tx| {
            let (group, _) = lock(tx, &caller.tenant, &id.0)?;
            empty(tx, &caller.tenant, &group)?;
            let sql = "UPDATE gateway_group SET ledger = NULL, ledger_kind = NULL \
                       WHERE tenant = ?1 AND id = ?2";
            tx.execute(sql, values![caller.tenant.as_str(), group.as_str()])?;
            changes::note(tx, &caller.tenant)?;
            Group::read(tx, &caller.tenant, &id.0, now).map(Json)
        })
        .await
}

/// Removes a gateway group without gateways: no challenges are made for it any more.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/gateway-groups/{id}",
    tag = "gateway groups", operation_id = "delete_group", responses((status = 204)))]
pub(crate) async fn delete(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    id: Id,
) -> Result<StatusCode, Problem> {
    service
        .store
        .write(move |tx| {
            let (group, _) = lock(tx, &caller.tenant, &id.0)?;
            empty(tx, &caller.tenant, &group)?;
            let sql = "DELETE FROM gateway_group WHERE tenant = ?1 AND id = ?2";
            let rows = tx
                .execute(sql, values![caller.tenant.as_str(), group.as_str()])
                .map_err(|error| constraint(error, "gateway group"))?;
            changed(rows, "gateway group")?;
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}
