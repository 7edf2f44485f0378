//! One connection: what must be in force on it, its prepared statements, and how it is made again.

use super::config::PostgresConfig;
use super::dialect;
use super::tls::Tls;
use super::value::type_of;
use crate::service::db::Value;
use crate::service::store::StoreError;
use core::cell::RefCell;
use core::error::Error as _;
use core::hash::{BuildHasher as _, Hasher as _};
use core::time::Duration;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls, Statement};

/// How long a connection may take until it can be used.
const OPENING: Duration = Duration::from_secs(10);
/// For how long an outage holds up those who ask. Afterwards they learn at once.
const PATIENCE: Duration = Duration::from_secs(3);
/// Texts of statements kept on a connection; there are fewer.
const STATEMENTS: usize = 512;

/// Set on every connection. An issuer that is stopped in the middle of a transaction must not hold up the others: the
/// server ends its transaction before they have waited too long for the lock.
const SET: &str = "SET idle_in_transaction_session_timeout = '5s'; SET lock_timeout = '10s'; SET TimeZone = 'UTC'";

/// Setting, what is demanded, and which values are as good.
///
/// Without `fsync` and `full_page_writes` a crash of the server's machine loses or tears what was committed; without
/// `synchronous_commit` a crash of the server alone loses it. A server that only reads is a stand-by. The two
/// timeouts are what was set, read back.
const SETTINGS: &[(&str, &str, &[&str])] = &[
    ("fsync", "on", &["on"]),
    ("full_page_writes", "on", &["on"]),
    ("synchronous_commit", "on", &["on", "local", "remote_write", "remote_apply"]),
    ("transaction_read_only", "off", &["off"]),
    ("server_encoding", "UTF8", &["UTF8"]),
    ("idle_in_transaction_session_timeout", "5s", &["5s"]),
    ("lock_timeout", "10s", &["10s"]),
];

/// What the server or the connection says.
fn message(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(
        || {
            let cause = error.source().map(|source| format!(": {source}"));
            format!("{error}{}", cause.unwrap_or_default())
        },
        // Only the message: the detail of an error may hold values.
        |said| format!("{} (SQLSTATE {})", said.message(), said.code().code()),
    )
}

/// Whether it is the connection that failed, or the server that ends it.
fn is_lost(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        // Shut down, crashed, not yet started; ended for being idle; a connection's own.
        Some(code) => ["57P", "25P03", "08"].iter().any(|class| code.code().starts_with(class)),
        None => {
            error.is_closed() || error.source().is_some_and(|source| source.is::<std::io::Error>())
        }
    }
}

pub(super) fn failed(error: &tokio_postgres::Error) -> StoreError {
    match error.code() {
        Some(code) if *code == SqlState::UNIQUE_VIOLATION => StoreError::Duplicate,
        Some(code)
            if [SqlState::FOREIGN_KEY_VIOLATION, SqlState::RESTRICT_VIOLATION].contains(code) =>
        {
            StoreError::Reference
        }
        // Somebody else's transaction is slow.
        Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => StoreError::Overloaded,
        _ if is_lost(error) => StoreError::Away { message: message(error) },
        _ => StoreError::Engine { code: None, message: message(error) },
    }
}

pub(super) fn silent() -> StoreError {
    StoreError::Away { message: String::from("no answer in time") }
}

fn away(error: &tokio_postgres::Error) -> StoreError {
    StoreError::Away { message: message(error) }
}

/// A statement as prepared for values of these types.
type Prepared = (Vec<Type>, Statement);

/// An open connection.
pub(super) struct Connection {
    pub(super) client: Client,
    statements: RefCell<HashMap<String, Vec<Prepared>>>,
}

impl Connection {
    /// The statement, when it was prepared on this connection before.
    pub(super) fn ready(&self, sql: &str, values: &[Value<'_>]) -> Option<Statement> {
        let statements = self.statements.borrow();
        let fits = |(types, _): &&Prepared| types.iter().cloned().eq(values.iter().map(type_of));
        statements.get(sql)?.iter().find(fits).map(|(_, statement)| statement.clone())
    }

    pub(super) async fn prepared(
        &self,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.ready(sql, values) {
            return Ok(statement);
        }
        let types: Vec<Type> = values.iter().map(type_of).collect();
        let statement = self.client.prepare_typed(&dialect::statement(sql), &types).await?;
        let mut statements = self.statements.borrow_mut();
        if statements.len() >= STATEMENTS {
            statements.clear();
        }
        statements.entry(sql.to_owned()).or_default().push((types, statement.clone()));
        Ok(statement)
    }

    async fn open(config: &PostgresConfig, tls: Option<&Tls>) -> Result<Self, StoreError> {
        let client = match tls {
            Some(tls) => {
                let connected = config.connection.connect(tls.clone()).await;
                let (client, io) = connected.map_err(|error| away(&error))?;
                tokio::spawn(async move { note_end(io.await) });
                client
            }
            None => {
                let connected = config.connection.connect(NoTls).await;
                let (client, io) = connected.map_err(|error| away(&error))?;
                tokio::spawn(async move { note_end(io.await) });
                client
            }
        };
        // The name has no character that would need more than quotes.
        let set = format!("{SET}; SET search_path = \"{}\", pg_temp", config.schema);
        client.batch_execute(&set).await.map_err(|error| failed(&error))?;
        read_back(&client).await?;
        Ok(Self { client, statements: RefCell::default() })
    }
}

fn note_end(end: Result<(), tokio_postgres::Error>) {
    if let Err(error) = end {
        tracing::warn!(error = message(&error), "a connection to PostgreSQL has ended");
    }
}

/// What was set may be refused silently, by a pooler for one: what counts is what is in force.
async fn read_back(client: &Client) -> Result<(), StoreError> {
    for &(name, expected, good) in SETTINGS {
        let rows = client
            .query_typed("SELECT current_setting($1)", &[(&name, Type::TEXT)])
            .await
            .map_err(|error| failed(&error))?;
        let got = rows.first().and_then(|row| row.try_get::<_, String>(0).ok());
        let got = got.unwrap_or_else(|| String::from("unknown"));
        if !good.contains(&got.as_str()) {
            return Err(StoreError::Setting { name, expected, got });
        }
    }
    Ok(())
}

/// A connection that is made when it is needed and made again when it was lost, with growing pauses between attempts.
pub(super) struct Link {
    config: Arc<PostgresConfig>,
    tls: Option<Tls>,
    open: Option<Rc<Connection>>,
    down: Option<Down>,
}

/// Why there is no connection, and when to try again.
struct Down {
    error: StoreError,
    attempts: u32,
    again_at: Instant,
    /// When those who ask begin to be told.
    patience: Instant,
}

impl Link {
    const FIRST_PAUSE: Duration = Duration::from_millis(50);
    const MAX_DOUBLINGS: u32 = 6;

    pub(super) const fn new(config: Arc<PostgresConfig>, tls: Option<Tls>) -> Self {
        Self { config, tls, open: None, down: None }
    }

    /// The connection, made anew when it has ended; waited for during an outage's first seconds.
    pub(super) async fn wait(&mut self) -> Result<Rc<Connection>, StoreError> {
        loop {
            let error = match self.connection().await {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            match (&error, &self.down) {
                // What else there is does not mend itself within seconds.
                (StoreError::Away { .. }, Some(down)) if Instant::now() < down.patience => {
                    tokio::time::sleep_until(down.again_at).await;
                }
                _ => return Err(error),
            }
        }
    }

    /// Makes a connection unless there is one, or says why there is none. Never waits out a pause.
    pub(super) async fn connection(&mut self) -> Result<Rc<Connection>, StoreError> {
        if self.open.as_ref().is_some_and(|open| open.client.is_closed()) {
            self.cut();
        }
        if let Some(open) = &self.open {
            return Ok(Rc::clone(open));
        }
        if let Some(down) = &self.down
            && Instant::now() < down.again_at
        {
            return Err(down.error.clone());
        }
        let opening = Connection::open(&self.config, self.tls.as_ref());
        // The library's own limit ends with the transport; a server that accepts and says nothing must not hold us up.
        let opened = tokio::time::timeout(OPENING, opening).await;
        match opened.unwrap_or_else(|_| Err(silent())) {
            Ok(connection) => {
                let connection = Rc::new(connection);
                self.open = Some(Rc::clone(&connection));
                self.down = None;
                Ok(connection)
            }
            Err(error) => {
                let now = Instant::now();
                let later = |pause| now.checked_add(pause).unwrap_or(now);
                let (attempts, patience) = self
                    .down
                    .as_ref()
                    .map_or_else(|| (0, later(PATIENCE)), |down| (down.attempts, down.patience));
                self.down = Some(Down {
                    error: error.clone(),
                    attempts: attempts.saturating_add(1),
                    again_at: later(pause(attempts)),
                    patience,
                });
                Err(error)
            }
        }
    }

    /// Gives the connection up: what is under way on it cannot be trusted any more.
    pub(super) fn cut(&mut self) {
        self.open = None;
    }
}

/// Doubles, with up to a half on top so that issuers do not come back in step.
fn pause(attempts: u32) -> Duration {
    let pause = Link::FIRST_PAUSE.saturating_mul(1 << attempts.min(Link::MAX_DOUBLINGS));
    let random = std::hash::RandomState::new().build_hasher().finish();
    let jitter = u32::try_from(random % 512).unwrap_or_default();
    pause.saturating_add(pause.saturating_mul(jitter).checked_div(1_024).unwrap_or_default())
}
