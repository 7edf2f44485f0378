//! Counters in Prometheus' text format. Labels are closed sets: no device, no name, no transaction.

use crate::trace::Trace;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use scep_ledger::Counters;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    endpoint: String,
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    refused: Family<ReasonLabels, Counter>,
    pub(crate) overloaded: Counter,
    pub(crate) connections: Gauge,
    pub(crate) clock_behind: Gauge,
    issued: Gauge,
    delivered: Gauge,
    unsettled: Gauge,
    outbox: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("scep");
        let requests = Family::default();
        registry.register("requests", "Requests by endpoint, operation, outcome", requests.clone());
        let refused = Family::default();
        registry.register("refused", "Refused requests by reason", refused.clone());
        let overloaded = Counter::default();
        registry.register(
            "overloaded",
            "Requests answered 503 for a full queue",
            overloaded.clone(),
        );
        let mut gauge = |name: &str, help: &str| {
            let gauge: Gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let connections = gauge("connections", "Open connections");
        let clock_behind =
            gauge("clock_behind_seconds", "How far the clock is behind what the ledger has seen");
        let issued = gauge("ledger_issued", "Certificates in the ledger");
        let delivered = gauge("ledger_delivered", "Certificates whose answer was flushed");
        let unsettled = gauge("ledger_unsettled", "Intents without an outcome");
        let outbox = gauge("ledger_outbox", "Events not yet reported");
        Self {
            registry,
            requests,
            refused,
            overloaded,
            connections,
            clock_behind,
            issued,
            delivered,
            unsettled,
            outbox,
        }
    }

    pub(crate) fn count(&self, trace: &Trace) {
        use crate::trace::Outcome;
        let outcome = match trace.outcome {
            Outcome::Issued => "issued",
            Outcome::Repeated => "repeated",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
            Outcome::Served => "served",
        };
        let labels =
            RequestLabels { endpoint: trace.endpoint.clone(), operation: trace.operation, outcome };
        self.requests.get_or_create(&labels).inc();
        if let Some(reason) = trace.reason {
            self.refused.get_or_create(&ReasonLabels { reason: reason.code() }).inc();
        }
    }

    pub(crate) fn render(&self, ledger: &Counters) -> Result<String, core::fmt::Error> {
        let set = |gauge: &Gauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.issued, ledger.issued);
        set(&self.delivered, ledger.delivered);
        set(&self.unsettled, ledger.unsettled);
        set(&self.outbox, ledger.outbox);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
