//! The configuration as a whole, by the example that goes with the program.

use super::*;
use crate::renewal::Renewal;
use scep_server::CrlSettings;

const EXAMPLE: &str = include_str!("../../config.example.toml");

#[test]
fn the_example_has_only_known_keys() {
    let raw: Raw = toml::from_str(EXAMPLE).unwrap();
    assert_eq!(raw.endpoints.len(), 2);
}

fn provider() -> Arc<dyn CryptoProvider> {
    Arc::new(scep_keys::AwsLc)
}

/// The example with its `[connector]` section in force, and without the keys that this excludes.
fn with_connector() -> String {
    let start = EXAMPLE.find("# [connector]").unwrap();
    let end = start + EXAMPLE[start..].find("\n\n").unwrap();
    let section = EXAMPLE[start..end].lines().filter_map(|line| {
        let line = line.strip_prefix("# ")?;
        let key = line.split(' ').next()?;
        let word = key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        (line.starts_with('[') || (word && line[key.len()..].starts_with(" = "))).then_some(line)
    });
    let section: Vec<&str> = section.collect();
    let mut text = format!("{}{}{}", &EXAMPLE[..start], section.join("\n"), &EXAMPLE[end..]);
    let signers = text.find("[[challenge.signers]]").unwrap();
    let after = signers + text[signers..].find("\n\n").unwrap();
    text.replace_range(signers..after, "");
    text.replace("decryption_key = \"challenge.key.pem\"", "")
}

#[test]
fn attack_63_no_gateway_of_a_group_replaces_its_ra_by_itself() {
    let renewal = |ledger: &str, ra: &str| {
        let text = EXAMPLE.replacen("ledger = \"ledger.sqlite\"", ledger, 1);
        let text = text.replacen("[ra]", &format!("[ra]\n{ra}"), 1);
        let raw: Raw = toml::from_str(&text).unwrap();
        let base = Path::new("gw");
        let ledger = raw.ledger.check(base, &raw.revocations).unwrap();
        let provider = provider();
        let mut context = Context::new(base, Timestamp::EPOCH, &provider);
        context.shared_ledger = ledger.is_shared();
        raw.ra.check(&context, &AuthorityName::main()).unwrap().renewal
    };
    let own = "ledger = \"ledger.sqlite\"";
    let shared = "ledger = { kind = \"postgres\", connection = \"host=/run\" }";
    for (ledger, ra, expected) in [
        (own, "", Renewal::Auto),
        (shared, "", Renewal::Manual),
        (own, "renewal = \"manual\"", Renewal::Manual),
        (shared, "renewal = \"auto\"", Renewal::Auto),
    ] {
        assert_eq!(renewal(ledger, ra), expected, "{ledger} {ra}");
    }
}

#[test]
fn the_examples_shared_ledger_has_every_key_there_is() {
    let start = EXAMPLE.find("# [ledger]").unwrap();
    let end = start + EXAMPLE[start..].find("\n\n").unwrap();
    let lines = EXAMPLE[start..end].lines().filter_map(|line| {
        let line = line.strip_prefix("# ")?;
        (line.starts_with('[') || line.contains(" = \"")).then_some(line)
    });
    let section: Vec<&str> = lines.collect();
    let text = EXAMPLE.replacen("ledger = \"ledger.sqlite\"", "", 1);
    let text = format!("{text}\n{}", section.join("\n"));
    let table: toml::Table = toml::from_str(&text).unwrap();
    assert_eq!(table["ledger"].as_table().unwrap().len(), 6);
    let raw: Raw = toml::from_str(&text).unwrap();
    // All is read and accepted up to the password, whose file is not there.
    let error = raw.ledger.check(Path::new("gw"), &raw.revocations).unwrap_err().to_string();
    assert!(error.contains("ledger.password"), "{error}");
}

#[test]
fn the_examples_scep_server_has_every_key_there_is() {
    let start = EXAMPLE.find("# kind = \"scep\"").unwrap();
    let end = start + EXAMPLE[start..].find("\n\n").unwrap();
    let lines: Vec<&str> = EXAMPLE[start..end]
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| line.split(' ').nth(1) == Some("="))
        .collect();
    let check = |lines: &[&str]| -> Result<(), String> {
        let raw: RawCa = toml::from_str(&lines.join("\n")).map_err(|error| error.to_string())?;
        let provider: Arc<dyn CryptoProvider> = Arc::new(scep_keys::AwsLc);
        let folder = tempfile::tempdir().unwrap();
        let key = scep_testkit::keys::rsa2048(2);
        key.write_new(&folder.path().join("upstream.key.pem")).unwrap();
        let (name, year) = ("CN=CA".parse().unwrap(), Duration::from_secs(31_536_000));
        let now = Timestamp::from_seconds(1_800_000_000);
        let root = LocalCa::self_signed_root(&*key.signer(), &name, year, now, &*provider).unwrap();
        let root = scep_keys::certificates_pem(&[root]);
        for file in ["ca.cert.pem", "upstream.pem", "upstream-ca.pem"] {
            std::fs::write(folder.path().join(file), &root).unwrap();
        }
        let mut context = Context::new(folder.path(), now, &provider);
        let checked = raw.check(&mut context, &AuthorityName::main());
        checked.map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(check(&lines), Ok(()));
    for needed in ["url", "certificate", "key"] {
        let key = format!("{needed} =");
        let fewer: Vec<&str> =
            lines.iter().filter(|line| !line.starts_with(&key)).copied().collect();
        let error = check(&fewer).unwrap_err();
        assert!(error.contains(&format!("missing field `{needed}`")), "{error}");
    }
    let misspelt: Vec<String> = lines.iter().map(|line| line.replace("legacy", "lagacy")).collect();
    let misspelt: Vec<&str> = misspelt.iter().map(String::as_str).collect();
    assert!(check(&misspelt).unwrap_err().contains("unknown field `lagacy`"));
}

#[cfg(feature = "openbao")]
#[test]
fn the_examples_openbao_has_every_key_there_is() {
    let start = EXAMPLE.find("# kind = \"openbao\"").unwrap();
    let end = start + EXAMPLE[start..].find("\n\n").unwrap();
    let lines: Vec<&str> = EXAMPLE[start..end]
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| line.split(' ').nth(1) == Some("="))
        .collect();
    let read = |leave_out: &[&str]| {
        let kept = lines.iter().filter(|line| !leave_out.iter().any(|out| line.contains(out)));
        toml::from_str::<RawCa>(&kept.copied().collect::<Vec<_>>().join("\n")).unwrap()
    };
    let error = |raw: RawCa| {
        let provider: Arc<dyn CryptoProvider> = Arc::new(scep_keys::AwsLc);
        let folder = tempfile::tempdir().unwrap();
        let signer = scep_testkit::keys::p256(0).signer();
        let (name, year) = ("CN=CA".parse().unwrap(), Duration::from_secs(31_536_000));
        let now = Timestamp::from_seconds(1_800_000_000);
        let root = LocalCa::self_signed_root(&*signer, &name, year, now, &*provider).unwrap();
        let root = scep_keys::certificates_pem(&[root]);
        std::fs::write(folder.path().join("ca.cert.pem"), root).unwrap();
        let mut context = Context::new(folder.path(), now, &provider);
        let checked = raw.check(&mut context, &AuthorityName::main());
        checked.map(drop).map_or_else(|error| error.to_string(), |()| String::new())
    };
    let tls = "tls_roots";
    assert_eq!(error(read(&["token_env", "approle", tls])), "");
    assert_eq!(error(read(&["token_file", "token_env", "secret_id_env", tls])), "");
    // No two ways of logging in, and one at least.
    for out in [&["approle", tls][..], &["token_file", "token_env", "approle", tls]] {
        assert!(error(read(out)).contains("one of token_file"), "{}", error(read(out)));
    }
    assert!(error(read(&["token_file", "approle", tls])).contains("BAO_TOKEN is not set"));
    assert!(error(read(&["token_env", "approle"])).contains("bao-ca.pem"));
    let unknown = format!("{}\ntoken = \"x\"", lines[..4].join("\n"));
    let refused = toml::from_str::<RawCa>(&unknown).unwrap_err().to_string();
    assert!(refused.contains("unknown field"), "{refused}");
}

/// What the example says in a comment, from one of its lines to the next empty one.
fn commented(from: &str) -> String {
    let start = EXAMPLE.find(from).unwrap();
    let end = start + EXAMPLE[start..].find("\n\n").unwrap();
    let lines = EXAMPLE[start..end].lines().filter_map(|line| line.strip_prefix("# "));
    let lines = lines.filter(|line| line.starts_with('[') || line.split(' ').nth(1) == Some("="));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_examples_other_cas_and_roll_over_have_every_key_there_is() {
    let authorities = commented("# [[authorities]]");
    let (rollover, ocsp) = (commented("# [rollover]"), commented("# [ocsp]"));
    let table: toml::Table = toml::from_str(&authorities).unwrap();
    assert_eq!(table["authorities"][0].as_table().unwrap().len(), 8, "{authorities}");
    let raw: Raw =
        toml::from_str(&format!("{EXAMPLE}\n{authorities}\n{rollover}\n{ocsp}")).unwrap();
    let main = RawAuthority::main(raw.ca, raw.crl, raw.ocsp, raw.ra, raw.rollover).unwrap();
    // Both speak of CAs that an example does not have.
    let error = authorities::all(main, raw.authorities).unwrap_err().to_string();
    assert!(error.contains("no CA is called g2; there are main, vpn"), "{error}");
}

#[test]
fn the_examples_endpoint_has_every_key_there_is() {
    let start = EXAMPLE.find("# ca = \"main\"").unwrap();
    let end = start + EXAMPLE[start..].find("\n\n").unwrap();
    let lines = EXAMPLE[start..end].lines().filter_map(|line| line.strip_prefix("# "));
    let lines: Vec<&str> = lines.filter(|line| line.split(' ').nth(1) == Some("=")).collect();
    let text = format!("path = \"/\"\npreset = \"apple\"\n{}", lines.join("\n"));
    let table: toml::Table = toml::from_str(&text).unwrap();
    assert_eq!(table.len(), 11);
    let raw = toml::from_str(&text).unwrap();
    let checked = check_endpoints(vec![raw], &[AuthorityName::main()]).unwrap();
    // What it says of each is what the generic preset does.
    let mut expected = Endpoint::generic("/");
    expected.name = "apple".into();
    expected.profiles = checked[0].profiles.clone();
    assert_eq!(format!("{:?}", checked[0]), format!("{expected:?}"));
    assert_eq!(checked[0].profiles.as_ref().unwrap().len(), 2);
}

/// A choice of an endpoint as the configuration calls it.
fn word(choice: &dyn core::fmt::Debug) -> String {
    match format!("{choice:?}").as_str() {
        "CsrKey" => "csr-key".into(),
        "LeafAndCa" => "leaf-and-ca".into(),
        "Strict" => "false".into(),
        "AllowBmp" => "true".into(),
        other => other.to_lowercase(),
    }
}

#[test]
fn the_operators_table_says_what_each_preset_is() {
    const OPERATING: &str = include_str!("../../../OPERATING.md");
    let lines = OPERATING.lines().skip_while(|line| !line.starts_with("| preset | signer |"));
    let rows: Vec<Vec<&str>> = lines
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let expected: Vec<Vec<String>> = scep_server::Preset::ALL
        .iter()
        .map(|preset| {
            let forms = scep_server::CaCertForm::NAMED;
            let form = forms.iter().find(|(_, form)| *form == preset.ca_cert).unwrap().0;
            let quirks: Vec<String> = preset.quirks.iter().map(u8::to_string).collect();
            vec![
                format!("`{}`", preset.name),
                word(&preset.signer),
                word(&preset.reply),
                form.to_owned(),
                word(&preset.digest),
                word(&preset.cipher),
                word(&preset.strings),
                if quirks.is_empty() { "none".into() } else { quirks.join(", ") },
            ]
        })
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn the_examples_connector_has_every_key_there_is() {
    let text = with_connector();
    let raw: Raw = toml::from_str(&text).unwrap();
    raw.challenge.absent().unwrap();
    let link = raw.connector.unwrap().check(Path::new("gw"), Duration::from_secs(3_900)).unwrap();
    assert_eq!(link.settings.issuer.as_str(), "https://issuer.example.org");
    assert!(link.settings.proxy.is_some());
    assert_eq!(link.state_path, Path::new("gw/connector/state.json"));
    assert_eq!(link.settings.status_folder.as_deref(), Some(Path::new("gw/status")));
    assert_eq!((link.settings.wait_seconds, link.settings.status_files), (60, 1_000));
    let table: toml::Table = toml::from_str(&text).unwrap();
    assert_eq!(table["connector"].as_table().unwrap().len(), 8);
}

#[test]
fn a_connector_excludes_keys_of_the_configuration() {
    let text = with_connector();
    for (find, replace, named) in [
        ("[challenge]", "[challenge]\ndecryption_key = \"a\"", "challenge.decryption_key"),
        (
            "[challenge]",
            "[challenge]\nrenew_without_issuer = true",
            "challenge.renew_without_issuer",
        ),
        (
            "[[endpoints]]",
            "[[challenge.signers]]\npublic_key = \"a\"\nnot_before = \"\"\nnot_after = \"\"\n[[endpoints]]",
            "challenge.signers",
        ),
        (
            "[[endpoints]]",
            "[[challenge.previous_keys]]\nkey = \"a\"\nnot_after = \"\"\n[[endpoints]]",
            "challenge.previous_keys",
        ),
    ] {
        let raw: Raw = toml::from_str(&text.replacen(find, replace, 1)).unwrap();
        let error = raw.challenge.absent().unwrap_err().to_string();
        assert!(error.contains(named) && error.contains("[connector]"), "{error}");
    }
}

#[test]
fn attack_03_certificates_renew_themselves_while_an_issuer_is_heard_or_where_an_operator_says_so() {
    use scep_server::RenewalContact::{NotNeeded, Within};
    let hours = |n: u64| Within(Duration::from_secs(n * 3_600));
    for (offline, expected) in
        [("refuse-after", hours(24)), ("serve", hours(24)), ("12h", hours(12))]
    {
        let text = with_connector().replacen("refuse-after", offline, 1);
        let raw: Raw = toml::from_str(&text).unwrap();
        let link = raw.connector.unwrap().check(Path::new("gw"), Duration::ZERO).unwrap();
        assert_eq!(link.renewal_contact(), expected, "{offline}");
    }
    for (line, expected) in [
        ("", hours(24)),
        ("renew_without_issuer = false", hours(24)),
        ("renew_without_issuer = true", NotNeeded),
    ] {
        let text = EXAMPLE.replacen("[challenge]", &format!("[challenge]\n{line}"), 1);
        let raw: Raw = toml::from_str(&text).unwrap();
        assert_eq!(raw.challenge.renewal_contact(), expected, "{line}");
    }
}

#[test]
fn the_crl_has_a_path_of_its_own_and_time_to_be_renewed() {
    let check = |path: Option<&str>, validity: Option<&str>| {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        RawCrl { path: owned(path), validity: owned(validity) }.check(&AuthorityName::main()).ok()
    };
    assert_eq!(check(None, None), Some(CrlSettings::default()));
    let settings = check(Some("/pki/ca.crl"), Some("2d")).unwrap();
    assert_eq!((&*settings.path, settings.validity.as_secs()), ("/pki/ca.crl", 2 * 86_400));
    for path in ["/", "crl", "", "/crl?x"] {
        assert_eq!(check(Some(path), None), None, "{path}");
    }
    for validity in ["59m", "0d", "soon"] {
        assert_eq!(check(None, Some(validity)), None, "{validity}");
    }
    let raw: Raw = toml::from_str(EXAMPLE).unwrap();
    assert_eq!(raw.crl.check(&AuthorityName::main()).ok(), Some(CrlSettings::default()));
}

#[test]
fn attack_64_unknown_keys_fail() {
    for (find, replace) in [
        ("[crl]", "[crl]\nsign = false"),
        ("tenant = ", "skip_checks = true\ntenant = "),
        ("[ra]", "[ra]\nallow_anonymous = true"),
        ("[challenge]", "[challenge]\nstatic_password = \"x\""),
        ("path = \"/\"", "path = \"/\"\nskip_san_check = true"),
        ("kind = \"local\"", "kind = \"local\"\nanything = 1"),
        ("[connector]", "[connector]\nskip_verify = true"),
    ] {
        let example = if find == "[connector]" { with_connector() } else { EXAMPLE.into() };
        let text = example.replacen(find, replace, 1);
        assert_ne!(text, example);
        let error = toml::from_str::<Raw>(&text).unwrap_err().to_string();
        assert!(error.contains("unknown field"), "{find}: {error}");
    }
    let authority = commented("# [[authorities]]");
    for more in [
        format!("{authority}\nskip_checks = true"),
        format!("{authority}\n[authorities.rollover]\nnext = \"x\""),
        "[rollover]\nfollows = \"x\"".to_owned(),
    ] {
        let error = toml::from_str::<Raw>(&format!("{EXAMPLE}\n{more}")).unwrap_err().to_string();
        assert!(error.contains("unknown field"), "{more}: {error}");
    }
}

#[test]
fn attack_59_trusted_proxies_are_addresses_and_never_everybody() {
    let read = |list: &str| {
        let key = format!("trusted_proxies = {list}\nadmin_listen");
        let raw: Raw = toml::from_str(&EXAMPLE.replacen("admin_listen", &key, 1)).unwrap();
        proxies(&raw.trusted_proxies).map_err(|error| error.to_string())
    };
    let some = read("[\"127.0.0.1\", \"10.0.0.0/29\", \"fd00::/64\"]").unwrap();
    let texts: Vec<String> = some.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["127.0.0.1/32", "10.0.0.0/29", "fd00::/64"]);
    assert_eq!(read("[]"), Ok(Vec::new()));
    for wrong in ["0.0.0.0/0", "::/0", "proxy.example.org", "10.0.0.1/29", ""] {
        let error = read(&format!("[{wrong:?}]")).unwrap_err();
        assert!(error.contains("trusted_proxies") && error.contains(wrong), "{error}");
    }
}
