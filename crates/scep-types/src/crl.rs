//! A certificate revocation list (RFC 5280, 5): the received bytes with a tolerant view.

use crate::tlv::{Reader, Tlv, TlvError, tag};
use crate::{ObjectIdentifier, SerialNumber, Timestamp};
use core::fmt;
use core::ops::Range;

const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");

/// A CRL: its bytes as received, with a tolerant view.
///
/// Nothing here is verified, and what is not asked for is not read: extensions other than cRLNumber, the contents
/// of entries beyond their serial numbers.
#[derive(Clone, PartialEq, Eq)]
pub struct CrlDer {
    der: Vec<u8>,
    parts: Parts,
    this_update: Timestamp,
    next_update: Option<Timestamp>,
    number: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Eq)]
struct Parts {
    tbs: Range<usize>,
    issuer: Range<usize>,
    entries: Range<usize>,
    signature_algorithm: Range<usize>,
    signature: Range<usize>,
}

const fn raw(tlv: &Tlv<'_>) -> Range<usize> {
    tlv.at..tlv.at.saturating_add(tlv.raw.len())
}

const fn contents(tlv: &Tlv<'_>) -> Range<usize> {
    let end = tlv.at.saturating_add(tlv.raw.len());
    end.saturating_sub(tlv.value.len())..end
}

/// The cRLNumber's content octets, when there is one.
fn number(extensions: &Tlv<'_>) -> Result<Option<Vec<u8>>, TlvError> {
    let mut explicit = extensions.reader();
    let mut list = explicit.expect(tag::SEQUENCE)?.reader();
    explicit.finish()?;
    let mut number = None;
    while !list.is_empty() {
        let mut fields = list.expect(tag::SEQUENCE)?.reader();
        let oid = fields.any()?.oid()?;
        fields.optional(tag::BOOLEAN)?;
        let value = fields.expect(tag::OCTET_STRING)?;
        if oid == CRL_NUMBER {
            number = Some(value.reader().only(tag::INTEGER)?.value.to_vec());
        }
    }
    Ok(number)
}

impl CrlDer {
    /// Parses one CRL, version 1 or 2. Every entry is walked over once.
    ///
    /// # Errors
    /// When it is no CRL.
    pub fn parse(der: &[u8]) -> Result<Self, TlvError> {
        let mut outer = Reader::new(der).only(tag::SEQUENCE)?.reader();
        let tbs = outer.expect(tag::SEQUENCE)?;
        let signature_algorithm = outer.expect(tag::SEQUENCE)?;
        let signature = outer.expect(tag::BIT_STRING)?;
        outer.finish()?;
        signature.whole_bits()?;
        let mut fields = tbs.reader();
        fields.optional(tag::INTEGER)?;
        fields.expect(tag::SEQUENCE)?;
        let issuer = fields.expect(tag::SEQUENCE)?;
        let this_update = fields.any()?.time()?;
        let next_update = match fields.peek() {
            Some(tag::UTC_TIME | tag::GENERALIZED_TIME) => Some(fields.any()?.time()?),
            _ => None,
        };
        let entries = match fields.optional(tag::SEQUENCE)? {
            Some(list) => {
                let mut each = list.reader();
                while !each.is_empty() {
                    each.expect(tag::SEQUENCE)?.reader().expect(tag::INTEGER)?;
                }
                contents(&list)
            }
            None => 0..0,
        };
        let number = match fields.optional(tag::context_constructed(0))? {
            Some(extensions) => number(&extensions)?,
            None => None,
        };
        fields.finish()?;
        let bits = contents(&signature);
        Ok(Self {
            parts: Parts {
                tbs: raw(&tbs),
                issuer: raw(&issuer),
                entries,
                signature_algorithm: raw(&signature_algorithm),
                signature: bits.start.saturating_add(1)..bits.end,
            },
            this_update,
            next_update,
            number,
            der: der.to_vec(),
        })
    }

    fn part(&self, range: &Range<usize>) -> &[u8] {
        self.der.get(range.clone()).unwrap_or_default()
    }

    /// The DER as received.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// The TBSCertList's DER: what the signature is over.
    #[must_use]
    pub fn tbs_der(&self) -> &[u8] {
        self.part(&self.parts.tbs)
    }

    /// The issuer Name's DER.
    #[must_use]
    pub fn issuer_der(&self) -> &[u8] {
        self.part(&self.parts.issuer)
    }

    /// The signature's AlgorithmIdentifier, DER.
    #[must_use]
    pub fn signature_algorithm_der(&self) -> &[u8] {
        self.part(&self.parts.signature_algorithm)
    }

    /// The signature's octets.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        self.part(&self.parts.signature)
    }

    /// thisUpdate.
    #[must_use]
    pub const fn this_update(&self) -> Timestamp {
        self.this_update
    }

    /// nextUpdate.
    #[must_use]
    pub const fn next_update(&self) -> Option<Timestamp> {
        self.next_update
    }

    /// cRLNumber, when it is there and below 2^64.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        let octets = self.number.as_deref()?;
        let octets = match octets {
            [0, rest @ ..] => rest,
            [0x80..=0xff, ..] => return None,
            all => all,
        };
        (octets.len() <= 8).then(|| octets.iter().fold(0, |n, b| (n << 8) | u64::from(*b)))
    }

    /// The serial numbers' content octets, in the order of the entries.
    pub fn serials(&self) -> impl Iterator<Item = &[u8]> {
        let mut reader = Reader::new(self.part(&self.parts.entries));
        core::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            // What `parse` has walked over reads again.
            let entry = reader.expect(tag::SEQUENCE).ok()?;
            entry.reader().expect(tag::INTEGER).ok().map(|serial| serial.value)
        })
    }

    /// Whether it lists this serial number. Looks at every entry: who has many to look up collects
    /// [`CrlDer::serials`].
    #[must_use]
    pub fn contains(&self, serial: &SerialNumber) -> bool {
        self.serials().any(|listed| listed == serial.as_content())
    }
}

impl fmt::Debug for CrlDer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrlDer")
            .field("number", &self.number())
            .field("this_update", &self.this_update)
            .field("next_update", &self.next_update)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlv::{encode, oid, sequence, small_int, time, whole_bits};

    const AT: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn crl(fields: &[&[u8]]) -> Vec<u8> {
        let algorithm = sequence(&[&oid(&CRL_NUMBER)]);
        let mut tbs = vec![small_int(1), algorithm.clone(), sequence(&[])];
        tbs.extend(fields.iter().map(|f| f.to_vec()));
        let parts: Vec<&[u8]> = tbs.iter().map(Vec::as_slice).collect();
        sequence(&[&sequence(&parts), &algorithm, &whole_bits(b"signature")])
    }

    fn numbered(number: &[u8]) -> Vec<u8> {
        let value = encode(tag::OCTET_STRING, &encode(tag::INTEGER, number));
        let list = sequence(&[&sequence(&[&oid(&CRL_NUMBER), &value])]);
        encode(tag::context_constructed(0), &list)
    }

    #[test]
    fn a_crl_without_anything_optional_is_read() {
        let read = CrlDer::parse(&crl(&[&time(AT)])).unwrap();
        assert_eq!((read.this_update(), read.next_update(), read.number()), (AT, None, None));
        assert_eq!(read.serials().count(), 0);
        assert_eq!(read.signature(), b"signature");
    }

    #[test]
    fn entries_and_number_are_found() {
        let entry = |n: u64| sequence(&[&small_int(n), &time(AT)]);
        let entries = sequence(&[&entry(5), &entry(0x90)]);
        let der =
            crl(&[&time(AT), &time(AT), &entries, &numbered(&[0, 0xff, 0, 0, 0, 0, 0, 0, 1])]);
        let read = CrlDer::parse(&der).unwrap();
        assert_eq!(read.next_update(), Some(AT));
        assert_eq!(read.number(), Some(0xff00_0000_0000_0001));
        let serial = |octets: &[u8]| SerialNumber::from_content(octets).unwrap();
        assert!(read.contains(&serial(&[5])) && read.contains(&serial(&[0, 0x90])));
        assert!(!read.contains(&serial(&[6])));
    }

    #[test]
    fn a_number_that_is_negative_or_long_is_none() {
        for octets in [&[0x80][..], &[1; 9][..]] {
            assert_eq!(
                CrlDer::parse(&crl(&[&time(AT), &numbered(octets)])).unwrap().number(),
                None
            );
        }
    }

    #[test]
    fn what_is_no_crl_is_refused() {
        let der = crl(&[&time(AT), &sequence(&[&small_int(5)])]);
        assert!(CrlDer::parse(&der).is_err(), "an entry that is no SEQUENCE");
        let good = crl(&[&time(AT)]);
        for end in 0..good.len() {
            assert!(CrlDer::parse(&good[..end]).is_err());
        }
        assert!(CrlDer::parse(&crl(&[&time(AT), &sequence(&[]), &small_int(1)])).is_err());
    }
}
