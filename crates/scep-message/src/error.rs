//! Why a message was refused, and under which reason that is reported.

use crate::attributes::MESSAGE_TYPE;
use crate::kinds::MessageType;
use scep_cms::CmsError;
use scep_types::tlv::TlvError;
use scep_types::{
    CertificateError, Fault, IdError, KeyAlgorithm, KeyError, ObjectIdentifier, Reason,
};
use thiserror::Error;

/// Why a message was refused, or could not be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// The outer SignedData is malformed, uses what is not served, or does not verify.
    #[error("signed message: {0}")]
    Signed(CmsError),
    /// The eContentType is not id-data (RFC 8894, 3.2).
    #[error("the content type is {got}, not id-data")]
    ContentType {
        /// What it is.
        got: ObjectIdentifier,
    },
    /// A signed attribute that RFC 8894 demands is absent.
    #[error("no signed attribute {name}")]
    AttributeMissing {
        /// Its name in RFC 8894.
        name: &'static str,
    },
    /// A signed attribute has another type than it should, or is malformed.
    #[error("signed attribute {name}: {error}")]
    AttributeEncoding {
        /// Its name in RFC 8894.
        name: &'static str,
        /// What is wrong; the offset is from the start of the attribute's value.
        error: TlvError,
    },
    /// A signed attribute that is a number is not one of 0 to 255 in decimal digits without leading
    /// zeros.
    #[error("signed attribute {name} is not a decimal number of 0 to 255")]
    AttributeNumber {
        /// Its name in RFC 8894.
        name: &'static str,
    },
    /// The transactionID is empty, too long, or has characters that are not allowed.
    #[error(transparent)]
    TransactionId(IdError),
    /// A nonce is empty or too long.
    #[error("{name}: {error}")]
    Nonce {
        /// senderNonce or recipientNonce.
        name: &'static str,
        /// Its length.
        error: IdError,
    },
    /// A challengePassword among the signed attributes: its one place is the PKCS #10 request.
    #[error("a challengePassword is in the signed attributes")]
    ChallengeInSignedAttributes,
    /// A messageType that no request has.
    #[error("{got} is not served")]
    MessageTypeNotServed {
        /// What was sent.
        got: MessageType,
    },
    /// The request carries no envelope.
    #[error("the message has no envelope")]
    NoEnvelope,
    /// The envelope is malformed or uses what is not served. Found before any private-key
    /// operation.
    #[error("envelope: {0}")]
    Envelope(CmsError),
    /// The envelope is not for a key of ours. Found before any private-key operation.
    #[error("the envelope is not for this key")]
    NotForUs,
    /// Whatever went wrong from the private-key operation on: key transport, content, or a
    /// plaintext that is not what the messageType says. One value for all, on purpose.
    #[error("the message could not be decrypted")]
    DoesNotOpen,
    /// A private key or the source of randomness failed.
    #[error(transparent)]
    Key(KeyError),
    /// An answer with content was asked of a message whose envelope was not opened.
    #[error("the request was not opened, so that nothing can be sent in answer to it")]
    NotOpened,
    /// The request's signer has a key that the answer cannot be encrypted to.
    #[error("the answer cannot be encrypted to the signer's {key} key")]
    SignerCannotDecrypt {
        /// Algorithm and size of the key.
        key: KeyAlgorithm,
    },
    /// The request's signer has a key that signs only, and there is no challenge to encrypt the answer with (RFC 8894,
    /// 3.1).
    #[error(
        "the answer to the signer's {key} key can only be encrypted with a challenge, and there is none"
    )]
    NoChallengeToAnswerWith {
        /// The key.
        key: KeyAlgorithm,
    },
    /// The answer could not be encrypted.
    #[error("sealing the message: {0}")]
    Sealing(CmsError),
    /// The message could not be signed.
    #[error("signing the message: {0}")]
    Signing(CmsError),
    /// A reply that is no CertRep.
    #[error("the reply is {got}, not CertRep")]
    NotCertRep {
        /// What it is.
        got: MessageType,
    },
    /// The reply is of another transaction.
    #[error("the reply is of another transaction")]
    OtherTransaction,
    /// The reply does not carry the nonce that was sent (RFC 8894, 3.2.1.5).
    #[error("the reply answers another request: recipientNonce differs from the nonce sent")]
    OtherNonce,
    /// A pkiStatus that RFC 8894 does not define.
    #[error("undefined pkiStatus {got}")]
    StatusUndefined {
        /// What was sent.
        got: u32,
    },
    /// A failInfo that RFC 8894 does not define.
    #[error("undefined failInfo {got}")]
    FailInfoUndefined {
        /// What was sent.
        got: u32,
    },
    /// What was decrypted, or came from GetCACert, is no degenerate SignedData.
    #[error("certificates: {0}")]
    Degenerate(CmsError),
    /// A certificate that was sent by itself is none.
    #[error(transparent)]
    Certificate(CertificateError),
}

impl MessageError {
    /// The reason it is reported under.
    ///
    /// [`Reason::MessageDecryptionFailed`], [`Reason::CertificateRequestDecodingFailed`] and
    /// [`Reason::ProofOfPossessionFailed`] must be answered alike: see
    /// [`SignedRequest::decrypt`](crate::SignedRequest::decrypt).
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Signed(error) | Self::Envelope(error) | Self::Degenerate(error) => error.reason(),
            // A messageType that cannot be read is as little served as one that is unknown.
            Self::AttributeMissing { name }
            | Self::AttributeEncoding { name, .. }
            | Self::AttributeNumber { name }
                if *name == MESSAGE_TYPE.name =>
            {
                Reason::MessageTypeNotServed
            }
            Self::ContentType { .. }
            | Self::AttributeMissing { .. }
            | Self::AttributeEncoding { .. }
            | Self::AttributeNumber { .. }
            | Self::TransactionId(_)
            | Self::Nonce { .. }
            | Self::NoEnvelope
            | Self::NotCertRep { .. }
            | Self::OtherTransaction
            | Self::OtherNonce
            | Self::StatusUndefined { .. }
            | Self::FailInfoUndefined { .. }
            | Self::Certificate(_) => Reason::MessageMalformed,
            Self::ChallengeInSignedAttributes => Reason::AttributeNotAllowed,
            Self::MessageTypeNotServed { .. } => Reason::MessageTypeNotServed,
            Self::NotForUs => Reason::MessageNotForUs,
            Self::DoesNotOpen => Reason::MessageDecryptionFailed,
            Self::Key(error) => reason_of_key(error),
            Self::NotOpened => Reason::InternalError,
            // Whoever signed the request chose the key; the encryption itself uses no key of ours.
            Self::SignerCannotDecrypt { .. } => Reason::AlgorithmNotSupported,
            Self::NoChallengeToAnswerWith { .. } => Reason::AnswerUndeliverable,
            Self::Sealing(CmsError::Key(
                KeyError::Rejected { .. } | KeyError::Unsupported { .. },
            )) => Reason::AlgorithmNotSupported,
            Self::Sealing(CmsError::Key(error)) | Self::Signing(CmsError::Key(error)) => {
                reason_of_key(error)
            }
            // We chose what is sealed and signed, so that only a bug can be wrong with it.
            Self::Sealing(_) | Self::Signing(_) => Reason::InternalError,
        }
    }

    /// The name of the algorithm that is not served (`des-cbc`, `md5`, `sha1`, or a dotted OID),
    /// when that is the reason: failInfoText may show it.
    #[must_use]
    pub fn algorithm(&self) -> Option<&str> {
        match self {
            Self::Signed(CmsError::Algorithm { name, .. })
            | Self::Envelope(CmsError::Algorithm { name, .. }) => Some(name),
            Self::SignerCannotDecrypt { key } => Some(match key {
                KeyAlgorithm::Rsa(_) => "rsa key not of 2048 to 8192 bits",
                KeyAlgorithm::P256 => "p256",
                KeyAlgorithm::P384 => "p384",
            }),
            _ => None,
        }
    }
}

const fn reason_of_key(error: &KeyError) -> Reason {
    match error.fault() {
        Fault::OurDependency => Reason::KeyUnavailable,
        Fault::PeerMessage | Fault::PeerRights | Fault::OurConfiguration | Fault::OurBug => {
            Reason::InternalError
        }
    }
}
