// A challenge spent for a request that nobody has approved.
use scep_challenge::VerifiedClaims;
use scep_ledger::Ledger;
use scep_policy::Denial;
use scep_types::{SpkiHash, Timestamp, TransactionId};

async fn admitted(
    ledger: &Ledger,
    claims: VerifiedClaims,
    denial: Denial,
    signer: SpkiHash,
    transaction: &TransactionId,
    now: Timestamp,
) {
    let _ = ledger.admit(claims, None, signer, transaction, now).await;
    let _ = ledger.admit(denial, None, signer, transaction, now).await;
}

fn main() {}
