#![doc = include_str!("../README.md")]
#![warn(clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod aws;
pub mod danger;
mod distinct;
mod error;
mod file;
mod memory;
#[cfg(feature = "pkcs11")]
mod pkcs11;
mod place;
mod public;
mod pure;
mod reject;
#[cfg(feature = "seeded")]
mod seeded;
mod software;
mod uri;
mod x509;

pub use aws::AwsLc;
pub use distinct::{DistinctKeys, SharedKey, distinct_keys};
pub use error::{KeyFileError, KeyProblem};
pub use memory::forbid_core_dumps;
#[cfg(feature = "pkcs11")]
pub use pkcs11::{Pkcs11Error, Pkcs11Key, TokenKeyPurpose};
pub use place::{KeyPlace, OpenKeyError, PrivateKey, open_key};
pub use public::{
    PublicFileError, certificates_pem, crl_pem, new_private_folder, public_key_pem,
    read_certificates, read_public_key, write_new_public,
};
pub use pure::PureRust;
pub use software::{Backend, SoftwareKey};
pub use uri::{TokenUri, TokenUriError};
pub use x509::{SignatureOctets, VerifyingKey, X509Signer};
