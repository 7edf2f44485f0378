//! The issuer's database on a PostgreSQL server, which several issuers may share.
//!
//! - `config`: how to reach it; `tls`: how to be sure that it is the one
//! - `connection`: what must be in force on a connection, and how a lost one is made again
//! - `schema`: the tables; `dialect`: SQLite's words in PostgreSQL's; `value`: values and columns
//! - `transaction`: a unit of work
//!
//! One thread writes and two read, each with a runtime and a connection of its own, so that work is written as for
//! SQLite: without waiting. A transaction that writes begins by locking the one row of `issuer_schema`, in every issuer.
//! So they happen one after the other, and at READ COMMITTED each sees all that was committed before it: a decision is
//! as good as if there were one issuer. What reads sees one state of the database and waits for nobody.

mod config;
mod connection;
mod dialect;
mod schema;
mod tls;
mod transaction;
mod value;

#[cfg(test)]
mod tests;

pub use config::PostgresConfig;
pub(super) use transaction::Transaction;

use crate::service::db::Tx;
use crate::service::store::{QUEUE, StoreError};
use connection::{Connection, Link, failed, silent};
use core::time::Duration;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use tls::Tls;
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use transaction::Mode;

/// How long a transaction may take.
const UNIT: Duration = Duration::from_secs(30);
const READERS: usize = 2;

type Job = Box<dyn FnOnce(&mut Session) + Send>;
type Ready = oneshot::Sender<Result<(), StoreError>>;
type Queue = Arc<Mutex<mpsc::Receiver<Job>>>;

/// The threads, as seen by those who ask.
pub(super) struct Database {
    writes: mpsc::Sender<Job>,
    reads: mpsc::Sender<Job>,
}

impl Database {
    /// Brings the schema up to date and starts the threads.
    pub(super) async fn open(
        config: PostgresConfig,
        migrations: &'static [&'static str],
    ) -> Result<Self, StoreError> {
        let tls = config.tls.as_ref().map(Tls::new).transpose()?;
        let config = Arc::new(config);
        let known = schema::number(migrations.len());
        let start = |name: &str, queue: Queue, migrations, ready: Ready| {
            let (config, tls) = (Arc::clone(&config), tls.clone());
            let work = move || match Session::new(config, tls, known) {
                Ok(mut session) => {
                    let prepared = session.prepare(migrations);
                    let goes_on = prepared.is_ok();
                    if ready.send(prepared).is_ok() && goes_on {
                        session.serve(&queue);
                    }
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            };
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
            thread.map(drop).map_err(|error| StoreError::Thread(error.kind()))
        };
        let (writes, queue) = mpsc::channel(QUEUE);
        let (ready, prepared) = oneshot::channel();
        start("issuer-writer", Arc::new(Mutex::new(queue)), Some(migrations), ready)?;
        prepared.await.map_err(|_| StoreError::Closed)??;
        let (reads, queue) = mpsc::channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..READERS {
            let (ready, prepared) = oneshot::channel();
            start("issuer-reader", Arc::clone(&queue), None, ready)?;
            prepared.await.map_err(|_| StoreError::Closed)??;
        }
        Ok(Self { writes, reads })
    }

    pub(super) async fn write<T, E>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        run(&self.writes, Mode::Write, work).await
    }

    pub(super) async fn read<T, E>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        run(&self.reads, Mode::Read, work).await
    }
}

async fn run<T, E>(
    queue: &mpsc::Sender<Job>,
    mode: Mode,
    work: impl FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    let (answer, answered) = oneshot::channel();
    let job: Job = Box::new(move |session| {
        // Whoever asked may be gone; what is done is done.
        let _ = answer.send(session.transact(mode, work));
    });
    queue.try_send(job).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
        mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
    })?;
    answered.await.map_err(|_| StoreError::Closed)?
}

/// A thread's state.
struct Session {
    config: Arc<PostgresConfig>,
    link: Link,
    /// The schema's version that this release knows.
    known: i64,
    runtime: Runtime,
}

impl Session {
    fn new(config: Arc<PostgresConfig>, tls: Option<Tls>, known: i64) -> Result<Self, StoreError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error: io::Error| StoreError::Thread(error.kind()))?;
        let link = Link::new(Arc::clone(&config), tls);
        Ok(Self { config, link, known, runtime })
    }

    /// The first connection, and the schema on it.
    fn prepare(&mut self, migrations: Option<&[&str]>) -> Result<(), StoreError> {
        let Self { config, link, runtime, .. } = self;
        runtime.block_on(async {
            let conn = link.connection().await?;
            let Some(migrations) = migrations else { return Ok(()) };
            let migrated = tokio::time::timeout(UNIT, async {
                schema::migrate(&conn, &config.schema, migrations).await
            });
            migrated.await.unwrap_or_else(|_| Err(silent()))
        })
    }

    /// Works until nobody can ask any more.
    fn serve(&mut self, queue: &Mutex<mpsc::Receiver<Job>>) {
        // While this waits, the runtime notices that a connection has ended.
        let next = || async { queue.lock().await.recv().await };
        while let Some(job) = self.runtime.block_on(next()) {
            job(self);
        }
    }

    /// One transaction: committed when the work succeeds, undone when it does not.
    fn transact<T, E: From<StoreError>>(
        &mut self,
        mode: Mode,
        work: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let (conn, end) = self.begin(mode)?;
        let transaction = Transaction::new(&self.runtime, &conn, mode, end);
        let worked = work(&Tx::postgres(&transaction));
        let ended = match &worked {
            Ok(_) => transaction.commit(),
            Err(_) => transaction.roll_back(),
        };
        if ended.is_err() {
            // The surest rollback.
            self.link.cut();
        }
        // An error of the work's own says more.
        let value = worked?;
        ended?;
        Ok(value)
    }

    /// Begins one; once more on a new connection when the old one turns out to be lost, as nothing was done yet.
    fn begin(&mut self, mode: Mode) -> Result<(Rc<Connection>, Instant), StoreError> {
        let Self { link, runtime, known, .. } = self;
        runtime.block_on(async {
            let mut again = true;
            loop {
                let conn = link.wait().await?;
                let now = Instant::now();
                let end = now.checked_add(UNIT).unwrap_or(now);
                let begun = timeout_at(end, begin(&conn, mode, *known)).await;
                let error = match begun.unwrap_or_else(|_| Err(silent())) {
                    Ok(()) => return Ok((conn, end)),
                    Err(error) => error,
                };
                link.cut();
                if !again || !matches!(error, StoreError::Away { .. }) {
                    return Err(error);
                }
                again = false;
            }
        })
    }
}

async fn begin(conn: &Connection, mode: Mode, known: i64) -> Result<(), StoreError> {
    const LOCK: &str = "SELECT version FROM issuer_schema FOR UPDATE";
    let all = |error: tokio_postgres::Error| failed(&error);
    let client = &conn.client;
    if mode == Mode::Read {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        return client.batch_execute(begin).await.map_err(all);
    }
    let lock = conn.prepared(LOCK, &[]).await.map_err(all)?;
    let begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
    // In the order in which they are first polled, both go out at once.
    let (begun, locked) = tokio::join!(client.batch_execute(begin), client.query(&lock, &[]));
    begun.map_err(all)?;
    let rows = locked.map_err(all)?;
    let found: i64 = match rows.first() {
        Some(row) => row.try_get(0).map_err(all)?,
        None => 0,
    };
    // Another release has brought it up to date meanwhile.
    if found == known {
        Ok(())
    } else {
        let count = |number: i64| usize::try_from(number).unwrap_or_default();
        Err(StoreError::Newer { found: count(found), known: count(known) })
    }
}
