//! A gateway whose CA is OpenBao: its process, the real server, and devices.
//!
//! A harness of its own: where the server's program is missing every test is listed as ignored; where the environment
//! variable `CI` is `true` it fails instead.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use libtest_mimic::Arguments;
use scep_client::ClientError;
use scep_keys::read_certificates;
use scep_testkit::process::openbao::{OpenBao, ROOT_TOKEN, program};
use scep_testkit::process::{binary, http, must, peers, run, temporary, text, wait_for};
use scep_types::{CertificateDer, CrlDer};
use std::process::{Command, ExitCode};
use support::{Gateway, enrol, identity};

/// What the gateway may do, and nothing else.
const POLICY: &str = r#"
path "pki/issuer/+/sign-verbatim" { capabilities = ["update"] }
path "pki/issuer/+/sign/*" { capabilities = ["update"] }
path "pki/revoke" { capabilities = ["update"] }
path "pki/certs" { capabilities = ["list"] }
"#;

/// A gateway that has its certificates from this engine, not started; `sign`: keys of its configuration.
fn gateway(server: &OpenBao, sign: &str) -> Gateway {
    let gateway = Gateway::init();
    let chain = server.field("read", "certificate", &["pki/issuer/default/json"]);
    std::fs::write(gateway.file("gw/ca.cert.pem"), format!("{chain}\n")).unwrap();
    let policy = gateway.file("policy.hcl");
    std::fs::write(&policy, POLICY).unwrap();
    server.bao(&["policy", "write", "scep", policy.to_str().unwrap()]);
    let token =
        server.bao(&["token", "create", "-field=token", "-policy=scep", "-ttl=1h", "-orphan"]);
    assert_ne!(token.trim(), ROOT_TOKEN);
    std::fs::write(gateway.file("gw/bao.token"), token).unwrap();
    for (role, usage) in [("ra-sign", "DigitalSignature"), ("ra-encrypt", "KeyEncipherment")] {
        let (path, usage) = (format!("pki/roles/{role}"), format!("key_usage={usage}"));
        let mut arguments = vec!["write", &path, &usage, "key_type=rsa", "max_ttl=87600h"];
        arguments.extend(["allow_any_name=true", "enforce_hostnames=false"]);
        arguments.extend(["cn_validations=disabled", "server_flag=false", "client_flag=false"]);
        server.bao(&arguments);
    }
    gateway.configure(|text| {
        let start = text.find("[ca]").unwrap();
        let end = start + text[start..].find("\n[crl]").unwrap();
        let ca = format!(
            "[ca]\nkind = \"openbao\"\naddress = \"http://{}\"\ncertificate = \"ca.cert.pem\"\n\
             token_file = \"bao.token\"\nra_signing_role = \"ra-sign\"\n\
             ra_encryption_role = \"ra-encrypt\"\n{sign}\n",
            server.address()
        );
        format!("{}{ca}{}", &text[..start], &text[end..])
    });
    // What `init` has made for a CA of its own.
    for file in [
        "ca.key.pem",
        "ra-sign.key.pem",
        "ra-sign.cert.pem",
        "ra-encrypt.key.pem",
        "ra-encrypt.cert.pem",
    ] {
        std::fs::remove_file(gateway.file("gw").join(file)).unwrap();
    }
    let made = run(&mut gateway.command(&["renew-ra"]));
    assert!(made.status.success(), "{}", text(&made));
    assert!(text(&made).contains("RA signing certificate: first key"), "{}", text(&made));
    gateway
}

fn crl_with(gateway: &Gateway, what: &str, fits: impl Fn(&CrlDer) -> bool) -> CrlDer {
    wait_for(what, || {
        let answer = http(gateway.address(), "GET", "/crl", b"");
        (answer.status == 200).then(|| CrlDer::parse(&answer.body).unwrap()).filter(|crl| fits(crl))
    })
}

fn verified(gateway: &Gateway, certificate: &CertificateDer) {
    let file = gateway.file("device.pem");
    std::fs::write(&file, scep_keys::certificates_pem(std::slice::from_ref(certificate))).unwrap();
    must(
        Command::new("openssl")
            .arg("verify")
            .arg("-CAfile")
            .arg(gateway.file("gw/ca.cert.pem"))
            .arg(file),
    );
}

async fn a_device_is_enrolled_and_revoked_by_openbao() {
    let home = temporary();
    let mut server = OpenBao::start(home.path());
    let mut gateway = gateway(&server, "sign = \"verbatim\"");
    gateway.start(&[]);
    let (client, known) = gateway.client().await;
    let device = gateway.device();
    let certificate = enrol(&client, &known, &device.request(), &identity()).await.unwrap();
    verified(&gateway, &certificate);
    // A retry gets the same one.
    assert_eq!(enrol(&client, &known, &device.request(), &identity()).await.unwrap(), certificate);

    gateway.stop();
    let serial = certificate.serial().unwrap();
    let revoked = run(gateway.command(&["revoke"]).args(["--serial", &serial.to_string()]).args([
        "--reason",
        "keyCompromise",
        "--operator",
        "alice",
    ]));
    assert!(revoked.status.success(), "{}", text(&revoked));
    gateway.start(&[]);
    let crl =
        crl_with(&gateway, "the revocation on the engine's list", |crl| crl.contains(&serial));
    let root = &read_certificates(&gateway.file("gw/ca.cert.pem")).unwrap()[0];
    assert_eq!(crl.issuer_der(), root.subject_der());

    // The RA's certificates are renewed there too, with new keys, and taken by the running gateway.
    let before = std::fs::read(gateway.file("gw/ra-sign.cert.pem")).unwrap();
    let renewed = run(&mut gateway.command(&["renew-ra"]));
    assert!(text(&renewed).contains("RA signing certificate: new key"), "{}", text(&renewed));
    assert_ne!(std::fs::read(gateway.file("gw/ra-sign.cert.pem")).unwrap(), before);
    gateway.stop();
    gateway.start(&[]);
    let (client, known) = gateway.client().await;
    enrol(&client, &known, &gateway.device().request(), &identity()).await.unwrap();

    let ca = || {
        let config = std::fs::read_to_string(gateway.file("gw/gateway.toml")).unwrap();
        let admin = config.lines().find_map(|line| line.strip_prefix("admin_listen = ")).unwrap();
        let answer = http(admin.trim_matches('"').parse().unwrap(), "GET", "/healthz", b"");
        assert_eq!(answer.status, 200, "a CA in trouble takes no gateway out of service");
        let document: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        document["authorities"][0].clone()
    };
    assert_eq!((&ca()["well"], &ca()["trouble"]), (&true.into(), &serde_json::Value::Null));

    // While the engine is away nothing is issued, and nothing is spent.
    server.kill();
    let (client, known) = gateway.client().await;
    let device = gateway.device();
    for _ in 0..2 {
        let error = enrol(&client, &known, &device.request(), &identity()).await.unwrap_err();
        assert!(matches!(error, ClientError::Refused { .. }), "{error}");
        assert!(gateway.log().contains("CaUnavailable"), "{}", gateway.log());
        assert!(!gateway.log().contains("CaOutcomeUnknown"), "{}", gateway.log());
    }
    assert_eq!(ca()["well"], false);
    assert!(ca()["trouble"].as_str().unwrap().starts_with("server: "), "{}", ca());
    assert!(ca()["since"].is_string(), "{}", ca());
}

async fn attack_46_what_openbao_changes_is_withheld_and_revoked() {
    let home = temporary();
    let server = OpenBao::start(home.path());
    // Serves another purpose as well, and says another organization.
    server.bao(&[
        "write",
        "pki/roles/mean",
        "allow_any_name=true",
        "key_type=any",
        "max_ttl=87600h",
        "organization=Another",
    ]);
    let mut gateway = gateway(&server, "sign = \"role\"\nrole = \"mean\"");
    gateway.start(&[]);
    let (client, known) = gateway.client().await;
    let error = enrol(&client, &known, &gateway.device().request(), &identity()).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "{error}");
    let log = gateway.log();
    assert!(log.contains("CertificateDiffers") && log.contains("it is being revoked"), "{log}");
    // And the difference is named.
    let line = log.lines().find(|line| line.contains("CertificateDiffers")).unwrap();
    assert!(line.contains("subject") && line.contains("Another"), "{line}");
    crl_with(&gateway, "its revocation", |crl| crl.serials().count() == 1);
}

/// `init --ca openbao` with these options beside those that every gateway needs.
fn init(dir: &std::path::Path, gateway: &Gateway, options: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scep-gateway"));
    command.args(["init", "--tenant", "contoso", "--group", "main"]);
    command.args(["--allow-suffix", "example.org", "--ca", "openbao", "--issuer-key"]);
    command.arg(gateway.file("issuer.pub.pem")).arg("--dir").arg(dir);
    run(command.args(options))
}

/// The commands that `init` says an operator must run, and runs them.
fn obey(server: &OpenBao, refused: &std::process::Output) -> usize {
    assert!(!refused.status.success(), "{}", text(refused));
    let said = String::from_utf8(refused.stderr.clone()).unwrap();
    let (_, commands) = said.split_once("do this again:\n\n").expect("commands to run");
    let shell = server.shell(commands);
    assert!(shell.status.success(), "{commands}\n{}", text(&shell));
    commands.lines().filter(|line| line.starts_with("bao ")).count()
}

/// As a new operator does it: what is missing is said, done, and said no more.
async fn one_command_makes_a_gateway_for_an_engine_that_lacks_everything() {
    let home = temporary();
    let server = OpenBao::start_tls(home.path());
    let mut gateway = Gateway::init();
    let address = server.url();
    let dir = gateway.file("bao-gw");
    let token = gateway.file("token");
    std::fs::write(&token, "nobody\n").unwrap();
    let key = read_certificates(&server.tls_certificate()).unwrap()[0].spki().hash().to_string();
    let with = |more: &[&str]| {
        let mut options = vec!["--bao-address", &address, "--bao-tls-pin", &key];
        options.extend(["--bao-token-file", token.to_str().unwrap()]);
        options.extend(["--bao-mount", "devices/pki"]);
        options.extend(more);
        let made = init(&dir, &gateway, &options);
        // All or nothing.
        assert_eq!(made.status.success(), dir.exists(), "{}", text(&made));
        made
    };
    // Another server, or somebody between: the key that it has is named.
    let wrong = init(
        &dir,
        &gateway,
        &["--bao-address", &address, "--bao-tls-pin", &"00".repeat(32), "--bao-token-file", "x"],
    );
    assert!(text(&wrong).contains(&format!("the server's TLS key is {key}")), "{}", text(&wrong));
    assert!(!dir.exists());
    // No engine; then no rights; then no roles.
    assert_eq!(obey(&server, &with(&[])), 3);
    let refused = with(&[]);
    assert!(text(&refused).contains("403"), "{}", text(&refused));
    let bare = server.bao(&["token", "create", "-field=token", "-policy=default", "-ttl=1h"]);
    std::fs::write(&token, bare).unwrap();
    let refused = with(&["--bao-role", "scep"]);
    assert!(text(&refused).contains("devices/pki/issuer/+/sign/scep"), "{}", text(&refused));
    assert_eq!(obey(&server, &refused), 4);
    // The command has put another token into the file.
    let refused = with(&["--bao-role", "scep"]);
    assert!(text(&refused).contains("no role scep"), "{}", text(&refused));
    assert_eq!(obey(&server, &refused), 1);
    let ca = server.field("read", "certificate", &["devices/pki/issuer/default/json"]);
    let file = gateway.file("ca.pem");
    std::fs::write(&file, format!("{ca}\n")).unwrap();
    let fingerprint = read_certificates(&file).unwrap()[0].fingerprint().to_string();
    let refused = with(&["--bao-role", "scep", "--bao-ca-fingerprint", &key]);
    assert!(text(&refused).contains(&fingerprint), "{}", text(&refused));
    // By sign-verbatim, which the policy for a role does not allow.
    let refused = with(&[]);
    assert!(text(&refused).contains("devices/pki/issuer/+/sign-verbatim"), "{}", text(&refused));
    obey(&server, &refused);
    let made = with(&["--bao-ca-fingerprint", &fingerprint]);
    assert!(made.status.success(), "{}", text(&made));
    assert!(text(&made).contains("bao write devices/pki/config/crl"), "{}", text(&made));
    let again = init(&dir, &gateway, &["--bao-address", &address, "--bao-token-file", "x"]);
    assert!(text(&again).contains("has something in it"), "{}", text(&again));

    gateway.folder_is(&dir);
    works(&mut gateway).await;
}

/// The same with an AppRole, in a namespace, with roots.
async fn one_command_makes_a_gateway_that_logs_in_by_approle() {
    let home = temporary();
    let server = OpenBao::start_tls(home.path());
    server.bao(&["namespace", "create", "team"]);
    for command in [
        &["secrets", "enable", "-namespace=team", "pki"][..],
        &["secrets", "tune", "-namespace=team", "-max-lease-ttl=87600h", "pki"],
        &["write", "-namespace=team", "pki/root/generate/internal", "common_name=T", "ttl=87600h"],
        &["auth", "enable", "-namespace=team", "approle"],
        &["write", "-namespace=team", "auth/approle/role/gateway", "token_ttl=10s"],
    ] {
        server.bao(command);
    }
    let role = "auth/approle/role/gateway";
    let role_id = server.field("read", "role_id", &["-namespace=team", &format!("{role}/role-id")]);
    let secret_id = format!("{role}/secret-id");
    let secret_id = server.field("write", "secret_id", &["-namespace=team", "-f", &secret_id]);
    let mut gateway = Gateway::init();
    let file = gateway.file("secret-id");
    std::fs::write(&file, format!("{secret_id}\n")).unwrap();
    let (address, roots, dir) = (server.url(), server.tls_root(), gateway.file("bao-gw"));
    let options = [
        "--bao-address",
        &address,
        "--bao-tls-roots",
        roots.to_str().unwrap(),
        "--bao-namespace",
        "team",
        "--bao-role-id",
        &role_id,
        "--bao-secret-id-file",
        file.to_str().unwrap(),
    ];
    let refused = init(&dir, &gateway, &options);
    let said = String::from_utf8(refused.stderr.clone()).unwrap();
    let known = said.replace("approle/role/ROLE", "approle/role/gateway");
    assert_eq!(obey(&server, &std::process::Output { stderr: known.into(), ..refused }), 4);
    let made = init(&dir, &gateway, &options);
    assert!(made.status.success(), "{}", text(&made));
    gateway.folder_is(&dir);
    works(&mut gateway).await;
}

/// Checked, served, enrolled by the device's own program, revoked, listed, and the RA renewed.
async fn works(gateway: &mut Gateway) {
    must(&mut gateway.command(&["check-config"]));
    gateway.start(&[]);
    let device = gateway.device();
    let challenge = gateway.file("challenge");
    std::fs::write(&challenge, device.challenge()).unwrap();
    let (out, ca) = (gateway.file("device-1.pem"), gateway.file("gw/ca.cert.pem"));
    let root = read_certificates(&ca).unwrap().remove(0);
    let name = &device.claims.expectation.subject_alt_names[0];
    let scep_types::GeneralName::Dns(name) = name else { panic!("{name:?}") };
    let subject = device.claims.expectation.subject.to_string();
    must(
        Command::new(binary("scep-device"))
            .args(["enrol", "--url", &format!("http://{}/", gateway.address())])
            .args(["--subject", &subject, "--dns", name, "--key-algorithm", "p256"])
            .arg("--key")
            .arg(gateway.file("device-1.key"))
            .arg("--challenge-file")
            .arg(&challenge)
            .arg("--ca")
            .arg(&ca)
            .arg("--out")
            .arg(&out),
    );
    let certificate = read_certificates(&out).unwrap().remove(0);
    verified(gateway, &certificate);
    gateway.stop();
    let serial = certificate.serial().unwrap();
    must(
        gateway
            .command(&["revoke"])
            .args(["--serial", &serial.to_string(), "--reason", "superseded"])
            .args(["--operator", "alice"]),
    );
    gateway.start(&[]);
    let crl = crl_with(gateway, "the revocation on the engine's list", |crl| crl.contains(&serial));
    assert_eq!(crl.issuer_der(), root.subject_der());
    let renewed = run(&mut gateway.command(&["renew-ra"]));
    assert!(text(&renewed).contains("RA signing certificate: new key"), "{}", text(&renewed));
    gateway.stop();
    gateway.start(&[]);
    let (client, known) = gateway.client().await;
    enrol(&client, &known, &gateway.device().request(), &identity()).await.unwrap();
}

async fn the_gateway_does_not_start_with_another_ca_than_the_configurations() {
    let home = temporary();
    let server = OpenBao::start(home.path());
    let gateway = gateway(&server, "sign = \"verbatim\"");
    server.bao(&[
        "write",
        "pki/root/generate/internal",
        "common_name=Another Root",
        "issuer_name=another",
        "ttl=87600h",
        "key_type=ec",
    ]);
    server.bao(&["write", "pki/config/issuers", "default=another"]);
    let served = run(&mut gateway.command(&["serve"]));
    assert!(!served.status.success(), "{}", text(&served));
    assert!(text(&served).contains("not issued by this CA"), "{}", text(&served));
}

macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        [$((stringify!($name), (|| {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on($name());
        }) as fn())),*]
    };
}

fn main() -> ExitCode {
    let trials = trials![
        a_device_is_enrolled_and_revoked_by_openbao,
        attack_46_what_openbao_changes_is_withheld_and_revoked,
        the_gateway_does_not_start_with_another_ca_than_the_configurations,
        one_command_makes_a_gateway_for_an_engine_that_lacks_everything,
        one_command_makes_a_gateway_that_logs_in_by_approle,
    ];
    let trials = trials.map(|(name, test)| {
        peers::trial(name, &[peers::Peer::file(program()), peers::Peer::program("openssl")], test)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}
