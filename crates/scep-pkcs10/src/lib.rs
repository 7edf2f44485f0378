//! PKCS #10 certification requests (RFC 2986). STUB: signatures fixed, bodies to come.
#![allow(unused_variables, clippy::todo, clippy::missing_errors_doc)]
use scep_types::{
    CryptoProvider, CsrInfoHash, DistinguishedName, ExtendedKeyUsages, GeneralName, KeyError,
    KeyUsages, ObjectIdentifier, Reason, Secret, SignatureScheme, Signer, SpkiDer, SpkiHash,
    StringRules, tlv::TlvError,
};
use thiserror::Error;

/// What is accepted.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Longest request, octets. 64 KiB.
    pub max_bytes: usize,
    /// String types in names.
    pub strings: StringRules,
    /// Smallest RSA modulus, bits (2048), and largest (8192).
    pub rsa_bits: (u32, u32),
    /// SHA-1 self-signatures (legacy endpoints).
    pub sha1: bool, // to become a named enum
}
impl Default for Rules {
    fn default() -> Self {
        todo!()
    }
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CsrError {
    /// Malformed.
    #[error("malformed request: {0}")]
    Malformed(#[from] TlvError),
    // ... one variant per cause, refined by the implementation
}
impl CsrError {
    /// The reason it is reported under.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        todo!()
    }
}

/// A parsed request whose signature has not been verified.
#[derive(Debug)]
pub struct UnprovenCsr(());
impl UnprovenCsr {
    /// Parses strictly. `der` is kept as received.
    pub fn parse(der: &[u8], rules: &Rules) -> Result<Self, CsrError> {
        todo!()
    }
    /// Verifies the request's signature by its own key.
    pub fn prove(self, provider: &dyn CryptoProvider) -> Result<Csr, CsrError> {
        todo!()
    }
    /// The key asked for, before it is proven.
    #[must_use]
    pub fn spki(&self) -> &SpkiDer {
        todo!()
    }
}

/// A request signed by the key it asks to certify. Cannot be made otherwise.
#[derive(Debug)]
pub struct Csr(());
impl Csr {
    /// As received.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        todo!()
    }
    /// Hash of the CertificationRequestInfo as received.
    #[must_use]
    pub fn info_hash(&self) -> CsrInfoHash {
        todo!()
    }
    /// The key.
    #[must_use]
    pub fn spki(&self) -> &SpkiDer {
        todo!()
    }
    /// The subject; may be empty.
    #[must_use]
    pub fn subject(&self) -> &DistinguishedName {
        todo!()
    }
    /// The subjectAltNames; empty when there is no such extension.
    #[must_use]
    pub fn subject_alt_names(&self) -> &[GeneralName] {
        todo!()
    }
    /// KeyUsage, when present.
    #[must_use]
    pub fn key_usage(&self) -> Option<KeyUsages> {
        todo!()
    }
    /// ExtKeyUsage, when present and not empty.
    #[must_use]
    pub fn extended_key_usages(&self) -> Option<&ExtendedKeyUsages> {
        todo!()
    }
    /// Every other extension that is not inert: OID, criticality, contents of extnValue.
    #[must_use]
    pub fn other_extensions(&self) -> &[RequestedExtension] {
        todo!()
    }
    /// Attributes that are neither extensionRequest, challengePassword nor known inert.
    #[must_use]
    pub fn other_attributes(&self) -> &[ObjectIdentifier] {
        todo!()
    }
    /// Inert content that was present and discarded (for `hook`, which allows none): OIDs.
    #[must_use]
    pub fn inert(&self) -> &[ObjectIdentifier] {
        todo!()
    }
    /// The challengePassword; blank counts as absent.
    #[must_use]
    pub fn challenge_password(&self) -> Option<&Secret<String>> {
        todo!()
    }
}

/// An extension asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedExtension {
    /// extnID.
    pub oid: ObjectIdentifier,
    /// critical.
    pub critical: bool,
    /// extnValue's contents.
    pub value: Vec<u8>,
}

/// Refuses weak keys: size outside `rules`, exponent, small factors, ROCA, close primes, or one of `ours`.
pub fn check_key(key: &SpkiDer, rules: &Rules, ours: &[SpkiHash]) -> Result<(), CsrError> {
    todo!()
}

/// What a request is made of.
#[derive(Debug, Default)]
pub struct CsrBuilder {
    /// Subject.
    pub subject: DistinguishedName,
    /// subjectAltNames, none: no extension.
    pub subject_alt_names: Vec<GeneralName>,
    /// KeyUsage.
    pub key_usage: Option<KeyUsages>,
    /// ExtKeyUsage.
    pub extended_key_usages: Option<ExtendedKeyUsages>,
    /// Further extensions.
    pub extensions: Vec<RequestedExtension>,
    /// challengePassword: PrintableString where it fits, else UTF8String.
    pub challenge_password: Option<Secret<String>>,
    /// Further attributes, DER of each whole Attribute.
    pub attributes: Vec<Vec<u8>>,
}
impl CsrBuilder {
    /// Builds and signs. Returns DER.
    pub fn sign(&self, key: &dyn Signer, scheme: SignatureScheme) -> Result<Vec<u8>, KeyError> {
        todo!()
    }
}
