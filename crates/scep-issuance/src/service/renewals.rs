//! Orders to connectors to renew a key.

use crate::service::changes;
use crate::service::db::{Row, Tx, values};
use crate::service::store::StoreError;
use scep_link::{RenewalOrder, RenewalSubject};
use scep_types::{ConnectorId, OrderId, TenantId, Timestamp};
use sha2::{Digest as _, Sha256};

/// Most in one answer.
const MOST: i64 = 8;

pub(crate) const fn subject_name(subject: RenewalSubject) -> &'static str {
    match subject {
        RenewalSubject::Authentication => "authentication",
        RenewalSubject::Decryption => "decryption",
    }
}

/// Orders a connector to renew a key until an instant. An order of the same that is open stays; its instant becomes
/// the earlier one. Gives the order.
pub(crate) fn order(
    tx: &Tx<'_>,
    connector: ConnectorId,
    subject: RenewalSubject,
    by: Timestamp,
) -> Result<OrderId, StoreError> {
    let (id, name) = (connector.to_string(), subject_name(subject));
    let sql = "SELECT tenant FROM connector WHERE id = ?1";
    let tenant: Option<String> = tx.one(sql, values![&id], |row| row.get(0))?;
    let tenant = tenant.ok_or(StoreError::Reference)?;
    let tenant = TenantId::new(tenant).map_err(|_| StoreError::Column { column: 0 })?;
    let sql = "SELECT id, subject, due FROM renewal_order \
               WHERE connector = ?1 AND subject = ?2 AND done_at IS NULL";
    if let Some(open) = tx.one(sql, values![&id, name], read)? {
        if by < open.by {
            let sql = "UPDATE renewal_order SET due = ?2 WHERE id = ?1";
            tx.execute(sql, values![&open.order.to_string(), by.seconds()])?;
            changes::note(tx, &tenant)?;
        }
        return Ok(open.order);
    }
    let sql = "SELECT number FROM renewal_order WHERE connector = ?1 ORDER BY number DESC LIMIT 1";
    let last: Option<i64> = tx.one(sql, values![&id], |row| row.get(0))?;
    let number = last.unwrap_or(0).saturating_add(1);
    // An order's id must be one of a kind, not unforeseeable.
    let hash: [u8; 32] =
        Sha256::digest(format!("renewal order\n{tenant}\n{connector}\n{name}\n{number}\n")).into();
    let (first, _) = hash.split_first_chunk::<16>().ok_or(StoreError::Column { column: 0 })?;
    let order = OrderId::from_bytes(*first);
    tx.execute(
        "INSERT INTO renewal_order (id, connector, number, subject, due) \
         VALUES (?1, ?2, ?3, ?4, ?5)",
        values![&order.to_string(), &id, number, name, by.seconds()],
    )?;
    changes::note(tx, &tenant)?;
    Ok(order)
}

/// A connector has renewed a key: orders to do so are done.
pub(crate) fn done(
    tx: &Tx<'_>,
    connector: ConnectorId,
    subject: RenewalSubject,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE renewal_order SET done_at = ?3 \
               WHERE connector = ?1 AND subject = ?2 AND done_at IS NULL";
    let (id, name) = (connector.to_string(), subject_name(subject));
    tx.execute(sql, values![&id, name, now.seconds()]).map(drop)
}

/// The orders that a connector has not yet fulfilled.
pub(crate) fn open(tx: &Tx<'_>, connector: ConnectorId) -> Result<Vec<RenewalOrder>, StoreError> {
    let sql = "SELECT id, subject, due FROM renewal_order \
               WHERE connector = ?1 AND done_at IS NULL ORDER BY number LIMIT ?2";
    tx.query(sql, values![&connector.to_string(), MOST], read)
}

fn read(row: &Row) -> Result<RenewalOrder, StoreError> {
    let (id, subject): (String, String) = (row.get(0)?, row.get(1)?);
    let order = OrderId::from_hex(&id).ok_or(StoreError::Column { column: 0 })?;
    let subject = match subject.as_str() {
        "authentication" => RenewalSubject::Authentication,
        _ => RenewalSubject::Decryption,
    };
    Ok(RenewalOrder { order, subject, by: Timestamp::from_seconds(row.get(2)?) })
}
