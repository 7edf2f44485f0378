//! Requests that wait, and certificates that are asked for by what is on record of them.

use super::Ledger;
use crate::LedgerError;
use crate::error::AdmitError;
use crate::evidence::{Recall, Unsettled};
use crate::held::{Asked, HeldRequest, HeldVerdict, Polled};
use crate::inventory::InventoryEntry;
use crate::store::{Admitted, Hold, Intent, Settlement, judge_predecessor};
use scep_policy::{Grounds, Holdable, Predecessor, RetryKey};
use scep_types::{
    CertificateFingerprint, NameHash, Reason, Secret, SerialNumber, SpkiHash, Timestamp,
    TransactionId,
};

impl Ledger {
    /// Takes the challenge for a request that a person must approve, durably, and keeps the request until `until`; or why
    /// not. Refuses what [`Ledger::admit`] would refuse, and what is more than
    /// [`crate::LedgerSettings::max_held`] (RateExceeded). The brake on issuance counts the request when it is admitted
    /// after its approval, and not now. Reported as an event.
    ///
    /// # Errors
    /// [`AdmitError::Refused`] when the ledger says no; otherwise when it could not be asked.
    pub async fn hold(
        &self,
        holdable: Holdable,
        asked: &Asked<'_>,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), AdmitError> {
        let claims = holdable.claims();
        // What was decoded encodes again; that it does not would be our bug.
        let Ok(der) = claims.to_der() else {
            return Err(AdmitError::Refused(Reason::InternalError));
        };
        let intent = Intent {
            tenant: claims.tenant.clone(),
            challenge: claims.challenge_id,
            issued_at: claims.issued_at,
            expires_at: claims.expires_at,
            device: claims.device.clone(),
            profile: claims.profile.clone(),
            user: claims.user.clone(),
            audience: claims.audience.clone(),
            info: holdable.retry_key().hash(),
            spki: holdable.spki().clone(),
            signer: asked.signer,
            transaction: asked.transaction.clone(),
            // Chosen, like the contents and their dates, when it is admitted.
            serial: None,
            expected: Vec::new(),
            authority: asked.authority.clone(),
            grounds: Grounds::Held,
            renewable_by: None,
            at: now,
        };
        let csr = holdable.csr_der().to_vec();
        self.clock.see(now);
        match self.store.hold(Hold { intent, csr, claims: der, until }).await? {
            Admitted::Yes(_) => Ok(()),
            Admitted::No(reason) => Err(AdmitError::Refused(reason)),
        }
    }

    /// The requests that wait for a person, and those approved that their device has not come for since; oldest first,
    /// from the oldest or from after a row. Some may be over ([`HeldRequest::until`]).
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn held(
        &self,
        limit: u32,
        after: Option<u64>,
    ) -> Result<Vec<HeldRequest>, LedgerError> {
        self.store.held(limit, after).await
    }

    /// A person approves or refuses a request that waits, by its row; in the audit table and as an event under that name.
    /// Decided is decided: saying the same again changes nothing. What is refused is over at once, and reported.
    ///
    /// # Errors
    /// [`LedgerError::NotHeld`] when no such request waits, or it was decided otherwise, or its time is over; otherwise
    /// when it cannot be made durable.
    pub async fn decide_held(
        &self,
        row: u64,
        verdict: HeldVerdict,
        person: &str,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.clock.see(now);
        self.store.decide_held(row, verdict, person.to_owned(), now).await
    }

    /// A request that waits ([`Recall::Pending`], [`Recall::Approved`]) has come again, in this transaction and from this
    /// signer: from then on both are polled for, the first 16 of a request. Only the signer that it came from first counts,
    /// and the key that it asks to certify; others are not remembered, and send it again.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub async fn asked_again(
        &self,
        key: RetryKey,
        transaction: &TransactionId,
        signer: SpkiHash,
    ) -> Result<(), LedgerError> {
        self.store.asked_again(key.hash(), transaction.clone(), signer).await
    }

    /// What became of the last request of a transaction, for CertPoll: only the signer of that request is told. With the
    /// request itself while it is kept, whose challenge the answer to an EC key is encrypted with.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn poll(
        &self,
        transaction: &TransactionId,
        signer: SpkiHash,
        now: Timestamp,
    ) -> Result<Polled, LedgerError> {
        let Some(remembered) = self.store.poll(transaction.clone(), signer).await? else {
            return Ok(Polled { recall: Recall::Nothing, csr_der: None });
        };
        let csr_der = remembered.kept.as_ref().map(|kept| Secret::new(kept.csr.clone()));
        let recall = self.recalled(remembered, now)?;
        Ok(match recall {
            Recall::Nothing => Polled { recall, csr_der: None },
            recall => Polled { recall, csr_der },
        })
    }

    /// A live certificate of this gateway that may be renewed on its own word, by its DER's fingerprint. `None`: it is not
    /// ours, not live, ordered to be revoked, or its claims want a fresh challenge. Whether another follows it already is for
    /// [`Ledger::admit`].
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn predecessor(
        &self,
        fingerprint: CertificateFingerprint,
        now: Timestamp,
    ) -> Result<Option<Predecessor>, LedgerError> {
        let Some(found) = self.store.predecessor(fingerprint).await? else { return Ok(None) };
        let live = found.certificate.not_before() <= now && judge_predecessor(&found.facts, now);
        let Some(claims) = found.facts.renewable_by.filter(|_| live) else { return Ok(None) };
        Predecessor::from_ledger(found.certificate, &claims, found.facts.generation)
            .map(Some)
            .map_err(|_| LedgerError::Damaged { what: "certificate.renewable_by" })
    }

    /// The CA has the request and decides later: recovery asks it again and again, until it has answered, and the device
    /// polls. Keeps the request.
    ///
    /// # Errors
    /// When it cannot be made durable; the intent then stays open, which recovery treats alike.
    pub async fn leave_pending(
        &self,
        unsettled: Unsettled,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let settlement = Settlement::Pending(unsettled.approval().csr_der().to_vec());
        self.settle(unsettled.obligation, settlement, now).await
    }

    /// A certificate on record by the name of its issuer and its serial number, for GetCert: the latest that was released
    /// or is releasable, also when it was revoked or has expired since. Never one that is withheld.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn certificate_by_serial(
        &self,
        issuer: NameHash,
        serial: &SerialNumber,
    ) -> Result<Option<InventoryEntry>, LedgerError> {
        self.store.certificate_by_serial(issuer, serial.clone()).await
    }
}
