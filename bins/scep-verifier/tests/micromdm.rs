//! micromdm's `scepserver` with this verifier as its `-csrverifierexec`, and micromdm's `scepclient`, which talks to it
//! in single DES and SHA-1.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

mod desk;

use desk::{Desk, request, sign};
use libtest_mimic::{Arguments, Trial};
use scep_keys::{Backend, SoftwareKey};
use scep_pkcs10::CsrBuilder;
use scep_testkit::process::peers::{Peer, trial};
use scep_testkit::process::{Child, free_address, must, run, text};
use scep_types::GeneralName;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn main() {
    let arguments = Arguments::from_args();
    let peers = || ["scepserver", "scepclient", "openssl"].map(Peer::program);
    let trials: Vec<Trial> = vec![
        trial("scepserver_issues_for_a_good_challenge", &peers(), issues),
        trial("attack_01_scepserver_refuses_another_subject", &peers(), another_subject),
        trial("attack_01_scepserver_refuses_another_name", &peers(), another_name),
        trial("attack_07_scepserver_refuses_a_used_challenge", &peers(), used),
        trial("scepserver_refuses_a_stranger_s_challenge", &peers(), stranger),
        trial("scepserver_refuses_scepclient_s_own_request", &peers(), own_request),
        trial("scepserver_refuses_when_the_verifier_is_broken", &peers(), broken),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

/// `scepserver` in a folder, asking the verifier.
struct Server {
    // Before the folder: the process ends before its files go.
    server: Child,
    url: String,
    desk: Desk,
}

impl Server {
    fn start() -> Self {
        let desk = Desk::new();
        let depot = desk.path("depot");
        let mut init = Command::new("scepserver");
        init.args(["ca", "-init", "-keySize", "2048", "-organization", "Example", "-depot"]);
        must(init.arg(&depot));
        let hook = desk.path("hook.sh");
        let verifier = desk.hook();
        let words = std::iter::once(verifier.get_program()).chain(verifier.get_args());
        let words: Vec<String> = words.map(|word| format!("'{}'", word.display())).collect();
        let log = desk.path("hook.log");
        let script = format!("#!/bin/sh\nexec {} 2>>'{}'\n", words.join(" "), log.display());
        std::fs::write(&hook, script).unwrap();
        std::fs::set_permissions(&hook, PermissionsExt::from_mode(0o700)).unwrap();
        // Another process can take a free port first.
        for _ in 0..10 {
            let address = free_address();
            let mut command = Command::new("scepserver");
            command.args(["-allowrenew", "0", "-port", &address.port().to_string()]);
            command.arg("-depot").arg(&depot).arg("-csrverifierexec").arg(&hook);
            let mut server = Child::start(&mut command, desk.dir.path(), "scepserver");
            if server.answers(address) && server.ended().is_none() {
                return Self { server, url: format!("http://{address}/scep"), desk };
            }
            assert!(server.stderr().contains("in use"), "{}", server.stderr());
        }
        panic!("no port stayed free");
    }

    /// `scepclient` with a key and a request of its own folder; without one it makes them itself.
    fn client(&self, name: &str) -> Command {
        let mut command = Command::new("scepclient");
        command.args(["-server-url", &self.url, "-private-key"]);
        command.arg(self.folder(name).join("key.pem"));
        command
    }

    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.desk.path(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Enrols with this request. scepclient asks for a common name and nothing else, but sends a request that lies
    /// beside its key.
    fn enrol(&self, name: &str, request: &CsrBuilder) -> Output {
        let folder = self.folder(name);
        let key = folder.join("key.pem");
        let mut openssl = Command::new("openssl");
        openssl.args(["genrsa", "-traditional", "-out"]);
        must(openssl.arg(&key).arg("2048"));
        let pkcs8 = folder.join("key.pkcs8.pem");
        let mut openssl = Command::new("openssl");
        openssl.args(["pkcs8", "-topk8", "-nocrypt", "-in"]);
        must(openssl.arg(&key).arg("-out").arg(&pkcs8));
        let signer = SoftwareKey::read(&pkcs8, Backend::AwsLc).unwrap();
        let der = folder.join("csr.der");
        std::fs::write(&der, sign(request, &signer)).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-inform", "DER", "-in"]);
        must(openssl.arg(&der).arg("-out").arg(folder.join("csr.pem")));
        run(&mut self.client(name))
    }

    fn certificate(&self, name: &str) -> PathBuf {
        self.desk.path(name).join("client.pem")
    }

    /// What the verifier said, one line for each request.
    fn log(&self) -> String {
        std::fs::read_to_string(self.desk.path("hook.log")).unwrap_or_default()
    }

    #[track_caller]
    fn must_issue(&self, name: &str, output: &Output) {
        let log = self.log();
        assert!(output.status.success(), "{}\n{log}\n{}", text(output), self.server.stderr());
        let ca = self.desk.path("depot/ca.pem");
        let mut openssl = Command::new("openssl");
        openssl.args(["verify", "-CAfile"]).arg(ca);
        must(openssl.arg(self.certificate(name)));
        assert!(log.lines().last().unwrap().contains("passed, device"), "{log}");
    }

    #[track_caller]
    fn must_refuse(&self, name: &str, output: &Output, reason: &str) {
        let log = self.log();
        assert!(!output.status.success(), "{}\n{log}", text(output));
        assert!(text(output).contains("badRequest"), "{}", text(output));
        assert!(!self.certificate(name).exists());
        let last = log.lines().last().unwrap();
        assert!(last.contains(&format!("refused: {reason}: ")), "{reason}: {log}");
    }
}

/// Subject, names and usages, in OpenSSL's words.
fn contents(certificate: &Path) -> String {
    let mut command = Command::new("openssl");
    command.args(["x509", "-noout", "-subject", "-nameopt", "RFC2253", "-ext"]);
    command.args(["subjectAltName,keyUsage,extendedKeyUsage", "-in"]).arg(certificate);
    let text = String::from_utf8(must(&mut command)).unwrap();
    text.lines().map(str::trim).collect::<Vec<_>>().join("\n")
}

fn issues() {
    let server = Server::start();
    let challenge = server.desk.challenge("laptop");
    let output = server.enrol("device", &request("laptop", &challenge));
    server.must_issue("device", &output);
    let contents = contents(&server.certificate("device"));
    for part in [
        "subject=CN=laptop",
        "X509v3 Key Usage: critical\nDigital Signature\n",
        "X509v3 Extended Key Usage:\nTLS Web Client Authentication\n",
        "X509v3 Subject Alternative Name:\nDNS:laptop.example.org",
    ] {
        assert!(contents.contains(part), "{part}: {contents}");
    }
    // The line is for a log: it says when, and it holds no challenge.
    let log = server.log();
    assert!(
        log.starts_with("20") && log.contains("Z scep-verifier: passed, device laptop"),
        "{log}"
    );
    assert!(!log.contains(&challenge[..24]), "{log}");
}

fn another_subject() {
    let server = Server::start();
    let challenge = server.desk.challenge("laptop");
    let mut changed = request("laptop", &challenge);
    changed.subject = "CN=domain-controller".parse().unwrap();
    let output = server.enrol("attacker", &changed);
    server.must_refuse("attacker", &output, "SubjectNameMismatch");
    // A refusal has not spent it.
    let output = server.enrol("device", &request("laptop", &challenge));
    server.must_issue("device", &output);
}

fn another_name() {
    let server = Server::start();
    let challenge = server.desk.challenge("laptop");
    let mut more = request("laptop", &challenge);
    more.subject_alt_names.push(GeneralName::dns("other.example.org").unwrap());
    let output = server.enrol("attacker", &more);
    server.must_refuse("attacker", &output, "SubjectAltNameMismatch");
}

fn used() {
    let server = Server::start();
    let challenge = server.desk.challenge("laptop");
    let good = request("laptop", &challenge);
    let output = server.enrol("device", &good);
    server.must_issue("device", &output);
    // The same device and request once more, and the same contents for another key.
    std::fs::remove_file(server.certificate("device")).unwrap();
    let output = run(&mut server.client("device"));
    server.must_refuse("device", &output, "ChallengeAlreadyUsed");
    let output = server.enrol("attacker", &good);
    server.must_refuse("attacker", &output, "ChallengeAlreadyUsed");
}

fn stranger() {
    let server = Server::start();
    let stranger = Desk::new();
    stranger.issuer.add_gateway("ours", &server.desk.path("challenge.pub.pem"));
    let about = [("DeviceName", "laptop")];
    let challenge = stranger.issuer.mint("ours", desk::PROFILE, "laptop", &about);
    let output = server.enrol("device", &request("laptop", &challenge));
    server.must_refuse("device", &output, "SigningCertThumbprintMismatch");
    let output = server.enrol("second", &request("laptop", "a password"));
    server.must_refuse("second", &output, "ChallengeDecodingError");
    let mut none = request("laptop", "");
    none.challenge_password = None;
    let output = server.enrol("third", &none);
    server.must_refuse("third", &output, "ChallengePasswordMissing");
}

fn own_request() {
    let server = Server::start();
    let challenge = server.desk.issuer.mint(
        "main",
        &desk::PROFILE
            .replace("subject_alt_names = [{ dns = \"{{DeviceName}}.example.org\" }]", ""),
        "laptop",
        &[("DeviceName", "laptop")],
    );
    let mut command = server.client("device");
    command.args(["-cn", "laptop", "-organization", "", "-ou", "", "-country", ""]);
    let output = run(command.args(["-challenge", &challenge]));
    // Everything fits, but without usages in the request the hook cannot know what the CA makes of it.
    server.must_refuse("device", &output, "KeyUsageMismatch");
}

fn broken() {
    let server = Server::start();
    let challenge = server.desk.challenge("laptop");
    std::fs::remove_file(server.desk.path("rules.toml")).unwrap();
    let output = server.enrol("device", &request("laptop", &challenge));
    assert!(!output.status.success(), "{}", text(&output));
    assert!(!server.certificate("device").exists());
    assert!(server.log().contains("rules.toml"), "{}", server.log());
}
