//! The token: where it comes from, and that it does not end unnoticed.

use super::answer::{self, Login, Lookup};
use super::http::{Ask, Failure, Http};
use core::time::Duration;
use scep_types::Secret;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Mutex;
use zeroize::Zeroize;

/// How long a token is used on that could not be renewed just now.
const PATIENCE: Duration = Duration::from_secs(10);

/// The name of trouble with the token.
const LOGIN: &str = "login";

/// How the adapter proves itself to the server. Never in the text of a configuration: a file or the environment.
#[derive(Debug)]
pub enum Authentication {
    /// This token.
    Token(Secret<String>),
    /// The token in this file: its first line. Read again when the server takes the present one no more, as an agent
    /// replaces the file.
    TokenFile(PathBuf),
    /// A login by AppRole.
    AppRole {
        /// Where the method is mounted: `approle`.
        mount: String,
        /// role_id.
        role_id: String,
        /// secret_id.
        secret_id: SecretId,
    },
}

/// Where an AppRole's secret_id is.
#[derive(Debug)]
pub enum SecretId {
    /// Here.
    Value(Secret<String>),
    /// In the first line of this file, read at each login.
    File(PathBuf),
}

struct Token {
    value: Arc<Secret<String>>,
    /// When half of its life is over; `None`: it has no end.
    renew_at: Option<Instant>,
    renewable: bool,
}

/// A session, begun at the first call.
pub(super) struct Session {
    by: Authentication,
    token: Mutex<Option<Token>>,
}

impl core::fmt::Debug for Session {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Session").field("by", &self.by).finish_non_exhaustive()
    }
}

fn half(seconds: u64) -> Option<Instant> {
    let life = (seconds > 0).then_some(Duration::from_secs(seconds))?;
    Instant::now().checked_add(life.checked_div(2)?)
}

fn first_line(path: &PathBuf) -> Result<Secret<String>, Failure> {
    let mut text = std::fs::read_to_string(path)
        .map_err(|error| Failure::unsendable(format!("{}: {error}", path.display())))?;
    let line = text.lines().next().unwrap_or_default().trim().to_owned();
    text.zeroize();
    if line.is_empty() {
        return Err(Failure::unsendable(format!("{} is empty", path.display())));
    }
    Ok(Secret::new(line))
}

fn token(body: &[u8]) -> Result<Token, Failure> {
    let login: Login =
        serde_json::from_slice(body).map_err(|error| Failure::Unclear(error.to_string()))?;
    let auth = login.auth;
    Ok(Token {
        value: Arc::new(Secret::new(auth.client_token)),
        renew_at: half(auth.lease_duration),
        renewable: auth.renewable,
    })
}

impl Session {
    pub(super) fn new(by: Authentication) -> Self {
        Self { by, token: Mutex::new(None) }
    }

    /// A token that is good as far as is known; renewed when half of its life is over. `refused`: one that the server
    /// takes no more.
    pub(super) async fn token(
        &self,
        http: &Http,
        refused: Option<&Arc<Secret<String>>>,
    ) -> Result<Arc<Secret<String>>, Failure> {
        let mut held = self.token.lock().await;
        if let (Some(token), Some(refused)) = (&*held, refused)
            && Arc::ptr_eq(&token.value, refused)
        {
            *held = None;
        }
        if let Some(token) = &mut *held {
            if token.renew_at.is_none_or(|at| Instant::now() < at) {
                return Ok(Arc::clone(&token.value));
            }
            if token.renewable {
                let ask = Ask::Post(&serde_json::Value::Object(serde_json::Map::new()));
                let renewed = http.exchange("auth/token/renew-self", ask, Some(&token.value)).await;
                match renewed.and_then(|body| self::token(&body)) {
                    Ok(new) => {
                        token.renew_at = new.renew_at;
                        token.renewable = new.renewable;
                        return Ok(Arc::clone(&token.value));
                    }
                    // It is used up: another one is needed.
                    Err(Failure::Refused { .. }) => {}
                    Err(Failure::NotSent { why, .. } | Failure::Unclear(why)) => {
                        tracing::warn!(target: "scep", why, "the CA's token cannot be renewed now");
                        token.renew_at = Instant::now().checked_add(PATIENCE);
                        return Ok(Arc::clone(&token.value));
                    }
                }
            }
        }
        let new = match self.log_in(http).await {
            Ok(new) => new,
            Err(failure) => {
                http.health().bad(LOGIN, &failure.to_string());
                return Err(failure);
            }
        };
        http.health().good(LOGIN);
        let value = Arc::clone(&new.value);
        *held = Some(new);
        Ok(value)
    }

    /// Whether the token was made by somebody else, who may also end it.
    pub(super) const fn is_anothers(&self) -> bool {
        match self.by {
            Authentication::Token(_) | Authentication::TokenFile(_) => true,
            Authentication::AppRole { .. } => false,
        }
    }

    async fn log_in(&self, http: &Http) -> Result<Token, Failure> {
        match &self.by {
            Authentication::Token(token) => known(http, Secret::new(token.expose().clone())).await,
            Authentication::TokenFile(path) => known(http, first_line(path)?).await,
            Authentication::AppRole { mount, role_id, secret_id } => {
                let secret_id = match secret_id {
                    SecretId::Value(value) => Secret::new(value.expose().clone()),
                    SecretId::File(path) => first_line(path)?,
                };
                let body = json!({ "role_id": role_id, "secret_id": secret_id.expose() });
                let path = format!("auth/{mount}/login");
                http.exchange(&path, Ask::Post(&body), None).await.and_then(|body| token(&body))
            }
        }
    }
}

/// A token that was made elsewhere, with what it says of its end.
async fn known(http: &Http, value: Secret<String>) -> Result<Token, Failure> {
    let body = http.exchange("auth/token/lookup-self", Ask::Get, Some(&value)).await?;
    let lookup: Lookup = answer::data(&body).map_err(Failure::Unclear)?;
    Ok(Token { value: Arc::new(value), renew_at: half(lookup.ttl), renewable: lookup.renewable })
}
