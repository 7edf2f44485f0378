//! The connector's next keys, vouched for by its present one.
//!
//! The connection is authenticated by the present key already (mTLS). It may end at a proxy of the issuer's, though, and the
//! key that challenges are encrypted to is worth more than a proxy: so the present authentication key signs
//! each request, whatever carries it.

use crate::answer::{Answer, Success};
use crate::check_in::RenewalSubject;
use crate::command::{MAX_SKEW, SealError};
use crate::json::{self, Breach, Message, MessageError, Sealed, V1, some};
use crate::possession::PossessionChallenge;
use crate::statement::{self, RENEWAL, Refused, Statement, suitable};
use crate::text::Text;
use crate::value::Pkcs10Der;
use core::time::Duration;
use scep_cms::CmsError;
use scep_types::{
    CertificateDer, ConnectorId, CryptoProvider, Fault, KeyId, Signer, SpkiDer, TenantId, Timestamp,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The longest signed statement, octets of DER.
const MAX_STATEMENT: usize = 4 << 10;
/// How long a statement counts.
const LIFETIME: Duration = Duration::from_secs(10 * 60);

/// What is to take the place of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Renewal {
    /// A new authentication key, by a PKCS #10 that it has signed itself.
    Authentication {
        /// The request.
        #[serde(with = "crate::text")]
        certificate_request: Pkcs10Der,
    },
    /// A new challenge-decryption key; its possession is shown at the next check-in.
    Decryption {
        /// Its public half.
        #[serde(with = "crate::text")]
        key: SpkiDer,
    },
}

impl Renewal {
    /// Which of the connector's keys.
    #[must_use]
    pub const fn subject(&self) -> RenewalSubject {
        match self {
            Self::Authentication { .. } => RenewalSubject::Authentication,
            Self::Decryption { .. } => RenewalSubject::Decryption,
        }
    }

    fn hash(&self) -> Hash {
        let der = match self {
            Self::Authentication { certificate_request } => certificate_request.as_der(),
            Self::Decryption { key } => key.as_der(),
        };
        Hash(Sha256::digest(der).into())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hash([u8; 32]);

impl Text for Hash {
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

/// What the present authentication key signs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RenewalStatement {
    v: V1,
    #[serde(with = "crate::text")]
    tenant: TenantId,
    #[serde(with = "crate::text")]
    connector: ConnectorId,
    subject: RenewalSubject,
    /// Over the DER of the request or of the key.
    #[serde(with = "crate::text")]
    sha256: Hash,
    #[serde(with = "crate::text")]
    issued_at: Timestamp,
}

impl Sealed for RenewalStatement {}

impl Message for RenewalStatement {
    const MAX_BYTES: usize = MAX_STATEMENT;

    fn check(&self) -> Result<(), Breach> {
        Ok(())
    }
}

/// `POST /connector/v1/renew`. At most 64 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// The version.
    pub v: V1,
    /// Who asks.
    #[serde(with = "crate::text")]
    pub connector: ConnectorId,
    /// What is to be renewed.
    pub renewal: Renewal,
    /// The present authentication key's word for it, CMS.
    #[serde(with = "crate::text::octets")]
    statement: Vec<u8>,
}

impl Sealed for RenewRequest {}

impl Message for RenewRequest {
    const MAX_BYTES: usize = 64 << 10;

    fn check(&self) -> Result<(), Breach> {
        some("octets in the statement", self.statement.len(), MAX_STATEMENT)
    }
}

/// A request for a certificate of a new authentication key. `present` is the authentication key in use.
///
/// # Errors
/// When the present key is unsuitable or cannot sign.
pub fn renew_authentication(
    tenant: &TenantId,
    connector: ConnectorId,
    certificate_request: Pkcs10Der,
    present: &dyn Signer,
    now: Timestamp,
) -> Result<RenewRequest, SealError> {
    renew(tenant, connector, Renewal::Authentication { certificate_request }, present, now)
}

/// A request to encrypt challenges to a new key. `present` is the authentication key in use.
///
/// # Errors
/// When a key is unsuitable, or the present one cannot sign.
pub fn renew_decryption(
    tenant: &TenantId,
    connector: ConnectorId,
    key: SpkiDer,
    present: &dyn Signer,
    now: Timestamp,
) -> Result<RenewRequest, SealError> {
    if !suitable(key.algorithm()) {
        return Err(SealError::UnsuitableKey(key.algorithm()));
    }
    renew(tenant, connector, Renewal::Decryption { key }, present, now)
}

fn renew(
    tenant: &TenantId,
    connector: ConnectorId,
    renewal: Renewal,
    present: &dyn Signer,
    now: Timestamp,
) -> Result<RenewRequest, SealError> {
    let algorithm = present.public_key().algorithm();
    if !suitable(algorithm) {
        return Err(SealError::UnsuitableKey(algorithm));
    }
    let statement = RenewalStatement {
        v: V1,
        tenant: tenant.clone(),
        connector,
        subject: renewal.subject(),
        sha256: renewal.hash(),
        issued_at: now,
    };
    let statement = statement::sign(RENEWAL, &json::write(&statement)?, present)?;
    Ok(RenewRequest { v: V1, connector, renewal, statement })
}

/// Why a renewal was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RenewalError {
    /// The request or the statement is of another connector or tenant.
    #[error("the renewal is another connector's")]
    Connector,
    /// The statement is no SignedData of the one form.
    #[error("the statement: {0}")]
    Statement(#[source] CmsError),
    /// The statement is too long, or has octets after its end.
    #[error("the statement has another length than it says or may have")]
    Length,
    /// The statement is not by the connector's present key, or was altered.
    #[error("the statement is not by the connector's present key")]
    NotByPresentKey,
    /// What was signed is no statement for a renewal.
    #[error("what was signed is no renewal")]
    NotRenewal,
    /// What was signed is not the JSON of a statement.
    #[error("the statement: {0}")]
    Message(#[source] MessageError),
    /// The statement is for another request or key than the one it came with.
    #[error("the statement is for another key")]
    OtherKey,
    /// The statement is too old, or of the future.
    #[error("the statement is of {issued_at}; now is {now}")]
    NotNow {
        /// When it was signed.
        issued_at: Timestamp,
        /// The present instant.
        now: Timestamp,
    },
    /// The new key is neither P-256 nor RSA of 2,048 to 4,096 bits.
    #[error("the new key is not suitable")]
    UnsuitableKey,
    /// The new key is the present authentication key.
    #[error("the new key is the present authentication key")]
    SameKey,
}

impl RenewalError {
    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Statement(_) | Self::Length | Self::Message(_) | Self::UnsuitableKey => {
                Fault::PeerMessage
            }
            Self::Connector
            | Self::NotByPresentKey
            | Self::NotRenewal
            | Self::OtherKey
            | Self::NotNow { .. }
            | Self::SameKey => Fault::PeerRights,
        }
    }
}

impl From<Refused> for RenewalError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Oversize | Refused::TrailingBytes => Self::Length,
            Refused::Cms(error) => Self::Statement(error),
            Refused::SignerUnknown | Refused::SignatureInvalid => Self::NotByPresentKey,
            Refused::OtherDomain => Self::NotRenewal,
        }
    }
}

/// A renewal that the connector's present key has vouched for. Cannot be made in any other way than by
/// [`ProvenRenewal::check`]; no Clone. The new authentication key's own proof is the PKCS #10's signature, which is
/// for `scep-pkcs10` to verify; the new decryption key's is a [`challenge`](crate::challenge).
#[derive(Debug)]
pub struct ProvenRenewal {
    renewal: Renewal,
}

impl ProvenRenewal {
    /// Checks a request of the connector whose present authentication key this is.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn check(
        request: RenewRequest,
        tenant: &TenantId,
        connector: ConnectorId,
        present: &SpkiDer,
        now: Timestamp,
        provider: &dyn CryptoProvider,
    ) -> Result<Self, RenewalError> {
        if request.connector != connector {
            return Err(RenewalError::Connector);
        }
        let statement = Statement::parse(&request.statement, MAX_STATEMENT)?;
        let signed = statement.verify(RENEWAL, present, provider)?;
        let signed: RenewalStatement = json::read(&signed).map_err(RenewalError::Message)?;
        if signed.tenant != *tenant || signed.connector != connector {
            return Err(RenewalError::Connector);
        }
        let renewal = request.renewal;
        if signed.subject != renewal.subject() || signed.sha256 != renewal.hash() {
            return Err(RenewalError::OtherKey);
        }
        let issued_at = signed.issued_at;
        if issued_at > now.plus(MAX_SKEW) || now >= issued_at.plus(LIFETIME) {
            return Err(RenewalError::NotNow { issued_at, now });
        }
        if let Renewal::Decryption { key } = &renewal {
            if !suitable(key.algorithm()) {
                return Err(RenewalError::UnsuitableKey);
            }
            if key.key_id() == present.key_id() {
                return Err(RenewalError::SameKey);
            }
        }
        Ok(Self { renewal })
    }

    /// What is to be renewed.
    #[must_use]
    pub const fn renewal(&self) -> &Renewal {
        &self.renewal
    }
}

/// What has been renewed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Renewed {
    /// The authentication key. The old certificate is revoked when the new one is first used.
    Authentication {
        /// The new certificate, and those above it: 1 to 8.
        #[serde(with = "crate::text::list")]
        certificate_chain: Vec<CertificateDer>,
    },
    /// The decryption key. Challenges are encrypted to it once possession is shown.
    Decryption {
        /// Which.
        #[serde(with = "crate::text")]
        key: KeyId,
        /// To be opened with it.
        #[serde(with = "crate::text")]
        possession_challenge: PossessionChallenge,
    },
}

/// The answer to [`RenewRequest`]. At most 128 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewResponse {
    /// The version.
    pub v: V1,
    /// `Success`, and nothing else.
    pub code: Success,
    /// What has been renewed.
    pub renewed: Renewed,
}

impl Sealed for RenewResponse {}

impl Message for RenewResponse {
    const MAX_BYTES: usize = 128 << 10;

    fn check(&self) -> Result<(), Breach> {
        match &self.renewed {
            Renewed::Authentication { certificate_chain } => {
                some("certificates", certificate_chain.len(), 8)
            }
            Renewed::Decryption { .. } => Ok(()),
        }
    }
}

impl Answer for RenewResponse {}
