//! HTTP: no redirects, bounded answers, bounded time.

use crate::error::{ClientError, Step};
use core::fmt::Write as _;
use core::time::Duration;
use reqwest::{Certificate, Client, Method, Url, redirect};
use scep_cms::{LegacyAlgorithms, Limits};
use scep_message::http::{PKI_MESSAGE, pki_operation_query};
use scep_types::{CertificateDer, RsaPadding};

/// How PKIOperation is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Transport {
    /// By POST where the server says POSTPKIOperation or SCEPStandard, else by GET (RFC 8894, 4.1).
    #[default]
    Auto,
    /// By POST.
    Post,
    /// By GET.
    Get,
}

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// How PKIOperation is sent.
    pub transport: Transport,
    /// For each exchange, from connecting to the last octet.
    pub timeout: Duration,
    /// Longest answer.
    pub max_response: usize,
    /// Limits of what is parsed.
    pub limits: Limits,
    /// Whether servers are talked to that say they know no AES or no SHA-2: requests are encrypted with 3DES, and
    /// SHA-1 and 3DES are taken in replies. Signatures are made with SHA-2 all the same.
    pub legacy: LegacyAlgorithms,
    /// How content keys are encrypted. RSAES-OAEP is safer, but few servers know it.
    pub key_transport: RsaPadding,
    /// Further roots for HTTPS, besides the platform's. SCEP is made for plain HTTP and needs none.
    pub tls_roots: Vec<CertificateDer>,
    /// Sent as `message` of GetCACaps, GetCACert and GetNextCACert, for servers with several CAs.
    pub ca_identifier: Option<String>,
}

impl Default for ClientSettings {
    /// [`Transport::Auto`], 60 seconds, 1 MiB, PKCS #1 v1.5, and no legacy algorithms.
    fn default() -> Self {
        Self {
            transport: Transport::Auto,
            timeout: Duration::from_secs(60),
            max_response: 1 << 20,
            limits: Limits::default(),
            legacy: LegacyAlgorithms::Refuse,
            key_transport: RsaPadding::Pkcs1v15,
            tls_roots: Vec::new(),
            ca_identifier: None,
        }
    }
}

/// One server, and how it is talked to.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: Client,
    url: Url,
    max_response: usize,
}

/// What is sent.
pub(crate) enum Send<'a> {
    Query(String),
    GetMessage(&'a [u8]),
    PostMessage(Vec<u8>),
}

impl Http {
    pub(crate) fn new(url: &str, settings: &ClientSettings) -> Result<Self, ClientError> {
        let wrong = |why: &str| ClientError::Url { why: why.to_owned() };
        let mut url = Url::parse(url).map_err(|e| wrong(&e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("neither http nor https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it has a user name or a password"));
        }
        url.set_fragment(None);
        let setup = |e: reqwest::Error| ClientError::Setup { why: reasons(e) };
        let roots: Vec<Certificate> = settings
            .tls_roots
            .iter()
            .map(|root| Certificate::from_der(root.as_der()).map_err(setup))
            .collect::<Result<_, _>>()?;
        let builder = Client::builder()
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .timeout(settings.timeout);
        // The platform's roots are not even looked for where no TLS is spoken: a container without any is no reason
        // to fail then.
        let builder = if url.scheme() == "https" {
            builder.tls_certs_merge(roots)
        } else {
            builder.tls_certs_only(roots)
        };
        let client = builder.build().map_err(setup)?;
        Ok(Self { client, url, max_response: settings.max_response })
    }

    /// The configured URL with one query more; a query it has already stays in front.
    fn url(&self, query: &str) -> Url {
        let mut url = self.url.clone();
        let all = match self.url.query() {
            Some(first) if !first.is_empty() => format!("{first}&{query}"),
            _ => query.to_owned(),
        };
        url.set_query(Some(&all));
        url
    }

    pub(crate) async fn exchange(
        &self,
        step: Step,
        send: Send<'_>,
    ) -> Result<Vec<u8>, ClientError> {
        let request = match send {
            Send::Query(query) => self.client.request(Method::GET, self.url(&query)),
            Send::GetMessage(message) => {
                self.client.request(Method::GET, self.url(&pki_operation_query(message)))
            }
            Send::PostMessage(message) => self
                .client
                .request(Method::POST, self.url("operation=PKIOperation"))
                .header("Content-Type", PKI_MESSAGE)
                .body(message),
        };
        let failed = |error: reqwest::Error| {
            if error.is_connect() {
                ClientError::Unreachable { step, why: reasons(error) }
            } else if error.is_timeout() {
                ClientError::Timeout { step }
            } else {
                ClientError::Connection { step, why: reasons(error) }
            }
        };
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(ClientError::Redirect { step, status: status.as_u16() });
        }
        if !status.is_success() {
            return Err(ClientError::Status { step, status: status.as_u16() });
        }
        // The announced length is only a hint: what counts is what comes.
        let limit = self.max_response;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if chunk.len() > limit.saturating_sub(body.len()) {
                return Err(ClientError::TooLong { step, limit });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// An error and its causes in one line, without the URL: a GET's has the whole message in it.
fn reasons(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut next = std::error::Error::source(&error);
    while let Some(cause) = next {
        // Writing to a String does not fail.
        let _ = write!(text, ": {cause}");
        next = cause.source();
    }
    text
}

/// The query of an operation without a message.
pub(crate) fn query(step: Step, ca_identifier: Option<&str>) -> String {
    let mut query = format!("operation={}", step.name());
    if let Some(identifier) = ca_identifier {
        query.push_str("&message=");
        for b in identifier.bytes() {
            if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
                query.push(char::from(b));
            } else {
                // Writing to a String does not fail.
                let _ = write!(query, "%{b:02X}");
            }
        }
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_of_http_are_taken() {
        let new = |url: &str| Http::new(url, &ClientSettings::default()).map(|http| http.url);
        for bad in ["", "scep.example.org", "ftp://a/b", "file:///etc/passwd", "http://u:p@a/"] {
            assert!(matches!(new(bad), Err(ClientError::Url { .. })), "{bad}");
        }
        assert_eq!(new("https://a/scep#x").unwrap().as_str(), "https://a/scep");
    }

    #[test]
    fn queries_are_appended_and_escaped() {
        let http = |url: &str| Http::new(url, &ClientSettings::default()).unwrap();
        let caps = query(Step::GetCaCaps, Some("R&D Devices"));
        assert_eq!(caps, "operation=GetCACaps&message=R%26D%20Devices");
        let url = http("http://a/scep").url(&caps);
        assert_eq!(url.as_str(), "http://a/scep?operation=GetCACaps&message=R%26D%20Devices");
        let url = http("http://a/scep?tenant=7").url("operation=GetCACert");
        assert_eq!(url.as_str(), "http://a/scep?tenant=7&operation=GetCACert");
        // Base64's special characters stay escaped.
        let url = http("http://a/").url(&pki_operation_query(&[0xfb, 0xef, 0xff, 0xfe]));
        assert_eq!(url.as_str(), "http://a/?operation=PKIOperation&message=%2B%2B%2F%2F%2Fg%3D%3D");
    }
}
