//! pyscep and scepreq: Python clients that sign the message with another key than the one to be certified.

use crate::support::{certificate_must_be, log_has_no_secrets, openssl_verify, profile};
use libtest_mimic::Trial;
use scep_testkit::process::peers::{Peer, folder, trial};
use scep_testkit::process::{Site, SiteOptions, run, temporary, text};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) fn trials() -> Vec<Trial> {
    let peers = || [Peer::file(python()), Peer::program("openssl")];
    vec![
        trial("pyscep_enrols_where_any_signer_may", &peers(), enrols),
        trial("attack_01_pyscep_is_refused_another_subject", &peers(), another_subject),
        trial("pyscep_is_refused_where_the_key_must_sign", &peers(), other_signer),
        trial("attack_35_scepreq_writes_extensions_twice", &peers(), twice),
    ]
}

fn python() -> PathBuf {
    folder().join("venv/bin/python")
}

/// A site whose CA key is RSA, as these clients verify nothing else, with an endpoint for any signer.
fn site() -> Site {
    Site::start(&SiteOptions {
        init: ["--ca-key", "rsa2048"].map(str::to_owned).to_vec(),
        config: "[[endpoints]]\npath = \"/any\"\npreset = \"generic\"\nsigner = \"any\"\n".into(),
        ..SiteOptions::default()
    })
}

/// Runs a script of `py/`, which prints SUCCESS and a certificate, or FAILURE and the failInfo.
fn script(name: &str, url: &str, challenge: &str, common_name: &str) -> Output {
    let dir = temporary();
    let file = dir.path().join("challenge.txt");
    std::fs::write(&file, challenge).unwrap();
    let py = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/py");
    let mut command = Command::new(python());
    // Its libraries warn of what will be removed from other libraries.
    command.args(["-W", "ignore", "-B"]).arg(py.join(name)).arg(url).arg(&file);
    run(command.args([common_name, &format!("{common_name}.example.org")]))
}

#[track_caller]
fn must_fail(site: &Site, output: &Output, fail_info: &str, reason: &[&str]) {
    assert!(output.status.success(), "{}\n{}", text(output), site.log());
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), format!("FAILURE\n{fail_info}"), "{}", site.log());
    let lines = site.log_lines(&["outcome=Refused"]);
    assert_eq!(lines.len(), 1, "{}", site.log());
    for part in reason {
        assert!(lines[0].contains(part), "{part}: {}", lines[0]);
    }
}

fn challenge(site: &Site, name: &str) -> String {
    let dns = format!("{name}.example.org");
    site.mint(&profile(&format!("CN={name}"), &[&dns]), "dev", &[])
}

fn enrols() {
    let site = site();
    let challenge = challenge(&site, "dev");
    let output = script("pyscep_enrol.py", &site.url("/any"), &challenge, "dev");
    assert!(output.status.success(), "{}\n{}", text(&output), site.log());
    let said = String::from_utf8(output.stdout).unwrap();
    let pem = said.strip_prefix("SUCCESS\n").unwrap_or_else(|| panic!("{said}\n{}", site.log()));
    let dir = temporary();
    let certificate = dir.path().join("cert.pem");
    std::fs::write(&certificate, pem).unwrap();
    openssl_verify(&site, &certificate);
    certificate_must_be(&certificate, "CN=dev", &["dev.example.org".to_owned()]);
    assert_eq!(site.log_lines(&["outcome=Issued", "device=dev"]).len(), 1, "{}", site.log());
    log_has_no_secrets(&site, &[]);
}

fn another_subject() {
    let site = site();
    let challenge = challenge(&site, "dev");
    let output = script("pyscep_enrol.py", &site.url("/any"), &challenge, "admin");
    let reason =
        ["reason=SubjectNameMismatch", "expected `CN=dev`", "got `CN=admin`", "device=dev"];
    must_fail(&site, &output, "BadRequest", &reason);
    log_has_no_secrets(&site, &[]);
}

fn other_signer() {
    let site = site();
    let challenge = challenge(&site, "dev");
    let output = script("pyscep_enrol.py", &site.url("/"), &challenge, "dev");
    must_fail(&site, &output, "BadMessageCheck", &["reason=SignerNotAllowed", "signer = \"any\""]);
    // The challenge is unspent, and what was wrong is the endpoint.
    let output = script("pyscep_enrol.py", &site.url("/any"), &challenge, "dev");
    assert!(text(&output).contains("SUCCESS"), "{}\n{}", text(&output), site.log());
}

fn twice() {
    let site = site();
    let challenge = challenge(&site, "dev");
    let output = script("scepreq_enrol.py", &site.url("/any"), &challenge, "dev");
    let reason = ["reason=ExtensionNotAllowed", "two extensionRequest attributes"];
    must_fail(&site, &output, "BadMessageCheck", &reason);
    log_has_no_secrets(&site, &[]);
}
