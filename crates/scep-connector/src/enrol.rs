//! How a gateway becomes known to the issuer: one request with a one-time token.

use crate::ConnectorError;
use crate::keys::KeyStore;
use crate::settings::{IssuerAddress, Proxy};
use crate::state::{State, StateFile};
use scep_ledger::Ledger;
use scep_link::{EnrolmentToken, LedgerKind, Membership};
use scep_types::{Clock, CryptoProvider, GatewayGroupId, GatewayName, KeyId, SpkiHash};

/// What an enrolment needs.
#[derive(Debug)]
pub struct EnrolOptions {
    /// Where the issuer is.
    pub issuer: IssuerAddress,
    /// Through which proxy.
    pub proxy: Option<Proxy>,
    /// SHA-256 over the SubjectPublicKeyInfo of the issuer's TLS key; came with the token.
    pub issuer_fingerprint: SpkiHash,
    /// The token.
    pub token: EnrolmentToken,
    /// The gateway's name within its group.
    pub gateway: GatewayName,
    /// The group that it is to join.
    pub group: GatewayGroupId,
    /// The decryption key that is there already: that of the group, imported, or that of an earlier enrolment. `None`
    /// makes a new one.
    pub decryption_key: Option<KeyId>,
    /// Whether several gateways can share the ledger.
    pub ledger_kind: LedgerKind,
    /// The gateway's version.
    pub software: String,
}

/// What came of it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Enrolled {
    /// As it was made durable.
    pub state: State,
    /// Whether an operator of the tenant has to confirm.
    pub membership: Membership,
}

/// Enrols. Safe to repeat with the same token after a crash or a lost answer: the same keys are used again, and the
/// issuer gives the same identity. Enrolling a gateway anew keeps its ledger.
///
/// # Errors
/// When the issuer cannot be reached, is another one than the fingerprint says, refuses, or the state cannot be kept.
pub async fn enrol(
    options: EnrolOptions,
    state: &StateFile,
    keys: &dyn KeyStore,
    ledger: &Ledger,
    provider: &dyn CryptoProvider,
    clock: &dyn Clock,
) -> Result<Enrolled, ConnectorError> {
    let _ = (options, state, keys, ledger, provider, clock);
    todo!()
}
