//! Ids, keys and instants as text in the file of the state.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use scep_types::{
    CertificateDer, ConnectorId, GatewayGroupId, GatewayName, KeyId, LedgerId, OrderId, SpkiDer,
    SpkiHash, TenantId, Timestamp,
};
use serde::{Deserialize as _, Deserializer, Serializer};

pub(crate) trait Text: Sized {
    const WHAT: &'static str;
    fn to_text(&self) -> String;
    fn from_text(text: &str) -> Option<Self>;
}

macro_rules! texts {
    ($($name:ident, $what:literal, $value:ident => $to:expr, $text:ident => $from:expr;)*) => {
        $(impl Text for $name {
            const WHAT: &'static str = $what;

            fn to_text(&self) -> String {
                let $value = self;
                $to
            }

            fn from_text($text: &str) -> Option<Self> {
                $from
            }
        })*
    };
}

texts! {
    TenantId, "a tenant id", id => id.to_string(), text => text.parse().ok();
    GatewayGroupId, "a gateway group id", id => id.to_string(), text => text.parse().ok();
    GatewayName, "a gateway name", id => id.to_string(), text => text.parse().ok();
    Timestamp, "an instant", at => at.to_string(), text => text.parse().ok();
    ConnectorId, "a connector id", id => id.to_string(), text => Self::from_hex(text);
    LedgerId, "a ledger id", id => id.to_string(), text => Self::from_hex(text);
    OrderId, "an order id", id => id.to_string(), text => Self::from_hex(text);
    KeyId, "a key id", id => id.to_string(), text => Self::from_hex(text);
    SpkiHash, "a SHA-256", hash => hash.to_string(), text => Self::from_hex(text);
    SpkiDer, "a public key", key => STANDARD.encode(key.as_der()),
        text => Self::parse(&STANDARD.decode(text).ok()?).ok();
    CertificateDer, "a certificate", certificate => STANDARD.encode(certificate.as_der()),
        text => Self::parse(&STANDARD.decode(text).ok()?).ok();
}

/// Plain octets, as base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Octets(pub(crate) Vec<u8>);

impl Text for Octets {
    const WHAT: &'static str = "base64";

    fn to_text(&self) -> String {
        STANDARD.encode(&self.0)
    }

    fn from_text(text: &str) -> Option<Self> {
        STANDARD.decode(text).ok().map(Self)
    }
}

fn parse<T: Text, E: serde::de::Error>(text: &str) -> Result<T, E> {
    T::from_text(text).ok_or_else(|| E::custom(format_args!("not {}", T::WHAT)))
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
