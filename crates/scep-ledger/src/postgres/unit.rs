//! One transaction that writes: a unit of work under the ledger's lock.
//!
//! Every unit begins by locking the ledger's row, on every gateway. So units happen one after the other, at READ
//! COMMITTED each statement of a unit sees all that the units before it have committed, and a decision (is the
//! challenge used, the key another's, the brake's hour full) is as good as if there were one gateway. Since it is the
//! only lock that anybody waits for, nothing can deadlock, and nothing has to be tried again as SERIALIZABLE would
//! demand. Finer locks (per challenge, per key, for the brake) would gain nothing: the events' numbers have no gaps
//! only if whoever takes one keeps the others out until its commit, and nearly every unit takes one. What one commit at
//! a time costs is made up for by the group: all jobs that wait at a gateway are one unit. The unique indexes hold
//! even if all of this were wrong.

use super::connection::{Connection, Values, engine};
use super::row::{get, octets, time};
use crate::LedgerError;
use crate::report::Draft;
use scep_types::{DeviceId, LedgerId, TenantId, Timestamp};
use std::sync::Arc;
use tokio_postgres::Row;

/// The ledger's own row, as the unit leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LedgerRow {
    pub(super) ledger_id: LedgerId,
    pub(super) high_water: Timestamp,
    pub(super) clock_epoch: i64,
    pub(super) last_event: i64,
    pub(super) pruned_through: Timestamp,
    pub(super) restored_at: Timestamp,
    pub(super) last_brake_alarm: Timestamp,
    pub(super) issued: i64,
    pub(super) delivered: i64,
    pub(super) refused: i64,
    pub(super) failed: i64,
    pub(super) withheld: i64,
}

impl LedgerRow {
    pub(super) const fn add(counter: &mut i64) {
        *counter = counter.saturating_add(1);
    }

    fn read(row: &Row) -> Result<Self, LedgerError> {
        Ok(Self {
            ledger_id: octets(row, 0, "ledger.ledger_id").map(LedgerId::from_bytes)?,
            high_water: time(row, 1, "ledger.high_water")?,
            clock_epoch: get(row, 2, "ledger.clock_epoch")?,
            last_event: get(row, 3, "ledger.last_event")?,
            pruned_through: time(row, 4, "ledger.pruned_through")?,
            restored_at: time(row, 5, "ledger.restored_at")?,
            last_brake_alarm: time(row, 6, "ledger.last_brake_alarm")?,
            issued: get(row, 7, "ledger.issued")?,
            delivered: get(row, 8, "ledger.delivered")?,
            refused: get(row, 9, "ledger.refused")?,
            failed: get(row, 10, "ledger.failed")?,
            withheld: get(row, 11, "ledger.withheld")?,
        })
    }
}

/// This process among those that share the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instance(pub(super) [u8; 16]);

impl Instance {
    pub(super) const fn octets(&self) -> &[u8] {
        &self.0
    }
}

/// Whether the gateway goes on after the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lease {
    Renew,
    /// It closes: its intents are for the others at once.
    GiveUp,
}

/// A transaction that holds the ledger's lock.
pub(super) struct Unit {
    conn: Arc<Connection>,
    /// Goes out with the next statement, so that it costs no round trip of its own.
    control: Option<&'static str>,
    /// Whether the server has a savepoint.
    saved: bool,
    pub(super) instance: Instance,
    pub(super) row: LedgerRow,
    pub(super) events: Vec<Draft>,
    /// The intent that the present job has admitted.
    pub(super) admitted: Option<i64>,
}

/// What a job must not leave behind when it fails.
pub(super) struct Savepoint {
    row: LedgerRow,
    events: usize,
}

const LOCK: &str = "SELECT ledger_id, high_water, clock_epoch, last_event, pruned_through, restored_at, \
     last_brake_alarm, issued, delivered, refused, failed, withheld FROM ledger FOR UPDATE";

/// A statement of its own after the lock: one that has waited for it still sees what was there before it waited, and a
/// migration may have been what it waited for.
const VERSION: &str = "SELECT coalesce(max(version), 0) FROM schema_version";

const SAVE: &str = "UPDATE ledger SET high_water = $1, clock_epoch = $2, last_event = $3, \
     pruned_through = $4, restored_at = $5, last_brake_alarm = $6, issued = $7, delivered = $8, \
     refused = $9, failed = $10, withheld = $11";

const RENEW: &str = "INSERT INTO gateway (instance, lease_until, last_group) \
     VALUES ($1, clock_timestamp() + $2 * interval '1 millisecond', $3) \
     ON CONFLICT (instance) DO UPDATE SET lease_until = excluded.lease_until, \
     last_group = excluded.last_group";

const GIVE_UP: &str = "DELETE FROM gateway WHERE instance = $1";

const EVENTS: &str = "INSERT INTO outbox (sequence, kind, tenant, device, idempotency_key, body, at) \
     SELECT $1::bigint + n, kind, tenant, device, key, body, at FROM unnest($2::text[], $3::text[], \
     $4::text[], $5::text[], $6::text[], $7::bigint[]) \
     WITH ORDINALITY AS e (kind, tenant, device, key, body, at, n)";

impl Unit {
    /// Begins the transaction and waits for the lock.
    pub(super) async fn begin(
        conn: Arc<Connection>,
        instance: Instance,
    ) -> Result<Self, LedgerError> {
        let lock = conn.prepared(LOCK).await?;
        let version = conn.prepared(VERSION).await?;
        // In the order in which they are first polled, all go out at once.
        let (begun, locked, version) = tokio::join!(
            conn.client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"),
            conn.client.query(&lock, &[]),
            conn.client.query(&version, &[])
        );
        begun.map_err(engine("begin"))?;
        let rows = locked.map_err(engine("lock the ledger"))?;
        let row = rows.first().ok_or(LedgerError::Damaged { what: "ledger" })?;
        let (version, what) = (version.map_err(engine("read the schema"))?, "schema_version");
        let found: i64 = get(version.first().ok_or(LedgerError::Damaged { what })?, 0, what)?;
        if found > super::schema::known() {
            return Err(LedgerError::SchemaNewer { found, known: super::schema::known() });
        }
        let row = LedgerRow::read(row)?;
        Ok(Self {
            conn,
            control: None,
            saved: false,
            instance,
            row,
            events: Vec::new(),
            admitted: None,
        })
    }

    /// Runs a statement.
    pub(super) async fn query(
        &mut self,
        sql: &'static str,
        values: Values<'_>,
    ) -> Result<Vec<Row>, LedgerError> {
        let failed = engine("read or write");
        let statement = match self.conn.ready(sql) {
            Some(statement) => statement,
            None => {
                // Preparing is a round trip anyway, and fails in a transaction that still has to be rolled back.
                if let Some(control) = self.control.take() {
                    self.saved = true;
                    self.conn.client.batch_execute(control).await.map_err(&failed)?;
                }
                self.conn.prepared(sql).await?
            }
        };
        let query = self.conn.client.query(&statement, values);
        match self.control.take() {
            None => query.await.map_err(&failed),
            Some(control) => {
                self.saved = true;
                let (controlled, rows) =
                    tokio::join!(self.conn.client.batch_execute(control), query);
                controlled.map_err(&failed)?;
                rows.map_err(&failed)
            }
        }
    }

    /// Runs a statement of which only the number in its one row matters.
    pub(super) async fn count(
        &mut self,
        sql: &'static str,
        values: Values<'_>,
    ) -> Result<i64, LedgerError> {
        let rows = self.query(sql, values).await?;
        let what = "count";
        get(rows.first().ok_or(LedgerError::Damaged { what })?, 0, what)
    }

    /// An event, numbered and written with the unit.
    pub(super) fn tell(&mut self, event: Draft) {
        self.events.push(event);
    }

    /// Before a job. The server learns of it with the job's first statement.
    pub(super) fn savepoint(&mut self) -> Savepoint {
        self.control =
            Some(if self.saved { "RELEASE job; SAVEPOINT job" } else { "SAVEPOINT job" });
        self.admitted = None;
        Savepoint { row: self.row, events: self.events.len() }
    }

    /// Undoes what the job since the savepoint did, and nothing else.
    pub(super) async fn undo(&mut self, to: &Savepoint) -> Result<(), LedgerError> {
        self.row = to.row;
        self.events.truncate(to.events);
        self.admitted = None;
        if self.control.take().is_some() {
            // It has run no statement.
            return Ok(());
        }
        self.conn.client.batch_execute("ROLLBACK TO job").await.map_err(engine("undo a job"))
    }

    /// Writes the events that the jobs have told, all at once.
    async fn write_events(&mut self) -> Result<(), LedgerError> {
        let events = core::mem::take(&mut self.events);
        if events.is_empty() {
            return Ok(());
        }
        let kinds: Vec<&str> = events.iter().map(|e| e.kind.code()).collect();
        let tenants: Vec<Option<&str>> =
            events.iter().map(|e| e.tenant.as_ref().map(TenantId::as_str)).collect();
        let devices: Vec<Option<&str>> =
            events.iter().map(|e| e.device.as_ref().map(DeviceId::as_str)).collect();
        let keys: Vec<&str> = events.iter().map(|e| e.key.as_str()).collect();
        let bodies: Vec<&str> = events.iter().map(|e| e.body.as_str()).collect();
        let times: Vec<i64> = events.iter().map(|e| e.at.seconds()).collect();
        let before = self.row.last_event;
        self.query(EVENTS, &[&before, &kinds, &tenants, &devices, &keys, &bodies, &times]).await?;
        let written = i64::try_from(events.len()).unwrap_or(i64::MAX);
        self.row.last_event = before.saturating_add(written);
        Ok(())
    }

    /// Everything before the commit's own round trip.
    pub(super) async fn finish(&mut self) -> Result<(), LedgerError> {
        // What belongs to no job needs no savepoint.
        self.control = None;
        self.write_events().await?;
        self.conn.prepared(SAVE).await?;
        self.conn.prepared(RENEW).await?;
        self.conn.prepared(GIVE_UP).await?;
        Ok(())
    }

    /// Commits. The statements before it go out with it: when one of them fails the transaction is over, and COMMIT
    /// then means ROLLBACK, which the server does not call an error. So success is that of all three.
    pub(super) async fn commit(
        self,
        group: i64,
        lease: core::time::Duration,
        then: Lease,
    ) -> Result<LedgerRow, Lost> {
        let undone = |error| Lost { error, certainty: Certainty::Undone };
        let save = self.conn.prepared(SAVE).await.map_err(undone)?;
        let renew = self.conn.prepared(RENEW).await.map_err(undone)?;
        let give_up = self.conn.prepared(GIVE_UP).await.map_err(undone)?;
        let row = &self.row;
        let instance = self.instance.octets();
        #[allow(clippy::cast_precision_loss, reason = "a lease is at most a day")]
        let lease = lease.as_millis() as f64;
        let save_values: Values<'_> = &[
            &row.high_water.seconds(),
            &row.clock_epoch,
            &row.last_event,
            &row.pruned_through.seconds(),
            &row.restored_at.seconds(),
            &row.last_brake_alarm.seconds(),
            &row.issued,
            &row.delivered,
            &row.refused,
            &row.failed,
            &row.withheld,
        ];
        let lease_values: (_, Values<'_>) = match then {
            Lease::Renew => (&renew, &[&instance, &lease, &group]),
            Lease::GiveUp => (&give_up, &[&instance]),
        };
        let client = &self.conn.client;
        let (saved, leased, committed) = tokio::join!(
            client.execute(&save, save_values),
            client.execute(lease_values.0, lease_values.1),
            client.batch_execute("COMMIT")
        );
        let failed = engine("commit");
        for result in [saved, leased] {
            if let Err(error) = result {
                // Said by the server, it is certain; said by the connection, the commit may have arrived.
                let certainty = if error.as_db_error().is_some() && !client.is_closed() {
                    Certainty::Undone
                } else {
                    Certainty::Unknown
                };
                return Err(Lost { error: failed(error), certainty });
            }
        }
        committed.map_err(|e| Lost { error: failed(e), certainty: Certainty::Unknown })?;
        Ok(self.row)
    }
}

/// Whether a unit that failed may have been committed all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certainty {
    Undone,
    Unknown,
}

/// A unit that did not get through.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) error: LedgerError,
    pub(super) certainty: Certainty,
}
