//! Two gateways of one group behind nginx, on one PostgreSQL: the configuration that operators are given, as it is.

use crate::estate::{Gateway, Issuer, PROFILE, enrol, identity, until};
use scep_testkit::postgres::{Cluster, Programs};
use scep_testkit::process::{Child, free_address, temporary};
use scep_testkit::programs::available;
use serde_json::json;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

const MAIN: &str = include_str!("../../../nginx.example.conf");
const LOCATIONS: &str = include_str!("../../../scep-locations.example.conf");

/// The example with a test's own places in the lines that an operator changes.
fn configuration(folder: &Path, port: u16, gateways: [SocketAddr; 2]) -> String {
    let mut gateways = gateways.into_iter();
    let mut text =
        String::from("daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\n");
    let mut plain = true;
    for line in MAIN.lines() {
        let words = line.trim_start();
        let line = match line.strip_suffix("# site") {
            None => line.to_owned(),
            Some(_) if words.starts_with("access_log") => "access_log access.log;".into(),
            Some(rest) if words.starts_with("server ") => {
                let (_, options) = rest.split_once(":8080").unwrap();
                format!("server {}{options}", gateways.next().unwrap())
            }
            Some(_) if words.starts_with("listen 80") => format!("listen 127.0.0.1:{port};"),
            // TLS is the operator's own; what it carries is the same.
            Some(_) if words.starts_with("listen 443") => {
                plain = false;
                break;
            }
            Some(_) if words.starts_with("include") => {
                format!("include {}/scep-locations.conf;", folder.display())
            }
            Some(_) => panic!("the test does not know this line: {line}"),
        };
        text.push_str(&line);
        text.push('\n');
    }
    assert!(!plain, "the example has a server with TLS");
    assert_eq!(gateways.next(), None);
    // The server with TLS, which was just begun, and the http block.
    let begun = text.rfind("server {").unwrap();
    text.truncate(begun);
    text.push_str("}\n");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_behind_nginx_share_one_ledger() {
    let test = "two_gateways_behind_nginx_share_one_ledger";
    if !available("nginx", test) {
        return;
    }
    let Some(programs) = Programs::find() else {
        assert!(!available("postgres", test));
        return;
    };
    let cluster = Cluster::start(&programs, &[]).unwrap();
    let issuer = Issuer::start();
    issuer.post("/profiles", json!({ "toml": PROFILE })).await;
    let first = Gateway::join_shared(&issuer, "main", &cluster.by_socket()).await;
    let second = first.join_beside(&issuer, "main").await;

    let (dir, address) = (temporary(), free_address());
    std::fs::write(dir.path().join("scep-locations.conf"), LOCATIONS).unwrap();
    let text = configuration(dir.path(), address.port(), [first.address, second.address]);
    std::fs::write(dir.path().join("nginx.conf"), text).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(dir.path()).arg("-c").arg(dir.path().join("nginx.conf"));
    let mut nginx = Child::start(&mut command, dir.path(), "nginx");
    assert!(nginx.answers(address), "{}", nginx.stderr());

    let (client, identity) = (first.client_at(address).await, identity());
    let mut held = BTreeSet::new();
    for n in 0..20 {
        let id = format!("device-{n}");
        issuer.device(&id).await;
        let device = issuer.challenge(&id, "main").await;
        let request = device.request();
        let certificate = enrol(&client, &request, &identity).await.unwrap();
        // Whichever gateway the retry comes to.
        for gateway in [&first, &second] {
            let again = enrol(&gateway.client().await, &request, &identity).await.unwrap();
            assert_eq!(again, certificate);
        }
        held.insert(certificate.fingerprint().to_string());
    }
    // Both have worked.
    for gateway in [&first, &second] {
        assert!(gateway.program.log().contains("Issued"), "{}", gateway.program.log());
    }
    let reported = until("both report what there is, once", || async {
        let reported = issuer.list("/certificates").await;
        (reported.len() >= held.len()).then_some(reported)
    })
    .await;
    let reported: BTreeSet<String> =
        reported.iter().map(|one| one["thumbprint"].as_str().unwrap().to_owned()).collect();
    assert_eq!(reported, held);

    // One gateway is gone: devices do not notice.
    let (mut first, id) = (first, "device-last");
    first.program.kill();
    issuer.device(id).await;
    for _ in 0..4 {
        let device = issuer.challenge(id, "main").await;
        enrol(&client, &device.request(), &identity).await.unwrap();
    }
}
