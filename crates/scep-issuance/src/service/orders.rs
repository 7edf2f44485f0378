//! Revocation orders: who may be revoked, why, and how far each is.

use crate::service::db::Tx;
use crate::service::store::StoreError;
use scep_link::{RevocationOrder, RevocationReason};
use scep_types::{DeviceId, LedgerId, ProfileId, TenantId, Timestamp};

/// Which certificates are to be revoked.
pub(crate) enum Which<'a> {
    /// Every live one of a device.
    Device(&'a DeviceId),
    /// Every live one of a profile.
    Profile(&'a ProfileId),
    /// Every live one of a device that was made for a profile.
    DeviceProfile(&'a DeviceId, &'a ProfileId),
}

/// Orders revocations; what is ordered already stays as it is. Calls [`crate::service::changes::note`]. Gives how many
/// orders are new, those that the brake holds included.
pub(crate) fn order(
    _tx: &Tx<'_>,
    _tenant: &TenantId,
    _which: &Which<'_>,
    _reason: RevocationReason,
    _cause: &str,
    _now: Timestamp,
) -> Result<u64, StoreError> {
    todo!()
}

/// The orders that a gateway on this ledger is to be given: not final, not held by the brake; and whether one of them
/// has no result of this ledger yet, which is news.
pub(crate) fn open(
    _tx: &Tx<'_>,
    _tenant: &TenantId,
    _ledger: LedgerId,
    _limit: usize,
) -> Result<(Vec<RevocationOrder>, bool), StoreError> {
    todo!()
}

/// Up to which event the issuer has everything of this ledger; 0: nothing.
pub(crate) fn acknowledged(_tx: &Tx<'_>, _ledger: LedgerId) -> Result<u64, StoreError> {
    todo!()
}
