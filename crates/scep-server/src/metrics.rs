//! Counters in Prometheus' text format. Labels are closed sets: no device, no name, no transaction.

use crate::ca_health::AuthorityHealth;
use crate::standing::{Availability, Expiry};
use crate::trace::Trace;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use scep_ledger::Counters;
use scep_types::Reason;
use std::sync::{Mutex, PoisonError};

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

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CertificateLabels {
    certificate: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AuthorityLabels {
    ca: String,
}

/// What is not counted here but asked for when the metrics are fetched.
#[derive(Debug)]
pub(crate) struct Shown<'a> {
    pub(crate) ledger: &'a Counters,
    pub(crate) unavailable: Option<Reason>,
    pub(crate) silent_seconds: Option<u64>,
    pub(crate) expiries: &'a [Expiry],
    pub(crate) authorities: &'a [AuthorityHealth],
    /// Since the oldest request came that a person must decide on; 0: there is none.
    pub(crate) waiting_seconds: u64,
}

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    /// Held while what is absent at times is put in and read out again.
    rendering: Mutex<()>,
    requests: Family<RequestLabels, Counter>,
    refused: Family<ReasonLabels, Counter>,
    pub(crate) overloaded: Counter,
    pub(crate) forgotten: Counter,
    pub(crate) connections: Gauge,
    pub(crate) clock_behind: Gauge,
    issued: Gauge,
    delivered: Gauge,
    unsettled: Gauge,
    outbox: Gauge,
    held: Gauge,
    waiting: Gauge,
    unavailable: Family<ReasonLabels, Gauge>,
    issuer_silent: Gauge,
    days_left: Family<CertificateLabels, Gauge>,
    alarm_days: Family<CertificateLabels, Gauge>,
    ca_trouble: Family<AuthorityLabels, Gauge>,
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
            "Requests and connections answered 503: no room in the queue, for a body or for its source",
            overloaded.clone(),
        );
        let forgotten = Counter::default();
        registry.register(
            "forgotten",
            "Uses of challenges and waiting requests that were over, and were forgotten",
            forgotten.clone(),
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
        let held =
            gauge("held", "Requests that wait for a person, or were decided on and not fetched");
        let waiting = gauge(
            "held_waiting_seconds",
            "Since the oldest request came that a person must decide on; 0 without one",
        );
        let issuer_silent = gauge(
            "issuer_silent_seconds",
            "Seconds since the issuer was heard; before the first time, since the start; -1 without a link",
        );
        let unavailable = Family::default();
        registry.register(
            "unavailable",
            "1 while enrolments are refused for this reason",
            unavailable.clone(),
        );
        let days_left = Family::default();
        registry.register(
            "certificate_days_left",
            "Whole days until a certificate of the system expires; below zero it has expired",
            days_left.clone(),
        );
        let alarm_days = Family::default();
        registry.register(
            "certificate_alarm_days",
            "The threshold that the days left are below, 0 when expired; absent without alarm",
            alarm_days.clone(),
        );
        let ca_trouble = Family::default();
        registry.register(
            "ca_trouble_seconds",
            "For how long something has been wrong with a CA; 0: nothing is",
            ca_trouble.clone(),
        );
        Self {
            registry,
            rendering: Mutex::new(()),
            requests,
            refused,
            overloaded,
            forgotten,
            connections,
            clock_behind,
            issued,
            delivered,
            unsettled,
            outbox,
            held,
            waiting,
            unavailable,
            issuer_silent,
            days_left,
            alarm_days,
            ca_trouble,
        }
    }

    pub(crate) fn count(&self, trace: &Trace) {
        use crate::trace::Outcome;
        let outcome = match trace.outcome {
            Outcome::Issued => "issued",
            Outcome::Repeated => "repeated",
            Outcome::Pending => "pending",
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

    pub(crate) fn render(&self, shown: &Shown<'_>) -> Result<String, core::fmt::Error> {
        let set = |gauge: &Gauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        let _alone = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        let ledger = shown.ledger;
        set(&self.issued, ledger.issued);
        set(&self.delivered, ledger.delivered);
        set(&self.unsettled, ledger.unsettled);
        set(&self.outbox, ledger.outbox);
        set(&self.held, ledger.held);
        set(&self.waiting, shown.waiting_seconds);
        for reason in Availability::REASONS {
            let gauge =
                self.unavailable.get_or_create_owned(&ReasonLabels { reason: reason.code() });
            gauge.set(i64::from(shown.unavailable == Some(reason)));
        }
        match shown.silent_seconds {
            Some(seconds) => set(&self.issuer_silent, seconds),
            None => self.issuer_silent.set(-1),
        };
        // What is no longer listed is no longer shown.
        self.days_left.clear();
        self.alarm_days.clear();
        for expiry in shown.expiries {
            let labels = CertificateLabels { certificate: expiry.name.clone() };
            self.days_left.get_or_create_owned(&labels).set(expiry.days_left);
            if let Some(days) = expiry.alarm_days {
                self.alarm_days.get_or_create_owned(&labels).set(days);
            }
        }
        for authority in shown.authorities {
            let labels = AuthorityLabels { ca: authority.name.clone() };
            set(&self.ca_trouble.get_or_create_owned(&labels), authority.seconds);
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
