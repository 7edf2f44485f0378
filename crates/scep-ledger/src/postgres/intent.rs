//! Intents out of their rows.

use super::enrolment::state;
use super::row::{get, id, number, octets, optional_id, optional_octets, time};
use super::unit::Unit;
use crate::LedgerError;
use crate::store::{Intent, OpenIntent, grounds_from};
use scep_types::{
    AuthorityName, CertificateFingerprint, ChallengeId, CsrInfoHash, DeviceId, GatewayGroupId,
    ProfileId, SerialNumber, SpkiDer, SpkiHash, TenantId, TransactionId, UserId,
};
use tokio_postgres::Row;

/// This gateway's intents without an outcome, and those of gateways whose lease is over, which become this one's: two
/// recoveries do not work on the same.
pub(super) async fn claim(unit: &mut Unit) -> Result<Vec<OpenIntent>, LedgerError> {
    let instance = unit.instance;
    unit.query(
        "UPDATE enrolment e SET owner = $1 WHERE state IN (0, 1, 7) \
         AND owner <> $1 \
         AND NOT EXISTS (SELECT 1 FROM gateway g \
         WHERE g.instance = e.owner AND g.lease_until > clock_timestamp())",
        &[&instance.octets()],
    )
    .await?;
    let rows = unit
        .query(
            "SELECT id, state, tenant, challenge, issued_at, expires_at, device, profile, user_id, \
             audience, info_hash, spki, signer, transaction_id, serial, expected, admitted_at, authority, \
             grounds, predecessor, generation, renewable_by, failures FROM enrolment \
             WHERE state IN (0, 1, 7) AND owner = $1 ORDER BY id",
            &[&instance.octets()],
        )
        .await?;
    rows.iter().map(open_intent).collect()
}

/// The intent of a row.
pub(super) async fn intent_of(
    unit: &mut Unit,
    row: i64,
) -> Result<Option<OpenIntent>, LedgerError> {
    let rows = unit
        .query(
            "SELECT id, state, tenant, challenge, issued_at, expires_at, device, profile, user_id, \
             audience, info_hash, spki, signer, transaction_id, serial, expected, admitted_at, authority, \
             grounds, predecessor, generation, renewable_by, failures FROM enrolment WHERE id = $1",
            &[&row],
        )
        .await?;
    rows.first().map(open_intent).transpose()
}

pub(super) fn open_intent(row: &Row) -> Result<OpenIntent, LedgerError> {
    let damaged = |what| LedgerError::Damaged { what };
    Ok(OpenIntent {
        row: get(row, 0, "enrolment.id")?,
        state: state(row, 1)?,
        failures: number(row, 22, "enrolment.failures")?,
        intent: Intent {
            tenant: id(row, 2, "enrolment.tenant", TenantId::new)?,
            challenge: octets(row, 3, "enrolment.challenge").map(ChallengeId::from_bytes)?,
            issued_at: time(row, 4, "enrolment.issued_at")?,
            expires_at: time(row, 5, "enrolment.expires_at")?,
            device: id(row, 6, "enrolment.device", DeviceId::new)?,
            profile: id(row, 7, "enrolment.profile", ProfileId::new)?,
            user: optional_id(row, 8, "enrolment.user_id", UserId::new)?,
            audience: id(row, 9, "enrolment.audience", GatewayGroupId::new)?,
            info: octets(row, 10, "enrolment.info_hash").map(CsrInfoHash::from_bytes)?,
            spki: SpkiDer::parse(get::<&[u8]>(row, 11, "enrolment.spki")?)
                .map_err(|_| damaged("enrolment.spki"))?,
            signer: octets(row, 12, "enrolment.signer").map(SpkiHash::from_bytes)?,
            transaction: id(row, 13, "enrolment.transaction_id", TransactionId::new)?,
            serial: get::<Option<&[u8]>>(row, 14, "enrolment.serial")?
                .map(SerialNumber::from_content)
                .transpose()
                .map_err(|_| damaged("enrolment.serial"))?,
            expected: get(row, 15, "enrolment.expected")?,
            at: time(row, 16, "enrolment.admitted_at")?,
            authority: id(row, 17, "enrolment.authority", AuthorityName::new)?,
            grounds: grounds_from(
                get(row, 18, "enrolment.grounds")?,
                optional_octets(row, 19, "enrolment.predecessor")?
                    .map(CertificateFingerprint::from_bytes),
                number(row, 20, "enrolment.generation")?,
            )
            .ok_or_else(|| damaged("enrolment.grounds"))?,
            renewable_by: get(row, 21, "enrolment.renewable_by")?,
        },
    })
}
