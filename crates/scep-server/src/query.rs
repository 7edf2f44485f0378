//! GetCert and GetCRL (RFC 8894, 3.3.4 and 3.3.5).

use crate::gateway::{Gateway, Site};
use crate::refusal::Refusal;
use crate::reply::Grant;
use scep_types::{CertificateDer, Reason, ReleasedCertificate, Timestamp};

/// A certificate that is nobody's secret: a CA's, or one that its own device asks for again.
#[derive(Debug)]
pub(crate) struct PublicCertificate(CertificateDer);

impl ReleasedCertificate for PublicCertificate {
    fn certificate(&self) -> &CertificateDer {
        &self.0
    }
}

/// What is asked for, as it stands in the message.
#[derive(Debug)]
pub(crate) struct Query {
    /// The issuer's Name, DER.
    pub(crate) issuer: Vec<u8>,
    /// The serial number's content octets.
    pub(crate) serial: Vec<u8>,
    /// Who asks.
    pub(crate) signer: CertificateDer,
}

impl Gateway {
    /// GetCert.
    #[allow(clippy::unused_async, reason = "asks the ledger")]
    pub(crate) async fn get_cert(
        &self,
        _site: &Site,
        query: Query,
        _now: Timestamp,
    ) -> Result<Grant, Refusal> {
        let Query { issuer: _, serial: _, signer: _ } = query;
        Err(Refusal::new(Reason::MessageTypeNotServed, "GetCert is not served"))
    }

    /// GetCRL.
    #[allow(clippy::unused_async, reason = "asks the ledger")]
    pub(crate) async fn get_crl(
        &self,
        _site: &Site,
        query: Query,
        _now: Timestamp,
    ) -> Result<Grant, Refusal> {
        let Query { issuer: _, serial: _, signer: _ } = query;
        Err(Refusal::new(Reason::MessageTypeNotServed, "GetCRL is not served"))
    }
}
