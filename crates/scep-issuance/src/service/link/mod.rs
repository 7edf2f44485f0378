//! The endpoints for connectors, `/connector/v1/…`, as PROTOCOL.md of `scep-link` specifies them.
//!
//! - `caller`: which connector has sent a request, by its TLS certificate
//! - `answer`: successes and problems as the protocol has them
//! - `enrol`, `renew`: a connector's identity and keys
//! - `possession`: that it has the key that challenges are encrypted to
//! - `keys`: which keys may be used, and which one challenges of a group are encrypted to
//! - `check_in`: what a connector is told
//! - `contact`: what a connector has last said of itself, and what of that is alarming
//! - `issuer_keys`: what signs challenges and commands, and who is known to have which
//! - `told`: what a connector was told and has taken in
//! - `turn`: one check-in of a connector at a time
//! - `reports`, `revocations`: what it tells

mod answer;
mod caller;
mod check_in;
pub(crate) mod contact;
mod enrol;
pub(crate) mod issuer_keys;
pub(crate) mod keys;
mod lineage;
pub(crate) mod possession;
mod renew;
mod reports;
mod revocations;
#[cfg(test)]
mod tests;
pub(crate) mod told;
pub(crate) mod turn;

pub(crate) use caller::{PeerCertificate, Transport};
pub use issuer_keys::{IssuerKey, IssuerKeys, IssuerKeysError};

use crate::service::Service;
use axum::Router;
use axum::routing::post;
use scep_ca::LocalCa;
use scep_types::SpkiHash;

/// What the issuer needs to speak with connectors.
#[derive(Clone, Debug)]
pub struct Link {
    /// Certifies connectors, and nobody else.
    pub connector_ca: LocalCa,
    /// SHA-256 over the SubjectPublicKeyInfo of each TLS key of the issuer, the present one first: what a connector
    /// accepts.
    pub tls_pins: Vec<SpkiHash>,
}

/// The routes.
pub(crate) fn router() -> Router<Service> {
    Router::new()
        .route("/connector/v1/enrol", post(enrol::enrol))
        .route("/connector/v1/check-in", post(check_in::check_in))
        .route("/connector/v1/reports", post(reports::reports))
        .route("/connector/v1/revocations", post(revocations::results))
        .route("/connector/v1/renew", post(renew::renew))
}
