//! What the issuer has disabled.

use super::row::{change, exists, get, id, list};
use crate::LedgerError;
use crate::inventory::DenialSubject;
use rusqlite::{Connection, params};
use scep_policy::Denials;
use scep_types::{DeviceId, ProfileId, TenantId, Timestamp, UserId};

const DEVICE: i64 = 0;
const USER: i64 = 1;
const PROFILE: i64 = 2;

fn columns(subject: &DenialSubject) -> (i64, &TenantId, &str) {
    match subject {
        DenialSubject::Device(tenant, device) => (DEVICE, tenant, device.as_str()),
        DenialSubject::User(tenant, user) => (USER, tenant, user.as_str()),
        DenialSubject::Profile(tenant, profile) => (PROFILE, tenant, profile.as_str()),
    }
}

pub(super) fn deny(
    conn: &Connection,
    subject: &DenialSubject,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let (kind, tenant, name) = columns(subject);
    change(
        conn,
        "INSERT INTO denial (kind, tenant, subject, denied_at) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT DO NOTHING",
        params![kind, tenant.as_str(), name, now.seconds()],
    )?;
    Ok(())
}

pub(super) fn allow(conn: &Connection, subject: &DenialSubject) -> Result<(), LedgerError> {
    let (kind, tenant, name) = columns(subject);
    change(
        conn,
        "DELETE FROM denial WHERE kind = ?1 AND tenant = ?2 AND subject = ?3",
        params![kind, tenant.as_str(), name],
    )?;
    Ok(())
}

/// Whether any of them is disabled.
pub(super) fn any(
    conn: &Connection,
    tenant: &str,
    device: &str,
    user: Option<&str>,
    profile: &str,
) -> Result<bool, LedgerError> {
    exists(
        conn,
        "SELECT 1 FROM denial WHERE kind = 0 AND tenant = ?1 AND subject = ?2 \
         UNION ALL SELECT 1 FROM denial WHERE kind = 1 AND tenant = ?1 AND subject = ?3 \
         UNION ALL SELECT 1 FROM denial WHERE kind = 2 AND tenant = ?1 AND subject = ?4",
        params![tenant, device, user, profile],
    )
}

pub(super) fn all(conn: &Connection) -> Result<Denials, LedgerError> {
    let what = "denial.subject";
    let subjects = list(conn, "SELECT kind, tenant, subject FROM denial", [], |row| {
        let tenant = id(row, 1, "denial.tenant", TenantId::new)?;
        match get(row, 0, "denial.kind")? {
            DEVICE => Ok(DenialSubject::Device(tenant, id(row, 2, what, DeviceId::new)?)),
            USER => Ok(DenialSubject::User(tenant, id(row, 2, what, UserId::new)?)),
            PROFILE => Ok(DenialSubject::Profile(tenant, id(row, 2, what, ProfileId::new)?)),
            _ => Err(LedgerError::Damaged { what: "denial.kind" }),
        }
    })?;
    let mut denials = Denials::default();
    for subject in subjects {
        match subject {
            DenialSubject::Device(tenant, device) => denials.devices.extend([(tenant, device)]),
            DenialSubject::User(tenant, user) => denials.users.extend([(tenant, user)]),
            DenialSubject::Profile(tenant, profile) => {
                denials.profiles.extend([(tenant, profile)]);
            }
        }
    }
    Ok(denials)
}
