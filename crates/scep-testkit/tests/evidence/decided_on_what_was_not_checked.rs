// A decision on a request whose key has not signed it, and on claims that nobody has opened.
use scep_challenge::{ChallengeClaims, VerifiedClaims};
use scep_pkcs10::{Csr, UnprovenCsr};
use scep_policy::{Denials, InertContent, SiteRules, decide};
use scep_types::Timestamp;

fn unproven(request: &UnprovenCsr, claims: VerifiedClaims, rules: &SiteRules, now: Timestamp) {
    let _ = decide(request, claims, rules, &Denials::default(), InertContent::Discard, now);
}

fn unopened(request: &Csr, claims: ChallengeClaims, rules: &SiteRules, now: Timestamp) {
    let _ = decide(request, claims, rules, &Denials::default(), InertContent::Discard, now);
}

fn main() {}
