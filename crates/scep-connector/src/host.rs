//! What the connector asks of the gateway that it belongs to.

use crate::ConnectorError;
use crate::state::Trust;
use core::fmt;
use scep_link::{CertificateExpiry, Health, LogLevel};
use scep_types::{SpkiDer, Timestamp};

/// Whether the gateway may issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Serving,
    /// Nothing was heard of the issuer since then, for longer than `offline = "refuse-after"` allows.
    Offline {
        /// When the issuer was last heard; `None`: never.
        since: Option<Timestamp>,
    },
    /// The issuer has bound the gateway group to another ledger.
    AnotherLedger,
}

/// What a check-in tells of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// Whether it serves.
    pub health: Health,
    /// What expires when: RA, CA and TLS certificates. The connector adds its own.
    pub certificates: Vec<CertificateExpiry>,
}

/// The gateway as the connector sees it. Called from async code: no method may block for long.
pub trait Host: Send + Sync + fmt::Debug {
    /// The present facts.
    fn facts(&self) -> HostFacts;

    /// Every other public key of the gateway (CA, RA), by role: a key of the issuer must be none of them.
    fn own_keys(&self) -> Vec<(String, SpkiDer)>;

    /// From now on challenges are opened with these keys and no others. Also called when nothing but the connector's own
    /// authentication key has changed, which no device may have certified either. The trust is durable already.
    ///
    /// # Errors
    /// When the keys cannot be used together, for one because two roles share a key. The gateway goes on with the trust
    /// that it had, and is asked again with each check-in.
    fn set_trust(&self, trust: &Trust) -> Result<(), ConnectorError>;

    /// What is disabled has changed in the ledger.
    fn denials_changed(&self);

    /// Whether the gateway may issue, from the next request on.
    fn set_standing(&self, standing: Standing);

    /// How much is logged; `None`: as configured.
    fn set_log_level(&self, level: Option<LogLevel>);
}
