//! A SCEP message under construction: good, until something is changed.

use super::draft::Draft;
use super::world::{self, DEVICE, edit, key, oid, provider};
use super::{Book, Kind, Vector, message_envelope, message_good, message_signed};
use crate::keys::TestKey;
use scep_message::ContentEncryption;
use scep_types::tlv::{self, tag};
use scep_types::{
    CertificateDer, CryptoProvider, DigestAlgorithm, ObjectIdentifier, RsaPadding, SignatureScheme,
};
use sha2::Digest as _;

pub(super) const DATA: ObjectIdentifier = oid("1.2.840.113549.1.7.1");
pub(super) const SIGNED_DATA: ObjectIdentifier = oid("1.2.840.113549.1.7.2");
pub(super) const CONTENT_TYPE: ObjectIdentifier = oid("1.2.840.113549.1.9.3");
pub(super) const MESSAGE_DIGEST: ObjectIdentifier = oid("1.2.840.113549.1.9.4");
pub(super) const SIGNING_TIME: ObjectIdentifier = oid("1.2.840.113549.1.9.5");
pub(super) const MESSAGE_TYPE: ObjectIdentifier = oid("2.16.840.1.113733.1.9.2");
pub(super) const SENDER_NONCE: ObjectIdentifier = oid("2.16.840.1.113733.1.9.5");
pub(super) const TRANSACTION_ID: ObjectIdentifier = oid("2.16.840.1.113733.1.9.7");

/// What most vectors change one thing of.
pub(super) const BASE: &str = "good-rsa";

pub(super) fn vectors() -> Vec<Vector> {
    let mut book = Book::new(Kind::Message);
    message_good::add(&mut book);
    message_signed::add(&mut book);
    message_envelope::add(&mut book);
    book.vectors
}

/// The parts of a SignedData with one signer, each in DER, and how they are signed.
pub(super) struct Message {
    pub(super) signer: TestKey,
    pub(super) scheme: SignatureScheme,
    pub(super) version: Vec<u8>,
    /// What is in digestAlgorithms.
    pub(super) digest_algorithms: Vec<u8>,
    /// The eContent's octets.
    pub(super) content: Vec<u8>,
    pub(super) content_type: ObjectIdentifier,
    /// Instead of the encapContentInfo of the two above.
    pub(super) encapsulated: Option<Vec<u8>>,
    pub(super) certificates: Vec<Vec<u8>>,
    pub(super) signer_version: Vec<u8>,
    pub(super) sid: Vec<u8>,
    pub(super) digest_algorithm: Vec<u8>,
    pub(super) signature_algorithm: Vec<u8>,
    /// Type and values. messageDigest's value is computed unless there is one.
    pub(super) attributes: Vec<(ObjectIdentifier, Vec<Vec<u8>>)>,
    pub(super) order: Order,
}

/// In which order the signed attributes are sent, and signed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// DER's, both.
    Der,
    /// Sent in reverse, signed in DER's.
    SentReversed,
    /// In reverse, both.
    Reversed,
}

pub(super) fn attribute(oid: &ObjectIdentifier, values: &[Vec<u8>]) -> Vec<u8> {
    tlv::sequence(&[&tlv::oid(oid), &tlv::encode(tag::SET, &values.concat())])
}

pub(super) fn printable(text: &str) -> Vec<u8> {
    tlv::encode(tag::PRINTABLE_STRING, text.as_bytes())
}

/// issuerAndSerialNumber.
pub(super) fn issuer_and_serial(certificate: &CertificateDer) -> Vec<u8> {
    let serial = tlv::encode(tag::INTEGER, certificate.serial_content());
    tlv::sequence(&[certificate.issuer_der(), &serial])
}

pub(super) fn rsa_encryption() -> Vec<u8> {
    algorithm("1.2.840.113549.1.1.1")
}

/// An AlgorithmIdentifier with NULL parameters.
pub(super) fn algorithm(dotted: &str) -> Vec<u8> {
    tlv::sequence(&[&tlv::oid(&oid(dotted)), &[tag::NULL, 0]])
}

/// An AlgorithmIdentifier without parameters.
pub(super) fn bare(dotted: &str) -> Vec<u8> {
    tlv::sequence(&[&tlv::oid(&oid(dotted))])
}

fn digest(algorithm: DigestAlgorithm, octets: &[u8]) -> Vec<u8> {
    match algorithm {
        DigestAlgorithm::Sha1 => sha1::Sha1::digest(octets).to_vec(),
        DigestAlgorithm::Sha256 => sha2::Sha256::digest(octets).to_vec(),
        DigestAlgorithm::Sha384 => sha2::Sha384::digest(octets).to_vec(),
        DigestAlgorithm::Sha512 => sha2::Sha512::digest(octets).to_vec(),
    }
}

/// A good request of this device.
pub(super) fn request(base: &str, device: TestKey) -> Vec<u8> {
    Draft::new(base, device, world::claims()).der()
}

pub(super) fn envelope_of(base: &str, plaintext: &[u8]) -> Vec<u8> {
    sealed(base, RsaPadding::Pkcs1v15, ContentEncryption::Aes256Cbc, plaintext)
}

pub(super) fn sealed(
    base: &str,
    padding: RsaPadding,
    encryption: ContentEncryption,
    plaintext: &[u8],
) -> Vec<u8> {
    let ra = world::ra_certificate();
    scep_cms::seal(&provider(base), &[&ra], padding, encryption, plaintext).expect("an envelope")
}

/// The good envelope: RSAES-PKCS1-v1_5, AES-256-CBC.
pub(super) fn envelope() -> Vec<u8> {
    envelope_of(BASE, &request(BASE, DEVICE))
}

impl Message {
    /// A PKCSReq with this in its eContent.
    pub(super) fn new(base: &str, signer: TestKey, content: Vec<u8>) -> Self {
        let scheme = SignatureScheme::default_for(signer.algorithm());
        let certificate = world::device_certificate(signer);
        let mut nonce = [0; 16];
        // Not the provider of the envelope: it starts anew.
        provider(&format!("{base}, senderNonce")).random(&mut nonce).expect("randomness");
        let rsa = signer.public_key().rsa().is_some();
        Self {
            signer,
            scheme,
            version: tlv::small_int(1),
            digest_algorithms: bare("2.16.840.1.101.3.4.2.1"),
            content,
            content_type: DATA,
            encapsulated: None,
            signer_version: tlv::small_int(1),
            sid: issuer_and_serial(&certificate),
            certificates: vec![certificate.as_der().to_vec()],
            digest_algorithm: bare("2.16.840.1.101.3.4.2.1"),
            signature_algorithm: if rsa { rsa_encryption() } else { scheme.algorithm_der() },
            attributes: vec![
                (CONTENT_TYPE, vec![tlv::oid(&DATA)]),
                (MESSAGE_DIGEST, Vec::new()),
                (MESSAGE_TYPE, vec![printable("19")]),
                (SENDER_NONCE, vec![tlv::encode(tag::OCTET_STRING, &nonce)]),
                (TRANSACTION_ID, vec![printable("4F8E2AB0C1D3")]),
            ],
            order: Order::Der,
        }
    }

    /// The good one of most vectors.
    pub(super) fn good() -> Self {
        Self::new(BASE, DEVICE, envelope())
    }

    /// The good one with a change in its envelope.
    pub(super) fn enveloping(path: &[usize], change: &dyn Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        Self::new(BASE, DEVICE, edit(&envelope(), path, change)).der()
    }

    fn attribute_values(&self, oid: &ObjectIdentifier, values: &[Vec<u8>]) -> Vec<u8> {
        if *oid == MESSAGE_DIGEST && values.is_empty() {
            let digest = digest(self.scheme.digest(), &self.content);
            return attribute(oid, &[tlv::encode(tag::OCTET_STRING, &digest)]);
        }
        attribute(oid, values)
    }

    /// What is sent, as SET OF.
    fn attribute_list(&self) -> Vec<Vec<u8>> {
        let each = self.attributes.iter().map(|(oid, values)| self.attribute_values(oid, values));
        let mut all: Vec<Vec<u8>> = each.collect();
        all.sort();
        all
    }

    /// The one SignerInfo, signed.
    pub(super) fn signer_info(&self) -> Vec<u8> {
        let sorted = self.attribute_list().concat();
        let reversed: Vec<u8> = self.attribute_list().into_iter().rev().flatten().collect();
        let (sent, signed) = match self.order {
            Order::Der => (&sorted, &sorted),
            Order::SentReversed => (&reversed, &sorted),
            Order::Reversed => (&reversed, &reversed),
        };
        let signer = if self.scheme == SignatureScheme::RsaPkcs1Sha1 {
            scep_keys::danger::sha1_signer(&key(self.signer)).expect("an RSA key")
        } else {
            key(self.signer).signer()
        };
        let octets = tlv::encode(tag::SET, signed);
        let signature = signer.sign(self.scheme, &octets).expect("a signature");
        tlv::sequence(&[
            &self.signer_version,
            &self.sid,
            &self.digest_algorithm,
            &tlv::encode(tag::context_constructed(0), sent),
            &self.signature_algorithm,
            &tlv::encode(tag::OCTET_STRING, &signature),
        ])
    }

    pub(super) fn der(&self) -> Vec<u8> {
        let content = tlv::encode(tag::OCTET_STRING, &self.content);
        let content = tlv::encode(tag::context_constructed(0), &content);
        let encapsulated = self
            .encapsulated
            .clone()
            .unwrap_or_else(|| tlv::sequence(&[&tlv::oid(&self.content_type), &content]));
        let certificates = if self.certificates.is_empty() {
            Vec::new()
        } else {
            tlv::encode(tag::context_constructed(0), &self.certificates.concat())
        };
        let signed = tlv::sequence(&[
            &self.version,
            &tlv::encode(tag::SET, &self.digest_algorithms),
            &encapsulated,
            &certificates,
            &tlv::encode(tag::SET, &self.signer_info()),
        ]);
        content_info(&SIGNED_DATA, &signed)
    }

    /// Another digest, named in both places, and the scheme that goes with it.
    pub(super) fn digest(&mut self, algorithm: &[u8], scheme: SignatureScheme) {
        self.scheme = scheme;
        self.digest_algorithm = algorithm.to_vec();
        self.digest_algorithms = algorithm.to_vec();
    }

    /// Other values of an attribute.
    pub(super) fn set(&mut self, oid: ObjectIdentifier, values: Vec<Vec<u8>>) {
        self.attributes.retain(|(other, _)| *other != oid);
        self.attributes.push((oid, values));
    }

    pub(super) fn remove(&mut self, oid: ObjectIdentifier) {
        self.attributes.retain(|(other, _)| *other != oid);
    }
}

pub(super) fn content_info(content_type: &ObjectIdentifier, content: &[u8]) -> Vec<u8> {
    let explicit = tlv::encode(tag::context_constructed(0), content);
    tlv::sequence(&[&tlv::oid(content_type), &explicit])
}

/// The good one with one change.
pub(super) fn changed(change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = Message::good();
    change(&mut message);
    message.der()
}
