//! `token-key`: makes a key on a token, and what others must know of it.

use crate::cli::{TokenKeyOptions, TokenKeyRole};
use crate::config::Config;
use crate::error::GatewayError;
use core::time::Duration;
use scep_ca::{InfrastructurePurpose, LocalCa};
use scep_keys::{
    AwsLc, Pkcs11Key, TokenKeyPurpose, TokenUri, certificates_pem, open_key, public_key_pem,
    write_new_public,
};
use scep_server::SystemClock;
use scep_types::{Clock, CryptoProvider, DistinguishedName, KeyAlgorithm};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

const DAY: u64 = 86_400;

pub(crate) fn run(options: &TokenKeyOptions) -> Result<ExitCode, GatewayError> {
    let wrong = |option: &str, why: &dyn core::fmt::Display| GatewayError::config(option, why);
    let uri =
        TokenUri::parse(&options.key, Path::new(".")).map_err(|error| wrong("--key", &error))?;
    let default = if options.role.is_ra() { "rsa2048" } else { "p256" };
    let algorithm: KeyAlgorithm = options
        .algorithm
        .as_deref()
        .unwrap_or(default)
        .parse()
        .map_err(|_| wrong("--algorithm", &"one of p256, p384, rsa2048, rsa3072, rsa4096"))?;
    if options.role.is_ra() && !matches!(algorithm, KeyAlgorithm::Rsa(_)) {
        return Err(wrong("--algorithm", &"SCEP clients need an RSA key here"));
    }
    // Before the key is made: what is missing must not leave one without a certificate.
    if options.out.exists() {
        return Err(wrong("--out", &format!("{} exists already", options.out.display())));
    }
    let name = |default: &str| -> Result<DistinguishedName, GatewayError> {
        options.name.as_deref().unwrap_or(default).parse().map_err(|e| wrong("--name", &e))
    };
    let provider: Arc<dyn CryptoProvider> = Arc::new(AwsLc);
    let days = |default: u32| {
        Duration::from_secs(u64::from(options.days.unwrap_or(default)).saturating_mul(DAY))
    };
    let now = SystemClock.now();
    let make = |purpose| {
        Pkcs11Key::generate(&uri, algorithm, purpose).map_err(scep_keys::OpenKeyError::from)
    };
    let text = match options.role {
        TokenKeyRole::Challenge => {
            let key = make(TokenKeyPurpose::Decryption)?;
            public_key_pem(key.public_key())
        }
        TokenKeyRole::Ocsp => {
            let key = make(TokenKeyPurpose::Signing)?;
            public_key_pem(key.public_key())
        }
        TokenKeyRole::Ca => {
            let (name, life) = (name("O=Sceptic, CN=Device CA")?, days(3_650));
            let key = make(TokenKeyPurpose::Signing)?;
            let signer = key.signer().map_err(scep_keys::OpenKeyError::from)?;
            let root = LocalCa::self_signed_root(&*signer, &name, life, now, &*provider)?;
            certificates_pem(std::slice::from_ref(&root))
        }
        TokenKeyRole::RaSigning | TokenKeyRole::RaEncryption | TokenKeyRole::Ra => {
            let config = options.config.as_deref();
            let config = config.ok_or_else(|| wrong("--config", &"needed: its CA certifies"))?;
            let ca = Config::ca_of(config, &options.ca, now, &provider)?;
            let (default, issue, purpose) = match options.role {
                TokenKeyRole::RaSigning => (
                    "CN=SCEP RA signing",
                    InfrastructurePurpose::RaSigning,
                    TokenKeyPurpose::Signing,
                ),
                TokenKeyRole::RaEncryption => (
                    "CN=SCEP RA encryption",
                    InfrastructurePurpose::RaEncryption,
                    TokenKeyPurpose::Decryption,
                ),
                _ => ("CN=SCEP RA", InfrastructurePurpose::RaCombined, TokenKeyPurpose::Both),
            };
            let (name, life) = (name(default)?, days(365));
            let key = make(purpose)?;
            let made = ca.issue_infrastructure(issue, key.public_key(), &name, life, now)?;
            certificates_pem(std::slice::from_ref(&made))
        }
    };
    write_new_public(&options.out, &text)?;
    // As the gateway will find it.
    let key = open_key(&scep_keys::KeyPlace::Token(uri))?;
    println!("made {} {} on the token", key.public_key().algorithm(), key.public_key().key_id());
    println!("wrote {}", options.out.display());
    Ok(ExitCode::SUCCESS)
}
