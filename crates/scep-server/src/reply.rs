//! What a request is granted, and the bytes of its answer.

use crate::gateway::{Gateway, Site};
use crate::pool::Place;
use crate::preset::{Endpoint, ReplyCertificates};
use crate::query::PublicCertificate;
use crate::refusal::{Refusal, refusal_text};
use crate::trace::{Outcome, Stage, Trace};
use scep_ledger::Releasable;
use scep_message::{FailureContext, RaIdentity, ReplyChain, ReplyContext};
use scep_types::{CertificateFingerprint, Reason, ReleasedCertificate};
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
pub(crate) enum Context {
    Nobody,
    FailureOnly(FailureContext),
    Full(ReplyContext),
}

impl Context {
    /// Has the answer made as the endpoint makes its answers.
    const fn answered_at(&mut self, endpoint: &Endpoint) {
        match self {
            Self::Nobody => {}
            Self::FailureOnly(context) => context.sign_with(endpoint.digest),
            Self::Full(context) => context.seal_with(endpoint.digest, endpoint.cipher),
        }
    }
}

/// How a request may end well.
#[derive(Debug)]
pub(crate) enum Grant {
    /// A certificate, new or issued before.
    Certificate { releasable: Releasable, outcome: Outcome },
    /// Nothing yet.
    Pending,
    /// A certificate that whoever asks may see (GetCert).
    Found(PublicCertificate),
    /// A CRL, DER (GetCRL).
    Crl(Vec<u8>),
}

impl Gateway {
    /// Makes the answer's bytes. A certificate gets out of here only as a [`Releasable`].
    pub(crate) async fn seal(
        &self,
        place: &Place,
        site: &Site,
        ra: Arc<RaIdentity>,
        mut context: Context,
        granted: Result<Grant, Refusal>,
        trace: &mut Trace,
    ) -> PkiAnswer {
        let refusal_text = granted.as_ref().err().map(|refusal| refusal_text(refusal, trace));
        let mut receipt = None;
        match &granted {
            Ok(Grant::Certificate { releasable, outcome }) => {
                let certificate = releasable.certificate();
                receipt = Some(certificate.fingerprint());
                trace.outcome = *outcome;
                trace.certificate = receipt;
                trace.serial = certificate.serial().map(|serial| serial.to_string());
            }
            Ok(Grant::Pending) => trace.outcome = Outcome::Pending,
            Ok(Grant::Found(public)) => {
                trace.outcome = Outcome::Served;
                trace.serial = public.certificate().serial().map(|serial| serial.to_string());
            }
            Ok(Grant::Crl(_)) => trace.outcome = Outcome::Served,
            Err(_) => {}
        }
        context.answered_at(&site.endpoint);
        let inner = self.inner.clone();
        let ra = match &context {
            Context::Full(context) => {
                if matches!(granted, Ok(Grant::Certificate { .. })) {
                    trace.sealed = context.sealing();
                }
                site.answering_ra(&ra, context.recipient())
            }
            Context::FailureOnly(_) | Context::Nobody => ra,
        };
        let with_ca = site.endpoint.reply == ReplyCertificates::LeafAndCa;
        // Of the CA that has issued it, which another may have followed since.
        let issuer = match &granted {
            Ok(Grant::Certificate { releasable, .. }) => {
                self.office_named(releasable.certificate().issuer_der())
            }
            _ => None,
        };
        let ca = Arc::clone(&issuer.unwrap_or(&site.office).ca);
        let sealed = place
            .run(move || {
                let parts = &inner.parts;
                let (ra, provider) = (&*ra, &*parts.provider);
                let fail = |context: FailureContext, (fail_info, text): (_, String)| {
                    context.failure(ra, fail_info, &text, provider)
                };
                match (context, granted, refusal_text) {
                    (Context::Full(context), Ok(Grant::Certificate { releasable, .. }), _) => {
                        let chain = if with_ca {
                            ReplyChain::With(ca.chain())
                        } else {
                            ReplyChain::LeafOnly
                        };
                        Some(context.success(ra, &releasable, chain, provider))
                    }
                    (Context::Full(context), Ok(Grant::Found(public)), _) => {
                        Some(context.success(ra, &public, ReplyChain::LeafOnly, provider))
                    }
                    (Context::Full(context), Ok(Grant::Pending), _) => {
                        Some(context.pending(ra, provider))
                    }
                    (Context::Full(context), Ok(Grant::Crl(crl)), _) => {
                        Some(context.success_crl(ra, &crl, provider))
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
