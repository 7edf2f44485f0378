#![doc = include_str!("../README.md")]
#![warn(clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod algorithm;
mod authority;
mod chain;
mod error;
mod local;
mod tbs;

pub use authority::{
    CanRevoke, Capabilities, CertificateAuthority, Found, IssueError, Recover, Wanted,
};
pub use error::CaError;
pub use local::{InfrastructurePurpose, LocalCa, LocalCaSettings};
