//! A request under construction: good, until something is changed.

use super::world::{self, ISSUER, ISSUER_RSA, key, oid, provider};
use crate::keys::TestKey;
use scep_challenge::{ChallengeClaims, seal};
use scep_pkcs10::RequestedExtension;
use scep_pkcs10::danger::{RawRequest, attribute, extension_request};
use scep_types::tlv::{self, tag};
use scep_types::{GeneralName, ObjectIdentifier, SignatureScheme};

pub(super) const CHALLENGE_PASSWORD: ObjectIdentifier = oid("1.2.840.113549.1.9.7");
pub(super) const EXTENSION_REQUEST: ObjectIdentifier = oid("1.2.840.113549.1.9.14");
pub(super) const SUBJECT_ALT_NAME: ObjectIdentifier = oid("2.5.29.17");
pub(super) const KEY_USAGE: ObjectIdentifier = oid("2.5.29.15");
pub(super) const EXTENDED_KEY_USAGE: ObjectIdentifier = oid("2.5.29.37");

/// An extension that is not critical.
pub(super) fn extension(dotted: &str, value: &[u8]) -> RequestedExtension {
    RequestedExtension { oid: oid(dotted), critical: false, value: value.to_vec() }
}

/// Changes the list of whole attributes.
type Rearranged = Box<dyn FnOnce(Vec<Vec<u8>>) -> Vec<Vec<u8>>>;
/// Makes the values of the challengePassword out of the blob.
type Wrapped = fn(&str) -> Vec<Vec<u8>>;

pub(super) struct Draft {
    pub(super) base: String,
    pub(super) device: TestKey,
    pub(super) scheme: SignatureScheme,
    pub(super) claims: ChallengeClaims,
    pub(super) version: Vec<u8>,
    /// The Name.
    pub(super) subject: Vec<u8>,
    pub(super) spki: Vec<u8>,
    /// subjectAltName, keyUsage, extKeyUsage, then further ones.
    pub(super) extensions: Vec<RequestedExtension>,
    pub(super) challenge: Wrapped,
    /// Whole attributes, beside the two.
    pub(super) attributes: Vec<Vec<u8>>,
    pub(super) rearranged: Option<Rearranged>,
    /// The signature's AlgorithmIdentifier.
    pub(super) algorithm: Vec<u8>,
}

pub(super) fn printable(blob: &str) -> Vec<Vec<u8>> {
    vec![tlv::encode(tag::PRINTABLE_STRING, blob.as_bytes())]
}

impl Draft {
    /// A request that is exactly what the claims expect.
    pub(super) fn new(base: &str, device: TestKey, claims: ChallengeClaims) -> Self {
        let scheme = SignatureScheme::default_for(device.algorithm());
        let expectation = &claims.expectation;
        let mut extensions = Vec::new();
        if !expectation.subject_alt_names.is_empty() {
            extensions.push(RequestedExtension {
                oid: SUBJECT_ALT_NAME,
                critical: expectation.subject.is_empty(),
                value: GeneralName::list_to_der(&expectation.subject_alt_names),
            });
        }
        extensions.push(RequestedExtension {
            oid: KEY_USAGE,
            critical: true,
            value: expectation.key_usage.to_der(),
        });
        extensions.push(RequestedExtension {
            oid: EXTENDED_KEY_USAGE,
            critical: false,
            value: expectation.extended_key_usages.to_der(),
        });
        extensions.extend(expectation.extensions.iter().map(|extra| RequestedExtension {
            oid: extra.oid,
            critical: extra.critical,
            value: extra.value.clone(),
        }));
        Self {
            base: base.to_owned(),
            device,
            scheme,
            version: tlv::small_int(0),
            subject: expectation.subject.to_der(),
            spki: device.public_key().as_der().to_vec(),
            extensions,
            challenge: printable,
            attributes: Vec::new(),
            rearranged: None,
            algorithm: scheme.algorithm_der(),
            claims,
        }
    }

    /// The good one of most vectors: RSA-2048, PKCS #1 v1.5 with SHA-256.
    pub(super) fn good() -> Self {
        Self::new("good-rsa", world::DEVICE, world::claims())
    }

    /// Good, with claims that are changed, and the request after them.
    pub(super) fn expecting(base: &str, change: impl FnOnce(&mut ChallengeClaims)) -> Self {
        let mut claims = world::claims();
        change(&mut claims);
        Self::new(base, world::DEVICE, claims)
    }

    pub(super) fn blob(&self) -> String {
        let issuer = if self.claims.issuer_key == ISSUER_RSA.public_key().key_id() {
            ISSUER_RSA
        } else {
            ISSUER
        };
        let recipient = if self.claims.recipient_key == world::CHALLENGE.public_key().key_id() {
            world::CHALLENGE
        } else {
            world::CHALLENGE_RSA
        };
        let provider = provider(&self.base);
        let (signer, recipient) = (key(issuer).signer(), recipient.public_key());
        seal(&self.claims, &*signer, &recipient, &provider).expect("a blob")
    }

    /// The parts, to be signed.
    fn raw(&mut self) -> RawRequest {
        let mut attributes = std::mem::take(&mut self.attributes);
        if !self.extensions.is_empty() {
            attributes.push(extension_request(&self.extensions));
        }
        let values = (self.challenge)(&self.blob());
        if !values.is_empty() {
            let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            attributes.push(attribute(&CHALLENGE_PASSWORD, &values));
        }
        attributes.sort();
        if let Some(rearranged) = self.rearranged.take() {
            attributes = rearranged(attributes);
        }
        RawRequest {
            version: self.version.clone(),
            subject: self.subject.clone(),
            spki: self.spki.clone(),
            attributes,
            algorithm: self.algorithm.clone(),
        }
    }

    /// Signs.
    pub(super) fn der(mut self) -> Vec<u8> {
        let raw = self.raw();
        let signer = if self.scheme == SignatureScheme::RsaPkcs1Sha1 {
            scep_keys::danger::sha1_signer(&key(self.device)).expect("an RSA key")
        } else {
            key(self.device).signer()
        };
        raw.sign(&*signer, self.scheme).expect("a request")
    }

    /// Another scheme, named as it is.
    pub(super) fn scheme(mut self, scheme: SignatureScheme) -> Self {
        self.scheme = scheme;
        self.algorithm = scheme.algorithm_der();
        self
    }

    /// Changes the value of one of the extensions.
    pub(super) fn value(&mut self, oid: ObjectIdentifier, value: Vec<u8>) {
        let found = self.extensions.iter_mut().find(|extension| extension.oid == oid);
        found.expect("an extension that the good one has").value = value;
    }

    /// Leaves an extension out.
    pub(super) fn drop_extension(&mut self, oid: ObjectIdentifier) {
        self.extensions.retain(|extension| extension.oid != oid);
    }

    /// Other subjectAltNames, as they are given.
    pub(super) fn names(&mut self, names: &[GeneralName]) {
        self.value(SUBJECT_ALT_NAME, GeneralName::list_to_der(names));
    }

    /// Rearranges the whole attributes.
    pub(super) fn rearrange(
        &mut self,
        change: impl FnOnce(Vec<Vec<u8>>) -> Vec<Vec<u8>> + 'static,
    ) {
        self.rearranged = Some(Box::new(change));
    }
}

impl Draft {
    /// Changes the whole attribute of one type.
    pub(super) fn rework(
        &mut self,
        which: ObjectIdentifier,
        change: impl Fn(&[u8]) -> Vec<u8> + 'static,
    ) {
        self.rearrange(move |attributes| {
            let one = |attribute: Vec<u8>| {
                let found = world::at(&attribute, &[0]) == tlv::oid(&which);
                if found { change(&attribute) } else { attribute }
            };
            attributes.into_iter().map(one).collect()
        });
    }
}

/// A request with one change.
pub(super) fn changed(change: impl FnOnce(&mut Draft)) -> Vec<u8> {
    let mut draft = Draft::good();
    change(&mut draft);
    draft.der()
}
