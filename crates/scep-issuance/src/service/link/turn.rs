//! One check-in of a connector at a time: a second one takes the first one's place.

use scep_types::ConnectorId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// The check-ins under way in this process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    last: u64,
    under_way: HashMap<ConnectorId, (u64, CancellationToken)>,
}

/// The right to answer a connector, until another check-in of it arrives.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    connector: ConnectorId,
    number: u64,
    over: CancellationToken,
}

impl Turns {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the turn, and ends the one that there is.
    pub(crate) fn take(&self, connector: ConnectorId) -> Turn {
        let over = CancellationToken::new();
        let mut state = self.state();
        state.last = state.last.wrapping_add(1);
        let number = state.last;
        if let Some((_, before)) = state.under_way.insert(connector, (number, over.clone())) {
            before.cancel();
        }
        drop(state);
        Turn { turns: self.clone(), connector, number, over }
    }
}

impl Turn {
    /// Returns when another check-in has taken over.
    pub(crate) async fn over(&self) {
        self.over.cancelled().await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        if state.under_way.get(&self.connector).is_some_and(|(number, _)| *number == self.number) {
            state.under_way.remove(&self.connector);
        }
    }
}
