//! Why a request was refused.

use scep_types::tlv::TlvError;
use scep_types::{
    KeyAlgorithm, NameError, ObjectIdentifier, Reason, SignatureScheme, SpkiError, UnknownAlgorithm,
};
use thiserror::Error;

/// Why a request was refused. One variant for each cause; [`CsrError::reason`] is what it is reported under.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CsrError {
    // What cannot be read.
    /// More octets than the rules allow.
    #[error("the request has {got} octets; {max} are allowed")]
    TooLarge {
        /// Its size.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// Not the strict DER of a CertificationRequest.
    #[error("malformed request: {0}")]
    Malformed(#[from] TlvError),
    /// A version other than v1(0).
    #[error("the request's version is {got}; only 0 exists")]
    Version {
        /// The number sent.
        got: u64,
    },
    /// The subject is no acceptable name. Positions count from the name's start.
    #[error("the subject: {0}")]
    Subject(#[source] NameError),
    /// The public key is of no known kind. Positions count from the key's start.
    #[error("the public key: {0}")]
    Key(#[source] SpkiError),
    /// The key is RSA and its parameters are not NULL: one key would have two hashes.
    #[error("the RSA key's parameters are absent instead of NULL")]
    KeyParameters,
    /// The signature's algorithm is not one of ours.
    #[error("the request's signature: {0}")]
    SignatureAlgorithm(#[from] UnknownAlgorithm),
    /// A SHA-1 signature where the rules refuse them.
    #[error("the request is signed with SHA-1")]
    Sha1Signature,

    // Attributes.
    /// More attributes than [`MAX_ATTRIBUTES`](crate::MAX_ATTRIBUTES).
    #[error("the request has more than {max} attributes")]
    TooManyAttributes {
        /// The limit.
        max: usize,
    },
    /// An attribute type twice (for extensionRequest and challengePassword there are variants of their own).
    #[error("attribute {oid} is there twice")]
    RepeatedAttribute {
        /// Its type.
        oid: ObjectIdentifier,
    },
    /// An attribute without a value, or with several where one is the rule.
    #[error("attribute {oid} has {got} values instead of one")]
    AttributeValues {
        /// Its type.
        oid: ObjectIdentifier,
        /// How many.
        got: usize,
    },
    /// More than one extensionRequest: a checker could read the first and a CA the last.
    #[error("the request has two extensionRequest attributes; all extensions belong in one")]
    RepeatedExtensionRequest,
    /// Microsoft's szOID_CERT_EXTENSIONS (1.3.6.1.4.1.311.2.1.14), a second source of extensions.
    #[error("the request has extensions in szOID_CERT_EXTENSIONS (1.3.6.1.4.1.311.2.1.14)")]
    SecondExtensionSource,
    /// Microsoft's szOID_ENROLLMENT_NAME_VALUE_PAIR (1.3.6.1.4.1.311.13.2.1), instructions to the CA.
    #[error("the request has an szOID_ENROLLMENT_NAME_VALUE_PAIR (1.3.6.1.4.1.311.13.2.1)")]
    EnrollmentNameValuePair,

    // The challengePassword.
    /// More than one challengePassword.
    #[error("the request has two challengePassword attributes")]
    RepeatedChallengePassword,
    /// The challengePassword is neither a string nor an OCTET STRING.
    #[error("the challengePassword has tag {tag:#04x}, which is no string type")]
    ChallengeType {
        /// Its tag.
        tag: u8,
    },
    /// The challengePassword has an octet that its string type does not allow.
    #[error("the challengePassword is not a valid string of its type, tag {tag:#04x}")]
    ChallengeEncoding {
        /// Its tag.
        tag: u8,
    },
    /// A longer challengePassword than [`MAX_CHALLENGE`](crate::MAX_CHALLENGE).
    #[error("the challengePassword has {got} octets of text; {max} are allowed")]
    ChallengeTooLong {
        /// Octets of UTF-8.
        got: usize,
        /// The limit.
        max: usize,
    },

    // Extensions.
    /// More extensions than [`MAX_EXTENSIONS`](crate::MAX_EXTENSIONS).
    #[error("the request has more than {max} extensions")]
    TooManyExtensions {
        /// The limit.
        max: usize,
    },
    /// An extension twice.
    #[error("extension {oid} is there twice")]
    RepeatedExtension {
        /// Its extnID.
        oid: ObjectIdentifier,
    },
    /// `critical FALSE` is written out, which DER forbids of a default.
    #[error("extension {oid} writes out that it is not critical, which DER leaves out")]
    ExplicitNotCritical {
        /// Its extnID.
        oid: ObjectIdentifier,
    },
    /// The subjectAltName is malformed or has an unacceptable value. Positions count from its start.
    #[error("the subjectAltName: {0}")]
    SubjectAltName(#[source] NameError),
    /// The keyUsage is malformed. Positions count from its start.
    #[error("the keyUsage: {0}")]
    KeyUsage(#[source] TlvError),
    /// The extKeyUsage is malformed. Positions count from its start.
    #[error("the extKeyUsage: {0}")]
    ExtendedKeyUsage(#[source] TlvError),

    // Proof of possession.
    /// The signature's algorithm is for keys of another kind.
    #[error("the request has an {key} key and a signature of {scheme}")]
    SignatureKind {
        /// The signature's algorithm.
        scheme: SignatureScheme,
        /// The key.
        key: KeyAlgorithm,
    },
    /// The signature does not verify with the request's own key.
    #[error("the request is not signed by the key it asks to certify")]
    NotProven,

    // Weak keys.
    /// The modulus is smaller than the rules allow.
    #[error("the RSA modulus has {bits} bits; {min} are the least")]
    ModulusTooSmall {
        /// Its size.
        bits: u32,
        /// The limit.
        min: u32,
    },
    /// The modulus is larger than the rules allow.
    #[error("the RSA modulus has {bits} bits; {max} are the most")]
    ModulusTooLarge {
        /// Its size.
        bits: u32,
        /// The limit.
        max: u32,
    },
    /// The public exponent is even.
    #[error("the RSA exponent {exponent} is even")]
    ExponentEven {
        /// The exponent.
        exponent: u64,
    },
    /// The public exponent is less than 65,537.
    #[error("the RSA exponent {exponent} is less than 65537")]
    ExponentTooSmall {
        /// The exponent.
        exponent: u64,
    },
    /// The public exponent has more than 32 bits.
    #[error("the RSA exponent {exponent} has more than 32 bits")]
    ExponentTooLarge {
        /// The exponent.
        exponent: u64,
    },
    /// A small prime divides the modulus.
    #[error("{prime} divides the RSA modulus")]
    SmallFactor {
        /// The least such prime.
        prime: u32,
    },
    /// The modulus has the structure of CVE-2017-15361 (ROCA).
    #[error("the RSA modulus comes from the broken generator of CVE-2017-15361 (ROCA)")]
    Roca,
    /// The primes are so close that Fermat's method finds them at once (CVE-2022-26320).
    #[error("the primes of the RSA modulus are close to each other")]
    ClosePrimes,
    /// The key is one of ours.
    #[error("the key is one of the gateway's own")]
    OurKey,
}

impl CsrError {
    /// The reason it is reported under.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::TooLarge { .. }
            | Self::Malformed(_)
            | Self::Version { .. }
            | Self::Subject(_)
            | Self::Key(SpkiError::Der(_))
            | Self::KeyParameters
            | Self::TooManyAttributes { .. }
            | Self::TooManyExtensions { .. }
            | Self::ExplicitNotCritical { .. }
            | Self::SubjectAltName(_)
            | Self::KeyUsage(_)
            | Self::ExtendedKeyUsage(_) => Reason::CertificateRequestDecodingFailed,
            Self::Key(SpkiError::Algorithm) | Self::SignatureAlgorithm(_) | Self::Sha1Signature => {
                Reason::AlgorithmNotSupported
            }
            Self::RepeatedAttribute { .. }
            | Self::AttributeValues { .. }
            | Self::EnrollmentNameValuePair
            | Self::RepeatedChallengePassword => Reason::AttributeNotAllowed,
            Self::RepeatedExtensionRequest
            | Self::SecondExtensionSource
            | Self::RepeatedExtension { .. } => Reason::ExtensionNotAllowed,
            Self::ChallengeType { .. }
            | Self::ChallengeEncoding { .. }
            | Self::ChallengeTooLong { .. } => Reason::ChallengeDecodingError,
            Self::SignatureKind { .. } | Self::NotProven => Reason::ProofOfPossessionFailed,
            Self::Key(SpkiError::Size)
            | Self::ModulusTooSmall { .. }
            | Self::ModulusTooLarge { .. }
            | Self::ExponentEven { .. }
            | Self::ExponentTooSmall { .. }
            | Self::ExponentTooLarge { .. }
            | Self::SmallFactor { .. }
            | Self::Roca
            | Self::ClosePrimes
            | Self::OurKey => Reason::WeakKey,
        }
    }
}
