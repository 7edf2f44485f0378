//! Building requests.

use crate::attribute::is_printable;
use crate::danger::{RawRequest, attribute, extension_request};
use crate::{RequestedExtension, oid};
use core::fmt;
use scep_types::tlv::{self, tag};
use scep_types::{
    DistinguishedName, ExtendedKeyUsages, GeneralName, KeyError, KeyUsages, Secret,
    SignatureScheme, Signer,
};

/// What a request is made of. Whatever is left empty is left out.
#[derive(Default)]
pub struct CsrBuilder {
    /// Subject.
    pub subject: DistinguishedName,
    /// subjectAltNames, none: no extension. Critical when the subject is empty (RFC 5280, 4.2.1.6).
    pub subject_alt_names: Vec<GeneralName>,
    /// KeyUsage, critical.
    pub key_usage: Option<KeyUsages>,
    /// ExtKeyUsage.
    pub extended_key_usages: Option<ExtendedKeyUsages>,
    /// Further extensions.
    pub extensions: Vec<RequestedExtension>,
    /// challengePassword: PrintableString where it fits (base64 does), else UTF8String.
    pub challenge_password: Option<Secret<String>>,
    /// Further attributes, DER of each whole Attribute; [`attribute`] writes one.
    pub attributes: Vec<Vec<u8>>,
}

impl CsrBuilder {
    /// Builds and signs. Returns DER; [`UnprovenCsr::parse`](crate::UnprovenCsr::parse) reads it as long as the
    /// further extensions and attributes repeat nothing.
    ///
    /// # Errors
    /// When the scheme does not fit the key, or the key's back end fails.
    pub fn sign(&self, key: &dyn Signer, scheme: SignatureScheme) -> Result<Vec<u8>, KeyError> {
        self.to_raw(key, scheme).sign(key, scheme)
    }

    /// The parts that [`CsrBuilder::sign`] would sign, in canonical order, to be altered before they are signed.
    #[must_use]
    pub fn to_raw(&self, key: &dyn Signer, scheme: SignatureScheme) -> RawRequest {
        let mut attributes = self.attributes.clone();
        let extensions = self.all_extensions();
        if !extensions.is_empty() {
            attributes.push(extension_request(&extensions));
        }
        if let Some(challenge) = &self.challenge_password {
            let text = challenge.expose().as_bytes();
            let fits = text.iter().all(|b| is_printable(*b));
            let string_type = if fits { tag::PRINTABLE_STRING } else { tag::UTF8_STRING };
            let value = tlv::encode(string_type, text);
            attributes.push(attribute(&oid::CHALLENGE_PASSWORD, &[&value]));
        }
        attributes.sort();
        RawRequest {
            version: tlv::small_int(0),
            subject: self.subject.to_der(),
            spki: key.public_key().as_der().to_vec(),
            attributes,
            algorithm: scheme.algorithm_der(),
        }
    }

    fn all_extensions(&self) -> Vec<RequestedExtension> {
        let mut all = Vec::new();
        if !self.subject_alt_names.is_empty() {
            all.push(RequestedExtension {
                oid: oid::SUBJECT_ALT_NAME,
                critical: self.subject.is_empty(),
                value: GeneralName::list_to_der(&self.subject_alt_names),
            });
        }
        if let Some(usages) = self.key_usage {
            let value = usages.to_der();
            all.push(RequestedExtension { oid: oid::KEY_USAGE, critical: true, value });
        }
        if let Some(usages) = &self.extended_key_usages {
            let value = usages.to_der();
            all.push(RequestedExtension { oid: oid::EXTENDED_KEY_USAGE, critical: false, value });
        }
        all.extend_from_slice(&self.extensions);
        all
    }
}

impl fmt::Debug for CsrBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A further attribute may be a challenge in another string type, hence only their number.
        f.debug_struct("CsrBuilder")
            .field("subject", &self.subject)
            .field("attributes", &self.attributes.len())
            .finish_non_exhaustive()
    }
}
