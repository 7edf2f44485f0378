#![doc = include_str!("../README.md")]
#![warn(clippy::arithmetic_side_effects)]
// The kit runs in tests alone: its own keys and constants that turn out wrong are a failed test.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

// Under the feature `house` is what needs the upper crates; the rest needs only keys.
#[cfg(feature = "house")]
pub mod apple;
pub mod ber;
#[cfg(feature = "house")]
pub mod ca;
pub mod clock;
#[cfg(all(feature = "house", feature = "process"))]
pub mod conformance;
#[cfg(any(feature = "house", feature = "vectors"))]
pub mod device;
#[cfg(feature = "house")]
pub mod house;
pub mod keys;
pub mod noop;
#[cfg(feature = "house")]
pub mod noop_house;
#[cfg(all(feature = "postgres", unix))]
pub mod postgres;
#[cfg(feature = "process")]
pub mod process;
pub mod programs;
#[cfg(feature = "vectors")]
pub mod vectors;
#[cfg(feature = "house")]
pub mod windows;

pub use clock::FixedClock;
#[cfg(feature = "house")]
pub use house::House;
pub use keys::TestKey;
pub use noop::{NoOpDecryption, NoOpProvider, NoOpSigner};
#[cfg(feature = "house")]
pub use noop_house::NoOpHouse;
pub use scep_keys::danger::SeededProvider;
