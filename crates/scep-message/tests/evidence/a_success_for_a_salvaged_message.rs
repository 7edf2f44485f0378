use scep_cms::Limits;
use scep_message::{RaIdentity, ReplyChain, salvage};
use scep_types::{CryptoProvider, ReleasedCertificate};

fn answer(
    bytes: &[u8],
    ra: &RaIdentity,
    certificate: &impl ReleasedCertificate,
    provider: &dyn CryptoProvider,
) {
    if let Some(context) = salvage(bytes, &Limits::default()) {
        let _ = context.success(ra, certificate, ReplyChain::LeafOnly, provider);
    }
}

fn main() {}
