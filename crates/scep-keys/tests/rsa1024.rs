//! Keys of 1024 bits: old devices have them, so signatures by them can be verified. Whether they may be is policy.
#![allow(clippy::unwrap_used, reason = "a helper of tests may panic as a test may")]

use scep_keys::{AwsLc, PureRust};
use scep_types::{CryptoProvider, KeyAlgorithm, SignatureInvalid, SignatureScheme, SpkiDer};

// PSS with SHA-512 and a salt as long does not fit into 1024 bits.
const SCHEMES: [(&str, SignatureScheme); 6] = [
    ("pkcs1-sha1", SignatureScheme::RsaPkcs1Sha1),
    ("pkcs1-sha256", SignatureScheme::RsaPkcs1Sha256),
    ("pkcs1-sha384", SignatureScheme::RsaPkcs1Sha384),
    ("pkcs1-sha512", SignatureScheme::RsaPkcs1Sha512),
    ("pss-sha256", SignatureScheme::RsaPssSha256),
    ("pss-sha384", SignatureScheme::RsaPssSha384),
];

fn field(name: &str) -> Vec<u8> {
    let line = include_str!("data/rsa1024.txt")
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .unwrap();
    hex::decode(line).unwrap()
}

#[test]
fn both_back_ends_verify_every_scheme_and_tell_them_apart() {
    let key = SpkiDer::parse(&field("spki")).unwrap();
    assert_eq!(key.algorithm(), KeyAlgorithm::Rsa(1024));
    for provider in [&AwsLc as &dyn CryptoProvider, &PureRust] {
        for (name, scheme) in SCHEMES {
            let signature = field(name);
            assert_eq!(provider.verify(&key, scheme, b"message", &signature), Ok(()), "{name}");
            assert_eq!(
                provider.verify(&key, scheme, b"massage", &signature),
                Err(SignatureInvalid),
                "{name}"
            );
            for (other, _) in SCHEMES.iter().filter(|(other, _)| *other != name) {
                assert_eq!(
                    provider.verify(&key, scheme, b"message", &field(other)),
                    Err(SignatureInvalid),
                    "{other} taken for {name}"
                );
            }
        }
    }
}
