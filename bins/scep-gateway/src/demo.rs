//! `demo`: the whole system in one process, over real HTTP and TLS on loopback, and every attack that must fail.

mod cases;
mod issuer;
mod paste;
mod service;
mod story;
mod table;

use crate::cli::DemoOptions;
use crate::config::{Challenges, Config, LogFormat};
use crate::connector::{Openers, SharedOwn};
use crate::enroll::Introduction;
use crate::error::GatewayError;
use crate::init::{self, KnownIssuer, NewRa, Plan};
use crate::logging::LogControl;
use crate::serve::Link;
use issuer::DemoIssuer;
use reqwest::Method;
use scep_connector::IssuerAddress;
use scep_keys::AwsLc;
use scep_link::EnrolmentToken;
use scep_server::{Observer, Preset, SystemClock, Trace};
use scep_types::{
    Clock, CryptoProvider, GatewayGroupId, GatewayName, KeyAlgorithm, SpkiDer, TenantId, Timestamp,
};
use serde_json::json;
use service::DemoService;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

const TENANT: &str = "contoso";
const GROUP: &str = "main";
const SUFFIX: &str = "example.org";

pub(crate) fn run(options: &DemoOptions) -> Result<ExitCode, GatewayError> {
    crate::serve::runtime()?.block_on(demo(options))
}

/// Keeps what the gateway saw, for the table.
#[derive(Debug, Default)]
struct Seen(Mutex<Vec<Trace>>);

impl Seen {
    /// The last PKIOperation since the last call.
    fn take(&self) -> Option<Trace> {
        let mut traces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = traces.iter().rposition(|trace| trace.operation == "PKIOperation");
        let found = last.and_then(|at| traces.get(at).cloned());
        traces.clear();
        found
    }
}

impl Observer for Seen {
    fn observe(&self, trace: &Trace) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(trace.clone());
    }
}

/// Everything the cases need.
struct Stage {
    provider: Arc<dyn CryptoProvider>,
    now: Timestamp,
    url: String,
    crl_url: String,
    ca: scep_types::CertificateDer,
    service: DemoService,
    /// The same issuer, for challenges that the service would not make.
    issuer: DemoIssuer,
    /// An issuer that this gateway does not know.
    stranger: DemoIssuer,
    seen: Arc<Seen>,
}

async fn demo(options: &DemoOptions) -> Result<ExitCode, GatewayError> {
    let now = SystemClock.now();
    let provider: Arc<dyn CryptoProvider> = Arc::new(AwsLc);
    let dir = options.dir.clone().unwrap_or_else(|| temporary(&*provider, now));
    let listener = crate::serve::listen(options.listen).await?;
    let address = listener
        .local_addr()
        .map_err(|source| GatewayError::Listen { address: options.listen, source })?;

    println!("Sceptic demo in {}", dir.display());
    scep_keys::new_private_folder(&dir)?;
    let issuer_dir = dir.join("issuer");
    let gateway_dir = dir.join("gateway");
    let service = DemoService::start(&issuer_dir, &provider, now).await?;
    let config_path = make_gateway(&gateway_dir, &service.url, address, now)?;
    let (recipient, joined) = join(&service, &config_path, &provider, now).await?;
    println!("  issuer    {}, keys in {}", service.url, issuer_dir.display());
    println!("  gateway   CA P-256, RA RSA-2048, challenge key P-256 {}", gateway_dir.display());
    println!("            {joined}");
    println!("  serving   http://{address}/scep\n");

    let config = load(&config_path, now, &provider)?;
    let ca = config.main.ca.chain().first().cloned();
    let ca = ca.ok_or_else(|| GatewayError::Demo("no CA".into()))?;
    let seen = Arc::new(Seen::default());
    let observer: Arc<dyn Observer> = seen.clone();
    let own = SharedOwn::of(&config);
    let link = crate::enroll::link(&config, "demo")?.clone();
    let openers = Openers::new(&config, &link, own.clone());
    let gateway =
        crate::serve::assemble_with(config, Arc::clone(&provider), Some(observer), &own).await?;
    let stop = tokio_util::sync::CancellationToken::new();
    let log = LogControl::silent();
    let link = Link::open(link, openers, &gateway, Arc::clone(&provider), log)?;
    let link = link.start(&gateway, &stop);
    let stopped = stop.clone().cancelled_owned();
    let server = tokio::spawn(async move { gateway.run(listener, stopped).await });
    // The first check-in proves that the gateway has the key that challenges are encrypted to.
    let group = format!("/gateway-groups/{GROUP}");
    let proven = |answer: &serde_json::Value| answer.get("public_key")?.as_str().map(drop);
    if service.until(&group, proven).await?.is_none() {
        return Err(GatewayError::Demo("the gateway has not checked in".into()));
    }

    let stage = Stage {
        issuer: DemoIssuer::with_key(service.signing.clone(), recipient.clone()),
        stranger: DemoIssuer::new(recipient)?,
        provider,
        now,
        url: format!("http://{address}/scep"),
        crl_url: format!("http://{address}/crl"),
        ca,
        service,
        seen,
    };
    let rows = cases::run(&stage).await?;
    let good = table::print(&rows);
    if options.keep_running {
        crate::logging::start("info", LogFormat::Text)?;
        paste::print(&stage, &dir)?;
        crate::serve::stop_signal()?.await;
    }
    stop.cancel();
    link.ended().await;
    stage.service.stop().await;
    server.await.map_err(|error| GatewayError::Demo(error.to_string()))??;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn wrong(error: impl std::fmt::Display) -> GatewayError {
    GatewayError::Demo(error.to_string())
}

/// The configuration, without whatever proxy this machine has: the issuer is on loopback.
fn load(
    path: &Path,
    now: Timestamp,
    provider: &Arc<dyn CryptoProvider>,
) -> Result<Config, GatewayError> {
    let mut config = Config::load(path, now, provider)?;
    if let Challenges::Issuer(link) = &mut config.challenges {
        link.settings.proxy = None;
    }
    Ok(config)
}

/// Makes the gateway's folder.
fn make_gateway(
    dir: &Path,
    issuer: &str,
    listen: SocketAddr,
    now: Timestamp,
) -> Result<PathBuf, GatewayError> {
    let plan = Plan {
        dir: dir.to_path_buf(),
        tenant: TenantId::new(TENANT).map_err(wrong)?,
        group: GatewayGroupId::new(GROUP).map_err(wrong)?,
        issuer: KnownIssuer::Service { address: IssuerAddress::parse(issuer)?, proxy: None },
        suffixes: vec![SUFFIX.into()],
        listen,
        admin_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        crl_url: Some(format!("http://{listen}/crl")),
        ocsp_url: None,
        ca_key: KeyAlgorithm::P256,
        challenge_key: KeyAlgorithm::P256,
        ca_name: "O=Example, CN=Demo CA".parse().map_err(wrong)?,
        preset: &Preset::GENERIC,
        ra: NewRa::Split,
    };
    init::make(&plan, now)
}

/// Enrols the gateway with a token and has an operator confirm it: its challenge key, and a line on how it went.
async fn join(
    service: &DemoService,
    config: &Path,
    provider: &Arc<dyn CryptoProvider>,
    now: Timestamp,
) -> Result<(SpkiDer, String), GatewayError> {
    service.must(Method::POST, "/gateway-groups", Some(json!({ "id": GROUP }))).await?;
    let made =
        service.must(Method::POST, "/connector-tokens", Some(json!({ "group": GROUP }))).await?;
    let config = load(config, now, provider)?;
    let link = crate::enroll::link(&config, "demo")?;
    let token = made.get("token").and_then(|token| token.as_str()).unwrap_or_default();
    let introduction = Introduction {
        issuer: link.settings.issuer.clone(),
        proxy: None,
        fingerprint: service.pin,
        token: EnrolmentToken::new(token).map_err(wrong)?,
        gateway: GatewayName::new("demo").map_err(wrong)?,
    };
    let enrolled = crate::enroll::introduce(&config, link, introduction, &**provider).await?;
    let connector = enrolled.state.connector;
    let path = format!("/connectors/{connector}/confirm");
    service.must(Method::POST, &path, Some(json!({}))).await?;
    let key = enrolled.state.trust.decryption.first();
    let key = key.map(|key| key.key.clone()).ok_or_else(|| wrong("no decryption key"))?;
    Ok((key, format!("enrolled with a token as {connector}, confirmed by an operator")))
}

/// A folder of its own under the system's temporary one.
fn temporary(provider: &dyn CryptoProvider, now: Timestamp) -> PathBuf {
    let mut random = [0; 4];
    // Two demos of one second must not meet; without randomness the folder's check for emptiness says so.
    let _ = provider.random(&mut random);
    let name = format!("scep-demo-{}-{:08x}", now.seconds(), u32::from_be_bytes(random));
    std::env::temp_dir().join(name)
}
