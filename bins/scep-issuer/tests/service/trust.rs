//! Whom the commands believe, and what `init` and `serve` refuse.

use crate::support::{Service, failed, program};
use libtest_mimic::Trial;
use scep_testkit::process::peers::trial;
use std::process::Command;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("only_the_right_server_is_spoken_to", &[], only_the_right_server_is_spoken_to),
        trial("only_a_good_token_is_served", &[], only_a_good_token_is_served),
        trial("health_needs_no_token", &[], health_needs_no_token),
        trial("an_own_certificate_is_taken_as_it_is", &[], an_own_certificate_is_taken_as_it_is),
        trial("attack_25_no_key_serves_two_purposes", &[], attack_25_no_key_serves_two_purposes),
        trial("init_makes_nothing_that_serve_refuses", &[], init_makes_nothing_that_serve_refuses),
    ]
}

/// A command with an address and a token, that knows no server yet.
fn blind(service: &Service) -> Command {
    let mut command = service.command(&["tenant"]);
    command.env_remove("SCEP_ISSUER_CA_FILE");
    command
}

fn only_the_right_server_is_spoken_to() {
    let service = Service::new();
    let pin = service.local(&["fingerprint"]);
    let pin = pin.trim();
    assert_eq!(pin.len(), 64);
    let ok = scep_testkit::process::must(blind(&service).args(["--pin", pin]));
    assert_eq!(String::from_utf8(ok).unwrap(), "id:  contoso\n");
    // As other programs write it.
    let spelled: Vec<String> =
        pin.as_bytes().chunks(2).map(|two| String::from_utf8_lossy(two).to_uppercase()).collect();
    scep_testkit::process::must(blind(&service).args(["--pin", &spelled.join(":")]));

    let other = Service::new();
    let wrong = other.local(&["fingerprint"]);
    let said = failed(blind(&service).args(["--pin", wrong.trim()]));
    assert!(said.contains(pin) && said.contains(wrong.trim()), "{said}");
    let said = failed(&mut blind(&service));
    assert!(said.contains("certificate") && said.contains("--ca-file tls.pem"), "{said}");
    let said = failed(blind(&service).arg("--ca-file").arg(other.file("tls.pem")));
    assert!(said.contains("certificate"), "{said}");
    let port = service.url.rsplit(':').next().unwrap();
    let mut here = service.command(&["tenant"]);
    scep_testkit::process::must(here.args(["--url", &format!("https://localhost:{port}")]));
    // Its own CA, but another name than it is asked by; a pin asks for none.
    let named = Service::with(&["--public-name", "issuer.example.org"]);
    let said = named.refused(&["tenant"]);
    assert!(said.contains("certificate"), "{said}");
    let pin = named.local(&["fingerprint"]);
    scep_testkit::process::must(blind(&named).args(["--pin", pin.trim()]));
    for (arguments, named) in [
        (["--pin", "12"], "--pin: "),
        (["--ca-file", "nowhere.pem"], "nowhere.pem: "),
        (["--url", "http://issuer.example.org"], "--url: "),
        (["--token-file", "nowhere"], "nowhere: "),
    ] {
        let said = failed(blind(&service).args(arguments));
        assert!(said.starts_with(&format!("scep-issuer: {named}")), "{said}");
    }
}

fn only_a_good_token_is_served() {
    let service = Service::new();
    let with = |token: &str| {
        let mut command = service.command(&["tenant"]);
        command.env("SCEP_ISSUER_TOKEN", token);
        failed(&mut command)
    };
    let guessed = with(&format!("scepiss_{}", "0".repeat(64)));
    assert!(guessed.contains("A valid bearer token is needed"), "{guessed}");
    for none in ["", "a b", "a\nb"] {
        assert!(with(none).starts_with("scep-issuer: --token-file: "), "{none}");
    }
    let read = service.local(&["token", "create", "--scope", "read"]);
    let path = service.place("read.token", &read);
    let mut command = service.command(&["device", "list", "--token-file"]);
    scep_testkit::process::must(command.arg(&path));
    let mut command = service.command(&["device", "add", "d1", "--token-file"]);
    let said = failed(command.arg(&path));
    assert!(said.contains("The token's scopes do not allow this"), "{said}");
    // Of another tenant: its own is all that it sees.
    let other = service.local(&["token", "create", "--scope", "admin", "--tenant", "fabrikam"]);
    let path = service.place("other.token", &other);
    service.told(&["device", "add", "d1"]);
    let mut command = service.command(&["device", "list", "--token-file"]);
    let seen = scep_testkit::process::must(command.arg(&path));
    assert_eq!(String::from_utf8(seen).unwrap(), "none\n");
}

fn health_needs_no_token() {
    let service = Service::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let pem = std::fs::read(service.file("tls.pem")).unwrap();
    let ca = reqwest::Certificate::from_pem(&pem).unwrap();
    let asked = runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap();
        let answer = client.get(format!("{}/healthz", service.url)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    });
    assert_eq!(asked, (200, "ok\n".to_owned()));
}

fn an_own_certificate_is_taken_as_it_is() {
    // The certificate and key that another issuer has made.
    let maker = Service::init(&[]);
    let (certificate, key) = (maker.file("tls.chain.pem"), maker.file("tls.key.pem"));
    let own = ["--tls-certificate", certificate.to_str().unwrap()];
    let own = [own[0], own[1], "--tls-key", key.to_str().unwrap()];
    let service = Service::with(&own);
    assert_eq!(service.local(&["fingerprint"]), maker.local(&["fingerprint"]));
    let written = std::fs::read_to_string(service.config()).unwrap();
    assert!(!written.contains("tls_ca_key"), "{written}");
    let mut command = service.command(&["tenant"]);
    scep_testkit::process::must(command.arg("--ca-file").arg(maker.file("tls.pem")));
}

fn attack_25_no_key_serves_two_purposes() {
    let names = ["issuer.key.pem", "command.key.pem", "connector-ca.key.pem", "tls.ca.key.pem"];
    for (at, name) in names.iter().enumerate() {
        let service = Service::init(&[]);
        // The TLS key's certificate says which key it is: that one is tried as each of the others.
        let other = if at == 0 { "tls.key.pem" } else { names[0] };
        std::fs::copy(service.file(other), service.file(name)).unwrap();
        let said = service.does_not_serve();
        assert!(said.contains("are the same key"), "{name}: {said}");
    }
    // And the public keys of groups.
    let service = Service::init(&[]);
    let mut add = program();
    add.args(["add-gateway", "--group", "main", "--public-key"])
        .arg(service.file("issuer.pub.pem"));
    scep_testkit::process::must(add.arg("--config").arg(service.config()));
    assert!(service.does_not_serve().contains("are the same key"));
}

fn init_makes_nothing_that_serve_refuses() {
    let dir = scep_testkit::process::temporary();
    let init = |name: &str, more: &[&str]| {
        let mut command = program();
        command.args(["init", "--tenant", "contoso", "--dir"]).arg(dir.path().join(name));
        command.args(more);
        command
    };
    let said = failed(&mut init("a", &["--listen", "0.0.0.0:8445"]));
    assert!(said.starts_with("scep-issuer: --public-name: "), "{said}");
    let bad = ["--listen", "0.0.0.0:8445", "--public-name", "a b"];
    assert!(failed(&mut init("b", &bad)).starts_with("scep-issuer: --public-name: "));
    assert!(!dir.path().join("a").exists() && !dir.path().join("b").exists());
    let good = ["--listen", "0.0.0.0:8445", "--public-name", "issuer.example.org"];
    let made = scep_testkit::process::must(&mut init("c", &good));
    let made = String::from_utf8(made).unwrap();
    let mut print = program();
    print.arg("fingerprint").arg("--config").arg(dir.path().join("c/issuer.toml"));
    let pin = String::from_utf8(scep_testkit::process::must(&mut print)).unwrap();
    assert!(made.contains(pin.trim()), "{made}");
    let said = failed(&mut init("c", &good));
    assert!(said.contains("not empty"), "{said}");
    #[cfg(unix)]
    for entry in std::fs::read_dir(dir.path().join("c")).unwrap() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = entry.unwrap().path();
        if path.to_str().unwrap().ends_with(".key.pem") {
            let mode = path.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", path.display());
        }
    }
}
