//! What a store decides inside its transactions: pure functions over what it has read.

use crate::LedgerError;
use crate::held::{HeldEnrolment, HeldVerdict};
use crate::settings::{LedgerSettings, MAX_SKEW};
use crate::store::{Intent, Remembered, State, Terms};
use scep_policy::{Grounds, HeldClaims, MAX_GENERATIONS};
use scep_types::{
    AuthorityName, CertificateDer, CsrInfoHash, DeviceId, Reason, Secret, TenantId, Timestamp,
};

/// The most breach events of one use: the next ones say nothing new, and the outbox must not grow at a
/// stranger's will.
pub(crate) const MAX_BREACHES: u32 = 10;

/// The use that a challenge has already.
#[derive(Clone, Debug)]
pub(crate) struct PriorUse {
    pub(crate) row: i64,
    pub(crate) info: CsrInfoHash,
    pub(crate) state: State,
    pub(crate) breaches: u32,
    /// The CA that it asks.
    pub(crate) authority: AuthorityName,
    /// What a person was asked, if one was.
    pub(crate) held: Option<HeldFacts>,
    /// Why it was refused, if it was.
    pub(crate) refusal: Option<Reason>,
}

/// A request that a person decides about.
#[derive(Clone, Debug)]
pub(crate) struct HeldFacts {
    /// DER.
    pub(crate) claims: Vec<u8>,
    pub(crate) until: Timestamp,
    pub(crate) verdict: Option<HeldVerdict>,
}

/// A certificate that another is to follow.
#[derive(Clone, Debug)]
pub(crate) struct PredecessorFacts {
    pub(crate) tenant: TenantId,
    pub(crate) device: DeviceId,
    pub(crate) authority: AuthorityName,
    /// On record as what was approved.
    pub(crate) issued: bool,
    /// Revoked, or ordered to be.
    pub(crate) revoked: bool,
    pub(crate) issued_at: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) generation: u8,
    pub(crate) renewable_by: Option<Vec<u8>>,
}

/// What decides about an admission, read inside its transaction.
#[derive(Clone, Debug)]
pub(crate) struct AdmitFacts {
    pub(crate) prior: Option<PriorUse>,
    pub(crate) mismatches: u32,
    /// The latest expiry of a use that was pruned.
    pub(crate) pruned_through: Timestamp,
    /// When this ledger was last found to be restored from a backup.
    pub(crate) restored_at: Timestamp,
    pub(crate) denied: bool,
    /// The key is certified, or may become so, for another device.
    pub(crate) key_of_another: bool,
    pub(crate) admitted_last_hour: u64,
    /// What a renewal follows.
    pub(crate) predecessor: Option<PredecessorFacts>,
    /// Something follows that already, or may.
    pub(crate) succeeded: bool,
}

/// What to do about an admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Admit,
    /// The held request of this row goes on.
    Resume {
        row: i64,
    },
    Refuse(Reason),
    /// Refuse as used, and report the `nth` attempt on the use of this row.
    Breach {
        row: i64,
        nth: u32,
    },
    /// Refuse, count against the challenge and report.
    Mismatch(Reason),
    /// Refuse, and alarm unless that was done within the hour.
    Brake,
}

/// The decision on an admission.
pub(crate) fn judge_admission(
    intent: &Intent,
    terms: &Terms,
    facts: &AdmitFacts,
    settings: &LedgerSettings,
) -> Verdict {
    let verdict = match intent.grounds {
        Grounds::Challenge => first_use(intent, facts, settings),
        Grounds::Held => resumption(intent, terms.claims.as_deref(), facts),
        Grounds::Renewal { generation, .. } => match first_use(intent, facts, settings) {
            Verdict::Admit => renewal(intent, generation, &terms.kin, facts),
            other => other,
        },
    };
    match verdict {
        Verdict::Admit | Verdict::Resume { .. }
            if facts.admitted_last_hour >= u64::from(terms.per_hour) =>
        {
            Verdict::Brake
        }
        other => other,
    }
}

/// The decision on a request that is to be held. The brake counts it when it goes on, and not now; `held` are waiting
/// already.
pub(crate) fn judge_hold(
    intent: &Intent,
    held: u64,
    facts: &AdmitFacts,
    settings: &LedgerSettings,
) -> Verdict {
    match first_use(intent, facts, settings) {
        Verdict::Admit if held >= u64::from(settings.max_held) => {
            Verdict::Refuse(Reason::RateExceeded)
        }
        other => other,
    }
}

fn first_use(intent: &Intent, facts: &AdmitFacts, settings: &LedgerSettings) -> Verdict {
    // A use that was pruned is forgotten; so a challenge that could be one of the forgotten is over, even
    // after an operator has set the mark back below the time of the pruning.
    if intent.at >= intent.expires_at.plus(MAX_SKEW) || intent.expires_at <= facts.pruned_through {
        return Verdict::Refuse(Reason::ChallengeExpired);
    }
    // A backup has forgotten the uses since it was made.
    if intent.issued_at <= facts.restored_at {
        return Verdict::Refuse(Reason::ChallengeBeforeRestore);
    }
    if let Some(prior) = &facts.prior {
        return again(intent, prior);
    }
    if facts.mismatches >= settings.max_mismatches {
        return Verdict::Refuse(Reason::ChallengeLocked);
    }
    unless_barred(facts, Verdict::Admit)
}

/// A request whose challenge is in use.
fn again(intent: &Intent, prior: &PriorUse) -> Verdict {
    match (prior.info == intent.info, prior.state) {
        // Recorded or held between this request's recall and its admission: the next recall tells.
        (true, State::Open | State::Unknown | State::Issued | State::Held | State::Pending) => {
            Verdict::Refuse(Reason::RequestInProgress)
        }
        (true, State::Orphan | State::Withheld | State::Freed | State::Refused) => {
            Verdict::Refuse(Reason::ChallengeAlreadyUsed)
        }
        (false, _) if prior.breaches < MAX_BREACHES => {
            Verdict::Breach { row: prior.row, nth: prior.breaches.saturating_add(1) }
        }
        (false, _) => Verdict::Refuse(Reason::ChallengeAlreadyUsed),
    }
}

const fn unless_barred(facts: &AdmitFacts, otherwise: Verdict) -> Verdict {
    if facts.denied {
        Verdict::Mismatch(Reason::ScepProfileNoLongerTargetedToTheClient)
    } else if facts.key_of_another {
        Verdict::Mismatch(Reason::KeyAlreadyCertified)
    } else {
        otherwise
    }
}

/// A request that a person was asked about: its own end counts, and not its challenge's.
fn resumption(intent: &Intent, claims: Option<&[u8]>, facts: &AdmitFacts) -> Verdict {
    if intent.issued_at <= facts.restored_at {
        // It may have gone on since the backup was made.
        return Verdict::Refuse(Reason::ChallengeBeforeRestore);
    }
    let Some(prior) = &facts.prior else {
        return Verdict::Refuse(Reason::ApprovalExpired);
    };
    if prior.info != intent.info {
        return again(intent, prior);
    }
    match (prior.state, &prior.held) {
        (State::Held, Some(held)) => {
            if held.verdict != Some(HeldVerdict::Approve) {
                Verdict::Refuse(Reason::RequestInProgress)
            } else if intent.at > held.until {
                Verdict::Refuse(Reason::ApprovalExpired)
            } else if claims != Some(held.claims.as_slice()) {
                // What was decided on is not what was approved.
                Verdict::Refuse(Reason::InternalError)
            } else if intent.authority != prior.authority {
                // Approved was a certificate of another CA.
                Verdict::Refuse(Reason::ChallengeNotServed)
            } else {
                unless_barred(facts, Verdict::Resume { row: prior.row })
            }
        }
        (State::Refused, _) => {
            Verdict::Refuse(prior.refusal.unwrap_or(Reason::ChallengeAlreadyUsed))
        }
        _ => again(intent, prior),
    }
}

fn renewal(intent: &Intent, generation: u8, kin: &[AuthorityName], facts: &AdmitFacts) -> Verdict {
    let Some(of) = &facts.predecessor else { return Verdict::Refuse(Reason::RenewalNotAllowed) };
    if of.issued_at <= facts.restored_at {
        // Its successor may be among what the backup has forgotten.
        return Verdict::Refuse(Reason::ChallengeBeforeRestore);
    }
    let allowed = judge_predecessor(of, intent.at)
        && of.generation < MAX_GENERATIONS
        && !facts.succeeded
        && of.tenant == intent.tenant
        && of.device == intent.device
        && (of.authority == intent.authority || kin.contains(&of.authority))
        && of.renewable_by == intent.renewable_by
        && of.generation.checked_add(1) == Some(generation);
    if allowed { Verdict::Admit } else { Verdict::Refuse(Reason::RenewalNotAllowed) }
}

/// Whether a certificate may be followed by another on its own word, if it is not the last of its line.
pub(crate) fn judge_predecessor(of: &PredecessorFacts, now: Timestamp) -> bool {
    of.issued && !of.revoked && now <= of.not_after && of.renewable_by.is_some()
}

/// What a person's word changes: something, or nothing since it was said before.
///
/// # Errors
/// [`LedgerError::NotHeld`].
pub(crate) fn judge_verdict(
    state: State,
    held: &HeldFacts,
    verdict: HeldVerdict,
    now: Timestamp,
) -> Result<bool, LedgerError> {
    match (state, held.verdict) {
        (State::Held, None) if now <= held.until => Ok(true),
        (State::Held, Some(said)) if said == verdict && now <= held.until => Ok(false),
        // What was said has taken its course.
        (State::Held, _) | (State::Freed, _) => Err(LedgerError::NotHeld),
        (_, Some(said)) if said == verdict => Ok(false),
        _ => Err(LedgerError::NotHeld),
    }
}

/// The decision on a request that was seen before.
pub(crate) enum Judged {
    Nothing,
    InProgress,
    Pending,
    Approved(HeldEnrolment),
    Over(Reason),
    Release(CertificateDer),
}

pub(crate) fn judge_recall(
    remembered: Remembered,
    now: Timestamp,
    settings: &LedgerSettings,
) -> Result<Judged, LedgerError> {
    let damaged = |what| LedgerError::Damaged { what };
    Ok(match remembered.state {
        State::Freed => Judged::Nothing,
        State::Open | State::Unknown => Judged::InProgress,
        State::Pending => Judged::Pending,
        State::Orphan => Judged::Over(Reason::CaOutcomeUnknown),
        State::Withheld => Judged::Over(Reason::CertificateDiffers),
        State::Refused => {
            Judged::Over(remembered.refusal.ok_or_else(|| damaged("enrolment.refusal"))?)
        }
        State::Held => {
            let kept = remembered.kept.ok_or_else(|| damaged("held.csr"))?;
            let (claims, until) = kept.held.ok_or_else(|| damaged("held.claims"))?;
            if remembered.denied {
                Judged::Over(Reason::ScepProfileNoLongerTargetedToTheClient)
            } else if now > until {
                Judged::Over(Reason::ApprovalExpired)
            } else if kept.approved {
                let claims =
                    HeldClaims::from_ledger(&claims).map_err(|_| damaged("held.claims"))?;
                let (claims, csr_der) = (Box::new(claims), Secret::new(kept.csr));
                let authority = kept.authority;
                Judged::Approved(HeldEnrolment { claims, csr_der, authority })
            } else {
                Judged::Pending
            }
        }
        State::Issued => {
            let held = remembered.certificate.ok_or_else(|| damaged("enrolment.certificate"))?;
            if remembered.denied {
                Judged::Over(Reason::ScepProfileNoLongerTargetedToTheClient)
            } else if held.revoked
                || now > held.issued_at.plus(settings.retry_window)
                || now > held.certificate.not_after()
            {
                Judged::Over(Reason::ChallengeExpired)
            } else {
                Judged::Release(held.certificate)
            }
        }
    })
}
