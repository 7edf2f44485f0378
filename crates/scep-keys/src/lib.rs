#![doc = include_str!("../README.md")]
#![warn(clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod aws;
mod distinct;
mod error;
mod file;
mod pure;
mod reject;
mod software;
mod x509;

pub use aws::AwsLc;
pub use distinct::{DistinctKeys, SharedKey, distinct_keys};
pub use error::{KeyFileError, KeyProblem};
pub use pure::PureRust;
pub use software::{Backend, SoftwareKey};
pub use x509::{SignatureOctets, VerifyingKey, X509Signer};
