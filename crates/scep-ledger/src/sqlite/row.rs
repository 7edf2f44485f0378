//! Columns back into types. A value that does not fit its type means a damaged file, never a default.

use super::engine;
use crate::LedgerError;
use rusqlite::types::FromSql;
use rusqlite::{Connection, Params, Row};
use scep_types::{IdError, Timestamp};

/// Reads the rows of a query, each by `read`.
pub(super) fn list<T>(
    conn: &Connection,
    sql: &'static str,
    params: impl Params,
    read: impl Fn(&Row<'_>) -> Result<T, LedgerError>,
) -> Result<Vec<T>, LedgerError> {
    let failed = engine("read");
    let mut statement = conn.prepare_cached(sql).map_err(&failed)?;
    let mut rows = statement.query(params).map_err(&failed)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next().map_err(&failed)? {
        all.push(read(row)?);
    }
    Ok(all)
}

/// Reads the first row of a query, if there is one.
pub(super) fn first<T>(
    conn: &Connection,
    sql: &'static str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> Result<T, LedgerError>,
) -> Result<Option<T>, LedgerError> {
    let failed = engine("read");
    let mut statement = conn.prepare_cached(sql).map_err(&failed)?;
    let mut rows = statement.query(params).map_err(&failed)?;
    rows.next().map_err(&failed)?.map(read).transpose()
}

/// Changes something; gives how many rows.
pub(super) fn change(
    conn: &Connection,
    sql: &'static str,
    params: impl Params,
) -> Result<usize, LedgerError> {
    conn.prepare_cached(sql)
        .and_then(|mut statement| statement.execute(params))
        .map_err(engine("write"))
}

/// Whether the query finds a row.
pub(super) fn exists(
    conn: &Connection,
    sql: &'static str,
    params: impl Params,
) -> Result<bool, LedgerError> {
    conn.prepare_cached(sql)
        .and_then(|mut statement| statement.exists(params))
        .map_err(engine("read"))
}

/// One column, named for the case that it is damaged.
pub(super) fn get<T: FromSql>(
    row: &Row<'_>,
    at: usize,
    what: &'static str,
) -> Result<T, LedgerError> {
    row.get(at).map_err(|_| LedgerError::Damaged { what })
}

/// A text id.
pub(super) fn id<T>(
    row: &Row<'_>,
    at: usize,
    what: &'static str,
    new: impl FnOnce(String) -> Result<T, IdError>,
) -> Result<T, LedgerError> {
    new(get(row, at, what)?).map_err(|_| LedgerError::Damaged { what })
}

/// A text id that may be absent.
pub(super) fn optional_id<T>(
    row: &Row<'_>,
    at: usize,
    what: &'static str,
    new: impl FnOnce(String) -> Result<T, IdError>,
) -> Result<Option<T>, LedgerError> {
    get::<Option<String>>(row, at, what)?
        .map(new)
        .transpose()
        .map_err(|_| LedgerError::Damaged { what })
}

/// An instant.
pub(super) fn time(row: &Row<'_>, at: usize, what: &'static str) -> Result<Timestamp, LedgerError> {
    get(row, at, what).map(Timestamp::from_seconds)
}

/// An unsigned number, stored as SQLite's signed one.
pub(super) fn number<T: TryFrom<i64>>(
    row: &Row<'_>,
    at: usize,
    what: &'static str,
) -> Result<T, LedgerError> {
    T::try_from(get::<i64>(row, at, what)?).map_err(|_| LedgerError::Damaged { what })
}

/// A row number or limit as SQLite's signed one; what does not fit is beyond every row.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
