//! No single change to a request that fits is approved, whatever the claims are.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a helper of tests may panic as a test may"
)]

mod support;

use proptest::prelude::*;
use scep_challenge::{DemandUsages, Sid};
use scep_pkcs10::{Rules, UnprovenCsr};
use scep_policy::decide;
use scep_types::tlv::{self, tag};
use scep_types::{
    AttributeValue, DistinguishedName, ExtendedKeyUsages, GeneralName, KeyUsages, Rdn,
    SignatureScheme,
};
use support::*;

fn attribute(oid_text: &str, value: &str) -> AttributeValue {
    AttributeValue::new(oid(oid_text), value).unwrap()
}

/// Subjects of 1 to 4 RDNs, some with two attributes.
fn subject() -> impl Strategy<Value = DistinguishedName> {
    let value = "[a-z ,+=#ü]{0,6}[a-z]";
    let rdn = (0..4_usize, value, proptest::option::of(value)).prop_map(|(kind, one, two)| {
        let oids = ["2.5.4.10", "2.5.4.11", "2.5.4.3", "0.9.2342.19200300.100.1.1"];
        let mut attributes = vec![attribute(oids[kind], &one)];
        attributes.extend(two.map(|two| attribute("2.5.4.42", &two)));
        Rdn::new(attributes).unwrap()
    });
    proptest::collection::vec(rdn, 1..=4).prop_map(|rdns| DistinguishedName::new(rdns).unwrap())
}

fn general_name() -> impl Strategy<Value = GeneralName> {
    prop_oneof![
        "[a-z]{1,8}".prop_map(|l| GeneralName::dns(&format!("{l}.example.org")).unwrap()),
        "[a-z]{1,8}".prop_map(|l| GeneralName::email(&format!("{l}@example.org")).unwrap()),
        "[a-z]{1,8}".prop_map(|l| GeneralName::upn(&format!("{l}@corp.example.org")).unwrap()),
        "[a-z]{1,8}".prop_map(|l| GeneralName::uri(&format!("urn:example:{l}")).unwrap()),
        any::<u8>().prop_map(|n| GeneralName::ip([192, 0, 2, n].into())),
        "[a-z]{1,8}".prop_map(|l| GeneralName::Directory(name(&format!("CN={l}")))),
        any::<u8>().prop_map(|n| {
            GeneralName::Other(oid("1.3.6.1.5.5.7.8.4"), tlv::encode(tag::OCTET_STRING, &[n]))
        }),
        Just(GeneralName::RegisteredId(oid("1.3.6.1.4.1.99999.1"))),
    ]
}

/// A set of names: no two match.
fn names() -> impl Strategy<Value = Vec<GeneralName>> {
    proptest::collection::vec(general_name(), 0..=5).prop_map(|all| {
        let mut set: Vec<GeneralName> = Vec::new();
        for name in all {
            if !set.iter().any(|other| other.matches(&name)) {
                set.push(name);
            }
        }
        set
    })
}

const USAGES: [&str; 7] = [
    "digitalSignature",
    "nonRepudiation",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "encipherOnly",
    "decipherOnly",
];
const PURPOSES: [&str; 3] = ["clientAuth", "serverAuth", "emailProtection"];

prop_compose! {
    /// A request that fits its claims.
    fn fitting()(
        subject in subject(),
        names in names(),
        usage in proptest::sample::subsequence(USAGES.to_vec(), 1..=7),
        purpose in proptest::sample::subsequence(PURPOSES.to_vec(), 1..=3),
        ask_usage in any::<bool>(),
        ask_purpose in any::<bool>(),
        with_sid in any::<bool>(),
        reversed in any::<bool>(),
    ) -> Case {
        good_but(|case| {
            let expectation = &mut case.claims.expectation;
            expectation.subject = subject;
            expectation.subject_alt_names = names;
            expectation.key_usage = usages(&usage);
            expectation.extended_key_usages = purposes(&purpose);
            if ask_usage && ask_purpose {
                expectation.demand_usages = DemandUsages::Yes;
            }
            if with_sid {
                let sid: Sid = "S-1-5-21-1-2-3-4444".parse().unwrap();
                expectation.extensions = vec![sid.to_extension()];
            }
            let request = &mut case.request;
            request.subject = expectation.subject.clone();
            request.subject_alt_names = expectation.subject_alt_names.clone();
            if reversed {
                request.subject_alt_names.reverse();
            }
            request.key_usage = ask_usage.then_some(expectation.key_usage);
            request.extended_key_usages =
                ask_purpose.then(|| expectation.extended_key_usages.clone());
        })
    }
}

/// One change to what a request asks for.
#[derive(Clone, Debug)]
enum Mutation {
    RemoveRdn(prop::sample::Index),
    AddRdn(prop::sample::Index),
    RepeatRdn(prop::sample::Index),
    ChangeValue(prop::sample::Index),
    ReverseSubject,
    EmptySubject,
    AddName(GeneralName),
    RepeatName(prop::sample::Index),
    RemoveName(prop::sample::Index),
    ReplaceName(prop::sample::Index, GeneralName),
    Usage(u8),
    NoUsages,
    AddPurpose,
    OtherPurpose,
    AddExtension(u8, bool),
    OtherSid,
    AddAttribute,
    OtherKeyKind,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    use Mutation::*;
    let index = any::<prop::sample::Index>;
    prop_oneof![
        index().prop_map(RemoveRdn),
        index().prop_map(AddRdn),
        index().prop_map(RepeatRdn),
        index().prop_map(ChangeValue),
        Just(ReverseSubject),
        Just(EmptySubject),
        general_name().prop_map(AddName),
        index().prop_map(RepeatName),
        index().prop_map(RemoveName),
        (index(), general_name()).prop_map(|(at, name)| ReplaceName(at, name)),
        (0..9_u8).prop_map(Usage),
        Just(NoUsages),
        Just(AddPurpose),
        Just(OtherPurpose),
        (any::<u8>(), any::<bool>()).prop_map(|(arc, critical)| AddExtension(arc, critical)),
        Just(OtherSid),
        Just(AddAttribute),
        Just(OtherKeyKind),
    ]
}

/// Applies it; `None` when it changes nothing that this request has.
fn mutate(case: &mut Case, mutation: Mutation) -> Option<()> {
    use Mutation::*;
    let request = &mut case.request;
    let mut rdns = request.subject.rdns().to_vec();
    let alt = &mut request.subject_alt_names;
    let matched = |alt: &[GeneralName], name: &GeneralName| alt.iter().any(|n| n.matches(name));
    match mutation {
        RemoveRdn(at) => drop(rdns.remove(at.index(rdns.len()))),
        AddRdn(at) => {
            let extra = Rdn::new(vec![attribute("2.5.4.5", "7")]).unwrap();
            rdns.insert(at.index(rdns.len() + 1), extra);
        }
        RepeatRdn(at) => rdns.push(rdns[at.index(rdns.len())].clone()),
        ChangeValue(at) => {
            let at = at.index(rdns.len());
            let mut attributes = rdns[at].attributes().to_vec();
            let value = format!("{}x", attributes[0].value());
            attributes[0] = AttributeValue::new(*attributes[0].oid(), value).unwrap();
            rdns[at] = Rdn::new(attributes).ok()?;
        }
        ReverseSubject => {
            rdns.reverse();
            (rdns != request.subject.rdns()).then_some(())?;
        }
        EmptySubject => rdns.clear(),
        AddName(name) => {
            (!matched(alt, &name)).then_some(())?;
            alt.push(name);
        }
        RepeatName(at) => {
            (!alt.is_empty()).then_some(())?;
            alt.push(alt[at.index(alt.len())].clone());
        }
        RemoveName(at) => {
            (!alt.is_empty()).then_some(())?;
            alt.remove(at.index(alt.len()));
        }
        ReplaceName(at, name) => {
            (!alt.is_empty() && !matched(alt, &name)).then_some(())?;
            let at = at.index(alt.len());
            alt[at] = name;
        }
        Usage(bit) => {
            let bit = KeyUsages::from_der(&named_bit(bit)).unwrap();
            let claimed = case.claims.expectation.key_usage;
            // Added when absent; alone when present: another set in either case.
            let changed = if claimed.contains(bit) { bit } else { claimed.union(bit) };
            (changed != claimed).then_some(())?;
            request.key_usage = Some(changed);
        }
        NoUsages => {
            (case.claims.expectation.demand_usages == DemandUsages::Yes).then_some(())?;
            request.extended_key_usages = None;
        }
        AddPurpose => {
            let mut all = case.claims.expectation.extended_key_usages.purposes().to_vec();
            all.push(ExtendedKeyUsages::purpose("codeSigning").unwrap());
            request.extended_key_usages = ExtendedKeyUsages::new(all);
        }
        OtherPurpose => request.extended_key_usages = Some(purposes(&["smartcardLogon"])),
        AddExtension(arc, critical) => {
            // All of id-ce but what has a place of its own or is inert.
            (!matches!(arc, 14 | 15 | 17 | 19 | 37)).then_some(())?;
            request.extensions.push(extension(&format!("2.5.29.{arc}"), &[0x30, 0]));
            request.extensions[0].critical = critical;
        }
        OtherSid => {
            let sid: Sid = "S-1-5-21-1-2-3-5555".parse().unwrap();
            request.extensions.push(extension("1.3.6.1.4.1.311.25.2", &sid.to_extension().value));
        }
        AddAttribute => request.attributes.push(tlv::sequence(&[
            &tlv::oid(&oid("1.2.840.113549.1.9.8")),
            &tlv::encode(tag::SET, &tlv::encode(tag::UTF8_STRING, b"x")),
        ])),
        OtherKeyKind => case.key = KEYS.p384.clone(),
    }
    request.subject = DistinguishedName::new(rdns).unwrap();
    Some(())
}

/// KeyUsage with one bit.
fn named_bit(bit: u8) -> Vec<u8> {
    if bit == 8 { vec![3, 3, 7, 0, 0x80] } else { vec![3, 2, 7 - bit, 0x80 >> bit] }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", self.claims.expectation, self.request.subject)
    }
}

proptest! {
    // PROPTEST_CASES asks for more.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(512)))]

    #[test]
    fn one_change_to_a_fitting_request_is_never_approved(
        mut case in fitting(),
        mutation in mutation(),
    ) {
        prop_assert!(case.decide().is_ok());
        if mutate(&mut case, mutation).is_some() {
            prop_assert!(case.decide().is_err());
        }
    }

    /// One octet of the request changed, signed anew: what is still approved says the same as before.
    #[test]
    fn one_octet_changed_is_refused_or_means_the_same(
        case in fitting(),
        at in any::<prop::sample::Index>(),
        octet in any::<u8>(),
    ) {
        let signer = case.key.signer();
        let scheme = SignatureScheme::EcdsaSha256;
        let mut info = case.filled().to_raw(&*signer, scheme).info_der();
        let at = at.index(info.len());
        info[at] = octet;
        let signature = signer.sign(scheme, &info).unwrap();
        let der = tlv::sequence(&[&info, &ECDSA_SHA256, &tlv::whole_bits(&signature)]);
        let Ok(unproven) = UnprovenCsr::parse(&der, &Rules::default()) else { return Ok(()) };
        let Ok(csr) = unproven.prove(&scep_keys::AwsLc) else { return Ok(()) };
        let Ok(approval) = decide(
            &csr, verified(&csr, &case.claims), &case.rules, &case.denials, case.inert, NOW,
        ) else { return Ok(()) };

        let expectation = &case.claims.expectation;
        prop_assert_eq!(csr.subject(), &expectation.subject);
        let (got, expected) = (csr.subject_alt_names(), &expectation.subject_alt_names);
        prop_assert_eq!(got.len(), expected.len());
        prop_assert!(got.iter().all(|g| expected.iter().any(|e| e.matches(g))));
        prop_assert!(expected.iter().all(|e| got.iter().any(|g| e.matches(g))));
        prop_assert!(csr.key_usage().is_none_or(|u| u == expectation.key_usage));
        prop_assert!(
            csr.extended_key_usages().is_none_or(|u| *u == expectation.extended_key_usages)
        );
        prop_assert!(csr.other_attributes().is_empty());
        prop_assert!(csr.other_extensions().is_empty());
        prop_assert_eq!(csr.spki(), case.key.public_key());
        prop_assert_eq!(&approval.contents().subject, &expectation.subject);
        prop_assert_eq!(&approval.contents().subject_alt_names, &expectation.subject_alt_names);
    }
}
