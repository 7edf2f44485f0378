//! Public keys as received (RFC 5280, 4.1.2.7).

use crate::id::{KeyId, SpkiHash};
use crate::tlv::{self, Reader, TlvError, tag};
use const_oid::ObjectIdentifier;
use core::fmt;
use sha2::{Digest, Sha256};
use thiserror::Error;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// A key's algorithm and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyAlgorithm {
    /// RSA, with the bits of its modulus.
    Rsa(u32),
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "rsa{bits}"),
            Self::P256 => f.write_str("p256"),
            Self::P384 => f.write_str("p384"),
        }
    }
}

impl core::str::FromStr for KeyAlgorithm {
    type Err = SpkiError;
    fn from_str(text: &str) -> Result<Self, SpkiError> {
        match text {
            "p256" => Ok(Self::P256),
            "p384" => Ok(Self::P384),
            _ => text
                .strip_prefix("rsa")
                .and_then(|bits| bits.parse().ok())
                .filter(|bits| (512..=16_384).contains(bits))
                .map(Self::Rsa)
                .ok_or(SpkiError::Algorithm),
        }
    }
}

/// Why bytes are not a public key we can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SpkiError {
    /// Not a SubjectPublicKeyInfo.
    #[error("not a SubjectPublicKeyInfo: {0}")]
    Der(#[from] TlvError),
    /// Neither RSA with NULL parameters nor a named curve P-256 or P-384.
    #[error("the key is neither RSA nor on P-256 or P-384")]
    Algorithm,
    /// An RSA key of more than 16,384 bits or with an exponent over 64 bits, or an EC point that is not
    /// uncompressed and of the curve's length.
    #[error("the key's size or encoding is not acceptable")]
    Size,
}

/// Modulus and public exponent, big-endian without leading zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RsaPublicParts<'a> {
    /// The modulus n.
    pub modulus: &'a [u8],
    /// The public exponent e.
    pub exponent: &'a [u8],
}

/// A DER SubjectPublicKeyInfo, kept exactly as received. Its algorithm was recognised; whether the key is
/// weak, and whether an EC point is on its curve, is for others to check.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SpkiDer {
    der: Vec<u8>,
    algorithm: KeyAlgorithm,
    key_at: usize,
}

impl SpkiDer {
    /// Parses strictly.
    ///
    /// # Errors
    /// When it is malformed or of an algorithm or size we do not know.
    pub fn parse(der: &[u8]) -> Result<Self, SpkiError> {
        let mut outer = Reader::new(der).only(tag::SEQUENCE)?.reader();
        let mut algorithm_id = outer.expect(tag::SEQUENCE)?.reader();
        let key_tlv = outer.expect(tag::BIT_STRING)?;
        outer.finish()?;
        let key = key_tlv.whole_bits()?;
        let key_at = der.len().saturating_sub(key.len());
        let oid = algorithm_id.any()?.oid()?;
        let algorithm = if oid == RSA {
            // RFC 3279, 2.3.1: parameters are NULL; some encoders leave them out.
            if algorithm_id.optional(tag::NULL)?.is_some_and(|null| !null.value.is_empty()) {
                return Err(SpkiError::Algorithm);
            }
            algorithm_id.finish()?;
            let parts = rsa_parts(key)?;
            let bits =
                parts.modulus.len().saturating_mul(8).saturating_sub(
                    parts.modulus.first().map_or(0, |b| b.leading_zeros() as usize),
                );
            if !(16..=16_384).contains(&bits) || parts.exponent.len() > 8 {
                return Err(SpkiError::Size);
            }
            KeyAlgorithm::Rsa(u32::try_from(bits).map_err(|_| SpkiError::Size)?)
        } else if oid == EC {
            let curve = algorithm_id.any()?.oid()?;
            algorithm_id.finish()?;
            let (algorithm, len) = match curve {
                P256 => (KeyAlgorithm::P256, 65),
                P384 => (KeyAlgorithm::P384, 97),
                _ => return Err(SpkiError::Algorithm),
            };
            if key.len() != len || key.first() != Some(&4) {
                return Err(SpkiError::Size);
            }
            algorithm
        } else {
            return Err(SpkiError::Algorithm);
        };
        Ok(Self { der: der.to_vec(), algorithm, key_at })
    }

    /// Builds an EC key from its uncompressed point.
    ///
    /// # Errors
    /// When the point's length or form is not that of P-256 or P-384.
    pub fn from_ec_point(point: &[u8]) -> Result<Self, SpkiError> {
        let curve = match point.len() {
            65 => P256,
            97 => P384,
            _ => return Err(SpkiError::Size),
        };
        let algorithm = tlv::sequence(&[&tlv::oid(&EC), &tlv::oid(&curve)]);
        Self::parse(&tlv::sequence(&[&algorithm, &tlv::whole_bits(point)]))
    }

    /// Builds an RSA key from modulus and exponent, big-endian.
    ///
    /// # Errors
    /// When the size is out of range.
    pub fn from_rsa_parts(modulus: &[u8], exponent: &[u8]) -> Result<Self, SpkiError> {
        let algorithm = tlv::sequence(&[&tlv::oid(&RSA), &[tag::NULL, 0]]);
        let key = tlv::sequence(&[&tlv::unsigned(modulus), &tlv::unsigned(exponent)]);
        Self::parse(&tlv::sequence(&[&algorithm, &tlv::whole_bits(&key)]))
    }

    /// The DER as received.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// Algorithm and size.
    #[must_use]
    pub const fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The subjectPublicKey octets: an RSAPublicKey, or an uncompressed point.
    #[must_use]
    pub fn key_octets(&self) -> &[u8] {
        self.der.get(self.key_at..).unwrap_or_default()
    }

    /// Modulus and exponent of an RSA key.
    #[must_use]
    pub fn rsa(&self) -> Option<RsaPublicParts<'_>> {
        match self.algorithm {
            KeyAlgorithm::Rsa(_) => rsa_parts(self.key_octets()).ok(),
            _ => None,
        }
    }

    /// SHA-256 over the DER.
    #[must_use]
    pub fn hash(&self) -> SpkiHash {
        SpkiHash::from_bytes(Sha256::digest(&self.der).into())
    }

    /// RFC 7093, method 1: what our certificates and blobs use as SubjectKeyIdentifier.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        let digest: [u8; 32] = Sha256::digest(self.key_octets()).into();
        let mut id = [0; 20];
        for (to, from) in id.iter_mut().zip(digest) {
            *to = from;
        }
        KeyId::from_bytes(id)
    }
}

fn rsa_parts(key: &[u8]) -> Result<RsaPublicParts<'_>, TlvError> {
    let mut parts = Reader::new(key).only(tag::SEQUENCE)?.reader();
    let modulus = parts.any()?.unsigned()?;
    let exponent = parts.any()?.unsigned()?;
    parts.finish()?;
    Ok(RsaPublicParts { modulus, exponent })
}

impl fmt::Debug for SpkiDer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpkiDer({} {})", self.algorithm, self.hash())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_bytes_and_tell_their_size() {
        let mut modulus = vec![0xff; 256];
        let key = SpkiDer::from_rsa_parts(&modulus, &[1, 0, 1]).unwrap();
        assert_eq!(key.algorithm(), KeyAlgorithm::Rsa(2048));
        assert_eq!(key.rsa().unwrap().exponent, [1, 0, 1]);
        modulus[0] = 0x7f;
        let key = SpkiDer::from_rsa_parts(&modulus, &[3]).unwrap();
        assert_eq!(key.algorithm(), KeyAlgorithm::Rsa(2047));
        let mut point = vec![4; 65];
        assert_eq!(SpkiDer::from_ec_point(&point).unwrap().algorithm(), KeyAlgorithm::P256);
        assert_eq!(SpkiDer::from_ec_point(&point).unwrap().key_octets(), point);
        point[0] = 2;
        assert_eq!(SpkiDer::from_ec_point(&point), Err(SpkiError::Size));
        assert_eq!("rsa2048".parse::<KeyAlgorithm>(), Ok(KeyAlgorithm::Rsa(2048)));
    }
}
