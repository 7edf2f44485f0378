//! SignedData: written.

use crate::algorithm::{hash_of, signature_algorithm};
use crate::error::{CmsError, structure};
use crate::oid;
use scep_types::tlv::{self, tag};
use scep_types::{CertificateDer, ObjectIdentifier, SignatureScheme, Signer};

/// Who a SignedData says has signed it.
#[derive(Debug)]
pub enum SignerId<'a> {
    /// issuerAndSerialNumber of this certificate, which is embedded.
    Certificate(&'a CertificateDer),
    /// SubjectKeyIdentifier: our key id of the signer's key. Nothing embedded.
    KeyId,
}

/// What goes into a signed message besides its signature.
#[derive(Debug)]
pub struct ToSign<'a> {
    /// eContentType.
    pub content_type: ObjectIdentifier,
    /// eContent octets; empty makes a zero-length OCTET STRING (peers need it in FAILURE and PENDING).
    pub content: &'a [u8],
    /// Further signed attributes: type, and the DER of the one value. contentType and messageDigest are added.
    pub attributes: &'a [(ObjectIdentifier, Vec<u8>)],
    /// Further certificates to embed after the signer's.
    pub certificates: &'a [CertificateDer],
    /// Who signs.
    pub signer_id: SignerId<'a>,
    /// How. For RSA PKCS#1 v1.5 the SignerInfo's signatureAlgorithm is written as `rsaEncryption`.
    pub scheme: SignatureScheme,
}

/// Signs (RFC 5652, 5.4): one private-key operation. Returns the ContentInfo's DER.
///
/// The attributes are in DER order; the certificates stay in the order given.
///
/// # Errors
/// [`CmsError::Structure`] when an attribute type is there twice, or the certificate is not of the signer's key;
/// [`CmsError::Key`] when the key cannot sign so.
pub fn sign(signer: &dyn Signer, what: &ToSign<'_>) -> Result<Vec<u8>, CmsError> {
    let hash = hash_of(what.scheme);
    let mut types = vec![oid::CONTENT_TYPE, oid::MESSAGE_DIGEST];
    let digest = tlv::encode(tag::OCTET_STRING, &hash.digest(what.content));
    let mut attributes = vec![
        attribute(&oid::CONTENT_TYPE, &tlv::oid(&what.content_type)),
        attribute(&oid::MESSAGE_DIGEST, &digest),
    ];
    for (oid, value) in what.attributes {
        if types.contains(oid) {
            return Err(structure("signed attribute twice", 0));
        }
        types.push(*oid);
        attributes.push(attribute(oid, value));
    }
    let to_be_signed = tlv::set_of(attributes);

    let mut certificates: Vec<&CertificateDer> = Vec::new();
    let (versions, sid) = match what.signer_id {
        SignerId::Certificate(certificate) => {
            if certificate.spki().key_octets() != signer.public_key().key_octets() {
                return Err(structure("certificate of another key than the signer's", 0));
            }
            certificates.push(certificate);
            let serial = tlv::encode(tag::INTEGER, certificate.serial_content());
            // RFC 5652, 5.1: SignedData is version 3 for any content but id-data.
            let version = if what.content_type == oid::DATA { 1 } else { 3 };
            ((version, 1), tlv::sequence(&[certificate.issuer_der(), &serial]))
        }
        SignerId::KeyId => {
            let id = signer.public_key().key_id();
            ((3, 3), tlv::encode(tag::context(0), id.as_bytes()))
        }
    };
    certificates.extend(what.certificates);

    let signature = signer.sign(what.scheme, &to_be_signed)?;
    let mut signed_attributes = to_be_signed;
    if let Some(first) = signed_attributes.first_mut() {
        *first = tag::context_constructed(0);
    }
    let digest_algorithm = hash.digest_algorithm();
    let signer_info = tlv::sequence(&[
        &tlv::small_int(versions.1),
        &sid,
        &digest_algorithm,
        &signed_attributes,
        &signature_algorithm(what.scheme),
        &tlv::encode(tag::OCTET_STRING, &signature),
    ]);
    let content = tlv::encode(tag::OCTET_STRING, what.content);
    let encapsulated = tlv::sequence(&[
        &tlv::oid(&what.content_type),
        &tlv::encode(tag::context_constructed(0), &content),
    ]);
    let set = certificate_set(certificates);
    Ok(signed_data(versions.0, &digest_algorithm, &encapsulated, &set, &signer_info))
}

/// A degenerate SignedData (RFC 8894, 3.4) with the certificates in the order given.
#[must_use]
pub fn certs_only(certificates: &[CertificateDer]) -> Vec<u8> {
    degenerate(&certificate_set(certificates))
}

/// A degenerate SignedData (RFC 8894, 3.4) with one CRL (DER).
#[must_use]
pub fn crl_only(crl: &[u8]) -> Vec<u8> {
    degenerate(&tlv::encode(tag::context_constructed(1), crl))
}

fn attribute(oid: &ObjectIdentifier, value: &[u8]) -> Vec<u8> {
    tlv::sequence(&[&tlv::oid(oid), &tlv::encode(tag::SET, value)])
}

/// DER would sort this SET OF. Apple's clients bind the key to its first certificate, so the order given is
/// kept; the signature does not cover it, and nobody has been seen to mind.
fn certificate_set<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer>) -> Vec<u8> {
    let all: Vec<&[u8]> = certificates.into_iter().map(CertificateDer::as_der).collect();
    if all.is_empty() { Vec::new() } else { tlv::construct(tag::context_constructed(0), &all) }
}

fn degenerate(set: &[u8]) -> Vec<u8> {
    signed_data(1, &[], &tlv::sequence(&[&tlv::oid(&oid::DATA)]), set, &[])
}

fn signed_data(
    version: u64,
    digest_algorithms: &[u8],
    encapsulated: &[u8],
    certificates_or_crls: &[u8],
    signer_infos: &[u8],
) -> Vec<u8> {
    let signed = tlv::sequence(&[
        &tlv::small_int(version),
        &tlv::encode(tag::SET, digest_algorithms),
        encapsulated,
        certificates_or_crls,
        &tlv::encode(tag::SET, signer_infos),
    ]);
    wrap(&oid::SIGNED_DATA, &signed)
}

/// A ContentInfo.
pub(crate) fn wrap(content_type: &ObjectIdentifier, content: &[u8]) -> Vec<u8> {
    tlv::sequence(&[&tlv::oid(content_type), &tlv::encode(tag::context_constructed(0), content)])
}
