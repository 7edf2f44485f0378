//! The two back ends are each other's oracle: what one does the other undoes, and both refuse the same.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper of tests may panic as a test may"
)]

use scep_keys::{AwsLc, Backend, PureRust, SoftwareKey};
use scep_types::{
    CryptoProvider, DecryptionKey, EcdhKey, KeyAlgorithm, KeyError, OaepHash, RsaDecryptionKey,
    RsaPadding, Secret, SignatureInvalid, SignatureScheme, Signer, SpkiDer,
};
use std::sync::{Arc, LazyLock};

const BACKENDS: [Backend; 2] = [Backend::AwsLc, Backend::PureRust];
const PROVIDERS: [&dyn CryptoProvider; 2] = [&AwsLc, &PureRust];

const SCHEMES: [SignatureScheme; 10] = [
    SignatureScheme::RsaPkcs1Sha1,
    SignatureScheme::RsaPkcs1Sha256,
    SignatureScheme::RsaPkcs1Sha384,
    SignatureScheme::RsaPkcs1Sha512,
    SignatureScheme::RsaPssSha256,
    SignatureScheme::RsaPssSha384,
    SignatureScheme::RsaPssSha512,
    SignatureScheme::EcdsaSha256,
    SignatureScheme::EcdsaSha384,
    SignatureScheme::EcdsaSha512,
];

const PADDINGS: [RsaPadding; 5] = [
    RsaPadding::Pkcs1v15,
    RsaPadding::Oaep(OaepHash::Sha1),
    RsaPadding::Oaep(OaepHash::Sha256),
    RsaPadding::Oaep(OaepHash::Sha384),
    RsaPadding::Oaep(OaepHash::Sha512),
];

/// One key in both back ends.
struct Pair([SoftwareKey; 2]);

impl Pair {
    fn generate(algorithm: KeyAlgorithm) -> Self {
        let der = SoftwareKey::generate(algorithm).unwrap().to_pkcs8_der().unwrap();
        Self(BACKENDS.map(|backend| SoftwareKey::from_pkcs8_der(der.expose(), backend).unwrap()))
    }

    fn public(&self) -> &SpkiDer {
        assert_eq!(self.0[0].public_key(), self.0[1].public_key());
        self.0[0].public_key()
    }

    fn rsa(&self) -> [Arc<dyn RsaDecryptionKey>; 2] {
        self.0.each_ref().map(|key| match key.decryption().unwrap() {
            DecryptionKey::Rsa(key) => key,
            DecryptionKey::Ec(_) => panic!("an EC key"),
        })
    }

    fn ec(&self) -> [Arc<dyn EcdhKey>; 2] {
        self.0.each_ref().map(|key| match key.decryption().unwrap() {
            DecryptionKey::Ec(key) => key,
            DecryptionKey::Rsa(_) => panic!("an RSA key"),
        })
    }
}

static RSA: LazyLock<Pair> = LazyLock::new(|| Pair::generate(KeyAlgorithm::Rsa(2048)));
static P256: LazyLock<Pair> = LazyLock::new(|| Pair::generate(KeyAlgorithm::P256));
static P384: LazyLock<Pair> = LazyLock::new(|| Pair::generate(KeyAlgorithm::P384));

fn fits(scheme: SignatureScheme, algorithm: KeyAlgorithm) -> bool {
    use SignatureScheme as S;
    match scheme {
        S::RsaPkcs1Sha1 => false,
        S::EcdsaSha256 | S::EcdsaSha384 | S::EcdsaSha512 => {
            !matches!(algorithm, KeyAlgorithm::Rsa(_))
        }
        _ => matches!(algorithm, KeyAlgorithm::Rsa(_)),
    }
}

#[test]
fn each_verifies_what_the_other_signs_and_nothing_else() {
    for pair in [&*RSA, &*P256, &*P384] {
        for key in &pair.0 {
            for scheme in SCHEMES {
                let signed = key.signer().sign(scheme, b"message");
                if !fits(scheme, pair.public().algorithm()) {
                    assert!(matches!(signed, Err(KeyError::Unsupported { .. })), "{scheme:?}");
                    continue;
                }
                let signature = signed.unwrap();
                for provider in PROVIDERS {
                    let verify = |message: &[u8], scheme, signature: &[u8]| {
                        provider.verify(pair.public(), scheme, message, signature)
                    };
                    assert_eq!(verify(b"message", scheme, &signature), Ok(()), "{scheme:?}");
                    assert_eq!(verify(b"massage", scheme, &signature), Err(SignatureInvalid));
                    for other in SCHEMES.into_iter().filter(|other| *other != scheme) {
                        assert_eq!(verify(b"message", other, &signature), Err(SignatureInvalid));
                    }
                    for at in [0, signature.len() / 2, signature.len() - 1] {
                        let mut bad = signature.clone();
                        bad[at] ^= 1;
                        assert_eq!(verify(b"message", scheme, &bad), Err(SignatureInvalid));
                    }
                    let longer = [&signature[..], &[0]].concat();
                    assert_eq!(verify(b"message", scheme, &longer), Err(SignatureInvalid));
                    let shorter = &signature[..signature.len() - 1];
                    assert_eq!(verify(b"message", scheme, shorter), Err(SignatureInvalid));
                    assert_eq!(verify(b"message", scheme, &[]), Err(SignatureInvalid));
                }
            }
        }
    }
}

#[test]
fn a_signature_does_not_verify_under_another_key() {
    let signature = P256.0[0].sign(SignatureScheme::EcdsaSha256, b"message").unwrap();
    let other = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    for provider in PROVIDERS {
        for key in [other.public_key(), P384.public(), RSA.public()] {
            assert_eq!(
                provider.verify(key, SignatureScheme::EcdsaSha256, b"message", &signature),
                Err(SignatureInvalid)
            );
        }
    }
}

/// What every test of decryption starts with: a key of random octets, known here.
fn filled(len: usize) -> Secret<Vec<u8>> {
    Secret::new(vec![0xa5; len])
}

#[test]
fn each_decrypts_what_the_other_encrypts() {
    for provider in PROVIDERS {
        for padding in PADDINGS {
            for len in [16, 24, 32] {
                let sent: Vec<u8> = (1..=len).collect();
                let ciphertext = provider.rsa_encrypt(RSA.public(), padding, &sent).unwrap();
                assert_eq!(ciphertext.len(), 256);
                for key in RSA.rsa() {
                    let mut got = filled(sent.len());
                    key.decrypt_key(padding, &ciphertext, &mut got).unwrap();
                    assert_eq!(got.expose(), &sent, "{padding:?}");
                }
            }
        }
    }
}

#[test]
fn attack_21_a_wrong_padding_leaves_the_random_key() {
    for padding in PADDINGS {
        let ciphertext = AwsLc.rsa_encrypt(RSA.public(), padding, &[7; 16]).unwrap();
        for key in RSA.rsa() {
            for at in [0, 1, 128, 255] {
                let mut bad = ciphertext.clone();
                bad[at] ^= 1;
                let mut got = filled(16);
                assert_eq!(key.decrypt_key(padding, &bad, &mut got), Ok(()), "{padding:?} {at}");
                assert_eq!(got.expose(), &[0xa5; 16], "{padding:?} {at}");
            }
            for other in PADDINGS.into_iter().filter(|other| *other != padding) {
                let mut got = filled(16);
                assert_eq!(key.decrypt_key(other, &ciphertext, &mut got), Ok(()));
                assert_eq!(got.expose(), &[0xa5; 16], "{padding:?} read as {other:?}");
            }
            // Not below the modulus.
            let mut got = filled(16);
            assert_eq!(key.decrypt_key(padding, &[0xff; 256], &mut got), Ok(()));
            assert_eq!(got.expose(), &[0xa5; 16]);
        }
    }
}

#[test]
fn attack_22_a_plaintext_of_another_length_leaves_the_random_key() {
    for padding in PADDINGS {
        for (sent, expected) in [(15, 16), (17, 16), (16, 32), (32, 16), (1, 16), (64, 32)] {
            let ciphertext = AwsLc.rsa_encrypt(RSA.public(), padding, &vec![7; sent]).unwrap();
            for key in RSA.rsa() {
                let mut got = filled(expected);
                assert_eq!(key.decrypt_key(padding, &ciphertext, &mut got), Ok(()));
                assert_eq!(got.expose(), &vec![0xa5; expected], "{padding:?} {sent} {expected}");
            }
        }
    }
}

#[test]
fn a_ciphertext_of_another_length_than_the_modulus_is_told() {
    let ciphertext = AwsLc.rsa_encrypt(RSA.public(), RsaPadding::Pkcs1v15, &[7; 16]).unwrap();
    let error = KeyError::Rejected { why: "the ciphertext has not the length of the modulus" };
    for key in RSA.rsa() {
        for bad in [&[][..], &ciphertext[1..], &[&[0], &ciphertext[..]].concat()] {
            for padding in PADDINGS {
                let mut got = filled(16);
                assert_eq!(key.decrypt_key(padding, bad, &mut got), Err(error.clone()));
                assert_eq!(got.expose(), &[0xa5; 16]);
            }
        }
    }
}

#[test]
fn agreement_is_mutual_across_the_back_ends() {
    for pair in [&*P256, &*P384] {
        for provider in PROVIDERS {
            let made = provider.ephemeral_agree(pair.public()).unwrap();
            assert_eq!(made.public_point.len(), pair.public().key_octets().len());
            for key in pair.ec() {
                let got = key.agree(&made.public_point).unwrap();
                assert_eq!(got.expose(), made.shared_secret.expose());
                assert_eq!(got.expose().len(), (made.public_point.len() - 1) / 2);
            }
        }
    }
}

#[test]
fn a_point_off_the_curve_is_refused() {
    let error = KeyError::Rejected { why: "the peer's point is not on the key's curve" };
    for (pair, len) in [(&*P256, 32), (&*P384, 48)] {
        let good = pair.public().key_octets().to_vec();
        let mut off = good.clone();
        off[2 * len] ^= 1;
        let compressed = [&[2 | (good[2 * len] & 1)][..], &good[1..=len]].concat();
        let mut at_infinity = vec![0; 2 * len + 1];
        at_infinity[0] = 4;
        for bad in [&[][..], &[0], &good[1..], &compressed, &off, &at_infinity] {
            for key in pair.ec() {
                assert_eq!(key.agree(bad).unwrap_err(), error, "{bad:02x?}");
            }
        }
        for bad in [off, at_infinity] {
            let peer = SpkiDer::from_ec_point(&bad).unwrap();
            for provider in PROVIDERS {
                assert_eq!(provider.ephemeral_agree(&peer).unwrap_err(), error);
            }
        }
    }
    // A point of the other curve.
    for key in P256.ec() {
        assert_eq!(key.agree(P384.public().key_octets()).unwrap_err(), error);
    }
}

#[test]
fn operations_that_do_not_fit_the_key_are_refused() {
    for provider in PROVIDERS {
        assert_eq!(
            provider.rsa_encrypt(P256.public(), RsaPadding::Pkcs1v15, &[7; 16]),
            Err(KeyError::Unsupported { operation: "RSA encryption", key: "p256".into() })
        );
        assert_eq!(
            provider.ephemeral_agree(RSA.public()).unwrap_err(),
            KeyError::Unsupported { operation: "key agreement", key: "rsa2048".into() }
        );
        assert_eq!(
            provider.rsa_encrypt(RSA.public(), RsaPadding::Pkcs1v15, &[7; 246]),
            Err(KeyError::Rejected { why: "the plaintext is too long for the RSA key" })
        );
    }
}

#[test]
fn attack_20_nothing_is_encrypted_to_a_short_rsa_key() {
    let mut modulus = RSA.public().rsa().unwrap().modulus[..128].to_vec();
    modulus[127] |= 1;
    let short = SpkiDer::from_rsa_parts(&modulus, &[1, 0, 1]).unwrap();
    for provider in PROVIDERS {
        assert_eq!(
            provider.rsa_encrypt(&short, RsaPadding::Pkcs1v15, &[7; 16]),
            Err(KeyError::Unsupported { operation: "RSA encryption", key: "rsa1024".into() })
        );
    }
}

#[test]
fn random_octets_differ() {
    for provider in PROVIDERS {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        provider.random(&mut a).unwrap();
        provider.random(&mut b).unwrap();
        assert_ne!(a, b);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever was encrypted and whatever length is expected, both give the plaintext when the lengths agree, and
    /// leave the key alone when they do not.
    #[test]
    fn attack_21_both_reject_in_the_same_cases(
        sent in proptest::collection::vec(0_u8.., 0..60),
        expected in 0_usize..60,
        same in 0_u8..2,
        padding in proptest::sample::select(&PADDINGS[..]),
    ) {
        let expected = if same == 1 { sent.len() } else { expected };
        let ciphertext = PureRust.rsa_encrypt(RSA.public(), padding, &sent).unwrap();
        for key in RSA.rsa() {
            let mut got = filled(expected);
            key.decrypt_key(padding, &ciphertext, &mut got).unwrap();
            let wanted = if sent.len() == expected { sent.clone() } else { vec![0xa5; expected] };
            proptest::prop_assert_eq!(got.expose(), &wanted);
        }
    }

    /// Random octets decrypt to no key, and never to an error.
    #[test]
    fn attack_21_random_ciphertexts_leave_the_random_key(
        ciphertext in proptest::collection::vec(0_u8.., 256),
        padding in proptest::sample::select(&PADDINGS[..]),
    ) {
        for key in RSA.rsa() {
            let mut got = filled(32);
            proptest::prop_assert_eq!(key.decrypt_key(padding, &ciphertext, &mut got), Ok(()));
            proptest::prop_assert_eq!(got.expose(), &vec![0xa5; 32]);
        }
    }
}
