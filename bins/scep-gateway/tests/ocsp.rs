//! OCSP and the certificate store of the gateway's process, with OpenSSL as the client.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

#[allow(dead_code, reason = "the crash tests use the rest")]
mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use scep_keys::{certificates_pem, public_key_pem, read_certificates};
use scep_testkit::keys;
use scep_testkit::process::{http, must, run, temporary, text, wait_for};
use scep_testkit::programs::available;
use scep_types::{CertificateDer, CrlDer};
use std::path::Path;
use std::process::Command;
use support::{Gateway, enrol, identity};

const SECTIONS: &str = "\n[ocsp]\nvalidity = \"10m\"\n\n[certstore]\n";

fn gateway() -> Gateway {
    let gateway = Gateway::init();
    gateway.configure(|text| text + SECTIONS);
    gateway
}

/// What `openssl ocsp` says in a folder with `ca.pem`, on both of its outputs.
fn ask(folder: &Path, options: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.current_dir(folder).args(["ocsp", "-issuer", "ca.pem", "-CAfile", "ca.pem"]);
    text(&run(command.args(options)))
}

async fn device(gateway: &Gateway) -> CertificateDer {
    let (client, server) = gateway.client().await;
    enrol(&client, &server, &gateway.device().request(), &identity()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_is_told_good_revoked_and_unknown() {
    if !available("openssl", "openssl_is_told_good_revoked_and_unknown") {
        return;
    }
    let mut gateway = gateway();
    gateway.start(&[]);
    let (certificate, other) = (device(&gateway).await, device(&gateway).await);
    let folder = temporary();
    let folder = folder.path();
    let write = |name: &str, certificate: &CertificateDer| {
        std::fs::write(folder.join(name), certificates_pem(std::slice::from_ref(certificate)))
            .unwrap();
    };
    let ca = read_certificates(&gateway.file("gw/ca.cert.pem")).unwrap().remove(0);
    for (name, certificate) in [("ca.pem", &ca), ("leaf.pem", &certificate), ("other.pem", &other)]
    {
        write(name, certificate);
    }
    let url = format!("http://{}/ocsp", gateway.address());

    // With a nonce, as OpenSSL does by default; with either digest.
    for digest in ["-sha1", "-sha256"] {
        let said = ask(folder, &["-url", &url, digest, "-cert", "leaf.pem"]);
        assert!(said.contains("leaf.pem: good"), "{said}");
        assert!(said.contains("Response verify OK"), "{said}");
        assert!(!said.contains("nonce"), "{said}");
    }
    let both = ask(folder, &["-url", &url, "-cert", "leaf.pem", "-cert", "other.pem"]);
    assert!(both.contains("leaf.pem: good") && both.contains("other.pem: good"), "{both}");
    let strange = ask(folder, &["-url", &url, "-serial", "0x7001020304"]);
    assert!(strange.contains("0x7001020304: unknown"), "{strange}");
    assert!(strange.contains("Response verify OK"), "{strange}");

    // By GET.
    ask(folder, &["-no_nonce", "-cert", "leaf.pem", "-reqout", "request.der"]);
    let request = std::fs::read(folder.join("request.der")).unwrap();
    let target = format!("/ocsp/{}", STANDARD.encode(&request).replace('+', "%2B"));
    let got = http(gateway.address(), "GET", &target, b"");
    assert_eq!(got.status, 200, "{}", got.head);
    assert!(got.head.contains("application/ocsp-response"), "{}", got.head);
    std::fs::write(folder.join("answer.der"), &got.body).unwrap();
    let said = ask(folder, &["-respin", "answer.der", "-cert", "leaf.pem", "-resp_text"]);
    assert!(said.contains("leaf.pem: good") && said.contains("Response verify OK"), "{said}");
    // By whom: a signer of the CA, for this alone, that nobody need ask about.
    assert!(said.contains("OCSP Signing") && said.contains("OCSP No Check"), "{said}");
    assert!(said.contains("CN = OCSP signer") || said.contains("CN=OCSP signer"), "{said}");
    let kept = http(gateway.address(), "POST", "/ocsp", &request);
    assert_eq!(kept.body, got.body, "one answer for everybody who asks without a nonce");

    // What is not its to say, and what is nothing.
    let stranger = Gateway::init();
    let stranger = read_certificates(&stranger.file("gw/ca.cert.pem")).unwrap().remove(0);
    write("stranger.pem", &stranger);
    let refused = ask(folder, &["-url", &url, "-issuer", "stranger.pem", "-serial", "0x70"]);
    assert!(refused.contains("unauthorized (6)"), "{refused}");
    let junk = http(gateway.address(), "POST", "/ocsp", b"junk");
    assert_eq!((junk.status, &junk.body[..]), (200, &[0x30, 3, 0x0a, 1, 1][..]));

    // Revoked, from the moment on that the ledger knows it.
    gateway.stop();
    let serial = certificate.serial().unwrap().to_string();
    must(gateway.command(&["revoke"]).args([
        "--serial",
        &serial,
        "--reason",
        "keyCompromise",
        "--operator",
        "alice",
    ]));
    gateway.start(&[]);
    let said = wait_for("the revocation", || {
        let said = ask(folder, &["-url", &url, "-cert", "leaf.pem", "-cert", "other.pem"]);
        said.contains("leaf.pem: revoked").then_some(said)
    });
    assert!(said.contains("Reason: keyCompromise"), "{said}");
    assert!(said.contains("Response verify OK") && said.contains("other.pem: good"), "{said}");
    let now = http(gateway.address(), "POST", "/ocsp", &request);
    assert_ne!(now.body, got.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_store_gives_out_what_it_is_asked_for() {
    let mut gateway = gateway();
    gateway.start(&[]);
    let ca = read_certificates(&gateway.file("gw/ca.cert.pem")).unwrap().remove(0);
    let hash = |of: &[u8]| {
        use sha1::{Digest, Sha1};
        let key = STANDARD.encode(Sha1::digest(of));
        key.trim_end_matches('=').replace('+', "%2B")
    };
    let target = format!("/certstore/certificates/search.cgi?sHash={}", hash(ca.subject_der()));
    let answer = http(gateway.address(), "GET", &target, b"");
    assert_eq!((answer.status, &answer.body[..]), (200, ca.as_der()));
    let target = format!("/certstore/crls/search.cgi?iHash={}", hash(ca.subject_der()));
    let crl = wait_for("a CRL", || {
        let answer = http(gateway.address(), "GET", &target, b"");
        (answer.status == 200).then(|| CrlDer::parse(&answer.body).unwrap())
    });
    assert_eq!(crl.issuer_der(), ca.subject_der());
}

#[test]
fn init_writes_the_responders_place_into_the_certificates_of_devices() {
    let dir = temporary();
    let issuer = dir.path().join("issuer.pub.pem");
    std::fs::write(&issuer, public_key_pem(keys::p256(1).public_key())).unwrap();
    let init = |folder: &str, more: &[&str]| {
        let mut init = Command::new(env!("CARGO_BIN_EXE_scep-gateway"));
        init.args(["init", "--tenant", "contoso", "--group", "main"])
            .args(["--allow-suffix", "example.org", "--ocsp"])
            .arg("--issuer-key")
            .arg(&issuer)
            .arg("--dir")
            .arg(dir.path().join(folder))
            .args(more);
        init
    };
    let vain = run(&mut init("vain", &[]));
    assert!(text(&vain).contains("--public-url"), "{}", text(&vain));
    must(&mut init("gw", &["--public-url", "http://scep.example.org:8080/"]));
    let config = dir.path().join("gw/gateway.toml");
    let written = std::fs::read_to_string(&config).unwrap();
    let url = "ocsp_urls = [\"http://scep.example.org:8080/ocsp\"]";
    assert!(written.contains(url) && written.contains("[ocsp]"), "{written}");
    let check = || {
        let mut check = Command::new(env!("CARGO_BIN_EXE_scep-gateway"));
        check.arg("check-config").arg("--config").arg(&config);
        run(&mut check)
    };
    assert!(check().status.success(), "{}", text(&check()));
    for (from, to, why) in [
        ("path = \"/ocsp\"", "path = \"/crl/ocsp\"", "paths apart"),
        ("path = \"/ocsp\"", "path = \"/\"", "ocsp.path"),
        ("validity = \"1h\"", "validity = \"1m\"", "ocsp.validity"),
    ] {
        std::fs::write(&config, written.replace(from, to)).unwrap();
        let said = text(&check());
        assert!(said.contains(why), "{to}: {said}");
    }
}
