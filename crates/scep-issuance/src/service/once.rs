//! Idempotency keys: a POST that is repeated has one effect and one answer.
//!
//! An answer may hold a challenge, which the database must not know. What it keeps for 24 hours is encrypted under a
//! key made of the caller's token and idempotency key, neither of which it has. Only answers to what was done are
//! kept: a refusal is decided anew.

use crate::service::Service;
use crate::service::db::{Tx, values};
use crate::service::problem::{Kind, Problem};
use crate::service::request::{Authorised, Needs};
use crate::service::store::StoreError;
use aes_gcm::aead::{Aead as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Key};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use core::time::Duration;
use scep_types::{Secret, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);
const MAX_KEY: usize = 128;
const NONCE: usize = 12;
pub(crate) const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The request's idempotency key, if it has one.
pub(crate) struct Once(Option<String>);

impl<S: Sync> FromRequestParts<S> for Once {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut all = parts.headers.get_all(HEADER).iter();
        let (first, second) = (all.next(), all.next());
        let Some(value) = first else { return Ok(Self(None)) };
        let good = |text: &&str| {
            (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
        };
        match (value.to_str().ok().filter(good), second) {
            (Some(key), None) => Ok(Self(Some(key.to_owned()))),
            _ => {
                let why = format!("not one key of 1 to {MAX_KEY} visible ASCII characters");
                Err(Problem::new(Kind::BadRequest, why).at("Idempotency-Key"))
            }
        }
    }
}

/// What was done, as answered.
#[derive(Serialize, Deserialize)]
pub(crate) struct Done {
    status: u16,
    location: String,
    body: String,
}

impl Done {
    /// Something was made, and is to be found there.
    pub(crate) fn created(location: String, body: &impl Serialize) -> Result<Self, Problem> {
        let body = json(body)?;
        Ok(Self { status: StatusCode::CREATED.as_u16(), location, body })
    }

    /// Something was changed, and is to be found there.
    pub(crate) fn changed(location: String, body: &impl Serialize) -> Result<Self, Problem> {
        Ok(Self { status: StatusCode::OK.as_u16(), location, body: json(body)? })
    }

    fn respond(self, replayed: bool) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::CREATED);
        let mut response = (status, self.body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(location) = HeaderValue::from_str(&self.location) {
            headers.insert(header::LOCATION, location);
        }
        if replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

fn json(value: &impl Serialize) -> Result<String, Problem> {
    serde_json::to_string(value).map_err(|error| Problem::new(Kind::Internal, error))
}

struct Keys {
    id: [u8; 32],
    key: Secret<[u8; 32]>,
}

impl Keys {
    fn new(root: &[u8; 32], key: &str) -> Self {
        let derive = |purpose: &[u8]| -> [u8; 32] {
            let hash = Sha256::new().chain_update(purpose).chain_update(root);
            hash.chain_update(key).finalize().into()
        };
        Self { id: derive(b"id\0"), key: Secret::new(derive(b"key\0")) }
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(&Key::<Aes256Gcm>::from(*self.key.expose()))
    }

    fn find(
        &self,
        tx: &Tx<'_>,
        request: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<Done>, Problem> {
        let found: Option<([u8; 32], Vec<u8>)> = tx.one(
            "SELECT request, answer FROM idempotency WHERE id = ?1 AND expires_at > ?2",
            values![&self.id, now.seconds()],
            |row| Ok::<_, StoreError>((row.get(0)?, row.get(1)?)),
        )?;
        let Some((first, answer)) = found else { return Ok(None) };
        if first != *request {
            let why = "it was used for another method, path or body";
            return Err(Problem::new(Kind::IdempotencyKeyReused, why).at("Idempotency-Key"));
        }
        let opened = answer.split_first_chunk::<NONCE>().and_then(|(nonce, sealed)| {
            let plain = self.cipher().decrypt(&(*nonce).into(), sealed).ok()?;
            serde_json::from_slice(&plain).ok()
        });
        let altered = || Problem::new(Kind::Internal, "a kept answer cannot be read");
        opened.map(Some).ok_or_else(altered)
    }

    fn keep(
        &self,
        tx: &Tx<'_>,
        request: &[u8; 32],
        nonce: [u8; NONCE],
        done: &Done,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let plain = Secret::new(json(done)?);
        let sealed = self
            .cipher()
            .encrypt(&nonce.into(), plain.expose().as_bytes())
            .map_err(|_| Problem::new(Kind::Internal, "the answer cannot be kept"))?;
        let answer = [nonce.as_slice(), &sealed].concat();
        tx.execute("DELETE FROM idempotency WHERE expires_at <= ?1", values![now.seconds()])?;
        tx.execute(
            "INSERT INTO idempotency (id, request, answer, expires_at) VALUES (?1, ?2, ?3, ?4)",
            values![&self.id, request, &answer, now.plus(KEPT).seconds()],
        )?;
        Ok(())
    }
}

impl Service {
    /// Does the work in one transaction, or answers as the first time.
    pub(crate) async fn once<S: Needs>(
        &self,
        caller: &Authorised<S>,
        once: Once,
        request: [u8; 32],
        work: impl FnOnce(&Tx<'_>) -> Result<Done, Problem> + Send + 'static,
    ) -> Result<Response, Problem> {
        let keys = once.0.map(|key| Keys::new(&caller.root, &key));
        let now = self.clock.now();
        let mut nonce = [0; NONCE];
        self.provider.random(&mut nonce).map_err(|error| Problem::new(Kind::Internal, error))?;
        let (done, replayed) = self
            .store
            .write(move |tx| {
                let Some(keys) = keys else { return Ok((work(tx)?, false)) };
                if let Some(done) = keys.find(tx, &request, now)? {
                    return Ok((done, true));
                }
                let done = work(tx)?;
                keys.keep(tx, &request, nonce, &done, now)?;
                Ok::<_, Problem>((done, false))
            })
            .await?;
        Ok(done.respond(replayed))
    }
}
