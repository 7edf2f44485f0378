//! `scep-device` as a user sees it: exit codes, what it says, what it writes and what it leaves alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

use scep_testkit::process::{
    Site, SiteOptions, binary, free_address, must, run, temporary, text, wait_for,
};
use scep_testkit::programs::available;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

const PROFILE: &str = r#"
id = "devices"
for = "device"
subject = "C=CH, O=Example, CN={{DeviceName}}"
subject_alt_names = [{ dns = "{{DeviceName}}.example.org" }]
key_usage = ["digitalSignature", "keyEncipherment"]
extended_key_usages = ["clientAuth"]
key_algorithms = ["rsa2048", "p256", "p384"]
validity = "90d"
"#;

/// A gateway, and a folder of a user.
struct Desk {
    site: Site,
    dir: TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { site: Site::start(&SiteOptions::default()), dir: temporary() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn challenge(&self) -> String {
        self.site.mint(PROFILE, "laptop", &[("DeviceName", "laptop")])
    }

    /// A command that knows the CA. It runs in the user's folder: names of files are relative.
    fn device(&self, command: &str) -> Command {
        let mut device = self.bare(command);
        device.args(["--url", &self.site.url("/scep"), "--ca"]).arg(self.site.ca_certificate());
        device
    }

    fn bare(&self, command: &str) -> Command {
        let mut device = Command::new(env!("CARGO_BIN_EXE_scep-device"));
        device.env_remove("SCEP_CHALLENGE").current_dir(self.dir.path()).arg(command);
        device
    }

    /// `enrol` for what the profile says; key, certificate and chain in files of the folder.
    fn enrol(&self, challenge: &str) -> Command {
        let mut device = self.device("enrol");
        device.args(["--subject", "C=CH, O=Example, CN=laptop", "--dns", "laptop.example.org"]);
        device.args(["--key", "key.pem", "--out", "cert.pem", "--chain-out", "chain.pem"]);
        device.args(["--challenge", challenge]);
        device
    }

    /// Enrols, for what comes after.
    fn enrolled(&self) {
        let output = run(&mut self.enrol(&self.challenge()));
        assert_eq!(output.status.code(), Some(0), "{}\n{}", text(&output), self.site.log());
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Lines of the gateway's log of PKIOperations: what was sent with a key behind it.
    fn operations(&self) -> usize {
        self.site.log_lines(&["PKIOperation"]).len()
    }
}

/// The exit code, nothing on standard output, and these lines on standard error.
#[track_caller]
fn must_say(output: &Output, code: i32, lines: &[&str]) {
    assert_eq!(output.status.code(), Some(code), "{}", text(output));
    assert!(output.stdout.is_empty(), "{}", text(output));
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(said.len(), lines.len(), "{said:#?}");
    for (said, pattern) in said.iter().zip(lines) {
        assert!(fits(said, pattern), "said:    {said}\npattern: {pattern}");
    }
}

/// Whether a text has a pattern's pieces in order, `*` standing for anything.
fn fits(text: &str, pattern: &str) -> bool {
    let mut rest = text;
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(after) = rest.strip_prefix(first) else { return false };
    rest = after;
    let pieces: Vec<&str> = pieces.collect();
    for (n, piece) in pieces.iter().enumerate() {
        let last = n + 1 == pieces.len();
        let found =
            if last { rest.strip_suffix(piece).map(|_| rest.len()) } else { rest.find(piece) };
        let Some(at) = found else { return false };
        rest = if last { "" } else { &rest[at + piece.len()..] };
    }
    rest.is_empty()
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn openssl_verifies(desk: &Desk, name: &str) {
    if !available("openssl", "the look of OpenSSL at a certificate") {
        return;
    }
    let mut openssl = Command::new("openssl");
    openssl.args(["verify", "-CAfile"]).arg(desk.site.ca_certificate()).arg(desk.path(name));
    must(&mut openssl);
}

#[test]
fn patterns_fit_whole_lines() {
    assert!(fits("serial 12, valid", "serial *, valid") && fits("a", "a") && fits("abc", "*"));
    assert!(!fits("serial 12, valid until", "serial *, valid") && !fits("ab", "a"));
    assert!(!fits("abc", "a*d") && !fits("abc", "b*"));
}

#[test]
fn an_enrolment_writes_key_certificate_and_chain() {
    let desk = Desk::new();
    let output = run(&mut desk.enrol(&desk.challenge()));
    must_say(&output, 0, &["issued: serial *, valid until 20*Z, written to cert.pem"]);
    assert_eq!(desk.files(), ["cert.pem", "chain.pem", "key.pem"]);
    #[cfg(unix)]
    assert_eq!(mode(&desk.path("key.pem")), 0o600);
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(desk.path("chain.pem")), read(desk.site.ca_certificate()));
    let log = desk.site.log_lines(&["outcome=Issued", "device=laptop"]);
    assert_eq!(log.len(), 1, "{}", desk.site.log());
    // The serial number is the one that the operator reads.
    let serial = log[0].split("serial=").nth(1).unwrap().split(' ').next().unwrap();
    assert!(text(&output).contains(&format!("serial {serial},")), "{} {serial}", text(&output));
}

#[test]
fn a_challenge_comes_from_a_file_or_standard_input_or_the_environment() {
    let desk = Desk::new();
    std::fs::write(desk.path("challenge.txt"), format!("{}\n", desk.challenge())).unwrap();
    let enrol = |name: &str| {
        let mut device = desk.device("enrol");
        device.args(["--subject", "C=CH, O=Example, CN=laptop", "--dns", "laptop.example.org"]);
        device.args(["--key", "key.pem", "--out", name]);
        device
    };
    let output = run(enrol("file.pem").args(["--challenge-file", "challenge.txt"]));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));

    let mut device = enrol("input.pem");
    device.args(["--challenge-file", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = device.stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(desk.challenge().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));

    let output = run(enrol("environment.pem").env("SCEP_CHALLENGE", desk.challenge()));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));

    // Two are a mistake, and help does not print one.
    let mut both = enrol("both.pem");
    both.args(["--challenge", "x", "--challenge-file", "challenge.txt"]);
    assert_eq!(run(&mut both).status.code(), Some(2));
    let help = run(desk.bare("enrol").arg("--help").env("SCEP_CHALLENGE", "a secret"));
    assert!(help.status.success() && !text(&help).contains("a secret"), "{}", text(&help));
}

#[test]
fn a_renewal_signs_with_the_old_certificate() {
    let desk = Desk::new();
    desk.enrolled();
    let mut device = desk.device("renew");
    device.args(["--cert", "cert.pem", "--key", "key.pem", "--new-key", "new.key.pem"]);
    let output = run(device.args(["--out", "new.pem", "--challenge", &desk.challenge()]));
    must_say(&output, 0, &["issued: serial *, valid until 20*Z, written to new.pem"]);
    let read = |name: &str| std::fs::read(desk.path(name)).unwrap();
    assert_ne!(read("key.pem"), read("new.key.pem"));
    assert_eq!(desk.site.log_lines(&["outcome=Issued", "message_type=RenewalReq"]).len(), 1);
}

#[test]
fn a_certificate_renews_itself_where_its_profile_says_so_and_is_told_when_it_may_not() {
    let options = SiteOptions { challenge: "renew_without_issuer = true".into(), ..<_>::default() };
    let desk = Desk { site: Site::start(&options), dir: temporary() };
    // In its window from the first second on: 90 days less one second.
    let own = "renewal = \"certificate\"\nrenewal_threshold = \"7775999s\"\n";
    let profile = format!("{PROFILE}{own}");
    let challenge = desk.site.mint(&profile, "laptop", &[("DeviceName", "laptop")]);
    must(&mut desk.enrol(&challenge));
    let names = ["cert.pem", "1.pem", "2.pem", "3.pem", "4.pem"];
    let keys = ["key.pem", "1.key.pem", "2.key.pem", "3.key.pem", "4.key.pem"];
    let renew = |from: usize| {
        let mut device = desk.device("renew");
        device.args(["--cert", names[from], "--key", keys[from], "--new-key", keys[from + 1]]);
        run(device.args(["--out", names[from + 1]]))
    };
    for from in 0..3 {
        let said = format!("issued: serial *, valid until 20*Z, written to {}", names[from + 1]);
        must_say(&renew(from), 0, &[&said]);
        openssl_verifies(&desk, names[from + 1]);
    }
    let lines = [
        "scep-device: the server refuses: BadRequest: a renewal needs a new challenge (ref *)",
        "  *",
    ];
    must_say(&renew(3), 3, &lines);
    // With one it is an ordinary renewal, and the line begins anew.
    let challenge = desk.site.mint(&profile, "laptop", &[("DeviceName", "laptop")]);
    let mut device = desk.device("renew");
    device.args(["--cert", "3.pem", "--key", "3.key.pem", "--new-key", "4.key.pem"]);
    must(device.args(["--out", "4.pem", "--challenge", &challenge]));
    let issued = desk.site.log_lines(&["outcome=Issued", "message_type=RenewalReq"]);
    assert_eq!(issued.len(), 4, "{}", desk.site.log());
}

/// The key of a certificate, by its curve's name in OpenSSL.
fn openssl_finds(desk: &Desk, name: &str, curve: &str) {
    if !available("openssl", "the look of OpenSSL at a key") {
        return;
    }
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-noout", "-text", "-in"]).arg(desk.path(name));
    let text = String::from_utf8(must(&mut openssl)).unwrap();
    assert!(text.contains(&format!("ASN1 OID: {curve}")), "{text}");
}

#[test]
fn an_ec_key_is_enrolled_and_renewed_with_its_challenge() {
    for (kind, curve) in [("p256", "prime256v1"), ("p384", "secp384r1")] {
        let desk = Desk::new();
        let output = run(desk.enrol(&desk.challenge()).args(["--key-type", kind]));
        must_say(&output, 0, &["issued: serial *, valid until 20*Z, written to cert.pem"]);
        openssl_verifies(&desk, "cert.pem");
        openssl_finds(&desk, "cert.pem", curve);
        let log = desk.site.log_lines(&["outcome=Issued", "sealed=challenge"]);
        assert_eq!(log.len(), 1, "{}", desk.site.log());

        // The new key is of the old one's kind, and so is the answer.
        let mut device = desk.device("renew");
        device.args(["--cert", "cert.pem", "--key", "key.pem", "--new-key", "new.key.pem"]);
        let output = run(device.args(["--out", "new.pem", "--challenge", &desk.challenge()]));
        must_say(&output, 0, &["issued: serial *, valid until 20*Z, written to new.pem"]);
        openssl_finds(&desk, "new.pem", curve);
        let log = desk.site.log_lines(&["sealed=challenge", "message_type=RenewalReq"]);
        assert_eq!(log.len(), 1, "{}", desk.site.log());
    }
}

#[test]
fn an_ec_key_without_a_challenge_is_2_and_nothing_is_sent() {
    let desk = Desk::new();
    let output = run(desk.enrol(&desk.challenge()).args(["--key-algorithm", "p256"]));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let before = desk.operations();
    let lines = [
        "scep-device: the answer to a p256 key is encrypted with the request's challenge, and \
         there is none",
        "  Give --challenge or --challenge-file, or use an RSA key.",
    ];
    let mut device = desk.device("enrol");
    device.args(["--subject", "CN=laptop", "--key", "other.pem", "--key-type", "p256"]);
    must_say(&run(device.args(["--out", "other.cert.pem"])), 2, &lines);
    let mut device = desk.device("renew");
    device.args(["--cert", "cert.pem", "--key", "key.pem", "--new-key", "new.key.pem"]);
    must_say(&run(device.args(["--out", "new.pem"])), 2, &lines);
    assert_eq!(desk.operations(), before, "{}", desk.site.log());
}

#[test]
fn a_refusal_is_3_and_says_where_the_reason_is() {
    let desk = Desk::new();
    let challenge = desk.challenge();
    let mut device = desk.device("enrol");
    device.args(["--subject", "C=CH, O=Example, CN=admin", "--dns", "laptop.example.org"]);
    device.args(["--key", "key.pem", "--out", "cert.pem", "--challenge", &challenge]);
    let output = run(&mut device);
    must_say(
        &output,
        3,
        &[
            "scep-device: the server refuses: BadRequest: the request differs from its challenge (ref *)",
            "  The server's log has the reason under that reference. A refusal spends no challenge.",
        ],
    );
    assert_eq!(desk.files(), ["key.pem"]);
    let said = text(&output);
    let reference = said.split("(ref ").nth(1).unwrap().split(')').next().unwrap();
    let lines = desk.site.log_lines(&[&format!("reference={reference}"), "SubjectNameMismatch"]);
    assert_eq!(lines.len(), 1, "{}", desk.site.log());
    // The key stays, and the challenge is good.
    let output = run(&mut desk.enrol(&challenge));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

/// `scep-gateway held`'s word on the one request that waits.
fn decide(desk: &Desk, word: &str) {
    let held = |words: &[&str]| {
        let mut command = Command::new(binary("scep-gateway"));
        command.env_remove("SCEP_GATEWAY_CONFIG").arg("held").args(words);
        must(command.arg("--config").arg(desk.site.file("gateway.toml")))
    };
    let listed = String::from_utf8(held(&["list"])).unwrap();
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 2, "{listed}");
    let row = lines[1].split_whitespace().next().unwrap();
    held(&[word, row, "--person", "alice"]);
}

/// `enrol` where a person must approve, told to ask once; the transaction that it has printed.
fn enrol_and_leave(desk: &Desk, key_type: &str) -> String {
    let profile = format!("{PROFILE}approval = \"manual\"\n");
    let challenge = desk.site.mint(&profile, "laptop", &[("DeviceName", "laptop")]);
    let mut device = desk.enrol(&challenge);
    let output = run(device.args(["--key-type", key_type, "--polls", "0"]));
    must_say(
        &output,
        4,
        &[
            "scep-device: still pending; transaction *",
            "  Later: scep-device poll --transaction * --request cert.pem.csr --key KEY --out CERT ...",
        ],
    );
    assert!(desk.files().contains(&"cert.pem.csr".to_owned()));
    assert!(!desk.files().contains(&"cert.pem".to_owned()));
    let said = String::from_utf8(output.stderr).unwrap();
    said.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned()
}

fn poll(desk: &Desk, transaction: &str) -> Output {
    let mut device = desk.device("poll");
    device.args(["--transaction", transaction, "--request", "cert.pem.csr", "--key", "key.pem"]);
    run(device.args(["--out", "cert.pem", "--polls", "0"]))
}

#[test]
fn what_a_person_must_approve_is_4_and_polled_later_with_any_kind_of_key() {
    for key_type in ["rsa2048", "p256"] {
        let desk = Desk::new();
        let transaction = enrol_and_leave(&desk, key_type);
        // Still pending.
        let output = poll(&desk, &transaction);
        assert_eq!(output.status.code(), Some(4), "{}", text(&output));
        decide(&desk, "approve");
        let output = poll(&desk, &transaction);
        must_say(&output, 0, &["issued: serial *, valid until *, written to cert.pem"]);
        let polled = desk.site.log_lines(&["message_type=CertPoll"]);
        assert_eq!(polled.len(), 2, "{}", desk.site.log());
        assert!(polled[1].contains("outcome=Issued"), "{}", polled[1]);
    }
}

#[test]
fn what_a_person_has_denied_is_3() {
    let desk = Desk::new();
    let transaction = enrol_and_leave(&desk, "p256");
    decide(&desk, "deny");
    let output = poll(&desk, &transaction);
    let refused = "scep-device: the server refuses: BadRequest: refused by the operator (ref *)";
    must_say(&output, 3, &[refused, "  *"]);
}

#[test]
fn enrol_goes_on_asking_until_a_person_has_approved() {
    let desk = Desk::new();
    let profile = format!("{PROFILE}approval = \"manual\"\n");
    let challenge = desk.site.mint(&profile, "laptop", &[("DeviceName", "laptop")]);
    let mut device = desk.enrol(&challenge);
    device.args(["--key-type", "p256", "--polls", "600", "--poll-interval", "1s"]);
    let asking = std::thread::spawn(move || run(&mut device));
    wait_for("a poll", || {
        let polls = desk.site.log_lines(&["message_type=CertPoll", "outcome=Pending"]);
        (!polls.is_empty()).then_some(())
    });
    decide(&desk, "approve");
    let output = asking.join().unwrap();
    must_say(&output, 0, &["issued: serial *, valid until *, written to cert.pem"]);
}

#[test]
fn a_certificate_and_its_crl_are_fetched_and_other_queries_are_3() {
    if !available("openssl", "a_certificate_and_its_crl_are_fetched_and_other_queries_are_3") {
        return;
    }
    let desk = Desk::new();
    desk.enrolled();
    let query = |what: &str| {
        let mut device = desk.device(what);
        device.args(["--cert", "cert.pem", "--key", "key.pem"]);
        device
    };
    let read = |name: &str| std::fs::read_to_string(desk.path(name)).unwrap();
    must(query("getcert").args(["--out", "got.pem"]));
    assert_eq!(read("got.pem"), read("cert.pem"));
    // The first CRL is made in the background.
    wait_for("a first CRL", || {
        run(query("getcrl").args(["--out", "got.crl"])).status.success().then_some(())
    });
    assert!(read("got.crl").starts_with("-----BEGIN X509 CRL-----"));
    let before = desk.site.log_lines(&["outcome=Refused"]).len();
    let output = run(query("getcert").args(["--serial", "0123456789abcdef"]));
    let refused = "scep-device: the server refuses: BadCertId: no such certificate (ref *)";
    must_say(&output, 3, &[refused, "  *"]);
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-new", "-subj", "/CN=laptop", "-outform", "DER", "-key"]);
    openssl.arg(desk.path("key.pem")).arg("-out").arg(desk.path("request.csr"));
    must(&mut openssl);
    let mut device = desk.device("poll");
    device.args(["--transaction", "unheard-of", "--request", "request.csr"]);
    let output = run(device.args(["--key", "key.pem", "--out", "polled.pem"]));
    must_say(
        &output,
        3,
        &["scep-device: the server refuses: BadCertId: no such transaction (ref *)", "  *"],
    );
    assert!(!desk.path("polled.pem").exists());
    let after = desk.site.log_lines(&["outcome=Refused"]).len();
    assert_eq!(after, before + 2, "{}", desk.site.log());
}

#[test]
fn a_wrong_fingerprint_or_ca_is_1_and_nothing_secret_is_sent() {
    if !available("openssl", "a_wrong_fingerprint_or_ca_is_1_and_nothing_secret_is_sent") {
        return;
    }
    let desk = Desk::new();
    let challenge = desk.challenge();
    let other = Desk::new();
    let url = desk.site.url("/scep");
    let enrol = |trust: &[&str]| {
        let mut device = desk.bare("enrol");
        device.args(["--url", &url, "--subject", "C=CH, O=Example, CN=laptop"]);
        device.args(["--dns", "laptop.example.org", "--key", "key.pem", "--out", "cert.pem"]);
        run(device.args(["--challenge", &challenge]).args(trust))
    };
    let hint =
        "  Either the fingerprint or CA given is not this server's, or somebody is in between.";
    let wrong = "ab".repeat(32);
    must_say(
        &enrol(&["--ca-fingerprint", &wrong]),
        1,
        &[
            &format!("scep-device: the server sent no certificate with the fingerprint {wrong}"),
            hint,
        ],
    );
    let ca = other.site.ca_certificate();
    must_say(&enrol(&["--ca", ca.to_str().unwrap()]), 1, &["scep-device: *", hint]);
    assert_eq!(desk.operations(), 0, "{}", desk.site.log());
    assert_eq!(desk.files(), ["key.pem"]);

    // With the right one, in the form in which OpenSSL prints it.
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]);
    let line = String::from_utf8(must(openssl.arg(desk.site.ca_certificate()))).unwrap();
    let right = line.trim().rsplit('=').next().unwrap();
    let output = enrol(&["--ca-fingerprint", right]);
    must_say(&output, 0, &["issued: *"]);
    openssl_verifies(&desk, "cert.pem");
}

#[test]
fn trust_is_stated_once() {
    let desk = Desk::new();
    let output = run(desk.bare("cacert").args(["--url", &desk.site.url("/")]));
    assert_eq!(output.status.code(), Some(2));
    for option in ["--ca-fingerprint", "--ca", "--trust-anything"] {
        assert!(text(&output).contains(option), "{option}: {}", text(&output));
    }
    assert_eq!(run(desk.device("cacert").arg("--trust-anything")).status.code(), Some(2));
    assert!(!desk.site.log().contains("GetCACert"), "{}", desk.site.log());
}

#[test]
#[cfg(unix)]
fn a_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new();
    desk.enrolled();
    let before = desk.site.log();
    for bad in [0o644, 0o640, 0o604, 0o660] {
        std::fs::set_permissions(desk.path("key.pem"), PermissionsExt::from_mode(bad)).unwrap();
        let mut device = desk.device("renew");
        device.args(["--cert", "cert.pem", "--key", "key.pem", "--new-key", "new.key.pem"]);
        let output = run(device.args(["--out", "new.pem", "--challenge", &desk.challenge()]));
        let line = format!(
            "scep-device: key.pem: mode {bad:04o}, and a key file has 0600 or stricter; \
             run: chmod 600 key.pem"
        );
        must_say(&output, 2, &[&line]);
    }
    assert_eq!(desk.files(), ["cert.pem", "chain.pem", "key.pem"]);
    assert_eq!(desk.site.log(), before, "nothing was sent");
    // As enrol does, which would make a key if there were none.
    let mut device = desk.device("enrol");
    device.args(["--subject", "CN=laptop", "--key", "key.pem", "--out", "again.pem"]);
    assert_eq!(run(&mut device).status.code(), Some(2));
    assert_eq!(desk.site.log(), before, "nothing was sent");
}

#[test]
fn nothing_is_overwritten() {
    let desk = Desk::new();
    let challenge = desk.challenge();
    for taken in ["cert.pem", "chain.pem"] {
        std::fs::write(desk.path(taken), "precious").unwrap();
        must_say(
            &run(&mut desk.enrol(&challenge)),
            2,
            &[
                &format!("scep-device: {taken} exists; nothing is overwritten"),
                "  Choose another name for it.",
            ],
        );
        assert_eq!(std::fs::read(desk.path(taken)).unwrap(), b"precious");
        assert_eq!(desk.files(), [taken]);
        std::fs::remove_file(desk.path(taken)).unwrap();
    }
    // A folder that is not there is found out before a certificate is issued, too.
    let mut device = desk.device("enrol");
    device.args(["--subject", "CN=laptop", "--key", "key.pem", "--out", "no/cert.pem"]);
    must_say(&run(&mut device), 2, &["scep-device: there is no folder for no/cert.pem"]);
    assert!(!desk.site.log().contains("GetCACaps"), "nothing was sent: {}", desk.site.log());

    // Standard output or a new file: GetCACert too.
    std::fs::write(desk.path("ca.pem"), "precious").unwrap();
    let output = run(desk.device("cacert").args(["--out", "ca.pem"]));
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert_eq!(std::fs::read(desk.path("ca.pem")).unwrap(), b"precious");
}

#[test]
fn a_server_that_is_not_there_is_1() {
    let desk = Desk::new();
    let url = format!("http://{}/scep", free_address());
    let output = run(desk.bare("caps").args(["--url", &url]));
    must_say(&output, 1, &["scep-device: GetCACaps: *refused*"]);
}

#[test]
fn arguments_that_make_no_sense_are_2() {
    let desk = Desk::new();
    for (option, value) in [
        ("--subject", "no name"),
        ("--dns", "not a name"),
        ("--email", "nobody"),
        ("--ip", "1.2.3"),
        ("--key-usage", "everything"),
        ("--eku", "everything"),
        ("--key-algorithm", "rsa512"),
        ("--ca-fingerprint", "abc"),
        ("--challenge-file", "missing.txt"),
    ] {
        let mut device = desk.bare("enrol");
        device.args(["--url", &desk.site.url("/"), "--key", "key.pem", "--out", "cert.pem"]);
        if option != "--ca-fingerprint" {
            device.arg("--trust-anything");
        }
        let output = run(device.args([option, value]));
        assert_eq!(output.status.code(), Some(2), "{option}: {}", text(&output));
        let named = text(&output).contains(option) || text(&output).contains(value);
        assert!(named, "{option}: {}", text(&output));
        assert_eq!(desk.files().len(), 0, "{option}: {:?}", desk.files());
    }
    assert!(!desk.site.log().contains("operation="), "nothing was sent: {}", desk.site.log());
}
