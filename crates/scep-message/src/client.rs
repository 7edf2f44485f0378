//! The client's side: requests out, replies in.

use crate::attributes;
use crate::error::MessageError;
use crate::kinds::{FailInfo, MessageType, PkiStatus};
use core::fmt;
use scep_cms::{
    ContentEncryption, EnvelopedData, LegacyAlgorithms, Limits, Recipient, SignedData, SignerId,
    ToSign, VerifiedSignedData, ber,
};
use scep_types::tlv::{self, Reader, TlvError, tag};
use scep_types::{
    CertificateDer, CryptoProvider, KeyAlgorithm, Nonce, RsaPadding, Secret, SignatureScheme,
    Signer, TransactionId,
};

/// Who asks.
#[derive(Debug)]
pub struct Identity<'a> {
    /// The certificate of the key that signs (self-signed, or the one being renewed; RFC 8894,
    /// 2.3).
    pub certificate: &'a CertificateDer,
    /// Its key.
    pub signer: &'a dyn Signer,
}

/// What is asked, and how. Its `Debug` does not show the data: there is a challenge in it.
pub struct Ask<'a> {
    /// messageType.
    pub message_type: MessageType,
    /// transactionID.
    pub transaction_id: &'a TransactionId,
    /// Plaintext of the envelope: PKCS #10, IssuerAndSubject or IssuerAndSerialNumber, DER.
    pub data: &'a [u8],
    /// Whom it is encrypted to.
    pub recipient: &'a CertificateDer,
    /// Key transport.
    pub padding: RsaPadding,
    /// Content encryption.
    pub encryption: ContentEncryption,
    /// Signature.
    pub scheme: SignatureScheme,
}

impl fmt::Debug for Ask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask")
            .field("message_type", &self.message_type)
            .field("transaction_id", self.transaction_id)
            .field("recipient", self.recipient)
            .field("padding", &self.padding)
            .field("encryption", &self.encryption)
            .field("scheme", &self.scheme)
            .finish_non_exhaustive()
    }
}

/// Builds a pkiMessage, with the nonce it sent.
///
/// # Errors
/// [`MessageError::Sealing`] when the recipient has no key to encrypt to, [`MessageError::Signing`]
/// when scheme and key do not fit, [`MessageError::Key`] when randomness fails.
pub fn request(
    ask: &Ask<'_>,
    who: &Identity<'_>,
    provider: &dyn CryptoProvider,
) -> Result<(Vec<u8>, Nonce), MessageError> {
    let mut fresh = [0; 16];
    provider.random(&mut fresh).map_err(MessageError::Key)?;
    let nonce = Nonce::new(fresh)
        .map_err(|error| MessageError::Nonce { name: attributes::SENDER_NONCE.name, error })?;
    let envelope =
        scep_cms::seal(provider, &[ask.recipient], ask.padding, ask.encryption, ask.data)
            .map_err(MessageError::Sealing)?;
    let written = [
        attributes::printable(attributes::TRANSACTION_ID, ask.transaction_id.as_str()),
        attributes::decimal(attributes::MESSAGE_TYPE, ask.message_type.number()),
        attributes::octets(attributes::SENDER_NONCE, nonce.as_bytes()),
    ];
    let what = ToSign {
        content_type: attributes::ID_DATA,
        content: &envelope,
        attributes: &written,
        certificates: &[],
        signer_id: SignerId::Certificate(who.certificate),
        scheme: ask.scheme,
    };
    let message = scep_cms::sign(who.signer, &what).map_err(MessageError::Signing)?;
    Ok((message, nonce))
}

/// A verified reply.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// Certificates, the leaf first as sent.
    Success(Vec<CertificateDer>),
    /// CRLs (DER), for GetCRL.
    Crls(Vec<Vec<u8>>),
    /// Refused.
    Failure {
        /// failInfo.
        fail_info: FailInfo,
        /// failInfoText, without control characters.
        text: Option<String>,
    },
    /// Later.
    Pending,
}

/// Verifies a CertRep as [`Expected::read`] does, without legacy algorithms and for an RSA key.
///
/// # Errors
/// As for [`Expected::read`].
pub fn reply(
    bytes: &[u8],
    transaction_id: &TransactionId,
    nonce: &Nonce,
    ra: &[CertificateDer],
    me: &Recipient,
    provider: &dyn CryptoProvider,
    limits: &Limits,
) -> Result<Reply, MessageError> {
    let legacy = LegacyAlgorithms::Refuse;
    Expected { transaction_id, nonce, ra, me, challenge: None, legacy }
        .read(bytes, provider, limits)
}

/// Which reply is waited for.
#[derive(Debug)]
pub struct Expected<'a> {
    /// The request's transactionID.
    pub transaction_id: &'a TransactionId,
    /// The nonce that [`request`] sent.
    pub nonce: &'a Nonce,
    /// Who may have signed: the certificates of GetCACert, once they are trusted.
    pub ra: &'a [CertificateDer],
    /// The certificate that signed the request, and its key: a SUCCESS is encrypted to it where it
    /// is RSA.
    pub me: &'a Recipient,
    /// The request's challenge: a SUCCESS is encrypted with it where the key is EC. Elsewhere it is
    /// not used.
    pub challenge: Option<&'a Secret<String>>,
    /// Whether SHA-1 and 3DES are taken in the reply.
    pub legacy: LegacyAlgorithms,
}

impl Expected<'_> {
    /// Verifies a CertRep: signed by one of the certificates given, whatever it embeds; of the same
    /// transaction; with our nonce back. Then decrypts a SUCCESS. The content of a FAILURE or
    /// PENDING, which should have none, is not looked at.
    ///
    /// # Errors
    /// When it does not verify, answers something else, or has a pkiStatus or failInfo that RFC
    /// 8894 does not define; when a SUCCESS does not open or holds neither certificate nor CRL.
    pub fn read(
        &self,
        bytes: &[u8],
        provider: &dyn CryptoProvider,
        limits: &Limits,
    ) -> Result<Reply, MessageError> {
        let der = ber::normalize(bytes, limits).map_err(MessageError::Signed)?;
        let der =
            with_certificates(&der, self.ra).map_err(|error| MessageError::Signed(error.into()))?;
        let signed = SignedData::parse(&der, limits)
            .and_then(|signed| signed.verify(provider, self.legacy))
            .map_err(MessageError::Signed)?;
        let got = signed.content_type();
        if got != attributes::ID_DATA {
            return Err(MessageError::ContentType { got });
        }
        let got = MessageType::from_number(attributes::MESSAGE_TYPE.demand(&signed)?);
        if got != MessageType::CertRep {
            return Err(MessageError::NotCertRep { got });
        }
        if attributes::transaction_id(&signed)? != *self.transaction_id {
            return Err(MessageError::OtherTransaction);
        }
        if attributes::nonce(&signed, attributes::RECIPIENT_NONCE)?.as_ref() != Some(self.nonce) {
            return Err(MessageError::OtherNonce);
        }
        let got = attributes::PKI_STATUS.demand(&signed)?;
        match PkiStatus::from_number(got).ok_or(MessageError::StatusUndefined { got })? {
            PkiStatus::Pending => Ok(Reply::Pending),
            PkiStatus::Failure => {
                let got = attributes::FAIL_INFO.demand(&signed)?;
                let fail_info =
                    FailInfo::from_number(got).ok_or(MessageError::FailInfoUndefined { got })?;
                Ok(Reply::Failure { fail_info, text: attributes::fail_info_text(&signed) })
            }
            PkiStatus::Success => self.open(&signed, provider, limits),
        }
    }

    fn open(
        &self,
        signed: &VerifiedSignedData,
        provider: &dyn CryptoProvider,
        limits: &Limits,
    ) -> Result<Reply, MessageError> {
        if signed.content().is_empty() {
            return Err(MessageError::NoEnvelope);
        }
        let der = ber::normalize(signed.content(), limits).map_err(MessageError::Envelope)?;
        // The signer is one we trust, so that the causes may be told apart here.
        let envelope =
            EnvelopedData::parse(&der, limits, self.legacy).map_err(MessageError::Envelope)?;
        let plaintext = match (self.me.certificate.spki().algorithm(), self.challenge) {
            (KeyAlgorithm::Rsa(_), _) => envelope
                .open(core::slice::from_ref(self.me), provider)
                .map(|opened| opened.plaintext),
            (KeyAlgorithm::P256 | KeyAlgorithm::P384, Some(challenge)) => {
                envelope.open_with_password(challenge, provider)
            }
            (key @ (KeyAlgorithm::P256 | KeyAlgorithm::P384), None) => {
                return Err(MessageError::NoChallengeToAnswerWith { key });
            }
        }
        .map_err(MessageError::Envelope)?;
        let der = ber::normalize(plaintext.expose(), limits).map_err(MessageError::Degenerate)?;
        let degenerate = SignedData::parse(&der, limits).map_err(MessageError::Degenerate)?;
        if degenerate.certificates().is_empty() {
            degenerate.into_crls_only().map(Reply::Crls).map_err(MessageError::Degenerate)
        } else {
            degenerate.into_certs_only().map(Reply::Success).map_err(MessageError::Degenerate)
        }
    }
}

/// The SignedData with `certificates` instead of those it embeds. They are not under the signature;
/// with ours in their place, whatever verifies was signed by one of ours, and a reply that embeds
/// none verifies too.
fn with_certificates(der: &[u8], certificates: &[CertificateDer]) -> Result<Vec<u8>, TlvError> {
    let mut content_info = Reader::new(der).only(tag::SEQUENCE)?.reader();
    let content_type = content_info.expect(tag::OID)?;
    let explicit = content_info.expect(tag::context_constructed(0))?;
    content_info.finish()?;
    let mut signed_data = explicit.reader().only(tag::SEQUENCE)?.reader();
    let version = signed_data.expect(tag::INTEGER)?;
    let digests = signed_data.expect(tag::SET)?;
    let content = signed_data.expect(tag::SEQUENCE)?;
    signed_data.optional(tag::context_constructed(0))?;
    signed_data.optional(tag::context_constructed(1))?;
    let signers = signed_data.expect(tag::SET)?;
    signed_data.finish()?;

    let ours: Vec<&[u8]> = certificates.iter().map(CertificateDer::as_der).collect();
    let ours = tlv::construct(tag::context_constructed(0), &ours);
    let inner = tlv::sequence(&[version.raw, digests.raw, content.raw, &ours, signers.raw]);
    let explicit = tlv::encode(tag::context_constructed(0), &inner);
    Ok(tlv::sequence(&[content_type.raw, &explicit]))
}

/// IssuerAndSubject's DER (RFC 8894, 3.3.3) from two Names' DER.
#[must_use]
pub fn issuer_and_subject(issuer: &[u8], subject: &[u8]) -> Vec<u8> {
    tlv::sequence(&[issuer, subject])
}

/// IssuerAndSerialNumber's DER (RFC 5652, 10.2.4) from a Name's DER and the content octets of the
/// serial number.
#[must_use]
pub fn issuer_and_serial(issuer: &[u8], serial: &[u8]) -> Vec<u8> {
    tlv::sequence(&[issuer, &tlv::encode(tag::INTEGER, serial)])
}
