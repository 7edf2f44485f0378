//! SignedData (RFC 5652, 5): read and verified.

use crate::algorithm::{Algorithm, Hash, signature_scheme};
use crate::error::{CmsError, structure};
use crate::limits::{LegacyAlgorithms, Limits, at_most};
use crate::oid;
use crate::read::{IssuerSerial, content_info, contents, part, same_name, whole};
use scep_types::tlv::{Reader, Tlv, tag};
use scep_types::{
    CertificateDer, CertificateError, CryptoProvider, ObjectIdentifier, SignatureScheme, SpkiDer,
};
use std::ops::Range;

/// A parsed, not yet verified SignedData (RFC 5652, 5.1).
///
/// ```text
/// version            1 to 5
/// digestAlgorithms   any
/// encapContentInfo   eContent absent, empty, or an OCTET STRING
/// certificates [0]   up to max_certificates; plain certificates only
/// crls [1]           up to max_certificates; plain CRLs only
/// signerInfos        none (certs-only) or one
/// ```
///
/// RFC 5652 allows many signers. Here one is allowed, so that there is never a question whose attributes
/// count.
#[derive(Debug)]
pub struct SignedData {
    der: Vec<u8>,
    version: u64,
    digest_algorithms: Range<usize>,
    content_type: ObjectIdentifier,
    content: Option<Range<usize>>,
    certificates: Vec<CertificateDer>,
    /// The error of the first certificate that could not be read.
    unreadable: Option<CertificateError>,
    crls: Vec<Range<usize>>,
    /// Whether certificates or crls are there, be they empty.
    optional_fields: bool,
    signer: Option<SignerInfo>,
}

/// SignerInfo (RFC 5652, 5.3), with ranges into the message.
#[derive(Debug)]
struct SignerInfo {
    at: usize,
    sid: SignerIdentifier,
    digest_algorithm: Range<usize>,
    /// Whole, with its tag `[0]`.
    signed_attributes: Range<usize>,
    attributes: Vec<Attribute>,
    signature_algorithm: Range<usize>,
    signature: Range<usize>,
    unsigned_attributes: bool,
}

#[derive(Debug)]
enum SignerIdentifier {
    IssuerSerial(IssuerSerial),
    KeyId(Range<usize>),
}

#[derive(Debug)]
struct Attribute {
    oid: ObjectIdentifier,
    whole: Range<usize>,
    value: Range<usize>,
}

impl SignedData {
    /// Parses a ContentInfo of SignedData in DER (for BER, [`ber::normalize`](crate::ber::normalize) first).
    ///
    /// A certificate that [`CertificateDer::parse`] cannot read (a key of another algorithm, for one) is left out
    /// of [`SignedData::certificates`]: clients send whole chains, and what is not the signer's proves nothing
    /// anyway. When it is the signer's, verifying fails.
    ///
    /// # Errors
    /// [`CmsError::Malformed`] and [`CmsError::Structure`] when it has not the form above; [`CmsError::Limit`]
    /// beyond a limit.
    pub fn parse(der: &[u8], limits: &Limits) -> Result<Self, CmsError> {
        limits.check_bytes(der)?;
        let mut fields = content_info(der, &oid::SIGNED_DATA, "content that is no SignedData")?;
        let version = fields.any()?;
        if !(1..=5).contains(&version.small_int()?) {
            return Err(structure("SignedData of unknown version", version.at));
        }
        let digest_algorithms = fields.expect(tag::SET)?;
        let mut encapsulated = fields.expect(tag::SEQUENCE)?.reader();
        let content_type = encapsulated.any()?.oid()?;
        let content = match encapsulated.optional(tag::context_constructed(0))? {
            Some(explicit) => {
                let mut inner = explicit.reader();
                let octets = inner.expect(tag::OCTET_STRING)?;
                inner.finish()?;
                Some(contents(&octets))
            }
            None => None,
        };
        encapsulated.finish()?;
        let certificate_set = fields.optional(tag::context_constructed(0))?;
        let crl_set = fields.optional(tag::context_constructed(1))?;
        let signer_set = fields.expect(tag::SET)?;
        fields.finish()?;

        let mut certificates = Vec::new();
        let mut unreadable = None;
        if let Some(set) = &certificate_set {
            let other = "certificate of a kind that is not understood";
            for plain in plain(set, "certificates", other, limits)? {
                match CertificateDer::parse(plain.raw) {
                    Ok(certificate) => certificates.push(certificate),
                    Err(error) => unreadable = unreadable.or(Some(error)),
                }
            }
        }
        let crls = match &crl_set {
            Some(set) => {
                let other = "revocation information of a kind that is not understood";
                plain(set, "CRLs", other, limits)?.iter().map(whole).collect()
            }
            None => Vec::new(),
        };
        let mut signers = signer_set.reader();
        let signer = if signers.is_empty() {
            None
        } else {
            Some(SignerInfo::read(&signers.expect(tag::SEQUENCE)?, limits)?)
        };
        if !signers.is_empty() {
            return Err(structure("second SignerInfo", signers.at()));
        }
        Ok(Self {
            version: version.small_int()?,
            digest_algorithms: contents(&digest_algorithms),
            content_type,
            content,
            certificates,
            unreadable,
            crls,
            optional_fields: certificate_set.is_some() || crl_set.is_some(),
            signer,
            der: der.to_vec(),
        })
    }

    /// The certificates that could be read, in the order sent.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer] {
        &self.certificates
    }

    /// The SubjectKeyIdentifier that the one SignerInfo names, when it names one.
    #[must_use]
    pub fn signer_key_id(&self) -> Option<&[u8]> {
        match &self.signer.as_ref()?.sid {
            SignerIdentifier::KeyId(id) => Some(part(&self.der, id)),
            SignerIdentifier::IssuerSerial(_) => None,
        }
    }

    /// Verifies by the embedded certificate that the one SignerInfo names, wherever it stands in the set. Trusts
    /// nobody: whose certificate it is, is for the caller to judge.
    ///
    /// Signed attributes are mandatory, contentType and messageDigest among them, no type twice and each with one
    /// value. The signature is checked over the attributes as sent and, where that fails, in DER order: there are
    /// clients that sign them sorted and send them unsorted.
    ///
    /// # Errors
    /// [`CmsError::Algorithm`] before anything else, when digest or signature algorithm is not served;
    /// [`CmsError::Structure`] when there is no signer, no or more than one certificate of it, or the
    /// attributes are not as above; [`CmsError::SignatureInvalid`] when digest or signature is wrong.
    pub fn verify(
        self,
        provider: &dyn CryptoProvider,
        legacy: LegacyAlgorithms,
    ) -> Result<VerifiedSignedData, CmsError> {
        let signer = self.signer.as_ref().ok_or(NO_SIGNER)?;
        let (hash, scheme) = signer.scheme(&self.der, legacy)?;
        let index = self.resolve(signer)?;
        self.check_attributes(signer, hash)?;
        let key =
            self.certificates.get(index).map(CertificateDer::spki).cloned().ok_or(NO_SIGNER)?;
        let signature = part(&self.der, &signer.signature);
        let as_sent = signer.signed_octets(&self.der);
        let verified = provider.verify(&key, scheme, &as_sent, signature).or_else(|invalid| {
            match signer.sorted_octets(&self.der) {
                sorted if sorted != as_sent => provider.verify(&key, scheme, &sorted, signature),
                _ => Err(invalid),
            }
        });
        verified.map_err(|_| CmsError::SignatureInvalid)?;
        self.into_verified(key, Some(index), scheme)
    }

    /// Verifies a SignedData without certificates whose sid is the SubjectKeyIdentifier of one of `pinned`; the scheme
    /// is fixed by the pinned key ([`SignatureScheme::default_for`]).
    ///
    /// Narrower than RFC 5652, as both ends are ours: version 3, one digestAlgorithm, no certificates, no CRLs, no
    /// unsigned attributes, signedAttrs exactly contentType and messageDigest in DER order.
    ///
    /// # Errors
    /// [`CmsError::SignerUnknown`] when the sid is none of `pinned`'s; otherwise as [`SignedData::verify`], and
    /// [`CmsError::Structure`] for anything that form does not have.
    pub fn verify_pinned(
        self,
        provider: &dyn CryptoProvider,
        pinned: &[&SpkiDer],
    ) -> Result<VerifiedSignedData, CmsError> {
        let signer = self.signer.as_ref().ok_or(NO_SIGNER)?;
        let SignerIdentifier::KeyId(id) = &signer.sid else {
            return Err(structure("signer that is not named by its key id", signer.at));
        };
        let id = part(&self.der, id);
        let mut keys = pinned.iter().filter(|key| key.key_id().as_bytes() == id);
        let key = *keys.next().ok_or(CmsError::SignerUnknown)?;
        if keys.any(|other| *other != key) {
            return Err(structure("key id of more than one pinned key", signer.at));
        }
        if self.version != 3 {
            return Err(structure("SignedData of another version than 3", 0));
        }
        if self.optional_fields || signer.unsigned_attributes {
            return Err(structure("certificates, CRLs or unsigned attributes", signer.at));
        }
        if part(&self.der, &self.digest_algorithms) != part(&self.der, &signer.digest_algorithm) {
            return Err(structure(
                "digestAlgorithms other than the signer's",
                self.digest_algorithms.start,
            ));
        }
        let (hash, scheme) = signer.scheme(&self.der, LegacyAlgorithms::Refuse)?;
        if scheme != SignatureScheme::default_for(key.algorithm()) {
            return Err(structure("signature scheme other than the pinned key's", signer.at));
        }
        let exact = [oid::CONTENT_TYPE, oid::MESSAGE_DIGEST];
        if !signer.attributes.iter().map(|attribute| attribute.oid).eq(exact) {
            return Err(structure(
                "signed attributes other than contentType and messageDigest, in this order",
                signer.signed_attributes.start,
            ));
        }
        self.check_attributes(signer, hash)?;
        let signature = part(&self.der, &signer.signature);
        provider
            .verify(key, scheme, &signer.signed_octets(&self.der), signature)
            .map_err(|_| CmsError::SignatureInvalid)?;
        self.into_verified(key.clone(), None, scheme)
    }

    /// The certificates of a degenerate (certs-only) SignedData (RFC 8894, 3.4): no signer, no content. First the
    /// order sent.
    ///
    /// # Errors
    /// [`CmsError::Structure`] when there is a signer or content, or no certificate; [`CmsError::Certificate`]
    /// when none can be read.
    pub fn into_certs_only(self) -> Result<Vec<CertificateDer>, CmsError> {
        self.check_degenerate()?;
        if self.certificates.is_empty() {
            return Err(self
                .unreadable
                .map_or(structure("certs-only message without certificates", 0), Into::into));
        }
        Ok(self.certificates)
    }

    /// The CRLs (DER) of a degenerate SignedData (RFC 8894, 3.4).
    ///
    /// # Errors
    /// [`CmsError::Structure`] when there is a signer or content, or no CRL.
    pub fn into_crls_only(self) -> Result<Vec<Vec<u8>>, CmsError> {
        self.check_degenerate()?;
        if self.crls.is_empty() {
            return Err(structure("degenerate message without CRLs", 0));
        }
        Ok(self.crls.iter().map(|crl| part(&self.der, crl).to_vec()).collect())
    }

    fn check_degenerate(&self) -> Result<(), CmsError> {
        if let Some(signer) = &self.signer {
            return Err(structure("signer in a degenerate message", signer.at));
        }
        match &self.content {
            Some(content) if !content.is_empty() => {
                Err(structure("content in a degenerate message", content.start))
            }
            _ => Ok(()),
        }
    }

    fn content(&self) -> &[u8] {
        self.content.as_ref().map(|range| part(&self.der, range)).unwrap_or_default()
    }

    /// Which of the certificates is the signer's.
    fn resolve(&self, signer: &SignerInfo) -> Result<usize, CmsError> {
        let named = |certificate: &CertificateDer| match &signer.sid {
            SignerIdentifier::KeyId(id) => {
                certificate.subject_key_id() == Some(part(&self.der, id))
            }
            SignerIdentifier::IssuerSerial(id) => {
                certificate.serial_content() == part(&self.der, &id.serial)
                    && same_name(certificate.issuer_der(), part(&self.der, &id.issuer))
            }
        };
        let mut found: Option<(usize, &CertificateDer)> = None;
        for (index, certificate) in self.certificates.iter().enumerate() {
            if !named(certificate) {
                continue;
            }
            match found {
                // The same certificate sent twice is one certificate.
                Some((_, first)) if first == certificate => {}
                Some(_) => return Err(structure("signer named by two certificates", signer.at)),
                None => found = Some((index, certificate)),
            }
        }
        match (found, self.unreadable) {
            (Some((index, _)), _) => Ok(index),
            (None, Some(error)) => Err(error.into()),
            (None, None) => Err(structure("signer without a certificate", signer.at)),
        }
    }

    /// The rules of RFC 5652, 5.6 and 11, on the attributes that bind the content.
    fn check_attributes(&self, signer: &SignerInfo, hash: Hash) -> Result<(), CmsError> {
        let value = |oid: &ObjectIdentifier, missing| {
            let at = signer.signed_attributes.start;
            let found = signer.attributes.iter().find(|attribute| attribute.oid == *oid);
            let range = &found.ok_or_else(|| structure(missing, at))?.value;
            Ok::<_, CmsError>((part(&self.der, range), range.start))
        };
        let (content_type, at) = value(&oid::CONTENT_TYPE, "no contentType attribute")?;
        let stated = Reader::new(content_type).only(tag::OID).and_then(|tlv| tlv.oid());
        if stated.map_err(|error| CmsError::from(error).within(at))? != self.content_type {
            return Err(structure("contentType attribute other than eContentType", at));
        }
        let (digest, at) = value(&oid::MESSAGE_DIGEST, "no messageDigest attribute")?;
        let digest = Reader::new(digest)
            .only(tag::OCTET_STRING)
            .map_err(|error| CmsError::from(error).within(at))?
            .value;
        let content = self.content();
        if is_attributes(content) {
            // A signature over attributes could be shown again as one over content that looks like them.
            let at = self.content.as_ref().map_or(0, |range| range.start);
            return Err(structure("content that reads as signed attributes", at));
        }
        if hash.digest(content) == digest { Ok(()) } else { Err(CmsError::SignatureInvalid) }
    }

    fn into_verified(
        self,
        key: SpkiDer,
        certificate: Option<usize>,
        scheme: SignatureScheme,
    ) -> Result<VerifiedSignedData, CmsError> {
        Ok(VerifiedSignedData {
            attributes: self.signer.ok_or(NO_SIGNER)?.attributes,
            der: self.der,
            content_type: self.content_type,
            content: self.content.unwrap_or(0..0),
            certificates: self.certificates,
            certificate,
            key,
            scheme,
        })
    }
}

const NO_SIGNER: CmsError = structure("no SignerInfo", 0);

/// The members of a CHOICE set that are plain SEQUENCEs, which they all must be.
fn plain<'a>(
    set: &Tlv<'a>,
    what: &'static str,
    other: &'static str,
    limits: &Limits,
) -> Result<Vec<Tlv<'a>>, CmsError> {
    let mut reader = set.reader();
    let mut all = Vec::new();
    while !reader.is_empty() {
        let member = reader.any()?;
        if member.tag != tag::SEQUENCE {
            return Err(structure(other, member.at));
        }
        all.push(member);
        at_most(what, all.len(), limits.max_certificates)?;
    }
    Ok(all)
}

/// Whether octets are the DER or unsorted form of a SET OF Attribute.
fn is_attributes(octets: &[u8]) -> bool {
    let Ok(set) = Reader::new(octets).only(tag::SET) else { return false };
    let mut reader = set.reader();
    let attribute = |reader: &mut Reader<'_>| -> Result<(), CmsError> {
        let mut fields = reader.expect(tag::SEQUENCE)?.reader();
        fields.any()?.oid()?;
        fields.expect(tag::SET)?;
        Ok(fields.finish()?)
    };
    while !reader.is_empty() {
        if attribute(&mut reader).is_err() {
            return false;
        }
    }
    true
}

impl SignerInfo {
    fn read(tlv: &Tlv<'_>, limits: &Limits) -> Result<Self, CmsError> {
        let mut fields = tlv.reader();
        let version = fields.any()?;
        let sid = fields.any()?;
        let (sid, expected) = match sid.tag {
            tag::SEQUENCE => (SignerIdentifier::IssuerSerial(IssuerSerial::read(&sid)?), 1),
            0x80 => (SignerIdentifier::KeyId(contents(&sid)), 3),
            _ => return Err(structure("SignerIdentifier of unknown kind", sid.at)),
        };
        if version.small_int()? != expected {
            return Err(structure("SignerInfo version does not fit its sid", version.at));
        }
        let digest_algorithm = fields.expect(tag::SEQUENCE)?;
        let Some(signed) = fields.optional(tag::context_constructed(0))? else {
            return Err(structure("no signed attributes", fields.at()));
        };
        let signature_algorithm = fields.expect(tag::SEQUENCE)?;
        let signature = fields.expect(tag::OCTET_STRING)?;
        let unsigned = fields.optional(tag::context_constructed(1))?;
        fields.finish()?;
        Ok(Self {
            at: tlv.at,
            sid,
            digest_algorithm: whole(&digest_algorithm),
            signed_attributes: whole(&signed),
            attributes: read_attributes(&signed, limits)?,
            signature_algorithm: whole(&signature_algorithm),
            signature: contents(&signature),
            unsigned_attributes: unsigned.is_some(),
        })
    }

    fn scheme(
        &self,
        der: &[u8],
        legacy: LegacyAlgorithms,
    ) -> Result<(Hash, SignatureScheme), CmsError> {
        let digest = &self.digest_algorithm;
        let hash = Algorithm::from_der(part(der, digest))
            .and_then(|algorithm| Hash::read(&algorithm, legacy))
            .map_err(|error| error.within(digest.start))?;
        let signature = &self.signature_algorithm;
        let scheme = Algorithm::from_der(part(der, signature))
            .and_then(|algorithm| signature_scheme(&algorithm, hash))
            .map_err(|error| error.within(signature.start))?;
        Ok((hash, scheme))
    }

    /// What was signed (RFC 5652, 5.4): the attributes with the tag of a SET.
    fn signed_octets(&self, der: &[u8]) -> Vec<u8> {
        let mut octets = part(der, &self.signed_attributes).to_vec();
        if let Some(first) = octets.first_mut() {
            *first = tag::SET;
        }
        octets
    }

    /// The same in DER order.
    fn sorted_octets(&self, der: &[u8]) -> Vec<u8> {
        let whole = |attribute: &Attribute| part(der, &attribute.whole).to_vec();
        scep_types::tlv::set_of(self.attributes.iter().map(whole).collect())
    }
}

/// No type twice, each with exactly one value.
fn read_attributes(set: &Tlv<'_>, limits: &Limits) -> Result<Vec<Attribute>, CmsError> {
    let mut reader = set.reader();
    let mut all: Vec<Attribute> = Vec::new();
    while !reader.is_empty() {
        let attribute = reader.expect(tag::SEQUENCE)?;
        let mut fields = attribute.reader();
        let oid = fields.any()?.oid()?;
        let mut values = fields.expect(tag::SET)?.reader();
        fields.finish()?;
        if values.is_empty() {
            return Err(structure("signed attribute without a value", attribute.at));
        }
        let value = values.any()?;
        if !values.is_empty() {
            return Err(structure("signed attribute with several values", attribute.at));
        }
        if all.iter().any(|earlier| earlier.oid == oid) {
            return Err(structure("signed attribute twice", attribute.at));
        }
        all.push(Attribute { oid, whole: whole(&attribute), value: whole(&value) });
        at_most("signed attributes", all.len(), limits.max_attributes)?;
    }
    Ok(all)
}

/// A SignedData whose one signature was verified. Cannot be made otherwise.
#[derive(Debug)]
pub struct VerifiedSignedData {
    der: Vec<u8>,
    content_type: ObjectIdentifier,
    content: Range<usize>,
    certificates: Vec<CertificateDer>,
    certificate: Option<usize>,
    key: SpkiDer,
    attributes: Vec<Attribute>,
    scheme: SignatureScheme,
}

impl VerifiedSignedData {
    /// The eContentType, equal to the contentType attribute.
    #[must_use]
    pub const fn content_type(&self) -> ObjectIdentifier {
        self.content_type
    }

    /// The eContent octets whose digest was verified; empty when absent or zero-length (FAILURE, PENDING replies).
    #[must_use]
    pub fn content(&self) -> &[u8] {
        part(&self.der, &self.content)
    }

    /// The key that verified it.
    #[must_use]
    pub const fn signer_key(&self) -> &SpkiDer {
        &self.key
    }

    /// The certificate that the signer was resolved to, if by certificate.
    #[must_use]
    pub fn signer_certificate(&self) -> Option<&CertificateDer> {
        self.certificates.get(self.certificate?)
    }

    /// All certificates that could be read, in the order sent.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer] {
        &self.certificates
    }

    /// The DER of the one value of the signed attribute with this type. Signed attributes are unique and
    /// single-valued: that was checked.
    #[must_use]
    pub fn attribute(&self, oid: &ObjectIdentifier) -> Option<&[u8]> {
        let found = self.attributes.iter().find(|attribute| attribute.oid == *oid)?;
        Some(part(&self.der, &found.value))
    }

    /// How it was signed (the reply's digest mirrors it).
    #[must_use]
    pub const fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}
