//! DER rewritten as BER that means the same: indefinite lengths, octet strings in pieces.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "part of tests: what does not fit is a failed test, and its message says what"
)]

use scep_types::tlv::{self, Reader, Tlv, tag};

/// The bit of an identifier octet that says "constructed".
const CONSTRUCTED: u8 = 0x20;
/// The length octet that says "until the end-of-contents octets".
const INDEFINITE: u8 = 0x80;
const END_OF_CONTENTS: [u8; 2] = [0, 0];

/// A SignedData's ContentInfo as encoders write it that stream: indefinite lengths around the content, which comes in
/// pieces of `piece` octets; certificates, signed attributes and all else in DER.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn stream_signed_data(content_info: &[u8], piece: usize) -> Vec<u8> {
    // ContentInfo: [0], the SignedData, its encapContentInfo, [0], the OCTET STRING.
    along(only(content_info), &[1, 0, 2, 1, 0], piece)
}

/// An EnvelopedData's ContentInfo as encoders write it that stream.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn stream_enveloped_data(content_info: &[u8], piece: usize) -> Vec<u8> {
    // ContentInfo: [0], the EnvelopedData, its encryptedContentInfo, [0] IMPLICIT OCTET STRING.
    along(only(content_info), &[1, 0, 2, 2], piece)
}

/// Every constructed value with an indefinite length, and every octet string longer than `piece` in pieces, those that
/// are `[0] IMPLICIT` included: no known encoder goes this far, and BER allows it.
///
/// # Panics
/// When it is not DER.
#[must_use]
pub fn everything(der: &[u8], piece: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for value in children(der) {
        let octets = value.tag == tag::OCTET_STRING || value.tag == tag::context(0);
        if value.tag & CONSTRUCTED != 0 {
            out.extend(indefinite(value.tag, &everything(value.value, piece)));
        } else if octets && value.value.len() > piece {
            out.extend(pieces(value, piece));
        } else {
            out.extend_from_slice(value.raw);
        }
    }
    out
}

/// Indefinite lengths along a path of child numbers, the octets at its end in pieces.
fn along(value: Tlv<'_>, path: &[usize], piece: usize) -> Vec<u8> {
    let Some((next, rest)) = path.split_first() else { return pieces(value, piece) };
    let parts = children(value.value).into_iter().enumerate().map(|(at, child)| {
        if at == *next { along(child, rest, piece) } else { child.raw.to_vec() }
    });
    indefinite(value.tag, &parts.collect::<Vec<_>>().concat())
}

fn pieces(value: Tlv<'_>, piece: usize) -> Vec<u8> {
    let parts: Vec<Vec<u8>> =
        value.value.chunks(piece).map(|part| tlv::encode(tag::OCTET_STRING, part)).collect();
    indefinite(value.tag | CONSTRUCTED, &parts.concat())
}

fn indefinite(tag: u8, contents: &[u8]) -> Vec<u8> {
    [&[tag, INDEFINITE], contents, &END_OF_CONTENTS].concat()
}

fn only(der: &[u8]) -> Tlv<'_> {
    Reader::new(der).only(tag::SEQUENCE).expect("a ContentInfo")
}

fn children(der: &[u8]) -> Vec<Tlv<'_>> {
    let mut reader = Reader::new(der);
    let mut children = Vec::new();
    while !reader.is_empty() {
        children.push(reader.any().expect("DER"));
    }
    children
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEQUENCE { OID-like NULL, [0] { SEQUENCE { 1, SET {}, SEQUENCE { NULL, [0] { OCTET STRING } } } } }
    fn signed() -> Vec<u8> {
        let content =
            tlv::encode(tag::context_constructed(0), &tlv::encode(tag::OCTET_STRING, b"abcde"));
        let encapsulated = tlv::sequence(&[&[5, 0], &content]);
        let signed = tlv::sequence(&[&[2, 1, 1], &[0x31, 0], &encapsulated]);
        tlv::sequence(&[&[5, 0], &tlv::encode(tag::context_constructed(0), &signed)])
    }

    #[test]
    fn streams_along_the_content_alone() {
        let expected = [
            &[0x30, 0x80, 5, 0, 0xa0, 0x80, 0x30, 0x80, 2, 1, 1, 0x31, 0][..],
            &[0x30, 0x80, 5, 0, 0xa0, 0x80, 0x24, 0x80, 4, 3, b'a', b'b', b'c', 4, 2, b'd', b'e'],
            &[0; 12],
        ];
        assert_eq!(stream_signed_data(&signed(), 3), expected.concat());
    }

    #[test]
    fn everything_is_indefinite() {
        let all = everything(&signed(), 3);
        // The empty SET too.
        assert!(all.windows(4).any(|w| w == [0x31, 0x80, 0, 0]), "{all:02x?}");
        assert!(!all.windows(5).any(|w| w == b"abcde"));
        assert_eq!(everything(&[4, 2, 7, 8], 2), [4, 2, 7, 8]);
        assert_eq!(everything(&[0x80, 2, 7, 8], 1), [0xa0, 0x80, 4, 1, 7, 4, 1, 8, 0, 0]);
    }
}
