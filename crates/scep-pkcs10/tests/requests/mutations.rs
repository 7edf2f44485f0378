//! Requests that were tampered with at random are never proven, and nothing panics.

use crate::support::*;
use proptest::prelude::*;
use scep_keys::AwsLc;
use scep_pkcs10::{CsrBuilder, Rules, UnprovenCsr, check_key};
use scep_types::{GeneralName, Secret, SpkiDer};
use std::sync::LazyLock;

static REQUEST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let attributes = vec![scep_pkcs10::danger::attribute(
        &oid("1.3.6.1.4.1.311.13.2.3"),
        &[&[0x16, 3, b'1', b'0', b'0']],
    )];
    let extensions = vec![extension("2.5.29.19", &[0x30, 0]), extension("1.2.3", &[5, 0])];
    CsrBuilder { attributes, extensions, ..good() }.sign(&**EC_KEY, EC).unwrap()
});

proptest! {
    // PROPTEST_CASES asks for more.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(4000)))]

    #[test]
    fn no_mutation_is_proven(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..4),
    ) {
        let mut der = REQUEST.clone();
        for (index, octet, kind) in edits {
            let at = index.index(der.len());
            match kind {
                0 => der[at] = octet,
                1 => der[at] ^= 1 << (octet & 7),
                2 => der.insert(at, octet),
                _ => { der.remove(at); }
            }
        }
        if let Ok(unproven) = UnprovenCsr::parse(&der, &Rules::default()) {
            let proven = unproven.prove(&AwsLc);
            prop_assert_eq!(proven.is_ok(), der == *REQUEST);
        }
    }

    #[test]
    fn no_input_panics(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = UnprovenCsr::parse(&octets, &Rules::default());
        let with_header = scep_types::tlv::encode(0x30, &octets);
        let _ = UnprovenCsr::parse(&with_header, &Rules::default());
    }

    #[test]
    fn no_key_panics(
        modulus in proptest::collection::vec(any::<u8>(), 2..300),
        exponent in proptest::collection::vec(any::<u8>(), 0..9),
    ) {
        if let Ok(key) = SpkiDer::from_rsa_parts(&modulus, &exponent) {
            let _ = check_key(&key, &Rules { rsa_bits: (0, u32::MAX), ..Rules::default() }, &[]);
        }
    }
}

proptest! {
    #[test]
    fn what_is_built_is_read(
        challenge in "\\PC{1,300}",
        names in proptest::collection::vec("[a-z0-9]{1,20}\\.example", 0..10),
        common_name in "[A-Za-z0-9 ,+=\"\\\\;#<>äöü]{1,40}",
    ) {
        use scep_types::{AttributeValue, DistinguishedName, Rdn};
        let value = AttributeValue::new(oid("2.5.4.3"), common_name).unwrap();
        let request = CsrBuilder {
            subject: DistinguishedName::new(vec![Rdn::new(vec![value]).unwrap()]).unwrap(),
            subject_alt_names: names.iter().map(|n| GeneralName::dns(n).unwrap()).collect(),
            challenge_password: Some(Secret::new(challenge.clone())),
            ..CsrBuilder::default()
        };
        let csr = proven(&request.sign(&**EC_KEY, EC).unwrap()).unwrap();
        prop_assert_eq!(csr.subject(), &request.subject);
        prop_assert_eq!(csr.subject_alt_names(), &request.subject_alt_names[..]);
        let expected = (!challenge.trim().is_empty()).then_some(challenge.as_str());
        prop_assert_eq!(challenge_text(&csr), expected);
    }
}
