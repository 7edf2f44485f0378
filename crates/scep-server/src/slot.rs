//! A value that is replaced while others read it.

use std::sync::{Arc, PoisonError, RwLock};

/// Holds one value at a time. Whoever has read it keeps what was there then: a request is served by one state of the
/// gateway from beginning to end.
#[derive(Debug)]
pub(crate) struct Slot<T>(RwLock<Arc<T>>);

impl<T> Slot<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    pub(crate) fn set(&self, value: T) {
        // Both uses are one move: a panic elsewhere leaves it whole.
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }

    pub(crate) fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}
