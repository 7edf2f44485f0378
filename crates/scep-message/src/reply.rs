//! The server's way out: CertRep (RFC 8894, 3.3.2).

use crate::attributes::{self, Written};
use crate::error::MessageError;
use crate::kinds::{FailInfo, MessageType, PkiStatus};
use crate::request::RaIdentity;
use core::fmt;
use scep_cms::{ContentEncryption, SignerId, ToSign};
use scep_types::{
    CertificateDer, CryptoProvider, KeyAlgorithm, Nonce, ReleasedCertificate, RsaPadding, Secret,
    SignatureScheme, TransactionId,
};

/// What a SUCCESS carries besides the leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReplyChain<'a> {
    /// The leaf only.
    #[default]
    LeafOnly,
    /// And these, after it.
    With(&'a [CertificateDer]),
}

/// The digest of an answer's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReplyDigest {
    /// The request's: what the client has used, it can check.
    #[default]
    Mirror,
    /// SHA-256, whatever the request has.
    Sha256,
}

/// The cipher of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReplyCipher {
    /// The request's: what the client has used, it can open.
    #[default]
    Mirror,
    /// AES-128-CBC, whatever the request has.
    Aes128,
}

/// What is needed to refuse a message: transactionID, nonce, and how to sign. It cannot make
/// anything but a FAILURE, and so may come from a message that was not verified
/// ([`salvage`](crate::salvage)).
#[derive(Debug)]
pub struct FailureContext {
    transaction_id: TransactionId,
    nonce: Option<Nonce>,
    signer: Option<CertificateDer>,
    scheme: SignatureScheme,
}

impl FailureContext {
    pub(crate) const fn new(
        transaction_id: TransactionId,
        nonce: Option<Nonce>,
        signer: Option<CertificateDer>,
        scheme: SignatureScheme,
    ) -> Self {
        Self { transaction_id, nonce, signer, scheme }
    }

    /// transactionID. Verified only when the context comes from a
    /// [`SignedRequest`](crate::SignedRequest).
    #[must_use]
    pub const fn transaction_id(&self) -> &TransactionId {
        &self.transaction_id
    }

    /// The certificate that the message says it is signed by, if it could be read. Verified only
    /// when the context comes from a [`SignedRequest`](crate::SignedRequest).
    #[must_use]
    pub const fn signer(&self) -> Option<&CertificateDer> {
        self.signer.as_ref()
    }

    /// Chooses the digest of the answer's signature; by default it is the request's.
    pub const fn sign_with(&mut self, digest: ReplyDigest) {
        match digest {
            ReplyDigest::Mirror => {}
            ReplyDigest::Sha256 => self.scheme = SignatureScheme::RsaPkcs1Sha256,
        }
    }

    /// FAILURE. `text` becomes failInfoText (UTF8String): control characters are dropped, it is cut
    /// after 255 characters, and left out when nothing remains.
    ///
    /// # Errors
    /// [`MessageError::Key`] when randomness fails, [`MessageError::Signing`] when the RA's key
    /// does.
    pub fn failure(
        &self,
        ra: &RaIdentity,
        fail_info: FailInfo,
        text: &str,
        provider: &dyn CryptoProvider,
    ) -> Result<Vec<u8>, MessageError> {
        let mut more = vec![attributes::decimal(attributes::FAIL_INFO, fail_info.number())];
        let text = attributes::plain(text);
        if !text.is_empty() {
            more.push(attributes::utf8(attributes::FAIL_INFO_TEXT, &text));
        }
        self.cert_rep(ra, PkiStatus::Failure, more, &[], provider)
    }

    fn cert_rep(
        &self,
        ra: &RaIdentity,
        status: PkiStatus,
        more: Vec<Written>,
        content: &[u8],
        provider: &dyn CryptoProvider,
    ) -> Result<Vec<u8>, MessageError> {
        let mut sender_nonce = [0; 16];
        provider.random(&mut sender_nonce).map_err(MessageError::Key)?;
        let mut written = vec![
            attributes::printable(attributes::TRANSACTION_ID, self.transaction_id.as_str()),
            attributes::decimal(attributes::MESSAGE_TYPE, MessageType::CertRep.number()),
            attributes::decimal(attributes::PKI_STATUS, status.number()),
            attributes::octets(attributes::SENDER_NONCE, &sender_nonce),
        ];
        if let Some(nonce) = &self.nonce {
            written.push(attributes::octets(attributes::RECIPIENT_NONCE, nonce.as_bytes()));
        }
        written.extend(more);
        let what = ToSign {
            content_type: attributes::ID_DATA,
            content,
            attributes: &written,
            certificates: &[],
            signer_id: SignerId::Certificate(&ra.signing_certificate),
            scheme: mirrored(self.scheme, ra.signing_key.public_key().algorithm()),
        };
        scep_cms::sign(&*ra.signing_key, &what).map_err(MessageError::Signing)
    }
}

/// The scheme of a reply: the request's digest with the RA's key. RSA always pads by PKCS #1 v1.5,
/// which every client reads. SHA-1 gets here only from requests that a legacy endpoint has
/// accepted.
const fn mirrored(request: SignatureScheme, ours: KeyAlgorithm) -> SignatureScheme {
    use SignatureScheme as S;
    let rsa = matches!(ours, KeyAlgorithm::Rsa(_));
    match request {
        S::RsaPkcs1Sha1 if rsa => S::RsaPkcs1Sha1,
        S::RsaPkcs1Sha1 | S::RsaPkcs1Sha256 | S::RsaPssSha256 | S::EcdsaSha256 => {
            if rsa {
                S::RsaPkcs1Sha256
            } else {
                S::EcdsaSha256
            }
        }
        S::RsaPkcs1Sha384 | S::RsaPssSha384 | S::EcdsaSha384 => {
            if rsa {
                S::RsaPkcs1Sha384
            } else {
                S::EcdsaSha384
            }
        }
        S::RsaPkcs1Sha512 | S::RsaPssSha512 | S::EcdsaSha512 => {
            if rsa {
                S::RsaPkcs1Sha512
            } else {
                S::EcdsaSha512
            }
        }
    }
}

/// How the request was enveloped; the reply does the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mirror {
    pub(crate) padding: RsaPadding,
    pub(crate) encryption: ContentEncryption,
}

/// What is needed to answer a verified request: transactionID, nonce, signer, and the algorithms to
/// mirror.
#[derive(Debug)]
pub struct ReplyContext {
    base: FailureContext,
    mirror: Option<Mirror>,
    recipient: Option<usize>,
    password: Option<Secret<String>>,
}

/// How the certificate of a SUCCESS is encrypted (RFC 8894, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplySealing {
    /// To the signer's RSA key.
    KeyTransport,
    /// With the request's challenge, as the signer's EC key only signs.
    Challenge,
}

impl ReplySealing {
    /// How a message by this signer is answered. The sizes of RSA keys are those that our back ends encrypt to, and
    /// every padding has room for every content key in them.
    pub(crate) const fn of(signer: &CertificateDer) -> Result<Self, MessageError> {
        match signer.spki().algorithm() {
            KeyAlgorithm::Rsa(2048..=8192) => Ok(Self::KeyTransport),
            key @ KeyAlgorithm::Rsa(_) => Err(MessageError::SignerCannotDecrypt { key }),
            KeyAlgorithm::P256 | KeyAlgorithm::P384 => Ok(Self::Challenge),
        }
    }
}

impl fmt::Display for ReplySealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyTransport => "key-transport",
            Self::Challenge => "challenge",
        })
    }
}

impl ReplyContext {
    pub(crate) const fn new(
        base: FailureContext,
        mirror: Option<Mirror>,
        recipient: Option<usize>,
    ) -> Self {
        Self { base, mirror, recipient, password: None }
    }

    /// How a SUCCESS is encrypted; `None` when it could not be, whatever it is given.
    #[must_use]
    pub fn sealing(&self) -> Option<ReplySealing> {
        self.base.signer.as_ref().and_then(|signer| ReplySealing::of(signer).ok())
    }

    /// Gives the request's challenge, which a SUCCESS is encrypted with where the signer has an EC key. Elsewhere it is
    /// not used. A CertPoll has no challenge of its own: the one of the request that it asks for is meant.
    ///
    /// Its UTF-8 is the password. That it is hard to guess is all that protects the answer, which is a certificate and
    /// seldom a secret; where a challenge is a word, whoever records the answer can try words at leisure.
    pub fn answer_with(&mut self, challenge: Secret<String>) {
        self.password = Some(challenge);
    }

    /// Chooses digest and cipher of the answer; by default they are the request's.
    pub const fn seal_with(&mut self, digest: ReplyDigest, cipher: ReplyCipher) {
        self.base.sign_with(digest);
        match (cipher, &mut self.mirror) {
            (ReplyCipher::Aes128, Some(mirror)) => mirror.encryption = ContentEncryption::Aes128Cbc,
            (ReplyCipher::Mirror, _) | (ReplyCipher::Aes128, None) => {}
        }
    }

    /// Which of the RA's recipients the envelope names, whether it opened or not: who asked for the RA's certificates
    /// before they were replaced knows the signer of that time.
    #[must_use]
    pub const fn recipient(&self) -> Option<usize> {
        self.recipient
    }

    /// transactionID.
    #[must_use]
    pub const fn transaction_id(&self) -> &TransactionId {
        &self.base.transaction_id
    }

    /// SUCCESS with a released certificate, encrypted to the request's signer only, or with the
    /// challenge given to [`ReplyContext::answer_with`] where the signer has an EC key; key
    /// transport, content encryption and digest are those of the request.
    ///
    /// # Errors
    /// [`MessageError::NotOpened`] when the request's envelope was not opened;
    /// [`MessageError::NoChallengeToAnswerWith`] when it takes a challenge and none was given;
    /// otherwise when encryption, signature or randomness fails.
    pub fn success(
        &self,
        ra: &RaIdentity,
        certificate: &impl ReleasedCertificate,
        chain: ReplyChain<'_>,
        provider: &dyn CryptoProvider,
    ) -> Result<Vec<u8>, MessageError> {
        let mut certificates = vec![certificate.certificate().clone()];
        match chain {
            ReplyChain::LeafOnly => {}
            ReplyChain::With(more) => certificates.extend_from_slice(more),
        }
        self.sealed(ra, &scep_cms::certs_only(&certificates), provider)
    }

    /// SUCCESS in answer to GetCRL: the CRL (DER) and no certificate (RFC 8894, 4.6.1).
    ///
    /// # Errors
    /// As for [`ReplyContext::success`].
    pub fn success_crl(
        &self,
        ra: &RaIdentity,
        crl: &[u8],
        provider: &dyn CryptoProvider,
    ) -> Result<Vec<u8>, MessageError> {
        self.sealed(ra, &scep_cms::crl_only(crl), provider)
    }

    fn sealed(
        &self,
        ra: &RaIdentity,
        plaintext: &[u8],
        provider: &dyn CryptoProvider,
    ) -> Result<Vec<u8>, MessageError> {
        let mirror = self.mirror.ok_or(MessageError::NotOpened)?;
        let signer = self.base.signer.as_ref().ok_or(MessageError::NotOpened)?;
        let envelope = match (ReplySealing::of(signer)?, &self.password) {
            (ReplySealing::KeyTransport, _) => {
                scep_cms::seal(provider, &[signer], mirror.padding, mirror.encryption, plaintext)
            }
            (ReplySealing::Challenge, Some(password)) => {
                scep_cms::seal_with_password(provider, password, mirror.encryption, plaintext)
            }
            (ReplySealing::Challenge, None) => {
                let key = signer.spki().algorithm();
                return Err(MessageError::NoChallengeToAnswerWith { key });
            }
        }
        .map_err(MessageError::Sealing)?;
        self.base.cert_rep(ra, PkiStatus::Success, Vec::new(), &envelope, provider)
    }

    /// FAILURE, as [`FailureContext::failure`].
    ///
    /// # Errors
    /// [`MessageError::Key`] when randomness fails, [`MessageError::Signing`] when the RA's key
    /// does.
    pub fn failure(
        &self,
        ra: &RaIdentity,
        fail_info: FailInfo,
        text: &str,
        provider: &dyn CryptoProvider,
    ) -> Result<Vec<u8>, MessageError> {
        self.base.failure(ra, fail_info, text, provider)
    }

    /// PENDING.
    ///
    /// # Errors
    /// [`MessageError::Key`] when randomness fails, [`MessageError::Signing`] when the RA's key
    /// does.
    pub fn pending(
        &self,
        ra: &RaIdentity,
        provider: &dyn CryptoProvider,
    ) -> Result<Vec<u8>, MessageError> {
        self.base.cert_rep(ra, PkiStatus::Pending, Vec::new(), &[], provider)
    }

    /// Whether a SUCCESS could be delivered to the signer at all: it has an RSA key of 2048 to 8192
    /// bits, or an EC key and a challenge was given. Whoever asks this before a CA is asked has
    /// nothing issued that nobody can receive.
    #[must_use]
    pub fn can_encrypt(&self) -> bool {
        match self.sealing() {
            Some(ReplySealing::KeyTransport) => true,
            Some(ReplySealing::Challenge) => self.password.is_some(),
            None => false,
        }
    }

    /// Gives up what a SUCCESS needs.
    #[must_use]
    pub fn into_failure(self) -> FailureContext {
        self.base
    }
}

impl From<ReplyContext> for FailureContext {
    fn from(context: ReplyContext) -> Self {
        context.into_failure()
    }
}
