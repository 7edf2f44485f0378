//! The request against the claims: one list of checks, for deciding and for explaining alike.
//!
//! Closed world: what the claims do not mention must be absent. The only content of a request that nobody
//! compares is its signature (proven before), the challenge (opened before) and inert content.

use crate::decision::{Denials, InertContent};
use crate::report::{Field, Findings, list, or_none};
use const_oid::ObjectIdentifier;
use scep_challenge::{ApprovalMode, ChallengeClaims, DemandUsages, ExtraExtension};
use scep_pkcs10::{Csr, RequestedExtension};
use scep_types::{
    DistinguishedName, ExtendedKeyUsages, GeneralName, KeyUsages, Reason, Secret, SpkiDer,
};
use std::collections::BTreeSet;

/// Everything of a request that is compared.
#[derive(Clone, Copy)]
pub(crate) struct Requested<'a> {
    pub(crate) subject: &'a DistinguishedName,
    pub(crate) subject_alt_names: &'a [GeneralName],
    pub(crate) key_usage: Option<KeyUsages>,
    pub(crate) extended_key_usages: Option<&'a ExtendedKeyUsages>,
    pub(crate) spki: &'a SpkiDer,
    pub(crate) extensions: &'a [RequestedExtension],
    pub(crate) attributes: &'a [ObjectIdentifier],
    pub(crate) inert: &'a [ObjectIdentifier],
    pub(crate) challenge: Option<&'a str>,
}

impl<'a> From<&'a Csr> for Requested<'a> {
    fn from(csr: &'a Csr) -> Self {
        Self {
            subject: csr.subject(),
            subject_alt_names: csr.subject_alt_names(),
            key_usage: csr.key_usage(),
            extended_key_usages: csr.extended_key_usages(),
            spki: csr.spki(),
            extensions: csr.other_extensions(),
            attributes: csr.other_attributes(),
            inert: csr.inert(),
            challenge: csr.challenge_password().map(Secret::expose).map(String::as_str),
        }
    }
}

/// Whether claims that demand a person's approval are served.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manual {
    /// Nobody here can hold a request.
    Refused,
    /// It is held, or was and is approved.
    Served,
}

fn when(refuse: bool, reason: Reason) -> Option<Reason> {
    refuse.then_some(reason)
}

/// Whether two lists of names are the same set, each name used once, and no name is in it twice.
pub(crate) fn same_names(expected: &[GeneralName], got: &[GeneralName]) -> bool {
    let mut left: Vec<&GeneralName> = expected.iter().collect();
    for name in got {
        match left.iter().position(|candidate| candidate.matches(name)) {
            Some(at) => drop(left.swap_remove(at)),
            None => return false,
        }
    }
    // A name twice on both sides would pair up above.
    let twice = got
        .iter()
        .enumerate()
        .any(|(at, name)| got.iter().skip(at.saturating_add(1)).any(|other| other.matches(name)));
    left.is_empty() && !twice
}

/// An extension for people: what it is and how critical, never its octets.
pub(crate) fn extension_text(oid: &ObjectIdentifier, critical: bool, value: &[u8]) -> String {
    let critical = if critical { ", critical" } else { "" };
    format!("{oid}{critical}, {} octets", value.len())
}

fn extension_list(extensions: &[ExtraExtension]) -> String {
    list(extensions.iter().map(|e| extension_text(&e.oid, e.critical, &e.value)))
}

/// Runs every check of a request against the claims and the denials.
pub(crate) fn compare(
    request: &Requested<'_>,
    claims: &ChallengeClaims,
    denials: &Denials,
    inert: InertContent,
    manual: Manual,
    findings: &mut Findings<'_>,
) {
    targets(claims, denials, findings);
    served(claims, manual, findings);
    names(request, claims, findings);
    key(request, claims, findings);
    usages(request, claims, findings);
    extensions(request, &claims.expectation.extensions, findings);
    attributes(request, inert, findings);
}

fn targets(claims: &ChallengeClaims, denials: &Denials, findings: &mut Findings<'_>) {
    let mut target = |field, disabled, id: &str| {
        let verdict = when(disabled, Reason::ScepProfileNoLongerTargetedToTheClient);
        let got = if disabled { format!("{id}, disabled by the issuer") } else { id.to_owned() };
        findings.note(field, verdict, || "not disabled".to_owned(), || got);
    };
    let device = (claims.tenant.clone(), claims.device.clone());
    target(Field::Device, denials.devices.contains(&device), claims.device.as_str());
    if let Some(user) = &claims.user {
        let disabled = denials.users.contains(&(claims.tenant.clone(), user.clone()));
        target(Field::User, disabled, user.as_str());
    }
    let profile = (claims.tenant.clone(), claims.profile.clone());
    target(Field::Profile, denials.profiles.contains(&profile), claims.profile.as_str());
}

fn served(claims: &ChallengeClaims, manual: Manual, findings: &mut Findings<'_>) {
    // A renewal is an enrolment with a fresh blob: whichever message type brings it, the blob decides.
    let purpose = || format!("{:?}", claims.purpose);
    findings.note(Field::Purpose, None, purpose, purpose);
    let mode = claims.expectation.approval;
    let verdict = match mode {
        ApprovalMode::Automatic => None,
        ApprovalMode::Manual => when(manual == Manual::Refused, Reason::ChallengeNotServed),
    };
    let expected = || match manual {
        Manual::Refused => "Automatic".to_owned(),
        Manual::Served => format!("{mode:?}"),
    };
    findings.note(Field::ApprovalMode, verdict, expected, || format!("{mode:?}"));
}

fn names(request: &Requested<'_>, claims: &ChallengeClaims, findings: &mut Findings<'_>) {
    let expected = &claims.expectation.subject;
    let verdict = if request.subject == expected {
        None
    } else if request.subject.is_empty() {
        Some(Reason::SubjectNameMissing)
    } else {
        Some(Reason::SubjectNameMismatch)
    };
    findings.note(
        Field::Subject,
        verdict,
        || or_none(expected.to_string()),
        || or_none(request.subject.to_string()),
    );

    let expected = claims.expectation.subject_alt_names.as_slice();
    let got = request.subject_alt_names;
    let verdict = if same_names(expected, got) {
        None
    } else if got.is_empty() {
        Some(Reason::SubjectAltNameMissing)
    } else {
        Some(Reason::SubjectAltNameMismatch)
    };
    findings.note(Field::SubjectAltName, verdict, || list(expected), || list(got));
}

fn key(request: &Requested<'_>, claims: &ChallengeClaims, findings: &mut Findings<'_>) {
    let allowed = claims.expectation.key_algorithms.as_slice();
    let algorithm = request.spki.algorithm();
    findings.note(
        Field::Key,
        when(!allowed.contains(&algorithm), Reason::KeyLengthMismatch),
        || list(allowed),
        || algorithm.to_string(),
    );
    if let Some(pinned) = claims.expectation.spki_hash {
        let hash = request.spki.hash();
        findings.note(
            Field::PinnedKey,
            when(hash != pinned, Reason::RegisteredKeyMismatch),
            || pinned.to_string(),
            || hash.to_string(),
        );
    }
}

fn usages(request: &Requested<'_>, claims: &ChallengeClaims, findings: &mut Findings<'_>) {
    let demanded = claims.expectation.demand_usages == DemandUsages::Yes;
    let expected = claims.expectation.key_usage;
    let verdict = match request.key_usage {
        None => when(demanded, Reason::KeyUsageMismatch),
        Some(got) => when(got != expected, Reason::KeyUsageMismatch),
    };
    let got = || request.key_usage.map_or_else(|| or_none(String::new()), |u| u.to_string());
    findings.note(Field::KeyUsage, verdict, || expected.to_string(), got);

    let expected = &claims.expectation.extended_key_usages;
    let verdict = match request.extended_key_usages {
        None => when(demanded, Reason::EnhancedKeyUsageMissing),
        Some(got) => when(got != expected, Reason::EnhancedKeyUsageMismatch),
    };
    let got =
        || request.extended_key_usages.map_or_else(|| or_none(String::new()), |u| u.to_string());
    findings.note(Field::ExtendedKeyUsage, verdict, || expected.to_string(), got);
}

fn extensions(request: &Requested<'_>, allowed: &[ExtraExtension], findings: &mut Findings<'_>) {
    let mut seen = BTreeSet::new();
    for got in request.extensions {
        let equal = allowed
            .iter()
            .any(|e| (&e.oid, e.critical, &e.value) == (&got.oid, got.critical, &got.value));
        let first = seen.insert(got.oid);
        findings.note(
            Field::Extensions,
            when(!equal || !first, Reason::ExtensionNotAllowed),
            || extension_list(allowed),
            || {
                let again = if first { "" } else { ", a second time" };
                format!("{}{again}", extension_text(&got.oid, got.critical, &got.value))
            },
        );
    }
}

fn attributes(request: &Requested<'_>, inert: InertContent, findings: &mut Findings<'_>) {
    for oid in request.attributes {
        findings.note(
            Field::Attributes,
            Some(Reason::AttributeNotAllowed),
            || or_none(String::new()),
            || oid.to_string(),
        );
    }
    for oid in request.inert {
        let (reason, expected) = match inert {
            InertContent::Discard => (None, "discarded"),
            // id-ce: of the inert contents only extensions are in this arc.
            InertContent::Refuse if oid.to_string().starts_with("2.5.29.") => {
                (Some(Reason::ExtensionNotAllowed), "(none)")
            }
            InertContent::Refuse => (Some(Reason::AttributeNotAllowed), "(none)"),
        };
        findings.note(Field::Inert, reason, || expected.to_owned(), || oid.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Keep;
    use scep_types::SpkiDer;

    /// A request whose parser let one extension through twice.
    #[test]
    fn attack_35_an_extension_counts_once_even_when_it_is_allowed() {
        let allowed = ExtraExtension {
            oid: ObjectIdentifier::new_unwrap("1.2.3"),
            critical: false,
            value: vec![5, 0],
        };
        let sent =
            RequestedExtension { oid: allowed.oid, critical: false, value: allowed.value.clone() };
        let spki = SpkiDer::from_ec_point(&[4; 65]).unwrap();
        let subject = DistinguishedName::empty();
        let refused = |sent: &[RequestedExtension]| {
            let request = Requested {
                subject: &subject,
                subject_alt_names: &[],
                key_usage: None,
                extended_key_usages: None,
                spki: &spki,
                extensions: sent,
                attributes: &[],
                inert: &[],
                challenge: None,
            };
            let mut findings = Findings::new(Keep::Refusals, None);
            extensions(&request, core::slice::from_ref(&allowed), &mut findings);
            findings.into_reports().into_iter().map(|r| r.got).collect::<Vec<_>>()
        };
        assert!(refused(&[]).is_empty());
        assert!(refused(core::slice::from_ref(&sent)).is_empty());
        assert_eq!(refused(&[sent.clone(), sent]), ["1.2.3, 2 octets, a second time"]);
    }

    #[test]
    fn attack_30_a_name_twice_on_both_sides_is_no_set() {
        let a = GeneralName::dns("a.example.org").unwrap();
        let b = GeneralName::dns("b.example.org").unwrap();
        assert!(same_names(&[], &[]));
        assert!(same_names(&[a.clone(), b.clone()], &[b.clone(), a.clone()]));
        assert!(!same_names(&[a.clone(), a.clone()], &[a.clone(), a.clone()]));
        assert!(!same_names(&[a.clone(), a.clone()], &[a.clone(), b.clone()]));
        assert!(!same_names(&[a.clone(), b], core::slice::from_ref(&a)));
    }
}
