//! Requests that ask for something else than their challenge says, each good but for one thing.

use crate::attacks_message::{envelope, oid};
use crate::support::{Running, device_key, other_key};
use scep_challenge::{ChallengeClaims, Sid};
use scep_pkcs10::danger::{RawRequest, attribute, extension_request};
use scep_pkcs10::{CsrBuilder, RequestedExtension};
use scep_policy::SiteRules;
use scep_testkit::House;
use scep_testkit::ca::{Alteration, AlteringCa};
use scep_testkit::house::{SITE_RULES, sign_csr};
use scep_testkit::keys;
use scep_types::tlv::{self, tag};
use scep_types::{
    DistinguishedName, ExtendedKeyUsages, GeneralName, KeyAlgorithm, KeyUsages, Reason,
    SignatureScheme, SpkiDer, StringRules,
};
use std::sync::Arc;

const RSA_SHA256: SignatureScheme = SignatureScheme::RsaPkcs1Sha256;
const CHALLENGE_PASSWORD: &str = "1.2.840.113549.1.9.7";
const EXTENSION_REQUEST: &str = "1.2.840.113549.1.9.14";

fn extension(id: &str, value: &[u8]) -> RequestedExtension {
    RequestedExtension { oid: oid(id), critical: false, value: value.to_vec() }
}

fn purposes(names: &[&str]) -> ExtendedKeyUsages {
    let all = names.iter().map(|name| ExtendedKeyUsages::purpose(name).unwrap()).collect();
    ExtendedKeyUsages::new(all).unwrap()
}

fn name(text: &str) -> DistinguishedName {
    text.parse().unwrap()
}

fn sid(text: &str) -> Sid {
    text.parse().unwrap()
}

fn sid_extension(text: &str) -> RequestedExtension {
    let made = sid(text).to_extension();
    RequestedExtension { oid: made.oid, critical: false, value: made.value }
}

impl Running {
    /// A request that differs from its challenge in one thing.
    async fn request_fails(
        &self,
        what: &str,
        expected: Reason,
        change: impl FnOnce(&mut CsrBuilder),
    ) {
        self.claims_and_request_fail(what, expected, |_| {}, change).await;
    }

    /// The same, with claims of one's own.
    async fn claims_and_request_fail(
        &self,
        what: &str,
        expected: Reason,
        claim: impl FnOnce(&mut ChallengeClaims),
        change: impl FnOnce(&mut CsrBuilder),
    ) {
        let mut claims = self.house.claims();
        claim(&mut claims);
        let mut csr = House::csr(&claims, &self.house.seal(&claims));
        change(&mut csr);
        self.der_fails(what, expected, &sign_csr(&csr, &device_key())).await;
    }

    /// The parts of a request that its builder would not write.
    async fn raw_fails(&self, what: &str, expected: Reason, change: impl FnOnce(&mut RawRequest)) {
        let claims = self.house.claims();
        let csr = House::csr(&claims, &self.house.seal(&claims));
        let mut raw = csr.to_raw(&*device_key().signer(), RSA_SHA256);
        change(&mut raw);
        let der = raw.sign(&*device_key().signer(), RSA_SHA256).unwrap();
        self.der_fails(what, expected, &der).await;
    }

    async fn der_fails(&self, what: &str, expected: Reason, der: &[u8]) {
        let reason = self.refused(&self.house.send(der, &device_key())).await;
        assert_eq!(reason, expected, "{what}: {:?}", self.traces.last());
        let counters = self.gateway.ledger().counters().await.unwrap();
        assert_eq!(counters.unsettled, 0, "{what}: something was spent");
    }
}

/// Removes the attribute of this type.
fn without(raw: &mut RawRequest, kind: &str) -> Vec<u8> {
    let prefix = tlv::oid(&oid(kind));
    let is = |a: &Vec<u8>| a.windows(prefix.len()).take(6).any(|w| w == prefix);
    let at = raw.attributes.iter().position(is).unwrap();
    raw.attributes.remove(at)
}

#[tokio::test]
async fn attack_01_a_challenge_buys_no_other_identity() {
    let running = Running::start().await;
    let victim = running.house.claims();
    running
        .request_fails("another device's names", Reason::SubjectNameMismatch, |csr| {
            csr.subject = victim.expectation.subject.clone();
            csr.subject_alt_names = victim.expectation.subject_alt_names.clone();
        })
        .await;
    running
        .request_fails("another purpose", Reason::EnhancedKeyUsageMismatch, |csr| {
            csr.extended_key_usages = Some(purposes(&["serverAuth"]));
        })
        .await;
}

#[tokio::test]
async fn attack_06_there_is_one_challenge_with_one_value() {
    let running = Running::start().await;
    let other = running.house.seal(&running.house.claims());
    let other = tlv::encode(tag::PRINTABLE_STRING, other.as_bytes());
    let second = attribute(&oid(CHALLENGE_PASSWORD), &[&other]);
    running
        .raw_fails("two attributes", Reason::AttributeNotAllowed, |raw| {
            raw.attributes.push(second.clone());
        })
        .await;
    running
        .raw_fails("another first", Reason::AttributeNotAllowed, |raw| {
            raw.attributes.insert(0, second);
        })
        .await;
    running
        .raw_fails("two values", Reason::AttributeNotAllowed, |raw| {
            without(raw, CHALLENGE_PASSWORD);
            raw.attributes.push(attribute(&oid(CHALLENGE_PASSWORD), &[&other, &other]));
        })
        .await;
    running
        .raw_fails("no value", Reason::AttributeNotAllowed, |raw| {
            without(raw, CHALLENGE_PASSWORD);
            raw.attributes.push(attribute(&oid(CHALLENGE_PASSWORD), &[]));
        })
        .await;
}

#[tokio::test]
async fn attack_30_a_name_of_every_kind_that_the_challenge_does_not_have() {
    let running = Running::start().await;
    let extra = [
        GeneralName::upn("administrator@example.org").unwrap(),
        GeneralName::Other(oid("1.3.6.1.5.2.2"), vec![5, 0]),
        GeneralName::email("admin@example.org").unwrap(),
        GeneralName::dns("dc01.example.org").unwrap(),
        GeneralName::X400(vec![0x30, 0]),
        GeneralName::Directory(name("CN=admin")),
        GeneralName::EdiParty(tlv::encode(0xa1, &tlv::encode(tag::UTF8_STRING, b"x"))),
        GeneralName::uri("https://example.org/admin").unwrap(),
        GeneralName::ip([192, 0, 2, 1].into()),
        GeneralName::ip([0; 16].into()),
        GeneralName::RegisteredId(oid("1.3.6.1.4.1.99999.1")),
    ];
    let mismatch = Reason::SubjectAltNameMismatch;
    for one in extra {
        let what = format!("{one:?}");
        let added = one.clone();
        running.request_fails(&what, mismatch, |csr| csr.subject_alt_names.push(added)).await;
        // Absent in the challenge is no freedom: it must be absent in the request.
        let alone = one.clone();
        running
            .claims_and_request_fail(
                &what,
                mismatch,
                |claims| claims.expectation.subject_alt_names.clear(),
                |csr| csr.subject_alt_names = vec![alone],
            )
            .await;
    }
    running
        .request_fails("the same twice", mismatch, |csr| {
            csr.subject_alt_names.push(csr.subject_alt_names[0].clone());
        })
        .await;
    running.request_fails("one less", mismatch, |csr| drop(csr.subject_alt_names.pop())).await;
    running
        .request_fails("none", Reason::SubjectAltNameMissing, |csr| csr.subject_alt_names.clear())
        .await;
}

#[tokio::test]
async fn attack_31_the_whole_subject_is_compared() {
    type Rename = fn(&str) -> String;
    let running = Running::start().await;
    let changes: [(&str, Rename); 8] = [
        ("CN alone", |cn| format!("CN={cn}")),
        ("an OU", |cn| format!("C=CH, O=Example, OU=admins, CN={cn}")),
        ("a second CN", |cn| format!("C=CH, O=Example, CN={cn}, CN=admin")),
        ("a second CN first", |cn| format!("C=CH, O=Example, CN=admin, CN={cn}")),
        ("an address", |cn| format!("C=CH, O=Example, CN={cn}, emailAddress=a@example.org")),
        ("the order", |cn| format!("CN={cn}, O=Example, C=CH")),
        ("one RDN of two", |cn| format!("C=CH, O=Example+CN={cn}")),
        ("the case", |cn| format!("C=CH, O=Example, CN={}", cn.to_uppercase())),
    ];
    for (what, change) in changes {
        running
            .request_fails(what, Reason::SubjectNameMismatch, |csr| {
                let text = csr.subject.to_string();
                let (_, cn) = text.split_once("CN=").unwrap();
                csr.subject = name(&change(cn));
            })
            .await;
    }
    running
        .request_fails("empty", Reason::SubjectNameMissing, |csr| {
            csr.subject = DistinguishedName::empty();
        })
        .await;
}

#[tokio::test]
async fn attack_32_names_are_structures_and_not_text() {
    let running = Running::start().await;
    // As text these are alike in one rendering or another.
    for (claimed, asked) in [
        (r"O=Example\, Inc., CN=a", "O=Example, O=Inc., CN=a"),
        (r"CN=a\,O=b", "CN=a, O=b"),
        (r"CN=a\+O=b", "CN=a+O=b"),
        (r"CN=a\ ", "CN=a"),
        (r"CN=\#0c0161", "CN=a"),
        (r#"CN=\"a\""#, "CN=a"),
        (r"CN=a\=b", "CN=a"),
        (r"CN=a\;b", "CN=a"),
    ] {
        let asked = name(asked);
        running
            .claims_and_request_fail(
                claimed,
                Reason::SubjectNameMismatch,
                |claims| claims.expectation.subject = name(claimed),
                |csr| csr.subject = asked,
            )
            .await;
    }
    // And a value with each of them is served when it is what the challenge says.
    let mut claims = running.house.claims();
    claims.expectation.subject = name(r#"CN=\#a\,b\+c\;d\=e\"f\ "#);
    let csr = House::csr(&claims, &running.house.seal(&claims));
    let sent = running.house.send(&sign_csr(&csr, &device_key()), &device_key());
    let certificate = running.granted(&sent).await;
    let issued = DistinguishedName::from_der(certificate.subject_der(), StringRules::Strict);
    assert_eq!(issued.unwrap(), claims.expectation.subject);
}

fn common_name(string_type: u8, value: &[u8]) -> Vec<u8> {
    let pair = tlv::sequence(&[&tlv::oid(&oid("2.5.4.3")), &tlv::encode(string_type, value)]);
    tlv::sequence(&[&tlv::encode(tag::SET, &pair)])
}

#[tokio::test]
async fn attack_33_no_string_type_and_no_character_hides_a_name() {
    let running = Running::start().await;
    let unreadable = Reason::CertificateRequestDecodingFailed;
    for (what, string_type, value) in [
        ("BMPString", tag::BMP_STRING, &b"\0a"[..]),
        ("T61String", tag::T61_STRING, b"a"),
        ("UniversalString", tag::UNIVERSAL_STRING, b"\0\0\0a"),
        ("OCTET STRING", tag::OCTET_STRING, b"a"),
        ("NUL", tag::UTF8_STRING, b"device\0.evil"),
        ("control", tag::UTF8_STRING, b"a\x1b[2J"),
        ("bidi", tag::UTF8_STRING, "a\u{202e}b".as_bytes()),
        ("overlong", tag::UTF8_STRING, b"\xc0\xaf"),
        ("not printable", tag::PRINTABLE_STRING, b"a@b"),
        ("very long", tag::UTF8_STRING, &[b'a'; 5000]),
    ] {
        let subject = common_name(string_type, value);
        running.raw_fails(what, unreadable, |raw| raw.subject = subject).await;
    }
    for (claimed, asked) in [("CN=\u{e9}", "CN=e\u{301}"), ("CN=a", "CN=\u{430}")] {
        let asked = name(asked);
        running
            .claims_and_request_fail(
                claimed,
                Reason::SubjectNameMismatch,
                |claims| claims.expectation.subject = name(claimed),
                |csr| csr.subject = asked,
            )
            .await;
    }
    // What is issued is the gateway's own encoding, not the request's.
    let mut claims = running.house.claims();
    claims.expectation.subject = name("CN=device");
    let csr = House::csr(&claims, &running.house.seal(&claims));
    let mut raw = csr.to_raw(&*device_key().signer(), RSA_SHA256);
    raw.subject = common_name(tag::PRINTABLE_STRING, b"device");
    let der = raw.sign(&*device_key().signer(), RSA_SHA256).unwrap();
    let certificate = running.granted(&running.house.send(&der, &device_key())).await;
    assert_eq!(certificate.subject_der(), claims.expectation.subject.to_der());
    assert_ne!(certificate.subject_der(), raw.subject);
}

#[tokio::test]
async fn attack_34_requests_are_strict_der() {
    let running = Running::start().await;
    let unreadable = Reason::CertificateRequestDecodingFailed;
    running.raw_fails("a long version", unreadable, |raw| raw.version = vec![2, 2, 0, 0]).await;
    running
        .raw_fails("a long length", unreadable, |raw| {
            let length = raw.subject[1];
            raw.subject.splice(1..2, [0x81, length]);
        })
        .await;
    let padded = tlv::sequence(&[&[6, 4, 0x55, 0x80, 0x1d, 0x0f], &[4, 4, 3, 2, 5, 0xa0]]);
    running
        .raw_fails("an arc with 0x80", unreadable, |raw| {
            without(raw, EXTENSION_REQUEST);
            let list = tlv::sequence(&[&padded]);
            raw.attributes.push(attribute(&oid(EXTENSION_REQUEST), &[&list]));
        })
        .await;
    // After the request, inside the envelope: that is no request at all.
    let good = crate::attacks_message::good_csr(&running);
    let trailing = [&good[..], &[0]].concat();
    running.der_fails("trailing", Reason::MessageDecryptionFailed, &trailing).await;
    let mut indefinite = good.clone();
    indefinite[1] = 0x80;
    running.der_fails("indefinite", Reason::MessageDecryptionFailed, &indefinite).await;
}

#[tokio::test]
async fn attack_35_extensions_have_one_source_and_come_once() {
    let running = Running::start().await;
    let refused = Reason::ExtensionNotAllowed;
    let evil = GeneralName::list_to_der(&[GeneralName::dns("dc.example.org").unwrap()]);
    let second = extension_request(&[extension("2.5.29.17", &evil)]);
    running
        .raw_fails("a second request last", refused, |raw| raw.attributes.push(second.clone()))
        .await;
    running
        .raw_fails("a second request first", refused, |raw| raw.attributes.insert(0, second))
        .await;
    running
        .raw_fails("an empty second request", refused, |raw| {
            raw.attributes.push(extension_request(&[]));
        })
        .await;
    running
        .raw_fails("the same twice", refused, |raw| {
            let first = without(raw, EXTENSION_REQUEST);
            raw.attributes.extend([first.clone(), first]);
        })
        .await;
    running
        .raw_fails("two values", Reason::AttributeNotAllowed, |raw| {
            let first = without(raw, EXTENSION_REQUEST);
            let list = first_value(&first);
            let other = tlv::sequence(&[&extension("2.5.29.17", &evil).to_der()]);
            raw.attributes.push(attribute(&oid(EXTENSION_REQUEST), &[&list, &other]));
        })
        .await;
    for (what, repeated) in [
        ("names", extension("2.5.29.17", &evil)),
        ("key usage", extension("2.5.29.15", &[3, 2, 1, 6])),
        ("purposes", extension("2.5.29.37", &purposes(&["anyExtendedKeyUsage"]).to_der())),
    ] {
        running.request_fails(what, refused, |csr| csr.extensions.push(repeated)).await;
    }
}

fn first_value(attribute: &[u8]) -> Vec<u8> {
    let mut fields = tlv::Reader::new(attribute).only(tag::SEQUENCE).unwrap().reader();
    fields.any().unwrap();
    fields.expect(tag::SET).unwrap().reader().any().unwrap().raw.to_vec()
}

#[tokio::test]
async fn attack_36_microsofts_twin_of_the_extension_request() {
    let running = Running::start().await;
    let twin = |list: &[u8]| attribute(&oid("1.3.6.1.4.1.311.2.1.14"), &[list]);
    let evil = GeneralName::list_to_der(&[GeneralName::upn("admin@example.org").unwrap()]);
    let list = tlv::sequence(&[&extension("2.5.29.17", &evil).to_der()]);
    running
        .raw_fails("beside", Reason::ExtensionNotAllowed, |raw| raw.attributes.push(twin(&list)))
        .await;
    // Even with the very same extensions, and instead of them.
    running
        .raw_fails("the same", Reason::ExtensionNotAllowed, |raw| {
            let first = without(raw, EXTENSION_REQUEST);
            let list = first_value(&first);
            raw.attributes.extend([first, twin(&list)]);
        })
        .await;
    running
        .raw_fails("instead", Reason::ExtensionNotAllowed, |raw| {
            let first = without(raw, EXTENSION_REQUEST);
            raw.attributes.push(twin(&first_value(&first)));
        })
        .await;
}

#[tokio::test]
async fn attack_37_no_instructions_to_the_ca() {
    let running = Running::start().await;
    let text = |t: &str| {
        let units: Vec<u8> = t.encode_utf16().flat_map(u16::to_be_bytes).collect();
        tlv::encode(tag::BMP_STRING, &units)
    };
    for (key, value) in [
        ("CertificateTemplate", "DomainController"),
        ("SAN", "upn=administrator@example.org"),
        ("ValidityPeriod", "Years"),
        ("anything", ""),
    ] {
        let pair = tlv::sequence(&[&text(key), &text(value)]);
        let added = attribute(&oid("1.3.6.1.4.1.311.13.2.1"), &[&pair]);
        running.raw_fails(key, Reason::AttributeNotAllowed, |raw| raw.attributes.push(added)).await;
    }
    // Nor any other attribute that is not known to be inert.
    let unknown = attribute(&oid("1.2.840.113549.1.9.2"), &[&tlv::encode(0x16, b"router")]);
    running
        .raw_fails("unstructuredName", Reason::AttributeNotAllowed, |raw| {
            raw.attributes.push(unknown);
        })
        .await;
}

#[tokio::test]
async fn attack_38_41_43_no_extension_that_the_challenge_does_not_have() {
    let running = Running::start().await;
    let client_auth = [0x30, 12, 0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2];
    for (what, id, value) in [
        ("template name", "1.3.6.1.4.1.311.20.2", &tlv::encode(tag::BMP_STRING, b"\0D\0C")[..]),
        ("template", "1.3.6.1.4.1.311.21.7", &[0x30, 3, 6, 1, 0x2a]),
        ("application policies", "1.3.6.1.4.1.311.21.10", &client_auth),
        ("a CA", "2.5.29.19", &[0x30, 3, 1, 1, 0xff]),
        ("a CA with a path", "2.5.29.19", &[0x30, 6, 1, 1, 0xff, 2, 1, 0]),
        ("nameConstraints", "2.5.29.30", &[0x30, 0]),
        ("cRLDistributionPoints", "2.5.29.31", &[0x30, 0]),
        ("certificatePolicies", "2.5.29.32", &[0x30, 0]),
        ("authorityInfoAccess", "1.3.6.1.5.5.7.1.1", &[0x30, 0]),
        ("unknown", "1.3.6.1.4.1.99999.1", &[5, 0]),
    ] {
        for critical in [false, true] {
            let added = RequestedExtension { critical, ..extension(id, value) };
            running
                .request_fails(what, Reason::ExtensionNotAllowed, |csr| csr.extensions.push(added))
                .await;
        }
    }
    // What is inert does not come out either: no CA, and the CA's own key identifier.
    let claims = running.house.claims();
    let mut csr = House::csr(&claims, &running.house.seal(&claims));
    csr.extensions = vec![extension("2.5.29.19", &[0x30, 0]), extension("2.5.29.14", &[4, 1, 7])];
    let sent = running.house.send(&sign_csr(&csr, &device_key()), &device_key());
    let certificate = running.granted(&sent).await;
    let extensions = certificate.extensions().unwrap();
    let key_id = extensions.iter().find(|e| e.oid == oid("2.5.29.14")).unwrap();
    assert_ne!(key_id.value, [4, 1, 7]);
}

#[tokio::test]
async fn attack_39_key_usage_is_that_of_the_challenge() {
    let running = Running::start().await;
    let both = KeyUsages::DIGITAL_SIGNATURE.union(KeyUsages::KEY_ENCIPHERMENT);
    for (what, usage) in [
        ("signature alone", KeyUsages::DIGITAL_SIGNATURE),
        ("keyCertSign", both.union(KeyUsages::KEY_CERT_SIGN)),
        ("keyCertSign alone", KeyUsages::KEY_CERT_SIGN),
        ("cRLSign", both.union(KeyUsages::from_names(["cRLSign"]).unwrap())),
        ("keyAgreement", both.union(KeyUsages::from_names(["keyAgreement"]).unwrap())),
    ] {
        running
            .request_fails(what, Reason::KeyUsageMismatch, |csr| csr.key_usage = Some(usage))
            .await;
    }
    // Not even when the challenge asks for it: the site's rules come after the issuer.
    running
        .claims_and_request_fail(
            "keyCertSign by the issuer",
            Reason::SiteRuleViolated,
            |claims| claims.expectation.key_usage = both.union(KeyUsages::KEY_CERT_SIGN),
            |_| {},
        )
        .await;
}

#[tokio::test]
async fn attack_40_purposes_are_those_of_the_challenge() {
    let running = Running::start().await;
    for asked in [
        &["clientAuth", "serverAuth"][..],
        &["serverAuth"],
        &["clientAuth", "anyExtendedKeyUsage"],
        &["clientAuth", "OCSPSigning"],
        &["clientAuth", "smartcardLogon"],
        &["clientAuth", "certificateRequestAgent"],
        &["1.2.3.4"],
    ] {
        running
            .request_fails(&asked.join(" "), Reason::EnhancedKeyUsageMismatch, |csr| {
                csr.extended_key_usages = Some(purposes(asked));
            })
            .await;
    }
    for denied in ["anyExtendedKeyUsage", "OCSPSigning", "certificateRequestAgent"] {
        let both = purposes(&["clientAuth", denied]);
        running
            .claims_and_request_fail(
                denied,
                Reason::SiteRuleViolated,
                |claims| claims.expectation.extended_key_usages = both,
                |_| {},
            )
            .await;
    }
}

#[tokio::test]
async fn attack_42_no_security_identifier_but_that_of_the_challenge() {
    let domain = "S-1-5-21-1-2-3";
    let rules = format!("{SITE_RULES}sid_domains = [\"{domain}\"]\n");
    let house = House::new();
    let running = Running::start_in(house, tempfile::tempdir().unwrap(), |parts| {
        parts.site_rules = SiteRules::from_toml(&rules).unwrap();
    })
    .await;
    let user = format!("{domain}-4444");
    let admin = format!("{domain}-500");
    let refused = Reason::ExtensionNotAllowed;
    let added = |text: &str| {
        let added = sid_extension(text);
        |csr: &mut CsrBuilder| csr.extensions.push(added)
    };
    running.request_fails("none expected", refused, added(&user)).await;
    let uri = sid(&admin).to_uri().unwrap();
    running
        .request_fails("a URI", Reason::SubjectAltNameMismatch, |csr| {
            csr.subject_alt_names.push(uri);
        })
        .await;
    let claimed = |claims: &mut ChallengeClaims| {
        claims.expectation.extensions = vec![sid(&user).to_extension()];
    };
    running
        .claims_and_request_fail("another", refused, claimed, added(&format!("{domain}-5555")))
        .await;
    running.claims_and_request_fail("the administrator", refused, claimed, added(&admin)).await;
    // The issuer cannot have it either: well-known accounts are none that devices get.
    running
        .claims_and_request_fail(
            "by the issuer",
            Reason::SiteRuleViolated,
            |claims| claims.expectation.extensions = vec![sid(&admin).to_extension()],
            added(&admin),
        )
        .await;
    // The challenge's own comes out.
    let mut claims = running.house.claims();
    claimed(&mut claims);
    let csr = House::csr(&claims, &running.house.seal(&claims));
    let sent = running.house.send(&sign_csr(&csr, &device_key()), &device_key());
    let certificate = running.granted(&sent).await;
    let sid = sid_extension(&user);
    let extensions = certificate.extensions().unwrap();
    assert!(extensions.iter().any(|e| e.oid == sid.oid && e.value == sid.value));
}

#[tokio::test]
async fn attack_44_keys_are_strong_and_of_the_kind_expected() {
    let running = Running::start().await;
    // Weak ones are found before anything is computed with them: any signature will do.
    let modulus = |bits: usize| [&[0xc1][..], &vec![0x5b; bits / 8 - 1]].concat();
    for (what, modulus, exponent) in [
        ("1024 bits", modulus(1024), &[1, 0, 1][..]),
        ("exponent 3", modulus(2048), &[3]),
        ("exponent 1", modulus(2048), &[1]),
        ("even exponent", modulus(2048), &[1, 0, 0]),
    ] {
        let spki = SpkiDer::from_rsa_parts(&modulus, exponent).unwrap();
        running.raw_fails(what, Reason::WeakKey, |raw| raw.spki = spki.as_der().to_vec()).await;
    }
    let p224 =
        tlv::sequence(&[&tlv::oid(&oid("1.2.840.10045.2.1")), &tlv::oid(&oid("1.3.132.0.33"))]);
    let spki = tlv::sequence(&[&p224, &tlv::whole_bits(&[4; 57])]);
    running.raw_fails("P-224", Reason::AlgorithmNotSupported, |raw| raw.spki = spki).await;
    // Another size than the challenge allows, another kind, another key.
    running
        .claims_and_request_fail(
            "RSA-3072 expected",
            Reason::KeyLengthMismatch,
            |claims| claims.expectation.key_algorithms = vec![KeyAlgorithm::Rsa(3072)],
            |_| {},
        )
        .await;
    running
        .claims_and_request_fail(
            "P-256 expected",
            Reason::KeyLengthMismatch,
            |claims| claims.expectation.key_algorithms = vec![KeyAlgorithm::P256],
            |_| {},
        )
        .await;
    running
        .claims_and_request_fail(
            "another key expected",
            Reason::RegisteredKeyMismatch,
            |claims| claims.expectation.spki_hash = Some(other_key().public_key().hash()),
            |_| {},
        )
        .await;
}

#[tokio::test]
async fn attack_45_the_request_is_signed_by_its_own_key() {
    let running = Running::start().await;
    let unproven = Reason::ProofOfPossessionFailed;
    let other = other_key().public_key().as_der().to_vec();
    running.raw_fails("another's key", unproven, |raw| raw.spki = other).await;
    let named = SignatureScheme::RsaPkcs1Sha384.algorithm_der();
    running.raw_fails("another algorithm named", unproven, |raw| raw.algorithm = named).await;
    let ecdsa = SignatureScheme::EcdsaSha256.algorithm_der();
    running.raw_fails("another kind named", unproven, |raw| raw.algorithm = ecdsa).await;
    let md5 = tlv::sequence(&[&tlv::oid(&oid("1.2.840.113549.1.1.4")), &[5, 0]]);
    let unsupported = Reason::AlgorithmNotSupported;
    running.raw_fails("MD5", unsupported, |raw| raw.algorithm = md5).await;
    // No signature, one of zeros, and one over a request that was changed since.
    let claims = running.house.claims();
    let csr = House::csr(&claims, &running.house.seal(&claims));
    let raw = csr.to_raw(&*device_key().signer(), RSA_SHA256);
    for (what, signature) in [("none", vec![]), ("zeros", vec![0; 256])] {
        let bits = tlv::whole_bits(&signature);
        let der = tlv::sequence(&[&raw.info_der(), &raw.algorithm, &bits]);
        running.der_fails(what, unproven, &der).await;
    }
    let mut changed = sign_csr(&csr, &device_key());
    let at = changed.windows(7).position(|w| w == b"Example").unwrap();
    changed[at] = b'X';
    running.der_fails("changed", unproven, &changed).await;
}

#[tokio::test]
async fn attack_46_the_ca_is_asked_for_the_claims_and_nothing_of_the_request() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let mut csr = House::csr(&claims, &running.house.seal(&claims));
    // Everything that a request may leave out or say otherwise.
    csr.key_usage = None;
    csr.extended_key_usages = None;
    csr.subject_alt_names.reverse();
    csr.subject_alt_names[1] = GeneralName::dns(&format!("{}.EXAMPLE.org", claims.device)).unwrap();
    let sent = running.house.send(&sign_csr(&csr, &device_key()), &device_key());
    running.granted(&sent).await;
    let asked = running.ca.calls().remove(0).contents;
    let expected = &claims.expectation;
    assert_eq!(asked.subject, expected.subject);
    assert_eq!(asked.subject_alt_names, expected.subject_alt_names);
    assert_eq!(asked.key_usage, expected.key_usage);
    assert_eq!(asked.extended_key_usages, expected.extended_key_usages);
    assert_eq!(asked.extensions, expected.extensions);
    assert_eq!(asked.spki, *device_key().public_key());
}

#[tokio::test]
async fn attack_46_what_was_withheld_stays_withheld() {
    let house = House::new();
    let other = keys::p256(3).public_key().clone();
    let signer = keys::p256(0).signer();
    let ca = AlteringCa::new(house.ca.clone(), signer, other, Alteration::ExtraAltName);
    let running = Running::start_in(house, tempfile::tempdir().unwrap(), |parts| {
        parts.main.ca = Arc::new(ca);
    })
    .await;
    let claims = running.house.claims();
    let blob = running.house.seal(&claims);
    let csr = sign_csr(&House::csr(&claims, &blob), &device_key());
    for _ in 0..2 {
        let sent = running.house.send(&csr, &device_key());
        assert_eq!(running.refused(&sent).await, Reason::CertificateDiffers);
    }
    // It is on record, and its challenge is spent for every other request too.
    let stolen = sign_csr(&House::csr(&claims, &blob), &other_key());
    let sent = running.house.send(&stolen, &other_key());
    assert_eq!(running.refused(&sent).await, Reason::ChallengeAlreadyUsed);
    assert_eq!(running.gateway.ledger().counters().await.unwrap().unsettled, 0);
    let events = running.gateway.ledger().outbox(0, 100).await.unwrap();
    assert!(!events.is_empty(), "it is reported");
}

#[tokio::test]
async fn attack_47_the_sites_rules_bind_the_issuer() {
    let house = House::new();
    let rules = format!("{SITE_RULES}denied_names = [\"administrator\", \"dc01\"]\n");
    let running = Running::start_in(house, tempfile::tempdir().unwrap(), |parts| {
        parts.site_rules = SiteRules::from_toml(&rules).unwrap();
    })
    .await;
    let names = |alternative: GeneralName| {
        move |claims: &mut ChallengeClaims| {
            claims.expectation.subject_alt_names = vec![alternative];
        }
    };
    let refused = Reason::SiteRuleViolated;
    for (what, alternative) in [
        ("a privileged account", GeneralName::upn("administrator@example.org").unwrap()),
        ("a domain controller", GeneralName::dns("dc01.example.org").unwrap()),
        ("another domain", GeneralName::upn("a@example.net").unwrap()),
        ("a kind that is not allowed", GeneralName::ip([192, 0, 2, 1].into())),
    ] {
        running.claims_and_request_fail(what, refused, names(alternative), |_| {}).await;
    }
    running
        .claims_and_request_fail(
            "a subject",
            refused,
            |claims| claims.expectation.subject = name("CN=Administrator"),
            |_| {},
        )
        .await;
    running
        .claims_and_request_fail(
            "a long validity",
            refused,
            |claims| {
                claims.expectation.validity = core::time::Duration::from_secs(399 * 86_400);
            },
            |_| {},
        )
        .await;
}

#[tokio::test]
async fn attack_07_a_used_challenge_stays_used() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let blob = running.house.seal(&claims);
    let csr = House::csr(&claims, &blob);
    running.granted(&running.house.send(&sign_csr(&csr, &device_key()), &device_key())).await;
    // With the same key and another detail that does not matter; after a restart; and again.
    let mut other = House::csr(&claims, &blob);
    other.key_usage = None;
    let other = sign_csr(&other, &device_key());
    let used = Reason::ChallengeAlreadyUsed;
    assert_eq!(running.refused(&running.house.send(&other, &device_key())).await, used);
    let (house, folder) = running.stop().await;
    let running = Running::start_in(house, folder, |_| {}).await;
    assert_eq!(running.refused(&running.house.send(&other, &device_key())).await, used);
    assert_eq!(running.ca.calls().len(), 0);
}

#[tokio::test]
async fn attack_10_the_count_survives_and_an_unverified_challenge_counts_for_nothing() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let blob = running.house.seal(&claims);
    let mut bad = House::csr(&claims, &blob);
    bad.subject = name("CN=administrator");
    let bad = sign_csr(&bad, &device_key());
    for _ in 0..9 {
        running.refused(&running.house.send(&bad, &device_key())).await;
    }
    // Twenty attempts with something that only looks like the challenge lock nobody out.
    let mut broken = blob.clone();
    broken.replace_range(40..44, "AAAA");
    let broken = sign_csr(&House::csr(&claims, &broken), &device_key());
    for _ in 0..20 {
        running.refused(&running.house.send(&broken, &device_key())).await;
    }
    let (house, folder) = running.stop().await;
    let running = Running::start_in(house, folder, |_| {}).await;
    running.refused(&running.house.send(&bad, &device_key())).await;
    let good = sign_csr(&House::csr(&claims, &blob), &device_key());
    let reason = running.refused(&running.house.send(&good, &device_key())).await;
    assert_eq!(reason, Reason::ChallengeLocked);
    // It was this challenge that is locked, not the device.
    let mut fresh = running.house.claims();
    fresh.device = claims.device;
    fresh.expectation = claims.expectation;
    let csr = House::csr(&fresh, &running.house.seal(&fresh));
    running.granted(&running.house.send(&sign_csr(&csr, &device_key()), &device_key())).await;
}

#[tokio::test]
async fn attack_04_a_challenge_of_blanks_in_any_string_type() {
    let running = Running::start().await;
    for (string_type, value) in [
        (tag::BMP_STRING, &b"\0 \0 "[..]),
        (tag::UTF8_STRING, b""),
        (tag::OCTET_STRING, b"\0\0\0"),
        (tag::PRINTABLE_STRING, b"    "),
        (tag::IA5_STRING, b"\r\n\t"),
    ] {
        running
            .raw_fails("blank", Reason::ChallengePasswordMissing, |raw| {
                without(raw, CHALLENGE_PASSWORD);
                let value = tlv::encode(string_type, value);
                raw.attributes.push(attribute(&oid(CHALLENGE_PASSWORD), &[&value]));
            })
            .await;
    }
}

#[tokio::test]
async fn attack_29_a_request_is_small() {
    let running = Running::start().await;
    // Many extensions, many attributes, deep nesting: each has its limit.
    running
        .request_fails("extensions", Reason::CertificateRequestDecodingFailed, |csr| {
            csr.extensions = (1..200).map(|n| extension(&format!("1.2.3.{n}"), &[5, 0])).collect();
        })
        .await;
    running
        .request_fails("attributes", Reason::CertificateRequestDecodingFailed, |csr| {
            csr.attributes =
                (1..200).map(|n| attribute(&oid(&format!("1.2.3.{n}")), &[&[5, 0]])).collect();
        })
        .await;
    let deep = (0..5000).fold(Vec::new(), |inner, _| tlv::sequence(&[&inner]));
    let message = crate::attacks_message::Message::around(envelope(&running, &deep)).encode();
    running.nothing_comes_of(&message, "deep request").await;
    let message = crate::attacks_message::Message::around(deep.clone()).encode();
    running.nothing_comes_of(&message, "deep envelope").await;
    running.nothing_comes_of(&deep, "deep message").await;
}

#[tokio::test]
async fn attack_61_neither_challenge_nor_request_is_in_a_trace() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let blob = running.house.seal(&claims);
    let mut csr = House::csr(&claims, &blob);
    csr.subject = name("CN=administrator");
    running.refused(&running.house.send(&sign_csr(&csr, &device_key()), &device_key())).await;
    let csr = sign_csr(&House::csr(&claims, &blob), &device_key());
    running.granted(&running.house.send(&csr, &device_key())).await;
    let all = format!("{:?}", running.traces.all());
    for at in [0, 100, 400] {
        assert!(!all.contains(&blob[at..at + 24]));
    }
}
