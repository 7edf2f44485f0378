//! Which connector has sent a request, by its TLS certificate.

use crate::service::Service;
use crate::service::link::answer::Refusal;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use scep_link::Message;
use scep_types::{CertificateDer, ConnectorId, GatewayGroupId, LedgerId, TenantId};

/// The certificate with which the peer of this connection has proven itself; put into each request's extensions by the
/// listener. Its chain to the connector CA and its validity were verified; whose it is was not.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "being built")]
pub(crate) struct PeerCertificate(pub(crate) Option<CertificateDer>);

/// The connector that has sent a request: known, active, with its present certificate.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "being built")]
pub(crate) struct Caller {
    pub(crate) connector: ConnectorId,
    pub(crate) tenant: TenantId,
    pub(crate) group: GatewayGroupId,
    pub(crate) ledger: LedgerId,
    /// Whether an operator has confirmed it.
    pub(crate) confirmed: bool,
    /// The certificate that was used.
    pub(crate) certificate: CertificateDer,
}

impl FromRequestParts<Service> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(_: &mut Parts, _: &Service) -> Result<Self, Refusal> {
        todo!()
    }
}

/// A message in a request's body, read by the protocol's rules.
#[allow(dead_code, reason = "being built")]
pub(crate) struct Received<M>(pub(crate) M);

impl<M: Message> FromRequest<Service> for Received<M> {
    type Rejection = Refusal;

    async fn from_request(_: Request, _: &Service) -> Result<Self, Refusal> {
        todo!()
    }
}
