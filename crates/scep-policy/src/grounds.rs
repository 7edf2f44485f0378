//! Claims out of the ledger's memory instead of out of a challenge: of a request that has waited for a person, and of a
//! certificate that may renew itself.
//!
//! Only a ledger has them. Whoever makes them up gets an [`Approval`](crate::Approval) and no further: the ledger
//! compares its grounds with its own rows in the transaction that admits it.

use scep_challenge::{ChallengeClaims, ClaimsError};
use scep_types::{CertificateDer, CertificateFingerprint};

/// How often a certificate may be followed by one without a fresh challenge.
pub const MAX_GENERATIONS: u8 = 3;

/// On whose word a request was approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grounds {
    /// Of the challenge in it.
    Challenge,
    /// Of the challenge in it when it came, and of a person since.
    Held,
    /// Of the certificate that it follows.
    Renewal {
        /// Which.
        predecessor: CertificateFingerprint,
        /// The new certificate's distance from the one that a challenge was spent on: 1 to [`MAX_GENERATIONS`].
        generation: u8,
    },
}

/// The claims of a request that a ledger has held for a person.
#[derive(Debug)]
pub struct HeldClaims(ChallengeClaims);

impl HeldClaims {
    /// From what the ledger has kept: canonical DER.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn from_ledger(der: &[u8]) -> Result<Self, ClaimsError> {
        ChallengeClaims::from_der(der).map(Self)
    }

    /// The claims.
    #[must_use]
    pub const fn claims(&self) -> &ChallengeClaims {
        &self.0
    }
}

/// A certificate on record in a ledger that may be followed by another on its own word.
#[derive(Debug)]
pub struct Predecessor {
    certificate: CertificateDer,
    claims: ChallengeClaims,
    generation: u8,
}

impl Predecessor {
    /// From what the ledger has kept: the certificate, the claims that it or its forerunner was issued by (canonical
    /// DER), and how far it is from the challenge: 0 for the one that the challenge was spent on.
    ///
    /// # Errors
    /// When the claims are damaged.
    pub fn from_ledger(
        certificate: CertificateDer,
        claims: &[u8],
        generation: u8,
    ) -> Result<Self, ClaimsError> {
        Ok(Self { certificate, claims: ChallengeClaims::from_der(claims)?, generation })
    }

    /// The certificate.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer {
        &self.certificate
    }

    /// The claims that the first of its line was issued by.
    #[must_use]
    pub const fn claims(&self) -> &ChallengeClaims {
        &self.claims
    }

    /// 0: a challenge was spent on it.
    #[must_use]
    pub const fn generation(&self) -> u8 {
        self.generation
    }
}
