//! Signed statements: CMS SignedData over a line that says what it is, and a JSON object.

use scep_cms::{CmsError, Limits, SignedData, SignerId, ToSign};
use scep_types::{
    CryptoProvider, KeyAlgorithm, ObjectIdentifier, SignatureScheme, Signer, SpkiDer, tlv::TlvError,
};

/// id-data. A content type of our own would need an arc of our own: there is no registered one, and one under
/// 2.25 has a number of 128 bits, which common libraries do not read. So the first line of the content says what the
/// statement is. Nothing else that any of these keys signs begins so.
const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");

/// What a statement is about: its first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Domain(pub(crate) &'static [u8]);

/// The answer to a check-in.
pub(crate) const COMMANDS: Domain = Domain(b"sceptic commands 1\n");
/// A connector's word for its next key.
pub(crate) const RENEWAL: Domain = Domain(b"sceptic renewal 1\n");

/// One signer, no certificates, few and shallow values.
const fn limits(max_bytes: usize) -> Limits {
    Limits {
        max_bytes,
        max_depth: 16,
        max_nodes: 256,
        max_certificates: 0,
        max_attributes: 2,
        max_recipients: 0,
        max_iterations: 0,
    }
}

/// Whether a key may sign here, or decrypt challenges: P-256, or RSA of 2,048 to 4,096 bits.
pub(crate) const fn suitable(algorithm: KeyAlgorithm) -> bool {
    match algorithm {
        KeyAlgorithm::P256 => true,
        KeyAlgorithm::Rsa(bits) => bits >= 2048 && bits <= 4096,
        KeyAlgorithm::P384 => false,
    }
}

pub(crate) fn sign(domain: Domain, json: &[u8], key: &dyn Signer) -> Result<Vec<u8>, CmsError> {
    scep_cms::sign(
        key,
        &ToSign {
            content_type: DATA,
            content: &[domain.0, json].concat(),
            attributes: &[],
            certificates: &[],
            signer_id: SignerId::KeyId,
            scheme: SignatureScheme::default_for(key.public_key().algorithm()),
        },
    )
}

/// Why bytes are no statement of a key.
#[derive(Debug)]
pub(crate) enum Refused {
    Oversize,
    TrailingBytes,
    Cms(CmsError),
    SignerUnknown,
    SignatureInvalid,
    OtherDomain,
}

impl From<CmsError> for Refused {
    fn from(error: CmsError) -> Self {
        match error {
            CmsError::Limit { what: "octets", .. } => Self::Oversize,
            CmsError::Malformed(TlvError::Trailing { .. }) => Self::TrailingBytes,
            CmsError::SignerUnknown => Self::SignerUnknown,
            CmsError::SignatureInvalid => Self::SignatureInvalid,
            other => Self::Cms(other),
        }
    }
}

/// A parsed statement, not yet verified.
pub(crate) struct Statement(SignedData);

impl Statement {
    pub(crate) fn parse(bytes: &[u8], max_bytes: usize) -> Result<Self, Refused> {
        Ok(Self(SignedData::parse(bytes, &limits(max_bytes))?))
    }

    /// The key id that it names.
    pub(crate) fn signer(&self) -> Option<&[u8]> {
        self.0.signer_key_id()
    }

    /// The JSON that this key has signed under this domain.
    pub(crate) fn verify(
        self,
        domain: Domain,
        key: &SpkiDer,
        provider: &dyn CryptoProvider,
    ) -> Result<Vec<u8>, Refused> {
        let verified = self.0.verify_pinned(provider, &[key])?;
        if verified.content_type() != DATA {
            return Err(Refused::OtherDomain);
        }
        let json = verified.content().strip_prefix(domain.0).ok_or(Refused::OtherDomain)?;
        Ok(json.to_vec())
    }
}
