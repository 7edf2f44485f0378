//! Gateway, issuer or both are killed at random moments while devices enrol and certificates are revoked: nothing is
//! lost, nothing is there twice, and both sides agree in the end.
//!
//! `SCEP_CRASH_KILLS`, `SCEP_CRASH_ENROLMENTS` and `SCEP_CRASH_SEED` make more of it, or the same again.

use crate::estate::{Device, Gateway, Issuer, PROFILE, TENANT, enrol, identity, until};
use core::time::Duration;
use scep_client::ClientError;
use scep_keys::AwsLc;
use scep_ledger::{Ledger, LedgerError, LedgerSettings, Standing};
use scep_testkit::process::{PATIENCE, wait_for};
use scep_types::{CrlDer, CryptoProvider, SerialNumber};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// How many devices enrol at once.
const CLIENTS: usize = 4;
/// Every so many-th certificate is revoked.
const REVOKED: usize = 10;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| {
        text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}"))
    })
}

fn say(text: &str) {
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap();
}

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn seed() -> Self {
        let mut random = [0; 8];
        AwsLc.random(&mut random).unwrap();
        let seed = number("SCEP_CRASH_SEED", u64::from_be_bytes(random));
        say(&format!("SCEP_CRASH_SEED={seed}"));
        Self(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_52_killed_gateways_and_issuers_lose_and_double_nothing() {
    let kills = number("SCEP_CRASH_KILLS", 3);
    let count = usize::try_from(number("SCEP_CRASH_ENROLMENTS", 500)).unwrap();
    let mut chance = Chance::seed();
    let mut issuer = Issuer::start();
    issuer.post("/profiles", json!({ "toml": PROFILE })).await;
    let gateway = Gateway::init(&issuer, TENANT, "main");
    // The brake is another test's.
    gateway.edit(|text| format!("{text}\n[revocations]\nbrake_percent = 100\n"));
    let mut gateway = gateway.joined(&issuer, "main").await;
    let mut devices = Vec::new();
    for n in 0..count {
        let id = format!("device-{n}");
        issuer.device(&id).await;
        devices.push(issuer.challenge(&id, "main").await);
    }

    let client = Arc::new(gateway.client().await);
    let (identity, devices) = (Arc::new(identity()), Arc::new(devices));
    let done = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..CLIENTS)
        .map(|first| {
            let (client, identity) = (Arc::clone(&client), Arc::clone(&identity));
            let (devices, done) = (Arc::clone(&devices), Arc::clone(&done));
            tokio::spawn(async move {
                let mut issued = BTreeMap::new();
                for device in devices.iter().skip(first).step_by(CLIENTS) {
                    let certificate = persist(&client, device, &identity).await;
                    issued.insert(device.id.clone(), certificate);
                    done.fetch_add(1, Ordering::Relaxed);
                }
                issued
            })
        })
        .collect();

    // Killed at moments that are spread over the enrolments.
    let mut ordered = BTreeSet::new();
    for kill in 1..=kills {
        let mark = count * usize::try_from(kill).unwrap() / (usize::try_from(kills).unwrap() + 1);
        until("enrolments go on", || async {
            (done.load(Ordering::Relaxed) >= mark).then_some(())
        })
        .await;
        order(&issuer, &mut ordered, count).await;
        tokio::time::sleep(Duration::from_millis(chance.below(300))).await;
        let whom = (kill + chance.below(3)) % 3;
        if whom != 0 {
            gateway.program.kill();
        }
        if whom != 1 {
            issuer.program.kill();
            issuer.program.start();
        }
        if whom != 0 {
            gateway.program.start();
        }
    }
    let mut issued = BTreeMap::new();
    for task in tasks {
        issued.extend(task.await.unwrap());
    }
    assert_eq!(issued.len(), count);

    // Every certificate is known to the issuer, once; what a device has is what was reported for it.
    let reported = until("every certificate is reported", || async {
        let reported = issuer.list("/certificates").await;
        (reported.len() >= count).then_some(reported)
    })
    .await;
    let held: BTreeSet<(String, String)> = issued
        .iter()
        .map(|(device, certificate)| (device.clone(), certificate.fingerprint().to_string()))
        .collect();
    let told: BTreeSet<(String, String)> = reported
        .iter()
        .map(|one| {
            let text = |name: &str| one[name].as_str().unwrap().to_owned();
            (text("device"), text("thumbprint"))
        })
        .collect();
    assert_eq!(reported.len(), count, "each once");
    assert_eq!(told, held);

    while ordered.len() < count / REVOKED {
        order(&issuer, &mut ordered, count).await;
    }
    let deadline = Instant::now() + PATIENCE;
    let revocations = loop {
        let all = issuer.list("/revocations").await;
        let left = all.iter().filter(|one| one["state"] != "on-crl").cloned().collect::<Vec<_>>();
        if left.is_empty() {
            break all;
        }
        // One in ten is as much as the issuer's brake lets go by itself.
        if left.iter().any(|one| one["state"] == "held") {
            issuer.post("/revocations/confirm", json!({ "note": "as planned" })).await;
        }
        assert!(Instant::now() < deadline, "not on the CRL: {left:?}\n{}", gateway.program.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(revocations.len(), ordered.len(), "one order for each");
    let crl = CrlDer::parse(&gateway.crl()).unwrap();
    assert_eq!(crl.serials().count(), ordered.len());

    // The ledger says the same.
    until("everything is acknowledged", || async {
        let health: serde_json::Value = serde_json::from_slice(&gateway.health().body).ok()?;
        (health["outbox"] == 0).then_some(())
    })
    .await;
    gateway.program.stop();
    let path = gateway.file("ledger.sqlite");
    let ledger = wait_for("the ledger is free", || {
        match Ledger::open_sqlite(&path, LedgerSettings::default()) {
            Err(LedgerError::InUse { .. }) => None,
            other => Some(other.unwrap()),
        }
    });
    let limit = u32::try_from(count * 2).unwrap();
    let inventory = ledger.inventory(limit, None).await.unwrap();
    let kept: BTreeSet<(String, String)> = inventory
        .iter()
        .map(|entry| (entry.device.to_string(), entry.fingerprint().to_string()))
        .collect();
    assert_eq!(inventory.len(), count);
    assert_eq!(kept, held);
    assert!(inventory.iter().all(|entry| entry.standing == Standing::Issued));
    let revoked: BTreeSet<String> = inventory
        .iter()
        .filter(|entry| entry.revoked_at.is_some())
        .map(|entry| entry.fingerprint().to_string())
        .collect();
    assert_eq!(revoked, ordered);
    for entry in inventory.iter().filter(|entry| entry.revoked_at.is_some()) {
        let serial: SerialNumber = entry.serial().unwrap();
        assert!(crl.contains(&serial), "{serial}");
    }
    say(&format!("{count} enrolments, {kills} kills, {} revocations", ordered.len()));
}

/// Asks until there is a certificate: a request that is cut off is repeated, as devices do.
async fn persist(
    client: &(scep_client::ScepClient, scep_client::Server),
    device: &Device,
    identity: &scep_client::Identity,
) -> scep_types::CertificateDer {
    let (request, deadline) = (device.request(), Instant::now() + PATIENCE);
    loop {
        match enrol(client, &request, identity).await {
            Ok(certificate) => return certificate,
            Err(ClientError::Connection { .. } | ClientError::Unreachable { .. }) => {
                assert!(Instant::now() < deadline, "the gateway has not answered for too long");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            // A good request is never refused, whatever has happened to the gateway.
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Has some of the certificates that the issuer knows revoked.
async fn order(issuer: &Issuer, ordered: &mut BTreeSet<String>, count: usize) {
    for certificate in issuer.list("/certificates").await {
        if ordered.len() >= count / REVOKED {
            return;
        }
        let thumbprint = certificate["thumbprint"].as_str().unwrap().to_owned();
        if ordered.insert(thumbprint.clone()) {
            let wanted = json!({ "thumbprint": thumbprint, "reason": "keyCompromise" });
            issuer.post("/revocations", wanted).await;
            if ordered.len().is_multiple_of(5) {
                return;
            }
        }
    }
}
