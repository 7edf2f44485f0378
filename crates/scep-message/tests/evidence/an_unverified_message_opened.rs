use scep_message::{PkiMessage, RaIdentity};
use scep_types::CryptoProvider;

fn open(message: PkiMessage, ra: &RaIdentity, provider: &dyn CryptoProvider) {
    let _ = message.decrypt(ra, provider);
}

fn main() {}
