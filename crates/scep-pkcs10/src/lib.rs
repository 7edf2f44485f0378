#![doc = include_str!("../README.md")]
#![warn(clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(clippy::arithmetic_side_effects, reason = "tests compute with numbers of their own")
)]

mod attribute;
mod builder;
pub mod danger;
mod error;
mod extension;
mod oid;
mod request;
mod weak;

pub use builder::CsrBuilder;
pub use error::CsrError;
pub use extension::RequestedExtension;
pub use request::{Csr, UnprovenCsr};
pub use weak::check_key;

use scep_types::StringRules;

/// The most attributes in a request.
pub const MAX_ATTRIBUTES: usize = 16;
/// The most extensions in a request.
pub const MAX_EXTENSIONS: usize = 32;
/// The longest challengePassword, octets of UTF-8: 16 KiB. RFC 2985 says 255, and no challenge that says what
/// it allows fits in that.
pub const MAX_CHALLENGE: usize = 16 * 1024;

/// What is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Longest request, octets. 64 KiB.
    pub max_bytes: usize,
    /// String types in names.
    pub strings: StringRules,
    /// Smallest RSA modulus, bits (2048), and largest (8192).
    pub rsa_bits: (u32, u32),
    /// Self-signatures with SHA-1.
    pub sha1: Sha1Signatures,
}

/// Whether a request may be signed with RSASSA-PKCS1-v1_5 and SHA-1. MD5 is never accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sha1Signatures {
    /// Refused.
    Refuse,
    /// Accepted, for endpoints that serve devices which can do no better. The signature proves possession of the
    /// key, no more; what is certified comes from the challenge.
    Accept,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            max_bytes: 64 * 1024,
            strings: StringRules::Strict,
            rsa_bits: (2048, 8192),
            sha1: Sha1Signatures::Refuse,
        }
    }
}
