//! GetCACert (RFC 8894, 4.2): the CA's and the RA's certificates.

use crate::error::MessageError;
use crate::http::{CA_CERT, CA_RA_CERT};
use scep_cms::{Limits, SignedData, ber};
use scep_types::CertificateDer;
use scep_types::tlv::{Reader, tag};

/// Content type and body: one certificate as its bare DER (4.2.1.1), several as a degenerate
/// SignedData in the order given (4.2.1.2). Put first the one that requests are to be encrypted to.
/// There should be at least one.
#[must_use]
pub fn response(certificates: &[CertificateDer]) -> (&'static str, Vec<u8>) {
    match certificates {
        [only] => (CA_CERT, only.as_der().to_vec()),
        all => (CA_RA_CERT, scep_cms::certs_only(all)),
    }
}

/// What a server sent, either form, in the order sent. The content type is not needed: the bytes
/// tell.
///
/// # Errors
/// [`MessageError::Certificate`] when it looks like a certificate and is none,
/// [`MessageError::Degenerate`] when it is no degenerate SignedData with certificates, or passes a
/// limit.
pub fn parse(body: &[u8], limits: &Limits) -> Result<Vec<CertificateDer>, MessageError> {
    if is_certificate(body) {
        let one = CertificateDer::parse(body).map_err(MessageError::Certificate)?;
        return Ok(vec![one]);
    }
    let der = ber::normalize(body, limits).map_err(MessageError::Degenerate)?;
    SignedData::parse(&der, limits)
        .and_then(SignedData::into_certs_only)
        .map_err(MessageError::Degenerate)
}

/// A Certificate starts with a SEQUENCE in its SEQUENCE, a ContentInfo with an OBJECT IDENTIFIER.
fn is_certificate(body: &[u8]) -> bool {
    Reader::new(body)
        .expect(tag::SEQUENCE)
        .is_ok_and(|outer| outer.reader().peek() == Some(tag::SEQUENCE))
}
