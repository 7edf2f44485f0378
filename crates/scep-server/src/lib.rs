#![doc = include_str!("../README.md")]

mod admin;
mod answer;
mod authority;
mod buckets;
mod budget;
mod ca_health;
mod clock;
mod delivery;
mod enrol;
mod gateway;
mod held;
mod http;
mod issue;
mod metrics;
mod ocsp;
mod operator;
mod pool;
mod preset;
mod query;
mod recover;
mod refusal;
mod renew;
mod reply;
mod retries;
mod revoke;
mod slot;
mod source;
mod standing;
mod store;
mod trace;
mod upkeep;
mod upload;
mod withheld;

pub use answer::{Answer, answer};
pub use authority::{Authority, AuthorityHandle, NextCa};
pub use clock::SystemClock;
pub use gateway::{Gateway, Parts, PartsError, ServerLimits};
pub use ocsp::OcspSettings;
pub use operator::{HeldDocument, OperatorToken, OperatorTokenError, Person, PersonError};
pub use preset::{
    CaCertForm, CaCertOrder, CaShown, Endpoint, Preset, RaShown, ReplyCertificates, SignerRule,
};
pub use revoke::{CrlSettings, RevocationError, Revocations};
pub use scep_message::{ReplyCipher, ReplyDigest};
#[doc(hidden)]
pub use source::client_of;
pub use source::{Network, NetworkError};
pub use standing::{Availability, EXPIRY_ALARM_DAYS, Expiry, LinkStatus, RenewalContact};
pub use store::StoreSettings;
pub use trace::{Observer, Outcome, Stage, Trace};
