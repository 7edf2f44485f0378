//! The trait of CAs, and what they answer.

use crate::crl::CrlOrder;
use crate::error::CaError;
use async_trait::async_trait;
use scep_ledger::{IssuePermit, RevocationReason};
use scep_types::{CertificateDer, CrlDer, CsrInfoHash, Fault, SerialNumber, SpkiDer, Timestamp};
use std::time::Instant;
use thiserror::Error;

/// A certification authority, as the enrolment transaction sees it.
///
/// # Writing an adapter
///
/// An adapter turns one [`IssuePermit`] into one certificate, and says truly what it knows when it cannot:
///
/// * **Issue from [`IssuePermit::contents`]**, never from the request. Where the CA insists on signing the
///   request itself, hand it [`IssuePermit::csr_der`]: what comes back is compared with the approval before it
///   is released, so a CA that adds or changes something makes the enrolment fail, not the certificate wrong.
/// * **[`IssueError::NothingIssued`] is a promise**: it gives the challenge back to the device. Use it when the
///   request never left (no connection, refused before sending) or when the CA has said no. A timeout, a broken
///   connection or an answer that cannot be read is [`IssueError::Unknown`].
/// * **Do not retry** inside `issue`. The permit is for one call; recovery looks the certificate up with
///   [`CertificateAuthority::find`].
/// * **[`Found::Nothing`] is a promise too**: no certificate exists that anybody could hold.
/// * **A CA that decides later** says [`IssueError::Pending`]; from then on [`CertificateAuthority::find`] is asked until it
///   answers something else than [`Found::Pending`].
///
/// This one wraps a closure, for a CA reached by a function call:
///
/// ```
/// use async_trait::async_trait;
/// use scep_ca::{
///     CaError, CanRevoke, Capabilities, CertificateAuthority, Found, IssueError, Recover, Wanted,
/// };
/// use scep_ledger::IssuePermit;
/// use scep_policy::CertificateContents;
/// use scep_types::{CertificateDer, SerialNumber};
///
/// struct Closure<F> {
///     chain: Vec<CertificateDer>,
///     sign: F,
/// }
///
/// impl<F> std::fmt::Debug for Closure<F> {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         f.debug_struct("Closure").field("chain", &self.chain).finish_non_exhaustive()
///     }
/// }
///
/// #[async_trait]
/// impl<F> CertificateAuthority for Closure<F>
/// where
///     F: Fn(&CertificateContents) -> Result<Vec<u8>, String> + Send + Sync,
/// {
///     fn chain(&self) -> &[CertificateDer] {
///         &self.chain
///     }
///     fn capabilities(&self) -> Capabilities {
///         // This CA chooses its serial numbers and cannot be asked later.
///         Capabilities { revoke: CanRevoke::No, recover: Recover::None }
///     }
///     fn choose_serial(&self) -> Result<Option<SerialNumber>, CaError> {
///         Ok(None)
///     }
///     async fn issue(&self, permit: IssuePermit) -> Result<CertificateDer, IssueError> {
///         // The closure's error means that the CA said no ...
///         let der = (self.sign)(permit.contents())
///             .map_err(|why| IssueError::NothingIssued(CaError::Refused { why }))?;
///         // ... but bytes that are no certificate leave open what it did.
///         CertificateDer::parse(&der).map_err(|e| IssueError::Unknown(CaError::NotACertificate(e)))
///     }
///     async fn find(&self, _wanted: &Wanted<'_>) -> Result<Found, CaError> {
///         Ok(Found::Unknown)
///     }
/// }
///
/// let ca = Closure { chain: vec![], sign: |_: &CertificateContents| Err("closed today".into()) };
/// assert_eq!(ca.capabilities().recover, Recover::None);
/// ```
///
/// One permit issues once; a second call does not compile:
///
/// ```compile_fail,E0382
/// # async fn f(ca: &dyn scep_ca::CertificateAuthority, permit: scep_ledger::IssuePermit) {
/// let first = ca.issue(permit).await;
/// let second = ca.issue(permit).await;
/// # }
/// ```
#[async_trait]
pub trait CertificateAuthority: Send + Sync + core::fmt::Debug {
    /// Its certificates: the issuer first, then upwards; the root may be left out.
    fn chain(&self) -> &[CertificateDer];

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// How it is, as far as the calls so far have shown. Asks nobody: a CA that is remote remembers. Default: well.
    fn health(&self) -> CaHealth {
        CaHealth::Ok
    }

    /// Whether a call waits for somebody elsewhere, rather than working here. Such calls keep no thread, and a slow one
    /// holds up nobody else. Default: it works here.
    fn is_elsewhere(&self) -> bool {
        false
    }

    /// The serial number to put into the intent before [`CertificateAuthority::issue`] is called; `None` where
    /// the CA chooses it.
    ///
    /// # Errors
    /// When none can be made.
    fn choose_serial(&self) -> Result<Option<SerialNumber>, CaError>;

    /// Issues exactly the permit's contents, under the permit's serial number where there is one. The permit is
    /// consumed: one permit, one call.
    ///
    /// # Errors
    /// [`IssueError`], which says whether it is certain that nothing was issued.
    async fn issue(&self, permit: IssuePermit) -> Result<CertificateDer, IssueError>;

    /// Looks up what may have been issued, for recovery. Never issues.
    ///
    /// # Errors
    /// When the CA cannot be asked now. That it can never be known is [`Found::Unknown`].
    async fn find(&self, wanted: &Wanted<'_>) -> Result<Found, CaError>;

    /// Revokes one certificate, for good. Asked again about the same one, it says the same: a caller that has
    /// forgotten the answer asks again. Default: not possible.
    ///
    /// # Errors
    /// [`CaError::Unavailable`] when it is not known what the CA did, to be asked again later; any other error means
    /// that the CA will not.
    async fn revoke(&self, what: &Revocation<'_>) -> Result<Revoked, CaError> {
        let _ = what;
        Err(CaError::CannotRevoke)
    }

    /// Its CRL. A CA that keeps no list signs what the order says; one that keeps its own returns its present CRL,
    /// verified, and ignores the order. A revocation counts as done when the CRL lists it. Default: not possible.
    ///
    /// # Errors
    /// When there is none to be had now.
    async fn crl(&self, order: &CrlOrder<'_>) -> Result<CrlDer, CaError> {
        let _ = order;
        Err(CaError::CannotRevoke)
    }
}

/// How a CA is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CaHealth {
    /// Nothing is known to be wrong.
    #[default]
    Ok,
    /// It does not do all that it should.
    Degraded {
        /// What is wrong, for an operator.
        why: String,
        /// When that was noticed first.
        since: Instant,
    },
}

/// What to revoke. Only certificates on record in the ledger are: it alone makes the jobs.
#[derive(Clone, Copy, Debug)]
pub struct Revocation<'a> {
    /// The serial number.
    pub serial: &'a SerialNumber,
    /// Why.
    pub reason: RevocationReason,
    /// When it is asked for.
    pub now: Timestamp,
}

/// A certificate is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Since when.
    pub at: Timestamp,
}

/// What a CA can do, as data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether it revokes.
    pub revoke: CanRevoke,
    /// How it finds a certificate again.
    pub recover: Recover,
}

/// Whether a CA revokes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanRevoke {
    /// It does.
    Yes,
    /// It does not, or not through this adapter.
    No,
}

/// How a CA finds a certificate again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recover {
    /// It keeps none: signing is local and an unrecorded certificate was never handed out by it.
    NothingKept,
    /// By serial number.
    BySerial,
    /// By public key.
    ByKey,
    /// By the transaction in which it was asked for, which follows from the request, for as long as the server keeps it.
    ByTransaction,
    /// It cannot.
    None,
}

/// What recovery looks for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The serial number, where the intent has one.
    pub serial: Option<&'a SerialNumber>,
    /// The key that was to be certified.
    pub spki: &'a SpkiDer,
    /// What tells the request from every other: [`IssuePermit::request`] of the permit.
    pub request: CsrInfoHash,
    /// Whether the CA is known to have the request and to decide later ([`IssueError::Pending`]): then a refusal is its
    /// decision.
    pub pending: bool,
    /// The subject that was to be certified, DER.
    pub subject_der: &'a [u8],
    /// When the CA was about to be asked: a certificate that began long before is another one with the same key.
    pub since: Timestamp,
}

/// What recovery found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// This.
    Certificate(CertificateDer),
    /// Certainly nothing that anybody could hold.
    Nothing,
    /// The CA has the request and has not decided: ask again later.
    Pending,
    /// It cannot be known.
    Unknown,
}

/// Why a CA did not issue, and whether that is certain.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum IssueError {
    /// Certainly nothing was issued.
    #[error("nothing was issued: {0}")]
    NothingIssued(#[source] CaError),
    /// Perhaps something was.
    #[error("it is unknown whether a certificate was issued: {0}")]
    Unknown(#[source] CaError),
    /// The CA has taken the request and decides later: [`CertificateAuthority::find`] tells.
    #[error("the CA has taken the request and has not decided yet")]
    Pending,
}

impl IssueError {
    /// What went wrong, unless nothing did.
    #[must_use]
    pub const fn cause(&self) -> Option<&CaError> {
        match self {
            Self::NothingIssued(cause) | Self::Unknown(cause) => Some(cause),
            Self::Pending => None,
        }
    }

    /// Whose fault it is, unless it is nobody's.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.cause().map(CaError::fault)
    }
}
