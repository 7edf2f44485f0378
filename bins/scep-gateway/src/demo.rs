//! `demo`: the whole system in one process, over real HTTP on loopback, and every attack that must fail.

mod cases;
mod issuer;
mod paste;
mod table;

use crate::cli::DemoOptions;
use crate::config::{Config, LogFormat};
use crate::error::GatewayError;
use crate::init::{self, KnownIssuer, Plan};
use issuer::DemoIssuer;
use scep_keys::AwsLc;
use scep_server::{Observer, SystemClock, Trace};
use scep_types::{
    Clock, CryptoProvider, GatewayGroupId, KeyAlgorithm, SpkiDer, TenantId, Timestamp,
};
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
    ca: scep_types::CertificateDer,
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
    let (issuer, config_path) = set_up(&issuer_dir, &gateway_dir, address, now)?;
    println!("  issuer    signing key P-256                          {}", issuer_dir.display());
    println!("  gateway   CA P-256, RA RSA-2048, challenge key P-256 {}", gateway_dir.display());
    println!("  serving   http://{address}/scep\n");

    let config = Config::load(&config_path, now, &provider)?;
    let ca = {
        use scep_ca::CertificateAuthority;
        config.ca.chain().first().cloned().ok_or_else(|| GatewayError::Demo("no CA".into()))?
    };
    let seen = Arc::new(Seen::default());
    let observer: Arc<dyn Observer> = seen.clone();
    let gateway = crate::serve::assemble(config, Arc::clone(&provider), Some(observer)).await?;
    let stop = tokio_util::sync::CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let server = tokio::spawn(async move { gateway.run(listener, stopped).await });

    let stage = Stage {
        stranger: DemoIssuer::new(issuer.recipient().clone())?,
        provider,
        now,
        url: format!("http://{address}/scep"),
        ca,
        issuer,
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
    server.await.map_err(|error| GatewayError::Demo(error.to_string()))??;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes the issuer's and the gateway's folders.
fn set_up(
    issuer_dir: &Path,
    gateway_dir: &Path,
    listen: SocketAddr,
    now: Timestamp,
) -> Result<(DemoIssuer, PathBuf), GatewayError> {
    scep_keys::new_private_folder(issuer_dir)?;
    let key = scep_keys::SoftwareKey::generate(KeyAlgorithm::P256)?;
    key.write_new(&issuer_dir.join("issuer.key.pem"))?;
    let public = scep_keys::public_key_pem(key.public_key());
    scep_keys::write_new_public(&issuer_dir.join("issuer.pub.pem"), &public)?;
    let id = |error: &dyn std::fmt::Display| GatewayError::Demo(error.to_string());
    let plan = Plan {
        dir: gateway_dir.to_path_buf(),
        tenant: TenantId::new(TENANT).map_err(|e| id(&e))?,
        group: GatewayGroupId::new(GROUP).map_err(|e| id(&e))?,
        issuer: KnownIssuer::Key(key.public_key().clone()),
        suffixes: vec![SUFFIX.into()],
        listen,
        admin_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        crl_url: None,
        ca_key: KeyAlgorithm::P256,
        challenge_key: KeyAlgorithm::P256,
        ca_name: "O=Example, CN=Demo CA".parse().map_err(|e| id(&e))?,
    };
    let config = init::make(&plan, now)?;
    let recipient: SpkiDer = scep_keys::read_public_key(&gateway_dir.join("challenge.pub.pem"))?;
    Ok((DemoIssuer::with_key(key, recipient), config))
}

/// A folder of its own under the system's temporary one.
fn temporary(provider: &dyn CryptoProvider, now: Timestamp) -> PathBuf {
    let mut random = [0; 4];
    // Two demos of one second must not meet; without randomness the folder's check for emptiness says so.
    let _ = provider.random(&mut random);
    let name = format!("scep-demo-{}-{:08x}", now.seconds(), u32::from_be_bytes(random));
    std::env::temp_dir().join(name)
}
