//! One newtype for each id: transaction, challenge and device ids are all text on the wire and must
//! not be interchangeable.

use core::fmt;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Why a text or byte string is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IdError {
    /// Empty, or longer than the limit.
    #[error("{what} has {got} bytes; 1 to {max} are allowed")]
    Length {
        /// Which id.
        what: &'static str,
        /// Its length in bytes.
        got: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A character outside the id's alphabet.
    #[error("{what} has a character that is not allowed at byte {at}")]
    Character {
        /// Which id.
        what: &'static str,
        /// Where, in bytes from the start.
        at: usize,
    },
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The longest allowed, in bytes.
            pub const MAX: usize = $max;

            /// Checks and wraps.
            ///
            /// # Errors
            /// When it is empty, too long, or has a character outside its alphabet.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                if text.is_empty() || text.len() > $max {
                    return Err(IdError::Length { what: $what, got: text.len(), max: $max });
                }
                let allowed: fn(u8) -> bool = $allowed;
                match text.bytes().position(|b| !allowed(b)) {
                    Some(at) => Err(IdError::Character { what: $what, at }),
                    None => Ok(Self(text)),
                }
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

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), self.0)
            }
        }

        impl core::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }
    };
}

const fn word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':' | b'@')
}

text_id!(
    /// A customer of the issuer: 1 to 64 of `A-Z a-z 0-9 . _ - : @`.
    TenantId, "tenant id", 64, word
);
text_id!(
    /// A certificate profile of a tenant: 1 to 64 of `A-Z a-z 0-9 . _ - : @`.
    ProfileId, "profile id", 64, word
);
text_id!(
    /// A CA of a gateway: 1 to 64 of `A-Z a-z 0-9 . _ - : @`.
    AuthorityName, "CA name", 64, word
);

impl AuthorityName {
    /// `main`: the first CA of a gateway, or its only one.
    #[must_use]
    pub fn main() -> Self {
        Self(String::from("main"))
    }
}

text_id!(
    /// A device as the issuer knows it: 1 to 128 of `A-Z a-z 0-9 . _ - : @`.
    DeviceId, "device id", 128, word
);
text_id!(
    /// A user as the issuer knows it: 1 to 128 of `A-Z a-z 0-9 . _ - : @`.
    UserId, "user id", 128, word
);
text_id!(
    /// The audience of a challenge: a group of gateways that share a decryption key and a ledger.
    GatewayGroupId, "gateway group id", 64, word
);
text_id!(
    /// One gateway, as its operator calls it: 1 to 64 of `A-Z a-z 0-9 . _ - : @`.
    GatewayName, "gateway name", 64, word
);
text_id!(
    /// The transactionID of RFC 8894, 3.2.1.1: a PrintableString, here of 1 to 128 characters.
    /// Base64's `=` and `+` and hex with spaces all occur in the field, hence all of X.680's alphabet.
    TransactionId, "transactionID", 128,
    |b| b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b)
        // Not in PrintableString, but sent by clients that use base64url or underscores.
        || matches!(b, b'_' | b'*' | b'@')
);

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Wraps the bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// From hexadecimal text of either case; `None` when it is none or has another length.
            #[must_use]
            pub fn from_hex(text: &str) -> Option<Self> {
                let mut bytes = [0; $len];
                hex::decode_to_slice(text, &mut bytes).ok()?;
                Some(Self(bytes))
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = core::array::TryFromSliceError;
            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                bytes.try_into().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

byte_id!(
    /// A challenge: 16 random bytes chosen by the issuer.
    ChallengeId, 16
);
byte_id!(
    /// A ledger: 16 random bytes chosen when it is made.
    LedgerId, 16
);
byte_id!(
    /// The connector of one gateway: 16 random bytes chosen by the issuer when it enrols.
    ConnectorId, 16
);
byte_id!(
    /// Something that the issuer orders a connector to do: 16 random bytes chosen by the issuer.
    OrderId, 16
);
byte_id!(
    /// One check-in of a connector: 16 random bytes chosen by the connector, that come back in the signed answer.
    CheckInNonce, 16
);
byte_id!(
    /// SHA-256 over a DER Name: of a certificate's issuer, which with the serial number names one certificate.
    NameHash, 32
);
byte_id!(
    /// RFC 7093, method 1: the leftmost 20 octets of SHA-256 over the subjectPublicKey bits.
    KeyId, 20
);
byte_id!(
    /// SHA-256 over a DER SubjectPublicKeyInfo.
    SpkiHash, 32
);
byte_id!(
    /// SHA-256 over a DER CertificationRequestInfo: two requests with this in common are one retry.
    CsrInfoHash, 32
);
byte_id!(
    /// SHA-256 over a DER certificate.
    CertificateFingerprint, 32
);

impl NameHash {
    /// Hashes a Name as it stands in the certificate.
    #[must_use]
    pub fn of(name_der: &[u8]) -> Self {
        Self(Sha256::digest(name_der).into())
    }
}

impl CsrInfoHash {
    /// Hashes a CertificationRequestInfo as received.
    #[must_use]
    pub fn of(info_der: &[u8]) -> Self {
        Self(Sha256::digest(info_der).into())
    }
}

/// A senderNonce or recipientNonce (RFC 8894, 3.2.1.5): 16 octets by the standard; 1 to 64 are
/// accepted, as devices with 8 exist, and echoed at the same length.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Nonce(Vec<u8>);

impl Nonce {
    /// Checks and wraps.
    ///
    /// # Errors
    /// When it is empty or longer than 64 octets.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, IdError> {
        let bytes = bytes.into();
        if bytes.is_empty() || bytes.len() > 64 {
            return Err(IdError::Length { what: "nonce", got: bytes.len(), max: 64 });
        }
        Ok(Self(bytes))
    }

    /// The octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({})", hex::encode(&self.0))
    }
}

/// A certificate serial number: the content octets of a positive DER INTEGER, 1 to 20 octets
/// (RFC 5280, 4.1.2.2).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SerialNumber(Vec<u8>);

impl SerialNumber {
    /// From the content octets of a DER INTEGER.
    ///
    /// # Errors
    /// When it is empty or longer than 20 octets, or not positive and minimal (reported as a
    /// character error at the offending octet).
    pub fn from_content(octets: &[u8]) -> Result<Self, IdError> {
        let what = "serial number";
        match octets {
            [] => Err(IdError::Length { what, got: 0, max: 20 }),
            _ if octets.len() > 20 => Err(IdError::Length { what, got: octets.len(), max: 20 }),
            [0x80..=0xff, ..] | [0] => Err(IdError::Character { what, at: 0 }),
            [0, 0..=0x7f, ..] => Err(IdError::Character { what, at: 1 }),
            _ => Ok(Self(octets.to_vec())),
        }
    }

    /// A positive serial number out of 16 random octets: the top bit is cleared and the next one set,
    /// so that the length is always 16 and 126 bits are random.
    #[must_use]
    pub fn from_random(mut octets: [u8; 16]) -> Self {
        octets[0] = (octets[0] & 0x7f) | 0x40;
        Self(octets.to_vec())
    }

    /// The content octets of the DER INTEGER.
    #[must_use]
    pub fn as_content(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for SerialNumber {
    /// Upper-case hexadecimal without separators, as `openssl x509 -serial` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let octets = self.0.strip_prefix(&[0]).unwrap_or(&self.0);
        f.write_str(&hex::encode_upper(octets))
    }
}

impl fmt::Debug for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SerialNumber({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_refuse_what_could_break_a_log_line_or_a_path() {
        for bad in ["", "a b", "a/b", "a\nb", "ü"] {
            assert!(DeviceId::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            TenantId::new("a".repeat(65)),
            Err(IdError::Length { what: "tenant id", got: 65, max: 64 })
        );
        assert!(TransactionId::new("A1B2+/=").is_ok());
        assert!(TransactionId::new("a\r\nb").is_err());
    }

    #[test]
    fn serial_numbers_are_positive_minimal_and_short() {
        assert!(SerialNumber::from_content(&[]).is_err());
        assert!(SerialNumber::from_content(&[0]).is_err());
        assert!(SerialNumber::from_content(&[0x80]).is_err());
        assert!(SerialNumber::from_content(&[0, 1]).is_err());
        assert!(SerialNumber::from_content(&[1; 21]).is_err());
        assert_eq!(SerialNumber::from_content(&[0, 0x80]).unwrap().to_string(), "80");
        assert_eq!(SerialNumber::from_random([0xff; 16]).as_content()[0], 0x7f);
    }
}
