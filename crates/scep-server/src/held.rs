//! Requests that wait: for a person, or for a CA that decides later.

use crate::enrol::Asking;
use crate::gateway::{Gateway, Site};
use crate::pool::Place;
use crate::refusal::Refusal;
use crate::reply::{Context, Grant};
use crate::trace::Trace;
use scep_ledger::HeldEnrolment;
use scep_policy::Holdable;
use scep_types::{Reason, Timestamp};
use std::sync::Arc;

impl Gateway {
    /// Keeps a request until a person has decided.
    #[allow(clippy::unused_async, reason = "asks the ledger")]
    pub(crate) async fn hold(
        &self,
        _site: &Site,
        _holdable: Holdable,
        _asking: &Asking,
        _now: Timestamp,
    ) -> Result<Grant, Refusal> {
        Err(Refusal::new(Reason::ChallengeNotServed, "nobody approves requests here"))
    }

    /// A request that a person has approved: everything is compared again, and it is issued.
    #[allow(clippy::unused_async, reason = "asks the ledger")]
    pub(crate) async fn approved(
        &self,
        _place: &Place,
        _site: &Arc<Site>,
        _held: HeldEnrolment,
        _asking: &Asking,
        _now: Timestamp,
        _trace: &mut Trace,
    ) -> Result<Grant, Refusal> {
        Err(Refusal::new(Reason::ChallengeNotServed, "nobody approves requests here"))
    }

    /// CertPoll: the transactionID and who signs decide.
    #[allow(clippy::unused_async, reason = "asks the ledger")]
    pub(crate) async fn poll(
        &self,
        _place: &Place,
        _site: &Arc<Site>,
        _asking: &Asking,
        _context: &mut Context,
        _trace: &mut Trace,
    ) -> Result<Grant, Refusal> {
        Err(Reason::NoSuchTransaction.into())
    }
}
