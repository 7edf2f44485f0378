//! The approved certificate with one change, and exactly how it differs.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a helper of tests may panic as a test may"
)]

mod support;

use core::time::Duration;
use scep_challenge::Sid;
use scep_policy::{BEGIN_TOLERANCE, CertificateContents, Field};
use scep_types::tlv::{self, tag};
use scep_types::{DistinguishedName, GeneralName, Reason};
use support::*;

const KEY_USAGE: &str = "2.5.29.15";
const SAN: &str = "2.5.29.17";
const BASIC_CONSTRAINTS: &str = "2.5.29.19";
const EKU: &str = "2.5.29.37";
const SID: &str = "1.3.6.1.4.1.311.25.2";

fn case_with_sid() -> Case {
    let sid: Sid = "S-1-5-21-1-2-3-4444".parse().unwrap();
    good_but(|case| case.claims.expectation.extensions.push(sid.to_extension()))
}

#[track_caller]
fn conforms(case: &Case, change: impl FnOnce(&mut Parts)) {
    let approval = case.approved();
    let mut parts = Parts::of(&approval);
    change(&mut parts);
    let certificate = parts.build();
    let conforming = approval.check_certificate(&certificate).unwrap();
    assert_eq!(conforming.certificate(), &certificate);
}

/// One change, one difference.
#[track_caller]
fn differs(field: Field, change: impl FnOnce(&mut Parts)) {
    differs_in(&case_with_sid(), field, change);
}

#[track_caller]
fn differs_in(case: &Case, field: Field, change: impl FnOnce(&mut Parts)) {
    let approval = case.approved();
    let mut parts = Parts::of(&approval);
    change(&mut parts);
    let differences = approval.check_certificate(&parts.build()).unwrap_err();
    assert_eq!(pairs(&differences), [(field, Reason::CertificateDiffers)], "{differences:?}");
}

#[test]
fn a_conforming_certificate_is_bound_to_its_challenge() {
    let case = case_with_sid();
    let approval = case.approved();
    let certificate = Parts::of(&approval).build();
    let conforming = approval.check_certificate(&certificate).unwrap();
    assert_eq!(conforming.challenge(), (&case.claims.tenant, case.claims.challenge_id));
    assert_eq!(conforming.certificate(), &certificate);
}

#[test]
fn what_a_ca_may_choose() {
    let case = case_with_sid();
    conforms(&case, |parts| parts.remove_extension(BASIC_CONSTRAINTS));
    conforms(&case, |parts| parts.set_extension(BASIC_CONSTRAINTS, false, &[0x30, 3, 1, 1, 0]));
    conforms(&case, |parts| parts.set_extension(SAN, true, &value(parts, SAN)));
    conforms(&case, |parts| parts.set_extension(EKU, true, &value(parts, EKU)));
    conforms(&case, |parts| parts.set_extension(KEY_USAGE, false, &value(parts, KEY_USAGE)));
    conforms(&case, |parts| {
        for oid in ["2.5.29.14", "2.5.29.35", "2.5.29.31", "1.3.6.1.5.5.7.1.1"] {
            parts.remove_extension(oid);
        }
    });
    conforms(&case, |parts| parts.serial = tlv::encode(tag::INTEGER, &[0x7f; 20]));
    // The order of names, and the string types of the subject, are the encoder's.
    conforms(&case, |parts| {
        let mut names = case.claims.expectation.subject_alt_names.clone();
        names.reverse();
        parts.set_extension(SAN, false, &GeneralName::list_to_der(&names));
    });
    let case = good_but(|case| {
        case.claims.expectation.subject = name("CN=device-7");
        case.request.subject = name("CN=device-7");
    });
    conforms(&case, |parts| {
        let value = tlv::encode(tag::PRINTABLE_STRING, b"device-7");
        let attribute = tlv::sequence(&[&tlv::oid(&oid("2.5.4.3")), &value]);
        parts.subject = tlv::encode(tag::SEQUENCE, &tlv::encode(tag::SET, &attribute));
    });
    let nameless = good_but(|case| {
        case.claims.expectation.subject = DistinguishedName::empty();
        case.request.subject = DistinguishedName::empty();
    });
    conforms(&nameless, |_| {});
    let without_san = good_but(|case| {
        case.claims.expectation.subject_alt_names.clear();
        case.request.subject_alt_names.clear();
    });
    conforms(&without_san, |_| {});
    differs_in(&without_san, Field::SubjectAltName, |parts| {
        let names = [GeneralName::dns("device-7.example.org").unwrap()];
        parts.set_extension(SAN, false, &GeneralName::list_to_der(&names));
    });
}

fn value(parts: &Parts, oid: &str) -> Vec<u8> {
    parts.extensions.iter().find(|(o, _, _)| o == oid).unwrap().2.clone()
}

#[test]
fn attack_46_names_key_and_usages_are_those_approved() {
    differs(Field::Subject, |parts| parts.subject = name("CN=admin").to_der());
    differs(Field::Subject, |parts| {
        parts.subject = name(r"C=CH, O=Example\, Inc., CN=device-7, CN=admin").to_der();
    });
    // A string type that nobody needs.
    differs(Field::Subject, |parts| {
        let value = tlv::encode(tag::T61_STRING, b"device-7");
        let attribute = tlv::sequence(&[&tlv::oid(&oid("2.5.4.3")), &value]);
        parts.subject = tlv::encode(tag::SEQUENCE, &tlv::encode(tag::SET, &attribute));
    });
    differs(Field::Key, |parts| parts.spki = KEYS.other.public_key().as_der().to_vec());

    let names = good().claims.expectation.subject_alt_names;
    let san = |parts: &mut Parts, names: &[GeneralName]| {
        parts.set_extension(SAN, false, &GeneralName::list_to_der(names));
    };
    let admin = GeneralName::upn("administrator@corp.example.org").unwrap();
    differs(Field::SubjectAltName, |parts| {
        san(parts, &[&names[..], std::slice::from_ref(&admin)].concat());
    });
    differs(Field::SubjectAltName, |parts| san(parts, &names[..1]));
    differs(Field::SubjectAltName, |parts| {
        san(parts, &[names[0].clone(), names[1].clone(), names[1].clone()]);
    });
    differs(Field::SubjectAltName, |parts| san(parts, &[names[0].clone(), admin]));
    differs(Field::SubjectAltName, |parts| parts.remove_extension(SAN));
    differs(Field::SubjectAltName, |parts| parts.set_extension(SAN, false, &[0x30, 0]));

    for usage in [&["digitalSignature"][..], &["digitalSignature", "keyEncipherment", "cRLSign"]] {
        differs(Field::KeyUsage, |parts| {
            parts.set_extension(KEY_USAGE, true, &usages(usage).to_der());
        });
    }
    differs(Field::KeyUsage, |parts| parts.remove_extension(KEY_USAGE));
    differs(Field::KeyUsage, |parts| parts.set_extension(KEY_USAGE, true, &[3, 1, 0]));

    for names in [&["serverAuth"][..], &["clientAuth", "anyExtendedKeyUsage"]] {
        differs(Field::ExtendedKeyUsage, |parts| {
            parts.set_extension(EKU, false, &purposes(names).to_der());
        });
    }
    differs(Field::ExtendedKeyUsage, |parts| parts.remove_extension(EKU));
    differs(Field::ExtendedKeyUsage, |parts| parts.set_extension(EKU, false, &[0x30, 0]));
}

#[test]
fn attack_43_it_is_no_ca() {
    for value in [
        &[0x30, 3, 1, 1, 0xff][..],
        &[0x30, 6, 1, 1, 0xff, 2, 1, 0],
        &[0x30, 3, 2, 1, 0],
        &[0x30, 3, 1, 1, 1],
        &[],
        &[5, 0],
    ] {
        differs(Field::BasicConstraints, |parts| {
            parts.set_extension(BASIC_CONSTRAINTS, true, value);
        });
    }
}

#[test]
fn attack_41_it_has_no_extension_that_nobody_approved() {
    for oid in [
        "1.3.6.1.4.1.311.21.10",
        "1.3.6.1.4.1.311.21.7",
        "1.3.6.1.4.1.311.20.2",
        "2.5.29.32",
        "2.5.29.30",
        "2.5.29.18",
        "1.2.3.4",
    ] {
        differs(Field::Extensions, |parts| parts.set_extension(oid, false, &[0x30, 0]));
    }
    // What a CA adds does not become critical: that decides who accepts a certificate.
    for oid in ["2.5.29.14", "2.5.29.35", "2.5.29.31", "1.3.6.1.5.5.7.1.1"] {
        differs(Field::Extensions, |parts| parts.set_extension(oid, true, &[0x30, 0]));
    }
    // The site may let its CA add more.
    let allowing = good_but(|case| case.rules = rules_with(&[r#"ca_may_add = ["2.5.29.32"]"#]));
    conforms(&allowing, |parts| parts.set_extension("2.5.29.32", false, &[0x30, 0]));
    differs_in(&allowing, Field::Extensions, |parts| {
        parts.set_extension("2.5.29.32", true, &[0x30, 0]);
    });
    differs_in(&allowing, Field::Extensions, |parts| {
        parts.set_extension("2.5.29.18", false, &[0x30, 0]);
    });
}

#[test]
fn attack_42_the_sid_is_that_of_the_claims() {
    let other: Sid = "S-1-5-21-1-2-3-500".parse().unwrap();
    let other = other.to_extension();
    differs(Field::Extensions, |parts| parts.set_extension(SID, false, &other.value));
    differs(Field::Extensions, |parts| parts.set_extension(SID, true, &value(parts, SID)));
    differs(Field::Extensions, |parts| parts.remove_extension(SID));
    differs_in(&good(), Field::Extensions, |parts| {
        parts.set_extension(SID, false, &other.value);
    });
    differs(Field::SubjectAltName, |parts| {
        let mut names = good().claims.expectation.subject_alt_names;
        names
            .push(GeneralName::uri("tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-500").unwrap());
        parts.set_extension(SAN, false, &GeneralName::list_to_der(&names));
    });
}

#[test]
fn attack_35_no_extension_comes_twice() {
    for oid in [KEY_USAGE, SAN, EKU, BASIC_CONSTRAINTS, SID, "2.5.29.14"] {
        differs(Field::Extensions, |parts| {
            let value = value(parts, oid);
            let critical = oid == KEY_USAGE || oid == BASIC_CONSTRAINTS;
            parts.extensions.push((oid.to_owned(), critical, value));
        });
    }
    let approval = good().approved();
    let mut parts = Parts::of(&approval);
    parts.extensions.push((EKU.to_owned(), false, value(&parts, EKU)));
    let differences = approval.check_certificate(&parts.build()).unwrap_err();
    assert_eq!(differences[0].got, "2.5.29.37 again");
    // Whichever of two a reader takes.
    for first in [true, false] {
        let mut parts = Parts::of(&approval);
        let second = ("2.5.29.37".to_owned(), false, purposes(&["codeSigning"]).to_der());
        let at = if first { 0 } else { parts.extensions.len() };
        parts.extensions.insert(at, second);
        let differences = approval.check_certificate(&parts.build()).unwrap_err();
        assert!(pairs(&differences).contains(&(Field::Extensions, Reason::CertificateDiffers)));
    }
}

#[test]
fn it_may_end_earlier_and_never_later() {
    let second = Duration::from_secs(1);
    let case = case_with_sid();
    conforms(&case, |parts| parts.not_after = parts.not_after.minus(second));
    conforms(&case, |parts| parts.not_after = NOW);
    differs(Field::Validity, |parts| parts.not_after = parts.not_after.plus(second));
    differs(Field::Validity, |parts| parts.not_after = NOW.minus(second));
    conforms(&case, |parts| parts.not_before = parts.not_before.minus(BEGIN_TOLERANCE));
    differs(Field::Validity, |parts| {
        parts.not_before = parts.not_before.minus(BEGIN_TOLERANCE + second);
    });
    conforms(&case, |parts| parts.not_before = NOW.plus(BEGIN_TOLERANCE));
    differs(Field::Validity, |parts| parts.not_before = parts.not_after);
}

#[test]
fn its_form_is_that_of_rfc_5280() {
    differs(Field::Form, |parts| parts.version = tlv::encode(0xa0, &tlv::small_int(1)));
    differs(Field::Form, |parts| parts.version = tlv::encode(0xa0, &tlv::small_int(3)));
    differs(Field::Form, |parts| parts.version.clear());
    differs(Field::Form, |parts| {
        parts.outer_algorithm = tlv::sequence(&[&tlv::oid(&oid("1.2.840.10045.4.3.3"))]);
    });
    differs(Field::Form, |parts| parts.unique_ids = tlv::encode(0x81, &[0, 1]));
    differs(Field::Form, |parts| parts.unique_ids = tlv::encode(0x82, &[0, 1]));
    for serial in [&[0][..], &[0x80, 1], &[0x41; 21], &[0, 1]] {
        differs(Field::SerialNumber, |parts| parts.serial = tlv::encode(tag::INTEGER, serial));
    }
}

#[test]
fn its_issuer_is_another_than_itself() {
    let case = case_with_sid();
    differs(Field::Issuer, |parts| parts.issuer = parts.subject.clone());
    // In another spelling.
    let case_plain = good_but(|case| {
        case.claims.expectation.subject = name("CN=device-7");
        case.request.subject = name("CN=device-7");
    });
    differs_in(&case_plain, Field::Issuer, |parts| {
        let value = tlv::encode(tag::PRINTABLE_STRING, b"device-7");
        let attribute = tlv::sequence(&[&tlv::oid(&oid("2.5.4.3")), &value]);
        parts.issuer = tlv::encode(tag::SEQUENCE, &tlv::encode(tag::SET, &attribute));
    });
    differs(Field::Issuer, |parts| parts.issuer = vec![0x30, 0]);
    // Old CAs have names in string types that no device may use.
    conforms(&case, |parts| {
        let value = tlv::encode(tag::T61_STRING, b"Old CA");
        let attribute = tlv::sequence(&[&tlv::oid(&oid("2.5.4.3")), &value]);
        parts.issuer = tlv::encode(tag::SEQUENCE, &tlv::encode(tag::SET, &attribute));
    });
}

#[test]
fn every_difference_is_told_at_once() {
    let approval = case_with_sid().approved();
    let mut parts = Parts::of(&approval);
    parts.subject = name("CN=admin").to_der();
    parts.spki = KEYS.other.public_key().as_der().to_vec();
    parts.not_after = parts.not_after.plus(Duration::from_secs(1));
    parts.extensions.clear();
    let fields: Vec<Field> = approval
        .check_certificate(&parts.build())
        .unwrap_err()
        .into_iter()
        .map(|report| report.field)
        .collect();
    assert_eq!(
        fields,
        [
            Field::Subject,
            Field::Key,
            Field::Validity,
            Field::SubjectAltName,
            Field::KeyUsage,
            Field::ExtendedKeyUsage,
            Field::Extensions,
        ]
    );
}

#[test]
fn recovery_compares_alike_without_an_approval() {
    let case = case_with_sid();
    let contents = CertificateContents::of(&case.claims, case.key.public_key(), NOW);
    let approval = case.approved();
    assert_eq!(&contents, approval.contents());
    let mut parts = Parts::of(&approval);
    assert_eq!(contents.differences(&case.rules, &parts.build()), []);
    parts.set_extension("2.5.29.32", false, &[0x30, 0]);
    let found = contents.differences(&case.rules, &parts.build());
    assert_eq!(found, approval.check_certificate(&parts.build()).unwrap_err());
    let allowing = rules_with(&[r#"ca_may_add = ["2.5.29.32"]"#]);
    assert_eq!(contents.differences(&allowing, &parts.build()), []);
}
