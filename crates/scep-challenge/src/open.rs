//! Text to verified claims.

use crate::claims::{ChallengeClaims, ClaimsError};
use crate::seal::{AUTH_ENVELOPED_DATA, KeyRole, MAX_TEXT, is_suitable};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use core::time::Duration;
use scep_cms::{CmsError, Limits, SignedData};
use scep_types::{
    CryptoProvider, DecryptionKey, GatewayGroupId, KeyAlgorithm, KeyError, KeyId, ObjectIdentifier,
    Reason, Secret, SpkiDer, TenantId, Timestamp,
};
use thiserror::Error;

/// The largest clock skew that may be allowed for.
pub const MAX_SKEW: Duration = Duration::from_secs(5 * 60);
/// The longest lifetime that may be allowed.
pub const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// What a blob may be made of: one signer, one recipient, no certificates, few and shallow values.
const LIMITS: Limits = Limits {
    max_bytes: MAX_TEXT / 4 * 3,
    max_depth: 16,
    max_nodes: 256,
    max_certificates: 0,
    max_attributes: 2,
    max_recipients: 1,
    max_iterations: 0,
};

/// A signer key that is trusted, and when.
#[derive(Clone, Debug)]
pub struct PinnedSigner {
    /// The key.
    pub key: SpkiDer,
    /// From when on its signatures count.
    pub not_before: Timestamp,
    /// Until when, inclusive.
    pub not_after: Timestamp,
}

/// A decryption key of this gateway, and until when it is used.
#[derive(Clone, Debug)]
pub struct OpeningKey {
    /// The key.
    pub key: DecryptionKey,
    /// After this it is refused (rotation: max lifetime + skew after it was replaced). None: the present key.
    pub not_after: Option<Timestamp>,
}

/// Opens the blobs of one tenant for one gateway group.
#[derive(Debug)]
pub struct Opener {
    tenant: TenantId,
    audience: GatewayGroupId,
    signers: Vec<PinnedSigner>,
    keys: Vec<OpeningKey>,
    max_lifetime: Duration,
    skew: Duration,
}

/// Why an opener cannot be made. Our configuration is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenerConfigError {
    /// No signer is pinned.
    #[error("no signer key is pinned")]
    NoSigners,
    /// There is nothing to open with.
    #[error("there is no decryption key")]
    NoKeys,
    /// Neither P-256 nor RSA of 2,048 to 4,096 bits.
    #[error("{role} key {key} is {algorithm}; P-256 and RSA of 2,048 to 4,096 bits are allowed")]
    UnsuitableKey {
        /// What it is for.
        role: KeyRole,
        /// Which.
        key: KeyId,
        /// Its algorithm.
        algorithm: KeyAlgorithm,
    },
    /// The same key twice in one role: which validity would count?
    #[error("{role} key {key} is given twice")]
    DuplicateKey {
        /// What it is for.
        role: KeyRole,
        /// Which.
        key: KeyId,
    },
    /// One key in both roles.
    #[error("key {key} is given both as a signer and for decryption")]
    SharedKey {
        /// Which.
        key: KeyId,
    },
    /// A signer whose validity ends before it begins.
    #[error("signer key {key} is valid from {not_before} until {not_after}, which is never")]
    NeverValid {
        /// Which.
        key: KeyId,
        /// From.
        not_before: Timestamp,
        /// Until.
        not_after: Timestamp,
    },
    /// Zero, or more than [`MAX_LIFETIME`].
    #[error("a maximum lifetime of {got:?}; above zero and at most {max:?} is allowed")]
    Lifetime {
        /// As given.
        got: Duration,
        /// The limit.
        max: Duration,
    },
    /// More than [`MAX_SKEW`], or not less than the lifetime.
    #[error("a clock skew of {got:?}; at most {max:?} and less than the lifetime is allowed")]
    Skew {
        /// As given.
        got: Duration,
        /// The limit.
        max: Duration,
    },
}

/// Why a blob was refused after it was verified and decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Refusal {
    /// Another tenant's.
    #[error("it is of another tenant")]
    Tenant,
    /// For another gateway group.
    #[error("it is for another gateway group")]
    Audience,
    /// The claims name another signer than the one that signed.
    #[error("it names another signer than the one that signed it")]
    IssuerKey,
    /// The claims name another recipient than the key that opened it.
    #[error("it names another recipient than the key that opened it")]
    RecipientKey,
    /// It lives longer than is allowed here.
    #[error("its lifetime of {lifetime:?} is longer than the {max:?} allowed here")]
    LivesTooLong {
        /// expires-at minus issued-at.
        lifetime: Duration,
        /// The limit.
        max: Duration,
    },
    /// It was issued in the future, clock skew allowed for.
    #[error("it was issued at {issued_at}, in the future at {now}")]
    IssuedInFuture {
        /// issued-at.
        issued_at: Timestamp,
        /// The present instant.
        now: Timestamp,
    },
    /// It has expired, clock skew allowed for.
    #[error("it was issued at {issued_at} and expired at {expires_at}; now is {now}")]
    Expired {
        /// issued-at.
        issued_at: Timestamp,
        /// expires-at.
        expires_at: Timestamp,
        /// The present instant.
        now: Timestamp,
    },
}

impl Refusal {
    /// The reason it is reported under.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Tenant => Reason::BadTenantIdInChallenge,
            Self::Audience | Self::RecipientKey => Reason::BadAudienceInChallenge,
            Self::IssuerKey => Reason::SigningCertThumbprintMismatch,
            Self::LivesTooLong { .. } | Self::IssuedInFuture { .. } => {
                Reason::ChallengeInvalidTimestamp
            }
            Self::Expired { .. } => Reason::ChallengeExpired,
        }
    }
}

/// Why a blob was refused, in the order of the checks. Where it was verified and decrypted, whose it is (for the
/// report).
///
/// The device learns none of this: the answer to it is one for all.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// Empty, or nothing but white space and NUL.
    #[error("the challenge is blank")]
    Blank,
    /// Longer than [`MAX_TEXT`].
    #[error("the challenge has {got} characters; at most {max} are allowed")]
    TooLong {
        /// Its characters.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// Not standard base64 with padding, on one line and with nothing around it.
    #[error("the challenge is not standard base64 with padding")]
    Base64,
    /// Not a SignedData of the one form.
    #[error("the challenge's outer layer: {0}")]
    Outer(#[source] CmsError),
    /// No pinned signer is named.
    #[error("the challenge's signer is not pinned")]
    SignerNotPinned,
    /// A pinned signer, but not now.
    #[error("signer {key} is trusted from {not_before} until {not_after}; now is {now}")]
    SignerNotValid {
        /// Which.
        key: KeyId,
        /// From.
        not_before: Timestamp,
        /// Until.
        not_after: Timestamp,
        /// The present instant.
        now: Timestamp,
    },
    /// The signature does not verify.
    #[error("the challenge's signature does not verify")]
    SignatureInvalid,
    /// Signed by a pinned signer, but the content is of another type.
    #[error("the challenge's content is of type {got}, not an AuthEnvelopedData")]
    ContentType {
        /// eContentType.
        got: ObjectIdentifier,
    },
    /// Signed by a pinned signer, but the content is not an AuthEnvelopedData of the one form.
    #[error("the challenge's inner layer: {0}")]
    Inner(#[source] CmsError),
    /// Encrypted to a key that is none of ours.
    #[error("the challenge is encrypted to key {key}, which is not ours")]
    RecipientUnknown {
        /// Which.
        key: KeyId,
    },
    /// Encrypted to a key that was replaced.
    #[error("the challenge is encrypted to key {key}, retired at {not_after}; now is {now}")]
    RecipientRetired {
        /// Which.
        key: KeyId,
        /// Until when it opened.
        not_after: Timestamp,
        /// The present instant.
        now: Timestamp,
    },
    /// The envelope does not open. One value for every cause.
    #[error("the challenge does not decrypt")]
    DoesNotOpen,
    /// A key of ours failed.
    #[error(transparent)]
    Key(KeyError),
    /// The plaintext is no claims.
    #[error(transparent)]
    Claims(ClaimsError),
    /// Verified and decrypted, but not for here and now.
    #[error("the challenge is refused: {why}")]
    Refused {
        /// What it says.
        claims: Box<ChallengeClaims>,
        /// Why.
        why: Refusal,
    },
}

impl OpenError {
    /// The reason it is reported under.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Blank => Reason::ChallengePasswordMissing,
            Self::TooLong { .. }
            | Self::Base64
            | Self::Outer(_)
            | Self::ContentType { .. }
            | Self::Inner(_) => Reason::ChallengeDecodingError,
            Self::SignerNotPinned | Self::SignerNotValid { .. } => {
                Reason::SigningCertThumbprintMismatch
            }
            Self::SignatureInvalid => Reason::SignatureValidationFailed,
            Self::RecipientUnknown { .. } | Self::RecipientRetired { .. } => {
                Reason::BadAudienceInChallenge
            }
            Self::DoesNotOpen => Reason::ChallengeDecryptionError,
            Self::Key(_) => Reason::KeyUnavailable,
            Self::Claims(error) => error.reason(),
            Self::Refused { why, .. } => why.reason(),
        }
    }

    /// The claims of a blob that was verified but is refused (expired, other audience, ...): for reports only.
    #[must_use]
    pub fn claims(&self) -> Option<&ChallengeClaims> {
        match self {
            Self::Refused { claims, .. } => Some(claims),
            Self::Blank
            | Self::TooLong { .. }
            | Self::Base64
            | Self::Outer(_)
            | Self::SignerNotPinned
            | Self::SignerNotValid { .. }
            | Self::SignatureInvalid
            | Self::ContentType { .. }
            | Self::Inner(_)
            | Self::RecipientUnknown { .. }
            | Self::RecipientRetired { .. }
            | Self::DoesNotOpen
            | Self::Key(_)
            | Self::Claims(_) => None,
        }
    }

    fn outer(error: CmsError) -> Self {
        match error {
            CmsError::SignatureInvalid => Self::SignatureInvalid,
            CmsError::SignerUnknown => Self::SignerNotPinned,
            CmsError::Key(error) => Self::Key(error),
            other => Self::Outer(other),
        }
    }

    fn inner(error: CmsError) -> Self {
        match error {
            CmsError::DoesNotOpen => Self::DoesNotOpen,
            CmsError::Key(error) => Self::Key(error),
            other => Self::Inner(other),
        }
    }
}

/// Claims out of a blob that was verified, decrypted and checked. Cannot be made otherwise; no Clone.
///
/// ```compile_fail
/// fn twice(claims: &scep_challenge::VerifiedClaims) -> scep_challenge::VerifiedClaims {
///     claims.clone() // a shared reference is all there is
/// }
/// ```
#[derive(Debug)]
pub struct VerifiedClaims {
    claims: ChallengeClaims,
    /// What they came out of.
    text: Secret<String>,
}

impl VerifiedClaims {
    /// The claims.
    #[must_use]
    pub const fn claims(&self) -> &ChallengeClaims {
        &self.claims
    }

    /// Whether they came out of this text: whoever compares them with a request asks, so that a request is never
    /// judged by the challenge of another.
    #[must_use]
    pub fn are_of(&self, text: &str) -> bool {
        self.text.expose() == text
    }
}

impl Opener {
    /// `max_lifetime`: longest expires − issued (60 min usual); `skew` ≤ 5 minutes.
    ///
    /// # Errors
    /// When there is no signer or no key, one of them is weak, given twice or in both roles, or a duration is out
    /// of range.
    pub fn new(
        tenant: TenantId,
        audience: GatewayGroupId,
        signers: Vec<PinnedSigner>,
        keys: Vec<OpeningKey>,
        max_lifetime: Duration,
        skew: Duration,
    ) -> Result<Self, OpenerConfigError> {
        if signers.is_empty() {
            return Err(OpenerConfigError::NoSigners);
        }
        if keys.is_empty() {
            return Err(OpenerConfigError::NoKeys);
        }
        let signer_ids = distinct(KeyRole::Signer, signers.iter().map(|s| &s.key))?;
        let key_ids = distinct(KeyRole::Recipient, keys.iter().map(|k| k.key.public_key()))?;
        if let Some(key) = signer_ids.into_iter().find(|id| key_ids.contains(id)) {
            return Err(OpenerConfigError::SharedKey { key });
        }
        if let Some(signer) = signers.iter().find(|s| s.not_before >= s.not_after) {
            return Err(OpenerConfigError::NeverValid {
                key: signer.key.key_id(),
                not_before: signer.not_before,
                not_after: signer.not_after,
            });
        }
        if max_lifetime.is_zero() || max_lifetime > MAX_LIFETIME {
            return Err(OpenerConfigError::Lifetime { got: max_lifetime, max: MAX_LIFETIME });
        }
        if skew > MAX_SKEW || skew >= max_lifetime {
            return Err(OpenerConfigError::Skew { got: skew, max: MAX_SKEW });
        }
        Ok(Self { tenant, audience, signers, keys, max_lifetime, skew })
    }

    /// Verifies, decrypts, checks. `text` is the challengePassword as it came: nothing is trimmed.
    ///
    /// A text that no pinned signer has signed costs no private-key operation.
    ///
    /// # Errors
    /// The first check that fails; [`OpenError`] lists them in order.
    pub fn open(
        &self,
        text: &str,
        now: Timestamp,
        provider: &dyn CryptoProvider,
    ) -> Result<VerifiedClaims, OpenError> {
        if text.chars().all(|c| c.is_whitespace() || c == '\0') {
            return Err(OpenError::Blank);
        }
        if text.len() > MAX_TEXT {
            return Err(OpenError::TooLong { got: text.len(), max: MAX_TEXT });
        }
        let der = STANDARD.decode(text).map_err(|_| OpenError::Base64)?;

        let signed = SignedData::parse(&der, &LIMITS).map_err(OpenError::outer)?;
        let Some(id) = signed.signer_key_id() else {
            // No signer at all, or one named otherwise: it is for the verification to say which.
            let refused = signed.verify_pinned(provider, &[]).err();
            return Err(refused.map_or(OpenError::SignerNotPinned, OpenError::outer));
        };
        let signer = self.signer(id, now)?;
        let verified = signed.verify_pinned(provider, &[&signer.key]).map_err(OpenError::outer)?;
        // Only what the issuer has signed gets past this line.
        if verified.content_type() != AUTH_ENVELOPED_DATA {
            return Err(OpenError::ContentType { got: verified.content_type() });
        }

        let envelope = verified.content();
        let recipient = scep_cms::auth_recipient(envelope, &LIMITS).map_err(OpenError::inner)?;
        let key = self.key(recipient, now)?;
        let plaintext =
            scep_cms::open_auth(provider, envelope, &key.key, &LIMITS).map_err(OpenError::inner)?;

        let claims = ChallengeClaims::from_der(plaintext.expose()).map_err(OpenError::Claims)?;
        let opened_by = key.key.public_key().key_id();
        match self.refusal(&claims, verified.signer_key().key_id(), opened_by, now) {
            Some(why) => Err(OpenError::Refused { claims: Box::new(claims), why }),
            None => Ok(VerifiedClaims { claims, text: Secret::new(text.to_owned()) }),
        }
    }

    /// The pinned signer with this key id, if it is trusted at this instant.
    fn signer(&self, id: &[u8], now: Timestamp) -> Result<&PinnedSigner, OpenError> {
        let signer = KeyId::try_from(id)
            .ok()
            .and_then(|id| self.signers.iter().find(|signer| signer.key.key_id() == id))
            .ok_or(OpenError::SignerNotPinned)?;
        if now < signer.not_before || now > signer.not_after {
            return Err(OpenError::SignerNotValid {
                key: signer.key.key_id(),
                not_before: signer.not_before,
                not_after: signer.not_after,
                now,
            });
        }
        Ok(signer)
    }

    /// Our key with this id, if it still opens at this instant.
    fn key(&self, id: KeyId, now: Timestamp) -> Result<&OpeningKey, OpenError> {
        let key = self
            .keys
            .iter()
            .find(|key| key.key.public_key().key_id() == id)
            .ok_or(OpenError::RecipientUnknown { key: id })?;
        match key.not_after {
            Some(not_after) if now > not_after => {
                Err(OpenError::RecipientRetired { key: id, not_after, now })
            }
            _ => Ok(key),
        }
    }

    /// What the plaintext says is checked again, though the layers around it have said so: a signature can be
    /// replaced by another trusted one, and an envelope forwarded.
    fn refusal(
        &self,
        claims: &ChallengeClaims,
        signed_by: KeyId,
        opened_by: KeyId,
        now: Timestamp,
    ) -> Option<Refusal> {
        let (issued_at, expires_at) = (claims.issued_at, claims.expires_at);
        if claims.tenant != self.tenant {
            Some(Refusal::Tenant)
        } else if claims.audience != self.audience {
            Some(Refusal::Audience)
        } else if claims.issuer_key != signed_by {
            Some(Refusal::IssuerKey)
        } else if claims.recipient_key != opened_by {
            Some(Refusal::RecipientKey)
        } else if claims.lifetime() > self.max_lifetime {
            Some(Refusal::LivesTooLong { lifetime: claims.lifetime(), max: self.max_lifetime })
        } else if issued_at > now.plus(self.skew) {
            Some(Refusal::IssuedInFuture { issued_at, now })
        } else if now >= expires_at.plus(self.skew) {
            Some(Refusal::Expired { issued_at, expires_at, now })
        } else {
            None
        }
    }
}

/// The ids of keys of one role: suitable ones, none of them twice.
fn distinct<'a>(
    role: KeyRole,
    keys: impl Iterator<Item = &'a SpkiDer>,
) -> Result<Vec<KeyId>, OpenerConfigError> {
    let mut ids = Vec::new();
    for spki in keys {
        let (key, algorithm) = (spki.key_id(), spki.algorithm());
        if !is_suitable(algorithm) {
            return Err(OpenerConfigError::UnsuitableKey { role, key, algorithm });
        }
        if ids.contains(&key) {
            return Err(OpenerConfigError::DuplicateKey { role, key });
        }
        ids.push(key);
    }
    Ok(ids)
}
