//! CAs for tests: one that records what it is asked and fails on command, and one that does not issue what it
//! was asked for.

use async_trait::async_trait;
use scep_ca::{
    CaError, CaHealth, CanRevoke, Capabilities, CertificateAuthority, CrlOrder, Found, IssueError,
    LocalCa, Recover, Revocation, Revoked, Wanted,
};
use scep_ledger::IssuePermit;
use scep_policy::CertificateContents;
use scep_types::tlv::{self, Reader, TlvError, tag};
use scep_types::{
    CertificateDer, CrlDer, DistinguishedName, ExtendedKeyUsages, GeneralName, KeyUsages,
    ObjectIdentifier, SerialNumber, SignatureScheme, Signer, SpkiDer, Timestamp,
};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What one call of a [`RecordingCa`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Issues.
    Issue,
    /// Certainly issues nothing.
    Refuse,
    /// Issues, but the answer is lost: the caller gets [`IssueError::Unknown`], and `find` finds it.
    LoseAnswer,
    /// Issues nothing, but the caller gets [`IssueError::Unknown`].
    LoseRequest,
    /// Decides later: the caller gets [`IssueError::Pending`], and `find` says the same until
    /// [`RecordingCa::decide`].
    Pend,
}

/// What becomes of the requests that wait at a [`RecordingCa`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// They are issued.
    Issue,
    /// They are not.
    Refuse,
}

/// One call of [`CertificateAuthority::issue`].
#[derive(Clone, Debug)]
pub struct Call {
    /// What was asked.
    pub contents: CertificateContents,
    /// Under which serial number.
    pub serial: Option<SerialNumber>,
    /// What the call did.
    pub outcome: Outcome,
}

#[derive(Debug, Default)]
struct Tape {
    calls: Vec<Call>,
    issued: Vec<CertificateDer>,
    /// What [`Decided::Issue`] will have issued: nobody has it before.
    waiting: Vec<CertificateDer>,
    script: VecDeque<Outcome>,
    health: CaHealth,
}

/// Records every call, keeps what it has issued and finds it by serial number. Cheap to clone; clones share.
#[derive(Clone, Debug)]
pub struct RecordingCa {
    inner: LocalCa,
    tape: Arc<Mutex<Tape>>,
}

impl RecordingCa {
    /// Around a CA. It issues until [`RecordingCa::then`] says otherwise.
    #[must_use]
    pub fn new(inner: LocalCa) -> Self {
        Self { inner, tape: Arc::default() }
    }

    fn tape(&self) -> MutexGuard<'_, Tape> {
        self.tape.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends what a call to come will do; calls beyond the script issue.
    pub fn then(&self, outcome: Outcome) {
        self.tape().script.push_back(outcome);
    }

    /// Decides on what waits; requests that come later wait for the next decision.
    pub fn decide(&self, decided: Decided) {
        let mut tape = self.tape();
        let waiting = core::mem::take(&mut tape.waiting);
        match decided {
            Decided::Issue => tape.issued.extend(waiting),
            Decided::Refuse => {}
        }
    }

    /// How it says that it is, from now on.
    pub fn set_health(&self, health: CaHealth) {
        self.tape().health = health;
    }

    /// The calls so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.tape().calls.clone()
    }

    /// The certificates issued so far, whether or not their answers were lost.
    #[must_use]
    pub fn issued(&self) -> Vec<CertificateDer> {
        self.tape().issued.clone()
    }
}

#[async_trait]
impl CertificateAuthority for RecordingCa {
    fn chain(&self) -> &[CertificateDer] {
        self.inner.chain()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { revoke: CanRevoke::No, recover: Recover::BySerial }
    }

    fn health(&self) -> CaHealth {
        self.tape().health.clone()
    }

    fn choose_serial(&self) -> Result<Option<SerialNumber>, CaError> {
        self.inner.choose_serial()
    }

    async fn issue(&self, permit: IssuePermit) -> Result<CertificateDer, IssueError> {
        let (contents, serial) = (permit.contents().clone(), permit.serial().cloned());
        let outcome = {
            let mut tape = self.tape();
            let outcome = tape.script.pop_front().unwrap_or(Outcome::Issue);
            tape.calls.push(Call { contents, serial, outcome });
            outcome
        };
        let lost = || IssueError::Unknown(CaError::Unavailable { why: "the line is dead".into() });
        match outcome {
            Outcome::Refuse => {
                let why = "as the test says".into();
                return Err(IssueError::NothingIssued(CaError::Refused { why }));
            }
            Outcome::LoseRequest => return Err(lost()),
            Outcome::Issue | Outcome::LoseAnswer | Outcome::Pend => {}
        }
        let certificate = self.inner.issue_blocking(permit)?;
        if outcome == Outcome::Pend {
            self.tape().waiting.push(certificate);
            return Err(IssueError::Pending);
        }
        self.tape().issued.push(certificate.clone());
        if outcome == Outcome::LoseAnswer { Err(lost()) } else { Ok(certificate) }
    }

    async fn find(&self, wanted: &Wanted<'_>) -> Result<Found, CaError> {
        let tape = self.tape();
        let it = |c: &&CertificateDer| {
            wanted.serial.is_some_and(|serial| c.serial().as_ref() == Some(serial))
                && c.spki() == wanted.spki
        };
        Ok(match tape.issued.iter().find(it) {
            Some(certificate) => Found::Certificate(certificate.clone()),
            None if tape.waiting.iter().any(|waiting| it(&waiting)) => Found::Pending,
            None => Found::Nothing,
        })
    }
}

/// One way in which a CA does not issue what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alteration {
    /// Another subject.
    Subject,
    /// One subjectAltName more.
    ExtraAltName,
    /// No subjectAltName.
    NoAltName,
    /// Another key.
    Key,
    /// Valid a day longer.
    LongerValidity,
    /// CA:TRUE.
    CaTrue,
    /// keyCertSign as well.
    KeyCertSign,
    /// One extended key usage more.
    ExtraUsage,
    /// No extended key usage, which allows all of them.
    NoUsage,
    /// Microsoft's application policies, which override extended key usages.
    ApplicationPolicies,
    /// The SID extension of the domain's administrator.
    AdministratorSid,
    /// An unknown critical extension.
    CriticalExtension,
    /// Another serial number than the one that was chosen.
    SerialNumber,
}

impl Alteration {
    /// Every one.
    pub const ALL: [Self; 13] = [
        Self::Subject,
        Self::ExtraAltName,
        Self::NoAltName,
        Self::Key,
        Self::LongerValidity,
        Self::CaTrue,
        Self::KeyCertSign,
        Self::ExtraUsage,
        Self::NoUsage,
        Self::ApplicationPolicies,
        Self::AdministratorSid,
        Self::CriticalExtension,
        Self::SerialNumber,
    ];
}

/// Lets a [`LocalCa`] issue, changes one thing, and signs again with the CA's key.
#[derive(Clone, Debug)]
pub struct AlteringCa {
    inner: LocalCa,
    key: Arc<dyn Signer>,
    other_key: SpkiDer,
    alteration: Alteration,
}

impl AlteringCa {
    /// `key` is the CA's; `other_key` is what [`Alteration::Key`] puts in.
    #[must_use]
    pub fn new(
        inner: LocalCa,
        key: Arc<dyn Signer>,
        other_key: SpkiDer,
        alteration: Alteration,
    ) -> Self {
        Self { inner, key, other_key, alteration }
    }

    /// Changes a certificate.
    ///
    /// # Errors
    /// When it is none that a [`LocalCa`] makes, or the key fails.
    pub fn alter(&self, good: &CertificateDer) -> Result<CertificateDer, CaError> {
        let mut parts = Parts::read(good).map_err(scep_types::CertificateError::Der)?;
        self.change(&mut parts);
        let tbs = parts.write();
        let scheme = SignatureScheme::default_for(self.key.public_key().algorithm());
        let signature = self.key.sign(scheme, &tbs)?;
        let der = tlv::sequence(&[&tbs, &scheme.algorithm_der(), &tlv::whole_bits(&signature)]);
        Ok(CertificateDer::parse(&der)?)
    }

    fn change(&self, parts: &mut Parts) {
        const ALT_NAME: &str = "2.5.29.17";
        const USAGE: &str = "2.5.29.37";
        match self.alteration {
            Alteration::Subject => {
                parts.subject =
                    "CN=administrator".parse::<DistinguishedName>().unwrap_or_default().to_der();
            }
            Alteration::ExtraAltName => parts.map(ALT_NAME, |value| {
                let extra = GeneralName::Dns("admin.example.org".into()).to_der();
                append(value, &extra)
            }),
            Alteration::NoAltName => parts.remove(ALT_NAME),
            Alteration::Key => parts.spki = self.other_key.as_der().to_vec(),
            Alteration::LongerValidity => {
                let (begin, end) = parts.validity;
                parts.validity = (begin, end.plus(core::time::Duration::from_secs(86_400)));
            }
            Alteration::CaTrue => {
                parts.map("2.5.29.19", |_| tlv::sequence(&[&[tag::BOOLEAN, 1, 0xff]]));
            }
            Alteration::KeyCertSign => parts.map("2.5.29.15", |value| {
                KeyUsages::from_der(value)
                    .map_or_else(|_| value.to_vec(), |u| u.union(KeyUsages::KEY_CERT_SIGN).to_der())
            }),
            Alteration::ExtraUsage => parts.map(USAGE, |value| {
                let agent = ExtendedKeyUsages::purpose("certificateRequestAgent");
                append(value, &agent.map(|oid| tlv::oid(&oid)).unwrap_or_default())
            }),
            Alteration::NoUsage => parts.remove(USAGE),
            Alteration::ApplicationPolicies => {
                let client = ExtendedKeyUsages::purpose("clientAuth");
                let policy =
                    tlv::sequence(&[&client.map(|oid| tlv::oid(&oid)).unwrap_or_default()]);
                parts.add("1.3.6.1.4.1.311.21.10", false, tlv::sequence(&[&policy]));
            }
            Alteration::AdministratorSid => {
                let sid = tlv::encode(tag::OCTET_STRING, b"S-1-5-21-1-2-3-500");
                let oid = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.25.2.1");
                let name = GeneralName::Other(oid, sid).to_der();
                parts.remove("1.3.6.1.4.1.311.25.2");
                parts.add("1.3.6.1.4.1.311.25.2", false, tlv::sequence(&[&name]));
            }
            Alteration::SerialNumber => parts.serial = tlv::small_int(1),
            Alteration::CriticalExtension => {
                parts.add("1.3.6.1.4.1.99999.1", true, vec![tag::NULL, 0]);
            }
        }
    }
}

/// A SEQUENCE OF with one more element.
fn append(sequence: &[u8], element: &[u8]) -> Vec<u8> {
    let elements =
        Reader::new(sequence).only(tag::SEQUENCE).map(|tlv| tlv.value).unwrap_or_default();
    tlv::sequence(&[elements, element])
}

/// The parts of a TBSCertificate that alterations touch.
struct Parts {
    version: Vec<u8>,
    serial: Vec<u8>,
    /// Signature algorithm and issuer, DER.
    head: Vec<u8>,
    validity: (Timestamp, Timestamp),
    subject: Vec<u8>,
    spki: Vec<u8>,
    extensions: Vec<(ObjectIdentifier, bool, Vec<u8>)>,
}

impl Parts {
    fn read(certificate: &CertificateDer) -> Result<Self, TlvError> {
        let mut fields = Reader::new(certificate.tbs_der()).only(tag::SEQUENCE)?.reader();
        let version = fields.any()?.raw.to_vec();
        let serial = fields.any()?.raw.to_vec();
        let head = [fields.any()?.raw, fields.any()?.raw].concat();
        let extensions = certificate.extensions()?;
        Ok(Self {
            version,
            serial,
            head,
            validity: (certificate.not_before(), certificate.not_after()),
            subject: certificate.subject_der().to_vec(),
            spki: certificate.spki().as_der().to_vec(),
            extensions: extensions
                .into_iter()
                .map(|e| (e.oid, e.critical, e.value.to_vec()))
                .collect(),
        })
    }

    fn write(&self) -> Vec<u8> {
        let extensions: Vec<u8> = self
            .extensions
            .iter()
            .flat_map(|(oid, critical, value)| {
                let flag: &[u8] = if *critical { &[tag::BOOLEAN, 1, 0xff] } else { &[] };
                let value = tlv::encode(tag::OCTET_STRING, value);
                tlv::sequence(&[&tlv::oid(oid), flag, &value])
            })
            .collect();
        let (begin, end) = self.validity;
        tlv::sequence(&[
            &self.version,
            &self.serial,
            &self.head,
            &tlv::sequence(&[&tlv::time(begin), &tlv::time(end)]),
            &self.subject,
            &self.spki,
            &tlv::construct(tag::context_constructed(3), &[&tlv::sequence(&[&extensions])]),
        ])
    }

    fn map(&mut self, oid: &str, change: impl FnOnce(&[u8]) -> Vec<u8>) {
        let oid = ObjectIdentifier::new_unwrap(oid);
        if let Some((_, _, value)) = self.extensions.iter_mut().find(|(o, _, _)| *o == oid) {
            *value = change(value);
        }
    }

    fn remove(&mut self, oid: &str) {
        let oid = ObjectIdentifier::new_unwrap(oid);
        self.extensions.retain(|(o, _, _)| *o != oid);
    }

    fn add(&mut self, oid: &str, critical: bool, value: Vec<u8>) {
        self.extensions.push((ObjectIdentifier::new_unwrap(oid), critical, value));
    }
}

#[async_trait]
impl CertificateAuthority for AlteringCa {
    fn chain(&self) -> &[CertificateDer] {
        self.inner.chain()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn choose_serial(&self) -> Result<Option<SerialNumber>, CaError> {
        self.inner.choose_serial()
    }

    async fn issue(&self, permit: IssuePermit) -> Result<CertificateDer, IssueError> {
        let good = self.inner.issue_blocking(permit)?;
        self.alter(&good).map_err(IssueError::Unknown)
    }

    async fn find(&self, wanted: &Wanted<'_>) -> Result<Found, CaError> {
        self.inner.find(wanted).await
    }

    async fn revoke(&self, what: &Revocation<'_>) -> Result<Revoked, CaError> {
        self.inner.revoke(what).await
    }

    async fn crl(&self, order: &CrlOrder<'_>) -> Result<CrlDer, CaError> {
        self.inner.crl(order).await
    }
}
