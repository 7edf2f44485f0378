//! Cryptography that does nothing, so that a fuzzer reaches what signatures and encryption shield.
//!
//! A provider that verifies everything disables every check downstream. Nothing outside tests, benches and fuzzing can
//! name it, because this crate is not published and a test keeps it a dev-dependency.

use scep_types::{
    CryptoProvider, DecryptionKey, EcdhKey, EphemeralAgreement, KeyAlgorithm, KeyError,
    RsaDecryptionKey, RsaPadding, Secret, SignatureInvalid, SignatureScheme, Signer, SpkiDer,
};
use std::sync::Arc;

/// Verifies every signature, encrypts by padding without arithmetic, and has one random octet. What it seals
/// [`NoOpDecryption`] opens.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoOpProvider;

impl NoOpProvider {
    /// What all its random octets are.
    pub const RANDOM: u8 = 0x5a;
}

impl CryptoProvider for NoOpProvider {
    fn verify(
        &self,
        _: &SpkiDer,
        _: SignatureScheme,
        _: &[u8],
        _: &[u8],
    ) -> Result<(), SignatureInvalid> {
        Ok(())
    }

    /// Zero octets up to the length of the modulus, then the plaintext.
    fn rsa_encrypt(
        &self,
        key: &SpkiDer,
        _: RsaPadding,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        let size = modulus_len(key, "RSA encryption")?;
        let zeros = size
            .checked_sub(plaintext.len())
            .ok_or(KeyError::Rejected { why: "the plaintext is too long for the RSA key" })?;
        let mut out = vec![0; zeros];
        out.extend_from_slice(plaintext);
        Ok(out)
    }

    /// The peer's own point, and its x coordinate.
    fn ephemeral_agree(&self, peer: &SpkiDer) -> Result<EphemeralAgreement, KeyError> {
        Ok(EphemeralAgreement {
            public_point: peer.key_octets().to_vec(),
            shared_secret: x_coordinate(peer, peer.key_octets())?,
        })
    }

    fn random(&self, out: &mut [u8]) -> Result<(), KeyError> {
        out.fill(Self::RANDOM);
        Ok(())
    }
}

fn modulus_len(key: &SpkiDer, operation: &'static str) -> Result<usize, KeyError> {
    key.rsa()
        .map(|parts| parts.modulus.len())
        .ok_or_else(|| KeyError::Unsupported { operation, key: key.algorithm().to_string() })
}

fn x_coordinate(key: &SpkiDer, point: &[u8]) -> Result<Secret<Vec<u8>>, KeyError> {
    let len = match key.algorithm() {
        KeyAlgorithm::P256 => 32,
        KeyAlgorithm::P384 => 48,
        KeyAlgorithm::Rsa(_) => {
            return Err(KeyError::Unsupported {
                operation: "key agreement",
                key: key.algorithm().to_string(),
            });
        }
    };
    match point.split_first() {
        Some((4, coordinates)) if coordinates.len() / 2 == len && coordinates.len() % 2 == 0 => {
            Ok(Secret::new(coordinates.iter().take(len).copied().collect()))
        }
        _ => Err(KeyError::Rejected { why: "the peer's point is not on the key's curve" }),
    }
}

/// Signs with a constant of the right shape, which [`NoOpProvider`] verifies and nothing else does.
#[derive(Clone, Debug)]
pub struct NoOpSigner(SpkiDer);

impl NoOpSigner {
    /// As if it held the private half of this key.
    #[must_use]
    pub const fn new(public: SpkiDer) -> Self {
        Self(public)
    }
}

impl Signer for NoOpSigner {
    fn public_key(&self) -> &SpkiDer {
        &self.0
    }

    fn sign(&self, _: SignatureScheme, _: &[u8]) -> Result<Vec<u8>, KeyError> {
        Ok(match self.0.rsa() {
            Some(parts) => vec![0; parts.modulus.len()],
            // An ECDSA-Sig-Value with r = s = 1.
            None => vec![0x30, 6, 2, 1, 1, 2, 1, 1],
        })
    }
}

/// Opens what [`NoOpProvider`] seals, and takes from any other ciphertext whatever octets are there.
#[derive(Clone, Debug)]
pub struct NoOpDecryption(SpkiDer);

impl NoOpDecryption {
    /// A decryption key of the kind of this key.
    #[must_use]
    pub fn key(public: SpkiDer) -> DecryptionKey {
        match public.algorithm() {
            KeyAlgorithm::Rsa(_) => DecryptionKey::Rsa(Arc::new(Self(public))),
            KeyAlgorithm::P256 | KeyAlgorithm::P384 => DecryptionKey::Ec(Arc::new(Self(public))),
        }
    }
}

impl RsaDecryptionKey for NoOpDecryption {
    fn public_key(&self) -> &SpkiDer {
        &self.0
    }

    /// The ciphertext's last octets.
    fn decrypt_key(
        &self,
        _: RsaPadding,
        ciphertext: &[u8],
        key: &mut Secret<Vec<u8>>,
    ) -> Result<(), KeyError> {
        if ciphertext.len() != modulus_len(&self.0, "RSA decryption")? {
            return Err(KeyError::Rejected {
                why: "the ciphertext has not the length of the modulus",
            });
        }
        for (to, from) in key.expose_mut().iter_mut().rev().zip(ciphertext.iter().rev()) {
            *to = *from;
        }
        Ok(())
    }
}

impl EcdhKey for NoOpDecryption {
    fn public_key(&self) -> &SpkiDer {
        &self.0
    }

    /// The point's x coordinate, on the curve or not.
    fn agree(&self, peer_point: &[u8]) -> Result<Secret<Vec<u8>>, KeyError> {
        x_coordinate(&self.0, peer_point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TestKey;

    #[test]
    fn what_the_provider_seals_the_key_opens() {
        let rsa = TestKey::RsaA.public_key();
        let sealed = NoOpProvider.rsa_encrypt(&rsa, RsaPadding::Pkcs1v15, &[7; 16]).unwrap();
        assert_eq!(sealed.len(), 256);
        let DecryptionKey::Rsa(key) = NoOpDecryption::key(rsa) else { panic!("not RSA") };
        let mut opened = Secret::new(vec![0; 16]);
        key.decrypt_key(RsaPadding::Pkcs1v15, &sealed, &mut opened).unwrap();
        assert_eq!(opened.expose(), &[7; 16]);
        assert!(key.decrypt_key(RsaPadding::Pkcs1v15, &sealed[1..], &mut opened).is_err());

        for public in [TestKey::P256A.public_key(), TestKey::P384A.public_key()] {
            let made = NoOpProvider.ephemeral_agree(&public).unwrap();
            let DecryptionKey::Ec(key) = NoOpDecryption::key(public) else { panic!("not EC") };
            let agreed = key.agree(&made.public_point).unwrap();
            assert_eq!(agreed.expose(), made.shared_secret.expose());
            assert!(key.agree(&made.public_point[1..]).is_err());
        }
    }

    #[test]
    fn its_signatures_verify_here_and_nowhere_else() {
        for key in [TestKey::RsaA, TestKey::P256A] {
            let public = key.public_key();
            let scheme = SignatureScheme::default_for(public.algorithm());
            let signature = NoOpSigner::new(public.clone()).sign(scheme, b"message").unwrap();
            let verify = |provider: &dyn CryptoProvider| {
                provider.verify(&public, scheme, b"message", &signature)
            };
            assert_eq!(verify(&NoOpProvider), Ok(()));
            assert_eq!(verify(&scep_keys::AwsLc), Err(SignatureInvalid));
        }
    }
}
