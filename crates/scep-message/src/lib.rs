#![doc = include_str!("../README.md")]
//!
//! | module | holds |
//! | --- | --- |
//! | (this one) | the server's side: [`PkiMessage`] to [`ReplyContext`] |
//! | [`client`] | requests out, replies in |
//! | [`http`] | operations from queries and bodies, and the query of a GET |
//! | [`caps`] | GetCACaps |
//! | [`ca_cert`] | GetCACert |
//! | [`next_ca`] | GetNextCACert |
#![warn(clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod attributes;
pub mod ca_cert;
pub mod caps;
pub mod client;
mod error;
pub mod http;
mod kinds;
pub mod next_ca;
mod reply;
mod request;
mod salvage;

pub use error::MessageError;
pub use kinds::{FailInfo, MessageType, PkiStatus};
pub use reply::{FailureContext, ReplyChain, ReplyCipher, ReplyContext, ReplyDigest, ReplySealing};
pub use request::{PkiMessage, RaIdentity, Request, SignedRequest};
pub use salvage::salvage;
// What this crate's callers name in its signatures; they need no dependency of their own on the CMS
// layer.
pub use scep_cms::{ContentEncryption, LegacyAlgorithms, Limits, Recipient, same_name};
