//! The successor of a certificate, on the certificate's own word.

use crate::decision::{Approval, Basis, Denial, Denials, InertContent};
use crate::grounds::Predecessor;
use crate::report::{Field, FieldReport};
use crate::rules::SiteRules;
use scep_pkcs10::Csr;
use scep_types::{ChallengeId, Reason, Timestamp};

pub(crate) fn decide(
    _csr: &Csr,
    predecessor: Predecessor,
    _presented: Option<ChallengeId>,
    _rules: &SiteRules,
    _denials: &Denials,
    _inert: InertContent,
    _now: Timestamp,
) -> Result<Approval, Denial> {
    let report = FieldReport {
        field: Field::Renewal,
        expected: "a fresh challenge".to_owned(),
        got: "none".to_owned(),
        reason: Some(Reason::RenewalNotAllowed),
    };
    let claims = Box::new(predecessor.claims().clone());
    let basis = Basis::Renewal { claims, predecessor: Box::new(predecessor) };
    Err(Denial(Box::new((basis, vec![report]))))
}
