//! How the ledger judges.

use core::time::Duration;

/// The largest clock skew that a gateway's opener may grant a challenge. A challenge is over for the ledger
/// once it expired this long ago; an opener with a smaller skew refuses it earlier.
pub(crate) const MAX_SKEW: Duration = Duration::from_secs(5 * 60);

/// How the ledger judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerSettings {
    /// For how long after issue a retry gets its certificate again. 24 h.
    pub retry_window: Duration,
    /// Mismatches per challenge before it is refused until it expires. 10.
    pub max_mismatches: u32,
    /// How far behind the high-water mark the clock may be before an alarm. 5 min.
    pub clock_tolerance: Duration,
    /// Requests that may wait for a person at the same time; what comes then is refused (RateExceeded). 10 000.
    pub max_held: u32,
    /// How many revocations an hour an issuer may order before an operator must confirm. 5 % or 10.
    pub revocations: RevocationBrake,
}

/// The brake on mass revocation: what is more than both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationBrake {
    /// Of the live certificates, in percent.
    pub percent: u8,
    /// However few are live.
    pub at_least: u32,
}

impl Default for RevocationBrake {
    fn default() -> Self {
        Self { percent: 5, at_least: 10 }
    }
}

impl Default for LedgerSettings {
    fn default() -> Self {
        Self {
            retry_window: Duration::from_secs(24 * 60 * 60),
            max_mismatches: 10,
            clock_tolerance: Duration::from_secs(5 * 60),
            max_held: 10_000,
            revocations: RevocationBrake::default(),
        }
    }
}
