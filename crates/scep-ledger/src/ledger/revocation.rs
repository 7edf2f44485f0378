//! Revocations and CRLs.

use super::Ledger;
use crate::LedgerError;
use crate::revocation::{
    CertificateStatus, CrlEntry, QueueOutcome, RevocationJob, RevocationOrder, RevocationState,
    RevocationStore, RevocationWork,
};
use scep_types::{CrlDer, NameHash, SerialNumber, Timestamp};

impl Ledger {
    fn revocations(&self) -> Result<&dyn RevocationStore, LedgerError> {
        self.store.revocations().ok_or(LedgerError::NoRevocations)
    }

    /// Orders a revocation. Only of what this ledger has issued, by issuer and serial number; ordering it again
    /// changes nothing, and tells how far it is.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub async fn queue_revocation(
        &self,
        order: RevocationOrder,
        now: Timestamp,
    ) -> Result<QueueOutcome, LedgerError> {
        self.clock.see(now);
        self.revocations()?.queue_revocation(order, now).await
    }

    /// How far the revocation of a certificate is; `None` when none was ordered.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn revocation(
        &self,
        issuer: NameHash,
        serial: &SerialNumber,
    ) -> Result<Option<RevocationState>, LedgerError> {
        self.revocations()?.revocation(issuer, serial.clone()).await
    }

    /// What is on record about the certificates with this issuer and serial number, as of every commit before this
    /// call; `None`: this ledger has issued none.
    ///
    /// # Errors
    /// When the ledger cannot be read, or keeps no revocations.
    pub async fn certificate_status(
        &self,
        issuer: NameHash,
        serial: &SerialNumber,
    ) -> Result<Option<CertificateStatus>, LedgerError> {
        self.revocations()?.certificate_status(issuer, serial.clone()).await
    }

    /// What there is to do about an issuer's revocations. Reads only, and cheaply.
    ///
    /// # Errors
    /// When the ledger cannot be read, or keeps no revocations.
    pub async fn revocation_work(&self, issuer: NameHash) -> Result<RevocationWork, LedgerError> {
        self.revocations()?.revocation_work(issuer).await
    }

    /// The next revocations to ask the CA for, oldest first, at most `limit` new ones; durably `sent` before this answers. What an
    /// earlier run has left in `sent` comes first and again: the CA must take it as the same order.
    ///
    /// Issuers' orders that are more within an hour than [`crate::LedgerSettings::revocations`] allows wait, all of
    /// them, until [`Ledger::confirm_revocations`]; that is reported.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub async fn next_revocations(
        &self,
        issuer: NameHash,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<RevocationJob>, LedgerError> {
        self.clock.see(now);
        self.revocations()?.next_revocations(issuer, limit, now).await
    }

    /// The CA has revoked it, `at` this time: as [`Ledger::mark_revoked`], and the next CRL lists it.
    ///
    /// # Errors
    /// When it cannot be made durable; it then stays `sent`.
    pub async fn revocation_done(
        &self,
        job: &RevocationJob,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.clock.see(now);
        self.revocations()?.revocation_done(job.row, at).await
    }

    /// The CA refuses, for good. That it cannot be reached is no failure: the job stays `sent`.
    ///
    /// # Errors
    /// When it cannot be made durable; it then stays `sent`.
    pub async fn revocation_failed(
        &self,
        job: &RevocationJob,
        why: &str,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.clock.see(now);
        self.revocations()?.revocation_failed(job.row, why.to_owned(), now).await
    }

    /// An operator lets the revocations go that wait now; in the audit table and as an event under the operator's
    /// name. Gives how many. Later orders are counted from nothing.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub async fn confirm_revocations(
        &self,
        operator: &str,
        now: Timestamp,
    ) -> Result<u64, LedgerError> {
        self.clock.see(now);
        self.revocations()?.confirm_revocations(operator.to_owned(), now).await
    }

    /// What the issuer's next CRL must list, in no particular order. A certificate that has expired is left out once
    /// a CRL made after that has listed it (RFC 5280, 3.3).
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn crl_entries(&self, issuer: NameHash) -> Result<Vec<CrlEntry>, LedgerError> {
        let (mut all, mut more) = self.revocations()?.crl_entries(issuer, 0).await?;
        while let Some(after) = more {
            let (page, next) = self.revocations()?.crl_entries(issuer, after).await?;
            all.extend(page);
            more = next;
        }
        Ok(all)
    }

    /// The issuer's last CRL.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn last_crl(&self, issuer: NameHash) -> Result<Option<CrlDer>, LedgerError> {
        let Some(der) = self.revocations()?.last_crl(issuer).await? else { return Ok(None) };
        CrlDer::parse(&der).map(Some).map_err(|_| LedgerError::Damaged { what: "crl.der" })
    }

    /// Keeps a CRL before anybody sees it; the revocations that it lists are fulfilled, and reported, in the same
    /// commit. Gives how many. `after` is the last CRL's number as [`Ledger::revocation_work`] gave it before
    /// [`Ledger::crl_entries`] was asked: of two gateways that make a CRL at once, one is refused, so that no CRL lacks
    /// what an earlier one lists.
    ///
    /// # Errors
    /// [`LedgerError::CrlOvertaken`] when another was recorded since; [`LedgerError::CrlNumber`] when the number is not above the last one's; otherwise when it cannot be made
    /// durable: it must then not be shown to anybody.
    pub async fn record_crl(
        &self,
        issuer: NameHash,
        after: Option<u64>,
        number: u64,
        crl: &CrlDer,
        now: Timestamp,
    ) -> Result<u64, LedgerError> {
        self.clock.see(now);
        self.revocations()?.record_crl(issuer, (after, number), crl.clone(), now).await
    }
}
