//! A PKIOperation that nobody can issue for, and what is in the answer.

use scep_client::Identity;
use scep_keys::{AwsLc, KeyFileError, SoftwareKey};
use scep_message::client::{self, Ask, Expected, Reply};
use scep_message::{ContentEncryption, LegacyAlgorithms, Limits, MessageType, Recipient};
use scep_pkcs10::CsrBuilder;
use scep_pkcs10::danger::attribute;
use scep_types::tlv::{self, Reader, TlvError, tag};
use scep_types::{
    CertificateDer, CryptoProvider as _, DistinguishedName, KeyAlgorithm, Nonce, ObjectIdentifier,
    RsaPadding, SignatureScheme, Timestamp, TransactionId,
};

const DESCRIPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.13");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const TRANSACTION_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.113733.1.9.7");
const SENDER_NONCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.113733.1.9.5");
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const MD5: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.5");

/// A device for these questions alone: its key is made now and kept nowhere.
pub(crate) struct Device {
    key: SoftwareKey,
    me: Recipient,
}

/// A message and what its answer must have.
pub(crate) struct Sent {
    pub(crate) bytes: Vec<u8>,
    transaction_id: TransactionId,
    nonce: Nonce,
}

impl Device {
    pub(crate) fn new(now: Timestamp) -> Result<Self, String> {
        let text = |error: KeyFileError| error.to_string();
        let key = SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).map_err(text)?;
        let decryption = key.decryption().map_err(text)?;
        let again = key.decryption().map_err(text)?;
        let identity = Identity::self_signed(&name()?, key.signer(), decryption, now, &AwsLc)
            .map_err(|error| error.to_string())?;
        let me = Recipient { certificate: identity.certificate().clone(), key: again };
        Ok(Self { key, me })
    }

    /// A PKCSReq without a challenge, of a request whose signature is not by its key: whatever a server thinks of
    /// challenges, nothing may be issued for it. `padding` octets make it longer.
    pub(crate) fn message(
        &self,
        recipient: &CertificateDer,
        encryption: ContentEncryption,
        padding: usize,
    ) -> Result<Sent, String> {
        let mut csr = CsrBuilder { subject: name()?, ..CsrBuilder::default() };
        if padding > 0 {
            let text = tlv::encode(tag::UTF8_STRING, &vec![b'x'; padding]);
            csr.attributes.push(attribute(&DESCRIPTION, &[&text]));
        }
        let scheme = SignatureScheme::RsaPkcs1Sha256;
        let signer = self.key.signer();
        let mut data = csr.sign(&*signer, scheme).map_err(|error| error.to_string())?;
        if let Some(last) = data.last_mut() {
            *last ^= 1;
        }
        let mut random = [0; 16];
        AwsLc.random(&mut random).map_err(|error| error.to_string())?;
        let text: String = random.iter().map(|byte| format!("{byte:02X}")).collect();
        let transaction_id = TransactionId::new(&*text).map_err(|error| error.to_string())?;
        let ask = Ask {
            message_type: MessageType::PkcsReq,
            transaction_id: &transaction_id,
            data: &data,
            recipient,
            padding: RsaPadding::Pkcs1v15,
            encryption,
            scheme,
        };
        let who = client::Identity { certificate: &self.me.certificate, signer: &*signer };
        let (bytes, nonce) =
            client::request(&ask, &who, &AwsLc).map_err(|error| error.to_string())?;
        Ok(Sent { bytes, transaction_id, nonce })
    }

    /// The verified answer to a message.
    pub(crate) fn read(
        &self,
        sent: &Sent,
        body: &[u8],
        ra: &[CertificateDer],
    ) -> Result<Reply, String> {
        let expected = Expected {
            transaction_id: &sent.transaction_id,
            nonce: &sent.nonce,
            ra,
            me: &self.me,
            challenge: None,
            legacy: LegacyAlgorithms::Accept,
        };
        expected.read(body, &AwsLc, &Limits::default()).map_err(|error| error.to_string())
    }
}

fn name() -> Result<DistinguishedName, String> {
    "CN=scep-gateway doctor".parse().map_err(|error| format!("{error}"))
}

/// How a CertRep is written, of which some clients have opinions.
#[derive(Debug, Default)]
pub(crate) struct Form {
    /// The digest's parameters are NULL rather than absent.
    pub(crate) null_parameters: bool,
    /// SHA-1 or MD5.
    pub(crate) old_digest: bool,
    /// eContent is there, of whatever length.
    pub(crate) content: bool,
    pub(crate) content_type: bool,
    pub(crate) message_digest: bool,
    /// The transactionID is a PrintableString.
    pub(crate) printable: bool,
    /// The senderNonce's DER.
    pub(crate) nonce: Vec<u8>,
}

impl Form {
    /// Of a SignedData in DER.
    pub(crate) fn of(der: &[u8]) -> Result<Self, TlvError> {
        let mut form = Self::default();
        let mut info = Reader::new(der).only(tag::SEQUENCE)?.reader();
        info.expect(tag::OID)?;
        let explicit = info.expect(tag::context_constructed(0))?;
        let mut fields = explicit.reader().only(tag::SEQUENCE)?.reader();
        fields.expect(tag::INTEGER)?;
        fields.expect(tag::SET)?;
        let mut encapsulated = fields.expect(tag::SEQUENCE)?.reader();
        encapsulated.expect(tag::OID)?;
        form.content = encapsulated.optional(tag::context_constructed(0))?.is_some();
        fields.optional(tag::context_constructed(0))?;
        fields.optional(tag::context_constructed(1))?;
        let mut signer = fields.expect(tag::SET)?.reader().expect(tag::SEQUENCE)?.reader();
        signer.expect(tag::INTEGER)?;
        signer.any()?;
        let mut digest = signer.expect(tag::SEQUENCE)?.reader();
        let algorithm = digest.any()?.oid()?;
        form.old_digest = [SHA1, MD5].contains(&algorithm);
        form.null_parameters = !digest.is_empty();
        let mut attributes = signer.expect(tag::context_constructed(0))?.reader();
        while !attributes.is_empty() {
            let mut attribute = attributes.expect(tag::SEQUENCE)?.reader();
            let oid = attribute.any()?.oid()?;
            let value = attribute.expect(tag::SET)?.reader().any()?;
            match oid {
                CONTENT_TYPE => form.content_type = true,
                MESSAGE_DIGEST => form.message_digest = true,
                TRANSACTION_ID => {
                    form.printable = value.raw.first() == Some(&tag::PRINTABLE_STRING)
                }
                SENDER_NONCE => form.nonce = value.raw.to_vec(),
                _ => {}
            }
        }
        Ok(form)
    }
}
