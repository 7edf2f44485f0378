//! A CA in OpenBao or HashiCorp Vault: its part of the configuration, and the RA's certificates from it.

pub(crate) mod setup;

use crate::ca::RaIssuer;
use crate::error::GatewayError;
use core::time::Duration;
use scep_ca::{
    Authentication, CaError, CertificateAuthority, InfrastructurePurpose, OpenBao, OpenBaoSettings,
    SecretId, SignBy,
};
use scep_keys::{SoftwareKey, read_certificates};
use scep_pkcs10::CsrBuilder;
use scep_types::{
    CertificateDer, CryptoProvider, DistinguishedName, KeyUsages, ObjectIdentifier, Secret,
    SignatureScheme, SpkiHash, StringRules, Timestamp, parse_duration,
};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
/// How often the token is looked after.
const LOOK: Duration = Duration::from_secs(30);

/// `[ca]` with `kind = "openbao"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawOpenBao {
    address: String,
    certificate: PathBuf,
    sign: RawSign,
    role: Option<String>,
    ra_signing_role: Option<String>,
    ra_encryption_role: Option<String>,
    namespace: Option<String>,
    mount: Option<String>,
    issuer: Option<String>,
    token_file: Option<PathBuf>,
    token_env: Option<String>,
    approle: Option<RawAppRole>,
    tls_roots: Option<PathBuf>,
    #[serde(default)]
    tls_pins: Vec<String>,
    timeout: Option<String>,
    retry_for: Option<String>,
    grace: Option<String>,
    max_listed: Option<usize>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawSign {
    Role,
    Verbatim,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAppRole {
    mount: Option<String>,
    role_id: String,
    secret_id_file: Option<PathBuf>,
    secret_id_env: Option<String>,
}

/// A SHA-256: hexadecimal, with or without colons.
fn sha256(key: &str, text: &str) -> Result<[u8; 32], GatewayError> {
    let plain: String = text.chars().filter(|c| *c != ':').collect();
    SpkiHash::from_hex(&plain.to_ascii_lowercase()).map(|hash| *hash.as_bytes()).ok_or_else(|| {
        GatewayError::config(key, format!("{text:?} is no SHA-256: 64 hexadecimal digits"))
    })
}

/// A secret of the environment.
fn secret(key: &str, name: &str) -> Result<Secret<String>, GatewayError> {
    let wrong = |why: &str| GatewayError::config(key, format!("{name} is {why}"));
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => Ok(Secret::new(value)),
        Ok(_) | Err(std::env::VarError::NotPresent) => Err(wrong("not set")),
        Err(std::env::VarError::NotUnicode(_)) => Err(wrong("no text")),
    }
}

impl RawOpenBao {
    pub(crate) fn check(
        self,
        base: &Path,
        provider: &Arc<dyn CryptoProvider>,
    ) -> Result<Remote, GatewayError> {
        let chain = read_certificates(&base.join(&self.certificate))?;
        Remote::new(self, base, chain, provider)
    }

    fn settings(&self, base: &Path) -> Result<OpenBaoSettings, GatewayError> {
        let sign_by = match (self.sign, self.role.clone()) {
            (RawSign::Role, Some(role)) => SignBy::Role(role),
            (RawSign::Role, None) => return Err(GatewayError::config("ca.role", "missing")),
            (RawSign::Verbatim, role) => SignBy::Verbatim(role),
        };
        let mut settings =
            OpenBaoSettings::new(self.address.clone(), sign_by, self.authentication(base)?);
        settings.namespace.clone_from(&self.namespace);
        if let Some(mount) = &self.mount {
            settings.mount.clone_from(mount);
        }
        if let Some(issuer) = &self.issuer {
            settings.issuer.clone_from(issuer);
        }
        if let Some(roots) = &self.tls_roots {
            settings.tls_roots = read_certificates(&base.join(roots))?;
            // An empty list would stand for the platform's roots.
            if settings.tls_roots.is_empty() {
                return Err(GatewayError::config("ca.tls_roots", "there is none"));
            }
        }
        settings.tls_pins = self
            .tls_pins
            .iter()
            .map(|pin| sha256("ca.tls_pins", pin).map(SpkiHash::from_bytes))
            .collect::<Result<_, _>>()?;
        let time = |key: &str, text: &Option<String>, default| {
            text.as_deref().map_or(Ok(default), |text| {
                parse_duration(text).map_err(|error| GatewayError::config(key, error))
            })
        };
        settings.timeout = time("ca.timeout", &self.timeout, settings.timeout)?;
        settings.retry_for = time("ca.retry_for", &self.retry_for, settings.retry_for)?;
        settings.grace = time("ca.grace", &self.grace, settings.grace)?;
        if settings.timeout.is_zero() || settings.grace < settings.timeout {
            let why = "must be longer than the server may work on a call, and than ca.timeout";
            return Err(GatewayError::config("ca.grace", why));
        }
        settings.max_listed = self.max_listed.unwrap_or(settings.max_listed);
        Ok(settings)
    }

    fn authentication(&self, base: &Path) -> Result<Authentication, GatewayError> {
        match (&self.token_file, &self.token_env, &self.approle) {
            (Some(file), None, None) => Ok(Authentication::TokenFile(base.join(file))),
            (None, Some(name), None) => Ok(Authentication::Token(secret("ca.token_env", name)?)),
            (None, None, Some(approle)) => Ok(Authentication::AppRole {
                mount: approle.mount.clone().unwrap_or_else(|| "approle".into()),
                role_id: approle.role_id.clone(),
                secret_id: match (&approle.secret_id_file, &approle.secret_id_env) {
                    (Some(file), None) => SecretId::File(base.join(file)),
                    (None, Some(name)) => SecretId::Value(secret("ca.approle", name)?),
                    _ => {
                        let why = "one of secret_id_file and secret_id_env is needed";
                        return Err(GatewayError::config("ca.approle", why));
                    }
                },
            }),
            _ => {
                let why = "one of token_file, token_env and [ca.approle] is needed";
                Err(GatewayError::config("ca", why))
            }
        }
    }
}

/// The adapter, and what another one like it is made from.
#[derive(Debug)]
pub(crate) struct Remote {
    ca: Arc<OpenBao>,
    chain: Vec<CertificateDer>,
    raw: RawOpenBao,
    base: PathBuf,
    provider: Arc<dyn CryptoProvider>,
}

impl Remote {
    fn new(
        raw: RawOpenBao,
        base: &Path,
        chain: Vec<CertificateDer>,
        provider: &Arc<dyn CryptoProvider>,
    ) -> Result<Self, GatewayError> {
        let ca = OpenBao::new(raw.settings(base)?, chain.clone(), Arc::clone(provider))?;
        let (ca, provider) = (Arc::new(ca), Arc::clone(provider));
        Ok(Self { ca, chain, raw, base: base.to_owned(), provider })
    }

    pub(crate) fn authority(&self) -> Arc<dyn CertificateAuthority> {
        Arc::<OpenBao>::clone(&self.ca)
    }

    /// Sees at start that the server has the CA of the configuration. One that is away may come back.
    pub(crate) async fn connect(&self) -> Result<(), GatewayError> {
        match self.ca.connect().await {
            Ok(()) => Ok(()),
            Err(error @ (CaError::Unavailable { .. } | CaError::Answer { .. })) => {
                tracing::error!(target: "scep", %error, "CA; nothing is issued until it is there");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Looks after the token until `stop`.
    pub(crate) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut well = true;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let looked = self.ca.connect().await;
            // Said once, when it begins and when it ends.
            match &looked {
                Err(error) if well => tracing::error!(target: "scep", %error, "CA"),
                Ok(()) if !well => tracing::info!(target: "scep", "the CA is there again"),
                _ => {}
            }
            well = looked.is_ok();
        }
    }

    fn role(&self, purpose: &InfrastructurePurpose) -> Result<(&str, KeyUsages), GatewayError> {
        let (sign, encipher) = (KeyUsages::DIGITAL_SIGNATURE, KeyUsages::KEY_ENCIPHERMENT);
        let (key, role, usages) = match purpose {
            InfrastructurePurpose::RaSigning => {
                ("ca.ra_signing_role", &self.raw.ra_signing_role, sign)
            }
            InfrastructurePurpose::RaEncryption => {
                ("ca.ra_encryption_role", &self.raw.ra_encryption_role, encipher)
            }
            InfrastructurePurpose::RaCombined => {
                ("ca.ra_signing_role", &self.raw.ra_signing_role, sign.union(encipher))
            }
            _ => return Err(GatewayError::config("ca", "issues the RA's certificates only")),
        };
        match role {
            Some(role) => Ok((role, usages)),
            None => Err(GatewayError::config(
                key,
                "is not set: the RA's certificates are replaced by hand",
            )),
        }
    }
}

impl RaIssuer for Remote {
    fn chain(&self) -> &[CertificateDer] {
        &self.chain
    }

    fn check_issued(&self, certificate: &CertificateDer) -> Result<(), CaError> {
        self.ca.check_issued(certificate)
    }

    fn issue_ra(
        &self,
        purpose: InfrastructurePurpose,
        key: &SoftwareKey,
        subject: &DistinguishedName,
        life: Duration,
        now: Timestamp,
    ) -> Result<CertificateDer, GatewayError> {
        let (role, usages) = self.role(&purpose)?;
        let wrong = |error: &dyn core::fmt::Display| GatewayError::config("ra", error);
        let csr = CsrBuilder { subject: subject.clone(), ..CsrBuilder::default() }
            .sign(&*key.signer(), SignatureScheme::RsaPkcs1Sha256)
            .map_err(|error| wrong(&error))?;
        // Connections of its own: those of the enrolments belong to another runtime, which may be driving this thread.
        let settings = self.raw.settings(&self.base)?;
        let ca = OpenBao::new(settings, self.chain.clone(), Arc::clone(&self.provider))?;
        let asked = std::thread::scope(|scope| {
            let ask = || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(GatewayError::Runtime)?;
                let end = now.plus(life);
                let answer = ca.issue_infrastructure(role, &csr, key.public_key(), end);
                Ok::<_, GatewayError>(runtime.block_on(answer)?)
            };
            scope.spawn(ask).join()
        });
        let certificate =
            asked.map_err(|_| GatewayError::config("ra", "the request to the CA was lost"))??;
        let got = certificate.extension(&KEY_USAGE).and_then(|der| KeyUsages::from_der(der).ok());
        // A second certificate that may encrypt would be taken by clients that look for one.
        if got != Some(usages) {
            let why = format!("role {role:?} must give exactly the key usages {usages}");
            return Err(GatewayError::config("ra", why));
        }
        // As a name: a CA may write it in other string types.
        let named = DistinguishedName::from_der(certificate.subject_der(), StringRules::AllowBmp);
        if named.as_ref() != Ok(subject) {
            let why = format!("role {role:?} must give the subject {subject}");
            return Err(GatewayError::config("ra", why));
        }
        Ok(certificate)
    }
}
