//! The good request that the bad ones differ from in one thing.

use scep_keys::{AwsLc, SoftwareKey};
use scep_pkcs10::danger::{RawRequest, attribute, extension_request};
use scep_pkcs10::{Csr, CsrBuilder, CsrError, RequestedExtension, Rules, UnprovenCsr};
use scep_types::tlv::{self, tag};
use scep_types::{
    ExtendedKeyUsages, GeneralName, KeyAlgorithm, KeyUsages, ObjectIdentifier, Secret,
    SignatureScheme, Signer,
};
use std::sync::{Arc, LazyLock};

pub(crate) const CHALLENGE: &str = "MIIFjgYJKoZIhvcNAQcCoIIFfzCCBXsCAQMxDTALBglghkgBZQMEAgEw+/==";
pub(crate) const EC: SignatureScheme = SignatureScheme::EcdsaSha256;

pub(crate) static EC_KEY: LazyLock<Arc<dyn Signer>> = LazyLock::new(|| key(KeyAlgorithm::P256));
pub(crate) static RSA_KEY: LazyLock<Arc<dyn Signer>> =
    LazyLock::new(|| key(KeyAlgorithm::Rsa(2048)));

pub(crate) fn key(algorithm: KeyAlgorithm) -> Arc<dyn Signer> {
    SoftwareKey::generate(algorithm).unwrap().signer()
}

pub(crate) fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

pub(crate) fn purposes(names: &[&str]) -> ExtendedKeyUsages {
    let purposes = names.iter().map(|n| ExtendedKeyUsages::purpose(n).unwrap()).collect();
    ExtendedKeyUsages::new(purposes).unwrap()
}

pub(crate) fn good() -> CsrBuilder {
    CsrBuilder {
        subject: "C=CH, O=Example, CN=device-7".parse().unwrap(),
        subject_alt_names: vec![
            GeneralName::upn("user@example.org").unwrap(),
            GeneralName::dns("device-7.example.org").unwrap(),
        ],
        key_usage: KeyUsages::from_names(["digitalSignature", "keyEncipherment"]),
        extended_key_usages: Some(purposes(&["clientAuth"])),
        challenge_password: Some(Secret::new(CHALLENGE.to_owned())),
        ..CsrBuilder::default()
    }
}

/// The good request's parts, to be altered.
pub(crate) fn raw() -> RawRequest {
    good().to_raw(&**EC_KEY, EC)
}

/// The good request without its challenge and extensions, and these attributes instead.
pub(crate) fn with_attributes(attributes: Vec<Vec<u8>>) -> RawRequest {
    RawRequest { attributes, ..raw() }
}

/// The good request with further extensions.
pub(crate) fn with_extensions(extensions: Vec<RequestedExtension>) -> Vec<u8> {
    CsrBuilder { extensions, ..good() }.sign(&**EC_KEY, EC).unwrap()
}

pub(crate) fn signed(raw: &RawRequest) -> Vec<u8> {
    raw.sign(&**EC_KEY, EC).unwrap()
}

pub(crate) fn proven(der: &[u8]) -> Result<Csr, CsrError> {
    proven_by(der, &Rules::default())
}

pub(crate) fn proven_by(der: &[u8], rules: &Rules) -> Result<Csr, CsrError> {
    UnprovenCsr::parse(der, rules)?.prove(&AwsLc)
}

pub(crate) fn error(raw: &RawRequest) -> CsrError {
    proven(&signed(raw)).unwrap_err()
}

pub(crate) fn extension(id: &str, value: &[u8]) -> RequestedExtension {
    RequestedExtension { oid: oid(id), critical: false, value: value.to_vec() }
}

pub(crate) fn extensions(all: &[RequestedExtension]) -> Vec<u8> {
    extension_request(all)
}

/// A challengePassword with one value of this string type.
pub(crate) fn challenge(string_type: u8, octets: &[u8]) -> Vec<u8> {
    attribute(&oid("1.2.840.113549.1.9.7"), &[&tlv::encode(string_type, octets)])
}

pub(crate) fn printable_challenge() -> Vec<u8> {
    challenge(tag::PRINTABLE_STRING, CHALLENGE.as_bytes())
}

pub(crate) fn challenge_text(csr: &Csr) -> Option<&str> {
    csr.challenge_password().map(|secret| secret.expose().as_str())
}
