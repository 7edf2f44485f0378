//! The system's clock.

use scep_types::{Clock, Timestamp};
use std::time::SystemTime;

/// The system's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct System;

impl Clock for System {
    fn now(&self) -> Timestamp {
        Timestamp::from(SystemTime::now())
    }
}
