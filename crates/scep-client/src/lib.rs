#![doc = include_str!("../README.md")]
#![warn(clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod algorithms;
mod client;
mod error;
mod http;
mod identity;
mod path;
mod server;

pub use client::{Answer, Issued, Pending, Polling, ScepClient};
pub use error::{ClientError, Step};
pub use http::{ClientSettings, Transport};
pub use identity::Identity;
pub use scep_cms::{ContentEncryption, LegacyAlgorithms};
pub use scep_message::{FailInfo, MessageError, caps::Capabilities};
pub use server::{CaCertificates, Server, Trust};
