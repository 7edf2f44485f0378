//! The CA whose key is here.

use crate::authority::{
    CanRevoke, Capabilities, CertificateAuthority, Found, IssueError, Recover, Revocation, Revoked,
    Wanted,
};
use crate::chain;
use crate::crl::{self, CrlOrder};
use crate::error::CaError;
use crate::ocsp::{self, OcspSigner};
use crate::tbs::{Criticality, Extensions, Parts, Role, certificate, oid};
use async_trait::async_trait;
use core::time::Duration;
use scep_ledger::IssuePermit;
use scep_policy::CertificateContents;
use scep_types::{
    CertificateDer, CrlDer, CryptoProvider, DistinguishedName, ExtendedKeyUsages, GeneralName,
    KeyAlgorithm, KeyUsages, NameError, ObjectIdentifier, SerialNumber, SignatureScheme, Signer,
    SpkiDer, Timestamp,
};
use std::net::IpAddr;
use std::sync::Arc;

/// How far the certificates of CAs and of the infrastructure start in the past, for peers whose clock is slow.
const BACKDATE: Duration = Duration::from_secs(300);

/// What is signed at start to see that the key signs. It is not DER, hence no certificate.
const PROBE: &[u8] = b"scep-ca: does this key belong to its certificate?";

/// Extensions that claims cannot ask for: the CA sets them, or they belong to CA certificates.
const RESERVED: [ObjectIdentifier; 14] = [
    oid::SUBJECT_KEY_ID,
    oid::KEY_USAGE,
    oid::SUBJECT_ALT_NAME,
    oid::BASIC_CONSTRAINTS,
    oid::NAME_CONSTRAINTS,
    oid::CRL_POINTS,
    oid::POLICY_MAPPINGS,
    oid::AUTHORITY_KEY_ID,
    oid::POLICY_CONSTRAINTS,
    oid::EXTENDED_KEY_USAGE,
    oid::FRESHEST_CRL,
    oid::INHIBIT_ANY_POLICY,
    oid::AUTHORITY_INFO,
    oid::OCSP_NO_CHECK,
];

/// What a local CA puts into certificates besides what they are about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalCaSettings {
    /// Where its CRL is: cRLDistributionPoints.
    pub crl_urls: Vec<String>,
    /// Where its own certificate is: authorityInfoAccess, caIssuers.
    pub issuer_urls: Vec<String>,
    /// Where its OCSP responder is: authorityInfoAccess, OCSP.
    pub ocsp_urls: Vec<String>,
}

/// What an infrastructure certificate is for. Closed: a purpose that is not here cannot be certified without an
/// approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InfrastructurePurpose {
    /// Signs SCEP replies: digitalSignature.
    RaSigning,
    /// Opens SCEP requests: keyEncipherment. RSA.
    RaEncryption,
    /// Both (RFC 8894, 2.1.2), for clients that take one certificate for everything, and serverAuth, as Windows
    /// demands an EKU there. The other one that Windows takes, Certificate Request Agent, would be the right to
    /// enrol for anybody wherever a Windows domain trusts the CA; serverAuth without a DNS name is worth nothing.
    /// RSA.
    RaCombined,
    /// Authenticates a gateway to the issuer: digitalSignature, clientAuth. P-256 or RSA.
    Connector,
    /// Signs OCSP answers about this CA's certificates: digitalSignature, OCSPSigning, and id-pkix-ocsp-nocheck, as
    /// nobody can ask a responder about itself. To be made for days, not for years.
    OcspSigning,
    /// A TLS server under these names, one at least: digitalSignature, serverAuth, subjectAltName. A name is a whole
    /// host's; there are no wildcards.
    TlsServer {
        /// DNS names.
        dns_names: Vec<String>,
        /// IP addresses.
        addresses: Vec<IpAddr>,
    },
}

impl InfrastructurePurpose {
    const fn usages(&self) -> KeyUsages {
        match self {
            Self::RaSigning | Self::Connector | Self::OcspSigning | Self::TlsServer { .. } => {
                KeyUsages::DIGITAL_SIGNATURE
            }
            Self::RaEncryption => KeyUsages::KEY_ENCIPHERMENT,
            Self::RaCombined => KeyUsages::DIGITAL_SIGNATURE.union(KeyUsages::KEY_ENCIPHERMENT),
        }
    }

    fn extended_usages(&self) -> Option<ExtendedKeyUsages> {
        let usage = match self {
            Self::RaSigning | Self::RaEncryption => return None,
            Self::RaCombined | Self::TlsServer { .. } => "serverAuth",
            Self::Connector => "clientAuth",
            Self::OcspSigning => "OCSPSigning",
        };
        ExtendedKeyUsages::purpose(usage).and_then(|purpose| ExtendedKeyUsages::new(vec![purpose]))
    }

    /// The names in a certificate for this purpose, those of DNS first; none but for a server.
    ///
    /// # Errors
    /// When a server has no name, or one that cannot be written.
    pub fn alternative_names(&self) -> Result<Vec<GeneralName>, CaError> {
        let Self::TlsServer { dns_names, addresses } = self else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        for text in dns_names {
            if text.contains('*') {
                let (attribute, why) = ("DNS".to_owned(), "a wildcard");
                return Err(CaError::ServerName(NameError::Value { attribute, why }));
            }
            names.push(GeneralName::dns(text).map_err(CaError::ServerName)?);
        }
        names.extend(addresses.iter().copied().map(GeneralName::ip));
        if names.is_empty() { Err(CaError::NamesMissing) } else { Ok(names) }
    }
}

/// A CA whose key is here: RSA of 2048 to 4096 bits, P-256 or P-384. Cheap to clone.
///
/// Certificates are version 3 and contain what the permit says, basicConstraints cA=FALSE, subjectKeyIdentifier
/// (RFC 7093, method 1), authorityKeyIdentifier and what [`LocalCaSettings`] adds; nothing else. They are signed
/// with PKCS #1 v1.5 and SHA-256, or ECDSA with the curve's digest.
///
/// It keeps no record: a certificate that the ledger does not know was never handed out.
#[derive(Clone, Debug)]
pub struct LocalCa(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    key: Arc<dyn Signer>,
    provider: Arc<dyn CryptoProvider>,
    scheme: SignatureScheme,
    chain: Vec<CertificateDer>,
    /// The issuing certificate's Name, DER.
    issuer: Vec<u8>,
    /// No certificate outlives any of its issuers.
    not_after: Timestamp,
    path_length: Option<u64>,
    /// The extensions that are the same in every certificate of a device, encoded once.
    common: Vec<u8>,
    /// Those of the system's own certificates. They name no OCSP responder: the ledger has no record of them, so a
    /// responder could only say that it does not know them.
    own: Vec<u8>,
}

fn urls(texts: &[String]) -> Result<Vec<GeneralName>, CaError> {
    texts.iter().map(|url| GeneralName::uri(url).map_err(CaError::Url)).collect()
}

fn random_serial(provider: &dyn CryptoProvider) -> Result<SerialNumber, CaError> {
    let mut octets = [0; 16];
    provider.random(&mut octets)?;
    Ok(SerialNumber::from_random(octets))
}

fn check_key(key: &SpkiDer) -> Result<(), CaError> {
    match key.algorithm() {
        KeyAlgorithm::Rsa(2048..=4096) | KeyAlgorithm::P256 | KeyAlgorithm::P384 => Ok(()),
        got @ KeyAlgorithm::Rsa(_) => Err(CaError::KeyNotAllowed { got }),
    }
}

fn check_new(subject: &DistinguishedName, validity: Duration) -> Result<(), CaError> {
    if subject.is_empty() {
        return Err(CaError::SubjectMissing);
    }
    if validity.as_secs() == 0 {
        return Err(CaError::EmptyValidity);
    }
    Ok(())
}

fn ca_extensions(role: Role, key: &SpkiDer) -> Extensions {
    let mut extensions = Extensions::default();
    extensions.basic_constraints(role);
    extensions.key_usage(KeyUsages::KEY_CERT_SIGN.union(KeyUsages::CRL_SIGN));
    extensions.subject_key_id(key);
    extensions
}

impl LocalCa {
    /// With the certificate that belongs to the key; `upper` are the certificates above it, in order. The root
    /// may be left out; at most 8 certificates.
    ///
    /// Makes one signature, to see that the key does.
    ///
    /// # Errors
    /// When the key is not the certificate's or of a kind that is not allowed, a certificate is no CA's, the
    /// chain does not hold together, or a URL cannot be written. Whether the certificates are valid now is for
    /// the caller to watch.
    pub fn new(
        key: Arc<dyn Signer>,
        certificate: CertificateDer,
        upper: Vec<CertificateDer>,
        settings: LocalCaSettings,
        provider: Arc<dyn CryptoProvider>,
    ) -> Result<Self, CaError> {
        check_key(key.public_key())?;
        if key.public_key() != certificate.spki() {
            return Err(CaError::KeyMismatch);
        }
        let scheme = SignatureScheme::default_for(key.public_key().algorithm());
        let probe = key.sign(scheme, PROBE)?;
        provider
            .verify(certificate.spki(), scheme, PROBE, &probe)
            .map_err(|_| CaError::KeyMismatch)?;

        let path_length = chain::path_length(&certificate, 0)?;
        let issuer = certificate.subject_der().to_vec();
        let key_id = certificate.subject_key_id().ok_or(CaError::NoSubjectKeyId)?;
        let crls = urls(&settings.crl_urls)?;
        let (responders, issuers) = (urls(&settings.ocsp_urls)?, urls(&settings.issuer_urls)?);
        let extensions = |responders: &[GeneralName]| {
            let mut extensions = Extensions::default();
            extensions.authority_key_id(key_id);
            extensions.crl_points(&crls);
            extensions.authority_info(responders, &issuers);
            extensions.into_der()
        };
        let (common, own) = (extensions(&responders), extensions(&[]));

        let mut chain = vec![certificate];
        chain.extend(upper);
        chain::check(&chain, &*provider)?;
        let not_after =
            chain.iter().map(CertificateDer::not_after).min().unwrap_or(Timestamp::EPOCH);
        Ok(Self(Arc::new(Inner {
            key,
            provider,
            scheme,
            chain,
            issuer,
            not_after,
            path_length,
            common,
            own,
        })))
    }

    /// Checks that this CA has issued a certificate: its name as issuer, its key's signature. For the certificates
    /// of the system itself, at start; validity is for the caller to watch.
    ///
    /// # Errors
    /// [`CaError::NotIssuedHere`] when the name or the signature is another's.
    pub fn check_issued(&self, certificate: &CertificateDer) -> Result<(), CaError> {
        let ours = self.0.chain.first().ok_or(CaError::NotIssuedHere)?;
        if !chain::same_name(certificate.issuer_der(), ours.subject_der()) {
            return Err(CaError::NotIssuedHere);
        }
        chain::signature(certificate, ours, 0, &*self.0.provider)
            .map_err(|_| CaError::NotIssuedHere)
    }

    /// Makes a self-signed root certificate: CA, keyCertSign and cRLSign, any number of CAs below it. It starts
    /// five minutes before `now` and ends `validity` after it.
    ///
    /// # Errors
    /// When the key is of a kind that is not allowed, the subject is empty, `validity` is under a second, or the
    /// key fails.
    pub fn self_signed_root(
        key: &dyn Signer,
        subject: &DistinguishedName,
        validity: Duration,
        now: Timestamp,
        provider: &dyn CryptoProvider,
    ) -> Result<CertificateDer, CaError> {
        let spki = key.public_key();
        check_key(spki)?;
        check_new(subject, validity)?;
        let name = subject.to_der();
        let parts = Parts {
            serial: &random_serial(provider)?,
            issuer: &name,
            not_before: now.minus(BACKDATE),
            not_after: now.plus(validity),
            subject: &name,
            spki,
            extensions: ca_extensions(Role::Root, spki),
        };
        certificate(parts, key, SignatureScheme::default_for(spki.algorithm()))
    }

    /// Makes the certificate of a subordinate CA: pathLenConstraint 0, so with no CA below it. It starts five
    /// minutes before `now` and ends `validity` after it.
    ///
    /// # Errors
    /// When this CA may have none below it, the subordinate would outlive it, or as for
    /// [`LocalCa::self_signed_root`].
    pub fn issue_subordinate(
        &self,
        key: &SpkiDer,
        subject: &DistinguishedName,
        validity: Duration,
        now: Timestamp,
    ) -> Result<CertificateDer, CaError> {
        if self.0.path_length == Some(0) {
            return Err(CaError::PathLength { position: 0, allowed: 0, below: 1 });
        }
        self.issue_own(key, subject, validity, now, ca_extensions(Role::LastCa, key))
    }

    /// Makes a certificate of the system itself, which has no approval. Never a CA's. It starts five minutes
    /// before `now` and ends `validity` after it.
    ///
    /// # Errors
    /// When the purpose needs an RSA key and this is none, the key is none of the purpose's kinds, a server has no
    /// name or one that cannot be written, the certificate would outlive the CA, or as for
    /// [`LocalCa::self_signed_root`].
    pub fn issue_infrastructure(
        &self,
        purpose: InfrastructurePurpose,
        key: &SpkiDer,
        subject: &DistinguishedName,
        validity: Duration,
        now: Timestamp,
    ) -> Result<CertificateDer, CaError> {
        let got = key.algorithm();
        let usages = purpose.usages();
        let rsa = matches!(got, KeyAlgorithm::Rsa(_));
        if usages.contains(KeyUsages::KEY_ENCIPHERMENT) && !rsa {
            return Err(CaError::KeyCannotEncipher { got });
        }
        if purpose == InfrastructurePurpose::Connector && got == KeyAlgorithm::P384 {
            return Err(CaError::KeyNotAllowed { got });
        }
        let names = purpose.alternative_names()?;
        let mut extensions = Extensions::default();
        extensions.basic_constraints(Role::EndEntity);
        extensions.key_usage(usages);
        if let Some(usages) = purpose.extended_usages() {
            extensions.extended_key_usages(&usages);
        }
        extensions.subject_alt_names(&names, Criticality::Ignorable);
        extensions.subject_key_id(key);
        if purpose == InfrastructurePurpose::OcspSigning {
            ocsp::no_check(&mut extensions);
        }
        self.issue_own(key, subject, validity, now, extensions)
    }

    /// Makes a delegated signer of OCSP answers about this CA's certificates (RFC 6960, 4.2.2.2), with a certificate
    /// that starts five minutes before `now` and ends `validity` after it.
    ///
    /// # Errors
    /// As for [`LocalCa::issue_infrastructure`].
    pub fn ocsp_signer(
        &self,
        key: Arc<dyn Signer>,
        subject: &DistinguishedName,
        validity: Duration,
        now: Timestamp,
    ) -> Result<OcspSigner, CaError> {
        let purpose = InfrastructurePurpose::OcspSigning;
        let certificate =
            self.issue_infrastructure(purpose, key.public_key(), subject, validity, now)?;
        OcspSigner::new(key, certificate)
    }

    /// What [`CertificateAuthority::issue`] does, for callers that bring their own threads: builds the
    /// certificate and makes one signature, about 15 to 250 µs with P-256 and some milliseconds with RSA-4096 or
    /// a token.
    ///
    /// # Errors
    /// Always [`IssueError::NothingIssued`]: what was not returned was not kept either.
    pub fn issue_blocking(&self, permit: IssuePermit) -> Result<CertificateDer, IssueError> {
        let serial = permit.serial().ok_or(IssueError::NothingIssued(CaError::SerialMissing))?;
        self.certify(permit.contents(), serial).map_err(IssueError::NothingIssued)
    }

    /// Makes a version 2 CRL (RFC 5280, 5) that lists exactly the entries, sorted by serial number, with
    /// authorityKeyIdentifier and cRLNumber: one signature. About a microsecond for each entry.
    ///
    /// # Errors
    /// When the CA's certificate does not allow it, it would never be valid, or the key fails.
    pub fn sign_crl(&self, order: &CrlOrder<'_>) -> Result<CrlDer, CaError> {
        let ours = self.0.chain.first().ok_or(CaError::NoSubjectKeyId)?;
        if let Some(der) = ours.extension(&oid::KEY_USAGE) {
            let usages = KeyUsages::from_der(der).map_err(|_| CaError::NoCrlSign)?;
            if !usages.contains(KeyUsages::CRL_SIGN) {
                return Err(CaError::NoCrlSign);
            }
        }
        let key_id = ours.subject_key_id().ok_or(CaError::NoSubjectKeyId)?;
        crl::sign(order, &self.0.issuer, key_id, &*self.0.key, self.0.scheme)
    }

    fn issue_own(
        &self,
        key: &SpkiDer,
        subject: &DistinguishedName,
        validity: Duration,
        now: Timestamp,
        mut extensions: Extensions,
    ) -> Result<CertificateDer, CaError> {
        check_key(key)?;
        check_new(subject, validity)?;
        extensions.push_encoded(&self.0.own);
        let parts = Parts {
            serial: &random_serial(&*self.0.provider)?,
            issuer: &self.0.issuer,
            not_before: now.minus(BACKDATE),
            not_after: now.plus(validity),
            subject: &subject.to_der(),
            spki: key,
            extensions,
        };
        self.sign(parts)
    }

    /// The one way to this CA's signature on a certificate.
    fn sign(&self, parts: Parts<'_>) -> Result<CertificateDer, CaError> {
        if parts.spki == self.0.key.public_key() {
            return Err(CaError::CaKeyReused);
        }
        if chain::same_name(parts.subject, parts.issuer) {
            return Err(CaError::CaNameReused);
        }
        if parts.not_after > self.0.not_after {
            return Err(CaError::OutlivesCa { not_after: parts.not_after, ca: self.0.not_after });
        }
        certificate(parts, &*self.0.key, self.0.scheme)
    }

    pub(crate) fn certify(
        &self,
        contents: &CertificateContents,
        serial: &SerialNumber,
    ) -> Result<CertificateDer, CaError> {
        let nameless = contents.subject.is_empty();
        if nameless && contents.subject_alt_names.is_empty() {
            return Err(CaError::NamesMissing);
        }
        if contents.not_after <= contents.not_before {
            return Err(CaError::EmptyValidity);
        }
        let usages = contents.key_usage;
        if usages.intersects(KeyUsages::KEY_CERT_SIGN.union(KeyUsages::CRL_SIGN)) {
            return Err(CaError::CaUsage { usages });
        }
        let mut extensions = Extensions::default();
        extensions.basic_constraints(Role::EndEntity);
        extensions.key_usage(usages);
        extensions.extended_key_usages(&contents.extended_key_usages);
        let criticality = if nameless { Criticality::Critical } else { Criticality::Ignorable };
        extensions.subject_alt_names(&contents.subject_alt_names, criticality);
        extensions.subject_key_id(&contents.spki);
        extensions.push_encoded(&self.0.common);
        let mut seen = Vec::new();
        for extra in &contents.extensions {
            if RESERVED.contains(&extra.oid) || seen.contains(&extra.oid) {
                return Err(CaError::ReservedExtension { oid: extra.oid });
            }
            seen.push(extra.oid);
            let criticality =
                if extra.critical { Criticality::Critical } else { Criticality::Ignorable };
            extensions.push(&extra.oid, criticality, &extra.value);
        }
        self.sign(Parts {
            serial,
            issuer: &self.0.issuer,
            not_before: contents.not_before,
            not_after: contents.not_after,
            subject: &contents.subject.to_der(),
            spki: &contents.spki,
            extensions,
        })
    }
}

#[async_trait]
impl CertificateAuthority for LocalCa {
    fn chain(&self) -> &[CertificateDer] {
        &self.0.chain
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { revoke: CanRevoke::Yes, recover: Recover::NothingKept }
    }

    /// A positive number of 16 octets, 126 bits of them random.
    fn choose_serial(&self) -> Result<Option<SerialNumber>, CaError> {
        random_serial(&*self.0.provider).map(Some)
    }

    /// Signs on the calling thread; see [`LocalCa::issue_blocking`] for what that costs.
    async fn issue(&self, permit: IssuePermit) -> Result<CertificateDer, IssueError> {
        self.issue_blocking(permit)
    }

    /// Always [`Found::Nothing`]: a certificate leaves this CA only as `issue`'s return value, and whoever
    /// called it records before releasing.
    async fn find(&self, _wanted: &Wanted<'_>) -> Result<Found, CaError> {
        Ok(Found::Nothing)
    }

    /// Always done: this CA keeps no list, and revokes what its next CRL is ordered to list.
    async fn revoke(&self, what: &Revocation<'_>) -> Result<Revoked, CaError> {
        Ok(Revoked { at: what.now })
    }

    /// Signs on the calling thread; see [`LocalCa::sign_crl`].
    async fn crl(&self, order: &CrlOrder<'_>) -> Result<CrlDer, CaError> {
        self.sign_crl(order)
    }
}
