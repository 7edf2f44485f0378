//! `mint` and `lint`.

use crate::cli::MintOptions;
use crate::config::Config;
use crate::error::IssuerError;
use scep_issuance::{Attributes, Minter, Profile};
use scep_keys::AwsLc;
use scep_types::{DeviceId, Timestamp, UserId};
use std::path::Path;

pub(crate) fn run(options: &MintOptions) -> Result<(), IssuerError> {
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
    let minter = Minter::new(
        config.tenant.clone(),
        group.clone(),
        config.signing_key.signer(),
        recipient.clone(),
    )?;
    let now = Timestamp::from(std::time::SystemTime::now());
    let minted = minter.mint(&profile, &device, user.as_ref(), &attributes, now, &AwsLc)?;
    for warning in profile.lint() {
        eprintln!("warning: {warning}");
    }
    if options.json {
        let claims = &minted.claims;
        let object = serde_json::json!({
            "challenge_id": claims.challenge_id.to_string(),
            "tenant": claims.tenant.as_str(),
            "gateway_group": claims.audience.as_str(),
            "profile": claims.profile.as_str(),
            "device": claims.device.as_str(),
            "issued_at": claims.issued_at.to_string(),
            "expires_at": claims.expires_at.to_string(),
            "subject": claims.expectation.subject.to_string(),
            "challenge": minted.text,
        });
        println!("{object}");
    } else {
        println!("{}", minted.text);
    }
    Ok(())
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

fn profile(path: &Path) -> Result<Profile, IssuerError> {
    let text = std::fs::read_to_string(path).map_err(IssuerError::file(path))?;
    Profile::from_toml(&text).map_err(|source| IssuerError::Profile { path: path.into(), source })
}
