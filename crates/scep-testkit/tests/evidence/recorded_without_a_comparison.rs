// What a CA returned, recorded without having been compared; and compared, but released without a record.
use scep_ledger::{Ledger, Unsettled};
use scep_message::{RaIdentity, ReplyChain, ReplyContext};
use scep_policy::Conforming;
use scep_types::{CertificateDer, CryptoProvider, Timestamp};

async fn recorded(ledger: &Ledger, unsettled: Unsettled, issued: CertificateDer, now: Timestamp) {
    let _ = ledger.record(unsettled, issued, now).await;
}

fn released(
    context: &ReplyContext,
    ra: &RaIdentity,
    conforming: &Conforming,
    provider: &dyn CryptoProvider,
) {
    let _ = context.success(ra, conforming, ReplyChain::LeafOnly, provider);
}

fn main() {}
