//! From an admission over the CA to what is on record.

use crate::authority::Office;
use crate::gateway::Gateway;
use crate::pool::Place;
use crate::refusal::Refusal;
use crate::reply::Grant;
use crate::trace::{Outcome, Stage, Trace, differences};
use scep_ca::IssueError;
use scep_ledger::{Admission, IssuePermit, Releasable, Unsettled};
use scep_policy::Conforming;
use scep_types::{CertificateDer, Reason, Timestamp};
use std::sync::Arc;

impl Gateway {
    /// Has the CA issue, compares what came back, records it. Every way out settles the intent.
    pub(crate) async fn issue(
        &self,
        place: &Place,
        office: &Arc<Office>,
        admission: Admission,
        now: Timestamp,
        trace: &mut Trace,
    ) -> Result<Grant, Refusal> {
        let ledger = &self.inner.parts.ledger;
        let (permit, unsettled) = admission.redeem();
        let issued = self.call_ca(place, office, permit).await;
        let certificate = match issued {
            Ok(certificate) => certificate,
            Err(IssueOutcome::Nothing(detail)) => {
                let reason = Reason::CaUnavailable;
                ledger.hand_back(unsettled, reason, &detail, now).await?;
                return Err(Refusal::new(reason, detail));
            }
            Err(IssueOutcome::Unknown(detail)) => {
                ledger.leave_unknown(unsettled, &detail, now).await?;
                return Err(Refusal::new(Reason::CaOutcomeUnknown, detail));
            }
            Err(IssueOutcome::Pending) => {
                ledger.leave_pending(unsettled, now).await?;
                return Ok(Grant::Pending);
            }
        };
        trace.stage = Stage::Issued;
        trace.serial = certificate.serial().map(|serial| serial.to_string());
        if !unsettled.has_serial_of(&certificate) {
            let difference = "the CA has put another serial number into the certificate";
            let detail = self.withhold(office, unsettled, &certificate, difference, now).await?;
            return Err(Refusal::new(Reason::CertificateDiffers, detail));
        }
        let conforming = match unsettled.approval().check_certificate(&certificate) {
            Ok(conforming) => conforming,
            Err(fields) => {
                let difference = differences(&fields);
                let detail =
                    self.withhold(office, unsettled, &certificate, &difference, now).await?;
                let refusal = Refusal::new(Reason::CertificateDiffers, detail);
                return Err(Refusal { fields, ..refusal });
            }
        };
        let releasable = self.record(unsettled, conforming, now).await?;
        trace.stage = Stage::Recorded;
        Ok(Grant::Certificate { releasable, outcome: Outcome::Issued })
    }

    async fn record(
        &self,
        unsettled: Unsettled,
        conforming: Conforming,
        now: Timestamp,
    ) -> Result<Releasable, Refusal> {
        Ok(self.inner.parts.ledger.record(unsettled, conforming, now).await?)
    }

    /// A CA that signs here does private-key work, so that it is called in the pool. One that is elsewhere is waited for
    /// outside: while it is slow, or away, the pool is free for everybody else. How many calls of one CA wait at once is
    /// limited, and one more is refused before it is made.
    async fn call_ca(
        &self,
        place: &Place,
        office: &Arc<Office>,
        permit: IssuePermit,
    ) -> Result<CertificateDer, IssueOutcome> {
        let ca = Arc::clone(&office.ca);
        let called = if ca.is_elsewhere() {
            let Ok(turn) = Arc::clone(&office.calls).try_acquire_owned() else {
                let detail = "as many requests as may be are waiting for this CA";
                return Err(IssueOutcome::Nothing(detail.to_owned()));
            };
            let call = tokio::spawn(async move {
                let issued = ca.issue(permit).await;
                drop(turn);
                issued
            });
            call.await.map_err(|lost| lost.to_string())
        } else {
            let runtime = tokio::runtime::Handle::current();
            let called = place.run(move || runtime.block_on(ca.issue(permit))).await;
            called.map_err(|lost| lost.to_string())
        };
        match called {
            Ok(Ok(certificate)) => Ok(certificate),
            Ok(Err(error @ IssueError::NothingIssued(_))) => {
                Err(IssueOutcome::Nothing(error.to_string()))
            }
            Ok(Err(error @ IssueError::Unknown(_))) => {
                Err(IssueOutcome::Unknown(error.to_string()))
            }
            Ok(Err(IssueError::Pending)) => Err(IssueOutcome::Pending),
            Err(lost) => Err(IssueOutcome::Unknown(lost)),
        }
    }
}

/// What a call that gave no certificate may have done.
enum IssueOutcome {
    Nothing(String),
    Unknown(String),
    Pending,
}
