//! A profile with manual approval from the issuer's API to the certificate, and what the issuer is told on the way.

use crate::estate::{Device, Gateway, Issuer, PROFILE, identity, until};
use scep_client::{Answer, ClientError, Identity, Pending, ScepClient, Server};
use scep_keys::AwsLc;
use scep_server::SystemClock;
use scep_testkit::process::{binary, must, wait_for};
use scep_types::Clock;
use serde_json::{Value, json};
use std::process::Command;

type Client = (ScepClient, Server);

async fn held(client: &Client, device: &Device, identity: &Identity) -> Pending {
    let (now, request) = (SystemClock.now(), device.request());
    match client.0.enrol(&client.1, &request, identity, now, &AwsLc).await {
        Ok(Answer::Pending(pending)) => pending,
        other => panic!("{other:?}"),
    }
}

async fn poll(
    client: &Client,
    pending: &Pending,
    identity: &Identity,
) -> Result<Answer, ClientError> {
    client.0.poll(&client.1, pending, identity, SystemClock.now(), &AwsLc).await
}

/// A person's word on the request of a device.
fn decide(gateway: &Gateway, device: &str, word: &str) {
    let held = |words: &[&str]| {
        let mut command = Command::new(binary("scep-gateway"));
        command.env_remove("SCEP_GATEWAY_CONFIG").arg("held").args(words);
        must(command.arg("--config").arg(gateway.config()))
    };
    let all: Vec<Value> = serde_json::from_slice(&held(&["list", "--json"])).unwrap();
    let one = all.iter().find(|one| one["device"] == device).expect("its request waits");
    held(&[word, &one["row"].to_string(), "--person", "alice"]);
}

/// Whether the folder of the delivery log has a file of an event of this kind.
fn logged(gateway: &Gateway, stage: &str, kind: &str) -> bool {
    let Ok(files) = std::fs::read_dir(gateway.file(&format!("status/{stage}"))) else {
        return false;
    };
    let said = format!("\"{kind}\"");
    files
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap_or_default())
        .any(|text| text.contains(&said))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_person_and_what_was_decided_is_reported() {
    let mut issuer = Issuer::start();
    let profile = format!("{PROFILE}approval = \"manual\"\n");
    issuer.post("/profiles", json!({ "toml": profile })).await;
    let gateway = Gateway::join(&issuer, "main").await;
    let (client, identity) = (gateway.client().await, identity());
    let mut devices = Vec::new();
    for name in ["laptop-1", "laptop-2", "laptop-3"] {
        issuer.device(name).await;
        devices.push(issuer.challenge(name, "main").await);
    }
    // The issuer is away: what happens meanwhile is on its way to it.
    issuer.program.kill();
    let first = held(&client, &devices[0], &identity).await;
    wait_for("the event to be on its way", || logged(&gateway, "processing", "held").then_some(()));
    issuer.program.start();
    let second = held(&client, &devices[1], &identity).await;
    let third = held(&client, &devices[2], &identity).await;
    decide(&gateway, "laptop-1", "approve");
    decide(&gateway, "laptop-2", "deny");
    decide(&gateway, "laptop-3", "approve");
    let answer = poll(&client, &first, &identity).await.unwrap();
    assert!(matches!(answer, Answer::Issued(_)), "{answer:?}");
    let error = poll(&client, &second, &identity).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "{error:?}");

    // What a device was refused and what it was given is there in the order in which it happened, with the person's name.
    let events = |device: &'static str| {
        let issuer = &issuer;
        async move { issuer.list(&format!("/events?device={device}")).await }
    };
    let kinds = |events: &[Value]| -> Vec<String> {
        events.iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
    };
    let told = until("the issuer knows of the first", || async {
        let told = events("laptop-1").await;
        (told.len() >= 3).then_some(told)
    })
    .await;
    let mut seen = kinds(&told);
    seen.truncate(3);
    assert!(
        seen == ["held", "held-decided", "issued"] || seen == ["issued", "held-decided", "held"],
        "{told:?}"
    );
    let decided = told.iter().find(|event| event["kind"] == "held-decided").unwrap();
    assert!(decided.to_string().contains("alice"), "{decided}");
    let told = until("the issuer knows of the second", || async {
        let told = events("laptop-2").await;
        (told.len() >= 3).then_some(told)
    })
    .await;
    assert!(told.iter().any(|event| event.to_string().contains("ApprovalDenied")), "{told:?}");
    wait_for("the delivery log", || logged(&gateway, "succeed", "held-decided").then_some(()));

    // Approved, and disabled before it has come for it.
    issuer.set_state("laptop-3", "disabled").await;
    until("the gateway knows that the device is disabled", || async {
        let health: Value = serde_json::from_slice(&gateway.health().body).ok()?;
        (health["denials"] == 1).then_some(())
    })
    .await;
    let error = poll(&client, &third, &identity).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "{error:?}");
    issuer.set_state("laptop-3", "enrolled").await;
    until("it is enabled again", || async {
        match poll(&client, &third, &identity).await {
            Ok(Answer::Issued(_)) => Some(()),
            _ => None,
        }
    })
    .await;
    assert_eq!(issuer_certificates(&issuer).await, 2);
}

async fn issuer_certificates(issuer: &Issuer) -> usize {
    until("the issuer knows both certificates", || async {
        let count = issuer.list("/certificates").await.len();
        (count == 2).then_some(count)
    })
    .await
}
