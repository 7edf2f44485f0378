#![doc = include_str!("../README.md")]
#![warn(clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod algorithm;
mod auth;
pub mod ber;
mod enveloped;
mod error;
mod limits;
mod oid;
mod password;
mod read;
mod sign;
mod signed;
mod symmetric;

pub use auth::{auth_recipient, open_auth, seal_auth};
pub use enveloped::{EnvelopedData, Opened, Recipient, seal};
pub use error::CmsError;
pub use limits::{LegacyAlgorithms, Limits};
pub use password::seal_with_password;
pub use read::same_name;
pub use sign::{SignerId, ToSign, certs_only, crl_only, sign};
pub use signed::{SignedData, VerifiedSignedData};
pub use symmetric::ContentEncryption;
