//! What was acknowledged is on the disk: seen from outside, by killing a process and by watching its system calls.
//!
//! A killed process proves that nothing is kept back in its memory, but nothing about the disk, as the system's cache
//! survives. That the disk was asked is what the second test watches.

use crate::sqlite::opened;
use crate::support::*;
use scep_ledger::{HeldState, HeldVerdict, Ledger, LedgerSettings};
use scep_types::{CertificateFingerprint, ChallengeId, Reason, ReleasedCertificate as _};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const PLACE: &str = "SCEP_LEDGER_TEST_PLACE";
const ROUNDS: &str = "SCEP_LEDGER_TEST_ROUNDS";
/// Which test's steps the process takes.
const STEPS: &str = "SCEP_LEDGER_TEST_STEPS";

fn child(wrapper: &[&str], place: &Path, rounds: u32) -> Child {
    child_with(wrapper, place, rounds, "enrol")
}

fn child_with(wrapper: &[&str], place: &Path, rounds: u32, steps: &str) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut words = wrapper.iter().map(std::ffi::OsString::from).chain([program.into_os_string()]);
    Command::new(words.next().unwrap())
        .args(words)
        .args(["--exact", "durability::child_process", "--nocapture", "--test-threads=1"])
        .env(PLACE, place)
        .env(ROUNDS, rounds.to_string())
        .env(STEPS, steps)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// One line in one write, so that it is one system call and never half a line.
fn say(step: &str, what: impl std::fmt::Display) {
    std::io::stdout().write_all(format!("\n@{step} {what}\n").as_bytes()).unwrap();
}

/// The enrolments of the other tests' process; a test of its own without any.
#[tokio::test]
async fn child_process() {
    let Some(place) = std::env::var_os(PLACE) else { return };
    let rounds: u32 = std::env::var(ROUNDS).unwrap().parse().unwrap();
    let ledger = opened(Path::new(&place), LedgerSettings::default());
    if std::env::var(STEPS).unwrap() == "hold" {
        return hold(&ledger, rounds).await;
    }
    let key = &KEYS[1];
    for round in 0..rounds {
        let mut id = [0; 16];
        getrandom::fill(&mut id).unwrap();
        let challenge = ChallengeId::from_bytes(id);
        let of = enrolment_with(challenge, "device-1", key, 1_000_000, 365 * DAY);
        say("asking", challenge);
        let (permit, unsettled) = of.admit(&ledger, NOW).await.unwrap().redeem();
        say("admitted", challenge);
        if round % 3 == 2 {
            ledger.hand_back(unsettled, Reason::CaUnavailable, "down", NOW).await.unwrap();
            say("freed", challenge);
        } else {
            let certificate = issue(permit.contents(), permit.serial().unwrap());
            let conforming = unsettled.approval().check_certificate(&certificate).unwrap();
            let releasable = ledger.record(unsettled, conforming, NOW).await.unwrap();
            say("recorded", releasable.certificate().fingerprint());
        }
    }
}

/// Requests that are held; of four, one waits on, one is refused, one is approved, and one goes on.
async fn hold(ledger: &Ledger, rounds: u32) {
    let mut last = ledger.held(u32::MAX, None).await.unwrap().last().map(|held| held.row);
    for round in 0..rounds {
        let mut id = [0; 16];
        getrandom::fill(&mut id).unwrap();
        let challenge = ChallengeId::from_bytes(id);
        let of = enrolment_with(challenge, "device-1", &KEYS[1], 1_000_000, 365 * DAY).manual(1);
        of.hold(ledger, after(DAY), NOW).await.unwrap();
        say("held", challenge);
        let held = ledger.held(u32::MAX, last).await.unwrap().pop().unwrap();
        assert_eq!(held.challenge, challenge);
        last = Some(held.row);
        let verdict = match round % 4 {
            0 => continue,
            1 => HeldVerdict::Deny,
            _ => HeldVerdict::Approve,
        };
        ledger.decide_held(held.row, verdict, "alice", NOW).await.unwrap();
        say(if verdict == HeldVerdict::Deny { "denied" } else { "approved" }, challenge);
        if round % 4 == 3 {
            drop(of.resume(ledger, NOW).await.unwrap());
            say("resumed", challenge);
        }
    }
}

#[tokio::test]
async fn attack_52_what_is_held_and_approved_survives_a_killed_process() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("ledger.sqlite");
    let mut said: BTreeMap<String, String> = BTreeMap::new();
    for _ in 0..6 {
        let mut child = child_with(&[], &place, 10_000, "hold");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut wanted = 1 + getrandom::u32().unwrap() % 40;
        let mut note = |line: &str| {
            let Some((step, challenge)) = step(line) else { return 0 };
            // The last step of each counts.
            said.insert(challenge.to_owned(), step.to_owned());
            1
        };
        while wanted > 0 {
            wanted -= note(&lines.next().unwrap().unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines {
            note(&line.unwrap());
        }

        let ledger = opened(&place, LedgerSettings::default());
        let waiting: BTreeMap<String, HeldState> = ledger
            .held(u32::MAX, None)
            .await
            .unwrap()
            .into_iter()
            .map(|held| (held.challenge.to_string(), held.state))
            .collect();
        let open: BTreeSet<String> = ledger
            .unsettled()
            .await
            .unwrap()
            .iter()
            .map(|left| left.challenge().1.to_string())
            .collect();
        let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (kind, body) in all_events(&ledger).await {
            let challenge = body["challenge"].as_str().unwrap().to_owned();
            told.entry(challenge).or_default().push(kind);
        }
        for (challenge, step) in &said {
            let told: Vec<&str> = told[challenge].iter().map(String::as_str).collect();
            // In the state that was acknowledged, or in the one that came next.
            let state = match (waiting.get(challenge), open.contains(challenge), told.as_slice()) {
                (Some(HeldState::Waiting), false, ["held"]) => 0,
                (None, false, ["held", "held-decided", "refused"]) => 1,
                (Some(HeldState::Decided { .. }), false, ["held", "held-decided"]) => 2,
                (None, true, ["held", "held-decided"]) => 3,
                other => panic!("{challenge}: {other:?}"),
            };
            let may_be: &[u32] = match step.as_str() {
                "held" => &[0, 1, 2],
                "denied" => &[1],
                "approved" => &[2, 3],
                _ => &[3],
            };
            assert!(may_be.contains(&state), "{challenge}: {step}, and then {state}");
        }
    }
    assert!(!said.is_empty());
}

fn step(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix('@')?.split_once(' ')
}

#[tokio::test]
async fn attack_52_every_acknowledged_step_survives_a_killed_process() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("ledger.sqlite");
    let mut admitted = BTreeSet::new();
    let mut freed = BTreeSet::new();
    let mut recorded = BTreeSet::new();
    for _ in 0..6 {
        let mut child = child(&[], &place, 10_000);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut wanted = 1 + getrandom::u32().unwrap() % 40;
        while wanted > 0 {
            let line = lines.next().unwrap().unwrap();
            wanted -= u32::from(step(&line).is_some());
            note(&line, &mut admitted, &mut recorded, &mut freed);
        }
        // It is somewhere in or after its next step by now.
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had said before it died, it had said.
        for line in lines {
            note(&line.unwrap(), &mut admitted, &mut recorded, &mut freed);
        }

        let ledger = opened(&place, LedgerSettings::default());
        let mut outcomes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (kind, body) in all_events(&ledger).await {
            let challenge = body["challenge"].as_str().unwrap().to_owned();
            outcomes.entry(challenge).or_default().push(kind);
        }
        let open: BTreeSet<String> = ledger
            .unsettled()
            .await
            .unwrap()
            .iter()
            .map(|left| left.challenge().1.to_string())
            .collect();
        for challenge in &admitted {
            // Exactly one of: an outcome with its report, an open intent.
            let reports = outcomes.get(challenge).map_or(0, Vec::len);
            assert_eq!(reports + usize::from(open.contains(challenge)), 1, "{challenge}");
        }
        for challenge in &freed {
            assert_eq!(outcomes.get(challenge).unwrap(), &["failed"], "{challenge}");
        }
        for fingerprint in &recorded {
            let fingerprint = CertificateFingerprint::from_hex(fingerprint).unwrap();
            let live = ledger.live_certificate(fingerprint, NOW).await.unwrap().unwrap();
            assert_eq!(outcomes.get(&live.challenge.to_string()).unwrap(), &["issued"]);
        }
    }
    assert!(!admitted.is_empty());
}

fn note(
    line: &str,
    admitted: &mut BTreeSet<String>,
    recorded: &mut BTreeSet<String>,
    freed: &mut BTreeSet<String>,
) {
    let (list, what) = match step(line) {
        Some(("admitted", what)) => (admitted, what),
        Some(("recorded", what)) => (recorded, what),
        Some(("freed", what)) => (freed, what),
        _ => return,
    };
    list.insert(what.to_owned());
}

async fn all_events(ledger: &Ledger) -> Vec<(String, serde_json::Value)> {
    let events = ledger.outbox(0, u32::MAX).await.unwrap();
    for (event, number) in events.iter().zip(1..) {
        assert_eq!(event.sequence, number);
    }
    let read = |text: &str| serde_json::from_str(text).unwrap();
    events.iter().map(|event| (event.kind.to_string(), read(&event.body_json))).collect()
}

#[test]
fn attack_52_the_disk_is_synced_before_a_step_is_acknowledged() {
    let name = "attack_52_the_disk_is_synced_before_a_step_is_acknowledged";
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "strace is missing");
        eprintln!("SKIPPED {name}: strace is missing");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (place, log) = (folder.path().join("ledger.sqlite"), folder.path().join("calls"));
    let calls = "trace=write,pwrite64,fsync,fdatasync";
    let log_name = log.to_str().unwrap();
    let mut traced = child(&["strace", "-f", "-y", "-e", calls, "-o", log_name], &place, 6);
    let output = traced.stdout.take().unwrap();
    let said = BufReader::new(output).lines().filter(|l| step(l.as_ref().unwrap()).is_some());
    // Asking, admitted, outcome.
    assert_eq!(said.count(), 3 * 6);
    assert!(traced.wait().unwrap().success());

    // A call of one thread that another interrupts is on two lines: "name(... <unfinished ...>" and
    // "<... name resumed> ... = result".
    let calls = std::fs::read_to_string(log).unwrap();
    let mut written = false;
    let mut syncing = BTreeSet::new();
    let mut synced = false;
    let mut acknowledged = 0;
    for line in calls.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        let on_log = call.contains("ledger.sqlite-wal>");
        let is_sync = ["fsync(", "fdatasync("].iter().any(|name| call.starts_with(name));
        let is_resumed_sync = ["<... fsync resumed>", "<... fdatasync resumed>"]
            .iter()
            .any(|name| call.starts_with(name));
        if call.starts_with("pwrite64(") && on_log {
            (written, synced) = (true, false);
        } else if is_sync && on_log && written && call.contains("unfinished") {
            syncing.insert(thread);
        } else if (is_sync && on_log && written) || (is_resumed_sync && syncing.remove(thread)) {
            synced = call.ends_with("= 0");
        } else if call.starts_with("write(") && call.contains("@asking") {
            (written, synced) = (false, false);
        } else if ["@admitted", "@recorded", "@freed"].iter().any(|said| call.contains(said)) {
            assert!(synced, "acknowledged before the sync: {line}");
            (written, synced) = (false, false);
            acknowledged += 1;
        }
    }
    assert_eq!(acknowledged, 2 * 6);
}
