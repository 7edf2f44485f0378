//! The challenge blob. STUB: signatures fixed, bodies to come. See FORMAT.md (to be written).
#![warn(clippy::arithmetic_side_effects)]
#![allow(unused_variables, clippy::todo, clippy::missing_errors_doc)]
use core::time::Duration;
use scep_types::*;
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
        /// Before notAfter.
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

/// An extension that the certificate carries as given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExtraExtension {
    /// extnID.
    pub oid: ObjectIdentifier,
    /// critical.
    pub critical: bool,
    /// extnValue's contents, DER.
    pub value: Vec<u8>,
}

/// What the request must contain and the certificate will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// Subject.
    pub subject: DistinguishedName,
    /// subjectAltNames, a set; may be empty.
    pub subject_alt_names: Vec<GeneralName>,
    /// Key usage.
    pub key_usage: KeyUsages,
    /// Extended key usages.
    pub extended_key_usages: ExtendedKeyUsages,
    /// Whether the request must carry KeyUsage and ExtKeyUsage itself.
    pub demand_usages: DemandUsages,
    /// Key algorithms and sizes allowed, 1 to 8.
    pub key_algorithms: Vec<KeyAlgorithm>,
    /// Pins the key.
    pub spki_hash: Option<SpkiHash>,
    /// How long the certificate is valid, from issue.
    pub validity: Duration,
    /// Further extensions of the certificate.
    pub extensions: Vec<ExtraExtension>,
    /// Renewal.
    pub renewal: Renewal,
    /// Approval.
    pub approval: ApprovalMode,
}

/// Whether a request must itself ask for the usages it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DemandUsages {
    /// Absent is fine; present must be equal.
    No,
    /// Both must be present and equal.
    Yes,
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
    /// When it ends.
    pub expires_at: Timestamp,
    /// Purpose.
    pub purpose: Purpose,
    /// What the request must contain.
    pub expectation: Expectation,
}
impl ChallengeClaims {
    /// Canonical DER.
    pub fn to_der(&self) -> Result<Vec<u8>, ClaimsError> {
        todo!()
    }
    /// Reads canonical DER: re-encoding gives the same bytes.
    pub fn from_der(der: &[u8]) -> Result<Self, ClaimsError> {
        todo!()
    }
}

/// Why claims cannot be encoded or decoded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClaimsError {
    /// Malformed.
    #[error("not claims: {0}")]
    Malformed(#[from] tlv::TlvError),
    // ...
}

/// Signs and encrypts. One signature.
/// `claims.issuer_key` and `claims.recipient_key` must be the key ids of `signer` and `recipient`.
pub fn seal(
    claims: &ChallengeClaims,
    signer: &dyn Signer,
    recipient: &SpkiDer,
    provider: &dyn CryptoProvider,
) -> Result<String, SealError> {
    todo!()
}

/// Why a blob could not be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    /// The claims.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    // ...
}

/// A signer key that is trusted, and when.
#[derive(Clone, Debug)]
pub struct PinnedSigner {
    /// The key.
    pub key: SpkiDer,
    /// From when on its signatures count.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
}

/// A decryption key of this gateway, and until when it is used.
#[derive(Clone, Debug)]
pub struct OpeningKey {
    /// The key.
    pub key: DecryptionKey,
    /// After this it is refused (rotation: max lifetime + skew after it was replaced). None: the present key.
    pub not_after: Option<Timestamp>,
}

/// Opens the blobs of one tenant for one gateway group.
#[derive(Debug)]
pub struct Opener(());
impl Opener {
    /// `max_lifetime`: longest expires − issued (60 min usual); `skew` ≤ 5 minutes.
    pub fn new(
        tenant: TenantId,
        audience: GatewayGroupId,
        signers: Vec<PinnedSigner>,
        keys: Vec<OpeningKey>,
        max_lifetime: Duration,
        skew: Duration,
    ) -> Result<Self, OpenerConfigError> {
        todo!()
    }
    /// Verifies, decrypts, checks. `text` is the challengePassword as it came.
    pub fn open(
        &self,
        text: &str,
        now: Timestamp,
        provider: &dyn CryptoProvider,
    ) -> Result<VerifiedClaims, OpenError> {
        todo!()
    }
}
/// Why an opener cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("opener: {0}")]
pub struct OpenerConfigError(pub String); // refine

/// Why a blob was refused. Where it was verified and decrypted, whose it is (for the report).
#[derive(Debug, Error)]
#[error("challenge refused")]
pub struct OpenError(()); // refine: enum
impl OpenError {
    /// The reason it is reported under.
    #[must_use]
    pub fn reason(&self) -> Reason {
        todo!()
    }
    /// The claims of a blob that was verified but is refused (expired, other audience, ...): for reports only.
    #[must_use]
    pub fn claims(&self) -> Option<&ChallengeClaims> {
        todo!()
    }
}

/// Claims out of a blob that was verified, decrypted and checked. Cannot be made otherwise; no Clone.
#[derive(Debug)]
pub struct VerifiedClaims(());
impl VerifiedClaims {
    /// The claims.
    #[must_use]
    pub fn claims(&self) -> &ChallengeClaims {
        todo!()
    }
}
