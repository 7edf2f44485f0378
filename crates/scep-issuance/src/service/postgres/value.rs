//! Values on their way to the server, and columns on their way back.

use crate::service::db::{Cell, Kind, Value};
use core::error::Error;
use tokio_postgres::types::{FromSql, ToSql, Type};

type Boxed = Box<dyn Error + Sync + Send>;

/// What a statement is prepared for. Without it the server would guess: next to a small number written in a statement,
/// one of 32 bits; and `?1 IS NULL` would leave it without a guess.
pub(super) const fn type_of(value: &Value<'_>) -> Type {
    match value {
        Value::Integer(_) | Value::Null(Kind::Integer) => Type::INT8,
        Value::Text(_) | Value::Null(Kind::Text) => Type::TEXT,
        Value::Blob(_) | Value::Null(Kind::Blob) => Type::BYTEA,
    }
}

/// What a value is sent as.
pub(super) type Parameter<'a> = Box<dyn ToSql + Sync + 'a>;

/// The value as a parameter of that type.
///
/// PostgreSQL's texts cannot have U+0000, and SQLite's can. Nothing that has a form may have one, but what somebody else
/// has written (a detail, a reason) may; refused, it would come again and again. It is replaced, here and so for
/// whatever is compared with it.
pub(super) fn parameter<'a>(value: &'a Value<'a>) -> Parameter<'a> {
    match value {
        Value::Integer(number) => Box::new(number),
        Value::Text(text) if text.contains('\0') => Box::new(text.replace('\0', "\u{fffd}")),
        Value::Text(text) => Box::new(text),
        Value::Blob(octets) => Box::new(octets),
        Value::Null(Kind::Integer) => Box::new(None::<i64>),
        Value::Null(Kind::Text) => Box::new(None::<&str>),
        Value::Null(Kind::Blob) => Box::new(None::<&[u8]>),
    }
}

impl<'a> FromSql<'a> for Cell {
    fn from_sql(from: &Type, raw: &'a [u8]) -> Result<Self, Boxed> {
        Ok(match *from {
            Type::INT8 => Self::Integer(i64::from_sql(from, raw)?),
            Type::INT4 => Self::Integer(i32::from_sql(from, raw)?.into()),
            Type::INT2 => Self::Integer(i16::from_sql(from, raw)?.into()),
            // SQLite has no other.
            Type::BOOL => Self::Integer(bool::from_sql(from, raw)?.into()),
            // What a sum of whole numbers is.
            Type::NUMERIC => Self::Integer(whole(raw).ok_or("no whole number of 64 bits")?),
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN => {
                Self::Text(core::str::from_utf8(raw)?.to_owned())
            }
            Type::BYTEA => Self::Blob(raw.to_vec()),
            _ => return Err(format!("a column is {from}").into()),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Boxed> {
        Ok(Self::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A NUMERIC: how many digits to the base of 10,000, the power of the first, sign, decimals shown; the digits.
fn whole(raw: &[u8]) -> Option<i64> {
    let mut words = raw.chunks(2).map(|word| word.try_into().ok().map(i16::from_be_bytes));
    let mut next = || words.next().flatten();
    let (count, weight, sign, _) = (next()?, next()?, next()?, next()?);
    let mut value = 0_i128;
    for place in 0..count.max(weight.checked_add(1)?) {
        let digit = if place < count { next()? } else { 0 };
        if place > weight {
            // Behind the point.
            if digit != 0 {
                return None;
            }
            continue;
        }
        value = value.checked_mul(10_000)?.checked_add(digit.into())?;
    }
    match sign {
        0 => i64::try_from(value).ok(),
        0x4000 => i64::try_from(value.checked_neg()?).ok(),
        // No number, or infinite.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_of_any_width_are_read() {
        let numeric = |words: &[i16]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_be_bytes()).collect()
        };
        for (words, expected) in [
            ([0, 0, 0, 0].as_slice(), Some(0)),
            (&[1, 0, 0, 0, 7], Some(7)),
            (&[1, 1, 0, 0, 7], Some(70_000)),
            (&[2, 1, 0x4000, 0, 1, 2], Some(-10_002)),
            (&[5, 4, 0, 0, 922, 3372, 368, 5477, 5807], Some(i64::MAX)),
            (&[5, 4, 0, 0, 922, 3372, 368, 5477, 5808], None),
            (&[5, 4, 0x4000, 0, 922, 3372, 368, 5477, 5808], Some(i64::MIN)),
            // 1.5, 1.0 with its zero, a fraction, not a number, cut short.
            (&[2, 0, 0, 1, 1, 5000], None),
            (&[2, 0, 0, 1, 1, 0], Some(1)),
            (&[1, -1, 0, 1, 5000], None),
            (&[0, 0, -0x4000, 0], None),
            (&[2, 1, 0, 0, 1], None),
            (&[0, 0, 0], None),
        ] {
            assert_eq!(whole(&numeric(words)), expected, "{words:?}");
        }
    }
}
