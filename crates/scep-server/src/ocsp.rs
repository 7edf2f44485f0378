//! OCSP over HTTP (RFC 6960, appendix A): what a certificate's status is at this moment.
//!
//! The ledger is asked for every request, so no answer is older than what it knows; answers that were signed before are
//! given again only for as long as it still says the same. Signing at a stranger's will is bounded by two budgets: one
//! for certificates that exist, whose serial numbers nobody guesses, and a smaller one for everything that cannot be
//! kept: nonces, several certificates at once, and serial numbers that were never issued.

use crate::budget::Budget;
use crate::gateway::Gateway;
use crate::http::{Body, busy, plain, with_type};
use crate::source::source;
use crate::upload::UploadError;
use core::time::Duration;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use scep_ca::{
    CertId, MAX_OCSP_REQUEST, OcspFailure, OcspIssuer, OcspRequest, OcspSigner, OcspStatement,
    OcspStatus,
};
use scep_ledger::CertificateStatus;
use scep_types::{SpkiHash, Timestamp};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Where OCSP is served, and for how long an answer is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OcspSettings {
    /// The path; it goes before every endpoint. Requests by GET stand below it.
    pub path: String,
    /// From thisUpdate to nextUpdate: for as long a client may take a revoked certificate for good without asking
    /// again.
    pub validity: Duration,
}

impl Default for OcspSettings {
    /// `/ocsp`, one hour.
    fn default() -> Self {
        Self { path: "/ocsp".into(), validity: Duration::from_secs(3_600) }
    }
}

/// How many signed answers are kept: about a kilobyte each.
const KEPT: usize = 8_192;
/// Signatures for certificates that exist: at once, and more each second.
const FOR_KNOWN: u32 = 256;
/// Signatures for whatever else is asked.
const FOR_STRANGERS: u32 = 64;

/// Who answers.
#[derive(Clone, Debug)]
pub(crate) struct Responder {
    settings: OcspSettings,
    issuer: OcspIssuer,
    signer: OcspSigner,
}

impl Responder {
    pub(crate) const fn new(
        settings: OcspSettings,
        issuer: OcspIssuer,
        signer: OcspSigner,
    ) -> Self {
        Self { settings, issuer, signer }
    }

    pub(crate) fn key(&self) -> SpkiHash {
        self.signer.certificate().spki().hash()
    }

    /// What stands below the path: nothing, or the request of a GET. `None`: it is not this responder's.
    fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(self.settings.path.as_str())?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
    }
}

/// Signed answers by the octets of the CertID, and what may still be signed.
#[derive(Debug)]
pub(crate) struct Answers {
    kept: Mutex<HashMap<Vec<u8>, Kept>>,
    known: Budget,
    strangers: Budget,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            known: Budget::new(FOR_KNOWN),
            strangers: Budget::new(FOR_STRANGERS),
        }
    }
}

#[derive(Clone, Debug)]
struct Kept {
    status: OcspStatus,
    from: Timestamp,
    /// From then on a new one is signed.
    until: Timestamp,
    der: Bytes,
}

impl Answers {
    /// The kept answer, if it says what is true now.
    fn get(&self, id: &CertId, status: OcspStatus, now: Timestamp) -> Option<Bytes> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.get(id.as_der())?;
        let fits = kept.status == status && kept.from <= now && now < kept.until;
        fits.then(|| kept.der.clone())
    }

    fn put(&self, id: &CertId, answer: Kept) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT && !kept.contains_key(id.as_der()) {
            // Any other: it costs one signature to have it again.
            if let Some(other) = kept.keys().next().cloned() {
                kept.remove(&other);
            }
        }
        kept.insert(id.as_der().to_vec(), answer);
    }
}

impl Gateway {
    /// Answers what is asked at the responder's path; `Err` gives back what is asked elsewhere.
    pub(crate) async fn ocsp_response(
        &self,
        request: Request<Incoming>,
        client: IpAddr,
    ) -> Result<Response<Body>, Request<Incoming>> {
        let path = request.uri().path();
        let found = self.inner.offices.iter().find_map(|office| {
            let responder = office.responder.get();
            let below = (*responder).as_ref()?.below(path)?.to_owned();
            Some((office, responder, below))
        });
        let Some((office, responder, below)) = found else { return Err(request) };
        let Some(responder) = &*responder else { return Err(request) };
        let der = match *request.method() {
            Method::GET => from_path(&below),
            Method::POST => {
                let limits = &self.inner.parts.limits;
                let body =
                    self.inner.uploads.read(source(client), request.into_body(), MAX_OCSP_REQUEST);
                match tokio::time::timeout(limits.body_timeout, body).await {
                    Ok(Ok(body)) => Some(body),
                    Ok(Err(UploadError::NoRoom)) => return Ok(busy()),
                    Ok(Err(UploadError::TooLong | UploadError::Broken)) => None,
                    Err(_) => return Ok(plain(StatusCode::REQUEST_TIMEOUT, "too slow\n")),
                }
            }
            _ => {
                let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET or POST\n");
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
                return Ok(response);
            }
        };
        let answer = match der {
            Some(der) => self.ocsp_answer(responder, &office.answers, &der).await,
            None => Err(OcspFailure::MalformedRequest),
        };
        let body = answer.unwrap_or_else(|failure| Bytes::from(failure.to_der()));
        let mut response =
            with_type(StatusCode::OK, "application/ocsp-response", Body::shared(body));
        // Nothing on the way may say `good` after a revocation.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    async fn ocsp_answer(
        &self,
        responder: &Responder,
        answers: &Answers,
        der: &[u8],
    ) -> Result<Bytes, OcspFailure> {
        let request = OcspRequest::parse(der).map_err(|error| {
            tracing::debug!(target: "scep", %error, "OCSP request");
            OcspFailure::MalformedRequest
        })?;
        if !request.certificates.iter().all(|id| responder.issuer.is_named_by(id)) {
            return Err(OcspFailure::Unauthorized);
        }
        let ledger = self.ledger();
        let not_now = |error| {
            tracing::error!(target: "scep", %error, "OCSP: the ledger cannot be asked");
            OcspFailure::TryLater
        };
        let now = ledger.effective_now(self.inner.parts.clock.now()).await.map_err(not_now)?.now;
        let mut said = Vec::new();
        for id in request.certificates {
            let found = match id.serial() {
                Some(serial) => ledger
                    .certificate_status(responder.issuer.name(), &serial)
                    .await
                    .map_err(not_now)?,
                None => None,
            };
            said.push((id, status(found)));
        }
        let kept = match said.as_slice() {
            [(id, status)] if *status != OcspStatus::Unknown => Some((id.clone(), *status)),
            _ => None,
        };
        let fresh = request.nonce.is_some() || kept.is_none();
        if fresh && answers.strangers.take(now) {
            return self.ocsp_sign(responder, said, request.nonce, now).await;
        }
        // Without the nonce then, as from a responder that knows none: it says how old it is.
        let Some((id, status)) = kept else { return Err(OcspFailure::TryLater) };
        if let Some(der) = answers.get(&id, status, now) {
            return Ok(der);
        }
        if !answers.known.take(now) {
            return Err(OcspFailure::TryLater);
        }
        let der = self.ocsp_sign(responder, said, None, now).await?;
        let end = responder.signer.certificate().not_after();
        let until = now.plus(responder.settings.validity / 2).min(end);
        answers.put(&id, Kept { status, from: now, until, der: der.clone() });
        Ok(der)
    }

    async fn ocsp_sign(
        &self,
        responder: &Responder,
        said: Vec<(CertId, OcspStatus)>,
        nonce: Option<Vec<u8>>,
        now: Timestamp,
    ) -> Result<Bytes, OcspFailure> {
        let (signer, validity) = (responder.signer.clone(), responder.settings.validity);
        let signed = tokio::task::spawn_blocking(move || {
            let statements: Vec<OcspStatement<'_>> = said
                .iter()
                .map(|(certificate, status)| OcspStatement { certificate, status: *status })
                .collect();
            signer.sign(&statements, nonce.as_deref(), now, validity)
        })
        .await;
        match signed {
            Ok(Ok(der)) => Ok(Bytes::from(der)),
            Ok(Err(error)) => {
                tracing::error!(target: "scep", %error, "OCSP: no answer can be signed");
                Err(OcspFailure::TryLater)
            }
            Err(_) => Err(OcspFailure::InternalError),
        }
    }
}

/// What is said about what the ledger knows. A certificate that was withheld is in nobody's hands that should have it:
/// it is not known to be good, and not revoked yet.
fn status(found: Option<CertificateStatus>) -> OcspStatus {
    match found {
        Some(CertificateStatus::Issued) => OcspStatus::Good,
        Some(CertificateStatus::Revoked { at, reason }) => OcspStatus::Revoked { at, reason },
        Some(CertificateStatus::Withheld) | None => OcspStatus::Unknown,
    }
}

/// The request of a GET: base64 with `+`, `/` and `=` escaped, or not.
fn from_path(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    // Three octets for each of four characters, each of which may be escaped.
    if text.is_empty() || text.len() > MAX_OCSP_REQUEST.saturating_mul(4) {
        return None;
    }
    base64::engine::general_purpose::STANDARD.decode(crate::store::unescape(text)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_of_a_get_is_base64_escaped_or_not() {
        for text in ["+/8=", "%2B%2F8%3D", "%2b/8%3d"] {
            assert_eq!(from_path(text), Some(vec![0xfb, 0xff]), "{text}");
        }
        for text in ["", "+/8", "+/8=%", "+/8%3", "+/8%zz", "-_8=", "+ 8="] {
            assert_eq!(from_path(text), None, "{text}");
        }
        assert_eq!(from_path(&"A".repeat(MAX_OCSP_REQUEST * 4 + 4)), None);
    }
}
