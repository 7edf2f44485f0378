//! Weak keys.
use crate::{CsrError, Rules};
use scep_types::{SpkiDer, SpkiHash};

/// Refuses weak keys.
///
/// # Errors
/// When it is.
pub fn check_key(key: &SpkiDer, _rules: &Rules, ours: &[SpkiHash]) -> Result<(), CsrError> {
    if ours.contains(&key.hash()) { Err(CsrError::OurKey) } else { Ok(()) }
}
