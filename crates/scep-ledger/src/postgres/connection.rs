//! One connection: what must be in force on it, its prepared statements, and how it is made again.

use super::config::PostgresConfig;
use super::tls::Tls;
use crate::LedgerError;
use crate::error::EngineError;
use core::error::Error as _;
use core::fmt;
use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, Statement};

/// Values of a statement.
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// How long a connection may take until it can be used.
const OPENING: Duration = Duration::from_secs(10);

/// Set on every connection. A gateway that is stopped in the middle of a transaction must not hold up the others: the
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

/// Wraps what the server or the connection says.
pub(super) fn engine(action: &'static str) -> impl Fn(tokio_postgres::Error) -> LedgerError {
    move |error| {
        let message = error.as_db_error().map_or_else(
            || {
                let cause = error.source().map(|source| format!(": {source}"));
                format!("{error}{}", cause.unwrap_or_default())
            },
            // Only the message: the detail of an error may hold values.
            |said| format!("{} (SQLSTATE {})", said.message(), said.code().code()),
        );
        LedgerError::Engine { action, source: EngineError { code: None, message } }
    }
}

/// An open connection.
pub(super) struct Connection {
    pub(super) client: Client,
    statements: Mutex<HashMap<&'static str, Statement>>,
}

impl Connection {
    /// The statement, when it was prepared on this connection before.
    pub(super) fn ready(&self, sql: &'static str) -> Option<Statement> {
        // Every change is one call on the map: a panic elsewhere leaves it whole.
        self.statements.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned()
    }

    pub(super) async fn prepared(&self, sql: &'static str) -> Result<Statement, LedgerError> {
        if let Some(statement) = self.ready(sql) {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await.map_err(engine("prepare a statement"))?;
        let mut known = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(sql, statement.clone());
        Ok(statement)
    }

    /// Reads rows outside of a unit's transaction.
    pub(super) async fn read(
        &self,
        sql: &'static str,
        values: Values<'_>,
    ) -> Result<Vec<Row>, LedgerError> {
        let statement = self.prepared(sql).await?;
        self.client.query(&statement, values).await.map_err(engine("read"))
    }

    async fn open(config: &PostgresConfig, tls: Option<&Tls>) -> Result<Self, LedgerError> {
        let failed = engine("connect");
        let client = match tls {
            Some(tls) => {
                let (client, io) = config.connection.connect(tls.clone()).await.map_err(&failed)?;
                tokio::spawn(async move { note_end(io.await) });
                client
            }
            None => {
                let (client, io) = config.connection.connect(NoTls).await.map_err(&failed)?;
                tokio::spawn(async move { note_end(io.await) });
                client
            }
        };
        // The name has no character that would need more than quotes.
        let set = format!("{SET}; SET search_path = \"{}\", pg_temp", config.schema);
        client.batch_execute(&set).await.map_err(&failed)?;
        read_back(&client).await?;
        Ok(Self { client, statements: Mutex::default() })
    }
}

fn note_end(end: Result<(), tokio_postgres::Error>) {
    if let Err(error) = end {
        tracing::warn!(error = %engine("keep a connection")(error), "PostgreSQL");
    }
}

/// What was set may be refused silently, by a pooler for one: what counts is what is in force.
async fn read_back(client: &Client) -> Result<(), LedgerError> {
    for (setting, wanted, good) in SETTINGS {
        let rows = client
            .query_typed(
                "SELECT current_setting($1)",
                &[(setting, tokio_postgres::types::Type::TEXT)],
            )
            .await
            .map_err(engine("read its settings back"))?;
        let got = rows.first().and_then(|row| row.try_get::<_, String>(0).ok());
        let got = got.unwrap_or_else(|| String::from("unknown"));
        if !good.contains(&got.as_str()) {
            return Err(LedgerError::Setting { setting, wanted, got });
        }
    }
    Ok(())
}

/// A connection that is made when it is needed and made again when it was lost, with growing pauses between attempts.
pub(super) struct Link {
    config: Arc<PostgresConfig>,
    tls: Option<Tls>,
    open: Option<Arc<Connection>>,
    down: Option<Down>,
}

/// Why there is no connection, and when to try again.
struct Down {
    error: LedgerError,
    attempts: u32,
    again_at: Instant,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("open", &self.open.is_some()).finish_non_exhaustive()
    }
}

impl Link {
    const FIRST_PAUSE: Duration = Duration::from_millis(50);
    const MAX_DOUBLINGS: u32 = 6;

    pub(super) const fn new(config: Arc<PostgresConfig>, tls: Option<Tls>) -> Self {
        Self { config, tls, open: None, down: None }
    }

    /// The connection, made anew when it has ended; or why there is none. Never waits out a pause.
    pub(super) async fn connection(&mut self) -> Result<Arc<Connection>, LedgerError> {
        if let Some(open) = self.open.take_if(|open| open.client.is_closed()) {
            drop(open);
        }
        if let Some(open) = &self.open {
            return Ok(Arc::clone(open));
        }
        if let Some(down) = &self.down
            && Instant::now() < down.again_at
        {
            return Err(down.error.clone());
        }
        let opening = Connection::open(&self.config, self.tls.as_ref());
        // The library's own limit ends with the transport; a server that accepts and says nothing must not hold us up.
        let opened = tokio::time::timeout(OPENING, opening).await.unwrap_or_else(|_| {
            let message = String::from("no answer in time");
            Err(LedgerError::Engine {
                action: "connect",
                source: EngineError { code: None, message },
            })
        });
        match opened {
            Ok(connection) => {
                let connection = Arc::new(connection);
                self.open = Some(Arc::clone(&connection));
                self.down = None;
                Ok(connection)
            }
            Err(error) => {
                let attempts = self.down.as_ref().map_or(0, |down| down.attempts);
                let again_at = Instant::now().checked_add(pause(attempts));
                self.down = Some(Down {
                    error: error.clone(),
                    attempts: attempts.saturating_add(1),
                    again_at: again_at.unwrap_or_else(Instant::now),
                });
                Err(error)
            }
        }
    }

    /// Gives the connection up: what is under way on it cannot be trusted any more.
    pub(super) fn cut(&mut self) {
        self.open = None;
    }

    /// Waits until another attempt may be made.
    pub(super) async fn pause(&self) {
        if let Some(down) = &self.down {
            tokio::time::sleep_until(down.again_at).await;
        }
    }
}

/// Doubles, with up to a half on top so that gateways do not come back in step.
fn pause(attempts: u32) -> Duration {
    let pause = Link::FIRST_PAUSE.saturating_mul(1 << attempts.min(Link::MAX_DOUBLINGS));
    let jitter = getrandom::u32().map_or(0, |random| random % 512);
    pause.saturating_add(pause.saturating_mul(jitter).checked_div(1_024).unwrap_or_default())
}
