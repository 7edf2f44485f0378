//! The configuration: raw as read, checked as used.

use crate::error::IssuerError;
use scep_keys::{Backend, SoftwareKey, read_public_key};
use scep_types::{GatewayGroupId, SpkiDer, TenantId};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The file as read.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    pub(crate) tenant: String,
    pub(crate) signing_key: PathBuf,
    #[serde(default)]
    pub(crate) gateway_groups: Vec<RawGroup>,
}

/// A gateway group as read.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawGroup {
    pub(crate) id: String,
    pub(crate) public_key: PathBuf,
}

impl Raw {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self, IssuerError> {
        let text = std::fs::read_to_string(path).map_err(IssuerError::file(path))?;
        toml::from_str(&text)
            .map_err(|source| IssuerError::Toml { path: path.into(), source: Box::new(source) })
    }
}

/// The configuration with its keys.
pub(crate) struct Config {
    pub(crate) tenant: TenantId,
    pub(crate) signing_key: SoftwareKey,
    pub(crate) groups: Vec<(GatewayGroupId, SpkiDer)>,
}

impl Config {
    /// Reads the file and everything it names.
    pub(crate) fn load(path: &Path) -> Result<Self, IssuerError> {
        let raw = Raw::read(path)?;
        let base = path.parent().unwrap_or_else(|| Path::new("."));
        let mut groups: Vec<(GatewayGroupId, SpkiDer)> = Vec::new();
        for group in raw.gateway_groups {
            let id = GatewayGroupId::new(group.id)
                .map_err(|error| IssuerError::config("gateway_groups.id", error))?;
            if groups.iter().any(|(other, _)| *other == id) {
                return Err(IssuerError::config(
                    "gateway_groups.id",
                    format!("{id} is there twice"),
                ));
            }
            groups.push((id, read_public_key(&base.join(group.public_key))?));
        }
        Ok(Self {
            tenant: TenantId::new(raw.tenant).map_err(|e| IssuerError::config("tenant", e))?,
            signing_key: SoftwareKey::read(&base.join(raw.signing_key), Backend::AwsLc)?,
            groups,
        })
    }

    /// The group with this id, or the only one there is.
    pub(crate) fn group(
        &self,
        id: Option<&str>,
    ) -> Result<&(GatewayGroupId, SpkiDer), IssuerError> {
        match (id, self.groups.as_slice()) {
            (Some(id), groups) => groups
                .iter()
                .find(|(known, _)| known.as_str() == id)
                .ok_or_else(|| IssuerError::NoSuchGroup { id: id.to_owned() }),
            (None, [only]) => Ok(only),
            (None, groups) => Err(IssuerError::WhichGroup { count: groups.len() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_read_and_unknown_keys_are_refused() {
        let example = include_str!("../issuer.example.toml");
        assert_eq!(toml::from_str::<Raw>(example).unwrap().gateway_groups.len(), 1);
        let more = format!("anything = 1\n{example}");
        assert!(toml::from_str::<Raw>(&more).unwrap_err().to_string().contains("unknown field"));
    }
}
