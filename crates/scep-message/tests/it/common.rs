//! Parties with real keys, and messages built by hand so that one thing in them can be wrong.

use scep_cms::{ContentEncryption, LegacyAlgorithms, Limits, Recipient};
use scep_keys::{AwsLc, SoftwareKey};
use scep_message::client::{Ask, Identity};
use scep_message::{MessageType, PkiMessage, RaIdentity, SignedRequest};
use scep_types::tlv::{self, Reader, tag};
use scep_types::{
    CertificateDer, DecryptionKey, KeyAlgorithm, KeyError, Nonce, ObjectIdentifier,
    ReleasedCertificate, RsaDecryptionKey, RsaPadding, Secret, SignatureScheme, SpkiDer,
    TransactionId,
};
use sha2::Digest as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

pub(crate) const TRANSACTION_ID: &str = "2.16.840.1.113733.1.9.7";
pub(crate) const MESSAGE_TYPE: &str = "2.16.840.1.113733.1.9.2";
pub(crate) const PKI_STATUS: &str = "2.16.840.1.113733.1.9.3";
pub(crate) const FAIL_INFO: &str = "2.16.840.1.113733.1.9.4";
pub(crate) const SENDER_NONCE: &str = "2.16.840.1.113733.1.9.5";
pub(crate) const RECIPIENT_NONCE: &str = "2.16.840.1.113733.1.9.6";
pub(crate) const FAIL_INFO_TEXT: &str = "1.3.6.1.5.5.7.24.1";
pub(crate) const SIGNING_TIME: &str = "1.2.840.113549.1.9.5";
pub(crate) const CHALLENGE_PASSWORD: &str = "1.2.840.113549.1.9.7";
pub(crate) const CONTENT_TYPE: &str = "1.2.840.113549.1.9.3";
pub(crate) const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
pub(crate) const DATA: &str = "1.2.840.113549.1.7.1";
pub(crate) const SIGNED_DATA: &str = "1.2.840.113549.1.7.2";
pub(crate) const ENVELOPED_DATA: &str = "1.2.840.113549.1.7.3";
pub(crate) const SHA256: &str = "2.16.840.1.101.3.4.2.1";
pub(crate) const SHA1: &str = "1.3.14.3.2.26";
pub(crate) const MD5: &str = "1.2.840.113549.2.5";
pub(crate) const RSA: &str = "1.2.840.113549.1.1.1";
pub(crate) const SHA256_RSA: &str = "1.2.840.113549.1.1.11";

pub(crate) fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

pub(crate) fn name(common_name: &str) -> Vec<u8> {
    let value = tlv::encode(tag::UTF8_STRING, common_name.as_bytes());
    let pair = tlv::sequence(&[&tlv::oid(&oid("2.5.4.3")), &value]);
    tlv::sequence(&[&tlv::encode(tag::SET, &pair)])
}

/// A key with a certificate.
#[derive(Debug)]
pub(crate) struct Party {
    pub(crate) key: SoftwareKey,
    pub(crate) certificate: CertificateDer,
}

impl Party {
    fn new(common_name: &str, algorithm: KeyAlgorithm, serial: &[u8]) -> Self {
        let key = SoftwareKey::generate(algorithm).unwrap();
        let certificate = self_signed(common_name, serial, &key, true);
        Self { key, certificate }
    }

    pub(crate) fn identity<'a>(&'a self, signer: &'a dyn scep_types::Signer) -> Identity<'a> {
        Identity { certificate: &self.certificate, signer }
    }

    pub(crate) fn recipient(&self) -> Recipient {
        Recipient { certificate: self.certificate.clone(), key: self.key.decryption().unwrap() }
    }
}

/// A certificate with or without extensions, self-signed.
pub(crate) fn self_signed(
    common_name: &str,
    serial: &[u8],
    key: &SoftwareKey,
    with_key_id: bool,
) -> CertificateDer {
    let algorithm = match key.public_key().algorithm() {
        KeyAlgorithm::Rsa(_) => tlv::sequence(&[&tlv::oid(&oid(SHA256_RSA)), &[tag::NULL, 0]]),
        _ => tlv::sequence(&[&tlv::oid(&oid("1.2.840.10045.4.3.2"))]),
    };
    let scheme = match key.public_key().algorithm() {
        KeyAlgorithm::Rsa(_) => SignatureScheme::RsaPkcs1Sha256,
        _ => SignatureScheme::EcdsaSha256,
    };
    let time = tlv::encode(tag::UTC_TIME, b"260101000000Z");
    let end = tlv::encode(tag::UTC_TIME, b"460101000000Z");
    let key_id = tlv::encode(tag::OCTET_STRING, key.public_key().key_id().as_bytes());
    let extension =
        tlv::sequence(&[&tlv::oid(&oid("2.5.29.14")), &tlv::encode(tag::OCTET_STRING, &key_id)]);
    let extensions = tlv::encode(tag::context_constructed(3), &tlv::sequence(&[&extension]));
    let version = tlv::encode(tag::context_constructed(0), &[2, 1, 2]);
    let tbs = tlv::sequence(&[
        if with_key_id { &version } else { &[] },
        &tlv::encode(tag::INTEGER, serial),
        &algorithm,
        &name(common_name),
        &tlv::sequence(&[&time, &end]),
        &name(common_name),
        key.public_key().as_der(),
        if with_key_id { &extensions } else { &[] },
    ]);
    let signature = key.signer().sign(scheme, &tbs).unwrap();
    let der = tlv::sequence(&[&tbs, &algorithm, &tlv::whole_bits(&signature)]);
    CertificateDer::parse(&der).unwrap()
}

macro_rules! parties {
    ($($(#[$doc:meta])* $function:ident = $name:literal, $algorithm:expr, $serial:expr;)*) => {
        $($(#[$doc])* pub(crate) fn $function() -> &'static Party {
            static PARTY: OnceLock<Party> = OnceLock::new();
            PARTY.get_or_init(|| Party::new($name, $algorithm, &$serial))
        })*
    };
}

parties! {
    /// The RA: signs and decrypts.
    ra_party = "RA", KeyAlgorithm::Rsa(2048), [1];
    /// A device with an RSA key.
    device = "device", KeyAlgorithm::Rsa(2048), [2];
    /// Another device.
    other = "other", KeyAlgorithm::Rsa(2048), [3];
    /// A device with an EC key.
    ec_device = "ec", KeyAlgorithm::P256, [4];
    /// Another, on the larger curve.
    ec384_device = "ec384", KeyAlgorithm::P384, [6];
    /// An RA that signs with an EC key.
    ec_ra = "EC RA", KeyAlgorithm::P384, [5];
}

/// Counts the private-key operations of the RA.
#[derive(Debug)]
pub(crate) struct Counted {
    key: Arc<dyn RsaDecryptionKey>,
    pub(crate) operations: AtomicUsize,
}

impl Counted {
    pub(crate) fn count(&self) -> usize {
        self.operations.load(Ordering::SeqCst)
    }
}

impl RsaDecryptionKey for Counted {
    fn public_key(&self) -> &SpkiDer {
        self.key.public_key()
    }
    fn decrypt_key(
        &self,
        padding: RsaPadding,
        ciphertext: &[u8],
        key: &mut Secret<Vec<u8>>,
    ) -> Result<(), KeyError> {
        self.operations.fetch_add(1, Ordering::SeqCst);
        self.key.decrypt_key(padding, ciphertext, key)
    }
}

pub(crate) fn ra() -> RaIdentity {
    counted_ra().0
}

pub(crate) fn counted_ra() -> (RaIdentity, Arc<Counted>) {
    let party = ra_party();
    let DecryptionKey::Rsa(key) = party.key.decryption().unwrap() else { panic!("RSA") };
    let counted = Arc::new(Counted { key, operations: AtomicUsize::new(0) });
    let recipient = Recipient {
        certificate: party.certificate.clone(),
        key: DecryptionKey::Rsa(counted.clone()),
    };
    let ra = RaIdentity {
        signing_certificate: party.certificate.clone(),
        signing_key: party.key.signer(),
        recipients: vec![recipient],
    };
    (ra, counted)
}

/// An RA that signs with SHA-1 where it must.
pub(crate) fn legacy_ra() -> RaIdentity {
    let signing_key = scep_keys::danger::sha1_signer(&ra_party().key).unwrap();
    RaIdentity { signing_key, ..ra() }
}

pub(crate) fn transaction() -> TransactionId {
    TransactionId::new("4F8E2AB0").unwrap()
}

/// What stands for a PKCS #10 request: a SEQUENCE, which is all that is looked at here.
pub(crate) fn csr() -> Vec<u8> {
    tlv::sequence(&[&tlv::small_int(0), &name("device")])
}

pub(crate) const fn ask<'a>(
    message_type: MessageType,
    transaction_id: &'a TransactionId,
    data: &'a [u8],
    recipient: &'a CertificateDer,
) -> Ask<'a> {
    Ask {
        message_type,
        transaction_id,
        data,
        recipient,
        padding: RsaPadding::Pkcs1v15,
        encryption: ContentEncryption::Aes128Cbc,
        scheme: SignatureScheme::RsaPkcs1Sha256,
    }
}

/// A request of the device, and its nonce.
pub(crate) fn request(message_type: MessageType, data: &[u8]) -> (Vec<u8>, Nonce) {
    let id = transaction();
    let ask = ask(message_type, &id, data, &ra_party().certificate);
    let signer = device().key.signer();
    scep_message::client::request(&ask, &device().identity(&*signer), &AwsLc).unwrap()
}

pub(crate) fn verify(bytes: &[u8]) -> Result<SignedRequest, scep_message::MessageError> {
    PkiMessage::parse(bytes, &Limits::default())?.verify(&AwsLc, LegacyAlgorithms::Refuse)
}

/// A certificate on record.
pub(crate) struct Released(pub CertificateDer);

impl ReleasedCertificate for Released {
    fn certificate(&self) -> &CertificateDer {
        &self.0
    }
}

/// Envelope of the RA around `plaintext`.
pub(crate) fn envelope(plaintext: &[u8]) -> Vec<u8> {
    scep_cms::seal(
        &AwsLc,
        &[&ra_party().certificate],
        RsaPadding::Pkcs1v15,
        ContentEncryption::Aes128Cbc,
        plaintext,
    )
    .unwrap()
}

/// A message of this messageType around this content, signed by the party's key whatever it is. Its nonce is sixteen 7.
pub(crate) fn signed_by(party: &Party, message_type: &str, content: &[u8]) -> Vec<u8> {
    let what = scep_cms::ToSign {
        content_type: oid(DATA),
        content,
        attributes: &[
            (oid(TRANSACTION_ID), printable(transaction().as_str())),
            (oid(MESSAGE_TYPE), printable(message_type)),
            (oid(SENDER_NONCE), tlv::encode(tag::OCTET_STRING, &[7; 16])),
        ],
        certificates: &[],
        signer_id: scep_cms::SignerId::Certificate(&party.certificate),
        scheme: SignatureScheme::default_for(party.key.public_key().algorithm()),
    };
    scep_cms::sign(&*party.key.signer(), &what).unwrap()
}

pub(crate) fn printable(text: &str) -> Vec<u8> {
    tlv::encode(tag::PRINTABLE_STRING, text.as_bytes())
}

pub(crate) fn attribute(kind: &str, values: &[Vec<u8>]) -> Vec<u8> {
    tlv::sequence(&[&tlv::oid(&oid(kind)), &tlv::encode(tag::SET, &values.concat())])
}

/// In which order the signed attributes are sent. They are signed in DER order.
#[derive(Clone, Copy)]
pub(crate) enum Order {
    Der,
    AsListed,
}

/// A pkiMessage by hand, good until something in it is changed.
#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) content_type: ObjectIdentifier,
    /// What the contentType attribute says.
    pub(crate) content_type_attribute: ObjectIdentifier,
    pub(crate) content: Option<Vec<u8>>,
    /// Other signed attributes than contentType and messageDigest.
    pub(crate) attributes: Vec<Vec<u8>>,
    pub(crate) certificates: Vec<CertificateDer>,
    pub(crate) digest: &'static str,
    pub(crate) signature: &'static str,
    pub(crate) order: Order,
}

impl Message {
    pub(crate) fn good() -> Self {
        Self::with(&[
            (TRANSACTION_ID, printable("4F8E2AB0")),
            (MESSAGE_TYPE, printable("19")),
            (SENDER_NONCE, tlv::encode(tag::OCTET_STRING, &[7; 16])),
        ])
    }

    pub(crate) fn with(attributes: &[(&str, Vec<u8>)]) -> Self {
        Self {
            content_type: oid(DATA),
            content_type_attribute: oid(DATA),
            content: Some(envelope(&csr())),
            attributes: attributes
                .iter()
                .map(|(kind, value)| attribute(kind, std::slice::from_ref(value)))
                .collect(),
            certificates: vec![device().certificate.clone()],
            digest: SHA256,
            signature: RSA,
            order: Order::Der,
        }
    }

    /// Replaces (or adds) the attribute of this type.
    pub(crate) fn set(mut self, kind: &str, value: Vec<u8>) -> Self {
        self = self.without(kind);
        self.attributes.push(attribute(kind, &[value]));
        self
    }

    pub(crate) fn without(mut self, kind: &str) -> Self {
        let prefix = tlv::oid(&oid(kind));
        self.attributes.retain(|attribute| {
            !Reader::new(attribute).only(tag::SEQUENCE).unwrap().value.starts_with(&prefix)
        });
        self
    }

    /// The SignerInfo of the device's key.
    pub(crate) fn signer_info(&self) -> Vec<u8> {
        let content = self.content.clone().unwrap_or_default();
        let digest = match self.digest {
            SHA1 => sha1::Sha1::digest(&content).to_vec(),
            _ => sha2::Sha256::digest(&content).to_vec(),
        };
        let mut attributes = self.attributes.clone();
        attributes.push(attribute(CONTENT_TYPE, &[tlv::oid(&self.content_type_attribute)]));
        attributes.push(attribute(MESSAGE_DIGEST, &[tlv::encode(tag::OCTET_STRING, &digest)]));
        let signed = tlv::set_of(attributes.clone());
        let scheme = match self.digest {
            SHA1 => SignatureScheme::RsaPkcs1Sha1,
            _ => SignatureScheme::RsaPkcs1Sha256,
        };
        let signature =
            scep_keys::danger::sha1_signer(&device().key).unwrap().sign(scheme, &signed).unwrap();
        let contents = match self.order {
            Order::Der => Reader::new(&signed).only(tag::SET).unwrap().value.to_vec(),
            Order::AsListed => attributes.concat(),
        };
        let certificate = &device().certificate;
        let serial = tlv::encode(tag::INTEGER, certificate.serial_content());
        tlv::sequence(&[
            &tlv::small_int(1),
            &tlv::sequence(&[certificate.issuer_der(), &serial]),
            &self.digest_algorithm(),
            &tlv::encode(tag::context_constructed(0), &contents),
            &tlv::sequence(&[&tlv::oid(&oid(self.signature)), &[tag::NULL, 0]]),
            &tlv::encode(tag::OCTET_STRING, &signature),
        ])
    }

    fn digest_algorithm(&self) -> Vec<u8> {
        tlv::sequence(&[&tlv::oid(&oid(self.digest)), &[tag::NULL, 0]])
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        self.encode_with(&self.signer_info())
    }

    /// With these SignerInfos, in whatever number.
    pub(crate) fn encode_with(&self, signer_infos: &[u8]) -> Vec<u8> {
        let content = self.content.as_ref().map_or_else(Vec::new, |content| {
            let octets = tlv::encode(tag::OCTET_STRING, content);
            tlv::encode(tag::context_constructed(0), &octets)
        });
        let certificates: Vec<&[u8]> =
            self.certificates.iter().map(CertificateDer::as_der).collect();
        let signed = tlv::sequence(&[
            &tlv::small_int(1),
            &tlv::encode(tag::SET, &self.digest_algorithm()),
            &tlv::sequence(&[&tlv::oid(&self.content_type), &content]),
            &tlv::construct(tag::context_constructed(0), &certificates),
            &tlv::encode(tag::SET, signer_infos),
        ]);
        content_info(SIGNED_DATA, &signed)
    }
}

pub(crate) fn content_info(kind: &str, content: &[u8]) -> Vec<u8> {
    tlv::sequence(&[&tlv::oid(&oid(kind)), &tlv::encode(tag::context_constructed(0), content)])
}

/// The parts of an EnvelopedData that tests change.
pub(crate) struct Envelope {
    pub(crate) recipient_infos: Vec<Vec<u8>>,
    /// contentType of EncryptedContentInfo.
    pub(crate) content_type: Vec<u8>,
    pub(crate) algorithm: Vec<u8>,
    /// Contents of encryptedContent.
    pub(crate) encrypted: Vec<u8>,
}

impl Envelope {
    pub(crate) fn read(der: &[u8]) -> Self {
        let mut content_info = Reader::new(der).only(tag::SEQUENCE).unwrap().reader();
        content_info.expect(tag::OID).unwrap();
        let explicit = content_info.expect(tag::context_constructed(0)).unwrap();
        let mut fields = explicit.reader().only(tag::SEQUENCE).unwrap().reader();
        fields.expect(tag::INTEGER).unwrap();
        let mut infos = fields.expect(tag::SET).unwrap().reader();
        let mut recipient_infos = Vec::new();
        while !infos.is_empty() {
            recipient_infos.push(infos.any().unwrap().raw.to_vec());
        }
        let mut content = fields.expect(tag::SEQUENCE).unwrap().reader();
        Self {
            recipient_infos,
            content_type: content.any().unwrap().raw.to_vec(),
            algorithm: content.any().unwrap().raw.to_vec(),
            encrypted: content.expect(tag::context(0)).unwrap().value.to_vec(),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let content = tlv::sequence(&[
            &self.content_type,
            &self.algorithm,
            &tlv::encode(tag::context(0), &self.encrypted),
        ]);
        let enveloped = tlv::sequence(&[
            &tlv::small_int(0),
            &tlv::encode(tag::SET, &self.recipient_infos.concat()),
            &content,
        ]);
        content_info(ENVELOPED_DATA, &enveloped)
    }
}

/// The same in BER: indefinite lengths, octet strings in chunks, as Apple's and Java's encoders
/// write.
pub(crate) fn to_ber(der: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut reader = Reader::new(der);
    while !reader.is_empty() {
        let value = reader.any().unwrap();
        let chunked = |constructed: u8| {
            let mut all = vec![constructed, 0x80];
            for chunk in value.value.chunks(100) {
                all.extend(tlv::encode(tag::OCTET_STRING, chunk));
            }
            all.extend([0, 0]);
            all
        };
        if value.tag & 0x20 != 0 {
            out.extend([value.tag, 0x80]);
            out.extend(to_ber(value.value));
            out.extend([0, 0]);
        } else if value.tag == tag::OCTET_STRING && value.value.len() > 40 {
            out.extend(chunked(0x24));
        } else if value.tag == tag::context(0) && value.value.len() > 40 {
            out.extend(chunked(0xa0));
        } else {
            out.extend(value.raw);
        }
    }
    out
}

/// Signed attributes of a reply, by type.
pub(crate) fn reply_attribute(reply: &[u8], kind: &str) -> Option<Vec<u8>> {
    let verified = scep_cms::SignedData::parse(reply, &Limits::default())
        .unwrap()
        .verify(&AwsLc, LegacyAlgorithms::Accept)
        .unwrap();
    verified.attribute(&oid(kind)).map(<[u8]>::to_vec)
}
