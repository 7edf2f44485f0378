//! What the readers of several structures share.

use crate::error::{CmsError, structure};
use scep_types::tlv::{Reader, Tlv, tag};
use scep_types::{DistinguishedName, ObjectIdentifier, StringRules};
use std::ops::Range;

/// Opens a ContentInfo of this type: a reader over the fields of its content.
pub(crate) fn content_info<'a>(
    der: &'a [u8],
    content_type: &ObjectIdentifier,
    otherwise: &'static str,
) -> Result<Reader<'a>, CmsError> {
    let mut outer = Reader::new(der).only(tag::SEQUENCE)?.reader();
    let kind = outer.any()?;
    if kind.oid()? != *content_type {
        return Err(structure(otherwise, kind.at));
    }
    let mut explicit = outer.expect(tag::context_constructed(0))?.reader();
    outer.finish()?;
    let content = explicit.expect(tag::SEQUENCE)?;
    explicit.finish()?;
    Ok(content.reader())
}

/// Where a whole value stands.
pub(crate) const fn whole(tlv: &Tlv<'_>) -> Range<usize> {
    tlv.at..tlv.at.saturating_add(tlv.raw.len())
}

/// Where the contents of a value stand.
pub(crate) const fn contents(tlv: &Tlv<'_>) -> Range<usize> {
    let end = tlv.at.saturating_add(tlv.raw.len());
    end.saturating_sub(tlv.value.len())..end
}

/// The octets of a range that was read from this very input.
pub(crate) fn part<'a>(input: &'a [u8], range: &Range<usize>) -> &'a [u8] {
    input.get(range.clone()).unwrap_or_default()
}

/// Where IssuerAndSerialNumber's parts stand: the Name, whole, and the INTEGER's contents.
#[derive(Debug)]
pub(crate) struct IssuerSerial {
    pub(crate) issuer: Range<usize>,
    pub(crate) serial: Range<usize>,
}

impl IssuerSerial {
    pub(crate) fn read(tlv: &Tlv<'_>) -> Result<Self, CmsError> {
        let mut fields = tlv.reader();
        let issuer = fields.expect(tag::SEQUENCE)?;
        let serial = fields.expect(tag::INTEGER)?;
        fields.finish()?;
        Ok(Self { issuer: whole(&issuer), serial: contents(&serial) })
    }
}

/// Whether two Names, DER, are equal as structures. Peers re-encode strings, so the octets may differ.
#[must_use]
pub fn same_name(a: &[u8], b: &[u8]) -> bool {
    let parse = |der| DistinguishedName::from_der(der, StringRules::AllowBmp).ok();
    a == b || parse(a).is_some_and(|a| parse(b) == Some(a))
}
