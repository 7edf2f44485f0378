//! The CMS verbs (RFC 5652) that SCEP and the challenge blob need. STUB: signatures fixed, bodies to come.
#![warn(clippy::arithmetic_side_effects)]
#![allow(unused_variables, clippy::todo, clippy::missing_errors_doc)]

use scep_types::{
    CertificateDer, CryptoProvider, DecryptionKey, KeyError, KeyId, ObjectIdentifier, RsaPadding,
    Secret, SignatureScheme, Signer, SpkiDer, tlv::TlvError,
};
use std::borrow::Cow;
use thiserror::Error;

/// Upper bounds on what is read from a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest input, octets. 256 KiB.
    pub max_bytes: usize,
    /// Deepest nesting. 32.
    pub max_depth: usize,
    /// Most tag-length-values in one input. 8192.
    pub max_nodes: usize,
    /// Most certificates in a SignedData. 10.
    pub max_certificates: usize,
    /// Most signed attributes. 32.
    pub max_attributes: usize,
    /// Most recipients of an envelope. 8.
    pub max_recipients: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 256 << 10,
            max_depth: 32,
            max_nodes: 8192,
            max_certificates: 10,
            max_attributes: 32,
            max_recipients: 8,
        }
    }
}

/// Whether SHA-1 signatures and 3DES content encryption are served. DES and MD5 never are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LegacyAlgorithms {
    /// Refused, with an error that names the algorithm.
    #[default]
    Refuse,
    /// Served.
    Accept,
}

/// BER intake.
pub mod ber {
    use super::*;
    /// Turns BER (indefinite and non-minimal lengths, constructed OCTET STRINGs, constructed implicit `[0]` of
    /// EncryptedContentInfo) into definite, minimal lengths. SET OF order is kept. DER passes through unchanged and
    /// without a copy.
    pub fn normalize<'a>(input: &'a [u8], limits: &Limits) -> Result<Cow<'a, [u8]>, CmsError> {
        todo!()
    }
}

/// Why a CMS structure was refused. (Variants to be refined by the implementation.)
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CmsError {
    /// Not the expected structure.
    #[error("malformed: {0}")]
    Malformed(#[from] TlvError),
    /// A limit was passed.
    #[error("{what}: more than {max}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// Well-formed, but not what is allowed here.
    #[error("{what} at byte {at}")]
    Structure {
        /// What is wrong.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// An algorithm that is not served. `name` is the field's name of it (`des-cbc`, `md5`), or its dotted OID.
    #[error("algorithm {name} is not supported for {role}")]
    Algorithm {
        /// What it was used for.
        role: &'static str,
        /// Its name or dotted OID.
        name: String,
    },
    /// Signature or message digest is wrong.
    #[error("the signature does not verify")]
    SignatureInvalid,
    /// The signer is none of the pinned keys.
    #[error("the signer is not pinned")]
    SignerUnknown,
    /// No recipient names our key.
    #[error("the envelope is not for this key")]
    NotForUs,
    /// The envelope does not open: padding, key length, tag, content. One value for all, on purpose.
    #[error("the envelope does not open")]
    DoesNotOpen,
    /// A key or randomness failed on our side.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A parsed, not yet verified SignedData.
#[derive(Debug)]
pub struct SignedData(());

impl SignedData {
    /// Parses a ContentInfo of SignedData in DER (for BER, [`ber::normalize`] first).
    pub fn parse(der: &[u8], limits: &Limits) -> Result<Self, CmsError> {
        todo!()
    }
    /// The certificates, in the order sent.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer] {
        todo!()
    }
    /// Verifies by the embedded certificate that the one SignerInfo names. Trusts nobody: whose certificate
    /// it is, is for the caller to judge.
    pub fn verify(
        self,
        provider: &dyn CryptoProvider,
        legacy: LegacyAlgorithms,
    ) -> Result<VerifiedSignedData, CmsError> {
        todo!()
    }
    /// Verifies a SignedData without certificates whose sid is the SubjectKeyIdentifier of one of `pinned`; the scheme
    /// is fixed by the pinned key ([`SignatureScheme::default_for`]). Strict: signedAttrs exactly contentType and
    /// messageDigest.
    pub fn verify_pinned(
        self,
        provider: &dyn CryptoProvider,
        pinned: &[&SpkiDer],
    ) -> Result<VerifiedSignedData, CmsError> {
        todo!()
    }
    /// The SubjectKeyIdentifier that the one SignerInfo names, when it names one.
    #[must_use]
    pub fn signer_key_id(&self) -> Option<&[u8]> {
        todo!()
    }
    /// The certificates of a degenerate (certs-only) SignedData: no signer, no content. First the order sent.
    pub fn into_certs_only(self) -> Result<Vec<CertificateDer>, CmsError> {
        todo!()
    }
    /// The CRLs (DER) of a degenerate SignedData.
    pub fn into_crls_only(self) -> Result<Vec<Vec<u8>>, CmsError> {
        todo!()
    }
}

/// A SignedData whose one signature was verified. Cannot be made otherwise.
#[derive(Debug)]
pub struct VerifiedSignedData(());

impl VerifiedSignedData {
    /// The eContentType, equal to the contentType attribute.
    #[must_use]
    pub fn content_type(&self) -> ObjectIdentifier {
        todo!()
    }
    /// The eContent octets whose digest was verified; empty when absent or zero-length (FAILURE, PENDING replies).
    #[must_use]
    pub fn content(&self) -> &[u8] {
        todo!()
    }
    /// The key that verified it.
    #[must_use]
    pub fn signer_key(&self) -> &SpkiDer {
        todo!()
    }
    /// The certificate that the signer was resolved to, if by certificate.
    #[must_use]
    pub fn signer_certificate(&self) -> Option<&CertificateDer> {
        todo!()
    }
    /// All certificates, in the order sent.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer] {
        todo!()
    }
    /// The DER of the one value of the signed attribute with this type. Signed attributes are unique and
    /// single-valued: that was checked.
    #[must_use]
    pub fn attribute(&self, oid: &ObjectIdentifier) -> Option<&[u8]> {
        todo!()
    }
    /// How it was signed (the reply's digest mirrors it).
    #[must_use]
    pub fn scheme(&self) -> SignatureScheme {
        todo!()
    }
}

/// Who a SignedData says has signed it.
#[derive(Debug)]
pub enum SignerId<'a> {
    /// issuerAndSerialNumber of this certificate, which is embedded.
    Certificate(&'a CertificateDer),
    /// SubjectKeyIdentifier: our key id of the signer's key. Nothing embedded.
    KeyId,
}

/// What goes into a signed message besides its signature.
#[derive(Debug)]
pub struct ToSign<'a> {
    /// eContentType.
    pub content_type: ObjectIdentifier,
    /// eContent octets; empty makes a zero-length OCTET STRING (peers need it in FAILURE and PENDING).
    pub content: &'a [u8],
    /// Further signed attributes: type, and the DER of the one value. contentType and messageDigest are added.
    pub attributes: &'a [(ObjectIdentifier, Vec<u8>)],
    /// Further certificates to embed after the signer's.
    pub certificates: &'a [CertificateDer],
    /// Who signs.
    pub signer_id: SignerId<'a>,
    /// How. For RSA PKCS#1 v1.5 the SignerInfo's signatureAlgorithm is written as `rsaEncryption`.
    pub scheme: SignatureScheme,
}

/// Signs: one private-key operation. Returns the ContentInfo's DER.
pub fn sign(signer: &dyn Signer, what: &ToSign<'_>) -> Result<Vec<u8>, CmsError> {
    todo!()
}

/// A degenerate SignedData (RFC 8894, 3.4) with the certificates in the order given.
#[must_use]
pub fn certs_only(certificates: &[CertificateDer]) -> Vec<u8> {
    todo!()
}

/// A degenerate SignedData with one CRL (DER).
#[must_use]
pub fn crl_only(crl: &[u8]) -> Vec<u8> {
    todo!()
}

/// Content encryption of an EnvelopedData.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentEncryption {
    /// AES-128-CBC.
    Aes128Cbc,
    /// AES-192-CBC.
    Aes192Cbc,
    /// AES-256-CBC.
    Aes256Cbc,
    /// Three-key 3DES-CBC, on legacy endpoints.
    DesEde3Cbc,
}

/// Our key as a recipient: what a RecipientInfo may name, and the key that opens.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// The certificate that devices encrypt to.
    pub certificate: CertificateDer,
    /// Its key.
    pub key: DecryptionKey,
}

/// A parsed EnvelopedData.
#[derive(Debug)]
pub struct EnvelopedData(());

/// What came out of an envelope, and how the reply should be made.
#[derive(Debug)]
pub struct Opened {
    /// The plaintext.
    pub plaintext: Secret<Vec<u8>>,
    /// How the content key was transported.
    pub padding: RsaPadding,
    /// How the content was encrypted.
    pub content_encryption: ContentEncryption,
    /// Which of the recipients given opened it.
    pub recipient: usize,
}

impl EnvelopedData {
    /// Parses a ContentInfo of EnvelopedData (for BER, [`ber::normalize`] first). Algorithms are checked here, before
    /// any private-key operation; so are the counts.
    pub fn parse(der: &[u8], limits: &Limits, legacy: LegacyAlgorithms) -> Result<Self, CmsError> {
        todo!()
    }
    /// Opens it with the one recipient that is named: exactly one private-key operation. Bad key transport goes on
    /// with a random content key, so that every failure is [`CmsError::DoesNotOpen`] after the same work.
    pub fn open(
        &self,
        ours: &[Recipient],
        provider: &dyn CryptoProvider,
    ) -> Result<Opened, CmsError> {
        todo!()
    }
    /// The encryption algorithms, known before opening.
    #[must_use]
    pub fn content_encryption(&self) -> ContentEncryption {
        todo!()
    }
}

/// Encrypts to the RSA keys of certificates (issuerAndSerialNumber), content type id-data. Returns the ContentInfo's DER.
pub fn seal(
    provider: &dyn CryptoProvider,
    recipients: &[&CertificateDer],
    padding: RsaPadding,
    encryption: ContentEncryption,
    plaintext: &[u8],
) -> Result<Vec<u8>, CmsError> {
    todo!()
}

/// Encrypts to one key (RSA: OAEP-SHA-256; P-256: dhSinglePass-stdDH-sha256kdf with aes256-wrap, no ukm), recipient by
/// SubjectKeyIdentifier, AES-256-GCM with a 12-byte nonce and a 16-byte ICV. Returns the bare AuthEnvelopedData's DER (no ContentInfo).
pub fn seal_auth(
    provider: &dyn CryptoProvider,
    recipient: &SpkiDer,
    plaintext: &[u8],
) -> Result<Vec<u8>, CmsError> {
    todo!()
}

/// Opens a bare AuthEnvelopedData of exactly that form, for this one key. Strict DER.
pub fn open_auth(
    provider: &dyn CryptoProvider,
    der: &[u8],
    key: &DecryptionKey,
    limits: &Limits,
) -> Result<Secret<Vec<u8>>, CmsError> {
    todo!()
}

/// The key id that a bare AuthEnvelopedData names as its one recipient.
pub fn auth_recipient(der: &[u8], limits: &Limits) -> Result<KeyId, CmsError> {
    todo!()
}
