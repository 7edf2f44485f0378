//! Whole transactions as devices go about them: what they fetch first, how they renew, how they try again.

use crate::attacks_message::{Message, cert_rep, oid, printable};
use crate::support::{Running, base64, device_key, other_key};
use scep_challenge::ChallengeClaims;
use scep_message::MessageType;
use scep_message::client::Reply;
use scep_server::Outcome;
use scep_testkit::House;
use scep_testkit::device::{TestExtension, self_signed};
use scep_testkit::house::{OPENS, Sent, sign_csr};
use scep_types::{CertificateDer, Reason, RsaPadding};

const PKI_STATUS: &str = "2.16.840.1.113733.1.9.3";
const DAY: core::time::Duration = core::time::Duration::from_secs(86_400);

#[tokio::test]
async fn quirk_12_a_device_that_stops_after_getcacert_is_seen_to() {
    let running = Running::start().await;
    running.get("/scep?operation=GetCACaps").await;
    running.get("/scep?operation=GetCACert").await;
    let traces = running.traces.all();
    let steps: Vec<_> = traces.iter().map(|trace| (trace.operation, trace.outcome)).collect();
    assert_eq!(steps, [("GetCACaps", Outcome::Served), ("GetCACert", Outcome::Served)]);
    assert!(traces.iter().all(|trace| trace.peer.is_some_and(|peer| peer.is_loopback())));
    let metrics = running.admin("/metrics").await.text();
    for (operation, count) in [("GetCACaps", 1), ("GetCACert", 1), ("PKIOperation", 0)] {
        let label = format!("operation=\"{operation}\"");
        let requests = metrics
            .lines()
            .filter(|line| line.contains("requests_total{") && line.contains(&label))
            .count();
        assert_eq!(requests, count, "{operation}\n{metrics}");
    }
}

#[tokio::test]
async fn quirk_14_a_get_of_31_kb_and_more_is_granted() {
    let running = Running::start().await;
    let mut message = Message::good(&running);
    // Other certificates of the device make a message as long as one likes.
    let name = "CN=the device before".parse().unwrap();
    let padding =
        TestExtension { oid: oid("1.3.6.1.4.1.5"), critical: false, value: vec![0; 26_000] };
    message.certificates.push(self_signed(&other_key(), &name, OPENS, OPENS.plus(DAY), &[padding]));
    let text = base64(&message.encode()).replace('+', "%2B").replace('/', "%2F");
    assert!((31 << 10..64 << 10).contains(&text.len()), "{}", text.len());
    let http = running.get(&format!("/scep?operation=PKIOperation&message={text}")).await;
    assert_eq!(http.status, 200, "{:?}", running.traces.last());
    let status = cert_rep(&running, &http.body).attribute(&oid(PKI_STATUS)).unwrap().to_vec();
    assert_eq!(status, printable("0"), "{:?}", running.traces.last());
}

/// A device with a certificate, and what its next challenge allows.
async fn with_certificate(running: &Running) -> (CertificateDer, String, ChallengeClaims) {
    let first = running.house.claims();
    let blob = running.house.seal(&first);
    let csr = sign_csr(&House::csr(&first, &blob), &device_key());
    let old = running.granted(&running.house.send(&csr, &device_key())).await;
    let mut next = running.house.claims();
    next.device = first.device;
    next.expectation = first.expectation;
    (old, blob, next)
}

/// A new key's request, in a message that the old certificate signs.
fn renewal(
    running: &Running,
    (old, claims): (&CertificateDer, &ChallengeClaims),
    challenge: Option<&str>,
    kind: MessageType,
) -> Sent {
    let mut csr = House::csr(claims, challenge.unwrap_or_default());
    if challenge.is_none() {
        csr.challenge_password = None;
    }
    let csr = sign_csr(&csr, &other_key());
    running.house.send_as(&csr, &device_key(), old, kind, RsaPadding::Pkcs1v15)
}

#[tokio::test]
async fn quirk_52_a_pkcs_req_signed_by_the_old_certificate_renews_with_a_fresh_challenge_only() {
    let running = Running::start().await;
    let (old, used, claims) = with_certificate(&running).await;
    let renew = |challenge: Option<&str>| {
        renewal(&running, (&old, &claims), challenge, MessageType::PkcsReq)
    };
    for absent in [None, Some(""), Some("  ")] {
        let sent = renew(absent);
        assert_eq!(running.refused(&sent).await, Reason::ChallengePasswordMissing, "{absent:?}");
    }
    // The one of the first enrolment.
    assert_eq!(running.refused(&renew(Some(&used))).await, Reason::ChallengeAlreadyUsed);
    let new = running.granted(&renew(Some(&running.house.seal(&claims)))).await;
    assert_eq!(new.spki(), other_key().public_key());
}

#[tokio::test]
async fn quirk_53_a_renewal_req_without_a_challenge_is_told_what_is_missing() {
    let running = Running::start().await;
    let (old, _, claims) = with_certificate(&running).await;
    let sent = renewal(&running, (&old, &claims), None, MessageType::RenewalReq);
    let Reply::Failure { text, .. } = running.ask(&sent).await else { panic!("not refused") };
    assert!(text.unwrap().starts_with("challengePassword missing"));
    assert_eq!(running.ca.calls().len(), 1);
}

#[tokio::test]
async fn quirk_54_several_rounds_of_one_request_get_one_certificate() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &device_key());
    let mut certificates = Vec::new();
    for _ in 0..3 {
        for operation in ["GetCACaps", "GetCACert"] {
            assert_eq!(running.get(&format!("/scep?operation={operation}")).await.status, 200);
        }
        // Windows makes the message anew each time; a proxy repeats its octets.
        let sent = running.house.send(&csr, &device_key());
        for _ in 0..3 {
            certificates.push(running.granted(&sent).await);
        }
        running.house.clock.advance(core::time::Duration::from_secs(600));
    }
    assert_eq!(certificates.len(), 9);
    assert!(certificates.iter().all(|one| *one == certificates[0]));
    assert_eq!(running.ca.calls().len(), 1);
    let outcomes: Vec<Outcome> = running
        .traces
        .all()
        .iter()
        .filter(|trace| trace.operation == "PKIOperation")
        .map(|trace| trace.outcome)
        .collect();
    assert_eq!(outcomes[0], Outcome::Issued);
    assert!(outcomes[1..].iter().all(|outcome| *outcome == Outcome::Repeated), "{outcomes:?}");
}
