//! The demo's issuer as a service: its keys, its database, its API over TLS on loopback, in this process.

use super::TENANT;
use crate::error::GatewayError;
use core::time::Duration;
use scep_ca::{InfrastructurePurpose, LocalCa, LocalCaSettings};
use scep_issuance::service::{IssuerKey, IssuerKeys, Link, Scope, Service, Store, Tls};
use scep_keys::{SoftwareKey, certificates_pem, write_new_public};
use scep_server::SystemClock;
use scep_types::{
    CertificateDer, CryptoProvider, KeyAlgorithm, Secret, SpkiHash, TenantId, Timestamp,
};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const YEAR: Duration = Duration::from_secs(365 * 86_400);
/// How long the demo waits for something that takes a second.
const PATIENCE: Duration = Duration::from_secs(30);

fn demo(error: impl std::fmt::Display) -> GatewayError {
    GatewayError::Demo(error.to_string())
}

/// The running service, and an administrator of its tenant.
pub(crate) struct DemoService {
    pub(crate) url: String,
    /// Of its TLS key.
    pub(crate) pin: SpkiHash,
    /// Signs challenges.
    pub(crate) signing: SoftwareKey,
    client: reqwest::Client,
    token: Secret<String>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl DemoService {
    /// Makes everything in a new folder and serves.
    pub(crate) async fn start(
        dir: &Path,
        provider: &Arc<dyn CryptoProvider>,
        now: Timestamp,
    ) -> Result<Self, GatewayError> {
        scep_keys::new_private_folder(dir)?;
        let signing = key(dir, "issuer.key.pem")?;
        let command = key(dir, "command.key.pem")?;
        let (connector_ca, _) = ca(dir, "connector-ca", provider, now)?;
        let (tls_ca, tls_root) = ca(dir, "tls-ca", provider, now)?;
        let tls = key(dir, "tls.key.pem")?;
        let purpose = InfrastructurePurpose::TlsServer {
            dns_names: Vec::new(),
            addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        };
        let subject = "CN=127.0.0.1".parse().map_err(demo)?;
        let leaf = tls_ca
            .issue_infrastructure(purpose, tls.public_key(), &subject, YEAR, now)
            .map_err(demo)?;
        let chain = dir.join("tls.pem");
        write_new_public(&chain, &certificates_pem(&[leaf, tls_root.clone()]))?;

        let tenant = TenantId::new(TENANT).map_err(demo)?;
        let store = Store::open(&dir.join("issuer.db")).map_err(demo)?;
        let until = now.plus(YEAR);
        let token = store.create_token(&tenant, &[Scope::Admin], until, &**provider);
        let token = token.await.map_err(demo)?;
        let pin = tls.public_key().hash();
        let own = |key: &SoftwareKey| IssuerKey {
            signer: key.signer(),
            not_before: now,
            not_after: until,
        };
        let keys = IssuerKeys { signing: vec![own(&signing)], command: vec![own(&command)] };
        let service =
            Service::new(store, signing.signer(), Arc::clone(provider), Arc::new(SystemClock))
                .with_link(Link { connector_ca, tls_pins: vec![pin] }, keys)
                .map_err(demo)?;
        let tls = Tls::read(&chain, &dir.join("tls.key.pem")).map_err(demo)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(demo)?;
        let url = format!("https://{}", listener.local_addr().map_err(demo)?);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = service.serve(listener, Some(tls), stopped).await {
                tracing::error!(%error, "the demo's issuer ended");
            }
        });
        let root = reqwest::Certificate::from_der(tls_root.as_der()).map_err(demo)?;
        let client = reqwest::Client::builder()
            .tls_certs_only([root])
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .map_err(demo)?;
        Ok(Self { url, pin, signing, client, token, stop, task })
    }

    /// One request to the API: the status and the answer.
    pub(crate) async fn ask(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(u16, Value), GatewayError> {
        let url = format!("{}/api/v1/tenants/{TENANT}{path}", self.url);
        let mut request = self.client.request(method, &url).bearer_auth(self.token.expose());
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.map_err(demo)?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(demo)?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// The same, which must succeed.
    pub(crate) async fn must(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, GatewayError> {
        match self.ask(method, path, body).await? {
            (200..=299, answer) => Ok(answer),
            (status, answer) => Err(demo(format!("the issuer's API: {path}: {status} {answer}"))),
        }
    }

    /// Asks until the answer has it, at most half a minute; and how long it took.
    pub(crate) async fn until<T>(
        &self,
        path: &str,
        find: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<(T, Duration)>, GatewayError> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let answer = self.must(reqwest::Method::GET, path, None).await?;
            if let Some(found) = find(&answer) {
                return Ok(Some((found, begun.elapsed())));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(None)
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        // It has said why, if it has not ended well.
        let _ = self.task.await;
    }
}

fn key(dir: &Path, name: &str) -> Result<SoftwareKey, GatewayError> {
    let key = SoftwareKey::generate(KeyAlgorithm::P256)?;
    key.write_new(&dir.join(name))?;
    Ok(key)
}

fn ca(
    dir: &Path,
    name: &str,
    provider: &Arc<dyn CryptoProvider>,
    now: Timestamp,
) -> Result<(LocalCa, CertificateDer), GatewayError> {
    let key = key(dir, &format!("{name}.key.pem"))?;
    let subject = format!("CN=Demo {name}").parse().map_err(demo)?;
    let life = YEAR.saturating_mul(2);
    let root = LocalCa::self_signed_root(&*key.signer(), &subject, life, now, &**provider)?;
    write_new_public(
        &dir.join(format!("{name}.pem")),
        &certificates_pem(core::slice::from_ref(&root)),
    )?;
    let settings = LocalCaSettings::default();
    let ca = LocalCa::new(key.signer(), root.clone(), Vec::new(), settings, Arc::clone(provider))?;
    Ok((ca, root))
}
