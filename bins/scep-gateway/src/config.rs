//! The configuration: raw as read, checked as used. After [`Config::load`] nothing asks "is this set?".

use crate::error::GatewayError;
use core::time::Duration;
use scep_ca::{LocalCa, LocalCaSettings};
use scep_challenge::{Opener, OpeningKey, PinnedSigner};
use scep_keys::{Backend, SoftwareKey, read_certificates, read_public_key};

use scep_message::{LegacyAlgorithms, RaIdentity, Recipient};
use scep_pkcs10::Sha1Signatures;
use scep_policy::SiteRules;
use scep_server::{CaCertForm, CrlSettings, Endpoint, ReplyCertificates, ServerLimits, SignerRule};
use scep_types::{
    CertificateDer, CryptoProvider, GatewayGroupId, SpkiDer, StringRules, TenantId, Timestamp,
    parse_duration,
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
    ledger: PathBuf,
    site_rules: PathBuf,
    #[serde(default)]
    log: RawLog,
    ca: RawCa,
    #[serde(default)]
    crl: RawCrl,
    ra: RawRa,
    challenge: RawChallenge,
    endpoints: Vec<RawEndpoint>,
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
        key: PathBuf,
        certificate: PathBuf,
        chain: Option<PathBuf>,
        #[serde(default)]
        crl_urls: Vec<String>,
        #[serde(default)]
        issuer_urls: Vec<String>,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCrl {
    path: Option<String>,
    validity: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRa {
    signing_key: PathBuf,
    signing_certificate: PathBuf,
    encryption_key: PathBuf,
    encryption_certificate: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawChallenge {
    decryption_key: PathBuf,
    max_lifetime: Option<String>,
    clock_skew: Option<String>,
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
    key: PathBuf,
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
    pub(crate) ledger: PathBuf,
    pub(crate) log_level: String,
    pub(crate) log_format: LogFormat,
    pub(crate) ca: LocalCa,
    pub(crate) crl: CrlSettings,
    pub(crate) ra: RaIdentity,
    pub(crate) opener: Opener,
    pub(crate) site_rules: SiteRules,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) limits: ServerLimits,
    /// Every key of the gateway by its role; that no two are equal was checked.
    pub(crate) keys: Vec<(&'static str, SpkiDer)>,
    /// For the start-up table: what expires when.
    pub(crate) expiries: Vec<(&'static str, Timestamp)>,
}

impl Config {
    /// Reads and checks a file and everything it names.
    pub(crate) fn load(
        path: &Path,
        now: Timestamp,
        provider: &Arc<dyn CryptoProvider>,
    ) -> Result<Self, GatewayError> {
        let text = std::fs::read_to_string(path).map_err(GatewayError::file(path))?;
        let raw: Raw = toml::from_str(&text)
            .map_err(|source| GatewayError::Toml { path: path.into(), source: Box::new(source) })?;
        let base = path.parent().unwrap_or_else(|| Path::new("."));
        raw.check(base, now, provider)
    }
}

impl Raw {
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
        let mut expiries = Vec::new();
        let ca = self.ca.check(base, provider, &mut keys, &mut expiries)?;
        let legacy = if self.endpoints.iter().any(|endpoint| endpoint.legacy == Some(true)) {
            LegacyAlgorithms::Accept
        } else {
            LegacyAlgorithms::Refuse
        };
        let ra = self.ra.check(base, &ca, now, legacy, &mut keys, &mut expiries)?;
        let tenant = TenantId::new(self.tenant).map_err(|e| GatewayError::config("tenant", e))?;
        let group = GatewayGroupId::new(self.gateway_group)
            .map_err(|e| GatewayError::config("gateway_group", e))?;
        let opener = self.challenge.check(base, tenant, group, &mut keys, &mut expiries)?;
        distinct(&keys)?;
        let rules_path = base.join(&self.site_rules);
        let rules =
            std::fs::read_to_string(&rules_path).map_err(GatewayError::file(&rules_path))?;
        let site_rules = SiteRules::from_toml(&rules).map_err(|error| {
            GatewayError::config(format!("site_rules ({})", rules_path.display()), error)
        })?;
        let endpoints = check_endpoints(self.endpoints)?;
        let crl = self.crl.check(&endpoints)?;
        Ok(Config {
            listen: self.listen,
            admin_listen: self.admin_listen,
            ledger: base.join(self.ledger),
            log_level: self.log.level.unwrap_or_else(|| "info".into()),
            log_format: self.log.format.unwrap_or_default(),
            limits: self.limits.check()?,
            ca,
            crl,
            ra,
            opener,
            site_rules,
            endpoints,
            keys,
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
        expiries: &mut Expiries,
    ) -> Result<LocalCa, GatewayError> {
        let Self::Local { key, certificate, chain, crl_urls, issuer_urls } = self;
        let key = SoftwareKey::read(&base.join(key), Backend::AwsLc)?;
        let certificate = one_certificate(&base.join(certificate), "ca.certificate")?;
        let upper = match chain {
            Some(chain) => read_certificates(&base.join(chain))?,
            None => Vec::new(),
        };
        keys.push(("CA", key.public_key().clone()));
        expiries.push(("CA certificate", certificate.not_after()));
        let settings = LocalCaSettings { crl_urls, issuer_urls, ..LocalCaSettings::default() };
        Ok(LocalCa::new(key.signer(), certificate, upper, settings, Arc::clone(provider))?)
    }
}

impl RawCrl {
    fn check(self, endpoints: &[Endpoint]) -> Result<CrlSettings, GatewayError> {
        let defaults = CrlSettings::default();
        let path = self.path.unwrap_or(defaults.path);
        if !path.starts_with('/') || path.len() < 2 || path.contains(['?', '#']) {
            return Err(GatewayError::config("crl.path", "must be a path like /crl"));
        }
        if endpoints.iter().any(|endpoint| endpoint.path == path) {
            return Err(GatewayError::config("crl.path", "SCEP is served there"));
        }
        let validity = duration("crl.validity", self.validity.as_deref(), defaults.validity)?;
        if validity < Duration::from_secs(3_600) {
            return Err(GatewayError::config("crl.validity", "must be an hour or more"));
        }
        Ok(CrlSettings { path, validity })
    }
}

impl RawRa {
    fn check(
        self,
        base: &Path,
        ca: &LocalCa,
        now: Timestamp,
        legacy: LegacyAlgorithms,
        keys: &mut Keys,
        expiries: &mut Expiries,
    ) -> Result<RaIdentity, GatewayError> {
        let signing = SoftwareKey::read(&base.join(&self.signing_key), Backend::AwsLc)?;
        let encryption = SoftwareKey::read(&base.join(&self.encryption_key), Backend::AwsLc)?;
        let signing_certificate =
            one_certificate(&base.join(&self.signing_certificate), "ra.signing_certificate")?;
        let encryption_certificate =
            one_certificate(&base.join(&self.encryption_certificate), "ra.encryption_certificate")?;
        let pairs = [
            ("ra.signing", &signing, &signing_certificate),
            ("ra.encryption", &encryption, &encryption_certificate),
        ];
        for (name, key, certificate) in pairs {
            if key.public_key() != certificate.spki() {
                return Err(GatewayError::config(
                    name,
                    "key and certificate do not belong together",
                ));
            }
            if certificate.spki().rsa().is_none() {
                return Err(GatewayError::config(name, "SCEP clients need an RSA key here"));
            }
            if certificate.not_after() <= now {
                return Err(GatewayError::config(
                    name,
                    format!("the certificate expired at {}", certificate.not_after()),
                ));
            }
            ca.check_issued(certificate).map_err(|error| GatewayError::config(name, error))?;
        }
        keys.push(("RA signing", signing.public_key().clone()));
        expiries.push(("RA signing certificate", signing_certificate.not_after()));
        // One combined RA key is the one exception to "every role its own key", and it is asked for by name.
        if self.signing_key != self.encryption_key {
            keys.push(("RA encryption", encryption.public_key().clone()));
            expiries.push(("RA encryption certificate", encryption_certificate.not_after()));
        }
        // An answer mirrors the request's digest, and SHA-1 needs a signer that makes it.
        let signing_key = match legacy {
            LegacyAlgorithms::Accept => scep_keys::danger::sha1_signer(&signing)
                .map_err(|error| GatewayError::config("ra.signing_key", error))?,
            LegacyAlgorithms::Refuse => signing.signer(),
        };
        Ok(RaIdentity {
            signing_certificate,
            signing_key,
            recipients: vec![Recipient {
                certificate: encryption_certificate,
                key: encryption.decryption()?,
            }],
        })
    }
}

impl RawChallenge {
    fn check(
        self,
        base: &Path,
        tenant: TenantId,
        group: GatewayGroupId,
        keys: &mut Keys,
        expiries: &mut Expiries,
    ) -> Result<Opener, GatewayError> {
        let present = SoftwareKey::read(&base.join(self.decryption_key), Backend::AwsLc)?;
        keys.push(("challenge decryption", present.public_key().clone()));
        let mut opening = vec![OpeningKey { key: present.decryption()?, not_after: None }];
        for previous in self.previous_keys {
            let key = SoftwareKey::read(&base.join(previous.key), Backend::AwsLc)?;
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
        let minutes = |n: u64| Duration::from_secs(n.saturating_mul(60));
        let lifetime =
            duration("challenge.max_lifetime", self.max_lifetime.as_deref(), minutes(60))?;
        let skew = duration("challenge.clock_skew", self.clock_skew.as_deref(), minutes(5))?;
        Opener::new(tenant, group, signers, opening, lifetime, skew)
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

fn distinct(keys: &Keys) -> Result<(), GatewayError> {
    let named: Vec<(&str, &SpkiDer)> = keys.iter().map(|(name, key)| (*name, key)).collect();
    scep_keys::distinct_keys(&named).map(drop).map_err(|error| GatewayError::config("keys", error))
}

fn one_certificate(path: &Path, key: &str) -> Result<CertificateDer, GatewayError> {
    let mut certificates = read_certificates(path)?;
    match (certificates.pop(), certificates.is_empty()) {
        (Some(certificate), true) => Ok(certificate),
        _ => {
            Err(GatewayError::config(key, format!("{} must hold one certificate", path.display())))
        }
    }
}

fn duration(key: &str, text: Option<&str>, default: Duration) -> Result<Duration, GatewayError> {
    text.map_or(Ok(default), |text| parse_duration(text).map_err(|e| GatewayError::config(key, e)))
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
        ] {
            let text = EXAMPLE.replacen(find, replace, 1);
            assert_ne!(text, EXAMPLE);
            let error = toml::from_str::<Raw>(&text).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{find}: {error}");
        }
    }
}
