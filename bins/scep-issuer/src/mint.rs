//! `mint` and `lint`.

use crate::cli::{Format, KeyPlace, MintOptions};
use crate::config::Config;
use crate::error::IssuerError;
use scep_issuance::payload::{
    PayloadError, PayloadInput, WindowsKey, apple_mobileconfig, json, windows_syncml,
};
use scep_issuance::{Attributes, Minted, Minter, Profile};
use scep_keys::{AwsLc, read_certificates};
use scep_types::{Clock as _, DeviceId, UserId};
use std::path::Path;

pub(crate) fn run(options: &MintOptions) -> Result<(), IssuerError> {
    println!("{}", text(options)?);
    Ok(())
}

/// Mints one challenge; returns what is to be printed.
fn text(options: &MintOptions) -> Result<String, IssuerError> {
    let config = Config::load(&options.config)?;
    let (group, recipient) = config.group(options.group.as_deref())?;
    let profile = profile(&options.profile)?;
    let device = DeviceId::new(&*options.device).map_err(|e| IssuerError::config("--device", e))?;
    let user = options
        .user
        .as_deref()
        .map(UserId::new)
        .transpose()
        .map_err(|e| IssuerError::config("--user", e))?;
    let attributes = match &options.attributes_file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(IssuerError::file(path))?;
            Attributes::from_toml(&text)?
        }
        None => Attributes::from_pairs(options.attributes.iter().map(String::as_str))?,
    };
    let now = crate::clock::System.now();
    let minter =
        Minter::new(config.tenant.clone(), group.clone(), config.signer(now)?, recipient.clone())?;
    let minted = minter.mint(&profile, &device, user.as_ref(), &attributes, now, &AwsLc)?;
    for warning in profile.lint() {
        eprintln!("warning: {warning}");
    }
    rendered(options, minted)
}

/// The challenge in the form that was asked for.
fn rendered(options: &MintOptions, minted: Minted) -> Result<String, IssuerError> {
    if options.format == Format::Text {
        return Ok(minted.text);
    }
    let input = PayloadInput::new(options.urls.clone(), minted)
        .map_err(|error| IssuerError::config("--url", error))?
        .with_windows_key(match options.windows_key {
            KeyPlace::Tpm => WindowsKey::Tpm,
            KeyPlace::TpmIfPresent => WindowsKey::TpmIfPresent,
            KeyPlace::Software => WindowsKey::Software,
        });
    let input = match &options.ca_certificate {
        Some(path) => match read_certificates(path)?.as_slice() {
            [only] => input.with_ca_certificate(only.clone()),
            several => {
                let why = format!("{} has {} certificates, not one", path.display(), several.len());
                return Err(IssuerError::config("--ca-certificate", why));
            }
        },
        None => input,
    };
    let payload = match options.format {
        Format::Text | Format::Json => return Ok(json(&input).to_string()),
        Format::Mobileconfig => apple_mobileconfig(&input),
        Format::Syncml => windows_syncml(&input),
    };
    payload.map(|text| text.trim_end().to_owned()).map_err(|error| {
        let key = match error {
            PayloadError::UrlMissing { .. } | PayloadError::UrlSemicolon { .. } => "--url",
            PayloadError::CaMissing => "--ca-certificate",
            _ => "--format",
        };
        IssuerError::config(key, error)
    })
}

/// Prints what is questionable about a profile.
pub(crate) fn lint(path: &Path) -> Result<(), IssuerError> {
    let profile = profile(path)?;
    let variables: Vec<String> = profile.variables().iter().map(ToString::to_string).collect();
    println!("needs: {}", variables.join(", "));
    for warning in profile.lint() {
        println!("warning: {warning}");
    }
    Ok(())
}

pub(crate) fn profile(path: &Path) -> Result<Profile, IssuerError> {
    let text = std::fs::read_to_string(path).map_err(IssuerError::file(path))?;
    Profile::from_toml(&text).map_err(|source| IssuerError::Profile { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{AddGatewayOptions, Cli, Command, InitOptions};
    use clap::Parser;
    use scep_keys::SoftwareKey;
    use scep_types::KeyAlgorithm;

    const PROFILE: &str = "id = 'wifi'\nfor = 'device'\nsubject = 'CN={{DeviceName}}'\n\
        key_usage = ['digitalSignature']\nextended_key_usages = ['clientAuth']\n\
        key_algorithms = ['rsa2048']\nvalidity = '365d'\n";

    /// What `mint` with these arguments prints, for a new issuer.
    fn minted(more: &[&str]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("issuer");
        let init = InitOptions {
            dir: dir.clone(),
            tenant: "contoso".into(),
            key: "p256".into(),
            listen: None,
            public_name: Vec::new(),
            tls_certificate: None,
            tls_key: None,
            postgres: None,
            postgres_password_file: None,
        };
        crate::init::run(&init).unwrap();
        let gateway = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
        let public_key = folder.path().join("gateway.pub.pem");
        std::fs::write(&public_key, scep_keys::public_key_pem(gateway.public_key())).unwrap();
        let config = dir.join("issuer.toml");
        let group = "main".to_owned();
        let add = AddGatewayOptions { config: config.clone(), group, public_key };
        crate::init::add_gateway(&add).unwrap();
        let profile = folder.path().join("wifi.toml");
        std::fs::write(&profile, PROFILE).unwrap();

        let mut arguments = vec!["scep-issuer", "mint", "--device", "d1", "-a", "DeviceName=a&b"];
        let (config, profile) = (config.to_str().unwrap(), profile.to_str().unwrap());
        arguments.extend(["--config", config, "--profile", profile]);
        arguments.extend(more);
        match Cli::try_parse_from(arguments).map_err(|error| error.to_string())?.command {
            Command::Mint(options) => text(&options).map_err(|error| error.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_format_is_printed_and_what_it_lacks_is_named() {
        let url = ["--url", "https://scep.example.org/scep"];
        let with = |format: &[&str]| minted(&[format, &url].concat());
        let challenge = minted(&[]).unwrap();
        assert!(challenge.starts_with("MII"), "{challenge}");
        let json: serde_json::Value =
            serde_json::from_str(&minted(&["--format", "json"]).unwrap()).unwrap();
        assert_eq!(json["device"], "d1");
        let profile = with(&["--format", "mobileconfig"]).unwrap();
        assert!(profile.contains("<string>a&amp;b</string>"), "{profile}");
        let error = minted(&["--format", "mobileconfig"]).unwrap_err();
        assert!(error.starts_with("--url: "), "{error}");
        let error = with(&["--format", "syncml"]).unwrap_err();
        assert!(error.starts_with("--ca-certificate: "), "{error}");
        let error = minted(&["--format", "json", "--url", "scep.example.org"]).unwrap_err();
        assert!(error.starts_with("--url: "), "{error}");
        assert!(minted(&["--format", "yaml"]).is_err());
    }
}
