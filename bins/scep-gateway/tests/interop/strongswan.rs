//! strongSwan's `pki`: RSA, POST, a request whose attributes are not in DER order.

use crate::support::{
    PRESETS, certificate_must_be, decide_on_the_one, log_has_no_secrets, manual, names,
    openssl_verify, preset_site, profile, renewable, renewing_site,
};
use libtest_mimic::Trial;
use scep_testkit::process::peers::{Peer, trial};
use scep_testkit::process::{Site, SiteOptions, must, run, temporary, text};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

pub(crate) fn trials() -> Vec<Trial> {
    let peers = || [Peer::program("pki"), Peer::program("openssl")];
    vec![
        trial("strongswan_fetches_ca_and_ra", &peers(), fetches_ca_and_ra),
        trial("strongswan_enrols", &peers(), enrols),
        trial("strongswan_enrols_at_every_preset", &peers(), enrols_at_every_preset),
        trial("quirk_37_strongswan_enrols_with_a_long_challenge", &peers(), long_challenge),
        trial("strongswan_renews_with_a_fresh_challenge", &peers(), renews),
        trial("quirk_53_strongswan_renews_without_a_challenge", &peers(), renews_by_certificate),
        trial("quirk_51_strongswan_renews_with_the_same_key", &peers(), renews_with_the_same_key),
        trial("quirk_49_strongswan_polls_until_a_person_has_approved", &peers(), polls),
        trial("strongswan_is_told_that_a_person_has_denied", &peers(), denied),
        trial("attack_01_strongswan_is_refused_another_name", &peers(), another_name),
    ]
}

const SUBJECT: &str = "C=CH, O=Example, CN=dev";

/// A site, and a folder in which `pki` has fetched the certificates of its CA and RA.
struct Enrolment {
    site: Site,
    dir: TempDir,
}

impl Enrolment {
    fn new() -> Self {
        Self::at(Site::start(&SiteOptions::default()))
    }

    fn at(site: Site) -> Self {
        let enrolment = Self { site, dir: temporary() };
        let mut command = Command::new("pki");
        command.args(["--scepca", "--outform", "pem", "--url", &enrolment.site.url("/")]);
        command.arg("--caout").arg(enrolment.path("ca.pem"));
        must(command.arg("--raout").arg(enrolment.path("ra.pem")));
        enrolment
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// RA certificates are numbered when there are several; which is for what, their key usage says.
    fn ra(&self, usage: &str) -> PathBuf {
        let mut files: Vec<PathBuf> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.retain(|file| file.file_name().unwrap().to_str().unwrap().starts_with("ra"));
        let found = files.iter().find(|file| names(file).contains(usage));
        found.unwrap_or_else(|| panic!("no RA certificate for {usage} in {files:?}")).clone()
    }

    fn key(&self, name: &str) -> PathBuf {
        let mut command = Command::new("pki");
        command.args(["--gen", "--type", "rsa", "--size", "2048", "--outform", "pem"]);
        let path = self.path(name);
        std::fs::write(&path, must(&mut command)).unwrap();
        path
    }

    fn pki_scep(&self, key: &Path, subject: &str, sans: &[String], challenge: &str) -> Command {
        let mut command = self.pki_scep_bare(key, subject, sans);
        command.args(["--password", challenge]);
        command
    }

    /// Without a challenge.
    fn pki_scep_bare(&self, key: &Path, subject: &str, sans: &[String]) -> Command {
        let mut command = Command::new("pki");
        command.args(["--scep", "--outform", "pem", "--url", &self.site.url("/")]);
        command.arg("--in").arg(key).args(["--dn", subject]);
        command.arg("--cacert-enc").arg(self.ra("Key Encipherment"));
        command.arg("--cacert-sig").arg(self.ra("Digital Signature"));
        command.arg("--cacert").arg(self.path("ca.pem"));
        for san in sans {
            command.args(["--san", san]);
        }
        command
    }

    /// What `pki` wrote, as a certificate of its own file.
    fn certificate(&self, name: &str, output: &Output) -> PathBuf {
        assert!(output.status.success(), "{}\n{}", text(output), self.site.log());
        let path = self.path(name);
        std::fs::write(&path, &output.stdout).unwrap();
        openssl_verify(&self.site, &path);
        path
    }
}

fn fetches_ca_and_ra() {
    let enrolment = Enrolment::new();
    let der = |file: &Path| {
        must(Command::new("openssl").args(["x509", "-outform", "DER", "-in"]).arg(file))
    };
    assert_eq!(der(&enrolment.path("ca.pem")), der(&enrolment.site.ca_certificate()));
    for (usage, name) in
        [("Key Encipherment", "ra-encrypt.cert.pem"), ("Digital Signature", "ra-sign.cert.pem")]
    {
        assert_eq!(der(&enrolment.ra(usage)), der(&enrolment.site.file(name)), "{usage}");
    }
}

fn enrols() {
    let enrolment = Enrolment::new();
    let challenge = enrolment.site.mint(&profile(SUBJECT, &["dev.example.org"]), "dev", &[]);
    assert!((800..1500).contains(&challenge.len()), "{}", challenge.len());
    let key = enrolment.key("key.pem");
    let sans = ["dev.example.org".to_owned()];
    let output = run(&mut enrolment.pki_scep(&key, SUBJECT, &sans, &challenge));
    let certificate = enrolment.certificate("cert.pem", &output);
    certificate_must_be(&certificate, "CN=dev,O=Example,C=CH", &sans);
    assert_eq!(enrolment.site.log_lines(&["outcome=Issued", "device=dev"]).len(), 1);
    log_has_no_secrets(&enrolment.site, &[]);
}

/// What each preset shows by GetCACert, and how it answers, with an RA of two keys and of one.
fn enrols_at_every_preset() {
    for (preset, options) in PRESETS {
        let enrolment = Enrolment::at(preset_site(preset, options));
        let challenge = enrolment.site.mint(&profile(SUBJECT, &["dev.example.org"]), "dev", &[]);
        let key = enrolment.key("key.pem");
        let sans = ["dev.example.org".to_owned()];
        let output = run(&mut enrolment.pki_scep(&key, SUBJECT, &sans, &challenge));
        let certificate = enrolment.certificate("cert.pem", &output);
        certificate_must_be(&certificate, "CN=dev,O=Example,C=CH", &sans);
        let issued = enrolment.site.log_lines(&["outcome=Issued", &format!("endpoint={preset}")]);
        assert_eq!(issued.len(), 1, "{preset} {options:?}: {}", enrolment.site.log());
    }
}

fn long_challenge() {
    let enrolment = Enrolment::new();
    // Each about as long as names get, so many that the challenge is longer than a page of memory.
    let label = "l".repeat(60);
    let sans: Vec<String> = (10..58).map(|n| format!("{n}.{label}.example.org")).collect();
    let borrowed: Vec<&str> = sans.iter().map(String::as_str).collect();
    let challenge = enrolment.site.mint(&profile(SUBJECT, &borrowed), "dev", &[]);
    assert!(challenge.len() > 4096, "{}", challenge.len());
    let key = enrolment.key("key.pem");
    let output = run(&mut enrolment.pki_scep(&key, SUBJECT, &sans, &challenge));
    let certificate = enrolment.certificate("cert.pem", &output);
    certificate_must_be(&certificate, "CN=dev,O=Example,C=CH", &sans);
    log_has_no_secrets(&enrolment.site, &[]);
}

fn renews() {
    let enrolment = Enrolment::new();
    let sans = ["dev.example.org".to_owned()];
    let mint = || enrolment.site.mint(&profile(SUBJECT, &["dev.example.org"]), "dev", &[]);
    let old_key = enrolment.key("old.key.pem");
    let output = run(&mut enrolment.pki_scep(&old_key, SUBJECT, &sans, &mint()));
    let old = enrolment.certificate("old.pem", &output);

    let new_key = enrolment.key("new.key.pem");
    let mut command = enrolment.pki_scep(&new_key, SUBJECT, &sans, &mint());
    command.arg("--cert").arg(&old).arg("--key").arg(&old_key);
    let output = run(&mut command);
    let new = enrolment.certificate("new.pem", &output);
    certificate_must_be(&new, "CN=dev,O=Example,C=CH", &sans);
    let key_of = |arguments: &[&str], file: &Path| {
        must(Command::new("openssl").args(arguments).arg("-in").arg(file))
    };
    assert_eq!(
        key_of(&["x509", "-noout", "-pubkey"], &new),
        key_of(&["pkey", "-pubout"], &new_key),
        "the new certificate is for the new key"
    );
    let renewals = enrolment.site.log_lines(&["outcome=Issued", "message_type=RenewalReq"]);
    assert_eq!(renewals.len(), 1, "{}", enrolment.site.log());
    log_has_no_secrets(&enrolment.site, &[]);
}

/// A RenewalReq without a challenge, which the old certificate signs.
fn renews_by_certificate() {
    let enrolment = Enrolment::at(renewing_site(false));
    let sans = ["dev.example.org".to_owned()];
    let challenge = enrolment.site.mint(&renewable(SUBJECT, &["dev.example.org"]), "dev", &[]);
    let old_key = enrolment.key("old.key.pem");
    let output = run(&mut enrolment.pki_scep(&old_key, SUBJECT, &sans, &challenge));
    let old = enrolment.certificate("old.pem", &output);
    let renew = |key: &Path| {
        let mut command = enrolment.pki_scep_bare(key, SUBJECT, &sans);
        run(command.arg("--cert").arg(&old).arg("--key").arg(&old_key))
    };
    let new_key = enrolment.key("new.key.pem");
    let new = enrolment.certificate("new.pem", &renew(&new_key));
    certificate_must_be(&new, "CN=dev,O=Example,C=CH", &sans);
    let renewals = enrolment.site.log_lines(&["outcome=Issued", "message_type=RenewalReq"]);
    assert_eq!(renewals.len(), 1, "{}", enrolment.site.log());
    assert!(renewals[0].contains("device=dev"), "{}", renewals[0]);
    // The same request again, in a message of its own: the same certificate. With another key: the old one has its successor.
    let again = enrolment.certificate("again.pem", &renew(&new_key));
    assert_eq!(std::fs::read(again).unwrap(), std::fs::read(new).unwrap());
    let output = renew(&enrolment.key("third.key.pem"));
    assert!(!output.status.success(), "{}", text(&output));
    let refused = enrolment.site.log_lines(&["reason=ChallengeAlreadyUsed", "device=dev"]);
    assert_eq!(refused.len(), 1, "{}", enrolment.site.log());
    // With its own key, which this site does not want.
    let output = renew(&old_key);
    assert!(!output.status.success(), "{}", text(&output));
    let refused = enrolment.site.log_lines(&["reason=RenewalNotAllowed", "renew_with_same_key"]);
    assert_eq!(refused.len(), 1, "{}", enrolment.site.log());
    log_has_no_secrets(&enrolment.site, &[]);
}

/// strongSwan makes the transactionID of the key: it is that of the enrolment, and the certificate is a new one.
fn renews_with_the_same_key() {
    let enrolment = Enrolment::at(renewing_site(true));
    let sans = ["dev.example.org".to_owned()];
    let challenge = enrolment.site.mint(&renewable(SUBJECT, &["dev.example.org"]), "dev", &[]);
    let key = enrolment.key("key.pem");
    let output = run(&mut enrolment.pki_scep(&key, SUBJECT, &sans, &challenge));
    let mut certificates = vec![enrolment.certificate("0.pem", &output)];
    for generation in 1..=2 {
        let mut command = enrolment.pki_scep_bare(&key, SUBJECT, &sans);
        let output =
            run(command.arg("--cert").arg(certificates.last().unwrap()).arg("--key").arg(&key));
        certificates.push(enrolment.certificate(&format!("{generation}.pem"), &output));
    }
    let read = |at: usize| std::fs::read(&certificates[at]).unwrap();
    assert!(read(0) != read(1) && read(1) != read(2) && read(0) != read(2));
    let issued = enrolment.site.log_lines(&["outcome=Issued"]);
    let transaction = |line: &str| {
        let at = line.find("transaction=").expect("a transactionID");
        line[at..].split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(issued.len(), 3, "{}", enrolment.site.log());
    assert!(issued.iter().all(|line| transaction(line) == transaction(&issued[0])), "{issued:?}");
    log_has_no_secrets(&enrolment.site, &[]);
}

/// `pki` at work, which was told once to wait and once to go on waiting, and what a person has said by then.
fn waiting(word: &str) -> (Enrolment, Output) {
    let enrolment = Enrolment::new();
    let profile = manual(&profile(SUBJECT, &["dev.example.org"]));
    let challenge = enrolment.site.mint(&profile, "dev", &[]);
    let key = enrolment.key("key.pem");
    let mut command =
        enrolment.pki_scep(&key, SUBJECT, &["dev.example.org".to_owned()], &challenge);
    command.args(["--interval", "1s", "--maxpolltime", "60s"]);
    let pki = std::thread::spawn(move || run(&mut command));
    decide_on_the_one(&enrolment.site, 2, word);
    let output = pki.join().unwrap();
    (enrolment, output)
}

fn polls() {
    let (enrolment, output) = waiting("approve");
    let certificate = enrolment.certificate("cert.pem", &output);
    let sans = ["dev.example.org".to_owned()];
    certificate_must_be(&certificate, "CN=dev,O=Example,C=CH", &sans);
    let site = &enrolment.site;
    let polled = site.log_lines(&["outcome=Pending", "message_type=CertPoll"]);
    assert!(!polled.is_empty(), "{}", site.log());
    let issued = site.log_lines(&["outcome=Issued"]);
    assert_eq!(issued.len(), 1, "{}", site.log());
    assert!(issued[0].contains("message_type=CertPoll"), "{}", issued[0]);
    log_has_no_secrets(site, &[]);
}

fn denied() {
    let (enrolment, output) = waiting("deny");
    assert!(!output.status.success(), "{}", text(&output));
    assert!(output.stdout.is_empty(), "{}", text(&output));
    let site = &enrolment.site;
    let refused = site.log_lines(&["reason=ApprovalDenied", "message_type=CertPoll"]);
    assert_eq!(refused.len(), 1, "{}", site.log());
    assert!(site.log_lines(&["outcome=Issued"]).is_empty());
    log_has_no_secrets(site, &[]);
}

fn another_name() {
    let enrolment = Enrolment::new();
    let sans = ["dev.example.org".to_owned()];
    let challenge = enrolment.site.mint(&profile(SUBJECT, &["dev.example.org"]), "dev", &[]);
    let key = enrolment.key("key.pem");
    let output = run(&mut enrolment.pki_scep(&key, "C=CH, O=Example, CN=admin", &sans, &challenge));
    assert!(!output.status.success(), "{}", text(&output));
    assert!(output.stdout.is_empty(), "{}", text(&output));
    let refusals = enrolment.site.log_lines(&["reason=SubjectNameMismatch", "CN=dev", "CN=admin"]);
    assert_eq!(refusals.len(), 1, "{}", enrolment.site.log());
    assert!(enrolment.site.log_lines(&["outcome=Issued"]).is_empty());
    // The refusal has spent nothing: with the right name the same challenge is good.
    let output = run(&mut enrolment.pki_scep(&key, SUBJECT, &sans, &challenge));
    enrolment.certificate("cert.pem", &output);
    log_has_no_secrets(&enrolment.site, &[]);
}
