//! OCSP (RFC 6960): requests read strictly, answers signed by a delegated signer.
//!
//! The RustCrypto crate for OCSP belongs to the generation before the one in use here, and what is needed of the format
//! is little: a request is read by the same strict reader as everything else of a peer, and an answer is written around
//! the CertID as it was asked for, octet by octet.
//!
//! Nothing here knows the time, the ledger or HTTP. The caller looks every serial number up, decides when an answer is
//! signed anew and how often; see `scep-server`.

use crate::error::CaError;
use crate::tbs::{Criticality, Extensions, oid};
use core::time::Duration;
use scep_ledger::RevocationReason;
use scep_types::tlv::{self, Reader, Tlv, TlvError, tag};
use scep_types::{
    CertificateDer, NameHash, ObjectIdentifier, SerialNumber, SignatureScheme, Signer, SpkiDer,
    Timestamp,
};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use std::sync::Arc;
use thiserror::Error;

/// The most single requests of one message. Each costs a look into the ledger.
pub const MAX_OCSP_REQUESTS: usize = 8;
/// The longest nonce that is echoed (RFC 9654, 2.1).
pub const MAX_OCSP_NONCE: usize = 128;
/// The longest request, octets: eight CertIDs, a nonce, and a signature that nobody needs.
pub const MAX_OCSP_REQUEST: usize = 8 << 10;

const NONCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.2");
const BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");

const ENUMERATED: u8 = 0x0a;

/// Why a request cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OcspRequestError {
    /// Not DER, or not an OCSPRequest.
    #[error("no OCSP request: {0}")]
    Malformed(#[from] TlvError),
    /// Longer than [`MAX_OCSP_REQUEST`].
    #[error("{got} octets; at most {max} are read")]
    TooLong {
        /// Its length.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// Another version than 1.
    #[error("another version than 1")]
    Version,
    /// No single request, or more than [`MAX_OCSP_REQUESTS`].
    #[error("1 to {max} certificates can be asked for at once")]
    Count {
        /// The limit.
        max: usize,
    },
    /// No octet, more than [`MAX_OCSP_NONCE`], or two nonces (RFC 9654, 2.1).
    #[error("there is one nonce of 1 to {max} octets, or none")]
    Nonce {
        /// The limit.
        max: usize,
    },
    /// A critical extension that is not known.
    #[error("the critical extension {oid} is not known")]
    Critical {
        /// extnID.
        oid: ObjectIdentifier,
    },
}

/// A digest that names the issuer in a CertID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IssuerDigest {
    Sha1,
    Sha256,
    /// Whatever else: it names no issuer that is known here.
    Other,
}

/// A CertID (RFC 6960, 4.1.1), with the octets it came in: they are the ones that are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertId {
    der: Vec<u8>,
    digest: IssuerDigest,
    name_hash: Vec<u8>,
    key_hash: Vec<u8>,
    serial: Vec<u8>,
}

impl CertId {
    /// As it was asked for, DER.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// The serial number; `None` for one that no certificate can have (RFC 5280, 4.1.2.2).
    #[must_use]
    pub fn serial(&self) -> Option<SerialNumber> {
        SerialNumber::from_content(&self.serial).ok()
    }

    fn read(whole: &Tlv<'_>) -> Result<Self, TlvError> {
        let mut fields = whole.reader();
        let mut algorithm = fields.expect(tag::SEQUENCE)?.reader();
        let digest = match algorithm.expect(tag::OID)?.oid()? {
            SHA1 => IssuerDigest::Sha1,
            SHA256 => IssuerDigest::Sha256,
            _ => IssuerDigest::Other,
        };
        // NULL or nothing: both are written. What another digest has is not looked at.
        if digest == IssuerDigest::Other {
            while !algorithm.is_empty() {
                algorithm.any()?;
            }
        } else if let Some(null) = algorithm.optional(tag::NULL)?
            && !null.value.is_empty()
        {
            return Err(null.invalid("NULL"));
        }
        algorithm.finish()?;
        let name_hash = fields.expect(tag::OCTET_STRING)?.value.to_vec();
        let key_hash = fields.expect(tag::OCTET_STRING)?.value.to_vec();
        let serial = fields.expect(tag::INTEGER)?.value.to_vec();
        fields.finish()?;
        let der = tlv::encode(tag::SEQUENCE, whole.value);
        Ok(Self { der, digest, name_hash, key_hash, serial })
    }
}

/// An OCSPRequest (RFC 6960, 4.1.1). Its signature and its requestor's name, if any, are not looked at: everybody may
/// ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OcspRequest {
    /// What is asked for: one certificate at least.
    pub certificates: Vec<CertId>,
    /// The nonce.
    pub nonce: Option<Vec<u8>>,
}

impl OcspRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// When it is no request, or beyond a limit; the answer is [`OcspFailure::MalformedRequest`].
    pub fn parse(der: &[u8]) -> Result<Self, OcspRequestError> {
        if der.len() > MAX_OCSP_REQUEST {
            return Err(OcspRequestError::TooLong { got: der.len(), max: MAX_OCSP_REQUEST });
        }
        let mut whole = Reader::new(der).only(tag::SEQUENCE)?.reader();
        let mut tbs = whole.expect(tag::SEQUENCE)?.reader();
        whole.optional(tag::context_constructed(0))?; // the signature
        whole.finish()?;
        if let Some(version) = tbs.optional(tag::context_constructed(0))?
            && version.reader().only(tag::INTEGER)?.small_int()? != 0
        {
            return Err(OcspRequestError::Version);
        }
        tbs.optional(tag::context_constructed(1))?; // requestorName
        let mut list = tbs.expect(tag::SEQUENCE)?.reader();
        let extensions = tbs.optional(tag::context_constructed(2))?;
        tbs.finish()?;

        let mut certificates = Vec::new();
        while !list.is_empty() {
            if certificates.len() >= MAX_OCSP_REQUESTS {
                return Err(OcspRequestError::Count { max: MAX_OCSP_REQUESTS });
            }
            let mut one = list.expect(tag::SEQUENCE)?.reader();
            certificates.push(CertId::read(&one.expect(tag::SEQUENCE)?)?);
            if let Some(extensions) = one.optional(tag::context_constructed(0))? {
                read_extensions(&extensions, |oid, critical, _| refuse_critical(oid, critical))?;
            }
            one.finish()?;
        }
        if certificates.is_empty() {
            return Err(OcspRequestError::Count { max: MAX_OCSP_REQUESTS });
        }
        let mut nonce = None;
        if let Some(extensions) = extensions {
            read_extensions(&extensions, |oid, critical, value| {
                if oid != NONCE {
                    return refuse_critical(oid, critical);
                }
                let octets = Reader::new(value).only(tag::OCTET_STRING)?.value;
                if nonce.is_some() || octets.is_empty() || octets.len() > MAX_OCSP_NONCE {
                    return Err(OcspRequestError::Nonce { max: MAX_OCSP_NONCE });
                }
                nonce = Some(octets.to_vec());
                Ok(())
            })?;
        }
        Ok(Self { certificates, nonce })
    }
}

fn refuse_critical(oid: ObjectIdentifier, critical: bool) -> Result<(), OcspRequestError> {
    if critical { Err(OcspRequestError::Critical { oid }) } else { Ok(()) }
}

/// Extensions within their context tag: extnID, critical, the contents of extnValue.
fn read_extensions(
    tagged: &Tlv<'_>,
    mut each: impl FnMut(ObjectIdentifier, bool, &[u8]) -> Result<(), OcspRequestError>,
) -> Result<(), OcspRequestError> {
    let mut list = tagged.reader().only(tag::SEQUENCE)?.reader();
    while !list.is_empty() {
        let mut one = list.expect(tag::SEQUENCE)?.reader();
        let oid = one.expect(tag::OID)?.oid()?;
        let critical = one.optional(tag::BOOLEAN)?.map(|flag| flag.boolean()).transpose()?;
        let value = one.expect(tag::OCTET_STRING)?.value;
        one.finish()?;
        each(oid, critical.unwrap_or(false), value)?;
    }
    Ok(())
}

/// Answers without a signature (RFC 6960, 4.2.1): they state nothing about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OcspFailure {
    /// It cannot be read, or is beyond a limit.
    MalformedRequest,
    /// The responder failed.
    InternalError,
    /// Not now.
    TryLater,
    /// Not this responder's to say: certificates of another CA.
    Unauthorized,
}

impl OcspFailure {
    const fn code(self) -> u8 {
        match self {
            Self::MalformedRequest => 1,
            Self::InternalError => 2,
            Self::TryLater => 3,
            Self::Unauthorized => 6,
        }
    }

    /// The OCSPResponse.
    #[must_use]
    pub fn to_der(self) -> Vec<u8> {
        tlv::sequence(&[&[ENUMERATED, 1, self.code()]])
    }
}

/// What is said about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OcspStatus {
    /// Issued, and not revoked.
    Good,
    /// Revoked.
    Revoked {
        /// Since when.
        at: Timestamp,
        /// Why.
        reason: RevocationReason,
    },
    /// Not known to be issued.
    Unknown,
}

impl OcspStatus {
    /// CertStatus.
    fn to_der(self) -> Vec<u8> {
        match self {
            Self::Good => tlv::encode(tag::context(0), &[]),
            Self::Revoked { at, reason: RevocationReason::Unspecified } => {
                tlv::encode(tag::context_constructed(1), &generalized(at))
            }
            Self::Revoked { at, reason } => {
                let code = [ENUMERATED, 1, reason.code()];
                let reason = tlv::encode(tag::context_constructed(0), &code);
                tlv::construct(tag::context_constructed(1), &[&generalized(at), &reason])
            }
            Self::Unknown => tlv::encode(tag::context(2), &[]),
        }
    }
}

/// GeneralizedTime, which OCSP has for every year.
fn generalized(t: Timestamp) -> Vec<u8> {
    let (y, mo, d, h, mi, s) = t.civil();
    let text = format!("{y:04}{mo:02}{d:02}{h:02}{mi:02}{s:02}Z");
    tlv::encode(tag::GENERALIZED_TIME, text.as_bytes())
}

/// Name and key of a CA as CertIDs hash them.
#[derive(Clone, Debug)]
pub struct OcspIssuer {
    name: NameHash,
    sha1: [[u8; 20]; 2],
    sha256: [[u8; 32]; 2],
}

impl OcspIssuer {
    /// Of a CA's certificate.
    ///
    /// # Errors
    /// When its key cannot be read.
    pub fn of(ca: &CertificateDer) -> Result<Self, CaError> {
        let (name, key) = (ca.subject_der(), key_bits(ca.spki())?);
        Ok(Self {
            name: NameHash::of(name),
            sha1: [Sha1::digest(name).into(), Sha1::digest(key).into()],
            sha256: [Sha256::digest(name).into(), Sha256::digest(key).into()],
        })
    }

    /// Its name, as the ledger looks for it.
    #[must_use]
    pub const fn name(&self) -> NameHash {
        self.name
    }

    /// Whether a certificate is asked for that this CA would have issued.
    #[must_use]
    pub fn is_named_by(&self, id: &CertId) -> bool {
        let (name, key): (&[u8], &[u8]) = match id.digest {
            IssuerDigest::Sha1 => (&self.sha1[0], &self.sha1[1]),
            IssuerDigest::Sha256 => (&self.sha256[0], &self.sha256[1]),
            IssuerDigest::Other => return false,
        };
        id.name_hash == name && id.key_hash == key
    }
}

/// The octets of subjectPublicKey, without tag and unused bits.
pub(crate) fn key_bits(spki: &SpkiDer) -> Result<&[u8], CaError> {
    let malformed = |why| CaError::Extension { position: 0, why };
    let mut fields = Reader::new(spki.as_der()).only(tag::SEQUENCE).map_err(malformed)?.reader();
    fields.expect(tag::SEQUENCE).map_err(malformed)?;
    fields.expect(tag::BIT_STRING).and_then(|bits| bits.whole_bits()).map_err(malformed)
}

/// What is said about one certificate, from when and for how long.
#[derive(Clone, Copy, Debug)]
pub struct OcspStatement<'a> {
    /// Which.
    pub certificate: &'a CertId,
    /// What.
    pub status: OcspStatus,
}

/// Signs OCSP answers for a CA, with a key of its own: see [`crate::LocalCa::ocsp_signer`].
#[derive(Clone, Debug)]
pub struct OcspSigner {
    key: Arc<dyn Signer>,
    certificate: CertificateDer,
    scheme: SignatureScheme,
    /// ResponderID, byKey.
    id: Vec<u8>,
}

impl OcspSigner {
    pub(crate) fn new(key: Arc<dyn Signer>, certificate: CertificateDer) -> Result<Self, CaError> {
        if key.public_key() != certificate.spki() {
            return Err(CaError::KeyMismatch);
        }
        let hash = tlv::encode(tag::OCTET_STRING, &Sha1::digest(key_bits(certificate.spki())?));
        let id = tlv::encode(tag::context_constructed(2), &hash);
        let scheme = SignatureScheme::default_for(key.public_key().algorithm());
        Ok(Self { key, certificate, scheme, id })
    }

    /// Its certificate, which every answer carries.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer {
        &self.certificate
    }

    /// A signed OCSPResponse: one signature. nextUpdate is `validity` after `now`, but never after the signer's own
    /// end.
    ///
    /// # Errors
    /// When the signer has ended, or the key fails.
    pub fn sign(
        &self,
        statements: &[OcspStatement<'_>],
        nonce: Option<&[u8]>,
        now: Timestamp,
        validity: Duration,
    ) -> Result<Vec<u8>, CaError> {
        let next = now.plus(validity).min(self.certificate.not_after());
        if next <= now {
            return Err(CaError::EmptyValidity);
        }
        let (now, next) =
            (generalized(now), tlv::encode(tag::context_constructed(0), &generalized(next)));
        let responses: Vec<u8> = statements
            .iter()
            .flat_map(|one| {
                let id = one.certificate.as_der();
                tlv::sequence(&[id, &one.status.to_der(), &now, &next])
            })
            .collect();
        let mut extensions = Extensions::default();
        if let Some(nonce) = nonce {
            let value = tlv::encode(tag::OCTET_STRING, nonce);
            extensions.push(&NONCE, Criticality::Ignorable, &value);
        }
        let extensions = extensions.into_der();
        let extensions = if extensions.is_empty() {
            extensions
        } else {
            tlv::encode(tag::context_constructed(1), &tlv::sequence(&[&extensions]))
        };
        let data =
            tlv::sequence(&[&self.id, &now, &tlv::encode(tag::SEQUENCE, &responses), &extensions]);
        let signature = self.key.sign(self.scheme, &data)?;
        let certificates = tlv::sequence(&[self.certificate.as_der()]);
        let basic = tlv::sequence(&[
            &data,
            &self.scheme.algorithm_der(),
            &tlv::whole_bits(&signature),
            &tlv::encode(tag::context_constructed(0), &certificates),
        ]);
        let bytes = tlv::sequence(&[&tlv::oid(&BASIC), &tlv::encode(tag::OCTET_STRING, &basic)]);
        Ok(tlv::sequence(&[&[ENUMERATED, 1, 0], &tlv::encode(tag::context_constructed(0), &bytes)]))
    }
}

/// id-pkix-ocsp-nocheck (RFC 6960, 4.2.2.2.1): the signer's certificate is short-lived instead of checked.
pub(crate) fn no_check(extensions: &mut Extensions) {
    extensions.push(&oid::OCSP_NO_CHECK, Criticality::Ignorable, &[tag::NULL, 0]);
}
