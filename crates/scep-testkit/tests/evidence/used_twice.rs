// Each piece of evidence goes into one step. An Admission, and an IssuePermit: beside their types.
use scep_challenge::VerifiedClaims;
use scep_ledger::{Asked, Ledger, Unsettled};
use scep_pkcs10::Csr;
use scep_policy::{Approval, Conforming, Denials, InertContent, SiteRules, decide};
use scep_types::{Reason, Timestamp};

async fn settled_twice(ledger: &Ledger, unsettled: Unsettled, good: Conforming, now: Timestamp) {
    let _ = ledger.hand_back(unsettled, Reason::CaUnavailable, "nothing came", now).await;
    let _ = ledger.record(unsettled, good, now).await;
}

async fn recorded_twice(
    ledger: &Ledger,
    first: Unsettled,
    second: Unsettled,
    conforming: Conforming,
    now: Timestamp,
) {
    let _ = ledger.record(first, conforming, now).await;
    let _ = ledger.record(second, conforming, now).await;
}

async fn admitted_twice(
    ledger: &Ledger,
    approval: Approval,
    asked: &Asked<'_>,
    now: Timestamp,
) {
    let _ = ledger.admit(approval, asked, now).await;
    let _ = ledger.admit(approval, asked, now).await;
}

fn decided_twice(csr: &Csr, claims: VerifiedClaims, rules: &SiteRules, now: Timestamp) {
    let _ = decide(csr, claims, rules, &Denials::default(), InertContent::Discard, now);
    let _ = decide(csr, claims, rules, &Denials::default(), InertContent::Discard, now);
}

fn main() {}
