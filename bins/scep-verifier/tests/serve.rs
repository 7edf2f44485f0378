//! `scep-verifier serve` as step-ca meets it: the webhook SCEPCHALLENGE by its published JSON, over TLS, with the real
//! process. No step-ca with this webhook is asked here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

#[allow(dead_code, reason = "shared with tests that need more of it")]
mod desk;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use desk::{Desk, request, sign};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{Certificate, Client};
use scep_pkcs10::CsrBuilder;
use scep_testkit::TestKey;
use scep_testkit::process::{Child, must, run, text, wait_for};
use serde_json::{Value, json};
use sha2::Sha256;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

const SECRET: &[u8] = b"a secret that step-ca has made for this webhook, of 64 octets...";
const ID: &str = "c2a4f6a0-0000-4000-8000-3f1d9f7b2a11";

struct Server {
    server: Child,
    address: SocketAddr,
    client: Client,
    desk: Desk,
}

fn hmac(secret: &[u8], body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

/// What step-ca posts.
fn question(challenge: &str, der: &[u8]) -> Vec<u8> {
    let body = json!({
        "timestamp": "2026-01-31T12:00:00.123456789Z",
        "provisionerName": "devices",
        "scepChallenge": challenge,
        "scepTransactionID": "5B0F2E8C",
        "x509CertificateRequest": {
            "version": 0,
            "subject": { "commonName": "what step-ca makes of it" },
            "publicKeyAlgorithm": "RSA",
            "raw": STANDARD.encode(der),
        },
    });
    serde_json::to_vec(&body).unwrap()
}

/// The command, with everything that it needs.
fn serve(desk: &Desk) -> Command {
    // A TLS key with its CA, by the means that operators have.
    let mut init = desk.issuer.command();
    init.args(["init", "--tenant", "tls", "--listen", "127.0.0.1:8445", "--dir"]);
    must(init.arg(desk.path("tls")));
    std::fs::write(desk.path("secret.txt"), STANDARD.encode(SECRET) + "\n").unwrap();
    let mut command = desk.verifier("serve");
    command.args(["--listen", "127.0.0.1:0", "--webhook-id", ID, "--timeout", "2s"]);
    command.arg("--ledger").arg(desk.path("ledger.sqlite"));
    command.arg("--webhook-secret-file").arg(desk.path("secret.txt"));
    command.arg("--tls-certificate").arg(desk.path("tls/tls.chain.pem"));
    command.arg("--tls-key").arg(desk.path("tls/tls.key.pem"));
    command
}

impl Server {
    fn start() -> Self {
        let desk = Desk::new();
        let mut command = serve(&desk);
        let mut server = Child::start(&mut command, desk.dir.path(), "serve");
        let address = wait_for("the server's address", || {
            let log = server.stderr();
            assert!(server.ended().is_none(), "{log}");
            let (_, rest) = log.split_once("listening on https://")?;
            rest.split_once("/\n")?.0.parse().ok()
        });
        let pem = std::fs::read(desk.path("tls/tls.pem")).unwrap();
        let root = Certificate::from_pem(&pem).unwrap();
        let client = Client::builder().tls_certs_only([root]).build().unwrap();
        Self { server, address, client, desk }
    }

    async fn post(&self, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, Value) {
        let mut request = self.client.post(format!("https://{}/", self.address)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let body = response.bytes().await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn signed(&self, body: Vec<u8>) -> (u16, Value) {
        let signature = hmac(SECRET, &body);
        let headers = [("X-Smallstep-Signature", &*signature), ("X-Smallstep-Webhook-ID", ID)];
        self.post(&headers, body).await
    }

    async fn ask(&self, challenge: &str, csr: &CsrBuilder) -> (u16, Value) {
        self.signed(question(challenge, &sign(csr, &TestKey::RsaA.key()))).await
    }

    fn last(&self) -> String {
        self.server.stderr().lines().last().unwrap().to_owned()
    }
}

fn allowed() -> (u16, Value) {
    (200, json!({ "allow": true }))
}

/// Nothing but this, whatever the reason.
fn refused(status: u16) -> (u16, Value) {
    (status, json!({ "allow": false }))
}

#[cfg(unix)]
#[test]
fn attack_48_a_tls_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let desk = Desk::new();
    let mut command = serve(&desk);
    let readable = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(desk.path("tls/tls.key.pem"), readable).unwrap();
    let mut server = Child::start(&mut command, desk.dir.path(), "serve");
    let status = wait_for("its end", || server.ended());
    assert!(!status.success());
    assert!(server.stderr().contains("mode 0644"), "{}", server.stderr());
}

#[tokio::test]
async fn attack_07_the_webhook_allows_a_good_request_once() {
    let server = Server::start();
    let challenge = server.desk.challenge("laptop");
    let good = request("laptop", &challenge);
    assert_eq!(server.ask(&challenge, &good).await, allowed(), "{}", server.last());
    assert!(server.last().ends_with("passed, device laptop, transaction 5B0F2E8C"));
    assert_eq!(server.ask(&challenge, &good).await, refused(200));
    assert!(server.last().contains("refused: ChallengeAlreadyUsed: "), "{}", server.last());
    assert!(!server.server.stderr().contains(&challenge[..24]), "the challenge is in the log");
}

#[tokio::test]
async fn attack_08_of_64_webhook_calls_at_once_one_is_allowed() {
    let server = Server::start();
    let challenge = server.desk.challenge("laptop");
    let body = question(&challenge, &sign(&request("laptop", &challenge), &TestKey::RsaA.key()));
    let mut calls = tokio::task::JoinSet::new();
    let server = std::sync::Arc::new(server);
    for _ in 0..64 {
        let (server, body) = (server.clone(), body.clone());
        calls.spawn(async move { server.signed(body).await });
    }
    let answers = calls.join_all().await;
    assert_eq!(answers.iter().filter(|answer| **answer == allowed()).count(), 1);
    assert_eq!(answers.iter().filter(|answer| **answer == refused(200)).count(), 63);
}

#[tokio::test]
async fn attack_01_the_webhook_refuses_what_the_hook_refuses() {
    type Change = fn(&mut CsrBuilder);
    let server = Server::start();
    let challenge = server.desk.challenge("laptop");
    let cases: [(Change, &str); 6] = [
        (|csr| csr.subject = "CN=admin".parse().unwrap(), "SubjectNameMismatch"),
        (|csr| csr.subject_alt_names.clear(), "SubjectAltNameMissing"),
        (|csr| csr.key_usage = None, "KeyUsageMismatch"),
        (|csr| csr.extended_key_usages = None, "EnhancedKeyUsageMissing"),
        (|csr| csr.challenge_password = None, "ChallengePasswordMissing"),
        (
            |csr| {
                csr.extensions.push(scep_pkcs10::RequestedExtension {
                    oid: "2.5.29.19".parse().unwrap(),
                    critical: false,
                    value: vec![0x30, 0x00],
                });
            },
            "ExtensionNotAllowed",
        ),
    ];
    for (change, reason) in cases {
        let mut csr = request("laptop", &challenge);
        change(&mut csr);
        assert_eq!(server.ask(&challenge, &csr).await, refused(200), "{reason}");
        let last = server.last();
        assert!(last.contains(&format!("refused: {reason}: ")), "{reason}: {last}");
    }
    // A challenge beside the request is not the one that the device has signed.
    let none = request("laptop", "another");
    assert_eq!(server.ask(&challenge, &none).await, refused(200));
    assert!(server.last().contains("scepChallenge is not the request's"), "{}", server.last());
    let stranger = Desk::new();
    stranger.issuer.add_gateway("ours", &server.desk.path("challenge.pub.pem"));
    let about = [("DeviceName", "laptop")];
    let foreign = stranger.issuer.mint("ours", desk::PROFILE, "laptop", &about);
    assert_eq!(server.ask(&foreign, &request("laptop", &foreign)).await, refused(200));
    assert!(server.last().contains("SigningCertThumbprintMismatch"), "{}", server.last());
    // A request whose signature is not by its key.
    let mut der = sign(&request("laptop", &challenge), &TestKey::RsaA.key());
    *der.last_mut().unwrap() ^= 1;
    assert_eq!(server.signed(question(&challenge, &der)).await, refused(200));
    // None of it has spent the challenge.
    assert_eq!(server.ask(&challenge, &request("laptop", &challenge)).await, allowed());
}

#[tokio::test]
async fn attack_10_the_webhook_locks_a_challenge_after_ten_mismatches() {
    let server = Server::start();
    let challenge = server.desk.challenge("laptop");
    let mut bad = request("laptop", &challenge);
    bad.subject = "CN=admin".parse().unwrap();
    for _ in 0..10 {
        assert_eq!(server.ask(&challenge, &bad).await, refused(200));
        assert!(server.last().contains("SubjectNameMismatch"), "{}", server.last());
    }
    assert_eq!(server.ask(&challenge, &request("laptop", &challenge)).await, refused(200));
    assert!(server.last().contains("ChallengeLocked"), "{}", server.last());
}

#[tokio::test]
async fn the_webhook_answers_nobody_without_the_secret() {
    const SIGNATURE: &str = "X-Smallstep-Signature";
    let server = Server::start();
    let challenge = server.desk.challenge("laptop");
    let body = question(&challenge, &sign(&request("laptop", &challenge), &TestKey::RsaA.key()));
    let good = hmac(SECRET, &body);
    let id = ("X-Smallstep-Webhook-ID", ID);
    let forged = hmac(b"another secret, which is as long", &body);
    let of_another = hmac(SECRET, &question(&challenge, b"another request"));
    // What old versions of step-ca sent: it binds nothing.
    let mut old = hex::encode(&body[..64]);
    old.push_str(&hmac(SECRET, b""));
    let of_nothing = hmac(SECRET, b"");
    for wrong in [&forged, &of_another, &old, &of_nothing, &good[..62], "", "no hexadecimal"] {
        let headers = [(SIGNATURE, wrong), id];
        assert_eq!(server.post(&headers, body.clone()).await, refused(401), "{wrong}");
        assert!(server.last().contains("not asked as step-ca asks: "), "{}", server.last());
    }
    assert_eq!(server.post(&[id], body.clone()).await, refused(401));
    let twice = [(SIGNATURE, &*good), (SIGNATURE, &*good), id];
    assert_eq!(server.post(&twice, body.clone()).await, refused(401));
    assert_eq!(server.post(&[(SIGNATURE, &good)], body.clone()).await, refused(401));
    let other = [(SIGNATURE, &*good), ("X-Smallstep-Webhook-ID", "another")];
    assert_eq!(server.post(&other, body.clone()).await, refused(401));
    // Before the signature nothing is parsed: what is no JSON is refused for its signature.
    assert_eq!(server.post(&[(SIGNATURE, &forged), id], b"{".to_vec()).await, refused(401));
    // And none of it was the request's fault.
    assert_eq!(server.signed(body).await, allowed());
}

#[tokio::test]
async fn the_webhook_refuses_what_is_not_its_json() {
    let server = Server::start();
    let whole: Value = serde_json::from_slice(&question("c", b"der")).unwrap();
    for field in ["scepChallenge", "scepTransactionID", "x509CertificateRequest"] {
        let mut less = whole.clone();
        less.as_object_mut().unwrap().remove(field);
        assert_eq!(server.signed(serde_json::to_vec(&less).unwrap()).await, refused(400));
    }
    let mut bad = whole.clone();
    bad["x509CertificateRequest"]["raw"] = json!("not base64!");
    assert_eq!(server.signed(serde_json::to_vec(&bad).unwrap()).await, refused(400));
    let twice = br#"{"scepChallenge":"a","scepChallenge":"b"}"#.to_vec();
    assert_eq!(server.signed(twice).await, refused(400));
    assert_eq!(server.signed(Vec::new()).await, refused(400));
    // Good JSON, and no request in it.
    assert_eq!(server.signed(serde_json::to_vec(&whole).unwrap()).await, refused(200));
    let got = server.client.get(format!("https://{}/", server.address)).send().await.unwrap();
    assert_eq!(got.status().as_u16(), 405);
}

#[tokio::test]
async fn the_webhook_s_bodies_have_a_limit() {
    let server = Server::start();
    assert_eq!(server.signed(vec![b' '; (1 << 20) + 1]).await, refused(413));
    assert!(server.last().contains("too long"), "{}", server.last());
}

/// Without TLS, which is for loopback alone: the test sends octets one by one.
#[test]
fn the_webhook_does_not_wait_for_a_slow_sender() {
    let desk = Desk::new();
    std::fs::write(desk.path("secret.txt"), STANDARD.encode(SECRET)).unwrap();
    let command = |listen: &str| {
        let mut command: Command = desk.verifier("serve");
        command.args(["--listen", listen, "--webhook-id", ID, "--timeout", "1s"]);
        command.arg("--ledger").arg(desk.path("ledger.sqlite"));
        command.arg("--webhook-secret-file").arg(desk.path("secret.txt"));
        command
    };
    let output = run(&mut command("0.0.0.0:0"));
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("only a loopback address"), "{}", text(&output));

    let mut server = Child::start(&mut command("127.0.0.1:0"), desk.dir.path(), "serve");
    let address: SocketAddr = wait_for("the server's address", || {
        let log = server.stderr();
        assert!(server.ended().is_none(), "{log}");
        log.split_once("listening on http://")?.1.split_once("/\n")?.0.parse().ok()
    });
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    // A head that does not end either.
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(b"POST / HT").unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    // Told to stop, it ends by itself and well.
    must(Command::new("kill").args(["-TERM", &server.id().to_string()]));
    let status = wait_for("the end", || server.ended());
    assert!(status.success(), "{}", server.stderr());
    assert!(server.stderr().ends_with("stopped\n"), "{}", server.stderr());
}
