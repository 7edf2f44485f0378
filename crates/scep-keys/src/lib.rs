#![doc = include_str!("../README.md")]
#![warn(clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod aws;
pub mod danger;
mod distinct;
mod error;
mod file;
mod public;
mod pure;
mod reject;
#[cfg(feature = "seeded")]
mod seeded;
mod software;
mod x509;

pub use aws::AwsLc;
pub use distinct::{DistinctKeys, SharedKey, distinct_keys};
pub use error::{KeyFileError, KeyProblem};
pub use public::{
    PublicFileError, certificates_pem, crl_pem, new_private_folder, public_key_pem,
    read_certificates, read_public_key, write_new_public,
};
pub use pure::PureRust;
pub use software::{Backend, SoftwareKey};
pub use x509::{SignatureOctets, VerifyingKey, X509Signer};
