//! Several gateways on one database decide like one, and leave each other's work alone.

use crate::database::Database;
use crate::support::*;
use crate::{Deadline, Test, revocation, run};
use core::time::Duration;
use scep_keys::SoftwareKey;
use scep_ledger::{
    AdmitError, DenialSubject, Denied, Ledger, LedgerError, LedgerSettings, LeftBehind,
    PostgresConfig, RevocationBrake, RevocationState, Standing,
};
use scep_types::{
    CertificateDer, ChallengeId, KeyAlgorithm, NameHash, Reason, ReleasedCertificate as _,
};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

macro_rules! tests {
    ($($name:ident)*) => {
        &[$((stringify!($name), |cluster| run($name(Database::new(cluster))))),*]
    };
}
pub(crate) use tests;

pub(crate) const TESTS: &[(&str, Test)] = tests! {
    attack_08_of_64_first_uses_at_two_gateways_one_is_admitted
    quirk_55_identical_requests_at_two_gateways_get_one_certificate
    attack_44_a_key_is_certified_for_one_device_at_two_gateways
    attack_19_gateways_share_the_clocks_mark
    the_brake_counts_all_gateways
    what_is_disabled_at_one_gateway_is_disabled_at_all
    the_outbox_never_shows_a_gap
    attack_52_a_live_gateways_intents_are_left_alone
    attack_52_a_dead_gateways_intents_are_settled_after_its_lease
    attack_53_a_certificate_that_comes_after_its_lease_is_on_record_and_withheld
    attack_53_an_outcome_that_gets_unknown_after_its_lease_is_reported
    attack_53_recovery_frees_nothing_that_has_changed_since_it_looked
    attack_54_an_order_is_one_gateways_at_a_time
    attack_54_what_a_dead_gateway_has_sent_goes_to_another
    attack_54_no_crl_takes_the_place_of_one_that_it_has_not_seen
    attack_55_the_revocation_brake_counts_all_gateways
    a_job_that_fails_undoes_itself_and_nothing_else
    a_unit_that_has_waited_for_a_migration_is_refused
    a_gateway_that_holds_the_lock_and_stops_does_not_stop_the_others
};

pub(crate) async fn two(database: &Database) -> [Ledger; 2] {
    [database.gateway().await, database.gateway().await]
}

async fn attack_08_of_64_first_uses_at_two_gateways_one_is_admitted(database: Database) {
    let gateways = two(&database).await;
    let first = enrolment(1, "device-1", 0);
    let all: Vec<Arc<Enrolment>> = (0..8).map(|key| Arc::new(first.with_key(key))).collect();
    let tasks: Vec<_> = (0..64)
        .map(|n: usize| {
            let (ledger, enrolment) = (gateways[n % 2].clone(), Arc::clone(&all[n / 2 % 8]));
            tokio::spawn(async move { enrolment.admit(&ledger, NOW).await })
        })
        .collect();
    let mut admitted = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(admission) => admitted.push(admission),
            Err(AdmitError::Refused(Reason::ChallengeAlreadyUsed | Reason::RequestInProgress)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(admitted.len(), 1);
    // The breaches of both are counted together.
    assert_eq!(kinds(&gateways[0]).await, ["breach"; 10]);
}

async fn quirk_55_identical_requests_at_two_gateways_get_one_certificate(database: Database) {
    let gateways = two(&database).await;
    let first = Arc::new(enrolment(1, "device-1", 1));
    let tasks: Vec<_> = (0..64)
        .map(|n: usize| {
            let (ledger, first) = (gateways[n % 2].clone(), Arc::clone(&first));
            tokio::spawn(async move { first.admit(&ledger, NOW).await.map(|one| (n % 2, one)) })
        })
        .collect();
    let mut admitted = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(admission) => admitted.push(admission),
            Err(error) => assert_eq!(error, AdmitError::Refused(Reason::RequestInProgress)),
        }
    }
    let (at, admission) = admitted.pop().unwrap();
    assert!(admitted.is_empty());
    let (ledger, other) = (&gateways[at], &gateways[1 - at]);
    assert_eq!(first.recall(other, NOW).await, Known::InProgress);
    let (permit, unsettled) = admission.redeem();
    let certificate = issue(permit.contents(), permit.serial().unwrap());
    let conforming = unsettled.approval().check_certificate(&certificate).unwrap();
    let releasable = ledger.record(unsettled, conforming, NOW).await.unwrap();
    assert_eq!(releasable.certificate(), &certificate);
    assert_eq!(first.recall(other, NOW).await, Known::of(&releasable));
    assert_eq!(kinds(other).await, ["issued"]);
}

async fn attack_44_a_key_is_certified_for_one_device_at_two_gateways(database: Database) {
    let gateways = two(&database).await;
    let tasks: Vec<_> = (0..16)
        .map(|n: u8| {
            let ledger = gateways[usize::from(n % 2)].clone();
            // Sixteen devices and challenges, one key.
            let of = enrolment(n, &format!("device-{n}"), 1);
            tokio::spawn(async move { of.admit(&ledger, NOW).await })
        })
        .collect();
    let mut admitted = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => admitted += 1,
            Err(error) => assert_eq!(error, AdmitError::Refused(Reason::KeyAlreadyCertified)),
        }
    }
    assert_eq!(admitted, 1);
}

async fn attack_19_gateways_share_the_clocks_mark(database: Database) {
    let [one, two] = two(&database).await;
    let year = Duration::from_secs(365 * DAY);
    one.effective_now(NOW.plus(year)).await.unwrap();
    two.flush().await.unwrap();
    let seen = two.effective_now(NOW).await.unwrap();
    assert_eq!((seen.now, seen.behind), (NOW.plus(year), Some(year)));
    // Mended at one, it is mended at the other, which does not bring the old mark back.
    two.clock_reset(NOW, "alice").await.unwrap();
    one.flush().await.unwrap();
    assert_eq!(one.effective_now(after(1)).await.unwrap().now, after(1));
    one.flush().await.unwrap();
    assert_eq!(database.gateway().await.effective_now(NOW).await.unwrap().now, after(1));
}

async fn the_brake_counts_all_gateways(database: Database) {
    let gateways = two(&database).await;
    let tasks: Vec<_> = (0..16)
        .map(|n: u8| {
            let ledger = gateways[usize::from(n % 2)].clone();
            let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
            let id = ChallengeId::from_bytes([n; 16]);
            let of = enrolment_with(id, &format!("device-{n}"), &key, 5, 365 * DAY);
            tokio::spawn(async move { of.admit(&ledger, NOW).await })
        })
        .collect();
    let mut admitted = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(admission) => admitted.push(admission),
            Err(error) => assert_eq!(error, AdmitError::Refused(Reason::IssuanceBrakeEngaged)),
        }
    }
    assert_eq!(admitted.len(), 5);
    assert_eq!(kinds(&gateways[0]).await, ["brake-engaged"]);
}

async fn what_is_disabled_at_one_gateway_is_disabled_at_all(database: Database) {
    let [one, two] = two(&database).await;
    let first = enrolment(1, "device-1", 1);
    one.deny(DenialSubject::Device(tenant(), first.claims.device.clone()), NOW).await.unwrap();
    let reason = Reason::ScepProfileNoLongerTargetedToTheClient;
    assert_eq!(first.refused(&two, NOW).await, reason);
    assert_eq!(two.denials().await.unwrap().devices.len(), 1);
    // Ten mismatches, wherever they are counted.
    let guessed = enrolment(2, "device-2", 2);
    let denied = Denied {
        tenant: &guessed.claims.tenant,
        challenge: guessed.claims.challenge_id,
        device: &guessed.claims.device,
        profile: &guessed.claims.profile,
        expires_at: guessed.claims.expires_at,
        reasons: &[Reason::SubjectNameMismatch],
        detail: "",
    };
    for n in 1..=5 {
        assert_eq!(one.count_mismatch(&denied, NOW).await.unwrap(), 2 * n - 1);
        assert_eq!(two.count_mismatch(&denied, NOW).await.unwrap(), 2 * n);
    }
    assert!(one.locked(&tenant(), guessed.claims.challenge_id, NOW).await.unwrap());
}

async fn the_outbox_never_shows_a_gap(database: Database) {
    let gateways = two(&database).await;
    let reader = database.gateway().await;
    let tasks: Vec<_> = (1..7)
        .map(|worker: u8| {
            let ledger = gateways[usize::from(worker % 2)].clone();
            tokio::spawn(async move {
                for round in 0..20 {
                    let id = ChallengeId::from_bytes([worker * 20 + round; 16]);
                    let key = &KEYS[usize::from(worker)];
                    let device = format!("device-{worker}");
                    enrolment_with(id, &device, key, 1_000, 365 * DAY).enrol(&ledger, NOW).await;
                }
            })
        })
        .collect();
    let mut seen: u64 = 0;
    let deadline = Deadline::new();
    while seen < 6 * 20 {
        // As a connector reads: what was there is acknowledged, so a number that came later would be lost.
        for event in reader.outbox(seen, 1_000).await.unwrap() {
            seen += 1;
            assert_eq!(event.sequence, seen);
        }
        reader.acknowledge(seen, NOW).await.unwrap();
        deadline.wait().await;
    }
    for task in tasks {
        task.await.unwrap();
    }
}

async fn lease(database: &Database, instances: &str) -> Vec<std::time::SystemTime> {
    let sql = format!("SELECT lease_until FROM gateway WHERE instance IN ({instances})");
    let rows = database.client().await.query(&sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn attack_52_a_live_gateways_intents_are_left_alone(database: Database) {
    let database = database.with_lease(Duration::from_secs(4));
    let [one, two] = two(&database).await;
    let first = enrolment(1, "device-1", 1);
    let (_permit, unsettled) = first.admit(&one, NOW).await.unwrap().redeem();
    assert!(two.unsettled().await.unwrap().is_empty());
    // It keeps its lease although it has nothing to write.
    let owners = "SELECT owner FROM enrolment";
    let (before, deadline) = (lease(&database, owners).await, Deadline::new());
    while lease(&database, owners).await <= before {
        deadline.wait().await;
    }
    assert!(two.unsettled().await.unwrap().is_empty());
    assert_eq!(first.recall(&two, NOW).await, Known::InProgress);
    // What it has dropped is its own too, as long as it lives; then anybody's.
    drop(unsettled);
    assert!(two.unsettled().await.unwrap().is_empty());
    assert_eq!(one.unsettled().await.unwrap().len(), 1);
    drop(one);
    assert_eq!(two.unsettled().await.unwrap().len(), 1);
}

const CONNECTION: &str = "SCEP_LEDGER_TEST_CONNECTION";
const SCHEMA: &str = "SCEP_LEDGER_TEST_SCHEMA";
const LEASE: &str = "SCEP_LEDGER_TEST_LEASE";

pub(crate) fn is_child() -> bool {
    std::env::var_os(CONNECTION).is_some()
}

/// A gateway in a process of its own: it admits one request and waits for its end.
pub(crate) async fn child() {
    let value = |name| std::env::var(name).unwrap();
    let lease = Duration::from_secs(value(LEASE).parse().unwrap());
    let config = PostgresConfig::new(&value(CONNECTION)).unwrap();
    let config = config.schema(&value(SCHEMA)).unwrap().lease(lease).unwrap();
    let ledger = Ledger::open_postgres(config, LedgerSettings::default()).await.unwrap();
    let id = u8::try_from(lease.as_secs() % 256).unwrap();
    let admitted = enrolment(id, &format!("device-{id}"), 1).admit(&ledger, NOW).await.unwrap();
    std::io::stdout().write_all(b"admitted\n").unwrap();
    // The parent keeps the other end until it has killed this process.
    std::io::stdin().lines().for_each(drop);
    drop(admitted);
}

/// A gateway that was killed after it had admitted a request.
fn dead_gateway(database: &Database, lease: u64) {
    struct Killed(Child);
    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .env(CONNECTION, &database.connection)
        .env(SCHEMA, &database.schema)
        .env(LEASE, lease.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let line = BufReader::new(child.0.stdout.take().unwrap()).lines().next();
    assert_eq!(line.unwrap().unwrap(), "admitted");
}

async fn attack_52_a_dead_gateways_intents_are_settled_after_its_lease(database: Database) {
    let ledger = database.gateway().await;
    let dead = |lease| tokio::task::block_in_place(|| dead_gateway(&database, lease));
    // A long lease holds although nobody is there; a short one ends by itself.
    dead(1_000);
    assert!(ledger.unsettled().await.unwrap().is_empty());
    dead(1);
    let deadline = Deadline::new();
    let short = loop {
        if let Some(left) = ledger.unsettled().await.unwrap().pop() {
            break left;
        }
        deadline.wait().await;
    };
    assert_eq!(short.device().as_str(), "device-1");
    ledger.settle_nothing(short, NOW).await.unwrap();
    assert!(ledger.unsettled().await.unwrap().is_empty());
    let over = "UPDATE gateway SET lease_until = '-infinity' WHERE instance = \
                (SELECT owner FROM enrolment WHERE state = 0)";
    database.client().await.batch_execute(over).await.unwrap();
    // The first recovery that comes has it for itself.
    assert_eq!(ledger.unsettled().await.unwrap().len(), 1);
    assert!(database.gateway().await.unsettled().await.unwrap().is_empty());
    assert_eq!(kinds(&ledger).await, ["failed"]);
}

async fn attack_53_a_certificate_that_comes_after_its_lease_is_on_record_and_withheld(
    database: Database,
) {
    let [slow, other] = two(&database).await;
    let first = enrolment(1, "device-1", 1);
    let (permit, unsettled) = first.admit(&slow, NOW).await.unwrap().redeem();
    let over = "UPDATE gateway SET lease_until = '-infinity' WHERE instance = \
                (SELECT owner FROM enrolment)";
    database.client().await.batch_execute(over).await.unwrap();
    let left = other.unsettled().await.unwrap().swap_remove(0);
    other.settle_nothing(left, NOW).await.unwrap();
    // The CA had it all the same.
    let certificate = issue(permit.contents(), permit.serial().unwrap());
    let conforming = unsettled.approval().check_certificate(&certificate).unwrap();
    let error = slow.record(unsettled, conforming, NOW).await.unwrap_err();
    assert_eq!(error, LedgerError::AlreadySettled);
    let kept = other.inventory(10, None).await.unwrap().swap_remove(0);
    assert_eq!((kept.standing, &kept.certificate), (Standing::Withheld, &certificate));
    assert_eq!(kinds(&other).await, ["failed", "withheld"]);
    assert_eq!(first.recall(&other, NOW).await, Known::Nothing);
}

/// Of the gateway whose intent is the only one.
pub(crate) async fn lease_is_over(database: &Database) {
    let over = "UPDATE gateway SET lease_until = '-infinity' WHERE instance = \
                (SELECT owner FROM enrolment)";
    database.client().await.batch_execute(over).await.unwrap();
}

async fn attack_53_an_outcome_that_gets_unknown_after_its_lease_is_reported(database: Database) {
    let [slow, other] = two(&database).await;
    let first = enrolment(1, "device-1", 1);
    // The CA decides later, or its answer is lost.
    for told in 1..=2 {
        let (_permit, unsettled) = first.admit(&slow, NOW).await.unwrap().redeem();
        let over = "UPDATE gateway SET lease_until = '-infinity' WHERE instance = \
                    (SELECT owner FROM enrolment WHERE state = 0)";
        database.client().await.batch_execute(over).await.unwrap();
        let left = other.unsettled().await.unwrap().swap_remove(0);
        other.settle_nothing(left, NOW).await.unwrap();
        // The CA may have issued after the other had looked.
        if told == 1 {
            slow.leave_pending(unsettled, NOW).await.unwrap();
        } else {
            slow.leave_unknown(unsettled, "timeout", NOW).await.unwrap();
        }
        assert_eq!(first.recall(&other, NOW).await, Known::Nothing);
        assert_eq!(other.counters().await.unwrap().withheld, told);
    }
    assert!(other.unsettled().await.unwrap().is_empty());
    let events = events(&other).await;
    let kinds_told = ["failed", "possible-orphan", "failed", "possible-orphan"];
    assert_eq!(events.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), kinds_told);
    assert_ne!(events[1].1["idempotency_key"], events[3].1["idempotency_key"]);
    assert_eq!(events[3].1["serial"], serial(1).to_string());
    // Where recovery has found the certificate, nothing is unknown.
    let (permit, unsettled) = first.admit(&slow, NOW).await.unwrap().redeem();
    let over = "UPDATE gateway SET lease_until = '-infinity' WHERE instance = \
                (SELECT owner FROM enrolment WHERE state = 0)";
    database.client().await.batch_execute(over).await.unwrap();
    let left = other.unsettled().await.unwrap().swap_remove(0);
    let certificate = issue(permit.contents(), permit.serial().unwrap());
    other.settle_found(left, certificate.clone(), NOW).await.unwrap();
    let result = slow.leave_unknown(unsettled, "timeout", NOW).await;
    assert_eq!(result, Err(LedgerError::AlreadySettled));
    assert_eq!(first.recall(&slow, NOW).await, Known::Certificate(certificate));
    assert_eq!(kinds(&other).await.len(), 5);
}

async fn attack_53_recovery_frees_nothing_that_has_changed_since_it_looked(database: Database) {
    let [slow, other] = two(&database).await;
    let first = enrolment(1, "device-1", 1);
    let (permit, unsettled) = first.admit(&slow, NOW).await.unwrap().redeem();
    lease_is_over(&database).await;
    let left = other.unsettled().await.unwrap().swap_remove(0);
    // The CA had nothing when it was looked through; then it was asked, and its answer was lost.
    slow.leave_unknown(unsettled, "timeout", NOW).await.unwrap();
    let result = other.settle_nothing(left, NOW).await;
    assert_eq!(result, Err(LedgerError::AlreadySettled));
    assert_eq!(first.recall(&other, NOW).await, Known::InProgress);
    // It looks again.
    let left = other.unsettled().await.unwrap().swap_remove(0);
    assert_eq!(left.left_behind(), LeftBehind::OutcomeUnknown);
    let certificate = issue(permit.contents(), permit.serial().unwrap());
    other.settle_found(left, certificate.clone(), NOW).await.unwrap();
    assert_eq!(first.recall(&slow, NOW).await, Known::Certificate(certificate));
    assert_eq!(kinds(&slow).await, ["issued"]);
}

/// So many certificates of devices of their own, and their issuer.
async fn certificates(ledger: &Ledger, count: u8) -> (Vec<CertificateDer>, NameHash) {
    let mut all = Vec::new();
    for n in 1..=count {
        let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
        let id = ChallengeId::from_bytes([n; 16]);
        let one = enrolment_with(id, &format!("device-{n}"), &key, 1_000, 365 * DAY);
        all.push(one.enrol(ledger, NOW).await);
    }
    let issuer = revocation::issuer(&all[0]);
    (all, issuer)
}

async fn attack_54_an_order_is_one_gateways_at_a_time(database: Database) {
    let gateways = two(&database).await;
    let (certificates, issuer) = certificates(&gateways[0], 10).await;
    for (n, certificate) in certificates.iter().enumerate() {
        let order = revocation::order(certificate);
        gateways[n % 2].queue_revocation(order, NOW).await.unwrap();
    }
    // Both drain at once, three orders at a time, each as a gateway's worker does.
    let drain = |ledger: Ledger| async move {
        let mut asked = Vec::new();
        loop {
            let jobs = ledger.next_revocations(issuer, 3, NOW).await.unwrap();
            if jobs.is_empty() {
                return asked;
            }
            for job in jobs {
                asked.push(job.serial.clone());
                ledger.revocation_done(&job, NOW, NOW).await.unwrap();
            }
        }
    };
    let (first, second) = tokio::join!(
        tokio::spawn(drain(gateways[0].clone())),
        tokio::spawn(drain(gateways[1].clone()))
    );
    let mut asked = [first.unwrap(), second.unwrap()].concat();
    asked.sort_by_key(|serial| serial.as_content().to_vec());
    let mut all: Vec<_> = certificates.iter().map(|one| one.serial().unwrap()).collect();
    all.sort_by_key(|serial| serial.as_content().to_vec());
    assert_eq!(asked, all, "each once");
    let revoked = kinds(&gateways[0]).await.iter().filter(|kind| *kind == "revoked").count();
    assert_eq!(revoked, 10);
}

async fn attack_54_what_a_dead_gateway_has_sent_goes_to_another(database: Database) {
    let [asking, other] = two(&database).await;
    let (certificates, issuer) = certificates(&other, 2).await;
    for certificate in &certificates {
        asking.queue_revocation(revocation::order(certificate), NOW).await.unwrap();
    }
    let jobs = asking.next_revocations(issuer, 1, NOW).await.unwrap();
    assert_eq!(jobs.len(), 1);
    // As long as it lives it is asking; the other takes what is left.
    let left = other.next_revocations(issuer, 9, NOW).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_ne!(left[0].serial, jobs[0].serial);
    other.revocation_done(&left[0], NOW, NOW).await.unwrap();
    assert!(other.next_revocations(issuer, 9, NOW).await.unwrap().is_empty());
    assert_eq!(other.revocation_work(issuer).await.unwrap().waiting, 0);
    assert_eq!(asking.revocation_work(issuer).await.unwrap().waiting, 1);
    // Killed between asking and recording: its lease ends without it.
    let over = "UPDATE gateway SET lease_until = '-infinity' WHERE instance = \
                (SELECT owner FROM revocation WHERE state = 1)";
    database.client().await.batch_execute(over).await.unwrap();
    assert_eq!(other.revocation_work(issuer).await.unwrap().waiting, 1);
    assert_eq!(other.next_revocations(issuer, 9, NOW).await.unwrap(), jobs);
    // The first that came has it.
    assert!(database.gateway().await.next_revocations(issuer, 9, NOW).await.unwrap().is_empty());
    // Both may have asked the CA, which takes it as one order; it is on record once.
    for ledger in [&other, &asking] {
        ledger.revocation_done(&jobs[0], NOW, NOW).await.unwrap();
    }
    let revoked = kinds(&other).await.iter().filter(|kind| *kind == "revoked").count();
    assert_eq!(revoked, 2);
}

async fn attack_54_no_crl_takes_the_place_of_one_that_it_has_not_seen(database: Database) {
    let [one, two] = two(&database).await;
    let (certificates, issuer) = certificates(&one, 1).await;
    // The slow one reads what there is before the revocation, and its clock is ahead: a higher number is no excuse.
    let none = two.crl_entries(issuer).await.unwrap();
    assert!(none.is_empty());
    one.queue_revocation(revocation::order(&certificates[0]), NOW).await.unwrap();
    let jobs = one.next_revocations(issuer, 9, NOW).await.unwrap();
    one.revocation_done(&jobs[0], NOW, NOW).await.unwrap();
    let entries = one.crl_entries(issuer).await.unwrap();
    let list = revocation::crl(NOW, &entries);
    assert_eq!(one.record_crl(issuer, None, 5, &list, NOW).await, Ok(1));
    let late = revocation::crl(after(60), &none);
    let overtaken = LedgerError::CrlOvertaken { last: 5 };
    assert_eq!(two.record_crl(issuer, None, 65, &late, after(60)).await, Err(overtaken));
    assert_eq!(two.last_crl(issuer).await, Ok(Some(list.clone())));
    // Of many at once, each with the same idea of the last one, one is taken.
    let tasks: Vec<_> = (0..16_u64)
        .map(|n| {
            let ledger = if n % 2 == 0 { one.clone() } else { two.clone() };
            let list = list.clone();
            tokio::spawn(async move { ledger.record_crl(issuer, Some(5), 6 + n, &list, NOW).await })
        })
        .collect();
    let mut taken = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(published) => {
                taken += 1;
                assert_eq!(published, 0);
            }
            Err(error) => assert!(matches!(error, LedgerError::CrlOvertaken { .. }), "{error}"),
        }
    }
    assert_eq!(taken, 1);
    let state = revocation::state(&two, &certificates[0]).await;
    assert_eq!(state, Some(RevocationState::OnCrl));
}

async fn attack_55_the_revocation_brake_counts_all_gateways(database: Database) {
    let settings = LedgerSettings {
        revocations: RevocationBrake { percent: 0, at_least: 4 },
        ..LedgerSettings::default()
    };
    let open = || Ledger::open_postgres(database.config(), settings);
    let gateways = [open().await.unwrap(), open().await.unwrap()];
    let (certificates, issuer) = certificates(&gateways[0], 6).await;
    let mut let_go = 0;
    for (n, certificate) in certificates.iter().enumerate() {
        let ledger = &gateways[n % 2];
        ledger.queue_revocation(revocation::order(certificate), NOW).await.unwrap();
        let jobs = ledger.next_revocations(issuer, 9, NOW).await.unwrap();
        for job in &jobs {
            ledger.revocation_done(job, NOW, NOW).await.unwrap();
        }
        let_go += jobs.len();
    }
    assert_eq!(let_go, 4);
    for ledger in &gateways {
        let work = ledger.revocation_work(issuer).await.unwrap();
        assert_eq!((work.waiting, work.held), (0, 2));
    }
    let told = kinds(&gateways[0]).await;
    assert_eq!(told.iter().filter(|kind| *kind == "revocation-brake-engaged").count(), 1);
    // An operator at one of them lets both go.
    assert_eq!(gateways[1].confirm_revocations("alice", NOW).await, Ok(2));
    assert_eq!(gateways[0].next_revocations(issuer, 9, NOW).await.unwrap().len(), 2);
}

/// A unit that waits for the lock, which this client has from now on.
async fn waiting_unit(ledger: &Ledger, client: &Client) -> JoinHandle<Result<(), LedgerError>> {
    client.batch_execute("BEGIN; SELECT 1 FROM ledger FOR UPDATE").await.unwrap();
    let ledger = ledger.clone();
    let waiting = tokio::spawn(async move { ledger.flush().await });
    let blocked =
        "SELECT 1 FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))";
    let deadline = Deadline::new();
    while client.query(blocked, &[]).await.unwrap().is_empty() {
        deadline.wait().await;
    }
    waiting
}

async fn a_unit_that_has_waited_for_a_migration_is_refused(database: Database) {
    let ledger = database.gateway().await;
    let client = database.client().await;
    let waiting = waiting_unit(&ledger, &client).await;
    let newer = "INSERT INTO schema_version (version) VALUES (1000); COMMIT";
    client.batch_execute(newer).await.unwrap();
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error, LedgerError::SchemaNewer { found: 1000, .. }), "{error:?}");
}

async fn a_job_that_fails_undoes_itself_and_nothing_else(database: Database) {
    let ledger = database.gateway().await;
    let certificate = enrolment(1, "device-1", 1).enrol(&ledger, NOW).await;
    let (_permit, unsettled) =
        enrolment(2, "device-2", 2).admit(&ledger, NOW).await.unwrap().redeem();
    // While one unit waits for the lock, the next jobs gather to one.
    let client = database.client().await;
    let waiting = waiting_unit(&ledger, &client).await;
    let profile = |name: &str| DenialSubject::Profile(tenant(), name.parse().unwrap());
    let (one, twice, two, released) = tokio::join!(
        ledger.deny(profile("one"), NOW),
        // The certificate is on record under another challenge.
        ledger.withhold(unsettled, &certificate, "", NOW),
        ledger.deny(profile("two"), NOW),
        client.batch_execute("COMMIT")
    );
    released.unwrap();
    waiting.await.unwrap().unwrap();
    one.unwrap();
    two.unwrap();
    assert!(matches!(twice, Err(LedgerError::Engine { .. })), "{twice:?}");
    assert_eq!(ledger.denials().await.unwrap().profiles.len(), 2);
    assert_eq!(kinds(&ledger).await, ["issued"]);
    let counters = ledger.counters().await.unwrap();
    assert_eq!((counters.issued, counters.withheld, counters.unsettled), (1, 0, 1));
}

async fn a_gateway_that_holds_the_lock_and_stops_does_not_stop_the_others(database: Database) {
    let ledger = database.gateway().await;
    // As one that was stopped in the middle of a unit, with the settings of a ledger's connection.
    let stopped = database.client().await;
    let settings = "SET idle_in_transaction_session_timeout = '5s'; BEGIN";
    stopped.batch_execute(settings).await.unwrap();
    stopped.query("SELECT 1 FROM ledger FOR UPDATE", &[]).await.unwrap();
    ledger.flush().await.unwrap();
    stopped.query("SELECT 1", &[]).await.unwrap_err();
}
