//! Nothing secret is in anything that is written or answered.

use crate::estate::{Device, Gateway, Issuer, PROFILE, TENANT, enrol, identity, until};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use scep_pkcs10::CsrBuilder;
use scep_testkit::process::http;
use scep_types::Secret;
use serde_json::json;
use std::collections::HashMap;
use std::path::Path;

/// Octets that must be nowhere, in every form in which they could be written.
struct Needle {
    what: String,
    forms: Vec<Vec<u8>>,
}

impl Needle {
    fn of(what: impl Into<String>, octets: &[u8]) -> Self {
        assert!(octets.len() >= 24, "too short to be found by chance");
        let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        let mut forms = vec![octets.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
        // As a list of numbers, as Debug writes it.
        let numbers: Vec<String> = octets.iter().take(12).map(u8::to_string).collect();
        forms.push(numbers.join(", ").into_bytes());
        // In base64, wherever they begin within a group of three.
        for skip in 0..3 {
            let text = STANDARD.encode(&octets[skip..]);
            let whole = (octets.len() - skip) / 3 * 4;
            forms.push(text.as_bytes()[..whole].to_vec());
        }
        Self { what: what.into(), forms }
    }
}

/// The needles by the first octets of their forms, so that a long text is gone through once.
struct Needles(HashMap<[u8; HEAD], Vec<(String, Vec<u8>)>>);

const HEAD: usize = 8;

impl Needles {
    fn new(needles: Vec<Needle>) -> Self {
        let mut by_head: HashMap<_, Vec<_>> = HashMap::new();
        for Needle { what, forms } in needles {
            for form in forms {
                let head = form[..HEAD].try_into().unwrap();
                by_head.entry(head).or_default().push((what.clone(), form));
            }
        }
        Self(by_head)
    }

    fn found_in(&self, hay: &[u8]) -> Option<&str> {
        hay.windows(HEAD).enumerate().find_map(|(at, head)| {
            let candidates = self.0.get(head)?;
            let found = candidates.iter().find(|(_, form)| hay[at..].starts_with(form))?;
            Some(found.0.as_str())
        })
    }
}

/// A challenge's text, and what it is the base64 of.
fn of_challenge(whose: &str, text: &str) -> Vec<Needle> {
    let blob = STANDARD.decode(text).unwrap();
    let middle = text.len() / 2;
    vec![
        Needle::of(format!("the challenge of {whose}"), &text.as_bytes()[middle..middle + 32]),
        Needle::of(format!("the blob of {whose}"), &blob[blob.len() / 2..][..32]),
    ]
}

/// Of a request, its signature: nothing else has it.
fn of_request(whose: &str, der: &[u8]) -> Needle {
    Needle::of(format!("the request of {whose}"), &der[der.len() - 32..])
}

fn raw_key(path: &Path) -> Vec<u8> {
    let pem = std::fs::read_to_string(path).unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(body).unwrap()
}

/// The private parts of a PKCS #8 key, which its public ones do not have: past the modulus of RSA, the scalar of EC.
fn of_key(path: &Path) -> Needle {
    let der = raw_key(path);
    let private = if der.len() > 1_000 { &der[320..352] } else { &der[36..68] };
    Needle::of(path.display().to_string(), private)
}

/// The files below a folder; those with private keys apart.
fn files(folder: &Path, keys: &mut Vec<std::path::PathBuf>, others: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, keys, others);
        } else if path.is_file() {
            let text = std::fs::read(&path).unwrap();
            let is_key = text.windows(11).any(|window| window == b"PRIVATE KEY");
            if is_key { keys.push(path) } else { others.push(path) }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_61_no_secret_is_in_anything_that_is_written_or_answered() {
    let issuer = Issuer::start();
    issuer.post("/profiles", json!({ "toml": PROFILE })).await;
    let gateway = Gateway::init(&issuer, TENANT, "main");
    gateway.edit(|text| format!("{text}\n[log]\nlevel = \"trace\"\n"));
    let mut gateway = gateway.joined(&issuer, "main").await;
    let (client, identity) = (gateway.client().await, identity());
    let (mut needles, mut answers) = (Vec::new(), Vec::<Vec<u8>>::new());

    // What goes well, twice; what is refused for its name, and used with another key.
    issuer.device("laptop-1").await;
    let good = issuer.challenge("laptop-1", "main").await;
    let request = good.request();
    enrol(&client, &request, &identity).await.unwrap();
    enrol(&client, &request, &identity).await.unwrap();
    let stolen = Device::new("laptop-1", good.challenge()).request();
    let other = Device::new("laptop-2", good.challenge()).request();
    // Not a challenge at all.
    let nonsense = STANDARD.encode([7_u8; 300]);
    let garbage = Device::new("laptop-1", &nonsense).request();
    // A request that is none.
    let broken = {
        let mut der = CsrBuilder {
            challenge_password: Some(Secret::new(good.challenge().to_owned())),
            ..CsrBuilder::default()
        }
        .sign(&*scep_testkit::keys::p256(3).signer(), scep_types::SignatureScheme::EcdsaSha256)
        .unwrap();
        let last = der.len() - 1;
        der[last] ^= 1;
        der
    };
    for refused in [&stolen, &other, &garbage, &broken] {
        let error = enrol(&client, refused, &identity).await.unwrap_err();
        answers.push(format!("{error} {error:?}").into_bytes());
    }
    // Whoever asks wrongly puts the secret where it does not belong.
    for (method, target) in [
        ("GET", format!("/scep?operation=PKIOperation&message={}", STANDARD.encode(&request))),
        ("GET", format!("/scep?operation={}", good.challenge())),
        ("POST", format!("/scep?operation=PKIOperation&challenge={}", good.challenge())),
    ] {
        let answer = http(gateway.address, method, &target, &request);
        assert_ne!(answer.status, 200);
        answers.push(answer.body);
    }
    until("the reports are there", || async {
        (issuer.list("/certificates").await.len() == 1).then_some(())
    })
    .await;

    needles.extend(of_challenge("laptop-1", good.challenge()));
    needles.push(Needle::of("the nonsense", &nonsense.as_bytes()[100..132]));
    for (whose, der) in [
        ("laptop-1", &request),
        ("the thief", &stolen),
        ("another name", &other),
        ("nonsense", &garbage),
        ("nobody", &broken),
    ] {
        needles.push(of_request(whose, der));
    }
    answers.push(gateway.health().body);
    answers.push(http(gateway.admin, "GET", "/metrics", &[]).body);
    for list in ["/certificates", "/alarms", "/devices", "/connectors", "/revocations"] {
        answers.push(serde_json::to_vec(&issuer.list(list).await).unwrap());
    }
    gateway.program.stop();

    // Logs, delivery log, ledger and database: everything but the keys themselves.
    let (mut keys, mut others) = (Vec::new(), Vec::new());
    for folder in [gateway.folder(), issuer.folder()] {
        files(folder, &mut keys, &mut others);
    }
    needles.extend(keys.iter().map(|path| of_key(path)));
    assert!(keys.len() >= 6 && needles.len() >= 14, "{keys:?}");
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let names: Vec<String> = others.iter().map(|path| name(path)).collect();
    for expected in ["scep-gateway-1.err", "scep-issuer-1.err", "ledger.sqlite"] {
        assert!(names.iter().any(|name| name == expected), "{expected}: {names:?}");
    }
    let log = std::fs::read_to_string(gateway.folder().join("scep-gateway-1.err")).unwrap();
    for reason in ["SubjectNameMismatch", "ProofOfPossessionFailed", "ChallengeAlreadyUsed"] {
        assert!(log.contains(reason), "{log}");
    }
    let needles = Needles::new(needles);
    // They would be found: a key in its own file.
    assert!(needles.found_in(&raw_key(&keys[0])).is_some());
    for (place, text) in others
        .iter()
        .map(|path| (path.display().to_string(), std::fs::read(path).unwrap()))
        .chain(answers.into_iter().map(|answer| ("an answer".to_owned(), answer)))
    {
        assert_eq!(needles.found_in(&text), None, "in {place}");
    }
}
