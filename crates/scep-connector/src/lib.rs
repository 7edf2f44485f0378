#![doc = include_str!("../README.md")]
#![warn(clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod backoff;
mod check_in;
mod connector;
mod denials;
mod distinct;
mod enrol;
mod error;
mod host;
mod http;
mod keys;
mod log_folder;
mod renewals;
mod reports;
mod revocations;
mod settings;
mod state;
mod text;
mod tls;
mod tunnel;

pub use connector::{Connector, Status};
pub use enrol::{EnrolOptions, Enrolled, enrol};
pub use error::ConnectorError;
pub use host::{Host, HostFacts, Standing};
pub use keys::{KeySlot, KeyStore, KeyStoreError, OwnKey};
pub use settings::{ConnectorSettings, IssuerAddress, Offline, Proxy};
pub use state::{DecryptionState, State, StateFile, Trust};
