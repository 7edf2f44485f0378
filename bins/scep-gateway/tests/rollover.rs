//! A CA after another in the gateway's process: `ca prepare`, what devices are told, the switch, and that nothing is lost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

#[allow(dead_code, reason = "the crash tests use the rest")]
mod support;

use core::time::Duration;
use scep_client::{ScepClient, Trust};
use scep_keys::{AwsLc, SoftwareKey, read_certificates};
use scep_message::client::{Ask, Expected, Identity, Reply, request};
use scep_message::{ContentEncryption, LegacyAlgorithms, Limits, MessageType, Recipient};
use scep_server::SystemClock;
use scep_testkit::house::device_certificate;
use scep_testkit::keys;
use scep_testkit::process::{PATIENCE, binary, http, must, run, text, wait_for};
use scep_types::{
    CertificateDer, Clock, CrlDer, KeyAlgorithm, RsaPadding, SignatureScheme, SpkiDer,
    TransactionId,
};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;
use support::{Device, Gateway, enrol, identity};

/// `ca prepare`, and what it says belongs into the configuration; nothing is added there.
fn prepare(gateway: &Gateway, options: &[&str]) -> String {
    must(gateway.command(&["ca", "prepare"]).args(["--name", "g2"]).args(options));
    std::fs::read_to_string(gateway.file("gw/g2/authority.toml")).unwrap()
}

/// Has both endpoints issue from the next CA.
fn switch(gateway: &Gateway) {
    gateway.configure(|text| {
        let presets = ["preset = \"generic\"", "preset = \"windows\""];
        presets.iter().fold(text, |text, preset| {
            assert!(text.contains(preset), "{text}");
            text.replace(preset, &format!("{preset}\nca = \"g2\""))
        })
    });
}

fn certificate(gateway: &Gateway, file: &str) -> CertificateDer {
    read_certificates(&gateway.file(file)).unwrap().remove(0)
}

fn caps(gateway: &Gateway) -> String {
    let answer = http(gateway.address(), "GET", "/?operation=GetCACaps", b"");
    String::from_utf8(answer.body).unwrap()
}

/// A client of an endpoint, and what it knows of its server by this root.
async fn client(gateway: &Gateway, root: &CertificateDer) -> (ScepClient, scep_client::Server) {
    let url = format!("http://{}/certsrv/mscep/mscep.dll", gateway.address());
    let client = ScepClient::new(&url).unwrap();
    let trust = Trust::Certificate(root.clone());
    let server = client.discover(&trust, SystemClock.now(), &AwsLc).await.unwrap();
    (client, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_are_told_of_the_next_ca_and_get_its_certificates_once_it_issues() {
    let mut gateway = Gateway::init();
    let section = prepare(&gateway, &[]);
    let (main, next) =
        (certificate(&gateway, "gw/ca.cert.pem"), certificate(&gateway, "gw/g2/ca.cert.pem"));
    gateway.start(&[]);
    assert!(!caps(&gateway).contains("GetNextCACert"));
    let (old, server) = client(&gateway, &main).await;
    let first = enrol(&old, &server, &gateway.device().request(), &identity()).await.unwrap();
    gateway.stop();

    // It is told of, and the present one issues still.
    gateway.configure(|text| format!("{text}\n{section}"));
    gateway.start(&[]);
    assert!(caps(&gateway).lines().any(|line| line == "GetNextCACert"));
    let (old, server) = client(&gateway, &main).await;
    let told = old.get_next_ca_cert(&server, &AwsLc).await.unwrap();
    assert_eq!(told, std::slice::from_ref(&next));
    // By a person, too.
    let mut device = Command::new(binary("scep-device"));
    device.args(["nextca", "--url", &format!("http://{}/", gateway.address()), "--ca"]);
    device.arg(gateway.file("gw/ca.cert.pem")).arg("--out").arg(gateway.file("next.pem"));
    must(&mut device);
    assert_eq!(certificate(&gateway, "next.pem"), next);
    let second = enrol(&old, &server, &gateway.device().request(), &identity()).await.unwrap();
    assert_eq!(second.issuer_der(), main.subject_der());
    gateway.stop();

    // The switch.
    switch(&gateway);
    gateway.start(&[]);
    // Whoever was told, trusts it.
    let (new, after) = client(&gateway, &told[0]).await;
    let third = enrol(&new, &after, &gateway.device().request(), &identity()).await.unwrap();
    assert_eq!(third.issuer_der(), next.subject_der());
    assert!(!caps(&gateway).contains("GetNextCACert"), "the next one has none");
    // Whoever was not, is answered, and sees that it does not know that CA.
    let device = gateway.device();
    let strange = enrol(&old, &server, &device.request(), &identity()).await;
    assert!(strange.is_err(), "{strange:?}");
    let again = enrol(&new, &after, &device.request(), &identity()).await.unwrap();
    assert_eq!(again.issuer_der(), next.subject_der(), "and gets it once it does");

    // What ends of either is watched.
    let said = must(&mut gateway.command(&["status"]));
    let said = String::from_utf8(said).unwrap();
    for what in ["CA certificate ", "CA certificate of g2", "RA signing certificate of g2"] {
        assert!(said.contains(what), "{what}: {said}");
    }

    // What the first one has issued is revoked on its own CRL.
    let on = |path: &str| {
        let answer = http(gateway.address(), "GET", path, b"");
        (answer.status == 200).then(|| CrlDer::parse(&answer.body).unwrap())
    };
    let (serial, other) = (first.serial().unwrap(), third.serial().unwrap());
    for (path, ca) in [("/crl", &main), ("/crl-g2", &next)] {
        assert_eq!(wait_for(path, || on(path)).issuer_der(), ca.subject_der());
    }
    gateway.stop();
    for serial in [&serial, &other] {
        let options = ["--serial", &serial.to_string(), "--reason", "superseded"];
        must(gateway.command(&["revoke"]).args(options).args(["--operator", "alice"]));
    }
    gateway.start(&[]);
    let on = |path: &str| {
        let answer = http(gateway.address(), "GET", path, b"");
        (answer.status == 200).then(|| CrlDer::parse(&answer.body).unwrap())
    };
    for (path, revoked, not) in [("/crl", &serial, &other), ("/crl-g2", &other, &serial)] {
        let crl = wait_for(path, || on(path).filter(|crl| crl.contains(revoked)));
        assert!(!crl.contains(not));
    }
}

#[test]
fn nothing_half_made_and_nothing_twice() {
    let gateway = Gateway::init();
    let refused = |options: &[&str]| {
        let output = run(&mut gateway.command(&[&["ca"], options].concat()));
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        text(&output)
    };
    let prepare_as = |name| refused(&["prepare", "--name", name]);
    assert!(prepare_as("main").contains("called main already"));
    for name in ["..", ".", "a/b", "a:b"] {
        assert!(prepare_as(name).contains("--name"), "{name}");
    }
    assert!(refused(&["prepare", "--name", "g2", "--after", "g1"]).contains("no CA is called g1"));
    let same = ["prepare", "--name", "g2", "--ca-name", "O=Sceptic, CN=Device CA"];
    assert!(refused(&same).contains("another CA has this name"));
    assert!(!gateway.file("gw/g2").exists());

    let section = prepare(&gateway, &["--ca-key", "p384", "--ca-name", "CN=Next"]);
    let next = certificate(&gateway, "gw/g2/ca.cert.pem");
    assert_eq!(next.spki().algorithm(), KeyAlgorithm::P384);
    assert!(prepare_as("g2").contains("exists already"));
    // What was made is what the configuration takes.
    gateway.configure(|text| format!("{text}\n{section}"));
    let checked = String::from_utf8(must(&mut gateway.command(&["check-config"]))).unwrap();
    assert!(checked.contains("follows main"), "{checked}");
    // The next one after it.
    let third =
        gateway.command(&["ca", "prepare"]).args(["--name", "g3", "--after", "g2"]).output();
    let third = third.unwrap();
    assert!(third.status.success(), "{}", text(&third));

    // About a CA that is elsewhere; a leaf is none.
    let announce = |certificate: &str| {
        let mut command = gateway.command(&["ca", "announce"]);
        command.arg("--certificate").arg(gateway.file(certificate));
        run(command.arg("--out").arg(gateway.file("answer.der")))
    };
    let leaf = announce("gw/g2/ra-sign.cert.pem");
    assert!(text(&leaf).contains("no CA's"), "{}", text(&leaf));
    assert!(announce("gw/g3/ca.cert.pem").status.success());
    let answer = std::fs::read(gateway.file("answer.der")).unwrap();
    let (legacy, limits) = (LegacyAlgorithms::Refuse, Limits::default());
    let (told, signer) = scep_message::next_ca::parse(&answer, &AwsLc, legacy, &limits).unwrap();
    assert_eq!(told, [certificate(&gateway, "gw/g3/ca.cert.pem")]);
    assert_eq!(signer, *certificate(&gateway, "gw/ca.cert.pem").spki());
}

/// What a device knows of the server: whom to encrypt to, and who answers.
#[derive(Clone, Debug)]
struct Known {
    recipient: CertificateDer,
    signers: Vec<CertificateDer>,
}

/// One HTTP exchange, or nothing: the gateway is being restarted.
fn exchange(address: SocketAddr, request: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(request).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let at = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let (head, body) =
        (String::from_utf8_lossy(&answer[..at]).into_owned(), answer[at + 4..].to_vec());
    if head.contains(" 503 ") {
        return None;
    }
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let length = head
        .lines()
        .find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    // Cut off by the end of the process.
    (length.and_then(|n| n.parse().ok()) == Some(body.len())).then_some(body)
}

/// As GetCACert says at this moment.
fn discover(address: SocketAddr) -> Known {
    let body = wait_for("GetCACert", || {
        exchange(
            address,
            b"GET /?operation=GetCACert HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
    });
    let all = scep_message::ca_cert::parse(&body, &Limits::default()).unwrap();
    Known { recipient: all[0].clone(), signers: all }
}

/// Asks until there is an answer, as devices do: with the same request, each time in a message of its own.
fn ask(
    address: SocketAddr,
    known: &Known,
    device: &Device,
    me: &Recipient,
    key: &SoftwareKey,
) -> CertificateDer {
    let transaction_id = TransactionId::new(format!("T{}", device.public_key().hash())).unwrap();
    let data = device.request();
    let signer = key.signer();
    let who = Identity { certificate: &me.certificate, signer: &*signer };
    let what = Ask {
        message_type: MessageType::PkcsReq,
        transaction_id: &transaction_id,
        data: &data,
        recipient: &known.recipient,
        padding: RsaPadding::Pkcs1v15,
        encryption: ContentEncryption::Aes128Cbc,
        scheme: SignatureScheme::RsaPkcs1Sha256,
    };
    wait_for("an answer", || {
        let (message, nonce) = request(&what, &who, &AwsLc).unwrap();
        let head = format!(
            "POST /certsrv/mscep/mscep.dll?operation=PKIOperation HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n",
            message.len()
        );
        let body = exchange(address, &[head.as_bytes(), &message].concat())?;
        let expected = Expected {
            transaction_id: &transaction_id,
            nonce: &nonce,
            ra: &known.signers,
            me,
            challenge: None,
            legacy: LegacyAlgorithms::Refuse,
        };
        match expected.read(&body, &AwsLc, &Limits::default()).unwrap() {
            Reply::Success(certificates) => Some(certificates[0].clone()),
            other => panic!("{other:?}"),
        }
    })
}

/// Who has got what from whom.
#[derive(Debug, Default)]
struct Got {
    certificates: Mutex<Vec<(SpkiDer, CertificateDer)>>,
    /// By whether the device knows the first GetCACert or the present one, and by the issuer's name.
    counts: Mutex<HashMap<(bool, Vec<u8>), usize>>,
}

impl Got {
    fn count(&self, old: bool, ca: &CertificateDer) -> usize {
        let key = (old, ca.subject_der().to_vec());
        self.counts.lock().unwrap().get(&key).copied().unwrap_or(0)
    }
}

/// Enrols devices one after another until `stop`. Old ones go by the first GetCACert, whatever happens.
fn devices(
    (made_by, address): (&Gateway, SocketAddr),
    first: Option<&Known>,
    got: &Got,
    (asked, stop): (&AtomicUsize, &AtomicBool),
) {
    let key = keys::rsa2048(2);
    let me = Recipient { certificate: device_certificate(&key), key: key.decryption().unwrap() };
    while !stop.load(Ordering::Relaxed) {
        let device = made_by.device();
        asked.fetch_add(1, Ordering::Relaxed);
        let known = first.cloned().unwrap_or_else(|| discover(address));
        let certificate = ask(address, &known, &device, &me, &key);
        let issuer = certificate.issuer_der().to_vec();
        got.certificates.lock().unwrap().push((device.public_key().clone(), certificate));
        *got.counts.lock().unwrap().entry((first.is_some(), issuer)).or_default() += 1;
    }
}

#[test]
fn not_one_request_is_lost_while_a_ca_rolls_over() {
    const EACH: usize = 15;
    let mut gateway = Gateway::init();
    gateway.start(&[]);
    let first = discover(gateway.address());
    let (got, asked, stop) = (Got::default(), AtomicUsize::new(0), AtomicBool::new(false));
    let main = certificate(&gateway, "gw/ca.cert.pem");
    // Makes devices and their challenges, while the other one is started and stopped.
    let (twin, address) = (gateway.twin(), gateway.address());
    std::thread::scope(|scope| {
        for old in [true, true, false, false] {
            let (known, got, run) = (old.then_some(&first), &got, (&asked, &stop));
            let of = (&twin, address);
            scope.spawn(move || devices(of, known, got, run));
        }
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let until = |what: &str, ca: &CertificateDer| {
                let (before, deadline) =
                    ([true, false].map(|old| got.count(old, ca)), Instant::now() + PATIENCE);
                loop {
                    let now = [true, false].map(|old| got.count(old, ca));
                    if now[0] >= before[0] + EACH && now[1] >= before[1] + EACH {
                        return;
                    }
                    assert!(Instant::now() < deadline, "{what}: {now:?}");
                    std::thread::sleep(Duration::from_millis(10));
                }
            };
            until("before", &main);
            let section = prepare(&gateway, &[]);
            let next = certificate(&gateway, "gw/g2/ca.cert.pem");
            gateway.configure(|text| format!("{text}\n{section}"));
            gateway.stop();
            gateway.start(&[]);
            until("told of", &main);
            // In the middle of whatever it does, and not in order.
            switch(&gateway);
            gateway.kill();
            gateway.start(&[]);
            until("after", &next);
            gateway.stop();
            gateway.start(&[]);
            until("later", &next);
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
    });

    // Everybody who asked has one, for the key that was asked for, and no request two.
    let certificates = got.certificates.lock().unwrap();
    assert_eq!(certificates.len(), asked.load(Ordering::Relaxed));
    assert!(certificates.iter().all(|(key, certificate)| certificate.spki() == key));
    gateway.stop();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let on_record = runtime.block_on(gateway.ledger().inventory(u32::MAX, None)).unwrap();
    assert_eq!(on_record.len(), certificates.len());
}
