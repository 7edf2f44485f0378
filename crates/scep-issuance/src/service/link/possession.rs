//! That a connector has the private half of a decryption key.

use crate::service::db::Tx;
use scep_link::{ErrorCode, PossessionProof};
use scep_types::{ConnectorId, Timestamp};

/// Takes up the proofs of a check-in. Proofs of keys already proven are ignored; a wrong one, or one that was not asked
/// for, refuses the check-in.
pub(crate) fn accept(
    _tx: &Tx<'_>,
    _connector: ConnectorId,
    _proofs: &[PossessionProof],
    _now: Timestamp,
) -> Result<(), ErrorCode> {
    todo!()
}
