//! A refusal on its way from where it was found to the answer and the trace.

use crate::answer::answer;
use crate::pool::PoolError;
use crate::trace::{Stage, Trace};
use scep_challenge::ChallengeClaims;
use scep_ledger::LedgerError;
use scep_message::{FailInfo, MessageError};
use scep_policy::FieldReport;
use scep_types::{ChallengeId, DeviceId, Fault, ProfileId, Reason, TenantId};

/// A reason against, with what the operator needs.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) detail: Option<String>,
    pub(crate) fields: Vec<FieldReport>,
    /// Whose challenge it was, where one was verified.
    pub(crate) whose: Option<Box<Whose>>,
    /// The algorithm's name, where one is not served.
    pub(crate) algorithm: Option<String>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, detail: impl core::fmt::Display) -> Self {
        Self { detail: Some(detail.to_string()), ..Self::from(reason) }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, detail: None, fields: Vec::new(), whose: None, algorithm: None }
    }
}

/// The ids of a verified challenge, for the trace.
#[derive(Clone, Debug)]
pub(crate) struct Whose {
    pub(crate) tenant: TenantId,
    pub(crate) device: DeviceId,
    pub(crate) profile: ProfileId,
    pub(crate) challenge: ChallengeId,
}

impl Whose {
    pub(crate) fn of(claims: &ChallengeClaims) -> Self {
        Self {
            tenant: claims.tenant.clone(),
            device: claims.device.clone(),
            profile: claims.profile.clone(),
            challenge: claims.challenge_id,
        }
    }

    pub(crate) fn note(self, trace: &mut Trace) {
        trace.tenant = Some(self.tenant);
        trace.device = Some(self.device);
        trace.profile = Some(self.profile);
        trace.challenge = Some(self.challenge);
    }
}

impl From<LedgerError> for Refusal {
    fn from(error: LedgerError) -> Self {
        Self::new(Reason::LedgerUnavailable, error)
    }
}

impl From<PoolError> for Refusal {
    fn from(error: PoolError) -> Self {
        Self::new(Reason::InternalError, error)
    }
}

impl From<MessageError> for Refusal {
    fn from(error: MessageError) -> Self {
        let algorithm = error.algorithm().map(str::to_owned);
        Self { algorithm, ..Self::new(error.reason(), error) }
    }
}

/// failInfo and failInfoText with the trace's reference; for an algorithm that is not served, its name.
///
/// Between the opened envelope and the proven request everything the peer did wrong gets one answer: whoever
/// changes a captured envelope and signs it anew must not learn whether it still opened.
pub(crate) fn refusal_text(refusal: &Refusal, trace: &Trace) -> (FailInfo, String) {
    let theirs = matches!(refusal.reason.fault(), Fault::PeerMessage | Fault::PeerRights);
    let hidden = theirs && trace.stage == Stage::Decrypted;
    let reason = if hidden { Reason::MessageDecryptionFailed } else { refusal.reason };
    let answer = answer(reason);
    let what = match &refusal.algorithm {
        Some(name) if !hidden => format!("{}: {name}", answer.text),
        _ => answer.text.to_owned(),
    };
    (answer.fail_info, format!("{what} (ref {})", trace.reference))
}
