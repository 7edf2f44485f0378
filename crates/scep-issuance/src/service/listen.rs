//! Connections: TLS or, on loopback, none; limits of number and time; a stop that lets requests end.

use crate::service::{Service, document};
use core::fmt;
use core::time::Duration;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_util::sync::CancellationToken;

/// Connections at one time.
const CONNECTIONS: usize = 512;
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
}

/// A certificate chain and its key.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads PEM files.
    ///
    /// # Errors
    /// When a file cannot be read, or certificate and key do not belong together.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let file = |path: &Path, why: String| TlsError::File { path: path.into(), why };
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| file(certificate, error.to_string()))?;
        if chain.is_empty() {
            return Err(file(certificate, "no certificate in it".to_owned()));
        }
        let key =
            PrivateKeyDer::from_pem_file(key).map_err(|error| file(key, error.to_string()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map(|builder| builder.with_no_client_auth())
            .and_then(|builder| builder.with_single_cert(chain, key))
            .map_err(|error| TlsError::Pair(error.to_string()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
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
        let router = document::router(self);
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let connections = tokio_util::task::TaskTracker::new();
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, or the peer is gone already: neither ends the service.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            };
            let (router, tls, stop) = (router.clone(), tls.clone(), stop.clone());
            connections.spawn(async move {
                let _place = place;
                match tls {
                    None => converse(stream, router, &stop).await,
                    Some(Tls(acceptor)) => {
                        let handshake = tokio::time::timeout(HEAD_TIME, acceptor.accept(stream));
                        tokio::select! {
                            shaken = handshake => match shaken {
                                Ok(Ok(stream)) => converse(stream, router, &stop).await,
                                Ok(Err(error)) => tracing::debug!(%error, "no TLS"),
                                Err(_) => tracing::debug!("no TLS in time"),
                            },
                            () = stop.cancelled() => {}
                        }
                    }
                }
            });
        }
        drop(listener);
        connections.close();
        connections.wait().await;
        Ok(())
    }
}

async fn converse<S>(stream: S, router: axum::Router, stop: &CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
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
