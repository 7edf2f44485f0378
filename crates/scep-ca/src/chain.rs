//! The checks of a CA's own chain, at start.

use crate::error::CaError;
use crate::tbs::oid;
use scep_types::algorithm::signature_scheme_from_der;
use scep_types::tlv::{Reader, tag};
use scep_types::{
    CertificateDer, CryptoProvider, DistinguishedName, KeyUsages, SignatureScheme, StringRules,
};

/// Most certificates of a chain. Real ones have 2 to 4; the limit keeps a wrong file from costing more.
pub(crate) const MAX: usize = 8;

/// The pathLenConstraint of a CA certificate, or that it is none.
pub(crate) fn path_length(
    certificate: &CertificateDer,
    position: usize,
) -> Result<Option<u64>, CaError> {
    let malformed = |why| CaError::Extension { position, why };
    let not_a_ca = || CaError::NotACa { position };
    certificate.extensions().map_err(malformed)?;
    let basic = certificate.extension(&oid::BASIC_CONSTRAINTS).ok_or_else(not_a_ca)?;
    let mut fields = Reader::new(basic).only(tag::SEQUENCE).map_err(malformed)?.reader();
    let ca = fields.optional(tag::BOOLEAN).map_err(malformed)?;
    if !ca.map(|flag| flag.boolean()).transpose().map_err(malformed)?.unwrap_or(false) {
        return Err(not_a_ca());
    }
    let length = fields.optional(tag::INTEGER).map_err(malformed)?;
    let length = length.map(|n| n.small_int()).transpose().map_err(malformed)?;
    fields.finish().map_err(malformed)?;
    let usage = certificate.extension(&oid::KEY_USAGE).ok_or_else(not_a_ca)?;
    let usage = KeyUsages::from_der(usage).map_err(malformed)?;
    if usage.contains(KeyUsages::KEY_CERT_SIGN) { Ok(length) } else { Err(not_a_ca()) }
}

pub(crate) fn same_name(a: &[u8], b: &[u8]) -> bool {
    let read = |der| DistinguishedName::from_der(der, StringRules::AllowBmp).ok();
    // Some CAs write a name in one string type as subject and in another as issuer.
    a == b || read(a).is_some_and(|name| read(b) == Some(name))
}

/// Checks that `by` has signed a certificate.
pub(crate) fn signature(
    certificate: &CertificateDer,
    by: &CertificateDer,
    position: usize,
    provider: &dyn CryptoProvider,
) -> Result<(), CaError> {
    let scheme = signature_scheme_from_der(certificate.signature_algorithm_der())
        .map_err(|unknown| CaError::ChainAlgorithm { position, name: unknown.name })?;
    // SHA-1 is for old devices; a CA's own chain is ours to choose.
    if scheme == SignatureScheme::RsaPkcs1Sha1 {
        let name = "sha1WithRSAEncryption".to_owned();
        return Err(CaError::ChainAlgorithm { position, name });
    }
    provider
        .verify(by.spki(), scheme, certificate.tbs_der(), certificate.signature())
        .map_err(|_| CaError::ChainSignature { position })
}

/// Checks that a CA has signed a CRL.
#[cfg(feature = "openbao")]
pub(crate) fn crl_signature(
    crl: &scep_types::CrlDer,
    by: &CertificateDer,
    provider: &dyn CryptoProvider,
) -> Result<(), CaError> {
    let scheme = signature_scheme_from_der(crl.signature_algorithm_der())
        .map_err(|unknown| CaError::ChainAlgorithm { position: 0, name: unknown.name })?;
    provider
        .verify(by.spki(), scheme, crl.tbs_der(), crl.signature())
        .map_err(|_| CaError::NotIssuedHere)
}

/// Checks a chain, the issuing CA first.
pub(crate) fn check(
    chain: &[CertificateDer],
    provider: &dyn CryptoProvider,
) -> Result<(), CaError> {
    if chain.len() > MAX {
        return Err(CaError::ChainTooLong { got: chain.len(), max: MAX });
    }
    let mut rest = chain;
    let mut position = 0_usize;
    while let Some((certificate, upper)) = rest.split_first() {
        let allowed = path_length(certificate, position)?;
        let below = u64::try_from(position).unwrap_or(u64::MAX);
        if let Some(allowed) = allowed.filter(|allowed| *allowed < below) {
            return Err(CaError::PathLength { position, allowed, below });
        }
        if certificate.not_after() <= certificate.not_before() {
            return Err(CaError::NeverValid { position });
        }
        let (subject, issuer) = (certificate.subject_der(), certificate.issuer_der());
        let signed_by = match upper.first() {
            Some(next) if same_name(issuer, next.subject_der()) => Some(next),
            Some(_) => return Err(CaError::ChainBroken { position }),
            None if same_name(issuer, subject) => Some(certificate),
            // The root was left out: whoever trusts this chain has it.
            None => None,
        };
        if let Some(signed_by) = signed_by {
            signature(certificate, signed_by, position, provider)?;
        }
        rest = upper;
        position = position.saturating_add(1);
    }
    Ok(())
}
