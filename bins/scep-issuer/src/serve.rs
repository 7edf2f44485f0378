//! `serve` and `token create`.

use crate::cli::{ServeOptions, TokenCreateOptions};
use crate::config::{Config, Encryption, ServiceConfig};
use crate::error::IssuerError;
use scep_issuance::service::{Service, Store, Tls};
use scep_keys::AwsLc;
use scep_types::{Clock, TenantId, Timestamp, parse_duration};
use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::net::TcpListener;
use tokio::signal;
use tokio_util::sync::CancellationToken;

/// The system's clock.
#[derive(Debug)]
struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from(SystemTime::now())
    }
}

pub(crate) fn run(options: &ServeOptions) -> Result<(), IssuerError> {
    let config = Config::load(&options.config)?;
    let service = config.service()?;
    let tls = match &service.encryption {
        Encryption::None => None,
        Encryption::Tls { certificate, key } => Some(Tls::read(certificate, key)?),
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    block_on(serve(&config, service, tls))
}

fn block_on(work: impl Future<Output = Result<(), IssuerError>>) -> Result<(), IssuerError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(IssuerError::Runtime)?
        .block_on(work)
}

async fn serve(
    config: &Config,
    wanted: &ServiceConfig,
    tls: Option<Tls>,
) -> Result<(), IssuerError> {
    let store = Store::open(&wanted.database)?;
    let signer = config.signing_key.signer();
    let service = Service::new(store, signer, Arc::new(AwsLc), Arc::new(SystemClock));
    service.put_tenant(&config.tenant).await?;
    for (group, key) in &config.groups {
        service.put_group(&config.tenant, group, key).await?;
    }
    let listener = TcpListener::bind(wanted.listen)
        .await
        .map_err(|error| IssuerError::config("service.listen", error))?;
    let address =
        listener.local_addr().map_err(|error| IssuerError::config("service.listen", error))?;
    let stop = CancellationToken::new();
    let asked = stop.clone();
    let signals = stop_signal()?;
    tokio::spawn(async move {
        signals.await;
        tracing::info!("stopping");
        asked.cancel();
    });
    let scheme = if tls.is_some() { "https" } else { "http" };
    tracing::info!(url = %format!("{scheme}://{address}/api/v1"), "listening");
    service.serve(listener, tls, stop).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Ends when somebody asks the program to stop.
#[cfg(unix)]
fn stop_signal() -> Result<impl Future<Output = ()> + Send, IssuerError> {
    use signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(IssuerError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(IssuerError::Runtime)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Ends when somebody asks the program to stop.
#[cfg(not(unix))]
fn stop_signal() -> Result<impl Future<Output = ()> + Send, IssuerError> {
    Ok(async {
        let _ = signal::ctrl_c().await;
    })
}

pub(crate) fn create_token(options: &TokenCreateOptions) -> Result<(), IssuerError> {
    let config = Config::load(&options.config)?;
    let service = config.service()?;
    let tenant = match &options.tenant {
        Some(id) => TenantId::new(&**id).map_err(|e| IssuerError::config("--tenant", e))?,
        None => config.tenant.clone(),
    };
    let scopes = options
        .scope
        .iter()
        .map(|name| name.parse())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| IssuerError::config("--scope", error))?;
    let life = parse_duration(&options.expires)
        .map_err(|error| IssuerError::config("--expires", error))?;
    if life.is_zero() {
        return Err(IssuerError::config("--expires", "a token must live"));
    }
    let expires_at = SystemClock.now().plus(life);
    block_on(async {
        let store = Store::open(&service.database)?;
        let token = store.create_token(&tenant, &scopes, expires_at, &AwsLc).await?;
        eprintln!("a token of {tenant} until {expires_at}; it is not shown again:");
        println!("{}", token.expose());
        Ok(())
    })
}
