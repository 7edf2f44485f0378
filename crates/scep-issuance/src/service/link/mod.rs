//! The endpoints for connectors, `/connector/v1/…`, as PROTOCOL.md of `scep-link` specifies them.
//!
//! - `caller`: which connector has sent a request, by its TLS certificate
//! - `answer`: successes and problems as the protocol has them
//! - `enrol`, `renew`: a connector's identity and keys
//! - `possession`: that it has the key that challenges are encrypted to
//! - `keys`: which keys may be used, and which one challenges of a group are encrypted to
//! - `check_in`: what a connector is told
//! - `reports`, `revocations`: what it tells

mod answer;
mod caller;
mod check_in;
mod enrol;
pub(crate) mod keys;
pub(crate) mod possession;
mod renew;
mod reports;
mod revocations;

pub(crate) use caller::PeerCertificate;

use crate::service::Service;
use axum::Router;
use axum::routing::post;
use scep_ca::LocalCa;
use scep_types::{SpkiHash, Timestamp};
use std::sync::Arc;

/// What the issuer needs to speak with connectors.
#[derive(Clone, Debug)]
pub struct Link {
    /// Certifies connectors, and nobody else.
    pub connector_ca: LocalCa,
    /// SHA-256 over the SubjectPublicKeyInfo of each TLS key of the issuer, the present one first: what a connector
    /// accepts.
    pub tls_pins: Vec<SpkiHash>,
}

/// A key of the issuer, and when it is valid.
#[derive(Clone, Debug)]
pub struct IssuerKey {
    /// The key.
    pub signer: Arc<dyn scep_types::Signer>,
    /// From when on gateways are to accept it.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
}

/// The keys of the issuer. No key is in both lists.
#[derive(Clone, Debug)]
pub struct IssuerKeys {
    /// Sign challenges. A new one signs once every gateway of the group is known to have it.
    pub signing: Vec<IssuerKey>,
    /// Sign the answers to check-ins. The first one that is valid signs, once the connector is known to have it.
    pub command: Vec<IssuerKey>,
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
