//! What real devices send, and what is made of it.

use crate::support::*;
use scep_pkcs10::danger::{RawRequest, attribute};
use scep_pkcs10::{CsrBuilder, CsrError, Rules, UnprovenCsr};
use scep_types::tlv::{self, tag};
use scep_types::{DistinguishedName, GeneralName, KeyUsages, Secret};

#[test]
fn quirk_36_challenges_come_in_every_string_type() {
    let latin = "Zürich";
    let bmp: Vec<u8> = latin.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let universal: Vec<u8> = latin.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect();
    for (string_type, octets, text) in [
        (tag::PRINTABLE_STRING, CHALLENGE.as_bytes(), CHALLENGE),
        (tag::UTF8_STRING, CHALLENGE.as_bytes(), CHALLENGE),
        (tag::IA5_STRING, CHALLENGE.as_bytes(), CHALLENGE),
        (tag::T61_STRING, CHALLENGE.as_bytes(), CHALLENGE),
        (tag::OCTET_STRING, CHALLENGE.as_bytes(), CHALLENGE),
        (tag::UTF8_STRING, latin.as_bytes(), latin),
        (tag::T61_STRING, b"Z\xfcrich", latin),
        (tag::BMP_STRING, &bmp, latin),
        (tag::UNIVERSAL_STRING, &universal, latin),
        (tag::IA5_STRING, b" kept as sent\0", " kept as sent\0"),
    ] {
        let csr = proven(&signed(&with_attributes(vec![challenge(string_type, octets)]))).unwrap();
        assert_eq!(challenge_text(&csr), Some(text), "{string_type:#x}");
    }
}

#[test]
fn quirk_36_attributes_come_in_any_order() {
    let friendly = attribute(&oid("1.2.840.113549.1.9.20"), &[&[0x1e, 2, 0, b'a']]);
    let request = extensions(&[extension("2.5.29.15", &[3, 2, 5, 0xa0])]);
    let mut order = vec![printable_challenge(), friendly, request];
    // Two of these three orders are not DER's.
    for _ in 0..3 {
        order.rotate_left(1);
        let der = signed(&with_attributes(order.clone()));
        let csr = proven(&der).unwrap();
        assert_eq!(challenge_text(&csr), Some(CHALLENGE));
        assert_eq!(csr.key_usage(), good().key_usage);
        assert_eq!(csr.as_der(), der);
    }
}

#[test]
fn quirk_37_long_challenges_are_read_up_to_the_limit() {
    for length in [1, 127, 128, 255, 256, 2048, 4096, 8192, 16 * 1024] {
        let text = "A".repeat(length);
        let challenge_password = Some(Secret::new(text.clone()));
        let request = CsrBuilder { challenge_password, ..good() };
        let csr = proven(&request.sign(&**EC_KEY, EC).unwrap()).unwrap();
        assert_eq!(challenge_text(&csr), Some(text.as_str()));
    }
    let max = 16 * 1024;
    let long = challenge(tag::PRINTABLE_STRING, "A".repeat(max + 1).as_bytes());
    assert_eq!(
        error(&with_attributes(vec![long])),
        CsrError::ChallengeTooLong { got: max + 1, max }
    );
    // The limit is on the text: a BMPString has twice the octets.
    let wide = challenge(tag::BMP_STRING, &b"\0A".repeat(max));
    let csr = proven(&signed(&with_attributes(vec![wide]))).unwrap();
    assert_eq!(challenge_text(&csr).map(str::len), Some(max));
}

#[test]
fn quirk_38_names_are_read_as_structures() {
    let pair = |id: &str, string_type: u8, value: &[u8]| {
        tlv::sequence(&[&tlv::oid(&oid(id)), &tlv::encode(string_type, value)])
    };
    let serial = pair("2.5.4.5", tag::PRINTABLE_STRING, b"FTX1234");
    let host = pair("1.2.840.113549.1.9.2", tag::IA5_STRING, b"router.example.org");
    let email = pair("1.2.840.113549.1.9.1", tag::IA5_STRING, b"a@example.org");
    // One RDN of two attributes against DER's order, as Cisco's, then one of an e-mail address.
    let both = if serial < host { [host, serial] } else { [serial, host] };
    let name =
        tlv::sequence(&[&tlv::encode(tag::SET, &both.concat()), &tlv::encode(tag::SET, &email)]);
    let der = signed(&RawRequest { subject: name.clone(), ..raw() });
    let csr = proven(&der).unwrap();
    let expected: DistinguishedName =
        "unstructuredName=router.example.org+serialNumber=FTX1234, emailAddress=a@example.org"
            .parse()
            .unwrap();
    assert_eq!(*csr.subject(), expected);
    assert_ne!(csr.subject().to_der(), name);
    // As separate RDNs it is another name.
    let separate: DistinguishedName =
        "unstructuredName=router.example.org, serialNumber=FTX1234, emailAddress=a@example.org"
            .parse()
            .unwrap();
    assert_ne!(*csr.subject(), separate);
}

#[test]
fn quirk_38_cisco_attributes_outside_the_subject_are_not_inert() {
    for id in ["1.2.840.113549.1.9.2", "1.2.840.113549.1.9.8", "1.2.3.4"] {
        let mut request = raw();
        request.attributes.push(attribute(&oid(id), &[&[0x16, 1, b'a']]));
        let csr = proven(&signed(&request)).unwrap();
        assert_eq!(csr.other_attributes(), [oid(id)]);
        assert_eq!(csr.inert(), []);
    }
}

#[test]
fn quirk_39_an_empty_extended_key_usage_counts_as_absent() {
    let request = CsrBuilder {
        extended_key_usages: None,
        extensions: vec![extension("2.5.29.37", &[0x30, 0])],
        ..good()
    };
    let csr = proven(&request.sign(&**EC_KEY, EC).unwrap()).unwrap();
    assert_eq!(csr.extended_key_usages(), None);
    assert_eq!(csr.other_extensions(), []);
    // And is still one extension: a second cannot hide behind it.
    let twice = CsrBuilder { extensions: vec![extension("2.5.29.37", &[0x30, 0])], ..good() };
    assert_eq!(
        proven(&twice.sign(&**EC_KEY, EC).unwrap()).unwrap_err(),
        CsrError::RepeatedExtension { oid: oid("2.5.29.37") }
    );
}

#[test]
fn quirk_39_requests_may_ask_for_no_extension() {
    for attributes in [vec![], vec![extensions(&[])]] {
        let csr = proven(&signed(&with_attributes(attributes))).unwrap();
        assert_eq!(csr.subject_alt_names(), []);
        assert_eq!((csr.key_usage(), csr.extended_key_usages()), (None, None));
    }
    // An empty list of names is no list.
    let empty = extensions(&[extension("2.5.29.17", &[0x30, 0])]);
    assert!(matches!(error(&with_attributes(vec![empty])), CsrError::SubjectAltName(_)));
}

#[test]
fn quirk_40_a_sid_in_a_uri_is_read_as_sent() {
    let uri = "tag:microsoft.com,2022-09-14:sid:S-1-5-21-1004336348-1177238915-682003330-1104";
    let names = vec![GeneralName::uri(uri).unwrap()];
    let request = CsrBuilder { subject_alt_names: names.clone(), ..good() };
    let csr = proven(&request.sign(&**EC_KEY, EC).unwrap()).unwrap();
    assert_eq!(csr.subject_alt_names(), names);
}

#[test]
fn inert_content_is_listed_and_discarded() {
    // What Windows and certmonger add.
    let inert = [
        "1.2.840.113549.1.9.20",
        "1.3.6.1.4.1.311.13.2.2",
        "1.3.6.1.4.1.311.13.2.3",
        "1.3.6.1.4.1.311.21.20",
    ];
    let request = CsrBuilder {
        attributes: inert.iter().map(|id| attribute(&oid(id), &[&[0x16, 1, b'a']])).collect(),
        extensions: vec![extension("2.5.29.19", &[0x30, 0]), extension("2.5.29.14", &[4, 1, 7])],
        ..good()
    };
    let csr = proven(&request.sign(&**EC_KEY, EC).unwrap()).unwrap();
    let mut expected: Vec<_> = inert.iter().map(|id| oid(id)).collect();
    let mut seen = csr.inert().to_vec();
    assert_eq!(seen.split_off(4), [oid("2.5.29.19"), oid("2.5.29.14")]);
    expected.sort();
    seen.sort();
    assert_eq!(seen, expected);
    assert_eq!((csr.other_attributes(), csr.other_extensions()), (&[][..], &[][..]));
    assert_eq!(csr.key_usage(), KeyUsages::from_names(["digitalSignature", "keyEncipherment"]));
}

#[test]
fn an_empty_subject_makes_its_alternative_critical() {
    let request = CsrBuilder { subject: DistinguishedName::empty(), ..good() };
    let der = request.sign(&**EC_KEY, EC).unwrap();
    assert!(proven(&der).unwrap().subject().is_empty());
    let critical_san = [6, 3, 0x55, 0x1d, 0x11, 1, 1, 0xff];
    assert!(der.windows(8).any(|w| w == critical_san));
    assert!(!signed(&raw()).windows(8).any(|w| w == critical_san));
}

#[test]
fn the_key_can_be_read_before_it_is_proven() {
    let unproven = UnprovenCsr::parse(&signed(&raw()), &Rules::default()).unwrap();
    assert_eq!(unproven.spki(), EC_KEY.public_key());
}

#[test]
fn challenges_are_written_in_the_narrowest_string_type() {
    for (text, string_type) in
        [(CHALLENGE, tag::PRINTABLE_STRING), ("a_b", tag::UTF8_STRING), ("ü", tag::UTF8_STRING)]
    {
        let challenge_password = Some(Secret::new(text.to_owned()));
        let request = CsrBuilder { challenge_password, ..good() };
        let parts = request.to_raw(&**EC_KEY, EC);
        assert!(parts.attributes.contains(&challenge(string_type, text.as_bytes())));
        assert!(parts.attributes.is_sorted());
    }
}
