//! Which challenges this process is working on: recovery must leave them alone.

use scep_types::{ChallengeId, TenantId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Key = (TenantId, ChallengeId);

/// The challenges with an admission that is being asked for, or is held, in this process.
///
/// One process owns a SQLite ledger, so what is open there and not here was left by a crash. The store that several
/// processes share keeps the owner of an intent in its row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Live(Arc<Mutex<HashMap<Key, usize>>>);

impl Live {
    fn map(&self) -> MutexGuard<'_, HashMap<Key, usize>> {
        // Every change is one call on the map: a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the challenge as live until the guard is dropped. Taken before the store is asked, so that there is no
    /// instant at which the intent is on record and not live.
    pub(crate) fn enter(&self, tenant: &TenantId, challenge: ChallengeId) -> LiveGuard {
        let key = (tenant.clone(), challenge);
        let mut map = self.map();
        let count = map.entry(key.clone()).or_insert(0);
        *count = count.saturating_add(1);
        drop(map);
        LiveGuard { live: self.clone(), key }
    }

    pub(crate) fn contains(&self, tenant: &TenantId, challenge: ChallengeId) -> bool {
        self.map().contains_key(&(tenant.clone(), challenge))
    }
}

/// Keeps a challenge live.
#[derive(Debug)]
pub(crate) struct LiveGuard {
    live: Live,
    key: Key,
}

impl Drop for LiveGuard {
    fn drop(&mut self) {
        let mut map = self.live.map();
        if let Some(count) = map.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                map.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_live_until_its_last_guard_is_gone() {
        let live = Live::default();
        let tenant = TenantId::new("t").unwrap();
        let challenge = ChallengeId::from_bytes([1; 16]);
        let first = live.enter(&tenant, challenge);
        let second = live.enter(&tenant, challenge);
        drop(first);
        assert!(live.contains(&tenant, challenge));
        drop(second);
        assert!(!live.contains(&tenant, challenge));
    }
}
