//! What a comparison found, field by field, as data.

use crate::rules::Rule;
use core::fmt;
use scep_types::Reason;
use serde::ser::{Serialize, SerializeStruct, Serializer};

/// The most characters of a value that a report shows.
pub const MAX_SHOWN: usize = 256;

/// One field of the comparison.
///
/// Both texts are for people: at most [`MAX_SHOWN`] characters, control characters escaped, the challenge's
/// text replaced. They are never parsed, and nothing was decided on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldReport {
    /// Field.
    pub field: Field,
    /// What the challenge or the site's rules say, for people.
    pub expected: String,
    /// What came, for people.
    pub got: String,
    /// The reason against, or none.
    pub reason: Option<Reason>,
}

impl fmt::Display for FieldReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Some(reason) => write!(
                f,
                "{}: {reason}: expected `{}`, got `{}`",
                self.field, self.expected, self.got
            ),
            None => write!(f, "{}: as expected: `{}`", self.field, self.got),
        }
    }
}

impl Serialize for FieldReport {
    /// `{"field", "expected", "got", "reason"}`; `reason` is the code, or null.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("FieldReport", 4)?;
        out.serialize_field("field", &self.field.to_string())?;
        out.serialize_field("expected", &self.expected)?;
        out.serialize_field("got", &self.got)?;
        out.serialize_field("reason", &self.reason.map(Reason::code))?;
        out.end()
    }
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// The device, against those that are disabled.
    Device,
    /// The user, against those that are disabled.
    User,
    /// The profile, against those that are disabled.
    Profile,
    /// The challenge that was opened, against the one in the request.
    Challenge,
    /// Enrol or renew. Both are served, with either message type: both carry a blob of their own.
    Purpose,
    /// Automatic or manual approval.
    ApprovalMode,
    /// What a certificate needs to be followed by another without a fresh challenge; one report each.
    Renewal,
    /// The subject.
    Subject,
    /// The set of subjectAltNames.
    SubjectAltName,
    /// The key's algorithm and size; of a certificate, the key itself.
    Key,
    /// The hash of the key that the challenge pins.
    PinnedKey,
    /// keyUsage.
    KeyUsage,
    /// extKeyUsage.
    ExtendedKeyUsage,
    /// Every other extension; one report each.
    Extensions,
    /// Attributes of the request; one report each.
    Attributes,
    /// Content without effect, where it is not tolerated; one report each.
    Inert,
    /// A rule of the site.
    SiteRule(Rule),
    /// Of a certificate: version 3, no unique identifiers, one signature algorithm.
    Form,
    /// Of a certificate: a positive serial number of at most 20 octets.
    SerialNumber,
    /// Of a certificate: an issuer that is not the subject.
    Issuer,
    /// The certificate's dates.
    Validity,
    /// Of a certificate: no CA.
    BasicConstraints,
}

impl Field {
    /// The stable name; of a site rule, its key in the rules file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::User => "user",
            Self::Profile => "profile",
            Self::Challenge => "challenge",
            Self::Purpose => "purpose",
            Self::ApprovalMode => "approvalMode",
            Self::Renewal => "renewal",
            Self::Subject => "subject",
            Self::SubjectAltName => "subjectAltName",
            Self::Key => "key",
            Self::PinnedKey => "pinnedKey",
            Self::KeyUsage => "keyUsage",
            Self::ExtendedKeyUsage => "extKeyUsage",
            Self::Extensions => "extension",
            Self::Attributes => "attribute",
            Self::Inert => "inertContent",
            Self::SiteRule(rule) => rule.name(),
            Self::Form => "form",
            Self::SerialNumber => "serialNumber",
            Self::Issuer => "issuer",
            Self::Validity => "validity",
            Self::BasicConstraints => "basicConstraints",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SiteRule(rule) => write!(f, "site rule {}", rule.name()),
            other => f.write_str(other.name()),
        }
    }
}

/// Which results are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// All, to explain.
    Everything,
    /// Reasons against only: a request that passes costs no text.
    Refusals,
}

/// Collects the results of one comparison.
pub(crate) struct Findings<'a> {
    keep: Keep,
    challenge: Option<&'a str>,
    reports: Vec<FieldReport>,
}

impl<'a> Findings<'a> {
    /// `challenge` is the text that no report may show.
    pub(crate) const fn new(keep: Keep, challenge: Option<&'a str>) -> Self {
        Self { keep, challenge, reports: Vec::new() }
    }

    /// Records the result of one check.
    pub(crate) fn note(
        &mut self,
        field: Field,
        verdict: Option<Reason>,
        expected: impl FnOnce() -> String,
        got: impl FnOnce() -> String,
    ) {
        if verdict.is_none() && self.keep == Keep::Refusals {
            return;
        }
        let (expected, got) = (self.shown(&expected()), self.shown(&got()));
        self.reports.push(FieldReport { field, expected, got, reason: verdict });
    }

    pub(crate) fn into_reports(self) -> Vec<FieldReport> {
        self.reports
    }

    /// A device may have put its challenge into its own names.
    fn shown(&self, text: &str) -> String {
        match self.challenge {
            Some(secret) if !secret.is_empty() && text.contains(secret) => {
                shown(&text.replace(secret, "(challenge)"))
            }
            _ => shown(text),
        }
    }
}

/// Escapes what could break a log line or deceive its reader, then cuts.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MAX_SHOWN));
    let mut count = 0_usize;
    for c in text.chars() {
        let formatting = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        let piece: String =
            if c.is_control() || formatting { c.escape_default().collect() } else { c.into() };
        let length = piece.chars().count();
        // Whole pieces only, and room for the mark of the cut.
        if count.saturating_add(length) >= MAX_SHOWN {
            out.push('…');
            break;
        }
        count = count.saturating_add(length);
        out.push_str(&piece);
    }
    out
}

/// `(none)` for what is absent or empty.
pub(crate) fn or_none(text: String) -> String {
    if text.is_empty() { "(none)".to_owned() } else { text }
}

/// Joins for people.
pub(crate) fn list<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    or_none(items.into_iter().map(|i| i.to_string()).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_62_values_are_cut_and_controls_escaped() {
        assert_eq!(shown("a\r\nb\u{202e}c\0"), r"a\r\nb\u{202e}c\u{0}");
        let long = shown(&"ü".repeat(1000));
        assert_eq!(long.chars().count(), MAX_SHOWN);
        assert!(long.ends_with('…'));
        // The cut never splits an escape.
        let escapes = shown(&"\u{1}".repeat(1000));
        assert!(escapes.chars().count() <= MAX_SHOWN);
        assert!(escapes.ends_with("\\u{1}…"));
        assert_eq!(shown(&"a".repeat(255)), "a".repeat(255));
    }

    #[test]
    fn attack_61_the_challenge_is_never_shown() {
        let mut findings = Findings::new(Keep::Everything, Some("SECRETBLOB"));
        findings.note(
            Field::Subject,
            Some(Reason::SubjectNameMismatch),
            || "CN=a".into(),
            || "CN=SECRETBLOB".into(),
        );
        let reports = findings.into_reports();
        assert_eq!(reports[0].got, "CN=(challenge)");
        assert_eq!(
            reports[0].to_string(),
            "subject: SubjectNameMismatch: expected `CN=a`, got `CN=(challenge)`"
        );
    }
}
