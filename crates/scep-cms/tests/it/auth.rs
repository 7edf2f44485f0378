//! AuthEnvelopedData by hand: a good one of each kind, and one change at a time.

use crate::common::{
    Fixed, Node, P256, P384, RSA, RSA_2, algorithm, changed, counting, oid, structure, used,
};
use scep_cms::{CmsError, Limits, auth_recipient, open_auth, seal_auth};
use scep_keys::{AwsLc, SoftwareKey};
use scep_types::tlv::{self, TlvError};
use scep_types::{KeyAlgorithm, OaepHash, RsaPadding, Secret};
use std::sync::LazyLock;

const TEXT: &[u8] = b"what the request must contain";

static BY_RSA: LazyLock<Vec<u8>> = LazyLock::new(|| seal(&RSA));
static BY_EC: LazyLock<Vec<u8>> = LazyLock::new(|| seal(&P256));

/// Paths in the tree.
const RECIPIENT: [usize; 2] = [1, 0];
const CONTENT: [usize; 1] = [2];

fn seal(key: &SoftwareKey) -> Vec<u8> {
    seal_auth(&AwsLc, key.public_key(), TEXT).unwrap()
}

fn open(key: &SoftwareKey, der: &[u8]) -> Result<Secret<Vec<u8>>, CmsError> {
    open_auth(&AwsLc, der, &key.decryption().unwrap(), &Limits::default())
}

/// Opens it, and asserts that no private key was used on the way to the error.
#[track_caller]
fn refused_before_the_key(key: &SoftwareKey, der: &[u8]) -> CmsError {
    let (key, operations) = counting(key);
    let error = open_auth(&AwsLc, der, &key, &Limits::default()).unwrap_err();
    assert_eq!(used(&operations), 0, "the private key was used before {error:?}");
    error
}

/// Opens it, and asserts that it failed after exactly one private-key operation.
#[track_caller]
fn does_not_open(key: &SoftwareKey, der: &[u8]) {
    let (key, operations) = counting(key);
    assert_eq!(
        open_auth(&AwsLc, der, &key, &Limits::default()).unwrap_err(),
        CmsError::DoesNotOpen
    );
    assert_eq!(used(&operations), 1);
}

#[test]
fn every_kind_of_key_opens_what_was_sealed_for_it() {
    for key in [&*P256, &P384, &RSA] {
        for length in [0, 1, 16, 900] {
            let plaintext = vec![7; length];
            let der = seal_auth(&AwsLc, key.public_key(), &plaintext).unwrap();
            assert_eq!(open(key, &der).unwrap().expose(), &plaintext);
            assert_eq!(
                auth_recipient(&der, &Limits::default()).unwrap(),
                key.public_key().key_id()
            );
        }
    }
}

#[test]
fn blobs_stay_small() {
    // The challenge blob has its size from here: what is added to the plaintext.
    let overhead = |key: &SoftwareKey| seal(key).len() - TEXT.len();
    assert!(overhead(&P256) < 280, "{}", overhead(&P256));
    assert!(overhead(&RSA) < 440, "{}", overhead(&RSA));
}

#[test]
fn every_seal_has_its_own_key_and_nonce() {
    for key in [&*P256, &RSA] {
        let (mut a, mut b) = (Node::parse(&seal(key)), Node::parse(&seal(key)));
        assert_ne!(a.at(&RECIPIENT), b.at(&RECIPIENT));
        assert_ne!(a.at(&CONTENT), b.at(&CONTENT));
    }
}

#[test]
fn attack_17_another_key_is_not_the_recipient() {
    let other = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    for (key, der) in [(&other, &*BY_EC), (&RSA_2, &BY_RSA), (&P256, &BY_RSA), (&RSA, &BY_EC)] {
        assert_eq!(refused_before_the_key(key, der), CmsError::NotForUs);
    }
}

#[test]
fn attack_17_another_keys_recipient_under_our_name() {
    // Encrypted to another key, with our key id written over the name: it opens with neither.
    let other = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    let renamed = changed(&seal(&other), |tree| {
        *tree.at(&RECIPIENT).at(&[3, 0, 0, 0]).value() =
            P256.public_key().key_id().as_bytes().to_vec();
    });
    does_not_open(&P256, &renamed);
    let renamed = changed(&seal(&RSA_2), |tree| {
        *tree.at(&RECIPIENT).at(&[1]).value() = RSA.public_key().key_id().as_bytes().to_vec();
    });
    does_not_open(&RSA, &renamed);
    // Our name over a recipient of the other kind.
    let kind = changed(&BY_RSA, |tree| {
        *tree.at(&RECIPIENT).at(&[1]).value() = P256.public_key().key_id().as_bytes().to_vec();
    });
    assert_eq!(
        structure::<()>(Err(refused_before_the_key(&P256, &kind))),
        "recipient of another kind than the key"
    );
}

#[test]
fn attack_22_every_failure_after_the_key_is_one_value() {
    // Each octet string that is not checked against a constant: one bit changed, one error.
    let flip = |der: &[u8], path: &[usize]| {
        changed(der, |tree| *tree.at(path).value().last_mut().unwrap() ^= 1)
    };
    let (nonce, ciphertext, mac) = (&[2, 1, 1, 0][..], &[2, 2][..], &[3][..]);
    for path in [nonce, ciphertext, mac, &[1, 0, 3]] {
        does_not_open(&RSA, &flip(&BY_RSA, path));
    }
    // The last octet of the point takes it off the curve; then the wrapped key.
    for path in [nonce, ciphertext, mac, &[1, 0, 1, 0, 1], &[1, 0, 3, 0, 1]] {
        does_not_open(&P256, &flip(&BY_EC, path));
    }
    // A point of another length or form, and none at all.
    for length in [0, 1, 65, 67, 98] {
        let bad = changed(&BY_EC, |tree| {
            tree.at(&RECIPIENT).at(&[1, 0, 1]).value().resize(length, 0);
        });
        if length == 0 {
            assert!(matches!(
                refused_before_the_key(&P256, &bad),
                CmsError::Malformed(TlvError::Value { what: "BIT STRING", .. })
            ));
        } else {
            does_not_open(&P256, &bad);
        }
    }
}

#[test]
fn attack_21_bad_key_transport_goes_on_with_a_random_key() {
    let oaep = RsaPadding::Oaep(OaepHash::Sha256);
    let encrypted = |padding, key: &[u8]| {
        use scep_types::CryptoProvider;
        AwsLc.rsa_encrypt(RSA.public_key(), padding, key).unwrap()
    };
    for key in [
        encrypted(RsaPadding::Pkcs1v15, &[1; 32]),
        encrypted(RsaPadding::Oaep(OaepHash::Sha1), &[1; 32]),
        encrypted(oaep, &[1; 31]),
        encrypted(oaep, &[1; 33]),
        encrypted(oaep, &[1; 32]),
    ] {
        let bad = changed(&BY_RSA, |tree| *tree.at(&RECIPIENT).at(&[3]).value() = key);
        does_not_open(&RSA, &bad);
    }
}

#[test]
fn attack_21_the_random_key_is_the_one_that_decrypts() {
    // Content encrypted under the very key that the provider calls random, and key transport that is bad in each
    // way: that it opens proves that the random key, and no fixed one, takes the place of what failed.
    let provider = Fixed(0x5a);
    let flip = |key: &SoftwareKey, path: &[usize]| {
        let der = seal_auth(&provider, key.public_key(), TEXT).unwrap();
        changed(&der, |tree| *tree.at(path).value().last_mut().unwrap() ^= 1)
    };
    for (key, path) in
        [(&*RSA, &[1, 0, 3][..]), (&P256, &[1, 0, 1, 0, 1]), (&P256, &[1, 0, 3, 0, 1])]
    {
        let der = flip(key, path);
        let (key, operations) = counting(key);
        let opened = open_auth(&provider, &der, &key, &Limits::default()).unwrap();
        assert_eq!(opened.expose(), TEXT);
        assert_eq!(used(&operations), 1);
        let error = open_auth(&Fixed(0), &der, &key, &Limits::default()).unwrap_err();
        assert_eq!(error, CmsError::DoesNotOpen);
    }
}

#[test]
fn attack_21_no_pkcs1_padding_in_blobs() {
    let with = |algorithm: Vec<u8>| {
        let bad = changed(&BY_RSA, |tree| *tree.at(&RECIPIENT).at(&[2]) = Node::parse(&algorithm));
        refused_before_the_key(&RSA, &bad)
    };
    let other = "key transport other than RSAES-OAEP with SHA-256";
    let pkcs1 = tlv::sequence(&[&tlv::oid(&oid("1.2.840.113549.1.1.1")), &[5, 0]]);
    assert_eq!(structure::<()>(Err(with(pkcs1))), other);
    let oaep_sha1 = tlv::sequence(&[&tlv::oid(&oid("1.2.840.113549.1.1.7")), &[0x30, 0]]);
    assert_eq!(structure::<()>(Err(with(oaep_sha1))), other);
}

#[test]
fn attack_23_exactly_one_recipient() {
    for (key, der) in [(&*RSA, &*BY_RSA), (&P256, &BY_EC)] {
        let two = changed(der, |tree| {
            let recipients = tree.at(&[1]).children();
            recipients.push(recipients[0].clone());
        });
        assert_eq!(structure::<()>(Err(refused_before_the_key(key, &two))), "second recipient");
        let none = changed(der, |tree| tree.at(&[1]).children().clear());
        assert!(matches!(
            refused_before_the_key(key, &none),
            CmsError::Malformed(TlvError::Truncated { .. })
        ));
    }
    for kind in [0xa2, 0xa3, 0xa4] {
        let bad = changed(&BY_EC, |tree| *tree.at(&RECIPIENT) = Node::Constructed(kind, vec![]));
        assert_eq!(
            structure::<()>(Err(refused_before_the_key(&P256, &bad))),
            "recipient of a kind that is not allowed"
        );
    }
}

#[test]
fn attack_24_the_cipher_is_fixed() {
    for (dotted, name) in [
        ("2.16.840.1.101.3.4.1.42", "2.16.840.1.101.3.4.1.42"),
        ("2.16.840.1.101.3.4.1.6", "aes128-gcm"),
        ("1.2.840.113549.3.7", "des-ede3-cbc"),
    ] {
        let bad = changed(&BY_EC, |tree| {
            *tree.at(&CONTENT).at(&[1, 0]).value() = oid(dotted).as_bytes().to_vec();
        });
        let (key, operations) = counting(&P256);
        assert_eq!(algorithm(open_auth(&AwsLc, &bad, &key, &Limits::default())), name);
        assert_eq!(used(&operations), 0);
    }
}

#[test]
fn blobs_have_one_form() {
    let with = |change: &dyn Fn(&mut Node)| {
        let bad = changed(&BY_EC, change);
        structure::<()>(Err(refused_before_the_key(&P256, &bad)))
    };
    assert_eq!(
        with(&|tree| tree.at(&[0]).value()[0] = 1),
        "AuthEnvelopedData of another version than 0"
    );
    assert_eq!(
        with(&|tree| tree.at(&RECIPIENT).at(&[0]).value()[0] = 2),
        "KeyAgreeRecipientInfo of another version than 3"
    );

    // originatorKey: the curve repeated, NULL parameters.
    let what = "originatorKey other than id-ecPublicKey without parameters";
    let curve = oid("1.2.840.10045.3.1.7").as_bytes().to_vec();
    for parameters in [Node::Primitive(6, curve), Node::Primitive(5, vec![])] {
        let path = [1, 0, 0];
        assert_eq!(
            with(&|tree| tree.at(&RECIPIENT).at(&path).children().push(parameters.clone())),
            what
        );
    }

    // Another KDF, another wrap, parameters where there are none.
    let what = "key agreement other than dhSinglePass-stdDH-sha256kdf with aes256-wrap";
    let other = |path: &[usize], dotted: &str| {
        with(&|tree| {
            *tree.at(&RECIPIENT).at(path).value() = oid(dotted).as_bytes().to_vec();
        })
    };
    assert_eq!(other(&[2, 0], "1.3.133.16.840.63.0.2"), what);
    assert_eq!(other(&[2, 1, 0], "2.16.840.1.101.3.4.1.5"), what);
    assert_eq!(
        with(&|tree| {
            tree.at(&RECIPIENT).at(&[2, 1]).children().push(Node::Primitive(5, vec![]));
        }),
        what
    );

    for length in [0, 39, 48] {
        assert_eq!(
            with(&|tree| tree.at(&RECIPIENT).at(&[3, 0, 1]).value().resize(length, 0)),
            "wrapped key of other than 40 octets"
        );
    }
    for length in [0, 19, 21, 32] {
        assert_eq!(
            with(&|tree| tree.at(&RECIPIENT).at(&[3, 0, 0, 0]).value().resize(length, 0)),
            "key id of other than 20 octets"
        );
    }
    assert_eq!(
        with(&|tree| {
            *tree.at(&CONTENT).at(&[0]).value() = oid("1.2.840.113549.1.7.2").as_bytes().to_vec();
        }),
        "encrypted content that is not id-data"
    );

    let what = "GCMParameters other than a nonce of 12 octets and ICV length 16";
    for length in [0, 11, 13] {
        assert_eq!(with(&|tree| tree.at(&CONTENT).at(&[1, 1, 0]).value().resize(length, 0)), what);
    }
    assert_eq!(with(&|tree| tree.at(&CONTENT).at(&[1, 1, 1]).value()[0] = 12), what);
    assert_eq!(with(&|tree| drop(tree.at(&CONTENT).at(&[1, 1]).children().pop())), what);
    assert_eq!(
        with(&|tree| tree.at(&CONTENT).at(&[1]).children()[1] = Node::Primitive(4, vec![0; 12])),
        what
    );
    for length in [0, 12, 17] {
        assert_eq!(
            with(&|tree| tree.at(&[3]).value().resize(length, 0)),
            "mac of other than 16 octets"
        );
    }

    // The RSA form.
    let with = |change: &dyn Fn(&mut Node)| {
        let bad = changed(&BY_RSA, change);
        structure::<()>(Err(refused_before_the_key(&RSA, &bad)))
    };
    for length in [0, 255, 257] {
        assert_eq!(
            with(&|tree| tree.at(&RECIPIENT).at(&[3]).value().resize(length, 0)),
            "encrypted key that is not of the modulus's length"
        );
    }
    let issuer_serial = Node::parse(&tlv::sequence(&[&tlv::sequence(&[]), &tlv::small_int(1)]));
    assert_eq!(
        with(&|tree| {
            tree.at(&RECIPIENT).at(&[0]).value()[0] = 0;
            tree.at(&RECIPIENT).children()[1] = issuer_serial.clone();
        }),
        "recipient that is not named by its key id"
    );
}

#[test]
fn fields_that_a_blob_does_not_have_are_refused() {
    // originatorInfo, ukm, authAttrs, unauthAttrs, a date beside the key id, a second key, bytes after the end.
    let insert = |path: &'static [usize], index: usize, node: Node| {
        changed(&BY_EC, |tree| tree.at(path).children().insert(index, node))
    };
    let empty = |tag| Node::Constructed(tag, vec![]);
    let date = Node::Primitive(0x18, b"20300101000000Z".to_vec());
    for bad in [
        insert(&[], 1, empty(0xa0)),
        insert(&[1, 0], 2, Node::Constructed(0xa1, vec![Node::Primitive(4, vec![1])])),
        insert(&[], 3, empty(0xa1)),
        insert(&[], 4, empty(0xa2)),
        insert(&[1, 0, 3, 0, 0], 1, date),
        insert(&[1, 0, 3], 1, empty(0x30)),
        [&BY_EC[..], &[5, 0]].concat(),
    ] {
        assert!(matches!(
            refused_before_the_key(&P256, &bad),
            CmsError::Malformed(TlvError::Tag { .. } | TlvError::Trailing { .. })
        ));
    }
}

#[test]
fn blobs_are_der() {
    // An indefinite length around it all, and a long form where a short one does.
    let body = &BY_EC[4..];
    assert_eq!(BY_EC[..2], [0x30, 0x82]);
    let indefinite = [&[0x30, 0x80], body, &[0, 0]].concat();
    let padded = [&[0x30, 0x83, 0x00, BY_EC[2], BY_EC[3]], body].concat();
    for bad in [indefinite, padded] {
        assert_eq!(
            refused_before_the_key(&P256, &bad),
            CmsError::Malformed(TlvError::Length { at: 1 })
        );
    }
    let limits = Limits { max_bytes: BY_EC.len() - 1, ..Limits::default() };
    let limit = CmsError::Limit { what: "octets", max: BY_EC.len() - 1 };
    assert_eq!(auth_recipient(&BY_EC, &limits), Err(limit.clone()));
    let key = P256.decryption().unwrap();
    assert_eq!(open_auth(&AwsLc, &BY_EC, &key, &limits).unwrap_err(), limit);
}

#[test]
fn the_writer_follows_the_provider() {
    // With an RSA recipient and fixed randomness only OAEP's own seed varies.
    let (mut a, mut b) = (
        Node::parse(&seal_auth(&Fixed(9), RSA.public_key(), TEXT).unwrap()),
        Node::parse(&seal_auth(&Fixed(9), RSA.public_key(), TEXT).unwrap()),
    );
    assert_eq!(a.at(&CONTENT), b.at(&CONTENT));
    assert_eq!(a.at(&[2, 1, 1, 0]).value(), &[9; 12]);
    assert_eq!(a.at(&[3]), b.at(&[3]));
}

#[test]
fn another_reader_agrees_with_what_is_written() {
    use der::{Decode, Encode};
    for der in [&*BY_RSA, &*BY_EC] {
        let parsed = cms::authenveloped_data::AuthEnvelopedData::from_der(der).unwrap();
        assert_eq!(parsed.to_der().unwrap(), *der);
    }
}

#[test]
fn a_changed_bit_never_opens() {
    for (key, good) in [(&*RSA, &*BY_RSA), (&P256, &BY_EC)] {
        let key = key.decryption().unwrap();
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut der = good.clone();
                der[at] ^= 1 << bit;
                let opened = open_auth(&AwsLc, &der, &key, &Limits::default());
                assert!(opened.is_err(), "octet {at}, bit {bit}");
            }
        }
    }
}
