//! What Python reads in our payloads, and what the gateway decides on requests made of what it read.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

use libtest_mimic::{Arguments, Trial};
use scep_challenge::{Opener, OpeningKey, PinnedSigner};
use scep_issuance::payload::{
    Form, PayloadError, PayloadInput, PayloadNames, WindowsKey, apple_mobileconfig, json,
    windows_syncml,
};
use scep_issuance::{Attributes, Minted, Minter, Profile};
use scep_keys::{AwsLc, SoftwareKey};
use scep_pkcs10::{CsrBuilder, Rules, UnprovenCsr};
use scep_policy::{Denials, InertContent, SiteRules, decide};
use scep_testkit::process::must;
use scep_testkit::process::peers::{Peer, trial};
use scep_types::*;
use serde_json::Value;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const URLS: [&str; 2] = ["https://scep.example.org/scep?a=1&b=2", "http://two.example.org/scep"];
/// A comma, plus signs, quotation marks, markup and letters of another script, a number sign first, blanks at the ends.
const SPITEFUL: &str = r#"#Zoë "O'Hara", <b>&amp; Søn+Sohn; CN=admin\2C 日本"#;
const PROFILE: &str = r#"
id = "wifi"
for = "user"
subject = "C=CH, O=Example\\, Inc. + OU=Sales \\+ More, DC=example, serialNumber={{SerialNumber}}, emailAddress={{EmailAddress}}, CN={{UserName}}"
subject_alt_names = [
  { upn = "{{UserPrincipalName}}" },
  { email = "{{EmailAddress}}" },
  { dns = "one.example.org" },
  { dns = "two.example.org" },
  { uri = "urn:example:a,b&c" },
]
key_usage = ["digitalSignature", "keyEncipherment"]
extended_key_usages = ["clientAuth", "1.3.6.1.5.5.7.3.14"]
key_algorithms = ["p256", "rsa3072", "rsa2048", "rsa4096"]
validity = "90d"
"#;

static ISSUER: LazyLock<SoftwareKey> = LazyLock::new(|| scep_testkit::keys::p256(0));
static GATEWAY: LazyLock<SoftwareKey> = LazyLock::new(|| scep_testkit::keys::p256(1));
static DEVICE: LazyLock<SoftwareKey> = LazyLock::new(|| scep_testkit::keys::rsa2048(0));

fn main() {
    let python = || [Peer::program("python3")];
    let mut trials = vec![
        trial("the_plist_holds_the_claims_and_its_request_is_approved", &python(), apple),
        trial("the_syncml_holds_the_claims_and_its_request_is_approved", &python(), windows),
        trial("a_device_s_challenge_goes_to_the_device_s_store", &python(), stores),
    ];
    let plain: [(&str, fn()); 6] = [
        ("the_json_holds_the_claims", plain_json),
        ("debug_shows_no_challenge", debug),
        ("uuids_are_those_of_the_challenge", uuids),
        ("what_apple_cannot_express_is_named", apple_limits),
        ("what_windows_cannot_express_is_named", windows_limits),
        ("urls_and_names_are_checked", inputs),
    ];
    for (name, test) in plain {
        trials.push(Trial::test(name, move || {
            test();
            Ok(())
        }));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn ca() -> CertificateDer {
    scep_testkit::house::device_certificate(&DEVICE)
}

/// The profile with one line exchanged, or added.
fn profile(line: &str) -> Profile {
    let key = line.split('=').next().unwrap();
    if key.is_empty() {
        return Profile::from_toml(PROFILE).unwrap();
    }
    let mut text = String::new();
    let mut skipping = false;
    for l in PROFILE.lines() {
        skipping = l.starts_with(key) || (skipping && (l.starts_with(' ') || l == "]"));
        if !skipping {
            text.push_str(l);
            text.push('\n');
        }
    }
    Profile::from_toml(&format!("{text}{line}\n")).unwrap()
}

fn mint(profile: &Profile) -> Minted {
    let minter = Minter::new(
        TenantId::new("t").unwrap(),
        GatewayGroupId::new("g").unwrap(),
        ISSUER.signer(),
        GATEWAY.public_key().clone(),
    )
    .unwrap();
    let attributes = Attributes::from_pairs([
        format!("UserName={SPITEFUL}").as_str(),
        "UserPrincipalName=zoë+1@example.org",
        "EmailAddress=zoe+1@example.org",
        "SerialNumber=C02,X+K1",
    ])
    .unwrap();
    let user = UserId::new("zoe@example.org").unwrap();
    let user = (profile.certificate_for() == scep_issuance::CertificateFor::User).then_some(&user);
    let device = DeviceId::new("device-7").unwrap();
    minter.mint(profile, &device, user, &attributes, NOW, &AwsLc).unwrap()
}

fn input(line: &str) -> PayloadInput {
    let urls = URLS.map(str::to_owned).to_vec();
    let names = PayloadNames {
        identifier: "org.example.scep".into(),
        display: "Wi-Fi & <VPN>".into(),
        ca_name: Some("Example \"CA\"".into()),
    };
    PayloadInput::new(urls, mint(&profile(line)))
        .unwrap()
        .with_ca_certificate(ca())
        .with_names(names)
        .unwrap()
}

fn challenge(input: &PayloadInput) -> String {
    json(input)["challenge"].as_str().unwrap().to_owned()
}

/// What a script of Python prints, given a text on its command line.
fn python(script: &str, text: &str) -> Value {
    serde_json::from_slice(&must(Command::new("python3").args(["-c", script, text]))).unwrap()
}

fn plist(text: &str) -> Value {
    python(
        "import sys, json, plistlib\n\
         v = plistlib.loads(sys.argv[1].encode('utf-8'))\n\
         print(json.dumps(v, default=lambda b: b.hex()))",
        text,
    )
}

/// The whole document as a tree of [tag, text, children].
fn xml(text: &str) -> Value {
    python(
        "import sys, json, xml.etree.ElementTree as E\n\
         t = lambda e: [e.tag, (e.text or '').strip('\\n'), [t(c) for c in e]]\n\
         print(json.dumps(t(E.fromstring(sys.argv[1]))))",
        text,
    )
}

/// Whether the gateway would issue for a request of these values.
fn approved(csr: &CsrBuilder, text: &str) -> bool {
    let der = csr.sign(&*DEVICE.signer(), SignatureScheme::RsaPkcs1Sha256).unwrap();
    let csr = UnprovenCsr::parse(&der, &Rules::default()).unwrap().prove(&AwsLc).unwrap();
    let opener = Opener::new(
        TenantId::new("t").unwrap(),
        GatewayGroupId::new("g").unwrap(),
        vec![PinnedSigner {
            key: ISSUER.public_key().clone(),
            not_before: Timestamp::EPOCH,
            not_after: Timestamp::MAX,
        }],
        vec![OpeningKey { key: GATEWAY.decryption().unwrap(), not_after: None }],
        Duration::from_secs(3600),
        Duration::from_secs(300),
    )
    .unwrap();
    let rules = SiteRules::from_toml(
        r#"
        issuance_per_hour = 500
        max_validity_days = 397
        curves = ["p256"]
        rsa_min_bits = 2048
        san_kinds = ["upn", "email", "dns", "uri"]
        extended_key_usages = ["clientAuth", "1.3.6.1.5.5.7.3.14"]
        dns_suffixes = ["example.org"]
        email_suffixes = ["example.org"]
        upn_suffixes = ["example.org"]
        uri_prefixes = ["urn:example:"]
        "#,
    )
    .unwrap();
    let opened = opener.open(text, NOW, &AwsLc).unwrap();
    match decide(&csr, opened, &rules, &Denials::default(), InertContent::Discard, NOW) {
        Ok(_) => true,
        Err(denial) => {
            eprintln!("{:?}", denial.reports());
            false
        }
    }
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn attribute(kind: &str, value: &str) -> AttributeValue {
    AttributeValue::new(name::attribute_type(kind).unwrap(), value).unwrap()
}

fn apple() {
    let input = input("");
    let expectation = &input.claims().expectation;
    let root = plist(&apple_mobileconfig(&input).unwrap());
    assert_eq!(root["PayloadType"], "Configuration");
    assert_eq!(root["PayloadVersion"], 1);
    assert_eq!(root["PayloadIdentifier"], "org.example.scep.wifi");
    assert_eq!(root["PayloadDisplayName"], "Wi-Fi & <VPN>");
    assert_eq!(root["PayloadContent"].as_array().unwrap().len(), 1);
    let payload = &root["PayloadContent"][0];
    assert_eq!(payload["PayloadType"], "com.apple.security.scep");
    assert_eq!(payload["PayloadIdentifier"], "org.example.scep.wifi.scep");
    assert_ne!(payload["PayloadUUID"], root["PayloadUUID"]);

    let scep = &payload["PayloadContent"];
    assert_eq!(scep["URL"], URLS[0]);
    assert_eq!(scep["Name"], "Example \"CA\"");
    assert_eq!(scep["Challenge"], challenge(&input));
    assert_eq!(scep["Keysize"], 2048, "rsa3072 is allowed, and Apple has none");
    assert_eq!(scep["Key Type"], "RSA");
    assert_eq!(scep["Key Usage"], 5);
    assert_eq!(scep["Retries"], 3);
    assert_eq!(scep["RetryDelay"], 10);
    assert_eq!(scep["AllowAllAppsAccess"], false);
    assert_eq!(scep["KeyIsExtractable"], false);
    assert_eq!(scep["CAFingerprint"], sha1(&ca()).to_lowercase());
    // The documented shape: pairs in RDNs in the name, shortcuts for six types alone.
    let two = serde_json::json!([["O", "Example, Inc."], ["OU", "Sales + More"]]);
    assert_eq!(scep["Subject"][1], two);
    assert_eq!(scep["Subject"][3], serde_json::json!([["2.5.4.5", "C02,X+K1"]]));
    assert_eq!(scep["Subject"][5], serde_json::json!([["CN", SPITEFUL]]));
    let sans = &scep["SubjectAltName"];
    assert_eq!(sans["dNSName"], serde_json::json!(["one.example.org", "two.example.org"]));
    assert_eq!(sans["ntPrincipalName"], "zoë+1@example.org");

    let rdns = scep["Subject"].as_array().unwrap().iter().map(|rdn| {
        let pair = |p: &Value| attribute(string(&p[0]), string(&p[1]));
        Rdn::new(rdn.as_array().unwrap().iter().map(pair).collect()).unwrap()
    });
    let subject = DistinguishedName::new(rdns.collect()).unwrap();
    assert_eq!(subject, expectation.subject);
    let texts = |key: &str| match &sans[key] {
        Value::Array(all) => all.iter().map(|v| string(v).to_owned()).collect(),
        Value::String(one) => vec![one.clone()],
        other => panic!("{key}: {other}"),
    };
    let mut names = Vec::new();
    names.extend(texts("rfc822Name").iter().map(|t| GeneralName::email(t).unwrap()));
    names.extend(texts("dNSName").iter().map(|t| GeneralName::dns(t).unwrap()));
    names.extend(texts("uniformResourceIdentifier").iter().map(|t| GeneralName::uri(t).unwrap()));
    names.extend(texts("ntPrincipalName").iter().map(|t| GeneralName::upn(t).unwrap()));
    let text = string(&scep["Challenge"]).to_owned();
    let request = CsrBuilder {
        subject,
        subject_alt_names: names,
        key_usage: Some(KeyUsages::DIGITAL_SIGNATURE.union(KeyUsages::KEY_ENCIPHERMENT)),
        challenge_password: Some(Secret::new(text.clone())),
        ..CsrBuilder::default()
    };
    assert!(approved(&request, &text));
    assert!(!approved(&CsrBuilder { subject_alt_names: vec![], ..request }, &text));
}

/// Splits at a character outside quotation marks.
fn split(text: &str, at: char) -> Vec<String> {
    let (mut parts, mut quoted) = (vec![String::new()], false);
    for c in text.chars() {
        quoted ^= c == '"';
        if c == at && !quoted {
            parts.push(String::new());
        } else {
            parts.last_mut().unwrap().push(c);
        }
    }
    parts
}

/// Reads the string form as CertStrToName is documented to.
fn x500(text: &str) -> DistinguishedName {
    let read = |pair: &String| {
        let (key, value) = pair.split_once('=').unwrap();
        let value = value.trim();
        assert!(!value.starts_with('#'), "that would be hexadecimal");
        let value = match value.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"').unwrap().replace("\"\"", "\""),
            None => value.to_owned(),
        };
        let key = key.trim();
        attribute(key.strip_prefix("OID.").unwrap_or(key), &value)
    };
    let rdns = split(text, ',');
    let rdns = rdns.iter().map(|rdn| Rdn::new(split(rdn, '+').iter().map(read).collect()).unwrap());
    DistinguishedName::new(rdns.collect()).unwrap()
}

fn sha1(certificate: &CertificateDer) -> String {
    use sha1::{Digest, Sha1};
    Sha1::digest(certificate.as_der()).iter().map(|b| format!("{b:02X}")).collect()
}

/// The SyncML's commands: name, target, format and data of each, after its frame has been checked.
fn commands(text: &str) -> Vec<(String, String, String, String)> {
    let root = xml(text);
    let sync = |name: &str| format!("{{SYNCML:SYNCML1.2}}{name}");
    let children = |node: &Value, name: &str| {
        assert_eq!(node[0], sync(name));
        node[2].as_array().unwrap().clone()
    };
    let body = children(&root, "SyncML");
    let [body] = body.as_slice() else { panic!("one SyncBody") };
    let body = children(body, "SyncBody");
    let [atomic, last] = body.as_slice() else { panic!("Atomic and Final") };
    assert_eq!(last[0], sync("Final"));
    let atomic = children(atomic, "Atomic");
    assert_eq!(atomic[0][0], sync("CmdID"));
    let mut ids = vec![string(&atomic[0][1]).to_owned()];
    let mut found = Vec::new();
    for command in &atomic[1..] {
        let name = string(&command[0]).rsplit_once('}').unwrap().1.to_owned();
        let parts = command[2].as_array().unwrap();
        let [id, item] = parts.as_slice() else { panic!("CmdID and Item") };
        assert_eq!(id[0], sync("CmdID"));
        ids.push(string(&id[1]).to_owned());
        let item = children(item, "Item");
        let target = children(&item[0], "Target");
        assert_eq!(target[0][0], sync("LocURI"));
        let format = item.get(1).map_or("", |meta| {
            assert_eq!(meta[0], sync("Meta"));
            assert_eq!(meta[2][0][0], "{syncml:metinf}Format");
            string(&meta[2][0][1])
        });
        let data = item.get(2).map_or("", |data| {
            assert_eq!(data[0], sync("Data"));
            string(&data[1])
        });
        found.push((name, string(&target[0][1]).to_owned(), format.to_owned(), data.to_owned()));
    }
    let expected: Vec<String> = (1..=ids.len()).map(|n| n.to_string()).collect();
    assert_eq!(ids, expected, "every command has its own number");
    found
}

fn windows() {
    let input = input("");
    let expectation = &input.claims().expectation;
    let found = commands(&windows_syncml(&input).unwrap());
    let node =
        format!("./User/Vendor/MSFT/ClientCertificateInstall/SCEP/{}", input.claims().challenge_id);
    let order: Vec<(&str, &str, &str)> = found
        .iter()
        .map(|(command, target, format, _)| {
            (command.as_str(), target.strip_prefix(&node).unwrap(), format.as_str())
        })
        .collect();
    let documented = [
        ("Add", "", "node"),
        ("Add", "/Install/ServerURL", "chr"),
        ("Add", "/Install/Challenge", "chr"),
        ("Add", "/Install/EKUMapping", "chr"),
        ("Add", "/Install/KeyUsage", "int"),
        ("Add", "/Install/SubjectName", "chr"),
        ("Add", "/Install/KeyProtection", "int"),
        ("Add", "/Install/RetryDelay", "int"),
        ("Add", "/Install/RetryCount", "int"),
        ("Add", "/Install/KeyLength", "int"),
        ("Add", "/Install/HashAlgorithm", "chr"),
        ("Add", "/Install/CAThumbprint", "chr"),
        ("Add", "/Install/SubjectAlternativeNames", "chr"),
        ("Exec", "/Install/Enroll", ""),
    ];
    assert_eq!(order, documented);
    let data: Vec<&str> = found.iter().map(|(.., data)| data.as_str()).collect();
    assert_eq!(data[1], URLS.join(";"));
    assert_eq!(data[2], challenge(&input));
    let printable = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
    assert!(data[2].bytes().all(printable), "Windows demands a PrintableString");
    assert_eq!(data[3], "1.3.6.1.5.5.7.3.2+1.3.6.1.5.5.7.3.14");
    assert_eq!(data[4], "160", "0xA0");
    let spiteful = SPITEFUL.replace('"', "\"\"");
    assert_eq!(
        data[5],
        format!(
            "C=CH, O=\"Example, Inc.\" + OU=\"Sales + More\", DC=example, \
             OID.2.5.4.5=\"C02,X+K1\", E=\"zoe+1@example.org\", CN=\"{spiteful}\""
        )
    );
    assert_eq!(data[6..9], ["3", "5", "3"]);
    assert_eq!(data[9], "2048");
    assert_eq!(data[10], "SHA-2");
    assert_eq!(data[11], sha1(&ca()));
    assert_eq!(
        data[12],
        "11+zoë+1@example.org;2+zoe+1@example.org;3+one.example.org;3+two.example.org;\
         7+urn:example:a,b&c"
    );

    let subject = x500(data[5]);
    assert_eq!(subject, expectation.subject);
    let names = data[12].split(';').map(|pair| match pair.split_once('+').unwrap() {
        ("2", text) => GeneralName::email(text).unwrap(),
        ("3", text) => GeneralName::dns(text).unwrap(),
        ("7", text) => GeneralName::uri(text).unwrap(),
        ("11", text) => GeneralName::upn(text).unwrap(),
        other => panic!("{other:?}"),
    });
    let purposes = data[3].split('+').map(|oid| ObjectIdentifier::new(oid).unwrap()).collect();
    let request = CsrBuilder {
        subject,
        subject_alt_names: names.collect(),
        key_usage: Some(KeyUsages::DIGITAL_SIGNATURE.union(KeyUsages::KEY_ENCIPHERMENT)),
        extended_key_usages: ExtendedKeyUsages::new(purposes),
        challenge_password: Some(Secret::new(data[2].to_owned())),
        ..CsrBuilder::default()
    };
    assert!(approved(&request, data[2]));
    let key_usage = Some(KeyUsages::DIGITAL_SIGNATURE);
    assert!(!approved(&CsrBuilder { key_usage, ..request }, data[2]));
}

fn stores() {
    let device = Profile::from_toml(
        "id = 'd'\nfor = 'device'\nsubject = 'CN={{DeviceId}}'\nkey_usage = ['keyEncipherment']\n\
         extended_key_usages = ['clientAuth']\nkey_algorithms = ['rsa4096', 'rsa2048']\n\
         validity = '90d'",
    )
    .unwrap();
    let input = |key| {
        PayloadInput::new(vec![URLS[0].into()], mint(&device))
            .unwrap()
            .with_ca_certificate(ca())
            .with_windows_key(key)
    };
    for (key, protection, bits) in [
        (WindowsKey::Tpm, "1", "2048"),
        (WindowsKey::TpmIfPresent, "2", "2048"),
        (WindowsKey::Software, "3", "4096"),
    ] {
        let found = commands(&windows_syncml(&input(key)).unwrap());
        let of = |setting: &str| {
            let end = format!("/Install/{setting}");
            found.iter().find(|(_, target, ..)| target.ends_with(&end)).map(|(.., d)| d.as_str())
        };
        assert!(found.iter().all(|(_, target, ..)| target.starts_with("./Device/Vendor/MSFT/")));
        assert_eq!(of("KeyProtection"), Some(protection));
        assert_eq!(of("KeyLength"), Some(bits));
        assert_eq!(of("KeyUsage"), Some("32"));
        assert_eq!(of("SubjectAlternativeNames"), None, "there are none");
    }
}

fn plain_json() {
    let input = input("");
    let claims = input.claims();
    let value = json(&input);
    assert_eq!(value["urls"], serde_json::json!(URLS));
    assert_eq!(value["challenge_id"], claims.challenge_id.to_string());
    assert_eq!(value["expires_at"], claims.expires_at.to_string());
    assert_eq!(value["device"], "device-7");
    assert_eq!(value["user"], "zoe@example.org");
    assert_eq!(value["subject_rdns"][1][1]["value"], "Sales + More");
    assert_eq!(value["subject_rdns"][5][0]["value"], SPITEFUL);
    assert_eq!(
        value["subject_alt_names"][0],
        serde_json::json!({ "kind": "upn", "value": "zoë+1@example.org" })
    );
    assert_eq!(value["key_usage"], serde_json::json!(["digitalSignature", "keyEncipherment"]));
    assert_eq!(value["extended_key_usages"][0]["name"], "clientAuth");
    assert_eq!(value["key_algorithms"][2], "rsa2048");
    assert_eq!(value["validity_seconds"], 90 * 86_400);
    // What it holds is a challenge: the gateway opens it.
    assert!(challenge(&input).len() > 500);
}

fn debug() {
    let minted = mint(&profile(""));
    let text = minted.text.clone();
    assert!(!format!("{minted:?}").contains(&text[..40]));
    let input = PayloadInput::new(vec![], minted).unwrap();
    let shown = format!("{input:?}");
    assert!(shown.contains("device-7"), "it does show the claims");
    assert!(!shown.contains(&text[..40]));
}

fn uuids() {
    let input = input("");
    let first = apple_mobileconfig(&input).unwrap();
    assert_eq!(first, apple_mobileconfig(&input).unwrap());
    let of = |text: &str| {
        let parts: Vec<String> = text
            .split("<key>PayloadUUID</key>\n<string>")
            .skip(1)
            .map(|s| s[..36].to_owned())
            .collect();
        let [a, b] = parts.as_slice() else { panic!("two") };
        (a.clone(), b.clone())
    };
    let (a, b) = of(&first);
    for uuid in [&a, &b] {
        assert_eq!(&uuid[14..15], "5", "the version");
        assert!("89AB".contains(&uuid[19..20]), "the variant");
    }
    let other = self::input("");
    let (c, _) = of(&apple_mobileconfig(&other).unwrap());
    assert!(a != b && a != c, "another challenge, another payload");
}

fn apple_limits() {
    let form = Form::AppleMobileconfig;
    let refused = |line: &str| apple_mobileconfig(&input(line)).unwrap_err();
    assert_eq!(refused("demand_usages = true"), PayloadError::UsagesDemanded);
    assert_eq!(
        refused("key_usage = ['digitalSignature', 'keyAgreement']"),
        PayloadError::KeyUsage { form, usage: "keyAgreement" }
    );
    assert_eq!(refused("key_usage = ['keyAgreement']"), PayloadError::KeyUsageMissing { form });
    let allowed = "p256, rsa3072".to_owned();
    assert_eq!(
        refused("key_algorithms = ['p256', 'rsa3072']"),
        PayloadError::Key { form, sizes: "2048 and 4096", allowed }
    );
    let none = PayloadInput::new(vec![], mint(&profile(""))).unwrap();
    assert_eq!(apple_mobileconfig(&none), Err(PayloadError::UrlMissing { form }));
    for (name, kind) in others() {
        let mut minted = mint(&profile(""));
        minted.claims.expectation.subject_alt_names.push(name);
        let input = PayloadInput::new(vec![URLS[0].into()], minted).unwrap();
        let error = apple_mobileconfig(&input).unwrap_err();
        assert!(matches!(error, PayloadError::SubjectAltName { kind: k, .. } if k == kind));
        assert!(error.to_string().contains(kind), "{error}");
    }
    let mut minted = mint(&profile(""));
    minted.claims.expectation.subject_alt_names = vec![GeneralName::ip([192, 0, 2, 1].into())];
    let input = PayloadInput::new(vec![URLS[0].into()], minted).unwrap();
    let error = apple_mobileconfig(&input).unwrap_err();
    assert!(error.to_string().contains("kind ip"), "{error}");
}

/// Names of the kinds that neither form has.
fn others() -> Vec<(GeneralName, &'static str)> {
    let oid = ObjectIdentifier::new("1.2.3.4").unwrap();
    vec![
        (GeneralName::Other(oid, vec![0x05, 0x00]), "otherName"),
        (GeneralName::X400(vec![0x30, 0x00]), "x400"),
        (GeneralName::Directory("CN=x".parse().unwrap()), "directory"),
        (GeneralName::EdiParty(vec![]), "ediParty"),
        (GeneralName::RegisteredId(oid), "registeredId"),
        (GeneralName::Ip(vec![0; 16]), "ip"),
    ]
}

fn windows_limits() {
    let form = Form::WindowsSyncml;
    let refused = |line: &str| windows_syncml(&input(line)).unwrap_err();
    assert_eq!(
        refused("key_usage = ['digitalSignature', 'decipherOnly']"),
        PayloadError::KeyUsage { form, usage: "decipherOnly" }
    );
    assert_eq!(refused("subject = ''"), PayloadError::SubjectMissing);
    let with = |change: fn(&mut Minted)| {
        let mut minted = mint(&profile(""));
        change(&mut minted);
        PayloadInput::new(vec![URLS[0].into()], minted).unwrap()
    };
    assert_eq!(windows_syncml(&with(|_| ())), Err(PayloadError::CaMissing));
    let input = with(|minted| {
        let uri = GeneralName::uri("urn:a;3+admin.example.org").unwrap();
        minted.claims.expectation.subject_alt_names = vec![uri];
    });
    let error = windows_syncml(&input.with_ca_certificate(ca())).unwrap_err();
    assert!(matches!(error, PayloadError::SubjectAltName { kind: "uri", .. }), "{error}");
    for (name, kind) in others() {
        let mut minted = mint(&profile(""));
        minted.claims.expectation.subject_alt_names.push(name);
        let input = PayloadInput::new(vec![URLS[0].into()], minted).unwrap();
        let error = windows_syncml(&input.with_ca_certificate(ca())).unwrap_err();
        assert!(error.to_string().contains(kind), "{error}");
    }
    let url = "https://scep.example.org/a;b".to_owned();
    let input = PayloadInput::new(vec![url.clone()], mint(&profile(""))).unwrap();
    let error = windows_syncml(&input.with_ca_certificate(ca())).unwrap_err();
    assert_eq!(error, PayloadError::UrlSemicolon { url });
}

fn inputs() {
    for url in ["", "ftp://a", "https://", "https://a b", "https://\u{e4}", "javascript:https://a"]
    {
        let error = PayloadInput::new(vec![url.into()], mint(&profile(""))).unwrap_err();
        assert_eq!(error, PayloadError::Url { url: url.into() });
    }
    for field in 0..2 {
        let mut minted = mint(&profile(""));
        let e = &mut minted.claims.expectation;
        match field {
            0 => e.subject = "CN=a\u{fffe}b".parse().unwrap(),
            _ => e.subject_alt_names = vec![GeneralName::upn("a\u{ffff}@example.org").unwrap()],
        }
        let input = PayloadInput::new(vec![URLS[0].into()], minted).unwrap();
        let input = input.with_ca_certificate(ca());
        let error = |form| Err(PayloadError::NonCharacter { form });
        assert_eq!(apple_mobileconfig(&input), error(Form::AppleMobileconfig));
        assert_eq!(windows_syncml(&input), error(Form::WindowsSyncml));
    }
    for bad in ["", "a\u{0}b", "a\nb", "\u{fffe}"] {
        let input = PayloadInput::new(vec![], mint(&profile(""))).unwrap();
        let names = PayloadNames { display: bad.into(), ..PayloadNames::default() };
        let error = input.with_names(names).unwrap_err();
        assert_eq!(error, PayloadError::Name { field: "display" });
    }
}
