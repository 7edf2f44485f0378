//! Gateways for people: the tokens with which they enrol, and what becomes of them.

use crate::service::db::{Row, Tx, values};
use crate::service::document::BASE;
use crate::service::link::keys;
use crate::service::objects::{List, id, rows};
use crate::service::once::{Done, Once};
use crate::service::problem::{Kind, Problem};
use crate::service::request::{Admin, Authorised, Body, Id, Page, Paging, Read};
use crate::service::store::StoreError;
use crate::service::{Service, changes};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use core::time::Duration;
use scep_link::EnrolmentToken;
use scep_types::{
    CertificateFingerprint, ConnectorId, GatewayGroupId, SpkiDer, TenantId, Timestamp,
    parse_duration,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);
const LONGEST_TOKEN_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
const DAY: i64 = 24 * 3600;

fn at(seconds: i64) -> String {
    Timestamp::from_seconds(seconds).to_string()
}

/// A cursor, or an id in a path: 16 octets in hexadecimal.
fn hexadecimal(text: &str) -> Option<String> {
    ConnectorId::from_hex(text).map(|id| id.to_string()).filter(|id| id == text)
}

fn cursor(page: &Page) -> Result<String, Problem> {
    match &page.after {
        None => Ok(String::new()),
        Some(text) => hexadecimal(text).ok_or_else(|| Problem::field("after", "no cursor")),
    }
}

// Tokens.

/// Who confirms the gateway that a token lets in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Confirmation {
    /// An operator, once the gateway has enrolled: until then no challenge is made for its key.
    #[default]
    Operator,
    /// Whoever makes the token, by making it: the gateway that enrols with it is in the group. Whoever gets hold of such
    /// a token gets into the group, and as its first gateway all its challenges.
    Token,
}

impl Confirmation {
    const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Token => "token",
        }
    }
}

/// What has become of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TokenState {
    /// It lets one gateway in.
    Unused,
    /// It has.
    Used,
    /// An operator has withdrawn it.
    Withdrawn,
    /// Its time is over.
    Expired,
}

/// A token, without itself.
#[derive(Serialize, ToSchema)]
pub(crate) struct ConnectorToken {
    #[schema(pattern = "^[0-9a-f]{32}$")]
    id: String,
    /// The group that it lets a gateway into.
    group: String,
    confirmation: String,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    expires_at: String,
    state: TokenState,
    /// The connector that has enrolled with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    connector: Option<String>,
}

/// A token as it leaves, once.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewConnectorToken {
    #[serde(flatten)]
    record: ConnectorToken,
    /// For `scep-gateway enroll --token`. It is shown here and never again.
    token: String,
}

/// For which gateway a token is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRequest {
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,64}$")]
    group: String,
    /// For how long it may be used: a number and `s`, `m`, `h` or `d`; at most seven days. A day by default.
    #[schema(pattern = "^[0-9]+[smhd]$", max_length = 16)]
    lifetime: Option<String>,
    #[serde(default)]
    confirmation: Confirmation,
}

const TOKEN_COLUMNS: &str =
    "id, gateway_group, confirmation, created_at, expires_at, revoked_at, used_at, connector";

impl ConnectorToken {
    fn row(row: &Row, now: Timestamp) -> Result<Self, StoreError> {
        let (expires_at, revoked_at): (i64, Option<i64>) = (row.get(4)?, row.get(5)?);
        let used_at: Option<i64> = row.get(6)?;
        let state = match (used_at, revoked_at) {
            (Some(_), _) => TokenState::Used,
            (None, Some(_)) => TokenState::Withdrawn,
            (None, None) if expires_at <= now.seconds() => TokenState::Expired,
            (None, None) => TokenState::Unused,
        };
        Ok(Self {
            id: row.get(0)?,
            group: row.get(1)?,
            confirmation: row.get(2)?,
            created_at: at(row.get(3)?),
            expires_at: at(expires_at),
            state,
            connector: row.get(7)?,
        })
    }

    fn read(tx: &Tx<'_>, tenant: &TenantId, id: &str, now: Timestamp) -> Result<Self, Problem> {
        let sql =
            format!("SELECT {TOKEN_COLUMNS} FROM connector_token WHERE tenant = ?1 AND id = ?2");
        let found = tx.one(&sql, values![tenant.as_str(), id], |row| Self::row(row, now))?;
        found.ok_or_else(|| Problem::not_found("token"))
    }
}

/// The tokens for gateways, without themselves.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/connector-tokens", tag = "connectors",
    operation_id = "list_connector_tokens", params(Paging),
    responses((status = 200, body = List<ConnectorToken>)))]
pub(crate) async fn list_tokens(
    State(service): State<Service>,
    caller: Authorised<Read>,
    page: Page,
) -> Result<Json<List<ConnectorToken>>, Problem> {
    let (after, now) = (cursor(&page)?, service.clock.now());
    let items = service
        .store
        .read(move |tx| {
            let sql = format!(
                "SELECT {TOKEN_COLUMNS} FROM connector_token WHERE tenant = ?1 AND id > ?2 \
                 ORDER BY id LIMIT ?3"
            );
            tx.query(&sql, values![caller.tenant.as_str(), &after, rows(page.limit)], |row| {
                ConnectorToken::row(row, now)
            })
        })
        .await?;
    Ok(Json(List::cut(items, page.limit, |token| token.id.clone())))
}

/// Makes a token that lets one gateway into a group, once.
///
/// An operator must confirm the gateway that has enrolled with it, unless the token says that making it was the
/// confirmation.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/connector-tokens", tag = "connectors",
    operation_id = "create_connector_token", request_body = TokenRequest,
    responses((status = 201, body = NewConnectorToken)))]
pub(crate) async fn create_token(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    once: Once,
    body: Body<TokenRequest>,
) -> Result<Response, Problem> {
    let TokenRequest { group, lifetime, confirmation } = body.value;
    let group = id("group", group, GatewayGroupId::new)?;
    let life = match lifetime {
        None => TOKEN_LIFE,
        Some(text) => parse_duration(&text)
            .ok()
            .filter(|life| !life.is_zero() && *life <= LONGEST_TOKEN_LIFE)
            .ok_or_else(|| Problem::field("lifetime", "not 1s to 7d"))?,
    };
    let failed = |error| Problem::new(Kind::Internal, error);
    let token = EnrolmentToken::random(service.provider.as_ref()).map_err(failed)?;
    let mut random = [0; 16];
    service.provider.random(&mut random).map_err(failed)?;
    let (id, now, tenant) = (hex::encode(random), service.clock.now(), caller.tenant.clone());
    service
        .once(&caller, once, body.request, move |tx| {
            let sql = "SELECT 1 FROM gateway_group WHERE tenant = ?1 AND id = ?2";
            if !tx.exists(sql, values![tenant.as_str(), group.as_str()])? {
                let detail = format!("gateway group {group}");
                return Err(Problem::new(Kind::UnknownGroup, detail).at("group"));
            }
            tx.execute(
                "INSERT INTO connector_token \
                 (id, hash, tenant, gateway_group, confirmation, created_at, expires_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                values![
                    &id,
                    token.hash().as_bytes(),
                    tenant.as_str(),
                    group.as_str(),
                    confirmation.name(),
                    now.seconds(),
                    now.plus(life).seconds()
                ],
            )?;
            let record = ConnectorToken::read(tx, &tenant, &id, now)?;
            let token = token.expose().to_owned();
            let location = format!("{BASE}/tenants/{tenant}/connector-tokens/{id}");
            Done::created(location, &NewConnectorToken { record, token })
        })
        .await
}

/// One token for a gateway, without itself.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/connector-tokens/{id}", tag = "connectors",
    operation_id = "read_connector_token", responses((status = 200, body = ConnectorToken)))]
pub(crate) async fn read_token(
    State(service): State<Service>,
    caller: Authorised<Read>,
    id: Id,
) -> Result<Json<ConnectorToken>, Problem> {
    let now = service.clock.now();
    let read = move |tx: &Tx<'_>| ConnectorToken::read(tx, &caller.tenant, &id.0, now).map(Json);
    service.store.read(read).await
}

/// Withdraws a token: nobody enrols with it any more. Who has enrolled with it stays.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/connector-tokens/{id}", tag = "connectors",
    operation_id = "withdraw_connector_token", responses((status = 204)))]
pub(crate) async fn withdraw_token(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    id: Id,
) -> Result<StatusCode, Problem> {
    let now = service.clock.now();
    service
        .store
        .write(move |tx| {
            ConnectorToken::read(tx, &caller.tenant, &id.0, now)?;
            tx.execute(
                "UPDATE connector_token SET revoked_at = ?3 \
                 WHERE tenant = ?1 AND id = ?2 AND revoked_at IS NULL",
                values![caller.tenant.as_str(), &id.0, now.seconds()],
            )?;
            Ok::<_, Problem>(StatusCode::NO_CONTENT)
        })
        .await
}

// Connectors.

/// The connector of one gateway.
#[derive(Serialize, ToSchema)]
pub(crate) struct Connector {
    #[schema(pattern = "^[0-9a-f]{32}$")]
    id: String,
    /// What its operator calls the gateway.
    name: String,
    group: String,
    ledger: String,
    /// `awaiting-operator`, `confirmed` or `left`.
    membership: String,
    /// `active`, `revoked`, or `cloned`: two holders of its keys were seen, and both are refused.
    standing: String,
    /// The version that it has enrolled with.
    software: String,
    #[schema(format = DateTime)]
    enrolled_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    left_at: Option<String>,
    /// When it has last checked in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    last_seen_at: Option<String>,
    /// Its certificate at the issuer: the one in use, or the last that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    certificate: Option<ConnectorCertificate>,
    /// The key id of its decryption key.
    decryption_key: String,
    /// Whether it has shown that it has that key.
    key_proven: bool,
    /// Whether that is the key that challenges of its group are encrypted to. If not, it opens none that are made now:
    /// bring it the group's key.
    has_group_key: bool,
}

/// The certificate with which a connector authenticates.
#[derive(Serialize, ToSchema)]
pub(crate) struct ConnectorCertificate {
    /// SHA-256.
    fingerprint: String,
    #[schema(format = DateTime)]
    not_after: String,
    /// Whole days that are left; negative when it has expired.
    days_left: i64,
}

const CONNECTOR_COLUMNS: &str = "c.id, c.name, c.gateway_group, c.ledger, c.membership, \
    c.standing, c.software, c.enrolled_at, c.left_at, c.decryption_key, h.heard_at, g.public_key \
    FROM connector c LEFT JOIN connector_contact h ON h.connector = c.id \
    LEFT JOIN gateway_group g ON g.tenant = c.tenant AND g.id = c.gateway_group";

impl Connector {
    fn row(row: &Row) -> Result<Self, StoreError> {
        let key_id = |der: &[u8]| SpkiDer::parse(der).map(|key| key.key_id()).ok();
        let (own, groups): (Vec<u8>, Option<Vec<u8>>) = (row.get(9)?, row.get(11)?);
        let own = key_id(&own).ok_or(StoreError::Column { column: 9 })?;
        let membership: String = row.get(4)?;
        let groups = groups.as_deref().and_then(key_id);
        Ok(Self {
            id: row.get(0)?,
            name: row.get(1)?,
            group: row.get(2)?,
            ledger: row.get(3)?,
            standing: row.get(5)?,
            software: row.get(6)?,
            enrolled_at: at(row.get(7)?),
            left_at: row.get::<Option<i64>>(8)?.map(at),
            last_seen_at: row.get::<Option<i64>>(10)?.map(at),
            certificate: None,
            decryption_key: own.to_string(),
            key_proven: false,
            has_group_key: membership != "left" && groups == Some(own),
            membership,
        })
    }

    fn complete(mut self, tx: &Tx<'_>, now: Timestamp) -> Result<Self, StoreError> {
        self.certificate = tx.one(
            "SELECT fingerprint, not_after FROM connector_certificate \
             WHERE connector = ?1 AND state <> 'new' ORDER BY state DESC, not_after DESC LIMIT 1",
            values![&self.id],
            |row| {
                let (fingerprint, not_after): ([u8; 32], i64) = (row.get(0)?, row.get(1)?);
                Ok::<_, StoreError>(ConnectorCertificate {
                    fingerprint: CertificateFingerprint::from_bytes(fingerprint).to_string(),
                    not_after: at(not_after),
                    days_left: not_after.saturating_sub(now.seconds()).div_euclid(DAY),
                })
            },
        )?;
        self.key_proven = tx.exists(
            "SELECT 1 FROM possession p JOIN connector c ON c.id = p.connector \
             WHERE p.connector = ?1 AND p.public_key = c.decryption_key \
             AND p.proven_at IS NOT NULL",
            values![&self.id],
        )?;
        self.has_group_key = self.has_group_key && self.key_proven;
        Ok(self)
    }

    fn read(tx: &Tx<'_>, tenant: &TenantId, id: &str, now: Timestamp) -> Result<Self, Problem> {
        let sql = format!("SELECT {CONNECTOR_COLUMNS} WHERE c.tenant = ?1 AND c.id = ?2");
        let found = tx.one(&sql, values![tenant.as_str(), id], Self::row)?;
        Ok(found.ok_or_else(|| Problem::not_found("connector"))?.complete(tx, now)?)
    }

    /// One that has not left, with its group, in which nothing else is decided meanwhile.
    fn member(
        tx: &Tx<'_>,
        tenant: &TenantId,
        id: &str,
        now: Timestamp,
    ) -> Result<(Self, GatewayGroupId), Problem> {
        let group = Self::read(tx, tenant, id, now)?.group;
        let group = GatewayGroupId::new(group)
            .map_err(|_| Problem::new(Kind::Internal, "a stored group cannot be read"))?;
        keys::Group::lock(tx, tenant, &group)?;
        let connector = Self::read(tx, tenant, id, now)?;
        if connector.membership == "left" {
            return Err(Problem::new(Kind::ConnectorLeft, format!("gateway {}", connector.name)));
        }
        Ok((connector, group))
    }
}

/// The connectors, those that have left too.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/connectors", tag = "connectors",
    operation_id = "list_connectors", params(Paging),
    responses((status = 200, body = List<Connector>)))]
pub(crate) async fn list(
    State(service): State<Service>,
    caller: Authorised<Read>,
    page: Page,
) -> Result<Json<List<Connector>>, Problem> {
    let (after, now, limit) = (cursor(&page)?, service.clock.now(), page.limit);
    let items = service
        .store
        .read(move |tx| {
            let sql = format!(
                "SELECT {CONNECTOR_COLUMNS} WHERE c.tenant = ?1 AND c.id > ?2 \
                 ORDER BY c.id LIMIT ?3"
            );
            let values = values![caller.tenant.as_str(), &after, rows(limit)];
            let found: Vec<Connector> = tx.query(&sql, values, Connector::row)?;
            let complete = |connector: Connector| connector.complete(tx, now);
            found.into_iter().map(complete).collect::<Result<Vec<_>, StoreError>>()
        })
        .await?;
    Ok(Json(List::cut(items, limit, |connector| connector.id.clone())))
}

/// One connector.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/connectors/{id}", tag = "connectors",
    operation_id = "read_connector", responses((status = 200, body = Connector)))]
pub(crate) async fn read(
    State(service): State<Service>,
    caller: Authorised<Read>,
    id: Id,
) -> Result<Json<Connector>, Problem> {
    let now = service.clock.now();
    let read = move |tx: &Tx<'_>| Connector::read(tx, &caller.tenant, &id.0, now).map(Json);
    service.store.read(read).await
}

/// Confirms that a gateway that has enrolled belongs to its group. Compare its key id with what the gateway shows. Once
/// it has proven that key, challenges are made for it.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/connectors/{id}/confirm",
    tag = "connectors", operation_id = "confirm_connector",
    responses((status = 200, body = Connector)))]
pub(crate) async fn confirm(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    id: Id,
) -> Result<Json<Connector>, Problem> {
    let now = service.clock.now();
    service
        .store
        .write(move |tx| {
            let (_, group) = Connector::member(tx, &caller.tenant, &id.0, now)?;
            let sql = "UPDATE connector SET membership = 'confirmed' WHERE id = ?1";
            tx.execute(sql, values![&id.0])?;
            keys::settle(tx, &caller.tenant, &group, now)?;
            changes::note(tx, &caller.tenant)?;
            Connector::read(tx, &caller.tenant, &id.0, now).map(Json)
        })
        .await
}

/// Lets the holder of the present certificate go on, after two holders of this connector's keys were seen: when the
/// other one was a copy of the machine that is gone. When in doubt remove the connector, and enrol the gateway anew.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/connectors/{id}/resolve-clone",
    tag = "connectors", operation_id = "resolve_clone",
    responses((status = 200, body = Connector)))]
pub(crate) async fn resolve_clone(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    id: Id,
) -> Result<Json<Connector>, Problem> {
    let now = service.clock.now();
    service
        .store
        .write(move |tx| {
            let (_, group) = Connector::member(tx, &caller.tenant, &id.0, now)?;
            tx.execute(
                "UPDATE connector SET standing = 'active' WHERE id = ?1 AND standing = 'cloned'",
                values![&id.0],
            )?;
            keys::settle(tx, &caller.tenant, &group, now)?;
            changes::note(tx, &caller.tenant)?;
            Connector::read(tx, &caller.tenant, &id.0, now).map(Json)
        })
        .await
}

/// Removes a gateway from its group: it is refused from now on. One of those who stay is ordered to renew the group's
/// decryption key, which the gateway knows; the others must be brought the new one then. With the last gateway that was
/// confirmed goes the key that the group had from one. The record stays, and so do the group's ledger and the events that
/// the gateway has reported.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/connectors/{id}", tag = "connectors",
    operation_id = "remove_connector", responses((status = 204)))]
pub(crate) async fn remove(
    State(service): State<Service>,
    caller: Authorised<Admin>,
    id: Id,
) -> Result<StatusCode, Problem> {
    let now = service.clock.now();
    service
        .store
        .write(move |tx| {
            let (_, group) = match Connector::member(tx, &caller.tenant, &id.0, now) {
                Err(problem) if problem.is(Kind::ConnectorLeft) => return Ok(()),
                member => member?,
            };
            tx.execute(
                "UPDATE connector SET membership = 'left', standing = 'revoked', left_at = ?2 \
                 WHERE id = ?1",
                values![&id.0, now.seconds()],
            )?;
            keys::departed(tx, &caller.tenant, &group, &id.0, now)?;
            changes::note(tx, &caller.tenant)?;
            Ok::<_, Problem>(())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
