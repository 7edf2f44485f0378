//! step-ca as the server of `scep-device`: another implementation of the server's side, as Debian has it (0.19).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

use libtest_mimic::{Arguments, Trial};
use scep_testkit::process::peers::{Peer, folder, trial};
use scep_testkit::process::{Child, free_address, must, run, temporary, text};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

fn main() {
    let arguments = Arguments::from_args();
    let peers = || [Peer::file(folder().join("step-ca")), Peer::program("openssl")];
    let trials: Vec<Trial> = vec![
        trial("step_ca_says_what_it_can_and_who_it_is", &peers(), capabilities),
        trial("step_ca_is_told_apart_by_fingerprint", &peers(), fingerprint),
        trial("scep_device_enrols_with_step_ca_by_post", &peers(), enrols),
        trial("scep_device_demands_legacy_for_sha1", &peers(), demands_legacy),
        trial("scep_device_renews_with_step_ca", &peers(), renews),
        trial("scep_device_reports_a_refusal_of_step_ca", &peers(), refused),
        trial("step_ca_reads_no_get", &peers(), no_get),
        trial("step_ca_has_no_queries", &peers(), no_queries),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

const CHALLENGE: &str = "a static password";

/// step-ca with a root, an intermediate that answers SCEP, and one password for everybody.
struct StepCa {
    // Before the folder: the process ends before its files go.
    server: Child,
    url: String,
    dir: TempDir,
}

impl StepCa {
    fn start() -> Self {
        let dir = temporary();
        certificates(dir.path());
        for _ in 0..10 {
            let (address, https) = (free_address(), free_address());
            let file = |name: &str| dir.path().join(name).display().to_string();
            let config = format!(
                r#"{{
  "root": "{}", "crt": "{}", "key": "{}",
  "address": "{https}", "insecureAddress": "{address}", "dnsNames": ["127.0.0.1"],
  "logger": {{ "format": "text" }},
  "db": {{ "type": "badgerv2", "dataSource": "{}" }},
  "authority": {{ "provisioners": [{{
    "type": "SCEP", "name": "scep", "challenge": "{CHALLENGE}",
    "minimumPublicKeyLength": 2048, "encryptionAlgorithmIdentifier": 2
  }}] }}
}}"#,
                file("root.crt"),
                file("intermediate.crt"),
                file("intermediate.key"),
                file("db"),
            );
            std::fs::write(dir.path().join("ca.json"), config).unwrap();
            let mut command = Command::new(folder().join("step-ca"));
            command.arg(dir.path().join("ca.json"));
            let mut server = Child::start(&mut command, dir.path(), "step-ca");
            if server.answers(address) && server.ended().is_none() {
                return Self { server, url: format!("http://{address}/scep/scep"), dir };
            }
            assert!(server.stderr().contains("in use"), "{}", server.stderr());
        }
        panic!("no port stayed free");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command of `scep-device`, which knows the root.
    fn device(&self, command: &str) -> Command {
        let mut device = Command::new(env!("CARGO_BIN_EXE_scep-device"));
        device.env_remove("SCEP_CHALLENGE").args([command, "--url", &self.url, "--ca"]);
        device.arg(self.path("root.crt"));
        device
    }

    /// `enrol` with key and certificate in files of this name.
    fn enrol(&self, name: &str, challenge: &str) -> Command {
        let mut device = self.device("enrol");
        device.args(["--subject", "CN=dev.example.org", "--dns", "dev.example.org"]);
        device.args(["--challenge", challenge]);
        device.arg("--key").arg(self.path(&format!("{name}.key.pem")));
        device.arg("--out").arg(self.path(&format!("{name}.cert.pem")));
        device.arg("--chain-out").arg(self.path(&format!("{name}.chain.pem")));
        device
    }

    /// The certificate is of the key and leads to the root, says OpenSSL.
    #[track_caller]
    fn must_have_issued(&self, name: &str, output: &Output) {
        assert_eq!(output.status.code(), Some(0), "{}\n{}", text(output), self.server.stderr());
        let certificate = self.path(&format!("{name}.cert.pem"));
        let mut openssl = Command::new("openssl");
        openssl.args(["verify", "-CAfile"]).arg(self.path("root.crt")).arg("-untrusted");
        must(openssl.arg(self.path("intermediate.crt")).arg(&certificate));
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-noout", "-subject", "-ext", "subjectAltName", "-in"]);
        let names = String::from_utf8(must(openssl.arg(&certificate))).unwrap();
        assert!(names.contains("subject=CN = dev.example.org\n"), "{names}");
        assert!(names.contains("DNS:dev.example.org\n"), "{names}");
        let mut of_certificate = Command::new("openssl");
        of_certificate.args(["x509", "-noout", "-pubkey", "-in"]).arg(&certificate);
        let mut of_key = Command::new("openssl");
        of_key.args(["pkey", "-pubout", "-in"]).arg(self.path(&format!("{name}.key.pem")));
        assert_eq!(must(&mut of_certificate), must(&mut of_key));
    }

    /// How many PKIOperations arrived. step-ca writes the line of a request before the answer has left.
    fn operations(&self) -> usize {
        self.server.stderr().matches("operation=PKIOperation").count()
    }
}

fn openssl(dir: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    must(command.current_dir(dir).args(arguments.split_whitespace()));
}

/// Root and intermediate. The intermediate opens envelopes and signs answers itself.
fn certificates(dir: &Path) {
    std::fs::write(
        dir.join("names.cnf"),
        "[req]\nprompt = no\ndistinguished_name = name\n[name]\nO = Example\nCN = $ENV::NAME\n\
         [root]\nbasicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign, cRLSign\n\
         subjectKeyIdentifier = hash\n\
         [intermediate]\nbasicConstraints = critical, CA:TRUE, pathlen:0\n\
         keyUsage = critical, keyCertSign, cRLSign, digitalSignature, keyEncipherment\n\
         subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n",
    )
    .unwrap();
    let named = |name: &str, arguments: &str| {
        let mut command = Command::new("openssl");
        command.current_dir(dir).env("NAME", name).args(arguments.split_whitespace());
        must(command.args(["-config", "names.cnf"]));
    };
    named(
        "Root",
        "req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.crt -days 30 -extensions root",
    );
    openssl(dir, "genrsa -traditional -out intermediate.key 2048");
    named("Intermediate", "req -new -key intermediate.key -out intermediate.csr");
    let mut command = Command::new("openssl");
    command.current_dir(dir).env("NAME", "Intermediate");
    must(
        command.args(
            "x509 -req -in intermediate.csr -CA root.crt -CAkey root.key -CAcreateserial -days 30 \
         -extfile names.cnf -extensions intermediate -out intermediate.crt"
                .split_whitespace(),
        ),
    );
}

fn capabilities() {
    let ca = StepCa::start();
    let mut device = Command::new(env!("CARGO_BIN_EXE_scep-device"));
    let caps = String::from_utf8(must(device.args(["caps", "--url", &ca.url]))).unwrap();
    for (name, has) in
        [("AES", "yes"), ("POSTPKIOperation", "yes"), ("SHA-256", "yes"), ("SHA-384", "no")]
    {
        let line = caps.lines().find(|line| line.split_whitespace().next() == Some(name));
        assert_eq!(line.and_then(|l| l.split_whitespace().nth(1)), Some(has), "{name}: {caps}");
    }
    // No RA: the one certificate is the intermediate's, which the root has issued.
    let output = run(&mut ca.device("cacert"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let pem = std::fs::read_to_string(ca.path("intermediate.crt")).unwrap();
    let sent = String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n");
    assert!(sent.starts_with(&pem), "{sent}");
}

fn fingerprint() {
    let ca = StepCa::start();
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]);
    let line = String::from_utf8(must(openssl.arg(ca.path("intermediate.crt")))).unwrap();
    let good = line.trim().rsplit('=').next().unwrap().to_owned();
    // A digit of it changed.
    let last = if good.ends_with('0') { "1" } else { "0" };
    let bad = format!("{}{last}", &good[..good.len() - 1]);
    for (fingerprint, code) in [(&bad, 1), (&good, 0)] {
        let mut device = Command::new(env!("CARGO_BIN_EXE_scep-device"));
        device.args(["cacert", "--url", &ca.url, "--ca-fingerprint", fingerprint]);
        let output = run(&mut device);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        assert_eq!(output.stdout.is_empty(), code == 1, "{}", text(&output));
    }
}

fn enrols() {
    let ca = StepCa::start();
    let output = run(ca.enrol("dev", CHALLENGE).args(["--legacy", "--method", "post"]));
    ca.must_have_issued("dev", &output);
    // The chain is complete, and in order.
    let mut openssl = Command::new("openssl");
    openssl.args(["crl2pkcs7", "-nocrl", "-certfile"]).arg(ca.path("dev.chain.pem"));
    must(openssl.arg("-out").arg(ca.path("chain.p7")));
    let mut openssl = Command::new("openssl");
    openssl.args(["pkcs7", "-print_certs", "-noout", "-in"]).arg(ca.path("chain.p7"));
    let chain = String::from_utf8(must(&mut openssl)).unwrap();
    let subjects: Vec<&str> = chain.lines().filter(|l| l.starts_with("subject")).collect();
    let wanted = ["subject=O = Example, CN = Intermediate", "subject=O = Example, CN = Root"];
    assert_eq!(subjects, wanted);
    // Without a choice it is POST as well.
    let output = run(ca.enrol("second", CHALLENGE).arg("--legacy"));
    ca.must_have_issued("second", &output);
    assert_eq!(ca.server.stderr().matches("method=POST").count(), 2, "{}", ca.server.stderr());
}

fn demands_legacy() {
    let ca = StepCa::start();
    let output = run(&mut ca.enrol("dev", CHALLENGE));
    // It signs its answers with SHA-1, whatever was asked with.
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("algorithm sha1 is not supported"), "{}", text(&output));
    assert!(text(&output).contains("--legacy"), "{}", text(&output));
    assert!(!ca.path("dev.cert.pem").exists());
}

fn renews() {
    let ca = StepCa::start();
    let output = run(ca.enrol("old", CHALLENGE).arg("--legacy"));
    ca.must_have_issued("old", &output);
    let renew = |name: &str| {
        let mut device = ca.device("renew");
        device.arg("--legacy").arg("--cert").arg(ca.path("old.cert.pem"));
        device.arg("--key").arg(ca.path("old.key.pem"));
        device.arg("--new-key").arg(ca.path(&format!("{name}.key.pem")));
        device.arg("--out").arg(ca.path(&format!("{name}.cert.pem")));
        device
    };
    let output = run(renew("new").args(["--challenge", CHALLENGE]));
    ca.must_have_issued("new", &output);
    let read = |name: &str| std::fs::read(ca.path(name)).unwrap();
    assert_ne!(read("old.key.pem"), read("new.key.pem"));
    // It wants its password for renewals too.
    let output = run(&mut renew("third"));
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(!ca.path("third.cert.pem").exists());
}

fn refused() {
    let ca = StepCa::start();
    let output = run(ca.enrol("dev", "another password").arg("--legacy"));
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    let said = text(&output);
    assert!(said.contains("the server refuses: BadRequest"), "{said}");
    // It gives no reference, so none is spoken of.
    assert!(said.contains("Only the server's log can say more."), "{said}");
    assert!(!ca.path("dev.cert.pem").exists() && !ca.path("dev.chain.pem").exists());
}

/// RFC 8894, 4.1, wants base64 in the query; step-ca 0.19 decodes base64url. This test fails with one that reads both,
/// and then `scep_device_enrols_with_step_ca_by_post` can have a sibling.
fn no_get() {
    let ca = StepCa::start();
    let output = run(ca.enrol("dev", CHALLENGE).args(["--legacy", "--method", "get"]));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("PKIOperation: the server answers with HTTP status 500"));
    let log = ca.server.stderr();
    assert!(log.contains("method=GET") && log.contains("illegal base64 data"), "{log}");
    assert_eq!(ca.operations(), 1);
    assert!(!ca.path("dev.cert.pem").exists());
}

fn no_queries() {
    let ca = StepCa::start();
    let output = run(ca.enrol("dev", CHALLENGE).arg("--legacy"));
    ca.must_have_issued("dev", &output);
    for query in ["getcert", "getcrl"] {
        let mut device = ca.device(query);
        device.arg("--legacy").arg("--cert").arg(ca.path("dev.cert.pem"));
        let output = run(device.arg("--key").arg(ca.path("dev.key.pem")));
        assert_eq!(output.status.code(), Some(1), "{query}: {}", text(&output));
        assert!(text(&output).contains("HTTP status 500"), "{query}: {}", text(&output));
        assert!(output.stdout.is_empty());
    }
}
