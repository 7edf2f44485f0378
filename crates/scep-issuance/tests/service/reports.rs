//! Reports and revocations of gateways over TLS with their certificates, and what the admin API tells of them.

use crate::check_in::{Office, client, send};
use crate::harness::tests;
use crate::house::{below, group};
use reqwest::Client;
use scep_issuance::service::{Service, Upkeep};
use scep_link::{
    Acknowledgement, Body, EnrolRequest, EnrolResponse, EnrolmentToken, Event, EventKind,
    IdempotencyKey, LedgerKind, Pkcs10Der, ReportBatch, RevocationRecorded, RevocationResult,
    RevocationResults, RevocationState, SoftwareVersion, V1,
};
use scep_pkcs10::CsrBuilder;
use scep_testkit::clock::FixedClock;
use scep_testkit::house::sign_csr;
use scep_testkit::keys::TestKey;
use scep_types::{ConnectorId, DeviceId, GatewayGroupId, GatewayName, LedgerId, OrderId, TenantId};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

const LEDGER: LedgerId = LedgerId::from_bytes([0x1e; 16]);
const OTHER_LEDGER: LedgerId = LedgerId::from_bytes([0x2e; 16]);

/// A gateway that reports whatever it likes.
struct Reporter {
    client: Client,
    base: String,
    connector: ConnectorId,
    ledger: LedgerId,
    tenant: &'static str,
    group: &'static str,
}

/// As which tenant's administrator, for which of its groups.
async fn enrol(
    office: &Office,
    (tenant, group): (&'static str, &'static str),
    (key, decryption): (TestKey, TestKey),
    ledger: LedgerId,
    confirmation: &str,
) -> Reporter {
    let house = &office.house;
    let admin = if tenant == "contoso" { &house.admin } else { &house.other };
    let wanted = json!({ "group": group, "confirmation": confirmation }).to_string();
    let path = format!("/api/v1/tenants/{tenant}/connector-tokens");
    let token = house.call(Some(admin), "POST", &path, Some(&wanted), &[]).await.is(201);
    let csr = CsrBuilder { subject: "CN=gateway".parse().unwrap(), ..CsrBuilder::default() };
    let request = EnrolRequest {
        v: V1,
        token: EnrolmentToken::new(token["token"].as_str().unwrap()).unwrap(),
        gateway: GatewayName::new(format!("gateway-{key:?}")).unwrap(),
        group: GatewayGroupId::new(group).unwrap(),
        certificate_request: Pkcs10Der::new(sign_csr(&csr, &key.key())).unwrap(),
        decryption_key: decryption.public_key(),
        ledger,
        ledger_kind: LedgerKind::Shared,
        software: SoftwareVersion::new("0.1.0").unwrap(),
    };
    let body = scep_link::write(&request).unwrap();
    let answer = send(&client(None, ""), &office.base, "enrol", body).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let enrolled: EnrolResponse = scep_link::read(&answer.body).unwrap();
    let chain = scep_keys::certificates_pem(&enrolled.certificate_chain);
    let client = client(Some(key), &chain);
    let (base, connector) = (office.base.clone(), enrolled.connector);
    Reporter { client, base, connector, ledger, tenant, group }
}

/// The first gateway of the group that the house has.
async fn first(office: &Office) -> Reporter {
    let of = ("contoso", group().as_str().to_owned().leak() as &str);
    enrol(office, of, (TestKey::P256C, TestKey::RsaA), LEDGER, "token").await
}

async fn second(office: &Office) -> Reporter {
    let of = ("contoso", group().as_str().to_owned().leak() as &str);
    enrol(office, of, (TestKey::P256D, TestKey::RsaA), LEDGER, "token").await
}

fn hash(n: u32) -> String {
    format!("{n:064x}")
}

impl Reporter {
    fn event(&self, sequence: u64, kind: &str, n: u32, device: &str, more: &Value) -> Event {
        let mut facts = json!({ "thumbprint_sha256": hash(n), "tenant": self.tenant });
        facts.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Event {
            sequence,
            idempotency_key: IdempotencyKey::new(format!("{kind}:{n}")).unwrap(),
            kind: EventKind::new(kind).unwrap(),
            tenant: Some(TenantId::new(self.tenant).unwrap()),
            device: Some(DeviceId::new(device).unwrap()),
            at: FixedClock::DAY,
            body: Body::parse(&facts.to_string()).unwrap(),
        }
    }

    /// That certificate `n` was issued for a challenge.
    fn issued(&self, sequence: u64, n: u32, device: &str, challenge: &str) -> Event {
        let end = FixedClock::DAY.plus(Duration::from_secs(365 * 86_400));
        let facts = json!({
            "device": device, "profile": "wifi", "audience": self.group, "challenge": challenge,
            "serial": format!("40{n:08X}"), "issuer": "CN=CA", "issuer_sha256": hash(0xca),
            "not_before": FixedClock::DAY.to_string(), "not_after": end.to_string(),
            "signer_spki_sha256": hash(n), "spki_sha256": hash(n), "recovered": false,
        });
        self.event(sequence, "issued", n, device, &facts)
    }

    fn batch(&self, events: Vec<Event>) -> Vec<u8> {
        let (connector, ledger) = (self.connector, self.ledger);
        scep_link::write(&ReportBatch { v: V1, connector, ledger, events }).unwrap()
    }

    /// What was acknowledged, or the code of the refusal.
    async fn report(&self, events: Vec<Event>) -> Result<u64, String> {
        let answer = send(&self.client, &self.base, "reports", self.batch(events)).await;
        if answer.status != 200 {
            return Err(answer.code());
        }
        let acknowledgement: Acknowledgement = scep_link::read(&answer.body).unwrap();
        assert_eq!(acknowledgement.ledger, self.ledger);
        Ok(acknowledgement.acknowledged)
    }

    async fn tell(&self, order: &Value, state: RevocationState) {
        let order = OrderId::from_hex(order.as_str().unwrap()).unwrap();
        let results = RevocationResults {
            v: V1,
            connector: self.connector,
            ledger: self.ledger,
            results: vec![RevocationResult { order, state, at: FixedClock::DAY }],
        };
        let body = scep_link::write(&results).unwrap();
        let answer = send(&self.client, &self.base, "revocations", body).await;
        assert_eq!(answer.status, 200, "{}", answer.code());
        let recorded: RevocationRecorded = scep_link::read(&answer.body).unwrap();
        assert_eq!(recorded.recorded, 1);
    }
}

/// A challenge that the issuer has made. It is only told of, never read, so no gateway need have its key.
async fn challenge(office: &Office, device: &str) -> String {
    let wanted = json!({ "device": device, "profile": "wifi" });
    let made = office.house.post("/challenges", &wanted).await.is(201);
    made["id"].as_str().unwrap().to_owned()
}

async fn items(office: &Office, path: &str) -> Vec<Value> {
    office.house.get(path).await.is(200)["items"].as_array().unwrap().clone()
}

async fn kinds(office: &Office) -> Vec<String> {
    let alarms = items(office, "/alarms").await;
    alarms.iter().map(|alarm| alarm["kind"].as_str().unwrap().to_owned()).collect()
}

async fn what_gateways_report_is_told_by_the_api() {
    let office = Office::open().await;
    let made = challenge(&office, "laptop-1").await;
    let gateway = first(&office).await;
    let events = vec![
        gateway.issued(1, 1, "laptop-1", &made),
        gateway.event(2, "delivery", 1, "laptop-1", &json!({ "reply": "flushed" })),
        gateway.event(3, "of-tomorrow", 1, "laptop-1", &json!({ "new": { "deep": [true] } })),
    ];
    assert_eq!(gateway.report(events.clone()).await, Ok(3));
    let path = format!("/certificates/{}", hash(1));
    let one = office.house.get(&path).await.is(200);
    for (field, value) in [
        ("state", "live"),
        ("delivered", "flushed"),
        ("device", "laptop-1"),
        ("profile", "wifi"),
        ("serial", "4000000001"),
        ("challenge", &made),
        ("issuer_sha256", &hash(0xca)),
        ("not_after", "2027-01-01T00:00:00Z"),
    ] {
        assert_eq!(one[field], value, "{field}");
    }
    for (filter, found) in [
        ("?device=laptop-1", 1),
        ("?device=laptop-2", 0),
        ("?profile=wifi&state=live", 1),
        ("?state=expired", 0),
        ("?expires_before=2027-01-01T00:00:00Z", 0),
        ("?expires_before=2027-01-01T00:00:01Z", 1),
    ] {
        assert_eq!(
            items(&office, &format!("/certificates{filter}")).await.len(),
            found,
            "{filter}"
        );
    }
    for (filter, field) in [
        ("?state=gone", "query"),
        ("?expires_before=soon", "expires_before"),
        ("?device=a%20b", "device"),
        ("?after=x", "after"),
        ("?limit=201", "limit"),
        ("?colour=red", "query"),
    ] {
        let answer = office.house.get(&format!("/certificates{filter}")).await;
        assert!([400, 422].contains(&answer.status), "{filter}");
        assert_eq!(answer.json()["field"], field, "{filter}");
    }
    // In their order, whole, whatever kind they are.
    let events = items(&office, "/events?device=laptop-1").await;
    let told: Vec<_> = events.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(told, ["issued", "delivery", "of-tomorrow"]);
    assert_eq!(events[2]["facts"]["new"], json!({ "deep": [true] }));
    assert_eq!(items(&office, "/events?kind=issued").await.len(), 1);
    let ledger = office.house.get(&format!("/ledgers/{LEDGER}")).await.is(200);
    assert_eq!(ledger["acknowledged"], 3);
    assert_eq!(
        ledger["counts"],
        json!({ "issued": 1, "delivery": 1, "delivered": 1, "of-tomorrow": 1 })
    );
    assert_eq!(items(&office, "/ledgers").await, [ledger]);
    assert_eq!(kinds(&office).await, [""; 0]);
    // One that lives a day.
    let made = challenge(&office, "laptop-1").await;
    let event = gateway.issued(4, 2, "laptop-1", &made);
    let mut facts = event.body.facts().clone();
    facts.insert("not_after".into(), "2026-01-02T00:00:00Z".into());
    let body = Body::parse(&Value::Object(facts).to_string()).unwrap();
    gateway.report(vec![Event { body, ..event }]).await.unwrap();
    assert_eq!(items(&office, "/certificates?state=live").await.len(), 2);
    office.house.clock.advance(Duration::from_secs(2 * 86_400));
    assert_eq!(
        items(&office, "/certificates?state=live").await,
        [office.house.get(&path).await.is(200)]
    );
    let expired = items(&office, "/certificates?state=expired").await;
    assert_eq!((expired.len(), &expired[0]["state"]), (1, &json!("expired")));
}

async fn two_gateways_on_one_ledger_tell_everything_once() {
    let office = Office::open().await;
    let mut made = Vec::new();
    for _ in 0..6 {
        made.push(challenge(&office, "laptop-1").await);
    }
    let (one, two) = (first(&office).await, second(&office).await);
    let outbox: Vec<Event> = (1..=6)
        .map(|n| one.issued(n.into(), n, "laptop-1", &made[usize::try_from(n).unwrap() - 1]))
        .collect();
    // Both send the same at one time, again and again, from wherever they are.
    for (from, to) in [(0, 3), (1, 4), (0, 6), (5, 6)] {
        let part = || outbox[from..to].to_vec();
        let (a, b) = tokio::join!(one.report(part()), two.report(part()));
        assert_eq!(a, b);
        let acknowledged = a.unwrap();
        assert!(acknowledged >= u64::try_from(to).unwrap());
    }
    assert_eq!(
        two.report(vec![one.issued(8, 8, "laptop-1", &made[0])]).await,
        Err("EventOutOfOrder".into())
    );
    let ledger = office.house.get(&format!("/ledgers/{LEDGER}")).await.is(200);
    assert_eq!((&ledger["acknowledged"], &ledger["counts"]), (&json!(6), &json!({ "issued": 6 })));
    let order: Vec<Value> =
        items(&office, "/events").await.iter().map(|event| event["sequence"].clone()).collect();
    assert_eq!(order, [1, 2, 3, 4, 5, 6]);
    assert_eq!(kinds(&office).await, ["events-missing"]);
}

async fn a_connection_that_breaks_off_costs_nothing() {
    let office = Office::open().await;
    let made = challenge(&office, "laptop-1").await;
    let gateway = first(&office).await;
    let events = vec![gateway.issued(1, 1, "laptop-1", &made)];
    // The request goes out and nobody waits for the answer: whether it was taken in or not, the repetition counts once.
    let url = format!("{}/connector/v1/reports", gateway.base);
    for _ in 0..10 {
        let request = gateway.client.post(&url).header("Content-Type", "application/json");
        let request = request.body(gateway.batch(events.clone())).timeout(Duration::from_millis(1));
        // Either end is right.
        let _ = request.send().await;
    }
    // And one that says more than it sends.
    let address = office.base.strip_prefix("https://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(&[0x16, 3, 1, 2, 0]).await.unwrap();
    drop(stream);
    assert_eq!(gateway.report(events).await, Ok(1));
    let ledger = office.house.get(&format!("/ledgers/{LEDGER}")).await.is(200);
    assert_eq!(ledger["counts"], json!({ "issued": 1 }));
}

async fn gateways_of_another_tenant_or_group_get_nothing_in() {
    let office = Office::open().await;
    let house = &office.house;
    let made = challenge(&office, "laptop-1").await;
    let gateway = first(&office).await;
    assert_eq!(gateway.report(vec![gateway.issued(1, 1, "laptop-1", &made)]).await, Ok(1));
    let pem = scep_keys::public_key_pem(&TestKey::RsaB.public_key());
    let theirs = json!({ "id": "theirs", "public_key": pem }).to_string();
    let own = "/api/v1/tenants/fabrikam";
    let groups = format!("{own}/gateway-groups");
    house.call(Some(&house.other), "POST", &groups, Some(&theirs), &[]).await.is(201);
    let keys = (TestKey::P256D, TestKey::RsaB);
    let mut stranger = enrol(&office, ("fabrikam", "theirs"), keys, OTHER_LEDGER, "token").await;
    // Our ledger, our connector's name, our events: each is refused.
    stranger.ledger = LEDGER;
    let next = vec![stranger.issued(2, 2, "laptop-1", &made)];
    assert_eq!(stranger.report(next.clone()).await, Err("LedgerNotAccepted".into()));
    stranger.ledger = OTHER_LEDGER;
    let connector = std::mem::replace(&mut stranger.connector, gateway.connector);
    assert_eq!(stranger.report(next).await, Err("ConnectorMismatch".into()));
    stranger.connector = connector;
    let ours = vec![gateway.issued(1, 3, "laptop-1", &made)];
    assert_eq!(stranger.report(ours).await, Err("LedgerNotAccepted".into()));
    let theirs = async |path: &str| {
        house.call(Some(&house.other), "GET", &format!("{own}{path}"), None, &[]).await
    };
    let alarms = theirs("/alarms").await.is(200);
    let told: Vec<&Value> =
        alarms["items"].as_array().unwrap().iter().map(|a| &a["kind"]).collect();
    assert_eq!(told, ["foreign-ledger", "foreign-tenant"]);
    assert_eq!(kinds(&office).await, [""; 0]);
    // Neither sees what the other has.
    for kind in ["certificates", "events", "ledgers", "revocations"] {
        assert_eq!(theirs(&format!("/{kind}")).await.is(200), json!({ "items": [] }), "{kind}");
    }
    let wanted = json!({ "thumbprint": hash(1) });
    house.post("/revocations", &wanted).await.is(201);
    let order = items(&office, "/revocations").await[0]["id"].clone();
    let order = order.as_str().unwrap();
    for path in [
        format!("/certificates/{}", hash(1)),
        format!("/ledgers/{LEDGER}"),
        format!("/revocations/{order}"),
    ] {
        house.get(&path).await.is(200);
        theirs(&path).await.is_problem(404, "not-found");
    }
    let path = format!("{own}/revocations");
    let answer =
        house.call(Some(&house.other), "POST", &path, Some(&wanted.to_string()), &[]).await;
    answer.is_problem(409, "unknown-certificate");
    for verb in ["confirm", "decline"] {
        let path = format!("{own}/revocations/{order}/{verb}");
        let answer = house.call(Some(&house.other), "POST", &path, Some("{}"), &[]).await;
        answer.is_problem(404, "not-found");
    }
    // Their word on our order counts nothing.
    stranger.tell(&json!(order), RevocationState::Published).await;
    assert_eq!(house.get(&format!("/revocations/{order}")).await.is(200)["state"], "queued");
    // Whom no operator has confirmed is not believed yet.
    let keys = (TestKey::P256D, TestKey::RsaA);
    let late = ("contoso", gateway.group);
    let unconfirmed = enrol(&office, late, (TestKey::RsaC, keys.1), LEDGER, "operator").await;
    let next = vec![gateway.issued(2, 2, "laptop-1", &made)];
    assert_eq!(unconfirmed.report(next.clone()).await, Err("Unavailable".into()));
    let path = format!("/connectors/{}/confirm", unconfirmed.connector);
    house.call(Some(&house.admin), "POST", &below(&path), None, &[]).await.is(200);
    assert_eq!(unconfirmed.report(next).await, Ok(2));
}

async fn a_wiped_devices_certificates_are_revoked_until_a_crl_shows_it() {
    let office = Office::open().await;
    let house = &office.house;
    let made = challenge(&office, "laptop-1").await;
    let late = challenge(&office, "laptop-1").await;
    let gateway = first(&office).await;
    gateway.report(vec![gateway.issued(1, 1, "laptop-1", &made)]).await.unwrap();
    let change = |state: &str| json!({ "state": state, "attributes": {} });
    // By default a device that is disabled keeps its certificates.
    house.send("PUT", "/devices/laptop-1", &change("disabled")).await.is(200);
    assert_eq!(items(&office, "/revocations").await, [Value::Null; 0]);
    let gone = house.get("/reconciliation").await.is(200)["device_gone"].clone();
    assert_eq!((&gone["count"], &gone["items"][0]["why"]), (&json!(1), &json!("disabled")));
    house.send("PUT", "/devices/laptop-1", &change("wiped")).await.is(200);
    house.send("PUT", "/devices/laptop-1", &change("wiped")).await.is(200);
    let orders = items(&office, "/revocations?device=laptop-1").await;
    assert_eq!(orders.len(), 1);
    let path = format!("/revocations/{}", orders[0]["id"].as_str().unwrap());
    for (field, value) in [
        ("thumbprint", hash(1)),
        ("reason", "cessationOfOperation".to_owned()),
        ("cause", "wipe".to_owned()),
        ("state", "queued".to_owned()),
        ("ledger", LEDGER.to_string()),
    ] {
        assert_eq!(orders[0][field], value, "{field}");
    }
    for (told, state) in [
        (RevocationState::Queued, "sent"),
        (RevocationState::Revoked, "revoked"),
        (RevocationState::Published, "on-crl"),
        (RevocationState::Queued, "on-crl"),
    ] {
        gateway.tell(&orders[0]["id"], told).await;
        assert_eq!(house.get(&path).await.is(200)["state"], state);
    }
    // Its gateway did not know yet: what it has issued since is revoked as soon as it is reported.
    let events = vec![
        gateway.event(2, "revoked", 1, "laptop-1", &json!({ "reason": "cessationOfOperation" })),
        gateway.event(3, "on-crl", 1, "laptop-1", &json!({ "crl_number": "2" })),
        gateway.issued(4, 2, "laptop-1", &late),
    ];
    assert_eq!(gateway.report(events).await, Ok(4));
    let one = house.get(&format!("/certificates/{}", hash(1))).await.is(200);
    assert_eq!(
        (&one["state"], &one["reason"]),
        (&json!("revoked"), &json!("cessationOfOperation"))
    );
    assert_eq!(one["on_crl_at"], FixedClock::DAY.to_string());
    let orders = items(&office, "/revocations?state=queued").await;
    assert_eq!((orders.len(), &orders[0]["thumbprint"]), (1, &json!(hash(2))));
    // A device that is removed.
    let pair = json!({ "profile": "wifi", "device": "laptop-2" });
    house.post("/assignments", &pair).await.is(201);
    let made = challenge(&office, "laptop-2").await;
    gateway.report(vec![gateway.issued(5, 3, "laptop-2", &made)]).await.unwrap();
    house.delete("/devices/laptop-2").await.is(204);
    let orders = items(&office, "/revocations?device=laptop-2").await;
    assert_eq!((orders.len(), &orders[0]["cause"]), (1, &json!("unenrol")));
    assert_eq!(kinds(&office).await, [""; 0]);
}

async fn a_profile_that_changes_has_its_certificates_revoked_when_it_says_so() {
    let office = Office::open().await;
    let house = &office.house;
    let made = challenge(&office, "laptop-1").await;
    let gateway = first(&office).await;
    gateway.report(vec![gateway.issued(1, 1, "laptop-1", &made)]).await.unwrap();
    let put = async |text: String| {
        house.send("PUT", "/profiles/wifi", &json!({ "toml": text })).await.is(200)
    };
    let other = crate::house::PROFILE.replace("O=Example", "O=Other");
    let profile = |revoke: &str| format!("{other}\nrevoke_on = {revoke}\n");
    // Other contents, and no such policy; the policy, and the same contents; something that certificates do not show.
    put(profile("['wipe']")).await;
    put(profile("['wipe', 'profile-change']")).await;
    put(profile("['wipe', 'profile-change']").replace("scep.example.org", "other.example.org"))
        .await;
    assert_eq!(items(&office, "/revocations").await, [Value::Null; 0]);
    put(profile("['wipe', 'profile-change']").replace("clientAuth", "emailProtection")).await;
    let orders = items(&office, "/revocations").await;
    assert_eq!((orders.len(), &orders[0]["cause"]), (1, &json!("profile-change")));
    assert_eq!(orders[0]["reason"], "affiliationChanged");
    let linted = put(profile("[]")).await;
    assert!(linted["warnings"][0].as_str().unwrap().contains("revoke_on"), "{linted}");
    let twice = json!({ "toml": profile("['wipe', 'wipe']") });
    let refused = house.send("PUT", "/profiles/wifi", &twice).await;
    refused.is_problem(422, "bad-field");
    assert!(refused.text.contains("revoke_on"), "{}", refused.text);
}

async fn an_operator_revokes_by_each_name_and_once() {
    let office = Office::open().await;
    let house = &office.house;
    let gateway = first(&office).await;
    let mut events = Vec::new();
    for n in 1..=3 {
        let made = challenge(&office, "laptop-1").await;
        events.push(gateway.issued(n.into(), n, "laptop-1", &made));
    }
    gateway.report(events).await.unwrap();
    let order = async |body: &Value, key: &str| {
        let headers = [("Idempotency-Key", key)];
        let path = below("/revocations");
        house.call(Some(&house.admin), "POST", &path, Some(&body.to_string()), &headers).await
    };
    let by_thumbprint = json!({ "thumbprint": hash(1), "reason": "keyCompromise" });
    let answer = order(&by_thumbprint, "k1").await;
    let location = answer.headers["location"].to_str().unwrap().to_owned();
    let made = answer.is(201);
    assert_eq!(
        (&made["ordered"], &made["already"], &made["held"]),
        (&json!(1), &json!(0), &json!(false))
    );
    assert_eq!(
        location,
        below(&format!("/revocations/{}", made["revocations"][0].as_str().unwrap()))
    );
    assert_eq!(order(&by_thumbprint, "k1").await.is(201), made);
    assert_eq!(order(&by_thumbprint, "k2").await.is(201)["already"], 1);
    let by_name = json!({ "issuer_sha256": hash(0xca), "serial": "4000000002" });
    assert_eq!(order(&by_name, "k3").await.is(201)["ordered"], 1);
    let orders = items(&office, "/revocations").await;
    assert_eq!(orders[1]["thumbprint"], hash(2));
    let by_device = order(&json!({ "device": "laptop-1" }), "k4").await.is(201);
    assert_eq!((&by_device["ordered"], &by_device["already"]), (&json!(1), &json!(2)));
    let by_both = order(&json!({ "device": "laptop-1", "profile": "wifi" }), "k5").await.is(201);
    assert_eq!((&by_both["ordered"], &by_both["already"]), (&json!(0), &json!(3)));
    order(&json!({ "profile": "vpn" }), "k6").await.is_problem(409, "unknown-certificate");
    order(&json!({ "thumbprint": hash(99) }), "k7").await.is_problem(409, "unknown-certificate");
    // Not reported here, and yet a gateway may know it.
    let unknown = json!({ "issuer_sha256": hash(0xca), "serial": "77" });
    assert_eq!(order(&unknown, "k8").await.is(201)["ordered"], 1);
    let unknown = items(&office, "/revocations").await[3].clone();
    assert_eq!((unknown.get("thumbprint"), unknown.get("ledger")), (None, None));
    gateway.tell(&unknown["id"], RevocationState::NotIssuedHere).await;
    let path = format!("/revocations/{}", unknown["id"].as_str().unwrap());
    assert_eq!(house.get(&path).await.is(200)["state"], "not-found");
    for (body, field) in [
        (json!({}), "thumbprint"),
        (json!({ "thumbprint": hash(1), "device": "laptop-1" }), "thumbprint"),
        (json!({ "serial": "77" }), "thumbprint"),
        (json!({ "issuer_sha256": hash(1), "serial": "00" }), "serial"),
        (json!({ "thumbprint": "abc" }), "thumbprint"),
        (json!({ "device": "a b" }), "device"),
        (json!({ "device": "a", "reason": "certificateHold" }), "reason"),
    ] {
        let answer = house.post("/revocations", &body).await;
        answer.is_problem(422, "bad-field");
        assert_eq!(answer.json()["field"], field, "{body}");
    }
}

async fn attack_55_the_brake_waits_for_an_operator() {
    let office = Office::open().await;
    let house = &office.house;
    let gateway = first(&office).await;
    let mut events = Vec::new();
    for n in 1..=21 {
        let made = challenge(&office, "laptop-1").await;
        events.push(gateway.issued(n.into(), n, "laptop-1", &made));
    }
    gateway.report(events).await.unwrap();
    let made = house.post("/revocations", &json!({ "device": "laptop-1" })).await.is(201);
    assert_eq!((&made["ordered"], &made["held"]), (&json!(21), &json!(true)));
    assert_eq!(kinds(&office).await, ["revocation-brake"]);
    assert_eq!(items(&office, "/revocations?state=held").await.len(), 21);
    assert_eq!(house.get("/reconciliation").await.is(200)["held_revocations"], 21);
    let order = made["revocations"][0].as_str().unwrap();
    let note = json!({ "note": "ada: lost in a taxi" });
    let path = format!("/revocations/{order}/confirm");
    let confirmed = house.post(&path, &note).await.is(200);
    assert_eq!((&confirmed["state"], &confirmed["note"]), (&json!("queued"), &note["note"]));
    house.post(&path, &note).await.is_problem(409, "not-held");
    let second = made["revocations"][1].as_str().unwrap();
    let declined = house.post(&format!("/revocations/{second}/decline"), &json!({})).await;
    assert_eq!(declined.is(200)["state"], "declined");
    let all = below("/revocations/confirm");
    let answer = house.call(Some(&house.read), "POST", &all, Some("{}"), &[]).await;
    answer.is_problem(403, "wrong-scope");
    assert_eq!(house.post("/revocations/confirm", &note).await.is(200)["decided"], 19);
    assert_eq!(items(&office, "/revocations?state=queued").await.len(), 20);
    let long = json!({ "note": "x".repeat(201) });
    house.post("/revocations/decline", &long).await.is_problem(422, "bad-field");
    // The alarm is acknowledged, and comes again when it is raised again.
    let alarm = items(&office, "/alarms").await.remove(0);
    assert_eq!(alarm.get("acknowledged_at"), None);
    let path = format!("/alarms/{}", alarm["id"].as_str().unwrap());
    let acknowledged = house.post(&format!("{path}/acknowledge"), &json!({})).await.is(200);
    assert_eq!(acknowledged["acknowledged_at"], house.now().to_string());
    assert_eq!(house.get(&path).await.is(200), acknowledged);
    house.get("/alarms/999").await.is_problem(404, "not-found");
    house.post("/alarms/x/acknowledge", &json!({})).await.is_problem(404, "not-found");
}

async fn old_events_go_and_what_is_live_stays() {
    let office = Office::open().await;
    let house = &office.house;
    let made = challenge(&office, "laptop-1").await;
    let gateway = first(&office).await;
    let first_batch = vec![
        gateway.issued(1, 1, "laptop-1", &made),
        gateway.event(2, "delivery", 1, "laptop-1", &json!({ "reply": "flushed" })),
    ];
    gateway.report(first_batch.clone()).await.unwrap();
    house.clock.advance(Duration::from_secs(5 * 86_400));
    let made = challenge(&office, "laptop-1").await;
    let second_batch = vec![gateway.issued(3, 2, "laptop-1", &made)];
    gateway.report(second_batch).await.unwrap();
    office.prune(Duration::from_secs(86_400)).await;
    let left: Vec<Value> =
        items(&office, "/events").await.iter().map(|event| event["sequence"].clone()).collect();
    assert_eq!(left, [3]);
    assert_eq!(items(&office, "/certificates?state=live").await.len(), 2);
    // What was told is told, and not counted anew.
    let before = house.get(&format!("/ledgers/{LEDGER}")).await.is(200)["counts"].clone();
    assert_eq!(before, json!({ "issued": 2, "delivery": 1, "delivered": 1 }));
    assert_eq!(gateway.report(first_batch).await, Ok(3));
    assert_eq!(house.get(&format!("/ledgers/{LEDGER}")).await.is(200)["counts"], before);
    assert_eq!(items(&office, "/events").await.len(), 1);
    assert_eq!(kinds(&office).await, [""; 0]);
}

async fn the_service_looks_after_itself() {
    let office = Office::open().await;
    let house = &office.house;
    let made = challenge(&office, "laptop-1").await;
    let gateway = first(&office).await;
    gateway.report(vec![gateway.issued(1, 1, "laptop-1", &made)]).await.unwrap();
    house.clock.advance(Duration::from_secs(2 * 86_400));
    let (every, keep) = (Some(Duration::from_millis(20)), Some(Duration::from_secs(86_400)));
    let clock = std::sync::Arc::<FixedClock>::clone(&house.clock);
    let provider = std::sync::Arc::new(scep_keys::AwsLc);
    let service = Service::new(house.store().await, TestKey::P256A.signer(), provider, clock);
    let service = service.with_upkeep(Upkeep { every, keep, ..Upkeep::default() });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(service.serve(listener, None, stop.clone()));
    let gone = async {
        while !items(&office, "/events").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
    assert_eq!(items(&office, "/certificates").await.len(), 1);
    stop.cancel();
    serving.await.unwrap().unwrap();
}

async fn an_issuer_that_was_restored_goes_on_without_what_is_lost() {
    let office = Office::open().await;
    let house = &office.house;
    let made = challenge(&office, "laptop-1").await;
    let gateway = first(&office).await;
    let path = format!("/ledgers/{LEDGER}");
    house
        .post(&format!("{path}/accept-gap"), &json!({ "through": 4 }))
        .await
        .is_problem(404, "not-found");
    gateway.report(vec![gateway.event(1, "refused", 1, "laptop-1", &json!({}))]).await.unwrap();
    let next = || vec![gateway.issued(5, 2, "laptop-1", &made)];
    assert_eq!(gateway.report(next()).await, Err("EventOutOfOrder".into()));
    assert_eq!(kinds(&office).await, ["events-missing"]);
    for bad in [json!({ "through": 0 }), json!({ "through": 1_u64 << 53 })] {
        let answer = house.post(&format!("{path}/accept-gap"), &bad).await;
        answer.is_problem(422, "bad-field");
    }
    let accepted =
        house.post(&format!("{path}/accept-gap"), &json!({ "through": 4 })).await.is(200);
    assert_eq!(accepted["acknowledged"], 4);
    // It never goes back.
    let again = house.post(&format!("{path}/accept-gap"), &json!({ "through": 2 })).await.is(200);
    assert_eq!(again["acknowledged"], 4);
    assert_eq!(gateway.report(next()).await, Ok(5));
    let counts = json!({ "refused": 1, "issued": 1 });
    assert_eq!(house.get(&path).await.is(200)["counts"], counts);
}

tests![
    the_service_looks_after_itself,
    an_issuer_that_was_restored_goes_on_without_what_is_lost,
    what_gateways_report_is_told_by_the_api,
    two_gateways_on_one_ledger_tell_everything_once,
    a_connection_that_breaks_off_costs_nothing,
    gateways_of_another_tenant_or_group_get_nothing_in,
    a_wiped_devices_certificates_are_revoked_until_a_crl_shows_it,
    a_profile_that_changes_has_its_certificates_revoked_when_it_says_so,
    an_operator_revokes_by_each_name_and_once,
    attack_55_the_brake_waits_for_an_operator,
    old_events_go_and_what_is_live_stays,
];
