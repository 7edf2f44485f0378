//! The decision: request, claims, site rules, denials and time in; an approval or every reason against out.

use crate::certificate::{Conforming, differences};
use crate::contents::CertificateContents;
use crate::grounds::{Grounds, HeldClaims, Predecessor};
use crate::report::{Field, FieldReport, Findings, Keep};
use crate::request::{Manual, Requested, compare};
use crate::rules::SiteRules;
use const_oid::ObjectIdentifier;
use core::fmt;
use scep_challenge::{ApprovalMode, ChallengeClaims, VerifiedClaims};
use scep_pkcs10::Csr;
use scep_types::{
    CertificateDer, ChallengeId, CsrInfoHash, DeviceId, ProfileId, Reason, Secret, SpkiDer,
    TenantId, Timestamp, UserId,
};
use std::collections::BTreeSet;

/// Key of the ledger's memory of a request: only a proven request has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryKey(CsrInfoHash);

impl RetryKey {
    /// Of a proven request.
    #[must_use]
    pub fn of(csr: &Csr) -> Self {
        Self(csr.info_hash())
    }

    /// The hash.
    #[must_use]
    pub const fn hash(&self) -> CsrInfoHash {
        self.0
    }
}

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

pub(crate) fn findings(
    csr: &Csr,
    claims: &ChallengeClaims,
    rules: &SiteRules,
    denials: &Denials,
    inert: InertContent,
    manual: Manual,
    keep: Keep,
) -> Vec<FieldReport> {
    let request = Requested::from(csr);
    let mut findings = Findings::new(keep, request.challenge);
    compare(&request, claims, denials, inert, manual, &mut findings);
    rules.check(claims, request.spki.algorithm(), &mut findings);
    findings.into_reports()
}

/// Compares everything with everything; every reason at once.
///
/// Closed world: what the claims do not mention must be absent from the request. Subject and subjectAltNames must be
/// present and equal; key usage and extended key usage, when present (or demanded), equal; the key of a kind that
/// claims and site allow. Both purposes, enrol and renew, are served, whichever message type brought the request.
/// The claims themselves must be within the site's rules, which can only narrow them.
///
/// Claims that demand a person's approval are refused: who can hold a request uses [`decide_or_hold`].
///
/// # Errors
/// [`Denial`], with every reason against.
pub fn decide(
    csr: &Csr,
    challenge: VerifiedClaims,
    rules: &SiteRules,
    denials: &Denials,
    inert: InertContent,
    now: Timestamp,
) -> Result<Approval, Denial> {
    match judge(csr, challenge, rules, denials, inert, Manual::Refused, now)? {
        Decision::Approved(approval) => Ok(approval),
        // `Manual::Refused` has made a report of it.
        Decision::NeedsApproval(holdable) => Err(Denial(Box::new((holdable.basis, Vec::new())))),
    }
}

/// What became of a request that is what its challenge allows.
#[derive(Debug)]
pub enum Decision {
    /// The match is enough.
    Approved(Approval),
    /// A person must say yes first.
    NeedsApproval(Holdable),
}

/// [`decide`], for who can hold a request until a person has approved it.
///
/// # Errors
/// [`Denial`], with every reason against.
pub fn decide_or_hold(
    csr: &Csr,
    challenge: VerifiedClaims,
    rules: &SiteRules,
    denials: &Denials,
    inert: InertContent,
    now: Timestamp,
) -> Result<Decision, Denial> {
    judge(csr, challenge, rules, denials, inert, Manual::Served, now)
}

/// Decides on a request that a person has approved: everything is compared again, since rules and denials may have
/// changed while it waited. That its challenge has expired meanwhile is no reason against.
///
/// # Errors
/// [`Denial`], with every reason against.
pub fn decide_held(
    csr: &Csr,
    held: HeldClaims,
    rules: &SiteRules,
    denials: &Denials,
    inert: InertContent,
    now: Timestamp,
) -> Result<Approval, Denial> {
    let reports =
        findings(csr, held.claims(), rules, denials, inert, Manual::Served, Keep::Refusals);
    let basis = Basis::Held(held);
    if !reports.is_empty() {
        return Err(Denial(Box::new((basis, reports))));
    }
    Ok(Approval::new(csr, basis, rules, now))
}

/// Decides on a request that a certificate on record asks for its successor: the same names, usages and extensions, a
/// key of a kind that the claims allow, in the last part of its life that the claims name, and at most
/// [`MAX_GENERATIONS`](crate::MAX_GENERATIONS) times without a fresh challenge.
///
/// `presented` is the id of the challenge in the request, if there is one and it was opened, expired or not: clients
/// repeat the one that the first certificate of the line was issued by. Any other is refused.
///
/// # Errors
/// [`Denial`], with every reason against.
pub fn decide_renewal(
    csr: &Csr,
    predecessor: Predecessor,
    presented: Option<ChallengeId>,
    rules: &SiteRules,
    denials: &Denials,
    inert: InertContent,
    now: Timestamp,
) -> Result<Approval, Denial> {
    crate::renewal::decide(csr, predecessor, presented, rules, denials, inert, now)
}

fn judge(
    csr: &Csr,
    challenge: VerifiedClaims,
    rules: &SiteRules,
    denials: &Denials,
    inert: InertContent,
    manual: Manual,
    now: Timestamp,
) -> Result<Decision, Denial> {
    let mut reports =
        findings(csr, challenge.claims(), rules, denials, inert, manual, Keep::Refusals);
    // Attack 6: what was validated and what is decided on must be one. Only a caller's bug brings others together.
    if !csr.challenge_password().is_some_and(|text| challenge.are_of(text.expose())) {
        reports.push(FieldReport {
            field: Field::Challenge,
            expected: "the request's own challenge".to_owned(),
            got: "another".to_owned(),
            reason: Some(Reason::InternalError),
        });
    }
    let basis = Basis::Challenge(challenge);
    if !reports.is_empty() {
        return Err(Denial(Box::new((basis, reports))));
    }
    Ok(match basis.claims().expectation.approval {
        ApprovalMode::Automatic => Decision::Approved(Approval::new(csr, basis, rules, now)),
        ApprovalMode::Manual => Decision::NeedsApproval(Holdable {
            retry_key: RetryKey::of(csr),
            csr_der: Secret::new(csr.as_der().to_vec()),
            spki: csr.spki().clone(),
            basis,
        }),
    })
}

/// A request that is what its challenge allows, and that a person must approve. Cannot be made otherwise; no Clone; is no
/// [`Approval`].
pub struct Holdable {
    basis: Basis,
    retry_key: RetryKey,
    csr_der: Secret<Vec<u8>>,
    spki: SpkiDer,
}

impl Holdable {
    /// The claims it was decided on.
    #[must_use]
    pub fn claims(&self) -> &ChallengeClaims {
        self.basis.claims()
    }

    /// The ledger's key of the request.
    #[must_use]
    pub const fn retry_key(&self) -> RetryKey {
        self.retry_key
    }

    /// The request's DER, to be decided on again when it was approved. It contains the challenge: not for logs.
    #[must_use]
    pub const fn csr_der(&self) -> &[u8] {
        self.csr_der.expose().as_slice()
    }

    /// The proven key.
    #[must_use]
    pub const fn spki(&self) -> &SpkiDer {
        &self.spki
    }
}

impl fmt::Debug for Holdable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holdable")
            .field("tenant", &self.claims().tenant)
            .field("challenge", &self.claims().challenge_id)
            .finish_non_exhaustive()
    }
}

/// Where the claims come from.
#[derive(Debug)]
pub(crate) enum Basis {
    Challenge(VerifiedClaims),
    Held(HeldClaims),
    /// The claims of the line's first certificate, with an id and times of this renewal's own.
    Renewal {
        claims: Box<ChallengeClaims>,
        predecessor: Box<Predecessor>,
    },
}

impl Basis {
    pub(crate) fn claims(&self) -> &ChallengeClaims {
        match self {
            Self::Challenge(verified) => verified.claims(),
            Self::Held(held) => held.claims(),
            Self::Renewal { claims, .. } => claims,
        }
    }
}

/// The same comparison for explaining: every field with expected, got and verdict.
///
/// It runs the very checks of [`decide`]; only what passes is kept too. `now` says what the certificate's dates would
/// be, and is not compared with anything: the times of the challenge are checked when it is opened.
#[must_use]
pub fn explain(
    csr: &Csr,
    claims: &ChallengeClaims,
    rules: &SiteRules,
    denials: &Denials,
    inert: InertContent,
    now: Timestamp,
) -> Vec<FieldReport> {
    let mut reports =
        findings(csr, claims, rules, denials, inert, Manual::Refused, Keep::Everything);
    let contents = CertificateContents::of(claims, csr.spki(), now);
    let dates = format!("{} to {}", contents.not_before, contents.not_after);
    let (field, reason) = (Field::Validity, None);
    reports.push(FieldReport { field, expected: dates.clone(), got: dates, reason });
    reports
}

/// The request is exactly what the challenge allows. Cannot be made otherwise; no Clone.
///
/// [`decide`] is the only maker. Forging one does not compile:
///
/// ```compile_fail,E0451
/// # fn f(challenge: scep_challenge::VerifiedClaims) {
/// let forged = scep_policy::Approval { basis: challenge };
/// # }
/// ```
/// ```compile_fail,E0599
/// let forged = scep_policy::Approval::default();
/// ```
/// ```compile_fail,E0599
/// # fn f(approval: &scep_policy::Approval) -> scep_policy::Approval {
/// scep_policy::Approval::clone(approval)
/// # }
/// ```
pub struct Approval {
    basis: Basis,
    retry_key: RetryKey,
    contents: CertificateContents,
    /// It carries the challenge.
    csr_der: Secret<Vec<u8>>,
    issuance_per_hour: u32,
    ca_may_add: Vec<ObjectIdentifier>,
}

impl Approval {
    pub(crate) fn new(csr: &Csr, basis: Basis, rules: &SiteRules, now: Timestamp) -> Self {
        Self {
            contents: CertificateContents::of(basis.claims(), csr.spki(), now),
            retry_key: RetryKey::of(csr),
            csr_der: Secret::new(csr.as_der().to_vec()),
            issuance_per_hour: rules.issuance_per_hour(),
            ca_may_add: rules.ca_may_add().to_vec(),
            basis,
        }
    }

    /// The claims it was decided on. Those of a renewal have an id of their own, which is the same for every successor
    /// of one certificate, and end with that certificate.
    #[must_use]
    pub fn claims(&self) -> &ChallengeClaims {
        self.basis.claims()
    }

    /// On whose word it was decided.
    #[must_use]
    pub fn grounds(&self) -> Grounds {
        match &self.basis {
            Basis::Challenge(_) => Grounds::Challenge,
            Basis::Held(_) => Grounds::Held,
            Basis::Renewal { predecessor, .. } => Grounds::Renewal {
                predecessor: predecessor.certificate().fingerprint(),
                generation: predecessor.generation().saturating_add(1),
            },
        }
    }

    /// The claims (canonical DER) that its certificate may later be renewed by without a challenge: those of the first of
    /// its line. `None`: it is renewed with a fresh challenge only.
    #[must_use]
    pub fn renewable_by(&self) -> Option<Vec<u8>> {
        let first = match &self.basis {
            Basis::Challenge(verified) => verified.claims(),
            Basis::Held(held) => held.claims(),
            Basis::Renewal { predecessor, .. } => predecessor.claims(),
        };
        match first.expectation.renewal {
            // What was decoded encodes again.
            scep_challenge::Renewal::Certificate { .. } => first.to_der().ok(),
            scep_challenge::Renewal::Blob => None,
        }
    }

    /// The ledger's key of the request.
    #[must_use]
    pub const fn retry_key(&self) -> RetryKey {
        self.retry_key
    }

    /// The certificate's contents: a function of the claims, and the proven key.
    #[must_use]
    pub const fn contents(&self) -> &CertificateContents {
        &self.contents
    }

    /// The request's DER, for a CA that insists on it. It contains the challenge: not for logs.
    #[must_use]
    pub const fn csr_der(&self) -> &[u8] {
        self.csr_der.expose().as_slice()
    }

    /// The brake in force when it was decided.
    #[must_use]
    pub const fn issuance_per_hour(&self) -> u32 {
        self.issuance_per_hour
    }

    /// Compares what a CA returned, field by field.
    ///
    /// Equal must be: the key's octets, subject, subjectAltNames, key usage, extended key usages and the claims'
    /// extensions. It must be version 3 with one signature algorithm, no unique identifiers, a positive serial
    /// number of at most 20 octets, another issuer than itself, and no CA. It may carry subjectKeyIdentifier,
    /// authorityKeyIdentifier, cRLDistributionPoints, authorityInfoAccess and what the site's `ca_may_add`
    /// names, not critical; nothing else. It may end earlier than approved, never later, and begin up to an hour
    /// earlier ([`BEGIN_TOLERANCE`](crate::BEGIN_TOLERANCE)) or later. Whether the CA has signed it is for the
    /// holder of the CA's key to verify.
    ///
    /// # Errors
    /// Every difference, at least one, each with [`Reason::CertificateDiffers`].
    pub fn check_certificate(
        &self,
        certificate: &CertificateDer,
    ) -> Result<Conforming, Vec<FieldReport>> {
        let differences = differences(&self.contents, &self.ca_may_add, certificate);
        if !differences.is_empty() {
            return Err(differences);
        }
        let claims = self.claims();
        Ok(Conforming::new(certificate.clone(), claims.tenant.clone(), claims.challenge_id))
    }
}

impl fmt::Debug for Approval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Approval")
            .field("tenant", &self.claims().tenant)
            .field("challenge", &self.claims().challenge_id)
            .field("retry_key", &self.retry_key)
            .finish_non_exhaustive()
    }
}

/// Every reason against.
///
/// It keeps the verified claims: a denial is reported and counted against its challenge.
pub struct Denial(pub(crate) Box<(Basis, Vec<FieldReport>)>);

/// Reasons from the gravest on: a caller's bug, the target of the authorisation is gone, the challenge is not served, then name, key,
/// usage, extension, attribute, and last the site's rules.
const GRAVITY: [Reason; 16] = [
    Reason::InternalError,
    Reason::ScepProfileNoLongerTargetedToTheClient,
    Reason::ChallengeNotServed,
    Reason::RenewalNotAllowed,
    Reason::SubjectNameMissing,
    Reason::SubjectNameMismatch,
    Reason::SubjectAltNameMissing,
    Reason::SubjectAltNameMismatch,
    Reason::RegisteredKeyMismatch,
    Reason::KeyLengthMismatch,
    Reason::KeyUsageMismatch,
    Reason::EnhancedKeyUsageMissing,
    Reason::EnhancedKeyUsageMismatch,
    Reason::ExtensionNotAllowed,
    Reason::AttributeNotAllowed,
    Reason::SiteRuleViolated,
];

fn gravest(reports: &[FieldReport]) -> Reason {
    let rank = |reason: &Reason| GRAVITY.iter().position(|r| r == reason).unwrap_or(GRAVITY.len());
    // A denial has a reason by construction; without one it would be our bug.
    reports.iter().filter_map(|r| r.reason).min_by_key(rank).unwrap_or(Reason::InternalError)
}

impl Denial {
    /// The fields that differ, at least one.
    #[must_use]
    pub fn reports(&self) -> &[FieldReport] {
        &self.0.1
    }

    /// The gravest reason, for the answer: a target that is gone, a challenge that is not served, then names, key,
    /// usages, extensions, attributes, and last the site's rules.
    #[must_use]
    pub fn reason(&self) -> Reason {
        gravest(self.reports())
    }

    /// Every reason once, the gravest first.
    #[must_use]
    pub fn reasons(&self) -> Vec<Reason> {
        let has = |reason: &Reason| self.reports().iter().any(|r| r.reason == Some(*reason));
        GRAVITY.into_iter().filter(has).collect()
    }

    /// Whose challenge it was.
    #[must_use]
    pub fn claims(&self) -> &ChallengeClaims {
        self.0.0.claims()
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused:")?;
        for (i, report) in self.reports().iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            let code = report.reason.map_or("", Reason::code);
            write!(f, "{comma} {code} ({})", report.field)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Denial")
            .field("tenant", &self.claims().tenant)
            .field("challenge", &self.claims().challenge_id)
            .field("reports", &self.reports())
            .finish()
    }
}

impl core::error::Error for Denial {}
