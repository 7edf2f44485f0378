//! Certification authorities behind one trait. STUB: signatures fixed, bodies to come.
#![allow(unused_variables, clippy::todo, clippy::missing_errors_doc, clippy::missing_panics_doc)]
use async_trait::async_trait;
use core::time::Duration;
use scep_ledger::IssuePermit;
use scep_types::*;
use std::sync::Arc;
use thiserror::Error;

/// A CA. `issue` consumes its permit: a second call does not compile.
#[async_trait]
pub trait CertificateAuthority: Send + Sync + core::fmt::Debug {
    /// Its certificates: the issuer first, then upwards; the root may be left out.
    fn chain(&self) -> &[CertificateDer];
    /// What it can do.
    fn capabilities(&self) -> Capabilities;
    /// The serial number to put into the intent, where the caller chooses it.
    fn choose_serial(&self) -> Result<Option<SerialNumber>, CaError>;
    /// Issues exactly the permit's contents.
    async fn issue(&self, permit: IssuePermit) -> Result<CertificateDer, IssueError>;
    /// Looks up what may have been issued, for recovery. Never issues.
    async fn find(&self, wanted: &Wanted<'_>) -> Result<Found, CaError>;
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
#[allow(missing_docs)]
pub enum CanRevoke {
    Yes,
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
    /// It cannot.
    None,
}
/// What recovery looks for.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Wanted<'a> {
    pub serial: Option<&'a SerialNumber>,
    pub spki: &'a SpkiDer,
}
/// What recovery found.
#[derive(Debug)]
pub enum Found {
    /// This.
    Certificate(CertificateDer),
    /// Certainly nothing that anybody could hold.
    Nothing,
    /// It cannot be known.
    Unknown,
}

/// Why a CA did not issue, and whether that is certain.
#[derive(Debug, Error)]
pub enum IssueError {
    /// Certainly nothing was issued.
    #[error("nothing was issued: {0}")]
    NothingIssued(CaError),
    /// Perhaps something was.
    #[error("it is unknown whether a certificate was issued: {0}")]
    Unknown(CaError),
}
/// A CA's failure. (Refine.)
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("CA: {0}")]
pub struct CaError(pub String); // refine

/// A CA whose key is here.
#[derive(Clone, Debug)]
pub struct LocalCa(());
/// What a local CA puts into certificates.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct LocalCaSettings {
    pub crl_urls: Vec<String>,
    pub issuer_urls: Vec<String>,
    pub ocsp_urls: Vec<String>,
}

impl LocalCa {
    /// With the certificate that belongs to the key; `upper` are the certificates above it.
    pub fn new(
        key: Arc<dyn Signer>,
        certificate: CertificateDer,
        upper: Vec<CertificateDer>,
        settings: LocalCaSettings,
        provider: Arc<dyn CryptoProvider>,
    ) -> Result<Self, CaError> {
        todo!()
    }
    /// Makes a self-signed root certificate.
    pub fn self_signed_root(
        key: &dyn Signer,
        subject: &DistinguishedName,
        validity: Duration,
        now: Timestamp,
        provider: &dyn CryptoProvider,
    ) -> Result<CertificateDer, CaError> {
        todo!()
    }
    /// Makes the certificate of a subordinate CA (pathLen 0).
    pub fn issue_subordinate(
        &self,
        key: &SpkiDer,
        subject: &DistinguishedName,
        validity: Duration,
        now: Timestamp,
    ) -> Result<CertificateDer, CaError> {
        todo!()
    }
    /// Certificates of the system itself, which have no Approval: a closed enum of purposes.
    pub fn issue_infrastructure(
        &self,
        purpose: InfrastructurePurpose,
        key: &SpkiDer,
        subject: &DistinguishedName,
        validity: Duration,
        now: Timestamp,
    ) -> Result<CertificateDer, CaError> {
        todo!()
    }
}
#[async_trait]
impl CertificateAuthority for LocalCa {
    fn chain(&self) -> &[CertificateDer] {
        todo!()
    }
    fn capabilities(&self) -> Capabilities {
        todo!()
    }
    fn choose_serial(&self) -> Result<Option<SerialNumber>, CaError> {
        todo!()
    }
    async fn issue(&self, permit: IssuePermit) -> Result<CertificateDer, IssueError> {
        todo!()
    }
    async fn find(&self, wanted: &Wanted<'_>) -> Result<Found, CaError> {
        todo!()
    }
}

/// What an infrastructure certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InfrastructurePurpose {
    /// digitalSignature.
    RaSigning,
    /// keyEncipherment.
    RaEncryption,
    /// Both, and an EKU that Windows demands (Q18): one certificate for everything.
    RaCombined,
}
