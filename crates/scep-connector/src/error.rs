//! What can go wrong between a gateway and its issuer.

use thiserror::Error;

/// Why the connector did not do something.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectorError {
    /// Not built yet.
    #[error("{0}")]
    Other(String),
}
