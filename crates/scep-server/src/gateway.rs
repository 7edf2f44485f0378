//! The gateway's parts, assembled once; after start nothing asks "is this set?".

use crate::authority::{Authority, Office};
use crate::buckets::Buckets;
use crate::pool::Pool;
use crate::preset::Endpoint;
use crate::slot::Slot;
use crate::source::{Crowd, Network, Proxies};
use crate::trace::Observer;
use crate::upload::Uploads;
use core::time::Duration;
use scep_challenge::Opener;
use scep_ledger::Ledger;
use scep_message::Limits;
use scep_policy::{Denials, SiteRules};
use scep_types::{AuthorityName, ChallengeId, Clock, CryptoProvider, SpkiHash};
use std::net::IpAddr;
use std::sync::Arc;
use thiserror::Error;

/// Limits of time and number. The defaults are in the README's table.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// CMS intake.
    pub cms: Limits,
    /// Private-key operations at once. 0: one for each core.
    pub threads: usize,
    /// Messages waiting for one; more are answered 503 with Retry-After.
    pub queue: usize,
    /// Open connections; more wait in the kernel's backlog.
    pub connections: usize,
    /// Open connections of one source, where it is no trusted proxy; more are closed at once. A source is an IPv4
    /// address, or a /64 of IPv6.
    pub source_connections: usize,
    /// PKIOperations of one source at once, before they are slowed down to one each `source_refill`; more are answered
    /// 429 with Retry-After, unread.
    pub source_burst: u32,
    /// See `source_burst`.
    pub source_refill: Duration,
    /// How often one challenge is opened at once, before that is slowed down to one each `challenge_refill`.
    pub challenge_burst: u32,
    /// See `challenge_burst`.
    pub challenge_refill: Duration,
    /// From a connection's start, or the last answer, to the end of the next request's head.
    pub head_timeout: Duration,
    /// For a request's body.
    pub body_timeout: Duration,
    /// For running requests to end after a stop was asked for.
    pub stop_timeout: Duration,
    /// How long a request waits for the same request on another connection.
    pub in_progress_wait: Duration,
    /// Longest POST body, octets; more is 413.
    pub max_body: usize,
    /// All bodies together that are being read, octets; more are answered 503 with Retry-After. `max_body` or more.
    pub max_bodies: usize,
    /// Longest head of a request, octets; more is 431. 8 KiB or more.
    pub max_head: usize,
    /// How many repeats of one request are answered at once, before they are slowed down to one each
    /// `retry_refill`.
    pub retry_burst: u32,
    /// See `retry_burst`.
    pub retry_refill: Duration,
    /// GetCert and GetCRL answered each second; more are answered 503 with Retry-After, before they are opened.
    pub queries: u32,
    /// How long a request waits for a person to decide, and its device to come for it.
    pub hold_for: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            cms: Limits::default(),
            threads: 0,
            queue: 256,
            connections: 1024,
            source_connections: 256,
            source_burst: 1000,
            source_refill: Duration::from_millis(20),
            challenge_burst: 256,
            challenge_refill: Duration::from_secs(5),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(30),
            in_progress_wait: Duration::from_secs(10),
            max_body: 256 << 10,
            max_bodies: 32 << 20,
            max_head: 96 << 10,
            retry_burst: 128,
            retry_refill: Duration::from_secs(5),
            queries: 64,
            hold_for: Duration::from_secs(7 * 86_400),
        }
    }
}

/// Everything a gateway is made of.
#[derive(Debug)]
pub struct Parts {
    /// Public-key operations and randomness.
    pub provider: Arc<dyn CryptoProvider>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Opens challenges. [`Gateway::set_opener`] replaces it.
    pub opener: Opener,
    /// What the site allows at most.
    pub site_rules: SiteRules,
    /// What the issuer has disabled. [`Gateway::set_denials`] replaces it.
    pub denials: Denials,
    /// Durable memory.
    pub ledger: Ledger,
    /// The CA that issues, and its RA.
    pub main: Authority,
    /// Other CAs beside it, with names and CRL paths of their own.
    pub more: Vec<Authority>,
    /// Keys of the system, which no device may have certified. The RA's need not be among them.
    /// [`Gateway::set_our_keys`] replaces them.
    pub our_keys: Vec<SpkiHash>,
    /// Where and how it is served. The longest matching path wins.
    pub endpoints: Vec<Endpoint>,
    /// Limits.
    pub limits: ServerLimits,
    /// Sees finished traces.
    pub observer: Option<Arc<dyn Observer>>,
}

/// A running gateway's state. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gateway {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) parts: Fixed,
    pub(crate) opener: Slot<Opener>,
    pub(crate) denials: Slot<Denials>,
    our_keys: Slot<Vec<SpkiHash>>,
    /// Every authority, the main one first.
    pub(crate) offices: Vec<Arc<Office>>,
    pub(crate) main: Arc<Office>,
    sites: Vec<Arc<Site>>,
    pub(crate) standing: crate::standing::Standing,
    pub(crate) pool: Pool,
    pub(crate) metrics: crate::metrics::Metrics,
    pub(crate) retries: crate::retries::Retries,
    pub(crate) sources: Buckets<IpAddr>,
    pub(crate) challenges: Buckets<ChallengeId>,
    pub(crate) crowd: Arc<Crowd>,
    pub(crate) uploads: Uploads,
    pub(crate) proxies: Slot<Proxies>,
    pub(crate) queries: crate::budget::Budget,
    pub(crate) store: Slot<Option<crate::store::StoreSettings>>,
    pub(crate) operators: Slot<Option<crate::operator::OperatorToken>>,
    pub(crate) tracker: tokio_util::task::TaskTracker,
}

/// An endpoint with the authority that it has chosen.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) endpoint: Endpoint,
    pub(crate) office: Arc<Office>,
    /// The other authorities of a roll-over.
    pub(crate) kin: Vec<Arc<Office>>,
}

/// The parts that stay what they are for as long as the gateway runs; see [`Parts`].
#[derive(Debug)]
pub(crate) struct Fixed {
    pub(crate) provider: Arc<dyn CryptoProvider>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) site_rules: SiteRules,
    pub(crate) ledger: Ledger,
    pub(crate) limits: ServerLimits,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

/// Why parts do not make a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PartsError {
    /// Two CAs with one name.
    #[error("two CAs are called {0}")]
    AuthorityTwice(AuthorityName),
    /// Two CAs have one name in their certificates: the ledger could not tell whose a certificate is.
    #[error("the CAs {0} and {1} have one name in their certificates")]
    OneIssuer(AuthorityName, AuthorityName),
    /// Two CAs that revoke would serve their CRLs at one path.
    #[error("two CAs have their CRL at {0}")]
    CrlPathTwice(String),
    /// An endpoint names a CA that is not there.
    #[error("the endpoint {path} is for the CA {authority}, which is not there")]
    UnknownAuthority {
        /// The endpoint's.
        path: String,
        /// The name.
        authority: AuthorityName,
    },
    /// A CA follows one that is not there, or in the end itself.
    #[error("the CA {name} follows {followed}, which is not there or follows it")]
    FollowsNobody {
        /// Its name.
        name: AuthorityName,
        /// The one it follows.
        followed: AuthorityName,
    },
}

impl Gateway {
    /// Assembles a gateway.
    ///
    /// # Errors
    /// When names or paths of its authorities clash, or an endpoint's authority is not there.
    pub fn new(parts: Parts) -> Result<Self, PartsError> {
        let Parts { provider, clock, opener, site_rules, denials, ledger, main, more, .. } = parts;
        let Parts { our_keys, endpoints, limits, observer, .. } = parts;
        let main_name = main.name.clone();
        let authorities = core::iter::once(main).chain(more).collect();
        let offices = crate::authority::offices(authorities)?;
        let main = offices.iter().find(|office| office.name == main_name).cloned();
        let main = main.ok_or(PartsError::AuthorityTwice(main_name))?;
        let sites = sites(endpoints, &offices)?;
        let parts = Fixed { provider, clock, site_rules, ledger, limits, observer };
        let threads = match parts.limits.threads {
            0 => std::thread::available_parallelism().map_or(2, core::num::NonZero::get),
            n => n,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                pool: Pool::new(threads, parts.limits.queue),
                metrics: crate::metrics::Metrics::new(),
                retries: crate::retries::Retries::new(
                    parts.limits.retry_burst,
                    parts.limits.retry_refill,
                ),
                sources: Buckets::new(parts.limits.source_burst, parts.limits.source_refill),
                challenges: Buckets::new(
                    parts.limits.challenge_burst,
                    parts.limits.challenge_refill,
                ),
                crowd: Crowd::new(parts.limits.source_connections),
                uploads: Uploads::new(parts.limits.max_bodies, parts.limits.max_body),
                proxies: Slot::new(Proxies::default()),
                queries: crate::budget::Budget::new(parts.limits.queries),
                store: Slot::new(None),
                operators: Slot::new(None),
                tracker: tokio_util::task::TaskTracker::new(),
                opener: Slot::new(opener),
                denials: Slot::new(denials),
                our_keys: Slot::new(our_keys),
                offices,
                main,
                sites,
                standing: crate::standing::Standing::default(),
                parts,
            }),
        })
    }

    /// Its durable memory, to be read beside it.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.inner.parts.ledger
    }

    /// Replaces what is disabled, from the next request on.
    pub fn set_denials(&self, denials: Denials) {
        self.inner.denials.set(denials);
    }

    /// Replaces whose challenges are opened, and with which keys, from the next request on. Who replaces a decryption
    /// key keeps the previous one in the opener for as long as challenges to it may be under way.
    pub fn set_opener(&self, opener: Opener) {
        self.inner.opener.set(opener);
    }

    /// Replaces the keys that no device may have certified, from the next request on. Those of RAs and responders need
    /// not be among them.
    pub fn set_our_keys(&self, keys: Vec<SpkiHash>) {
        self.inner.our_keys.set(keys);
    }

    /// Replaces whose word about a client's address is taken (`Forwarded`, `X-Forwarded-For`), from the next connection
    /// and request on. At the start it is nobody's. They must be addresses that nothing but proxies has, which write one
    /// of the two headers themselves: whom they name is limited as a source, and they are not.
    pub fn set_trusted_proxies(&self, networks: Vec<Network>) {
        self.inner.proxies.set(Proxies::new(networks));
    }

    /// The keys that no device may have certified.
    pub(crate) fn our_keys(&self) -> Vec<SpkiHash> {
        let of_offices = self.inner.offices.iter().flat_map(|office| office.keys());
        self.inner.our_keys.get().iter().copied().chain(of_offices).collect()
    }

    /// The endpoint that serves a path, after the `/pkiclient.exe` that Windows and Cisco append was taken off.
    pub(crate) fn site(&self, path: &str) -> Option<&Arc<Site>> {
        let path = normal_path(path);
        let serves = |site: &&Arc<Site>| {
            let prefix = site.endpoint.path.trim_end_matches('/');
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.inner.sites.iter().filter(serves).max_by_key(|site| site.endpoint.path.len())
    }
}

fn sites(endpoints: Vec<Endpoint>, offices: &[Arc<Office>]) -> Result<Vec<Arc<Site>>, PartsError> {
    for (at, office) in offices.iter().enumerate() {
        let earlier = offices.iter().take(at);
        for other in earlier {
            if other.name == office.name {
                return Err(PartsError::AuthorityTwice(office.name.clone()));
            }
            if office.issuer().is_some() && office.issuer() == other.issuer() {
                return Err(PartsError::OneIssuer(other.name.clone(), office.name.clone()));
            }
            if office.revokes() && other.revokes() && other.crl.path == office.crl.path {
                return Err(PartsError::CrlPathTwice(office.crl.path.clone()));
            }
        }
    }
    let site = |endpoint: Endpoint| match offices.iter().find(|o| o.name == endpoint.authority) {
        Some(office) => {
            let kin = crate::authority::kin(office, offices);
            Ok(Arc::new(Site { office: Arc::clone(office), kin, endpoint }))
        }
        None => {
            Err(PartsError::UnknownAuthority { path: endpoint.path, authority: endpoint.authority })
        }
    };
    endpoints.into_iter().map(site).collect()
}

/// The path without trailing slashes and appended `/pkiclient.exe`, however often (Q6).
fn normal_path(path: &str) -> &str {
    let mut path = path;
    loop {
        let shorter = path.trim_end_matches('/');
        let cut = shorter.len().saturating_sub("/pkiclient.exe".len());
        match shorter.split_at_checked(cut) {
            Some((head, tail)) if tail.eq_ignore_ascii_case("/pkiclient.exe") => path = head,
            _ => return shorter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quirk_06_pkiclient_exe_is_taken_off_however_often() {
        for (path, normal) in [
            ("/scep", "/scep"),
            ("/scep/", "/scep"),
            ("/scep/pkiclient.exe", "/scep"),
            ("/certsrv/mscep/mscep.dll/pkiclient.exe/pkiclient.exe", "/certsrv/mscep/mscep.dll"),
            ("/PKICLIENT.EXE", ""),
            ("/", ""),
            ("", ""),
            ("/é", "/é"),
        ] {
            assert_eq!(normal_path(path), normal, "{path}");
        }
    }
}
