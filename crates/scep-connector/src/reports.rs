//! Events out of the ledger to the issuer: at least once, in order, for as long as it takes (PROTOCOL, 5).

use crate::ConnectorError;
use crate::backoff::Backoff;
use crate::check_in::explain;
use crate::connector::{Inner, Topic};
use core::time::Duration;
use scep_ledger::{Acknowledged, OutboxEvent};
use scep_link::{
    Acknowledgement, AnswerError, Body, ErrorCode, Event, EventKind, IdempotencyKey, MAX_EVENTS,
    ReportBatch, Retry,
};
use scep_types::Timestamp;
use serde_json::json;
use std::sync::atomic::Ordering;

/// How often an empty outbox is looked at again.
const IDLE: Duration = Duration::from_millis(250);

/// What came of a look at the outbox.
enum Sent {
    /// There was nothing to send.
    Nothing,
    /// The issuer has more than before.
    Progress,
    /// The next check-in has to clear something up first.
    Held,
}

impl Inner {
    pub(crate) async fn report_always(&self) {
        let mut backoff = Backoff::default();
        // Events in one batch; fewer when something on the way finds them too long.
        let mut most = MAX_EVENTS;
        loop {
            if self.reports_held.load(Ordering::SeqCst) {
                self.wake_reports.notified().await;
                continue;
            }
            match self.report(most).await {
                Ok(Sent::Nothing) => {
                    backoff.reset();
                    self.clear(Topic::Reports);
                    tokio::time::sleep(IDLE).await;
                }
                Ok(Sent::Progress) => {
                    backoff.reset();
                    self.clear(Topic::Reports);
                    most = most.saturating_mul(2).min(MAX_EVENTS);
                }
                Ok(Sent::Held) => self.reports_held.store(true, Ordering::SeqCst),
                Err(error) => {
                    self.note(Topic::Reports, explain(&error));
                    if too_long(&error) && most > 1 {
                        most = most.midpoint(1).max(1);
                        continue;
                    }
                    tokio::time::sleep(backoff.after(&error, &*self.provider)).await;
                }
            }
        }
    }

    /// One batch. (A step of its own for each: a crash between any two repeats the batch.)
    async fn report(&self, most: usize) -> Result<Sent, ConnectorError> {
        let limit = u32::try_from(most).unwrap_or(u32::MAX);
        let outbox = self.ledger.outbox(0, limit).await?;
        let Some(first) = outbox.first().map(|event| event.sequence) else {
            self.queue_depth(0);
            // Other gateways on the same ledger may have sent what is under way here.
            if self.log_folder.has_open() {
                let last = self.ledger.counters().await?;
                if last.outbox == 0 {
                    self.log(self.log_folder.arrived(last.last_event).await);
                }
            }
            return Ok(Sent::Nothing);
        };
        let events = outbox.into_iter().map(event).collect::<Result<Vec<_>, _>>()?;
        let batch = ReportBatch::longest(self.state().connector, self.ledger.id(), events);
        self.log(self.log_folder.sending(&batch.events).await);
        let answer: Result<Acknowledgement, _> = self.ask("/connector/v1/reports", &batch).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.refused(&batch, error).await,
        };
        if answer.ledger != self.ledger.id() {
            return Err(ConnectorError::Contradiction { what: "another ledger is acknowledged" });
        }
        let counters = self.ledger.counters().await?;
        if answer.acknowledged > counters.last_event {
            // Only signed words can tell that a ledger was restored: that refuses challenges.
            self.note(
                Topic::Reports,
                format!(
                    "the issuer acknowledges event {} and the last one here is {}; the next check-in \
                     tells whether the ledger was restored from a backup",
                    answer.acknowledged, counters.last_event
                ),
            );
            return Ok(Sent::Held);
        }
        if answer.acknowledged < first {
            return Err(ConnectorError::Contradiction {
                what: "no event of the batch is acknowledged",
            });
        }
        match self.ledger.acknowledge(answer.acknowledged, self.now().await).await? {
            Acknowledged::Known => {}
            Acknowledged::RestoreNoticed { .. } => {
                // Ruled out by the comparison above, unless somebody has put an old ledger in its place meanwhile.
                self.note(Topic::Restored, "the ledger was restored from a backup");
            }
        }
        self.queue_depth(self.ledger.counters().await?.outbox);
        self.log(self.log_folder.arrived(answer.acknowledged).await);
        Ok(Sent::Progress)
    }

    async fn refused(
        &self,
        batch: &ReportBatch,
        error: ConnectorError,
    ) -> Result<Sent, ConnectorError> {
        let ConnectorError::Answer { error: AnswerError::Refused { code, .. }, .. } = &error else {
            return Err(error);
        };
        if *code == ErrorCode::EventOutOfOrder {
            self.note(
                Topic::Reports,
                "EventOutOfOrder: the issuer has fewer events than it has acknowledged; the next \
                 check-in tells where to go on",
            );
            return Ok(Sent::Held);
        }
        if code.retry() == Retry::Never && *code != ErrorCode::RequestTooLarge {
            self.log(self.log_folder.refused(&batch.events, code.code()).await);
        }
        Err(error)
    }

    fn log(&self, written: std::io::Result<()>) {
        match written {
            Ok(()) => self.clear(Topic::StatusFolder),
            Err(error) => self.note(Topic::StatusFolder, error),
        }
    }
}

/// Says the issuer, or a proxy before it with a limit of its own.
fn too_long(error: &ConnectorError) -> bool {
    matches!(
        error,
        ConnectorError::Answer {
            error: AnswerError::Refused { code: ErrorCode::RequestTooLarge, .. }
                | AnswerError::Status { status: 413 }
                | AnswerError::UnknownCode { status: 413 },
            ..
        }
    )
}

/// As it goes over the link. A body that does not would hold up every event after it: what cannot be said is said
/// to be missing.
fn event(event: OutboxEvent) -> Result<Event, ConnectorError> {
    let wrong =
        |_| ConnectorError::Contradiction { what: "an event of the ledger has no kind or key" };
    let body = Body::parse(&event.body_json).or_else(|error| {
        tracing::error!(sequence = event.sequence, %error, "an event's facts cannot be sent");
        Body::parse(&json!({ "facts_missing": error.to_string() }).to_string())
    });
    let key = key(&event.idempotency_key, event.at);
    Ok(Event {
        sequence: event.sequence,
        idempotency_key: IdempotencyKey::new(key).map_err(wrong)?,
        kind: EventKind::new(event.kind.code()).map_err(wrong)?,
        tenant: event.tenant,
        device: event.device,
        at: event.at,
        body: body?,
    })
}

/// What the issuer keeps one event under. The ledger's own key names a row, and a ledger restored from a backup gives its
/// rows to other events: what the issuer has of the first must not swallow the second. The time, kept with the event,
/// tells them apart.
fn key(of: &str, at: Timestamp) -> String {
    format!("{of}@{}", at.seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_a_restored_ledger_is_none_that_the_issuer_has() {
        let sent = |at| key("issued:57", Timestamp::from_seconds(at));
        assert_eq!(sent(1_000), sent(1_000));
        assert_ne!(sent(1_000), sent(2_000));
    }
}
