//! The values that only a ledger makes: none has a public constructor, none can be cloned.

use crate::held::HeldEnrolment;
use crate::live::LiveGuard;
use crate::store::{Attempt, Intent, OpenIntent, State};
use scep_policy::{Approval, CertificateContents};
use scep_types::{
    AuthorityName, CertificateDer, ChallengeId, CsrInfoHash, DeviceId, ProfileId, Reason,
    ReleasedCertificate, SerialNumber, SpkiDer, TenantId, Timestamp,
};
use std::sync::Arc;

/// What the ledger knows of a request.
#[derive(Debug)]
pub enum Recall {
    /// Never seen, or freed again.
    Nothing,
    /// An honest retry.
    Releasable(Releasable),
    /// Another connection is at it, or recovery has not settled it: try again soon.
    InProgress,
    /// It waits for a person, or the CA has not decided: PENDING is the answer.
    Pending,
    /// A person has approved it: to be decided on again, and admitted.
    Approved(HeldEnrolment),
    /// Seen, and there will be no certificate: ChallengeExpired (its window is over, or its certificate was revoked
    /// or has expired), ScepProfileNoLongerTargetedToTheClient (its device, user or profile is disabled),
    /// CertificateDiffers (withheld), CaOutcomeUnknown (a possible orphan), ApprovalDenied, ApprovalExpired, CaRefused.
    Over(Reason),
}

/// The duty to settle an intent.
#[derive(Debug)]
pub(crate) struct Obligation {
    pub(crate) attempt: Attempt,
    pub(crate) intent: Intent,
    settled: bool,
    _live: LiveGuard,
}

impl Obligation {
    pub(crate) const fn new(attempt: Attempt, intent: Intent, live: LiveGuard) -> Self {
        Self { attempt, intent, settled: false, _live: live }
    }

    /// The outcome is durable.
    pub(crate) fn discharge(mut self) {
        self.settled = true;
    }
}

impl Drop for Obligation {
    fn drop(&mut self) {
        if !self.settled {
            tracing::error!(
                tenant = %self.intent.tenant,
                challenge = %self.intent.challenge,
                device = %self.intent.device,
                "an intent was dropped without an outcome; it stays open until recovery settles it"
            );
        }
    }
}

/// First use of a challenge, durable, with its intent. Consumed by [`Admission::redeem`].
///
/// Dropping it is safe: the intent stays open, as after a crash, and recovery settles it. It cannot be forged or used
/// twice:
///
/// ```compile_fail,E0451
/// # fn f(approval: std::sync::Arc<scep_policy::Approval>) {
/// let forged = scep_ledger::Admission { approval };
/// # }
/// ```
/// ```compile_fail,E0382
/// # fn f(admission: scep_ledger::Admission) {
/// let once = admission.redeem();
/// let twice = admission.redeem();
/// # }
/// ```
#[must_use = "an admission must be redeemed and settled"]
#[derive(Debug)]
pub struct Admission {
    approval: Arc<Approval>,
    obligation: Obligation,
}

impl Admission {
    pub(crate) fn new(approval: Approval, obligation: Obligation) -> Self {
        Self { approval: Arc::new(approval), obligation }
    }

    /// Splits into the permit for the CA (once) and the obligation to settle.
    pub fn redeem(self) -> (IssuePermit, Unsettled) {
        let permit = IssuePermit {
            approval: Arc::clone(&self.approval),
            serial: self.obligation.intent.serial.clone(),
        };
        (permit, Unsettled { approval: self.approval, obligation: self.obligation })
    }
}

/// The right to have a CA issue once. Consumed by the CA.
///
/// ```compile_fail,E0599
/// # fn f(permit: &scep_ledger::IssuePermit) -> scep_ledger::IssuePermit {
/// scep_ledger::IssuePermit::clone(permit)
/// # }
/// ```
#[must_use = "a permit is for one call of the CA"]
#[derive(Debug)]
pub struct IssuePermit {
    approval: Arc<Approval>,
    serial: Option<SerialNumber>,
}

impl IssuePermit {
    /// What to issue.
    #[must_use]
    pub fn contents(&self) -> &CertificateContents {
        self.approval.contents()
    }

    /// With this serial number, when we chose it.
    #[must_use]
    pub const fn serial(&self) -> Option<&SerialNumber> {
        self.serial.as_ref()
    }

    /// What tells this request from every other.
    #[must_use]
    pub fn request(&self) -> CsrInfoHash {
        self.approval.retry_key().hash()
    }

    /// The request's DER, for a CA that insists on it.
    #[must_use]
    pub fn csr_der(&self) -> &[u8] {
        self.approval.csr_der()
    }
}

/// An intent that must be settled: record, hand back, withhold or leave unknown.
///
/// Dropping it is safe and is logged: the intent stays open, as after a crash, and recovery settles it.
#[must_use = "an intent must be settled"]
#[derive(Debug)]
pub struct Unsettled {
    approval: Arc<Approval>,
    pub(crate) obligation: Obligation,
}

impl Unsettled {
    /// The approval, to check what came back.
    #[must_use]
    pub fn approval(&self) -> &Approval {
        &self.approval
    }

    /// Whether a certificate has the serial number that stands in the intent; yes where none was chosen. Without
    /// it, the certificate could not be found again by what was written before the CA was asked.
    #[must_use]
    pub fn has_serial_of(&self, certificate: &CertificateDer) -> bool {
        let chosen = self.obligation.intent.serial.as_ref();
        chosen.is_none_or(|serial| certificate.serial().as_ref() == Some(serial))
    }
}

/// A recorded certificate: may be released. Cannot be made otherwise.
///
/// ```compile_fail,E0451
/// # fn f(certificate: scep_types::CertificateDer) {
/// let forged = scep_ledger::Releasable { certificate };
/// # }
/// ```
#[derive(Debug)]
pub struct Releasable {
    certificate: CertificateDer,
}

impl Releasable {
    pub(crate) const fn new(certificate: CertificateDer) -> Self {
        Self { certificate }
    }
}

impl ReleasedCertificate for Releasable {
    fn certificate(&self) -> &CertificateDer {
        &self.certificate
    }
}

/// Why an intent has no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftBehind {
    /// The process ended, or dropped the intent, between intent and outcome.
    Interrupted,
    /// The CA's answer was such that nobody can tell.
    OutcomeUnknown,
    /// The CA has said that it decides later.
    Pending,
}

/// An intent without an outcome: that a crash left, or that its CA decides on later.
#[derive(Debug)]
pub struct Recoverable {
    pub(crate) attempt: Attempt,
    pub(crate) state: State,
    pub(crate) intent: Intent,
}

impl Recoverable {
    pub(crate) fn new(left: OpenIntent) -> Self {
        let OpenIntent { row, state, failures, intent } = left;
        Self { attempt: Attempt { row, failures, seen: Some(state) }, state, intent }
    }

    /// Serial number, when we chose it.
    #[must_use]
    pub const fn serial(&self) -> Option<&SerialNumber> {
        self.intent.serial.as_ref()
    }

    /// The key asked for.
    #[must_use]
    pub const fn spki(&self) -> &SpkiDer {
        &self.intent.spki
    }

    /// Whose challenge, and which.
    #[must_use]
    pub const fn challenge(&self) -> (&TenantId, ChallengeId) {
        (&self.intent.tenant, self.intent.challenge)
    }

    /// For which device.
    #[must_use]
    pub const fn device(&self) -> &DeviceId {
        &self.intent.device
    }

    /// The CA that was asked.
    #[must_use]
    pub const fn authority(&self) -> &AuthorityName {
        &self.intent.authority
    }

    /// What tells the request from every other.
    #[must_use]
    pub const fn request(&self) -> CsrInfoHash {
        self.intent.info
    }

    /// The subject that was to be certified, DER.
    #[must_use]
    pub fn subject_der(&self) -> Vec<u8> {
        crate::expected::subject_der(&self.intent.expected)
    }

    /// By which profile.
    #[must_use]
    pub const fn profile(&self) -> &ProfileId {
        &self.intent.profile
    }

    /// When the CA was about to be asked.
    #[must_use]
    pub const fn admitted_at(&self) -> Timestamp {
        self.intent.at
    }

    /// Why it has no outcome.
    #[must_use]
    pub fn left_behind(&self) -> LeftBehind {
        match self.state {
            State::Unknown => LeftBehind::OutcomeUnknown,
            State::Pending => LeftBehind::Pending,
            State::Open
            | State::Orphan
            | State::Issued
            | State::Withheld
            | State::Freed
            | State::Held
            | State::Refused => LeftBehind::Interrupted,
        }
    }
}
