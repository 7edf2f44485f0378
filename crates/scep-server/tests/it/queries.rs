//! GetCert and GetCRL: what is nobody's secret, and what is one device's.

use crate::support::{Running, device_key, other_key};
use core::time::Duration;
use scep_ca::{LocalCa, LocalCaSettings};
use scep_keys::SoftwareKey;
use scep_ledger::{OrderedBy, QueueOutcome, RevocationOrder, RevocationReason};
use scep_message::client::{Reply, issuer_and_serial};
use scep_message::{FailInfo, MessageType};
use scep_server::{Authority, CrlSettings, Outcome, ServerLimits, Stage};
use scep_testkit::ca::{Alteration, AlteringCa};
use scep_testkit::house::{House, OPENS, Sent, device_certificate, ra_identity, sign_csr};
use scep_testkit::keys;
use scep_types::tlv::tag;
use scep_types::{AuthorityName, CertificateDer, CrlDer, NameHash, Reason, RsaPadding};
use std::sync::Arc;

/// A query by a key with this certificate.
fn query(
    running: &Running,
    kind: MessageType,
    (issuer, serial): (&[u8], &[u8]),
    key: &SoftwareKey,
    signer: &CertificateDer,
) -> Sent {
    let data = issuer_and_serial(issuer, serial);
    running.house.send_as(&data, key, signer, kind, RsaPadding::Pkcs1v15)
}

/// How a certificate is named.
fn named(certificate: &CertificateDer) -> (&[u8], &[u8]) {
    (certificate.issuer_der(), certificate.serial_content())
}

/// The certificate that a GetCert gets, or the text of its refusal without the reference.
async fn get(
    running: &Running,
    which: (&[u8], &[u8]),
    key: &SoftwareKey,
    signer: &CertificateDer,
) -> Result<CertificateDer, String> {
    let calls = running.ca.calls().len();
    let reply = running.ask(&query(running, MessageType::GetCert, which, key, signer)).await;
    assert_eq!(running.ca.calls().len(), calls, "the CA was asked");
    match reply {
        Reply::Success(mut certificates) => {
            assert_eq!(certificates.len(), 1);
            assert_eq!(running.traces.last().outcome, Outcome::Served);
            Ok(certificates.remove(0))
        }
        Reply::Failure { fail_info, text } => {
            assert_eq!(fail_info, FailInfo::BadCertId);
            assert_eq!(running.traces.last().reason, Some(Reason::NoSuchCertificate));
            let text = text.unwrap();
            Err(text.split_once(" (ref ").unwrap().0.to_owned())
        }
        other => panic!("{other:?}"),
    }
}

/// An enrolment of the same device as another's.
fn enrolment_of(house: &House, device: &str, key: &SoftwareKey) -> Sent {
    let mut claims = house.claims();
    claims.device = device.parse().unwrap();
    let csr = House::csr(&claims, &house.seal(&claims));
    house.send(&sign_csr(&csr, key), key)
}

fn generate() -> SoftwareKey {
    SoftwareKey::generate(scep_types::KeyAlgorithm::Rsa(2048)).unwrap()
}

#[tokio::test]
async fn the_certificates_of_ca_and_ra_are_for_everybody() {
    let running = Running::start().await;
    let (key, signer) = (device_key(), device_certificate(&device_key()));
    let root = scep_ca::CertificateAuthority::chain(&running.house.ca)[0].clone();
    let ra = running.house.ra.signing_certificate.clone();
    for one in [&root, &ra, &running.house.ra.recipients[0].certificate] {
        assert_eq!(get(&running, named(one), &key, &signer).await.as_ref(), Ok(one));
    }
    assert_eq!(running.traces.last().stage, Stage::Read);
}

#[tokio::test]
async fn quirk_21_the_issuer_of_a_query_may_be_encoded_otherwise() {
    let running = Running::start().await;
    let (key, signer) = (device_key(), device_certificate(&device_key()));
    let own = running.granted(&running.house.enrolment(&key)).await;
    let value = [&[tag::UTF8_STRING, 7][..], b"Test CA"].concat();
    let mut issuer = own.issuer_der().to_vec();
    let at = issuer.windows(value.len()).position(|w| w == value).unwrap();
    issuer[at] = tag::PRINTABLE_STRING;
    let root = scep_ca::CertificateAuthority::chain(&running.house.ca)[0].clone();
    for one in [&root, &own] {
        let which = (&issuer[..], one.serial_content());
        assert_eq!(get(&running, which, &key, &signer).await.as_ref(), Ok(one));
    }
    // Another name is another CA.
    issuer[at + 2] = b't';
    get(&running, (&issuer, own.serial_content()), &key, &signer).await.unwrap_err();
}

#[tokio::test]
async fn a_devices_certificate_is_for_the_device_and_serial_numbers_are_not_to_be_probed() {
    let running = Running::start().await;
    let house = &running.house;
    let (key, second) = (device_key(), generate());
    let cert = running.granted(&enrolment_of(house, "a", &key)).await;
    let of_the_same = running.granted(&enrolment_of(house, "a", &second)).await;
    let of_another = running.granted(&enrolment_of(house, "b", &other_key())).await;

    // By itself, by its key, by another live certificate of its device.
    for (key, signer) in [(&key, &cert), (&key, &device_certificate(&key)), (&second, &of_the_same)]
    {
        assert_eq!(get(&running, named(&cert), key, signer).await.as_ref(), Ok(&cert));
    }

    // By nobody else, and that it exists is not to be seen.
    let stranger = generate();
    let known = get(&running, named(&cert), &stranger, &device_certificate(&stranger)).await;
    let other = get(&running, named(&cert), &other_key(), &of_another).await;
    let mut serial = cert.serial_content().to_vec();
    *serial.last_mut().unwrap() ^= 1;
    let unknown = get(&running, (cert.issuer_der(), &serial), &other_key(), &of_another).await;
    let elsewhere = get(&running, (cert.subject_der(), &serial), &key, &cert).await;
    // Nor are numbers that no certificate can have.
    let odd = get(&running, (cert.issuer_der(), &[0x80; 40]), &key, &cert).await;
    for refused in [known, other, unknown, elsewhere, odd] {
        assert_eq!(refused, Err("no such certificate".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_asks_for_no_other_one() {
    let (running, _) = start_with_crls().await;
    let house = &running.house;
    let (key, second) = (device_key(), generate());
    let cert = running.granted(&enrolment_of(house, "a", &key)).await;
    let revoked = running.granted(&enrolment_of(house, "a", &second)).await;
    get(&running, named(&cert), &second, &revoked).await.unwrap();
    let order = RevocationOrder {
        issuer: NameHash::of(revoked.issuer_der()),
        serial: revoked.serial().unwrap(),
        reason: RevocationReason::KeyCompromise,
        by: OrderedBy::Tenant(House::tenant()),
    };
    let queued = running.gateway.ledger().queue_revocation(order, OPENS).await;
    assert_eq!(queued, Ok(QueueOutcome::Queued));
    running.gateway.revoke_pending().await.unwrap();
    get(&running, named(&cert), &second, &revoked).await.unwrap_err();
    // Its own it has already.
    get(&running, named(&revoked), &second, &revoked).await.unwrap();
    get(&running, named(&revoked), &key, &cert).await.unwrap();
}

#[tokio::test]
async fn attack_46_a_withheld_certificate_is_not_to_be_had_by_its_number() {
    let house = House::new();
    let (signer, other) = (keys::p256(0).signer(), keys::p256(3).public_key().clone());
    let ca = AlteringCa::new(house.ca.clone(), signer, other, Alteration::ExtraAltName);
    let running = Running::start_in(house, tempfile::tempdir().unwrap(), |parts| {
        parts.main.ca = Arc::new(ca);
    })
    .await;
    let key = device_key();
    let reply = running.ask(&running.house.enrolment(&key)).await;
    assert!(matches!(reply, Reply::Failure { .. }), "{reply:?}");
    let on_record = running.gateway.ledger().inventory(9, None).await.unwrap();
    let [entry] = &on_record[..] else { panic!("{on_record:?}") };
    let withheld = &entry.certificate;
    get(&running, named(withheld), &key, &device_certificate(&key)).await.unwrap_err();
    get(&running, named(withheld), &key, withheld).await.unwrap_err();
}

/// With a CA that revokes, and another one beside it.
async fn start_with_crls() -> (Running, LocalCa) {
    let house = House::new();
    let second = second_ca(&house, "CN=Second CA");
    let (ca, other) = (house.ca.clone(), second.clone());
    let ra = ra_identity(&second, &generate(), &generate());
    let running = Running::start_in(house, tempfile::tempdir().unwrap(), move |parts| {
        parts.main.ca = Arc::new(ca);
        parts.more.push(Authority {
            name: "second".parse::<AuthorityName>().unwrap(),
            ca: Arc::new(other),
            ra,
            crl: CrlSettings { path: "/crl2".into(), ..CrlSettings::default() },
            follows: None,
        });
    })
    .await;
    (running, second)
}

/// A second CA.
pub(crate) fn second_ca(house: &House, name: &str) -> LocalCa {
    let key = SoftwareKey::generate(scep_types::KeyAlgorithm::P256).unwrap();
    let (name, life) = (name.parse().unwrap(), Duration::from_secs(3_650 * 86_400));
    let opens = OPENS.minus(Duration::from_secs(86_400));
    let root =
        LocalCa::self_signed_root(&*key.signer(), &name, life, opens, &*house.provider).unwrap();
    let settings = LocalCaSettings::default();
    LocalCa::new(key.signer(), root, Vec::new(), settings, Arc::clone(&house.provider)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn get_crl_gives_the_present_crl_of_the_issuer_that_is_named() {
    let (running, second) = start_with_crls().await;
    let (key, signer) = (device_key(), device_certificate(&device_key()));
    running.gateway.revoke_pending().await.unwrap();
    let root = scep_ca::CertificateAuthority::chain(&running.house.ca)[0].clone();
    let second = scep_ca::CertificateAuthority::chain(&second)[0].clone();
    for (ca, path) in [(&root, "/crl"), (&second, "/crl2")] {
        // Whatever the serial number is: none can be probed.
        for serial in [ca.serial_content(), &[7]] {
            let which = (ca.subject_der(), serial);
            let sent = query(&running, MessageType::GetCrl, which, &key, &signer);
            let reply = running.ask(&sent).await;
            let Reply::Crls(crls) = reply else { panic!("{reply:?}") };
            assert_eq!(crls.len(), 1);
            assert_eq!(CrlDer::parse(&crls[0]).unwrap().issuer_der(), ca.subject_der());
            assert_eq!(running.get(path).await.body, crls[0]);
        }
    }
    let sent = query(&running, MessageType::GetCrl, (signer.issuer_der(), &[7]), &key, &signer);
    assert_eq!(running.refused(&sent).await, Reason::NoSuchCertificate);
}

#[tokio::test]
async fn get_crl_is_refused_where_the_ca_has_none() {
    // The recording CA does not revoke.
    let running = Running::start().await;
    let (key, signer) = (device_key(), device_certificate(&device_key()));
    let root = scep_ca::CertificateAuthority::chain(&running.house.ca)[0].clone();
    let sent = query(&running, MessageType::GetCrl, named(&root), &key, &signer);
    let reply = running.ask(&sent).await;
    assert!(matches!(reply, Reply::Failure { fail_info: FailInfo::BadCertId, .. }), "{reply:?}");
    assert_eq!(running.traces.last().reason, Some(Reason::NoSuchCertificate));
}

#[tokio::test]
async fn attack_59_queries_have_a_budget_and_enrolments_do_not_share_it() {
    let running = Running::start_with(|parts| {
        parts.limits = ServerLimits { queries: 2, ..parts.limits };
    })
    .await;
    let (key, signer) = (device_key(), device_certificate(&device_key()));
    let root = scep_ca::CertificateAuthority::chain(&running.house.ca)[0].clone();
    let ask = async || {
        let sent = query(&running, MessageType::GetCert, named(&root), &key, &signer);
        running.post("/scep?operation=PKIOperation", "", &sent.bytes).await
    };
    // The clock stands still: this is one second.
    assert_eq!((ask().await.status, ask().await.status), (200, 200));
    let http = ask().await;
    assert_eq!((http.status, http.header("retry-after")), (503, Some("5")));
    let trace = running.traces.last();
    assert_eq!((trace.reason, trace.stage), (Some(Reason::RateExceeded), Stage::Verified));
    running.granted(&running.house.enrolment(&device_key())).await;
    running.house.clock.advance(Duration::from_secs(1));
    assert_eq!(ask().await.status, 200);
}
