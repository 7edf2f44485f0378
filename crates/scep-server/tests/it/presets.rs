//! Every preset with what its clients do: a test for each quirk that it names, on an endpoint that has no other.

use crate::attacks_message::{Envelope, Message, cert_rep, envelope, good_csr, octets, oid};
use crate::support::{Http, Running, base64, device_key, other_key};
use scep_ca::{CertificateAuthority as _, InfrastructurePurpose, LocalCa, LocalCaSettings};
use scep_cms::{ContentEncryption, LegacyAlgorithms};
use scep_keys::{AwsLc, SoftwareKey};
use scep_message::client::{Ask, Identity, Reply};
use scep_message::{FailInfo, Limits, MessageType, RaIdentity, Recipient};
use scep_pkcs10::CsrBuilder;
use scep_server::{
    CaCertForm, CaCertOrder, CaShown, Endpoint, Preset, ReplyCertificates, ReplyCipher,
    ReplyDigest, SignerRule,
};
use scep_testkit::apple::Form;
use scep_testkit::house::{House, OPENS, Sent, device_certificate, sign_csr};
use scep_testkit::{apple, ber, keys, windows};
use scep_types::tlv::{self, tag};
use scep_types::{
    CertificateDer, KeyAlgorithm, KeyUsages, OaepHash, Reason, RsaPadding, SignatureScheme,
    StringRules, TransactionId,
};
use std::sync::Arc;

const DAY: core::time::Duration = core::time::Duration::from_secs(86_400);
const KEY_USAGE: &str = "2.5.29.15";
const FAIL_INFO: &str = "2.16.840.1.113733.1.9.4";
const FAIL_INFO_TEXT: &str = "1.3.6.1.5.5.7.24.1";
const SENDER_NONCE: &str = "2.16.840.1.113733.1.9.5";

/// A gateway whose one endpoint has this preset.
async fn at(preset: &Preset) -> Running {
    in_house(House::new(), preset.endpoint("/scep")).await
}

async fn in_house(house: House, endpoint: Endpoint) -> Running {
    let change = |parts: &mut scep_server::Parts| parts.endpoints = vec![endpoint];
    Running::start_in(house, tempfile::tempdir().unwrap(), change).await
}

/// A house whose RA has one certificate for both.
fn combined() -> House {
    let mut house = House::new();
    let key = keys::rsa2048(0);
    let (name, purpose) = ("CN=RA".parse().unwrap(), InfrastructurePurpose::RaCombined);
    let made = house.ca.issue_infrastructure(purpose, key.public_key(), &name, 365 * DAY, OPENS);
    let certificate = made.unwrap();
    let recipients =
        vec![Recipient { certificate: certificate.clone(), key: key.decryption().unwrap() }];
    house.ra =
        RaIdentity { signing_certificate: certificate, signing_key: key.signer(), recipients };
    house
}

/// What GetCACert shows: the content type, and the certificates in their order.
async fn shown(running: &Running) -> (String, Vec<CertificateDer>) {
    let http = running.get("/scep?operation=GetCACert").await;
    let kind = http.header("content-type").unwrap().to_owned();
    (kind, scep_message::ca_cert::parse(&http.body, &Limits::default()).unwrap())
}

fn usages(certificate: &CertificateDer) -> KeyUsages {
    KeyUsages::from_der(certificate.extension(&oid(KEY_USAGE)).unwrap()).unwrap()
}

/// A good request of a new device.
fn csr(running: &Running) -> CsrBuilder {
    let claims = running.house.claims();
    House::csr(&claims, &running.house.seal(&claims))
}

fn recipient(running: &Running) -> &CertificateDer {
    &running.house.ra.recipients[0].certificate
}

fn issued(running: &Running, reply: &Reply) -> CertificateDer {
    match reply {
        Reply::Success(certificates) => certificates[0].clone(),
        other => panic!("{other:?}: {:?}", running.traces.last()),
    }
}

// Windows.

/// One attempt of Windows at a request, with a signer of its own.
async fn windows_asks(running: &Running, target: &str, csr: CsrBuilder) -> (Sent, Http) {
    let (sent, _) = windows::request(csr, &device_key(), recipient(running), OPENS);
    let http = running.post(target, "", &sent.bytes).await;
    (sent, http)
}

#[tokio::test]
async fn quirk_06_windows_appends_pkiclient_exe_to_its_url() {
    for appended in ["/pkiclient.exe", "/pkiclient.exe/pkiclient.exe"] {
        let running = at(&Preset::WINDOWS).await;
        let target = format!("/scep{appended}?operation=PKIOperation");
        let (sent, http) = windows_asks(&running, &target, csr(&running)).await;
        issued(&running, &running.house.read(&sent, &http.body));
    }
}

#[tokio::test]
async fn quirk_07_windows_is_shown_no_html() {
    let running = at(&Preset::WINDOWS).await;
    let (_, http) = windows_asks(&running, "/elsewhere", csr(&running)).await;
    assert_eq!((http.status, http.header("content-type")), (404, Some("text/plain")));
    assert!(!http.text().contains('<'));
}

#[tokio::test]
async fn quirk_18_windows_finds_one_ra_certificate_with_both_usages_and_a_purpose() {
    let running = in_house(combined(), Endpoint::windows("/scep")).await;
    let (_, certificates) = shown(&running).await;
    assert_eq!(certificates.len(), 2, "the RA, and its issuer");
    let both = KeyUsages::DIGITAL_SIGNATURE.union(KeyUsages::KEY_ENCIPHERMENT);
    assert_eq!(usages(&certificates[0]), both);
    assert!(certificates[0].extension(&oid("2.5.29.37")).is_some());
    let (sent, http) = windows_asks(&running, "/scep", csr(&running)).await;
    issued(&running, &running.house.read(&sent, &http.body));
}

/// A house whose CA is below another.
fn with_a_root_above() -> House {
    let mut house = House::new();
    let root = house.ca.chain()[0].clone();
    let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    let name = "O=Example, CN=Sub".parse().unwrap();
    let sub = house.ca.issue_subordinate(key.public_key(), &name, 365 * DAY, OPENS).unwrap();
    let (settings, provider) = (LocalCaSettings::default(), Arc::clone(&house.provider));
    house.ca = LocalCa::new(key.signer(), sub, vec![root], settings, provider).unwrap();
    house
}

#[tokio::test]
async fn quirk_19_windows_is_shown_nothing_above_the_issuer() {
    for (preset, above) in [(Preset::WINDOWS, 0), (Preset::GENERIC, 1)] {
        let running = in_house(with_a_root_above(), preset.endpoint("/scep")).await;
        let (kind, certificates) = shown(&running).await;
        assert_eq!(kind, "application/x-x509-ca-ra-cert");
        let chain = running.house.ca.chain();
        let ra = &running.house.ra;
        let mut expected = vec![recipient(&running).clone(), ra.signing_certificate.clone()];
        expected.extend_from_slice(&chain[..=above]);
        assert_eq!(certificates, expected, "{}", preset.name);
    }
}

#[tokio::test]
async fn quirk_27_28_windows_signs_with_a_key_and_certificate_of_the_attempt() {
    let running = at(&Preset::WINDOWS).await;
    let (sent, http) = windows_asks(&running, "/scep", csr(&running)).await;
    let leaf = issued(&running, &running.house.read(&sent, &http.body));
    assert_eq!(leaf.spki(), device_key().public_key());
    // The signer is another key, whose certificate has a critical authorityKeyIdentifier.
    let signer = &sent.me.certificate;
    assert_ne!(signer.spki(), leaf.spki());
    let extensions = signer.extensions().unwrap();
    assert!(extensions.iter().any(|one| one.oid == oid("2.5.29.35") && one.critical));
    // Nobody else's preset takes such a signer.
    for preset in Preset::ALL.iter().filter(|preset| **preset != Preset::WINDOWS) {
        let running = at(preset).await;
        let (sent, http) = windows_asks(&running, "/scep", csr(&running)).await;
        let reply = running.house.read(&sent, &http.body);
        assert!(matches!(reply, Reply::Failure { .. }), "{}: {reply:?}", preset.name);
        assert_eq!(running.traces.last().reason, Some(Reason::SignerNotAllowed));
    }
}

#[tokio::test]
async fn quirk_32_windows_gets_its_key_transport_back() {
    let running = at(&Preset::WINDOWS).await;
    let (sent, http) = windows_asks(&running, "/scep", csr(&running)).await;
    let reply = cert_rep(&running, &http.body);
    let refuse = LegacyAlgorithms::Refuse;
    let sealed =
        scep_cms::EnvelopedData::parse(reply.content(), &Limits::default(), refuse).unwrap();
    let opened = sealed.open(&[sent.me], &AwsLc).unwrap();
    assert_eq!(opened.padding, RsaPadding::Oaep(OaepHash::Sha1));
}

#[tokio::test]
async fn quirk_54_windows_gets_one_certificate_in_all_rounds_of_one_request() {
    let running = at(&Preset::WINDOWS).await;
    let claims = running.house.claims();
    let blob = running.house.seal(&claims);
    let mut leaves = Vec::new();
    for _ in 0..3 {
        let csr = House::csr(&claims, &blob);
        let (sent, http) = windows_asks(&running, "/scep", csr).await;
        leaves.push(issued(&running, &running.house.read(&sent, &http.body)));
    }
    assert!(leaves.iter().all(|leaf| *leaf == leaves[0]));
    assert_eq!(running.ca.calls().len(), 1);
}

// Apple.

fn apple_sends(running: &Running, csr: &CsrBuilder, form: Form) -> Sent {
    apple::request(csr, &device_key(), recipient(running), OPENS, form).0
}

#[tokio::test]
async fn quirk_01_apple_leaves_plus_signs_in_its_get() {
    let running = at(&Preset::APPLE).await;
    // Some hundred groups of base64: one without a plus has hardly ever been seen.
    let sent = loop {
        let sent = apple_sends(&running, &csr(&running), Form::Streamed);
        if base64(&sent.bytes).contains('+') {
            break sent;
        }
    };
    let query = apple::pki_operation_query(&sent.bytes);
    let http = running.get(&format!("/scep?{query}")).await;
    issued(&running, &running.house.read(&sent, &http.body));
}

#[tokio::test]
async fn quirk_08_apple_says_anything_or_nothing_in_message() {
    let running = at(&Preset::APPLE).await;
    for operation in ["GetCACaps", "GetCACert"] {
        let plain = running.get(&format!("/scep?operation={operation}")).await;
        assert_eq!(plain.status, 200);
        for query in [apple::query(operation), format!("operation={operation}&message=")] {
            assert_eq!(running.get(&format!("/scep?{query}")).await.body, plain.body, "{query}");
        }
    }
}

#[tokio::test]
async fn quirk_17_18_apple_finds_whom_to_encrypt_to_by_key_usage() {
    for (house, split) in [(House::new(), true), (combined(), false)] {
        let running = in_house(house, Endpoint::apple("/scep")).await;
        let (kind, certificates) = shown(&running).await;
        assert_eq!(kind, "application/x-x509-ca-ra-cert");
        let with = |usage: KeyUsages| -> Vec<&CertificateDer> {
            certificates.iter().filter(|one| usages(one).contains(usage)).collect()
        };
        // The CA's own is no candidate: a device that took it would encrypt to a key that opens nothing.
        assert_eq!(with(KeyUsages::KEY_ENCIPHERMENT), [recipient(&running)]);
        let signs = [&running.house.ra.signing_certificate];
        assert_eq!(with(KeyUsages::DIGITAL_SIGNATURE), signs);
        assert_eq!(with(KeyUsages::KEY_CERT_SIGN), [&running.house.ca.chain()[0]]);
        assert_eq!(certificates.len(), if split { 3 } else { 2 });
    }
}

#[tokio::test]
async fn quirk_17_apple_may_be_shown_one_bare_certificate() {
    let mut endpoint = Endpoint::apple("/scep");
    endpoint.ca_cert = CaCertForm::RA_ONLY;
    let running = in_house(combined(), endpoint).await;
    let (kind, certificates) = shown(&running).await;
    assert_eq!(kind, "application/x-x509-ca-cert");
    assert_eq!(certificates, [recipient(&running).clone()]);
    // It opens with that one, and verifies by it.
    let sent = apple_sends(&running, &csr(&running), Form::Streamed);
    running.granted(&sent).await;
}

#[tokio::test]
async fn quirk_22_apple_sends_ber() {
    for form in [Form::Streamed, Form::Everything] {
        let running = at(&Preset::APPLE).await;
        running.granted(&apple_sends(&running, &csr(&running), form)).await;
    }
}

#[tokio::test]
async fn quirk_43_apple_gets_the_leaf_alone() {
    let running = at(&Preset::APPLE).await;
    let sent = apple_sends(&running, &csr(&running), Form::Streamed);
    let Reply::Success(certificates) = running.ask_at("/scep", &sent).await else { panic!() };
    assert_eq!(certificates.len(), 1);
    assert_eq!(certificates[0].spki(), device_key().public_key());
}

#[tokio::test]
async fn quirk_54_apple_tries_a_profile_three_times() {
    let running = at(&Preset::APPLE).await;
    let csr = csr(&running);
    let mut leaves = Vec::new();
    for _ in 0..3 {
        leaves.push(running.granted(&apple_sends(&running, &csr, Form::Streamed)).await);
    }
    assert!(leaves.iter().all(|leaf| *leaf == leaves[0]));
    assert_eq!(running.ca.calls().len(), 1);
}

// Java, on Android and elsewhere.

#[tokio::test]
async fn quirk_03_android_jscep_escapes_nothing_in_its_get() {
    let running = at(&Preset::ANDROID_JSCEP).await;
    let sent = running.house.enrolment(&device_key());
    let text = base64(&sent.bytes);
    assert!(text.contains('/'));
    let http = running.get(&format!("/scep?operation=PKIOperation&message={text}")).await;
    issued(&running, &running.house.read(&sent, &http.body));
}

#[tokio::test]
async fn quirk_15_android_jscep_compares_capabilities_exactly() {
    let running = at(&Preset::ANDROID_JSCEP).await;
    let http = running.get("/scep?operation=GetCACaps").await;
    assert_eq!(http.header("content-type"), Some("text/plain"));
    let text = http.text();
    let lines: Vec<&str> = text.split('\n').collect();
    for word in ["AES", "POSTPKIOperation", "SCEPStandard", "SHA-256", "SHA-512"] {
        assert!(lines.contains(&word), "{word}: {lines:?}");
    }
    // What it does not serve it does not claim.
    for word in ["SHA-1", "DES3"] {
        assert!(!lines.contains(&word), "{word}: {lines:?}");
    }
}

#[tokio::test]
async fn quirk_21_android_jscep_writes_the_recipients_issuer_its_own_way() {
    let running = at(&Preset::ANDROID_JSCEP).await;
    let good = Envelope::read(&envelope(&running, &good_csr(&running)));
    let message = Message::around(good.but(|e| {
        let value = [&[tag::UTF8_STRING, 7][..], b"Test CA"].concat();
        let info = &mut e.recipient_infos[0];
        let at = info.windows(value.len()).position(|w| w == value).unwrap();
        info[at] = tag::PRINTABLE_STRING;
    }));
    running.post_message(&message.encode()).await;
    assert_eq!(running.ca.calls().len(), 1, "{:?}", running.traces.last());
}

#[tokio::test]
async fn quirk_22_android_jscep_sends_ber() {
    let running = at(&Preset::ANDROID_JSCEP).await;
    let mut sent = running.house.enrolment(&device_key());
    sent.bytes = ber::everything(&sent.bytes, 100);
    running.granted(&sent).await;
}

/// A PKCSReq by this digest and cipher.
fn asked_by(running: &Running, scheme: SignatureScheme, encryption: ContentEncryption) -> Vec<u8> {
    let certificate = device_certificate(&device_key());
    let signer = match scheme {
        SignatureScheme::RsaPkcs1Sha1 => scep_keys::danger::sha1_signer(&device_key()).unwrap(),
        _ => device_key().signer(),
    };
    let transaction = TransactionId::new("TX").unwrap();
    let ask = Ask {
        message_type: MessageType::PkcsReq,
        transaction_id: &transaction,
        data: &good_csr(running),
        recipient: recipient(running),
        padding: RsaPadding::Pkcs1v15,
        encryption,
        scheme,
    };
    let who = Identity { certificate: &certificate, signer: &*signer };
    scep_message::client::request(&ask, &who, &AwsLc).unwrap().0
}

/// The digest and cipher of a SUCCESS.
fn answered_by(http: &Http) -> (SignatureScheme, ContentEncryption) {
    let accept = LegacyAlgorithms::Accept;
    let reply = scep_cms::SignedData::parse(&http.body, &Limits::default()).unwrap();
    let reply = reply.verify(&AwsLc, accept).unwrap();
    let sealed =
        scep_cms::EnvelopedData::parse(reply.content(), &Limits::default(), accept).unwrap();
    let me = Recipient {
        certificate: device_certificate(&device_key()),
        key: device_key().decryption().unwrap(),
    };
    let opened = sealed.open(&[me], &AwsLc).unwrap();
    (reply.scheme(), opened.content_encryption)
}

#[tokio::test]
async fn quirk_34_android_jscep_is_answered_by_its_own_digest_and_cipher() {
    let asked = (SignatureScheme::RsaPkcs1Sha512, ContentEncryption::Aes256Cbc);
    for (digest, cipher, answered) in [
        (ReplyDigest::Mirror, ReplyCipher::Mirror, asked),
        // An endpoint may say otherwise.
        (
            ReplyDigest::Sha256,
            ReplyCipher::Aes128,
            (SignatureScheme::RsaPkcs1Sha256, ContentEncryption::Aes128Cbc),
        ),
    ] {
        let endpoint = Endpoint { digest, cipher, ..Endpoint::android_jscep("/scep") };
        let running = in_house(House::new(), endpoint).await;
        let bytes = asked_by(&running, asked.0, asked.1);
        assert_eq!(answered_by(&running.post_message(&bytes).await), answered);
        // Failures as well: a second device with the same key gets nothing.
        let bytes = asked_by(&running, asked.0, asked.1);
        let http = running.post_message(&bytes).await;
        let reply = cert_rep(&running, &http.body);
        assert!(reply.attribute(&oid(FAIL_INFO)).is_some());
        assert_eq!(reply.scheme(), answered.0);
    }
    let mirrors = |preset: &Preset| {
        (preset.digest, preset.cipher) == (ReplyDigest::Mirror, ReplyCipher::Mirror)
    };
    assert!(Preset::ALL.iter().all(mirrors));
}

#[tokio::test]
async fn quirk_38_android_jscep_has_bmp_strings_in_names() {
    for preset in &Preset::ALL {
        let running = at(preset).await;
        let mut claims = running.house.claims();
        claims.expectation.subject = "CN=a".parse().unwrap();
        let csr = House::csr(&claims, &running.house.seal(&claims));
        let scheme = SignatureScheme::RsaPkcs1Sha256;
        let mut raw = csr.to_raw(&*device_key().signer(), scheme);
        let value = tlv::encode(tag::BMP_STRING, b"\0a");
        let pair = tlv::sequence(&[&tlv::oid(&oid("2.5.4.3")), &value]);
        raw.subject = tlv::sequence(&[&tlv::encode(tag::SET, &pair)]);
        let der = raw.sign(&*device_key().signer(), scheme).unwrap();
        let reply = running.ask(&running.house.send(&der, &device_key())).await;
        let served = matches!(reply, Reply::Success(_));
        assert_eq!(served, preset.strings == StringRules::AllowBmp, "{}: {reply:?}", preset.name);
        assert_eq!(served, *preset == Preset::ANDROID_JSCEP);
    }
}

#[tokio::test]
async fn quirk_39_android_jscep_asks_for_no_extension() {
    let running = at(&Preset::ANDROID_JSCEP).await;
    let mut claims = running.house.claims();
    claims.expectation.subject_alt_names.clear();
    let mut csr = House::csr(&claims, &running.house.seal(&claims));
    (csr.key_usage, csr.extended_key_usages) = (None, None);
    let sent = running.house.send(&sign_csr(&csr, &device_key()), &device_key());
    let leaf = running.granted(&sent).await;
    let expected = claims.expectation.extended_key_usages.to_der();
    assert_eq!(leaf.extension(&oid("2.5.29.37")), Some(&*expected));
}

#[tokio::test]
async fn quirk_42_android_jscep_reads_a_failure_with_content_and_digest() {
    let running = at(&Preset::ANDROID_JSCEP).await;
    let csr = House::csr(&running.house.claims(), "secret");
    let message = Message::around(envelope(&running, &sign_csr(&csr, &device_key())));
    let http = running.post_message(&message.encode()).await;
    let reply = cert_rep(&running, &http.body);
    assert!(reply.attribute(&oid(FAIL_INFO)).is_some() && reply.content().is_empty());
    let empty = [&tlv::oid(&oid("1.2.840.113549.1.7.1"))[..], &[0xa0, 2, 4, 0]].concat();
    assert!(http.body.windows(empty.len()).any(|w| w == empty));
    for attribute in ["1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"] {
        assert!(reply.attribute(&oid(attribute)).is_some(), "{attribute}");
    }
}

#[tokio::test]
async fn quirk_44_android_jscep_meets_no_nonce_twice() {
    let running = at(&Preset::ANDROID_JSCEP).await;
    let message = Message::good(&running).encode();
    let mut nonces = Vec::new();
    for _ in 0..3 {
        let http = running.post_message(&message).await;
        let nonce = cert_rep(&running, &http.body).attribute(&oid(SENDER_NONCE)).unwrap().to_vec();
        assert!(!nonces.contains(&nonce));
        nonces.push(nonce);
    }
    assert_eq!(running.ca.calls().len(), 1);
}

// Cisco IOS.

#[tokio::test]
async fn quirk_02_cisco_ios_breaks_its_get_into_lines() {
    let running = at(&Preset::CISCO_IOS).await;
    let sent = running.house.enrolment(&device_key());
    let text = base64(&sent.bytes);
    let lines: Vec<&[u8]> = text.as_bytes().chunks(64).collect();
    let lines: Vec<String> =
        lines.iter().map(|line| String::from_utf8(line.to_vec()).unwrap()).collect();
    let message = format!("{}%0A", lines.join("%0A").replace('+', "%2B"));
    let http = running.get(&format!("/scep?operation=PKIOperation&message={message}")).await;
    issued(&running, &running.house.read(&sent, &http.body));
}

#[tokio::test]
async fn quirk_05_06_cisco_ios_speaks_http_1_0_without_a_host_to_pkiclient_exe() {
    let running = at(&Preset::CISCO_IOS).await;
    let agent = "User-Agent: Mozilla/4.0 (compatible; MSIE 5.0; Cisco PKI)";
    let get = |query: &str| {
        format!("GET /scep/pkiclient.exe?{query} HTTP/1.0\r\n{agent}\r\n\r\n").into_bytes()
    };
    assert_eq!(running.raw(&get("operation=GetCACaps&message=trustpoint")).await.status, 200);
    let sent = running.house.enrolment(&device_key());
    let message = base64(&sent.bytes).replace('+', "%2B");
    let query = format!("operation=PKIOperation&message={message}");
    let http = running.raw(&get(&query)).await;
    issued(&running, &running.house.read(&sent, &http.body));
}

#[tokio::test]
async fn quirk_33_cisco_ios_is_told_that_its_cipher_is_too_old() {
    for endpoint in [Endpoint::cisco_ios("/scep"), Endpoint::cisco_ios("/scep").with_legacy()] {
        let running = in_house(House::new(), endpoint).await;
        let good = Envelope::read(&envelope(&running, &good_csr(&running)));
        let des = tlv::sequence(&[&tlv::oid(&oid("1.3.14.3.2.7")), &octets(&[0; 8])]);
        let message = Message::around(good.but(|e| e.algorithm = des));
        let (http, reason) = running.nothing_comes_of(&message.encode(), "DES").await;
        assert_eq!((http.status, reason), (200, Reason::AlgorithmNotSupported));
        let reply = cert_rep(&running, &http.body);
        let bad_alg =
            tlv::encode(tag::PRINTABLE_STRING, FailInfo::BadAlg.number().to_string().as_bytes());
        assert_eq!(reply.attribute(&oid(FAIL_INFO)), Some(&*bad_alg));
        let text = reply.attribute(&oid(FAIL_INFO_TEXT)).unwrap();
        assert!(String::from_utf8_lossy(text).contains("des-cbc"));
    }
}

#[tokio::test]
async fn quirk_34_cisco_ios_has_sha1_and_3des_where_the_operator_says_so_and_only_there() {
    let old = (SignatureScheme::RsaPkcs1Sha1, ContentEncryption::DesEde3Cbc);
    let mut house = House::new();
    house.ra.signing_key = scep_keys::danger::sha1_signer(&keys::rsa2048(0)).unwrap();
    let legacy = in_house(house, Endpoint::cisco_ios("/scep").with_legacy()).await;
    let caps = legacy.get("/scep?operation=GetCACaps").await.text();
    assert!(caps.contains("SHA-1\n") && caps.contains("DES3\n"), "{caps}");
    let http = legacy.post_message(&asked_by(&legacy, old.0, old.1)).await;
    // Answered by SHA-256 and AES, it would understand nothing.
    assert_eq!(answered_by(&http), old);
    for preset in &Preset::ALL {
        assert_eq!(preset.endpoint("/").legacy, LegacyAlgorithms::Refuse);
        let running = at(preset).await;
        let caps = running.get("/scep?operation=GetCACaps").await.text();
        assert!(!caps.contains("SHA-1\n") && !caps.contains("DES3\n"), "{}: {caps}", preset.name);
        let bytes = asked_by(&running, old.0, old.1);
        let (_, reason) = running.nothing_comes_of(&bytes, preset.name).await;
        assert_eq!(reason, Reason::AlgorithmNotSupported);
    }
}

#[tokio::test]
async fn quirk_38_cisco_ios_names_a_router_in_one_rdn_of_several_values() {
    let running = at(&Preset::CISCO_IOS).await;
    let mut claims = running.house.claims();
    let text = "unstructuredName=router.example.org+serialNumber=FTX1234, CN=router";
    claims.expectation.subject = text.parse().unwrap();
    let csr = House::csr(&claims, &running.house.seal(&claims));
    let scheme = SignatureScheme::RsaPkcs1Sha256;
    let mut raw = csr.to_raw(&*device_key().signer(), scheme);
    let pair = |id: &str, string_type: u8, value: &[u8]| {
        tlv::sequence(&[&tlv::oid(&oid(id)), &tlv::encode(string_type, value)])
    };
    let host = pair("1.2.840.113549.1.9.2", tag::IA5_STRING, b"router.example.org");
    let serial = pair("2.5.4.5", tag::PRINTABLE_STRING, b"FTX1234");
    let common = pair("2.5.4.3", tag::PRINTABLE_STRING, b"router");
    raw.subject = tlv::sequence(&[
        &tlv::encode(tag::SET, &[host, serial].concat()),
        &tlv::encode(tag::SET, &common),
    ]);
    let der = raw.sign(&*device_key().signer(), scheme).unwrap();
    let reply = running.ask(&running.house.send(&der, &device_key())).await;
    issued(&running, &reply);
}

#[tokio::test]
async fn quirk_43_cisco_ios_gets_the_ca_after_its_own_certificate() {
    let running = at(&Preset::CISCO_IOS).await;
    let sent = running.house.enrolment(&other_key());
    let Reply::Success(certificates) = running.ask(&sent).await else { panic!() };
    assert_eq!(certificates.len(), 2);
    assert_eq!(certificates[0].spki(), other_key().public_key());
    assert_eq!(certificates[1], running.house.ca.chain()[0]);
    let alone = |preset: &Preset| preset.reply == ReplyCertificates::Leaf;
    assert_eq!(Preset::ALL.iter().filter(|preset| !alone(preset)).count(), 1);
}

// What is the same for all.

#[tokio::test]
async fn getcacert_shows_what_an_endpoint_says_in_its_order() {
    for (name, form) in CaCertForm::NAMED {
        let endpoint = Endpoint { ca_cert: form, ..Endpoint::generic("/scep") };
        let running = in_house(with_a_root_above(), endpoint).await;
        let chain = running.house.ca.chain().to_vec();
        let (issuer, root) = (chain[0].clone(), chain[1].clone());
        let (first, second) =
            (recipient(&running).clone(), running.house.ra.signing_certificate.clone());
        let expected = match name {
            "bundle" => vec![first, second, issuer, root],
            "issuer" => vec![first, second, issuer],
            "ca-first" => vec![issuer, root, first, second],
            _ => vec![first],
        };
        assert_eq!(shown(&running).await.1, expected, "{name}");
    }
    let both = CaCertForm { ca: CaShown::Nothing, ..CaCertForm::BUNDLE };
    let issuer = CaCertForm { order: CaCertOrder::CaFirst, ..CaCertForm::ISSUER };
    for (form, expected) in [(both, 2), (issuer, 3)] {
        let endpoint = Endpoint { ca_cert: form, ..Endpoint::generic("/scep") };
        let running = in_house(with_a_root_above(), endpoint).await;
        assert_eq!(shown(&running).await.1.len(), expected, "{form:?}");
    }
}

#[test]
fn every_preset_has_a_test_for_each_of_its_quirks() {
    let tests: Vec<&str> = include_str!("presets.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("async fn quirk_")?.split_once('(').map(|(n, _)| n))
        .collect();
    let mut tested = 0;
    for preset in &Preset::ALL {
        let word = format!("_{}_", preset.name.replace('-', "_"));
        for quirk in preset.quirks {
            let number = format!("{quirk:02}");
            let found = tests.iter().any(|test| {
                test.split_once(&word)
                    .is_some_and(|(numbers, _)| numbers.split('_').any(|one| one == number))
            });
            assert!(found, "{} has no test of quirk {quirk}", preset.name);
        }
        // And none that it does not name.
        for test in &tests {
            let Some((numbers, _)) = test.split_once(&word) else { continue };
            for number in numbers.split('_') {
                let number: u8 = number.parse().unwrap();
                assert!(preset.quirks.contains(&number), "{test}");
                tested += 1;
            }
        }
    }
    assert!(tested > 25 && Preset::named("apple") == Some(&Preset::APPLE));
    assert_eq!(Preset::named("solaris"), None);
    let any = |preset: &&Preset| preset.signer == SignerRule::Any;
    assert_eq!(Preset::ALL.iter().filter(any).count(), 1);
}
