//! With `scep-gateway` as it enrols: what the commands show of it, and a new signing key that it must learn first.

use crate::support::Service;
use libtest_mimic::Trial;
use scep_testkit::process::peers::trial;
use scep_testkit::process::{Child, binary, free_address, must, wait_for};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial(
        "a_gateway_enrols_and_learns_a_new_key_before_it_signs",
        &[],
        a_gateway_enrols_and_learns_a_new_key_before_it_signs,
    )]
}

fn program() -> Command {
    let mut command = Command::new(binary("scep-gateway"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.to_ascii_lowercase().ends_with("_proxy") || name.starts_with("SCEP_") {
            command.env_remove(&*name);
        }
    }
    command
}

/// What the commands show of a certificate, from the challenge to the CRL.
fn enrolled_and_revoked(service: &Service, listen: &str, ca: &Path) {
    let url = format!("http://{listen}/scep");
    let challenge =
        service.told(&["challenge", "new", "--device", "laptop-1", "--profile", "wifi"]);
    let challenge = service.place("challenge.txt", &challenge);
    let mut enrol = Command::new(binary("scep-device"));
    enrol.args(["enrol", "--url", &url, "--subject", "O=Example, CN=laptop-1"]).arg("--ca").arg(ca);
    enrol.arg("--key").arg(service.dir().join("device.key.pem"));
    enrol.arg("--out").arg(service.dir().join("device.pem"));
    must(enrol.arg("--challenge-file").arg(challenge));
    let thumbprint = wait_for("the certificate is reported", || {
        let list = service.json(&["certificate", "list", "--device", "laptop-1"]);
        list[0]["thumbprint"].as_str().map(str::to_owned)
    });
    assert!(service.told(&["certificate", "show", &thumbprint]).contains("profile:"));
    let events = service.json(&["event", "list", "--device", "laptop-1"]);
    assert_eq!(events[0]["kind"], "issued", "{events}");
    assert!(service.told(&["event", "list"]).contains("laptop-1"));
    let ledgers = service.json(&["ledger", "list"]);
    let ledger = ledgers[0]["id"].as_str().unwrap();
    assert!(service.told(&["ledger", "show", ledger]).contains("counts.issued:"));
    let ordered = service.told(&["revoke", "--thumbprint", &thumbprint, "--reason", "superseded"]);
    assert_eq!(ordered, "1 revocations ordered\n");
    let order = service.json(&["revocation", "list"])[0]["id"].as_str().unwrap().to_owned();
    wait_for("the CRL shows it", || {
        let list = service.json(&["revocation", "list", "--state", "on-crl"]);
        (list[0]["id"] == order.as_str()).then_some(())
    });
    assert!(service.told(&["revocation", "show", &order]).contains("superseded"));
    assert_eq!(service.json(&["certificate", "show", &thumbprint])["state"], "revoked");
    let again = service.told(&["revoke", "--thumbprint", &thumbprint]);
    assert_eq!(again, "0 revocations ordered, 1 were ordered before\n");
}

fn serve(config: &Path, dir: &Path, name: &str) -> Child {
    let mut command = program();
    command.arg("serve").arg("--config").arg(config);
    Child::start(&mut command, dir, name)
}

fn a_gateway_enrols_and_learns_a_new_key_before_it_signs() {
    let mut service = Service::with(&[]);
    // A gateway keeps the issuer's address, so the port must stay over a restart.
    let port = service.url.rsplit(':').next().unwrap().to_owned();
    let config = std::fs::read_to_string(service.config()).unwrap();
    std::fs::write(service.config(), config.replace("127.0.0.1:0", &format!("127.0.0.1:{port}")))
        .unwrap();
    service.furnish();
    let gateway: PathBuf = service.dir().join("gw");
    let (listen, admin) = (free_address().to_string(), free_address().to_string());
    let mut init = program();
    init.args(["init", "--tenant", "contoso", "--group", "main", "--issuer", &service.url]);
    init.args(["--allow-suffix", "example.org", "--listen", &listen, "--admin-listen", &admin]);
    init.args(["--public-url", &format!("http://{listen}"), "--dir"]);
    must(init.arg(&gateway));
    let config = gateway.join("gateway.toml");
    let told = service.told(&[
        "gateway",
        "token",
        "new",
        "--group",
        "main",
        "--gateway-config",
        config.to_str().unwrap(),
    ]);
    // As it was printed.
    let words: Vec<&str> = told.split_whitespace().collect();
    assert_eq!(words[0], "scep-gateway", "{told}");
    must(program().args(&words[1..]));
    let mut process = serve(&config, service.dir(), "gateway-1");
    let id = service.json(&["gateway", "list"])[0]["id"].as_str().unwrap().to_owned();
    assert!(service.told(&["gateway", "list"]).contains("awaiting-operator"));
    assert!(service.json(&["gateway", "token", "list"])[0]["connector"] == id.as_str());
    let confirmed = service.told(&["gateway", "confirm", &id]);
    assert_eq!(confirmed, format!("gateway {id} is in group main\n"));
    let patience = |process: &mut Child, log: &str| {
        assert!(process.ended().is_none(), "{log}: {}", process.stderr());
    };
    wait_for("the group has a key", || {
        patience(&mut process, "gateway");
        service.told(&["group", "list"]).contains("main  known").then_some(())
    });
    let shown = service.told(&["gateway", "show", &id]);
    assert!(shown.contains("contact.last.health:"), "{shown}");
    service.told(&["gateway", "log-level", &id, "debug"]);
    service.told(&["gateway", "renew", &id, "--what", "authentication", "--within", "7d"]);

    enrolled_and_revoked(&service, &listen, &gateway.join("ca.cert.pem"));

    let first = service.key_ids("signing");
    assert_eq!(service.signs(&first), first[0]);
    // While the gateway is away a new key is made: it does not sign yet, since the gateway would refuse it.
    process.kill();
    service.local(&["key", "rotate", "--what", "signing"]);
    service.hang_up("keys and certificates were read anew");
    let keys = service.key_ids("signing");
    assert_eq!(service.signs(&keys), first[0]);
    let mut process = serve(&config, service.dir(), "gateway-2");
    wait_for("the gateway has learnt the key, and it signs", || {
        patience(&mut process, "gateway");
        (service.signs(&keys) == keys[0]).then_some(())
    });
    // So with the command key, and a restart in between.
    service.local(&["key", "rotate", "--what", "command"]);
    service.stop();
    service.start();
    wait_for("the gateway is heard of after the restart", || {
        patience(&mut process, "gateway");
        let shown = service.json(&["gateway", "show", &id]);
        shown["contact"]["last"].is_object().then_some(())
    });
    assert_eq!(service.told(&["gateway", "remove", &id]), format!("gateway {id} is removed\n"));
    assert!(service.told(&["gateway", "list"]).contains("left"));
}
