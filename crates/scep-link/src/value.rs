//! Values that only this link has.

use crate::text::Text;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use core::fmt;
use scep_types::{CryptoProvider, IdError, KeyError, Secret};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $allowed:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub struct $name(String);

            impl $name {
                /// The longest allowed, in bytes.
                pub const MAX: usize = $max;

                /// Checks and wraps.
                ///
                /// # Errors
                /// When it is empty, too long, or has a character outside its alphabet.
                pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                    checked($what, $max, $allowed, text.into()).map(Self)
                }

                /// The text.
                #[must_use]
                pub fn as_str(&self) -> &str {
                    &self.0
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(&self.0)
                }
            }

            impl Text for $name {
                const WHAT: &'static str = $what;

                fn to_text(&self) -> String {
                    self.0.clone()
                }

                fn from_text(text: &str) -> Option<Self> {
                    Self::new(text).ok()
                }
            }
        )*
    };
}

fn checked(
    what: &'static str,
    max: usize,
    allowed: fn(u8) -> bool,
    text: String,
) -> Result<String, IdError> {
    if text.is_empty() || text.len() > max {
        return Err(IdError::Length { what, got: text.len(), max });
    }
    match text.bytes().position(|b| !allowed(b)) {
        Some(at) => Err(IdError::Character { what, at }),
        None => Ok(text),
    }
}

words! {
    /// The version of a connector's software: 1 to 64 of `A-Z a-z 0-9 . _ + -`.
    SoftwareVersion, "software version", 64,
        |b| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
    /// What an event says, as the gateway calls it: 1 to 32 of `a-z -`. Open: an issuer keeps kinds that it does
    /// not know, as a newer gateway may have more.
    EventKind, "event kind", 32, |b| b.is_ascii_lowercase() || b == b'-';
    /// The same for every delivery of an event, and for no other event of its ledger: 1 to 256 visible ASCII
    /// characters.
    IdempotencyKey, "idempotency key", 256, |b| b.is_ascii_graphic();
}

/// A PKCS #10 request (RFC 2986) as DER of 1 to 16,384 octets. Neither parsed nor proven here: that is
/// `scep-pkcs10`'s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pkcs10Der(Vec<u8>);

impl Pkcs10Der {
    /// The longest allowed, in bytes.
    pub const MAX: usize = 16 << 10;

    /// Checks the length and wraps.
    ///
    /// # Errors
    /// When it is empty or too long.
    pub fn new(der: impl Into<Vec<u8>>) -> Result<Self, IdError> {
        let der = der.into();
        if der.is_empty() || der.len() > Self::MAX {
            return Err(IdError::Length {
                what: "PKCS #10 request",
                got: der.len(),
                max: Self::MAX,
            });
        }
        Ok(Self(der))
    }

    /// The DER as received.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }
}

impl Text for Pkcs10Der {
    const WHAT: &'static str = "a PKCS #10 request in base64";

    fn to_text(&self) -> String {
        STANDARD.encode(&self.0)
    }

    fn from_text(text: &str) -> Option<Self> {
        Self::new(STANDARD.decode(text).ok()?).ok()
    }
}

/// What lets one gateway enrol once: 32 to 128 of `A-Z a-z 0-9 - _`. A secret until it is used.
///
/// ```
/// let token = scep_link::EnrolmentToken::new("0123456789abcdef0123456789abcdef")?;
/// assert_eq!(format!("{token:?}"), "EnrolmentToken(Secret(..))");
/// # Ok::<(), scep_types::IdError>(())
/// ```
#[derive(Debug)]
pub struct EnrolmentToken(Secret<String>);

impl EnrolmentToken {
    /// The shortest allowed, in bytes: 128 bits in hexadecimal.
    pub const MIN: usize = 32;
    /// The longest allowed, in bytes.
    pub const MAX: usize = 128;

    /// Checks and wraps.
    ///
    /// # Errors
    /// When it is too short, too long, or has a character outside its alphabet.
    pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
        let what = "enrolment token";
        let text = Secret::new(text.into());
        let length = text.expose().len();
        if !(Self::MIN..=Self::MAX).contains(&length) {
            return Err(IdError::Length { what, got: length, max: Self::MAX });
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        match text.expose().bytes().position(|b| !allowed(b)) {
            Some(at) => Err(IdError::Character { what, at }),
            None => Ok(Self(text)),
        }
    }

    /// A new one: 32 random octets in hexadecimal.
    ///
    /// # Errors
    /// When the source of randomness fails.
    pub fn random(provider: &dyn CryptoProvider) -> Result<Self, KeyError> {
        let mut octets = Secret::new(vec![0; 32]);
        provider.random(octets.expose_mut())?;
        Ok(Self(Secret::new(hex::encode(octets.expose()))))
    }

    /// The token itself. Do not format what comes out of here.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// What an issuer keeps instead of the token.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.expose().as_bytes()).into())
    }
}

impl Text for EnrolmentToken {
    const WHAT: &'static str = "an enrolment token";

    fn to_text(&self) -> String {
        self.0.expose().clone()
    }

    fn from_text(text: &str) -> Option<Self> {
        Self::new(text).ok()
    }
}

/// SHA-256 of an enrolment token: enough to recognise it, not to use it. Compared in constant time.
#[derive(Clone, Copy, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// As it was kept.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// To be kept.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}
