//! What the service sees to by itself: certificates that need somebody's attention, and events that are old enough.

use crate::profile::Profile;
use crate::service::Service;
use crate::service::alarms::at;
use crate::service::db::{Row, Tx, Value, values};
use crate::service::orders::RevocationBrake;
use crate::service::problem::Problem;
use crate::service::request::{Authorised, Read};
use crate::service::store::StoreError;
use axum::Json;
use axum::extract::State;
use core::time::Duration;
use scep_types::{TenantId, Timestamp};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

/// Items of one list; what there is beyond is counted.
const ITEMS: i64 = 200;
/// Rows removed in one transaction, so that nobody waits long for the database.
const AT_ONCE: i64 = 1_000;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Limits, and what is done from time to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upkeep {
    /// When revocations wait for an operator.
    pub brake: RevocationBrake,
    /// How often certificates are reconciled and old events removed; `None`: never.
    pub every: Option<Duration>,
    /// How long events are kept after they have come, and certificates after they have expired; `None`: for good.
    pub keep: Option<Duration>,
}

impl Default for Upkeep {
    fn default() -> Self {
        let every = Some(Duration::from_secs(3600));
        Self { brake: RevocationBrake::default(), every, keep: None }
    }
}

/// A live certificate that is on a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[non_exhaustive]
pub struct Found {
    /// SHA-256 over the certificate.
    pub thumbprint: String,
    /// Its device.
    pub device: String,
    /// Its profile.
    pub profile: String,
    /// Its end.
    #[schema(format = DateTime)]
    pub not_after: String,
    /// What is the matter.
    pub why: String,
}

/// A list, cut short when it is long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[non_exhaustive]
pub struct Findings {
    /// How many there are.
    pub count: i64,
    /// The first 200 of them, those that end first in front.
    pub items: Vec<Found>,
}

/// How many live certificates without a successor end soon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[non_exhaustive]
pub struct Expiring {
    /// Within 7 days.
    pub within_7_days: i64,
    /// Within 14 days, those within 7 included.
    pub within_14_days: i64,
    /// Within 30 days, those within 14 included.
    pub within_30_days: i64,
    /// The first 200 of them, those that end first in front.
    pub items: Vec<Found>,
}

/// What does not fit together, or needs attention.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[non_exhaustive]
pub struct Reconciliation {
    /// As of when.
    #[schema(format = DateTime)]
    pub at: String,
    /// Live certificates whose device is gone, wiped or disabled.
    pub device_gone: Findings,
    /// Live certificates past the renewal threshold of their profile, without a newer certificate, and without a
    /// challenge since.
    pub renewal_overdue: Findings,
    /// Live certificates that end soon, without a newer one.
    pub expiring: Expiring,
    /// Certificates that the CA has made otherwise than they were approved, and that are not revoked.
    pub withheld: Findings,
    /// Certificates that may exist without anybody having them on record: alarms that nobody has acknowledged.
    pub possible_orphans: i64,
    /// Challenges that have expired without a certificate.
    pub unused_challenges: i64,
    /// Revocations that the brake holds.
    pub held_revocations: i64,
    /// Revocations that no CRL shows yet.
    pub open_revocations: i64,
}

/// No certificate of the same device and profile that is live and ends later.
const NO_SUCCESSOR: &str = "NOT EXISTS (SELECT 1 FROM certificate n WHERE n.tenant = c.tenant \
     AND n.device = c.device AND n.profile = c.profile AND n.state = 'live' \
     AND n.not_after > c.not_after)";

struct Reader<'a> {
    tx: &'a Tx<'a>,
    now: Timestamp,
}

impl Reader<'_> {
    fn count(&self, sql: &str, values: &[Value<'_>]) -> Result<i64, StoreError> {
        let counted: Option<i64> = self.tx.one(sql, values, |row| row.get(0))?;
        Ok(counted.unwrap_or(0))
    }

    /// `from`: what follows FROM, over `certificate c`.
    fn find(&self, from: &str, values: &[Value<'_>], why: &str) -> Result<Findings, StoreError> {
        let count = self.count(&format!("SELECT count(*) FROM {from}"), values)?;
        let sql = format!(
            "SELECT c.thumbprint, c.device, c.profile, c.not_after, {why} FROM {from} \
             ORDER BY c.not_after, c.id LIMIT {ITEMS}"
        );
        let item = |row: &Row| {
            Ok::<_, StoreError>(Found {
                thumbprint: row.get(0)?,
                device: row.get(1)?,
                profile: row.get(2)?,
                not_after: at(row.get(3)?),
                why: row.get(4)?,
            })
        };
        Ok(Findings { count, items: self.tx.query(&sql, values, item)? })
    }

    fn overdue(&self, tenant: &TenantId) -> Result<Findings, StoreError> {
        let profiles: Vec<String> = self.tx.query(
            "SELECT toml FROM profile WHERE tenant = ?1 ORDER BY id",
            values![tenant.as_str()],
            |row| row.get(0),
        )?;
        let from = format!(
            "certificate c JOIN device d ON d.tenant = c.tenant AND d.id = c.device \
             WHERE c.tenant = ?1 AND c.profile = ?2 AND c.state = 'live' AND c.not_after >= ?3 \
             AND c.not_after - ?4 <= ?3 AND d.state = 'enrolled' AND {NO_SUCCESSOR} \
             AND NOT EXISTS (SELECT 1 FROM challenge h WHERE h.tenant = c.tenant \
             AND h.device = c.device AND h.profile = c.profile AND h.issued_at >= c.not_after - ?4)"
        );
        let mut all = Findings::default();
        for toml in profiles {
            let Ok(profile) = Profile::from_toml(&toml) else { continue };
            let Some(window) = profile.renewal_window() else { continue };
            let window = i64::try_from(window.as_secs()).unwrap_or(i64::MAX);
            let values =
                values![tenant.as_str(), profile.id().as_str(), self.now.seconds(), window];
            let found = self.find(&from, values, "'no renewal since it was due'")?;
            all.count = all.count.saturating_add(found.count);
            all.items.extend(found.items);
        }
        all.items.sort_by(|a, b| a.not_after.cmp(&b.not_after));
        all.items.truncate(usize::try_from(ITEMS).unwrap_or(usize::MAX));
        Ok(all)
    }

    fn expiring(&self, tenant: &TenantId) -> Result<Expiring, StoreError> {
        let from = format!(
            "certificate c WHERE c.tenant = ?1 AND c.state = 'live' AND c.not_after >= ?2 \
             AND c.not_after < ?3 AND {NO_SUCCESSOR}"
        );
        let until = |days: u32| self.now.plus(DAY.saturating_mul(days)).seconds();
        let within = |days: u32| {
            let values = values![tenant.as_str(), self.now.seconds(), until(days)];
            self.count(&format!("SELECT count(*) FROM {from}"), values)
        };
        let values = values![tenant.as_str(), self.now.seconds(), until(30)];
        let found = self.find(&from, values, "'it ends soon'")?;
        Ok(Expiring {
            within_7_days: within(7)?,
            within_14_days: within(14)?,
            within_30_days: found.count,
            items: found.items,
        })
    }
}

/// Looks at everything of a tenant. Reads only.
pub(crate) fn reconcile(
    tx: &Tx<'_>,
    tenant: &TenantId,
    now: Timestamp,
) -> Result<Reconciliation, StoreError> {
    let reader = Reader { tx, now };
    let (name, seconds) = (tenant.as_str(), now.seconds());
    Ok(Reconciliation {
        at: now.to_string(),
        device_gone: reader.find(
            "certificate c LEFT JOIN device d ON d.tenant = c.tenant AND d.id = c.device \
             WHERE c.tenant = ?1 AND c.state = 'live' AND c.not_after >= ?2 \
             AND coalesce(d.state, 'gone') <> 'enrolled'",
            values![name, seconds],
            "coalesce(d.state, 'gone')",
        )?,
        renewal_overdue: reader.overdue(tenant)?,
        expiring: reader.expiring(tenant)?,
        withheld: reader.find(
            "certificate c WHERE c.tenant = ?1 AND c.state = 'withheld' AND c.not_after >= ?2",
            values![name, seconds],
            "'the CA has made it otherwise'",
        )?,
        possible_orphans: reader.count(
            "SELECT count(*) FROM alarm WHERE tenant = ?1 AND kind = 'possible-orphan' \
             AND acknowledged_at IS NULL",
            values![name],
        )?,
        unused_challenges: reader.count(
            "SELECT count(*) FROM challenge h WHERE h.tenant = ?1 AND h.expires_at < ?2 AND NOT EXISTS \
             (SELECT 1 FROM certificate c WHERE c.tenant = h.tenant AND c.challenge = h.id)",
            values![name, seconds],
        )?,
        held_revocations: reader.count(
            "SELECT count(*) FROM revocation WHERE tenant = ?1 AND state = 'held'",
            values![name],
        )?,
        open_revocations: reader.count(
            "SELECT count(*) FROM revocation WHERE tenant = ?1 \
             AND state IN ('queued', 'sent', 'failed', 'revoked')",
            values![name],
        )?,
    })
}

/// What does not fit together, or needs attention.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/reconciliation", tag = "certificates",
    operation_id = "read_reconciliation", responses((status = 200, body = Reconciliation)))]
pub(crate) async fn read(
    State(service): State<Service>,
    caller: Authorised<Read>,
) -> Result<Json<Reconciliation>, Problem> {
    Ok(Json(service.reconcile(&caller.tenant).await?))
}

/// Removes what is older than `before`: events by when they came, and certificates by their end, never a live one. The
/// counts stay. A part at a time; gives whether there may be more.
fn prune(tx: &Tx<'_>, before: Timestamp) -> Result<bool, StoreError> {
    let events: Vec<(i64, String, i64)> = tx.query(
        "SELECT id, ledger, sequence FROM event WHERE received_at < ?1 ORDER BY received_at, id LIMIT ?2",
        values![before.seconds(), AT_ONCE],
        |row| Ok::<_, StoreError>((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    for (id, ledger, sequence) in &events {
        tx.execute("DELETE FROM event WHERE id = ?1", values![*id])?;
        // Should the ledger tell it again, it is not news.
        tx.execute(
            "UPDATE ledger_report SET pruned = ?2 WHERE ledger = ?1 AND pruned < ?2",
            values![ledger, *sequence],
        )?;
    }
    let certificates = tx.execute(
        "DELETE FROM certificate WHERE id IN \
         (SELECT id FROM certificate WHERE not_after < ?1 ORDER BY id LIMIT ?2)",
        values![before.seconds(), AT_ONCE],
    )?;
    let full = usize::try_from(AT_ONCE).unwrap_or(usize::MAX);
    Ok(events.len() >= full || certificates >= full)
}

impl Service {
    /// Uses these limits.
    #[must_use]
    pub const fn with_upkeep(mut self, upkeep: Upkeep) -> Self {
        self.upkeep = upkeep;
        self
    }

    /// What does not fit together in a tenant, or needs attention.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reconcile(&self, tenant: &TenantId) -> Result<Reconciliation, StoreError> {
        let (tenant, now) = (tenant.clone(), self.clock.now());
        self.store.read(move |tx| reconcile(tx, &tenant, now)).await
    }

    /// Removes events that have come longer than `keep` ago, and certificates that have expired so long ago. What the
    /// issuer has acknowledged it goes on acknowledging, and the counts stay.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune(&self, keep: Duration) -> Result<(), StoreError> {
        let before = self.clock.now().minus(keep);
        while self.store.write(move |tx| prune(tx, before)).await? {}
        Ok(())
    }

    async fn look_after(&self) -> Result<(), StoreError> {
        if let Some(keep) = self.upkeep.keep {
            self.prune(keep).await?;
        }
        let tenants: Vec<String> = self
            .store
            .read(|tx| tx.query("SELECT id FROM tenant ORDER BY id", &[], |row| row.get(0)))
            .await?;
        for tenant in tenants.into_iter().filter_map(|id| TenantId::new(id).ok()) {
            let found = self.reconcile(&tenant).await?;
            tracing::info!(
                %tenant,
                device_gone = found.device_gone.count,
                renewal_overdue = found.renewal_overdue.count,
                expiring_within_7_days = found.expiring.within_7_days,
                expiring_within_30_days = found.expiring.within_30_days,
                withheld = found.withheld.count,
                possible_orphans = found.possible_orphans,
                held_revocations = found.held_revocations,
                open_revocations = found.open_revocations,
                "reconciled"
            );
        }
        Ok(())
    }

    /// Until `stop`.
    pub(crate) async fn look_after_regularly(self, stop: CancellationToken) {
        let Some(every) = self.upkeep.every else { return };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            if let Err(error) = self.look_after().await {
                tracing::error!(%error, "certificates could not be reconciled");
            }
        }
    }
}
