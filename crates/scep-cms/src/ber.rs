//! BER intake.

use crate::error::{CmsError, structure};
use crate::limits::{Limits, at_most};
use crate::oid;
use scep_types::tlv::{TlvError, tag};
use std::borrow::Cow;
use std::ops::Range;

/// A constructed OCTET STRING, which only BER has.
const OCTET_STRINGS: u8 = tag::OCTET_STRING | CONSTRUCTED;
const CONSTRUCTED: u8 = 0x20;

/// Turns the BER (X.690) of one ContentInfo into definite, minimal lengths and primitive OCTET STRINGs.
///
/// Flattened are constructed OCTET STRINGs, nested ones too, and the constructed forms of the implicitly tagged
/// OCTET STRINGs of RFC 5652 and 5083: `[0]` of EncryptedContentInfo, and the `[0]` that is a SubjectKeyIdentifier
/// in SignerInfo, KeyTransRecipientInfo and KeyAgreeRecipientInfo. Explicit `[0]` wrappers look the same and stay,
/// so the walk knows where in the schema it is. The order of SET OF is kept: signers have hashed it as sent.
/// Content that is itself CMS inside an OCTET STRING is left alone, for a call of its own.
///
/// DER comes back borrowed. The result normalises to itself. CRLs of definite length are copied unread, as their
/// signatures are over their octets and long ones have more values than the limit allows.
///
/// Constructed strings of other types, which BER allows too, stay: the parsers refuse them.
///
/// # Errors
/// [`CmsError::Limit`] beyond `max_bytes`, `max_depth` or `max_nodes`; [`CmsError::Malformed`] or
/// [`CmsError::Structure`] where it is not BER, has bytes after its end, or has tags of several octets.
pub fn normalize<'a>(input: &'a [u8], limits: &Limits) -> Result<Cow<'a, [u8]>, CmsError> {
    limits.check_bytes(input)?;
    let mut walk =
        Walk { input, limits, nodes: Vec::new(), values: 0, changed: false, kind: Kind::Other };
    let done = walk.value(0, input.len(), Place::Message, 0, 1)?;
    if done.next != input.len() {
        return Err(TlvError::Trailing { at: done.next }.into());
    }
    Ok(if walk.changed { Cow::Owned(walk.write(done.length)) } else { Cow::Borrowed(input) })
}

/// The content type of the one ContentInfo of the input.
#[derive(Clone, Copy)]
enum Kind {
    Signed,
    Enveloped,
    AuthEnveloped,
    Other,
}

/// Where in the schema a constructed value stands.
#[derive(Clone, Copy)]
enum Place {
    /// Somewhere without implicitly tagged OCTET STRINGs.
    Free,
    Message,
    ContentInfo,
    ExplicitContent,
    SignedData,
    Crls,
    SignerInfos,
    SignerInfo,
    EnvelopedData,
    EncryptedContentInfo,
    RecipientInfos,
    KeyTransport,
    KeyAgreement,
    Originator,
}

/// What to do with a constructed value.
enum Action {
    Descend(Place),
    /// An OCTET STRING in segments: one primitive value with this tag.
    Flatten(u8),
    /// Copied as it is, if its length is definite.
    Opaque,
}

/// What is written: in order, a header with its own contents, or contents of an OCTET STRING whose header
/// was written before.
struct Node {
    /// Tag and length, unless it is a segment.
    header: Option<(u8, usize)>,
    /// Octets of the input that follow the header. Empty for constructed values: their parts are nodes.
    contents: Range<usize>,
}

struct Header {
    tag: u8,
    /// `None`: indefinite.
    length: Option<usize>,
    /// Where the contents start.
    body: usize,
    minimal: bool,
}

/// A value or a list of values was read.
struct Done {
    /// Where the next one starts.
    next: usize,
    /// How long it is when written.
    length: usize,
}

struct Walk<'a> {
    input: &'a [u8],
    limits: &'a Limits,
    nodes: Vec<Node>,
    /// How many headers were read.
    values: usize,
    changed: bool,
    kind: Kind,
}

impl Walk<'_> {
    /// Reads the value at `at`, which must end by `end`. `index` is its position in its parent; `depth` its nesting.
    /// The recursion is bounded by `max_depth`.
    fn value(
        &mut self,
        at: usize,
        end: usize,
        place: Place,
        index: usize,
        depth: usize,
    ) -> Result<Done, CmsError> {
        let header = self.header(at, end, depth)?;
        if !header.minimal {
            self.changed = true;
        }
        let node = self.nodes.len();
        let action = if header.tag & CONSTRUCTED == 0 {
            Action::Opaque
        } else if header.tag == OCTET_STRINGS {
            Action::Flatten(tag::OCTET_STRING)
        } else {
            self.action(place, index, header.tag)
        };
        let (tag, contents, body) = match (action, header.length) {
            (Action::Opaque, Some(length)) => {
                let next = header.body.saturating_add(length);
                if matches!(place, Place::ContentInfo) && index == 0 && header.tag == tag::OID {
                    self.kind = kind(self.input.get(header.body..next).unwrap_or_default());
                }
                self.nodes.push(Node { header: None, contents: header.body..next });
                (header.tag, header.body..next, Done { next, length })
            }
            // A primitive value of indefinite length is no BER.
            (Action::Opaque, None) if header.tag & CONSTRUCTED == 0 => {
                return Err(TlvError::Length { at }.into());
            }
            (Action::Opaque, None) => {
                self.nodes.push(Node { header: None, contents: 0..0 });
                (header.tag, 0..0, self.children(&header, end, Place::Free, depth)?)
            }
            (Action::Descend(place), _) => {
                self.nodes.push(Node { header: None, contents: 0..0 });
                (header.tag, 0..0, self.children(&header, end, place, depth)?)
            }
            (Action::Flatten(tag), _) => {
                self.changed = true;
                self.nodes.push(Node { header: None, contents: 0..0 });
                (tag, 0..0, self.segments(&header, end, depth)?)
            }
        };
        if let Some(slot) = self.nodes.get_mut(node) {
            *slot = Node { header: Some((tag, body.length)), contents };
        }
        let length = body.length.saturating_add(header_length(body.length));
        Ok(Done { next: body.next, length })
    }

    /// Reads the parts of a constructed value.
    fn children(
        &mut self,
        header: &Header,
        end: usize,
        place: Place,
        depth: usize,
    ) -> Result<Done, CmsError> {
        let mut at = header.body;
        let mut length = 0_usize;
        let mut index = 0_usize;
        loop {
            if let Some(next) = self.ends(header, at, end)? {
                return Ok(Done { next, length });
            }
            let inner_end = header.length.map_or(end, |n| header.body.saturating_add(n));
            let part = self.value(at, inner_end, place, index, depth.saturating_add(1))?;
            at = part.next;
            length = length.saturating_add(part.length);
            index = index.saturating_add(1);
        }
    }

    /// Reads the segments of a constructed OCTET STRING, which may be constructed themselves.
    fn segments(&mut self, header: &Header, end: usize, depth: usize) -> Result<Done, CmsError> {
        let mut at = header.body;
        let mut length = 0_usize;
        loop {
            if let Some(next) = self.ends(header, at, end)? {
                return Ok(Done { next, length });
            }
            let inner_end = header.length.map_or(end, |n| header.body.saturating_add(n));
            let deeper = depth.saturating_add(1);
            let segment = self.header(at, inner_end, deeper)?;
            let part = match (segment.tag, segment.length) {
                (tag::OCTET_STRING, Some(n)) => {
                    let next = segment.body.saturating_add(n);
                    self.nodes.push(Node { header: None, contents: segment.body..next });
                    Done { next, length: n }
                }
                (OCTET_STRINGS, _) => self.segments(&segment, inner_end, deeper)?,
                (tag::OCTET_STRING, None) => return Err(TlvError::Length { at }.into()),
                (got, _) => {
                    return Err(TlvError::Tag { at, expected: tag::OCTET_STRING, got }.into());
                }
            };
            at = part.next;
            length = length.saturating_add(part.length);
        }
    }

    /// Where the value after a constructed one starts, when its parts end at `at`.
    fn ends(&self, header: &Header, at: usize, end: usize) -> Result<Option<usize>, CmsError> {
        match header.length {
            Some(length) => {
                let last = header.body.saturating_add(length);
                Ok((at >= last).then_some(last))
            }
            None => match self.input.get(at..end).unwrap_or_default() {
                [0, 0, ..] => Ok(Some(at.saturating_add(2))),
                [] => Err(TlvError::Truncated { at }.into()),
                _ => Ok(None),
            },
        }
    }

    fn header(&mut self, at: usize, end: usize, depth: usize) -> Result<Header, CmsError> {
        self.values = self.values.saturating_add(1);
        at_most("levels of nesting", depth, self.limits.max_depth)?;
        at_most("values", self.values, self.limits.max_nodes)?;
        let truncated = TlvError::Truncated { at };
        let input = self.input.get(at..end).ok_or(truncated)?;
        let (&tag, rest) = input.split_first().ok_or(truncated)?;
        if tag & 0x1f == 0x1f {
            return Err(TlvError::LongTag { at }.into());
        }
        let (&first, rest) = rest.split_first().ok_or(truncated)?;
        if tag == 0 {
            return Err(structure("end-of-contents octets where a value was expected", at));
        }
        let (length, extra) = match first {
            0..=0x7f => (Some(u64::from(first)), 0),
            0x80 => (None, 0),
            // X.690 allows 126 octets of length, leading zeros included; eight hold every length there can be.
            0x81..=0x88 => {
                let extra = usize::from(first & 0x7f);
                let octets = rest.get(..extra).ok_or(truncated)?;
                (Some(octets.iter().fold(0, |n, b| (n << 8) | u64::from(*b))), extra)
            }
            _ => return Err(TlvError::Length { at }.into()),
        };
        let header = extra.saturating_add(2);
        let body = at.saturating_add(header);
        let Some(length) = length else {
            return Ok(Header { tag, length: None, body, minimal: false });
        };
        let length = usize::try_from(length).map_err(|_| truncated)?;
        if length > end.saturating_sub(body) {
            return Err(truncated.into());
        }
        Ok(Header { tag, length: Some(length), body, minimal: header == header_length(length) })
    }

    const fn action(&self, place: Place, index: usize, tag: u8) -> Action {
        use Place as P;
        const EXPLICIT_0: u8 = tag::context_constructed(0);
        const EXPLICIT_1: u8 = tag::context_constructed(1);
        const IMPLICIT_0: Action = Action::Flatten(tag::context(0));
        Action::Descend(match (place, index, tag) {
            (P::Message, 0, tag::SEQUENCE) => P::ContentInfo,
            (P::ContentInfo, 1, EXPLICIT_0) => P::ExplicitContent,
            (P::ExplicitContent, 0, tag::SEQUENCE) => match self.kind {
                Kind::Signed => P::SignedData,
                // AuthEnvelopedData has the same parts as far as implicit OCTET STRINGs go.
                Kind::Enveloped | Kind::AuthEnveloped => P::EnvelopedData,
                Kind::Other => P::Free,
            },
            // version, digestAlgorithms, encapContentInfo; then certificates [0], crls [1], signerInfos.
            (P::SignedData, 3.., EXPLICIT_1) => P::Crls,
            (P::SignedData, 3.., tag::SET) => P::SignerInfos,
            (P::Crls, _, tag::SEQUENCE) => return Action::Opaque,
            (P::SignerInfos, _, tag::SEQUENCE) => P::SignerInfo,
            (P::SignerInfo | P::KeyTransport, 1, EXPLICIT_0) => return IMPLICIT_0,
            (P::EnvelopedData, 1.., tag::SET) => P::RecipientInfos,
            (P::EnvelopedData, 2.., tag::SEQUENCE) => P::EncryptedContentInfo,
            (P::EncryptedContentInfo, 2, EXPLICIT_0) => return IMPLICIT_0,
            (P::RecipientInfos, _, tag::SEQUENCE) => P::KeyTransport,
            (P::RecipientInfos, _, EXPLICIT_1) => P::KeyAgreement,
            (P::KeyAgreement, 1, EXPLICIT_0) => P::Originator,
            (P::Originator, 0, EXPLICIT_0) => return IMPLICIT_0,
            _ => P::Free,
        })
    }

    fn write(&self, length: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(length);
        for node in &self.nodes {
            if let Some((tag, length)) = node.header {
                write_header(&mut out, tag, length);
            }
            out.extend_from_slice(self.input.get(node.contents.clone()).unwrap_or_default());
        }
        out
    }
}

fn kind(oid_octets: &[u8]) -> Kind {
    if oid_octets == oid::SIGNED_DATA.as_bytes() {
        Kind::Signed
    } else if oid_octets == oid::ENVELOPED_DATA.as_bytes() {
        Kind::Enveloped
    } else if oid_octets == oid::AUTH_ENVELOPED_DATA.as_bytes() {
        Kind::AuthEnveloped
    } else {
        Kind::Other
    }
}

/// How many octets tag and minimal length take.
const fn header_length(length: usize) -> usize {
    if length < 0x80 {
        return 2;
    }
    let bits = usize::BITS.saturating_sub(length.leading_zeros());
    2_usize.saturating_add(bits.div_ceil(8) as usize)
}

fn write_header(out: &mut Vec<u8>, tag: u8, length: usize) {
    out.push(tag);
    if let Ok(short @ 0..=0x7f) = u8::try_from(length) {
        out.push(short);
        return;
    }
    let octets = length.to_be_bytes();
    let count = header_length(length).saturating_sub(2);
    out.push(0x80 | u8::try_from(count).unwrap_or(0));
    out.extend(octets.iter().skip(octets.len().saturating_sub(count)));
}
