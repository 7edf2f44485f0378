//! The server's way in: bytes, then a verified request, then its content.

use crate::attributes;
use crate::error::MessageError;
use crate::kinds::MessageType;
use crate::reply::{FailureContext, Mirror, ReplyContext, ReplySealing};
use core::fmt;
use scep_cms::{CmsError, EnvelopedData, LegacyAlgorithms, Limits, Recipient, SignedData, ber};
use scep_types::tlv::{Reader, TlvError, tag};
use scep_types::{
    CertificateDer, CryptoProvider, Nonce, SignatureScheme, Signer, Timestamp, TransactionId,
};
use std::sync::Arc;

/// The keys of the RA, as certificates with keys: one combined, or one for each.
#[derive(Clone, Debug)]
pub struct RaIdentity {
    /// Signs replies, and is embedded in them.
    pub signing_certificate: CertificateDer,
    /// Its key. Where a legacy endpoint accepts SHA-1 requests it must be one that signs with SHA-1
    /// too, as the replies to them do.
    pub signing_key: Arc<dyn Signer>,
    /// What requests may be enveloped to: the present one first, then those of an overlap.
    pub recipients: Vec<Recipient>,
}

/// A parsed pkiMessage (RFC 8894, 3.2), not verified: nothing in it can be read before
/// [`PkiMessage::verify`].
#[derive(Debug)]
pub struct PkiMessage {
    signed: SignedData,
    limits: Limits,
}

impl PkiMessage {
    /// Parses BER or DER.
    ///
    /// # Errors
    /// [`MessageError::Signed`] when it is no SignedData, or passes one of the limits.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, MessageError> {
        let der = ber::normalize(bytes, limits).map_err(MessageError::Signed)?;
        let signed = SignedData::parse(&der, limits).map_err(MessageError::Signed)?;
        Ok(Self { signed, limits: *limits })
    }

    /// Verifies the one signature by the embedded certificate that it names, and reads the SCEP
    /// attributes from what was verified. Whose certificate it is, is judged elsewhere: it may be
    /// self-signed.
    ///
    /// | attribute | accepted |
    /// | --- | --- |
    /// | transactionID | PrintableString or UTF8String, 1 to 128 characters |
    /// | messageType | PrintableString or UTF8String of a decimal 0 to 255, or INTEGER |
    /// | senderNonce | OCTET STRING of 1 to 64 octets, or none |
    /// | signingTime | UTCTime or GeneralizedTime, or none |
    /// | challengePassword | never: its place is the PKCS #10 request |
    ///
    /// pkiStatus, failInfo and recipientNonce are ignored in a request: RFC 8894's figure 6 shows
    /// them in every pkiMessage, earlier drafts demanded a recipientNonce in CertPoll, and nothing
    /// here reads them.
    ///
    /// # Errors
    /// When the signature does not verify or uses what is not served, the eContentType is not
    /// id-data, or an attribute is missing, duplicated or malformed. [`salvage`](crate::salvage)
    /// may still find whom to answer.
    pub fn verify(
        self,
        provider: &dyn CryptoProvider,
        legacy: LegacyAlgorithms,
    ) -> Result<SignedRequest, MessageError> {
        let signed = self.signed.verify(provider, legacy).map_err(MessageError::Signed)?;
        let got = signed.content_type();
        if got != attributes::ID_DATA {
            return Err(MessageError::ContentType { got });
        }
        if signed.attribute(&attributes::CHALLENGE_PASSWORD).is_some() {
            return Err(MessageError::ChallengeInSignedAttributes);
        }
        // `verify` resolves the signer to an embedded certificate; without one there is nobody to
        // answer.
        let signer = signed
            .signer_certificate()
            .cloned()
            .ok_or(MessageError::Signed(CmsError::SignerUnknown))?;
        Ok(SignedRequest {
            message_type: MessageType::from_number(attributes::MESSAGE_TYPE.demand(&signed)?),
            transaction_id: attributes::transaction_id(&signed)?,
            sender_nonce: attributes::nonce(&signed, attributes::SENDER_NONCE)?,
            signing_time: attributes::signing_time(&signed)?,
            scheme: signed.scheme(),
            content: signed.content().to_vec(),
            signer,
            limits: self.limits,
            legacy,
        })
    }
}

/// A request whose signature was verified. Cannot be made otherwise.
#[derive(Debug)]
pub struct SignedRequest {
    message_type: MessageType,
    transaction_id: TransactionId,
    sender_nonce: Option<Nonce>,
    signer: CertificateDer,
    signing_time: Option<Timestamp>,
    scheme: SignatureScheme,
    content: Vec<u8>,
    limits: Limits,
    legacy: LegacyAlgorithms,
}

impl SignedRequest {
    /// messageType.
    #[must_use]
    pub const fn message_type(&self) -> MessageType {
        self.message_type
    }

    /// transactionID.
    #[must_use]
    pub const fn transaction_id(&self) -> &TransactionId {
        &self.transaction_id
    }

    /// senderNonce, when present.
    #[must_use]
    pub const fn sender_nonce(&self) -> Option<&Nonce> {
        self.sender_nonce.as_ref()
    }

    /// The certificate whose key has signed.
    #[must_use]
    pub const fn signer(&self) -> &CertificateDer {
        &self.signer
    }

    /// signingTime, when present.
    #[must_use]
    pub const fn signing_time(&self) -> Option<Timestamp> {
        self.signing_time
    }

    /// How it was signed.
    #[must_use]
    pub const fn scheme(&self) -> SignatureScheme {
        self.scheme
    }

    /// Gives the message up: what is left can only refuse it. Costs no private-key operation but
    /// the reply's.
    #[must_use]
    pub fn into_failure(self) -> FailureContext {
        FailureContext::new(self.transaction_id, self.sender_nonce, Some(self.signer), self.scheme)
    }

    /// Opens the envelope and reads what the messageType says is in it: one private-key operation, and none for
    /// CertPoll, which is answered by its transactionID and its signer alone. The reply context comes back whatever happens, so that every error can be answered.
    ///
    /// From the private-key operation on there is one error, [`MessageError::DoesNotOpen`], for a
    /// wrong content key, wrong padding and a plaintext of another kind alike. For PKCSReq and
    /// RenewalReq the plaintext must be exactly one DER SEQUENCE here; the request in it is read by
    /// others. **Whoever answers must give one failInfo and one text for
    /// [`MessageError::DoesNotOpen`] and for every refusal until the PKCS #10 request has proved
    /// possession of its key**: whoever captures an envelope can change its blocks, sign it anew,
    /// and would otherwise learn from the answer whether the padding was right.
    ///
    /// # Errors
    /// Before the private-key operation: [`MessageError::MessageTypeNotServed`] for every
    /// messageType but the five requests, [`MessageError::SignerCannotDecrypt`] when no answer
    /// could be encrypted to the signer (an RSA key of an unusual size; an EC key that asks for a
    /// certificate or CRL, without a challenge), [`MessageError::NoEnvelope`], [`MessageError::Envelope`]
    /// and [`MessageError::NotForUs`]. After it: [`MessageError::DoesNotOpen`].
    /// [`MessageError::Key`] when the key's back end fails.
    pub fn decrypt(
        self,
        ra: &RaIdentity,
        provider: &dyn CryptoProvider,
    ) -> (Result<Request, MessageError>, ReplyContext) {
        let mut recipient = None;
        let opened = self.open(ra, provider, &mut recipient);
        let (request, mirror) = match opened {
            Ok((request, mirror)) => (Ok(request), Some(mirror)),
            Err(error) => (Err(error), None),
        };
        (request, ReplyContext::new(self.into_failure(), mirror, recipient))
    }

    fn open(
        &self,
        ra: &RaIdentity,
        provider: &dyn CryptoProvider,
        recipient: &mut Option<usize>,
    ) -> Result<(Request, Mirror), MessageError> {
        let content = Content::of(self.message_type)?;
        // Before the envelope is opened: afterwards the refusal would tell that it did open. Whether
        // there is a challenge for the answer to an EC key is found out when the request in the
        // envelope has proved possession of its key.
        if ReplySealing::of(&self.signer)? == ReplySealing::Challenge && !content.has_challenge() {
            let key = self.signer.spki().algorithm();
            return Err(MessageError::SignerCannotDecrypt { key });
        }
        if self.content.is_empty() {
            return Err(MessageError::NoEnvelope);
        }
        let der = ber::normalize(&self.content, &self.limits).map_err(MessageError::Envelope)?;
        let envelope = EnvelopedData::parse(&der, &self.limits, self.legacy)
            .map_err(MessageError::Envelope)?;
        // Before it is known whether it opens: nothing that depends on this tells.
        *recipient = envelope.recipient(&ra.recipients);
        if matches!(content, Content::IssuerAndSubject) {
            let (_, padding) = envelope.transport(&ra.recipients).map_err(|error| match error {
                CmsError::NotForUs => MessageError::NotForUs,
                other => MessageError::Envelope(other),
            })?;
            let mirror = Mirror { padding, encryption: envelope.content_encryption() };
            return Ok((Request::CertPoll, mirror));
        }
        let opened = envelope.open(&ra.recipients, provider).map_err(|error| match error {
            CmsError::NotForUs => MessageError::NotForUs,
            CmsError::DoesNotOpen => MessageError::DoesNotOpen,
            CmsError::Key(error) => MessageError::Key(error),
            // Before the private-key operation too: `open` has no other error after it.
            other => MessageError::Envelope(other),
        })?;
        let request =
            content.read(opened.plaintext.expose()).map_err(|_| MessageError::DoesNotOpen)?;
        let mirror = Mirror { padding: opened.padding, encryption: opened.content_encryption };
        Ok((request, mirror))
    }
}

/// The request proper. Its `Debug` shows no PKCS #10 request: there is a challenge in it.
pub enum Request {
    /// PKCSReq or RenewalReq: a PKCS #10 request, not parsed.
    Enrol {
        /// Which.
        message_type: MessageType,
        /// The PKCS #10 DER.
        csr: Vec<u8>,
    },
    /// CertPoll. RFC 8894, 3.3.3: the transactionID decides, the names are redundant and may be wrong. They are not even
    /// read: whatever depended on the envelope's opening would tell whoever splices a captured one, and signs it anew,
    /// whether the padding is right.
    CertPoll,
    /// GetCert.
    GetCert {
        /// Issuer Name DER.
        issuer: Vec<u8>,
        /// Serial's content octets.
        serial: Vec<u8>,
    },
    /// GetCRL.
    GetCrl {
        /// Issuer Name DER.
        issuer: Vec<u8>,
        /// Serial's content octets.
        serial: Vec<u8>,
    },
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enrol { message_type, csr } => {
                write!(f, "Enrol({message_type}, {} octets)", csr.len())
            }
            Self::CertPoll => f.write_str("CertPoll"),
            Self::GetCert { .. } => f.write_str("GetCert(..)"),
            Self::GetCrl { .. } => f.write_str("GetCrl(..)"),
        }
    }
}

/// What the messageType says is in the envelope. Only the five requests have a content: a type that
/// is merely known, or unknown, cannot get as far as a private-key operation.
#[derive(Clone, Copy)]
enum Content {
    Pkcs10(MessageType),
    IssuerAndSubject,
    CertificateId,
    CrlId,
}

impl Content {
    const fn of(message_type: MessageType) -> Result<Self, MessageError> {
        match message_type {
            MessageType::PkcsReq | MessageType::RenewalReq => Ok(Self::Pkcs10(message_type)),
            MessageType::CertPoll => Ok(Self::IssuerAndSubject),
            MessageType::GetCert => Ok(Self::CertificateId),
            MessageType::GetCrl => Ok(Self::CrlId),
            MessageType::CertRep | MessageType::Unknown(_) => {
                Err(MessageError::MessageTypeNotServed { got: message_type })
            }
        }
    }

    /// Whether it has a challenge, or asks for the answer to a request that may have had one.
    const fn has_challenge(self) -> bool {
        match self {
            Self::Pkcs10(_) | Self::IssuerAndSubject => true,
            Self::CertificateId | Self::CrlId => false,
        }
    }

    fn read(self, plaintext: &[u8]) -> Result<Request, TlvError> {
        let sequence = Reader::new(plaintext).only(tag::SEQUENCE)?;
        let fields = sequence.reader();
        match self {
            Self::Pkcs10(message_type) => {
                Ok(Request::Enrol { message_type, csr: plaintext.to_vec() })
            }
            // Never opened.
            Self::IssuerAndSubject => Ok(Request::CertPoll),
            Self::CertificateId => {
                let (issuer, serial) = issuer_and_serial(fields)?;
                Ok(Request::GetCert { issuer, serial })
            }
            Self::CrlId => {
                let (issuer, serial) = issuer_and_serial(fields)?;
                Ok(Request::GetCrl { issuer, serial })
            }
        }
    }
}

fn issuer_and_serial(mut fields: Reader<'_>) -> Result<(Vec<u8>, Vec<u8>), TlvError> {
    let issuer = fields.expect(tag::SEQUENCE)?.raw.to_vec();
    let serial = fields.expect(tag::INTEGER)?;
    // RFC 5280, 4.1.2.2.
    if serial.value.is_empty() || serial.value.len() > 20 {
        return Err(serial.invalid("INTEGER"));
    }
    fields.finish()?;
    Ok((issuer, serial.value.to_vec()))
}
