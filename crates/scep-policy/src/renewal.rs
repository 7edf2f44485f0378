//! The successor of a certificate, on the certificate's own word.

use crate::decision::{Approval, Basis, Denial, Denials, InertContent, findings};
use crate::grounds::{MAX_GENERATIONS, Predecessor};
use crate::report::{Field, Findings, Keep};
use crate::request::Manual;
use crate::rules::{Rule, SiteRules};
use core::time::Duration;
use scep_challenge::{ApprovalMode, ChallengeClaims, Purpose, Renewal};
use scep_pkcs10::Csr;
use scep_types::{CertificateFingerprint, ChallengeId, Reason, Secret, Timestamp};
use sha2::{Digest, Sha256};

pub(crate) fn decide(
    csr: &Csr,
    predecessor: Predecessor,
    presented: Option<ChallengeId>,
    rules: &SiteRules,
    denials: &Denials,
    inert: InertContent,
    now: Timestamp,
) -> Result<Approval, Denial> {
    let claims = claims_of(&predecessor);
    // A person's approval is a reason against of its own below.
    let mut reports = findings(csr, &claims, rules, denials, inert, Manual::Served, Keep::Refusals);
    let challenge = csr.challenge_password().map(Secret::expose).map(String::as_str);
    let mut renewal = Findings::new(Keep::Refusals, challenge);
    permitted(&claims, &mut renewal);
    in_time(&predecessor, now, &mut renewal);
    known_challenge(challenge.is_some(), presented, &predecessor, &mut renewal);
    site(csr, &predecessor, rules, &mut renewal);
    reports.extend(renewal.into_reports());
    let basis = Basis::Renewal { claims: Box::new(claims), predecessor: Box::new(predecessor) };
    if reports.is_empty() {
        Ok(Approval::new(csr, basis, rules, now))
    } else {
        Err(Denial(Box::new((basis, reports))))
    }
}

/// The claims of the line, with an id of this renewal's own, which is the same for every successor of one certificate:
/// the ledger's memory of used ids gives each certificate one successor. They begin and end with the predecessor, so
/// that a ledger which was restored since that was issued refuses them, as it refuses challenges, and so that the use
/// is remembered for as long as the predecessor could ask again.
fn claims_of(predecessor: &Predecessor) -> ChallengeClaims {
    let certificate = predecessor.certificate();
    ChallengeClaims {
        challenge_id: successor_id(certificate.fingerprint()),
        purpose: Purpose::Renew,
        issued_at: certificate.not_before(),
        expires_at: certificate.not_after(),
        ..predecessor.claims().clone()
    }
}

/// The first 16 octets of SHA-256("scep renewal" || SHA-256 of the predecessor's DER).
fn successor_id(predecessor: CertificateFingerprint) -> ChallengeId {
    let hash = Sha256::new().chain_update("scep renewal").chain_update(predecessor.as_bytes());
    let mut id = [0; 16];
    id.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    ChallengeId::from_bytes(id)
}

fn against(refuse: bool) -> Option<Reason> {
    refuse.then_some(Reason::RenewalNotAllowed)
}

/// Whether the issuer has said that certificates of this line renew themselves.
fn permitted(claims: &ChallengeClaims, findings: &mut Findings<'_>) {
    let by_blob = claims.expectation.renewal == Renewal::Blob;
    findings.note(
        Field::Renewal,
        against(by_blob),
        || "a profile whose certificates renew themselves".to_owned(),
        || "a profile that wants a new challenge for each certificate".to_owned(),
    );
    let manual = claims.expectation.approval == ApprovalMode::Manual;
    findings.note(
        Field::Renewal,
        against(manual),
        || "a profile that needs nobody's approval".to_owned(),
        || "a profile whose certificates a person approves".to_owned(),
    );
}

/// Within the last part of the predecessor's life, and not too far from the challenge.
fn in_time(predecessor: &Predecessor, now: Timestamp, findings: &mut Findings<'_>) {
    let certificate = predecessor.certificate();
    let window = match predecessor.claims().expectation.renewal {
        Renewal::Certificate { window } => window,
        // Refused by another report; this one says what else there is to say.
        Renewal::Blob => Duration::MAX,
    };
    let (from, until) = (certificate.not_after().minus(window), certificate.not_after());
    let from = from.max(certificate.not_before());
    findings.note(
        Field::Renewal,
        against(now < from || now > until),
        || format!("from {from} to {until}"),
        || now.to_string(),
    );
    let next = predecessor.generation().saturating_add(1);
    findings.note(
        Field::Renewal,
        against(next > MAX_GENERATIONS),
        || format!("at most {MAX_GENERATIONS} renewals without a new challenge"),
        || format!("renewal {next}"),
    );
}

/// Clients repeat the challenge of their first enrolment, or send none. Any other was meant for something else.
fn known_challenge(
    any: bool,
    presented: Option<ChallengeId>,
    predecessor: &Predecessor,
    findings: &mut Findings<'_>,
) {
    let first = predecessor.claims().challenge_id;
    let foreign = any && presented != Some(first);
    findings.note(
        Field::Renewal,
        against(foreign),
        || format!("no challenge, or {first}"),
        || presented.map_or_else(|| "one that cannot be opened".to_owned(), |id| id.to_string()),
    );
}

fn site(csr: &Csr, predecessor: &Predecessor, rules: &SiteRules, findings: &mut Findings<'_>) {
    findings.note(
        Field::SiteRule(Rule::RenewByCertificate),
        against(!rules.renew_by_certificate()),
        || "a new challenge for each certificate".to_owned(),
        || "a renewal by certificate".to_owned(),
    );
    let same = csr.spki() == predecessor.certificate().spki();
    findings.note(
        Field::SiteRule(Rule::RenewWithSameKey),
        against(same && !rules.renew_with_same_key()),
        || "a new key".to_owned(),
        || "the key of the certificate that it follows".to_owned(),
    );
}
