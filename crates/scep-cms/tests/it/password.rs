//! PasswordRecipientInfo by hand: a good envelope, and one change at a time.

use crate::common::{
    Fixed, Node, RSA, algorithm, certificate, changed, counting, oid, structure, used,
};
use proptest::prelude::*;
use scep_cms::{
    CmsError, ContentEncryption, EnvelopedData, LegacyAlgorithms, Limits, Recipient, seal,
    seal_with_password,
};
use scep_keys::AwsLc;
use scep_types::tlv::{self, tag};
use scep_types::{Reason, RsaPadding, Secret};
use std::sync::LazyLock;

const TEXT: &[u8] = b"a certificate";
const CIPHERS: [ContentEncryption; 4] = [
    ContentEncryption::Aes128Cbc,
    ContentEncryption::Aes192Cbc,
    ContentEncryption::Aes256Cbc,
    ContentEncryption::DesEde3Cbc,
];

/// Paths in the tree of an envelope.
const RECIPIENTS: [usize; 3] = [1, 0, 1];
const RECIPIENT: [usize; 4] = [1, 0, 1, 0];
const DERIVATION: [usize; 5] = [1, 0, 1, 0, 1];
const PARAMETERS: [usize; 6] = [1, 0, 1, 0, 1, 1];
const SALT: [usize; 7] = [1, 0, 1, 0, 1, 1, 0];
const ITERATIONS: [usize; 7] = [1, 0, 1, 0, 1, 1, 1];
const PRF: [usize; 7] = [1, 0, 1, 0, 1, 1, 2];
const WRAPPING: [usize; 5] = [1, 0, 1, 0, 2];
const CIPHER: [usize; 6] = [1, 0, 1, 0, 2, 1];
const KEY_IV: [usize; 7] = [1, 0, 1, 0, 2, 1, 1];
const WRAPPED: [usize; 5] = [1, 0, 1, 0, 3];

fn password(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

fn sealed(encryption: ContentEncryption) -> Vec<u8> {
    seal_with_password(&AwsLc, &password("challenge"), encryption, TEXT).unwrap()
}

static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| sealed(ContentEncryption::Aes256Cbc));

fn open_as(der: &[u8], text: &str, legacy: LegacyAlgorithms) -> Result<Vec<u8>, CmsError> {
    let envelope = EnvelopedData::parse(der, &Limits::default(), legacy)?;
    // Randomness that is right by chance in no run: a wrong content key stays the same wrong one.
    envelope.open_with_password(&password(text), &Fixed(0x5a)).map(|text| text.expose().clone())
}

fn open(der: &[u8]) -> Result<Vec<u8>, CmsError> {
    open_as(der, "challenge", LegacyAlgorithms::Refuse)
}

fn edited(change: impl FnOnce(&mut Node)) -> Vec<u8> {
    changed(&GOOD, change)
}

fn integer(number: u64) -> Node {
    Node::parse(&tlv::small_int(number))
}

#[test]
fn every_cipher_opens_with_the_password() {
    for encryption in CIPHERS {
        for text in [&b""[..], TEXT, &[7; 5000]] {
            let long = "x".repeat(16 << 10);
            for given in ["p", "Pässwort", &long] {
                let der = seal_with_password(&AwsLc, &password(given), encryption, text).unwrap();
                assert_eq!(open_as(&der, given, LegacyAlgorithms::Accept).unwrap(), text);
            }
        }
    }
}

#[test]
fn what_is_written_is_what_rfc_5652_and_8018_say() {
    let mut tree = Node::parse(&GOOD);
    assert_eq!(tree.at(&[1, 0, 0]), &integer(3), "version of the envelope");
    assert_eq!(tree.at(&RECIPIENTS).children().len(), 1);
    assert!(matches!(tree.at(&RECIPIENT), Node::Constructed(0xa3, fields) if fields.len() == 4));
    assert_eq!(tree.at(&SALT).value().len(), 16);
    assert_eq!(tree.at(&ITERATIONS), &integer(10_000));
    let other = sealed(ContentEncryption::Aes256Cbc);
    let mut other = Node::parse(&other);
    for path in [&SALT[..], &KEY_IV, &WRAPPED] {
        assert_ne!(tree.at(path), other.at(path), "{path:?} is new each time");
    }
}

/// Made by OpenSSL 3.0: `openssl cms -encrypt -binary -outform DER -aes-128-cbc -pwri_password 'pass word'`.
/// Its command derives by HMAC with SHA-1, 2048 iterations.
const BY_OPENSSL: &str = include_str!("pwri_by_openssl.hex");

#[test]
fn hmac_with_sha_1_is_for_legacy_endpoints() {
    let der: Vec<u8> = BY_OPENSSL
        .trim()
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    let opened = open_as(&der, "pass word", LegacyAlgorithms::Accept);
    assert_eq!(opened.unwrap(), TEXT);
    assert_eq!(algorithm(open_as(&der, "pass word", LegacyAlgorithms::Refuse)), "hmacWithSHA1");
}

#[test]
fn attack_21_everything_wrong_behind_the_password_is_one_error() {
    let mut wrong: Vec<(&str, Result<Vec<u8>, CmsError>)> = vec![
        ("another password", open_as(&GOOD, "Challenge", LegacyAlgorithms::Refuse)),
        ("a longer password", open_as(&GOOD, "challenge ", LegacyAlgorithms::Refuse)),
    ];
    let mut change = |what, path: &[usize], octet: usize| {
        let der = edited(|tree| tree.at(path).value()[octet] ^= 1);
        wrong.push((what, open(&der)));
    };
    change("salt", &SALT, 0);
    change("salt", &SALT, 15);
    change("IV of the key", &KEY_IV, 0);
    change("IV of the key", &KEY_IV, 15);
    for octet in 0..48 {
        change("wrapped key", &WRAPPED, octet);
    }
    let iterations = edited(|tree| *tree.at(&ITERATIONS) = integer(10_001));
    wrong.push(("iterations", open(&iterations)));
    let prf = edited(|tree| tree.at(&PRF).children()[0].value()[7] = 10);
    wrong.push(("HMAC with SHA-384", open(&prf)));
    let cipher = edited(|tree| tree.at(&CIPHER).children()[0].value()[8] = 2);
    wrong.push(("AES-128", open(&cipher)));
    for (what, result) in wrong {
        assert_eq!(result, Err(CmsError::DoesNotOpen), "{what}");
    }
    assert_eq!(CmsError::DoesNotOpen.reason(), Reason::MessageDecryptionFailed);
}

#[test]
fn attack_23_a_password_is_the_only_recipient() {
    let twice = edited(|tree| {
        let recipient = tree.at(&RECIPIENT).clone();
        tree.at(&RECIPIENTS).children().push(recipient);
    });
    const BESIDE: &str = "recipient beside the one with a password";
    assert_eq!(structure(open(&twice)), BESIDE);

    let ra = certificate(&RSA, "CN=RA", 7);
    let by_key =
        seal(&AwsLc, &[&ra], RsaPadding::Pkcs1v15, ContentEncryption::Aes256Cbc, TEXT).unwrap();
    assert_eq!(open(&by_key), Err(CmsError::NotForUs));
    let mut tree = Node::parse(&by_key);
    let both =
        edited(|good| good.at(&RECIPIENTS).children().insert(0, tree.at(&RECIPIENT).clone()));
    assert_eq!(structure(open(&both)), BESIDE);

    // And nothing with a password gets as far as a private key.
    let (key, operations) = counting(&RSA);
    let envelope =
        EnvelopedData::parse(&GOOD, &Limits::default(), LegacyAlgorithms::Refuse).unwrap();
    let opened = envelope.open(&[Recipient { certificate: ra, key }], &AwsLc);
    assert_eq!((opened.unwrap_err(), used(&operations)), (CmsError::NotForUs, 0));
}

#[test]
fn attack_59_iterations_are_limited_before_any_is_done() {
    let what = "iterations of the key derivation";
    let limit = |max| Err(CmsError::Limit { what, max });
    for count in [1_000_001, u64::from(u32::MAX), u64::from(u32::MAX) + 10_001, u64::MAX] {
        assert_eq!(open(&edited(|tree| *tree.at(&ITERATIONS) = integer(count))), limit(1_000_000));
    }
    let huge = Node::Primitive(tag::INTEGER, vec![0x7f; 100]);
    assert_eq!(open(&edited(|tree| *tree.at(&ITERATIONS) = huge)), limit(1_000_000));

    let with = |max_iterations| {
        let limits = Limits { max_iterations, ..Limits::default() };
        EnvelopedData::parse(&GOOD, &limits, LegacyAlgorithms::Refuse)
            .unwrap()
            .open_with_password(&password("challenge"), &AwsLc)
            .map(|text| text.expose().clone())
    };
    assert_eq!(with(10_000).unwrap(), TEXT);
    assert_eq!(with(9_999), limit(9_999));
    for count in [0, 1, 999] {
        let few = open(&edited(|tree| *tree.at(&ITERATIONS) = integer(count)));
        assert_eq!(structure(few), "key derivation of fewer than 1000 iterations");
    }
    let fewest = edited(|tree| *tree.at(&ITERATIONS) = integer(1000));
    assert_eq!(open(&fewest), Err(CmsError::DoesNotOpen));
    let negative = Node::Primitive(tag::INTEGER, vec![0xff]);
    let negative = open(&edited(|tree| *tree.at(&ITERATIONS) = negative));
    assert!(matches!(negative, Err(CmsError::Malformed(_))), "{negative:?}");
}

#[test]
fn attack_24_the_form_is_strict() {
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (
            edited(|tree| *tree.at(&RECIPIENT).at(&[0]) = integer(1)),
            "PasswordRecipientInfo of unknown version",
        ),
        (edited(|tree| tree.at(&SALT).value().truncate(7)), "salt that is not of 8 to 64 octets"),
        (edited(|tree| tree.at(&SALT).value().resize(65, 0)), "salt that is not of 8 to 64 octets"),
        (
            edited(|tree| tree.at(&PARAMETERS).children().insert(2, integer(16))),
            "derived key that is not of the cipher's length",
        ),
        (
            edited(|tree| tree.at(&KEY_IV).value().truncate(8)),
            "IV that is not of the block's length",
        ),
        (
            edited(|tree| tree.at(&WRAPPED).value().truncate(32)),
            "wrapped key that is not of the content key's length",
        ),
        (
            edited(|tree| tree.at(&WRAPPED).value().resize(64, 0)),
            "wrapped key that is not of the content key's length",
        ),
        (edited(|tree| *tree.at(&PRF).at(&[1]) = integer(1)), "unexpected algorithm parameters"),
        (
            edited(|tree| *tree.at(&PARAMETERS) = Node::parse(&[5, 0])),
            "algorithm parameters that are no SEQUENCE",
        ),
        (
            edited(|tree| {
                tree.at(&DERIVATION).children().pop();
            }),
            "algorithm without parameters",
        ),
    ];
    for (der, what) in cases {
        assert_eq!(structure(open(&der)), what);
    }
    // The cipher's key length may be said.
    let said = edited(|tree| tree.at(&PARAMETERS).children().insert(2, integer(32)));
    assert_eq!(open(&said).unwrap(), TEXT);
    // NULL may be left out.
    let no_null = edited(|tree| {
        tree.at(&PRF).children().pop();
    });
    assert_eq!(open(&no_null).unwrap(), TEXT);

    type Change = fn(&mut Node);
    let malformed: [(&str, Change); 5] = [
        ("no derivation", |tree| {
            tree.at(&RECIPIENT).children().remove(1);
        }),
        ("more at the end", |tree| tree.at(&RECIPIENT).children().push(integer(1))),
        ("more in the parameters", |tree| tree.at(&PARAMETERS).children().push(integer(1))),
        ("no salt", |tree| {
            tree.at(&PARAMETERS).children().remove(0);
        }),
        ("no wrapped key", |tree| {
            tree.at(&RECIPIENT).children().pop();
        }),
    ];
    for (what, change) in malformed {
        let result = open(&edited(change));
        assert!(matches!(result, Err(CmsError::Malformed(_))), "{what}: {result:?}");
    }
}

#[test]
fn attack_24_algorithms_that_are_not_served_are_named() {
    let named = |path: &[usize], dotted: &str| {
        let identifier = tlv::oid(&oid(dotted));
        algorithm(open(&edited(|tree| *tree.at(path).at(&[0]) = Node::parse(&identifier))))
    };
    assert_eq!(named(&DERIVATION, "1.3.6.1.4.1.11591.4.11"), "1.3.6.1.4.1.11591.4.11");
    assert_eq!(named(&PRF, "1.2.840.113549.2.8"), "hmacWithSHA224");
    assert_eq!(named(&PRF, "1.2.840.113549.2.7"), "hmacWithSHA1");
    assert_eq!(named(&WRAPPING, "2.16.840.1.101.3.4.1.45"), "2.16.840.1.101.3.4.1.45");
    assert_eq!(named(&CIPHER, "1.2.840.113549.3.7"), "des-ede3-cbc");
    let default = edited(|tree| {
        tree.at(&PARAMETERS).children().pop();
    });
    assert_eq!(algorithm(open(&default)), "hmacWithSHA1");
}

#[test]
fn an_empty_password_is_none() {
    const EMPTY: &str = "empty password";
    let result = seal_with_password(&AwsLc, &password(""), ContentEncryption::Aes128Cbc, TEXT);
    assert_eq!(structure(result), EMPTY);
    assert_eq!(structure(open_as(&GOOD, "", LegacyAlgorithms::Refuse)), EMPTY);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn altered_envelopes_never_panic_and_never_open_to_another_text(at in 0_usize..200, with in 1_u8..) {
        let mut der = GOOD.clone();
        let at = at % der.len();
        der[at] ^= with;
        if let Ok(text) = open(&der) {
            prop_assert_eq!(text, TEXT);
        }
    }
}
