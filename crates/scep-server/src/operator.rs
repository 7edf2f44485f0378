//! What operators do while the gateway runs: see the requests that wait for a person, and decide on them. On the loopback
//! listener, and with a token: whoever else has an account on this machine may read metrics and must not approve.

use crate::gateway::Gateway;
use crate::http::{Body, plain, respond};
use core::fmt;
use core::time::Duration;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use scep_ledger::{HeldRequest, HeldState, HeldVerdict, LedgerError};
use scep_types::Secret;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use thiserror::Error;

/// Shorter ones could be guessed.
const MIN_TOKEN: usize = 32;
const MAX_TOKEN: usize = 256;
const MAX_PERSON: usize = 128;
/// `{"person": "..."}`
const MAX_BODY: usize = 4096;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_PAGE: u32 = 100;
const MAX_PAGE: u32 = 1000;

/// What an operator's program shows on the loopback listener.
#[derive(Debug)]
pub struct OperatorToken(Secret<String>);

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a token has {MIN_TOKEN} to {MAX_TOKEN} visible ASCII characters")]
pub struct OperatorTokenError;

impl OperatorToken {
    /// From 32 to 256 visible ASCII characters.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn new(text: Secret<String>) -> Result<Self, OperatorTokenError> {
        let fits = (MIN_TOKEN..=MAX_TOKEN).contains(&text.expose().len());
        if fits && text.expose().bytes().all(|octet| octet.is_ascii_graphic()) {
            Ok(Self(text))
        } else {
            Err(OperatorTokenError)
        }
    }

    /// In constant time for texts of its length.
    fn is(&self, presented: &[u8]) -> bool {
        self.0.expose().as_bytes().ct_eq(presented).into()
    }
}

/// Who decides: 1 to 128 characters that can be printed, not blank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person(String);

/// Why a text names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a person's name has 1 to {MAX_PERSON} characters, none of them a control character")]
pub struct PersonError;

impl Person {
    /// From text.
    ///
    /// # Errors
    /// When it is empty, too long or cannot be printed.
    pub fn new(text: &str) -> Result<Self, PersonError> {
        let text = text.trim();
        let fits = (1..=MAX_PERSON).contains(&text.chars().count());
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(PersonError)
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request that waits, or was decided on and not fetched since, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HeldDocument {
    /// Its number.
    pub row: u64,
    /// `waiting`, `approved` or `denied`.
    pub state: String,
    /// Who has decided.
    pub person: Option<String>,
    /// When.
    pub decided_at: Option<String>,
    /// Whose.
    pub tenant: String,
    /// For which device.
    pub device: String,
    /// By which profile.
    pub profile: String,
    /// For which user.
    pub user: Option<String>,
    /// Under which challenge.
    pub challenge: String,
    /// Of which CA.
    pub authority: String,
    /// transactionID.
    pub transaction: String,
    /// The subject that will be certified.
    pub subject: String,
    /// Its subjectAltNames.
    pub subject_alt_names: Vec<String>,
    /// SHA-256 of the key that will be certified (its SubjectPublicKeyInfo).
    pub spki_sha256: String,
    /// When it came.
    pub asked_at: String,
    /// When it is over.
    pub until: String,
}

impl From<&HeldRequest> for HeldDocument {
    fn from(held: &HeldRequest) -> Self {
        let (state, person, decided_at) = match &held.state {
            HeldState::Waiting => ("waiting", None, None),
            HeldState::Decided { verdict, person, at } => {
                (past(*verdict), Some(person.clone()), Some(at.to_string()))
            }
        };
        Self {
            row: held.row,
            state: state.to_owned(),
            person,
            decided_at,
            tenant: held.tenant.to_string(),
            device: held.device.to_string(),
            profile: held.profile.to_string(),
            user: held.user.as_ref().map(ToString::to_string),
            challenge: held.challenge.to_string(),
            authority: held.authority.to_string(),
            transaction: held.transaction.to_string(),
            subject: held.subject.clone(),
            subject_alt_names: held.subject_alt_names.clone(),
            spki_sha256: held.spki.to_string(),
            asked_at: held.asked_at.to_string(),
            until: held.until.to_string(),
        }
    }
}

const fn past(verdict: HeldVerdict) -> &'static str {
    match verdict {
        HeldVerdict::Approve => "approved",
        HeldVerdict::Deny => "denied",
    }
}

/// `GET /held`.
#[derive(Debug, Serialize)]
struct Page {
    held: Vec<HeldDocument>,
    /// `after` of the next page; null: this was the last.
    next: Option<u64>,
}

/// Body of `POST /held/{row}/approve` and `/deny`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Decision {
    person: String,
}

/// Its answer.
#[derive(Debug, Serialize)]
struct Decided<'a> {
    row: u64,
    state: &'static str,
    person: &'a str,
}

#[derive(Debug, Serialize)]
struct Wrong<'a> {
    error: &'a str,
}

/// What is asked for, once the token was right.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    List { limit: u32, after: Option<u64> },
    Decide { row: u64, verdict: HeldVerdict },
    WrongMethod(&'static str),
    WrongQuery,
    Nothing,
}

impl Route {
    fn of(method: &Method, path: &str, query: Option<&str>) -> Self {
        let mut steps = path.split('/').skip(1);
        if steps.next() != Some("held") {
            return Self::Nothing;
        }
        match (steps.next(), steps.next(), steps.next()) {
            (None, ..) if method == Method::GET => Self::list(query),
            (None, ..) => Self::WrongMethod("GET"),
            (Some(row), Some(word), None) => {
                let verdict = match word {
                    "approve" => HeldVerdict::Approve,
                    "deny" => HeldVerdict::Deny,
                    _ => return Self::Nothing,
                };
                match row.parse() {
                    Ok(_) if method != Method::POST => Self::WrongMethod("POST"),
                    Ok(row) => Self::Decide { row, verdict },
                    Err(_) => Self::Nothing,
                }
            }
            _ => Self::Nothing,
        }
    }

    fn list(query: Option<&str>) -> Self {
        let (mut limit, mut after) = (DEFAULT_PAGE, None);
        for pair in query.into_iter().flat_map(|query| query.split('&')) {
            match pair.split_once('=') {
                Some(("limit", n)) => match n.parse() {
                    Ok(n @ 1..=MAX_PAGE) => limit = n,
                    _ => return Self::WrongQuery,
                },
                Some(("after", n)) => match n.parse() {
                    Ok(n) => after = Some(n),
                    Err(_) => return Self::WrongQuery,
                },
                _ => return Self::WrongQuery,
            }
        }
        Self::List { limit, after }
    }
}

/// Whether a path is the operators'.
pub(crate) fn serves(path: &str) -> bool {
    path == "/held" || path.starts_with("/held/")
}

impl Gateway {
    /// What operators' programs show to see and decide on what waits, at `/held` of [`Gateway::run_admin`]'s listener, from the
    /// next request on. Without a token, as at the start, nothing is served there.
    pub fn set_operator_token(&self, token: Option<OperatorToken>) {
        self.inner.operators.set(token);
    }

    pub(crate) async fn operator(&self, request: Request<Incoming>) -> Response<Body> {
        let token = self.inner.operators.get();
        let Some(token) = &*token else {
            return plain(StatusCode::NOT_FOUND, "/healthz or /metrics\n");
        };
        // Before anything is told of what there is.
        if !bearer(request.headers()).is_some_and(|presented| token.is(presented)) {
            tracing::warn!(target: "scep", "somebody on this machine asked for what operators do, without their token");
            let mut response = wrong(StatusCode::UNAUTHORIZED, "the operators' token is needed");
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return response;
        }
        let uri = request.uri();
        match Route::of(request.method(), uri.path(), uri.query()) {
            Route::List { limit, after } => self.list_held(limit, after).await,
            Route::Decide { row, verdict } => self.take_decision(row, verdict, request).await,
            Route::WrongMethod(right) => {
                let mut response = wrong(StatusCode::METHOD_NOT_ALLOWED, "another method");
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(right));
                response
            }
            Route::WrongQuery => {
                wrong(StatusCode::BAD_REQUEST, "limit=1 to 1000 and after=ROW only")
            }
            Route::Nothing => wrong(StatusCode::NOT_FOUND, "no such thing"),
        }
    }

    async fn list_held(&self, limit: u32, after: Option<u64>) -> Response<Body> {
        match self.ledger().held(limit, after).await {
            Ok(held) => {
                let full = held.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
                let next = held.last().filter(|_| full).map(|last| last.row);
                let held = held.iter().map(HeldDocument::from).collect();
                json(StatusCode::OK, &Page { held, next })
            }
            Err(error) => wrong(StatusCode::SERVICE_UNAVAILABLE, &format!("ledger: {error}")),
        }
    }

    async fn take_decision(
        &self,
        row: u64,
        verdict: HeldVerdict,
        request: Request<Incoming>,
    ) -> Response<Body> {
        if !is_json(request.headers()) {
            let what = "the body must be application/json";
            return wrong(StatusCode::UNSUPPORTED_MEDIA_TYPE, what);
        }
        let body = Limited::new(request.into_body(), MAX_BODY).collect();
        let body = match tokio::time::timeout(BODY_TIMEOUT, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => return wrong(StatusCode::BAD_REQUEST, "the body cannot be read"),
            Err(_) => return wrong(StatusCode::REQUEST_TIMEOUT, "the body did not come"),
        };
        let person = serde_json::from_slice::<Decision>(&body)
            .map_err(|error| error.to_string())
            .and_then(|decision| Person::new(&decision.person).map_err(|error| error.to_string()));
        let person = match person {
            Ok(person) => person,
            Err(error) => return wrong(StatusCode::BAD_REQUEST, &error),
        };
        match self.decide_held(row, verdict, &person).await {
            Ok(()) => {
                let decided = Decided { row, state: past(verdict), person: person.as_str() };
                json(StatusCode::OK, &decided)
            }
            Err(error @ LedgerError::NotHeld) => wrong(StatusCode::CONFLICT, &error.to_string()),
            Err(error) => wrong(StatusCode::SERVICE_UNAVAILABLE, &format!("ledger: {error}")),
        }
    }

    /// A person approves or refuses a request that waits, by its row ([`scep_ledger::Ledger::held`] lists them). Its device
    /// gets the certificate when it asks next.
    ///
    /// # Errors
    /// [`LedgerError::NotHeld`] when no such request waits, or it was decided otherwise; otherwise when it cannot be made
    /// durable.
    pub async fn decide_held(
        &self,
        row: u64,
        verdict: HeldVerdict,
        person: &Person,
    ) -> Result<(), LedgerError> {
        let parts = &self.inner.parts;
        let now = parts.ledger.effective_now(parts.clock.now()).await?.now;
        parts.ledger.decide_held(row, verdict, person.as_str(), now).await?;
        tracing::info!(target: "scep", row, verdict = past(verdict), %person, "decided on a request");
        Ok(())
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let value = all.next()?.as_bytes();
    if all.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// No form of a web page can send it without the browser asking first (CORS), and nothing here would answer that.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = value.and_then(|value| value.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn json(status: StatusCode, document: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(document) {
        Ok(mut text) => {
            text.push(b'\n');
            respond(status, "application/json", text)
        }
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "it cannot be written\n"),
    }
}

fn wrong(status: StatusCode, error: &str) -> Response<Body> {
    json(status, &Wrong { error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_few_and_exact() {
        let (get, post) = (Method::GET, Method::POST);
        let list = |limit, after| Route::List { limit, after };
        let decide = |row, verdict| Route::Decide { row, verdict };
        for (method, path, query, route) in [
            (&get, "/held", None, list(100, None)),
            (&get, "/held", Some("limit=1&after=41"), list(1, Some(41))),
            (&get, "/held", Some("limit=1001"), Route::WrongQuery),
            (&get, "/held", Some("limit=0"), Route::WrongQuery),
            (&get, "/held", Some("after=-1"), Route::WrongQuery),
            (&get, "/held", Some("token=x"), Route::WrongQuery),
            (&post, "/held", None, Route::WrongMethod("GET")),
            (&post, "/held/7/approve", None, decide(7, HeldVerdict::Approve)),
            (&post, "/held/7/deny", None, decide(7, HeldVerdict::Deny)),
            (&get, "/held/7/deny", None, Route::WrongMethod("POST")),
            (&post, "/held/x/deny", None, Route::Nothing),
            (&post, "/held/7/", None, Route::Nothing),
            (&post, "/held/7/deny/", None, Route::Nothing),
            (&get, "/held/", None, Route::Nothing),
            (&get, "/heldx", None, Route::Nothing),
        ] {
            assert_eq!(Route::of(method, path, query), route, "{method} {path} {query:?}");
        }
    }

    #[test]
    fn tokens_are_long_and_people_have_names() {
        let token = |text: &str| OperatorToken::new(Secret::new(text.to_owned()));
        let good = "0123456789abcdef0123456789abcdef";
        assert!(token(good).unwrap().is(good.as_bytes()));
        assert!(!token(good).unwrap().is(&good.as_bytes()[1..]));
        assert!(!token(good).unwrap().is(good.to_uppercase().as_bytes()));
        for bad in [&good[1..], "", &"x".repeat(257), &format!("{good}\n"), &format!("{good} a")] {
            assert_eq!(token(bad).unwrap_err(), OperatorTokenError);
        }
        assert_eq!(Person::new(" Alice Ümit ").unwrap().as_str(), "Alice Ümit");
        for bad in ["", "  ", "a\nb", "\u{1b}[2J", &"x".repeat(129)] {
            assert_eq!(Person::new(bad), Err(PersonError), "{bad:?}");
        }
    }
}
