//! What a certificate will contain, as a function of the claims and the proven key.

use crate::certificate::differences;
use crate::report::FieldReport;
use crate::rules::SiteRules;
use core::time::Duration;
use scep_challenge::{ChallengeClaims, ExtraExtension};
use scep_types::{
    CertificateDer, DistinguishedName, ExtendedKeyUsages, GeneralName, KeyUsages, SpkiDer,
    Timestamp,
};

/// Certificates begin this long before they are issued, for devices whose clock is behind.
pub const BACKDATE: Duration = Duration::from_secs(300);

/// What a certificate will contain.
///
/// Everything but the key comes from the claims. This is data, not evidence: only an
/// [`Approval`](crate::Approval) leads to a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateContents {
    /// Subject.
    pub subject: DistinguishedName,
    /// subjectAltNames, critical in the certificate when the subject is empty (RFC 5280, 4.2.1.6).
    pub subject_alt_names: Vec<GeneralName>,
    /// Key usage.
    pub key_usage: KeyUsages,
    /// Extended key usages.
    pub extended_key_usages: ExtendedKeyUsages,
    /// Key, from the request.
    pub spki: SpkiDer,
    /// First instant: decision time minus [`BACKDATE`].
    pub not_before: Timestamp,
    /// Last instant: decision time + the claims' validity - 1 second, as both ends belong to the validity period
    /// (RFC 5280, 4.1.2.5).
    pub not_after: Timestamp,
    /// Further extensions.
    pub extensions: Vec<ExtraExtension>,
}

impl CertificateContents {
    /// What claims and a key make of a certificate that is decided on at `now`.
    #[must_use]
    pub fn of(claims: &ChallengeClaims, spki: &SpkiDer, now: Timestamp) -> Self {
        let expectation = &claims.expectation;
        Self {
            subject: expectation.subject.clone(),
            subject_alt_names: expectation.subject_alt_names.clone(),
            key_usage: expectation.key_usage,
            extended_key_usages: expectation.extended_key_usages.clone(),
            spki: spki.clone(),
            not_before: now.minus(BACKDATE),
            not_after: now.plus(expectation.validity.saturating_sub(Duration::from_secs(1))),
            extensions: expectation.extensions.clone(),
        }
    }

    /// Compares a certificate as [`Approval::check_certificate`](crate::Approval::check_certificate) does, without
    /// making evidence of it: for recovery, which finds certificates whose approval a crash has taken. Empty when
    /// nothing differs.
    #[must_use]
    pub fn differences(&self, rules: &SiteRules, certificate: &CertificateDer) -> Vec<FieldReport> {
        differences(self, rules.ca_may_add(), certificate)
    }
}
