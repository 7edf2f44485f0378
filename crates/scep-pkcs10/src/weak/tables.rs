//! The small primes, what is to be known about their residues, and how a large number's residues are found.

use core::num::{NonZeroU32, NonZeroU64, NonZeroU128};
use std::sync::LazyLock;

/// Primes below this are tried as factors.
const PRIMES_BELOW: u32 = 2000;
/// The broken generator's primes are powers of 65,537 modulo every prime up to this one, whatever the key's size.
pub(super) const ROCA_LAST_PRIME: u32 = 167;

/// Every prime below 2,000, ascending, in groups whose product has at most 64 bits: one long division gives the
/// residues of a whole group.
pub(super) static GROUPS: LazyLock<Vec<Group>> = LazyLock::new(|| {
    let mut groups: Vec<Group> = Vec::new();
    for value in primes() {
        let prime = Prime::new(value);
        let product = groups.last().and_then(|g| g.product.checked_mul(NonZeroU64::from(value)));
        match (groups.last_mut(), product) {
            (Some(group), Some(product)) => {
                group.product = product;
                group.primes.push(prime);
            }
            _ => groups.push(Group { product: value.into(), primes: vec![prime] }),
        }
    }
    groups
});

pub(super) struct Group {
    product: NonZeroU64,
    primes: Vec<Prime>,
}

/// A prime, with the two sets of its residues that matter, for primes up to [`ROCA_LAST_PRIME`].
pub(super) struct Prime {
    value: NonZeroU32,
    powers: Residues,
    squares: Residues,
}

impl Prime {
    fn new(value: NonZeroU32) -> Self {
        let (mut powers, mut squares) = (Residues::default(), Residues::default());
        if value.get() <= ROCA_LAST_PRIME {
            let mut power = 1;
            for n in 0..value.get() {
                powers.insert(power);
                power = product(power, 65_537, value);
                squares.insert(product(n, n, value));
            }
        }
        Self { value, powers, squares }
    }

    pub(super) const fn value(&self) -> u32 {
        self.value.get()
    }

    /// Whether the residue is that of a power of 65,537.
    pub(super) fn has_power(&self, residue: u32) -> bool {
        self.powers.contains(residue)
    }

    /// Whether (root + more)² - n is a square modulo this prime.
    pub(super) fn may_be_square(&self, root: u32, more: u32, n: u32) -> bool {
        let a = u64::from(root).wrapping_add(u64::from(more));
        // Below 2^64: root and n are residues, and there are few rounds.
        let negative_n = u64::from(self.value.get()).wrapping_sub(u64::from(n));
        let difference = a.wrapping_mul(a).wrapping_add(negative_n) % NonZeroU64::from(self.value);
        u32::try_from(difference).is_ok_and(|residue| self.squares.contains(residue))
    }
}

fn product(a: u32, b: u32, modulus: NonZeroU32) -> u32 {
    let remainder = u64::from(a).wrapping_mul(u64::from(b)) % NonZeroU64::from(modulus);
    u32::try_from(remainder).unwrap_or_default()
}

/// A set of residues of a prime below 256.
#[derive(Default)]
struct Residues([u128; 2]);

impl Residues {
    fn insert(&mut self, residue: u32) {
        let [low, high] = &mut self.0;
        let half = if residue < 128 { low } else { high };
        *half |= 1_u128.wrapping_shl(residue);
    }

    const fn contains(&self, residue: u32) -> bool {
        let [low, high] = self.0;
        let half = if residue < 128 { low } else { high };
        half.wrapping_shr(residue) & 1 == 1
    }
}

/// The residues of a big-endian number modulo each prime of the groups, in order.
pub(super) fn residues<'a>(
    octets: &'a [u8],
    groups: &'a [Group],
) -> impl Iterator<Item = (&'a Prime, u32)> {
    groups.iter().flat_map(|group| {
        let residue = remainder(octets, group.product);
        group.primes.iter().map(move |prime| {
            let small = residue % NonZeroU64::from(prime.value);
            (prime, u32::try_from(small).unwrap_or_default())
        })
    })
}

/// A big-endian number modulo a small one.
fn remainder(octets: &[u8], modulus: NonZeroU64) -> u64 {
    let modulus = NonZeroU128::from(modulus);
    let step = |remainder: u64, word: u64| {
        let dividend = (u128::from(remainder) << 64) | u128::from(word);
        // Less than the modulus, which has 64 bits.
        u64::try_from(dividend % modulus).unwrap_or_default()
    };
    let (head, words) = octets.as_rchunks::<8>();
    let head = head.iter().fold(0, |n, b| (n << 8) | u64::from(*b));
    words.iter().fold(step(0, head), |n, word| step(n, u64::from_be_bytes(*word)))
}

fn primes() -> impl Iterator<Item = NonZeroU32> {
    (2..PRIMES_BELOW)
        .filter(|n| {
            (2..*n).take_while(|d| d.saturating_mul(*d) <= *n).all(|d| n.checked_rem(d) != Some(0))
        })
        .filter_map(NonZeroU32::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigUint;
    use proptest::prelude::*;

    #[test]
    fn the_primes_are_all_there_and_each_group_fits() {
        let all: Vec<u32> = GROUPS.iter().flat_map(|g| &g.primes).map(Prime::value).collect();
        assert_eq!(all.len(), 303);
        assert_eq!((all[0], all[302]), (2, 1999));
        for group in GROUPS.iter() {
            let product: u64 = group.primes.iter().map(|p| u64::from(p.value())).product();
            assert_eq!(product, group.product.get());
        }
    }

    #[test]
    fn residues_are_sorted_into_powers_and_squares() {
        let eleven = Prime::new(NonZeroU32::new(11).unwrap());
        // 65,537 is 10 modulo 11, and 10² is 1.
        let powers: Vec<u32> = (0..11).filter(|r| eleven.has_power(*r)).collect();
        assert_eq!(powers, [1, 10]);
        let squares: Vec<u32> = (0..11).filter(|r| eleven.squares.contains(*r)).collect();
        assert_eq!(squares, [0, 1, 3, 4, 5, 9]);
    }

    proptest! {
        #[test]
        fn residues_are_those_of_a_big_integer_library(octets in proptest::collection::vec(any::<u8>(), 0..70)) {
            let n = BigUint::from_bytes_be(&octets);
            for (prime, residue) in residues(&octets, &GROUPS) {
                prop_assert_eq!(BigUint::from(residue), &n % prime.value());
            }
        }
    }
}
