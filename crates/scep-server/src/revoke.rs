//! Revocation: from the ledger's orders over the CA to a signed CRL, beside the enrolments and never in their way.

use crate::authority::Office;
use crate::gateway::Gateway;
use core::time::Duration;
use hyper::body::Bytes;
use scep_ca::{CaError, CrlOrder, Revocation};
use scep_ledger::{LedgerError, RevocationJob};
use scep_types::{CrlDer, NameHash, Timestamp};
use std::sync::{Arc, PoisonError, RwLock};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

/// How often the worker looks for orders.
const PERIOD: Duration = Duration::from_secs(1);
/// How long it waits after something has failed, or a CA's CRL does not show yet what it should.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many orders are at the CA at once.
const BATCH: u32 = 256;

/// Where the CRL is served, and for how long one is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlSettings {
    /// The path; it goes before every endpoint.
    pub path: String,
    /// From thisUpdate to nextUpdate. A new one is made at half of it.
    pub validity: Duration,
}

impl Default for CrlSettings {
    /// `/crl`, 7 days.
    fn default() -> Self {
        Self { path: "/crl".into(), validity: Duration::from_secs(7 * 86_400) }
    }
}

/// Why a round of revocations did not end. What was done before is on record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RevocationError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The CA cannot be asked now.
    #[error("CA: {0}")]
    Ca(#[from] CaError),
    /// The thread that signed was lost.
    #[error("the signing of the CRL was lost")]
    Lost,
}

/// What a round of revocations has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    /// Certificates that the CA has revoked.
    pub revoked: u64,
    /// Orders that the CA refuses.
    pub failed: u64,
    /// Orders fulfilled: a CRL shows them now.
    pub published: u64,
    /// Orders that the brake holds.
    pub held: u64,
    /// Revocations that no CRL shows yet, as far as is known.
    pub unpublished: u64,
}

impl Revocations {
    const fn add(&mut self, more: Self) {
        self.revoked = self.revoked.saturating_add(more.revoked);
        self.failed = self.failed.saturating_add(more.failed);
        self.published = self.published.saturating_add(more.published);
        self.held = self.held.saturating_add(more.held);
        self.unpublished = self.unpublished.saturating_add(more.unpublished);
    }
}

/// The CRL that is being served.
#[derive(Debug)]
pub(crate) struct Served {
    /// As the ledger counts.
    number: u64,
    pub(crate) der: Bytes,
    pub(crate) etag: String,
}

#[derive(Debug, Default)]
pub(crate) struct Shelf(RwLock<Option<Arc<Served>>>);

impl Shelf {
    pub(crate) fn get(&self) -> Option<Arc<Served>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, number: u64, crl: &CrlDer) {
        // A CRL's number is used once; its time tells those of a CA without numbers apart.
        let etag =
            format!("\"{}-{}\"", crl.number().unwrap_or_default(), crl.this_update().seconds());
        let served = Served { number, der: Bytes::copy_from_slice(crl.as_der()), etag };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(served));
    }
}

impl Gateway {
    /// One round: asks the CA for what is ordered, records what it says, and makes a new CRL when entries have
    /// changed or half of the last one's validity is over. Does nothing where the CA does not revoke.
    ///
    /// Every step is durable before the next one, and each can be repeated: what a crash leaves, the next round ends.
    /// A CRL is on record before anybody can get it.
    ///
    /// # Errors
    /// When the ledger fails, or the CA cannot be asked now.
    pub async fn revoke_pending(&self) -> Result<Revocations, RevocationError> {
        let mut done = Revocations::default();
        let mut first = None;
        for office in &self.inner.offices {
            match self.revoke_pending_at(office).await {
                Ok(more) => done.add(more),
                // One CA that is away keeps nobody from another's revocations.
                Err(error @ RevocationError::Ca(_)) => drop(first.get_or_insert(error)),
                Err(error) => return Err(error),
            }
        }
        first.map_or(Ok(done), Err)
    }

    async fn revoke_pending_at(&self, office: &Office) -> Result<Revocations, RevocationError> {
        let mut done = Revocations::default();
        let Some(issuer) = office.issuer().filter(|_| office.revokes()) else { return Ok(done) };
        let parts = &self.inner.parts;
        let now = parts.ledger.effective_now(parts.clock.now()).await?.now;
        let mut unreachable = None;
        loop {
            let work = parts.ledger.revocation_work(issuer).await?;
            self.show_last_crl(office, issuer, work.last_crl).await?;
            if work.waiting == 0 || unreachable.is_some() {
                break;
            }
            let jobs = parts.ledger.next_revocations(issuer, BATCH, now).await?;
            if jobs.is_empty() {
                break;
            }
            for job in jobs {
                match self.revoke(office, &job, now, &mut done).await {
                    // The others may be had, and what is revoked already must be shown.
                    Err(RevocationError::Ca(error)) => unreachable = Some(error),
                    other => other?,
                }
            }
        }
        let work = parts.ledger.revocation_work(issuer).await?;
        (done.held, done.unpublished) = (work.held, work.unpublished);
        let half = office.crl.validity / 2;
        let due = work.last_crl.is_none_or(|(_, at)| now.since(at) >= half);
        if due || work.unpublished > 0 {
            let published =
                self.publish(office, issuer, work.last_crl.map(|(n, _)| n), now).await?;
            done.published = published.unwrap_or(0);
            done.unpublished =
                published.map_or(0, |published| done.unpublished.saturating_sub(published));
        }
        unreachable.map_or(Ok(done), |error| Err(error.into()))
    }

    async fn revoke(
        &self,
        office: &Office,
        job: &RevocationJob,
        now: Timestamp,
        done: &mut Revocations,
    ) -> Result<(), RevocationError> {
        let parts = &self.inner.parts;
        let what = Revocation { serial: &job.serial, reason: job.reason, now };
        match office.ca.revoke(&what).await {
            Ok(revoked) => {
                parts.ledger.revocation_done(job, revoked.at, now).await?;
                done.revoked = done.revoked.saturating_add(1);
                tracing::info!(target: "scep", serial = %job.serial, reason = %job.reason, "revoked");
            }
            Err(error @ CaError::Unavailable { .. }) => return Err(error.into()),
            Err(error) => {
                parts.ledger.revocation_failed(job, &error.to_string(), now).await?;
                done.failed = done.failed.saturating_add(1);
                tracing::error!(target: "scep", serial = %job.serial, %error, "not revoked");
            }
        }
        Ok(())
    }

    /// Makes, records and shows a CRL. `None`: another gateway of the group was faster, and the next round sees what its
    /// CRL lacks.
    async fn publish(
        &self,
        office: &Office,
        issuer: NameHash,
        last: Option<u64>,
        now: Timestamp,
    ) -> Result<Option<u64>, RevocationError> {
        let parts = &self.inner.parts;
        let entries = parts.ledger.crl_entries(issuer).await?;
        // Never below the time: a ledger restored from a backup has forgotten numbers that were used.
        let number = last
            .map_or(0, |last| last.saturating_add(1))
            .max(u64::try_from(now.seconds()).unwrap_or(0));
        let (ca, validity) = (Arc::clone(&office.ca), office.crl.validity);
        let runtime = tokio::runtime::Handle::current();
        // A long list takes its time to sort and sign, on a thread that nobody else waits for.
        let crl = tokio::task::spawn_blocking(move || {
            let order = CrlOrder::new(&entries, number, now, validity);
            runtime.block_on(ca.crl(&order))
        })
        .await
        .map_err(|_| RevocationError::Lost)??;
        match parts.ledger.record_crl(issuer, last, number, &crl, now).await {
            Ok(published) => {
                office.shelf.put(number, &crl);
                tracing::info!(target: "scep", number, published, "new CRL");
                Ok(Some(published))
            }
            Err(LedgerError::CrlOvertaken { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Shows the last CRL on record, if it is not shown already: of an earlier run, or of another gateway of the group.
    async fn show_last_crl(
        &self,
        office: &Office,
        issuer: NameHash,
        last: Option<(u64, Timestamp)>,
    ) -> Result<(), LedgerError> {
        let Some((number, _)) = last else { return Ok(()) };
        if office.shelf.get().is_some_and(|shown| shown.number == number) {
            return Ok(());
        }
        if let Some(crl) = self.inner.parts.ledger.last_crl(issuer).await? {
            office.shelf.put(number, &crl);
        }
        Ok(())
    }

    /// Rounds until `stop`; a round that has begun is finished.
    pub(crate) fn spawn_revocations(&self, stop: CancellationToken) -> tokio::task::JoinHandle<()> {
        let gateway = self.clone();
        tokio::spawn(async move {
            if !gateway.inner.offices.iter().any(|office| office.revokes()) {
                return;
            }
            let mut held = 0;
            while !stop.is_cancelled() {
                let pause = match gateway.revoke_pending().await {
                    Ok(done) => {
                        if done.held > held {
                            tracing::error!(
                                target: "scep", held = done.held,
                                "the brake on mass revocation holds until an operator confirms"
                            );
                        }
                        held = done.held;
                        if done.unpublished > 0 { PATIENCE } else { PERIOD }
                    }
                    // Another store keeps them elsewhere.
                    Err(RevocationError::Ledger(LedgerError::NoRevocations)) => return,
                    Err(error) => {
                        tracing::error!(target: "scep", %error, "revocation");
                        PATIENCE
                    }
                };
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        })
    }
}
