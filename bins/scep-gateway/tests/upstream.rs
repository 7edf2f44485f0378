//! A gateway whose CA is another SCEP server: its process, the other one's, and devices.
//!
//! A harness of its own: where step-ca or OpenSSL is missing its test is listed as ignored; where the environment
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
use scep_keys::{SoftwareKey, read_certificates};
use scep_testkit::process::peers::{Peer, trial};
use scep_testkit::process::step_ca::{COPY, StepCa, program};
use scep_testkit::process::{must, run, text};
use scep_types::{CertificateDer, KeyAlgorithm};
use std::path::Path;
use std::process::{Command, ExitCode};
use support::{Gateway, enrol, identity};

/// Puts another SCEP server in the place of the gateway's own CA.
fn put_before(gateway: &Gateway, url: &str, more: &str) {
    let key = gateway.file("gw/upstream.key.pem");
    SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).unwrap().write_new(&key).unwrap();
    std::fs::remove_file(gateway.file("gw/ca.key.pem")).unwrap();
    gateway.configure(|text| {
        let start = text.find("[ca]").unwrap();
        let end = start + text[start..].find("\n[crl]").unwrap();
        let ca = format!(
            "[ca]\nkind = \"scep\"\nurl = \"{url}\"\ncertificate = \"ca.cert.pem\"\n\
             key = \"upstream.key.pem\"\n{more}\n"
        );
        let ra = text[end..].replace("[ra]\n", "[ra]\nrenewal = \"manual\"\n");
        format!("{}{ca}{ra}", &text[..start])
    });
}

fn issuer(gateway: &Gateway) -> CertificateDer {
    read_certificates(&gateway.file("gw/ca.cert.pem")).unwrap().remove(0)
}

fn block<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(future)
}

fn a_gateway_in_front_of_another() {
    let mut upper = Gateway::init();
    // It opens the same challenges, and has its RA from the same CA.
    let mut gateway = upper.twin();
    put_before(&gateway, &format!("http://{}/certsrv/mscep/mscep.dll", upper.address()), "");
    let checked = run(&mut gateway.command(&["check-config"]));
    assert!(checked.status.success(), "{}", text(&checked));
    gateway.start(&[]);
    block(async {
        // There is nobody behind it yet: it says so, and nothing is spent.
        let (client, known) = gateway.client().await;
        let device = gateway.device();
        let error = enrol(&client, &known, &device.request(), &identity()).await.unwrap_err();
        assert!(matches!(error, ClientError::Refused { .. }), "{error}");
        assert!(gateway.log().contains("CaUnavailable"), "{}", gateway.log());
        upper.start(&[]);
        let certificate = enrol(&client, &known, &device.request(), &identity()).await.unwrap();
        assert_eq!(certificate.issuer_der(), issuer(&gateway).subject_der());
        // A retry gets the same one.
        let again = enrol(&client, &known, &device.request(), &identity()).await.unwrap();
        assert_eq!(again, certificate);
        // Who is refused here never gets there.
        let before = upper.log();
        let wrong = gateway.device();
        let error = enrol(&client, &known, &wrong.request_for("CN=other"), &identity()).await;
        assert!(matches!(error, Err(ClientError::Refused { .. })), "{error:?}");
        assert_eq!(upper.log(), before);
        // Its RA's certificates are not to be had there.
        let renewed = run(&mut gateway.command(&["renew-ra"]));
        assert!(!renewed.status.success(), "{}", text(&renewed));
        assert!(text(&renewed).contains("administrator of its CA"), "{}", text(&renewed));
    });
    gateway.stop();
    upper.stop();
}

/// Has the CA's administrator certify the RA's keys, by hand.
fn certify(server: &StepCa, folder: &Path, name: &str, usage: &str) {
    let openssl = |arguments: &[&str]| {
        must(Command::new("openssl").current_dir(folder).args(arguments));
    };
    let (key, request) = (format!("{name}.key.pem"), format!("{name}.csr"));
    let (subject, certificate) = (format!("/CN={name}"), format!("{name}.cert.pem"));
    std::fs::write(
        folder.join("ra.cnf"),
        format!("keyUsage = critical, {usage}\nbasicConstraints = CA:FALSE\n"),
    )
    .unwrap();
    openssl(&["req", "-new", "-key", &key, "-subj", &subject, "-out", &request]);
    let (ca, ca_key) = (server.file("intermediate.crt"), server.file("intermediate.key"));
    openssl(&[
        "x509",
        "-req",
        "-in",
        &request,
        "-CA",
        ca.to_str().unwrap(),
        "-CAkey",
        ca_key.to_str().unwrap(),
        "-CAcreateserial",
        "-days",
        "365",
        "-extfile",
        "ra.cnf",
        "-out",
        &certificate,
    ]);
}

/// step-ca compares the challenge with its own, so this one is made for one device.
fn a_gateway_in_front_of_step_ca() {
    let mut gateway = Gateway::init();
    let device = gateway.device();
    let server = StepCa::start(device.challenge(), Some(COPY));
    std::fs::copy(server.chain(), gateway.file("gw/ca.cert.pem")).unwrap();
    for (name, usage) in [("ra-sign", "digitalSignature"), ("ra-encrypt", "keyEncipherment")] {
        certify(&server, &gateway.file("gw"), name, usage);
    }
    put_before(&gateway, &server.url(), "legacy = true");
    let rules = gateway.file("gw/site-rules.toml");
    let text = std::fs::read_to_string(&rules).unwrap();
    // Into every certificate it writes which of its provisioners has issued it.
    let allowed = format!("ca_may_add = [\"1.3.6.1.4.1.37476.9000.64.1\"]\n{text}");
    std::fs::write(&rules, allowed).unwrap();
    gateway.start(&[]);
    block(async {
        let (client, known) = gateway.client().await;
        let certificate = enrol(&client, &known, &device.request(), &identity()).await.unwrap();
        assert_eq!(certificate.issuer_der(), issuer(&gateway).subject_der());
        assert_eq!(certificate.spki(), device.public_key());
        // Another device has another challenge, which that server refuses: nothing was issued.
        let other = gateway.device();
        let error = enrol(&client, &known, &other.request(), &identity()).await.unwrap_err();
        assert!(matches!(error, ClientError::Refused { .. }), "{error}");
        let log = gateway.log();
        assert!(log.contains("CaUnavailable") && log.contains("the server refuses"), "{log}");
    });
    gateway.stop();
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = vec![
        trial("a_gateway_in_front_of_another", &[], a_gateway_in_front_of_another),
        trial(
            "a_gateway_in_front_of_step_ca",
            &[Peer::file(program()), Peer::program("openssl")],
            a_gateway_in_front_of_step_ca,
        ),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}
