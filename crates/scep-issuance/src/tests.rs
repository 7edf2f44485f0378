use crate::*;
use core::time::Duration;
use proptest::prelude::*;
use scep_challenge::{
    ApprovalMode, ClaimsError, DemandUsages, Opener, OpeningKey, PinnedSigner, Purpose, Renewal,
    SID_EXTENSION, SealError, Sid, SidError,
};
use scep_keys::{AwsLc, SoftwareKey};
use scep_types::*;
use std::sync::LazyLock;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const SID: &str = "S-1-5-21-1004336348-1177238915-682003330-1105";
const GOOD: &str = r#"
id = "wifi"
for = "user"
subject = "C=CH, O=Example, CN={{UserName}}"
subject_alt_names = [{ upn = "{{UserPrincipalName}}" }]
key_usage = ["digitalSignature"]
extended_key_usages = ["clientAuth"]
key_algorithms = ["p256"]
validity = "365d"
"#;

static ISSUER: LazyLock<SoftwareKey> =
    LazyLock::new(|| SoftwareKey::generate(KeyAlgorithm::P256).unwrap());
static GATEWAY: LazyLock<SoftwareKey> =
    LazyLock::new(|| SoftwareKey::generate(KeyAlgorithm::P256).unwrap());

/// The good profile with one line exchanged, or added.
fn changed(line: &str) -> Result<Profile, ProfileError> {
    let (key, _) = line.split_once('=').unwrap();
    let mut text: String =
        GOOD.lines().filter(|l| !l.starts_with(key)).map(|l| format!("{l}\n")).collect();
    text.push_str(line);
    Profile::from_toml(&text)
}

fn refused(line: &str) -> ProfileError {
    changed(line).unwrap_err()
}

fn minter() -> Minter {
    let (tenant, group) = (TenantId::new("t").unwrap(), GatewayGroupId::new("g").unwrap());
    Minter::new(tenant, group, ISSUER.signer(), GATEWAY.public_key().clone()).unwrap()
}

fn attributes() -> Vec<(Variable, String)> {
    let of = |variable, value: &str| (variable, value.to_owned());
    vec![
        of(Variable::UserName, "ada"),
        of(Variable::UserPrincipalName, "ada@example.org"),
        of(Variable::EmailAddress, "ada.lovelace@example.org"),
        of(Variable::OnPremisesSecurityIdentifier, SID),
        of(Variable::DeviceName, "kiosk-7"),
        of(Variable::FullyQualifiedDomainName, "kiosk-7.example.org"),
        of(Variable::SerialNumber, "C02XK1"),
    ]
}

/// The good attributes with one value exchanged.
fn with(variable: Variable, value: &str) -> Attributes {
    let mut all = Attributes::new();
    for (known, good) in attributes().into_iter().filter(|(known, _)| *known != variable) {
        all.insert(known, good).unwrap();
    }
    all.insert(variable, value).unwrap();
    all
}

fn good_attributes() -> Attributes {
    with(Variable::UserName, "ada")
}

fn mint(profile: &Profile, attributes: &Attributes) -> Result<Minted, MintError> {
    let user = UserId::new("ada@example.org").unwrap();
    let user = (profile.certificate_for() == CertificateFor::User).then_some(&user);
    let device = DeviceId::new("device-7").unwrap();
    minter().mint(profile, &device, user, attributes, NOW, &AwsLc)
}

/// The subject that a template and the attributes give.
fn subject(template: &str, attributes: &Attributes) -> DistinguishedName {
    let profile = changed(&format!("subject = '''{template}'''")).unwrap();
    mint(&profile, attributes).unwrap().claims.expectation.subject
}

fn san(template: &str, attributes: &Attributes) -> Result<GeneralName, MintError> {
    let profile = changed(&format!("subject_alt_names = [{{ {template} }}]")).unwrap();
    mint(&profile, attributes).map(|minted| minted.claims.expectation.subject_alt_names[0].clone())
}

#[test]
fn the_example_profile_is_one() {
    let profile = Profile::from_toml(include_str!("../profile.example.toml")).unwrap();
    assert_eq!(profile.lint(), []);
    let minted = mint(&profile, &good_attributes()).unwrap();
    let e = &minted.claims.expectation;
    assert_eq!(e.subject, r"C=CH, O=Example\, Inc., CN=ada".parse().unwrap());
    let sid: Sid = SID.parse().unwrap();
    let sans = [
        GeneralName::upn("ada@example.org").unwrap(),
        GeneralName::email("ada.lovelace@example.org").unwrap(),
        GeneralName::uri("urn:example:device:device-7").unwrap(),
        sid.to_uri().unwrap(),
    ];
    assert_eq!(e.subject_alt_names, sans);
    assert_eq!(e.extensions, [sid.to_extension()]);
    assert_eq!(e.extensions[0].oid, SID_EXTENSION);
    assert_eq!(e.renewal, Renewal::Certificate { window: Duration::from_secs(73 * 86_400) });
    assert_eq!(profile.renewal_window(), Some(Duration::from_secs(73 * 86_400)));
    assert_eq!(minted.claims.lifetime(), Duration::from_secs(3600));
    assert_eq!(
        profile.variables().into_iter().collect::<Vec<_>>(),
        [
            Variable::UserName,
            Variable::UserPrincipalName,
            Variable::EmailAddress,
            Variable::OnPremisesSecurityIdentifier,
            Variable::DeviceId,
        ]
    );
}

#[test]
fn defaults_are_as_documented() {
    let profile = Profile::from_toml(GOOD).unwrap();
    let claims = mint(&profile, &good_attributes()).unwrap().claims;
    assert_eq!(claims.purpose, Purpose::Enrol);
    assert_eq!(claims.lifetime(), Duration::from_secs(3600));
    let e = claims.expectation;
    assert_eq!(e.demand_usages, DemandUsages::No);
    assert_eq!(e.renewal, Renewal::Blob);
    assert_eq!(e.approval, ApprovalMode::Automatic);
    assert_eq!((e.extensions.len(), e.spki_hash), (0, None));
    assert_eq!(profile.renewal_window(), None);
}

#[test]
fn a_profile_may_have_a_person_decide() {
    let profile = Profile::from_toml(&format!("{GOOD}\napproval = \"manual\"\n")).unwrap();
    let claims = mint(&profile, &good_attributes()).unwrap().claims;
    assert_eq!(claims.expectation.approval, ApprovalMode::Manual);
    let unknown = Profile::from_toml(&format!("{GOOD}\napproval = \"nobody\"\n"));
    assert!(unknown.is_err());
}

#[test]
fn what_is_minted_opens_at_the_gateway() {
    let minted = mint(&Profile::from_toml(GOOD).unwrap(), &good_attributes()).unwrap();
    let pinned = PinnedSigner {
        key: ISSUER.public_key().clone(),
        not_before: Timestamp::EPOCH,
        not_after: Timestamp::MAX,
    };
    let opener = Opener::new(
        TenantId::new("t").unwrap(),
        GatewayGroupId::new("g").unwrap(),
        vec![pinned],
        vec![OpeningKey { key: GATEWAY.decryption().unwrap(), not_after: None }],
        Duration::from_secs(3600),
        Duration::from_secs(60),
    )
    .unwrap();
    let verified = opener.open(&minted.text, NOW, &AwsLc).unwrap();
    assert_eq!(*verified.claims(), minted.claims);
    // Every challenge has an id of its own.
    let another = mint(&Profile::from_toml(GOOD).unwrap(), &good_attributes()).unwrap();
    assert_ne!(another.claims.challenge_id, minted.claims.challenge_id);
}

#[test]
fn attack_32_a_value_changes_no_structure() {
    for value in [
        "Test User (TESTCOMPANY, LLC)",
        "a,OU=Admins",
        "a+OU=b",
        r"a\,b",
        "#hash;semi=equals\"quote",
        " lead and trail ",
        "{{UserPrincipalName}}",
        "(0)",
    ] {
        let name = subject(
            "C=CH, CN={{UserName}} of ((0) {{DeviceName}}",
            &with(Variable::UserName, value),
        );
        let values: Vec<_> =
            name.rdns().iter().map(|rdn| rdn.attributes()[0].value().to_owned()).collect();
        assert_eq!(values, ["CH".to_owned(), format!("{value} of ((0) kiosk-7")]);
        assert!(name.rdns().iter().all(|rdn| rdn.attributes().len() == 1));
    }
    // Literals that look like whatever stands for a variable while the template is parsed.
    let name = subject("CN=(0)((1){{UserName}}(0), OU=(1)", &good_attributes());
    assert_eq!(name, "CN=(0)((1)ada(0), OU=(1)".parse().unwrap());
}

#[test]
fn subjects_are_structures() {
    let all = good_attributes();
    let name = subject(r"O=Example\, Inc., CN={{UserName}}+serialNumber={{Device_Serial}}", &all);
    assert_eq!(name, r"O=Example\, Inc., serialNumber=C02XK1+CN=ada".parse().unwrap());
    assert_eq!(subject("", &all), DistinguishedName::empty());
    // A whole name from the directory, written from the leaf up.
    let whole =
        with(Variable::OnPremisesDistinguishedName, r"CN=Ada\, L.,OU=Staff,DC=example,DC=org");
    let expected = r"DC=org, DC=example, OU=Staff, CN=Ada\, L.".parse().unwrap();
    assert_eq!(subject("{{OnPrem_Distinguished_Name}}", &whole), expected);
}

#[test]
fn attack_33_values_must_fit_their_attribute() {
    for (template, variable, value) in [
        ("CN={{UserName}}", Variable::UserName, "a\u{202e}b"),
        ("CN={{UserName}}", Variable::UserName, "a\nb"),
        ("serialNumber={{SerialNumber}}", Variable::SerialNumber, "C02_XK1"),
        ("emailAddress={{EmailAddress}}", Variable::EmailAddress, "ü@example.org"),
    ] {
        let profile = changed(&format!("subject = '{template}'")).unwrap();
        let error = mint(&profile, &with(variable, value)).unwrap_err();
        let field = Field::Subject;
        assert!(
            matches!(error, MintError::Name { field: f, error: FillError::Name(_) } if f == field),
            "{value}: {error:?}"
        );
    }
}

#[test]
fn attack_30_values_add_no_label_no_wildcard_and_no_address() {
    let structure = |variable, found| MintError::Name {
        field: Field::SubjectAltName(0),
        error: FillError::Structure { variable, found },
    };
    let variable = Variable::DeviceName;
    for (value, found) in [("*", '*'), ("dc1.corp", '.'), ("a b", ' '), ("a/b", '/')] {
        let error = san(r#"dns = "{{DeviceName}}.example.org""#, &with(variable, value));
        assert_eq!(error.unwrap_err(), structure(variable, found));
    }
    let variable = Variable::FullyQualifiedDomainName;
    let fqdn = |value| san(r#"dns = "{{FullyQualifiedDomainName}}""#, &with(variable, value));
    assert_eq!(fqdn("a.example.org").unwrap(), GeneralName::dns("a.example.org").unwrap());
    assert_eq!(fqdn("*.example.org").unwrap_err(), structure(variable, '*'));
    // The profile's author may ask for a wildcard; a value may not.
    let all = good_attributes();
    let wildcard = san(r#"dns = "*.{{DeviceName}}.example.org""#, &all).unwrap();
    assert_eq!(wildcard, GeneralName::dns("*.kiosk-7.example.org").unwrap());

    let variable = Variable::UserName;
    for kind in ["upn", "email"] {
        let composed = format!(r#"{kind} = "{{{{UserName}}}}@example.org""#);
        assert_eq!(
            san(&composed, &with(variable, "admin@evil")).unwrap_err(),
            structure(variable, '@')
        );
        assert!(san(&composed, &all).is_ok());
        let whole = format!(r#"{kind} = "{{{{EmailAddress}}}}""#);
        for bad in ["a@b@c", "nobody"] {
            let error = san(&whole, &with(Variable::EmailAddress, bad)).unwrap_err();
            let (field, address) = (Field::SubjectAltName(0), FillError::Address);
            assert_eq!(error, MintError::Name { field, error: address });
        }
    }
    let uri = san(r#"uri = "urn:x:{{UserName}}""#, &with(variable, "a/b?c#d:ü %")).unwrap();
    assert_eq!(uri, GeneralName::uri("urn:x:a%2Fb%3Fc%23d%3A%C3%BC%20%25").unwrap());
}

#[test]
fn a_missing_value_is_named() {
    let profile = changed(r#"subject = "CN={{IMEI}}""#).unwrap();
    let error = mint(&profile, &good_attributes()).unwrap_err();
    let expected =
        MintError::Name { field: Field::Subject, error: FillError::Missing(Variable::IMEI) };
    assert_eq!(error, expected);
    assert_eq!(error.to_string(), "subject: {{IMEI}} has no value");
    let profile = changed(r#"subject_alt_names = [{ dns = "a" }, { dns = "{{MEID}}" }]"#).unwrap();
    let error = mint(&profile, &good_attributes()).unwrap_err();
    assert_eq!(error.to_string(), "subject_alt_names[1]: {{MEID}} has no value");
    let profile = changed(r#"sid = ["extension"]"#).unwrap();
    let mut few = Attributes::new();
    few.insert(Variable::UserName, "ada").unwrap();
    few.insert(Variable::UserPrincipalName, "ada@example.org").unwrap();
    let error = mint(&profile, &few).unwrap_err();
    let expected = FillError::Missing(Variable::OnPremisesSecurityIdentifier);
    assert_eq!(error, MintError::Name { field: Field::Sid, error: expected });
}

#[test]
fn attack_42_the_security_identifier_is_one() {
    let variable = Variable::OnPremisesSecurityIdentifier;
    let profile = changed(r#"sid = ["uri"]"#).unwrap();
    let error = mint(&profile, &with(variable, "S-1-5-21-1:S-1-5-21-2")).unwrap_err();
    assert_eq!(error, MintError::Sid(SidError::Text));
    // Through a template of one's own as well.
    let template = r#"uri = "tag:microsoft.com,2022-09-14:sid:{{OnPremisesSecurityIdentifier}}""#;
    let sid: Sid = SID.parse().unwrap();
    assert_eq!(san(template, &good_attributes()).unwrap(), sid.to_uri().unwrap());
    let error = san(template, &with(variable, "admin")).unwrap_err();
    let expected = SealError::Claims(ClaimsError::Sid(SidError::Text));
    assert_eq!(error, MintError::Seal(expected));
}

#[test]
fn users_and_profiles_go_together() {
    let user = UserId::new("ada@example.org").unwrap();
    let device = DeviceId::new("device-7").unwrap();
    let all = good_attributes();
    let for_users = Profile::from_toml(GOOD).unwrap();
    let error = minter().mint(&for_users, &device, None, &all, NOW, &AwsLc).unwrap_err();
    assert_eq!(error, MintError::UserMissing);
    let minted = minter().mint(&for_users, &device, Some(&user), &all, NOW, &AwsLc).unwrap();
    assert_eq!((minted.claims.device, minted.claims.user), (device.clone(), Some(user.clone())));

    let for_devices = Profile::from_toml(
        &GOOD
            .replace("\"user\"", "\"device\"")
            .replace("UserName", "DeviceId")
            .replace("{ upn = \"{{UserPrincipalName}}\" }", ""),
    )
    .unwrap();
    let error = minter().mint(&for_devices, &device, Some(&user), &all, NOW, &AwsLc).unwrap_err();
    assert_eq!(error, MintError::UserNotExpected);
    let minted = minter().mint(&for_devices, &device, None, &all, NOW, &AwsLc).unwrap();
    assert_eq!(minted.claims.user, None);
    assert_eq!(minted.claims.expectation.subject.to_string(), "C=CH, O=Example, CN=device-7");
    let other = with(Variable::DeviceId, "device-8");
    let error = minter().mint(&for_devices, &device, None, &other, NOW, &AwsLc).unwrap_err();
    assert_eq!(error, MintError::DeviceIdDiffers);
    assert_eq!(
        refused("for = \"device\""),
        ProfileError::UserVariable { field: Field::Subject, variable: Variable::UserName }
    );
}

#[test]
fn attack_64_unknown_keys_and_misspelt_values_are_refused_by_name() {
    let error = refused("skip_san_check = true");
    assert!(matches!(&error, ProfileError::Syntax { line: Some(_), .. }), "{error:?}");
    assert!(error.to_string().contains("skip_san_check"), "{error}");
    for (line, named) in [
        ("for = 'nobody'", "nobody"),
        ("purpose = 'revoke'", "revoke"),
        ("renewal = 'never'", "never"),
        ("approval = 'none'", "none"),
        ("sid = ['oid']", "oid"),
        ("subject_alt_names = [{ ip = '127.0.0.1' }]", "ip"),
        ("demand_usages = 'yes'", "yes"),
    ] {
        let error = refused(line);
        assert!(matches!(error, ProfileError::Syntax { .. }), "{line}: {error:?}");
        assert!(error.to_string().contains(named), "{line}: {error}");
    }
    for key in ["id", "for", "subject", "key_usage", "extended_key_usages", "validity"] {
        let text: String = GOOD
            .lines()
            .filter(|l| !l.starts_with(&format!("{key} ")))
            .map(|l| format!("{l}\n"))
            .collect();
        let error = Profile::from_toml(&text).unwrap_err();
        assert!(error.to_string().contains(&format!("`{key}`")), "{key}: {error}");
    }
    let value = |field, value: &str, why| ProfileError::Value { field, value: value.into(), why };
    for (line, error) in [
        ("key_usage = ['digital']", value(Field::KeyUsage, "digital", "no key usage")),
        ("key_usage = []", value(Field::KeyUsage, "[]", "empty")),
        (
            "extended_key_usages = ['clientAuht']",
            value(Field::ExtendedKeyUsages, "clientAuht", "neither a known purpose nor an OID"),
        ),
        (
            "extended_key_usages = ['clientAuth', '1.3.6.1.5.5.7.3.2']",
            value(Field::ExtendedKeyUsages, "1.3.6.1.5.5.7.3.2", "given twice"),
        ),
        ("extended_key_usages = []", value(Field::ExtendedKeyUsages, "0", "not 1 to 32 purposes")),
        (
            "key_algorithms = ['p521']",
            value(Field::KeyAlgorithms, "p521", "none of p256, p384 and rsaBITS"),
        ),
        (
            "validity = '1y'",
            value(Field::Validity, "1y", "no length of time like 90s, 60m, 24h or 365d"),
        ),
        (
            "challenge_lifetime = '25h'",
            value(Field::ChallengeLifetime, "25h", "not above zero and at most 24h"),
        ),
        (
            "challenge_lifetime = '0s'",
            value(Field::ChallengeLifetime, "0s", "not above zero and at most 24h"),
        ),
        ("renewal_threshold = '0%'", value(Field::RenewalThreshold, "0%", "not 1% to 99%")),
        ("renewal_threshold = '+5%'", value(Field::RenewalThreshold, "+5%", "not 1% to 99%")),
        (
            "renewal_threshold = '0s'",
            value(Field::RenewalThreshold, "0s", "not above zero and below the validity"),
        ),
        (
            "renewal_threshold = '365d'",
            value(Field::RenewalThreshold, "365d", "not above zero and below the validity"),
        ),
        ("sid = ['uri', 'uri']", value(Field::Sid, "sid", "a list with the same form twice")),
        ("renewal = 'certificate'", ProfileError::ThresholdMissing),
        (
            "renewal = 'certificate'\nrenewal_threshold = '20%'\napproval = 'manual'",
            ProfileError::ManualRenewal,
        ),
    ] {
        assert_eq!(refused(line), error, "{line}");
    }
}

#[test]
fn templates_are_parsed_when_the_profile_is() {
    let template = |field, error| ProfileError::Template { field, error };
    for (text, error) in [
        ("CN={{UserNam}}", TemplateError::Unknown { name: "UserNam".into() }),
        ("CN={{ UserName }}", TemplateError::Unknown { name: " UserName ".into() }),
        ("CN={{UserName", TemplateError::Brace),
        ("CN={UserName}", TemplateError::Brace),
        ("CN=a}}", TemplateError::Brace),
        (
            "O=a, {{OnPremisesDistinguishedName}}",
            TemplateError::WholeName(Variable::OnPremisesDistinguishedName),
        ),
        (
            "CN={{OnPremisesDistinguishedName}}",
            TemplateError::WholeName(Variable::OnPremisesDistinguishedName),
        ),
    ] {
        assert_eq!(
            refused(&format!("subject = '{text}'")),
            template(Field::Subject, error),
            "{text}"
        );
    }
    for text in ["{{UserName}}", "{{UserName}}=a", "CN", "nope={{UserName}}", "CN="] {
        let error = refused(&format!("subject = '{text}'"));
        let ProfileError::Template { field: Field::Subject, error: TemplateError::Name(_) } = error
        else {
            panic!("{text}: {error:?}")
        };
    }
    let error = refused("subject_alt_names = [{ dns = 'a' }, { dns = '' }]");
    assert_eq!(error, template(Field::SubjectAltName(1), TemplateError::Empty));
}

#[test]
fn a_profile_says_nothing_that_claims_cannot() {
    let range =
        |what, got, min, max| ProfileError::Claims(ClaimsError::Range { what, got, min, max });
    assert_eq!(refused("validity = '59m'"), range("validity", 3540, 3600, 315_360_000));
    assert_eq!(refused("key_algorithms = ['rsa1024']"), range("RSA key size", 1024, 2048, 8192));
    let count = ClaimsError::Count { what: "key algorithms", got: 0, min: 1, max: 8 };
    assert_eq!(refused("key_algorithms = []"), ProfileError::Claims(count));
    let twice = ClaimsError::Duplicate { what: "key algorithm" };
    assert_eq!(refused("key_algorithms = ['p256', 'p256']"), ProfileError::Claims(twice));
    let nameless = GOOD.replace("C=CH, O=Example, CN={{UserName}}", "");
    let nameless = nameless.replace("{ upn = \"{{UserPrincipalName}}\" }", "");
    let error = Profile::from_toml(&nameless).unwrap_err();
    assert_eq!(error, ProfileError::Claims(ClaimsError::Nameless));
    // A security identifier in a URI is a name.
    assert!(Profile::from_toml(&format!("{nameless}sid = ['uri']")).is_ok());
    let error = Profile::from_toml(&format!("{nameless}sid = ['extension']")).unwrap_err();
    assert_eq!(error, ProfileError::Claims(ClaimsError::Nameless));
}

#[test]
fn attack_47_names_that_a_device_chooses_are_warned_about() {
    assert_eq!(Profile::from_toml(GOOD).unwrap().lint(), []);
    let lint = |line: &str| changed(line).unwrap().lint();
    let spoofable =
        |field, variable| Lint::SpoofableName { field, variable, purpose: "clientAuth".into() };
    for variable in Variable::ALL {
        let expected = match variable {
            Variable::SerialNumber
            | Variable::IMEI
            | Variable::MEID
            | Variable::WiFiMacAddress
            | Variable::DeviceName
            | Variable::FullyQualifiedDomainName => vec![spoofable(Field::Subject, *variable)],
            Variable::OnPremisesDistinguishedName => continue,
            _ => vec![],
        };
        assert_eq!(lint(&format!("subject = 'CN={variable}'")), expected);
    }
    let found =
        lint("subject_alt_names = [{ dns = 'a' }, { dns = '{{FullyQualifiedDomainName}}' }]");
    let variable = Variable::FullyQualifiedDomainName;
    assert_eq!(found, [spoofable(Field::SubjectAltName(1), variable)]);
    // A certificate for any purpose is one for identifying, too.
    let any = "anyExtendedKeyUsage".to_owned();
    let text = GOOD.replace("{{UserName}}", "{{DeviceName}}").replace("clientAuth", &any);
    let variable = Variable::DeviceName;
    assert_eq!(
        Profile::from_toml(&text).unwrap().lint(),
        [
            Lint::SpoofableName { field: Field::Subject, variable, purpose: any.clone() },
            Lint::DangerousPurpose { purpose: any },
        ]
    );
    // Without a purpose that identifies, a name is a label.
    let text =
        GOOD.replace("{{UserName}}", "{{DeviceName}}").replace("clientAuth", "emailProtection");
    assert_eq!(Profile::from_toml(&text).unwrap().lint(), []);
}

#[test]
fn attack_40_purposes_and_usages_that_no_device_should_have_are_warned_about() {
    let lint = |line: &str| changed(line).unwrap().lint();
    for purpose in ["anyExtendedKeyUsage", "OCSPSigning", "certificateRequestAgent"] {
        let expected = Lint::DangerousPurpose { purpose: purpose.into() };
        assert_eq!(lint(&format!("extended_key_usages = ['{purpose}']")), [expected]);
    }
    for usage in ["keyCertSign", "cRLSign"] {
        assert_eq!(
            lint(&format!("key_usage = ['digitalSignature', '{usage}']")),
            [Lint::CaKeyUsage]
        );
    }
    let no_sid = Lint::NoSid { purpose: "smartcardLogon".into() };
    assert_eq!(lint("extended_key_usages = ['smartcardLogon']"), [no_sid]);
    let with_sid = GOOD.replace("clientAuth", "smartcardLogon") + "sid = ['extension']";
    assert_eq!(Profile::from_toml(&with_sid).unwrap().lint(), []);
}

#[test]
fn attributes_are_known_and_unique() {
    let pairs = |pairs: &[&'static str]| Attributes::from_pairs(pairs.iter().copied()).unwrap_err();
    assert_eq!(pairs(&["DeviceName"]), AttributesError::Pair { text: "DeviceName".into() });
    assert_eq!(pairs(&["devicename=a"]), AttributesError::Unknown { name: "devicename".into() });
    let variable = Variable::IMEI;
    assert_eq!(pairs(&["IMEI=1", "Device_IMEI=1"]), AttributesError::Twice { variable });
    assert_eq!(pairs(&["IMEI="]), AttributesError::Length { variable, got: 0 });
    let mut all = Attributes::new();
    let error = all.insert(variable, "a".repeat(1025)).unwrap_err();
    assert_eq!(error, AttributesError::Length { variable, got: 1025 });
    // A value may have an equals sign.
    let all = Attributes::from_pairs(["UserName=a=b"]).unwrap();
    assert_eq!(all.get(Variable::UserName), Some("a=b"));
    let error = Attributes::from_toml("IMEI = '1'\nMEID = 2").unwrap_err();
    assert!(matches!(error, AttributesError::Syntax { line: Some(2), .. }), "{error:?}");
    assert!(error.to_string().starts_with("attributes, line 2: "), "{error}");
    for variable in Variable::ALL {
        assert_eq!(Variable::from_name(variable.name()), Some(*variable));
    }
}

#[test]
fn attack_25_the_minter_wants_two_good_keys() {
    let (tenant, group) = (TenantId::new("t").unwrap(), GatewayGroupId::new("g").unwrap());
    let new = |recipient| {
        Minter::new(tenant.clone(), group.clone(), ISSUER.signer(), recipient).unwrap_err()
    };
    assert_eq!(new(ISSUER.public_key().clone()), MinterError::SharedKey);
    let weak = SpkiDer::from_rsa_parts(&[0xff; 128], &[1, 0, 1]).unwrap();
    let algorithm = KeyAlgorithm::Rsa(1024);
    let role = scep_challenge::KeyRole::Recipient;
    assert_eq!(new(weak), MinterError::UnsuitableKey { role, algorithm });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the value: the subject has the template's structure, or there is no challenge.
    #[test]
    fn attack_32_no_value_changes_the_structure(value in "\\PC{1,40}") {
        let profile = changed("subject = 'O=a(b, CN=x{{UserName}}y+OU={{UserName}}, L=z'").unwrap();
        match mint(&profile, &with(Variable::UserName, &value)) {
            Ok(minted) => {
                let name = minted.claims.expectation.subject;
                let counts: Vec<_> = name.rdns().iter().map(|r| r.attributes().len()).collect();
                prop_assert_eq!(counts, [1, 2, 1]);
                let middle: Vec<_> =
                    name.rdns()[1].attributes().iter().map(|a| a.value().to_owned()).collect();
                prop_assert_eq!(middle, [format!("x{value}y"), value]);
            }
            Err(error) => prop_assert!(
                matches!(error, MintError::Name { field: Field::Subject, .. }), "{:?}", error
            ),
        }
    }

    /// Whatever the text: reading it as a profile does not panic.
    #[test]
    fn noise_makes_no_profile(noise in "\\PC{0,80}") {
        prop_assert!(Profile::from_toml(&noise).is_err());
    }
}

#[test]
fn scep_urls_are_addresses_and_each_is_there_once() {
    let urls = |list: &str| changed(&format!("scep_urls = [{list}]"));
    assert_eq!(Profile::from_toml(GOOD).unwrap().scep_urls(), [""; 0]);
    let two = urls("'https://a.example.org/scep', 'http://10.0.0.1:8080'").unwrap();
    assert_eq!(two.scep_urls(), ["https://a.example.org/scep", "http://10.0.0.1:8080"]);
    let nine: Vec<String> = (0..9).map(|n| format!("'https://a/{n}'")).collect();
    urls(&nine[..8].join(",")).unwrap();
    for bad in [
        "''",
        "'ftp://a'",
        "'https://'",
        "'https:///scep'",
        "'https://user@a/'",
        "'https://a b'",
        "'https://ä'",
        "'https://a/<x>'",
        "'https://a', 'https://a'",
        &nine.join(","),
        &format!("'https://{}'", "a".repeat(1017)),
    ] {
        let error = urls(bad).unwrap_err();
        assert!(
            matches!(error, ProfileError::Value { field: Field::ScepUrls, .. }),
            "{bad}: {error}"
        );
    }
}
