//! What is disabled: devices, users, profiles, as a list with a cursor.

use crate::service::db::Tx;
use crate::service::store::StoreError;
use scep_link::DenialSubject;
use scep_types::TenantId;

/// Disables or enables a subject, for every gateway of the tenant. Calls [`crate::service::changes::note`] when that
/// changes anything.
pub(crate) fn set(
    _tx: &Tx<'_>,
    _tenant: &TenantId,
    _subject: &DenialSubject,
    _denied: bool,
) -> Result<(), StoreError> {
    todo!()
}
