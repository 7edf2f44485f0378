//! SignedData by hand: a good message, and one change at a time.

use crate::common::{
    AUTH_ENVELOPED, DATA, Node, P256, P384, RSA, RSA_2, algorithm, certificate,
    certificate_with_issuer, changed, oid, structure,
};
use proptest::prelude::*;
use scep_cms::{
    CmsError, LegacyAlgorithms, Limits, SignedData, SignerId, ToSign, VerifiedSignedData,
    certs_only, crl_only, sign,
};
use scep_keys::{AwsLc, SoftwareKey};
use scep_types::tlv::{self, TlvError, tag};
use scep_types::{
    CertificateDer, KeyAlgorithm, ObjectIdentifier, Reason, SignatureScheme, SpkiDer,
};
use sha2::Digest;
use std::sync::LazyLock;

static SIGNER: LazyLock<CertificateDer> = LazyLock::new(|| certificate(&RSA, "CN=device", 5));

const CONTENT: &[u8] = b"the content";
const TRANSACTION_ID: &str = "2.16.840.1.113733.1.9.7";
const CONTENT_TYPE: &str = "1.2.840.113549.1.9.3";
const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
const SHA1: &str = "1.3.14.3.2.26";
const SHA256: &str = "2.16.840.1.101.3.4.2.1";
const RSA_ENCRYPTION: &str = "1.2.840.113549.1.1.1";
const SHA256_WITH_RSA: &str = "1.2.840.113549.1.1.11";
const NULL: &[u8] = &[5, 0];

fn attribute(oid_text: &str, values: &[&[u8]]) -> Vec<u8> {
    tlv::sequence(&[&tlv::oid(&oid(oid_text)), &tlv::construct(tag::SET, values)])
}

fn algorithm_id(oid_text: &str, parameters: &[u8]) -> Vec<u8> {
    tlv::sequence(&[&tlv::oid(&oid(oid_text)), parameters])
}

fn message_digest(content: &[u8]) -> Vec<u8> {
    let digest = tlv::encode(tag::OCTET_STRING, &sha2::Sha256::digest(content));
    attribute(MESSAGE_DIGEST, &[&digest])
}

/// The parts of a message with one signature, each to be changed before it is signed.
struct Parts {
    key: SoftwareKey,
    scheme: SignatureScheme,
    version: u64,
    content_type: ObjectIdentifier,
    /// The whole of eContent `[0]`.
    content: Vec<u8>,
    /// The whole of certificates `[0]` and crls `[1]`.
    sets: Vec<u8>,
    signer_version: u64,
    sid: Vec<u8>,
    digest_algorithm: Vec<u8>,
    attributes: Vec<Vec<u8>>,
    signature_algorithm: Vec<u8>,
    /// The octets to sign, when they are not the attributes in the order sent.
    to_be_signed: Option<Vec<u8>>,
    unsigned: Vec<u8>,
}

impl Parts {
    fn new() -> Self {
        Self {
            key: RSA.clone(),
            scheme: SignatureScheme::RsaPkcs1Sha256,
            version: 1,
            content_type: DATA,
            content: tlv::encode(0xa0, &tlv::encode(tag::OCTET_STRING, CONTENT)),
            sets: tlv::encode(0xa0, SIGNER.as_der()),
            signer_version: 1,
            sid: issuer_serial(&SIGNER),
            digest_algorithm: algorithm_id(SHA256, &[]),
            attributes: vec![
                attribute(CONTENT_TYPE, &[&tlv::oid(&DATA)]),
                message_digest(CONTENT),
                attribute(TRANSACTION_ID, &[b"\x13\x02id"]),
            ],
            signature_algorithm: algorithm_id(RSA_ENCRYPTION, NULL),
            to_be_signed: None,
            unsigned: Vec::new(),
        }
    }

    /// The form of a blob, by the key id of P-256.
    fn pinned() -> Self {
        let id = P256.public_key().key_id();
        Self {
            key: P256.clone(),
            scheme: SignatureScheme::EcdsaSha256,
            version: 3,
            content_type: AUTH_ENVELOPED,
            sets: Vec::new(),
            signer_version: 3,
            sid: tlv::encode(0x80, id.as_bytes()),
            attributes: vec![
                attribute(CONTENT_TYPE, &[&tlv::oid(&AUTH_ENVELOPED)]),
                message_digest(CONTENT),
            ],
            signature_algorithm: algorithm_id("1.2.840.10045.4.3.2", &[]),
            ..Self::new()
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn encode(&self) -> Vec<u8> {
        let as_sent = self.attributes.concat();
        let to_be_signed =
            self.to_be_signed.clone().unwrap_or_else(|| tlv::encode(tag::SET, &as_sent));
        let signature = self.key.signer().sign(self.scheme, &to_be_signed).unwrap();
        let signer_info = tlv::sequence(&[
            &tlv::small_int(self.signer_version),
            &self.sid,
            &self.digest_algorithm,
            &tlv::encode(0xa0, &as_sent),
            &self.signature_algorithm,
            &tlv::encode(tag::OCTET_STRING, &signature),
            &self.unsigned,
        ]);
        let signed = tlv::sequence(&[
            &tlv::small_int(self.version),
            &tlv::encode(tag::SET, &self.digest_algorithm),
            &tlv::sequence(&[&tlv::oid(&self.content_type), &self.content]),
            &self.sets,
            &tlv::encode(tag::SET, &signer_info),
        ]);
        let signed_data = oid("1.2.840.113549.1.7.2");
        tlv::sequence(&[&tlv::oid(&signed_data), &tlv::encode(0xa0, &signed)])
    }

    fn verify(&self) -> Result<VerifiedSignedData, CmsError> {
        verify(&self.encode(), LegacyAlgorithms::Refuse)
    }

    fn verify_pinned(&self) -> Result<VerifiedSignedData, CmsError> {
        verify_pinned(&self.encode(), &[P256.public_key()])
    }
}

fn issuer_serial(certificate: &CertificateDer) -> Vec<u8> {
    let serial = tlv::encode(tag::INTEGER, certificate.serial_content());
    tlv::sequence(&[certificate.issuer_der(), &serial])
}

fn set(certificates: &[&CertificateDer]) -> Vec<u8> {
    let all: Vec<&[u8]> = certificates.iter().map(|c| c.as_der()).collect();
    tlv::construct(0xa0, &all)
}

fn parse(der: &[u8]) -> Result<SignedData, CmsError> {
    SignedData::parse(der, &Limits::default())
}

fn verify(der: &[u8], legacy: LegacyAlgorithms) -> Result<VerifiedSignedData, CmsError> {
    parse(der)?.verify(&AwsLc, legacy)
}

fn verify_pinned(der: &[u8], pinned: &[&SpkiDer]) -> Result<VerifiedSignedData, CmsError> {
    parse(der)?.verify_pinned(&AwsLc, pinned)
}

#[test]
fn the_good_message_verifies_and_tells_what_was_signed() {
    let verified = Parts::new().verify().unwrap();
    assert_eq!(verified.content(), CONTENT);
    assert_eq!(verified.content_type(), DATA);
    assert_eq!(verified.signer_key(), RSA.public_key());
    assert_eq!(verified.signer_certificate(), Some(&*SIGNER));
    assert_eq!(verified.certificates(), std::slice::from_ref(&*SIGNER));
    assert_eq!(verified.attribute(&oid(TRANSACTION_ID)), Some(&b"\x13\x02id"[..]));
    assert_eq!(verified.attribute(&oid("1.2.3")), None);
    assert_eq!(verified.scheme(), SignatureScheme::RsaPkcs1Sha256);
}

#[test]
fn attack_11_content_swapped_after_signing() {
    let swapped = tlv::encode(0xa0, &tlv::encode(tag::OCTET_STRING, b"another one"));
    let parts = Parts::new().with(|parts| parts.content = swapped);
    assert_eq!(parts.verify().unwrap_err(), CmsError::SignatureInvalid);
    let parts = Parts::new().with(|parts| parts.content.clear());
    assert_eq!(parts.verify().unwrap_err(), CmsError::SignatureInvalid);
    let empty = tlv::encode(0xa0, &tlv::encode(tag::OCTET_STRING, b""));
    let parts = Parts::new().with(|parts| parts.content = empty);
    assert_eq!(parts.verify().unwrap_err(), CmsError::SignatureInvalid);
}

#[test]
fn attack_11_constructed_content_does_not_pass_as_der() {
    let segments = tlv::encode(0x24, &tlv::encode(tag::OCTET_STRING, CONTENT));
    let parts = Parts::new().with(|parts| parts.content = tlv::encode(0xa0, &segments));
    assert!(matches!(
        parts.verify().unwrap_err(),
        CmsError::Malformed(TlvError::Tag { expected: 0x04, got: 0x24, .. })
    ));
    // Once normalised, its digest is that of the joined octets.
    let der = parts.encode();
    let der = scep_cms::ber::normalize(&der, &Limits::default()).unwrap();
    assert_eq!(verify(&der, LegacyAlgorithms::Refuse).unwrap().content(), CONTENT);
}

#[test]
fn attack_11_attributes_that_bind_the_content_are_mandatory() {
    let parts = Parts::new().with(|parts| drop(parts.attributes.remove(0)));
    assert_eq!(structure(parts.verify()), "no contentType attribute");
    let parts = Parts::new().with(|parts| drop(parts.attributes.remove(1)));
    assert_eq!(structure(parts.verify()), "no messageDigest attribute");

    // The signature is over the content itself, as RFC 5652 allows without signed attributes.
    let bare = changed(&Parts::new().encode(), |tree| {
        drop(tree.at(&[1, 0, 4, 0]).children().remove(3));
    });
    assert_eq!(structure(parse(&bare)), "no signed attributes");
}

#[test]
fn attack_11_attributes_are_unique_and_single_valued() {
    for index in 0..3 {
        let parts = Parts::new().with(|parts| {
            let again = parts.attributes[index].clone();
            parts.attributes.push(again);
        });
        assert_eq!(structure(parts.verify()), "signed attribute twice");
    }
    let parts = Parts::new().with(|parts| {
        parts.attributes[2] = attribute(TRANSACTION_ID, &[b"\x13\x02id", b"\x13\x02ie"]);
    });
    assert_eq!(structure(parts.verify()), "signed attribute with several values");
    let parts = Parts::new().with(|parts| parts.attributes[2] = attribute(TRANSACTION_ID, &[]));
    assert_eq!(structure(parts.verify()), "signed attribute without a value");
}

#[test]
fn attack_14_content_type_and_its_attribute_agree() {
    let parts = Parts::new().with(|parts| parts.content_type = AUTH_ENVELOPED);
    assert_eq!(structure(parts.verify()), "contentType attribute other than eContentType");
    let enveloped = changed(&Parts::new().encode(), |tree| {
        *tree.at(&[0]).value() = oid("1.2.840.113549.1.7.3").as_bytes().to_vec();
    });
    assert_eq!(structure(parse(&enveloped)), "content that is no SignedData");
}

#[test]
fn attack_11_every_octet_of_attributes_and_signature_counts() {
    let good = Parts::new().encode();
    let flip = |path: &[usize]| {
        let bad = changed(&good, |tree| *tree.at(path).value().last_mut().unwrap() ^= 1);
        verify(&bad, LegacyAlgorithms::Refuse).unwrap_err()
    };
    // The signature, the messageDigest, the transactionID.
    for path in [&[1, 0, 4, 0, 5][..], &[1, 0, 4, 0, 3, 1, 1, 0], &[1, 0, 4, 0, 3, 2, 1, 0]] {
        assert_eq!(flip(path), CmsError::SignatureInvalid, "{path:?}");
    }
}

#[test]
fn attack_12_content_that_reads_as_signed_attributes() {
    let attributes = tlv::set_of(Parts::new().attributes);
    let parts = Parts::new().with(|parts| {
        parts.content = tlv::encode(0xa0, &tlv::encode(tag::OCTET_STRING, &attributes));
        parts.attributes[1] = message_digest(&attributes);
    });
    assert_eq!(structure(parts.verify()), "content that reads as signed attributes");
    // A SET of something else is content like any other.
    let set = tlv::encode(tag::SET, &[2, 1, 7]);
    let parts = Parts::new().with(|parts| {
        parts.content = tlv::encode(0xa0, &tlv::encode(tag::OCTET_STRING, &set));
        parts.attributes[1] = message_digest(&set);
    });
    assert_eq!(parts.verify().unwrap().content(), set);
}

#[test]
fn attack_13_one_signer_info_only() {
    let good = Parts::new().encode();
    let doubled = changed(&good, |tree| {
        let infos = tree.at(&[1, 0, 4]).children();
        infos.push(infos[0].clone());
    });
    assert_eq!(structure(parse(&doubled)), "second SignerInfo");
    let none = changed(&good, |tree| tree.at(&[1, 0, 4]).children().clear());
    assert_eq!(structure(verify(&none, LegacyAlgorithms::Refuse)), "no SignerInfo");
}

#[test]
fn attack_13_the_signer_is_one_certificate() {
    // Same issuer and serial number, another key.
    let twin = certificate(&RSA_2, "CN=device", 5);
    for order in [[&*SIGNER, &twin], [&twin, &*SIGNER]] {
        let parts = Parts::new().with(|parts| parts.sets = set(&order));
        assert_eq!(structure(parts.verify()), "signer named by two certificates");
    }
    let parts = Parts::new().with(|parts| parts.sets = set(&[&SIGNER, &SIGNER]));
    assert_eq!(parts.verify().unwrap().certificates().len(), 2);
    let parts = Parts::new().with(|parts| parts.sets = set(&[&twin]));
    assert_eq!(parts.verify().unwrap_err(), CmsError::SignatureInvalid);
    let other = certificate(&RSA, "CN=device", 6);
    let parts = Parts::new().with(|parts| parts.sets = set(&[&other]));
    assert_eq!(structure(parts.verify()), "signer without a certificate");
    let other = certificate(&RSA, "CN=other", 5);
    let parts = Parts::new().with(|parts| parts.sets = set(&[&other]));
    assert_eq!(structure(parts.verify()), "signer without a certificate");
    let parts = Parts::new().with(|parts| parts.sets.clear());
    assert_eq!(structure(parts.verify()), "signer without a certificate");
}

#[test]
fn quirk_26_the_signer_is_found_by_its_sid_wherever_it_stands() {
    let other = certificate(&P384, "CN=an intermediate", 1);
    let order = [&other, &*SIGNER];
    let parts = Parts::new().with(|parts| parts.sets = set(&order));
    let verified = parts.verify().unwrap();
    assert_eq!(verified.signer_certificate(), Some(&*SIGNER));
    assert_eq!(verified.certificates(), [other.clone(), SIGNER.clone()]);

    let parts = parts.with(|parts| {
        parts.signer_version = 3;
        parts.sid = tlv::encode(0x80, RSA.public_key().key_id().as_bytes());
    });
    assert_eq!(parts.verify().unwrap().signer_certificate(), Some(&*SIGNER));
    assert_eq!(
        parse(&parts.encode()).unwrap().signer_key_id(),
        Some(&RSA.public_key().key_id().as_bytes()[..])
    );
    assert_eq!(parse(&Parts::new().encode()).unwrap().signer_key_id(), None);
}

#[test]
fn quirk_21_the_issuer_may_be_encoded_otherwise() {
    // The same name with a PrintableString, where the certificate has a UTF8String.
    let printable =
        tlv::sequence(&[&tlv::encode(tag::SET, &attribute_value(tag::PRINTABLE_STRING))]);
    let utf8 = tlv::sequence(&[&tlv::encode(tag::SET, &attribute_value(tag::UTF8_STRING))]);
    assert_eq!(SIGNER.issuer_der(), utf8);
    let parts =
        Parts::new().with(|parts| parts.sid = tlv::sequence(&[&printable, &tlv::small_int(5)]));
    assert_eq!(parts.verify().unwrap().signer_certificate(), Some(&*SIGNER));
}

fn attribute_value(string_tag: u8) -> Vec<u8> {
    tlv::sequence(&[&tlv::oid(&oid("2.5.4.3")), &tlv::encode(string_tag, b"device")])
}

#[test]
fn versions_fit_their_fields() {
    let parts = Parts::new().with(|parts| parts.signer_version = 3);
    assert_eq!(structure(parts.verify()), "SignerInfo version does not fit its sid");
    let parts = Parts::pinned().with(|parts| parts.signer_version = 1);
    assert_eq!(structure(parts.verify_pinned()), "SignerInfo version does not fit its sid");
    for version in [0, 6] {
        let parts = Parts::new().with(|parts| parts.version = version);
        assert_eq!(structure(parts.verify()), "SignedData of unknown version");
    }
}

#[test]
fn quirk_24_attributes_signed_sorted_and_sent_unsorted() {
    let reversed = Parts::new().with(|parts| parts.attributes.reverse());
    let as_sent = tlv::encode(tag::SET, &reversed.attributes.concat());
    let sorted = tlv::set_of(reversed.attributes.clone());
    assert_ne!(as_sent, sorted);
    assert!(reversed.verify().is_ok());
    let parts = reversed.with(|parts| parts.to_be_signed = Some(sorted));
    assert!(parts.verify().is_ok());
    // The tag [0] itself is not what RFC 5652 has signed.
    let implicit = tlv::encode(0xa0, &parts.attributes.concat());
    let parts = parts.with(|parts| parts.to_be_signed = Some(implicit));
    assert_eq!(parts.verify().unwrap_err(), CmsError::SignatureInvalid);
}

#[test]
fn quirk_25_both_names_of_pkcs1_signatures() {
    for (name, parameters) in [
        (RSA_ENCRYPTION, NULL),
        (RSA_ENCRYPTION, &[]),
        (SHA256_WITH_RSA, NULL),
        (SHA256_WITH_RSA, &[]),
    ] {
        let parts =
            Parts::new().with(|parts| parts.signature_algorithm = algorithm_id(name, parameters));
        assert_eq!(parts.verify().unwrap().scheme(), SignatureScheme::RsaPkcs1Sha256);
    }
    let parts = Parts::new()
        .with(|parts| parts.signature_algorithm = algorithm_id(RSA_ENCRYPTION, &[2, 1, 0]));
    assert_eq!(structure(parts.verify()), "unexpected algorithm parameters");
}

#[test]
fn errors_say_where_in_the_message() {
    let place = |der: &[u8], value: &[u8]| {
        der.windows(value.len()).position(|window| window == value).unwrap()
    };
    let odd = algorithm_id(RSA_ENCRYPTION, &[2, 1, 0x7e]);
    let parts = Parts::new().with(|parts| parts.signature_algorithm = odd);
    let der = parts.encode();
    assert_eq!(
        verify(&der, LegacyAlgorithms::Refuse).unwrap_err(),
        CmsError::Structure {
            what: "unexpected algorithm parameters",
            at: place(&der, &[2, 1, 0x7e])
        }
    );
    let odd = attribute(MESSAGE_DIGEST, &[&[0x13, 3, b'o', b'd', b'd']]);
    let parts = Parts::new().with(|parts| parts.attributes[1] = odd);
    let der = parts.encode();
    let at = place(&der, &[0x13, 3, b'o', b'd', b'd']);
    assert_eq!(
        verify(&der, LegacyAlgorithms::Refuse).unwrap_err(),
        CmsError::Malformed(TlvError::Tag { at, expected: 0x04, got: 0x13 })
    );
}

#[test]
fn quirk_46_digest_parameters_null_or_absent() {
    let parts = Parts::new().with(|parts| parts.digest_algorithm = algorithm_id(SHA256, NULL));
    assert!(parts.verify().is_ok());
    let parts = Parts::new().with(|parts| parts.digest_algorithm = algorithm_id(SHA256, &[4, 0]));
    assert_eq!(structure(parts.verify()), "unexpected algorithm parameters");
}

#[test]
fn attack_20_digest_and_signature_algorithm_agree() {
    // The signature is good, over SHA-256; only its name says otherwise.
    for name in ["1.2.840.113549.1.1.5", "1.2.840.113549.1.1.12", "1.2.840.113549.1.1.13"] {
        let parts = Parts::new().with(|parts| parts.signature_algorithm = algorithm_id(name, NULL));
        assert_eq!(
            structure(parts.verify()),
            "digestAlgorithm and signatureAlgorithm disagree",
            "{name}"
        );
    }
    // RSA's name for a signature of an EC key, and the reverse.
    let parts = Parts::new()
        .with(|parts| parts.signature_algorithm = algorithm_id("1.2.840.10045.4.3.2", &[]));
    assert_eq!(parts.verify().unwrap_err(), CmsError::SignatureInvalid);
}

#[test]
fn quirk_33_refused_algorithms_are_named() {
    for (digest, name) in [
        ("1.2.840.113549.2.5", "md5"),
        (SHA1, "sha1"),
        ("2.16.840.1.101.3.4.2.4", "sha224"),
        ("1.2.3.4", "1.2.3.4"),
    ] {
        let parts = Parts::new().with(|parts| parts.digest_algorithm = algorithm_id(digest, NULL));
        let error = parts.verify().unwrap_err();
        assert_eq!(error.reason(), Reason::AlgorithmNotSupported);
        assert_eq!(
            error,
            CmsError::Algorithm { role: "the message digest", name: name.to_owned() }
        );
    }
    for (signature, name) in [
        ("1.2.840.113549.1.1.4", "md5WithRSAEncryption"),
        ("1.2.840.10040.4.3", "dsa-with-sha1"),
        ("1.2.3.5", "1.2.3.5"),
    ] {
        let parts =
            Parts::new().with(|parts| parts.signature_algorithm = algorithm_id(signature, NULL));
        assert_eq!(
            parts.verify().unwrap_err(),
            CmsError::Algorithm { role: "the signature", name: name.to_owned() }
        );
    }
    // MD5 is refused on legacy endpoints too.
    let md5 = Parts::new()
        .with(|parts| parts.digest_algorithm = algorithm_id("1.2.840.113549.2.5", NULL));
    assert_eq!(algorithm(verify(&md5.encode(), LegacyAlgorithms::Accept)), "md5");
}

#[test]
fn every_scheme_signs_and_verifies() {
    use SignatureScheme as S;
    for (key, scheme) in [
        (&*RSA, S::RsaPkcs1Sha256),
        (&RSA, S::RsaPkcs1Sha384),
        (&RSA, S::RsaPkcs1Sha512),
        (&RSA, S::RsaPssSha256),
        (&RSA, S::RsaPssSha384),
        (&RSA, S::RsaPssSha512),
        (&P256, S::EcdsaSha256),
        (&P384, S::EcdsaSha384),
    ] {
        let signer = certificate(key, "CN=signer", 3);
        let der = sign_with(key, SignerId::Certificate(&signer), scheme, CONTENT);
        let verified = verify(&der, LegacyAlgorithms::Refuse).unwrap();
        assert_eq!(verified.scheme(), scheme);
        assert_eq!(verified.content(), CONTENT);
    }
}

fn sign_with(
    key: &SoftwareKey,
    signer_id: SignerId<'_>,
    scheme: SignatureScheme,
    content: &[u8],
) -> Vec<u8> {
    let what = ToSign {
        content_type: DATA,
        content,
        attributes: &[],
        certificates: &[],
        signer_id,
        scheme,
    };
    sign(key.signer().as_ref(), &what).unwrap()
}

#[test]
fn pss_parameters_are_checked() {
    let signer = certificate(&RSA, "CN=signer", 3);
    let good =
        sign_with(&RSA, SignerId::Certificate(&signer), SignatureScheme::RsaPssSha256, CONTENT);
    // SignerInfo's signatureAlgorithm: hash [0], mask [1], salt [2].
    let parameters = [1, 0, 4, 0, 4, 1];
    let with = |change: &dyn Fn(&mut Vec<Node>)| {
        let bad = changed(&good, |tree| change(tree.at(&parameters).children()));
        verify(&bad, LegacyAlgorithms::Refuse)
    };
    let explicit = |n: u8, inner: Vec<u8>| Node::Constructed(0xa0 | n, vec![Node::parse(&inner)]);
    let sha512 = algorithm_id("2.16.840.1.101.3.4.2.3", &[]);
    let mgf1_sha512 = algorithm_id("1.2.840.113549.1.1.8", &sha512);
    assert!(with(&|all| all.push(explicit(3, tlv::small_int(1)))).is_ok());
    assert_eq!(
        structure(with(&|all| all.push(explicit(3, tlv::small_int(2))))),
        "RSASSA-PSS trailer other than 1"
    );
    for salt in [0, 20, 31, 33, 222] {
        assert_eq!(
            structure(with(&|all| all[2] = explicit(2, tlv::small_int(salt)))),
            "RSASSA-PSS salt not of the digest's length"
        );
    }
    assert_eq!(
        structure(with(&|all| drop(all.pop()))),
        "RSASSA-PSS salt not of the digest's length"
    );
    assert_eq!(
        structure(with(&|all| all[1] = explicit(1, mgf1_sha512.clone()))),
        "MGF1 with another hash"
    );
    assert_eq!(
        structure(with(&|all| all[0] = explicit(0, sha512.clone()))),
        "MGF1 with another hash"
    );
    assert_eq!(structure(with(&|all| drop(all.remove(1)))), "MGF1 with another hash");
    assert_eq!(
        algorithm(with(&|all| all[1] = explicit(1, algorithm_id("1.2.3.4", &sha512)))),
        "1.2.3.4"
    );
    // All of it for another digest than digestAlgorithm names.
    assert_eq!(
        structure(with(&|all| {
            all[0] = explicit(0, sha512.clone());
            all[1] = explicit(1, mgf1_sha512.clone());
            all[2] = explicit(2, tlv::small_int(64));
        })),
        "digestAlgorithm and signatureAlgorithm disagree"
    );
    let bare = changed(&good, |tree| drop(tree.at(&[1, 0, 4, 0, 4]).children().pop()));
    assert_eq!(structure(verify(&bare, LegacyAlgorithms::Refuse)), "algorithm without parameters");
}

#[test]
fn quirk_42_empty_and_absent_content_verify() {
    let signer = certificate(&RSA, "CN=RA", 1);
    let scheme = SignatureScheme::RsaPkcs1Sha256;
    let empty = sign_with(&RSA, SignerId::Certificate(&signer), scheme, b"");
    let mut tree = Node::parse(&empty);
    let content = tree.at(&[1, 0, 2, 1]).clone();
    assert_eq!(content, Node::Constructed(0xa0, vec![Node::Primitive(0x04, vec![])]));
    assert_eq!(verify(&empty, LegacyAlgorithms::Refuse).unwrap().content(), b"");
    let absent = changed(&empty, |tree| drop(tree.at(&[1, 0, 2]).children().pop()));
    assert_eq!(verify(&absent, LegacyAlgorithms::Refuse).unwrap().content(), b"");
}

#[test]
fn other_kinds_of_certificates_and_crls_are_refused() {
    for kind in [0xa0, 0xa1, 0xa2, 0xa3] {
        let attribute_certificate = tlv::encode(kind, &[]);
        let parts = Parts::new().with(|parts| {
            parts.sets = tlv::construct(0xa0, &[SIGNER.as_der(), &attribute_certificate]);
        });
        assert_eq!(
            structure(parts.verify()),
            "certificate of a kind that is not understood",
            "{kind:#x}"
        );
    }
    let other = tlv::encode(0xa1, &tlv::encode(0xa1, &[]));
    let parts = Parts::new().with(|parts| parts.sets.extend(&other));
    assert_eq!(
        structure(parts.verify()),
        "revocation information of a kind that is not understood"
    );
    let crl = tlv::encode(0xa1, &tlv::sequence(&[]));
    let parts = Parts::new().with(|parts| parts.sets.extend(&crl));
    assert!(parts.verify().is_ok());
    // Unsigned attributes prove nothing, and are not read.
    let parts = Parts::new().with(|parts| parts.unsigned = tlv::encode(0xa1, &[]));
    assert!(parts.verify().is_ok());
}

#[test]
fn an_unreadable_certificate_is_skipped_unless_it_is_the_signers() {
    // A key on a curve that is not known here.
    let unreadable = changed(certificate(&P256, "CN=chain", 8).as_der(), |tree| {
        let curve = tree.at(&[0, 6, 0, 1]).value();
        *curve = oid("1.3.132.0.10").as_bytes().to_vec();
    });
    let error = CertificateDer::parse(&unreadable).unwrap_err();
    let parts = Parts::new().with(|parts| {
        parts.sets = tlv::construct(0xa0, &[&unreadable, SIGNER.as_der()]);
    });
    let verified = parts.verify().unwrap();
    assert_eq!(verified.certificates(), std::slice::from_ref(&*SIGNER));
    let parts = Parts::new().with(|parts| parts.sets = tlv::encode(0xa0, &unreadable));
    assert_eq!(parts.verify().unwrap_err(), CmsError::Certificate(error));
}

#[test]
fn limits_hold() {
    let at_most = |der: &[u8], limits: Limits| SignedData::parse(der, &limits).map(drop);
    let good = Parts::new().encode();
    let limits = Limits { max_bytes: good.len() - 1, ..Limits::default() };
    let max = limits.max_bytes;
    assert_eq!(at_most(&good, limits), Err(CmsError::Limit { what: "octets", max }));
    let limits = Limits { max_attributes: 2, ..Limits::default() };
    assert_eq!(at_most(&good, limits), Err(CmsError::Limit { what: "signed attributes", max: 2 }));
    let eleven = certs_only(&vec![SIGNER.clone(); 11]);
    assert_eq!(
        at_most(&eleven, Limits::default()),
        Err(CmsError::Limit { what: "certificates", max: 10 })
    );
    assert_eq!(at_most(&certs_only(&vec![SIGNER.clone(); 10]), Limits::default()), Ok(()));
    let eleven = crl_only(&tlv::sequence(&[]).repeat(11));
    assert_eq!(at_most(&eleven, Limits::default()), Err(CmsError::Limit { what: "CRLs", max: 10 }));
}

#[test]
fn quirk_43_certs_only_keeps_the_order_given() {
    // The first certificate sorts after the second in DER.
    let ra = certificate(&RSA, "CN=RA,O=Example", 2);
    let small = certificate(&P256, "CN=CA", 1);
    for order in [[ra.clone(), small.clone()], [small, ra]] {
        let parsed = parse(&certs_only(&order)).unwrap();
        assert_eq!(parsed.into_certs_only().unwrap(), order);
    }
}

#[test]
fn degenerate_messages_have_neither_signer_nor_content() {
    let good = Parts::new().encode();
    assert_eq!(
        structure(parse(&good).unwrap().into_certs_only()),
        "signer in a degenerate message"
    );
    assert_eq!(structure(parse(&good).unwrap().into_crls_only()), "signer in a degenerate message");
    let unsigned = changed(&good, |tree| tree.at(&[1, 0, 4]).children().clear());
    assert_eq!(
        structure(parse(&unsigned).unwrap().into_certs_only()),
        "content in a degenerate message"
    );
    let empty = certs_only(&[]);
    assert_eq!(
        structure(parse(&empty).unwrap().into_certs_only()),
        "certs-only message without certificates"
    );
    assert_eq!(
        structure(parse(&empty).unwrap().into_crls_only()),
        "degenerate message without CRLs"
    );
    let crl = tlv::sequence(&[&tlv::small_int(1)]);
    assert_eq!(parse(&crl_only(&crl)).unwrap().into_crls_only().unwrap(), [crl]);
    let degenerate = parse(&certs_only(std::slice::from_ref(&SIGNER))).unwrap();
    assert_eq!(structure(degenerate.verify(&AwsLc, LegacyAlgorithms::Refuse)), "no SignerInfo");
}

#[test]
fn a_blob_verifies_by_its_pinned_key() {
    let verified = Parts::pinned().verify_pinned().unwrap();
    assert_eq!(verified.content(), CONTENT);
    assert_eq!(verified.content_type(), AUTH_ENVELOPED);
    assert_eq!(verified.signer_key(), P256.public_key());
    assert_eq!(verified.signer_certificate(), None);
    // What `sign` writes is that very form.
    for (key, pinned) in
        [(&*P256, P256.public_key()), (&P384, P384.public_key()), (&RSA, RSA.public_key())]
    {
        let what = ToSign {
            content_type: AUTH_ENVELOPED,
            content: CONTENT,
            attributes: &[],
            certificates: &[],
            signer_id: SignerId::KeyId,
            scheme: SignatureScheme::default_for(pinned.algorithm()),
        };
        let der = sign(key.signer().as_ref(), &what).unwrap();
        let all = [RSA_2.public_key(), pinned, P256.public_key()];
        assert_eq!(verify_pinned(&der, &all).unwrap().signer_key(), pinned);
    }
}

#[test]
fn attack_16_only_pinned_keys_sign_blobs() {
    let blob = Parts::pinned().encode();
    let unknown = [RSA.public_key(), P384.public_key()];
    assert_eq!(verify_pinned(&blob, &unknown).unwrap_err(), CmsError::SignerUnknown);
    assert_eq!(verify_pinned(&blob, &[]).unwrap_err(), CmsError::SignerUnknown);
    // The pinned key's id over a signature by another one.
    let other = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    let parts = Parts::pinned().with(|parts| parts.key = other);
    assert_eq!(parts.verify_pinned().unwrap_err(), CmsError::SignatureInvalid);
    // Named by a certificate, though by the pinned key.
    let signer = certificate(&P256, "CN=issuer", 1);
    let parts = Parts::pinned().with(|parts| {
        parts.signer_version = 1;
        parts.sid = issuer_serial(&signer);
    });
    assert_eq!(structure(parts.verify_pinned()), "signer that is not named by its key id");
}

#[test]
fn one_key_id_is_one_pinned_key() {
    // An RSA key whose algorithm has no parameters is another SubjectPublicKeyInfo with the same id.
    let bare = changed(RSA.public_key().as_der(), |tree| {
        drop(tree.at(&[0]).children().pop());
    });
    let bare = SpkiDer::parse(&bare).unwrap();
    assert_eq!(bare.key_id(), RSA.public_key().key_id());
    let parts = Parts::pinned().with(|parts| {
        parts.key = RSA.clone();
        parts.scheme = SignatureScheme::RsaPkcs1Sha256;
        parts.sid = tlv::encode(0x80, bare.key_id().as_bytes());
        parts.signature_algorithm = algorithm_id(RSA_ENCRYPTION, NULL);
    });
    let der = parts.encode();
    let key = RSA.public_key();
    assert!(verify_pinned(&der, &[key, key]).is_ok());
    assert_eq!(structure(verify_pinned(&der, &[key, &bare])), "key id of more than one pinned key");
}

#[test]
fn signed_attributes_are_written_in_der_order() {
    let attributes = [("2.9.9.9", 40), ("2.9.9", 0), ("1.2.3", 7)]
        .map(|(dotted, length)| (oid(dotted), tlv::encode(tag::OCTET_STRING, &vec![1; length])));
    let what = ToSign {
        content_type: DATA,
        content: CONTENT,
        attributes: &attributes,
        certificates: &[],
        signer_id: SignerId::Certificate(&SIGNER),
        scheme: SignatureScheme::RsaPkcs1Sha256,
    };
    let der = sign(RSA.signer().as_ref(), &what).unwrap();
    let mut tree = Node::parse(&der);
    let written: Vec<_> = tree.at(&[1, 0, 4, 0, 3]).children().iter().map(Node::encode).collect();
    assert_eq!(written.len(), 5);
    assert!(written.is_sorted());
    let verified = verify(&der, LegacyAlgorithms::Refuse).unwrap();
    for (oid, value) in &attributes {
        assert_eq!(verified.attribute(oid), Some(&value[..]));
    }
}

#[test]
fn attack_20_the_scheme_follows_from_the_pinned_key() {
    let sha384 = "2.16.840.1.101.3.4.2.2";
    let parts = Parts::pinned().with(|parts| {
        parts.scheme = SignatureScheme::EcdsaSha384;
        parts.digest_algorithm = algorithm_id(sha384, &[]);
        parts.signature_algorithm = algorithm_id("1.2.840.10045.4.3.3", &[]);
    });
    assert_eq!(structure(parts.verify_pinned()), "signature scheme other than the pinned key's");
    let parts = Parts::pinned().with(|parts| parts.digest_algorithm = algorithm_id(SHA1, &[]));
    assert_eq!(algorithm(parts.verify_pinned()), "sha1");
}

#[test]
fn blobs_have_one_form() {
    let parts = Parts::pinned().with(|parts| parts.version = 1);
    assert_eq!(structure(parts.verify_pinned()), "SignedData of another version than 3");

    let what = "certificates, CRLs or unsigned attributes";
    for sets in [tlv::encode(0xa0, &[]), tlv::encode(0xa1, &[]), set(&[&SIGNER])] {
        let parts = Parts::pinned().with(|parts| parts.sets = sets);
        assert_eq!(structure(parts.verify_pinned()), what);
    }
    let parts = Parts::pinned().with(|parts| parts.unsigned = tlv::encode(0xa1, &[]));
    assert_eq!(structure(parts.verify_pinned()), what);

    let what = "signed attributes other than contentType and messageDigest, in this order";
    let parts = Parts::pinned().with(|parts| parts.attributes.reverse());
    assert_eq!(structure(parts.verify_pinned()), what);
    let parts = Parts::pinned().with(|parts| parts.attributes.push(attribute("2.9.9", &[NULL])));
    assert_eq!(structure(parts.verify_pinned()), what);
    let parts = Parts::pinned().with(|parts| drop(parts.attributes.pop()));
    assert_eq!(structure(parts.verify_pinned()), what);

    let second = changed(&Parts::pinned().encode(), |tree| {
        let algorithms = tree.at(&[1, 0, 1]).children();
        algorithms.push(algorithms[0].clone());
    });
    assert_eq!(
        structure(verify_pinned(&second, &[P256.public_key()])),
        "digestAlgorithms other than the signer's"
    );

    let swapped = tlv::encode(0xa0, &tlv::encode(tag::OCTET_STRING, b"another one"));
    let parts = Parts::pinned().with(|parts| parts.content = swapped);
    assert_eq!(parts.verify_pinned().unwrap_err(), CmsError::SignatureInvalid);
}

#[test]
fn signing_refuses_what_would_not_verify() {
    let with = |attributes: &[(ObjectIdentifier, Vec<u8>)], certificate| {
        let what = ToSign {
            content_type: DATA,
            content: CONTENT,
            attributes,
            certificates: &[],
            signer_id: SignerId::Certificate(certificate),
            scheme: SignatureScheme::RsaPkcs1Sha256,
        };
        sign(RSA.signer().as_ref(), &what)
    };
    let value = b"\x13\x02id".to_vec();
    let id = oid(TRANSACTION_ID);
    assert!(with(&[(id, value.clone())], &SIGNER).is_ok());
    for twice in [oid(CONTENT_TYPE), oid(MESSAGE_DIGEST)] {
        assert_eq!(structure(with(&[(twice, value.clone())], &SIGNER)), "signed attribute twice");
    }
    assert_eq!(
        structure(with(&[(id, value.clone()), (id, value)], &SIGNER)),
        "signed attribute twice"
    );
    let others = certificate(&RSA_2, "CN=device", 5);
    assert_eq!(structure(with(&[], &others)), "certificate of another key than the signer's");
}

#[test]
fn another_reader_agrees_with_what_is_written() {
    use der::{Decode, Encode};
    for message in [
        sign_with(&RSA, SignerId::Certificate(&SIGNER), SignatureScheme::RsaPssSha256, CONTENT),
        certs_only(std::slice::from_ref(&SIGNER)),
    ] {
        let parsed = cms::content_info::ContentInfo::from_der(&message).unwrap();
        let signed: cms::signed_data::SignedData = parsed.content.decode_as().unwrap();
        assert_eq!(signed.to_der().unwrap(), parsed.content.to_der().unwrap());
    }
}

#[test]
fn a_refused_digest_is_reported_before_a_wrong_signature() {
    let digest = tlv::encode(tag::OCTET_STRING, &sha1::Sha1::digest(CONTENT));
    let parts = Parts::new().with(|parts| {
        parts.digest_algorithm = algorithm_id(SHA1, NULL);
        parts.attributes[1] = attribute(MESSAGE_DIGEST, &[&digest]);
    });
    // The signature itself stays one over SHA-256.
    let der = parts.encode();
    assert_eq!(algorithm(verify(&der, LegacyAlgorithms::Refuse)), "sha1");
    assert_eq!(verify(&der, LegacyAlgorithms::Accept).unwrap_err(), CmsError::SignatureInvalid);
}

#[test]
fn certificates_of_any_issuer_name_are_found() {
    // An empty issuer, and one that does not parse as a name: compared as octets.
    let odd = tlv::sequence(&[&tlv::encode(
        tag::SET,
        &tlv::sequence(&[&tlv::oid(&oid("2.5.4.3")), &[0x14, 1, 0xe9]]),
    )]);
    for issuer in [tlv::sequence(&[]), odd] {
        let signer = certificate_with_issuer(&RSA, &issuer, 5);
        let parts = Parts::new().with(|parts| {
            parts.sid = issuer_serial(&signer);
            parts.sets = set(&[&signer]);
        });
        assert_eq!(parts.verify().unwrap().signer_certificate(), Some(&signer));
    }
}

static BLOB: LazyLock<Vec<u8>> = LazyLock::new(|| Parts::pinned().encode());

#[test]
fn a_changed_bit_of_a_blob_never_verifies() {
    for at in 0..BLOB.len() {
        for bit in 0..8 {
            let mut der = BLOB.clone();
            der[at] ^= 1 << bit;
            assert!(verify_pinned(&der, &[P256.public_key()]).is_err(), "octet {at}, bit {bit}");
        }
    }
}

proptest! {
    #[test]
    fn noise_is_no_message(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>()) {
        prop_assert!(parse(&bytes).is_err());
        let mut der = BLOB.clone();
        let at = at.index(der.len());
        der.splice(at.., bytes);
        prop_assume!(der != *BLOB);
        if let Ok(signed) = parse(&der) {
            prop_assert!(signed.verify_pinned(&AwsLc, &[P256.public_key()]).is_err());
        }
    }
}
