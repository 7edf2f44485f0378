//! The commands.

use crate::cli::{
    Command, EnrolOptions, Method, OutputOptions, PollOptions, QueryOptions, RenewOptions,
    ServerOptions,
};
use crate::error::DeviceError;
use crate::files;
use crate::progress::Progress;
use scep_client::{
    Answer, ClientError, ClientSettings, Identity, LegacyAlgorithms, Pending, Polling, ScepClient,
    Server, Transport, Trust,
};
use scep_keys::{AwsLc, Backend, SoftwareKey, certificates_pem};
use scep_pkcs10::CsrBuilder;
use scep_types::{
    CertificateDer, DistinguishedName, ExtendedKeyUsages, GeneralName, KeyUsages, OaepHash,
    ObjectIdentifier, RsaPadding, SerialNumber, SignatureScheme, StringRules, Timestamp,
    TransactionId,
};
use std::path::Path;

const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");

fn now() -> Timestamp {
    std::time::SystemTime::now().into()
}

/// Does what was asked for.
pub(crate) async fn run(command: Command) -> Result<(), DeviceError> {
    match command {
        Command::Caps(url) => caps(&url.url).await,
        Command::Cacert { server, out } => cacert(&server, out.as_deref()).await,
        Command::Nextca { server, out } => nextca(&server, out.as_deref()).await,
        Command::Enrol(options) => enrol(&options).await,
        Command::Renew(options) => renew(&options).await,
        Command::Poll(options) => poll(&options).await,
        Command::Getcert(options) => getcert(&options).await,
        Command::Getcrl(options) => getcrl(&options).await,
        // Printed before the runtime was started.
        Command::Completions { .. } => Ok(()),
    }
}

async fn caps(url: &str) -> Result<(), DeviceError> {
    let caps = ScepClient::new(url)?.get_ca_caps().await?;
    let lines = [
        ("AES", caps.aes),
        ("POSTPKIOperation", caps.post),
        ("SHA-256", caps.sha256),
        ("SHA-384", caps.sha384),
        ("SHA-512", caps.sha512),
        ("SHA-1", caps.sha1),
        ("DES3", caps.des3),
        ("Renewal", caps.renewal),
        ("GetNextCACert", caps.get_next_ca_cert),
        ("SCEPStandard", caps.scep_standard),
    ];
    for (name, has) in lines {
        println!("{name:18} {}", if has { "yes" } else { "no" });
    }
    Ok(())
}

/// A client and what it knows of its server.
struct Reached {
    client: ScepClient,
    server: Server,
}

impl Reached {
    async fn discover(options: &ServerOptions, progress: &Progress) -> Result<Self, DeviceError> {
        let settings = ClientSettings {
            transport: match options.method {
                Method::Auto => Transport::Auto,
                Method::Post => Transport::Post,
                Method::Get => Transport::Get,
            },
            key_transport: if options.oaep {
                RsaPadding::Oaep(OaepHash::Sha256)
            } else {
                RsaPadding::Pkcs1v15
            },
            legacy: if options.legacy {
                LegacyAlgorithms::Accept
            } else {
                LegacyAlgorithms::Refuse
            },
            ..ClientSettings::default()
        };
        let trust = match (&options.trust.ca_fingerprint, &options.trust.ca) {
            (Some(fingerprint), _) => Trust::Fingerprint(*fingerprint),
            (None, Some(path)) => Trust::Certificate(files::certificate(path)?),
            (None, None) => Trust::Anything,
        };
        progress.now("fetching capabilities and certificates");
        let client = ScepClient::with_settings(&options.url, settings)?;
        let server = client.discover(&trust, now(), &AwsLc).await?;
        Ok(Self { client, server })
    }

    /// Waits while it is pending, and writes what was issued. What is needed to go on later is kept in a file.
    async fn finish(
        &self,
        answer: Answer,
        request: &[u8],
        identity: &Identity,
        output: &OutputOptions,
        progress: &Progress,
    ) -> Result<(), DeviceError> {
        let transaction = match &answer {
            Answer::Issued(issued) => issued.transaction_id.to_string(),
            Answer::Pending(pending) => {
                let path = files::request_path(&output.out);
                if !path.exists() {
                    files::write_request(&path, request)?;
                }
                progress.now("pending: waiting for the server's decision");
                pending.transaction_id().to_string()
            }
        };
        let polling = Polling { interval: output.poll_interval, polls: output.polls };
        let waited = self.client.wait(&self.server, answer, identity, polling, now(), &AwsLc).await;
        let issued = match waited {
            Ok(issued) => issued,
            Err(ClientError::StillPending { .. }) => {
                let request = files::request_path(&output.out);
                return Err(DeviceError::Pending { transaction, request });
            }
            Err(error) => return Err(error.into()),
        };
        files::write_issued(output, &issued)?;
        progress.now("done");
        let certificate = &issued.certificate;
        eprintln!(
            "issued: serial {}, valid until {}, written to {}",
            certificate.serial().map(|s| s.to_string()).unwrap_or_default(),
            certificate.not_after(),
            output.out.display()
        );
        Ok(())
    }
}

async fn cacert(options: &ServerOptions, out: Option<&Path>) -> Result<(), DeviceError> {
    let progress = Progress::start("fetching certificates");
    let reached = Reached::discover(options, &progress).await?;
    drop(progress);
    show(reached.server.certificates.sent(), out)
}

async fn nextca(options: &ServerOptions, out: Option<&Path>) -> Result<(), DeviceError> {
    let progress = Progress::start("fetching the next CA");
    let reached = Reached::discover(options, &progress).await?;
    let certificates = reached.client.get_next_ca_cert(&reached.server, &AwsLc).await?;
    drop(progress);
    show(&certificates, out)
}

/// Writes certificates, and for whoever looks which they are.
fn show(certificates: &[CertificateDer], out: Option<&Path>) -> Result<(), DeviceError> {
    for certificate in certificates {
        let subject = DistinguishedName::from_der(certificate.subject_der(), StringRules::AllowBmp)
            .map_or_else(|error| error.to_string(), |name| name.to_string());
        eprintln!("{} {subject}", certificate.fingerprint());
    }
    files::print_or_write(out, &certificates_pem(certificates))
}

async fn enrol(options: &EnrolOptions) -> Result<(), DeviceError> {
    files::check_output(&options.output)?;
    let csr = request(options)?;
    let progress = Progress::start("making a key");
    let algorithm = options
        .key_algorithm
        .parse()
        .map_err(|error| DeviceError::argument("--key-algorithm", error))?;
    let key = files::key_or_new(&options.key, algorithm)?;
    let request = sign(&csr, &key)?;
    let reached = Reached::discover(&options.server, &progress).await?;
    progress.now("asking for the certificate");
    let identity =
        Identity::self_signed(&csr.subject, key.signer(), key.decryption()?, now(), &AwsLc)?;
    let answer = reached.client.enrol(&reached.server, &request, &identity, now(), &AwsLc).await?;
    reached.finish(answer, &request, &identity, &options.output, &progress).await
}

async fn renew(options: &RenewOptions) -> Result<(), DeviceError> {
    files::check_output(&options.output)?;
    let old = files::certificate(&options.cert)?;
    let progress = Progress::start("making a key");
    let key = SoftwareKey::read(&options.key, Backend::AwsLc)?;
    let new_key = files::key_or_new(&options.new_key, key.public_key().algorithm())?;
    let csr = successor(&old, files::challenge(&options.challenge)?)?;
    let request = sign(&csr, &new_key)?;
    let reached = Reached::discover(&options.server, &progress).await?;
    progress.now("asking for the new certificate");
    let identity = Identity::certified(old, key.signer(), key.decryption()?)?;
    let answer = reached.client.renew(&reached.server, &request, &identity, now(), &AwsLc).await?;
    reached.finish(answer, &request, &identity, &options.output, &progress).await
}

async fn poll(options: &PollOptions) -> Result<(), DeviceError> {
    files::check_output(&options.output)?;
    let transaction = TransactionId::new(&*options.transaction)
        .map_err(|error| DeviceError::argument("--transaction", error))?;
    let request = std::fs::read(&options.request)
        .map_err(|source| DeviceError::File { path: options.request.clone(), source })?;
    let key = SoftwareKey::read(&options.key, Backend::AwsLc)?;
    let progress = Progress::start("asking again");
    let reached = Reached::discover(&options.server, &progress).await?;
    let pending = Pending::resume(transaction, &request)?;
    let identity = Identity::self_signed(
        &DistinguishedName::empty(),
        key.signer(),
        key.decryption()?,
        now(),
        &AwsLc,
    )?;
    let answer = reached.client.poll(&reached.server, &pending, &identity, now(), &AwsLc).await?;
    reached.finish(answer, &request, &identity, &options.output, &progress).await
}

/// Whom GetCert and GetCRL ask as, and for which serial number.
async fn prepare(
    options: &QueryOptions,
    progress: &Progress,
) -> Result<(Reached, Identity, SerialNumber), DeviceError> {
    let certificate = files::certificate(&options.cert)?;
    let serial = match &options.serial {
        Some(hex) => serial(hex)?,
        None => certificate
            .serial()
            .ok_or_else(|| DeviceError::argument("--cert", "its serial number is not usable"))?,
    };
    let key = SoftwareKey::read(&options.key, Backend::AwsLc)?;
    let identity = Identity::certified(certificate, key.signer(), key.decryption()?)?;
    Ok((Reached::discover(&options.server, progress).await?, identity, serial))
}

async fn getcert(options: &QueryOptions) -> Result<(), DeviceError> {
    let progress = Progress::start("fetching the certificate");
    let (reached, identity, serial) = prepare(options, &progress).await?;
    let found = reached.client.get_cert(&reached.server, &serial, &identity, &AwsLc).await?;
    drop(progress);
    files::print_or_write(options.out.as_deref(), &certificates_pem(&[found]))
}

async fn getcrl(options: &QueryOptions) -> Result<(), DeviceError> {
    let progress = Progress::start("fetching the CRL");
    let (reached, identity, serial) = prepare(options, &progress).await?;
    let crl = reached.client.get_crl(&reached.server, &serial, &identity, &AwsLc).await?;
    drop(progress);
    files::print_or_write(options.out.as_deref(), &scep_keys::crl_pem(&crl))
}

fn serial(hex: &str) -> Result<SerialNumber, DeviceError> {
    let bad =
        || DeviceError::argument("--serial", "not the hexadecimal serial number of a certificate");
    let digits: Vec<u8> = hex.bytes().filter(|b| !matches!(b, b':' | b' ')).collect();
    if digits.is_empty() || digits.len() > 40 || !digits.len().is_multiple_of(2) {
        return Err(bad());
    }
    let mut octets = Vec::new();
    for pair in digits.chunks(2) {
        let text = core::str::from_utf8(pair).map_err(|_| bad())?;
        octets.push(u8::from_str_radix(text, 16).map_err(|_| bad())?);
    }
    // The printed form leaves out the zero that keeps the number positive.
    if octets.first().is_some_and(|b| *b > 0x7f) {
        octets.insert(0, 0);
    }
    SerialNumber::from_content(&octets).map_err(|_| bad())
}

fn sign(csr: &CsrBuilder, key: &SoftwareKey) -> Result<Vec<u8>, DeviceError> {
    let scheme = SignatureScheme::default_for(key.public_key().algorithm());
    Ok(csr.sign(&*key.signer(), scheme).map_err(ClientError::from)?)
}

/// The request that the options describe.
fn request(options: &EnrolOptions) -> Result<CsrBuilder, DeviceError> {
    let subject: DistinguishedName =
        options.subject.parse().map_err(|error| DeviceError::argument("--subject", error))?;
    let mut names = Vec::new();
    let mut add = |option, made: Result<GeneralName, scep_types::NameError>| {
        made.map(|name| names.push(name)).map_err(|error| DeviceError::argument(option, error))
    };
    for text in &options.dns {
        add("--dns", GeneralName::dns(text))?;
    }
    for text in &options.upn {
        add("--upn", GeneralName::upn(text))?;
    }
    for text in &options.email {
        add("--email", GeneralName::email(text))?;
    }
    for text in &options.uri {
        add("--uri", GeneralName::uri(text))?;
    }
    for address in &options.ip {
        add("--ip", Ok(GeneralName::ip(*address)))?;
    }
    let key_usage = match options.key_usage.as_slice() {
        [] => None,
        some => Some(
            KeyUsages::from_names(some.iter().map(String::as_str))
                .ok_or_else(|| DeviceError::argument("--key-usage", "an unknown key usage"))?,
        ),
    };
    let purposes: Option<Vec<ObjectIdentifier>> =
        options.eku.iter().map(|name| ExtendedKeyUsages::purpose(name)).collect();
    let purposes =
        purposes.ok_or_else(|| DeviceError::argument("--eku", "an unknown extended key usage"))?;
    Ok(CsrBuilder {
        subject,
        subject_alt_names: names,
        key_usage,
        extended_key_usages: ExtendedKeyUsages::new(purposes),
        challenge_password: files::challenge(&options.challenge)?,
        ..CsrBuilder::default()
    })
}

/// A request for the successor of a certificate: the same subject and names.
fn successor(
    old: &CertificateDer,
    challenge: Option<scep_types::Secret<String>>,
) -> Result<CsrBuilder, DeviceError> {
    let unreadable = |error: scep_types::NameError| DeviceError::argument("--cert", error);
    let subject = DistinguishedName::from_der(old.subject_der(), StringRules::AllowBmp)
        .map_err(unreadable)?;
    let subject_alt_names = match old.extension(&SUBJECT_ALT_NAME) {
        Some(der) => GeneralName::list_from_der(der, StringRules::AllowBmp).map_err(unreadable)?,
        None => Vec::new(),
    };
    let challenge_password = challenge;
    Ok(CsrBuilder { subject, subject_alt_names, challenge_password, ..CsrBuilder::default() })
}
