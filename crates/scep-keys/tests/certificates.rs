//! Our signers make certificates through x509-cert's builder, and OpenSSL accepts them.
#![allow(clippy::unwrap_used, reason = "a helper of tests may panic as a test may")]

mod support;

use der::{Decode, EncodePem};
use scep_keys::{Backend, SoftwareKey, X509Signer};
use scep_types::{CertificateDer, CryptoProvider, KeyAlgorithm, KeyError, SignatureScheme};
use std::str::FromStr;
use std::time::Duration;
use support::{have_openssl, openssl};
use x509_cert::builder::{Builder, CertificateBuilder, profile};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use x509_cert::time::Validity;

fn root(key: &SoftwareKey, signer: &X509Signer) -> x509_cert::Certificate {
    let subject = Name::from_str("CN=Test root,O=Test,C=DE").unwrap();
    CertificateBuilder::new(
        profile::cabf::Root::new(false, subject).unwrap(),
        SerialNumber::from(42_u32),
        Validity::from_now(Duration::from_secs(86_400)).unwrap(),
        SubjectPublicKeyInfoOwned::from_der(key.public_key().as_der()).unwrap(),
    )
    .unwrap()
    .build(signer)
    .unwrap()
}

#[test]
fn openssl_verifies_what_the_builder_makes_with_each_kind_of_key() {
    if !have_openssl("openssl_verifies_what_the_builder_makes_with_each_kind_of_key") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for algorithm in [KeyAlgorithm::Rsa(2048), KeyAlgorithm::P256, KeyAlgorithm::P384] {
        let made = SoftwareKey::generate(algorithm).unwrap();
        for backend in [Backend::AwsLc, Backend::PureRust] {
            let der = made.to_pkcs8_der().unwrap();
            let key = SoftwareKey::from_pkcs8_der(der.expose(), backend).unwrap();
            let schemes = match algorithm {
                KeyAlgorithm::Rsa(_) => [
                    SignatureScheme::RsaPkcs1Sha256,
                    SignatureScheme::RsaPkcs1Sha384,
                    SignatureScheme::RsaPkcs1Sha512,
                ],
                _ => [
                    SignatureScheme::EcdsaSha256,
                    SignatureScheme::EcdsaSha384,
                    SignatureScheme::EcdsaSha512,
                ],
            };
            for scheme in schemes {
                let signer = X509Signer::with_scheme(key.signer(), scheme).unwrap();
                let pem = root(&key, &signer).to_pem(der::pem::LineEnding::LF).unwrap();
                std::fs::write(dir.path().join("ca.pem"), pem).unwrap();
                let out = openssl(dir.path(), "verify -check_ss_sig -CAfile ca.pem ca.pem");
                assert_eq!(String::from_utf8_lossy(&out.stdout), "ca.pem: OK\n", "{scheme:?}");
            }
        }
    }
}

#[test]
fn the_default_scheme_is_the_one_of_the_key() {
    for algorithm in [KeyAlgorithm::Rsa(2048), KeyAlgorithm::P256, KeyAlgorithm::P384] {
        let key = SoftwareKey::generate(algorithm).unwrap();
        let made = root(&key, &X509Signer::new(key.signer()));
        let made = CertificateDer::parse(&der::Encode::to_der(&made).unwrap()).unwrap();
        let scheme = SignatureScheme::default_for(algorithm);
        scep_keys::PureRust
            .verify(key.public_key(), scheme, made.tbs_der(), made.signature())
            .unwrap();
    }
}

#[test]
fn schemes_that_certificates_do_not_carry_are_refused() {
    let rsa = SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).unwrap();
    let ec = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    for (key, scheme) in [
        (&rsa, SignatureScheme::RsaPkcs1Sha1),
        (&rsa, SignatureScheme::RsaPssSha256),
        (&rsa, SignatureScheme::EcdsaSha256),
        (&ec, SignatureScheme::RsaPkcs1Sha256),
    ] {
        assert_eq!(
            X509Signer::with_scheme(key.signer(), scheme).unwrap_err(),
            KeyError::Unsupported {
                operation: "signing certificates with this scheme",
                key: key.public_key().algorithm().to_string()
            }
        );
    }
}
