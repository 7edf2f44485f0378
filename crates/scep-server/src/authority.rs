//! A CA of a gateway, and what belongs to it: its RA, its CRL, its OCSP responder, its successor.

use crate::gateway::{CaCertForm, Endpoint, Gateway};
use crate::slot::Slot;
use scep_ca::{CaError, CanRevoke, CertificateAuthority, OcspIssuer, OcspSigner};
use scep_message::RaIdentity;
use scep_types::{AuthorityName, CertificateDer, NameHash, SpkiHash};
use std::sync::Arc;

/// A CA, and what belongs to it.
#[derive(Debug)]
pub struct Authority {
    /// Its name within the gateway: endpoints choose it by this, and the ledger keeps it with every request.
    pub name: AuthorityName,
    /// Issues.
    pub ca: Arc<dyn CertificateAuthority>,
    /// What devices encrypt to, and what signs answers. [`AuthorityHandle::set_ra`] replaces it.
    pub ra: RaIdentity,
    /// The CRL, where the CA revokes.
    pub crl: crate::revoke::CrlSettings,
}

/// An authority at work.
#[derive(Debug)]
pub(crate) struct Office {
    pub(crate) name: AuthorityName,
    pub(crate) ca: Arc<dyn CertificateAuthority>,
    pub(crate) ra: Slot<RaIdentity>,
    previous_ra: Slot<Option<RaIdentity>>,
    pub(crate) next: Slot<Option<NextCa>>,
    pub(crate) crl: crate::revoke::CrlSettings,
    pub(crate) shelf: crate::revoke::Shelf,
    pub(crate) responder: Slot<Option<crate::ocsp::Responder>>,
    pub(crate) answers: crate::ocsp::Answers,
}

/// What GetNextCACert answers: made once, by whoever has the present CA's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextCa {
    /// The whole answer: SignedData by the present CA over the next certificates (RFC 8894, 4.7.1), DER.
    pub response: Vec<u8>,
}

impl Office {
    pub(crate) fn new(authority: Authority) -> Self {
        let Authority { name, ca, ra, crl } = authority;
        Self {
            name,
            ca,
            ra: Slot::new(ra),
            previous_ra: Slot::new(None),
            next: Slot::new(None),
            crl,
            shelf: crate::revoke::Shelf::default(),
            responder: Slot::new(None),
            answers: crate::ocsp::Answers::default(),
        }
    }

    /// Whether there are revocations here at all.
    pub(crate) fn revokes(&self) -> bool {
        self.ca.capabilities().revoke == CanRevoke::Yes
    }

    /// The name in its certificates.
    pub(crate) fn issuer(&self) -> Option<NameHash> {
        self.ca.chain().first().map(|ca| NameHash::of(ca.subject_der()))
    }

    /// Who answers a request that names this recipient of the RA.
    pub(crate) fn answering_ra(
        &self,
        ra: &Arc<RaIdentity>,
        recipient: Option<usize>,
    ) -> Arc<RaIdentity> {
        let named = recipient.and_then(|index| ra.recipients.get(index));
        let previous = self.previous_ra.get();
        match (named, &*previous) {
            (Some(named), Some(previous))
                if previous.recipients.iter().any(|one| one.certificate == named.certificate) =>
            {
                Arc::new(previous.clone())
            }
            _ => Arc::clone(ra),
        }
    }

    /// Keys of its RA and its responder.
    pub(crate) fn keys(&self) -> Vec<SpkiHash> {
        let ra = self.ra.get();
        let of_ra = ra.recipients.iter().map(|recipient| &recipient.certificate);
        let of_ra = of_ra.chain([&ra.signing_certificate]).map(|one| one.spki().hash());
        let responder = self.responder.get();
        let of_responder = (*responder).as_ref().map(crate::ocsp::Responder::key);
        of_ra.chain(of_responder).collect()
    }

    /// The certificates that GetCACert returns on this endpoint.
    pub(crate) fn ca_certificates(&self, endpoint: &Endpoint) -> Vec<CertificateDer> {
        let ra = self.ra.get();
        let mut certificates = Vec::new();
        // The one to encrypt to comes first: clients that take the first find the right one.
        if let Some(recipient) = ra.recipients.first() {
            certificates.push(recipient.certificate.clone());
        }
        if endpoint.ca_cert == CaCertForm::RaOnly {
            return certificates;
        }
        for more in std::iter::once(&ra.signing_certificate).chain(self.ca.chain().iter()) {
            if !certificates.contains(more) {
                certificates.push(more.clone());
            }
        }
        certificates
    }
}

/// An authority of a running gateway, to change what may change.
#[derive(Clone, Debug)]
pub struct AuthorityHandle {
    office: Arc<Office>,
}

impl AuthorityHandle {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &AuthorityName {
        &self.office.name
    }

    /// Replaces the RA, from the next request on. GetCACert shows the first of its recipients first, and none of the
    /// others; what is enveloped to the others is still opened, so the previous one belongs among them for as long as
    /// a device may hold an earlier GetCACert. Answers are signed by the new one.
    pub fn set_ra(&self, ra: RaIdentity) {
        self.office.ra.set(ra);
    }

    /// Who answers what is enveloped to one of its recipients, which are among the RA's but not the first: the RA that
    /// was replaced. A device that holds an earlier GetCACert takes no other signer. `None`: the RA answers everything.
    /// To be called before [`AuthorityHandle::set_ra`].
    pub fn set_previous_ra(&self, ra: Option<RaIdentity>) {
        self.office.previous_ra.set(ra);
    }

    /// What GetNextCACert answers, from the next request on, which GetCACaps then names. `None`: there is no next CA.
    pub fn set_next_ca(&self, next: Option<NextCa>) {
        self.office.next.set(next);
    }

    /// Answers OCSP from the next request on, about the certificates of the CA that are on record in the ledger, and
    /// signed by `signer`. To be called again with a new signer before the present one ends. Without a call nothing
    /// is served. Each authority needs a path of its own.
    ///
    /// # Errors
    /// When the CA has no certificate, or its key cannot be read.
    pub fn set_ocsp(
        &self,
        settings: crate::ocsp::OcspSettings,
        signer: OcspSigner,
    ) -> Result<(), CaError> {
        let ca = self.office.ca.chain().first().ok_or(CaError::NoSubjectKeyId)?;
        let issuer = OcspIssuer::of(ca)?;
        let responder = crate::ocsp::Responder::new(settings, issuer, signer);
        self.office.responder.set(Some(responder));
        Ok(())
    }
}

impl Gateway {
    /// One of its authorities.
    #[must_use]
    pub fn authority(&self, name: &AuthorityName) -> Option<AuthorityHandle> {
        let office = self.inner.offices.iter().find(|office| office.name == *name)?;
        Some(AuthorityHandle { office: Arc::clone(office) })
    }

    /// The first of its authorities, which is the only one of most gateways.
    #[must_use]
    pub fn main_authority(&self) -> AuthorityHandle {
        AuthorityHandle { office: Arc::clone(self.main_office()) }
    }

    pub(crate) fn main_office(&self) -> &Arc<Office> {
        &self.inner.main
    }

    /// The authority whose CA has this name in its certificates.
    pub(crate) fn office_of(&self, issuer: NameHash) -> Option<&Arc<Office>> {
        self.inner.offices.iter().find(|office| office.issuer() == Some(issuer))
    }

    /// The authority with this name.
    pub(crate) fn office(&self, name: &AuthorityName) -> Option<&Arc<Office>> {
        self.inner.offices.iter().find(|office| office.name == *name)
    }
}
