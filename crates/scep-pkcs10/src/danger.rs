//! Writing requests that no honest client sends: two extensionRequests, unsorted attributes, strings of odd types.
//!
//! For tests of what reads requests, here and elsewhere: start with [`CsrBuilder::to_raw`](crate::CsrBuilder::to_raw),
//! change one part, sign. Nothing here is checked, and nothing here can make a [`Csr`](crate::Csr).

use crate::{RequestedExtension, oid};
use core::fmt;
use scep_types::tlv::{self, tag};
use scep_types::{KeyError, ObjectIdentifier, SignatureScheme, Signer};

/// The parts of a request, each in DER, written as they are and in this order.
#[derive(Clone, PartialEq, Eq)]
pub struct RawRequest {
    /// The version's INTEGER.
    pub version: Vec<u8>,
    /// The subject's Name.
    pub subject: Vec<u8>,
    /// The SubjectPublicKeyInfo, whichever key signs.
    pub spki: Vec<u8>,
    /// Whole Attributes.
    pub attributes: Vec<Vec<u8>>,
    /// The signature's AlgorithmIdentifier, whatever the signature is.
    pub algorithm: Vec<u8>,
}

impl RawRequest {
    /// The CertificationRequestInfo.
    #[must_use]
    pub fn info_der(&self) -> Vec<u8> {
        let attributes = tlv::encode(tag::context_constructed(0), &self.attributes.concat());
        tlv::sequence(&[&self.version, &self.subject, &self.spki, &attributes])
    }

    /// Signs the parts.
    ///
    /// # Errors
    /// When the scheme does not fit the key, or the key's back end fails.
    pub fn sign(&self, key: &dyn Signer, scheme: SignatureScheme) -> Result<Vec<u8>, KeyError> {
        let info = self.info_der();
        let signature = key.sign(scheme, &info)?;
        Ok(tlv::sequence(&[&info, &self.algorithm, &tlv::whole_bits(&signature)]))
    }
}

impl fmt::Debug for RawRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The attributes may hold a challenge.
        f.debug_struct("RawRequest")
            .field("attributes", &self.attributes.len())
            .finish_non_exhaustive()
    }
}

/// An Attribute with these values (each in DER), in this order.
#[must_use]
pub fn attribute(oid: &ObjectIdentifier, values: &[&[u8]]) -> Vec<u8> {
    tlv::sequence(&[&tlv::oid(oid), &tlv::construct(tag::SET, values)])
}

/// An extensionRequest Attribute with these extensions, in this order.
#[must_use]
pub fn extension_request(extensions: &[RequestedExtension]) -> Vec<u8> {
    let parts: Vec<Vec<u8>> = extensions.iter().map(RequestedExtension::to_der).collect();
    attribute(&oid::EXTENSION_REQUEST, &[&tlv::encode(tag::SEQUENCE, &parts.concat())])
}
