//! Connections that read. Each takes any number of questions at once, one behind the other in its pipeline.

use super::connection::{Connection, Link};
use crate::LedgerError;
use core::pin::Pin;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

/// What is on its way to an answer.
pub(super) type Answer<T> = Pin<Box<dyn Future<Output = Result<T, LedgerError>> + Send>>;

/// A connection that reads. A statement sees every commit that was answered before it began.
#[derive(Debug)]
pub(super) struct Reader {
    /// Of the ledger's thread: who asks may have no runtime that can make connections.
    runtime: Handle,
    link: Arc<Mutex<Link>>,
}

impl Reader {
    pub(super) fn new(runtime: Handle, link: Link) -> Self {
        Self { runtime, link: Arc::new(Mutex::new(link)) }
    }

    async fn connection(&self) -> Result<Arc<Connection>, LedgerError> {
        let link = Arc::clone(&self.link);
        self.runtime
            .spawn(async move { link.lock().await.connection().await })
            .await
            .map_err(|_| LedgerError::Closed)?
    }

    /// Asks; once more on a new connection when the old one was lost meanwhile.
    pub(super) async fn ask<T>(
        &self,
        question: impl Fn(Arc<Connection>) -> Answer<T> + Send,
    ) -> Result<T, LedgerError> {
        let first = self.connection().await?;
        match question(Arc::clone(&first)).await {
            Err(LedgerError::Engine { .. }) => {
                drop(first);
                self.link.lock().await.cut();
                question(self.connection().await?).await
            }
            answer => answer,
        }
    }
}
