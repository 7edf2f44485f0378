//! Fills a ledger with copies of what is in it, by SQL: certificates of other devices, each with names and hashes of its own.

use crate::Result;
use crate::server::Gateway;
use rusqlite::Connection;
use scep_testkit::postgres::Cluster;
use std::path::Path;

/// The columns that differ from row to row. What is not here is copied, so that a new column needs nothing.
const CERTIFICATE: &[(&str, Value)] = &[
    ("id", Value::Number),
    ("device", Value::Name),
    ("challenge", Value::Random(16)),
    ("transaction_id", Value::Name),
    ("fingerprint", Value::Random(32)),
    ("spki_hash", Value::Random(32)),
];
const CERTIFICATE_NAME: &[(&str, Value)] =
    &[("certificate", Value::Number), ("serial", Value::Random(16))];

/// A value of a row.
#[derive(Clone, Copy, Debug)]
enum Value {
    /// The row's number.
    Number,
    /// A text with it.
    Name,
    /// Octets.
    Random(u8),
}

/// How many rows are made by one statement.
const PAGE: u64 = 50_000;

/// Adds so many certificates to the ledger of a gateway that is stopped and has issued one.
pub(crate) fn fill(gateway: &Gateway, rows: u64) -> Result<()> {
    match gateway.cluster() {
        None => sqlite(&gateway.sqlite(), rows),
        Some(cluster) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(postgres(cluster, rows))
        }
    }
}

/// The columns of a copy: `value` for those that differ, and their own name for the rest.
fn columns(
    all: &[String],
    differ: &[(&str, Value)],
    value: impl Fn(Value) -> String,
) -> Result<(String, String)> {
    if let Some((missing, _)) = differ.iter().find(|(name, _)| !all.iter().any(|own| own == name)) {
        return Err(format!("the ledger has no column {missing} any more").into());
    }
    let values = all.iter().map(|name| {
        let found = differ.iter().find(|(other, _)| other == name);
        found.map_or_else(|| format!("t.\"{name}\""), |(_, kind)| value(*kind))
    });
    let names: Vec<String> = all.iter().map(|name| format!("\"{name}\"")).collect();
    Ok((names.join(", "), values.collect::<Vec<_>>().join(", ")))
}

fn sqlite(file: &Path, rows: u64) -> Result<()> {
    let conn = Connection::open(file)?;
    conn.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000;")?;
    let all = |table: &str| -> Result<Vec<String>> {
        let mut statement = conn.prepare("SELECT name FROM pragma_table_info(?1)")?;
        let names = statement.query_map([table], |row| row.get(0))?;
        Ok(names.collect::<rusqlite::Result<_>>()?)
    };
    let value = |kind| match kind {
        Value::Number => "n".to_owned(),
        Value::Name => "'filled-' || n".to_owned(),
        Value::Random(length) => format!("randomblob({length})"),
    };
    let base: i64 = conn.query_row("SELECT max(id) FROM certificate", [], |row| row.get(0))?;
    let (names, values) = columns(&all("certificate")?, CERTIFICATE, value)?;
    let certificates = format!(
        "WITH RECURSIVE numbers(n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?2) \
         INSERT INTO certificate ({names}) SELECT {values} FROM numbers, certificate t WHERE t.id = ?3"
    );
    let (names, values) = columns(&all("certificate_name")?, CERTIFICATE_NAME, value)?;
    let named = format!(
        "WITH RECURSIVE numbers(n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?2) \
         INSERT INTO certificate_name ({names}) SELECT {values} FROM numbers, certificate_name t \
         WHERE t.certificate = ?3"
    );
    for (from, to) in pages(rows) {
        let unit = conn.unchecked_transaction()?;
        let range = (base.saturating_add(from), base.saturating_add(to), base);
        unit.execute(&certificates, range)?;
        unit.execute(&named, range)?;
        unit.commit()?;
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    drop(conn);
    // Else the gateway, which syncs the file at its start, would wait for what was written here.
    Ok(std::fs::File::open(file)?.sync_all()?)
}

async fn postgres(cluster: &Cluster, rows: u64) -> Result<()> {
    let (client, connection) =
        tokio_postgres::connect(&cluster.by_socket(), tokio_postgres::NoTls).await?;
    let running = tokio::spawn(connection);
    client.batch_execute("SET search_path = scep_ledger; SET synchronous_commit = off").await?;
    let all = async |table: &str| -> Result<Vec<String>> {
        let sql = "SELECT column_name::text FROM information_schema.columns \
                   WHERE table_schema = 'scep_ledger' AND table_name = $1";
        let rows = client.query(sql, &[&table]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    };
    let value = |kind| match kind {
        Value::Number => "n".to_owned(),
        Value::Name => "'filled-' || n".to_owned(),
        Value::Random(length) => {
            format!("substr(sha256((n || ':' || random())::bytea), 1, {length})")
        }
    };
    let base: i64 = client.query_one("SELECT max(id) FROM certificate", &[]).await?.try_get(0)?;
    let (names, values) = columns(&all("certificate").await?, CERTIFICATE, value)?;
    let certificates = format!(
        "INSERT INTO certificate ({names}) OVERRIDING SYSTEM VALUE \
         SELECT {values} FROM generate_series($1::bigint, $2::bigint) n, certificate t WHERE t.id = $3"
    );
    let (names, values) = columns(&all("certificate_name").await?, CERTIFICATE_NAME, value)?;
    let named = format!(
        "INSERT INTO certificate_name ({names}) SELECT {values} \
         FROM generate_series($1::bigint, $2::bigint) n, certificate_name t WHERE t.certificate = $3"
    );
    for (from, to) in pages(rows) {
        let (from, to) = (base.saturating_add(from), base.saturating_add(to));
        client.execute(&certificates, &[&from, &to, &base]).await?;
        client.execute(&named, &[&from, &to, &base]).await?;
    }
    let sequence =
        "SELECT setval(pg_get_serial_sequence('certificate', 'id'), max(id)) FROM certificate";
    client.execute(sequence, &[]).await?;
    client.batch_execute("ANALYZE; CHECKPOINT").await?;
    drop(client);
    Ok(running.await??)
}

/// First and last number of each page, from 1 on.
fn pages(rows: u64) -> impl Iterator<Item = (i64, i64)> {
    let number = |row: u64| i64::try_from(row).unwrap_or(i64::MAX);
    let starts = (0..rows.div_ceil(PAGE)).map(|page| page.saturating_mul(PAGE));
    starts.map(move |start| {
        (number(start.saturating_add(1)), number(start.saturating_add(PAGE).min(rows)))
    })
}

/// What the ledger takes on disk, octets. `at_rest`: once its log is written back, which nobody else may hold open then.
pub(crate) fn octets(gateway: &Gateway) -> Result<u64> {
    let Some(cluster) = gateway.cluster() else {
        let file = gateway.sqlite();
        let conn = Connection::open(&file)?;
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        drop(conn);
        return Ok(std::fs::metadata(file)?.len());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (client, connection) =
            tokio_postgres::connect(&cluster.by_socket(), tokio_postgres::NoTls).await?;
        let running = tokio::spawn(connection);
        let sql = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c \
                   JOIN pg_namespace n ON n.oid = c.relnamespace \
                   WHERE n.nspname = 'scep_ledger' AND c.relkind = 'r'";
        let size: i64 = client.query_one(sql, &[]).await?.try_get(0)?;
        drop(client);
        running.await??;
        Ok(u64::try_from(size)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sceptic_benches::Bench;

    #[test]
    fn pages_are_all_rows_once() {
        assert_eq!(pages(0).count(), 0);
        assert_eq!(pages(1).collect::<Vec<_>>(), [(1, 1)]);
        let two = [(1, 50_000), (50_001, 50_001)];
        assert_eq!(pages(50_001).collect::<Vec<_>>(), two);
    }

    #[test]
    fn a_filled_ledger_is_one_that_opens_and_counts() {
        let bench = Bench::new();
        let (permit, unsettled, _) = bench.admit(bench.until_decided(&bench.prepare().message));
        let conforming = bench.issue(permit, &unsettled);
        drop(bench.record(unsettled, conforming));
        let file = bench.ledger_file();
        // Beside its own writer, which is idle.
        sqlite(&file, 70_000).unwrap();
        let conn = Connection::open(&file).unwrap();
        let count = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count("SELECT count(*) FROM certificate"), 70_001);
        assert_eq!(count("SELECT count(DISTINCT certificate) FROM certificate_name"), 70_001);
        assert_eq!(count("SELECT count(*) FROM pragma_foreign_key_check"), 0);
        // And it goes on from there.
        let decided = bench.until_decided(&bench.prepare().message);
        let (permit, unsettled, _) = bench.admit(decided);
        let conforming = bench.issue(permit, &unsettled);
        drop(bench.record(unsettled, conforming));
        assert_eq!(count("SELECT max(id) FROM certificate"), 70_002);
    }
}
