//! The issuer's keys: rotated, taken up while the service runs, retired.

use crate::support::{Service, failed, program};
use libtest_mimic::Trial;
use scep_testkit::process::peers::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "a_new_signing_key_signs_after_a_signal",
            &[],
            a_new_signing_key_signs_after_a_signal,
        ),
        trial("a_key_is_retired_and_destroyed", &[], a_key_is_retired_and_destroyed),
        trial(
            "a_broken_configuration_changes_nothing",
            &[],
            a_broken_configuration_changes_nothing,
        ),
        trial("a_new_tls_certificate_is_taken_up", &[], a_new_tls_certificate_is_taken_up),
        trial("one_key_becomes_a_list", &[], one_key_becomes_a_list),
    ]
}

const READ: &str = "keys and certificates were read anew";

fn a_new_signing_key_signs_after_a_signal() {
    let mut service = Service::new();
    service.furnish_group();
    let first = service.key_ids("signing");
    assert_eq!(first.len(), 1);
    assert_eq!(service.signs(&first), first[0]);
    let told = service.local(&["key", "rotate", "--what", "signing", "--overlap", "2d"]);
    let keys = service.key_ids("signing");
    assert_eq!((keys.len(), &keys[1]), (2, &first[0]));
    assert!(told.contains(&keys[0]), "{told}");
    // The service does not know it yet.
    assert_eq!(service.signs(&keys), keys[1]);
    service.hang_up(READ);
    // The group has no gateway that must know it first.
    assert_eq!(service.signs(&keys), keys[0]);
    service.stop();
    service.start();
    assert_eq!(service.signs(&keys), keys[0]);
    let list = service.local(&["key", "list"]);
    assert_eq!(list.lines().count(), 7, "{list}");
    for certificate in ["TLS certificate", "TLS CA certificate", "connector CA certificate"] {
        assert!(list.contains(&format!("\n{certificate} ")), "{list}");
    }
    assert!(list.contains("newest") && list.contains("command"), "{list}");
}

fn a_key_is_retired_and_destroyed() {
    let service = Service::init(&[]);
    let only = service.key_ids("command").remove(0);
    let retire = |id: &str, more: &[&str]| {
        let mut command = program();
        command.args(["key", "retire", id]).args(more).arg("--config");
        command.arg(service.config());
        command
    };
    assert!(failed(&mut retire(&only, &[])).contains("only valid command key"));
    assert!(failed(&mut retire("zz", &[])).contains("no key's id"));
    assert!(failed(&mut retire("", &[])).contains("several keys' ids"));
    service.local(&["key", "rotate", "--what", "command"]);
    assert!(service.file("command.key.pem").exists());
    scep_testkit::process::must(&mut retire(&only[..12], &[]));
    assert!(!service.file("command.key.pem").exists());
    let left = service.key_ids("command");
    assert!(left.len() == 1 && left[0] != only, "{left:?}");
    service.local(&["key", "rotate", "--what", "command"]);
    scep_testkit::process::must(&mut retire(&left[0], &["--keep-file"]));
    assert!(service.file(&format!("command-{}.key.pem", left[0])).exists());
}

fn a_broken_configuration_changes_nothing() {
    let service = Service::new();
    service.furnish_group();
    let keys = service.key_ids("signing");
    let good = std::fs::read_to_string(service.config()).unwrap();
    std::fs::write(service.config(), good.replace("command.key.pem", "gone.key.pem")).unwrap();
    service.hang_up("nothing was read anew");
    assert!(service.log().contains("gone.key.pem"), "{}", service.log());
    assert_eq!(service.signs(&keys), keys[0]);
    std::fs::write(service.config(), good).unwrap();
    service.hang_up(READ);
    assert_eq!(service.signs(&keys), keys[0]);
}

fn a_new_tls_certificate_is_taken_up() {
    let mut service = Service::new();
    let pin = service.local(&["fingerprint"]);
    // The names of the configuration are those of the certificate: others are taken up with the same key.
    let config = std::fs::read_to_string(service.config()).unwrap();
    let named = config.replace("\"localhost\"", "\"localhost\", \"issuer.example.org\"");
    assert_ne!(config, named);
    std::fs::write(service.config(), named).unwrap();
    let before = std::fs::read(service.file("tls.chain.pem")).unwrap();
    service.hang_up("the TLS certificate was renewed");
    assert_ne!(std::fs::read(service.file("tls.chain.pem")).unwrap(), before);
    assert_eq!(service.local(&["fingerprint"]), pin);
    service.told(&["tenant"]);

    // Another key is taken up when gateways were told of it beforehand.
    let other = Service::init(&[]);
    let place = |service: &Service| {
        for name in ["tls.chain.pem", "tls.key.pem", "tls.pem", "tls.ca.key.pem"] {
            std::fs::copy(other.file(name), service.file(name)).unwrap();
        }
    };
    let next = other.local(&["fingerprint"]);
    let old: Vec<_> = ["tls.chain.pem", "tls.key.pem", "tls.pem", "tls.ca.key.pem"]
        .map(|name| (name, std::fs::read(service.file(name)).unwrap()))
        .into();
    place(&service);
    std::fs::write(service.config(), &config).unwrap();
    service.hang_up("nothing was read anew");
    assert!(service.log().contains("connectors.next_tls_pins"), "{}", service.log());
    for (name, contents) in old {
        std::fs::write(service.file(name), contents).unwrap();
    }
    service.stop();
    let told = format!("[connectors]\nnext_tls_pins = [\"{}\"]", next.trim());
    std::fs::write(service.config(), config.replace("[connectors]", &told)).unwrap();
    service.start();
    place(&service);
    service.hang_up(READ);
    let mut command = service.command(&["tenant"]);
    command.env_remove("SCEP_ISSUER_CA_FILE").args(["--pin", next.trim()]);
    scep_testkit::process::must(&mut command);
}

fn one_key_becomes_a_list() {
    let dir = scep_testkit::process::temporary();
    let config = dir.path().join("issuer/issuer.toml");
    let mut init = program();
    init.args(["init", "--tenant", "contoso", "--dir"]).arg(dir.path().join("issuer"));
    scep_testkit::process::must(&mut init);
    let written = || std::fs::read_to_string(&config).unwrap();
    assert!(written().contains("signing_key = \"issuer.key.pem\""), "{}", written());
    let mut rotate = program();
    rotate.args(["key", "rotate", "--what", "signing", "--config"]).arg(&config);
    let told = String::from_utf8(scep_testkit::process::must(&mut rotate)).unwrap();
    // Nobody tells gateways that do not enrol.
    assert!(told.contains(".pub.pem"), "{told}");
    assert!(!written().contains("signing_key ="), "{}", written());
    assert_eq!(written().matches("[[signing_keys]]").count(), 2, "{}", written());
    for _ in 2..8 {
        scep_testkit::process::must(&mut rotate);
    }
    assert!(failed(&mut rotate).contains("retire one"));
    assert_eq!(written().matches("[[signing_keys]]").count(), 8, "{}", written());
    for (more, named) in [("--overlap=soon", "--overlap: "), ("--life=1d", "--life: ")] {
        let mut rotate = program();
        rotate.args(["key", "rotate", "--what", "signing", more, "--config"]).arg(&config);
        assert!(failed(&mut rotate).contains(named));
    }
}
