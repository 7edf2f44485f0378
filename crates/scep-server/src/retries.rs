//! Repeats of one request have a token bucket of their own: each costs a signature and an encryption, and
//! none of it shows in the ledger.

use core::time::Duration;
use scep_types::{CsrInfoHash, Timestamp};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Buckets by request. Bounded: when full, buckets that have refilled are dropped, and if there are none
/// the repeat is refused (the device comes again).
#[derive(Debug)]
pub(crate) struct Retries {
    burst: u32,
    refill: Duration,
    buckets: Mutex<HashMap<CsrInfoHash, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: u32,
    at: Timestamp,
}

const MAX_BUCKETS: usize = 16_384;

impl Retries {
    pub(crate) fn new(burst: u32, refill: Duration) -> Self {
        Self { burst: burst.max(1), refill, buckets: Mutex::default() }
    }

    /// Takes a token for a repeat of this request.
    pub(crate) fn take(&self, request: CsrInfoHash, now: Timestamp) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&request) {
            buckets.retain(|_, bucket| self.refilled(*bucket, now).tokens < self.burst);
            if buckets.len() >= MAX_BUCKETS {
                return false;
            }
        }
        let bucket = buckets.entry(request).or_insert(Bucket { tokens: self.burst, at: now });
        *bucket = self.refilled(*bucket, now);
        match bucket.tokens.checked_sub(1) {
            Some(left) => {
                bucket.tokens = left;
                true
            }
            None => false,
        }
    }

    fn refilled(&self, bucket: Bucket, now: Timestamp) -> Bucket {
        let step = self.refill.as_secs().max(1);
        let gained = now.since(bucket.at).as_secs() / step;
        let tokens = u64::from(bucket.tokens).saturating_add(gained).min(u64::from(self.burst));
        Bucket {
            tokens: u32::try_from(tokens).unwrap_or(self.burst),
            at: bucket.at.plus(Duration::from_secs(gained.saturating_mul(step))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_answered_up_to_the_burst_and_then_one_each_refill() {
        let retries = Retries::new(3, Duration::from_secs(5));
        let request = CsrInfoHash::from_bytes([1; 32]);
        let at = Timestamp::from_seconds;
        assert_eq!((0..5).filter(|_| retries.take(request, at(100))).count(), 3);
        assert!(retries.take(CsrInfoHash::from_bytes([2; 32]), at(100)), "another request");
        assert!(!retries.take(request, at(104)));
        assert!(retries.take(request, at(105)));
        assert!(!retries.take(request, at(105)));
        assert!(!retries.take(request, at(50)), "a clock set back gives nothing");
    }
}
