//! `init` and `add-gateway`.

use crate::cli::{AddGatewayOptions, InitOptions};
use crate::config::{Raw, RawGroup};
use crate::error::IssuerError;
use scep_keys::{
    SoftwareKey, new_private_folder, public_key_pem, read_public_key, write_new_public,
};
use scep_types::{GatewayGroupId, KeyAlgorithm, TenantId};
use std::path::Path;

pub(crate) fn run(options: &InitOptions) -> Result<(), IssuerError> {
    let tenant = TenantId::new(&*options.tenant).map_err(|e| IssuerError::config("--tenant", e))?;
    let algorithm: KeyAlgorithm = options
        .key
        .parse()
        .map_err(|_| IssuerError::config("--key", "p256, rsa2048, rsa3072 or rsa4096"))?;
    let dir = &options.dir;
    new_private_folder(dir)?;
    let key = SoftwareKey::generate(algorithm)?;
    key.write_new(&dir.join("issuer.key.pem"))?;
    write_new_public(&dir.join("issuer.pub.pem"), &public_key_pem(key.public_key()))?;
    let raw = Raw {
        tenant: tenant.as_str().to_owned(),
        signing_key: "issuer.key.pem".into(),
        gateway_groups: Vec::new(),
        service: None,
    };
    let config = dir.join("issuer.toml");
    write_new_public(&config, &text(&raw)?)?;
    println!("made {}", dir.display());
    println!("give every gateway this file: {}", dir.join("issuer.pub.pem").display());
    println!(
        "then run: scep-issuer add-gateway --config {} --group GROUP --public-key challenge.pub.pem",
        config.display()
    );
    Ok(())
}

pub(crate) fn add_gateway(options: &AddGatewayOptions) -> Result<(), IssuerError> {
    let group =
        GatewayGroupId::new(&*options.group).map_err(|e| IssuerError::config("--group", e))?;
    let key = read_public_key(&options.public_key)?;
    let mut raw = Raw::read(&options.config)?;
    if raw.gateway_groups.iter().any(|known| known.id == group.as_str()) {
        return Err(IssuerError::config("--group", format!("{group} is there already")));
    }
    let base = options.config.parent().unwrap_or_else(|| Path::new("."));
    let name = format!("{group}.challenge.pub.pem");
    write_new_public(&base.join(&name), &public_key_pem(&key))?;
    raw.gateway_groups.push(RawGroup { id: group.as_str().to_owned(), public_key: name.into() });
    // Written beside and renamed, so that a crash leaves the old file or the new one.
    let next = base.join("issuer.toml.new");
    std::fs::write(&next, text(&raw)?).map_err(IssuerError::file(&next))?;
    std::fs::rename(&next, &options.config).map_err(IssuerError::file(&options.config))?;
    println!("challenges for {group} are encrypted to {} {}", key.algorithm(), key.key_id());
    Ok(())
}

fn text(raw: &Raw) -> Result<String, IssuerError> {
    let body = toml::to_string(raw).map_err(|error| IssuerError::Write(Box::new(error)))?;
    Ok(format!("# Every key is explained in issuer.example.toml.\n{body}"))
}
