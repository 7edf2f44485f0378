//! The connector against an issuer that can answer anything, over real TLS on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests: what does not fit is a failed test"
)]

mod commands;
mod denials;
mod enrolment;
mod gateway;
mod issuer;
mod link;
mod renewals;
mod reports;
mod revocations;
mod standing;
mod tls;
