//! The configuration: raw as read, checked as used. After [`Config::load`] nothing asks "is this set?".

mod connector;
mod ledger;

pub(crate) use connector::LinkConfig;
pub(crate) use ledger::LedgerConfig;

use crate::ca::Ca;
use crate::error::GatewayError;
use crate::renewal::{Owned, Pair, Previous, RaFiles, RaPair, Renewal, Renewed, one_certificate};
use connector::RawConnector;
use core::time::Duration;
use ledger::{RawLedger, RawRevocations};
use scep_ca::{LocalCa, LocalCaSettings};
use scep_challenge::{Opener, OpeningKey, PinnedSigner};
use scep_keys::{KeyPlace, open_key, read_certificates, read_public_key};
use scep_link::CertificatePurpose;
use scep_message::{LegacyAlgorithms, RaIdentity};
use scep_pkcs10::Sha1Signatures;
use scep_policy::SiteRules;
use scep_server::{
    CaCertForm, CrlSettings, Endpoint, OcspSettings, ReplyCertificates, ServerLimits, SignerRule,
    StoreSettings,
};
use scep_types::{
    CryptoProvider, GatewayGroupId, SpkiDer, StringRules, TenantId, Timestamp, parse_duration,
};
use serde::Deserialize;
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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    level: Option<String>,
    format: Option<LogFormat>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "kebab-case")]
enum RawCa {
    Local {
        key: String,
        certificate: PathBuf,
        chain: Option<PathBuf>,
        #[serde(default)]
        crl_urls: Vec<String>,
        #[serde(default)]
        issuer_urls: Vec<String>,
        #[serde(default)]
        ocsp_urls: Vec<String>,
    },
    #[cfg(feature = "openbao")]
    #[serde(rename = "openbao")]
    OpenBao(Box<crate::openbao::RawOpenBao>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCrl {
    path: Option<String>,
    validity: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOcsp {
    path: Option<String>,
    validity: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStore {
    path: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRa {
    signing_key: String,
    signing_certificate: PathBuf,
    encryption_key: String,
    encryption_certificate: PathBuf,
    renewal: Option<RawRenewal>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawRenewal {
    Auto,
    Manual,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawChallenge {
    decryption_key: Option<String>,
    max_lifetime: Option<String>,
    clock_skew: Option<String>,
    #[serde(default)]
    signers: Vec<RawSigner>,
    #[serde(default)]
    previous_keys: Vec<RawPreviousKey>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSigner {
    public_key: PathBuf,
    not_before: String,
    not_after: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPreviousKey {
    key: String,
    not_after: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEndpoint {
    path: String,
    #[serde(default)]
    preset: RawPreset,
    signer: Option<RawSignerRule>,
    legacy: Option<bool>,
    reply: Option<RawReply>,
    ca_cert: Option<RawCaCert>,
    bmp_strings: Option<bool>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawPreset {
    #[default]
    Generic,
    Windows,
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
enum RawCaCert {
    Bundle,
    RaOnly,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    threads: Option<usize>,
    queue: Option<usize>,
    connections: Option<usize>,
    head_timeout: Option<String>,
    body_timeout: Option<String>,
    stop_timeout: Option<String>,
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

/// How long challenges may live, and by how much clocks may differ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChallengeTimes {
    pub(crate) max_lifetime: Duration,
    pub(crate) skew: Duration,
}

/// Whose challenges are accepted.
#[derive(Debug)]
pub(crate) enum Challenges {
    /// Of the keys that the configuration names. Taken once, by whoever builds the gateway.
    Pinned(Option<Opener>),
    /// Of the issuer that the gateway is enrolled with: its state has the keys.
    Issuer(Box<LinkConfig>),
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

impl RawCa {
    fn check(
        self,
        base: &Path,
        provider: &Arc<dyn CryptoProvider>,
        keys: &mut Keys,
        certificates: &mut Vec<Owned>,
    ) -> Result<Ca, GatewayError> {
        let (key, certificate, chain, settings) = match self {
            Self::Local { key, certificate, chain, crl_urls, issuer_urls, ocsp_urls } => {
                let settings = LocalCaSettings { crl_urls, issuer_urls, ocsp_urls };
                (key, certificate, chain, settings)
            }
            #[cfg(feature = "openbao")]
            Self::OpenBao(raw) => {
                let remote = raw.check(base, provider)?;
                let ca = Ca::OpenBao(Arc::new(remote));
                if let Some(issuer) = ca.chain().first() {
                    keys.push(("CA", issuer.spki().clone()));
                    certificates.push(Owned {
                        what: "CA certificate",
                        purpose: CertificatePurpose::Ca,
                        certificate: issuer.clone(),
                    });
                }
                return Ok(ca);
            }
        };
        let key = open_key(&place(base, "ca.key", &key)?)?;
        let certificate = one_certificate(&base.join(certificate), "ca.certificate")?;
        let upper = match chain {
            Some(chain) => read_certificates(&base.join(chain))?,
            None => Vec::new(),
        };
        keys.push(("CA", key.public_key().clone()));
        certificates.push(Owned {
            what: "CA certificate",
            purpose: CertificatePurpose::Ca,
            certificate: certificate.clone(),
        });
        let provider = Arc::clone(provider);
        Ok(Ca::Local(LocalCa::new(key.signer()?, certificate, upper, settings, provider)?))
    }
}

impl RawCrl {
    fn check(self, endpoints: &[Endpoint]) -> Result<CrlSettings, GatewayError> {
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
    fn check(self, endpoints: &[Endpoint]) -> Result<OcspSettings, GatewayError> {
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
    fn check(self, endpoints: &[Endpoint]) -> Result<StoreSettings, GatewayError> {
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
fn one_service_each<'p>(paths: impl Iterator<Item = &'p String>) -> Result<(), GatewayError> {
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

impl RawRa {
    fn check(
        self,
        base: &Path,
        legacy: LegacyAlgorithms,
        ledger: &LedgerConfig,
    ) -> Result<RaFiles, GatewayError> {
        let renewal = match self.renewal {
            Some(RawRenewal::Auto) => Renewal::Auto,
            Some(RawRenewal::Manual) => Renewal::Manual,
            // Gateways that share a ledger share an RA, and none may change it by itself.
            None if ledger.is_shared() => Renewal::Manual,
            None => Renewal::Auto,
        };
        let pair = |name, key: &str, certificate: PathBuf| {
            let certificate = base.join(certificate);
            Ok::<_, GatewayError>(match place(base, name, key)? {
                KeyPlace::File(key) => RaPair::Files(Pair { key, certificate }),
                key @ KeyPlace::Token(_) => RaPair::Token { key, certificate },
            })
        };
        let signing = pair("ra.signing_key", &self.signing_key, self.signing_certificate)?;
        let encryption =
            pair("ra.encryption_key", &self.encryption_key, self.encryption_certificate)?;
        Ok(RaFiles { signing, encryption, legacy, renewal })
    }
}

impl RawChallenge {
    fn times(&self) -> Result<ChallengeTimes, GatewayError> {
        let minutes = |n: u64| Duration::from_secs(n.saturating_mul(60));
        Ok(ChallengeTimes {
            max_lifetime: duration(
                "challenge.max_lifetime",
                self.max_lifetime.as_deref(),
                minutes(60),
            )?,
            skew: duration("challenge.clock_skew", self.clock_skew.as_deref(), minutes(5))?,
        })
    }

    /// With a connector the keys are the issuer's to say.
    fn absent(&self) -> Result<(), GatewayError> {
        for (key, there) in [
            ("signers", !self.signers.is_empty()),
            ("decryption_key", self.decryption_key.is_some()),
            ("previous_keys", !self.previous_keys.is_empty()),
        ] {
            if there {
                return Err(GatewayError::config(
                    format!("challenge.{key}"),
                    "must be absent where there is a [connector]: `scep-gateway enroll` makes the decryption key, and \
                     the issuer says which keys sign challenges",
                ));
            }
        }
        Ok(())
    }

    fn check(
        self,
        base: &Path,
        (tenant, group): (TenantId, GatewayGroupId),
        times: ChallengeTimes,
        keys: &mut Keys,
        expiries: &mut Expiries,
    ) -> Result<Opener, GatewayError> {
        let present = self.decryption_key.ok_or_else(|| {
            GatewayError::config("challenge.decryption_key", "missing, and there is no [connector]")
        })?;
        let present = open_key(&place(base, "challenge.decryption_key", &present)?)?;
        keys.push(("challenge decryption", present.public_key().clone()));
        let mut opening = vec![OpeningKey { key: present.decryption()?, not_after: None }];
        for previous in self.previous_keys {
            let key = open_key(&place(base, "challenge.previous_keys.key", &previous.key)?)?;
            keys.push(("previous challenge decryption", key.public_key().clone()));
            let not_after = instant("challenge.previous_keys.not_after", &previous.not_after)?;
            opening.push(OpeningKey { key: key.decryption()?, not_after: Some(not_after) });
        }
        let mut signers = Vec::new();
        for signer in self.signers {
            let key = read_public_key(&base.join(signer.public_key))?;
            keys.push(("issuer signing", key.clone()));
            let not_before = instant("challenge.signers.not_before", &signer.not_before)?;
            let not_after = instant("challenge.signers.not_after", &signer.not_after)?;
            expiries.push(("issuer signing key", not_after));
            signers.push(PinnedSigner { key, not_before, not_after });
        }
        Opener::new(tenant, group, signers, opening, times.max_lifetime, times.skew)
            .map_err(|error| GatewayError::config("challenge", error))
    }
}

fn check_endpoints(raw: Vec<RawEndpoint>) -> Result<Vec<Endpoint>, GatewayError> {
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

impl RawLimits {
    fn check(self) -> Result<ServerLimits, GatewayError> {
        let defaults = ServerLimits::default();
        Ok(ServerLimits {
            threads: self.threads.unwrap_or(defaults.threads),
            queue: self.queue.unwrap_or(defaults.queue),
            connections: self.connections.unwrap_or(defaults.connections),
            head_timeout: duration(
                "limits.head_timeout",
                self.head_timeout.as_deref(),
                defaults.head_timeout,
            )?,
            body_timeout: duration(
                "limits.body_timeout",
                self.body_timeout.as_deref(),
                defaults.body_timeout,
            )?,
            stop_timeout: duration(
                "limits.stop_timeout",
                self.stop_timeout.as_deref(),
                defaults.stop_timeout,
            )?,
            ..defaults
        })
    }
}

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
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../config.example.toml");

    #[test]
    fn the_example_has_only_known_keys() {
        let raw: Raw = toml::from_str(EXAMPLE).unwrap();
        assert_eq!(raw.endpoints.len(), 2);
    }

    /// The example with its `[connector]` section in force, and without the keys that this excludes.
    fn with_connector() -> String {
        let start = EXAMPLE.find("# [connector]").unwrap();
        let end = start + EXAMPLE[start..].find("\n\n").unwrap();
        let section = EXAMPLE[start..end].lines().filter_map(|line| {
            let line = line.strip_prefix("# ")?;
            let key = line.split(' ').next()?;
            let word = key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            (line.starts_with('[') || (word && line[key.len()..].starts_with(" = ")))
                .then_some(line)
        });
        let section: Vec<&str> = section.collect();
        let mut text = format!("{}{}{}", &EXAMPLE[..start], section.join("\n"), &EXAMPLE[end..]);
        let signers = text.find("[[challenge.signers]]").unwrap();
        let after = signers + text[signers..].find("\n\n").unwrap();
        text.replace_range(signers..after, "");
        text.replace("decryption_key = \"challenge.key.pem\"", "")
    }

    #[test]
    fn attack_63_no_gateway_of_a_group_replaces_its_ra_by_itself() {
        let renewal = |ledger: &str, ra: &str| {
            let text = EXAMPLE.replacen("ledger = \"ledger.sqlite\"", ledger, 1);
            let text = text.replacen("[ra]", &format!("[ra]\n{ra}"), 1);
            let raw: Raw = toml::from_str(&text).unwrap();
            let base = Path::new("gw");
            let ledger = raw.ledger.check(base, &raw.revocations).unwrap();
            raw.ra.check(base, LegacyAlgorithms::Refuse, &ledger).unwrap().renewal
        };
        let own = "ledger = \"ledger.sqlite\"";
        let shared = "ledger = { kind = \"postgres\", connection = \"host=/run\" }";
        for (ledger, ra, expected) in [
            (own, "", Renewal::Auto),
            (shared, "", Renewal::Manual),
            (own, "renewal = \"manual\"", Renewal::Manual),
            (shared, "renewal = \"auto\"", Renewal::Auto),
        ] {
            assert_eq!(renewal(ledger, ra), expected, "{ledger} {ra}");
        }
    }

    #[test]
    fn the_examples_shared_ledger_has_every_key_there_is() {
        let start = EXAMPLE.find("# [ledger]").unwrap();
        let end = start + EXAMPLE[start..].find("\n\n").unwrap();
        let lines = EXAMPLE[start..end].lines().filter_map(|line| {
            let line = line.strip_prefix("# ")?;
            (line.starts_with('[') || line.contains(" = \"")).then_some(line)
        });
        let section: Vec<&str> = lines.collect();
        let text = EXAMPLE.replacen("ledger = \"ledger.sqlite\"", "", 1);
        let text = format!("{text}\n{}", section.join("\n"));
        let table: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(table["ledger"].as_table().unwrap().len(), 6);
        let raw: Raw = toml::from_str(&text).unwrap();
        // All is read and accepted up to the password, whose file is not there.
        let error = raw.ledger.check(Path::new("gw"), &raw.revocations).unwrap_err().to_string();
        assert!(error.contains("ledger.password"), "{error}");
    }

    #[cfg(feature = "openbao")]
    #[test]
    fn the_examples_openbao_has_every_key_there_is() {
        let start = EXAMPLE.find("# kind = \"openbao\"").unwrap();
        let end = start + EXAMPLE[start..].find("\n\n").unwrap();
        let lines: Vec<&str> = EXAMPLE[start..end]
            .lines()
            .filter_map(|line| line.strip_prefix("# "))
            .filter(|line| line.split(' ').nth(1) == Some("="))
            .collect();
        let read = |leave_out: &[&str]| {
            let kept = lines.iter().filter(|line| !leave_out.iter().any(|out| line.contains(out)));
            toml::from_str::<RawCa>(&kept.copied().collect::<Vec<_>>().join("\n")).unwrap()
        };
        let error = |raw: RawCa| {
            let provider: Arc<dyn CryptoProvider> = Arc::new(scep_keys::AwsLc);
            let folder = tempfile::tempdir().unwrap();
            let signer = scep_testkit::keys::p256(0).signer();
            let (name, year) = ("CN=CA".parse().unwrap(), Duration::from_secs(31_536_000));
            let now = Timestamp::from_seconds(1_800_000_000);
            let root = LocalCa::self_signed_root(&*signer, &name, year, now, &*provider).unwrap();
            let root = scep_keys::certificates_pem(&[root]);
            std::fs::write(folder.path().join("ca.cert.pem"), root).unwrap();
            let (mut keys, mut certificates) = (Vec::new(), Vec::new());
            let checked = raw.check(folder.path(), &provider, &mut keys, &mut certificates);
            checked.map(drop).map_or_else(|error| error.to_string(), |()| String::new())
        };
        let tls = "tls_roots";
        assert_eq!(error(read(&["token_env", "approle", tls])), "");
        assert_eq!(error(read(&["token_file", "token_env", "secret_id_env", tls])), "");
        // No two ways of logging in, and one at least.
        for out in [&["approle", tls][..], &["token_file", "token_env", "approle", tls]] {
            assert!(error(read(out)).contains("one of token_file"), "{}", error(read(out)));
        }
        assert!(error(read(&["token_file", "approle", tls])).contains("BAO_TOKEN is not set"));
        assert!(error(read(&["token_env", "approle"])).contains("bao-ca.pem"));
        let unknown = format!("{}\ntoken = \"x\"", lines[..4].join("\n"));
        let refused = toml::from_str::<RawCa>(&unknown).unwrap_err().to_string();
        assert!(refused.contains("unknown field"), "{refused}");
    }

    #[test]
    fn the_examples_connector_has_every_key_there_is() {
        let text = with_connector();
        let raw: Raw = toml::from_str(&text).unwrap();
        raw.challenge.absent().unwrap();
        let link =
            raw.connector.unwrap().check(Path::new("gw"), Duration::from_secs(3_900)).unwrap();
        assert_eq!(link.settings.issuer.as_str(), "https://issuer.example.org");
        assert!(link.settings.proxy.is_some());
        assert_eq!(link.state_path, Path::new("gw/connector/state.json"));
        assert_eq!(link.settings.status_folder.as_deref(), Some(Path::new("gw/status")));
        assert_eq!((link.settings.wait_seconds, link.settings.status_files), (60, 1_000));
        let table: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(table["connector"].as_table().unwrap().len(), 8);
    }

    #[test]
    fn a_connector_excludes_keys_of_the_configuration() {
        let text = with_connector();
        for (find, replace, named) in [
            ("[challenge]", "[challenge]\ndecryption_key = \"a\"", "challenge.decryption_key"),
            (
                "[[endpoints]]",
                "[[challenge.signers]]\npublic_key = \"a\"\nnot_before = \"\"\nnot_after = \"\"\n[[endpoints]]",
                "challenge.signers",
            ),
            (
                "[[endpoints]]",
                "[[challenge.previous_keys]]\nkey = \"a\"\nnot_after = \"\"\n[[endpoints]]",
                "challenge.previous_keys",
            ),
        ] {
            let raw: Raw = toml::from_str(&text.replacen(find, replace, 1)).unwrap();
            let error = raw.challenge.absent().unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("[connector]"), "{error}");
        }
    }

    #[test]
    fn the_crl_has_a_path_of_its_own_and_time_to_be_renewed() {
        let endpoints = [Endpoint::generic("/"), Endpoint::generic("/scep")];
        let check = |path: Option<&str>, validity: Option<&str>| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            RawCrl { path: owned(path), validity: owned(validity) }.check(&endpoints).ok()
        };
        assert_eq!(check(None, None), Some(CrlSettings::default()));
        let settings = check(Some("/pki/ca.crl"), Some("2d")).unwrap();
        assert_eq!((&*settings.path, settings.validity.as_secs()), ("/pki/ca.crl", 2 * 86_400));
        for path in ["/", "crl", "", "/scep", "/crl?x"] {
            assert_eq!(check(Some(path), None), None, "{path}");
        }
        for validity in ["59m", "0d", "soon"] {
            assert_eq!(check(None, Some(validity)), None, "{validity}");
        }
        let raw: Raw = toml::from_str(EXAMPLE).unwrap();
        assert_eq!(raw.crl.check(&endpoints).ok(), Some(CrlSettings::default()));
    }

    #[test]
    fn attack_64_unknown_keys_fail() {
        for (find, replace) in [
            ("[crl]", "[crl]\nsign = false"),
            ("tenant = ", "skip_checks = true\ntenant = "),
            ("[ra]", "[ra]\nallow_anonymous = true"),
            ("[challenge]", "[challenge]\nstatic_password = \"x\""),
            ("path = \"/\"", "path = \"/\"\nskip_san_check = true"),
            ("kind = \"local\"", "kind = \"local\"\nanything = 1"),
            ("[connector]", "[connector]\nskip_verify = true"),
        ] {
            let example = if find == "[connector]" { with_connector() } else { EXAMPLE.into() };
            let text = example.replacen(find, replace, 1);
            assert_ne!(text, example);
            let error = toml::from_str::<Raw>(&text).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{find}: {error}");
        }
    }
}
