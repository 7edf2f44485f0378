//! The issuer is away, for as long as it takes.

use crate::estate::{Gateway, Issuer, enrol, identity, until};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Devices that enrol while the issuer is away.
const DEVICES: usize = 500;
/// How many at once.
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_that_is_away_delays_reports_and_nothing_else() {
    let mut issuer = Issuer::start();
    issuer.post("/profiles", serde_json::json!({ "toml": crate::estate::PROFILE })).await;
    let gateway = Gateway::join(&issuer, "main").await;
    let mut devices = Vec::new();
    for n in 0..DEVICES {
        let id = format!("device-{n}");
        issuer.device(&id).await;
        devices.push(issuer.challenge(&id, "main").await);
    }
    let client = Arc::new(gateway.client().await);
    issuer.program.stop();

    let identity = Arc::new(identity());
    let devices = Arc::new(devices);
    let tasks: Vec<_> = (0..AT_ONCE)
        .map(|first| {
            let (client, identity) = (Arc::clone(&client), Arc::clone(&identity));
            let devices = Arc::clone(&devices);
            tokio::spawn(async move {
                let mut issued = BTreeMap::new();
                for device in devices.iter().skip(first).step_by(AT_ONCE) {
                    let certificate = enrol(&client, &device.request(), &identity).await.unwrap();
                    issued.insert(certificate.fingerprint().to_string(), device.id.clone());
                }
                issued
            })
        })
        .collect();
    let mut issued = BTreeMap::new();
    for task in tasks {
        issued.extend(task.await.unwrap());
    }
    assert_eq!(issued.len(), DEVICES);

    issuer.program.start();
    // All of them, each once, and each with its reply.
    let reported = until("every report arrives", || async {
        let reported = issuer.list("/certificates").await;
        let whole = reported.iter().filter(|one| one["delivered"].is_string()).count();
        (whole == DEVICES).then_some(reported)
    })
    .await;
    let reported: BTreeMap<String, String> = reported
        .iter()
        .map(|one| {
            let text = |name: &str| one[name].as_str().unwrap().to_owned();
            (text("thumbprint"), text("device"))
        })
        .collect();
    assert_eq!(reported, issued);

    // In order for each device: issued, then delivered.
    for device in devices.iter().step_by(50) {
        let events = issuer.list(&format!("/events?device={}", device.id)).await;
        let kinds: Vec<&str> = events.iter().map(|event| event["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["issued", "delivery"], "{}", device.id);
    }

    // The delivery log on the gateway's side says the same.
    let logged = until("the delivery log is complete", || async {
        let logged = log(&gateway.file("status/succeed"));
        (logged.len() == DEVICES && log(&gateway.file("status/processing")).is_empty())
            .then_some(logged)
    })
    .await;
    assert_eq!(logged, issued);
    assert!(log(&gateway.file("status/failed")).is_empty());
}

/// The issued certificates of a folder of the delivery log: thumbprint and device.
fn log(folder: &Path) -> BTreeMap<String, String> {
    let Ok(files) = std::fs::read_dir(folder) else { return BTreeMap::new() };
    files
        .filter_map(|file| {
            let text = std::fs::read_to_string(file.unwrap().path()).ok()?;
            let entry: serde_json::Value = serde_json::from_str(&text).unwrap();
            (entry["kind"] == "issued").then(|| {
                let text = |name: &str| entry[name].as_str().unwrap().to_owned();
                (text("thumbprint_sha256"), text("device"))
            })
        })
        .collect()
}
