//! A clock that stands still until it is set.

use scep_types::{Clock, Timestamp};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A clock that shows what it was set to. Shared by reference or in an `Arc`: setting it is seen everywhere.
#[derive(Debug)]
pub struct FixedClock(AtomicI64);

impl FixedClock {
    /// 2026-01-01T00:00:00Z, the day that tests happen on unless the day matters.
    pub const DAY: Timestamp = Timestamp::from_seconds(1_767_225_600);

    /// A clock that shows this instant.
    #[must_use]
    pub const fn new(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.seconds()))
    }

    /// Sets it, forwards or back.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.seconds(), Ordering::SeqCst);
    }

    /// Moves it forwards.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().plus(by));
    }
}

impl Default for FixedClock {
    /// At [`FixedClock::DAY`].
    fn default() -> Self {
        Self::new(Self::DAY)
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_still_until_it_is_moved() {
        let clock = FixedClock::default();
        assert_eq!(clock.now().to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(clock.now(), FixedClock::DAY);
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(clock.now().to_string(), "2026-01-01T01:00:00Z");
        clock.set(FixedClock::DAY);
        assert_eq!(clock.now(), FixedClock::DAY);
    }
}
