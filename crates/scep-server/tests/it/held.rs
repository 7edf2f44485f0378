//! Requests that wait: for a person, or for a CA that decides later; and the polls of their devices.

use crate::queries::second_ca;
use crate::support::{Http, Running, device_key, other_key};
use core::time::Duration;
use scep_challenge::{ApprovalMode, ChallengeClaims};
use scep_keys::SoftwareKey;
use scep_ledger::{HeldRequest, HeldState, HeldVerdict, LedgerError, RevocationReason};
use scep_message::client::Reply;
use scep_message::{FailInfo, MessageType, RaIdentity, ReplySealing};
use scep_policy::{Denials, SiteRules};
use scep_server::{
    Authority, Availability, CrlSettings, Endpoint, HeldDocument, OperatorToken, Outcome, Parts,
    Person,
};
use scep_testkit::ca::{Decided, Outcome as CaOutcome, RecordingCa};
use scep_testkit::house::{OPENS, SITE_RULES, Sent, device_certificate, ra_identity, sign_csr};
use scep_testkit::{House, keys};
use scep_types::{AuthorityName, KeyAlgorithm, Reason, RsaPadding, Secret};
use serde_json::{Value, json};
use std::sync::Arc;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

fn manual(house: &House) -> ChallengeClaims {
    let mut claims = house.claims();
    claims.expectation.approval = ApprovalMode::Manual;
    claims
}

/// The request of a device whose profile wants a person's approval.
fn request(house: &House, key: &SoftwareKey) -> Vec<u8> {
    let claims = manual(house);
    sign_csr(&House::csr(&claims, &house.seal(&claims)), key)
}

fn generate() -> SoftwareKey {
    SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).unwrap()
}

async fn pending(running: &Running, sent: &Sent) {
    pending_at(running, "/scep", sent).await;
}

async fn pending_at(running: &Running, path: &str, sent: &Sent) {
    let reply = running.ask_at(path, sent).await;
    assert!(matches!(reply, Reply::Pending), "{reply:?}: {:?}", running.traces.last());
    assert_eq!(running.traces.last().outcome, Outcome::Pending);
}

/// FAILURE with this reason, and what the device is told.
async fn failed(running: &Running, sent: &Sent) -> (Reason, FailInfo, String) {
    let reply = running.ask(sent).await;
    let Reply::Failure { fail_info, text } = reply else { panic!("{reply:?}") };
    let text = text.unwrap();
    let without_reference = text.split(" (ref ").next().unwrap().to_owned();
    (running.traces.last().reason.unwrap(), fail_info, without_reference)
}

async fn held(running: &Running) -> Vec<HeldRequest> {
    running.gateway.ledger().held(100, None).await.unwrap()
}

async fn decide(running: &Running, verdict: HeldVerdict) -> HeldRequest {
    let all = held(running).await;
    assert_eq!(all.len(), 1, "{all:?}");
    let alice = Person::new("alice").unwrap();
    running.gateway.decide_held(all[0].row, verdict, &alice).await.unwrap();
    all.into_iter().next().unwrap()
}

#[tokio::test]
async fn a_request_waits_for_a_person_and_its_device_polls() {
    let running = Running::start().await;
    let key = device_key();
    let sent = running.house.send(&request(&running.house, &key), &key);
    pending(&running, &sent).await;
    let trace = running.traces.last();
    assert!(trace.device.is_some() && trace.reason.is_none(), "{trace:?}");
    let one = held(&running).await.remove(0);
    assert_eq!((one.state, &one.transaction), (HeldState::Waiting, &sent.transaction));
    assert_eq!((one.asked_at, one.until), (OPENS, OPENS.plus(DAY * 7)));
    assert_eq!(one.spki, key.public_key().hash());
    pending(&running, &running.house.poll(&sent, &key)).await;

    decide(&running, HeldVerdict::Approve).await;
    assert_eq!(running.ca.calls().len(), 0, "nothing is issued before its device asks");
    let poll = running.house.poll(&sent, &key);
    let certificate = running.granted(&poll).await;
    assert_eq!(certificate.spki(), key.public_key());
    let trace = running.traces.last();
    assert_eq!((trace.outcome, trace.device.is_some()), (Outcome::Issued, true));
    // What was lost on the way comes again, by either message.
    assert_eq!(running.granted(&running.house.poll(&sent, &key)).await, certificate);
    assert_eq!(running.traces.last().outcome, Outcome::Repeated);
    assert_eq!(running.granted(&sent).await, certificate);
    assert_eq!(running.ca.calls().len(), 1);
    assert!(held(&running).await.is_empty());
}

#[tokio::test]
async fn quirk_48_the_same_request_sent_again_waits_and_is_granted_as_one() {
    let running = Running::start().await;
    let key = device_key();
    let csr = request(&running.house, &key);
    let first = running.house.send(&csr, &key);
    pending(&running, &first).await;
    for _ in 0..3 {
        running.house.clock.advance(Duration::from_secs(30));
        pending(&running, &first).await;
        pending(&running, &running.house.send(&csr, &key)).await;
    }
    assert_eq!(held(&running).await.len(), 1);
    // Its challenge has expired; its waiting has not.
    running.house.clock.advance(HOUR * 30);
    decide(&running, HeldVerdict::Approve).await;
    let certificate = running.granted(&first).await;
    assert_eq!(running.granted(&running.house.send(&csr, &key)).await, certificate);
    assert_eq!(running.ca.calls().len(), 1);
}

#[tokio::test]
async fn quirk_49_a_poll_is_answered_hours_later_whatever_its_names_say() {
    let running = Running::start_with(|parts| parts.limits.retry_burst = 2).await;
    let key = device_key();
    let sent = running.house.send(&request(&running.house, &key), &key);
    pending(&running, &sent).await;
    // As many as it likes: PENDING has nothing of its own to spend.
    for _ in 0..10 {
        running.house.clock.advance(HOUR * 9);
        pending(&running, &running.house.poll(&sent, &key)).await;
    }
    decide(&running, HeldVerdict::Approve).await;
    let certificate = running.granted(&running.house.poll(&sent, &key)).await;
    for _ in 0..2 {
        assert_eq!(running.granted(&running.house.poll(&sent, &key)).await, certificate);
    }
    let (reason, _, _) = failed(&running, &running.house.poll(&sent, &key)).await;
    assert_eq!(reason, Reason::RateExceeded);
    // Until the window of retries is over.
    running.house.clock.advance(HOUR * 23);
    assert_eq!(running.granted(&running.house.poll(&sent, &key)).await, certificate);
    running.house.clock.advance(HOUR * 2);
    let (reason, _, _) = failed(&running, &running.house.poll(&sent, &key)).await;
    assert_eq!(reason, Reason::ChallengeExpired);
    assert_eq!(running.ca.calls().len(), 1);
}

#[tokio::test]
async fn quirk_49_a_poll_by_another_key_is_told_what_an_unknown_transaction_is() {
    let running = Running::start().await;
    let key = device_key();
    let sent = running.house.send(&request(&running.house, &key), &key);
    let unknown = failed(&running, &running.house.poll(&sent, &key)).await;
    assert_eq!((unknown.0, unknown.1), (Reason::NoSuchTransaction, FailInfo::BadCertId));
    pending(&running, &sent).await;
    assert_eq!(failed(&running, &running.house.poll(&sent, &other_key())).await, unknown);
    decide(&running, HeldVerdict::Approve).await;
    assert_eq!(failed(&running, &running.house.poll(&sent, &other_key())).await, unknown);
    assert_eq!(running.ca.calls().len(), 0);
    running.granted(&running.house.poll(&sent, &key)).await;
    assert_eq!(failed(&running, &running.house.poll(&sent, &other_key())).await, unknown);
}

#[tokio::test]
async fn what_a_person_denies_is_refused_for_good() {
    let running = Running::start().await;
    let key = device_key();
    let claims = manual(&running.house);
    let blob = running.house.seal(&claims);
    let sent = running.house.send(&sign_csr(&House::csr(&claims, &blob), &key), &key);
    pending(&running, &sent).await;
    let one = decide(&running, HeldVerdict::Deny).await;
    for again in [&running.house.poll(&sent, &key), &sent] {
        let (reason, fail_info, text) = failed(&running, again).await;
        assert_eq!((reason, fail_info), (Reason::ApprovalDenied, FailInfo::BadRequest));
        assert_eq!(text, "refused by the operator");
    }
    // Nobody changes their mind, and the challenge is spent.
    let bob = Person::new("bob").unwrap();
    let other = running.gateway.decide_held(one.row, HeldVerdict::Approve, &bob).await;
    assert!(matches!(other, Err(LedgerError::NotHeld)), "{other:?}");
    let with_other_key = sign_csr(&House::csr(&claims, &blob), &other_key());
    let sent = running.house.send(&with_other_key, &other_key());
    assert_eq!(running.refused(&sent).await, Reason::ChallengeAlreadyUsed);
    assert_eq!(running.ca.calls().len(), 0);
}

#[tokio::test]
async fn what_nobody_decides_on_is_over_in_its_time() {
    let running = Running::start_with(|parts| parts.limits.hold_for = HOUR * 3).await;
    let keys = [device_key(), other_key()];
    let [waiting, approved] =
        [&keys[0], &keys[1]].map(|key| running.house.send(&request(&running.house, key), key));
    pending(&running, &approved).await;
    let approved_row = decide(&running, HeldVerdict::Approve).await.row;
    pending(&running, &waiting).await;
    running.house.clock.advance(HOUR * 3);
    pending(&running, &running.house.poll(&waiting, &keys[0])).await;
    running.house.clock.advance(Duration::from_secs(1));
    // What was approved and not fetched is over too.
    for (sent, key) in [(&waiting, &keys[0]), (&approved, &keys[1])] {
        for again in [&running.house.poll(sent, key), sent] {
            let (reason, fail_info, _) = failed(&running, again).await;
            assert_eq!((reason, fail_info), (Reason::ApprovalExpired, FailInfo::BadRequest));
        }
    }
    let alice = Person::new("alice").unwrap();
    let late = running.gateway.decide_held(approved_row + 1, HeldVerdict::Approve, &alice).await;
    assert!(matches!(late, Err(LedgerError::NotHeld)), "{late:?}");
    assert_eq!(running.ca.calls().len(), 0);
}

#[tokio::test]
async fn attack_01_a_request_that_differs_is_refused_and_not_held() {
    let running = Running::start().await;
    let claims = manual(&running.house);
    let mut csr = House::csr(&claims, &running.house.seal(&claims));
    csr.subject = "CN=administrator".parse().unwrap();
    let sent = running.house.send(&sign_csr(&csr, &device_key()), &device_key());
    assert_eq!(running.refused(&sent).await, Reason::SubjectNameMismatch);
    assert!(held(&running).await.is_empty());
}

#[tokio::test]
async fn attack_05_a_challenge_that_waits_is_spent() {
    let running = Running::start().await;
    let claims = manual(&running.house);
    let blob = running.house.seal(&claims);
    let csr = |key: &SoftwareKey| sign_csr(&House::csr(&claims, &blob), key);
    pending(&running, &running.house.send(&csr(&device_key()), &device_key())).await;
    let thief = running.house.send(&csr(&other_key()), &other_key());
    assert_eq!(running.refused(&thief).await, Reason::ChallengeAlreadyUsed);
    assert_eq!(held(&running).await.len(), 1);
}

#[tokio::test]
async fn a_device_that_was_disabled_while_it_waited_gets_nothing() {
    let running = Running::start().await;
    let key = device_key();
    let sent = running.house.send(&request(&running.house, &key), &key);
    pending(&running, &sent).await;
    let one = decide(&running, HeldVerdict::Approve).await;
    let subject = scep_ledger::DenialSubject::Device(one.tenant.clone(), one.device.clone());
    running.gateway.ledger().deny(subject.clone(), OPENS).await.unwrap();
    let devices = [(one.tenant.clone(), one.device.clone())].into();
    running.gateway.set_denials(Denials { devices, ..Denials::default() });
    for again in [&running.house.poll(&sent, &key), &sent] {
        let reason = running.refused(again).await;
        assert_eq!(reason, Reason::ScepProfileNoLongerTargetedToTheClient);
    }
    // Enabled again within its time, it goes on.
    running.gateway.ledger().allow(subject).await.unwrap();
    running.gateway.set_denials(Denials::default());
    running.granted(&running.house.poll(&sent, &key)).await;
}

#[tokio::test]
async fn what_was_approved_is_compared_again_when_it_is_issued() {
    let running = Running::start().await;
    let key = device_key();
    let sent = running.house.send(&request(&running.house, &key), &key);
    pending(&running, &sent).await;
    decide(&running, HeldVerdict::Approve).await;
    // The site allows other names by now.
    let (house, folder) = running.stop().await;
    let rules =
        SITE_RULES.replace("dns_suffixes = [\"example.org\"]", "dns_suffixes = [\"example.net\"]");
    assert_ne!(rules, SITE_RULES);
    let running = Running::start_in(house, folder, |parts| {
        parts.site_rules = SiteRules::from_toml(&rules).unwrap();
    })
    .await;
    assert_eq!(running.refused(&running.house.poll(&sent, &key)).await, Reason::SiteRuleViolated);
    assert_eq!(running.refused(&sent).await, Reason::SiteRuleViolated);
    // And the first ones again: what was approved is approved still.
    let (house, folder) = running.stop().await;
    let running = Running::start_in(house, folder, |_| {}).await;
    running.granted(&running.house.poll(&sent, &key)).await;
}

#[tokio::test]
async fn while_the_gateway_must_not_issue_what_waits_goes_on_waiting() {
    let running = Running::start().await;
    let key = device_key();
    let sent = running.house.send(&request(&running.house, &key), &key);
    pending(&running, &sent).await;
    decide(&running, HeldVerdict::Approve).await;
    for availability in [Availability::Offline, Availability::AnotherLedger] {
        running.gateway.set_availability(availability);
        pending(&running, &running.house.poll(&sent, &key)).await;
        pending(&running, &sent).await;
        let detail = running.traces.last().detail.unwrap();
        assert!(detail.contains(availability.reason().unwrap().code()), "{detail}");
    }
    assert_eq!(running.ca.calls().len(), 0);
    running.gateway.set_availability(Availability::Serving);
    running.granted(&running.house.poll(&sent, &key)).await;
}

#[tokio::test]
async fn trouble_with_the_ca_leaves_what_was_approved_waiting() {
    let running = Running::start().await;
    let key = device_key();
    let sent = running.house.send(&request(&running.house, &key), &key);
    pending(&running, &sent).await;
    running.house.clock.advance(HOUR * 2);
    decide(&running, HeldVerdict::Approve).await;
    for _ in 0..2 {
        running.ca.then(CaOutcome::Refuse);
        pending(&running, &running.house.poll(&sent, &key)).await;
        let detail = running.traces.last().detail.unwrap();
        assert!(detail.contains(Reason::CaUnavailable.code()), "{detail}");
    }
    running.ca.then(CaOutcome::LoseAnswer);
    pending(&running, &running.house.poll(&sent, &key)).await;
    // Whether it was issued is open until recovery knows.
    pending(&running, &running.house.poll(&sent, &key)).await;
    assert_eq!(running.ca.calls().len(), 3);
    assert_eq!(running.gateway.recover().await.unwrap(), 1);
    let certificate = running.granted(&running.house.poll(&sent, &key)).await;
    assert_eq!(running.ca.issued(), [certificate]);
    assert_eq!(running.ca.calls().len(), 3);
}

#[tokio::test]
async fn attack_09_the_brake_holds_what_was_approved_and_does_not_refuse_it() {
    let rules = SITE_RULES.replace("issuance_per_hour = 100000", "issuance_per_hour = 1");
    let running = Running::start_with(|parts| {
        parts.site_rules = SiteRules::from_toml(&rules).unwrap();
    })
    .await;
    let key = device_key();
    let sent = running.house.send(&request(&running.house, &key), &key);
    pending(&running, &sent).await;
    decide(&running, HeldVerdict::Approve).await;
    running.granted(&running.house.enrolment(&other_key())).await;
    pending(&running, &running.house.poll(&sent, &key)).await;
    let detail = running.traces.last().detail.unwrap();
    assert!(detail.contains(Reason::IssuanceBrakeEngaged.code()), "{detail}");
    running.house.clock.advance(HOUR * 2);
    running.granted(&running.house.poll(&sent, &key)).await;
}

#[tokio::test]
async fn an_ec_key_polls_and_is_answered_with_the_challenge_of_its_request() {
    let running = Running::start().await;
    let key = keys::p256(3);
    let mut claims = manual(&running.house);
    claims.expectation.key_algorithms = vec![KeyAlgorithm::P256];
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &key);
    let sent = running.house.send(&csr, &key);
    pending(&running, &sent).await;
    pending(&running, &running.house.poll(&sent, &key)).await;
    running.house.clock.advance(HOUR * 5);
    decide(&running, HeldVerdict::Approve).await;
    // `poll` reads the answer with the challenge of the request: no other opens it.
    let certificate = running.granted(&running.house.poll(&sent, &key)).await;
    assert_eq!(running.traces.last().sealed, Some(ReplySealing::Challenge));
    assert_eq!(running.granted(&running.house.poll(&sent, &key)).await, certificate);
}

#[tokio::test]
async fn where_any_signer_is_served_only_the_first_one_polls_and_every_one_sends_again() {
    let running = Running::start().await;
    let path = "/certsrv/mscep/mscep.dll";
    let csr = request(&running.house, &device_key());
    let throw_away = |key: &SoftwareKey| {
        let signer = device_certificate(key);
        running.house.send_as(&csr, key, &signer, MessageType::PkcsReq, RsaPadding::Pkcs1v15)
    };
    let (one, two) = (keys::rsa2048(3), generate());
    let first = throw_away(&one);
    pending_at(&running, path, &first).await;
    pending_at(&running, path, &running.house.poll(&first, &one)).await;
    let reply = running.ask_at(path, &running.house.poll(&first, &two)).await;
    assert!(matches!(reply, Reply::Failure { fail_info: FailInfo::BadCertId, .. }), "{reply:?}");
    pending_at(&running, path, &throw_away(&two)).await;
    decide(&running, HeldVerdict::Approve).await;
    let reply = running.ask_at(path, &throw_away(&two)).await;
    assert!(matches!(reply, Reply::Success(_)), "{reply:?}");
    assert_eq!(running.ca.calls().len(), 1);
}

#[tokio::test]
async fn attack_09_a_lifted_envelope_gets_nothing_that_was_approved() {
    let running = Running::start().await;
    let key = device_key();
    let csr = request(&running.house, &key);
    pending(&running, &running.house.send(&csr, &key)).await;
    decide(&running, HeldVerdict::Approve).await;
    let (thief, kind) = (other_key(), MessageType::PkcsReq);
    let signer = device_certificate(&thief);
    let lifted = running.house.send_as(&csr, &thief, &signer, kind, RsaPadding::Pkcs1v15);
    assert_eq!(running.refused(&lifted).await, Reason::SignerNotAllowed);
    running.granted(&running.house.send(&csr, &key)).await;
}

#[tokio::test]
async fn a_renewal_waits_too_and_is_polled_with_the_key_of_the_old_certificate() {
    let running = Running::start().await;
    let (old_key, new_key) = (device_key(), other_key());
    let mut claims = running.house.claims();
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &old_key);
    let old = running.granted(&running.house.send(&csr, &old_key)).await;
    claims.challenge_id = running.house.claims().challenge_id;
    claims.expectation.approval = ApprovalMode::Manual;
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &new_key);
    let kind = MessageType::RenewalReq;
    let sent = running.house.send_as(&csr, &old_key, &old, kind, RsaPadding::Pkcs1v15);
    pending(&running, &sent).await;
    decide(&running, HeldVerdict::Approve).await;
    // The self-signed certificate of the poll has the old key.
    let new = running.granted(&running.house.poll(&sent, &old_key)).await;
    assert_eq!(new.spki(), new_key.public_key());
}

#[tokio::test]
async fn attack_52_polls_at_once_get_one_certificate() {
    let running = Running::start().await;
    let key = device_key();
    let sent = running.house.send(&request(&running.house, &key), &key);
    pending(&running, &sent).await;
    decide(&running, HeldVerdict::Approve).await;
    let polls: [Sent; 4] = core::array::from_fn(|_| running.house.poll(&sent, &key));
    let [a, b, c, d] = &polls;
    let (a, b, c, d) = tokio::join!(running.ask(a), running.ask(b), running.ask(c), running.ask(d));
    for reply in [a, b, c, d] {
        assert!(matches!(reply, Reply::Success(_) | Reply::Pending), "{reply:?}");
    }
    running.granted(&running.house.poll(&sent, &key)).await;
    assert_eq!((running.ca.calls().len(), running.ca.issued().len()), (1, 1));
}

#[tokio::test]
async fn attack_52_what_waits_survives_a_restart_before_and_after_the_decision() {
    let running = Running::start().await;
    let key = device_key();
    let sent = running.house.send(&request(&running.house, &key), &key);
    pending(&running, &sent).await;
    let (house, folder) = running.stop().await;
    let running = Running::start_in(house, folder, |_| {}).await;
    pending(&running, &running.house.poll(&sent, &key)).await;
    decide(&running, HeldVerdict::Approve).await;
    let (house, folder) = running.stop().await;
    let running = Running::start_in(house, folder, |_| {}).await;
    running.granted(&running.house.poll(&sent, &key)).await;
    assert_eq!(running.ca.calls().len(), 1);
}

/// A second CA beside the first, served at `/two`, whose endpoint opens what is enveloped to the first.
fn add_second_ca(parts: &mut Parts, house: &House, follows: Option<AuthorityName>) -> RecordingCa {
    let ca = second_ca(house, "O=Example, CN=Second CA");
    let name: AuthorityName = "two".parse().unwrap();
    let made = ra_identity(&ca, &generate(), &generate());
    // What is enveloped to the first one's RA is opened here, and answered as that one does: for the tests' one client.
    let ra = if follows.is_some() {
        made
    } else {
        let first = parts.main.ra.clone();
        let recipients = made.recipients.into_iter().chain(first.recipients.iter().cloned());
        RaIdentity { recipients: recipients.collect(), ..first }
    };
    let recording = RecordingCa::new(ca);
    parts.more.push(Authority {
        name: name.clone(),
        ca: Arc::new(recording.clone()),
        ra,
        crl: CrlSettings { path: "/crl2".into(), ..CrlSettings::default() },
        follows,
    });
    parts.endpoints.push(Endpoint { authority: name, ..Endpoint::generic("/two") });
    recording
}

#[tokio::test]
async fn what_was_approved_before_a_roll_over_is_issued_by_the_ca_that_was_asked() {
    let mut second = None;
    let house = House::new();
    let other = House::new();
    let running = Running::start_in(house, tempfile::tempdir().unwrap(), |parts| {
        second = Some(add_second_ca(parts, &other, Some(AuthorityName::main())));
    })
    .await;
    let key = device_key();
    let sent = running.house.send(&request(&running.house, &key), &key);
    pending(&running, &sent).await;
    decide(&running, HeldVerdict::Approve).await;
    let reply = running.ask_at("/two", &running.house.poll(&sent, &key)).await;
    assert!(matches!(reply, Reply::Success(_)), "{reply:?}: {:?}", running.traces.last());
    assert_eq!((running.ca.calls().len(), second.unwrap().calls().len()), (1, 0));
}

/// What a CA that decides later does with two requests: one polls, one is sent again.
async fn a_ca_decides_later(decided: Decided) -> (Running, Sent, Sent) {
    let running = Running::start().await;
    let key = device_key();
    let [polled, again] = [&key, &other_key()].map(|key| running.house.enrolment(key));
    for sent in [&polled, &again] {
        running.ca.then(CaOutcome::Pend);
        pending(&running, sent).await;
        pending(&running, sent).await;
    }
    assert!(held(&running).await.is_empty(), "no person is asked");
    running.house.clock.advance(HOUR * 40);
    // Asked again and again, which settles nothing.
    for _ in 0..3 {
        assert_eq!(running.gateway.recover().await.unwrap(), 0);
        pending(&running, &running.house.poll(&polled, &key)).await;
        pending(&running, &again).await;
    }
    running.ca.decide(decided);
    pending(&running, &running.house.poll(&polled, &key)).await;
    assert_eq!(running.gateway.recover().await.unwrap(), 2);
    assert_eq!(running.ca.calls().len(), 2);
    let polled = running.house.poll(&polled, &key);
    (running, polled, again)
}

#[tokio::test]
async fn a_ca_that_decides_later_is_asked_until_it_has_issued() {
    let (running, polled, again) = a_ca_decides_later(Decided::Issue).await;
    let certificates = [running.granted(&polled).await, running.granted(&again).await];
    assert_eq!(running.ca.issued(), certificates);
}

#[tokio::test]
async fn a_ca_that_decides_later_is_asked_until_it_has_refused() {
    let (running, polled, again) = a_ca_decides_later(Decided::Refuse).await;
    for sent in [&polled, &again] {
        let (reason, fail_info, text) = failed(&running, sent).await;
        assert_eq!((reason, fail_info), (Reason::CaRefused, FailInfo::BadRequest));
        assert_eq!(text, "refused by the CA");
    }
    assert!(running.ca.issued().is_empty());
}

#[tokio::test]
async fn a_person_and_then_the_ca_decide_later() {
    let running = Running::start().await;
    let key = device_key();
    let sent = running.house.send(&request(&running.house, &key), &key);
    pending(&running, &sent).await;
    decide(&running, HeldVerdict::Approve).await;
    running.ca.then(CaOutcome::Pend);
    pending(&running, &running.house.poll(&sent, &key)).await;
    running.ca.decide(Decided::Issue);
    assert_eq!(running.gateway.recover().await.unwrap(), 1);
    running.granted(&running.house.poll(&sent, &key)).await;
    assert_eq!(running.ca.calls().len(), 1);
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn with_token(running: &Running) {
    let token = OperatorToken::new(Secret::new(TOKEN.to_owned())).unwrap();
    running.gateway.set_operator_token(Some(token));
}

fn bearer() -> String {
    format!("Authorization: Bearer {TOKEN}\r\n")
}

fn document(http: &Http) -> Value {
    assert_eq!(http.header("content-type"), Some("application/json"), "{http:?}");
    serde_json::from_slice(&http.body).unwrap()
}

async fn say(running: &Running, row: u64, word: &str, person: &str) -> Http {
    let headers = format!("{}Content-Type: application/json\r\n", bearer());
    let body = json!({ "person": person }).to_string();
    running.admin_asked("POST", &format!("/held/{row}/{word}"), &headers, &body).await
}

#[tokio::test]
async fn operators_see_what_waits_and_decide() {
    let running = Running::start().await;
    with_token(&running);
    let (key, other) = (device_key(), other_key());
    let [first, second] =
        [&key, &other].map(|key| running.house.send(&request(&running.house, key), key));
    let list = async |query: &str| {
        running.admin_asked("GET", &format!("/held{query}"), &bearer(), "").await
    };
    assert_eq!(document(&list("").await), json!({ "held": [], "next": null }));
    pending(&running, &first).await;
    running.house.clock.advance(HOUR);
    pending(&running, &second).await;
    let all = document(&list("").await);
    assert_eq!((all["held"].as_array().unwrap().len(), &all["next"]), (2, &Value::Null));
    let one: HeldDocument = serde_json::from_value(all["held"][0].clone()).unwrap();
    assert_eq!(one, HeldDocument::from(&held(&running).await[0]));
    assert_eq!((one.state.as_str(), one.tenant.as_str()), ("waiting", "contoso"));
    assert_eq!((one.profile.as_str(), one.authority.as_str()), ("wifi", "main"));
    assert_eq!(one.subject, format!("C=CH, O=Example, CN={}", one.device));
    assert!(one.subject_alt_names[0].contains(&format!("{}.example.org", one.device)));
    assert_eq!(one.spki_sha256, key.public_key().hash().to_string());
    // Nothing of the challenge but its id.
    assert!(!all.to_string().contains(&first.challenge.as_ref().unwrap().expose()[..64]));
    // Page by page.
    let page = document(&list("?limit=1").await);
    assert_eq!((&page["held"][0], &page["next"]), (&all["held"][0], &json!(one.row)));
    let page = document(&list(&format!("?limit=1&after={}", one.row)).await);
    assert_eq!(page["held"][0], all["held"][1]);

    let said = say(&running, one.row, "approve", " alice ").await;
    assert_eq!(said.status, 200, "{said:?}");
    let expected = json!({ "row": one.row, "state": "approved", "person": "alice" });
    assert_eq!(document(&said), expected);
    let shown = document(&list("").await)["held"][0].clone();
    assert_eq!((&shown["state"], &shown["person"]), (&json!("approved"), &json!("alice")));
    assert!(shown["decided_at"].is_string());
    // Once more is no change; something else is none either, and says so.
    assert_eq!(say(&running, one.row, "approve", "alice").await.status, 200);
    let changed = say(&running, one.row, "deny", "bob").await;
    assert_eq!(
        (changed.status, &document(&changed)["error"]),
        (409, &json!("no such request waits for approval"))
    );
    assert_eq!(say(&running, 999, "approve", "alice").await.status, 409);
    let row = all["held"][1]["row"].as_u64().unwrap();
    assert_eq!(say(&running, row, "deny", "alice").await.status, 200);
    running.granted(&running.house.poll(&first, &key)).await;
    let (reason, _, _) = failed(&running, &running.house.poll(&second, &other)).await;
    assert_eq!(reason, Reason::ApprovalDenied);
    assert_eq!(document(&list("").await)["held"], json!([]));
}

#[tokio::test]
async fn attack_49_whoever_is_on_the_machine_approves_nothing_without_the_token() {
    let running = Running::start().await;
    let key = device_key();
    let sent = running.house.send(&request(&running.house, &key), &key);
    pending(&running, &sent).await;
    let row = held(&running).await[0].row;
    let approve = format!("/held/{row}/approve");
    let json_type = "Content-Type: application/json\r\n";
    let body = r#"{"person":"mallory"}"#;
    // Without a token of the gateway's own there is nothing there, whatever is shown.
    for headers in [String::new(), bearer(), "Authorization: Bearer \r\n".to_owned()] {
        assert_eq!(running.admin_asked("GET", "/held", &headers, "").await.status, 404);
        let headers = format!("{headers}{json_type}");
        assert_eq!(running.admin_asked("POST", &approve, &headers, body).await.status, 404);
    }
    with_token(&running);
    for shown in [
        String::new(),
        "Authorization: Bearer \r\n".to_owned(),
        format!("Authorization: Bearer {}\r\n", &TOKEN[1..]),
        format!("Authorization: Bearer {TOKEN}0\r\n"),
        format!("Authorization: Bearer {}\r\n", TOKEN.to_uppercase()),
        format!("Authorization: Basic {TOKEN}\r\n"),
        format!("Authorization: {TOKEN}\r\n"),
        format!("Cookie: token={TOKEN}\r\n"),
        format!("Authorization: Bearer x\r\n{}", bearer()),
        format!("{}Authorization: Bearer x\r\n", bearer()),
    ] {
        let headers = format!("{shown}{json_type}");
        for (method, path) in [("GET", "/held"), ("POST", &approve), ("GET", "/held/none")] {
            let http = running.admin_asked(method, path, &headers, body).await;
            assert_eq!(http.status, 401, "{shown} {method} {path}");
            assert_eq!(http.header("www-authenticate"), Some("Bearer"));
        }
    }
    assert_eq!(held(&running).await[0].state, HeldState::Waiting);
    // What everybody may read is as it was.
    assert_eq!(running.admin("/healthz").await.status, 200);
    assert_eq!(running.admin_asked("POST", "/healthz", "", "").await.status, 405);
    // And the token alone is enough.
    let headers = format!("{}{json_type}", bearer());
    assert_eq!(running.admin_asked("POST", &approve, &headers, body).await.status, 200);
}

#[tokio::test]
async fn attack_49_a_page_in_a_browser_cannot_send_what_approves() {
    let running = Running::start().await;
    with_token(&running);
    let key = device_key();
    pending(&running, &running.house.send(&request(&running.house, &key), &key)).await;
    let row = held(&running).await[0].row;
    let approve = format!("/held/{row}/approve");
    let body = r#"{"person":"alice"}"#;
    // A form sends these types, and a script no other without asking first, to which there is no answer.
    for kind in ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let kind =
            if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
        let headers = format!("{}{kind}Origin: https://evil.example\r\n", bearer());
        assert_eq!(
            running.admin_asked("POST", &approve, &headers, body).await.status,
            415,
            "{kind}"
        );
    }
    let headers = "Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n\
                   Access-Control-Request-Headers: authorization, content-type\r\n";
    let asked = running.admin_asked("OPTIONS", &approve, headers, "").await;
    assert_eq!(asked.status, 401);
    assert!(asked.header("access-control-allow-origin").is_none(), "{}", asked.head);
    let json_type = format!("{}Content-Type: application/json; charset=utf-8\r\n", bearer());
    for (method, path, body, status) in [
        ("GET", approve.as_str(), "", 405),
        ("PUT", &approve, body, 405),
        ("POST", "/held", body, 405),
        ("POST", "/held/x/approve", body, 404),
        ("POST", &approve, "", 400),
        ("POST", &approve, "{}", 400),
        ("POST", &approve, r#"{"person":""}"#, 400),
        ("POST", &approve, r#"{"person":"a\u001b[2J"}"#, 400),
        ("POST", &approve, r#"{"person":"alice","verdict":"deny"}"#, 400),
        ("POST", &approve, &format!("{}{body}", " ".repeat(5000)), 400),
    ] {
        let http = running.admin_asked(method, path, &json_type, body).await;
        assert_eq!(http.status, status, "{method} {path} {body}: {http:?}");
    }
    assert_eq!(held(&running).await[0].state, HeldState::Waiting);
    assert_eq!(running.admin_asked("POST", &approve, &json_type, body).await.status, 200);
}

#[tokio::test]
async fn how_many_wait_and_since_when_is_shown() {
    let running = Running::start().await;
    let health = async || document(&running.admin("/healthz").await)["held"].clone();
    let metric = async |name: &str| {
        let text = running.admin("/metrics").await.text();
        let line = text.lines().find(|line| line.split(' ').next() == Some(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse::<i64>().unwrap()
    };
    assert_eq!(health().await, json!({ "count": 0, "waiting_since": null }));
    assert_eq!((metric("scep_held").await, metric("scep_held_waiting_seconds").await), (0, 0));
    let (key, other) = (device_key(), other_key());
    pending(&running, &running.house.send(&request(&running.house, &key), &key)).await;
    running.house.clock.advance(HOUR);
    pending(&running, &running.house.send(&request(&running.house, &other), &other)).await;
    let expected = json!({ "count": 2, "waiting_since": OPENS.to_string() });
    assert_eq!(health().await, expected);
    assert_eq!((metric("scep_held").await, metric("scep_held_waiting_seconds").await), (2, 3600));
    // Decided: nobody has to do anything about it any more.
    let row = held(&running).await[0].row;
    let alice = Person::new("alice").unwrap();
    running.gateway.decide_held(row, HeldVerdict::Approve, &alice).await.unwrap();
    let expected = json!({ "count": 2, "waiting_since": OPENS.plus(HOUR).to_string() });
    assert_eq!(health().await, expected);
    assert_eq!((metric("scep_held").await, metric("scep_held_waiting_seconds").await), (2, 0));
}

#[tokio::test]
async fn a_certificate_that_was_revoked_is_polled_in_vain() {
    let running = Running::start().await;
    let key = device_key();
    let sent = running.house.send(&request(&running.house, &key), &key);
    pending(&running, &sent).await;
    decide(&running, HeldVerdict::Approve).await;
    let certificate = running.granted(&running.house.poll(&sent, &key)).await;
    let ledger = running.gateway.ledger();
    let why = RevocationReason::KeyCompromise;
    ledger.mark_revoked(certificate.fingerprint(), why, OPENS).await.unwrap();
    let (reason, _, _) = failed(&running, &running.house.poll(&sent, &key)).await;
    assert_eq!(reason, Reason::ChallengeExpired);
}

#[tokio::test]
async fn quirk_50_a_request_sent_again_in_another_transaction_is_polled_by_either() {
    let running = Running::start().await;
    let key = device_key();
    let csr = request(&running.house, &key);
    let (first, second) = (running.house.send(&csr, &key), running.house.send(&csr, &key));
    assert_ne!(first.transaction, second.transaction);
    pending(&running, &first).await;
    pending(&running, &second).await;
    pending(&running, &running.house.poll(&first, &key)).await;
    pending(&running, &running.house.poll(&second, &key)).await;
    decide(&running, HeldVerdict::Approve).await;
    let certificate = running.granted(&running.house.poll(&second, &key)).await;
    assert_eq!(running.granted(&running.house.poll(&first, &key)).await, certificate);
    assert_eq!(running.ca.calls().len(), 1);
}

#[tokio::test]
async fn what_was_approved_for_one_ca_is_not_issued_by_another() {
    let mut second = None;
    let house = House::new();
    let other = House::new();
    let running = Running::start_in(house, tempfile::tempdir().unwrap(), |parts| {
        second = Some(add_second_ca(parts, &other, None));
    })
    .await;
    let key = device_key();
    let sent = running.house.send(&request(&running.house, &key), &key);
    pending(&running, &sent).await;
    decide(&running, HeldVerdict::Approve).await;
    for again in [&running.house.poll(&sent, &key), &sent] {
        let reply = running.ask_at("/two", again).await;
        assert!(matches!(reply, Reply::Failure { .. }), "{reply:?}");
        assert_eq!(running.traces.last().reason, Some(Reason::ChallengeNotServed));
    }
    running.granted(&running.house.poll(&sent, &key)).await;
    assert_eq!((running.ca.calls().len(), second.unwrap().calls().len()), (1, 0));
}
