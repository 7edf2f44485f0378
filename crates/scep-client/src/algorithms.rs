//! Which algorithms a request uses (RFC 8894, 3.5.2).

use crate::error::ClientError;
use scep_cms::{ContentEncryption, LegacyAlgorithms};
use scep_message::caps::Capabilities;
use scep_types::{DigestAlgorithm, KeyAlgorithm, SignatureScheme};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Algorithms {
    pub(crate) digest: DigestAlgorithm,
    pub(crate) encryption: ContentEncryption,
}

impl Algorithms {
    /// With a key of this kind. SHA-1 is never chosen.
    pub(crate) const fn scheme(&self, key: KeyAlgorithm) -> SignatureScheme {
        match (key, self.digest) {
            (KeyAlgorithm::Rsa(_), digest) => digest.rsa_pkcs1(),
            (_, DigestAlgorithm::Sha1 | DigestAlgorithm::Sha256) => SignatureScheme::EcdsaSha256,
            (_, DigestAlgorithm::Sha384) => SignatureScheme::EcdsaSha384,
            (_, DigestAlgorithm::Sha512) => SignatureScheme::EcdsaSha512,
        }
    }
}

/// AES-128-CBC and SHA-256 where the server has them, as the RFC recommends for interoperability. A server without
/// SHA-2 or without AES is refused, unless legacy algorithms are accepted: then it gets 3DES, but SHA-256 all the
/// same. Servers that old verify it although they do not say so, and no key of ours signs SHA-1.
pub(crate) fn choose(
    capabilities: &Capabilities,
    legacy: LegacyAlgorithms,
) -> Result<Algorithms, ClientError> {
    let old = legacy == LegacyAlgorithms::Accept;
    let digest = if capabilities.sha256 || capabilities.scep_standard {
        DigestAlgorithm::Sha256
    } else if capabilities.sha512 {
        DigestAlgorithm::Sha512
    } else if capabilities.sha384 {
        DigestAlgorithm::Sha384
    } else if old {
        DigestAlgorithm::Sha256
    } else {
        return Err(ClientError::NoCommonAlgorithm { what: "digest" });
    };
    let encryption = if capabilities.aes || capabilities.scep_standard {
        ContentEncryption::Aes128Cbc
    } else if old {
        ContentEncryption::DesEde3Cbc
    } else {
        return Err(ClientError::NoCommonAlgorithm { what: "content encryption" });
    };
    Ok(Algorithms { digest, encryption })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_what_the_server_has_is_taken() {
        let choose = |caps: &str, legacy| choose(&Capabilities::parse(caps), legacy);
        let (refuse, accept) = (LegacyAlgorithms::Refuse, LegacyAlgorithms::Accept);
        let modern = Algorithms {
            digest: DigestAlgorithm::Sha256,
            encryption: ContentEncryption::Aes128Cbc,
        };
        for caps in ["SCEPStandard", "AES\nSHA-256", "AES\r\nsha-256\r\nDES3\nSHA-1\nSHA-512"] {
            assert_eq!(choose(caps, refuse), Ok(modern), "{caps}");
            assert_eq!(choose(caps, accept), Ok(modern), "{caps}");
        }
        let sha512 = Algorithms { digest: DigestAlgorithm::Sha512, ..modern };
        assert_eq!(choose("AES\nSHA-512", refuse), Ok(sha512));
        let no_digest = ClientError::NoCommonAlgorithm { what: "digest" };
        let no_cipher = ClientError::NoCommonAlgorithm { what: "content encryption" };
        let old = Algorithms { encryption: ContentEncryption::DesEde3Cbc, ..modern };
        for caps in ["", "DES3\nSHA-1"] {
            assert_eq!(choose(caps, refuse), Err(no_digest.clone()), "{caps}");
            assert_eq!(choose(caps, accept), Ok(old), "{caps}");
        }
        assert_eq!(choose("SHA-256\nDES3", refuse), Err(no_cipher));
    }

    #[test]
    fn the_digest_is_signed_by_the_key_there_is() {
        use DigestAlgorithm::{Sha256, Sha384, Sha512};
        let (rsa, p256, p384) = (KeyAlgorithm::Rsa(2048), KeyAlgorithm::P256, KeyAlgorithm::P384);
        for (key, digest, scheme) in [
            (rsa, Sha256, SignatureScheme::RsaPkcs1Sha256),
            (rsa, Sha512, SignatureScheme::RsaPkcs1Sha512),
            (p256, Sha256, SignatureScheme::EcdsaSha256),
            (p256, Sha384, SignatureScheme::EcdsaSha384),
            (p384, Sha256, SignatureScheme::EcdsaSha256),
            (p384, Sha512, SignatureScheme::EcdsaSha512),
        ] {
            let encryption = ContentEncryption::Aes128Cbc;
            assert_eq!(Algorithms { digest, encryption }.scheme(key), scheme);
        }
    }
}
