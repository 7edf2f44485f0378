//! What each connector was told, and is known to have taken in.
//!
//! An answer may be lost, so what it carries is known to the connector only once the connector says the answer's number
//! as the last that it has accepted. Until then it is told again.

use crate::service::db::{Tx, values};
use crate::service::store::StoreError;
use scep_types::ConnectorId;
use std::collections::BTreeMap;

/// What a connector has taken in, by topic.
pub(crate) type Known = BTreeMap<String, String>;

/// What it has taken in.
pub(crate) fn known(tx: &Tx<'_>, connector: &str) -> Result<Known, StoreError> {
    let sql = "SELECT topic, known FROM told WHERE connector = ?1 AND known IS NOT NULL";
    let rows = tx.query(sql, values![connector], |row| {
        Ok::<(String, String), StoreError>((row.get(0)?, row.get(1)?))
    })?;
    Ok(rows.into_iter().collect())
}

/// The connector says that it has accepted the answer with this number, and none after it: what that one carried is
/// known. What a later one carried is not, whatever it said before: its state is that of an earlier day.
pub(crate) fn accepted(tx: &Tx<'_>, connector: &str, sequence: i64) -> Result<(), StoreError> {
    let sql = "UPDATE told SET known = NULL, known_in = NULL \
               WHERE connector = ?1 AND known_in > ?2";
    tx.execute(sql, values![connector, sequence])?;
    let sql = "UPDATE told SET known = sent, known_in = sent_in, sent = NULL, sent_in = NULL \
               WHERE connector = ?1 AND sent_in = ?2";
    tx.execute(sql, values![connector, sequence]).map(drop)
}

/// The answer with this number tells it this.
pub(crate) fn send(
    tx: &Tx<'_>,
    connector: &str,
    sequence: i64,
    sent: &[(String, String)],
) -> Result<(), StoreError> {
    for (topic, content) in sent {
        tx.execute(
            "INSERT INTO told (connector, topic, sent, sent_in) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (connector, topic) DO UPDATE SET \
             sent = excluded.sent, sent_in = excluded.sent_in",
            values![connector, topic, content, sequence],
        )?;
    }
    Ok(())
}

/// Something that needs not be told any more: its topic is done with.
pub(crate) fn forget(tx: &Tx<'_>, connector: &str, topic: &str) -> Result<(), StoreError> {
    let sql = "DELETE FROM told WHERE connector = ?1 AND topic = ?2";
    tx.execute(sql, values![connector, topic]).map(drop)
}

/// A connector begins: the number that its last answer is taken to have had.
pub(crate) fn begin(tx: &Tx<'_>, connector: ConnectorId) -> Result<i64, StoreError> {
    let sql = "INSERT INTO connector_contact \
               (connector, sequence, arrivals, refusals, alarms) \
               VALUES (?1, 1, 0, 0, '[]') \
               ON CONFLICT (connector) DO UPDATE SET sequence = connector_contact.sequence + 1 \
               RETURNING sequence";
    let sequence = tx.one(sql, values![&connector.to_string()], |row| row.get(0))?;
    sequence.ok_or(StoreError::Column { column: 0 })
}

/// It knows this since that answer.
pub(crate) fn know(
    tx: &Tx<'_>,
    connector: ConnectorId,
    topic: &str,
    content: &str,
    sequence: i64,
) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO told (connector, topic, known, known_in) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (connector, topic) DO UPDATE SET known = excluded.known, \
         known_in = excluded.known_in, sent = NULL, sent_in = NULL",
        values![&connector.to_string(), topic, content, sequence],
    )
    .map(drop)
}
