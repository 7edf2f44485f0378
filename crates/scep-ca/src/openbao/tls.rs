//! TLS to a server whose key is pinned.

use crate::error::CaError;
use core::fmt;
use scep_types::{CertificateDer, DistinguishedName, SpkiHash, StringRules};
use std::sync::Arc;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{self, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};

fn unusable(error: &dyn fmt::Display) -> CaError {
    CaError::Setting { what: "TLS", why: error.to_string() }
}

/// To the server that has one of these keys and, where there are roots, a certificate by one of them for its name.
pub(super) fn pinned(pins: &[SpkiHash], roots: &[CertificateDer]) -> Result<ClientConfig, CaError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut store = RootCertStore::empty();
    for root in roots {
        let root = pki_types::CertificateDer::from(root.as_der().to_vec());
        store.add(root).map_err(|error| unusable(&error))?;
    }
    let by_roots = if store.is_empty() {
        None
    } else {
        let builder =
            WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider));
        Some(builder.build().map_err(|error| unusable(&error))?)
    };
    let verifier = Pinned { pins: pins.to_vec(), by_roots, provider: Arc::clone(&provider) };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // A resumed session shows no certificate: each connection shows its key.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// What is wrong with the server's certificate, where a connection failed because of that: another attempt changes
/// nothing.
pub(super) fn about_certificate(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(mut error) = next {
        // What lies in an I/O error is not its source, and one may lie in another.
        while let Some(inner) = error.downcast_ref().and_then(std::io::Error::get_ref) {
            error = inner;
        }
        match error.downcast_ref() {
            // The library shows the other error as a programmer would see it.
            Some(Error::InvalidCertificate(CertificateError::Other(OtherError(cause)))) => {
                return Some(cause.to_string());
            }
            Some(other @ Error::InvalidCertificate(_)) => return Some(other.to_string()),
            _ => next = error.source(),
        }
    }
    None
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
        let pins: Vec<String> = self.expected.iter().map(ToString::to_string).collect();
        write!(
            f,
            "the server's TLS key is {}, certified by {:?}, and pinned is {}",
            self.found,
            self.certified_by,
            pins.join(" or ")
        )
    }
}

impl std::error::Error for Another {}

#[derive(Debug)]
struct Pinned {
    pins: Vec<SpkiHash>,
    /// `None`: the key alone tells who it is; the certificate's issuer, names and times change nothing.
    by_roots: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &pki_types::CertificateDer<'_>,
        intermediates: &[pki_types::CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = CertificateDer::parse(end_entity)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let found = certificate.spki().hash();
        if !self.pins.contains(&found) {
            let issuer =
                DistinguishedName::from_der(certificate.issuer_der(), StringRules::AllowBmp)
                    .map_or_else(|_| "an unreadable name".to_owned(), |name| name.to_string());
            let certified_by = issuer.chars().filter(|c| !c.is_control()).take(255).collect();
            let another = Another { expected: self.pins.clone(), found, certified_by };
            let cause = CertificateError::Other(OtherError(Arc::new(another)));
            return Err(Error::InvalidCertificate(cause));
        }
        match &self.by_roots {
            Some(roots) => roots.verify_server_cert(end_entity, intermediates, name, ocsp, now),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    // That the server has the private half is shown by these alone.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &pki_types::CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &pki_types::CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
