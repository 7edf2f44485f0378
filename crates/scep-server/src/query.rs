//! GetCert and GetCRL (RFC 8894, 3.3.4).
//!
//! What is nobody's secret is for everybody: the certificates of the CAs and their RAs, and the CRLs. The certificate of a
//! device is for the device itself. Everything else has one answer, so that nobody learns which serial numbers there are.
//!
//! The ledger bounds none of this, and each costs what an enrolment costs: there is a budget for all of them together.
//! Whoever spends it keeps others from what is to be had over HTTP too, and from no enrolment.

use crate::authority::Office;
use crate::gateway::Gateway;
use crate::refusal::Refusal;
use crate::reply::Grant;
use scep_ledger::{InventoryEntry, Standing};
use scep_message::{MessageType, same_name};
use scep_types::{CertificateDer, Reason, ReleasedCertificate, SerialNumber, Timestamp};
use std::sync::Arc;

/// A certificate that is nobody's secret: a CA's, or one that its own device asks for again.
#[derive(Debug)]
pub(crate) struct PublicCertificate(CertificateDer);

impl ReleasedCertificate for PublicCertificate {
    fn certificate(&self) -> &CertificateDer {
        &self.0
    }
}

/// What is asked for, as it stands in the message.
#[derive(Debug)]
pub(crate) struct Query {
    /// The issuer's Name, DER.
    pub(crate) issuer: Vec<u8>,
    /// The serial number's content octets.
    pub(crate) serial: Vec<u8>,
    /// Who asks.
    pub(crate) signer: CertificateDer,
}

/// Whether a message of this type is answered out of the budget for queries.
pub(crate) const fn is_query(kind: MessageType) -> bool {
    matches!(kind, MessageType::GetCert | MessageType::GetCrl)
}

impl Gateway {
    /// GetCert.
    pub(crate) async fn get_cert(&self, query: Query, now: Timestamp) -> Result<Grant, Refusal> {
        if let Some(public) = self.public_certificate(&query) {
            return Ok(Grant::Found(PublicCertificate(public)));
        }
        let no = |detail: &str| Err(Refusal::new(Reason::NoSuchCertificate, detail));
        let Some(office) = self.office_named(&query.issuer) else {
            return no("of an issuer that is not here");
        };
        let Some(entry) = self.issued(office, &query).await? else {
            return no("no such serial number on record");
        };
        // A withheld one is in nobody's hands that should have it.
        if entry.standing == Standing::Withheld {
            return no("it was withheld");
        }
        if !self.may_have(&query.signer, &entry, now).await? {
            return no("asked for by another than its device");
        }
        Ok(Grant::Found(PublicCertificate(entry.certificate)))
    }

    /// One that everybody may have.
    fn public_certificate(&self, query: &Query) -> Option<CertificateDer> {
        let mut all = self.inner.offices.iter().flat_map(|office| office.public());
        all.find(|one| {
            one.serial_content() == query.serial && same_name(one.issuer_der(), &query.issuer)
        })
    }

    /// The device's certificate with this serial number.
    async fn issued(
        &self,
        office: &Arc<Office>,
        query: &Query,
    ) -> Result<Option<InventoryEntry>, Refusal> {
        let serial = SerialNumber::from_content(&query.serial);
        let (Some(issuer), Ok(serial)) = (office.issuer(), serial) else { return Ok(None) };
        Ok(self.inner.parts.ledger.certificate_by_serial(issuer, &serial).await?)
    }

    /// Whether who has signed the message is the certificate's own device: it has the certificate's key, or a live
    /// certificate of this gateway for the same device.
    async fn may_have(
        &self,
        signer: &CertificateDer,
        entry: &InventoryEntry,
        now: Timestamp,
    ) -> Result<bool, Refusal> {
        if signer.spki() == entry.certificate.spki() {
            return Ok(true);
        }
        let live = self.inner.parts.ledger.live_certificate(signer.fingerprint(), now).await?;
        Ok(live.is_some_and(|own| own.tenant == entry.tenant && own.device == entry.device))
    }

    /// GetCRL: the present CRL of the issuer named. The serial number decides nothing: one CRL is for all of them.
    pub(crate) fn get_crl(&self, query: &Query) -> Result<Grant, Refusal> {
        let Some(office) = self.office_named(&query.issuer).filter(|office| office.revokes())
        else {
            let detail = "of an issuer that has no CRL here";
            return Err(Refusal::new(Reason::NoSuchCertificate, detail));
        };
        match office.shelf.get() {
            Some(crl) => Ok(Grant::Crl(crl.der.to_vec())),
            None => Err(Refusal::new(Reason::CaUnavailable, "there is no CRL yet")),
        }
    }
}
