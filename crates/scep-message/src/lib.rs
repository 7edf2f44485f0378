//! RFC 8894 messages.
#![warn(clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod attributes;
pub mod ca_cert;
pub mod caps;
pub mod client;
mod error;
pub mod http;
mod kinds;
mod reply;
mod request;
mod salvage;

pub use error::MessageError;
pub use kinds::{FailInfo, MessageType, PkiStatus};
pub use reply::{FailureContext, ReplyChain, ReplyContext};
pub use request::{PkiMessage, RaIdentity, Request, SignedRequest};
pub use salvage::salvage;
