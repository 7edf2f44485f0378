//! A connection to the issuer: straight, or through a proxy's tunnel (CONNECT, RFC 9110, 9.3.6).

use crate::settings::{Hop, IssuerAddress, Proxy, authority};
use crate::{ConnectorError, tls};
use core::time::Duration;
use scep_types::Secret;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// For name, connection, proxy and TLS together.
const CONNECT_TIME: Duration = Duration::from_secs(20);
/// The longest head of a proxy's answer.
const MAX_HEAD: usize = 16 << 10;

/// A connection of whatever kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects and shakes hands.
pub(crate) async fn open(
    issuer: &IssuerAddress,
    proxy: Option<&Proxy>,
    config: tls::Config,
) -> Result<Box<dyn Stream>, ConnectorError> {
    let opened = tokio::time::timeout(CONNECT_TIME, connect(issuer, proxy, config)).await;
    opened.unwrap_or(Err(ConnectorError::TimedOut { what: "connecting", after: CONNECT_TIME }))
}

async fn connect(
    issuer: &IssuerAddress,
    proxy: Option<&Proxy>,
    config: tls::Config,
) -> Result<Box<dyn Stream>, ConnectorError> {
    let stream = match proxy {
        None => Box::new(tcp(issuer.host(), issuer.port()).await?),
        Some(proxy) => tunnel(issuer, proxy).await?,
    };
    shake(stream, issuer.host(), issuer.port(), config).await
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, ConnectorError> {
    let stream = TcpStream::connect((host, port)).await.map_err(|error| {
        ConnectorError::Unreachable { whom: authority(host, port), why: error.to_string() }
    })?;
    // One request and one answer: nothing is gained by waiting for more to send.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

async fn shake(
    stream: Box<dyn Stream>,
    host: &str,
    port: u16,
    config: tls::Config,
) -> Result<Box<dyn Stream>, ConnectorError> {
    let whom = authority(host, port);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| ConnectorError::Tls {
        whom: whom.clone(),
        why: "this is no name of a host".to_owned(),
    })?;
    let shaken = TlsConnector::from(config).connect(name, stream).await;
    Ok(Box::new(shaken.map_err(|error| tls::explain(&error, &whom))?))
}

async fn tunnel(issuer: &IssuerAddress, proxy: &Proxy) -> Result<Box<dyn Stream>, ConnectorError> {
    let plain: Box<dyn Stream> = Box::new(tcp(proxy.host(), proxy.port()).await?);
    let mut stream = match proxy.hop() {
        Hop::Plain => plain,
        Hop::Tls => shake(plain, proxy.host(), proxy.port(), tls::to_proxy()?).await?,
    };
    let broken = |error: std::io::Error| ConnectorError::Unreachable {
        whom: format!("the proxy {}", proxy.name()),
        why: error.to_string(),
    };
    let to = authority(issuer.host(), issuer.port());
    let mut head = Secret::new(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n"));
    if let Some(authorization) = proxy.authorization() {
        head.expose_mut().push_str("Proxy-Authorization: ");
        head.expose_mut().push_str(authorization.expose());
        head.expose_mut().push_str("\r\n");
    }
    head.expose_mut().push_str("\r\n");
    stream.write_all(head.expose().as_bytes()).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let malformed = || ConnectorError::ProxyMalformed { proxy: proxy.name() };
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= MAX_HEAD {
            return Err(malformed());
        }
        // Octet by octet: what follows the head is the tunnel's. It is a few hundred octets once per connection.
        answer.push(stream.read_u8().await.map_err(broken)?);
    }
    let status = status(&answer).ok_or_else(malformed)?;
    if (200..300).contains(&status) {
        Ok(stream)
    } else {
        Err(ConnectorError::ProxyRefused { proxy: proxy.name(), status })
    }
}

/// Of `HTTP/1.x 200 ...`.
fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?.get(1..)?.strip_prefix(b" ")?;
    let (digits, rest) = rest.split_at_checked(3)?;
    if !digits.iter().all(u8::is_ascii_digit) || !matches!(rest.first(), Some(b' ' | b'\r')) {
        return None;
    }
    core::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_is_read_strictly() {
        assert_eq!(status(b"HTTP/1.0 200 Connection established\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.1 407\r\n\r\n"), Some(407));
        for wrong in
            [&b"HTTP/2 200 OK\r\n\r\n"[..], b"200 OK\r\n\r\n", b"HTTP/1.1 2000\r\n\r\n", b""]
        {
            assert_eq!(status(wrong), None);
        }
    }
}
