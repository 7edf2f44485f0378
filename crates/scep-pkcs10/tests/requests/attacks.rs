//! Each row of the attack list that is answered here. What only policy can decide is answered here by showing it.

use crate::support::*;
use scep_pkcs10::danger::{RawRequest, attribute};
use scep_pkcs10::{CsrBuilder, CsrError, RequestedExtension, Rules, Sha1Signatures};
use scep_types::tlv::{self, TlvError, tag};
use scep_types::{
    DistinguishedName, GeneralName, KeyAlgorithm, KeyUsages, NameError, Reason, SignatureScheme,
    SpkiError, StringRules, UnknownAlgorithm,
};

#[test]
fn the_good_request_is_read_field_by_field() {
    let der = good().sign(&**EC_KEY, EC).unwrap();
    let csr = proven(&der).unwrap();
    let expected = good();
    assert_eq!(csr.as_der(), der);
    assert_eq!(csr.info_hash(), scep_types::CsrInfoHash::of(&raw().info_der()));
    assert_eq!(csr.spki(), EC_KEY.public_key());
    assert_eq!(*csr.subject(), expected.subject);
    assert_eq!(csr.subject_alt_names(), expected.subject_alt_names);
    assert_eq!(csr.key_usage(), expected.key_usage);
    assert_eq!(csr.extended_key_usages(), expected.extended_key_usages.as_ref());
    assert_eq!(challenge_text(&csr), Some(CHALLENGE));
    assert_eq!(csr.other_extensions(), []);
    assert_eq!(csr.other_attributes(), []);
    assert_eq!(csr.inert(), []);
}

#[test]
fn neither_names_nor_challenge_are_printed() {
    let csr = proven(&good().sign(&**EC_KEY, EC).unwrap()).unwrap();
    for text in [format!("{csr:?}"), format!("{:?}", good()), format!("{:?}", raw())] {
        assert!(!text.contains(&CHALLENGE[..8]) && !text.contains("77, 73, 73, 70"), "{text}");
    }
    assert!(!format!("{csr:?}").contains("device-7"));
}

#[test]
fn attack_04_a_blank_challenge_counts_as_absent() {
    for (string_type, octets) in [
        (tag::PRINTABLE_STRING, &b""[..]),
        (tag::PRINTABLE_STRING, b"   "),
        (tag::UTF8_STRING, b"\0"),
        (tag::UTF8_STRING, b"\0\0\0\0"),
        (tag::UTF8_STRING, b" \t\r\n\0"),
        (tag::UTF8_STRING, "\u{a0}\u{2003}".as_bytes()),
        (tag::IA5_STRING, b"\t"),
        (tag::BMP_STRING, b"\0\x20"),
        (tag::OCTET_STRING, b""),
    ] {
        let csr = proven(&signed(&with_attributes(vec![challenge(string_type, octets)]))).unwrap();
        assert_eq!(challenge_text(&csr), None, "{string_type:#x} {octets:?}");
    }
    let csr = proven(&signed(&with_attributes(vec![]))).unwrap();
    assert_eq!(challenge_text(&csr), None);
    let null = error(&with_attributes(vec![challenge(tag::NULL, b"")]));
    assert_eq!(null, CsrError::ChallengeType { tag: tag::NULL });
    assert_eq!(null.reason(), Reason::ChallengeDecodingError);
}

#[test]
fn attack_06_there_is_one_challenge_with_one_value() {
    let challenge_oid = oid("1.2.840.113549.1.9.7");
    let other = challenge(tag::UTF8_STRING, b"other");
    let error = |attributes| error(&with_attributes(attributes));
    assert_eq!(
        error(vec![printable_challenge(), other.clone()]),
        CsrError::RepeatedChallengePassword
    );
    // A blank one is no way to hide the second.
    let blank = challenge(tag::PRINTABLE_STRING, b"");
    assert_eq!(error(vec![blank, other]), CsrError::RepeatedChallengePassword);
    let value = tlv::encode(tag::PRINTABLE_STRING, CHALLENGE.as_bytes());
    assert_eq!(
        error(vec![attribute(&challenge_oid, &[&value, &value])]),
        CsrError::AttributeValues { oid: challenge_oid, got: 2 }
    );
    assert_eq!(
        error(vec![attribute(&challenge_oid, &[])]),
        CsrError::AttributeValues { oid: challenge_oid, got: 0 }
    );
    for (string_type, octets) in [
        (tag::PRINTABLE_STRING, &b"a_b"[..]),
        (tag::IA5_STRING, b"\xe9"),
        (tag::UTF8_STRING, b"\xc0\xaf"),
        (tag::OCTET_STRING, b"\xff"),
        (tag::BMP_STRING, b"\0a\0"),
        (tag::BMP_STRING, b"\xd8\0\0a"),
        (tag::UNIVERSAL_STRING, b"\0\0\0a\0"),
        (tag::UNIVERSAL_STRING, b"\0\x11\0\0"),
    ] {
        let expected = CsrError::ChallengeEncoding { tag: string_type };
        assert_eq!(error(vec![challenge(string_type, octets)]), expected, "{octets:?}");
    }
}

#[test]
fn attack_30_a_subject_alt_name_of_any_kind_is_seen() {
    for extra in [
        GeneralName::upn("admin@example.org").unwrap(),
        GeneralName::Other(oid("1.2.3"), vec![5, 0]),
        GeneralName::email("admin@example.org").unwrap(),
        GeneralName::dns("dc.example.org").unwrap(),
        GeneralName::X400(vec![0x30, 0]),
        GeneralName::Directory("CN=admin".parse().unwrap()),
        GeneralName::EdiParty(vec![0xa1, 2, 0x0c, 0]),
        GeneralName::uri("tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-500").unwrap(),
        GeneralName::ip([192, 0, 2, 1].into()),
        GeneralName::RegisteredId(oid("1.2.3")),
    ] {
        let mut request = good();
        request.subject_alt_names.push(extra.clone());
        let csr = proven(&request.sign(&**EC_KEY, EC).unwrap()).unwrap();
        assert_eq!(csr.subject_alt_names(), request.subject_alt_names);
        assert_eq!(csr.subject_alt_names().last(), Some(&extra));
    }
    // A kind that RFC 5280 does not have is no way to hide a name.
    let unknown = tlv::sequence(&[&tlv::encode(0x89, b"x")]);
    let request = with_attributes(vec![extensions(&[extension("2.5.29.17", &unknown)])]);
    assert_eq!(
        error(&request),
        CsrError::SubjectAltName(NameError::Der(TlvError::Value { at: 2, what: "GeneralName" }))
    );
}

fn subject(pairs: &[(&str, u8, &[u8])]) -> Vec<u8> {
    let rdns: Vec<Vec<u8>> = pairs
        .iter()
        .map(|(id, string_type, value)| {
            let pair = tlv::sequence(&[&tlv::oid(&oid(id)), &tlv::encode(*string_type, value)]);
            tlv::encode(tag::SET, &pair)
        })
        .collect();
    tlv::encode(tag::SEQUENCE, &rdns.concat())
}

#[test]
fn attack_31_every_part_of_the_subject_is_seen() {
    let subject = subject(&[
        ("2.5.4.3", tag::UTF8_STRING, b"device-7"),
        ("2.5.4.11", tag::UTF8_STRING, b"Admins"),
        ("2.5.4.3", tag::UTF8_STRING, b"admin"),
    ]);
    let csr = proven(&signed(&RawRequest { subject, ..raw() })).unwrap();
    let seen: DistinguishedName = "CN=device-7, OU=Admins, CN=admin".parse().unwrap();
    assert_eq!(*csr.subject(), seen);
}

#[test]
fn attack_33_string_types_of_names_are_those_of_the_rules() {
    let named = |string_type, value: &[u8]| {
        signed(&RawRequest { subject: subject(&[("2.5.4.3", string_type, value)]), ..raw() })
    };
    for string_type in [tag::T61_STRING, tag::UNIVERSAL_STRING, tag::BMP_STRING, tag::OCTET_STRING]
    {
        assert!(matches!(
            proven(&named(string_type, b"\0\0\0a")).unwrap_err(),
            CsrError::Subject(NameError::StringType { tag, .. }) if tag == string_type
        ));
    }
    let bmp = Rules { strings: StringRules::AllowBmp, ..Rules::default() };
    let csr = proven_by(&named(tag::BMP_STRING, b"\0a\0b"), &bmp).unwrap();
    assert_eq!(*csr.subject(), "CN=ab".parse().unwrap());
    for value in [&b"a\0b"[..], "a\u{202e}b".as_bytes(), b"\xff"] {
        assert!(matches!(
            proven(&named(tag::UTF8_STRING, value)).unwrap_err(),
            CsrError::Subject(NameError::Value { .. })
        ));
    }
}

#[test]
fn attack_34_only_strict_der_is_read() {
    let der = signed(&raw());
    let malformed = |der: &[u8]| match proven(der).unwrap_err() {
        CsrError::Malformed(error) => error,
        other => panic!("{other:?}"),
    };
    // After the request.
    let trailing = [&der[..], &[0]].concat();
    assert_eq!(malformed(&trailing), TlvError::Trailing { at: der.len() });
    // Indefinite length, as BER has it.
    let mut indefinite = der.clone();
    indefinite[1] = 0x80;
    assert_eq!(malformed(&indefinite), TlvError::Length { at: 1 });
    // The last octet is missing.
    assert!(matches!(malformed(&der[..der.len() - 1]), TlvError::Truncated { .. }));
    // Versions in two octets, none, and of another type.
    for (version, what) in
        [(&[2, 2, 0, 0][..], "INTEGER"), (&[2, 0], "INTEGER"), (&[2, 1, 0xff], "INTEGER")]
    {
        let error = malformed(&signed(&RawRequest { version: version.to_vec(), ..raw() }));
        assert!(matches!(error, TlvError::Value { what: w, .. } if w == what), "{error:?}");
    }
    // A length of two octets where one is enough.
    let long = [&[0x30, 0x81, 0x0b][..], &raw().subject[2..]].concat();
    let error = malformed(&signed(&RawRequest { subject: long, ..raw() }));
    assert!(matches!(error, TlvError::Length { .. }), "{error:?}");
    // An arc that starts with 0x80: keyUsage to a lenient reader, unknown to a strict one.
    let padded = tlv::sequence(&[&[6, 4, 0x55, 0x80, 0x1d, 0x0f], &[4, 4, 3, 2, 5, 0xa0]]);
    let list = tlv::sequence(&[&padded]);
    let request = attribute(&oid("1.2.840.113549.1.9.14"), &[&list]);
    let error = malformed(&signed(&with_attributes(vec![request])));
    assert!(matches!(error, TlvError::Value { what: "OBJECT IDENTIFIER", .. }), "{error:?}");
    // Something between the key and the attributes.
    let mut parts = raw();
    parts.spki.extend_from_slice(&[5, 0]);
    assert!(matches!(malformed(&signed(&parts)), TlvError::Tag { expected: 0xa0, got: 5, .. }));
}

#[test]
fn attack_34_nothing_follows_the_last_field_of_any_structure() {
    const NULL: [u8; 2] = [5, 0];
    let trailing = |der: &[u8]| {
        matches!(proven(der).unwrap_err(), CsrError::Malformed(TlvError::Trailing { .. }))
    };
    // CertificationRequest.
    let (parts, bits) = (raw(), tlv::whole_bits(&[1; 70]));
    let der = tlv::sequence(&[&parts.info_der(), &parts.algorithm, &bits, &NULL]);
    assert!(trailing(&der));
    // CertificationRequestInfo.
    let attributes = tlv::encode(0xa0, &[]);
    let info = tlv::sequence(&[&parts.version, &parts.subject, &parts.spki, &attributes, &NULL]);
    assert!(trailing(&tlv::sequence(&[&info, &parts.algorithm, &bits])));
    // Attribute.
    let value = tlv::encode(tag::PRINTABLE_STRING, CHALLENGE.as_bytes());
    let set = tlv::encode(tag::SET, &value);
    let attribute_oid = tlv::oid(&oid("1.2.840.113549.1.9.7"));
    let longer = tlv::sequence(&[&attribute_oid, &set, &NULL]);
    assert!(trailing(&signed(&with_attributes(vec![longer]))));
    // Extension.
    let extension_oid = tlv::oid(&oid("2.5.29.15"));
    let longer = tlv::sequence(&[&extension_oid, &[4, 4, 3, 2, 5, 0xa0], &NULL]);
    let list = tlv::sequence(&[&longer]);
    let request = attribute(&oid("1.2.840.113549.1.9.14"), &[&list]);
    assert!(trailing(&signed(&with_attributes(vec![request]))));
    // What an extension holds.
    let request = extensions(&[extension("2.5.29.15", &[3, 2, 5, 0xa0, 5, 0])]);
    assert_eq!(
        error(&with_attributes(vec![request])),
        CsrError::KeyUsage(TlvError::Trailing { at: 4 })
    );
}

#[test]
fn attack_34_values_of_an_attribute_that_nobody_knows_are_values() {
    let of = |values: &[&[u8]]| with_attributes(vec![attribute(&oid("1.2.3.4"), values)]);
    let (null, empty): (&[u8], &[u8]) = (&[5, 0], &[0x30, 0]);
    for values in [&[][..], &[null], &[null, empty]] {
        assert_eq!(proven(&signed(&of(values))).unwrap().other_attributes(), [oid("1.2.3.4")]);
    }
    for no_value in [&[0x30, 5, 1][..], &[0x1f, 0x81], &[4]] {
        let error = error(&of(&[null, no_value]));
        assert!(matches!(error, CsrError::Malformed(_)), "{no_value:?}: {error}");
    }
}

fn critical_flag(flag: &[u8]) -> CsrError {
    let extension = tlv::sequence(&[&tlv::oid(&oid("2.5.29.15")), flag, &[4, 4, 3, 2, 5, 0xa0]]);
    let list = tlv::sequence(&[&extension]);
    error(&with_attributes(vec![attribute(&oid("1.2.840.113549.1.9.14"), &[&list])]))
}

#[test]
fn attack_34_criticality_has_one_encoding() {
    assert_eq!(critical_flag(&[1, 1, 0]), CsrError::ExplicitNotCritical { oid: oid("2.5.29.15") });
    for flag in [&[1, 1, 1][..], &[1, 0], &[1, 2, 0xff, 0xff]] {
        let error = critical_flag(flag);
        assert!(matches!(error, CsrError::Malformed(TlvError::Value { what: "BOOLEAN", .. })));
    }
}

#[test]
fn attack_35_duplicate_extension_request() {
    let first = extensions(&[extension("2.5.29.15", &[3, 2, 7, 0x80])]);
    let second = extensions(&[extension("2.5.29.17", &[0x30, 3, 0x82, 1, b'a'])]);
    let request = with_attributes(vec![first.clone(), printable_challenge(), second.clone()]);
    assert_eq!(error(&request), CsrError::RepeatedExtensionRequest);
    assert_eq!(error(&request).reason(), Reason::ExtensionNotAllowed);
    // Even when both are the same, or one is empty.
    for pair in [[first.clone(), first], [extensions(&[]), second]] {
        assert_eq!(error(&with_attributes(pair.to_vec())), CsrError::RepeatedExtensionRequest);
    }
}

#[test]
fn attack_35_one_extension_request_with_two_values() {
    let request_oid = oid("1.2.840.113549.1.9.14");
    let list = tlv::sequence(&[&extension("2.5.29.15", &[3, 2, 7, 0x80]).to_der()]);
    for (values, got) in [(vec![&list[..], &list], 2), (vec![], 0)] {
        let request = with_attributes(vec![attribute(&request_oid, &values)]);
        assert_eq!(error(&request), CsrError::AttributeValues { oid: request_oid, got });
    }
}

#[test]
fn attack_35_duplicate_extension() {
    // One that is parsed, one that is inert, one that is neither.
    for (id, value) in
        [("2.5.29.17", &[0x30, 3, 0x82, 1, b'a'][..]), ("2.5.29.19", &[0x30, 0]), ("1.2.3", &[])]
    {
        let other = extension("2.5.29.15", &[3, 2, 7, 0x80]);
        let twice = [extension(id, value), other, extension(id, value)];
        let request = with_attributes(vec![extensions(&twice)]);
        assert_eq!(error(&request), CsrError::RepeatedExtension { oid: oid(id) });
    }
}

#[test]
fn attack_35_duplicate_attribute() {
    for id in ["1.2.3", "1.3.6.1.4.1.311.13.2.3"] {
        let one = attribute(&oid(id), &[&[0x16, 1, b'a']]);
        let request = with_attributes(vec![one.clone(), printable_challenge(), one]);
        assert_eq!(error(&request), CsrError::RepeatedAttribute { oid: oid(id) });
    }
}

#[test]
fn attack_36_microsofts_twin_of_the_extension_request_is_refused() {
    let list = tlv::sequence(&[&extension("2.5.29.15", &[3, 2, 7, 0x80]).to_der()]);
    let twin = attribute(&oid("1.3.6.1.4.1.311.2.1.14"), &[&list]);
    let mut request = raw();
    request.attributes.push(twin.clone());
    assert_eq!(error(&request), CsrError::SecondExtensionSource);
    assert_eq!(error(&with_attributes(vec![twin])), CsrError::SecondExtensionSource);
    assert_eq!(CsrError::SecondExtensionSource.reason(), Reason::ExtensionNotAllowed);
}

#[test]
fn attack_37_instructions_to_the_ca_are_refused() {
    let text = |t: &str| {
        let units: Vec<u8> = t.encode_utf16().flat_map(u16::to_be_bytes).collect();
        tlv::encode(tag::BMP_STRING, &units)
    };
    let pair = tlv::sequence(&[&text("CertificateTemplate"), &text("DomainController")]);
    let mut request = raw();
    request.attributes.push(attribute(&oid("1.3.6.1.4.1.311.13.2.1"), &[&pair]));
    assert_eq!(error(&request), CsrError::EnrollmentNameValuePair);
    assert_eq!(CsrError::EnrollmentNameValuePair.reason(), Reason::AttributeNotAllowed);
}

/// What is asked for beside the good request's extensions is shown whole.
fn is_shown(id: &str, value: &[u8]) {
    for critical in [false, true] {
        let extra = RequestedExtension { oid: oid(id), critical, value: value.to_vec() };
        let csr = proven(&with_extensions(vec![extra.clone()])).unwrap();
        assert_eq!(csr.other_extensions(), [extra]);
        assert_eq!(csr.inert(), []);
    }
}

#[test]
fn attack_38_template_extensions_are_shown() {
    is_shown("1.3.6.1.4.1.311.20.2", b"\x1e\x06\0W\0e\0b");
    is_shown("1.3.6.1.4.1.311.21.7", &[0x30, 7, 6, 2, 0x2a, 3, 2, 1, 1]);
}

#[test]
fn attack_39_key_usage_is_shown_bit_by_bit() {
    let all = KeyUsages::from_names(["digitalSignature", "keyEncipherment", "keyCertSign"]);
    let request = CsrBuilder { key_usage: all, ..good() };
    let csr = proven(&request.sign(&**EC_KEY, EC).unwrap()).unwrap();
    assert_eq!(csr.key_usage(), all);
    // Trailing zero bits, no bits, and bits that no standard has.
    for value in [&[3, 2, 0, 0xa0][..], &[3, 1, 0], &[3, 3, 0, 0xa0, 1], &[3, 2, 5, 0xa0, 0]] {
        let request = with_attributes(vec![extensions(&[extension("2.5.29.15", value)])]);
        assert!(matches!(error(&request), CsrError::KeyUsage(_)), "{value:x?}");
    }
}

#[test]
fn attack_40_extended_key_usage_is_shown_purpose_by_purpose() {
    let wanted = ["clientAuth", "anyExtendedKeyUsage", "OCSPSigning", "certificateRequestAgent"];
    let request = CsrBuilder { extended_key_usages: Some(purposes(&wanted)), ..good() };
    let csr = proven(&request.sign(&**EC_KEY, EC).unwrap()).unwrap();
    assert_eq!(csr.extended_key_usages(), Some(&purposes(&wanted)));
    let client = [6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2];
    let twice = tlv::sequence(&[&client, &client]);
    for value in [&twice[..], &client, &[0x30, 2, 5, 0], &[0x31, 0]] {
        let request = with_attributes(vec![extensions(&[extension("2.5.29.37", value)])]);
        assert!(matches!(error(&request), CsrError::ExtendedKeyUsage(_)), "{value:x?}");
    }
}

#[test]
fn attack_41_application_policies_are_shown() {
    is_shown("1.3.6.1.4.1.311.21.10", &[0x30, 0]);
}

#[test]
fn attack_42_a_sid_extension_is_shown() {
    is_shown("1.3.6.1.4.1.311.25.2", b"\x30\x03\xa0\x01\0");
}

#[test]
fn attack_43_ca_extensions_are_shown() {
    // basicConstraints: cA, pathLen without cA, FALSE written out, and no BasicConstraints at all.
    for value in [&[0x30, 3, 1, 1, 0xff][..], &[0x30, 3, 2, 1, 0], &[0x30, 3, 1, 1, 0], &[5, 0]] {
        is_shown("2.5.29.19", value);
    }
    is_shown("2.5.29.30", &[0x30, 0]); // nameConstraints
    is_shown("2.5.29.31", &[0x30, 0]); // cRLDistributionPoints
    is_shown("2.5.29.32", &[0x30, 0]); // certificatePolicies
    is_shown("1.3.6.1.5.5.7.1.1", &[0x30, 0]); // authorityInfoAccess
    is_shown("2.5.29.14", &[5, 0]); // subjectKeyIdentifier that is none
}

#[test]
fn attack_44_only_known_kinds_of_keys_are_read() {
    // P-224, by changing the curve in a P-256 key.
    let p224 =
        tlv::sequence(&[&tlv::oid(&oid("1.2.840.10045.2.1")), &tlv::oid(&oid("1.3.132.0.33"))]);
    let spki = tlv::sequence(&[&p224, &tlv::whole_bits(&[4; 57])]);
    let unknown = error(&RawRequest { spki, ..raw() });
    assert_eq!(unknown, CsrError::Key(SpkiError::Algorithm));
    assert_eq!(unknown.reason(), Reason::AlgorithmNotSupported);
}

#[test]
fn attack_44_a_point_off_the_curve_proves_nothing() {
    let mut spki = raw().spki;
    *spki.last_mut().unwrap() ^= 1;
    assert_eq!(error(&RawRequest { spki, ..raw() }), CsrError::NotProven);
}

#[test]
fn attack_45_the_request_must_be_signed_by_its_own_key() {
    let other = key(KeyAlgorithm::P256);
    let spki = other.public_key().as_der().to_vec();
    assert_eq!(error(&RawRequest { spki, ..raw() }), CsrError::NotProven);
    assert_eq!(CsrError::NotProven.reason(), Reason::ProofOfPossessionFailed);
}

#[test]
fn attack_45_the_signature_is_over_what_was_received() {
    let good_der = signed(&raw());
    let signature = good_der.len() - 8;
    let challenge_at = good_der.windows(8).position(|w| w == &CHALLENGE.as_bytes()[..8]).unwrap();
    for at in [signature, challenge_at] {
        let mut der = good_der.clone();
        der[at] ^= 1;
        assert_eq!(proven(&der).unwrap_err(), CsrError::NotProven);
    }
    let parts = raw();
    let request = |signature: &[u8]| {
        tlv::sequence(&[&parts.info_der(), &parts.algorithm, &tlv::whole_bits(signature)])
    };
    assert_eq!(proven(&request(&[])).unwrap_err(), CsrError::NotProven);
    // A signature with unused bits is another encoding of the same octets.
    let bits = tlv::encode(tag::BIT_STRING, &[4, 0xf0]);
    let der = tlv::sequence(&[&parts.info_der(), &parts.algorithm, &bits]);
    assert!(matches!(
        proven(&der).unwrap_err(),
        CsrError::Malformed(TlvError::Value { what: "BIT STRING", .. })
    ));
}

#[test]
fn attack_45_the_algorithm_is_the_one_named() {
    let other_digest = SignatureScheme::EcdsaSha384.algorithm_der();
    assert_eq!(error(&RawRequest { algorithm: other_digest, ..raw() }), CsrError::NotProven);
    let other_kind = SignatureScheme::RsaPkcs1Sha256.algorithm_der();
    assert_eq!(
        error(&RawRequest { algorithm: other_kind, ..raw() }),
        CsrError::SignatureKind {
            scheme: SignatureScheme::RsaPkcs1Sha256,
            key: KeyAlgorithm::P256
        }
    );
    let md5 = tlv::sequence(&[&tlv::oid(&oid("1.2.840.113549.1.1.4")), &[5, 0]]);
    let unknown = error(&RawRequest { algorithm: md5, ..raw() });
    let name = "md5WithRSAEncryption".to_owned();
    assert_eq!(unknown, CsrError::SignatureAlgorithm(UnknownAlgorithm { name }));
    assert_eq!(unknown.reason(), Reason::AlgorithmNotSupported);
}

#[test]
fn attack_45_every_scheme_proves() {
    let rsa = [
        SignatureScheme::RsaPkcs1Sha256,
        SignatureScheme::RsaPkcs1Sha384,
        SignatureScheme::RsaPkcs1Sha512,
        SignatureScheme::RsaPssSha256,
        SignatureScheme::RsaPssSha384,
        SignatureScheme::RsaPssSha512,
    ];
    for scheme in rsa {
        let der = good().sign(&**RSA_KEY, scheme).unwrap();
        assert_eq!(proven(&der).unwrap().spki(), RSA_KEY.public_key(), "{scheme}");
    }
    let p384 = key(KeyAlgorithm::P384);
    for scheme in [EC, SignatureScheme::EcdsaSha384] {
        let der = good().sign(&*p384, scheme).unwrap();
        assert_eq!(proven(&der).unwrap().spki(), p384.public_key(), "{scheme}");
    }
    // PKCS #1 v1.5 without parameters.
    let mut parts = good().to_raw(&**RSA_KEY, SignatureScheme::RsaPkcs1Sha256);
    parts.algorithm = tlv::sequence(&[&tlv::oid(&oid("1.2.840.113549.1.1.11"))]);
    let der = parts.sign(&**RSA_KEY, SignatureScheme::RsaPkcs1Sha256).unwrap();
    proven(&der).unwrap();
}

#[test]
fn attack_45_sha1_is_for_those_who_ask_for_it() {
    let soft = scep_keys::SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).unwrap();
    let signer = scep_keys::danger::sha1_signer(&soft).unwrap();
    let der = good().sign(&*signer, SignatureScheme::RsaPkcs1Sha1).unwrap();
    assert_eq!(proven(&der).unwrap_err(), CsrError::Sha1Signature);
    let legacy = Rules { sha1: Sha1Signatures::Accept, ..Rules::default() };
    proven_by(&der, &legacy).unwrap();
}

#[test]
fn one_rsa_key_has_one_encoding() {
    // The same key without its NULL parameters would have another hash, and could be certified twice.
    let key_bits = tlv::whole_bits(RSA_KEY.public_key().key_octets());
    let bare = tlv::sequence(&[&tlv::oid(&oid("1.2.840.113549.1.1.1"))]);
    let mut parts = good().to_raw(&**RSA_KEY, SignatureScheme::RsaPkcs1Sha256);
    parts.spki = tlv::sequence(&[&bare, &key_bits]);
    let der = parts.sign(&**RSA_KEY, SignatureScheme::RsaPkcs1Sha256).unwrap();
    assert_eq!(proven(&der).unwrap_err(), CsrError::KeyParameters);
}
