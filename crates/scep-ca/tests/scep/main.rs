//! The adapter for another SCEP server, with step-ca.
//!
//! A harness of its own: where the server's program is missing every test is listed as ignored; where the environment
//! variable `CI` is `true` it fails instead.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests: what does not fit is a failed test"
)]

use core::time::Duration;
use libtest_mimic::Arguments;
use scep_ca::{
    CaError, CaHealth, CanRevoke, CertificateAuthority, ClientSettings, Found, IssueError, Recover,
    ScepUpstream, UpstreamAlgorithms, UpstreamKey, UpstreamSettings, Wanted,
};
use scep_challenge::{ChallengeClaims, Opener, OpeningKey, PinnedSigner};
use scep_keys::{AwsLc, SoftwareKey, read_certificates};
use scep_ledger::{Asked, IssuePermit, Ledger, LedgerSettings, Unsettled};
use scep_pkcs10::{Rules, UnprovenCsr};
use scep_policy::{Denials, InertContent, SiteRules, decide};
use scep_testkit::ca::{Decided, Outcome, RecordingCa};
use scep_testkit::conformance::{Line, Subject, attempt, run};
use scep_testkit::house::{Gateway, OPENS, SITE_RULES, sign_csr};
use scep_testkit::process::peers::{Peer, trial};
use scep_testkit::process::step_ca::{COPY, StepCa, program};
use scep_testkit::process::{free_address, temporary};
use scep_testkit::{House, keys};
use scep_types::{AuthorityName, CertificateDer, Clock, CsrInfoHash, Timestamp, TransactionId};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

/// The real time.
#[derive(Debug)]
struct Now;

impl Clock for Now {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Timestamp::from_seconds(since.as_secs().try_into().unwrap())
    }
}

fn upstream(url: &str, chain: Vec<CertificateDer>, clock: Arc<dyn Clock>) -> ScepUpstream {
    let key = keys::rsa2048(3);
    let settings = UpstreamSettings {
        url: url.to_owned(),
        // This step-ca signs its answers with SHA-1 whatever it is asked with.
        client: ClientSettings {
            timeout: Duration::from_secs(3),
            legacy: UpstreamAlgorithms::Accept,
            ..ClientSettings::default()
        },
        key: UpstreamKey {
            signer: key.signer(),
            decryption: key.decryption().unwrap(),
            certificate: None,
        },
    };
    ScepUpstream::new(settings, chain, clock, Arc::new(AwsLc)).unwrap()
}

fn block<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// A gateway of our own, which takes what this one has admitted because it opens the same challenges.
struct Sceptic {
    house: House,
    gateway: Gateway,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Sceptic {
    async fn start(ca: Option<Arc<dyn CertificateAuthority>>) -> Self {
        let (house, folder) = (House::new(), temporary());
        let mut parts = house.parts(folder.path());
        if let Some(ca) = ca {
            parts.main.ca = ca;
        }
        let gateway = Gateway::new(parts).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let running = gateway.clone();
        tokio::spawn(async move { running.run(listener, core::future::pending()).await });
        Self { house, gateway, address, _folder: folder }
    }

    /// Whoever signs.
    fn upstream_at(&self, address: SocketAddr) -> ScepUpstream {
        let url = format!("http://{address}/certsrv/mscep/mscep.dll");
        upstream(&url, self.house.ca.chain().to_vec(), self.house.clock.clone())
    }
}

fn a_gateway_of_our_own_conforms() {
    let strict = StepCa::start("a static password", Some(COPY));
    block(async {
        let server = Sceptic::start(None).await;
        let line = Line::to(server.address);
        let ca = server.upstream_at(line.address());
        let capabilities = ca.capabilities();
        assert_eq!(capabilities.revoke, CanRevoke::No);
        assert_eq!(capabilities.recover, Recover::ByTransaction);
        ca.connect().await.unwrap();
        let chain = read_certificates(&strict.chain()).unwrap();
        let subject = Subject {
            away: Some(Arc::new(server.upstream_at(free_address()))),
            refusing: Some(Arc::new(upstream(&strict.url(), chain, Arc::new(Now)))),
            line: Some(line),
            ..Subject::new(Arc::new(ca), OPENS)
        };
        assert_eq!(run(&subject).await.len(), 8);
    });
}

fn a_ca_that_decides_later_is_asked_until_it_has() {
    block(async {
        let theirs = RecordingCa::new(House::new().ca);
        let waits = Arc::new(theirs.clone());
        let server = Sceptic::start(Some(waits)).await;
        let ca = server.upstream_at(server.address);
        let scene = Scene::new(OPENS);
        for (key, decided) in [(keys::rsa2048(2), Decided::Issue), (keys::p256(3), Decided::Refuse)]
        {
            theirs.then(Outcome::Pend);
            let claims = scene.house.claims();
            let (permit, unsettled) = scene.permit(&claims, &scene.house.seal(&claims), &key).await;
            let (spki, request) = (unsettled.approval().contents().spki.clone(), permit.request());
            assert_eq!(ca.issue(permit).await, Err(IssueError::Pending));
            let wanted = |pending| Wanted {
                serial: None,
                spki: &spki,
                request,
                pending,
                subject_der: &[0x30, 0],
                since: OPENS,
            };
            assert_eq!(ca.find(&wanted(true)).await, Ok(Found::Pending));
            theirs.decide(decided);
            // Their recovery sees what their CA has decided.
            server.gateway.recover().await.unwrap();
            let found = ca.find(&wanted(true)).await.unwrap();
            match decided {
                Decided::Issue => {
                    let Found::Certificate(certificate) = found else { panic!("{found:?}") };
                    unsettled.approval().check_certificate(&certificate).unwrap();
                }
                Decided::Refuse => {
                    assert_eq!(found, Found::Nothing);
                    // Without knowing that it was waiting, a refusal might be of the poll itself.
                    assert_eq!(ca.find(&wanted(false)).await, Ok(Found::Unknown));
                }
            }
        }
    });
}

/// A house with a ledger.
struct Scene {
    house: House,
    ledger: Ledger,
    now: Timestamp,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn new(now: Timestamp) -> Self {
        let folder = temporary();
        let path = folder.path().join("ledger.sqlite");
        let ledger = Ledger::open_sqlite(&path, LedgerSettings::default()).unwrap();
        let house = House::new();
        house.clock.set(now);
        Self { house, ledger, now, _folder: folder }
    }

    async fn permit(
        &self,
        claims: &ChallengeClaims,
        blob: &str,
        key: &SoftwareKey,
    ) -> (IssuePermit, Unsettled) {
        let hour = Duration::from_secs(3_600);
        let der = sign_csr(&House::csr(claims, blob), key);
        let provider = &*self.house.provider;
        let csr = UnprovenCsr::parse(&der, &Rules::default()).unwrap().prove(provider).unwrap();
        let signer = PinnedSigner {
            key: self.house.issuer.public_key().clone(),
            not_before: self.now.minus(hour),
            not_after: self.now.plus(hour),
        };
        let opening = self.house.challenge.decryption().unwrap();
        let opening = OpeningKey { key: opening, not_after: None };
        let (tenant, group) = (House::tenant(), House::group());
        let skew = Duration::from_secs(300);
        let opener = Opener::new(tenant, group, vec![signer], vec![opening], hour, skew).unwrap();
        let verified = opener.open(blob, self.now, provider).unwrap();
        // step-ca puts the provisioner's name into every certificate.
        let rules = format!("{SITE_RULES}ca_may_add = [\"1.3.6.1.4.1.37476.9000.64.1\"]\n");
        let rules = SiteRules::from_toml(&rules).unwrap();
        let (denials, inert) = (Denials::default(), InertContent::Discard);
        let approval = decide(&csr, verified, &rules, &denials, inert, self.now).unwrap();
        let asked = Asked {
            authority: &AuthorityName::main(),
            serial: None,
            signer: key.public_key().hash(),
            transaction: &TransactionId::new("TX").unwrap(),
        };
        self.ledger.admit(approval, &asked, self.now).await.unwrap().redeem()
    }
}

/// Claims that last longer than step-ca makes its certificates, and their challenge.
fn two_days(scene: &Scene) -> (ChallengeClaims, String) {
    let mut claims = scene.house.claims();
    claims.expectation.validity = Duration::from_secs(2 * 86_400);
    let blob = scene.house.seal(&claims);
    (claims, blob)
}

/// It compares the challenge with its own: so it takes the one request that its own is made for.
fn step_ca_issues_what_it_takes_the_challenge_for() {
    let scene = Scene::new(Now.now());
    let (claims, blob) = two_days(&scene);
    let server = StepCa::start(&blob, Some(COPY));
    let chain = read_certificates(&server.chain()).unwrap();
    block(async {
        let ca = upstream(&server.url(), chain, Arc::new(Now));
        let (permit, unsettled) = scene.permit(&claims, &blob, &keys::rsa2048(2)).await;
        let certificate = ca.issue(permit).await.unwrap();
        let conforming = unsettled.approval().check_certificate(&certificate).unwrap();
        scene.ledger.record(unsettled, conforming, scene.now).await.unwrap();
        assert_eq!(ca.health(), CaHealth::Ok);
    });
}

fn attack_46_what_step_ca_changes_is_found() {
    let scene = Scene::new(Now.now());
    let (claims, blob) = two_days(&scene);
    let server = StepCa::start(&blob, Some(r#"{ "subject": { "commonName": "another" } }"#));
    let chain = read_certificates(&server.chain()).unwrap();
    block(async {
        let ca = upstream(&server.url(), chain, Arc::new(Now));
        let (permit, unsettled) = scene.permit(&claims, &blob, &keys::rsa2048(2)).await;
        let certificate = ca.issue(permit).await.unwrap();
        let differences = unsettled.approval().check_certificate(&certificate).unwrap_err();
        let fields: Vec<&str> = differences.iter().map(|report| report.field.name()).collect();
        assert!(fields.contains(&"subject"), "{fields:?}");
        assert_eq!(ca.capabilities().revoke, CanRevoke::No);
    });
}

/// An endpoint without a challenge compares all the same, and takes only requests without any.
fn step_ca_without_a_challenge_takes_no_request_with_one() {
    let scene = Scene::new(Now.now());
    let (claims, blob) = two_days(&scene);
    let server = StepCa::start("", Some(COPY));
    let chain = read_certificates(&server.chain()).unwrap();
    block(async {
        let ca = upstream(&server.url(), chain, Arc::new(Now));
        let (permit, _unsettled) = scene.permit(&claims, &blob, &keys::rsa2048(2)).await;
        let outcome = ca.issue(permit).await;
        let Err(IssueError::NothingIssued(CaError::Refused { .. })) = outcome else {
            panic!("{outcome:?}")
        };
        // It has answered: nothing is wrong with it.
        assert_eq!(ca.health(), CaHealth::Ok);
    });
}

fn only_the_configured_chain_is_believed() {
    let (server, another) = (StepCa::start("", Some(COPY)), StepCa::start("", Some(COPY)));
    let wrong = read_certificates(&another.chain()).unwrap();
    block(async {
        let ca = upstream(&server.url(), wrong, Arc::new(Now));
        let Err(CaError::Unavailable { why }) = ca.connect().await else { panic!("believed") };
        assert!(why.contains("trusted"), "{why}");
        let (_, outcome) = attempt(&ca, Now.now()).await;
        assert!(matches!(outcome, Err(IssueError::NothingIssued(_))), "{outcome:?}");
        let CaHealth::Degraded { why, .. } = ca.health() else { panic!("well") };
        assert!(why.contains("trusted"), "{why}");
    });
}

fn nothing_is_asked_of_who_is_not_there_and_it_shows() {
    let house = House::new();
    let issuer = house.ca.chain().to_vec();
    block(async {
        let ca = upstream(&format!("http://{}/scep", free_address()), issuer, Arc::new(Now));
        assert_eq!(ca.health(), CaHealth::Ok);
        let (key, outcome) = attempt(&ca, Now.now()).await;
        let Err(IssueError::NothingIssued(CaError::Unavailable { .. })) = outcome else {
            panic!("{outcome:?}")
        };
        let CaHealth::Degraded { since, .. } = ca.health() else { panic!("well") };
        let wanted = Wanted {
            serial: None,
            spki: &key,
            request: CsrInfoHash::from_bytes([1; 32]),
            pending: false,
            subject_der: &[0x30, 0],
            since: Now.now(),
        };
        assert!(matches!(ca.find(&wanted).await, Err(CaError::Unavailable { .. })));
        let CaHealth::Degraded { since: still, .. } = ca.health() else { panic!("well") };
        assert_eq!(since, still, "the first time counts");
    });
}

fn what_was_never_asked_for_cannot_be_known() {
    let server = StepCa::start("", Some(COPY));
    let chain = read_certificates(&server.chain()).unwrap();
    block(async {
        let ca = upstream(&server.url(), chain, Arc::new(Now));
        let key = keys::p256(3);
        let wanted = Wanted {
            serial: None,
            spki: key.public_key(),
            request: CsrInfoHash::from_bytes([1; 32]),
            pending: false,
            subject_der: &[0x30, 0],
            since: Now.now(),
        };
        assert_eq!(ca.find(&wanted).await, Ok(Found::Unknown));
    });
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let peers = || [Peer::file(program()), Peer::program("openssl")];
    let named = |name: &str, test: fn()| trial(name, &peers(), test);
    let trials = vec![
        named("a_gateway_of_our_own_conforms", a_gateway_of_our_own_conforms),
        trial(
            "a_ca_that_decides_later_is_asked_until_it_has",
            &[],
            a_ca_that_decides_later_is_asked_until_it_has,
        ),
        named(
            "step_ca_issues_what_it_takes_the_challenge_for",
            step_ca_issues_what_it_takes_the_challenge_for,
        ),
        named("attack_46_what_step_ca_changes_is_found", attack_46_what_step_ca_changes_is_found),
        named(
            "step_ca_without_a_challenge_takes_no_request_with_one",
            step_ca_without_a_challenge_takes_no_request_with_one,
        ),
        named("only_the_configured_chain_is_believed", only_the_configured_chain_is_believed),
        trial(
            "nothing_is_asked_of_who_is_not_there_and_it_shows",
            &[],
            nothing_is_asked_of_who_is_not_there_and_it_shows,
        ),
        named("what_was_never_asked_for_cannot_be_known", what_was_never_asked_for_cannot_be_known),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}
