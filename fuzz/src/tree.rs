//! DER as a tree, and one change to it.

use arbitrary::Arbitrary;
use scep_types::tlv::{self, Reader, tag};

const CONSTRUCTED: u8 = 0x20;
/// Deeper than any reader here goes.
const DEPTH: usize = 40;

/// A value of the tree.
struct Node {
    tag: u8,
    form: Form,
    body: Body,
}

enum Body {
    Octets(Vec<u8>),
    /// Within a constructed value, or one value within an OCTET STRING.
    Values(Vec<Node>),
}

/// How tag and length are written.
#[derive(Clone, Copy)]
enum Form {
    Der,
    /// This many octets of length more than are needed.
    Long(u8),
    Indefinite,
}

/// One change to one value: the `at`th, counted from the outside and around.
#[derive(Arbitrary, Debug)]
pub struct Change {
    at: u16,
    what: What,
}

#[derive(Arbitrary, Debug)]
enum What {
    Remove,
    Repeat,
    SwapWithNext,
    ToTheEnd,
    Retag(u8),
    Contents(Vec<u8>),
    Append(Vec<u8>),
    Cut(u8),
    Octet(u16, u8),
    Wrap(u8),
    Unwrap,
    LongLength(u8),
    Indefinite,
}

/// How DER is written anew.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Der,
    /// Indefinite lengths down to this depth, octet strings on the way in pieces.
    Streamed {
        /// Down to here.
        depth: u8,
        /// Octets in a piece, and 16 more.
        piece: u8,
    },
}

impl Change {
    /// Makes the change; what is no DER stays as it is.
    #[must_use]
    pub fn apply(&self, der: &[u8]) -> Vec<u8> {
        let Some(mut top) = nodes(der, DEPTH) else { return der.to_vec() };
        let count = count(&top);
        if count > 0 {
            edit(&mut top, &mut (usize::from(self.at) % count), &self.what);
        }
        write(&top)
    }
}

impl Encoding {
    /// Writes DER in this encoding; what is no DER stays as it is.
    #[must_use]
    pub fn apply(self, der: &[u8]) -> Vec<u8> {
        let Self::Streamed { depth, piece } = self else { return der.to_vec() };
        let Some(mut top) = nodes(der, DEPTH) else { return der.to_vec() };
        stream(&mut top, usize::from(depth), usize::from(piece).saturating_add(16));
        write(&top)
    }
}

/// Values without a rest; `None` when it is not DER.
fn nodes(der: &[u8], depth: usize) -> Option<Vec<Node>> {
    let depth = depth.checked_sub(1)?;
    let mut reader = Reader::new(der);
    let mut all = Vec::new();
    while !reader.is_empty() {
        let value = reader.any().ok()?;
        let within = value.tag & CONSTRUCTED != 0
            || (value.tag == tag::OCTET_STRING && matches!(value.value.first(), Some(0x30 | 0x31)));
        let body = match within.then(|| nodes(value.value, depth)).flatten() {
            Some(values) => Body::Values(values),
            None => Body::Octets(value.value.to_vec()),
        };
        all.push(Node { tag: value.tag, form: Form::Der, body });
    }
    Some(all)
}

fn count(nodes: &[Node]) -> usize {
    nodes
        .iter()
        .map(|node| match &node.body {
            Body::Octets(_) => 1,
            Body::Values(values) => 1 + count(values),
        })
        .sum()
}

/// Whether the change was made.
fn edit(nodes: &mut Vec<Node>, left: &mut usize, what: &What) -> bool {
    for at in 0..nodes.len() {
        if *left == 0 {
            change(nodes, at, what);
            return true;
        }
        *left -= 1;
        if let Body::Values(values) = &mut nodes[at].body
            && edit(values, left, what)
        {
            return true;
        }
    }
    false
}

fn change(nodes: &mut Vec<Node>, at: usize, what: &What) {
    let encoded = write(&nodes[at..=at]);
    let contents = contents(&nodes[at].body);
    let last = at + 1 == nodes.len();
    let node = &mut nodes[at];
    match what {
        What::Remove => drop(nodes.remove(at)),
        What::Repeat => nodes.insert(at, raw(&encoded)),
        What::SwapWithNext if last => {}
        What::SwapWithNext => nodes.swap(at, at + 1),
        What::ToTheEnd => {
            let node = nodes.remove(at);
            nodes.push(node);
        }
        What::Retag(tag) => node.tag = *tag,
        What::Contents(octets) => node.body = Body::Octets(octets.clone()),
        What::Append(octets) => node.body = Body::Octets([&contents[..], octets].concat()),
        What::Cut(octets) => {
            let left = contents.len().saturating_sub(usize::from(*octets));
            node.body = Body::Octets(contents[..left].to_vec());
        }
        What::Octet(place, octet) => {
            let mut contents = contents;
            let length = contents.len().max(1);
            if let Some(to) = contents.get_mut(usize::from(*place) % length) {
                *to ^= *octet;
            }
            node.body = Body::Octets(contents);
        }
        What::Wrap(tag) => {
            *node = Node { tag: *tag, form: Form::Der, body: Body::Octets(encoded) };
        }
        What::Unwrap => {
            if let Body::Values(values) = core::mem::replace(&mut node.body, Body::Octets(vec![])) {
                nodes.splice(at..=at, values);
            }
        }
        What::LongLength(octets) => node.form = Form::Long(octets % 9),
        What::Indefinite => node.form = Form::Indefinite,
    }
}

/// A value whose encoding is given.
fn raw(encoded: &[u8]) -> Node {
    let mut read = nodes(encoded, DEPTH).unwrap_or_default();
    match (read.pop(), read.is_empty()) {
        (Some(node), true) => node,
        _ => Node { tag: tag::SEQUENCE, form: Form::Der, body: Body::Octets(encoded.to_vec()) },
    }
}

fn stream(nodes: &mut [Node], depth: usize, piece: usize) {
    let Some(depth) = depth.checked_sub(1) else { return };
    for node in nodes {
        let octets = node.tag == tag::OCTET_STRING || node.tag == tag::context(0);
        if octets {
            let contents = contents(&node.body);
            if contents.len() > piece {
                let pieces = contents.chunks(piece).map(|part| Node {
                    tag: tag::OCTET_STRING,
                    form: Form::Der,
                    body: Body::Octets(part.to_vec()),
                });
                node.body = Body::Values(pieces.collect());
                node.tag |= CONSTRUCTED;
                node.form = Form::Indefinite;
            }
        } else if node.tag & CONSTRUCTED != 0
            && let Body::Values(values) = &mut node.body
        {
            node.form = Form::Indefinite;
            stream(values, depth, piece);
        }
    }
}

fn contents(body: &Body) -> Vec<u8> {
    match body {
        Body::Octets(octets) => octets.clone(),
        Body::Values(values) => write(values),
    }
}

fn write(nodes: &[Node]) -> Vec<u8> {
    let mut out = Vec::new();
    for node in nodes {
        let contents = contents(&node.body);
        match node.form {
            Form::Der => out.extend(tlv::encode(node.tag, &contents)),
            Form::Indefinite => {
                out.extend([node.tag, 0x80]);
                out.extend(contents);
                out.extend([0, 0]);
            }
            Form::Long(more) => {
                let octets = contents.len().to_be_bytes();
                let used = octets.iter().skip_while(|octet| **octet == 0).count();
                let all = (used + usize::from(more)).clamp(1, 126);
                out.extend([node.tag, 0x80 | u8::try_from(all).unwrap_or(8)]);
                out.extend(core::iter::repeat_n(0, all.saturating_sub(octets.len())));
                out.extend(&octets[octets.len().saturating_sub(all)..]);
                out.extend(contents);
            }
        }
    }
    out
}
