//! What the ledger tells about certificates, denials and itself.

use core::fmt;
use scep_types::{
    AuthorityName, CertificateDer, CertificateFingerprint, ChallengeId, DeviceId, ProfileId,
    SerialNumber, SpkiHash, TenantId, Timestamp, TransactionId, UserId,
};

/// Whether a reply got out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// Its body was flushed to the connection.
    Flushed,
    /// The connection was gone before that.
    ConnectionLost,
}

/// Whether a recorded certificate may be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It is what was approved.
    Issued,
    /// The CA returned something else than was approved: kept for the record and for its revocation.
    Withheld,
}

/// One certificate on record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InventoryEntry {
    /// Its place in the inventory: later ones are higher.
    pub row: u64,
    /// Whose.
    pub tenant: TenantId,
    /// For which device.
    pub device: DeviceId,
    /// By which profile.
    pub profile: ProfileId,
    /// For which user, if any.
    pub user: Option<UserId>,
    /// Under which challenge.
    pub challenge: ChallengeId,
    /// In which transaction of the protocol.
    pub transaction: TransactionId,
    /// The key that signed the message which asked for it.
    pub signer: SpkiHash,
    /// Of which CA.
    pub authority: AuthorityName,
    /// How far it is from the certificate that a challenge was spent on: 0 for that one itself.
    pub generation: u8,
    /// The certificate on whose word it was issued, if it was not on a challenge's.
    pub renews: Option<CertificateFingerprint>,
    /// The certificate.
    pub certificate: CertificateDer,
    /// Whether it may be released.
    pub standing: Standing,
    /// When it was recorded.
    pub issued_at: Timestamp,
    /// Whether a reply with it got out, once that is known.
    pub delivered: Option<Delivery>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Why it was revoked.
    pub revocation_reason: Option<RevocationReason>,
}

impl InventoryEntry {
    /// SHA-256 over the certificate's DER.
    #[must_use]
    pub fn fingerprint(&self) -> CertificateFingerprint {
        self.certificate.fingerprint()
    }

    /// The certificate's serial number, when it is one that RFC 5280 allows.
    #[must_use]
    pub fn serial(&self) -> Option<SerialNumber> {
        self.certificate.serial()
    }
}

macro_rules! revocation_reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// Why a certificate is revoked: CRLReason of RFC 5280, 5.3.1, without certificateHold and removeFromCRL,
        /// since a revocation here is final.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum RevocationReason { $($(#[$doc])* $name,)* }

        impl RevocationReason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The value of CRLReason.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self { $(Self::$name => $code,)* }
            }

            /// The reason with this value of CRLReason.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            /// The standard's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

revocation_reasons! {
    /// No reason given.
    Unspecified = 0, "unspecified";
    /// The private key is or may be in other hands.
    KeyCompromise = 1, "keyCompromise";
    /// The CA's key is or may be in other hands.
    CaCompromise = 2, "cACompromise";
    /// The subject's name or other contents are no longer right.
    AffiliationChanged = 3, "affiliationChanged";
    /// Another certificate has taken its place.
    Superseded = 4, "superseded";
    /// It is no longer needed.
    CessationOfOperation = 5, "cessationOfOperation";
    /// A right that it states was withdrawn.
    PrivilegeWithdrawn = 9, "privilegeWithdrawn";
    /// An attribute authority's key is or may be in other hands.
    AaCompromise = 10, "aACompromise";
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whom or what the issuer has disabled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DenialSubject {
    /// A device.
    Device(TenantId, DeviceId),
    /// A user.
    User(TenantId, UserId),
    /// A profile.
    Profile(TenantId, ProfileId),
}

/// Counters for health and metrics. Those that only grow are since the ledger was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Certificates recorded and releasable.
    pub issued: u64,
    /// Of these, whose reply got out.
    pub delivered: u64,
    /// Requests refused after their challenge was verified, at once or after they had waited for a person.
    pub refused: u64,
    /// Admissions that the CA is known not to have served, each time.
    pub failed: u64,
    /// Certificates withheld, and possible orphans.
    pub withheld: u64,
    /// Intents without an outcome, at this moment, without those that the CA decides on later.
    pub unsettled: u64,
    /// Requests that the CA decides on later, at this moment.
    pub pending: u64,
    /// Requests that wait for a person, or are approved and not fetched, at this moment.
    pub held: u64,
    /// Since when the oldest of those waits that nobody has decided on.
    pub waiting_since: Option<Timestamp>,
    /// Events that the issuer has not acknowledged, at this moment.
    pub outbox: u64,
    /// Of the certificates issued, those whose event the issuer has acknowledged.
    pub reported: u64,
    /// The number of the last event, acknowledged or not; 0: there was none.
    pub last_event: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revocation_reasons_keep_their_codes() {
        for reason in RevocationReason::ALL {
            assert_eq!(RevocationReason::from_code(reason.code()), Some(*reason));
        }
        for not_final in [6, 7, 8, 11] {
            assert_eq!(RevocationReason::from_code(not_final), None);
        }
    }
}
