//! Gateways of one group, each its own process, on one PostgreSQL ledger.
//!
//! A harness of its own: one private cluster for all tests, with every sync on and a schema for each. Where PostgreSQL is
//! missing every test is listed as ignored; where the environment variable `CI` is `true` it fails instead.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

#[allow(dead_code, reason = "the crash tests use the rest")]
mod support;

use libtest_mimic::{Arguments, Trial};
use scep_client::{Answer, ClientError, ScepClient, Server};
use scep_keys::AwsLc;
use scep_ledger::{
    Ledger, LedgerSettings, OrderedBy, PostgresConfig, QueueOutcome, RevocationOrder,
    RevocationReason, RevocationState,
};
use scep_server::SystemClock;
use scep_testkit::postgres::{Cluster, Programs};
use scep_testkit::process::{PATIENCE, http, must, run, text, wait_for};
use scep_types::{CertificateDer, Clock, CrlDer, NameHash, TenantId, Timestamp};
use std::process::Output;
use std::sync::Arc;
use support::{Device, Gateway, enrol, identity};

/// A gateway on a schema of the cluster that does not run yet.
fn gateway(cluster: &Cluster, schema: &str) -> Gateway {
    let gateway = Gateway::init();
    on(&gateway, &format!("connection = \"{}\"\nschema = \"{schema}\"", cluster.by_socket()));
    gateway
}

/// Puts the ledger of a gateway into a database.
fn on(gateway: &Gateway, keys: &str) {
    gateway.configure(|text| {
        let text = text.replacen("ledger = \"ledger.sqlite\"\n", "", 1);
        format!("{text}\n[ledger]\nkind = \"postgres\"\n{keys}\n")
    });
    // What `init` has made is not needed.
    std::fs::remove_file(gateway.ledger_file()).unwrap();
}

/// Two gateways of a group, running.
fn two(cluster: &Cluster, schema: &str) -> [Gateway; 2] {
    let mut one = gateway(cluster, schema);
    let mut two = one.twin();
    one.start(&[]);
    two.start(&[]);
    [one, two]
}

fn wait_for_crl(gateway: &Gateway, what: &str, fits: impl Fn(&CrlDer) -> bool) -> CrlDer {
    wait_for(what, || {
        let answer = http(gateway.address(), "GET", "/crl", b"");
        (answer.status == 200).then(|| CrlDer::parse(&answer.body).unwrap()).filter(|crl| fits(crl))
    })
}

/// Clients of both, and what they know of their servers.
struct Clients([(ScepClient, Server); 2]);

impl Clients {
    async fn of(gateways: &[Gateway; 2]) -> Self {
        Self([gateways[0].client().await, gateways[1].client().await])
    }

    async fn enrol(&self, at: usize, device: &Device) -> Result<CertificateDer, ClientError> {
        let (client, server) = &self.0[at];
        enrol(client, server, &device.request(), &identity()).await
    }
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(output));
    text(output)
}

async fn attack_08_one_challenge_gives_one_certificate_at_two_processes(cluster: &Cluster) {
    let gateways = two(cluster, "one_challenge");
    let clients = Arc::new(Clients::of(&gateways).await);
    for _ in 0..4 {
        let device = gateways[0].device();
        let all: Vec<Device> = (0..8).map(|_| device.with_another_key()).collect();
        let asked: Vec<_> = all
            .into_iter()
            .enumerate()
            .map(|(n, device)| {
                let clients = Arc::clone(&clients);
                tokio::spawn(
                    async move { clients.enrol(n % 2, &device).await.map(|c| (device, c)) },
                )
            })
            .collect();
        let mut issued = Vec::new();
        for one in asked {
            match one.await.unwrap() {
                Ok(one) => issued.push(one),
                Err(ClientError::Refused { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(issued.len(), 1);
        let (device, certificate) = issued.remove(0);
        // Its retry gets the same certificate, wherever it goes.
        for at in [0, 1] {
            assert_eq!(clients.enrol(at, &device).await.unwrap(), certificate);
        }
    }
    // What one of them has done alone the other knows, and still does when the first was killed.
    let [mut first, second] = gateways;
    let device = first.device();
    let certificate = clients.enrol(0, &device).await.unwrap();
    first.kill();
    assert_eq!(clients.enrol(1, &device).await.unwrap(), certificate);
    let error = clients.enrol(1, &device.with_another_key()).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "{error}");
    clients.enrol(1, &second.device()).await.unwrap();
}

async fn attack_54_an_operators_order_reaches_the_crl_of_every_gateway(cluster: &Cluster) {
    let gateways = two(cluster, "revocation");
    let clients = Clients::of(&gateways).await;
    let certificate = clients.enrol(0, &gateways[0].device()).await.unwrap();
    let serial = certificate.serial().unwrap();
    // Nobody has to be stopped for it.
    let order = ["--serial", &serial.to_string(), "--reason", "superseded", "--operator", "alice"];
    let ordered = said(&run(gateways[1].command(&["revoke"]).args(order)));
    assert!(ordered.contains("goes on at once, at a gateway of the group"), "{ordered}");
    // One list, whoever has signed it.
    let shown = wait_for("the same CRL at both", || {
        let [one, two] = gateways
            .each_ref()
            .map(|gateway| wait_for_crl(gateway, "the CRL", |crl| crl.contains(&serial)));
        (one == two).then_some(one)
    });
    let again = wait_for("the order to be fulfilled", || {
        let again = said(&run(gateways[0].command(&["revoke"]).args(order)));
        again.contains("the CRL shows it").then_some(again)
    });
    assert!(again.contains(&serial.to_string()), "{again}");
    // The one that is left goes on alone, whichever had the order last.
    let [mut first, second] = gateways;
    let other = clients.enrol(1, &second.device()).await.unwrap();
    first.kill();
    let serial = other.serial().unwrap();
    let order = ["--serial", &serial.to_string(), "--reason", "superseded", "--operator", "alice"];
    said(&run(second.command(&["revoke"]).args(order)));
    let crl = wait_for_crl(&second, "the next CRL", |crl| crl.contains(&serial));
    assert!(crl.number() > shown.number());
}

async fn a_request_held_at_one_gateway_is_approved_beside_both_and_fetched_at_the_other(
    cluster: &Cluster,
) {
    let [mut first, second] = two(cluster, "held");
    let (client, server) = first.client().await;
    let (other, other_server) = second.client().await;
    let device = first.manual_device();
    let (now, request, identity) = (SystemClock.now(), device.request(), identity());
    let answer = client.enrol(&server, &request, &identity, now, &AwsLc).await.unwrap();
    let Answer::Pending(pending) = answer else { panic!("{answer:?}") };
    let poll = || other.poll(&other_server, &pending, &identity, now, &AwsLc);
    assert!(matches!(poll().await.unwrap(), Answer::Pending(_)));
    // Nobody has to be stopped for it, and no listener to be asked.
    let listed = must(second.command(&["held", "list"]).arg("--json"));
    let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
    assert_eq!(listed[0]["device"], device.claims.device.as_str(), "{listed}");
    let row = listed[0]["row"].to_string();
    said(&run(first.command(&["held", "approve"]).args([&row, "--person", "alice"])));
    let (one, two) = tokio::join!(poll(), client.poll(&server, &pending, &identity, now, &AwsLc));
    for answer in [one.unwrap(), two.unwrap()] {
        let good = match &answer {
            Answer::Issued(issued) => issued.certificate.spki() == device.public_key(),
            Answer::Pending(_) => true,
        };
        assert!(good, "{answer:?}");
    }
    // The one that the gateways have made together outlives the one that may have asked for it.
    first.kill();
    let answer = poll().await.unwrap();
    assert!(matches!(answer, Answer::Issued(_)), "{answer:?}");
    let counters = ledger(cluster, "held").await.counters().await.unwrap();
    assert_eq!((counters.issued, counters.held), (1, 0));
}

/// The ledger of the gateways, beside them.
async fn ledger(cluster: &Cluster, schema: &str) -> Ledger {
    let config = PostgresConfig::new(&cluster.by_socket()).unwrap().schema(schema).unwrap();
    Ledger::open_postgres(config, LedgerSettings::default()).await.unwrap()
}

fn order(certificate: &CertificateDer, by: OrderedBy) -> RevocationOrder {
    RevocationOrder {
        issuer: NameHash::of(certificate.issuer_der()),
        serial: certificate.serial().unwrap(),
        reason: RevocationReason::KeyCompromise,
        by,
    }
}

async fn attack_54_what_a_killed_gateway_was_revoking_another_ends(cluster: &Cluster) {
    const ORDERS: usize = 60;
    let mut first = gateway(cluster, "killed");
    first.configure(|text| format!("{text}lease = \"1s\"\n"));
    let mut second = first.twin();
    first.start(&[]);
    let (client, server) = first.client().await;
    let mut certificates = Vec::new();
    for _ in 0..ORDERS {
        let request = first.device().request();
        certificates.push(enrol(&client, &server, &request, &identity()).await.unwrap());
    }
    let ledger = ledger(cluster, "killed").await;
    let now = ledger.effective_now(Timestamp::EPOCH).await.unwrap().now;
    let by = OrderedBy::Operator("alice".into());
    let orders: Vec<_> = certificates.iter().map(|one| order(one, by.clone())).collect();
    let queued = orders.iter().map(|order| ledger.queue_revocation(order.clone(), now));
    for queued in queued {
        assert_eq!(queued.await.unwrap(), QueueOutcome::Queued);
    }
    let states = async || {
        let mut states = Vec::new();
        for order in &orders {
            states.push(ledger.revocation(order.issuer, &order.serial).await.unwrap().unwrap());
        }
        states
    };
    let deadline = std::time::Instant::now() + PATIENCE;
    // All are sent in one step and revoked one by one: whoever sees the first one sent is in the middle, unless the
    // machine has something else to do just then. What must hold afterwards, holds anyway.
    let watched = &orders[0];
    let state = async || ledger.revocation(watched.issuer, &watched.serial).await.unwrap().unwrap();
    while state().await == RevocationState::Queued {
        assert!(std::time::Instant::now() < deadline, "nothing is revoked");
    }
    first.kill();
    let done = |state: &&RevocationState| !matches!(state, RevocationState::Sent);
    println!("killed when {} of {ORDERS} were revoked", states().await.iter().filter(done).count());
    second.start(&[]);
    let all = |crl: &CrlDer| orders.iter().all(|order| crl.contains(&order.serial));
    wait_for_crl(&second, "all of them on the CRL", all);
    let events = ledger.outbox(0, 1_000).await.unwrap();
    for kind in ["revoked", "on-crl"] {
        let mut about: Vec<_> = events.iter().filter(|e| e.kind.code() == kind).collect();
        assert_eq!(about.len(), ORDERS, "{kind}");
        about.sort_by(|a, b| a.idempotency_key.cmp(&b.idempotency_key));
        about.dedup_by(|a, b| a.idempotency_key == b.idempotency_key);
        assert_eq!(about.len(), ORDERS, "{kind}, each once");
    }
}

async fn the_operators_commands_work_beside_running_gateways(cluster: &Cluster) {
    let [gateway, _other] = two(cluster, "commands");
    wait_for_crl(&gateway, "a first CRL", |_| true);
    let checked = said(&run(&mut gateway.command(&["check-config"])));
    assert!(checked.contains("PostgreSQL, postgres at"), "{checked}");
    assert!(checked.contains("schema commands"), "{checked}");
    let operator = ["--operator", "alice"];
    let confirmed = said(&run(gateway.command(&["confirm-revocations"]).args(operator)));
    assert!(confirmed.contains("confirmed: 0 revocations"), "{confirmed}");
    let reset = said(&run(gateway.command(&["clock-reset"]).args(operator)));
    assert!(reset.contains("clock mark is now"), "{reset}");
    let file = gateway.file("ca.crl");
    must(gateway.command(&["crl"]).arg("--out").arg(&file));
    let written = CrlDer::parse(&std::fs::read(&file).unwrap()).unwrap();
    wait_for_crl(&gateway, "the same CRL", |crl| *crl == written);
}

async fn attack_55_the_configured_brake_holds_at_every_gateway(cluster: &Cluster) {
    let mut gateway = gateway(cluster, "brake");
    gateway.configure(|text| {
        format!("{text}\n[revocations]\nbrake_percent = 0\nbrake_at_least = 0\n")
    });
    gateway.start(&[]);
    let (client, server) = gateway.client().await;
    let request = gateway.device().request();
    let certificate = enrol(&client, &server, &request, &identity()).await.unwrap();
    // As the issuer orders it, through its connector.
    let ledger = ledger(cluster, "brake").await;
    let order = order(&certificate, OrderedBy::Tenant(TenantId::new("contoso").unwrap()));
    let issuer = order.issuer;
    let now = ledger.effective_now(Timestamp::EPOCH).await.unwrap().now;
    ledger.queue_revocation(order, now).await.unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    while ledger.revocation_work(issuer).await.unwrap().held != 1 {
        assert!(std::time::Instant::now() < deadline, "the brake does not hold");
        tokio::time::sleep(core::time::Duration::from_millis(20)).await;
    }
    let operator = ["--operator", "alice"];
    let confirmed = said(&run(gateway.command(&["confirm-revocations"]).args(operator)));
    assert!(confirmed.contains("confirmed: 1 revocations"), "{confirmed}");
    let serial = certificate.serial().unwrap();
    wait_for_crl(&gateway, "the CRL", |crl| crl.contains(&serial));
}

async fn the_password_is_taken_from_a_file_or_the_environment(cluster: &Cluster) {
    let with = cluster.by_port("localhost");
    let at = with.find("password='").unwrap();
    let end = at + with[at..].find("' ").unwrap();
    let password = with[at + "password='".len()..end].replace("\\'", "'");
    let without = with.replace(&with[at..=end], "");
    let keys = format!("connection = \"{without}\"\nschema = \"password\"\n");

    let gateway = Gateway::init();
    on(&gateway, &format!("{keys}password_file = \"ledger.password\""));
    let file = gateway.file("gw/ledger.password");
    let write = |text: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    write(&format!("{password}\n"));
    let operator = ["--operator", "alice"];
    said(&run(gateway.command(&["clock-reset"]).args(operator)));
    // A wrong one is refused, and not shown.
    write("not the s3cret\n");
    let refused = run(gateway.command(&["clock-reset"]).args(operator));
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("ledger: ") && text(&refused).contains("password"));
    assert!(!text(&refused).contains("s3cret"), "{}", text(&refused));
    // In the environment, as for psql.
    let other = Gateway::init();
    on(&other, &keys);
    let none = run(other.command(&["clock-reset"]).args(operator));
    assert_eq!(none.status.code(), Some(1), "{}", text(&none));
    said(&run(other.command(&["clock-reset"]).args(operator).env("PGPASSWORD", &password)));
}

async fn a_server_that_is_not_there_is_named_and_stops_the_start(cluster: &Cluster) {
    let gateway = Gateway::init();
    let nobody = scep_testkit::process::free_address();
    let there = format!("host=127.0.0.1 port={} user=g dbname=scep", nobody.port());
    on(&gateway, &format!("connection = \"{there}\""));
    let refused = run(&mut gateway.command(&["serve"]));
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("ledger: the ledger could not connect"), "{}", text(&refused));
    drop(cluster.by_socket());
}

type Test = fn(&Cluster);

fn run_async(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(test);
}

macro_rules! tests {
    ($($name:ident)*) => {
        vec![$((stringify!($name), (|cluster| run_async($name(cluster))) as Test)),*]
    };
}

fn main() {
    let arguments = Arguments::from_args();
    let tests: Vec<(&str, Test)> = tests! {
        attack_08_one_challenge_gives_one_certificate_at_two_processes
        attack_54_an_operators_order_reaches_the_crl_of_every_gateway
        attack_54_what_a_killed_gateway_was_revoking_another_ends
        a_request_held_at_one_gateway_is_approved_beside_both_and_fetched_at_the_other
        attack_55_the_configured_brake_holds_at_every_gateway
        the_operators_commands_work_beside_running_gateways
        the_password_is_taken_from_a_file_or_the_environment
        a_server_that_is_not_there_is_named_and_stops_the_start
    };
    let programs = Programs::find();
    let ci = std::env::var("CI").as_deref() == Ok("true");
    let cluster = match &programs {
        Some(programs) if !arguments.list => Some(Arc::new(Cluster::start(programs, &[]).unwrap())),
        _ => None,
    };
    if programs.is_none() && !ci {
        eprintln!("SKIPPED {} tests: PostgreSQL is missing", tests.len());
    }
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            let cluster = cluster.clone();
            Trial::test(name, move || {
                let cluster = cluster.ok_or("PostgreSQL is missing")?;
                test(&cluster);
                Ok(())
            })
            .with_ignored_flag(programs.is_none() && !ci)
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Before the exit, which drops nothing.
    drop(cluster);
    conclusion.exit();
}
