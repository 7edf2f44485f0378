//! The OCSP responder's signer, certified by the local CA for a week and replaced daily. Its key is made at start and lies
//! in memory only, so nobody can carry it away, and there is nothing to keep or to renew on disk; where the configuration
//! names a key, in a file or on a token, that one stays and only its certificate is replaced.

use crate::config::OcspConfig;
use crate::error::GatewayError;
use core::time::Duration;
use scep_ca::{CertificateAuthority as _, LocalCa};
use scep_keys::SoftwareKey;
use scep_server::Gateway;
use scep_types::{AuthorityName, CertificateDer, Clock, KeyAlgorithm, Timestamp};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// How long a signer is certified.
const LIFE: Duration = Duration::from_secs(7 * 86_400);
/// How often it is replaced.
const DAILY: Duration = Duration::from_secs(86_400);
/// When it is tried again, after it could not be.
const AGAIN: Duration = Duration::from_secs(3_600);
/// How often the clock is looked at: one that was asleep with its machine looks as soon as it wakes.
const LOOK: Duration = Duration::from_secs(20);

/// Gives the gateway its OCSP signer.
#[derive(Debug)]
pub(crate) struct Responder {
    pub(crate) gateway: Gateway,
    pub(crate) authority: AuthorityName,
    pub(crate) ca: LocalCa,
    pub(crate) ocsp: OcspConfig,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Responder {
    /// A new certificate, used from the next request on; for a new key, where the configuration names none.
    pub(crate) fn replace(&self, now: Timestamp) -> Result<(), GatewayError> {
        let key = match &self.ocsp.key {
            Some(key) => Arc::clone(key),
            None => SoftwareKey::generate(KeyAlgorithm::P256)?.signer(),
        };
        let subject = "CN=OCSP signer".parse().map_err(|e| GatewayError::config("ocsp", e))?;
        // Near the CA's own end, as long as it has.
        let end = self.ca.chain().iter().map(CertificateDer::not_after).min();
        let left = end.map_or(LIFE, |end| end.since(now));
        let signer = self.ca.ocsp_signer(key, &subject, LIFE.min(left), now)?;
        let until = signer.certificate().not_after();
        if let Some(authority) = self.gateway.authority(&self.authority) {
            authority.set_ocsp(self.ocsp.settings.clone(), signer)?;
        }
        tracing::info!(target: "scep", ca = %self.authority, %until, "new OCSP signer");
        Ok(())
    }

    /// Replaces it daily until `stop`; the first one is there already.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut due = self.clock.now().plus(DAILY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let now = self.clock.now();
            if now < due {
                continue;
            }
            due = match self.replace(now) {
                Ok(()) => now.plus(DAILY),
                Err(error) => {
                    tracing::error!(
                        target: "scep", ca = %self.authority, %error,
                        "the OCSP signer cannot be replaced; the present one is used on"
                    );
                    now.plus(AGAIN)
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scep_server::OcspSettings;
    use scep_testkit::house::{House, OPENS};

    fn responder(house: &House, gateway: Gateway) -> Responder {
        let (ca, authority) = (house.ca.clone(), AuthorityName::main());
        let ocsp = OcspConfig { settings: OcspSettings::default(), key: None };
        Responder { gateway, authority, ca, ocsp, clock: house.clock.clone() }
    }

    #[tokio::test]
    async fn the_signer_is_replaced_until_the_ca_itself_ends() {
        let (house, folder) = (House::new(), tempfile::tempdir().unwrap());
        let gateway = Gateway::new(house.parts(folder.path())).unwrap();
        let responder = responder(&house, gateway);
        let end = house.ca.chain()[0].not_after();
        for now in [OPENS, OPENS.plus(DAILY), end.minus(DAILY)] {
            responder.replace(now).unwrap();
        }
        assert!(responder.replace(end).is_err());
    }

    #[tokio::test]
    async fn it_ends_when_it_is_told_to() {
        let (house, folder) = (House::new(), tempfile::tempdir().unwrap());
        let gateway = Gateway::new(house.parts(folder.path())).unwrap();
        let responder = responder(&house, gateway);
        let stop = CancellationToken::new();
        stop.cancel();
        responder.run(stop).await;
    }
}
