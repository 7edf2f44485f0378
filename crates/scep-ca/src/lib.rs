#![doc = include_str!("../README.md")]
#![warn(clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod authority;
mod chain;
mod crl;
mod error;
mod local;
mod ocsp;
#[cfg(feature = "openbao")]
mod openbao;
#[cfg(feature = "scep")]
mod scep;
mod tbs;
#[cfg(test)]
mod tests;

pub use authority::{
    CaHealth, CanRevoke, Capabilities, CertificateAuthority, Found, IssueError, Recover,
    Revocation, Revoked, Wanted,
};
pub use crl::CrlOrder;
pub use error::CaError;
pub use local::{InfrastructurePurpose, LocalCa, LocalCaSettings};
pub use ocsp::{
    CertId, MAX_OCSP_NONCE, MAX_OCSP_REQUEST, MAX_OCSP_REQUESTS, OcspFailure, OcspIssuer,
    OcspRequest, OcspRequestError, OcspSigner, OcspStatement, OcspStatus,
};
#[cfg(feature = "openbao")]
pub use openbao::{Authentication, OpenBao, OpenBaoSettings, Right, SecretId, SignBy};
#[cfg(feature = "scep")]
pub use scep::{ScepUpstream, UpstreamKey, UpstreamSettings};
#[cfg(feature = "scep")]
pub use scep_client::{ClientSettings, LegacyAlgorithms as UpstreamAlgorithms};
