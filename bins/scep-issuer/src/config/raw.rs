//! The configuration file as it is written.

use super::upkeep::RawUpkeep;
use crate::error::IssuerError;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The file as read.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    pub(crate) tenant: String,
    /// One key, valid always; or `signing_keys`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signing_key: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) signing_keys: Vec<RawKey>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) command_keys: Vec<RawKey>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) gateway_groups: Vec<RawGroup>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<RawService>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connectors: Option<RawConnectors>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upkeep: Option<RawUpkeep>,
}

/// A key and when it is valid.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawKey {
    pub(crate) file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_after: Option<String>,
}

/// A gateway group as read.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawGroup {
    pub(crate) id: String,
    pub(crate) public_key: PathBuf,
}

/// The service as read.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawService {
    pub(crate) listen: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) database: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) postgres: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) postgres_password_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) postgres_schema: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<RawTls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_key: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_ca_certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_ca_key: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tls_names: Vec<String>,
}

/// The only thing that can be said of TLS but its files.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RawTls {
    /// Plain HTTP.
    None,
}

/// What connectors are served with, as read.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawConnectors {
    pub(crate) ca_certificate: PathBuf,
    pub(crate) ca_key: PathBuf,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) next_tls_pins: Vec<String>,
}

impl Raw {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self, IssuerError> {
        let text = std::fs::read_to_string(path).map_err(IssuerError::file(path))?;
        toml::from_str(&text)
            .map_err(|source| IssuerError::Toml { path: path.into(), source: Box::new(source) })
    }

    /// As it is written.
    pub(crate) fn text(&self) -> Result<String, IssuerError> {
        let body = toml::to_string(self).map_err(|error| IssuerError::Write(Box::new(error)))?;
        Ok(format!("# Every key is explained in issuer.example.toml.\n{body}"))
    }

    /// Takes the place of the file: a crash leaves the old one or the new one.
    pub(crate) fn replace(&self, path: &Path) -> Result<(), IssuerError> {
        replace(path, self.text()?.as_bytes())
    }
}

/// Writes beside, makes durable, renames.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> Result<(), IssuerError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let next = PathBuf::from(name);
    File::create(&next)
        .and_then(|mut file| {
            file.write_all(contents)?;
            file.sync_all()
        })
        .map_err(IssuerError::file(&next))?;
    std::fs::rename(&next, path).map_err(IssuerError::file(path))?;
    #[cfg(unix)]
    {
        let folder = super::folder(path);
        File::open(folder).and_then(|f| f.sync_all()).map_err(IssuerError::file(folder))?;
    }
    Ok(())
}
