//! `[connector]`: the issuer that this gateway belongs to.

use crate::config::duration;
use crate::error::GatewayError;
use crate::keystore::KeyFolder;
use core::time::Duration;
use scep_connector::{ConnectorSettings, IssuerAddress, Offline, Proxy, StateFile};
use scep_server::RenewalContact;
use scep_types::{KeyAlgorithm, parse_duration};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The longest that a check-in may wait at the issuer.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// How many files the delivery log keeps of each kind.
const STATUS_FILES: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConnector {
    issuer: String,
    proxy: Option<String>,
    state: Option<PathBuf>,
    challenge_key: Option<String>,
    offline: Option<String>,
    wait: Option<String>,
    status_folder: Option<PathBuf>,
    status_files: Option<usize>,
}

/// The link to the issuer, as configured.
#[derive(Clone, Debug)]
pub(crate) struct LinkConfig {
    pub(crate) settings: ConnectorSettings,
    pub(crate) state: StateFile,
    /// The state's file, for messages.
    pub(crate) state_path: PathBuf,
    pub(crate) keys: KeyFolder,
}

impl LinkConfig {
    /// How recently the issuer must have been heard for a renewal by certificate: the limit of `offline`; of "serve", which
    /// has none, the usual one, since nobody else stops the devices that the issuer has disabled.
    pub(crate) fn renewal_contact(&self) -> RenewalContact {
        match self.settings.offline {
            Offline::Serve => RenewalContact::default(),
            Offline::RefuseAfter(time) => RenewalContact::Within(time),
        }
    }
}

impl RawConnector {
    /// `keep`: the longest lifetime of a challenge and the skew.
    pub(super) fn check(self, base: &Path, keep: Duration) -> Result<LinkConfig, GatewayError> {
        let wrong = |key: &str, why: &dyn core::fmt::Display| {
            GatewayError::config(format!("connector.{key}"), why)
        };
        let issuer = IssuerAddress::parse(&self.issuer).map_err(|e| wrong("issuer", &e))?;
        let proxy = match &self.proxy {
            Some(proxy) => Some(Proxy::parse(proxy).map_err(|e| wrong("proxy", &e))?),
            None => Proxy::from_environment(&issuer).map_err(|e| wrong("proxy", &e))?,
        };
        let wait = duration("connector.wait", self.wait.as_deref(), MAX_WAIT)?;
        let wait_seconds = u32::try_from(wait.as_secs()).ok().filter(|seconds| *seconds > 0);
        let wait_seconds = wait_seconds
            .filter(|_| wait <= MAX_WAIT)
            .ok_or_else(|| wrong("wait", &"must be between 1s and 60s"))?;
        let state_path = base.join(self.state.unwrap_or_else(|| "connector/state.json".into()));
        let keys = state_path.parent().unwrap_or(base).to_path_buf();
        let algorithm = challenge_key(self.challenge_key.as_deref())
            .ok_or_else(|| wrong("challenge_key", &"one of p256, rsa2048, rsa3072, rsa4096"))?;
        let status_files = self.status_files.unwrap_or(STATUS_FILES);
        if status_files == 0 {
            return Err(wrong("status_files", &"must be 1 or more"));
        }
        Ok(LinkConfig {
            settings: ConnectorSettings {
                issuer,
                proxy,
                offline: offline(self.offline.as_deref())
                    .ok_or_else(|| wrong("offline", &OFFLINE))?,
                wait_seconds,
                status_folder: self.status_folder.map(|folder| base.join(folder)),
                status_files,
                keep_previous_key: keep,
                software: env!("CARGO_PKG_VERSION").to_owned(),
                challenge_version: CHALLENGE_VERSION,
            },
            keys: KeyFolder::new(keys, algorithm, StateFile::at(&state_path)),
            state: StateFile::at(&state_path),
            state_path,
        })
    }
}

/// The version of challenges that this program opens.
const CHALLENGE_VERSION: u32 = 1;

const OFFLINE: &str =
    "\"serve\", \"refuse-after\" (24 hours), or a time of a minute or more, like \"12h\"";

fn offline(text: Option<&str>) -> Option<Offline> {
    match text {
        None | Some("refuse-after") => Some(Offline::default()),
        Some("serve") => Some(Offline::Serve),
        Some(time) => {
            let time = parse_duration(time).ok()?;
            (time >= Duration::from_secs(60)).then_some(Offline::RefuseAfter(time))
        }
    }
}

fn challenge_key(text: Option<&str>) -> Option<KeyAlgorithm> {
    let algorithm: KeyAlgorithm = text.unwrap_or("p256").parse().ok()?;
    match algorithm {
        KeyAlgorithm::P256 | KeyAlgorithm::Rsa(2048 | 3072 | 4096) => Some(algorithm),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offline_is_a_word_or_a_time() {
        let hours = |n: u64| Some(Offline::RefuseAfter(Duration::from_secs(n * 3_600)));
        assert_eq!(offline(None), hours(24));
        assert_eq!(offline(Some("refuse-after")), hours(24));
        assert_eq!(offline(Some("serve")), Some(Offline::Serve));
        assert_eq!(offline(Some("12h")), hours(12));
        for bad in ["", "never", "12", "59s", "-1h"] {
            assert_eq!(offline(Some(bad)), None, "{bad}");
        }
    }

    #[test]
    fn a_challenge_key_is_one_that_a_challenge_can_be_made_for() {
        assert_eq!(challenge_key(None), Some(KeyAlgorithm::P256));
        assert_eq!(challenge_key(Some("rsa3072")), Some(KeyAlgorithm::Rsa(3072)));
        for bad in ["p384", "rsa1024", "ed25519", ""] {
            assert_eq!(challenge_key(Some(bad)), None, "{bad}");
        }
    }
}
