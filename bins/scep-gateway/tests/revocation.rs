//! The operator's commands about revocation, and the CRL that the gateway's process serves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

#[allow(dead_code, reason = "the crash tests use the rest")]
mod support;

use scep_keys::{public_key_pem, read_certificates};
use scep_testkit::keys;
use scep_testkit::process::{http, must, run, temporary, text, wait_for};
use scep_types::{CrlDer, SerialNumber};
use std::net::SocketAddr;
use std::process::{Command, Output};
use support::{Gateway, enrol, identity};

const PROGRAM: &str = env!("CARGO_BIN_EXE_scep-gateway");

fn command(gateway: &Gateway, name: &str, options: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.arg(name).arg("--config").arg(gateway.file("gw/gateway.toml")).args(options);
    run(&mut command)
}

fn revoke(gateway: &Gateway, serial: &SerialNumber) -> Output {
    let options =
        ["--serial", &serial.to_string(), "--reason", "keyCompromise", "--operator", "alice"];
    command(gateway, "revoke", &options)
}

fn address(gateway: &Gateway) -> SocketAddr {
    let config = std::fs::read_to_string(gateway.file("gw/gateway.toml")).unwrap();
    let line = config.lines().find_map(|line| line.strip_prefix("listen = ")).unwrap();
    line.trim_matches('"').parse().unwrap()
}

fn served(gateway: &Gateway) -> Option<CrlDer> {
    let answer = http(address(gateway), "GET", "/crl", b"");
    (answer.status == 200).then(|| CrlDer::parse(&answer.body).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_54_an_operators_order_reaches_the_served_crl() {
    let mut gateway = Gateway::init();
    gateway.start(&[]);
    let (client, server) = gateway.client().await;
    let certificate =
        enrol(&client, &server, &gateway.device().request(), &identity()).await.unwrap();
    let serial = certificate.serial().unwrap();
    let first = wait_for("a first CRL", || served(&gateway));
    assert_eq!(first.serials().count(), 0);

    let busy = revoke(&gateway, &serial);
    assert_eq!(busy.status.code(), Some(1));
    let said = text(&busy);
    assert!(said.contains("in use") && said.contains("The gateway is running"), "{said}");

    gateway.stop();
    let unknown = revoke(&gateway, &SerialNumber::from_random([7; 16]));
    assert_eq!(unknown.status.code(), Some(2), "{}", text(&unknown));
    assert!(text(&unknown).contains("was issued here"), "{}", text(&unknown));
    for _ in 0..2 {
        let ordered = revoke(&gateway, &serial);
        assert!(ordered.status.success(), "{}", text(&ordered));
        assert!(text(&ordered).contains("ordered"), "{}", text(&ordered));
    }
    gateway.start(&[]);
    let crl = wait_for("the CRL", || served(&gateway).filter(|crl| crl.contains(&serial)));
    assert!(crl.number() > first.number());

    // Killed and asked for a file, it gives what it has served.
    gateway.kill();
    let file = gateway.file("ca.crl");
    let written = command(&gateway, "crl", &["--out", file.to_str().unwrap()]);
    assert!(written.status.success(), "{}", text(&written));
    assert_eq!(CrlDer::parse(&std::fs::read(&file).unwrap()).unwrap(), crl);
    let shown = revoke(&gateway, &serial);
    assert!(text(&shown).contains("the CRL shows it"), "{}", text(&shown));
    let confirmed = command(&gateway, "confirm-revocations", &["--operator", "alice"]);
    assert!(text(&confirmed).contains("confirmed: 0 revocations"), "{}", text(&confirmed));
}

#[test]
fn init_writes_the_crls_place_into_certificates() {
    let dir = temporary();
    let issuer = dir.path().join("issuer.pub.pem");
    std::fs::write(&issuer, public_key_pem(keys::p256(1).public_key())).unwrap();
    let mut init = Command::new(PROGRAM);
    init.args(["init", "--tenant", "contoso", "--group", "main", "--allow-suffix", "example.org"])
        .args(["--public-url", "http://scep.example.org:8080/"])
        .arg("--issuer-key")
        .arg(&issuer)
        .arg("--dir")
        .arg(dir.path().join("gw"));
    must(&mut init);
    let url = "http://scep.example.org:8080/crl";
    let config = dir.path().join("gw/gateway.toml");
    let written = std::fs::read_to_string(&config).unwrap();
    assert!(written.contains(&format!("crl_urls = [\"{url}\"]")), "{written}");
    must(Command::new(PROGRAM).arg("check-config").arg("--config").arg(&config));
    let ra = read_certificates(&dir.path().join("gw/ra-sign.cert.pem")).unwrap().remove(0);
    let within = ra.as_der().windows(url.len()).any(|window| window == url.as_bytes());
    assert!(within, "the RA's certificate names the CRL");
}
