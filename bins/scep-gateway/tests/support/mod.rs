//! The gateway's own process on a folder that `scep-gateway init` has made, and devices that talk to it.

use core::time::Duration;
use scep_challenge::{
    ApprovalMode, ChallengeClaims, DemandUsages, Expectation, Purpose, Renewal, seal,
};
use scep_client::{Answer, ClientError, ClientSettings, Identity, ScepClient, Server, Trust};
use scep_keys::{AwsLc, SoftwareKey, public_key_pem, read_certificates, read_public_key};
use scep_ledger::{Ledger, LedgerError, LedgerSettings};
use scep_pkcs10::CsrBuilder;
use scep_server::SystemClock;
use scep_testkit::keys;
use scep_testkit::process::{Child, PATIENCE, free_address, must, temporary, wait_for};
use scep_types::{
    CertificateDer, ChallengeId, Clock, CryptoProvider, DeviceId, ExtendedKeyUsages,
    GatewayGroupId, GeneralName, KeyAlgorithm, KeyUsages, ProfileId, Secret, SignatureScheme,
    SpkiDer, TenantId,
};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const PROGRAM: &str = env!("CARGO_BIN_EXE_scep-gateway");

/// A gateway that is started, killed and stopped as often as a test likes.
#[derive(Debug)]
pub(crate) struct Gateway {
    // Before the folder: the process ends before its files go.
    process: Option<Child>,
    issuer: SoftwareKey,
    challenge: SpkiDer,
    address: SocketAddr,
    runs: u32,
    devices: AtomicU64,
    dir: tempfile::TempDir,
}

impl Gateway {
    /// `scep-gateway init`.
    pub(crate) fn init() -> Self {
        let dir = temporary();
        let issuer = keys::p256(1);
        let issuer_key = dir.path().join("issuer.pub.pem");
        std::fs::write(&issuer_key, public_key_pem(issuer.public_key())).unwrap();
        let (address, admin) = (free_address(), free_address());
        let mut init = Command::new(PROGRAM);
        init.args(["init", "--tenant", "contoso", "--group", "main"])
            .args(["--allow-suffix", "example.org"])
            .args(["--listen", &address.to_string(), "--admin-listen", &admin.to_string()])
            .arg("--issuer-key")
            .arg(&issuer_key)
            .arg("--dir")
            .arg(dir.path().join("gw"));
        must(&mut init);
        let challenge = read_public_key(&dir.path().join("gw/challenge.pub.pem")).unwrap();
        Self { process: None, issuer, challenge, address, runs: 0, devices: AtomicU64::new(1), dir }
    }

    /// Another gateway of the group: the same keys, on ports and a folder of its own.
    pub(crate) fn twin(&self) -> Self {
        let dir = temporary();
        std::fs::create_dir(dir.path().join("gw")).unwrap();
        for file in std::fs::read_dir(self.file("gw")).unwrap() {
            let file = file.unwrap();
            // With its mode: a key's is checked.
            std::fs::copy(file.path(), dir.path().join("gw").join(file.file_name())).unwrap();
        }
        let address = free_address();
        let twin = Self {
            process: None,
            issuer: self.issuer.clone(),
            challenge: self.challenge.clone(),
            address,
            runs: 0,
            devices: AtomicU64::new(1_000_000),
            dir,
        };
        twin.configure(|text| {
            let admin = text.lines().find(|line| line.starts_with("admin_listen")).unwrap();
            text.replace(&self.address.to_string(), &address.to_string())
                .replace(admin, &format!("admin_listen = \"{}\"", free_address()))
        });
        twin
    }

    /// Changes the configuration.
    pub(crate) fn configure(&self, change: impl FnOnce(String) -> String) {
        let path = self.file("gw/gateway.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, change(text)).unwrap();
    }

    /// From now on challenges are made for this key.
    pub(crate) fn challenge_key_is(&mut self, public_key: &std::path::Path) {
        self.challenge = read_public_key(public_key).unwrap();
    }

    /// From now on it is the gateway of another folder, which its `init` has made; with its keys, at its ports.
    pub(crate) fn folder_is(&mut self, folder: &std::path::Path) {
        self.challenge = read_public_key(&folder.join("challenge.pub.pem")).unwrap();
        std::fs::remove_dir_all(self.file("gw")).unwrap();
        std::fs::rename(folder, self.file("gw")).unwrap();
        let (old, admin) = ("127.0.0.1:8080", "127.0.0.1:9090");
        self.configure(|text| {
            text.replace(old, &self.address.to_string()).replace(admin, &free_address().to_string())
        });
    }

    /// Where SCEP is served.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// One of the gateway's commands, on its configuration.
    pub(crate) fn command(&self, name: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.env_remove("SCEP_GATEWAY_CONFIG").env_remove("PGPASSWORD");
        command.args(name).arg("--config").arg(self.file("gw/gateway.toml"));
        command
    }

    /// A file of the test's folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `scep-gateway serve`, until it takes connections. `wrapper` is a command that runs it in its own place.
    pub(crate) fn start(&mut self, wrapper: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut process = self.spawn(wrapper);
            if process.answers(self.address) && process.ended().is_none() {
                self.process = Some(process);
                return;
            }
            // While it was down, its port may have become the local end of somebody's connection.
            let log = process.stderr();
            assert!(log.contains("in use") && Instant::now() < deadline, "serve: {log}");
        }
    }

    /// Starts and kills it so soon that it may still be busy with what an earlier run has left.
    pub(crate) fn start_in_vain(&mut self, pause: Duration) {
        let mut process = self.spawn(&[]);
        std::thread::sleep(pause);
        process.kill();
    }

    fn spawn(&mut self, wrapper: &[&str]) -> Child {
        assert!(self.process.is_none(), "it runs already");
        let mut words = wrapper.iter().copied().chain([PROGRAM]);
        let mut serve = Command::new(words.next().unwrap());
        serve.args(words).arg("serve").arg("--config").arg(self.file("gw/gateway.toml"));
        serve.env_remove("SCEP_GATEWAY_CONFIG");
        self.runs += 1;
        Child::start(&mut serve, self.dir.path(), &format!("run-{}", self.runs))
    }

    /// SIGKILL: nothing of its own runs any more.
    pub(crate) fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// SIGTERM, and its orderly end.
    pub(crate) fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        must(Command::new("sh").arg("-c").arg(format!("kill -TERM {}", process.id())));
        let status = wait_for("an orderly end", || process.ended());
        assert!(status.success(), "{status}: {}", process.stderr());
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// The log of the present run.
    pub(crate) fn log(&self) -> String {
        self.process.as_ref().expect("it runs").stderr()
    }

    /// The ledger's file.
    pub(crate) fn ledger_file(&self) -> PathBuf {
        self.file("gw/ledger.sqlite")
    }

    /// The ledger of a gateway that does not run.
    pub(crate) fn ledger(&self) -> Ledger {
        assert!(self.process.is_none(), "it runs still");
        // A process that another test is just starting holds a copy of every lock of this one until it has become
        // itself: for that moment the ledger may still look used.
        let open = || match Ledger::open_sqlite(&self.ledger_file(), LedgerSettings::default()) {
            Err(LedgerError::InUse { .. }) => None,
            other => Some(other.unwrap()),
        };
        wait_for("the ledger is free", open)
    }

    /// A client of the endpoint that takes any signer, and what it knows of the server.
    pub(crate) async fn client(&self) -> (ScepClient, Server) {
        let url = format!("http://{}/certsrv/mscep/mscep.dll", self.address);
        // Nothing takes that long: a request that is lost and not refused shows as a time-out.
        let settings = ClientSettings { timeout: PATIENCE, ..ClientSettings::default() };
        let client = ScepClient::with_settings(&url, settings).unwrap();
        let ca = read_certificates(&self.file("gw/ca.cert.pem")).unwrap().remove(0);
        let trust = Trust::Certificate(ca);
        let server = client.discover(&trust, SystemClock.now(), &AwsLc).await.unwrap();
        (client, server)
    }

    /// A device with a key and a challenge of its own.
    pub(crate) fn device(&self) -> Device {
        self.device_of("wifi")
    }

    /// One whose profile wants a person's approval.
    pub(crate) fn manual_device(&self) -> Device {
        self.device_that("wifi", |claims| claims.expectation.approval = ApprovalMode::Manual)
    }

    /// The same, of this profile.
    pub(crate) fn device_of(&self, profile: &str) -> Device {
        self.device_that(profile, |_| {})
    }

    /// The same, and its challenge says something else.
    pub(crate) fn device_that(
        &self,
        profile: &str,
        change: impl FnOnce(&mut ChallengeClaims),
    ) -> Device {
        let n = self.devices.fetch_add(1, Ordering::Relaxed);
        let name = format!("device-{n}");
        let mut id = [0; 16];
        AwsLc.random(&mut id).unwrap();
        let now = SystemClock.now();
        let client_auth = ExtendedKeyUsages::purpose("clientAuth").unwrap();
        let mut claims = ChallengeClaims {
            challenge_id: ChallengeId::from_bytes(id),
            tenant: TenantId::new("contoso").unwrap(),
            issuer_key: self.issuer.public_key().key_id(),
            audience: GatewayGroupId::new("main").unwrap(),
            recipient_key: self.challenge.key_id(),
            profile: ProfileId::new(profile).unwrap(),
            device: DeviceId::new(name.clone()).unwrap(),
            user: None,
            issued_at: now,
            expires_at: now.plus(Duration::from_secs(3600)),
            purpose: Purpose::Enrol,
            expectation: Expectation {
                subject: format!("O=Example, CN={name}").parse().unwrap(),
                subject_alt_names: vec![GeneralName::dns(&format!("{name}.example.org")).unwrap()],
                key_usage: KeyUsages::DIGITAL_SIGNATURE,
                extended_key_usages: ExtendedKeyUsages::new(vec![client_auth]).unwrap(),
                demand_usages: DemandUsages::No,
                key_algorithms: vec![KeyAlgorithm::P256],
                spki_hash: None,
                validity: Duration::from_secs(365 * 86_400),
                extensions: Vec::new(),
                renewal: Renewal::Blob,
                approval: ApprovalMode::Automatic,
            },
        };
        change(&mut claims);
        let blob = seal(&claims, &*self.issuer.signer(), &self.challenge, &AwsLc).unwrap();
        Device { claims, blob, key: SoftwareKey::generate(KeyAlgorithm::P256).unwrap() }
    }
}

/// A device: an EC key, which costs nothing to make, and a challenge for it.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) claims: ChallengeClaims,
    blob: String,
    key: SoftwareKey,
}

impl Device {
    /// The request that the challenge describes.
    pub(crate) fn request(&self) -> Vec<u8> {
        self.request_for(&self.claims.expectation.subject.to_string())
    }

    /// The same for another subject.
    pub(crate) fn request_for(&self, subject: &str) -> Vec<u8> {
        let request = CsrBuilder {
            subject: subject.parse().unwrap(),
            subject_alt_names: self.claims.expectation.subject_alt_names.clone(),
            key_usage: Some(self.claims.expectation.key_usage),
            extended_key_usages: Some(self.claims.expectation.extended_key_usages.clone()),
            challenge_password: Some(Secret::new(self.blob.clone())),
            ..CsrBuilder::default()
        };
        request.sign(&*self.key.signer(), SignatureScheme::EcdsaSha256).unwrap()
    }

    /// The same challenge with another key.
    pub(crate) fn with_another_key(&self) -> Self {
        let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
        Self { claims: self.claims.clone(), blob: self.blob.clone(), key }
    }

    /// Its challenge.
    pub(crate) fn challenge(&self) -> &str {
        &self.blob
    }

    pub(crate) fn public_key(&self) -> &SpkiDer {
        self.key.public_key()
    }
}

/// The RSA key that signs messages and opens replies, for all devices.
pub(crate) fn identity() -> Identity {
    let key = keys::rsa2048(2);
    let subject = "CN=device".parse().unwrap();
    let decryption = key.decryption().unwrap();
    Identity::self_signed(&subject, key.signer(), decryption, SystemClock.now(), &AwsLc).unwrap()
}

/// One PKIOperation: the certificate, or why there was none.
pub(crate) async fn enrol(
    client: &ScepClient,
    server: &Server,
    request: &[u8],
    identity: &Identity,
) -> Result<CertificateDer, ClientError> {
    match client.enrol(server, request, identity, SystemClock.now(), &AwsLc).await? {
        Answer::Issued(issued) => Ok(issued.certificate),
        Answer::Pending(pending) => panic!("nothing is pending here: {pending:?}"),
    }
}
