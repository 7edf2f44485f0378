//! The rules as written, and their check.

use super::text::{DnsSuffix, Network, UriPrefix};
use super::{NameForm, SiteRules};
use crate::extensions;
use const_oid::ObjectIdentifier;
use core::time::Duration;
use scep_challenge::{Sid, resembles_sid_uri};
use scep_types::{ExtendedKeyUsages, GeneralName, KeyAlgorithm};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use thiserror::Error;

/// Site rules as written: the keys of the file, not yet checked. Unknown keys are refused.
///
/// A list that is left out allows nothing, unless said otherwise. Each kind in `san_kinds` needs the list that goes
/// with it, and no list may be given for a kind that is not in it: a rule that does nothing is a mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteRulesConfig {
    /// Most certificates per hour, 1 to 1,000,000.
    pub issuance_per_hour: u32,
    /// Longest validity in days, 1 to 3,650.
    pub max_validity_days: u32,
    /// Smallest RSA modulus in bits, 2048 to 8192; left out: no RSA keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rsa_min_bits: Option<u32>,
    /// Curves of EC keys: `p256`, `p384`; left out: no EC keys.
    #[serde(default)]
    pub curves: Vec<String>,
    /// Extended key usages allowed, by name or OID; left out: all that are not denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended_key_usages: Option<Vec<String>>,
    /// Extended key usages denied, besides anyExtendedKeyUsage, OCSPSigning and certificateRequestAgent, which always
    /// are.
    #[serde(default)]
    pub denied_extended_key_usages: Vec<String>,
    /// Kinds of subjectAltName: `dns`, `email`, `upn`, `uri`, `ip`, `directory`, `otherName`, `registeredId`.
    #[serde(default)]
    pub san_kinds: Vec<String>,
    /// Domains of DNS names: `example.org` (itself and names in it) or `.example.org` (names in it).
    #[serde(default)]
    pub dns_suffixes: Vec<String>,
    /// Whether DNS names may be wildcards (`*.a.example.org`); left out: refuse.
    #[serde(default)]
    pub wildcards: WildcardRule,
    /// Domains of e-mail addresses, as for `dns_suffixes`.
    #[serde(default)]
    pub email_suffixes: Vec<String>,
    /// Domains of user principal names, as for `dns_suffixes`.
    #[serde(default)]
    pub upn_suffixes: Vec<String>,
    /// How URIs may begin. SID URIs are governed by `sid_domains` alone.
    #[serde(default)]
    pub uri_prefixes: Vec<String>,
    /// Domains of Windows SIDs, `S-1-5-21-a-b-c`; relative ids below 1000 are always refused.
    #[serde(default)]
    pub sid_domains: Vec<String>,
    /// Networks of IP addresses, `10.0.0.0/8`.
    #[serde(default)]
    pub ip_networks: Vec<String>,
    /// Types of otherNames, OIDs; the UPN is a kind of its own.
    #[serde(default)]
    pub other_name_types: Vec<String>,
    /// Registered ids, OIDs.
    #[serde(default)]
    pub registered_ids: Vec<String>,
    /// Attribute types of subjects and directory names, by short name or OID; left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_attributes: Option<Vec<String>>,
    /// Forms of common names: `plain`, `dns`, `email`, `upn`, `ip`, `dotted`; left out: all but `dotted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common_name_forms: Option<Vec<String>>,
    /// Names that no certificate has, of any case: a common name, UID or DNS name or its first label, an e-mail
    /// address or UPN or its local part; a service or domain before a slash or backslash does not count.
    #[serde(default)]
    pub denied_names: Vec<String>,
    /// Extensions that the CA may add besides key identifiers, cRLDistributionPoints and authorityInfoAccess, OIDs.
    #[serde(default)]
    pub ca_may_add: Vec<String>,
    /// Whether a certificate whose profile says `renewal = "certificate"` may be followed by another without a fresh
    /// challenge; left out: yes.
    #[serde(default = "yes")]
    pub renew_by_certificate: bool,
    /// Whether such a renewal may keep the key; left out: no.
    #[serde(default)]
    pub renew_with_same_key: bool,
}

const fn yes() -> bool {
    true
}

impl SiteRulesConfig {
    /// The narrowest rules: no key, no name and no extension is allowed until fields are set.
    #[must_use]
    pub const fn narrowest(issuance_per_hour: u32, max_validity_days: u32) -> Self {
        Self {
            issuance_per_hour,
            max_validity_days,
            rsa_min_bits: None,
            curves: Vec::new(),
            extended_key_usages: None,
            denied_extended_key_usages: Vec::new(),
            san_kinds: Vec::new(),
            dns_suffixes: Vec::new(),
            wildcards: WildcardRule::Refuse,
            email_suffixes: Vec::new(),
            upn_suffixes: Vec::new(),
            uri_prefixes: Vec::new(),
            sid_domains: Vec::new(),
            ip_networks: Vec::new(),
            other_name_types: Vec::new(),
            registered_ids: Vec::new(),
            subject_attributes: None,
            common_name_forms: None,
            denied_names: Vec::new(),
            ca_may_add: Vec::new(),
            renew_by_certificate: false,
            renew_with_same_key: false,
        }
    }
}

/// Whether DNS names may be wildcards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WildcardRule {
    /// They may not.
    #[default]
    Refuse,
    /// They may, within `dns_suffixes`.
    Allow,
}

/// Why rules were refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SiteRulesError {
    /// No TOML, a key that is unknown or missing, or a value of another type.
    #[error("site rules{}: {message}", at(*line))]
    Syntax {
        /// Its line, where the parser knows it.
        line: Option<usize>,
        /// As the parser says.
        message: String,
    },
    /// A value that makes no rule.
    #[error("site rules{}: {key}: `{value}` is {why}", at(*line))]
    Value {
        /// The key.
        key: &'static str,
        /// Its line, when read from a file.
        line: Option<usize>,
        /// The value.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A kind of name is allowed, and nothing says which.
    #[error("site rules: {kind} is in san_kinds, and {key} is empty: nothing would be allowed")]
    Incomplete {
        /// The kind.
        kind: &'static str,
        /// The key that goes with it.
        key: &'static str,
    },
    /// A list for names that are not allowed at all.
    #[error("site rules{}: {key} does nothing while {kind} is not in san_kinds", at(*line))]
    Unused {
        /// The kind.
        kind: &'static str,
        /// The key.
        key: &'static str,
        /// Its line, when read from a file.
        line: Option<usize>,
    },
    /// Neither `rsa_min_bits` nor `curves`: no key would be allowed.
    #[error("site rules: neither rsa_min_bits nor curves is given: no key would be allowed")]
    NoKeys,
}

fn at(line: Option<usize>) -> String {
    line.map_or_else(String::new, |n| format!(", line {n}"))
}

pub(super) fn from_toml(text: &str) -> Result<SiteRules, SiteRulesError> {
    let line_of = |offset: usize| {
        text.get(..offset).map(|before| before.matches('\n').count().saturating_add(1))
    };
    let config = toml::from_str(text).map_err(|e: toml::de::Error| SiteRulesError::Syntax {
        line: e.span().and_then(|span| line_of(span.start)),
        message: crate::report::shown(e.message()),
    })?;
    let mut rules = check(config).map_err(|mut error| {
        if let SiteRulesError::Value { key, line, .. } | SiteRulesError::Unused { key, line, .. } =
            &mut error
        {
            *line = key_offset(text, key).and_then(line_of);
        }
        error
    })?;
    rules.digest = hex::encode(Sha256::digest(text));
    Ok(rules)
}

/// Where a top-level key stands in a text that has parsed.
fn key_offset(text: &str, key: &str) -> Option<usize> {
    let table = toml::de::DeTable::parse(text).ok()?;
    let (found, _) = table.get_ref().get_key_value(key)?;
    Some(found.span().start)
}

/// Turns each entry of a list into a rule.
fn each<T, C: FromIterator<T>>(
    key: &'static str,
    entries: &[String],
    why: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<C, SiteRulesError> {
    entries.iter().map(|entry| parse(entry).ok_or_else(|| value(key, entry, why))).collect()
}

fn value(key: &'static str, text: &str, why: &'static str) -> SiteRulesError {
    SiteRulesError::Value { key, line: None, value: crate::report::shown(text), why }
}

fn within(
    key: &'static str,
    number: u32,
    range: core::ops::RangeInclusive<u32>,
    why: &'static str,
) -> Result<u32, SiteRulesError> {
    if range.contains(&number) { Ok(number) } else { Err(value(key, &number.to_string(), why)) }
}

/// szOID_NTDS_OBJECTSID, the otherName inside the SID extension.
const OBJECT_SID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.25.2.1");

const SAN_KINDS: [&str; 8] =
    ["dns", "email", "upn", "uri", "ip", "directory", "otherName", "registeredId"];

fn allowed_extension(text: &str) -> Option<ObjectIdentifier> {
    ObjectIdentifier::new(text).ok().filter(|oid| !extensions::NEVER.contains(oid))
}

/// `S-1-5-21-a-b-c`: what the SID of an account is without its relative id.
fn sid_domain(text: &str) -> Option<String> {
    let three = text.strip_prefix("S-1-5-21-")?.split('-').count() == 3;
    format!("{text}-1000").parse::<Sid>().ok().filter(|_| three).map(|_| text.to_owned())
}

pub(super) fn check(config: SiteRulesConfig) -> Result<SiteRules, SiteRulesError> {
    let c = &config;
    if c.rsa_min_bits.is_none() && c.curves.is_empty() {
        return Err(SiteRulesError::NoKeys);
    }
    let kinds: BTreeSet<&'static str> =
        each("san_kinds", &c.san_kinds, "no kind of name that can be allowed", |text| {
            SAN_KINDS.into_iter().find(|kind| *kind == text)
        })?;
    pairs(c, &kinds)?;

    let purposes = |key, list: &[String]| -> Result<BTreeSet<_>, _> {
        each(key, list, "no extended key usage", ExtendedKeyUsages::purpose)
    };
    // In every site's list: each makes a certificate good for what no device enrols for.
    let mut denied: BTreeSet<_> = ["anyExtendedKeyUsage", "OCSPSigning", "certificateRequestAgent"]
        .into_iter()
        .filter_map(ExtendedKeyUsages::purpose)
        .collect();
    denied.extend(purposes("denied_extended_key_usages", &c.denied_extended_key_usages)?);
    let allowed = match &c.extended_key_usages {
        None => None,
        Some(list) => {
            let set = purposes("extended_key_usages", list)?;
            if let Some(both) = set.intersection(&denied).next() {
                let name = ExtendedKeyUsages::purpose_name(both);
                return Err(value("extended_key_usages", &name, "denied"));
            }
            Some(set)
        }
    };

    let domains = |key, list: &[String]| -> Result<Vec<_>, _> {
        each(key, list, "no domain such as example.org or .example.org", DnsSuffix::parse)
    };
    let rules = SiteRules {
        issuance_per_hour: within(
            "issuance_per_hour",
            c.issuance_per_hour,
            1..=1_000_000,
            "not within 1 to 1000000",
        )?,
        max_validity: Duration::from_secs(
            u64::from(within(
                "max_validity_days",
                c.max_validity_days,
                1..=3650,
                "not within 1 to 3650",
            )?)
            .saturating_mul(86_400),
        ),
        rsa_min_bits: c
            .rsa_min_bits
            .map(|n| within("rsa_min_bits", n, 2048..=8192, "not within 2048 to 8192"))
            .transpose()?,
        curves: each("curves", &c.curves, "neither p256 nor p384", |text| {
            [KeyAlgorithm::P256, KeyAlgorithm::P384].into_iter().find(|k| k.to_string() == text)
        })?,
        extended_key_usages: allowed,
        denied_extended_key_usages: denied,
        san_kinds: kinds,
        dns_suffixes: domains("dns_suffixes", &c.dns_suffixes)?,
        wildcards: c.wildcards,
        email_suffixes: domains("email_suffixes", &c.email_suffixes)?,
        upn_suffixes: domains("upn_suffixes", &c.upn_suffixes)?,
        uri_prefixes: each(
            "uri_prefixes",
            &c.uri_prefixes,
            "no prefix that ends on a boundary, such as https://example.org/devices/ or urn:x:y:",
            |text| UriPrefix::parse(text).filter(|_| !resembles_sid_uri(text)),
        )?,
        sid_domains: each(
            "sid_domains",
            &c.sid_domains,
            "no domain such as S-1-5-21-1-2-3",
            sid_domain,
        )?,
        ip_networks: each(
            "ip_networks",
            &c.ip_networks,
            "no network such as 10.0.0.0/8 with zeros behind its prefix",
            Network::parse,
        )?,
        other_name_types: each(
            "other_name_types",
            &c.other_name_types,
            "no OID of an otherName that can be allowed",
            |text| {
                ObjectIdentifier::new(text)
                    .ok()
                    // Governed by upn_suffixes and sid_domains.
                    .filter(|oid| *oid != GeneralName::UPN && *oid != OBJECT_SID)
            },
        )?,
        registered_ids: each("registered_ids", &c.registered_ids, "no OID", |text| {
            ObjectIdentifier::new(text).ok()
        })?,
        subject_attributes: c
            .subject_attributes
            .as_ref()
            .map(|list| {
                each("subject_attributes", list, "no attribute type", |text| {
                    scep_types::name::attribute_type(text)
                })
            })
            .transpose()?,
        common_name_forms: match &c.common_name_forms {
            None => NameForm::ALL
                .into_iter()
                .map(|(_, form)| form)
                .filter(|form| *form != NameForm::Dotted)
                .collect(),
            Some(list) => each("common_name_forms", list, "no form of common names", |text| {
                NameForm::ALL.into_iter().find(|(name, _)| *name == text).map(|(_, form)| form)
            })?,
        },
        denied_names: each("denied_names", &c.denied_names, "no name", |text| {
            let name = text.trim().trim_end_matches('.');
            (!name.is_empty()).then(|| name.to_lowercase())
        })?,
        ca_may_add: each(
            "ca_may_add",
            &c.ca_may_add,
            "no OID of an extension that a CA may add",
            allowed_extension,
        )?,
        renew_by_certificate: c.renew_by_certificate,
        renew_with_same_key: c.renew_with_same_key,
        digest: hex::encode(Sha256::digest(toml::to_string(c).unwrap_or_default())),
        written: config,
    };
    Ok(rules)
}

/// Each kind with its list, and no list without its kind.
fn pairs(c: &SiteRulesConfig, kinds: &BTreeSet<&'static str>) -> Result<(), SiteRulesError> {
    // A SID needs the kind `uri` only as a URI; as an extension it needs none.
    let uri_is_useful = !c.uri_prefixes.is_empty() || !c.sid_domains.is_empty();
    for (kind, key, complete, given) in [
        ("dns", "dns_suffixes", !c.dns_suffixes.is_empty(), !c.dns_suffixes.is_empty()),
        ("email", "email_suffixes", !c.email_suffixes.is_empty(), !c.email_suffixes.is_empty()),
        ("upn", "upn_suffixes", !c.upn_suffixes.is_empty(), !c.upn_suffixes.is_empty()),
        ("uri", "uri_prefixes", uri_is_useful, !c.uri_prefixes.is_empty()),
        ("ip", "ip_networks", !c.ip_networks.is_empty(), !c.ip_networks.is_empty()),
        (
            "otherName",
            "other_name_types",
            !c.other_name_types.is_empty(),
            !c.other_name_types.is_empty(),
        ),
        (
            "registeredId",
            "registered_ids",
            !c.registered_ids.is_empty(),
            !c.registered_ids.is_empty(),
        ),
    ] {
        if kinds.contains(kind) && !complete {
            return Err(SiteRulesError::Incomplete { kind, key });
        }
        // Suffixes also govern common names, which need no kind.
        let governs_common_names =
            matches!(key, "dns_suffixes" | "email_suffixes" | "upn_suffixes" | "ip_networks");
        if given && !kinds.contains(kind) && !governs_common_names {
            return Err(SiteRulesError::Unused { kind, key, line: None });
        }
    }
    Ok(())
}
