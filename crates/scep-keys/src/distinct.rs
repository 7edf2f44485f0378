//! One key, one purpose.

use scep_types::SpkiDer;
use thiserror::Error;

/// Evidence that no two of a program's keys share a public key. Made by [`distinct_keys`] alone.
#[derive(Debug)]
pub struct DistinctKeys {
    count: usize,
}

impl DistinctKeys {
    /// How many keys were compared.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }
}

/// Two purposes are served by one key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{a} and {b} are the same key; each purpose needs its own, so make another for one of them"
)]
pub struct SharedKey {
    /// The name given first.
    pub a: String,
    /// The name given later.
    pub b: String,
}

/// Demands that each named key is another one: a CA key that also opens envelopes, for example, turns every
/// weakness of decryption into a way to sign certificates. Keys are compared by their numbers or points, so two
/// encodings of one key are one key.
///
/// # Errors
/// [`SharedKey`] with the first two names that share one.
pub fn distinct_keys(keys: &[(&str, &SpkiDer)]) -> Result<DistinctKeys, SharedKey> {
    for (at, (b, later)) in keys.iter().enumerate() {
        let earlier = keys.iter().take(at).find(|(_, earlier)| same(earlier, later));
        if let Some((a, _)) = earlier {
            return Err(SharedKey { a: (*a).to_owned(), b: (*b).to_owned() });
        }
    }
    Ok(DistinctKeys { count: keys.len() })
}

/// RSA keys are one when their moduli are: with the factors of one goes the other, whatever the exponents.
fn same(a: &SpkiDer, b: &SpkiDer) -> bool {
    match (a.rsa(), b.rsa()) {
        (Some(a), Some(b)) => a.modulus == b.modulus,
        _ => a.algorithm() == b.algorithm() && a.key_octets() == b.key_octets(),
    }
}
