//! HTTP by hand: every octet of a request as the check has it, and where an exchange ended when it did not succeed.

use core::fmt;
use core::time::Duration;
use reqwest::Url;
use scep_types::CertificateDer;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::ResolvesClientCert;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::pki_types::{CertificateDer as TlsCertificate, ServerName, UnixTime};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

/// No answer to these requests is longer.
const MAX_ANSWER: u64 = 4 << 20;

/// Where an exchange ended.
#[derive(Debug)]
pub(crate) enum Died {
    Connect(String),
    Tls(String),
    Send(String),
    Silence,
    NotHttp,
}

impl fmt::Display for Died {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(why) => write!(f, "died at the connection: {why}"),
            Self::Tls(why) => write!(f, "died in the TLS handshake: {why}"),
            Self::Send(why) => write!(f, "the connection was closed without an answer: {why}"),
            Self::Silence => f.write_str("no answer in time"),
            Self::NotHttp => f.write_str("the answer is not HTTP"),
        }
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(&found.1)
    }

    pub(crate) fn content_type(&self) -> &str {
        self.header("content-type").unwrap_or_default()
    }

    /// Whether Windows and people get a web page.
    pub(crate) fn is_html(&self) -> bool {
        let start = self.body.get(..self.body.len().min(512)).unwrap_or_default();
        let start = String::from_utf8_lossy(start).to_ascii_lowercase();
        self.content_type().to_ascii_lowercase().starts_with("text/html") || start.contains("<html")
    }

    /// Status, and who says so as far as it says who it is.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("HTTP status {}", self.status);
        if let Some(server) = self.header("server") {
            text.push_str(&format!(" from {}", printable(server)));
        }
        if let Some(via) = self.header("via") {
            text.push_str(&format!(" via {}", printable(via)));
        }
        if self.is_html() {
            text.push_str(", with a web page");
        }
        text
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(bytes.get(..end)?).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect();
        let body = bytes.get(end.checked_add(4)?..)?.to_vec();
        let mut answer = Self { status, headers, body };
        let chunked = answer.header("transfer-encoding");
        if chunked.is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            answer.body = dechunk(&answer.body)?;
        }
        Some(answer)
    }

    /// Whether all of it has come, for servers that do not close.
    fn whole(bytes: &[u8]) -> bool {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
        let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
        let length = head.split("\r\n").filter_map(|line| line.split_once(':')).find_map(|pair| {
            pair.0.eq_ignore_ascii_case("content-length").then(|| pair.1.trim().parse().ok())?
        });
        let have = bytes.len().saturating_sub(end).saturating_sub(4);
        length.is_some_and(|length: usize| have >= length)
    }
}

/// What a server says of itself, fit for a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(80).collect()
}

fn dechunk(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let line = core::str::from_utf8(bytes.get(..end)?).ok()?;
        let length = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        bytes = bytes.get(end.checked_add(2)?..)?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(bytes.get(..length)?);
        bytes = bytes.get(length.checked_add(2)?..)?;
    }
}

/// What was seen in handshakes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Why the server's certificate is not acceptable.
    pub(crate) objection: Option<String>,
    /// The server has asked for a client certificate.
    pub(crate) asked: bool,
}

/// Notes what is wrong with a certificate, and lets the handshake go on: the other checks are to be made all the same,
/// and what they send is secret to nobody.
#[derive(Debug)]
struct Witness {
    verifier: Arc<WebPkiServerVerifier>,
    seen: Arc<Mutex<Seen>>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &TlsCertificate<'_>,
        intermediates: &[TlsCertificate<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judged = self.verifier.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        if let Err(error) = judged {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.objection = Some(error.to_string());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &TlsCertificate<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &TlsCertificate<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Has no certificate, and notes that one was wanted.
#[derive(Debug)]
struct Asked(Arc<Mutex<Seen>>);

impl ResolvesClientCert for Asked {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).asked = true;
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// One server, asked with one connection for each request.
pub(crate) struct Wire {
    host: String,
    port: u16,
    /// As in a Host header.
    pub(crate) authority: String,
    /// Of the URL, without a slash at its end.
    pub(crate) path: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    seen: Arc<Mutex<Seen>>,
    timeout: Duration,
}

impl Wire {
    pub(crate) fn new(
        url: &str,
        roots: &[CertificateDer],
        timeout: Duration,
    ) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| error.to_string())?;
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err("give it without user name, password and query".into());
        }
        let host = url.host_str().ok_or("it has no host")?.to_owned();
        let port = url.port_or_known_default().ok_or("it has no port")?;
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let tls = match url.scheme() {
            "http" => None,
            "https" => {
                let name = ServerName::try_from(bare.clone()).map_err(|error| error.to_string())?;
                Some((connector(roots, &seen)?, name))
            }
            _ => return Err("neither http nor https".into()),
        };
        let authority = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        let path = url.path().trim_end_matches('/').to_owned();
        Ok(Self { host: bare, port, authority, path, tls, seen, timeout })
    }

    pub(crate) const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The path to ask for: that of the URL, or the root.
    pub(crate) fn path(&self) -> &str {
        if self.path.is_empty() { "/" } else { &self.path }
    }

    pub(crate) async fn get(&self, target: &str) -> Result<Answer, Died> {
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: {}\r\nUser-Agent: scep-gateway-doctor\r\nConnection: close\r\n\r\n",
            self.authority
        );
        self.exchange(head.as_bytes()).await
    }

    /// Sends these octets and reads the answer.
    pub(crate) async fn exchange(&self, request: &[u8]) -> Result<Answer, Died> {
        let bytes = tokio::time::timeout(self.timeout, self.converse(request))
            .await
            .map_err(|_| Died::Silence)??;
        Answer::parse(&bytes).ok_or(Died::NotHttp)
    }

    async fn converse(&self, request: &[u8]) -> Result<Vec<u8>, Died> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| Died::Connect(error.to_string()))?;
        match &self.tls {
            None => talk(stream, request).await,
            Some((connector, name)) => {
                let stream = connector
                    .connect(name.clone(), stream)
                    .await
                    .map_err(|error| Died::Tls(error.to_string()))?;
                talk(stream, request).await
            }
        }
    }
}

async fn talk(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
) -> Result<Vec<u8>, Died> {
    // A server that refuses a long request answers before it has read it: what it says counts, not that it closed.
    let sent = async {
        stream.write_all(request).await?;
        stream.flush().await
    }
    .await;
    let mut bytes = Vec::new();
    let mut part = [0; 8192];
    while bytes.len() as u64 <= MAX_ANSWER {
        match stream.read(&mut part).await {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(part.get(..n).unwrap_or_default()),
            Err(_) if !bytes.is_empty() => break,
            Err(error) => return Err(Died::Send(error.to_string())),
        }
        if Answer::whole(&bytes) {
            break;
        }
    }
    match (bytes.is_empty(), sent) {
        (false, _) => Ok(bytes),
        (true, Err(error)) => Err(Died::Send(error.to_string())),
        (true, Ok(())) => Err(Died::Send("it just closed".into())),
    }
}

fn connector(roots: &[CertificateDer], seen: &Arc<Mutex<Seen>>) -> Result<TlsConnector, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut store = RootCertStore::empty();
    // Without those of the platform only the given ones count, and the finding says what was not trusted.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for root in roots {
        store.add(root.as_der().to_vec().into()).map_err(|error| error.to_string())?;
    }
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider))
            .build()
            .map_err(|error| format!("no root certificates for TLS: {error}"))?;
    let witness = Witness { verifier, seen: Arc::clone(seen) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(witness))
        .with_client_cert_resolver(Arc::new(Asked(Arc::clone(seen))));
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_with_and_without_chunks() {
        let plain = b"HTTP/1.0 414 URI\r\nServer: nginx/1.22\r\nContent-Length: 6\r\n\r\n<HTML>";
        let answer = Answer::parse(plain).unwrap();
        assert_eq!(answer.describe(), "HTTP status 414 from nginx/1.22, with a web page");
        assert!(Answer::whole(plain) && !Answer::whole(&plain[..plain.len() - 1]));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        assert_eq!(Answer::parse(chunked).unwrap().body, b"abcde");
        assert!(Answer::parse(&chunked[..chunked.len() - 7]).is_none());
        assert!(Answer::parse(b"SSH-2.0-x\r\n\r\n").is_none());
    }

    #[test]
    fn urls_are_of_http_and_have_no_query() {
        let wire = |url| Wire::new(url, &[], Duration::from_secs(1));
        let good = wire("http://[::1]:8080/scep/").unwrap();
        assert_eq!((&*good.authority, &*good.host, good.path()), ("[::1]:8080", "::1", "/scep"));
        for bad in ["ftp://a/", "http://a/?x", "http://u@a/", "scep"] {
            assert!(wire(bad).is_err(), "{bad}");
        }
    }
}
