//! How the server is, from what the calls so far have shown.

use super::http::Failure;
use crate::authority::CaHealth;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Longest reason that is kept.
const MAX_WHY: usize = 600;

/// The name of trouble that any answer ends: the server is away, sealed, or busy.
const SERVER: &str = "server";

/// What is wrong, by what it was noticed at. Each kind ends when the same works again.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<BTreeMap<&'static str, Trouble>>);

#[derive(Debug)]
struct Trouble {
    why: String,
    since: Instant,
}

impl Health {
    fn troubles(&self) -> MutexGuard<'_, BTreeMap<&'static str, Trouble>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An exchange has ended.
    pub(super) fn exchanged(&self, outcome: &Result<Vec<u8>, Failure>) {
        match outcome {
            Err(Failure::NotSent { why, .. } | Failure::Unclear(why)) => self.bad(SERVER, why),
            Err(Failure::Refused { status: 429, why }) => {
                self.bad(SERVER, &format!("status 429: {why}"));
            }
            Ok(_) | Err(Failure::Refused { .. }) => self.good(SERVER),
        }
    }

    /// For how long the server has been away, sealed or busy.
    pub(super) fn away_for(&self) -> Option<Duration> {
        self.troubles().get(SERVER).map(|trouble| trouble.since.elapsed())
    }

    pub(super) fn good(&self, what: &'static str) {
        self.troubles().remove(what);
    }

    /// The latest reason counts, and the first time.
    pub(super) fn bad(&self, what: &'static str, why: &str) {
        let why = why.chars().take(MAX_WHY).collect();
        let mut troubles = self.troubles();
        let since = troubles.get(what).map_or_else(Instant::now, |known| known.since);
        troubles.insert(what, Trouble { why, since });
    }

    /// The oldest trouble.
    pub(super) fn state(&self) -> CaHealth {
        let troubles = self.troubles();
        match troubles.iter().min_by_key(|(_, trouble)| trouble.since) {
            None => CaHealth::Ok,
            Some((what, Trouble { why, since })) => {
                CaHealth::Degraded { why: format!("{what}: {why}"), since: *since }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(health: &Health) -> Option<String> {
        match health.state() {
            CaHealth::Ok => None,
            CaHealth::Degraded { why, .. } => Some(why),
        }
    }

    fn refused(status: u16) -> Result<Vec<u8>, Failure> {
        Err(Failure::Refused { status, why: "no".into() })
    }

    #[test]
    fn trouble_with_the_server_ends_with_any_answer_and_other_trouble_with_its_own() {
        let health = Health::default();
        assert_eq!(why(&health), None);
        health.exchanged(&Err(Failure::Unclear("sealed".into())));
        assert_eq!(why(&health).unwrap(), "server: sealed");
        let CaHealth::Degraded { since, .. } = health.state() else { panic!() };
        health.exchanged(&Err(Failure::NotSent { why: "away".into(), again: true }));
        assert_eq!(
            health.state(),
            CaHealth::Degraded { why: "server: away".into(), since },
            "the first time and the latest reason"
        );
        health.bad("sign", "no rights");
        health.exchanged(&refused(400));
        assert_eq!(why(&health).unwrap(), "sign: no rights");
        health.exchanged(&refused(429));
        health.good("sign");
        assert_eq!(why(&health).unwrap(), "server: status 429: no");
        assert!(health.away_for().is_some());
        health.exchanged(&Ok(Vec::new()));
        assert_eq!(why(&health), None);
        assert!(health.away_for().is_none());
    }
}
