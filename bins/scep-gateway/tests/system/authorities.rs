//! An issuer and a gateway with two CAs: an order to revoke reaches the CA that has issued.

use crate::estate::{Device, Gateway, Issuer, PROFILE, TENANT, enrol, identity, until};
use scep_client::{ScepClient, Server, Trust};
use scep_keys::{AwsLc, read_certificates};
use scep_server::SystemClock;
use scep_testkit::process::{binary, http, must};
use scep_types::{CertificateDer, Clock, CrlDer};
use serde_json::json;
use std::process::Command;

/// Another CA in a folder beside the gateway's, and an endpoint of it.
const ANOTHER: &str = r#"
[[endpoints]]
path = "/vpn"
preset = "windows"
ca = "vpn"
profiles = ["vpn"]

[[authorities]]
name = "vpn"

[authorities.ca]
kind = "local"
key = "vpn/ca.key.pem"
certificate = "vpn/ca.cert.pem"

[authorities.ra]
signing_key = "vpn/ra-sign.key.pem"
signing_certificate = "vpn/ra-sign.cert.pem"
encryption_key = "vpn/ra-encrypt.key.pem"
encryption_certificate = "vpn/ra-encrypt.cert.pem"
"#;

async fn client(gateway: &Gateway, path: &str, ca: CertificateDer) -> (ScepClient, Server) {
    let client = ScepClient::new(&format!("http://{}{path}", gateway.address)).unwrap();
    let trust = Trust::Certificate(ca);
    let server = client.discover(&trust, SystemClock.now(), &AwsLc).await.unwrap();
    (client, server)
}

/// How many entries a CRL has, and whether it lists a certificate.
fn lists(gateway: &Gateway, path: &str, certificate: &CertificateDer) -> Option<(usize, bool)> {
    let crl = CrlDer::parse(&http(gateway.address, "GET", path, &[]).body).ok()?;
    Some((crl.serials().count(), crl.contains(&certificate.serial().unwrap())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_54_an_order_to_revoke_reaches_the_ca_that_has_issued() {
    let issuer = Issuer::start();
    for profile in ["wifi", "vpn"] {
        let toml = PROFILE.replace("\"wifi\"", &format!("\"{profile}\""));
        issuer.post("/profiles", json!({ "toml": toml })).await;
    }
    let gateway = Gateway::init(&issuer, TENANT, "main");
    must(
        Command::new(binary("scep-gateway"))
            .args(["init", "--tenant", TENANT, "--group", "main", "--issuer", &issuer.url()])
            .args(["--allow-suffix", "example.org", "--ca-name", "O=Example, CN=VPN CA"])
            .arg("--dir")
            .arg(gateway.file("vpn")),
    );
    let of_wifi = "[[endpoints]]\nprofiles = [\"wifi\"]\n";
    gateway.edit(|text| text.replace("[[endpoints]]\n", of_wifi) + ANOTHER);
    let gateway = gateway.joined(&issuer, "main").await;
    let vpn = read_certificates(&gateway.file("vpn/ca.cert.pem")).unwrap().remove(0);

    issuer.device("laptop-1").await;
    issuer.post("/assignments", json!({ "profile": "vpn", "device": "laptop-1" })).await;
    let mut issued = Vec::new();
    for (profile, path, ca) in
        [("wifi", "/certsrv/mscep/mscep.dll", gateway.ca()), ("vpn", "/vpn", vpn.clone())]
    {
        let wanted = json!({ "device": "laptop-1", "profile": profile, "group": "main" });
        let made = issuer.post("/challenges", wanted).await;
        let device = Device::new("laptop-1", made["challenge"].as_str().unwrap());
        let at = client(&gateway, path, ca.clone()).await;
        let certificate = enrol(&at, &device.request(), &identity()).await.unwrap();
        assert_eq!(certificate.issuer_der(), ca.subject_der());
        issued.push(certificate);
    }
    let [wifi_leaf, vpn_leaf] = issued.try_into().unwrap();
    until("the issuer knows both certificates", || async {
        (issuer.list("/certificates").await.len() == 2).then_some(())
    })
    .await;

    // One alone, by its number and issuer.
    let known = issuer.list("/certificates").await;
    let serial = vpn_leaf.serial().unwrap().to_string();
    let of_vpn = known
        .iter()
        .find(|one| one["serial"].as_str().is_some_and(|text| text.eq_ignore_ascii_case(&serial)));
    let of_vpn = of_vpn.unwrap_or_else(|| panic!("{serial} is not among {known:?}"));
    let order = json!({
        "issuer_sha256": of_vpn["issuer_sha256"],
        "serial": of_vpn["serial"],
        "reason": "superseded",
    });
    issuer.post("/revocations", order).await;
    until("the CRL of the other CA lists it", || async {
        (lists(&gateway, "/crl-vpn", &vpn_leaf)? == (1, true)).then_some(())
    })
    .await;
    assert_eq!(lists(&gateway, "/crl", &wifi_leaf), Some((0, false)));

    // And what is left, with its device.
    issuer.set_state("laptop-1", "wiped").await;
    until("the CRL of the main CA lists the rest", || async {
        (lists(&gateway, "/crl", &wifi_leaf)? == (1, true)).then_some(())
    })
    .await;
    assert_eq!(lists(&gateway, "/crl-vpn", &vpn_leaf), Some((1, true)));
    until("the issuer is told that the CRLs show it", || async {
        let revocations = issuer.list("/revocations").await;
        let done = revocations.iter().filter(|one| one["state"] == "on-crl").count();
        (revocations.len() == 2 && done == 2).then_some(())
    })
    .await;

    // What ends when is reported of both.
    let connector = issuer.list("/connectors").await[0]["id"].as_str().unwrap().to_owned();
    until("the gateway's certificates are reported", || async {
        let said = issuer.get(&format!("/connectors/{connector}/contact")).await.to_string();
        let both = [gateway.ca(), vpn.clone()].map(|ca| ca.fingerprint().to_string());
        both.iter().all(|one| said.contains(one)).then_some(())
    })
    .await;
}
