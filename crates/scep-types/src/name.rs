//! Names as structures (RFC 5280, 4.1.2.4 and 4.2.1.6). They are compared as structures, never as
//! rendered strings: a comma, a plus or a quote in a value changes nothing.

use crate::tlv::{self, Reader, Tlv, TlvError, tag};
use const_oid::ObjectIdentifier;
use core::fmt;
use thiserror::Error;

/// Which string types a name may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StringRules {
    /// PrintableString, UTF8String and IA5String.
    Strict,
    /// BMPString too, for old Windows and Java clients.
    AllowBmp,
}

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// The DER is not that of a name.
    #[error("not a name: {0}")]
    Der(#[from] TlvError),
    /// A string type that is not accepted: T61String, UniversalString, BMPString, or no string.
    #[error("string type {tag:#04x} at byte {at} is not accepted in a name")]
    StringType {
        /// The tag.
        tag: u8,
        /// Where.
        at: usize,
    },
    /// The value is empty, longer than 1,024 octets, not valid in its encoding, has a control
    /// character, or a character that its attribute's string type cannot hold.
    #[error("the value of {attribute} is not acceptable: {why}")]
    Value {
        /// The attribute type or kind of general name.
        attribute: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// More than 32 RDNs, 8 attributes in one RDN, or 64 general names; or an empty RDN.
    #[error("a name has {got} {what}; 1 to {max} are allowed")]
    Count {
        /// Of what.
        what: &'static str,
        /// How many.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// The text is no name: at this byte.
    #[error("not a name at byte {at}: {why}")]
    Text {
        /// Where.
        at: usize,
        /// What is wrong.
        why: &'static str,
    },
}

const MAX_VALUE: usize = 1024;
const MAX_RDNS: usize = 32;
const MAX_AVAS: usize = 8;
const MAX_GENERAL_NAMES: usize = 64;

/// The attribute types that have a short name here, and whether RFC 5280 gives them PrintableString or
/// IA5String alone.
const ATTRIBUTES: &[(&str, ObjectIdentifier, u8)] = &[
    ("CN", ObjectIdentifier::new_unwrap("2.5.4.3"), tag::UTF8_STRING),
    ("SN", ObjectIdentifier::new_unwrap("2.5.4.4"), tag::UTF8_STRING),
    ("serialNumber", ObjectIdentifier::new_unwrap("2.5.4.5"), tag::PRINTABLE_STRING),
    ("C", ObjectIdentifier::new_unwrap("2.5.4.6"), tag::PRINTABLE_STRING),
    ("L", ObjectIdentifier::new_unwrap("2.5.4.7"), tag::UTF8_STRING),
    ("ST", ObjectIdentifier::new_unwrap("2.5.4.8"), tag::UTF8_STRING),
    ("street", ObjectIdentifier::new_unwrap("2.5.4.9"), tag::UTF8_STRING),
    ("O", ObjectIdentifier::new_unwrap("2.5.4.10"), tag::UTF8_STRING),
    ("OU", ObjectIdentifier::new_unwrap("2.5.4.11"), tag::UTF8_STRING),
    ("title", ObjectIdentifier::new_unwrap("2.5.4.12"), tag::UTF8_STRING),
    ("GN", ObjectIdentifier::new_unwrap("2.5.4.42"), tag::UTF8_STRING),
    ("initials", ObjectIdentifier::new_unwrap("2.5.4.43"), tag::UTF8_STRING),
    ("dnQualifier", ObjectIdentifier::new_unwrap("2.5.4.46"), tag::PRINTABLE_STRING),
    ("pseudonym", ObjectIdentifier::new_unwrap("2.5.4.65"), tag::UTF8_STRING),
    ("UID", ObjectIdentifier::new_unwrap("0.9.2342.19200300.100.1.1"), tag::UTF8_STRING),
    ("DC", ObjectIdentifier::new_unwrap("0.9.2342.19200300.100.1.25"), tag::IA5_STRING),
    ("emailAddress", ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.1"), tag::IA5_STRING),
    ("unstructuredName", ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.2"), tag::UTF8_STRING),
    ("unstructuredAddress", ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.8"), tag::UTF8_STRING),
];

/// Spellings of attribute types that other tools print.
const ALIASES: &[(&str, &str)] = &[
    ("E", "emailAddress"),
    ("EMAIL", "emailAddress"),
    ("S", "ST"),
    ("G", "GN"),
    ("givenName", "GN"),
    ("surname", "SN"),
];

fn string_type(oid: &ObjectIdentifier) -> u8 {
    ATTRIBUTES.iter().find(|(_, o, _)| o == oid).map_or(tag::UTF8_STRING, |(_, _, t)| *t)
}

fn short_name(oid: &ObjectIdentifier) -> String {
    ATTRIBUTES
        .iter()
        .find(|(_, o, _)| o == oid)
        .map_or_else(|| oid.to_string(), |(name, _, _)| (*name).to_owned())
}

/// The attribute type with this short name (of any case) or dotted OID.
#[must_use]
pub fn attribute_type(name: &str) -> Option<ObjectIdentifier> {
    let name = ALIASES
        .iter()
        .find(|(alias, _)| alias.eq_ignore_ascii_case(name))
        .map_or(name, |(_, full)| full);
    ATTRIBUTES
        .iter()
        .find(|(short, _, _)| short.eq_ignore_ascii_case(name))
        .map(|(_, oid, _)| *oid)
        .or_else(|| ObjectIdentifier::new(name).ok())
}

const fn is_printable(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(
            b,
            b' ' | b'\'' | b'(' | b')' | b'+' | b',' | b'-' | b'.' | b'/' | b':' | b'=' | b'?'
        )
}

/// Characters that make a name look like another one, or break what prints it: controls, and the
/// bidirectional and zero-width formatting characters.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Decodes a directory string by its tag, strictly.
fn decode_string(tlv: &Tlv<'_>, rules: StringRules) -> Result<String, NameError> {
    let bad = |why| NameError::Value { attribute: format!("string at byte {}", tlv.at), why };
    match tlv.tag {
        tag::UTF8_STRING => String::from_utf8(tlv.value.to_vec()).map_err(|_| bad("not UTF-8")),
        tag::PRINTABLE_STRING if tlv.value.iter().all(|b| is_printable(*b)) => {
            Ok(tlv.value.iter().map(|b| char::from(*b)).collect())
        }
        tag::PRINTABLE_STRING => Err(bad("a character outside PrintableString")),
        tag::IA5_STRING if tlv.value.is_ascii() => {
            Ok(tlv.value.iter().map(|b| char::from(*b)).collect())
        }
        tag::IA5_STRING => Err(bad("a character outside IA5String")),
        tag::BMP_STRING if rules == StringRules::AllowBmp => {
            let units = tlv.value.chunks_exact(2);
            if !units.remainder().is_empty() {
                return Err(bad("a BMPString of odd length"));
            }
            let units: Vec<u16> =
                units.map(|u| u.iter().fold(0, |n, b| (n << 8) | u16::from(*b))).collect();
            String::from_utf16(&units).map_err(|_| bad("not UCS-2"))
        }
        other => Err(NameError::StringType { tag: other, at: tlv.at }),
    }
}

fn check_text(attribute: impl FnOnce() -> String, text: &str) -> Result<(), NameError> {
    let why = if text.is_empty() {
        "empty"
    } else if text.len() > MAX_VALUE {
        "longer than 1,024 octets"
    } else if text.chars().any(is_deceptive) {
        "a control or formatting character"
    } else {
        return Ok(());
    };
    Err(NameError::Value { attribute: attribute(), why })
}

/// One attribute type and value of a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeValue {
    oid: ObjectIdentifier,
    value: String,
}

impl AttributeValue {
    /// Checks and wraps.
    ///
    /// # Errors
    /// When the value is empty, over 1,024 octets, has a control character, or one that the
    /// attribute's string type cannot hold.
    pub fn new(oid: ObjectIdentifier, value: impl Into<String>) -> Result<Self, NameError> {
        let value = value.into();
        check_text(|| short_name(&oid), &value)?;
        let fits = match string_type(&oid) {
            tag::PRINTABLE_STRING => value.bytes().all(is_printable),
            tag::IA5_STRING => value.is_ascii(),
            _ => true,
        };
        if !fits {
            let why = "a character that its string type cannot hold";
            return Err(NameError::Value { attribute: short_name(&oid), why });
        }
        Ok(Self { oid, value })
    }

    /// The attribute type.
    #[must_use]
    pub const fn oid(&self) -> &ObjectIdentifier {
        &self.oid
    }

    /// The value's characters.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The type's short name, or its dotted OID.
    #[must_use]
    pub fn short_name(&self) -> String {
        short_name(&self.oid)
    }

    fn to_der(&self) -> Vec<u8> {
        tlv::sequence(&[
            &tlv::oid(&self.oid),
            &tlv::encode(string_type(&self.oid), self.value.as_bytes()),
        ])
    }
}

/// A RelativeDistinguishedName: a set of attributes, usually of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rdn(Vec<AttributeValue>);

impl Rdn {
    /// Makes one; the order of the attributes carries no meaning.
    ///
    /// # Errors
    /// When there are none, more than 8, or two equal ones.
    pub fn new(mut attributes: Vec<AttributeValue>) -> Result<Self, NameError> {
        let got = attributes.len();
        if got == 0 || got > MAX_AVAS {
            return Err(NameError::Count { what: "attributes in an RDN", got, max: MAX_AVAS });
        }
        attributes.sort();
        attributes.dedup();
        if attributes.len() != got {
            let why = "the same attribute twice in one RDN";
            return Err(NameError::Value { attribute: "RDN".into(), why });
        }
        Ok(Self(attributes))
    }

    /// Its attributes, in an order that carries no meaning.
    #[must_use]
    pub fn attributes(&self) -> &[AttributeValue] {
        &self.0
    }
}

/// An RDNSequence. Equality is that of the field: same RDNs in the same order, each a set, values equal
/// code point by code point, whatever string types they were sent in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct DistinguishedName(Vec<Rdn>);

impl DistinguishedName {
    /// The empty name.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// From RDNs in encoded order (most significant first).
    ///
    /// # Errors
    /// When there are more than 32.
    pub fn new(rdns: Vec<Rdn>) -> Result<Self, NameError> {
        if rdns.len() > MAX_RDNS {
            return Err(NameError::Count { what: "RDNs", got: rdns.len(), max: MAX_RDNS });
        }
        Ok(Self(rdns))
    }

    /// Whether it has no RDN.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The RDNs in encoded order.
    #[must_use]
    pub fn rdns(&self) -> &[Rdn] {
        &self.0
    }

    /// Decodes a Name.
    ///
    /// # Errors
    /// When it is malformed, over a limit, or uses a string type that `rules` does not accept.
    pub fn from_der(der: &[u8], rules: StringRules) -> Result<Self, NameError> {
        let mut names = Reader::new(der).only(tag::SEQUENCE)?.reader();
        let mut rdns = Vec::new();
        while !names.is_empty() {
            let mut set = names.expect(tag::SET)?.reader();
            let mut attributes = Vec::new();
            while !set.is_empty() {
                let mut pair = set.expect(tag::SEQUENCE)?.reader();
                let oid = pair.any()?.oid()?;
                let value = decode_string(&pair.any()?, rules)?;
                pair.finish()?;
                attributes.push(AttributeValue::new(oid, value)?);
                if attributes.len() > MAX_AVAS {
                    break;
                }
            }
            rdns.push(Rdn::new(attributes)?);
            if rdns.len() > MAX_RDNS {
                break;
            }
        }
        Self::new(rdns)
    }

    /// Encodes canonically: the string type that RFC 5280 prescribes for the attribute, else UTF8String;
    /// each RDN's set in DER order.
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        let rdns: Vec<Vec<u8>> = self
            .0
            .iter()
            .map(|rdn| tlv::set_of(rdn.0.iter().map(AttributeValue::to_der).collect()))
            .collect();
        tlv::encode(tag::SEQUENCE, &rdns.concat())
    }
}

impl fmt::Display for DistinguishedName {
    /// In encoded order, `C=CH, O=Example, CN=device`, escaped as RFC 4514, 2.4. For people: comparisons
    /// are made on the structure.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, rdn) in self.0.iter().enumerate() {
            for (j, attribute) in rdn.0.iter().enumerate() {
                match (i, j) {
                    (0, 0) => {}
                    (_, 0) => f.write_str(", ")?,
                    _ => f.write_str("+")?,
                }
                write!(f, "{}=", attribute.short_name())?;
                let last = attribute.value.chars().count().saturating_sub(1);
                for (k, c) in attribute.value.chars().enumerate() {
                    let edge = (k == 0 && matches!(c, ' ' | '#')) || (k == last && c == ' ');
                    if edge || matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=') {
                        f.write_str("\\")?;
                    }
                    write!(f, "{c}")?;
                }
            }
        }
        Ok(())
    }
}

impl core::str::FromStr for DistinguishedName {
    type Err = NameError;

    /// Reads what `Display` writes: `C=CH, O=Example, CN=device` in **encoded order**, `+` between the
    /// attributes of one RDN, RFC 4514 escapes (`\,` or `\2C`).
    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut rdns = Vec::new();
        let mut rdn = Vec::new();
        let mut chars = text.char_indices().peekable();
        if text.trim().is_empty() {
            return Ok(Self::empty());
        }
        loop {
            let start = chars.peek().map_or(text.len(), |(at, _)| *at);
            let mut kind = String::new();
            loop {
                match chars.next() {
                    Some((_, '=')) => break,
                    Some((_, c)) => kind.push(c),
                    None => return Err(NameError::Text { at: start, why: "no '=' after a type" }),
                }
            }
            let oid = attribute_type(kind.trim())
                .ok_or(NameError::Text { at: start, why: "unknown attribute type" })?;
            let (value, end) = read_value(&mut chars, text.len())?;
            rdn.push(AttributeValue::new(oid, value)?);
            if end != Some('+') {
                rdns.push(Rdn::new(std::mem::take(&mut rdn))?);
            }
            if end.is_none() {
                return Self::new(rdns);
            }
        }
    }
}

type Chars<'a> = std::iter::Peekable<std::str::CharIndices<'a>>;

/// Reads an escaped value up to an unescaped `,` or `+` (returned) or the end. Unescaped blanks around it
/// do not belong to it.
fn read_value(chars: &mut Chars<'_>, len: usize) -> Result<(String, Option<char>), NameError> {
    let mut octets: Vec<u8> = Vec::new();
    let mut keep = 0;
    let mut end = None;
    while let Some((at, c)) = chars.next() {
        let mut buffer = [0; 4];
        match c {
            ',' | '+' => {
                end = Some(c);
                break;
            }
            '\\' => {
                let escape = NameError::Text { at, why: "a bad escape" };
                let Some((_, next)) = chars.next() else { return Err(escape) };
                if let Some(high) = next.to_digit(16) {
                    let Some(low) = chars.next().and_then(|(_, d)| d.to_digit(16)) else {
                        return Err(escape);
                    };
                    octets.push(u8::try_from((high << 4) | low).map_err(|_| escape)?);
                } else {
                    octets.extend_from_slice(next.encode_utf8(&mut buffer).as_bytes());
                }
                keep = octets.len();
            }
            ' ' if octets.is_empty() => {}
            ' ' => octets.push(b' '),
            _ => {
                octets.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
                keep = octets.len();
            }
        }
    }
    octets.truncate(keep);
    let value =
        String::from_utf8(octets).map_err(|_| NameError::Text { at: len, why: "not UTF-8" })?;
    Ok((value, end))
}

/// A GeneralName (RFC 5280, 4.2.1.6), every kind of it: what a challenge does not name must be absent,
/// and for that it must be seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GeneralName {
    /// otherName: its type, and the value's whole DER.
    Other(ObjectIdentifier, Vec<u8>),
    /// rfc822Name.
    Email(String),
    /// dNSName.
    Dns(String),
    /// x400Address: its contents octets.
    X400(Vec<u8>),
    /// directoryName.
    Directory(DistinguishedName),
    /// ediPartyName: its contents octets.
    EdiParty(Vec<u8>),
    /// uniformResourceIdentifier.
    Uri(String),
    /// iPAddress: 4 or 16 octets.
    Ip(Vec<u8>),
    /// registeredID.
    RegisteredId(ObjectIdentifier),
}

impl GeneralName {
    /// Microsoft's user principal name, an otherName.
    pub const UPN: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.20.2.3");

    /// A user principal name.
    ///
    /// # Errors
    /// When it is empty, too long or has a control character.
    pub fn upn(text: &str) -> Result<Self, NameError> {
        check_text(|| "UPN".into(), text)?;
        Ok(Self::Other(Self::UPN, tlv::encode(tag::UTF8_STRING, text.as_bytes())))
    }

    /// A DNS name.
    ///
    /// # Errors
    /// When it is empty, too long, or not of ASCII letters, digits, `-`, `.`, `_` and `*`.
    pub fn dns(text: &str) -> Result<Self, NameError> {
        check_text(|| "DNS".into(), text)?;
        if !text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'*'))
        {
            let why = "a character that no DNS name has";
            return Err(NameError::Value { attribute: "DNS".into(), why });
        }
        Ok(Self::Dns(text.to_owned()))
    }

    /// An e-mail address.
    ///
    /// # Errors
    /// When it is empty, too long, or not ASCII text with one `@` or more.
    pub fn email(text: &str) -> Result<Self, NameError> {
        check_text(|| "email".into(), text)?;
        if !text.is_ascii() || !text.contains('@') {
            return Err(NameError::Value { attribute: "email".into(), why: "no ASCII address" });
        }
        Ok(Self::Email(text.to_owned()))
    }

    /// A URI.
    ///
    /// # Errors
    /// When it is empty, too long, not ASCII, or has no scheme.
    pub fn uri(text: &str) -> Result<Self, NameError> {
        check_text(|| "URI".into(), text)?;
        if !text.is_ascii() || !text.contains(':') {
            return Err(NameError::Value { attribute: "URI".into(), why: "no ASCII URI" });
        }
        Ok(Self::Uri(text.to_owned()))
    }

    /// An IP address.
    #[must_use]
    pub fn ip(address: std::net::IpAddr) -> Self {
        match address {
            std::net::IpAddr::V4(v4) => Self::Ip(v4.octets().to_vec()),
            std::net::IpAddr::V6(v6) => Self::Ip(v6.octets().to_vec()),
        }
    }

    /// The kind, as site rules name it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Other(oid, _) if *oid == Self::UPN => "upn",
            Self::Other(..) => "otherName",
            Self::Email(_) => "email",
            Self::Dns(_) => "dns",
            Self::X400(_) => "x400",
            Self::Directory(_) => "directory",
            Self::EdiParty(_) => "ediParty",
            Self::Uri(_) => "uri",
            Self::Ip(_) => "ip",
            Self::RegisteredId(_) => "registeredId",
        }
    }

    /// The text of a UPN, when it is one of a UTF8String.
    #[must_use]
    pub fn as_upn(&self) -> Option<&str> {
        match self {
            Self::Other(oid, value) if *oid == Self::UPN => {
                let tlv = Reader::new(value).only(tag::UTF8_STRING).ok()?;
                core::str::from_utf8(tlv.value).ok()
            }
            _ => None,
        }
    }

    /// Whether both name the same thing: DNS names and the domain part of e-mail addresses without regard
    /// to case, everything else exactly.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dns(a), Self::Dns(b)) => a.eq_ignore_ascii_case(b),
            (Self::Email(a), Self::Email(b)) => match (a.rsplit_once('@'), b.rsplit_once('@')) {
                (Some((la, da)), Some((lb, db))) => la == lb && da.eq_ignore_ascii_case(db),
                _ => a == b,
            },
            _ => self == other,
        }
    }

    /// Reads one GeneralName from a cursor.
    ///
    /// # Errors
    /// When it is malformed or of no known kind.
    pub fn read(reader: &mut Reader<'_>, rules: StringRules) -> Result<Self, NameError> {
        let tlv = reader.any()?;
        let text = || -> Result<&str, NameError> {
            core::str::from_utf8(tlv.value)
                .ok()
                .filter(|t| t.is_ascii())
                .ok_or_else(|| NameError::Der(tlv.invalid("IA5String")))
        };
        match tlv.tag {
            0xa0 => {
                let mut parts = tlv.reader();
                let oid = parts.any()?.oid()?;
                let value = parts.expect(0xa0)?.reader().any()?;
                parts.finish()?;
                let only = tlv::encode(0xa0, value.raw);
                // Exactly one value inside the explicit tag.
                if tlv.value.len() != tlv::oid(&oid).len().saturating_add(only.len()) {
                    return Err(NameError::Der(tlv.invalid("otherName")));
                }
                Ok(Self::Other(oid, value.raw.to_vec()))
            }
            0x81 => Self::email(text()?),
            0x82 => Self::dns(text()?),
            0xa3 => Ok(Self::X400(tlv.value.to_vec())),
            0xa4 => {
                let mut inner = tlv.reader();
                let name = inner.expect(tag::SEQUENCE)?;
                inner.finish()?;
                Ok(Self::Directory(DistinguishedName::from_der(name.raw, rules)?))
            }
            0xa5 => Ok(Self::EdiParty(tlv.value.to_vec())),
            0x86 => Self::uri(text()?),
            0x87 if matches!(tlv.value.len(), 4 | 16) => Ok(Self::Ip(tlv.value.to_vec())),
            0x87 => Err(NameError::Der(tlv.invalid("iPAddress"))),
            0x88 => {
                let as_oid = tlv::encode(tag::OID, tlv.value);
                let oid = Reader::new(&as_oid).any()?.oid();
                Ok(Self::RegisteredId(oid.map_err(|_| tlv.invalid("registeredID"))?))
            }
            _ => Err(NameError::Der(tlv.invalid("GeneralName"))),
        }
    }

    /// Encodes it.
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        match self {
            Self::Other(oid, value) => {
                tlv::construct(0xa0, &[&tlv::oid(oid), &tlv::encode(0xa0, value)])
            }
            Self::Email(text) => tlv::encode(0x81, text.as_bytes()),
            Self::Dns(text) => tlv::encode(0x82, text.as_bytes()),
            Self::X400(contents) => tlv::encode(0xa3, contents),
            Self::Directory(name) => tlv::encode(0xa4, &name.to_der()),
            Self::EdiParty(contents) => tlv::encode(0xa5, contents),
            Self::Uri(text) => tlv::encode(0x86, text.as_bytes()),
            Self::Ip(octets) => tlv::encode(0x87, octets),
            Self::RegisteredId(oid) => tlv::encode(0x88, oid.as_bytes()),
        }
    }

    /// Decodes a GeneralNames SEQUENCE of 1 to 64 names.
    ///
    /// # Errors
    /// When it is malformed, empty or too long.
    pub fn list_from_der(der: &[u8], rules: StringRules) -> Result<Vec<Self>, NameError> {
        let mut reader = Reader::new(der).only(tag::SEQUENCE)?.reader();
        let mut names = Vec::new();
        while !reader.is_empty() && names.len() <= MAX_GENERAL_NAMES {
            names.push(Self::read(&mut reader, rules)?);
        }
        if names.is_empty() || names.len() > MAX_GENERAL_NAMES {
            let (got, max) = (names.len(), MAX_GENERAL_NAMES);
            return Err(NameError::Count { what: "general names", got, max });
        }
        Ok(names)
    }

    /// Encodes a GeneralNames SEQUENCE.
    #[must_use]
    pub fn list_to_der(names: &[Self]) -> Vec<u8> {
        let parts: Vec<Vec<u8>> = names.iter().map(Self::to_der).collect();
        tlv::encode(tag::SEQUENCE, &parts.concat())
    }
}

impl fmt::Display for GeneralName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(oid, value) => match self.as_upn() {
                Some(upn) => write!(f, "upn:{upn}"),
                None => write!(f, "otherName:{oid}:{}", hex::encode(value)),
            },
            Self::Email(text) => write!(f, "email:{text}"),
            Self::Dns(text) => write!(f, "dns:{text}"),
            Self::Uri(text) => write!(f, "uri:{text}"),
            Self::Directory(name) => write!(f, "directory:{name}"),
            Self::RegisteredId(oid) => write!(f, "registeredId:{oid}"),
            Self::X400(contents) => write!(f, "x400:{}", hex::encode(contents)),
            Self::EdiParty(contents) => write!(f, "ediParty:{}", hex::encode(contents)),
            Self::Ip(octets) => {
                if let Ok(v4) = <[u8; 4]>::try_from(&octets[..]) {
                    write!(f, "ip:{}", std::net::Ipv4Addr::from(v4))
                } else if let Ok(v6) = <[u8; 16]>::try_from(&octets[..]) {
                    write!(f, "ip:{}", std::net::Ipv6Addr::from(v6))
                } else {
                    write!(f, "ip:{}", hex::encode(octets))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_32_escapes_change_no_structure() {
        for text in [
            r"CN=Test User (TESTCOMPANY\, LLC), O=x",
            r"CN=\#hash\+plus\;semi\=equals\22quote, OU=\ lead and trail\ ",
            "CN=ünïcode+serialNumber=7, C=CH",
        ] {
            let name: DistinguishedName = text.parse().unwrap();
            let back = DistinguishedName::from_der(&name.to_der(), StringRules::Strict).unwrap();
            assert_eq!(back, name);
            assert_eq!(name.to_string().parse::<DistinguishedName>().unwrap(), name, "{text}");
        }
        let name: DistinguishedName = r"CN=a\,OU=b".parse().unwrap();
        assert_eq!(name.rdns().len(), 1);
        assert_eq!(name.rdns()[0].attributes()[0].value(), "a,OU=b");
    }

    #[test]
    fn attack_31_order_count_and_sets_matter() {
        let name = |t: &str| t.parse::<DistinguishedName>().unwrap();
        assert_ne!(name("C=CH, CN=a"), name("CN=a, C=CH"));
        assert_ne!(name("CN=a, CN=a"), name("CN=a"));
        assert_ne!(name("CN=a+OU=b"), name("CN=a, OU=b"));
        assert_eq!(name("CN=a+OU=b"), name("OU=b+CN=a"));
        assert_ne!(name("CN=a"), name("CN=A"));
    }

    fn cn(tag: u8, value: &[u8]) -> Vec<u8> {
        let ava = tlv::sequence(&[&[6, 3, 0x55, 4, 3], &tlv::encode(tag, value)]);
        tlv::encode(tag::SEQUENCE, &tlv::encode(tag::SET, &ava))
    }

    #[test]
    fn attack_33_string_types_are_decoded_strictly() {
        let read = |tag, value: &[u8], rules| DistinguishedName::from_der(&cn(tag, value), rules);
        let same: DistinguishedName = "CN=ab".parse().unwrap();
        for tag in [tag::UTF8_STRING, tag::PRINTABLE_STRING, tag::IA5_STRING] {
            assert_eq!(read(tag, b"ab", StringRules::Strict).unwrap(), same);
        }
        assert_eq!(read(tag::BMP_STRING, b"\0a\0b", StringRules::AllowBmp).unwrap(), same);
        assert!(read(tag::BMP_STRING, b"\0a\0b", StringRules::Strict).is_err());
        for (tag, value) in [
            (tag::T61_STRING, &b"ab"[..]),
            (tag::UNIVERSAL_STRING, b"\0\0\0a"),
            (tag::UTF8_STRING, b"a\0b"),
            (tag::UTF8_STRING, b"\xc0\xaf"),
            (tag::UTF8_STRING, "a\u{202e}b".as_bytes()),
            (tag::PRINTABLE_STRING, b"a@b"),
            (tag::IA5_STRING, b"\xff"),
            (tag::BMP_STRING, b"\0a\0"),
            (tag::BMP_STRING, b"\xd8\0"),
            (tag::UTF8_STRING, b""),
            (tag::OCTET_STRING, b"ab"),
        ] {
            assert!(read(tag, value, StringRules::AllowBmp).is_err(), "{tag:#x} {value:x?}");
        }
    }

    #[test]
    fn every_kind_of_general_name_survives_the_round_trip() {
        let names = vec![
            GeneralName::upn("a@b").unwrap(),
            GeneralName::email("a@b").unwrap(),
            GeneralName::dns("dev.example.org").unwrap(),
            GeneralName::X400(vec![]),
            GeneralName::Directory("CN=a".parse().unwrap()),
            GeneralName::EdiParty(vec![1, 2]),
            GeneralName::uri("tag:x").unwrap(),
            GeneralName::ip([127, 0, 0, 1].into()),
            GeneralName::RegisteredId(GeneralName::UPN),
        ];
        let der = GeneralName::list_to_der(&names);
        assert_eq!(GeneralName::list_from_der(&der, StringRules::Strict).unwrap(), names);
        assert!(GeneralName::dns("A.b").unwrap().matches(&GeneralName::dns("a.B").unwrap()));
        assert!(!GeneralName::email("A@b").unwrap().matches(&GeneralName::email("a@b").unwrap()));
    }
}
