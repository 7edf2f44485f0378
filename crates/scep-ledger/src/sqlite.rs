//! The SQLite store: one file, one process, one thread that writes.

mod certificate;
mod denial;
mod enrolment;
mod held;
mod ledger_row;
mod mismatch;
mod open;
mod outbox;
mod revocation;
mod row;
mod schema;
mod threads;

use crate::clock::HighWater;
use crate::error::EngineError;
use crate::held::{HeldRequest, HeldVerdict};
use crate::inventory::{Counters, Delivery, DenialSubject, InventoryEntry, RevocationReason};
use crate::ledger::Ledger;
use crate::report::{Acknowledged, OutboxEvent};
use crate::revocation::{
    CertificateStatus, CrlEntry, QueueOutcome, RevocationJob, RevocationOrder, RevocationState,
    RevocationStore, RevocationWork,
};
use crate::store::{
    Admitted, Attempt, Hold, Intent, Mismatch, OpenIntent, Pruned, Remembered,
    RememberedPredecessor, Settlement, Store, Terms,
};
use crate::{LedgerError, LedgerSettings};
use async_trait::async_trait;
use rusqlite::Connection;
use scep_policy::Denials;
use scep_types::{
    CertificateFingerprint, ChallengeId, CrlDer, CsrInfoHash, NameHash, SerialNumber, SpkiHash,
    TenantId, Timestamp, TransactionId,
};
use std::path::Path;
use std::sync::Arc;

/// How many threads read. A look-up takes microseconds; two keep one slow page of inventory from holding up recalls.
const READERS: usize = 2;

/// Wraps what SQLite says.
fn engine(action: &'static str) -> impl Fn(rusqlite::Error) -> LedgerError {
    move |error| {
        let code = match &error {
            rusqlite::Error::SqliteFailure(failure, _) => Some(failure.extended_code),
            _ => None,
        };
        LedgerError::Engine { action, source: EngineError { code, message: error.to_string() } }
    }
}

/// Opens or makes a ledger.
pub(crate) fn open(path: &Path, settings: LedgerSettings) -> Result<Ledger, LedgerError> {
    let opened = open::open(path)?;
    let thread = |error: std::io::Error| LedgerError::File {
        action: "start a thread for",
        path: opened.path.clone(),
        kind: error.kind(),
    };
    let readers =
        (0..READERS).map(|_| open::open_reader(&opened.path)).collect::<Result<Vec<_>, _>>()?;
    let readers = threads::Readers::start(readers).map_err(thread)?;
    let clock = Arc::new(HighWater::new(opened.high_water));
    let writer = threads::Writer::start(opened.writer, Arc::clone(&clock)).map_err(thread)?;
    let store =
        SqliteStore { readers, writer, settings, clock: Arc::clone(&clock), _lock: opened.lock };
    Ok(Ledger::new(Arc::new(store), opened.id, settings, clock))
}

/// What the jobs of one commit add to the ledger's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    issued: i64,
    delivered: i64,
    refused: i64,
    failed: i64,
    withheld: i64,
}

impl Tally {
    const fn add(counter: &mut i64) {
        *counter = counter.saturating_add(1);
    }

    fn store(&self, conn: &Connection) -> rusqlite::Result<()> {
        if *self != Self::default() {
            conn.prepare_cached(
                "UPDATE ledger SET issued = issued + ?1, delivered = delivered + ?2, \
                 refused = refused + ?3, failed = failed + ?4, withheld = withheld + ?5",
            )?
            .execute([
                self.issued,
                self.delivered,
                self.refused,
                self.failed,
                self.withheld,
            ])?;
        }
        Ok(())
    }
}

// Fields are dropped in this order: the lock goes when the last connection is closed.
#[derive(Debug)]
struct SqliteStore {
    readers: threads::Readers,
    writer: threads::Writer,
    settings: LedgerSettings,
    clock: Arc<HighWater>,
    _lock: open::ProcessLock,
}

#[async_trait]
impl Store for SqliteStore {
    async fn flush(&self) -> Result<(), LedgerError> {
        self.writer.run(|_, _| Ok(()), |()| ()).await
    }

    async fn reset_clock(&self, to: Timestamp, operator: String) -> Result<(), LedgerError> {
        let from = self.clock.seen();
        let clock = Arc::clone(&self.clock);
        self.writer
            .run(
                move |conn, _| ledger_row::reset_clock(conn, from, to, &operator),
                // On the writer's thread: no later commit can bring the old mark back.
                move |()| clock.reset(to),
            )
            .await
    }

    async fn recall(&self, info: CsrInfoHash) -> Result<Option<Remembered>, LedgerError> {
        self.readers.ask(move |conn| enrolment::recall(conn, info)).await
    }

    async fn admit(&self, intent: Intent, terms: Terms) -> Result<Admitted, LedgerError> {
        let settings = self.settings;
        self.writer
            .run(
                move |conn, tally| enrolment::admit(conn, tally, &intent, &terms, &settings),
                |_| (),
            )
            .await
    }

    async fn hold(&self, hold: Hold) -> Result<Admitted, LedgerError> {
        let settings = self.settings;
        self.writer.run(move |conn, tally| held::hold(conn, tally, &hold, &settings), |_| ()).await
    }

    async fn held(&self, limit: u32, after: Option<u64>) -> Result<Vec<HeldRequest>, LedgerError> {
        self.readers.ask(move |conn| held::page(conn, limit, after)).await
    }

    async fn decide_held(
        &self,
        row: u64,
        verdict: HeldVerdict,
        person: String,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.writer
            .run(move |conn, tally| held::decide(conn, tally, row, verdict, &person, now), |()| ())
            .await
    }

    async fn asked_again(
        &self,
        info: CsrInfoHash,
        transaction: TransactionId,
        signer: SpkiHash,
    ) -> Result<(), LedgerError> {
        self.writer
            .run(move |conn, _| held::asked_again(conn, info, &transaction, signer), |()| ())
            .await
    }

    async fn poll(
        &self,
        transaction: TransactionId,
        signer: SpkiHash,
    ) -> Result<Option<Remembered>, LedgerError> {
        self.readers.ask(move |conn| enrolment::poll(conn, &transaction, signer)).await
    }

    async fn predecessor(
        &self,
        fingerprint: CertificateFingerprint,
    ) -> Result<Option<RememberedPredecessor>, LedgerError> {
        self.readers.ask(move |conn| certificate::predecessor(conn, fingerprint)).await
    }

    async fn certificate_by_serial(
        &self,
        issuer: NameHash,
        serial: SerialNumber,
    ) -> Result<Option<InventoryEntry>, LedgerError> {
        self.readers.ask(move |conn| certificate::by_serial(conn, issuer, &serial)).await
    }

    async fn settle(
        &self,
        attempt: Attempt,
        intent: Intent,
        settlement: Settlement,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.writer
            .run(
                move |conn, tally| {
                    enrolment::settle(conn, tally, attempt, &intent, &settlement, now)
                },
                |()| (),
            )
            .await
    }

    async fn unsettled(&self) -> Result<Vec<OpenIntent>, LedgerError> {
        self.readers.ask(enrolment::unsettled).await
    }

    async fn count_mismatch(&self, mismatch: Mismatch, now: Timestamp) -> Result<u32, LedgerError> {
        let max = self.settings.max_mismatches;
        self.writer
            .run(move |conn, tally| mismatch::count(conn, tally, &mismatch, max, now), |_| ())
            .await
    }

    async fn mismatches(
        &self,
        tenant: TenantId,
        challenge: ChallengeId,
    ) -> Result<Option<(u32, Timestamp)>, LedgerError> {
        self.readers.ask(move |conn| mismatch::read(conn, &tenant, challenge)).await
    }

    fn sent(
        &self,
        certificate: CertificateFingerprint,
        delivered: Delivery,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.writer
            .ride(move |conn, tally| certificate::sent(conn, tally, certificate, delivered, now))
    }

    async fn certificate(
        &self,
        fingerprint: CertificateFingerprint,
    ) -> Result<Option<InventoryEntry>, LedgerError> {
        self.readers.ask(move |conn| certificate::by_fingerprint(conn, fingerprint)).await
    }

    async fn inventory(
        &self,
        limit: u32,
        before: Option<u64>,
    ) -> Result<Vec<InventoryEntry>, LedgerError> {
        self.readers.ask(move |conn| certificate::page(conn, limit, before)).await
    }

    async fn mark_revoked(
        &self,
        certificate: CertificateFingerprint,
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.writer
            .run(move |conn, _| certificate::revoke(conn, certificate, reason, now), |()| ())
            .await
    }

    async fn deny(&self, subject: DenialSubject, now: Timestamp) -> Result<(), LedgerError> {
        self.writer.run(move |conn, _| denial::deny(conn, &subject, now), |()| ()).await
    }

    async fn allow(&self, subject: DenialSubject) -> Result<(), LedgerError> {
        self.writer.run(move |conn, _| denial::allow(conn, &subject), |()| ()).await
    }

    async fn denials(&self) -> Result<Denials, LedgerError> {
        self.readers.ask(denial::all).await
    }

    async fn outbox(&self, after: u64, limit: u32) -> Result<Vec<OutboxEvent>, LedgerError> {
        self.readers.ask(move |conn| outbox::page(conn, after, limit)).await
    }

    async fn acknowledge(&self, through: u64, now: Timestamp) -> Result<Acknowledged, LedgerError> {
        self.writer.run(move |conn, _| outbox::acknowledge(conn, through, now), |_| ()).await
    }

    async fn counters(&self) -> Result<Counters, LedgerError> {
        self.readers.ask(ledger_row::counters).await
    }

    async fn prune(&self, now: Timestamp) -> Result<Pruned, LedgerError> {
        let window = self.settings.retry_window;
        self.writer.run(move |conn, tally| enrolment::prune(conn, tally, window, now), |_| ()).await
    }

    fn revocations(&self) -> Option<&dyn RevocationStore> {
        Some(self)
    }
}

/// How many entries of a CRL are read at once: a few milliseconds of a reader's time.
const CRL_PAGE: usize = 4_096;

#[async_trait]
impl RevocationStore for SqliteStore {
    async fn queue_revocation(
        &self,
        order: RevocationOrder,
        now: Timestamp,
    ) -> Result<QueueOutcome, LedgerError> {
        self.writer.run(move |conn, _| revocation::queue(conn, &order, now), |_| ()).await
    }

    async fn revocation(
        &self,
        issuer: NameHash,
        serial: SerialNumber,
    ) -> Result<Option<RevocationState>, LedgerError> {
        self.readers.ask(move |conn| revocation::read(conn, issuer, &serial)).await
    }

    async fn certificate_status(
        &self,
        issuer: NameHash,
        serial: SerialNumber,
    ) -> Result<Option<CertificateStatus>, LedgerError> {
        self.readers.ask(move |conn| revocation::status(conn, issuer, &serial)).await
    }

    async fn revocation_work(&self, issuer: NameHash) -> Result<RevocationWork, LedgerError> {
        self.readers.ask(move |conn| revocation::work(conn, issuer)).await
    }

    async fn next_revocations(
        &self,
        issuer: NameHash,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<RevocationJob>, LedgerError> {
        let brake = self.settings.revocations;
        self.writer
            .run(move |conn, _| revocation::next(conn, issuer, limit, brake, now), |_| ())
            .await
    }

    async fn revocation_done(&self, row: i64, at: Timestamp) -> Result<(), LedgerError> {
        self.writer.run(move |conn, _| revocation::done(conn, row, at), |()| ()).await
    }

    async fn revocation_failed(
        &self,
        row: i64,
        why: String,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.writer.run(move |conn, _| revocation::failed(conn, row, &why, now), |()| ()).await
    }

    async fn confirm_revocations(
        &self,
        operator: String,
        now: Timestamp,
    ) -> Result<u64, LedgerError> {
        self.writer.run(move |conn, _| revocation::confirm(conn, &operator, now), |_| ()).await
    }

    async fn crl_entries(
        &self,
        issuer: NameHash,
        after: i64,
    ) -> Result<(Vec<CrlEntry>, Option<i64>), LedgerError> {
        self.readers.ask(move |conn| revocation::entries(conn, issuer, after, CRL_PAGE)).await
    }

    async fn last_crl(&self, issuer: NameHash) -> Result<Option<Vec<u8>>, LedgerError> {
        self.readers.ask(move |conn| revocation::last_crl(conn, issuer)).await
    }

    async fn record_crl(
        &self,
        issuer: NameHash,
        numbers: (Option<u64>, u64),
        crl: CrlDer,
        now: Timestamp,
    ) -> Result<u64, LedgerError> {
        self.writer
            .run(move |conn, _| revocation::record_crl(conn, issuer, numbers, &crl, now), |_| ())
            .await
    }
}
