//! What belongs to one tenant or group is nothing to another.

use crate::estate::{Gateway, Issuer, PROFILE, TENANT, enrol, identity};
use scep_client::ClientError;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_17_a_gateway_of_another_group_or_tenant_gets_nothing() {
    let issuer = Issuer::start();
    issuer.post("/profiles", json!({ "toml": PROFILE })).await;
    let ours = Gateway::join(&issuer, "main").await;
    let theirs = Gateway::join(&issuer, "branch").await;
    let identity = identity();

    issuer.device("laptop-1").await;
    let laptop = issuer.challenge("laptop-1", "main").await;
    let error = enrol(&theirs.client().await, &laptop.request(), &identity).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "{error:?}");
    enrol(&ours.client().await, &laptop.request(), &identity).await.unwrap();

    // Another tenant sees nothing of it, whatever it asks for, nor that it is there.
    let stranger = issuer.token_of("fabrikam");
    let connector = issuer.list("/connectors").await[0]["id"].as_str().unwrap().to_owned();
    for path in [
        "/devices/laptop-1",
        "/certificates",
        "/connectors",
        &format!("/connectors/{connector}"),
        "/revocations",
        "/gateway-groups/main",
    ] {
        let path = format!("/tenants/{TENANT}{path}");
        let (status, answer) = issuer.ask(&stranger, "GET", &path, None).await;
        assert_eq!(status, 404, "{path}: {answer}");
    }
    // A token of the other tenant does not bring a gateway into this one, nor into another group than its own.
    let token = |tenant: &'static str, group: &'static str, bearer: String| {
        let issuer = &issuer;
        async move {
            let path = format!("/tenants/{tenant}/connector-tokens");
            let body = json!({ "group": group });
            let (status, made) = issuer.ask(&bearer, "POST", &path, Some(&body)).await;
            assert_eq!(status, 201, "{made}");
            made["token"].as_str().unwrap().to_owned()
        }
    };
    let (status, _) = issuer
        .ask(&stranger, "POST", "/tenants/fabrikam/gateway-groups", Some(&json!({ "id": "main" })))
        .await;
    assert_eq!(status, 201);
    let foreign = token("fabrikam", "main", stranger.clone()).await;
    let gateway = Gateway::init(&issuer, TENANT, "main");
    let output = gateway.enroll(&issuer, &foreign);
    assert!(!output.status.success(), "{output:?}");
    let other = issuer.gateway_token("branch").await;
    let output = gateway.enroll(&issuer, &other);
    assert!(!output.status.success(), "{output:?}");
}
