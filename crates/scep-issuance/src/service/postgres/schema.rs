//! The tables, and how an older database becomes a newer one.

use super::connection::{Connection, failed};
use super::dialect;
use crate::service::store::StoreError;

/// "SCEI": the first half of the advisory lock under which a schema is made; the other half is its name's hash.
const LOCK: i32 = 0x5343_4549;

/// One row: the version, and the lock that whoever writes takes first.
const VERSION: &str = "CREATE TABLE issuer_schema (\
     one BIGINT PRIMARY KEY CHECK (one = 1), version BIGINT NOT NULL); \
     INSERT INTO issuer_schema VALUES (1, 0);\n";

pub(super) fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Brings the schema up to date in one transaction, under a lock that keeps two issuers from doing it at once.
pub(super) async fn migrate(
    conn: &Connection,
    schema: &str,
    migrations: &[&str],
) -> Result<(), StoreError> {
    let client = &conn.client;
    let all = |error: tokio_postgres::Error| failed(&error);
    // An error ends the opening, and with it the connection and the transaction.
    client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await.map_err(all)?;
    let lock = "SELECT pg_advisory_xact_lock($1, hashtext($2))";
    client.query(lock, &[&LOCK, &schema]).await.map_err(all)?;
    let found = version(conn, schema).await?;
    let known = migrations.len();
    let Some(missing) = migrations.get(found.unwrap_or(0)..) else {
        return Err(StoreError::Newer { found: found.unwrap_or(usize::MAX), known });
    };
    let mut script = String::new();
    if found.is_none() {
        let there = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1";
        // Who may not make schemas may have been given one.
        if client.query(there, &[&schema]).await.map_err(all)?.is_empty() {
            script.push_str(&format!("CREATE SCHEMA \"{schema}\";\n"));
        }
        script.push_str(VERSION);
    }
    if !missing.is_empty() {
        // Others that run wait until it is done.
        script.push_str("SELECT version FROM issuer_schema FOR UPDATE;\n");
        script.extend(missing.iter().map(|migration| dialect::migration(migration)));
        script.push_str(&format!("UPDATE issuer_schema SET version = {known};\n"));
        client.batch_execute(&script).await.map_err(all)?;
    }
    client.batch_execute("COMMIT").await.map_err(all)
}

/// The schema's version; `None` when it is empty or missing.
async fn version(conn: &Connection, schema: &str) -> Result<Option<usize>, StoreError> {
    let all = |error: tokio_postgres::Error| failed(&error);
    let foreign = || StoreError::Foreign { schema: schema.to_owned() };
    let names = "SELECT c.relname::text FROM pg_catalog.pg_class c \
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1";
    let rows = conn.client.query(names, &[&schema]).await.map_err(all)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let is_ours = |row: &tokio_postgres::Row| {
        row.try_get::<_, String>(0).is_ok_and(|name| name == "issuer_schema")
    };
    if !rows.iter().any(is_ours) {
        return Err(foreign());
    }
    let rows = conn.client.query("SELECT version FROM issuer_schema", &[]).await.map_err(all)?;
    let version: Option<i64> = rows.first().and_then(|row| row.try_get(0).ok());
    Ok(Some(usize::try_from(version.ok_or_else(foreign)?).map_err(|_| foreign())?))
}
