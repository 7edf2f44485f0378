//! The pure decision. STUB: signatures fixed, bodies to come.
#![allow(unused_variables, clippy::todo, clippy::missing_errors_doc)]
use core::time::Duration;
use scep_challenge::{ChallengeClaims, ExtraExtension, VerifiedClaims};
use scep_pkcs10::Csr;
use scep_types::*;
use std::collections::BTreeSet;
use thiserror::Error;

/// Key of the ledger's memory of a request: only a proven request has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryKey(CsrInfoHash);
impl RetryKey {
    /// Of a proven request.
    #[must_use]
    pub fn of(csr: &Csr) -> Self {
        todo!()
    }
    /// The hash.
    #[must_use]
    pub const fn hash(&self) -> CsrInfoHash {
        self.0
    }
}

/// Checked site rules. From TOML, unknown keys refused; see `SiteRules::from_toml`.
#[derive(Clone, Debug)]
pub struct SiteRules(());
impl SiteRules {
    /// Reads rules.
    pub fn from_toml(text: &str) -> Result<Self, SiteRulesError> {
        todo!()
    }
    /// Most certificates per hour.
    #[must_use]
    pub fn issuance_per_hour(&self) -> u32 {
        todo!()
    }
}
/// Why rules were refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("site rules: {0}")]
pub struct SiteRulesError(pub String); // refine

/// Devices, users and profiles that the issuer has disabled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denials {
    /// Devices.
    pub devices: BTreeSet<(TenantId, DeviceId)>,
    /// Users.
    pub users: BTreeSet<(TenantId, UserId)>,
    /// Profiles.
    pub profiles: BTreeSet<(TenantId, ProfileId)>,
}

/// Whether inert content of a request is tolerated. A foreign CA that copies the request demands `Refuse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InertContent {
    /// Read and discarded.
    Discard,
    /// A reason against.
    Refuse,
}

/// Compares everything with everything; every reason at once.
pub fn decide(
    csr: &Csr,
    challenge: VerifiedClaims,
    rules: &SiteRules,
    denials: &Denials,
    inert: InertContent,
    now: Timestamp,
) -> Result<Approval, Denial> {
    todo!()
}

/// The same comparison for explaining: every field with expected, got and verdict.
#[must_use]
pub fn explain(
    csr: &Csr,
    claims: &ChallengeClaims,
    rules: &SiteRules,
    denials: &Denials,
    inert: InertContent,
    now: Timestamp,
) -> Vec<FieldReport> {
    todo!()
}

/// One field of the comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldReport {
    /// Field.
    pub field: Field,
    /// What the challenge or the site's rules say, for people.
    pub expected: String,
    /// What came, for people.
    pub got: String,
    /// The reason against, or none.
    pub reason: Option<Reason>,
}

/// What is compared. (Refine.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Field {
    Subject,
    SubjectAltName,
    KeyUsage,
    ExtendedKeyUsage,
    Key,
    PinnedKey,
    Extensions,
    Attributes,
    Inert,
    Validity,
    Purpose,
    Device,
    User,
    Profile,
    SiteRules,
}

/// The request is exactly what the challenge allows. Cannot be made otherwise; no Clone.
#[derive(Debug)]
pub struct Approval(());
impl Approval {
    /// The claims it was decided on.
    #[must_use]
    pub fn claims(&self) -> &ChallengeClaims {
        todo!()
    }
    /// The ledger's key of the request.
    #[must_use]
    pub fn retry_key(&self) -> RetryKey {
        todo!()
    }
    /// The certificate's contents: a function of the claims, and the proven key.
    #[must_use]
    pub fn contents(&self) -> &CertificateContents {
        todo!()
    }
    /// The request's DER, for a CA that insists on it.
    #[must_use]
    pub fn csr_der(&self) -> &[u8] {
        todo!()
    }
    /// The brake in force when it was decided.
    #[must_use]
    pub fn issuance_per_hour(&self) -> u32 {
        todo!()
    }
    /// Compares what a CA returned, field by field.
    pub fn check_certificate(
        &self,
        certificate: &CertificateDer,
    ) -> Result<Conforming, Vec<FieldReport>> {
        todo!()
    }
}

/// What a certificate will contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateContents {
    /// Subject.
    pub subject: DistinguishedName,
    /// subjectAltNames.
    pub subject_alt_names: Vec<GeneralName>,
    /// Key usage.
    pub key_usage: KeyUsages,
    /// Extended key usages.
    pub extended_key_usages: ExtendedKeyUsages,
    /// Key, from the request.
    pub spki: SpkiDer,
    /// First instant: decision time minus the backdating of 5 minutes.
    pub not_before: Timestamp,
    /// Last instant: decision time + the claims' validity.
    pub not_after: Timestamp,
    /// Further extensions.
    pub extensions: Vec<ExtraExtension>,
}

/// Every reason against.
#[derive(Debug, Error)]
#[error("refused")]
pub struct Denial(()); // refine
impl Denial {
    /// The fields that differ, at least one.
    #[must_use]
    pub fn reports(&self) -> &[FieldReport] {
        todo!()
    }
    /// The gravest reason, for the answer.
    #[must_use]
    pub fn reason(&self) -> Reason {
        todo!()
    }
    /// Whose challenge it was.
    #[must_use]
    pub fn claims(&self) -> &ChallengeClaims {
        todo!()
    }
}

/// A certificate that is exactly what was approved. Cannot be made otherwise; no Clone. Bound to its challenge.
#[derive(Debug)]
pub struct Conforming(());
impl Conforming {
    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer {
        todo!()
    }
    /// The challenge it was approved under.
    #[must_use]
    pub fn challenge(&self) -> (&TenantId, ChallengeId) {
        todo!()
    }
}
#[allow(dead_code)]
const BACKDATE: Duration = Duration::from_secs(300);
