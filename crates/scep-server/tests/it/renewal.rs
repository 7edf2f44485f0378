//! Renewal on a certificate's own word: attack 3, and the quirks 51 to 53.

use crate::support::{Running, device_key, other_key};
use core::time::Duration;
use scep_challenge::{ChallengeClaims, Renewal};
use scep_keys::SoftwareKey;
use scep_ledger::{DenialSubject, EventKind, InventoryEntry, RevocationReason};
use scep_message::client::{self, Ask, Identity, Reply};
use scep_message::{ContentEncryption, MessageType, Recipient};
use scep_pkcs10::CsrBuilder;
use scep_policy::SiteRules;
use scep_server::{Endpoint, LinkStatus, RenewalContact};
use scep_testkit::House;
use scep_testkit::house::{SITE_RULES, Sent, device_certificate, sign_csr};
use scep_testkit::keys;
use scep_types::{
    CertificateDer, GeneralName, KeyAlgorithm, Reason, RsaPadding, Secret, SignatureScheme,
    TransactionId,
};
use std::sync::Arc;

const DAY: Duration = Duration::from_secs(86_400);
const WINDOW: Duration = Duration::from_secs(30 * 86_400);

/// A device whose profile lets its certificates renew themselves, in the last days of the first.
struct Device {
    claims: ChallengeClaims,
    blob: String,
    certificate: CertificateDer,
}

async fn running() -> Running {
    let running = Running::start().await;
    running.gateway.set_renewal_contact(RenewalContact::NotNeeded);
    running
}

async fn enrolled(running: &Running) -> Device {
    let mut claims = running.house.claims();
    claims.expectation.renewal = Renewal::Certificate { window: WINDOW };
    enrolled_by(running, claims, &device_key()).await
}

async fn enrolled_by(running: &Running, claims: ChallengeClaims, key: &SoftwareKey) -> Device {
    let blob = running.house.seal(&claims);
    let csr = sign_csr(&House::csr(&claims, &blob), key);
    let certificate = running.granted(&running.house.send(&csr, key)).await;
    running.house.clock.set(certificate.not_after().minus(5 * DAY));
    Device { claims, blob, certificate }
}

impl Device {
    /// The request that the claims allow, without a challenge.
    fn request(&self) -> CsrBuilder {
        let mut csr = House::csr(&self.claims, "");
        csr.challenge_password = None;
        csr
    }

    fn with_challenge(&self, text: &str) -> CsrBuilder {
        House::csr(&self.claims, text)
    }

    /// The request of this key, signed by the certificate.
    fn renewal(&self, house: &House, csr: &CsrBuilder, key: &SoftwareKey) -> Sent {
        self.signed_by(house, csr, key, &device_key(), &self.certificate)
    }

    #[allow(clippy::unused_self, reason = "reads better")]
    fn signed_by(
        &self,
        house: &House,
        csr: &CsrBuilder,
        key: &SoftwareKey,
        signer: &SoftwareKey,
        certificate: &CertificateDer,
    ) -> Sent {
        let csr = sign_csr(csr, key);
        let kind = MessageType::RenewalReq;
        house.send_as(&csr, signer, certificate, kind, RsaPadding::Pkcs1v15)
    }
}

async fn inventory(running: &Running) -> Vec<InventoryEntry> {
    running.gateway.ledger().inventory(100, None).await.unwrap()
}

async fn events(running: &Running, kind: EventKind) -> Vec<serde_json::Value> {
    let events = running.gateway.ledger().outbox(0, 1000).await.unwrap();
    let of_kind = events.into_iter().filter(|event| event.kind == kind);
    of_kind.map(|event| serde_json::from_str(&event.body_json).unwrap()).collect()
}

#[tokio::test]
async fn quirk_52_53_a_certificate_renews_itself_where_its_profile_says_so() {
    for kind in [MessageType::PkcsReq, MessageType::RenewalReq] {
        for challenge in [None, Some(""), Some("  "), Some("the first one")] {
            let running = running().await;
            let device = enrolled(&running).await;
            let csr = match challenge {
                None => device.request(),
                Some("the first one") => device.with_challenge(&device.blob),
                Some(blank) => device.with_challenge(blank),
            };
            let csr = sign_csr(&csr, &other_key());
            let sent = running.house.send_as(
                &csr,
                &device_key(),
                &device.certificate,
                kind,
                RsaPadding::Pkcs1v15,
            );
            let new = running.granted(&sent).await;
            assert_eq!(new.spki(), other_key().public_key(), "{kind}, {challenge:?}");
            assert_eq!(new.subject_der(), device.certificate.subject_der());
            assert!(new.not_after() > device.certificate.not_after());
            let all = inventory(&running).await;
            let owner = |entry: &InventoryEntry| (entry.device.clone(), entry.profile.clone());
            assert_eq!(owner(&all[0]), owner(&all[1]));
            assert_ne!(all[0].challenge, all[1].challenge);
            // Again, and it is the same one.
            assert_eq!(running.granted(&sent).await, new);
            assert_eq!(running.ca.calls().len(), 2);
        }
    }
}

#[tokio::test]
async fn attack_03_a_renewal_by_certificate_is_in_its_window_and_before_its_end() {
    let running = running().await;
    let device = enrolled(&running).await;
    let end = device.certificate.not_after();
    let sent = device.renewal(&running.house, &device.request(), &other_key());
    running.house.clock.set(end.minus(WINDOW + Duration::from_secs(1)));
    // However often: who asks early has not used up his tries.
    for _ in 0..11 {
        assert_eq!(running.refused(&sent).await, Reason::RenewalNotAllowed);
    }
    let trace = running.traces.last();
    assert_eq!(trace.device, Some(device.claims.device.clone()));
    assert!(trace.detail.unwrap().contains("renewal"));
    let Reply::Failure { text, .. } = running.ask(&sent).await else { panic!("granted") };
    assert!(text.unwrap().starts_with("a renewal needs a new challenge"));
    running.house.clock.set(end.minus(WINDOW));
    running.granted(&sent).await;
}

#[tokio::test]
async fn attack_03_an_expired_certificate_does_not_renew_itself() {
    let running = running().await;
    let device = enrolled(&running).await;
    running.house.clock.set(device.certificate.not_after().plus(Duration::from_secs(1)));
    let sent = device.renewal(&running.house, &device.request(), &other_key());
    assert_eq!(running.refused(&sent).await, Reason::RenewalNotAllowed);
    let detail = running.traces.last().detail.unwrap();
    assert!(detail.contains("the certificate that signs ended at"), "{detail}");
}

#[tokio::test]
async fn attack_03_a_revoked_certificate_and_a_disabled_device_renew_nothing() {
    let running = running().await;
    let device = enrolled(&running).await;
    let ledger = running.gateway.ledger();
    let sent = device.renewal(&running.house, &device.request(), &other_key());
    // Disabled in the ledger, before the gateway itself has heard of it; and enabled again, as often as you like.
    let now = device.certificate.not_after().minus(5 * DAY);
    let subject = || DenialSubject::Device(House::tenant(), device.claims.device.clone());
    ledger.deny(subject(), now).await.unwrap();
    let gone = Reason::ScepProfileNoLongerTargetedToTheClient;
    assert_eq!(running.refused(&sent).await, gone);
    running.gateway.set_denials(ledger.denials().await.unwrap());
    for _ in 0..11 {
        assert_eq!(running.refused(&sent).await, gone);
    }
    let reason = RevocationReason::KeyCompromise;
    ledger.allow(subject()).await.unwrap();
    running.gateway.set_denials(ledger.denials().await.unwrap());
    ledger.mark_revoked(device.certificate.fingerprint(), reason, now).await.unwrap();
    assert_eq!(running.refused(&sent).await, Reason::ChallengePasswordMissing);
}

#[tokio::test]
async fn attack_03_a_certificate_of_nobody_renews_nothing() {
    let running = running().await;
    let device = enrolled(&running).await;
    // The same names and key, signed by itself, or by a CA of the same name.
    let house = House::new();
    let stranger = Running::start_in(house, tempfile::tempdir().unwrap(), |_| {}).await;
    let theirs = enrolled(&stranger).await.certificate;
    assert_eq!(theirs.subject_der(), device.certificate.subject_der());
    for signer in [&device_certificate(&device_key()), &theirs] {
        let csr = device.request();
        let sent = device.signed_by(&running.house, &csr, &other_key(), &device_key(), signer);
        assert_eq!(running.refused(&sent).await, Reason::ChallengePasswordMissing);
    }
    // That of another device, for its own names.
    let mut other = House::csr(&running.house.claims(), "");
    other.challenge_password = None;
    let sent = device.renewal(&running.house, &other, &other_key());
    assert_eq!(running.refused(&sent).await, Reason::SubjectNameMismatch);
    assert_eq!(running.ca.calls().len(), 1);
}

#[tokio::test]
async fn attack_03_a_renewal_adds_nothing_and_ten_tries_are_all() {
    let running = running().await;
    let device = enrolled(&running).await;
    let mut more = device.request();
    more.subject_alt_names.push(GeneralName::dns("dc.example.org").unwrap());
    let sent = device.renewal(&running.house, &more, &other_key());
    for _ in 0..10 {
        assert_eq!(running.refused(&sent).await, Reason::SubjectAltNameMismatch);
    }
    assert_eq!(events(&running, EventKind::Refused).await.len(), 10);
    let good = device.renewal(&running.house, &device.request(), &other_key());
    assert_eq!(running.refused(&good).await, Reason::ChallengeLocked);
    // The way on is a new challenge.
    let mut fresh = running.house.claims();
    fresh.device = device.claims.device.clone();
    fresh.expectation = device.claims.expectation.clone();
    let csr = House::csr(&fresh, &running.house.seal(&fresh));
    running.granted(&device.renewal(&running.house, &csr, &other_key())).await;
}

#[tokio::test]
async fn attack_03_a_profile_that_wants_challenges_gets_them() {
    let running = running().await;
    let mut claims = running.house.claims();
    claims.expectation.renewal = Renewal::Blob;
    let blob = running.house.seal(&claims);
    let csr = sign_csr(&House::csr(&claims, &blob), &device_key());
    let certificate = running.granted(&running.house.send(&csr, &device_key())).await;
    running.house.clock.set(certificate.not_after().minus(DAY));
    let device = Device { claims, blob, certificate };
    let sent = device.renewal(&running.house, &device.request(), &other_key());
    assert_eq!(running.refused(&sent).await, Reason::ChallengePasswordMissing);
    let csr = device.with_challenge(&device.blob);
    let sent = device.renewal(&running.house, &csr, &other_key());
    assert_eq!(running.refused(&sent).await, Reason::ChallengeExpired);
}

#[tokio::test]
async fn attack_03_the_site_may_end_renewals_by_certificate() {
    let running = Running::start_with(|parts| {
        let rules = format!("{SITE_RULES}\nrenew_by_certificate = false\n");
        parts.site_rules = SiteRules::from_toml(&rules).unwrap();
    })
    .await;
    running.gateway.set_renewal_contact(RenewalContact::NotNeeded);
    let device = enrolled(&running).await;
    let sent = device.renewal(&running.house, &device.request(), &other_key());
    assert_eq!(running.refused(&sent).await, Reason::RenewalNotAllowed);
    let fields = running.traces.last().fields;
    assert!(fields[0].to_string().contains("renew_by_certificate"), "{fields:?}");
}

#[tokio::test]
async fn attack_03_the_fourth_renewal_needs_a_new_challenge() {
    let running = running().await;
    let mut device = enrolled(&running).await;
    // The key before the last is not the last.
    let keys = [device_key(), other_key(), device_key(), other_key(), device_key()];
    for generation in 1..=3 {
        let (signer, key) = (&keys[generation - 1], &keys[generation]);
        let certificate = device.certificate.clone();
        let csr = device.request();
        let sent = device.signed_by(&running.house, &csr, key, signer, &certificate);
        device.certificate = running.granted(&sent).await;
        running.house.clock.set(device.certificate.not_after().minus(DAY));
    }
    let certificate = device.certificate.clone();
    let csr = device.request();
    let sent = device.signed_by(&running.house, &csr, &keys[4], &keys[3], &certificate);
    assert_eq!(running.refused(&sent).await, Reason::RenewalNotAllowed);
    let fields = running.traces.last().fields;
    assert!(fields[0].expected.starts_with("at most 3"), "{fields:?}");
    let issued = events(&running, EventKind::Issued).await;
    let renews: Vec<_> = issued.iter().map(|body| &body["renews"]).collect();
    assert!(renews[0].is_null());
    for at in 1..=3 {
        assert_eq!(*renews[at], issued[at - 1]["thumbprint_sha256"]);
        assert_eq!(issued[at]["generation"], at);
    }
}

#[tokio::test]
async fn attack_03_a_certificate_has_one_successor() {
    let running = running().await;
    let device = enrolled(&running).await;
    let first = device.renewal(&running.house, &device.request(), &other_key());
    let new = running.granted(&first).await;
    // Who has stolen the old key, or its owner, comes second, and the issuer hears of it.
    let second = device.renewal(&running.house, &device.request(), &keys::p256(3));
    assert_eq!(running.refused(&second).await, Reason::ChallengeAlreadyUsed);
    let breaches = events(&running, EventKind::Breach).await;
    assert_eq!(breaches.len(), 1);
    assert_eq!(breaches[0]["device"], device.claims.device.as_str());
    // The first is still given to retries.
    assert_eq!(running.granted(&first).await, new);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_03_of_many_successors_at_once_there_is_one() {
    let running = Arc::new(running().await);
    let device = enrolled(&running).await;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
            let sent = device.renewal(&running.house, &device.request(), &key);
            let running = running.clone();
            tokio::spawn(async move { running.ask(&sent).await })
        })
        .collect();
    let mut granted = 0;
    for task in tasks {
        granted += usize::from(matches!(task.await.unwrap(), Reply::Success(_)));
    }
    assert_eq!((granted, running.ca.calls().len()), (1, 2));
}

#[tokio::test]
async fn a_fresh_challenge_decides_alone_and_another_one_is_no_renewal_by_certificate() {
    let running = running().await;
    let device = enrolled(&running).await;
    let fresh = || {
        let mut claims = running.house.claims();
        claims.device = device.claims.device.clone();
        claims.expectation = device.claims.expectation.clone();
        claims
    };
    let claims = fresh();
    let csr = House::csr(&claims, &running.house.seal(&claims));
    running.granted(&device.renewal(&running.house, &csr, &other_key())).await;
    // The latest is the first.
    assert_eq!(inventory(&running).await[0].challenge, claims.challenge_id);
    // Another one that has expired, and what is no challenge, are refused for what they are.
    let mut over = fresh();
    over.issued_at = over.issued_at.minus(2 * DAY);
    over.expires_at = over.issued_at.plus(Duration::from_secs(60));
    for (text, reason) in [
        (running.house.seal(&over), Reason::ChallengeExpired),
        ("secret".to_owned(), Reason::ChallengeDecodingError),
    ] {
        let csr = device.with_challenge(&text);
        let sent = device.renewal(&running.house, &csr, &keys::p256(3));
        assert_eq!(running.refused(&sent).await, reason);
    }
}

#[tokio::test]
async fn attack_03_renewals_by_certificate_need_an_issuer_that_was_heard() {
    let running = Running::start().await;
    let device = enrolled(&running).await;
    let sent = device.renewal(&running.house, &device.request(), &other_key());
    // Nobody has said anything about an issuer.
    assert_eq!(running.refused(&sent).await, Reason::IssuerOffline);
    let now = device.certificate.not_after().minus(5 * DAY);
    let heard_at = Arc::new(std::sync::Mutex::new(None));
    let shown = heard_at.clone();
    running
        .gateway
        .set_link_status(move || LinkStatus { last_heard: *shown.lock().unwrap(), trouble: None });
    let hour = Duration::from_secs(3_600);
    running.gateway.set_renewal_contact(RenewalContact::Within(hour));
    let heard = |at| *heard_at.lock().unwrap() = at;
    assert_eq!(running.refused(&sent).await, Reason::IssuerOffline);
    heard(Some(now.minus(hour + Duration::from_secs(1))));
    assert_eq!(running.refused(&sent).await, Reason::IssuerOffline);
    assert!(running.traces.last().detail.unwrap().contains("last heard at"));
    // A request with a challenge is none of this.
    let mut fresh = running.house.claims();
    fresh.device = device.claims.device.clone();
    fresh.expectation = device.claims.expectation.clone();
    let csr = House::csr(&fresh, &running.house.seal(&fresh));
    running.granted(&device.renewal(&running.house, &csr, &keys::p256(3))).await;
    heard(Some(now.minus(hour)));
    running.granted(&sent).await;
}

#[tokio::test]
async fn a_renewal_is_at_an_endpoint_of_its_profile() {
    let running = Running::start_with(|parts| {
        let mut other = Endpoint::generic("/other");
        other.profiles = Some(["vpn".parse().unwrap()].into());
        parts.endpoints.push(other);
    })
    .await;
    running.gateway.set_renewal_contact(RenewalContact::NotNeeded);
    let device = enrolled(&running).await;
    let sent = device.renewal(&running.house, &device.request(), &other_key());
    let reply = running.ask_at("/other", &sent).await;
    assert!(matches!(reply, Reply::Failure { .. }), "{reply:?}");
    assert_eq!(running.traces.last().reason, Some(Reason::ChallengeNotServed));
    running.granted(&sent).await;
}

/// A message in a transaction that the client has chosen, as those do that derive it from the key.
fn in_transaction(running: &Running, id: &str, csr: &[u8], signer: &CertificateDer) -> Sent {
    let house = &running.house;
    let transaction = TransactionId::new(id).unwrap();
    let key = device_key();
    let ask = Ask {
        message_type: MessageType::PkcsReq,
        transaction_id: &transaction,
        data: csr,
        recipient: &house.ra.recipients[0].certificate,
        padding: RsaPadding::Pkcs1v15,
        encryption: ContentEncryption::Aes256Cbc,
        scheme: SignatureScheme::default_for(key.public_key().algorithm()),
    };
    let who = Identity { certificate: signer, signer: &*key.signer() };
    let (bytes, nonce) = client::request(&ask, &who, &*house.provider).unwrap();
    let me = Recipient { certificate: signer.clone(), key: key.decryption().unwrap() };
    Sent { bytes, nonce, transaction, me, challenge: None::<Secret<String>> }
}

/// The same key, hence the same transactionID; and from the second renewal on the very same request.
#[tokio::test]
async fn quirk_51_the_same_request_in_the_same_transaction_renews_again_and_again() {
    for repeats_challenge in [false, true] {
        let running = Running::start_with(|parts| {
            let rules = format!("{SITE_RULES}\nrenew_with_same_key = true\n");
            parts.site_rules = SiteRules::from_toml(&rules).unwrap();
        })
        .await;
        running.gateway.set_renewal_contact(RenewalContact::NotNeeded);
        let mut claims = running.house.claims();
        claims.expectation.renewal = Renewal::Certificate { window: WINDOW };
        // Three of them within the life of the issuer's key: a challenge must be readable to be known.
        claims.expectation.validity = 90 * DAY;
        let blob = running.house.seal(&claims);
        let csr = sign_csr(&House::csr(&claims, &blob), &device_key());
        let sent = in_transaction(&running, "KEYHASH", &csr, &device_certificate(&device_key()));
        let certificate = running.granted(&sent).await;
        let mut device = Device { claims, blob, certificate };
        let csr =
            if repeats_challenge { device.with_challenge(&device.blob) } else { device.request() };
        let csr = sign_csr(&csr, &device_key());
        for generation in 1..=3 {
            let now = device.certificate.not_after().minus(5 * DAY);
            running.house.clock.set(now);
            let ask = |signer| in_transaction(&running, "KEYHASH", &csr, signer);
            let by_old = ask(&device.certificate);
            let new = running.granted(&by_old).await;
            assert_ne!(new, device.certificate);
            assert_eq!(running.ca.calls().len(), generation + 1);
            // Its retry gets the same, and so does one that is signed with it already.
            assert_eq!(running.granted(&by_old).await, new);
            assert_eq!(running.granted(&ask(&new)).await, new);
            // When retries are over, neither makes another one.
            running.house.clock.set(now.plus(DAY + Duration::from_secs(1)));
            assert_eq!(running.refused(&by_old).await, Reason::ChallengeExpired);
            assert_eq!(running.refused(&ask(&new)).await, Reason::RenewalNotAllowed);
            device.certificate = new;
        }
        assert_eq!(running.ca.calls().len(), 4);
    }
}

/// The answer to an EC key is encrypted with the challenge in the request.
#[tokio::test]
async fn a_certificate_of_an_ec_key_renews_itself_with_the_challenge_of_its_first_enrolment() {
    let running = running().await;
    let (ec, next) = (keys::p256(3), SoftwareKey::generate(KeyAlgorithm::P384).unwrap());
    let mut claims = running.house.claims();
    claims.expectation.renewal = Renewal::Certificate { window: WINDOW };
    claims.expectation.key_algorithms.push(KeyAlgorithm::P384);
    let device = enrolled_by(&running, claims, &ec).await;
    let renew =
        |csr: &CsrBuilder| device.signed_by(&running.house, csr, &next, &ec, &device.certificate);
    let bare = renew(&device.request());
    assert_eq!(running.refused(&bare).await, Reason::AnswerUndeliverable);
    let new = running.granted(&renew(&device.with_challenge(&device.blob))).await;
    assert_eq!(new.spki(), next.public_key());
}

/// Certificates that are renewed sooner than retries end: who signs says which of both it is.
#[tokio::test]
async fn quirk_51_the_same_request_renews_while_it_would_still_be_repeated() {
    let running = Running::start_with(|parts| {
        let rules = format!("{SITE_RULES}\nrenew_with_same_key = true\n");
        parts.site_rules = SiteRules::from_toml(&rules).unwrap();
    })
    .await;
    running.gateway.set_renewal_contact(RenewalContact::NotNeeded);
    let hours = |n: u64| Duration::from_secs(n * 3_600);
    let mut claims = running.house.claims();
    claims.expectation.validity = hours(12);
    claims.expectation.renewal = Renewal::Certificate { window: hours(6) };
    let opened = claims.issued_at;
    let device = enrolled_by(&running, claims, &device_key()).await;
    let ask = |signer| {
        device.signed_by(&running.house, &device.request(), &device_key(), &device_key(), signer)
    };
    running.house.clock.set(opened.plus(hours(7)));
    let second = running.granted(&ask(&device.certificate)).await;
    running.house.clock.set(opened.plus(hours(11)));
    assert_eq!(running.granted(&ask(&device.certificate)).await, second);
    // Not in its window yet: it gets itself once more.
    assert_eq!(running.granted(&ask(&second)).await, second);
    running.house.clock.set(opened.plus(hours(14)));
    let third = running.granted(&ask(&second)).await;
    assert_ne!(third, second);
    assert_eq!(running.granted(&ask(&second)).await, third);
    assert_eq!(running.ca.calls().len(), 3);
}

#[tokio::test]
async fn a_renewal_with_the_same_key_is_the_sites_choice() {
    let running = running().await;
    let device = enrolled(&running).await;
    let sent = device.renewal(&running.house, &device.request(), &device_key());
    assert_eq!(running.refused(&sent).await, Reason::RenewalNotAllowed);
    let fields = running.traces.last().fields;
    assert!(fields[0].to_string().contains("renew_with_same_key"), "{fields:?}");
}
