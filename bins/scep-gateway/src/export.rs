//! `connector export` and `connector import`: the group's decryption key under a passphrase.
//!
//! The file is PEM with lines before the block (RFC 7468, 2) that say whose key it is, so that it can neither be mixed
//! up nor be imported where it does not belong:
//!
//! ```text
//! Sceptic gateway group key, version 1
//! tenant: contoso
//! group: main
//! ledger: 00112233445566778899aabbccddeeff
//! key: 00112233445566778899aabbccddeeff00112233
//! -----BEGIN ENCRYPTED PRIVATE KEY-----
//! ```

use crate::cli::{ExportOptions, ImportOptions};
use crate::config::{Config, LinkConfig};
use crate::enroll::link;
use crate::error::GatewayError;
use crate::keystore::sync_folder;
use pkcs8::pkcs5::{EncryptionScheme, pbes2};
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef, SecretDocument};
use scep_connector::{KeySlot, State};
use scep_keys::{AwsLc, Backend, SoftwareKey};
use scep_server::SystemClock;
use scep_types::{Clock, CryptoProvider, GatewayGroupId, KeyId, LedgerId, TenantId, Timestamp};
use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use zeroize::Zeroizing;

const FIRST_LINE: &str = "Sceptic gateway group key, version 1";
const LABEL: &str = "ENCRYPTED PRIVATE KEY";
/// A file of ours has 4 KiB; comments around it are allowed.
const MAX_FILE: u64 = 64 << 10;
/// Rounds of PBKDF2-HMAC-SHA256. OWASP asks for 600,000.
const ITERATIONS: u32 = 1_000_000;
/// What a file may cost at most: seconds, and the memory that scrypt asks for.
const MAX_ITERATIONS: u32 = 20_000_000;
const MAX_SCRYPT_OCTETS: u64 = 1 << 30;
/// The file may lie about for long, and whoever has it can try for as long as he likes.
const MIN_PASSPHRASE: usize = 12;

/// Whose key it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct About {
    tenant: TenantId,
    group: GatewayGroupId,
    ledger: LedgerId,
    key: KeyId,
}

pub(crate) fn export(options: &ExportOptions) -> Result<ExitCode, GatewayError> {
    let config = load(&options.config)?;
    let link = link(&config, "connector export")?;
    let state = link
        .state
        .read()?
        .ok_or_else(|| GatewayError::NotEnrolled { state: link.state_path.clone() })?;
    let present = state.trust.decryption.first().map(|present| present.key.key_id());
    let id = present.ok_or_else(|| {
        GatewayError::config("connector.state", "has no decryption key: enrol again")
    })?;
    let key =
        link.keys.read(KeySlot::Decryption, id).map_err(scep_connector::ConnectorError::from)?;
    let about = About { tenant: state.tenant, group: state.group, ledger: state.ledger, key: id };
    let passphrase = passphrase(options.passphrase_file.as_deref(), Ask::Twice)?;
    let text = seal(&about, &key, &passphrase, &AwsLc).map_err(exchange(&options.out))?;
    write_new_private(&options.out, text.as_bytes())?;
    println!("wrote the decryption key {id} of group {} to {}", about.group, options.out.display());
    println!("on each other gateway of the group, before it enrols:");
    println!(
        "  scep-gateway connector import --config gateway.toml --in {}",
        options.out.display()
    );
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn import(options: &ImportOptions) -> Result<ExitCode, GatewayError> {
    let config = load(&options.config)?;
    let link = link(&config, "connector import")?;
    let text = read(&options.input)?;
    let (about, block) = parse(&text).map_err(exchange(&options.input))?;
    belongs(&about, &config).map_err(exchange(&options.input))?;
    let enrolled = present(&about, link, options.replace).map_err(exchange(&options.input))?;
    let ledger = match enrolled {
        // A gateway that runs has its ledger to itself.
        Some(state) => state.ledger,
        None => crate::serve::runtime()?.block_on(async {
            Ok::<_, GatewayError>(crate::serve::open_ledger(&config).await?.id())
        })?,
    };
    if ledger != about.ledger {
        let why = format!(
            "is for ledger {}, and this gateway's is {ledger}: the gateways of a group share one ledger",
            about.ledger
        );
        return Err(exchange(&options.input)(why));
    }
    let passphrase = passphrase(options.passphrase_file.as_deref(), Ask::Once)?;
    let key = open(&about, block, &passphrase).map_err(exchange(&options.input))?;
    link.keys.make()?;
    let path = link.keys.path(KeySlot::Decryption, about.key);
    if !path.exists() {
        key.write_new(&path)?;
    }
    link.keys.set_next(about.key)?;
    println!("took the decryption key {} of group {}", about.key, about.group);
    let config = options.config.display();
    if options.replace {
        println!(
            "then start the gateway anew, and at the issuer: scep-issuer gateway renew --what decryption ID"
        );
    } else {
        println!("then run: scep-gateway enroll --config {config} --issuer-fingerprint HEX");
    }
    Ok(ExitCode::SUCCESS)
}

fn load(path: &Path) -> Result<Config, GatewayError> {
    let provider: Arc<dyn CryptoProvider> = Arc::new(AwsLc);
    let now: Timestamp = SystemClock.now();
    Config::load(path, now, &provider)
}

fn exchange<E: ToString>(path: &Path) -> impl Fn(E) -> GatewayError {
    move |why| GatewayError::Exchange { path: path.to_path_buf(), why: why.to_string() }
}

/// Whether the file is for this gateway's tenant and group.
fn belongs(about: &About, config: &Config) -> Result<(), String> {
    if (&about.tenant, &about.group) == (&config.tenant, &config.group) {
        return Ok(());
    }
    Err(format!(
        "is for group {} of tenant {}, and this gateway is of group {} of tenant {}",
        about.group, about.tenant, config.group, config.tenant
    ))
}

/// Refuses where the gateway has another key already, unless that is to be replaced. Gives the state of one that is
/// enrolled.
fn present(about: &About, link: &LinkConfig, replace: bool) -> Result<Option<State>, String> {
    let state = link.state.read().map_err(|error| error.to_string())?;
    let next = link.keys.next().map_err(|error| error.to_string())?;
    let present = state.as_ref().and_then(|state| state.trust.decryption.first());
    let present = present.map(|present| present.key.key_id());
    match present.or(next) {
        Some(there) if there != about.key && !replace => Err(format!(
            "is key {}, and this gateway has {there}; --replace takes the new key of a group whose key was replaced",
            about.key
        )),
        _ => Ok(state),
    }
}

/// The file's text.
fn seal(
    about: &About,
    key: &SoftwareKey,
    passphrase: &str,
    provider: &dyn CryptoProvider,
) -> Result<Zeroizing<String>, String> {
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    for octets in [&mut salt, &mut iv] {
        provider.random(octets).map_err(|error| error.to_string())?;
    }
    let parameters = pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(ITERATIONS, &salt, iv)
        .map_err(|error| error.to_string())?;
    let der = key.to_pkcs8_der().map_err(|error| error.to_string())?;
    let info =
        PrivateKeyInfoRef::try_from(der.expose().as_slice()).map_err(|error| error.to_string())?;
    let sealed =
        info.encrypt_with_params(parameters, passphrase).map_err(|error| error.to_string())?;
    let block = sealed.to_pem(LABEL, LineEnding::LF).map_err(|error| error.to_string())?;
    let About { tenant, group, ledger, key } = about;
    Ok(Zeroizing::new(format!(
        "{FIRST_LINE}\ntenant: {tenant}\ngroup: {group}\nledger: {ledger}\nkey: {key}\n{}",
        block.as_str()
    )))
}

/// Whose key a file has, and its PEM block.
fn parse(text: &str) -> Result<(About, &str), String> {
    let damaged = |what: &str| format!("is no exported group key: {what}");
    let start = text.find("-----BEGIN ").ok_or_else(|| damaged("it has no PEM block"))?;
    let (head, block) = text.split_at(start);
    let mut lines = head.lines();
    if lines.next() != Some(FIRST_LINE) {
        return Err(damaged("its first line is another"));
    }
    let mut value = |name: &str| {
        let line = lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.ok_or_else(|| damaged(&format!("the line `{name}` is missing")))
    };
    let about = About {
        tenant: TenantId::new(value("tenant")?).map_err(|error| damaged(&error.to_string()))?,
        group: GatewayGroupId::new(value("group")?).map_err(|error| damaged(&error.to_string()))?,
        ledger: LedgerId::from_hex(value("ledger")?).ok_or_else(|| damaged("its ledger's id"))?,
        key: KeyId::from_hex(value("key")?).ok_or_else(|| damaged("its key's id"))?,
    };
    match lines.next() {
        None => Ok((about, block)),
        Some(_) => Err(damaged("it has a line too many")),
    }
}

/// The key, once the passphrase opens it and it is the one that the file says.
fn open(about: &About, block: &str, passphrase: &str) -> Result<SoftwareKey, String> {
    let (label, sealed) =
        SecretDocument::from_pem(block.trim_end()).map_err(|_| "its PEM block is damaged")?;
    if label != LABEL {
        return Err(format!("its PEM block is \"{label}\", not \"{LABEL}\""));
    }
    let info = EncryptedPrivateKeyInfoRef::try_from(sealed.as_bytes())
        .map_err(|_| "its PEM block is damaged, or encrypted in a way that is not known here")?;
    bearable(&info.encryption_algorithm)?;
    let wrong = "the passphrase is another, or the file is damaged";
    let plain = info.decrypt(passphrase).map_err(|_| wrong)?;
    let key = SoftwareKey::from_pkcs8_der(plain.as_bytes(), Backend::AwsLc).map_err(|_| wrong)?;
    if key.public_key().key_id() == about.key {
        Ok(key)
    } else {
        Err(format!("holds key {}, and says that it is {}", key.public_key().key_id(), about.key))
    }
}

/// Refuses what would take minutes or all the memory.
fn bearable(scheme: &EncryptionScheme) -> Result<(), String> {
    let Some(parameters) = scheme.pbes2() else {
        return Err("is not encrypted by PBES2".into());
    };
    let bearable = match &parameters.kdf {
        pbes2::Kdf::Pbkdf2(kdf) => kdf.iteration_count <= MAX_ITERATIONS,
        pbes2::Kdf::Scrypt(kdf) => {
            let octets = u64::from(kdf.block_size).saturating_mul(kdf.cost_parameter);
            octets.saturating_mul(128) <= MAX_SCRYPT_OCTETS && kdf.parallelization <= 16
        }
        _ => false,
    };
    if bearable { Ok(()) } else { Err("its key derivation costs more than any of ours".into()) }
}

fn read(path: &Path) -> Result<String, GatewayError> {
    let length = std::fs::metadata(path).map_err(GatewayError::file(path))?.len();
    if length > MAX_FILE {
        return Err(exchange(path)("is too long for an exported group key"));
    }
    std::fs::read_to_string(path).map_err(GatewayError::file(path))
}

/// A new file for its owner alone, durable when this returns.
pub(crate) fn write_new_private(path: &Path, octets: &[u8]) -> Result<(), GatewayError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let written = options.open(path).and_then(|mut file| {
        file.write_all(octets)?;
        file.sync_all()?;
        sync_folder(path.parent().unwrap_or_else(|| Path::new(".")))
    });
    written.map_err(GatewayError::file(path))
}

/// How often a passphrase is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Once,
    /// A new one: a typing error would lose the key.
    Twice,
}

fn passphrase(file: Option<&Path>, ask: Ask) -> Result<Zeroizing<String>, GatewayError> {
    let passphrase = match file {
        Some(path) => {
            let text =
                Zeroizing::new(std::fs::read_to_string(path).map_err(GatewayError::file(path))?);
            Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())
        }
        None => asked(ask)?,
    };
    if ask == Ask::Twice && passphrase.chars().count() < MIN_PASSPHRASE {
        return Err(GatewayError::config(
            "passphrase",
            format!("must have {MIN_PASSPHRASE} characters or more"),
        ));
    }
    Ok(passphrase)
}

fn asked(ask: Ask) -> Result<Zeroizing<String>, GatewayError> {
    if !std::io::stdin().is_terminal() {
        return Err(GatewayError::config(
            "--passphrase-file",
            "missing, and there is no terminal to ask on",
        ));
    }
    let first = hidden("Passphrase: ")?;
    if ask == Ask::Twice && *hidden("The same again: ")? != *first {
        return Err(GatewayError::config("passphrase", "was not the same twice"));
    }
    Ok(first)
}

/// One line of the terminal, not shown while it is typed where the system has `stty`.
fn hidden(prompt: &str) -> Result<Zeroizing<String>, GatewayError> {
    let echo = |word: &str| {
        let done = Command::new("stty").arg(word).stdin(Stdio::inherit()).status();
        done.is_ok_and(|status| status.success())
    };
    eprint!("{prompt}");
    std::io::stderr().flush().map_err(GatewayError::file("standard error"))?;
    let hidden = echo("-echo");
    let mut line = Zeroizing::new(String::new());
    let read = std::io::stdin().read_line(&mut line);
    if hidden {
        echo("echo");
        eprintln!();
    }
    read.map_err(GatewayError::file("standard input"))?;
    Ok(Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use scep_types::KeyAlgorithm;

    const PASSPHRASE: &str = "correct horse battery";

    fn about(key: &SoftwareKey) -> About {
        About {
            tenant: TenantId::new("contoso").unwrap(),
            group: GatewayGroupId::new("main").unwrap(),
            ledger: LedgerId::from_bytes([7; 16]),
            key: key.public_key().key_id(),
        }
    }

    fn exported() -> (SoftwareKey, About, String) {
        let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
        let about = about(&key);
        let text = seal(&about, &key, PASSPHRASE, &AwsLc).unwrap().to_string();
        (key, about, text)
    }

    #[test]
    fn an_exported_key_opens_under_its_passphrase_alone() {
        let (key, about, text) = exported();
        let (said, block) = parse(&text).unwrap();
        assert_eq!(said, about);
        let opened = open(&said, block, PASSPHRASE).unwrap();
        assert_eq!(opened.public_key(), key.public_key());
        assert!(open(&said, block, "Correct horse battery").unwrap_err().contains("passphrase"));
        // Another key's id in the head: what was decrypted is not what the file says.
        let other = About { key: KeyId::from_bytes([1; 20]), ..about };
        assert!(open(&other, block, PASSPHRASE).unwrap_err().contains("says that it is"));
        // Another salt for each export.
        assert_ne!(seal(&said, &key, PASSPHRASE, &AwsLc).unwrap().as_str(), text);
    }

    #[test]
    fn openssl_reads_it_and_writes_what_we_read() {
        let test = "openssl_reads_it_and_writes_what_we_read";
        if !scep_testkit::programs::available("openssl", test) {
            return;
        }
        let (key, about, text) = exported();
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (sealed, word) = (file("main.key", &text), file("word", PASSPHRASE));
        let openssl = |words: &[&str], input: &Path| {
            let mut openssl = Command::new("openssl");
            openssl.args(words).arg("-in").arg(input);
            let side = if words.contains(&"-topk8") { "-passout" } else { "-passin" };
            openssl.arg(side).arg(format!("file:{}", word.display()));
            let output = openssl.output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let public = openssl(&["pkey", "-pubout"], &sealed);
        assert_eq!(public, scep_keys::public_key_pem(key.public_key()));
        // And back, in both of its ways to derive a key.
        let plain = file("plain.key", &openssl(&["pkey"], &sealed));
        for more in [&["-iter", "700000"][..], &["-scrypt"]] {
            let words: Vec<&str> =
                ["pkcs8", "-topk8", "-v2", "aes-256-cbc"].iter().chain(more).copied().collect();
            let block = openssl(&words, &plain);
            let opened = open(&about, &block, PASSPHRASE).unwrap();
            assert_eq!(opened.public_key(), key.public_key());
        }
    }

    #[test]
    fn a_head_that_is_not_ours_is_refused() {
        let (_, _, text) = exported();
        for (find, replace) in [
            ("version 1", "version 2"),
            ("tenant: contoso\n", ""),
            ("group: ", "gruppe: "),
            ("ledger: 07", "ledger: x7"),
            ("-----BEGIN", "more: 1\n-----BEGIN"),
            ("-----BEGIN ENCRYPTED", "ENCRYPTED"),
        ] {
            let changed = text.replacen(find, replace, 1);
            assert_ne!(changed, text, "{find}");
            assert!(parse(&changed).is_err(), "{find}");
        }
    }

    #[test]
    fn what_costs_too_much_is_refused_before_it_is_tried() {
        let pbkdf2 = |rounds| {
            pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(rounds, &[1; 16], [2; 16]).unwrap()
        };
        bearable(&pbkdf2(MAX_ITERATIONS).into()).unwrap();
        assert!(bearable(&pbkdf2(MAX_ITERATIONS + 1).into()).is_err());
    }
}
