//! What every adapter of a CA must do, as one suite: [`run`] tries an adapter and panics where it does not conform.
//!
//! An adapter's test makes a [`Subject`]: the adapter, reached over a [`Line`] where it is remote, and further ones in
//! front of a CA that is away, refuses, or changes what it signs. What a subject does not have is not tried; the names of
//! what was come back, for the test to count.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::missing_panics_doc,
    reason = "part of tests: what does not fit is a failed test, and its message says what"
)]

use crate::House;
use crate::house::{SITE_RULES, sign_csr};
use core::time::Duration;
use scep_ca::{
    CaError, CanRevoke, CertificateAuthority, CrlOrder, Found, IssueError, Recover, Revocation,
    Wanted,
};
use scep_challenge::{ChallengeClaims, Opener, OpeningKey, PinnedSigner};
use scep_keys::SoftwareKey;
use scep_ledger::{CrlEntry, IssuePermit, Ledger, LedgerSettings, RevocationReason, Unsettled};
use scep_pkcs10::{CsrBuilder, RequestedExtension, Rules, UnprovenCsr};
use scep_policy::{Denials, InertContent, SiteRules, decide};
use scep_types::{
    AuthorityName, CertificateDer, CsrInfoHash, KeyAlgorithm, ReleasedCertificate, SpkiDer,
    Timestamp, TransactionId,
};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

/// An adapter to be tried.
#[derive(Debug)]
pub struct Subject {
    /// It, in front of a CA that works.
    pub ca: Arc<dyn CertificateAuthority>,
    /// The line to that CA, where there is one.
    pub line: Option<Line>,
    /// It, in front of a CA that is away.
    pub away: Option<Arc<dyn CertificateAuthority>>,
    /// It, in front of a CA that refuses.
    pub refusing: Option<Arc<dyn CertificateAuthority>>,
    /// It, in front of a CA that changes what it signs.
    pub altering: Option<Arc<dyn CertificateAuthority>>,
    /// What is asked for, beside the house's usual claims.
    pub claims: fn(&mut ChallengeClaims),
    /// The present time, as the CA knows it.
    pub now: Timestamp,
    /// For how long at most [`CertificateAuthority::find`] may keep that there is nothing.
    pub patience: Duration,
}

impl Subject {
    /// An adapter alone.
    #[must_use]
    pub fn new(ca: Arc<dyn CertificateAuthority>, now: Timestamp) -> Self {
        let claims = |_: &mut ChallengeClaims| ();
        let patience = Duration::from_secs(30);
        Self { ca, line: None, away: None, refusing: None, altering: None, claims, now, patience }
    }
}

/// The domain whose security identifiers [`Subject::claims`] may add.
pub const SID_DOMAIN: &str = "S-1-5-21-1004336348-1177238915-682003330";

/// Tries everything the subject has; the names of what was tried.
pub async fn run(subject: &Subject) -> Vec<&'static str> {
    let bench = Bench::new(subject.now, subject.claims);
    let ca = &*subject.ca;
    let mut tried = vec!["issues", "duplicate", "revokes"];
    bench.issues(ca).await;
    bench.duplicate(ca).await;
    bench.revokes(ca).await;
    if let Some(away) = &subject.away {
        tried.push("away");
        bench.nothing_issued(&**away, "a CA that is away").await;
    }
    if let Some(refusing) = &subject.refusing {
        tried.push("refuses");
        bench.nothing_issued(&**refusing, "a CA that refuses").await;
    }
    if let Some(altering) = &subject.altering {
        tried.push("alters");
        bench.alters(&**altering).await;
    }
    if let Some(line) = &subject.line {
        tried.extend(["answer lost", "slow", "request lost"]);
        bench.issued_unheard(ca, line, Fault::LoseAnswer).await;
        bench.issued_unheard(ca, line, Fault::Stall).await;
        bench.request_lost(ca, line, subject.patience).await;
        // It works on as if nothing had been.
        bench.issues(ca).await;
    }
    tried
}

/// One call for a certificate of a new device: its key, and what came of it.
pub async fn attempt(
    ca: &dyn CertificateAuthority,
    now: Timestamp,
) -> (SpkiDer, Result<CertificateDer, IssueError>) {
    let Asked { permit, key, .. } = Bench::new(now, |_| ()).fresh(ca).await;
    (key, ca.issue(permit).await)
}

/// A house with a ledger, at the CA's time.
struct Bench {
    house: House,
    ledger: Ledger,
    now: Timestamp,
    claims: fn(&mut ChallengeClaims),
    next: AtomicU64,
    _folder: tempfile::TempDir,
}

/// One permit, and what belongs to it.
struct Asked {
    permit: IssuePermit,
    unsettled: Unsettled,
    key: SpkiDer,
    request: CsrInfoHash,
}

impl Bench {
    fn new(now: Timestamp, claims: fn(&mut ChallengeClaims)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("ledger.sqlite");
        let ledger = Ledger::open_sqlite(&path, LedgerSettings::default()).expect("a ledger");
        let house = House::new();
        house.clock.set(now);
        Self { house, ledger, now, claims, next: AtomicU64::new(1), _folder: folder }
    }

    fn opener(&self) -> Opener {
        let hour = Duration::from_secs(3_600);
        let signer = PinnedSigner {
            key: self.house.issuer.public_key().clone(),
            not_before: self.now.minus(hour),
            not_after: self.now.plus(hour),
        };
        let key = self.house.challenge.decryption().expect("a key");
        let key = OpeningKey { key, not_after: None };
        let skew = Duration::from_secs(300);
        Opener::new(House::tenant(), House::group(), vec![signer], vec![key], hour, skew)
            .expect("an opener")
    }

    /// A permit for a new device and this key, or a new one.
    async fn ask(
        &self,
        ca: &dyn CertificateAuthority,
        claims: &ChallengeClaims,
        key: &SoftwareKey,
    ) -> Asked {
        let mut claims = claims.clone();
        (self.claims)(&mut claims);
        let blob = self.house.seal(&claims);
        let extra = claims.expectation.extensions.iter().map(|one| RequestedExtension {
            oid: one.oid,
            critical: one.critical,
            value: one.value.clone(),
        });
        let csr = CsrBuilder { extensions: extra.collect(), ..House::csr(&claims, &blob) };
        let der = sign_csr(&csr, key);
        let provider = &*self.house.provider;
        let csr = UnprovenCsr::parse(&der, &Rules::default()).expect("a request");
        let csr = csr.prove(provider).expect("a proven request");
        let verified = self.opener().open(&blob, self.now, provider).expect("a challenge");
        let rules = format!("{SITE_RULES}sid_domains = [{SID_DOMAIN:?}]\n");
        let rules = SiteRules::from_toml(&rules).expect("rules");
        let approval =
            decide(&csr, verified, &rules, &Denials::default(), InertContent::Discard, self.now)
                .expect("an approval");
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let transaction = TransactionId::new(format!("TX{n}")).expect("an id");
        let serial = ca.choose_serial().expect("a serial number, or none");
        let signer = key.public_key().hash();
        let authority = AuthorityName::main();
        let asked =
            scep_ledger::Asked { authority: &authority, serial, signer, transaction: &transaction };
        let admission = self.ledger.admit(approval, &asked, self.now).await;
        let (permit, unsettled) = admission.expect("an admission").redeem();
        Asked { request: permit.request(), permit, unsettled, key: key.public_key().clone() }
    }

    async fn fresh(&self, ca: &dyn CertificateAuthority) -> Asked {
        let key = SoftwareKey::generate(KeyAlgorithm::P256).expect("a key");
        self.ask(ca, &self.house.claims(), &key).await
    }

    /// Issues, and has the certificate released.
    async fn issued(&self, ca: &dyn CertificateAuthority, asked: Asked) -> CertificateDer {
        let Asked { permit, unsettled, key, .. } = asked;
        let certificate = ca.issue(permit).await.expect("the CA issues");
        assert_eq!(certificate.spki(), &key);
        assert!(unsettled.has_serial_of(&certificate), "another serial number than was chosen");
        let conforming = unsettled.approval().check_certificate(&certificate);
        let conforming = conforming.expect("exactly what was approved");
        let released = self.ledger.record(unsettled, conforming, self.now).await;
        released.expect("a record").certificate().clone()
    }

    async fn find(
        &self,
        ca: &dyn CertificateAuthority,
        certificate: Option<&CertificateDer>,
        (key, request): (&SpkiDer, CsrInfoHash),
    ) -> Result<Found, CaError> {
        let serial = certificate.and_then(CertificateDer::serial);
        let wanted = Wanted {
            serial: serial.as_ref(),
            spki: key,
            request,
            pending: false,
            subject_der: &[0x30, 0],
            since: self.now,
        };
        ca.find(&wanted).await
    }

    /// Issues exactly what was approved, by a chain that begins with its issuer, and finds it again.
    async fn issues(&self, ca: &dyn CertificateAuthority) {
        let asked = self.fresh(ca).await;
        let request = asked.request;
        let certificate = self.issued(ca, asked).await;
        let issuer = ca.chain().first().expect("a chain");
        assert_eq!(certificate.issuer_der(), issuer.subject_der());
        let found = self.find(ca, Some(&certificate), (certificate.spki(), request)).await;
        match ca.capabilities().recover {
            Recover::BySerial | Recover::ByKey => {
                assert_eq!(found, Ok(Found::Certificate(certificate)));
            }
            // A server may have forgotten the transaction.
            Recover::ByTransaction => assert!(
                matches!(&found, Ok(Found::Unknown))
                    || found == Ok(Found::Certificate(certificate)),
                "{found:?}"
            ),
            Recover::NothingKept => assert_eq!(found, Ok(Found::Nothing)),
            Recover::None => assert_eq!(found, Ok(Found::Unknown)),
        }
    }

    /// The same key of the same device again is another certificate.
    async fn duplicate(&self, ca: &dyn CertificateAuthority) {
        let key = SoftwareKey::generate(KeyAlgorithm::P256).expect("a key");
        let first = self.house.claims();
        let mut second = self.house.claims();
        second.device = first.device.clone();
        second.expectation = first.expectation.clone();
        let first = self.issued(ca, self.ask(ca, &first, &key).await).await;
        let second = self.issued(ca, self.ask(ca, &second, &key).await).await;
        assert_ne!(first.serial(), second.serial(), "one serial number for two certificates");
    }

    /// Revokes twice with the same answer, and its CRL lists what was revoked and nothing else.
    async fn revokes(&self, ca: &dyn CertificateAuthority) {
        let kept = self.issued(ca, self.fresh(ca).await).await;
        let certificate = self.issued(ca, self.fresh(ca).await).await;
        let serial = certificate.serial().expect("a serial number");
        let reason = RevocationReason::Superseded;
        let what = Revocation { serial: &serial, reason, now: self.now };
        if ca.capabilities().revoke == CanRevoke::No {
            assert_eq!(ca.revoke(&what).await, Err(CaError::CannotRevoke));
            return;
        }
        let revoked = ca.revoke(&what).await.expect("it revokes");
        assert_eq!(ca.revoke(&what).await, Ok(revoked), "asked again it says the same");
        let entries = [CrlEntry { serial: serial.clone(), revoked_at: revoked.at, reason }];
        let order = CrlOrder::new(&entries, 7, self.now, Duration::from_secs(86_400));
        let crl = ca.crl(&order).await.expect("it has a CRL");
        let issuer = ca.chain().first().expect("a chain");
        assert_eq!(crl.issuer_der(), issuer.subject_der());
        assert!(crl.contains(&serial), "the CRL does not list what was revoked");
        assert!(!crl.contains(&kept.serial().expect("a serial number")));
    }

    /// Says for certain that nothing was issued.
    async fn nothing_issued(&self, ca: &dyn CertificateAuthority, what: &str) {
        let Asked { permit, unsettled, .. } = self.fresh(ca).await;
        let error = ca.issue(permit).await.expect_err("no certificate");
        assert!(matches!(error, IssueError::NothingIssued(_)), "{what}: {error}");
        drop(unsettled);
    }

    /// What the CA has changed comes back and is found out: the adapter does not hide it.
    async fn alters(&self, ca: &dyn CertificateAuthority) {
        let Asked { permit, unsettled, .. } = self.fresh(ca).await;
        let certificate = ca.issue(permit).await.expect("the CA issues something");
        let approval = unsettled.approval();
        let differences = approval.check_certificate(&certificate).expect_err("it differs");
        assert!(!differences.is_empty());
    }

    /// The CA issues, and the adapter hears nothing of it.
    async fn issued_unheard(&self, ca: &dyn CertificateAuthority, line: &Line, fault: Fault) {
        let Asked { permit, unsettled, key, request } = self.fresh(ca).await;
        line.set(fault);
        let error = ca.issue(permit).await.expect_err("no answer");
        line.set(Fault::None);
        assert!(matches!(error, IssueError::Unknown(_)), "{fault:?}: {error}");
        match (ca.capabilities().recover, self.find(ca, None, (&key, request)).await) {
            (Recover::ByKey | Recover::ByTransaction, Ok(Found::Certificate(found))) => {
                let conforming = unsettled.approval().check_certificate(&found);
                conforming.expect("what was approved");
            }
            // What was slow to be asked may not be known there yet.
            (Recover::BySerial | Recover::ByTransaction | Recover::None, Ok(Found::Unknown)) => {}
            (_, other) => panic!("{fault:?}: {other:?}"),
        }
    }

    /// The request never reaches the CA: that there is nothing is said late, but it is said.
    async fn request_lost(&self, ca: &dyn CertificateAuthority, line: &Line, patience: Duration) {
        let Asked { permit, unsettled, key, request } = self.fresh(ca).await;
        line.set(Fault::LoseRequest);
        let error = ca.issue(permit).await.expect_err("no answer");
        line.set(Fault::None);
        assert!(matches!(error, IssueError::Unknown(_)), "{error}");
        drop(unsettled);
        // For all that anybody knows the call is still at work.
        let soon = self.find(ca, None, (&key, request)).await;
        assert_ne!(soon, Ok(Found::Nothing), "too soon to be known");
        if ca.capabilities().recover != Recover::ByKey {
            return;
        }
        let deadline = Instant::now() + patience;
        loop {
            match self.find(ca, None, (&key, request)).await {
                Ok(Found::Nothing) => return,
                Err(CaError::Unavailable { .. }) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// What a line does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing wrong.
    None,
    /// Cuts a connection when something is sent, before it arrives.
    LoseRequest,
    /// Cuts a connection when the CA answers.
    LoseAnswer,
    /// Swallows what the CA answers.
    Stall,
}

const FAULTS: [Fault; 4] = [Fault::None, Fault::LoseRequest, Fault::LoseAnswer, Fault::Stall];

/// A TCP line to a CA that fails on command. Ends with this value.
#[derive(Debug)]
pub struct Line {
    address: SocketAddr,
    fault: Arc<AtomicU8>,
    over: Arc<AtomicBool>,
}

impl Line {
    /// From a free loopback port to this address.
    #[must_use]
    pub fn to(ca: SocketAddr) -> Self {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ca)
    }

    /// From this address: a CA that was not there appears.
    #[must_use]
    pub fn at(near: SocketAddr, ca: SocketAddr) -> Self {
        let listener = TcpListener::bind(near).expect("a port");
        let address = listener.local_addr().expect("an address");
        let (fault, over) = (Arc::new(AtomicU8::new(0)), Arc::new(AtomicBool::new(false)));
        let (at, ended) = (Arc::clone(&fault), Arc::clone(&over));
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(far) = TcpStream::connect(ca) else { continue };
                let (Ok(near2), Ok(far2)) = (near.try_clone(), far.try_clone()) else { continue };
                let (there, back) = (Arc::clone(&at), Arc::clone(&at));
                std::thread::spawn(move || pump(near, far, &there, Fault::LoseRequest));
                std::thread::spawn(move || pump(far2, near2, &back, Fault::LoseAnswer));
            }
        });
        Self { address, fault, over }
    }

    /// Where it begins.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it does from now on.
    pub fn set(&self, fault: Fault) {
        let code = FAULTS.iter().position(|one| *one == fault).unwrap_or_default();
        self.fault.store(u8::try_from(code).unwrap_or_default(), Ordering::Relaxed);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

/// Copies one way until an end, or until the line's fault is the one that cuts this way.
fn pump(mut from: TcpStream, mut to: TcpStream, fault: &AtomicU8, cuts: Fault) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).unwrap_or_default();
        let now = FAULTS.get(usize::from(fault.load(Ordering::Relaxed))).copied();
        if read == 0 || now == Some(cuts) {
            break;
        }
        if now == Some(Fault::Stall) && cuts == Fault::LoseAnswer {
            continue;
        }
        if to.write_all(buffer.get(..read).unwrap_or_default()).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
