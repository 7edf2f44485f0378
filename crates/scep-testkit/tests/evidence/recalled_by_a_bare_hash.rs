// A certificate asked for by a hash that somebody knows, and by a request that is not proven.
use scep_ledger::Ledger;
use scep_pkcs10::UnprovenCsr;
use scep_policy::RetryKey;
use scep_types::{CsrInfoHash, Timestamp};

async fn recalled(ledger: &Ledger, hash: CsrInfoHash, request: &UnprovenCsr, now: Timestamp) {
    let _ = ledger.recall(hash, now).await;
    let _ = ledger.recall(RetryKey::of(request), now).await;
}

fn main() {}
