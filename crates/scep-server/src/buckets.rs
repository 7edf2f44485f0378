//! Token buckets by key: what one source, one challenge or one request may ask for.

use core::hash::Hash;
use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Buckets by key, in a table of bounded size.
///
/// A full table refuses nobody: buckets that have refilled are forgotten, and if that makes too little room, the half
/// that lacks the least. Whoever is forgotten begins with a full bucket. So a crowd of sources large enough to fill the
/// table gains nothing that so many sources would not have had anyway, and keeps no honest one out; against that crowd
/// it is the queue that is bounded.
///
/// Time is counted from the start and not taken from the clock: a clock set back must not keep a bucket empty.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    refill: Duration,
    /// What a full bucket takes to refill from empty.
    depth: Duration,
    began: Instant,
    /// When each bucket is full again.
    full_at: Mutex<HashMap<K, Duration>>,
}

/// For how many keys there is a bucket at most: some megabytes.
pub(crate) const MAX_BUCKETS: usize = 65_536;

impl<K: Copy + Eq + Hash> Buckets<K> {
    /// `burst` tokens at once, at least one, and one more each `refill`.
    pub(crate) fn new(burst: u32, refill: Duration) -> Self {
        let depth = refill.saturating_mul(burst.max(1));
        Self { refill, depth, began: Instant::now(), full_at: Mutex::default() }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// How long there will be none.
    pub(crate) fn take(&self, key: K) -> Result<(), Duration> {
        self.take_at(key, self.began.elapsed())
    }

    fn take_at(&self, key: K, now: Duration) -> Result<(), Duration> {
        let mut buckets = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&key) {
            make_room(&mut buckets, now);
        }
        let full_at = buckets.entry(key).or_insert(now);
        let full_then = (*full_at).max(now).saturating_add(self.refill);
        match full_then.saturating_sub(now).checked_sub(self.depth) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                *full_at = full_then;
                Ok(())
            }
        }
    }
}

/// Frees a quarter of the table or more, so that the work is done once for so many new keys.
fn make_room<K: Eq + Hash>(buckets: &mut HashMap<K, Duration>, now: Duration) {
    buckets.retain(|_, full_at| *full_at > now);
    if buckets.len() > MAX_BUCKETS / 4 * 3 {
        let mut times: Vec<Duration> = buckets.values().copied().collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        buckets.retain(|_, full_at| *full_at > median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn attack_59_a_bucket_gives_its_burst_and_then_one_each_refill() {
        let buckets = Buckets::new(3, Duration::from_secs(5));
        assert_eq!((0..5).filter(|_| buckets.take_at(1, at(100)).is_ok()).count(), 3);
        assert_eq!(buckets.take_at(2, at(100)), Ok(()), "another key");
        assert_eq!(buckets.take_at(1, at(104)), Err(at(1)));
        assert_eq!(buckets.take_at(1, at(105)), Ok(()));
        assert_eq!(buckets.take_at(1, at(105)), Err(at(5)));
        assert_eq!((0..5).filter(|_| buckets.take_at(1, at(1_000)).is_ok()).count(), 3);
    }

    #[test]
    fn settings_that_make_no_sense_neither_refuse_everything_nor_overflow() {
        let none = Buckets::new(0, Duration::from_secs(5));
        assert_eq!(none.take_at(1, at(0)), Ok(()));
        assert_eq!(none.take_at(1, at(0)), Err(at(5)));
        let endless = Buckets::new(u32::MAX, Duration::MAX);
        assert_eq!(endless.take_at(1, at(1)), Ok(()));
        let free = Buckets::new(1, Duration::ZERO);
        assert!((0..9).all(|_| free.take_at(1, at(1)).is_ok()));
    }

    #[test]
    fn attack_59_a_full_table_refuses_nobody_and_forgets_those_who_lack_the_least() {
        let buckets = Buckets::new(2, Duration::from_secs(3_600));
        let greedy = u64::MAX;
        assert_eq!(buckets.take_at(greedy, at(0)), Ok(()));
        assert_eq!(buckets.take_at(greedy, at(0)), Ok(()));
        // Three tables full of sources that come once each.
        for key in 0..3 * MAX_BUCKETS as u64 {
            assert_eq!(buckets.take_at(key, at(1)), Ok(()), "{key}");
        }
        let kept = buckets.full_at.lock().unwrap().len();
        assert!(kept <= MAX_BUCKETS, "{kept}");
        // Whoever had spent everything is not forgotten for them.
        assert!(buckets.take_at(greedy, at(1)).is_err());
    }

    #[test]
    fn buckets_that_have_refilled_are_forgotten_before_others() {
        let buckets = Buckets::new(2, Duration::from_secs(10));
        for key in 0..MAX_BUCKETS as u64 - 1 {
            assert_eq!(buckets.take_at(key, at(0)), Ok(()));
        }
        let busy = u64::MAX;
        assert_eq!(buckets.take_at(busy, at(15)), Ok(()));
        assert_eq!(buckets.take_at(busy, at(15)), Ok(()));
        assert_eq!(buckets.take_at(busy - 1, at(15)), Ok(()));
        assert_eq!(buckets.full_at.lock().unwrap().len(), 2);
        assert!(buckets.take_at(busy, at(15)).is_err());
    }
}
