//! The high-water mark of time.

use core::sync::atomic::{AtomicI64, Ordering};
use core::time::Duration;
use scep_types::Timestamp;

/// How far the mark in memory may run ahead of the durable one while nothing else is written.
pub(crate) const MAX_LAG: Duration = Duration::from_secs(60);

/// The time that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EffectiveNow {
    /// max(clock, mark).
    pub now: Timestamp,
    /// How far the clock is behind the mark, when over the tolerance.
    pub behind: Option<Duration>,
}

/// The latest instant seen, in memory and on disk.
#[derive(Debug)]
pub(crate) struct HighWater {
    seen: AtomicI64,
    durable: AtomicI64,
}

impl HighWater {
    pub(crate) const fn new(durable: Timestamp) -> Self {
        Self { seen: AtomicI64::new(durable.seconds()), durable: AtomicI64::new(durable.seconds()) }
    }

    /// Moves the mark up to `at`, never down; gives the mark.
    pub(crate) fn see(&self, at: Timestamp) -> Timestamp {
        let before = self.seen.fetch_max(at.seconds(), Ordering::SeqCst);
        Timestamp::from_seconds(before.max(at.seconds()))
    }

    pub(crate) fn seen(&self) -> Timestamp {
        Timestamp::from_seconds(self.seen.load(Ordering::SeqCst))
    }

    pub(crate) fn durable(&self) -> Timestamp {
        Timestamp::from_seconds(self.durable.load(Ordering::SeqCst))
    }

    /// Notes what a commit has made durable.
    pub(crate) fn persisted(&self, at: Timestamp) {
        self.durable.store(at.seconds(), Ordering::SeqCst);
    }

    /// Sets both, downwards too: an operator's decision that is durable already.
    pub(crate) fn reset(&self, to: Timestamp) {
        self.durable.store(to.seconds(), Ordering::SeqCst);
        self.seen.store(to.seconds(), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_only_moves_up_unless_it_is_reset() {
        let at = Timestamp::from_seconds;
        let mark = HighWater::new(at(100));
        assert_eq!(mark.see(at(90)), at(100));
        assert_eq!(mark.see(at(110)), at(110));
        assert_eq!((mark.seen(), mark.durable()), (at(110), at(100)));
        mark.persisted(at(110));
        assert_eq!(mark.durable(), at(110));
        mark.reset(at(50));
        assert_eq!((mark.seen(), mark.durable()), (at(50), at(50)));
    }
}
