//! With programs of others: a PostgreSQL server, and OpenSSL as a client that is given `tls.pem`.

use crate::support::Service;
use libtest_mimic::Trial;
use scep_testkit::postgres::{Cluster, PASSWORD, Programs};
use scep_testkit::process::must;
use scep_testkit::process::peers::{Peer, trial};
use std::process::Command;

pub(crate) fn trials() -> Vec<Trial> {
    let postgres = Peer::named("PostgreSQL", Programs::find().is_some());
    vec![
        trial("postgresql_keeps_everything", &[postgres], postgresql_keeps_everything),
        trial(
            "openssl_trusts_tls_pem_and_finds_the_fingerprint",
            &[Peer::program("openssl")],
            openssl_trusts_tls_pem_and_finds_the_fingerprint,
        ),
    ]
}

fn postgresql_keeps_everything() {
    let cluster = Cluster::start(&Programs::find().unwrap(), &[]).unwrap();
    let by_port = cluster.by_port("localhost");
    let connection: Vec<&str> =
        by_port.split(' ').filter(|word| !word.starts_with("password")).collect();
    let connection = connection.iter().filter(|word| word.contains('=')).copied();
    let connection = connection.collect::<Vec<_>>().join(" ");
    let dir = scep_testkit::process::temporary();
    let password = dir.path().join("password");
    std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    private(&password, 0o600);
    let more = ["--postgres", &connection, "--postgres-password-file", password.to_str().unwrap()];
    let mut service = Service::with(&more);
    let config = std::fs::read_to_string(service.config()).unwrap();
    assert!(!config.contains("database ="), "{config}");
    service.furnish_group();
    let keys = service.key_ids("signing");
    assert_eq!(service.signs(&keys), keys[0]);
    service.stop();
    assert!(!service.file("issuer.db").exists());
    // A password that others may read is refused.
    private(&password, 0o644);
    let said = service.does_not_serve();
    assert!(said.contains("service.postgres_password_file"), "{said}");
    private(&password, 0o600);
    service.start();
    assert_eq!(service.json(&["challenge", "list"]).as_array().unwrap().len(), 1);
    assert_eq!(service.json(&["device", "show", "laptop-1"])["state"], "enrolled");
    assert!(!service.log().contains(PASSWORD));
}

fn private(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn openssl_trusts_tls_pem_and_finds_the_fingerprint() {
    let service = Service::new();
    let address = service.url.strip_prefix("https://").unwrap();
    let mut client = Command::new("openssl");
    client.args([
        "s_client",
        "-connect",
        address,
        "-verify_return_error",
        "-verify_ip",
        "127.0.0.1",
    ]);
    let output = scep_testkit::process::run(client.arg("-CAfile").arg(service.file("tls.pem")));
    let said = scep_testkit::process::text(&output);
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    let mut key = Command::new("openssl");
    key.args(["x509", "-noout", "-pubkey", "-in"]).arg(service.file("tls.chain.pem"));
    let key = service.place("key.pem", &String::from_utf8(must(&mut key)).unwrap());
    let der = service.dir().join("key.der");
    let mut convert = Command::new("openssl");
    convert.args(["pkey", "-pubin", "-outform", "der", "-in"]).arg(&key).arg("-out").arg(&der);
    must(&mut convert);
    let digest = must(Command::new("openssl").args(["dgst", "-sha256", "-r"]).arg(&der));
    let digest = String::from_utf8(digest).unwrap();
    assert_eq!(digest.split(' ').next().unwrap(), service.local(&["fingerprint"]).trim());
}
