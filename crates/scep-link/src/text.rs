//! Ids, keys, hashes and instants as text in JSON: all of the glue between serde and scep-types.
//!
//! | kind of value | text |
//! | --- | --- |
//! | names and ids of text | as they are |
//! | ids, nonces and hashes of bytes | hexadecimal, lower case |
//! | serial numbers | hexadecimal, upper case, whole octets: what `openssl x509 -serial` prints |
//! | DER: keys, certificates, requests, CMS | standard base64 with padding |
//! | instants | RFC 3339, UTC, whole seconds: `2026-01-31T23:59:59Z` |
//!
//! Each value has one text: what would be written otherwise is refused.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use scep_types::{
    CertificateDer, CertificateFingerprint, CheckInNonce, ConnectorId, DeviceId, GatewayGroupId,
    GatewayName, KeyId, LedgerId, NameHash, OrderId, ProfileId, SerialNumber, SpkiDer, SpkiHash,
    TenantId, Timestamp, UserId,
};
use serde::{Deserialize as _, Deserializer, Serializer};

/// A value with exactly one text.
pub(crate) trait Text: Sized {
    /// What it is, for the error. (The text itself stays out of errors: it may be a secret.)
    const WHAT: &'static str;

    /// Its text.
    fn to_text(&self) -> String;

    /// The value of a text; whether it is the value's one text is checked by the caller.
    fn from_text(text: &str) -> Option<Self>;
}

fn parse<T: Text, E: serde::de::Error>(text: &str) -> Result<T, E> {
    T::from_text(text)
        .filter(|value| value.to_text() == text)
        .ok_or_else(|| E::custom(format_args!("not {}", T::WHAT)))
}

/// `#[serde(with = "crate::text")]`: one value.
pub(crate) fn serialize<T: Text, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&value.to_text())
}

pub(crate) fn deserialize<'de, T: Text, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    parse(&String::deserialize(from)?)
}

/// `#[serde(with = "crate::text::option")]`: one value or null.
pub(crate) mod option {
    use super::*;

    pub(crate) fn serialize<T: Text, S: Serializer>(
        value: &Option<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.serialize_some(&value.to_text()),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, T: Text, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<T>, D::Error> {
        Option::<String>::deserialize(from)?.map(|text| parse(&text)).transpose()
    }
}

/// `#[serde(with = "crate::text::list")]`: an array of values.
pub(crate) mod list {
    use super::*;

    pub(crate) fn serialize<T: Text, S: Serializer>(
        values: &[T],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(Text::to_text))
    }

    pub(crate) fn deserialize<'de, T: Text, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<T>, D::Error> {
        Vec::<String>::deserialize(from)?.iter().map(|text| parse(text)).collect()
    }
}

/// DER, or any other octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Octets(pub(crate) Vec<u8>);

impl Text for Octets {
    const WHAT: &'static str = "base64 with padding";

    fn to_text(&self) -> String {
        STANDARD.encode(&self.0)
    }

    fn from_text(text: &str) -> Option<Self> {
        STANDARD.decode(text).ok().map(Self)
    }
}

/// `#[serde(with = "crate::text::octets")]`: plain octets as base64.
pub(crate) mod octets {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(octets: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(octets))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        super::deserialize::<Octets, D>(from).map(|octets| octets.0)
    }
}

macro_rules! as_they_are {
    ($($name:ident: $what:literal,)*) => {
        $(impl Text for $name {
            const WHAT: &'static str = $what;

            fn to_text(&self) -> String {
                self.to_string()
            }

            fn from_text(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        })*
    };
}

as_they_are! {
    TenantId: "a tenant id",
    DeviceId: "a device id",
    UserId: "a user id",
    ProfileId: "a profile id",
    GatewayGroupId: "a gateway group id",
    GatewayName: "a gateway name",
    Timestamp: "an instant of the form 2026-01-31T23:59:59Z",
}

macro_rules! hexadecimal {
    ($($name:ident: $what:literal,)*) => {
        $(impl Text for $name {
            const WHAT: &'static str = $what;

            fn to_text(&self) -> String {
                self.to_string()
            }

            fn from_text(text: &str) -> Option<Self> {
                Self::from_hex(text)
            }
        })*
    };
}

hexadecimal! {
    LedgerId: "a ledger id of 16 octets in lower-case hexadecimal",
    ConnectorId: "a connector id of 16 octets in lower-case hexadecimal",
    OrderId: "an order id of 16 octets in lower-case hexadecimal",
    CheckInNonce: "a nonce of 16 octets in lower-case hexadecimal",
    KeyId: "a key id of 20 octets in lower-case hexadecimal",
    SpkiHash: "a SHA-256 in lower-case hexadecimal",
    NameHash: "a SHA-256 in lower-case hexadecimal",
    CertificateFingerprint: "a SHA-256 in lower-case hexadecimal",
}

impl Text for SerialNumber {
    const WHAT: &'static str = "a positive serial number of at most 20 octets in hexadecimal";

    fn to_text(&self) -> String {
        self.to_string()
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut content = hex::decode(text).ok()?;
        // The sign octet of the DER INTEGER is not part of the text.
        if content.first().is_some_and(|first| first & 0x80 != 0) {
            content.insert(0, 0);
        }
        Self::from_content(&content).ok()
    }
}

impl Text for SpkiDer {
    const WHAT: &'static str = "a SubjectPublicKeyInfo in base64 of a key on P-256, P-384 or RSA";

    fn to_text(&self) -> String {
        STANDARD.encode(self.as_der())
    }

    fn from_text(text: &str) -> Option<Self> {
        Self::parse(&STANDARD.decode(text).ok()?).ok()
    }
}

impl Text for CertificateDer {
    const WHAT: &'static str = "a certificate in base64";

    fn to_text(&self) -> String {
        STANDARD.encode(self.as_der())
    }

    fn from_text(text: &str) -> Option<Self> {
        Self::parse(&STANDARD.decode(text).ok()?).ok()
    }
}
