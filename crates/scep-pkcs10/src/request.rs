//! A request before and after its proof of possession (RFC 2986).

use crate::attribute::{self, Attributes};
use crate::{CsrError, RequestedExtension, Rules, Sha1Signatures};
use core::fmt;
use core::ops::Range;
use scep_types::algorithm::signature_scheme_from_der;
use scep_types::tlv::{Reader, Tlv, tag};
use scep_types::{
    CryptoProvider, CsrInfoHash, DigestAlgorithm, DistinguishedName, ExtendedKeyUsages,
    GeneralName, KeyAlgorithm, KeyUsages, ObjectIdentifier, Secret, SignatureScheme, SpkiDer,
};
use zeroize::Zeroizing;

/// A parsed request whose signature has not been verified.
///
/// Of its contents only the key can be read, so that it can be checked ([`check_key`](crate::check_key)) before
/// anything is computed with it. All else comes with [`UnprovenCsr::prove`].
pub struct UnprovenCsr {
    contents: Contents,
    scheme: SignatureScheme,
    signature: Range<usize>,
}

/// A request signed by the key it asks to certify. Cannot be made otherwise.
pub struct Csr(Contents);

struct Contents {
    /// As received; it holds the challenge.
    der: Zeroizing<Vec<u8>>,
    info: Range<usize>,
    info_hash: CsrInfoHash,
    spki: SpkiDer,
    subject: DistinguishedName,
    attributes: Attributes,
}

const fn raw(tlv: &Tlv<'_>) -> Range<usize> {
    tlv.at..tlv.at.saturating_add(tlv.raw.len())
}

impl UnprovenCsr {
    /// Parses strictly; `der` is kept as received, and all that is verified and hashed is those octets.
    ///
    /// DER throughout, with one exception: the attributes, and the sets inside names, may be in any order.
    /// `critical FALSE`, which DER leaves out, is refused when written out; so is an RSA key without NULL
    /// parameters (RFC 3279, 2.3.1), as one key would then have two hashes. The `[0]` of the attributes must be
    /// there even when it is empty (RFC 2986, 4.1).
    ///
    /// # Errors
    /// When the request is malformed, over a limit, ambiguous, asks for extensions in a second place, instructs a
    /// Microsoft CA, or its key or signature is of a kind that is not accepted.
    pub fn parse(der: &[u8], rules: &Rules) -> Result<Self, CsrError> {
        if der.len() > rules.max_bytes {
            return Err(CsrError::TooLarge { got: der.len(), max: rules.max_bytes });
        }
        let mut outer = Reader::new(der).only(tag::SEQUENCE)?.reader();
        let info = outer.expect(tag::SEQUENCE)?;
        let algorithm = outer.expect(tag::SEQUENCE)?;
        let signature = outer.expect(tag::BIT_STRING)?;
        outer.finish()?;
        let signature_octets = signature.whole_bits()?.len();

        let mut fields = info.reader();
        let version = fields.expect(tag::INTEGER)?.small_int()?;
        if version != 0 {
            return Err(CsrError::Version { got: version });
        }
        let subject = fields.expect(tag::SEQUENCE)?;
        let spki = fields.expect(tag::SEQUENCE)?;
        let attributes = fields.expect(tag::context_constructed(0))?;
        fields.finish()?;

        let scheme = signature_scheme_from_der(algorithm.raw)?;
        if scheme.digest() == DigestAlgorithm::Sha1 && rules.sha1 == Sha1Signatures::Refuse {
            return Err(CsrError::Sha1Signature);
        }
        let contents = Contents {
            info: raw(&info),
            info_hash: CsrInfoHash::of(info.raw),
            spki: read_key(&spki)?,
            subject: DistinguishedName::from_der(subject.raw, rules.strings)
                .map_err(CsrError::Subject)?,
            attributes: attribute::read(&attributes, rules)?,
            der: Zeroizing::new(der.to_vec()),
        };
        let end = raw(&signature).end;
        Ok(Self { contents, scheme, signature: end.saturating_sub(signature_octets)..end })
    }

    /// Verifies the request's signature by its own key.
    ///
    /// # Errors
    /// [`CsrError::SignatureKind`] when the algorithm does not fit the key, [`CsrError::NotProven`] when the
    /// signature does not verify.
    pub fn prove(self, provider: &dyn CryptoProvider) -> Result<Csr, CsrError> {
        let (scheme, key) = (self.scheme, &self.contents.spki);
        if !scheme.fits(key.algorithm()) {
            return Err(CsrError::SignatureKind { scheme, key: key.algorithm() });
        }
        let info = self.contents.part(&self.contents.info);
        let signature = self.contents.part(&self.signature);
        provider.verify(key, scheme, info, signature).map_err(|_| CsrError::NotProven)?;
        Ok(Csr(self.contents))
    }

    /// The key asked for, before it is proven.
    #[must_use]
    pub const fn spki(&self) -> &SpkiDer {
        &self.contents.spki
    }
}

/// The key, in the only encoding that RFC 3279 gives it.
fn read_key(spki: &Tlv<'_>) -> Result<SpkiDer, CsrError> {
    let key = SpkiDer::parse(spki.raw).map_err(CsrError::Key)?;
    if let KeyAlgorithm::Rsa(_) = key.algorithm() {
        let mut identifier = spki.reader().expect(tag::SEQUENCE)?.reader();
        identifier.expect(tag::OID)?;
        if identifier.is_empty() {
            return Err(CsrError::KeyParameters);
        }
    }
    Ok(key)
}

impl Contents {
    fn part(&self, range: &Range<usize>) -> &[u8] {
        self.der.get(range.clone()).unwrap_or_default()
    }

    fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the names nor the challenge: requests do not reach a log.
        f.debug_struct(name)
            .field("info_hash", &self.info_hash)
            .field("spki", &self.spki)
            .finish_non_exhaustive()
    }
}

impl Csr {
    /// As received. It holds the challenge: keep it out of logs.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.0.der
    }

    /// Hash of the CertificationRequestInfo as received.
    #[must_use]
    pub const fn info_hash(&self) -> CsrInfoHash {
        self.0.info_hash
    }

    /// The key.
    #[must_use]
    pub const fn spki(&self) -> &SpkiDer {
        &self.0.spki
    }

    /// The subject; may be empty.
    #[must_use]
    pub const fn subject(&self) -> &DistinguishedName {
        &self.0.subject
    }

    /// The subjectAltNames; empty when there is no such extension.
    #[must_use]
    pub fn subject_alt_names(&self) -> &[GeneralName] {
        &self.0.attributes.extensions.subject_alt_names
    }

    /// KeyUsage, when present.
    #[must_use]
    pub const fn key_usage(&self) -> Option<KeyUsages> {
        self.0.attributes.extensions.key_usage
    }

    /// ExtKeyUsage, when present and not empty.
    #[must_use]
    pub const fn extended_key_usages(&self) -> Option<&ExtendedKeyUsages> {
        self.0.attributes.extensions.extended_key_usages.as_ref()
    }

    /// Every other extension that is not inert: OID, criticality, contents of extnValue. Policy refuses what the
    /// challenge does not name.
    #[must_use]
    pub fn other_extensions(&self) -> &[RequestedExtension] {
        &self.0.attributes.extensions.others
    }

    /// Attributes that are neither extensionRequest, challengePassword nor known inert. Policy refuses them.
    #[must_use]
    pub fn other_attributes(&self) -> &[ObjectIdentifier] {
        &self.0.attributes.others
    }

    /// Inert content that was present and discarded (for `hook`, which allows none): the OIDs of attributes, then
    /// of extensions.
    #[must_use]
    pub fn inert(&self) -> &[ObjectIdentifier] {
        &self.0.attributes.inert
    }

    /// The challengePassword; blank counts as absent.
    #[must_use]
    pub const fn challenge_password(&self) -> Option<&Secret<String>> {
        self.0.attributes.challenge_password.as_ref()
    }
}

impl fmt::Debug for UnprovenCsr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.contents.fmt("UnprovenCsr", f)
    }
}

impl fmt::Debug for Csr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt("Csr", f)
    }
}
