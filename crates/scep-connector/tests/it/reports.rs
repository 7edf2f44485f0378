//! Events: each arrives, once in effect, in order, whatever happens in between.

use crate::gateway::{Gateway, eventually};
use crate::issuer::{Issuer, Reply, tenant};
use scep_ledger::{Ledger, LedgerSettings};
use scep_link::*;
use serde_json::Value;
use std::time::Duration;

const REPORTS: &str = "/connector/v1/reports";

async fn until_reported(gateway: &Gateway, issuer: &Issuer, count: usize) {
    eventually("every event", || (issuer.book().events.len() >= count).then_some(())).await;
    eventually("an empty queue", || (gateway.connector().status().queue_depth == 0).then_some(()))
        .await;
    let book = issuer.book();
    let sequences: Vec<_> = book.events.iter().map(|event| event.sequence).collect();
    let expected: Vec<_> = (1..=count as u64).collect();
    assert_eq!(sequences, expected, "lost, doubled or out of order");
}

fn batches(issuer: &Issuer) -> Vec<ReportBatch> {
    let book = issuer.book();
    let reports = book.asked.iter().filter(|asked| asked.path == REPORTS);
    reports.map(|asked| read(&asked.body).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_loses_nothing_and_doubles_nothing() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    issuer.twist(|_, _| Some(Reply::problem(ErrorCode::Unavailable)));
    gateway.start();
    for nth in 1..=600 {
        gateway.event(nth).await;
    }
    eventually("trouble", || gateway.trouble().filter(|said| said.contains("reports"))).await;
    eventually("the queue", || (gateway.connector().status().queue_depth == 600).then_some(()))
        .await;
    issuer.honest();
    until_reported(&gateway, &issuer, 600).await;
    eventually("no trouble", || gateway.trouble().is_none().then_some(())).await;
    let last = batches(&issuer).iter().map(|batch| batch.events.len()).max();
    assert_eq!(last, Some(500), "a batch is no longer than the protocol allows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_gone_on_with_in_its_middle() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    issuer.says(|book| book.appetite = 3);
    for nth in 1..=10 {
        gateway.event(nth).await;
    }
    gateway.start();
    until_reported(&gateway, &issuer, 10).await;
    let begins: Vec<_> = batches(&issuer).iter().map(|batch| batch.events[0].sequence).collect();
    assert_eq!(begins, [1, 4, 7, 10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_acknowledgement_repeats_the_batch() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    gateway.event(1).await;
    let mut lost = 0;
    issuer.twist(move |book, asked| {
        if let Some(request) = asked.check_in() {
            // Or the check-in would make up for it.
            let mut commands = book.commands(&request);
            commands.outbox_acknowledged = 0;
            return Some(book.seal(&commands));
        }
        (asked.path == REPORTS && lost == 0).then(|| {
            lost += 1;
            Reply { status: 502, ..book.honest(asked) }
        })
    });
    gateway.start();
    eventually("a second batch", || (batches(&issuer).len() >= 2).then_some(())).await;
    until_reported(&gateway, &issuer, 1).await;
    let keys: Vec<_> =
        batches(&issuer).iter().map(|b| b.events[0].idempotency_key.clone()).collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_in_makes_up_for_acknowledgements_that_are_lost() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    gateway.event(1).await;
    issuer.twist(move |book, asked| {
        (asked.path == REPORTS).then(|| Reply { status: 502, ..book.honest(asked) })
    });
    gateway.start();
    until_reported(&gateway, &issuer, 1).await;
    eventually("the log", || (gateway.status_files("succeed").len() == 1).then_some(())).await;
}

/// The future is dropped wherever it stands, time after time, while events come and answers are lost.
#[tokio::test(flavor = "multi_thread")]
async fn attack_52_a_crash_anywhere_loses_and_doubles_no_event() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    let mut odd = 0_u32;
    issuer.twist(move |book, asked| {
        odd = odd.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        book.appetite = usize::try_from(odd >> 28).unwrap() + 1;
        match odd >> 24 & 7 {
            0 => {
                book.honest(asked);
                Some(Reply { status: 500, ..Reply::json(Vec::new()) })
            }
            _ => None,
        }
    });
    let mut events = 0;
    for round in 0..40_u64 {
        gateway.start();
        for _ in 0..8 {
            events += 1;
            gateway.event(events).await;
        }
        // Not to wait for anything: to be somewhere else each time.
        tokio::time::sleep(Duration::from_micros(round * 1_700)).await;
        gateway.crash().await;
    }
    issuer.says(|book| book.appetite = usize::MAX);
    issuer.honest();
    gateway.start();
    until_reported(&gateway, &issuer, events as usize).await;
    eventually("no trouble", || gateway.trouble().is_none().then_some(())).await;
    eventually("the log", || gateway.status_files("processing").is_empty().then_some(())).await;
}

/// A copy of a ledger, closed, as a backup is.
fn restored(gateway: &mut Gateway, backup: &std::path::Path) {
    let path = gateway.folder.path().join("restored.sqlite");
    std::fs::copy(backup, &path).unwrap();
    gateway.ledger = Ledger::open_sqlite(&path, LedgerSettings::default()).unwrap();
}

async fn with_a_backup(issuer: &Issuer) -> Gateway {
    let mut gateway = Gateway::enrolled(issuer).await;
    gateway.event(1).await;
    gateway.event(2).await;
    gateway.start();
    until_reported(&gateway, issuer, 2).await;
    gateway.stop().await;
    // The last clone writes everything into the one file.
    let backup = gateway.folder.path().join("backup.sqlite");
    let other = gateway.folder.path().join("other.sqlite");
    gateway.ledger = Ledger::open_sqlite(&other, LedgerSettings::default()).unwrap();
    let path = gateway.folder.path().join("ledger.sqlite");
    std::fs::copy(&path, &backup).unwrap();
    gateway.ledger = Ledger::open_sqlite(&path, LedgerSettings::default()).unwrap();
    gateway.event(3).await;
    gateway.event(4).await;
    gateway.start();
    until_reported(&gateway, issuer, 4).await;
    gateway.stop().await;
    restored(&mut gateway, &backup);
    gateway
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_07_a_ledger_restored_from_a_backup_is_noticed() {
    let issuer = Issuer::start().await;
    let mut gateway = with_a_backup(&issuer).await;
    let asked = issuer.book().check_ins().len();
    gateway.start();
    let said = eventually("trouble", || gateway.trouble()).await;
    assert!(said.contains("ChallengeBeforeRestore"), "{said}");
    let first = issuer.book().check_ins()[asked].clone();
    assert_eq!(first.outbox_high_mark, 2, "the issuer is told how far this ledger had come");
    let event = eventually("the event", || {
        issuer.book().events.iter().find(|event| event.kind.as_str() == "restored").cloned()
    })
    .await;
    assert_eq!(event.sequence, 5, "numbers go on after what the issuer knows");
    eventually("an empty queue", || (gateway.connector().status().queue_depth == 0).then_some(()))
        .await;
}

/// Whoever has the TLS key and not the command key must not be able to make a gateway refuse every challenge.
#[tokio::test(flavor = "multi_thread")]
async fn attack_55_an_acknowledgement_without_a_signature_tells_of_no_restored_backup() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    let mut check_ins_too = true;
    issuer.twist(move |_, asked| {
        if asked.path == REPORTS && check_ins_too {
            check_ins_too = false;
            let batch: ReportBatch = read(&asked.body).unwrap();
            let (ledger, acknowledged) = (batch.ledger, 1000);
            let answer = Acknowledgement { v: V1, code: Success, ledger, acknowledged };
            return Some(Reply::json(write(&answer).unwrap()));
        }
        None
    });
    gateway.event(1).await;
    gateway.start();
    eventually("a batch", || (!batches(&issuer).is_empty()).then_some(())).await;
    // The next signed answer knows nothing of it, and the event arrives.
    until_reported(&gateway, &issuer, 1).await;
    assert_eq!(gateway.ledger.counters().await.unwrap().last_event, 1, "a restore was recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_of_another_ledger_counts_for_nothing() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    issuer.twist(|_, asked| {
        (asked.path == REPORTS).then(|| {
            let ledger = scep_types::LedgerId::from_bytes([1; 16]);
            let answer = Acknowledgement { v: V1, code: Success, ledger, acknowledged: 1 };
            Reply::json(write(&answer).unwrap())
        })
    });
    gateway.event(1).await;
    gateway.start();
    let said = eventually("trouble", || gateway.trouble()).await;
    assert!(said.contains("another ledger is acknowledged"), "{said}");
    assert_eq!(gateway.ledger.outbox(0, 9).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_out_of_order_wait_for_the_next_check_in() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    let mut refusals = 0;
    issuer.twist(move |_, asked| {
        if refusals == 0 && asked.check_in().is_some() {
            // Or the answer to one that was under way before would tell.
            return Some(Reply::problem(ErrorCode::Unavailable));
        }
        (asked.path == REPORTS && refusals == 0).then(|| {
            refusals += 1;
            Reply::problem(ErrorCode::EventOutOfOrder)
        })
    });
    gateway.event(1).await;
    gateway.start();
    eventually("a batch", || (!batches(&issuer).is_empty()).then_some(())).await;
    until_reported(&gateway, &issuer, 1).await;
    // Between the two batches the issuer was asked where to go on.
    let book = issuer.book();
    let paths: Vec<_> = book.asked.iter().map(|asked| asked.path.as_str()).collect();
    let first = paths.iter().position(|path| *path == REPORTS).unwrap();
    let second = paths.iter().rposition(|path| *path == REPORTS).unwrap();
    assert!(paths[first..second].contains(&"/connector/v1/check-in"), "{paths:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_for_something_on_the_way_goes_in_smaller_parts() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    // A reverse proxy's own page, not a problem of the issuer's.
    issuer.twist(|_, asked| {
        (asked.path == REPORTS && asked.body.len() > 2_000).then(|| Reply {
            status: 413,
            ..Reply::new("text/html", b"<html>413 Request Entity Too Large</html>".to_vec())
        })
    });
    for nth in 1..=20 {
        gateway.event(nth).await;
    }
    gateway.start();
    until_reported(&gateway, &issuer, 20).await;
}

fn file(gateway: &Gateway, stage: &str, name: &str) -> Value {
    let path = gateway.folder.path().join("status").join(stage).join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_51_the_delivery_log_mirrors_the_delivery() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    issuer
        .twist(|_, asked| (asked.path == REPORTS).then(|| Reply::problem(ErrorCode::Unavailable)));
    gateway.event(1).await;
    gateway.event(2).await;
    gateway.start();
    let names = ["0000000001-refused.json", "0000000002-refused.json"];
    eventually("files", || (gateway.status_files("processing") == names).then_some(())).await;
    // Refused for good: kept where an operator looks, and tried again.
    issuer.twist(|_, asked| {
        (asked.path == REPORTS).then(|| Reply::problem(ErrorCode::LedgerNotAccepted))
    });
    eventually("failed", || (gateway.status_files("failed") == names).then_some(())).await;
    assert!(gateway.status_files("processing").is_empty());
    let failed = file(&gateway, "failed", names[0]);
    assert_eq!(failed["refused_by_issuer"], "LedgerNotAccepted");
    issuer.honest();
    eventually("succeed", || (gateway.status_files("succeed") == names).then_some(())).await;
    eventually("nothing else", || gateway.status_files("failed").is_empty().then_some(())).await;
    let written = file(&gateway, "succeed", names[0]);
    assert_eq!(written["sequence"], 1);
    assert_eq!(written["kind"], "refused");
    assert_eq!(written["tenant"], tenant().as_str());
    assert_eq!(written["device"], "device-1");
    assert_eq!(written["profile"], "laptops");
    assert_eq!(written["result"], serde_json::json!(["SubjectNameMismatch"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_delivery_log_keeps_so_many_files_and_no_more() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    gateway.settings.status_files = 5;
    for nth in 1..=30 {
        gateway.event(nth).await;
    }
    gateway.start();
    until_reported(&gateway, &issuer, 30).await;
    let names = eventually("the newest five", || {
        let names = gateway.status_files("succeed");
        (names.len() == 5).then_some(names)
    })
    .await;
    assert_eq!(names[0], "0000000026-refused.json");
    assert_eq!(names[4], "0000000030-refused.json");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_log_that_cannot_be_written_stops_no_report() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    // A file where the folder should be.
    let path = gateway.folder.path().join("status");
    std::fs::write(&path, "").unwrap();
    for nth in 1..=5 {
        gateway.event(nth).await;
    }
    gateway.start();
    until_reported(&gateway, &issuer, 5).await;
    let said = eventually("trouble", || gateway.trouble()).await;
    assert!(said.contains("delivery log"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_run_left_in_the_delivery_log_is_cleared_up() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    issuer
        .twist(|_, asked| (asked.path == REPORTS).then(|| Reply::problem(ErrorCode::Unavailable)));
    gateway.event(1).await;
    gateway.start();
    eventually("a file", || (gateway.status_files("processing").len() == 1).then_some(())).await;
    gateway.crash().await;
    // It has arrived otherwise: another gateway on the same ledger, or just before the crash.
    gateway.ledger.acknowledge(1, crate::issuer::NOW).await.unwrap();
    issuer.says(|book| book.acknowledged = 1);
    issuer.honest();
    gateway.start();
    eventually("succeed", || (gateway.status_files("succeed").len() == 1).then_some(())).await;
    assert!(gateway.status_files("processing").is_empty());
}
