//! A vector as text: a header of one line per field, an empty line, the octets in base64 between two lines.

use super::{Expected, Kind, Row, Setting, Stage, Vector};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use core::fmt::Write as _;
use scep_types::{Reason, Timestamp};

const FIRST: &str = "Sceptic-Vector: 1";
/// Characters of base64 in a line (RFC 7468, 2).
const LINE: usize = 64;

/// Why a text is no vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextError(String);

impl core::fmt::Display for TextError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for TextError {}

fn error<T>(what: impl Into<String>) -> Result<T, TextError> {
    Err(TextError(what.into()))
}

/// A PEM block.
pub(super) fn pem(label: &str, octets: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let encoded = STANDARD.encode(octets);
    for line in encoded.as_bytes().chunks(LINE) {
        text.extend(line.iter().map(|b| char::from(*b)));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

fn joined<T: ToString>(all: impl IntoIterator<Item = T>) -> String {
    all.into_iter().map(|one| one.to_string()).collect::<Vec<_>>().join(", ")
}

impl Vector {
    /// The file.
    ///
    /// # Panics
    /// When a field is empty or of several lines.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{FIRST}\n");
        let mut field = |name: &str, value: &str| {
            assert!(!value.is_empty() && !value.contains('\n'), "{}: {name}", self.name);
            writeln!(text, "{name}: {value}").expect("a String takes everything");
        };
        field("Name", &self.name);
        field("Kind", self.kind.name());
        match &self.expected {
            Expected::Accept => field("Expected", "accept"),
            Expected::Refuse { stage, reason, algorithm } => {
                field("Expected", "refuse");
                field("Stage", stage.name());
                field("Reason", reason.code());
                if let Some(name) = algorithm {
                    field("Algorithm", name);
                }
            }
        }
        field("Time", &self.time.to_string());
        if !self.settings.is_empty() {
            field("Settings", &joined(self.settings.iter().map(|setting| setting.name())));
        }
        field("Keys", &joined(&self.keys));
        match &self.base {
            None => field("About", &self.about),
            Some(base) => {
                field("Base", base);
                field("Changed", &self.about);
            }
        }
        if !self.rows.is_empty() {
            field("Rows", &joined(&self.rows));
        }
        text + "\n" + &pem(self.kind.label(), &self.body)
    }

    /// Reads a file, strictly: [`Vector::to_text`] of what comes out gives it again.
    ///
    /// # Errors
    /// When it is no vector, or not written as `to_text` writes it.
    pub fn from_text(text: &str) -> Result<Self, TextError> {
        let Some((header, body)) = text.split_once("\n\n") else { return error("no empty line") };
        let mut lines = header.lines();
        if lines.next() != Some(FIRST) {
            return error(format!("the first line is not {FIRST:?}"));
        }
        let mut fields = Vec::new();
        for line in lines {
            let Some(pair) = line.split_once(": ") else { return error(format!("{line:?}")) };
            fields.push(pair);
        }
        let optional =
            |name: &str| fields.iter().find(|(field, _)| *field == name).map(|(_, value)| *value);
        let demand =
            |name: &str| optional(name).ok_or_else(|| TextError(format!("no field {name}")));
        let list = |name: &str| -> Vec<&str> {
            optional(name).map(|all| all.split(", ").collect()).unwrap_or_default()
        };

        let kind = one_of(Kind::ALL, demand("Kind")?, Kind::name)?;
        let expected = match demand("Expected")? {
            "accept" => Expected::Accept,
            "refuse" => Expected::Refuse {
                stage: one_of(Stage::ALL, demand("Stage")?, Stage::name)?,
                reason: match Reason::from_code(demand("Reason")?) {
                    Some(reason) => reason,
                    None => return error("an unknown reason"),
                },
                algorithm: optional("Algorithm").map(str::to_owned),
            },
            other => return error(format!("Expected: {other}")),
        };
        let base = optional("Base").map(str::to_owned);
        let mut settings = Vec::new();
        for name in list("Settings") {
            settings.push(one_of(Setting::ALL, name, Setting::name)?);
        }
        let mut rows = Vec::new();
        for text in list("Rows") {
            let number = |text: &str| text.parse().or_else(|_| error(format!("row {text}")));
            rows.push(match text.split_once(' ') {
                Some(("attack", text)) => Row::Attack(number(text)?),
                Some(("quirk", text)) => Row::Quirk(number(text)?),
                _ => return error(format!("row {text}")),
            });
        }
        let encoded: String = body.lines().filter(|line| !line.starts_with('-')).collect();
        let vector = Self {
            kind,
            name: demand("Name")?.to_owned(),
            expected,
            time: demand("Time")?
                .parse::<Timestamp>()
                .map_err(|error| TextError(error.to_string()))?,
            settings,
            keys: list("Keys").into_iter().map(str::to_owned).collect(),
            about: demand(if base.is_some() { "Changed" } else { "About" })?.to_owned(),
            base,
            rows,
            body: STANDARD.decode(encoded).map_err(|error| TextError(error.to_string()))?,
        };
        if vector.to_text() == text { Ok(vector) } else { error("not in the form of the format") }
    }
}

fn one_of<T: Copy, const N: usize>(
    all: [T; N],
    name: &str,
    name_of: fn(T) -> &'static str,
) -> Result<T, TextError> {
    match all.into_iter().find(|one| name_of(*one) == name) {
        Some(one) => Ok(one),
        None => error(format!("unknown: {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_form_is_read() {
        let vector = crate::vectors::all().remove(0);
        let text = vector.to_text();
        assert_eq!(Vector::from_text(&text), Ok(vector));
        for (from, to) in [
            (FIRST, "Sceptic-Vector: 2"),
            ("Kind: challenge", "Kind: blob"),
            ("Expected: accept", "Expected: perhaps"),
            ("Time: 2026", "Time: 26"),
            ("Name: ", "Note: "),
            ("\n\n", "\nMore: fields\n\n"),
            ("\n\n", "\n"),
            ("BEGIN", "START"),
        ] {
            assert!(text.contains(from), "{from}");
            assert!(Vector::from_text(&text.replacen(from, to, 1)).is_err(), "{to}");
        }
        assert!(Vector::from_text(&(text + "\n")).is_err());
    }
}
