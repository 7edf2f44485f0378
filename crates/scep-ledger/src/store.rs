//! What a back end must do: atomic transactions over plain rows.
//!
//! A [`Store`] says what its transactions found and did; [`crate::Ledger`] makes the evidence out of it. Every
//! decision that must be taken inside a transaction is a pure function here, so that all stores decide alike.

use crate::LedgerError;
use crate::inventory::{Counters, Delivery, DenialSubject, InventoryEntry, RevocationReason};
use crate::report::{Acknowledged, Denied, Found, OutboxEvent};
use crate::revocation::RevocationStore;
use crate::settings::{LedgerSettings, MAX_SKEW};
use async_trait::async_trait;
use core::fmt;
use core::time::Duration;
use scep_policy::{Denials, Grounds};
use scep_types::{
    AuthorityName, CertificateDer, CertificateFingerprint, ChallengeId, CsrInfoHash, DeviceId,
    GatewayGroupId, ProfileId, Reason, SerialNumber, SpkiDer, SpkiHash, TenantId, Timestamp,
    TransactionId, UserId,
};

/// The most breach events of one use: the next ones say nothing new, and the outbox must not grow at a
/// stranger's will.
pub(crate) const MAX_BREACHES: u32 = 10;

/// The width of the brake's counters. The brake counts whole minutes, hence up to a minute more than an hour.
pub(crate) const BRAKE_SLOT: i64 = 60;
/// The brake's window, and the shortest time between two of its alarms.
pub(crate) const BRAKE_WINDOW: Duration = Duration::from_secs(3_600);

/// What is about to be asked of a CA, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Intent {
    pub(crate) tenant: TenantId,
    pub(crate) challenge: ChallengeId,
    pub(crate) issued_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) device: DeviceId,
    pub(crate) profile: ProfileId,
    pub(crate) user: Option<UserId>,
    pub(crate) audience: GatewayGroupId,
    pub(crate) info: CsrInfoHash,
    pub(crate) spki: SpkiDer,
    pub(crate) signer: SpkiHash,
    pub(crate) transaction: TransactionId,
    pub(crate) serial: Option<SerialNumber>,
    /// What the certificate must contain, for recovery.
    pub(crate) expected: Vec<u8>,
    /// The CA that is asked.
    pub(crate) authority: AuthorityName,
    pub(crate) grounds: Grounds,
    /// The claims that the certificate may be renewed by on its own word, DER.
    pub(crate) renewable_by: Option<Vec<u8>>,
    pub(crate) at: Timestamp,
}

/// How far an enrolment is. The numbers are in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The CA may be at it.
    Open,
    /// It is not known what the CA did; recovery will tell.
    Unknown,
    /// Recovery could not tell, and never will.
    Orphan,
    /// The certificate is on record.
    Issued,
    /// A certificate is on record that must not be released.
    Withheld,
    /// Nothing was issued; the challenge is free.
    Freed,
}

impl State {
    pub(crate) const ALL: [Self; 6] =
        [Self::Open, Self::Unknown, Self::Orphan, Self::Issued, Self::Withheld, Self::Freed];

    pub(crate) const fn code(self) -> i64 {
        match self {
            Self::Open => 0,
            Self::Unknown => 1,
            Self::Orphan => 2,
            Self::Issued => 3,
            Self::Withheld => 4,
            Self::Freed => 5,
        }
    }

    pub(crate) fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }
}

/// The use that a challenge has already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PriorUse {
    pub(crate) row: i64,
    pub(crate) info: CsrInfoHash,
    pub(crate) state: State,
    pub(crate) breaches: u32,
}

/// What decides about an admission, read inside its transaction.
#[derive(Clone, Copy, Debug)]
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
}

/// What to do about an admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Admit,
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
    per_hour: u32,
    facts: &AdmitFacts,
    settings: &LedgerSettings,
) -> Verdict {
    // A use that was pruned is forgotten; so a challenge that could be one of the forgotten is over, even
    // after an operator has set the mark back below the time of the pruning.
    if intent.at >= intent.expires_at.plus(MAX_SKEW) || intent.expires_at <= facts.pruned_through {
        return Verdict::Refuse(Reason::ChallengeExpired);
    }
    // A backup has forgotten the uses since it was made.
    if intent.issued_at <= facts.restored_at {
        return Verdict::Refuse(Reason::ChallengeBeforeRestore);
    }
    if let Some(prior) = facts.prior {
        return match (prior.info == intent.info, prior.state) {
            // Recorded between this request's recall and its admission: the next recall releases it.
            (true, State::Open | State::Unknown | State::Issued) => {
                Verdict::Refuse(Reason::RequestInProgress)
            }
            (true, State::Orphan | State::Withheld | State::Freed) => {
                Verdict::Refuse(Reason::ChallengeAlreadyUsed)
            }
            (false, _) if prior.breaches < MAX_BREACHES => {
                Verdict::Breach { row: prior.row, nth: prior.breaches.saturating_add(1) }
            }
            (false, _) => Verdict::Refuse(Reason::ChallengeAlreadyUsed),
        };
    }
    if facts.mismatches >= settings.max_mismatches {
        return Verdict::Refuse(Reason::ChallengeLocked);
    }
    if facts.denied {
        return Verdict::Mismatch(Reason::ScepProfileNoLongerTargetedToTheClient);
    }
    if facts.key_of_another {
        return Verdict::Mismatch(Reason::KeyAlreadyCertified);
    }
    if facts.admitted_last_hour >= u64::from(per_hour) {
        return Verdict::Brake;
    }
    Verdict::Admit
}

/// How far beyond the last event an acknowledgement may be and still tell a restored backup. Who acknowledges more
/// is wrong about something else, and must not use the numbers up.
pub(crate) const MAX_RESTORE_GAP: u64 = 1 << 32;

/// What became of an admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// Durable in this row.
    Yes(i64),
    No(Reason),
}

/// What is remembered of a request.
#[derive(Debug)]
pub(crate) struct Remembered {
    pub(crate) state: State,
    pub(crate) certificate: Option<RememberedCertificate>,
    /// Its device, profile or user is disabled.
    pub(crate) denied: bool,
}

#[derive(Debug)]
pub(crate) struct RememberedCertificate {
    pub(crate) certificate: CertificateDer,
    pub(crate) issued_at: Timestamp,
    pub(crate) revoked: bool,
}

/// The decision on a request that was seen before.
pub(crate) enum Judged {
    Nothing,
    InProgress,
    Over(Reason),
    Release(CertificateDer),
}

pub(crate) fn judge_recall(
    remembered: Remembered,
    now: Timestamp,
    settings: &LedgerSettings,
) -> Result<Judged, LedgerError> {
    Ok(match remembered.state {
        State::Freed => Judged::Nothing,
        State::Open | State::Unknown => Judged::InProgress,
        State::Orphan => Judged::Over(Reason::CaOutcomeUnknown),
        State::Withheld => Judged::Over(Reason::CertificateDiffers),
        State::Issued => {
            let Some(held) = remembered.certificate else {
                return Err(LedgerError::Damaged { what: "enrolment.certificate" });
            };
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

/// The outcome of an intent.
#[derive(Debug)]
pub(crate) enum Settlement {
    Recorded(CertificateDer, Found),
    Withheld(CertificateDer, String),
    Freed(Reason, String),
    Unknown,
    Orphan(String),
}

/// An intent without an outcome.
#[derive(Debug)]
pub(crate) struct OpenIntent {
    pub(crate) row: i64,
    pub(crate) state: State,
    pub(crate) intent: Intent,
}

/// A denial to be counted, owned.
#[derive(Clone, Debug)]
pub(crate) struct Mismatch {
    pub(crate) tenant: TenantId,
    pub(crate) challenge: ChallengeId,
    pub(crate) device: DeviceId,
    pub(crate) profile: ProfileId,
    pub(crate) expires_at: Timestamp,
    pub(crate) reasons: Vec<Reason>,
    pub(crate) detail: String,
}

impl Mismatch {
    pub(crate) fn of(denied: &Denied<'_>) -> Self {
        Self {
            tenant: denied.tenant.clone(),
            challenge: denied.challenge,
            device: denied.device.clone(),
            profile: denied.profile.clone(),
            expires_at: denied.expires_at,
            reasons: denied.reasons.to_vec(),
            detail: denied.detail.to_owned(),
        }
    }

    pub(crate) fn of_intent(intent: &Intent, reason: Reason) -> Self {
        Self {
            tenant: intent.tenant.clone(),
            challenge: intent.challenge,
            device: intent.device.clone(),
            profile: intent.profile.clone(),
            expires_at: intent.expires_at,
            reasons: vec![reason],
            detail: String::new(),
        }
    }

    pub(crate) fn as_denied(&self) -> Denied<'_> {
        Denied {
            tenant: &self.tenant,
            challenge: self.challenge,
            device: &self.device,
            profile: &self.profile,
            expires_at: self.expires_at,
            reasons: &self.reasons,
            detail: &self.detail,
        }
    }
}

/// A back end. Each method is one atomic transaction; one that writes answers after its commit is durable, unless
/// it says otherwise. Reads see every commit that was answered before they began.
#[async_trait]
pub(crate) trait Store: Send + Sync + fmt::Debug {
    /// Makes the mark durable, and waits for everything written before.
    async fn flush(&self) -> Result<(), LedgerError>;
    /// Sets the mark, downwards too; audited and reported.
    async fn reset_clock(&self, to: Timestamp, operator: String) -> Result<(), LedgerError>;

    async fn recall(&self, info: CsrInfoHash) -> Result<Option<Remembered>, LedgerError>;
    async fn admit(&self, intent: Intent, per_hour: u32) -> Result<Admitted, LedgerError>;
    /// Only an intent without an outcome can be settled.
    async fn settle(
        &self,
        row: i64,
        intent: Intent,
        settlement: Settlement,
        now: Timestamp,
    ) -> Result<(), LedgerError>;
    async fn unsettled(&self) -> Result<Vec<OpenIntent>, LedgerError>;

    async fn count_mismatch(&self, mismatch: Mismatch, now: Timestamp) -> Result<u32, LedgerError>;
    /// Count and expiry.
    async fn mismatches(
        &self,
        tenant: TenantId,
        challenge: ChallengeId,
    ) -> Result<Option<(u32, Timestamp)>, LedgerError>;

    /// Returns before it is durable: the next commit, or the shutdown, takes it along.
    fn sent(
        &self,
        certificate: CertificateFingerprint,
        delivered: Delivery,
        now: Timestamp,
    ) -> Result<(), LedgerError>;
    async fn certificate(
        &self,
        fingerprint: CertificateFingerprint,
    ) -> Result<Option<InventoryEntry>, LedgerError>;
    async fn inventory(
        &self,
        limit: u32,
        before: Option<u64>,
    ) -> Result<Vec<InventoryEntry>, LedgerError>;
    async fn mark_revoked(
        &self,
        certificate: CertificateFingerprint,
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<(), LedgerError>;

    async fn deny(&self, subject: DenialSubject, now: Timestamp) -> Result<(), LedgerError>;
    async fn allow(&self, subject: DenialSubject) -> Result<(), LedgerError>;
    async fn denials(&self) -> Result<Denials, LedgerError>;

    async fn outbox(&self, after: u64, limit: u32) -> Result<Vec<OutboxEvent>, LedgerError>;
    async fn acknowledge(&self, through: u64, now: Timestamp) -> Result<Acknowledged, LedgerError>;
    async fn counters(&self) -> Result<Counters, LedgerError>;
    async fn prune(&self, now: Timestamp) -> Result<u64, LedgerError>;

    /// The store's revocations, if it keeps them. Default: it does not.
    fn revocations(&self) -> Option<&dyn RevocationStore> {
        None
    }
}
