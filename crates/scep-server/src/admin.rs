//! `/healthz`, `/metrics` and what operators do, on a listener of their own: loopback, never the SCEP port.

use crate::ca_health::AuthorityHealth;
use crate::delivery::ReceiptBody;
use crate::gateway::Gateway;
use crate::http::{plain, respond};
use crate::metrics::Shown;
use crate::standing::{Expiry, LinkStatus};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use scep_ledger::{Counters, LedgerError};
use scep_types::Reason;
use serde::Serialize;
use tokio::net::TcpListener;

impl Gateway {
    /// Serves `/healthz` and `/metrics` until `shutdown` completes; with [`Gateway::set_operator_token`], `/held` too.
    pub async fn run_admin(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let mut shutdown = core::pin::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else { continue };
            let gateway = self.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let gateway = gateway.clone();
                    async move { Ok::<_, core::convert::Infallible>(gateway.admin(request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(core::time::Duration::from_secs(10))
                    .serve_connection(TokioIo::new(stream), service);
                if let Err(error) = connection.await {
                    tracing::debug!(target: "scep", %error, "admin connection ended");
                }
            });
        }
    }

    async fn admin(&self, request: Request<Incoming>) -> Response<ReceiptBody> {
        if crate::operator::serves(request.uri().path()) {
            return self.operator(request).await;
        }
        if request.method() != Method::GET {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
        }
        let path = request.uri().path();
        if !matches!(path, "/healthz" | "/metrics") {
            return plain(StatusCode::NOT_FOUND, "/healthz or /metrics\n");
        }
        let counters = self.inner.parts.ledger.counters().await;
        let now = self.inner.parts.clock.now();
        let link = self.inner.standing.link().map(|link| {
            let status = link.status();
            (link.silent_seconds(status.last_heard, now), status)
        });
        let expiries = self.inner.standing.expiries.at(now);
        let authorities = self.authority_health(now);
        if path == "/healthz" {
            let revocations = self.revocation_health().await;
            return self.health(counters, revocations, link, &expiries, authorities);
        }
        let counters = match counters {
            Ok(counters) => counters,
            Err(error) => {
                return plain(StatusCode::SERVICE_UNAVAILABLE, &format!("ledger: {error}\n"));
            }
        };
        let shown = Shown {
            ledger: &counters,
            unavailable: self.availability().reason(),
            silent_seconds: link.map(|(seconds, _)| seconds),
            expiries: &expiries,
            authorities: &authorities,
            waiting_seconds: counters.waiting_since.map_or(0, |since| now.since(since).as_secs()),
        };
        match self.inner.metrics.render(&shown) {
            Ok(text) => respond(
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                text.into_bytes(),
            ),
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "metrics\n"),
        }
    }

    fn denied(&self) -> usize {
        let denials = self.inner.denials.get();
        let count = denials.devices.len().saturating_add(denials.users.len());
        count.saturating_add(denials.profiles.len())
    }

    async fn revocation_health(&self) -> Option<RevocationHealth> {
        let mut health = None;
        for office in self.inner.offices.iter().filter(|office| office.revokes()) {
            let work = self.ledger().revocation_work(office.issuer()?).await.ok()?;
            let all: &mut RevocationHealth = health.get_or_insert_default();
            all.waiting = all.waiting.saturating_add(work.waiting);
            all.held = all.held.saturating_add(work.held);
            all.unpublished = all.unpublished.saturating_add(work.unpublished);
        }
        health
    }

    /// 200 when requests are served, and 503 with the reason when not: a balancer takes the gateway out. What else is
    /// wrong is in the document and leaves the status alone.
    fn health(
        &self,
        counters: Result<Counters, LedgerError>,
        revocations: Option<RevocationHealth>,
        link: Option<(u64, LinkStatus)>,
        expiries: &[Expiry],
        authorities: Vec<AuthorityHealth>,
    ) -> Response<ReceiptBody> {
        let (outbox, held, ledger) = match counters {
            Ok(counters) => (Some(counters.outbox), Some(HeldHealth::of(&counters)), None),
            Err(error) => (None, None, Some(error.to_string())),
        };
        let availability = self.availability();
        let reason = availability
            .reason()
            .map(|reason| (reason, availability.detail().to_owned()))
            .or_else(|| ledger.map(|error| (Reason::LedgerUnavailable, error)));
        let (reason, detail) = reason.unzip();
        let health = Health {
            serving: reason.is_none(),
            reason: reason.map(Reason::code),
            detail,
            ledger: self.ledger().id().to_string(),
            outbox,
            held,
            denials: self.denied(),
            authorities,
            revocations,
            link: link.map(|(silent_seconds, status)| LinkHealth {
                last_heard: status.last_heard.map(|at| at.to_string()),
                silent_seconds,
                trouble: status.trouble,
            }),
            certificates: expiries.iter().map(CertificateHealth::of).collect(),
        };
        let status = if health.serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        match serde_json::to_vec(&health) {
            Ok(mut text) => {
                text.push(b'\n');
                respond(status, "application/json", text)
            }
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "health\n"),
        }
    }
}

/// The document at `/healthz`.
#[derive(Debug, Serialize)]
struct Health {
    /// Whether enrolments are served.
    serving: bool,
    /// Why not: a reason's code.
    reason: Option<&'static str>,
    detail: Option<String>,
    /// The ledger's id.
    ledger: String,
    /// Events that the issuer has not acknowledged; null: the ledger could not be read.
    outbox: Option<u64>,
    /// Requests of profiles with manual approval; null: the ledger could not be read.
    held: Option<HeldHealth>,
    /// Devices, users and profiles that are disabled.
    denials: usize,
    /// Each CA; one that is not well does not change `serving`.
    authorities: Vec<AuthorityHealth>,
    /// Null: the CA does not revoke, or the ledger could not be read.
    revocations: Option<RevocationHealth>,
    /// Null: this gateway has no link to an issuer.
    link: Option<LinkHealth>,
    certificates: Vec<CertificateHealth>,
}

#[derive(Debug, Serialize)]
struct HeldHealth {
    /// Those that wait for a person, and those decided on that their device has not fetched.
    count: u64,
    /// Since when the oldest of those waits that nobody has decided on; null: there is none.
    waiting_since: Option<String>,
}

impl HeldHealth {
    fn of(counters: &Counters) -> Self {
        let waiting_since = counters.waiting_since.map(|since| since.to_string());
        Self { count: counters.held, waiting_since }
    }
}

#[derive(Debug, Default, Serialize)]
struct RevocationHealth {
    /// Ordered, and not done yet.
    waiting: u64,
    /// Held by the brake until an operator confirms.
    held: u64,
    /// Revoked, and on no CRL yet.
    unpublished: u64,
}

#[derive(Debug, Serialize)]
struct LinkHealth {
    last_heard: Option<String>,
    /// Since the issuer was heard; before the first time, since the start.
    silent_seconds: u64,
    trouble: Option<String>,
}

#[derive(Debug, Serialize)]
struct CertificateHealth {
    name: String,
    not_after: String,
    days_left: i64,
    alarm_days: Option<i64>,
}

impl CertificateHealth {
    fn of(expiry: &Expiry) -> Self {
        Self {
            name: expiry.name.clone(),
            not_after: expiry.not_after.to_string(),
            days_left: expiry.days_left,
            alarm_days: expiry.alarm_days,
        }
    }
}
