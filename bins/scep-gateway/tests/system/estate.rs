//! An issuer and its gateways as they are in the field: the programs themselves, on free loopback ports, over TLS.

use core::time::Duration;
use scep_client::{Answer, ClientError, ClientSettings, Identity, ScepClient, Server, Trust};
use scep_keys::{AwsLc, SoftwareKey, read_certificates};
use scep_pkcs10::CsrBuilder;
use scep_server::SystemClock;
use scep_testkit::keys;
use scep_testkit::process::{
    Child, HttpAnswer, PATIENCE, binary, free_address, http, must, temporary, wait_for,
};
use scep_types::{
    CertificateDer, Clock, ExtendedKeyUsages, GeneralName, KeyAlgorithm, KeyUsages, Secret,
    SignatureScheme,
};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// What every device's certificate is made by.
pub(crate) const PROFILE: &str = r#"
id = "wifi"
for = "device"
subject = "O=Example, CN={{DeviceId}}"
subject_alt_names = [{ dns = "{{DeviceId}}.example.org" }]
key_usage = ["digitalSignature"]
extended_key_usages = ["clientAuth"]
key_algorithms = ["p256"]
validity = "365d"
scep_urls = ["https://scep.example.org/scep"]
"#;

/// A program of the workspace that is started, killed and stopped as often as a test likes.
#[derive(Debug)]
pub(crate) struct Program {
    name: &'static str,
    arguments: Vec<String>,
    folder: PathBuf,
    address: SocketAddr,
    process: Option<Child>,
    runs: u32,
}

impl Program {
    fn new(name: &'static str, arguments: Vec<String>, folder: &Path, address: SocketAddr) -> Self {
        let folder = folder.to_path_buf();
        Self { name, arguments, folder, address, process: None, runs: 0 }
    }

    /// Until it takes connections.
    pub(crate) fn start(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut command = command(self.name);
            command.args(&self.arguments);
            self.runs += 1;
            let name = format!("{}-{}", self.name, self.runs);
            let mut process = Child::start(&mut command, &self.folder, &name);
            if process.answers(self.address) && process.ended().is_none() {
                self.process = Some(process);
                return;
            }
            // While it was down, its port may have become the local end of somebody's connection, and its ledger may
            // still be held by a child that another test is just starting.
            let log = process.stderr();
            let passing = log.contains("in use") || log.contains("used by");
            assert!(passing && Instant::now() < deadline, "{}: {log}", self.name);
        }
    }

    /// SIGKILL.
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

    /// The log of the present run.
    pub(crate) fn log(&self) -> String {
        self.process.as_ref().map(Child::stderr).unwrap_or_default()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }
}

fn command(name: &str) -> Command {
    let mut command = Command::new(binary(name));
    for variable in ["SCEP_GATEWAY_CONFIG", "SCEP_ISSUER_CONFIG", "SCEP_ISSUER_URL"] {
        command.env_remove(variable);
    }
    // A proxy of the machine has no business on loopback.
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        command.env_remove(variable);
    }
    command
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// `scep-issuer serve`, with an administrator's token for each of its tenants.
#[derive(Debug)]
pub(crate) struct Issuer {
    // Before the folder: the process ends before its files go.
    pub(crate) program: Program,
    client: reqwest::Client,
    address: SocketAddr,
    token: String,
    pin: String,
    dir: tempfile::TempDir,
}

/// The tenant of everything here, unless a test says otherwise.
pub(crate) const TENANT: &str = "contoso";

impl Issuer {
    /// `init`, `token create`, and `serve`.
    pub(crate) fn start() -> Self {
        let (dir, address) = (temporary(), free_address());
        let folder = dir.path().join("issuer");
        must(
            command("scep-issuer")
                .args(["init", "--tenant", TENANT, "--public-name", "127.0.0.1"])
                .args(["--listen", &address.to_string(), "--dir"])
                .arg(&folder),
        );
        let config = folder.join("issuer.toml");
        let config = config.to_str().unwrap();
        let told = |arguments: &[&str]| {
            let out = must(command("scep-issuer").args(arguments).args(["--config", config]));
            String::from_utf8(out).unwrap().trim().to_owned()
        };
        let token = told(&["token", "create", "--scope", "admin"]);
        let pin = told(&["fingerprint"]);
        let ca = std::fs::read(folder.join("tls.pem")).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&ca).unwrap()])
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .unwrap();
        let arguments = words(["serve", "--config", config]);
        let mut program = Program::new("scep-issuer", arguments, dir.path(), address);
        program.start();
        Self { program, client, address, token, pin, dir }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// SHA-256 over its TLS key, hexadecimal.
    pub(crate) fn pin(&self) -> &str {
        &self.pin
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("issuer/issuer.toml")
    }

    /// Where it writes, its output among it.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// A token of another tenant.
    pub(crate) fn token_of(&self, tenant: &str) -> String {
        let mut create = command("scep-issuer");
        create.args(["token", "create", "--scope", "admin", "--tenant", tenant, "--config"]);
        String::from_utf8(must(create.arg(self.config()))).unwrap().trim().to_owned()
    }

    /// A request of an administrator; repeated while nobody answers, as an administrator would.
    pub(crate) async fn ask(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> (u16, Value) {
        let url = format!("{}/api/v1{path}", self.url());
        let deadline = Instant::now() + PATIENCE;
        let key = format!("{:?}", std::time::SystemTime::now());
        let key: String = key.chars().filter(char::is_ascii_digit).collect();
        loop {
            let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
            let mut request = self.client.request(method.clone(), &url).bearer_auth(token);
            if method == reqwest::Method::POST {
                request = request.header("Idempotency-Key", &key);
            }
            if let Some(body) = body {
                request = request.header("Content-Type", "application/json");
                request = request.body(body.to_string());
            }
            let answered = match request.send().await {
                Ok(answer) => {
                    let status = answer.status().as_u16();
                    answer.text().await.map(|text| (status, text))
                }
                Err(error) => Err(error),
            };
            match answered {
                Ok((status, text)) => {
                    return (status, serde_json::from_str(&text).unwrap_or(Value::Null));
                }
                Err(error) => assert!(Instant::now() < deadline, "{url}: {error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The same in the tenant, which must succeed.
    pub(crate) async fn api(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let path = format!("/tenants/{TENANT}{path}");
        let (status, answer) = self.ask(&self.token, method, &path, body.as_ref()).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.api("GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        self.api("POST", path, Some(body)).await
    }

    /// Every item of a list.
    pub(crate) async fn list(&self, path: &str) -> Vec<Value> {
        let (mut items, mut after) = (Vec::new(), String::new());
        loop {
            let sign = if path.contains('?') { '&' } else { '?' };
            let page = self.get(&format!("{path}{sign}limit=200{after}")).await;
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return items,
            }
        }
    }

    /// A device that has the profile.
    pub(crate) async fn device(&self, id: &str) {
        self.post("/devices", json!({ "id": id })).await;
        self.post("/assignments", json!({ "profile": "wifi", "device": id })).await;
    }

    /// A challenge for a device, and the device that holds it.
    pub(crate) async fn challenge(&self, id: &str, group: &str) -> Device {
        let wanted = json!({ "device": id, "profile": "wifi", "group": group });
        let made = self.post("/challenges", wanted).await;
        Device::new(id, made["challenge"].as_str().unwrap())
    }

    /// A token with which one gateway can join a group.
    pub(crate) async fn gateway_token(&self, group: &str) -> String {
        if !self.list("/gateway-groups").await.iter().any(|known| known["id"] == group) {
            self.post("/gateway-groups", json!({ "id": group })).await;
        }
        let made = self.post("/connector-tokens", json!({ "group": group })).await;
        made["token"].as_str().unwrap().to_owned()
    }

    /// Changes a device's state.
    pub(crate) async fn set_state(&self, id: &str, state: &str) {
        self.api(
            "PUT",
            &format!("/devices/{id}"),
            Some(json!({ "state": state, "attributes": {} })),
        )
        .await;
    }
}

/// `scep-gateway serve`, and its folder.
#[derive(Debug)]
pub(crate) struct Gateway {
    // Before the folder: the process ends before its files go.
    pub(crate) program: Program,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    dir: tempfile::TempDir,
}

impl Gateway {
    /// `init` for an issuer, without having met it.
    pub(crate) fn init(issuer: &Issuer, tenant: &str, group: &str) -> Self {
        let (dir, address, admin) = (temporary(), free_address(), free_address());
        let folder = dir.path().join("gw");
        must(
            command("scep-gateway")
                .args(["init", "--tenant", tenant, "--group", group])
                .args(["--allow-suffix", "example.org", "--issuer", &issuer.url()])
                .args(["--listen", &address.to_string(), "--admin-listen", &admin.to_string()])
                .args(["--public-url", &format!("http://{address}"), "--dir"])
                .arg(&folder),
        );
        let config = folder.join("gateway.toml");
        let arguments = words(["serve", "--config", config.to_str().unwrap()]);
        let program = Program::new("scep-gateway", arguments, dir.path(), address);
        Self { program, address, admin, dir }
    }

    /// `enroll`.
    pub(crate) fn enroll(&self, issuer: &Issuer, token: &str) -> std::process::Output {
        let mut enroll = command("scep-gateway");
        enroll.args(["enroll", "--issuer", &issuer.url(), "--token", token]);
        enroll.args(["--name", &format!("gateway-{}", self.address.port())]);
        enroll.args(["--issuer-fingerprint", issuer.pin(), "--config"]).arg(self.config());
        scep_testkit::process::run(&mut enroll)
    }

    /// `init`, `enroll`, `serve`, an operator's confirmation, and the time it takes until challenges can be made.
    pub(crate) async fn join(issuer: &Issuer, group: &str) -> Self {
        Self::init(issuer, TENANT, group).joined(issuer, group).await
    }

    /// The same with its ledger in a PostgreSQL database.
    pub(crate) async fn join_shared(issuer: &Issuer, group: &str, connection: &str) -> Self {
        let gateway = Self::init(issuer, TENANT, group);
        gateway.edit(|text| {
            let text = text.replacen("ledger = \"ledger.sqlite\"\n", "", 1);
            format!("{text}\n[ledger]\nkind = \"postgres\"\nconnection = \"{connection}\"\n")
        });
        gateway.joined(issuer, group).await
    }

    /// A second gateway of this one's group, as the operators' page has it: its folder without what is its own, the
    /// group's key under a passphrase, an enrolment.
    pub(crate) async fn join_beside(&self, issuer: &Issuer, group: &str) -> Self {
        let (dir, address, admin) = (temporary(), free_address(), free_address());
        let folder = dir.path().join("gw");
        std::fs::create_dir(&folder).unwrap();
        for entry in std::fs::read_dir(self.file("")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
            }
        }
        let config = folder.join("gateway.toml");
        let arguments = words(["serve", "--config", config.to_str().unwrap()]);
        let program = Program::new("scep-gateway", arguments, dir.path(), address);
        let beside = Self { program, address, admin, dir };
        beside.edit(|text| {
            text.replacen(&self.address.to_string(), &address.to_string(), 1).replacen(
                &self.admin.to_string(),
                &admin.to_string(),
                1,
            )
        });
        let (key, passphrase) = (beside.file("main.key"), beside.file("passphrase"));
        std::fs::write(&passphrase, "correct horse battery staple\n").unwrap();
        let mut export = command("scep-gateway");
        export.args(["connector", "export", "--config"]).arg(self.config());
        must(export.arg("--out").arg(&key).arg("--passphrase-file").arg(&passphrase));
        let mut import = command("scep-gateway");
        import.args(["connector", "import", "--config"]).arg(beside.config());
        must(import.arg("--in").arg(&key).arg("--passphrase-file").arg(&passphrase));
        beside.joined(issuer, group).await
    }

    /// Changes the configuration.
    pub(crate) fn edit(&self, change: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        let changed = change(text.clone());
        assert_ne!(changed, text);
        std::fs::write(self.config(), changed).unwrap();
    }

    /// `enroll`, `serve`, confirmation.
    pub(crate) async fn joined(self, issuer: &Issuer, group: &str) -> Self {
        let mut gateway = self;
        let token = issuer.gateway_token(group).await;
        let output = gateway.enroll(issuer, &token);
        assert!(output.status.success(), "{}", scep_testkit::process::text(&output));
        gateway.program.start();
        gateway.confirmed(issuer).await;
        gateway
    }

    /// Has every gateway that waits confirmed, and waits until the group has a key.
    pub(crate) async fn confirmed(&self, issuer: &Issuer) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut waiting = 0;
            for connector in issuer.list("/connectors").await {
                if connector["membership"] == "awaiting-operator" {
                    waiting += 1;
                    let id = connector["id"].as_str().unwrap();
                    issuer.post(&format!("/connectors/{id}/confirm"), json!({})).await;
                }
            }
            let ready = issuer.list("/gateway-groups").await;
            let ready = ready.iter().all(|group| group["public_key"].is_string());
            if waiting == 0 && ready {
                return;
            }
            assert!(Instant::now() < deadline, "no key for the group: {}", self.program.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.file("gateway.toml")
    }

    /// Where it writes, its output among it.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("gw").join(name)
    }

    pub(crate) fn ca(&self) -> CertificateDer {
        read_certificates(&self.file("ca.cert.pem")).unwrap().remove(0)
    }

    /// A client of the endpoint that takes any signer, and what it knows of the server.
    pub(crate) async fn client(&self) -> (ScepClient, Server) {
        self.client_at(self.address).await
    }

    /// The same, through something that listens elsewhere.
    pub(crate) async fn client_at(&self, address: SocketAddr) -> (ScepClient, Server) {
        let url = format!("http://{address}/certsrv/mscep/mscep.dll");
        let settings = ClientSettings { timeout: PATIENCE, ..ClientSettings::default() };
        let client = ScepClient::with_settings(&url, settings).unwrap();
        let trust = Trust::Certificate(self.ca());
        let server = client.discover(&trust, SystemClock.now(), &AwsLc).await.unwrap();
        (client, server)
    }

    /// What it says on its loopback port.
    pub(crate) fn health(&self) -> HttpAnswer {
        http(self.admin, "GET", "/healthz", &[])
    }

    /// The CRL, DER, once it is there.
    pub(crate) fn crl(&self) -> Vec<u8> {
        http(self.address, "GET", "/crl", &[]).body
    }
}

/// A device: an EC key, which costs nothing to make, and a challenge for it.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) id: String,
    challenge: String,
    key: SoftwareKey,
}

impl Device {
    pub(crate) fn new(id: &str, challenge: &str) -> Self {
        let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
        Self { id: id.to_owned(), challenge: challenge.to_owned(), key }
    }

    pub(crate) fn challenge(&self) -> &str {
        &self.challenge
    }

    /// The request that the challenge describes.
    pub(crate) fn request(&self) -> Vec<u8> {
        let client = ExtendedKeyUsages::purpose("clientAuth").unwrap();
        let request = CsrBuilder {
            subject: format!("O=Example, CN={}", self.id).parse().unwrap(),
            subject_alt_names: vec![GeneralName::dns(&format!("{}.example.org", self.id)).unwrap()],
            key_usage: Some(KeyUsages::DIGITAL_SIGNATURE),
            extended_key_usages: ExtendedKeyUsages::new(vec![client]),
            challenge_password: Some(Secret::new(self.challenge.clone())),
            ..CsrBuilder::default()
        };
        request.sign(&*self.key.signer(), SignatureScheme::EcdsaSha256).unwrap()
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
    (client, server): &(ScepClient, Server),
    request: &[u8],
    identity: &Identity,
) -> Result<CertificateDer, ClientError> {
    match client.enrol(server, request, identity, SystemClock.now(), &AwsLc).await? {
        Answer::Issued(issued) => Ok(issued.certificate),
        Answer::Pending(pending) => panic!("nothing is pending here: {pending:?}"),
    }
}

/// Waits until something holds that is asked of a server.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ask().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {} s", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
