//! A CA behind another SCEP server: its part of the configuration.

use crate::ca::RaIssuer;
use crate::error::GatewayError;
use core::time::Duration;
use scep_ca::{
    CaError, CertificateAuthority, ClientSettings, InfrastructurePurpose, ScepUpstream,
    UpstreamAlgorithms, UpstreamKey, UpstreamSettings,
};
use scep_keys::{KeyPlace, SoftwareKey, open_key, read_certificates};
use scep_server::SystemClock;
use scep_types::{
    CertificateDer, CryptoProvider, DistinguishedName, SpkiDer, Timestamp, parse_duration,
};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// How often it is looked whether the server is there.
const LOOK: Duration = Duration::from_secs(60);

/// `[ca]` with `kind = "scep"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawUpstream {
    /// The other server's SCEP URL.
    url: String,
    /// The CA that issues there, then those above it.
    certificate: PathBuf,
    /// The RSA key that signs requests to it and opens its answers.
    key: String,
    /// A certificate of that key, where the server wants to know who brings requests.
    key_certificate: Option<PathBuf>,
    /// Whether it may answer with SHA-1 and 3DES.
    #[serde(default)]
    legacy: bool,
    /// Roots of its TLS certificate besides the system's.
    tls_roots: Option<PathBuf>,
    timeout: Option<String>,
}

impl RawUpstream {
    pub(crate) fn check(
        self,
        base: &Path,
        provider: &Arc<dyn CryptoProvider>,
    ) -> Result<Upstream, GatewayError> {
        let chain = read_certificates(&base.join(&self.certificate))?;
        let place = KeyPlace::parse(base, &self.key)
            .map_err(|error| GatewayError::config("ca.key", error))?;
        let key = open_key(&place)?;
        let public = key.public_key().clone();
        let certificate = match &self.key_certificate {
            Some(file) => {
                Some(crate::renewal::one_certificate(&base.join(file), "ca.key_certificate")?)
            }
            None => None,
        };
        let mut client = ClientSettings::default();
        if self.legacy {
            client.legacy = UpstreamAlgorithms::Accept;
        }
        if let Some(roots) = &self.tls_roots {
            client.tls_roots = read_certificates(&base.join(roots))?;
        }
        if let Some(timeout) = &self.timeout {
            client.timeout = parse_duration(timeout)
                .map_err(|error| GatewayError::config("ca.timeout", error))?;
        }
        let key = UpstreamKey { signer: key.signer()?, decryption: key.decryption()?, certificate };
        let settings = UpstreamSettings { url: self.url, client, key };
        let (clock, provider) = (Arc::new(SystemClock), Arc::clone(provider));
        let ca = ScepUpstream::new(settings, chain, clock, provider)?;
        Ok(Upstream { ca: Arc::new(ca), key: public })
    }
}

/// The adapter, and the key that it speaks with.
#[derive(Debug)]
pub(crate) struct Upstream {
    ca: Arc<ScepUpstream>,
    key: SpkiDer,
}

impl Upstream {
    pub(crate) fn authority(&self) -> Arc<dyn CertificateAuthority> {
        Arc::<ScepUpstream>::clone(&self.ca)
    }

    /// The key that signs requests to the server.
    pub(crate) const fn key(&self) -> &SpkiDer {
        &self.key
    }

    /// Sees at start that the server is there and trusted. One that is away may come back.
    pub(crate) async fn connect(&self) {
        if let Err(error) = self.ca.connect().await {
            tracing::error!(target: "scep", %error, "CA; nothing is issued until it is there");
        }
    }

    /// Looks after the server until `stop`.
    pub(crate) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut well = true;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let looked = self.ca.connect().await;
            // Said once, when it begins and when it ends.
            match &looked {
                Err(error) if well => tracing::error!(target: "scep", %error, "CA"),
                Ok(()) if !well => tracing::info!(target: "scep", "the CA is there again"),
                _ => {}
            }
            well = looked.is_ok();
        }
    }
}

impl RaIssuer for Upstream {
    fn chain(&self) -> &[CertificateDer] {
        self.ca.chain()
    }

    fn check_issued(&self, certificate: &CertificateDer) -> Result<(), CaError> {
        self.ca.check_issued(certificate)
    }

    /// Never: SCEP certifies what a challenge says, and nobody makes one for an RA.
    fn issue_ra(
        &self,
        _purpose: InfrastructurePurpose,
        _key: &SoftwareKey,
        _subject: &DistinguishedName,
        _life: Duration,
        _now: Timestamp,
    ) -> Result<CertificateDer, GatewayError> {
        Err(GatewayError::config(
            "ra",
            "another SCEP server issues no certificates for an RA: have them issued by the \
             administrator of its CA, and put them into the files of [ra]",
        ))
    }
}
