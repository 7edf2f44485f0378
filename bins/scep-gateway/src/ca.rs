//! The CA of a configuration, and who issues the RA's certificates.

use crate::error::GatewayError;
use core::time::Duration;
use scep_ca::{CaError, CertificateAuthority, InfrastructurePurpose, LocalCa};
use scep_keys::SoftwareKey;
use scep_types::{CertificateDer, DistinguishedName, Timestamp};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Who issues the RA's certificates, and can tell its own.
pub(crate) trait RaIssuer {
    /// The issuing CA first.
    fn chain(&self) -> &[CertificateDer];
    /// That this CA has issued a certificate.
    fn check_issued(&self, certificate: &CertificateDer) -> Result<(), CaError>;
    /// A certificate for an RA's key, for this long if the CA gives so much. Waits for it.
    fn issue_ra(
        &self,
        purpose: InfrastructurePurpose,
        key: &SoftwareKey,
        subject: &DistinguishedName,
        life: Duration,
        now: Timestamp,
    ) -> Result<CertificateDer, GatewayError>;
}

impl RaIssuer for LocalCa {
    fn chain(&self) -> &[CertificateDer] {
        CertificateAuthority::chain(self)
    }

    fn check_issued(&self, certificate: &CertificateDer) -> Result<(), CaError> {
        Self::check_issued(self, certificate)
    }

    fn issue_ra(
        &self,
        purpose: InfrastructurePurpose,
        key: &SoftwareKey,
        subject: &DistinguishedName,
        life: Duration,
        now: Timestamp,
    ) -> Result<CertificateDer, GatewayError> {
        Ok(self.issue_infrastructure(purpose, key.public_key(), subject, life, now)?)
    }
}

/// The CA of a configuration.
#[derive(Clone, Debug)]
pub(crate) enum Ca {
    /// Its key is here.
    Local(LocalCa),
    /// In OpenBao or HashiCorp Vault.
    #[cfg(feature = "openbao")]
    OpenBao(Arc<crate::openbao::Remote>),
    /// Behind another SCEP server.
    Scep(Arc<crate::upstream::Upstream>),
}

impl Ca {
    /// The issuing CA first.
    pub(crate) fn chain(&self) -> &[CertificateDer] {
        RaIssuer::chain(self)
    }

    /// As the enrolment asks it.
    pub(crate) fn authority(&self) -> Arc<dyn CertificateAuthority> {
        match self {
            Self::Local(ca) => Arc::new(ca.clone()),
            #[cfg(feature = "openbao")]
            Self::OpenBao(remote) => remote.authority(),
            Self::Scep(upstream) => upstream.authority(),
        }
    }

    /// The CA whose key is here; for what only its key can do.
    pub(crate) fn local(&self, what: &str) -> Result<&LocalCa, GatewayError> {
        let wrong =
            || GatewayError::config(what, "needs a CA of kind \"local\": it uses the CA's key");
        match self {
            Self::Local(ca) => Ok(ca),
            #[cfg(feature = "openbao")]
            Self::OpenBao(_) => Err(wrong()),
            Self::Scep(_) => Err(wrong()),
        }
    }

    /// Finds out whether a CA that is not here can be asked.
    pub(crate) async fn connect(&self) -> Result<(), GatewayError> {
        match self {
            Self::Local(_) => Ok(()),
            #[cfg(feature = "openbao")]
            Self::OpenBao(remote) => remote.connect().await,
            Self::Scep(upstream) => {
                upstream.connect().await;
                Ok(())
            }
        }
    }

    /// Keeps the way to a CA that is not here open, until `stop`.
    pub(crate) fn keep(self, stop: &CancellationToken) {
        match self {
            Self::Local(_) => {}
            #[cfg(feature = "openbao")]
            Self::OpenBao(remote) => drop(tokio::spawn(remote.keep(stop.clone()))),
            Self::Scep(upstream) => drop(tokio::spawn(upstream.keep(stop.clone()))),
        }
    }

    fn issuer(&self) -> &dyn RaIssuer {
        match self {
            Self::Local(ca) => ca,
            #[cfg(feature = "openbao")]
            Self::OpenBao(remote) => &**remote,
            Self::Scep(upstream) => &**upstream,
        }
    }
}

impl RaIssuer for Ca {
    fn chain(&self) -> &[CertificateDer] {
        self.issuer().chain()
    }

    fn check_issued(&self, certificate: &CertificateDer) -> Result<(), CaError> {
        self.issuer().check_issued(certificate)
    }

    fn issue_ra(
        &self,
        purpose: InfrastructurePurpose,
        key: &SoftwareKey,
        subject: &DistinguishedName,
        life: Duration,
        now: Timestamp,
    ) -> Result<CertificateDer, GatewayError> {
        self.issuer().issue_ra(purpose, key, subject, life, now)
    }
}
