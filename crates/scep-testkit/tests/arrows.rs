//! The dependencies between the crates, as designed: what is not listed here is forbidden.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper of tests may panic as a test may"
)]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// From, to, and why. `scep-` is left out.
const ARROWS: &[(&str, &str, &str)] = &[
    ("cms", "types", "ids, DER cursor and the traits of keys"),
    ("pkcs10", "types", "names, keys and signature verification"),
    ("keys", "types", "implements the traits of keys"),
    ("message", "types", "transaction ids, nonces, certificates"),
    ("message", "cms", "an SCEP message is CMS"),
    ("challenge", "types", "the ids and expectations in the claims"),
    ("challenge", "cms", "the blob is CMS"),
    ("policy", "types", "names and usages are compared"),
    ("policy", "pkcs10", "a request is decided on"),
    ("policy", "challenge", "by verified claims"),
    ("ledger", "types", "keeps ids and hashes"),
    ("ledger", "policy", "admits an Approval, records a Conforming; no request, so not pkcs10"),
    ("ca", "types", "certificates and signers"),
    ("ca", "pkcs10", "some CAs want the request itself"),
    ("ca", "policy", "issues what an Approval says"),
    ("ca", "ledger", "demands an Admission"),
    ("ca", "client", "another SCEP server can be the CA"),
    ("link", "types", "ids on the wire between gateway and issuer"),
    ("link", "cms", "commands are signed"),
    ("connector", "types", "ids and keys"),
    ("connector", "link", "speaks with the issuer"),
    ("connector", "ledger", "the outbox is there"),
    ("connector", "pkcs10", "renews its own certificates"),
    ("connector", "cms", "verifies commands"),
    ("client", "types", "ids and keys"),
    ("client", "cms", "opens and seals"),
    ("client", "pkcs10", "makes requests"),
    ("client", "message", "speaks SCEP"),
    ("issuance", "types", "ids and keys"),
    ("issuance", "link", "speaks with gateways"),
    ("issuance", "challenge", "makes blobs"),
    ("issuance", "pkcs10", "enrols connectors"),
    ("issuance", "cms", "signs commands"),
    ("issuance", "ca", "issues connectors' certificates"),
    ("server", "types", "ids and faults"),
    ("server", "message", "speaks SCEP"),
    ("server", "pkcs10", "parses and proves requests"),
    ("server", "challenge", "opens blobs"),
    ("server", "policy", "asks for the decision"),
    ("server", "ca", "has certificates issued"),
    ("server", "ledger", "records all of it"),
];

/// May wire anything: programs, and what is never published.
const WIRE_ANYTHING: &[&str] = &[
    "scep-gateway",
    "scep-issuer",
    "scep-verifier",
    "scep-device",
    "scep-testkit",
    "sceptic-benches",
    "sceptic-examples",
];

/// The only ones that may use an async runtime. The rest can be called from anywhere.
const ASYNC: &[&str] = &[
    "scep-server",
    "scep-ca",
    "scep-ledger",
    "scep-connector",
    "scep-issuance",
    "scep-client",
    "scep-gateway",
    "scep-issuer",
    "scep-verifier",
    "scep-device",
    "scep-testkit",
    "sceptic-benches",
    "sceptic-examples",
];

const RUNTIMES: &[&str] = &[
    "tokio",
    "tokio-util",
    "async-std",
    "smol",
    "async-io",
    "futures-executor",
    "hyper",
    "reqwest",
];

/// Only scep-keys names a back end, so that another can take its place in one crate.
const BACK_ENDS: &[&str] =
    &["aws-lc-rs", "aws-lc-sys", "rsa", "p256", "p384", "ring", "openssl", "graviola"];

/// What tests may use whatever their crate: real keys, and the kit.
const IN_TESTS: &[&str] = &["scep-types", "scep-keys", "scep-testkit"];

/// Tests may also look sideways, at the other end of the wire, but not up: a crate's tests must not need the crates
/// that are built on it. These do, each for a reason.
const UPWARDS_IN_TESTS: &[(&str, &str, &str)] =
    &[("client", "ca", "something must issue what the client asks for")];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Normal,
    Build,
    Dev,
}

struct Member {
    name: String,
    manifest: String,
    dependencies: Vec<(String, Kind)>,
}

/// The workspace as cargo sees it.
fn workspace() -> Vec<Member> {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: Value = serde_json::from_slice(&out.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| Member {
            name: text(&package["name"]),
            manifest: text(&package["manifest_path"]),
            dependencies: package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .map(|dependency| {
                    let kind = match dependency["kind"].as_str() {
                        None => Kind::Normal,
                        Some("build") => Kind::Build,
                        Some("dev") => Kind::Dev,
                        Some(other) => panic!("dependency kind {other}"),
                    };
                    (text(&dependency["name"]), kind)
                })
                .collect(),
        })
        .collect()
}

/// Everything that lies below a crate.
fn below(name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![name.to_owned()];
    while let Some(from) = open.pop() {
        for (_, to, _) in ARROWS.iter().filter(|(f, _, _)| format!("scep-{f}") == from) {
            let to = format!("scep-{to}");
            if found.insert(to.clone()) {
                open.push(to);
            }
        }
    }
    found
}

/// Every dependency that the design does not allow, as a sentence.
fn forbidden(members: &[Member]) -> Vec<String> {
    let internal: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let is_from = |name: &str| ARROWS.iter().any(|(from, _, _)| format!("scep-{from}") == name);
    let mut found = Vec::new();
    for Member { name, dependencies, .. } in members {
        let name = name.as_str();
        let wires = WIRE_ANYTHING.contains(&name);
        if !wires && !is_from(name) && name != "scep-types" {
            found.push(format!("{name} is in no list of this test"));
        }
        for (to, kind) in dependencies {
            let to = to.as_str();
            let how = format!("{name} -> {to} ({kind:?})");
            if RUNTIMES.contains(&to) && *kind != Kind::Dev && !ASYNC.contains(&name) {
                found.push(format!("{how}: no async runtime here"));
            }
            if BACK_ENDS.contains(&to) && name != "scep-keys" {
                found.push(format!("{how}: only scep-keys names a crypto back end"));
            }
            if to == "scep-testkit" && *kind != Kind::Dev && !name.starts_with("sceptic-") {
                found.push(format!("{how}: the kit is for tests, benches and examples"));
                continue;
            }
            if wires || !internal.contains(to) {
                continue;
            }
            let arrow = ARROWS
                .iter()
                .any(|(a, b, _)| format!("scep-{a}") == name && format!("scep-{b}") == to);
            let allowed = match kind {
                Kind::Normal => arrow,
                Kind::Build => false,
                Kind::Dev => {
                    IN_TESTS.contains(&to)
                        || !below(to).contains(name)
                        || UPWARDS_IN_TESTS.iter().any(|(a, b, _)| {
                            format!("scep-{a}") == name && format!("scep-{b}") == to
                        })
                }
            };
            if !allowed {
                found.push(format!("{how}: not an arrow of the design"));
            }
        }
    }
    found
}

#[test]
fn the_crates_depend_on_each_other_as_designed() {
    let members = workspace();
    assert!(members.iter().any(|member| member.name == "scep-server"), "cargo sees the workspace");
    let found = forbidden(&members);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn each_wrong_dependency_is_found() {
    let with = |name: &str, to: &str, kind| {
        let mut members = workspace();
        let before = forbidden(&members);
        let member = members.iter_mut().find(|member| member.name == name).unwrap();
        member.dependencies.push((to.to_owned(), kind));
        let mut found = forbidden(&members);
        found.retain(|sentence| !before.contains(sentence));
        found
    };
    let arrow = "not an arrow of the design";
    let kit = "the kit is for tests, benches and examples";
    for (name, to, kind, why) in [
        ("scep-types", "scep-cms", Kind::Normal, arrow),
        ("scep-message", "scep-challenge", Kind::Normal, arrow),
        ("scep-challenge", "scep-message", Kind::Normal, arrow),
        ("scep-ledger", "scep-pkcs10", Kind::Normal, arrow),
        ("scep-ledger", "scep-ca", Kind::Normal, arrow),
        ("scep-server", "scep-keys", Kind::Normal, arrow),
        ("scep-keys", "scep-cms", Kind::Normal, arrow),
        ("scep-server", "scep-testkit", Kind::Normal, kit),
        ("scep-gateway", "scep-testkit", Kind::Normal, kit),
        ("scep-cms", "scep-types", Kind::Build, arrow),
        // Tests may look down and sideways, not up.
        ("scep-cms", "scep-message", Kind::Dev, arrow),
        ("scep-policy", "tokio", Kind::Normal, "no async runtime here"),
        ("scep-cms", "rsa", Kind::Normal, "only scep-keys names a crypto back end"),
        ("scep-gateway", "aws-lc-rs", Kind::Normal, "only scep-keys names a crypto back end"),
        ("scep-cms", "p256", Kind::Dev, "only scep-keys names a crypto back end"),
    ] {
        assert_eq!(with(name, to, kind), [format!("{name} -> {to} ({kind:?}): {why}")]);
    }
    for (name, to, kind) in [
        ("scep-server", "scep-testkit", Kind::Dev),
        ("scep-ledger", "scep-pkcs10", Kind::Dev),
        ("scep-message", "scep-pkcs10", Kind::Dev),
        ("scep-policy", "tokio", Kind::Dev),
        ("scep-gateway", "scep-cms", Kind::Normal),
    ] {
        assert_eq!(with(name, to, kind), [""; 0], "{name} -> {to}");
    }
}

#[test]
fn the_arrows_point_one_way_and_each_is_listed_once() {
    let mut seen = BTreeMap::new();
    for (from, to, why) in ARROWS {
        assert_eq!(seen.insert((from, to), why), None, "{from} -> {to} twice");
        assert!(!below(&format!("scep-{to}")).contains(&format!("scep-{from}")), "{from} <-> {to}");
    }
    assert!(below("scep-keys").iter().eq(["scep-types"]), "keys depend on types alone");
}

#[test]
fn every_member_inherits_the_lints_and_the_package_fields() {
    for Member { name, manifest, .. } in workspace() {
        let manifest: toml::Table = std::fs::read_to_string(manifest).unwrap().parse().unwrap();
        let inherited = |table: &str, key: &str| {
            manifest
                .get(table)
                .and_then(|table| table.get(key))
                .and_then(|value| value.get("workspace").unwrap_or(value).as_bool())
        };
        assert_eq!(inherited("lints", "workspace"), Some(true), "{name} has its own lints");
        for key in ["version", "edition", "rust-version", "license", "repository"] {
            assert_eq!(inherited("package", key), Some(true), "{name} has its own {key}");
        }
    }
}
