//! `[[endpoints]]`: where SCEP is served, and how.

use super::one_of;
use crate::error::GatewayError;
use scep_message::LegacyAlgorithms;
use scep_pkcs10::Sha1Signatures;
use scep_server::{CaCertForm, Endpoint, ReplyCertificates, SignerRule};
use scep_types::{AuthorityName, ProfileId, StringRules};
use serde::Deserialize;
use std::collections::BTreeSet;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEndpoint {
    path: String,
    ca: Option<String>,
    profiles: Option<Vec<String>>,
    #[serde(default)]
    preset: RawPreset,
    signer: Option<RawSignerRule>,
    pub(super) legacy: Option<bool>,
    reply: Option<RawReply>,
    ca_cert: Option<RawCaCert>,
    bmp_strings: Option<bool>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawPreset {
    #[default]
    Generic,
    Windows,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawSignerRule {
    CsrKey,
    Any,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawReply {
    Leaf,
    LeafAndCa,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawCaCert {
    Bundle,
    RaOnly,
}

pub(super) fn check_endpoints(
    raw: Vec<RawEndpoint>,
    authorities: &[AuthorityName],
) -> Result<Vec<Endpoint>, GatewayError> {
    if raw.is_empty() {
        return Err(GatewayError::config("endpoints", "at least one is needed"));
    }
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for endpoint in raw {
        if !endpoint.path.starts_with('/') {
            return Err(GatewayError::config("endpoints.path", "must begin with '/'"));
        }
        if endpoints.iter().any(|e| e.path == endpoint.path) {
            return Err(GatewayError::config(
                "endpoints.path",
                format!("{} is there twice", endpoint.path),
            ));
        }
        let mut checked = match endpoint.preset {
            RawPreset::Generic => Endpoint::generic(endpoint.path),
            RawPreset::Windows => Endpoint::windows(endpoint.path),
        };
        if let Some(name) = endpoint.ca {
            let named = authorities.iter().find(|one| one.as_str() == name);
            checked.authority = named.cloned().ok_or_else(|| {
                let there = one_of(authorities);
                let why = format!("{}: no CA is called {name}; there are {there}", checked.path);
                GatewayError::config("endpoints.ca", why)
            })?;
        }
        if let Some(names) = endpoint.profiles {
            checked.profiles = Some(profiles(&checked.path, names)?);
        }
        match endpoint.signer {
            Some(RawSignerRule::CsrKey) => checked.signer = SignerRule::CsrKey,
            Some(RawSignerRule::Any) => checked.signer = SignerRule::Any,
            None => {}
        }
        match endpoint.reply {
            Some(RawReply::Leaf) => checked.reply = ReplyCertificates::Leaf,
            Some(RawReply::LeafAndCa) => checked.reply = ReplyCertificates::LeafAndCa,
            None => {}
        }
        match endpoint.ca_cert {
            Some(RawCaCert::Bundle) => checked.ca_cert = CaCertForm::Bundle,
            Some(RawCaCert::RaOnly) => checked.ca_cert = CaCertForm::RaOnly,
            None => {}
        }
        if endpoint.legacy == Some(true) {
            checked.legacy = LegacyAlgorithms::Accept;
            checked.csr.sha1 = Sha1Signatures::Accept;
        }
        if endpoint.bmp_strings == Some(true) {
            checked.csr.strings = StringRules::AllowBmp;
        }
        endpoints.push(checked);
    }
    Ok(endpoints)
}

fn profiles(path: &str, names: Vec<String>) -> Result<BTreeSet<ProfileId>, GatewayError> {
    let wrong = |why: &dyn core::fmt::Display| {
        GatewayError::config("endpoints.profiles", format!("{path}: {why}"))
    };
    if names.is_empty() {
        return Err(wrong(&"none is named, so that nothing could be issued; leave it out for all"));
    }
    let mut profiles = BTreeSet::new();
    for name in names {
        let profile = ProfileId::new(name).map_err(|error| wrong(&error))?;
        if let Some(twice) = profiles.replace(profile) {
            return Err(wrong(&format!("{twice} is there twice")));
        }
    }
    Ok(profiles)
}
