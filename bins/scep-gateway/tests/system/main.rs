//! The system whole: `scep-issuer serve` and `scep-gateway serve` as processes, and devices that enrol.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

mod authorities;
mod crash;
mod estate;
mod held;
mod nginx;
mod outage;
mod renewal;
mod secrets;
mod sockets;
mod state;
mod tenants;
