//! One exchange with the server: no redirects, bounded answers, bounded time, and a failure that says what is certain.

use super::health::Health;
use super::{OpenBaoSettings, answer, tls};
use crate::error::CaError;
use core::fmt::Write as _;
use core::time::Duration;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, Method, Url, redirect};
use scep_types::Secret;
use std::time::Instant;

/// The header of tokens, and that of namespaces: the same in OpenBao and in HashiCorp Vault.
const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Without it an agent or proxy of the server's refuses requests, against forged ones out of browsers.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// Why there is no answer, and what is certain then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The request never left.
    NotSent {
        /// Why.
        why: String,
        /// Whether another attempt may go better.
        again: bool,
    },
    /// The server has said no.
    Refused {
        /// The status code.
        status: u16,
        /// As the server says.
        why: String,
    },
    /// Nobody knows what the server did.
    Unclear(String),
}

impl Failure {
    /// What another attempt does not change.
    pub(super) fn unsendable(why: impl ToString) -> Self {
        Self::NotSent { why: why.to_string(), again: false }
    }

    pub(super) const fn is_permission(&self) -> bool {
        matches!(self, Self::Refused { status: 403, .. })
    }

    pub(super) const fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// For callers that only ask again later: what may change by itself, or by an operator at the server, is not final.
    pub(super) fn for_later(self) -> CaError {
        match self {
            Self::NotSent { why, .. } | Self::Unclear(why) => CaError::Unavailable { why },
            Self::Refused { status: 403 | 412 | 429, .. } => {
                CaError::Unavailable { why: self.to_string() }
            }
            Self::Refused { .. } => CaError::Refused { why: self.to_string() },
        }
    }
}

impl core::fmt::Display for Failure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotSent { why, .. } | Self::Unclear(why) => f.write_str(why),
            Self::Refused { status, why } => write!(f, "status {status}: {why}"),
        }
    }
}

/// The server, and how it is talked to.
#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    /// Ends in `/v1/`.
    base: Url,
    max_answer: usize,
    retry_for: Duration,
    health: Health,
}

/// The pause before a second attempt; before each further one it is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// What a request is.
#[derive(Clone, Copy)]
pub(super) enum Ask<'a> {
    Get,
    List,
    Post(&'a serde_json::Value),
}

impl Http {
    pub(super) fn new(settings: &OpenBaoSettings) -> Result<Self, CaError> {
        let wrong = |why: &str| CaError::Setting { what: "address", why: why.to_owned() };
        let mut base = Url::parse(&settings.address).map_err(|error| wrong(&error.to_string()))?;
        if !base.username().is_empty() || base.password().is_some() {
            return Err(wrong("it has a user name or a password"));
        }
        if base.query().is_some() || base.fragment().is_some() || base.path() != "/" {
            return Err(wrong("only scheme, host and port are wanted"));
        }
        let loopback = match base.host_str() {
            Some(host) => host
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .map_or(host == "localhost", |address| address.is_loopback()),
            None => false,
        };
        match base.scheme() {
            "https" => {}
            "http" if loopback => {}
            "http" => return Err(wrong("http is for this machine only: the token goes over it")),
            _ => return Err(wrong("neither http nor https")),
        }
        base.set_path("/v1/");
        let setup = |error: reqwest::Error| CaError::Setting { what: "TLS", why: reasons(error) };
        let roots = settings
            .tls_roots
            .iter()
            .map(|root| Certificate::from_der(root.as_der()).map_err(setup))
            .collect::<Result<Vec<_>, _>>()?;
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST, HeaderValue::from_static("true"));
        if let Some(namespace) = &settings.namespace {
            let value = HeaderValue::from_str(namespace)
                .map_err(|error| CaError::Setting { what: "namespace", why: error.to_string() })?;
            headers.insert(NAMESPACE, value);
        }
        let builder = Client::builder()
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            // A request is sent once: whoever asks decides whether it may be asked again.
            .retry(reqwest::retry::never())
            .default_headers(headers)
            // Half of the time: a connection that is not made is told from an answer that does not come.
            .connect_timeout(settings.timeout.checked_div(2).unwrap_or_default())
            .timeout(settings.timeout);
        // The platform's roots are taken only where the operator has named neither roots nor keys.
        let builder = if !settings.tls_pins.is_empty() {
            if base.scheme() != "https" {
                return Err(wrong("http shows no key that could be the pinned one"));
            }
            builder.tls_backend_preconfigured(tls::pinned(&settings.tls_pins, &settings.tls_roots)?)
        } else if base.scheme() == "https" && roots.is_empty() {
            builder
        } else {
            builder.tls_certs_only(roots)
        };
        let client = builder.build().map_err(setup)?;
        let OpenBaoSettings { max_answer, retry_for, .. } = *settings;
        Ok(Self { client, base, max_answer, retry_for, health: Health::default() })
    }

    pub(super) const fn health(&self) -> &Health {
        &self.health
    }

    /// An exchange, begun again where the server has certainly done nothing: it was not reached, or has said that it
    /// has too much to do. Not for longer than the settings say, and not at all at a server that has been away for
    /// longer: what it does not take at once is refused at once.
    pub(super) async fn exchange(
        &self,
        path: &str,
        ask: Ask<'_>,
        token: Option<&Secret<String>>,
    ) -> Result<Vec<u8>, Failure> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let mut wait = pause;
            let outcome = self.once(path, ask, token, &mut wait).await;
            self.health.exchanged(&outcome);
            let again = match &outcome {
                Err(Failure::NotSent { again, .. }) => *again,
                Err(Failure::Refused { status, .. }) => *status == 429,
                Ok(_) | Err(Failure::Unclear(_)) => false,
            };
            let spent = begun.elapsed().max(self.health.away_for().unwrap_or_default());
            if !again || spent.saturating_add(wait) > self.retry_for {
                return outcome;
            }
            tokio::time::sleep(wait).await;
            pause = pause.saturating_mul(2);
        }
    }

    /// One exchange. `path` is below `/v1/`, with its variable parts already escaped. `wait`: for how long the server
    /// wants to be left alone.
    async fn once(
        &self,
        path: &str,
        ask: Ask<'_>,
        token: Option<&Secret<String>>,
        wait: &mut Duration,
    ) -> Result<Vec<u8>, Failure> {
        let url = self.base.join(path).map_err(Failure::unsendable)?;
        let mut request = match ask {
            Ask::Get => self.client.request(Method::GET, url),
            // A verb of the server's own; this query is its form for everybody else.
            Ask::List => {
                let mut url = url;
                url.set_query(Some("list=true"));
                self.client.request(Method::GET, url)
            }
            Ask::Post(body) => self
                .client
                .request(Method::POST, url)
                .header("content-type", "application/json")
                .body(body.to_string()),
        };
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(token.expose()).map_err(Failure::unsendable)?;
            value.set_sensitive(true);
            request = request.header(TOKEN, value);
        }
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        if let Some(seconds) = seconds.and_then(|text| text.parse().ok()) {
            *wait = Duration::from_secs(seconds).max(*wait);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if chunk.len() > self.max_answer.saturating_sub(body.len()) {
                let why = format!("the answer is longer than {} octets", self.max_answer);
                return Err(Failure::Unclear(why));
            }
            body.extend_from_slice(&chunk);
        }
        match status.as_u16() {
            200..=299 => Ok(body),
            // What is said before anything is done. A 408 may come from a proxy that has passed the request on.
            status @ (400 | 401 | 403 | 404 | 405 | 412 | 413 | 415 | 429) => {
                Err(Failure::Refused { status, why: answer::errors(&body) })
            }
            status => Err(Failure::Unclear(format!("status {status}: {}", answer::errors(&body)))),
        }
    }
}

fn failed(error: reqwest::Error) -> Failure {
    let not_sent = error.is_connect() || error.is_builder();
    let certificate = tls::about_certificate(&error);
    let again = error.is_connect() && certificate.is_none();
    let why = match certificate {
        Some(why) => why,
        None if error.is_timeout() => "timed out".to_owned(),
        None => reasons(error),
    };
    if not_sent { Failure::NotSent { why, again } } else { Failure::Unclear(why) }
}

/// An error and its causes in one line.
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
