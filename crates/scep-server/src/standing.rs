//! Whether the gateway may issue, how the link to the issuer is, and what expires: told by whoever runs the gateway,
//! shown on `/healthz` and `/metrics`.

use crate::gateway::Gateway;
use core::fmt;
use core::time::Duration;
use scep_types::{Reason, Timestamp};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Whether the gateway may issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Availability {
    /// It may.
    #[default]
    Serving,
    /// The issuer was not heard for longer than the operator allows.
    Offline,
    /// The issuer has bound the gateway group to another ledger.
    AnotherLedger,
}

impl Availability {
    /// Why requests are refused; `None`: they are not.
    #[must_use]
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Serving => None,
            Self::Offline => Some(Reason::IssuerOffline),
            Self::AnotherLedger => Some(Reason::LedgerNotBound),
        }
    }

    /// Every reason that there is.
    pub(crate) const REASONS: [Reason; 2] = [Reason::IssuerOffline, Reason::LedgerNotBound];

    /// For the operator.
    pub(crate) const fn detail(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Offline => {
                "the issuer was not heard for longer than is allowed; certificates already issued are still given to \
                 retries"
            }
            Self::AnotherLedger => {
                "the issuer has bound this gateway group to another ledger; certificates already issued are still \
                 given to retries"
            }
        }
    }
}

/// How the link to the issuer is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LinkStatus {
    /// When the issuer was last heard; `None`: never.
    pub last_heard: Option<Timestamp>,
    /// What is wrong at present, for people.
    pub trouble: Option<String>,
}

/// How recently the issuer must have been heard for a certificate to be followed by another on its own word: a device that
/// it has disabled meanwhile would go on for ever otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewalContact {
    /// At most so long ago, also where other requests are served without the issuer.
    Within(Duration),
    /// Never: there is no issuer to be heard, and the operator disables devices otherwise.
    NotNeeded,
}

impl Default for RenewalContact {
    /// Within 24 hours; a gateway that hears of no issuer renews nothing so.
    fn default() -> Self {
        Self::Within(Duration::from_secs(24 * 3_600))
    }
}

type Ask = dyn Fn() -> LinkStatus + Send + Sync;

/// Whom to ask how the link is, and since when there is somebody.
#[derive(Clone)]
pub(crate) struct Link {
    ask: Arc<Ask>,
    since: Timestamp,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("since", &self.since).finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn status(&self) -> LinkStatus {
        (self.ask)()
    }

    /// Seconds since the issuer was heard; before the first time, since there is a link.
    pub(crate) fn silent_seconds(&self, heard: Option<Timestamp>, now: Timestamp) -> u64 {
        now.since(heard.unwrap_or(self.since)).as_secs()
    }
}

/// Days before its expiry at which a certificate raises an alarm, each a graver one.
pub const EXPIRY_ALARM_DAYS: [i64; 3] = [30, 14, 7];

const DAY: i64 = 86_400;

/// A certificate that the system owns, and how long it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// What it is for.
    pub name: String,
    /// Until when it is valid.
    pub not_after: Timestamp,
    /// Whole days left, rounded down; below zero it has expired.
    pub days_left: i64,
    /// The lowest of [`EXPIRY_ALARM_DAYS`] that it is below, or 0 when it has expired. `None`: no alarm.
    pub alarm_days: Option<i64>,
}

impl Expiry {
    fn of(name: &str, not_after: Timestamp, now: Timestamp) -> Self {
        let left = not_after.seconds().saturating_sub(now.seconds());
        let alarm_days = if left < 0 {
            Some(0)
        } else {
            let below = |days: &&i64| left < days.saturating_mul(DAY);
            EXPIRY_ALARM_DAYS.iter().filter(below).min().copied()
        };
        Self { name: name.to_owned(), not_after, days_left: left.div_euclid(DAY), alarm_days }
    }
}

/// What expires, and which alarms were raised.
#[derive(Debug, Default)]
pub(crate) struct Expiries(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    listed: Vec<(String, Timestamp)>,
    /// The alarm last raised for a name, and the expiry that it was raised for.
    raised: HashMap<String, (Timestamp, i64)>,
}

impl Expiries {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, listed: Vec<(String, Timestamp)>) {
        let mut known = self.known();
        known.raised.retain(|name, _| listed.iter().any(|(listed, _)| listed == name));
        known.listed = listed;
    }

    pub(crate) fn at(&self, now: Timestamp) -> Vec<Expiry> {
        let known = self.known();
        known.listed.iter().map(|(name, at)| Expiry::of(name, *at, now)).collect()
    }

    /// Those that have come below a threshold since the last call.
    fn crossed(&self, now: Timestamp) -> Vec<Expiry> {
        let mut known = self.known();
        let Known { listed, raised } = &mut *known;
        let mut crossed = Vec::new();
        for (name, not_after) in listed {
            let expiry = Expiry::of(name, *not_after, now);
            let Some(alarm) = expiry.alarm_days else {
                raised.remove(name);
                continue;
            };
            let new = raised.get(name).is_none_or(|(at, last)| at != not_after || alarm < *last);
            if new {
                raised.insert(name.clone(), (*not_after, alarm));
                crossed.push(expiry);
            }
        }
        crossed
    }
}

/// What [`Gateway::set_availability`] and its companions have set.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    availability: RwLock<Availability>,
    link: RwLock<Option<Link>>,
    renewal_contact: RwLock<RenewalContact>,
    pub(crate) expiries: Expiries,
}

impl Standing {
    pub(crate) fn link(&self) -> Option<Link> {
        self.link.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Gateway {
    /// Whether it may issue, from the next request on.
    ///
    /// When not, enrolments get a FAILURE with [`Availability::reason`] before their challenge is opened or anything is
    /// spent. Three things go on: an honest retry gets the certificate that was issued before, since it is durable and
    /// on its way to the issuer already; revocations are carried out and CRLs made; GetCACert and GetCACaps are served.
    pub fn set_availability(&self, availability: Availability) {
        let mut slot =
            self.inner.standing.availability.write().unwrap_or_else(PoisonError::into_inner);
        let before = core::mem::replace(&mut *slot, availability);
        drop(slot);
        match availability {
            _ if before == availability => {}
            Availability::Serving => tracing::info!(target: "scep", "enrolments are served again"),
            Availability::Offline | Availability::AnotherLedger => tracing::error!(
                target: "scep",
                reason = availability.reason().map(tracing::field::display),
                "enrolments are refused: {}", availability.detail()
            ),
        }
    }

    /// Whether it may issue.
    #[must_use]
    pub fn availability(&self) -> Availability {
        *self.inner.standing.availability.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom to ask how the link to the issuer is, for `/healthz` and `/metrics`. Called whenever one of them is
    /// fetched: it must not block.
    pub fn set_link_status(&self, ask: impl Fn() -> LinkStatus + Send + Sync + 'static) {
        let link = Link { ask: Arc::new(ask), since: self.inner.parts.clock.now() };
        *self.inner.standing.link.write().unwrap_or_else(PoisonError::into_inner) = Some(link);
    }

    /// How recently the issuer must have been heard for a renewal by certificate, from the next request on.
    pub fn set_renewal_contact(&self, contact: RenewalContact) {
        *self.inner.standing.renewal_contact.write().unwrap_or_else(PoisonError::into_inner) =
            contact;
    }

    /// Whether the issuer was heard recently enough for a renewal by certificate, or why not.
    pub(crate) fn renewal_contact_at(&self, now: Timestamp) -> Result<(), String> {
        let standing = &self.inner.standing;
        let contact = *standing.renewal_contact.read().unwrap_or_else(PoisonError::into_inner);
        let within = match contact {
            RenewalContact::NotNeeded => return Ok(()),
            RenewalContact::Within(within) => within,
        };
        match standing.link().map(|link| link.status().last_heard) {
            Some(Some(heard)) if now.since(heard) <= within => Ok(()),
            Some(Some(heard)) => Err(format!(
                "renewal by certificate: the issuer was last heard at {heard}, more than {} s ago",
                within.as_secs()
            )),
            Some(None) => Err("renewal by certificate: the issuer was never heard".to_owned()),
            None => Err("renewal by certificate: there is no issuer to be heard".to_owned()),
        }
    }

    /// Which certificates of the system expire when, by name. Replaces the list before; what was renewed is off its
    /// alarm. Each threshold of [`EXPIRY_ALARM_DAYS`] and the expiry itself is logged once when it is passed.
    pub fn set_expiries(&self, certificates: Vec<(String, Timestamp)>) {
        self.inner.standing.expiries.set(certificates);
        self.alarm_expiries();
    }

    /// What expires when, as of now.
    #[must_use]
    pub fn expiries(&self) -> Vec<Expiry> {
        self.inner.standing.expiries.at(self.inner.parts.clock.now())
    }

    /// Logs what has passed a threshold since the last call.
    pub(crate) fn alarm_expiries(&self) {
        for expiry in self.inner.standing.expiries.crossed(self.inner.parts.clock.now()) {
            let Expiry { name, not_after, days_left, .. } = expiry;
            if days_left < 0 {
                tracing::error!(target: "scep", certificate = name, expired = %not_after, "certificate expired");
            } else {
                tracing::warn!(
                    target: "scep", certificate = name, expires = %not_after, days_left,
                    "certificate expires soon"
                );
            }
        }
    }

    /// Looks for expiries again and again while running.
    pub(crate) fn spawn_expiry_alarms(&self) -> tokio::task::JoinHandle<()> {
        const PERIOD: Duration = Duration::from_secs(60);
        let gateway = self.clone();
        tokio::spawn(async move {
            loop {
                gateway.alarm_expiries();
                tokio::time::sleep(PERIOD).await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Timestamp = Timestamp::from_seconds(1_795_507_200);

    fn before(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(END.seconds() - seconds)
    }

    #[test]
    fn days_left_and_alarms_follow_the_thresholds() {
        for (left, days, alarm) in [
            (365 * DAY, 365, None),
            (30 * DAY, 30, None),
            (30 * DAY - 1, 29, Some(30)),
            (14 * DAY, 14, Some(30)),
            (14 * DAY - 1, 13, Some(14)),
            (7 * DAY - 1, 6, Some(7)),
            (0, 0, Some(7)),
            (-1, -1, Some(0)),
        ] {
            let expiry = Expiry::of("ra", END, before(left));
            assert_eq!((expiry.days_left, expiry.alarm_days), (days, alarm), "{left}");
        }
    }

    #[test]
    fn each_threshold_is_passed_once_and_again_after_a_renewal() {
        let expiries = Expiries::default();
        expiries.set(vec![("ra".into(), END)]);
        let crossed = |left: i64| -> Vec<Option<i64>> {
            expiries.crossed(before(left)).iter().map(|e| e.alarm_days).collect()
        };
        assert_eq!(crossed(31 * DAY), []);
        assert_eq!(crossed(20 * DAY), [Some(30)]);
        assert_eq!(crossed(20 * DAY), []);
        // The list as it was is no news, and a clock set back neither.
        expiries.set(vec![("ra".into(), END)]);
        assert_eq!(crossed(20 * DAY), []);
        assert_eq!(crossed(6 * DAY), [Some(7)]);
        assert_eq!(crossed(10 * DAY), []);
        assert_eq!(crossed(-DAY), [Some(0)]);
        assert_eq!(crossed(-2 * DAY), []);
        // Renewed, but not for long.
        let soon = Timestamp::from_seconds(END.seconds() + 20 * DAY);
        expiries.set(vec![("ra".into(), soon)]);
        assert_eq!(crossed(0), [Some(30)]);
        // Gone, and new under the same name.
        expiries.set(Vec::new());
        expiries.set(vec![("ra".into(), soon)]);
        assert_eq!(crossed(0), [Some(30)]);
    }

    #[test]
    fn every_reason_not_to_serve_is_shown() {
        let not_serving = [Availability::Offline, Availability::AnotherLedger];
        assert_eq!(not_serving.map(|a| a.reason().unwrap()), Availability::REASONS);
        assert_eq!(Availability::Serving.reason(), None);
    }
}
