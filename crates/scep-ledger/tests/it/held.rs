//! Requests that wait, for a person or for a CA that decides later; and a ledger of the schema before there were any.

use crate::support::*;
use core::time::Duration;
use scep_ledger::{
    AdmitError, Asked, DenialSubject, HeldState, HeldVerdict, Ledger, LedgerError, LedgerSettings,
    LeftBehind, Recall, RevocationReason, Standing,
};
use scep_policy::HeldClaims;
use scep_types::{AuthorityName, CertificateDer, ExtendedKeyUsages, NameHash, Reason, Timestamp};

/// Hands a store and the names of all functions to a macro.
macro_rules! every_held {
    ($module:ident::$then:ident, $backend:expr) => {
        $module::$then! {
            $backend;
            attack_07_a_held_challenge_is_used_once
            attack_44_the_key_of_a_held_request_is_its_devices
            attack_52_a_pending_request_is_asked_for_until_its_ca_has_answered
            attack_53_what_recovery_has_read_settles_no_later_attempt
            quirk_48_a_request_waits_until_a_person_has_approved_it
            quirk_49_a_poll_is_answered_to_its_signer_alone
            quirk_50_what_waits_is_polled_in_each_of_its_transactions
            a_request_that_waits_has_few_transactions
            a_request_that_a_person_refuses_is_over_at_once
            what_nobody_decides_on_in_time_is_over
            what_is_disabled_is_not_held
            as_many_are_held_as_the_settings_allow
            what_goes_on_is_what_was_approved
            the_brake_counts_a_held_request_when_it_goes_on
            a_ca_that_fails_leaves_the_approval_standing
            a_ca_may_keep_waiting_what_a_person_has_approved
            a_restored_backup_issues_nothing_that_it_held
            the_oldest_that_waits_is_told
            a_certificate_is_found_by_its_serial_number
        }
    };
}
pub(crate) use every_held;

const WEEK: u64 = 7 * DAY;

fn manual(n: u8, device: &str, key: usize) -> Enrolment {
    enrolment(n, device, key).manual(key)
}

pub(crate) async fn held(ledger: &Ledger, n: u8, device: &str, key: usize) -> Enrolment {
    let of = manual(n, device, key);
    of.hold(ledger, after(WEEK), NOW).await.unwrap();
    of
}

/// The row of the oldest request that is held.
pub(crate) async fn row(ledger: &Ledger) -> u64 {
    ledger.held(1, None).await.unwrap()[0].row
}

async fn approve(ledger: &Ledger, now: Timestamp) {
    let row = ledger.held(100, None).await.unwrap().pop().unwrap().row;
    ledger.decide_held(row, HeldVerdict::Approve, "alice", now).await.unwrap();
}

fn refused(result: Result<(), AdmitError>) -> Reason {
    match result {
        Err(AdmitError::Refused(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn attack_07_a_held_challenge_is_used_once(backend: &impl Backend) {
    let mut first_run = Some(backend.open());
    let first = held(first_run.as_ref().unwrap(), 1, "device-1", 1).await;
    let other = first.with_key(2);
    for _ in ["before", "after a restart"] {
        let ledger = first_run.take().unwrap_or_else(|| backend.open());
        assert_eq!(first.recall(&ledger, after(1)).await, Known::Pending);
        let again = first.hold(&ledger, after(WEEK), after(1)).await;
        assert_eq!(refused(again), Reason::RequestInProgress);
        let again = other.hold(&ledger, after(WEEK), after(1)).await;
        assert_eq!(refused(again), Reason::ChallengeAlreadyUsed);
        assert_eq!(other.recall(&ledger, after(1)).await, Known::Nothing);
        // It is nothing that a crash has left.
        assert!(ledger.unsettled().await.unwrap().is_empty());
        drop(ledger);
    }
    let ledger = backend.open();
    assert_eq!(kinds(&ledger).await, ["held", "breach", "breach"]);
    let (_, body) = &events(&ledger).await[0];
    assert_eq!(body["until"], after(WEEK).to_string());
    assert_eq!(body["authority"], "main");
    assert_eq!(body["challenge"], first.claims.challenge_id.to_string());
    // An expired challenge, and one that is locked, are not held either.
    let late = manual(2, "device-2", 2);
    let result = late.hold(&ledger, after(WEEK), after(HOUR + 300)).await;
    assert_eq!(refused(result), Reason::ChallengeExpired);
}

pub(crate) async fn attack_44_the_key_of_a_held_request_is_its_devices(backend: &impl Backend) {
    let ledger = backend.open();
    held(&ledger, 1, "device-1", 1).await;
    let thief = enrolment(2, "device-2", 1);
    assert_eq!(thief.refused(&ledger, NOW).await, Reason::KeyAlreadyCertified);
    let thief = manual(3, "device-2", 1);
    let result = thief.hold(&ledger, after(WEEK), NOW).await;
    assert_eq!(refused(result), Reason::KeyAlreadyCertified);
    // Refused, it is free again.
    let row = row(&ledger).await;
    ledger.decide_held(row, HeldVerdict::Deny, "alice", NOW).await.unwrap();
    thief.hold(&ledger, after(WEEK), NOW).await.unwrap();
}

pub(crate) async fn quirk_48_a_request_waits_until_a_person_has_approved_it(
    backend: &impl Backend,
) {
    let ledger = backend.open();
    let first = held(&ledger, 1, "device-1", 1).await;
    let mut listed = ledger.held(10, None).await.unwrap();
    let request = listed.pop().unwrap();
    assert!(listed.is_empty());
    assert!(ledger.held(10, Some(request.row)).await.unwrap().is_empty());
    assert_eq!((&request.tenant, &request.device), (&first.claims.tenant, &first.claims.device));
    assert_eq!((&request.profile, &request.user), (&first.claims.profile, &first.claims.user));
    assert_eq!(request.challenge, first.claims.challenge_id);
    assert_eq!(request.authority, AuthorityName::main());
    assert_eq!(request.transaction, transaction("T1"));
    assert_eq!(request.subject, first.claims.expectation.subject.to_string());
    assert_eq!(request.subject_alt_names.len(), 1);
    assert!(request.subject_alt_names[0].contains("device-1.example.org"));
    assert_eq!(request.spki, KEYS[1].public_key().hash());
    assert_eq!((request.asked_at, request.until), (NOW, after(WEEK)));
    assert_eq!(request.state, HeldState::Waiting);
    drop(ledger);

    // The challenge has expired long ago.
    let ledger = backend.open();
    assert_eq!(first.recall(&ledger, after(3 * DAY)).await, Known::Pending);
    let decide = |verdict, person, at| ledger.decide_held(request.row, verdict, person, at);
    decide(HeldVerdict::Approve, "alice", after(3 * DAY)).await.unwrap();
    // Decided is decided.
    decide(HeldVerdict::Approve, "bob", after(3 * DAY + 1)).await.unwrap();
    let otherwise = decide(HeldVerdict::Deny, "bob", after(3 * DAY + 1)).await;
    assert_eq!(otherwise, Err(LedgerError::NotHeld));
    let unknown = ledger.decide_held(request.row + 1, HeldVerdict::Approve, "alice", NOW).await;
    assert_eq!(unknown, Err(LedgerError::NotHeld));
    let listed = ledger.held(10, None).await.unwrap().pop().unwrap();
    let (verdict, person) = (HeldVerdict::Approve, String::from("alice"));
    assert_eq!(listed.state, HeldState::Decided { verdict, person, at: after(3 * DAY) });
    assert_eq!(kinds(&ledger).await, ["held", "held-decided"]);
    let (_, body) = &events(&ledger).await[1];
    assert_eq!(
        (body["verdict"].as_str(), body["person"].as_str()),
        (Some("approved"), Some("alice"))
    );
    drop(ledger);

    let ledger = backend.open();
    let at = after(4 * DAY);
    assert_eq!(first.recall(&ledger, at).await, Known::Approved);
    let admission = first.resume(&ledger, at).await.unwrap();
    assert_eq!(first.recall(&ledger, at).await, Known::InProgress);
    let certificate = finish(&ledger, admission, at).await;
    assert_eq!(first.recall(&ledger, at).await, Known::Certificate(certificate.clone()));
    assert_eq!(first.poll(&ledger, at).await, (Known::Certificate(certificate), true));
    assert!(ledger.held(10, None).await.unwrap().is_empty());
    ledger.decide_held(request.row, HeldVerdict::Approve, "alice", at).await.unwrap();
    let otherwise = ledger.decide_held(request.row, HeldVerdict::Deny, "alice", at).await;
    assert_eq!(otherwise, Err(LedgerError::NotHeld));
    assert_eq!(kinds(&ledger).await, ["held", "held-decided", "issued"]);
    let keys: Vec<_> =
        events(&ledger).await.into_iter().map(|(_, b)| b["idempotency_key"].clone()).collect();
    assert_eq!(keys, ["held:1", "held-decided:1", "issued:1"]);
}

pub(crate) async fn quirk_49_a_poll_is_answered_to_its_signer_alone(backend: &impl Backend) {
    let ledger = backend.open();
    let nobody = |polled: scep_ledger::Polled| {
        assert!(polled.csr_der.is_none());
        Known::from(polled.recall)
    };
    let none = ledger.poll(&transaction("T1"), signer(), NOW).await.unwrap();
    assert_eq!(nobody(none), Known::Nothing);
    let first = held(&ledger, 1, "device-1", 1).await;
    assert_eq!(first.poll(&ledger, NOW).await, (Known::Pending, true));
    let another = KEYS[5].public_key().hash();
    let none = ledger.poll(&transaction("T1"), another, NOW).await.unwrap();
    assert_eq!(nobody(none), Known::Nothing);
    let none = ledger.poll(&transaction("T2"), signer(), NOW).await.unwrap();
    assert_eq!(nobody(none), Known::Nothing);
    // The last request of the transaction counts, and what was freed is none.
    let later = enrolment(2, "device-2", 2);
    let (_permit, unsettled) = later.admit(&ledger, NOW).await.unwrap().redeem();
    assert_eq!(later.poll(&ledger, NOW).await, (Known::InProgress, false));
    ledger.hand_back(unsettled, Reason::CaUnavailable, "", NOW).await.unwrap();
    assert_eq!(later.poll(&ledger, NOW).await, (Known::Nothing, false));
    // As for any retry: over with its window, or its device.
    let certificate = later.enrol(&ledger, NOW).await;
    assert_eq!(later.poll(&ledger, after(DAY)).await.0, Known::Certificate(certificate));
    let over = Known::Over(Reason::ChallengeExpired);
    assert_eq!(later.poll(&ledger, after(DAY + 1)).await.0, over);
    let device = DenialSubject::Device(tenant(), later.claims.device.clone());
    ledger.deny(device, NOW).await.unwrap();
    let over = Known::Over(Reason::ScepProfileNoLongerTargetedToTheClient);
    assert_eq!(later.poll(&ledger, NOW).await.0, over);
}

pub(crate) async fn quirk_50_what_waits_is_polled_in_each_of_its_transactions(
    backend: &impl Backend,
) {
    let ledger = backend.open();
    let polled = async |ledger: &Ledger, name: &str, signer| {
        Known::from(ledger.poll(&transaction(name), signer, NOW).await.unwrap().recall)
    };
    let first = manual(1, "device-1", 1);
    let again = async |ledger: &Ledger, name: &str, signer| {
        ledger.asked_again(first.retry_key(), &transaction(name), signer).await.unwrap();
    };
    let (own, stranger) = (KEYS[1].public_key().hash(), KEYS[5].public_key().hash());
    // Before there is such a request it is nothing.
    again(&ledger, "T2", signer()).await;
    first.hold(&ledger, after(WEEK), NOW).await.unwrap();
    assert_eq!(polled(&ledger, "T2", signer()).await, Known::Nothing);
    for _ in ["first", "again"] {
        again(&ledger, "T1", signer()).await;
        again(&ledger, "T2", signer()).await;
        // The key that is to be certified may sign too; nobody else.
        again(&ledger, "T3", own).await;
        again(&ledger, "T4", stranger).await;
    }
    drop(ledger);
    let ledger = backend.open();
    for (name, signer, known) in [
        ("T1", signer(), Known::Pending),
        ("T2", signer(), Known::Pending),
        ("T3", own, Known::Pending),
        ("T2", own, Known::Nothing),
        ("T3", signer(), Known::Nothing),
        ("T4", stranger, Known::Nothing),
    ] {
        assert_eq!(polled(&ledger, name, signer).await, known, "{name}");
    }
    // Who asks for what was approved in another transaction takes nothing from the first.
    approve(&ledger, NOW).await;
    let claims = HeldClaims::from_ledger(&first.claims.to_der().unwrap()).unwrap();
    let authority = AuthorityName::main();
    let asked = Asked {
        authority: &authority,
        serial: Some(serial(9)),
        signer: own,
        transaction: &transaction("T5"),
    };
    let admission = ledger.admit(first.decided(claims, NOW), &asked, NOW).await.unwrap();
    let certificate = finish(&ledger, admission, NOW).await;
    for (name, signer) in [("T1", signer()), ("T2", signer()), ("T3", own), ("T5", own)] {
        let known = polled(&ledger, name, signer).await;
        assert_eq!(known, Known::Certificate(certificate.clone()), "{name}");
    }
    // A request that does not wait any more is sent again and gets its answer at once.
    again(&ledger, "T6", signer()).await;
    assert_eq!(polled(&ledger, "T6", signer()).await, Known::Nothing);
    // Forgotten with the request.
    let pruned = ledger.prune(after(60 * DAY)).await.unwrap();
    assert_eq!(pruned, 1);
    assert_eq!(polled(&ledger, "T2", signer()).await, Known::Nothing);
}

pub(crate) async fn a_request_that_waits_has_few_transactions(backend: &impl Backend) {
    let ledger = backend.open();
    let first = held(&ledger, 1, "device-1", 1).await;
    for n in 0..40 {
        let transaction = transaction(&format!("A{n}"));
        ledger.asked_again(first.retry_key(), &transaction, signer()).await.unwrap();
    }
    let mut known = 0;
    for n in 0..40 {
        let transaction = transaction(&format!("A{n}"));
        let polled = ledger.poll(&transaction, signer(), NOW).await.unwrap();
        known += usize::from(matches!(polled.recall, Recall::Pending));
    }
    assert_eq!(known, 16);
}

pub(crate) async fn a_request_that_a_person_refuses_is_over_at_once(backend: &impl Backend) {
    let ledger = backend.open();
    let first = held(&ledger, 1, "device-1", 1).await;
    let row = row(&ledger).await;
    for _ in ["first", "again"] {
        ledger.decide_held(row, HeldVerdict::Deny, "alice", after(60)).await.unwrap();
    }
    let otherwise = ledger.decide_held(row, HeldVerdict::Approve, "alice", after(60)).await;
    assert_eq!(otherwise, Err(LedgerError::NotHeld));
    drop(ledger);
    let ledger = backend.open();
    let over = Known::Over(Reason::ApprovalDenied);
    assert_eq!(first.recall(&ledger, after(60)).await, over);
    assert_eq!(first.poll(&ledger, after(60)).await.0, over);
    assert!(ledger.held(10, None).await.unwrap().is_empty());
    // The challenge stays spent.
    for of in [&first, &first.with_key(2)] {
        let again = of.hold(&ledger, after(WEEK), after(60)).await;
        assert_eq!(refused(again), Reason::ChallengeAlreadyUsed);
    }
    assert_eq!(kinds(&ledger).await, ["held", "held-decided", "refused", "breach"]);
    let events = events(&ledger).await;
    assert_eq!(events[1].1["verdict"], "denied");
    assert_eq!(events[2].1["reasons"], serde_json::json!(["ApprovalDenied"]));
    assert_eq!(events[2].1["device"], "device-1");
    // Like any use, it is forgotten long after the challenge's end.
    assert_eq!(ledger.prune(after(60 + HOUR + DAY)).await, Ok(0));
    assert_eq!(ledger.prune(after(HOUR + 301 + DAY)).await, Ok(1));
    assert_eq!(first.recall(&ledger, after(HOUR + 301 + DAY)).await, Known::Nothing);
}

pub(crate) async fn what_nobody_decides_on_in_time_is_over(backend: &impl Backend) {
    let ledger = backend.open();
    let (first, second) =
        (held(&ledger, 1, "device-1", 1).await, held(&ledger, 2, "device-2", 2).await);
    let first_row = row(&ledger).await;
    // Approved, and not fetched.
    approve(&ledger, after(60)).await;
    let (end, late) = (after(WEEK), after(WEEK + 1));
    assert_eq!(first.recall(&ledger, end).await, Known::Pending);
    assert_eq!(second.recall(&ledger, end).await, Known::Approved);
    let over = Known::Over(Reason::ApprovalExpired);
    for of in [&first, &second] {
        assert_eq!(of.recall(&ledger, late).await, over);
    }
    // Recalled just before the end, and admitted after it.
    let claims = second.claims.to_der().unwrap();
    let decided = second.decided(HeldClaims::from_ledger(&claims).unwrap(), late);
    assert_eq!(reason(admit(&ledger, decided, late).await), Reason::ApprovalExpired);
    for verdict in [HeldVerdict::Approve, HeldVerdict::Deny] {
        let result = ledger.decide_held(first_row, verdict, "alice", late).await;
        assert_eq!(result, Err(LedgerError::NotHeld));
    }
    assert_eq!(kinds(&ledger).await, ["held", "held", "held-decided"]);
    assert_eq!(ledger.prune(end).await, Ok(0));
    assert_eq!(ledger.prune(late).await, Ok(2));
    assert_eq!(kinds(&ledger).await[3..], ["refused", "refused"]);
    let (_, body) = events(&ledger).await.pop().unwrap();
    assert_eq!(body["reasons"], serde_json::json!(["ApprovalExpired"]));
    for of in [&first, &second] {
        assert_eq!(of.recall(&ledger, late).await, over);
    }
    assert_eq!(ledger.counters().await.unwrap().refused, 2);
}

pub(crate) async fn what_is_disabled_is_not_held(backend: &impl Backend) {
    let ledger = backend.open();
    let first = manual(1, "device-1", 1);
    let subject = DenialSubject::Device(tenant(), first.claims.device.clone());
    ledger.deny(subject.clone(), NOW).await.unwrap();
    let disabled = Reason::ScepProfileNoLongerTargetedToTheClient;
    assert_eq!(refused(first.hold(&ledger, after(WEEK), NOW).await), disabled);
    ledger.allow(subject.clone()).await.unwrap();
    first.hold(&ledger, after(WEEK), NOW).await.unwrap();
    approve(&ledger, NOW).await;
    // Disabled between the person's word and the device's.
    let claims = HeldClaims::from_ledger(&first.claims.to_der().unwrap()).unwrap();
    ledger.deny(subject.clone(), NOW).await.unwrap();
    assert_eq!(first.recall(&ledger, NOW).await, Known::Over(disabled));
    let decided = first.decided(claims, NOW);
    assert_eq!(reason(admit(&ledger, decided, NOW).await), disabled);
    ledger.allow(subject).await.unwrap();
    assert!(first.resume(&ledger, NOW).await.is_ok());
}

pub(crate) async fn as_many_are_held_as_the_settings_allow(backend: &impl Backend) {
    let ledger = backend.open_with(LedgerSettings { max_held: 2, ..LedgerSettings::default() });
    let first = manual(1, "device-1", 1);
    first.hold(&ledger, after(60), NOW).await.unwrap();
    held(&ledger, 2, "device-2", 2).await;
    let third = manual(3, "device-3", 3);
    assert_eq!(refused(third.hold(&ledger, after(WEEK), NOW).await), Reason::RateExceeded);
    // Nothing was spent; and what is over makes room.
    third.hold(&ledger, after(WEEK), after(61)).await.unwrap();
    assert_eq!(first.recall(&ledger, NOW).await, Known::Over(Reason::ApprovalExpired));
    assert_eq!(kinds(&ledger).await, ["held", "held", "refused", "held"]);
    let fourth = manual(4, "device-4", 4);
    assert_eq!(refused(fourth.hold(&ledger, after(WEEK), after(61)).await), Reason::RateExceeded);
}

pub(crate) async fn what_goes_on_is_what_was_approved(backend: &impl Backend) {
    let ledger = backend.open();
    let first = manual(1, "device-1", 1);
    let claims = first.claims.to_der().unwrap();
    let forged = || first.decided(HeldClaims::from_ledger(&claims).unwrap(), NOW);
    // Never held; and held, but nobody has approved it.
    assert_eq!(reason(admit(&ledger, forged(), NOW).await), Reason::ApprovalExpired);
    first.hold(&ledger, after(WEEK), NOW).await.unwrap();
    assert_eq!(reason(admit(&ledger, forged(), NOW).await), Reason::RequestInProgress);
    approve(&ledger, NOW).await;
    // Approved, and decided on by other claims.
    let mut longer = first.claims.clone();
    longer.expectation.validity += Duration::from_secs(DAY);
    let longer = HeldClaims::from_ledger(&longer.to_der().unwrap()).unwrap();
    let decided = first.decided(longer, NOW);
    assert_eq!(reason(admit(&ledger, decided, NOW).await), Reason::InternalError);
    // Approved, and sent to another CA's place.
    let elsewhere = AuthorityName::new("other").unwrap();
    let result = admit_at(&ledger, forged(), &elsewhere, NOW).await;
    assert_eq!(reason(result), Reason::ChallengeNotServed);
    // Another request with the same challenge.
    let other = first.with_key(2);
    let decided = other.decided(HeldClaims::from_ledger(&claims).unwrap(), NOW);
    assert_eq!(reason(admit(&ledger, decided, NOW).await), Reason::ChallengeAlreadyUsed);
    assert_eq!(kinds(&ledger).await, ["held", "held-decided", "breach"]);
    // Once.
    let admission = admit(&ledger, forged(), NOW).await.unwrap();
    assert_eq!(reason(admit(&ledger, forged(), NOW).await), Reason::RequestInProgress);
    finish(&ledger, admission, NOW).await;
    assert_eq!(reason(admit(&ledger, forged(), NOW).await), Reason::RequestInProgress);
    // What a person has refused.
    let second = held(&ledger, 2, "device-2", 2).await;
    let row = row(&ledger).await;
    ledger.decide_held(row, HeldVerdict::Deny, "alice", NOW).await.unwrap();
    let claims = HeldClaims::from_ledger(&second.claims.to_der().unwrap()).unwrap();
    let decided = second.decided(claims, NOW);
    assert_eq!(reason(admit(&ledger, decided, NOW).await), Reason::ApprovalDenied);
}

pub(crate) async fn the_brake_counts_a_held_request_when_it_goes_on(backend: &impl Backend) {
    let ledger = backend.open();
    let all: Vec<Enrolment> = (1..=3_u8)
        .map(|n| {
            let key = usize::from(n);
            let id = scep_types::ChallengeId::from_bytes([n; 16]);
            enrolment_with(id, &format!("device-{n}"), &KEYS[key], 2, 365 * DAY).manual(key)
        })
        .collect();
    for of in &all {
        of.hold(&ledger, after(WEEK), NOW).await.unwrap();
        approve(&ledger, NOW).await;
    }
    for of in &all[..2] {
        let admission = of.resume(&ledger, after(DAY)).await.unwrap();
        finish(&ledger, admission, after(DAY)).await;
    }
    let third = all[2].resume(&ledger, after(DAY)).await;
    assert_eq!(reason(third), Reason::IssuanceBrakeEngaged);
    // It stays approved.
    let admission = all[2].resume(&ledger, after(DAY + HOUR + 60)).await.unwrap();
    finish(&ledger, admission, after(DAY + HOUR + 60)).await;
}

pub(crate) async fn a_ca_that_fails_leaves_the_approval_standing(backend: &impl Backend) {
    let ledger = backend.open();
    let first = held(&ledger, 1, "device-1", 1).await;
    approve(&ledger, NOW).await;
    for round in 0..2_u64 {
        let at = after(DAY + round);
        let (_permit, unsettled) = first.resume(&ledger, at).await.unwrap().redeem();
        ledger.hand_back(unsettled, Reason::CaUnavailable, "down", at).await.unwrap();
        assert_eq!(first.recall(&ledger, at).await, Known::Approved);
    }
    // So does recovery.
    drop(first.resume(&ledger, after(2 * DAY)).await.unwrap());
    drop(ledger);
    let ledger = backend.open();
    let left = ledger.unsettled().await.unwrap().swap_remove(0);
    ledger.settle_nothing(left, after(2 * DAY)).await.unwrap();
    assert_eq!(first.recall(&ledger, after(2 * DAY)).await, Known::Approved);
    assert_eq!(first.with_key(2).refused_as_held(&ledger).await, Reason::ChallengeAlreadyUsed);
    let admission = first.resume(&ledger, after(3 * DAY)).await.unwrap();
    finish(&ledger, admission, after(3 * DAY)).await;
    let events = events(&ledger).await;
    let told = ["held", "held-decided", "failed", "failed", "failed", "breach", "issued"];
    assert_eq!(events.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), told);
    let mut keys: Vec<_> =
        events.iter().map(|(_, body)| body["idempotency_key"].to_string()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), told.len());
}

pub(crate) async fn attack_53_what_recovery_has_read_settles_no_later_attempt(
    backend: &impl Backend,
) {
    let ledger = backend.open();
    let first = held(&ledger, 1, "device-1", 1).await;
    approve(&ledger, NOW).await;
    // A CA that chooses its serial numbers and is looked through by key.
    let resume = async |now| {
        let Recall::Approved(held) = ledger.recall(first.retry_key(), now).await.unwrap() else {
            panic!("it is not approved");
        };
        let asked = Asked {
            authority: &AuthorityName::main(),
            serial: None,
            signer: signer(),
            transaction: &transaction("T1"),
        };
        ledger.admit(first.decided(held.into_parts().0, now), &asked, now).await.unwrap()
    };
    drop(resume(NOW).await);
    let mut left = Vec::new();
    for _ in 0..4 {
        left.push(ledger.unsettled().await.unwrap().swap_remove(0));
    }
    ledger.settle_nothing(left.pop().unwrap(), NOW).await.unwrap();
    // It waits again, approved, and its device has come for it: the same row, and open as before.
    let (permit, unsettled) = resume(after(60)).await.redeem();
    let certificate = issue(permit.contents(), &serial(9));
    let slower = [
        ledger.settle_nothing(left.pop().unwrap(), after(60)).await,
        ledger.settle_orphan(left.pop().unwrap(), "cannot tell", after(60)).await,
        ledger.settle_found(left.pop().unwrap(), certificate.clone(), after(60)).await.map(drop),
    ];
    assert_eq!(slower, [const { Err(LedgerError::AlreadySettled) }; 3]);
    assert_eq!(first.recall(&ledger, after(60)).await, Known::InProgress);
    let conforming = unsettled.approval().check_certificate(&certificate).unwrap();
    ledger.record(unsettled, conforming, after(60)).await.unwrap();
    assert_eq!(first.recall(&ledger, after(60)).await, Known::Certificate(certificate));
    assert_eq!(kinds(&ledger).await, ["held", "held-decided", "failed", "issued"]);
}

impl Enrolment {
    async fn refused_as_held(&self, ledger: &Ledger) -> Reason {
        refused(self.hold(ledger, after(WEEK), after(60)).await)
    }
}

pub(crate) async fn attack_52_a_pending_request_is_asked_for_until_its_ca_has_answered(
    backend: &impl Backend,
) {
    let ledger = backend.open();
    let (found, nothing, differs) =
        (enrolment(1, "device-1", 1), enrolment(2, "device-2", 2), enrolment(3, "device-3", 3));
    let mut permits = Vec::new();
    for of in [&found, &nothing, &differs] {
        let (permit, unsettled) = of.admit(&ledger, NOW).await.unwrap().redeem();
        ledger.leave_pending(unsettled, NOW).await.unwrap();
        permits.push(permit);
    }
    assert_eq!(differs.poll(&ledger, NOW).await, (Known::Pending, true));
    assert_eq!(ledger.unsettled().await.unwrap().len(), 3);
    drop(ledger);

    // Long after its challenge.
    let ledger = backend.open();
    let at = after(30 * DAY);
    assert_eq!(ledger.prune(at).await, Ok(0));
    for of in [&found, &nothing, &differs] {
        assert_eq!(of.recall(&ledger, at).await, Known::Pending);
        assert_eq!(of.refused(&ledger, NOW).await, Reason::RequestInProgress);
    }
    assert_eq!(found.with_key(4).refused(&ledger, NOW).await, Reason::ChallengeAlreadyUsed);
    let other = enrolment(4, "device-4", 1);
    assert_eq!(other.refused(&ledger, NOW).await, Reason::KeyAlreadyCertified);
    let counters = ledger.counters().await.unwrap();
    assert_eq!((counters.pending, counters.unsettled, counters.held), (3, 0, 0));
    let mut left = ledger.unsettled().await.unwrap();
    assert!(left.iter().all(|left| left.left_behind() == LeftBehind::Pending));
    let mut contents = permits[2].contents().clone();
    contents.extended_key_usages =
        ExtendedKeyUsages::new(vec![ExtendedKeyUsages::purpose("serverAuth").unwrap()]).unwrap();
    let wrong = issue(&contents, permits[2].serial().unwrap());
    let standing = ledger.settle_found(left.pop().unwrap(), wrong, at).await.unwrap();
    assert_eq!(standing, Standing::Withheld);
    ledger.settle_nothing(left.pop().unwrap(), at).await.unwrap();
    let certificate = issue(permits[0].contents(), permits[0].serial().unwrap());
    ledger.settle_found(left.pop().unwrap(), certificate.clone(), at).await.unwrap();
    drop(ledger);

    let ledger = backend.open();
    assert!(ledger.unsettled().await.unwrap().is_empty());
    assert_eq!(found.recall(&ledger, at).await, Known::Certificate(certificate));
    assert_eq!(nothing.recall(&ledger, at).await, Known::Over(Reason::CaRefused));
    assert_eq!(differs.recall(&ledger, at).await, Known::Over(Reason::CertificateDiffers));
    // The CA has said no to the request: its challenge stays spent.
    assert_eq!(nothing.refused(&ledger, NOW).await, Reason::ChallengeAlreadyUsed);
    let told = ["breach", "refused", "withheld", "refused", "issued"];
    assert_eq!(kinds(&ledger).await, told);
    let (_, body) = &events(&ledger).await[3];
    assert_eq!(body["reasons"], serde_json::json!(["CaRefused"]));
    assert_eq!(body["transaction_id"], "T1");
}

pub(crate) async fn a_ca_may_keep_waiting_what_a_person_has_approved(backend: &impl Backend) {
    let ledger = backend.open();
    let (first, second) = (held(&ledger, 1, "device-1", 1).await, manual(2, "device-2", 2));
    approve(&ledger, NOW).await;
    let (_permit, unsettled) = first.resume(&ledger, NOW).await.unwrap().redeem();
    ledger.leave_pending(unsettled, NOW).await.unwrap();
    // The person's word is no more to be waited for, and its end does not hit.
    let at = after(2 * WEEK);
    assert_eq!(first.poll(&ledger, at).await, (Known::Pending, true));
    assert_eq!(ledger.prune(at).await, Ok(0));
    assert!(ledger.held(10, None).await.unwrap().is_empty());
    let left = ledger.unsettled().await.unwrap().swap_remove(0);
    ledger.settle_nothing(left, at).await.unwrap();
    assert_eq!(first.recall(&ledger, at).await, Known::Over(Reason::CaRefused));
    // Or the CA cannot tell any more.
    second.hold(&ledger, after(WEEK), NOW).await.unwrap();
    approve(&ledger, NOW).await;
    let (_permit, unsettled) = second.resume(&ledger, NOW).await.unwrap().redeem();
    ledger.leave_pending(unsettled, NOW).await.unwrap();
    let left = ledger.unsettled().await.unwrap().swap_remove(0);
    ledger.settle_orphan(left, "it has forgotten", at).await.unwrap();
    assert_eq!(second.recall(&ledger, at).await, Known::Over(Reason::CaOutcomeUnknown));
}

pub(crate) async fn a_restored_backup_issues_nothing_that_it_held(backend: &impl Backend) {
    let ledger = backend.open();
    let first = held(&ledger, 1, "device-1", 1).await;
    approve(&ledger, NOW).await;
    // It may have gone on since the backup was made.
    ledger.acknowledge(1_000, after(60)).await.unwrap();
    let result = first.resume(&ledger, after(120)).await;
    assert_eq!(reason(result), Reason::ChallengeBeforeRestore);
}

pub(crate) async fn the_oldest_that_waits_is_told(backend: &impl Backend) {
    let ledger = backend.open();
    assert_eq!(ledger.counters().await.unwrap().waiting_since, None);
    for (n, at) in [(1, NOW), (2, after(60)), (3, after(90))] {
        let of = manual(n, &format!("device-{n}"), usize::from(n));
        of.hold(&ledger, after(WEEK), at).await.unwrap();
    }
    let rows: Vec<u64> =
        ledger.held(2, None).await.unwrap().into_iter().map(|held| held.row).collect();
    ledger.decide_held(rows[0], HeldVerdict::Approve, "alice", after(100)).await.unwrap();
    ledger.decide_held(rows[1], HeldVerdict::Deny, "alice", after(100)).await.unwrap();
    let counters = ledger.counters().await.unwrap();
    assert_eq!((counters.held, counters.waiting_since), (2, Some(after(90))));
}

pub(crate) async fn a_certificate_is_found_by_its_serial_number(backend: &impl Backend) {
    let ledger = backend.open();
    let certificate = enrolment(1, "device-1", 1).enrol(&ledger, NOW).await;
    let (permit, unsettled) =
        enrolment(2, "device-2", 2).admit(&ledger, NOW).await.unwrap().redeem();
    let withheld = issue(permit.contents(), permit.serial().unwrap());
    ledger.withhold(unsettled, &withheld, "", NOW).await.unwrap();
    let by_serial = async |of: &CertificateDer, issuer: NameHash| {
        let found = ledger.certificate_by_serial(issuer, &of.serial().unwrap()).await.unwrap();
        found.map(|entry| (entry.certificate, entry.device.to_string()))
    };
    let issuer = NameHash::of(certificate.issuer_der());
    let expected = Some((certificate.clone(), String::from("device-1")));
    assert_eq!(by_serial(&certificate, issuer).await, expected);
    assert_eq!(by_serial(&withheld, issuer).await, None);
    assert_eq!(by_serial(&certificate, NameHash::from_bytes([0; 32])).await, None);
    let fingerprint = certificate.fingerprint();
    ledger.mark_revoked(fingerprint, RevocationReason::Superseded, NOW).await.unwrap();
    assert_eq!(by_serial(&certificate, issuer).await, expected);
}

/// A ledger with a request in every state that the second schema has; `down` makes it one of that schema.
pub(crate) async fn of_every_old_state(backend: &impl Backend, down: impl FnOnce()) {
    let ledger = backend.open();
    let all: Vec<Enrolment> =
        (1..=6_u8).map(|n| enrolment(n, &format!("device-{n}"), usize::from(n))).collect();
    let issued = all[0].enrol(&ledger, NOW).await;
    let mut certificates = Vec::new();
    for (n, of) in all.iter().enumerate().skip(1) {
        let (permit, unsettled) = of.admit(&ledger, NOW).await.unwrap().redeem();
        let certificate = issue(permit.contents(), permit.serial().unwrap());
        match n {
            1 => drop(unsettled),
            2 => ledger.leave_unknown(unsettled, "timeout", NOW).await.unwrap(),
            3 => ledger.withhold(unsettled, &certificate, "", NOW).await.unwrap(),
            4 => ledger.hand_over(unsettled, "", NOW).await.unwrap(),
            _ => {
                ledger.hand_back(unsettled, Reason::CaUnavailable, "", NOW).await.unwrap();
            }
        }
        certificates.push(certificate);
    }
    let before = ledger.inventory(10, None).await.unwrap();
    drop(ledger);
    down();

    let ledger = backend.open();
    assert_eq!(ledger.inventory(10, None).await.unwrap(), before);
    assert!(before.iter().all(|entry| entry.authority == AuthorityName::main()));
    assert!(before.iter().all(|entry| (entry.generation, entry.renews) == (0, None)));
    assert!(ledger.predecessor(issued.fingerprint(), NOW).await.unwrap().is_none());
    assert_eq!(all[0].recall(&ledger, NOW).await, Known::Certificate(issued));
    assert_eq!(all[0].with_key(7).refused(&ledger, NOW).await, Reason::ChallengeAlreadyUsed);
    assert_eq!(all[3].recall(&ledger, NOW).await, Known::Over(Reason::CertificateDiffers));
    assert_eq!(all[4].recall(&ledger, NOW).await, Known::Over(Reason::CaOutcomeUnknown));
    let mut left = ledger.unsettled().await.unwrap();
    let reasons: Vec<LeftBehind> = left.iter().map(|left| left.left_behind()).collect();
    assert_eq!(reasons, [LeftBehind::Interrupted, LeftBehind::OutcomeUnknown]);
    assert_eq!(left[0].authority(), &AuthorityName::main());
    ledger.settle_nothing(left.pop().unwrap(), NOW).await.unwrap();
    ledger.settle_found(left.pop().unwrap(), certificates[0].clone(), NOW).await.unwrap();
    let found = Known::Certificate(certificates[0].clone());
    assert_eq!(all[1].recall(&ledger, NOW).await, found);
    // A row's number never means another intent: six were given.
    all[5].enrol(&ledger, NOW).await;
    let (_, body) = events(&ledger).await.pop().unwrap();
    assert_eq!(body["idempotency_key"], "issued:7");
    held(&ledger, 8, "device-8", 7).await;
}
