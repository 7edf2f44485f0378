//! Reads the published vectors as another implementation would: FORMAT.md, the files, the public API.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod common;

use core::time::Duration;
use scep_challenge::*;
use scep_keys::{AwsLc, Backend, SoftwareKey};
use scep_types::{GatewayGroupId, TenantId, Timestamp};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn key(name: &str) -> SoftwareKey {
    let pem = std::fs::read(folder().join("keys").join(format!("{name}.pem"))).unwrap();
    SoftwareKey::from_pkcs8_der(pem::parse(pem).unwrap().contents(), Backend::AwsLc).unwrap()
}

fn text<'a>(vector: &'a Value, field: &str) -> &'a str {
    vector[field].as_str().unwrap_or_else(|| panic!("{field} is missing"))
}

fn seconds(vector: &Value, field: &str) -> i64 {
    vector[field].as_i64().unwrap_or_else(|| panic!("{field} is missing"))
}

fn duration(vector: &Value, field: &str) -> Duration {
    Duration::from_secs(seconds(vector, field).try_into().unwrap())
}

/// Opens one vector and compares everything it states.
fn check(vector: &Value) {
    let now = Timestamp::from_seconds(seconds(vector, "now"));
    let pinned = PinnedSigner {
        key: key(text(vector, "pinnedSigner")).public_key().clone(),
        not_before: Timestamp::EPOCH,
        not_after: Timestamp::MAX,
    };
    let opening = OpeningKey {
        key: key(text(vector, "decryptionKey")).decryption().unwrap(),
        not_after: None,
    };
    let opener = Opener::new(
        TenantId::new(text(vector, "tenant")).unwrap(),
        GatewayGroupId::new(text(vector, "audience")).unwrap(),
        vec![pinned],
        vec![opening],
        duration(vector, "maxLifetime"),
        duration(vector, "skew"),
    )
    .unwrap();
    let opened = opener.open(text(vector, "text"), now, &AwsLc);
    let (outcome, claims) = match &opened {
        Ok(verified) => ("Success", Some(verified.claims())),
        Err(error) => (error.reason().code(), error.claims()),
    };
    assert_eq!(outcome, text(vector, "outcome"), "{opened:?}");
    if let Some(claims) = claims {
        assert_eq!(common::describe(claims), vector["claims"]);
        let plaintext = hex::decode(text(vector, "plaintext")).unwrap();
        assert_eq!(claims.to_der().unwrap(), plaintext);
        assert_eq!(ChallengeClaims::from_der(&plaintext).unwrap(), *claims);
    } else {
        assert_eq!(vector["claims"], Value::Null);
    }
}

#[test]
fn every_vector_has_the_outcome_it_states_and_is_listed_in_the_specification() {
    let specification = include_str!("../FORMAT.md");
    let listed: BTreeSet<&str> = specification
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once(".json`"))
        .map(|(name, _)| name)
        .collect();
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        println!("{name}");
        let vector: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        check(&vector);
        // The table states the same outcome as the file.
        let row = format!("| `{name}.json` | {} |", text(&vector, "outcome"));
        assert!(specification.contains(&row), "FORMAT.md has no row {row:?}");
        found.insert(name);
    }
    assert_eq!(found.iter().map(String::as_str).collect::<BTreeSet<_>>(), listed);
}
