//! Schemathesis against the admin API, by the OpenAPI document that the API itself gives out.
//!
//! A harness of its own, because only the run can tell whether this machine has it (`.ci/peers` installs it).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

#[allow(dead_code, unused_macros, unused_imports, reason = "this target needs a part of it")]
#[path = "service/harness.rs"]
mod harness;
#[allow(dead_code, reason = "this target needs a part of it")]
#[path = "service/house.rs"]
mod house;

use house::House;
#[cfg(feature = "postgres")]
use house::{Database, Schema};
use libtest_mimic::Arguments;
#[cfg(feature = "postgres")]
use scep_testkit::postgres::{Cluster, Programs};
use scep_testkit::process::peers::{Peer, folder, trial};
use std::path::PathBuf;
use std::process::Command;

/// How long it tries; `SCEP_SCHEMATHESIS_SECONDS` for more.
const SECONDS: &str = "60";
/// It is to find answers that are ours or not as documented. That everything is refused which its negative mode makes
/// up is not asked: a path's id that cannot be one is simply not found.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,response_headers_conformance,ignored_auth";

fn main() {
    let arguments = Arguments::from_args();
    let peers = [Peer::file(program())];
    #[allow(unused_mut, reason = "a feature has another")]
    let mut trials = vec![trial("schemathesis", &peers, || run(House::new))];
    #[cfg(feature = "postgres")]
    trials.push({
        let server = Peer::named("PostgreSQL", Programs::find().is_some());
        trial("schemathesis_on_postgresql", &[Peer::file(program()), server], || {
            let cluster = Cluster::start(&Programs::find().unwrap(), &[]).unwrap();
            let database = Database::Postgres(Schema::new(cluster.by_socket()));
            run(|| House::on(tempfile::tempdir().unwrap(), database));
        })
    });
    libtest_mimic::run(&arguments, trials).exit();
}

fn program() -> PathBuf {
    folder().join("venv/bin/schemathesis")
}

fn run<F: Future<Output = House>>(house: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let house = runtime.block_on(async {
        let house = house().await;
        house.furnish().await;
        house
    });
    let seconds = std::env::var("SCEP_SCHEMATHESIS_SECONDS").unwrap_or_else(|_| SECONDS.to_owned());
    let output = Command::new(program())
        .current_dir(house.dir.path())
        .env("NO_PROXY", "127.0.0.1")
        .args(["run", "--no-color", "--max-time", &seconds, "--checks", CHECKS])
        .args(["--phases", "examples,coverage,fuzzing", "--warnings", "off"])
        .args(["--suppress-health-check", "all", "--request-timeout", "10"])
        .args(["--header", &format!("Authorization: Bearer {}", house.admin)])
        .arg(format!("{}/api/v1/openapi.json", house.base))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    // That it tried something.
    assert!(text.contains("Test cases:") && !text.contains("Tested: 0"), "{text}");
    // And the issuer is as well as before.
    let answer = runtime.block_on(house.get("/profiles"));
    assert_eq!(answer.status, 200, "{}", answer.text);
    let token = runtime.block_on(house.call(None, "GET", &house::below(""), None, &[]));
    assert_eq!(token.status, 401);
}
