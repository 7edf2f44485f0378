//! The claims against the site's rules.

use super::text::{DnsSuffix, ip_octets, mail_domain};
use super::{NameForm, Rule, SiteRules, WildcardRule};
use crate::report::{Field, Findings, list, or_none};
use crate::request::extension_text;
use const_oid::ObjectIdentifier;
use scep_challenge::{ChallengeClaims, SID_EXTENSION, Sid, resembles_sid_uri};
use scep_types::{
    DistinguishedName, ExtendedKeyUsages, GeneralName, KeyAlgorithm, KeyUsages, Reason,
};
use std::collections::BTreeSet;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const UID: ObjectIdentifier = ObjectIdentifier::new_unwrap("0.9.2342.19200300.100.1.1");
const EMAIL_ADDRESS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.1");
const UNSTRUCTURED_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.2");
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");

/// Relative ids below this are a domain's built-in accounts and groups: Administrator is 500.
const FIRST_ORDINARY_RID: u32 = 1000;

/// Notes the results of one run, each under its rule.
struct Run<'r, 'f, 'c> {
    rules: &'r SiteRules,
    findings: &'f mut Findings<'c>,
}

impl SiteRules {
    /// Compares claims, and the key that is to be certified, with the rules.
    pub(crate) fn check(
        &self,
        claims: &ChallengeClaims,
        key: KeyAlgorithm,
        findings: &mut Findings<'_>,
    ) {
        let expectation = &claims.expectation;
        let mut run = Run { rules: self, findings };
        run.key(key);
        run.validity(expectation.validity);
        run.usages(expectation.key_usage, &expectation.extended_key_usages);
        run.identity(&expectation.subject, &expectation.subject_alt_names);
        let server = expectation.extended_key_usages.purposes().contains(&SERVER_AUTH);
        run.directory(&expectation.subject, server);
        for name in &expectation.subject_alt_names {
            run.alternative(name, server);
        }
        run.extensions(claims);
        run.sids(claims);
    }
}

impl Run<'_, '_, '_> {
    fn note(
        &mut self,
        rule: Rule,
        ok: bool,
        expected: impl FnOnce() -> String,
        got: impl FnOnce() -> String,
    ) {
        let verdict = (!ok).then_some(Reason::SiteRuleViolated);
        self.findings.note(Field::SiteRule(rule), verdict, expected, got);
    }

    fn key(&mut self, key: KeyAlgorithm) {
        let rules = self.rules;
        match key {
            KeyAlgorithm::Rsa(bits) => self.note(
                Rule::RsaMinBits,
                rules.rsa_min_bits.is_some_and(|min| bits >= min),
                || {
                    rules
                        .rsa_min_bits
                        .map_or_else(|| "no RSA keys".to_owned(), |min| format!("at least {min}"))
                },
                || key.to_string(),
            ),
            KeyAlgorithm::P256 | KeyAlgorithm::P384 => self.note(
                Rule::Curves,
                rules.curves.contains(&key),
                || list(&rules.curves),
                || key.to_string(),
            ),
        }
    }

    fn validity(&mut self, validity: core::time::Duration) {
        let rules = self.rules;
        self.note(
            Rule::MaxValidityDays,
            validity <= rules.max_validity && !validity.is_zero(),
            || format!("1 to {} seconds", rules.max_validity.as_secs()),
            || format!("{} seconds", validity.as_secs()),
        );
    }

    fn usages(&mut self, usage: KeyUsages, purposes: &ExtendedKeyUsages) {
        let rules = self.rules;
        let ca_only = KeyUsages::KEY_CERT_SIGN.union(KeyUsages::CRL_SIGN);
        self.note(
            Rule::KeyUsage,
            !usage.intersects(ca_only),
            || format!("none of {ca_only}"),
            || usage.to_string(),
        );
        let denied = &rules.denied_extended_key_usages;
        let names = |set: &BTreeSet<_>| list(set.iter().map(ExtendedKeyUsages::purpose_name));
        self.note(
            Rule::DeniedExtendedKeyUsages,
            !purposes.purposes().iter().any(|p| denied.contains(p)),
            || format!("none of {}", names(denied)),
            || purposes.to_string(),
        );
        if let Some(allowed) = &rules.extended_key_usages {
            self.note(
                Rule::ExtendedKeyUsages,
                purposes.purposes().iter().all(|p| allowed.contains(p)),
                || names(allowed),
                || purposes.to_string(),
            );
        }
    }

    fn identity(&mut self, subject: &DistinguishedName, names: &[GeneralName]) {
        self.note(
            Rule::Identity,
            !subject.is_empty() || !names.is_empty(),
            || "a subject or a subjectAltName".to_owned(),
            || format!("{}; {}", or_none(subject.to_string()), list(names)),
        );
    }

    /// A subject, or a directoryName.
    fn directory(&mut self, name: &DistinguishedName, server: bool) {
        let rules = self.rules;
        for attribute in name.rdns().iter().flat_map(|rdn| rdn.attributes()) {
            let (oid, value) = (attribute.oid(), attribute.value());
            if let Some(allowed) = &rules.subject_attributes {
                self.note(
                    Rule::SubjectAttributes,
                    allowed.contains(oid),
                    || list(rules.written.subject_attributes.iter().flatten()),
                    || attribute.short_name(),
                );
            }
            match *oid {
                COMMON_NAME | UNSTRUCTURED_NAME => {
                    self.common_name(value, server);
                    self.denied(value);
                }
                UID => self.denied(value),
                EMAIL_ADDRESS => self.email(value),
                _ => {}
            }
        }
    }

    /// Much software takes a common name for a host or a user when it looks like one: then the rules for such names
    /// apply to it.
    fn common_name(&mut self, value: &str, server: bool) {
        let rules = self.rules;
        let forms = &rules.common_name_forms;
        let has = |form| forms.contains(&form);
        // Readers trim, and some take other scripts' full stops and the wide @ for the plain ones. Such a spelling
        // is recognised here, and refused below: it is within no suffix and no network.
        let text = value.trim();
        let dotted = text.contains(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}'])
            && !text.contains(char::is_whitespace);
        let ok = if ip_octets(text).is_some() {
            has(NameForm::Ip)
                && ip_octets(value).is_some_and(|o| rules.ip_networks.iter().any(|n| n.covers(&o)))
        } else if text.contains(['@', '\u{ff20}']) {
            let within = |suffixes| covered(suffixes, mail_domain(value));
            (has(NameForm::Email) && within(&rules.email_suffixes))
                || (has(NameForm::Upn) && within(&rules.upn_suffixes))
        } else if dotted {
            let wildcard = value.starts_with('*') && rules.wildcards == WildcardRule::Refuse;
            (has(NameForm::Dns) && !wildcard && covered(&rules.dns_suffixes, Some(value)))
                || (has(NameForm::Dotted) && !server && !value.contains('*'))
        } else {
            has(NameForm::Plain)
        };
        self.note(
            Rule::CommonNameForms,
            ok,
            || {
                let names = NameForm::ALL.into_iter().filter(|(_, form)| has(*form));
                format!("{}, each within its rules", list(names.map(|(name, _)| name)))
            },
            || value.to_owned(),
        );
    }

    fn alternative(&mut self, name: &GeneralName, server: bool) {
        let rules = self.rules;
        self.note(
            Rule::SanKinds,
            rules.san_kinds.contains(name.kind()),
            || list(&rules.san_kinds),
            || format!("{} ({name})", name.kind()),
        );
        match name {
            GeneralName::Dns(text) => self.dns(text),
            GeneralName::Email(text) => self.email(text),
            GeneralName::Other(oid, _) if *oid == GeneralName::UPN => self.upn(name),
            GeneralName::Other(oid, _) => self.note(
                Rule::OtherNameTypes,
                rules.other_name_types.contains(oid),
                || list(&rules.other_name_types),
                || oid.to_string(),
            ),
            // Spelt in whatever way, it is for `sids` to judge.
            GeneralName::Uri(text) if resembles_sid_uri(text) => {}
            GeneralName::Uri(text) => self.note(
                Rule::UriPrefixes,
                rules.uri_prefixes.iter().any(|p| p.covers(text)),
                || list(&rules.written.uri_prefixes),
                || text.clone(),
            ),
            GeneralName::Ip(octets) => self.note(
                Rule::IpNetworks,
                rules.ip_networks.iter().any(|n| n.covers(octets)),
                || list(&rules.written.ip_networks),
                || name.to_string(),
            ),
            GeneralName::Directory(inner) => self.directory(inner, server),
            GeneralName::RegisteredId(oid) => self.note(
                Rule::RegisteredIds,
                rules.registered_ids.contains(oid),
                || list(&rules.registered_ids),
                || oid.to_string(),
            ),
            // No rule can allow their kind.
            GeneralName::X400(_) | GeneralName::EdiParty(_) => {}
        }
    }

    fn dns(&mut self, text: &str) {
        let rules = self.rules;
        if text.contains('*') {
            self.note(
                Rule::Wildcards,
                rules.wildcards == WildcardRule::Allow,
                || "no wildcard".to_owned(),
                || text.to_owned(),
            );
        }
        self.note(
            Rule::DnsSuffixes,
            covered(&rules.dns_suffixes, Some(text)),
            || list(&rules.dns_suffixes),
            || text.to_owned(),
        );
        self.denied(text);
    }

    fn email(&mut self, text: &str) {
        let rules = self.rules;
        self.note(
            Rule::EmailSuffixes,
            covered(&rules.email_suffixes, mail_domain(text)),
            || list(&rules.email_suffixes),
            || text.to_owned(),
        );
        self.denied(text);
    }

    fn upn(&mut self, name: &GeneralName) {
        let rules = self.rules;
        // A UPN that is no UTF8String has no text, and no suffix.
        let text = name.as_upn();
        self.note(
            Rule::UpnSuffixes,
            covered(&rules.upn_suffixes, text.and_then(mail_domain)),
            || list(&rules.upn_suffixes),
            || name.to_string(),
        );
        if let Some(text) = text {
            self.denied(text);
        }
    }

    /// The name itself; without what comes before a slash or backslash (a service or domain) and after an `@`; and of
    /// what has no `@`, its first label.
    fn denied(&mut self, name: &str) {
        let rules = self.rules;
        if rules.denied_names.is_empty() {
            return;
        }
        let whole = name.trim_end_matches('.');
        let account = whole.rsplit(['\\', '/']).next().unwrap_or(whole);
        let local = account.split('@').next().unwrap_or(account);
        let label =
            if name.contains('@') { local } else { local.split('.').next().unwrap_or(local) };
        let hit = [whole, account, label]
            .into_iter()
            .any(|part| rules.denied_names.contains(&part.trim().to_lowercase()));
        self.note(
            Rule::DeniedNames,
            !hit,
            || "none of the denied names".to_owned(),
            || name.to_owned(),
        );
    }

    fn extensions(&mut self, claims: &ChallengeClaims) {
        let mut seen = BTreeSet::new();
        for extension in &claims.expectation.extensions {
            let first = seen.insert(extension.oid);
            self.note(
                Rule::Extensions,
                first && extension.oid == SID_EXTENSION,
                || format!("{SID_EXTENSION} once"),
                || extension_text(&extension.oid, extension.critical, &extension.value),
            );
        }
    }

    /// At most one SID, in one spelling, wherever it stands; an ordinary account of a domain of the site.
    fn sids(&mut self, claims: &ChallengeClaims) {
        let rules = self.rules;
        let expectation = &claims.expectation;
        let uris = expectation
            .subject_alt_names
            .iter()
            .filter(|name| matches!(name, GeneralName::Uri(uri) if resembles_sid_uri(uri)))
            .map(|name| (Sid::from_uri(name).ok().flatten(), name.to_string()));
        let extensions =
            expectation.extensions.iter().filter(|e| e.oid == SID_EXTENSION).map(|e| {
                (Sid::from_extension(e).ok(), extension_text(&e.oid, e.critical, &e.value))
            });
        let (uris, extensions): (Vec<_>, Vec<_>) = (uris.collect(), extensions.collect());
        let agree = uris.len() <= 1
            && extensions.len() <= 1
            && uris.iter().all(|(uri, _)| extensions.iter().all(|(other, _)| uri == other));
        for (sid, text) in uris.iter().chain(&extensions) {
            let ordinary = |sid: &Sid| {
                sid.relative_id() >= FIRST_ORDINARY_RID && rules.sid_domains.contains(sid.domain())
            };
            self.note(
                Rule::SidDomains,
                agree && sid.as_ref().is_some_and(ordinary),
                || {
                    let domains = list(&rules.sid_domains);
                    format!("one SID in {domains}, its relative id 1000 or more")
                },
                || sid.as_ref().map_or_else(|| text.clone(), ToString::to_string),
            );
        }
    }
}

fn covered(suffixes: &[DnsSuffix], name: Option<&str>) -> bool {
    name.is_some_and(|name| suffixes.iter().any(|suffix| suffix.covers(name)))
}
