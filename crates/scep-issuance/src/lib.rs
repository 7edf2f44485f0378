#![doc = include_str!("../README.md")]
#![warn(clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod lint;
mod mint;
pub mod payload;
mod profile;
#[cfg(feature = "service")]
pub mod service;
mod template;
#[cfg(test)]
mod tests;
mod variable;

pub use lint::Lint;
pub use mint::{MintError, Minted, Minter, MinterError};
pub use profile::{CertificateFor, Field, Profile, ProfileError, RevokeOn, SidForm};
pub use template::{FillError, TemplateError};
pub use variable::{About, Attributes, AttributesError, MAX_VALUE, Origin, Variable};
