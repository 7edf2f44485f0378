//! Renews the gateway's own certificates while it runs, and says when they end.

use crate::config::Config;
use crate::connector::SharedOwn;
use crate::error::GatewayError;
use crate::renewal::{Ra, RaFiles, Renewed};
use core::time::Duration;
use scep_ca::LocalCa;
use scep_connector::Connector;
use scep_server::Gateway;
use scep_types::{Clock, SpkiDer, Timestamp};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// How often renewals are looked for.
const DAILY: Duration = Duration::from_secs(86_400);
/// How often the list of what expires is made anew, as the connector renews its own certificate.
const LIST: Duration = Duration::from_secs(60);

/// Watches over the certificates.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) gateway: Gateway,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ca: LocalCa,
    pub(crate) files: RaFiles,
    pub(crate) own: SharedOwn,
    pub(crate) connector: Option<Connector>,
    /// Keys of the configuration that are the issuer's, and when they end.
    pub(crate) pinned: Vec<(&'static str, Timestamp)>,
}

/// Renews what is due among the files of a configuration; whether anything was.
pub(crate) fn renew_at_start(config: &Config, now: Timestamp) -> bool {
    let renewed = config.ra_files.renew(&config.ca, now);
    tell(&renewed);
    renewed.iter().any(|one| one.outcome.is_ok())
}

fn tell(renewed: &[Renewed]) {
    for Renewed { what, outcome } in renewed {
        match outcome {
            Ok(until) => tracing::info!(target: "scep", what, %until, "renewed with a new key"),
            Err(error) => tracing::error!(
                target: "scep", what, %error,
                "cannot be renewed; the present one is used on and this is tried again tomorrow"
            ),
        }
    }
}

/// Fails for a certificate that has ended: no device would take an answer.
pub(crate) fn not_expired(config: &Config, now: Timestamp) -> Result<(), GatewayError> {
    for owned in &config.certificates {
        if owned.certificate.not_after() <= now {
            return Err(GatewayError::config(
                owned.what,
                format!("expired at {}, and could not be renewed", owned.certificate.not_after()),
            ));
        }
    }
    Ok(())
}

impl Keeper {
    /// Until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let keeper = Arc::new(self);
        let mut looked = keeper.clock.now();
        loop {
            keeper.list();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LIST) => {}
            }
            let now = keeper.clock.now();
            // By the clock and not by a timer: one that was asleep with its machine looks as soon as it wakes.
            if now.since(looked) >= DAILY {
                looked = now;
                let round = Arc::clone(&keeper);
                // RSA keys take their time.
                if tokio::task::spawn_blocking(move || round.renew(now)).await.is_err() {
                    tracing::error!(target: "scep", "the renewal of certificates was lost");
                }
            }
        }
    }

    /// Renews what is due, and has the gateway use it from the next request on.
    pub(crate) fn renew(&self, now: Timestamp) {
        tell(&self.files.renew(&self.ca, now));
        // Also when nothing was renewed: the time of a previous key may be over.
        match self.files.read(&self.ca, now) {
            Ok(ra) => self.take(ra),
            Err(error) => tracing::error!(
                target: "scep", %error, "the RA's files cannot be read; what was read before is used on"
            ),
        }
    }

    fn take(&self, ra: Ra) {
        let (mut keys, mut certificates) = (self.own.keys(), self.own.certificates());
        let roles: Vec<&str> = ra.certificates.iter().map(|owned| owned.role()).collect();
        let theirs = |role: &str| roles.contains(&role) || role == PREVIOUS_RA;
        keys.retain(|(role, _)| !theirs(role));
        keys.extend(ra.keys());
        certificates.retain(|owned| !theirs(owned.role()));
        certificates.extend(ra.certificates);
        self.own.set(keys, certificates);
        self.gateway.set_ra(ra.identity);
        self.list();
    }

    /// Tells the gateway what expires when.
    fn list(&self) {
        let mut list: Vec<(String, Timestamp)> = Vec::new();
        for owned in self.own.certificates() {
            list.push((owned.what.to_owned(), owned.certificate.not_after()));
        }
        list.extend(self.pinned.iter().map(|(what, until)| ((*what).to_owned(), *until)));
        if let Some(connector) = &self.connector {
            let certificate = connector.status().certificate;
            list.push((CONNECTOR.to_owned(), certificate.not_after()));
            list.extend(last_signer(&connector.trust()).map(|until| (SIGNERS.to_owned(), until)));
        }
        self.gateway.set_expiries(list);
    }
}

/// The role of an RA key that was replaced and still opens requests.
pub(crate) const PREVIOUS_RA: &str = "previous RA encryption";
/// The connector's certificate, in lists.
pub(crate) const CONNECTOR: &str = "connector certificate";
/// The keys of the issuer that sign challenges, in lists.
pub(crate) const SIGNERS: &str = "issuer signing keys";

/// When the last key of the issuer ends: one that another overlaps may end in peace.
pub(crate) fn last_signer(trust: &scep_connector::Trust) -> Option<Timestamp> {
    trust.signers.iter().map(|signer| signer.not_after).max()
}

impl Ra {
    /// Every key with its role.
    pub(crate) fn keys(&self) -> Vec<(&'static str, SpkiDer)> {
        let present = self.certificates.iter();
        let mut keys: Vec<(&'static str, SpkiDer)> =
            present.map(|owned| (owned.role(), owned.certificate.spki().clone())).collect();
        keys.extend(self.previous.iter().map(|(key, _)| (PREVIOUS_RA, key.clone())));
        keys
    }
}
