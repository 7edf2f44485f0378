//! EnvelopedData by hand: a good envelope, and one change at a time.

use crate::common::{
    Fixed, Node, P256, RSA, RSA_2, algorithm, certificate, changed, counting, oid, structure, used,
};
use proptest::prelude::*;
use scep_cms::{
    CmsError, ContentEncryption, EnvelopedData, LegacyAlgorithms, Limits, Opened, Recipient, seal,
};
use scep_keys::AwsLc;
use scep_types::tlv::{self, TlvError, tag};
use scep_types::{
    CertificateDer, CryptoProvider, DecryptionKey, KeyError, OaepHash, Reason, RsaDecryptionKey,
    RsaPadding, Secret, SpkiDer,
};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, LazyLock};

static RA: LazyLock<CertificateDer> = LazyLock::new(|| certificate(&RSA, "CN=RA,O=Example", 7));
static OTHER: LazyLock<CertificateDer> =
    LazyLock::new(|| certificate(&RSA_2, "CN=CA,O=Example", 8));

const TEXT: &[u8] = b"a certification request";

/// Paths in the tree of an envelope.
const RECIPIENTS: [usize; 3] = [1, 0, 1];
const RECIPIENT: [usize; 4] = [1, 0, 1, 0];
const CONTENT: [usize; 3] = [1, 0, 2];

static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    seal(&AwsLc, &[&RA], RsaPadding::Pkcs1v15, ContentEncryption::Aes128Cbc, TEXT).unwrap()
});

fn ours(certificate: &CertificateDer) -> (Vec<Recipient>, Arc<AtomicUsize>) {
    let (key, operations) = counting(&RSA);
    (vec![Recipient { certificate: certificate.clone(), key }], operations)
}

fn parse(der: &[u8]) -> Result<EnvelopedData, CmsError> {
    EnvelopedData::parse(der, &Limits::default(), LegacyAlgorithms::Refuse)
}

fn open(der: &[u8]) -> Result<Opened, CmsError> {
    parse(der)?.open(&ours(&RA).0, &AwsLc)
}

/// Opens it, and asserts that no private key was used on the way to the error.
#[track_caller]
fn refused_before_the_key(der: &[u8]) -> CmsError {
    let (ours, operations) = ours(&RA);
    let error = parse(der).and_then(|envelope| envelope.open(&ours, &AwsLc)).unwrap_err();
    assert_eq!(used(&operations), 0, "the private key was used before {error:?}");
    error
}

#[test]
fn every_padding_and_cipher_opens_with_one_private_key_operation() {
    let paddings = [
        RsaPadding::Pkcs1v15,
        RsaPadding::Oaep(OaepHash::Sha1),
        RsaPadding::Oaep(OaepHash::Sha256),
        RsaPadding::Oaep(OaepHash::Sha384),
        RsaPadding::Oaep(OaepHash::Sha512),
    ];
    let ciphers = [
        ContentEncryption::Aes128Cbc,
        ContentEncryption::Aes192Cbc,
        ContentEncryption::Aes256Cbc,
        ContentEncryption::DesEde3Cbc,
    ];
    for padding in paddings {
        for encryption in ciphers {
            for length in [0, 1, 15, 16, 17, 5000] {
                let plaintext = vec![7; length];
                let der = seal(&AwsLc, &[&OTHER, &RA], padding, encryption, &plaintext).unwrap();
                let envelope =
                    EnvelopedData::parse(&der, &Limits::default(), LegacyAlgorithms::Accept)
                        .unwrap();
                assert_eq!(envelope.content_encryption(), encryption);
                let (ours, operations) = ours(&RA);
                let opened = envelope.open(&ours, &AwsLc).unwrap();
                assert_eq!(opened.plaintext.expose(), &plaintext);
                assert_eq!(opened.padding, padding);
                assert_eq!(opened.content_encryption, encryption);
                assert_eq!(opened.recipient, 0);
                assert_eq!(used(&operations), 1);
            }
        }
    }
}

#[test]
fn quirk_33_refused_ciphers_are_named() {
    for (dotted, name) in [
        ("1.3.14.3.2.7", "des-cbc"),
        ("1.2.840.113549.3.2", "rc2-cbc"),
        ("1.2.840.113549.3.4", "rc4"),
        ("1.2.840.113549.3.7", "des-ede3-cbc"),
        ("2.16.840.1.101.3.4.1.6", "aes128-gcm"),
        ("1.2.3.4", "1.2.3.4"),
    ] {
        let bad = changed(&GOOD, |tree| {
            *tree.at(&CONTENT).at(&[1, 0]).value() = oid(dotted).as_bytes().to_vec();
        });
        let error = refused_before_the_key(&bad);
        assert_eq!(error.reason(), Reason::AlgorithmNotSupported);
        assert_eq!(error, CmsError::Algorithm { role: "content encryption", name: name.into() });
    }
    // DES stays refused where legacy algorithms are accepted.
    let des = changed(&GOOD, |tree| {
        *tree.at(&CONTENT).at(&[1, 0]).value() = oid("1.3.14.3.2.7").as_bytes().to_vec();
    });
    let legacy = EnvelopedData::parse(&des, &Limits::default(), LegacyAlgorithms::Accept);
    assert_eq!(algorithm(legacy), "des-cbc");
}

/// pyscep and scepreq write 1.
#[test]
fn versions_up_to_4_are_read() {
    for version in 1..=4 {
        let der = changed(&GOOD, |tree| tree.at(&[1, 0, 0]).value()[0] = version);
        assert_eq!(open(&der).unwrap().plaintext.expose(), TEXT, "{version}");
    }
}

#[test]
fn attack_24_only_cbc_is_an_envelope() {
    // The content type and the structure of an AuthEnvelopedData.
    let bad = changed(&GOOD, |tree| {
        *tree.at(&[0]).value() = crate::common::AUTH_ENVELOPED.as_bytes().to_vec();
    });
    assert_eq!(structure(parse(&bad)), "content that is no EnvelopedData");
}

#[test]
fn public_facts_are_checked_before_the_private_key() {
    let with = |change: &dyn Fn(&mut Node)| {
        structure::<()>(Err(refused_before_the_key(&changed(&GOOD, change))))
    };
    let iv = |tree: &mut Node, length| tree.at(&CONTENT).at(&[1, 1]).value().resize(length, 0);
    for length in [0, 8, 15, 17] {
        assert_eq!(with(&|tree| iv(tree, length)), "IV that is not of the block's length");
    }
    assert_eq!(
        with(&|tree| drop(tree.at(&CONTENT).at(&[1]).children().pop())),
        "algorithm without parameters"
    );
    for length in [0, 1, 31, 33] {
        assert_eq!(
            with(&|tree| tree.at(&CONTENT).at(&[2]).value().resize(length, 0)),
            "encrypted content that is not of whole blocks"
        );
    }
    for length in [0, 255, 257] {
        assert_eq!(
            with(&|tree| tree.at(&RECIPIENT).at(&[3]).value().resize(length, 0)),
            "encrypted key that is not of the modulus's length"
        );
    }
    assert_eq!(
        with(&|tree| {
            *tree.at(&CONTENT).at(&[0]).value() = oid("1.2.840.113549.1.7.2").as_bytes().to_vec();
        }),
        "encrypted content that is not id-data"
    );
    assert_eq!(
        with(&|tree| tree.at(&[1, 0, 0]).value()[0] = 5),
        "EnvelopedData of unknown version"
    );
    assert_eq!(
        with(&|tree| tree.at(&RECIPIENT).at(&[0]).value()[0] = 2),
        "recipient version does not fit its identifier"
    );
    assert_eq!(
        with(&|tree| tree.at(&RECIPIENTS).children().clear()),
        "envelope without recipients"
    );
    assert_eq!(
        with(&|tree| tree.at(&RECIPIENTS).children().push(Node::Constructed(0xa5, vec![]))),
        "recipient of unknown kind"
    );
    let no_content = changed(&GOOD, |tree| drop(tree.at(&CONTENT).children().pop()));
    assert!(matches!(
        refused_before_the_key(&no_content),
        CmsError::Malformed(TlvError::Truncated { .. })
    ));
    let originator = changed(&GOOD, |tree| {
        tree.at(&[1, 0]).children().insert(1, Node::Constructed(0xa0, vec![]));
    });
    assert!(matches!(
        refused_before_the_key(&originator),
        CmsError::Malformed(TlvError::Tag { expected: 0x31, got: 0xa0, .. })
    ));
    let unprotected = changed(&GOOD, |tree| {
        tree.at(&[1, 0]).children().push(Node::Constructed(0xa1, vec![]));
    });
    assert_eq!(open(&unprotected).unwrap().plaintext.expose(), TEXT);
}

#[test]
fn key_transport_other_than_rsa_is_refused_before_the_private_key() {
    let with = |change: &dyn Fn(&mut Node)| {
        refused_before_the_key(&changed(&GOOD, |tree| change(tree.at(&RECIPIENT).at(&[2]))))
    };
    let set = |tree: &mut Node, der: Vec<u8>| *tree = Node::parse(&der);
    assert_eq!(
        with(&|tree| set(tree, tlv::sequence(&[&tlv::oid(&oid("1.2.840.113549.1.9.16.3.14"))]))),
        CmsError::Algorithm { role: "key transport", name: "1.2.840.113549.1.9.16.3.14".into() }
    );
    assert_eq!(
        structure::<()>(Err(with(&|tree| tree.children()[1] = Node::Primitive(2, vec![0])))),
        "unexpected algorithm parameters"
    );
    let twice = with(&|tree| tree.children().push(Node::Primitive(5, vec![])));
    assert!(matches!(twice, CmsError::Malformed(TlvError::Trailing { .. })));
}

/// RSAES-OAEP-params as a keyEncryptionAlgorithm.
fn oaep(parameters: &[&[u8]]) -> Vec<u8> {
    tlv::sequence(&[&tlv::oid(&oid("1.2.840.113549.1.1.7")), &tlv::sequence(parameters)])
}

fn hash(dotted: &str, parameters: &[u8]) -> Vec<u8> {
    tlv::sequence(&[&tlv::oid(&oid(dotted)), parameters])
}

fn explicit(n: u8, inner: &[u8]) -> Vec<u8> {
    tlv::encode(tag::context_constructed(n), inner)
}

fn mgf1(hash: &[u8]) -> Vec<u8> {
    tlv::sequence(&[&tlv::oid(&oid("1.2.840.113549.1.1.8")), hash])
}

const SHA1: &str = "1.3.14.3.2.26";
const SHA256: &str = "2.16.840.1.101.3.4.2.1";

#[test]
fn quirk_32_oaep_parameters_are_read_strictly() {
    let seal_oaep = |hash| {
        let padding = RsaPadding::Oaep(hash);
        seal(&AwsLc, &[&RA], padding, ContentEncryption::Aes256Cbc, TEXT).unwrap()
    };
    let with = |der: &[u8], algorithm: Vec<u8>| {
        let mut tree = Node::parse(der);
        *tree.at(&RECIPIENT).at(&[2]) = Node::parse(&algorithm);
        tree.encode()
    };
    let label = |label: &[u8]| {
        let label = tlv::encode(tag::OCTET_STRING, label);
        explicit(2, &tlv::sequence(&[&tlv::oid(&oid("1.2.840.113549.1.1.9")), &label]))
    };
    let null = [5, 0];

    let sha1 = seal_oaep(OaepHash::Sha1);
    let (h, m) = (explicit(0, &hash(SHA1, &null)), explicit(1, &mgf1(&hash(SHA1, &null))));
    // All spellings of SHA-1: left out, written out, with an empty label, without parameters at all.
    let bare = tlv::sequence(&[&tlv::oid(&oid("1.2.840.113549.1.1.7"))]);
    for algorithm in [oaep(&[]), oaep(&[&h]), oaep(&[&h, &m]), oaep(&[&h, &m, &label(b"")]), bare] {
        let opened = open(&with(&sha1, algorithm)).unwrap();
        assert_eq!(opened.padding, RsaPadding::Oaep(OaepHash::Sha1));
        assert_eq!(opened.plaintext.expose(), TEXT);
    }

    let sha256 = seal_oaep(OaepHash::Sha256);
    let (h, m) = (explicit(0, &hash(SHA256, &[])), explicit(1, &mgf1(&hash(SHA256, &null))));
    assert_eq!(
        open(&with(&sha256, oaep(&[&h, &m]))).unwrap().padding,
        RsaPadding::Oaep(OaepHash::Sha256)
    );
    let refused = |algorithm| refused_before_the_key(&with(&sha256, algorithm));
    for algorithm in
        [oaep(&[&h]), oaep(&[&m]), oaep(&[&h, &explicit(1, &mgf1(&hash(SHA1, &null)))])]
    {
        assert_eq!(structure::<()>(Err(refused(algorithm))), "MGF1 with another hash");
    }
    assert_eq!(
        structure::<()>(Err(refused(oaep(&[&h, &m, &label(b"label")])))),
        "OAEP label that is not empty"
    );
    let md5 = "1.2.840.113549.2.5";
    let (h5, m5) = (explicit(0, &hash(md5, &null)), explicit(1, &mgf1(&hash(md5, &null))));
    assert_eq!(
        refused(oaep(&[&h5, &m5])),
        CmsError::Algorithm { role: "key transport", name: "md5".into() }
    );
    let other_mask = tlv::sequence(&[&tlv::oid(&oid("1.2.3.4")), &hash(SHA256, &null)]);
    assert_eq!(
        refused(oaep(&[&h, &explicit(1, &other_mask)])),
        CmsError::Algorithm { role: "key transport", name: "1.2.3.4".into() }
    );
    let other_source = explicit(2, &tlv::sequence(&[&tlv::oid(&oid("1.2.3.4")), &null]));
    assert_eq!(
        refused(oaep(&[&h, &m, &other_source])),
        CmsError::Algorithm { role: "key transport", name: "1.2.3.4".into() }
    );
    // Its parts are SEQUENCEs: a SET with the same contents is not read as one.
    let set = explicit(0, &tlv::encode(tag::SET, &hash(SHA256, &null)[2..]));
    assert_eq!(
        structure::<()>(Err(refused(oaep(&[&set, &m])))),
        "AlgorithmIdentifier that is no SEQUENCE"
    );
    assert!(matches!(
        refused(oaep(&[&h, &m, &explicit(3, &null)])),
        CmsError::Malformed(TlvError::Trailing { .. })
    ));
}

#[test]
fn quirk_20_ours_is_found_among_several_recipients() {
    let der =
        seal(&AwsLc, &[&OTHER, &RA], RsaPadding::Pkcs1v15, ContentEncryption::Aes256Cbc, TEXT)
            .unwrap();
    assert_eq!(open(&der).unwrap().plaintext.expose(), TEXT);
    // The second of ours opens it as well.
    let (key, operations) = counting(&RSA_2);
    let unrelated = Recipient { certificate: certificate(&RSA_2, "CN=x", 99), key: key.clone() };
    let named = Recipient { certificate: OTHER.clone(), key };
    let opened = parse(&der).unwrap().open(&[unrelated, named], &AwsLc).unwrap();
    assert_eq!((opened.recipient, used(&operations)), (1, 1));

    let foreign =
        seal(&AwsLc, &[&OTHER], RsaPadding::Pkcs1v15, ContentEncryption::Aes256Cbc, TEXT).unwrap();
    assert_eq!(refused_before_the_key(&foreign), CmsError::NotForUs);
    assert_eq!(parse(&der).unwrap().open(&[], &AwsLc).unwrap_err(), CmsError::NotForUs);
}

#[test]
fn quirk_20_recipients_may_be_named_by_key_id() {
    let by_key_id = |id: &[u8]| {
        changed(&GOOD, |tree| {
            tree.at(&RECIPIENT).at(&[0]).value()[0] = 2;
            tree.at(&RECIPIENT).children()[1] = Node::Primitive(0x80, id.to_vec());
        })
    };
    let der = by_key_id(RSA.public_key().key_id().as_bytes());
    assert_eq!(open(&der).unwrap().plaintext.expose(), TEXT);
    let der = by_key_id(RSA_2.public_key().key_id().as_bytes());
    assert_eq!(refused_before_the_key(&der), CmsError::NotForUs);
}

#[test]
fn quirk_21_recipients_with_a_reordered_or_re_encoded_issuer() {
    let reordered = changed(&GOOD, |tree| tree.at(&RECIPIENT).at(&[1, 0]).children().reverse());
    assert_eq!(open(&reordered).unwrap().plaintext.expose(), TEXT);
    let re_encoded = changed(&GOOD, |tree| {
        for rdn in tree.at(&RECIPIENT).at(&[1, 0]).children() {
            let value = rdn.at(&[0, 1]).value().clone();
            rdn.at(&[0]).children()[1] = Node::Primitive(tag::PRINTABLE_STRING, value);
        }
    });
    assert_eq!(open(&re_encoded).unwrap().plaintext.expose(), TEXT);

    // The serial number alone decides only when it is one certificate's.
    let envelope = parse(&reordered).unwrap();
    let (key, operations) = counting(&RSA);
    let twin = certificate(&RSA, "CN=previous RA", 7);
    let both = [&*RA, &twin].map(|c| Recipient { certificate: c.clone(), key: key.clone() });
    assert_eq!(structure(envelope.open(&both, &AwsLc)), "second recipient that names our key");
    assert_eq!(used(&operations), 0);
    // An exact name needs no such guess.
    assert_eq!(parse(&GOOD).unwrap().open(&both, &AwsLc).unwrap().recipient, 0);
    // Nor does a serial number that is not ours.
    let serial = changed(&GOOD, |tree| tree.at(&RECIPIENT).at(&[1, 1]).value()[0] = 8);
    assert_eq!(refused_before_the_key(&serial), CmsError::NotForUs);
}

#[test]
fn attack_23_two_recipients_for_one_key() {
    let doubled = changed(&GOOD, |tree| {
        let recipients = tree.at(&RECIPIENTS).children();
        recipients.push(recipients[0].clone());
    });
    assert_eq!(
        structure::<()>(Err(refused_before_the_key(&doubled))),
        "second recipient that names our key"
    );
    // By issuer and serial number, and by key id.
    let both = changed(&doubled, |tree| {
        let second = tree.at(&RECIPIENTS).at(&[1]);
        second.at(&[0]).value()[0] = 2;
        let id = RSA.public_key().key_id();
        second.children()[1] = Node::Primitive(0x80, id.as_bytes().to_vec());
    });
    assert_eq!(
        structure::<()>(Err(refused_before_the_key(&both))),
        "second recipient that names our key"
    );
    let nine = [&*OTHER; 8].into_iter().chain([&*RA]).collect::<Vec<_>>();
    let nine =
        seal(&AwsLc, &nine, RsaPadding::Pkcs1v15, ContentEncryption::Aes128Cbc, TEXT).unwrap();
    assert_eq!(refused_before_the_key(&nine), CmsError::Limit { what: "recipients", max: 8 });
}

#[test]
fn other_kinds_of_recipients_are_skipped() {
    for kind in [0xa1, 0xa2, 0xa3, 0xa4] {
        let other = Node::Constructed(kind, vec![Node::Primitive(2, vec![3])]);
        let mixed = changed(&GOOD, |tree| {
            tree.at(&RECIPIENTS).children().insert(0, other.clone());
        });
        assert_eq!(open(&mixed).unwrap().plaintext.expose(), TEXT);
        let alone = changed(&GOOD, |tree| tree.at(&RECIPIENTS).children()[0] = other.clone());
        assert_eq!(refused_before_the_key(&alone), CmsError::NotForUs);
    }
}

#[test]
fn attack_21_bad_key_transport_goes_on_with_a_random_key() {
    // The encrypted key is another ciphertext altogether: PKCS #1 padding that is wrong, of a key too short and
    // too long, and of the right length with other octets.
    let provider = Fixed(0x5a);
    let encrypted = |key: &[u8]| AwsLc.rsa_encrypt(RSA.public_key(), RsaPadding::Pkcs1v15, key);
    let oaep = RsaPadding::Oaep(OaepHash::Sha256);
    let forged = [
        AwsLc.rsa_encrypt(RSA.public_key(), oaep, &[1; 16]).unwrap(),
        encrypted(&[]).unwrap(),
        encrypted(&[1; 15]).unwrap(),
        encrypted(&[1; 17]).unwrap(),
        encrypted(&[1; 32]).unwrap(),
        encrypted(&[1; 16]).unwrap(),
    ];
    for (index, key) in forged.into_iter().enumerate() {
        let bad = changed(&GOOD, |tree| *tree.at(&RECIPIENT).at(&[3]).value() = key);
        let (ours, operations) = ours(&RA);
        match parse(&bad).unwrap().open(&ours, &provider) {
            Err(error) => assert_eq!(error, CmsError::DoesNotOpen, "case {index}"),
            // One wrong key in 256 leaves octets that look padded: noise then, as documented.
            Ok(opened) => assert_ne!(opened.plaintext.expose(), TEXT),
        }
        assert_eq!(used(&operations), 1);
    }
}

/// A key whose every ciphertext is badly padded.
#[derive(Debug)]
struct Rejecting(SpkiDer);

impl RsaDecryptionKey for Rejecting {
    fn public_key(&self) -> &SpkiDer {
        &self.0
    }
    fn decrypt_key(
        &self,
        _: RsaPadding,
        _: &[u8],
        _: &mut Secret<Vec<u8>>,
    ) -> Result<(), KeyError> {
        Ok(())
    }
}

#[test]
fn attack_21_the_random_key_is_the_one_that_decrypts() {
    // Content encrypted under the very key that the provider calls random: opened, it proves which key was used,
    // and that the length is that of the cipher.
    let provider = Fixed(0x5a);
    for encryption in [ContentEncryption::Aes128Cbc, ContentEncryption::Aes256Cbc] {
        let der = seal(&provider, &[&RA], RsaPadding::Pkcs1v15, encryption, TEXT).unwrap();
        let key = DecryptionKey::Rsa(Arc::new(Rejecting(RSA.public_key().clone())));
        let ours = [Recipient { certificate: RA.clone(), key }];
        let envelope = parse(&der).unwrap();
        assert_eq!(envelope.open(&ours, &provider).unwrap().plaintext.expose(), TEXT);
        let error = envelope.open(&ours, &Fixed(0)).map(|opened| opened.plaintext.expose() == TEXT);
        assert!(matches!(error, Err(CmsError::DoesNotOpen) | Ok(false)));
    }
}

#[test]
fn attack_22_every_failure_after_the_key_is_one_value() {
    // The last block decides the padding; the block before it flips its bits.
    let last_block = changed(&GOOD, |tree| {
        let ciphertext = tree.at(&CONTENT).at(&[2]).value();
        let at = ciphertext.len() - 17;
        ciphertext[at] ^= 0x80;
    });
    assert_eq!(open(&last_block).unwrap_err(), CmsError::DoesNotOpen);
    assert_eq!(CmsError::DoesNotOpen.reason(), Reason::MessageDecryptionFailed);
}

#[test]
fn an_ec_key_is_no_recipient_of_key_transport() {
    let (key, operations) = counting(&P256);
    let ours = [Recipient { certificate: RA.clone(), key }];
    assert!(matches!(
        parse(&GOOD).unwrap().open(&ours, &AwsLc).unwrap_err(),
        CmsError::Key(KeyError::Unsupported { .. })
    ));
    assert_eq!(used(&operations), 0);
}

#[test]
fn sealing_needs_rsa_recipients() {
    let ec = certificate(&P256, "CN=ec", 1);
    let (padding, cipher) = (RsaPadding::Pkcs1v15, ContentEncryption::Aes128Cbc);
    assert!(matches!(seal(&AwsLc, &[&ec], padding, cipher, TEXT), Err(CmsError::Key(_))));
    assert_eq!(structure(seal(&AwsLc, &[], padding, cipher, TEXT)), "envelope without recipients");
}

#[test]
fn another_reader_agrees_with_what_is_written() {
    use der::{Decode, Encode};
    let parsed = cms::content_info::ContentInfo::from_der(&GOOD).unwrap();
    let enveloped: cms::enveloped_data::EnvelopedData = parsed.content.decode_as().unwrap();
    assert_eq!(enveloped.to_der().unwrap(), parsed.content.to_der().unwrap());
}

proptest! {
    #[test]
    fn a_changed_octet_never_panics(at in any::<prop::sample::Index>(), bits in 1..=255_u8) {
        let mut der = GOOD.clone();
        let at = at.index(der.len());
        der[at] ^= bits;
        if let Ok(envelope) = parse(&der) {
            let result = envelope.open(&ours(&RA).0, &Fixed(1));
            // CBC cannot tell every change.
            prop_assert!(!matches!(result, Err(CmsError::Key(_))));
        }
    }
}
