// Evidence written down as a struct literal. Approval, Admission, Conforming, Releasable: beside their types.
use scep_challenge::{ChallengeClaims, VerifiedClaims};
use scep_cms::Limits;
use scep_ledger::{IssuePermit, Unsettled};
use scep_message::{PkiMessage, ReplyContext};
use scep_pkcs10::UnprovenCsr;
use scep_policy::Approval;
use std::sync::Arc;

fn forged(claims: ChallengeClaims, approval: Arc<Approval>) {
    let _ = PkiMessage { limits: Limits::default() };
    let _ = ReplyContext { mirror: None };
    let _ = UnprovenCsr { signature: 0..0 };
    let _ = VerifiedClaims { claims };
    let _ = IssuePermit { serial: None };
    let _ = Unsettled { approval };
}

fn main() {}
