//! The issuer's admin API over real HTTP, in this process, on each database. How to add a test: see `harness`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

mod check_in;
mod connectors;
mod denials;
mod gateway;
mod harness;
mod house;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod proxy;
mod reports;

use harness::{Tests, tests};
use house::{House, PROFILE, below, group, tenant};
use scep_challenge::{Opener, OpeningKey, PinnedSigner};
use scep_issuance::service::{ListenError, MAX_BODY, Service, Tls};
use scep_keys::AwsLc;
use scep_testkit::clock::FixedClock;
use scep_testkit::device::TestExtension;
use scep_testkit::keys::TestKey;
use scep_types::Timestamp;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// One line for each module.
fn every_test() -> Vec<Tests> {
    vec![TESTS, connectors::TESTS, denials::TESTS, check_in::TESTS, reports::TESTS]
}

fn main() {
    #[cfg(feature = "postgres")]
    let of_server = &[postgres::TESTS];
    #[cfg(not(feature = "postgres"))]
    let of_server = &[];
    harness::run(&every_test(), of_server).exit();
}

/// Every route of the document, with its method.
fn routes() -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(&Service::openapi()).unwrap();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            routes.push((
                method.clone(),
                path.replace("{tenant}", "contoso").replace("{kind}", "user").replace("{id}", "1"),
            ));
        }
    }
    assert!(routes.len() > 20, "{routes:?}");
    routes
}

async fn every_route_demands_a_token_its_tenant_and_its_scope() {
    let house = House::new().await;
    for (method, path) in routes() {
        let ask = async |token: Option<&str>| house.call(token, &method, &path, None, &[]).await;
        ask(None).await.is_problem(401, "unauthenticated");
        let guessed = format!("scepiss_{}", "0".repeat(64));
        ask(Some(&guessed)).await.is_problem(401, "unauthenticated");
        // A token that can do less than is needed: nobody who may only read writes, nor the reverse.
        let (weak, strong) = match (method.as_str(), path.ends_with("/challenges")) {
            ("get", _) => (&house.write, &house.read),
            ("post", true) => (&house.read, &house.write),
            _ => (&house.read, &house.admin),
        };
        ask(Some(weak)).await.is_problem(403, "wrong-scope");
        let allowed = ask(Some(strong)).await.status;
        assert!(![401, 403].contains(&allowed), "{method} {path}: {allowed}");
        if !path.ends_with("/tenants") {
            ask(Some(&house.other)).await.is_problem(404, "not-found");
        }
    }
    // A tenant that does not exist looks like one that does.
    let path = "/api/v1/tenants/nobody/devices";
    house.call(Some(&house.admin), "GET", path, None, &[]).await.is_problem(404, "not-found");
    let seen = house.call(Some(&house.other), "GET", "/api/v1/tenants", None, &[]).await.is(200);
    assert_eq!(seen["items"], json!([{ "id": "fabrikam" }]));
}

async fn what_one_tenant_has_another_does_not_see() {
    let house = House::new().await;
    house.furnish().await;
    let own = "/api/v1/tenants/fabrikam";
    for kind in ["profiles", "devices", "assignments", "users", "gateway-groups", "challenges"] {
        let path = format!("{own}/{kind}");
        let list = house.call(Some(&house.other), "GET", &path, None, &[]).await.is(200);
        assert_eq!(list, json!({ "items": [] }), "{kind}");
    }
    let id = house.get("/assignments").await.is(200)["items"][0]["id"].clone();
    let paths =
        ["devices/laptop-1", "profiles/wifi", &format!("assignments/{}", id.as_str().unwrap())];
    for path in paths {
        for method in ["GET", "DELETE"] {
            let path = format!("{own}/{path}");
            let answer = house.call(Some(&house.other), method, &path, None, &[]).await;
            answer.is_problem(404, "not-found");
        }
    }
    house.get("/devices/laptop-1").await.is(200);
    let wanted = json!({ "device": "laptop-1", "profile": "wifi" }).to_string();
    let path = format!("{own}/challenges");
    let answer = house.call(Some(&house.other), "POST", &path, Some(&wanted), &[]).await;
    answer.is_problem(409, "unknown-device");
}

async fn each_kind_of_object_is_made_read_changed_and_removed() {
    let house = House::new().await;
    house.furnish().await;
    assert_eq!(house.get("").await.is(200), json!({ "id": "contoso" }));

    let profile = house.get("/profiles/wifi").await.is(200);
    assert_eq!(profile["toml"], PROFILE);
    assert_eq!(profile["for"], "device");
    assert_eq!(profile["validity"], "365d");
    assert_eq!(profile["variables"], json!(["DeviceId"]));
    assert_eq!(profile["scep_urls"], json!(["https://scep.example.org/scep"]));
    assert_eq!(profile["warnings"], json!([]));
    // A name that whoever holds the device can choose: a warning, not a refusal.
    let toml = PROFILE.replace("{{DeviceId}}", "{{DeviceName}}");
    let linted = house.send("PUT", "/profiles/wifi", &json!({ "toml": toml })).await.is(200);
    assert!(linted["warnings"][0].as_str().unwrap().contains("DeviceName"), "{linted}");
    assert_eq!(house.get("/profiles/wifi").await.is(200), linted);
    house.delete("/profiles/wifi").await.is_problem(409, "in-use");

    let user = json!({ "id": "ada", "attributes": { "UserName": "ada" } });
    let made = house.post("/users", &user).await;
    assert_eq!(made.headers["location"], below("/users/ada"));
    assert_eq!(made.is(201), user);
    house.post("/users", &user).await.is_problem(409, "exists");
    let change = json!({ "attributes": { "EmailAddress": "ada@example.org" } });
    let changed = house.send("PUT", "/users/ada", &change).await.is(200);
    assert_eq!(changed["attributes"], change["attributes"]);
    assert_eq!(house.get("/users/ada").await.is(200), changed);
    house.send("PUT", "/users/eve", &change).await.is_problem(404, "not-found");

    let change = json!({ "state": "disabled", "attributes": { "Device_Serial": "C02" } });
    let changed = house.send("PUT", "/devices/laptop-1", &change).await.is(200);
    assert_eq!(
        changed,
        json!({ "id": "laptop-1", "state": "disabled", "attributes": { "SerialNumber": "C02" } })
    );
    assert_eq!(house.get("/devices/laptop-1").await.is(200), changed);
    house.send("PUT", "/devices/laptop-9", &change).await.is_problem(404, "not-found");

    let pair = json!({ "profile": "wifi", "user": "ada" });
    let made = house.post("/assignments", &pair).await.is(201);
    house.post("/assignments", &pair).await.is_problem(409, "exists");
    let path = format!("/assignments/{}", made["id"].as_str().unwrap());
    assert_eq!(house.get(&path).await.is(200), made);
    house.delete(&path).await.is(204);
    house.get(&path).await.is_problem(404, "not-found");

    let pem = scep_keys::public_key_pem(&TestKey::RsaB.public_key());
    let group = json!({ "id": "second", "public_key": pem });
    assert_eq!(house.post("/gateway-groups", &group).await.is(201), group);
    assert_eq!(house.get("/gateway-groups/second").await.is(200), group);
    house.delete("/gateway-groups/second").await.is(204);

    // With a device go its assignments, and then the profile can go.
    house.delete("/devices/laptop-1").await.is(204);
    house.delete("/devices/laptop-1").await.is_problem(404, "not-found");
    assert_eq!(house.get("/assignments").await.is(200), json!({ "items": [] }));
    house.delete("/profiles/wifi").await.is(204);
    house.delete("/users/ada").await.is(204);
}

async fn bad_input_is_refused_and_the_field_named() {
    let house = House::new().await;
    house.furnish().await;
    let long = "x".repeat(129);
    let rsa1024 = "-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n";
    let own = scep_keys::public_key_pem(&TestKey::P256A.public_key());
    let p384 = scep_keys::public_key_pem(&TestKey::P384A.public_key());
    for (method, path, body, field) in [
        ("POST", "/devices", json!({}), "id"),
        ("POST", "/devices", json!({ "id": "a b" }), "id"),
        ("POST", "/devices", json!({ "id": "" }), "id"),
        ("POST", "/devices", json!({ "id": long }), "id"),
        ("POST", "/devices", json!({ "id": 7 }), "id"),
        ("POST", "/devices", json!({ "id": "a", "colour": "red" }), "colour"),
        ("POST", "/devices", json!({ "id": "a", "state": "lost" }), "state"),
        ("POST", "/devices", json!({ "id": "a", "attributes": { "Nme": "x" } }), "attributes.Nme"),
        (
            "POST",
            "/devices",
            json!({ "id": "a", "attributes": { "UserName": "ada" } }),
            "attributes.UserName",
        ),
        (
            "POST",
            "/devices",
            json!({ "id": "a", "attributes": { "DeviceId": "b" } }),
            "attributes.DeviceId",
        ),
        (
            "POST",
            "/devices",
            json!({ "id": "a", "attributes": { "IMEI": "1", "Device_IMEI": "2" } }),
            "attributes.IMEI",
        ),
        (
            "POST",
            "/users",
            json!({ "id": "a", "attributes": { "UserName": "" } }),
            "attributes.UserName",
        ),
        (
            "POST",
            "/users",
            json!({ "id": "a", "attributes": { "SerialNumber": "1" } }),
            "attributes.SerialNumber",
        ),
        ("PUT", "/devices/laptop-1", json!({ "state": "enrolled" }), "attributes"),
        ("POST", "/profiles", json!({ "toml": "id = 1" }), "toml"),
        ("POST", "/profiles", json!({ "toml": PROFILE.replace("365d", "1y") }), "toml"),
        ("POST", "/profiles", json!({ "toml": PROFILE.replace("https://", "ftp://") }), "toml"),
        ("PUT", "/profiles/other", json!({ "toml": PROFILE }), "toml"),
        ("POST", "/assignments", json!({ "profile": "wifi" }), "device"),
        (
            "POST",
            "/assignments",
            json!({ "profile": "wifi", "device": "a", "user": "b" }),
            "device",
        ),
        ("POST", "/assignments", json!({ "profile": "wifi", "device": "nobody" }), "device"),
        ("POST", "/assignments", json!({ "profile": "wifi", "user": "nobody" }), "user"),
        ("POST", "/assignments", json!({ "profile": "vpn", "device": "laptop-1" }), "profile"),
        ("POST", "/gateway-groups", json!({ "id": "g", "public_key": "x" }), "public_key"),
        ("POST", "/gateway-groups", json!({ "id": "g", "public_key": rsa1024 }), "public_key"),
        ("POST", "/gateway-groups", json!({ "id": "g", "public_key": own }), "public_key"),
        ("POST", "/gateway-groups", json!({ "id": "g", "public_key": p384 }), "public_key"),
        ("POST", "/gateway-groups", json!({ "id": "g/", "public_key": own }), "id"),
        ("POST", "/challenges", json!({ "profile": "wifi" }), "device"),
        ("POST", "/challenges", json!({ "device": "ü", "profile": "wifi" }), "device"),
        ("POST", "/challenges", json!({ "device": "a", "profile": "w/" }), "profile"),
        ("POST", "/challenges", json!({ "device": "a", "profile": "w", "group": "" }), "group"),
        ("POST", "/challenges", json!({ "device": "a", "profile": "w", "user": "\u{0}" }), "user"),
    ] {
        let answer = house.send(method, path, &body).await;
        answer.is_problem(422, "bad-field");
        assert_eq!(answer.json()["field"], field, "{body}: {}", answer.text);
    }
    for (path, field, status) in [
        ("/devices?limit=0", "limit", 422),
        ("/devices?limit=201", "limit", 422),
        ("/devices?limit=x", "limit", 422),
        ("/devices?after=a%20b", "after", 422),
        ("/assignments?after=x", "after", 422),
        ("/challenges?after=-1", "after", 422),
        ("/challenges?after=99999999999999999999", "after", 422),
        ("/devices?page=2", "query", 400),
        ("/devices?after=a&after=b", "query", 400),
    ] {
        let answer = house.get(path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        assert_eq!(answer.json()["field"], field, "{path}");
    }
    for path in ["/devices/a%20b", "/assignments/x", "/challenges/%00", "/profiles/%FF"] {
        house.get(path).await.is_problem(404, "not-found");
    }
    let raw = async |body: &str, headers: &[(&str, &str)]| {
        house.call(Some(&house.admin), "POST", &below("/devices"), Some(body), headers).await
    };
    raw("{", &[]).await.is_problem(400, "bad-request");
    raw("{\"id\":\"a\"} x", &[]).await.is_problem(400, "bad-request");
    raw(r#"{"id":"\ud800"}"#, &[]).await.is_problem(400, "bad-request");
    raw("{}", &[("Content-Type", "text/plain")]).await.is_problem(415, "not-json");
    let twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")];
    raw("{}", &twice).await.is_problem(400, "bad-request");
    raw("{}", &[("Idempotency-Key", &long)]).await.is_problem(400, "bad-request");
    let patch = house.call(Some(&house.admin), "PATCH", &below("/devices"), Some("{}"), &[]).await;
    patch.is_problem(405, "method-not-allowed");
    assert!(patch.headers.contains_key("allow"));
    house.get("/gadgets").await.is_problem(404, "not-found");
    // The largest body, and one octet more.
    let sized = |size: usize| {
        let text = json!({ "id": "sized" }).to_string();
        let spaces = " ".repeat(size - text.len());
        text + &spaces
    };
    raw(&sized(MAX_BODY + 1), &[]).await.is_problem(413, "body-too-large");
    raw(&sized(MAX_BODY), &[]).await.is(201);
}

async fn a_challenge_opens_at_the_gateway_and_is_recorded_without_its_text() {
    let house = House::new().await;
    house.furnish().await;
    let wanted = json!({ "device": "laptop-1", "profile": "wifi" }).to_string();
    let path = below("/challenges");
    let answer = house.call(Some(&house.write), "POST", &path, Some(&wanted), &[]).await;
    assert_eq!(answer.headers["cache-control"], "no-store");
    let made = answer.is(201);
    assert_eq!(made["scep_urls"], json!(["https://scep.example.org/scep"]));
    let pinned = PinnedSigner {
        key: TestKey::P256A.public_key(),
        not_before: Timestamp::EPOCH,
        not_after: Timestamp::MAX,
    };
    let opener = Opener::new(
        tenant(),
        group(),
        vec![pinned],
        vec![OpeningKey { key: TestKey::RsaA.decryption(), not_after: None }],
        Duration::from_secs(3600),
        Duration::from_secs(60),
    )
    .unwrap();
    let text = made["challenge"].as_str().unwrap();
    let opened = opener.open(text, house.now(), &AwsLc).unwrap();
    let claims = opened.claims();
    assert_eq!(claims.challenge_id.to_string(), made["id"].as_str().unwrap());
    assert_eq!((claims.device.as_str(), claims.profile.as_str()), ("laptop-1", "wifi"));
    assert_eq!(claims.expires_at.to_string(), made["expires_at"].as_str().unwrap());
    assert_eq!(claims.expectation.subject.to_string(), "O=Example, CN=laptop-1");

    let record = house.get(&format!("/challenges/{}", made["id"].as_str().unwrap())).await.is(200);
    let mut expected = made.clone();
    let payloads = &made["payloads"];
    assert_eq!(payloads["json"]["challenge"], made["challenge"]);
    let apple = payloads["mobileconfig"].as_str().unwrap();
    assert!(apple.contains("com.apple.security.scep") && apple.contains(text), "{apple}");
    // Windows needs the CA's certificate, which the issuer does not have.
    assert_eq!(payloads.get("syncml"), None);
    assert!(payloads["absent"]["syncml"].as_str().unwrap().contains("CAThumbprint"));
    for secret in ["challenge", "scep_urls", "payloads"] {
        expected.as_object_mut().unwrap().remove(secret).unwrap();
    }
    assert_eq!(record, expected);
    assert_eq!(house.get("/challenges").await.is(200)["items"], json!([expected]));
}

async fn windows_has_its_payload_once_the_group_has_its_ca() {
    let house = House::new().await;
    house.furnish().await;
    let wanted = json!({ "device": "laptop-1", "profile": "wifi" });
    let ca = scep_testkit::house::device_certificate(&scep_testkit::keys::rsa2048(0));
    let change =
        json!({ "ca_certificate": scep_keys::certificates_pem(std::slice::from_ref(&ca)) });
    let changed = house.send("PUT", "/gateway-groups/main", &change).await.is(200);
    assert_eq!(changed["ca_certificate"], change["ca_certificate"]);
    assert_eq!(house.get("/gateway-groups/main").await.is(200), changed);
    assert_eq!(house.get("/gateway-groups").await.is(200)["items"], json!([changed]));
    let made = house.post("/challenges", &wanted).await.is(201);
    let syncml = made["payloads"]["syncml"].as_str().unwrap();
    let thumbprint: String =
        Sha1::digest(ca.as_der()).iter().map(|octet| format!("{octet:02X}")).collect();
    assert!(syncml.contains(&thumbprint), "{syncml}");
    assert_eq!(made["payloads"]["absent"], json!({}));

    for bad in ["", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"] {
        let change = json!({ "ca_certificate": bad });
        let answer = house.send("PUT", "/gateway-groups/main", &change).await;
        answer.is_problem(422, "bad-field");
        assert_eq!(answer.json()["field"], "ca_certificate");
    }
    house.send("PUT", "/gateway-groups/else", &change).await.is_problem(404, "not-found");
    let none = json!({ "ca_certificate": null });
    house.send("PUT", "/gateway-groups/main", &none).await.is(200);
    let made = house.post("/challenges", &wanted).await.is(201);
    assert!(made["payloads"]["absent"]["syncml"].as_str().unwrap().contains("CAThumbprint"));
}

async fn devices_that_may_not_have_a_challenge_get_none() {
    let house = House::new().await;
    house.furnish().await;
    let ask = async |device: &str, profile: &str, more: Value| {
        let mut body = json!({ "device": device, "profile": profile });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        house.post("/challenges", &body).await
    };
    ask("laptop-1", "wifi", json!({})).await.is(201);
    ask("laptop-9", "wifi", json!({})).await.is_problem(409, "unknown-device");
    ask("laptop-1", "vpn", json!({})).await.is_problem(409, "unknown-profile");
    ask("laptop-2", "wifi", json!({})).await.is_problem(409, "not-assigned");
    ask("laptop-1", "wifi", json!({ "group": "far" })).await.is_problem(409, "unknown-group");
    ask("laptop-1", "wifi", json!({ "user": "eve" })).await.is_problem(409, "unknown-user");
    for (state, kind) in [("disabled", "device-disabled"), ("wiped", "device-wiped")] {
        let change = json!({ "state": state, "attributes": {} });
        house.send("PUT", "/devices/laptop-1", &change).await.is(200);
        ask("laptop-1", "wifi", json!({})).await.is_problem(409, kind);
    }
    // What was wiped does not come back by the way.
    for state in ["enrolled", "disabled"] {
        let change = json!({ "state": state, "attributes": {} });
        let refused = house.send("PUT", "/devices/laptop-1", &change).await;
        refused.is_problem(409, "device-wiped");
    }
    let change = json!({ "state": "wiped", "attributes": { "SerialNumber": "C02" } });
    house.send("PUT", "/devices/laptop-1", &change).await.is(200);
    let back = house.post("/devices/laptop-1/re-enrol", &json!({})).await.is(200);
    assert_eq!(
        (&back["state"], &back["attributes"]["SerialNumber"]),
        (&json!("enrolled"), &json!("C02"))
    );
    house.post("/devices/laptop-1/re-enrol", &json!({})).await.is_problem(409, "not-wiped");
    house.post("/devices/laptop-9/re-enrol", &json!({})).await.is_problem(404, "not-found");
    house
        .send("PUT", "/devices/laptop-1", &json!({ "state": "enrolled", "attributes": {} }))
        .await
        .is(200);
    ask("laptop-1", "wifi", json!({})).await.is(201);
    // A user of a profile for devices, and a name without a value.
    house.post("/users", &json!({ "id": "ada" })).await.is(201);
    ask("laptop-1", "wifi", json!({ "user": "ada" })).await.is_problem(409, "cannot-mint");
    let toml = PROFILE.replace("{{DeviceId}}", "{{SerialNumber}}");
    house.send("PUT", "/profiles/wifi", &json!({ "toml": toml })).await.is(200);
    let refused = ask("laptop-1", "wifi", json!({})).await;
    refused.is_problem(409, "cannot-mint");
    assert!(refused.text.contains("SerialNumber"), "{}", refused.text);
    // Several groups: one must be named.
    let pem = scep_keys::public_key_pem(&TestKey::RsaB.public_key());
    let second = json!({ "id": "second", "public_key": pem });
    house.post("/gateway-groups", &second).await.is(201);
    house.send("PUT", "/profiles/wifi", &json!({ "toml": PROFILE })).await.is(200);
    ask("laptop-1", "wifi", json!({})).await.is_problem(409, "which-group");
    let made = ask("laptop-1", "wifi", json!({ "group": "second" })).await.is(201);
    assert_eq!(made["group"], "second");
    // None of the refusals was recorded.
    assert_eq!(house.get("/challenges").await.is(200)["items"].as_array().unwrap().len(), 3);
}

async fn a_user_brings_the_profile_and_the_names() {
    let house = House::new().await;
    house.furnish().await;
    let toml = PROFILE
        .replace("\"wifi\"", "\"mail\"")
        .replace("\"device\"", "\"user\"")
        .replace("{{DeviceId}}", "{{UserName}}");
    house.post("/profiles", &json!({ "toml": toml })).await.is(201);
    let user = json!({ "id": "ada", "attributes": { "UserName": "ada" } });
    house.post("/users", &user).await.is(201);
    let wanted = json!({ "device": "laptop-2", "profile": "mail", "user": "ada" });
    house.post("/challenges", &wanted).await.is_problem(409, "not-assigned");
    house.post("/assignments", &json!({ "profile": "mail", "user": "ada" })).await.is(201);
    assert_eq!(house.post("/challenges", &wanted).await.is(201)["user"], "ada");
    // The user's assignment is not the device's.
    let wanted = json!({ "device": "laptop-2", "profile": "mail" });
    house.post("/challenges", &wanted).await.is_problem(409, "not-assigned");
}

async fn a_repeated_post_has_one_effect_and_one_answer() {
    let house = House::new().await;
    house.furnish().await;
    let path = below("/challenges");
    let wanted = json!({ "device": "laptop-1", "profile": "wifi" }).to_string();
    let post = async |token: &str, body: &str, key: &str| {
        let headers = [("Idempotency-Key", key)];
        house.call(Some(token), "POST", &path, Some(body), &headers).await
    };
    let first = post(&house.write, &wanted, "k1").await;
    assert!(!first.headers.contains_key("idempotency-replayed"));
    let again = post(&house.write, &wanted, "k1").await;
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!((again.status, &again.text), (201, &first.text));
    assert_eq!(again.headers["location"], first.headers["location"]);
    // Another body, and another path.
    let other = format!("{wanted} ");
    post(&house.write, &other, "k1").await.is_problem(422, "idempotency-key-reused");
    // Another key, and the same key of another token, are other requests.
    let ids: Vec<Value> = [
        first.json()["id"].clone(),
        post(&house.write, &wanted, "k2").await.is(201)["id"].clone(),
        post(&house.admin, &wanted, "k1").await.is(201)["id"].clone(),
    ]
    .into();
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    let devices = below("/devices");
    let body = json!({ "id": "laptop-3" }).to_string();
    let headers = [("Idempotency-Key", "k1")];
    let answer = house.call(Some(&house.admin), "POST", &devices, Some(&body), &headers).await;
    answer.is_problem(422, "idempotency-key-reused");
    // At one time: all get the one answer.
    let all = tokio::join!(
        post(&house.write, &wanted, "k3"),
        post(&house.write, &wanted, "k3"),
        post(&house.write, &wanted, "k3")
    );
    assert_eq!((all.0.status, &all.0.text, &all.1.text), (201, &all.1.text, &all.2.text));
    let issued = house.get("/challenges").await.is(200)["items"].as_array().unwrap().len();
    assert_eq!(issued, 4);
    // A refusal is not kept.
    let unassigned = json!({ "device": "laptop-2", "profile": "wifi" });
    let body = unassigned.to_string();
    post(&house.write, &body, "k4").await.is_problem(409, "not-assigned");
    let pair = json!({ "profile": "wifi", "device": "laptop-2" });
    house.post("/assignments", &pair).await.is(201);
    post(&house.write, &body, "k4").await.is(201);
    // After a day the key is free.
    house.clock.advance(Duration::from_secs(24 * 3600 + 1));
    let later = post(&house.write, &wanted, "k1").await.is(201);
    assert_ne!(later["id"], first.json()["id"]);
}

async fn pages_have_everything_once() {
    let house = House::new().await;
    house.furnish().await;
    for n in 0..5 {
        house.post("/devices", &json!({ "id": format!("d{n}") })).await.is(201);
        let pair = json!({ "profile": "wifi", "device": format!("d{n}") });
        house.post("/assignments", &pair).await.is(201);
        let wanted = json!({ "profile": "wifi", "device": format!("d{n}") });
        house.post("/challenges", &wanted).await.is(201);
    }
    for (kind, count) in [("devices", 7), ("assignments", 6), ("challenges", 5), ("profiles", 1)] {
        let whole = house.get(&format!("/{kind}")).await.is(200);
        assert_eq!(whole.get("next"), None);
        let whole = whole["items"].as_array().unwrap().clone();
        assert_eq!(whole.len(), count, "{kind}");
        for limit in [1, 2, count] {
            let mut found = Vec::new();
            let mut path = format!("/{kind}?limit={limit}");
            loop {
                let page = house.get(&path).await.is(200);
                let items = page["items"].as_array().unwrap();
                assert!(!items.is_empty() && items.len() <= limit, "{kind} {limit}");
                found.extend(items.iter().cloned());
                let Some(next) = page.get("next") else { break };
                path = format!("/{kind}?limit={limit}&after={}", next.as_str().unwrap());
            }
            assert_eq!(found, whole, "{kind} by {limit}");
        }
    }
}

async fn neither_tokens_nor_challenges_are_in_the_database() {
    let house = House::new().await;
    house.furnish().await;
    let wanted = json!({ "device": "laptop-1", "profile": "wifi" }).to_string();
    let (path, key) = (below("/challenges"), [("Idempotency-Key", "secret-key-1")]);
    let made = house.call(Some(&house.write), "POST", &path, Some(&wanted), &key).await.is(201);
    let bytes = house.at_rest().await;
    let there = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    // That the search finds what is there.
    assert!(there("laptop-1") && there(made["id"].as_str().unwrap()));
    let challenge = made["challenge"].as_str().unwrap();
    // A piece of it, as a page of the file may end within.
    assert!(!there(&challenge[100..150]), "the challenge is at rest");
    for token in [&house.admin, &house.read, &house.write, &house.other] {
        assert!(!there(&token[8..40]), "a token is at rest");
    }
    assert!(!there("secret-key-1"));
}

async fn a_restart_keeps_everything() {
    let mut house = House::new().await;
    house.furnish().await;
    let wanted = json!({ "device": "laptop-1", "profile": "wifi" }).to_string();
    let (path, key) = (below("/challenges"), [("Idempotency-Key", "k")]);
    let first = house.call(Some(&house.write), "POST", &path, Some(&wanted), &key).await;
    let kinds = ["profiles", "devices", "assignments", "users", "gateway-groups", "challenges"];
    let mut before = Vec::new();
    for kind in kinds {
        before.push(house.get(&format!("/{kind}")).await.is(200));
    }
    house.restart().await;
    for (kind, before) in kinds.iter().zip(&before) {
        assert_eq!(house.get(&format!("/{kind}")).await.is(200), *before, "{kind}");
    }
    let again = house.call(Some(&house.write), "POST", &path, Some(&wanted), &key).await;
    assert_eq!(again.text, first.text);
}

async fn a_token_ends() {
    let house = House::new().await;
    house.get("").await.is(200);
    house.clock.advance(Duration::from_secs(30 * 86_400 - 1));
    house.get("").await.is(200);
    house.clock.advance(Duration::from_secs(1));
    house.get("").await.is_problem(401, "unauthenticated");
}

async fn the_document_is_served_and_says_what_holds_everywhere() {
    let house = House::new().await;
    let served = house.call(None, "GET", "/api/v1/openapi.json", None, &[]).await;
    assert_eq!((served.status, served.content_type.as_str()), (200, "application/json"));
    assert_eq!(served.text, Service::openapi());
    let document = served.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let create = &document["paths"]["/api/v1/tenants/{tenant}/challenges"]["post"];
    let problem = "application/problem+json";
    assert!(create["responses"]["default"]["content"][problem].is_object());
    let names: Vec<&str> = create["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["tenant", "Idempotency-Key"]);
}

async fn service(house: &House) -> Service {
    let store = house.store().await;
    Service::new(store, TestKey::P256A.signer(), Arc::new(AwsLc), Arc::new(FixedClock::default()))
}

async fn plain_http_is_for_loopback_alone() {
    let house = House::new().await;
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    // Told to stop already, so that it returns either way.
    let stop = CancellationToken::new();
    stop.cancel();
    let error = service(&house).await.serve(listener, None, stop).await.unwrap_err();
    assert!(matches!(error, ListenError::PlainBeyondLoopback(_)), "{error}");
}

async fn tls_serves_the_same_and_refuses_plain_text() {
    let house = House::new().await;
    let (key, other) = (TestKey::P256B.key(), TestKey::P256C);
    let certificate = scep_testkit::device::self_signed(
        &key,
        &"CN=localhost".parse().unwrap(),
        FixedClock::DAY,
        Timestamp::MAX,
        &[TestExtension::key_usage()],
    );
    let file = |name: &str, text: &str| {
        let path = house.dir.path().join(name);
        gateway::private_file(&path, text);
        path
    };
    let chain = file("tls.pem", &scep_keys::certificates_pem(&[certificate]));
    let key = file("tls.key.pem", TestKey::P256B.pem());
    let wrong = file("other.key.pem", other.pem());
    Tls::read(&chain, &wrong).unwrap_err();
    Tls::read(&key, &key).unwrap_err();
    Tls::read(&chain, &house.dir.path().join("missing")).unwrap_err();
    let tls = Tls::read(&chain, &key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(service(&house).await.serve(listener, Some(tls), stop.clone()));
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_danger_accept_invalid_certs(true)
        .build()
        .unwrap();
    let url = format!("https://{address}/api/v1/openapi.json");
    let answer = client.get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    client.get(format!("http://{address}/api/v1/openapi.json")).send().await.unwrap_err();
    stop.cancel();
    serving.await.unwrap().unwrap();
}

tests![
    every_route_demands_a_token_its_tenant_and_its_scope,
    what_one_tenant_has_another_does_not_see,
    each_kind_of_object_is_made_read_changed_and_removed,
    bad_input_is_refused_and_the_field_named,
    a_challenge_opens_at_the_gateway_and_is_recorded_without_its_text,
    windows_has_its_payload_once_the_group_has_its_ca,
    devices_that_may_not_have_a_challenge_get_none,
    a_user_brings_the_profile_and_the_names,
    a_repeated_post_has_one_effect_and_one_answer,
    pages_have_everything_once,
    neither_tokens_nor_challenges_are_in_the_database,
    a_restart_keeps_everything,
    a_token_ends,
    the_document_is_served_and_says_what_holds_everywhere,
    plain_http_is_for_loopback_alone,
    tls_serves_the_same_and_refuses_plain_text,
];
