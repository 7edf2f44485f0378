//! What is demanded of a request before a handler sees it: a token of the tenant with the scope, a body of JSON, a
//! page. Each refusal is a problem.

use crate::service::problem::{Kind, Problem};
use crate::service::token::{self, Grant, Scope};
use crate::service::{MAX_BODY, Service};
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use core::marker::PhantomData;
use core::time::Duration;
use scep_types::TenantId;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use utoipa::IntoParams;

/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);
const PAGE: usize = 50;
const MAX_PAGE: usize = 200;

/// A scope, as a type: a handler's signature says what it needs.
pub(crate) trait Needs {
    const SCOPE: Scope;
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Admin;
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChallengesWrite;
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read;

impl Needs for Admin {
    const SCOPE: Scope = Scope::Admin;
}
impl Needs for ChallengesWrite {
    const SCOPE: Scope = Scope::ChallengesWrite;
}
impl Needs for Read {
    const SCOPE: Scope = Scope::Read;
}

/// The caller has a token of the tenant in the path, with the scope. For another tenant's path there is nothing to
/// find, whether that tenant exists or not.
pub(crate) struct Authorised<S: Needs> {
    pub(crate) tenant: TenantId,
    /// What only a holder of the token can compute; the database does not have it.
    pub(crate) root: [u8; 32],
    scope: PhantomData<S>,
}

impl<S: Needs + Send> FromRequestParts<Service> for Authorised<S> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Problem> {
        let token = bearer(&parts.headers)
            .ok_or_else(|| Problem::new(Kind::Unauthenticated, "no bearer token"))?;
        let (hash, root) = (token::hash(token), root(token));
        let grant: Grant =
            service.store.grant(hash, service.clock.now()).await?.ok_or_else(|| {
                Problem::new(Kind::Unauthenticated, "the token is unknown or expired")
            })?;
        if let Some(tenant) = param(parts, service, "tenant").await?
            && tenant != grant.tenant.as_str()
        {
            return Err(Problem::new(Kind::NotFound, "no such tenant"));
        }
        if !grant.allows(S::SCOPE) {
            let detail = format!("the token needs the scope {} or admin", S::SCOPE);
            return Err(Problem::new(Kind::WrongScope, detail));
        }
        Ok(Self { tenant: grant.tenant, root, scope: PhantomData })
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(only), None) = (all.next(), all.next()) else { return None };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn root(token: &str) -> [u8; 32] {
    Sha256::new().chain_update(b"scep-issuer answers\0").chain_update(token).finalize().into()
}

async fn params(parts: &mut Parts, service: &Service) -> Result<RawPathParams, Problem> {
    RawPathParams::from_request_parts(parts, service)
        .await
        .map_err(|_| Problem::new(Kind::NotFound, "the path is not UTF-8"))
}

/// The parameter of the path with this name, as written.
pub(crate) async fn param(
    parts: &mut Parts,
    service: &Service,
    wanted: &str,
) -> Result<Option<String>, Problem> {
    let params = params(parts, service).await?;
    Ok(params.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned()))
}

/// The id in the path, as written.
pub(crate) struct Id(pub(crate) String);

impl FromRequestParts<Service> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Problem> {
        let id = param(parts, service, "id").await?;
        id.map(Self).ok_or_else(|| Problem::new(Kind::NotFound, "no id"))
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// The `next` of the page before.
    #[param(max_length = 128, required = false, nullable = false)]
    after: Option<String>,
    /// How many items at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50, nullable = false)]
    limit: Option<String>,
}

/// Which page is wanted.
pub(crate) struct Page {
    pub(crate) after: Option<String>,
    pub(crate) limit: usize,
}

impl FromRequestParts<Service> for Page {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Service) -> Result<Self, Problem> {
        let query = axum::extract::Query::<Paging>::try_from_uri(&parts.uri)
            .map_err(|error| Problem::new(Kind::BadRequest, error.body_text()).at("query"))?;
        Ok(Self { limit: limit(query.limit.as_deref())?, after: query.0.after })
    }
}

/// How many items a page has.
pub(crate) fn limit(text: Option<&str>) -> Result<usize, Problem> {
    let Some(text) = text else { return Ok(PAGE) };
    text.parse()
        .ok()
        .filter(|limit| (1..=MAX_PAGE).contains(limit))
        .ok_or_else(|| Problem::field("limit", format!("not 1 to {MAX_PAGE}")))
}

/// The query, where a list can be filtered.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Service> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Service) -> Result<Self, Problem> {
        axum::extract::Query::<T>::try_from_uri(&parts.uri)
            .map(|query| Self(query.0))
            .map_err(|error| Problem::new(Kind::BadRequest, error.body_text()).at("query"))
    }
}

/// A body of JSON.
pub(crate) struct Body<T> {
    pub(crate) value: T,
    /// SHA-256 over method, path and body: two requests with this in common are one, repeated.
    pub(crate) request: [u8; 32],
}

impl<T: DeserializeOwned> FromRequest<Service> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Service) -> Result<Self, Problem> {
        let media = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let media = media.and_then(|text| text.split(';').next()).map(str::trim);
        if !media.is_some_and(|media| media.eq_ignore_ascii_case("application/json")) {
            return Err(Problem::new(Kind::NotJson, "").at("Content-Type"));
        }
        let hash = Sha256::new()
            .chain_update(request.method().as_str())
            .chain_update(b" ")
            .chain_update(request.uri().path())
            .chain_update(b"\0");
        let body = axum::body::to_bytes(request.into_body(), MAX_BODY);
        let body = tokio::time::timeout(BODY_TIME, body)
            .await
            .map_err(|_| Problem::new(Kind::Timeout, "the body took too long"))?
            .map_err(unreadable)?;
        let request = hash.chain_update(&body).finalize().into();
        let mut json = serde_json::Deserializer::from_slice(&body);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| wrong(&error))?;
        json.end().map_err(|error| Problem::new(Kind::BadRequest, error))?;
        Ok(Self { value, request })
    }
}

fn unreadable(error: axum::Error) -> Problem {
    let error = error.into_inner();
    if error.is::<http_body_util::LengthLimitError>() {
        Problem::new(Kind::BodyTooLarge, format!("more than {MAX_BODY} octets"))
    } else {
        Problem::new(Kind::BadRequest, "the body broke off")
    }
}

/// What is wrong with a body, and at which field.
fn wrong(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let (inner, path) = (error.inner(), error.path().to_string());
    let message: String = inner.to_string().chars().filter(|c| !c.is_control()).take(300).collect();
    if inner.classify() != serde_json::error::Category::Data {
        return Problem::new(Kind::BadRequest, message);
    }
    // For a field that is missing or unknown the path ends above it, and the message names it.
    let named = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|start| message.strip_prefix(start))
        .and_then(|rest| rest.split_once('`'))
        .map(|(name, _)| name.to_owned());
    let field = named.unwrap_or(path);
    let field = field.chars().filter(|c| !c.is_control()).take(100).collect::<String>();
    Problem::new(Kind::BadField, message).at(field)
}
