//! What several modules ask of a site.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use scep_testkit::process::{Site, SiteOptions, binary, must, wait_for};
use std::path::Path;
use std::process::Command;

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

/// A [`profile`] whose certificates renew themselves from their first second on.
pub(crate) fn renewable(subject: &str, dns: &[&str]) -> String {
    // 90 days less one second: the last second belongs to a certificate's life.
    let renewal = "renewal = \"certificate\"\nrenewal_threshold = \"7775999s\"\n";
    format!("{}{renewal}", profile(subject, dns))
}

/// A site without an issuer's service, whose operator lets certificates renew themselves; with the same key, or not.
pub(crate) fn renewing_site(same_key: bool) -> Site {
    let rules = format!(
        "issuance_per_hour = 100\nmax_validity_days = 90\nrsa_min_bits = 2048\nsan_kinds = [\"dns\"]\n\
         dns_suffixes = [\"example.org\"]\nrenew_with_same_key = {same_key}\n"
    );
    Site::start(&SiteOptions {
        site_rules: Some(rules),
        challenge: "renew_without_issuer = true".into(),
        ..SiteOptions::default()
    })
}

/// The same, where a person must approve each request.
pub(crate) fn manual(profile: &str) -> String {
    format!("{profile}approval = \"manual\"\n")
}

/// One of `scep-gateway held`'s commands, at the running gateway.
fn held(site: &Site, words: &[&str]) -> Vec<u8> {
    let mut command = Command::new(binary("scep-gateway"));
    command.env_remove("SCEP_GATEWAY_CONFIG").arg("held").args(words);
    must(command.arg("--config").arg(site.file("gateway.toml")))
}

/// Waits until one request waits for a person, and its device was told so this often; a person then says this.
pub(crate) fn decide_on_the_one(site: &Site, told: usize, word: &str) {
    let row = wait_for("a request that waits, and is polled", || {
        let all: serde_json::Value =
            serde_json::from_slice(&held(site, &["list", "--json"])).unwrap();
        let row = all.get(0)?["row"].to_string();
        assert!(all.get(1).is_none(), "{all}");
        (site.log_lines(&["outcome=Pending"]).len() >= told).then_some(row)
    });
    held(site, &[word, &row, "--person", "alice"]);
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

/// attack_61: in what the gateway wrote is no piece of a challenge, and none of `secrets`, in any usual spelling.
pub(crate) fn log_has_no_secrets(site: &Site, secrets: &[&[u8]]) {
    let output = site.output();
    assert!(output.contains("PKIOperation"), "no request reached the log: {output}");
    let mut texts = site.issuer().minted();
    assert!(!texts.is_empty());
    // A challenge stands in requests, whose octets a careless log writes in hexadecimal, base64, or as Rust's
    // `Debug` does.
    let octets: Vec<Vec<u8>> = texts.iter().map(|text| text.clone().into_bytes()).collect();
    for secret in octets.iter().map(Vec::as_slice).chain(secrets.iter().copied()) {
        texts.push(secret.iter().map(|octet| format!("{octet:02x}")).collect());
        texts.push(format!("{secret:?}"));
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

/// Every preset's name, and options of `init` that go with it.
pub(crate) const PRESETS: [(&str, &[&str]); 6] = [
    ("generic", &[]),
    ("windows", &[]),
    ("apple", &[]),
    ("apple", &["--combined-ra"]),
    ("android-jscep", &[]),
    ("cisco-ios", &[]),
];

/// A site whose endpoint `/` has this preset.
pub(crate) fn preset_site(preset: &str, options: &[&str]) -> Site {
    let words = ["--preset", preset];
    let init = words.iter().chain(options);
    let init = init.map(|word| (*word).to_owned()).collect();
    Site::start(&SiteOptions { init, ..SiteOptions::default() })
}
