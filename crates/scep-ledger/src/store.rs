//! What a back end must do: atomic transactions over plain rows.
//!
//! A [`Store`] says what its transactions found and did; [`crate::Ledger`] makes the evidence out of it. Every
//! decision that must be taken inside a transaction is a pure function of `judge`, so that all stores decide alike.

use crate::LedgerError;
use crate::held::{HeldRequest, HeldVerdict};
use crate::inventory::{Counters, Delivery, DenialSubject, InventoryEntry, RevocationReason};
pub(crate) use crate::judge::{
    AdmitFacts, HeldFacts, Judged, PredecessorFacts, PriorUse, Verdict, judge_admission,
    judge_hold, judge_predecessor, judge_recall, judge_verdict,
};
use crate::report::{Acknowledged, Denied, Found, OutboxEvent};
use crate::revocation::RevocationStore;
use async_trait::async_trait;
use core::fmt;
use core::time::Duration;
use scep_policy::{Denials, Grounds};
use scep_types::{
    AuthorityName, CertificateDer, CertificateFingerprint, ChallengeId, CsrInfoHash, DeviceId,
    GatewayGroupId, NameHash, ProfileId, Reason, SerialNumber, SpkiDer, SpkiHash, TenantId,
    Timestamp, TransactionId, UserId,
};

/// The width of the brake's counters. The brake counts whole minutes, hence up to a minute more than an hour.
pub(crate) const BRAKE_SLOT: i64 = 60;
/// The brake's window, and the shortest time between two of its alarms.
pub(crate) const BRAKE_WINDOW: Duration = Duration::from_secs(3_600);

/// Where an intent goes of which the CA has issued nothing. What a person has approved stays approved until its own end:
/// its challenge has expired by then, so that its device could not ask anew.
pub(crate) const fn freed_to(grounds: Grounds) -> State {
    match grounds {
        Grounds::Challenge | Grounds::Renewal { .. } => State::Freed,
        Grounds::Held => State::Held,
    }
}

/// How many uses, and how many counts of mismatches, are forgotten in one transaction, which others wait for.
pub(crate) const MAX_PRUNED: u32 = 1_000;

/// How many held requests whose time is over are refused in one transaction, which others wait for.
pub(crate) const MAX_OVERDUE: u32 = 1_000;

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

/// Grounds as they are in the database: their kind, the predecessor, and the generation.
pub(crate) const fn grounds_columns(grounds: Grounds) -> (i64, Option<CertificateFingerprint>, u8) {
    match grounds {
        Grounds::Challenge => (0, None, 0),
        Grounds::Held => (1, None, 0),
        Grounds::Renewal { predecessor, generation } => (2, Some(predecessor), generation),
    }
}

pub(crate) const fn grounds_from(
    kind: i64,
    predecessor: Option<CertificateFingerprint>,
    generation: u8,
) -> Option<Grounds> {
    match (kind, predecessor) {
        (0, None) => Some(Grounds::Challenge),
        (1, None) => Some(Grounds::Held),
        (2, Some(predecessor)) => Some(Grounds::Renewal { predecessor, generation }),
        _ => None,
    }
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
    /// It waits for a person, or is approved and its device has not come for it.
    Held,
    /// The CA has it and decides later; recovery asks again and again.
    Pending,
    /// A person or the CA has said no, or its time is over. The challenge stays spent.
    Refused,
}

impl State {
    pub(crate) const ALL: [Self; 9] = [
        Self::Open,
        Self::Unknown,
        Self::Orphan,
        Self::Issued,
        Self::Withheld,
        Self::Freed,
        Self::Held,
        Self::Pending,
        Self::Refused,
    ];

    pub(crate) const fn code(self) -> i64 {
        match self {
            Self::Open => 0,
            Self::Unknown => 1,
            Self::Orphan => 2,
            Self::Issued => 3,
            Self::Withheld => 4,
            Self::Freed => 5,
            Self::Held => 6,
            Self::Pending => 7,
            Self::Refused => 8,
        }
    }

    /// Nothing more happens to it.
    pub(crate) const fn is_settled(self) -> bool {
        match self {
            Self::Orphan | Self::Issued | Self::Withheld | Self::Freed | Self::Refused => true,
            Self::Open | Self::Unknown | Self::Held | Self::Pending => false,
        }
    }

    pub(crate) fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }
}

/// How far beyond the last event an acknowledgement may be and still tell a restored backup. Who acknowledges more
/// is wrong about something else, and must not use the numbers up.
pub(crate) const MAX_RESTORE_GAP: u64 = 1 << 32;

/// One time that a CA was about to be asked. What a person has approved is asked for again in the same row when the CA
/// has issued nothing: what is known of one attempt settles no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) row: i64,
    /// How often the CA had failed it before.
    pub(crate) failures: u32,
    /// In which state recovery has read it; `None` for whoever was admitted.
    pub(crate) seen: Option<State>,
}

impl Attempt {
    /// The first one of a row, by whoever was admitted.
    pub(crate) const fn first(row: i64) -> Self {
        Self { row, failures: 0, seen: None }
    }

    /// The only state in which a settlement counts, where not every state without an outcome will do: that nothing was
    /// issued is known only of what recovery had read before it looked.
    pub(crate) fn only_in(self, settlement: &Settlement) -> Option<i64> {
        match settlement {
            Settlement::Freed(..) | Settlement::Refused(..) => self.seen.map(State::code),
            Settlement::Recorded(..)
            | Settlement::Withheld(..)
            | Settlement::Unknown(_)
            | Settlement::Orphan(_)
            | Settlement::Pending(_) => None,
        }
    }
}

/// What one transaction has forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pruned {
    pub(crate) count: u64,
    /// There may be more.
    pub(crate) more: bool,
}

/// What became of an admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// Durable.
    Yes(Attempt),
    No(Reason),
}

/// What an admission is asked with besides its intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The brake that was in force when it was approved.
    pub(crate) per_hour: u32,
    /// The claims of a request that was held, DER: they must be those that are kept.
    pub(crate) claims: Option<Vec<u8>>,
    /// CAs whose certificates may be followed by one of the CA that is asked.
    pub(crate) kin: Vec<AuthorityName>,
}

/// Other transactions that a request is remembered in.
pub(crate) const MAX_ASKED_AGAIN: i64 = 16;

/// A request to be held.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) intent: Intent,
    pub(crate) csr: Vec<u8>,
    /// DER.
    pub(crate) claims: Vec<u8>,
    pub(crate) until: Timestamp,
}

/// What is kept of a request that waits.
#[derive(Debug)]
pub(crate) struct RememberedHeld {
    pub(crate) csr: Vec<u8>,
    /// Claims and end, where a person decides.
    pub(crate) held: Option<(Vec<u8>, Timestamp)>,
    /// The CA that was asked.
    pub(crate) authority: AuthorityName,
    pub(crate) approved: bool,
}

/// A certificate that may be renewed by, and how far it is from its challenge.
#[derive(Debug)]
pub(crate) struct RememberedPredecessor {
    pub(crate) certificate: CertificateDer,
    pub(crate) facts: PredecessorFacts,
}

/// What is remembered of a request.
#[derive(Debug)]
pub(crate) struct Remembered {
    pub(crate) state: State,
    pub(crate) certificate: Option<RememberedCertificate>,
    /// While it is kept.
    pub(crate) kept: Option<RememberedHeld>,
    /// Why it is refused, in that state.
    pub(crate) refusal: Option<Reason>,
    /// Its device, profile or user is disabled.
    pub(crate) denied: bool,
}

#[derive(Debug)]
pub(crate) struct RememberedCertificate {
    pub(crate) certificate: CertificateDer,
    pub(crate) issued_at: Timestamp,
    pub(crate) revoked: bool,
}

/// The outcome of an intent.
#[derive(Debug)]
pub(crate) enum Settlement {
    Recorded(CertificateDer, Found),
    Withheld(CertificateDer, String),
    Freed(Reason, String),
    #[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "one process settles its own"))]
    Unknown(String),
    Orphan(String),
    /// The CA decides later; with the request's DER.
    Pending(Vec<u8>),
    /// The CA has decided, against it.
    Refused(Reason, String),
}

/// An intent without an outcome.
#[derive(Debug)]
pub(crate) struct OpenIntent {
    pub(crate) row: i64,
    pub(crate) state: State,
    pub(crate) failures: u32,
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
    async fn admit(&self, intent: Intent, terms: Terms) -> Result<Admitted, LedgerError>;
    async fn hold(&self, hold: Hold) -> Result<Admitted, LedgerError>;
    async fn held(&self, limit: u32, after: Option<u64>) -> Result<Vec<HeldRequest>, LedgerError>;
    async fn decide_held(
        &self,
        row: u64,
        verdict: HeldVerdict,
        person: String,
        now: Timestamp,
    ) -> Result<(), LedgerError>;
    /// A request that waits came again, in this transaction and from this signer.
    async fn asked_again(
        &self,
        info: CsrInfoHash,
        transaction: TransactionId,
        signer: SpkiHash,
    ) -> Result<(), LedgerError>;
    /// The latest of this transaction and signer.
    async fn poll(
        &self,
        transaction: TransactionId,
        signer: SpkiHash,
    ) -> Result<Option<Remembered>, LedgerError>;
    async fn predecessor(
        &self,
        fingerprint: CertificateFingerprint,
    ) -> Result<Option<RememberedPredecessor>, LedgerError>;
    /// The latest that may be released.
    async fn certificate_by_serial(
        &self,
        issuer: NameHash,
        serial: SerialNumber,
    ) -> Result<Option<InventoryEntry>, LedgerError>;
    /// Only this attempt can be settled, and only while it is without an outcome.
    async fn settle(
        &self,
        attempt: Attempt,
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
    async fn prune(&self, now: Timestamp) -> Result<Pruned, LedgerError>;

    /// The store's revocations, if it keeps them. Default: it does not.
    fn revocations(&self) -> Option<&dyn RevocationStore> {
        None
    }
}
