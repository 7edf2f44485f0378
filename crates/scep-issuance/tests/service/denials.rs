//! What is disabled, by the admin API.

use crate::harness::tests;
use crate::house::{House, PROFILE};
use serde_json::{Value, json};

async fn denied(house: &House) -> Vec<String> {
    let list = house.get("/denials").await.is(200);
    let items = list["items"].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    items.iter().map(|item| format!("{} {}", text(&item["kind"]), text(&item["id"]))).collect()
}

async fn a_device_is_denied_by_its_state() {
    let house = House::new().await;
    house.furnish().await;
    let none: [&str; 0] = [];
    assert_eq!(denied(&house).await, none);
    let state = async |state: &str| {
        let change = json!({ "state": state, "attributes": {} });
        house.send("PUT", "/devices/laptop-1", &change).await.is(200);
        denied(&house).await
    };
    assert_eq!(state("disabled").await, ["device laptop-1"]);
    assert_eq!(state("enrolled").await, none);
    assert_eq!(state("wiped").await, ["device laptop-1"]);
    house.post("/devices/laptop-1/re-enrol", &json!({})).await.is(200);
    assert_eq!(denied(&house).await, none);
    // One that is taken up disabled, and one that is gone while gateways may still get its challenges.
    house.post("/devices", &json!({ "id": "laptop-3", "state": "disabled" })).await.is(201);
    house.delete("/devices/laptop-2").await.is(204);
    assert_eq!(denied(&house).await, ["device laptop-3", "device laptop-2"]);
    house.post("/devices", &json!({ "id": "laptop-2" })).await.is(201);
    assert_eq!(denied(&house).await, ["device laptop-3"]);
    // Nobody else's list, and no device by another way than its state.
    let path = "/api/v1/tenants/fabrikam/denials";
    let others = house.call(Some(&house.other), "GET", path, None, &[]).await.is(200);
    assert_eq!(others, json!({ "items": [] }));
    let answer = house.post("/denials", &json!({ "kind": "device", "id": "laptop-1" })).await;
    answer.is_problem(422, "bad-field");
    assert_eq!(answer.json()["field"], "kind");
    house.delete("/denials/device/laptop-3").await.is_problem(422, "bad-field");
}

async fn users_and_profiles_that_are_disabled_get_no_challenges() {
    let house = House::new().await;
    house.furnish().await;
    let toml = PROFILE
        .replace("\"wifi\"", "\"mail\"")
        .replace("\"device\"", "\"user\"")
        .replace("{{DeviceId}}", "{{UserName}}");
    house.post("/profiles", &json!({ "toml": toml })).await.is(201);
    for user in ["ada", "eve"] {
        let user = json!({ "id": user, "attributes": { "UserName": user } });
        house.post("/users", &user).await.is(201);
        let pair = json!({ "profile": "mail", "user": user["id"] });
        house.post("/assignments", &pair).await.is(201);
    }
    let mail = async |user: &str| {
        let wanted = json!({ "device": "laptop-1", "profile": "mail", "user": user });
        house.post("/challenges", &wanted).await
    };
    let wifi = async || {
        house.post("/challenges", &json!({ "device": "laptop-1", "profile": "wifi" })).await
    };
    let denial = json!({ "kind": "user", "id": "ada" });
    assert_eq!(house.post("/denials", &denial).await.is(201), denial);
    house.post("/denials", &denial).await.is_problem(409, "exists");
    mail("ada").await.is_problem(409, "user-disabled");
    mail("eve").await.is(201);
    wifi().await.is(201);
    let denial = json!({ "kind": "profile", "id": "wifi" });
    let made = house.post("/denials", &denial).await;
    let place = "/api/v1/tenants/contoso/denials/profile/wifi";
    assert_eq!(made.headers["location"], place);
    wifi().await.is_problem(409, "profile-disabled");
    mail("eve").await.is(201);
    assert_eq!(denied(&house).await, ["user ada", "profile wifi"]);
    let first = house.get("/denials?limit=1").await.is(200);
    assert_eq!(first["items"], json!([{ "kind": "user", "id": "ada" }]));
    let next = format!("/denials?limit=1&after={}", first["next"].as_str().unwrap());
    let second = house.get(&next).await.is(200);
    assert_eq!(second, json!({ "items": [{ "kind": "profile", "id": "wifi" }] }));
    for path in ["/denials/user/ada", "/denials/profile/wifi"] {
        house.delete(path).await.is(204);
        house.delete(path).await.is_problem(404, "not-found");
    }
    mail("ada").await.is(201);
    wifi().await.is(201);
    for (body, field) in [
        (json!({ "kind": "user", "id": "nobody" }), "id"),
        (json!({ "kind": "profile", "id": "vpn" }), "id"),
        (json!({ "kind": "user", "id": "a b" }), "id"),
        (json!({ "kind": "group", "id": "main" }), "kind"),
        (json!({ "kind": "user" }), "id"),
    ] {
        let answer = house.post("/denials", &body).await;
        answer.is_problem(422, "bad-field");
        assert_eq!(answer.json()["field"], field, "{body}");
    }
    house.delete("/denials/group/main").await.is_problem(404, "not-found");
}

tests![a_device_is_denied_by_its_state, users_and_profiles_that_are_disabled_get_no_challenges];
