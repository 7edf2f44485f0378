//! The admin API as a client sees it.

use crate::admin::pin;
use crate::admin::table::Form;
use crate::error::IssuerError;
use clap::Args;
use core::time::Duration;
use reqwest::{Certificate, Client, Method, Url};
use scep_types::{CertificateDer, Secret, SpkiHash};
use serde_json::Value;
use std::path::PathBuf;
use thiserror::Error;

/// For one request.
const PATIENCE: Duration = Duration::from_secs(60);
/// The largest answer that is read.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Above these options in the help of every command.
const SERVICE: &str = "The service";

/// Where the service is, and who asks.
#[derive(Debug, Args)]
pub(crate) struct ApiOptions {
    /// The service: `https://issuer.example.org:8445`.
    #[arg(long, env = "SCEP_ISSUER_URL", value_name = "URL", global = true, help_heading = SERVICE)]
    url: Option<String>,
    /// A file with a bearer token of `token create`. Without it, the environment variable SCEP_ISSUER_TOKEN is the
    /// token.
    #[arg(long, env = "SCEP_ISSUER_TOKEN_FILE", value_name = "FILE", global = true, help_heading = SERVICE)]
    token_file: Option<PathBuf>,
    /// Certificates to trust instead of the system's, PEM: tls.pem of the service's folder.
    #[arg(long, env = "SCEP_ISSUER_CA_FILE", value_name = "FILE", global = true, help_heading = SERVICE)]
    ca_file: Option<PathBuf>,
    /// The fingerprint of the service's TLS key, as `scep-issuer fingerprint` prints it: trusts it and no other,
    /// whatever its name.
    #[arg(
        long,
        env = "SCEP_ISSUER_PIN",
        value_name = "SHA-256",
        global = true,
        help_heading = SERVICE,
        conflicts_with = "ca_file"
    )]
    pin: Option<String>,
    /// Print JSON instead of tables.
    #[arg(long, global = true)]
    json: bool,
}

/// Why the service did not do it.
#[derive(Debug, Error)]
pub(crate) enum ApiError {
    /// The service says why.
    #[error("{}", problem(title, detail, field.as_deref()))]
    Problem { status: u16, title: String, detail: String, field: Option<String> },
    /// No answer.
    #[error("{url}: {why}")]
    Unreachable { url: String, why: String },
    /// An answer that is not of this API.
    #[error("{url}: the answer is not one of scep-issuer's API (status {status})")]
    Strange { url: String, status: u16 },
}

fn problem(title: &str, detail: &str, field: Option<&str>) -> String {
    let mut text = title.to_owned();
    if !detail.is_empty() {
        text.push_str(": ");
        text.push_str(detail);
    }
    if let Some(field) = field {
        text.push_str(" (field ");
        text.push_str(field);
        text.push(')');
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The API of one service.
pub(crate) struct Api {
    client: Client,
    base: Url,
    token: Secret<String>,
    pub(crate) form: Form,
}

/// The resources of the token's tenant.
pub(crate) struct Tenant<'a> {
    api: &'a Api,
    pub(crate) id: String,
}

impl ApiOptions {
    fn url(&self) -> Result<Url, IssuerError> {
        let wrong = |why: &str| IssuerError::config("--url", why);
        let text = self.url.as_deref().ok_or_else(|| wrong("needed, or SCEP_ISSUER_URL"))?;
        let url: Url = text.parse().map_err(|_| wrong("no URL"))?;
        let loopback = match url.host_str() {
            Some("localhost") => true,
            Some(host) => host
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback()),
            None => return Err(wrong("it names no host")),
        };
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            _ => return Err(wrong("https, or http to this machine: the token would be readable")),
        }
        if url.path() != "/" || url.query().is_some() || !url.username().is_empty() {
            return Err(wrong("scheme, host and port alone: https://issuer.example.org:8445"));
        }
        Ok(url)
    }

    fn token(&self) -> Result<Secret<String>, IssuerError> {
        let text = match &self.token_file {
            Some(path) => {
                Secret::new(std::fs::read_to_string(path).map_err(IssuerError::file(path))?)
            }
            None => Secret::new(std::env::var("SCEP_ISSUER_TOKEN").unwrap_or_default()),
        };
        let token = text.expose().trim();
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            let why = "a file with one token, or SCEP_ISSUER_TOKEN, is needed";
            return Err(IssuerError::config("--token-file", why));
        }
        Ok(Secret::new(token.to_owned()))
    }

    /// Ready to ask.
    pub(crate) fn open(&self) -> Result<Api, IssuerError> {
        let mut builder = Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .tls_info(true);
        if let Some(path) = &self.ca_file {
            let pem = std::fs::read(path).map_err(IssuerError::file(path))?;
            let certificates = Certificate::from_pem_bundle(&pem)
                .map_err(|error| IssuerError::config("--ca-file", told(&error)))?;
            if certificates.is_empty() {
                return Err(IssuerError::config("--ca-file", "no certificate in it"));
            }
            builder = builder.tls_certs_only(certificates);
        }
        if let Some(text) = &self.pin {
            let hex: String = text.chars().filter(|c| *c != ':').collect();
            let pin = SpkiHash::from_hex(&hex.to_ascii_lowercase())
                .ok_or_else(|| IssuerError::config("--pin", "not 64 hexadecimal digits"))?;
            let tls = pin::config(pin).map_err(|error| IssuerError::config("--pin", error))?;
            builder = builder.tls_backend_preconfigured(tls);
        }
        let client =
            builder.build().map_err(|error| IssuerError::config("--ca-file", told(&error)))?;
        let form = if self.json { Form::Json } else { Form::People };
        Ok(Api { client, base: self.url()?, token: self.token()?, form })
    }
}

/// An error with all its causes, each once.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let part = error.to_string();
        if !text.contains(&part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&part);
        }
        next = error.source();
    }
    text
}

impl Api {
    /// The service's URL, as it was given.
    pub(crate) fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// One request; the answer's JSON, null when it has none.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(Value, Option<Vec<u8>>), IssuerError> {
        let url = format!("{}/api/v1{path}", self.url());
        let unreachable = |error: reqwest::Error| ApiError::Unreachable {
            url: self.url().to_owned(),
            why: told(&error.without_url()),
        };
        let authorization = format!("Bearer {}", self.token.expose());
        let mut request = self.client.request(method, &url).header("Authorization", authorization);
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let mut answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let peer = answer
            .extensions()
            .get::<reqwest::tls::TlsInfo>()
            .and_then(|info| info.peer_certificate().map(<[u8]>::to_vec));
        let mut octets = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            octets.extend_from_slice(&chunk);
            if octets.len() > MAX_ANSWER {
                break;
            }
        }
        let strange = || ApiError::Strange { url: self.url().to_owned(), status: status.as_u16() };
        if status.is_success() && octets.is_empty() {
            return Ok((Value::Null, peer));
        }
        let value: Value = serde_json::from_slice(&octets).map_err(|_| strange())?;
        if status.is_success() {
            return Ok((value, peer));
        }
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        Err(match text("title") {
            Some(title) => ApiError::Problem {
                status: status.as_u16(),
                title,
                detail: text("detail").unwrap_or_default(),
                field: text("field"),
            },
            None => strange(),
        }
        .into())
    }

    /// The token's tenant.
    pub(crate) async fn tenant(&self) -> Result<Tenant<'_>, IssuerError> {
        let (tenants, _) = self.ask(Method::GET, "/tenants", None).await?;
        let id = tenants.pointer("/items/0/id").and_then(Value::as_str);
        let id = id.ok_or_else(|| ApiError::Strange { url: self.url().to_owned(), status: 200 })?;
        Ok(Tenant { api: self, id: id.to_owned() })
    }

    /// The fingerprint of the key that the service has presented: what gateways are to pin.
    pub(crate) async fn presented_pin(&self) -> Result<Option<SpkiHash>, IssuerError> {
        let (_, peer) = self.ask(Method::GET, "/tenants", None).await?;
        let certificate = peer.and_then(|der| CertificateDer::parse(&der).ok());
        Ok(certificate.map(|certificate| certificate.spki().hash()))
    }
}

/// A part of a path; ids have no character that would need it, what people type may.
pub(crate) fn part(text: &str) -> String {
    let mut part = String::new();
    for octet in text.bytes() {
        match octet {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b':' | b'@' => {
                part.push(char::from(octet));
            }
            octet => part.push_str(&format!("%{octet:02X}")),
        }
    }
    // Alone they would be taken for a step up the path.
    if part == "." || part == ".." { part.replace('.', "%2E") } else { part }
}

impl Tenant<'_> {
    pub(crate) fn form(&self) -> Form {
        self.api.form
    }

    pub(crate) fn api(&self) -> &Api {
        self.api
    }

    fn path(&self, path: &str) -> String {
        format!("/tenants/{}{path}", part(&self.id))
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, IssuerError> {
        Ok(self.api.ask(Method::GET, &self.path(path), None).await?.0)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, IssuerError> {
        Ok(self.api.ask(Method::POST, &self.path(path), Some(body)).await?.0)
    }

    /// An act that needs no words.
    pub(crate) async fn act(&self, path: &str) -> Result<Value, IssuerError> {
        self.post(path, &Value::Object(serde_json::Map::new())).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Value, IssuerError> {
        Ok(self.api.ask(Method::PUT, &self.path(path), Some(body)).await?.0)
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<(), IssuerError> {
        self.api.ask(Method::DELETE, &self.path(path), None).await.map(drop)
    }

    /// Every item of every page. `query` begins with `&` or is empty.
    pub(crate) async fn list(&self, path: &str, query: &str) -> Result<Vec<Value>, IssuerError> {
        let mut items = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.get(&format!("{path}?limit=200{query}{after}")).await?;
            let page_items = page.get("items").and_then(Value::as_array);
            items.extend(page_items.into_iter().flatten().cloned());
            match page.get("next").and_then(Value::as_str) {
                Some(next) => after = format!("&after={}", part(next)),
                None => return Ok(items),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_path_stays_one() {
        assert_eq!(part("laptop-1.a@b:c"), "laptop-1.a@b:c");
        assert_eq!(part("../a b?é"), "..%2Fa%20b%3F%C3%A9");
        assert_eq!(part(".."), "%2E%2E");
    }

    #[test]
    fn tokens_go_over_tls_or_stay_on_this_machine() {
        let url = |text: &str| {
            let url = Some(text.to_owned());
            let options =
                ApiOptions { url, token_file: None, ca_file: None, pin: None, json: false };
            options.url().map(|url| url.to_string()).map_err(|error| error.to_string())
        };
        for good in ["https://issuer.example.org:8445", "http://127.0.0.1:1", "http://[::1]:1"] {
            assert_eq!(url(good).unwrap(), format!("{good}/"));
        }
        for bad in ["http://issuer.example.org", "ftp://127.0.0.1", "issuer", "https://a/api"] {
            assert!(url(bad).unwrap_err().starts_with("--url: "), "{bad}");
        }
    }

    #[test]
    fn a_problem_is_told_in_one_line() {
        assert_eq!(problem("T", "d\ne", Some("f")), "T: d e (field f)");
        assert_eq!(problem("T", "", None), "T");
    }
}
