//! The messages and signed commands as both ends use them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

mod answers;
mod commands;
mod golden;
mod keys;
mod messages;
mod openssl;
mod random;
mod samples;
