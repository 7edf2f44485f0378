//! A gateway, as its own process, whose keys are on tokens of SoftHSM2.
//!
//! A harness of its own: where SoftHSM2 is missing every test is listed as ignored; where the environment variable `CI` is
//! `true` it fails instead.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

#[path = "../../../crates/scep-keys/tests/support/softhsm.rs"]
#[allow(dead_code, reason = "the tests of the keys use the rest")]
mod softhsm;
#[allow(dead_code, reason = "the crash tests use the rest")]
mod support;

use libtest_mimic::{Arguments, Trial};
use scep_client::{ScepClient, Trust};
use scep_keys::{AwsLc, certificates_pem, read_certificates, read_public_key};
use scep_message::{LegacyAlgorithms, Limits};
use scep_server::SystemClock;
use scep_testkit::process::{http, must, run, text, wait_for};
use scep_types::{CertificateDer, Clock, CrlDer, KeyAlgorithm};
use softhsm::{SoftHsm, module};
use std::path::Path;
use std::process::{Command, ExitCode};
use support::{Gateway, enrol, identity};

const PROGRAM: &str = env!("CARGO_BIN_EXE_scep-gateway");

/// `token-key`, for a gateway's folder.
fn token_key(hsm: &SoftHsm, gateway: &Gateway, key: &str, role: &str, out: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .env("SOFTHSM2_CONF", hsm.conf())
        .args(["token-key", "--key", key, "--for", role])
        .arg("--config")
        .arg(gateway.file("gw/gateway.toml"))
        .arg("--out")
        .arg(gateway.file("gw").join(out));
    command
}

/// Lets the configuration name another key.
fn rename(gateway: &Gateway, from: &str, to: &str) {
    gateway.configure(|config| {
        let quoted = format!("\"{from}\"");
        assert!(config.contains(&quoted), "{from}: {config}");
        config.replace(&quoted, &format!("\"{to}\""))
    });
}

fn delete(gateway: &Gateway, file: &str) {
    std::fs::remove_file(gateway.file("gw").join(file)).unwrap();
}

/// A gateway with CA, RA and challenge keys on two tokens, made by its own commands, and no key file left.
fn on_tokens(hsm: &SoftHsm, challenge: &str) -> Gateway {
    let mut gateway = Gateway::init();
    let ca = hsm.uri("ca", "ca");
    delete(&gateway, "ca.cert.pem");
    must(&mut token_key(hsm, &gateway, &ca, "ca", "ca.cert.pem"));
    rename(&gateway, "ca.key.pem", &ca);
    for (role, key, file) in
        [("ra-signing", "sign", "ra-sign"), ("ra-encryption", "encrypt", "ra-encrypt")]
    {
        let uri = hsm.uri("ra", key);
        let certificate = format!("{file}.cert.pem");
        delete(&gateway, &certificate);
        must(&mut token_key(hsm, &gateway, &uri, role, &certificate));
        rename(&gateway, &format!("{file}.key.pem"), &uri);
    }
    let uri = hsm.uri("ra", "challenge");
    let algorithm = ["--algorithm", challenge];
    must(token_key(hsm, &gateway, &uri, "challenge", "token.pub.pem").args(algorithm));
    rename(&gateway, "challenge.key.pem", &uri);
    let public = gateway.file("gw/token.pub.pem");
    gateway.challenge_key_is(&public);
    for file in ["ca", "ra-sign", "ra-encrypt", "challenge"] {
        delete(&gateway, &format!("{file}.key.pem"));
    }
    for file in std::fs::read_dir(gateway.file("gw")).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read(&path).unwrap();
        assert!(!text.windows(11).any(|w| w == b"PRIVATE KEY"), "{}", path.display());
    }
    gateway
}

fn start(hsm: &SoftHsm, gateway: &mut Gateway) {
    gateway.start(&["env", &format!("SOFTHSM2_CONF={}", hsm.conf().display())]);
}

fn command(hsm: &SoftHsm, gateway: &Gateway, name: &str) -> Command {
    let mut command = gateway.command(&[name]);
    command.env("SOFTHSM2_CONF", hsm.conf());
    command
}

async fn enrols(hsm: &SoftHsm, challenge: &str) {
    let mut gateway = on_tokens(hsm, challenge);
    let said = text(&run(&mut command(hsm, &gateway, "check-config")));
    assert!(said.contains("is complete and consistent"), "{said}");
    let algorithm: KeyAlgorithm = challenge.parse().unwrap();
    assert!(said.contains(&algorithm.to_string()), "{said}");
    start(hsm, &mut gateway);
    let (client, server) = gateway.client().await;
    let identity = identity();
    for _ in 0..3 {
        let device = gateway.device();
        let certificate = enrol(&client, &server, &device.request(), &identity).await.unwrap();
        assert_eq!(certificate.spki(), device.public_key());
        let another = device.with_another_key();
        enrol(&client, &server, &another.request(), &identity).await.unwrap_err();
    }
    // The CA's key on the token signs the CRL too.
    wait_for("a CRL", || {
        let answer = http(gateway.address(), "GET", "/crl", b"");
        (answer.status == 200).then(|| CrlDer::parse(&answer.body).unwrap())
    });
    let log = gateway.log();
    assert!(!log.contains(softhsm::PIN) && !log.contains("ERROR"), "{log}");
    gateway.stop();
}

async fn a_gateway_with_every_key_on_a_token_enrols(hsm: &SoftHsm) {
    enrols(hsm, "p256").await;
}

async fn a_challenge_key_on_a_token_may_be_rsa(hsm: &SoftHsm) {
    enrols(hsm, "rsa2048").await;
}

async fn what_is_wrong_with_a_token_stops_the_start_and_is_named(hsm: &SoftHsm) {
    let gateway = on_tokens(hsm, "p256");
    let refused = |change: &dyn Fn(String) -> String, words: &[&str]| {
        let before = std::fs::read_to_string(gateway.file("gw/gateway.toml")).unwrap();
        gateway.configure(change);
        let output = run(&mut command(hsm, &gateway, "check-config"));
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        for word in words {
            assert!(text(&output).contains(word), "{word}: {}", text(&output));
        }
        assert!(!text(&output).contains(softhsm::PIN));
        gateway.configure(|_| before);
    };
    refused(&|c| c.replace("object=ca?", "object=other?"), &["object=other", "0 private keys"]);
    refused(&|c| c.replace("token=ca;", "token=nobody;"), &["token=nobody", "0 tokens"]);
    refused(&|c| c.replace("object=ca?", "object=ca;slot-id=1?"), &["ca.key", "slot-id"]);
    refused(&|c| c.replace("&pin-source", "&pin-value=1&pin-source"), &["pin-value", "no place"]);
    // A key for signing does not open challenges, and one key has one role.
    refused(&|c| c.replace("object=challenge?", "object=sign?"), &["object=sign", "CKA_DECRYPT"]);
    refused(
        &|c| {
            c.replace("object=sign?", "object=encrypt?").replace("ra-sign.cert", "ra-encrypt.cert")
        },
        &["CKA_SIGN"],
    );
    let pin = hsm.dir().join("pin");
    let wrong = hsm.secret("wrong-pin", "not the PIN");
    let there = |path: &Path| path.display().to_string();
    let (right, other) = (there(&pin), there(&wrong));
    refused(&|c| c.replace(&right, &other), &["refuses the PIN", "PinIncorrect"]);
    softhsm::set_mode(&wrong, 0o644);
    refused(&|c| c.replace(&right, &other), &["0644", "chmod 600"]);
    // A gateway whose tokens are elsewhere has no keys, and makes none.
    let output = run(gateway.command(&["check-config"]).env("SOFTHSM2_CONF", "/nonexistent"));
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    // The operator's renewal is refused too: nothing moves from a token into a file.
    let output = run(&mut command(hsm, &gateway, "renew-ra"));
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("on a token and is not renewed"), "{}", text(&output));
    assert!(!gateway.file("gw/ra-sign.key.pem").exists());
}

async fn a_key_on_the_token_is_never_made_twice(hsm: &SoftHsm) {
    let gateway = Gateway::init();
    let uri = hsm.uri("ca", "once");
    must(&mut token_key(hsm, &gateway, &uri, "ca", "one.pem"));
    let output = run(&mut token_key(hsm, &gateway, &uri, "ca", "two.pem"));
    assert!(text(&output).contains("is on the token already"), "{}", text(&output));
    assert!(!gateway.file("gw/two.pem").exists());
    // A file that is there is not overwritten, and no key is made in vain.
    let other = hsm.uri("ca", "twice");
    let output = run(&mut token_key(hsm, &gateway, &other, "challenge", "one.pem"));
    assert!(text(&output).contains("exists already"), "{}", text(&output));
    must(&mut token_key(hsm, &gateway, &other, "challenge", "three.pem"));
}

/// The serial number and key of the certificate that has signed an answer about a device's certificate.
fn ocsp_signer(gateway: &Gateway, of: &CertificateDer) -> (String, String) {
    let file = |name: &str| gateway.file(name).to_str().unwrap().to_owned();
    std::fs::write(gateway.file("leaf.pem"), certificates_pem(std::slice::from_ref(of))).unwrap();
    let url = format!("http://{}/ocsp", gateway.address());
    let (leaf, ca, answer) = (file("leaf.pem"), file("gw/ca.cert.pem"), file("answer.der"));
    let mut ask = Command::new("openssl");
    ask.args(["ocsp", "-issuer", &ca, "-cert", &leaf, "-url", &url, "-CAfile", &ca]);
    let output = run(ask.args(["-respout", &answer]));
    let said = text(&output);
    assert!(said.contains("Response verify OK") && said.contains(": good"), "{said}");
    let mut show = Command::new("openssl");
    show.args(["ocsp", "-respin", &answer, "-noverify", "-resp_text"]);
    let shown = String::from_utf8(must(&mut show)).unwrap();
    let start = shown.find("-----BEGIN CERTIFICATE-----").unwrap();
    let pem = gateway.file("signer.pem");
    std::fs::write(&pem, &shown[start..]).unwrap();
    let signer = read_certificates(&pem).unwrap().remove(0);
    (signer.serial().unwrap().to_string(), signer.spki().key_id().to_string())
}

async fn the_ocsp_signers_key_is_on_the_token_too_and_stays(hsm: &SoftHsm) {
    let mut gateway = on_tokens(hsm, "p256");
    gateway.configure(|text| text.replacen("[crl]", "[ocsp]\npath = \"/ocsp\"\n\n[crl]", 1));
    // No key of its own, and none is made in memory beside a CA on a token.
    for name in ["check-config", "serve"] {
        let output = run(&mut command(hsm, &gateway, name));
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        let said = text(&output);
        assert!(said.contains("ocsp.key: missing") && said.contains("--for ocsp"), "{said}");
    }
    // A key of another role is refused.
    let uri = hsm.uri("ra", "sign");
    let before = std::fs::read_to_string(gateway.file("gw/gateway.toml")).unwrap();
    let with = |key: &str| before.replacen("[ocsp]", &format!("[ocsp]\nkey = \"{key}\""), 1);
    gateway.configure(|_| with(&uri));
    let said = text(&run(&mut command(hsm, &gateway, "check-config")));
    assert!(said.contains("RA signing and OCSP signing are the same key"), "{said}");
    let uri = hsm.uri("ca", "ocsp");
    must(&mut token_key(hsm, &gateway, &uri, "ocsp", "ocsp.pub.pem"));
    gateway.configure(|_| with(&uri));
    let key = read_public_key(&gateway.file("gw/ocsp.pub.pem")).unwrap().key_id().to_string();
    start(hsm, &mut gateway);
    let (client, server) = gateway.client().await;
    let leaf = enrol(&client, &server, &gateway.device().request(), &identity()).await.unwrap();
    let first = ocsp_signer(&gateway, &leaf);
    assert_eq!(first.1, key);
    gateway.stop();
    // Another start: another certificate, for the same key.
    start(hsm, &mut gateway);
    let second = ocsp_signer(&gateway, &leaf);
    assert_eq!(second.1, key);
    assert_ne!(second.0, first.0);
    gateway.stop();
}

async fn the_next_ca_is_made_on_the_token_too(hsm: &SoftHsm) {
    let mut gateway = on_tokens(hsm, "p256");
    let keys = ["ca2", "sign2", "encrypt2"];
    let uris = [hsm.uri("ca", keys[0]), hsm.uri("ra", keys[1]), hsm.uri("ra", keys[2])];
    let mut prepare = gateway.command(&["ca", "prepare"]);
    prepare.env("SOFTHSM2_CONF", hsm.conf()).args(["--name", "g2", "--key", &uris[0]]);
    must(prepare.args(["--ra-signing-key", &uris[1], "--ra-encryption-key", &uris[2]]));
    for file in std::fs::read_dir(gateway.file("gw/g2")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(!name.contains("key"), "{name}: nothing of a token's key is in a file");
    }
    let section = std::fs::read_to_string(gateway.file("gw/g2/authority.toml")).unwrap();
    gateway.configure(|text| {
        let preset = "preset = \"windows\"";
        format!("{}\n{section}", text.replace(preset, &format!("{preset}\nca = \"g2\"")))
    });
    start(hsm, &mut gateway);
    let next = read_certificates(&gateway.file("gw/g2/ca.cert.pem")).unwrap().remove(0);
    let url = format!("http://{}/certsrv/mscep/mscep.dll", gateway.address());
    let client = ScepClient::new(&url).unwrap();
    let trust = Trust::Certificate(next.clone());
    let server = client.discover(&trust, SystemClock.now(), &AwsLc).await.unwrap();
    let issued = enrol(&client, &server, &gateway.device().request(), &identity()).await.unwrap();
    assert_eq!(issued.issuer_der(), next.subject_der());
    // The other endpoint tells of it, in the present CA's name, whose key is on the token.
    let answer = http(gateway.address(), "GET", "/?operation=GetNextCACert", b"");
    let present = read_certificates(&gateway.file("gw/ca.cert.pem")).unwrap().remove(0);
    let (legacy, limits) = (LegacyAlgorithms::Refuse, Limits::default());
    let (told, by) = scep_message::next_ca::parse(&answer.body, &AwsLc, legacy, &limits).unwrap();
    assert_eq!((&told[..], &by), (std::slice::from_ref(&next), present.spki()));
    gateway.stop();
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let module = module();
    let ci = std::env::var("CI").as_deref() == Ok("true");
    type Test = fn(&SoftHsm);
    macro_rules! tests {
        ($($name:ident)*) => {
            vec![$((stringify!($name), (|hsm| {
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
                runtime.unwrap().block_on($name(hsm));
            }) as Test)),*]
        };
    }
    let tests: Vec<(&str, Test)> = tests! {
        a_gateway_with_every_key_on_a_token_enrols
        a_challenge_key_on_a_token_may_be_rsa
        what_is_wrong_with_a_token_stops_the_start_and_is_named
        a_key_on_the_token_is_never_made_twice
        the_ocsp_signers_key_is_on_the_token_too_and_stays
        the_next_ca_is_made_on_the_token_too
    };
    if module.is_none() && !ci {
        eprintln!("SKIPPED {} tests: SoftHSM2 is missing", tests.len());
    }
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            let module = module.clone();
            Trial::test(name, move || {
                let module = module.ok_or("SoftHSM2 is missing")?;
                test(&SoftHsm::new(module, &["ca", "ra"]));
                Ok(())
            })
        })
        .map(|trial| trial.with_ignored_flag(crate::module().is_none() && !ci))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
