#![doc = include_str!("../README.md")]

mod admin;
mod answer;
mod clock;
mod delivery;
mod enrol;
mod gateway;
mod http;
mod metrics;
mod ocsp;
mod pool;
mod recover;
mod refusal;
mod retries;
mod revoke;
mod slot;
mod standing;
mod store;
mod trace;
mod withheld;

pub use answer::{Answer, answer};
pub use clock::SystemClock;
pub use gateway::{
    CaCertForm, Endpoint, Gateway, Parts, ReplyCertificates, ServerLimits, SignerRule,
};
pub use ocsp::OcspSettings;
pub use revoke::{CrlSettings, RevocationError, Revocations};
pub use standing::{Availability, EXPIRY_ALARM_DAYS, Expiry, LinkStatus};
pub use store::StoreSettings;
pub use trace::{Observer, Outcome, Stage, Trace};
