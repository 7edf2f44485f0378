//! What an operator does with a gateway that belongs to an issuer, as far as it needs no issuer; and `status`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

#[allow(dead_code, reason = "the crash tests use the rest")]
mod support;

use core::time::Duration;
use scep_ca::{InfrastructurePurpose, LocalCa, LocalCaSettings};
use scep_keys::{AwsLc, Backend, SoftwareKey, certificates_pem, read_certificates};
use scep_server::SystemClock;
use scep_testkit::process::{free_address, http, must, run, temporary, text, wait_for};
use scep_types::{CertificateDer, Clock, KeyAlgorithm, Timestamp};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use support::{Gateway, enrol, identity};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_scep-gateway");
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const FINGERPRINT: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn program(words: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    for variable in ["SCEP_GATEWAY_CONFIG", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
    {
        command.env_remove(variable);
    }
    command.args(words);
    command
}

/// A gateway's folder that names an issuer where nobody listens.
struct Folder {
    dir: TempDir,
    issuer: String,
}

impl Folder {
    fn new() -> Self {
        let dir = temporary();
        let issuer = format!("https://{}", free_address());
        let (listen, admin) = (free_address().to_string(), free_address().to_string());
        let mut init = program(&["init", "--tenant", "contoso", "--group", "main"]);
        init.args(["--allow-suffix", "example.org", "--issuer", &issuer, "--listen", &listen]);
        init.args(["--admin-listen", &admin, "--dir"]).arg(dir.path().join("gw"));
        let said = String::from_utf8(must(&mut init)).unwrap();
        assert!(said.contains("scep-gateway enroll --config"), "{said}");
        Self { dir, issuer }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("gw").join(name)
    }

    fn run(&self, words: &[&str]) -> Output {
        run(program(words).arg("--config").arg(self.file("gateway.toml")))
    }

    fn enroll(&self, more: &[&str]) -> Output {
        let mut words = vec!["enroll", "--token", TOKEN, "--name", "gw1"];
        if !more.contains(&"--issuer-fingerprint") {
            words.extend(["--issuer-fingerprint", FINGERPRINT]);
        }
        words.extend(more);
        self.run(&words)
    }

    fn keys(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.file("connector")) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut keys: Vec<String> = names.filter(|name| name.ends_with(".key.pem")).collect();
        keys.sort();
        keys
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

#[test]
fn a_gateway_that_has_not_enrolled_says_so() {
    let folder = Folder::new();
    let checked = folder.run(&["check-config"]);
    assert!(checked.status.success(), "{}", text(&checked));
    assert!(text(&checked).contains("not enrolled yet"), "{}", text(&checked));
    refused(&folder.run(&["serve"]), 2, &["not enrolled", "scep-gateway enroll"]);
    refused(&folder.run(&["status"]), 1, &["not enrolled", "does not run"]);
    let out = folder.file("main.key");
    let export = ["connector", "export", "--out", out.to_str().unwrap()];
    refused(&folder.run(&export), 2, &["not enrolled"]);
    assert!(!out.exists());
}

#[test]
fn what_cannot_enrol_is_named_before_anybody_is_asked() {
    let folder = Folder::new();
    refused(
        &folder.enroll(&["--issuer", "https://another.example.org"]),
        2,
        &["--issuer", "another.example.org", &folder.issuer],
    );
    refused(&folder.enroll(&["--issuer-fingerprint", "00ff"]), 2, &["--issuer-fingerprint"]);
    refused(&folder.enroll(&["--proxy", "ftp://proxy"]), 2, &["--proxy"]);
    let short = folder.file("token");
    std::fs::write(&short, "short\n").unwrap();
    let file = ["--token-file", short.to_str().unwrap(), "--issuer-fingerprint", FINGERPRINT];
    let words: Vec<&str> = ["enroll", "--name", "gw1"].into_iter().chain(file).collect();
    refused(&folder.run(&words), 2, &["--token"]);
    assert_eq!(folder.keys(), [] as [&str; 0]);

    // A configuration that has its keys from files.
    let gateway = Gateway::init();
    let config = gateway.file("gw/gateway.toml");
    let mut enroll = program(&["enroll", "--token", TOKEN, "--issuer-fingerprint", FINGERPRINT]);
    refused(&run(enroll.arg("--config").arg(&config)), 2, &["[connector]", "init --issuer"]);
    // Both at once.
    let static_keys = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        format!("{static_keys}\n[connector]\nissuer = \"{}\"\n", folder.issuer),
    )
    .unwrap();
    let both = run(program(&["check-config", "--config"]).arg(&config));
    refused(&both, 2, &["challenge.signers", "[connector]"]);
}

#[test]
fn an_issuer_out_of_reach_costs_no_new_keys_at_each_attempt() {
    let folder = Folder::new();
    refused(&folder.enroll(&[]), 1, &["cannot be reached"]);
    let keys = folder.keys();
    assert_eq!(keys.len(), 2, "{keys:?}");
    for key in &keys {
        SoftwareKey::read(&folder.file("connector").join(key), Backend::AwsLc).unwrap();
    }
    // The same attempt again has the same keys: it may be that the issuer has answered the first.
    refused(&folder.enroll(&[]), 1, &["cannot be reached"]);
    assert_eq!(folder.keys(), keys);
}

fn status(gateway: &Gateway) -> (Option<i32>, Value) {
    let config = gateway.file("gw/gateway.toml");
    let output = run(program(&["status", "--json", "--config"]).arg(config));
    let json = serde_json::from_slice(&output.stdout);
    (output.status.code(), json.unwrap_or_else(|error| panic!("{error}: {}", text(&output))))
}

fn attention(status: &Value) -> Vec<&str> {
    status["attention"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_tells_of_a_gateway_that_runs_and_of_one_that_does_not() {
    let mut gateway = Gateway::init();
    let (code, stopped) = status(&gateway);
    assert_eq!((code, attention(&stopped)), (Some(1), vec!["the gateway does not run"]));
    assert_eq!(stopped["queue_depth"], 0);

    gateway.start(&[]);
    let (client, server) = gateway.client().await;
    let (device, identity) = (gateway.device(), identity());
    enrol(&client, &server, &device.request(), &identity).await.unwrap();
    let (code, running) = status(&gateway);
    assert_eq!((code, attention(&running)), (Some(0), vec![]), "{running}");
    assert_eq!((&running["running"], &running["serving"]), (&true.into(), &true.into()));
    assert_eq!(running["ledger"], stopped["ledger"]);
    assert!(running["queue_depth"].as_u64().unwrap() >= 1, "{running}");
    assert_eq!(running["revocations"]["held"], 0);
    let names = |list: &str, key: &str| -> Vec<String> {
        let rows = running[list].as_array().unwrap();
        rows.iter().map(|row| row[key].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        names("certificates", "name"),
        [
            "CA certificate",
            "RA encryption certificate",
            "RA signing certificate",
            "issuer signing key"
        ]
    );
    assert_eq!(
        names("keys", "role"),
        ["CA", "RA encryption", "RA signing", "challenge decryption", "issuer signing"]
    );
    // For people: the same.
    let config = gateway.file("gw/gateway.toml");
    let people = must(program(&["status", "--config"]).arg(config));
    let people = String::from_utf8(people).unwrap();
    for part in
        ["runs and issues", "RA encryption certificate", running["ledger"].as_str().unwrap()]
    {
        assert!(people.contains(part), "{part}: {people}");
    }
    gateway.stop();
    let (code, stopped) = status(&gateway);
    assert_eq!(code, Some(1));
    assert_eq!(stopped["queue_depth"].as_u64(), Some(2), "issued and sent: {stopped}");
}

#[test]
fn status_of_what_is_no_gateway_is_another_failure() {
    let dir = temporary();
    let config = dir.path().join("gateway.toml");
    refused(&run(program(&["status", "--config"]).arg(&config)), 2, &["does not exist"]);
    std::fs::write(&config, "tenant = 1").unwrap();
    refused(&run(program(&["status", "--config"]).arg(&config)), 2, &["tenant"]);
}

/// The gateway's CA, as the gateway itself opens it.
fn ca(gateway: &Gateway) -> LocalCa {
    let key = SoftwareKey::read(&gateway.file("gw/ca.key.pem"), Backend::AwsLc).unwrap();
    let certificate = read_certificates(&gateway.file("gw/ca.cert.pem")).unwrap().remove(0);
    let settings = LocalCaSettings::default();
    LocalCa::new(key.signer(), certificate, Vec::new(), settings, Arc::new(AwsLc)).unwrap()
}

const DAY: Duration = Duration::from_secs(86_400);

/// Replaces the RA's encryption certificate by one that began `age` ago and lives for `life`.
fn age_encryption(gateway: &Gateway, age: Duration, life: Duration) -> CertificateDer {
    let now: Timestamp = SystemClock.now();
    let key = SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).unwrap();
    let subject = "CN=SCEP RA encryption".parse().unwrap();
    let made = ca(gateway)
        .issue_infrastructure(
            InfrastructurePurpose::RaEncryption,
            key.public_key(),
            &subject,
            life,
            now.minus(age),
        )
        .unwrap();
    let file = gateway.file("gw/ra-encrypt.key.pem");
    std::fs::remove_file(&file).unwrap();
    key.write_new(&file).unwrap();
    write_certificate(&gateway.file("gw/ra-encrypt.cert.pem"), &made);
    made
}

fn write_certificate(path: &Path, certificate: &CertificateDer) {
    std::fs::write(path, certificates_pem(std::slice::from_ref(certificate))).unwrap();
}

/// Until it answers: its port is open before its certificates are looked at.
fn start_and_ask(gateway: &mut Gateway) {
    gateway.start(&[]);
    let config = std::fs::read_to_string(gateway.file("gw/gateway.toml")).unwrap();
    let line = config.lines().find_map(|line| line.strip_prefix("listen = ")).unwrap();
    let address = line.trim_matches('"').parse().unwrap();
    let answer = http(address, "GET", "/?operation=GetCACaps", b"");
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn days_left(status: &Value, name: &str) -> i64 {
    let rows = status["certificates"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap()["days_left"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_due_is_renewed_at_the_start() {
    let mut gateway = Gateway::init();
    let old = age_encryption(&gateway, DAY * 70 + DAY / 2, DAY * 90);
    let (code, before) = status(&gateway);
    assert_eq!((code, days_left(&before, "RA encryption certificate")), (Some(1), 19));
    assert!(attention(&before).contains(&"RA encryption certificate: 19 days left"), "{before}");

    start_and_ask(&mut gateway);
    let new = read_certificates(&gateway.file("gw/ra-encrypt.cert.pem")).unwrap().remove(0);
    assert_ne!(new.spki(), old.spki());
    let (code, after) = status(&gateway);
    assert_eq!((code, days_left(&after, "RA encryption certificate")), (Some(0), 90), "{after}");
    assert!(gateway.log().contains("renewed with a new key"), "{}", gateway.log());
    // Devices find it, and get certificates by it.
    let (client, server) = gateway.client().await;
    enrol(&client, &server, &gateway.device().request(), &identity()).await.unwrap();
    // Once more: nothing is due.
    gateway.stop();
    start_and_ask(&mut gateway);
    let same = read_certificates(&gateway.file("gw/ra-encrypt.cert.pem")).unwrap().remove(0);
    assert_eq!(same, new);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_renews_the_ra_of_a_gateway_that_runs() {
    let mut gateway = Gateway::init();
    start_and_ask(&mut gateway);
    let (client, before) = gateway.client().await;
    let old = read_certificates(&gateway.file("gw/ra-sign.cert.pem")).unwrap().remove(0);
    let config = gateway.file("gw/gateway.toml");
    must(program(&["renew-ra", "--config"]).arg(&config));
    refused(&run(program(&["renew-ra", "--config"]).arg(&config)), 2, &["renewed already"]);
    let new = read_certificates(&gateway.file("gw/ra-sign.cert.pem")).unwrap().remove(0);
    assert_ne!(new.spki(), old.spki());
    wait_for("the gateway takes them", || gateway.log().contains("have changed").then_some(()));
    let (_, after) = gateway.client().await;
    // Who has asked before and who asks now are served alike, each by the signer that it knows.
    for server in [&before, &after] {
        enrol(&client, server, &gateway.device().request(), &identity()).await.unwrap();
    }
    let roles = |status: &Value| -> Vec<String> {
        let rows = status["keys"].as_array().unwrap();
        rows.iter().map(|row| row["role"].as_str().unwrap().to_owned()).collect()
    };
    let listed = roles(&status(&gateway).1);
    for role in ["previous RA encryption", "previous RA signing"] {
        assert!(listed.iter().any(|listed| listed == role), "{role}: {listed:?}");
    }
    // And after a restart.
    gateway.stop();
    start_and_ask(&mut gateway);
    enrol(&client, &before, &gateway.device().request(), &identity()).await.unwrap();
}

#[test]
fn a_certificate_that_has_ended_is_renewed_too() {
    let mut gateway = Gateway::init();
    let old = age_encryption(&gateway, DAY * 100, DAY * 90);
    let config = gateway.file("gw/gateway.toml");
    refused(&run(program(&["check-config", "--config"]).arg(&config)), 2, &["expired"]);
    start_and_ask(&mut gateway);
    let new = read_certificates(&gateway.file("gw/ra-encrypt.cert.pem")).unwrap().remove(0);
    assert_ne!(new.spki(), old.spki());
}
