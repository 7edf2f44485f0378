//! Our signers for the builders of x509-cert and the like.

use core::fmt;
use der::asn1::BitString;
use der::{Any, Document};
use scep_types::{KeyAlgorithm, KeyError, ObjectIdentifier, SignatureScheme, Signer, SpkiDer};
use spki::{
    AlgorithmIdentifierOwned, DynSignatureAlgorithmIdentifier, EncodePublicKey,
    SignatureBitStringEncoding,
};
use std::sync::Arc;

/// A signature as the back end gave it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignatureOctets(Vec<u8>);

impl SignatureBitStringEncoding for SignatureOctets {
    fn to_bitstring(&self) -> der::Result<BitString> {
        BitString::from_bytes(&self.0)
    }
}

/// A public key in the shape that the builders want.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifyingKey(SpkiDer);

impl EncodePublicKey for VerifyingKey {
    fn to_public_key_der(&self) -> spki::Result<Document> {
        Ok(Document::try_from(self.0.as_der())?)
    }
}

/// Any [`Signer`], one in an HSM too, as the traits `signature::Signer`, `signature::Keypair` and
/// `spki::DynSignatureAlgorithmIdentifier`, so that `x509_cert::builder` signs with it.
#[derive(Clone)]
pub struct X509Signer {
    signer: Arc<dyn Signer>,
    scheme: SignatureScheme,
}

impl X509Signer {
    /// With the key's usual scheme: [`SignatureScheme::default_for`].
    #[must_use]
    pub fn new(signer: Arc<dyn Signer>) -> Self {
        let scheme = SignatureScheme::default_for(signer.public_key().algorithm());
        Self { signer, scheme }
    }

    /// With another scheme.
    ///
    /// # Errors
    /// [`KeyError::Unsupported`] when it does not fit the key, or is PSS, whose parameters certificates here
    /// never carry.
    pub fn with_scheme(signer: Arc<dyn Signer>, scheme: SignatureScheme) -> Result<Self, KeyError> {
        let algorithm = signer.public_key().algorithm();
        let rsa = matches!(algorithm, KeyAlgorithm::Rsa(_));
        match identifier(scheme) {
            Some((_, Parameters::Null)) if rsa => Ok(Self { signer, scheme }),
            Some((_, Parameters::Absent)) if !rsa => Ok(Self { signer, scheme }),
            _ => Err(KeyError::Unsupported {
                operation: "signing certificates with this scheme",
                key: algorithm.to_string(),
            }),
        }
    }
}

enum Parameters {
    Null,
    Absent,
}

/// The signatureAlgorithm of a certificate (RFC 4055, 5; RFC 5758, 3.2).
const fn identifier(scheme: SignatureScheme) -> Option<(ObjectIdentifier, Parameters)> {
    const fn oid(text: &str) -> ObjectIdentifier {
        ObjectIdentifier::new_unwrap(text)
    }
    Some(match scheme {
        SignatureScheme::RsaPkcs1Sha256 => (oid("1.2.840.113549.1.1.11"), Parameters::Null),
        SignatureScheme::RsaPkcs1Sha384 => (oid("1.2.840.113549.1.1.12"), Parameters::Null),
        SignatureScheme::RsaPkcs1Sha512 => (oid("1.2.840.113549.1.1.13"), Parameters::Null),
        SignatureScheme::EcdsaSha256 => (oid("1.2.840.10045.4.3.2"), Parameters::Absent),
        SignatureScheme::EcdsaSha384 => (oid("1.2.840.10045.4.3.3"), Parameters::Absent),
        SignatureScheme::EcdsaSha512 => (oid("1.2.840.10045.4.3.4"), Parameters::Absent),
        SignatureScheme::RsaPkcs1Sha1
        | SignatureScheme::RsaPssSha256
        | SignatureScheme::RsaPssSha384
        | SignatureScheme::RsaPssSha512 => return None,
    })
}

impl signature::Signer<SignatureOctets> for X509Signer {
    fn try_sign(&self, message: &[u8]) -> Result<SignatureOctets, signature::Error> {
        self.signer
            .sign(self.scheme, message)
            .map(SignatureOctets)
            .map_err(signature::Error::from_source)
    }
}

impl signature::Keypair for X509Signer {
    type VerifyingKey = VerifyingKey;

    fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.signer.public_key().clone())
    }
}

impl DynSignatureAlgorithmIdentifier for X509Signer {
    fn signature_algorithm_identifier(&self) -> spki::Result<AlgorithmIdentifierOwned> {
        let (oid, parameters) = identifier(self.scheme).ok_or(spki::Error::KeyMalformed)?;
        let parameters = match parameters {
            Parameters::Null => Some(Any::null()),
            Parameters::Absent => None,
        };
        Ok(AlgorithmIdentifierOwned { oid, parameters })
    }
}

impl fmt::Debug for X509Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "X509Signer({:?}, {:?})", self.scheme, self.signer.public_key())
    }
}
