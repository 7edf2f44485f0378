//! Certificates as received, with the tolerant view that SCEP needs.

use crate::id::{CertificateFingerprint, SerialNumber};
use crate::spki::{SpkiDer, SpkiError};
use crate::time::Timestamp;
use crate::tlv::{Reader, Tlv, TlvError, tag};
use const_oid::ObjectIdentifier;
use core::fmt;
use core::ops::Range;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Why bytes are not a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// Not the DER of a Certificate.
    #[error("not a certificate: {0}")]
    Der(#[from] TlvError),
    /// Its public key cannot be used.
    #[error("the certificate's key: {0}")]
    Key(#[from] SpkiError),
}

/// One extension of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtensionRef<'a> {
    /// extnID.
    pub oid: ObjectIdentifier,
    /// critical.
    pub critical: bool,
    /// The contents of extnValue.
    pub value: &'a [u8],
}

/// A DER certificate, kept exactly as received.
///
/// The view is tolerant where the field needs it: signer certificates that devices make for one request are
/// version 1, have a critical authorityKeyIdentifier, an odd serial number or a validity of years ago. Nothing
/// here is verified; what is trusted is decided where the certificate is used. Read: issuer, serial, validity,
/// subject, key, and the extensions' values by OID.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CertificateDer {
    der: Vec<u8>,
    parts: Parts,
    spki: SpkiDer,
    not_before: Timestamp,
    not_after: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Parts {
    tbs: Range<usize>,
    serial: Range<usize>,
    issuer: Range<usize>,
    subject: Range<usize>,
    extensions: Range<usize>,
    signature_algorithm: Range<usize>,
    signature: Range<usize>,
}

const fn raw(tlv: &Tlv<'_>) -> Range<usize> {
    tlv.at..tlv.at.saturating_add(tlv.raw.len())
}

const fn contents(tlv: &Tlv<'_>) -> Range<usize> {
    let end = tlv.at.saturating_add(tlv.raw.len());
    end.saturating_sub(tlv.value.len())..end
}

impl CertificateDer {
    /// Parses one certificate.
    ///
    /// # Errors
    /// When it is no certificate, or its key is of a kind we do not know.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let mut outer = Reader::new(der).only(tag::SEQUENCE)?.reader();
        let tbs = outer.expect(tag::SEQUENCE)?;
        let signature_algorithm = outer.expect(tag::SEQUENCE)?;
        let signature = outer.expect(tag::BIT_STRING)?;
        outer.finish()?;
        signature.whole_bits()?;
        let mut fields = tbs.reader();
        fields.optional(tag::context_constructed(0))?;
        let serial = fields.expect(tag::INTEGER)?;
        fields.expect(tag::SEQUENCE)?;
        let issuer = fields.expect(tag::SEQUENCE)?;
        let mut validity = fields.expect(tag::SEQUENCE)?.reader();
        let not_before = validity.any()?.time()?;
        let not_after = validity.any()?.time()?;
        validity.finish()?;
        let subject = fields.expect(tag::SEQUENCE)?;
        let spki = fields.expect(tag::SEQUENCE)?;
        fields.optional(tag::context(1))?;
        fields.optional(tag::context(2))?;
        let extensions = match fields.optional(tag::context_constructed(3))? {
            Some(explicit) => {
                let mut inner = explicit.reader();
                let list = inner.expect(tag::SEQUENCE)?;
                inner.finish()?;
                contents(&list)
            }
            None => 0..0,
        };
        fields.finish()?;
        let signature_bits = contents(&signature);
        Ok(Self {
            parts: Parts {
                tbs: raw(&tbs),
                serial: contents(&serial),
                issuer: raw(&issuer),
                subject: raw(&subject),
                extensions,
                signature_algorithm: raw(&signature_algorithm),
                signature: signature_bits.start.saturating_add(1)..signature_bits.end,
            },
            spki: SpkiDer::parse(spki.raw)?,
            not_before,
            not_after,
            der: der.to_vec(),
        })
    }

    fn part(&self, range: &Range<usize>) -> &[u8] {
        self.der.get(range.clone()).unwrap_or_default()
    }

    /// The DER as received.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 over the DER.
    #[must_use]
    pub fn fingerprint(&self) -> CertificateFingerprint {
        CertificateFingerprint::from_bytes(Sha256::digest(&self.der).into())
    }

    /// The TBSCertificate's DER: what the signature is over.
    #[must_use]
    pub fn tbs_der(&self) -> &[u8] {
        self.part(&self.parts.tbs)
    }

    /// The serial number's content octets, of whatever length and sign.
    #[must_use]
    pub fn serial_content(&self) -> &[u8] {
        self.part(&self.parts.serial)
    }

    /// The serial number, when it is one that RFC 5280 allows.
    #[must_use]
    pub fn serial(&self) -> Option<SerialNumber> {
        SerialNumber::from_content(self.serial_content()).ok()
    }

    /// The issuer Name's DER.
    #[must_use]
    pub fn issuer_der(&self) -> &[u8] {
        self.part(&self.parts.issuer)
    }

    /// The subject Name's DER.
    #[must_use]
    pub fn subject_der(&self) -> &[u8] {
        self.part(&self.parts.subject)
    }

    /// The public key.
    #[must_use]
    pub const fn spki(&self) -> &SpkiDer {
        &self.spki
    }

    /// notBefore.
    #[must_use]
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// notAfter.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The signature's AlgorithmIdentifier, DER.
    #[must_use]
    pub fn signature_algorithm_der(&self) -> &[u8] {
        self.part(&self.parts.signature_algorithm)
    }

    /// The signature's octets.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        self.part(&self.parts.signature)
    }

    /// The extensions in order.
    ///
    /// # Errors
    /// When one is malformed.
    pub fn extensions(&self) -> Result<Vec<ExtensionRef<'_>>, TlvError> {
        let mut reader = Reader::new(self.part(&self.parts.extensions));
        let mut all = Vec::new();
        while !reader.is_empty() {
            let mut fields = reader.expect(tag::SEQUENCE)?.reader();
            let oid = fields.any()?.oid()?;
            let critical = match fields.optional(tag::BOOLEAN)? {
                // DER leaves DEFAULT FALSE out; certificates with an explicit FALSE exist.
                Some(flag) => flag.boolean()?,
                None => false,
            };
            let value = fields.expect(tag::OCTET_STRING)?.value;
            fields.finish()?;
            all.push(ExtensionRef { oid, critical, value });
        }
        Ok(all)
    }

    /// The contents of the extension with this OID.
    #[must_use]
    pub fn extension(&self, oid: &ObjectIdentifier) -> Option<&[u8]> {
        self.extensions().ok()?.into_iter().find(|e| e.oid == *oid).map(|e| e.value)
    }

    /// The subjectKeyIdentifier's octets.
    #[must_use]
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        let value = self.extension(&ObjectIdentifier::new_unwrap("2.5.29.14"))?;
        Reader::new(value).only(tag::OCTET_STRING).ok().map(|tlv| tlv.value)
    }
}

impl fmt::Debug for CertificateDer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateDer({})", self.fingerprint())
    }
}
