//! Keys that are the same in every run, so that tests need not make any.

use scep_keys::{Backend, SoftwareKey};
use scep_types::{DecryptionKey, KeyAlgorithm, Signer, SpkiDer};
use std::sync::{Arc, OnceLock};

macro_rules! test_keys {
    ($($(#[$doc:meta])* $name:ident = $file:literal: $algorithm:expr,)*) => {
        /// A key that is published with the source: for tests, benches and fuzzing, never for anything else.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum TestKey { $($(#[$doc])* $name,)* }

        impl TestKey {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its PKCS #8 PEM, with a line before it that says what it is.
            #[must_use]
            pub const fn pem(self) -> &'static str {
                match self { $(Self::$name => include_str!(concat!("../keys/", $file, ".pem")),)* }
            }

            /// Its algorithm.
            #[must_use]
            pub const fn algorithm(self) -> KeyAlgorithm {
                match self { $(Self::$name => $algorithm,)* }
            }
        }
    };
}

test_keys! {
    /// The first RSA key of 2048 bits.
    RsaA = "rsa-a": KeyAlgorithm::Rsa(2048),
    /// The second RSA key of 2048 bits.
    RsaB = "rsa-b": KeyAlgorithm::Rsa(2048),
    /// The third RSA key of 2048 bits.
    RsaC = "rsa-c": KeyAlgorithm::Rsa(2048),
    /// The fourth RSA key of 2048 bits.
    RsaD = "rsa-d": KeyAlgorithm::Rsa(2048),
    /// The first key on P-256.
    P256A = "p256-a": KeyAlgorithm::P256,
    /// The second key on P-256.
    P256B = "p256-b": KeyAlgorithm::P256,
    /// The third key on P-256.
    P256C = "p256-c": KeyAlgorithm::P256,
    /// The fourth key on P-256.
    P256D = "p256-d": KeyAlgorithm::P256,
    /// The key on P-384.
    P384A = "p384-a": KeyAlgorithm::P384,
}

impl TestKey {
    /// The key on aws-lc-rs; parsed once in a process.
    ///
    /// # Panics
    /// When the file that was compiled in is no key, which a test of this crate rules out.
    #[must_use]
    pub fn key(self) -> SoftwareKey {
        static PARSED: OnceLock<Vec<SoftwareKey>> = OnceLock::new();
        let all =
            PARSED.get_or_init(|| Self::ALL.iter().map(|key| key.on(Backend::AwsLc)).collect());
        match all.get(self as usize) {
            Some(key) => key.clone(),
            None => unreachable!("ALL has every key, in the order of the enum"),
        }
    }

    /// The key on a back end of choice. On the pure-Rust one, ECDSA signatures are deterministic (RFC 6979), which
    /// test vectors want.
    ///
    /// # Panics
    /// As [`TestKey::key`].
    #[must_use]
    #[allow(
        clippy::expect_used,
        reason = "a constant of this crate, and the crate's test loads all of them"
    )]
    pub fn on(self, backend: Backend) -> SoftwareKey {
        let block = pem::parse(self.pem()).expect("a PEM block");
        SoftwareKey::from_pkcs8_der(block.contents(), backend).expect("a PKCS #8 key")
    }

    /// Its public half.
    #[must_use]
    pub fn public_key(self) -> SpkiDer {
        self.key().public_key().clone()
    }

    /// As a signer.
    #[must_use]
    pub fn signer(self) -> Arc<dyn Signer> {
        self.key().signer()
    }

    /// As a decryption key.
    ///
    /// # Panics
    /// As [`TestKey::key`].
    #[must_use]
    #[allow(
        clippy::expect_used,
        reason = "a constant of this crate, and the crate's test loads all of them"
    )]
    pub fn decryption(self) -> DecryptionKey {
        self.key().decryption().expect("a key that decrypts")
    }
}

fn numbered(keys: &[TestKey], n: usize) -> SoftwareKey {
    match keys.get(n) {
        Some(key) => key.key(),
        None => unreachable!("there are {} keys of this kind", keys.len()),
    }
}

/// The RSA key of 2048 bits with this number.
///
/// # Panics
/// When the number is above 3.
#[must_use]
pub fn rsa2048(n: usize) -> SoftwareKey {
    numbered(&[TestKey::RsaA, TestKey::RsaB, TestKey::RsaC, TestKey::RsaD], n)
}

/// The key on P-256 with this number.
///
/// # Panics
/// When the number is above 3.
#[must_use]
pub fn p256(n: usize) -> SoftwareKey {
    numbered(&[TestKey::P256A, TestKey::P256B, TestKey::P256C, TestKey::P256D], n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use scep_keys::distinct_keys;

    #[test]
    fn every_key_is_what_it_says_and_is_labelled() {
        for key in TestKey::ALL {
            assert_eq!(key.public_key().algorithm(), key.algorithm());
            assert_eq!(key.on(Backend::PureRust).public_key(), &key.public_key());
            assert_eq!(key.decryption().public_key(), &key.public_key());
            assert_eq!(key.signer().public_key(), &key.public_key());
            assert!(key.pem().contains("must be used for nothing else"));
        }
    }

    #[test]
    fn no_two_are_the_same() {
        let public: Vec<_> = TestKey::ALL.iter().map(|key| key.public_key()).collect();
        let named: Vec<_> = public.iter().map(|key| ("a test key", key)).collect();
        assert_eq!(distinct_keys(&named).unwrap().count(), 9);
    }
}
