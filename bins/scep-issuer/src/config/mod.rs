//! The configuration: raw as read, checked as used.
//!
//! - `raw`: the file
//! - `service`: the database, the listener and its TLS, what connectors are served with
//! - `upkeep`: limits, and what is done from time to time

mod raw;
mod service;
mod upkeep;

pub(crate) use raw::{Raw, RawConnectors, RawGroup, RawKey, RawService, replace};
pub(crate) use service::{Connectors, Database, Encryption, OwnTls, ServiceConfig};

use crate::error::IssuerError;
use scep_issuance::service::{IssuerKey, IssuerKeys, Upkeep};
use scep_keys::{KeyPlace, distinct_keys, open_key, read_public_key};
use scep_types::{GatewayGroupId, KeyId, Signer, SpkiDer, TenantId, Timestamp};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How far away the end of a key's validity is that has none: the last second that can be written.
const NEVER: Timestamp = Timestamp::from_seconds(253_402_300_799);

/// What a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum KeyKind {
    /// Challenges.
    Signing,
    /// The answers to gateways' check-ins.
    Command,
}

impl KeyKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Signing => "signing",
            Self::Command => "command",
        }
    }
}

/// A key of the issuer.
#[derive(Debug)]
pub(crate) struct Key {
    /// As the configuration names it: a file, or the URI of a key on a token.
    pub(crate) file: PathBuf,
    pub(crate) place: KeyPlace,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

impl Key {
    fn load(raw: RawKey, base: &Path, field: &str) -> Result<Self, IssuerError> {
        let at = |name: &str, text: Option<String>, or: Timestamp| {
            text.map_or(Ok(or), |text| {
                text.parse().map_err(|error| IssuerError::config(format!("{field}.{name}"), error))
            })
        };
        let not_before = at("not_before", raw.not_before, Timestamp::EPOCH)?;
        let not_after = at("not_after", raw.not_after, NEVER)?;
        if not_after <= not_before {
            let why = "not after not_before";
            return Err(IssuerError::config(format!("{field}.not_after"), why));
        }
        let place = place(base, &raw.file, &format!("{field}.file"))?;
        let signer = open_key(&place)?.signer()?;
        Ok(Self { file: raw.file, place, signer, not_before, not_after })
    }

    pub(crate) fn id(&self) -> KeyId {
        self.signer.public_key().key_id()
    }

    pub(crate) fn valid(&self, at: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&at)
    }

    fn issuer(&self) -> IssuerKey {
        let (not_before, not_after) = (self.not_before, self.not_after);
        IssuerKey { signer: Arc::clone(&self.signer), not_before, not_after }
    }
}

/// The configuration with its keys.
pub(crate) struct Config {
    pub(crate) tenant: TenantId,
    /// Newest first; one at least.
    pub(crate) signing: Vec<Key>,
    /// Newest first.
    pub(crate) command: Vec<Key>,
    pub(crate) groups: Vec<(GatewayGroupId, SpkiDer)>,
    service: Option<ServiceConfig>,
    pub(crate) connectors: Option<Connectors>,
    pub(crate) upkeep: Upkeep,
}

/// The folder that paths in a configuration are relative to.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Where a private key is. What is no UTF-8 can only be a file's name.
fn place(base: &Path, name: &Path, field: &str) -> Result<KeyPlace, IssuerError> {
    match name.to_str() {
        Some(text) => {
            KeyPlace::parse(base, text).map_err(|error| IssuerError::config(field, error))
        }
        None => Ok(KeyPlace::File(base.join(name))),
    }
}

fn keys(raw: Vec<RawKey>, base: &Path, field: &str) -> Result<Vec<Key>, IssuerError> {
    raw.into_iter().map(|raw| Key::load(raw, base, field)).collect()
}

impl Config {
    /// Reads the file and everything it names, and demands that no two keys are one.
    pub(crate) fn load(path: &Path) -> Result<Self, IssuerError> {
        let raw = Raw::read(path)?;
        let base = folder(path);
        let service = raw.service.map(|raw| ServiceConfig::check(raw, base)).transpose()?;
        let connectors = raw.connectors.map(|raw| Connectors::load(raw, base)).transpose()?;
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
        let signing = match (raw.signing_key, raw.signing_keys) {
            (Some(file), several) if several.is_empty() => {
                vec![RawKey { file, not_before: None, not_after: None }]
            }
            (Some(_), _) => {
                let why = "signing_key and signing_keys exclude each other";
                return Err(IssuerError::config("signing_key", why));
            }
            (None, several) if several.is_empty() => {
                return Err(IssuerError::config("signing_keys", "needed"));
            }
            (None, several) => several,
        };
        let config = Self {
            tenant: TenantId::new(raw.tenant).map_err(|e| IssuerError::config("tenant", e))?,
            signing: keys(signing, base, "signing_keys")?,
            command: keys(raw.command_keys, base, "command_keys")?,
            groups,
            service,
            connectors,
            upkeep: raw.upkeep.unwrap_or_default().check()?,
        };
        config.distinct()?;
        if config.connectors.is_some() && config.command.is_empty() {
            return Err(IssuerError::config("command_keys", "connectors are commanded with one"));
        }
        Ok(config)
    }

    /// One key, one purpose.
    fn distinct(&self) -> Result<(), IssuerError> {
        let mut all: Vec<(String, SpkiDer)> = Vec::new();
        for (kind, keys) in [(KeyKind::Signing, &self.signing), (KeyKind::Command, &self.command)] {
            for key in keys {
                let name = format!("the {} key {}", kind.name(), key.place);
                all.push((name, key.signer.public_key().clone()));
            }
        }
        if let Some(connectors) = &self.connectors {
            all.push(("the connector CA's key".into(), connectors.key.public_key().clone()));
        }
        if let Some(service) = &self.service {
            all.extend(service.tls_keys()?);
        }
        for (group, key) in &self.groups {
            all.push((format!("the challenge key of {group}"), key.clone()));
        }
        let all: Vec<(&str, &SpkiDer)> = all.iter().map(|(name, key)| (&**name, key)).collect();
        distinct_keys(&all)?;
        Ok(())
    }

    /// How the service is offered, where the configuration says so.
    pub(crate) fn service(&self) -> Result<&ServiceConfig, IssuerError> {
        self.service.as_ref().ok_or(IssuerError::NoService)
    }

    /// The keys for the service.
    pub(crate) fn keys(&self) -> IssuerKeys {
        let all = |keys: &[Key]| keys.iter().map(Key::issuer).collect();
        IssuerKeys { signing: all(&self.signing), command: all(&self.command) }
    }

    /// The key that signs without the service: nobody knows which gateways have been given a new one, so the oldest
    /// that is valid.
    pub(crate) fn signer(&self, now: Timestamp) -> Result<Arc<dyn Signer>, IssuerError> {
        let oldest = self.signing.iter().rev().find(|key| key.valid(now));
        oldest.map(|key| Arc::clone(&key.signer)).ok_or_else(|| {
            IssuerError::config(
                "signing_keys",
                "none is valid now; scep-issuer key list shows them",
            )
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
        let example = include_str!("../../issuer.example.toml");
        let raw = toml::from_str::<Raw>(example).unwrap();
        assert_eq!((raw.gateway_groups.len(), raw.signing_keys.len()), (1, 2));
        let again = toml::from_str::<Raw>(&raw.text().unwrap()).unwrap();
        assert_eq!(again.text().unwrap(), raw.text().unwrap());
        assert_eq!(folder(Path::new("issuer.toml")), Path::new("."));
        assert_eq!(folder(Path::new("a/issuer.toml")), Path::new("a"));
        let more = format!("anything = 1\n{example}");
        assert!(toml::from_str::<Raw>(&more).unwrap_err().to_string().contains("unknown field"));
    }
}
