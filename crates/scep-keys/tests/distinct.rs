//! Each purpose has its own key.
#![allow(clippy::unwrap_used, reason = "a helper of tests may panic as a test may")]

use scep_keys::{AwsLc, SharedKey, SoftwareKey, danger, distinct_keys};
use scep_types::{CryptoProvider, KeyAlgorithm, KeyError, SignatureScheme, SpkiDer};

fn public(algorithm: KeyAlgorithm) -> SpkiDer {
    SoftwareKey::generate(algorithm).unwrap().public_key().clone()
}

#[test]
fn attack_25_two_purposes_with_one_key_are_refused() {
    let (ca, ra, challenge) =
        (public(KeyAlgorithm::Rsa(2048)), public(KeyAlgorithm::P256), public(KeyAlgorithm::P384));
    let all = [("CA", &ca), ("RA decryption", &ra), ("challenge decryption", &challenge)];
    assert_eq!(distinct_keys(&all).unwrap().count(), 3);
    assert_eq!(distinct_keys(&[]).unwrap().count(), 0);
    let error = distinct_keys(&[all[0], all[1], all[2], ("RA signing", &ca)]).unwrap_err();
    assert_eq!(error, SharedKey { a: "CA".into(), b: "RA signing".into() });
    assert_eq!(
        error.to_string(),
        "CA and RA signing are the same key; each purpose needs its own, so make another for one of them"
    );
}

#[test]
fn attack_25_another_encoding_or_exponent_does_not_hide_the_same_key() {
    let key = public(KeyAlgorithm::Rsa(2048));
    let parts = key.rsa().unwrap();
    let shared = Err(SharedKey { a: "CA".into(), b: "RA".into() });
    let other_exponent = SpkiDer::from_rsa_parts(parts.modulus, &[1, 0, 3]).unwrap();
    assert_eq!(distinct_keys(&[("CA", &key), ("RA", &other_exponent)]).map(|_| ()), shared);
    // The same key without the NULL parameters.
    use scep_types::tlv;
    let rsa = scep_types::ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
    let bare =
        tlv::sequence(&[&tlv::sequence(&[&tlv::oid(&rsa)]), &tlv::whole_bits(key.key_octets())]);
    let bare = SpkiDer::parse(&bare).unwrap();
    assert_ne!(bare, key);
    assert_eq!(distinct_keys(&[("CA", &key), ("RA", &bare)]).map(|_| ()), shared);
}

#[test]
fn sha_1_signatures_are_made_by_the_dangerous_signer_alone() {
    let key = SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).unwrap();
    assert!(key.signer().sign(SignatureScheme::RsaPkcs1Sha1, b"message").is_err());
    let signer = danger::sha1_signer(&key).unwrap();
    for scheme in [SignatureScheme::RsaPkcs1Sha1, SignatureScheme::RsaPkcs1Sha256] {
        let signature = signer.sign(scheme, b"message").unwrap();
        AwsLc.verify(signer.public_key(), scheme, b"message", &signature).unwrap();
    }
    let ec = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    assert_eq!(
        danger::sha1_signer(&ec).unwrap_err(),
        KeyError::Unsupported {
            operation: "signing with RSA PKCS #1 v1.5 and SHA-1",
            key: "p256".into()
        }
    );
}
