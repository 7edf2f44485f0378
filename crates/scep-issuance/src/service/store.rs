//! The database: one SQLite file, one thread that writes and one that reads; or a PostgreSQL server.

use crate::service::db::Tx;
#[cfg(feature = "postgres")]
use crate::service::postgres::{Database, PostgresConfig};
use core::fmt;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, ffi};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

/// How many jobs may wait for a thread. A caller beyond is told to come again.
pub(super) const QUEUE: usize = 512;
/// Prepared statements kept for each connection; there are fewer.
const STATEMENTS: usize = 128;

/// Each migration brings the schema from its index to the next version. They are written in SQLite's words; the module
/// `dialect` of the PostgreSQL side says which of them it understands.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/001_objects.sql"),
    include_str!("schema/002_connectors.sql"),
    include_str!("schema/003_check_in.sql"),
    include_str!("schema/004_reports.sql"),
    include_str!("schema/005_renewals.sql"),
];

/// Setting, value to set, value read back.
const SETTINGS: &[(&str, &str, &str)] = &[
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", "2"),
    ("fullfsync", "ON", "1"),
    ("checkpoint_fullfsync", "ON", "1"),
    ("foreign_keys", "ON", "1"),
    ("trusted_schema", "OFF", "0"),
    ("busy_timeout", "5000", "5000"),
];

/// Why the database did not do something.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// SQLite or PostgreSQL says so.
    #[error("database: {message}")]
    Engine {
        /// SQLite's extended result code, when it has one.
        code: Option<i32>,
        /// As it says.
        message: String,
    },
    /// There is one already.
    #[error("database: there is one already")]
    Duplicate,
    /// A row that is referred to is missing, or a row to be removed is referred to.
    #[error("database: a reference does not hold")]
    Reference,
    /// A column does not hold what it must.
    #[error("database: column {column} of an answer cannot be read")]
    Column {
        /// Which, counted from 0.
        column: usize,
    },
    /// A setting on which durability depends is not in force.
    #[error("database: {name} is {got}, not {expected}")]
    Setting {
        /// Which.
        name: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// A later release has written it.
    #[error("database: its schema has version {found}; this release knows {known}")]
    Newer {
        /// Its version.
        found: usize,
        /// The newest known.
        known: usize,
    },
    /// The file could not be made or read.
    #[error("{path}: {kind}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        kind: std::io::ErrorKind,
    },
    /// A thread could not be started.
    #[error("no thread for the database: {0}")]
    Thread(std::io::ErrorKind),
    /// The description of how to reach the server cannot be read, or would be unsafe.
    #[error("database: {what}")]
    Connection {
        /// What is wrong with it.
        what: String,
    },
    /// The server cannot be reached, or the connection was lost before anything could be committed.
    #[error("the database cannot be reached: {message}")]
    Away {
        /// As the server, or the connection to it, says.
        message: String,
    },
    /// The connection was lost during a commit: it may have been done. Whoever repeats it must be able to.
    #[error("it is unknown whether the database has committed: {message}")]
    Uncertain {
        /// As the server, or the connection to it, says.
        message: String,
    },
    /// The schema holds something else than an issuer's tables.
    #[error("the schema {schema} holds something else than an issuer's tables")]
    Foreign {
        /// Its name.
        schema: String,
    },
    /// Too many jobs wait.
    #[error("the database's queue is full")]
    Overloaded,
    /// Its thread has ended.
    #[error("the database is closed")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let code = match &error {
            rusqlite::Error::SqliteFailure(failure, _) => Some(failure.extended_code),
            _ => None,
        };
        match code {
            Some(ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_UNIQUE) => {
                Self::Duplicate
            }
            Some(ffi::SQLITE_CONSTRAINT_FOREIGNKEY) => Self::Reference,
            _ => Self::Engine { code, message: error.to_string() },
        }
    }
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A thread with a connection of its own.
struct Worker(mpsc::Sender<Job>);

impl Worker {
    fn start(name: &str, mut conn: Connection) -> Result<Self, StoreError> {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                while let Some(job) = queue.blocking_recv() {
                    job(&mut conn);
                }
            })
            .map_err(|error| StoreError::Thread(error.kind()))?;
        Ok(Self(jobs))
    }

    async fn run<T, E>(
        &self,
        behaviour: TransactionBehavior,
        work: impl FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |conn| {
            let done = transact(conn, behaviour, |tx| work(&Tx::sqlite(tx)));
            // Whoever asked may be gone; what is done is done.
            let _ = answer.send(done);
        });
        self.0.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
        })?;
        answered.await.map_err(|_| StoreError::Closed)?
    }
}

/// One transaction: committed when the work succeeds, undone when it does not.
fn transact<T, E: From<StoreError>>(
    conn: &mut Connection,
    behaviour: TransactionBehavior,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let transaction = conn.transaction_with_behavior(behaviour).map_err(StoreError::from)?;
    let value = work(&transaction)?;
    transaction.commit().map_err(StoreError::from)?;
    Ok(value)
}

/// The issuer's database.
#[derive(Clone)]
pub struct Store {
    inner: Inner,
}

#[derive(Clone)]
enum Inner {
    Sqlite {
        writer: Arc<Worker>,
        reader: Arc<Worker>,
    },
    #[cfg(feature = "postgres")]
    Postgres(Arc<Database>),
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// Opens the file, or makes it, readable for its owner alone, and brings its schema up to date.
    ///
    /// # Errors
    /// When it cannot be opened, a setting does not hold, or a later release has written it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        make_private(path)?;
        let mut writer = connect(path)?;
        migrate(&mut writer)?;
        let reader = connect(path)?;
        reader.pragma_update(None, "query_only", "ON")?;
        let writer = Arc::new(Worker::start("issuer-writer", writer)?);
        let reader = Arc::new(Worker::start("issuer-reader", reader)?);
        Ok(Self { inner: Inner::Sqlite { writer, reader } })
    }

    /// Connects to a PostgreSQL server, which other issuers may use too, and brings its schema up to date. Any runtime
    /// will do: the connections belong to threads of their own.
    ///
    /// Later, a connection that was lost is made again by itself. For a few seconds whoever asks waits for that, then
    /// gets [`StoreError::Away`] until the server is back. What was answered is durable.
    ///
    /// # Errors
    /// When the server cannot be reached, a setting on which durability depends is not in force, a later release has
    /// written the schema, or the schema holds something else.
    #[cfg(feature = "postgres")]
    pub async fn open_postgres(config: PostgresConfig) -> Result<Self, StoreError> {
        let database = Database::open(config, MIGRATIONS).await?;
        Ok(Self { inner: Inner::Postgres(Arc::new(database)) })
    }

    /// Runs the work in a transaction of its own and answers once that is durable.
    pub(crate) async fn write<T, E>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        match &self.inner {
            Inner::Sqlite { writer, .. } => writer.run(TransactionBehavior::Immediate, work).await,
            #[cfg(feature = "postgres")]
            Inner::Postgres(database) => database.write(work).await,
        }
    }

    /// Runs the work on one state of the database.
    pub(crate) async fn read<T, E>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        match &self.inner {
            Inner::Sqlite { reader, .. } => reader.run(TransactionBehavior::Deferred, work).await,
            #[cfg(feature = "postgres")]
            Inner::Postgres(database) => database.read(work).await,
        }
    }
}

/// SQLite gives its log and index the mode of the file.
fn make_private(path: &Path) -> Result<(), StoreError> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let file = |error: std::io::Error| StoreError::File { path: path.into(), kind: error.kind() };
    options.open(path).map(drop).map_err(file)
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    for (name, value, expected) in SETTINGS {
        conn.pragma_update(None, name, value)?;
        let got: rusqlite::types::Value = conn.pragma_query_value(None, name, |row| row.get(0))?;
        let got = match got {
            rusqlite::types::Value::Integer(number) => number.to_string(),
            rusqlite::types::Value::Text(text) => text,
            other => format!("{other:?}"),
        };
        if got != *expected {
            return Err(StoreError::Setting { name, expected, got });
        }
    }
    Ok(conn)
}

fn migrate(conn: &mut Connection) -> Result<(), StoreError> {
    let known = MIGRATIONS.len();
    transact(conn, TransactionBehavior::Immediate, |tx| {
        let found: i64 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let found = usize::try_from(found).unwrap_or(usize::MAX);
        let Some(missing) = MIGRATIONS.get(found..) else {
            return Err(StoreError::Newer { found, known });
        };
        for migration in missing {
            tx.execute_batch(migration)?;
        }
        let version = i64::try_from(known).unwrap_or(i64::MAX);
        tx.pragma_update(None, "user_version", version)?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> PathBuf {
        static NEXT: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("scep-issuance-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_file_of_a_later_release_is_refused_and_a_second_start_changes_nothing() {
        let folder = folder();
        let path = folder.join("issuer.db");
        drop(Store::open(&path).unwrap());
        drop(Store::open(&path).unwrap());
        let conn = connect(&path).unwrap();
        let tables: i64 = conn
            .query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'table'", [], |r| r.get(0))
            .unwrap();
        assert!(tables >= 9, "{tables}");
        let strict: i64 = conn
            .query_row(
                "SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND strict = 0 \
                 AND name NOT LIKE 'sqlite_%'",
                [],
                |r| r.get(0),
            )
            .unwrap();
        assert_eq!(strict, 0, "tables that are not STRICT");
        conn.pragma_update(None, "user_version", 99).unwrap();
        let error = Store::open(&path).unwrap_err();
        assert_eq!(error, StoreError::Newer { found: 99, known: MIGRATIONS.len() });
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{mode:o}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
