//! Recovery: what a crash, or a CA's unknown outcome, has left open is looked up and recorded. It never issues.

use crate::gateway::Gateway;
use core::time::Duration;
use scep_ca::{Found, Wanted};
use scep_ledger::{LedgerError, LeftBehind, Recoverable, Standing};
use scep_types::{AuthorityName, CertificateDer, NameHash, Timestamp};

/// How often intents that a CA's answer has left open are looked up.
const RECOVERY_PERIOD: Duration = Duration::from_secs(30);
/// For how long at most nobody is served at the start.
const START_LIMIT: Duration = Duration::from_secs(30);

impl Gateway {
    /// Settles the intents that a crash, or a CA's unknown outcome, has left. Looks up and records; never
    /// issues. Returns how many were settled. One that cannot be settled holds up none of the others.
    ///
    /// # Errors
    /// When the ledger cannot be read, or the first that could not be written, after all were tried.
    pub async fn recover(&self) -> Result<usize, LedgerError> {
        self.settle_all(|_| true).await
    }

    /// What must be settled before anybody is served. What a CA has kept waiting can wait for the first round, and so can
    /// everything while a CA is slow to answer: its device is told to come again.
    pub(crate) async fn recover_at_start(&self) -> Result<(), LedgerError> {
        let round = self.settle_all(|open| open.left_behind() != LeftBehind::Pending);
        match tokio::time::timeout(START_LIMIT, round).await {
            Ok(settled) => settled.map(drop),
            Err(_) => {
                tracing::error!(target: "scep", "a CA is slow: recovery goes on while requests are served");
                Ok(())
            }
        }
    }

    async fn settle_all(
        &self,
        wanted: impl Fn(&Recoverable) -> bool,
    ) -> Result<usize, LedgerError> {
        let parts = &self.inner.parts;
        let now = parts.ledger.effective_now(parts.clock.now()).await?.now;
        let mut settled: usize = 0;
        let mut failed = None;
        let mut away: Vec<AuthorityName> = Vec::new();
        for open in parts.ledger.unsettled().await? {
            let authority = open.authority().clone();
            // A CA that could not be asked once is not asked again in this round.
            if !wanted(&open) || away.contains(&authority) {
                continue;
            }
            match self.settle(open, now).await {
                Ok(Settled::Yes) => settled = settled.saturating_add(1),
                Ok(Settled::NotYet) => {}
                Ok(Settled::Away) => away.push(authority),
                // Another gateway of the group was faster.
                Err(LedgerError::AlreadySettled) => {}
                Err(error) => {
                    tracing::error!(target: "scep", %error, "recovery could not settle a request");
                    failed.get_or_insert(error);
                }
            }
        }
        if settled > 0 {
            tracing::warn!(target: "scep", settled, "settled what a crash or a CA had left open");
        }
        failed.map_or(Ok(settled), Err)
    }

    /// Looks up again and again what the CA's answers have left open while running.
    pub(crate) fn spawn_recovery(&self) -> tokio::task::JoinHandle<()> {
        let gateway = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(RECOVERY_PERIOD).await;
                if let Err(error) = gateway.recover().await {
                    tracing::error!(target: "scep", %error, "recovery");
                }
            }
        })
    }

    async fn settle(&self, open: Recoverable, now: Timestamp) -> Result<Settled, LedgerError> {
        let parts = &self.inner.parts;
        let Some(office) = self.office(open.authority()) else {
            // It stays open: the configuration may name the CA again.
            tracing::error!(
                target: "scep", authority = %open.authority(),
                "recovery: a request is left of a CA that is not here any more"
            );
            return Ok(Settled::NotYet);
        };
        let subject_der = open.subject_der();
        let wanted = Wanted {
            serial: open.serial(),
            spki: open.spki(),
            request: open.request(),
            pending: open.left_behind() == LeftBehind::Pending,
            subject_der: &subject_der,
            since: open.admitted_at(),
        };
        match office.ca.find(&wanted).await {
            Ok(Found::Certificate(certificate)) => {
                if self.is_on_record(&certificate, now).await? {
                    // Of an earlier request with the same key: it is that one's, and this one's may exist besides.
                    let detail = "the CA has found no other certificate than one already on record";
                    parts.ledger.settle_orphan(open, detail, now).await?;
                    return Ok(Settled::Yes);
                }
                let standing = parts.ledger.settle_found(open, certificate.clone(), now).await?;
                if standing == Standing::Withheld {
                    self.revoke_withheld(office, &certificate, now).await;
                }
            }
            Ok(Found::Nothing) => parts.ledger.settle_nothing(open, now).await?,
            // Its device polls; this asks again.
            Ok(Found::Pending) => return Ok(Settled::NotYet),
            Ok(Found::Unknown) => {
                let detail = "the CA cannot tell whether it has issued";
                parts.ledger.settle_orphan(open, detail, now).await?;
            }
            Err(error) => {
                // It stays open and is looked up again at the next recovery.
                tracing::error!(target: "scep", %error, "recovery could not ask the CA");
                return Ok(Settled::Away);
            }
        }
        Ok(Settled::Yes)
    }

    /// Whether the ledger has a certificate, be it live, withheld or revoked: it settles no second intent.
    async fn is_on_record(
        &self,
        certificate: &CertificateDer,
        now: Timestamp,
    ) -> Result<bool, LedgerError> {
        let ledger = &self.inner.parts.ledger;
        let Some(serial) = certificate.serial() else {
            return Ok(ledger.live_certificate(certificate.fingerprint(), now).await?.is_some());
        };
        let issuer = NameHash::of(certificate.issuer_der());
        Ok(ledger.certificate_status(issuer, &serial).await?.is_some())
    }
}

/// Whether an intent has an outcome now.
enum Settled {
    Yes,
    NotYet,
    /// Its CA could not be asked.
    Away,
}
