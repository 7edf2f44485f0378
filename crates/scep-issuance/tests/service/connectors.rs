//! How gateways become known, stay known, and are no longer: over real TLS.

use crate::gateway::{
    Gateway, LinkedHouse, certificate_request, client, connector_ca, new_key, tls_files, written,
};
use crate::harness::tests;
use crate::house::{below, tenant};
use scep_ca::InfrastructurePurpose;
use scep_issuance::service::Tls;
use scep_keys::SoftwareKey;
use scep_link::{
    ErrorCode, LedgerKind, Membership, PossessionChallenge, Renewed, renew_authentication,
    renew_decryption,
};
use scep_testkit::keys::TestKey;
use scep_types::{CertificateDer, ExtendedKeyUsages, KeyAlgorithm, LedgerId, SpkiDer, TenantId};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::{self, ClientConfig, DigitallySignedStruct, HandshakeKind, pki_types};

const DAY: Duration = Duration::from_secs(86_400);
const MINUTE: Duration = Duration::from_secs(60);

async fn a_gateway_enrols_proves_its_key_and_is_confirmed() {
    let house = LinkedHouse::new().await;
    house.furnish().await;
    house.group("berlin").await;
    assert_eq!(house.get("/gateway-groups/berlin").await.is(200), json!({ "id": "berlin" }));
    house.challenge("berlin").await.is_problem(409, "group-without-key");
    let token = house.token("berlin").await;
    let mut gateway = Gateway::new("gw-1", "berlin");
    gateway.enrol(&house, &token).await.unwrap();

    let answer = gateway.answer.clone().unwrap();
    assert_eq!(answer.tenant, tenant());
    assert_eq!(answer.group.as_str(), "berlin");
    assert_eq!(answer.membership, Membership::AwaitingOperator);
    assert_eq!(answer.tls_pins, [TestKey::P256B.public_key().hash()]);
    assert_eq!(answer.signer_keys[0].key, TestKey::P256A.public_key());
    assert_eq!(answer.command_keys[0].key, TestKey::P256D.public_key());
    let [leaf, ca] = &answer.certificate_chain[..] else { panic!("leaf and CA") };
    assert_eq!(leaf.spki(), gateway.authentication.public_key());
    house.connector_ca.check_issued(leaf).unwrap();
    house.connector_ca.check_issued(ca).unwrap();
    assert_eq!(leaf.not_after(), house.now().plus(90 * DAY));
    let usages = scep_types::ObjectIdentifier::new_unwrap("2.5.29.37");
    let client_auth = ExtendedKeyUsages::purpose("clientAuth").unwrap();
    let client_auth = ExtendedKeyUsages::new(vec![client_auth]).unwrap().to_der();
    assert_eq!(leaf.extension(&usages), Some(&client_auth[..]));

    // Check-ins work; challenges are made only after proof and confirmation.
    gateway.check_in(&house, &[]).await.unwrap();
    let seen = house.connector(&gateway).await;
    assert_eq!(seen["membership"], "awaiting-operator");
    assert_eq!(seen["standing"], "active");
    assert_eq!(seen["key_proven"], false);
    assert_eq!(seen["certificate"]["days_left"], 90);
    assert_eq!(seen["certificate"]["fingerprint"], leaf.fingerprint().to_string());
    assert_eq!(seen["decryption_key"], gateway.decryption.public_key().key_id().to_string());
    assert_eq!(seen["last_seen_at"], house.now().to_string());
    house.challenge("berlin").await.is_problem(409, "group-without-key");
    gateway.check_in(&house, &[gateway.proof()]).await.unwrap();
    house.challenge("berlin").await.is_problem(409, "group-without-key");
    let path = format!("/connectors/{}/confirm", gateway.id());
    let seen = house.post(&path, &json!({})).await.is(200);
    assert_eq!((&seen["membership"], &seen["key_proven"]), (&json!("confirmed"), &json!(true)));
    assert_eq!(seen["has_group_key"], true);
    house.challenge("berlin").await.is(201);

    let group = house.get("/gateway-groups/berlin").await.is(200);
    let pem = scep_keys::public_key_pem(gateway.decryption.public_key());
    assert_eq!(
        group,
        json!({
            "id": "berlin", "public_key": pem, "members": [gateway.id().to_string()],
            "ledger": { "id": gateway.ledger.to_string(), "kind": "single" }
        })
    );
    // A proof that has been accepted is ignored from then on.
    gateway.check_in(&house, &[gateway.proof()]).await.unwrap();
}

async fn confirmation_before_the_proof_makes_no_challenge_either() {
    let house = LinkedHouse::new().await;
    house.furnish().await;
    house.group("berlin").await;
    let token = house.confirming_token("berlin").await;
    let mut gateway = Gateway::new("gw-1", "berlin");
    gateway.enrol(&house, &token).await.unwrap();
    assert_eq!(gateway.answer.as_ref().unwrap().membership, Membership::Confirmed);
    house.challenge("berlin").await.is_problem(409, "group-without-key");
    // Nobody else's answer is a proof, and a key that was not asked for is none.
    let mut other = Gateway::new("gw-2", "berlin");
    other.answer.clone_from(&gateway.answer);
    let challenge = |key: &SoftwareKey| {
        scep_link::challenge(&scep_keys::AwsLc, key.public_key(), &tenant(), gateway.id()).unwrap()
    };
    let (_, wrong) = challenge(&gateway.decryption);
    let (_, unasked) = challenge(&other.decryption);
    for proof in [wrong, unasked] {
        let (code, _) = gateway.check_in(&house, &[proof]).await.unwrap_err();
        assert_eq!(code, ErrorCode::ProofNotAccepted);
    }
    house.challenge("berlin").await.is_problem(409, "group-without-key");
    gateway.check_in(&house, &[gateway.proof()]).await.unwrap();
    house.challenge("berlin").await.is(201);
}

async fn of_64_at_once_one_token_lets_one_gateway_in() {
    let house = LinkedHouse::new().await;
    house.group("berlin").await;
    let token = house.token("berlin").await;
    let gateways: Vec<Gateway> =
        (0..64).map(|n| Gateway::new(&format!("gw-{n}"), "berlin")).collect();
    let all = gateways.iter().map(|gateway| gateway.ask(&house, &token));
    let outcomes = futures(all).await;
    let (won, lost): (Vec<_>, Vec<_>) =
        outcomes.into_iter().map(crate::gateway::Told::outcome).partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 63));
    for outcome in lost {
        assert_eq!(outcome.unwrap_err().0, ErrorCode::TokenNotAccepted);
    }
    let list = house.get("/connectors").await.is(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
}

/// All at one time.
async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = all.map(|one| (Some(Box::pin(one)), None)).collect();
    std::future::poll_fn(|context| {
        for (future, done) in &mut waiting {
            if let Some(running) = future
                && let std::task::Poll::Ready(value) = running.as_mut().poll(context)
            {
                *done = Some(value);
                *future = None;
            }
        }
        let open = waiting.iter().any(|(future, _)| future.is_some());
        if open { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    waiting.into_iter().map(|(_, done)| done.unwrap()).collect()
}

async fn a_repetition_gets_the_same_connector_for_ten_minutes() {
    let house = LinkedHouse::new().await;
    house.group("berlin").await;
    let token = house.token("berlin").await;
    let gateway = Gateway::new("gw-1", "berlin");
    let first = gateway.ask(&house, &token).await.outcome().unwrap();
    house.clock.advance(Duration::from_secs(599));
    assert_eq!(gateway.ask(&house, &token).await.outcome().unwrap(), first);
    // Another key, of either kind, is another gateway.
    let mut other = gateway.clone();
    other.authentication = new_key();
    other.ask(&house, &token).await.refused(ErrorCode::TokenNotAccepted);
    let mut other = gateway.clone();
    other.decryption = new_key();
    other.ask(&house, &token).await.refused(ErrorCode::TokenNotAccepted);
    house.clock.advance(Duration::from_secs(1));
    gateway.ask(&house, &token).await.refused(ErrorCode::TokenNotAccepted);
    house.clock.set(house.now().minus(MINUTE));
    gateway.ask(&house, &token).await.outcome().unwrap();
    let list = house.get("/connectors").await.is(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
    // Nor once the gateway was removed.
    let id = list["items"][0]["id"].as_str().unwrap();
    house.delete(&format!("/connectors/{id}")).await.is(204);
    gateway.ask(&house, &token).await.refused(ErrorCode::TokenNotAccepted);
}

async fn tokens_expire_are_withdrawn_and_are_for_one_group() {
    let house = LinkedHouse::new().await;
    house.group("berlin").await;
    house.group("paris").await;
    let gateway = Gateway::new("gw-1", "berlin");
    let not_accepted = ErrorCode::TokenNotAccepted;
    let unknown = "0".repeat(64);
    gateway.ask(&house, &unknown).await.refused(not_accepted);

    let (token, made) = house.token_of(&json!({ "group": "berlin", "lifetime": "1h" })).await;
    assert_eq!(made["expires_at"], house.now().plus(Duration::from_secs(3600)).to_string());
    let path = format!("/connector-tokens/{}", made["id"].as_str().unwrap());
    let seen = house.get(&path).await.is(200);
    assert_eq!((&seen["state"], seen.get("token")), (&json!("unused"), None));
    house.clock.advance(Duration::from_secs(3600));
    gateway.ask(&house, &token).await.refused(not_accepted);
    assert_eq!(house.get(&path).await.is(200)["state"], "expired");

    let (token, made) = house.token_of(&json!({ "group": "berlin" })).await;
    let path = format!("/connector-tokens/{}", made["id"].as_str().unwrap());
    house.delete(&path).await.is(204);
    gateway.ask(&house, &token).await.refused(not_accepted);
    assert_eq!(house.get(&path).await.is(200)["state"], "withdrawn");

    // For another group; that does not spend it.
    let (token, made) = house.token_of(&json!({ "group": "paris" })).await;
    let why = gateway.ask(&house, &token).await.refused(ErrorCode::GroupNotAllowed);
    assert!(why.contains("paris"), "{why}");
    let mut there = gateway.clone();
    there.group = "paris".into();
    there.enrol(&house, &token).await.unwrap();
    let path = format!("/connector-tokens/{}", made["id"].as_str().unwrap());
    let seen = house.get(&path).await.is(200);
    assert_eq!(
        (&seen["state"], &seen["connector"]),
        (&json!("used"), &json!(there.id().to_string()))
    );

    let list = house.get("/connector-tokens?limit=2").await.is(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    assert!(list["next"].is_string());
    let post = async |body: Value| house.post("/connector-tokens", &body).await;
    post(json!({ "group": "rome" })).await.is_problem(409, "unknown-group");
    for life in ["0s", "8d", "week"] {
        post(json!({ "group": "berlin", "lifetime": life })).await.is_problem(422, "bad-field");
    }
}

async fn enrolment_tokens_are_not_at_rest_and_another_tenant_sees_nothing() {
    let house = LinkedHouse::new().await;
    house.group("berlin").await;
    let key = [("Idempotency-Key", "k")];
    let (path, body) = (below("/connector-tokens"), json!({ "group": "berlin" }).to_string());
    let made = house.call(Some(&house.admin), "POST", &path, Some(&body), &key).await.is(201);
    let token = made["token"].as_str().unwrap();
    let mut gateway = Gateway::new("gw-1", "berlin");
    gateway.enrol(&house, token).await.unwrap();
    let bytes = house.at_rest().await;
    let there = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(there(made["id"].as_str().unwrap()));
    assert!(!there(&token[8..40]), "an enrolment token is at rest");

    let foreign = "/api/v1/tenants/fabrikam";
    let (id, token_id) = (gateway.id().to_string(), made["id"].as_str().unwrap().to_owned());
    for (method, path) in [
        ("GET", format!("/connectors/{id}")),
        ("DELETE", format!("/connectors/{id}")),
        ("POST", format!("/connectors/{id}/confirm")),
        ("POST", format!("/connectors/{id}/resolve-clone")),
        ("GET", format!("/connector-tokens/{token_id}")),
        ("DELETE", format!("/connector-tokens/{token_id}")),
        ("POST", "/gateway-groups/berlin/release-ledger".to_owned()),
    ] {
        let path = format!("{foreign}{path}");
        let answer = house.call(Some(&house.other), method, &path, None, &[]).await;
        answer.is_problem(404, "not-found");
    }
    for kind in ["connectors", "connector-tokens"] {
        let path = format!("{foreign}/{kind}");
        let list = house.call(Some(&house.other), "GET", &path, None, &[]).await.is(200);
        assert_eq!(list, json!({ "items": [] }));
    }
    assert_eq!(house.connector(&gateway).await["standing"], "active");
}

async fn attack_45_the_authentication_key_signs_its_request() {
    let house = LinkedHouse::new().await;
    house.group("berlin").await;
    let token = house.token("berlin").await;
    let gateway = Gateway::new("gw-1", "berlin");
    let mut request = gateway.request(&token);
    let mut der = request.certificate_request.as_der().to_vec();
    // The last octet of the signature.
    *der.last_mut().unwrap() ^= 1;
    request.certificate_request = scep_link::Pkcs10Der::new(der).unwrap();
    let told = house.tell(&client(None), "enrol", written(&request)).await;
    told.refused(ErrorCode::ProofNotAccepted);
    request.certificate_request = scep_link::Pkcs10Der::new(vec![0x30, 0]).unwrap();
    let told = house.tell(&client(None), "enrol", written(&request)).await;
    told.refused(ErrorCode::RequestMalformed);
    // Neither has spent the token.
    gateway.ask(&house, &token).await.outcome().unwrap();
}

async fn attack_44_unsuitable_keys_and_keys_that_are_in_use_are_refused() {
    let house = LinkedHouse::new().await;
    for group in ["berlin", "paris"] {
        house.group(group).await;
    }
    let known = house.ready("gw-1", "paris").await;
    house.group("rome").await;
    let mut unproven = Gateway::new("gw-1", "rome");
    unproven.enrol(&house, &house.token("rome").await).await.unwrap();
    let token = house.token("berlin").await;
    let keys = |authentication: SoftwareKey, decryption: SoftwareKey| {
        let mut gateway = Gateway::new("gw-2", "berlin");
        (gateway.authentication, gateway.decryption) = (authentication, decryption);
        gateway
    };
    let same = new_key();
    for (what, gateway) in [
        ("one key for both", keys(same.clone(), same)),
        ("P-384", keys(TestKey::P384A.key(), new_key())),
        ("P-384", keys(new_key(), TestKey::P384A.key())),
        ("the signing key", keys(TestKey::P256A.key(), new_key())),
        ("the TLS key", keys(new_key(), TestKey::P256B.key())),
        ("the connector CA's key", keys(TestKey::P256C.key(), new_key())),
        ("the command key", keys(new_key(), TestKey::P256D.key())),
        ("another's authentication key", keys(known.authentication.clone(), new_key())),
        ("another's as the other kind", keys(new_key(), known.authentication.clone())),
        ("another group's decryption key", keys(new_key(), known.decryption.clone())),
        ("another group's as the other kind", keys(known.decryption.clone(), new_key())),
        ("one that is not proven yet as the other kind", keys(unproven.decryption, new_key())),
        ("the key of a group without gateways", keys(new_key(), TestKey::RsaA.key())),
    ] {
        let outcome = gateway.ask(&house, &token).await.outcome();
        assert_eq!(outcome.expect_err(what).0, ErrorCode::KeyNotAccepted, "{what}");
    }
    // RSA is as good as P-256.
    let mut rsa = keys(TestKey::RsaB.key(), TestKey::RsaC.key());
    rsa.enrol(&house, &token).await.unwrap();
    rsa.check_in(&house, &[rsa.proof()]).await.unwrap();
}

async fn attack_17_a_key_and_a_ledger_of_another_tenant_are_refused() {
    let house = LinkedHouse::new().await;
    house.group("berlin").await;
    let known = house.ready("gw-1", "berlin").await;
    let other = async |path: &str, body: Value| {
        let path = format!("/api/v1/tenants/fabrikam{path}");
        house.call(Some(&house.other), "POST", &path, Some(&body.to_string()), &[]).await.is(201)
    };
    other("/gateway-groups", json!({ "id": "berlin" })).await;
    let token = other("/connector-tokens", json!({ "group": "berlin" })).await;
    let token = token["token"].as_str().unwrap();
    let mut thief = Gateway::new("gw-1", "berlin");
    thief.tenant = TenantId::new("fabrikam").unwrap();
    let own = thief.decryption.clone();
    thief.decryption = known.decryption.clone();
    thief.ask(&house, token).await.refused(ErrorCode::KeyNotAccepted);
    thief.decryption = own;
    thief.ledger = known.ledger;
    thief.ask(&house, token).await.refused(ErrorCode::LedgerNotAccepted);
    // Nor when nobody is bound to it any more: its events are the tenant's.
    house.delete(&format!("/connectors/{}", known.id())).await.is(204);
    house.post("/gateway-groups/berlin/release-ledger", &json!({})).await.is(200);
    thief.ask(&house, token).await.refused(ErrorCode::LedgerNotAccepted);
    thief.ledger = LedgerId::from_bytes([1; 16]);
    thief.enrol(&house, token).await.unwrap();
    assert_eq!(thief.answer.unwrap().tenant.as_str(), "fabrikam");
}

async fn a_group_is_bound_to_one_ledger() {
    let house = LinkedHouse::new().await;
    for group in ["berlin", "paris"] {
        house.group(group).await;
    }
    let first = house.ready("gw-1", "berlin").await;
    let token = house.token("berlin").await;
    let refused = async |gateway: &Gateway, token: &str, word: &str| {
        let why = gateway.ask(&house, token).await.refused(ErrorCode::LedgerNotAccepted);
        assert!(why.contains(word), "{why}");
    };
    // A second one beside an SQLite ledger, with that one or another.
    let mut second = first.sibling("gw-2");
    second.ledger_kind = LedgerKind::Single;
    refused(&second, &token, "PostgreSQL").await;
    second.ledger_kind = LedgerKind::Shared;
    refused(&second, &token, "single, not shared").await;
    second.ledger = LedgerId::from_bytes([9; 16]);
    refused(&second, &token, "release its ledger").await;
    // The same ledger in another group.
    let elsewhere = house.token("paris").await;
    let mut other = Gateway::new("gw-3", "paris");
    other.ledger = first.ledger;
    refused(&other, &elsewhere, "another group").await;

    // Lost: the gateway is removed, the group released, and another ledger bound.
    let release = "/gateway-groups/berlin/release-ledger";
    house.post(release, &json!({})).await.is_problem(409, "in-use");
    house.delete("/gateway-groups/berlin").await.is_problem(409, "in-use");
    house.delete(&format!("/connectors/{}", first.id())).await.is(204);
    let mut anew = Gateway::new("gw-1", "berlin");
    refused(&anew, &token, "release its ledger").await;
    let group = house.post(release, &json!({})).await.is(200);
    assert_eq!(group.get("ledger"), None);
    anew.enrol(&house, &token).await.unwrap();
    let group = house.get("/gateway-groups/berlin").await.is(200);
    assert_eq!(group["ledger"]["id"], anew.ledger.to_string());
}

async fn attack_17_a_key_that_two_groups_bring_is_the_first_ones_to_prove_it() {
    let house = LinkedHouse::new().await;
    for group in ["berlin", "paris"] {
        house.group(group).await;
    }
    let mut first = Gateway::new("gw-1", "berlin");
    first.enrol(&house, &house.confirming_token("berlin").await).await.unwrap();
    let mut second = Gateway::new("gw-2", "paris");
    second.decryption = first.decryption.clone();
    second.enrol(&house, &house.confirming_token("paris").await).await.unwrap();
    second.check_in(&house, &[second.proof()]).await.unwrap();
    let (code, _) = first.check_in(&house, &[first.proof()]).await.unwrap_err();
    assert_eq!(code, ErrorCode::KeyNotAccepted);
    assert_eq!(house.connector(&first).await["key_proven"], false);
    assert_eq!(house.get("/gateway-groups/berlin").await.is(200).get("public_key"), None);
}

/// Two gateways of one group, on one shared ledger.
async fn pair(house: &LinkedHouse) -> (Gateway, Gateway) {
    house.group("berlin").await;
    let mut first = Gateway::new("gw-1", "berlin");
    first.ledger_kind = LedgerKind::Shared;
    let token = house.confirming_token("berlin").await;
    first.enrol(house, &token).await.unwrap();
    first.check_in(house, &[first.proof()]).await.unwrap();
    let mut second = first.sibling("gw-2");
    let token = house.confirming_token("berlin").await;
    second.enrol(house, &token).await.unwrap();
    second.check_in(house, &[second.proof()]).await.unwrap();
    (first, second)
}

async fn a_further_member_brings_the_ledger_and_the_key_of_its_group() {
    let house = LinkedHouse::new().await;
    let (first, _) = pair(&house).await;
    let token = house.token("berlin").await;
    let mut third = first.sibling("gw-3");
    third.decryption = new_key();
    let why = third.ask(&house, &token).await.refused(ErrorCode::KeyNotAccepted);
    assert!(why.contains("import"), "{why}");
    third.decryption = first.decryption.clone();
    third.name = "gw-2".into();
    let why = third.ask(&house, &token).await.refused(ErrorCode::GroupNotAllowed);
    assert!(why.contains("gw-2"), "{why}");
    third.name = "gw-3".into();
    third.enrol(&house, &token).await.unwrap();
    assert_eq!(house.connector(&third).await["has_group_key"], false);
    third.check_in(&house, &[third.proof()]).await.unwrap();
    assert_eq!(house.connector(&third).await["has_group_key"], true);
    assert_eq!(house.connector(&third).await["membership"], "awaiting-operator");
}

async fn before_the_first_member_has_proven_its_key_a_second_brings_the_same() {
    let house = LinkedHouse::new().await;
    house.group("berlin").await;
    let mut first = Gateway::new("gw-1", "berlin");
    first.ledger_kind = LedgerKind::Shared;
    first.enrol(&house, &house.confirming_token("berlin").await).await.unwrap();
    let mut second = first.sibling("gw-2");
    let token = house.confirming_token("berlin").await;
    second.decryption = new_key();
    second.ask(&house, &token).await.refused(ErrorCode::KeyNotAccepted);
    second.decryption = first.decryption.clone();
    second.enrol(&house, &token).await.unwrap();
    second.check_in(&house, &[second.proof()]).await.unwrap();
    let group = house.get("/gateway-groups/berlin").await.is(200);
    assert!(group["public_key"].is_string(), "{group}");
}

async fn a_key_that_an_operator_has_set_is_the_one_to_bring() {
    let house = LinkedHouse::new().await;
    house.furnish().await;
    let token = house.confirming_token("main").await;
    let mut gateway = Gateway::new("gw-1", "main");
    gateway.ask(&house, &token).await.refused(ErrorCode::KeyNotAccepted);
    gateway.decryption = TestKey::RsaA.key();
    gateway.enrol(&house, &token).await.unwrap();
    gateway.check_in(&house, &[gateway.proof()]).await.unwrap();
    house.challenge("main").await.is(201);
}

/// The answer to a renewal of the authentication key.
async fn renewed(house: &LinkedHouse, gateway: &Gateway, key: &SoftwareKey) -> CertificateDer {
    let present = gateway.authentication.signer();
    let request = certificate_request(key);
    let request =
        renew_authentication(&tenant(), gateway.id(), request, &*present, house.now()).unwrap();
    let response = gateway.renew(house, &request).await.unwrap();
    match response.renewed {
        Renewed::Authentication { certificate_chain } => certificate_chain[0].clone(),
        other => panic!("{other:?}"),
    }
}

async fn attack_56_the_old_certificate_ends_with_the_new_ones_first_use() {
    let mut house = LinkedHouse::new().await;
    house.group("berlin").await;
    let mut gateway = house.ready("gw-1", "berlin").await;
    house.clock.advance(60 * DAY);
    house.renew_admin().await;
    let orders = format!("/connectors/{}/renewals", gateway.id());
    let order = json!({ "subject": "authentication", "by": house.now().plus(DAY).to_string() });
    house.post(&orders, &order).await.is(201);
    let key = new_key();
    let certificate = renewed(&house, &gateway, &key).await;
    assert_eq!(certificate.not_after(), house.now().plus(90 * DAY));
    // Repeated: the same. And the old one counts until the new one is used.
    assert_eq!(renewed(&house, &gateway, &key).await, certificate);
    gateway.check_in(&house, &[]).await.unwrap();

    assert_eq!(house.get(&orders).await.is(200)["items"].as_array().unwrap().len(), 1);

    let old = gateway.clone();
    gateway.authentication = key;
    gateway.take(certificate.clone());
    gateway.check_in(&house, &[]).await.unwrap();
    assert_eq!(house.get(&orders).await.is(200)["items"], json!([]));
    let seen = house.connector(&gateway).await;
    assert_eq!(seen["certificate"]["fingerprint"], certificate.fingerprint().to_string());
    // A connection from before is not a second holder; it must be made anew.
    let (code, _) = old.check_in(&house, &[]).await.unwrap_err();
    assert_eq!(code, ErrorCode::Unavailable);
    // Nor is one of the same second, which may have been made before.
    let mut late = old.clone();
    late.take(old.certificate.clone().unwrap());
    let (code, _) = late.check_in(&house, &[]).await.unwrap_err();
    assert_eq!(code, ErrorCode::Unavailable);
    gateway.check_in(&house, &[]).await.unwrap();

    // A connection that is made with the old certificate afterwards is.
    house.clock.advance(MINUTE);
    let mut thief = old.clone();
    thief.take(old.certificate.clone().unwrap());
    let (code, why) = thief.check_in(&house, &[]).await.unwrap_err();
    assert_eq!(code, ErrorCode::ConnectorCloned, "{why}");
    let (code, _) = gateway.check_in(&house, &[]).await.unwrap_err();
    assert_eq!(code, ErrorCode::ConnectorCloned);
    let (present, request) = (gateway.authentication.signer(), certificate_request(&new_key()));
    let request =
        renew_authentication(&tenant(), gateway.id(), request, &*present, house.now()).unwrap();
    let (code, _) = gateway.renew(&house, &request).await.unwrap_err();
    assert_eq!(code, ErrorCode::ConnectorCloned);
    assert_eq!(house.connector(&gateway).await["standing"], "cloned");
    let alarms = house.get("/alarms").await.is(200);
    let alarm = &alarms["items"][0];
    assert_eq!(alarm["kind"], "connector-cloned", "{alarms}");
    assert_eq!(alarm["subject"], gateway.id().to_string());
    // An operator decides: the holder of the present certificate goes on, the other one would be seen again.
    let path = format!("/connectors/{}/resolve-clone", gateway.id());
    assert_eq!(house.post(&path, &json!({})).await.is(200)["standing"], "active");
    gateway.check_in(&house, &[]).await.unwrap();
    house.clock.advance(MINUTE);
    let (code, _) = thief.check_in(&house, &[]).await.unwrap_err();
    assert_eq!(code, ErrorCode::ConnectorCloned);
}

async fn attack_56_a_certificate_that_was_replaced_before_its_use_betrays_a_second_holder() {
    let house = LinkedHouse::new().await;
    house.group("berlin").await;
    let mut gateway = house.ready("gw-1", "berlin").await;
    let (stolen, own) = (new_key(), new_key());
    let thiefs = renewed(&house, &gateway, &stolen).await;
    let owners = renewed(&house, &gateway, &own).await;
    let mut thief = gateway.clone();
    gateway.authentication = own;
    gateway.take(owners);
    gateway.check_in(&house, &[]).await.unwrap();
    house.clock.advance(MINUTE);
    thief.authentication = stolen;
    thief.take(thiefs);
    let (code, _) = thief.check_in(&house, &[]).await.unwrap_err();
    assert_eq!(code, ErrorCode::ConnectorCloned);
}

async fn attack_56_a_renewal_needs_the_old_key_and_the_new_one() {
    let house = LinkedHouse::new().await;
    house.group("berlin").await;
    let gateway = house.ready("gw-1", "berlin").await;
    let refused = async |request: scep_link::RenewRequest, code: ErrorCode| {
        let (got, why) = gateway.renew(&house, &request).await.unwrap_err();
        assert_eq!(got, code, "{why}");
    };
    let (present, new) = (gateway.authentication.signer(), new_key());
    let make = |key: &SoftwareKey, by: &SoftwareKey, at| {
        let request = certificate_request(key);
        renew_authentication(&tenant(), gateway.id(), request, &*by.signer(), at).unwrap()
    };
    let now = house.now();
    // By another key, too late, for another connector's id, without the new key's proof.
    refused(make(&new, &new, now), ErrorCode::ProofNotAccepted).await;
    let early = now.minus(Duration::from_secs(600));
    refused(make(&new, &gateway.authentication, early), ErrorCode::ProofNotAccepted).await;
    let mut other = make(&new, &gateway.authentication, now);
    other.connector = scep_types::ConnectorId::from_bytes([3; 16]);
    refused(other, ErrorCode::ConnectorMismatch).await;
    let mut der = certificate_request(&new).as_der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    let unproven = scep_link::Pkcs10Der::new(der).unwrap();
    let unproven = renew_authentication(&tenant(), gateway.id(), unproven, &*present, now);
    refused(unproven.unwrap(), ErrorCode::ProofNotAccepted).await;
    // Keys that are in use, or are not for this.
    for key in [&gateway.authentication, &gateway.decryption, &TestKey::P256A.key()] {
        refused(make(key, &gateway.authentication, now), ErrorCode::KeyNotAccepted).await;
    }
    for key in [gateway.authentication.public_key(), &TestKey::P256D.public_key()] {
        let request =
            renew_decryption(&tenant(), gateway.id(), key.clone(), &*present, now).unwrap();
        refused(request, ErrorCode::KeyNotAccepted).await;
    }
    // And with a certificate that is not the connector's nothing at all.
    let stranger = Gateway { client: client(None), ..gateway.clone() };
    let request = make(&new, &gateway.authentication, now);
    let (code, _) = stranger.renew(&house, &request).await.unwrap_err();
    assert_eq!(code, ErrorCode::CertificateNotAccepted);
}

/// The challenge of possession in the answer to a renewal of the decryption key.
async fn renews(
    house: &LinkedHouse,
    gateway: &Gateway,
    key: &SpkiDer,
) -> Result<PossessionChallenge, (ErrorCode, String)> {
    let present = gateway.authentication.signer();
    let request =
        renew_decryption(&tenant(), gateway.id(), key.clone(), &*present, house.now()).unwrap();
    match gateway.renew(house, &request).await?.renewed {
        Renewed::Decryption { possession_challenge, key: id } => {
            assert_eq!(id, key.key_id());
            Ok(possession_challenge)
        }
        other => panic!("{other:?}"),
    }
}

async fn a_groups_key_changes_with_the_proof_of_the_new_one() {
    let house = LinkedHouse::new().await;
    house.furnish().await;
    let (mut first, mut second) = pair(&house).await;
    let old = first.decryption.clone();
    let new = new_key();
    let challenge = renews(&house, &first, new.public_key()).await.unwrap();
    let again = renews(&house, &first, new.public_key()).await.unwrap();
    assert_eq!(again, challenge);
    let key = async || {
        let group = house.get("/gateway-groups/berlin").await.is(200);
        (group["public_key"].clone(), group["former_keys"].clone())
    };
    let pem = |key: &SoftwareKey| json!(scep_keys::public_key_pem(key.public_key()));
    assert_eq!(key().await, (pem(&old), Value::Null));
    first.decryption = new.clone();
    first.check_in(&house, &[first.prove(&challenge)]).await.unwrap();
    let until = house.now().plus(DAY).plus(5 * MINUTE);
    let former = json!([{
        "id": old.public_key().key_id().to_string(), "until": until.to_string()
    }]);
    assert_eq!(key().await, (pem(&new), former.clone()));
    house.challenge("berlin").await.is(201);

    // The other member has it once it was brought there.
    assert_eq!(house.connector(&first).await["has_group_key"], true);
    assert_eq!(house.connector(&second).await["has_group_key"], false);
    let challenge = renews(&house, &second, new.public_key()).await.unwrap();
    second.decryption = new.clone();
    second.check_in(&house, &[second.prove(&challenge)]).await.unwrap();
    assert_eq!(house.connector(&second).await["has_group_key"], true);
    assert_eq!(key().await, (pem(&new), former));
    // The old one does not come back, and is listed no longer than its challenges live.
    let (code, _) = renews(&house, &second, old.public_key()).await.unwrap_err();
    assert_eq!(code, ErrorCode::KeyNotAccepted);
    house.clock.advance(DAY + 5 * MINUTE);
    assert_eq!(key().await, (pem(&new), Value::Null));
}

async fn whoever_was_not_confirmed_does_not_change_the_groups_key() {
    let house = LinkedHouse::new().await;
    let (first, _) = pair(&house).await;
    let mut third = first.sibling("gw-3");
    third.enrol(&house, &house.token("berlin").await).await.unwrap();
    third.check_in(&house, &[third.proof()]).await.unwrap();
    let (code, _) = renews(&house, &third, new_key().public_key()).await.unwrap_err();
    assert_eq!(code, ErrorCode::GroupNotAllowed);
}

async fn a_gateway_that_leaves_is_refused_and_its_groups_key_is_renewed() {
    let house = LinkedHouse::new().await;
    house.furnish().await;
    let (first, second) = pair(&house).await;
    let path = format!("/connectors/{}", second.id());
    house.delete(&path).await.is(204);
    let (code, _) = second.check_in(&house, &[]).await.unwrap_err();
    assert_eq!(code, ErrorCode::ConnectorRevoked);
    house.delete(&path).await.is(204);
    let seen = house.connector(&second).await;
    assert_eq!((&seen["membership"], &seen["standing"]), (&json!("left"), &json!("revoked")));
    assert_eq!(seen["left_at"], house.now().to_string());
    for act in ["confirm", "resolve-clone"] {
        let answer = house.post(&format!("{path}/{act}"), &json!({})).await;
        answer.is_problem(409, "connector-left");
    }
    let group = async || house.get("/gateway-groups/berlin").await.is(200);
    assert_eq!(group().await["rotation_due_since"], house.now().to_string());
    let orders = async || {
        house.get(&format!("/connectors/{}/renewals", first.id())).await.is(200)["items"].clone()
    };
    assert_eq!(orders().await[0]["subject"], "decryption");
    let mut first = first;
    let new = new_key();
    let challenge = renews(&house, &first, new.public_key()).await.unwrap();
    first.decryption = new;
    first.check_in(&house, &[first.prove(&challenge)]).await.unwrap();
    assert_eq!(group().await.get("rotation_due_since"), None);
    house.challenge("berlin").await.is(201);

    // With the last one the key is gone, and the next brings its own; the ledger stays bound.
    house.delete(&format!("/connectors/{}", first.id())).await.is(204);
    house.challenge("berlin").await.is_problem(409, "group-without-key");
    let mut next = first.sibling("gw-3");
    let token = house.confirming_token("berlin").await;
    let why = next.ask(&house, &token).await.refused(ErrorCode::KeyNotAccepted);
    assert!(why.contains("in use"), "{why}");
    next.decryption = new_key();
    next.enrol(&house, &token).await.unwrap();
    next.check_in(&house, &[next.proof()]).await.unwrap();
    house.challenge("berlin").await.is(201);
}

async fn whoever_is_not_confirmed_is_sent_no_challenge_when_the_others_have_left() {
    let house = LinkedHouse::new().await;
    house.furnish().await;
    let (first, second) = pair(&house).await;
    let mut third = first.sibling("gw-3");
    third.enrol(&house, &house.token("berlin").await).await.unwrap();
    third.check_in(&house, &[third.proof()]).await.unwrap();
    house.delete(&format!("/connectors/{}", first.id())).await.is(204);
    house.challenge("berlin").await.is(201);
    house.delete(&format!("/connectors/{}", second.id())).await.is(204);
    house.challenge("berlin").await.is_problem(409, "group-without-key");
    house.post(&format!("/connectors/{}/confirm", third.id()), &json!({})).await.is(200);
    house.challenge("berlin").await.is(201);
}

async fn an_expired_gateway_enrols_again_and_keeps_its_ledger() {
    let mut house = LinkedHouse::new().await;
    house.furnish().await;
    house.group("berlin").await;
    let mut gateway = house.ready("gw-1", "berlin").await;
    let former = gateway.clone();
    // Not before: somebody else could take its place.
    let token = house.confirming_token("berlin").await;
    let mut early = gateway.clone();
    early.authentication = new_key();
    early.ask(&house, &token).await.refused(ErrorCode::LedgerNotAccepted);
    house.clock.advance(90 * DAY + MINUTE);
    house.renew_admin().await;
    let token = house.confirming_token("berlin").await;
    // The key is not that of a connection that has lived on, either.
    let (code, why) = gateway.check_in(&house, &[]).await.unwrap_err();
    assert_eq!(code, ErrorCode::CertificateNotAccepted, "{why}");
    gateway.authentication = new_key();
    gateway.decryption = new_key();
    gateway.enrol(&house, &token).await.unwrap();
    assert_ne!(gateway.id(), former.id());
    assert_eq!(house.connector(&former).await["membership"], "left");
    let key = async || house.get("/gateway-groups/berlin").await.is(200)["public_key"].clone();
    let pem = |key: &SoftwareKey| json!(scep_keys::public_key_pem(key.public_key()));
    // Challenges are for the old key until the new one is proven.
    assert_eq!(key().await, pem(&former.decryption));
    gateway.check_in(&house, &[gateway.proof()]).await.unwrap();
    assert_eq!(key().await, pem(&gateway.decryption));
    house.challenge("berlin").await.is(201);
    let group = house.get("/gateway-groups/berlin").await.is(200);
    assert_eq!(group["ledger"]["id"], former.ledger.to_string());
    assert_eq!(group["members"], json!([gateway.id().to_string()]));
}

async fn connectors_are_known_by_a_certificate_of_the_connector_ca_alone() {
    let house = LinkedHouse::new().await;
    house.group("berlin").await;
    let gateway = house.ready("gw-1", "berlin").await;
    let body = || written(&gateway.check_in_request(&[]));
    for path in ["check-in", "reports", "revocations", "renew"] {
        let told = house.tell(&client(None), path, body()).await;
        told.refused(ErrorCode::CertificateNotAccepted);
    }
    let issue = |ca: &scep_ca::LocalCa, key: &SoftwareKey, purpose| {
        let name = "CN=x".parse().unwrap();
        ca.issue_infrastructure(purpose, key.public_key(), &name, DAY, house.now()).unwrap()
    };
    // By the right CA, but of no connector.
    let key = new_key();
    let unknown = issue(&house.connector_ca, &key, InfrastructurePurpose::Connector);
    let told = house.tell(&client(Some((&unknown, &key))), "check-in", body()).await;
    told.refused(ErrorCode::CertificateNotAccepted);
    // By another CA of the same name, for another purpose, or expired: no connection.
    let url = format!("https://{}/api/v1/openapi.json", house.address);
    let other = connector_ca(TestKey::P256D);
    let foreign = issue(&other, &key, InfrastructurePurpose::Connector);
    let signing = issue(
        &house.connector_ca,
        &key,
        InfrastructurePurpose::TlsServer {
            dns_names: vec!["x.example".into()],
            addresses: Vec::new(),
        },
    );
    for (what, certificate) in [("foreign", &foreign), ("server", &signing)] {
        client(Some((certificate, &key))).get(&url).send().await.expect_err(what);
    }
    client(Some((&unknown, &key))).get(&url).send().await.unwrap();
    house.clock.advance(2 * DAY);
    client(Some((&unknown, &key))).get(&url).send().await.expect_err("expired");
    client(None).get(&url).send().await.unwrap();
}

/// Takes any server for the right one.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &pki_types::CertificateDer<'_>,
        _: &[pki_types::CertificateDer<'_>],
        _: &pki_types::ServerName<'_>,
        _: &[u8],
        _: pki_types::UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &pki_types::CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &pki_types::CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// TLS as this gateway, to whoever answers.
fn with_identity(
    gateway: &Gateway,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> TlsConnector {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let certificate = gateway.certificate.as_ref().unwrap().as_der().to_vec().into();
    let key = gateway.authentication.to_pkcs8_der().unwrap().expose().clone();
    let key = pki_types::PrivateKeyDer::Pkcs8(key.into());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_client_auth_cert(vec![certificate], key)
        .unwrap();
    TlsConnector::from(Arc::new(config))
}

/// A session that is taken up again authenticates without the key.
async fn attack_56_every_connection_proves_the_key_anew() {
    let house = LinkedHouse::new().await;
    house.group("berlin").await;
    let gateway = house.ready("gw-1", "berlin").await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let connector = with_identity(&gateway, &[version]);
        for _ in 0..2 {
            let stream = tokio::net::TcpStream::connect(house.address).await.unwrap();
            let name = "localhost".try_into().unwrap();
            let mut stream = connector.connect(name, stream).await.unwrap();
            let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 "));
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        }
    }
}

/// Whoever has one stolen key must not keep every other gateway out.
async fn attack_59_one_connector_takes_no_more_connections_than_it_needs() {
    let house = LinkedHouse::new().await;
    let (greedy, other) = pair(&house).await;
    let connector = with_identity(&greedy, &[&rustls::version::TLS13]);
    // Whether a request is answered on one more connection, which stays open.
    let open = async || {
        let stream = tokio::net::TcpStream::connect(house.address).await.unwrap();
        let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.ok()?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.ok()?;
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.ok()?;
        assert_eq!(&first, b"HTTP/1.1 200");
        Some(stream)
    };
    let mut held = Vec::new();
    while let Some(stream) = open().await {
        held.push(stream);
        assert!(held.len() <= 16, "without end");
    }
    // One or two are kept by the client that has enrolled it.
    assert!(held.len() > 8, "{}", held.len());
    other.check_in(&house, &[]).await.unwrap();
    // What it gives back it may have again.
    held.pop();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while open().await.is_none() {
        assert!(std::time::Instant::now() < deadline, "the place is not free again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Connections that say nothing last until the head of a request is overdue: those of one machine must leave room.
async fn attack_59_one_address_takes_no_more_than_its_share_of_connections() {
    let house = LinkedHouse::new().await;
    let connect = || tokio::net::TcpStream::connect(house.address);
    let mut silent = Vec::new();
    for _ in 0..160 {
        silent.push(connect().await.unwrap());
    }
    let mut last = silent.pop().unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(30), last.read(&mut [0])).await.unwrap();
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    // The first one is still waited for.
    let first = silent[0].try_read(&mut [0]).unwrap_err();
    assert_eq!(first.kind(), std::io::ErrorKind::WouldBlock);
    // Another machine is served.
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_danger_accept_invalid_certs(true)
        .local_address(std::net::IpAddr::from([127, 0, 0, 2]))
        .build()
        .unwrap();
    let answer = client.get(format!("https://{}/healthz", house.address)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    drop(silent);
}

async fn attack_49_connectors_are_not_served_without_tls() {
    let house = LinkedHouse::new().await;
    for path in ["enrol", "check-in", "reports", "revocations", "renew"] {
        let url = format!("/connector/v1/{path}");
        // The issuer of the house has no link at all; beside it one that has, on plain HTTP.
        let answer = house.call(None, "POST", &url, Some("{}"), &[]).await;
        assert_eq!((answer.status, answer.json()["code"].clone()), (503, json!("Unavailable")));
        let why = house.without_tls(path).await.refused(ErrorCode::CertificateNotAccepted);
        assert!(why.contains("TLS"), "{why}");
    }
}

async fn a_message_of_another_connector_is_refused() {
    let house = LinkedHouse::new().await;
    let (first, second) = pair(&house).await;
    let told = house.tell(&first.client, "check-in", written(&second.check_in_request(&[]))).await;
    told.refused(ErrorCode::ConnectorMismatch);
}

async fn attack_59_messages_have_a_size_a_media_type_and_one_form() {
    let house = LinkedHouse::new().await;
    house.group("berlin").await;
    let token = house.token("berlin").await;
    let gateway = Gateway::new("gw-1", "berlin");
    let good = String::from_utf8(written(&gateway.request(&token))).unwrap();
    let anonymous = client(None);
    let tell = async |body: String| house.tell(&anonymous, "enrol", body.into_bytes()).await;
    tell("x".repeat((64 << 10) + 1)).await.refused(ErrorCode::RequestTooLarge);
    tell("x".repeat(64 << 10)).await.refused(ErrorCode::RequestMalformed);
    tell(good.replace("\"v\":1", "\"v\":2")).await.refused(ErrorCode::VersionNotServed);
    let more = good.replace("\"v\":1", "\"v\":1,\"more\":1");
    let why = tell(more).await.refused(ErrorCode::RequestMalformed);
    assert!(!why.contains(&token), "{why}");
    let url = format!("https://{}/connector/v1/enrol", house.address);
    let plain = anonymous.post(&url).header("Content-Type", "text/plain").body(good.clone());
    assert_eq!(plain.send().await.unwrap().status(), 400);
    tell(good).await.outcome().unwrap();
}

async fn a_tls_certificate_is_replaced_while_the_issuer_runs() {
    let house = LinkedHouse::new().await;
    let url = format!("https://{}/api/v1/openapi.json", house.address);
    let key = async || {
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_danger_accept_invalid_certs(true)
            .tls_info(true)
            .build()
            .unwrap();
        let answer = client.get(&url).send().await.unwrap();
        let info = answer.extensions().get::<reqwest::tls::TlsInfo>().unwrap();
        CertificateDer::parse(info.peer_certificate().unwrap()).unwrap().spki().clone()
    };
    assert_eq!(key().await, TestKey::P256B.public_key());
    let (certificate, new) = tls_files(house.dir.path(), TestKey::P256D);
    let (_, other) = tls_files(house.dir.path(), TestKey::P256C);
    house.tls.replace(&certificate, &other).unwrap_err();
    assert_eq!(key().await, TestKey::P256B.public_key());
    house.tls.replace(&certificate, &new).unwrap();
    assert_eq!(key().await, TestKey::P256D.public_key());
    assert_eq!(new_key().public_key().algorithm(), KeyAlgorithm::P256);
}

async fn attack_48_a_tls_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = tls_files(dir.path(), TestKey::P256D);
    let tls = Tls::read(&certificate, &key).unwrap();
    for mode in [0o640, 0o604, 0o644, 0o620] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = Tls::read(&certificate, &key).unwrap_err().to_string();
        assert!(error.contains(&format!("{mode:04o}")), "{error}");
        tls.replace(&certificate, &key).unwrap_err();
    }
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o400)).unwrap();
    tls.replace(&certificate, &key).unwrap();
}

tests![
    a_gateway_enrols_proves_its_key_and_is_confirmed,
    confirmation_before_the_proof_makes_no_challenge_either,
    of_64_at_once_one_token_lets_one_gateway_in,
    a_repetition_gets_the_same_connector_for_ten_minutes,
    tokens_expire_are_withdrawn_and_are_for_one_group,
    enrolment_tokens_are_not_at_rest_and_another_tenant_sees_nothing,
    attack_45_the_authentication_key_signs_its_request,
    attack_44_unsuitable_keys_and_keys_that_are_in_use_are_refused,
    attack_17_a_key_and_a_ledger_of_another_tenant_are_refused,
    attack_17_a_key_that_two_groups_bring_is_the_first_ones_to_prove_it,
    a_group_is_bound_to_one_ledger,
    a_further_member_brings_the_ledger_and_the_key_of_its_group,
    before_the_first_member_has_proven_its_key_a_second_brings_the_same,
    a_key_that_an_operator_has_set_is_the_one_to_bring,
    attack_56_the_old_certificate_ends_with_the_new_ones_first_use,
    attack_56_a_certificate_that_was_replaced_before_its_use_betrays_a_second_holder,
    attack_56_a_renewal_needs_the_old_key_and_the_new_one,
    a_groups_key_changes_with_the_proof_of_the_new_one,
    whoever_was_not_confirmed_does_not_change_the_groups_key,
    a_gateway_that_leaves_is_refused_and_its_groups_key_is_renewed,
    whoever_is_not_confirmed_is_sent_no_challenge_when_the_others_have_left,
    an_expired_gateway_enrols_again_and_keeps_its_ledger,
    connectors_are_known_by_a_certificate_of_the_connector_ca_alone,
    attack_56_every_connection_proves_the_key_anew,
    attack_59_one_connector_takes_no_more_connections_than_it_needs,
    attack_59_one_address_takes_no_more_than_its_share_of_connections,
    attack_49_connectors_are_not_served_without_tls,
    a_message_of_another_connector_is_refused,
    attack_59_messages_have_a_size_a_media_type_and_one_form,
    a_tls_certificate_is_replaced_while_the_issuer_runs,
    attack_48_a_tls_key_that_others_can_read_is_refused,
];
