//! `/healthz` and `/metrics`, on a listener of their own: loopback, never the SCEP port.

use crate::delivery::ReceiptBody;
use crate::gateway::Gateway;
use crate::http::{plain, respond};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

impl Gateway {
    /// Serves `/healthz` and `/metrics` until `shutdown` completes.
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
                    async move { Ok::<_, core::convert::Infallible>(gateway.admin(&request).await) }
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

    async fn admin(&self, request: &Request<Incoming>) -> Response<ReceiptBody> {
        if request.method() != Method::GET {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
        }
        let counters = self.inner.parts.ledger.counters().await;
        match (request.uri().path(), counters) {
            ("/healthz", Ok(_)) => plain(StatusCode::OK, "ok\n"),
            ("/metrics", Ok(counters)) => match self.inner.metrics.render(&counters) {
                Ok(text) => respond(
                    StatusCode::OK,
                    "application/openmetrics-text; version=1.0.0; charset=utf-8",
                    text.into_bytes(),
                ),
                Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "metrics\n"),
            },
            ("/healthz" | "/metrics", Err(error)) => {
                plain(StatusCode::SERVICE_UNAVAILABLE, &format!("ledger: {error}\n"))
            }
            _ => plain(StatusCode::NOT_FOUND, "/healthz or /metrics\n"),
        }
    }
}
