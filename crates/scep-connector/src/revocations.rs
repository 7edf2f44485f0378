//! Orders to revoke, into the ledger, and what became of them, to the issuer (PROTOCOL, 6).

use crate::ConnectorError;
use crate::backoff::Backoff;
use crate::check_in::explain;
use crate::connector::{Inner, Topic, locked};
use core::time::Duration;
use scep_ledger::{OrderedBy, QueueOutcome, RevocationReason};
use scep_link::{
    MAX_ORDERS, RevocationOrder, RevocationRecorded, RevocationResult, RevocationResults,
    RevocationState, V1,
};
use scep_types::{NameHash, OrderId, Timestamp};
use std::collections::BTreeMap;
use std::time::Instant;
use tokio::task::JoinSet;

/// How often it is looked how far orders are.
const LOOK: Duration = Duration::from_millis(500);
/// The same, when there are many.
const LOOK_AT_MANY: Duration = Duration::from_secs(5);
const MANY: usize = 100;
/// What the issuer orders again although it was told is told again, but no more often than this.
const TELL_AGAIN: Duration = Duration::from_secs(30);
/// What the CA has refused is asked for again when the issuer still wants it, but no more often than this.
const ASK_AGAIN: Duration = Duration::from_secs(3600);

/// Orders that are under way. In memory: the issuer repeats each until it has its final result.
#[derive(Debug, Default)]
pub(crate) struct Orders(BTreeMap<OrderId, Tracked>);

#[derive(Clone, Debug)]
struct Tracked {
    order: RevocationOrder,
    state: RevocationState,
    at: Timestamp,
    /// What the issuer was told last, and when.
    told: Option<(RevocationState, Instant)>,
    /// When the CA refused.
    failed: Option<Instant>,
}

const fn is_final(state: RevocationState) -> bool {
    matches!(
        state,
        RevocationState::Published | RevocationState::NotIssuedHere | RevocationState::Declined
    )
}

impl Inner {
    /// Queues what is ordered; what is queued already stays as it is.
    pub(crate) async fn take_orders(&self, orders: &[RevocationOrder], now: Timestamp) {
        let tenant = self.state().tenant;
        // At once: the ledger commits together what waits together.
        let mut tasks = JoinSet::new();
        for order in orders.iter().filter(|order| self.is_to_be_queued(order)) {
            let (ledger, order) = (self.ledger.clone(), order.clone());
            let ordered = scep_ledger::RevocationOrder {
                issuer: order.issuer,
                serial: order.serial.clone(),
                reason: reason(order.reason),
                by: OrderedBy::Tenant(tenant.clone()),
            };
            tasks.spawn(async move { (order, ledger.queue_revocation(ordered, now).await) });
        }
        let mut trouble = None;
        while let Some(queued) = tasks.join_next().await {
            let (order, outcome) = match queued {
                Ok((order, Ok(outcome))) => (order, outcome),
                Ok((_, Err(error))) => {
                    trouble = Some(error);
                    continue;
                }
                // Without an answer it comes again.
                Err(_) => continue,
            };
            let (state, failed) = match outcome {
                QueueOutcome::NotFound => (RevocationState::NotIssuedHere, false),
                QueueOutcome::Queued => (RevocationState::Queued, false),
                QueueOutcome::Already(state) => self.judge(&state, order.issuer).await,
            };
            let failed = failed.then(Instant::now);
            let (id, at) = (order.order, now);
            locked(&self.orders).0.insert(id, Tracked { order, state, at, told: None, failed });
        }
        match trouble {
            Some(error) => self.note(Topic::RevocationOrders, error),
            None if orders.is_empty() => {}
            None => self.clear(Topic::RevocationOrders),
        }
        self.wake_revocations.notify_one();
    }

    /// An order that is new, or one that the CA has refused long ago. Of the others the issuer may lack the result.
    fn is_to_be_queued(&self, order: &RevocationOrder) -> bool {
        let mut orders = locked(&self.orders);
        let Some(known) = orders.0.get_mut(&order.order) else { return true };
        if known.told.is_some_and(|(_, at)| at.elapsed() >= TELL_AGAIN) {
            known.told = None;
        }
        known.failed.is_some_and(|failed| failed.elapsed() >= ASK_AGAIN)
    }

    /// A state of the ledger's in the protocol's words, and whether the CA has refused.
    async fn judge(
        &self,
        state: &scep_ledger::RevocationState,
        issuer: NameHash,
    ) -> (RevocationState, bool) {
        match state {
            scep_ledger::RevocationState::Queued => {
                let work = self.ledger.revocation_work(issuer).await;
                let held = work.is_ok_and(|work| work.held > 0);
                let state =
                    if held { RevocationState::AwaitingOperator } else { RevocationState::Queued };
                (state, false)
            }
            scep_ledger::RevocationState::Sent => (RevocationState::Queued, false),
            scep_ledger::RevocationState::Revoked => (RevocationState::Revoked, false),
            scep_ledger::RevocationState::OnCrl => (RevocationState::Published, false),
            scep_ledger::RevocationState::Failed(why) => {
                self.note(Topic::RevocationsAtCa, format!("the CA refuses to revoke: {why}"));
                // No state of the protocol: an event of its own says so, with the reason.
                (RevocationState::Queued, true)
            }
        }
    }

    pub(crate) async fn follow_revocations_always(&self) {
        let mut backoff = Backoff::default();
        loop {
            let count = locked(&self.orders).0.len();
            if count == 0 {
                self.wake_revocations.notified().await;
                continue;
            }
            match self.follow_revocations().await {
                Ok(()) => {
                    backoff.reset();
                    self.clear(Topic::RevocationResults);
                    if !locked(&self.orders).0.values().any(|order| order.failed.is_some()) {
                        self.clear(Topic::RevocationsAtCa);
                    }
                    let pause = if count > MANY { LOOK_AT_MANY } else { LOOK };
                    // A new order is answered at once.
                    let _ = tokio::time::timeout(pause, self.wake_revocations.notified()).await;
                }
                Err(error) => {
                    self.note(Topic::RevocationResults, explain(&error));
                    tokio::time::sleep(backoff.after(&error, &*self.provider)).await;
                }
            }
        }
    }

    /// Looks how far each order is, and tells what has changed.
    async fn follow_revocations(&self) -> Result<(), ConnectorError> {
        let tracked: Vec<_> = locked(&self.orders).0.values().cloned().collect();
        let now = self.now().await;
        let mut news = Vec::new();
        for mut tracked in tracked {
            if !is_final(tracked.state) {
                let RevocationOrder { issuer, serial, order, .. } = &tracked.order;
                let Some(state) = self.ledger.revocation(*issuer, serial).await? else { continue };
                let (state, failed) = self.judge(&state, *issuer).await;
                if state != tracked.state {
                    (tracked.state, tracked.at) = (state, now);
                }
                if failed && tracked.failed.is_none() {
                    tracked.failed = Some(Instant::now());
                }
                if let Some(kept) = locked(&self.orders).0.get_mut(order) {
                    (kept.state, kept.at, kept.failed) =
                        (tracked.state, tracked.at, tracked.failed);
                }
            }
            if tracked.told.is_none_or(|(told, _)| told != tracked.state) {
                let (order, state, at) = (tracked.order.order, tracked.state, tracked.at);
                news.push(RevocationResult { order, state, at });
            }
        }
        let connector = self.state().connector;
        for some in news.chunks(MAX_ORDERS) {
            let results = RevocationResults {
                v: V1,
                connector,
                ledger: self.ledger.id(),
                results: some.to_vec(),
            };
            let recorded: RevocationRecorded =
                self.ask("/connector/v1/revocations", &results).await?;
            if usize::try_from(recorded.recorded) != Ok(some.len()) {
                return Err(ConnectorError::Contradiction {
                    what: "not every result was recorded",
                });
            }
            let mut orders = locked(&self.orders);
            for result in some {
                if is_final(result.state) {
                    // Ordered again, it is looked up again.
                    orders.0.remove(&result.order);
                } else if let Some(tracked) = orders.0.get_mut(&result.order) {
                    tracked.told = Some((result.state, Instant::now()));
                }
            }
        }
        Ok(())
    }
}

const fn reason(reason: scep_link::RevocationReason) -> RevocationReason {
    use scep_link::RevocationReason as Ordered;
    match reason {
        Ordered::Unspecified => RevocationReason::Unspecified,
        Ordered::KeyCompromise => RevocationReason::KeyCompromise,
        Ordered::CaCompromise => RevocationReason::CaCompromise,
        Ordered::AffiliationChanged => RevocationReason::AffiliationChanged,
        Ordered::Superseded => RevocationReason::Superseded,
        Ordered::CessationOfOperation => RevocationReason::CessationOfOperation,
        Ordered::PrivilegeWithdrawn => RevocationReason::PrivilegeWithdrawn,
        Ordered::AaCompromise => RevocationReason::AaCompromise,
    }
}
