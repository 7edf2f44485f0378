//! What a waiting check-in must hear of at once: a counter for each tenant, and a bell.

use crate::service::db::Tx;
use crate::service::store::StoreError;
use scep_types::TenantId;

/// Something has changed that connectors of the tenant are to be told: in the transaction that changes it. Whoever
/// waits is woken after the commit, in this process at once, in others within a second.
pub(crate) fn note(_tx: &Tx<'_>, _tenant: &TenantId) -> Result<(), StoreError> {
    todo!()
}
