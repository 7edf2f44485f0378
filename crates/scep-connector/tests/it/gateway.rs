//! A gateway around the connector: keys in memory, a ledger in a temporary folder, and a host that writes everything down.

use crate::issuer::{Issuer, NOW, TOKEN, group, tenant};
use scep_connector::*;
use scep_keys::{AwsLc, SoftwareKey};
use scep_ledger::{Denied, Ledger, LedgerSettings};
use scep_link::{CertificateExpiry, EnrolmentToken, Health, LedgerKind, LogLevel};
use scep_testkit::FixedClock;
use scep_types::{
    ChallengeId, Clock, DeviceId, GatewayName, KeyAlgorithm, KeyId, ProfileId, Reason, SpkiDer,
    SpkiHash,
};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything may take before a test fails: generous, as it is no measurement.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until this gives something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Private keys that are lost with the process, unless it is shared between two runs.
#[derive(Debug, Default)]
pub(crate) struct MemoryKeys {
    keys: Mutex<HashMap<(KeySlot, KeyId), SoftwareKey>>,
    pub(crate) made: Mutex<Vec<(KeySlot, KeyId)>>,
    algorithm: Mutex<Option<KeyAlgorithm>>,
}

impl MemoryKeys {
    /// What keys are made from now on. (P-256, if nobody says.)
    pub(crate) fn algorithm(&self, algorithm: KeyAlgorithm) {
        *self.algorithm.lock().unwrap() = Some(algorithm);
    }

    pub(crate) fn put(&self, slot: KeySlot, key: &SoftwareKey) -> KeyId {
        let id = key.public_key().key_id();
        self.keys.lock().unwrap().insert((slot, id), key.clone());
        id
    }

    pub(crate) fn has(&self, slot: KeySlot, id: KeyId) -> bool {
        self.keys.lock().unwrap().contains_key(&(slot, id))
    }

    pub(crate) fn count(&self, slot: KeySlot) -> usize {
        self.keys.lock().unwrap().keys().filter(|(of, _)| *of == slot).count()
    }
}

fn own(slot: KeySlot, key: &SoftwareKey) -> OwnKey {
    match slot {
        KeySlot::Authentication => OwnKey::Authentication(key.signer()),
        KeySlot::Decryption => OwnKey::Decryption(key.decryption().unwrap()),
    }
}

impl KeyStore for MemoryKeys {
    fn generate(&self, slot: KeySlot) -> Result<OwnKey, KeyStoreError> {
        let algorithm = self.algorithm.lock().unwrap().unwrap_or(KeyAlgorithm::P256);
        let key = SoftwareKey::generate(algorithm).unwrap();
        let id = self.put(slot, &key);
        self.made.lock().unwrap().push((slot, id));
        Ok(own(slot, &key))
    }

    fn load(&self, slot: KeySlot, id: KeyId) -> Result<OwnKey, KeyStoreError> {
        let keys = self.keys.lock().unwrap();
        let key = keys.get(&(slot, id));
        key.map(|key| own(slot, key))
            .ok_or_else(|| KeyStoreError { slot, why: format!("there is no key {id}") })
    }

    fn destroy(&self, slot: KeySlot, id: KeyId) -> Result<(), KeyStoreError> {
        self.keys.lock().unwrap().remove(&(slot, id));
        Ok(())
    }
}

/// Writes everything down.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) trusts: Mutex<Vec<Trust>>,
    pub(crate) standings: Mutex<Vec<Standing>>,
    pub(crate) log_levels: Mutex<Vec<Option<LogLevel>>>,
    pub(crate) denials_changed: Mutex<usize>,
    pub(crate) own: Mutex<Vec<(String, SpkiDer)>>,
    pub(crate) certificates: Mutex<Vec<CertificateExpiry>>,
    pub(crate) objects: Mutex<bool>,
    /// Where to look whether a trust is durable before it is used, and whether each was.
    pub(crate) state: Mutex<Option<StateFile>>,
    pub(crate) durable: Mutex<Vec<bool>>,
}

impl Host for Recorder {
    fn facts(&self) -> HostFacts {
        let certificates = self.certificates.lock().unwrap().clone();
        HostFacts { health: Health::Serving, certificates }
    }

    fn own_keys(&self) -> Vec<(String, SpkiDer)> {
        self.own.lock().unwrap().clone()
    }

    fn set_trust(&self, trust: &Trust) -> Result<(), ConnectorError> {
        if *self.objects.lock().unwrap() {
            return Err(ConnectorError::Other("the gateway objects".to_owned()));
        }
        if let Some(file) = &*self.state.lock().unwrap() {
            let kept = file.read().unwrap().unwrap().trust;
            self.durable.lock().unwrap().push(kept == *trust);
        }
        self.trusts.lock().unwrap().push(trust.clone());
        Ok(())
    }

    fn denials_changed(&self) {
        *self.denials_changed.lock().unwrap() += 1;
    }

    fn set_standing(&self, standing: Standing) {
        self.standings.lock().unwrap().push(standing);
    }

    fn set_log_level(&self, level: Option<LogLevel>) {
        self.log_levels.lock().unwrap().push(level);
    }
}

/// A gateway, whose connector can be started and stopped.
pub(crate) struct Gateway {
    pub(crate) folder: TempDir,
    pub(crate) keys: Arc<MemoryKeys>,
    pub(crate) host: Arc<Recorder>,
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) ledger: Ledger,
    pub(crate) settings: ConnectorSettings,
    running: Option<(Connector, CancellationToken, JoinHandle<()>)>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some((_, _, task)) = &self.running {
            task.abort();
        }
    }
}

pub(crate) fn address(issuer: &Issuer) -> IssuerAddress {
    IssuerAddress::parse(&format!("https://localhost:{}", issuer.address.port())).unwrap()
}

impl Gateway {
    pub(crate) fn new(issuer: &Issuer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = folder.path().join("ledger.sqlite");
        Self {
            ledger: Ledger::open_sqlite(&ledger, LedgerSettings::default()).unwrap(),
            keys: Arc::default(),
            host: Arc::default(),
            clock: Arc::new(FixedClock::new(NOW)),
            settings: ConnectorSettings {
                issuer: address(issuer),
                proxy: None,
                offline: Offline::default(),
                wait_seconds: 1,
                status_folder: Some(folder.path().join("status")),
                status_files: 100,
                keep_previous_key: Duration::from_secs(65 * 60),
                software: "0.1.0".to_owned(),
                challenge_version: 1,
            },
            folder,
            running: None,
        }
    }

    /// Enrolled already.
    pub(crate) async fn enrolled(issuer: &Issuer) -> Self {
        let gateway = Self::new(issuer);
        gateway.enrol(issuer).await.unwrap();
        gateway
    }

    pub(crate) fn options(&self, pin: SpkiHash) -> EnrolOptions {
        EnrolOptions {
            issuer: self.settings.issuer.clone(),
            proxy: self.settings.proxy.clone(),
            issuer_fingerprint: pin,
            token: EnrolmentToken::new(TOKEN).unwrap(),
            gateway: GatewayName::new("gw1").unwrap(),
            group: group(),
            decryption_key: None,
            ledger_kind: LedgerKind::Single,
            software: "0.1.0".to_owned(),
        }
    }

    pub(crate) async fn enrol(&self, issuer: &Issuer) -> Result<Enrolled, ConnectorError> {
        self.enrol_with(self.options(issuer.pin)).await
    }

    pub(crate) async fn enrol_with(
        &self,
        options: EnrolOptions,
    ) -> Result<Enrolled, ConnectorError> {
        enrol(options, &self.state_file(), &*self.keys, &self.ledger, &AwsLc, &*self.clock).await
    }

    pub(crate) fn state_path(&self) -> PathBuf {
        self.folder.path().join("connector.json")
    }

    pub(crate) fn state_file(&self) -> StateFile {
        StateFile::at(&self.state_path())
    }

    pub(crate) fn state(&self) -> State {
        self.state_file().read().unwrap().unwrap()
    }

    pub(crate) fn open(&self) -> Result<Connector, ConnectorError> {
        Connector::open(
            self.settings.clone(),
            self.state_file(),
            self.keys.clone(),
            self.ledger.clone(),
            self.host.clone(),
            Arc::new(AwsLc),
            self.clock.clone(),
        )
    }

    pub(crate) fn start(&mut self) -> Connector {
        *self.host.state.lock().unwrap() = Some(self.state_file());
        let connector = self.open().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(connector.clone().run(stop.clone()));
        self.running = Some((connector.clone(), stop, task));
        connector
    }

    /// An orderly end.
    pub(crate) async fn stop(&mut self) {
        let (connector, stop, task) = self.running.take().expect("it runs");
        stop.cancel();
        task.await.unwrap();
        drop(connector);
    }

    /// As a crash ends it: its future is dropped where it stands.
    pub(crate) async fn crash(&mut self) {
        let (connector, _, task) = self.running.take().expect("it runs");
        task.abort();
        let _ = task.await;
        drop(connector);
    }

    pub(crate) fn connector(&self) -> &Connector {
        &self.running.as_ref().expect("it runs").0
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        self.connector().status().trouble
    }

    /// Makes an event: a refusal of the nth device.
    pub(crate) async fn event(&self, nth: u32) {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&nth.to_be_bytes());
        let denied = Denied {
            tenant: &tenant(),
            challenge: ChallengeId::from_bytes(id),
            device: &DeviceId::new(format!("device-{nth}")).unwrap(),
            profile: &ProfileId::new("laptops").unwrap(),
            expires_at: self.clock.now().plus(Duration::from_secs(3600)),
            reasons: &[Reason::SubjectNameMismatch],
            detail: "[]",
        };
        self.ledger.count_mismatch(&denied, self.clock.now()).await.unwrap();
    }

    pub(crate) fn status_files(&self, stage: &str) -> Vec<String> {
        let folder = self.folder.path().join("status").join(stage);
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        names
    }
}
