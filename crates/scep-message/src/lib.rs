//! RFC 8894 messages. STUB: signatures fixed, bodies to come.
#![warn(clippy::arithmetic_side_effects)]
#![allow(unused_variables, clippy::todo, clippy::missing_errors_doc)]
use scep_cms::{CmsError, ContentEncryption, LegacyAlgorithms, Limits, Recipient};
use scep_types::*;
use std::sync::Arc;
use thiserror::Error;

/// messageType (RFC 8894, 3.2.1.2). Unknown values survive to the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum MessageType {
    CertRep,
    RenewalReq,
    PkcsReq,
    CertPoll,
    GetCert,
    GetCrl,
    Unknown(u32),
}
/// pkiStatus (3.2.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum PkiStatus {
    Success,
    Failure,
    Pending,
}
/// failInfo (3.2.1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum FailInfo {
    BadAlg,
    BadMessageCheck,
    BadRequest,
    BadTime,
    BadCertId,
}

/// Why a message was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("message")]
pub struct MessageError(()); // refine: enum over CmsError, attributes, ...
impl MessageError {
    /// The reason it is reported under.
    #[must_use]
    pub fn reason(&self) -> Reason {
        todo!()
    }
    /// The name of the algorithm that is not served, when that is the reason.
    #[must_use]
    pub fn algorithm(&self) -> Option<&str> {
        todo!()
    }
}

/// The keys of the RA, as certificates with keys: one combined, or one for each.
#[derive(Clone, Debug)]
pub struct RaIdentity {
    /// Signs replies.
    pub signing_certificate: CertificateDer,
    /// Its key.
    pub signing_key: Arc<dyn Signer>,
    /// What requests may be enveloped to: the present one first, then those of an overlap.
    pub recipients: Vec<Recipient>,
}

/// A parsed pkiMessage, not verified.
#[derive(Debug)]
pub struct PkiMessage(());
impl PkiMessage {
    /// BER or DER in.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, MessageError> {
        todo!()
    }
    /// Verifies the one signature by the embedded certificate, and reads the SCEP attributes.
    /// On failure after the attributes could be read, the error says so, and a reply is still possible (see ReplyContext).
    pub fn verify(
        self,
        provider: &dyn CryptoProvider,
        legacy: LegacyAlgorithms,
    ) -> Result<SignedRequest, MessageError> {
        todo!()
    }
}

/// A request whose signature was verified. Cannot be made otherwise.
#[derive(Debug)]
pub struct SignedRequest(());
impl SignedRequest {
    /// messageType.
    #[must_use]
    pub fn message_type(&self) -> MessageType {
        todo!()
    }
    /// transactionID.
    #[must_use]
    pub fn transaction_id(&self) -> &TransactionId {
        todo!()
    }
    /// The certificate whose key has signed.
    #[must_use]
    pub fn signer(&self) -> &CertificateDer {
        todo!()
    }
    /// signingTime, when present.
    #[must_use]
    pub fn signing_time(&self) -> Option<Timestamp> {
        todo!()
    }
    /// Opens the envelope: one private-key operation. The reply context comes back whatever happens.
    pub fn decrypt(
        self,
        ra: &RaIdentity,
        provider: &dyn CryptoProvider,
    ) -> (Result<Request, MessageError>, ReplyContext) {
        todo!()
    }
}

/// The request proper.
#[derive(Debug)]
pub enum Request {
    /// PKCSReq or RenewalReq: a PKCS #10 request, not parsed.
    Enrol {
        /// Which.
        message_type: MessageType,
        /// The PKCS #10 DER.
        csr: Vec<u8>,
    },
    /// CertPoll.
    CertPoll {
        /// The names of IssuerAndSubject, DER.
        issuer: Vec<u8>,
        /// Subject.
        subject: Vec<u8>,
    },
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

/// What is needed to answer: transactionID, nonce, signer, the algorithms to mirror.
#[derive(Debug)]
pub struct ReplyContext(());
/// What a SUCCESS carries besides the leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReplyChain<'a> {
    /// The leaf only.
    #[default]
    LeafOnly,
    /// And these, after it.
    With(&'a [CertificateDer]),
}
impl ReplyContext {
    /// SUCCESS with a released certificate, encrypted to the request's signer only.
    pub fn success(
        &self,
        ra: &RaIdentity,
        certificate: &impl ReleasedCertificate,
        chain: ReplyChain<'_>,
        provider: &dyn CryptoProvider,
    ) -> Result<Vec<u8>, MessageError> {
        todo!()
    }
    /// FAILURE. `text` is failInfoText (UTF8String), at most 255 characters.
    pub fn failure(
        &self,
        ra: &RaIdentity,
        fail_info: FailInfo,
        text: &str,
        provider: &dyn CryptoProvider,
    ) -> Result<Vec<u8>, MessageError> {
        todo!()
    }
    /// PENDING.
    pub fn pending(
        &self,
        ra: &RaIdentity,
        provider: &dyn CryptoProvider,
    ) -> Result<Vec<u8>, MessageError> {
        todo!()
    }
    /// Whether a SUCCESS could be delivered to this signer at all (an RSA key, or a password: issue later).
    #[must_use]
    pub fn can_encrypt(&self) -> bool {
        todo!()
    }
}

/// Best effort for messages that do not verify or parse to the end: a context for a FAILURE when transactionID, nonce
/// and signer could be read.
#[must_use]
pub fn salvage(bytes: &[u8], limits: &Limits) -> Option<ReplyContext> {
    todo!()
}

/// GetCACaps (3.5.2).
pub mod caps {
    use scep_cms::LegacyAlgorithms;
    /// The body, generated from what is enabled; LF line ends, no trailing blanks.
    #[must_use]
    pub fn body(legacy: LegacyAlgorithms) -> String {
        todo!()
    }
    /// What a server says it can do, read as the RFC demands (unknown ignored, any case, LF or CRLF).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    #[allow(missing_docs)]
    pub struct Capabilities {
        pub aes: bool,
        pub post: bool,
        pub sha256: bool,
        pub sha384: bool,
        pub sha512: bool,
        pub sha1: bool,
        pub des3: bool,
        pub renewal: bool,
        pub get_next_ca_cert: bool,
        pub scep_standard: bool,
    }
    impl Capabilities {
        /// Parses a body.
        #[must_use]
        pub fn parse(body: &str) -> Self {
            todo!()
        }
    }
}

/// GetCACert (4.2.1).
pub mod ca_cert {
    use super::*;
    /// Content type and body.
    #[must_use]
    pub fn response(certificates: &[CertificateDer]) -> (&'static str, Vec<u8>) {
        todo!()
    }
    /// What a server sent, either form.
    pub fn parse(body: &[u8], limits: &Limits) -> Result<Vec<CertificateDer>, MessageError> {
        todo!()
    }
}

/// The HTTP encoding of operations (4.1), with the quirks of the field.
pub mod http {
    use super::*;
    /// An operation.
    #[derive(Debug, PartialEq, Eq)]
    pub enum Operation {
        /// GetCACaps.
        GetCaCaps,
        /// GetCACert.
        GetCaCert,
        /// GetNextCACert.
        GetNextCaCert,
        /// PKIOperation with its message.
        PkiOperation(Vec<u8>),
    }
    /// Why a request is none.
    #[derive(Clone, Debug, PartialEq, Eq, Error)]
    #[allow(missing_docs)]
    pub enum OperationError {
        #[error("no operation parameter")]
        Missing,
        #[error("unknown operation")]
        Unknown,
        #[error("the message is not base64")]
        Base64,
        #[error("no message")]
        NoMessage,
        #[error("too long")]
        TooLong,
    }
    /// From a GET's raw query (as on the wire, not decoded), at most 64 KiB.
    pub fn from_query(query: &str) -> Result<Operation, OperationError> {
        todo!()
    }
    /// From a POST's raw query and body. operation absent or wrong: PKIOperation.
    pub fn from_post(query: Option<&str>, body: Vec<u8>) -> Result<Operation, OperationError> {
        todo!()
    }
    /// The query of a GET PKIOperation.
    #[must_use]
    pub fn pki_operation_query(message: &[u8]) -> String {
        todo!()
    }
    /// Content types.
    pub const PKI_MESSAGE: &str = "application/x-pki-message";
    /// One certificate.
    pub const CA_CERT: &str = "application/x-x509-ca-cert";
    /// A bundle.
    pub const CA_RA_CERT: &str = "application/x-x509-ca-ra-cert";
}

/// The client's side: requests out, replies in.
pub mod client {
    use super::*;
    /// Who asks.
    #[derive(Debug)]
    pub struct Identity<'a> {
        /// The certificate of the key that signs (self-signed, or the one being renewed).
        pub certificate: &'a CertificateDer,
        /// Its key.
        pub signer: &'a dyn Signer,
    }
    /// What is asked, and how.
    #[derive(Debug)]
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
    /// Builds a pkiMessage, with the nonce it sent.
    pub fn request(
        ask: &Ask<'_>,
        who: &Identity<'_>,
        provider: &dyn CryptoProvider,
    ) -> Result<(Vec<u8>, Nonce), MessageError> {
        todo!()
    }
    /// A verified reply.
    #[derive(Debug)]
    pub enum Reply {
        /// Certificates, the leaf first as sent.
        Success(Vec<CertificateDer>),
        /// CRLs (DER), for GetCRL.
        Crls(Vec<Vec<u8>>),
        /// Refused.
        Failure {
            /// failInfo.
            fail_info: FailInfo,
            /// failInfoText.
            text: Option<String>,
        },
        /// Later.
        Pending,
    }
    /// Verifies a CertRep: signed by one of `ra`, same transactionID, our nonce back; decrypts a SUCCESS with `key`.
    pub fn reply(
        bytes: &[u8],
        transaction_id: &TransactionId,
        nonce: &Nonce,
        ra: &[CertificateDer],
        me: &Recipient,
        provider: &dyn CryptoProvider,
        limits: &Limits,
    ) -> Result<Reply, MessageError> {
        todo!()
    }
    /// IssuerAndSubject's DER.
    #[must_use]
    pub fn issuer_and_subject(issuer: &[u8], subject: &[u8]) -> Vec<u8> {
        todo!()
    }
    /// IssuerAndSerialNumber's DER.
    #[must_use]
    pub fn issuer_and_serial(issuer: &[u8], serial: &[u8]) -> Vec<u8> {
        todo!()
    }
}
#[allow(dead_code)]
fn _uses(e: CmsError) {}
