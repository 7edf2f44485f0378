//! The HTTP face: any path, GET and POST, old clients, limits of time and size.

use crate::authority::Office;
use crate::delivery::{Receipts, TrackedIo};
use crate::gateway::{Gateway, Site};
use crate::reply::PkiAnswer;
use crate::source::{Counted, source};
use crate::trace::{Outcome, Trace};
use crate::upload::UploadError;
use core::time::Duration;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use scep_message::http::{self as scep, Operation, OperationError};
use scep_types::Reason;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub(crate) type Body = crate::delivery::ReceiptBody;

/// A source has as many connections as it may have.
#[derive(Debug)]
struct TooMany;

/// What a connection too many is told.
const TURNED_AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\
    Connection: close\r\nContent-Length: 0\r\n\r\n";

/// What a person sees who opens the URL in a browser. 403, as the field expects of a healthy endpoint.
const NOT_SCEP: &str = "This is a SCEP endpoint and it is working, but this was not a SCEP request.\n\
     Devices use it with a URL and a challenge that their management system gives them.\n";

impl Gateway {
    /// Serves SCEP on `listener` until `shutdown` completes, then finishes what was begun.
    ///
    /// Recovery of what an earlier run left open comes first: nobody is served before it is done, or a CA has kept it
    /// waiting for half a minute.
    ///
    /// # Errors
    /// When the ledger cannot be read at start. Later failures of single connections are logged.
    pub async fn run(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), scep_ledger::LedgerError> {
        self.recover_at_start().await?;
        let limits = self.inner.parts.limits;
        let recovery = self.spawn_recovery();
        let alarms = self.spawn_expiry_alarms();
        let pruning = self.spawn_pruning();
        let stop_revocations = CancellationToken::new();
        let revocations = self.spawn_revocations(stop_revocations.clone());
        let slots = Arc::new(Semaphore::new(limits.connections.clamp(1, 1 << 20)));
        let graceful = GracefulShutdown::new();
        let mut shutdown = core::pin::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = accept(&listener, &slots) => accepted,
            };
            let Some((stream, peer, slot)) = accepted else { continue };
            let Ok(counted) = self.count(&stream, peer) else { continue };
            let receipts = Receipts::new(self.clone());
            let io = TokioIo::new(TrackedIo::new(stream, receipts.clone()));
            let gateway = self.clone();
            let service = service_fn(move |request| {
                let (gateway, receipts) = (gateway.clone(), receipts.clone());
                async move {
                    Ok::<_, core::convert::Infallible>(
                        gateway.handle(request, peer, &receipts).await,
                    )
                }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.head_timeout)
                .max_buf_size(limits.max_head.max(8 << 10))
                .half_close(true)
                .serve_connection(io, service);
            let connection = graceful.watch(connection);
            let open = self.inner.metrics.connections.clone();
            open.inc();
            self.inner.tracker.spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(target: "scep", %error, "connection ended");
                }
                open.dec();
                drop((slot, counted));
            });
        }
        drop(listener);
        recovery.abort();
        alarms.abort();
        pruning.abort();
        stop_revocations.cancel();
        let tracker = &self.inner.tracker;
        tracker.close();
        let finish = async {
            graceful.shutdown().await;
            tracker.wait().await;
            // Whoever opens the ledger after this finds it free: nothing of this run holds it. Only a panic ends the
            // revocations early, and what they have begun is ended at the next start.
            let _ = (recovery.await, revocations.await, alarms.await, pruning.await);
        };
        if tokio::time::timeout(limits.stop_timeout, finish).await.is_err() {
            tracing::warn!(target: "scep", "stopped with requests still running");
        }
        Ok(())
    }

    /// Answers one PKIOperation that came some other way than through [`Gateway::run`]: a server of one's own, a
    /// queue, a fuzzer. `path` chooses the endpoint. `None`: no endpoint there, or not even a FAILURE can be
    /// addressed, or the queue is full. Delivery of a certificate is not recorded.
    pub async fn answer(&self, path: &str, message: Vec<u8>) -> Option<Vec<u8>> {
        let site = self.site(path)?.clone();
        let mut trace = Trace::new(self.reference(), &site.endpoint.name, None);
        trace.operation = "PKIOperation";
        let answer = self.pki_operation(&site, message, &mut trace).await;
        self.finish(&trace);
        match answer {
            PkiAnswer::CertRep { body, .. } => Some(body),
            PkiAnswer::Unanswerable | PkiAnswer::Overloaded => None,
        }
    }

    async fn handle(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        receipts: &Receipts,
    ) -> Response<Body> {
        let client = self.inner.proxies.get().client(peer.ip(), request.headers());
        let request = match self.ocsp_response(request, client).await {
            Ok(response) => return response,
            Err(elsewhere) => elsewhere,
        };
        let path = request.uri().path();
        // Microsoft's page that hands out passwords: it does not exist here, on any path.
        if path.to_ascii_lowercase().contains("mscep_admin") {
            return plain(StatusCode::FORBIDDEN, "There are no passwords to be had here.\n");
        }
        let mut offices = self.inner.offices.iter();
        if let Some(office) = offices.find(|office| office.crl.path == path && office.revokes()) {
            return office.crl_response(&request);
        }
        if let Some(response) = self.store_response(&request) {
            return response;
        }
        let Some(site) = self.site(path).cloned() else {
            return plain(StatusCode::NOT_FOUND, "not found\n");
        };
        let mut trace = Trace::new(self.reference(), &site.endpoint.name, Some(client));
        // Before anything is read of it.
        let posted = request.method() == Method::POST;
        if posted && let Err(wait) = self.inner.sources.take(source(client)) {
            return self.too_many(trace, wait);
        }
        let operation = match self.operation(request, client, &mut trace).await {
            Ok(operation) => operation,
            Err(response) => return *response,
        };
        let response = match operation {
            Operation::PkiOperation(message) => {
                if !posted && let Err(wait) = self.inner.sources.take(source(client)) {
                    return self.too_many(trace, wait);
                }
                return self.pki_response(site, message, trace, receipts).await;
            }
            Operation::GetCaCaps => {
                let next = match &*site.office.next.get() {
                    Some(_) => scep_message::caps::NextCa::Known,
                    None => scep_message::caps::NextCa::Unknown,
                };
                let caps = scep_message::caps::body(site.endpoint.legacy, next);
                trace.outcome = Outcome::Served;
                respond(StatusCode::OK, "text/plain", caps.into_bytes())
            }
            Operation::GetCaCert => {
                let certificates = site.office.ca_certificates(&site.endpoint);
                let (content_type, body) = scep_message::ca_cert::response(&certificates);
                trace.outcome = Outcome::Served;
                respond(StatusCode::OK, content_type, body)
            }
            Operation::GetNextCaCert => match &*site.office.next.get() {
                Some(next) => {
                    trace.outcome = Outcome::Served;
                    respond(StatusCode::OK, scep::NEXT_CA_CERT, next.response.clone())
                }
                None => {
                    trace.reason = Some(Reason::MessageTypeNotServed);
                    trace.detail = Some("there is no next CA".into());
                    plain(StatusCode::NOT_FOUND, "there is no next CA yet\n")
                }
            },
        };
        self.finish(&trace);
        response
    }

    /// Reads the operation out of query and body.
    async fn operation(
        &self,
        request: Request<Incoming>,
        client: IpAddr,
        trace: &mut Trace,
    ) -> Result<Operation, Box<Response<Body>>> {
        let limits = &self.inner.parts.limits;
        let query = request.uri().query().map(str::to_owned);
        let parsed = match *request.method() {
            Method::GET | Method::HEAD => match query.as_deref() {
                None | Some("") => Err(OperationError::Missing),
                Some(query) => scep::from_query(query),
            },
            Method::POST => {
                let body =
                    self.inner.uploads.read(source(client), request.into_body(), limits.max_body);
                match tokio::time::timeout(limits.body_timeout, body).await {
                    Ok(Ok(body)) => scep::from_post(query.as_deref(), body),
                    Ok(Err(UploadError::TooLong)) => {
                        return Err(self.reject(
                            trace,
                            StatusCode::PAYLOAD_TOO_LARGE,
                            "too long\n",
                        ));
                    }
                    Ok(Err(UploadError::Broken)) => {
                        return Err(self.reject(trace, StatusCode::BAD_REQUEST, "broken body\n"));
                    }
                    Ok(Err(UploadError::NoRoom)) => return Err(self.no_room(trace)),
                    Err(_) => {
                        return Err(self.reject(trace, StatusCode::REQUEST_TIMEOUT, "too slow\n"));
                    }
                }
            }
            _ => {
                let mut response =
                    self.reject(trace, StatusCode::METHOD_NOT_ALLOWED, "GET or POST\n");
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
                return Err(response);
            }
        };
        match parsed {
            Ok(operation) => {
                trace.operation = match operation {
                    Operation::GetCaCaps => "GetCACaps",
                    Operation::GetCaCert => "GetCACert",
                    Operation::GetNextCaCert => "GetNextCACert",
                    Operation::PkiOperation(_) => "PKIOperation",
                };
                Ok(operation)
            }
            Err(OperationError::Missing) => Err(Box::new(plain(StatusCode::FORBIDDEN, NOT_SCEP))),
            Err(error) => {
                trace.detail = Some(error.to_string());
                let status = match error {
                    OperationError::TooLong => StatusCode::URI_TOO_LONG,
                    _ => StatusCode::BAD_REQUEST,
                };
                Err(self.reject(trace, status, &format!("{error}\n")))
            }
        }
    }

    fn reject(&self, trace: &mut Trace, status: StatusCode, text: &str) -> Box<Response<Body>> {
        trace.reason = Some(Reason::MessageMalformed);
        trace.detail.get_or_insert_with(|| text.trim_end().to_owned());
        self.finish(trace);
        Box::new(plain(status, text))
    }

    /// Counts a connection against its source; one too many is closed at once.
    fn count(&self, stream: &TcpStream, peer: SocketAddr) -> Result<Option<Counted>, TooMany> {
        if self.inner.proxies.get().trust(peer.ip()) {
            return Ok(None);
        }
        if let Some(counted) = self.inner.crowd.enter(peer.ip()) {
            return Ok(Some(counted));
        }
        self.inner.metrics.overloaded.inc();
        tracing::debug!(target: "scep", peer = %peer.ip(), "more connections than one source may have");
        // Nobody waits for it to be read: who has sent its request already may only see the connection end.
        let _ = stream.try_write(TURNED_AWAY);
        Err(TooMany)
    }

    /// Refuses a message unread, as its source sends too many.
    fn too_many(&self, mut trace: Trace, wait: Duration) -> Response<Body> {
        trace.reason = Some(Reason::RateExceeded);
        trace.detail = Some("more messages than one source may send".into());
        self.finish(&trace);
        let mut response = plain(StatusCode::TOO_MANY_REQUESTS, "too many; try again\n");
        let seconds = wait.as_secs().saturating_add(1);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        response
    }

    fn no_room(&self, trace: &mut Trace) -> Box<Response<Body>> {
        self.inner.metrics.overloaded.inc();
        trace.reason = Some(Reason::RateExceeded);
        trace.detail = Some("the bodies of other requests take all the room".into());
        self.finish(trace);
        Box::new(busy())
    }

    /// Runs the enrolment detached: a device that hangs up loses neither certificate nor report, and the
    /// operator not the trace.
    async fn pki_response(
        &self,
        site: Arc<Site>,
        message: Vec<u8>,
        mut trace: Trace,
        receipts: &Receipts,
    ) -> Response<Body> {
        let (gateway, owed) = (self.clone(), receipts.clone());
        let task = self.inner.tracker.spawn(async move {
            let answer = gateway.pki_operation(&site, message, &mut trace).await;
            if let PkiAnswer::CertRep { receipt: Some(certificate), .. } = answer {
                owed.made(certificate);
            }
            gateway.finish(&trace);
            (answer, trace.outcome)
        });
        match task.await {
            Ok((PkiAnswer::CertRep { body, receipt }, _)) => {
                let body = match receipt {
                    Some(certificate) => receipts.body(body, certificate),
                    None => Body::plain(body),
                };
                with_type(StatusCode::OK, scep::PKI_MESSAGE, body)
            }
            Ok((PkiAnswer::Unanswerable, Outcome::Failed)) => {
                plain(StatusCode::INTERNAL_SERVER_ERROR, "not now; try again later\n")
            }
            Ok((PkiAnswer::Unanswerable, _)) => {
                plain(StatusCode::BAD_REQUEST, "this is no SCEP message that can be answered\n")
            }
            Ok((PkiAnswer::Overloaded, _)) => busy(),
            Err(error) => {
                // Only a panic ends the task early, and that is a bug of ours.
                tracing::error!(target: "scep", %error, "a request was lost");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
            }
        }
    }

    fn finish(&self, trace: &Trace) {
        trace.log();
        self.inner.metrics.count(trace);
        if let Some(observer) = &self.inner.parts.observer {
            observer.observe(trace);
        }
    }

    /// Names a request in the log and to the device. Not a secret, and not worth a failure.
    fn reference(&self) -> String {
        let mut bytes = [0; 4];
        match self.inner.parts.provider.random(&mut bytes) {
            Ok(()) => format!("{:08x}", u32::from_be_bytes(bytes)),
            Err(_) => "--------".into(),
        }
    }
}

impl Office {
    /// The present CRL, out of memory: whoever fetches it waits for nobody, and nobody for them.
    pub(crate) fn crl_response(&self, request: &Request<Incoming>) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let Some(crl) = self.shelf.get() else {
            let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, "no CRL yet\n");
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
            return response;
        };
        let known = request.headers().get(IF_NONE_MATCH);
        let mut response = if known.is_some_and(|tag| tag.as_bytes() == crl.etag.as_bytes()) {
            let mut response = Response::new(Body::plain(Vec::new()));
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            with_type(StatusCode::OK, "application/pkix-crl", Body::shared(crl.der.clone()))
        };
        if let Ok(tag) = HeaderValue::from_str(&crl.etag) {
            response.headers_mut().insert(ETAG, tag);
        }
        response
    }
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

/// Waits for a slot, then for a connection.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<Accepted> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Small answers in one piece: waiting for more of them costs a round trip.
            let _ = stream.set_nodelay(true);
            Some((stream, peer, slot))
        }
        Err(error) => {
            // Out of descriptors, mostly: a pause, so that the loop does not spin.
            tracing::error!(target: "scep", %error, "accept");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

pub(crate) fn busy() -> Response<Body> {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, "busy; try again\n");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

pub(crate) fn plain(status: StatusCode, text: &str) -> Response<Body> {
    respond(status, "text/plain", text.as_bytes().to_vec())
}

pub(crate) fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
) -> Response<Body> {
    with_type(status, content_type, Body::plain(body))
}

pub(crate) fn with_type(
    status: StatusCode,
    content_type: &'static str,
    body: Body,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
