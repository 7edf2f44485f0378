// What was salvaged, or refused unopened, is answered by a FAILURE: no way leads back to a context for a SUCCESS.
use scep_ledger::Releasable;
use scep_message::{FailureContext, RaIdentity, ReplyChain, ReplyContext, SignedRequest};
use scep_types::CryptoProvider;

fn answered(
    signed: SignedRequest,
    ra: &RaIdentity,
    releasable: &Releasable,
    provider: &dyn CryptoProvider,
) {
    let context: FailureContext = signed.into_failure();
    let _ = context.success_crl(ra, &[], provider);
    let _ = ReplyContext::success(&context, ra, releasable, ReplyChain::LeafOnly, provider);
    let _: ReplyContext = context.into();
}

fn main() {}
