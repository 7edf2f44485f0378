//! What is said about many measurements.

use core::time::Duration;

/// Latencies, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn new(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        Self(all)
    }

    /// The smallest value that at least this share of all is not above (nearest rank): a value that was measured. Zero
    /// without any.
    pub(crate) fn quantile(&self, per_mille: usize) -> Duration {
        let rank = self.0.len().saturating_mul(per_mille).div_ceil(1000);
        self.0.get(rank.saturating_sub(1)).or_else(|| self.0.last()).copied().unwrap_or_default()
    }

    pub(crate) fn max(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }
}

/// The one in the middle; the upper one of two. Zero without any.
pub(crate) fn median(all: &mut [f64]) -> f64 {
    all.sort_unstable_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(0.0)
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What happened in `amount` of something, for each; zero where there was none.
pub(crate) fn each(whole: f64, amount: usize) -> f64 {
    // Counts of a run are far below what a double counts exactly.
    #[allow(clippy::cast_precision_loss, reason = "below 2^53")]
    let amount = amount as f64;
    if amount > 0.0 { whole / amount } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let hundred = Latencies::new((1..=100).rev().map(ms).collect());
        for (per_mille, value) in [(0, 1), (1, 1), (500, 50), (501, 51), (900, 90), (990, 99)] {
            assert_eq!(hundred.quantile(per_mille), ms(value), "{per_mille}");
        }
        assert_eq!((hundred.quantile(1000), hundred.max()), (ms(100), ms(100)));
        // Of a few, the 99th percentile is the largest.
        let few = Latencies::new(vec![ms(3), ms(1), ms(2)]);
        assert_eq!((few.quantile(990), few.quantile(500)), (ms(3), ms(2)));
        let none = Latencies::default();
        assert_eq!((none.quantile(500), none.max()), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn the_median_does_not_mind_one_outlier() {
        assert_eq!(median(&mut [5.0, 1.0, 900.0]).to_bits(), 5.0_f64.to_bits());
        assert_eq!(median(&mut [2.0, 1.0]).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median(&mut []).to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn each_of_none_is_nothing() {
        assert_eq!(each(3.0, 2).to_bits(), 1.5_f64.to_bits());
        assert_eq!(each(3.0, 0).to_bits(), 0.0_f64.to_bits());
    }
}
