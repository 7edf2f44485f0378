//! OCSP over HTTP: what it says, how long it says it, and what a stranger can make it do.

use crate::support::{Http, Running, base64, device_key};
use core::time::Duration;
use scep_ca::{CertificateAuthority as _, LocalCa, LocalCaSettings};
use scep_keys::SoftwareKey;
use scep_ledger::{OrderedBy, RevocationOrder, RevocationReason};
use scep_server::{OcspSettings, StoreSettings};
use scep_testkit::house::{House, OPENS};
use scep_testkit::keys;
use scep_types::tlv::{self, Reader, tag};
use scep_types::{
    CertificateDer, Clock, CrlDer, KeyAlgorithm, NameHash, ObjectIdentifier, SerialNumber,
    SignatureScheme,
};
use sha1::{Digest, Sha1};
use std::sync::Arc;
use std::time::Instant;

const GOOD: u8 = 0x80;
const REVOKED: u8 = 0xa1;
const UNKNOWN: u8 = 0x82;
const NONCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.2");

/// Without revocations running by themselves: the tests take the steps.
async fn start() -> Running {
    let running = Running::start().await;
    serve_ocsp(&running);
    running
}

/// With a new signer.
fn serve_ocsp(running: &Running) {
    let house = &running.house;
    let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    let name = "CN=OCSP".parse().unwrap();
    let week = Duration::from_secs(7 * 86_400);
    let signer = house.ca.ocsp_signer(key.signer(), &name, week, house.clock.now()).unwrap();
    running.gateway.main_authority().set_ocsp(OcspSettings::default(), signer).unwrap();
}

fn id(running: &Running, serial: &SerialNumber) -> Vec<u8> {
    let ca = &running.house.ca.chain()[0];
    let mut spki = Reader::new(ca.spki().as_der()).only(tag::SEQUENCE).unwrap().reader();
    spki.any().unwrap();
    let key = spki.any().unwrap().whole_bits().unwrap();
    tlv::sequence(&[
        &tlv::sequence(&[&tlv::oid(&ObjectIdentifier::new_unwrap("1.3.14.3.2.26"))]),
        &tlv::encode(tag::OCTET_STRING, &Sha1::digest(ca.subject_der())),
        &tlv::encode(tag::OCTET_STRING, &Sha1::digest(key)),
        &tlv::encode(tag::INTEGER, serial.as_content()),
    ])
}

fn request(ids: &[Vec<u8>], nonce: Option<&[u8]>) -> Vec<u8> {
    let list: Vec<u8> = ids.iter().flat_map(|id| tlv::sequence(&[id])).collect();
    let list = tlv::encode(tag::SEQUENCE, &list);
    let extensions = nonce.map_or(Vec::new(), |nonce| {
        let value = tlv::encode(tag::OCTET_STRING, &tlv::encode(tag::OCTET_STRING, nonce));
        let one = tlv::sequence(&[&tlv::sequence(&[&tlv::oid(&NONCE), &value])]);
        tlv::encode(tag::context_constructed(2), &one)
    });
    tlv::sequence(&[&tlv::sequence(&[&list, &extensions])])
}

async fn post(running: &Running, request: &[u8]) -> Vec<u8> {
    answer(running.post("/ocsp", "Content-Type: application/ocsp-request\r\n", request).await)
}

fn answer(http: Http) -> Vec<u8> {
    assert_eq!(http.status, 200, "{http:?}");
    assert_eq!(http.header("content-type"), Some("application/ocsp-response"));
    assert_eq!(http.header("cache-control"), Some("no-store"));
    http.body
}

/// What a signed answer says.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    statuses: Vec<u8>,
    nonce: bool,
}

/// Reads an answer and verifies its signature; `Err`: the code of a failure.
fn read(running: &Running, der: &[u8]) -> Result<Said, u8> {
    let mut whole = Reader::new(der).only(tag::SEQUENCE).unwrap().reader();
    let code = whole.any().unwrap().value[0];
    if code != 0 {
        assert!(whole.is_empty(), "a failure states nothing");
        return Err(code);
    }
    let bytes = whole.expect(tag::context_constructed(0)).unwrap();
    let mut bytes = bytes.reader().only(tag::SEQUENCE).unwrap().reader();
    bytes.any().unwrap();
    let basic = bytes.expect(tag::OCTET_STRING).unwrap().value;
    let mut basic = Reader::new(basic).only(tag::SEQUENCE).unwrap().reader();
    let data = basic.expect(tag::SEQUENCE).unwrap();
    basic.any().unwrap();
    let signature = basic.any().unwrap().whole_bits().unwrap();
    let certificates = basic.any().unwrap().reader().only(tag::SEQUENCE).unwrap();
    let signer = CertificateDer::parse(certificates.value).unwrap();
    running.house.ca.check_issued(&signer).unwrap();
    let tbs = tlv::encode(tag::SEQUENCE, data.value);
    let scheme = SignatureScheme::EcdsaSha256;
    running.house.provider.verify(signer.spki(), scheme, &tbs, signature).unwrap();
    let mut data = data.reader();
    data.expect(tag::context_constructed(2)).unwrap();
    data.any().unwrap();
    let mut list = data.expect(tag::SEQUENCE).unwrap().reader();
    let mut statuses = Vec::new();
    while !list.is_empty() {
        let mut one = list.any().unwrap().reader();
        one.any().unwrap();
        statuses.push(one.any().unwrap().tag);
    }
    Ok(Said { statuses, nonce: !data.is_empty() })
}

async fn revoke(running: &Running, certificate: &CertificateDer) {
    let (ledger, now) = (running.gateway.ledger(), running.house.clock.now());
    let issuer = NameHash::of(certificate.issuer_der());
    let order = RevocationOrder {
        issuer,
        serial: certificate.serial().unwrap(),
        reason: RevocationReason::KeyCompromise,
        by: OrderedBy::Tenant(House::tenant()),
    };
    ledger.queue_revocation(order, now).await.unwrap();
    for job in ledger.next_revocations(issuer, 9, now).await.unwrap() {
        ledger.revocation_done(&job, now, now).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_kept_until_the_ledger_says_something_else() {
    let running = start().await;
    let certificate = running.granted(&running.house.enrolment(&device_key())).await;
    let asked = request(&[id(&running, &certificate.serial().unwrap())], None);
    let good = post(&running, &asked).await;
    let said = |statuses: &[u8]| Ok(Said { statuses: statuses.to_vec(), nonce: false });
    assert_eq!(read(&running, &good), said(&[GOOD]));
    // The very same octets: ECDSA would give others. By GET too.
    assert_eq!(post(&running, &asked).await, good);
    let escaped = base64(&asked).replace('+', "%2B").replace('/', "%2f").replace('=', "%3D");
    assert_eq!(answer(running.get(&format!("/ocsp/{escaped}")).await), good);
    let plain = base64(&asked);
    assert_eq!(answer(running.get(&format!("/ocsp/{plain}")).await), good);

    // At half of its validity there is a new one, and by a new signer from then on.
    serve_ocsp(&running);
    assert_eq!(post(&running, &asked).await, good);
    running.house.clock.advance(Duration::from_secs(1_800));
    let renewed = post(&running, &asked).await;
    assert_ne!(renewed, good);
    assert_eq!(read(&running, &renewed), said(&[GOOD]));

    // Stale-safe: not one answer more.
    revoke(&running, &certificate).await;
    let revoked = post(&running, &asked).await;
    assert_eq!(read(&running, &revoked), said(&[REVOKED]));
    assert_eq!(post(&running, &asked).await, revoked, "which is kept as well");
}

#[tokio::test(flavor = "multi_thread")]
async fn good_is_said_of_what_is_on_record_and_of_nothing_else() {
    let running = start().await;
    let certificate = running.granted(&running.house.enrolment(&device_key())).await;
    let ours = id(&running, &certificate.serial().unwrap());
    let strange = id(&running, &SerialNumber::from_random([9; 16]));
    let said = |statuses: &[u8], nonce| Ok(Said { statuses: statuses.to_vec(), nonce });
    let several = request(&[ours.clone(), strange.clone()], None);
    let several = post(&running, &several).await;
    assert_eq!(read(&running, &several), said(&[GOOD, UNKNOWN], false));
    let nonce = post(&running, &request(std::slice::from_ref(&ours), Some(b"once"))).await;
    assert_eq!(read(&running, &nonce), said(&[GOOD], true));
    assert!(nonce.windows(6).any(|w| w == [4, 4, b'o', b'n', b'c', b'e']), "the same nonce");
    // The CA's own certificates are not on record.
    let ra = running.house.ra.signing_certificate.serial().unwrap();
    let ra = post(&running, &request(&[id(&running, &ra)], None)).await;
    assert_eq!(read(&running, &ra), said(&[UNKNOWN], false));

    // Of another CA nothing is said, and nothing signed; not even about the one beside it.
    let other = {
        let mut der = ours.clone();
        let at = der.windows(2).position(|w| w == [tag::OCTET_STRING, 20]).unwrap();
        der[at + 2] ^= 1;
        der
    };
    for ids in [vec![other.clone()], vec![ours.clone(), other]] {
        assert_eq!(read(&running, &post(&running, &request(&ids, None)).await), Err(6));
    }
    for junk in [&b""[..], b"junk", &request(&vec![ours; 9], None)] {
        assert_eq!(read(&running, &post(&running, junk).await), Err(1));
    }
    assert_eq!(read(&running, &post(&running, &vec![0x30; 9_000]).await), Err(1));
    for path in ["/ocsp", "/ocsp/", "/ocsp/AAAA", "/ocsp/%zz"] {
        assert_eq!(read(&running, &answer(running.get(path).await)), Err(1), "{path}");
    }
    let put = running.raw(b"PUT /ocsp HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_eq!((put.status, put.header("allow")), (405, Some("GET, POST")));
    // Beside the path is SCEP.
    assert_eq!(running.get("/ocspx").await.status, running.get("/else").await.status);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_59_strangers_spend_a_budget_and_not_what_others_need() {
    let running = start().await;
    let certificate = running.granted(&running.house.enrolment(&device_key())).await;
    let ours = id(&running, &certificate.serial().unwrap());
    let mut refused = 0;
    for n in 0..80_u8 {
        let strange = id(&running, &SerialNumber::from_random([n; 16]));
        let der = post(&running, &request(&[strange], None)).await;
        match read(&running, &der) {
            Ok(said) => assert_eq!(said.statuses, [UNKNOWN]),
            Err(code) => {
                assert_eq!(code, 3, "tryLater");
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 80 - 64);
    // What exists is answered still; without the nonce, which would cost a signature each time.
    let nonce = request(std::slice::from_ref(&ours), Some(b"once"));
    let der = post(&running, &nonce).await;
    assert_eq!(read(&running, &der), Ok(Said { statuses: vec![GOOD], nonce: false }));
    assert_eq!(post(&running, &nonce).await, der);
    running.house.clock.advance(Duration::from_secs(1));
    let der = post(&running, &nonce).await;
    assert_eq!(read(&running, &der), Ok(Said { statuses: vec![GOOD], nonce: true }));
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_25_no_device_gets_a_certificate_for_the_responders_key() {
    let running = Running::start().await;
    let key = keys::rsa2048(3);
    let (house, name) = (&running.house, "CN=OCSP".parse().unwrap());
    let day = Duration::from_secs(86_400);
    let signer = house.ca.ocsp_signer(key.signer(), &name, day, OPENS).unwrap();
    running.gateway.main_authority().set_ocsp(OcspSettings::default(), signer).unwrap();
    running.refused(&house.enrolment(&key)).await;
}

#[tokio::test]
async fn nothing_is_served_unless_it_is_asked_for() {
    let running = Running::start().await;
    let elsewhere = running.get("/else").await;
    for path in ["/ocsp", "/ocsp/MAA=", "/certstore/certificates/search.cgi?iHash=x"] {
        assert_eq!(running.get(path).await.status, elsewhere.status, "{path}");
    }
}

/// The search key of RFC 4387: SHA-1, base64 without padding, escaped.
fn search_key(of: &[u8]) -> String {
    base64(&Sha1::digest(of)).trim_end_matches('=').replace('+', "%2B").replace('/', "%2F")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_store_has_the_cas_certificates_and_its_crl_and_no_devices() {
    let house = House::new();
    let ca = house.ca.clone();
    let local = move |parts: &mut scep_server::Parts| parts.main.ca = Arc::new(ca);
    let running = Running::start_in(house, tempfile::tempdir().unwrap(), local).await;
    running.gateway.set_certificate_store(StoreSettings::default());
    let device = running.granted(&running.house.enrolment(&device_key())).await;
    let root = running.house.ca.chain()[0].clone();
    let certificates = "/certstore/certificates/search.cgi";
    let crls = "/certstore/crls/search.cgi";
    let number = tlv::encode(tag::INTEGER, root.serial_content());
    let by_number = tlv::sequence(&[root.issuer_der(), &number]);
    for (attribute, of) in [
        ("certHash", root.as_der()),
        ("iHash", root.issuer_der()),
        ("iAndSHash", &by_number),
        ("sHash", root.subject_der()),
        ("sKIDHash", root.subject_key_id().unwrap()),
    ] {
        let http = running.get(&format!("{certificates}?{attribute}={}", search_key(of))).await;
        assert_eq!(http.status, 200, "{attribute}");
        assert_eq!(http.header("content-type"), Some("application/pkix-cert"));
        assert_eq!(http.body, root.as_der(), "{attribute}");
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    for (attribute, of) in
        [("iHash", root.subject_der()), ("sKIDHash", root.subject_key_id().unwrap())]
    {
        let http = loop {
            let http = running.get(&format!("{crls}?{attribute}={}", search_key(of))).await;
            if http.status != 503 {
                break http;
            }
            assert!(Instant::now() < deadline, "no CRL");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(http.header("content-type"), Some("application/pkix-crl"));
        assert_eq!(CrlDer::parse(&http.body).unwrap().issuer_der(), root.subject_der());
    }

    // A device's is not there, by nothing that is known of it.
    let device_number = tlv::encode(tag::INTEGER, device.serial_content());
    let device_by_number = tlv::sequence(&[device.issuer_der(), &device_number]);
    let hash = search_key(device.as_der());
    let root_hash = search_key(root.as_der());
    for (target, status) in [
        (format!("{certificates}?certHash={hash}"), 404),
        (format!("{certificates}?iAndSHash={}", search_key(&device_by_number)), 404),
        (format!("{certificates}?sHash={}", search_key(device.subject_der())), 404),
        (format!("{certificates}?name=device"), 404),
        (format!("{certificates}?uri=device.example.org"), 404),
        (format!("{crls}?certHash={root_hash}"), 404),
        (format!("{crls}?iHash={hash}"), 404),
        ("/certstore".into(), 404),
        (format!("/certstore/other?certHash={root_hash}"), 404),
        (certificates.into(), 400),
        (format!("{certificates}?certHash"), 400),
        (format!("{certificates}?certHash="), 400),
        (format!("{certificates}?certHash={root_hash}%3D"), 400),
        (format!("{certificates}?certHash={root_hash}&sHash={root_hash}"), 400),
        (format!("{certificates}?certHash=%27+or+1{}", "a".repeat(20)), 400),
        (format!("{certificates}?certHash={}", "a".repeat(200)), 400),
    ] {
        assert_eq!(running.get(&target).await.status, status, "{target}");
    }
    let post = running.post(&format!("{certificates}?certHash={root_hash}"), "", b"").await;
    assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD")));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_certificates_of_one_issuer_are_parts_of_one_answer() {
    let house = House::new();
    let (root, key) = (house.ca.chain()[0].clone(), SoftwareKey::generate(KeyAlgorithm::P256));
    let (key, name) = (key.unwrap(), "O=Example, CN=Sub".parse().unwrap());
    let day = Duration::from_secs(86_400);
    let sub = house.ca.issue_subordinate(key.public_key(), &name, day, OPENS).unwrap();
    let (settings, provider) = (LocalCaSettings::default(), house.provider.clone());
    let upper = vec![root.clone()];
    let ca = LocalCa::new(key.signer(), sub.clone(), upper, settings, provider).unwrap();
    let change = move |parts: &mut scep_server::Parts| parts.main.ca = Arc::new(ca);
    let running = Running::start_in(house, tempfile::tempdir().unwrap(), change).await;
    running.gateway.set_certificate_store(StoreSettings { path: "/pki".into() });
    let by = |attribute: &str, of: &[u8]| {
        format!("/pki/certificates/search.cgi?{attribute}={}", search_key(of))
    };
    let http = running.get(&by("iHash", root.subject_der())).await;
    let (kind, boundary) = http.header("content-type").unwrap().split_once("; boundary=").unwrap();
    assert_eq!((http.status, kind), (200, "multipart/mixed"));
    let head = format!("--{boundary}\r\nContent-Type: application/pkix-cert\r\n\r\n").into_bytes();
    let end = format!("\r\n--{boundary}--\r\n").into_bytes();
    let parts = [&head, sub.as_der(), b"\r\n", &head[..], root.as_der(), &end].concat();
    assert_eq!(http.body, parts);
    let one = running.get(&by("sHash", root.subject_der())).await;
    assert_eq!(
        (one.header("content-type"), one.body.as_slice()),
        (Some("application/pkix-cert"), root.as_der())
    );
}
