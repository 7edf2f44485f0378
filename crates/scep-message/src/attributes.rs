//! The signed attributes of RFC 8894, 3.2.1, as read from a verified signer and as written.

use crate::error::MessageError;
use const_oid::db::rfc8894;
use scep_cms::VerifiedSignedData;
use scep_types::tlv::{self, Reader, Tlv, tag};
use scep_types::{Nonce, ObjectIdentifier, Timestamp, TransactionId};

/// A signed attribute with the name that errors give it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute {
    pub(crate) oid: ObjectIdentifier,
    pub(crate) name: &'static str,
}

pub(crate) const TRANSACTION_ID: Attribute =
    Attribute { oid: rfc8894::ID_TRANSACTION_ID, name: "transactionID" };
pub(crate) const MESSAGE_TYPE: Attribute =
    Attribute { oid: rfc8894::ID_MESSAGE_TYPE, name: "messageType" };
pub(crate) const PKI_STATUS: Attribute =
    Attribute { oid: rfc8894::ID_PKI_STATUS, name: "pkiStatus" };
pub(crate) const FAIL_INFO: Attribute = Attribute { oid: rfc8894::ID_FAIL_INFO, name: "failInfo" };
pub(crate) const FAIL_INFO_TEXT: Attribute =
    Attribute { oid: rfc8894::ID_SCEP_FAIL_INFO_TEXT, name: "failInfoText" };
pub(crate) const SENDER_NONCE: Attribute =
    Attribute { oid: rfc8894::ID_SENDER_NONCE, name: "senderNonce" };
pub(crate) const RECIPIENT_NONCE: Attribute =
    Attribute { oid: rfc8894::ID_RECIPIENT_NONCE, name: "recipientNonce" };
pub(crate) const SIGNING_TIME: Attribute =
    Attribute { oid: ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.5"), name: "signingTime" };
/// PKCS #9 challengePassword: legitimate in a PKCS #10 request only.
pub(crate) const CHALLENGE_PASSWORD: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.7");
/// id-data, the only eContentType of RFC 8894.
pub(crate) const ID_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");

impl Attribute {
    const fn missing(self) -> MessageError {
        MessageError::AttributeMissing { name: self.name }
    }

    /// The value: one TLV, as reading the attributes has made sure.
    fn tlv<'a>(self, der: &'a [u8]) -> Result<Tlv<'a>, MessageError> {
        let encoding = |error| MessageError::AttributeEncoding { name: self.name, error };
        Reader::new(der).any().map_err(encoding)
    }

    fn encoding(self, value: &Tlv<'_>, what: &'static str) -> MessageError {
        MessageError::AttributeEncoding { name: self.name, error: value.invalid(what) }
    }

    /// A number of 0 to 255, as decimal text by RFC 8894, or as the INTEGER that some clients send.
    fn number(self, signed: &VerifiedSignedData) -> Result<Option<u32>, MessageError> {
        signed.attribute(&self.oid).map(|der| self.decimal(der)).transpose()
    }

    /// As [`Attribute::number`], and it must be there.
    pub(crate) fn demand(self, signed: &VerifiedSignedData) -> Result<u32, MessageError> {
        self.number(signed)?.ok_or_else(|| self.missing())
    }

    fn decimal(self, der: &[u8]) -> Result<u32, MessageError> {
        let none = MessageError::AttributeNumber { name: self.name };
        let value = self.tlv(der)?;
        match value.tag {
            tag::PRINTABLE_STRING | tag::UTF8_STRING => match value.value {
                // One number has one spelling: no sign, no blanks, no leading zeros.
                [b'0'] => Ok(0),
                digits @ ([b'1'..=b'9'] | [b'1'..=b'9', _] | [b'1'..=b'9', _, _]) => {
                    core::str::from_utf8(digits)
                        .ok()
                        .and_then(|text| text.parse::<u8>().ok())
                        .map(u32::from)
                        .ok_or(none)
                }
                _ => Err(none),
            },
            tag::INTEGER => value
                .small_int()
                .ok()
                .and_then(|number| u8::try_from(number).ok())
                .map(u32::from)
                .ok_or(none),
            _ => Err(self.encoding(&value, "PrintableString")),
        }
    }
}

pub(crate) fn transaction_id(signed: &VerifiedSignedData) -> Result<TransactionId, MessageError> {
    let der = signed.attribute(&TRANSACTION_ID.oid).ok_or_else(|| TRANSACTION_ID.missing())?;
    transaction_id_from(der)
}

pub(crate) fn transaction_id_from(der: &[u8]) -> Result<TransactionId, MessageError> {
    let value = TRANSACTION_ID.tlv(der)?;
    match value.tag {
        tag::PRINTABLE_STRING | tag::UTF8_STRING => {}
        _ => return Err(TRANSACTION_ID.encoding(&value, "PrintableString")),
    }
    let text = core::str::from_utf8(value.value)
        .map_err(|_| TRANSACTION_ID.encoding(&value, "PrintableString"))?;
    TransactionId::new(text).map_err(MessageError::TransactionId)
}

/// signingTime, where there is one (RFC 5652, 11.3).
pub(crate) fn signing_time(signed: &VerifiedSignedData) -> Result<Option<Timestamp>, MessageError> {
    let Some(der) = signed.attribute(&SIGNING_TIME.oid) else { return Ok(None) };
    let time = SIGNING_TIME.tlv(der)?.time();
    time.map(Some)
        .map_err(|error| MessageError::AttributeEncoding { name: SIGNING_TIME.name, error })
}

/// A nonce, which devices may leave out.
pub(crate) fn nonce(
    signed: &VerifiedSignedData,
    attribute: Attribute,
) -> Result<Option<Nonce>, MessageError> {
    signed.attribute(&attribute.oid).map(|der| nonce_from(der, attribute)).transpose()
}

pub(crate) fn nonce_from(der: &[u8], attribute: Attribute) -> Result<Nonce, MessageError> {
    let value = attribute.tlv(der)?;
    if value.tag != tag::OCTET_STRING {
        return Err(attribute.encoding(&value, "OCTET STRING"));
    }
    Nonce::new(value.value).map_err(|error| MessageError::Nonce { name: attribute.name, error })
}

/// failInfoText: shown to people only, so that what is not text counts as none.
pub(crate) fn fail_info_text(signed: &VerifiedSignedData) -> Option<String> {
    let value = FAIL_INFO_TEXT.tlv(signed.attribute(&FAIL_INFO_TEXT.oid)?).ok()?;
    match value.tag {
        tag::UTF8_STRING | tag::PRINTABLE_STRING | tag::IA5_STRING => {
            let text = plain(core::str::from_utf8(value.value).ok()?);
            (!text.is_empty()).then_some(text)
        }
        _ => None,
    }
}

/// The longest failInfoText, in characters.
pub(crate) const MAX_TEXT: usize = 255;

/// Text for failInfoText: without control characters, at most 255 characters.
pub(crate) fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

/// A signed attribute as [`scep_cms::ToSign`] takes it.
pub(crate) type Written = (ObjectIdentifier, Vec<u8>);

pub(crate) fn printable(attribute: Attribute, text: &str) -> Written {
    (attribute.oid, tlv::encode(tag::PRINTABLE_STRING, text.as_bytes()))
}

pub(crate) fn decimal(attribute: Attribute, number: u32) -> Written {
    printable(attribute, &number.to_string())
}

pub(crate) fn octets(attribute: Attribute, octets: &[u8]) -> Written {
    (attribute.oid, tlv::encode(tag::OCTET_STRING, octets))
}

pub(crate) fn utf8(attribute: Attribute, text: &str) -> Written {
    (attribute.oid, tlv::encode(tag::UTF8_STRING, text.as_bytes()))
}
