//! Who signs requests and opens replies.

use crate::error::ClientError;
use core::time::Duration;
use scep_cms::Recipient;
use scep_types::tlv::{self, tag};
use scep_types::{
    CertificateDer, CryptoProvider, DecryptionKey, DistinguishedName, KeyAlgorithm, KeyUsages,
    ObjectIdentifier, SerialNumber, SignatureScheme, Signer, Timestamp,
};
use std::sync::Arc;

/// The device's clock may be ahead of the server's.
const BACKDATE: Duration = Duration::from_secs(86_400);
/// Long enough for a request that a person must approve. Nothing depends on it otherwise: a self-signed
/// certificate proves possession of its key and nothing else (RFC 8894, 2.3).
const LIFETIME: Duration = Duration::from_secs(30 * 86_400);

/// The certificate of the key that signs requests, its key, and the same key to open replies with.
///
/// For a first enrolment the certificate is self-signed, by the key to be certified or, where the server takes
/// any signer, by another one. For a renewal it is the certificate to be renewed.
///
/// Replies to an RSA key are encrypted to it. An EC key (P-256, P-384) signs only: replies to it are encrypted with the
/// request's challenge (RFC 8894, 3.1), so that nothing can be asked without one. Few servers do that.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(crate) recipient: Recipient,
    pub(crate) signer: Arc<dyn Signer>,
}

impl Identity {
    /// With a certificate that a CA has issued.
    ///
    /// # Errors
    /// When the three are not of one key, or it is RSA of less than 2048 bits.
    pub fn certified(
        certificate: CertificateDer,
        signer: Arc<dyn Signer>,
        decryption: DecryptionKey,
    ) -> Result<Self, ClientError> {
        let key = certificate.spki();
        if signer.public_key() != key || decryption.public_key() != key {
            return Err(ClientError::KeysDiffer);
        }
        match key.algorithm() {
            KeyAlgorithm::P256 | KeyAlgorithm::P384 => {}
            KeyAlgorithm::Rsa(bits) if bits >= 2048 => {}
            got @ KeyAlgorithm::Rsa(_) => return Err(ClientError::KeyCannotOpen { got }),
        }
        Ok(Self { recipient: Recipient { certificate, key: decryption }, signer })
    }

    /// Makes a self-signed certificate: version 3, key usage digitalSignature, for RSA keyEncipherment too, valid from a
    /// day before `now` to 30 days after it. `subject` should be that of the request (RFC 8894, 2.3); where that
    /// is empty, the certificate's is `CN=SCEP client`, as an issuer must have a name.
    ///
    /// # Errors
    /// As for [`Identity::certified`], or when a key or randomness fails.
    pub fn self_signed(
        subject: &DistinguishedName,
        signer: Arc<dyn Signer>,
        decryption: DecryptionKey,
        now: Timestamp,
        provider: &dyn CryptoProvider,
    ) -> Result<Self, ClientError> {
        const VERSION_3: &[u8] = &[0xa0, 3, tag::INTEGER, 1, 2];
        const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
        const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
        let spki = signer.public_key();
        if decryption.public_key() != spki {
            return Err(ClientError::KeysDiffer);
        }
        let mut random = [0; 16];
        provider.random(&mut random)?;
        let name = if subject.is_empty() {
            let value = tlv::encode(tag::UTF8_STRING, b"SCEP client");
            let pair = tlv::sequence(&[&tlv::oid(&COMMON_NAME), &value]);
            tlv::sequence(&[&tlv::encode(tag::SET, &pair)])
        } else {
            subject.to_der()
        };
        let usages = match spki.algorithm() {
            KeyAlgorithm::Rsa(_) => KeyUsages::DIGITAL_SIGNATURE.union(KeyUsages::KEY_ENCIPHERMENT),
            KeyAlgorithm::P256 | KeyAlgorithm::P384 => KeyUsages::DIGITAL_SIGNATURE,
        };
        let usages = usages.to_der();
        let key_usage = tlv::sequence(&[
            &tlv::oid(&KEY_USAGE),
            &[tag::BOOLEAN, 1, 0xff],
            &tlv::encode(tag::OCTET_STRING, &usages),
        ]);
        let extensions = tlv::sequence(&[&key_usage]);
        let scheme = SignatureScheme::default_for(spki.algorithm());
        let algorithm = scheme.algorithm_der();
        let tbs = tlv::sequence(&[
            VERSION_3,
            &tlv::encode(tag::INTEGER, SerialNumber::from_random(random).as_content()),
            &algorithm,
            &name,
            &tlv::sequence(&[&tlv::time(now.minus(BACKDATE)), &tlv::time(now.plus(LIFETIME))]),
            &name,
            spki.as_der(),
            &tlv::construct(tag::context_constructed(3), &[&extensions]),
        ]);
        let signature = signer.sign(scheme, &tbs)?;
        let der = tlv::sequence(&[&tbs, &algorithm, &tlv::whole_bits(&signature)]);
        let certificate = CertificateDer::parse(&der).map_err(ClientError::OwnCertificate)?;
        Self::certified(certificate, signer, decryption)
    }

    /// The certificate that is embedded in requests.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer {
        &self.recipient.certificate
    }
}
