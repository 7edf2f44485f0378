//! Private keys held in memory.

use crate::error::{KeyFileError, KeyProblem};
use crate::{aws, file, pure};
use core::fmt;
use pkcs8::PrivateKeyInfoRef;
use scep_types::{
    DecryptionKey, EcdhKey, KeyAlgorithm, KeyError, ObjectIdentifier, RsaDecryptionKey, Secret,
    SignatureScheme, Signer, SpkiDer,
};
use std::path::Path;
use std::sync::Arc;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// Which back end holds a software key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Backend {
    /// aws-lc-rs.
    #[default]
    AwsLc,
    /// The crates rsa, p256, p384: portable, slower; the oracle of the differential tests.
    PureRust,
}

/// A private key held in memory: RSA of 2048 to 4096 bits, P-256 or P-384. Parsed once; cheap to clone.
///
/// RSA keys above 4096 bits are refused: the cost of a private-key operation grows with the cube of the size, the
/// RA's decryption key works for any stranger who sends an envelope, and the back end has fast code up to 4096 only.
///
/// `Debug` shows the algorithm and the public key's hash. The PKCS #8 octets are zeroised when the last clone goes;
/// what the back ends hold they clear when they free it.
#[derive(Clone)]
pub struct SoftwareKey(Arc<Inner>);

struct Inner {
    pkcs8: Secret<Vec<u8>>,
    public: SpkiDer,
    signing: Signing,
}

enum Signing {
    AwsLc(aws::SigningKey),
    PureRust(pure::PrivateHalf),
}

impl SoftwareKey {
    /// Makes a key: RSA of 2048, 3072 or 4096 bits, P-256 or P-384. Randomness and back end are aws-lc-rs's.
    ///
    /// # Errors
    /// [`KeyProblem::Size`] for another RSA size; [`KeyProblem::NotMade`] when the back end fails.
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self, KeyFileError> {
        let der = aws::generate(algorithm)?;
        Self::from_pkcs8_der(der.expose(), Backend::AwsLc)
    }

    /// Reads the DER of an unencrypted PKCS #8 PrivateKeyInfo (RFC 5208, 5) or OneAsymmetricKey (RFC 5958, 2).
    ///
    /// # Errors
    /// [`KeyFileError::Material`] when it is malformed, inconsistent, or a key of another algorithm or size.
    pub fn from_pkcs8_der(der: &[u8], backend: Backend) -> Result<Self, KeyFileError> {
        Ok(Self::parse(der, backend)?)
    }

    /// Reads a PEM file with one block `PRIVATE KEY` (RFC 7468, 10). The file must be regular (a symbolic link to a
    /// regular file will do, as mounted secrets are) and, on Unix, closed to group and others.
    ///
    /// # Errors
    /// A [`KeyFileError`] with the path and what to do.
    pub fn read(path: &Path, backend: Backend) -> Result<Self, KeyFileError> {
        let der = file::read(path)?;
        Self::parse(der.expose(), backend)
            .map_err(|problem| KeyFileError::Key { path: path.to_owned(), problem })
    }

    /// Writes PKCS #8 PEM to a new file, on Unix of mode 0600. File and directory are synced before it returns.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`] when something has that name; [`KeyFileError::Io`] when the system refuses.
    pub fn write_new(&self, path: &Path) -> Result<(), KeyFileError> {
        file::write_new(path, self.0.pkcs8.expose())
    }

    /// The PKCS #8 DER, as it was read or made.
    ///
    /// # Errors
    /// None with the back ends there are; a key that cannot leave its back end would have one.
    pub fn to_pkcs8_der(&self) -> Result<Secret<Vec<u8>>, KeyFileError> {
        Ok(Secret::new(self.0.pkcs8.expose().clone()))
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> &SpkiDer {
        &self.0.public
    }

    /// As a signer.
    #[must_use]
    pub fn signer(&self) -> Arc<dyn Signer> {
        Arc::new(self.clone())
    }

    /// As a decryption key. It is set up here and not before, so that a key that only signs is never one that
    /// decrypts.
    ///
    /// # Errors
    /// [`KeyFileError::Material`] when the back end signs with this key but will not decrypt with it.
    pub fn decryption(&self) -> Result<DecryptionKey, KeyFileError> {
        let (der, public) = (self.0.pkcs8.expose(), self.0.public.clone());
        Ok(match (&self.0.signing, public.algorithm()) {
            (Signing::AwsLc(_), KeyAlgorithm::Rsa(_)) => {
                DecryptionKey::Rsa(Arc::new(aws::RsaDecryption::parse(der, public)?))
            }
            (Signing::AwsLc(_), _) => {
                DecryptionKey::Ec(Arc::new(aws::EcDecryption::parse(der, public)?))
            }
            (Signing::PureRust(_), KeyAlgorithm::Rsa(_)) => {
                DecryptionKey::Rsa(Arc::new(pure::Decryption::parse(der, public)?))
            }
            (Signing::PureRust(_), _) => {
                DecryptionKey::Ec(Arc::new(pure::Decryption::parse(der, public)?))
            }
        })
    }

    pub(crate) fn pkcs8(&self) -> &[u8] {
        self.0.pkcs8.expose()
    }

    fn parse(der: &[u8], backend: Backend) -> Result<Self, KeyProblem> {
        let claimed = algorithm(der)?;
        let (signing, public) = match backend {
            Backend::AwsLc => {
                let key = aws::SigningKey::parse(der, claimed)?;
                let public = key.public_key()?;
                (Signing::AwsLc(key), public)
            }
            Backend::PureRust => {
                let key = pure::PrivateHalf::parse(der, claimed)?;
                let public = key.public_key()?;
                (Signing::PureRust(key), public)
            }
        };
        Ok(Self(Arc::new(Inner { pkcs8: Secret::new(der.to_vec()), public, signing })))
    }
}

/// The algorithm of a PKCS #8 key, checked against what we hold.
fn algorithm(der: &[u8]) -> Result<KeyAlgorithm, KeyProblem> {
    let info = PrivateKeyInfoRef::try_from(der).map_err(|_| KeyProblem::Malformed)?;
    match info.algorithm.oid {
        RSA => rsa_algorithm(info.private_key.as_bytes()),
        EC => match info.algorithm.parameters_oid() {
            Ok(P256) => Ok(KeyAlgorithm::P256),
            Ok(P384) => Ok(KeyAlgorithm::P384),
            _ => Err(KeyProblem::Curve),
        },
        oid => Err(KeyProblem::Algorithm { oid }),
    }
}

/// Size and exponent out of an RSAPrivateKey (RFC 8017, A.1.2).
fn rsa_algorithm(key: &[u8]) -> Result<KeyAlgorithm, KeyProblem> {
    use scep_types::tlv::{Reader, TlvError, tag};
    let parts = || -> Result<(&[u8], &[u8]), TlvError> {
        let mut fields = Reader::new(key).only(tag::SEQUENCE)?.reader();
        fields.expect(tag::INTEGER)?;
        let modulus = fields.any()?.unsigned()?;
        Ok((modulus, fields.any()?.unsigned()?))
    };
    let (modulus, exponent) = parts().map_err(|_| KeyProblem::Malformed)?;
    let public = SpkiDer::from_rsa_parts(modulus, exponent).map_err(|_| KeyProblem::Malformed)?;
    check_rsa(&public)?;
    Ok(public.algorithm())
}

/// Size and exponent of an RSA key.
pub(crate) fn check_rsa(public: &SpkiDer) -> Result<(), KeyProblem> {
    let algorithm = public.algorithm();
    let (KeyAlgorithm::Rsa(2048..=4096), Some(parts)) = (algorithm, public.rsa()) else {
        return Err(KeyProblem::Size { algorithm });
    };
    // FIPS 186-5, A.1.1 demands 2^16 < e; both back ends verify with up to 33 bits, ours stay below.
    let e = parts.exponent.iter().fold(0_u64, |e, octet| (e << 8) | u64::from(*octet));
    if !(65_537..=u64::from(u32::MAX)).contains(&e) || e % 2 == 0 {
        return Err(KeyProblem::Exponent);
    }
    Ok(())
}

impl Signer for SoftwareKey {
    fn public_key(&self) -> &SpkiDer {
        &self.0.public
    }

    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.0.signing {
            Signing::AwsLc(key) => key.sign(scheme, message),
            Signing::PureRust(key) => key.sign(scheme, message),
        }
        .unwrap_or_else(|| {
            Err(KeyError::Unsupported {
                operation: scheme_name(scheme),
                key: self.0.public.algorithm().to_string(),
            })
        })
    }
}

pub(crate) const fn scheme_name(scheme: SignatureScheme) -> &'static str {
    match scheme {
        SignatureScheme::RsaPkcs1Sha1 => "signing with RSA PKCS #1 v1.5 and SHA-1",
        SignatureScheme::RsaPkcs1Sha256 => "signing with RSA PKCS #1 v1.5 and SHA-256",
        SignatureScheme::RsaPkcs1Sha384 => "signing with RSA PKCS #1 v1.5 and SHA-384",
        SignatureScheme::RsaPkcs1Sha512 => "signing with RSA PKCS #1 v1.5 and SHA-512",
        SignatureScheme::RsaPssSha256 => "signing with RSA PSS and SHA-256",
        SignatureScheme::RsaPssSha384 => "signing with RSA PSS and SHA-384",
        SignatureScheme::RsaPssSha512 => "signing with RSA PSS and SHA-512",
        SignatureScheme::EcdsaSha256 => "signing with ECDSA and SHA-256",
        SignatureScheme::EcdsaSha384 => "signing with ECDSA and SHA-384",
        SignatureScheme::EcdsaSha512 => "signing with ECDSA and SHA-512",
    }
}

impl fmt::Debug for SoftwareKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SoftwareKey({:?})", self.0.public)
    }
}

macro_rules! debug_public {
    ($($holder:ty: $trait:ident),*) => {$(
        impl fmt::Debug for $holder {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "DecryptionKey({:?})", $trait::public_key(self))
            }
        }
    )*};
}

debug_public!(
    aws::RsaDecryption: RsaDecryptionKey,
    aws::EcDecryption: EcdhKey,
    pure::Decryption: RsaDecryptionKey
);
