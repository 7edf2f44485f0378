//! Tests with programs of somebody else, in test targets of their own harness (libtest-mimic): only the run can tell
//! which peers this machine has. A trial whose peers are missing is listed as ignored and named on standard error;
//! where the environment variable `CI` is `true` it fails instead.

use libtest_mimic::{Failed, Trial};
use std::path::{Path, PathBuf};

/// A program or file of somebody else that a trial needs.
#[derive(Debug)]
pub struct Peer {
    name: String,
    there: bool,
}

impl Peer {
    /// A program of the search path, or in a folder for administrators' programs.
    #[must_use]
    pub fn program(name: &str) -> Self {
        Self::named(name, find(name).is_some())
    }

    /// A file.
    #[must_use]
    pub fn file(path: impl AsRef<Path>) -> Self {
        Self::named(&path.as_ref().display().to_string(), path.as_ref().is_file())
    }

    /// Something else, which the caller has looked for.
    #[must_use]
    pub fn named(name: &str, there: bool) -> Self {
        Self { name: name.to_owned(), there }
    }
}

/// Where a program is.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Where `.ci/peers` puts what Debian has no package of: `$SCEP_PEERS`, or `target/peers`.
#[must_use]
pub fn folder() -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers");
    std::env::var_os("SCEP_PEERS").map_or_else(own, PathBuf::from)
}

/// A trial that runs when its peers are there. A panic is its failure.
#[must_use]
pub fn trial(name: &str, peers: &[Peer], test: fn()) -> Trial {
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

/// Trials with a program that no package has, neither Debian's nor PyPI's nor crates.io's: `.ci/long` builds it and has them
/// run, and the gate does without. They are there wherever the program is; where it is not they are as other trials
/// whose peer is missing, but for CI, which could not get it.
#[must_use]
pub fn built_by_hand(program: &str, trials: Vec<Trial>) -> Vec<Trial> {
    let ci = std::env::var("CI").as_deref() == Ok("true");
    if ci && !folder().join(program).is_file() { Vec::new() } else { trials }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_peer_is_skipped_by_name_and_a_failure_in_ci() {
        let ci = std::env::var("CI").as_deref() == Ok("true");
        let peers = [Peer::named("there", true), Peer::file("/nonexistent/peer")];
        assert_eq!(trial("missing", &peers, || ()).has_ignored_flag(), !ci);
        assert!(!trial("there", &peers[..1], || ()).has_ignored_flag());
        assert!(!Peer::program("no program has this name").there);
    }
}
