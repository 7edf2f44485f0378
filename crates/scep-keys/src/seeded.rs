//! Randomness that follows from a seed.

use crate::{aws, pure};
use core::convert::Infallible;
use core::fmt;
use getrandom::rand_core::{TryCryptoRng, TryRng};
use scep_types::{
    CryptoProvider, EphemeralAgreement, KeyError, RsaPadding, SignatureInvalid, SignatureScheme,
    SpkiDer,
};
use sha2::{Digest, Sha256};
use std::sync::{Mutex, PoisonError};

/// A provider whose randomness, ephemeral keys and RSA paddings follow from a seed: the same calls in the same order
/// give the same octets, so that test vectors can be made again. **Nothing that it encrypts is secret.**
///
/// The random octets are SHA-256(seed, counter) for the counters 0, 1, 2, ... as eight octets, big-endian; each call
/// starts a new block. An ephemeral key is the first number of its size that is a scalar of the curve. Signatures are
/// verified for real, by [`AwsLc`](crate::AwsLc).
pub struct SeededProvider {
    stream: Mutex<Stream>,
}

impl SeededProvider {
    /// Starts from a seed.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self { stream: Mutex::new(Stream { seed, counter: 0 }) }
    }

    fn with<T>(&self, use_stream: impl FnOnce(&mut Stream) -> T) -> T {
        use_stream(&mut self.stream.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl CryptoProvider for SeededProvider {
    fn verify(
        &self,
        key: &SpkiDer,
        scheme: SignatureScheme,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureInvalid> {
        aws::AwsLc.verify(key, scheme, message, signature)
    }

    fn rsa_encrypt(
        &self,
        key: &SpkiDer,
        padding: RsaPadding,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        self.with(|stream| pure::rsa_encrypt(stream, key, padding, plaintext))
    }

    fn ephemeral_agree(&self, peer: &SpkiDer) -> Result<EphemeralAgreement, KeyError> {
        self.with(|stream| pure::ephemeral_agree(stream, peer))
    }

    fn random(&self, out: &mut [u8]) -> Result<(), KeyError> {
        self.with(|stream| stream.fill(out));
        Ok(())
    }
}

impl fmt::Debug for SeededProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeededProvider(..)")
    }
}

struct Stream {
    seed: [u8; 32],
    counter: u64,
}

impl Stream {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            let block = Sha256::new()
                .chain_update(self.seed)
                .chain_update(self.counter.to_be_bytes())
                .finalize();
            for (to, from) in chunk.iter_mut().zip(block) {
                *to = from;
            }
            self.counter = self.counter.wrapping_add(1);
        }
    }
}

impl TryRng for Stream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut octets = [0; 4];
        self.fill(&mut octets);
        Ok(u32::from_be_bytes(octets))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut octets = [0; 8];
        self.fill(&mut octets);
        Ok(u64::from_be_bytes(octets))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.fill(out);
        Ok(())
    }
}

impl TryCryptoRng for Stream {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, SoftwareKey};
    use scep_types::{DecryptionKey, KeyAlgorithm, OaepHash, Secret, Signer};

    #[test]
    fn the_same_calls_give_the_same_octets_and_real_ciphertexts() {
        let rsa = SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).unwrap();
        let ec = SoftwareKey::generate(KeyAlgorithm::P384).unwrap();
        for padding in [RsaPadding::Pkcs1v15, RsaPadding::Oaep(OaepHash::Sha256)] {
            let run = |seed| {
                let provider = SeededProvider::new(seed);
                let mut random = [0; 40];
                provider.random(&mut random).unwrap();
                let sealed = provider.rsa_encrypt(rsa.public_key(), padding, &[7; 16]).unwrap();
                (random, sealed, provider.ephemeral_agree(ec.public_key()).unwrap())
            };
            let (a, b, other) = (run([1; 32]), run([1; 32]), run([2; 32]));
            assert_eq!((a.0, &a.1), (b.0, &b.1));
            assert_eq!(a.2.public_point, b.2.public_point);
            assert!(a.0 != other.0 && a.1 != other.1);
            assert_ne!(a.2.public_point, other.2.public_point);
            let DecryptionKey::Rsa(key) = rsa.decryption().unwrap() else { panic!("not RSA") };
            let mut opened = Secret::new(vec![0; 16]);
            key.decrypt_key(padding, &a.1, &mut opened).unwrap();
            assert_eq!(opened.expose(), &[7; 16]);
            let DecryptionKey::Ec(key) = ec.decryption().unwrap() else { panic!("not EC") };
            let agreed = key.agree(&a.2.public_point).unwrap();
            assert_eq!(agreed.expose(), a.2.shared_secret.expose());
        }
    }

    #[test]
    fn the_stream_is_the_documented_one() {
        let mut random = [0; 33];
        SeededProvider::new([0; 32]).random(&mut random).unwrap();
        let block = |n: u64| Sha256::digest([&[0; 32][..], &n.to_be_bytes()].concat());
        assert_eq!(random[..32], block(0)[..]);
        assert_eq!(random[32], block(1)[0]);
    }

    #[test]
    fn signatures_are_verified_for_real() {
        let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
        let key =
            SoftwareKey::from_pkcs8_der(key.to_pkcs8_der().unwrap().expose(), Backend::PureRust)
                .unwrap();
        let signature = key.sign(SignatureScheme::EcdsaSha256, b"message").unwrap();
        let provider = SeededProvider::new([0; 32]);
        let verify = |message: &[u8]| {
            provider.verify(key.public_key(), SignatureScheme::EcdsaSha256, message, &signature)
        };
        assert_eq!((verify(b"message"), verify(b"massage")), (Ok(()), Err(SignatureInvalid)));
    }
}
