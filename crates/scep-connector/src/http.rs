//! One exchange: a connection, a request, an answer within its limits.

use crate::settings::{IssuerAddress, Proxy, authority};
use crate::{ConnectorError, tls, tunnel};

use core::time::Duration;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use scep_link::{Answer, Message};

/// The longest head of an answer.
const MAX_HEAD: usize = 32 << 10;
/// A problem may be longer than a short answer.
const MAX_PROBLEM: usize = 16 << 10;
/// For request and answer, once connected; a check-in may take longer by what it waits.
pub(crate) const EXCHANGE_TIME: Duration = Duration::from_secs(30);
/// What a Retry-After may ask for at most: a proxy's slip must not silence a gateway.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Where to, and through which proxy.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) issuer: IssuerAddress,
    pub(crate) proxy: Option<Proxy>,
}

/// An answer whose meaning is not judged yet.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) media_type: String,
    pub(crate) body: Bytes,
    pub(crate) retry_after: Option<Duration>,
}

/// What the answer to a request is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    pub(crate) accept: &'static str,
    pub(crate) max: usize,
    pub(crate) time: Duration,
}

impl Route {
    /// A request whose answer is JSON.
    pub(crate) async fn ask<M: Message, A: Answer>(
        &self,
        config: tls::Config,
        path: &str,
        message: &M,
    ) -> Result<A, ConnectorError> {
        let due = Due { accept: "application/json", max: A::MAX_BYTES, time: EXCHANGE_TIME };
        let raw = self.post(config, path, message, due).await?;
        scep_link::accept(raw.status, &raw.media_type, &raw.body)
            .map_err(|error| ConnectorError::Answer { error, retry_after: raw.retry_after })
    }

    /// A request. Redirects are answers like any other: nobody follows them.
    pub(crate) async fn post<M: Message>(
        &self,
        config: tls::Config,
        path: &str,
        message: &M,
        due: Due,
    ) -> Result<Raw, ConnectorError> {
        let body = scep_link::write(message)?;
        let stream = tunnel::open(&self.issuer, self.proxy.as_ref(), config).await?;
        let exchanged = tokio::time::timeout(due.time, self.exchange(stream, path, body, due));
        exchanged
            .await
            .unwrap_or(Err(ConnectorError::TimedOut { what: "the answer", after: due.time }))
    }

    async fn exchange(
        &self,
        stream: Box<dyn tunnel::Stream>,
        path: &str,
        body: Vec<u8>,
        due: Due,
    ) -> Result<Raw, ConnectorError> {
        let http = |error: hyper::Error| {
            // The cause is what helps: the outer text is as short as "connection error".
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            ConnectorError::Http { why: format!("{error}{}", cause.unwrap_or_default()) }
        };
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}{path}", self.issuer.path()))
            .header(HOST, authority(self.issuer.host(), self.issuer.port()))
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, due.accept)
            .header(USER_AGENT, concat!("scep-connector/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| ConnectorError::Http { why: error.to_string() })?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(http)?;
        let answering = async move {
            let answer = sender.send_request(request).await.map_err(http)?;
            let (head, body) = answer.into_parts();
            let max = due.max.max(MAX_PROBLEM);
            let body = Limited::new(body, max).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    ConnectorError::AnswerTooLong { max }
                } else {
                    ConnectorError::Http { why: error.to_string() }
                }
            })?;
            let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
            Ok(Raw {
                status: head.status.as_u16(),
                media_type: text(CONTENT_TYPE).unwrap_or_default().to_owned(),
                retry_after: text(RETRY_AFTER).and_then(seconds),
                body: body.to_bytes(),
            })
        };
        let mut answering = core::pin::pin!(answering);
        let mut connection = core::pin::pin!(connection);
        tokio::select! {
            biased;
            answer = answering.as_mut() => return answer,
            // The request's own error says more.
            _ = connection.as_mut() => {}
        }
        answering.await
    }
}

/// Seconds, the one form that issuers send. (A date, which the standard has too, would need the issuer's clock.)
fn seconds(text: &str) -> Option<Duration> {
    text.trim().parse().ok().map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}
