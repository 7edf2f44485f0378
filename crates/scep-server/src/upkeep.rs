//! Forgets what nobody may ask for any more, so that the ledger grows with its certificates and not with its requests.

use crate::gateway::Gateway;
use core::time::Duration;
use scep_ledger::LedgerError;

/// How often: what has become due meanwhile is little, and its commit holds nobody up.
const PERIOD: Duration = Duration::from_secs(600);

impl Gateway {
    /// Forgets uses of challenges that are over, and ends requests that nobody has approved in time. Gives how many. A
    /// gateway that runs does it at its start and every ten minutes.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn prune(&self) -> Result<u64, LedgerError> {
        let parts = &self.inner.parts;
        let now = parts.ledger.effective_now(parts.clock.now()).await?.now;
        let forgotten = parts.ledger.prune(now).await?;
        self.inner.metrics.forgotten.inc_by(forgotten);
        if forgotten > 0 {
            tracing::info!(target: "scep", forgotten, "forgot what is over");
        }
        Ok(forgotten)
    }

    /// Again and again while running.
    pub(crate) fn spawn_pruning(&self) -> tokio::task::JoinHandle<()> {
        let gateway = self.clone();
        tokio::spawn(async move {
            loop {
                if let Err(error) = gateway.prune().await {
                    tracing::error!(target: "scep", %error, "forgetting what is over");
                }
                tokio::time::sleep(PERIOD).await;
            }
        })
    }
}
