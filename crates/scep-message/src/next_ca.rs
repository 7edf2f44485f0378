//! GetNextCACert (RFC 8894, 4.7): the certificates of the CA that comes next, signed by the present one.

use crate::attributes;
use crate::ca_cert;
use crate::error::MessageError;
use scep_cms::{LegacyAlgorithms, Limits, SignedData, SignerId, ToSign, ber};
use scep_types::{CertificateDer, CryptoProvider, SignatureScheme, Signer, SpkiDer};

/// The answer: SignedData by the present CA's key over a degenerate SignedData with the next CA's certificates, the CA
/// that is to issue first.
///
/// `certificate` is the present CA's, and of `signer`'s key. Nothing in the answer says when it was made, so it can be
/// made once, wherever that key is, and served for as long as it is true.
///
/// # Errors
/// [`MessageError::Signing`] when the key is not the certificate's, or cannot sign.
pub fn response(
    signer: &dyn Signer,
    certificate: &CertificateDer,
    next: &[CertificateDer],
) -> Result<Vec<u8>, MessageError> {
    let what = ToSign {
        content_type: attributes::ID_DATA,
        content: &scep_cms::certs_only(next),
        attributes: &[],
        certificates: &[],
        signer_id: SignerId::Certificate(certificate),
        scheme: SignatureScheme::default_for(signer.public_key().algorithm()),
    };
    scep_cms::sign(signer, &what).map_err(MessageError::Signing)
}

/// What a server has answered: the certificates, and the key that has signed them. They count for nothing until the
/// caller has found that key to be one it trusts now.
///
/// # Errors
/// [`MessageError::Signed`] when it is no SignedData, or does not verify by the certificate in it;
/// [`MessageError::Degenerate`] when there are no certificates in it.
pub fn parse(
    body: &[u8],
    provider: &dyn CryptoProvider,
    legacy: LegacyAlgorithms,
    limits: &Limits,
) -> Result<(Vec<CertificateDer>, SpkiDer), MessageError> {
    let der = ber::normalize(body, limits).map_err(MessageError::Signed)?;
    let signed = SignedData::parse(&der, limits)
        .and_then(|signed| signed.verify(provider, legacy))
        .map_err(MessageError::Signed)?;
    let certificates = ca_cert::parse(signed.content(), limits)?;
    Ok((certificates, signed.signer_key().clone()))
}
