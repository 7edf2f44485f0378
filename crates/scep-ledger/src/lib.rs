//! The ledger. STUB: signatures fixed, bodies to come.
#![allow(unused_variables, clippy::todo, clippy::missing_errors_doc, clippy::unused_async)]
use core::time::Duration;
use scep_policy::{Approval, CertificateContents, Conforming, RetryKey};
use scep_types::*;
use std::path::Path;
use thiserror::Error;

/// The gateway's durable memory. Cheap to clone. `Ledger` makes the evidence; a `Store` (SQLite now, PostgreSQL later)
/// only says what its transactions found.
#[derive(Clone, Debug)]
pub struct Ledger(());

/// How the ledger judges.
#[derive(Clone, Copy, Debug)]
pub struct LedgerSettings {
    /// For how long after issue a retry gets its certificate again. 24 h.
    pub retry_window: Duration,
    /// Mismatches per challenge before it is refused until it expires. 10.
    pub max_mismatches: u32,
    /// How far behind the high-water mark the clock may be before an alarm. 5 min.
    pub clock_tolerance: Duration,
}
impl Default for LedgerSettings {
    fn default() -> Self {
        todo!()
    }
}

/// Why the ledger could not do its work (never: what it decided).
#[derive(Debug, Error)]
#[error("ledger")]
pub struct LedgerError(()); // refine

impl Ledger {
    /// Opens or makes a SQLite ledger; WAL, synchronous FULL, read back on every connection.
    pub fn open_sqlite(path: &Path, settings: LedgerSettings) -> Result<Self, LedgerError> {
        todo!()
    }
    /// Its random id.
    #[must_use]
    pub fn id(&self) -> LedgerId {
        todo!()
    }

    /// max(clock, persisted high-water mark), which it moves (durably at most once a second... see docs).
    pub async fn effective_now(&self, clock: Timestamp) -> Result<EffectiveNow, LedgerError> {
        todo!()
    }
    /// Mends a high-water mark spoilt by a forward jump; audited.
    pub async fn clock_reset(&self, to: Timestamp, operator: &str) -> Result<(), LedgerError> {
        todo!()
    }

    /// An honest retry?
    pub async fn recall(&self, key: RetryKey, now: Timestamp) -> Result<Recall, LedgerError> {
        todo!()
    }
    /// First use, with the intent in the same durable commit; or why not. `serial` is the one the CA will use, where
    /// we choose it. `signer` is the outer signer's key (recorded and reported).
    pub async fn admit(
        &self,
        approval: Approval,
        serial: Option<SerialNumber>,
        signer: SpkiHash,
        transaction: &TransactionId,
        now: Timestamp,
    ) -> Result<Admission, AdmitError> {
        todo!()
    }
    /// The certificate and its report, durably.
    pub async fn record(
        &self,
        unsettled: Unsettled,
        conforming: Conforming,
        now: Timestamp,
    ) -> Result<Releasable, LedgerError> {
        todo!()
    }
    /// The CA is known to have issued nothing: the challenge is free again; the failure is reported.
    pub async fn hand_back(
        &self,
        unsettled: Unsettled,
        reason: Reason,
        detail: &str,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        todo!()
    }
    /// It is unknown whether the CA issued: the challenge stays bound to this request until recovery settles it.
    pub async fn leave_unknown(
        &self,
        unsettled: Unsettled,
        detail: &str,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        todo!()
    }
    /// The CA returned something else than was approved: kept, never released, reported; the challenge stays spent.
    pub async fn withhold(
        &self,
        unsettled: Unsettled,
        certificate: &CertificateDer,
        detail: &str,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        todo!()
    }
    /// A policy denial with a verified blob: counted against the challenge and reported.
    pub async fn count_mismatch(
        &self,
        denied: &Denied<'_>,
        now: Timestamp,
    ) -> Result<u32, LedgerError> {
        todo!()
    }
    /// Whether the challenge is locked by mismatches, before anything is compared.
    pub async fn locked(
        &self,
        tenant: &TenantId,
        challenge: ChallengeId,
        now: Timestamp,
    ) -> Result<bool, LedgerError> {
        todo!()
    }
    /// The reply's body was flushed to the connection (or not). Not durable by itself; grouped.
    pub async fn sent(
        &self,
        certificate: CertificateFingerprint,
        delivered: Delivery,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        todo!()
    }

    /// Intents without an outcome, for recovery at start.
    pub async fn unsettled(&self) -> Result<Vec<Recoverable>, LedgerError> {
        todo!()
    }
    /// Recovery found nothing issued.
    pub async fn settle_nothing(
        &self,
        recoverable: Recoverable,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        todo!()
    }
    /// Recovery found the certificate: recorded; the retry will be released.
    pub async fn settle_found(
        &self,
        recoverable: Recoverable,
        certificate: CertificateDer,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        todo!()
    }
    /// Recovery cannot find out: reported as a possible orphan; the challenge stays spent.
    pub async fn settle_orphan(
        &self,
        recoverable: Recoverable,
        detail: &str,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        todo!()
    }

    /// A live certificate issued through this gateway, by its DER's fingerprint.
    pub async fn live_certificate(
        &self,
        fingerprint: CertificateFingerprint,
        now: Timestamp,
    ) -> Result<Option<InventoryEntry>, LedgerError> {
        todo!()
    }
    /// The inventory, newest first.
    pub async fn inventory(
        &self,
        limit: u32,
        before: Option<u64>,
    ) -> Result<Vec<InventoryEntry>, LedgerError> {
        todo!()
    }
    /// The outbox after a sequence number, oldest first.
    pub async fn outbox(&self, after: u64, limit: u32) -> Result<Vec<OutboxEvent>, LedgerError> {
        todo!()
    }
    /// Counters for health and metrics.
    pub async fn counters(&self) -> Result<Counters, LedgerError> {
        todo!()
    }
}

/// The time that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EffectiveNow {
    /// max(clock, mark).
    pub now: Timestamp,
    /// How far the clock is behind the mark, when over the tolerance.
    pub behind: Option<Duration>,
}

/// What the ledger knows of a request.
#[derive(Debug)]
pub enum Recall {
    /// Never seen.
    Nothing,
    /// An honest retry.
    Releasable(Releasable),
    /// Another connection is at it, or recovery has not settled it: try again soon.
    InProgress,
    /// Seen, and its window is over, or its certificate revoked.
    Over(Reason),
}

/// First use of a challenge, durable, with its intent. Consumed by [`Admission::redeem`].
#[must_use = "an admission must be redeemed and settled"]
#[derive(Debug)]
pub struct Admission(());
impl Admission {
    /// Splits into the permit for the CA (once) and the obligation to settle.
    #[must_use]
    pub fn redeem(self) -> (IssuePermit, Unsettled) {
        todo!()
    }
}

/// The right to have a CA issue once. Consumed by the CA.
#[must_use = "a permit is for one call of the CA"]
#[derive(Debug)]
pub struct IssuePermit(());
impl IssuePermit {
    /// What to issue.
    #[must_use]
    pub fn contents(&self) -> &CertificateContents {
        todo!()
    }
    /// With this serial number, when we chose it.
    #[must_use]
    pub fn serial(&self) -> Option<&SerialNumber> {
        todo!()
    }
    /// The request's DER, for a CA that insists on it.
    #[must_use]
    pub fn csr_der(&self) -> &[u8] {
        todo!()
    }
}

/// An intent that must be settled: record, hand back, withhold or leave unknown.
#[must_use = "an intent must be settled"]
#[derive(Debug)]
pub struct Unsettled(());
impl Unsettled {
    /// The approval, to check what came back.
    #[must_use]
    pub fn approval(&self) -> &Approval {
        todo!()
    }
}

/// A recorded certificate: may be released. Cannot be made otherwise.
#[derive(Debug)]
pub struct Releasable(());
impl ReleasedCertificate for Releasable {
    fn certificate(&self) -> &CertificateDer {
        todo!()
    }
}

/// An intent that a crash left.
#[derive(Debug)]
pub struct Recoverable(());
impl Recoverable {
    /// Serial number, when we chose it.
    #[must_use]
    pub fn serial(&self) -> Option<&SerialNumber> {
        todo!()
    }
    /// The key asked for.
    #[must_use]
    pub fn spki(&self) -> &SpkiDer {
        todo!()
    }
}

/// Why a first use was refused.
#[derive(Debug, Error)]
pub enum AdmitError {
    /// The ledger says no; the reason is one of ChallengeAlreadyUsed, ChallengeLocked, KeyAlreadyCertified,
    /// IssuanceBrakeEngaged, RequestInProgress, ChallengeExpired.
    #[error("not admitted: {0}")]
    Refused(Reason),
    /// It could not be asked.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// A denial to be counted.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Denied<'a> {
    pub tenant: &'a TenantId,
    pub challenge: ChallengeId,
    pub device: &'a DeviceId,
    pub profile: &'a ProfileId,
    pub expires_at: Timestamp,
    pub reasons: &'a [Reason],
    /// Field by field, JSON.
    pub detail: &'a str,
}

/// Whether a reply got out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Delivery {
    Flushed,
    ConnectionLost,
}

/// One issued certificate. (Refine: add what is useful.)
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct InventoryEntry {
    pub row: u64,
    pub tenant: TenantId,
    pub device: DeviceId,
    pub profile: ProfileId,
    pub challenge: ChallengeId,
    pub certificate: CertificateDer,
    pub issued_at: Timestamp,
    pub delivered: Option<Delivery>,
    pub revoked_at: Option<Timestamp>,
}

/// One event for the issuer. (Refine.)
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct OutboxEvent {
    pub sequence: u64,
    pub kind: String,
    pub body_json: String,
    pub at: Timestamp,
}

/// Counters. (Refine.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Counters {
    pub issued: u64,
    pub delivered: u64,
    pub refused: u64,
    pub unsettled: u64,
    pub outbox: u64,
}
