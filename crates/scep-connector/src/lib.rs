#![doc = include_str!("../README.md")]
#![warn(clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod connector;
mod enrol;
mod error;
mod host;
mod keys;
mod settings;
mod state;

pub use connector::{Connector, Status};
pub use enrol::{EnrolOptions, Enrolled, enrol};
pub use error::ConnectorError;
pub use host::{Host, HostFacts, Standing};
pub use keys::{KeySlot, KeyStore, KeyStoreError, OwnKey};
pub use settings::{ConnectorSettings, IssuerAddress, Offline, Proxy};
pub use state::{DecryptionState, State, StateFile, Trust};
