//! What is known of a server: its capabilities, and which of its certificates are trusted for what.

use crate::error::ClientError;
use crate::path::{Judge, Usage, is_ca};
use scep_message::caps::Capabilities;
use scep_types::{CertificateDer, CertificateFingerprint, KeyAlgorithm, KeyUsages};

/// Why the certificates of GetCACert, which come unauthenticated, are believed (RFC 8894, 2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// One of them has this SHA-256 fingerprint: the CA's, or the one certificate that is used for everything.
    Fingerprint(CertificateFingerprint),
    /// They lead to this certificate, known from elsewhere.
    Certificate(CertificateDer),
    /// They are believed as they come. Whoever is on the path can put in their own, and read the challenge: for
    /// tests, and for provisioning in a trusted environment.
    Anything,
}

/// The certificates of a server, sorted by what they are trusted for. Only [`crate::ScepClient::get_ca_cert`]
/// makes one.
#[derive(Clone, Debug)]
pub struct CaCertificates {
    sent: Vec<CertificateDer>,
    anchor: Option<CertificateDer>,
    trusted: Vec<CertificateDer>,
    recipient: CertificateDer,
    signers: Vec<CertificateDer>,
}

impl CaCertificates {
    pub(crate) fn judge(
        sent: Vec<CertificateDer>,
        trust: &Trust,
        judge: &Judge<'_>,
    ) -> Result<Self, ClientError> {
        let anchor = match trust {
            Trust::Anything => None,
            Trust::Certificate(anchor) => Some(anchor.clone()),
            Trust::Fingerprint(expected) => {
                let anchor = sent.iter().find(|c| c.fingerprint() == *expected);
                Some(anchor.cloned().ok_or_else(|| ClientError::FingerprintMismatch {
                    expected: *expected,
                    got: sent.iter().map(CertificateDer::fingerprint).collect(),
                })?)
            }
        };
        let pool: Vec<&CertificateDer> = sent.iter().chain(&anchor).collect();
        let trusted: Vec<CertificateDer> = sent
            .iter()
            .filter(|c| anchor.as_ref().is_none_or(|anchor| judge.leads_to(c, anchor, &pool)))
            .cloned()
            .collect();
        if trusted.is_empty() {
            return Err(ClientError::Untrusted);
        }
        let recipient = recipient(&trusted).ok_or(ClientError::NoRecipient)?.clone();
        let mut signers: Vec<CertificateDer> = trusted
            .iter()
            .filter(|c| Usage::of(c).allows(KeyUsages::DIGITAL_SIGNATURE))
            .cloned()
            .collect();
        if signers.is_empty() {
            // Some servers' only certificate says keyCertSign and nothing else.
            signers.clone_from(&trusted);
        }
        Ok(Self { sent, anchor, trusted, recipient, signers })
    }

    /// As sent, in that order, trusted or not.
    #[must_use]
    pub fn sent(&self) -> &[CertificateDer] {
        &self.sent
    }

    /// The certificate that is trusted by itself; `None` under [`Trust::Anything`].
    #[must_use]
    pub const fn anchor(&self) -> Option<&CertificateDer> {
        self.anchor.as_ref()
    }

    /// Those that lead to the anchor.
    #[must_use]
    pub fn trusted(&self) -> &[CertificateDer] {
        &self.trusted
    }

    /// The one that requests are encrypted to.
    #[must_use]
    pub const fn recipient(&self) -> &CertificateDer {
        &self.recipient
    }

    /// Those that may sign replies.
    #[must_use]
    pub fn signers(&self) -> &[CertificateDer] {
        &self.signers
    }

    /// The Name, DER, of the CA that issues: as CertPoll, GetCert and GetCRL name it.
    #[must_use]
    pub fn issuer_der(&self) -> &[u8] {
        if is_ca(&self.recipient) {
            self.recipient.subject_der()
        } else {
            self.recipient.issuer_der()
        }
    }
}

/// Picks by key usage, the certificate of an RA before that of a CA, one that says keyEncipherment before one that
/// says nothing; in each class the first one sent. A single certificate is taken whatever its usage says, as the
/// field has CAs that say only keyCertSign.
fn recipient(trusted: &[CertificateDer]) -> Option<&CertificateDer> {
    let rsa = |c: &&CertificateDer| matches!(c.spki().algorithm(), KeyAlgorithm::Rsa(_));
    let enciphers = |c: &CertificateDer| match Usage::of(c) {
        Usage::Only(usages) => usages.contains(KeyUsages::KEY_ENCIPHERMENT),
        Usage::Any | Usage::Malformed => false,
    };
    let says_nothing = |c: &CertificateDer| Usage::of(c) == Usage::Any;
    let all = || trusted.iter().filter(rsa);
    all()
        .find(|c| !is_ca(c) && enciphers(c))
        .or_else(|| all().find(|c| enciphers(c)))
        .or_else(|| all().find(|c| !is_ca(c) && says_nothing(c)))
        .or_else(|| all().find(|c| says_nothing(c)))
        .or_else(|| match trusted {
            [only] if rsa(&only) => Some(only),
            _ => None,
        })
}

/// What a client knows of a server.
#[derive(Clone, Debug)]
pub struct Server {
    /// What it says it can do.
    pub capabilities: Capabilities,
    /// Its certificates.
    pub certificates: CaCertificates,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::tests::Made;
    use scep_testkit::TestKey;

    #[test]
    fn the_recipient_is_an_ra_that_says_key_encipherment_before_all_others() {
        let enciphers = Some(KeyUsages::KEY_ENCIPHERMENT);
        let ca = Made::ca("CN=ca", "CN=ca");
        let both = ca.usage.map(|usage| usage.union(KeyUsages::KEY_ENCIPHERMENT));
        let silent_ca = Made { usage: None, ..ca.clone() }.der();
        let enciphering_ca = Made { usage: both, ..ca.clone() }.der();
        let ra = Made::new("CN=ca", "CN=ra");
        let silent_ra = ra.der();
        let enciphering_ra = Made { usage: enciphers, ..ra.clone() }.der();
        let ec_ra = Made { usage: enciphers, key: TestKey::P256A.public_key(), ..ra.clone() }.der();
        let signing_ra = Made { usage: Some(KeyUsages::DIGITAL_SIGNATURE), ..ra }.der();
        // From the best to the worst: whichever comes first in this list is taken, in whatever order they are sent.
        let mut best_first = vec![enciphering_ra, enciphering_ca, silent_ra, silent_ca];
        while let Some(best) = best_first.first().cloned() {
            let mut sent = vec![ec_ra.clone(), signing_ra.clone(), ca.der()];
            sent.extend(best_first.iter().rev().cloned());
            assert_eq!(recipient(&sent), Some(&best));
            best_first.remove(0);
        }
        assert_eq!(recipient(&[ec_ra.clone(), signing_ra.clone(), ca.der()]), None);
        assert_eq!(recipient(std::slice::from_ref(&signing_ra)), Some(&signing_ra));
        assert_eq!(recipient(std::slice::from_ref(&ec_ra)), None);
    }
}
