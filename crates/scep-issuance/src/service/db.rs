//! One way to speak SQL to whatever database the issuer has: values in, rows out, and constraints told apart.
//!
//! Statements are written once, in what SQLite and PostgreSQL have in common, with `?1`, `?2`, … for values.

#[cfg(feature = "postgres")]
use crate::service::postgres;
use crate::service::store::StoreError;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{ToSql, Transaction};

/// A value of a statement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    /// None of the values of this kind.
    Null(Kind),
    Integer(i64),
    Text(&'a str),
    Blob(&'a [u8]),
}

/// What a value is when there is one. SQLite does not care; PostgreSQL must be told, as it cannot always guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Integer,
    Text,
    Blob,
}

/// What a value can be made of.
pub(crate) trait Kinded {
    const KIND: Kind;
}

impl Kinded for i64 {
    const KIND: Kind = Kind::Integer;
}

impl Kinded for &str {
    const KIND: Kind = Kind::Text;
}

impl Kinded for &String {
    const KIND: Kind = Kind::Text;
}

impl Kinded for &[u8] {
    const KIND: Kind = Kind::Blob;
}

impl Kinded for &Vec<u8> {
    const KIND: Kind = Kind::Blob;
}

impl<const N: usize> Kinded for &[u8; N] {
    const KIND: Kind = Kind::Blob;
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(value: &'a String) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Blob(value)
    }
}

impl<'a> From<&'a Vec<u8>> for Value<'a> {
    fn from(value: &'a Vec<u8>) -> Self {
        Self::Blob(value)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Value<'a> {
    fn from(value: &'a [u8; N]) -> Self {
        Self::Blob(value)
    }
}

impl<'a, T: Into<Self> + Kinded> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null(T::KIND), Into::into)
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null(_) => ValueRef::Null,
            Self::Integer(value) => ValueRef::Integer(*value),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
            Self::Blob(value) => ValueRef::Blob(value),
        }))
    }
}

/// The values of a statement, in order.
macro_rules! values {
    ($($value:expr),* $(,)?) => { &[$($crate::service::db::Value::from($value)),*] };
}
pub(crate) use values;

/// What a column holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Integer(i64),
    Text(String),
    Blob(Vec<u8>),
}

/// A type that a column can be read as.
pub(crate) trait FromCell: Sized {
    fn from_cell(cell: &Cell) -> Option<Self>;
}

impl FromCell for i64 {
    fn from_cell(cell: &Cell) -> Option<Self> {
        match cell {
            Cell::Integer(value) => Some(*value),
            _ => None,
        }
    }
}

impl FromCell for String {
    fn from_cell(cell: &Cell) -> Option<Self> {
        match cell {
            Cell::Text(value) => Some(value.clone()),
            _ => None,
        }
    }
}

impl FromCell for Vec<u8> {
    fn from_cell(cell: &Cell) -> Option<Self> {
        match cell {
            Cell::Blob(value) => Some(value.clone()),
            _ => None,
        }
    }
}

impl<const N: usize> FromCell for [u8; N] {
    fn from_cell(cell: &Cell) -> Option<Self> {
        match cell {
            Cell::Blob(value) => value.as_slice().try_into().ok(),
            _ => None,
        }
    }
}

impl<T: FromCell> FromCell for Option<T> {
    fn from_cell(cell: &Cell) -> Option<Self> {
        match cell {
            Cell::Null => Some(None),
            cell => T::from_cell(cell).map(Some),
        }
    }
}

/// One row of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row(Vec<Cell>);

impl Row {
    /// The column at this place, counted from 0.
    pub(crate) fn get<T: FromCell>(&self, column: usize) -> Result<T, StoreError> {
        self.0.get(column).and_then(T::from_cell).ok_or(StoreError::Column { column })
    }

    #[cfg(feature = "postgres")]
    pub(crate) const fn new(cells: Vec<Cell>) -> Self {
        Self(cells)
    }

    fn sqlite(row: &rusqlite::Row<'_>, columns: usize) -> rusqlite::Result<Self> {
        let cell = |column| {
            Ok(match row.get_ref(column)? {
                ValueRef::Null => Cell::Null,
                ValueRef::Integer(value) => Cell::Integer(value),
                ValueRef::Text(value) => Cell::Text(String::from_utf8_lossy(value).into_owned()),
                ValueRef::Blob(value) => Cell::Blob(value.to_vec()),
                ValueRef::Real(_) => return Err(rusqlite::Error::InvalidQuery),
            })
        };
        (0..columns).map(cell).collect::<rusqlite::Result<_>>().map(Self)
    }
}

/// A transaction of whichever database it is.
pub(crate) struct Tx<'a> {
    inner: Inner<'a>,
}

enum Inner<'a> {
    Sqlite(&'a Transaction<'a>),
    #[cfg(feature = "postgres")]
    Postgres(&'a postgres::Transaction<'a>),
}

impl<'a> Tx<'a> {
    pub(crate) const fn sqlite(transaction: &'a Transaction<'a>) -> Self {
        Self { inner: Inner::Sqlite(transaction) }
    }

    #[cfg(feature = "postgres")]
    pub(super) const fn postgres(transaction: &'a postgres::Transaction<'a>) -> Self {
        Self { inner: Inner::Postgres(transaction) }
    }

    /// Changes rows; gives how many.
    pub(crate) fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<usize, StoreError> {
        match &self.inner {
            Inner::Sqlite(tx) => {
                let values = rusqlite::params_from_iter(values);
                Ok(tx.prepare_cached(sql)?.execute(values)?)
            }
            #[cfg(feature = "postgres")]
            Inner::Postgres(tx) => tx.execute(sql, values),
        }
    }

    /// Every row of the answer, read by `item`. The statement may change something and say `RETURNING`.
    pub(crate) fn query<T, E: From<StoreError>>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        item: impl FnMut(&Row) -> Result<T, E>,
    ) -> Result<Vec<T>, E> {
        self.rows(sql, values)?.iter().map(item).collect()
    }

    /// The first row of the answer, if there is one.
    pub(crate) fn one<T, E: From<StoreError>>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        item: impl FnOnce(&Row) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        self.rows(sql, values)?.first().map(item).transpose()
    }

    /// Whether the answer has a row.
    pub(crate) fn exists(&self, sql: &str, values: &[Value<'_>]) -> Result<bool, StoreError> {
        Ok(!self.rows(sql, values)?.is_empty())
    }

    fn rows(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        match &self.inner {
            Inner::Sqlite(tx) => {
                let mut statement = tx.prepare_cached(sql)?;
                let columns = statement.column_count();
                let values = rusqlite::params_from_iter(values);
                let rows = statement.query_map(values, |row| Row::sqlite(row, columns))?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            }
            #[cfg(feature = "postgres")]
            Inner::Postgres(tx) => tx.rows(sql, values),
        }
    }
}
