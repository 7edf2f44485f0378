//! The whole gateway over HTTP, in process, on a port of its own, with a CA that records what it is asked.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

mod attacks_challenge;
mod attacks_message;
mod attacks_request;
mod authorities;
mod delivery;
mod ec_signers;
mod enrolment;
mod held;
mod http;
mod limits;
mod ocsp;
mod presets;
mod queries;
mod quirks;
mod recovery;
mod renewal;
mod replacement;
mod revocation;
mod rollover;
mod standing;
mod support;
mod transactions;
