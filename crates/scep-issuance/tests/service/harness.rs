//! Runs every test on every database that an issuer can have.
//!
//! A test is a plain `async fn` without an attribute and without parameters. Its module names it once, at its end:
//!
//! ```text
//! tests![first_name, second_name];
//! ```
//!
//! and `main` names the module once, in `every_test`. That is all: [`House::new`](crate::house::House::new) makes the
//! issuer on whichever database the run is for, and [`House::store`](crate::house::House::store) opens that one once
//! more. A function that is not named is dead code, which Clippy refuses; one that has an attribute of another harness,
//! which would never run, is found by `every_test_is_named`.
//!
//! `cargo test -p scep-issuance --features postgres --test service` runs all; a name, or `sqlite::` or `postgres::`,
//! some. Where PostgreSQL is missing its tests are listed as ignored; where the environment variable `CI` is `true` they
//! fail instead.

use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
#[cfg(feature = "postgres")]
use scep_testkit::postgres::{Cluster, Programs};
use std::path::{Path, PathBuf};
use std::pin::Pin;
#[cfg(feature = "postgres")]
use std::sync::Arc;
use tracing_subscriber::EnvFilter;

/// A test, not yet begun.
pub(crate) type Test = fn() -> Pin<Box<dyn Future<Output = ()>>>;
/// The tests of a module, with their names.
pub(crate) type Tests = &'static [(&'static str, Test)];

/// Names the tests of a module.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) const TESTS: $crate::harness::Tests =
            &[$((stringify!($name), || Box::pin($name()))),*];
    };
}
pub(crate) use tests;

/// The database of the present test.
#[derive(Clone, Debug, Default)]
pub(crate) enum Backend {
    #[default]
    Sqlite,
    /// The run's own cluster, with every sync on. Each house has a schema of its own in it.
    #[cfg(feature = "postgres")]
    Postgres(Arc<Cluster>),
}

tokio::task_local! {
    static BACKEND: Backend;
}

/// The database of the present test; SQLite where no test has said anything.
pub(crate) fn backend() -> Backend {
    BACKEND.try_with(Backend::clone).unwrap_or_default()
}

fn on(backend: Backend, test: Test) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(BACKEND.scope(backend, test()));
}

/// Runs what the arguments ask for: each of `tests` on every database, those `of_server` on PostgreSQL alone.
pub(crate) fn run(tests: &[Tests], of_server: &[Tests]) -> Conclusion {
    let arguments = Arguments::from_args();
    // Errors, unless RUST_LOG wants more.
    tracing_subscriber::fmt().with_env_filter(EnvFilter::from_default_env()).init();
    let mut trials = vec![Trial::test("every_test_is_named", every_test_is_named)];
    for &(name, test) in tests.iter().copied().flatten() {
        trials.push(Trial::test(format!("sqlite::{name}"), move || {
            on(Backend::Sqlite, test);
            Ok(())
        }));
    }
    #[cfg(not(feature = "postgres"))]
    let _ = of_server;
    #[cfg(feature = "postgres")]
    let _cluster = {
        let server = Server::find(&arguments);
        for &(name, test) in tests.iter().chain(of_server).copied().flatten() {
            trials.push(server.trial(name, move |cluster| on(Backend::Postgres(cluster), test)));
        }
        server
    };
    libtest_mimic::run(&arguments, trials)
}

/// PostgreSQL on this machine, and the run's cluster of it.
#[cfg(feature = "postgres")]
struct Server {
    there: bool,
    cluster: Option<Arc<Cluster>>,
}

#[cfg(feature = "postgres")]
impl Server {
    fn find(arguments: &Arguments) -> Self {
        let programs = Programs::find();
        // What is asked for by name may need none.
        let needed = arguments.filter.as_ref().is_none_or(|name| !name.starts_with("sqlite"));
        let cluster = match &programs {
            Some(programs) if needed && !arguments.list => {
                Some(Arc::new(Cluster::start(programs, &[]).unwrap()))
            }
            _ => None,
        };
        Self { there: programs.is_some(), cluster }
    }

    fn trial(&self, name: &str, test: impl FnOnce(Arc<Cluster>) + Send + 'static) -> Trial {
        let cluster = self.cluster.clone();
        let skipped = !self.there && std::env::var("CI").as_deref() != Ok("true");
        if skipped {
            eprintln!("SKIPPED postgres::{name}: PostgreSQL is missing");
        }
        Trial::test(format!("postgres::{name}"), move || {
            test(cluster.ok_or("PostgreSQL is missing")?);
            Ok(())
        })
        .with_ignored_flag(skipped)
    }
}

/// An attribute that another harness would look for is one that this one drops.
fn every_test_is_named() -> Result<(), Failed> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/service")];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    assert!(files.len() >= 3, "{files:?}");
    for path in files {
        for (line, number) in std::fs::read_to_string(&path)?.lines().zip(1..) {
            let line = line.trim();
            let foreign = line.starts_with("#[") && (line.contains("::test") || line == "#[test]");
            assert!(!foreign, "{}:{number}: not run; name it in tests![]", path.display());
        }
    }
    Ok(())
}
