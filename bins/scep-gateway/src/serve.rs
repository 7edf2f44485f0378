//! `serve`: wire the parts and run until told to stop.

use crate::ca::Ca;
use crate::config::{AuthorityConfig, Challenges, Config, LinkConfig};
use crate::connector::{GatewayHost, Openers, SharedOwn};
use crate::error::GatewayError;
use crate::keeper::{Keeper, Kept};
use crate::label::{Expiries, Label};
use crate::logging::LogControl;
use crate::responder::Responder;
use core::time::Duration;
use scep_connector::{Connector, Host as _};
use scep_keys::AwsLc;
use scep_ledger::Ledger;
use scep_server::{Authority, Gateway, Observer, Parts, SystemClock};
use scep_types::{Clock, CryptoProvider};
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
        tracing::info!(target: "scep", %what, expires = %when, "expiry");
    }
    let own = SharedOwn::of(&config);
    let link = match &config.challenges {
        Challenges::Issuer(link) => Some((link.clone(), Openers::new(&config, link, own.clone()))),
        Challenges::Pinned(_) => None,
    };
    let stop_timeout = config.limits.stop_timeout;
    let pinned = pinned_expiries(&config);
    let cas: Vec<Ca> = config.authorities().map(|one| one.ca.clone()).collect();
    for ca in &cas {
        ca.connect().await?;
    }
    let kept: Vec<Kept> = config.authorities().map(Kept::of).collect();
    let mut ocsp = Vec::new();
    for one in config.authorities() {
        if let Some(settings) = &one.ocsp {
            ocsp.push((one.name.clone(), one.ca.local("ocsp")?.clone(), settings.clone()));
        }
    }
    let gateway = assemble_with(config, Arc::clone(&provider), None, &own).await?;
    let mut responders = Vec::new();
    for (authority, ca, ocsp) in ocsp {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let responder = Responder { gateway: gateway.clone(), authority, ca, ocsp, clock };
        responder.replace(now)?;
        responders.push(responder);
    }
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
        authorities: kept,
        own,
        connector: link.as_ref().map(|link| link.connector.clone()),
        pinned,
    };
    let keeper = tokio::spawn(keeper.run(stop.clone()));
    for ca in cas {
        ca.keep(&stop);
    }
    let responders: Vec<JoinHandle<()>> =
        responders.into_iter().map(|one| tokio::spawn(one.run(stop.clone()))).collect();
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
    for responder in responders {
        let _ = responder.await;
    }
    served?;
    tracing::info!(target: "scep", "stopped");
    Ok(())
}

/// The longest that a stop waits for the issuer to take the last reports.
const FLUSH: Duration = Duration::from_secs(10);

/// Keys of the configuration, not certificates, that end.
fn pinned_expiries(config: &Config) -> Expiries {
    let ours = |what: &Label| config.certificates.iter().any(|owned| owned.what == *what);
    let last = config.expiries.iter().filter(|(what, _)| !ours(what)).map(|(_, when)| *when).max();
    last.map(|when| (Label::of_gateway(crate::keeper::SIGNERS), when)).into_iter().collect()
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
    let mut later = Vec::new();
    let mut authority = |one: AuthorityConfig| {
        let previous = one.previous_ra.map(|previous| previous.identity);
        later.push((one.name.clone(), previous, one.next));
        let AuthorityConfig { name, ra, crl, follows, .. } = one;
        Authority { name, ca: one.ca.authority(), ra, crl, follows }
    };
    let main = authority(config.main);
    let more = config.others.into_iter().map(authority).collect();
    let gateway = Gateway::new(Parts {
        provider,
        clock: Arc::new(SystemClock),
        opener,
        site_rules: config.site_rules,
        denials,
        ledger,
        main,
        more,
        our_keys: keys.iter().map(|(_, key)| key.hash()).collect(),
        endpoints: config.endpoints,
        limits: config.limits,
        observer,
    })?;
    for (name, previous, next) in later {
        if let Some(authority) = gateway.authority(&name) {
            authority.set_previous_ras(previous.into_iter().collect());
            authority.set_next_ca(next);
        }
    }
    if let Some(store) = config.store {
        gateway.set_certificate_store(store);
    }
    gateway.set_renewal_contact(config.renewal_contact);
    gateway.set_trusted_proxies(config.trusted_proxies);
    gateway.set_operator_token(config.admin_token.and_then(|token| token.operators()));
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
