//! What a connector asks at a check-in, and what it is told.

use crate::command::{CommandReason, MAX_COMMANDS};
use crate::enrol::{TrustedKey, check_keys};
use crate::json::{Breach, Message, Sealed, V1, at_most, distinct};
use crate::possession::PossessionProof;
use crate::text::Text;
use crate::value::SoftwareVersion;
use core::fmt;
use scep_types::{
    CertificateFingerprint, CheckInNonce, ConnectorId, DeviceId, KeyId, LedgerId, NameHash,
    OrderId, ProfileId, SerialNumber, TenantId, Timestamp, UserId,
};
use serde::{Deserialize, Serialize};

/// The longest that an issuer may be asked to wait with its answer, in seconds.
pub const MAX_WAIT: u32 = 60;
/// Most denials in one answer, added and removed together.
pub const MAX_DENIALS: usize = 4000;
/// Most revocation orders in one answer; most results in one message.
pub const MAX_ORDERS: usize = 500;
/// Most keys of one kind that an answer adds, and most that it retires.
pub const MAX_KEY_CHANGES: usize = 8;
const MAX_RENEWALS: usize = 8;
const MAX_CERTIFICATES: usize = 32;
const MAX_PROOFS: usize = 4;

/// How a gateway finds itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// It issues.
    Serving,
    /// It issues, but something needs an operator.
    Degraded,
    /// It does not issue.
    Stopped,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificatePurpose {
    /// The connector's, at the issuer.
    Connector,
    /// The registration authority's, that signs replies.
    RaSigning,
    /// The registration authority's, that devices encrypt to.
    RaDecryption,
    /// One for both.
    Ra,
    /// The CA's.
    Ca,
    /// The SCEP endpoint's, for TLS.
    Tls,
}

/// When a certificate of the gateway ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateExpiry {
    /// What it is for.
    pub purpose: CertificatePurpose,
    /// Which.
    #[serde(with = "crate::text")]
    pub thumbprint_sha256: CertificateFingerprint,
    /// When it ends.
    #[serde(with = "crate::text")]
    pub not_after: Timestamp,
}

/// Certificates since the ledger was made. The three must agree in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    /// Recorded and releasable.
    pub issued: u64,
    /// Of these, whose reply got out.
    pub delivered: u64,
    /// Of these, whose event the issuer has acknowledged.
    pub reported: u64,
}

/// `POST /connector/v1/check-in`. At most 64 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckInRequest {
    /// The version.
    pub v: V1,
    /// Who asks: the same as in the certificate.
    #[serde(with = "crate::text")]
    pub connector: ConnectorId,
    /// Chosen anew for each request; comes back in the signed answer.
    #[serde(with = "crate::text")]
    pub nonce: CheckInNonce,
    /// The highest sequence that was accepted.
    pub last_sequence: u64,
    /// Up to where the denials are known; 0: not at all.
    pub denial_cursor: u64,
    /// For how long the issuer may wait for something to say, in seconds; at most [`MAX_WAIT`].
    pub wait_seconds: u32,
    /// The gateway's version.
    #[serde(with = "crate::text")]
    pub software: SoftwareVersion,
    /// The highest version of challenge blobs that it opens.
    pub challenge_version: u32,
    /// How it finds itself.
    pub health: Health,
    /// Why the last answer was refused, if it was.
    #[serde(with = "crate::text::option")]
    pub refused: Option<CommandReason>,
    /// Events that the issuer has not acknowledged.
    pub queue_depth: u64,
    /// When its certificates end; at most 32.
    pub certificates: Vec<CertificateExpiry>,
    /// What it has done.
    pub counters: Counters,
    /// Its ledger.
    #[serde(with = "crate::text")]
    pub ledger: LedgerId,
    /// The number of the last event in the ledger's outbox. Below what the issuer has acknowledged: a backup was
    /// restored.
    pub outbox_high_mark: u64,
    /// That it has the decryption keys of which the issuer has challenged possession; at most 4.
    pub possession: Vec<PossessionProof>,
}

impl Sealed for CheckInRequest {}

impl Message for CheckInRequest {
    const MAX_BYTES: usize = 64 << 10;

    fn check(&self) -> Result<(), Breach> {
        if self.wait_seconds > MAX_WAIT {
            let (got, max) = (u64::from(self.wait_seconds), u64::from(MAX_WAIT));
            return Err(Breach::Number { what: "wait_seconds", got, max });
        }
        at_most("certificates", self.certificates.len(), MAX_CERTIFICATES)?;
        at_most("proofs of possession", self.possession.len(), MAX_PROOFS)?;
        distinct("proof of possession", self.possession.iter().map(PossessionProof::key))
    }
}

/// Keys that begin to count, and keys that no longer do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyChanges {
    /// Trusted from now on, within their validity. One that is known already gets this validity.
    pub add: Vec<TrustedKey>,
    /// No longer trusted, from now on.
    #[serde(with = "crate::text::list")]
    pub retire: Vec<KeyId>,
}

impl KeyChanges {
    fn check(&self, what: &'static str) -> Result<(), Breach> {
        at_most(what, self.add.len(), MAX_KEY_CHANGES)?;
        at_most(what, self.retire.len(), MAX_KEY_CHANGES)?;
        check_keys(what, &self.add)?;
        distinct(what, self.add.iter().map(|k| k.key.key_id()).chain(self.retire.iter().copied()))
    }
}

/// Whom or what the issuer has disabled: `{"device": "..."}`, `{"user": "..."}` or `{"profile": "..."}`, of the
/// answer's tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DenialSubject {
    /// A device.
    Device(#[serde(with = "crate::text")] DeviceId),
    /// A user.
    User(#[serde(with = "crate::text")] UserId),
    /// A profile.
    Profile(#[serde(with = "crate::text")] ProfileId),
}

/// What has changed among the disabled.
///
/// To be applied where `from` is the connector's cursor, or 0. With 0 a new list begins: what was known before is
/// forgotten once `complete` is seen, and counts until then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenialChanges {
    /// The cursor that the changes start from; 0: the list from its beginning.
    pub from: u64,
    /// The cursor after them.
    pub to: u64,
    /// Disabled.
    pub added: Vec<DenialSubject>,
    /// No longer disabled.
    pub removed: Vec<DenialSubject>,
    /// Whether these are all there are. If not, the connector asks again at once.
    pub complete: bool,
}

impl DenialChanges {
    fn check(&self) -> Result<(), Breach> {
        let count = self.added.len().saturating_add(self.removed.len());
        at_most("denials", count, MAX_DENIALS)?;
        if self.to < self.from {
            return Err(Breach::Back { what: "denial cursor" });
        }
        distinct("denial", self.added.iter().chain(&self.removed))
    }
}

macro_rules! revocation_reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// Why a certificate is to be revoked: CRLReason of RFC 5280, 5.3.1, without certificateHold and
        /// removeFromCRL, since a revocation here is final.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum RevocationReason { $($(#[$doc])* $name,)* }

        impl RevocationReason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The standard's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The reason with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$name),)* _ => None }
            }
        }
    };
}

revocation_reasons! {
    /// No reason given.
    Unspecified = "unspecified";
    /// The private key is or may be in other hands.
    KeyCompromise = "keyCompromise";
    /// The CA's key is or may be in other hands.
    CaCompromise = "cACompromise";
    /// The subject's name or other contents are no longer right.
    AffiliationChanged = "affiliationChanged";
    /// Another certificate has taken its place.
    Superseded = "superseded";
    /// It is no longer needed.
    CessationOfOperation = "cessationOfOperation";
    /// A right that it states was withdrawn.
    PrivilegeWithdrawn = "privilegeWithdrawn";
    /// An attribute authority's key is or may be in other hands.
    AaCompromise = "aACompromise";
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Text for RevocationReason {
    const WHAT: &'static str = "a reason for a revocation";

    fn to_text(&self) -> String {
        self.name().to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        Self::from_name(text)
    }
}

/// One certificate to be revoked. Named by issuer and serial number and in no other way: a common name would revoke
/// what somebody else has issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationOrder {
    /// The order: the same however often it comes.
    #[serde(with = "crate::text")]
    pub order: OrderId,
    /// SHA-256 over the DER of the certificate's issuer Name.
    #[serde(with = "crate::text")]
    pub issuer: NameHash,
    /// The certificate's serial number.
    #[serde(with = "crate::text")]
    pub serial: SerialNumber,
    /// Why.
    #[serde(with = "crate::text")]
    pub reason: RevocationReason,
}

/// What a connector renews at the issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RenewalSubject {
    /// Its authentication key and certificate.
    Authentication,
    /// Its challenge-decryption key.
    Decryption,
}

/// A key of the connector to be renewed. (Near the end of a certificate it does so without being told.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewalOrder {
    /// The order: the same however often it comes.
    #[serde(with = "crate::text")]
    pub order: OrderId,
    /// Which key.
    pub subject: RenewalSubject,
    /// Until when.
    #[serde(with = "crate::text")]
    pub by: Timestamp,
}

/// How much a gateway logs. What would show keys, requests or challenges is no level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Failures.
    Error,
    /// And what may become one.
    Warn,
    /// And each request.
    Info,
    /// And each step.
    Debug,
}

/// Which ledger the issuer has bound the group to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LedgerBinding {
    /// The one in the request.
    This,
    /// Another: the gateway stops issuing, since single use cannot be told here.
    Another,
}

/// What the issuer has to say: the content of the signed answer to [`CheckInRequest`].
///
/// These are words. What has been verified is [`VerifiedCommands`](crate::VerifiedCommands), and a connector
/// does nothing without one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commands {
    /// The version.
    pub v: V1,
    /// Whose.
    #[serde(with = "crate::text")]
    pub tenant: TenantId,
    /// For which connector.
    #[serde(with = "crate::text")]
    pub connector: ConnectorId,
    /// The nonce of the request.
    #[serde(with = "crate::text")]
    pub nonce: CheckInNonce,
    /// Higher than in every earlier answer to this connector.
    pub sequence: u64,
    /// When it was signed.
    #[serde(with = "crate::text")]
    pub issued_at: Timestamp,
    /// Until when it counts: after `issued_at`, by at most ten minutes.
    #[serde(with = "crate::text")]
    pub expires_at: Timestamp,
    /// The keys that sign challenges.
    pub signer_keys: KeyChanges,
    /// The keys that sign these answers.
    pub command_keys: KeyChanges,
    /// The disabled.
    pub denials: DenialChanges,
    /// Certificates to be revoked; at most [`MAX_ORDERS`].
    pub revocations: Vec<RevocationOrder>,
    /// Keys of the connector to be renewed; at most 8.
    pub renewals: Vec<RenewalOrder>,
    /// How much to log; null: as configured.
    // Named, or serde would take a missing field for null.
    #[serde(deserialize_with = "Option::deserialize")]
    pub log_level: Option<LogLevel>,
    /// The last event that the issuer has, of the ledger in the request; 0: none.
    pub outbox_acknowledged: u64,
    /// Which ledger the group is bound to.
    pub ledger: LedgerBinding,
}

impl Sealed for Commands {}

impl Message for Commands {
    /// Room for the signature is left.
    const MAX_BYTES: usize = MAX_COMMANDS - 4096;

    fn check(&self) -> Result<(), Breach> {
        self.signer_keys.check("signer key")?;
        self.command_keys.check("command key")?;
        distinct(
            "key for challenges and commands",
            self.signer_keys.add.iter().chain(&self.command_keys.add).map(|key| key.key.key_id()),
        )?;
        self.denials.check()?;
        at_most("revocation orders", self.revocations.len(), MAX_ORDERS)?;
        at_most("renewal orders", self.renewals.len(), MAX_RENEWALS)?;
        let revocations = self.revocations.iter().map(|order| order.order);
        distinct("order", revocations.chain(self.renewals.iter().map(|order| order.order)))
    }
}
