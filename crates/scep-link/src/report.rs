//! What a gateway tells: events, and what became of revocation orders.

use crate::answer::{Answer, Success};
use crate::check_in::MAX_ORDERS;
use crate::json::{self, Breach, Message, MessageError, Sealed, V1, distinct, some};
use crate::value::{EventKind, IdempotencyKey};
use scep_types::{ConnectorId, DeviceId, LedgerId, OrderId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Most events in one batch.
pub const MAX_EVENTS: usize = 500;
/// The longest body of an event, octets of compact JSON.
pub const MAX_BODY: usize = 64 << 10;
/// How deep a body may be nested: a batch around it may be no deeper than any message.
const MAX_BODY_DEPTH: u32 = 12;

/// The facts of an event: a JSON object, at most 64 KiB and nested at most 12 deep, no name twice. Open: each kind of event has
/// its own facts, and an issuer keeps those that it does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Body(Map<String, Value>);

impl Body {
    /// Reads a JSON object.
    ///
    /// # Errors
    /// When it is none, has a name twice, or is too long or too deep.
    pub fn parse(text: &str) -> Result<Self, MessageError> {
        if text.len() > MAX_BODY {
            return Err(MessageError::Oversize { got: text.len(), max: MAX_BODY });
        }
        json::outline_to(text.as_bytes(), MAX_BODY_DEPTH)?;
        serde_json::from_str(text)
            .map(Self)
            .map_err(|error| MessageError::Syntax { line: error.line(), column: error.column() })
    }

    /// The facts.
    #[must_use]
    pub const fn facts(&self) -> &Map<String, Value> {
        &self.0
    }

    /// As compact JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }
}

/// One event out of the ledger's outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Its number: events of a ledger are numbered from 1 without gaps.
    pub sequence: u64,
    /// The same for every delivery of it.
    #[serde(with = "crate::text")]
    pub idempotency_key: IdempotencyKey,
    /// What it says.
    #[serde(with = "crate::text")]
    pub kind: EventKind,
    /// Whose it is; null: it is about the whole ledger.
    #[serde(with = "crate::text::option")]
    pub tenant: Option<TenantId>,
    /// The device it is about; null: none.
    #[serde(with = "crate::text::option")]
    pub device: Option<DeviceId>,
    /// When it happened.
    #[serde(with = "crate::text")]
    pub at: Timestamp,
    /// Its facts.
    pub body: Body,
}

/// `POST /connector/v1/reports`. 1 to 500 events in their order without gaps; at most 4 MiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportBatch {
    /// The version.
    pub v: V1,
    /// Who tells.
    #[serde(with = "crate::text")]
    pub connector: ConnectorId,
    /// Out of which ledger.
    #[serde(with = "crate::text")]
    pub ledger: LedgerId,
    /// The events.
    pub events: Vec<Event>,
}

impl ReportBatch {
    /// The longest batch that these events, in their order, fill from the first on. The first alone always fits.
    #[must_use]
    pub fn longest(connector: ConnectorId, ledger: LedgerId, events: Vec<Event>) -> Self {
        const AROUND: usize = 1024;
        let mut events = events;
        let mut size = AROUND;
        let fits = |event: &&Event| {
            let length = serde_json::to_vec(event).map_or(usize::MAX, |bytes| bytes.len());
            size = size.saturating_add(length).saturating_add(1);
            size <= Self::MAX_BYTES
        };
        let count = events.iter().take(MAX_EVENTS).take_while(fits).count();
        events.truncate(count);
        Self { v: V1, connector, ledger, events }
    }
}

impl Sealed for ReportBatch {}

impl Message for ReportBatch {
    const MAX_BYTES: usize = 4 << 20;

    fn check(&self) -> Result<(), Breach> {
        some("events", self.events.len(), MAX_EVENTS)?;
        distinct("idempotency key", self.events.iter().map(|event| &event.idempotency_key))?;
        let mut expected = self.events.first().map_or(1, |event| event.sequence.max(1));
        for event in &self.events {
            if event.sequence != expected {
                return Err(Breach::Gap { expected, got: event.sequence });
            }
            expected = expected.saturating_add(1);
            let got = event.body.to_json().len();
            if got > MAX_BODY {
                return Err(Breach::Count {
                    what: "octets in an event's body",
                    got,
                    max: MAX_BODY,
                });
            }
        }
        Ok(())
    }
}

/// The answer to [`ReportBatch`], once the events are durable. At most 4 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledgement {
    /// The version.
    pub v: V1,
    /// `Success`, and nothing else.
    pub code: Success,
    /// Of which ledger.
    #[serde(with = "crate::text")]
    pub ledger: LedgerId,
    /// The last event that the issuer has: all up to it are durable there.
    pub acknowledged: u64,
}

impl Sealed for Acknowledgement {}

impl Message for Acknowledgement {
    const MAX_BYTES: usize = 4 << 10;

    fn check(&self) -> Result<(), Breach> {
        Ok(())
    }
}

impl Answer for Acknowledgement {}

/// How far a revocation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationState {
    /// It is durable in the gateway's ledger, and waits for the CA.
    Queued,
    /// The brake on mass revocation holds it until an operator of the gateway confirms.
    AwaitingOperator,
    /// The CA has revoked it.
    Revoked,
    /// The CA's CRL, or its OCSP responder, shows it. Final.
    Published,
    /// No gateway on this ledger has recorded the certificate, and it was left alone. Final for this ledger; the
    /// issuer believes that the certificate does not exist when every ledger of the tenant has said so.
    NotIssuedHere,
    /// The operator of the gateway has declined it. Final.
    Declined,
}

/// How far one order is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationResult {
    /// Which order.
    #[serde(with = "crate::text")]
    pub order: OrderId,
    /// How far it is.
    pub state: RevocationState,
    /// Since when.
    #[serde(with = "crate::text")]
    pub at: Timestamp,
}

/// `POST /connector/v1/revocations`. 1 to 500 results, no order twice; at most 256 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationResults {
    /// The version.
    pub v: V1,
    /// Who tells.
    #[serde(with = "crate::text")]
    pub connector: ConnectorId,
    /// On which ledger.
    #[serde(with = "crate::text")]
    pub ledger: LedgerId,
    /// The results.
    pub results: Vec<RevocationResult>,
}

impl Sealed for RevocationResults {}

impl Message for RevocationResults {
    const MAX_BYTES: usize = 256 << 10;

    fn check(&self) -> Result<(), Breach> {
        some("results", self.results.len(), MAX_ORDERS)?;
        distinct("order", self.results.iter().map(|result| result.order))
    }
}

/// The answer to [`RevocationResults`], once the results are durable. At most 4 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationRecorded {
    /// The version.
    pub v: V1,
    /// `Success`, and nothing else.
    pub code: Success,
    /// How many results were recorded: all of them.
    pub recorded: u32,
}

impl Sealed for RevocationRecorded {}

impl Message for RevocationRecorded {
    const MAX_BYTES: usize = 4 << 10;

    fn check(&self) -> Result<(), Breach> {
        Ok(())
    }
}

impl Answer for RevocationRecorded {}
