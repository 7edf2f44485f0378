//! sscep's queries, against the gateway's process: GetCert, GetCRL, GetNextCACert.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

#[allow(dead_code, reason = "the crash tests use the rest")]
mod support;

use scep_keys::{SoftwareKey, certificates_pem, read_certificates};
use scep_testkit::house::device_certificate;
use scep_testkit::keys;
use scep_testkit::process::{http, must, peers, run, temporary, text, wait_for};
use scep_testkit::programs::{available, skip};
use scep_types::{CertificateDer, CrlDer};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::{Gateway, enrol, identity};

/// sscep, if it is there: no package has it, so that `.ci/long` builds it, and the gate does without.
fn sscep(test: &str) -> Option<PathBuf> {
    let program = peers::folder().join("sscep");
    if !program.is_file() {
        if std::env::var("CI").as_deref() != Ok("true") {
            skip(test, "sscep");
        }
        return None;
    }
    available("openssl", test).then_some(program)
}

/// A folder with the gateway's certificates as sscep has fetched them, and what runs sscep there.
struct Asking {
    program: PathBuf,
    folder: tempfile::TempDir,
    url: String,
}

impl Asking {
    fn new(program: PathBuf, gateway: &Gateway) -> Self {
        let url = format!("http://{}/", gateway.address());
        let asking = Self { program, folder: temporary(), url };
        let got = asking.run("getca", &["-c", "ca.pem"]);
        assert!(got.status.success(), "{}", text(&got));
        asking
    }

    fn run(&self, operation: &str, options: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.current_dir(self.folder.path()).args([operation, "-u", &self.url]);
        run(command.args(options))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A key and its certificate, for `-k` and `-l`.
    fn identity(&self, name: &str, key: &SoftwareKey, certificate: &CertificateDer) {
        let file = |ending: &str| self.file(&format!("{name}.{ending}"));
        std::fs::write(file("pem"), certificates_pem(std::slice::from_ref(certificate))).unwrap();
        std::fs::write(file("der"), key.to_pkcs8_der().unwrap().expose()).unwrap();
        let mut convert = Command::new("openssl");
        convert.args(["pkey", "-inform", "DER", "-in"]).arg(file("der"));
        must(convert.arg("-out").arg(file("key")));
    }

    /// Asks for a certificate of this CA by its serial number.
    fn certificate(&self, who: &str, ca: &Path, serial: &str) -> Output {
        let (key, local) = (format!("{who}.key"), format!("{who}.pem"));
        let ca = ca.to_str().unwrap();
        let common = ["-c", "ca.pem", "-S", "sha256", "-E", "aes", "-w", "got.pem"];
        let options = ["-k", &key, "-l", &local, "-O", ca, "-s", serial];
        self.run("getcert", &[&common[..], &options[..]].concat())
    }
}

/// As sscep takes serial numbers: in decimal digits.
fn decimal(certificate: &CertificateDer) -> String {
    let mut digits = vec![0u8];
    for octet in certificate.serial_content() {
        let mut carry = u32::from(*octet);
        for digit in &mut digits {
            carry += u32::from(*digit) * 256;
            *digit = u8::try_from(carry % 10).unwrap();
            carry /= 10;
        }
        while carry > 0 {
            digits.push(u8::try_from(carry % 10).unwrap());
            carry /= 10;
        }
    }
    digits.iter().rev().map(|digit| char::from(b'0' + digit)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sscep_gets_certificates_and_the_crl() {
    let Some(program) = sscep("sscep_gets_certificates_and_the_crl") else { return };
    let mut gateway = Gateway::init();
    gateway.start(&[]);
    let (client, server) = gateway.client().await;
    let issued = enrol(&client, &server, &gateway.device().request(), &identity()).await.unwrap();
    let asking = Asking::new(program, &gateway);
    let (key, ca) = (keys::rsa2048(2), gateway.file("gw/ca.cert.pem"));
    asking.identity("device", &key, &device_certificate(&key));
    let root = read_certificates(&ca).unwrap().remove(0);

    let got = asking.certificate("device", &ca, &decimal(&root));
    assert!(got.status.success(), "{}\n{}", text(&got), gateway.log());
    assert_eq!(read_certificates(&asking.file("got.pem")).unwrap(), [root]);

    // A device's certificate is not for whoever knows its number; what it is told is badCertId.
    let refused = asking.certificate("device", &ca, &decimal(&issued));
    assert!(text(&refused).contains("No certificate could be identified"), "{}", text(&refused));
    assert!(gateway.log().contains("asked for by another than its device"), "{}", gateway.log());

    // The CRL of the issuer of any certificate.
    wait_for("a first CRL", || {
        (http(gateway.address(), "GET", "/crl", b"").status == 200).then_some(())
    });
    let leaf = gateway.file("gw/ra-sign.cert.pem");
    let common = ["-c", "ca.pem", "-S", "sha256", "-E", "aes", "-k", "device.key", "-l"];
    let options = ["device.pem", "-w", "got.crl", "-O", leaf.to_str().unwrap()];
    let got = asking.run("getcrl", &[&common[..], &options[..]].concat());
    assert!(got.status.success(), "{}\n{}", text(&got), gateway.log());
    let mut convert = Command::new("openssl");
    convert.args(["crl", "-outform", "DER", "-in"]).arg(asking.file("got.crl"));
    let crl = CrlDer::parse(&must(&mut convert)).unwrap();
    assert_eq!(crl.issuer_der(), issued.issuer_der());
}

#[test]
fn sscep_is_told_of_the_next_ca() {
    let Some(program) = sscep("sscep_is_told_of_the_next_ca") else { return };
    let mut gateway = Gateway::init();
    must(gateway.command(&["ca", "prepare"]).args(["--name", "g2"]));
    let section = std::fs::read_to_string(gateway.file("gw/g2/authority.toml")).unwrap();
    gateway.configure(|text| format!("{text}\n{section}"));
    gateway.start(&[]);
    let asking = Asking::new(program, &gateway);
    let caps = asking.run("getcaps", &[]);
    assert!(text(&caps).contains("GetNextCACert"), "{}", text(&caps));
    let present = gateway.file("gw/ca.cert.pem");
    let got = asking.run("getnextca", &["-C", present.to_str().unwrap(), "-c", "next.pem", "-v"]);
    assert!(got.status.success(), "{}\n{}", text(&got), gateway.log());
    assert!(text(&got).contains("signature ok"), "{}", text(&got));
    let next = read_certificates(&gateway.file("gw/g2/ca.cert.pem")).unwrap();
    assert_eq!(read_certificates(&asking.file("next.pem-0")).unwrap(), next);
}
