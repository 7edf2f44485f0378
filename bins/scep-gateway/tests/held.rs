//! `scep-gateway held`, and the listener behind it: at a gateway that runs, at one that is stopped, and at one that was
//! killed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use scep_client::{Answer, ClientError, Pending, ScepClient, Server};
use scep_keys::AwsLc;
use scep_server::SystemClock;
use scep_testkit::process::{http, run, text};
use scep_types::{CertificateDer, Clock};
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Output;
use support::{Device, Gateway, identity};

/// A client that may ask of a gateway that is stopped and started in between.
struct Asks {
    client: ScepClient,
    server: Server,
}

impl Asks {
    async fn of(gateway: &Gateway) -> Self {
        let (client, server) = gateway.client().await;
        Self { client, server }
    }

    async fn enrol(&self, device: &Device) -> Result<Answer, ClientError> {
        let (now, request) = (SystemClock.now(), device.request());
        self.client.enrol(&self.server, &request, &identity(), now, &AwsLc).await
    }

    async fn poll(&self, pending: &Pending) -> Result<Answer, ClientError> {
        self.client.poll(&self.server, pending, &identity(), SystemClock.now(), &AwsLc).await
    }

    async fn must_wait(&self, device: &Device) -> Pending {
        waits(self.enrol(device).await)
    }
}

fn waits(answer: Result<Answer, ClientError>) -> Pending {
    match answer {
        Ok(Answer::Pending(pending)) => pending,
        other => panic!("{other:?}"),
    }
}

fn issued(answer: Result<Answer, ClientError>) -> CertificateDer {
    match answer {
        Ok(Answer::Issued(issued)) => issued.certificate,
        other => panic!("{other:?}"),
    }
}

fn refused(answer: Result<Answer, ClientError>) -> String {
    match answer {
        Err(ClientError::Refused { text, .. }) => text.unwrap(),
        other => panic!("{other:?}"),
    }
}

fn held(gateway: &Gateway, words: &[&str]) -> Output {
    let mut command = gateway.command(&["held", words[0]]);
    run(command.args(&words[1..]))
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn list(gateway: &Gateway) -> Vec<Value> {
    serde_json::from_str(&said(&held(gateway, &["list", "--json"]))).unwrap()
}

fn only_row(gateway: &Gateway) -> String {
    let all = list(gateway);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0]["row"].to_string()
}

fn admin(gateway: &Gateway) -> SocketAddr {
    let config = std::fs::read_to_string(gateway.file("gw/gateway.toml")).unwrap();
    let line = config.lines().find_map(|line| line.strip_prefix("admin_listen = ")).unwrap();
    line.trim_matches('"').parse().unwrap()
}

/// Sees, approves and denies, at a gateway in whichever state it is.
fn decide_both(gateway: &Gateway, approve: &Device, deny: &Device) {
    let all = list(gateway);
    assert_eq!(all.len(), 2, "{all:?}");
    let find = |device: &Device| {
        let found = all.iter().find(|one| one["device"] == device.claims.device.as_str());
        found.unwrap_or_else(|| panic!("{all:?}"))["row"].to_string()
    };
    let (good, bad) = (find(approve), find(deny));
    let table = said(&held(gateway, &["list"]));
    assert_eq!(table.lines().count(), 3, "{table}");
    for piece in ["waiting", "wifi", approve.claims.device.as_str(), "CN=device-"] {
        assert!(table.contains(piece), "{piece}: {table}");
    }
    let shown = said(&held(gateway, &["show", &good]));
    let name = format!("{}.example.org", approve.claims.device);
    let key = approve.public_key().hash().to_string();
    for piece in [name.as_str(), key.as_str(), "waiting", "contoso", "main"] {
        assert!(shown.contains(piece), "{piece}: {shown}");
    }
    assert!(!shown.contains(&approve.challenge()[..64]), "{shown}");

    // Nobody decides without a name, and nothing on what is not there.
    let nobody = held(gateway, &["approve", &good]);
    assert_eq!(nobody.status.code(), Some(2), "{}", text(&nobody));
    let nobody = held(gateway, &["approve", &good, "--person", " "]);
    assert_eq!(nobody.status.code(), Some(2), "{}", text(&nobody));
    let unknown = held(gateway, &["approve", "99999", "--person", "alice"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", text(&unknown));
    assert!(text(&unknown).contains("held list"), "{}", text(&unknown));
    let unknown = held(gateway, &["show", "99999"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", text(&unknown));

    for _ in 0..2 {
        let approved = said(&held(gateway, &["approve", &good, "--person", "alice"]));
        assert!(approved.starts_with("approved"), "{approved}");
    }
    let denied = said(&held(gateway, &["deny", &bad, "--person", "bob"]));
    assert!(denied.starts_with("denied"), "{denied}");
    let changed = held(gateway, &["deny", &good, "--person", "bob"]);
    assert_eq!(changed.status.code(), Some(1), "{}", text(&changed));
    let shown = said(&held(gateway, &["show", &good]));
    assert!(shown.contains("approved, by alice at "), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_seen_and_decided_on_at_a_gateway_that_runs() {
    let mut gateway = Gateway::init();
    gateway.start(&[]);
    let asks = Asks::of(&gateway).await;
    assert_eq!(said(&held(&gateway, &["list"])), "nothing waits\n");
    let (good, bad) = (gateway.manual_device(), gateway.manual_device());
    let (first, second) = (asks.must_wait(&good).await, asks.must_wait(&bad).await);
    // An operator is told.
    let status = run(&mut gateway.command(&["status"]));
    assert_eq!(status.status.code(), Some(1), "{}", text(&status));
    let told = text(&status);
    assert!(told.contains("held         2, the oldest undecided since "), "{told}");
    assert!(told.contains("attention    requests wait for approval"), "{told}");

    decide_both(&gateway, &good, &bad);
    let certificate = issued(asks.poll(&first).await);
    assert_eq!(certificate.spki(), good.public_key());
    assert_eq!(issued(asks.enrol(&good).await), certificate);
    let why = refused(asks.poll(&second).await);
    assert!(why.starts_with("refused by the operator (ref "), "{why}");
    assert_eq!(said(&held(&gateway, &["list"])), "nothing waits\n");
    let log = gateway.log();
    assert!(log.contains("person=alice") && log.contains("person=bob"), "{log}");
    let token = std::fs::read_to_string(gateway.file("gw/admin.token")).unwrap();
    assert!(!log.contains(token.trim()), "the token is in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_seen_and_decided_on_in_the_ledger_of_a_gateway_that_is_stopped() {
    let mut gateway = Gateway::init();
    gateway.start(&[]);
    let asks = Asks::of(&gateway).await;
    let (good, bad) = (gateway.manual_device(), gateway.manual_device());
    let (first, second) = (asks.must_wait(&good).await, asks.must_wait(&bad).await);
    gateway.stop();
    let status = text(&run(&mut gateway.command(&["status"])));
    assert!(status.contains("attention    requests wait for approval"), "{status}");
    decide_both(&gateway, &good, &bad);
    gateway.start(&[]);
    assert_eq!(issued(asks.poll(&first).await).spki(), good.public_key());
    refused(asks.poll(&second).await);
    gateway.stop();
    assert_eq!(list(&gateway), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_52_what_waits_and_what_was_approved_outlive_kill_9() {
    let mut gateway = Gateway::init();
    gateway.start(&[]);
    let asks = Asks::of(&gateway).await;
    let device = gateway.manual_device();
    let pending = asks.must_wait(&device).await;
    gateway.kill();
    gateway.start(&[]);
    waits(asks.poll(&pending).await);
    waits(asks.enrol(&device).await);
    let row = only_row(&gateway);
    said(&held(&gateway, &["approve", &row, "--person", "alice"]));
    gateway.kill();
    gateway.start(&[]);
    assert_eq!(list(&gateway)[0]["state"], "approved");
    let certificate = issued(asks.poll(&pending).await);
    gateway.kill();
    gateway.start(&[]);
    assert_eq!(issued(asks.poll(&pending).await), certificate);
    gateway.stop();
    let counters = gateway.ledger().counters().await.unwrap();
    assert_eq!((counters.issued, counters.held, counters.unsettled), (1, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_49_the_token_is_a_private_file_and_without_it_nothing_is_served() {
    let mut gateway = Gateway::init();
    let token = gateway.file("gw/admin.token");
    let first = std::fs::read_to_string(&token).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        assert_eq!(std::fs::metadata(&token).unwrap().permissions().mode() & 0o7777, 0o600);
        std::fs::set_permissions(&token, mode(0o644)).unwrap();
        let checked = run(&mut gateway.command(&["check-config"]));
        assert_eq!(checked.status.code(), Some(2), "{}", text(&checked));
        assert!(text(&checked).contains("admin_token"), "{}", text(&checked));
        std::fs::set_permissions(&token, mode(0o600)).unwrap();
    }
    gateway.start(&[]);
    let asks = Asks::of(&gateway).await;
    asks.must_wait(&gateway.manual_device()).await;
    let row = only_row(&gateway);
    let address = admin(&gateway);
    for (method, path) in [("GET", "/held".to_owned()), ("POST", format!("/held/{row}/approve"))] {
        assert_eq!(http(address, method, &path, br#"{"person":"mallory"}"#).status, 401);
    }
    // It is not on the port that devices reach.
    assert_ne!(http(gateway.address(), "GET", "/held", b"").status, 200);
    assert_ne!(http(gateway.address(), "GET", "/held", b"").status, 401);

    // Another token than the one that it was started with.
    std::fs::write(&token, "f".repeat(64)).unwrap();
    let wrong = held(&gateway, &["approve", &row, "--person", "alice"]);
    assert_eq!(wrong.status.code(), Some(1), "{}", text(&wrong));
    assert!(text(&wrong).contains("does not take the token"), "{}", text(&wrong));
    std::fs::write(&token, &first).unwrap();

    // None at all.
    gateway.stop();
    gateway.configure(|text| text.replace("admin_token = \"admin.token\"\n", ""));
    gateway.start(&[]);
    assert_eq!(http(address, "GET", "/held", b"").status, 404);
    let none = held(&gateway, &["list"]);
    assert_eq!(none.status.code(), Some(2), "{}", text(&none));
    assert!(text(&none).contains("admin_token"), "{}", text(&none));
    gateway.stop();
    assert_eq!(list(&gateway)[0]["state"], "waiting");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_waits_as_long_as_the_configuration_says() {
    let mut gateway = Gateway::init();
    gateway.configure(|text| format!("{text}\n[limits]\nhold_for = \"2h\"\n"));
    gateway.start(&[]);
    let asks = Asks::of(&gateway).await;
    asks.must_wait(&gateway.manual_device()).await;
    gateway.stop();
    let one = gateway.ledger().held(1, None).await.unwrap().remove(0);
    assert_eq!(one.until.since(one.asked_at).as_secs(), 2 * 3600);
}
