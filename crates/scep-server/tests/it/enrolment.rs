//! What is issued, what is repeated, what is refused.

use crate::support::{Running, device_key, other_key};
use scep_message::client::Reply;
use scep_message::{FailInfo, MessageType};
use scep_server::{Outcome, Stage};
use scep_testkit::House;
use scep_testkit::house::{device_certificate, sign_csr};
use scep_types::{DistinguishedName, GeneralName, Reason, RsaPadding, StringRules};

#[tokio::test]
async fn a_request_that_matches_is_granted_and_traced() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let csr = House::csr(&claims, &running.house.seal(&claims));
    let sent = running.house.send(&sign_csr(&csr, &device_key()), &device_key());
    let certificate = running.granted(&sent).await;
    let subject =
        DistinguishedName::from_der(certificate.subject_der(), StringRules::Strict).unwrap();
    assert_eq!(subject, claims.expectation.subject);
    assert_eq!(certificate.spki(), device_key().public_key());
    let trace = running.traces.last();
    assert_eq!((trace.stage, trace.outcome), (Stage::Answered, Outcome::Issued));
    assert_eq!(trace.device, Some(claims.device));
    assert_eq!(trace.serial, certificate.serial().map(|s| s.to_string()));
}

#[tokio::test]
async fn quirk_50_a_lost_reply_comes_back_with_another_transaction_and_gets_the_same_certificate() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &device_key());
    let first = running.granted(&running.house.send(&csr, &device_key())).await;
    // The challenge has expired meanwhile; the retry has not.
    running.house.clock.advance(std::time::Duration::from_secs(23 * 3600));
    let again = running.granted(&running.house.send(&csr, &device_key())).await;
    assert_eq!(first, again);
    assert_eq!(running.ca.calls().len(), 1);
    assert_eq!(running.traces.last().outcome, Outcome::Repeated);
    running.house.clock.advance(std::time::Duration::from_secs(2 * 3600));
    let late = running.refused(&running.house.send(&csr, &device_key())).await;
    assert_eq!(late, Reason::ChallengeExpired);
}

#[tokio::test]
async fn attack_07_the_same_challenge_with_another_key_is_refused() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let csr = House::csr(&claims, &running.house.seal(&claims));
    running.granted(&running.house.send(&sign_csr(&csr, &device_key()), &device_key())).await;
    let stolen = running.house.send(&sign_csr(&csr, &other_key()), &other_key());
    assert_eq!(running.refused(&stolen).await, Reason::ChallengeAlreadyUsed);
    let events = running.gateway_outbox().await;
    assert!(events.iter().any(|kind| kind == "breach"), "{events:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_08_quirk_55_64_equal_requests_at_once_get_one_certificate() {
    let running = std::sync::Arc::new(Running::start().await);
    let claims = running.house.claims();
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &device_key());
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let running = running.clone();
            let sent = running.house.send(&csr, &device_key());
            tokio::spawn(async move { running.granted(&sent).await })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.push(task.await.unwrap());
    }
    assert_eq!(running.ca.calls().len(), 1);
    assert!(all.iter().all(|certificate| *certificate == all[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_08_many_keys_with_one_challenge_at_once_get_one_certificate() {
    let running = std::sync::Arc::new(Running::start().await);
    let claims = running.house.claims();
    let blob = running.house.seal(&claims);
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let running = running.clone();
            // Another CertificationRequestInfo each time: the key differs, or an inert attribute does.
            let mut csr = House::csr(&claims, &blob);
            csr.attributes.push(friendly_name(n));
            let key = if n % 2 == 0 { device_key() } else { other_key() };
            let sent = running.house.send(&sign_csr(&csr, &key), &key);
            tokio::spawn(async move { running.ask(&sent).await })
        })
        .collect();
    let mut granted = 0;
    for task in tasks {
        if matches!(task.await.unwrap(), Reply::Success(_)) {
            granted += 1;
        }
    }
    assert_eq!((granted, running.ca.calls().len()), (1, 1));
}

/// friendlyName with a number: inert, and different each time.
fn friendly_name(n: u8) -> Vec<u8> {
    use scep_types::tlv::{self, tag};
    let oid = scep_types::ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.20");
    let value = tlv::encode(tag::BMP_STRING, &[0, b'a' + n]);
    tlv::sequence(&[&tlv::oid(&oid), &tlv::encode(tag::SET, &value)])
}

#[tokio::test]
async fn attack_10_a_refused_request_spends_nothing_and_ten_lock_the_challenge() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let blob = running.house.seal(&claims);
    let good = House::csr(&claims, &blob);
    let mut bad = House::csr(&claims, &blob);
    bad.subject = "CN=administrator".parse().unwrap();
    for _ in 0..9 {
        let sent = running.house.send(&sign_csr(&bad, &device_key()), &device_key());
        assert_eq!(running.refused(&sent).await, Reason::SubjectNameMismatch);
    }
    running.granted(&running.house.send(&sign_csr(&good, &device_key()), &device_key())).await;

    let claims = running.house.claims();
    let blob = running.house.seal(&claims);
    let mut bad = House::csr(&claims, &blob);
    bad.subject = "CN=administrator".parse().unwrap();
    for _ in 0..10 {
        let sent = running.house.send(&sign_csr(&bad, &other_key()), &other_key());
        assert_eq!(running.refused(&sent).await, Reason::SubjectNameMismatch);
    }
    let good = House::csr(&claims, &blob);
    let sent = running.house.send(&sign_csr(&good, &other_key()), &other_key());
    assert_eq!(running.refused(&sent).await, Reason::ChallengeLocked);
}

#[tokio::test]
async fn attack_02_message_types_that_are_not_served_reach_no_ca() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &device_key());
    let signer = device_certificate(&device_key());
    for number in (0..=255_u32).filter(|n| !matches!(n, 17 | 19)) {
        let kind = MessageType::from_number(number);
        let sent = running.house.send_as(&csr, &device_key(), &signer, kind, RsaPadding::Pkcs1v15);
        match running.ask(&sent).await {
            Reply::Failure { fail_info, .. } => {
                // A poll for nothing, and queries for nothing: whatever is in them.
                let expected = match number {
                    20..=22 => FailInfo::BadCertId,
                    _ => FailInfo::BadRequest,
                };
                assert_eq!(fail_info, expected, "{number}");
            }
            other => panic!("{number}: {other:?}"),
        }
    }
    assert_eq!(running.ca.calls().len(), 0);
}

#[tokio::test]
async fn attack_04_no_challenge_and_a_blank_one_are_refused_alike() {
    let running = Running::start().await;
    let claims = running.house.claims();
    for challenge in [None, Some(""), Some("   "), Some("\0")] {
        let mut csr = House::csr(&claims, "");
        csr.challenge_password = challenge.map(|text| scep_types::Secret::new(text.to_owned()));
        let sent = running.house.send(&sign_csr(&csr, &device_key()), &device_key());
        assert_eq!(running.refused(&sent).await, Reason::ChallengePasswordMissing, "{challenge:?}");
    }
}

#[tokio::test]
async fn attack_05_no_other_credential_is_consulted() {
    let running = Running::start().await;
    let claims = running.house.claims();
    for (challenge, reason) in [
        ("secret", Reason::ChallengeDecodingError),
        ("a.b.c", Reason::ChallengeDecodingError),
        ("MIIB", Reason::ChallengeDecodingError),
    ] {
        let csr = House::csr(&claims, challenge);
        let sent = running.house.send(&sign_csr(&csr, &device_key()), &device_key());
        assert_eq!(running.refused(&sent).await, reason, "{challenge}");
    }
}

#[tokio::test]
async fn attack_09_a_lifted_envelope_signed_anew_gets_no_answer_where_the_signer_counts() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &device_key());
    let thief = device_certificate(&other_key());
    let lifted = || {
        running.house.send_as(
            &csr,
            &other_key(),
            &thief,
            MessageType::PkcsReq,
            RsaPadding::Pkcs1v15,
        )
    };
    assert_eq!(running.refused(&lifted()).await, Reason::SignerNotAllowed);
    // Nor after the device has its certificate.
    running.granted(&running.house.send(&csr, &device_key())).await;
    assert_eq!(running.refused(&lifted()).await, Reason::SignerNotAllowed);
}

#[tokio::test]
async fn quirk_27_windows_signs_with_a_throw_away_key_where_the_endpoint_says_so() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &device_key());
    let throw_away = device_certificate(&other_key());
    let oaep = RsaPadding::Oaep(scep_types::OaepHash::Sha1);
    let sent = running.house.send_as(&csr, &other_key(), &throw_away, MessageType::PkcsReq, oaep);
    let reply = running.ask_at("/certsrv/mscep/mscep.dll/pkiclient.exe", &sent).await;
    let Reply::Success(certificates) = reply else { panic!("{reply:?}") };
    assert_eq!(certificates[0].spki(), device_key().public_key());
    let entry = running.inventory().await.remove(0);
    assert_eq!(entry.signer, other_key().public_key().hash());
}

#[tokio::test]
async fn a_renewal_is_signed_with_the_live_certificate_and_needs_a_fresh_challenge() {
    let running = Running::start().await;
    let first_claims = running.house.claims();
    let blob = running.house.seal(&first_claims);
    let csr = sign_csr(&House::csr(&first_claims, &blob), &device_key());
    let old = running.granted(&running.house.send(&csr, &device_key())).await;

    let mut claims = running.house.claims();
    claims.device = first_claims.device.clone();
    claims.expectation = first_claims.expectation.clone();
    let renewal = |blob: &str, kind| {
        let csr = sign_csr(&House::csr(&claims, blob), &other_key());
        running.house.send_as(&csr, &device_key(), &old, kind, RsaPadding::Pkcs1v15)
    };
    // quirk_52: the old challenge with the new key is a reuse.
    let sent = renewal(&blob, MessageType::PkcsReq);
    assert_eq!(running.refused(&sent).await, Reason::ChallengeAlreadyUsed);
    let new =
        running.granted(&renewal(&running.house.seal(&claims), MessageType::RenewalReq)).await;
    assert_eq!(new.spki(), other_key().public_key());
    assert_ne!(new, old);
}

#[tokio::test]
async fn attack_03_a_renewal_without_a_challenge_or_for_another_device_is_refused() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &device_key());
    let old = running.granted(&running.house.send(&csr, &device_key())).await;
    let mut bare = House::csr(&claims, "");
    bare.challenge_password = None;
    let renew = |csr: &[u8]| {
        let kind = MessageType::RenewalReq;
        running.house.send_as(csr, &device_key(), &old, kind, RsaPadding::Pkcs1v15)
    };
    let sent = renew(&sign_csr(&bare, &other_key()));
    assert_eq!(running.refused(&sent).await, Reason::ChallengePasswordMissing);
    // A good challenge of another device, signed with this device's certificate.
    let other = running.house.claims();
    let csr = sign_csr(&House::csr(&other, &running.house.seal(&other)), &other_key());
    assert_eq!(running.refused(&renew(&csr)).await, Reason::SignerNotAllowed);
}

#[tokio::test]
async fn attack_44_a_key_that_is_certified_for_another_device_is_refused() {
    let running = Running::start().await;
    running.granted(&running.house.enrolment(&device_key())).await;
    let again = running.house.enrolment(&device_key());
    assert_eq!(running.refused(&again).await, Reason::KeyAlreadyCertified);
}

#[tokio::test]
async fn attack_25_a_key_of_the_system_is_refused() {
    let running = Running::start().await;
    // The RA's own encryption key as a device's.
    let sent = running.house.enrolment(&scep_testkit::keys::rsa2048(1));
    assert_eq!(running.refused(&sent).await, Reason::WeakKey);
}

#[tokio::test]
async fn attack_22_whatever_is_wrong_inside_the_envelope_is_answered_alike() {
    let running = Running::start().await;
    let signer = device_certificate(&device_key());
    let send = |data: &[u8]| {
        running.house.send_as(
            data,
            &device_key(),
            &signer,
            MessageType::PkcsReq,
            RsaPadding::Pkcs1v15,
        )
    };
    let claims = running.house.claims();
    let good = House::csr(&claims, &running.house.seal(&claims));
    // Proof of possession fails: one bit of the request's signature.
    let mut unproven = sign_csr(&good, &device_key());
    *unproven.last_mut().unwrap() ^= 1;
    // A key of the system, and two sources of extensions.
    let weak = sign_csr(&good, &scep_testkit::keys::rsa2048(1));
    let mut twice = House::csr(&claims, "x");
    twice.attributes.push(second_extension_request());
    let twice = sign_csr(&twice, &device_key());
    let mut answers = Vec::new();
    let mut reasons = Vec::new();
    let inside = [b"garbage".to_vec(), vec![0x30, 0x03, 0x02, 0x01, 0x00], vec![0; 300]];
    for data in inside.into_iter().chain([unproven, weak, twice]) {
        let reply = running.ask(&send(&data)).await;
        let Reply::Failure { fail_info, text } = reply else { panic!("{reply:?}") };
        let text = text.unwrap();
        answers.push((fail_info, text.split(" (ref").next().unwrap().to_owned()));
        reasons.push(running.traces.last().reason.unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(answers[0].0, FailInfo::BadMessageCheck);
    // The operator sees which it was.
    assert_eq!(
        reasons[3..],
        [Reason::ProofOfPossessionFailed, Reason::WeakKey, Reason::ExtensionNotAllowed]
    );
    assert_eq!(running.ca.calls().len(), 0);
}

/// An extensionRequest beside the builder's own.
fn second_extension_request() -> Vec<u8> {
    use scep_types::tlv::{self, tag};
    let oid = scep_types::ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");
    tlv::sequence(&[&tlv::oid(&oid), &tlv::encode(tag::SET, &tlv::sequence(&[]))])
}

#[tokio::test]
async fn attack_31_every_reason_is_in_the_trace_and_none_in_the_answer() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let mut csr = House::csr(&claims, &running.house.seal(&claims));
    csr.subject = "CN=administrator".parse().unwrap();
    csr.subject_alt_names.push(GeneralName::dns("dc.example.org").unwrap());
    let sent = running.house.send(&sign_csr(&csr, &device_key()), &device_key());
    let reply = running.ask(&sent).await;
    let Reply::Failure { text: Some(text), .. } = reply else { panic!("{reply:?}") };
    assert!(text.starts_with("the request differs from its challenge (ref "), "{text}");
    let trace = running.traces.last();
    assert!(text.contains(&trace.reference));
    let reasons: Vec<_> = trace.fields.iter().filter_map(|field| field.reason).collect();
    assert!(reasons.contains(&Reason::SubjectNameMismatch), "{reasons:?}");
    assert!(reasons.contains(&Reason::SubjectAltNameMismatch), "{reasons:?}");
}

#[tokio::test]
async fn attack_17_each_party_of_the_challenge_is_checked() {
    let running = Running::start().await;
    let base = || running.house.claims();
    let cases = [
        (Reason::BadTenantIdInChallenge, {
            let mut claims = base();
            claims.tenant = scep_types::TenantId::new("fabrikam").unwrap();
            claims
        }),
        (Reason::BadAudienceInChallenge, {
            let mut claims = base();
            claims.audience = scep_types::GatewayGroupId::new("elsewhere").unwrap();
            claims
        }),
        (Reason::ChallengeInvalidTimestamp, {
            let mut claims = base();
            claims.expires_at = claims.issued_at.plus(std::time::Duration::from_secs(2 * 3600));
            claims
        }),
    ];
    for (reason, claims) in cases {
        let csr = House::csr(&claims, &running.house.seal(&claims));
        let sent = running.house.send(&sign_csr(&csr, &device_key()), &device_key());
        assert_eq!(running.refused(&sent).await, reason);
    }
}

#[tokio::test]
async fn a_disabled_device_is_refused_at_once_and_its_retries_too() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let mut denials = scep_policy::Denials::default();
    denials.devices.insert((claims.tenant.clone(), claims.device.clone()));
    running.gateway.set_denials(denials);
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &device_key());
    let sent = running.house.send(&csr, &device_key());
    assert_eq!(running.refused(&sent).await, Reason::ScepProfileNoLongerTargetedToTheClient);
    running.gateway.set_denials(scep_policy::Denials::default());
    running.granted(&running.house.send(&csr, &device_key())).await;
}

impl Running {
    /// The kinds of the events in the outbox.
    async fn gateway_outbox(&self) -> Vec<String> {
        let ledger = self.gateway.ledger();
        let events = ledger.outbox(0, 100).await.unwrap();
        events.into_iter().map(|event| event.kind.to_string()).collect()
    }

    async fn inventory(&self) -> Vec<scep_ledger::InventoryEntry> {
        self.gateway.ledger().inventory(10, None).await.unwrap()
    }
}
