//! Devices with Windows and of Apple's, as far as a server can tell: no such device is at hand, so that these requests
//! are built as the field describes them. They need no peer and are never skipped.

use crate::support::{log_has_no_secrets, profile};
use libtest_mimic::Trial;
use scep_keys::{AwsLc, SoftwareKey, read_certificates};
use scep_message::FailInfo;
use scep_message::client::Reply;
use scep_pkcs10::CsrBuilder;
use scep_testkit::apple::Form;
use scep_testkit::process::peers::trial;
use scep_testkit::process::{HttpAnswer, Site, SiteOptions, http, wait_for};
use scep_testkit::{TestKey, apple, windows};
use scep_types::{
    CertificateDer, CryptoProvider, ExtendedKeyUsages, GeneralName, KeyUsages, ObjectIdentifier,
    Secret, SignatureScheme, Timestamp,
};
use std::io::Write;
use std::net::TcpStream;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("quirk_27_28_32_windows_enrols", &[], windows_enrols),
        trial("attack_01_windows_is_refused_another_name", &[], windows_is_refused),
        trial("attack_09_a_throw_away_signer_needs_the_windows_endpoint", &[], needs_its_endpoint),
        trial("quirk_01_22_apple_enrols", &[], apple_enrols),
        trial("quirk_22_apple_enrols_with_everything_in_ber", &[], everything_in_ber),
        trial("attack_61_the_most_verbose_log_has_no_secrets", &[], verbose_log),
    ]
}

const SUBJECT: &str = "O=Example, CN=dev";
const DNS: &str = "dev.example.org";

fn now() -> Timestamp {
    std::time::SystemTime::now().into()
}

/// What device management tells a device to ask for.
fn csr(subject: &str, challenge: &str) -> CsrBuilder {
    let client = ExtendedKeyUsages::purpose("clientAuth").unwrap();
    CsrBuilder {
        subject: subject.parse().unwrap(),
        subject_alt_names: vec![GeneralName::dns(DNS).unwrap()],
        key_usage: Some(KeyUsages::DIGITAL_SIGNATURE.union(KeyUsages::KEY_ENCIPHERMENT)),
        extended_key_usages: Some(ExtendedKeyUsages::new(vec![client]).unwrap()),
        challenge_password: Some(Secret::new(challenge.to_owned())),
        ..CsrBuilder::default()
    }
}

/// The RA's certificates as GetCACert gives them, by their key usage: whom to encrypt to, and who signs.
fn ra(site: &Site, target: &str) -> (CertificateDer, CertificateDer) {
    let answer = http(site.address(), "GET", target, b"");
    assert_eq!(answer.status, 200, "{answer:?}");
    let limits = scep_message::Limits::default();
    let all = scep_message::ca_cert::parse(&answer.body, &limits).unwrap();
    let usage = ObjectIdentifier::new_unwrap("2.5.29.15");
    let with = |usages: KeyUsages| {
        let found = all.iter().find(|c| c.extension(&usage) == Some(&*usages.to_der()));
        found.expect("an RA certificate with this key usage").clone()
    };
    (with(KeyUsages::KEY_ENCIPHERMENT), with(KeyUsages::DIGITAL_SIGNATURE))
}

/// A certificate for this key, by this site's CA, that says exactly what the profile does.
fn is_what_was_allowed(site: &Site, reply: &Reply, key: &SoftwareKey) {
    let Reply::Success(certificates) = reply else {
        panic!("{reply:?}: {}", site.log());
    };
    let [certificate] = certificates.as_slice() else {
        panic!("the first of several would be bound to the key: {certificates:?}")
    };
    assert_eq!(certificate.spki(), key.public_key());
    let expected = csr(SUBJECT, "");
    assert_eq!(certificate.subject_der(), expected.subject.to_der());
    let extension = |id| certificate.extension(&ObjectIdentifier::new_unwrap(id));
    let names = GeneralName::list_to_der(&expected.subject_alt_names);
    assert_eq!(extension("2.5.29.17"), Some(&*names));
    assert_eq!(extension("2.5.29.15"), Some(&*expected.key_usage.unwrap().to_der()));
    assert_eq!(extension("2.5.29.37"), Some(&*expected.extended_key_usages.unwrap().to_der()));
    let ca = read_certificates(&site.ca_certificate()).unwrap();
    assert_eq!(certificate.issuer_der(), ca[0].subject_der());
    let (key, scheme) = (ca[0].spki(), SignatureScheme::EcdsaSha256);
    AwsLc.verify(key, scheme, certificate.tbs_der(), certificate.signature()).unwrap();
}

/// One answer to one PKIOperation.
fn ask(site: &Site, method: &str, target: &str, body: &[u8]) -> HttpAnswer {
    let answer = http(site.address(), method, target, body);
    assert_eq!(answer.status, 200, "{answer:?}: {}", site.log());
    assert!(answer.head.contains("application/x-pki-message"), "{}", answer.head);
    answer
}

fn windows_target(operation: &str) -> String {
    format!("{}?{}", windows::PATH, windows::query(operation))
}

fn windows_sends(site: &Site, path: &str, subject: &str, key: &SoftwareKey, blob: &str) -> Reply {
    let (encrypt, sign) = ra(site, &windows_target("GetCACert"));
    let (sent, request) = windows::request(csr(subject, blob), key, &encrypt, now());
    let target = format!("{path}?operation=PKIOperation");
    let answer = ask(site, "POST", &target, &sent.bytes);
    log_has_no_secrets(site, &[&request]);
    sent.read(&[sign], &answer.body)
}

fn windows_enrols() {
    let site = Site::start(&SiteOptions::default());
    let caps = http(site.address(), "GET", &windows_target("GetCACaps"), b"");
    assert_eq!(caps.status, 200, "{caps:?}");
    let blob = site.mint(&profile(SUBJECT, &[DNS]), "dev", &[]);
    let key = TestKey::RsaA.key();
    let reply = windows_sends(&site, windows::PATH, SUBJECT, &key, &blob);
    is_what_was_allowed(&site, &reply, &key);
    // Windows tries again with another signer: the same request gets the same certificate.
    let again = windows_sends(&site, windows::PATH, SUBJECT, &key, &blob);
    assert_eq!(again, reply);
    assert_eq!(site.log_lines(&["endpoint=windows", "outcome=Issued"]).len(), 1);
    assert_eq!(site.log_lines(&["endpoint=windows", "outcome=Repeated"]).len(), 1);
}

fn windows_is_refused() {
    let site = Site::start(&SiteOptions::default());
    let blob = site.mint(&profile(SUBJECT, &[DNS]), "dev", &[]);
    let key = TestKey::RsaA.key();
    let reply = windows_sends(&site, windows::PATH, "O=Example, CN=administrator", &key, &blob);
    let Reply::Failure { fail_info, text } = reply else { panic!("{reply:?}") };
    assert_eq!(fail_info, FailInfo::BadRequest);
    // What was expected is the operator's to know.
    assert!(!text.unwrap_or_default().contains("dev"));
    let refused = site.log_lines(&["reason=SubjectNameMismatch", "CN=dev", "CN=administrator"]);
    assert_eq!(refused.len(), 1, "{}", site.log());
}

fn needs_its_endpoint() {
    let site = Site::start(&SiteOptions::default());
    let blob = site.mint(&profile(SUBJECT, &[DNS]), "dev", &[]);
    let reply = windows_sends(&site, "/", SUBJECT, &TestKey::RsaA.key(), &blob);
    assert!(matches!(reply, Reply::Failure { .. }), "{reply:?}");
    assert_eq!(site.log_lines(&["endpoint=generic", "outcome=Refused"]).len(), 1);
}

/// Everything from GetCACert on, by GET.
fn apple_enrols_in(form: Form) {
    let site = Site::start(&SiteOptions::default());
    let key = TestKey::RsaB.key();
    let blob = site.mint(&profile(SUBJECT, &[DNS]), "dev", &[]);
    let (encrypt, sign) = ra(&site, &format!("/scep?{}", apple::query("GetCACert")));
    let mut asked = csr(SUBJECT, &blob);
    // Apple asks for no extended key usage; the certificate has the claims' in any case.
    asked.extended_key_usages = None;
    let (sent, request) = apple::request(&asked, &key, &encrypt, now(), form);
    assert_eq!(sent.bytes[..2], [0x30, 0x80], "an indefinite length");
    let query = apple::pki_operation_query(&sent.bytes);
    assert!(query.contains('+'), "a message of some thousand octets has a + in its base64");
    let answer = ask(&site, "GET", &format!("/scep?{query}"), b"");
    is_what_was_allowed(&site, &sent.read(&[sign], &answer.body), &key);
    log_has_no_secrets(&site, &[&request]);
}

fn apple_enrols() {
    apple_enrols_in(Form::Streamed);
}

fn everything_in_ber() {
    apple_enrols_in(Form::Everything);
}

/// The checks of the log in all other trials, at the level that prints most: one request granted, one refused, one that
/// is retried.
fn verbose_log() {
    let config = "[log]\nlevel = \"trace\"\n".to_owned();
    let site = Site::start(&SiteOptions { config, ..SiteOptions::default() });
    let blob = site.mint(&profile(SUBJECT, &[DNS]), "dev", &[]);
    let key = TestKey::RsaA.key();
    for subject in ["O=Example, CN=administrator", SUBJECT, SUBJECT] {
        let reply = windows_sends(&site, windows::PATH, subject, &key, &blob);
        assert_eq!(matches!(reply, Reply::Success(_)), subject == SUBJECT, "{reply:?}");
    }
    // Something that is logged at this level alone: what this is, is no HTTP.
    TcpStream::connect(site.address()).unwrap().write_all(b"?\r\n\r\n").unwrap();
    wait_for("a line for developers", || site.log().contains(" DEBUG ").then_some(()));
}
