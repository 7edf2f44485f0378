//! How a gateway becomes known to the issuer.

use crate::answer::{Answer, Success};
use crate::json::{Breach, Message, Sealed, V1, distinct, some};
use crate::possession::PossessionChallenge;
use crate::value::{EnrolmentToken, Pkcs10Der, SoftwareVersion};
use scep_types::{
    CertificateDer, ConnectorId, GatewayGroupId, GatewayName, LedgerId, SpkiDer, SpkiHash,
    TenantId, Timestamp,
};
use serde::{Deserialize, Serialize};

/// Most keys of one kind, pins, and certificates of a chain.
const MAX_KEYS: usize = 8;

/// Whether other gateways may use the same ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LedgerKind {
    /// One gateway has it to itself (SQLite): the group has no other gateway.
    Single,
    /// The gateways of the group share it (PostgreSQL).
    Shared,
}

/// `POST /connector/v1/enrol`. At most 64 KiB.
///
/// What is written of it contains the token: it is for the connection and for nothing else.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// The version.
    pub v: V1,
    /// What permits it, once.
    #[serde(with = "crate::text")]
    pub token: EnrolmentToken,
    /// How the operator calls this gateway.
    #[serde(with = "crate::text")]
    pub gateway: GatewayName,
    /// Which group it wants to join. The token says which it may.
    #[serde(with = "crate::text")]
    pub group: GatewayGroupId,
    /// For the authentication key, signed by it; of its contents only the key counts.
    #[serde(with = "crate::text")]
    pub certificate_request: Pkcs10Der,
    /// The public half of the key that challenges are to be encrypted to. Possession is shown at the first check-in:
    /// see [`challenge`](crate::challenge).
    #[serde(with = "crate::text")]
    pub decryption_key: SpkiDer,
    /// The ledger's id.
    #[serde(with = "crate::text")]
    pub ledger: LedgerId,
    /// Its kind.
    pub ledger_kind: LedgerKind,
    /// The gateway's version.
    #[serde(with = "crate::text")]
    pub software: SoftwareVersion,
}

impl Sealed for EnrolRequest {}

impl Message for EnrolRequest {
    const MAX_BYTES: usize = 64 << 10;

    fn check(&self) -> Result<(), Breach> {
        Ok(())
    }
}

/// A key of the issuer that counts for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedKey {
    /// The key.
    #[serde(with = "crate::text")]
    pub key: SpkiDer,
    /// From when on its signatures count.
    #[serde(with = "crate::text")]
    pub not_before: Timestamp,
    /// Until when, inclusive.
    #[serde(with = "crate::text")]
    pub not_after: Timestamp,
}

pub(crate) fn check_keys(what: &'static str, keys: &[TrustedKey]) -> Result<(), Breach> {
    distinct(what, keys.iter().map(|key| key.key.key_id()))?;
    match keys.iter().find(|key| key.not_before >= key.not_after) {
        Some(_) => Err(Breach::NeverValid { what }),
        None => Ok(()),
    }
}

/// Whether the gateway is a member of its group already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Membership {
    /// It is.
    Confirmed,
    /// An operator of the tenant must confirm it. Until then no challenge is made for its key.
    AwaitingOperator,
}

/// The answer to [`EnrolRequest`]. At most 256 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolResponse {
    /// The version.
    pub v: V1,
    /// `Success`, and nothing else.
    pub code: Success,
    /// The connector's id from now on.
    #[serde(with = "crate::text")]
    pub connector: ConnectorId,
    /// The tenant.
    #[serde(with = "crate::text")]
    pub tenant: TenantId,
    /// The group.
    #[serde(with = "crate::text")]
    pub group: GatewayGroupId,
    /// Whether the gateway is in the group already.
    pub membership: Membership,
    /// The certificate of the authentication key, and those above it: 1 to 8, the connector's first.
    #[serde(with = "crate::text::list")]
    pub certificate_chain: Vec<CertificateDer>,
    /// The keys that the issuer's TLS certificate may have: 1 to 8. From now on no other is spoken to.
    #[serde(with = "crate::text::list")]
    pub tls_pins: Vec<SpkiHash>,
    /// The keys that sign challenges: 1 to 8.
    pub signer_keys: Vec<TrustedKey>,
    /// The keys that sign the answers to check-ins: 1 to 8, none of them a signer key.
    pub command_keys: Vec<TrustedKey>,
    /// The sequence that the last answer is taken to have had: the first to be accepted is above it.
    pub last_sequence: u64,
    /// To be opened with the decryption key.
    #[serde(with = "crate::text")]
    pub possession_challenge: PossessionChallenge,
}

impl Sealed for EnrolResponse {}

impl Message for EnrolResponse {
    const MAX_BYTES: usize = 256 << 10;

    fn check(&self) -> Result<(), Breach> {
        some("certificates", self.certificate_chain.len(), MAX_KEYS)?;
        some("TLS pins", self.tls_pins.len(), MAX_KEYS)?;
        some("signer keys", self.signer_keys.len(), MAX_KEYS)?;
        some("command keys", self.command_keys.len(), MAX_KEYS)?;
        check_keys("signer key", &self.signer_keys)?;
        check_keys("command key", &self.command_keys)?;
        distinct(
            "key for challenges and commands",
            self.signer_keys.iter().chain(&self.command_keys).map(|key| key.key.key_id()),
        )
    }
}

impl Answer for EnrolResponse {}
