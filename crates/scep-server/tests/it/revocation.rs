//! From an order in the ledger to a CRL over HTTP.

use crate::support::{Running, device_key};
use async_trait::async_trait;
use core::time::Duration;
use scep_ca::{
    CaError, Capabilities, CertificateAuthority, CrlOrder, Found, IssueError, LocalCa, Revocation,
    Revoked, Wanted,
};
use scep_ledger::{
    EventKind, IssuePermit, OrderedBy, QueueOutcome, RevocationOrder, RevocationReason,
    RevocationState,
};
use scep_message::client::Reply;
use scep_server::{Gateway, Parts};
use scep_testkit::house::{House, OPENS};
use scep_testkit::keys;
use scep_types::{CertificateDer, Clock, CrlDer, NameHash, SerialNumber};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

fn order(certificate: &CertificateDer) -> RevocationOrder {
    RevocationOrder {
        issuer: NameHash::of(certificate.issuer_der()),
        serial: certificate.serial().unwrap(),
        reason: RevocationReason::KeyCompromise,
        by: OrderedBy::Tenant(House::tenant()),
    }
}

/// With the house's own CA, which revokes.
fn local(house: &House) -> impl FnOnce(&mut Parts) + use<> {
    let ca = house.ca.clone();
    move |parts| parts.main.ca = Arc::new(ca)
}

async fn start() -> Running {
    let house = House::new();
    let ca = local(&house);
    Running::start_in(house, tempfile::tempdir().unwrap(), ca).await
}

/// Fetches /crl until it is as wanted.
async fn crl_that(running: &Running, wanted: impl Fn(&CrlDer) -> bool) -> CrlDer {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let http = running.get("/crl").await;
        if http.status == 200 {
            assert_eq!(http.header("content-type"), Some("application/pkix-crl"));
            let crl = CrlDer::parse(&http.body).unwrap();
            if wanted(&crl) {
                return crl;
            }
        } else {
            assert_eq!(http.status, 503, "{}", http.text());
        }
        assert!(Instant::now() < deadline, "no such CRL: {http:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn state(gateway: &Gateway, certificate: &CertificateDer) -> Option<RevocationState> {
    let order = order(certificate);
    gateway.ledger().revocation(order.issuer, &order.serial).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_54_a_revocation_reaches_the_crl_and_the_retry_nothing() {
    let running = start().await;
    let (bad, good) =
        (running.house.enrolment(&device_key()), running.house.enrolment(&keys::rsa2048(3)));
    let revoked = running.granted(&bad).await;
    let kept = running.granted(&good).await;
    let first = crl_that(&running, |_| true).await;
    assert_eq!(first.serials().count(), 0);

    let ledger = running.gateway.ledger();
    let now = running.house.clock.now();
    let unknown = SerialNumber::from_random([9; 16]);
    let stray = RevocationOrder { serial: unknown, ..order(&revoked) };
    assert_eq!(ledger.queue_revocation(stray, now).await, Ok(QueueOutcome::NotFound));
    assert_eq!(ledger.queue_revocation(order(&revoked), now).await, Ok(QueueOutcome::Queued));
    let serial = revoked.serial().unwrap();
    let crl = crl_that(&running, |crl| crl.contains(&serial)).await;
    assert!(crl.number() > first.number());
    assert_eq!(crl.serials().count(), 1);
    assert_eq!(crl.next_update(), Some(crl.this_update().plus(Duration::from_secs(7 * 86_400))));
    // What is shown is on record.
    assert_eq!(state(&running.gateway, &revoked).await, Some(RevocationState::OnCrl));
    let again = QueueOutcome::Already(RevocationState::OnCrl);
    assert_eq!(ledger.queue_revocation(order(&revoked), now).await, Ok(again));

    assert!(matches!(running.ask(&bad).await, Reply::Failure { .. }), "a retry");
    assert_eq!(running.granted(&good).await, kept);
    check_with_openssl(&running, &crl, &revoked, &kept);
}

fn check_with_openssl(
    running: &Running,
    crl: &CrlDer,
    revoked: &CertificateDer,
    kept: &CertificateDer,
) {
    if Command::new("openssl").arg("version").output().is_err() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "openssl is missing");
        eprintln!("SKIPPED attack_54 with openssl: it is missing");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let pem = |kind: &str, name: &str, der: &[u8]| {
        let (from, to) =
            (folder.path().join(format!("{name}.der")), folder.path().join(format!("{name}.pem")));
        std::fs::write(&from, der).unwrap();
        let mut command = Command::new("openssl");
        command.args([kind, "-inform", "DER", "-in"]).arg(&from).arg("-out").arg(&to);
        assert!(command.status().unwrap().success());
        to
    };
    let root = pem("x509", "root", running.house.ca.chain()[0].as_der());
    let crl = pem("crl", "crl", crl.as_der());
    let verify = |name: &str, certificate: &CertificateDer| {
        let leaf = pem("x509", name, certificate.as_der());
        let output = Command::new("openssl")
            .args(["verify", "-crl_check", "-attime", &OPENS.seconds().to_string(), "-CAfile"])
            .arg(&root)
            .arg("-CRLfile")
            .arg(&crl)
            .arg(leaf)
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (accepted, text) = verify("kept", kept);
    assert!(accepted, "{text}");
    let (accepted, text) = verify("revoked", revoked);
    assert!(!accepted && text.contains("certificate revoked"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_crl_is_renewed_at_half_of_its_validity() {
    let running = start().await;
    let first = crl_that(&running, |_| true).await;
    running.house.clock.advance(Duration::from_secs(7 * 86_400 / 2));
    let second = crl_that(&running, |crl| crl.number() != first.number()).await;
    assert!(second.number() > first.number());
    assert_eq!(second.this_update(), running.house.clock.now());
    assert!(second.this_update() < first.next_update().unwrap());
    // It is not renewed before.
    running.house.clock.advance(Duration::from_secs(7 * 86_400 / 2 - 1));
    running.gateway.revoke_pending().await.unwrap();
    assert_eq!(CrlDer::parse(&running.get("/crl").await.body).unwrap(), second);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_crl_comes_with_a_tag_and_by_get_only() {
    let running = start().await;
    let crl = crl_that(&running, |_| true).await;
    let http = running.get("/crl?operation=GetCACaps").await;
    assert_eq!(http.body, crl.as_der());
    let tag = http.header("etag").unwrap();
    let request = format!(
        "GET /crl HTTP/1.1\r\nHost: x\r\nConnection: close\r\nIf-None-Match: {tag}\r\n\r\n"
    );
    let unchanged = running.raw(request.as_bytes()).await;
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    let other = request.replace(tag, "\"other\"");
    assert_eq!(running.raw(other.as_bytes()).await.status, 200);
    assert_eq!(running.post("/crl", "", b"x").await.status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_serves_the_last_crl_and_ends_what_was_begun() {
    let running = start().await;
    let certificate = running.granted(&running.house.enrolment(&device_key())).await;
    let last = crl_that(&running, |_| true).await;
    let (house, folder) = running.stop().await;
    // A crash after the CA was asked and before its answer was recorded.
    let ledger = house.parts(folder.path()).ledger;
    let now = house.clock.now();
    ledger.queue_revocation(order(&certificate), now).await.unwrap();
    let issuer = order(&certificate).issuer;
    assert_eq!(ledger.next_revocations(issuer, 1, now).await.unwrap().len(), 1);
    assert_eq!(ledger.last_crl(issuer).await, Ok(Some(last.clone())));
    drop(ledger);
    let ca = local(&house);
    let running = Running::start_in(house, folder, ca).await;
    let serial = certificate.serial().unwrap();
    let crl = crl_that(&running, |crl| crl.contains(&serial)).await;
    assert!(crl.number() > last.number());

    // A crash after the answer was recorded and before the CRL.
    let second = running.granted(&running.house.enrolment(&keys::rsa2048(3))).await;
    let (house, folder) = running.stop().await;
    let ledger = house.parts(folder.path()).ledger;
    ledger.queue_revocation(order(&second), now).await.unwrap();
    let jobs = ledger.next_revocations(issuer, 1, now).await.unwrap();
    ledger.revocation_done(&jobs[0], now, now).await.unwrap();
    drop((jobs, ledger));
    let ca = local(&house);
    let running = Running::start_in(house, folder, ca).await;
    let serial = second.serial().unwrap();
    let both = crl_that(&running, |crl| crl.contains(&serial)).await;
    assert_eq!(both.serials().count(), 2);
    let events = running.gateway.ledger().outbox(0, 100).await.unwrap();
    let count = |kind| events.iter().filter(|event| event.kind == kind).count();
    assert_eq!((count(EventKind::Revoked), count(EventKind::OnCrl)), (2, 2));

    // With nothing to do the last one is served, and no new one made.
    let (house, folder) = running.stop().await;
    let ca = local(&house);
    let running = Running::start_in(house, folder, ca).await;
    assert_eq!(crl_that(&running, |_| true).await, both);
}

/// What the CA says to the next orders to revoke, and how often it was asked.
#[derive(Debug)]
struct Moody {
    inner: LocalCa,
    answers: Mutex<Vec<CaError>>,
    asked: AtomicUsize,
}

#[async_trait]
impl CertificateAuthority for Moody {
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
        self.inner.find(wanted).await
    }
    async fn revoke(&self, what: &Revocation<'_>) -> Result<Revoked, CaError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers.lock().unwrap().pop();
        match answer {
            Some(error) => Err(error),
            None => self.inner.revoke(what).await,
        }
    }
    async fn crl(&self, order: &CrlOrder<'_>) -> Result<CrlDer, CaError> {
        self.inner.crl(order).await
    }
}

/// A gateway that nobody runs: rounds happen when the test says so.
async fn idle(
    folder: &tempfile::TempDir,
    answers: Vec<CaError>,
) -> (Gateway, Arc<Moody>, CertificateDer) {
    let house = House::new();
    let ca = Arc::new(Moody {
        inner: house.ca.clone(),
        answers: Mutex::new(answers),
        asked: AtomicUsize::new(0),
    });
    let mut parts = house.parts(folder.path());
    let serving: Arc<dyn CertificateAuthority> = ca.clone();
    parts.main.ca = serving;
    let gateway = Gateway::new(parts).unwrap();
    let sent = house.enrolment(&device_key());
    let answer = gateway.answer("/scep", sent.bytes.clone()).await.unwrap();
    let Reply::Success(certificates) = house.read(&sent, &answer) else { panic!("refused") };
    (gateway, ca, certificates[0].clone())
}

#[tokio::test]
async fn a_ca_that_cannot_be_reached_is_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let away = CaError::Unavailable { why: "away".into() };
    let (gateway, ca, certificate) = idle(&folder, vec![away]).await;
    gateway.ledger().queue_revocation(order(&certificate), OPENS).await.unwrap();
    gateway.revoke_pending().await.unwrap_err();
    assert_eq!(state(&gateway, &certificate).await, Some(RevocationState::Sent));
    let done = gateway.revoke_pending().await.unwrap();
    assert_eq!((done.revoked, done.published, done.unpublished), (1, 1, 0));
    assert_eq!(ca.asked.load(Ordering::SeqCst), 2);
    // Nothing is left to do.
    assert_eq!(gateway.revoke_pending().await, Ok(scep_server::Revocations::default()));
    assert_eq!(ca.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_ca_that_refuses_is_asked_once() {
    let folder = tempfile::tempdir().unwrap();
    let no = CaError::Refused { why: "never".into() };
    let (gateway, ca, certificate) = idle(&folder, vec![no]).await;
    gateway.ledger().queue_revocation(order(&certificate), OPENS).await.unwrap();
    for failed in [1, 0] {
        assert_eq!(gateway.revoke_pending().await.unwrap().failed, failed);
    }
    assert_eq!(ca.asked.load(Ordering::SeqCst), 1);
    let failed = RevocationState::Failed("the CA refuses: never".into());
    assert_eq!(state(&gateway, &certificate).await, Some(failed));
}

#[tokio::test]
async fn attack_54_the_ca_is_never_asked_about_what_was_not_issued_here() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, ca, certificate) = idle(&folder, Vec::new()).await;
    let other = RevocationOrder { issuer: NameHash::of(b"other"), ..order(&certificate) };
    let outcome = gateway.ledger().queue_revocation(other, OPENS).await;
    assert_eq!(outcome, Ok(QueueOutcome::NotFound));
    gateway.revoke_pending().await.unwrap();
    assert_eq!(ca.asked.load(Ordering::SeqCst), 0);
    gateway.ledger().queue_revocation(order(&certificate), OPENS).await.unwrap();
    gateway.revoke_pending().await.unwrap();
    assert_eq!(ca.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn attack_55_the_brake_stops_the_worker_until_it_is_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::new();
    let mut parts = house.parts(folder.path());
    parts.main.ca = Arc::new(house.ca.clone());
    let gateway = Gateway::new(parts).unwrap();
    let mut certificates = Vec::new();
    for _ in 0..11 {
        // A key belongs to one device.
        let key = scep_keys::SoftwareKey::generate(scep_types::KeyAlgorithm::Rsa(2048)).unwrap();
        let sent = house.enrolment(&key);
        let answer = gateway.answer("/scep", sent.bytes.clone()).await.unwrap();
        let Reply::Success(mut issued) = house.read(&sent, &answer) else { panic!("refused") };
        certificates.append(&mut issued);
    }
    for certificate in &certificates {
        gateway.ledger().queue_revocation(order(certificate), OPENS).await.unwrap();
    }
    let done = gateway.revoke_pending().await.unwrap();
    assert_eq!((done.revoked, done.held), (0, 11), "eleven are more than ten");
    assert_eq!(gateway.ledger().confirm_revocations("alice", OPENS).await, Ok(11));
    let done = gateway.revoke_pending().await.unwrap();
    assert_eq!((done.revoked, done.published, done.held), (11, 11, 0));
}
