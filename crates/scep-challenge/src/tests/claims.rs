use super::*;
use proptest::prelude::*;
use scep_types::tlv::{TlvError, tag};

fn good() -> ChallengeClaims {
    claims(KeyId::from_bytes([1; 20]), KeyId::from_bytes([2; 20]))
}

/// Where things are in the DER.
const USER: usize = 8;
const EXPECTATION: usize = 12;

/// The error of encoding the good claims with one change.
fn refused(change: impl FnOnce(&mut ChallengeClaims)) -> ClaimsError {
    let mut claims = good();
    change(&mut claims);
    claims.to_der().unwrap_err()
}

/// The error of decoding the good DER with one change.
fn misread(path: &[usize], change: impl Fn(&[u8]) -> Vec<u8>) -> ClaimsError {
    let der = good().to_der().unwrap();
    ChallengeClaims::from_der(&edit(&der, path, &change)).unwrap_err()
}

fn becomes(new: Vec<u8>) -> impl Fn(&[u8]) -> Vec<u8> {
    move |_| new.clone()
}

fn extension(oid: &str) -> ExtraExtension {
    ExtraExtension { oid: ObjectIdentifier::new(oid).unwrap(), critical: false, value: vec![5, 0] }
}

#[test]
fn claims_survive_the_round_trip() {
    let claims = good();
    let der = claims.to_der().unwrap();
    assert_eq!(ChallengeClaims::from_der(&der).unwrap(), claims);
    assert_eq!(claims.lifetime(), Duration::from_secs(3600));

    let mut full = claims;
    full.user = None;
    full.purpose = Purpose::Renew;
    let e = &mut full.expectation;
    e.subject = DistinguishedName::empty();
    let sid: Sid = SID.parse().unwrap();
    e.subject_alt_names.push(sid.to_uri().unwrap());
    e.subject_alt_names.push(GeneralName::dns("dev.example.org").unwrap());
    e.subject_alt_names.push(GeneralName::ip([127, 0, 0, 1].into()));
    e.subject_alt_names.push(GeneralName::Directory("CN=a+OU=b".parse().unwrap()));
    e.subject_alt_names.push(GeneralName::RegisteredId(GeneralName::UPN));
    e.extensions.push(sid.to_extension());
    e.demand_usages = DemandUsages::Yes;
    e.key_algorithms = vec![KeyAlgorithm::P384, KeyAlgorithm::P256, KeyAlgorithm::Rsa(8192)];
    e.spki_hash = Some(SpkiHash::from_bytes([7; 32]));
    e.validity = Duration::from_secs(3600);
    e.renewal = Renewal::Blob;
    e.approval = ApprovalMode::Manual;
    assert_eq!(ChallengeClaims::from_der(&full.to_der().unwrap()).unwrap(), full);
}

#[test]
fn attack_18_every_field_is_mandatory() {
    let der = good().to_der().unwrap();
    let whole = parts(&der);
    for at in (0..whole.len()).filter(|at| *at != USER) {
        let mut fewer = whole.clone();
        fewer.remove(at);
        let short = tlv::encode(tag::SEQUENCE, &fewer.concat());
        assert!(ChallengeClaims::from_der(&short).is_err(), "field {at}");
        // An empty value is no value either.
        let empty = edit(&der, &[at], &|field| tlv::encode(field[0], &[]));
        assert!(ChallengeClaims::from_der(&empty).is_err(), "field {at}");
    }
    // The good claims have all of the expectation's fields but the key pin.
    for at in 0..parts(&whole[EXPECTATION]).len() {
        let short = edit(&der, &[EXPECTATION], &|expectation| {
            let mut fewer = parts(expectation);
            fewer.remove(at);
            tlv::encode(tag::SEQUENCE, &fewer.concat())
        });
        assert!(ChallengeClaims::from_der(&short).is_err(), "field {at} of the expectation");
    }
}

#[test]
fn attack_20_only_version_1_is_known() {
    assert_eq!(misread(&[0], becomes(tlv::small_int(2))), ClaimsError::Version { got: 2 });
    assert_eq!(misread(&[0], becomes(tlv::small_int(0))), ClaimsError::Version { got: 0 });
}

#[test]
fn attack_28_other_encodings_of_the_same_claims_are_refused() {
    let der = good().to_der().unwrap();
    // Trailing bytes, outside and inside.
    let mut longer = der.clone();
    longer.push(0);
    let error = ChallengeClaims::from_der(&longer).unwrap_err();
    assert_eq!(error, ClaimsError::Malformed(TlvError::Trailing { at: der.len() }));
    let unknown =
        |field: &[u8]| tlv::encode(field[0], &[&parts(field).concat()[..], &[5, 0]].concat());
    for path in [&[][..], &[EXPECTATION]] {
        let error = misread(path, unknown);
        assert!(matches!(error, ClaimsError::Malformed(TlvError::Trailing { .. })), "{error:?}");
    }
    // A field twice.
    let twice = |field: &[u8]| [field, field].concat();
    for at in 0..parts(&der).len() {
        let error = misread(&[at], twice);
        assert!(matches!(error, ClaimsError::Malformed(_)), "field {at}: {error:?}");
    }
    // A number that is not minimal, and one that is a string.
    let padded = |n: &[u8]| tlv::encode(tag::INTEGER, &[&[0], &n[2..]].concat());
    assert!(matches!(misread(&[9], padded), ClaimsError::Malformed(TlvError::Value { .. })));
    let error = misread(&[9], becomes(tlv::encode(tag::UTF8_STRING, b"1800000000")));
    assert!(matches!(error, ClaimsError::Malformed(TlvError::Tag { .. })), "{error:?}");
    // Over-long UTF-8.
    let error = misread(&[2], becomes(tlv::encode(tag::UTF8_STRING, b"\xc0\xaf")));
    assert!(matches!(error, ClaimsError::Malformed(TlvError::Value { what: "tenant", .. })));
    // Readable, but not as we write it: another string type, FALSE written out, another order.
    let printable = |s: &[u8]| tlv::encode(tag::PRINTABLE_STRING, &s[2..]);
    let common_name = [EXPECTATION, 0, 2, 0, 1];
    assert_eq!(misread(&common_name, printable), ClaimsError::NotCanonical);
    let with_sid = {
        let mut claims = good();
        claims.expectation.extensions.push(SID.parse::<Sid>().unwrap().to_extension());
        claims.to_der().unwrap()
    };
    let explicit = edit(&with_sid, &[EXPECTATION, 7, 0], &|extension| {
        let mut fields = parts(extension);
        fields.insert(1, vec![tag::BOOLEAN, 1, 0]);
        tlv::encode(tag::SEQUENCE, &fields.concat())
    });
    assert_eq!(ChallengeClaims::from_der(&explicit).unwrap_err(), ClaimsError::NotCanonical);
    let two_purposes = {
        let mut claims = good();
        let names = ["clientAuth", "smartcardLogon"];
        let purposes = names.iter().map(|n| ExtendedKeyUsages::purpose(n).unwrap()).collect();
        claims.expectation.extended_key_usages = ExtendedKeyUsages::new(purposes).unwrap();
        claims.to_der().unwrap()
    };
    let reversed = edit(&two_purposes, &[EXPECTATION, 3], &|purposes| {
        let mut purposes = parts(purposes);
        purposes.reverse();
        tlv::encode(tag::SEQUENCE, &purposes.concat())
    });
    assert_eq!(ChallengeClaims::from_der(&reversed).unwrap_err(), ClaimsError::NotCanonical);
}

#[test]
fn attack_29_counts_and_sizes_are_limited() {
    let error = refused(|c| {
        c.expectation.subject_alt_names =
            (0..65).map(|i| GeneralName::dns(&format!("d{i}.example")).unwrap()).collect();
    });
    let what = "subjectAltNames";
    assert_eq!(error, ClaimsError::Count { what, got: 65, min: 0, max: 64 });
    let what = "key algorithms";
    let error = refused(|c| {
        c.expectation.key_algorithms = (0..9).map(|i| KeyAlgorithm::Rsa(2048 + i)).collect();
    });
    assert_eq!(error, ClaimsError::Count { what, got: 9, min: 1, max: 8 });
    let error = refused(|c| c.expectation.key_algorithms.clear());
    assert_eq!(error, ClaimsError::Count { what, got: 0, min: 1, max: 8 });
    let big = GeneralName::Other(GeneralName::UPN, tlv::encode(tag::OCTET_STRING, &[0; 4096]));
    let error = refused(|c| c.expectation.subject_alt_names = vec![big]);
    assert!(matches!(error, ClaimsError::TooLong { max: 4096, .. }), "{error:?}");
    let error = refused(|c| {
        c.expectation.extensions = vec![ExtraExtension {
            value: vec![0; 4097],
            ..SID.parse::<Sid>().unwrap().to_extension()
        }];
    });
    let what = "an extension's value";
    assert_eq!(error, ClaimsError::TooLong { what, got: 4097, max: 4096 });
    let error = refused(|c| {
        c.expectation.extensions = vec![SID.parse::<Sid>().unwrap().to_extension(); 9];
    });
    assert_eq!(error, ClaimsError::Count { what: "extensions", got: 9, min: 0, max: 8 });
    let nested = |depth| {
        let innermost = vec![5, 0];
        let value = (0..depth).fold(innermost, |inner, _| tlv::encode(tag::SEQUENCE, &inner));
        GeneralName::Other(ObjectIdentifier::new_unwrap("1.2.3"), value)
    };
    let mut deep = good();
    deep.expectation.subject_alt_names = vec![nested(15)];
    assert!(deep.to_der().is_ok());
    let error = refused(|c| c.expectation.subject_alt_names = vec![nested(16)]);
    assert_eq!(error, ClaimsError::TooDeep { what: "a subjectAltName", max: 16 });
    let got = ChallengeClaims::MAX_DER + 1;
    let error = ChallengeClaims::from_der(&vec![0; got]).unwrap_err();
    assert_eq!(error, ClaimsError::TooLong { what: "claims", got, max: 12_288 });
}

#[test]
fn durations_and_times_are_in_range() {
    let (min, max) = (3600, 315_360_000);
    for got in [0, 3599, max + 1] {
        let error = refused(|c| {
            c.expectation.validity = Duration::from_secs(got);
            c.expectation.renewal = Renewal::Blob;
        });
        assert_eq!(error, ClaimsError::Range { what: "validity", got, min, max });
    }
    let error = refused(|c| c.expectation.validity = Duration::from_millis(86_400_000 * 365 + 1));
    assert_eq!(error, ClaimsError::NotEncodable);
    let window = |seconds| {
        refused(|c| {
            let window = Duration::from_secs(seconds);
            c.expectation.renewal = Renewal::Certificate { window };
        })
    };
    assert_eq!(window(0), ClaimsError::Range { what: "renewal window", got: 0, min: 1, max });
    let validity = 365 * 86_400;
    assert_eq!(window(validity), ClaimsError::RenewalWindow { window: validity, validity });
    for expires_at in [NOW, NOW.minus(Duration::from_secs(1))] {
        let error = refused(|c| c.expires_at = expires_at);
        assert_eq!(error, ClaimsError::Times { issued_at: NOW, expires_at });
        assert_eq!(error.reason(), Reason::ChallengeInvalidTimestamp);
    }
    let late = 253_402_300_800;
    let what = "expiresAt";
    assert_eq!(
        misread(&[10], becomes(tlv::small_int(late))),
        ClaimsError::Range { what, got: late, min: 0, max: late - 1 }
    );
}

#[test]
fn what_is_allowed_is_one_list() {
    let algorithm = |a| refused(|c| c.expectation.key_algorithms = vec![a]);
    for bits in [1024, 2047, 8193] {
        let (what, got) = ("RSA key size", u64::from(bits));
        let error = ClaimsError::Range { what, got, min: 2048, max: 8192 };
        assert_eq!(algorithm(KeyAlgorithm::Rsa(bits)), error);
    }
    let error = refused(|c| c.expectation.key_algorithms = vec![KeyAlgorithm::P256; 2]);
    assert_eq!(error, ClaimsError::Duplicate { what: "key algorithm" });
    let error = refused(|c| {
        c.expectation.subject_alt_names =
            vec![GeneralName::dns("a.example").unwrap(), GeneralName::dns("A.example").unwrap()];
    });
    assert_eq!(error, ClaimsError::Duplicate { what: "subjectAltName" });
    let error = refused(|c| {
        c.expectation.subject = DistinguishedName::empty();
        c.expectation.subject_alt_names.clear();
    });
    assert_eq!(error, ClaimsError::Nameless);
    // A general name that is none, made by hand.
    for bad in
        [GeneralName::Dns("a b".into()), GeneralName::Ip(vec![1]), GeneralName::Uri("x".into())]
    {
        let error = refused(|c| c.expectation.subject_alt_names = vec![bad]);
        assert!(matches!(error, ClaimsError::Name(_)), "{error:?}");
    }
    let upn = GeneralName::Other(GeneralName::UPN, tlv::encode(tag::IA5_STRING, b"a@b"));
    let error = refused(|c| c.expectation.subject_alt_names = vec![upn]);
    assert!(
        matches!(error, ClaimsError::Malformed(TlvError::Value { what: "userPrincipalName", .. })),
        "{error:?}"
    );
    // Opaque values are DER all the same.
    let oid = ObjectIdentifier::new_unwrap("1.2.3");
    for bad in [
        GeneralName::Other(oid, vec![0x30, 2, 4, 1]),
        GeneralName::X400(vec![0x30]),
        GeneralName::EdiParty(vec![0x30, 0x80, 0, 0]),
    ] {
        let error = refused(|c| c.expectation.subject_alt_names = vec![bad.clone()]);
        assert!(matches!(error, ClaimsError::Malformed(_)), "{bad:?}: {error:?}");
    }
    for at in [11, EXPECTATION] {
        let path = if at == EXPECTATION { vec![at, 9] } else { vec![at] };
        let error = misread(&path, becomes(vec![0x0a, 1, 2]));
        assert!(matches!(error, ClaimsError::Malformed(TlvError::Value { .. })), "{error:?}");
    }
}

#[test]
fn attack_43_extensions_that_the_gateway_sets_cannot_be_given() {
    for oid in [
        "2.5.29.17",
        "2.5.29.15",
        "2.5.29.37",
        "2.5.29.19",
        "2.5.29.14",
        "2.5.29.35",
        "2.5.29.31",
        "1.3.6.1.5.5.7.1.1",
    ] {
        let given = extension(oid);
        let expected = ClaimsError::ExtensionReserved { oid: given.oid };
        assert_eq!(refused(|c| c.expectation.extensions.push(given)), expected);
    }
    // Decoded the same: the check is not the encoder's alone.
    let der = good().to_der().unwrap();
    let reserved = edit(&der, &[EXPECTATION, 7], &|_| {
        let oid = tlv::oid(&ObjectIdentifier::new_unwrap("2.5.29.19"));
        let one = tlv::sequence(&[&oid, &[tag::OCTET_STRING, 2, 0x30, 0]]);
        tlv::encode(tag::SEQUENCE, &one)
    });
    let oid = ObjectIdentifier::new_unwrap("2.5.29.19");
    let error = ChallengeClaims::from_der(&reserved).unwrap_err();
    assert_eq!(error, ClaimsError::ExtensionReserved { oid });
}

#[test]
fn attack_41_extra_extensions_are_an_allow_list() {
    // Application policies, name constraints, certificate template, something unknown.
    for oid in ["1.3.6.1.4.1.311.21.10", "2.5.29.30", "1.3.6.1.4.1.311.20.2", "1.2.3.4"] {
        let given = extension(oid);
        let expected = ClaimsError::ExtensionNotAllowed { oid: given.oid };
        assert_eq!(refused(|c| c.expectation.extensions.push(given)), expected);
    }
}

#[test]
fn attack_42_security_identifiers_agree_and_come_once() {
    let sid: Sid = SID.parse().unwrap();
    let other: Sid = SID.replace("1105", "1106").parse().unwrap();
    let error = refused(|c| {
        c.expectation.extensions.push(sid.to_extension());
        c.expectation.subject_alt_names.push(other.to_uri().unwrap());
    });
    assert_eq!(error, ClaimsError::SidsDiffer);
    let error = refused(|c| {
        c.expectation.extensions.push(sid.to_extension());
        c.expectation.extensions.push(sid.to_extension());
    });
    assert_eq!(error, ClaimsError::Sid(SidError::Twice("security identifier extension")));
    let error = refused(|c| {
        c.expectation.subject_alt_names.push(sid.to_uri().unwrap());
        c.expectation.subject_alt_names.push(other.to_uri().unwrap());
    });
    assert_eq!(error, ClaimsError::Sid(SidError::Twice("security identifier URI")));
    let lookalike = GeneralName::uri(&format!("TAG:microsoft.com,2022-09-14:sid:{SID}")).unwrap();
    let error = refused(|c| c.expectation.subject_alt_names.push(lookalike));
    assert_eq!(error, ClaimsError::Sid(SidError::Uri));
    let error = refused(|c| {
        c.expectation.extensions.push(ExtraExtension { critical: true, ..sid.to_extension() });
    });
    assert_eq!(error, ClaimsError::Sid(SidError::Extension));
}

proptest! {
    #[test]
    fn whatever_decodes_is_canonical(at in 0_usize..500, octet: u8, cut in 0_usize..500) {
        let mut der = good().to_der().unwrap();
        let at = at % der.len();
        der[at] = octet;
        if let Ok(claims) = ChallengeClaims::from_der(&der) {
            prop_assert_eq!(claims.to_der().unwrap(), &der[..]);
        }
        prop_assert!(ChallengeClaims::from_der(&der[..cut % der.len()]).is_err());
    }

    #[test]
    fn noise_is_refused_without_a_panic(noise: Vec<u8>) {
        prop_assert!(ChallengeClaims::from_der(&noise).is_err());
    }
}
