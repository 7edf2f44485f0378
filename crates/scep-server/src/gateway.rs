//! The gateway's parts, assembled once; after start nothing asks "is this set?".

use crate::pool::Pool;
use crate::slot::Slot;
use crate::trace::Observer;
use core::time::Duration;
use scep_ca::CertificateAuthority;
use scep_challenge::Opener;
use scep_ledger::Ledger;
use scep_message::{LegacyAlgorithms, Limits, RaIdentity};
use scep_pkcs10::Rules as CsrRules;
use scep_policy::{Denials, SiteRules};
use scep_types::{CertificateDer, Clock, CryptoProvider, SpkiHash};
use std::sync::Arc;

/// Whose key must have signed the message around a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SignerRule {
    /// The key that the request asks to certify, or the key of a live certificate that this gateway has issued to
    /// the same device. Nobody on the path can lift an envelope, sign it anew and receive the answer.
    #[default]
    CsrKey,
    /// Any key: Windows makes a throw-away signer for each attempt. Proof of possession is the request's
    /// own signature; the signer's key is recorded.
    Any,
}

/// What a SUCCESS carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReplyCertificates {
    /// The leaf alone: Apple binds the first of the set to its key.
    #[default]
    Leaf,
    /// The leaf, then the CA: Cisco's VPN clients want it.
    LeafAndCa,
}

/// What GetCACert returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CaCertForm {
    /// The RA certificates, then the CA's, as a bundle.
    #[default]
    Bundle,
    /// One bare certificate, the RA's: for clients that look for nothing else.
    RaOnly,
}

/// One SCEP endpoint: a path and how it behaves there.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its name in traces and metrics.
    pub name: String,
    /// The path it serves and everything below; `/` serves every path that no other endpoint does.
    pub path: String,
    /// Whose key signs.
    pub signer: SignerRule,
    /// SHA-1 and 3DES.
    pub legacy: LegacyAlgorithms,
    /// What a SUCCESS carries.
    pub reply: ReplyCertificates,
    /// What GetCACert returns.
    pub ca_cert: CaCertForm,
    /// What is accepted of a PKCS #10 request.
    pub csr: CsrRules,
}

impl Endpoint {
    /// For clients that sign with the key they ask to certify.
    #[must_use]
    pub fn generic(path: impl Into<String>) -> Self {
        Self {
            name: "generic".into(),
            path: path.into(),
            signer: SignerRule::CsrKey,
            legacy: LegacyAlgorithms::Refuse,
            reply: ReplyCertificates::Leaf,
            ca_cert: CaCertForm::Bundle,
            csr: CsrRules::default(),
        }
    }

    /// For Windows: a throw-away signer for each attempt.
    #[must_use]
    pub fn windows(path: impl Into<String>) -> Self {
        Self { name: "windows".into(), signer: SignerRule::Any, ..Self::generic(path) }
    }
}

/// Limits of time and number. The defaults are in the README's table.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// CMS intake.
    pub cms: Limits,
    /// Private-key operations at once. 0: one for each core.
    pub threads: usize,
    /// Messages waiting for one; more are answered 503 with Retry-After.
    pub queue: usize,
    /// Open connections; more wait in the kernel's backlog.
    pub connections: usize,
    /// From a connection's start, or the last answer, to the end of the next request's head.
    pub head_timeout: Duration,
    /// For a request's body.
    pub body_timeout: Duration,
    /// For running requests to end after a stop was asked for.
    pub stop_timeout: Duration,
    /// How long a request waits for the same request on another connection.
    pub in_progress_wait: Duration,
    /// Longest POST body, octets; more is 413.
    pub max_body: usize,
    /// How many repeats of one request are answered at once, before they are slowed down to one each
    /// `retry_refill`.
    pub retry_burst: u32,
    /// See `retry_burst`.
    pub retry_refill: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            cms: Limits::default(),
            threads: 0,
            queue: 256,
            connections: 1024,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(30),
            in_progress_wait: Duration::from_secs(10),
            max_body: 256 << 10,
            retry_burst: 128,
            retry_refill: Duration::from_secs(5),
        }
    }
}

/// Everything a gateway is made of.
#[derive(Debug)]
pub struct Parts {
    /// Public-key operations and randomness.
    pub provider: Arc<dyn CryptoProvider>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Opens challenges. [`Gateway::set_opener`] replaces it.
    pub opener: Opener,
    /// What the site allows at most.
    pub site_rules: SiteRules,
    /// What the issuer has disabled. [`Gateway::set_denials`] replaces it.
    pub denials: Denials,
    /// Durable memory.
    pub ledger: Ledger,
    /// Issues.
    pub ca: Arc<dyn CertificateAuthority>,
    /// What devices encrypt to, and what signs answers. [`Gateway::set_ra`] replaces it.
    pub ra: RaIdentity,
    /// Keys of the system, which no device may have certified. The RA's need not be among them.
    /// [`Gateway::set_our_keys`] replaces them.
    pub our_keys: Vec<SpkiHash>,
    /// Where and how it is served. The longest matching path wins.
    pub endpoints: Vec<Endpoint>,
    /// The CRL, where the CA revokes.
    pub crl: crate::revoke::CrlSettings,
    /// Limits.
    pub limits: ServerLimits,
    /// Sees finished traces.
    pub observer: Option<Arc<dyn Observer>>,
}

/// A running gateway's state. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gateway {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) parts: Fixed,
    pub(crate) opener: Slot<Opener>,
    pub(crate) denials: Slot<Denials>,
    pub(crate) ra: Slot<RaIdentity>,
    previous_ra: Slot<Option<RaIdentity>>,
    our_keys: Slot<Vec<SpkiHash>>,
    pub(crate) standing: crate::standing::Standing,
    pub(crate) pool: Pool,
    pub(crate) metrics: crate::metrics::Metrics,
    pub(crate) retries: crate::retries::Retries,
    pub(crate) crl: crate::revoke::Shelf,
    pub(crate) responder: Slot<Option<crate::ocsp::Responder>>,
    pub(crate) answers: crate::ocsp::Answers,
    pub(crate) store: Slot<Option<crate::store::StoreSettings>>,
    pub(crate) tracker: tokio_util::task::TaskTracker,
}

/// The parts that stay what they are for as long as the gateway runs; see [`Parts`].
#[derive(Debug)]
pub(crate) struct Fixed {
    pub(crate) provider: Arc<dyn CryptoProvider>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) site_rules: SiteRules,
    pub(crate) ledger: Ledger,
    pub(crate) ca: Arc<dyn CertificateAuthority>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) crl: crate::revoke::CrlSettings,
    pub(crate) limits: ServerLimits,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

impl Gateway {
    /// Assembles a gateway.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { provider, clock, opener, site_rules, denials, ledger, ca, ra, .. } = parts;
        let Parts { our_keys, endpoints, crl, limits, observer, .. } = parts;
        let parts =
            Fixed { provider, clock, site_rules, ledger, ca, endpoints, crl, limits, observer };
        let threads = match parts.limits.threads {
            0 => std::thread::available_parallelism().map_or(2, core::num::NonZero::get),
            n => n,
        };
        Self {
            inner: Arc::new(Inner {
                pool: Pool::new(threads, parts.limits.queue),
                metrics: crate::metrics::Metrics::new(),
                retries: crate::retries::Retries::new(
                    parts.limits.retry_burst,
                    parts.limits.retry_refill,
                ),
                crl: crate::revoke::Shelf::default(),
                responder: Slot::new(None),
                answers: crate::ocsp::Answers::default(),
                store: Slot::new(None),
                tracker: tokio_util::task::TaskTracker::new(),
                opener: Slot::new(opener),
                denials: Slot::new(denials),
                ra: Slot::new(ra),
                previous_ra: Slot::new(None),
                our_keys: Slot::new(our_keys),
                standing: crate::standing::Standing::default(),
                parts,
            }),
        }
    }

    /// Its durable memory, to be read beside it.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.inner.parts.ledger
    }

    /// Replaces what is disabled, from the next request on.
    pub fn set_denials(&self, denials: Denials) {
        self.inner.denials.set(denials);
    }

    /// Replaces whose challenges are opened, and with which keys, from the next request on. Who replaces a decryption
    /// key keeps the previous one in the opener for as long as challenges to it may be under way.
    pub fn set_opener(&self, opener: Opener) {
        self.inner.opener.set(opener);
    }

    /// Replaces the RA, from the next request on. GetCACert shows the first of its recipients first, and none of the
    /// others; what is enveloped to the others is still opened, so the previous one belongs among them for as long as
    /// a device may hold an earlier GetCACert. Answers are signed by the new one.
    pub fn set_ra(&self, ra: RaIdentity) {
        self.inner.ra.set(ra);
    }

    /// Who answers what is enveloped to one of its recipients, which are among the RA's but not the first: the RA that
    /// was replaced. A device that holds an earlier GetCACert takes no other signer. `None`: the RA answers everything.
    /// To be called before [`Gateway::set_ra`].
    pub fn set_previous_ra(&self, ra: Option<RaIdentity>) {
        self.inner.previous_ra.set(ra);
    }

    /// Who answers a request that names this recipient of the RA.
    pub(crate) fn answering_ra(
        &self,
        ra: &Arc<RaIdentity>,
        recipient: Option<usize>,
    ) -> Arc<RaIdentity> {
        let named = recipient.and_then(|index| ra.recipients.get(index));
        let previous = self.inner.previous_ra.get();
        match (named, &*previous) {
            (Some(named), Some(previous))
                if previous.recipients.iter().any(|one| one.certificate == named.certificate) =>
            {
                Arc::new(previous.clone())
            }
            _ => Arc::clone(ra),
        }
    }

    /// Replaces the keys that no device may have certified, from the next request on. The RA's need not be among them.
    pub fn set_our_keys(&self, keys: Vec<SpkiHash>) {
        self.inner.our_keys.set(keys);
    }

    /// The keys that no device may have certified.
    pub(crate) fn our_keys(&self, ra: &RaIdentity) -> Vec<SpkiHash> {
        let of_ra = ra.recipients.iter().map(|recipient| &recipient.certificate);
        let of_ra = of_ra.chain([&ra.signing_certificate]).map(|one| one.spki().hash());
        let responder = self.inner.responder.get();
        let of_responder = (*responder).as_ref().map(crate::ocsp::Responder::key);
        self.inner.our_keys.get().iter().copied().chain(of_ra).chain(of_responder).collect()
    }

    /// The certificates that GetCACert returns on this endpoint.
    pub(crate) fn ca_certificates(&self, endpoint: &Endpoint) -> Vec<CertificateDer> {
        let ra = self.inner.ra.get();
        let mut certificates = Vec::new();
        // The one to encrypt to comes first: clients that take the first find the right one.
        if let Some(recipient) = ra.recipients.first() {
            certificates.push(recipient.certificate.clone());
        }
        if endpoint.ca_cert == CaCertForm::RaOnly {
            return certificates;
        }
        for more in
            std::iter::once(&ra.signing_certificate).chain(self.inner.parts.ca.chain().iter())
        {
            if !certificates.contains(more) {
                certificates.push(more.clone());
            }
        }
        certificates
    }

    /// The endpoint that serves a path, after the `/pkiclient.exe` that Windows and Cisco append was taken off.
    pub(crate) fn endpoint(&self, path: &str) -> Option<&Endpoint> {
        let path = normal_path(path);
        let serves = |endpoint: &&Endpoint| {
            let prefix = endpoint.path.trim_end_matches('/');
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.inner.parts.endpoints.iter().filter(serves).max_by_key(|endpoint| endpoint.path.len())
    }
}

/// The path without trailing slashes and appended `/pkiclient.exe`, however often (Q6).
fn normal_path(path: &str) -> &str {
    let mut path = path;
    loop {
        let shorter = path.trim_end_matches('/');
        let cut = shorter.len().saturating_sub("/pkiclient.exe".len());
        match shorter.split_at_checked(cut) {
            Some((head, tail)) if tail.eq_ignore_ascii_case("/pkiclient.exe") => path = head,
            _ => return shorter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quirk_06_pkiclient_exe_is_taken_off_however_often() {
        for (path, normal) in [
            ("/scep", "/scep"),
            ("/scep/", "/scep"),
            ("/scep/pkiclient.exe", "/scep"),
            ("/certsrv/mscep/mscep.dll/pkiclient.exe/pkiclient.exe", "/certsrv/mscep/mscep.dll"),
            ("/PKICLIENT.EXE", ""),
            ("/", ""),
            ("", ""),
            ("/é", "/é"),
        ] {
            assert_eq!(normal_path(path), normal, "{path}");
        }
    }
}
