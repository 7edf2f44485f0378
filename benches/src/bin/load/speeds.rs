//! How fast the asymmetric operations of an enrolment are on this machine in this hour.

use crate::stats::median;
use crate::{Result, machine};
use sceptic_benches::Bench;

/// Rounds of each measurement.
const ROUNDS: usize = 40;

/// Of each operation, what one takes, µs of processor time: many measurements.
#[derive(Clone, Debug, Default)]
pub(crate) struct Speeds(Vec<(&'static str, Vec<f64>)>);

impl Speeds {
    /// On these processors, in a thread of their own.
    pub(crate) fn measure(processors: &[usize]) -> Result<Self> {
        std::thread::scope(|scope| {
            let measuring = scope.spawn(|| -> Result<Self> {
                machine::run_on(processors)?;
                Ok(Self(Bench::new().speeds(ROUNDS)))
            });
            measuring.join().map_err(|_| "the measurement of the operations was lost")?
        })
    }

    /// Another measurement of the same.
    pub(crate) fn add(&mut self, other: Self) {
        for ((_, all), (_, more)) in self.0.iter_mut().zip(other.0) {
            all.extend(more);
        }
    }

    pub(crate) fn fastest(&self, name: &str) -> f64 {
        self.all(name).iter().copied().reduce(f64::min).unwrap_or(0.0)
    }

    pub(crate) fn usual(&self, name: &str) -> f64 {
        median(&mut self.all(name).to_vec())
    }

    fn all(&self, name: &str) -> &[f64] {
        self.0.iter().find(|(own, _)| *own == name).map_or(&[], |(_, all)| all.as_slice())
    }
}

const RSA_VERIFY: &str = "RSA-2048 verify: message";
const RSA_DECRYPT: &str = "RSA-2048 decrypt: envelope";
const RSA_ENCRYPT: &str = "RSA-2048 encrypt: reply";
const RSA_SIGN: &str = "RSA-2048 sign: reply";
const P256_VERIFY: &str = "P-256 verify: challenge";
const P256_AGREE: &str = "P-256 agree: challenge";
const P256_SIGN: &str = "P-256 sign: certificate";

/// The operations that one enrolment needs with keys of these kinds: message, envelope, request, the challenge's signature
/// and envelope, certificate, and the reply's envelope and signature.
pub(crate) fn needed(device: &str, ca: &str, challenge: &str) -> Vec<&'static str> {
    let either = |key: &str, ec, rsa| if key == "p256" { ec } else { rsa };
    vec![
        RSA_VERIFY,
        RSA_DECRYPT,
        either(device, P256_VERIFY, RSA_VERIFY),
        P256_VERIFY,
        either(challenge, P256_AGREE, RSA_DECRYPT),
        either(ca, P256_SIGN, RSA_SIGN),
        RSA_ENCRYPT,
        RSA_SIGN,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_that_is_needed_is_measured() {
        let speeds = Speeds(Bench::new().speeds(1));
        for keys in ["p256", "rsa2048"] {
            for name in needed(keys, keys, keys) {
                assert!(speeds.fastest(name) > 0.0, "{name}");
            }
        }
        assert_eq!(speeds.fastest("another").to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn measurements_are_put_together() {
        let mut speeds = Speeds(vec![("a", vec![3.0]), ("b", vec![1.0])]);
        speeds.add(Speeds(vec![("a", vec![2.0, 9.0]), ("b", vec![1.0])]));
        assert!((speeds.fastest("a") - 2.0).abs() < 1e-9);
        assert!((speeds.usual("a") - 3.0).abs() < 1e-9);
    }
}
