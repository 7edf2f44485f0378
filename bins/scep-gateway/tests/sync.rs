//! What a killed process cannot show, as the system's cache survives it: that the disk was asked, and in which order.
//! The system calls of the gateway's process are watched during one enrolment.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]
#![cfg(target_os = "linux")]

#[allow(dead_code, reason = "the crash tests use the rest")]
mod support;

use scep_testkit::process::wait_for;
use scep_testkit::programs::available;
use std::collections::BTreeSet;
use support::{Gateway, enrol, identity};

/// What matters here, in the order in which it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The intent was written into the ledger's log.
    Admission,
    /// The event that reports the certificate, which is in one commit with it.
    Record,
    /// The log has reached the disk.
    Synced,
    /// The answer was handed to the connection.
    Reply,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_52_the_disk_has_the_intent_and_the_certificate_before_the_device_has_its_answer() {
    let name =
        "attack_52_the_disk_has_the_intent_and_the_certificate_before_the_device_has_its_answer";
    if !available("strace", name) {
        return;
    }
    let mut gateway = Gateway::init();
    let trace = gateway.file("trace");
    // -D: strace watches from aside, and what is started here is the gateway itself. Whole pages of the log are shown,
    // as it is by their contents that one knows them.
    let calls = "trace=write,writev,sendto,sendmsg,pwrite64,pwritev,fsync,fdatasync";
    gateway.start(&[
        "strace",
        "-D",
        "-f",
        "-yy",
        "-s",
        "4200",
        "-e",
        calls,
        "-o",
        trace.to_str().unwrap(),
    ]);
    let (client, server) = gateway.client().await;
    let identity = identity();
    // The first commits of a run have more to write: the mark of time.
    for device in [gateway.device(), gateway.device()] {
        enrol(&client, &server, &device.request(), &identity).await.unwrap();
    }
    let device = gateway.device();
    let certificate = enrol(&client, &server, &device.request(), &identity).await.unwrap();
    assert_eq!(certificate.spki(), device.public_key());
    gateway.stop();

    let text = wait_for("the end of the trace", || {
        let text = String::from_utf8_lossy(&std::fs::read(&trace).unwrap()).into_owned();
        text.trim_end().ends_with("+++ exited with 0 +++").then_some(text)
    });
    let fingerprint = certificate.fingerprint().to_string();
    let steps = steps(&text, device.claims.device.as_str(), &fingerprint);
    let shown = || format!("{steps:?}");
    let first = |wanted: Step, after: usize| {
        let found = steps.iter().skip(after).position(|step| *step == wanted);
        after + found.unwrap_or_else(|| panic!("no {wanted:?} after {after}: {}", shown()))
    };
    let admission = first(Step::Admission, 0);
    let admitted = first(Step::Synced, admission);
    // Before it, the CA would not have been asked.
    let record = first(Step::Record, admission);
    assert!(
        admitted < record,
        "the intent was not on the disk when the CA had issued: {}",
        shown()
    );
    let recorded = first(Step::Synced, record);
    let reply = first(Step::Reply, admission);
    assert!(
        recorded < reply,
        "the answer went out before the certificate was on the disk: {}",
        shown()
    );
}

/// A call that another thread's interrupts is on two lines: `name(... <unfinished ...>` and
/// `<... name resumed> ... = result`. What is written counts from its beginning, a sync from its good end.
fn steps(trace: &str, device: &str, fingerprint: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    // Threads that are in a sync of the log.
    let mut syncing = BTreeSet::new();
    let mut admitted = false;
    for line in trace.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        let name = call.split(['(', ' ']).next().unwrap();
        let on_log = call.contains("ledger.sqlite-wal>");
        let on_device = call.contains("<TCP:[");
        match name {
            "pwrite64" | "pwritev" | "write" if on_log => {
                if call.contains(fingerprint) {
                    steps.push(Step::Record);
                } else if call.contains(device) && !admitted {
                    admitted = true;
                    steps.push(Step::Admission);
                }
            }
            "fsync" | "fdatasync" if on_log => {
                if call.contains("<unfinished") {
                    syncing.insert(thread);
                } else if call.ends_with("= 0") {
                    steps.push(Step::Synced);
                }
            }
            "write" | "writev" | "sendto" | "sendmsg"
                if on_device && call.contains("HTTP/1.1 200 OK") =>
            {
                steps.push(Step::Reply);
            }
            _ => {}
        }
        let resumed = ["<... fsync resumed>", "<... fdatasync resumed>"];
        if resumed.iter().any(|sync| call.starts_with(sync))
            && syncing.remove(thread)
            && call.ends_with("= 0")
        {
            steps.push(Step::Synced);
        }
    }
    steps
}
