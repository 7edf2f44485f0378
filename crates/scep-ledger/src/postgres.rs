//! The PostgreSQL store: one database, shared by a group of gateways.
//!
//! - `config`: how to reach it; `tls`: how to be sure that it is the one.
//! - `connection`: what must be in force on a connection; `schema`: the tables.
//! - `unit`: a transaction that writes; why all gateways take turns.
//! - `writer`: the thread that commits jobs in groups and settles commits whose answer was lost; `reader`: the rest.
//! - `enrolment`, `intent`, `held`, `certificate`, `revocation`, `mismatch`, `denial`, `outbox`, `ledger_row`: what is done to which table.

mod certificate;
mod config;
mod connection;
mod denial;
mod enrolment;
mod held;
mod intent;
mod ledger_row;
mod mismatch;
mod outbox;
mod reader;
mod revocation;
mod row;
mod schema;
mod tls;
mod unit;
mod writer;

pub use config::PostgresConfig;

use crate::clock::HighWater;
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
use connection::Link;
use enrolment::Settled;
use reader::Reader;
use scep_policy::Denials;
use scep_types::{
    CertificateFingerprint, ChallengeId, CrlDer, CsrInfoHash, LedgerId, NameHash, SerialNumber,
    SpkiHash, TenantId, Timestamp, TransactionId,
};
use std::sync::Arc;
use tls::Tls;
use tokio::sync::{mpsc, oneshot};
use unit::Instance;
use writer::{Work, Writer};

/// What the thread has found when it is ready.
struct Opened {
    id: LedgerId,
    instance: Instance,
    clock: Arc<HighWater>,
    quick: Reader,
    pages: Reader,
}

/// Opens or makes a ledger.
pub(crate) async fn open(
    config: PostgresConfig,
    settings: LedgerSettings,
) -> Result<Ledger, LedgerError> {
    let (jobs, queue) = mpsc::unbounded_channel();
    let (ready, opened) = oneshot::channel();
    // A runtime of its own: the last clone can wait for what is written wherever it is dropped, and the lease is renewed
    // however busy the gateway is.
    let thread = std::thread::Builder::new().name(String::from("ledger")).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            match start(config).await {
                Ok((work, opened)) => {
                    if ready.send(Ok(opened)).is_ok() {
                        work.serve(queue).await;
                    }
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        });
    });
    let thread = thread.map_err(|error| LedgerError::Connection {
        what: format!("its thread cannot be started: {}", error.kind()),
    })?;
    let writer = Writer::new(jobs, thread);
    let Opened { id, instance, clock, quick, pages } =
        opened.await.map_err(|_| LedgerError::Closed)??;
    let store =
        PostgresStore { quick, pages, writer, instance, settings, clock: Arc::clone(&clock) };
    Ok(Ledger::new(Arc::new(store), id, settings, clock))
}

async fn start(config: PostgresConfig) -> Result<(Work, Opened), LedgerError> {
    let tls = config.tls.as_ref().map(Tls::new).transpose()?;
    let config = Arc::new(config);
    let link = || Link::new(Arc::clone(&config), tls.clone());
    let mut first = link();
    let conn = first.connection().await?;
    schema::migrate(&conn, &config.schema).await?;
    let rows = conn.read("SELECT ledger_id, high_water, clock_epoch FROM ledger", &[]).await?;
    let ledger = rows.first().ok_or(LedgerError::Damaged { what: "ledger" })?;
    let id = row::octets(ledger, 0, "ledger.ledger_id").map(LedgerId::from_bytes)?;
    let clock = Arc::new(HighWater::new(row::time(ledger, 1, "ledger.high_water")?));
    let epoch = row::get(ledger, 2, "ledger.clock_epoch")?;
    let mut instance = [0; 16];
    getrandom::fill(&mut instance).map_err(|_| LedgerError::Randomness)?;
    let instance = Instance(instance);
    let mut work = Work::new(first, instance, &config, Arc::clone(&clock), id, epoch);
    work.sign_on().await?;
    let runtime = tokio::runtime::Handle::current();
    let quick = Reader::new(runtime.clone(), link());
    let pages = Reader::new(runtime, link());
    Ok((work, Opened { id, instance, clock, quick, pages }))
}

#[derive(Debug)]
struct PostgresStore {
    /// For what a device waits for.
    quick: Reader,
    /// For what may take longer.
    pages: Reader,
    writer: Writer,
    instance: Instance,
    settings: LedgerSettings,
    clock: Arc<HighWater>,
}

#[async_trait]
impl Store for PostgresStore {
    async fn flush(&self) -> Result<(), LedgerError> {
        self.writer.run(async |_| Ok(())).await
    }

    async fn reset_clock(&self, to: Timestamp, operator: String) -> Result<(), LedgerError> {
        let from = self.clock.seen();
        self.writer
            .run(async move |unit| ledger_row::reset_clock(unit, from, to, &operator).await)
            .await
    }

    async fn recall(&self, info: CsrInfoHash) -> Result<Option<Remembered>, LedgerError> {
        self.quick
            .ask(move |conn| Box::pin(async move { enrolment::recall(&conn, info).await }))
            .await
    }

    async fn admit(&self, intent: Intent, terms: Terms) -> Result<Admitted, LedgerError> {
        let settings = self.settings;
        self.writer
            .run(async move |unit| enrolment::admit(unit, &intent, &terms, &settings).await)
            .await
    }

    async fn hold(&self, hold: Hold) -> Result<Admitted, LedgerError> {
        let settings = self.settings;
        self.writer.run(async move |unit| held::hold(unit, &hold, &settings).await).await
    }

    async fn held(&self, limit: u32, after: Option<u64>) -> Result<Vec<HeldRequest>, LedgerError> {
        self.pages
            .ask(move |conn| Box::pin(async move { held::page(&conn, limit, after).await }))
            .await
    }

    async fn decide_held(
        &self,
        row: u64,
        verdict: HeldVerdict,
        person: String,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.writer
            .run(async move |unit| held::decide(unit, row, verdict, &person, now).await)
            .await
    }

    async fn asked_again(
        &self,
        info: CsrInfoHash,
        transaction: TransactionId,
        signer: SpkiHash,
    ) -> Result<(), LedgerError> {
        self.writer
            .run(async move |unit| held::asked_again(unit, info, &transaction, signer).await)
            .await
    }

    async fn poll(
        &self,
        transaction: TransactionId,
        signer: SpkiHash,
    ) -> Result<Option<Remembered>, LedgerError> {
        self.quick
            .ask(move |conn| {
                let transaction = transaction.clone();
                Box::pin(async move { enrolment::poll(&conn, &transaction, signer).await })
            })
            .await
    }

    async fn predecessor(
        &self,
        fingerprint: CertificateFingerprint,
    ) -> Result<Option<RememberedPredecessor>, LedgerError> {
        self.quick
            .ask(move |conn| {
                Box::pin(async move { certificate::predecessor(&conn, fingerprint).await })
            })
            .await
    }

    async fn certificate_by_serial(
        &self,
        issuer: NameHash,
        serial: SerialNumber,
    ) -> Result<Option<InventoryEntry>, LedgerError> {
        self.quick
            .ask(move |conn| {
                let serial = serial.clone();
                Box::pin(async move { certificate::by_serial(&conn, issuer, &serial).await })
            })
            .await
    }

    async fn settle(
        &self,
        attempt: Attempt,
        intent: Intent,
        settlement: Settlement,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let settled = self
            .writer
            .run(async move |unit| {
                enrolment::settle(unit, attempt, &intent, &settlement, now).await
            })
            .await?;
        match settled {
            Settled::Now => Ok(()),
            Settled::Before => Err(LedgerError::AlreadySettled),
        }
    }

    async fn unsettled(&self) -> Result<Vec<OpenIntent>, LedgerError> {
        self.writer.run(async |unit| intent::claim(unit).await).await
    }

    async fn count_mismatch(&self, mismatch: Mismatch, now: Timestamp) -> Result<u32, LedgerError> {
        let max = self.settings.max_mismatches;
        self.writer.run(async move |unit| mismatch::count(unit, &mismatch, max, now).await).await
    }

    async fn mismatches(
        &self,
        tenant: TenantId,
        challenge: ChallengeId,
    ) -> Result<Option<(u32, Timestamp)>, LedgerError> {
        self.quick
            .ask(move |conn| {
                let tenant = tenant.clone();
                Box::pin(async move { mismatch::read(&conn, &tenant, challenge).await })
            })
            .await
    }

    fn sent(
        &self,
        certificate: CertificateFingerprint,
        delivered: Delivery,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.writer
            .ride(async move |unit| certificate::sent(unit, certificate, delivered, now).await)
    }

    async fn certificate(
        &self,
        fingerprint: CertificateFingerprint,
    ) -> Result<Option<InventoryEntry>, LedgerError> {
        self.quick
            .ask(move |conn| {
                Box::pin(async move { certificate::by_fingerprint(&conn, fingerprint).await })
            })
            .await
    }

    async fn inventory(
        &self,
        limit: u32,
        before: Option<u64>,
    ) -> Result<Vec<InventoryEntry>, LedgerError> {
        self.pages
            .ask(move |conn| Box::pin(async move { certificate::page(&conn, limit, before).await }))
            .await
    }

    async fn mark_revoked(
        &self,
        certificate: CertificateFingerprint,
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.writer
            .run(async move |unit| certificate::revoke(unit, certificate, reason, now).await)
            .await
    }

    async fn deny(&self, subject: DenialSubject, now: Timestamp) -> Result<(), LedgerError> {
        self.writer.run(async move |unit| denial::deny(unit, &subject, now).await).await
    }

    async fn allow(&self, subject: DenialSubject) -> Result<(), LedgerError> {
        self.writer.run(async move |unit| denial::allow(unit, &subject).await).await
    }

    async fn denials(&self) -> Result<Denials, LedgerError> {
        self.quick.ask(move |conn| Box::pin(async move { denial::all(&conn).await })).await
    }

    async fn outbox(&self, after: u64, limit: u32) -> Result<Vec<OutboxEvent>, LedgerError> {
        self.pages
            .ask(move |conn| Box::pin(async move { outbox::page(&conn, after, limit).await }))
            .await
    }

    async fn acknowledge(&self, through: u64, now: Timestamp) -> Result<Acknowledged, LedgerError> {
        self.writer.run(async move |unit| outbox::acknowledge(unit, through, now).await).await
    }

    async fn counters(&self) -> Result<Counters, LedgerError> {
        self.pages.ask(move |conn| Box::pin(async move { ledger_row::counters(&conn).await })).await
    }

    async fn prune(&self, now: Timestamp) -> Result<Pruned, LedgerError> {
        let window = self.settings.retry_window;
        self.writer.run(async move |unit| enrolment::prune(unit, window, now).await).await
    }

    fn revocations(&self) -> Option<&dyn RevocationStore> {
        Some(self)
    }
}

/// How many entries of a CRL are read at once.
const CRL_PAGE: usize = 4_096;

#[async_trait]
impl RevocationStore for PostgresStore {
    async fn queue_revocation(
        &self,
        order: RevocationOrder,
        now: Timestamp,
    ) -> Result<QueueOutcome, LedgerError> {
        self.writer.run(async move |unit| revocation::queue(unit, &order, now).await).await
    }

    async fn revocation(
        &self,
        issuer: NameHash,
        serial: SerialNumber,
    ) -> Result<Option<RevocationState>, LedgerError> {
        self.pages
            .ask(move |conn| {
                let serial = serial.clone();
                Box::pin(async move { revocation::read(&conn, issuer, &serial).await })
            })
            .await
    }

    async fn certificate_status(
        &self,
        issuer: NameHash,
        serial: SerialNumber,
    ) -> Result<Option<CertificateStatus>, LedgerError> {
        self.pages
            .ask(move |conn| {
                let serial = serial.clone();
                Box::pin(async move { revocation::status(&conn, issuer, &serial).await })
            })
            .await
    }

    async fn revocation_work(&self, issuer: NameHash) -> Result<RevocationWork, LedgerError> {
        let instance = self.instance;
        self.pages
            .ask(move |conn| {
                Box::pin(async move { revocation::work(&conn, issuer, instance).await })
            })
            .await
    }

    async fn next_revocations(
        &self,
        issuer: NameHash,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<RevocationJob>, LedgerError> {
        let brake = self.settings.revocations;
        self.writer
            .run(async move |unit| revocation::next(unit, issuer, limit, brake, now).await)
            .await
    }

    async fn revocation_done(&self, row: i64, at: Timestamp) -> Result<(), LedgerError> {
        self.writer.run(async move |unit| revocation::done(unit, row, at).await).await
    }

    async fn revocation_failed(
        &self,
        row: i64,
        why: String,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        self.writer.run(async move |unit| revocation::failed(unit, row, &why, now).await).await
    }

    async fn confirm_revocations(
        &self,
        operator: String,
        now: Timestamp,
    ) -> Result<u64, LedgerError> {
        self.writer.run(async move |unit| revocation::confirm(unit, &operator, now).await).await
    }

    async fn crl_entries(
        &self,
        issuer: NameHash,
        after: i64,
    ) -> Result<(Vec<CrlEntry>, Option<i64>), LedgerError> {
        self.pages
            .ask(move |conn| {
                Box::pin(async move { revocation::entries(&conn, issuer, after, CRL_PAGE).await })
            })
            .await
    }

    async fn last_crl(&self, issuer: NameHash) -> Result<Option<Vec<u8>>, LedgerError> {
        self.pages
            .ask(move |conn| Box::pin(async move { revocation::last_crl(&conn, issuer).await }))
            .await
    }

    async fn record_crl(
        &self,
        issuer: NameHash,
        numbers: (Option<u64>, u64),
        crl: CrlDer,
        now: Timestamp,
    ) -> Result<u64, LedgerError> {
        self.writer
            .run(async move |unit| revocation::record_crl(unit, issuer, numbers, &crl, now).await)
            .await
    }
}
