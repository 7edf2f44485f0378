//! Weak keys: what a device's broken generator makes, and what an attacker offers on purpose.
//!
//! Everything here is about public numbers, so nothing needs constant time. For RSA-2048 it costs less than one
//! verification of a signature.

mod natural;
mod tables;

use crate::{CsrError, Rules};
use scep_types::{RsaPublicParts, SpkiDer, SpkiHash};
use tables::{GROUPS, Prime, ROCA_LAST_PRIME};

/// The public exponent F4, the least that is accepted.
const F4: u64 = 65_537;
/// Rounds of Fermat's method. Primes as close as those of CVE-2022-26320 fall in the first.
const FERMAT_ROUNDS: u32 = 100;

/// Refuses weak keys.
///
/// RSA: a modulus outside `rules.rsa_bits`; an exponent that is even, below 65,537 or over 32 bits; a prime factor
/// below 2,000; the structure of ROCA (CVE-2017-15361; a sound key looks so with probability 2^-27.8); primes that
/// 100 rounds of Fermat's method find (CVE-2022-26320). Any key: one of `ours`, which are the hashes of our own
/// keys. Whether an EC point is on its curve is checked where the key is first used,
/// [`UnprovenCsr::prove`](crate::UnprovenCsr::prove).
///
/// Call it before `prove`: it bounds what a verification may cost.
///
/// # Errors
/// One variant of [`CsrError`] for each cause, all with [`Reason::WeakKey`](scep_types::Reason::WeakKey).
pub fn check_key(key: &SpkiDer, rules: &Rules, ours: &[SpkiHash]) -> Result<(), CsrError> {
    if ours.contains(&key.hash()) {
        return Err(CsrError::OurKey);
    }
    let Some(rsa) = key.rsa() else { return Ok(()) };
    // The same key with its NULL parameters left out has another hash.
    if SpkiDer::from_rsa_parts(rsa.modulus, rsa.exponent).is_ok_and(|k| ours.contains(&k.hash())) {
        return Err(CsrError::OurKey);
    }
    check_sizes(&rsa, rules)?;
    check_modulus(rsa.modulus)
}

fn check_sizes(rsa: &RsaPublicParts<'_>, rules: &Rules) -> Result<(), CsrError> {
    let (min, max) = rules.rsa_bits;
    let bits = natural::bits(rsa.modulus);
    if bits < min {
        return Err(CsrError::ModulusTooSmall { bits, min });
    }
    if bits > max {
        return Err(CsrError::ModulusTooLarge { bits, max });
    }
    // SpkiDer takes no exponent of more than 64 bits.
    let exponent = rsa.exponent.iter().fold(0_u64, |n, b| (n << 8) | u64::from(*b));
    if exponent & 1 == 0 {
        return Err(CsrError::ExponentEven { exponent });
    }
    if exponent < F4 {
        return Err(CsrError::ExponentTooSmall { exponent });
    }
    if exponent > u64::from(u32::MAX) {
        return Err(CsrError::ExponentTooLarge { exponent });
    }
    Ok(())
}

fn check_modulus(modulus: &[u8]) -> Result<(), CsrError> {
    let residues: Vec<(&Prime, u32)> = tables::residues(modulus, &GROUPS).collect();
    if let Some((prime, _)) = residues.iter().find(|(_, residue)| *residue == 0) {
        return Err(CsrError::SmallFactor { prime: prime.value() });
    }
    let mut structured = residues.iter().take_while(|(prime, _)| prime.value() <= ROCA_LAST_PRIME);
    if structured.all(|(prime, residue)| prime.has_power(*residue)) {
        return Err(CsrError::Roca);
    }
    if has_close_primes(modulus, &residues) {
        return Err(CsrError::ClosePrimes);
    }
    Ok(())
}

/// Fermat's method: n is (a + b)(a - b), and when the factors are close, a is just above the root of n and
/// a² - n is a square. A square is one modulo every prime; only what passes those is computed in full.
fn has_close_primes(modulus: &[u8], modulus_residues: &[(&Prime, u32)]) -> bool {
    let n = natural::from_octets(modulus);
    let root = natural::square_root(&n);
    let root_octets = natural::to_octets(&root);
    let residues: Vec<(&Prime, u32, u32)> = tables::residues(&root_octets, &GROUPS)
        .zip(modulus_residues)
        .map(|((prime, root), (_, n))| (prime, root, *n))
        .take_while(|(prime, _, _)| prime.value() <= ROCA_LAST_PRIME)
        .collect();
    (0..=FERMAT_ROUNDS).any(|round| {
        residues.iter().all(|(prime, root, n)| prime.may_be_square(*root, round, *n))
            && natural::is_square_less(&root, round, &n)
    })
}
