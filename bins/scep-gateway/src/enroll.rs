//! `enroll`: become known to the issuer, with a one-time token.

use crate::cli::EnrollOptions;
use crate::config::{Challenges, Config, LinkConfig};
use crate::error::GatewayError;
use scep_connector::{
    ConnectorError, EnrolOptions, Enrolled, IssuerAddress, KeySlot, KeyStore as _, Proxy,
};
use scep_keys::AwsLc;
use scep_link::{EnrolmentToken, LedgerKind, Membership};
use scep_server::SystemClock;
use scep_types::{Clock, CryptoProvider, GatewayName, KeyId, SpkiHash};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

pub(crate) fn run(options: &EnrollOptions) -> Result<ExitCode, GatewayError> {
    let provider: Arc<dyn CryptoProvider> = Arc::new(AwsLc);
    let config = Config::load(&options.config, SystemClock.now(), &provider)?;
    let link = link(&config, "enroll")?;
    let issuer = same_issuer(options.issuer.as_deref(), &link.settings.issuer)?;
    let fingerprint = fingerprint(&options.issuer_fingerprint)?;
    let gateway = name(options.name.as_deref())?;
    let proxy = match &options.proxy {
        Some(proxy) => Some(Proxy::parse(proxy).map_err(|e| GatewayError::config("--proxy", e))?),
        None => link.settings.proxy.clone(),
    };
    let token = token(options)?;
    if options.new_decryption_key {
        new_decryption_key(link)?;
    }
    let introduction = Introduction { issuer, proxy, fingerprint, token, gateway };
    let enrolling = introduce(&config, link, introduction, &*provider);
    let enrolled = crate::serve::runtime()?.block_on(enrolling)?;
    if enrolled.state.tenant != config.tenant {
        return Err(GatewayError::config(
            "tenant",
            format!(
                "the token is of tenant {}, and the configuration says {}: enrol again with a token of its tenant",
                enrolled.state.tenant, config.tenant
            ),
        ));
    }
    tell(&enrolled, link, options);
    Ok(ExitCode::SUCCESS)
}

/// With what a gateway comes to an issuer.
pub(crate) struct Introduction {
    pub(crate) issuer: IssuerAddress,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) fingerprint: SpkiHash,
    pub(crate) token: EnrolmentToken,
    pub(crate) gateway: GatewayName,
}

/// Makes or finds the keys, and enrols.
pub(crate) async fn introduce(
    config: &Config,
    link: &LinkConfig,
    with: Introduction,
    provider: &dyn CryptoProvider,
) -> Result<Enrolled, GatewayError> {
    link.keys.make()?;
    let ledger = crate::serve::open_ledger(config).await?;
    let enrol = EnrolOptions {
        issuer: with.issuer,
        proxy: with.proxy,
        issuer_fingerprint: with.fingerprint,
        token: with.token,
        gateway: with.gateway,
        group: config.group.clone(),
        decryption_key: decryption_key(link)?,
        ledger_kind: ledger_kind(config),
        software: link.settings.software.clone(),
    };
    let (state, keys) = (&link.state, &link.keys);
    Ok(scep_connector::enrol(enrol, state, keys, &ledger, provider, &SystemClock).await?)
}

/// What the configuration says of the issuer.
pub(crate) fn link<'a>(config: &'a Config, command: &str) -> Result<&'a LinkConfig, GatewayError> {
    match &config.challenges {
        Challenges::Issuer(link) => Ok(link),
        Challenges::Pinned(_) => Err(GatewayError::config(
            "connector",
            format!(
                "`{command}` needs a section [connector] with the issuer's address, which this configuration does not \
                 have; `init --issuer URL` writes one"
            ),
        )),
    }
}

const fn ledger_kind(config: &Config) -> LedgerKind {
    if config.ledger.is_shared() { LedgerKind::Shared } else { LedgerKind::Single }
}

/// The issuer of the configuration, which the command line may only repeat: what `serve` will talk to is the
/// configuration's.
fn same_issuer(
    given: Option<&str>,
    configured: &IssuerAddress,
) -> Result<IssuerAddress, GatewayError> {
    if let Some(given) = given {
        let given = IssuerAddress::parse(given).map_err(|e| GatewayError::config("--issuer", e))?;
        let plain = |address: &IssuerAddress| address.as_str().trim_end_matches('/').to_owned();
        if plain(&given) != plain(configured) {
            return Err(GatewayError::config(
                "--issuer",
                format!(
                    "{} is not the issuer of the configuration, {}: change `issuer` in [connector] first",
                    given.as_str(),
                    configured.as_str()
                ),
            ));
        }
    }
    Ok(configured.clone())
}

/// Hexadecimal, with or without colons.
fn fingerprint(text: &str) -> Result<SpkiHash, GatewayError> {
    let plain: String = text.chars().filter(|c| *c != ':').collect();
    SpkiHash::from_hex(&plain.to_ascii_lowercase()).ok_or_else(|| {
        GatewayError::config(
            "--issuer-fingerprint",
            "must be the SHA-256 of the issuer's TLS key: 64 hexadecimal digits",
        )
    })
}

fn name(given: Option<&str>) -> Result<GatewayName, GatewayError> {
    let wrong = |e: &dyn core::fmt::Display| GatewayError::config("--name", e);
    match given {
        Some(name) => GatewayName::new(name).map_err(|e| wrong(&e)),
        None => host_name()
            .and_then(|name| GatewayName::new(name).ok())
            .ok_or_else(|| wrong(&"this machine's name cannot be found or used: give one")),
    }
}

fn host_name() -> Option<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = kernel
        .or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok())?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// From the command line, a file, or standard input.
fn token(options: &EnrollOptions) -> Result<EnrolmentToken, GatewayError> {
    let text = match (&options.token, &options.token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(path)) => {
            std::fs::read_to_string(path).map_err(GatewayError::file(path.as_path()))?
        }
        (None, None) => {
            let stdin = std::io::stdin();
            if stdin.is_terminal() {
                eprint!("The token: ");
                std::io::stderr().flush().map_err(GatewayError::file("standard error"))?;
            }
            let mut line = String::new();
            stdin.read_line(&mut line).map_err(GatewayError::file("standard input"))?;
            line
        }
    };
    EnrolmentToken::new(text.trim()).map_err(|_| {
        GatewayError::config("--token", "a token is 32 to 128 letters, digits, - and _")
    })
}

/// The decryption key that is there: laid ready, or that of an earlier enrolment.
fn decryption_key(link: &LinkConfig) -> Result<Option<KeyId>, GatewayError> {
    if let Some(next) = link.keys.next()? {
        return Ok(Some(next));
    }
    let state = link.state.read()?;
    let present = state.and_then(|state| state.trust.decryption.into_iter().next());
    Ok(present.map(|present| present.key.key_id()))
}

/// Makes a decryption key for this enrolment, and the same one when it has to be repeated.
fn new_decryption_key(link: &LinkConfig) -> Result<(), GatewayError> {
    if link.keys.next()?.is_none() {
        let made = link.keys.generate(KeySlot::Decryption).map_err(ConnectorError::from)?;
        link.keys.set_next(made.public_key().key_id())?;
    }
    Ok(())
}

fn tell(enrolled: &Enrolled, link: &LinkConfig, options: &EnrollOptions) {
    let state = &enrolled.state;
    println!("enrolled with {}", link.settings.issuer.as_str());
    println!("  tenant      {}", state.tenant);
    println!("  group       {}", state.group);
    println!("  connector   {}", state.connector);
    println!("  key         {} (authentication)", state.authentication);
    if let Some(present) = state.trust.decryption.first() {
        println!("  key         {} (decryption)", present.key.key_id());
    }
    println!("  state       {}", link.state_path.display());
    match enrolled.membership {
        Membership::Confirmed => println!("  membership  confirmed"),
        Membership::AwaitingOperator => {
            println!("  membership  awaiting an operator");
            println!(
                "ask the issuer's operator to confirm connector {}; until then no challenge",
                state.connector
            );
            println!("is made for this gateway. It can be started before.");
        }
    }
    println!("then run: scep-gateway serve --config {}", options.config.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_tools_print_it() {
        let hash = SpkiHash::from_bytes([0xab; 32]);
        for text in ["ab".repeat(32), "AB".repeat(32), vec!["AB"; 32].join(":")] {
            assert_eq!(fingerprint(&text).unwrap(), hash);
        }
        for bad in ["", "ab", &"ab".repeat(33), &"xy".repeat(32)] {
            assert!(fingerprint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_only_repeats_the_configured_issuer() {
        let configured = IssuerAddress::parse("https://issuer.example.org/a").unwrap();
        for given in
            [None, Some("https://issuer.example.org/a"), Some("https://issuer.example.org/a/")]
        {
            assert_eq!(same_issuer(given, &configured).unwrap(), configured);
        }
        let error = same_issuer(Some("https://issuer.example.net/a"), &configured).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("issuer.example.net") && error.contains("issuer.example.org"),
            "{error}"
        );
        assert!(same_issuer(Some("http://issuer.example.org/a"), &configured).is_err());
    }
}
