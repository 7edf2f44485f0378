use scep_message::{RaIdentity, ReplyChain, ReplyContext};
use scep_types::{CertificateDer, CryptoProvider};

fn answer(
    context: &ReplyContext,
    ra: &RaIdentity,
    certificate: &CertificateDer,
    provider: &dyn CryptoProvider,
) {
    let _ = context.success(ra, certificate, ReplyChain::LeafOnly, provider);
}

fn main() {}
