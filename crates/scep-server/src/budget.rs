//! What strangers may have signed each second.

use scep_types::Timestamp;
use std::sync::{Mutex, PoisonError};

/// A token bucket that refills itself within a second.
#[derive(Debug)]
pub(crate) struct Budget {
    each_second: u32,
    left: Mutex<(Timestamp, u32)>,
}

impl Budget {
    pub(crate) fn new(each_second: u32) -> Self {
        Self { each_second, left: Mutex::new((Timestamp::EPOCH, each_second)) }
    }

    pub(crate) fn take(&self, now: Timestamp) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if now > left.0 {
            *left = (now, self.each_second);
        }
        match left.1.checked_sub(1) {
            Some(fewer) => {
                left.1 = fewer;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_59_a_budget_is_spent_within_its_second_and_comes_back_in_the_next() {
        let budget = Budget::new(3);
        let at = Timestamp::from_seconds;
        assert_eq!((0..9).filter(|_| budget.take(at(100))).count(), 3);
        assert!(!budget.take(at(99)), "a clock set back gives nothing");
        assert_eq!((0..9).filter(|_| budget.take(at(101))).count(), 3);
    }
}
