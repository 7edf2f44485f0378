//! What a challenge says.

use crate::sid;
use core::time::Duration;
use scep_types::{
    ChallengeId, DeviceId, DistinguishedName, ExtendedKeyUsages, GatewayGroupId, GeneralName,
    IdError, KeyAlgorithm, KeyId, KeyUsages, NameError, ObjectIdentifier, ProfileId, Reason,
    SpkiHash, TenantId, Timestamp, UserId, tlv::TlvError,
};
use thiserror::Error;

/// What a challenge is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A first certificate.
    Enrol,
    /// A successor.
    Renew,
}

/// How the certificate may be renewed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Renewal {
    /// With a fresh blob.
    Blob,
    /// By the certificate itself, in the last `window` of its life.
    Certificate {
        /// Before notAfter: whole seconds, at least one, shorter than the validity.
        window: Duration,
    },
}

/// Who approves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ApprovalMode {
    /// The match is enough.
    Automatic,
    /// A person.
    Manual,
}

/// Whether a request must itself ask for the usages it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DemandUsages {
    /// Absent is fine; present must be equal.
    No,
    /// Both must be present and equal.
    Yes,
}

/// An extension that the certificate carries as given.
///
/// The one that may be named so far is Microsoft's security identifier, 1.3.6.1.4.1.311.25.2, which
/// [`Sid::to_extension`](crate::Sid::to_extension) makes. What the gateway sets itself (names, usages, key
/// identifiers, distribution points) and everything else is refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExtraExtension {
    /// extnID.
    pub oid: ObjectIdentifier,
    /// critical.
    pub critical: bool,
    /// extnValue's contents, DER; at most 4,096 octets.
    pub value: Vec<u8>,
}

/// What the request must contain and the certificate will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// Subject. Empty only where there is a subjectAltName.
    pub subject: DistinguishedName,
    /// subjectAltNames, a set of at most 64; may be empty. Their order is that of the certificate.
    pub subject_alt_names: Vec<GeneralName>,
    /// Key usage.
    pub key_usage: KeyUsages,
    /// Extended key usages.
    pub extended_key_usages: ExtendedKeyUsages,
    /// Whether the request must carry KeyUsage and ExtKeyUsage itself.
    pub demand_usages: DemandUsages,
    /// Key algorithms and sizes allowed, 1 to 8 different ones; RSA of 2,048 to 8,192 bits.
    pub key_algorithms: Vec<KeyAlgorithm>,
    /// Pins the key.
    pub spki_hash: Option<SpkiHash>,
    /// How long the certificate is valid, from issue: whole seconds, one hour to 3,650 days.
    pub validity: Duration,
    /// Further extensions of the certificate, at most 8.
    pub extensions: Vec<ExtraExtension>,
    /// Renewal.
    pub renewal: Renewal,
    /// Approval.
    pub approval: ApprovalMode,
}

/// The plaintext of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengeClaims {
    /// Random.
    pub challenge_id: ChallengeId,
    /// Of the issuer.
    pub tenant: TenantId,
    /// Which key has signed.
    pub issuer_key: KeyId,
    /// Gateway group.
    pub audience: GatewayGroupId,
    /// Which key opens.
    pub recipient_key: KeyId,
    /// Profile.
    pub profile: ProfileId,
    /// Device.
    pub device: DeviceId,
    /// User, for user certificates.
    pub user: Option<UserId>,
    /// When it was made.
    pub issued_at: Timestamp,
    /// When it ends; after `issued_at`.
    pub expires_at: Timestamp,
    /// Purpose.
    pub purpose: Purpose,
    /// What the request must contain.
    pub expectation: Expectation,
}

impl ChallengeClaims {
    /// Longest encoding, octets: no more fits into the text of a blob.
    pub const MAX_DER: usize = crate::MAX_TEXT / 4 * 3;

    /// Canonical DER, as FORMAT.md specifies it.
    ///
    /// # Errors
    /// When a limit is passed, times or names contradict each other, or an extension is not one that
    /// claims may carry.
    pub fn to_der(&self) -> Result<Vec<u8>, ClaimsError> {
        let der = crate::codec::encode(self);
        // The decoder is the one place that knows what is allowed: an issuer is held to it as well.
        if crate::codec::decode(&der)? == *self { Ok(der) } else { Err(ClaimsError::NotEncodable) }
    }

    /// Reads canonical DER: re-encoding gives the same bytes.
    ///
    /// # Errors
    /// When it is malformed, not canonical, or would be refused by [`ChallengeClaims::to_der`].
    pub fn from_der(der: &[u8]) -> Result<Self, ClaimsError> {
        if der.len() > Self::MAX_DER {
            return Err(ClaimsError::TooLong {
                what: "claims",
                got: der.len(),
                max: Self::MAX_DER,
            });
        }
        let claims = crate::codec::decode(der)?;
        if crate::codec::encode(&claims) == der {
            Ok(claims)
        } else {
            Err(ClaimsError::NotCanonical)
        }
    }

    /// How long the challenge lives.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.expires_at.since(self.issued_at)
    }
}

/// Why claims cannot be encoded or decoded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClaimsError {
    /// Malformed.
    #[error("not claims: {0}")]
    Malformed(#[from] TlvError),
    /// A version that we do not know.
    #[error("claims of version {got}; only 1 is known")]
    Version {
        /// Which.
        got: u64,
    },
    /// An id.
    #[error("an id in the claims: {0}")]
    Id(#[from] IdError),
    /// A name.
    #[error("a name in the claims: {0}")]
    Name(#[from] NameError),
    /// Readable, but a re-encoding gives other bytes.
    #[error("the claims are not in canonical form")]
    NotCanonical,
    /// A value that the encoding cannot hold: a fraction of a second, or a general name that is none.
    #[error("the claims hold a value that has no encoding")]
    NotEncodable,
    /// Too many or too few.
    #[error("{got} {what} in the claims; {min} to {max} are allowed")]
    Count {
        /// Of what.
        what: &'static str,
        /// How many.
        got: usize,
        /// The fewest.
        min: usize,
        /// The most.
        max: usize,
    },
    /// A value with too many octets.
    #[error("{what}: {got} octets; at most {max} are allowed")]
    TooLong {
        /// What.
        what: &'static str,
        /// Its octets.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// Constructed values nested too deeply.
    #[error("{what} has more than {max} levels")]
    TooDeep {
        /// What.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// A number out of range.
    #[error("{what} is {got}; {min} to {max} are allowed")]
    Range {
        /// What.
        what: &'static str,
        /// Its value.
        got: u64,
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// The same thing twice.
    #[error("the same {what} twice in the claims")]
    Duplicate {
        /// What.
        what: &'static str,
    },
    /// The end is not after the beginning.
    #[error("the claims were issued at {issued_at} and expire at {expires_at}, not later")]
    Times {
        /// The beginning.
        issued_at: Timestamp,
        /// The end.
        expires_at: Timestamp,
    },
    /// The renewal window is as long as the validity, or longer.
    #[error("the renewal window of {window} s is not shorter than the validity of {validity} s")]
    RenewalWindow {
        /// Window, seconds.
        window: u64,
        /// Validity, seconds.
        validity: u64,
    },
    /// Neither subject nor subjectAltName.
    #[error("the claims name nobody: subject and subjectAltNames are both empty")]
    Nameless,
    /// An extension that the gateway sets itself.
    #[error("extension {oid} is set by the gateway and cannot be given")]
    ExtensionReserved {
        /// Which.
        oid: ObjectIdentifier,
    },
    /// An extension that claims cannot carry.
    #[error("extension {oid} is not one that claims may carry")]
    ExtensionNotAllowed {
        /// Which.
        oid: ObjectIdentifier,
    },
    /// A security identifier that is malformed, or given twice.
    #[error("the security identifier in the claims: {0}")]
    Sid(#[from] sid::SidError),
    /// The extension and the URI name different security identifiers.
    #[error("extension and URI name different security identifiers")]
    SidsDiffer,
}

impl ClaimsError {
    /// The reason it is reported under, when a blob carried such claims.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Times { .. } => Reason::ChallengeInvalidTimestamp,
            Self::Malformed(_)
            | Self::Version { .. }
            | Self::Id(_)
            | Self::Name(_)
            | Self::NotCanonical
            | Self::NotEncodable
            | Self::Count { .. }
            | Self::TooLong { .. }
            | Self::TooDeep { .. }
            | Self::Range { .. }
            | Self::Duplicate { .. }
            | Self::RenewalWindow { .. }
            | Self::Nameless
            | Self::ExtensionReserved { .. }
            | Self::ExtensionNotAllowed { .. }
            | Self::Sid(_)
            | Self::SidsDiffer => Reason::ChallengeDeserializationError,
        }
    }
}
