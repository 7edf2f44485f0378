//! TLS to the issuer: its key is pinned, and ours may be anywhere.

use crate::ConnectorError;
use core::fmt;
use scep_types::{CertificateDer, DistinguishedName, SpkiHash, StringRules};
use std::sync::Arc;
use tokio_rustls::rustls::client::ResolvesClientCert;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{self, ServerName, UnixTime};
use tokio_rustls::rustls::sign::{CertifiedKey, Signer, SigningKey};
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureAlgorithm, SignatureScheme,
};

/// A configuration for connections to the issuer.
pub(crate) type Config = Arc<ClientConfig>;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn unusable(error: &rustls::Error) -> ConnectorError {
    ConnectorError::Setting { what: "TLS", why: error.to_string() }
}

/// To the issuer whose key is one of these, and to nobody else. With a certificate of ours, or before there is one.
pub(crate) fn to_issuer(
    pins: &[SpkiHash],
    identity: Option<(&[CertificateDer], Arc<dyn scep_types::Signer>)>,
) -> Result<Config, ConnectorError> {
    let provider = provider();
    let pinned = Pinned { pins: pins.to_vec(), provider: Arc::clone(&provider) };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain = chain
                .iter()
                .map(|certificate| pki_types::CertificateDer::from(certificate.as_der().to_vec()))
                .collect();
            let key: Arc<dyn SigningKey> = Arc::new(ClientKey(key));
            builder.with_client_cert_resolver(Arc::new(Own(Arc::new(CertifiedKey {
                cert: chain,
                key,
                ocsp: None,
            }))))
        }
    };
    // A resumed session has the certificate with which it began: after a renewal that is the old one.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// To a proxy that is spoken to by TLS: as the machine trusts.
pub(crate) fn to_proxy() -> Result<Config, ConnectorError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = provider();
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|_| ConnectorError::Setting {
                what: "TLS to the proxy",
                why: "this machine trusts no certification authority".to_owned(),
            })?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .with_webpki_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// What a failed handshake was about.
pub(crate) fn explain(error: &std::io::Error, whom: &str) -> ConnectorError {
    let inner = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(cause)))) =
        inner
        && let Some(another) = cause.downcast_ref::<Another>()
    {
        return ConnectorError::AnotherTlsKey {
            expected: another.expected.clone(),
            found: another.found,
            certified_by: another.certified_by.clone(),
        };
    }
    ConnectorError::Tls { whom: whom.to_owned(), why: error.to_string() }
}

/// The key that was found is not pinned.
#[derive(Debug)]
struct Another {
    expected: Vec<SpkiHash>,
    found: SpkiHash,
    certified_by: String,
}

impl fmt::Display for Another {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the key {} is not pinned", self.found)
    }
}

impl std::error::Error for Another {}

/// Accepts a server by its key alone. Who has certified it, for which name and until when changes nothing: the pin is
/// stronger than all three, and the issuer watches its own expiry.
#[derive(Debug)]
struct Pinned {
    pins: Vec<SpkiHash>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &pki_types::CertificateDer<'_>,
        _: &[pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = CertificateDer::parse(end_entity)
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let found = certificate.spki().hash();
        if self.pins.contains(&found) {
            return Ok(ServerCertVerified::assertion());
        }
        let certified_by =
            DistinguishedName::from_der(certificate.issuer_der(), StringRules::AllowBmp)
                .map_or_else(|_| "an unreadable name".to_owned(), |name| name.to_string());
        let certified_by = certified_by.chars().filter(|c| !c.is_control()).take(255).collect();
        let another = Another { expected: self.pins.clone(), found, certified_by };
        let cause = CertificateError::Other(OtherError(Arc::new(another)));
        Err(rustls::Error::InvalidCertificate(cause))
    }

    // That the server has the private half is shown by these alone.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &pki_types::CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &pki_types::CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Our certificate, whatever the server asks for: there is one only.
#[derive(Debug)]
struct Own(Arc<CertifiedKey>);

impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A key behind our own trait, in a file or on a token, as the TLS library wants it.
#[derive(Clone, Debug)]
struct ClientKey(Arc<dyn scep_types::Signer>);

/// What TLS calls the schemes of ours that it has, the best first.
const SCHEMES: &[(SignatureScheme, scep_types::SignatureScheme)] = &[
    (SignatureScheme::ECDSA_NISTP256_SHA256, scep_types::SignatureScheme::EcdsaSha256),
    (SignatureScheme::RSA_PSS_SHA256, scep_types::SignatureScheme::RsaPssSha256),
    (SignatureScheme::RSA_PKCS1_SHA256, scep_types::SignatureScheme::RsaPkcs1Sha256),
];

impl SigningKey for ClientKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let ours = self.algorithm();
        let (scheme, own) = SCHEMES.iter().find(|(scheme, _)| {
            offered.contains(scheme) && (ours == SignatureAlgorithm::RSA) == is_rsa(*scheme)
        })?;
        Some(Box::new(ClientSigner { key: Arc::clone(&self.0), scheme: *scheme, own: *own }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.0.public_key().algorithm() {
            scep_types::KeyAlgorithm::Rsa(_) => SignatureAlgorithm::RSA,
            scep_types::KeyAlgorithm::P256 | scep_types::KeyAlgorithm::P384 => {
                SignatureAlgorithm::ECDSA
            }
        }
    }
}

const fn is_rsa(scheme: SignatureScheme) -> bool {
    !matches!(scheme, SignatureScheme::ECDSA_NISTP256_SHA256)
}

#[derive(Debug)]
struct ClientSigner {
    key: Arc<dyn scep_types::Signer>,
    scheme: SignatureScheme,
    own: scep_types::SignatureScheme,
}

impl Signer for ClientSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.key.sign(self.own, message).map_err(|error| rustls::Error::General(error.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}
