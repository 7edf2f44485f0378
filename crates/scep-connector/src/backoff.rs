//! When to try again (PROTOCOL, 2.1).

use crate::ConnectorError;
use core::time::Duration;
use scep_types::CryptoProvider;

const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(300);

/// Exponential, from one second to five minutes, with jitter, and not before the issuer wants.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// After one more failure: between half of its step and all of it.
    pub(crate) fn after(
        &mut self,
        error: &ConnectorError,
        provider: &dyn CryptoProvider,
    ) -> Duration {
        let step = FIRST.saturating_mul(1 << self.failures.min(9)).min(LAST);
        self.failures = self.failures.saturating_add(1);
        let mut octets = [0; 2];
        // Without randomness all gateways come back at once, which is no reason not to come back.
        let _ = provider.random(&mut octets);
        let share = f64::from(u16::from_be_bytes(octets)) / f64::from(u16::MAX);
        let wait = step.mul_f64(0.5 + share / 2.0);
        error.retry_after().map_or(wait, |asked| wait.max(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scep_link::{AnswerError, ErrorCode};
    use scep_testkit::SeededProvider;

    #[test]
    fn it_doubles_from_a_second_to_five_minutes_and_respects_the_issuer() {
        let provider = SeededProvider::new([1; 32]);
        let mut backoff = Backoff::default();
        let error = ConnectorError::Http { why: String::new() };
        let mut steps = Vec::new();
        for _ in 0..40 {
            steps.push(backoff.after(&error, &provider));
        }
        for (nth, wait) in steps.iter().enumerate() {
            let step = FIRST.saturating_mul(1 << nth.min(9)).min(LAST);
            assert!(*wait >= step / 2 && *wait <= step, "{nth}: {wait:?}");
        }
        assert!(steps[10..].iter().any(|wait| *wait != steps[39]), "no jitter: {steps:?}");
        let busy = ConnectorError::Answer {
            error: AnswerError::Refused { status: 503, code: ErrorCode::Unavailable, detail: None },
            retry_after: Some(Duration::from_secs(900)),
        };
        assert_eq!(backoff.after(&busy, &provider), Duration::from_secs(900));
        backoff.reset();
        assert!(backoff.after(&error, &provider) <= FIRST);
    }
}
