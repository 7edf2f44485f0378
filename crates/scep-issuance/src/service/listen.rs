//! Connections: TLS or, on loopback, none; limits of number and time; a stop that lets requests end.
//!
//! Where connectors are served, TLS asks for a client certificate and verifies the one that comes: by the connector CA,
//! now, for client authentication. Administrators come without one.

use crate::service::link::{PeerCertificate, Transport};
use crate::service::{Service, document};
use core::fmt;
use core::time::Duration;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use scep_ca::CertificateAuthority as _;
use scep_types::{CertificateDer as Certificate, Clock};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::time_provider::TimeProvider;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};
use tokio_util::sync::CancellationToken;

/// Connections at one time, of those who come without a certificate, and of those who have not shown theirs yet.
const CONNECTIONS: usize = 512;
/// Of these, from one address: one machine does not keep everybody else out.
const CONNECTIONS_OF_ONE_ADDRESS: usize = 128;
/// Connections at one time of connectors, each of which has one that waits: they take nobody else's place, and nobody
/// takes theirs.
const CONNECTOR_CONNECTIONS: usize = 8192;
/// Of these, of one connector, whose certificate names it: it needs four, and as many again while broken ones are noticed.
const CONNECTIONS_OF_ONE: usize = 16;
/// For the handshake, for a request's head, and between requests.
const HEAD_TIME: Duration = Duration::from_secs(15);
/// For requests under way when the service is told to stop.
const STOP_TIME: Duration = Duration::from_secs(10);
const MAX_HEAD: usize = 32 * 1024;

/// Why the service cannot listen.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Unencrypted, and not on loopback: tokens would cross a network in the clear.
    #[error("plain HTTP is for loopback addresses alone, and {0} is none")]
    PlainBeyondLoopback(std::net::SocketAddr),
    /// The listener has no address.
    #[error("the listener: {0}")]
    Listener(#[from] std::io::Error),
    /// TLS cannot be offered.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Why TLS cannot be offered.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file is not what it must be.
    #[error("{path}: {why}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Certificate and key cannot be used, or not together.
    #[error("certificate and key: {0}")]
    Pair(String),
    /// Client certificates cannot be verified by the connector CA.
    #[error("the connector CA: {0}")]
    ConnectorCa(String),
}

/// A certificate chain and its key, which can be replaced while the service runs. Clones share them.
#[derive(Clone)]
pub struct Tls(Arc<Present>);

struct Present(RwLock<Arc<CertifiedKey>>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl fmt::Debug for Present {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Present")
    }
}

impl ResolvesServerCert for Present {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The service's clock, for TLS.
struct Time(Arc<dyn Clock>);

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().seconds()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn read_pair(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let file = |path: &Path, why: String| TlsError::File { path: path.into(), why };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| file(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(file(certificate, "no certificate in it".to_owned()));
    }
    for_its_owner_alone(key).map_err(|why| file(key, why))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| file(key, error.to_string()))?;
    CertifiedKey::from_der(chain, key, &provider())
        .map_err(|error| TlsError::Pair(error.to_string()))
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

impl Tls {
    /// Reads PEM files.
    ///
    /// # Errors
    /// When a file cannot be read, others than its owner can read the key's, or certificate and key do not belong
    /// together.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let pair = read_pair(certificate, key)?;
        Ok(Self(Arc::new(Present(RwLock::new(Arc::new(pair))))))
    }

    /// Reads PEM files and uses them from the next connection on. Connectors accept no key but those in
    /// [`Link::tls_pins`](crate::service::Link::tls_pins).
    ///
    /// # Errors
    /// As [`Tls::read`]; then everything stays as it was.
    pub fn replace(&self, certificate: &Path, key: &Path) -> Result<(), TlsError> {
        let pair = Arc::new(read_pair(certificate, key)?);
        *self.0.0.write().unwrap_or_else(PoisonError::into_inner) = pair;
        Ok(())
    }

    fn acceptor(&self, service: &Service) -> Result<TlsAcceptor, TlsError> {
        let wrong = |error: &dyn fmt::Display| TlsError::ConnectorCa(error.to_string());
        let time = Arc::new(Time(Arc::clone(&service.clock)));
        let builder = ServerConfig::builder_with_details(provider(), time)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Pair(error.to_string()))?;
        let builder = match &service.link {
            None => builder.with_no_client_auth(),
            Some(link) => {
                let mut roots = RootCertStore::empty();
                // The CA itself and none above it: what another CA of the same root issues is no connector's.
                for ca in link.connector_ca.chain().iter().take(1) {
                    roots.add(ca.as_der().to_vec().into()).map_err(|error| wrong(&error))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                        .allow_unauthenticated()
                        .build()
                        .map_err(|error| wrong(&error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_cert_resolver(Arc::<Present>::clone(&self.0) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A resumed session would authenticate without the key.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// How many connections each of many has at present.
#[derive(Clone, Debug)]
struct Crowd {
    most: usize,
    counts: Arc<Mutex<HashMap<Vec<u8>, usize>>>,
}

/// The right of one of them to one connection.
#[derive(Debug)]
struct Place {
    crowd: Crowd,
    who: Vec<u8>,
}

impl Crowd {
    /// In which each may have so many.
    fn new(most: usize) -> Self {
        Self { most, counts: Arc::default() }
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Vec<u8>, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A further connection; nothing when it has enough of them.
    fn join(&self, who: Vec<u8>) -> Option<Place> {
        let mut counts = self.counts();
        let count = counts.entry(who.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count = count.saturating_add(1);
        drop(counts);
        Some(Place { crowd: self.clone(), who })
    }
}

/// An address as far as it tells one machine from another: of IPv6 the network, of which a machine may have all addresses.
fn machine(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().into_iter().take(8).collect(),
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) =
            self.crowd.counts().entry(core::mem::take(&mut self.who))
        {
            let count = entry.get_mut();
            *count = count.saturating_sub(1);
            if *count == 0 {
                entry.remove();
            }
        }
    }
}

impl Service {
    /// Serves until `stop` is cancelled, and then until the requests under way have ended, for ten seconds at most.
    /// Without TLS only on a loopback address.
    ///
    /// # Errors
    /// When the listener may not be served on.
    pub async fn serve(
        self,
        listener: TcpListener,
        tls: Option<Tls>,
        stop: CancellationToken,
    ) -> Result<(), ListenError> {
        let address = listener.local_addr()?;
        if tls.is_none() && !address.ip().is_loopback() {
            return Err(ListenError::PlainBeyondLoopback(address));
        }
        let acceptor = tls.map(|tls| tls.acceptor(&self)).transpose()?;
        let clock = Arc::clone(&self.clock);
        let connections = tokio_util::task::TaskTracker::new();
        connections.spawn(self.clone().look_after_regularly(stop.clone()));
        let router = document::router(Self { stop: stop.clone(), ..self });
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let reserved = Arc::new(Semaphore::new(CONNECTOR_CONNECTIONS));
        let machines = Crowd::new(CONNECTIONS_OF_ONE_ADDRESS);
        let crowd = Crowd::new(CONNECTIONS_OF_ONE);
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, or the peer is gone already: neither ends the service.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            };
            let Some(machine) = machines.join(machine(peer.ip())) else {
                tracing::debug!(%peer, "too many connections from one address");
                continue;
            };
            // A head and a body are two writes: the second must not wait until the peer has acknowledged the first.
            let _ = stream.set_nodelay(true);
            let (router, acceptor, stop) = (router.clone(), acceptor.clone(), stop.clone());
            let (clock, reserved, crowd) =
                (Arc::clone(&clock), Arc::clone(&reserved), crowd.clone());
            connections.spawn(async move {
                let Some(acceptor) = acceptor else {
                    let _place = (place, machine);
                    let (transport, since) = (Transport::Plain, clock.now());
                    let peer = PeerCertificate { certificate: None, transport, since };
                    return converse(stream, router, peer, &stop).await;
                };
                let handshake = tokio::time::timeout(HEAD_TIME, acceptor.accept(stream));
                let stream = tokio::select! {
                    shaken = handshake => match shaken {
                        Ok(Ok(stream)) => stream,
                        Ok(Err(error)) => return tracing::debug!(%error, "no TLS"),
                        Err(_) => return tracing::debug!("no TLS in time"),
                    },
                    () = stop.cancelled() => return,
                };
                let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                let Ok(certificate) = leaf.map(|der| Certificate::parse(der)).transpose() else {
                    return tracing::debug!("a client certificate cannot be read");
                };
                let _place = match &certificate {
                    None => (place, machine),
                    Some(certificate) => {
                        drop((place, machine));
                        // A renewed certificate has the same subject.
                        let Some(own) = crowd.join(certificate.subject_der().to_vec()) else {
                            return tracing::warn!("too many connections of one connector");
                        };
                        let Ok(place) = reserved.try_acquire_owned() else {
                            return tracing::warn!("too many connections of connectors");
                        };
                        (place, own)
                    }
                };
                let (transport, since) = (Transport::Tls, clock.now());
                let peer = PeerCertificate { certificate, transport, since };
                converse(stream, router, peer, &stop).await;
            });
        }
        drop(listener);
        connections.close();
        connections.wait().await;
        Ok(())
    }
}

/// Serves one connection. Each of its requests carries who the peer is.
async fn converse<S>(
    stream: S,
    router: axum::Router,
    peer: PeerCertificate,
    stop: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = core::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(STOP_TIME, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}
