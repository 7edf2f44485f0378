//! A strict DER cursor and writer that keep the received bytes.
//!
//! The `der` crate decodes values; what it does not give is the exact slice a value was read from,
//! and signatures, hashes and comparisons here are over received bytes, never over a re-encoding.

use thiserror::Error;

/// Universal tags and the context tags that SCEP's structures use.
pub mod tag {
    #![allow(missing_docs)]
    pub const BOOLEAN: u8 = 0x01;
    pub const INTEGER: u8 = 0x02;
    pub const BIT_STRING: u8 = 0x03;
    pub const OCTET_STRING: u8 = 0x04;
    pub const NULL: u8 = 0x05;
    pub const OID: u8 = 0x06;
    pub const UTF8_STRING: u8 = 0x0c;
    pub const PRINTABLE_STRING: u8 = 0x13;
    pub const T61_STRING: u8 = 0x14;
    pub const IA5_STRING: u8 = 0x16;
    pub const UTC_TIME: u8 = 0x17;
    pub const GENERALIZED_TIME: u8 = 0x18;
    pub const UNIVERSAL_STRING: u8 = 0x1c;
    pub const BMP_STRING: u8 = 0x1e;
    pub const SEQUENCE: u8 = 0x30;
    pub const SET: u8 = 0x31;

    /// The context-specific primitive tag `[n]`, for n below 31.
    #[must_use]
    pub const fn context(n: u8) -> u8 {
        0x80 | (n & 0x1f)
    }

    /// The context-specific constructed tag `[n]`, for n below 31.
    #[must_use]
    pub const fn context_constructed(n: u8) -> u8 {
        0xa0 | (n & 0x1f)
    }
}

/// Why bytes are not the DER that was expected, and where (bytes from the start of the outermost
/// input).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TlvError {
    /// The input ends inside a value.
    #[error("the input ends at byte {at}, inside a value")]
    Truncated {
        /// Where.
        at: usize,
    },
    /// Another tag was expected.
    #[error("tag {got:#04x} at byte {at} where {expected:#04x} was expected")]
    Tag {
        /// Where.
        at: usize,
        /// What was expected.
        expected: u8,
        /// What is there.
        got: u8,
    },
    /// A multi-byte tag: none occurs in what we read.
    #[error("multi-byte tag at byte {at}")]
    LongTag {
        /// Where.
        at: usize,
    },
    /// An indefinite, non-minimal or absurd length.
    #[error("length that DER does not allow at byte {at}")]
    Length {
        /// Where.
        at: usize,
    },
    /// Bytes after the last value.
    #[error("unexpected bytes at byte {at}")]
    Trailing {
        /// Where.
        at: usize,
    },
    /// A value of the right tag with contents that DER or the schema does not allow.
    #[error("{what} at byte {at} is not valid")]
    Value {
        /// Where.
        at: usize,
        /// What should have been there.
        what: &'static str,
    },
}

/// One tag-length-value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// The identifier octet.
    pub tag: u8,
    /// The whole encoding, header included.
    pub raw: &'a [u8],
    /// The contents octets.
    pub value: &'a [u8],
    /// Where `raw` starts, in bytes from the start of the outermost input.
    pub at: usize,
}

impl<'a> Tlv<'a> {
    /// A reader over the contents.
    #[must_use]
    pub const fn reader(&self) -> Reader<'a> {
        let header = self.raw.len().saturating_sub(self.value.len());
        Reader { rest: self.value, at: self.at.saturating_add(header) }
    }

    /// An error about this value.
    #[must_use]
    pub const fn invalid(&self, what: &'static str) -> TlvError {
        TlvError::Value { at: self.at, what }
    }

    /// The contents as an object identifier.
    ///
    /// # Errors
    /// When the tag is another, or an arc is not minimal.
    pub fn oid(&self) -> Result<const_oid::ObjectIdentifier, TlvError> {
        if self.tag != tag::OID {
            return Err(TlvError::Tag { at: self.at, expected: tag::OID, got: self.tag });
        }
        // Arcs with leading 0x80 octets would give one OID two encodings.
        let mut first = true;
        for &octet in self.value {
            if first && octet == 0x80 {
                return Err(self.invalid("OBJECT IDENTIFIER"));
            }
            first = octet & 0x80 == 0;
        }
        const_oid::ObjectIdentifier::from_bytes(self.value)
            .map_err(|_| self.invalid("OBJECT IDENTIFIER"))
    }

    /// The content octets of a non-negative minimal INTEGER, without a leading zero.
    ///
    /// # Errors
    /// When the tag is another, or it is negative, empty or not minimal.
    pub fn unsigned(&self) -> Result<&'a [u8], TlvError> {
        if self.tag != tag::INTEGER {
            return Err(TlvError::Tag { at: self.at, expected: tag::INTEGER, got: self.tag });
        }
        match self.value {
            [] | [0x80..=0xff, ..] | [0, 0..=0x7f, ..] => Err(self.invalid("INTEGER")),
            [0, rest @ ..] if !rest.is_empty() => Ok(rest),
            all => Ok(all),
        }
    }

    /// A small INTEGER: 0 to 2^63 - 1.
    ///
    /// # Errors
    /// As for [`Tlv::unsigned`], or when it is larger.
    pub fn small_int(&self) -> Result<u64, TlvError> {
        let octets = self.unsigned()?;
        if octets.len() > 8 || (octets.len() == 8 && octets.first().is_some_and(|b| *b > 0x7f)) {
            return Err(self.invalid("INTEGER"));
        }
        Ok(octets.iter().fold(0, |n: u64, b| (n << 8) | u64::from(*b)))
    }

    /// The octets of a BIT STRING without unused bits.
    ///
    /// # Errors
    /// When the tag is another or bits are unused.
    pub fn whole_bits(&self) -> Result<&'a [u8], TlvError> {
        if self.tag != tag::BIT_STRING {
            return Err(TlvError::Tag { at: self.at, expected: tag::BIT_STRING, got: self.tag });
        }
        match self.value {
            [0, rest @ ..] => Ok(rest),
            _ => Err(self.invalid("BIT STRING")),
        }
    }

    /// A BOOLEAN.
    ///
    /// # Errors
    /// When the tag is another or the contents are not 00 or FF.
    pub fn boolean(&self) -> Result<bool, TlvError> {
        if self.tag != tag::BOOLEAN {
            return Err(TlvError::Tag { at: self.at, expected: tag::BOOLEAN, got: self.tag });
        }
        match self.value {
            [0] => Ok(false),
            [0xff] => Ok(true),
            _ => Err(self.invalid("BOOLEAN")),
        }
    }

    /// A UTCTime or GeneralizedTime in the forms of RFC 5280, 4.1.2.5. Years before 1970 read as 1970.
    ///
    /// # Errors
    /// When the tag is another or it is not in that form.
    pub fn time(&self) -> Result<crate::Timestamp, TlvError> {
        let bad = || self.invalid("Time");
        let number = |digits: &[u8]| -> Option<u16> {
            digits.iter().try_fold(0_u16, |n, d| {
                d.is_ascii_digit()
                    .then(|| n.saturating_mul(10).saturating_add(u16::from(d.saturating_sub(b'0'))))
            })
        };
        let (year, rest) = match (self.tag, self.value.len()) {
            (tag::UTC_TIME, 13) => {
                let (y, rest) = self.value.split_at(2);
                let y = number(y).ok_or_else(bad)?;
                (if y < 50 { y.saturating_add(2000) } else { y.saturating_add(1900) }, rest)
            }
            (tag::GENERALIZED_TIME, 15) => {
                let (y, rest) = self.value.split_at(4);
                (number(y).ok_or_else(bad)?, rest)
            }
            _ => return Err(bad()),
        };
        let mut fields = [0_u8; 5];
        let mut chunks = rest.chunks_exact(2);
        for (field, digits) in fields.iter_mut().zip(&mut chunks) {
            *field = number(digits).and_then(|n| u8::try_from(n).ok()).ok_or_else(bad)?;
        }
        if chunks.remainder() != b"Z" {
            return Err(bad());
        }
        let [mo, d, h, mi, s] = fields;
        if year < 1970 {
            return Ok(crate::Timestamp::EPOCH);
        }
        crate::Timestamp::from_civil(year, mo, d, h, mi, s).ok_or_else(bad)
    }
}

/// A cursor over DER bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of the outermost input.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self { rest: input, at: 0 }
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Where the cursor stands.
    #[must_use]
    pub const fn at(&self) -> usize {
        self.at
    }

    /// The next identifier octet, if anything is left.
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Reads one value of any tag.
    ///
    /// # Errors
    /// When what is there is no DER value.
    pub fn any(&mut self) -> Result<Tlv<'a>, TlvError> {
        let at = self.at;
        let truncated = TlvError::Truncated { at: at.saturating_add(self.rest.len()) };
        let bad_length = TlvError::Length { at: at.saturating_add(1) };
        let (&tag, after_tag) = self.rest.split_first().ok_or(truncated)?;
        if tag & 0x1f == 0x1f {
            return Err(TlvError::LongTag { at });
        }
        let (&first, after_first) = after_tag.split_first().ok_or(truncated)?;
        let (length, body) = match first {
            0..=0x7f => (usize::from(first), after_first),
            0x81..=0x84 => {
                let (octets, body) =
                    after_first.split_at_checked(usize::from(first & 0x7f)).ok_or(truncated)?;
                let length = octets.iter().fold(0_usize, |n, b| (n << 8) | usize::from(*b));
                // Minimal: no leading zero, and the long form only from 128 on.
                if octets.first() == Some(&0) || length < 0x80 {
                    return Err(bad_length);
                }
                (length, body)
            }
            _ => return Err(bad_length),
        };
        let (value, rest) = body.split_at_checked(length).ok_or(truncated)?;
        let raw_len = self.rest.len().saturating_sub(rest.len());
        let raw = self.rest.get(..raw_len).ok_or(truncated)?;
        self.rest = rest;
        self.at = at.saturating_add(raw_len);
        Ok(Tlv { tag, raw, value, at })
    }

    /// Reads one value of this tag.
    ///
    /// # Errors
    /// When the tag is another or it is no DER value.
    pub fn expect(&mut self, tag: u8) -> Result<Tlv<'a>, TlvError> {
        match self.peek() {
            None => Err(TlvError::Truncated { at: self.at }),
            Some(got) if got != tag => Err(TlvError::Tag { at: self.at, expected: tag, got }),
            Some(_) => self.any(),
        }
    }

    /// Reads one value of this tag if it is next.
    ///
    /// # Errors
    /// When it has this tag but is no DER value.
    pub fn optional(&mut self, tag: u8) -> Result<Option<Tlv<'a>>, TlvError> {
        if self.peek() == Some(tag) { self.any().map(Some) } else { Ok(None) }
    }

    /// Demands that nothing is left.
    ///
    /// # Errors
    /// When something is.
    pub const fn finish(self) -> Result<(), TlvError> {
        if self.rest.is_empty() { Ok(()) } else { Err(TlvError::Trailing { at: self.at }) }
    }

    /// Reads the one value of this tag that the whole input must be.
    ///
    /// # Errors
    /// When it is something else, or something follows.
    pub fn only(mut self, tag: u8) -> Result<Tlv<'a>, TlvError> {
        let tlv = self.expect(tag)?;
        self.finish()?;
        Ok(tlv)
    }
}

/// Encodes one value: tag, minimal length, contents.
#[must_use]
pub fn encode(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(contents.len().saturating_add(6));
    out.push(tag);
    let length = contents.len();
    if let Ok(short @ 0..=0x7f) = u8::try_from(length) {
        out.push(short);
    } else {
        let octets = length.to_be_bytes();
        let first = octets.iter().position(|b| *b != 0).unwrap_or(0);
        let significant = octets.get(first..).unwrap_or_default();
        out.push(0x80 | u8::try_from(significant.len()).unwrap_or(0));
        out.extend_from_slice(significant);
    }
    out.extend_from_slice(contents);
    out
}

/// Encodes a constructed value out of encoded parts.
#[must_use]
pub fn construct(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    encode(tag, &parts.concat())
}

/// Encodes a SEQUENCE out of encoded parts.
#[must_use]
pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    construct(tag::SEQUENCE, parts)
}

/// Encodes a SET OF in DER order (X.690, 11.6).
#[must_use]
pub fn set_of(mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort();
    encode(tag::SET, &parts.concat())
}

/// Encodes an OBJECT IDENTIFIER.
#[must_use]
pub fn oid(oid: &const_oid::ObjectIdentifier) -> Vec<u8> {
    encode(tag::OID, oid.as_bytes())
}

/// Encodes a non-negative INTEGER from its big-endian magnitude.
#[must_use]
pub fn unsigned(magnitude: &[u8]) -> Vec<u8> {
    let first = magnitude.iter().position(|b| *b != 0).unwrap_or(magnitude.len());
    let mut content = Vec::with_capacity(magnitude.len().saturating_add(1));
    let significant = magnitude.get(first..).unwrap_or_default();
    if significant.first().is_none_or(|b| *b > 0x7f) {
        content.push(0);
    }
    content.extend_from_slice(significant);
    encode(tag::INTEGER, &content)
}

/// Encodes a small INTEGER.
#[must_use]
pub fn small_int(n: u64) -> Vec<u8> {
    unsigned(&n.to_be_bytes())
}

/// Encodes a BIT STRING without unused bits.
#[must_use]
pub fn whole_bits(octets: &[u8]) -> Vec<u8> {
    encode(tag::BIT_STRING, &[&[0], octets].concat())
}

/// Encodes a time as RFC 5280, 4.1.2.5 demands: UTCTime through 2049, GeneralizedTime from 2050.
#[must_use]
pub fn time(t: crate::Timestamp) -> Vec<u8> {
    let (y, mo, d, h, mi, s) = t.civil();
    if y < 2050 {
        let text = format!("{:02}{mo:02}{d:02}{h:02}{mi:02}{s:02}Z", y % 100);
        encode(tag::UTC_TIME, text.as_bytes())
    } else {
        let text = format!("{y:04}{mo:02}{d:02}{h:02}{mi:02}{s:02}Z");
        encode(tag::GENERALIZED_TIME, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_must_be_minimal_and_definite() {
        for (bytes, error) in [
            (&[0x30, 0x80, 0, 0][..], TlvError::Length { at: 1 }),
            (&[0x04, 0x81, 0x01, 0], TlvError::Length { at: 1 }),
            (&[0x04, 0x82, 0x00, 0x80, 0], TlvError::Length { at: 1 }),
            (&[0x04, 0x85, 0, 0, 0, 0, 1, 0], TlvError::Length { at: 1 }),
            (&[0x1f, 0x01, 0x00], TlvError::LongTag { at: 0 }),
            (&[0x04, 0x02, 0x00], TlvError::Truncated { at: 3 }),
            (&[0x04], TlvError::Truncated { at: 1 }),
        ] {
            assert_eq!(Reader::new(bytes).any().unwrap_err(), error, "{bytes:02x?}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for len in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let contents = vec![7; len];
            let encoded = encode(tag::OCTET_STRING, &contents);
            let tlv = Reader::new(&encoded).only(tag::OCTET_STRING).unwrap();
            assert_eq!((tlv.value, tlv.raw), (&contents[..], &encoded[..]));
        }
        for n in [0, 1, 127, 128, 255, 256, u64::MAX >> 1] {
            let encoded = small_int(n);
            assert_eq!(Reader::new(&encoded).only(tag::INTEGER).unwrap().small_int().unwrap(), n);
        }
        for seconds in [0, 1_800_000_000, 2_524_607_999, 2_524_608_000, 253_402_300_799] {
            let t = crate::Timestamp::from_seconds(seconds);
            let encoded = time(t);
            assert_eq!(Reader::new(&encoded).any().unwrap().time().unwrap(), t);
        }
    }

    #[test]
    fn attack_34_oid_arcs_must_be_minimal() {
        let padded = [0x06, 0x04, 0x55, 0x80, 0x1d, 0x0f];
        let error = Reader::new(&padded).any().unwrap().oid().unwrap_err();
        assert_eq!(error, TlvError::Value { at: 0, what: "OBJECT IDENTIFIER" });
        assert!(Reader::new(&[0x06, 0x03, 0x55, 0x1d, 0x0f]).any().unwrap().oid().is_ok());
    }
}
