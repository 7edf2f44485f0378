//! `serve`: wire the parts and run until told to stop.

use crate::config::{Challenges, Config, LinkConfig};
use crate::connector::{GatewayHost, Openers, SharedOwn};
use crate::error::GatewayError;
use crate::keeper::Keeper;
use crate::logging::LogControl;
use crate::responder::Responder;
use core::time::Duration;
use scep_connector::{Connector, Host as _};
use scep_keys::AwsLc;
use scep_ledger::Ledger;
use scep_server::{Authority, Gateway, Observer, Parts, SystemClock};
use scep_types::{AuthorityName, Clock, CryptoProvider, SpkiDer, Timestamp};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) fn run(path: &Path) -> Result<ExitCode, GatewayError> {
    let provider: Arc<dyn CryptoProvider> = Arc::new(AwsLc);
    let config = Config::load(path, SystemClock.now(), &provider)?;
    let log = crate::logging::start(&config.log_level, config.log_format)?;
    runtime()?.block_on(serve(path, config, provider, log))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, GatewayError> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(GatewayError::Runtime)
}

async fn serve(
    path: &Path,
    mut config: Config,
    provider: Arc<dyn CryptoProvider>,
    log: LogControl,
) -> Result<(), GatewayError> {
    // Before anybody can see that it is up: whoever does may ask it to stop.
    let stop_signal = stop_signal()?;
    let listener = listen(config.listen).await?;
    let admin = listen(config.admin_listen).await?;
    // With the ports this is the only gateway of this configuration: nobody else replaces its files.
    let now = SystemClock.now();
    if crate::keeper::renew_at_start(&config, now) {
        config = Config::load(path, now, &provider)?;
    }
    crate::keeper::not_expired(&config, now)?;
    let addresses = (config.listen, config.admin_listen);
    let rules = config.site_rules.digest().to_owned();
    for (what, when) in &config.expiries {
        tracing::info!(target: "scep", what, expires = %when, "expiry");
    }
    let own = SharedOwn::of(&config);
    let link = match &config.challenges {
        Challenges::Issuer(link) => Some((link.clone(), Openers::new(&config, link, own.clone()))),
        Challenges::Pinned(_) => None,
    };
    let (ca, files, stop_timeout) =
        (config.ca.clone(), config.ra_files.clone(), config.limits.stop_timeout);
    let pinned = pinned_expiries(&config);
    #[cfg(feature = "openbao")]
    let remote = ca.clone();
    #[cfg(feature = "openbao")]
    if let crate::ca::Ca::OpenBao(remote) = &remote {
        remote.connect().await?;
    }
    let ocsp = config.ocsp.clone();
    let gateway = assemble_with(config, Arc::clone(&provider), None, &own).await?;
    let responder = match ocsp {
        Some(settings) => {
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let ca = ca.local("ocsp")?.clone();
            let responder = Responder { gateway: gateway.clone(), ca, settings, clock };
            responder.replace(now)?;
            Some(responder)
        }
        None => None,
    };
    let (stop, stop_link) = (CancellationToken::new(), CancellationToken::new());
    let link = match link {
        Some((link, openers)) => {
            let link = Link::open(*link, openers, &gateway, provider, log)?;
            Some(link.start(&gateway, &stop_link))
        }
        None => None,
    };
    let keeper = Keeper {
        gateway: gateway.clone(),
        clock: Arc::new(SystemClock),
        ca,
        files,
        own,
        connector: link.as_ref().map(|link| link.connector.clone()),
        pinned,
    };
    let keeper = tokio::spawn(keeper.run(stop.clone()));
    #[cfg(feature = "openbao")]
    if let crate::ca::Ca::OpenBao(remote) = &remote {
        tokio::spawn(Arc::clone(remote).keep(stop.clone()));
    }
    let responder = responder.map(|responder| tokio::spawn(responder.run(stop.clone())));
    tracing::info!(
        target: "scep",
        listen = %addresses.0,
        admin = %addresses.1,
        site_rules_sha256 = %rules,
        issuer = link.as_ref().map(|link| link.issuer.as_str()),
        "serving"
    );
    let admin_stop = stop.clone();
    let admin_gateway = gateway.clone();
    let admin_task = tokio::spawn(async move {
        admin_gateway.run_admin(admin, admin_stop.cancelled()).await;
    });
    let served = gateway.run(listener, stop_signal).await;
    // No request is served any more; what the last ones have left is still reported.
    if let Some(link) = link {
        let bound = stop_timeout.min(FLUSH);
        crate::connector::flush_reports(&link.connector, &gateway, bound).await;
        stop_link.cancel();
        link.ended().await;
    }
    stop.cancel();
    // They end at once; a panic in one must not hide that the gateway stopped cleanly.
    let _ = (admin_task.await, keeper.await);
    if let Some(responder) = responder {
        let _ = responder.await;
    }
    served?;
    tracing::info!(target: "scep", "stopped");
    Ok(())
}

/// The longest that a stop waits for the issuer to take the last reports.
const FLUSH: Duration = Duration::from_secs(10);

/// Keys of the configuration, not certificates, that end.
fn pinned_expiries(config: &Config) -> Vec<(&'static str, Timestamp)> {
    let ours = |what: &str| config.certificates.iter().any(|owned| owned.what == what);
    let last = config.expiries.iter().filter(|(what, _)| !ours(what)).map(|(_, when)| *when).max();
    last.map(|when| (crate::keeper::SIGNERS, when)).into_iter().collect()
}

/// The running connector.
pub(crate) struct Link {
    pub(crate) connector: Connector,
    host: Arc<GatewayHost>,
    issuer: String,
    tasks: Vec<JoinHandle<()>>,
}

impl Link {
    pub(crate) fn open(
        config: LinkConfig,
        openers: Openers,
        gateway: &Gateway,
        provider: Arc<dyn CryptoProvider>,
        log: LogControl,
    ) -> Result<Self, GatewayError> {
        let host = Arc::new(GatewayHost::new(gateway.clone(), openers, log));
        let issuer = config.settings.issuer.as_str().to_owned();
        let connector = Connector::open(
            config.settings,
            config.state,
            Arc::new(config.keys),
            gateway.ledger().clone(),
            host.clone(),
            provider,
            Arc::new(SystemClock),
        )?;
        // Before the first request: the connector itself says it only once it runs.
        host.set_standing(connector.status().standing);
        Ok(Self { connector, host, issuer, tasks: Vec::new() })
    }

    pub(crate) fn start(mut self, gateway: &Gateway, stop: &CancellationToken) -> Self {
        let connector = self.connector.clone();
        gateway.set_link_status(move || crate::connector::link_status(&connector));
        let denials =
            crate::connector::follow_denials(gateway.clone(), self.host.denials(), stop.clone());
        self.tasks.push(tokio::spawn(denials));
        self.tasks.push(tokio::spawn(self.connector.clone().run(stop.clone())));
        self
    }

    pub(crate) async fn ended(self) {
        for task in self.tasks {
            if task.await.is_err() {
                tracing::error!(target: "scep", "a task of the connector was lost");
            }
        }
    }
}

/// The ledger of a configuration.
pub(crate) async fn open_ledger(config: &Config) -> Result<Ledger, GatewayError> {
    Ok(config.ledger.open().await?)
}

/// Opens the ledger and builds the gateway.
pub(crate) async fn assemble(
    config: Config,
    provider: Arc<dyn CryptoProvider>,
    observer: Option<Arc<dyn Observer>>,
) -> Result<Gateway, GatewayError> {
    let own = SharedOwn::of(&config);
    assemble_with(config, provider, observer, &own).await
}

pub(crate) async fn assemble_with(
    mut config: Config,
    provider: Arc<dyn CryptoProvider>,
    observer: Option<Arc<dyn Observer>>,
    own: &SharedOwn,
) -> Result<Gateway, GatewayError> {
    let (opener, keys) = crate::connector::opener(&mut config, own)?;
    let ledger = open_ledger(&config).await?;
    if let Challenges::Issuer(link) = &config.challenges {
        crate::connector::same_ledger(link, &ledger)?;
    }
    let denials = ledger.denials().await?;
    let previous_ra = config.previous_ra.map(|previous| previous.identity);
    let gateway = Gateway::new(Parts {
        provider,
        clock: Arc::new(SystemClock),
        opener,
        site_rules: config.site_rules,
        denials,
        ledger,
        main: Authority {
            name: AuthorityName::main(),
            ca: config.ca.authority(),
            ra: config.ra,
            crl: config.crl,
            follows: None,
        },
        more: Vec::new(),
        our_keys: keys.iter().map(|(_, key): &(_, SpkiDer)| key.hash()).collect(),
        endpoints: config.endpoints,
        limits: config.limits,
        observer,
    })?;
    gateway.main_authority().set_previous_ras(previous_ra.into_iter().collect());
    if let Some(store) = config.store {
        gateway.set_certificate_store(store);
    }
    Ok(gateway)
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
