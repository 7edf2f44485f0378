//! `key rotate`, `key list`, `key retire`: the issuer's own signing and command keys.

use crate::admin::table;
use crate::cli::{KeyListOptions, KeyRetireOptions, KeyRotateOptions};
use crate::config::{Config, Key, KeyKind, Raw, RawKey, folder};
use crate::error::IssuerError;
use crate::{clock, tls};
use core::time::Duration;
use scep_keys::{KeyPlace, SoftwareKey, public_key_pem, write_new_public};
use scep_types::{Clock as _, KeyAlgorithm, Timestamp, parse_duration};
use serde_json::{Value, json};
use std::path::PathBuf;

/// How long a key is good for when nobody says otherwise.
pub(crate) const LIFE: Duration = Duration::from_secs(3_652 * 86_400);

/// Keys of one kind, at most: a gateway keeps no more.
const MOST: usize = 8;

/// The algorithm of a new key.
pub(crate) fn algorithm(text: &str) -> Result<KeyAlgorithm, IssuerError> {
    match text.parse() {
        Ok(algorithm @ (KeyAlgorithm::P256 | KeyAlgorithm::Rsa(2048..=4096))) => Ok(algorithm),
        _ => Err(IssuerError::config("--key", "p256, rsa2048, rsa3072 or rsa4096")),
    }
}

/// The list of a kind. A single `signing_key` becomes a list of one.
fn list_of(raw: &mut Raw, kind: KeyKind) -> &mut Vec<RawKey> {
    match kind {
        KeyKind::Command => &mut raw.command_keys,
        KeyKind::Signing => {
            if let Some(file) = raw.signing_key.take() {
                raw.signing_keys = vec![RawKey { file, not_before: None, not_after: None }];
            }
            &mut raw.signing_keys
        }
    }
}

fn keys_of(config: &Config, kind: KeyKind) -> &[Key] {
    match kind {
        KeyKind::Signing => &config.signing,
        KeyKind::Command => &config.command,
    }
}

fn time(option: &str, text: &str) -> Result<Duration, IssuerError> {
    parse_duration(text).map_err(|error| IssuerError::config(option, error))
}

/// Makes a new key, and has those before it end after the overlap.
pub(crate) fn rotate(options: &KeyRotateOptions) -> Result<(), IssuerError> {
    let overlap = time("--overlap", &options.overlap)?;
    let life = time("--life", &options.life)?;
    if life <= overlap {
        return Err(IssuerError::config("--life", "not longer than the overlap"));
    }
    let (kind, now) = (options.what, clock::System.now());
    let config = Config::load(&options.config)?;
    let mut raw = Raw::read(&options.config)?;
    if keys_of(&config, kind).len() >= MOST {
        let why =
            format!("there are {MOST} keys of this kind, and gateways keep no more: retire one");
        return Err(IssuerError::config("--what", why));
    }
    let present = keys_of(&config, kind).first().map(|key| &key.place);
    if let Some(KeyPlace::Token(uri)) = present {
        let why = format!(
            "{uri} is on a token, and this makes keys in files: make one on the token, name it first in the \
             configuration with not_before and not_after, and let the present one end after the overlap"
        );
        return Err(IssuerError::config("--what", why));
    }
    let key = SoftwareKey::generate(algorithm(&options.key)?)?;
    let id = key.public_key().key_id();
    let stem = match kind {
        KeyKind::Signing => format!("issuer-{id}"),
        KeyKind::Command => format!("command-{id}"),
    };
    let dir = folder(&options.config);
    let file = PathBuf::from(format!("{stem}.key.pem"));
    key.write_new(&dir.join(&file))?;
    let public = dir.join(format!("{stem}.pub.pem"));
    write_new_public(&public, &public_key_pem(key.public_key()))?;
    let list = list_of(&mut raw, kind);
    let end = now.plus(overlap);
    for (old, known) in list.iter_mut().zip(keys_of(&config, kind)) {
        if known.not_after > end {
            old.not_after = Some(end.to_string());
        }
    }
    let new = RawKey {
        file,
        not_before: Some(now.to_string()),
        not_after: Some(now.plus(life).to_string()),
    };
    list.insert(0, new);
    raw.replace(&options.config)?;
    println!("made {} key {id}; those before it end {end}", kind.name());
    println!("tell the service: send it SIGHUP, or start it anew");
    if kind == KeyKind::Signing {
        println!(
            "gateways that are not enrolled must be given {}: they refuse what it signs",
            public.display()
        );
    }
    Ok(())
}

/// As the configuration names it, without where the PIN is.
fn shown(key: &Key) -> String {
    match &key.place {
        KeyPlace::File(_) => key.file.display().to_string(),
        KeyPlace::Token(uri) => uri.to_string(),
    }
}

fn state(key: &Key, newest: bool, now: Timestamp) -> &'static str {
    if now < key.not_before {
        "not yet valid"
    } else if now > key.not_after {
        "expired"
    } else if newest {
        "newest"
    } else {
        "valid"
    }
}

/// Shows every key, and every certificate.
pub(crate) fn list(options: &KeyListOptions) -> Result<(), IssuerError> {
    let config = Config::load(&options.config)?;
    let now = clock::System.now();
    let days = |end: Timestamp| end.since(now).as_secs() / 86_400;
    let mut items: Vec<Value> = Vec::new();
    for kind in [KeyKind::Signing, KeyKind::Command] {
        for (at, key) in keys_of(&config, kind).iter().enumerate() {
            items.push(json!({
                "what": kind.name(),
                "id": key.id().to_string(),
                "algorithm": key.signer.public_key().algorithm().to_string(),
                "not_before": key.not_before.to_string(),
                "not_after": key.not_after.to_string(),
                "days_left": days(key.not_after),
                "state": state(key, at == 0, now),
                "file": shown(key),
            }));
        }
    }
    for (what, end) in tls::certificates(&config)? {
        let state = match tls::alarm(end, now) {
            None => "valid",
            Some(0) => "expired",
            Some(_) => "ends soon",
        };
        items.push(json!({
            "what": what,
            "not_after": end.to_string(),
            "days_left": days(end),
            "state": state,
        }));
    }
    let columns = [
        ("what", "what"),
        ("id", "id"),
        ("algorithm", "algorithm"),
        ("not before", "not_before"),
        ("not after", "not_after"),
        ("days left", "days_left"),
        ("state", "state"),
        ("file", "file"),
    ];
    table::list(options.output.form(), &items, &columns);
    Ok(())
}

/// Takes a key out of the configuration and destroys its file.
pub(crate) fn retire(options: &KeyRetireOptions) -> Result<(), IssuerError> {
    let config = Config::load(&options.config)?;
    let mut raw = Raw::read(&options.config)?;
    let now = clock::System.now();
    let matching: Vec<(KeyKind, usize, &Key)> = [KeyKind::Signing, KeyKind::Command]
        .into_iter()
        .flat_map(|kind| {
            keys_of(&config, kind).iter().enumerate().map(move |(at, key)| (kind, at, key))
        })
        .filter(|(_, _, key)| key.id().to_string().starts_with(&options.key_id))
        .collect();
    let &[(kind, at, key)] = matching.as_slice() else {
        let why = match matching.len() {
            0 => "no key's id begins so; scep-issuer key list shows them",
            _ => "several keys' ids begin so",
        };
        return Err(IssuerError::config("KEY-ID", why));
    };
    let another =
        keys_of(&config, kind).iter().enumerate().any(|(other, key)| other != at && key.valid(now));
    if !another {
        let why = format!("it is the only valid {} key; rotate first", kind.name());
        return Err(IssuerError::config("KEY-ID", why));
    }
    let list = list_of(&mut raw, kind);
    if at < list.len() {
        list.remove(at);
    }
    raw.replace(&options.config)?;
    println!("{} key {} is no longer in the configuration", kind.name(), key.id());
    match &key.place {
        KeyPlace::Token(uri) => println!("it is on its token still: destroy it there: {uri}"),
        KeyPlace::File(file) if options.keep_file => {
            println!("its file is still there: {}", file.display());
        }
        KeyPlace::File(file) => {
            std::fs::remove_file(file).map_err(IssuerError::file(file))?;
            println!("its file is gone: {}", file.display());
        }
    }
    println!("tell the service: send it SIGHUP, or start it anew");
    Ok(())
}
