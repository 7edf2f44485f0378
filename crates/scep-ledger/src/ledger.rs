//! [`Ledger`]: the evidence out of what a store finds and does.

use crate::clock::{EffectiveNow, HighWater, MAX_LAG};
use crate::error::{AdmitError, LedgerError};
use crate::evidence::{Admission, Obligation, Recall, Recoverable, Releasable, Unsettled};
use crate::held::Asked;
use crate::inventory::{
    Counters, Delivery, DenialSubject, InventoryEntry, RevocationReason, Standing,
};
use crate::live::Live;
use crate::report::{Acknowledged, Denied, Found, OutboxEvent};
use crate::settings::{LedgerSettings, MAX_SKEW};
use crate::store::{
    self, Admitted, Intent, Judged, Mismatch, Remembered, Settlement, State, Store, Terms,
};
use scep_policy::{Approval, Conforming, Denials, Grounds, RetryKey};
use scep_types::{
    AuthorityName, CertificateDer, CertificateFingerprint, ChallengeId, LedgerId, Reason, TenantId,
    Timestamp,
};
use std::sync::Arc;

mod held;
mod revocation;

/// The gateway's durable memory. Cheap to clone; the last clone that is dropped waits until everything is written.
///
/// `Ledger` makes the evidence; a store (SQLite or PostgreSQL) only says what its transactions found.
///
/// Every `now` is what [`Ledger::effective_now`] gave. Every step that writes answers after it is durable, except
/// [`Ledger::sent`]. A step whose future is dropped before it answers happens or does not; recovery then finds an
/// intent without an outcome, as after a crash.
#[derive(Clone, Debug)]
pub struct Ledger {
    store: Arc<dyn Store>,
    id: LedgerId,
    settings: LedgerSettings,
    clock: Arc<HighWater>,
    live: Live,
}

impl Ledger {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        id: LedgerId,
        settings: LedgerSettings,
        clock: Arc<HighWater>,
    ) -> Self {
        Self { store, id, settings, clock, live: Live::default() }
    }

    /// Opens or makes a SQLite ledger of this process's own; WAL, synchronous FULL, read back on every connection.
    ///
    /// The file has mode 0600, and beside it lies a lock file (`<name>.lock`) which keeps a second gateway out. The
    /// directory must be on a local file system: WAL needs shared memory and locks that network file systems lack.
    ///
    /// # Errors
    /// When the file cannot be made or opened, has the wrong mode, is in use, is no ledger, is of a newer schema, or a
    /// setting is not in force.
    #[cfg(feature = "sqlite")]
    pub fn open_sqlite(
        path: &std::path::Path,
        settings: LedgerSettings,
    ) -> Result<Self, LedgerError> {
        crate::sqlite::open(path, settings)
    }

    /// Opens or makes the ledger that a group of gateways shares in a PostgreSQL database. Works on a thread of its own,
    /// so any runtime will do, and so will none.
    ///
    /// The server must have `fsync`, `full_page_writes` and `synchronous_commit` on: read back on every connection.
    ///
    /// # Errors
    /// When the server cannot be reached, a setting is not in force, or the schema is newer or something else's.
    #[cfg(feature = "postgres")]
    pub async fn open_postgres(
        config: crate::PostgresConfig,
        settings: LedgerSettings,
    ) -> Result<Self, LedgerError> {
        crate::postgres::open(config, settings).await
    }

    /// Its random id, chosen when it was made. The issuer binds a gateway group to one ledger by it.
    #[must_use]
    pub const fn id(&self) -> LedgerId {
        self.id
    }

    /// max(clock, high-water mark); moves the mark.
    ///
    /// The mark in memory is exact. It becomes durable with every commit, and here once it is 60 s ahead of the
    /// durable one. That suffices: the durable mark matters only after a restart, and only for a clock that was set
    /// back meanwhile. Then a challenge that had expired within the last 60 s of the previous run may be taken for
    /// valid until the mark passes its expiry again; it cannot be used twice, as uses are remembered by id and not by
    /// time. While the clock stays behind, the effective time stands still: `behind` is the alarm.
    ///
    /// # Errors
    /// When the mark is due and cannot be made durable.
    pub async fn effective_now(&self, clock: Timestamp) -> Result<EffectiveNow, LedgerError> {
        let now = self.clock.see(clock);
        if now.since(self.clock.durable()) >= MAX_LAG {
            self.store.flush().await?;
        }
        let lag = now.since(clock);
        Ok(EffectiveNow { now, behind: (lag > self.settings.clock_tolerance).then_some(lag) })
    }

    /// Mends a high-water mark spoilt by a forward jump: sets it to `to`, in the audit table and as an event under the
    /// operator's name. Challenges that could be among those whose use was pruned meanwhile stay refused.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub async fn clock_reset(&self, to: Timestamp, operator: &str) -> Result<(), LedgerError> {
        self.store.reset_clock(to, operator.to_owned()).await
    }

    /// An honest retry?
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn recall(&self, key: RetryKey, now: Timestamp) -> Result<Recall, LedgerError> {
        let Some(remembered) = self.store.recall(key.hash()).await? else {
            return Ok(Recall::Nothing);
        };
        self.recalled(remembered, now)
    }

    fn recalled(&self, remembered: Remembered, now: Timestamp) -> Result<Recall, LedgerError> {
        Ok(match store::judge_recall(remembered, now, &self.settings)? {
            Judged::Nothing => Recall::Nothing,
            Judged::InProgress => Recall::InProgress,
            Judged::Pending => Recall::Pending,
            Judged::Approved(held) => Recall::Approved(held),
            Judged::Over(reason) => Recall::Over(reason),
            Judged::Release(certificate) => Recall::Releasable(Releasable::new(certificate)),
        })
    }

    /// First use, with the intent in the same durable commit; or why not.
    ///
    /// The approval's grounds are compared with what is on record, in the same transaction: a request that was held must
    /// be, and be approved by a person; a predecessor must be a live certificate of the same device that may be renewed so,
    /// of that generation, and without another successor.
    ///
    /// A refusal spends nothing. Another request with a challenge that is in use is reported as a breach (the signal
    /// of RFC 8894, 7.3), the first ten of a use one by one. A key of another device and a device, user or profile
    /// that was disabled meanwhile count as a mismatch, as a denial of the policy does.
    ///
    /// # Errors
    /// [`AdmitError::Refused`] when the ledger says no; otherwise when it could not be asked.
    pub async fn admit(
        &self,
        approval: Approval,
        asked: &Asked<'_>,
        now: Timestamp,
    ) -> Result<Admission, AdmitError> {
        self.admit_among(approval, asked, &[], now).await
    }

    /// [`Ledger::admit`] at a CA that takes over from others, or is being taken over from: a renewal's predecessor may
    /// be theirs too.
    ///
    /// # Errors
    /// As for [`Ledger::admit`].
    pub async fn admit_among(
        &self,
        approval: Approval,
        asked: &Asked<'_>,
        kin: &[AuthorityName],
        now: Timestamp,
    ) -> Result<Admission, AdmitError> {
        let claims = approval.claims();
        let intent = Intent {
            tenant: claims.tenant.clone(),
            challenge: claims.challenge_id,
            issued_at: claims.issued_at,
            expires_at: claims.expires_at,
            device: claims.device.clone(),
            profile: claims.profile.clone(),
            user: claims.user.clone(),
            audience: claims.audience.clone(),
            info: approval.retry_key().hash(),
            spki: approval.contents().spki.clone(),
            signer: asked.signer,
            transaction: asked.transaction.clone(),
            serial: asked.serial.clone(),
            expected: crate::expected::encode(approval.contents()),
            authority: asked.authority.clone(),
            grounds: approval.grounds(),
            renewable_by: approval.renewable_by(),
            at: now,
        };
        let claims = match intent.grounds {
            Grounds::Challenge | Grounds::Renewal { .. } => None,
            // What was decoded encodes again.
            Grounds::Held => claims.to_der().ok(),
        };
        let (per_hour, kin) = (approval.issuance_per_hour(), kin.to_vec());
        let terms = Terms { per_hour, claims, kin };
        let obligation = self.admit_intent(intent, terms).await?;
        Ok(Admission::new(approval, obligation))
    }

    /// [`Ledger::admit`] without the evidence, which tests of the stores cannot make.
    pub(crate) async fn admit_intent(
        &self,
        intent: Intent,
        terms: Terms,
    ) -> Result<Obligation, AdmitError> {
        self.clock.see(intent.at);
        let live = self.live.enter(&intent.tenant, intent.challenge);
        match self.store.admit(intent.clone(), terms).await? {
            Admitted::Yes(attempt) => Ok(Obligation::new(attempt, intent, live)),
            Admitted::No(reason) => Err(AdmitError::Refused(reason)),
        }
    }

    pub(crate) async fn settle(
        &self,
        obligation: Obligation,
        settlement: Settlement,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.clock.see(now);
        self.store.settle(obligation.attempt, obligation.intent.clone(), settlement, now).await?;
        obligation.discharge();
        Ok(())
    }

    /// The certificate and its report, durably.
    ///
    /// # Errors
    /// [`LedgerError::Mismatch`] when the certificate was checked against another approval; otherwise when it cannot
    /// be made durable. The intent then stays open: the certificate must not be released, and recovery looks for it.
    pub async fn record(
        &self,
        unsettled: Unsettled,
        conforming: Conforming,
        now: Timestamp,
    ) -> Result<Releasable, LedgerError> {
        let intent = &unsettled.obligation.intent;
        let certificate = conforming.certificate().clone();
        if conforming.challenge() != (&intent.tenant, intent.challenge)
            || *certificate.spki() != intent.spki
            || !unsettled.has_serial_of(&certificate)
        {
            return Err(LedgerError::Mismatch);
        }
        let settlement = Settlement::Recorded(certificate.clone(), Found::InTurn);
        self.settle(unsettled.obligation, settlement, now).await?;
        Ok(Releasable::new(certificate))
    }

    /// The CA is known to have issued nothing: the challenge is free again, or a request that was held waits again,
    /// approved; the failure is reported.
    ///
    /// # Errors
    /// When it cannot be made durable; the intent then stays open.
    pub async fn hand_back(
        &self,
        unsettled: Unsettled,
        reason: Reason,
        detail: &str,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let settlement = Settlement::Freed(reason, detail.to_owned());
        self.settle(unsettled.obligation, settlement, now).await
    }

    /// It is unknown whether the CA issued: the challenge stays bound to this request until recovery settles it,
    /// and that settlement is what is reported. When another gateway's recovery, as this one's lease was over, has found
    /// meanwhile that nothing was issued, a possible certificate is reported besides.
    ///
    /// # Errors
    /// [`LedgerError::AlreadySettled`] when recovery has found the certificate meanwhile, or has reported it as a possible
    /// one; otherwise when it cannot be made durable: the intent then stays open, which recovery treats alike.
    pub async fn leave_unknown(
        &self,
        unsettled: Unsettled,
        detail: &str,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let intent = &unsettled.obligation.intent;
        tracing::warn!(
            tenant = %intent.tenant, challenge = %intent.challenge, device = %intent.device, detail,
            "it is unknown whether the CA has issued"
        );
        let settlement = Settlement::Unknown(detail.to_owned());
        self.settle(unsettled.obligation, settlement, now).await
    }

    /// The CA returned something else than was approved: kept, never released, reported; the challenge stays spent.
    ///
    /// # Errors
    /// When it cannot be made durable; the intent then stays open.
    pub async fn withhold(
        &self,
        unsettled: Unsettled,
        certificate: &CertificateDer,
        detail: &str,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let settlement = Settlement::Withheld(certificate.clone(), detail.to_owned());
        self.settle(unsettled.obligation, settlement, now).await
    }

    /// Another CA issues, which this ledger cannot ask: the challenge stays spent, and nothing is on record to be
    /// released. Reported as a possible certificate.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub async fn hand_over(
        &self,
        unsettled: Unsettled,
        detail: &str,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.settle(unsettled.obligation, Settlement::Orphan(detail.to_owned()), now).await
    }

    /// A denial with a verified blob: counted against the challenge and reported. Gives the count, which stops at the
    /// limit; from there on nothing more is reported, so that a stranger cannot fill the outbox.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub async fn count_mismatch(
        &self,
        denied: &Denied<'_>,
        now: Timestamp,
    ) -> Result<u32, LedgerError> {
        self.clock.see(now);
        self.store.count_mismatch(Mismatch::of(denied), now).await
    }

    /// Whether the challenge is locked by mismatches, before anything is compared. It stays so until it expires.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn locked(
        &self,
        tenant: &TenantId,
        challenge: ChallengeId,
        now: Timestamp,
    ) -> Result<bool, LedgerError> {
        let counted = self.store.mismatches(tenant.clone(), challenge).await?;
        Ok(counted.is_some_and(|(count, expires_at)| {
            count >= self.settings.max_mismatches && now < expires_at.plus(MAX_SKEW)
        }))
    }

    /// The reply's body was flushed to the connection (or not). Not durable by itself: it is written with the next
    /// commit, after a quarter of a second without one, or at an orderly shutdown. A flushed reply stays flushed when
    /// a later one is lost. Each of the two is reported once.
    ///
    /// # Errors
    /// When the ledger is closed.
    #[allow(clippy::unused_async, reason = "a store that is not in this process will have to wait")]
    pub async fn sent(
        &self,
        certificate: CertificateFingerprint,
        delivered: Delivery,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.store.sent(certificate, delivered, now)
    }

    /// Intents without an outcome, for recovery: those of an earlier run, those left unknown or pending, and those that
    /// this process has dropped. A pending one is asked for until its CA has answered, however long that takes. What it is working on is left out.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn unsettled(&self) -> Result<Vec<Recoverable>, LedgerError> {
        let open = self.store.unsettled().await?;
        Ok(open
            .into_iter()
            .filter(|left| !self.live.contains(&left.intent.tenant, left.intent.challenge))
            .map(Recoverable::new)
            .collect())
    }

    async fn settle_left(
        &self,
        recoverable: Recoverable,
        settlement: Settlement,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.clock.see(now);
        self.store.settle(recoverable.attempt, recoverable.intent, settlement, now).await
    }

    /// Recovery found nothing issued: the challenge is free again, or a request that was held waits again, approved; the
    /// failure is reported. When the CA had said that it decides later, it has decided: the request is refused
    /// (CaRefused), and its challenge stays spent.
    ///
    /// # Errors
    /// [`LedgerError::AlreadySettled`] when somebody was faster, or something has become known of it since
    /// [`Ledger::unsettled`] gave it, so that it must be looked at again; otherwise when it cannot be made durable.
    pub async fn settle_nothing(
        &self,
        recoverable: Recoverable,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let settlement = if recoverable.state == State::Pending {
            let detail = String::from("the CA has refused what it had kept waiting");
            Settlement::Refused(Reason::CaRefused, detail)
        } else {
            let detail = String::from("recovery found that nothing was issued");
            Settlement::Freed(Reason::CaUnavailable, detail)
        };
        self.settle_left(recoverable, settlement, now).await
    }

    /// Recovery found the certificate. When it is what was approved it is recorded, and the retry will get it;
    /// when it differs it is withheld, as it would have been in its turn. Tells which.
    ///
    /// # Errors
    /// [`LedgerError::Mismatch`] when it has another key or serial number than the intent, that is, when the wrong
    /// certificate was found; [`LedgerError::AlreadySettled`] when somebody was faster; otherwise when it cannot be
    /// made durable.
    pub async fn settle_found(
        &self,
        recoverable: Recoverable,
        certificate: CertificateDer,
        now: Timestamp,
    ) -> Result<Standing, LedgerError> {
        let intent = &recoverable.intent;
        if *certificate.spki() != intent.spki
            || intent.serial.as_ref().is_some_and(|s| Some(s) != certificate.serial().as_ref())
        {
            return Err(LedgerError::Mismatch);
        }
        let (settlement, standing) = match crate::expected::compare(&intent.expected, &certificate)
        {
            Ok(()) => (Settlement::Recorded(certificate, Found::ByRecovery), Standing::Issued),
            Err(difference) => {
                let detail = format!("recovery found a certificate that differs: {difference}");
                (Settlement::Withheld(certificate, detail), Standing::Withheld)
            }
        };
        self.settle_left(recoverable, settlement, now).await?;
        Ok(standing)
    }

    /// Recovery cannot find out: reported as a possible orphan; the challenge stays spent.
    ///
    /// # Errors
    /// [`LedgerError::AlreadySettled`] when somebody was faster; otherwise when it cannot be made durable.
    pub async fn settle_orphan(
        &self,
        recoverable: Recoverable,
        detail: &str,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.settle_left(recoverable, Settlement::Orphan(detail.to_owned()), now).await
    }

    /// A live certificate issued through this gateway, by its DER's fingerprint: released or releasable, unrevoked,
    /// and within its validity.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn live_certificate(
        &self,
        fingerprint: CertificateFingerprint,
        now: Timestamp,
    ) -> Result<Option<InventoryEntry>, LedgerError> {
        let entry = self.store.certificate(fingerprint).await?;
        Ok(entry.filter(|entry| {
            entry.standing == Standing::Issued
                && entry.revoked_at.is_none()
                && entry.certificate.not_before() <= now
                && now <= entry.certificate.not_after()
        }))
    }

    /// The inventory, newest first; from the newest, or from before the row that the last page ended with.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn inventory(
        &self,
        limit: u32,
        before: Option<u64>,
    ) -> Result<Vec<InventoryEntry>, LedgerError> {
        self.store.inventory(limit, before).await
    }

    /// The CA has revoked the certificate: a retry gets it no more, it signs no renewal, and it is reported. The
    /// first time and reason stay.
    ///
    /// # Errors
    /// [`LedgerError::NoSuchCertificate`] when it is not on record; otherwise when it cannot be made durable.
    pub async fn mark_revoked(
        &self,
        certificate: CertificateFingerprint,
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.clock.see(now);
        self.store.mark_revoked(certificate, reason, now).await
    }

    /// Disables a device, a user or a profile.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub async fn deny(&self, subject: DenialSubject, now: Timestamp) -> Result<(), LedgerError> {
        self.store.deny(subject, now).await
    }

    /// Enables it again.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub async fn allow(&self, subject: DenialSubject) -> Result<(), LedgerError> {
        self.store.allow(subject).await
    }

    /// All that is disabled, for the policy. [`Ledger::recall`] and [`Ledger::admit`] look themselves.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn denials(&self) -> Result<Denials, LedgerError> {
        self.store.denials().await
    }

    /// The outbox after a sequence number, oldest first.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn outbox(&self, after: u64, limit: u32) -> Result<Vec<OutboxEvent>, LedgerError> {
        self.store.outbox(after, limit).await
    }

    /// The issuer has every event up to this one: they are dropped. Their numbers are not used again.
    ///
    /// When it has events that this ledger never had, the ledger was restored from a backup and has forgotten uses:
    /// from then on every challenge issued before `now` is refused (ChallengeBeforeRestore), the numbers go on after
    /// the issuer's, and an event says so, all in the same commit.
    ///
    /// # Errors
    /// [`LedgerError::Implausible`] when the number is beyond anything that a backup could lack; otherwise when it
    /// cannot be made durable.
    pub async fn acknowledge(
        &self,
        through: u64,
        now: Timestamp,
    ) -> Result<Acknowledged, LedgerError> {
        self.store.acknowledge(through, now).await
    }

    /// Counters for health and metrics.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn counters(&self) -> Result<Counters, LedgerError> {
        self.store.counters().await
    }

    /// Forgets uses and mismatches of challenges that are over: expired by more than the largest skew and the retry
    /// window, and settled. Never a certificate, a possible orphan or an intent without an outcome. Gives how many.
    ///
    /// Refuses held requests whose time is over (ApprovalExpired), and reports that; for [`Ledger::recall`] they are over
    /// without it. However much there is, no single transaction is long: what others ask for is done in between.
    ///
    /// Single use holds without them: an opener refuses what has expired, and `admit` refuses every challenge that
    /// expires no later than the latest one forgotten, whatever the clock says by then.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub async fn prune(&self, now: Timestamp) -> Result<u64, LedgerError> {
        let mut count: u64 = 0;
        loop {
            let pruned = self.store.prune(now).await?;
            count = count.saturating_add(pruned.count);
            if !pruned.more {
                return Ok(count);
            }
        }
    }

    /// Waits until everything handed over so far is durable, [`Ledger::sent`] included.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub async fn flush(&self) -> Result<(), LedgerError> {
        self.store.flush().await
    }
}
