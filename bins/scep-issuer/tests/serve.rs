//! The service as a process: started from a configuration, asked with tokens of the command line, stopped by a signal.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

use scep_testkit::process::{Child, must, run, text, wait_for};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

fn issuer() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scep-issuer"));
    command.env_remove("RUST_LOG").env_remove("SCEP_ISSUER_CONFIG");
    command
}

fn with_config(config: &Path, command: &[&str]) -> Command {
    let mut program = issuer();
    program.args(command).arg("--config").arg(config);
    program
}

/// A folder of `init` whose configuration has this section too.
fn folder(service: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("issuer");
    must(issuer().args(["init", "--tenant", "contoso", "--dir"]).arg(&folder));
    let config = folder.join("issuer.toml");
    let written = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{written}\n{service}")).unwrap();
    (dir, config)
}

const PLAIN: &str = "[service]\nlisten = '127.0.0.1:0'\ndatabase = 'issuer.db'\ntls = 'none'\n";

fn token(config: &Path, more: &[&str]) -> String {
    let made = must(with_config(config, &["token", "create"]).args(more));
    let made = String::from_utf8(made).unwrap();
    assert_eq!(made.lines().count(), 1, "{made}");
    made.trim().to_owned()
}

/// Starts it and waits for its address.
fn serve(config: &Path, dir: &Path, name: &str) -> (Child, String) {
    let mut child = Child::start(&mut with_config(config, &["serve"]), dir, name);
    let url = wait_for("the service listens", || {
        assert!(child.ended().is_none(), "{}", child.stderr());
        let log = child.stderr();
        let line = log.lines().find(|line| line.contains("listening"))?.to_owned();
        let start = line.find("http://")?;
        line[start..].split_whitespace().next().map(str::to_owned)
    });
    (child, url)
}

fn terminate(child: &mut Child) {
    // The shell's own: a bare machine has no program of that name.
    must(Command::new("sh").arg("-c").arg(format!("kill -TERM {}", child.id())));
    let status = wait_for("the service stops", || child.ended());
    assert!(status.success(), "{status}: {}", child.stderr());
    assert!(child.stderr().contains("stopped"), "{}", child.stderr());
}

async fn ask(method: &str, url: &str, token: &str, body: Option<&str>) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client
        .request(method.parse().unwrap(), url)
        .header("Authorization", format!("Bearer {token}"));
    if let Some(body) = body {
        request = request.header("Content-Type", "application/json").body(body.to_owned());
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn it_serves_keeps_everything_over_a_stop_and_logs_no_secret() {
    let (dir, config) = folder(PLAIN);
    let admin = token(&config, &["--scope", "admin"]);
    let (mut child, url) = serve(&config, dir.path(), "first");
    // A token that is made while the service runs is good at once.
    let read = token(&config, &["--scope", "read", "--tenant", "contoso"]);
    let devices = format!("{url}/tenants/contoso/devices");
    let body = r#"{"id":"laptop-1","attributes":{"DeviceName":"not-for-logs"}}"#;
    let (status, answer) = ask("POST", &devices, &read, Some(body)).await;
    assert_eq!(status, 403, "{answer}");
    let (status, answer) = ask("POST", &devices, &admin, Some(body)).await;
    assert_eq!(status, 201, "{answer}");
    // Of another tenant, which the command makes.
    let other = token(&config, &["--scope", "admin", "--tenant", "fabrikam"]);
    assert_eq!(ask("GET", &devices, &other, None).await.0, 404);
    assert_eq!(ask("GET", &format!("{url}/tenants/fabrikam"), &other, None).await.0, 200);
    terminate(&mut child);
    let log = format!("{}{}", child.stdout(), child.stderr());
    assert!(log.contains("/api/v1/tenants/{tenant}/devices") && log.contains("201"), "{log}");
    for secret in [&admin[8..], &read[8..], "not-for-logs"] {
        assert!(!log.contains(secret), "{log}");
    }

    let (mut child, url) = serve(&config, dir.path(), "second");
    let one = format!("{url}/tenants/contoso/devices/laptop-1");
    let (status, answer) = ask("GET", &one, &read, None).await;
    assert!(status == 200 && answer.contains("not-for-logs"), "{status} {answer}");
    terminate(&mut child);
}

#[tokio::test]
async fn the_groups_of_the_configuration_are_there_and_its_section_survives_a_new_group() {
    let (dir, config) = folder(PLAIN);
    let (gateway, key) = (dir.path().join("gateway"), dir.path().join("gateway/issuer.pub.pem"));
    // Any suitable public key will do: that of another issuer.
    must(issuer().args(["init", "--tenant", "x", "--dir"]).arg(&gateway));
    must(with_config(&config, &["add-gateway", "--group", "main"]).arg("--public-key").arg(&key));
    assert!(std::fs::read_to_string(&config).unwrap().contains("[service]"));
    let read = token(&config, &["--scope", "read"]);
    let (mut child, url) = serve(&config, dir.path(), "serve");
    let (status, answer) =
        ask("GET", &format!("{url}/tenants/contoso/gateway-groups/main"), &read, None).await;
    assert!(status == 200 && answer.contains("BEGIN PUBLIC KEY"), "{status} {answer}");
    terminate(&mut child);
}

#[test]
fn what_cannot_be_served_is_named() {
    let section = |service: &str| format!("[service]\ndatabase = 'd'\n{service}");
    for (service, named) in [
        (String::new(), "service"),
        (section("listen = '0.0.0.0:0'\ntls = 'none'"), "service.tls: "),
        (section("listen = '127.0.0.1:0'"), "service.tls_certificate: "),
        (section("listen = '127.0.0.1:0'\ntls_certificate = 'c'\ntls_key = 'k'"), "/c: "),
        (section("listen = 'localhost'\ntls = 'none'"), "socket address"),
        (section("listen = '127.0.0.1:0'\ntls = 'off'"), "off"),
    ] {
        let (_dir, config) = folder(&service);
        let output = run(&mut with_config(&config, &["serve"]));
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains(named), "{named}: {}", text(&output));
    }
    let (_dir, config) = folder(PLAIN);
    for (more, named) in [
        (["--scope", "root"], "--scope: "),
        (["--scope=read", "--tenant=a b"], "--tenant: "),
        (["--scope=read", "--expires=never"], "--expires: "),
        (["--scope=read", "--expires=0s"], "--expires: "),
    ] {
        let output = run(with_config(&config, &["token", "create"]).args(more));
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains(named), "{named}: {}", text(&output));
    }
}
