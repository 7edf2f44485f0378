//! The gateway as its connector sees it: what the issuer says becomes what the gateway does.

use crate::config::{ChallengeTimes, Challenges, Config, LinkConfig};
use crate::error::GatewayError;
use crate::keystore::KeyFolder;
use crate::label::{Keys, Label};
use crate::logging::LogControl;
use crate::renewal::Owned;
use core::time::Duration;
use scep_challenge::{Opener, OpeningKey, PinnedSigner};
use scep_connector::{
    Connector, ConnectorError, Host, HostFacts, KeySlot, KeyStore, OwnKey, Standing, StateFile,
    Trust,
};
use scep_keys::SoftwareKey;
use scep_ledger::Ledger;
use scep_link::{CertificateExpiry, Health, LogLevel};
use scep_server::{Availability, Gateway, LinkStatus};
use scep_types::{GatewayGroupId, KeyAlgorithm, SpkiDer, TenantId, Timestamp};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Keys and certificates of the gateway's own, which a renewal replaces.
#[derive(Debug)]
pub(crate) struct Own {
    keys: Keys,
    certificates: Vec<Owned>,
}

/// What the host, the keeper and the configuration share of it.
#[derive(Clone, Debug)]
pub(crate) struct SharedOwn(Arc<RwLock<Own>>);

impl SharedOwn {
    pub(crate) fn of(config: &Config) -> Self {
        let own = Own { keys: config.keys.clone(), certificates: config.certificates.clone() };
        Self(Arc::new(RwLock::new(own)))
    }

    pub(crate) fn keys(&self) -> Keys {
        self.0.read().unwrap_or_else(PoisonError::into_inner).keys.clone()
    }

    pub(crate) fn certificates(&self) -> Vec<Owned> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).certificates.clone()
    }

    pub(crate) fn set(&self, keys: Keys, certificates: Vec<Owned>) {
        let mut own = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *own = Own { keys, certificates };
    }
}

/// Makes openers out of what the issuer says.
#[derive(Clone, Debug)]
pub(crate) struct Openers {
    tenant: TenantId,
    group: GatewayGroupId,
    times: ChallengeTimes,
    keys: KeyFolder,
    state: StateFile,
    own: SharedOwn,
}

impl Openers {
    pub(crate) fn new(config: &Config, link: &LinkConfig, own: SharedOwn) -> Self {
        Self {
            tenant: config.tenant.clone(),
            group: config.group.clone(),
            times: config.times,
            keys: link.keys.clone(),
            state: link.state.clone(),
            own,
        }
    }

    /// Every key with its role, as the issuer and the connector have them.
    fn link_keys(&self, trust: &Trust) -> Result<Keys, GatewayError> {
        let mut keys = Vec::new();
        for signer in &trust.signers {
            keys.push((Label::of_gateway("issuer signing"), signer.key.clone()));
        }
        let mut role = "challenge decryption";
        for key in &trust.decryption {
            keys.push((Label::of_gateway(role), key.key.clone()));
            role = "previous challenge decryption";
        }
        if let Some(state) = self.state.read()? {
            keys.push((
                Label::of_gateway("connector authentication"),
                state.certificate.spki().clone(),
            ));
        }
        Ok(keys)
    }

    /// An opener, and every key that no device may have certified.
    pub(crate) fn make(&self, trust: &Trust) -> Result<(Opener, Keys), GatewayError> {
        if (&trust.tenant, &trust.group) != (&self.tenant, &self.group) {
            return Err(GatewayError::config(
                "connector",
                format!(
                    "enrolled for group {} of tenant {}, and the configuration says group {} of tenant {}: enrol again",
                    trust.group, trust.tenant, self.group, self.tenant
                ),
            ));
        }
        let mut keys = self.own.keys();
        keys.extend(self.link_keys(trust)?);
        crate::config::distinct(&keys)?;
        let signers = trust.signers.iter().map(|signer| PinnedSigner {
            key: signer.key.clone(),
            not_before: signer.not_before,
            not_after: signer.not_after,
        });
        let mut opening = Vec::new();
        for ours in &trust.decryption {
            let id = ours.key.key_id();
            match self.keys.load(KeySlot::Decryption, id).map_err(ConnectorError::from)? {
                OwnKey::Decryption(key) => {
                    opening.push(OpeningKey { key, not_after: ours.until });
                }
                // The key folder gives what was asked for.
                OwnKey::Authentication(_) => {}
            }
        }
        // The group's new key, which another gateway has made, and which this one is not known to have yet.
        if let Some(next) = self.keys.next()?
            && let OwnKey::Decryption(key) =
                self.keys.load(KeySlot::Decryption, next).map_err(ConnectorError::from)?
        {
            keys.push((Label::of_gateway("next challenge decryption"), key.public_key().clone()));
            crate::config::distinct(&keys)?;
            opening.push(OpeningKey { key, not_after: None });
        }
        let ChallengeTimes { max_lifetime, skew } = self.times;
        let (tenant, group) = (self.tenant.clone(), self.group.clone());
        let mut signers: Vec<PinnedSigner> = signers.collect();
        if signers.is_empty() {
            signers.push(nobody()?);
        }
        let opener = Opener::new(tenant, group, signers, opening, max_lifetime, skew)
            .map_err(|error| GatewayError::config("connector", error))?;
        Ok((opener, keys))
    }
}

/// A signer that nobody is: the issuer may have retired its last key, as a stolen one, before there is another. The
/// gateway then goes on, checks in, and opens no challenge.
fn nobody() -> Result<PinnedSigner, GatewayError> {
    let key = SoftwareKey::generate(KeyAlgorithm::P256)?.public_key().clone();
    let (not_before, not_after) = (Timestamp::from_seconds(0), Timestamp::from_seconds(1));
    Ok(PinnedSigner { key, not_before, not_after })
}

/// The opener of a configuration: of its own keys, or of the issuer that it is enrolled with. With every key of it.
pub(crate) fn opener(config: &mut Config, own: &SharedOwn) -> Result<(Opener, Keys), GatewayError> {
    match &mut config.challenges {
        Challenges::Pinned(opener) => {
            let opener = opener.take().ok_or_else(|| GatewayError::config("challenge", "used"))?;
            Ok((opener, own.keys()))
        }
        Challenges::Issuer(link) => {
            let link = link.clone();
            let state = link
                .state
                .read()?
                .ok_or_else(|| GatewayError::NotEnrolled { state: link.state_path.clone() })?;
            Openers::new(config, &link, own.clone()).make(&state.trust)
        }
    }
}

/// Refuses another ledger than the one that the gateway enrolled with: the issuer has bound the group to that one, and
/// in another every challenge that was used would be new.
pub(crate) fn same_ledger(link: &LinkConfig, ledger: &Ledger) -> Result<(), GatewayError> {
    match link.state.read()? {
        Some(state) if state.ledger != ledger.id() => Err(GatewayError::AnotherLedger {
            enrolled: state.ledger.to_string(),
            present: ledger.id().to_string(),
        }),
        _ => Ok(()),
    }
}

/// The connector's host.
#[derive(Debug)]
pub(crate) struct GatewayHost {
    gateway: Gateway,
    openers: Openers,
    denials: Arc<Notify>,
    log: LogControl,
}

impl GatewayHost {
    pub(crate) fn new(gateway: Gateway, openers: Openers, log: LogControl) -> Self {
        Self { gateway, openers, denials: Arc::default(), log }
    }

    /// What is told whenever something was disabled or enabled.
    pub(crate) fn denials(&self) -> Arc<Notify> {
        Arc::clone(&self.denials)
    }
}

impl Host for GatewayHost {
    fn facts(&self) -> HostFacts {
        let health = match self.gateway.availability() {
            Availability::Offline | Availability::AnotherLedger => Health::Stopped,
            Availability::Serving
                if self.gateway.expiries().iter().any(|expiry| expiry.alarm_days.is_some()) =>
            {
                Health::Degraded
            }
            Availability::Serving => Health::Serving,
        };
        let certificates = self.openers.own.certificates();
        let certificates = certificates.iter().map(|owned| CertificateExpiry {
            purpose: owned.purpose,
            thumbprint_sha256: owned.certificate.fingerprint(),
            not_after: owned.certificate.not_after(),
        });
        HostFacts { health, certificates: certificates.collect() }
    }

    fn own_keys(&self) -> Vec<(String, SpkiDer)> {
        let keys = self.openers.own.keys().into_iter();
        keys.map(|(role, key)| (role.to_string(), key)).collect()
    }

    fn set_trust(&self, trust: &Trust) -> Result<(), ConnectorError> {
        let (opener, keys) =
            self.openers.make(trust).map_err(|error| ConnectorError::Other(error.to_string()))?;
        self.gateway.set_our_keys(keys.iter().map(|(_, key)| key.hash()).collect());
        self.gateway.set_opener(opener);
        if trust.signers.is_empty() {
            tracing::error!(target: "scep", "the issuer has retired its last signing key: no challenge is accepted");
        }
        for signer in &trust.signers {
            tracing::info!(
                target: "scep",
                key = %signer.key.key_id(), from = %signer.not_before, until = %signer.not_after,
                "challenges of this signer are accepted"
            );
        }
        Ok(())
    }

    fn denials_changed(&self) {
        self.denials.notify_one();
    }

    fn set_standing(&self, standing: Standing) {
        self.gateway.set_availability(match standing {
            Standing::Serving => Availability::Serving,
            Standing::Offline { .. } => Availability::Offline,
            Standing::AnotherLedger => Availability::AnotherLedger,
        });
    }

    fn set_log_level(&self, level: Option<LogLevel>) {
        self.log.set(level);
    }
}

/// Takes up what was disabled or enabled, whenever it is told, until `stop`. The ledger itself refuses before that:
/// this is what a gateway decides by without asking it.
pub(crate) async fn follow_denials(gateway: Gateway, told: Arc<Notify>, stop: CancellationToken) {
    const AGAIN: Duration = Duration::from_secs(1);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = told.notified() => {}
        }
        match gateway.ledger().denials().await {
            Ok(denials) => gateway.set_denials(denials),
            Err(error) => {
                tracing::error!(target: "scep", %error, "what is disabled cannot be read");
                tokio::time::sleep(AGAIN).await;
                told.notify_one();
            }
        }
    }
}

/// How the link is, for `/healthz` and `/metrics`.
pub(crate) fn link_status(connector: &Connector) -> LinkStatus {
    let status = connector.status();
    LinkStatus { last_heard: status.last_heard, trouble: status.trouble }
}

/// Waits until the issuer has every report, as far as it answers, for at most this long.
pub(crate) async fn flush_reports(connector: &Connector, gateway: &Gateway, bound: Duration) {
    const POLL: Duration = Duration::from_millis(50);
    let flushed = async {
        loop {
            let waiting = gateway.ledger().counters().await.map_or(0, |counters| counters.outbox);
            if waiting == 0 || connector.status().trouble.is_some() {
                return waiting;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    match tokio::time::timeout(bound, flushed).await {
        Ok(0) => {}
        Ok(_) | Err(_) => tracing::warn!(
            target: "scep",
            "stopped before the issuer had every report; the rest follows after the next start"
        ),
    }
}
