#![doc = include_str!("../README.md")]
#![warn(clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod claims;
mod codec;
mod open;
mod seal;
mod sid;
#[cfg(test)]
extern crate self as scep_challenge; // shared test code names the crate from outside
#[cfg(test)]
mod tests;

pub use claims::{
    ApprovalMode, ChallengeClaims, ClaimsError, DemandUsages, Expectation, ExtraExtension, Purpose,
    Renewal,
};
pub use open::{
    MAX_LIFETIME, MAX_SKEW, OpenError, Opener, OpenerConfigError, OpeningKey, PinnedSigner,
    Refusal, VerifiedClaims,
};
pub use seal::{KeyRole, MAX_TEXT, SealError, is_suitable, seal};
pub use sid::{SID_EXTENSION, Sid, SidError, resembles_sid_uri};
