//! A CA of a gateway, and what belongs to it: its RA, its CRL, its OCSP responder, its successor.

use crate::gateway::{Gateway, PartsError, Site};
use crate::preset::{CaCertOrder, CaShown, Endpoint, RaShown};
use crate::slot::Slot;
use scep_ca::{CaError, CanRevoke, CertificateAuthority, OcspIssuer, OcspSigner};
use scep_message::{RaIdentity, same_name};
use scep_types::{AuthorityName, CertificateDer, NameHash, SpkiHash};
use std::sync::Arc;
use tokio::sync::Semaphore;

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
    /// The one it follows in a roll-over. What devices have enveloped to the RA of either is opened at the endpoints of
    /// both, and answered by the RA that they know: a device that holds an earlier GetCACert takes no other signer, and
    /// gateways of a group may change over one after another. The certificate is from the endpoint's CA.
    pub follows: Option<AuthorityName>,
}

/// An authority at work.
#[derive(Debug)]
pub(crate) struct Office {
    pub(crate) name: AuthorityName,
    pub(crate) ca: Arc<dyn CertificateAuthority>,
    pub(crate) ra: Slot<RaIdentity>,
    previous_ras: Slot<Vec<RaIdentity>>,
    follows: Option<AuthorityName>,
    pub(crate) next: Slot<Option<NextCa>>,
    pub(crate) crl: crate::revoke::CrlSettings,
    pub(crate) shelf: crate::revoke::Shelf,
    pub(crate) responder: Slot<Option<crate::ocsp::Responder>>,
    pub(crate) answers: crate::ocsp::Answers,
    /// Calls of a CA that is elsewhere.
    pub(crate) calls: Arc<Semaphore>,
}

/// How many calls of one CA that is elsewhere wait at once: each holds a place in the queue for private-key work, of which
/// there are more.
const CALLS: usize = 64;

/// What GetNextCACert answers: made once, by whoever has the present CA's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextCa {
    /// The whole answer: SignedData by the present CA over the next certificates (RFC 8894, 4.7.1), DER.
    pub response: Vec<u8>,
}

impl Office {
    fn new(authority: Authority) -> Self {
        let Authority { name, ca, ra, crl, follows } = authority;
        Self {
            name,
            ca,
            ra: Slot::new(ra),
            previous_ras: Slot::new(Vec::new()),
            follows,
            next: Slot::new(None),
            crl,
            shelf: crate::revoke::Shelf::default(),
            responder: Slot::new(None),
            answers: crate::ocsp::Answers::default(),
            calls: Arc::new(Semaphore::new(CALLS)),
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

    /// The RA that was replaced and has this recipient.
    fn replaced_ra(&self, named: &CertificateDer) -> Option<Arc<RaIdentity>> {
        let previous = self.previous_ras.get();
        // The one whose own it is comes before those that had it of their predecessor.
        let own = |ra: &&RaIdentity| ra.recipients.first().is_some_and(|r| r.certificate == *named);
        let found = previous.iter().find(own);
        let found = found.or_else(|| previous.iter().find(|ra| has_recipient(ra, named)));
        found.map(|ra| Arc::new(ra.clone()))
    }

    /// Its RA with this recipient: a replaced one, or the present one.
    fn ra_of(&self, named: &CertificateDer) -> Option<Arc<RaIdentity>> {
        let present = || Some(self.ra.get()).filter(|ra| has_recipient(ra, named));
        self.replaced_ra(named).or_else(present)
    }

    /// Certificates that are nobody's secret: those of the CA and of its RA.
    pub(crate) fn public(&self) -> impl Iterator<Item = CertificateDer> {
        let ra = self.ra.get();
        let of_ra = ra.recipients.iter().map(|recipient| &recipient.certificate);
        let of_ra = of_ra.chain([&ra.signing_certificate]);
        let all: Vec<CertificateDer> = self.ca.chain().iter().chain(of_ra).cloned().collect();
        all.into_iter()
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
        let form = endpoint.ca_cert;
        // The one to encrypt to comes before the one that signs: clients that take the first find the right one.
        let of_ra = ra.recipients.first().map(|recipient| &recipient.certificate).into_iter();
        let signing = Some(&ra.signing_certificate).filter(|_| form.ra == RaShown::All);
        let of_ra: Vec<&CertificateDer> = of_ra.chain(signing).collect();
        let chain = self.ca.chain();
        let of_ca = match form.ca {
            CaShown::Chain => chain,
            CaShown::Issuer => chain.get(..1).unwrap_or_default(),
            CaShown::Nothing => &[],
        };
        let of_ca: Vec<&CertificateDer> = of_ca.iter().collect();
        let order = match form.order {
            CaCertOrder::RaFirst => [of_ra, of_ca],
            CaCertOrder::CaFirst => [of_ca, of_ra],
        };
        let mut certificates: Vec<CertificateDer> = Vec::new();
        for one in order.into_iter().flatten() {
            if !certificates.contains(one) {
                certificates.push(one.clone());
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

    /// Who answers what is enveloped to one of their recipients, which are among the RA's but not the first: the RAs
    /// that were replaced, the last one first. A device that holds an earlier GetCACert takes no other signer. None: the
    /// RA answers everything. To be called before [`AuthorityHandle::set_ra`].
    pub fn set_previous_ras(&self, ras: Vec<RaIdentity>) {
        self.office.previous_ras.set(ras);
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

fn has_recipient(ra: &RaIdentity, named: &CertificateDer) -> bool {
    ra.recipients.iter().any(|one| one.certificate == *named)
}

/// Opens the offices of some authorities.
pub(crate) fn offices(authorities: Vec<Authority>) -> Result<Vec<Arc<Office>>, PartsError> {
    let offices: Vec<Arc<Office>> =
        authorities.into_iter().map(|authority| Arc::new(Office::new(authority))).collect();
    for office in &offices {
        let mut at = office;
        // Longer than this only a ring is.
        for _ in 0..=offices.len() {
            let Some(followed) = &at.follows else { break };
            match offices.iter().find(|one| one.name == *followed) {
                Some(one) if one.name != office.name => at = one,
                _ => {
                    let (name, followed) = (at.name.clone(), followed.clone());
                    return Err(PartsError::FollowsNobody { name, followed });
                }
            }
        }
    }
    Ok(offices)
}

/// The other authorities of its roll-over: those it follows, and those that follow it, however far.
pub(crate) fn kin(office: &Arc<Office>, offices: &[Arc<Office>]) -> Vec<Arc<Office>> {
    let related = |a: &Office, b: &Office| {
        a.follows.as_ref() == Some(&b.name) || b.follows.as_ref() == Some(&a.name)
    };
    let mut family = vec![Arc::clone(office)];
    let mut at = 0;
    while let Some(one) = family.get(at).cloned() {
        for other in offices {
            if related(&one, other) && family.iter().all(|known| known.name != other.name) {
                family.push(Arc::clone(other));
            }
        }
        at = at.saturating_add(1);
    }
    family.split_off(1)
}

impl Site {
    /// What opens requests here: the RA, and those of a roll-over's other CAs. The RA itself answers.
    pub(crate) fn opening_ra(&self) -> Arc<RaIdentity> {
        let mut ra = self.office.ra.get();
        for other in &self.kin {
            let other = other.ra.get();
            Arc::make_mut(&mut ra).recipients.extend(other.recipients.iter().cloned());
        }
        ra
    }

    /// Who answers a request that names this recipient of what opens here.
    pub(crate) fn answering_ra(
        &self,
        ra: &Arc<RaIdentity>,
        recipient: Option<usize>,
    ) -> Arc<RaIdentity> {
        let named = recipient.and_then(|index| ra.recipients.get(index));
        let another = named.and_then(|named| {
            let named = &named.certificate;
            let of_kin = || self.kin.iter().find_map(|other| other.ra_of(named));
            self.office.replaced_ra(named).or_else(of_kin)
        });
        another.unwrap_or_else(|| Arc::clone(ra))
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

    /// The authority whose CA is named so, in whatever encoding.
    pub(crate) fn office_named(&self, issuer: &[u8]) -> Option<&Arc<Office>> {
        let is = |office: &&Arc<Office>| {
            office.ca.chain().first().is_some_and(|ca| same_name(ca.subject_der(), issuer))
        };
        self.inner.offices.iter().find(is)
    }

    /// The authority with this name.
    pub(crate) fn office(&self, name: &AuthorityName) -> Option<&Arc<Office>> {
        self.inner.offices.iter().find(|office| office.name == *name)
    }
}
