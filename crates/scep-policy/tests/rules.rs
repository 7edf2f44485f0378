//! Every rule of a site: what passes at its edge, what is refused beyond it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a helper of tests may panic as a test may"
)]

mod support;

use core::time::Duration;
use scep_challenge::{ExtraExtension, Sid};
use scep_policy::{Field, Rule, SiteRules, SiteRulesConfig, SiteRulesError};
use scep_types::{
    DistinguishedName, ExtendedKeyUsages, GeneralName, KeyAlgorithm, KeyUsages, Reason,
};
use support::*;

/// Claims and request changed alike: what is left to refuse is the site's.
fn agreed(rules: &[&str], change: impl FnOnce(&mut Case)) -> Case {
    good_but(|case| {
        case.rules = rules_with(rules);
        change(case);
        let expectation = &case.claims.expectation;
        case.request.subject = expectation.subject.clone();
        case.request.subject_alt_names = expectation.subject_alt_names.clone();
        case.request.key_usage = Some(expectation.key_usage);
        case.request.extended_key_usages = Some(expectation.extended_key_usages.clone());
    })
}

#[track_caller]
fn passes(rules: &[&str], change: impl FnOnce(&mut Case)) {
    let case = agreed(rules, change);
    case.approved();
    assert_eq!(pairs(&case.explained()), []);
}

#[track_caller]
fn violates(rule: Rule, rules: &[&str], change: impl FnOnce(&mut Case)) {
    let case = agreed(rules, change);
    assert_eq!(case.refused(), [(Field::SiteRule(rule), Reason::SiteRuleViolated)]);
    assert_eq!(pairs(&case.explained()), case.refused());
}

fn san(case: &mut Case, name: GeneralName) {
    case.claims.expectation.subject_alt_names = vec![name];
}

fn cn(case: &mut Case, value: &str) {
    case.claims.expectation.subject = name(&format!("CN={value}"));
}

fn dns(text: &str) -> GeneralName {
    GeneralName::dns(text).unwrap()
}

fn uri(text: &str) -> GeneralName {
    GeneralName::uri(text).unwrap()
}

#[test]
fn key_kinds_and_sizes() {
    passes(&["rsa_min_bits = 2048"], |case| case.key = RSA.clone());
    violates(Rule::RsaMinBits, &["rsa_min_bits = 2049"], |case| case.key = RSA.clone());
    let p384 = |case: &mut Case| {
        case.key = KEYS.p384.clone();
        case.claims.expectation.key_algorithms = vec![KeyAlgorithm::P384];
    };
    passes(&[r#"curves = ["p256", "p384"]"#], p384);
    violates(Rule::Curves, &[r#"curves = ["p256"]"#], p384);
    let without = |line: &str| {
        let text: Vec<&str> = RULES.lines().filter(|l| !l.starts_with(line)).collect();
        SiteRules::from_toml(&text.join("\n")).unwrap()
    };
    let case = good_but(|case| {
        case.key = RSA.clone();
        case.rules = without("rsa_min_bits");
    });
    assert_eq!(case.refused(), [(Field::SiteRule(Rule::RsaMinBits), Reason::SiteRuleViolated)]);
    let case = good_but(|case| case.rules = without("curves"));
    assert_eq!(case.refused(), [(Field::SiteRule(Rule::Curves), Reason::SiteRuleViolated)]);
}

#[test]
fn longest_validity() {
    let of = |seconds| {
        move |case: &mut Case| case.claims.expectation.validity = Duration::from_secs(seconds)
    };
    passes(&["max_validity_days = 90"], of(90 * DAY));
    violates(Rule::MaxValidityDays, &["max_validity_days = 90"], of(90 * DAY + 1));
    // Sealed claims last an hour at least.
    let never = agreed(&[], of(0));
    assert_eq!(
        pairs(&never.explained()),
        [(Field::SiteRule(Rule::MaxValidityDays), Reason::SiteRuleViolated)]
    );
}

#[test]
fn attack_39_no_certificate_signs_certificates_or_lists() {
    for bit in [KeyUsages::KEY_CERT_SIGN, KeyUsages::CRL_SIGN] {
        violates(Rule::KeyUsage, &[], |case| {
            case.claims.expectation.key_usage = bit.union(KeyUsages::DIGITAL_SIGNATURE);
        });
    }
    passes(&[], |case| {
        case.claims.expectation.key_usage = usages(&[
            "digitalSignature",
            "nonRepudiation",
            "keyEncipherment",
            "dataEncipherment",
            "keyAgreement",
            "encipherOnly",
            "decipherOnly",
        ]);
    });
}

#[test]
fn attack_40_denied_purposes_stay_denied_even_when_a_profile_asks() {
    let asks = |names: &'static [&'static str]| {
        move |case: &mut Case| case.claims.expectation.extended_key_usages = purposes(names)
    };
    let text: Vec<&str> = RULES.lines().filter(|l| !l.starts_with("extended_key_usages")).collect();
    let open = SiteRules::from_toml(&text.join("\n")).unwrap();
    for purpose in ["anyExtendedKeyUsage", "OCSPSigning", "certificateRequestAgent"] {
        let case = agreed(&[], |case| {
            case.rules = open.clone();
            case.claims.expectation.extended_key_usages = purposes(&["clientAuth", purpose]);
        });
        assert_eq!(
            case.refused(),
            [(Field::SiteRule(Rule::DeniedExtendedKeyUsages), Reason::SiteRuleViolated)]
        );
    }
    // Without an allow-list every other purpose passes.
    agreed(&[], |case| {
        case.rules = open.clone();
        case.claims.expectation.extended_key_usages = purposes(&["codeSigning", "1.2.3.4"]);
    })
    .approved();
    passes(&[], asks(&["clientAuth", "serverAuth", "emailProtection"]));
    violates(Rule::ExtendedKeyUsages, &[], asks(&["clientAuth", "codeSigning"]));
    violates(
        Rule::DeniedExtendedKeyUsages,
        &[
            r#"extended_key_usages = ["clientAuth"]"#,
            r#"denied_extended_key_usages = ["serverAuth"]"#,
        ],
        |case| {
            case.rules = SiteRules::from_toml(&format!(
                "{}\ndenied_extended_key_usages = [\"codeSigning\"]",
                text.join("\n")
            ))
            .unwrap();
            case.claims.expectation.extended_key_usages = purposes(&["codeSigning"]);
        },
    );
}

#[test]
fn a_certificate_names_somebody() {
    // Sealed claims cannot be so; explaining takes claims from anywhere.
    let case = agreed(&[], |case| {
        case.claims.expectation.subject = DistinguishedName::empty();
        case.claims.expectation.subject_alt_names.clear();
    });
    assert_eq!(
        pairs(&case.explained()),
        [(Field::SiteRule(Rule::Identity), Reason::SiteRuleViolated)]
    );
}

#[test]
fn kinds_of_names_are_allowed_one_by_one() {
    let every = [
        ("dns", dns("a.example.org")),
        ("email", GeneralName::email("a@example.org").unwrap()),
        ("upn", GeneralName::upn("a@corp.example.org").unwrap()),
        ("uri", uri("urn:example:7")),
        ("ip", GeneralName::ip([192, 0, 2, 255].into())),
        ("directory", GeneralName::Directory(name("CN=a"))),
        ("otherName", GeneralName::Other(oid("1.3.6.1.5.5.7.8.4"), vec![5, 0])),
        ("registeredId", GeneralName::RegisteredId(oid("1.3.6.1.4.1.99999.1"))),
    ];
    for (kind, value) in &every {
        assert_eq!(*kind, value.kind());
        passes(&[], |case| san(case, value.clone()));
        let lists = [
            ("uri", "uri_prefixes"),
            ("otherName", "other_name_types"),
            ("registeredId", "registered_ids"),
        ];
        let kinds: Vec<&str> = every.iter().map(|(k, _)| *k).filter(|k| k != kind).collect();
        let text: Vec<&str> = RULES
            .lines()
            .filter(|l| !l.starts_with("san_kinds"))
            .filter(|l| !lists.iter().any(|(k, list)| k == kind && l.starts_with(list)))
            .collect();
        let case = agreed(&[], |case| {
            case.rules =
                SiteRules::from_toml(&format!("{}\nsan_kinds = {kinds:?}", text.join("\n")))
                    .unwrap();
            san(case, value.clone());
        });
        let first = case.refused()[0];
        assert_eq!(first, (Field::SiteRule(Rule::SanKinds), Reason::SiteRuleViolated), "{kind}");
    }
    for never in [GeneralName::X400(vec![]), GeneralName::EdiParty(vec![])] {
        violates(Rule::SanKinds, &[], |case| san(case, never));
    }
}

#[test]
fn dns_names_lie_in_their_domains() {
    passes(&[], |case| san(case, dns("example.org")));
    passes(&[], |case| san(case, dns("a.b.EXAMPLE.org")));
    for bad in ["badexample.org", "example.org.example.net", "example.net", "a.example.org."] {
        violates(Rule::DnsSuffixes, &[], |case| san(case, dns(bad)));
    }
    let inside = &[r#"dns_suffixes = [".example.org"]"#];
    passes(inside, |case| san(case, dns("a.example.org")));
    violates(Rule::DnsSuffixes, inside, |case| san(case, dns("example.org")));
}

#[test]
fn wildcards_only_where_they_are_allowed() {
    let allow = &[r#"wildcards = "allow""#];
    passes(allow, |case| san(case, dns("*.example.org")));
    violates(Rule::Wildcards, &[], |case| san(case, dns("*.example.org")));
    for bad in ["*.org", "a.*.example.org", "a*.example.org", "**.example.org", "*"] {
        violates(Rule::DnsSuffixes, allow, |case| san(case, dns(bad)));
    }
}

#[test]
fn mail_addresses_and_upns_lie_in_their_domains() {
    let email = |text: &str| GeneralName::email(text).unwrap();
    passes(&[], |case| san(case, email("a@EXAMPLE.org")));
    passes(&[], |case| san(case, email("a@mail.example.org")));
    for bad in ["a@example.net", "a@badexample.org", "a@b@example.org", "@example.org", "a@"] {
        violates(Rule::EmailSuffixes, &[], |case| san(case, email(bad)));
    }
    // In the subject too.
    let address = |text: &str| name(&format!("CN=a, emailAddress={text}"));
    passes(&[], |case| case.claims.expectation.subject = address("a@example.org"));
    violates(Rule::EmailSuffixes, &[], |case| {
        case.claims.expectation.subject = address("a@example.net");
    });

    let upn = |text: &str| GeneralName::upn(text).unwrap();
    passes(&[], |case| san(case, upn("jürg@Corp.Example.org")));
    for bad in
        ["a@example.org", "a@b@corp.example.org", "a@notcorp.example.org", "corp.example.org"]
    {
        violates(Rule::UpnSuffixes, &[], |case| san(case, upn(bad)));
    }
    // A UPN of another string type, which sealed claims cannot have.
    let case = agreed(&[], |case| {
        let ia5 = [&[0x16, 18][..], b"a@corp.example.org"].concat();
        san(case, GeneralName::Other(GeneralName::UPN, ia5));
    });
    assert_eq!(
        pairs(&case.explained()),
        [(Field::SiteRule(Rule::UpnSuffixes), Reason::SiteRuleViolated)]
    );
}

#[test]
fn uris_begin_as_allowed() {
    passes(&[], |case| san(case, uri("urn:example:7")));
    for bad in ["urn:examples:7", "URN:example:7", "urn:other:7"] {
        violates(Rule::UriPrefixes, &[], |case| san(case, uri(bad)));
    }
    let web = &[r#"uri_prefixes = ["https://example.org/devices/"]"#];
    passes(web, |case| san(case, uri("https://example.org/devices/7")));
    for bad in [
        "https://example.org.example.net/devices/7",
        "https://example.org/devices/../admin",
        "https://example.org/devices/%2e%2E/admin",
    ] {
        violates(Rule::UriPrefixes, web, |case| san(case, uri(bad)));
    }
}

#[test]
fn ip_addresses_lie_in_their_networks() {
    let ip = |text: &str| GeneralName::ip(text.parse().unwrap());
    for good in ["192.0.2.0", "192.0.2.255"] {
        passes(&[], |case| san(case, ip(good)));
    }
    for bad in ["192.0.1.255", "192.0.3.0", "::ffff:192.0.2.1"] {
        violates(Rule::IpNetworks, &[], |case| san(case, ip(bad)));
    }
    let v6 = &[r#"ip_networks = ["2001:db8::/32"]"#];
    passes(v6, |case| san(case, ip("2001:db8:ffff::1")));
    violates(Rule::IpNetworks, v6, |case| san(case, ip("2001:db9::1")));
}

#[test]
fn other_names_and_registered_ids_are_listed() {
    violates(Rule::OtherNameTypes, &[], |case| {
        san(case, GeneralName::Other(oid("1.3.6.1.5.2.2"), vec![5, 0]));
    });
    violates(Rule::RegisteredIds, &[], |case| {
        san(case, GeneralName::RegisteredId(oid("1.3.6.1.4.1.99999.2")));
    });
}

#[test]
fn attack_42_sids_are_ordinary_accounts_of_the_sites_domains() {
    let sid = |text: &str| text.parse::<Sid>().unwrap();
    let in_extension = |text: &'static str| {
        move |case: &mut Case| case.claims.expectation.extensions = vec![sid(text).to_extension()]
    };
    let in_uri = |text: &'static str| move |case: &mut Case| san(case, sid(text).to_uri().unwrap());
    for good in ["S-1-5-21-1-2-3-1000", "S-1-5-21-1-2-3-4294967295"] {
        passes(&[], in_extension(good));
        passes(&[], in_uri(good));
    }
    for bad in [
        "S-1-5-21-1-2-3-999",
        "S-1-5-21-1-2-3-500",
        "S-1-5-21-1-2-4-1000",
        "S-1-5-21-1-2-3-4-1000",
        "S-1-5-32-544",
        "S-1-12-1-1-2-3-1000",
    ] {
        violates(Rule::SidDomains, &[], in_extension(bad));
        violates(Rule::SidDomains, &[], in_uri(bad));
    }
    // No domains, no SIDs: an allowed prefix of URIs does not help.
    let none = &["sid_domains = []", r#"uri_prefixes = ["urn:example:", "tag:x.org,2022:"]"#];
    violates(Rule::SidDomains, none, in_uri("S-1-5-21-1-2-3-1000"));
    // Both agree, or neither passes; and each at most once. Sealed claims cannot be so.
    let both = |extension: &str, uris: &[&str]| {
        agreed(&[], |case| {
            case.claims.expectation.extensions = vec![sid(extension).to_extension()];
            case.claims.expectation.subject_alt_names =
                uris.iter().map(|u| sid(u).to_uri().unwrap()).collect();
        })
    };
    let (a, b) = ("S-1-5-21-1-2-3-1000", "S-1-5-21-1-2-3-1001");
    both(a, &[a]).approved();
    let violation = (Field::SiteRule(Rule::SidDomains), Reason::SiteRuleViolated);
    assert_eq!(pairs(&both(a, &[b]).explained()), [violation; 2]);
    assert_eq!(pairs(&both(a, &[a, b]).explained()), [violation; 3]);
    let twice = agreed(&[], |case| {
        case.claims.expectation.extensions = vec![sid(a).to_extension(), sid(a).to_extension()];
    });
    let repeated = (Field::SiteRule(Rule::Extensions), Reason::SiteRuleViolated);
    assert_eq!(pairs(&twice.explained()), [repeated, violation, violation]);
    let two = agreed(&[], |case| {
        case.claims.expectation.subject_alt_names =
            vec![sid(a).to_uri().unwrap(), sid(b).to_uri().unwrap()];
    });
    assert_eq!(pairs(&two.explained()), [violation; 2]);
    // A spelling that only some readers take for a SID.
    let case = agreed(&[], |case| {
        san(case, uri("TAG:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-1000"));
    });
    assert_eq!(pairs(&case.explained()), [violation]);
}

#[test]
fn attack_43_claims_have_no_extension_but_a_sid() {
    let case = agreed(&[], |case| {
        case.claims.expectation.extensions = vec![ExtraExtension {
            oid: oid("2.5.29.19"),
            critical: true,
            value: vec![0x30, 3, 1, 1, 0xff],
        }];
    });
    assert_eq!(
        pairs(&case.explained()),
        [(Field::SiteRule(Rule::Extensions), Reason::SiteRuleViolated)]
    );
}

#[test]
fn subject_attributes_are_listed_when_the_list_is_given() {
    let subject =
        |text: &'static str| move |case: &mut Case| case.claims.expectation.subject = name(text);
    let list = &[r#"subject_attributes = ["CN", "2.5.4.10"]"#];
    passes(list, subject("O=a, CN=b"));
    violates(Rule::SubjectAttributes, list, subject("O=a, CN=b, OU=c"));
    passes(&[], subject("O=a, CN=b, OU=c"));
    violates(Rule::SubjectAttributes, list, |case| {
        case.claims.expectation.subject = name("CN=a");
        san(case, GeneralName::Directory(name("OU=a")));
    });
}

#[test]
fn attack_47_a_common_name_that_looks_like_a_host_or_a_user_obeys_their_rules() {
    for good in [
        "device-7",
        "Example Inc. device",
        "a.example.org",
        "a@example.org",
        "a@corp.example.org",
        "192.0.2.1",
    ] {
        passes(&[], |case| cn(case, good));
    }
    for bad in [
        "a.example.net",
        "example.org.",
        "host/a.example.org",
        "ünïcode.example.org",
        "*.example.org",
        "first.last",
        "a@example.net",
        "a b@example.net",
        "192.0.3.1",
        "2001:db8::1",
        "192.0.2.1\\ ",
        "\\ a.example.org",
        "a.example.net\\ ",
        "a\u{3002}example\u{ff0e}net",
        "a\u{ff20}example\u{3002}net",
        "192.0.2.1:443",
        "admin\u{ff20}corp",
    ] {
        violates(Rule::CommonNameForms, &[], |case| cn(case, bad));
    }
    // In a directoryName and in unstructuredName too.
    violates(Rule::CommonNameForms, &[], |case| {
        san(case, GeneralName::Directory(name("CN=a.example.net")));
    });
    violates(Rule::CommonNameForms, &[], |case| {
        case.claims.expectation.subject = name("unstructuredName=router.example.net");
    });
    // Each form is allowed for itself.
    for (form, value) in [
        ("plain", "device-7"),
        ("dns", "a.example.org"),
        ("email", "a@example.org"),
        ("upn", "a@corp.example.org"),
        ("ip", "192.0.2.1"),
        ("dotted", "first.last"),
    ] {
        let only = format!("common_name_forms = [\"{form}\"]");
        // A UPN here is an address too, and the other way about it is not.
        passes(&[&only], |case| cn(case, value));
        let others: Vec<&str> = ["plain", "dns", "email", "upn", "ip", "dotted"]
            .into_iter()
            .filter(|other| *other != form)
            .filter(|other| {
                (form, *other) != ("upn", "email") && (form, *other) != ("dns", "dotted")
            })
            .collect();
        let others = format!("common_name_forms = {others:?}");
        violates(Rule::CommonNameForms, &[&others], |case| cn(case, value));
    }
    // A server's name is never free.
    violates(Rule::CommonNameForms, &[r#"common_name_forms = ["dotted"]"#], |case| {
        cn(case, "first.last");
        case.claims.expectation.extended_key_usages = purposes(&["clientAuth", "serverAuth"]);
    });
    violates(Rule::CommonNameForms, &[r#"common_name_forms = ["dotted"]"#], |case| {
        cn(case, "*.last");
    });
    passes(&[r#"wildcards = "allow""#], |case| cn(case, "*.example.org"));
}

#[test]
fn attack_47_denied_names_are_found_wherever_they_stand() {
    let rules = &[
        r#"denied_names = ["Administrator", "dc01", "boss@example.org", "x.example.org.", 'a\b']"#,
        r#"common_name_forms = ["plain", "dns", "email", "dotted"]"#,
    ];
    for bad in [
        "administrator",
        "ADMINISTRATOR",
        r"CORP\\administrator",
        r"administrator\ ",
        r"A\\B",
        "host/dc01.example.org",
        "host/x.example.org",
        "dc01.example.org",
        "administrator@example.org",
    ] {
        violates(Rule::DeniedNames, rules, |case| cn(case, bad));
    }
    violates(Rule::DeniedNames, rules, |case| {
        case.claims.expectation.subject = name("CN=a, UID=administrator");
    });
    violates(Rule::DeniedNames, rules, |case| {
        case.claims.expectation.subject = name("CN=a, unstructuredName=dc01.example.org");
    });
    violates(Rule::DeniedNames, rules, |case| {
        case.claims.expectation.subject = name("CN=a, emailAddress=boss@example.org");
    });
    for bad in [
        dns("DC01.example.org"),
        dns("X.example.org"),
        GeneralName::upn("Administrator@corp.example.org").unwrap(),
        GeneralName::email("boss@example.org").unwrap(),
        GeneralName::email("dc01@example.org").unwrap(),
        GeneralName::Directory(name("CN=dc01")),
    ] {
        violates(Rule::DeniedNames, rules, |case| san(case, bad));
    }
    for good in [
        dns("dc011.example.org"),
        dns("a.dc01.example.org"),
        GeneralName::email("dc01.smith@example.org").unwrap(),
        GeneralName::email("boss@mail.example.org").unwrap(),
    ] {
        passes(rules, |case| san(case, good));
    }
    passes(rules, |case| cn(case, "administrators"));
}

const EXAMPLE: &str = include_str!("../site-rules.example.toml");

#[test]
fn the_example_is_read_and_explains_every_key() {
    let rules = SiteRules::from_toml(EXAMPLE).unwrap();
    assert_eq!(rules.issuance_per_hour(), 500);
    let config: SiteRulesConfig = toml::from_str(EXAMPLE).unwrap();
    let all = toml::Value::try_from(SiteRulesConfig {
        rsa_min_bits: Some(2048),
        extended_key_usages: Some(vec![]),
        subject_attributes: Some(vec![]),
        common_name_forms: Some(vec![]),
        ..SiteRulesConfig::narrowest(1, 1)
    })
    .unwrap();
    let shown: toml::Table = toml::from_str(EXAMPLE).unwrap();
    let keys: Vec<_> = all.as_table().unwrap().keys().collect();
    assert_eq!(keys, shown.keys().collect::<Vec<_>>());
    assert_eq!(SiteRules::new(config).unwrap().issuance_per_hour(), 500);
}

#[test]
fn the_digest_is_that_of_the_text() {
    let rules = SiteRules::from_toml(RULES).unwrap();
    assert_eq!(rules.digest().len(), 64);
    assert_ne!(rules.digest(), SiteRules::from_toml(&format!("{RULES}\n")).unwrap().digest());
    assert_eq!(rules.digest(), SiteRules::from_toml(RULES).unwrap().digest());
    let config: SiteRulesConfig = toml::from_str(RULES).unwrap();
    let made = SiteRules::new(config.clone()).unwrap();
    let changed = SiteRulesConfig { issuance_per_hour: 61, ..config };
    assert_ne!(made.digest(), SiteRules::new(changed).unwrap().digest());
}

fn error(lines: &[&str]) -> SiteRulesError {
    let key = |line: &str| line.split('=').next().unwrap().trim().to_owned();
    let kept = RULES.lines().filter(|old| !lines.iter().any(|new| key(new) == key(old)));
    let text: Vec<&str> = lines.iter().copied().chain(kept).collect();
    SiteRules::from_toml(&text.join("\n")).unwrap_err()
}

#[test]
fn attack_64_unknown_keys_fail() {
    for key in ["skip_san_check = true", "allow_no_challenge = 1", "dns_sufixes = []"] {
        let SiteRulesError::Syntax { line, message } = error(&["# rules", key]) else {
            panic!("{key}")
        };
        assert_eq!(line, Some(2), "{key}");
        assert!(message.contains(key.split(' ').next().unwrap()), "{message}");
    }
    // Not as a table either.
    assert!(matches!(error(&["[dns_suffixes]"]), SiteRulesError::Syntax { .. }));
}

#[test]
fn what_is_missing_or_of_another_type_fails() {
    assert_eq!(
        SiteRules::from_toml("issuance_per_hour = 1\ncurves = [\"p256\"]\n").unwrap_err(),
        SiteRulesError::Syntax {
            line: Some(1),
            message: "missing field `max_validity_days`".to_owned()
        }
    );
    assert!(matches!(error(&["wildcards = true"]), SiteRulesError::Syntax { line: Some(1), .. }));
    assert!(matches!(error(&["issuance_per_hour = -1"]), SiteRulesError::Syntax { .. }));
    assert!(matches!(error(&["x = "]), SiteRulesError::Syntax { line: Some(1), .. }));
}

#[test]
fn values_that_make_no_rule_fail_with_key_and_line() {
    for (line, key, value) in [
        ("issuance_per_hour = 0", "issuance_per_hour", "0"),
        ("issuance_per_hour = 1000001", "issuance_per_hour", "1000001"),
        ("max_validity_days = 0", "max_validity_days", "0"),
        ("max_validity_days = 3651", "max_validity_days", "3651"),
        ("rsa_min_bits = 2047", "rsa_min_bits", "2047"),
        ("rsa_min_bits = 8193", "rsa_min_bits", "8193"),
        (r#"curves = ["p256", "p224"]"#, "curves", "p224"),
        (r#"curves = ["rsa2048"]"#, "curves", "rsa2048"),
        (r#"extended_key_usages = ["clientauthn"]"#, "extended_key_usages", "clientauthn"),
        (r#"extended_key_usages = ["OCSPSigning"]"#, "extended_key_usages", "OCSPSigning"),
        (r#"extended_key_usages = ["2.5.29.37.0"]"#, "extended_key_usages", "anyExtendedKeyUsage"),
        (
            r#"extended_key_usages = ["certificateRequestAgent"]"#,
            "extended_key_usages",
            "certificateRequestAgent",
        ),
        (r#"denied_extended_key_usages = ["x"]"#, "denied_extended_key_usages", "x"),
        (r#"san_kinds = ["x400"]"#, "san_kinds", "x400"),
        (r#"san_kinds = ["ediParty"]"#, "san_kinds", "ediParty"),
        (r#"san_kinds = ["DNS"]"#, "san_kinds", "DNS"),
        (r#"dns_suffixes = ["*.example.org"]"#, "dns_suffixes", "*.example.org"),
        (r#"dns_suffixes = [""]"#, "dns_suffixes", ""),
        (r#"dns_suffixes = ["."]"#, "dns_suffixes", "."),
        (r#"email_suffixes = ["@example.org"]"#, "email_suffixes", "@example.org"),
        (r#"upn_suffixes = ["ex ample.org"]"#, "upn_suffixes", "ex ample.org"),
        (r#"uri_prefixes = ["https://example.org"]"#, "uri_prefixes", "https://example.org"),
        (
            r#"uri_prefixes = ["tag:microsoft.com,2022-09-14:sid:"]"#,
            "uri_prefixes",
            "tag:microsoft.com,2022-09-14:sid:",
        ),
        (r#"sid_domains = ["S-1-5-21-1-2"]"#, "sid_domains", "S-1-5-21-1-2"),
        (r#"sid_domains = ["S-1-5-21-1-2-3-4"]"#, "sid_domains", "S-1-5-21-1-2-3-4"),
        (r#"sid_domains = ["S-1-5-32"]"#, "sid_domains", "S-1-5-32"),
        (r#"sid_domains = ["S-1-5-21-1-2-x"]"#, "sid_domains", "S-1-5-21-1-2-x"),
        (r#"ip_networks = ["192.0.2.1/24"]"#, "ip_networks", "192.0.2.1/24"),
        (r#"other_name_types = ["upn"]"#, "other_name_types", "upn"),
        (
            r#"other_name_types = ["1.3.6.1.4.1.311.20.2.3"]"#,
            "other_name_types",
            "1.3.6.1.4.1.311.20.2.3",
        ),
        (
            r#"other_name_types = ["1.3.6.1.4.1.311.25.2.1"]"#,
            "other_name_types",
            "1.3.6.1.4.1.311.25.2.1",
        ),
        (r#"registered_ids = ["x"]"#, "registered_ids", "x"),
        (r#"subject_attributes = ["XX"]"#, "subject_attributes", "XX"),
        (r#"common_name_forms = ["any"]"#, "common_name_forms", "any"),
        (r#"denied_names = [" "]"#, "denied_names", " "),
        (r#"denied_names = ["."]"#, "denied_names", "."),
        (r#"ca_may_add = ["certificatePolicies"]"#, "ca_may_add", "certificatePolicies"),
        (r#"ca_may_add = ["2.5.29.19"]"#, "ca_may_add", "2.5.29.19"),
        (r#"ca_may_add = ["1.3.6.1.4.1.311.21.10"]"#, "ca_may_add", "1.3.6.1.4.1.311.21.10"),
        (r#"ca_may_add = ["1.3.6.1.4.1.311.25.2"]"#, "ca_may_add", "1.3.6.1.4.1.311.25.2"),
    ] {
        match error(&["# a comment", "", line]) {
            SiteRulesError::Value { key: k, line: Some(3), value: v, why } => {
                assert_eq!((k, v.as_str()), (key, value), "{line}");
                assert!(!why.is_empty());
            }
            other => panic!("{line}: {other}"),
        }
    }
    assert_eq!(
        error(&["# a comment", "rsa_min_bits = 1024"]).to_string(),
        "site rules, line 2: rsa_min_bits: `1024` is not within 2048 to 8192"
    );
}

#[test]
fn a_kind_without_its_list_and_a_list_without_its_kind_fail() {
    let kinds = r#"san_kinds = ["dns", "email", "upn", "uri", "ip", "otherName", "registeredId"]"#;
    for (kind, key) in [
        ("dns", "dns_suffixes"),
        ("email", "email_suffixes"),
        ("upn", "upn_suffixes"),
        ("ip", "ip_networks"),
        ("otherName", "other_name_types"),
        ("registeredId", "registered_ids"),
    ] {
        let empty = format!("{key} = []");
        assert_eq!(error(&[kinds, &empty]), SiteRulesError::Incomplete { kind, key });
    }
    // URIs may be SIDs only.
    assert!(matches!(
        error(&["uri_prefixes = []", "sid_domains = []"]),
        SiteRulesError::Incomplete { kind: "uri", key: "uri_prefixes" }
    ));
    rules_with(&["uri_prefixes = []"]);
    let none = ["san_kinds = []", "other_name_types = []", "registered_ids = []"];
    assert_eq!(
        error(&none),
        SiteRulesError::Unused { kind: "uri", key: "uri_prefixes", line: Some(13) }
    );
    assert_eq!(
        SiteRules::from_toml("issuance_per_hour = 1\nmax_validity_days = 1").unwrap_err(),
        SiteRulesError::NoKeys
    );
}

#[test]
fn the_narrowest_rules_allow_a_plain_name_and_nothing_else() {
    let config =
        SiteRulesConfig { curves: vec!["p256".to_owned()], ..SiteRulesConfig::narrowest(1, 397) };
    let rules = SiteRules::new(config).unwrap();
    let case = agreed(&[], |case| {
        case.rules = rules.clone();
        case.claims.expectation.subject_alt_names.clear();
    });
    case.approved();
    let case = agreed(&[], |case| case.rules = rules);
    assert!(case.refused().contains(&(Field::SiteRule(Rule::SanKinds), Reason::SiteRuleViolated)));
    // Whatever the issuer says about purposes.
    assert!(ExtendedKeyUsages::purpose("OCSPSigning").is_some());
}
