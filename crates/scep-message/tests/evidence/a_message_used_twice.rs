use scep_message::{RaIdentity, SignedRequest};
use scep_types::CryptoProvider;

fn twice(signed: SignedRequest, ra: &RaIdentity, provider: &dyn CryptoProvider) {
    let _ = signed.decrypt(ra, provider);
    let _ = signed.decrypt(ra, provider);
}

fn main() {}
