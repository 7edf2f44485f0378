//! The thread that works for the ledger: it commits jobs in groups, renews the lease, and keeps the connections alive.

use super::config::PostgresConfig;
use super::connection::{Connection, Link, engine};
use super::row::{get, octets};
use super::unit::{Certainty, Instance, Lease, Lost, Unit};
use crate::LedgerError;
use crate::clock::HighWater;
use core::fmt;
use core::pin::Pin;
use core::time::Duration;
use scep_types::LedgerId;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The most jobs in one commit. The server remembers 64 savepoints per transaction cheaply.
const MAX_GROUP: usize = 60;
/// How long jobs that nobody waits for may wait for a commit to ride on.
const RIDE: Duration = Duration::from_millis(250);
/// For how long after the connection was lost jobs wait for a new one; from then on they fail at once.
const OUTAGE: Duration = Duration::from_secs(10);
/// How long a unit may take. A server that is silent for longer is given up, and the unit is settled on a new connection.
const UNIT: Duration = Duration::from_secs(20);
/// For how long a commit whose answer was lost is looked up before its jobs fail.
const PROOF: Duration = Duration::from_secs(30);
/// How often a unit is begun anew that is known not to have been committed.
const ATTEMPTS: u32 = 3;

type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Something to be done in a unit.
pub(super) trait Job: Send {
    /// Whether somebody waits for its commit.
    fn is_awaited(&self) -> bool;
    /// Does it; again, if the unit is begun anew.
    fn apply<'a>(&'a mut self, unit: &'a mut Unit) -> Local<'a, Result<(), LedgerError>>;
    /// Tells what came of it, once it is known whether that is durable.
    fn answer(self: Box<Self>, committed: Result<(), LedgerError>);
}

struct Asked<W, T> {
    work: W,
    found: Option<Result<T, LedgerError>>,
    answer: oneshot::Sender<Result<T, LedgerError>>,
}

impl<W, T> Job for Asked<W, T>
where
    W: AsyncFn(&mut Unit) -> Result<T, LedgerError> + Send,
    T: Send,
{
    fn is_awaited(&self) -> bool {
        true
    }

    fn apply<'a>(&'a mut self, unit: &'a mut Unit) -> Local<'a, Result<(), LedgerError>> {
        Box::pin(async move {
            let found = (self.work)(unit).await;
            let outcome = found.as_ref().map(|_| ()).map_err(Clone::clone);
            self.found = Some(found);
            outcome
        })
    }

    fn answer(self: Box<Self>, committed: Result<(), LedgerError>) {
        let found = self.found.unwrap_or(Err(LedgerError::Closed));
        // Whoever asked may be gone; what is done is done.
        let _ = self.answer.send(committed.and(found));
    }
}

struct Riding<W>(W, Result<(), LedgerError>);

impl<W> Job for Riding<W>
where
    W: AsyncFn(&mut Unit) -> Result<(), LedgerError> + Send,
{
    fn is_awaited(&self) -> bool {
        false
    }

    fn apply<'a>(&'a mut self, unit: &'a mut Unit) -> Local<'a, Result<(), LedgerError>> {
        Box::pin(async move {
            self.1 = (self.0)(unit).await;
            self.1.clone()
        })
    }

    fn answer(self: Box<Self>, committed: Result<(), LedgerError>) {
        if let Err(error) = committed.and(self.1) {
            tracing::warn!(%error, "it was not recorded whether a reply got out");
        }
    }
}

type Group = Vec<Box<dyn Job>>;

/// Hands jobs over to the thread.
pub(super) struct Writer {
    jobs: Option<UnboundedSender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

impl Writer {
    pub(super) const fn new(jobs: UnboundedSender<Box<dyn Job>>, thread: JoinHandle<()>) -> Self {
        Self { jobs: Some(jobs), thread: Some(thread) }
    }

    fn hand_over(&self, job: Box<dyn Job>) -> Result<(), LedgerError> {
        let jobs = self.jobs.as_ref().ok_or(LedgerError::Closed)?;
        jobs.send(job).map_err(|_| LedgerError::Closed)
    }

    /// Runs the work in a unit and answers once that is durable. Work that fails undoes itself and nothing else. It may
    /// run more than once, of which one counts.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl AsyncFn(&mut Unit) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (answer, answered) = oneshot::channel();
        self.hand_over(Box::new(Asked { work, found: None, answer }))?;
        answered.await.map_err(|_| LedgerError::Closed)?
    }

    /// Runs the work with the next unit. Nobody learns when that was.
    pub(super) fn ride(
        &self,
        work: impl AsyncFn(&mut Unit) -> Result<(), LedgerError> + Send + 'static,
    ) -> Result<(), LedgerError> {
        self.hand_over(Box::new(Riding(work, Err(LedgerError::Closed))))
    }
}

impl Drop for Writer {
    /// Everything handed over is committed before this returns, unless the server is away.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the ledger's thread has panicked");
        }
    }
}

/// What became of a unit.
enum Fate {
    Committed,
    /// It was proven on another connection. Of the admissions in it, those of these rows are still this gateway's.
    Proven(Vec<i64>),
}

/// The thread's state.
pub(super) struct Work {
    link: Link,
    instance: Instance,
    lease: Duration,
    clock: Arc<HighWater>,
    ledger_id: LedgerId,
    /// The mark's epoch that the clock's memory is of.
    clock_epoch: i64,
    /// The number of the latest unit that was tried.
    group: i64,
    down_since: Option<Instant>,
}

impl Work {
    pub(super) fn new(
        link: Link,
        instance: Instance,
        config: &PostgresConfig,
        clock: Arc<HighWater>,
        ledger_id: LedgerId,
        clock_epoch: i64,
    ) -> Self {
        Self {
            link,
            instance,
            lease: config.lease,
            clock,
            ledger_id,
            clock_epoch,
            group: 0,
            down_since: None,
        }
    }

    /// Takes its place among the gateways that share the ledger.
    pub(super) async fn sign_on(&mut self) -> Result<(), LedgerError> {
        self.commit(Vec::new(), Lease::Renew).await
    }

    /// Works until nobody can hand anything over any more.
    pub(super) async fn serve(mut self, mut queue: UnboundedReceiver<Box<dyn Job>>) {
        // Two beats may be lost.
        let beat = self.lease.checked_div(4).unwrap_or(self.lease);
        loop {
            match tokio::time::timeout(beat, queue.recv()).await {
                Ok(Some(first)) => {
                    let group = gather(first, &mut queue).await;
                    // Each job has learnt it.
                    let _ = self.commit(group, Lease::Renew).await;
                }
                Ok(None) => break,
                Err(_) => {
                    if let Err(error) = self.commit(Vec::new(), Lease::Renew).await {
                        tracing::error!(%error, "the ledger's lease was not renewed");
                    }
                }
            }
        }
        if let Err(error) = self.commit(Vec::new(), Lease::GiveUp).await {
            tracing::warn!(%error, "the ledger's lease runs on after its end");
        }
    }

    /// One unit for the whole group; then everybody is answered.
    async fn commit(&mut self, mut group: Group, then: Lease) -> Result<(), LedgerError> {
        let mut admitted = vec![None; group.len()];
        let fate = self.try_commit(&mut group, &mut admitted, then).await;
        for (job, admitted) in group.into_iter().zip(admitted) {
            job.answer(match (&fate, admitted) {
                (Ok(Fate::Proven(rows)), Some(row)) if !rows.contains(&row) => {
                    // Others have settled it while nobody heard from us.
                    Err(LedgerError::AlreadySettled)
                }
                (Ok(_), _) => Ok(()),
                (Err(error), _) => Err(error.clone()),
            });
        }
        fate.map(drop)
    }

    async fn try_commit(
        &mut self,
        group: &mut Group,
        admitted: &mut [Option<i64>],
        then: Lease,
    ) -> Result<Fate, LedgerError> {
        let mut attempt: u32 = 1;
        loop {
            let conn = self.connection().await?;
            // A number is not used again, so that it proves one unit.
            self.group = self.group.saturating_add(1);
            let error = match self.run(&conn, group, admitted, then).await {
                Ok(()) => return Ok(Fate::Committed),
                Err(Lost { error, certainty: Certainty::Undone }) => error,
                Err(Lost { error, certainty: Certainty::Unknown }) => {
                    self.link.cut();
                    drop(conn);
                    tracing::warn!(%error, "it is unknown whether a commit got through");
                    if let Some(fate) = self.prove(admitted).await? {
                        tracing::warn!("the commit had got through");
                        return Ok(fate);
                    }
                    error
                }
            };
            // The surest rollback.
            self.link.cut();
            if attempt >= ATTEMPTS || !matches!(error, LedgerError::Engine { .. }) {
                return Err(error);
            }
            attempt = attempt.saturating_add(1);
        }
    }

    /// One attempt, which ends in time.
    async fn run(
        &mut self,
        conn: &Arc<Connection>,
        group: &mut Group,
        admitted: &mut [Option<i64>],
        then: Lease,
    ) -> Result<(), Lost> {
        let undone = |error| Lost { error, certainty: Certainty::Undone };
        let silent = |_| LedgerError::Engine {
            action: "wait for the server",
            source: crate::EngineError { code: None, message: String::from("no answer in time") },
        };
        let end = Instant::now().checked_add(UNIT).unwrap_or_else(Instant::now);
        let work = self.work(conn, group, admitted);
        let unit = tokio::time::timeout_at(end, work).await;
        let unit = match unit.map_err(silent) {
            Ok(unit) => unit.map_err(undone)?,
            Err(error) => {
                // Nothing was committed, and nothing can be once the connection is gone.
                self.link.cut();
                return Err(undone(error));
            }
        };
        let commit = unit.commit(self.group, self.lease, then);
        let row = tokio::time::timeout_at(end, commit)
            .await
            .map_err(|late| Lost { error: silent(late), certainty: Certainty::Unknown })??;
        self.note(row.high_water, row.clock_epoch);
        Ok(())
    }

    async fn work(
        &mut self,
        conn: &Arc<Connection>,
        group: &mut Group,
        admitted: &mut [Option<i64>],
    ) -> Result<Unit, LedgerError> {
        let mut unit = Unit::begin(Arc::clone(conn), self.instance).await?;
        self.check(unit.row.ledger_id)?;
        if unit.row.clock_epoch == self.clock_epoch {
            unit.row.high_water = unit.row.high_water.max(self.clock.seen());
        } else {
            // An operator has mended the mark through another gateway.
            self.note(unit.row.high_water, unit.row.clock_epoch);
        }
        for (job, admitted) in group.iter_mut().zip(admitted) {
            let savepoint = unit.savepoint();
            match job.apply(&mut unit).await {
                Ok(()) => *admitted = unit.admitted,
                Err(_) => {
                    *admitted = None;
                    unit.undo(&savepoint).await?;
                }
            }
        }
        unit.finish().await?;
        Ok(unit)
    }

    /// What is behind the connection may have been exchanged for something else.
    fn check(&self, found: LedgerId) -> Result<(), LedgerError> {
        if found == self.ledger_id {
            Ok(())
        } else {
            Err(LedgerError::Damaged { what: "ledger.ledger_id is another" })
        }
    }

    /// Brings the clock's memory up to what is durable.
    fn note(&mut self, mark: scep_types::Timestamp, epoch: i64) {
        if epoch == self.clock_epoch {
            self.clock.see(mark);
            self.clock.persisted(mark);
        } else {
            self.clock.reset(mark);
            self.clock_epoch = epoch;
        }
    }

    /// A connection, waited for during an outage's first seconds.
    async fn connection(&mut self) -> Result<Arc<Connection>, LedgerError> {
        let patience = Instant::now().checked_add(OUTAGE).unwrap_or_else(Instant::now);
        let since = *self.down_since.get_or_insert(patience);
        loop {
            match self.link.connection().await {
                Ok(connection) => {
                    self.down_since = None;
                    return Ok(connection);
                }
                // A setting that is wrong does not mend itself.
                Err(error @ LedgerError::Setting { .. }) => return Err(error),
                Err(error) if Instant::now() >= since => return Err(error),
                Err(_) => self.link.pause().await,
            }
        }
    }

    /// Finds out what became of the latest unit after its commit's answer was lost; `None` when it was not committed.
    ///
    /// The lock tells: the lost connection's transaction holds it until it has ended one way or the other, which the
    /// server sees to within seconds. Whoever has the lock then reads the number of this gateway's latest committed
    /// unit, which was written by that unit itself, and nobody can commit it any more.
    async fn prove(&mut self, admitted: &[Option<i64>]) -> Result<Option<Fate>, LedgerError> {
        let end = Instant::now().checked_add(PROOF).unwrap_or_else(Instant::now);
        loop {
            let tried = match self.link.connection().await {
                Ok(conn) => tokio::time::timeout_at(end, self.read_back(&conn, admitted)).await,
                Err(error) => Ok(Err(error)),
            };
            let error = match tried {
                Ok(Ok(fate)) => return Ok(fate),
                Ok(Err(error)) => error,
                Err(_) => LedgerError::Engine {
                    action: "find out whether a commit got through",
                    source: crate::EngineError {
                        code: None,
                        message: String::from("no answer in time"),
                    },
                },
            };
            if Instant::now() >= end {
                self.link.cut();
                return Err(error);
            }
            tracing::warn!(%error, "whether a commit got through is not known yet");
            self.link.cut();
            self.link.pause().await;
        }
    }

    async fn read_back(
        &self,
        conn: &Connection,
        admitted: &[Option<i64>],
    ) -> Result<Option<Fate>, LedgerError> {
        let failed = engine("find out whether a commit got through");
        conn.client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await.map_err(&failed)?;
        let locked = conn.read("SELECT ledger_id FROM ledger FOR UPDATE", &[]).await?;
        let locked = locked.first().ok_or(LedgerError::Damaged { what: "ledger" })?;
        self.check(octets(locked, 0, "ledger.ledger_id").map(LedgerId::from_bytes)?)?;
        let instance = self.instance.octets();
        #[allow(clippy::cast_precision_loss, reason = "a lease is at most a day")]
        let lease = self.lease.as_millis() as f64;
        // With the lease renewed under the lock, what is still this gateway's stays so.
        let latest = conn
            .read(
                "UPDATE gateway SET lease_until = clock_timestamp() + $2 * interval '1 millisecond' \
                 WHERE instance = $1 RETURNING last_group",
                &[&instance, &lease],
            )
            .await?;
        let latest = latest.first().map(|row| get::<i64>(row, 0, "gateway.last_group"));
        let committed = latest.transpose()? == Some(self.group);
        let rows: Vec<i64> = admitted.iter().flatten().copied().collect();
        let held = conn
            .read(
                "SELECT id FROM enrolment WHERE id = ANY ($1) AND owner = $2 AND state = 0",
                &[&rows, &instance],
            )
            .await?;
        let held = held.iter().map(|row| get(row, 0, "enrolment.id")).collect::<Result<_, _>>()?;
        conn.client.batch_execute("COMMIT").await.map_err(&failed)?;
        Ok(committed.then_some(Fate::Proven(held)))
    }
}

async fn gather(
    first: Box<dyn Job>,
    queue: &mut UnboundedReceiver<Box<dyn Job>>,
) -> Vec<Box<dyn Job>> {
    let mut awaited = first.is_awaited();
    let mut group = vec![first];
    while group.len() < MAX_GROUP {
        let next = match queue.try_recv() {
            Ok(job) => job,
            Err(_) if awaited => break,
            // At the end of the queue's life this returns at once.
            Err(_) => match tokio::time::timeout(RIDE, queue.recv()).await {
                Ok(Some(job)) => job,
                Ok(None) | Err(_) => break,
            },
        };
        awaited |= next.is_awaited();
        group.push(next);
    }
    group
}
