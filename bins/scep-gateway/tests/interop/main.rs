//! Real clients against `scep-gateway serve`, with challenges of `scep-issuer mint`.
//!
//! A harness of its own, because only the run can tell which peers this machine has: a trial whose peers are missing is
//! listed as ignored and named on standard error; where the environment variable `CI` is `true` it fails instead.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

mod bouncycastle;
mod certmonger;
mod micromdm;
mod platforms;
mod python;
mod sscep;
mod sscep_renewal;
mod strongswan;
mod support;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let trials: Vec<Trial> = [
        bouncycastle::trials(),
        certmonger::trials(),
        micromdm::trials(),
        platforms::trials(),
        python::trials(),
        sscep::trials(),
        sscep_renewal::trials(),
        strongswan::trials(),
    ]
    .into_iter()
    .flatten()
    .collect();
    libtest_mimic::run(&arguments, trials).exit();
}
