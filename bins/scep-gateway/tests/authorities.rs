//! Several CAs in one gateway, as its own process: each endpoint's certificates are of its CA and its profiles, and each CA
//! has its own CRL and OCSP.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

#[allow(dead_code, reason = "the crash tests use the rest")]
mod support;

use scep_client::{ClientError, ScepClient, Server, Trust};
use scep_keys::{AwsLc, SoftwareKey, public_key_pem, read_certificates};
use scep_message::FailInfo;
use scep_server::SystemClock;
use scep_testkit::keys;
use scep_testkit::process::{http, must, run, text, wait_for};
use scep_types::{CertificateDer, Clock, CrlDer, KeyAlgorithm, SerialNumber};
use std::process::{Command, Output};
use support::{Gateway, enrol, identity};

const PROGRAM: &str = env!("CARGO_BIN_EXE_scep-gateway");

/// What is appended to a new configuration: another CA, and endpoints that choose between the two.
const ANOTHER: &str = r#"
[[endpoints]]
path = "/wifi"
preset = "windows"
profiles = ["wifi"]

[[endpoints]]
path = "/vpn"
preset = "windows"
ca = "vpn"
profiles = ["vpn", "vpn-guests"]

[[endpoints]]
path = "/guests"
preset = "windows"
ca = "vpn"
profiles = ["guests"]

[[authorities]]
name = "vpn"
ocsp = { validity = "2h" }
crl = { validity = "1d" }

[authorities.ca]
kind = "local"
key = "../vpn/ca.key.pem"
certificate = "../vpn/ca.cert.pem"

[authorities.ra]
signing_key = "../vpn/ra-sign.key.pem"
signing_certificate = "../vpn/ra-sign.cert.pem"
encryption_key = "../vpn/ra-encrypt.key.pem"
encryption_certificate = "../vpn/ra-encrypt.cert.pem"
"#;

/// A gateway with the CAs `main` and `vpn`, and the endpoints /wifi, /vpn and /guests.
fn gateway() -> Gateway {
    let gateway = Gateway::init();
    make(&gateway, "vpn", "O=Example, CN=VPN CA");
    gateway.configure(|text| {
        let start = text.find("[[endpoints]]").unwrap();
        format!("{}{ANOTHER}", &text[..start])
    });
    gateway
}

/// The keys and certificates of another CA and its RA, beside those of the gateway.
fn make(gateway: &Gateway, folder: &str, name: &str) {
    let issuer = gateway.file("other-issuer.pub.pem");
    std::fs::write(&issuer, public_key_pem(keys::p256(1).public_key())).unwrap();
    let mut init = Command::new(PROGRAM);
    init.args(["init", "--tenant", "contoso", "--group", "main", "--ca-name", name])
        .args(["--allow-suffix", "example.org", "--issuer-key"])
        .arg(&issuer)
        .arg("--dir")
        .arg(gateway.file(folder));
    must(&mut init);
}

fn ca(gateway: &Gateway, folder: &str) -> CertificateDer {
    read_certificates(&gateway.file(folder).join("ca.cert.pem")).unwrap().remove(0)
}

/// A client of an endpoint, and what it is told there of the CA in this folder.
async fn client(gateway: &Gateway, path: &str, folder: &str) -> (ScepClient, Server) {
    let client = ScepClient::new(&format!("http://{}{path}", gateway.address())).unwrap();
    let trust = Trust::Certificate(ca(gateway, folder));
    let server = client.discover(&trust, SystemClock.now(), &AwsLc).await.unwrap();
    (client, server)
}

fn crl(gateway: &Gateway, path: &str) -> Option<CrlDer> {
    let answer = http(gateway.address(), "GET", path, b"");
    (answer.status == 200).then(|| CrlDer::parse(&answer.body).unwrap())
}

fn revoke(gateway: &Gateway, serial: &SerialNumber, more: &[&str]) -> Output {
    let mut command = gateway.command(&["revoke"]);
    command.args(["--serial", &serial.to_string(), "--reason", "superseded"]);
    run(command.args(["--operator", "alice"]).args(more))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_endpoint_has_its_ca_and_its_profiles() {
    let mut gateway = gateway();
    gateway.start(&[]);
    let identity = identity();
    let (wifi, vpn) = (ca(&gateway, "gw"), ca(&gateway, "vpn"));
    let mut issued = Vec::new();
    for (path, folder, profile, issuer) in [
        ("/wifi", "gw", "wifi", &wifi),
        ("/vpn", "vpn", "vpn", &vpn),
        ("/vpn", "vpn", "vpn-guests", &vpn),
        ("/guests", "vpn", "guests", &vpn),
    ] {
        let (client, server) = client(&gateway, path, folder).await;
        let request = gateway.device_of(profile).request();
        let one = enrol(&client, &server, &request, &identity).await.unwrap();
        assert_eq!(one.issuer_der(), issuer.subject_der(), "{path} {profile}");
        let scheme = scep_types::SignatureScheme::EcdsaSha256;
        let (tbs, signature) = (one.tbs_der(), one.signature());
        scep_types::CryptoProvider::verify(&AwsLc, issuer.spki(), scheme, tbs, signature).unwrap();
        issued.push(one);
    }
    // A profile at a place that does not serve it, and not spent by being there.
    let device = gateway.device_of("vpn");
    let (wrong, server) = client(&gateway, "/wifi", "gw").await;
    let error = enrol(&wrong, &server, &device.request(), &identity).await.unwrap_err();
    let ClientError::Refused { fail_info, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*fail_info, FailInfo::BadRequest, "{error:?}");
    let log = gateway.log();
    assert!(log.contains("ChallengeNotServed"), "{log}");
    assert!(log.contains("its profile is not served at this endpoint"), "{log}");
    let (right, server) = client(&gateway, "/vpn", "vpn").await;
    enrol(&right, &server, &device.request(), &identity).await.unwrap();
    // Neither CA is asked at a path that is nobody's.
    assert_eq!(http(gateway.address(), "GET", "/?operation=GetCACert", b"").status, 404);

    // Each CRL is its CA's, and shows what that one has revoked.
    let of = |path: &'static str| wait_for("a CRL", || crl(&gateway, path));
    assert_eq!(of("/crl").issuer_der(), wifi.subject_der());
    assert_eq!(of("/crl-vpn").issuer_der(), vpn.subject_der());
    gateway.stop();
    let (mine, theirs) = (issued[0].serial().unwrap(), issued[1].serial().unwrap());
    let refused = revoke(&gateway, &theirs, &["--ca", "main"]);
    assert!(text(&refused).contains("was issued here"), "{}", text(&refused));
    let refused = revoke(&gateway, &theirs, &["--ca", "guests"]);
    assert!(text(&refused).contains("no CA is called guests; there are main, vpn"), "{refused:?}");
    let ordered = revoke(&gateway, &theirs, &[]);
    assert!(ordered.status.success(), "{}", text(&ordered));
    gateway.start(&[]);
    wait_for("the order", || crl(&gateway, "/crl-vpn").filter(|crl| crl.contains(&theirs)));
    assert_eq!(crl(&gateway, "/crl").unwrap().serials().count(), 0);
    gateway.stop();
    assert!(revoke(&gateway, &mine, &["--ca", "main"]).status.success());
    for (name, expected) in [("main", &mine), ("vpn", &theirs)] {
        let file = gateway.file(name).with_extension("crl");
        let mut command = gateway.command(&["crl"]);
        must(command.args(["--ca", name, "--out"]).arg(&file));
        let crl = CrlDer::parse(&std::fs::read(&file).unwrap()).unwrap();
        assert!(crl.contains(expected) && crl.serials().count() == 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_ends_is_said_with_its_ca() {
    let mut gateway = gateway();
    // Its responder has a key of its own, in a file.
    let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    key.write_new(&gateway.file("vpn/ocsp.key.pem")).unwrap();
    gateway.configure(|text| text.replace("ocsp = {", "ocsp = { key = \"../vpn/ocsp.key.pem\","));
    let said = text(&run(&mut gateway.command(&["check-config"])));
    let line =
        format!("key      OCSP signing of vpn            p256 {}", key.public_key().key_id());
    assert!(said.contains(&line), "{line}: {said}");
    for line in [
        "CA       main                           CRL at /crl",
        "CA       vpn                            CRL at /crl-vpn, OCSP at /ocsp-vpn",
        "endpoint /wifi                          CA main, profiles wifi, preset windows",
        "endpoint /vpn                           CA vpn, profiles vpn, vpn-guests, preset windows",
        "endpoint /guests                        CA vpn, profiles guests, preset windows",
        "RA encryption certificate of vpn",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    // One CA's RA is renewed, and the other's is not.
    let file = |folder: &str| std::fs::read(gateway.file(folder).join("ra-sign.cert.pem")).unwrap();
    let before = (file("gw"), file("vpn"));
    let renewed = String::from_utf8(must(gateway.command(&["renew-ra"]).args(["--ca", "vpn"])));
    assert!(renewed.unwrap().contains("RA signing certificate of vpn: new key"));
    assert_eq!(file("gw"), before.0);
    assert_ne!(file("vpn"), before.1);
    // By default every CA's, and one that cannot keeps no other from it.
    let renewed = run(&mut gateway.command(&["renew-ra"]));
    assert_eq!(renewed.status.code(), Some(2), "{}", text(&renewed));
    assert!(text(&renewed).contains("authorities vpn: ra: was renewed already"), "{renewed:?}");
    assert_ne!(file("gw"), before.0);
    let status = run(gateway.command(&["status"]).arg("--json"));
    for name in ["\"RA signing certificate of vpn\"", "\"previous RA encryption of vpn\""] {
        assert!(text(&status).contains(name), "{name}: {}", text(&status));
    }
    gateway.start(&[]);
    // What is enveloped to the RA that was replaced is opened at the CA's endpoints, and the OCSP responder is there.
    let (client, server) = client(&gateway, "/vpn", "vpn").await;
    enrol(&client, &server, &gateway.device_of("vpn").request(), &identity()).await.unwrap();
    let config = std::fs::read_to_string(gateway.file("gw/gateway.toml")).unwrap();
    let admin = config.lines().find_map(|line| line.strip_prefix("admin_listen = ")).unwrap();
    let admin = admin.trim_matches('"').parse().unwrap();
    for path in ["/healthz", "/metrics"] {
        let said = wait_for("what ends when", || {
            let said = String::from_utf8(http(admin, "GET", path, b"").body).unwrap();
            said.contains("RA signing certificate of vpn").then_some(said)
        });
        assert!(said.contains("CA certificate of vpn"), "{path}: {said}");
    }
    let answer = http(gateway.address(), "GET", "/ocsp-vpn/x", b"");
    assert!(answer.head.contains("application/ocsp-response"), "{}", answer.head);
    assert_eq!(http(gateway.address(), "GET", "/ocsp/x", b"").status, 404);
    gateway.stop();
}

#[test]
fn what_clashes_between_cas_stops_the_start_and_is_named() {
    let gateway = gateway();
    make(&gateway, "again", "O=Sceptic, CN=Device CA");
    let good = std::fs::read_to_string(gateway.file("gw/gateway.toml")).unwrap();
    let cases: &[(&str, &str, &[&str])] = &[
        ("name = \"vpn\"", "name = \"main\"", &["authorities.name", "\"main\" is the CA of [ca]"]),
        ("ca = \"vpn\"", "ca = \"guests\"", &["endpoints.ca", "/vpn", "there are main, vpn"]),
        ("profiles = [\"wifi\"]", "profiles = []", &["endpoints.profiles", "/wifi", "none is"]),
        ("profiles = [\"wifi\"]", "profiles = [\"a\", \"a\"]", &["a is there twice"]),
        // Or a device could choose its CA by the path.
        ("profiles = [\"guests\"]", "", &["endpoints.profiles", "/guests", "must be said"]),
        ("preset = \"windows\"", "preset = \"solaris\"", &["endpoints.preset", "cisco-ios"]),
        ("name = \"vpn\"", "name = \"vpn\"\nfollows = \"x\"", &["authorities vpn: follows", "x"]),
        ("name = \"vpn\"", "name = \"vpn\"\nfollows = \"vpn\"", &["vpn: follows", "itself"]),
        ("name = \"vpn\"", "name = \"vpn\"\nnext = \"vpn\"", &["authorities vpn: next", "itself"]),
        ("name = \"vpn\"", "name = \"vpn\"\nnext = \"main\"", &["authorities vpn: next_answer"]),
        ("crl = { validity", "crl = { path = \"/crl\", validity", &["crl and crl of vpn", "/crl"]),
        ("ocsp = {", "ocsp = { path = \"/crl\",", &["ocsp of vpn", "/crl"]),
        ("crl = { validity", "crl = { path = \"/vpn\", validity", &["crl of vpn", "at /vpn"]),
        ("[[authorities]]", "[rollover]\nnext = \"x\"\n[[authorities]]", &["next", "main, vpn"]),
        ("[[authorities]]", "[rollover]\nnext = \"vpn\"\n[[authorities]]", &["next_answer"]),
        // A key of another CA's role, in whichever role.
        ("../vpn/ra-sign.", "ra-sign.", &["ra.signing", "authorities vpn"]),
        ("../vpn/ca.", "ca.", &["authorities vpn"]),
        ("../vpn/", "../again/", &["main and vpn have the same name"]),
    ];
    for (from, to, words) in cases {
        assert!(good.contains(from), "{from}");
        gateway.configure(|_| good.replace(from, to));
        let output = run(&mut gateway.command(&["check-config"]));
        assert_eq!(output.status.code(), Some(2), "{to}: {}", text(&output));
        for word in *words {
            assert!(text(&output).contains(word), "{to}: {word}: {}", text(&output));
        }
        // And nothing is served with it.
        let output = run(&mut gateway.command(&["serve"]));
        assert_eq!(output.status.code(), Some(2), "{to}: {}", text(&output));
    }
    // A key of one CA in a role of the whole gateway: only the key tells.
    let key = "\n[challenge]\ndecryption_key = \"../vpn/ca.key.pem\"\n";
    let challenge = "[challenge]\ndecryption_key = \"challenge.key.pem\"\n";
    gateway.configure(|_| good.replacen(challenge, key, 1));
    let output = run(&mut gateway.command(&["check-config"]));
    assert!(
        text(&output).contains("CA of vpn and challenge decryption are the same"),
        "{output:?}"
    );
}

/// `init` with these options, into a folder beside.
fn init(gateway: &Gateway, options: &[&str]) -> Output {
    let issuer = gateway.file("issuer.pub.pem");
    let mut init = Command::new(PROGRAM);
    init.args(["init", "--tenant", "contoso", "--group", "main", "--allow-suffix", "example.org"])
        .arg("--issuer-key")
        .arg(&issuer)
        .arg("--dir")
        .arg(gateway.file("made"))
        .args(options);
    run(&mut init)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_ra_key_may_sign_and_open_when_it_has_one_certificate_for_both() {
    let mut gateway = Gateway::init();
    let made = init(&gateway, &["--preset", "solaris"]);
    assert!(text(&made).contains("--preset") && text(&made).contains("apple"), "{}", text(&made));
    let made = init(&gateway, &["--preset", "apple", "--combined-ra"]);
    assert!(made.status.success(), "{}", text(&made));
    gateway.folder_is(&gateway.file("made"));
    assert!(!gateway.file("gw/ra-sign.key.pem").exists());
    let said = text(&run(&mut gateway.command(&["check-config"])));
    assert!(said.contains("preset apple: signer csr-key, reply leaf, ca_cert bundle"), "{said}");
    assert!(said.contains("key      RA  ") && !said.contains("RA signing"), "{said}");
    gateway.start(&[]);
    let (client, server) = gateway.client().await;
    enrol(&client, &server, &gateway.device().request(), &identity()).await.unwrap();
    let shown = http(gateway.address(), "GET", "/?operation=GetCACert", b"").body;
    let shown = scep_message::ca_cert::parse(&shown, &scep_message::Limits::default()).unwrap();
    let ra = read_certificates(&gateway.file("gw/ra.cert.pem")).unwrap().remove(0);
    assert_eq!(shown, [ra, ca(&gateway, "gw")]);
    gateway.stop();
    // One key in two roles by two certificates is what it is everywhere else: refused.
    std::fs::copy(gateway.file("gw/ra.cert.pem"), gateway.file("gw/again.cert.pem")).unwrap();
    gateway.configure(|text| {
        text.replace("encryption_certificate = \"ra.", "encryption_certificate = \"again.")
    });
    let output = run(&mut gateway.command(&["serve"]));
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let said = text(&output);
    assert!(said.contains("RA encryption and RA signing are the same key"), "{said}");
}

#[test]
fn what_getnextcacert_answers_is_by_the_present_ca_and_about_the_next_one() {
    let gateway = gateway();
    must(gateway.command(&["ca", "prepare"]).args(["--name", "g2"]));
    let block = std::fs::read_to_string(gateway.file("gw/g2/authority.toml")).unwrap();
    let good = std::fs::read_to_string(gateway.file("gw/gateway.toml")).unwrap() + "\n" + &block;
    gateway.configure(|_| good.clone());
    let said = text(&run(&mut gateway.command(&["check-config"])));
    assert!(said.contains("CRL at /crl, GetNextCACert"), "{said}");
    assert!(said.contains("CRL at /crl-g2, follows main"), "{said}");
    let answer = block.lines().find(|line| line.starts_with("next_answer")).unwrap();
    let vpn = "name = \"vpn\"";
    for (bad, words) in [
        (good.replace("next = \"g2\"", "next = \"vpn\""), "does not hold the certificate of vpn"),
        (
            good.replace(vpn, &format!("{vpn}\nnext = \"g2\"\n{answer}")),
            "authorities vpn: next_answer: is signed by another key than the present CA's",
        ),
        (good.replace(answer, "next_answer = \"ca.cert.pem\""), "next_answer: "),
        (
            good.replace(vpn, &format!("{vpn}\nfollows = \"g2\""))
                .replace("follows = \"main\"", "follows = \"vpn\""),
            "goes round in a circle",
        ),
    ] {
        gateway.configure(|_| bad);
        let output = run(&mut gateway.command(&["check-config"]));
        assert_eq!(output.status.code(), Some(2), "{words}: {}", text(&output));
        assert!(text(&output).contains(words), "{words}: {}", text(&output));
    }
}
