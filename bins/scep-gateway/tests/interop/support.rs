//! Trials and the peers they need, and what several modules ask of a site.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use libtest_mimic::{Failed, Trial};
use scep_testkit::process::{Site, must};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program or file of somebody else that a trial needs.
pub(crate) struct Peer {
    name: String,
    there: bool,
}

impl Peer {
    /// A program of the search path, or in a folder for administrators' programs.
    pub(crate) fn program(name: &str) -> Self {
        Self::named(name, find(name).is_some())
    }

    /// A file.
    pub(crate) fn file(path: impl AsRef<Path>) -> Self {
        Self::named(&path.as_ref().display().to_string(), path.as_ref().is_file())
    }

    /// Something else, which the caller has looked for.
    pub(crate) fn named(name: &str, there: bool) -> Self {
        Self { name: name.to_owned(), there }
    }
}

/// Where a program is.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// A trial that runs when its peers are there. A panic is its failure.
pub(crate) fn trial(name: &str, peers: &[Peer], test: fn()) -> Trial {
    let missing: Vec<&str> = peers.iter().filter(|p| !p.there).map(|p| p.name.as_str()).collect();
    if missing.is_empty() {
        return Trial::test(name, move || {
            test();
            Ok(())
        });
    }
    let missing = missing.join(", ");
    let demanded = std::env::var("CI").as_deref() == Ok("true");
    if !demanded {
        eprintln!("SKIPPED {name}: {missing} is missing");
    }
    Trial::test(name, move || Err(Failed::from(format!("{missing} is missing"))))
        .with_ignored_flag(!demanded)
}

/// A profile for devices: this subject, these DNS names, RSA or P-256, for clients of TLS.
pub(crate) fn profile(subject: &str, dns: &[&str]) -> String {
    let sans: Vec<String> = dns.iter().map(|name| format!("{{ dns = {name:?} }}")).collect();
    format!(
        "id = \"devices\"\nfor = \"device\"\nsubject = {subject:?}\nsubject_alt_names = [{}]\n\
         key_usage = [\"digitalSignature\", \"keyEncipherment\"]\n\
         extended_key_usages = [\"clientAuth\"]\nkey_algorithms = [\"rsa2048\", \"p256\"]\n\
         validity = \"90d\"\n",
        sans.join(", ")
    )
}

/// What OpenSSL says of a certificate: its subject, alternative names and usages.
pub(crate) fn names(certificate: &Path) -> String {
    let mut command = Command::new("openssl");
    command.args(["x509", "-noout", "-subject", "-nameopt", "RFC2253", "-ext"]);
    command.args(["subjectAltName,keyUsage,extendedKeyUsage", "-in"]).arg(certificate);
    String::from_utf8(must(&mut command)).unwrap()
}

/// OpenSSL finds in a certificate exactly what a [`profile`] says.
pub(crate) fn certificate_must_be(certificate: &Path, subject: &str, dns: &[String]) {
    let found = names(certificate);
    let lines: Vec<&str> = found.lines().map(str::trim).collect();
    let after = |title: &str| {
        let at = lines.iter().position(|line| line.starts_with(title));
        at.and_then(|at| lines.get(at + 1)).copied()
    };
    assert!(lines.contains(&format!("subject={subject}").as_str()), "{found}");
    let sans: Vec<String> = dns.iter().map(|name| format!("DNS:{name}")).collect();
    let sans = (!sans.is_empty()).then(|| sans.join(", "));
    assert_eq!(after("X509v3 Subject Alternative Name"), sans.as_deref(), "{found}");
    assert_eq!(after("X509v3 Key Usage"), Some("Digital Signature, Key Encipherment"), "{found}");
    let usage = Some("TLS Web Client Authentication");
    assert_eq!(after("X509v3 Extended Key Usage"), usage, "{found}");
}

/// OpenSSL takes a certificate as one of the site's CA.
pub(crate) fn openssl_verify(site: &Site, certificate: &Path) {
    let mut command = Command::new("openssl");
    command.args(["verify", "-CAfile"]).arg(site.ca_certificate()).arg(certificate);
    must(&mut command);
}

/// Long enough that it does not occur by chance, short enough to find a piece.
const PIECE: usize = 24;

/// attack_61: in what the gateway wrote is no piece of a challenge, and none of `secrets` in hexadecimal or base64.
pub(crate) fn log_has_no_secrets(site: &Site, secrets: &[&[u8]]) {
    let output = site.output();
    assert!(output.contains("PKIOperation"), "no request reached the log: {output}");
    let mut texts = site.issuer().minted();
    assert!(!texts.is_empty());
    // A challenge stands in requests, whose octets a careless log writes in hexadecimal or base64.
    let octets: Vec<Vec<u8>> = texts.iter().map(|text| text.clone().into_bytes()).collect();
    for secret in octets.iter().map(Vec::as_slice).chain(secrets.iter().copied()) {
        texts.push(secret.iter().map(|octet| format!("{octet:02x}")).collect());
        // Each of the three ways in which octets fall into groups of base64.
        texts.extend((0..3).filter_map(|at| secret.get(at..)).map(|rest| BASE64.encode(rest)));
    }
    let output = output.to_lowercase();
    for text in texts {
        let text = text.to_lowercase();
        for at in (0..text.len().saturating_sub(PIECE)).step_by(PIECE) {
            let piece = &text[at..at + PIECE];
            assert!(!output.contains(piece), "{piece} is in the log: {output}");
        }
    }
}
