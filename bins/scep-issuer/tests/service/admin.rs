//! Every command of an administrator, once.

use crate::support::{PROFILE, Service};
use libtest_mimic::Trial;
use scep_testkit::process::peers::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("each_command_does_what_it_says", &[], each_command_does_what_it_says),
        trial("tables_and_json_say_the_same", &[], tables_and_json_say_the_same),
        trial("payloads_come_in_every_form", &[], payloads_come_in_every_form),
        trial("a_problem_names_the_field", &[], a_problem_names_the_field),
        trial("tokens_are_listed_and_revoked", &[], tokens_are_listed_and_revoked),
        trial("everything_is_there_after_a_restart", &[], everything_is_there_after_a_restart),
    ]
}

fn each_command_does_what_it_says() {
    let service = Service::new();
    let told = |words: &str| service.told(&words.split(' ').collect::<Vec<_>>());
    assert_eq!(told("tenant"), "id:  contoso\n");
    // What is questionable about a profile is said when it comes; it comes all the same.
    let spoofable = PROFILE.replace("{{DeviceId}}", "{{DeviceName}}");
    let path = service.place("wifi.toml", &spoofable);
    let path = path.to_str().unwrap();
    let linted = told(&format!("profile lint --file {path}"));
    assert!(linted.starts_with("needs: {{DeviceName}}\n"), "{linted}");
    let output =
        scep_testkit::process::run(&mut service.command(&["profile", "add", "--file", path]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("warning: "), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "profile wifi is there\n");
    std::fs::write(path, PROFILE).unwrap();
    assert_eq!(told(&format!("profile replace --file {path}")), "profile wifi is changed\n");
    assert!(told("profile list").contains("wifi  device  365d"));
    assert!(told("profile show wifi").contains("subject = \"O=Example, CN={{DeviceId}}\""));

    assert_eq!(told("user add ada -a UserName=ada"), "user ada is there\n");
    assert_eq!(told("user set ada -a EmailAddress=ada@example.org"), "user ada is changed\n");
    assert!(told("user list").contains("EmailAddress=ada@example.org"));
    assert!(told("user show ada").contains("attributes.EmailAddress:  ada@example.org"));

    assert_eq!(told("device add laptop-1 -a DeviceName=one"), "device laptop-1 is there\n");
    assert_eq!(told("device set laptop-1 -a DeviceName=two"), "device laptop-1 is changed\n");
    assert!(told("device list").contains("laptop-1  enrolled  DeviceName=two"));
    assert_eq!(told("device disable laptop-1"), "device laptop-1 is disabled\n");
    assert!(told("denial list").contains("device  laptop-1"));
    assert_eq!(told("device enable laptop-1"), "device laptop-1 is enrolled\n");
    assert_eq!(told("device wipe laptop-1"), "device laptop-1 is wiped\n");
    let refused = service.refused(&["device", "enable", "laptop-1"]);
    assert!(refused.contains("re-enrol"), "{refused}");
    assert_eq!(told("device re-enrol laptop-1"), "device laptop-1 is enrolled\n");
    assert!(told("device show laptop-1").contains("attributes.DeviceName:  two"));

    let assigned = told("assign --profile wifi --device laptop-1");
    assert_eq!(assigned, "device laptop-1 has profile wifi\n");
    assert_eq!(told("assign --profile wifi --user ada"), "user ada has profile wifi\n");
    assert!(told("assignments").contains("wifi     laptop-1  -"));
    let unassigned = told("unassign --profile wifi --user ada");
    assert_eq!(unassigned, "user ada no longer has profile wifi\n");
    let refused = service.refused(&["unassign", "--profile", "wifi", "--user", "ada"]);
    assert!(refused.contains("user ada does not have wifi"), "{refused}");

    let key = scep_testkit::keys::TestKey::RsaA.public_key();
    let key = service.place("main.pub.pem", &scep_keys::public_key_pem(&key));
    let added = told(&format!("group add main --public-key {}", key.display()));
    assert_eq!(added, "gateway group main is there\n");
    assert!(told("group list").contains("main  known  not known"));
    assert!(told("group show main").contains("BEGIN PUBLIC KEY"));
    assert_eq!(told("group release-ledger main"), "gateway group main is bound to no ledger\n");

    assert!(told("challenge new --device laptop-1 --profile wifi").starts_with("MII"));
    let challenge = service.json(&["challenge", "list"])[0]["id"].as_str().unwrap().to_owned();
    assert!(told(&format!("challenge show {challenge}")).contains("laptop-1"));

    let enrol =
        told("gateway token new --group main --lifetime 2h --gateway-config gw/gateway.toml");
    let pin = service.local(&["fingerprint"]);
    let expected = format!(
        "scep-gateway enroll --config gw/gateway.toml --issuer {} --issuer-fingerprint {} --token ",
        service.url,
        pin.trim()
    );
    assert!(enrol.starts_with(&expected), "{enrol}");
    let tokens = service.json(&["gateway", "token", "list"]);
    assert_eq!(tokens[0]["state"], "unused");
    let id = tokens[0]["id"].as_str().unwrap();
    told(&format!("gateway token revoke {id}"));
    assert!(told("gateway token list").contains("withdrawn"));
    assert_eq!(told("gateway list"), "none\n");
    let nobody = "0".repeat(32);
    for command in ["show", "confirm", "resolve-clone"] {
        let refused = service.refused(&["gateway", command, &nobody]);
        assert!(refused.contains("There is no such resource: "), "{command}: {refused}");
    }

    assert_eq!(told("certificate list"), "none\n");
    assert_eq!(told("certificate list --device laptop-1 --state live"), "none\n");
    let thumbprint = "ab".repeat(32);
    service.refused(&["certificate", "show", &thumbprint]);
    let refused = service.refused(&["revoke", "--device", "laptop-1", "--reason", "superseded"]);
    assert!(refused.contains("There is no such certificate"), "{refused}");
    assert_eq!(told("revocation list"), "none\n");
    assert_eq!(told("revocation confirm --note nothing"), "0 orders: confirm\n");
    assert_eq!(told("revocation decline"), "0 orders: decline\n");

    assert_eq!(told("denial add profile wifi"), "profile wifi is disabled\n");
    let refused =
        service.refused(&["challenge", "new", "--device", "laptop-1", "--profile", "wifi"]);
    assert!(refused.contains("profile wifi (field profile)"), "{refused}");
    assert_eq!(told("denial remove profile wifi"), "profile wifi is enabled\n");
    assert_eq!(told("denial list"), "none\n");

    assert_eq!(told("event list --kind refused"), "none\n");
    assert_eq!(told("ledger list"), "none\n");
    assert_eq!(told("alarm list"), "none\n");
    assert_eq!(told("alarm list --all"), "none\n");
    service.refused(&["alarm", "acknowledge", "7"]);
    let report = told("report");
    assert!(report.contains("\n0 live certificates whose device is gone"), "{report}");

    told("unassign --profile wifi --device laptop-1");
    for (kind, id) in [("user", "ada"), ("device", "laptop-1"), ("profile", "wifi")] {
        assert_eq!(told(&format!("{kind} remove {id}")), format!("{kind} {id} is removed\n"));
        assert_eq!(told(&format!("{kind} list")), "none\n");
    }
    assert_eq!(told("group remove main"), "gateway group main is removed\n");
}

fn tables_and_json_say_the_same() {
    let service = Service::new();
    // More than a page: every page is asked for.
    for n in 0..3 {
        service.told(&["device", "add", &format!("d{n}"), "-a", "DeviceName=a\u{7}b"]);
    }
    let items = service.json(&["device", "list"]);
    assert_eq!(items.as_array().unwrap().len(), 3);
    let table = service.told(&["device", "list"]);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.starts_with("ID  STATE     ATTRIBUTES\nd0  enrolled  "), "{table}");
    assert!(!table.contains('\u{7}'), "{table}");
    let one = service.json(&["device", "show", "d1"]);
    assert_eq!(one, items[1]);
    assert_eq!(service.json(&["device", "remove", "d1"])["removed"], "d1");
    assert_eq!(service.json(&["report"])["device_gone"]["count"], 0);
}

fn payloads_come_in_every_form() {
    let service = Service::new();
    service.furnish_group();
    let new = ["challenge", "new", "--device", "laptop-1", "--profile", "wifi"];
    let form = |form: &'static str| [&new[..], &["--format", form]].concat();
    let json = service.told(&form("json"));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["device"], "laptop-1");
    assert!(service.told(&form("mobileconfig")).contains("com.apple.security.scep"));
    // Windows needs the CA, which is the group's.
    let refused = service.refused(&form("syncml"));
    assert!(refused.starts_with("scep-issuer: --format: ") && refused.contains("CAThumbprint"));
    let ca = scep_testkit::house::device_certificate(&scep_testkit::keys::rsa2048(0));
    let ca = service.place("ca.pem", &scep_keys::certificates_pem(&[ca]));
    service.told(&["group", "set-ca", "main", "--certificate", ca.to_str().unwrap()]);
    assert!(service.told(&form("syncml")).contains("ClientCertificateInstall"));
    let whole = service.json(&new);
    assert!(whole["payloads"]["syncml"].is_string() && whole["challenge"].is_string());
}

fn a_problem_names_the_field() {
    let service = Service::new();
    let refused = service.refused(&["device", "add", "laptop-1", "-a", "Shoe=44"]);
    let expected = "scep-issuer: A value is not acceptable: no variable has this name (field attributes.Shoe)\n";
    assert_eq!(refused, expected);
    let refused = service.refused(&["device", "add", "a b"]);
    assert!(refused.contains("(field id)"), "{refused}");
    let refused = service.refused(&["device", "add", "d", "-a", "DeviceName"]);
    assert!(refused.starts_with("scep-issuer: --attribute: "), "{refused}");
    // An id from the command line is one part of a path, whatever is in it.
    let refused = service.refused(&["device", "show", "../profiles"]);
    assert!(refused.contains("There is no such resource"), "{refused}");
}

fn tokens_are_listed_and_revoked() {
    let service = Service::new();
    let list: serde_json::Value =
        serde_json::from_str(&service.local(&["token", "list", "--json"])).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(list[0]["scopes"], serde_json::json!(["admin"]));
    let id = list[0]["id"].as_str().unwrap();
    assert!(service.local(&["token", "list"]).contains(&format!("{id}  contoso  admin")));
    service.told(&["tenant"]);
    service.local(&["token", "revoke", id]);
    let refused = service.refused(&["tenant"]);
    assert!(refused.contains("A valid bearer token is needed"), "{refused}");
    assert!(refused.contains("token create"), "{refused}");
    let mut again = crate::support::program();
    again.args(["token", "revoke", id, "--config"]).arg(service.config());
    assert!(crate::support::failed(&mut again).contains("no such token"));
}

fn everything_is_there_after_a_restart() {
    let mut service = Service::new();
    service.furnish_group();
    let before = service.json(&["challenge", "new", "--device", "laptop-1", "--profile", "wifi"]);
    service.stop();
    service.start();
    let after = service.json(&["challenge", "list"]);
    assert_eq!(after[0]["id"], before["id"]);
    assert_eq!(service.json(&["group", "list"])[0]["id"], "main");
    let log = service.log();
    for secret in ["scepiss_", before["challenge"].as_str().unwrap()] {
        assert!(!log.contains(secret), "{log}");
    }
}
