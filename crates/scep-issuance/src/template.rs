//! Names with variables in them.
//!
//! The template is parsed to a structure when the profile is read; values are put into that structure. A comma,
//! a plus or a quote in a value is one more character of that value.

use crate::variable::{Attributes, Variable};
use core::fmt::Write as _;
use scep_types::{
    AttributeValue, DistinguishedName, GeneralName, NameError, ObjectIdentifier, Rdn,
};
use std::collections::BTreeSet;
use thiserror::Error;

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// A brace that belongs to no variable.
    #[error("a brace that belongs to no {{{{Variable}}}}")]
    Brace,
    /// No variable has this name.
    #[error("no variable is called `{name}`")]
    Unknown {
        /// As written.
        name: String,
    },
    /// Not a name, whatever values the variables have.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A whole name where a part of one is wanted.
    #[error("{0} is a whole name: it can only be the entire subject")]
    WholeName(Variable),
    /// Nothing at all.
    #[error("empty")]
    Empty,
}

/// Why a template and values make no name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FillError {
    /// The template needs a value that is not known.
    #[error("{0} has no value")]
    Missing(Variable),
    /// The name that comes out is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A value that would change the name's structure, or make a wildcard of it.
    #[error("the value of {variable} has {found:?}, which would change the name's structure")]
    Structure {
        /// Which variable.
        variable: Variable,
        /// The character.
        found: char,
    },
    /// An address with no `@`, or more than one.
    #[error("the address does not have exactly one `@`")]
    Address,
}

/// One piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Literal(String),
    Variable(Variable),
}

/// A text with variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text(Vec<Piece>);

impl Text {
    fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        loop {
            let (literal, after) = match rest.split_once("{{") {
                Some((literal, after)) => (literal, Some(after)),
                None => (rest, None),
            };
            if literal.contains(['{', '}']) {
                return Err(TemplateError::Brace);
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.to_owned()));
            }
            let Some(after) = after else { break };
            let (name, tail) = after.split_once("}}").ok_or(TemplateError::Brace)?;
            let variable = Variable::from_name(name)
                .ok_or_else(|| TemplateError::Unknown { name: crate::profile::shown(name) })?;
            pieces.push(Piece::Variable(variable));
            rest = tail;
        }
        if pieces.is_empty() { Err(TemplateError::Empty) } else { Ok(Self(pieces)) }
    }

    fn variables(&self) -> impl Iterator<Item = Variable> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Variable(variable) => Some(*variable),
            Piece::Literal(_) => None,
        })
    }

    /// Puts values in, each changed by `quote` first.
    fn fill(
        &self,
        values: &Attributes,
        quote: impl Fn(Variable, &str) -> Result<String, FillError>,
    ) -> Result<String, FillError> {
        let mut filled = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => filled.push_str(text),
                Piece::Variable(variable) => {
                    let value = values.get(*variable).ok_or(FillError::Missing(*variable))?;
                    filled.push_str(&quote(*variable, value)?);
                }
            }
        }
        Ok(filled)
    }

    fn has_literal(&self, wanted: char) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Literal(text) if text.contains(wanted)))
    }

    /// The variable, when it is all there is.
    fn only(&self) -> Option<Variable> {
        match &self.0[..] {
            [Piece::Variable(variable)] => Some(*variable),
            _ => None,
        }
    }
}

fn as_is(_: Variable, value: &str) -> Result<String, FillError> {
    Ok(value.to_owned())
}

/// A subject with variables in its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SubjectTemplate {
    /// RDNs in encoded order, each a set of types and texts.
    Rdns(Vec<Vec<(ObjectIdentifier, Text)>>),
    /// A variable that holds a whole name.
    Whole(Variable),
}

impl SubjectTemplate {
    /// Reads `C=CH, O=Example, CN={{UserName}}`, in encoded order. The empty text is the empty name.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.trim().is_empty() {
            return Ok(Self::Rdns(Vec::new()));
        }
        let template = Text::parse(text.trim())?;
        if template.only() == Some(Variable::OnPremisesDistinguishedName) {
            return Ok(Self::Whole(Variable::OnPremisesDistinguishedName));
        }
        refuse_whole_name(&template)?;
        // Each variable becomes a mark that every string type can hold and no literal contains; then the text is
        // an ordinary name, and what the parser makes of it is the structure.
        let mut open = String::from("(");
        while template.0.iter().any(|p| matches!(p, Piece::Literal(l) if l.contains(&open))) {
            open.push('(');
        }
        let mut marked = String::new();
        let mut marks: Vec<(String, Variable)> = Vec::new();
        for piece in &template.0 {
            match piece {
                Piece::Literal(text) => marked.push_str(text),
                Piece::Variable(variable) => {
                    let mark = format!("{open}{})", marks.len());
                    marked.push_str(&mark);
                    marks.push((mark, *variable));
                }
            }
        }
        let name: DistinguishedName = marked.parse()?;
        let rdns = name
            .rdns()
            .iter()
            .map(|rdn| {
                rdn.attributes()
                    .iter()
                    .map(|attribute| (*attribute.oid(), unmark(attribute.value(), &marks)))
                    .collect()
            })
            .collect();
        Ok(Self::Rdns(rdns))
    }

    /// Whether the subject will be empty.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Rdns(rdns) => rdns.is_empty(),
            Self::Whole(_) => false,
        }
    }

    pub(crate) fn variables(&self) -> BTreeSet<Variable> {
        match self {
            Self::Rdns(rdns) => {
                rdns.iter().flatten().flat_map(|(_, text)| text.variables()).collect()
            }
            Self::Whole(variable) => BTreeSet::from([*variable]),
        }
    }

    pub(crate) fn fill(&self, values: &Attributes) -> Result<DistinguishedName, FillError> {
        match self {
            Self::Rdns(rdns) => {
                let rdns = rdns.iter().map(|rdn| {
                    let attributes = rdn.iter().map(|(oid, text)| {
                        Ok(AttributeValue::new(*oid, text.fill(values, as_is)?)?)
                    });
                    Ok(Rdn::new(attributes.collect::<Result<_, FillError>>()?)?)
                });
                Ok(DistinguishedName::new(rdns.collect::<Result<_, FillError>>()?)?)
            }
            Self::Whole(variable) => {
                let text = values.get(*variable).ok_or(FillError::Missing(*variable))?;
                let name: DistinguishedName = text.parse()?;
                // Directories write names from the leaf up (RFC 4514, 2.1).
                let rdns = name.rdns().iter().rev().cloned().collect();
                Ok(DistinguishedName::new(rdns)?)
            }
        }
    }
}

fn refuse_whole_name(text: &Text) -> Result<(), TemplateError> {
    let whole = Variable::OnPremisesDistinguishedName;
    if text.variables().any(|variable| variable == whole) {
        return Err(TemplateError::WholeName(whole));
    }
    Ok(())
}

/// A value with its marks turned back into variables.
fn unmark(value: &str, marks: &[(String, Variable)]) -> Text {
    let mut pieces = Vec::new();
    let mut rest = value;
    // Marks keep their order, but not all of them are in this value.
    for (mark, variable) in marks {
        if let Some((literal, tail)) = rest.split_once(mark.as_str()) {
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.to_owned()));
            }
            pieces.push(Piece::Variable(*variable));
            rest = tail;
        }
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.to_owned()));
    }
    Text(pieces)
}

/// The kinds of subjectAltName that a profile can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SanKind {
    Dns,
    Email,
    Upn,
    Uri,
}

/// A subjectAltName with variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SanTemplate {
    kind: SanKind,
    text: Text,
}

impl SanTemplate {
    pub(crate) fn parse(kind: SanKind, text: &str) -> Result<Self, TemplateError> {
        let text = Text::parse(text)?;
        refuse_whole_name(&text)?;
        Ok(Self { kind, text })
    }

    pub(crate) fn variables(&self) -> impl Iterator<Item = Variable> {
        self.text.variables()
    }

    pub(crate) fn fill(&self, values: &Attributes) -> Result<GeneralName, FillError> {
        match self.kind {
            SanKind::Dns => Ok(GeneralName::dns(&self.text.fill(values, dns_labels)?)?),
            SanKind::Uri => Ok(GeneralName::uri(&self.text.fill(values, percent_encoded)?)?),
            SanKind::Email => Ok(GeneralName::email(&self.address(values)?)?),
            SanKind::Upn => Ok(GeneralName::upn(&self.address(values)?)?),
        }
    }

    /// An address: one `@`, from the template or from a value, but not from both.
    fn address(&self, values: &Attributes) -> Result<String, FillError> {
        let literal = self.text.has_literal('@');
        let address = self.text.fill(values, |variable, value| match value.find('@') {
            Some(_) if literal => Err(FillError::Structure { variable, found: '@' }),
            _ => Ok(value.to_owned()),
        })?;
        if address.matches('@').count() == 1 { Ok(address) } else { Err(FillError::Address) }
    }
}

/// A value in a DNS name is one label; a whole DNS name may have several. Never a wildcard.
fn dns_labels(variable: Variable, value: &str) -> Result<String, FillError> {
    let dots = variable == Variable::FullyQualifiedDomainName;
    let bad =
        |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_') || (dots && *c == '.'));
    match value.chars().find(bad) {
        Some(found) => Err(FillError::Structure { variable, found }),
        None => Ok(value.to_owned()),
    }
}

/// A value in a URI is data: everything but RFC 3986's unreserved characters is percent-encoded.
fn percent_encoded(_: Variable, value: &str) -> Result<String, FillError> {
    let mut encoded = String::new();
    for octet in value.bytes() {
        if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(octet));
        } else {
            // Writing to a String does not fail.
            let _ = write!(encoded, "%{octet:02X}");
        }
    }
    Ok(encoded)
}
