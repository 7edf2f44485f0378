//! One transaction, spoken to by work that does not wait but is waited for.
//!
//! In SQLite a statement that fails undoes itself and nothing else; PostgreSQL gives up the whole transaction. Work is
//! written for the former, so each statement that writes has a savepoint before it and goes back to it when it fails.
//! The savepoint goes out together with the statement: it costs the server a few microseconds and no round trip. After
//! a failed SELECT, which no constraint can cause, the transaction is over.

use super::connection::{Connection, failed, silent};
use super::value::{Parameter, parameter};
use crate::service::db::{Cell, Row, Value};
use crate::service::store::StoreError;
use core::cell::{Cell as Shared, RefCell};
use tokio::runtime::Runtime;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

/// What a transaction may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Read,
    Write,
}

/// A transaction that has begun.
pub(in crate::service) struct Transaction<'a> {
    runtime: &'a Runtime,
    conn: &'a Connection,
    mode: Mode,
    /// When it has taken too long.
    end: Instant,
    /// Whether the server has a savepoint.
    saved: Shared<bool>,
    /// Why nothing of it can be committed any more.
    broken: RefCell<Option<StoreError>>,
}

type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

impl<'a> Transaction<'a> {
    pub(super) const fn new(
        runtime: &'a Runtime,
        conn: &'a Connection,
        mode: Mode,
        end: Instant,
    ) -> Self {
        Self { runtime, conn, mode, end, saved: Shared::new(false), broken: RefCell::new(None) }
    }

    /// Changes rows; gives how many.
    pub(in crate::service) fn execute(
        &self,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<usize, StoreError> {
        let changed = self.run(sql, values, async |client, statement, parameters| {
            client.execute(statement, parameters).await
        })?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    /// The rows of the answer.
    pub(in crate::service) fn rows(
        &self,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        let rows = self.run(sql, values, async |client, statement, parameters| {
            client.query(statement, parameters).await
        })?;
        let cell = |row: &tokio_postgres::Row, column| {
            row.try_get::<_, Cell>(column).map_err(|error| failed(&error))
        };
        let row = |row: tokio_postgres::Row| {
            (0..row.len()).map(|column| cell(&row, column)).collect::<Result<_, _>>().map(Row::new)
        };
        rows.into_iter().map(row).collect()
    }

    fn run<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        ask: impl AsyncFn(&Client, &Statement, Parameters<'_>) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, StoreError> {
        if let Some(error) = &*self.broken.borrow() {
            return Err(error.clone());
        }
        let writes = self.mode == Mode::Write && !is_select(sql);
        let client = &self.conn.client;
        let answer = self.in_time(async {
            let mut savepoint = writes.then(|| self.savepoint());
            let statement = match self.conn.ready(sql, values) {
                Some(statement) => statement,
                None => {
                    // Preparing is a round trip anyway, and may fail too.
                    if let Some(savepoint) = savepoint.take() {
                        client.batch_execute(savepoint).await?;
                    }
                    self.conn.prepared(sql, values).await?
                }
            };
            let parameters: Vec<Parameter<'_>> = values.iter().map(parameter).collect();
            let parameters: Vec<&(dyn ToSql + Sync)> =
                parameters.iter().map(|parameter| &**parameter).collect();
            let asked = ask(client, &statement, &parameters);
            match savepoint {
                // In the order in which they are first polled, both go out at once.
                Some(savepoint) => {
                    let (saved, answer) = tokio::join!(client.batch_execute(savepoint), asked);
                    saved?;
                    answer
                }
                None => asked.await,
            }
        });
        let error = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => failed(&error),
            Err(silent) => silent,
        };
        let undone = writes
            && !matches!(error, StoreError::Away { .. })
            && matches!(
                self.in_time(client.batch_execute("ROLLBACK TO SAVEPOINT statement")),
                Ok(Ok(()))
            );
        if !undone {
            *self.broken.borrow_mut() = Some(error.clone());
        }
        Err(error)
    }

    fn savepoint(&self) -> &'static str {
        if self.saved.replace(true) {
            "RELEASE SAVEPOINT statement; SAVEPOINT statement"
        } else {
            "SAVEPOINT statement"
        }
    }

    fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, StoreError> {
        // The clock is the runtime's: it must be entered first.
        self.runtime.block_on(async { timeout_at(self.end, work).await }).map_err(|_| silent())
    }

    /// Ends it for good. After an error nothing is certain about the connection, and without one everything is durable.
    pub(super) fn commit(self) -> Result<(), StoreError> {
        if let Some(error) = self.broken.borrow().clone() {
            // COMMIT would roll back, which the server does not call an error.
            return Err(error);
        }
        let committed = self.in_time(self.conn.client.batch_execute("COMMIT"));
        let error = match committed {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => failed(&error),
            Err(silent) => silent,
        };
        match (error, self.mode) {
            // Whether the server has got it, and has done it, cannot be told.
            (StoreError::Away { message }, Mode::Write) => Err(StoreError::Uncertain { message }),
            (error, _) => Err(error),
        }
    }

    /// Undoes it.
    pub(super) fn roll_back(self) -> Result<(), StoreError> {
        if let Some(error) = self.broken.borrow().clone() {
            return Err(error);
        }
        match self.in_time(self.conn.client.batch_execute("ROLLBACK"))? {
            Ok(()) => Ok(()),
            Err(error) => Err(failed(&error)),
        }
    }
}

fn is_select(sql: &str) -> bool {
    let first = sql.split_whitespace().next();
    first.is_some_and(|word| word.eq_ignore_ascii_case("SELECT"))
}
