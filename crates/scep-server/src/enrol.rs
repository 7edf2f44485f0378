//! The enrolment transaction: from a message's bytes to the bytes of its answer.
//!
//! The outer function ([`Gateway::pki_operation`]) answers, logs and counts on every way out; the inner ones
//! only decide. Everything pure comes before the challenge is spent; spending it is the last step before the CA.

use crate::gateway::{Endpoint, Gateway, ReplyCertificates, SignerRule};
use crate::pool::Place;
use crate::refusal::{Refusal, Whose, refusal_text};
use crate::trace::{Outcome, Stage, Trace, differences};
use core::time::Duration;
use scep_ca::IssueError;
use scep_challenge::VerifiedClaims;
use scep_ledger::{Admission, AdmitError, Denied, IssuePermit, Recall, Releasable, Unsettled};
use scep_message::{
    FailureContext, MessageType, PkiMessage, RaIdentity, ReplyChain, ReplyContext, Request,
    SignedRequest, salvage,
};
use scep_pkcs10::{Csr, Rules, UnprovenCsr, check_key};
use scep_policy::{Approval, Conforming, InertContent, RetryKey, decide};
use scep_types::{
    CertificateDer, CertificateFingerprint, CryptoProvider, DeviceId, Fault, Reason,
    ReleasedCertificate, Secret, SpkiHash, TenantId, Timestamp, TransactionId,
};
use std::sync::Arc;

/// What a PKIOperation is answered with.
#[derive(Debug)]
pub(crate) enum PkiAnswer {
    /// A CertRep; with a certificate in it, whose delivery is to be recorded.
    CertRep { body: Vec<u8>, receipt: Option<CertificateFingerprint> },
    /// Not even a FAILURE can be addressed: no transactionID, or no signer.
    Unanswerable,
    /// The queue is full.
    Overloaded,
}

/// What is known of whom to answer.
#[derive(Debug)]
enum Context {
    Nobody,
    FailureOnly(FailureContext),
    Full(ReplyContext),
}

/// A message after all that needs no ledger.
struct Intake {
    context: Context,
    proven: Result<Proven, Refusal>,
}

/// A request signed by its own key, and the certificate whose key has signed the message around it.
struct Proven {
    csr: Csr,
    signer: CertificateDer,
    transaction: TransactionId,
}

/// How a request may end well.
struct Granted {
    releasable: Releasable,
    outcome: Outcome,
}

impl Gateway {
    /// Answers one PKIOperation. Runs to its end whoever is still listening.
    pub(crate) async fn pki_operation(
        &self,
        endpoint: &Endpoint,
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
        let ra = self.inner.ra.get();
        let intake = match self.intake(&place, endpoint, &ra, message, trace).await {
            Ok(intake) => intake,
            Err(refusal) => Intake { context: Context::Nobody, proven: Err(refusal) },
        };
        let granted = match intake.proven {
            Ok(proven) => self.enrol(&place, endpoint, proven, trace).await,
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
        self.seal(&place, endpoint, ra, intake.context, granted, trace).await
    }

    /// Parses, verifies, decrypts, parses the request in it and has it proven, in one piece of blocking work.
    async fn intake(
        &self,
        place: &Place,
        endpoint: &Endpoint,
        ra: &Arc<RaIdentity>,
        message: Vec<u8>,
        trace: &mut Trace,
    ) -> Result<Intake, Refusal> {
        let inner = self.inner.clone();
        let (ra, ours) = (Arc::clone(ra), self.our_keys(ra));
        let (legacy, rules) = (endpoint.legacy, endpoint.csr);
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
                        return (Intake { context, proven: Err(error.into()) }, seen);
                    }
                };
                seen.stage = Stage::Verified;
                note_signed(&signed, &mut seen);
                // Refused unopened: a refusal after opening would tell that the envelope opened.
                if let Err(refusal) = served(signed.message_type()) {
                    let context = Context::FailureOnly(signed.into_failure());
                    return (Intake { context, proven: Err(refusal) }, seen);
                }
                let signer = signed.signer().clone();
                let transaction = signed.transaction_id().clone();
                let (request, mut context) = signed.decrypt(&ra, provider);
                let proven = request.map_err(Refusal::from).and_then(|request| {
                    seen.stage = Stage::Decrypted;
                    let der = enrolment(request)?;
                    let csr = proven_csr(&der, &rules, &ours, provider)?;
                    seen.stage = Stage::Proven;
                    seen.request = Some(csr.info_hash());
                    deliverable(&mut context, &csr)?;
                    Ok(Proven { csr, signer, transaction })
                });
                (Intake { context: Context::Full(context), proven }, seen)
            })
            .await?;
        *trace = seen;
        Ok(intake)
    }

    /// Decides a proven request and has it issued.
    async fn enrol(
        &self,
        place: &Place,
        endpoint: &Endpoint,
        proven: Proven,
        trace: &mut Trace,
    ) -> Result<Granted, Refusal> {
        let parts = &self.inner.parts;
        let now = self.effective_now().await?;
        let Proven { mut csr, signer, transaction } = proven;
        let key = RetryKey::of(&csr);
        let mut wait = Backoff::new(parts.limits.in_progress_wait);
        loop {
            match parts.ledger.recall(key, now).await? {
                Recall::Releasable(releasable) => {
                    trace.stage = Stage::Recalled;
                    return self.repeat(endpoint, &csr, &signer, releasable, now, trace).await;
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
            let claims = claims?;
            trace.stage = Stage::ChallengeOpened;
            Whose::of(claims.claims()).note(trace);
            let approval = self.decide(endpoint, &csr, &signer, claims, now).await?;
            trace.stage = Stage::Approved;
            match self.admit(approval, &signer, &transaction, now).await {
                Ok(admission) => {
                    trace.stage = Stage::Admitted;
                    return self.issue(place, admission, now, trace).await;
                }
                // The same request on another connection was faster: its certificate is ours too.
                Err(Refusal { reason: Reason::RequestInProgress, .. }) => wait.pause().await?,
                Err(refusal) => return Err(refusal),
            }
        }
    }

    /// Refuses what is new while the gateway must not issue.
    fn may_issue(&self) -> Result<(), Refusal> {
        let availability = self.availability();
        match availability.reason() {
            None => Ok(()),
            Some(reason) => Err(Refusal::new(reason, availability.detail())),
        }
    }

    async fn effective_now(&self) -> Result<Timestamp, Refusal> {
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
        endpoint: &Endpoint,
        csr: &Csr,
        signer: &CertificateDer,
        releasable: Releasable,
        now: Timestamp,
        trace: &mut Trace,
    ) -> Result<Granted, Refusal> {
        let fingerprint = releasable.certificate().fingerprint();
        let ledger = &self.inner.parts.ledger;
        let Some(owner) = ledger.live_certificate(fingerprint, now).await? else {
            return Err(Refusal::new(Reason::ChallengeExpired, "its certificate is not live"));
        };
        trace.tenant = Some(owner.tenant.clone());
        trace.device = Some(owner.device.clone());
        trace.profile = Some(owner.profile);
        trace.challenge = Some(owner.challenge);
        self.check_signer(endpoint, csr, signer, &owner.tenant, &owner.device, now).await?;
        if !self.inner.retries.take(csr.info_hash(), now) {
            return Err(Refusal::new(Reason::RateExceeded, "too many repeats of one request"));
        }
        Ok(Granted { releasable, outcome: Outcome::Repeated })
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

    /// Compares the request with its challenge. A mismatch is counted against the challenge.
    async fn decide(
        &self,
        endpoint: &Endpoint,
        csr: &Csr,
        signer: &CertificateDer,
        challenge: VerifiedClaims,
        now: Timestamp,
    ) -> Result<Approval, Refusal> {
        let parts = &self.inner.parts;
        let claims = challenge.claims();
        let whose = Whose::of(claims);
        self.check_signer(endpoint, csr, signer, &claims.tenant, &claims.device, now)
            .await
            .map_err(|refusal| Refusal { whose: Some(Box::new(whose.clone())), ..refusal })?;
        let denials = self.inner.denials.get();
        let inert = InertContent::Discard;
        let denial = match decide(csr, challenge, &parts.site_rules, &denials, inert, now) {
            Ok(approval) => return Ok(approval),
            Err(denial) => denial,
        };
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
        Err(Refusal {
            reason: if locked { Reason::ChallengeLocked } else { denial.reason() },
            detail: Some(format!("mismatch {count} with this challenge")),
            fields: denial.reports().to_vec(),
            whose: Some(Box::new(whose)),
            algorithm: None,
        })
    }

    /// Whether this key may have signed the message around the request.
    async fn check_signer(
        &self,
        endpoint: &Endpoint,
        csr: &Csr,
        signer: &CertificateDer,
        tenant: &TenantId,
        device: &DeviceId,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        if endpoint.signer == SignerRule::Any || signer.spki() == csr.spki() {
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
    async fn admit(
        &self,
        approval: Approval,
        signer: &CertificateDer,
        transaction: &TransactionId,
        now: Timestamp,
    ) -> Result<Admission, Refusal> {
        let parts = &self.inner.parts;
        let serial =
            parts.ca.choose_serial().map_err(|error| Refusal::new(Reason::CaUnavailable, error))?;
        let signer = signer.spki().hash();
        match parts.ledger.admit(approval, serial, signer, transaction, now).await {
            Ok(admission) => Ok(admission),
            Err(AdmitError::Refused(reason)) => Err(reason.into()),
            Err(AdmitError::Ledger(error)) => Err(error.into()),
        }
    }

    /// Has the CA issue, compares what came back, records it. Every way out settles the intent.
    async fn issue(
        &self,
        place: &Place,
        admission: Admission,
        now: Timestamp,
        trace: &mut Trace,
    ) -> Result<Granted, Refusal> {
        let ledger = &self.inner.parts.ledger;
        let (permit, unsettled) = admission.redeem();
        let issued = self.call_ca(place, permit).await;
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
        };
        trace.stage = Stage::Issued;
        trace.serial = certificate.serial().map(|serial| serial.to_string());
        if !unsettled.has_serial_of(&certificate) {
            let difference = "the CA has put another serial number into the certificate";
            let detail = self.withhold(unsettled, &certificate, difference, now).await?;
            return Err(Refusal::new(Reason::CertificateDiffers, detail));
        }
        let conforming = match unsettled.approval().check_certificate(&certificate) {
            Ok(conforming) => conforming,
            Err(fields) => {
                let difference = differences(&fields);
                let detail = self.withhold(unsettled, &certificate, &difference, now).await?;
                let refusal = Refusal::new(Reason::CertificateDiffers, detail);
                return Err(Refusal { fields, ..refusal });
            }
        };
        let releasable = self.record(unsettled, conforming, now).await?;
        trace.stage = Stage::Recorded;
        Ok(Granted { releasable, outcome: Outcome::Issued })
    }

    async fn record(
        &self,
        unsettled: Unsettled,
        conforming: Conforming,
        now: Timestamp,
    ) -> Result<Releasable, Refusal> {
        Ok(self.inner.parts.ledger.record(unsettled, conforming, now).await?)
    }

    /// The CA's own signature is private-key work, so the call is driven from the pool; a remote CA only waits
    /// there, and its number of calls at once is bounded by the same pool.
    async fn call_ca(
        &self,
        place: &Place,
        permit: IssuePermit,
    ) -> Result<CertificateDer, IssueOutcome> {
        let inner = self.inner.clone();
        let runtime = tokio::runtime::Handle::current();
        let called = place.run(move || runtime.block_on(inner.parts.ca.issue(permit))).await;
        match called {
            Ok(Ok(certificate)) => Ok(certificate),
            Ok(Err(error @ IssueError::NothingIssued(_))) => {
                Err(IssueOutcome::Nothing(error.to_string()))
            }
            Ok(Err(error @ IssueError::Unknown(_))) => {
                Err(IssueOutcome::Unknown(error.to_string()))
            }
            Err(lost) => Err(IssueOutcome::Unknown(lost.to_string())),
        }
    }

    /// Makes the answer's bytes. A certificate gets out of here only as a [`Releasable`].
    async fn seal(
        &self,
        place: &Place,
        endpoint: &Endpoint,
        ra: Arc<RaIdentity>,
        context: Context,
        granted: Result<Granted, Refusal>,
        trace: &mut Trace,
    ) -> PkiAnswer {
        let refusal_text = granted.as_ref().err().map(|refusal| refusal_text(refusal, trace));
        let receipt =
            granted.as_ref().ok().map(|granted| granted.releasable.certificate().fingerprint());
        if let Ok(granted) = &granted {
            trace.outcome = granted.outcome;
            trace.certificate = receipt;
            trace.serial =
                granted.releasable.certificate().serial().map(|serial| serial.to_string());
        }
        let inner = self.inner.clone();
        let ra = match &context {
            Context::Full(context) => {
                if granted.is_ok() {
                    trace.sealed = context.sealing();
                }
                self.answering_ra(&ra, context.recipient())
            }
            Context::FailureOnly(_) | Context::Nobody => ra,
        };
        let with_ca = endpoint.reply == ReplyCertificates::LeafAndCa;
        let sealed = place
            .run(move || {
                let parts = &inner.parts;
                let (ra, provider) = (&*ra, &*parts.provider);
                let fail = |context: FailureContext, (fail_info, text): (_, String)| {
                    context.failure(ra, fail_info, &text, provider)
                };
                match (context, granted, refusal_text) {
                    (Context::Full(context), Ok(granted), _) => {
                        let chain = if with_ca {
                            ReplyChain::With(parts.ca.chain())
                        } else {
                            ReplyChain::LeafOnly
                        };
                        Some(context.success(ra, &granted.releasable, chain, provider))
                    }
                    (Context::Full(context), Err(_), Some(text)) => {
                        Some(fail(context.into_failure(), text))
                    }
                    (Context::FailureOnly(context), Err(_), Some(text)) => {
                        Some(fail(context, text))
                    }
                    _ => None,
                }
            })
            .await;
        match sealed {
            Ok(Some(Ok(body))) => {
                if receipt.is_some() {
                    trace.stage = Stage::Answered;
                }
                PkiAnswer::CertRep { body, receipt }
            }
            Ok(None) => PkiAnswer::Unanswerable,
            // The certificate, if there is one, is on record: the device's retry gets it.
            Ok(Some(Err(error))) => {
                trace.outcome = Outcome::Failed;
                trace.reason = Some(Reason::InternalError);
                trace.detail = Some(format!("the answer could not be made: {error}"));
                PkiAnswer::Unanswerable
            }
            Err(error) => {
                trace.outcome = Outcome::Failed;
                trace.reason = Some(Reason::InternalError);
                trace.detail = Some(error.to_string());
                PkiAnswer::Unanswerable
            }
        }
    }
}

/// Whether a failed call may have issued.
enum IssueOutcome {
    Nothing(String),
    Unknown(String),
}

/// Parses a request, and has it proven once its key is known not to be weak or one of ours: a hostile key costs
/// no verification.
fn proven_csr(
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
fn deliverable(context: &mut ReplyContext, csr: &Csr) -> Result<(), Refusal> {
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
        MessageType::PkcsReq | MessageType::RenewalReq => Ok(()),
        // No request is ever pending here, so no transaction can be polled for.
        MessageType::CertPoll => Err(Reason::NoSuchTransaction.into()),
        MessageType::CertRep
        | MessageType::GetCert
        | MessageType::GetCrl
        | MessageType::Unknown(_) => {
            Err(Refusal::new(Reason::MessageTypeNotServed, format!("{kind} is not served")))
        }
    }
}

/// The PKCS #10 request of an enrolment.
fn enrolment(request: Request) -> Result<Vec<u8>, Refusal> {
    match request {
        Request::Enrol { csr, .. } => Ok(csr),
        Request::CertPoll { .. } | Request::GetCert { .. } | Request::GetCrl { .. } => {
            Err(Refusal::new(Reason::InternalError, "opened what is not served"))
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
