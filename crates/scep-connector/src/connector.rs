//! The running connector: check-in, reports, revocations, renewal, side by side.

use crate::host::{Host, Standing};
use crate::http::Route;
use crate::keys::KeyStore;
use crate::log_folder::LogFolder;
use crate::revocations::Orders;
use crate::settings::{ConnectorSettings, Offline};
use crate::state::{Contents, DecryptionState, State, StateFile, StateLock, Trust};
use crate::{ConnectorError, distinct, enrol, keys, tls};
use core::time::Duration;
use scep_ledger::Ledger;
use scep_link::{Answer, LogLevel, Membership, Message, RenewalOrder, SoftwareVersion};
use scep_types::{CertificateDer, Clock, CryptoProvider, Signer, Timestamp};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, RwLock};
use tokio_util::sync::CancellationToken;

/// How often it is looked whether the issuer has been silent for too long.
const STANDING_TICK: Duration = Duration::from_millis(250);

/// How the link is, for health and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// When the issuer was last heard.
    pub last_heard: Option<Timestamp>,
    /// Whether the gateway may issue.
    pub standing: Standing,
    /// Whether an operator has confirmed the gateway, as far as is known.
    pub membership: Option<Membership>,
    /// The connector's own certificate.
    pub certificate: CertificateDer,
    /// Events that the issuer has not acknowledged.
    pub queue_depth: u64,
    /// What is wrong at present: codes and what to do, for people.
    pub trouble: Option<String>,
}

/// A gateway's connector. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connector {
    pub(crate) inner: Arc<Inner>,
}

/// Who the connector is on a connection.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) config: tls::Config,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) settings: ConnectorSettings,
    pub(crate) software: SoftwareVersion,
    pub(crate) keys: Arc<dyn KeyStore>,
    pub(crate) ledger: Ledger,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) provider: Arc<dyn CryptoProvider>,
    clock: Arc<dyn Clock>,
    pub(crate) route: Route,
    file: StateFile,
    lock: StateLock,
    state: Mutex<State>,
    /// Whoever speaks to the issuer holds it for reading; a new identity takes its place when nobody does. An
    /// issuer that sees the old certificate after the new one sees two holders of one identity.
    pub(crate) identity: RwLock<Identity>,
    notes: Mutex<BTreeMap<Topic, String>>,
    queue_depth: AtomicU64,
    standing: Mutex<Standing>,
    /// What the host was told last; `None`: nothing yet.
    pub(crate) log_level: Mutex<Option<Option<LogLevel>>>,
    pub(crate) orders: Mutex<Orders>,
    pub(crate) renewals: Mutex<Vec<RenewalOrder>>,
    pub(crate) log_folder: LogFolder,
    /// The host objected to the trust as it is now, and is asked again.
    pub(crate) trust_untold: AtomicBool,
    /// Reports wait for the next check-in.
    pub(crate) reports_held: AtomicBool,
    pub(crate) wake_reports: Notify,
    pub(crate) wake_revocations: Notify,
    running: tokio::sync::Mutex<()>,
}

/// What something is wrong with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Topic {
    CheckIn,
    Ledger,
    Restored,
    Keys,
    Trust,
    Denials,
    Reports,
    RevocationOrders,
    RevocationResults,
    RevocationsAtCa,
    RenewalOfAuthentication,
    RenewalOfDecryption,
    OldKeys,
    StatusFolder,
}

impl Topic {
    const fn name(self) -> &'static str {
        match self {
            Self::CheckIn => "check-in",
            Self::Ledger => "ledger",
            Self::Restored => "ledger restored",
            Self::Keys => "the issuer's keys",
            Self::Trust => "trust",
            Self::Denials => "denials",
            Self::Reports => "reports",
            Self::RevocationOrders => "orders to revoke",
            Self::RevocationResults => "results of revocations",
            Self::RevocationsAtCa => "revocations at the CA",
            Self::RenewalOfAuthentication => "renewal of the connector's certificate",
            Self::RenewalOfDecryption => "renewal of the decryption key",
            Self::OldKeys => "old keys",
            Self::StatusFolder => "delivery log",
        }
    }
}

/// A lock that a panic elsewhere has poisoned still guards a whole value: each is replaced in one step.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connector {
    /// Reads the state and loads the keys. Connects to nobody.
    ///
    /// # Errors
    /// When the gateway was never enrolled, a key that the state names is missing, one key has two roles, or another
    /// process has the state.
    pub fn open(
        settings: ConnectorSettings,
        state: StateFile,
        keys: Arc<dyn KeyStore>,
        ledger: Ledger,
        host: Arc<dyn Host>,
        provider: Arc<dyn CryptoProvider>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConnectorError> {
        let software = enrol::software(&settings.software)?;
        if settings.wait_seconds > scep_link::MAX_WAIT {
            let why = format!("at most {} seconds", scep_link::MAX_WAIT);
            return Err(ConnectorError::Setting { what: "how long a check-in waits", why });
        }
        let lock = state.lock()?;
        let Some(enrolled) = state.contents()?.enrolled else {
            return Err(ConnectorError::NotEnrolled { path: state.path().to_path_buf() });
        };
        let signer = keys::signer(&*keys, enrolled.authentication)?;
        for held in &enrolled.trust.decryption {
            keys::decryption(&*keys, held.key.key_id())?;
        }
        let own = own_keys(&enrolled, &*signer, &*host);
        distinct::check(&enrolled.trust.signers, &enrolled.command_keys, &own)?;
        let identity = Identity { config: config(&enrolled, &signer)?, signer };
        let route = Route { issuer: settings.issuer.clone(), proxy: settings.proxy.clone() };
        let standing = standing(&enrolled, &settings, &ledger, clock.now());
        let log_folder = LogFolder::new(settings.status_folder.clone(), settings.status_files);
        Ok(Self {
            inner: Arc::new(Inner {
                settings,
                software,
                keys,
                ledger,
                host,
                provider,
                clock,
                route,
                file: state,
                lock,
                state: Mutex::new(enrolled),
                identity: RwLock::new(identity),
                notes: Mutex::default(),
                queue_depth: AtomicU64::new(0),
                standing: Mutex::new(standing),
                log_level: Mutex::default(),
                orders: Mutex::default(),
                renewals: Mutex::default(),
                log_folder,
                trust_untold: AtomicBool::new(false),
                reports_held: AtomicBool::new(false),
                wake_reports: Notify::new(),
                wake_revocations: Notify::new(),
                running: tokio::sync::Mutex::default(),
            }),
        })
    }

    /// Whose challenges are accepted, as the state says.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.inner.state().trust
    }

    /// How the link is.
    #[must_use]
    pub fn status(&self) -> Status {
        let state = locked(&self.inner.state);
        let notes = locked(&self.inner.notes);
        let notes: Vec<_> =
            notes.iter().map(|(topic, note)| format!("{}: {note}", topic.name())).collect();
        Status {
            last_heard: state.last_heard,
            standing: *locked(&self.inner.standing),
            membership: Some(state.membership),
            certificate: state.certificate.clone(),
            queue_depth: self.inner.queue_depth.load(Ordering::Relaxed),
            trouble: (!notes.is_empty()).then(|| notes.join("; ")),
        }
    }

    /// Runs until `stop`: checks in, reports, passes revocations on, renews. Never ends by itself.
    ///
    /// What is under way when it stops, or when its future is dropped, is done again by the next run: every step can be
    /// repeated. Of several runs of one connector one works, and the others wait.
    pub async fn run(self, stop: CancellationToken) {
        let inner = &*self.inner;
        let work = async {
            let _alone = inner.running.lock().await;
            inner.settle_standing(inner.now().await);
            inner.host.set_standing(inner.standing());
            tokio::join!(
                inner.check_in_always(),
                inner.report_always(),
                inner.follow_revocations_always(),
                inner.watch_standing_always(),
            );
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
    }
}

/// Every public key of the gateway, by role.
pub(crate) fn own_keys(
    state: &State,
    signer: &dyn Signer,
    host: &dyn Host,
) -> Vec<(String, scep_types::SpkiDer)> {
    let mut own = vec![("the connector's authentication".to_owned(), signer.public_key().clone())];
    let held = state.trust.decryption.iter();
    own.extend(held.map(|held| ("the connector's decryption".to_owned(), held.key.clone())));
    own.extend(host.own_keys());
    own
}

pub(crate) fn config(
    state: &State,
    signer: &Arc<dyn Signer>,
) -> Result<tls::Config, ConnectorError> {
    let chain: Vec<_> =
        core::iter::once(&state.certificate).chain(&state.certified_by).cloned().collect();
    tls::to_issuer(&state.tls_pins, Some((&chain, Arc::clone(signer))))
}

fn standing(
    state: &State,
    settings: &ConnectorSettings,
    ledger: &Ledger,
    now: Timestamp,
) -> Standing {
    if state.another_ledger || state.ledger != ledger.id() {
        return Standing::AnotherLedger;
    }
    match (settings.offline, state.last_heard) {
        (Offline::Serve, _) => Standing::Serving,
        (Offline::RefuseAfter(_), None) => Standing::Offline { since: None },
        (Offline::RefuseAfter(limit), Some(heard)) if now.since(heard) > limit => {
            Standing::Offline { since: Some(heard) }
        }
        (Offline::RefuseAfter(_), Some(_)) => Standing::Serving,
    }
}

impl Inner {
    /// The time that counts: a clock set back makes no answer fresh again, and no silence shorter.
    pub(crate) async fn now(&self) -> Timestamp {
        let clock = self.clock.now();
        self.ledger.effective_now(clock).await.map_or(clock, |effective| effective.now)
    }

    pub(crate) fn state(&self) -> State {
        locked(&self.state).clone()
    }

    pub(crate) fn trusts_any(&self, which: impl Fn(&DecryptionState) -> bool) -> bool {
        locked(&self.state).trust.decryption.iter().any(which)
    }

    /// Tells the host whom to trust. Whether it takes it; if not, it is asked again before and after each check-in.
    pub(crate) fn tell_trust(&self) -> bool {
        let told = self.host.set_trust(&self.state().trust);
        self.trust_untold.store(told.is_err(), Ordering::SeqCst);
        match told {
            Ok(()) => {
                self.clear(Topic::Trust);
                true
            }
            Err(error) => {
                self.note(Topic::Trust, error);
                false
            }
        }
    }

    /// Changes the state, durably, or not at all.
    pub(crate) fn update(&self, change: impl FnOnce(&mut State)) -> Result<State, ConnectorError> {
        let mut state = locked(&self.state);
        let mut changed = state.clone();
        change(&mut changed);
        self.file.write(&Contents::new(Some(changed.clone()), None), &self.lock)?;
        *state = changed.clone();
        Ok(changed)
    }

    /// Something is wrong: kept for the status until it is right again, and logged when it is new.
    pub(crate) fn note(&self, topic: Topic, note: impl ToString) {
        let note = note.to_string();
        let mut notes = locked(&self.notes);
        if notes.get(&topic) != Some(&note) {
            tracing::warn!(topic = topic.name(), "{note}");
            notes.insert(topic, note);
        }
    }

    pub(crate) fn clear(&self, topic: Topic) {
        if locked(&self.notes).remove(&topic).is_some() {
            tracing::info!(topic = topic.name(), "right again");
        }
    }

    pub(crate) fn queue_depth(&self, depth: u64) {
        self.queue_depth.store(depth, Ordering::Relaxed);
    }

    /// A request whose answer is JSON, as who we are now.
    pub(crate) async fn ask<M: Message, A: Answer>(
        &self,
        path: &str,
        message: &M,
    ) -> Result<A, ConnectorError> {
        let identity = self.identity.read().await;
        self.route.ask(Arc::clone(&identity.config), path, message).await
    }

    /// Tells the host when its standing has changed.
    pub(crate) fn settle_standing(&self, now: Timestamp) {
        let new = standing(&locked(&self.state), &self.settings, &self.ledger, now);
        if new == Standing::AnotherLedger {
            self.note(
                Topic::Ledger,
                "LedgerNotAccepted: the gateway group is bound to another ledger than this one, and \
                 the gateway does not issue; open that ledger, or enrol anew",
            );
        } else {
            self.clear(Topic::Ledger);
        }
        // Let go of before the host is told: it may ask for the status.
        if core::mem::replace(&mut *locked(&self.standing), new) == new {
            return;
        }
        match new {
            Standing::Serving => tracing::info!("the gateway may issue"),
            Standing::Offline { since } => {
                let since = since.map_or_else(|| "ever".to_owned(), |since| since.to_string());
                tracing::error!(
                    since,
                    "the issuer is silent for too long: the gateway stops issuing"
                );
            }
            Standing::AnotherLedger => tracing::error!("another ledger: the gateway stops issuing"),
        }
        self.host.set_standing(new);
    }

    pub(crate) fn standing(&self) -> Standing {
        *locked(&self.standing)
    }

    async fn watch_standing_always(&self) {
        loop {
            let now = self.now().await;
            self.settle_standing(now);
            // The end of an old key does not wait for the issuer.
            self.retire_decryption_keys(now);
            tokio::time::sleep(STANDING_TICK).await;
        }
    }
}
