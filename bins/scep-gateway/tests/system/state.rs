//! What an administrator does to a device at the issuer reaches the gateway and the CRL.

use crate::estate::{Gateway, Issuer, PROFILE, enrol, identity, until};
use scep_client::ClientError;
use scep_types::CrlDer;
use serde_json::json;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_device_is_refused_and_a_wiped_ones_certificate_is_on_the_crl() {
    let issuer = Issuer::start();
    issuer.post("/profiles", json!({ "toml": PROFILE })).await;
    let gateway = Gateway::join(&issuer, "main").await;
    let (client, identity) = (gateway.client().await, identity());

    // Refused as long as it is disabled, though its challenge is good.
    issuer.device("laptop-1").await;
    let laptop = issuer.challenge("laptop-1", "main").await;
    issuer.set_state("laptop-1", "disabled").await;
    let begun = Instant::now();
    let denials = || async {
        let health: serde_json::Value = serde_json::from_slice(&gateway.health().body).ok()?;
        (health["denials"] == 1).then_some(())
    };
    until("the gateway knows that the device is disabled", denials).await;
    let disabled = begun.elapsed();
    let request = laptop.request();
    let error = enrol(&client, &request, &identity).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "{error:?}");
    assert!(
        gateway.program.log().contains("ScepProfileNoLongerTargetedToTheClient"),
        "{}",
        gateway.program.log()
    );

    // Refusals have spent nothing.
    issuer.set_state("laptop-1", "enrolled").await;
    let certificate =
        until("it is enabled again", || async { enrol(&client, &request, &identity).await.ok() })
            .await;

    // Wiped: the certificate is revoked, and not even a retry gets it.
    until("the issuer knows the certificate", || async {
        (issuer.list("/certificates").await.len() == 1).then_some(())
    })
    .await;
    issuer.set_state("laptop-1", "wiped").await;
    let begun = Instant::now();
    let serial = certificate.serial().unwrap();
    until("the CRL lists the certificate", || async {
        let crl = CrlDer::parse(&gateway.crl()).ok()?;
        crl.contains(&serial).then_some(())
    })
    .await;
    let wiped = begun.elapsed();
    enrol(&client, &request, &identity).await.unwrap_err();
    until("the issuer is told that the CRL shows it", || async {
        let revocations = issuer.list("/revocations").await;
        revocations.iter().all(|one| one["state"] == "on-crl").then_some(())
    })
    .await;
    println!("known as disabled after {disabled:?}, on the CRL after {wiped:?}");
}
