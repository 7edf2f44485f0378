//! Everything that needs keys, as one binary: linking several takes longer than running them.

// Clippy excepts functions with #[test] only; their helpers may fail a test as well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod attacks;
mod captures;
mod common;
mod ec_signers;
mod never_panics;
mod openssl;
mod quirks;
mod round_trips;
