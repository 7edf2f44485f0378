//! Revocations: what was ordered, how far each is, and the CRL that shows them.
//!
//! A job belongs to one (issuer, serial) of a certificate on record here and goes one way:
//!
//! ```text
//! queued ─► sent ─► revoked ─► on-crl
//!             └───► failed ─► queued, when it is ordered again
//! ```
//!
//! Nothing is known to be undone between two states: after a crash in `sent` the CA is asked again, which it must take
//! as the same order; after one in `revoked` the next CRL lists the certificate.

use crate::LedgerError;
use crate::inventory::RevocationReason;
use async_trait::async_trait;
use scep_types::{CertificateFingerprint, CrlDer, NameHash, SerialNumber, TenantId, Timestamp};

/// Who orders a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderedBy {
    /// The issuer of a tenant: reaches certificates of that tenant only, and the brake counts it.
    Tenant(TenantId),
    /// An operator of this gateway, by name: reaches every certificate on record, and the brake does not hold it.
    Operator(String),
}

/// An order to revoke one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationOrder {
    /// The issuer's Name.
    pub issuer: NameHash,
    /// The serial number.
    pub serial: SerialNumber,
    /// Why.
    pub reason: RevocationReason,
    /// Who orders it.
    pub by: OrderedBy,
}

/// How far a revocation is. The numbers are in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationState {
    /// Waits for its turn, or for an operator while the brake holds.
    Queued,
    /// The CA is being asked.
    Sent,
    /// The CA has revoked it; no CRL shows it yet.
    Revoked,
    /// A CRL shows it: only now is the order fulfilled.
    OnCrl,
    /// The CA refuses, for this reason.
    Failed(String),
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueOutcome {
    /// On record, durably.
    Queued,
    /// It was ordered before, and is so far. The first reason stays.
    Already(RevocationState),
    /// This ledger has issued no such certificate, or not for this tenant. The CA is never asked about it.
    NotFound,
}

/// A revocation that the CA is to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RevocationJob {
    pub(crate) row: i64,
    /// The issuer's Name.
    pub issuer: NameHash,
    /// The serial number.
    pub serial: SerialNumber,
    /// Why.
    pub reason: RevocationReason,
    /// The certificate.
    pub certificate: CertificateFingerprint,
}

/// One entry of a CRL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlEntry {
    /// The serial number.
    pub serial: SerialNumber,
    /// Since when.
    pub revoked_at: Timestamp,
    /// Why.
    pub reason: RevocationReason,
}

/// What the record says about the certificates with one issuer and serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CertificateStatus {
    /// Issued here, and not revoked.
    Issued,
    /// On record, but the CA made something else than was approved: it was never released. Not revoked yet.
    Withheld,
    /// Revoked.
    Revoked {
        /// Since when.
        at: Timestamp,
        /// Why.
        reason: RevocationReason,
    },
}

impl CertificateStatus {
    /// Out of the rows of all certificates with this issuer and serial number, the worst first: a CA that gave one
    /// number twice has revoked both. `None`: there is none.
    pub(crate) fn worst(all: impl IntoIterator<Item = Self>) -> Option<Self> {
        let rank = |status: &Self| match status {
            Self::Revoked { at, .. } => (0, *at),
            Self::Withheld => (1, Timestamp::EPOCH),
            Self::Issued => (2, Timestamp::EPOCH),
        };
        all.into_iter().min_by_key(rank)
    }

    /// One row: its standing, and when and why it was revoked.
    pub(crate) const fn of(
        standing: i64,
        revoked: Option<(Timestamp, RevocationReason)>,
    ) -> Result<Self, LedgerError> {
        match (standing, revoked) {
            (_, Some((at, reason))) => Ok(Self::Revoked { at, reason }),
            (0, None) => Ok(Self::Issued),
            (1, None) => Ok(Self::Withheld),
            _ => Err(LedgerError::Damaged { what: "certificate.standing" }),
        }
    }
}

/// What there is to do about revocations of one issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RevocationWork {
    /// Jobs to ask the CA for; those that the brake holds are not among them.
    pub waiting: u64,
    /// Jobs that the brake holds.
    pub held: u64,
    /// Revoked and on no CRL yet.
    pub unpublished: u64,
    /// Number and thisUpdate of the last CRL.
    pub last_crl: Option<(u64, Timestamp)>,
}

/// What decides whether jobs may go, read inside their transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BrakeFacts {
    /// The brake was engaged before and nobody has confirmed.
    pub(crate) engaged: bool,
    /// Jobs that the brake counts: waiting now, or sent within its window.
    pub(crate) counted: u64,
    /// Live certificates.
    pub(crate) live: u64,
}

/// Whether jobs that the brake counts must wait for an operator. All of them: a stolen command key that asks for
/// everything gets nothing, not the first few.
pub(crate) fn brake_holds(facts: &BrakeFacts, brake: crate::RevocationBrake) -> bool {
    let share = facts.live.saturating_mul(u64::from(brake.percent)) / 100;
    facts.engaged || facts.counted > share.max(u64::from(brake.at_least))
}

/// Whether a CRL may take the last one's place, judged inside the transaction.
///
/// One that was made from what was there before the last one may lack what the last one lists, whatever its number.
pub(crate) fn check_crl_number(
    last: Option<u64>,
    after: Option<u64>,
    number: u64,
) -> Result<(), LedgerError> {
    match last {
        Some(last) if after != Some(last) => Err(LedgerError::CrlOvertaken { last }),
        Some(last) if number <= last => Err(LedgerError::CrlNumber { got: number, last }),
        _ => Ok(()),
    }
}

/// What a store that keeps revocations must do. Each method is one atomic transaction; those that write answer after
/// their commit is durable. Apart from [`crate::store::Store`], so that a store can come without it.
#[async_trait]
pub(crate) trait RevocationStore: Send + Sync {
    /// A job for the certificate on record with this issuer and serial number; of this tenant, if one orders it.
    /// `Failed` becomes `Queued` again, with the new reason.
    async fn queue_revocation(
        &self,
        order: RevocationOrder,
        now: Timestamp,
    ) -> Result<QueueOutcome, LedgerError>;
    /// How far a job is.
    async fn revocation(
        &self,
        issuer: NameHash,
        serial: SerialNumber,
    ) -> Result<Option<RevocationState>, LedgerError>;
    /// What the record says about the certificates with this issuer and serial number; `None`: there is none.
    async fn certificate_status(
        &self,
        issuer: NameHash,
        serial: SerialNumber,
    ) -> Result<Option<CertificateStatus>, LedgerError>;
    /// Counts; writes nothing.
    async fn revocation_work(&self, issuer: NameHash) -> Result<RevocationWork, LedgerError>;
    /// Every job that is `Sent`, and of the `Queued` those that [`brake_holds`] lets go, which become `Sent`. When it
    /// begins to hold, the brake is engaged and reported in the same commit.
    async fn next_revocations(
        &self,
        issuer: NameHash,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<RevocationJob>, LedgerError>;
    /// `Sent` becomes `Revoked`, every certificate with the job's issuer and serial number is revoked, and it is
    /// reported. Nothing happens in another state.
    async fn revocation_done(&self, row: i64, at: Timestamp) -> Result<(), LedgerError>;
    /// `Sent` becomes `Failed`, reported. Nothing happens in another state.
    async fn revocation_failed(
        &self,
        row: i64,
        why: String,
        now: Timestamp,
    ) -> Result<(), LedgerError>;
    /// What waits now may go, and the brake counts from nothing; audited and reported. Gives how many wait.
    async fn confirm_revocations(
        &self,
        operator: String,
        now: Timestamp,
    ) -> Result<u64, LedgerError>;
    /// What the issuer's next CRL lists: `Revoked` and `OnCrl`, without what had expired when the last CRL that listed
    /// it was made.
    ///
    /// In pages, so that a long list holds nothing up: what comes after a row, and the row that the page ends with, if
    /// there may be more. What becomes `Revoked` between two pages may be missed; it stays `Revoked` then.
    async fn crl_entries(
        &self,
        issuer: NameHash,
        after: i64,
    ) -> Result<(Vec<CrlEntry>, Option<i64>), LedgerError>;
    /// The last CRL.
    async fn last_crl(&self, issuer: NameHash) -> Result<Option<Vec<u8>>, LedgerError>;
    /// Keeps the CRL, and makes every `Revoked` that it lists `OnCrl`, reported; gives how many. Only what
    /// [`check_crl_number`] lets pass: the last CRL's number that was seen before the entries were read, and this one's.
    async fn record_crl(
        &self,
        issuer: NameHash,
        numbers: (Option<u64>, u64),
        crl: CrlDer,
        now: Timestamp,
    ) -> Result<u64, LedgerError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_that_is_known_of_a_number_counts() {
        use CertificateStatus::{Issued, Withheld};
        let at = |seconds| {
            let revoked = (Timestamp::from_seconds(seconds), RevocationReason::Superseded);
            CertificateStatus::of(0, Some(revoked)).unwrap()
        };
        assert_eq!(CertificateStatus::worst([]), None);
        assert_eq!(CertificateStatus::worst([Issued, Withheld]), Some(Withheld));
        assert_eq!(CertificateStatus::worst([Issued, at(9), Withheld, at(5)]), Some(at(5)));
        assert_eq!(CertificateStatus::of(0, None), Ok(Issued));
        assert_eq!(CertificateStatus::of(1, None), Ok(Withheld));
        assert!(CertificateStatus::of(2, None).is_err());
    }
}
