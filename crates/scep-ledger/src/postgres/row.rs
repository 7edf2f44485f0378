//! Columns back into types. A value that does not fit its type means a damaged database, never a default.

use crate::LedgerError;
use scep_types::{IdError, Timestamp};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

/// One column, named for the case that it is damaged.
pub(super) fn get<'a, T: FromSql<'a>>(
    row: &'a Row,
    at: usize,
    what: &'static str,
) -> Result<T, LedgerError> {
    row.try_get(at).map_err(|_| LedgerError::Damaged { what })
}

/// So many octets.
pub(super) fn octets<const N: usize>(
    row: &Row,
    at: usize,
    what: &'static str,
) -> Result<[u8; N], LedgerError> {
    get::<&[u8]>(row, at, what)?.try_into().map_err(|_| LedgerError::Damaged { what })
}

/// So many octets, or none.
pub(super) fn optional_octets<const N: usize>(
    row: &Row,
    at: usize,
    what: &'static str,
) -> Result<Option<[u8; N]>, LedgerError> {
    get::<Option<&[u8]>>(row, at, what)?
        .map(|octets| octets.try_into().map_err(|_| LedgerError::Damaged { what }))
        .transpose()
}

/// A text id.
pub(super) fn id<T>(
    row: &Row,
    at: usize,
    what: &'static str,
    new: impl FnOnce(String) -> Result<T, IdError>,
) -> Result<T, LedgerError> {
    new(get(row, at, what)?).map_err(|_| LedgerError::Damaged { what })
}

/// A text id that may be absent.
pub(super) fn optional_id<T>(
    row: &Row,
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
pub(super) fn time(row: &Row, at: usize, what: &'static str) -> Result<Timestamp, LedgerError> {
    get(row, at, what).map(Timestamp::from_seconds)
}

/// An unsigned number, stored as a signed one.
pub(super) fn number<T: TryFrom<i64>>(
    row: &Row,
    at: usize,
    what: &'static str,
) -> Result<T, LedgerError> {
    T::try_from(get::<i64>(row, at, what)?).map_err(|_| LedgerError::Damaged { what })
}

/// A row number or limit as a signed one; what does not fit is beyond every row.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
