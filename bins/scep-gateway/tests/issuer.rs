//! A gateway and its issuer as an operator runs them: the two programs over TLS, by their commands.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

use scep_client::{Answer, ClientError, Identity, ScepClient, Server, Trust};
use scep_keys::{AwsLc, Backend, SoftwareKey, read_certificates};
use scep_pkcs10::CsrBuilder;
use scep_server::SystemClock;
use scep_testkit::keys;
use scep_testkit::postgres::{Cluster, Programs};
use scep_testkit::process::{
    Child, PATIENCE, binary, free_address, http, must, run, temporary, text, wait_for,
};
use scep_types::{
    CertificateDer, Clock, CrlDer, ExtendedKeyUsages, GeneralName, KeyAlgorithm, KeyUsages, Secret,
    SignatureScheme,
};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;
use tempfile::TempDir;

const PROFILE: &str = r#"
id = "wifi"
for = "device"
subject = "O=Example, CN={{DeviceId}}"
subject_alt_names = [{ dns = "{{DeviceId}}.example.org" }]
key_usage = ["digitalSignature"]
extended_key_usages = ["clientAuth"]
key_algorithms = ["p256"]
validity = "30d"
scep_urls = ["http://scep.example.org/scep"]
"#;

/// Without anything of the machine that would change what it does.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for variable in [
        "SCEP_GATEWAY_CONFIG",
        "SCEP_ISSUER_CONFIG",
        "SCEP_ISSUER_URL",
        "SCEP_ISSUER_TOKEN",
        "SCEP_ISSUER_PIN",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
    ] {
        command.env_remove(variable);
    }
    command
}

/// Starts what listens on an address that may just have been taken.
fn start(make: impl Fn() -> Command, address: SocketAddr, dir: &Path, name: &str) -> Child {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut process = Child::start(&mut make(), dir, name);
        if process.answers(address) && process.ended().is_none() {
            return process;
        }
        let log = process.stderr();
        assert!(log.contains("in use") && Instant::now() < deadline, "{name}: {log}");
    }
}

fn terminate(process: &mut Child) {
    must(Command::new("sh").arg("-c").arg(format!("kill -TERM {}", process.id())));
    let status = wait_for("an orderly end", || process.ended());
    assert!(status.success(), "{status}: {}", process.stderr());
}

/// `scep-issuer serve`, and its administrator.
struct Issuer {
    // Before the folder: the process ends before its files go.
    process: Option<Child>,
    address: SocketAddr,
    dir: TempDir,
}

impl Issuer {
    fn start() -> Self {
        let (dir, address) = (temporary(), free_address());
        let mut init = command(&binary("scep-issuer"));
        init.args(["init", "--tenant", "contoso", "--listen", &address.to_string()]);
        must(init.args(["--public-name", "localhost", "--dir"]).arg(dir.path().join("issuer")));
        let mut issuer = Self { process: None, address, dir };
        let token = must(&mut issuer.with_config(&["token", "create", "--scope", "admin"]));
        std::fs::write(issuer.file("admin.token"), token).unwrap();
        issuer.serve();
        let profile = issuer.file("wifi.toml");
        std::fs::write(&profile, PROFILE).unwrap();
        issuer.admin(&["profile", "add", "--file", profile.to_str().unwrap()]);
        issuer
    }

    fn serve(&mut self) {
        let make = || {
            let mut serve = command(&binary("scep-issuer"));
            serve.arg("serve").arg("--config").arg(self.file("issuer/issuer.toml"));
            serve
        };
        self.process = Some(start(make, self.address, self.dir.path(), "issuer"));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    fn with_config(&self, words: &[&str]) -> Command {
        let mut command = command(&binary("scep-issuer"));
        command.args(words).arg("--config").arg(self.file("issuer/issuer.toml"));
        command
    }

    fn asked(&self, words: &[&str]) -> Output {
        let mut command = command(&binary("scep-issuer"));
        command.args(words).args(["--url", &self.url()]);
        command.arg("--token-file").arg(self.file("admin.token"));
        run(command.arg("--ca-file").arg(self.file("issuer/tls.pem")))
    }

    #[track_caller]
    fn admin(&self, words: &[&str]) -> String {
        let output = self.asked(words);
        assert!(output.status.success(), "{words:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn json(&self, words: &[&str]) -> Value {
        let said = self.admin(&[words, &["--json"]].concat());
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    /// A token for a gateway, and the fingerprint that comes with it.
    fn enrolment(&self, group: &str) -> (String, String) {
        let said = self.admin(&["gateway", "token", "new", "--group", group]);
        let mut words = said.split_whitespace();
        let mut after = |name: &str| words.by_ref().skip_while(|word| *word != name).nth(1);
        let fingerprint = after("--issuer-fingerprint").unwrap().to_owned();
        (after("--token").unwrap().to_owned(), fingerprint)
    }

    fn device(&self, name: &str) {
        self.admin(&["device", "add", name]);
        self.admin(&["assign", "--profile", "wifi", "--device", name]);
    }

    /// A challenge, as soon as the issuer makes one.
    fn challenge(&self, device: &str) -> String {
        let words = ["challenge", "new", "--device", device, "--profile", "wifi"];
        wait_for("a challenge is made", || {
            let output = self.asked(&words);
            let made = output.status.success().then(|| String::from_utf8(output.stdout).unwrap());
            made.map(|text| text.trim_end().to_owned())
        })
    }

    /// What it has of the device's certificates.
    fn reported(&self, device: &str) -> Vec<Value> {
        let list = self.json(&["certificate", "list", "--device", device]);
        list.as_array().unwrap().clone()
    }
}

/// A gateway's folder, and its process.
struct Gateway {
    process: Option<Child>,
    address: SocketAddr,
    runs: u32,
    dir: TempDir,
}

impl Gateway {
    fn init(issuer: &Issuer) -> Self {
        let (dir, address) = (temporary(), free_address());
        let mut init = command(&binary("scep-gateway"));
        init.args(["init", "--tenant", "contoso", "--group", "main", "--issuer", &issuer.url()]);
        init.args(["--allow-suffix", "example.org", "--listen", &address.to_string()]);
        init.args(["--admin-listen", &free_address().to_string()]);
        must(init.arg("--dir").arg(dir.path().join("gw")));
        let gateway = Self { process: None, address, runs: 0, dir };
        // What a gateway proves counts when its next check-in is answered.
        gateway.configure(|text| text.replace("[connector]\n", "[connector]\nwait = \"2s\"\n"));
        gateway
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("gw").join(name)
    }

    fn program(&self, words: &[&str]) -> Command {
        let mut command = command(&binary("scep-gateway"));
        command.args(words).arg("--config").arg(self.file("gateway.toml"));
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        run(&mut self.program(words))
    }

    /// With a new token, as the issuer's operator hands it over: the token in a file.
    fn enroll(&self, issuer: &Issuer) -> Output {
        self.enroll_with(issuer, &[])
    }

    fn enroll_with(&self, issuer: &Issuer, more: &[&str]) -> Output {
        let (token, fingerprint) = issuer.enrolment("main");
        let file = self.dir.path().join("token");
        std::fs::write(&file, token + "\n").unwrap();
        let file = file.to_str().unwrap();
        let words = ["enroll", "--token-file", file, "--issuer-fingerprint", &fingerprint];
        self.run(&[&words, more].concat())
    }

    fn serve(&mut self) {
        self.runs += 1;
        let name = format!("gateway-{}", self.runs);
        let make = || self.program(&["serve"]);
        self.process = Some(start(make, self.address, self.dir.path(), &name));
    }

    fn stop(&mut self) {
        terminate(&mut self.process.take().expect("it runs"));
    }

    fn log(&self) -> String {
        self.process.as_ref().expect("it runs").stderr()
    }

    fn status(&self) -> Value {
        let output = self.run(&["status", "--json"]);
        let json = serde_json::from_slice(&output.stdout);
        json.unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
    }

    fn connector(&self) -> String {
        self.status()["link"]["connector"].as_str().unwrap().to_owned()
    }

    /// The ids of the keys of a role.
    fn keys(&self, role: &str) -> Vec<String> {
        let keys = self.status()["keys"].as_array().unwrap().clone();
        let keys = keys.iter().filter(|key| key["role"] == role);
        keys.map(|key| key["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Its ledger in a database.
    fn share(&self, cluster: &Cluster) {
        let table =
            format!("\n[ledger]\nkind = \"postgres\"\nconnection = {:?}\n", cluster.by_socket());
        self.configure(|text| text.replace("ledger = \"ledger.sqlite\"\n", "") + &table);
    }

    fn configure(&self, change: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(self.file("gateway.toml")).unwrap();
        std::fs::write(self.file("gateway.toml"), change(text)).unwrap();
    }

    /// Another gateway with the same configuration and files, but for its addresses.
    fn beside(&self) -> Self {
        let (dir, address) = (temporary(), free_address());
        std::fs::create_dir(dir.path().join("gw")).unwrap();
        for entry in std::fs::read_dir(self.file("")).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), dir.path().join("gw").join(entry.file_name())).unwrap();
            }
        }
        let other = Self { process: None, address, runs: 0, dir };
        let config = std::fs::read_to_string(other.file("gateway.toml")).unwrap();
        let lines = config.lines().map(|line| match line.split_once(" = ") {
            Some(("listen", _)) => format!("listen = \"{address}\""),
            Some(("admin_listen", _)) => format!("admin_listen = \"{}\"", free_address()),
            _ => line.to_owned(),
        });
        let config: Vec<String> = lines.collect();
        std::fs::write(other.file("gateway.toml"), config.join("\n")).unwrap();
        other
    }

    /// Enrolled, confirmed and serving.
    fn member(issuer: &Issuer) -> Self {
        let mut gateway = Self::init(issuer);
        let enrolled = gateway.enroll(issuer);
        assert!(enrolled.status.success(), "{}", text(&enrolled));
        gateway.serve();
        issuer.admin(&["gateway", "confirm", &gateway.connector()]);
        gateway
    }

    async fn client(&self) -> (ScepClient, Server) {
        let url = format!("http://{}/certsrv/mscep/mscep.dll", self.address);
        let client = ScepClient::new(&url).unwrap();
        let ca = read_certificates(&self.file("ca.cert.pem")).unwrap().remove(0);
        let server = client.discover(&Trust::Certificate(ca), SystemClock.now(), &AwsLc).await;
        (client, server.unwrap())
    }

    async fn enrol(&self, device: &str, challenge: &str) -> Result<CertificateDer, ClientError> {
        let (client, server) = self.client().await;
        let client_auth = ExtendedKeyUsages::purpose("clientAuth").unwrap();
        let request = CsrBuilder {
            subject: format!("O=Example, CN={device}").parse().unwrap(),
            subject_alt_names: vec![GeneralName::dns(&format!("{device}.example.org")).unwrap()],
            key_usage: Some(KeyUsages::DIGITAL_SIGNATURE),
            extended_key_usages: ExtendedKeyUsages::new(vec![client_auth]),
            challenge_password: Some(Secret::new(challenge.to_owned())),
            ..CsrBuilder::default()
        };
        let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
        let request = request.sign(&*key.signer(), SignatureScheme::EcdsaSha256).unwrap();
        let (signer, now) = (keys::rsa2048(2), SystemClock.now());
        let (name, opens) = ("CN=device".parse().unwrap(), signer.decryption().unwrap());
        let identity = Identity::self_signed(&name, signer.signer(), opens, now, &AwsLc).unwrap();
        match client.enrol(&server, &request, &identity, now, &AwsLc).await? {
            Answer::Issued(issued) => Ok(issued.certificate),
            Answer::Pending(pending) => panic!("nothing is pending here: {pending:?}"),
        }
    }

    fn crl(&self) -> Option<CrlDer> {
        let answer = http(self.address, "GET", "/crl", b"");
        (answer.status == 200).then(|| CrlDer::parse(&answer.body).unwrap())
    }
}

#[track_caller]
fn refused(output: &Output, code: i32, named: &[&str]) {
    let said = text(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for name in named {
        assert!(said.contains(name), "{name}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_token_to_a_reported_certificate_and_from_a_wipe_to_the_crl() {
    let issuer = Issuer::start();
    let mut gateway = Gateway::init(&issuer);
    let enrolled = gateway.enroll(&issuer);
    assert!(enrolled.status.success(), "{}", text(&enrolled));
    for part in ["awaiting an operator", "group       main", "scep-gateway serve --config"] {
        assert!(text(&enrolled).contains(part), "{part}: {}", text(&enrolled));
    }
    gateway.serve();
    issuer.device("laptop-1");
    // A token alone makes no member.
    let early = issuer.asked(&["challenge", "new", "--device", "laptop-1", "--profile", "wifi"]);
    assert!(!early.status.success(), "{}", text(&early));
    let id = gateway.connector();
    assert!(text(&enrolled).contains(&id), "{}", text(&enrolled));
    issuer.admin(&["gateway", "confirm", &id]);

    let challenge = issuer.challenge("laptop-1");
    let certificate = gateway.enrol("laptop-1", &challenge).await.unwrap();
    let reported = wait_for("the report has come", || {
        Some(issuer.reported("laptop-1")).filter(|reported| !reported.is_empty())
    });
    assert_eq!(reported.len(), 1, "{reported:?}");
    let thumbprint = certificate.fingerprint().to_string();
    assert!(reported[0].to_string().contains(&thumbprint), "{thumbprint}: {reported:?}");

    // Disabled: what was made for it before is refused, and taken again once it is enabled.
    let other = issuer.challenge("laptop-1");
    issuer.admin(&["device", "disable", "laptop-1"]);
    wait_for("the gateway knows", || (gateway.status()["denials"] == 1).then_some(()));
    let answer = gateway.enrol("laptop-1", &other).await;
    assert!(matches!(answer, Err(ClientError::Refused { .. })), "{answer:?}");
    issuer.admin(&["device", "enable", "laptop-1"]);
    wait_for("the gateway knows", || (gateway.status()["denials"] == 0).then_some(()));
    gateway.enrol("laptop-1", &other).await.unwrap();

    issuer.admin(&["device", "wipe", "laptop-1"]);
    let serial = certificate.serial_content().to_vec();
    wait_for("the CRL shows it", || {
        let crl = gateway.crl()?;
        crl.serials().any(|listed| listed == &*serial).then_some(())
    });

    // Well in every respect, and after its end nothing is left to report.
    wait_for("everything is reported", || (gateway.status()["queue_depth"] == 0).then_some(()));
    let status = gateway.run(&["status"]);
    assert_eq!(status.status.code(), Some(0), "{}", text(&status));
    gateway.stop();
    assert_eq!(gateway.status()["queue_depth"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_reports_what_was_issued_last_as_far_as_the_issuer_answers() {
    let mut issuer = Issuer::start();
    let mut gateway = Gateway::member(&issuer);
    issuer.device("laptop-1");
    let [first, second] = [(); 2].map(|()| issuer.challenge("laptop-1"));
    gateway.enrol("laptop-1", &first).await.unwrap();
    gateway.stop();
    assert_eq!(gateway.status()["queue_depth"], 0);
    assert_eq!(issuer.reported("laptop-1").len(), 1);

    // Without the issuer it issues, stops all the same, and reports after its next start.
    gateway.serve();
    let answer = http(gateway.address, "GET", "/?operation=GetCACaps", b"");
    assert_eq!(answer.status, 200);
    terminate(&mut issuer.process.take().unwrap());
    wait_for("the gateway is in trouble", || {
        gateway.status()["link"]["trouble"].as_str().map(drop)
    });
    gateway.enrol("laptop-1", &second).await.unwrap();
    refused(&gateway.run(&["status"]), 1, &["the link to the issuer"]);
    gateway.stop();
    assert!(gateway.status()["queue_depth"].as_u64().unwrap() > 0);
    issuer.serve();
    gateway.serve();
    wait_for("both are reported", || (issuer.reported("laptop-1").len() == 2).then_some(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_issuers_keys_and_orders_come_without_a_restart() {
    let issuer = Issuer::start();
    let gateway = Gateway::member(&issuer);
    issuer.device("laptop-1");
    let before = issuer.challenge("laptop-1");
    let [signer] = gateway.keys("issuer signing").try_into().unwrap();
    let [opens] = gateway.keys("challenge decryption").try_into().unwrap();
    let [authentication] = gateway.keys("connector authentication").try_into().unwrap();

    must(&mut issuer.with_config(&["key", "rotate", "--what", "signing"]));
    let hangup = format!("kill -HUP {}", issuer.process.as_ref().unwrap().id());
    must(Command::new("sh").arg("-c").arg(hangup));
    let signers = wait_for("both signers are known", || {
        Some(gateway.keys("issuer signing")).filter(|keys| keys.len() == 2)
    });
    assert!(signers.contains(&signer));

    let id = gateway.connector();
    for what in ["authentication", "decryption"] {
        issuer.admin(&["gateway", "renew", "--what", what, &id]);
    }
    wait_for("a new authentication key", || {
        (gateway.keys("connector authentication") != [authentication.clone()]).then_some(())
    });
    wait_for("a new decryption key, and the old one for a time", || {
        let present = gateway.keys("challenge decryption");
        let previous = gateway.keys("previous challenge decryption");
        (present != [opens.clone()] && previous == [opens.clone()]).then_some(())
    });
    issuer.admin(&["gateway", "log-level", &id, "debug"]);
    wait_for("more is logged", || gateway.log().contains("log level").then_some(()));

    // What was made before all this still counts, and so does what is made now.
    gateway.enrol("laptop-1", &before).await.unwrap();
    let after = issuer.challenge("laptop-1");
    gateway.enrol("laptop-1", &after).await.unwrap();
    assert!(!gateway.log().contains(&before) && !gateway.log().contains(&after));
}

#[test]
fn an_enrolment_anew_keeps_the_ledger() {
    let issuer = Issuer::start();
    let mut gateway = Gateway::member(&issuer);
    let [opens] = gateway.keys("challenge decryption").try_into().unwrap();
    let (first, ledger) = (gateway.connector(), gateway.status()["ledger"].clone());
    // Not while it runs: the ledger is its own.
    refused(&gateway.enroll(&issuer), 1, &["stop"]);
    gateway.stop();
    // Nor beside the identity that it has: whoever has a token and a copy of the folder would be a second holder.
    refused(&gateway.enroll(&issuer), 1, &["LedgerNotAccepted", "remove it first"]);
    issuer.admin(&["gateway", "remove", &first]);
    // Who has left its group has left its key behind.
    refused(&gateway.enroll(&issuer), 1, &["KeyNotAccepted", "--new-decryption-key"]);
    let again = gateway.enroll_with(&issuer, &["--new-decryption-key"]);
    assert!(again.status.success(), "{}", text(&again));
    assert_ne!(gateway.connector(), first);
    let [present] = gateway.keys("challenge decryption").try_into().unwrap();
    assert_ne!(present, opens);
    // What was made for the old one still opens.
    assert_eq!(gateway.keys("previous challenge decryption"), [opens]);
    assert_eq!(gateway.status()["ledger"], ledger);
    gateway.serve();
    wait_for("it is heard", || {
        let status = gateway.status();
        (status["serving"] == true && status["link"]["trouble"].is_null()).then_some(())
    });
}

#[test]
fn another_ledger_than_the_one_enrolled_with_is_refused() {
    let issuer = Issuer::start();
    let mut gateway = Gateway::member(&issuer);
    gateway.stop();
    let mine = gateway.status()["ledger"].as_str().unwrap().to_owned();
    let other = Gateway::init(&issuer);
    std::fs::copy(other.file("ledger.sqlite"), gateway.file("ledger.sqlite")).unwrap();
    for beside in ["ledger.sqlite-wal", "ledger.sqlite-shm"] {
        // Of the ledger that was there; an orderly stop may have removed them.
        let _ = std::fs::remove_file(gateway.file(beside));
    }
    let mut serve = Child::start(&mut gateway.program(&["serve"]), gateway.dir.path(), "refused");
    let status = wait_for("it does not start", || serve.ended());
    assert_eq!(status.code(), Some(2), "{}", serve.stderr());
    for part in ["enrolled with ledger", &mine] {
        assert!(serve.stderr().contains(part), "{part}: {}", serve.stderr());
    }
    // A gateway with a ledger of its own does not get into the group either.
    refused(&other.enroll(&issuer), 1, &["LedgerNotAccepted"]);
}

#[test]
fn the_groups_key_is_exported_and_imported_where_it_belongs() {
    let issuer = Issuer::start();
    let mut gateway = Gateway::member(&issuer);
    let [opens] = gateway.keys("challenge decryption").try_into().unwrap();
    let word = gateway.dir.path().join("word");
    std::fs::write(&word, "correct horse battery\n").unwrap();
    let (word, key) = (word.to_str().unwrap(), gateway.dir.path().join("main.key"));
    let key = key.to_str().unwrap();
    let export = ["connector", "export", "--out", key, "--passphrase-file", word];
    let import = ["connector", "import", "--in", key, "--passphrase-file", word];
    // While it runs.
    let exported = gateway.run(&export);
    assert!(exported.status.success(), "{}", text(&exported));
    refused(&gateway.run(&export), 2, &["main.key"]);
    gateway.stop();
    // The same key where it is already is no harm.
    let same = gateway.run(&import);
    assert!(same.status.success(), "{}", text(&same));

    // Another gateway with a ledger of its own, and one of another group.
    let other = Gateway::init(&issuer);
    refused(&other.run(&import), 2, &["is for ledger"]);
    let config = other.file("gateway.toml");
    let text_of = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text_of.replace("gateway_group = \"main\"", "gateway_group = \"b\""))
        .unwrap();
    refused(&other.run(&import), 2, &["is for group main"]);

    // One that has lost its state and has the same ledger.
    std::fs::remove_dir_all(gateway.file("connector")).unwrap();
    let wrong = gateway.dir.path().join("wrong");
    std::fs::write(&wrong, "incorrect horse battery\n").unwrap();
    let wrong = ["connector", "import", "--in", key, "--passphrase-file", wrong.to_str().unwrap()];
    refused(&gateway.run(&wrong), 2, &["passphrase"]);
    let imported = gateway.run(&import);
    assert!(imported.status.success(), "{}", text(&imported));
    let file = gateway.file(&format!("connector/decryption-{opens}.key.pem"));
    let read = SoftwareKey::read(&file, Backend::AwsLc).unwrap();
    assert_eq!(read.public_key().key_id().to_string(), opens);
}

/// Two gateways on one database: one makes a new key for the group, and the other takes it over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateways_of_a_group_hand_a_new_key_on() {
    let Some(programs) = Programs::find() else {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "PostgreSQL is needed");
        eprintln!("SKIPPED the_gateways_of_a_group_hand_a_new_key_on: PostgreSQL is missing");
        return;
    };
    let cluster = Cluster::start(&programs, &[]).unwrap();
    let issuer = Issuer::start();
    let mut one = Gateway::init(&issuer);
    one.share(&cluster);
    // The same CA and RA, a place and an identity of its own.
    let mut two = one.beside();
    let enrolled = one.enroll_with(&issuer, &["--name", "one"]);
    assert!(enrolled.status.success(), "{}", text(&enrolled));
    one.serve();
    issuer.admin(&["gateway", "confirm", &one.connector()]);
    issuer.device("laptop-1");
    let before = issuer.challenge("laptop-1");

    let word = one.dir.path().join("word");
    std::fs::write(&word, "correct horse battery\n").unwrap();
    let hand_on = |one: &Gateway, two: &Gateway, name: &str, more: &[&str]| {
        let key = one.dir.path().join(name);
        let (key, word) = (key.to_str().unwrap(), word.to_str().unwrap());
        let export = ["connector", "export", "--out", key, "--passphrase-file", word];
        let exported = one.run(&export);
        assert!(exported.status.success(), "{}", text(&exported));
        let import = ["connector", "import", "--in", key, "--passphrase-file", word];
        two.run(&[&import, more].concat())
    };
    let imported = hand_on(&one, &two, "first.key", &[]);
    assert!(imported.status.success(), "{}", text(&imported));
    let enrolled = two.enroll_with(&issuer, &["--name", "two"]);
    assert!(enrolled.status.success(), "{}", text(&enrolled));
    two.serve();
    issuer.admin(&["gateway", "confirm", &two.connector()]);
    two.enrol("laptop-1", &before).await.unwrap();

    let [old] = two.keys("challenge decryption").try_into().unwrap();
    issuer.admin(&["gateway", "renew", "--what", "decryption", &one.connector()]);
    let new = wait_for("the group has a new key", || {
        let present = one.keys("challenge decryption");
        let previous = one.keys("previous challenge decryption");
        present.first().filter(|new| **new != old && previous == [old.clone()]).cloned()
    });
    refused(&hand_on(&one, &two, "refused.key", &[]), 2, &[&new, &old, "--replace"]);
    let imported = hand_on(&one, &two, "second.key", &["--replace"]);
    assert!(imported.status.success(), "{}", text(&imported));
    two.stop();
    two.serve();
    let after = issuer.challenge("laptop-1");
    two.enrol("laptop-1", &after).await.unwrap();
    issuer.admin(&["gateway", "renew", "--what", "decryption", &two.connector()]);
    wait_for("it is this one's too", || {
        let present = two.keys("challenge decryption") == [new.clone()];
        (present && two.keys("previous challenge decryption") == [old.clone()]).then_some(())
    });
    let again = issuer.challenge("laptop-1");
    one.enrol("laptop-1", &again).await.unwrap();
}
