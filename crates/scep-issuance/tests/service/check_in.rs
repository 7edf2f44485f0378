//! Check-ins of a gateway over TLS with its certificate, at one issuer, while an operator speaks with another one on the
//! same database.

use crate::harness::tests;
use crate::house::{House, below, group, tenant};
use reqwest::{Client, Identity};
use scep_ca::{LocalCa, LocalCaSettings};
use scep_challenge::{Opener, OpeningKey, PinnedSigner};
use scep_issuance::service::{IssuerKey, IssuerKeys, IssuerKeysError, Link, Service, Tls};
use scep_keys::AwsLc;
use scep_link::{
    CheckInRequest, CommandReason, CommandVerifier, Commands, Counters, DenialSubject,
    EnrolRequest, EnrolResponse, EnrolmentToken, Health, LedgerKind, LogLevel, Membership,
    Pkcs10Der, RenewalSubject, SoftwareVersion, TrustedKey, V1,
};
use scep_pkcs10::CsrBuilder;
use scep_testkit::clock::FixedClock;
use scep_testkit::device::TestExtension;
use scep_testkit::house::sign_csr;
use scep_testkit::keys::TestKey;
use scep_types::{
    CheckInNonce, Clock as _, ConnectorId, DeviceId, GatewayName, LedgerId, Timestamp,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Far less than the check-ins wait, far more than news need.
const PATIENCE: Duration = Duration::from_secs(20);
const WEEK: Duration = Duration::from_secs(7 * 86_400);

fn keys(signing: &[TestKey], command: &[TestKey]) -> IssuerKeys {
    let of = |keys: &[TestKey]| {
        let key = |key: &TestKey| IssuerKey {
            signer: key.signer(),
            not_before: FixedClock::DAY.minus(WEEK),
            not_after: FixedClock::DAY.plus(WEEK),
        };
        keys.iter().map(key).collect()
    };
    IssuerKeys { signing: of(signing), command: of(command) }
}

/// An issuer that serves connectors.
pub(crate) struct Office {
    pub(crate) house: House,
    service: Service,
    pub(crate) base: String,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Drop for Office {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn client(identity: Option<TestKey>, chain: &str) -> Client {
    let builder = Client::builder().no_proxy().tls_danger_accept_invalid_certs(true);
    let builder = match identity {
        None => builder,
        Some(key) => {
            let pem = format!("{}{chain}", key.pem());
            builder.identity(Identity::from_pem(pem.as_bytes()).unwrap())
        }
    };
    builder.build().unwrap()
}

impl Office {
    pub(crate) async fn open() -> Self {
        let house = House::new().await;
        house.furnish().await;
        let root = LocalCa::self_signed_root(
            &*TestKey::P384A.signer(),
            &"CN=Connector CA".parse().unwrap(),
            WEEK * 52,
            FixedClock::DAY,
            &AwsLc,
        )
        .unwrap();
        let settings = LocalCaSettings::default();
        let signer = TestKey::P384A.signer();
        let ca = LocalCa::new(signer, root, Vec::new(), settings, Arc::new(AwsLc)).unwrap();
        let certificate = scep_testkit::device::self_signed(
            &TestKey::RsaD.key(),
            &"CN=localhost".parse().unwrap(),
            FixedClock::DAY,
            Timestamp::MAX,
            &[TestExtension::key_usage()],
        );
        let link = Link { connector_ca: ca, tls_pins: vec![TestKey::RsaD.public_key().hash()] };
        let file = |name: &str, text: &str| {
            let path = house.dir.path().join(name);
            crate::gateway::private_file(&path, text);
            path
        };
        let chain = file("office.pem", &scep_keys::certificates_pem(&[certificate]));
        let key = file("office.key.pem", TestKey::RsaD.pem());
        let tls = Tls::read(&chain, &key).unwrap();
        let clock = Arc::<FixedClock>::clone(&house.clock);
        let service =
            Service::new(house.store().await, TestKey::P256A.signer(), Arc::new(AwsLc), clock);
        let keys = keys(&[TestKey::P256A], &[TestKey::P256B]);
        let service = service.with_link(link, keys).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let running = service.clone().serve(listener, Some(tls), stop.clone());
        let serving = tokio::spawn(async move { running.await.unwrap() });
        Self { house, service, base, stop, serving }
    }

    pub(crate) async fn prune(&self, keep: Duration) {
        self.service.prune(keep).await.unwrap();
    }

    /// As the administrator, at this issuer.
    async fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}{}", self.base, below(path));
        let request = client(None, "").post(url).header("Content-Type", "application/json");
        let request = request.header("Authorization", format!("Bearer {}", self.house.admin));
        let response = request.body(body.to_string()).send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "{status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn enrol(&self, name: &str, key: TestKey) -> Gateway {
        let wanted = json!({ "group": group().as_str(), "confirmation": "token" });
        let token = self.house.post("/connector-tokens", &wanted).await.is(201);
        let csr = CsrBuilder { subject: "CN=gateway".parse().unwrap(), ..CsrBuilder::default() };
        let ledger = LedgerId::from_bytes([0x1e; 16]);
        let request = EnrolRequest {
            v: V1,
            token: EnrolmentToken::new(token["token"].as_str().unwrap()).unwrap(),
            gateway: GatewayName::new(name).unwrap(),
            group: group(),
            certificate_request: Pkcs10Der::new(sign_csr(&csr, &key.key())).unwrap(),
            decryption_key: TestKey::RsaA.public_key(),
            ledger,
            ledger_kind: LedgerKind::Shared,
            software: SoftwareVersion::new("0.1.0").unwrap(),
        };
        let client_without = client(None, "");
        let answer =
            send(&client_without, &self.base, "enrol", scep_link::write(&request).unwrap());
        let answer = answer.await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let enrolled: EnrolResponse = scep_link::read(&answer.body).unwrap();
        assert_eq!(enrolled.membership, Membership::Confirmed);
        let chain = scep_keys::certificates_pem(&enrolled.certificate_chain);
        Gateway {
            client: client(Some(key), &chain),
            base: self.base.clone(),
            clock: Arc::clone(&self.house.clock),
            connector: enrolled.connector,
            ledger,
            last_sequence: enrolled.last_sequence,
            cursor: 0,
            signers: enrolled.signer_keys,
            commanders: enrolled.command_keys,
            counters: Counters::default(),
        }
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    content_type: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn code(&self) -> String {
        let json: Value = serde_json::from_slice(&self.body).unwrap();
        json["code"].as_str().unwrap().to_owned()
    }
}

pub(crate) async fn send(client: &Client, base: &str, path: &str, body: Vec<u8>) -> Answer {
    let request = client.post(format!("{base}/connector/v1/{path}")).body(body);
    let response = request.header("Content-Type", "application/json").send().await.unwrap();
    let status = response.status().as_u16();
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    Answer { status, content_type, body: response.bytes().await.unwrap().to_vec() }
}

/// A gateway that has enrolled.
struct Gateway {
    client: Client,
    base: String,
    clock: Arc<FixedClock>,
    connector: ConnectorId,
    ledger: LedgerId,
    last_sequence: u64,
    cursor: u64,
    signers: Vec<TrustedKey>,
    commanders: Vec<TrustedKey>,
    counters: Counters,
}

impl Gateway {
    fn request(&self, wait_seconds: u32) -> CheckInRequest {
        static NONCE: AtomicU8 = AtomicU8::new(0);
        CheckInRequest {
            v: V1,
            connector: self.connector,
            nonce: CheckInNonce::from_bytes([NONCE.fetch_add(1, Ordering::Relaxed); 16]),
            last_sequence: self.last_sequence,
            denial_cursor: self.cursor,
            wait_seconds,
            software: SoftwareVersion::new("0.1.1").unwrap(),
            challenge_version: 1,
            health: Health::Degraded,
            refused: Some(CommandReason::CommandsExpired),
            queue_depth: 3,
            certificates: Vec::new(),
            counters: self.counters,
            ledger: self.ledger,
            outbox_high_mark: 12,
            possession: Vec::new(),
        }
    }

    fn verifier(&self) -> CommandVerifier {
        let keys = self.commanders.clone();
        CommandVerifier::new(tenant(), self.connector, keys, Duration::from_secs(60)).unwrap()
    }

    async fn ask(&mut self, wait_seconds: u32) -> Commands {
        let request = self.request(wait_seconds);
        let body = scep_link::write(&request).unwrap();
        let answer = send(&self.client, &self.base, "check-in", body).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.content_type, "application/cms");
        let (last, now) = (self.last_sequence, self.clock.now());
        let opened = self.verifier().open(&answer.body, request.nonce, last, now, &AwsLc).unwrap();
        let commands = opened.commands().clone();
        self.last_sequence = commands.sequence;
        self.cursor = commands.denials.to;
        for (mine, told) in [
            (&mut self.signers, &commands.signer_keys),
            (&mut self.commanders, &commands.command_keys),
        ] {
            let told_of = |id| told.add.iter().any(|key| key.key.key_id() == id);
            mine.retain(|key| {
                let id = key.key.key_id();
                !told.retire.contains(&id) && !told_of(id)
            });
            mine.extend(told.add.iter().cloned());
        }
        commands
    }

    /// Waits as long as it may, for something that comes sooner.
    async fn news(&mut self) -> Commands {
        let answer = tokio::time::timeout(PATIENCE, self.ask(60)).await;
        answer.expect("the check-in ended because of its time, not of the news")
    }

    /// Whether it opens a challenge.
    fn opens(&self, challenge: &str) -> bool {
        let pinned = |trusted: &TrustedKey| PinnedSigner {
            key: trusted.key.clone(),
            not_before: trusted.not_before,
            not_after: trusted.not_after,
        };
        let opener = Opener::new(
            tenant(),
            group(),
            self.signers.iter().map(pinned).collect(),
            vec![OpeningKey { key: TestKey::RsaA.decryption(), not_after: None }],
            Duration::from_secs(3600),
            Duration::from_secs(60),
        );
        opener.unwrap().open(challenge, self.clock.now(), &AwsLc).is_ok()
    }
}

fn device(id: &str) -> DenialSubject {
    DenialSubject::Device(DeviceId::new(id).unwrap())
}

async fn a_device_that_is_disabled_at_one_issuer_is_told_to_a_gateway_that_waits_at_another() {
    let office = Office::open().await;
    let mut gateway = office.enrol("gateway-1", TestKey::P256C).await;
    let first = gateway.ask(0).await;
    assert!(first.denials.added.is_empty() && first.denials.complete);
    for (state, added, removed) in [
        ("disabled", vec![device("laptop-1")], vec![]),
        ("enrolled", vec![], vec![device("laptop-1")]),
        ("wiped", vec![device("laptop-1")], vec![]),
    ] {
        let change = json!({ "state": state, "attributes": {} });
        let changing = office.house.send("PUT", "/devices/laptop-1", &change);
        let (commands, changed) = tokio::join!(gateway.news(), changing);
        changed.is(200);
        assert_eq!((commands.denials.added, commands.denials.removed), (added, removed), "{state}");
    }
}

async fn attack_55_a_check_in_is_heard_with_the_connectors_own_certificate_alone() {
    let office = Office::open().await;
    let one = office.enrol("gateway-1", TestKey::P256C).await;
    let other = office.enrol("gateway-2", TestKey::P256D).await;
    let body = scep_link::write(&one.request(0)).unwrap();
    let none = send(&client(None, ""), &one.base, "check-in", body.clone()).await;
    assert_eq!((none.status, none.code().as_str()), (401, "CertificateNotAccepted"));
    let others = send(&other.client, &one.base, "check-in", body.clone()).await;
    assert_eq!((others.status, others.code().as_str()), (403, "ConnectorMismatch"));
    assert_eq!(others.content_type, "application/problem+json");
    // The answer is for this request, once, and for nobody else.
    let request = one.request(0);
    let answer =
        send(&one.client, &one.base, "check-in", scep_link::write(&request).unwrap()).await;
    let open = |gateway: &Gateway, nonce, last| {
        let opened =
            gateway.verifier().open(&answer.body, nonce, last, gateway.clock.now(), &AwsLc);
        opened.map(|opened| opened.commands().sequence).map_err(|error| error.reason())
    };
    let sequence = open(&one, request.nonce, one.last_sequence).unwrap();
    let refused = open(&one, request.nonce, sequence).unwrap_err();
    assert_eq!(refused, CommandReason::CommandsReplayed);
    let refused = open(&one, one.request(0).nonce, one.last_sequence).unwrap_err();
    assert_eq!(refused, CommandReason::CommandsReplayed);
    let refused = open(&other, request.nonce, other.last_sequence).unwrap_err();
    assert_eq!(refused, CommandReason::CommandsForAnother);
    // What is no request is none, whoever sends it.
    let malformed = send(&one.client, &one.base, "check-in", b"{}".to_vec()).await;
    assert_eq!(malformed.status, 400);
}

async fn attack_26_gateways_learn_a_signing_key_before_a_challenge_uses_it() {
    let office = Office::open().await;
    let mut one = office.enrol("gateway-1", TestKey::P256C).await;
    let mut two = office.enrol("gateway-2", TestKey::P256D).await;
    let wanted = json!({ "device": "laptop-1", "profile": "wifi" });
    let mint = async || {
        let made = office.post("/challenges", &wanted).await;
        made["challenge"].as_str().unwrap().to_owned()
    };
    let old = mint().await;
    let mut newer = keys(&[TestKey::P256A, TestKey::RsaC], &[TestKey::P256B]);
    newer.signing[1].not_before = FixedClock::DAY;
    // Replaced while a gateway waits.
    one.ask(0).await;
    let (told, ()) = tokio::join!(one.news(), async {
        office.service.set_keys(newer).unwrap();
    });
    let new = TestKey::RsaC.public_key().key_id();
    assert_eq!(told.signer_keys.add[0].key.key_id(), new);
    // Nobody who does not have it yet is given a challenge that it has signed.
    let between = mint().await;
    for text in [&old, &between] {
        assert!(one.opens(text) && two.opens(text));
    }
    two.news().await;
    one.ask(0).await;
    two.ask(0).await;
    let only_new = |gateway: &mut Gateway| {
        gateway.signers.retain(|key| key.key.key_id() == new);
    };
    // Both of them have it by now, and have said so.
    let after = mint().await;
    assert!(one.opens(&after) && two.opens(&after) && one.opens(&old));
    only_new(&mut two);
    assert!(two.opens(&after) && !two.opens(&between));
    // The old one is taken away, and no key is for both.
    office.service.set_keys(keys(&[TestKey::RsaC], &[TestKey::P256B])).unwrap();
    let told = one.news().await.signer_keys;
    assert_eq!(told.retire, [TestKey::P256A.public_key().key_id()]);
    assert!(!one.opens(&old) && one.opens(&after));
    let shared = keys(&[TestKey::RsaC], &[TestKey::RsaC]);
    assert_eq!(
        office.service.set_keys(shared).unwrap_err(),
        IssuerKeysError::SharedKey { key: new }
    );
    assert_eq!(
        office.service.set_keys(keys(&[TestKey::RsaC], &[])).unwrap_err(),
        IssuerKeysError::NoCommandKey
    );
}

async fn what_a_gateway_says_is_shown_and_what_it_is_ordered_reaches_it() {
    let office = Office::open().await;
    let mut gateway = office.enrol("gateway-1", TestKey::P256C).await;
    let at = |what: &str| format!("/connectors/{}/{what}", gateway.connector);
    let (contact, level, renewals) = (at("contact"), at("log-level"), at("renewals"));
    let silent = office.house.get(&contact).await.is(200);
    assert_eq!((silent.get("last"), &silent["alarms"]), (None, &json!([])));
    assert_eq!(silent["signing_keys"], json!([TestKey::P256A.public_key().key_id().to_string()]));
    assert_eq!(silent["command_keys"], json!([TestKey::P256B.public_key().key_id().to_string()]));
    gateway.counters = Counters { issued: 5, delivered: 4, reported: 3 };
    gateway.ask(0).await;
    let shown = office.house.get(&contact).await.is(200);
    let last = &shown["last"];
    assert_eq!(last["at"], FixedClock::DAY.to_string());
    assert_eq!((&last["software"], &last["health"]), (&json!("0.1.1"), &json!("degraded")));
    assert_eq!((&last["queue_depth"], &last["outbox_high_mark"]), (&json!(3), &json!(12)));
    let counters = (&last["issued"], &last["delivered"], &last["reported"]);
    assert_eq!(counters, (&json!(5), &json!(4), &json!(3)));
    assert_eq!((&last["refused"], &last["refusals"]), (&json!("CommandsExpired"), &json!(1)));

    let change = json!({ "log_level": "debug" });
    let setting = office.house.send("PUT", &level, &change);
    let (told, set) = tokio::join!(gateway.news(), setting);
    assert_eq!(set.is(200)["log_level"], "debug");
    assert_eq!(told.log_level, Some(LogLevel::Debug));
    let by = FixedClock::DAY.plus(WEEK);
    let order = json!({ "subject": "decryption", "by": by.to_string() });
    let (told, ordered) = tokio::join!(gateway.news(), office.house.post(&renewals, &order));
    let ordered = ordered.is(201);
    let [renewal] = told.renewals.as_slice() else { panic!("{:?}", told.renewals) };
    assert_eq!((renewal.subject, renewal.by), (RenewalSubject::Decryption, by));
    assert_eq!(ordered["id"], renewal.order.to_string());
    assert_eq!(office.house.get(&renewals).await.is(200)["items"], json!([ordered]));
    office.house.send("PUT", &level, &json!({ "log_level": null })).await.is(200);
    assert_eq!(gateway.news().await.log_level, None);

    // An hour later the counters are still not equal.
    office.house.clock.advance(Duration::from_secs(3600));
    gateway.ask(0).await;
    let alarms = office.house.get(&contact).await.is(200)["alarms"].clone();
    assert_eq!(alarms[0]["kind"], "counters-differ", "{alarms}");
    // Another tenant sees nothing of it, and what is no order is none.
    for path in [&contact, &renewals] {
        let path = format!("/api/v1/tenants/fabrikam{path}");
        let answer = office.house.call(Some(&office.house.other), "GET", &path, None, &[]).await;
        answer.is_problem(404, "not-found");
    }
    for (path, method, body, field) in [
        (&level, "PUT", json!({ "log_level": "trace" }), "log_level"),
        (&level, "PUT", json!({ "level": "debug" }), "level"),
        (&renewals, "POST", json!({ "subject": "both", "by": by.to_string() }), "subject"),
        (&renewals, "POST", json!({ "subject": "decryption", "by": "soon" }), "by"),
    ] {
        let answer = office.house.send(method, path, &body).await;
        answer.is_problem(422, "bad-field");
        assert_eq!(answer.json()["field"], field, "{body}");
    }
}

async fn an_issuer_that_stops_answers_first() {
    let mut office = Office::open().await;
    let mut gateway = office.enrol("gateway-1", TestKey::P256C).await;
    gateway.ask(0).await;
    gateway.counters.issued = 7;
    let path = format!("/connectors/{}/contact", gateway.connector);
    let stop = async {
        // It stops once the check-in has arrived.
        let arrived = async || office.house.get(&path).await.is(200)["last"]["issued"] == 7;
        while !arrived().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        office.stop.cancel();
    };
    let both = async { tokio::join!(gateway.news(), stop) };
    let (commands, ()) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    assert!(commands.denials.complete);
    tokio::time::timeout(PATIENCE, &mut office.serving).await.unwrap().unwrap();
}

tests![
    a_device_that_is_disabled_at_one_issuer_is_told_to_a_gateway_that_waits_at_another,
    attack_55_a_check_in_is_heard_with_the_connectors_own_certificate_alone,
    attack_26_gateways_learn_a_signing_key_before_a_challenge_uses_it,
    what_a_gateway_says_is_shown_and_what_it_is_ordered_reaches_it,
    an_issuer_that_stops_answers_first,
];
