//! OpenSSL reads what is written here.

use crate::common::{Released, csr, device, ra, request, self_signed, verify};
use scep_keys::{AwsLc, SoftwareKey};
use scep_message::{FailInfo, LegacyAlgorithms, Limits, MessageType, ReplyChain, next_ca};
use scep_types::KeyAlgorithm;
use scep_types::tlv::{self, tag};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Runs openssl in `directory`; `None` when there is none.
pub(crate) fn openssl(test: &str, directory: &Path, arguments: &[&str]) -> Option<Output> {
    match Command::new("openssl").args(arguments).current_dir(directory).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{test}: openssl is missing");
            eprintln!("SKIPPED {test}: openssl is missing");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

pub(crate) fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn openssl_verifies_and_decrypts_a_success() {
    let test = "openssl_verifies_and_decrypts_a_success";
    let (message, _) = request(MessageType::PkcsReq, &csr());
    let (_, context) = verify(&message).unwrap().decrypt(&ra(), &AwsLc);
    let leaf = self_signed("leaf", &[9], &device().key, true);
    let reply = context.success(&ra(), &Released(leaf), ReplyChain::LeafOnly, &AwsLc).unwrap();

    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    fs::write(at.join("reply.der"), reply).unwrap();
    fs::write(at.join("device.der"), device().certificate.as_der()).unwrap();
    fs::write(at.join("key.der"), device().key.to_pkcs8_der().unwrap().expose()).unwrap();
    let verify = "cms -verify -noverify -binary -inform DER -in reply.der -out envelope.der";
    let steps = [
        verify,
        "x509 -inform DER -in device.der -out device.pem",
        "pkey -inform DER -in key.der -out key.pem",
        "cms -decrypt -inform DER -in envelope.der -recip device.pem -inkey key.pem -out certs.der",
        "pkcs7 -inform DER -in certs.der -print_certs",
    ];
    let mut last = None;
    for step in steps {
        let arguments: Vec<&str> = step.split(' ').collect();
        let Some(output) = openssl(test, at, &arguments) else { return };
        succeeded(&output);
        last = Some(output);
    }
    let printed = String::from_utf8(last.unwrap().stdout).unwrap();
    assert!(printed.contains("leaf"), "{printed}");
    assert_eq!(printed.matches("BEGIN CERTIFICATE").count(), 1);
}

#[test]
fn openssl_verifies_a_failure_and_a_pending() {
    let test = "openssl_verifies_a_failure_and_a_pending";
    let (message, _) = request(MessageType::PkcsReq, &csr());
    let (_, context) = verify(&message).unwrap().decrypt(&ra(), &AwsLc);
    let failure = context.failure(&ra(), FailInfo::BadRequest, "no", &AwsLc).unwrap();
    let pending = context.pending(&ra(), &AwsLc).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    for reply in [failure, pending] {
        fs::write(at.join("reply.der"), reply).unwrap();
        let verify = "cms -verify -noverify -binary -inform DER -in reply.der -out content";
        let arguments: Vec<&str> = verify.split(' ').collect();
        let Some(output) = openssl(test, at, &arguments) else { return };
        succeeded(&output);
        assert_eq!(fs::read(at.join("content")).unwrap(), b"");
    }
}

#[test]
fn openssl_reads_the_request_of_the_client() {
    let test = "openssl_reads_the_request_of_the_client";
    let plaintext = tlv::sequence(&[&tlv::encode(tag::UTF8_STRING, b"a request")]);
    let (message, _) = request(MessageType::PkcsReq, &plaintext);
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let ra_party = crate::common::ra_party();
    fs::write(at.join("message.der"), message).unwrap();
    fs::write(at.join("ra.der"), ra_party.certificate.as_der()).unwrap();
    fs::write(at.join("key.der"), ra_party.key.to_pkcs8_der().unwrap().expose()).unwrap();
    for step in [
        "cms -verify -noverify -binary -inform DER -in message.der -out envelope.der",
        "x509 -inform DER -in ra.der -out ra.pem",
        "pkey -inform DER -in key.der -out key.pem",
        "cms -decrypt -binary -inform DER -in envelope.der -recip ra.pem -inkey key.pem -out request.der",
    ] {
        let arguments: Vec<&str> = step.split(' ').collect();
        let Some(output) = openssl(test, at, &arguments) else { return };
        succeeded(&output);
    }
    assert_eq!(fs::read(at.join("request.der")).unwrap(), plaintext);
}

#[test]
fn openssl_verifies_the_next_ca_by_the_present_one() {
    let test = "openssl_verifies_the_next_ca_by_the_present_one";
    let present = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    let next = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    let certificate = self_signed("present", &[1], &present, true);
    let after = [self_signed("next", &[2], &next, true), self_signed("root", &[3], &next, true)];
    let answer = next_ca::response(&*present.signer(), &certificate, &after).unwrap();

    let (legacy, limits) = (LegacyAlgorithms::Refuse, Limits::default());
    let (read, signer) = next_ca::parse(&answer, &AwsLc, legacy, &limits).unwrap();
    assert_eq!((&read[..], &signer), (&after[..], present.public_key()));
    // A certificate of another key is not the signer's, and certificates alone are no answer.
    next_ca::response(&*next.signer(), &certificate, &after).unwrap_err();
    next_ca::parse(&scep_cms::certs_only(&after), &AwsLc, legacy, &limits).unwrap_err();

    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    fs::write(at.join("answer.der"), answer).unwrap();
    fs::write(at.join("present.der"), certificate.as_der()).unwrap();
    let mut last = None;
    for step in [
        "x509 -inform DER -in present.der -out present.pem",
        "cms -verify -nointern -certfile present.pem -CAfile present.pem -purpose any -partial_chain \
         -binary -inform DER -in answer.der -out certs.der",
        "pkcs7 -inform DER -in certs.der -print_certs",
    ] {
        let arguments: Vec<&str> = step.split_whitespace().collect();
        let Some(output) = openssl(test, at, &arguments) else { return };
        succeeded(&output);
        last = Some(output);
    }
    let printed = String::from_utf8(last.unwrap().stdout).unwrap();
    assert_eq!(printed.matches("BEGIN CERTIFICATE").count(), 2, "{printed}");
}
