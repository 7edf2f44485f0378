//! Whom to answer when a message cannot be verified.

use crate::attributes::{self, Attribute};
use crate::reply::FailureContext;
use scep_cms::{Limits, ber};
use scep_types::tlv::{Reader, Tlv, tag};
use scep_types::{CertificateDer, SignatureScheme};

/// Reads, from a message that does not parse to the end or does not verify, what a FAILURE needs:
/// transactionID and senderNonce, and for the log the first certificate.
///
/// **Nothing of it is verified.** That is enough to tell a device which algorithm it must not use,
/// and for nothing else: the context cannot make a SUCCESS. It does no cryptography. The reply is
/// signed with SHA-256.
///
/// `None` when there is not exactly one signer with exactly one transactionID that can be read.
#[must_use]
pub fn salvage(bytes: &[u8], limits: &Limits) -> Option<FailureContext> {
    let der = ber::normalize(bytes, limits).ok()?;
    let mut content_info = Reader::new(&der).only(tag::SEQUENCE).ok()?.reader();
    content_info.expect(tag::OID).ok()?;
    let explicit = content_info.expect(tag::context_constructed(0)).ok()?;
    let mut signed_data = explicit.reader().only(tag::SEQUENCE).ok()?.reader();
    signed_data.expect(tag::INTEGER).ok()?;
    signed_data.expect(tag::SET).ok()?;
    signed_data.expect(tag::SEQUENCE).ok()?;
    let certificates = signed_data.optional(tag::context_constructed(0)).ok()?;
    signed_data.optional(tag::context_constructed(1)).ok()?;
    let signer_infos = signed_data.expect(tag::SET).ok()?;
    let mut signer_info = signer_infos.reader().only(tag::SEQUENCE).ok()?.reader();
    signer_info.expect(tag::INTEGER).ok()?;
    // The sid: issuerAndSerialNumber, or a key identifier.
    signer_info.any().ok()?;
    signer_info.expect(tag::SEQUENCE).ok()?;
    let signed_attributes = signer_info.expect(tag::context_constructed(0)).ok()?;

    let id = only_value(&signed_attributes, attributes::TRANSACTION_ID, limits)?;
    let transaction_id = attributes::transaction_id_from(id.raw).ok()?;
    let nonce = only_value(&signed_attributes, attributes::SENDER_NONCE, limits)
        .and_then(|value| attributes::nonce_from(value.raw, attributes::SENDER_NONCE).ok());
    let signer = certificates.and_then(|all| {
        let first = all.reader().any().ok()?;
        CertificateDer::parse(first.raw).ok()
    });
    Some(FailureContext::new(transaction_id, nonce, signer, SignatureScheme::RsaPkcs1Sha256))
}

/// The one value of the one attribute of this type.
fn only_value<'a>(attributes: &Tlv<'a>, which: Attribute, limits: &Limits) -> Option<Tlv<'a>> {
    let mut reader = attributes.reader();
    let mut found = None;
    for _ in 0..limits.max_attributes {
        if reader.is_empty() {
            break;
        }
        let mut attribute = reader.expect(tag::SEQUENCE).ok()?.reader();
        if attribute.any().ok()?.oid().ok()? != which.oid {
            continue;
        }
        let mut values = attribute.expect(tag::SET).ok()?.reader();
        let value = values.any().ok()?;
        if found.replace(value).is_some() || values.finish().is_err() {
            return None;
        }
    }
    found
}
