//! Bytes to messages and back, strictly.

use core::fmt;
use scep_types::Fault;
use serde::de::{DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeSet;
use thiserror::Error;

/// The deepest nesting of objects and arrays.
const MAX_DEPTH: u32 = 16;

/// The one version of the messages. Written as `1`; nothing else is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct V1;

impl V1 {
    const NUMBER: u64 = 1;
}

impl Serialize for V1 {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(Self::NUMBER)
    }
}

impl<'de> Deserialize<'de> for V1 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match u64::deserialize(from)? {
            Self::NUMBER => Ok(Self),
            _ => Err(serde::de::Error::custom("not version 1")),
        }
    }
}

/// What the types of a message alone do not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Breach {
    /// More of something than a message may have.
    #[error("{got} {what}; at most {max} are allowed")]
    Count {
        /// Of what.
        what: &'static str,
        /// How many there are.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// None of something that a message must have.
    #[error("no {what}")]
    None {
        /// Of what.
        what: &'static str,
    },
    /// Twice what may be there once.
    #[error("the same {what} twice")]
    Twice {
        /// What.
        what: &'static str,
    },
    /// Events that are not numbered without gaps, from 1 up.
    #[error("event {got} where {expected} was due")]
    Gap {
        /// The number that was due.
        expected: u64,
        /// The number there is.
        got: u64,
    },
    /// A validity that ends before it begins.
    #[error("{what} that is never valid")]
    NeverValid {
        /// Of what.
        what: &'static str,
    },
    /// A number beyond its limit.
    #[error("{what} of {got}; at most {max} is allowed")]
    Number {
        /// What.
        what: &'static str,
        /// As given.
        got: u64,
        /// The limit.
        max: u64,
    },
    /// A number that may not go back does.
    #[error("{what} goes back")]
    Back {
        /// What.
        what: &'static str,
    },
}

/// Why bytes are not a message, or why a message cannot be written. Nothing of what was received is in it: a message
/// may contain secrets, and a peer must not write into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// Longer than this message may be.
    #[error("{got} octets; at most {max} are allowed")]
    Oversize {
        /// Its length.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// Not JSON, or not an object.
    #[error("not a JSON object: line {line}, column {column}")]
    Syntax {
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
    /// Something before the object or after it, be it white space.
    #[error("octets before or after the JSON object")]
    TrailingBytes,
    /// Nested too deeply.
    #[error("nested more than {max} deep")]
    Depth {
        /// The limit.
        max: u32,
    },
    /// The same name twice in one object.
    #[error("the same name twice in an object: line {line}, column {column}")]
    DuplicateKey {
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
    /// Another version, or none.
    #[error("not version 1 of the protocol")]
    Version {
        /// The version, when there is one.
        got: Option<u64>,
    },
    /// A field that this message does not have.
    #[error("unknown field: line {line}, column {column}")]
    UnknownField {
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
    /// A field is missing or has another type or form.
    #[error("a value that does not fit: line {line}, column {column}")]
    Value {
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
    /// The fields do not go together.
    #[error(transparent)]
    Breach(#[from] Breach),
}

impl MessageError {
    /// Whose fault it is, when it was received.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        Fault::PeerMessage
    }
}

mod sealed {
    pub trait Sealed {}
}
pub(crate) use sealed::Sealed;

/// A message of the link: a JSON object with `"v": 1`.
pub trait Message: Serialize + DeserializeOwned + Sealed {
    /// The longest allowed, in bytes.
    const MAX_BYTES: usize;

    /// What the types of the fields alone do not say.
    ///
    /// # Errors
    /// The first that does not hold.
    fn check(&self) -> Result<(), Breach>;
}

/// Reads a message. Understood are exactly the fields of its type, each once; nothing before or after the object.
///
/// # Errors
/// [`MessageError`] lists them in the order of the checks.
pub fn read<M: Message>(bytes: &[u8]) -> Result<M, MessageError> {
    if bytes.len() > M::MAX_BYTES {
        return Err(MessageError::Oversize { got: bytes.len(), max: M::MAX_BYTES });
    }
    let outline = outline(bytes)?;
    if outline.version != Some(V1::NUMBER) {
        return Err(MessageError::Version { got: outline.version });
    }
    let message: M = serde_json::from_slice(bytes).map_err(|error| typed(&error))?;
    message.check()?;
    Ok(message)
}

/// Writes a message: compact, the fields in the order of its type.
///
/// # Errors
/// When it is one that [`read`] would refuse.
pub fn write<M: Message>(message: &M) -> Result<Vec<u8>, MessageError> {
    message.check()?;
    let bytes = serde_json::to_vec(message)
        .map_err(|error| MessageError::Value { line: error.line(), column: error.column() })?;
    if bytes.len() > M::MAX_BYTES {
        return Err(MessageError::Oversize { got: bytes.len(), max: M::MAX_BYTES });
    }
    Ok(bytes)
}

/// What an error is about in what is known to be JSON. serde has no kinds for this, only words; a test pins them.
fn typed(error: &serde_json::Error) -> MessageError {
    let (line, column) = (error.line(), error.column());
    if error.to_string().starts_with("unknown field") {
        MessageError::UnknownField { line, column }
    } else {
        MessageError::Value { line, column }
    }
}

/// What is seen of an object before its type is known.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    /// The number under `v`.
    pub(crate) version: Option<u64>,
    /// The text under `code`.
    pub(crate) code: Option<String>,
}

/// Walks over a JSON object. serde itself refuses a name twice only where it is the name of a field.
pub(crate) fn outline(bytes: &[u8]) -> Result<Outline, MessageError> {
    outline_to(bytes, MAX_DEPTH)
}

pub(crate) fn outline_to(bytes: &[u8], max_depth: u32) -> Result<Outline, MessageError> {
    if bytes.first() != Some(&b'{') || bytes.last() != Some(&b'}') {
        return Err(match serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
            Ok(_) if !bytes.trim_ascii().starts_with(b"{") => {
                MessageError::Syntax { line: 1, column: 1 }
            }
            Ok(_) => MessageError::TrailingBytes,
            Err(error) if is_trailing(&error) => MessageError::TrailingBytes,
            Err(error) => MessageError::Syntax { line: error.line(), column: error.column() },
        });
    }
    let mut walk = Walk { outline: Outline::default(), max_depth, duplicate: false, deep: false };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let walked = Node { walk: &mut walk, depth: 0 }.deserialize(&mut json).and_then(|_| json.end());
    match walked {
        Ok(()) => Ok(walk.outline),
        Err(_) if walk.deep => Err(MessageError::Depth { max: max_depth }),
        Err(error) if walk.duplicate => {
            Err(MessageError::DuplicateKey { line: error.line(), column: error.column() })
        }
        Err(error) if is_trailing(&error) => Err(MessageError::TrailingBytes),
        Err(error) => Err(MessageError::Syntax { line: error.line(), column: error.column() }),
    }
}

fn is_trailing(error: &serde_json::Error) -> bool {
    error.is_syntax() && error.to_string().starts_with("trailing characters")
}

struct Walk {
    outline: Outline,
    max_depth: u32,
    duplicate: bool,
    deep: bool,
}

struct Node<'a> {
    walk: &'a mut Walk,
    depth: u32,
}

/// What a walk brings back of a value.
enum Seen {
    Number(u64),
    Text(String),
    Other,
}

impl Node<'_> {
    fn inner<E: serde::de::Error>(&mut self) -> Result<u32, E> {
        let depth = self.depth.saturating_add(1);
        if depth > self.walk.max_depth {
            self.walk.deep = true;
            return Err(E::custom("nested too deeply"));
        }
        Ok(depth)
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Seen;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Seen, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Seen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Seen, E> {
        Ok(Seen::Number(number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Seen, E> {
        // Only what stands in the outermost object is asked for.
        Ok(if self.depth == 1 { Seen::Text(text.to_owned()) } else { Seen::Other })
    }

    fn visit_unit<E>(self) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Seen, A::Error> {
        let depth = self.inner()?;
        while seq.next_element_seed(Node { walk: self.walk, depth })?.is_some() {}
        Ok(Seen::Other)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Seen, A::Error> {
        let depth = self.inner()?;
        let mut names = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if names.contains(&name) {
                self.walk.duplicate = true;
                return Err(serde::de::Error::custom("the same name twice"));
            }
            let seen = map.next_value_seed(Node { walk: self.walk, depth })?;
            if depth == 1 {
                match (name.as_str(), seen) {
                    ("v", Seen::Number(number)) => self.walk.outline.version = Some(number),
                    ("code", Seen::Text(text)) => self.walk.outline.code = Some(text),
                    _ => {}
                }
            }
            names.insert(name);
        }
        Ok(Seen::Other)
    }
}

/// No more than a limit.
pub(crate) const fn at_most(what: &'static str, got: usize, max: usize) -> Result<(), Breach> {
    if got > max { Err(Breach::Count { what, got, max }) } else { Ok(()) }
}

/// One at least, and no more than a limit.
pub(crate) const fn some(what: &'static str, got: usize, max: usize) -> Result<(), Breach> {
    if got == 0 { Err(Breach::None { what }) } else { at_most(what, got, max) }
}

/// None twice.
pub(crate) fn distinct<T: Ord>(
    what: &'static str,
    values: impl IntoIterator<Item = T>,
) -> Result<(), Breach> {
    let mut seen = BTreeSet::new();
    for value in values {
        if !seen.insert(value) {
            return Err(Breach::Twice { what });
        }
    }
    Ok(())
}
