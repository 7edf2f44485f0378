//! That a connector has the private half of its challenge-decryption key.
//!
//! A PKCS #10 would make a key sign that is meant only to decrypt, which a token may refuse and the separation of keys
//! forbids. So the issuer encrypts a secret to the key, exactly as it will encrypt challenges, and makes no challenge for
//! the key before the connector has told a hash of the secret. The proof is fresh, is the same for RSA and EC, and
//! shows that challenges will open.

use crate::statement::suitable;
use crate::text::{Octets, Text};
use scep_cms::{CmsError, Limits};
use scep_types::{
    ConnectorId, CryptoProvider, DecryptionKey, Fault, KeyAlgorithm, KeyError, KeyId, Secret,
    SpkiDer, TenantId,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

const SECRET_LEN: usize = 32;
const DOMAIN: &[u8] = b"sceptic possession 1\n";

const LIMITS: Limits = Limits {
    max_bytes: PossessionChallenge::MAX,
    max_depth: 16,
    max_nodes: 256,
    max_certificates: 0,
    max_attributes: 0,
    max_recipients: 1,
    max_iterations: 0,
};

/// 32 random octets, encrypted to the key whose possession is to be shown: the bare AuthEnvelopedData in which
/// challenges are encrypted, DER, at most 4 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PossessionChallenge(Vec<u8>);

impl PossessionChallenge {
    /// The longest allowed, in bytes.
    pub const MAX: usize = 4 << 10;

    /// The AuthEnvelopedData's DER.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }
}

impl Text for PossessionChallenge {
    const WHAT: &'static str = "an AuthEnvelopedData of at most 4 KiB in base64";

    fn to_text(&self) -> String {
        Octets(self.0.clone()).to_text()
    }

    fn from_text(text: &str) -> Option<Self> {
        let der = Octets::from_text(text)?.0;
        (!der.is_empty() && der.len() <= Self::MAX).then_some(Self(der))
    }
}

/// The hash in a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ProofHash([u8; 32]);

impl Text for ProofHash {
    const WHAT: &'static str = "a SHA-256 in lower-case hexadecimal";

    fn to_text(&self) -> String {
        hex::encode(self.0)
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

/// That the connector has opened a [`PossessionChallenge`].
///
/// ```text
/// proof = SHA-256( "sceptic possession 1" LF  tenant LF  connector (hex) LF  key id (hex) LF  secret (32 octets) )
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PossessionProof {
    /// Of which key.
    #[serde(with = "crate::text")]
    key: KeyId,
    #[serde(with = "crate::text")]
    proof: ProofHash,
}

impl PossessionProof {
    fn new(key: KeyId, tenant: &TenantId, connector: ConnectorId, secret: &[u8]) -> Self {
        let names = format!("{tenant}\n{connector}\n{key}\n");
        let hash = Sha256::new().chain_update(DOMAIN).chain_update(names).chain_update(secret);
        Self { key, proof: ProofHash(hash.finalize().into()) }
    }

    /// Of which key.
    #[must_use]
    pub const fn key(&self) -> KeyId {
        self.key
    }

    /// Whether it is the one that was expected. In constant time.
    #[must_use]
    pub fn is(&self, expected: &Self) -> bool {
        self.key == expected.key && bool::from(self.proof.0.ct_eq(&expected.proof.0))
    }
}

/// Why possession could not be challenged or proven.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PossessionError {
    /// Neither P-256 nor RSA of 2,048 to 4,096 bits.
    #[error("the decryption key is {0}; P-256 and RSA of 2,048 to 4,096 bits are allowed")]
    UnsuitableKey(KeyAlgorithm),
    /// For another key, or does not open.
    #[error("the challenge of possession: {0}")]
    Cms(CmsError),
    /// Opened, but not 32 octets.
    #[error("the challenge of possession has another content")]
    Content,
    /// A key or randomness of ours failed.
    #[error(transparent)]
    Key(KeyError),
}

impl PossessionError {
    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::UnsuitableKey(_) | Self::Cms(_) | Self::Content => Fault::PeerMessage,
            Self::Key(error) => error.fault(),
        }
    }
}

impl From<CmsError> for PossessionError {
    fn from(error: CmsError) -> Self {
        match error {
            CmsError::Key(error) => Self::Key(error),
            other => Self::Cms(other),
        }
    }
}

/// The issuer's side: a challenge for the connector, and the proof that it must answer with.
///
/// # Errors
/// When the key is unsuitable or not on its curve, or randomness fails.
pub fn challenge(
    provider: &dyn CryptoProvider,
    key: &SpkiDer,
    tenant: &TenantId,
    connector: ConnectorId,
) -> Result<(PossessionChallenge, PossessionProof), PossessionError> {
    if !suitable(key.algorithm()) {
        return Err(PossessionError::UnsuitableKey(key.algorithm()));
    }
    let mut secret = Secret::new(vec![0; SECRET_LEN]);
    provider.random(secret.expose_mut()).map_err(PossessionError::Key)?;
    let sealed = scep_cms::seal_auth(provider, key, secret.expose())?;
    let proof = PossessionProof::new(key.key_id(), tenant, connector, secret.expose());
    Ok((PossessionChallenge(sealed), proof))
}

/// The connector's side: opens the challenge and tells the hash of what was in it.
///
/// # Errors
/// When it is for another key or does not open, or the key fails.
pub fn prove(
    provider: &dyn CryptoProvider,
    challenge: &PossessionChallenge,
    key: &DecryptionKey,
    tenant: &TenantId,
    connector: ConnectorId,
) -> Result<PossessionProof, PossessionError> {
    let secret = scep_cms::open_auth(provider, challenge.as_der(), key, &LIMITS)?;
    if secret.expose().len() != SECRET_LEN {
        return Err(PossessionError::Content);
    }
    Ok(PossessionProof::new(key.public_key().key_id(), tenant, connector, secret.expose()))
}
