//! What the issuer has disabled, by cursor into the ledger (PROTOCOL, 4.3).

use crate::ConnectorError;
use crate::connector::Inner;
use scep_ledger::{DenialSubject, LedgerError};
use scep_link::{CheckInRequest, DenialChanges};
use scep_types::{TenantId, Timestamp};
use std::collections::HashSet;
use tokio::task::JoinSet;

/// Denials that the ledger is handed at once: it commits together what waits together.
const AT_ONCE: usize = 256;

/// A new list that has begun and is not complete. In memory only: after a crash it begins anew.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    cursor: u64,
    seen: HashSet<DenialSubject>,
}

impl Listing {
    pub(crate) const fn cursor(&self) -> u64 {
        self.cursor
    }
}

#[derive(Clone, Copy)]
enum Change {
    Deny,
    Allow,
}

impl Inner {
    /// Applies changes and then moves the cursor, durably. Whether all has been told.
    pub(crate) async fn apply_denials(
        &self,
        changes: &DenialChanges,
        request: &CheckInRequest,
        listing: &mut Option<Listing>,
        now: Timestamp,
    ) -> Result<bool, ConnectorError> {
        let nothing = changes.added.is_empty() && changes.removed.is_empty();
        if nothing && changes.to == 0 {
            // A list that never had an entry. It takes no other's place: an issuer says the same to a gateway that no
            // operator has confirmed, and what the ledger refuses already, it goes on refusing.
            return Ok(changes.complete);
        }
        if changes.from == 0 {
            *listing = Some(Listing::default());
        } else if changes.from != request.denial_cursor {
            return Ok(false);
        }
        let tenant = self.state().tenant;
        let of = |subjects: &[scep_link::DenialSubject]| -> Vec<DenialSubject> {
            subjects.iter().map(|subject| here(&tenant, subject)).collect()
        };
        let (added, removed) = (of(&changes.added), of(&changes.removed));
        self.change(Change::Deny, added.clone(), now).await?;
        self.change(Change::Allow, removed.clone(), now).await?;
        let mut changed = !nothing;
        if let Some(list) = listing {
            list.cursor = changes.to;
            list.seen.extend(added);
            for subject in &removed {
                list.seen.remove(subject);
            }
            if changes.complete {
                let stale = self.denied(&tenant).await?;
                let stale: Vec<_> =
                    stale.into_iter().filter(|subject| !list.seen.contains(subject)).collect();
                changed |= !stale.is_empty();
                self.change(Change::Allow, stale, now).await?;
                *listing = None;
            }
        }
        // While a list is incomplete, a crash must make it begin anew.
        if listing.is_none() && self.state().denial_cursor != changes.to {
            self.update(|state| state.denial_cursor = changes.to)?;
        }
        if changed {
            self.host.denials_changed();
        }
        Ok(changes.complete)
    }

    /// Everything of this tenant that is disabled at present.
    async fn denied(&self, tenant: &TenantId) -> Result<Vec<DenialSubject>, LedgerError> {
        let all = self.ledger.denials().await?;
        let ours = |of: &TenantId| of == tenant;
        let devices = all.devices.into_iter().filter(|(of, _)| ours(of));
        let users = all.users.into_iter().filter(|(of, _)| ours(of));
        let profiles = all.profiles.into_iter().filter(|(of, _)| ours(of));
        Ok(devices
            .map(|(tenant, id)| DenialSubject::Device(tenant, id))
            .chain(users.map(|(tenant, id)| DenialSubject::User(tenant, id)))
            .chain(profiles.map(|(tenant, id)| DenialSubject::Profile(tenant, id)))
            .collect())
    }

    async fn change(
        &self,
        change: Change,
        subjects: Vec<DenialSubject>,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        for some in subjects.chunks(AT_ONCE) {
            let mut tasks = JoinSet::new();
            for subject in some {
                let (ledger, subject) = (self.ledger.clone(), subject.clone());
                tasks.spawn(async move {
                    match change {
                        Change::Deny => ledger.deny(subject, now).await,
                        Change::Allow => ledger.allow(subject).await,
                    }
                });
            }
            while let Some(done) = tasks.join_next().await {
                done.unwrap_or(Err(LedgerError::Closed))?;
            }
        }
        Ok(())
    }
}

fn here(tenant: &TenantId, subject: &scep_link::DenialSubject) -> DenialSubject {
    match subject {
        scep_link::DenialSubject::Device(id) => DenialSubject::Device(tenant.clone(), id.clone()),
        scep_link::DenialSubject::User(id) => DenialSubject::User(tenant.clone(), id.clone()),
        scep_link::DenialSubject::Profile(id) => DenialSubject::Profile(tenant.clone(), id.clone()),
    }
}
