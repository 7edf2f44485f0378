//! What real devices send, served from the socket to the certificate; and what they need of the answer.

use crate::attacks_message::{
    Envelope, MESSAGE_TYPE, Message, SENDER_NONCE, TRANSACTION_ID, cert_rep, envelope, good_csr,
    octets, oid, printable,
};
use crate::support::{Running, device_key, other_key};
use scep_cms::{ContentEncryption, LegacyAlgorithms};
use scep_message::client::Reply;
use scep_message::{FailInfo, MessageType};
use scep_pkcs10::danger::attribute;
use scep_server::{Endpoint, ReplyCertificates};
use scep_testkit::House;
use scep_testkit::device::{TestExtension, self_signed};
use scep_testkit::house::{OPENS, SITE_RULES, device_certificate, sign_csr};
use scep_types::tlv::{self, Reader, tag};
use scep_types::{
    CertificateDer, GeneralName, OaepHash, Reason, RsaPadding, Secret, SignatureScheme, StringRules,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PKI_STATUS: &str = "2.16.840.1.113733.1.9.3";
const RECIPIENT_NONCE: &str = "2.16.840.1.113733.1.9.6";
/// Longer than anything here takes on a busy machine.
const PATIENCE: core::time::Duration = core::time::Duration::from_secs(20);
const DAY: core::time::Duration = core::time::Duration::from_secs(86_400);

/// A new gateway serves the message, and its answer is returned.
async fn served(what: &str, change: impl FnOnce(&Running, Message) -> Message) -> Vec<u8> {
    served_bytes(what, |running| change(running, Message::good(running)).encode()).await
}

async fn served_bytes(what: &str, make: impl FnOnce(&Running) -> Vec<u8>) -> Vec<u8> {
    let running = Running::start().await;
    let bytes = make(&running);
    let http = running.post_message(&bytes).await;
    assert_eq!(http.status, 200, "{what}: {:?}", running.traces.last());
    let status = cert_rep(&running, &http.body).attribute(&oid(PKI_STATUS)).unwrap().to_vec();
    assert_eq!(status, printable("0"), "{what}: {:?}", running.traces.last());
    http.body
}

fn sealed_to(running: &Running, recipients: &[&CertificateDer], padding: RsaPadding) -> Vec<u8> {
    let (provider, csr) = (&*running.house.provider, good_csr(running));
    scep_cms::seal(provider, recipients, padding, ContentEncryption::Aes256Cbc, &csr).unwrap()
}

#[tokio::test]
async fn quirk_20_an_envelope_to_all_is_opened() {
    served("to all", |running, mut message| {
        let stranger = device_certificate(&other_key());
        let ours = &running.house.ra.recipients[0].certificate;
        let all = [&stranger, &running.house.ra.signing_certificate, ours];
        message.content = Some(sealed_to(running, &all, RsaPadding::Pkcs1v15));
        message
    })
    .await;
}

#[tokio::test]
async fn attack_63_quirk_20_a_key_of_an_overlap_opens_and_anothers_does_not() {
    // The RA's key was just replaced: devices that have the old certificate are served.
    let running = Running::start_with(|parts| {
        let key = scep_testkit::keys::rsa2048(3);
        let next = scep_cms::Recipient {
            certificate: device_certificate(&key),
            key: key.decryption().unwrap(),
        };
        parts.main.ra.recipients.insert(0, next);
    })
    .await;
    let message = Message::good(&running);
    let http = running.post_message(&message.encode()).await;
    let status = cert_rep(&running, &http.body).attribute(&oid(PKI_STATUS)).unwrap().to_vec();
    assert_eq!(status, printable("0"), "{:?}", running.traces.last());
    // To another's: the answer says what to do, and the operator sees why.
    let mut message = Message::good(&running);
    let wrong = [&running.house.ra.signing_certificate];
    message.content = Some(sealed_to(&running, &wrong, RsaPadding::Pkcs1v15));
    let (http, reason) = running.nothing_comes_of(&message.encode(), "another's").await;
    assert_eq!((http.status, reason), (200, Reason::MessageNotForUs));
    let reply = cert_rep(&running, &http.body);
    let info = reply.attribute(&oid("2.16.840.1.113733.1.9.4")).unwrap();
    assert_eq!(info, printable("1"), "badMessageCheck");
}

#[tokio::test]
async fn quirk_21_the_recipients_issuer_in_another_encoding() {
    served("PrintableString", |running, mut message| {
        let csr = good_csr(running);
        let good = Envelope::read(&envelope(running, &csr));
        message.content = Some(good.but(|e| {
            let value = [&[tag::UTF8_STRING, 7][..], b"Test CA"].concat();
            let info = &mut e.recipient_infos[0];
            let at = info.windows(value.len()).position(|w| w == value).unwrap();
            info[at] = tag::PRINTABLE_STRING;
        }));
        message
    })
    .await;
}

/// The same in BER: indefinite lengths, octet strings in chunks.
fn to_ber(der: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut reader = Reader::new(der);
    while !reader.is_empty() {
        let value = reader.any().unwrap();
        let mut chunked = |constructed: u8| {
            out.extend([constructed, 0x80]);
            for chunk in value.value.chunks(100) {
                out.extend(octets(chunk));
            }
            out.extend([0, 0]);
        };
        if value.tag & 0x20 != 0 {
            out.extend([value.tag, 0x80]);
            out.extend(to_ber(value.value));
            out.extend([0, 0]);
        } else if value.tag == tag::OCTET_STRING && value.value.len() > 40 {
            chunked(0x24);
        } else if value.tag == tag::context(0) && value.value.len() > 40 {
            chunked(0xa0);
        } else {
            out.extend(value.raw);
        }
    }
    out
}

#[tokio::test]
async fn quirk_22_23_ber_outside_inside_and_both() {
    served_bytes("outside", |running| to_ber(&Message::good(running).encode())).await;
    let inside = |running: &Running| {
        let mut message = Message::good(running);
        message.content = Some(to_ber(message.content.as_ref().unwrap()));
        message.encode()
    };
    served_bytes("inside", inside).await;
    served_bytes("both", |running| to_ber(&inside(running))).await;
}

#[tokio::test]
async fn quirk_24_25_26_46_signatures_as_devices_write_them() {
    served("unsorted attributes", |_, message| Message { sorted: false, ..message }).await;
    let named = "1.2.840.113549.1.1.11";
    served("sha256WithRSAEncryption", |_, message| Message { signature: named, ..message }).await;
    served("no NULL", |_, message| Message { null: false, ..message }).await;
    served("the signer's certificate last", |running, mut message| {
        message.certificates.insert(0, running.house.ra.signing_certificate.clone());
        message.certificates.insert(0, running.house.ra.recipients[0].certificate.clone());
        message
    })
    .await;
}

fn with_signer(message: Message, signer: CertificateDer) -> Message {
    Message { certificates: vec![signer.clone()], signer, ..message }
}

#[tokio::test]
async fn quirk_28_29_signer_certificates_of_every_kind() {
    let name = "CN=device".parse().unwrap();
    let key = device_key();
    let certificate =
        |from, to, extensions: &[TestExtension]| self_signed(&key, &name, from, to, extensions);
    let usage = TestExtension::key_usage();
    let critical = TestExtension::critical_authority_key_id(&key);
    for (what, signer) in [
        ("critical AKI", certificate(OPENS, OPENS.plus(DAY), &[usage.clone(), critical])),
        ("version 1", certificate(OPENS, OPENS.plus(DAY), &[])),
        (
            "expired",
            certificate(OPENS.minus(2 * DAY), OPENS.minus(DAY), std::slice::from_ref(&usage)),
        ),
        ("not yet", certificate(OPENS.plus(DAY), OPENS.plus(2 * DAY), &[usage])),
    ] {
        served(what, |_, message| with_signer(message, signer)).await;
    }
}

#[tokio::test]
async fn quirk_30_44_45_nonces_and_transactions_come_back() {
    let running = Running::start().await;
    let csr = good_csr(&running);
    let message = Message::around(envelope(&running, &csr));
    let mut seen = Vec::new();
    for nonce in [Some(&[9; 8][..]), Some(&[9; 16]), None] {
        let message = match nonce {
            Some(nonce) => message.clone().set(SENDER_NONCE, &octets(nonce)),
            None => message.clone().without(SENDER_NONCE),
        };
        let message = message.set(TRANSACTION_ID, &printable("a-b.c:1/2"));
        let http = running.post_message(&message.encode()).await;
        let reply = cert_rep(&running, &http.body);
        assert_eq!(reply.attribute(&oid(PKI_STATUS)), Some(&printable("0")[..]));
        assert_eq!(reply.attribute(&oid(RECIPIENT_NONCE)), nonce.map(octets).as_deref());
        assert_eq!(reply.attribute(&oid(TRANSACTION_ID)), Some(&printable("a-b.c:1/2")[..]));
        let fresh = reply.attribute(&oid(SENDER_NONCE)).unwrap().to_vec();
        assert_eq!(fresh.len(), 18);
        assert!(!seen.contains(&fresh), "each answer has its own");
        seen.push(fresh);
    }
    // The same request three times: one certificate.
    assert_eq!(running.ca.calls().len(), 1);
}

#[tokio::test]
async fn quirk_31_other_types_in_and_printable_string_out() {
    let body = served("INTEGER, UTF8String", |_, message| {
        let id = tlv::encode(tag::UTF8_STRING, b"id_with*@");
        message.set(MESSAGE_TYPE, &tlv::small_int(19)).set(TRANSACTION_ID, &id)
    })
    .await;
    let expected = printable("id_with*@");
    assert!(body.windows(expected.len()).any(|w| w == expected));
}

#[tokio::test]
async fn quirk_32_oaep_is_answered_by_oaep() {
    let oaep = RsaPadding::Oaep(OaepHash::Sha1);
    let running = Running::start().await;
    let mut message = Message::good(&running);
    let ours = [&running.house.ra.recipients[0].certificate];
    message.content = Some(sealed_to(&running, &ours, oaep));
    let http = running.post_message(&message.encode()).await;
    let reply = cert_rep(&running, &http.body);
    let limits = scep_cms::Limits::default();
    let sealed =
        scep_cms::EnvelopedData::parse(reply.content(), &limits, LegacyAlgorithms::Refuse).unwrap();
    // quirk 47: to the signer, and to nobody else.
    assert_eq!(Envelope::read(reply.content()).recipient_infos.len(), 1);
    let me = scep_cms::Recipient {
        certificate: message.signer.clone(),
        key: device_key().decryption().unwrap(),
    };
    let opened = sealed.open(&[me], &*running.house.provider).unwrap();
    assert_eq!((opened.padding, opened.content_encryption), (oaep, ContentEncryption::Aes256Cbc));
}

#[tokio::test]
async fn quirk_33_what_is_too_old_is_named_in_the_answer() {
    let running = Running::start().await;
    let csr = good_csr(&running);
    let good = Envelope::read(&envelope(&running, &csr));
    let des = tlv::sequence(&[&tlv::oid(&oid("1.3.14.3.2.7")), &octets(&[0; 8])]);
    let message = Message::around(good.but(|e| e.algorithm = des));
    let (http, reason) = running.nothing_comes_of(&message.encode(), "DES").await;
    assert_eq!((http.status, reason), (200, Reason::AlgorithmNotSupported));
    let reply = cert_rep(&running, &http.body);
    assert_eq!(reply.attribute(&oid("2.16.840.1.113733.1.9.4")), Some(&printable("0")[..]));
    let text = reply.attribute(&oid("1.3.6.1.5.5.7.24.1")).unwrap();
    assert!(String::from_utf8_lossy(text).contains("des-cbc"));
}

/// A PKCSReq signed with SHA-1.
fn sha1_message(running: &Running, csr: &[u8]) -> Vec<u8> {
    let signer = scep_keys::danger::sha1_signer(&device_key()).unwrap();
    let certificate = device_certificate(&device_key());
    let transaction = scep_types::TransactionId::new("OLD").unwrap();
    let ask = scep_message::client::Ask {
        message_type: MessageType::PkcsReq,
        transaction_id: &transaction,
        data: csr,
        recipient: &running.house.ra.recipients[0].certificate,
        padding: RsaPadding::Pkcs1v15,
        encryption: ContentEncryption::Aes128Cbc,
        scheme: SignatureScheme::RsaPkcs1Sha1,
    };
    let who = scep_message::client::Identity { certificate: &certificate, signer: &*signer };
    scep_message::client::request(&ask, &who, &*running.house.provider).unwrap().0
}

#[tokio::test]
async fn quirk_34_sha1_is_served_where_the_endpoint_says_so_and_answered_alike() {
    let running = Running::start_with(|parts| {
        let mut old = Endpoint::generic("/old");
        old.legacy = LegacyAlgorithms::Accept;
        parts.endpoints.push(old);
        let key = scep_testkit::keys::rsa2048(0);
        parts.main.ra.signing_key = scep_keys::danger::sha1_signer(&key).unwrap();
    })
    .await;
    let bytes = sha1_message(&running, &good_csr(&running));
    // Elsewhere it is refused, by its name.
    let (http, reason) = running.nothing_comes_of(&bytes, "SHA-1").await;
    assert_eq!((http.status, reason), (200, Reason::AlgorithmNotSupported));
    assert_eq!(running.traces.last().endpoint, "generic");
    let http = running.post("/old?operation=PKIOperation", "", &bytes).await;
    let reply = scep_cms::SignedData::parse(&http.body, &scep_cms::Limits::default())
        .unwrap()
        .verify(&*running.house.provider, LegacyAlgorithms::Accept)
        .unwrap();
    assert_eq!(reply.attribute(&oid(PKI_STATUS)), Some(&printable("0")[..]));
    assert_eq!(reply.scheme(), SignatureScheme::RsaPkcs1Sha1);
}

#[tokio::test]
async fn quirk_35_signing_time_is_read_and_judged_by_nobody() {
    served("none", |_, message| message).await;
    served("ten years ago", |_, message| {
        message.set("1.2.840.113549.1.9.5", &tlv::time(OPENS.minus(3650 * DAY)))
    })
    .await;
}

#[tokio::test]
async fn quirk_36_37_challenges_in_every_string_type_and_place() {
    for string_type in [
        tag::PRINTABLE_STRING,
        tag::UTF8_STRING,
        tag::IA5_STRING,
        tag::T61_STRING,
        tag::OCTET_STRING,
        tag::BMP_STRING,
    ] {
        served(&format!("{string_type:#x}"), |running, message| {
            let claims = running.house.claims();
            // quirk 37: far more than the 255 characters that PKCS #9 thought of.
            let text = running.house.seal(&claims);
            assert!(text.len() > 1000);
            let wide: Vec<u8> = text.bytes().flat_map(|b| [0, b]).collect();
            let value = if string_type == tag::BMP_STRING { &wide } else { text.as_bytes() };
            let value = tlv::encode(string_type, value);
            let mut csr = House::csr(&claims, "");
            csr.challenge_password = None;
            let scheme = SignatureScheme::RsaPkcs1Sha256;
            let mut raw = csr.to_raw(&*device_key().signer(), scheme);
            // Last, and not in DER's order.
            raw.attributes.push(attribute(&oid("1.2.840.113549.1.9.7"), &[&value]));
            let der = raw.sign(&*device_key().signer(), scheme).unwrap();
            Message { content: Some(envelope(running, &der)), ..message }
        })
        .await;
    }
}

#[tokio::test]
async fn quirk_38_names_of_routers_are_compared_as_structures() {
    let running = Running::start().await;
    let mut claims = running.house.claims();
    let text = "unstructuredName=router.example.org+serialNumber=FTX1234, CN=router";
    claims.expectation.subject = text.parse().unwrap();
    let csr = House::csr(&claims, &running.house.seal(&claims));
    let mut raw = csr.to_raw(&*device_key().signer(), SignatureScheme::RsaPkcs1Sha256);
    let pair = |id: &str, string_type: u8, value: &[u8]| {
        tlv::sequence(&[&tlv::oid(&oid(id)), &tlv::encode(string_type, value)])
    };
    // IA5String and PrintableString as Cisco writes them, in either order.
    let host = pair("1.2.840.113549.1.9.2", tag::IA5_STRING, b"router.example.org");
    let serial = pair("2.5.4.5", tag::PRINTABLE_STRING, b"FTX1234");
    let common = pair("2.5.4.3", tag::PRINTABLE_STRING, b"router");
    raw.subject = tlv::sequence(&[
        &tlv::encode(tag::SET, &[host, serial].concat()),
        &tlv::encode(tag::SET, &common),
    ]);
    let der = raw.sign(&*device_key().signer(), SignatureScheme::RsaPkcs1Sha256).unwrap();
    running.granted(&running.house.send(&der, &device_key())).await;
}

#[tokio::test]
async fn quirk_38_bmp_strings_in_names_are_for_endpoints_that_say_so() {
    let running = Running::start_with(|parts| {
        let mut java = Endpoint::generic("/java");
        java.csr.strings = StringRules::AllowBmp;
        parts.endpoints.push(java);
    })
    .await;
    let mut claims = running.house.claims();
    claims.expectation.subject = "CN=a".parse().unwrap();
    let csr = House::csr(&claims, &running.house.seal(&claims));
    let mut raw = csr.to_raw(&*device_key().signer(), SignatureScheme::RsaPkcs1Sha256);
    let value = tlv::encode(tag::BMP_STRING, b"\0a");
    let pair = tlv::sequence(&[&tlv::oid(&oid("2.5.4.3")), &value]);
    raw.subject = tlv::sequence(&[&tlv::encode(tag::SET, &pair)]);
    let der = raw.sign(&*device_key().signer(), SignatureScheme::RsaPkcs1Sha256).unwrap();
    let sent = running.house.send(&der, &device_key());
    assert_eq!(running.refused(&sent).await, Reason::CertificateRequestDecodingFailed);
    let sent = running.house.send(&der, &device_key());
    let reply = running.ask_at("/java", &sent).await;
    assert!(matches!(reply, Reply::Success(_)), "{reply:?}");
}

#[tokio::test]
async fn quirk_39_41_what_the_request_leaves_out_comes_from_the_challenge() {
    let running = Running::start().await;
    let mut claims = running.house.claims();
    claims.expectation.subject_alt_names.clear();
    claims.expectation.validity = 30 * DAY;
    let mut csr = House::csr(&claims, &running.house.seal(&claims));
    csr.key_usage = None;
    csr.extended_key_usages = None;
    let sent = running.house.send(&sign_csr(&csr, &device_key()), &device_key());
    let certificate = running.granted(&sent).await;
    let extensions = certificate.extensions().unwrap();
    let usage = extensions.iter().find(|e| e.oid == oid("2.5.29.37")).unwrap();
    assert_eq!(usage.value, claims.expectation.extended_key_usages.to_der());
    assert!(certificate.not_after() <= OPENS.plus(30 * DAY));
    assert!(certificate.not_after() > OPENS.plus(29 * DAY));
}

#[tokio::test]
async fn quirk_40_a_sid_uri_is_compared_and_copied() {
    let house = House::new();
    let rules = format!("{SITE_RULES}sid_domains = [\"S-1-5-21-1-2-3\"]\n");
    let running = Running::start_in(house, tempfile::tempdir().unwrap(), |parts| {
        parts.site_rules = scep_policy::SiteRules::from_toml(&rules).unwrap();
    })
    .await;
    let uri = "tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-4444";
    let mut claims = running.house.claims();
    claims.expectation.subject_alt_names.push(GeneralName::uri(uri).unwrap());
    let blob = running.house.seal(&claims);
    let mut bad = House::csr(&claims, &blob);
    bad.subject_alt_names[2] = GeneralName::uri(&uri.replace("sid:", "SID:")).unwrap();
    let sent = running.house.send(&sign_csr(&bad, &device_key()), &device_key());
    assert_eq!(running.refused(&sent).await, Reason::SubjectAltNameMismatch);
    let good = sign_csr(&House::csr(&claims, &blob), &device_key());
    let certificate = running.granted(&running.house.send(&good, &device_key())).await;
    let der = certificate.as_der();
    assert!(der.windows(uri.len()).any(|w| w == uri.as_bytes()));
}

#[tokio::test]
async fn quirk_42_a_failure_has_an_empty_content_and_its_digest() {
    let running = Running::start().await;
    let csr = House::csr(&running.house.claims(), "secret");
    let message = Message::around(envelope(&running, &sign_csr(&csr, &device_key())));
    let (http, _) = running.nothing_comes_of(&message.encode(), "refused").await;
    let reply = cert_rep(&running, &http.body);
    assert!(reply.content().is_empty());
    // [0] EXPLICIT OCTET STRING of no octets, and contentType and messageDigest among the signed attributes.
    let empty = [&tlv::oid(&oid("1.2.840.113549.1.7.1"))[..], &[0xa0, 2, 4, 0]].concat();
    assert!(http.body.windows(empty.len()).any(|w| w == empty));
    assert!(reply.attribute(&oid("1.2.840.113549.1.9.3")).is_some());
    assert!(reply.attribute(&oid("1.2.840.113549.1.9.4")).is_some());
}

#[tokio::test]
async fn quirk_43_the_leaf_comes_alone_or_first() {
    let running = Running::start_with(|parts| {
        let mut cisco = Endpoint::generic("/cisco");
        cisco.reply = ReplyCertificates::LeafAndCa;
        parts.endpoints.push(cisco);
    })
    .await;
    let claims = running.house.claims();
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &device_key());
    let leaf = running.granted(&running.house.send(&csr, &device_key())).await;
    let sent = running.house.send(&csr, &device_key());
    let Reply::Success(both) = running.ask_at("/cisco", &sent).await else { panic!() };
    let ca = scep_ca::CertificateAuthority::chain(&running.house.ca)[0].clone();
    assert_eq!(both, [leaf, ca]);
}

#[tokio::test]
async fn quirk_49_a_poll_for_an_unknown_transaction_is_bad_cert_id() {
    let running = Running::start().await;
    let names = scep_message::client::issuer_and_subject(&[0x30, 0], &[0x30, 0]);
    let signer = device_certificate(&device_key());
    let kind = MessageType::CertPoll;
    let sent = running.house.send_as(&names, &device_key(), &signer, kind, RsaPadding::Pkcs1v15);
    let reply = running.ask(&sent).await;
    assert!(matches!(reply, Reply::Failure { fail_info: FailInfo::BadCertId, .. }), "{reply:?}");
}

#[tokio::test]
async fn a_retry_too_many_is_slowed_down_and_comes_again() {
    let running = Running::start_with(|parts| {
        parts.limits.retry_burst = 2;
    })
    .await;
    let claims = running.house.claims();
    let mut csr = House::csr(&claims, "");
    csr.challenge_password = Some(Secret::new(running.house.seal(&claims)));
    let csr = sign_csr(&csr, &device_key());
    let send = || running.house.send(&csr, &device_key());
    let first = running.granted(&send()).await;
    assert_eq!(running.granted(&send()).await, first);
    assert_eq!(running.granted(&send()).await, first);
    assert_eq!(running.refused(&send()).await, Reason::RateExceeded);
    // Another's requests are not slowed down by it.
    running.granted(&running.house.enrolment(&other_key())).await;
    running.house.clock.advance(core::time::Duration::from_secs(5));
    assert_eq!(running.granted(&send()).await, first);
}

#[tokio::test]
async fn attack_10_a_locked_challenge_says_so_whatever_is_asked() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let mut bad = House::csr(&claims, &running.house.seal(&claims));
    bad.subject = "CN=administrator".parse().unwrap();
    let bad = sign_csr(&bad, &device_key());
    for _ in 0..10 {
        let sent = running.house.send(&bad, &device_key());
        assert_eq!(running.refused(&sent).await, Reason::SubjectNameMismatch);
    }
    let sent = running.house.send(&bad, &device_key());
    assert_eq!(running.refused(&sent).await, Reason::ChallengeLocked);
}

#[tokio::test]
async fn quirk_50_a_retry_waits_for_its_outcome_even_when_its_challenge_is_over() {
    let running = Running::start_with(|parts| {
        parts.limits.in_progress_wait = core::time::Duration::from_millis(20);
    })
    .await;
    let csr = good_csr(&running);
    running.ca.then(scep_testkit::ca::Outcome::LoseAnswer);
    running.ask(&running.house.send(&csr, &device_key())).await;
    assert_eq!(running.traces.last().reason, Some(Reason::CaOutcomeUnknown));
    // Nobody knows yet whether there is a certificate: "expired" would send the device away from it.
    running.house.clock.advance(core::time::Duration::from_secs(2 * 3600));
    let sent = running.house.send(&csr, &device_key());
    assert_eq!(running.refused(&sent).await, Reason::RequestInProgress);
    assert_eq!(running.gateway.recover().await.unwrap(), 1);
    running.granted(&running.house.send(&csr, &device_key())).await;
    assert_eq!(running.ca.calls().len(), 1);
}

/// Sends octets and reads until the gateway closes.
async fn until_closed(running: &Running, octets: &[u8]) -> String {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(octets).await.unwrap();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    closed.expect("the gateway closes").unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn attack_59_whoever_sends_slowly_is_cut_off() {
    let running = Running::start_with(|parts| {
        parts.limits.head_timeout = core::time::Duration::from_millis(100);
        parts.limits.body_timeout = core::time::Duration::from_millis(100);
    })
    .await;
    // Nothing, half a head, a head and half a body: each ends by itself, and nothing was served.
    for begun in [&b""[..], b"GET /scep?operation=GetCACaps HTTP/1.1\r\nHost"] {
        let answer = until_closed(&running, begun).await;
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    let begun =
        b"POST /scep?operation=PKIOperation HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n0";
    let answer = until_closed(&running, begun).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    // An answered connection that stays idle is closed too.
    let answer =
        until_closed(&running, b"GET /scep?operation=GetCACaps HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn attack_59_connections_are_counted() {
    let running = Running::start_with(|parts| parts.limits.connections = 1).await;
    let idle = TcpStream::connect(running.address).await.unwrap();
    let mut second = TcpStream::connect(running.address).await.unwrap();
    let request = b"GET /scep?operation=GetCACaps HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    second.write_all(request).await.unwrap();
    // However long one waits, nothing comes while the first has the only slot.
    let mut answer = vec![0];
    let moment = core::time::Duration::from_millis(200);
    assert!(tokio::time::timeout(moment, second.read_exact(&mut answer)).await.is_err());
    drop(idle);
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, second.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(String::from_utf8(rest).unwrap().starts_with("HTTP/1.1 200 "));
}
