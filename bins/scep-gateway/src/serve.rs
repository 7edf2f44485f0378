//! `serve`: wire the parts and run until told to stop.

use crate::config::Config;
use crate::error::GatewayError;
use scep_keys::AwsLc;
use scep_ledger::{Ledger, LedgerSettings};
use scep_server::{Gateway, Observer, Parts, SystemClock};
use scep_types::{Clock, CryptoProvider, SpkiDer};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;

pub(crate) fn run(path: &Path) -> Result<ExitCode, GatewayError> {
    let provider: Arc<dyn CryptoProvider> = Arc::new(AwsLc);
    let config = Config::load(path, SystemClock.now(), &provider)?;
    crate::logging::start(&config.log_level, config.log_format)?;
    runtime()?.block_on(serve(config, provider))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, GatewayError> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(GatewayError::Runtime)
}

async fn serve(config: Config, provider: Arc<dyn CryptoProvider>) -> Result<(), GatewayError> {
    // Before anybody can see that it is up: whoever does may ask it to stop.
    let stop_signal = stop_signal()?;
    let listener = listen(config.listen).await?;
    let admin = listen(config.admin_listen).await?;
    let (addresses, rules) =
        ((config.listen, config.admin_listen), config.site_rules.digest().to_owned());
    for (what, when) in &config.expiries {
        tracing::info!(target: "scep", what, expires = %when, "expiry");
    }
    let gateway = assemble(config, provider, None).await?;
    tracing::info!(
        target: "scep",
        listen = %addresses.0,
        admin = %addresses.1,
        site_rules_sha256 = %rules,
        "serving"
    );
    let stop = tokio_util::sync::CancellationToken::new();
    let admin_stop = stop.clone();
    let admin_gateway = gateway.clone();
    let admin_task = tokio::spawn(async move {
        admin_gateway.run_admin(admin, admin_stop.cancelled()).await;
    });
    gateway.run(listener, stop_signal).await?;
    stop.cancel();
    // It ends at once; a panic in it must not hide that the gateway stopped cleanly.
    let _ = admin_task.await;
    tracing::info!(target: "scep", "stopped");
    Ok(())
}

/// Opens the ledger and builds the gateway.
pub(crate) async fn assemble(
    config: Config,
    provider: Arc<dyn CryptoProvider>,
    observer: Option<Arc<dyn Observer>>,
) -> Result<Gateway, GatewayError> {
    let ledger = Ledger::open_sqlite(&config.ledger, LedgerSettings::default())?;
    let denials = ledger.denials().await?;
    Ok(Gateway::new(Parts {
        provider,
        clock: Arc::new(SystemClock),
        opener: config.opener,
        site_rules: config.site_rules,
        denials,
        ledger,
        ca: Arc::new(config.ca),
        ra: config.ra,
        our_keys: config.keys.iter().map(|(_, key): &(_, SpkiDer)| key.hash()).collect(),
        endpoints: config.endpoints,
        crl: config.crl,
        limits: config.limits,
        observer,
    }))
}

pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, GatewayError> {
    TcpListener::bind(address).await.map_err(|source| GatewayError::Listen { address, source })
}

/// SIGTERM or Ctrl-C, whichever comes first after this call: one that comes before anybody waits is kept.
pub(crate) fn stop_signal() -> Result<impl Future<Output = ()>, GatewayError> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).map_err(GatewayError::Runtime)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(GatewayError::Runtime)?;
        Ok(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    {
        Ok(async {
            // Without a handler nothing can ask for an orderly end; the ledger does not need one.
            let _ = tokio::signal::ctrl_c().await;
        })
    }
}
