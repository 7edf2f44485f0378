//! The running connector: check-in, reports, revocations, renewal, side by side.

use crate::ConnectorError;
use crate::host::{Host, Standing};
use crate::keys::KeyStore;
use crate::settings::ConnectorSettings;
use crate::state::{StateFile, Trust};
use scep_ledger::Ledger;
use scep_link::Membership;
use scep_types::{CertificateDer, Clock, CryptoProvider, Timestamp};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// How the link is, for health and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// When the issuer was last heard.
    pub last_heard: Option<Timestamp>,
    /// Whether the gateway may issue.
    pub standing: Standing,
    /// Whether an operator has confirmed the gateway, as far as is known.
    pub membership: Option<Membership>,
    /// The connector's own certificate.
    pub certificate: CertificateDer,
    /// Events that the issuer has not acknowledged.
    pub queue_depth: u64,
    /// What is wrong at present: codes and what to do, for people.
    pub trouble: Option<String>,
}

/// A gateway's connector. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connector {
    inner: Arc<Inner>,
}

#[derive(Debug)]
#[allow(dead_code, reason = "being built")]
struct Inner {
    settings: ConnectorSettings,
    state: StateFile,
    keys: Arc<dyn KeyStore>,
    ledger: Ledger,
    host: Arc<dyn Host>,
    provider: Arc<dyn CryptoProvider>,
    clock: Arc<dyn Clock>,
}

impl Connector {
    /// Reads the state and loads the keys. Connects to nobody.
    ///
    /// # Errors
    /// When the gateway was never enrolled, or a key that the state names is missing.
    pub fn open(
        settings: ConnectorSettings,
        state: StateFile,
        keys: Arc<dyn KeyStore>,
        ledger: Ledger,
        host: Arc<dyn Host>,
        provider: Arc<dyn CryptoProvider>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConnectorError> {
        Ok(Self { inner: Arc::new(Inner { settings, state, keys, ledger, host, provider, clock }) })
    }

    /// Whose challenges are accepted, as the state says.
    #[must_use]
    pub fn trust(&self) -> Trust {
        todo!()
    }

    /// How the link is.
    #[must_use]
    pub fn status(&self) -> Status {
        todo!()
    }

    /// Runs until `stop`: checks in, reports, passes revocations on, renews. Never ends by itself.
    pub async fn run(self, stop: CancellationToken) {
        stop.cancelled().await;
    }
}
