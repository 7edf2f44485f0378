//! Lost connections and crashes of the server: no acknowledged step is lost, and none happens twice.

use crate::database::Database;
use crate::proxy::{Cut, Proxy};
use crate::support::*;
use crate::{Deadline, Test, run};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use scep_ledger::{AdmitError, Ledger, LedgerError};
use scep_testkit::postgres::{Cluster, Programs};
use scep_types::{ChallengeId, Reason, ReleasedCertificate as _};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("attack_52_a_commit_whose_answer_was_lost_is_read_back", |cluster| {
        run(attack_52_a_commit_whose_answer_was_lost_is_read_back(Arc::clone(cluster)));
    }),
    ("attack_52_a_commit_that_never_arrived_is_nobodys_success", |cluster| {
        run(attack_52_a_commit_that_never_arrived_is_nobodys_success(Arc::clone(cluster)));
    }),
    ("attack_52_an_admission_that_others_settled_meanwhile_is_none", |cluster| {
        run(attack_52_an_admission_that_others_settled_meanwhile_is_none(Arc::clone(cluster)));
    }),
    ("attack_52_a_crash_of_the_server_between_intent_and_outcome_loses_nothing", |_| {
        run(attack_52_a_crash_of_the_server_between_intent_and_outcome_loses_nothing());
    }),
    ("attack_52_connections_ended_at_any_moment_lose_and_double_nothing", |cluster| {
        run(attack_52_connections_ended_at_any_moment_lose_and_double_nothing(Arc::clone(cluster)));
    }),
    ("a_server_that_accepts_and_says_nothing_is_given_up", |cluster| {
        run(a_server_that_accepts_and_says_nothing_is_given_up(Arc::clone(cluster)));
    }),
    ("a_server_that_is_away_is_an_error_and_not_a_hang", |_| {
        run(a_server_that_is_away_is_an_error_and_not_a_hang());
    }),
];

/// A database whose first gateway is behind a proxy.
async fn behind_proxy(cluster: &Cluster) -> (Database, Database, Proxy) {
    let proxy = Proxy::start(cluster.port()).await;
    let direct = Database::new(cluster);
    let connection = cluster
        .by_port("localhost")
        .replace(&format!("port={}", cluster.port()), &format!("port={}", proxy.port));
    (direct.by(connection), direct, proxy)
}

async fn rows(database: &Database, what: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {what}");
    database.client().await.query_one(&sql, &[]).await.unwrap().get(0)
}

async fn attack_52_a_commit_whose_answer_was_lost_is_read_back(cluster: Arc<Cluster>) {
    let (behind, direct, mut proxy) = behind_proxy(&cluster).await;
    let ledger = behind.gateway().await;
    let first = Arc::new(enrolment(1, "device-1", 1));
    proxy.cut_and_shut(Cut::Answer);
    let asked = {
        let (ledger, first) = (ledger.clone(), Arc::clone(&first));
        tokio::spawn(async move { first.admit(&ledger, NOW).await })
    };
    proxy.cut_happened(1).await;
    assert_eq!(rows(&direct, "enrolment").await, 1);
    assert!(!asked.is_finished(), "answered without proof");
    proxy.open();
    // The proof, and not a second admission: that would be refused.
    let (permit, unsettled) = asked.await.unwrap().unwrap().redeem();

    let certificate = issue(permit.contents(), permit.serial().unwrap());
    let conforming = unsettled.approval().check_certificate(&certificate).unwrap();
    proxy.cut_and_shut(Cut::Answer);
    let recorded = {
        let ledger = ledger.clone();
        tokio::spawn(async move { ledger.record(unsettled, conforming, NOW).await })
    };
    proxy.cut_happened(2).await;
    assert_eq!(rows(&direct, "certificate").await, 1);
    proxy.open();
    let releasable = recorded.await.unwrap().unwrap();
    assert_eq!(first.recall(&direct.gateway().await, NOW).await, Known::of(&releasable));
    assert_eq!(kinds(&ledger).await, ["issued"]);
    assert_eq!(rows(&direct, "enrolment").await, 1);
}

async fn attack_52_a_commit_that_never_arrived_is_nobodys_success(cluster: Arc<Cluster>) {
    let (behind, direct, mut proxy) = behind_proxy(&cluster).await;
    let ledger = behind.gateway().await;
    let first = Arc::new(enrolment(1, "device-1", 1));
    proxy.cut_and_shut(Cut::Request);
    let asked = {
        let (ledger, first) = (ledger.clone(), Arc::clone(&first));
        tokio::spawn(async move { first.admit(&ledger, NOW).await })
    };
    proxy.cut_happened(1).await;
    assert_eq!(rows(&direct, "enrolment").await, 0);
    assert!(!asked.is_finished());
    proxy.open();
    // It was done again on a new connection, once.
    let (_permit, unsettled) = asked.await.unwrap().unwrap().redeem();
    assert_eq!(rows(&direct, "enrolment").await, 1);
    ledger.hand_back(unsettled, Reason::CaUnavailable, "", NOW).await.unwrap();
    assert_eq!(kinds(&ledger).await, ["failed"]);
}

async fn attack_52_an_admission_that_others_settled_meanwhile_is_none(cluster: Arc<Cluster>) {
    let (behind, direct, mut proxy) = behind_proxy(&cluster).await;
    let (lost, other) = (behind.gateway().await, direct.gateway().await);
    let first = Arc::new(enrolment(1, "device-1", 1));
    proxy.cut_and_shut(Cut::Answer);
    let asked = {
        let (lost, first) = (lost.clone(), Arc::clone(&first));
        tokio::spawn(async move { first.admit(&lost, NOW).await })
    };
    proxy.cut_happened(1).await;
    // Nobody hears from it until its lease is over.
    let over = "UPDATE gateway SET lease_until = '-infinity' WHERE instance = \
                (SELECT owner FROM enrolment)";
    direct.client().await.batch_execute(over).await.unwrap();
    let left = other.unsettled().await.unwrap().swap_remove(0);
    other.settle_nothing(left, NOW).await.unwrap();
    let _permit = first.admit(&other, NOW).await.unwrap();
    proxy.open();
    // The commit had got through, and still its CA must not be asked.
    let error = asked.await.unwrap().unwrap_err();
    assert_eq!(error, AdmitError::Ledger(LedgerError::AlreadySettled));
    assert!(lost.unsettled().await.unwrap().is_empty());
}

async fn attack_52_a_crash_of_the_server_between_intent_and_outcome_loses_nothing() {
    let mut cluster = Cluster::start(&Programs::find().unwrap(), &[]).unwrap();
    let database = Database::new(&cluster);
    let ledger = database.gateway().await;
    let (done, under_way, dropped) =
        (enrolment(1, "device-1", 1), enrolment(2, "device-2", 2), enrolment(3, "device-3", 3));
    let certificate = done.enrol(&ledger, NOW).await;
    let (permit, unsettled) = under_way.admit(&ledger, NOW).await.unwrap().redeem();
    drop(dropped.admit(&ledger, NOW).await.unwrap());
    tokio::task::block_in_place(|| {
        cluster.kill().unwrap();
        cluster.restart().unwrap();
    });
    // The CA had not noticed anything.
    let issued = issue(permit.contents(), permit.serial().unwrap());
    let conforming = unsettled.approval().check_certificate(&issued).unwrap();
    ledger.record(unsettled, conforming, NOW).await.unwrap();
    for ledger in [ledger.clone(), database.gateway().await] {
        assert_eq!(done.recall(&ledger, NOW).await, Known::Certificate(certificate.clone()));
        assert_eq!(under_way.recall(&ledger, NOW).await, Known::Certificate(issued.clone()));
        assert_eq!(dropped.recall(&ledger, NOW).await, Known::InProgress);
        assert_eq!(done.refused(&ledger, NOW).await, Reason::RequestInProgress);
        assert_eq!(kinds(&ledger).await, ["issued", "issued"]);
    }
    let left = ledger.unsettled().await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].challenge().1, dropped.claims.challenge_id);
}

async fn a_server_that_is_away_is_an_error_and_not_a_hang() {
    let mut cluster = Cluster::start(&Programs::find().unwrap(), &[]).unwrap();
    let database = Database::new(&cluster);
    let ledger = database.gateway().await;
    let first = enrolment(1, "device-1", 1);
    tokio::task::block_in_place(|| cluster.kill().unwrap());
    let Err(AdmitError::Ledger(error)) = first.admit(&ledger, NOW).await else {
        panic!("admitted")
    };
    assert!(matches!(error, LedgerError::Engine { .. }), "{error:?}");
    assert_eq!(error.reason(), Reason::LedgerUnavailable);
    ledger.denials().await.unwrap_err();
    tokio::task::block_in_place(|| cluster.restart().unwrap());
    // It comes back by itself.
    let deadline = Deadline::new();
    while ledger.flush().await.is_err() {
        deadline.wait().await;
    }
    first.enrol(&ledger, NOW).await;
    tokio::task::block_in_place(|| cluster.kill().unwrap());
    // The last clone waits for what cannot be written, but not for ever.
    drop(ledger);
}

async fn a_server_that_accepts_and_says_nothing_is_given_up(cluster: Arc<Cluster>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mute = Database::new(&cluster).by(format!("host=127.0.0.1 port={port} user=nobody"));
    let error = mute.try_open().await.unwrap_err();
    assert!(matches!(error, LedgerError::Engine { action: "connect", .. }), "{error:?}");
}

/// What the gateways were told.
#[derive(Default)]
struct Told {
    admitted: Mutex<BTreeSet<String>>,
    recorded: Mutex<BTreeSet<String>>,
    freed: Mutex<BTreeSet<String>>,
    errors: AtomicU32,
}

async fn enrol_again_and_again(
    ledger: Ledger,
    worker: usize,
    told: Arc<Told>,
    stop: Arc<AtomicBool>,
) {
    let device = format!("device-{worker}");
    let mut round: u32 = 0;
    while !stop.load(Ordering::SeqCst) {
        round += 1;
        let mut id = [0; 16];
        getrandom::fill(&mut id).unwrap();
        let challenge = ChallengeId::from_bytes(id);
        let of = enrolment_with(challenge, &device, &KEYS[worker], 1_000_000, 365 * DAY);
        let failed = |error: LedgerError| {
            assert!(matches!(error, LedgerError::Engine { .. }), "{error:?}");
            told.errors.fetch_add(1, Ordering::SeqCst);
        };
        let admission = match of.admit(&ledger, NOW).await {
            Ok(admission) => admission,
            Err(AdmitError::Ledger(error)) => {
                failed(error);
                continue;
            }
            Err(AdmitError::Refused(reason)) => panic!("{reason}"),
        };
        let (permit, unsettled) = admission.redeem();
        told.admitted.lock().unwrap().insert(challenge.to_string());
        if round.is_multiple_of(3) {
            match ledger.hand_back(unsettled, Reason::CaUnavailable, "down", NOW).await {
                Ok(()) => drop(told.freed.lock().unwrap().insert(challenge.to_string())),
                Err(error) => failed(error),
            }
        } else {
            let certificate = issue(permit.contents(), permit.serial().unwrap());
            let conforming = unsettled.approval().check_certificate(&certificate).unwrap();
            match ledger.record(unsettled, conforming, NOW).await {
                Ok(releasable) => {
                    assert_eq!(releasable.certificate(), &certificate);
                    told.recorded.lock().unwrap().insert(challenge.to_string());
                }
                Err(error) => failed(error),
            }
        }
    }
}

async fn attack_52_connections_ended_at_any_moment_lose_and_double_nothing(cluster: Arc<Cluster>) {
    let plain = Database::new(&cluster);
    let name = plain.schema.clone();
    let database = plain.by(format!("{} application_name={name}", cluster.by_socket()));
    let gateways = [database.gateway().await, database.gateway().await];
    let (told, stop) = (Arc::new(Told::default()), Arc::new(AtomicBool::new(false)));
    let workers: Vec<_> = (1..7)
        .map(|worker| {
            let ledger = gateways[worker % 2].clone();
            tokio::spawn(enrol_again_and_again(
                ledger,
                worker,
                Arc::clone(&told),
                Arc::clone(&stop),
            ))
        })
        .collect();
    let client = plain.client().await;
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE application_name = $1 AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1";
    let (mut ended, deadline) = (0, Deadline::new());
    while ended < 40 || told.recorded.lock().unwrap().len() < 100 {
        ended += client.query(kill, &[&name]).await.unwrap().len();
        deadline.wait().await;
    }
    stop.store(true, Ordering::SeqCst);
    for worker in workers {
        worker.await.unwrap();
    }
    drop(gateways);

    let ledger = database.gateway().await;
    let mut outcomes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut keys = BTreeSet::new();
    for (event, number) in ledger.outbox(0, u32::MAX).await.unwrap().iter().zip(1..) {
        assert_eq!(event.sequence, number);
        assert!(keys.insert(event.idempotency_key.clone()), "{}", event.idempotency_key);
        let body: serde_json::Value = serde_json::from_str(&event.body_json).unwrap();
        let challenge = body["challenge"].as_str().unwrap().to_owned();
        outcomes.entry(challenge).or_default().push(event.kind.to_string());
    }
    let left = ledger.unsettled().await.unwrap();
    let open: BTreeSet<_> = left.iter().map(|left| left.challenge().1.to_string()).collect();
    for challenge in told.admitted.lock().unwrap().iter() {
        // Exactly one of: an outcome with its report, an open intent.
        let reports = outcomes.get(challenge).map_or(0, Vec::len);
        assert_eq!(reports + usize::from(open.contains(challenge)), 1, "{challenge}");
    }
    for challenge in told.freed.lock().unwrap().iter() {
        assert_eq!(outcomes.get(challenge).unwrap(), &["failed"], "{challenge}");
    }
    let inventory = ledger.inventory(u32::MAX, None).await.unwrap();
    let on_record: Vec<_> = inventory.iter().map(|entry| entry.challenge.to_string()).collect();
    for challenge in told.recorded.lock().unwrap().iter() {
        assert_eq!(outcomes.get(challenge).unwrap(), &["issued"], "{challenge}");
        assert_eq!(on_record.iter().filter(|on| *on == challenge).count(), 1, "{challenge}");
    }
    // Its own counters agree with its events.
    let counters = ledger.counters().await.unwrap();
    assert_eq!(usize::try_from(counters.issued).unwrap(), inventory.len());
    assert_eq!(usize::try_from(counters.outbox).unwrap(), keys.len());
}
