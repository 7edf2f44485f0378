//! One thread that writes, with group commit, and a few that read.

use super::{Tally, engine};
use crate::LedgerError;
use crate::clock::HighWater;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use rusqlite::{Connection, ErrorCode};
use scep_types::Timestamp;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// The most jobs in one commit: bounds the time that the first of them waits.
const MAX_GROUP: usize = 256;
/// How long jobs that nobody waits for may wait for a commit to ride on.
const PATIENCE: Duration = Duration::from_millis(250);

/// What a job did, and what to do once it is known whether that is durable.
pub(super) enum Applied {
    Done(After),
    Failed(After, LedgerError),
}

type After = Box<dyn FnOnce(Result<(), LedgerError>) + Send>;
/// Given the cause instead of a connection when its commit is lost before its turn.
type Work = Box<dyn FnOnce(Result<(&Connection, &mut Tally), LedgerError>) -> Applied + Send>;

enum Job {
    /// Somebody waits for its commit.
    Awaited(Work),
    /// It rides on the next commit.
    Riding(Work),
}

/// The thread that writes.
pub(super) struct Writer {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

impl Writer {
    pub(super) fn start(conn: Connection, clock: Arc<HighWater>) -> io::Result<Self> {
        let (jobs, queue) = channel();
        let thread = std::thread::Builder::new()
            .name(String::from("ledger-writer"))
            .spawn(move || write(&conn, &queue, &clock))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    fn hand_over(&self, job: Job) -> Result<(), LedgerError> {
        let jobs = self.jobs.as_ref().ok_or(LedgerError::Closed)?;
        jobs.send(job).map_err(|_| LedgerError::Closed)
    }

    /// Runs the work in a commit of the group's and answers once that is durable. Work that fails undoes itself and
    /// nothing else. `and_then` runs on the writer's thread, before any later job.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &mut Tally) -> Result<T, LedgerError> + Send + 'static,
        and_then: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (answer, answered) = oneshot::channel();
        self.hand_over(Job::Awaited(Box::new(move |turn| {
            match turn.and_then(|(conn, tally)| work(conn, tally)) {
                Ok(value) => Applied::Done(Box::new(move |committed| {
                    if committed.is_ok() {
                        and_then(&value);
                    }
                    // Whoever asked may be gone; what is done is done.
                    let _ = answer.send(committed.map(|()| value));
                })),
                Err(error) => {
                    let cause = error.clone();
                    Applied::Failed(
                        Box::new(move |committed| {
                            let _ = answer.send(committed.and(Err(error)));
                        }),
                        cause,
                    )
                }
            }
        })))?;
        answered.await.map_err(|_| LedgerError::Closed)?
    }

    /// Runs the work with the next commit. Nobody learns when that was.
    pub(super) fn ride(
        &self,
        work: impl FnOnce(&Connection, &mut Tally) -> Result<(), LedgerError> + Send + 'static,
    ) -> Result<(), LedgerError> {
        self.hand_over(Job::Riding(Box::new(move |turn| {
            match turn.and_then(|(conn, tally)| work(conn, tally)) {
                Ok(()) => Applied::Done(Box::new(log_loss)),
                Err(error) => {
                    let cause = error.clone();
                    Applied::Failed(
                        Box::new(move |committed| log_loss(committed.and(Err(error)))),
                        cause,
                    )
                }
            }
        })))
    }
}

fn log_loss(committed: Result<(), LedgerError>) {
    if let Err(error) = committed {
        tracing::warn!(%error, "it was not recorded whether a reply got out");
    }
}

impl Drop for Writer {
    /// Everything handed over is committed before this returns.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the ledger's writer has panicked");
        }
    }
}

fn write(conn: &Connection, queue: &Receiver<Job>, clock: &HighWater) {
    while let Ok(first) = queue.recv() {
        let group = gather(first, queue);
        if let Err(error) = commit(conn, group, clock) {
            // What reached the disk is not known any more; the next start will see.
            tracing::error!(%error, "a commit failed; the ledger accepts nothing until it is opened anew");
            return;
        }
    }
}

fn gather(first: Job, queue: &Receiver<Job>) -> Vec<Work> {
    let mut awaited = false;
    let mut group = Vec::new();
    let mut next = first;
    loop {
        match next {
            Job::Awaited(work) => {
                awaited = true;
                group.push(work);
            }
            Job::Riding(work) => group.push(work),
        }
        if group.len() >= MAX_GROUP {
            break;
        }
        next = match queue.try_recv() {
            Ok(job) => job,
            Err(_) if awaited => break,
            // At the end of the queue's life this returns at once.
            Err(_) => match queue.recv_timeout(PATIENCE) {
                Ok(job) => job,
                Err(_) => break,
            },
        };
    }
    group
}

/// One commit for the whole group, each job in a savepoint of its own; then everybody is answered.
///
/// An error means that it is not known what reached the disk.
fn commit(conn: &Connection, group: Vec<Work>, clock: &HighWater) -> Result<(), LedgerError> {
    let mut after = Vec::with_capacity(group.len());
    let mark = clock.seen();
    let outcome = match apply(conn, group, (mark > clock.durable()).then_some(mark), &mut after) {
        Ok(()) => {
            clock.persisted(mark);
            Ok(())
        }
        Err(lost) => {
            let undone = conn.is_autocommit() || run_cached(conn, "ROLLBACK").is_ok();
            Err((lost.error, if undone { lost.certainty } else { Certainty::Uncertain }))
        }
    };
    let told = match &outcome {
        Ok(()) => Ok(()),
        Err((error, _)) => Err(error.clone()),
    };
    for answer in after {
        answer(told.clone());
    }
    match outcome {
        Err((error, Certainty::Uncertain)) => Err(error),
        Ok(()) | Err((_, Certainty::Undone)) => Ok(()),
    }
}

#[derive(Clone, Copy)]
enum Certainty {
    /// Nothing of the group was written.
    Undone,
    /// It may come back after a restart: the log may hold a commit whose sync failed.
    Uncertain,
}

struct Lost {
    error: LedgerError,
    certainty: Certainty,
}

impl From<rusqlite::Error> for Lost {
    fn from(error: rusqlite::Error) -> Self {
        Self { error: engine("write")(error), certainty: Certainty::Undone }
    }
}

fn apply(
    conn: &Connection,
    group: Vec<Work>,
    mark: Option<Timestamp>,
    after: &mut Vec<After>,
) -> Result<(), Lost> {
    let mut group = group.into_iter();
    let mut tally = Tally::default();
    let applied = begin(conn, mark).and_then(|()| {
        group.by_ref().try_for_each(|work| apply_one(conn, work, &mut tally, after))
    });
    if let Err(lost) = applied.and_then(|()| tally.store(conn).map_err(Lost::from)) {
        // The rest of the group learns the cause.
        after.extend(group.map(|work| match work(Err(lost.error.clone())) {
            Applied::Done(answer) | Applied::Failed(answer, _) => answer,
        }));
        return Err(lost);
    }
    run_cached(conn, "COMMIT").map_err(|error| {
        let certainty = match error.sqlite_error_code() {
            // Found before anything was synced.
            Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Certainty::Undone
            }
            _ => Certainty::Uncertain,
        };
        Lost { error: engine("commit")(error), certainty }
    })
}

fn begin(conn: &Connection, mark: Option<Timestamp>) -> Result<(), Lost> {
    run_cached(conn, "BEGIN IMMEDIATE")?;
    if let Some(mark) = mark {
        conn.prepare_cached("UPDATE ledger SET high_water = ?1")?.execute([mark.seconds()])?;
    }
    Ok(())
}

fn apply_one(
    conn: &Connection,
    work: Work,
    tally: &mut Tally,
    after: &mut Vec<After>,
) -> Result<(), Lost> {
    run_cached(conn, "SAVEPOINT job")?;
    let before = *tally;
    match work(Ok((conn, tally))) {
        Applied::Done(answer) => {
            after.push(answer);
            run_cached(conn, "RELEASE job")?;
        }
        Applied::Failed(answer, cause) => {
            after.push(answer);
            *tally = before;
            if conn.is_autocommit() {
                // Disk full, I/O error, out of memory: the engine has undone the whole transaction.
                return Err(Lost { error: cause, certainty: Certainty::Undone });
            }
            run_cached(conn, "ROLLBACK TO job")?;
            run_cached(conn, "RELEASE job")?;
        }
    }
    Ok(())
}

fn run_cached(conn: &Connection, sql: &'static str) -> rusqlite::Result<()> {
    conn.prepare_cached(sql)?.execute([]).map(drop)
}

type Question = Box<dyn FnOnce(&Connection) + Send>;

/// The threads that read. In WAL mode a read sees every commit that was answered before it began.
pub(super) struct Readers {
    queues: Vec<Sender<Question>>,
    threads: Vec<JoinHandle<()>>,
    next: AtomicUsize,
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readers").field(&self.threads.len()).finish()
    }
}

impl Readers {
    pub(super) fn start(connections: Vec<Connection>) -> io::Result<Self> {
        let mut readers =
            Self { queues: Vec::new(), threads: Vec::new(), next: AtomicUsize::new(0) };
        for conn in connections {
            let (queue, questions) = channel::<Question>();
            let thread = std::thread::Builder::new()
                .name(String::from("ledger-reader"))
                .spawn(move || questions.iter().for_each(|question| question(&conn)))?;
            readers.queues.push(queue);
            readers.threads.push(thread);
        }
        Ok(readers)
    }

    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (answer, answered) = oneshot::channel();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let at = turn.checked_rem(self.queues.len()).unwrap_or(0);
        self.queues
            .get(at)
            .ok_or(LedgerError::Closed)?
            .send(Box::new(move |conn| {
                let _ = answer.send(question(conn));
            }))
            .map_err(|_| LedgerError::Closed)?;
        answered.await.map_err(|_| LedgerError::Closed)?
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.queues.clear();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a reader of the ledger has panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::open;
    use crate::sqlite::row::{change, first, number};

    fn start(folder: &tempfile::TempDir) -> (Writer, open::ProcessLock) {
        let opened = open::open(&folder.path().join("ledger")).unwrap();
        let clock = Arc::new(HighWater::new(opened.high_water));
        (Writer::start(opened.writer, clock).unwrap(), opened.lock)
    }

    fn deny(conn: &Connection, name: &str) -> Result<usize, LedgerError> {
        change(
            conn,
            "INSERT INTO denial (kind, tenant, subject, denied_at) VALUES (0, 't', ?1, 0)",
            [name],
        )
    }

    fn denials(conn: &Connection) -> Result<u32, LedgerError> {
        let sql = "SELECT count(*) FROM denial";
        Ok(first(conn, sql, [], |row| number(row, 0, "denial"))?.unwrap_or(0))
    }

    /// Jobs of one commit, whatever the threads do.
    fn together(conn: &Connection, names: &[&'static str]) -> Vec<Result<(), LedgerError>> {
        let (answers, answered) = channel();
        let group = names
            .iter()
            .map(|name| -> Work {
                let (name, answers) = (*name, answers.clone());
                Box::new(move |turn| match turn.and_then(|(conn, _)| deny(conn, name)) {
                    Ok(_) => Applied::Done(Box::new(move |done| answers.send(done).unwrap())),
                    Err(error) => {
                        let told = error.clone();
                        let tell: After =
                            Box::new(move |done| answers.send(done.and(Err(told))).unwrap());
                        Applied::Failed(tell, error)
                    }
                })
            })
            .collect();
        commit(conn, group, &HighWater::new(Timestamp::EPOCH)).unwrap();
        drop(answers);
        answered.iter().collect()
    }

    #[test]
    fn a_job_that_fails_undoes_itself_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let conn = open::open(&folder.path().join("ledger")).unwrap().writer;
        // The second is there already when the third comes.
        let answers = together(&conn, &["a", "b", "b", "c"]);
        let done: Vec<bool> = answers.iter().map(Result::is_ok).collect();
        assert_eq!(done, [true, true, false, true]);
        assert_eq!(denials(&conn), Ok(3));
    }

    #[tokio::test]
    async fn a_failed_commit_is_nobodys_success_and_the_last_one() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, lock) = start(&folder);
        writer.run(|conn, _| deny(conn, "a"), |_| ()).await.unwrap();
        // A reference to a row that is not there, found only by the commit itself.
        let result = writer
            .run(
                |conn, _| {
                    conn.execute_batch("PRAGMA defer_foreign_keys = ON").map_err(engine("write"))?;
                    deny(conn, "b")?;
                    change(
                        conn,
                        "INSERT INTO enrolment (state, tenant, challenge, issued_at, expires_at, device, \
                         profile, audience, info_hash, spki, spki_hash, signer, transaction_id, \
                         expected, admitted_at, certificate, authority, grounds, generation) VALUES (3, 't', zeroblob(16), 0, 0, 'd', \
                         'p', 'g', zeroblob(32), x'', zeroblob(32), zeroblob(32), 'x', x'', 0, 99, 'main', 0, 0)",
                        [],
                    )
                },
                |_| (),
            )
            .await;
        assert!(matches!(result, Err(LedgerError::Engine { action: "commit", .. })), "{result:?}");
        let next = writer.run(|conn, _| deny(conn, "c"), |_| ()).await;
        assert_eq!(next, Err(LedgerError::Closed));
        drop((writer, lock));
        // Opened anew, it has what was acknowledged and no more.
        let conn = open::open(&folder.path().join("ledger")).unwrap().writer;
        assert_eq!(denials(&conn), Ok(1));
    }
}
