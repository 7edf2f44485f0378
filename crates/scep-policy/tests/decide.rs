//! A good request with one change, and exactly what it is refused for.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a helper of tests may panic as a test may"
)]

mod support;

use core::time::Duration;
use scep_challenge::{ApprovalMode, DemandUsages, Purpose, Renewal, Sid};
use scep_policy::{BACKDATE, Denials, Field, InertContent, RetryKey, decide};
use scep_types::tlv::{self, tag};
use scep_types::{DistinguishedName, GeneralName, KeyAlgorithm, KeyUsages, Reason, Secret};
use support::*;

/// One change to the good request, and the one field and reason it is refused for.
#[track_caller]
fn one_change(field: Field, reason: Reason, change: impl FnOnce(&mut Case)) {
    let case = good_but(change);
    assert_eq!(case.refused(), [(field, reason)]);
    assert_eq!(case.decide().unwrap_err().reason(), reason);
    // The explanation of a request has the same reasons, among the fields that pass.
    let explained = case.explained();
    assert_eq!(pairs(&explained), [(field, reason)]);
    assert!(explained.len() > 1);
}

fn dns(text: &str) -> GeneralName {
    GeneralName::dns(text).unwrap()
}

fn sid() -> Sid {
    "S-1-5-21-1-2-3-4444".parse().unwrap()
}

#[test]
fn the_good_request_is_approved_and_the_certificate_is_a_function_of_the_claims() {
    let case = good();
    let csr = case.csr();
    let approval = case.decide_on(&csr).unwrap();
    let (contents, expectation) = (approval.contents(), &case.claims.expectation);
    assert_eq!(approval.claims(), &case.claims);
    assert_eq!(contents.subject, expectation.subject);
    assert_eq!(contents.subject_alt_names, expectation.subject_alt_names);
    assert_eq!(contents.key_usage, expectation.key_usage);
    assert_eq!(contents.extended_key_usages, expectation.extended_key_usages);
    assert_eq!(contents.extensions, expectation.extensions);
    assert_eq!(&contents.spki, csr.spki());
    assert_eq!(approval.csr_der(), csr.as_der());
    assert_eq!(approval.retry_key(), RetryKey::of(&csr));
    assert_eq!(approval.retry_key().hash(), csr.info_hash());
    assert_eq!(approval.issuance_per_hour(), 60);
    let explained = case.explained();
    assert!(explained.iter().all(|report| report.reason.is_none()));
    let dates = explained.iter().find(|report| report.field == Field::Validity).unwrap();
    assert_eq!(dates.got, "2027-01-15T07:55:00Z to 2028-01-15T07:59:59Z");
}

#[test]
fn quirk_41_the_validity_is_that_of_the_claims_both_ends_included() {
    let approval = good().approved();
    let contents = approval.contents();
    assert_eq!(BACKDATE, Duration::from_secs(300));
    assert_eq!(contents.not_before, NOW.minus(BACKDATE));
    assert_eq!(contents.not_after.since(NOW).as_secs() + 1, 365 * DAY);
}

#[test]
fn attack_01_a_challenge_allows_no_other_identity() {
    use Reason::{SubjectAltNameMismatch, SubjectNameMismatch};
    one_change(Field::Subject, SubjectNameMismatch, |case| {
        case.request.subject = name(r"C=CH, O=Example\, Inc., CN=device-8");
    });
    one_change(Field::SubjectAltName, SubjectAltNameMismatch, |case| {
        case.request.subject_alt_names[0] = dns("device-8.example.org");
    });
    // All at once: every reason, the gravest for the answer.
    let case = good_but(|case| {
        case.request.subject = name("CN=admin");
        case.request.subject_alt_names.clear();
        case.request.key_usage = Some(KeyUsages::KEY_CERT_SIGN);
        case.request.extended_key_usages = Some(purposes(&["codeSigning"]));
        case.request.extensions.push(extension("2.5.29.30", &[0x30, 0]));
        case.request
            .attributes
            .push(tlv::sequence(&[&tlv::oid(&oid("1.2.3.4")), &tlv::encode(tag::SET, &[5, 0])]));
        case.key = KEYS.p384.clone();
    });
    let denial = case.decide().unwrap_err();
    let reasons = [
        SubjectNameMismatch,
        Reason::SubjectAltNameMissing,
        Reason::KeyLengthMismatch,
        Reason::KeyUsageMismatch,
        Reason::EnhancedKeyUsageMismatch,
        Reason::ExtensionNotAllowed,
        Reason::AttributeNotAllowed,
        Reason::SiteRuleViolated,
    ];
    assert_eq!(denial.reasons(), reasons);
    assert_eq!(denial.reason(), SubjectNameMismatch);
    assert_eq!(denial.claims(), &case.claims);
}

#[test]
fn attack_30_a_name_of_any_kind_that_the_challenge_does_not_have_is_refused() {
    let extra = [
        GeneralName::upn("administrator@corp.example.org").unwrap(),
        GeneralName::Other(oid("1.3.6.1.5.2.2"), vec![5, 0]),
        GeneralName::email("admin@example.org").unwrap(),
        dns("dc01.example.org"),
        GeneralName::X400(vec![]),
        GeneralName::Directory(name("CN=admin")),
        GeneralName::EdiParty(tlv::encode(0xa1, &tlv::encode(tag::UTF8_STRING, b"x"))),
        GeneralName::uri("urn:example:admin").unwrap(),
        GeneralName::ip([192, 0, 2, 1].into()),
        GeneralName::RegisteredId(oid("1.3.6.1.4.1.99999.1")),
    ];
    for other in extra {
        one_change(Field::SubjectAltName, Reason::SubjectAltNameMismatch, |case| {
            case.request.subject_alt_names.push(other.clone());
        });
        // A challenge without names allows none.
        one_change(Field::SubjectAltName, Reason::SubjectAltNameMismatch, |case| {
            case.claims.expectation.subject_alt_names.clear();
            case.request.subject_alt_names = vec![other];
        });
    }
}

#[test]
fn attack_30_names_are_a_set_in_which_each_is_used_once() {
    let mismatch = (Field::SubjectAltName, Reason::SubjectAltNameMismatch);
    one_change(mismatch.0, mismatch.1, |case| {
        case.request.subject_alt_names.push(dns("device-7.example.org"));
    });
    // One name twice instead of two names.
    one_change(mismatch.0, mismatch.1, |case| {
        case.request.subject_alt_names[1] = dns("DEVICE-7.example.org");
    });
    one_change(mismatch.0, mismatch.1, |case| {
        case.request.subject_alt_names.pop();
    });
    one_change(Field::SubjectAltName, Reason::SubjectAltNameMissing, |case| {
        case.request.subject_alt_names.clear();
    });
    // Neither the order nor the case of a DNS name carries meaning.
    let case = good_but(|case| {
        case.request.subject_alt_names.reverse();
        case.request.subject_alt_names[1] = dns("DEVICE-7.Example.ORG");
    });
    // The certificate has the claims' spelling.
    let approval = case.approved();
    assert_eq!(approval.contents().subject_alt_names[0], dns("device-7.example.org"));
    // The case of a UPN does.
    one_change(mismatch.0, mismatch.1, |case| {
        case.request.subject_alt_names[1] = GeneralName::upn("DEVICE-7@corp.example.org").unwrap();
    });
}

#[test]
fn attack_31_the_whole_subject_is_compared() {
    for subject in [
        "CN=device-7",
        r"C=CH, O=Example\, Inc., CN=device-7, OU=admins",
        r"C=CH, O=Example\, Inc., CN=device-7, CN=device-7",
        r"C=CH, O=Example\, Inc., CN=device-7, emailAddress=a@example.org",
        r"C=CH, O=Example\, Inc., CN=device-7, serialNumber=7",
        r"CN=device-7, O=Example\, Inc., C=CH",
        r"C=CH, O=Example\, Inc.+CN=device-7",
        r"C=CH, O=Example\, Inc., CN=Device-7",
        r"C=CH, O=Example\, Inc., CN=device-7\ ",
    ] {
        one_change(Field::Subject, Reason::SubjectNameMismatch, |case| {
            case.request.subject = name(subject);
        });
    }
    one_change(Field::Subject, Reason::SubjectNameMissing, |case| {
        case.request.subject = DistinguishedName::empty();
    });
    // An empty subject is a claim like any other.
    let empty = |case: &mut Case| case.claims.expectation.subject = DistinguishedName::empty();
    one_change(Field::Subject, Reason::SubjectNameMismatch, empty);
    let case = good_but(|case| {
        empty(case);
        case.request.subject = DistinguishedName::empty();
    });
    assert!(case.approved().contents().subject.is_empty());
}

#[test]
fn attack_32_a_comma_in_a_value_is_no_separator() {
    one_change(Field::Subject, Reason::SubjectNameMismatch, |case| {
        case.request.subject = name("C=CH, O=Example, O=Inc., CN=device-7");
    });
    for value in [r#"a\,OU=b"#, r"\#a", r"a\+b", r"a\;b", r"a\=b", r#"a\"b"#, r"\ a\ "] {
        let subject = name(&format!("CN={value}"));
        let case = good_but(|case| {
            case.claims.expectation.subject = subject.clone();
            case.request.subject = subject.clone();
        });
        assert_eq!(case.approved().contents().subject, subject);
    }
}

#[test]
fn attack_33_names_are_compared_by_code_points_and_encoded_anew() {
    // Precomposed and decomposed, and a letter of another script.
    for (ours, theirs) in [("CN=\u{e9}", "CN=e\u{301}"), ("CN=a", "CN=\u{430}")] {
        let case = good_but(|case| {
            case.claims.expectation.subject = name(ours);
            case.request.subject = name(theirs);
        });
        assert_eq!(case.refused(), [(Field::Subject, Reason::SubjectNameMismatch)]);
    }
    // quirk 38: the string type is the client's choice, and goes no further.
    let case = good_but(|case| case.claims.expectation.subject = name("CN=device-7"));
    let value = tlv::encode(tag::PRINTABLE_STRING, b"device-7");
    let attribute = tlv::sequence(&[&tlv::oid(&oid("2.5.4.3")), &value]);
    let subject = tlv::encode(tag::SEQUENCE, &tlv::encode(tag::SET, &attribute));
    let csr = case.raw_csr(|raw| raw.subject = subject.clone());
    let approval = case.decide_on(&csr).unwrap();
    assert_ne!(approval.contents().subject.to_der(), subject);
    assert_eq!(approval.contents().subject, name("CN=device-7"));
}

#[test]
fn quirk_38_multi_valued_rdns_are_sets() {
    let case = good_but(|case| {
        case.claims.expectation.subject = name("C=CH, CN=a+serialNumber=7");
        case.request.subject = name("C=CH, serialNumber=7+CN=a");
    });
    assert!(case.decide().is_ok());
}

#[test]
fn attack_39_key_usage_is_equal_when_present() {
    for bits in [
        &["digitalSignature"][..],
        &["digitalSignature", "keyEncipherment", "keyAgreement"],
        &["digitalSignature", "keyEncipherment", "keyCertSign"],
        &["digitalSignature", "keyEncipherment", "cRLSign"],
        &["nonRepudiation"],
    ] {
        one_change(Field::KeyUsage, Reason::KeyUsageMismatch, |case| {
            case.request.key_usage = Some(usages(bits));
        });
    }
    // Absent, the claims' usage is what the certificate gets.
    let case = good_but(|case| case.request.key_usage = None);
    assert_eq!(case.approved().contents().key_usage, case.claims.expectation.key_usage);
    one_change(Field::KeyUsage, Reason::KeyUsageMismatch, |case| {
        case.claims.expectation.demand_usages = DemandUsages::Yes;
        case.request.key_usage = None;
    });
}

#[test]
fn attack_40_extended_key_usages_are_equal_when_present() {
    for names in [
        &["clientAuth", "serverAuth"][..],
        &["serverAuth"],
        &["clientAuth", "anyExtendedKeyUsage"],
        &["clientAuth", "OCSPSigning"],
        &["clientAuth", "smartcardLogon"],
        &["clientAuth", "certificateRequestAgent"],
        &["1.2.3.4"],
    ] {
        one_change(Field::ExtendedKeyUsage, Reason::EnhancedKeyUsageMismatch, |case| {
            case.request.extended_key_usages = Some(purposes(names));
        });
    }
    one_change(Field::ExtendedKeyUsage, Reason::EnhancedKeyUsageMissing, |case| {
        case.claims.expectation.demand_usages = DemandUsages::Yes;
        case.request.extended_key_usages = None;
    });
}

#[test]
fn quirk_39_without_extended_key_usage_the_certificate_gets_that_of_the_claims() {
    let absent = good_but(|case| case.request.extended_key_usages = None);
    let empty = good_but(|case| {
        case.request.extended_key_usages = None;
        case.request.extensions.push(extension("2.5.29.37", &[0x30, 0]));
    });
    for case in [absent, empty] {
        let approval = case.approved();
        assert_eq!(
            approval.contents().extended_key_usages,
            case.claims.expectation.extended_key_usages
        );
    }
}

#[track_caller]
fn extension_is_refused(oid_text: &str, value: &[u8]) {
    one_change(Field::Extensions, Reason::ExtensionNotAllowed, |case| {
        case.request.extensions.push(extension(oid_text, value));
    });
    let case = good_but(|case| case.request.extensions.push(extension(oid_text, value)));
    let denial = case.decide().unwrap_err();
    assert!(denial.reports()[0].got.contains(oid_text), "{}", denial.reports()[0]);
    assert_eq!(denial.reports()[0].expected, "(none)");
}

#[test]
fn attack_38_no_template_by_extension() {
    let template = tlv::encode(tag::BMP_STRING, b"\0S\0u\0b\0C\0A");
    extension_is_refused("1.3.6.1.4.1.311.20.2", &template);
    extension_is_refused("1.3.6.1.4.1.311.21.7", &[0x30, 3, 6, 1, 0x2a]);
}

#[test]
fn attack_41_no_application_policies() {
    let client_auth = [0x30, 12, 0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2];
    extension_is_refused("1.3.6.1.4.1.311.21.10", &client_auth);
}

#[test]
fn attack_43_no_ca_no_constraints_no_pointers() {
    extension_is_refused("2.5.29.19", &[0x30, 3, 1, 1, 0xff]);
    extension_is_refused("2.5.29.19", &[0x30, 6, 1, 1, 0xff, 2, 1, 0]);
    extension_is_refused("2.5.29.19", &[0x30, 3, 1, 1, 0]);
    for oid_text in [
        "2.5.29.30",
        "2.5.29.31",
        "2.5.29.32",
        "2.5.29.33",
        "2.5.29.35",
        "2.5.29.36",
        "2.5.29.54",
        "1.3.6.1.5.5.7.1.1",
        "1.2.3.4.5",
    ] {
        extension_is_refused(oid_text, &[0x30, 0]);
    }
}

#[test]
fn attack_42_a_sid_is_that_of_the_claims_or_absent() {
    let requested = |sid: &Sid| {
        let made = sid.to_extension();
        scep_pkcs10::RequestedExtension { oid: made.oid, critical: false, value: made.value }
    };
    let other: Sid = "S-1-5-21-1-2-3-5555".parse().unwrap();
    // In a request whose challenge has none.
    one_change(Field::Extensions, Reason::ExtensionNotAllowed, |case| {
        case.request.extensions.push(requested(&sid()));
    });
    one_change(Field::SubjectAltName, Reason::SubjectAltNameMismatch, |case| {
        case.request.subject_alt_names.push(sid().to_uri().unwrap());
    });
    // Another than that of the challenge; another criticality; absent; equal.
    let with_claim = |case: &mut Case| {
        case.claims.expectation.extensions.push(sid().to_extension());
    };
    one_change(Field::Extensions, Reason::ExtensionNotAllowed, |case| {
        with_claim(case);
        case.request.extensions.push(requested(&other));
    });
    one_change(Field::Extensions, Reason::ExtensionNotAllowed, |case| {
        with_claim(case);
        case.request.extensions.push(requested(&sid()));
        case.request.extensions[0].critical = true;
    });
    for sent in [vec![], vec![requested(&sid())]] {
        let case = good_but(|case| {
            with_claim(case);
            case.request.extensions = sent;
        });
        assert_eq!(case.approved().contents().extensions, [sid().to_extension()]);
    }
}

#[test]
fn quirk_40_a_sid_uri_is_compared_exactly_and_copied() {
    let uri = sid().to_uri().unwrap();
    let case = good_but(|case| {
        case.claims.expectation.subject_alt_names.push(uri.clone());
        case.request.subject_alt_names.push(uri.clone());
    });
    assert_eq!(case.approved().contents().subject_alt_names[2], uri);
    // What a tolerant reader would take for the same.
    for spelling in [
        "TAG:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-4444",
        "tag:microsoft.com,2022-09-14:SID:S-1-5-21-1-2-3-4444",
        "tag:microsoft.com,2022-09-14:%73id:S-1-5-21-1-2-3-4444",
        "tag:microsoft.com,2022-09-14:sid: S-1-5-21-1-2-3-4444",
    ] {
        one_change(Field::SubjectAltName, Reason::SubjectAltNameMismatch, |case| {
            case.claims.expectation.subject_alt_names.push(uri.clone());
            case.request.subject_alt_names.push(GeneralName::uri(spelling).unwrap());
        });
    }
    one_change(Field::SubjectAltName, Reason::SubjectAltNameMismatch, |case| {
        case.claims.expectation.subject_alt_names.push(uri.clone());
    });
}

#[test]
fn attack_37_unknown_attributes_are_refused_by_their_oid() {
    let add = |case: &mut Case| {
        case.request.attributes.push(tlv::sequence(&[
            &tlv::oid(&oid("1.2.840.113549.1.9.2")),
            &tlv::encode(tag::SET, &tlv::encode(tag::UTF8_STRING, b"router")),
        ]));
    };
    one_change(Field::Attributes, Reason::AttributeNotAllowed, add);
    let denial = good_but(add).decide().unwrap_err();
    assert_eq!(denial.reports()[0].got, "1.2.840.113549.1.9.2");
}

#[test]
fn inert_content_is_discarded_or_refused_as_the_ca_needs() {
    let with = |case: &mut Case, inert| {
        case.inert = inert;
        case.request.extensions = vec![
            extension("2.5.29.14", &tlv::encode(tag::OCTET_STRING, &[1; 20])),
            extension("2.5.29.19", &[0x30, 0]),
        ];
        case.request.attributes.push(tlv::sequence(&[
            &tlv::oid(&oid("1.3.6.1.4.1.311.13.2.3")),
            &tlv::encode(tag::SET, &tlv::encode(tag::IA5_STRING, b"10.0.26100.2")),
        ]));
    };
    assert!(good_but(|case| with(case, InertContent::Discard)).decide().is_ok());
    let refused = good_but(|case| with(case, InertContent::Refuse)).refused();
    assert_eq!(
        refused,
        [
            (Field::Inert, Reason::AttributeNotAllowed),
            (Field::Inert, Reason::ExtensionNotAllowed),
            (Field::Inert, Reason::ExtensionNotAllowed),
        ]
    );
    assert!(good_but(|case| case.inert = InertContent::Refuse).decide().is_ok());
}

#[test]
fn attack_44_the_key_is_of_a_kind_and_size_that_the_challenge_names() {
    let rsa = |case: &mut Case| case.key = RSA.clone();
    assert!(good_but(rsa).decide().is_ok());
    for allowed in [
        vec![KeyAlgorithm::P256],
        vec![KeyAlgorithm::Rsa(3072)],
        vec![KeyAlgorithm::Rsa(4096), KeyAlgorithm::P384],
    ] {
        one_change(Field::Key, Reason::KeyLengthMismatch, |case| {
            rsa(case);
            case.claims.expectation.key_algorithms = allowed;
        });
    }
    one_change(Field::Key, Reason::KeyLengthMismatch, |case| {
        case.claims.expectation.key_algorithms = vec![KeyAlgorithm::P384];
    });
}

#[test]
fn attack_44_a_pinned_key_is_that_key() {
    let pin = |case: &mut Case, key: &scep_keys::SoftwareKey| {
        case.claims.expectation.spki_hash = Some(key.public_key().hash());
    };
    assert!(good_but(|case| pin(case, &KEYS.device)).decide().is_ok());
    one_change(Field::PinnedKey, Reason::RegisteredKeyMismatch, |case| pin(case, &KEYS.other));
}

#[test]
fn what_the_issuer_has_disabled_is_refused_first() {
    let gone = Reason::ScepProfileNoLongerTargetedToTheClient;
    let tenant = || good().claims.tenant;
    one_change(Field::Device, gone, |case| {
        case.denials.devices.insert((tenant(), case.claims.device.clone()));
    });
    one_change(Field::User, gone, |case| {
        case.denials.users.insert((tenant(), "user-7".parse().unwrap()));
    });
    one_change(Field::Profile, gone, |case| {
        case.denials.profiles.insert((tenant(), case.claims.profile.clone()));
    });
    // It outweighs every other reason.
    let case = good_but(|case| {
        case.denials.profiles.insert((tenant(), case.claims.profile.clone()));
        case.claims.expectation.approval = ApprovalMode::Manual;
        case.request.subject = name("CN=admin");
    });
    let denial = case.decide().unwrap_err();
    assert_eq!(denial.reason(), gone);
    assert_eq!(denial.reasons(), [gone, Reason::ChallengeNotServed, Reason::SubjectNameMismatch]);
    // Ids are those of a tenant, and of their kind.
    let elsewhere = good_but(|case| {
        let mut denials = Denials::default();
        denials.devices.insert(("other".parse().unwrap(), case.claims.device.clone()));
        denials.devices.insert((tenant(), "user-7".parse().unwrap()));
        denials.users.insert((tenant(), "device-7".parse().unwrap()));
        case.denials = denials;
    });
    assert!(elsewhere.decide().is_ok());
}

#[test]
fn purposes_and_renewals_are_served_and_manual_approval_is_not() {
    one_change(Field::ApprovalMode, Reason::ChallengeNotServed, |case| {
        case.claims.expectation.approval = ApprovalMode::Manual;
    });
    let window = Duration::from_secs(30 * DAY);
    for (purpose, renewal) in
        [(Purpose::Renew, Renewal::Blob), (Purpose::Enrol, Renewal::Certificate { window })]
    {
        let case = good_but(|case| {
            case.claims.purpose = purpose;
            case.claims.expectation.renewal = renewal;
        });
        assert!(case.decide().is_ok());
    }
}

#[test]
fn the_gravest_reason_comes_first() {
    let case = good_but(|case| {
        case.claims.expectation.approval = ApprovalMode::Manual;
        case.request.subject = DistinguishedName::empty();
        case.request.subject_alt_names[0] = dns("admin.example.org");
        case.claims.expectation.spki_hash = Some(KEYS.other.public_key().hash());
        case.claims.expectation.key_algorithms = vec![KeyAlgorithm::P384];
        case.claims.expectation.demand_usages = DemandUsages::Yes;
        case.request.key_usage = None;
        case.request.extended_key_usages = None;
    });
    let denial = case.decide().unwrap_err();
    let reasons = [
        Reason::ChallengeNotServed,
        Reason::SubjectNameMissing,
        Reason::SubjectAltNameMismatch,
        Reason::RegisteredKeyMismatch,
        Reason::KeyLengthMismatch,
        Reason::KeyUsageMismatch,
        Reason::EnhancedKeyUsageMissing,
    ];
    assert_eq!(denial.reasons(), reasons);
    assert_eq!(denial.reason(), Reason::ChallengeNotServed);
}

#[test]
fn attack_61_neither_challenge_nor_request_is_in_what_can_be_printed() {
    let secret = "SGVsbG8gY2hhbGxlbmdlIHRleHQ";
    let case = good_but(|case| {
        case.request.challenge_password = Some(Secret::new(secret.to_owned()));
        case.request.subject = name(&format!("CN=x{secret}x"));
        case.request.subject_alt_names[0] =
            GeneralName::uri(&format!("urn:example:{secret}")).unwrap();
    });
    let denial = case.decide().unwrap_err();
    let texts = [
        format!("{denial} {denial:?}"),
        denial.reports().iter().map(|r| format!("{r}{r:?}")).collect(),
        serde_json::to_string(denial.reports()).unwrap(),
        case.explained().iter().map(ToString::to_string).collect(),
    ];
    for text in texts {
        assert!(!text.contains(secret), "{text}");
    }
    let report = &denial.reports()[0];
    assert_eq!(report.got, "CN=x(challenge)x");
    assert_eq!(
        denial.to_string(),
        "refused: SubjectNameMismatch (subject), SubjectAltNameMismatch (subjectAltName), \
         InternalError (challenge)"
    );
    let approval = good().approved();
    let text = format!("{approval:?}");
    assert!(!text.contains("CHALLENGETEXT") && !text.contains("device-7"), "{text}");
}

#[test]
fn attack_62_reports_are_short_and_on_one_line() {
    let long = "a".repeat(900);
    let case = good_but(|case| case.request.subject = name(&format!("CN={long}")));
    let denial = case.decide().unwrap_err();
    assert_eq!(denial.reports()[0].got.chars().count(), scep_policy::MAX_SHOWN);
    let names: Vec<GeneralName> =
        (0..60).map(|i| dns(&format!("device-{i}.example.org"))).collect();
    let case = good_but(|case| case.request.subject_alt_names = names);
    assert!(case.decide().unwrap_err().reports()[0].got.chars().count() <= 256);
}

#[test]
fn reports_are_data_for_other_programs() {
    let case = good_but(|case| case.request.subject = name("CN=device-8"));
    let denial = case.decide().unwrap_err();
    assert_eq!(
        serde_json::to_value(denial.reports()).unwrap(),
        serde_json::json!([{
            "field": "subject",
            "expected": r"C=CH, O=Example\, Inc., CN=device-7",
            "got": "CN=device-8",
            "reason": "SubjectNameMismatch",
        }])
    );
}

#[test]
fn attack_06_a_request_is_never_judged_by_the_challenge_of_another() {
    let (ours, other) = (good(), good());
    let csr = ours.csr();
    // Equal claims, sealed a second time: another blob.
    let claims = verified(&other.csr(), &other.claims);
    let denial = decide(&csr, claims, &ours.rules, &ours.denials, ours.inert, NOW).unwrap_err();
    assert_eq!(pairs(denial.reports()), [(Field::Challenge, Reason::InternalError)]);
    let without = good_but(|case| case.request.challenge_password = None);
    assert_eq!(without.refused(), [(Field::Challenge, Reason::InternalError)]);
}
