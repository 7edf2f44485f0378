//! Renewal on the word of the certificate that signs, where its profile allows that.

use crate::enrol::Asking;
use crate::gateway::{Gateway, Site};
use crate::refusal::{Refusal, Whose};
use crate::trace::differences;
use scep_ledger::{Recall, Releasable};
use scep_pkcs10::Csr;
use scep_policy::{Approval, Denial, InertContent, decide_renewal};
use scep_types::{CertificateDer, ChallengeId, Reason, ReleasedCertificate, Timestamp};

impl Gateway {
    /// The approval of a renewal by certificate. `None`: the request is none, and its challenge decides.
    ///
    /// `presented` is the challenge in the request, if it was opened, expired or not. One that is not that of the signer's
    /// line was made for this request, and decides alone, whatever is wrong with it.
    ///
    /// That the certificate's holder asks was proved by the message's signature; a self-signed certificate is nobody's
    /// predecessor, and costs no question to the ledger.
    pub(crate) async fn renewal(
        &self,
        site: &Site,
        csr: &Csr,
        signer: &CertificateDer,
        presented: Option<ChallengeId>,
        now: Timestamp,
    ) -> Result<Option<Approval>, Refusal> {
        let unopened = csr.challenge_password().is_some() && presented.is_none();
        if unopened || self_issued(signer) {
            return Ok(None);
        }
        let parts = &self.inner.parts;
        let Some(predecessor) = parts.ledger.predecessor(signer.fingerprint(), now).await? else {
            return match presented {
                // Without a challenge there is nothing else to say what is wrong.
                None if now > signer.not_after() => Err(Refusal::new(
                    Reason::RenewalNotAllowed,
                    format!("the certificate that signs ended at {}", signer.not_after()),
                )),
                _ => Ok(None),
            };
        };
        let claims = predecessor.claims();
        if presented.is_some_and(|id| id != claims.challenge_id) {
            return Ok(None);
        }
        let whose = Box::new(Whose::of(claims));
        let of_them = |refusal| Refusal { whose: Some(whose.clone()), ..refusal };
        self.count_use(claims.challenge_id).map_err(of_them)?;
        if site.endpoint.profiles.as_ref().is_some_and(|some| !some.contains(&claims.profile)) {
            let detail = "its profile is not served at this endpoint";
            return Err(of_them(Refusal::new(Reason::ChallengeNotServed, detail)));
        }
        // A device that was disabled would be known as such by now.
        self.renewal_contact_at(now)
            .map_err(|detail| of_them(Refusal::new(Reason::IssuerOffline, detail)))?;
        let denials = self.inner.denials.get();
        let inert = InertContent::Discard;
        let rules = &parts.site_rules;
        match decide_renewal(csr, predecessor, presented, rules, &denials, inert, now) {
            Ok(approval) => Ok(Some(approval)),
            Err(denial) if against_the_request(&denial) => {
                Err(self.count_denial(&denial, now).await?)
            }
            Err(denial) => Err(Refusal {
                detail: Some(differences(denial.reports())),
                fields: denial.reports().to_vec(),
                ..of_them(denial.reason().into())
            }),
        }
    }
}

/// Whether something of the request itself is against it, which is counted as against a challenge: who asks early, or is
/// disabled for a while, has not used up any of his tries.
fn against_the_request(denial: &Denial) -> bool {
    denial.reports().iter().filter_map(|report| report.reason).any(|reason| {
        !matches!(
            reason,
            Reason::RenewalNotAllowed
                | Reason::ScepProfileNoLongerTargetedToTheClient
                | Reason::SiteRuleViolated
        )
    })
}

/// By its names: whoever signs his own certificate can give it any, and then is looked up in vain.
fn self_issued(certificate: &CertificateDer) -> bool {
    certificate.issuer_der() == certificate.subject_der()
}

/// What a request gets that was seen before, unless it asks for a successor now. A client that keeps its key, or takes an
/// old one again, and sends no challenge or always the same one, asks for several certificates with the same request.
#[derive(Debug)]
pub(crate) enum Earlier {
    Certificate(Releasable),
    Over(Reason),
}

impl Earlier {
    /// Of a request that a certificate signs which may have been issued here; others get what is recalled.
    pub(crate) fn of(recall: Recall, asking: &Asking) -> (Recall, Option<Self>) {
        let signer = &asking.signer;
        if self_issued(signer) {
            return (recall, None);
        }
        match recall {
            // The certificate that signs is what the request was answered with.
            Recall::Releasable(releasable)
                if releasable.certificate().fingerprint() == signer.fingerprint() =>
            {
                (Recall::Nothing, Some(Self::Certificate(releasable)))
            }
            Recall::Over(reason @ Reason::ChallengeExpired) => {
                (Recall::Nothing, Some(Self::Over(reason)))
            }
            other => (other, None),
        }
    }
}
