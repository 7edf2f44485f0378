//! Why a CA cannot be set up, or did not issue.

use scep_types::{
    CertificateError, Fault, KeyAlgorithm, KeyError, KeyUsages, NameError, ObjectIdentifier,
    Timestamp, tlv::TlvError,
};
use thiserror::Error;

/// A CA's failure. Positions count certificates from the issuing CA (0) upwards.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CaError {
    /// The CA's key or the source of randomness failed.
    #[error("the CA's key: {0}")]
    Key(#[from] KeyError),
    /// The key is not the one in the certificate, or signs with another one than it says.
    #[error("the CA's key does not belong to its certificate")]
    KeyMismatch,
    /// RSA of 2048 to 4096 bits, P-256 and P-384 are allowed.
    #[error("a {got} key is not allowed here: RSA of 2048 to 4096 bits, P-256 or P-384 is")]
    KeyNotAllowed {
        /// The key's algorithm and size.
        got: KeyAlgorithm,
    },
    /// An EC key encrypts nothing (RFC 8813, 3), and SCEP transports keys by RSA.
    #[error("a {got} key cannot encipher keys: an RSA key is needed")]
    KeyCannotEncipher {
        /// The key's algorithm and size.
        got: KeyAlgorithm,
    },
    /// A certificate was asked for the CA's own key.
    #[error("the key to be certified is the CA's own")]
    CaKeyReused,
    /// A certificate was asked for the CA's own name: it would look self-issued (RFC 5280, 6.1).
    #[error("the name to be certified is the CA's own")]
    CaNameReused,

    /// A certificate that should be this CA's was issued by another.
    #[error("the certificate was not issued by this CA")]
    NotIssuedHere,
    /// Not CA:TRUE, or without keyCertSign.
    #[error("certificate {position} of the chain is no CA certificate")]
    NotACa {
        /// Which.
        position: usize,
    },
    /// One of its extensions cannot be read.
    #[error("certificate {position} of the chain has a malformed extension: {why}")]
    Extension {
        /// Which.
        position: usize,
        /// What is wrong, and where in the extension.
        why: TlvError,
    },
    /// No subjectKeyIdentifier (RFC 5280, 4.2.1.2), which the certificates it issues must name.
    #[error("the CA's certificate has no subjectKeyIdentifier")]
    NoSubjectKeyId,
    /// Its issuer is not the subject of the next one.
    #[error("certificate {position} of the chain was not issued by the next one")]
    ChainBroken {
        /// Which.
        position: usize,
    },
    /// Its signature is not one of the next one's key (or its own, at the top).
    #[error("the signature of certificate {position} of the chain does not verify")]
    ChainSignature {
        /// Which.
        position: usize,
    },
    /// Its signature algorithm is not accepted: RSA PKCS #1 v1.5, RSA-PSS and ECDSA are, with SHA-2.
    #[error("certificate {position} of the chain is signed with {name}, which is not accepted")]
    ChainAlgorithm {
        /// Which.
        position: usize,
        /// The algorithm's name, or its dotted OID.
        name: String,
    },
    /// More CAs below it than its pathLenConstraint allows.
    #[error("certificate {position} of the chain allows {allowed} CAs below it; there are {below}")]
    PathLength {
        /// Which.
        position: usize,
        /// Its pathLenConstraint.
        allowed: u64,
        /// CAs below it, with the one that was asked for.
        below: u64,
    },
    /// More than 8 certificates.
    #[error("the chain has {got} certificates; at most {max} are allowed")]
    ChainTooLong {
        /// How many.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// notAfter is not after notBefore.
    #[error("certificate {position} of the chain is never valid")]
    NeverValid {
        /// Which.
        position: usize,
    },
    /// A URL for CRLs, the issuer's certificate or OCSP that cannot be written into certificates.
    #[error("a URL for certificates: {0}")]
    Url(#[source] NameError),
    /// A name of a TLS server that cannot be written into a certificate.
    #[error("the server's name: {0}")]
    ServerName(#[source] NameError),

    /// A CA or infrastructure certificate without a subject.
    #[error("the certificate would have no subject")]
    SubjectMissing,
    /// Neither subject nor subjectAltName (RFC 5280, 4.1.2.6).
    #[error("the certificate would name nobody: subject and subjectAltName are empty")]
    NamesMissing,
    /// A validity of no time at all.
    #[error("the certificate would never be valid")]
    EmptyValidity,
    /// It would be valid longer than the CA. Not shortened: what was promised is issued, or nothing.
    #[error("the certificate would be valid until {not_after}, the CA is until {ca}")]
    OutlivesCa {
        /// The certificate's notAfter.
        not_after: Timestamp,
        /// The earliest notAfter in the CA's chain.
        ca: Timestamp,
    },
    /// Only CA certificates sign certificates and CRLs (RFC 5280, 4.2.1.3 and 4.2.1.9).
    #[error("the key usages {usages} are for CAs")]
    CaUsage {
        /// What was asked for.
        usages: KeyUsages,
    },
    /// The extension is set by the CA itself, belongs to CA certificates, or is there twice.
    #[error("extension {oid} cannot be asked for here")]
    ReservedExtension {
        /// extnID.
        oid: ObjectIdentifier,
    },
    /// The permit has no serial number although this CA chooses it beforehand.
    #[error("the permit has no serial number")]
    SerialMissing,

    /// The CA cannot be reached; adapters say with [`crate::IssueError`] whether something may have been issued.
    #[error("the CA cannot be reached: {why}")]
    Unavailable {
        /// As the connection says.
        why: String,
    },
    /// The CA says no.
    #[error("the CA refuses: {why}")]
    Refused {
        /// As the CA says.
        why: String,
    },
    /// A setting of a remote CA that cannot be used.
    #[error("the CA's {what}: {why}")]
    Setting {
        /// Which.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// What the CA answered cannot be read.
    #[error("the CA's answer cannot be read: {why}")]
    Answer {
        /// As the parser says.
        why: String,
    },
    /// It revokes nothing, or not through this adapter.
    #[error("this CA does not revoke")]
    CannotRevoke,
    /// What the CA made is no CRL.
    #[error("what the CA made is no CRL: {0}")]
    NotACrl(#[source] TlvError),
    /// A CA certificate with keyUsage, but without cRLSign (RFC 5280, 4.2.1.3).
    #[error("the CA's certificate is not for signing CRLs")]
    NoCrlSign,
    /// What the CA made is no certificate.
    #[error("what the CA made is no certificate: {0}")]
    NotACertificate(#[from] CertificateError),
}

impl CaError {
    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Key(error) => error.fault(),
            Self::KeyMismatch
            | Self::NotIssuedHere
            | Self::KeyNotAllowed { .. }
            | Self::CannotRevoke
            | Self::NoCrlSign
            | Self::Setting { .. }
            | Self::KeyCannotEncipher { .. }
            | Self::CaKeyReused
            | Self::CaNameReused
            | Self::NotACa { .. }
            | Self::Extension { .. }
            | Self::NoSubjectKeyId
            | Self::ChainBroken { .. }
            | Self::ChainSignature { .. }
            | Self::ChainAlgorithm { .. }
            | Self::PathLength { .. }
            | Self::ChainTooLong { .. }
            | Self::NeverValid { .. }
            | Self::Url(_)
            | Self::ServerName(_)
            | Self::SubjectMissing
            | Self::NamesMissing
            | Self::EmptyValidity
            | Self::OutlivesCa { .. }
            | Self::CaUsage { .. }
            | Self::ReservedExtension { .. } => Fault::OurConfiguration,
            Self::Unavailable { .. }
            | Self::Refused { .. }
            | Self::Answer { .. }
            | Self::NotACertificate(_)
            | Self::NotACrl(_) => Fault::OurDependency,
            Self::SerialMissing => Fault::OurBug,
        }
    }
}
