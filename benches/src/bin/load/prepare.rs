//! Enrolments, made before the clock starts.

use crate::Result;
use core::time::Duration;
use scep_challenge::{
    ApprovalMode, ChallengeClaims, DemandUsages, Expectation, Purpose, Renewal, seal,
};
use scep_keys::{AwsLc, Backend, SoftwareKey};
use scep_message::client::{self, Ask, Identity};
use scep_message::{ContentEncryption, MessageType, http};
use scep_pkcs10::CsrBuilder;
use scep_testkit::device::{TestExtension, self_signed};
use scep_types::{
    CertificateDer, ChallengeId, CryptoProvider as _, DeviceId, ExtendedKeyUsages, GatewayGroupId,
    GeneralName, KeyAlgorithm, KeyUsages, ProfileId, RsaPadding, Secret, SignatureScheme, SpkiDer,
    TenantId, Timestamp, TransactionId,
};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const DAY: Duration = Duration::from_secs(86_400);
const RSA: KeyAlgorithm = KeyAlgorithm::Rsa(2048);

/// Where requests go, and what they must say.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) server: SocketAddr,
    /// Begins with `/`.
    pub(crate) path: String,
    /// Requests are encrypted to it.
    pub(crate) recipient: CertificateDer,
    pub(crate) challenges: Challenges,
    pub(crate) transport: Transport,
}

/// What shows that a device may have a certificate.
#[derive(Debug)]
pub(crate) enum Challenges {
    /// The same word for everybody.
    Static(String),
    /// Made by an issuer for a gateway's key.
    Sealed { issuer: SoftwareKey, gateway: SpkiDer },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Get,
    Post,
}

/// A device's key, with the key and certificate that its messages are signed with. A device asks again and again with the
/// same key, each time with another challenge: a key is certified for one device only.
#[derive(Debug)]
struct Device {
    key: SoftwareKey,
    signer: SoftwareKey,
    certificate: CertificateDer,
}

/// The devices.
#[derive(Debug)]
pub(crate) struct Pool(Vec<Device>);

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_seconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

impl Pool {
    /// With keys on P-256, whose messages a few RSA keys sign, for an endpoint that takes any signer.
    pub(crate) fn p256(size: usize) -> Result<Self> {
        let signers: Result<Vec<(SoftwareKey, CertificateDer)>> = (0..4)
            .map(|_| {
                let key = SoftwareKey::generate(RSA)?;
                let certificate = certificate(&key)?;
                Ok((key, certificate))
            })
            .collect();
        let signers = signers?;
        let device = |(signer, certificate): &(SoftwareKey, CertificateDer)| {
            let key = SoftwareKey::generate(KeyAlgorithm::P256)?;
            Ok(Device { key, signer: signer.clone(), certificate: certificate.clone() })
        };
        signers.iter().cycle().take(size).map(device).collect::<Result<_>>().map(Self)
    }

    /// With RSA keys of 2048 bits, which sign their messages themselves. They take long to make, and are kept in a file.
    pub(crate) fn rsa(size: usize, file: &Path) -> Result<Self> {
        let mut keys = read_keys(&std::fs::read(file).unwrap_or_default());
        let missing = size.saturating_sub(keys.len());
        if missing > 0 {
            eprintln!("making {missing} RSA keys, once; they are kept in {}", file.display());
            keys.extend(in_parallel(missing, |_| Ok(SoftwareKey::generate(RSA)?))?);
            write_keys(&keys, file)?;
        }
        keys.truncate(size);
        in_parallel(keys.len(), |number| {
            let key = keys.get(number).ok_or("a key was lost")?;
            let certificate = certificate(key)?;
            Ok(Device { key: key.clone(), signer: key.clone(), certificate })
        })
        .map(Self)
    }

    /// So many whole HTTP requests, those of `from` on.
    pub(crate) fn requests(
        &self,
        target: &Target,
        from: usize,
        count: usize,
    ) -> Result<Vec<Vec<u8>>> {
        let now = now();
        in_parallel(count, |number| self.request(target, from.saturating_add(number), now))
    }

    fn request(&self, target: &Target, number: usize, now: Timestamp) -> Result<Vec<u8>> {
        let at = number.checked_rem(self.0.len()).ok_or("no devices")?;
        let device = self.0.get(at).ok_or("no such device")?;
        let name = format!("device-{at}");
        let expectation = expectation(&name)?;
        let challenge = match &target.challenges {
            Challenges::Static(word) => word.clone(),
            Challenges::Sealed { issuer, gateway } => {
                let claims = claims(&name, &expectation, issuer, gateway, now)?;
                seal(&claims, &*issuer.signer(), gateway, &AwsLc)?
            }
        };
        let csr = CsrBuilder {
            subject: expectation.subject,
            subject_alt_names: expectation.subject_alt_names,
            key_usage: Some(expectation.key_usage),
            extended_key_usages: Some(expectation.extended_key_usages),
            challenge_password: Some(Secret::new(challenge)),
            ..CsrBuilder::default()
        };
        let scheme = |key: &SoftwareKey| SignatureScheme::default_for(key.public_key().algorithm());
        let csr = csr.sign(&*device.key.signer(), scheme(&device.key))?;
        let mut random = [0; 16];
        AwsLc.random(&mut random)?;
        let transaction_id = TransactionId::new(format!("{:032x}", u128::from_be_bytes(random)))?;
        let ask = Ask {
            message_type: MessageType::PkcsReq,
            transaction_id: &transaction_id,
            data: &csr,
            recipient: &target.recipient,
            padding: RsaPadding::Pkcs1v15,
            encryption: ContentEncryption::Aes128Cbc,
            scheme: scheme(&device.signer),
        };
        let who = Identity { certificate: &device.certificate, signer: &*device.signer.signer() };
        let (message, _) = client::request(&ask, &who, &AwsLc)?;
        Ok(target.http(&message))
    }
}

impl Target {
    fn http(&self, message: &[u8]) -> Vec<u8> {
        let Self { server, path, .. } = self;
        match self.transport {
            Transport::Get => {
                let query = http::pki_operation_query(message);
                format!("GET {path}?{query} HTTP/1.1\r\nHost: {server}\r\n\r\n").into_bytes()
            }
            Transport::Post => {
                let mut request = format!(
                    "POST {path}?operation=PKIOperation HTTP/1.1\r\nHost: {server}\r\n\
                     Content-Type: application/x-pki-message\r\nContent-Length: {}\r\n\r\n",
                    message.len()
                )
                .into_bytes();
                request.extend_from_slice(message);
                request
            }
        }
    }
}

fn certificate(key: &SoftwareKey) -> Result<CertificateDer> {
    let (now, usage) = (now(), [TestExtension::key_usage()]);
    Ok(self_signed(key, &"CN=device".parse()?, now.minus(DAY), now.plus(DAY), &usage))
}

fn expectation(device: &str) -> Result<Expectation> {
    let purpose = ExtendedKeyUsages::purpose("clientAuth").ok_or("clientAuth is unknown")?;
    Ok(Expectation {
        subject: format!("C=CH, O=Example, CN={device}").parse()?,
        subject_alt_names: vec![
            GeneralName::dns(&format!("{device}.example.org"))?,
            GeneralName::upn(&format!("{device}@example.org"))?,
        ],
        key_usage: KeyUsages::DIGITAL_SIGNATURE,
        extended_key_usages: ExtendedKeyUsages::new(vec![purpose]).ok_or("no set")?,
        demand_usages: DemandUsages::No,
        key_algorithms: vec![RSA, KeyAlgorithm::P256],
        spki_hash: None,
        validity: Duration::from_secs(365 * 86_400),
        extensions: Vec::new(),
        renewal: Renewal::Blob,
        approval: ApprovalMode::Automatic,
    })
}

fn claims(
    device: &str,
    expectation: &Expectation,
    issuer: &SoftwareKey,
    gateway: &SpkiDer,
    now: Timestamp,
) -> Result<ChallengeClaims> {
    let mut id = [0; 16];
    AwsLc.random(&mut id)?;
    Ok(ChallengeClaims {
        challenge_id: ChallengeId::from_bytes(id),
        tenant: TenantId::new("contoso")?,
        issuer_key: issuer.public_key().key_id(),
        audience: GatewayGroupId::new("main")?,
        recipient_key: gateway.key_id(),
        profile: ProfileId::new("wifi")?,
        device: DeviceId::new(device)?,
        user: None,
        issued_at: now,
        expires_at: now.plus(Duration::from_secs(3600)),
        purpose: Purpose::Enrol,
        expectation: expectation.clone(),
    })
}

/// Each by its number, on all processors.
fn in_parallel<T: Send>(count: usize, make: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let threads = std::thread::available_parallelism()?.get();
    let share = count.div_ceil(threads).max(1);
    let make = &make;
    std::thread::scope(|scope| {
        let starts = (0..count).step_by(share);
        let parts: Vec<_> = starts
            .map(|start| {
                let end = start.saturating_add(share).min(count);
                scope.spawn(move || (start..end).map(make).collect::<Result<Vec<T>>>())
            })
            .collect();
        let mut all = Vec::with_capacity(count);
        for part in parts {
            all.extend(part.join().map_err(|_| "a thread was lost")??);
        }
        Ok(all)
    })
}

/// PKCS #8, each behind its length in four octets. What does not read is made anew.
fn read_keys(mut file: &[u8]) -> Vec<SoftwareKey> {
    let mut keys = Vec::new();
    while let Some((length, rest)) = file.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let Some((der, rest)) = rest.split_at_checked(length) else { break };
        let Ok(key) = SoftwareKey::from_pkcs8_der(der, Backend::AwsLc) else { break };
        keys.push(key);
        file = rest;
    }
    keys
}

fn write_keys(keys: &[SoftwareKey], file: &Path) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut bytes = Secret::new(Vec::new());
    for key in keys {
        let der = key.to_pkcs8_der()?;
        let length = u32::try_from(der.expose().len())?;
        bytes.expose_mut().extend_from_slice(&length.to_be_bytes());
        bytes.expose_mut().extend_from_slice(der.expose());
    }
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(file)?;
    Ok(file.write_all(bytes.expose())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use scep_message::{LegacyAlgorithms, Limits, PkiMessage};
    use scep_testkit::keys;

    #[test]
    fn keys_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        let kept = [keys::rsa2048(0), keys::rsa2048(3)];
        write_keys(&kept, &file).unwrap();
        let bytes = std::fs::read(&file).unwrap();
        let read = read_keys(&bytes);
        let public = |keys: &[SoftwareKey]| -> Vec<SpkiDer> {
            keys.iter().map(|key| key.public_key().clone()).collect()
        };
        assert_eq!(public(&read), public(&kept));
        // Half a file is good for what is whole in it.
        assert_eq!(read_keys(&bytes[..bytes.len() - 1]).len(), 1);
        assert!(read_keys(&[]).is_empty());
        // All are there, so none is made.
        let Pool(devices) = Pool::rsa(2, &file).unwrap();
        assert_eq!(devices[1].key.public_key(), kept[1].public_key());
    }

    #[test]
    fn all_are_made_in_order() {
        for count in [0, 1, 7, 64] {
            let all = in_parallel(count, Ok).unwrap();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
        assert!(in_parallel(3, |n| if n == 1 { Err("no".into()) } else { Ok(n) }).is_err());
    }

    #[test]
    fn requests_are_distinct_and_well_formed() {
        let target = |transport| Target {
            server: "127.0.0.1:80".parse().unwrap(),
            path: "/scep".to_owned(),
            recipient: certificate(&keys::rsa2048(0)).unwrap(),
            challenges: Challenges::Sealed {
                issuer: keys::p256(1),
                gateway: keys::p256(2).public_key().clone(),
            },
            transport,
        };
        let pool = Pool::p256(2).unwrap();
        let posts = pool.requests(&target(Transport::Post), 0, 3).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for post in &posts {
            let end = post.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
            assert!(post.starts_with(b"POST /scep?operation=PKIOperation HTTP/1.1\r\n"));
            let signed = PkiMessage::parse(&post[end..], &Limits::default())
                .and_then(|message| message.verify(&AwsLc, LegacyAlgorithms::Refuse))
                .unwrap();
            seen.insert(signed.transaction_id().clone());
        }
        assert_eq!(seen.len(), 3);
        let gets = pool.requests(&target(Transport::Get), 0, 1).unwrap();
        assert!(gets[0].starts_with(b"GET /scep?operation=PKIOperation&message="));
        assert!(gets[0].ends_with(b"\r\n\r\n"));
    }
}
