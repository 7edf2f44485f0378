//! The configuration: raw as read, checked as used. After [`Config::load`] nothing asks "is this set?".

mod authorities;
mod ca;
mod challenge;
mod connector;
mod endpoints;
mod ledger;
mod limits;
mod operator;
mod present;
mod ra;
mod services;

pub(crate) use authorities::AuthorityConfig;
pub(crate) use challenge::{ChallengeTimes, Challenges};
pub(crate) use connector::LinkConfig;
pub(crate) use endpoints::preset;
pub(crate) use ledger::LedgerConfig;
pub(crate) use limits::LogFormat;
pub(crate) use operator::AdminToken;
pub(crate) use present::Present;
pub(crate) use services::OcspConfig;

use crate::error::GatewayError;
use crate::label::{Expiries, Keys, Label};
use crate::renewal::{Owned, Renewed};
use authorities::{RawAuthority, RawOther, RawRollover};
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
use scep_link::CertificatePurpose;
use scep_message::LegacyAlgorithms;
use scep_policy::SiteRules;
use scep_server::{Endpoint, Network, NetworkError, RenewalContact, ServerLimits, StoreSettings};
use scep_types::{
    AuthorityName, CertificateDer, CryptoProvider, GatewayGroupId, SpkiDer, TenantId, Timestamp,
    parse_duration,
};
use serde::Deserialize;
use services::{RawCrl, RawOcsp, RawStore, one_service_each};
use std::collections::BTreeSet;
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
    #[serde(default)]
    trusted_proxies: Vec<String>,
    admin_listen: SocketAddr,
    admin_token: Option<PathBuf>,
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
    rollover: RawRollover,
    #[serde(default)]
    authorities: Vec<RawOther>,
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
    /// Whose word about a client's address is taken.
    pub(crate) trusted_proxies: Vec<Network>,
    pub(crate) admin_listen: SocketAddr,
    /// Who shows it there may do what operators do; without one nobody may.
    pub(crate) admin_token: Option<AdminToken>,
    pub(crate) ledger: LedgerConfig,
    pub(crate) log_level: String,
    pub(crate) log_format: LogFormat,
    /// The CA of `[ca]`, and what belongs to it.
    pub(crate) main: AuthorityConfig,
    /// Those of `[[authorities]]`.
    pub(crate) others: Vec<AuthorityConfig>,
    /// The certificate store, where there is one.
    pub(crate) store: Option<StoreSettings>,
    pub(crate) tenant: TenantId,
    pub(crate) group: GatewayGroupId,
    pub(crate) times: ChallengeTimes,
    pub(crate) challenges: Challenges,
    /// How recently the issuer must have been heard for a certificate to renew itself.
    pub(crate) renewal_contact: RenewalContact,
    pub(crate) site_rules: SiteRules,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) limits: ServerLimits,
    /// Every key of the gateway by its role; that no two are equal was checked.
    pub(crate) keys: Keys,
    /// The gateway's own certificates.
    pub(crate) certificates: Vec<Owned>,
    /// What expires when: the certificates and the keys whose end the configuration says.
    pub(crate) expiries: Expiries,
}

/// What the parts of a configuration are checked with, and what is found on the way.
struct Context<'a> {
    base: &'a Path,
    now: Timestamp,
    provider: &'a Arc<dyn CryptoProvider>,
    /// Whether any endpoint serves SHA-1.
    legacy: LegacyAlgorithms,
    shared_ledger: bool,
    keys: Keys,
    certificates: Vec<Owned>,
}

impl<'a> Context<'a> {
    fn new(base: &'a Path, now: Timestamp, provider: &'a Arc<dyn CryptoProvider>) -> Self {
        let (keys, certificates) = (Vec::new(), Vec::new());
        let legacy = LegacyAlgorithms::Refuse;
        Self { base, now, provider, legacy, shared_ledger: false, keys, certificates }
    }

    fn found_ca(&mut self, name: &AuthorityName, key: &SpkiDer, certificate: &CertificateDer) {
        self.keys.push((Label::of(name, "CA"), key.clone()));
        self.certificates.push(Owned {
            what: Label::of(name, "CA certificate"),
            purpose: CertificatePurpose::Ca,
            certificate: certificate.clone(),
        });
    }
}

impl Config {
    /// Reads and checks a file and everything it names.
    pub(crate) fn load(
        path: &Path,
        now: Timestamp,
        provider: &Arc<dyn CryptoProvider>,
    ) -> Result<Self, GatewayError> {
        let (raw, base) = Raw::read(path)?;
        raw.check(Context::new(base, now, provider))
    }

    /// Every CA, the main one first.
    pub(crate) fn authorities(&self) -> impl Iterator<Item = &AuthorityConfig> {
        core::iter::once(&self.main).chain(&self.others)
    }

    /// The first certificate that has ended although an endpoint needs it. A CA that no endpoint names has been taken over
    /// from, and may end in peace: its CRL and the record of what it has issued stay.
    pub(crate) fn ended(&self, now: Timestamp) -> Option<&Owned> {
        let needed = |name: &AuthorityName| self.endpoints.iter().any(|one| one.authority == *name);
        self.certificates
            .iter()
            .find(|owned| owned.certificate.not_after() <= now && needed(&owned.what.authority))
    }

    /// The CA with this name.
    pub(crate) fn authority(&self, name: &str) -> Result<&AuthorityConfig, GatewayError> {
        self.authorities().find(|one| one.name.as_str() == name).ok_or_else(|| {
            let names: Vec<AuthorityName> =
                self.authorities().map(|one| one.name.clone()).collect();
            no_such("--ca", name, &names)
        })
    }

    /// Has each CA issue its RA's first certificates, where there are none; what was made. `only`: one CA's.
    pub(crate) fn make_ra(
        path: &Path,
        only: Option<&str>,
        now: Timestamp,
        provider: &Arc<dyn CryptoProvider>,
    ) -> Result<Vec<Renewed>, GatewayError> {
        let (raw, base) = Raw::read(path)?;
        let mut context = Context::new(base, now, provider);
        let ledger = raw.ledger.check(base, &raw.revocations)?;
        context.shared_ledger = ledger.is_shared();
        let all = authorities::all(
            RawAuthority::main(raw.ca, raw.crl, raw.ocsp, raw.ra, raw.rollover)?,
            raw.authorities,
        )?;
        let mut made = Vec::new();
        for raw in all.into_iter().filter(|one| only.is_none_or(|name| one.name.as_str() == name)) {
            let ca = raw.ca.check(&mut context, &raw.name)?;
            made.extend(raw.ra.check(&context, &raw.name)?.make(&ca, now)?);
        }
        Ok(made)
    }

    /// A CA alone, of a configuration whose other keys need not be there yet.
    pub(crate) fn ca_of(
        path: &Path,
        name: &str,
        now: Timestamp,
        provider: &Arc<dyn CryptoProvider>,
    ) -> Result<LocalCa, GatewayError> {
        let (raw, base) = Raw::read(path)?;
        let all = authorities::all(
            RawAuthority::main(raw.ca, raw.crl, raw.ocsp, raw.ra, raw.rollover)?,
            raw.authorities,
        )?;
        let names: Vec<AuthorityName> = all.iter().map(|one| one.name.clone()).collect();
        let named = all.into_iter().find(|one| one.name.as_str() == name);
        let named = named.ok_or_else(|| no_such("--ca", name, &names))?;
        let ca = named.ca.check(&mut Context::new(base, now, provider), &named.name)?;
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

    fn check(self, mut context: Context<'_>) -> Result<Config, GatewayError> {
        let base = context.base;
        if !self.admin_listen.ip().is_loopback() {
            return Err(GatewayError::config("admin_listen", "must be a loopback address"));
        }
        let trusted_proxies = proxies(&self.trusted_proxies)?;
        let token = self.admin_token.map(|path| AdminToken::read(&base.join(path)));
        let admin_token = token.transpose()?;
        let ledger = self.ledger.check(base, &self.revocations)?;
        context.shared_ledger = ledger.is_shared();
        if self.endpoints.iter().any(|endpoint| endpoint.legacy == Some(true)) {
            context.legacy = LegacyAlgorithms::Accept;
        }
        let all = authorities::all(
            RawAuthority::main(self.ca, self.crl, self.ocsp, self.ra, self.rollover)?,
            self.authorities,
        )?;
        let names: Vec<AuthorityName> = all.iter().map(|one| one.name.clone()).collect();
        let endpoints = check_endpoints(self.endpoints, &names)?;
        chosen_by_profile(&endpoints, &all)?;
        let succession: Vec<_> = all.iter().filter_map(RawAuthority::succession).collect();
        let all: Vec<AuthorityConfig> =
            all.into_iter().map(|one| one.check(&mut context)).collect::<Result<_, _>>()?;
        authorities::together(&all, &succession, &context)?;
        let store = self.certstore.map(RawStore::check).transpose()?;
        let mut services = Vec::new();
        for one in &all {
            services.push((Label::of(&one.name, "crl").to_string(), one.crl.path.as_str()));
            if let Some(ocsp) = &one.ocsp {
                let what = Label::of(&one.name, "ocsp").to_string();
                services.push((what, ocsp.settings.path.as_str()));
            }
        }
        services.extend(store.as_ref().map(|store| ("certstore".to_owned(), store.path.as_str())));
        let scep: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.path.as_str()).collect();
        one_service_each(&services, &scep)?;
        let mut expiries: Expiries = context
            .certificates
            .iter()
            .map(|owned| (owned.what.clone(), owned.certificate.not_after()))
            .collect();
        let tenant = TenantId::new(self.tenant).map_err(|e| GatewayError::config("tenant", e))?;
        let group = GatewayGroupId::new(self.gateway_group)
            .map_err(|e| GatewayError::config("gateway_group", e))?;
        let times = self.challenge.times()?;
        let mut renewal_contact = self.challenge.renewal_contact();
        let challenges = match self.connector {
            Some(connector) => {
                self.challenge.absent()?;
                let keep = times.max_lifetime.saturating_add(times.skew);
                let link = connector.check(base, keep)?;
                renewal_contact = link.renewal_contact();
                Challenges::Issuer(Box::new(link))
            }
            None => Challenges::Pinned(Some(self.challenge.check(
                base,
                (tenant.clone(), group.clone()),
                times,
                &mut context.keys,
                &mut expiries,
            )?)),
        };
        distinct(&context.keys)?;
        let rules_path = base.join(&self.site_rules);
        let rules =
            std::fs::read_to_string(&rules_path).map_err(GatewayError::file(&rules_path))?;
        let site_rules = SiteRules::from_toml(&rules).map_err(|error| {
            GatewayError::config(format!("site_rules ({})", rules_path.display()), error)
        })?;
        let mut all = all.into_iter();
        let Some(main) = all.next() else {
            return Err(GatewayError::config("ca", "there is none"));
        };
        Ok(Config {
            listen: self.listen,
            trusted_proxies,
            admin_listen: self.admin_listen,
            admin_token,
            ledger,
            log_level: self.log.level.unwrap_or_else(|| "info".into()),
            log_format: self.log.format.unwrap_or_default(),
            limits: self.limits.check()?,
            main,
            others: all.collect(),
            store,
            tenant,
            group,
            times,
            challenges,
            renewal_contact,
            site_rules,
            endpoints,
            keys: context.keys,
            certificates: context.certificates,
            expiries,
        })
    }
}

/// No two roles share a key.
pub(crate) fn distinct(keys: &Keys) -> Result<(), GatewayError> {
    let names: Vec<String> = keys.iter().map(|(name, _)| name.to_string()).collect();
    let named: Vec<(&str, &SpkiDer)> =
        names.iter().zip(keys).map(|(name, (_, key))| (name.as_str(), key)).collect();
    scep_keys::distinct_keys(&named).map(drop).map_err(|error| GatewayError::config("keys", error))
}

fn no_such(key: &str, name: &str, names: &[AuthorityName]) -> GatewayError {
    GatewayError::config(key, format!("no CA is called {name}; there are {}", one_of(names)))
}

/// Names, for messages.
fn one_of(names: &[AuthorityName]) -> String {
    let names: Vec<&str> = names.iter().map(AuthorityName::as_str).collect();
    names.join(", ")
}

/// Whose word about a client's address is taken. Nobody asks to believe everybody.
fn proxies(texts: &[String]) -> Result<Vec<Network>, GatewayError> {
    let network = |text: &String| {
        let wrong = |why: String| GatewayError::config("trusted_proxies", format!("{text}: {why}"));
        let network: Network =
            text.parse().map_err(|error: NetworkError| wrong(error.to_string()))?;
        if network.is_everything() {
            return Err(wrong("anybody could name any address".into()));
        }
        Ok(network)
    };
    texts.iter().map(network).collect()
}

fn duration(key: &str, text: Option<&str>, default: Duration) -> Result<Duration, GatewayError> {
    text.map_or(Ok(default), |text| parse_duration(text).map_err(|e| GatewayError::config(key, e)))
}

/// Where a private key is.
/// A challenge names a profile and no CA, and devices choose the path: where CAs are served that do not follow one another,
/// every endpoint must say which profiles it is for, or a device could have its certificate from the wrong one.
fn chosen_by_profile(endpoints: &[Endpoint], all: &[RawAuthority]) -> Result<(), GatewayError> {
    let first_of_line = |name: &AuthorityName| {
        let mut first = name;
        // As often as there are CAs: circles are refused elsewhere.
        for _ in all {
            let here = all.iter().find(|one| one.name == *first);
            match here.and_then(|one| one.follows.as_ref()) {
                Some(before) => first = before,
                None => break,
            }
        }
        first.clone()
    };
    let lines: BTreeSet<AuthorityName> =
        endpoints.iter().map(|endpoint| first_of_line(&endpoint.authority)).collect();
    match endpoints.iter().find(|endpoint| endpoint.profiles.is_none()) {
        Some(endpoint) if lines.len() > 1 => Err(GatewayError::config(
            "endpoints.profiles",
            format!(
                "{}: must be said where several CAs are served, or a device could choose its CA by the path",
                endpoint.path
            ),
        )),
        _ => Ok(()),
    }
}

fn place(base: &Path, key: &str, text: &str) -> Result<KeyPlace, GatewayError> {
    KeyPlace::parse(base, text).map_err(|error| GatewayError::config(key, error))
}

fn instant(key: &str, text: &str) -> Result<Timestamp, GatewayError> {
    text.parse().map_err(|e| GatewayError::config(key, e))
}

#[cfg(test)]
mod tests;
