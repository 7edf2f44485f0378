//! What the issuer has disabled.

use super::connection::Connection;
use super::row::{get, id};
use super::unit::Unit;
use crate::LedgerError;
use crate::inventory::DenialSubject;
use scep_policy::Denials;
use scep_types::{DeviceId, ProfileId, TenantId, Timestamp, UserId};

const DEVICE: i64 = 0;
const USER: i64 = 1;
const PROFILE: i64 = 2;

fn columns(subject: &DenialSubject) -> (i64, &str, &str) {
    match subject {
        DenialSubject::Device(tenant, device) => (DEVICE, tenant.as_str(), device.as_str()),
        DenialSubject::User(tenant, user) => (USER, tenant.as_str(), user.as_str()),
        DenialSubject::Profile(tenant, profile) => (PROFILE, tenant.as_str(), profile.as_str()),
    }
}

pub(super) async fn deny(
    unit: &mut Unit,
    subject: &DenialSubject,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let (kind, tenant, name) = columns(subject);
    unit.query(
        "INSERT INTO denial (kind, tenant, subject, denied_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT DO NOTHING",
        &[&kind, &tenant, &name, &now.seconds()],
    )
    .await?;
    Ok(())
}

pub(super) async fn allow(unit: &mut Unit, subject: &DenialSubject) -> Result<(), LedgerError> {
    let (kind, tenant, name) = columns(subject);
    unit.query(
        "DELETE FROM denial WHERE kind = $1 AND tenant = $2 AND subject = $3",
        &[&kind, &tenant, &name],
    )
    .await?;
    Ok(())
}

pub(super) async fn all(conn: &Connection) -> Result<Denials, LedgerError> {
    let what = "denial.subject";
    let mut denials = Denials::default();
    for row in &conn.read("SELECT kind, tenant, subject FROM denial", &[]).await? {
        let tenant = id(row, 1, "denial.tenant", TenantId::new)?;
        match get(row, 0, "denial.kind")? {
            DEVICE => denials.devices.extend([(tenant, id(row, 2, what, DeviceId::new)?)]),
            USER => denials.users.extend([(tenant, id(row, 2, what, UserId::new)?)]),
            PROFILE => denials.profiles.extend([(tenant, id(row, 2, what, ProfileId::new)?)]),
            _ => return Err(LedgerError::Damaged { what: "denial.kind" }),
        }
    }
    Ok(denials)
}
