//! step-ca's webhook of the kind SCEPCHALLENGE: who calls, and what is asked.
//!
//! step-ca posts JSON before it issues by SCEP. Of its fields these are read; others are ignored:
//!
//! ```json
//! {
//!   "scepChallenge": "the challengePassword of the request",
//!   "scepTransactionID": "the transactionID of the message",
//!   "x509CertificateRequest": { "raw": "the request's DER, base64" }
//! }
//! ```
//!
//! and it issues when the answer, of status 200, says so:
//!
//! ```json
//! { "allow": true }
//! ```
//!
//! Besides these it sends `timestamp`, `provisionerName`, and the request's contents as it understands them, which are
//! not needed: they are read from the DER. It takes a status from 400 on for a failure, and from 500 on it asks once
//! more.
//!
//! Two headers say who calls: `X-Smallstep-Webhook-ID`, and `X-Smallstep-Signature`, which is the HMAC-SHA-256 of the
//! body in hexadecimal; its key is the webhook's secret, which step-ca prints in base64. Old versions of step-ca sent
//! the body itself with the HMAC of nothing behind it: that is no signature, as it fits every body, and it is refused.

use crate::error::VerifierError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::HeaderMap;
use serde::Deserialize;
use sha2::Sha256;
use std::path::Path;
use zeroize::Zeroizing;

const SIGNATURE: &str = "x-smallstep-signature";
const ID: &str = "x-smallstep-webhook-id";
/// step-ca makes secrets of 64 octets. What is shorter than this is a mistake.
const SHORTEST_SECRET: usize = 16;

/// What a caller must know.
pub(crate) struct Caller {
    id: String,
    secret: Zeroizing<Vec<u8>>,
}

impl Caller {
    pub(crate) fn load(id: &str, secret: &Path) -> Result<Self, VerifierError> {
        let text =
            Zeroizing::new(std::fs::read_to_string(secret).map_err(VerifierError::file(secret))?);
        let wrong = |why: &str| VerifierError::argument("--webhook-secret-file", why);
        let secret =
            Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| wrong("it is not base64"))?);
        if secret.len() < SHORTEST_SECRET {
            return Err(wrong("it is shorter than 16 octets"));
        }
        if id.is_empty() {
            return Err(VerifierError::argument("--webhook-id", "it is empty"));
        }
        Ok(Self { id: id.to_owned(), secret })
    }

    /// Whether the headers show that the caller knows the secret. Nothing of the body has been read for it but its
    /// octets, and how long it takes says nothing about the right signature.
    pub(crate) fn signed(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), &'static str> {
        let one = |name| {
            let mut all = headers.get_all(name).into_iter();
            match (all.next(), all.next()) {
                (Some(value), None) => Some(value.as_bytes()),
                _ => None,
            }
        };
        let signature = one(SIGNATURE).ok_or("no signature, or several")?;
        let signature = hex::decode(signature).map_err(|_| "the signature is not hexadecimal")?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret)
            .map_err(|_| "the secret cannot be used")?;
        mac.update(body);
        mac.verify_slice(&signature).map_err(|_| "the signature is not by the secret")?;
        // Not secret, and not under the signature: it tells a caller of another webhook with the same secret.
        if one(ID) == Some(self.id.as_bytes()) { Ok(()) } else { Err("another webhook id") }
    }
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "scepChallenge")]
    challenge: String,
    #[serde(rename = "scepTransactionID")]
    transaction_id: String,
    #[serde(rename = "x509CertificateRequest")]
    request: CertificateRequest,
}

#[derive(Deserialize)]
struct CertificateRequest {
    raw: String,
}

/// What is asked.
pub(crate) struct Question {
    pub(crate) challenge: Zeroizing<String>,
    pub(crate) transaction_id: String,
    /// The request, DER.
    pub(crate) request: Vec<u8>,
}

impl Question {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, String> {
        // The error names fields and places, and shows no value of ours.
        let body: Body = serde_json::from_slice(body)
            .map_err(|error| format!("not the JSON of SCEPCHALLENGE: {:?}", error.classify()))?;
        let request = STANDARD
            .decode(body.request.raw)
            .map_err(|_| "x509CertificateRequest.raw is not base64".to_owned())?;
        Ok(Self {
            challenge: Zeroizing::new(body.challenge),
            transaction_id: body.transaction_id,
            request,
        })
    }
}
