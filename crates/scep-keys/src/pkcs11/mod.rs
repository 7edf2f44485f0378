//! Private keys on tokens, behind PKCS #11.
//!
//! - [`error`]: what can go wrong
//! - [`token`]: libraries, logins, sessions

mod error;
mod token;

pub use error::Pkcs11Error;

use crate::error::KeyProblem;
use crate::software::{check_rsa, scheme_name};
use crate::uri::{ObjectName, TokenUri};
use crate::{AwsLc, reject};
use core::fmt;
use cryptoki::error::{Error as CkError, RvError};
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::types::Ulong;
use scep_types::tlv::{Reader, tag};
use scep_types::{
    CertificateDer, CryptoProvider as _, DecryptionKey, EcdhKey, KeyAlgorithm, KeyError, OaepHash,
    RsaDecryptionKey, RsaPadding, Secret, SignatureScheme, Signer, SpkiDer,
};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};
use std::sync::{Arc, Mutex, PoisonError};
use subtle::Choice;
use token::{OperationError, Token};

/// A private key on a token: RSA of 2048 to 4096 bits, P-256 or P-384. Cheap to clone.
///
/// The token does every operation that needs it; nothing is ever done in software in its stead. Operations block: call
/// them from a thread that may wait. The sessions of one token are bounded in number and shared by its keys. When a
/// session, the login or the token is lost, the operation is done once more after a new login, and then fails with
/// [`KeyError::Unavailable`]; the next one tries again.
#[derive(Clone)]
pub struct Pkcs11Key(Arc<Inner>);

struct Inner {
    uri: TokenUri,
    token: Arc<Token>,
    public: SpkiDer,
    allowed: Allowed,
    /// Where the key is, as of a generation of the token's sessions.
    handle: Mutex<Option<(u64, ObjectHandle)>>,
}

/// What the key's attributes let the token do with it.
#[derive(Clone, Copy, Debug, Default)]
struct Allowed {
    sign: bool,
    decrypt: bool,
    derive: bool,
}

/// What is signed in a check of the key.
const PROBE: &[u8] = b"does this private key belong to this public key?";

impl Pkcs11Key {
    /// Logs in to the token, finds the one private key of this name, and reads its public half: of an RSA key from the
    /// key itself, of an EC key from the public key or else the certificate with the same CKA_ID.
    ///
    /// # Errors
    /// [`Pkcs11Error`] when there is no such token or key, or several; when the PIN is refused; when the key is of
    /// another kind or size, or asks for the PIN at every use.
    pub fn open(uri: &TokenUri) -> Result<Self, Pkcs11Error> {
        let token = Token::open(uri)?;
        let (handle, generation) =
            token.run(uri, |session, generation| Ok((one(session, uri.object())?, generation)))?;
        let handle = handle.map_err(|count| Pkcs11Error::Count { key: uri.to_string(), count })?;
        let (public, allowed) = token.run(uri, |session, _| describe(session, handle))?;
        let allowed = allowed.ok_or_else(|| Pkcs11Error::Usage {
            key: uri.to_string(),
            why: "the key asks for the PIN at every use (CKA_ALWAYS_AUTHENTICATE), which a service cannot give",
        })?;
        let problem = |problem| Pkcs11Error::Key { key: uri.to_string(), problem };
        let public = match public {
            Public::Key(key) => key,
            Public::None => return Err(Pkcs11Error::NoPublicKey { key: uri.to_string() }),
            Public::Wrong(what) => return Err(problem(what)),
        };
        if matches!(public.algorithm(), KeyAlgorithm::Rsa(_)) {
            check_rsa(&public).map_err(problem)?;
        }
        let handle = Mutex::new(Some((generation, handle)));
        Ok(Self(Arc::new(Inner { uri: uri.clone(), token, public, allowed, handle })))
    }

    /// Makes a key on the token under this name, which must be free: never extractable, for signing, or for decryption
    /// and agreement, and with its public half beside it. Without an id in the name the key gets the one of
    /// [`SpkiDer::key_id`]'s kind: 20 random octets.
    ///
    /// # Errors
    /// [`Pkcs11Error::Exists`] when a key has that name; otherwise as [`Pkcs11Key::open`].
    pub fn generate(
        uri: &TokenUri,
        algorithm: KeyAlgorithm,
        purpose: TokenKeyPurpose,
    ) -> Result<Self, Pkcs11Error> {
        let token = Token::open(uri)?;
        match token.run(uri, |session, _| one(session, uri.object()))? {
            Err(0) => {}
            Ok(_) | Err(_) => return Err(Pkcs11Error::Exists { key: uri.to_string() }),
        }
        let failed = |error| Pkcs11Error::Failed { key: uri.to_string(), why: error::said(&error) };
        let mut name = Vec::new();
        name.extend(uri.object().label.as_ref().map(|l| Attribute::Label(l.as_bytes().to_vec())));
        let mut id = vec![0; 20];
        AwsLc
            .random(&mut id)
            .map_err(|_| Pkcs11Error::Key { key: uri.to_string(), problem: KeyProblem::NotMade })?;
        name.push(Attribute::Id(uri.object().id.clone().unwrap_or(id)));
        name.push(Attribute::Token(true));
        let ec = |curve: &str| {
            let oid = scep_types::ObjectIdentifier::new_unwrap(curve);
            (Mechanism::EccKeyPairGen, vec![Attribute::EcParams(scep_types::tlv::oid(&oid))])
        };
        let (mechanism, kind) = match algorithm {
            KeyAlgorithm::Rsa(bits @ (2048 | 3072 | 4096)) => (
                Mechanism::RsaPkcsKeyPairGen,
                vec![
                    Attribute::ModulusBits(
                        usize::try_from(bits)
                            .map_err(CkError::from)
                            .and_then(Ulong::try_from)
                            .map_err(failed)?,
                    ),
                    Attribute::PublicExponent(vec![1, 0, 1]),
                ],
            ),
            KeyAlgorithm::Rsa(_) => {
                let problem = KeyProblem::Size { algorithm };
                return Err(Pkcs11Error::Key { key: uri.to_string(), problem });
            }
            KeyAlgorithm::P256 => ec("1.2.840.10045.3.1.7"),
            KeyAlgorithm::P384 => ec("1.3.132.0.34"),
        };
        let rsa = matches!(algorithm, KeyAlgorithm::Rsa(_));
        let signs = purpose != TokenKeyPurpose::Decryption;
        let opens = purpose != TokenKeyPurpose::Signing;
        let mut public = [name.as_slice(), kind.as_slice()].concat();
        public.extend([
            Attribute::Private(false),
            Attribute::Verify(signs),
            Attribute::Encrypt(rsa && opens),
            Attribute::Wrap(false),
        ]);
        let mut private = name;
        private.extend([
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            // Each said: what is left out is allowed by some tokens.
            Attribute::Sign(signs),
            Attribute::Decrypt(rsa && opens),
            Attribute::Derive(!rsa && opens),
            Attribute::Unwrap(false),
        ]);
        let session = token.writable(uri)?;
        session.generate_key_pair(&mechanism, &public, &private).map_err(failed)?;
        Self::open(uri)
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> &SpkiDer {
        &self.0.public
    }

    /// Which key it is.
    #[must_use]
    pub fn uri(&self) -> &TokenUri {
        &self.0.uri
    }

    /// As a signer. A signature is made and verified first: that proves that the private key belongs to the public one.
    ///
    /// # Errors
    /// [`Pkcs11Error::Usage`] when the key may not sign; [`Pkcs11Error::Failed`] when the token cannot;
    /// [`Pkcs11Error::Key`] when its signature does not verify.
    pub fn signer(&self) -> Result<Arc<dyn Signer>, Pkcs11Error> {
        self.probed_signer(Sha1Rule::Refused)
    }

    /// For [`danger`](crate::danger) alone.
    pub(crate) fn sha1_signer(&self) -> Result<Arc<dyn Signer>, Pkcs11Error> {
        self.probed_signer(Sha1Rule::Allowed)
    }

    fn probed_signer(&self, sha1: Sha1Rule) -> Result<Arc<dyn Signer>, Pkcs11Error> {
        if !self.0.allowed.sign {
            return Err(self.usage("the key may not sign (CKA_SIGN); make one for signing"));
        }
        let scheme = SignatureScheme::default_for(self.0.public.algorithm());
        let signature = self.sign(scheme, PROBE, Sha1Rule::Refused)?;
        AwsLc
            .verify(&self.0.public, scheme, PROBE, &signature)
            .map_err(|_| self.problem(KeyProblem::Inconsistent))?;
        Ok(Arc::new(TokenSigner { key: self.clone(), sha1 }))
    }

    /// As a decryption key. A random key is decrypted, or a secret agreed on, first, which proves that the token can.
    ///
    /// # Errors
    /// [`Pkcs11Error::Usage`] when the key or the token does not allow it; [`Pkcs11Error::Failed`] when the token
    /// fails; [`Pkcs11Error::Key`] when something else comes out than was put in.
    pub fn decryption(&self) -> Result<DecryptionKey, Pkcs11Error> {
        let mut sent = [0; 32];
        let trouble = || self.problem(KeyProblem::Inconsistent);
        AwsLc.random(&mut sent).map_err(|_| trouble())?;
        if let KeyAlgorithm::Rsa(_) = self.0.public.algorithm() {
            if !self.0.allowed.decrypt {
                return Err(
                    self.usage("the key may not decrypt (CKA_DECRYPT); make one for decryption")
                );
            }
            if !self.0.token.has(&self.0.uri, MechanismType::RSA_X_509)? {
                return Err(self.usage(
                    "the token has no raw RSA (CKM_RSA_X_509), and its own unpadding would tell good padding from \
                     bad; use a token that has it, or an EC key for challenges",
                ));
            }
            let padding = RsaPadding::Pkcs1v15;
            let sealed =
                AwsLc.rsa_encrypt(&self.0.public, padding, &sent).map_err(|_| trouble())?;
            let mut got = Secret::new(vec![0; sent.len()]);
            self.decrypt(padding, &sealed, &mut got).map_err(|error| self.seen(error))?;
            if got.expose().as_slice() != sent {
                return Err(trouble());
            }
            return Ok(DecryptionKey::Rsa(Arc::new(TokenDecryption(self.clone()))));
        }
        if !self.0.allowed.derive {
            return Err(
                self.usage("the key may not agree on secrets (CKA_DERIVE); make one for that")
            );
        }
        let ours = AwsLc.ephemeral_agree(&self.0.public).map_err(|_| trouble())?;
        let theirs = self.agree_with(&ours.public_point).map_err(|error| self.seen(error))?;
        if ours.shared_secret.expose() != theirs.expose() {
            return Err(trouble());
        }
        Ok(DecryptionKey::Ec(Arc::new(TokenDecryption(self.clone()))))
    }

    fn usage(&self, why: &'static str) -> Pkcs11Error {
        Pkcs11Error::Usage { key: self.0.uri.to_string(), why }
    }

    fn problem(&self, problem: KeyProblem) -> Pkcs11Error {
        Pkcs11Error::Key { key: self.0.uri.to_string(), problem }
    }

    fn failed(&self, error: CkError) -> Pkcs11Error {
        Pkcs11Error::Failed { key: self.0.uri.to_string(), why: error::said(&error) }
    }

    fn seen(&self, error: KeyError) -> Pkcs11Error {
        Pkcs11Error::Failed { key: self.0.uri.to_string(), why: error.to_string() }
    }

    /// Does something with the key itself, which is looked for anew whenever sessions were lost.
    fn with<T>(
        &self,
        operation: impl Fn(&Session, ObjectHandle) -> Result<T, CkError>,
    ) -> Result<T, OperationError> {
        let key = &self.0;
        key.token.with(&key.uri, |session, generation| {
            let known = *key.handle.lock().unwrap_or_else(PoisonError::into_inner);
            let handle = match known {
                Some((of, handle)) if of == generation => handle,
                _ => {
                    // None, several, or another than it was under the same name.
                    let gone = CkError::Pkcs11(
                        RvError::KeyHandleInvalid,
                        cryptoki::context::Function::FindObjects,
                    );
                    let Ok(handle) = one(session, key.uri.object())? else { return Err(gone) };
                    match describe(session, handle)? {
                        (Public::Key(public), Some(_)) if public == key.public => {}
                        _ => return Err(gone),
                    }
                    *key.handle.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some((generation, handle));
                    handle
                }
            };
            operation(session, handle)
        })
    }

    fn run<T>(
        &self,
        operation: impl Fn(&Session, ObjectHandle) -> Result<T, CkError>,
    ) -> Result<T, Pkcs11Error> {
        self.with(operation).map_err(|e| e.into_error(&self.0.uri, |error| self.failed(error)))
    }

    fn sign(
        &self,
        scheme: SignatureScheme,
        message: &[u8],
        sha1: Sha1Rule,
    ) -> Result<Vec<u8>, Pkcs11Error> {
        let algorithm = self.0.public.algorithm();
        let unsupported = || self.usage(scheme_name(scheme));
        let signing = signing(algorithm, scheme, message, sha1).ok_or_else(unsupported)?;
        let signature =
            self.run(|session, key| session.sign(&signing.mechanism, key, &signing.input))?;
        match algorithm {
            KeyAlgorithm::Rsa(_) => Ok(signature),
            KeyAlgorithm::P256 => p256::ecdsa::Signature::from_slice(&signature)
                .map(|signature| signature.to_der().as_bytes().to_vec())
                .map_err(|_| self.problem(KeyProblem::Inconsistent)),
            KeyAlgorithm::P384 => p384::ecdsa::Signature::from_slice(&signature)
                .map(|signature| signature.to_der().as_bytes().to_vec())
                .map_err(|_| self.problem(KeyProblem::Inconsistent)),
        }
    }

    fn decrypt(
        &self,
        padding: RsaPadding,
        ciphertext: &[u8],
        key: &mut Secret<Vec<u8>>,
    ) -> Result<(), KeyError> {
        let Some(parts) = self.0.public.rsa() else {
            return Err(KeyError::Unsupported {
                operation: "RSA decryption",
                key: self.0.public.algorithm().to_string(),
            });
        };
        let size = parts.modulus.len();
        if ciphertext.len() != size {
            return Err(reject::wrong_length());
        }
        // Not below the modulus: public, and still no reason to answer otherwise.
        if ciphertext >= parts.modulus {
            return Ok(());
        }
        let raw = self.run(|session, key| session.decrypt(&Mechanism::RsaX509, key, ciphertext))?;
        let raw = Secret::new(raw);
        // A token may leave out leading zeros.
        let missing = size.checked_sub(raw.expose().len()).ok_or_else(fault)?;
        let mut em = Secret::new(vec![0; size]);
        for (to, from) in em.expose_mut().iter_mut().skip(missing).zip(raw.expose()) {
            *to = *from;
        }
        let len = key.expose().len();
        let accept: Choice = match padding {
            RsaPadding::Pkcs1v15 => reject::pkcs1_has_message_of(em.expose(), len),
            RsaPadding::Oaep(hash) => {
                let em = em.expose_mut();
                match hash {
                    OaepHash::Sha1 => reject::oaep_has_message_of::<Sha1>(em, len),
                    OaepHash::Sha256 => reject::oaep_has_message_of::<Sha256>(em, len),
                    OaepHash::Sha384 => reject::oaep_has_message_of::<Sha384>(em, len),
                    OaepHash::Sha512 => reject::oaep_has_message_of::<Sha512>(em, len),
                }
            }
        };
        let message = size.checked_sub(len).and_then(|at| em.expose().get(at..)).unwrap_or(&[]);
        reject::select(key.expose_mut(), message, accept);
        Ok(())
    }

    fn agree_with(&self, peer_point: &[u8]) -> Result<Secret<Vec<u8>>, KeyError> {
        let off_curve = || KeyError::Rejected { why: "the peer's point is not on the key's curve" };
        if peer_point.first() != Some(&4) {
            return Err(off_curve());
        }
        // Tokens have been known not to check: a point elsewhere would tell about the key.
        let len: usize = match self.0.public.algorithm() {
            KeyAlgorithm::P256 => {
                p256::PublicKey::from_sec1_bytes(peer_point).map(|_| 32).map_err(|_| off_curve())?
            }
            KeyAlgorithm::P384 => {
                p384::PublicKey::from_sec1_bytes(peer_point).map(|_| 48).map_err(|_| off_curve())?
            }
            other @ KeyAlgorithm::Rsa(_) => {
                return Err(KeyError::Unsupported {
                    operation: "key agreement",
                    key: other.to_string(),
                });
            }
        };
        let mechanism = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), peer_point));
        let secret = self.run(|session, key| {
            // The secret, not the key, is an object of this session that can be read, and ends with the session at the
            // latest.
            let template = [
                Attribute::Class(ObjectClass::SECRET_KEY),
                Attribute::KeyType(KeyType::GENERIC_SECRET),
                Attribute::Token(false),
                Attribute::Private(false),
                Attribute::Sensitive(false),
                Attribute::Extractable(true),
                Attribute::ValueLen(len.try_into()?),
            ];
            let secret = session.derive_key(&mechanism, key, &template)?;
            let value = session.get_attributes(secret, &[AttributeType::Value]);
            let destroyed = session.destroy_object(secret);
            let value = value?.into_iter().find_map(|attribute| match attribute {
                Attribute::Value(value) => Some(Secret::new(value)),
                _ => None,
            });
            destroyed?;
            Ok(value)
        })?;
        match secret {
            Some(secret) if secret.expose().len() == len => Ok(secret),
            Some(_) => Err(fault()),
            None => Err(self
                .usage("the token does not give out shared secrets; use an RSA key instead")
                .into()),
        }
    }
}

fn fault() -> KeyError {
    KeyError::Unavailable { why: "the token's answer has not the length that it must have".into() }
}

impl fmt::Debug for Pkcs11Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pkcs11Key({}, {:?})", self.0.uri, self.0.public)
    }
}

/// What a key that is made is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKeyPurpose {
    /// Signing alone.
    Signing,
    /// Decryption, or agreement, alone.
    Decryption,
    /// Both, as a combined RA key does.
    Both,
}

/// Whether a signer signs SHA-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sha1Rule {
    Refused,
    Allowed,
}

struct TokenSigner {
    key: Pkcs11Key,
    sha1: Sha1Rule,
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

impl Signer for TokenSigner {
    fn public_key(&self) -> &SpkiDer {
        self.key.public_key()
    }

    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let algorithm = self.key.public_key().algorithm();
        if signing(algorithm, scheme, &[], self.sha1).is_none() {
            let (operation, key) = (scheme_name(scheme), algorithm.to_string());
            return Err(KeyError::Unsupported { operation, key });
        }
        Ok(self.key.sign(scheme, message, self.sha1)?)
    }
}

#[derive(Clone)]
struct TokenDecryption(Pkcs11Key);

impl fmt::Debug for TokenDecryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl RsaDecryptionKey for TokenDecryption {
    fn public_key(&self) -> &SpkiDer {
        self.0.public_key()
    }

    fn decrypt_key(
        &self,
        padding: RsaPadding,
        ciphertext: &[u8],
        key: &mut Secret<Vec<u8>>,
    ) -> Result<(), KeyError> {
        self.0.decrypt(padding, ciphertext, key)
    }
}

impl EcdhKey for TokenDecryption {
    fn public_key(&self) -> &SpkiDer {
        self.0.public_key()
    }

    fn agree(&self, peer_point: &[u8]) -> Result<Secret<Vec<u8>>, KeyError> {
        self.0.agree_with(peer_point)
    }
}

/// One signature: what the token is told to do, and with which octets.
struct Signing {
    mechanism: Mechanism<'static>,
    input: Vec<u8>,
}

/// The digest is made here, so that only it goes to the token, and the few mechanisms that every token has are enough.
/// `None`: the scheme does not fit the key.
fn signing(
    algorithm: KeyAlgorithm,
    scheme: SignatureScheme,
    message: &[u8],
    sha1: Sha1Rule,
) -> Option<Signing> {
    use SignatureScheme as S;
    let digest = match scheme {
        S::RsaPkcs1Sha1 if sha1 == Sha1Rule::Allowed => Sha1::digest(message).to_vec(),
        S::RsaPkcs1Sha1 => return None,
        S::RsaPkcs1Sha256 | S::RsaPssSha256 | S::EcdsaSha256 => Sha256::digest(message).to_vec(),
        S::RsaPkcs1Sha384 | S::RsaPssSha384 | S::EcdsaSha384 => Sha384::digest(message).to_vec(),
        S::RsaPkcs1Sha512 | S::RsaPssSha512 | S::EcdsaSha512 => Sha512::digest(message).to_vec(),
    };
    let pss = |hash_alg, mgf| {
        let s_len = digest.len().try_into().ok()?;
        Some(Mechanism::RsaPkcsPss(PkcsPssParams { hash_alg, mgf, s_len }))
    };
    let (mechanism, input) = match (algorithm, scheme) {
        (KeyAlgorithm::Rsa(_), S::RsaPkcs1Sha1) => {
            (Mechanism::RsaPkcs, digest_info("1.3.14.3.2.26", &digest))
        }
        (KeyAlgorithm::Rsa(_), S::RsaPkcs1Sha256) => {
            (Mechanism::RsaPkcs, digest_info("2.16.840.1.101.3.4.2.1", &digest))
        }
        (KeyAlgorithm::Rsa(_), S::RsaPkcs1Sha384) => {
            (Mechanism::RsaPkcs, digest_info("2.16.840.1.101.3.4.2.2", &digest))
        }
        (KeyAlgorithm::Rsa(_), S::RsaPkcs1Sha512) => {
            (Mechanism::RsaPkcs, digest_info("2.16.840.1.101.3.4.2.3", &digest))
        }
        (KeyAlgorithm::Rsa(_), S::RsaPssSha256) => {
            (pss(MechanismType::SHA256, PkcsMgfType::MGF1_SHA256)?, digest)
        }
        (KeyAlgorithm::Rsa(_), S::RsaPssSha384) => {
            (pss(MechanismType::SHA384, PkcsMgfType::MGF1_SHA384)?, digest)
        }
        (KeyAlgorithm::Rsa(_), S::RsaPssSha512) => {
            (pss(MechanismType::SHA512, PkcsMgfType::MGF1_SHA512)?, digest)
        }
        (KeyAlgorithm::P256, S::EcdsaSha256 | S::EcdsaSha384 | S::EcdsaSha512) => {
            (Mechanism::Ecdsa, fitted(&digest, 32))
        }
        (KeyAlgorithm::P384, S::EcdsaSha256 | S::EcdsaSha384 | S::EcdsaSha512) => {
            (Mechanism::Ecdsa, fitted(&digest, 48))
        }
        _ => return None,
    };
    Some(Signing { mechanism, input })
}

/// DigestInfo (RFC 8017, A.2.4).
fn digest_info(hash: &str, digest: &[u8]) -> Vec<u8> {
    use scep_types::tlv;
    let oid = scep_types::ObjectIdentifier::new_unwrap(hash);
    let algorithm = tlv::sequence(&[&tlv::oid(&oid), &[tag::NULL, 0]]);
    tlv::sequence(&[&algorithm, &tlv::encode(tag::OCTET_STRING, digest)])
}

/// ECDSA takes as many leftmost bits as the order has (FIPS 186-5, 6.4.1), and a shorter digest as the number it is.
/// Tokens differ in what else they take.
fn fitted(digest: &[u8], len: usize) -> Vec<u8> {
    let mut fitted = vec![0; len.saturating_sub(digest.len())];
    fitted.extend(digest.iter().take(len));
    fitted
}

/// The one private key of this name; otherwise how many there are.
fn one(session: &Session, name: &ObjectName) -> Result<Result<ObjectHandle, usize>, CkError> {
    let mut template = vec![Attribute::Class(ObjectClass::PRIVATE_KEY)];
    template.extend(name.label.as_ref().map(|label| Attribute::Label(label.as_bytes().to_vec())));
    template.extend(name.id.as_ref().map(|id| Attribute::Id(id.clone())));
    let mut found = session.find_objects(&template)?;
    let count = found.len();
    Ok(match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        _ => Err(count),
    })
}

/// The public half, as the token has it.
enum Public {
    Key(SpkiDer),
    None,
    Wrong(KeyProblem),
}

/// The public half, and what is allowed; `None` for a key that asks for the PIN at each use.
fn describe(session: &Session, key: ObjectHandle) -> Result<(Public, Option<Allowed>), CkError> {
    let mut allowed = Some(Allowed::default());
    let (mut id, mut kind, mut modulus, mut exponent) = (Vec::new(), None, None, None);
    // One by one: some tokens answer none when they do not know one of them.
    for wanted in [
        AttributeType::KeyType,
        AttributeType::Id,
        AttributeType::Sign,
        AttributeType::Decrypt,
        AttributeType::Derive,
        AttributeType::AlwaysAuthenticate,
        AttributeType::Modulus,
        AttributeType::PublicExponent,
    ] {
        let is_rsa = matches!(kind, Some(KeyType::RSA));
        let rsa_only = matches!(wanted, AttributeType::Modulus | AttributeType::PublicExponent);
        if rsa_only && !is_rsa {
            continue;
        }
        for attribute in session.get_attributes(key, &[wanted])? {
            match attribute {
                Attribute::KeyType(is) => kind = Some(is),
                Attribute::Id(is) => id = is,
                Attribute::Sign(is) => allowed.iter_mut().for_each(|a| a.sign = is),
                Attribute::Decrypt(is) => allowed.iter_mut().for_each(|a| a.decrypt = is),
                Attribute::Derive(is) => allowed.iter_mut().for_each(|a| a.derive = is),
                Attribute::AlwaysAuthenticate(true) => allowed = None,
                Attribute::Modulus(is) => modulus = Some(is),
                Attribute::PublicExponent(is) => exponent = Some(is),
                _ => {}
            }
        }
    }
    let public = match (kind, modulus, exponent) {
        (Some(KeyType::RSA), Some(modulus), Some(exponent)) => {
            SpkiDer::from_rsa_parts(&modulus, &exponent)
                .map_or(Public::Wrong(KeyProblem::Malformed), Public::Key)
        }
        (Some(KeyType::RSA | KeyType::EC), _, _) => beside(session, &id)?,
        _ => Public::Wrong(KeyProblem::Curve),
    };
    Ok((public, allowed))
}

/// The public half from the public key, or the certificate, with the same id.
fn beside(session: &Session, id: &[u8]) -> Result<Public, CkError> {
    if id.is_empty() {
        return Ok(Public::None);
    }
    let named = |class| [Attribute::Class(class), Attribute::Id(id.to_vec())];
    for object in session.find_objects(&named(ObjectClass::PUBLIC_KEY))? {
        for attribute in session.get_attributes(object, &[AttributeType::EcPoint])? {
            let Attribute::EcPoint(point) = attribute else { continue };
            // An OCTET STRING with the point in it; some tokens give the bare point.
            let inner = Reader::new(&point).only(tag::OCTET_STRING).map(|tlv| tlv.value);
            let key = SpkiDer::from_ec_point(inner.unwrap_or(&point));
            return Ok(key.map_or(Public::Wrong(KeyProblem::Curve), Public::Key));
        }
    }
    for object in session.find_objects(&named(ObjectClass::CERTIFICATE))? {
        for attribute in session.get_attributes(object, &[AttributeType::Value])? {
            let Attribute::Value(der) = attribute else { continue };
            if let Ok(certificate) = CertificateDer::parse(&der) {
                return Ok(Public::Key(certificate.spki().clone()));
            }
        }
    }
    Ok(Public::None)
}
