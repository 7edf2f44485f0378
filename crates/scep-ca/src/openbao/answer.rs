//! What the server answers, as far as it is read.

use scep_types::{CertificateDer, CertificateError};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Longest text of the server's own that gets into an error.
const MAX_TEXT: usize = 500;

#[derive(Deserialize)]
struct Envelope<T> {
    data: T,
}

/// A new certificate, and one looked up.
#[derive(Debug, Deserialize)]
pub(super) struct Signed {
    pub(super) certificate: String,
}

/// An issuer.
#[derive(Debug, Deserialize)]
pub(super) struct Issuer {
    pub(super) certificate: String,
    #[serde(default)]
    pub(super) ca_chain: Vec<String>,
    pub(super) issuer_id: String,
}

/// A revocation.
#[derive(Debug, Deserialize)]
pub(super) struct Revocation {
    pub(super) revocation_time: i64,
}

/// Serial numbers.
#[derive(Debug, Deserialize)]
pub(super) struct Keys {
    pub(super) keys: Vec<String>,
}

/// A token as it knows itself.
#[derive(Debug, Deserialize)]
pub(super) struct Lookup {
    /// Seconds; 0: for ever.
    pub(super) ttl: u64,
    #[serde(default)]
    pub(super) renewable: bool,
}

/// A login or a renewal.
#[derive(Deserialize)]
pub(super) struct Login {
    pub(super) auth: Auth,
}

/// What a login gives. No `Debug`: the token is in it.
#[derive(Deserialize)]
pub(super) struct Auth {
    pub(super) client_token: String,
    /// Seconds; 0: for ever.
    pub(super) lease_duration: u64,
    #[serde(default)]
    pub(super) renewable: bool,
}

pub(super) fn data<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice::<Envelope<T>>(body)
        .map(|envelope| envelope.data)
        .map_err(|error| error.to_string())
}

/// Why a certificate's text is none.
pub(super) enum NoCertificate {
    /// No PEM.
    Text(String),
    /// No DER.
    Der(CertificateError),
}

pub(super) fn certificate(text: &str) -> Result<CertificateDer, NoCertificate> {
    let block = pem::parse(text).map_err(|error| NoCertificate::Text(error.to_string()))?;
    CertificateDer::parse(block.contents()).map_err(NoCertificate::Der)
}

/// What the server complains of, in one line for a log.
pub(super) fn errors(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    let text = match serde_json::from_slice::<Errors>(body) {
        Ok(said) if !said.errors.is_empty() => said.errors.join("; "),
        Ok(_) => "without a reason".to_owned(),
        Err(_) => "not in the server's own words".to_owned(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect()
}
