//! `init --ca openbao`: sees what the engine and the gateway's token lack, and has the RA's first certificates issued.

use super::{RawAppRole, RawOpenBao, RawSign, Remote};
use crate::ca::RaIssuer as _;
use crate::error::GatewayError;
use crate::init::RemoteCa;
use crate::template::quoted;
use clap::Args;
use core::fmt::Write as _;
use core::time::Duration;
use scep_ca::{CaError, InfrastructurePurpose, OpenBao};
use scep_keys::{AwsLc, SoftwareKey, read_certificates};
use scep_types::{CertificateDer, CryptoProvider, KeyAlgorithm, Timestamp};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How long the RA's first certificates are good, if the CA is.
const RA_LIFE: Duration = Duration::from_secs(365 * 86_400);
/// The same for the roles: a leap year and a day.
const ROLE_LIFE: &str = "8808h";
/// The file of the roots, in the gateway's folder.
const TLS_ROOTS: &str = "bao-ca.pem";
/// The policy that the commands for an operator make.
const POLICY: &str = "scep-gateway";

/// Options of `init` for a CA in OpenBao or HashiCorp Vault.
#[derive(Debug, Args)]
#[command(next_help_heading = "CA in OpenBao or HashiCorp Vault (--ca openbao)")]
pub(crate) struct Options {
    /// Its address: https://HOST:PORT, or http for a loopback address.
    #[arg(long, value_name = "URL", required_if_eq("ca", "openbao"))]
    bao_address: Option<String>,
    /// SHA-256 of a key that its TLS certificate may have (its SubjectPublicKeyInfo). Repeatable. Without
    /// --bao-tls-roots the key alone tells who the server is.
    #[arg(long, value_name = "HEX")]
    bao_tls_pin: Vec<String>,
    /// The only roots that its TLS certificate is accepted from, PEM. Without these and --bao-tls-pin those of the system.
    #[arg(long, value_name = "FILE")]
    bao_tls_roots: Option<PathBuf>,
    /// Its namespace.
    #[arg(long, value_name = "NAME")]
    bao_namespace: Option<String>,
    /// Where its PKI engine is mounted.
    #[arg(long, value_name = "PATH", default_value = "pki")]
    bao_mount: String,
    /// Which issuer of the engine.
    #[arg(long, value_name = "NAME", default_value = "default")]
    bao_issuer: String,
    /// SHA-256 of the certificate that this issuer must have; without it the certificate is taken that the server has.
    #[arg(long, value_name = "HEX")]
    bao_ca_fingerprint: Option<String>,
    /// Sign by this role; by default sign-verbatim, which is for names and extensions that a role cannot give.
    #[arg(long, value_name = "ROLE")]
    bao_role: Option<String>,
    /// The file with the gateway's token in its first line.
    #[arg(long, value_name = "FILE", conflicts_with = "bao_role_id")]
    bao_token_file: Option<PathBuf>,
    /// Log in by AppRole instead: its role_id.
    #[arg(long, value_name = "ID", requires = "bao_secret_id_file")]
    bao_role_id: Option<String>,
    /// The file with its secret_id in the first line, read at each login.
    #[arg(long, value_name = "FILE", requires = "bao_role_id")]
    bao_secret_id_file: Option<PathBuf>,
    /// Where AppRole is mounted.
    #[arg(long, value_name = "PATH", default_value = "approle")]
    bao_approle_mount: String,
    /// The role that certifies the key which signs answers.
    #[arg(long, value_name = "ROLE", default_value = "scep-ra-signing")]
    bao_ra_signing_role: String,
    /// The role that certifies the key which requests are encrypted to.
    #[arg(long, value_name = "ROLE", default_value = "scep-ra-encryption")]
    bao_ra_encryption_role: String,
}

/// The RA's files, the name in the certificate, and the usage that the role gives.
const RA: [(&str, InfrastructurePurpose, &str, &str); 2] = [
    ("ra-sign", InfrastructurePurpose::RaSigning, "SCEP RA signing", "DigitalSignature"),
    ("ra-encrypt", InfrastructurePurpose::RaEncryption, "SCEP RA encryption", "KeyEncipherment"),
];

/// Asks the engine for its chain, looks for what is missing, and has the RA certified. Writes nothing.
pub(crate) fn prepare(options: &Options, now: Timestamp) -> Result<RemoteCa, GatewayError> {
    let provider: Arc<dyn CryptoProvider> = Arc::new(AwsLc);
    let raw = options.raw()?;
    let base = Path::new("");
    let settings = raw.settings(base)?;
    let runtime = crate::serve::runtime()?;
    let fetched = runtime.block_on(OpenBao::fetch_chain(settings, Arc::clone(&provider)));
    let chain = fetched.map_err(|error| options.no_chain(&error))?;
    options.same_ca(&chain)?;
    let section = options.section(&raw);
    let remote = Remote::new(raw, base, chain, &provider)?;
    runtime.block_on(options.complete(&remote.ca))?;
    let end = remote.chain.iter().map(CertificateDer::not_after).min();
    let life = end.map_or(RA_LIFE, |end| RA_LIFE.min(end.since(now)));
    let mut ra = Vec::new();
    for (file, purpose, name, usage) in RA {
        let key = SoftwareKey::generate(KeyAlgorithm::Rsa(2048))?;
        let subject =
            format!("CN={name}").parse().map_err(|e| GatewayError::config("RA name", e))?;
        let role = options.ra_role(&purpose);
        let certificate =
            remote.issue_ra(purpose.clone(), &key, &subject, life, now).map_err(|error| {
                let commands = vec![options.ra_role_command(role, usage)];
                GatewayError::OpenBao { why: format!("by role {role:?}: {error}"), commands }
            })?;
        ra.push((file, key, certificate));
    }
    let tls_roots = match &options.bao_tls_roots {
        Some(file) => Some((TLS_ROOTS, read_certificates(file)?)),
        None => None,
    };
    Ok(RemoteCa { chain: remote.chain, section, ra, tls_roots })
}

impl Options {
    /// What the configuration will say, with files where they are now.
    fn raw(&self) -> Result<RawOpenBao, GatewayError> {
        let missing = || GatewayError::config("--bao-address", "missing");
        let approle = match (&self.bao_role_id, &self.bao_secret_id_file) {
            (Some(role_id), Some(file)) => Some(RawAppRole {
                mount: Some(self.bao_approle_mount.clone()),
                role_id: role_id.clone(),
                secret_id_file: Some(absolute(file)?),
                secret_id_env: None,
            }),
            _ => None,
        };
        if approle.is_none() && self.bao_token_file.is_none() {
            let why = "or --bao-role-id with --bao-secret-id-file is needed";
            return Err(GatewayError::config("--bao-token-file", why));
        }
        Ok(RawOpenBao {
            address: self.bao_address.clone().ok_or_else(missing)?,
            certificate: "ca.cert.pem".into(),
            sign: if self.bao_role.is_some() { RawSign::Role } else { RawSign::Verbatim },
            role: self.bao_role.clone(),
            ra_signing_role: Some(self.bao_ra_signing_role.clone()),
            ra_encryption_role: Some(self.bao_ra_encryption_role.clone()),
            namespace: self.bao_namespace.clone(),
            mount: Some(self.bao_mount.clone()),
            issuer: Some(self.bao_issuer.clone()),
            token_file: self.bao_token_file.as_deref().map(absolute).transpose()?,
            token_env: None,
            approle,
            tls_roots: self.bao_tls_roots.as_deref().map(absolute).transpose()?,
            tls_pins: self.bao_tls_pin.clone(),
            timeout: None,
            retry_for: None,
            grace: None,
            max_listed: None,
        })
    }

    /// `[ca]`. Secrets stay in their files, which others replace; the roots are copied.
    fn section(&self, raw: &RawOpenBao) -> String {
        let mut text = String::from("[ca]\nkind = \"openbao\"\n");
        let mut line = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                // Writing to a String does not fail.
                let _ = writeln!(text, "{key} = {value}");
            }
        };
        let path = |path: &PathBuf| quoted(&path.to_string_lossy());
        let name = |name: &String| quoted(name);
        let list = |all: &[String]| {
            let all: Vec<String> = all.iter().map(|one| quoted(one)).collect();
            (!all.is_empty()).then(|| format!("[{}]", all.join(", ")))
        };
        line("address", Some(quoted(&raw.address)));
        line("tls_roots", raw.tls_roots.as_ref().map(|_| quoted(TLS_ROOTS)));
        line("tls_pins", list(&raw.tls_pins));
        line("certificate", Some(path(&raw.certificate)));
        line("namespace", raw.namespace.as_ref().map(name));
        line("mount", raw.mount.as_ref().map(name));
        line("issuer", raw.issuer.as_ref().map(name));
        let sign = if raw.role.is_some() { "role" } else { "verbatim" };
        line("sign", Some(quoted(sign)));
        line("role", raw.role.as_ref().map(name));
        line("ra_signing_role", raw.ra_signing_role.as_ref().map(name));
        line("ra_encryption_role", raw.ra_encryption_role.as_ref().map(name));
        line("token_file", raw.token_file.as_ref().map(path));
        let approle = raw.approle.as_ref().map(|approle| {
            format!(
                "{{ mount = {}, role_id = {}, secret_id_file = {} }}",
                quoted(approle.mount.as_deref().unwrap_or_default()),
                quoted(&approle.role_id),
                approle.secret_id_file.as_ref().map(path).unwrap_or_default()
            )
        });
        line("approle", approle);
        text
    }

    fn same_ca(&self, chain: &[CertificateDer]) -> Result<(), GatewayError> {
        let (Some(expected), Some(ca)) = (&self.bao_ca_fingerprint, chain.first()) else {
            return Ok(());
        };
        let expected = super::sha256("--bao-ca-fingerprint", expected)?;
        let found = ca.fingerprint();
        if *found.as_bytes() == expected {
            return Ok(());
        }
        let why = format!("the issuer's certificate has the fingerprint {found}");
        Err(GatewayError::config("--bao-ca-fingerprint", why))
    }

    /// Sees that the roles are there, and that the token may do all that the gateway does.
    async fn complete(&self, ca: &OpenBao) -> Result<(), GatewayError> {
        ca.connect().await?;
        let ra_roles = [self.bao_ra_signing_role.as_str(), &self.bao_ra_encryption_role];
        let needed = ca.rights(&ra_roles)?;
        let missing = ca.missing(needed.clone()).await?;
        if !missing.is_empty() {
            let list: Vec<String> = missing.iter().map(|right| right.path.clone()).collect();
            let why = format!("the token has no rights to {}", list.join(", "));
            let mut commands = vec![self.policy_command(&needed), self.grant_command()];
            // Whether they are there cannot be asked yet: to write them again changes nothing.
            commands.extend(self.ra_commands(|_| true));
            return Err(GatewayError::OpenBao { why, commands });
        }
        let mut unknown = Vec::new();
        for role in ra_roles.into_iter().chain(self.bao_role.as_deref()) {
            if !ca.knows_role(role).await? {
                unknown.push(role);
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let why = format!("the engine has no role {}", unknown.join(" and no role "));
        let mut commands = self.ra_commands(|role| unknown.contains(&role));
        if let Some(role) = self.bao_role.as_deref().filter(|role| unknown.contains(role)) {
            commands.push(self.role_command(role));
        }
        Err(GatewayError::OpenBao { why, commands })
    }

    /// That there is no chain to be had: perhaps there is no engine, or no CA in it.
    fn no_chain(&self, error: &CaError) -> GatewayError {
        let why = error.to_string();
        let absent = ["status 403", "status 404", "issuer"].iter().any(|sign| why.contains(sign));
        let Self { bao_mount: mount, .. } = self;
        let ns = self.namespace();
        let commands = if absent {
            vec![
                format!("bao secrets enable{ns} -path={mount} pki"),
                format!("bao secrets tune{ns} -max-lease-ttl=87600h {mount}"),
                format!(
                    "bao write{ns} {mount}/root/generate/internal common_name=\"Device CA\" \
                     ttl=87600h key_type=rsa key_bits=3072"
                ),
            ]
        } else {
            Vec::new()
        };
        GatewayError::OpenBao { why, commands }
    }

    fn namespace(&self) -> String {
        self.bao_namespace.as_ref().map_or(String::new(), |name| format!(" -namespace={name}"))
    }

    fn policy_command(&self, needed: &[scep_ca::Right]) -> String {
        let lines: Vec<String> = needed.iter().map(ToString::to_string).collect();
        let ns = self.namespace();
        format!("bao policy write{ns} {POLICY} - <<'EOF'\n{}\nEOF", lines.join("\n"))
    }

    /// Gives the policy to whom the gateway logs in as.
    fn grant_command(&self) -> String {
        let ns = self.namespace();
        match (&self.bao_token_file, &self.bao_role_id) {
            (Some(file), _) => format!(
                "bao token create{ns} -policy={POLICY} -orphan -period=72h -field=token > {}",
                file.display()
            ),
            (None, _) => format!(
                "bao write{ns} auth/{}/role/ROLE token_policies={POLICY}    # ROLE: the one of this \
                 role_id",
                self.bao_approle_mount
            ),
        }
    }

    fn ra_role(&self, purpose: &InfrastructurePurpose) -> &str {
        match purpose {
            InfrastructurePurpose::RaEncryption => &self.bao_ra_encryption_role,
            _ => &self.bao_ra_signing_role,
        }
    }

    fn ra_commands(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let roles = RA.iter().map(|(_, purpose, _, usage)| (self.ra_role(purpose), usage));
        roles
            .filter(|(role, _)| wanted(role))
            .map(|(role, usage)| self.ra_role_command(role, usage))
            .collect()
    }

    /// A role for one usage and no alternative names. Which subject is for the gateway to say: the engine compares
    /// commonNames with host names only.
    fn ra_role_command(&self, role: &str, usage: &str) -> String {
        format!(
            "bao write{} {}/roles/{role} cn_validations=disabled key_type=rsa key_bits=2048 \
             key_usage={usage} server_flag=false client_flag=false max_ttl={ROLE_LIFE}",
            self.namespace(),
            self.bao_mount
        )
    }

    /// A role for devices, to begin with: what its claims say besides is for its operator.
    fn role_command(&self, role: &str) -> String {
        format!(
            "bao write{} {}/roles/{role} allow_any_name=true enforce_hostnames=false \
             cn_validations=disabled key_type=any key_usage=DigitalSignature,KeyEncipherment \
             ext_key_usage=ClientAuth server_flag=false client_flag=false \
             allowed_other_sans=\"1.3.6.1.4.1.311.20.2.3;UTF8:*\" max_ttl=9552h",
            self.namespace(),
            self.bao_mount
        )
    }

    /// What is to be said after a folder is made.
    pub(crate) fn advice(&self, crl_url: Option<&str>) -> Vec<String> {
        let (ns, mount) = (self.namespace(), &self.bao_mount);
        let mut lines = vec![format!(
            "so that the CRL never ends: bao write{ns} {mount}/config/crl auto_rebuild=true"
        )];
        if let Some(url) = crl_url {
            lines.push(format!(
                "so that certificates name it: bao write{ns} {mount}/config/urls \
                 crl_distribution_points={url}"
            ));
        }
        lines
    }
}

fn absolute(path: &Path) -> Result<PathBuf, GatewayError> {
    std::path::absolute(path).map_err(GatewayError::file(path))
}
