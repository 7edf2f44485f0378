//! pkiMessages that are nearly right.

use crate::csr::{Attribute, MadeCsr, Oid, Text, name, oid};
use crate::tree::{Change, Encoding};
use arbitrary::Arbitrary;
use core::time::Duration;
use openssl::hash::{MessageDigest, hash};
use scep_message::{ContentEncryption, RaIdentity};
use scep_testkit::device::{TestExtension, self_signed};
use scep_testkit::house::OPENS;
use scep_testkit::{NoOpSigner, TestKey};
use scep_types::tlv::{self, Reader, tag};
use scep_types::{
    CertificateDer, CryptoProvider, OaepHash, ObjectIdentifier, RsaPadding, SignatureScheme, Signer,
};
use std::sync::Arc;

/// A message: right in its form, whatever it asks for, but for one change in it and one in its envelope.
#[derive(Arbitrary, Debug)]
pub struct MadeMessage {
    ec: bool,
    kind: Kind,
    kind_as: NumberAs,
    transaction: Transaction,
    nonce: Option<[u8; 16]>,
    attributes: Vec<(Oid, Value)>,
    order: Order,
    sid: Sid,
    certificates: Vec<Certificate>,
    device_last: bool,
    crls: Vec<Vec<u8>>,
    unsigned: Vec<(Oid, Value)>,
    digest: u8,
    plain_rsa: bool,
    envelope: Envelope,
    change: Option<Change>,
    encoding: Encoding,
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    PkcsReq,
    RenewalReq,
    CertPoll,
    GetCert,
    GetCrl,
    Other(u8),
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum NumberAs {
    Printable,
    Utf8,
    Integer,
}

#[derive(Arbitrary, Debug)]
enum Transaction {
    Usual,
    Text(Text),
}

#[derive(Arbitrary, Debug)]
enum Value {
    Text(Text),
    Octets(Vec<u8>),
    Time(bool, u32),
    Raw(Vec<u8>),
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Der,
    Reversed,
    /// Signed in DER order, sent in another.
    ReversedAfterwards,
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum Sid {
    IssuerSerial,
    KeyId,
    OtherSerial(u8),
}

#[derive(Arbitrary, Debug)]
enum Certificate {
    Device,
    OtherDevice,
    Ra,
    Changed(Change),
    Kind(u8, Vec<u8>),
}

#[derive(Arbitrary, Debug)]
struct Envelope {
    plaintext: Plaintext,
    cipher: u8,
    padding: u8,
    version: u8,
    recipients: Vec<Rid>,
    unprotected: Option<Vec<u8>>,
    change: Option<Change>,
    encoding: Encoding,
}

#[derive(Arbitrary, Debug)]
enum Plaintext {
    Csr(MadeCsr),
    Names(Vec<Vec<Attribute>>, Vec<Vec<Attribute>>),
    IssuerSerial(Vec<Vec<Attribute>>, Vec<u8>),
    Octets(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Rid {
    Ours,
    OursByKeyId,
    OursBySerialAlone(Vec<Vec<Attribute>>),
    Other,
    Agreement(Vec<u8>),
    Password(Vec<u8>),
    Kind(u8, Vec<u8>),
}

/// A device: what it signs with, and the certificates with its key.
struct Device {
    key: TestKey,
    certificate: CertificateDer,
}

/// Whom messages are made by and for.
pub struct World {
    rsa: Device,
    ec: Device,
    ra: RaIdentity,
    provider: Arc<dyn CryptoProvider>,
    /// Whether signatures and envelopes are true ones.
    real: bool,
}

/// A message, and what is in its envelope.
pub struct Made {
    /// Its encoding.
    pub message: Vec<u8>,
    /// What was encrypted.
    pub plaintext: Vec<u8>,
    /// Whether it must be read and opened: nothing in it is of a kind that anybody refuses.
    pub right: bool,
}

fn device(key: TestKey) -> Device {
    let year = Duration::from_secs(365 * 86_400);
    let id = tlv::encode(tag::OCTET_STRING, key.public_key().key_id().as_bytes());
    let key_id = TestExtension {
        oid: ObjectIdentifier::new_unwrap("2.5.29.14"),
        critical: false,
        value: id,
    };
    let certificate = self_signed(
        &key.key(),
        &"O=Example, CN=device".parse().expect("a name"),
        OPENS.minus(year),
        OPENS.plus(year),
        &[TestExtension::key_usage(), key_id],
    );
    Device { key, certificate }
}

impl World {
    /// Whose keys are real when `real` says so.
    #[must_use]
    pub fn new(ra: RaIdentity, provider: Arc<dyn CryptoProvider>, real: bool) -> Self {
        Self { rsa: device(TestKey::RsaC), ec: device(TestKey::P256D), ra, provider, real }
    }

    /// The RA.
    #[must_use]
    pub const fn ra(&self) -> &RaIdentity {
        &self.ra
    }

    /// Its provider.
    #[must_use]
    pub fn provider(&self) -> &dyn CryptoProvider {
        &*self.provider
    }

    fn sign(&self, device: &Device, scheme: SignatureScheme, octets: &[u8]) -> Vec<u8> {
        let signer: Arc<dyn Signer> = if self.real {
            device.key.signer()
        } else {
            Arc::new(NoOpSigner::new(device.key.public_key()))
        };
        signer.sign(scheme, octets).unwrap_or_default()
    }
}

fn attribute(oid: &[u8], value: &[u8]) -> Vec<u8> {
    tlv::sequence(&[oid, &tlv::encode(tag::SET, value)])
}

fn content_info(content_type: &str, content: &[u8]) -> Vec<u8> {
    tlv::sequence(&[&oid(content_type), &tlv::encode(tag::context_constructed(0), content)])
}

impl Value {
    fn der(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.der(),
            Self::Octets(octets) => tlv::encode(tag::OCTET_STRING, octets),
            Self::Time(true, seconds) => {
                tlv::time(scep_types::Timestamp::from_seconds(i64::from(*seconds)))
            }
            Self::Time(false, n) => {
                let text = format!("20{:02}{:02}15{:06}Z", n % 100, n / 100 % 14, n % 240_000);
                tlv::encode(tag::GENERALIZED_TIME, text.as_bytes())
            }
            Self::Raw(octets) => octets.clone(),
        }
    }
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::PkcsReq => 19,
            Self::RenewalReq => 17,
            Self::CertPoll => 20,
            Self::GetCert => 21,
            Self::GetCrl => 22,
            Self::Other(n) => n,
        }
    }
}

impl Plaintext {
    fn der(&self) -> Vec<u8> {
        match self {
            Self::Csr(csr) => csr.der(),
            Self::Names(issuer, subject) => tlv::sequence(&[&name(issuer), &name(subject)]),
            Self::IssuerSerial(issuer, serial) => {
                tlv::sequence(&[&name(issuer), &tlv::encode(tag::INTEGER, serial)])
            }
            Self::Octets(octets) => octets.clone(),
        }
    }
}

impl Envelope {
    fn der(&self, world: &World, plaintext: &[u8]) -> Vec<u8> {
        use ContentEncryption as C;
        let ciphers = [C::Aes128Cbc, C::Aes192Cbc, C::Aes256Cbc, C::DesEde3Cbc];
        let cipher = ciphers[usize::from(self.cipher) % ciphers.len()];
        let paddings = [
            RsaPadding::Pkcs1v15,
            RsaPadding::Oaep(OaepHash::Sha1),
            RsaPadding::Oaep(OaepHash::Sha256),
        ];
        let padding = paddings[usize::from(self.padding) % paddings.len()];
        let ours = &world.ra.recipients[0].certificate;
        let sealed = scep_cms::seal(&*world.provider, &[ours], padding, cipher, plaintext);
        let Ok(sealed) = sealed else { return Vec::new() };
        // version, recipientInfos, encryptedContentInfo
        let parts = Reader::new(&sealed).only(tag::SEQUENCE).expect("a ContentInfo");
        let mut info = parts.reader();
        let _ = info.any();
        let explicit = info.any().expect("its content");
        let mut enveloped = explicit.reader().any().expect("an EnvelopedData").reader();
        let _ = enveloped.any();
        let set = enveloped.any().expect("recipients");
        let content = enveloped.any().expect("a content");
        let mut transport = set.reader().any().expect("a recipient").reader();
        let _ = (transport.any(), transport.any());
        let algorithm = transport.any().expect("an algorithm").raw;
        let key = transport.any().expect("a key").raw;

        let serial = tlv::encode(tag::INTEGER, ours.serial_content());
        let by =
            |version, rid: &[u8]| tlv::sequence(&[&tlv::small_int(version), rid, algorithm, key]);
        let recipient = |rid: &Rid| match rid {
            Rid::Ours => by(0, &tlv::sequence(&[ours.issuer_der(), &serial])),
            Rid::OursByKeyId => {
                let id = ours.subject_key_id().unwrap_or_default();
                by(2, &tlv::encode(tag::context(0), id))
            }
            Rid::OursBySerialAlone(issuer) => by(0, &tlv::sequence(&[&name(issuer), &serial])),
            Rid::Other => by(0, &tlv::sequence(&[ours.issuer_der(), &tlv::small_int(7)])),
            Rid::Agreement(octets) => tlv::encode(0xa1, octets),
            Rid::Password(octets) => tlv::encode(0xa3, octets),
            Rid::Kind(kind, octets) => tlv::encode(*kind, octets),
        };
        let ours_alone = [Rid::Ours];
        let all = if self.recipients.is_empty() { &ours_alone[..] } else { &self.recipients };
        let infos = tlv::encode(tag::SET, &all.iter().flat_map(recipient).collect::<Vec<u8>>());
        let unprotected = self.unprotected.as_ref();
        let unprotected = unprotected.map(|a| tlv::encode(tag::context_constructed(1), a));
        let enveloped = tlv::sequence(&[
            &tlv::small_int(u64::from(self.version % 6)),
            &infos,
            content.raw,
            unprotected.as_deref().unwrap_or_default(),
        ]);
        let der = content_info("1.2.840.113549.1.7.3", &enveloped);
        let der = self.change.as_ref().map_or(der.clone(), |change| change.apply(&der));
        self.encoding.apply(&der)
    }

    fn is_right(&self) -> bool {
        self.change.is_none()
            && self.version % 6 < 5
            && self.cipher % 4 < 3
            && self.unprotected.is_none()
            && matches!(self.recipients[..], [] | [Rid::Ours])
            && self.encoding == Encoding::Der
    }
}

impl MadeMessage {
    /// Makes it.
    #[must_use]
    pub fn make(&self, world: &World) -> Made {
        let device = if self.ec { &world.ec } else { &world.rsa };
        let other = if self.ec { &world.rsa } else { &world.ec };
        let plaintext = self.envelope.plaintext.der();
        let envelope = self.envelope.der(world, &plaintext);

        let (digest, digest_oid, scheme) = self.algorithms();
        let digest_algorithm = tlv::sequence(&[&oid(digest_oid), &[tag::NULL, 0]]);
        let digest = hash(digest, &envelope).expect("a digest").to_vec();
        let mut attributes = vec![
            attribute(&oid("1.2.840.113549.1.9.3"), &oid("1.2.840.113549.1.7.1")),
            attribute(&oid("1.2.840.113549.1.9.4"), &tlv::encode(tag::OCTET_STRING, &digest)),
            attribute(&oid("2.16.840.1.113733.1.9.7"), &self.transaction()),
            attribute(&oid("2.16.840.1.113733.1.9.2"), &self.kind()),
        ];
        if let Some(nonce) = &self.nonce {
            let value = tlv::encode(tag::OCTET_STRING, nonce);
            attributes.push(attribute(&oid("2.16.840.1.113733.1.9.5"), &value));
        }
        attributes.extend(self.attributes.iter().map(|(oid, v)| attribute(&oid.der(), &v.der())));
        attributes.sort();
        let mut sent = attributes.clone();
        if self.order != Order::Der {
            sent.reverse();
        }
        let signed = if self.order == Order::ReversedAfterwards { &attributes } else { &sent };
        let signature = world.sign(device, scheme, &tlv::encode(tag::SET, &signed.concat()));

        let serial = match self.sid {
            Sid::OtherSerial(n) => tlv::small_int(u64::from(n)),
            _ => tlv::encode(tag::INTEGER, device.certificate.serial_content()),
        };
        let (version, sid) = match self.sid {
            Sid::KeyId => {
                let id = device.certificate.spki().key_id();
                (3, tlv::encode(tag::context(0), id.as_bytes()))
            }
            _ => (1, tlv::sequence(&[device.certificate.issuer_der(), &serial])),
        };
        let signature_algorithm = if self.ec || !self.plain_rsa {
            scheme.algorithm_der()
        } else {
            tlv::sequence(&[&oid("1.2.840.113549.1.1.1"), &[tag::NULL, 0]])
        };
        let unsigned: Vec<u8> =
            self.unsigned.iter().flat_map(|(oid, v)| attribute(&oid.der(), &v.der())).collect();
        let unsigned = tlv::encode(tag::context_constructed(1), &unsigned);
        let signer_info = tlv::sequence(&[
            &tlv::small_int(version),
            &sid,
            &digest_algorithm,
            &tlv::encode(tag::context_constructed(0), &sent.concat()),
            &signature_algorithm,
            &tlv::encode(tag::OCTET_STRING, &signature),
            if self.unsigned.is_empty() { &[] } else { &unsigned },
        ]);

        let more = |certificate: &Certificate| match certificate {
            Certificate::Device => device.certificate.as_der().to_vec(),
            Certificate::OtherDevice => other.certificate.as_der().to_vec(),
            Certificate::Ra => world.ra.signing_certificate.as_der().to_vec(),
            Certificate::Changed(change) => change.apply(device.certificate.as_der()),
            Certificate::Kind(kind, octets) => tlv::encode(*kind, octets),
        };
        let mut certificates: Vec<Vec<u8>> = self.certificates.iter().map(more).collect();
        let place = if self.device_last { certificates.len() } else { 0 };
        certificates.insert(place, device.certificate.as_der().to_vec());
        let crls: Vec<u8> =
            self.crls.iter().flat_map(|crl| tlv::encode(tag::SEQUENCE, crl)).collect();
        let crls = tlv::encode(tag::context_constructed(1), &crls);
        let encapsulated = tlv::sequence(&[
            &oid("1.2.840.113549.1.7.1"),
            &tlv::encode(tag::context_constructed(0), &tlv::encode(tag::OCTET_STRING, &envelope)),
        ]);
        let signed_data = tlv::sequence(&[
            &tlv::small_int(1),
            &tlv::encode(tag::SET, &digest_algorithm),
            &encapsulated,
            &tlv::encode(tag::context_constructed(0), &certificates.concat()),
            if self.crls.is_empty() { &[] } else { &crls },
            &tlv::encode(tag::SET, &signer_info),
        ]);
        let der = content_info("1.2.840.113549.1.7.2", &signed_data);
        let der = self.change.as_ref().map_or(der.clone(), |change| change.apply(&der));
        let message = self.encoding.apply(&der);
        Made { message, right: self.is_right(&plaintext), plaintext }
    }

    fn algorithms(&self) -> (MessageDigest, &'static str, SignatureScheme) {
        use SignatureScheme as S;
        let (sha256, sha384, sha512) =
            (MessageDigest::sha256(), MessageDigest::sha384(), MessageDigest::sha512());
        match (self.digest % 3, self.ec) {
            (0, false) => (sha256, "2.16.840.1.101.3.4.2.1", S::RsaPkcs1Sha256),
            (1, false) => (sha384, "2.16.840.1.101.3.4.2.2", S::RsaPkcs1Sha384),
            (_, false) => (sha512, "2.16.840.1.101.3.4.2.3", S::RsaPkcs1Sha512),
            (0, true) => (sha256, "2.16.840.1.101.3.4.2.1", S::EcdsaSha256),
            (1, true) => (sha384, "2.16.840.1.101.3.4.2.2", S::EcdsaSha384),
            (_, true) => (sha512, "2.16.840.1.101.3.4.2.3", S::EcdsaSha512),
        }
    }

    fn transaction(&self) -> Vec<u8> {
        match &self.transaction {
            Transaction::Usual => tlv::encode(tag::PRINTABLE_STRING, b"0123456789ABCDEF"),
            Transaction::Text(text) => text.der(),
        }
    }

    fn kind(&self) -> Vec<u8> {
        let number = self.kind.number();
        match self.kind_as {
            NumberAs::Printable => {
                tlv::encode(tag::PRINTABLE_STRING, number.to_string().as_bytes())
            }
            NumberAs::Utf8 => tlv::encode(tag::UTF8_STRING, number.to_string().as_bytes()),
            NumberAs::Integer => tlv::small_int(u64::from(number)),
        }
    }

    fn is_right(&self, plaintext: &[u8]) -> bool {
        self.change.is_none()
            && self.envelope.is_right()
            && matches!(self.kind, Kind::PkcsReq | Kind::RenewalReq)
            && matches!(self.transaction, Transaction::Usual)
            && matches!(self.sid, Sid::IssuerSerial | Sid::KeyId)
            && self.attributes.is_empty()
            && self.certificates.iter().all(|c| matches!(c, Certificate::Device | Certificate::Ra))
            && self.certificates.len() < 9
            && self.crls.is_empty()
            && self.unsigned.is_empty()
            && self.encoding == Encoding::Der
            && plaintext.len() < 100_000
            && Reader::new(plaintext).only(tag::SEQUENCE).is_ok()
    }
}
