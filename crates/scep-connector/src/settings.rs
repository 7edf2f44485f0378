//! What an operator decides about the link.

use crate::ConnectorError;
use core::time::Duration;
use std::path::PathBuf;

/// Where the issuer is: `https://host[:port][/path]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerAddress {
    pub(crate) url: String,
}

impl IssuerAddress {
    /// Checks the address.
    ///
    /// # Errors
    /// When it is no https URL, or has a user, a query or a fragment.
    pub fn parse(text: &str) -> Result<Self, ConnectorError> {
        let _ = text;
        todo!()
    }

    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.url
    }
}

/// A proxy that tunnels (CONNECT), by http or https, with or without a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    pub(crate) url: String,
}

impl Proxy {
    /// Checks the proxy's URL.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, ConnectorError> {
        let _ = text;
        todo!()
    }

    /// What the environment says for this issuer: `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, in either case.
    ///
    /// # Errors
    /// When it is no proxy's URL.
    pub fn from_environment(issuer: &IssuerAddress) -> Result<Option<Self>, ConnectorError> {
        let _ = issuer;
        todo!()
    }
}

/// What a gateway does that has not heard of its issuer for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offline {
    /// It goes on issuing.
    Serve,
    /// It stops after this time.
    RefuseAfter(Duration),
}

impl Default for Offline {
    /// Stops after 24 hours.
    fn default() -> Self {
        Self::RefuseAfter(Duration::from_secs(24 * 3600))
    }
}

/// The settings of a running connector.
#[derive(Clone, Debug)]
pub struct ConnectorSettings {
    /// Where the issuer is.
    pub issuer: IssuerAddress,
    /// Through which proxy.
    pub proxy: Option<Proxy>,
    /// What happens when it is out of reach for long.
    pub offline: Offline,
    /// How long the issuer may hold a check-in, seconds; at most 60.
    pub wait_seconds: u32,
    /// The delivery log: one JSON file for each event in `processing`, `succeed` and `failed` below this folder.
    pub status_folder: Option<PathBuf>,
    /// How many files `succeed` and `failed` keep each; the oldest go first.
    pub status_files: usize,
    /// The largest lifetime of a challenge and the skew: how long a replaced decryption key is kept.
    pub keep_previous_key: Duration,
    /// The gateway's version, as the issuer is told.
    pub software: String,
    /// The version of challenges that the gateway opens.
    pub challenge_version: u32,
}
