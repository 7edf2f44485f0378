//! `ca prepare` and `ca announce`: what a CA's successor needs before it takes over.
//!
//! A roll-over adds a CA and changes none: the present one goes on to issue until an endpoint names the other, and keeps
//! its CRL, its OCSP and the revocation of what it has issued.

use crate::cli::{AnnounceOptions, CaCommand, PrepareOptions};
use crate::config::Present;
use crate::error::GatewayError;
use crate::renewal::one_certificate;
use crate::template::{NextAuthority, NextOcsp, quoted};
use core::time::Duration;
use scep_ca::{CertificateAuthority, InfrastructurePurpose, LocalCa, LocalCaSettings};
use scep_keys::{
    AwsLc, KeyPlace, OpenKeyError, Pkcs11Key, PrivateKey, SoftwareKey, TokenKeyPurpose,
    certificates_pem, new_private_folder, open_key, read_certificates, write_new_public,
};
use scep_server::{CrlSettings, OcspSettings, SystemClock};
use scep_types::tlv::{Reader, tag};
use scep_types::{
    AuthorityName, CertificateDer, Clock, CryptoProvider, DistinguishedName, KeyAlgorithm,
    ObjectIdentifier, StringRules, Timestamp,
};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

const DAY: u64 = 86_400;
const RA_LIFE: Duration = Duration::from_secs(365 * DAY);
/// The file with what GetNextCACert answers.
const ANSWER: &str = "next-ca.der";

pub(crate) fn run(command: &CaCommand) -> Result<ExitCode, GatewayError> {
    match command {
        CaCommand::Prepare(options) => prepare(options, SystemClock.now()),
        CaCommand::Announce(options) => announce(options, SystemClock.now()),
    }
}

/// A key that was made or found, and how the configuration names it.
struct Made {
    key: PrivateKey,
    place: String,
    /// The file to write it to, where it is in memory.
    file: Option<PathBuf>,
}

impl Made {
    /// A new one: on the token that `uri` names, or for a file of the folder.
    fn new(
        (option, uri): (&str, Option<&str>),
        (folder, file): (&Folder, &str),
        algorithm: KeyAlgorithm,
        purpose: TokenKeyPurpose,
    ) -> Result<Self, GatewayError> {
        let Some(uri) = uri else {
            let key = SoftwareKey::generate(algorithm)?.into();
            let (place, file) = (folder.relative(file), Some(folder.path.join(file)));
            return Ok(Self { key, place, file });
        };
        let wrong = |why: &dyn core::fmt::Display| GatewayError::config(option, why);
        match KeyPlace::parse(&folder.base, uri).map_err(|error| wrong(&error))? {
            KeyPlace::File(_) => Err(wrong(&"a new key in a file is made without this option")),
            KeyPlace::Token(token) => {
                let made = Pkcs11Key::generate(&token, algorithm, purpose);
                made.map_err(OpenKeyError::from)?;
                // As the gateway will find it.
                let key = open_key(&KeyPlace::Token(token))?;
                Ok(Self { key, place: uri.to_owned(), file: None })
            }
        }
    }

    fn write(&self) -> Result<(), GatewayError> {
        match (&self.key, &self.file) {
            (PrivateKey::Software(key), Some(file)) => Ok(key.write_new(file)?),
            _ => Ok(()),
        }
    }
}

/// Where the next CA's files are.
struct Folder {
    base: PathBuf,
    name: String,
    path: PathBuf,
}

impl Folder {
    fn relative(&self, file: &str) -> String {
        format!("{}/{file}", self.name)
    }

    fn write(&self, file: &str, certificates: &[CertificateDer]) -> Result<(), GatewayError> {
        Ok(write_new_public(&self.path.join(file), &certificates_pem(certificates))?)
    }
}

fn prepare(options: &PrepareOptions, now: Timestamp) -> Result<ExitCode, GatewayError> {
    let provider: Arc<dyn CryptoProvider> = Arc::new(AwsLc);
    let present = Present::read(&options.config, &options.after, now, &provider)?;
    let name = new_name(&options.name, &present)?;
    let base = present.base.clone();
    let folder = Folder { path: base.join(name.as_str()), name: name.as_str().to_owned(), base };
    // Everything is made in memory first: what is missing must not leave half a folder.
    if folder.path.exists() {
        let why = format!("{} exists already", folder.path.display());
        return Err(GatewayError::config("--name", why));
    }
    let urls = urls(&present, &name);
    let (ca_key, chain) = match &options.certificate {
        None => new_root(options, &present, &folder, now, &*provider)?,
        Some(certificate) => known_ca(options, certificate)?,
    };
    let Some(ca_certificate) = chain.first().cloned() else {
        return Err(GatewayError::config("--certificate", "there is none"));
    };
    if present.subjects.iter().any(|taken| taken == ca_certificate.subject_der()) {
        let why = "another CA has this name in its certificates; a CRL could be of either";
        return Err(GatewayError::config("--ca-name", why));
    }
    let upper = chain.get(1..).unwrap_or_default().to_vec();
    let signer = ca_key.key.signer()?;
    let ca = LocalCa::new(signer, ca_certificate, upper.clone(), urls.clone(), provider)?;
    let ra = [
        ("--ra-signing-key", &options.ra_signing_key, "ra-sign", InfrastructurePurpose::RaSigning),
        (
            "--ra-encryption-key",
            &options.ra_encryption_key,
            "ra-encrypt",
            InfrastructurePurpose::RaEncryption,
        ),
    ];
    let mut made = Vec::new();
    for (option, uri, file, issue) in ra {
        made.push(ra_pair(&ca, (option, uri.as_deref()), &folder, file, issue, now)?);
    }
    let answer = answer(&present, ca.chain())?;

    new_private_folder(&folder.path)?;
    ca_key.write()?;
    folder.write("ca.cert.pem", ca.chain().get(..1).unwrap_or_default())?;
    if !upper.is_empty() {
        folder.write("chain.pem", &upper)?;
    }
    for (key, file, certificate) in &made {
        key.write()?;
        folder.write(&format!("{file}.cert.pem"), std::slice::from_ref(certificate))?;
    }
    write_answer(&folder.path.join(ANSWER), &answer)?;
    let places: Vec<&str> = made.iter().map(|(key, ..)| key.place.as_str()).collect();
    let section = NextAuthority {
        name: name.as_str(),
        follows: present.name.as_str(),
        folder: &folder.name,
        ca_key: &ca_key.place,
        chain: !upper.is_empty(),
        urls: &urls,
        ocsp: match (&present.ocsp_path, &ca_key.key) {
            (None, _) => NextOcsp::No,
            (Some(_), PrivateKey::Software(_)) => NextOcsp::Yes,
            (Some(_), PrivateKey::Token(_)) => NextOcsp::NeedsKey,
        },
        ra_keys: [places.first().copied(), places.get(1).copied()].map(Option::unwrap_or_default),
        answer: ANSWER,
    }
    .to_toml();
    write_new_public(&folder.path.join("authority.toml"), &section)?;
    tell(&present, &name, &folder, &section, &urls);
    Ok(ExitCode::SUCCESS)
}

/// What there is to do with what was made.
fn tell(
    present: &Present,
    name: &AuthorityName,
    folder: &Folder,
    section: &str,
    urls: &LocalCaSettings,
) {
    println!("made {}", folder.path.display());
    println!(
        "add this to the configuration, and start the gateway anew: it tells devices of {name}, and issues from {} still",
        present.name
    );
    println!("\n{section}");
    println!(
        "when devices know {name}, have the endpoints issue from it: ca = {}",
        quoted(name.as_str())
    );
    if urls.crl_urls.len() < present.urls.crl_urls.len() {
        println!(
            "what {} writes into certificates about its CRL was not understood: say it anew in crl_urls",
            present.name
        );
    }
}

fn new_name(text: &str, present: &Present) -> Result<AuthorityName, GatewayError> {
    let wrong = |why: &dyn core::fmt::Display| GatewayError::config("--name", why);
    let name = AuthorityName::new(text).map_err(|error| wrong(&error))?;
    if present.names.contains(&name) {
        return Err(wrong(&format!("a CA is called {name} already")));
    }
    // It is a folder's name, and part of a path.
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !text.chars().all(plain) {
        return Err(wrong(
            &"only letters, digits, - and _: a folder and the path of its CRL are named so",
        ));
    }
    Ok(name)
}

/// A key, and a certificate that it signs for itself.
fn new_root(
    options: &PrepareOptions,
    present: &Present,
    folder: &Folder,
    now: Timestamp,
    provider: &dyn CryptoProvider,
) -> Result<(Made, Vec<CertificateDer>), GatewayError> {
    if present.certificate.issuer_der() != present.certificate.subject_der() {
        let why = "needed: the present CA is below another one, which certifies the next one too";
        return Err(GatewayError::config("--certificate", why));
    }
    let algorithm = match &options.ca_key {
        Some(text) => text.parse().map_err(|_| {
            GatewayError::config("--ca-key", "one of p256, p384, rsa2048, rsa3072, rsa4096")
        })?,
        None => present.certificate.spki().algorithm(),
    };
    let subject = match &options.ca_name {
        Some(text) => text.parse().map_err(|e| GatewayError::config("--ca-name", e))?,
        None => next_subject(&present.certificate, &folder.name)?,
    };
    let life = Duration::from_secs(u64::from(options.days).saturating_mul(DAY));
    let at = (folder, "ca.key.pem");
    let key =
        Made::new(("--key", options.key.as_deref()), at, algorithm, TokenKeyPurpose::Signing)?;
    let signer = key.key.signer()?;
    let root = LocalCa::self_signed_root(&*signer, &subject, life, now, provider)?;
    Ok((key, vec![root]))
}

/// The present CA's name with the new CA's after it.
fn next_subject(present: &CertificateDer, name: &str) -> Result<DistinguishedName, GatewayError> {
    let wrong = |why: &dyn core::fmt::Display| GatewayError::config("--ca-name", why);
    let subject = DistinguishedName::from_der(present.subject_der(), StringRules::AllowBmp)
        .map_err(|error| wrong(&error))?;
    let text = subject.to_string();
    let last = text.rsplit(", ").next().unwrap_or_default();
    if !last.starts_with("CN=") || last.contains('+') {
        return Err(wrong(&format!("needed: none can be made of {text}")));
    }
    format!("{text} {name}").parse().map_err(|error| wrong(&error))
}

/// A CA that somebody else has certified, whose key is there.
fn known_ca(
    options: &PrepareOptions,
    certificate: &Path,
) -> Result<(Made, Vec<CertificateDer>), GatewayError> {
    let wrong = |why: &dyn core::fmt::Display| GatewayError::config("--key", why);
    let Some(place) = options.key.clone() else {
        return Err(wrong(&"needed: the key of --certificate"));
    };
    // As the configuration will name it: relative to its own folder.
    let base = options.config.parent().unwrap_or_else(|| Path::new("."));
    let key = open_key(&KeyPlace::parse(base, &place).map_err(|error| wrong(&error))?)?;
    let mut chain = vec![one_certificate(certificate, "--certificate")?];
    if let Some(upper) = &options.chain {
        chain.extend(read_certificates(upper)?);
    }
    Ok((Made { key, place, file: None }, chain))
}

/// What the next CA writes into certificates: the present one's places, with its own paths.
fn urls(present: &Present, name: &AuthorityName) -> LocalCaSettings {
    let moved = |urls: &[String], from: &str, to: &str| -> Vec<String> {
        let public = urls.iter().filter_map(|url| url.strip_suffix(from));
        public.map(|public| format!("{public}{to}-{name}")).collect()
    };
    let ocsp_urls = present
        .ocsp_path
        .as_deref()
        .map(|path| moved(&present.urls.ocsp_urls, path, &OcspSettings::default().path));
    LocalCaSettings {
        crl_urls: moved(&present.urls.crl_urls, &present.crl_path, &CrlSettings::default().path),
        issuer_urls: Vec::new(),
        ocsp_urls: ocsp_urls.unwrap_or_default(),
    }
}

/// A key of the RA with its certificate.
fn ra_pair(
    ca: &LocalCa,
    key: (&'static str, Option<&str>),
    folder: &Folder,
    file: &'static str,
    issue: InfrastructurePurpose,
    now: Timestamp,
) -> Result<(Made, &'static str, CertificateDer), GatewayError> {
    let (subject, purpose) = match issue {
        InfrastructurePurpose::RaSigning => ("CN=SCEP RA signing", TokenKeyPurpose::Signing),
        _ => ("CN=SCEP RA encryption", TokenKeyPurpose::Decryption),
    };
    let subject = subject.parse().map_err(|error| GatewayError::config("RA name", error))?;
    let at = format!("{file}.key.pem");
    let made = Made::new(key, (folder, &at), KeyAlgorithm::Rsa(2048), purpose)?;
    let end = ca.chain().iter().map(CertificateDer::not_after).min();
    let life = end.map_or(RA_LIFE, |end| RA_LIFE.min(end.since(now)));
    let certificate = ca.issue_infrastructure(issue, made.key.public_key(), &subject, life, now)?;
    Ok((made, file, certificate))
}

/// `ca announce`: the next CA is elsewhere, or is prepared by hand.
fn announce(options: &AnnounceOptions, now: Timestamp) -> Result<ExitCode, GatewayError> {
    let provider: Arc<dyn CryptoProvider> = Arc::new(AwsLc);
    let present = Present::read(&options.config, &options.after, now, &provider)?;
    let next = read_certificates(&options.certificate)?;
    if !next.iter().all(is_ca) {
        let why = format!("{} holds one that is no CA's", options.certificate.display());
        return Err(GatewayError::config("--certificate", why));
    }
    write_answer(&options.out, &answer(&present, &next)?)?;
    println!("wrote {}", options.out.display());
    Ok(ExitCode::SUCCESS)
}

/// Whether its basicConstraints say so.
fn is_ca(certificate: &CertificateDer) -> bool {
    const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
    let constraints = certificate.extension(&BASIC_CONSTRAINTS);
    let says = constraints.and_then(|der| {
        Reader::new(der).only(tag::SEQUENCE).ok()?.reader().optional(tag::BOOLEAN).ok()?
    });
    says.is_some_and(|ca| ca.value == [0xff])
}

/// What GetNextCACert answers: the next CA's certificates, signed by the present one.
fn answer(present: &Present, next: &[CertificateDer]) -> Result<Vec<u8>, GatewayError> {
    scep_message::next_ca::response(&*present.signer, &present.certificate, next)
        .map_err(|error| GatewayError::config("GetNextCACert", error))
}

/// A new file, as everybody may read it.
fn write_answer(path: &Path, answer: &[u8]) -> Result<(), GatewayError> {
    use std::io::Write as _;
    let written = std::fs::File::create_new(path).and_then(|mut file| {
        file.write_all(answer)?;
        file.sync_all()
    });
    written.map_err(GatewayError::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::init::{KnownIssuer, NewRa, Plan, make};
    use scep_server::Preset;
    use scep_testkit::keys;

    #[test]
    fn a_ca_that_was_taken_over_from_may_end() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("gw");
        let plan = Plan {
            dir: dir.clone(),
            tenant: "contoso".parse().unwrap(),
            group: "main".parse().unwrap(),
            issuer: KnownIssuer::Key(keys::p256(1).public_key().clone()),
            suffixes: vec!["example.org".into()],
            listen: ([127, 0, 0, 1], 0).into(),
            admin_listen: ([127, 0, 0, 1], 0).into(),
            crl_url: None,
            ocsp_url: None,
            ca_key: KeyAlgorithm::P256,
            challenge_key: KeyAlgorithm::P256,
            ca_name: "CN=CA".parse().unwrap(),
            ra: NewRa::Split,
            preset: &Preset::GENERIC,
        };
        let (now, provider) = (SystemClock.now(), Arc::new(AwsLc) as Arc<dyn CryptoProvider>);
        let path = make(&plan, now).unwrap();
        // The one that ends is the next one here: the other way round it is the same.
        let options = PrepareOptions {
            config: path.clone(),
            name: "g2".into(),
            after: "main".into(),
            ca_name: None,
            ca_key: None,
            days: 1,
            key: None,
            certificate: None,
            chain: None,
            ra_signing_key: None,
            ra_encryption_key: None,
        };
        prepare(&options, now).unwrap();
        let section = std::fs::read_to_string(dir.join("g2/authority.toml")).unwrap();
        let text = format!("{}\n{section}", std::fs::read_to_string(&path).unwrap());
        std::fs::write(&path, &text).unwrap();
        let later = now.plus(Duration::from_secs(3 * DAY));
        let load = || Config::load(&path, later, &provider).unwrap();
        let ended = |config: &Config| config.ended(later).map(|owned| owned.what.to_string());
        assert_eq!(ended(&load()), None);
        let switched = text.replace("preset = \"generic\"", "preset = \"generic\"\nca = \"g2\"");
        assert_ne!(switched, text);
        std::fs::write(&path, switched).unwrap();
        assert_eq!(ended(&load()).as_deref(), Some("CA certificate of g2"));
    }

    #[test]
    fn the_next_name_is_the_present_one_with_the_next_after_it() {
        let certificate = |subject: &str| {
            let (key, life) = (keys::p256(0), Duration::from_secs(DAY));
            let (subject, now) = (subject.parse().unwrap(), SystemClock.now());
            LocalCa::self_signed_root(&*key.signer(), &subject, life, now, &AwsLc).unwrap()
        };
        let next = |subject| next_subject(&certificate(subject), "g2").map(|name| name.to_string());
        assert_eq!(next("O=Sceptic, CN=Device CA").unwrap(), "O=Sceptic, CN=Device CA g2");
        assert_eq!(next("CN=A").unwrap(), "CN=A g2");
        next("CN=A, O=Sceptic").unwrap_err();
    }
}
