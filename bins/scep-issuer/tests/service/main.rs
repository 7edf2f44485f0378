//! The service over TLS and the commands that administer it, all as processes.
//!
//! A harness of its own, because only the run can tell which programs of others this machine has: a trial whose peers
//! are missing is listed as ignored and named on standard error; where the environment variable `CI` is `true` it fails
//! instead.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

mod admin;
mod gateway;
mod keys;
mod peers;
mod support;
mod trust;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let groups: [Vec<Trial>; 5] =
        [admin::trials(), gateway::trials(), keys::trials(), peers::trials(), trust::trials()];
    libtest_mimic::run(&arguments, groups.into_iter().flatten().collect()).exit();
}
