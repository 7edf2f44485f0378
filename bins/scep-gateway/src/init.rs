//! `init`: a complete folder, every key its own, nothing overwritten.

use crate::cli::{CaKind, InitOptions};
use crate::error::GatewayError;
use crate::export::write_new_private;
use crate::template::{Issuer, NewConfig, site_rules};
use core::time::Duration;
use scep_ca::{InfrastructurePurpose, LocalCa, LocalCaSettings};
use scep_connector::{IssuerAddress, Proxy};
use scep_keys::{
    AwsLc, SoftwareKey, certificates_pem, new_private_folder, public_key_pem, read_public_key,
    write_new_public,
};
use scep_ledger::{Ledger, LedgerSettings};
use scep_policy::SiteRules;
use scep_server::{CrlSettings, OcspSettings, Preset, SystemClock};
use scep_types::{
    CertificateDer, Clock, CryptoProvider, DistinguishedName, GatewayGroupId, KeyAlgorithm, Secret,
    SpkiDer, TenantId, Timestamp,
};
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

const DAY: u64 = 86_400;
/// CA 10 years, RA 1 year, the issuer's key as pinned 5 years.
const CA_LIFE: Duration = Duration::from_secs(3650 * DAY);
const RA_LIFE: Duration = Duration::from_secs(365 * DAY);
const SIGNER_LIFE: Duration = Duration::from_secs(1826 * DAY);

/// What a new gateway is made from, all of it checked.
pub(crate) struct Plan {
    pub(crate) dir: PathBuf,
    pub(crate) tenant: TenantId,
    pub(crate) group: GatewayGroupId,
    pub(crate) issuer: KnownIssuer,
    pub(crate) suffixes: Vec<String>,
    pub(crate) listen: SocketAddr,
    pub(crate) admin_listen: SocketAddr,
    /// Where certificates say that the CRL is.
    pub(crate) crl_url: Option<String>,
    /// Where certificates say that OCSP is answered; without it, it is not.
    pub(crate) ocsp_url: Option<String>,
    pub(crate) ca_key: KeyAlgorithm,
    pub(crate) challenge_key: KeyAlgorithm,
    pub(crate) ca_name: DistinguishedName,
    /// Of the endpoint `/`.
    pub(crate) preset: &'static Preset,
    pub(crate) ra: NewRa,
}

/// The keys of a new RA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NewRa {
    /// One signs, another opens.
    Split,
    /// One for both.
    Combined,
}

/// A CA that is not here, and what it has given.
pub(crate) struct RemoteCa {
    /// The issuing CA first.
    pub(crate) chain: Vec<CertificateDer>,
    /// `[ca]` of the configuration.
    pub(crate) section: String,
    /// The RA's files, without endings.
    pub(crate) ra: Vec<(&'static str, SoftwareKey, CertificateDer)>,
    /// The roots of its TLS certificate, and their file.
    pub(crate) tls_roots: Option<(&'static str, Vec<CertificateDer>)>,
}

/// How a new gateway knows its issuer.
pub(crate) enum KnownIssuer {
    /// By its signing key.
    Key(SpkiDer),
    /// By the address of its service.
    Service {
        /// The address.
        address: IssuerAddress,
        /// The proxy to it.
        proxy: Option<String>,
    },
}

pub(crate) fn run(options: &InitOptions) -> Result<ExitCode, GatewayError> {
    let algorithm = |option: &str, text: &str| -> Result<KeyAlgorithm, GatewayError> {
        text.parse().map_err(|_| {
            GatewayError::config(option, "one of p256, p384, rsa2048, rsa3072, rsa4096")
        })
    };
    let public = options.public_url.as_deref();
    let plan = Plan {
        dir: options.dir.clone(),
        tenant: TenantId::new(&*options.tenant).map_err(|e| GatewayError::config("--tenant", e))?,
        group: GatewayGroupId::new(&*options.group)
            .map_err(|e| GatewayError::config("--group", e))?,
        issuer: issuer(options)?,
        suffixes: suffixes(&options.allow_suffix)?,
        listen: options.listen,
        admin_listen: options.admin_listen,
        crl_url: public.map(|url| below(url, CrlSettings::default().path)).transpose()?,
        ocsp_url: public
            .filter(|_| options.ocsp)
            .map(|url| below(url, OcspSettings::default().path))
            .transpose()?,
        ca_key: algorithm("--ca-key", &options.ca_key)?,
        challenge_key: algorithm("--challenge-key", &options.challenge_key)?,
        ca_name: options.ca_name.parse().map_err(|e| GatewayError::config("--ca-name", e))?,
        preset: crate::config::preset("--preset", &options.preset)?,
        ra: if options.combined_ra { NewRa::Combined } else { NewRa::Split },
    };
    let now = SystemClock.now();
    let remote = remote(options, now)?;
    let config = make_with(&plan, remote.as_ref(), now)?;
    println!("made {}", plan.dir.display());
    #[cfg(feature = "openbao")]
    if let CaKind::OpenBao = options.ca {
        for line in options.openbao.advice(plan.crl_url.as_deref()) {
            println!("{line}");
        }
    }
    let config = config.display();
    match &plan.issuer {
        KnownIssuer::Key(_) => {
            println!("give the issuer this file: {}", plan.dir.join("challenge.pub.pem").display());
            println!("then run: scep-gateway serve --config {config}");
        }
        KnownIssuer::Service { .. } => {
            println!("get a token and the issuer's fingerprint from the issuer's operator,");
            println!("then run: scep-gateway enroll --config {config} --issuer-fingerprint HEX");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The CA that is not here. Nothing is written before it has given what is needed.
#[cfg_attr(not(feature = "openbao"), allow(unused_variables, reason = "every CA is local then"))]
fn remote(options: &InitOptions, now: Timestamp) -> Result<Option<RemoteCa>, GatewayError> {
    match options.ca {
        CaKind::Local => Ok(None),
        #[cfg(feature = "openbao")]
        CaKind::OpenBao => {
            let filled = |mut entries: std::fs::ReadDir| entries.next().is_some();
            if std::fs::read_dir(&options.dir).is_ok_and(filled) {
                return Err(GatewayError::config("--dir", "has something in it"));
            }
            if options.combined_ra {
                let why = "OpenBao's roles give each RA certificate one usage; --combined-ra is for a CA here";
                return Err(GatewayError::config("--combined-ra", why));
            }
            if options.ocsp {
                return Err(GatewayError::config(
                    "--ocsp",
                    "needs the CA's key, which is not here",
                ));
            }
            crate::openbao::setup::prepare(&options.openbao, now).map(Some)
        }
    }
}

fn issuer(options: &InitOptions) -> Result<KnownIssuer, GatewayError> {
    match (&options.issuer, &options.issuer_key) {
        (Some(url), _) => {
            let address = IssuerAddress::parse(url)
                .map_err(|error| GatewayError::config("--issuer", error))?;
            if let Some(proxy) = &options.proxy {
                Proxy::parse(proxy).map_err(|error| GatewayError::config("--proxy", error))?;
            }
            Ok(KnownIssuer::Service { address, proxy: options.proxy.clone() })
        }
        (None, Some(key)) => Ok(KnownIssuer::Key(read_public_key(key)?)),
        (None, None) => Err(GatewayError::config("--issuer", "missing, and so is --issuer-key")),
    }
}

/// Where CRL or OCSP are, below a public URL. Only http: whoever checks an https certificate would need a CRL to get the
/// CRL (RFC 5280, 8).
fn below(public: &str, path: String) -> Result<String, GatewayError> {
    let wrong = |why: &str| GatewayError::config("--public-url", why);
    let rest = public.strip_prefix("http://").ok_or_else(|| wrong("must begin with http://"))?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/[]".contains(&b);
    if rest.starts_with(['/', ':']) || rest.is_empty() || !rest.bytes().all(plain) {
        return Err(wrong("must be http://HOST, with a port and path if need be"));
    }
    Ok(format!("{}{path}", public.trim_end_matches('/')))
}

/// The suffixes given, or asked for on a terminal. Without one nothing could be certified.
fn suffixes(given: &[String]) -> Result<Vec<String>, GatewayError> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(GatewayError::NoSuffix);
    }
    eprint!("Which name suffixes may be certified here (example.org, separated by blanks)? ");
    std::io::stderr().flush().map_err(GatewayError::file("standard error"))?;
    let mut line = String::new();
    stdin.read_line(&mut line).map_err(GatewayError::file("standard input"))?;
    let asked: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    if asked.is_empty() { Err(GatewayError::NoSuffix) } else { Ok(asked) }
}

/// Makes the folder and everything in it, with a CA of its own; returns the configuration's path.
pub(crate) fn make(plan: &Plan, now: Timestamp) -> Result<PathBuf, GatewayError> {
    make_with(plan, None, now)
}

fn make_with(
    plan: &Plan,
    remote: Option<&RemoteCa>,
    now: Timestamp,
) -> Result<PathBuf, GatewayError> {
    let dir = &plan.dir;
    let rules = site_rules(&plan.suffixes);
    // Before anything is written: a suffix with a typo must not leave half a folder.
    for suffix in &plan.suffixes {
        if SiteRules::from_toml(&site_rules(std::slice::from_ref(suffix))).is_err() {
            let why = format!("{suffix:?} is no domain like example.org or .example.org");
            return Err(GatewayError::config("--allow-suffix", why));
        }
    }
    SiteRules::from_toml(&rules).map_err(|e| GatewayError::config("--allow-suffix", e))?;
    new_private_folder(dir)?;
    match remote {
        None => make_ca(plan, now)?,
        Some(remote) => write_ca(dir, remote)?,
    }
    let issuer = match &plan.issuer {
        KnownIssuer::Key(issuer_key) => {
            let challenge = new_key(dir, "challenge.key.pem", plan.challenge_key)?;
            let public = public_key_pem(challenge.public_key());
            write_new_public(&dir.join("challenge.pub.pem"), &public)?;
            write_new_public(&dir.join("issuer.pub.pem"), &public_key_pem(issuer_key))?;
            Issuer::Key { from: now.minus(Duration::from_secs(DAY)), until: now.plus(SIGNER_LIFE) }
        }
        KnownIssuer::Service { address, proxy } => Issuer::Service {
            url: address.as_str(),
            proxy: proxy.as_deref(),
            challenge_key: plan.challenge_key.to_string(),
        },
    };
    write_new_public(&dir.join("site-rules.toml"), &rules)?;
    let config = NewConfig {
        tenant: plan.tenant.as_str(),
        group: plan.group.as_str(),
        listen: plan.listen,
        admin_listen: plan.admin_listen,
        crl_url: plan.crl_url.as_deref(),
        ocsp_url: plan.ocsp_url.as_deref(),
        issuer,
        remote_ca: remote.map(|remote| remote.section.as_str()),
        ra_files: match plan.ra {
            NewRa::Split => ["ra-sign", "ra-encrypt"],
            NewRa::Combined => ["ra", "ra"],
        },
        preset: plan.preset.name,
    };
    write_token(&dir.join("admin.token"))?;
    let path = dir.join("gateway.toml");
    write_new_public(&path, &config.to_toml())?;
    // Made here, so that `serve` can run as a user that may not make files beside the ledger's.
    drop(Ledger::open_sqlite(&dir.join("ledger.sqlite"), LedgerSettings::default())?);
    Ok(path)
}

/// A CA with a key of its own, and the RA that it certifies.
fn make_ca(plan: &Plan, now: Timestamp) -> Result<(), GatewayError> {
    let dir = &plan.dir;
    let provider: Arc<dyn CryptoProvider> = Arc::new(AwsLc);
    let ca_key = new_key(dir, "ca.key.pem", plan.ca_key)?;
    let root =
        LocalCa::self_signed_root(&*ca_key.signer(), &plan.ca_name, CA_LIFE, now, &*provider)?;
    write_new_public(&dir.join("ca.cert.pem"), &certificates_pem(std::slice::from_ref(&root)))?;
    let ca = LocalCa::new(
        ca_key.signer(),
        root,
        Vec::new(),
        LocalCaSettings {
            crl_urls: plan.crl_url.iter().cloned().collect(),
            ocsp_urls: plan.ocsp_url.iter().cloned().collect(),
            ..LocalCaSettings::default()
        },
        Arc::clone(&provider),
    )?;
    let of_ra = match plan.ra {
        NewRa::Split => vec![
            ("ra-sign", "CN=SCEP RA signing", InfrastructurePurpose::RaSigning),
            ("ra-encrypt", "CN=SCEP RA encryption", InfrastructurePurpose::RaEncryption),
        ],
        NewRa::Combined => vec![("ra", "CN=SCEP RA", InfrastructurePurpose::RaCombined)],
    };
    for (name, subject, purpose) in of_ra {
        let key = new_key(dir, &format!("{name}.key.pem"), KeyAlgorithm::Rsa(2048))?;
        let subject = subject.parse().map_err(|e| GatewayError::config("RA name", e))?;
        let certificate =
            ca.issue_infrastructure(purpose, key.public_key(), &subject, RA_LIFE, now)?;
        let text = certificates_pem(std::slice::from_ref(&certificate));
        write_new_public(&dir.join(format!("{name}.cert.pem")), &text)?;
    }
    Ok(())
}

/// What a CA that is not here has given.
fn write_ca(dir: &Path, remote: &RemoteCa) -> Result<(), GatewayError> {
    write_new_public(&dir.join("ca.cert.pem"), &certificates_pem(&remote.chain))?;
    if let Some((file, roots)) = &remote.tls_roots {
        write_new_public(&dir.join(file), &certificates_pem(roots))?;
    }
    for (name, key, certificate) in &remote.ra {
        key.write_new(&dir.join(format!("{name}.key.pem")))?;
        let text = certificates_pem(std::slice::from_ref(certificate));
        write_new_public(&dir.join(format!("{name}.cert.pem")), &text)?;
    }
    Ok(())
}

/// What operators' programs show: 256 random bits.
fn write_token(path: &Path) -> Result<(), GatewayError> {
    let mut random = Secret::new([0; 32]);
    AwsLc
        .random(random.expose_mut())
        .map_err(|error| GatewayError::config("admin_token", error))?;
    let digits = random.expose().iter().map(|octet| format!("{octet:02x}"));
    let text = Secret::new(digits.chain(core::iter::once("\n".to_owned())).collect::<String>());
    write_new_private(path, text.expose().as_bytes())
}

fn new_key(dir: &Path, name: &str, algorithm: KeyAlgorithm) -> Result<SoftwareKey, GatewayError> {
    let key = SoftwareKey::generate(algorithm)?;
    key.write_new(&dir.join(name))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crls_place_is_below_the_public_url() {
        for (public, url) in [
            ("http://pki.example.org", "http://pki.example.org/crl"),
            ("http://pki.example.org:8080/a/", "http://pki.example.org:8080/a/crl"),
        ] {
            assert_eq!(below(public, "/crl".into()).unwrap(), url);
        }
        for bad in
            ["https://pki.example.org", "pki.example.org", "http://", "http:///x", "http://a\"b"]
        {
            assert!(below(bad, "/crl".into()).is_err(), "{bad}");
        }
    }
}
