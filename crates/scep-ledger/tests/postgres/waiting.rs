//! Requests that wait, and lines of renewals, at several gateways.

use crate::database::Database;
use crate::group::lease_is_over;
use crate::group::{tests, two};
use crate::support::*;
use crate::{Test, held, run};
use scep_ledger::{AdmitError, HeldVerdict, Ledger, LedgerError};
use scep_policy::HeldClaims;
use scep_types::Reason;
use std::sync::Arc;

pub(crate) const TESTS: &[(&str, Test)] = tests! {
    attack_08_of_64_requests_at_two_gateways_one_is_held
    attack_08_what_is_approved_goes_on_at_one_gateway
    attack_03_a_certificate_has_one_successor_at_two_gateways
    one_persons_word_counts_at_two_gateways
    attack_52_what_a_ca_decides_later_is_asked_for_by_one_gateway
    attack_53_an_attempt_that_comes_after_its_lease_settles_no_later_one
};

async fn attack_08_of_64_requests_at_two_gateways_one_is_held(database: Database) {
    let gateways = two(&database).await;
    let first = enrolment(1, "device-1", 0).manual(0);
    let all: Vec<Arc<Enrolment>> = (0..8).map(|key| Arc::new(first.with_key(key))).collect();
    let tasks: Vec<_> = (0..64)
        .map(|n: usize| {
            let (ledger, of) = (gateways[n % 2].clone(), Arc::clone(&all[n / 2 % 8]));
            tokio::spawn(async move { of.hold(&ledger, after(DAY), NOW).await })
        })
        .collect();
    let mut held = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => held += 1,
            Err(AdmitError::Refused(Reason::ChallengeAlreadyUsed | Reason::RequestInProgress)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(held, 1);
    for ledger in &gateways {
        assert_eq!(ledger.held(10, None).await.unwrap().len(), 1);
    }
}

/// A request that is held at one gateway and approved at the other.
async fn approved(gateways: &[Ledger; 2]) -> Arc<Enrolment> {
    let first = held::held(&gateways[0], 1, "device-1", 1).await;
    let row = held::row(&gateways[1]).await;
    gateways[1].decide_held(row, HeldVerdict::Approve, "alice", NOW).await.unwrap();
    Arc::new(first)
}

async fn attack_08_what_is_approved_goes_on_at_one_gateway(database: Database) {
    let gateways = two(&database).await;
    let first = approved(&gateways).await;
    let claims = first.claims.to_der().unwrap();
    let tasks: Vec<_> = (0..64)
        .map(|n: usize| {
            let (ledger, first) = (gateways[n % 2].clone(), Arc::clone(&first));
            let decided = first.decided(HeldClaims::from_ledger(&claims).unwrap(), NOW);
            tokio::spawn(async move { admit(&ledger, decided, NOW).await.map(|one| (n % 2, one)) })
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
    // It is the gateway's that has it, whichever held it.
    assert!(other.unsettled().await.unwrap().is_empty());
    assert_eq!(first.recall(other, NOW).await, Known::InProgress);
    let certificate = finish(ledger, admission, NOW).await;
    assert_eq!(first.recall(other, NOW).await, Known::Certificate(certificate));
}

async fn attack_03_a_certificate_has_one_successor_at_two_gateways(database: Database) {
    let gateways = two(&database).await;
    let first = Arc::new(enrolment(1, "device-1", 1).renewable(1));
    let old = first.enrol(&gateways[0], NOW).await;
    let at = after(350 * DAY);
    let mut tasks = Vec::new();
    for n in 0..64_usize {
        let ledger = gateways[n % 2].clone();
        let predecessor = ledger.predecessor(old.fingerprint(), at).await.unwrap().unwrap();
        let approval = first.successor(predecessor, 2 + n / 2 % 6, at);
        tasks.push(tokio::spawn(async move { admit(&ledger, approval, at).await }));
    }
    let mut admitted = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(admission) => admitted.push(admission),
            Err(AdmitError::Refused(Reason::ChallengeAlreadyUsed | Reason::RequestInProgress)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(admitted.len(), 1);
}

async fn one_persons_word_counts_at_two_gateways(database: Database) {
    let gateways = two(&database).await;
    held::held(&gateways[0], 1, "device-1", 1).await;
    let row = held::row(&gateways[1]).await;
    let tasks: Vec<_> = (0..64)
        .map(|n: usize| {
            let ledger = gateways[n % 2].clone();
            let verdict =
                if (n / 2).is_multiple_of(2) { HeldVerdict::Approve } else { HeldVerdict::Deny };
            tokio::spawn(async move {
                (verdict, ledger.decide_held(row, verdict, &format!("person-{n}"), NOW).await)
            })
        })
        .collect();
    let (mut counted, mut late) = (Vec::new(), Vec::new());
    for task in tasks {
        match task.await.unwrap() {
            (verdict, Ok(())) => counted.push(verdict),
            (verdict, Err(LedgerError::NotHeld)) => late.push(verdict),
            (_, Err(error)) => panic!("{error}"),
        }
    }
    // The first word, and those that say the same.
    assert_eq!((counted.len(), late.len()), (32, 32));
    assert!(counted.iter().all(|verdict| *verdict == counted[0]));
    let told = kinds(&gateways[0]).await;
    assert_eq!(told.iter().filter(|kind| *kind == "held-decided").count(), 1);
    let audited = "SELECT operator FROM audit WHERE action LIKE 'held-%'";
    assert_eq!(database.client().await.query(audited, &[]).await.unwrap().len(), 1);
}

async fn attack_52_what_a_ca_decides_later_is_asked_for_by_one_gateway(database: Database) {
    let [one, two] = two(&database).await;
    let first = enrolment(1, "device-1", 1);
    let (permit, unsettled) = first.admit(&one, NOW).await.unwrap().redeem();
    one.leave_pending(unsettled, NOW).await.unwrap();
    // Which gateway the device polls does not matter; who asks the CA does.
    assert_eq!(first.poll(&two, NOW).await, (Known::Pending, true));
    assert_eq!(one.unsettled().await.unwrap().len(), 1);
    assert!(two.unsettled().await.unwrap().is_empty());
    drop(one);
    let left = two.unsettled().await.unwrap().swap_remove(0);
    let certificate = issue(permit.contents(), permit.serial().unwrap());
    two.settle_found(left, certificate.clone(), NOW).await.unwrap();
    assert_eq!(first.poll(&two, NOW).await.0, Known::Certificate(certificate));
}

async fn attack_53_an_attempt_that_comes_after_its_lease_settles_no_later_one(database: Database) {
    let gateways = two(&database).await;
    let first = approved(&gateways).await;
    let [slow, other] = &gateways;
    // Nothing was issued when the other looked, so that it waited again; its device has come for it there.
    let overtaken = async || {
        let (_permit, late) = first.resume(slow, NOW).await.unwrap().redeem();
        lease_is_over(&database).await;
        let left = other.unsettled().await.unwrap().swap_remove(0);
        other.settle_nothing(left, NOW).await.unwrap();
        (late, first.resume(other, NOW).await.unwrap())
    };
    let (late, admission) = overtaken().await;
    let result = slow.hand_back(late, Reason::CaUnavailable, "down", NOW).await;
    assert_eq!(result, Err(LedgerError::AlreadySettled));
    assert_eq!(first.recall(slow, NOW).await, Known::InProgress);
    let (_permit, unsettled) = admission.redeem();
    other.hand_back(unsettled, Reason::CaUnavailable, "down", NOW).await.unwrap();

    let (late, admission) = overtaken().await;
    slow.leave_unknown(late, "timeout", NOW).await.unwrap();
    assert_eq!(first.recall(slow, NOW).await, Known::InProgress);
    let certificate = finish(other, admission, NOW).await;
    assert_eq!(first.recall(slow, NOW).await, Known::Certificate(certificate));
    let events = events(other).await;
    let told = ["held", "held-decided", "failed", "failed", "failed", "possible-orphan", "issued"];
    assert_eq!(events.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), told);
    let mut keys: Vec<_> =
        events.iter().map(|(_, body)| body["idempotency_key"].to_string()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), told.len());
}
