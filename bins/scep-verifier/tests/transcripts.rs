//! `scep-verifier` as an operator sees it: what `explain` prints, what `hook` decides, and the exit codes of both.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

mod desk;

use desk::{Desk, request, sign};
use scep_keys::{Backend, SoftwareKey};
use scep_pkcs10::danger::attribute;
use scep_pkcs10::{CsrBuilder, RequestedExtension};
use scep_testkit::TestKey;
use scep_testkit::process::{run, text};
use scep_testkit::programs::available;
use scep_types::{ExtendedKeyUsages, GeneralName, KeyUsages, ObjectIdentifier};
use serde_json::Value;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};

/// Starts a command and writes to its standard input.
fn start(command: &mut Command, input: &[u8]) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    match stdin.write_all(input) {
        Ok(()) => {}
        // It may end without having read: then its exit code says why.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe),
    }
    child
}

fn hook(desk: &Desk, der: &[u8]) -> Output {
    start(&mut desk.hook(), der).wait_with_output().unwrap()
}

fn explain(desk: &Desk, der: &[u8], more: &[&str]) -> Output {
    let file = desk.path("request.der");
    std::fs::write(&file, der).unwrap();
    run(desk.verifier("explain").arg("--csr").arg(file).args(more))
}

/// What `explain --json` says: whether it is allowed, and each reason with where it stands.
fn judged(desk: &Desk, der: &[u8], more: &[&str]) -> (bool, Vec<(String, String)>) {
    let output = explain(desk, der, &[&["--json"], more].concat());
    let json: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    let allowed = json["allowed"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(!allowed)), "{json}");
    let of = |list: &str, name: &str| -> Vec<(String, String)> {
        let entries = json[list].as_array().unwrap().iter();
        let refused = entries.filter(|entry| !entry["reason"].is_null());
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
        refused.map(|entry| (text(entry, name), text(entry, "reason"))).collect()
    };
    let reasons: Vec<_> = of("findings", "what").into_iter().chain(of("fields", "field")).collect();
    assert_eq!(allowed, reasons.is_empty(), "{json}");
    (allowed, reasons)
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(at, reason)| ((*at).to_owned(), (*reason).to_owned())).collect()
}

/// The lines without the blanks that align them.
fn lines(output: &Output) -> Vec<String> {
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    let words = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    words.collect()
}

fn good(desk: &Desk) -> Vec<u8> {
    sign(&request("laptop", &desk.challenge("laptop")), &TestKey::RsaA.key())
}

/// A good request with one change.
fn with(desk: &Desk, change: impl FnOnce(&mut CsrBuilder)) -> Vec<u8> {
    let mut changed = request("laptop", &desk.challenge("laptop"));
    change(&mut changed);
    sign(&changed, &TestKey::RsaA.key())
}

fn eku(names: &[&str]) -> Option<ExtendedKeyUsages> {
    let purposes = names.iter().map(|name| ExtendedKeyUsages::purpose(name).unwrap());
    ExtendedKeyUsages::new(purposes.collect())
}

fn oid(text: &str) -> ObjectIdentifier {
    text.parse().unwrap()
}

/// One change of a request.
type Change = fn(&mut CsrBuilder);

/// What devices send besides, which our own CA leaves out of the certificate.
fn inert() -> [(&'static str, Change); 3] {
    [
        ("basicConstraints", |csr| {
            csr.extensions.push(RequestedExtension {
                oid: oid("2.5.29.19"),
                critical: false,
                value: vec![0x30, 0x00],
            });
        }),
        ("subjectKeyIdentifier", |csr| {
            csr.extensions.push(RequestedExtension {
                oid: oid("2.5.29.14"),
                critical: false,
                value: vec![0x04, 0x02, 0x01, 0x02],
            });
        }),
        ("friendlyName", |csr| {
            csr.attributes.push(attribute(&oid("1.2.840.113549.1.9.20"), &[b"\x1e\x02\x00a"]));
        }),
    ]
}

#[test]
fn explain_shows_a_request_that_fits() {
    let desk = Desk::new();
    let output = explain(&desk, &good(&desk), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let lines = lines(&output);
    let first = &lines[0];
    assert!(
        first.starts_with("challenge ")
            && first.contains(" of contoso for device laptop, profile devices, 20"),
        "{first}"
    );
    let hash = TestKey::RsaA.public_key().hash();
    for line in [
        format!("request ok signed by its own key, rsa2048 {hash}").as_str(),
        "key ok not known to be weak",
        "challenge ok verified, decrypted, current",
        "subject ok expected: CN=laptop",
        "subjectAltName ok expected: dns:laptop.example.org",
        "got: dns:laptop.example.org",
        "The request is exactly what its challenge allows.",
    ] {
        assert!(lines.iter().any(|found| found == line), "{line}: {lines:#?}");
    }
    // Nobody can copy the challenge out of a screenshot.
    assert!(!text(&output).contains(&desk.issuer.minted()[0][..24]));
}

#[test]
fn explain_shows_every_difference_at_once() {
    let desk = Desk::new();
    let bad = with(&desk, |csr| {
        csr.subject = "CN=admin".parse().unwrap();
        csr.subject_alt_names.push(GeneralName::upn("admin@example.org").unwrap());
        csr.key_usage = Some(KeyUsages::DIGITAL_SIGNATURE.union(KeyUsages::KEY_ENCIPHERMENT));
        csr.extended_key_usages = eku(&["clientAuth", "serverAuth"]);
    });
    let (allowed, reasons) = judged(&desk, &bad, &[]);
    assert!(!allowed);
    assert_eq!(
        reasons,
        pairs(&[
            ("subject", "SubjectNameMismatch"),
            ("subjectAltName", "SubjectAltNameMismatch"),
            ("keyUsage", "KeyUsageMismatch"),
            ("extKeyUsage", "EnhancedKeyUsageMismatch"),
        ])
    );
    let output = explain(&desk, &bad, &[]);
    assert_eq!(output.status.code(), Some(1));
    let lines = lines(&output);
    let at =
        lines.iter().position(|line| line == "subject SubjectNameMismatch expected: CN=laptop");
    assert_eq!(lines[at.unwrap() + 1], "got: CN=admin");
    assert_eq!(lines.last().unwrap(), "Refused, for 4 reason(s).");
}

#[test]
fn explain_names_what_is_wrong_with_a_request() {
    let desk = Desk::new();
    let (allowed, reasons) = judged(&desk, &good(&desk), &[]);
    assert!(allowed && reasons.is_empty(), "{reasons:?}");

    let cases: [(Change, (&str, &str)); 7] = [
        (|csr| csr.subject_alt_names.clear(), ("subjectAltName", "SubjectAltNameMissing")),
        (|csr| csr.subject = "".parse().unwrap(), ("subject", "SubjectNameMissing")),
        (|csr| csr.key_usage = Some(KeyUsages::KEY_CERT_SIGN), ("keyUsage", "KeyUsageMismatch")),
        (
            |csr| csr.extended_key_usages = eku(&["serverAuth"]),
            ("extKeyUsage", "EnhancedKeyUsageMismatch"),
        ),
        (
            |csr| {
                csr.extensions.push(RequestedExtension {
                    oid: oid("1.3.6.1.4.1.311.25.2"),
                    critical: false,
                    value: vec![0x30, 0x00],
                });
            },
            ("extension", "ExtensionNotAllowed"),
        ),
        (|csr| csr.challenge_password = None, ("challenge", "ChallengePasswordMissing")),
        (
            |csr| {
                let twice = csr.challenge_password.as_ref().unwrap().expose().clone();
                let value = [&[0x13, 0x82][..], &u16::try_from(twice.len()).unwrap().to_be_bytes()]
                    .concat();
                let value = [value, twice.into_bytes()].concat();
                csr.attributes.push(attribute(&oid("1.2.840.113549.1.9.7"), &[&value]));
            },
            ("request", "AttributeNotAllowed"),
        ),
    ];
    for (change, reason) in cases {
        let (allowed, reasons) = judged(&desk, &with(&desk, change), &[]);
        assert!(!allowed);
        assert_eq!(reasons, pairs(&[reason]));
    }

    let mut tampered = good(&desk);
    *tampered.last_mut().unwrap() ^= 1;
    let (_, reasons) = judged(&desk, &tampered, &[]);
    assert_eq!(reasons, pairs(&[("request", "ProofOfPossessionFailed")]));
    let (_, reasons) = judged(&desk, b"no request", &[]);
    assert_eq!(reasons, pairs(&[("request", "CertificateRequestDecodingFailed")]));
    let ec = sign(&request("laptop", &desk.challenge("laptop")), &TestKey::P256A.key());
    let (_, reasons) = judged(&desk, &ec, &[]);
    // The profile allows RSA, and the site has no curves.
    assert!(reasons.contains(&pairs(&[("key", "KeyLengthMismatch")])[0]), "{reasons:?}");
}

#[test]
fn explain_names_what_is_wrong_with_a_challenge() {
    let desk = Desk::new();
    let der = good(&desk);
    let reason = |der: &[u8], more: &[&str]| {
        let (allowed, reasons) = judged(&desk, der, more);
        assert!(!allowed);
        reasons.iter().find(|(at, _)| at == "challenge").unwrap().1.clone()
    };
    let plain = sign(&request("laptop", "a password"), &TestKey::RsaA.key());
    assert_eq!(reason(&plain, &[]), "ChallengeDecodingError");
    assert_eq!(reason(&der, &["--at", "2036-01-31T12:00:00Z"]), "ChallengeExpired");
    assert_eq!(reason(&der, &["--at", "2016-01-31T12:00:00Z"]), "ChallengeInvalidTimestamp");
    assert_eq!(reason(&der, &["--max-lifetime", "10m"]), "ChallengeInvalidTimestamp");

    // An expired challenge is compared all the same, so that one look is enough.
    let bad = with(&desk, |csr| csr.subject = "CN=admin".parse().unwrap());
    let (_, reasons) = judged(&desk, &bad, &["--at", "2036-01-31T12:00:00Z"]);
    assert_eq!(
        reasons,
        pairs(&[("challenge", "ChallengeExpired"), ("subject", "SubjectNameMismatch")])
    );

    // Another tenant, another group, another issuer, another key.
    let trusting = |tenant: &str, group: &str, issuer: &Desk, key: &Desk| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scep-verifier"));
        command.args(["explain", "--json", "--tenant", tenant, "--group", group, "--csr"]);
        command.arg(desk.path("request.der")).arg("--issuer-key").arg(issuer.issuer.public_key());
        command.arg("--decryption-key").arg(key.path("challenge.key.pem"));
        let output = run(command.arg("--site-rules").arg(desk.path("rules.toml")));
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = json["findings"].as_array().unwrap().clone();
        let found = findings.iter().find(|finding| finding["what"] == "challenge").unwrap();
        found["reason"].as_str().unwrap().to_owned()
    };
    std::fs::write(desk.path("request.der"), &der).unwrap();
    let other = Desk::new();
    assert_eq!(trusting("fabrikam", "main", &desk, &desk), "BadTenantIdInChallenge");
    assert_eq!(trusting("contoso", "other", &desk, &desk), "BadAudienceInChallenge");
    assert_eq!(trusting("contoso", "main", &other, &desk), "SigningCertThumbprintMismatch");
    // It names the key that it is for.
    assert_eq!(trusting("contoso", "main", &desk, &other), "BadAudienceInChallenge");
}

#[test]
fn explain_reads_pem_standard_input_and_a_challenge_beside_the_request() {
    if !available("openssl", "explain_reads_pem_standard_input_and_a_challenge_beside_the_request")
    {
        return;
    }
    let desk = Desk::new();
    let challenge = desk.challenge("laptop");
    let der = sign(&request("laptop", &challenge), &TestKey::RsaA.key());
    let output = start(desk.verifier("explain").args(["--csr", "-"]), &der);
    assert_eq!(output.wait_with_output().unwrap().status.code(), Some(0));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-inform", "DER", "-in"]).arg(desk.path("plain.der"));
    let mut bare = request("laptop", "");
    bare.challenge_password = None;
    std::fs::write(desk.path("plain.der"), sign(&bare, &TestKey::RsaA.key())).unwrap();
    let pem = run(&mut openssl).stdout;
    assert!(pem.starts_with(b"-----BEGIN CERTIFICATE REQUEST-----"));
    std::fs::write(desk.path("challenge.txt"), format!("{challenge}\n")).unwrap();
    let file = desk.path("challenge.txt");
    let output = explain(&desk, &pem, &["--challenge-file", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn the_hook_passes_a_request_once() {
    let desk = Desk::new();
    let der = good(&desk);
    let first = hook(&desk, &der);
    assert_eq!(first.status.code(), Some(0), "{}", text(&first));
    assert!(first.stdout.is_empty());
    let said = String::from_utf8(first.stderr.clone()).unwrap();
    assert!(said.ends_with("Z scep-verifier: passed, device laptop\n"), "{said}");
    let second = hook(&desk, &der);
    assert_eq!(second.status.code(), Some(1), "{}", text(&second));
    assert!(text(&second).contains("refused: ChallengeAlreadyUsed: "), "{}", text(&second));
    // With explain it can be looked at as often as one likes: that asks no ledger.
    assert_eq!(explain(&desk, &der, &[]).status.code(), Some(0));
}

#[test]
fn attack_08_of_many_hooks_at_once_one_passes() {
    let desk = Desk::new();
    let der = good(&desk);
    let children: Vec<Child> = (0..8).map(|_| start(&mut desk.hook(), &der)).collect();
    let mut codes = Vec::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let used = text(&output).contains("ChallengeAlreadyUsed");
        codes.push((output.status.code(), used));
    }
    codes.sort_unstable();
    let mut expected = vec![(Some(1), true); 7];
    expected.insert(0, (Some(0), false));
    assert_eq!(codes, expected);
}

#[test]
fn the_hook_refuses_inert_content_as_another_ca_may_copy_it() {
    let desk = Desk::new();
    for (name, change) in inert() {
        let der = with(&desk, change);
        let output = hook(&desk, &der);
        assert_eq!(output.status.code(), Some(1), "{name}: {}", text(&output));
        assert!(text(&output).contains("NotAllowed: "), "{name}: {}", text(&output));
        // Our own CA leaves it out.
        let output = explain(&desk, &der, &[]);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", text(&output));
        let (allowed, reasons) = judged(&desk, &der, &["--hook"]);
        assert!(!allowed && reasons.len() == 1, "{name}: {reasons:?}");
    }
}

#[test]
fn the_hook_demands_usages_in_the_request() {
    let desk = Desk::new();
    let challenge = desk.challenge("laptop");
    let cases: [(Change, &str); 2] = [
        (|csr| csr.key_usage = None, "KeyUsageMismatch"),
        (|csr| csr.extended_key_usages = None, "EnhancedKeyUsageMissing"),
    ];
    for (change, reason) in cases {
        let mut csr = request("laptop", &challenge);
        change(&mut csr);
        let output = hook(&desk, &sign(&csr, &TestKey::RsaA.key()));
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let line = format!("refused: {reason}: the request must ask for");
        assert!(text(&output).contains(&line), "{line}: {}", text(&output));
        let der = sign(&csr, &TestKey::RsaA.key());
        assert!(judged(&desk, &der, &[]).0);
        assert_eq!(judged(&desk, &der, &["--hook"]).1, pairs(&[("usages", reason)]));
    }
    // Nothing was spent.
    let output = hook(&desk, &sign(&request("laptop", &challenge), &TestKey::RsaA.key()));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn attack_10_the_hook_locks_a_challenge_after_ten_mismatches() {
    let desk = Desk::new();
    let challenge = desk.challenge("laptop");
    let mut bad = request("laptop", &challenge);
    bad.subject = "CN=admin".parse().unwrap();
    let bad = sign(&bad, &TestKey::RsaA.key());
    for n in 1..=10 {
        let output = hook(&desk, &bad);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains("SubjectNameMismatch"), "{n}: {}", text(&output));
    }
    let output = hook(&desk, &sign(&request("laptop", &challenge), &TestKey::RsaA.key()));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("ChallengeLocked"), "{}", text(&output));
}

#[test]
fn the_hook_certifies_no_key_of_the_system_and_no_key_twice() {
    let desk = Desk::new();
    let der = good(&desk);
    assert_eq!(hook(&desk, &der).status.code(), Some(0));
    // The same key for another device.
    let der = sign(&request("tablet", &desk.challenge("tablet")), &TestKey::RsaA.key());
    let output = hook(&desk, &der);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let line = "refused: KeyAlreadyCertified: the key was certified for another device";
    assert!(text(&output).contains(line), "{}", text(&output));
    // The key that opens the challenges.
    let ours = SoftwareKey::read(&desk.path("challenge.key.pem"), Backend::AwsLc).unwrap();
    let output = hook(&desk, &sign(&request("tablet", &desk.challenge("tablet")), &ours));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("refused: WeakKey: "), "{}", text(&output));
}

/// A broken set-up is no verdict: 2, not 1, and never 0.
#[test]
fn what_cannot_be_checked_is_2() {
    let desk = Desk::new();
    let der = good(&desk);
    let without = |file: &str, command: &str| {
        let path = desk.path(file);
        let kept = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut verifier = desk.hook();
        if command == "explain" {
            verifier = desk.verifier(command);
            verifier.args(["--csr", "-"]);
        }
        let output = start(&mut verifier, &der).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{file}: {}", text(&output));
        assert!(text(&output).contains(file), "{file}: {}", text(&output));
        std::fs::write(&path, kept).unwrap();
    };
    for command in ["explain", "hook"] {
        without("rules.toml", command);
    }
    // A ledger that is none, a folder that is not there, an argument that is missing.
    std::fs::write(desk.path("ledger.sqlite"), [7; 4096]).unwrap();
    assert_eq!(hook(&desk, &der).status.code(), Some(2));
    std::fs::remove_file(desk.path("ledger.sqlite")).unwrap();
    let mut elsewhere = desk.verifier("hook");
    elsewhere.arg("--ledger").arg(desk.path("nowhere/ledger.sqlite"));
    let output = start(&mut elsewhere, &der).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("nowhere"), "{}", text(&output));
    assert_eq!(run(&mut desk.verifier("explain")).status.code(), Some(2));
    let output = explain(&desk, &der, &["--at", "yesterday"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("--at"), "{}", text(&output));
    // Once it is whole again, the same request passes: nothing was spent on the way.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let key = desk.path("challenge.key.pem");
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
        let output = hook(&desk, &der);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains("chmod 600"), "{}", text(&output));
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    }
    let output = hook(&desk, &der);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}
