//! `serve`: the service with its keys, until it is told to stop.

use crate::cli::ServeOptions;
use crate::clock::System;
use crate::config::{Config, Connectors, Encryption, ServiceConfig};
use crate::error::IssuerError;
use crate::{store, tls};
use core::time::Duration;
use scep_issuance::service::{Link, Service, Tls};
use scep_keys::AwsLc;
use scep_types::{Clock as _, SpkiHash};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal;
use tokio_util::sync::CancellationToken;

/// How often certificates are looked at.
const LOOK: Duration = Duration::from_secs(3_600);

pub(crate) fn run(options: &ServeOptions) -> Result<(), IssuerError> {
    let config = Config::load(&options.config)?;
    let service = config.service()?;
    // A certificate that became due while the service was away, before it is presented.
    let renewed = tls::renew(&service.encryption, System.now())?;
    let tls = match &service.encryption {
        Encryption::None => None,
        Encryption::Tls { certificate, key, .. } => Some(Tls::read(certificate, key)?),
    };
    let link = config.connectors.as_ref().map(|c| link(c, service)).transpose()?;
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    if let Some(until) = renewed {
        tracing::info!(%until, "the TLS certificate was renewed");
    }
    block_on(serve(&options.config, &config, service, link, tls))
}

/// What connectors are served with.
fn link(connectors: &Connectors, service: &ServiceConfig) -> Result<Link, IssuerError> {
    let pin = service.tls_pin()?.ok_or_else(|| {
        let why = "connectors need TLS: they authenticate with certificates";
        IssuerError::config("connectors", why)
    })?;
    let mut tls_pins = vec![pin];
    tls_pins.extend(connectors.next_pins.iter().filter(|next| **next != pin).copied());
    Ok(Link { connector_ca: connectors.ca()?, tls_pins })
}

pub(crate) fn block_on<T>(
    work: impl Future<Output = Result<T, IssuerError>>,
) -> Result<T, IssuerError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(IssuerError::Runtime)?
        .block_on(work)
}

async fn serve(
    path: &Path,
    config: &Config,
    wanted: &ServiceConfig,
    link: Option<Link>,
    tls: Option<Tls>,
) -> Result<(), IssuerError> {
    let store = store::open(&wanted.database).await?;
    let signer = config.signer(System.now())?;
    let mut service =
        Service::new(store, signer, Arc::new(AwsLc), Arc::new(System)).with_upkeep(config.upkeep);
    let pins = link.as_ref().map(|link| link.tls_pins.clone());
    match link {
        Some(link) => service = service.with_link(link, config.keys())?,
        None => service.set_keys(config.keys())?,
    }
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
    let reloads = Reload {
        path: path.to_path_buf(),
        service: service.clone(),
        tls: tls.clone(),
        pins: pins.clone(),
        alarms: tls::Alarms::default(),
    };
    let reloading = tokio::spawn(reloads.run(reload_signal()?));
    let connectors = pins.is_some();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let pin = wanted.tls_pin()?.map(|pin| pin.to_string()).unwrap_or_default();
    let url = format!("{scheme}://{address}/api/v1");
    tracing::info!(%url, connectors, tls_fingerprint = pin, "listening");
    let ended = service.serve(listener, tls, stop).await;
    reloading.abort();
    ended?;
    tracing::info!("stopped");
    Ok(())
}

/// What changes while the service runs.
struct Reload {
    path: PathBuf,
    service: Service,
    tls: Option<Tls>,
    /// What gateways that enrol are told to pin; `None`: none can.
    pins: Option<Vec<SpkiHash>>,
    alarms: tls::Alarms,
}

impl Reload {
    /// Looks every hour, and when a signal says that files have changed.
    async fn run(mut self, mut signals: Signals) {
        self.look();
        loop {
            tokio::select! {
                () = signals.next() => match self.reload() {
                    Ok(()) => tracing::info!("keys and certificates were read anew"),
                    Err(error) => {
                        tracing::error!(%error, "nothing was read anew; the service goes on with what it had");
                    }
                },
                () = tokio::time::sleep(LOOK) => {}
            }
            self.look();
        }
    }

    /// Takes up the keys and the TLS certificate of the configuration: all of it, or nothing.
    fn reload(&mut self) -> Result<(), IssuerError> {
        let config = Config::load(&self.path)?;
        let files = tls_files(&config)?;
        // Looked at before anything is taken up.
        if let Some((certificate, key)) = &files {
            Tls::read(certificate, key)?;
        }
        if let (Some(pins), Some(pin)) = (&self.pins, config.service()?.tls_pin()?)
            && !pins.contains(&pin)
        {
            let why = format!(
                "gateways accept no TLS key with the fingerprint {pin}: it was not in connectors.next_tls_pins when \
                 the service started"
            );
            return Err(IssuerError::config("service.tls_certificate", why));
        }
        self.service.set_keys(config.keys())?;
        if let (Some(tls), Some((certificate, key))) = (&self.tls, files) {
            tls.replace(&certificate, &key)?;
        }
        Ok(())
    }

    /// Renews what is due, and says what is about to end.
    fn look(&mut self) {
        let now = System.now();
        let looked = Config::load(&self.path).and_then(|config| {
            if let Some(until) = tls::renew(&config.service()?.encryption, now)? {
                if let (Some(tls), Some((certificate, key))) = (&self.tls, tls_files(&config)?) {
                    tls.replace(&certificate, &key)?;
                }
                tracing::info!(%until, "the TLS certificate was renewed");
            }
            self.alarms.tell(&tls::ends(&config)?, now);
            Ok(())
        });
        if let Err(error) = looked {
            tracing::error!(%error, "certificates could not be looked after");
        }
    }
}

fn tls_files(config: &Config) -> Result<Option<(PathBuf, PathBuf)>, IssuerError> {
    Ok(match &config.service()?.encryption {
        Encryption::None => None,
        Encryption::Tls { certificate, key, .. } => Some((certificate.clone(), key.clone())),
    })
}

/// Each says that files have changed.
struct Signals {
    #[cfg(unix)]
    hangups: signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    async fn next(&mut self) {
        if self.hangups.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        std::future::pending::<()>().await;
    }
}

#[cfg(unix)]
fn reload_signal() -> Result<Signals, IssuerError> {
    use signal::unix::{SignalKind, signal};
    Ok(Signals { hangups: signal(SignalKind::hangup()).map_err(IssuerError::Runtime)? })
}

#[cfg(not(unix))]
fn reload_signal() -> Result<Signals, IssuerError> {
    Ok(Signals {})
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
