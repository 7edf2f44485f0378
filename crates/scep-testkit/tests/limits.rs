//! The table of limits in the README: its values are those of the code. That the tests it names exist is among the tests of
//! `catalogue.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

use core::time::Duration;
use scep_ca::{MAX_OCSP_NONCE, MAX_OCSP_REQUEST, MAX_OCSP_REQUESTS};
use scep_ledger::LedgerSettings;
use scep_server::{OcspSettings, ServerLimits};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

fn source(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The number that a private constant is.
fn constant(path: &str, name: &str) -> usize {
    let text = source(path);
    let (_, after) =
        text.split_once(&format!("const {name}: ")).unwrap_or_else(|| panic!("{name}"));
    let (_, after) = after.split_once(" = ").unwrap();
    let (number, _) = after.split_once(';').unwrap();
    number.replace('_', "").parse().unwrap_or_else(|_| panic!("{name} = {number}"))
}

/// The default of a key in the configuration, where only the program knows it.
fn stands(path: &str, code: &str) {
    let text: String = source(path).split_whitespace().collect();
    assert!(text.contains(&code.replace(' ', "")), "{path}: {code}");
}

/// 1024 as 1,024.
fn count(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().unwrap_or_else(|_| panic!("it is a count")).to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn size(octets: usize) -> String {
    let kib = octets >> 10;
    assert_eq!(kib << 10, octets, "whole KiB");
    if kib >= 1024 { format!("{} MiB", kib >> 10) } else { format!("{kib} KiB") }
}

fn time(time: Duration) -> String {
    match time.as_secs() {
        3_600 => "1 hour".into(),
        days if days > 86_400 && days.is_multiple_of(86_400) => format!("{} days", days / 86_400),
        hours if hours.is_multiple_of(3_600) => format!("{} hours", hours / 3_600),
        minutes if minutes.is_multiple_of(60) => format!("{} minutes", minutes / 60),
        seconds => format!("{seconds} s"),
    }
}

/// What each row must say.
fn expected() -> Vec<(&'static str, String)> {
    const OCSP: &str = "crates/scep-server/src/ocsp.rs";
    let server = ServerLimits::default();
    let (ledger, cms) = (LedgerSettings::default(), server.cms);
    let csr = scep_pkcs10::Rules::default();
    let buckets = count(constant("crates/scep-server/src/buckets.rs", "MAX_BUCKETS"));
    let (minutes, hour) = (|n: u64| time(Duration::from_secs(n * 60)), Duration::from_secs(3_600));
    let challenge = "bins/scep-gateway/src/config/challenge.rs";
    stands(challenge, "self.max_lifetime.as_deref(), minutes(60)");
    stands(challenge, "self.clock_skew.as_deref(), minutes(5)");
    let link = "bins/scep-gateway/src/config/connector.rs";
    stands(link, "assert_eq!(offline(None), hours(24));");
    let services = "bins/scep-gateway/src/config/services.rs";
    stands(services, "(Duration::from_secs(600)..=Duration::from_secs(3 * 86_400))");
    assert_eq!(server.threads, 0, "one for each core");
    let rate = Duration::from_secs(1).as_nanos() / server.source_refill.as_nanos();
    vec![
        ("a request's head", format!("{}, more is 431", size(server.max_head))),
        ("query of a GET", format!("{}, more is 414", size(scep_message::http::MAX_QUERY))),
        ("body of a POST", format!("{}, more is 413", size(server.max_body))),
        ("all bodies being read", format!("{}, more are 503", size(server.max_bodies))),
        ("CMS nesting, values", format!("{} deep, {}", cms.max_depth, count(cms.max_nodes))),
        (
            "certificates, signed attributes, recipients in a message",
            format!("{}, {}, {}", cms.max_certificates, cms.max_attributes, cms.max_recipients),
        ),
        ("iterations of a password's key derivation", count(cms.max_iterations)),
        (
            "PKCS #10 request",
            format!(
                "{}, {} attributes, {} extensions",
                size(csr.max_bytes),
                scep_pkcs10::MAX_ATTRIBUTES,
                scep_pkcs10::MAX_EXTENSIONS
            ),
        ),
        (
            "RSA keys of devices",
            format!("{} to {} bits", count(csr.rsa_bits.0), count(csr.rsa_bits.1)),
        ),
        ("challenge text", size(scep_challenge::MAX_TEXT)),
        ("challenge lifetime, clock skew", format!("60 minutes, {}", minutes(5))),
        ("mismatches before a challenge is locked", ledger.max_mismatches.to_string()),
        (
            "one challenge opened",
            format!(
                "{} times at once, then once each {}",
                server.challenge_burst,
                time(server.challenge_refill)
            ),
        ),
        (
            "retry of a request after issue",
            format!(
                "{}, {} at once, then one each {}",
                time(ledger.retry_window),
                server.retry_burst,
                time(server.retry_refill)
            ),
        ),
        ("a request waits for the same request elsewhere", time(server.in_progress_wait)),
        (
            "requests that wait for a person, and for how long",
            format!("{}, {}", count(ledger.max_held), time(server.hold_for)),
        ),
        ("GetCert and GetCRL each second", format!("{}, more are 503", server.queries)),
        ("connections", format!("{}, more wait", count(server.connections))),
        ("connections of one source", format!("{}, more are closed", server.source_connections)),
        (
            "messages of one source",
            format!(
                "{} at once, then {rate} each second, more are 429",
                count(server.source_burst)
            ),
        ),
        (
            "sources and challenges that are counted",
            format!("{buckets} each; beyond that those are forgotten who may ask most"),
        ),
        (
            "time for a request's head, body",
            format!("{}, {}", time(server.head_timeout), time(server.body_timeout)),
        ),
        (
            "private-key operations at once, messages waiting",
            format!("one for each core, {}, more are 503", server.queue),
        ),
        (
            "OCSP request",
            format!(
                "{}, {MAX_OCSP_REQUESTS} certificates, a nonce of 1 to {MAX_OCSP_NONCE} octets",
                size(MAX_OCSP_REQUEST)
            ),
        ),
        (
            "OCSP signatures each second",
            format!(
                "{} for certificates that exist, whose answers are kept; {} for nonces and unknown numbers, \
                 more are tryLater",
                constant(OCSP, "FOR_KNOWN"),
                constant(OCSP, "FOR_STRANGERS")
            ),
        ),
        (
            "validity of an OCSP answer",
            format!(
                "{} ({} to {})",
                time(OcspSettings::default().validity),
                minutes(10),
                time(hour * 72)
            ),
        ),
        (
            "query of the certificate store",
            format!(
                "{} octets, one attribute",
                constant("crates/scep-server/src/store.rs", "MAX_QUERY")
            ),
        ),
        ("certificates in an hour", "the site's rule".into()),
        (
            "revocations by the issuer in an hour, before an operator confirms",
            format!(
                "{} % of the live certificates, or {}",
                ledger.revocations.percent, ledger.revocations.at_least
            ),
        ),
        ("silence of the issuer before issuing stops", time(hour * 24)),
        ("messages between issuer and gateway", "PROTOCOL.md of scep-link, 1 and 8".into()),
    ]
}

/// The cells of the README's table.
fn table() -> Vec<[String; 4]> {
    let text = source("README.md");
    let mut lines =
        text.lines().skip_while(|line| *line != "| limit | value | set by | test |").skip(2);
    let rows = lines.by_ref().take_while(|line| line.starts_with('|'));
    rows.map(|line| {
        let cells: Vec<String> =
            line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        cells.try_into().unwrap_or_else(|_| panic!("four cells: {line}"))
    })
    .collect()
}

#[test]
fn the_readmes_limits_are_those_of_the_code() {
    let table = table();
    let said: Vec<(&str, &str)> =
        table.iter().map(|[limit, value, ..]| (limit.as_str(), value.as_str())).collect();
    let expected = expected();
    let expected: Vec<(&str, &str)> =
        expected.iter().map(|(limit, value)| (*limit, value.as_str())).collect();
    assert_eq!(said, expected);
}
