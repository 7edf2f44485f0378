//! Requests that wait: for a person, or for a CA that decides later.
//!
//! What is temporary and ours is PENDING here, never FAILURE: a device that has read FAILURE does not come again, and its
//! certificate may exist by then (Q49).

use crate::authority::Office;
use crate::enrol::{Asking, deliverable, proven_csr};
use crate::gateway::{Gateway, Site};
use crate::pool::Place;
use crate::refusal::{Refusal, Whose};
use crate::reply::{Context, Grant};
use crate::trace::{Stage, Trace};
use scep_ledger::{AdmitError, Asked, HeldEnrolment, Polled, Recall};
use scep_pkcs10::Csr;
use scep_policy::{HeldClaims, Holdable, InertContent, RetryKey, decide_held};
use scep_types::{AuthorityName, CsrInfoHash, Reason, Secret, Timestamp};
use std::sync::Arc;

impl Gateway {
    /// Keeps a request until a person has decided, or its time is over.
    pub(crate) async fn hold(
        &self,
        site: &Site,
        holdable: Holdable,
        asking: &Asking,
        now: Timestamp,
    ) -> Result<Grant, Refusal> {
        let parts = &self.inner.parts;
        let whose = Box::new(Whose::of(holdable.claims()));
        let asked = Asked {
            authority: &site.office.name,
            // Chosen when it is admitted.
            serial: None,
            signer: asking.signer.spki().hash(),
            transaction: &asking.transaction,
        };
        let until = now.plus(parts.limits.hold_for);
        match parts.ledger.hold(holdable, &asked, until, now).await {
            Ok(()) => Ok(Grant::Pending),
            Err(AdmitError::Refused(reason)) => {
                Err(Refusal { whose: Some(whose), ..reason.into() })
            }
            Err(AdmitError::Ledger(error)) => Err(error.into()),
        }
    }

    /// A request that a person has approved, and that its device sends again.
    pub(crate) async fn approved(
        &self,
        place: &Place,
        site: &Arc<Site>,
        held: HeldEnrolment,
        asking: &Asking,
        now: Timestamp,
        trace: &mut Trace,
    ) -> Result<Grant, Refusal> {
        let office = site.asked_of(held.authority())?;
        let (claims, csr_der) = held.into_parts();
        let csr = self.kept(place, site, csr_der).await?;
        let (tenant, device) = (&claims.claims().tenant, &claims.claims().device);
        self.check_signer(site, &csr, &asking.signer, tenant, device, now).await?;
        self.release(place, (site, office), (&csr, claims), asking, now, trace).await
    }

    /// CertPoll: the transactionID and the key that signs decide, whatever the names in it say.
    ///
    /// The rule about signers is not asked again: nobody is told but the key that has signed the request itself, and that
    /// was allowed then. Where any signer is served it is that key alone all the same: a client that makes a new one for
    /// each message sends its request again, which is answered alike.
    pub(crate) async fn poll(
        &self,
        place: &Place,
        site: &Arc<Site>,
        asking: &Asking,
        context: &mut Context,
        trace: &mut Trace,
    ) -> Result<Grant, Refusal> {
        let ledger = &self.inner.parts.ledger;
        let now = self.effective_now().await?;
        let signer = asking.signer.spki().hash();
        let Polled { recall, csr_der } = ledger.poll(&asking.transaction, signer, now).await?;
        if !matches!(recall, Recall::Nothing) {
            trace.stage = Stage::Recalled;
        }
        match recall {
            Recall::Nothing => Err(Reason::NoSuchTransaction.into()),
            Recall::Over(reason) => Err(reason.into()),
            Recall::Pending | Recall::InProgress => Ok(Grant::Pending),
            Recall::Releasable(releasable) => {
                if let Context::Full(context) = context
                    && !context.can_encrypt()
                {
                    let gone = || {
                        let detail = "its request, which has the challenge, is not kept any more";
                        Refusal::new(Reason::AnswerUndeliverable, detail)
                    };
                    let csr = self.kept(place, site, csr_der.ok_or_else(gone)?).await?;
                    deliverable(context, &csr)?;
                }
                // Of its key: the request it is about need not be kept any more.
                let bucket = CsrInfoHash::from_bytes(*signer.as_bytes());
                self.owner(&releasable, now, trace).await?;
                self.again(bucket, releasable, now)
            }
            Recall::Approved(held) => {
                let office = site.asked_of(held.authority())?;
                let (claims, csr_der) = held.into_parts();
                let csr = self.kept(place, site, csr_der).await?;
                if let Context::Full(context) = context {
                    deliverable(context, &csr)?;
                }
                self.release(place, (site, office), (&csr, claims), asking, now, trace).await
            }
        }
    }

    /// A request that waits has come once more, perhaps in another transaction: the device polls for that one.
    pub(crate) async fn asked_again(&self, key: RetryKey, asking: &Asking) -> Result<(), Refusal> {
        let (ledger, signer) = (&self.inner.parts.ledger, asking.signer.spki().hash());
        Ok(ledger.asked_again(key, &asking.transaction, signer).await?)
    }

    /// Has a request issued that a person has approved, by the CA that it asked: everything is compared again.
    async fn release(
        &self,
        place: &Place,
        (site, office): (&Arc<Site>, &Arc<Office>),
        (csr, claims): (&Csr, HeldClaims),
        asking: &Asking,
        now: Timestamp,
        trace: &mut Trace,
    ) -> Result<Grant, Refusal> {
        let parts = &self.inner.parts;
        trace.request = Some(csr.info_hash());
        Whose::of(claims.claims()).note(trace);
        if let Err(refusal) = self.may_issue() {
            return Ok(pending_because(&refusal, trace));
        }
        site.serves(claims.claims())?;
        let denials = self.inner.denials.get();
        let inert = InertContent::Discard;
        let approval = match decide_held(csr, claims, &parts.site_rules, &denials, inert, now) {
            Ok(approval) => approval,
            Err(denial) => return Err(self.count_denial(&denial, now).await?),
        };
        trace.stage = Stage::Approved;
        let granted = match self.admit(office, &site.kin, approval, asking, now).await {
            Ok(admission) => {
                trace.stage = Stage::Admitted;
                self.issue(place, office, admission, now, trace).await
            }
            Err(refusal) => Err(refusal),
        };
        match granted {
            Err(refusal) if is_temporary(refusal.reason) => Ok(pending_because(&refusal, trace)),
            other => other,
        }
    }

    /// A request out of the ledger's memory: parsed and proven again.
    async fn kept(
        &self,
        place: &Place,
        site: &Arc<Site>,
        der: Secret<Vec<u8>>,
    ) -> Result<Csr, Refusal> {
        let (inner, ours, rules) = (self.inner.clone(), self.our_keys(), site.endpoint.csr);
        place.run(move || proven_csr(der.expose(), &rules, &ours, &*inner.parts.provider)).await?
    }
}

impl Site {
    /// The CA that a request asked of: this endpoint's, or one that takes over from it or that it takes over from.
    fn asked_of(&self, name: &AuthorityName) -> Result<&Arc<Office>, Refusal> {
        let mut all = core::iter::once(&self.office).chain(&self.kin);
        all.find(|office| office.name == *name).ok_or_else(|| {
            Refusal::new(
                Reason::ChallengeNotServed,
                "it was asked of another CA than this endpoint's",
            )
        })
    }
}

/// What leaves an approved request approved, or its intent open for recovery: the device's next poll finds out.
const fn is_temporary(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::RequestInProgress
            | Reason::IssuanceBrakeEngaged
            | Reason::CaUnavailable
            | Reason::CaOutcomeUnknown
    )
}

/// The operator learns why it still waits.
fn pending_because(refusal: &Refusal, trace: &mut Trace) -> Grant {
    let detail = refusal.detail.as_deref().unwrap_or("no detail");
    trace.detail = Some(format!("still waits: {}: {detail}", refusal.reason));
    Grant::Pending
}
