//! `init` and `add-gateway`.

use crate::cli::{AddGatewayOptions, InitOptions};
use crate::config::{Raw, RawConnectors, RawGroup, RawKey, RawService, folder};
use crate::error::IssuerError;
use crate::{clock, keys, tls};
use scep_keys::{
    SoftwareKey, new_private_folder, public_key_pem, read_public_key, write_new_public,
};
use scep_types::{Clock as _, GatewayGroupId, KeyAlgorithm, TenantId};
use std::net::SocketAddr;
use std::path::Path;

pub(crate) fn run(options: &InitOptions) -> Result<(), IssuerError> {
    let tenant = TenantId::new(&*options.tenant).map_err(|e| IssuerError::config("--tenant", e))?;
    let algorithm = keys::algorithm(&options.key)?;
    let names = options.listen.map(|listen| names(listen, &options.public_name)).transpose()?;
    let dir = &options.dir;
    new_private_folder(dir)?;
    let key = SoftwareKey::generate(algorithm)?;
    key.write_new(&dir.join("issuer.key.pem"))?;
    write_new_public(&dir.join("issuer.pub.pem"), &public_key_pem(key.public_key()))?;
    let mut raw = Raw {
        tenant: tenant.as_str().to_owned(),
        signing_key: None,
        signing_keys: Vec::new(),
        command_keys: Vec::new(),
        gateway_groups: Vec::new(),
        service: None,
        connectors: None,
        upkeep: None,
    };
    let config = dir.join("issuer.toml");
    match (options.listen, names) {
        (Some(listen), Some(names)) => {
            service(&mut raw, options, listen, names)?;
            write_new_public(&config, &raw.text()?)?;
            tell_service(&config)
        }
        _ => {
            raw.signing_key = Some("issuer.key.pem".into());
            write_new_public(&config, &raw.text()?)?;
            println!("made {}", dir.display());
            println!("give every gateway this file: {}", dir.join("issuer.pub.pem").display());
            println!(
                "then run: scep-issuer add-gateway --config {} --group GROUP --public-key challenge.pub.pem",
                config.display()
            );
            Ok(())
        }
    }
}

/// What the TLS certificate is to say: the names that were given, or where it listens.
fn names(listen: SocketAddr, given: &[String]) -> Result<Vec<String>, IssuerError> {
    if !given.is_empty() {
        crate::config::OwnTls::alt_names(given)
            .map_err(|error| IssuerError::config("--public-name", error))?;
        return Ok(given.to_vec());
    }
    let address = listen.ip();
    if address.is_unspecified() {
        let why = "needed: by which names or addresses gateways and administrators will reach it";
        return Err(IssuerError::config("--public-name", why));
    }
    let mut names = vec![address.to_string()];
    if address.is_loopback() {
        names.push("localhost".to_owned());
    }
    Ok(names)
}

/// Everything that a service needs.
fn service(
    raw: &mut Raw,
    options: &InitOptions,
    listen: SocketAddr,
    names: Vec<String>,
) -> Result<(), IssuerError> {
    let (dir, now) = (&options.dir, clock::System.now());
    let valid = |file: &str| RawKey {
        file: file.into(),
        not_before: Some(now.to_string()),
        not_after: Some(now.plus(keys::LIFE).to_string()),
    };
    raw.signing_keys = vec![valid("issuer.key.pem")];
    SoftwareKey::generate(KeyAlgorithm::P256)?.write_new(&dir.join("command.key.pem"))?;
    raw.command_keys = vec![valid("command.key.pem")];
    let connector_ca = ("connector-ca.pem", "connector-ca.key.pem");
    tls::make_ca(dir, connector_ca, &format!("{} connector CA", raw.tenant), now)?;
    let own = match (&options.tls_certificate, &options.tls_key) {
        (Some(_), Some(_)) => None,
        _ => Some(tls::make(dir, &raw.tenant, names, now)?),
    };
    let absolute = |path: &Path| std::path::absolute(path).map_err(IssuerError::file(path));
    let file = |given: &Option<std::path::PathBuf>, or: &str| match given {
        Some(path) => absolute(path),
        None => Ok(or.into()),
    };
    raw.service = Some(RawService {
        listen,
        database: options.postgres.is_none().then(|| "issuer.db".into()),
        postgres: options.postgres.clone(),
        postgres_password_file: options
            .postgres_password_file
            .as_deref()
            .map(absolute)
            .transpose()?,
        postgres_schema: None,
        tls: None,
        tls_certificate: Some(file(&options.tls_certificate, tls::CHAIN)?),
        tls_key: Some(file(&options.tls_key, tls::KEY)?),
        tls_ca_certificate: own.is_some().then(|| tls::CA.into()),
        tls_ca_key: own.is_some().then(|| tls::CA_KEY.into()),
        tls_names: own.map(|own| own.names).unwrap_or_default(),
    });
    raw.connectors = Some(RawConnectors {
        ca_certificate: connector_ca.0.into(),
        ca_key: connector_ca.1.into(),
        next_tls_pins: Vec::new(),
    });
    Ok(())
}

/// What comes next.
fn tell_service(path: &Path) -> Result<(), IssuerError> {
    // Read as `serve` will read it: a folder that it would refuse is not handed over.
    let config = crate::config::Config::load(path)?;
    let service = config.service()?;
    println!("made {}", folder(path).display());
    if let Some(pin) = service.tls_pin()? {
        println!("TLS fingerprint, which gateways and administrators pin: {pin}");
    }
    if let crate::config::Encryption::Tls { own: Some(own), .. } = &service.encryption {
        let shown = own.ca_certificate.display();
        println!("other clients are given this certificate to trust: {shown}");
    }
    let shown = path.display();
    println!("then run: scep-issuer token create --config {shown} --scope admin");
    println!("and:      scep-issuer serve --config {shown}");
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
    let name = format!("{group}.challenge.pub.pem");
    write_new_public(&folder(&options.config).join(&name), &public_key_pem(&key))?;
    raw.gateway_groups.push(RawGroup { id: group.as_str().to_owned(), public_key: name.into() });
    raw.replace(&options.config)?;
    println!("challenges for {group} are encrypted to {} {}", key.algorithm(), key.key_id());
    Ok(())
}
