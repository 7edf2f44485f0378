//! One schema of the run's cluster, and what an opening refuses.

use crate::support::Backend;
use crate::{Test, run};
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use scep_ledger::{Ledger, LedgerError, LedgerSettings, PostgresConfig};
use scep_testkit::postgres::{Cluster, Programs};
use std::sync::Arc;
use tokio_postgres::{Client, NoTls};

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A schema of its own in a cluster.
pub(crate) struct Database {
    connection: String,
    schema: String,
    lease: Duration,
}

impl Database {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            connection: cluster.by_socket(),
            schema: format!("test_{number}"),
            lease: Duration::from_secs(60),
        }
    }

    pub(crate) fn with_lease(cluster: &Cluster, lease: Duration) -> Self {
        Self { lease, ..Self::new(cluster) }
    }

    pub(crate) fn config(&self) -> PostgresConfig {
        let config = PostgresConfig::new(&self.connection).unwrap();
        config.schema(&self.schema).unwrap().lease(self.lease).unwrap()
    }

    pub(crate) async fn try_open(&self) -> Result<Ledger, LedgerError> {
        Ledger::open_postgres(self.config(), LedgerSettings::default()).await
    }

    /// One more gateway of the group.
    pub(crate) async fn gateway(&self) -> Ledger {
        self.try_open().await.unwrap()
    }

    /// A connection that no ledger knows of.
    pub(crate) async fn client(&self) -> Client {
        let (client, io) = tokio_postgres::connect(&self.connection, NoTls).await.unwrap();
        tokio::spawn(io);
        let path = format!("SET search_path = {}", self.schema);
        client.batch_execute(&path).await.unwrap();
        client
    }
}

impl Backend for Database {
    fn open_with(&self, settings: LedgerSettings) -> Ledger {
        let open = Ledger::open_postgres(self.config(), settings);
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(open)).unwrap()
    }
}

pub(crate) const TESTS: [(&str, Test); 0] = [];
