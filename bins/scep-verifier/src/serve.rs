//! `serve`: the webhook's server. Whoever calls learns `allow` and nothing else; the log says why.

use crate::cli::ServeOptions;
use crate::error::VerifierError;
use crate::hook::{self, Refused, Stop, now};
use crate::inputs::Trust;
use crate::webhook::{Caller, Question};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use scep_ledger::Ledger;
use scep_types::{Reason, TransactionId};
use std::convert::Infallible;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::signal;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::ServerConfig;

/// Connections at one time. Further ones wait to be accepted.
const CONNECTIONS: usize = 128;
/// A request of 256 KiB in base64, its contents as step-ca understands them, and the challenge once more.
const MAX_BODY: usize = 1 << 20;
const MAX_HEAD: usize = 16 << 10;
/// For requests under way when the service is told to stop.
const STOP_TIME: Duration = Duration::from_secs(10);

/// What every request needs.
struct Desk {
    trust: Trust,
    ledger: Ledger,
    caller: Caller,
    timeout: Duration,
}

pub(crate) fn run(options: &ServeOptions) -> Result<ExitCode, VerifierError> {
    if options.tls_certificate.is_none() && !options.listen.ip().is_loopback() {
        let why = "challenges are for TLS: without --tls-certificate only a loopback address";
        return Err(VerifierError::argument("--listen", why));
    }
    let trust = Trust::load(&options.trust)?;
    let caller = Caller::load(&options.webhook_id, &options.webhook_secret_file)?;
    let tls = match (&options.tls_certificate, &options.tls_key) {
        (Some(certificate), Some(key)) => Some(acceptor(certificate, key)?),
        _ => None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(VerifierError::Runtime)?;
    runtime.block_on(async {
        let ledger = hook::open(&options.ledger).await?;
        let listen = |source| VerifierError::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let stop = stop_signal().map_err(VerifierError::Runtime)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        log(&format!("listening on {scheme}://{address}/"));
        let desk = Arc::new(Desk { trust, ledger, caller, timeout: options.timeout });
        serve(listener, tls, desk, stop).await;
        log("stopped");
        Ok(ExitCode::SUCCESS)
    })
}

fn log(line: &str) {
    eprintln!("{} scep-verifier: {line}", now());
}

fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, VerifierError> {
    let wrong = |path: &Path, why: String| VerifierError::Tls(format!("{}: {why}", path.display()));
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(certificate, error.to_string()))?;
    for_its_owner_alone(key).map_err(|why| wrong(key, why))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(key, e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| VerifierError::Tls(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| VerifierError::Tls(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// That nobody else can read a private key's file, where files say that.
#[cfg(unix)]
fn for_its_owner_alone(key: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = std::fs::metadata(key).map_err(|error| error.to_string())?;
    match metadata.permissions().mode() & 0o7777 {
        mode if mode & 0o177 == 0 => Ok(()),
        mode => Err(format!("mode {mode:04o}, and a key file has 0600 or stricter")),
    }
}

#[cfg(not(unix))]
fn for_its_owner_alone(_: &Path) -> Result<(), String> {
    Ok(())
}

async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    desk: Arc<Desk>,
    stop: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let (stopping, stopped) = watch::channel(false);
    let mut stop = std::pin::pin!(stop);
    loop {
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            match listener.accept().await {
                Ok((stream, _)) => Some((stream, place)),
                Err(error) => {
                    log(&format!("a connection was not accepted: {error}"));
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    None
                }
            }
        };
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept => accepted,
        };
        let Some((stream, place)) = accepted else { continue };
        let (tls, desk, stopped) = (tls.clone(), Arc::clone(&desk), stopped.clone());
        tokio::spawn(async move {
            let _place = place;
            match tls {
                None => converse(stream, desk, stopped).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) =
                        tokio::time::timeout(desk.timeout, tls.accept(stream)).await
                    {
                        converse(stream, desk, stopped).await;
                    }
                }
            }
        });
    }
    drop(listener);
    let _ = stopping.send(true);
    // Every connection has a place until it ends.
    let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
    if tokio::time::timeout(STOP_TIME, places.acquire_many(all)).await.is_err() {
        log("stopped with requests still running");
    }
}

async fn converse<S>(stream: S, desk: Arc<Desk>, mut stopped: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let timeout = desk.timeout;
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(answer(request, desk).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // What breaks a connection off is the caller's business.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = async { drop(stopped.wait_for(|stop| *stop).await) } => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

async fn answer(request: Request<Incoming>, desk: Arc<Desk>) -> Response<Full<Bytes>> {
    let (status, allow) = match read(request, &desk).await {
        Err((status, why)) => {
            log(&format!("not asked as step-ca asks: {why}"));
            (status, false)
        }
        // A task of its own: a caller that hangs up leaves nothing half done in the ledger.
        Ok(question) => match tokio::spawn(async move { decide(&desk, &question).await }).await {
            Ok(decided) => decided,
            Err(error) => {
                log(&format!("a request was lost: {error}"));
                (StatusCode::INTERNAL_SERVER_ERROR, false)
            }
        },
    };
    let body = if allow { "{\"allow\":true}\n" } else { "{\"allow\":false}\n" };
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The question of a caller who has shown that he knows the secret.
async fn read(request: Request<Incoming>, desk: &Desk) -> Result<Question, (StatusCode, String)> {
    if request.method() != Method::POST {
        return Err((StatusCode::METHOD_NOT_ALLOWED, format!("by {}", request.method())));
    }
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect();
    let body = match tokio::time::timeout(desk.timeout, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is too long".into()));
        }
        Ok(Err(_)) => return Err((StatusCode::BAD_REQUEST, "the body broke off".into())),
        Err(_) => return Err((StatusCode::REQUEST_TIMEOUT, "the body came too slowly".into())),
    };
    desk.caller
        .signed(&head.headers, &body)
        .map_err(|why| (StatusCode::UNAUTHORIZED, why.to_owned()))?;
    Question::parse(&body).map_err(|why| (StatusCode::BAD_REQUEST, why))
}

async fn decide(desk: &Desk, question: &Question) -> (StatusCode, bool) {
    match judge(desk, question).await {
        Ok(device) => {
            log(&format!("passed, device {device}, transaction {}", question.transaction_id));
            (StatusCode::OK, true)
        }
        Err(Stop::Refused(Refused { reason, detail })) => {
            log(&format!("refused: {reason}: {detail}"));
            (StatusCode::OK, false)
        }
        Err(Stop::Broken(error)) => {
            log(&format!("not decided: {error}"));
            (StatusCode::INTERNAL_SERVER_ERROR, false)
        }
    }
}

async fn judge(desk: &Desk, question: &Question) -> Result<String, Stop> {
    let csr = hook::proven(&desk.trust, &question.request)?;
    // The challenge under the device's signature is the one that counts, and step-ca must have seen the same.
    let same = csr.challenge_password().is_some_and(|text| *text.expose() == *question.challenge);
    if !same {
        let detail = "scepChallenge is not the request's challenge";
        return Err(Refused::new(Reason::ChallengePasswordMissing, detail).into());
    }
    let transaction = TransactionId::new(&*question.transaction_id)
        .map_err(|error| Refused::new(Reason::MessageMalformed, error))?;
    hook::pass(&desk.trust, &desk.ledger, &csr, &transaction).await
}

/// Ends when somebody asks the program to stop.
#[cfg(unix)]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Ends when somebody asks the program to stop.
#[cfg(not(unix))]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = signal::ctrl_c().await;
    })
}
