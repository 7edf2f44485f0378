//! The configuration: raw as read, checked as used. After [`Config::load`] nothing asks "is this set?".

mod ca;
mod challenge;
mod connector;
mod endpoints;
mod ledger;
mod limits;
mod ra;
mod services;

pub(crate) use challenge::{ChallengeTimes, Challenges};
pub(crate) use connector::LinkConfig;
pub(crate) use ledger::LedgerConfig;
pub(crate) use limits::LogFormat;

use crate::ca::Ca;
use crate::error::GatewayError;
use crate::renewal::{Owned, Previous, RaFiles, Renewed};
use ca::RawCa;
use challenge::RawChallenge;
use connector::RawConnector;
use core::time::Duration;
use endpoints::{RawEndpoint, check_endpoints};
use ledger::{RawLedger, RawRevocations};
use limits::{RawLimits, RawLog};
use ra::RawRa;
use scep_ca::LocalCa;
use scep_keys::KeyPlace;
use scep_message::{LegacyAlgorithms, RaIdentity};
use scep_policy::SiteRules;
use scep_server::{CrlSettings, Endpoint, OcspSettings, ServerLimits, StoreSettings};
use scep_types::{CryptoProvider, GatewayGroupId, SpkiDer, TenantId, Timestamp, parse_duration};
use serde::Deserialize;
use services::{RawCrl, RawOcsp, RawStore, one_service_each};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file as read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    tenant: String,
    gateway_group: String,
    listen: SocketAddr,
    admin_listen: SocketAddr,
    ledger: RawLedger,
    site_rules: PathBuf,
    #[serde(default)]
    log: RawLog,
    ca: RawCa,
    #[serde(default)]
    crl: RawCrl,
    ocsp: Option<RawOcsp>,
    certstore: Option<RawStore>,
    ra: RawRa,
    #[serde(default)]
    challenge: RawChallenge,
    connector: Option<RawConnector>,
    endpoints: Vec<RawEndpoint>,
    #[serde(default)]
    revocations: RawRevocations,
    #[serde(default)]
    limits: RawLimits,
}

/// The configuration, read whole, every key and certificate loaded and checked.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) admin_listen: SocketAddr,
    pub(crate) ledger: LedgerConfig,
    pub(crate) log_level: String,
    pub(crate) log_format: LogFormat,
    pub(crate) ca: Ca,
    pub(crate) crl: CrlSettings,
    /// The OCSP responder, where there is one.
    pub(crate) ocsp: Option<OcspSettings>,
    /// The certificate store, where there is one.
    pub(crate) store: Option<StoreSettings>,
    pub(crate) ra: RaIdentity,
    /// The RA that it has replaced, while that still opens and answers requests.
    pub(crate) previous_ra: Option<Previous>,
    /// Where the RA's keys and certificates are, for their renewal.
    pub(crate) ra_files: RaFiles,
    pub(crate) tenant: TenantId,
    pub(crate) group: GatewayGroupId,
    pub(crate) times: ChallengeTimes,
    pub(crate) challenges: Challenges,
    pub(crate) site_rules: SiteRules,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) limits: ServerLimits,
    /// Every key of the gateway by its role; that no two are equal was checked.
    pub(crate) keys: Vec<(&'static str, SpkiDer)>,
    /// The gateway's own certificates.
    pub(crate) certificates: Vec<Owned>,
    /// What expires when: the certificates and the keys whose end the configuration says.
    pub(crate) expiries: Vec<(&'static str, Timestamp)>,
}

impl Config {
    /// Reads and checks a file and everything it names.
    pub(crate) fn load(
        path: &Path,
        now: Timestamp,
        provider: &Arc<dyn CryptoProvider>,
    ) -> Result<Self, GatewayError> {
        let (raw, base) = Raw::read(path)?;
        raw.check(base, now, provider)
    }

    /// Has the CA issue the RA's first certificates, where there are none; what was made.
    pub(crate) fn make_ra(
        path: &Path,
        now: Timestamp,
        provider: &Arc<dyn CryptoProvider>,
    ) -> Result<Vec<Renewed>, GatewayError> {
        let (raw, base) = Raw::read(path)?;
        let ca = raw.ca.check(base, provider, &mut Vec::new(), &mut Vec::new())?;
        let ledger = raw.ledger.check(base, &raw.revocations)?;
        raw.ra.check(base, LegacyAlgorithms::Refuse, &ledger)?.make(&ca, now)
    }

    /// The CA alone, of a configuration whose other keys need not be there yet.
    pub(crate) fn ca_of(
        path: &Path,
        provider: &Arc<dyn CryptoProvider>,
    ) -> Result<LocalCa, GatewayError> {
        let (raw, base) = Raw::read(path)?;
        let ca = raw.ca.check(base, provider, &mut Vec::new(), &mut Vec::new())?;
        ca.local("ca").cloned()
    }
}

impl Raw {
    /// The file as it is, and what its paths are relative to.
    fn read(path: &Path) -> Result<(Self, &Path), GatewayError> {
        let text = std::fs::read_to_string(path).map_err(GatewayError::file(path))?;
        let raw = toml::from_str(&text)
            .map_err(|source| GatewayError::Toml { path: path.into(), source: Box::new(source) })?;
        Ok((raw, path.parent().unwrap_or_else(|| Path::new("."))))
    }

    fn check(
        self,
        base: &Path,
        now: Timestamp,
        provider: &Arc<dyn CryptoProvider>,
    ) -> Result<Config, GatewayError> {
        if !self.admin_listen.ip().is_loopback() {
            return Err(GatewayError::config("admin_listen", "must be a loopback address"));
        }
        let mut keys = Vec::new();
        let mut certificates = Vec::new();
        let ca = self.ca.check(base, provider, &mut keys, &mut certificates)?;
        let ledger = self.ledger.check(base, &self.revocations)?;
        let legacy = if self.endpoints.iter().any(|endpoint| endpoint.legacy == Some(true)) {
            LegacyAlgorithms::Accept
        } else {
            LegacyAlgorithms::Refuse
        };
        let ra_files = self.ra.check(base, legacy, &ledger)?;
        let ra = ra_files.read(&ca, now)?;
        keys.extend(ra.keys());
        certificates.extend(ra.certificates);
        let mut expiries: Expiries =
            certificates.iter().map(|owned| (owned.what, owned.certificate.not_after())).collect();
        let tenant = TenantId::new(self.tenant).map_err(|e| GatewayError::config("tenant", e))?;
        let group = GatewayGroupId::new(self.gateway_group)
            .map_err(|e| GatewayError::config("gateway_group", e))?;
        let times = self.challenge.times()?;
        let challenges = match self.connector {
            Some(connector) => {
                self.challenge.absent()?;
                let keep = times.max_lifetime.saturating_add(times.skew);
                Challenges::Issuer(Box::new(connector.check(base, keep)?))
            }
            None => Challenges::Pinned(Some(self.challenge.check(
                base,
                (tenant.clone(), group.clone()),
                times,
                &mut keys,
                &mut expiries,
            )?)),
        };
        distinct(&keys)?;
        let rules_path = base.join(&self.site_rules);
        let rules =
            std::fs::read_to_string(&rules_path).map_err(GatewayError::file(&rules_path))?;
        let site_rules = SiteRules::from_toml(&rules).map_err(|error| {
            GatewayError::config(format!("site_rules ({})", rules_path.display()), error)
        })?;
        let endpoints = check_endpoints(self.endpoints)?;
        let crl = self.crl.check(&endpoints)?;
        let ocsp = self.ocsp.map(|ocsp| ocsp.check(&endpoints)).transpose()?;
        if ocsp.is_some() {
            ca.local("ocsp")?;
        }
        let store = self.certstore.map(|store| store.check(&endpoints)).transpose()?;
        let paths =
            [Some(&crl.path), ocsp.as_ref().map(|o| &o.path), store.as_ref().map(|s| &s.path)];
        one_service_each(paths.into_iter().flatten())?;
        Ok(Config {
            listen: self.listen,
            admin_listen: self.admin_listen,
            ledger,
            log_level: self.log.level.unwrap_or_else(|| "info".into()),
            log_format: self.log.format.unwrap_or_default(),
            limits: self.limits.check()?,
            ca,
            crl,
            ocsp,
            store,
            ra: ra.identity,
            previous_ra: ra.previous,
            ra_files,
            tenant,
            group,
            times,
            challenges,
            site_rules,
            endpoints,
            keys,
            certificates,
            expiries,
        })
    }
}

type Keys = Vec<(&'static str, SpkiDer)>;
type Expiries = Vec<(&'static str, Timestamp)>;

/// No two roles share a key.
pub(crate) fn distinct(keys: &Keys) -> Result<(), GatewayError> {
    let named: Vec<(&str, &SpkiDer)> = keys.iter().map(|(name, key)| (*name, key)).collect();
    scep_keys::distinct_keys(&named).map(drop).map_err(|error| GatewayError::config("keys", error))
}

fn duration(key: &str, text: Option<&str>, default: Duration) -> Result<Duration, GatewayError> {
    text.map_or(Ok(default), |text| parse_duration(text).map_err(|e| GatewayError::config(key, e)))
}

/// Where a private key is.
fn place(base: &Path, key: &str, text: &str) -> Result<KeyPlace, GatewayError> {
    KeyPlace::parse(base, text).map_err(|error| GatewayError::config(key, error))
}

fn instant(key: &str, text: &str) -> Result<Timestamp, GatewayError> {
    text.parse().map_err(|e| GatewayError::config(key, e))
}

#[cfg(test)]
mod tests;
