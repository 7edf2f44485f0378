//! A certificate that is not what was approved: nobody gets it, and where the CA revokes, it is revoked.

use crate::authority::Office;
use crate::gateway::Gateway;
use scep_ledger::{
    LedgerError, OrderedBy, QueueOutcome, RevocationOrder, RevocationReason, Unsettled,
};
use scep_types::{CertificateDer, NameHash, SerialNumber, Timestamp};

/// In whose name the ledger keeps the order.
const BY: &str = "scep-gateway";

/// What can be done about a certificate that should not exist.
enum Fate {
    /// Its CA is asked to revoke it.
    Revocable(NameHash, SerialNumber),
    /// Nothing from here, and why.
    Unrevocable(&'static str),
}

impl Fate {
    fn text(&self) -> String {
        match self {
            Self::Revocable(..) => "it is being revoked".into(),
            Self::Unrevocable(why) => format!("unrevocable: {why}"),
        }
    }
}

impl Gateway {
    /// Withholds a certificate and orders its revocation. Gives the detail with what becomes of the certificate, as it is
    /// reported.
    pub(crate) async fn withhold(
        &self,
        office: &Office,
        unsettled: Unsettled,
        certificate: &CertificateDer,
        difference: &str,
        now: Timestamp,
    ) -> Result<String, LedgerError> {
        let fate = Self::fate(office, certificate);
        let detail = format!("{difference}; {}", fate.text());
        self.inner.parts.ledger.withhold(unsettled, certificate, &detail, now).await?;
        self.order(fate, certificate, now).await;
        Ok(detail)
    }

    /// Orders the revocation of what recovery has found and withheld.
    pub(crate) async fn revoke_withheld(
        &self,
        office: &Office,
        certificate: &CertificateDer,
        now: Timestamp,
    ) {
        self.order(Self::fate(office, certificate), certificate, now).await;
    }

    fn fate(office: &Office, certificate: &CertificateDer) -> Fate {
        if !office.revokes() {
            return Fate::Unrevocable("this CA does not revoke");
        }
        let Some(serial) = certificate.serial() else {
            return Fate::Unrevocable("its serial number is none");
        };
        let issuer = NameHash::of(certificate.issuer_der());
        if office.issuer() == Some(issuer) {
            Fate::Revocable(issuer, serial)
        } else {
            Fate::Unrevocable("it names another issuer than the CA")
        }
    }

    /// What fails here is an operator's to do, and never makes the refusal of the request another one.
    async fn order(&self, fate: Fate, certificate: &CertificateDer, now: Timestamp) {
        let serial = hex(certificate.serial_content());
        let why = match fate {
            Fate::Unrevocable(why) => why.to_owned(),
            Fate::Revocable(issuer, number) => {
                let reason = RevocationReason::Unspecified;
                let by = OrderedBy::Operator(BY.into());
                let order = RevocationOrder { issuer, serial: number, reason, by };
                match self.inner.parts.ledger.queue_revocation(order, now).await {
                    Ok(QueueOutcome::Queued | QueueOutcome::Already(_)) => {
                        tracing::error!(
                            target: "scep", serial,
                            "the CA has issued something else than was approved: withheld, and being revoked"
                        );
                        return;
                    }
                    Ok(QueueOutcome::NotFound) => "it is not on record".to_owned(),
                    Err(error) => error.to_string(),
                }
            }
        };
        tracing::error!(
            target: "scep", serial, why,
            "the CA has issued something else than was approved: withheld, and unrevocable from here"
        );
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02X}")).collect()
}
