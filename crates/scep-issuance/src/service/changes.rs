//! What a waiting check-in must hear of at once: a counter for each tenant, and a bell.
//!
//! The counter is in the database and moves with what it counts, so several issuers on one database have the same. One
//! task of the process looks at the counters while somebody waits, and rings.

use crate::service::db::{Tx, values};
use crate::service::store::{Store, StoreError};
use core::time::Duration;
use scep_types::TenantId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// How often the counters are looked at. A device that is disabled must be known to every gateway within two seconds.
const LOOK: Duration = Duration::from_millis(200);

/// Something has changed that connectors of the tenant are to be told: in the transaction that changes it. Whoever
/// waits is woken within [`LOOK`] after the commit, in every process.
pub(crate) fn note(tx: &Tx<'_>, tenant: &TenantId) -> Result<(), StoreError> {
    let sql = "INSERT INTO change_counter (tenant, moves) VALUES (?1, 1) \
               ON CONFLICT (tenant) DO UPDATE SET moves = change_counter.moves + 1";
    tx.execute(sql, values![tenant.as_str()]).map(drop)
}

/// How often the tenant's counter has moved.
pub(crate) fn counter(tx: &Tx<'_>, tenant: &TenantId) -> Result<i64, StoreError> {
    let sql = "SELECT moves FROM change_counter WHERE tenant = ?1";
    let found = tx.one(sql, values![tenant.as_str()], |row| row.get(0))?;
    Ok(found.unwrap_or(0))
}

#[derive(Debug, Default)]
struct Seen {
    counters: HashMap<String, i64>,
    /// How often the issuer's keys were replaced in this process.
    keys: u64,
}

/// Rings when a counter has moved, or the issuer's keys were replaced.
#[derive(Clone, Debug)]
pub(crate) struct Bell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    seen: watch::Sender<Seen>,
    looking: Mutex<bool>,
}

/// Somebody who waits. Made before what it waits for is looked at, so that nothing is missed.
#[derive(Debug)]
pub(crate) struct Listener {
    seen: watch::Receiver<Seen>,
    keys: u64,
}

impl Bell {
    pub(crate) fn new() -> Self {
        let (seen, _) = watch::channel(Seen::default());
        Self(Arc::new(Inner { seen, looking: Mutex::new(false) }))
    }

    /// The issuer's keys are others now.
    pub(crate) fn keys_replaced(&self) {
        self.0.seen.send_modify(|seen| seen.keys = seen.keys.wrapping_add(1));
    }

    /// Begins to listen.
    pub(crate) fn listen(&self, store: &Store) -> Listener {
        let mut looking = self.0.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = self.0.seen.subscribe();
        if !*looking {
            *looking = true;
            tokio::spawn(look(self.clone(), store.clone()));
        }
        let keys = seen.borrow().keys;
        Listener { seen, keys }
    }

    /// Whether nobody listens any more, which ends the task that looks.
    fn deserted(&self) -> bool {
        let mut looking = self.0.looking.lock().unwrap_or_else(PoisonError::into_inner);
        *looking = self.0.seen.receiver_count() > 0;
        !*looking
    }
}

impl Listener {
    /// Returns once the tenant's counter is above `known`, or the keys were replaced since this began to listen.
    pub(crate) async fn rings(&mut self, tenant: &TenantId, known: i64) {
        let keys = self.keys;
        let moved = |seen: &Seen| {
            let counter = seen.counters.get(tenant.as_str()).copied().unwrap_or(0);
            counter > known || seen.keys != keys
        };
        if self.seen.wait_for(moved).await.is_err() {
            // The bell is gone with its service.
            core::future::pending().await
        }
    }
}

async fn look(bell: Bell, store: Store) {
    let mut blind = false;
    loop {
        tokio::time::sleep(LOOK).await;
        if bell.deserted() {
            return;
        }
        let counters = store
            .read(|tx| {
                tx.query("SELECT tenant, moves FROM change_counter", values![], |row| {
                    Ok::<(String, i64), StoreError>((row.get(0)?, row.get(1)?))
                })
            })
            .await;
        match counters {
            Ok(counters) => {
                blind = false;
                let counters = counters.into_iter().collect();
                bell.0.seen.send_if_modified(|seen| {
                    let modified = seen.counters != counters;
                    seen.counters = counters;
                    modified
                });
            }
            // The next look is soon; one line for all that fail in a row.
            Err(error) => {
                if !core::mem::replace(&mut blind, true) {
                    tracing::warn!(%error, "whether something has changed cannot be seen");
                }
            }
        }
    }
}
