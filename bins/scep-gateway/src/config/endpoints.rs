//! `[[endpoints]]`: where SCEP is served, and how.

use super::one_of;
use crate::error::GatewayError;
use scep_server::{
    CaCertForm, Endpoint, Preset, ReplyCertificates, ReplyCipher, ReplyDigest, SignerRule,
};
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
    preset: Option<String>,
    signer: Option<RawSignerRule>,
    pub(super) legacy: Option<bool>,
    reply: Option<RawReply>,
    ca_cert: Option<String>,
    digest: Option<RawDigest>,
    cipher: Option<RawCipher>,
    bmp_strings: Option<bool>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawSignerRule {
    CsrKey,
    Any,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawReply {
    Leaf,
    LeafAndCa,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawDigest {
    Mirror,
    Sha256,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawCipher {
    Mirror,
    Aes128,
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
        let preset = match &endpoint.preset {
            None => &Preset::GENERIC,
            Some(name) => preset("endpoints.preset", name)?,
        };
        let mut checked = preset.endpoint(endpoint.path);
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
        if let Some(name) = &endpoint.ca_cert {
            let named = CaCertForm::NAMED.iter().find(|(form, _)| form == name);
            let there = || CaCertForm::NAMED.map(|(name, _)| name).join(", ");
            let named = named.ok_or_else(|| unknown("endpoints.ca_cert", name, &there()))?;
            checked.ca_cert = named.1;
        }
        match endpoint.digest {
            Some(RawDigest::Mirror) => checked.digest = ReplyDigest::Mirror,
            Some(RawDigest::Sha256) => checked.digest = ReplyDigest::Sha256,
            None => {}
        }
        match endpoint.cipher {
            Some(RawCipher::Mirror) => checked.cipher = ReplyCipher::Mirror,
            Some(RawCipher::Aes128) => checked.cipher = ReplyCipher::Aes128,
            None => {}
        }
        if endpoint.legacy == Some(true) {
            checked = checked.with_legacy();
        }
        match endpoint.bmp_strings {
            Some(true) => checked.csr.strings = StringRules::AllowBmp,
            Some(false) => checked.csr.strings = StringRules::Strict,
            None => {}
        }
        endpoints.push(checked);
    }
    Ok(endpoints)
}

/// A preset by its name.
pub(crate) fn preset(key: &str, name: &str) -> Result<&'static Preset, GatewayError> {
    let there = || Preset::ALL.map(|preset| preset.name).join(", ");
    Preset::named(name).ok_or_else(|| unknown(key, name, &there()))
}

/// A word that is none of those there are.
fn unknown(key: &str, name: &str, there: &str) -> GatewayError {
    GatewayError::config(key, format!("{name:?} is none of {there}"))
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
