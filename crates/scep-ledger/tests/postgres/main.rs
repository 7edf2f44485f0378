//! The suite against PostgreSQL, and what only a shared store has: several gateways, lost connections, crashes of the
//! server.
//!
//! One cluster of the run's own, with every sync on; each test has a schema of its own in it. Where PostgreSQL is
//! missing every test is listed as ignored; where the environment variable `CI` is `true` it fails instead.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

#[path = "../it/held.rs"]
mod held;
#[path = "../it/renewal.rs"]
mod renewal;
#[path = "../it/revocation.rs"]
mod revocation;
#[path = "../it/suite.rs"]
#[allow(unused_macros, unused_imports, reason = "the other harness makes its tests by them")]
mod suite;
#[path = "../it/support.rs"]
mod support;

mod database;
mod group;
mod outage;
mod proxy;
mod waiting;

use core::time::Duration;
use libtest_mimic::{Arguments, Trial};
use scep_testkit::postgres::{Cluster, Programs};
use std::sync::Arc;

type Test = fn(&Arc<Cluster>);

/// Runs an asynchronous test.
fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(test);
}

macro_rules! trials {
    ($backend:expr; $($name:ident)*) => {
        vec![$((
            stringify!($name),
            (|cluster| run(async { suite::$name(&$backend(cluster)).await })) as Test,
        )),*]
    };
}
use trials;

macro_rules! revocations {
    ($backend:expr; $($name:ident)*) => {
        vec![$((
            stringify!($name),
            (|cluster| run(async { revocation::$name(&$backend(cluster)).await })) as Test,
        )),*]
    };
}
use revocations;

macro_rules! held_requests {
    ($backend:expr; $($name:ident)*) => {
        vec![$((
            stringify!($name),
            (|cluster| run(async { held::$name(&$backend(cluster)).await })) as Test,
        )),*]
    };
}
use held_requests;

macro_rules! renewals {
    ($backend:expr; $($name:ident)*) => {
        vec![$((
            stringify!($name),
            (|cluster| run(async { renewal::$name(&$backend(cluster)).await })) as Test,
        )),*]
    };
}
use renewals;

/// For what comes about sooner or later.
struct Deadline(tokio::time::Instant);

impl Deadline {
    fn new() -> Self {
        Self(tokio::time::Instant::now() + Duration::from_secs(60))
    }

    async fn wait(&self) {
        assert!(tokio::time::Instant::now() < self.0, "it did not come about");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn main() {
    if group::is_child() {
        return run(group::child());
    }
    let arguments = Arguments::from_args();
    let mut tests: Vec<(&str, Test)> =
        suite::every_function! { self::trials, database::Database::new };
    let revocations: Vec<(&str, Test)> =
        revocation::every_revocation! { self::revocations, database::Database::new };
    tests.extend(revocations);
    let held: Vec<(&str, Test)> =
        held::every_held! { self::held_requests, database::Database::new };
    tests.extend(held);
    let renewals: Vec<(&str, Test)> =
        renewal::every_renewal! { self::renewals, database::Database::new };
    tests.extend(renewals);
    tests.extend(database::TESTS);
    tests.extend(group::TESTS);
    tests.extend(waiting::TESTS);
    tests.extend(outage::TESTS);

    let programs = Programs::find();
    let ci = std::env::var("CI").as_deref() == Ok("true");
    let cluster = match &programs {
        Some(programs) if !arguments.list => Some(Arc::new(Cluster::start(programs, &[]).unwrap())),
        _ => None,
    };
    if programs.is_none() && !ci {
        eprintln!("SKIPPED {} tests: PostgreSQL is missing", tests.len());
    }
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            let cluster = cluster.clone();
            Trial::test(name, move || {
                let cluster = cluster.ok_or("PostgreSQL is missing")?;
                test(&cluster);
                Ok(())
            })
            .with_ignored_flag(programs.is_none() && !ci)
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Before the exit, which drops nothing.
    drop(cluster);
    conclusion.exit();
}
