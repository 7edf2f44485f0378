//! Weak keys, each made for the test, beside the strong key that differs from it in one thing.

use crate::support::*;
use num_bigint::BigUint;
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use scep_pkcs10::{CsrError, Rules, check_key};
use scep_types::{KeyAlgorithm, Reason, SpkiDer, SpkiHash};

fn check(key: &SpkiDer) -> Result<(), CsrError> {
    check_key(key, &Rules::default(), &[])
}

fn with_modulus(n: &BigUint) -> Result<(), CsrError> {
    check(&SpkiDer::from_rsa_parts(&n.to_bytes_be(), &[1, 0, 1]).unwrap())
}

fn small_primes(below: u32) -> impl Iterator<Item = u32> {
    (2..below).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0))
}

/// Whether it is prime, to the base 2: enough for numbers that nobody chose.
fn is_prime(n: &BigUint) -> bool {
    let one = BigUint::from(1_u32);
    small_primes(2100).all(|p| n % p != BigUint::ZERO)
        && BigUint::from(2_u32).modpow(&(n - &one), n) == one
}

fn next_prime(mut n: BigUint) -> BigUint {
    n.set_bit(0, true);
    while !is_prime(&n) {
        n += 2_u32;
    }
    n
}

/// A prime of 1,024 bits with the top two bits set, the same on every run for one seed.
fn prime(seed: u8) -> BigUint {
    let mut octets = [0; 128];
    TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]).fill_bytes(&mut octets);
    octets[0] |= 0xc0;
    next_prime(BigUint::from_bytes_be(&octets))
}

/// A prime as the broken generator makes it for RSA-2048: k·M + (65537^a mod M), M being the product of the first
/// 126 primes.
fn roca_prime(exponent: u32, skipped: u32) -> BigUint {
    let m: BigUint = small_primes(702).map(BigUint::from).product();
    let residue = BigUint::from(65_537_u32).modpow(&BigUint::from(exponent), &m);
    let k = (BigUint::from(3_u32) << 1022_u32) / &m + skipped;
    let mut candidate = &m * k + residue;
    while !is_prime(&candidate) {
        candidate += &m;
    }
    assert_eq!(candidate.bits(), 1024);
    candidate
}

#[test]
fn strong_keys_pass() {
    for algorithm in [KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Rsa(3072)] {
        assert_eq!(check(key(algorithm).public_key()), Ok(()));
    }
    assert_eq!(check(RSA_KEY.public_key()), Ok(()));
    assert_eq!(with_modulus(&(prime(1) * prime(2))), Ok(()));
}

#[test]
fn attack_44_modulus_size() {
    let rsa = |bits: u64| {
        let mut n = prime(1) * prime(2);
        n >>= n.bits() - bits;
        n.set_bit(0, true);
        SpkiDer::from_rsa_parts(&n.to_bytes_be(), &[1, 0, 1]).unwrap()
    };
    assert_eq!(check(&rsa(2047)), Err(CsrError::ModulusTooSmall { bits: 2047, min: 2048 }));
    assert_eq!(check(&rsa(1024)), Err(CsrError::ModulusTooSmall { bits: 1024, min: 2048 }));
    let rules = Rules { rsa_bits: (1024, 2047), ..Rules::default() };
    assert_eq!(
        check_key(RSA_KEY.public_key(), &rules, &[]),
        Err(CsrError::ModulusTooLarge { bits: 2048, max: 2047 })
    );
    let large = BigUint::from(1_u32) << 8192_u32;
    assert_eq!(with_modulus(&large), Err(CsrError::ModulusTooLarge { bits: 8193, max: 8192 }));
    assert_eq!(CsrError::Roca.reason(), Reason::WeakKey);
}

#[test]
fn attack_44_exponent() {
    let modulus = (prime(1) * prime(2)).to_bytes_be();
    let with_exponent =
        |e: u64| check(&SpkiDer::from_rsa_parts(&modulus, &e.to_be_bytes()).unwrap());
    for exponent in [65_537, 65_539, 0xffff_ffff] {
        assert_eq!(with_exponent(exponent), Ok(()));
    }
    for exponent in [1, 3, 17, 65_535] {
        assert_eq!(with_exponent(exponent), Err(CsrError::ExponentTooSmall { exponent }));
    }
    for exponent in [0, 2, 65_536, 65_538] {
        assert_eq!(with_exponent(exponent), Err(CsrError::ExponentEven { exponent }));
    }
    for exponent in [0x1_0000_0001, u64::MAX] {
        assert_eq!(with_exponent(exponent), Err(CsrError::ExponentTooLarge { exponent }));
    }
}

#[test]
fn attack_44_small_factors() {
    // As many bits as a key has, and the other factor a prime.
    let multiple = |p: u32| next_prime((BigUint::from(7_u32) << 2045_u32) / p) * p;
    for p in [2_u32, 3, 167, 173, 1999] {
        let n = multiple(p);
        assert_eq!(with_modulus(&n), Err(CsrError::SmallFactor { prime: p }), "{p}");
    }
    assert_eq!(with_modulus(&multiple(2003)), Ok(()));
}

#[test]
fn attack_44_roca() {
    let (p, q) = (roca_prime(1234, 0), roca_prime(777_777, 1_000_000_000));
    assert_eq!(with_modulus(&(&p * &q)), Err(CsrError::Roca));
    // One structured prime is not the broken generator's doing.
    assert_eq!(with_modulus(&(p * prime(3))), Ok(()));
}

#[test]
fn attack_44_close_primes() {
    let p = prime(4);
    // CVE-2022-26320: q is the next prime, or differs in the low half alone.
    for distance in [2_u32, 256, 500] {
        let q = next_prime(&p + (BigUint::from(1_u32) << distance));
        assert_eq!(with_modulus(&(&p * &q)), Err(CsrError::ClosePrimes), "2^{distance}");
        assert_eq!(with_modulus(&(&q * &q)), Err(CsrError::ClosePrimes));
    }
}

#[test]
fn attack_44_a_hundred_rounds_and_no_more() {
    let p = prime(5);
    // Rounds are (q - p)² / 8p.
    for (rounds, expected) in [(1_u32, true), (90, true), (130, false), (10_000, false)] {
        let q = next_prime(&p + (&p * 8_u32 * rounds).sqrt());
        let n = &p * &q;
        let needed = ((&p + &q) >> 1_u32) - n.sqrt();
        assert!(needed.bits() < 20);
        assert_eq!(needed <= BigUint::from(100_u32), expected, "{needed}");
        let result = with_modulus(&n);
        assert_eq!(result == Err(CsrError::ClosePrimes), expected, "{needed} {result:?}");
    }
}

#[test]
fn attack_44_our_own_keys() {
    let ours: Vec<SpkiHash> = [&*EC_KEY, &*RSA_KEY].map(|k| k.public_key().hash()).to_vec();
    for ours_key in [&*EC_KEY, &*RSA_KEY] {
        assert_eq!(check(ours_key.public_key()), Ok(()));
        assert_eq!(
            check_key(ours_key.public_key(), &Rules::default(), &ours),
            Err(CsrError::OurKey)
        );
    }
    // The same key in the encoding that leaves NULL out.
    let oid = scep_types::tlv::oid(&oid("1.2.840.113549.1.1.1"));
    let bits = scep_types::tlv::whole_bits(RSA_KEY.public_key().key_octets());
    let bare =
        SpkiDer::parse(&scep_types::tlv::sequence(&[&scep_types::tlv::sequence(&[&oid]), &bits]))
            .unwrap();
    assert_ne!(bare.hash(), RSA_KEY.public_key().hash());
    assert_eq!(check_key(&bare, &Rules::default(), &ours), Err(CsrError::OurKey));
}
