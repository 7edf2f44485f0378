//! sscep: polls as often as it is told to, and resumes with the same key, request and transaction.

use crate::support::{
    certificate_must_be, decide_on_the_one, log_has_no_secrets, manual, openssl_verify, profile,
};
use libtest_mimic::Trial;
use scep_testkit::process::peers::{Peer, built_by_hand, folder, trial};
use scep_testkit::process::{Site, SiteOptions, must, run, temporary, text};
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

pub(crate) fn trials() -> Vec<Trial> {
    let peers = || [Peer::file(folder().join("sscep")), Peer::program("openssl")];
    let trials = vec![
        trial("quirk_49_sscep_polls_until_a_person_has_approved", &peers(), polls),
        trial("quirk_49_sscep_resumes_what_was_approved_meanwhile", &peers(), resumes),
    ];
    built_by_hand("sscep", trials)
}

const DNS: &str = "dev.example.org";

/// A site, and a folder with its certificates as sscep has fetched them, a key and a request with a challenge of a profile
/// that wants a person's approval.
struct Enrolment {
    site: Site,
    dir: TempDir,
}

impl Enrolment {
    fn new() -> Self {
        let site = Site::start(&SiteOptions::default());
        let enrolment = Self { site, dir: temporary() };
        must(enrolment.sscep("getca").args(["-c", "ca.pem"]));
        let profile = manual(&profile("O=Example, CN=dev", &[DNS]));
        let challenge = enrolment.site.mint(&profile, "dev", &[]);
        let config = format!(
            "[req]\nprompt=no\ndistinguished_name=dn\nattributes=attributes\nreq_extensions=v3\n\
             [dn]\nO=Example\nCN=dev\n[attributes]\nchallengePassword={challenge}\n\
             [v3]\nsubjectAltName=DNS:{DNS}\n"
        );
        std::fs::write(enrolment.path("request.cnf"), config).unwrap();
        let mut command = Command::new("openssl");
        command.current_dir(enrolment.dir.path()).args(["req", "-new", "-newkey", "rsa:2048"]);
        command.args(["-nodes", "-keyout", "key.pem", "-out", "request.pem"]);
        must(command.args(["-config", "request.cnf"]));
        enrolment
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sscep(&self, operation: &str) -> Command {
        let mut command = Command::new(folder().join("sscep"));
        command.current_dir(self.dir.path()).args([operation, "-u", &self.site.url("/")]);
        command
    }

    fn enroll(&self, polls: &str) -> Command {
        // Of the files that `getca` has written, the first has the key to encrypt to, the second the one that signs.
        let mut command = self.sscep("enroll");
        command.args(["-c", "ca.pem-1", "-e", "ca.pem-0", "-k", "key.pem", "-r", "request.pem"]);
        command.args(["-l", "cert.pem", "-E", "aes", "-S", "sha256", "-t", "1", "-n", polls]);
        command
    }

    fn must_have_certificate(&self) {
        let certificate = self.path("cert.pem");
        openssl_verify(&self.site, &certificate);
        certificate_must_be(&certificate, "CN=dev,O=Example", &[DNS.to_owned()]);
        let issued = self.site.log_lines(&["outcome=Issued"]);
        assert_eq!(issued.len(), 1, "{}", self.site.log());
        assert!(issued[0].contains("message_type=CertPoll"), "{}", issued[0]);
        log_has_no_secrets(&self.site, &[]);
    }
}

fn polls() {
    let enrolment = Enrolment::new();
    let mut command = enrolment.enroll("60");
    let sscep = std::thread::spawn(move || run(&mut command));
    decide_on_the_one(&enrolment.site, 2, "approve");
    let output = sscep.join().unwrap();
    assert!(output.status.success(), "{}\n{}", text(&output), enrolment.site.log());
    enrolment.must_have_certificate();
}

fn resumes() {
    let enrolment = Enrolment::new();
    let output = run(&mut enrolment.enroll("1"));
    assert!(!output.status.success(), "{}", text(&output));
    assert!(!enrolment.path("cert.pem").exists());
    decide_on_the_one(&enrolment.site, 1, "approve");
    let output = run(enrolment.enroll("5").arg("-R"));
    assert!(output.status.success(), "{}\n{}", text(&output), enrolment.site.log());
    enrolment.must_have_certificate();
}
