//! Why an operation failed: what the server answered, or what of it was not acceptable.

use core::fmt;
use scep_message::{FailInfo, MessageError};
use scep_types::{
    CertificateError, CertificateFingerprint, Fault, IdError, KeyAlgorithm, KeyError, tlv::TlvError,
};
use thiserror::Error;

/// The HTTP exchange in which something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// GetCACaps.
    GetCaCaps,
    /// GetCACert.
    GetCaCert,
    /// GetNextCACert.
    GetNextCaCert,
    /// PKIOperation.
    PkiOperation,
}

impl Step {
    /// The operation's name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::GetCaCaps => "GetCACaps",
            Self::GetCaCert => "GetCACert",
            Self::GetNextCaCert => "GetNextCACert",
            Self::PkiOperation => "PKIOperation",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClientError {
    /// The URL is not one of HTTP or HTTPS, or has a user name in it.
    #[error("not a URL for SCEP: {why}")]
    Url {
        /// What is wrong with it.
        why: String,
    },
    /// The settings cannot be used: a TLS root that is none, no TLS at all.
    #[error("the HTTP client cannot be set up: {why}")]
    Setup {
        /// As the HTTP library says.
        why: String,
    },
    /// The device's key cannot be used for SCEP.
    #[error(
        "a {got} key cannot open replies: an EC key, or an RSA key of 2048 bits or more, is needed"
    )]
    KeyCannotOpen {
        /// The key's algorithm and size.
        got: KeyAlgorithm,
    },
    /// The answer to an EC key is encrypted with the request's challenge (RFC 8894, 3.1), and this request has none.
    #[error(
        "the answer to a {key} key is encrypted with the request's challenge, and there is none"
    )]
    NoChallengeToOpenWith {
        /// The key's algorithm.
        key: KeyAlgorithm,
    },
    /// Signing key, decryption key and certificate of an identity are not of one key.
    #[error("signing key, decryption key and certificate are not of one key")]
    KeysDiffer,
    /// A key or the source of randomness failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The request to be sent is no PKCS #10 request.
    #[error("not a certification request: {0}")]
    Request(TlvError),
    /// The request's key is of a kind we do not know.
    #[error("the certification request's key: {0}")]
    RequestKey(#[from] scep_types::SpkiError),
    /// A certificate that was made here cannot be read back.
    #[error("the signer's certificate: {0}")]
    OwnCertificate(CertificateError),
    /// A transactionID that was made here is none.
    #[error(transparent)]
    TransactionId(IdError),

    /// The server could not be reached: nothing was sent.
    #[error("{step}: {why}")]
    Unreachable {
        /// In which exchange.
        step: Step,
        /// As the HTTP library says.
        why: String,
    },
    /// The connection broke: the server may have the request or not.
    #[error("{step}: {why}")]
    Connection {
        /// In which exchange.
        step: Step,
        /// As the HTTP library says.
        why: String,
    },
    /// No answer in time.
    #[error("{step}: no answer in time")]
    Timeout {
        /// In which exchange.
        step: Step,
    },
    /// An HTTP error.
    #[error("{step}: the server answers with HTTP status {status}")]
    Status {
        /// In which exchange.
        step: Step,
        /// The status.
        status: u16,
    },
    /// A redirect. None is followed: the challenge goes to the configured server only.
    #[error("{step}: the server redirects elsewhere (HTTP status {status}), which is not followed")]
    Redirect {
        /// In which exchange.
        step: Step,
        /// The status.
        status: u16,
    },
    /// A longer answer than the settings allow.
    #[error("{step}: the answer is longer than {limit} octets")]
    TooLong {
        /// In which exchange.
        step: Step,
        /// The limit.
        limit: usize,
    },

    /// The answer to GetCACert cannot be read.
    #[error("GetCACert: {0}")]
    CaCertificates(MessageError),
    /// GetCACert sent no certificate with the fingerprint that is trusted.
    #[error("the server sent no certificate with the fingerprint {expected}")]
    FingerprintMismatch {
        /// What was expected.
        expected: CertificateFingerprint,
        /// What was sent.
        got: Vec<CertificateFingerprint>,
    },
    /// None of the server's certificates leads to the trusted one.
    #[error("none of the server's certificates leads to the trusted one")]
    Untrusted,
    /// None of the server's trusted certificates has an RSA key for encryption.
    #[error("the server has no certificate that requests could be encrypted to")]
    NoRecipient,
    /// The server offers only what is not used without asking.
    #[error("the server offers no {what} that is acceptable")]
    NoCommonAlgorithm {
        /// "digest" or "content encryption".
        what: &'static str,
    },

    /// A request could not be made.
    #[error("the request could not be made: {0}")]
    Build(MessageError),
    /// The answer is not a CertRep for this request by this server.
    #[error("the answer is not acceptable: {0}")]
    Reply(MessageError),
    /// The server refuses.
    #[error("the server refuses: {fail_info:?}{}", text.as_ref().map(|t| format!(": {t}")).unwrap_or_default())]
    Refused {
        /// failInfo.
        fail_info: FailInfo,
        /// failInfoText, without control characters.
        text: Option<String>,
    },
    /// Still not decided after the last poll.
    #[error("still pending after {polls} polls")]
    StillPending {
        /// How many were made.
        polls: u32,
    },
    /// A success without what was asked for.
    #[error("the server's success contains no {expected}")]
    Empty {
        /// What was asked for.
        expected: &'static str,
    },
    /// PENDING in answer to a query that has nothing to wait for.
    #[error("the server answers a query with PENDING")]
    UnexpectedPending,
    /// No certificate in the answer is for the key of the request.
    #[error("the certificate sent is not for the key of the request")]
    OtherKey,
    /// The certificate's issuer is known, and its signature is not the issuer's; or it does not lead to the
    /// trusted certificate.
    #[error("the certificate sent was not issued by the trusted CA")]
    OtherIssuer,
    /// GetNextCACert's answer is not signed by a key of the present CA.
    #[error("the next CA certificate is not signed by the present CA")]
    NextCaUnsigned,
}

impl ClientError {
    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Url { .. }
            | Self::Setup { .. }
            | Self::KeyCannotOpen { .. }
            | Self::NoChallengeToOpenWith { .. }
            | Self::KeysDiffer
            | Self::Request(_)
            | Self::RequestKey(_)
            | Self::FingerprintMismatch { .. }
            | Self::Untrusted => Fault::OurConfiguration,
            Self::Key(error) => error.fault(),
            Self::OwnCertificate(_) | Self::TransactionId(_) => Fault::OurBug,
            Self::Unreachable { .. }
            | Self::Connection { .. }
            | Self::Timeout { .. }
            | Self::Status { .. }
            | Self::StillPending { .. } => Fault::OurDependency,
            Self::Build(error) => error.reason().fault(),
            Self::Refused { .. } => Fault::PeerRights,
            Self::Redirect { .. }
            | Self::TooLong { .. }
            | Self::CaCertificates(_)
            | Self::NoRecipient
            | Self::NoCommonAlgorithm { .. }
            | Self::Reply(_)
            | Self::Empty { .. }
            | Self::UnexpectedPending
            | Self::OtherKey
            | Self::OtherIssuer
            | Self::NextCaUnsigned => Fault::PeerMessage,
        }
    }
}
