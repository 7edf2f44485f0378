//! What is left open is settled, and nothing is released that was not recorded.

use crate::support::{Running, device_key, other_key};
use scep_ca::{
    CaError, CanRevoke, Capabilities, CertificateAuthority, Found, IssueError, Recover, Wanted,
};
use scep_keys::SoftwareKey;
use scep_ledger::{IssuePermit, LedgerError};
use scep_message::client::Reply;
use scep_testkit::House;
use scep_testkit::ca::{Alteration, AlteringCa, Outcome, RecordingCa};
use scep_testkit::house::{OPENS, device_certificate, sign_csr};
use scep_testkit::keys;
use scep_types::{CertificateDer, Clock as _, NameHash, Reason, SerialNumber};
use std::sync::Arc;

#[tokio::test]
async fn a_ca_that_refuses_frees_the_challenge() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &device_key());
    running.ca.then(Outcome::Refuse);
    let reply = running.ask(&running.house.send(&csr, &device_key())).await;
    assert!(matches!(reply, Reply::Failure { .. }));
    assert_eq!(running.traces.last().reason, Some(Reason::CaUnavailable));
    running.granted(&running.house.send(&csr, &device_key())).await;
}

#[tokio::test]
async fn attack_52_a_lost_answer_of_the_ca_is_found_by_recovery_and_given_to_the_retry() {
    let running = Running::start_with(|parts| {
        parts.limits.in_progress_wait = std::time::Duration::from_millis(20);
    })
    .await;
    let claims = running.house.claims();
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &device_key());
    running.ca.then(Outcome::LoseAnswer);
    let reply = running.ask(&running.house.send(&csr, &device_key())).await;
    assert!(matches!(reply, Reply::Failure { .. }));
    assert_eq!(running.traces.last().reason, Some(Reason::CaOutcomeUnknown));
    // Until it is settled, the challenge stays with this request and nothing new is issued.
    let sent = running.house.send(&csr, &device_key());
    assert_eq!(running.refused(&sent).await, Reason::RequestInProgress);
    assert_eq!(running.gateway.recover().await.unwrap(), 1);
    let found = running.granted(&running.house.send(&csr, &device_key())).await;
    assert_eq!(running.ca.issued(), [found]);
    assert_eq!(running.ca.calls().len(), 1);
}

#[tokio::test]
async fn a_lost_request_is_found_not_to_have_issued_and_the_challenge_is_free_again() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &device_key());
    running.ca.then(Outcome::LoseRequest);
    let reply = running.ask(&running.house.send(&csr, &device_key())).await;
    assert!(matches!(reply, Reply::Failure { .. }));
    assert_eq!(running.gateway.recover().await.unwrap(), 1);
    running.granted(&running.house.send(&csr, &device_key())).await;
    assert_eq!(running.ca.issued().len(), 1);
}

/// Finds somebody else's certificate for the first key that it was ever asked to certify.
#[derive(Debug)]
struct Confused {
    inner: RecordingCa,
    anothers: CertificateDer,
}

#[async_trait::async_trait]
impl CertificateAuthority for Confused {
    fn chain(&self) -> &[CertificateDer] {
        self.inner.chain()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn choose_serial(&self) -> Result<Option<SerialNumber>, CaError> {
        self.inner.choose_serial()
    }

    async fn issue(&self, permit: IssuePermit) -> Result<CertificateDer, IssueError> {
        self.inner.issue(permit).await
    }

    async fn find(&self, wanted: &Wanted<'_>) -> Result<Found, CaError> {
        let first = self.inner.calls().first().map(|call| call.contents.spki.clone());
        if first.as_ref() == Some(wanted.spki) {
            return Ok(Found::Certificate(self.anothers.clone()));
        }
        self.inner.find(wanted).await
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_settled_holds_up_none_of_the_others() {
    let (house, folder) = (House::new(), tempfile::tempdir().unwrap());
    let ca = RecordingCa::new(house.ca.clone());
    let confused = Confused { inner: ca.clone(), anothers: device_certificate(&keys::p256(2)) };
    let running =
        Running::start_in(house, folder, |parts| parts.main.ca = Arc::new(confused)).await;
    let send = |key: &SoftwareKey| {
        let claims = running.house.claims();
        let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), key);
        running.house.send(&csr, key)
    };
    for key in [other_key(), device_key()] {
        ca.then(Outcome::LoseRequest);
        running.ask(&send(&key)).await;
    }
    // The first is somebody else's certificate, and stays open; the second is free again.
    assert_eq!(running.gateway.recover().await, Err(LedgerError::Mismatch));
    assert_eq!(running.gateway.ledger().unsettled().await.unwrap().len(), 1);
    running.granted(&send(&device_key())).await;
}

#[tokio::test]
async fn attack_46_a_certificate_that_differs_is_withheld() {
    for alteration in Alteration::ALL {
        let house = House::new();
        let other = keys::p256(3).public_key().clone();
        // The house's CA has the first key.
        let ca = AlteringCa::new(house.ca.clone(), keys::p256(0).signer(), other, alteration);
        let folder = tempfile::tempdir().unwrap();
        let running = Running::start_in(house, folder, |parts| parts.main.ca = Arc::new(ca)).await;
        let sent = running.house.enrolment(&device_key());
        let reply = running.ask(&sent).await;
        assert!(matches!(reply, Reply::Failure { .. }), "{reply:?}");
        let trace = running.traces.last();
        assert_eq!(trace.reason, Some(Reason::CertificateDiffers), "{alteration:?}");
        assert!(trace.detail.is_some());
    }
}

#[tokio::test]
async fn attack_46_a_certificate_that_differs_is_revoked() {
    for alteration in [Alteration::AdministratorSid, Alteration::SerialNumber] {
        let house = House::new();
        let other = keys::p256(3).public_key().clone();
        let ca = AlteringCa::new(house.ca.clone(), keys::p256(0).signer(), other, alteration);
        let folder = tempfile::tempdir().unwrap();
        let running = Running::start_in(house, folder, |parts| parts.main.ca = Arc::new(ca)).await;
        running.ask(&running.house.enrolment(&device_key())).await;
        let trace = running.traces.last();
        assert_eq!(trace.reason, Some(Reason::CertificateDiffers));
        let detail = trace.detail.unwrap();
        assert!(detail.ends_with("it is being revoked"), "{detail}");
        // By the next round at the latest; the worker may have been faster.
        running.gateway.revoke_pending().await.unwrap();
        let ledger = running.gateway.ledger();
        let issuer = NameHash::of(running.house.ca.chain()[0].subject_der());
        let entries = ledger.crl_entries(issuer).await.unwrap();
        let serials: Vec<String> = entries.iter().map(|e| e.serial.to_string()).collect();
        assert_eq!(serials, [trace.serial.unwrap()], "{alteration:?}");
        let crl = ledger.last_crl(issuer).await.unwrap().unwrap();
        assert!(crl.contains(&entries[0].serial));
    }
}

/// Changes what it issues and revokes nothing.
#[derive(Debug)]
struct Stubborn(AlteringCa);

#[async_trait::async_trait]
impl CertificateAuthority for Stubborn {
    fn chain(&self) -> &[CertificateDer] {
        self.0.chain()
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { revoke: CanRevoke::No, recover: Recover::None }
    }
    fn choose_serial(&self) -> Result<Option<SerialNumber>, CaError> {
        self.0.choose_serial()
    }
    async fn issue(&self, permit: IssuePermit) -> Result<CertificateDer, IssueError> {
        self.0.issue(permit).await
    }
    async fn find(&self, wanted: &Wanted<'_>) -> Result<Found, CaError> {
        self.0.find(wanted).await
    }
}

#[tokio::test]
async fn attack_46_what_cannot_be_revoked_is_reported_as_unrevocable() {
    let house = House::new();
    let other = keys::p256(3).public_key().clone();
    let signer = keys::p256(0).signer();
    let ca = Stubborn(AlteringCa::new(house.ca.clone(), signer, other, Alteration::CaTrue));
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start_in(house, folder, |parts| parts.main.ca = Arc::new(ca)).await;
    running.ask(&running.house.enrolment(&device_key())).await;
    let detail = running.traces.last().detail.unwrap();
    assert!(detail.ends_with("unrevocable: this CA does not revoke"), "{detail}");
    let events = running.gateway.ledger().outbox(0, 10).await.unwrap();
    assert!(format!("{events:?}").contains("unrevocable"), "not reported: {events:?}");
}

/// Chooses its serial numbers itself, loses its second answer and every later one, and is looked through by key: what
/// it finds is its first certificate.
#[derive(Debug)]
struct ByKey(RecordingCa);

#[async_trait::async_trait]
impl CertificateAuthority for ByKey {
    fn chain(&self) -> &[CertificateDer] {
        self.0.chain()
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { revoke: CanRevoke::No, recover: Recover::ByKey }
    }
    fn choose_serial(&self) -> Result<Option<SerialNumber>, CaError> {
        if self.0.issued().is_empty() { self.0.choose_serial() } else { Ok(None) }
    }
    async fn issue(&self, permit: IssuePermit) -> Result<CertificateDer, IssueError> {
        if self.0.issued().is_empty() {
            return self.0.issue(permit).await;
        }
        Err(IssueError::Unknown(CaError::Unavailable { why: "the line is dead".into() }))
    }
    async fn find(&self, wanted: &Wanted<'_>) -> Result<Found, CaError> {
        let same = |certificate: &CertificateDer| certificate.spki() == wanted.spki;
        let found = self.0.issued().into_iter().find(same);
        Ok(found.map_or(Found::Nothing, Found::Certificate))
    }
}

#[tokio::test]
async fn attack_53_recovery_knows_a_certificate_on_record_that_is_not_live() {
    let house = House::new();
    let ca = ByKey(RecordingCa::new(house.ca.clone()));
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start_in(house, folder, |parts| parts.main.ca = Arc::new(ca)).await;
    let mut claims = running.house.claims();
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &device_key());
    let first = running.granted(&running.house.send(&csr, &device_key())).await;
    let ledger = running.gateway.ledger();
    let now = running.house.clock.now();
    let reason = scep_ledger::RevocationReason::Superseded;
    ledger.mark_revoked(first.fingerprint(), reason, now).await.unwrap();
    // Another challenge for the same device and key, and one for others, whose recovery comes after it.
    claims.challenge_id = running.house.claims().challenge_id;
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &device_key());
    let again = running.house.send(&csr, &device_key());
    assert_eq!(running.refused(&again).await, Reason::CaOutcomeUnknown);
    let other = running.house.enrolment(&other_key());
    assert_eq!(running.refused(&other).await, Reason::CaOutcomeUnknown);
    assert_eq!(running.gateway.recover().await.unwrap(), 2);
    assert!(ledger.unsettled().await.unwrap().is_empty());
    // The revoked one is nobody's now, and nothing is lost silently.
    let events = ledger.outbox(0, 100).await.unwrap();
    let count = |kind| events.iter().filter(|event| event.kind == kind).count();
    assert_eq!(count(scep_ledger::EventKind::PossibleOrphan), 1);
    assert_eq!(count(scep_ledger::EventKind::Failed), 1);
    assert_eq!(count(scep_ledger::EventKind::Issued), 1);
}

#[tokio::test]
async fn a_restart_keeps_what_was_issued_and_what_was_spent() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let blob = running.house.seal(&claims);
    let csr = sign_csr(&House::csr(&claims, &blob), &device_key());
    let first = running.granted(&running.house.send(&csr, &device_key())).await;
    let (house, folder) = running.stop().await;
    let running = Running::start_in(house, folder, |_| {}).await;
    assert_eq!(running.granted(&running.house.send(&csr, &device_key())).await, first);
    let stolen = sign_csr(&House::csr(&claims, &blob), &other_key());
    let sent = running.house.send(&stolen, &other_key());
    assert_eq!(running.refused(&sent).await, Reason::ChallengeAlreadyUsed);
    assert_eq!(running.ca.calls().len(), 0);
}

#[tokio::test]
async fn attack_19_a_clock_set_back_revives_nothing() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &device_key());
    running.house.clock.advance(std::time::Duration::from_secs(2 * 3600));
    assert_eq!(
        running.refused(&running.house.send(&csr, &device_key())).await,
        Reason::ChallengeExpired
    );
    running.house.clock.set(OPENS);
    assert_eq!(
        running.refused(&running.house.send(&csr, &device_key())).await,
        Reason::ChallengeExpired
    );
}

#[tokio::test]
async fn what_is_over_is_forgotten_and_stays_spent() {
    const DAY: core::time::Duration = core::time::Duration::from_secs(86_400);
    let (house, folder) = (House::new(), tempfile::tempdir().unwrap());
    let claims = house.claims();
    let blob = house.seal(&claims);
    let csr = sign_csr(&House::csr(&claims, &blob), &device_key());
    let first = Running::start_in(house, folder, |_| ()).await;
    let certificate = first.granted(&first.house.send(&csr, &device_key())).await;
    assert_eq!(first.gateway.prune().await, Ok(0));
    let (house, folder) = first.stop().await;
    house.clock.set(OPENS.plus(DAY * 3));
    // A gateway that runs looks by itself: at its start, and again and again.
    let again = Running::start_in(house, folder, |_| ()).await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let metrics = again.admin("/metrics").await.text();
        if metrics.lines().any(|line| line == "scep_forgotten_total 1") {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{metrics}");
        tokio::task::yield_now().await;
    }
    assert_eq!(again.gateway.prune().await, Ok(0));
    // The certificate is on record, and the challenge still buys nothing else, whatever the clock says.
    again.house.clock.set(OPENS);
    assert_eq!(
        again.gateway.ledger().inventory(2, None).await.unwrap()[0].certificate,
        certificate
    );
    let other = sign_csr(&House::csr(&claims, &blob), &other_key());
    again.refused(&again.house.send(&other, &other_key())).await;
    assert_eq!(again.ca.calls().len(), 0);
}
