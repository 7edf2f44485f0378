//! `[crl]`, `[ocsp]` and `[certstore]`: what is served beside SCEP.

use super::duration;
use crate::error::GatewayError;
use core::time::Duration;
use scep_server::{CrlSettings, Endpoint, OcspSettings, StoreSettings};
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCrl {
    pub(super) path: Option<String>,
    pub(super) validity: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOcsp {
    path: Option<String>,
    validity: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStore {
    path: Option<String>,
}

impl RawCrl {
    pub(super) fn check(self, endpoints: &[Endpoint]) -> Result<CrlSettings, GatewayError> {
        let defaults = CrlSettings::default();
        let path = service_path("crl.path", self.path.unwrap_or(defaults.path), endpoints)?;
        let validity = duration("crl.validity", self.validity.as_deref(), defaults.validity)?;
        if validity < Duration::from_secs(3_600) {
            return Err(GatewayError::config("crl.validity", "must be an hour or more"));
        }
        Ok(CrlSettings { path, validity })
    }
}

impl RawOcsp {
    pub(super) fn check(self, endpoints: &[Endpoint]) -> Result<OcspSettings, GatewayError> {
        let defaults = OcspSettings::default();
        let path = service_path("ocsp.path", self.path.unwrap_or(defaults.path), endpoints)?;
        let validity = duration("ocsp.validity", self.validity.as_deref(), defaults.validity)?;
        // Clients allow for clocks that are minutes off; the signer itself is certified for a week.
        if !(Duration::from_secs(600)..=Duration::from_secs(3 * 86_400)).contains(&validity) {
            return Err(GatewayError::config("ocsp.validity", "must be from 10 minutes to 3 days"));
        }
        Ok(OcspSettings { path, validity })
    }
}

impl RawStore {
    pub(super) fn check(self, endpoints: &[Endpoint]) -> Result<StoreSettings, GatewayError> {
        let path = self.path.unwrap_or_else(|| StoreSettings::default().path);
        Ok(StoreSettings { path: service_path("certstore.path", path, endpoints)? })
    }
}

/// The path of something that is served beside SCEP.
fn service_path(key: &str, path: String, endpoints: &[Endpoint]) -> Result<String, GatewayError> {
    if !path.starts_with('/') || path.ends_with('/') || path.contains(['?', '#', '%']) {
        return Err(GatewayError::config(key, "must be a path like /crl"));
    }
    if endpoints.iter().any(|endpoint| endpoint.path == path) {
        return Err(GatewayError::config(key, "SCEP is served there"));
    }
    Ok(path)
}

/// No service's path is another's, or below it.
pub(super) fn one_service_each<'p>(
    paths: impl Iterator<Item = &'p String>,
) -> Result<(), GatewayError> {
    let paths: Vec<&String> = paths.collect();
    for (n, path) in paths.iter().enumerate() {
        let within = |other: &&String| {
            other
                .strip_prefix(path.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let others = paths.iter().enumerate().filter(|(m, _)| *m != n);
        if others.map(|(_, other)| other).any(within) {
            let why = format!("crl, ocsp and certstore need paths apart; {path} is used twice");
            return Err(GatewayError::config("path", why));
        }
    }
    Ok(())
}
