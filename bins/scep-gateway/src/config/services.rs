//! `[crl]`, `[ocsp]` and `[certstore]`: what is served beside SCEP.

use super::authorities::default_path;
use super::{Context, duration, place};
use crate::error::GatewayError;
use crate::label::Label;
use core::time::Duration;
use scep_keys::open_key;
use scep_server::{CrlSettings, OcspSettings, StoreSettings};
use scep_types::{AuthorityName, Signer};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCrl {
    pub(super) path: Option<String>,
    pub(super) validity: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOcsp {
    pub(super) path: Option<String>,
    validity: Option<String>,
    key: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStore {
    path: Option<String>,
}

/// The OCSP responder of a CA.
#[derive(Clone, Debug)]
pub(crate) struct OcspConfig {
    pub(crate) settings: OcspSettings,
    /// Its key, where the configuration names one; otherwise one is made in memory.
    pub(crate) key: Option<Arc<dyn Signer>>,
}

impl RawCrl {
    pub(super) fn check(self, authority: &AuthorityName) -> Result<CrlSettings, GatewayError> {
        let defaults = CrlSettings::default();
        let path = self.path.unwrap_or_else(|| default_path(defaults.path, authority));
        let path = service_path("crl.path", path)?;
        let validity = duration("crl.validity", self.validity.as_deref(), defaults.validity)?;
        if validity < Duration::from_secs(3_600) {
            return Err(GatewayError::config("crl.validity", "must be an hour or more"));
        }
        Ok(CrlSettings { path, validity })
    }
}

impl RawOcsp {
    /// `on_token`: the CA's own key is there.
    pub(super) fn check(
        self,
        context: &mut Context<'_>,
        authority: &AuthorityName,
        on_token: bool,
    ) -> Result<OcspConfig, GatewayError> {
        let defaults = OcspSettings::default();
        let path = self.path.unwrap_or_else(|| default_path(defaults.path, authority));
        let path = service_path("ocsp.path", path)?;
        let validity = duration("ocsp.validity", self.validity.as_deref(), defaults.validity)?;
        // Clients allow for clocks that are minutes off; the signer itself is certified for a week.
        if !(Duration::from_secs(600)..=Duration::from_secs(3 * 86_400)).contains(&validity) {
            return Err(GatewayError::config("ocsp.validity", "must be from 10 minutes to 3 days"));
        }
        let key = match self.key {
            Some(key) => {
                let key = open_key(&place(context.base, "ocsp.key", &key)?)?;
                let role = Label::of(authority, "OCSP signing");
                context.keys.push((role, key.public_key().clone()));
                Some(key.signer()?)
            }
            None if on_token => {
                let why = "missing: the CA's key is on a token, and no key beside it is made in memory. Make one there \
                           (`scep-gateway token-key --for ocsp`) and name it here, or name a file";
                return Err(GatewayError::config("ocsp.key", why));
            }
            None => None,
        };
        Ok(OcspConfig { settings: OcspSettings { path, validity }, key })
    }
}

impl RawStore {
    pub(super) fn check(self) -> Result<StoreSettings, GatewayError> {
        let path = self.path.unwrap_or_else(|| StoreSettings::default().path);
        Ok(StoreSettings { path: service_path("certstore.path", path)? })
    }
}

/// The path of something that is served beside SCEP.
fn service_path(key: &str, path: String) -> Result<String, GatewayError> {
    if !path.starts_with('/') || path.ends_with('/') || path.contains(['?', '#', '%']) {
        return Err(GatewayError::config(key, "must be a path like /crl"));
    }
    Ok(path)
}

/// No service's path is another's, or below it, or an endpoint's.
pub(super) fn one_service_each(
    services: &[(String, &str)],
    endpoints: &[&str],
) -> Result<(), GatewayError> {
    for (n, (what, path)) in services.iter().enumerate() {
        if endpoints.contains(path) {
            return Err(GatewayError::config(
                format!("{what}.path"),
                format!("SCEP is served at {path}"),
            ));
        }
        let within = |other: &str| {
            other.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let mut others = services.iter().enumerate().filter(|(m, _)| *m != n);
        if let Some((_, (other, _))) = others.find(|(_, (_, other))| within(other)) {
            let why = format!("{what} and {other} need paths apart; {path} is used twice");
            return Err(GatewayError::config("path", why));
        }
    }
    Ok(())
}
