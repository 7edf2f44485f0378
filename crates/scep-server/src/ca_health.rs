//! How each CA is, as its adapter remembers: no CA is asked for it.

use crate::gateway::Gateway;
use scep_ca::CaHealth;
use scep_types::Timestamp;
use serde::Serialize;

/// A CA in the document at `/healthz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct AuthorityHealth {
    pub(crate) name: String,
    /// Whether nothing is known to be wrong.
    pub(crate) well: bool,
    /// What is.
    trouble: Option<String>,
    /// Since when.
    since: Option<String>,
    /// The same in seconds, 1 at least.
    #[serde(skip)]
    pub(crate) seconds: u64,
}

impl AuthorityHealth {
    fn of(name: String, health: CaHealth, now: Timestamp) -> Self {
        match health {
            CaHealth::Ok => Self { name, well: true, trouble: None, since: None, seconds: 0 },
            CaHealth::Degraded { why, since } => {
                let since = since.elapsed();
                let seconds = since.as_secs().max(1);
                let since = Some(now.minus(since).to_string());
                Self { name, well: false, trouble: Some(why), since, seconds }
            }
        }
    }
}

impl Gateway {
    pub(crate) fn authority_health(&self, now: Timestamp) -> Vec<AuthorityHealth> {
        let offices = self.inner.offices.iter();
        offices
            .map(|office| AuthorityHealth::of(office.name.to_string(), office.ca.health(), now))
            .collect()
    }
}
