//! Requests that wait: for a person, or for a CA that decides later.

use crate::LedgerError;
use crate::evidence::Recall;
use core::fmt;
use scep_policy::HeldClaims;
use scep_types::{
    AuthorityName, ChallengeId, DeviceId, ProfileId, Secret, SerialNumber, SpkiHash, TenantId,
    Timestamp, TransactionId, UserId,
};

/// How a request came, and of which CA it asks.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The CA that is to issue.
    pub authority: &'a AuthorityName,
    /// The serial number that it will use, where we choose it.
    pub serial: Option<SerialNumber>,
    /// The key that signed the message (recorded and reported).
    pub signer: SpkiHash,
    /// transactionID.
    pub transaction: &'a TransactionId,
}

/// A person's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeldVerdict {
    /// It may be issued.
    Approve,
    /// It may not.
    Deny,
}

impl HeldVerdict {
    pub(crate) const ALL: [Self; 2] = [Self::Approve, Self::Deny];

    /// As it is told in events.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Approve => "approved",
            Self::Deny => "denied",
        }
    }

    /// As it is in the audit table.
    pub(crate) const fn action(self) -> &'static str {
        match self {
            Self::Approve => "held-approve",
            Self::Deny => "held-deny",
        }
    }

    /// The number in the database.
    pub(crate) const fn code(self) -> i64 {
        match self {
            Self::Approve => 1,
            Self::Deny => 0,
        }
    }

    pub(crate) fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.code() == code)
    }
}

/// How far a held request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldState {
    /// Nobody has decided.
    Waiting,
    /// Decided, by this person at this time.
    Decided {
        /// What was said.
        verdict: HeldVerdict,
        /// By whom.
        person: String,
        /// When.
        at: Timestamp,
    },
}

/// A request that a person must approve, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldRequest {
    /// Its number.
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
    /// Of which CA.
    pub authority: AuthorityName,
    /// In which transaction of the protocol.
    pub transaction: TransactionId,
    /// The subject that the certificate will have, as text.
    pub subject: String,
    /// Its subjectAltNames, as text.
    pub subject_alt_names: Vec<String>,
    /// The key that is to be certified.
    pub spki: SpkiHash,
    /// When it came.
    pub asked_at: Timestamp,
    /// When it is over unless somebody decides, or its device comes for what was decided.
    pub until: Timestamp,
    /// How far it is.
    pub state: HeldState,
}

/// What is on record of a held request.
#[derive(Debug)]
pub(crate) struct HeldRow {
    pub(crate) row: u64,
    pub(crate) authority: AuthorityName,
    pub(crate) transaction: TransactionId,
    pub(crate) spki: SpkiHash,
    /// DER.
    pub(crate) claims: Vec<u8>,
    pub(crate) asked_at: Timestamp,
    pub(crate) until: Timestamp,
    pub(crate) state: HeldState,
}

impl HeldRow {
    /// As an operator sees it.
    pub(crate) fn into_request(self) -> Result<HeldRequest, LedgerError> {
        let claims = HeldClaims::from_ledger(&self.claims)
            .map_err(|_| LedgerError::Damaged { what: "held.claims" })?;
        let claims = claims.claims();
        Ok(HeldRequest {
            row: self.row,
            tenant: claims.tenant.clone(),
            device: claims.device.clone(),
            profile: claims.profile.clone(),
            user: claims.user.clone(),
            challenge: claims.challenge_id,
            authority: self.authority,
            transaction: self.transaction,
            subject: claims.expectation.subject.to_string(),
            subject_alt_names: claims
                .expectation
                .subject_alt_names
                .iter()
                .map(ToString::to_string)
                .collect(),
            spki: self.spki,
            asked_at: self.asked_at,
            until: self.until,
            state: self.state,
        })
    }
}

/// A request that a person has approved: to be decided on again, and then admitted.
pub struct HeldEnrolment {
    pub(crate) claims: Box<HeldClaims>,
    pub(crate) csr_der: Secret<Vec<u8>>,
    pub(crate) authority: AuthorityName,
}

impl HeldEnrolment {
    /// The CA that was asked, and that was approved.
    #[must_use]
    pub const fn authority(&self) -> &AuthorityName {
        &self.authority
    }

    /// The claims and the request's DER, which contains the challenge.
    #[must_use]
    pub fn into_parts(self) -> (HeldClaims, Secret<Vec<u8>>) {
        (*self.claims, self.csr_der)
    }
}

impl fmt::Debug for HeldEnrolment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldEnrolment")
            .field("tenant", &self.claims.claims().tenant)
            .field("challenge", &self.claims.claims().challenge_id)
            .finish_non_exhaustive()
    }
}

/// What a CertPoll finds.
#[derive(Debug)]
pub struct Polled {
    /// What became of it; [`Recall::Nothing`]: no such transaction, or another signer's.
    pub recall: Recall,
    /// The request's DER while it is kept.
    pub csr_der: Option<Secret<Vec<u8>>>,
}
