//! The little arithmetic on large numbers that Fermat's method needs: a square root, and the test whether a
//! difference is a square. Numbers are 32-bit digits, least significant first.
//!
//! Written here because the whole need is these few lines, and a library for it would be one more dependency on
//! the path of every request. The tests compare with one.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "digits are widened before they meet: each sum and product fits, as said beside it"
)]

use core::cmp::Ordering;

/// The bits of a big-endian number.
pub(super) fn bits(octets: &[u8]) -> u32 {
    let zeros = octets.iter().take_while(|b| **b == 0).count();
    let significant = octets.get(zeros..).unwrap_or_default();
    let first = significant.first().map_or(0, |b| b.leading_zeros());
    u32::try_from(significant.len()).unwrap_or(u32::MAX).saturating_mul(8).saturating_sub(first)
}

pub(super) fn from_octets(octets: &[u8]) -> Vec<u32> {
    let (head, words) = octets.as_rchunks::<4>();
    let head = head.iter().fold(0, |n, b| (n << 8) | u32::from(*b));
    let mut digits: Vec<u32> = words.iter().rev().map(|word| u32::from_be_bytes(*word)).collect();
    digits.push(head);
    trim(&mut digits);
    digits
}

pub(super) fn to_octets(digits: &[u32]) -> Vec<u8> {
    digits.iter().rev().flat_map(|digit| digit.to_be_bytes()).collect()
}

/// Whether (root + more)² - n is the square of an integer.
pub(super) fn is_square_less(root: &[u32], more: u32, n: &[u32]) -> bool {
    let mut a = root.to_vec();
    a.push(0);
    add(&mut a, &[], more);
    let mut difference = square(&a);
    if compare(&difference, n) == Ordering::Less {
        return false;
    }
    subtract_multiple(&mut difference, n, 1);
    trim(&mut difference);
    compare(&square(&square_root(&difference)), &difference) == Ordering::Equal
}

/// The integer part of the square root, digit by digit as on paper: with a root r found so far and a remainder,
/// the next digit q is the largest with (2rB + q)q no more than the remainder, B being 2^32.
pub(super) fn square_root(n: &[u32]) -> Vec<u32> {
    // An even shift makes the number of digits even and sets one of the top two bits: q is then off by at most
    // three when it is estimated from the leading digits.
    let mut digits = n.to_vec();
    trim(&mut digits);
    let Some(top) = digits.last() else { return Vec::new() };
    let mut shift = top.leading_zeros() & !1;
    shift_left(&mut digits, shift);
    if digits.len() % 2 == 1 {
        digits.insert(0, 0);
        shift += 32;
    }
    let mut root: Vec<u32> = Vec::with_capacity(digits.len() / 2);
    let mut remainder: Vec<u32> = Vec::with_capacity(digits.len());
    for pair in digits.rchunks_exact(2) {
        remainder.splice(0..0, pair.iter().copied());
        if root.is_empty() {
            let pair = number(&remainder);
            let first = pair.isqrt();
            root.push(low(first));
            let rest = pair - first * first;
            remainder = vec![low(rest), low(rest >> 32)];
            continue;
        }
        let mut step = doubled_and_shifted(&root);
        // One digit more than `step`: room for its product with a digit.
        remainder.resize(step.len() + 1, 0);
        let mut q = estimate(&remainder, &step);
        set_lowest(&mut step, q);
        let mut negative = subtract_multiple(&mut remainder, &step, q);
        while negative {
            // (s + q)q is (s + q - 1)(q - 1) and (s + q) + (q - 1).
            q -= 1;
            negative = !add(&mut remainder, &step, q);
            set_lowest(&mut step, q);
        }
        root.insert(0, q);
        trim(&mut remainder);
    }
    shift_right(&mut root, shift / 2);
    trim(&mut root);
    root
}

/// 2rB. The root's top bit is set, so the new top digit is 1.
fn doubled_and_shifted(root: &[u32]) -> Vec<u32> {
    let mut doubled = Vec::with_capacity(root.len() + 2);
    doubled.push(0);
    doubled.extend_from_slice(root);
    doubled.push(0);
    shift_left(&mut doubled, 1);
    doubled
}

/// The quotient of the leading digits, at most the largest digit: the root's next digit or a little more.
fn estimate(remainder: &[u32], step: &[u32]) -> u32 {
    let leading = |digits: &[u32], count: usize| {
        digits.iter().rev().take(count).fold(0_u128, |n, d| (n << 32) | u128::from(*d))
    };
    let divisor = leading(step, 2).max(1);
    u32::try_from(leading(remainder, 3) / divisor).unwrap_or(u32::MAX)
}

fn set_lowest(digits: &mut [u32], value: u32) {
    if let Some(lowest) = digits.first_mut() {
        *lowest = value;
    }
}

/// Subtracts `factor` times `digit`. Says whether the result is negative; it is then off by B to the digits of
/// `from`, which [`add`] sets right.
fn subtract_multiple(from: &mut [u32], factor: &[u32], digit: u32) -> bool {
    let mut carry = 0_u64;
    for (to, f) in from.iter_mut().zip(factor.iter().chain(core::iter::repeat(&0))) {
        // (B - 1)² + B is less than B².
        let product = u64::from(*f) * u64::from(digit) + carry;
        let (difference, borrowed) = to.overflowing_sub(low(product));
        *to = difference;
        carry = (product >> 32) + u64::from(borrowed);
    }
    carry != 0
}

/// Adds a number and a digit. Says whether a carry is left.
fn add(to: &mut [u32], number: &[u32], digit: u32) -> bool {
    let mut carry = u64::from(digit);
    for (to, n) in to.iter_mut().zip(number.iter().chain(core::iter::repeat(&0))) {
        let sum = u64::from(*to) + u64::from(*n) + carry;
        *to = low(sum);
        carry = sum >> 32;
    }
    carry != 0
}

fn square(a: &[u32]) -> Vec<u32> {
    let mut product = vec![0; a.len() * 2];
    for (at, x) in a.iter().enumerate() {
        let mut carry = 0_u64;
        let row = product.iter_mut().skip(at);
        for (to, y) in row.zip(a.iter().chain(core::iter::repeat(&0))) {
            // B - 1 twice and (B - 1)² are B² - 1.
            let sum = u64::from(*to) + u64::from(*x) * u64::from(*y) + carry;
            *to = low(sum);
            carry = sum >> 32;
        }
    }
    trim(&mut product);
    product
}

/// Compares trimmed or untrimmed numbers.
fn compare(a: &[u32], b: &[u32]) -> Ordering {
    let width = a.len().max(b.len());
    let padded = |n: &[u32]| -> Vec<u32> {
        let mut digits = n.to_vec();
        digits.resize(width, 0);
        digits.reverse();
        digits
    };
    padded(a).cmp(&padded(b))
}

/// Shifts by less than 32 bits; the top digit must have the room.
fn shift_left(digits: &mut [u32], by: u32) {
    let mut carry = 0_u64;
    for digit in digits {
        let shifted = (u64::from(*digit) << by) | carry;
        *digit = low(shifted);
        carry = shifted >> 32;
    }
}

/// Shifts by less than 32 bits.
fn shift_right(digits: &mut [u32], by: u32) {
    let mut carry = 0_u64;
    for digit in digits.iter_mut().rev() {
        let shifted = ((u64::from(*digit) << 32) >> by) | carry;
        *digit = low(shifted >> 32);
        carry = (shifted & u64::from(u32::MAX)) << 32;
    }
}

/// The two lowest digits.
fn number(digits: &[u32]) -> u64 {
    digits.iter().rev().fold(0, |n, d| (n << 32) | u64::from(*d))
}

fn trim(digits: &mut Vec<u32>) {
    while digits.last() == Some(&0) {
        digits.pop();
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low digit is what is asked for")]
const fn low(x: u64) -> u32 {
    x as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigUint;
    use proptest::prelude::*;

    fn big(digits: &[u32]) -> BigUint {
        BigUint::new(digits.to_vec())
    }

    /// Numbers with long runs of ones and zeros, where carries and estimates go wrong if they can.
    fn octets() -> impl Strategy<Value = Vec<u8>> {
        let octet = prop_oneof![any::<u8>(), Just(0), Just(0xff), Just(0x80)];
        prop_oneof![
            proptest::collection::vec(octet.clone(), 0..40),
            proptest::collection::vec(octet, 256..=260),
        ]
    }

    proptest! {
        // PROPTEST_CASES asks for more.
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2000)))]
        #[test]
        fn numbers_survive_the_round_trip(octets in octets()) {
            let n = from_octets(&octets);
            prop_assert_eq!(big(&n), BigUint::from_bytes_be(&octets));
            prop_assert_eq!(BigUint::from_bytes_be(&to_octets(&n)), big(&n));
            prop_assert_eq!(u64::from(bits(&octets)), big(&n).bits());
        }

        #[test]
        fn roots_are_those_of_a_big_integer_library(octets in octets()) {
            let n = from_octets(&octets);
            prop_assert_eq!(big(&square_root(&n)), big(&n).sqrt());
        }

        #[test]
        fn roots_next_to_squares_are_right(octets in octets(), off in 0_u32..3) {
            let square = BigUint::from_bytes_be(&octets).pow(2) + off;
            let near = if off == 2 && square > BigUint::from(3_u32) { square - 3_u32 } else { square };
            prop_assert_eq!(big(&square_root(&near.to_u32_digits())), near.sqrt());
        }

        #[test]
        fn differences_of_squares_are_found(a in octets(), b in octets(), more in 0_u32..101) {
            let (a, b) = (BigUint::from_bytes_be(&a), BigUint::from_bytes_be(&b));
            let (a, b) = if a < b { (b, a) } else { (a, b) };
            let a = a + more;
            let n = (&a * &a - &b * &b).to_u32_digits();
            let root = (&a - more).to_u32_digits();
            prop_assert!(is_square_less(&root, more, &n));
            // One more, and the difference is b² - 1: a square when b is 1.
            let next = (&a * &a - &b * &b + 1_u32).to_u32_digits();
            prop_assert_eq!(is_square_less(&root, more, &next), b == BigUint::from(1_u32));
        }
    }
}
