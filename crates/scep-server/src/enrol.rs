//! The enrolment transaction: from a message's bytes to what is granted.
//!
//! The outer function ([`Gateway::pki_operation`]) answers, logs and counts on every way out; the inner ones
//! only decide. Everything pure comes before the challenge is spent; spending it is the last step before the CA.

use crate::authority::Office;
use crate::gateway::{Gateway, Site};
use crate::pool::Place;
use crate::preset::SignerRule;
use crate::query::{Query, is_query};
use crate::refusal::{Refusal, Whose};
use crate::renew::Earlier;
use crate::reply::{Context, Grant, PkiAnswer};
use crate::trace::{Outcome, Stage, Trace, differences};
use core::time::Duration;
use scep_challenge::{ChallengeClaims, VerifiedClaims};
use scep_ledger::{Admission, AdmitError, Asked, Denied, InventoryEntry, Recall, Releasable};
use scep_message::{
    MessageError, MessageType, PkiMessage, RaIdentity, ReplyContext, Request, SignedRequest,
    salvage,
};
use scep_pkcs10::{Csr, Rules, UnprovenCsr, check_key};
use scep_policy::{Approval, Decision, Denial, InertContent, RetryKey, decide_or_hold};
use scep_types::{
    AuthorityName, CertificateDer, ChallengeId, CryptoProvider, CsrInfoHash, DeviceId, Fault,
    Reason, ReleasedCertificate, Secret, SpkiHash, TenantId, Timestamp, TransactionId,
};
use std::sync::Arc;

/// A message after all that needs no ledger.
struct Intake {
    context: Context,
    wish: Result<Wish, Refusal>,
}

/// What a message asks for.
enum Wish {
    /// PKCSReq or RenewalReq, with a request signed by its own key.
    Enrol(Box<Csr>, Asking),
    /// CertPoll.
    Poll(Asking),
    /// GetCert.
    Certificate(Query),
    /// GetCRL.
    Crl(Query),
}

/// Who asks, and in which transaction.
#[derive(Debug)]
pub(crate) struct Asking {
    /// The certificate whose key has signed the message.
    pub(crate) signer: CertificateDer,
    /// transactionID.
    pub(crate) transaction: TransactionId,
}

impl Gateway {
    /// Answers one PKIOperation. Runs to its end whoever is still listening.
    pub(crate) async fn pki_operation(
        &self,
        site: &Arc<Site>,
        message: Vec<u8>,
        trace: &mut Trace,
    ) -> PkiAnswer {
        let Ok(place) = self.inner.pool.enter() else {
            self.inner.metrics.overloaded.inc();
            trace.reason = Some(Reason::RateExceeded);
            trace.detail = Some("the queue for private-key work is full".into());
            return PkiAnswer::Overloaded;
        };
        // One RA from beginning to end, should it be replaced meanwhile.
        let ra = site.opening_ra();
        let Intake { mut context, wish } =
            match self.intake(&place, site, &ra, message, trace).await {
                Ok(intake) => intake,
                Err(refusal) => Intake { context: Context::Nobody, wish: Err(refusal) },
            };
        if let (Context::Nobody, Err(Refusal { reason: Reason::RateExceeded, detail, .. })) =
            (&context, &wish)
        {
            trace.reason = Some(Reason::RateExceeded);
            trace.detail.clone_from(detail);
            return PkiAnswer::Overloaded;
        }
        let granted = match wish {
            Ok(wish) => self.grant(&place, site, wish, &mut context, trace).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = &granted {
            trace.outcome = match refusal.reason.fault() {
                Fault::PeerMessage | Fault::PeerRights => Outcome::Refused,
                Fault::OurConfiguration | Fault::OurDependency | Fault::OurBug => Outcome::Failed,
            };
            trace.reason = Some(refusal.reason);
            trace.detail.clone_from(&refusal.detail);
            trace.fields.clone_from(&refusal.fields);
            if let Some(whose) = &refusal.whose {
                (**whose).clone().note(trace);
            }
        }
        self.seal(&place, site, ra, context, granted, trace).await
    }

    async fn grant(
        &self,
        place: &Place,
        site: &Arc<Site>,
        wish: Wish,
        context: &mut Context,
        trace: &mut Trace,
    ) -> Result<Grant, Refusal> {
        match wish {
            Wish::Enrol(csr, asking) => self.enrol(place, site, *csr, asking, trace).await,
            Wish::Poll(asking) => self.poll(place, site, &asking, context, trace).await,
            Wish::Certificate(query) => {
                let now = self.effective_now().await?;
                self.get_cert(query, now).await
            }
            Wish::Crl(query) => self.get_crl(&query),
        }
    }

    /// Parses, verifies, decrypts, parses the request in it and has it proven, in one piece of blocking work.
    async fn intake(
        &self,
        place: &Place,
        site: &Site,
        ra: &Arc<RaIdentity>,
        message: Vec<u8>,
        trace: &mut Trace,
    ) -> Result<Intake, Refusal> {
        let inner = self.inner.clone();
        let (ra, ours) = (Arc::clone(ra), self.our_keys());
        let (legacy, rules) = (site.endpoint.legacy, site.endpoint.csr);
        let mut seen = trace.clone();
        let (intake, seen) = place
            .run(move || {
                let parts = &inner.parts;
                let provider = &*parts.provider;
                let verified = PkiMessage::parse(&message, &parts.limits.cms).and_then(|parsed| {
                    seen.stage = Stage::Parsed;
                    parsed.verify(provider, legacy)
                });
                let signed = match verified {
                    Ok(signed) => signed,
                    Err(error) => {
                        let context = salvage(&message, &parts.limits.cms)
                            .map_or(Context::Nobody, Context::FailureOnly);
                        return (Intake { context, wish: Err(error.into()) }, seen);
                    }
                };
                seen.stage = Stage::Verified;
                note_signed(&signed, &mut seen);
                // Refused unopened: a refusal after opening would tell that the envelope opened.
                if let Err(refusal) = served(signed.message_type()) {
                    let context = Context::FailureOnly(signed.into_failure());
                    return (Intake { context, wish: Err(refusal) }, seen);
                }
                // Before the private key is used, and without an answer that it would sign.
                if is_query(signed.message_type()) && !inner.queries.take(parts.clock.now()) {
                    let detail = "more GetCert and GetCRL than are answered each second";
                    let wish = Err(Refusal::new(Reason::RateExceeded, detail));
                    return (Intake { context: Context::Nobody, wish }, seen);
                }
                let asking = Asking {
                    signer: signed.signer().clone(),
                    transaction: signed.transaction_id().clone(),
                };
                let is_query = is_query(signed.message_type());
                let (request, mut context) = signed.decrypt(&ra, provider);
                let wish = request.map_err(|error| unopened(error, is_query));
                let wish = wish.and_then(|request| {
                    seen.stage = Stage::Decrypted;
                    let der = match request {
                        Request::Enrol { csr, .. } => csr,
                        other => {
                            seen.stage = Stage::Read;
                            return query(other, asking);
                        }
                    };
                    let csr = proven_csr(&der, &rules, &ours, provider)?;
                    seen.stage = Stage::Proven;
                    seen.request = Some(csr.info_hash());
                    deliverable(&mut context, &csr)?;
                    Ok(Wish::Enrol(Box::new(csr), asking))
                });
                (Intake { context: Context::Full(context), wish }, seen)
            })
            .await?;
        *trace = seen;
        Ok(intake)
    }

    /// Decides a proven request and has it issued, or held.
    async fn enrol(
        &self,
        place: &Place,
        site: &Arc<Site>,
        mut csr: Csr,
        asking: Asking,
        trace: &mut Trace,
    ) -> Result<Grant, Refusal> {
        let parts = &self.inner.parts;
        let now = self.effective_now().await?;
        let key = RetryKey::of(&csr);
        let mut wait = Backoff::new(parts.limits.in_progress_wait);
        let mut earlier_asked = false;
        loop {
            let recall = parts.ledger.recall(key, now).await?;
            let (recall, earlier) = if earlier_asked || self.may_issue().is_err() {
                (recall, None)
            } else {
                Earlier::of(recall, &asking)
            };
            earlier_asked |= earlier.is_some();
            match recall {
                Recall::Releasable(releasable) => {
                    trace.stage = Stage::Recalled;
                    return self.repeat(site, &csr, &asking, releasable, now, trace).await;
                }
                Recall::Pending => {
                    trace.stage = Stage::Recalled;
                    self.asked_again(key, &asking).await?;
                    return Ok(Grant::Pending);
                }
                Recall::Approved(held) => {
                    trace.stage = Stage::Recalled;
                    self.asked_again(key, &asking).await?;
                    return self.approved(place, site, held, &asking, now, trace).await;
                }
                Recall::Over(reason) => return Err(reason.into()),
                Recall::InProgress => {
                    wait.pause().await?;
                    continue;
                }
                Recall::Nothing => {}
            }
            self.may_issue()?;
            let (back, claims) = self.open(place, csr, now).await?;
            csr = back;
            let presented = match &claims {
                Ok(claims) => Some(claims.claims().challenge_id),
                Err(refusal) => refusal.whose.as_ref().map(|whose| whose.challenge),
            };
            let renewal = self.renewal(site, &csr, &asking.signer, presented, now).await;
            let decided = match (renewal, earlier) {
                (Ok(Some(approval)), _) => Decision::Approved(approval),
                (_, Some(Earlier::Certificate(releasable))) => {
                    trace.stage = Stage::Recalled;
                    return self.repeat(site, &csr, &asking, releasable, now, trace).await;
                }
                (Err(refusal), _) => return Err(refusal),
                (Ok(None), Some(Earlier::Over(reason))) => return Err(reason.into()),
                (Ok(None), None) => {
                    let claims = claims?;
                    trace.stage = Stage::ChallengeOpened;
                    Whose::of(claims.claims()).note(trace);
                    self.decide(site, &csr, &asking.signer, claims, now).await?
                }
            };
            let approval = match decided {
                Decision::Approved(approval) => approval,
                Decision::NeedsApproval(holdable) => {
                    trace.stage = Stage::Approved;
                    match self.hold(site, holdable, &asking, now).await {
                        Err(Refusal { reason: Reason::RequestInProgress, .. }) => {
                            wait.pause().await?;
                            continue;
                        }
                        other => return other,
                    }
                }
            };
            Whose::of(approval.claims()).note(trace);
            trace.stage = Stage::Approved;
            match self.admit(&site.office, &site.kin, approval, &asking, now).await {
                Ok(admission) => {
                    trace.stage = Stage::Admitted;
                    return self.issue(place, &site.office, admission, now, trace).await;
                }
                // The same request on another connection was faster: its certificate is ours too.
                Err(Refusal { reason: Reason::RequestInProgress, .. }) => wait.pause().await?,
                Err(refusal) => return Err(refusal),
            }
        }
    }

    /// Refuses what is new while the gateway must not issue.
    pub(crate) fn may_issue(&self) -> Result<(), Refusal> {
        let availability = self.availability();
        match availability.reason() {
            None => Ok(()),
            Some(reason) => Err(Refusal::new(reason, availability.detail())),
        }
    }

    pub(crate) async fn effective_now(&self) -> Result<Timestamp, Refusal> {
        let parts = &self.inner.parts;
        let effective = parts.ledger.effective_now(parts.clock.now()).await?;
        let behind =
            effective.behind.map_or(0, |by| i64::try_from(by.as_secs()).unwrap_or(i64::MAX));
        // Said once, when it begins; the gauge says how long it lasts.
        if self.inner.metrics.clock_behind.set(behind) == 0 && behind > 0 {
            tracing::error!(
                target: "scep",
                behind_seconds = behind,
                "the clock is behind what the ledger has seen; set it right, or run `scep-gateway clock-reset`"
            );
        }
        Ok(effective.now)
    }

    /// Answers an honest retry with the certificate issued before.
    async fn repeat(
        &self,
        site: &Site,
        csr: &Csr,
        asking: &Asking,
        releasable: Releasable,
        now: Timestamp,
        trace: &mut Trace,
    ) -> Result<Grant, Refusal> {
        let owner = self.owner(&releasable, now, trace).await?;
        self.check_signer(site, csr, &asking.signer, &owner.tenant, &owner.device, now).await?;
        self.again(csr.info_hash(), releasable, now)
    }

    /// Whose certificate it is, for the trace; refused when it is not live any more.
    pub(crate) async fn owner(
        &self,
        releasable: &Releasable,
        now: Timestamp,
        trace: &mut Trace,
    ) -> Result<InventoryEntry, Refusal> {
        let fingerprint = releasable.certificate().fingerprint();
        let ledger = &self.inner.parts.ledger;
        let Some(owner) = ledger.live_certificate(fingerprint, now).await? else {
            return Err(Refusal::new(Reason::ChallengeExpired, "its certificate is not live"));
        };
        trace.tenant = Some(owner.tenant.clone());
        trace.device = Some(owner.device.clone());
        trace.profile = Some(owner.profile.clone());
        trace.challenge = Some(owner.challenge);
        Ok(owner)
    }

    /// Gives a certificate once more, as often as the repeats' bucket allows.
    pub(crate) fn again(
        &self,
        bucket: CsrInfoHash,
        releasable: Releasable,
        now: Timestamp,
    ) -> Result<Grant, Refusal> {
        if !self.inner.retries.take(bucket, now) {
            return Err(Refusal::new(Reason::RateExceeded, "too many repeats of one request"));
        }
        Ok(Grant::Certificate { releasable, outcome: Outcome::Repeated })
    }

    /// The challenge: signature, decryption, claims. Gives the request back.
    async fn open(
        &self,
        place: &Place,
        csr: Csr,
        now: Timestamp,
    ) -> Result<(Csr, Result<VerifiedClaims, Refusal>), Refusal> {
        let (inner, opener) = (self.inner.clone(), self.inner.opener.get());
        let opened = place
            .run(move || {
                let text = csr.challenge_password().map(|text| text.expose().as_str());
                let claims = match text {
                    None => Err(Refusal::from(Reason::ChallengePasswordMissing)),
                    Some(text) => {
                        opener.open(text, now, &*inner.parts.provider).map_err(|error| Refusal {
                            whose: error.claims().map(|claims| Box::new(Whose::of(claims))),
                            ..Refusal::new(error.reason(), error)
                        })
                    }
                };
                (csr, claims)
            })
            .await?;
        Ok(opened)
    }

    /// Counts what is asked with a challenge, by somebody who may ask with it: what it costs to find that out is counted by
    /// source, and whoever has only seen a device's message must not use up what the device may ask.
    pub(crate) fn count_use(&self, challenge: ChallengeId) -> Result<(), Refusal> {
        match self.inner.challenges.take(challenge) {
            Ok(()) => Ok(()),
            Err(_) => {
                Err(Refusal::new(Reason::RateExceeded, "too many requests with one challenge"))
            }
        }
    }

    /// Compares the request with its challenge. A mismatch is counted against the challenge.
    async fn decide(
        &self,
        site: &Site,
        csr: &Csr,
        signer: &CertificateDer,
        challenge: VerifiedClaims,
        now: Timestamp,
    ) -> Result<Decision, Refusal> {
        let parts = &self.inner.parts;
        let claims = challenge.claims();
        let whose = Box::new(Whose::of(claims));
        let of_them = |refusal| Refusal { whose: Some(whose.clone()), ..refusal };
        site.serves(claims)?;
        self.check_signer(site, csr, signer, &claims.tenant, &claims.device, now)
            .await
            .map_err(&of_them)?;
        self.count_use(claims.challenge_id).map_err(of_them)?;
        let denials = self.inner.denials.get();
        let inert = InertContent::Discard;
        match decide_or_hold(csr, challenge, &parts.site_rules, &denials, inert, now) {
            Ok(decision) => Ok(decision),
            Err(denial) => Err(self.count_denial(&denial, now).await?),
        }
    }

    /// Counts a denial against its challenge, and makes a refusal of it.
    pub(crate) async fn count_denial(
        &self,
        denial: &Denial,
        now: Timestamp,
    ) -> Result<Refusal, Refusal> {
        let parts = &self.inner.parts;
        let claims = denial.claims();
        let reasons: Vec<Reason> = denial.reports().iter().filter_map(|r| r.reason).collect();
        let detail = differences(denial.reports());
        let denied = Denied {
            tenant: &claims.tenant,
            challenge: claims.challenge_id,
            device: &claims.device,
            profile: &claims.profile,
            expires_at: claims.expires_at,
            reasons: &reasons,
            detail: &detail,
        };
        let locked = parts.ledger.locked(&claims.tenant, claims.challenge_id, now).await?;
        let count = parts.ledger.count_mismatch(&denied, now).await?;
        Ok(Refusal {
            reason: if locked { Reason::ChallengeLocked } else { denial.reason() },
            detail: Some(format!("mismatch {count} with this challenge")),
            fields: denial.reports().to_vec(),
            whose: Some(Box::new(Whose::of(claims))),
            algorithm: None,
        })
    }

    /// Whether this key may have signed the message around the request.
    pub(crate) async fn check_signer(
        &self,
        site: &Site,
        csr: &Csr,
        signer: &CertificateDer,
        tenant: &TenantId,
        device: &DeviceId,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        if site.endpoint.signer == SignerRule::Any || signer.spki() == csr.spki() {
            return Ok(());
        }
        let ledger = &self.inner.parts.ledger;
        match ledger.live_certificate(signer.fingerprint(), now).await? {
            Some(entry) if entry.tenant == *tenant && entry.device == *device => Ok(()),
            Some(_) => Err(Refusal::new(
                Reason::SignerNotAllowed,
                "signed with the certificate of another device",
            )),
            None => Err(Refusal::new(
                Reason::SignerNotAllowed,
                "signed by neither the requested key nor a live certificate of the device; \
                 clients with a throw-away signer need an endpoint with signer = \"any\"",
            )),
        }
    }

    /// Spends the challenge: the last step before the CA.
    pub(crate) async fn admit(
        &self,
        office: &Office,
        kin: &[Arc<Office>],
        approval: Approval,
        asking: &Asking,
        now: Timestamp,
    ) -> Result<Admission, Refusal> {
        let asked = asking.of(office)?;
        // A certificate of the CA that this one takes over from may be renewed here.
        let kin: Vec<AuthorityName> = kin.iter().map(|other| other.name.clone()).collect();
        match self.inner.parts.ledger.admit_among(approval, &asked, &kin, now).await {
            Ok(admission) => Ok(admission),
            Err(AdmitError::Refused(reason)) => Err(reason.into()),
            Err(AdmitError::Ledger(error)) => Err(error.into()),
        }
    }
}

impl Site {
    /// Refuses the challenges of profiles that are not served here.
    pub(crate) fn serves(&self, claims: &ChallengeClaims) -> Result<(), Refusal> {
        if self.endpoint.profiles.as_ref().is_none_or(|some| some.contains(&claims.profile)) {
            return Ok(());
        }
        let detail = "its profile is not served at this endpoint";
        let whose = Some(Box::new(Whose::of(claims)));
        Err(Refusal { whose, ..Refusal::new(Reason::ChallengeNotServed, detail) })
    }
}

impl Asking {
    /// As the ledger remembers it; with a serial number where we choose it.
    pub(crate) fn of<'a>(&'a self, office: &'a Office) -> Result<Asked<'a>, Refusal> {
        let unavailable = |error| Refusal::new(Reason::CaUnavailable, error);
        Ok(Asked {
            authority: &office.name,
            serial: office.ca.choose_serial().map_err(unavailable)?,
            signer: self.signer.spki().hash(),
            transaction: &self.transaction,
        })
    }
}

/// Parses a request, and has it proven once its key is known not to be weak or one of ours: a hostile key costs
/// no verification.
pub(crate) fn proven_csr(
    der: &[u8],
    rules: &Rules,
    ours: &[SpkiHash],
    provider: &dyn CryptoProvider,
) -> Result<Csr, Refusal> {
    let refused = |error: scep_pkcs10::CsrError| Refusal::new(error.reason(), error);
    let csr = UnprovenCsr::parse(der, rules).map_err(refused)?;
    check_key(csr.spki(), rules, ours).map_err(refused)?;
    csr.prove(provider).map_err(refused)
}

/// Sees to it that the answer can be delivered, before anything is asked or spent: one to an EC key is encrypted with
/// the request's own challenge. The request has proved possession of its key by now, so that this refusal tells nothing
/// about an envelope.
pub(crate) fn deliverable(context: &mut ReplyContext, csr: &Csr) -> Result<(), Refusal> {
    if let Some(challenge) = csr.challenge_password() {
        context.answer_with(Secret::new(challenge.expose().clone()));
    }
    if context.can_encrypt() {
        return Ok(());
    }
    let detail = "signed by an EC key, and the request has no challenge to encrypt the answer with";
    Err(Refusal::new(Reason::AnswerUndeliverable, detail))
}

fn note_signed(signed: &SignedRequest, trace: &mut Trace) {
    trace.message_type = Some(format!("{:?}", signed.message_type()));
    trace.transaction = Some(signed.transaction_id().clone());
    trace.signer = Some(signed.signer().spki().hash());
}

/// Whether a message type is served. Exhaustive: a new one must be given a decision.
fn served(kind: MessageType) -> Result<(), Refusal> {
    match kind {
        MessageType::PkcsReq
        | MessageType::RenewalReq
        | MessageType::CertPoll
        | MessageType::GetCert
        | MessageType::GetCrl => Ok(()),
        MessageType::CertRep | MessageType::Unknown(_) => {
            Err(Refusal::new(Reason::MessageTypeNotServed, format!("{kind} is not served")))
        }
    }
}

/// Why a message could not be opened.
///
/// A query that does not open is answered as one for a certificate that is not there: blocks of a captured envelope can be
/// spliced so that they read as a query when their padding is right, and the answer must not tell whether they did. What is
/// found is told, but for that the whole name of one of our CAs must be in it, which nobody can put there who does not
/// have the content key.
fn unopened(error: MessageError, is_query: bool) -> Refusal {
    if is_query && error == MessageError::DoesNotOpen {
        return Refusal::new(Reason::NoSuchCertificate, error);
    }
    error.into()
}

/// What a message asks for that has no PKCS #10 request in it. A poll was not even opened, and [`unopened`] answers the
/// others alike, opened or not.
fn query(request: Request, asking: Asking) -> Result<Wish, Refusal> {
    let signer = asking.signer.clone();
    match request {
        Request::CertPoll => Ok(Wish::Poll(asking)),
        Request::GetCert { issuer, serial } => {
            Ok(Wish::Certificate(Query { issuer, serial, signer }))
        }
        Request::GetCrl { issuer, serial } => Ok(Wish::Crl(Query { issuer, serial, signer })),
        Request::Enrol { .. } => {
            Err(Refusal::new(Reason::InternalError, "took an enrolment for a query"))
        }
    }
}

/// Waits for the same request on another connection: short pauses that grow, up to a limit.
struct Backoff {
    pause: Duration,
    left: Duration,
}

impl Backoff {
    const fn new(limit: Duration) -> Self {
        Self { pause: Duration::from_millis(5), left: limit }
    }

    async fn pause(&mut self) -> Result<(), Refusal> {
        if self.left.is_zero() {
            return Err(Reason::RequestInProgress.into());
        }
        let pause = self.pause.min(self.left);
        self.left = self.left.saturating_sub(pause);
        self.pause = self.pause.saturating_mul(2).min(Duration::from_millis(250));
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
