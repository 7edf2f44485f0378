// A challenge spent for a request that nobody has approved.
use scep_challenge::VerifiedClaims;
use scep_ledger::{Asked, Ledger};
use scep_policy::Denial;
use scep_types::Timestamp;

async fn admitted(
    ledger: &Ledger,
    claims: VerifiedClaims,
    denial: Denial,
    asked: &Asked<'_>,
    now: Timestamp,
) {
    let _ = ledger.admit(claims, asked, now).await;
    let _ = ledger.admit(denial, asked, now).await;
}

fn main() {}
