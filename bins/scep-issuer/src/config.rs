//! The configuration: raw as read, checked as used.

use crate::error::IssuerError;
use scep_keys::{Backend, SoftwareKey, read_public_key};
use scep_types::{GatewayGroupId, SpkiDer, TenantId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The file as read.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    pub(crate) tenant: String,
    pub(crate) signing_key: PathBuf,
    #[serde(default)]
    pub(crate) gateway_groups: Vec<RawGroup>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<RawService>,
}

/// The service as read.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawService {
    pub(crate) listen: SocketAddr,
    pub(crate) database: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<RawTls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_key: Option<PathBuf>,
}

/// The only thing that can be said of TLS but its files.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RawTls {
    /// Plain HTTP.
    None,
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
    service: Option<ServiceConfig>,
}

/// How the service is offered.
#[derive(Debug)]
pub(crate) struct ServiceConfig {
    pub(crate) listen: SocketAddr,
    pub(crate) database: PathBuf,
    pub(crate) encryption: Encryption,
}

/// How connections are protected.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Encryption {
    Tls { certificate: PathBuf, key: PathBuf },
    None,
}

impl ServiceConfig {
    fn check(raw: RawService, base: &Path) -> Result<Self, IssuerError> {
        let encryption = match (raw.tls, raw.tls_certificate, raw.tls_key) {
            (None, Some(certificate), Some(key)) => {
                Encryption::Tls { certificate: base.join(certificate), key: base.join(key) }
            }
            (Some(RawTls::None), None, None) if raw.listen.ip().is_loopback() => Encryption::None,
            (Some(RawTls::None), None, None) => {
                let why = "\"none\" is for loopback addresses alone: tokens would be readable";
                return Err(IssuerError::config("service.tls", why));
            }
            (Some(RawTls::None), _, _) => {
                let why = "\"none\" and a certificate or key exclude each other";
                return Err(IssuerError::config("service.tls", why));
            }
            (None, None, _) => {
                let why = "needed, or tls = \"none\" on a loopback address";
                return Err(IssuerError::config("service.tls_certificate", why));
            }
            (None, Some(_), None) => {
                return Err(IssuerError::config("service.tls_key", "needed"));
            }
        };
        Ok(Self { listen: raw.listen, database: base.join(raw.database), encryption })
    }
}

impl Config {
    /// Reads the file and everything it names.
    pub(crate) fn load(path: &Path) -> Result<Self, IssuerError> {
        let raw = Raw::read(path)?;
        let base = path.parent().unwrap_or_else(|| Path::new("."));
        let service = raw.service.map(|raw| ServiceConfig::check(raw, base)).transpose()?;
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
            service,
        })
    }

    /// How the service is offered, where the configuration says so.
    pub(crate) fn service(&self) -> Result<&ServiceConfig, IssuerError> {
        self.service.as_ref().ok_or(IssuerError::NoService)
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
        let service = toml::from_str::<Raw>(example).unwrap().service.unwrap();
        let service = ServiceConfig::check(service, Path::new("/etc/issuer")).unwrap();
        assert_eq!(service.database, Path::new("/etc/issuer/issuer.db"));
        let certificate = "/etc/issuer/tls.pem".into();
        let tls = Encryption::Tls { certificate, key: "/etc/issuer/tls.key.pem".into() };
        assert_eq!(service.encryption, tls);
        let more = format!("anything = 1\n{example}");
        assert!(toml::from_str::<Raw>(&more).unwrap_err().to_string().contains("unknown field"));
    }

    #[test]
    fn plain_http_must_be_asked_for_and_is_for_loopback_alone() {
        let check = |listen: &str, more: &str| {
            let text = format!("listen = '{listen}'\ndatabase = 'd'\n{more}");
            let raw = toml::from_str(&text).unwrap();
            ServiceConfig::check(raw, Path::new("")).map_err(|error| error.to_string())
        };
        for listen in ["127.0.0.1:1", "[::1]:1"] {
            assert_eq!(check(listen, "tls = 'none'").unwrap().encryption, Encryption::None);
        }
        let (certificate, key) = ("tls_certificate = 'c'\n", "tls_key = 'k'\n");
        check("0.0.0.0:1", &format!("{certificate}{key}")).unwrap();
        for (listen, more, field) in [
            ("0.0.0.0:1", "tls = 'none'", "service.tls:"),
            ("127.0.0.1:1", "", "service.tls_certificate:"),
            ("127.0.0.1:1", key, "service.tls_certificate:"),
            ("127.0.0.1:1", certificate, "service.tls_key:"),
            ("127.0.0.1:1", "tls = 'none'\ntls_key = 'k'", "service.tls:"),
        ] {
            let error = check(listen, more).unwrap_err();
            assert!(error.starts_with(field), "{error}");
        }
        assert!(toml::from_str::<RawService>("listen = ':1'\ndatabase = 'd'").is_err());
    }
}
