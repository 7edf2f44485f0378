//! What every store must do, by the public functions of a ledger alone.

use crate::support::*;
use core::time::Duration;
use scep_keys::SoftwareKey;
use scep_ledger::{
    Acknowledged, AdmitError, Delivery, DenialSubject, Denied, EffectiveNow, LedgerError,
    LedgerSettings, LeftBehind, RevocationReason, Standing,
};
use scep_types::{
    ChallengeId, ExtendedKeyUsages, GeneralName, KeyAlgorithm, KeyUsages, NameHash, Reason,
    Timestamp,
};
use std::sync::Arc;

/// Runs every function of the suite as a test against a store.
macro_rules! ledger_suite {
    ($backend:expr) => {
        suite::every_function! { suite::tests, $backend }
    };
}
pub(crate) use ledger_suite;

macro_rules! tests {
    ($backend:expr; $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                suite::$name(&$backend).await;
            }
        )*
    };
}
pub(crate) use tests;

/// Hands a store and the names of all functions to a macro.
macro_rules! every_function {
    ($module:ident::$then:ident, $backend:expr) => {
        $module::$then! {
            $backend;
            attack_07_a_challenge_gives_one_certificate
            attack_08_of_64_first_uses_at_once_one_is_admitted
            attack_09_a_retry_is_the_same_request_and_nothing_else
            attack_10_mismatches_spend_nothing_and_lock_at_ten
            attack_10_the_outbox_does_not_grow_at_a_strangers_will
            attack_19_a_clock_set_back_revives_nothing
            attack_19_a_challenge_is_over_when_it_has_expired
            attack_44_a_key_is_certified_for_one_device
            attack_44_a_key_that_may_become_certified_counts
            attack_52_an_intent_survives_a_restart_and_recovery_settles_it
            attack_53_what_recovery_finds_is_compared_with_what_was_approved
            attack_53_a_certificate_that_differs_is_never_released
            quirk_50_a_lost_reply_gets_its_certificate_again
            quirk_51_the_same_key_renewed_gets_a_new_certificate
            quirk_55_identical_requests_at_once_get_one_certificate
            quirk_56_an_expired_challenge_is_reported
            a_handed_back_challenge_is_free
            an_unknown_outcome_keeps_the_challenge
            a_dropped_obligation_stays_open
            a_certificate_of_another_approval_is_not_recorded
            an_intent_is_settled_once
            a_retry_is_over_with_its_window_its_certificate_or_its_device
            the_brake_holds_and_alarms_once_an_hour
            the_clocks_mark_is_mended_by_an_operator
            pruning_keeps_single_use_and_the_inventory
            an_idempotency_key_is_given_once
            the_outbox_is_numbered_without_gaps_until_acknowledged
            a_restored_backup_refuses_what_was_issued_before
            delivery_is_on_record_after_an_orderly_shutdown
            the_inventory_comes_in_pages_newest_first
            what_is_disabled_is_not_admitted
            the_counters_count
        }
    };
}
pub(crate) use every_function;

pub(crate) async fn attack_07_a_challenge_gives_one_certificate(backend: &impl Backend) {
    let ledger = backend.open();
    let id = ledger.id();
    let first = enrolment(1, "device-1", 1);
    let certificate = first.enrol(&ledger, NOW).await;
    let mut first_run = Some(ledger);
    for _ in ["before", "after a restart"] {
        let ledger = first_run.take().unwrap_or_else(|| backend.open());
        assert_eq!(ledger.id(), id);
        assert_eq!(first.refused(&ledger, after(1)).await, Reason::RequestInProgress);
        let other = first.with_key(2);
        assert_eq!(other.refused(&ledger, after(1)).await, Reason::ChallengeAlreadyUsed);
        assert_eq!(other.recall(&ledger, after(1)).await, Known::Nothing);
        let known = first.recall(&ledger, after(1)).await;
        assert_eq!(known, Known::Certificate(certificate.clone()));
        drop(ledger);
    }
    let ledger = backend.open();
    assert_eq!(kinds(&ledger).await, ["issued", "breach", "breach"]);
    // What the issuer knows the certificate and its challenge by.
    let (_, body) = &events(&ledger).await[0];
    let claims = &first.claims;
    for (fact, value) in [
        ("thumbprint_sha256", certificate.fingerprint().to_string()),
        ("serial", certificate.serial().unwrap().to_string()),
        ("issuer_sha256", NameHash::of(certificate.issuer_der()).to_string()),
        ("not_before", certificate.not_before().to_string()),
        ("not_after", certificate.not_after().to_string()),
        ("tenant", claims.tenant.to_string()),
        ("audience", claims.audience.to_string()),
        ("device", claims.device.to_string()),
        ("user", "user-7".to_owned()),
        ("profile", claims.profile.to_string()),
        ("challenge", claims.challenge_id.to_string()),
        ("signer_spki_sha256", signer().to_string()),
        ("spki_sha256", certificate.spki().hash().to_string()),
    ] {
        assert_eq!(body[fact], value, "{fact}");
    }
    let (_, body) = &events(&ledger).await[1];
    assert_eq!(body["challenge"], first.claims.challenge_id.to_string());
    assert_eq!(body["spki_sha256"], KEYS[2].public_key().hash().to_string());
    assert_eq!(ledger.inventory(10, None).await.unwrap().len(), 1);
}

pub(crate) async fn attack_08_of_64_first_uses_at_once_one_is_admitted(backend: &impl Backend) {
    let ledger = backend.open();
    let first = enrolment(1, "device-1", 0);
    let all: Vec<Arc<Enrolment>> = (0..8).map(|key| Arc::new(first.with_key(key))).collect();
    let tasks: Vec<_> = (0..64)
        .map(|n: usize| {
            let (ledger, enrolment) = (ledger.clone(), Arc::clone(&all[n % 8]));
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
}

pub(crate) async fn attack_09_a_retry_is_the_same_request_and_nothing_else(backend: &impl Backend) {
    let ledger = backend.open();
    let first = enrolment(1, "device-1", 1);
    first.enrol(&ledger, NOW).await;
    // Same transaction id, same names, same device: another key, or another challenge.
    assert_eq!(first.with_key(2).recall(&ledger, NOW).await, Known::Nothing);
    assert_eq!(enrolment(2, "device-1", 1).recall(&ledger, NOW).await, Known::Nothing);
}

fn denied<'a>(of: &'a Enrolment, reasons: &'a [Reason]) -> Denied<'a> {
    Denied {
        tenant: &of.claims.tenant,
        challenge: of.claims.challenge_id,
        device: &of.claims.device,
        profile: &of.claims.profile,
        expires_at: of.claims.expires_at,
        reasons,
        detail: r#"{"subject":"differs"}"#,
    }
}

pub(crate) async fn attack_10_mismatches_spend_nothing_and_lock_at_ten(backend: &impl Backend) {
    let ledger = backend.open();
    let reasons = [Reason::SubjectNameMismatch, Reason::KeyUsageMismatch];
    let locked = enrolment(1, "device-1", 1);
    let (tenant, challenge) = (tenant(), locked.claims.challenge_id);
    for n in 1..=9 {
        assert_eq!(ledger.count_mismatch(&denied(&locked, &reasons), NOW).await.unwrap(), n);
    }
    assert!(!ledger.locked(&tenant, challenge, NOW).await.unwrap());
    // Nine failures spend nothing.
    let (_permit, unsettled) = locked.admit(&ledger, NOW).await.unwrap().redeem();
    ledger.hand_back(unsettled, Reason::CaUnavailable, "down", NOW).await.unwrap();
    // The tenth locks, across a restart, until the challenge has expired.
    assert_eq!(ledger.count_mismatch(&denied(&locked, &reasons), NOW).await.unwrap(), 10);
    drop(ledger);
    let ledger = backend.open();
    assert!(ledger.locked(&tenant, challenge, NOW).await.unwrap());
    assert_eq!(locked.refused(&ledger, NOW).await, Reason::ChallengeLocked);
    assert!(!ledger.locked(&tenant, challenge, after(HOUR + 300)).await.unwrap());
    assert_eq!(locked.refused(&ledger, after(HOUR + 300)).await, Reason::ChallengeExpired);
    // Another challenge is not affected.
    let other = enrolment(2, "device-1", 1);
    assert!(!ledger.locked(&tenant, other.claims.challenge_id, NOW).await.unwrap());
    let (kind, body) = events(&ledger).await.swap_remove(0);
    assert_eq!(kind, "refused");
    assert_eq!(body["reasons"], serde_json::json!(["SubjectNameMismatch", "KeyUsageMismatch"]));
    assert_eq!(body["detail"]["subject"], "differs");
}

pub(crate) async fn attack_10_the_outbox_does_not_grow_at_a_strangers_will(backend: &impl Backend) {
    let ledger = backend.open();
    let reasons = [Reason::SubjectNameMismatch];
    let guessed = enrolment(1, "device-1", 1);
    for _ in 0..15 {
        ledger.count_mismatch(&denied(&guessed, &reasons), NOW).await.unwrap();
    }
    let used = enrolment(2, "device-2", 2);
    used.enrol(&ledger, NOW).await;
    let other = used.with_key(3);
    for _ in 0..15 {
        assert_eq!(other.refused(&ledger, NOW).await, Reason::ChallengeAlreadyUsed);
    }
    let kinds = kinds(&ledger).await;
    assert_eq!(kinds.iter().filter(|kind| *kind == "refused").count(), 10);
    assert_eq!(kinds.iter().filter(|kind| *kind == "breach").count(), 10);
}

pub(crate) async fn attack_19_a_clock_set_back_revives_nothing(backend: &impl Backend) {
    let ledger = backend.open();
    let on_time = |at| EffectiveNow { now: at, behind: None };
    assert_eq!(ledger.effective_now(NOW).await.unwrap(), on_time(NOW));
    assert_eq!(ledger.effective_now(after(600)).await.unwrap(), on_time(after(600)));
    // Within the tolerance: the mark counts, and nobody is alarmed.
    assert_eq!(ledger.effective_now(after(300)).await.unwrap(), on_time(after(600)));
    let behind = |by| EffectiveNow { now: after(600), behind: Some(Duration::from_secs(by)) };
    assert_eq!(ledger.effective_now(after(299)).await.unwrap(), behind(301));
    drop(ledger);
    // After a restart, although nothing else was written.
    let ledger = backend.open();
    assert_eq!(ledger.effective_now(NOW).await.unwrap(), behind(600));
    // The mark is durable with every commit, to the second.
    ledger.effective_now(after(659)).await.unwrap();
    let reasons = [Reason::SubjectNameMismatch];
    let guessed = enrolment(1, "device-1", 1);
    ledger.count_mismatch(&denied(&guessed, &reasons), after(659)).await.unwrap();
    drop(ledger);
    let ledger = backend.open();
    assert_eq!(ledger.effective_now(NOW).await.unwrap().now, after(659));
}

pub(crate) async fn attack_19_a_challenge_is_over_when_it_has_expired(backend: &impl Backend) {
    let ledger = backend.open();
    let first = enrolment(1, "device-1", 1);
    assert_eq!(first.refused(&ledger, after(HOUR + 300)).await, Reason::ChallengeExpired);
    assert!(first.admit(&ledger, after(HOUR + 299)).await.is_ok());
}

pub(crate) async fn attack_44_a_key_is_certified_for_one_device(backend: &impl Backend) {
    let ledger = backend.open();
    enrolment(1, "device-1", 1).enrol(&ledger, NOW).await;
    let thief = enrolment(2, "device-2", 1);
    assert_eq!(thief.refused(&ledger, NOW).await, Reason::KeyAlreadyCertified);
    // The challenge is not spent, and the device itself may have another certificate for its key.
    thief.with_key(2).enrol(&ledger, NOW).await;
    enrolment(3, "device-1", 1).enrol(&ledger, NOW).await;
    assert_eq!(kinds(&ledger).await, ["issued", "refused", "issued", "issued"]);
    let (_, body) = &events(&ledger).await[1];
    assert_eq!(body["reasons"], serde_json::json!(["KeyAlreadyCertified"]));
}

pub(crate) async fn attack_44_a_key_that_may_become_certified_counts(backend: &impl Backend) {
    let ledger = backend.open();
    let (_permit, unsettled) =
        enrolment(1, "device-1", 1).admit(&ledger, NOW).await.unwrap().redeem();
    let other = enrolment(2, "device-2", 1);
    assert_eq!(other.refused(&ledger, NOW).await, Reason::KeyAlreadyCertified);
    ledger.leave_unknown(unsettled, "timeout", NOW).await.unwrap();
    assert_eq!(other.refused(&ledger, NOW).await, Reason::KeyAlreadyCertified);
    let left = ledger.unsettled().await.unwrap().swap_remove(0);
    ledger.settle_orphan(left, "the CA cannot tell", NOW).await.unwrap();
    assert_eq!(other.refused(&ledger, NOW).await, Reason::KeyAlreadyCertified);
    // A key that was not certified is free again.
    let third = enrolment(3, "device-3", 3);
    let (_permit, unsettled) = third.admit(&ledger, NOW).await.unwrap().redeem();
    ledger.hand_back(unsettled, Reason::CaUnavailable, "down", NOW).await.unwrap();
    enrolment(4, "device-4", 3).enrol(&ledger, NOW).await;
}

pub(crate) async fn attack_52_an_intent_survives_a_restart_and_recovery_settles_it(
    backend: &impl Backend,
) {
    let ledger = backend.open();
    let (found, nothing, lost) =
        (enrolment(1, "device-1", 1), enrolment(2, "device-2", 2), enrolment(3, "device-3", 3));
    let (permit, _unsettled) = found.admit(&ledger, NOW).await.unwrap().redeem();
    let certificate = issue(permit.contents(), permit.serial().unwrap());
    let _admission = nothing.admit(&ledger, NOW).await.unwrap();
    let (_permit, _unsettled) = lost.admit(&ledger, NOW).await.unwrap().redeem();
    // What this process works on is not for recovery.
    assert!(ledger.unsettled().await.unwrap().is_empty());
    drop(ledger);

    let ledger = backend.open();
    assert_eq!(found.recall(&ledger, NOW).await, Known::InProgress);
    assert_eq!(found.refused(&ledger, NOW).await, Reason::RequestInProgress);
    let mut left = ledger.unsettled().await.unwrap().into_iter();
    let (first, second, third) = (left.next().unwrap(), left.next().unwrap(), left.next().unwrap());
    assert!(left.next().is_none());
    assert_eq!(first.serial(), permit.serial());
    assert_eq!(first.spki(), KEYS[1].public_key());
    assert_eq!(first.challenge(), (&tenant(), found.claims.challenge_id));
    assert_eq!((first.device(), first.profile()), (&found.claims.device, &found.claims.profile));
    assert_eq!((first.admitted_at(), first.left_behind()), (NOW, LeftBehind::Interrupted));
    let standing = ledger.settle_found(first, certificate.clone(), after(60)).await.unwrap();
    assert_eq!(standing, Standing::Issued);
    ledger.settle_nothing(second, after(60)).await.unwrap();
    ledger.settle_orphan(third, "the CA keeps no list", after(60)).await.unwrap();
    drop(ledger);

    let ledger = backend.open();
    assert!(ledger.unsettled().await.unwrap().is_empty());
    assert_eq!(found.recall(&ledger, after(61)).await, Known::Certificate(certificate));
    assert_eq!(lost.recall(&ledger, after(61)).await, Known::Over(Reason::CaOutcomeUnknown));
    assert_eq!(lost.refused(&ledger, after(61)).await, Reason::ChallengeAlreadyUsed);
    assert_eq!(nothing.recall(&ledger, after(61)).await, Known::Nothing);
    nothing.enrol(&ledger, after(61)).await;
    assert_eq!(kinds(&ledger).await, ["issued", "failed", "possible-orphan", "issued"]);
    let events = events(&ledger).await;
    assert_eq!(events[0].1["recovered"], true);
    assert_eq!(events[3].1["recovered"], false);
}

pub(crate) async fn attack_53_what_recovery_finds_is_compared_with_what_was_approved(
    backend: &impl Backend,
) {
    let ledger = backend.open();
    let first = enrolment(1, "device-1", 1);
    let (permit, unsettled) = first.admit(&ledger, NOW).await.unwrap().redeem();
    ledger.leave_unknown(unsettled, "timeout", NOW).await.unwrap();
    let contents = permit.contents();
    let (serial, other) = (permit.serial().unwrap(), serial(99));

    // Another certificate than the one looked for.
    let wrong_serial = issue(contents, &other);
    let left = ledger.unsettled().await.unwrap().swap_remove(0);
    assert_eq!(left.left_behind(), LeftBehind::OutcomeUnknown);
    let result = ledger.settle_found(left, wrong_serial, NOW).await;
    assert_eq!(result, Err(LedgerError::Mismatch));
    let mut wrong_key = contents.clone();
    wrong_key.spki = KEYS[2].public_key().clone();
    let left = ledger.unsettled().await.unwrap().swap_remove(0);
    let result = ledger.settle_found(left, issue(&wrong_key, serial), NOW).await;
    assert_eq!(result, Err(LedgerError::Mismatch));

    // The one looked for, but with other contents; each change alone.
    let second = Duration::from_secs(1);
    let hour = Duration::from_secs(HOUR);
    type Change<'a> = &'a dyn Fn(&mut Draft);
    let changes: [(&str, Change<'_>); 13] = [
        ("its subject differs", &|d| d.contents.subject = "CN=admin".parse().unwrap()),
        ("its subject is its issuer", &|d| d.issuer = d.contents.subject.clone()),
        ("its validity is not", &|d| d.contents.not_after = d.contents.not_after.plus(second)),
        ("its validity is not", &|d| {
            d.contents.not_before = d.contents.not_before.minus(hour).minus(second);
        }),
        ("its validity is not", &|d| d.contents.not_after = d.contents.not_before),
        ("its subjectAltNames differ", &|d| {
            d.contents.subject_alt_names.push(GeneralName::dns("admin.example.org").unwrap());
        }),
        ("its subjectAltNames differ", &|d| d.contents.subject_alt_names.clear()),
        ("its key usage differs", &|d| d.contents.key_usage = KeyUsages::KEY_CERT_SIGN),
        ("its extended key usages differ", &|d| {
            let server = ExtendedKeyUsages::purpose("serverAuth").unwrap();
            d.contents.extended_key_usages = ExtendedKeyUsages::new(vec![server]).unwrap();
        }),
        ("it is a CA's certificate", &|d| {
            let ca = [0x30, 0x03, 0x01, 0x01, 0xff];
            d.extensions.push(critical_extension("2.5.29.19", &ca));
        }),
        ("extension 2.5.29.32", &|d| d.extensions.push(extension("2.5.29.32", &[0x30, 0]))),
        ("extension 2.5.29.14", &|d| d.extensions.push(d.extensions[0].clone())),
        ("extension 2.5.29.35", &|d| {
            d.extensions.push(critical_extension("2.5.29.35", &[0x30, 0]));
        }),
    ];
    for (n, (difference, change)) in (10..).zip(changes) {
        let other = enrolment(n, "device-1", 1);
        let (permit, unsettled) = other.admit(&ledger, NOW).await.unwrap().redeem();
        drop(unsettled);
        let mut draft = Draft::of(permit.contents());
        change(&mut draft);
        let mut left = ledger.unsettled().await.unwrap().into_iter();
        let left = left.rfind(|l| l.serial() == permit.serial()).unwrap();
        let certificate = draft.sign(permit.serial().unwrap());
        let standing = ledger.settle_found(left, certificate, NOW).await.unwrap();
        assert_eq!(standing, Standing::Withheld, "{difference}");
        assert_eq!(other.recall(&ledger, NOW).await, Known::Over(Reason::CertificateDiffers));
        let (kind, body) = events(&ledger).await.pop().unwrap();
        assert_eq!(kind, "withheld");
        assert!(body["detail"].as_str().unwrap().contains(difference), "{body}");
    }
    // And the one that conforms, backdated by an hour as remote CAs do.
    let mut draft = Draft::of(contents);
    draft.contents.not_before = contents.not_before.minus(hour);
    let found = draft.sign(serial);
    let left = ledger.unsettled().await.unwrap().swap_remove(0);
    let standing = ledger.settle_found(left, found.clone(), NOW).await.unwrap();
    assert_eq!(standing, Standing::Issued);
    assert_eq!(first.recall(&ledger, NOW).await, Known::Certificate(found));
}

pub(crate) async fn attack_53_a_certificate_that_differs_is_never_released(backend: &impl Backend) {
    let ledger = backend.open();
    let first = enrolment(1, "device-1", 1);
    let (permit, unsettled) = first.admit(&ledger, NOW).await.unwrap().redeem();
    let mut widened = permit.contents().clone();
    widened.subject_alt_names.push(GeneralName::dns("admin.example.org").unwrap());
    let certificate = issue(&widened, permit.serial().unwrap());
    assert!(unsettled.approval().check_certificate(&certificate).is_err());
    ledger.withhold(unsettled, &certificate, "subjectAltName", NOW).await.unwrap();
    let mut first_run = Some(ledger);
    for _ in ["before", "after a restart"] {
        let ledger = first_run.take().unwrap_or_else(|| backend.open());
        assert_eq!(first.recall(&ledger, NOW).await, Known::Over(Reason::CertificateDiffers));
        assert_eq!(first.refused(&ledger, NOW).await, Reason::ChallengeAlreadyUsed);
        let live = ledger.live_certificate(certificate.fingerprint(), NOW).await.unwrap();
        assert_eq!(live, None);
        let kept = ledger.inventory(10, None).await.unwrap().swap_remove(0);
        assert_eq!((kept.standing, &kept.certificate), (Standing::Withheld, &certificate));
        drop(ledger);
    }
    assert_eq!(kinds(&backend.open()).await, ["withheld"]);
}

pub(crate) async fn quirk_50_a_lost_reply_gets_its_certificate_again(backend: &impl Backend) {
    let ledger = backend.open();
    let first = enrolment(1, "device-1", 1);
    let certificate = first.enrol(&ledger, NOW).await;
    ledger.sent(certificate.fingerprint(), Delivery::ConnectionLost, NOW).await.unwrap();
    drop(ledger);
    let ledger = backend.open();
    // The recall knows no transaction id, and the challenge has expired long ago.
    for at in [NOW, after(HOUR + 301), after(DAY)] {
        assert_eq!(first.recall(&ledger, at).await, Known::Certificate(certificate.clone()));
    }
    assert_eq!(kinds(&ledger).await, ["issued", "delivery"]);
}

pub(crate) async fn quirk_51_the_same_key_renewed_gets_a_new_certificate(backend: &impl Backend) {
    let ledger = backend.open();
    let old = enrolment(1, "device-1", 1).enrol(&ledger, NOW).await;
    // The transaction id is the same too: clients derive it from the key.
    let renewal = enrolment(2, "device-1", 1);
    assert_eq!(renewal.recall(&ledger, after(60)).await, Known::Nothing);
    assert_ne!(renewal.enrol(&ledger, after(60)).await, old);
}

pub(crate) async fn quirk_55_identical_requests_at_once_get_one_certificate(
    backend: &impl Backend,
) {
    let ledger = backend.open();
    let first = Arc::new(enrolment(1, "device-1", 1));
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let (ledger, first) = (ledger.clone(), Arc::clone(&first));
            tokio::spawn(async move { first.admit(&ledger, NOW).await })
        })
        .collect();
    let mut admitted = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(admission) => admitted.push(admission),
            Err(error) => assert_eq!(error, AdmitError::Refused(Reason::RequestInProgress)),
        }
    }
    assert_eq!(first.recall(&ledger, NOW).await, Known::InProgress);
    let (permit, unsettled) = admitted.pop().unwrap().redeem();
    assert!(admitted.is_empty());
    let certificate = issue(permit.contents(), permit.serial().unwrap());
    let conforming = unsettled.approval().check_certificate(&certificate).unwrap();
    let releasable = ledger.record(unsettled, conforming, NOW).await.unwrap();
    for _ in 0..8 {
        assert_eq!(first.recall(&ledger, NOW).await, Known::of(&releasable));
    }
    assert_eq!(kinds(&ledger).await, ["issued"]);
}

pub(crate) async fn quirk_56_an_expired_challenge_is_reported(backend: &impl Backend) {
    let ledger = backend.open();
    let late = enrolment(1, "device-1", 1);
    let reasons = [Reason::ChallengeExpired];
    ledger.count_mismatch(&denied(&late, &reasons), after(2 * HOUR)).await.unwrap();
    let (kind, body) = events(&ledger).await.swap_remove(0);
    assert_eq!(kind, "refused");
    assert_eq!(body["reasons"], serde_json::json!(["ChallengeExpired"]));
    assert_eq!(body["device"], "device-1");
}

pub(crate) async fn a_handed_back_challenge_is_free(backend: &impl Backend) {
    let ledger = backend.open();
    let first = enrolment(1, "device-1", 1);
    for round in 0..2 {
        let (_permit, unsettled) = first.admit(&ledger, NOW).await.unwrap().redeem();
        let detail = format!("down {round}");
        ledger.hand_back(unsettled, Reason::CaUnavailable, &detail, NOW).await.unwrap();
        assert_eq!(first.recall(&ledger, NOW).await, Known::Nothing);
    }
    drop(ledger);
    let ledger = backend.open();
    assert!(ledger.unsettled().await.unwrap().is_empty());
    // Another matching request of the same device may have it too.
    first.with_key(2).enrol(&ledger, NOW).await;
    assert_eq!(first.refused(&ledger, NOW).await, Reason::ChallengeAlreadyUsed);
    let events = events(&ledger).await;
    let keys: Vec<_> = events.iter().map(|(_, body)| body["idempotency_key"].clone()).collect();
    assert_ne!(keys[0], keys[1]);
    assert_eq!(events[1].0, "failed");
    assert_eq!(events[1].1["reason"], "CaUnavailable");
    assert_eq!(events[1].1["detail"], "down 1");
}

pub(crate) async fn an_unknown_outcome_keeps_the_challenge(backend: &impl Backend) {
    let ledger = backend.open();
    let first = enrolment(1, "device-1", 1);
    let (permit, unsettled) = first.admit(&ledger, NOW).await.unwrap().redeem();
    ledger.leave_unknown(unsettled, "timeout", NOW).await.unwrap();
    let mut first_run = Some(ledger);
    for _ in ["before", "after a restart"] {
        let ledger = first_run.take().unwrap_or_else(|| backend.open());
        assert_eq!(first.recall(&ledger, NOW).await, Known::InProgress);
        assert_eq!(first.refused(&ledger, NOW).await, Reason::RequestInProgress);
        let other = first.with_key(2);
        assert_eq!(other.refused(&ledger, NOW).await, Reason::ChallengeAlreadyUsed);
        assert_eq!(ledger.unsettled().await.unwrap().len(), 1);
        drop(ledger);
    }
    // Only its settlement is reported, and then the retry gets it, a full window long.
    let ledger = backend.open();
    let certificate = issue(permit.contents(), permit.serial().unwrap());
    let left = ledger.unsettled().await.unwrap().swap_remove(0);
    ledger.settle_found(left, certificate.clone(), after(2 * HOUR)).await.unwrap();
    let known = first.recall(&ledger, after(2 * HOUR + DAY)).await;
    assert_eq!(known, Known::Certificate(certificate));
    assert_eq!(kinds(&ledger).await, ["breach", "breach", "issued"]);
}

pub(crate) async fn a_dropped_obligation_stays_open(backend: &impl Backend) {
    let ledger = backend.open();
    let (admitted, redeemed) = (enrolment(1, "device-1", 1), enrolment(2, "device-2", 2));
    drop(admitted.admit(&ledger, NOW).await.unwrap());
    let (permit, unsettled) = redeemed.admit(&ledger, NOW).await.unwrap().redeem();
    assert_eq!(ledger.unsettled().await.unwrap().len(), 1);
    drop(unsettled);
    assert_eq!(ledger.unsettled().await.unwrap().len(), 2);
    drop(permit);
    assert_eq!(redeemed.recall(&ledger, NOW).await, Known::InProgress);
}

pub(crate) async fn a_certificate_of_another_approval_is_not_recorded(backend: &impl Backend) {
    let ledger = backend.open();
    let (one, two) = (enrolment(1, "device-1", 1), enrolment(2, "device-1", 1));
    let (_, first) = one.admit(&ledger, NOW).await.unwrap().redeem();
    let (permit, second) = two.admit(&ledger, NOW).await.unwrap().redeem();
    let certificate = issue(permit.contents(), permit.serial().unwrap());
    let conforming = second.approval().check_certificate(&certificate).unwrap();
    let error = ledger.record(first, conforming, NOW).await.unwrap_err();
    assert_eq!(error, LedgerError::Mismatch);
    assert_eq!(error.reason(), Reason::InternalError);
    assert_eq!(one.recall(&ledger, NOW).await, Known::InProgress);
    assert!(ledger.inventory(10, None).await.unwrap().is_empty());
}

pub(crate) async fn an_intent_is_settled_once(backend: &impl Backend) {
    let ledger = backend.open();
    let first = enrolment(1, "device-1", 1);
    let (permit, unsettled) = first.admit(&ledger, NOW).await.unwrap().redeem();
    drop(unsettled);
    let one = ledger.unsettled().await.unwrap().swap_remove(0);
    let two = ledger.unsettled().await.unwrap().swap_remove(0);
    ledger.settle_nothing(one, NOW).await.unwrap();
    // The challenge is in use again when the slower recovery comes: its finding is of another intent.
    let (_permit, again) = first.admit(&ledger, NOW).await.unwrap().redeem();
    let certificate = issue(permit.contents(), permit.serial().unwrap());
    let result = ledger.settle_found(two, certificate, NOW).await;
    assert_eq!(result, Err(LedgerError::AlreadySettled));
    assert!(ledger.inventory(10, None).await.unwrap().is_empty());
    ledger.hand_back(again, Reason::CaUnavailable, "", NOW).await.unwrap();
    assert_eq!(kinds(&ledger).await, ["failed", "failed"]);
    assert_eq!(ledger.counters().await.unwrap().issued, 0);
}

pub(crate) async fn a_retry_is_over_with_its_window_its_certificate_or_its_device(
    backend: &impl Backend,
) {
    let ledger = backend.open();
    let first = enrolment(1, "device-1", 1);
    let certificate = first.enrol(&ledger, after(60)).await;
    let known = Known::Certificate(certificate.clone());
    assert_eq!(first.recall(&ledger, after(60 + DAY)).await, known);
    let over = Known::Over(Reason::ChallengeExpired);
    assert_eq!(first.recall(&ledger, after(61 + DAY)).await, over);

    let (device, user, profile) = (
        DenialSubject::Device(tenant(), first.claims.device.clone()),
        DenialSubject::User(tenant(), first.claims.user.clone().unwrap()),
        DenialSubject::Profile(tenant(), first.claims.profile.clone()),
    );
    for subject in [device, user, profile] {
        ledger.deny(subject.clone(), NOW).await.unwrap();
        let denied = Known::Over(Reason::ScepProfileNoLongerTargetedToTheClient);
        assert_eq!(first.recall(&ledger, after(60)).await, denied);
        ledger.allow(subject).await.unwrap();
        assert_eq!(first.recall(&ledger, after(60)).await, known);
    }

    let fingerprint = certificate.fingerprint();
    ledger.mark_revoked(fingerprint, RevocationReason::KeyCompromise, NOW).await.unwrap();
    assert_eq!(first.recall(&ledger, after(60)).await, over);
    // A second revocation changes and reports nothing.
    ledger.mark_revoked(fingerprint, RevocationReason::Superseded, after(9)).await.unwrap();
    let entry = ledger.inventory(1, None).await.unwrap().swap_remove(0);
    assert_eq!(entry.revocation_reason, Some(RevocationReason::KeyCompromise));
    assert_eq!(kinds(&ledger).await, ["issued", "revoked"]);
    let unknown = scep_types::CertificateFingerprint::from_bytes([0; 32]);
    let result = ledger.mark_revoked(unknown, RevocationReason::Unspecified, NOW).await;
    assert_eq!(result, Err(LedgerError::NoSuchCertificate));

    // An hour's certificate is of no use to a retry of the next day.
    let id = ChallengeId::from_bytes([2; 16]);
    let short = enrolment_with(id, "device-2", &KEYS[2], 60, HOUR);
    let certificate = short.enrol(&ledger, NOW).await;
    let end = certificate.not_after();
    assert_eq!(short.recall(&ledger, end).await, Known::Certificate(certificate));
    assert_eq!(short.recall(&ledger, end.plus(Duration::from_secs(1))).await, over);
}

pub(crate) async fn the_brake_holds_and_alarms_once_an_hour(backend: &impl Backend) {
    let ledger = backend.open();
    let keys: Vec<SoftwareKey> =
        (0..5).map(|_| SoftwareKey::generate(KeyAlgorithm::P256).unwrap()).collect();
    let braked = |n: u8| {
        let id = ChallengeId::from_bytes([n; 16]);
        enrolment_with(id, &format!("device-{n}"), &keys[usize::from(n)], 2, 365 * DAY)
    };
    braked(0).enrol(&ledger, NOW).await;
    // What was not issued does not count.
    let (_permit, unsettled) = braked(1).admit(&ledger, NOW).await.unwrap().redeem();
    ledger.hand_back(unsettled, Reason::CaUnavailable, "", NOW).await.unwrap();
    braked(2).enrol(&ledger, after(60)).await;
    for _ in 0..3 {
        assert_eq!(braked(3).refused(&ledger, after(61)).await, Reason::IssuanceBrakeEngaged);
    }
    drop(ledger);
    let ledger = backend.open();
    assert_eq!(braked(3).refused(&ledger, after(3_600)).await, Reason::IssuanceBrakeEngaged);
    assert_eq!(kinds(&ledger).await, ["issued", "failed", "issued", "brake-engaged"]);
    // The challenge was not spent, and the first certificate's hour is over.
    braked(3).enrol(&ledger, after(3_661)).await;
    assert_eq!(braked(4).refused(&ledger, after(3_661)).await, Reason::IssuanceBrakeEngaged);
    assert_eq!(kinds(&ledger).await[4..], ["issued", "brake-engaged"]);
}

pub(crate) async fn the_clocks_mark_is_mended_by_an_operator(backend: &impl Backend) {
    let ledger = backend.open();
    let year = Duration::from_secs(365 * DAY);
    let spoilt = ledger.effective_now(NOW.plus(year)).await.unwrap().now;
    assert_eq!(ledger.effective_now(NOW).await.unwrap().behind, Some(year));
    ledger.clock_reset(NOW, "alice").await.unwrap();
    let mut first_run = Some(ledger);
    for _ in ["before", "after a restart"] {
        let ledger = first_run.take().unwrap_or_else(|| backend.open());
        let mended = EffectiveNow { now: after(5), behind: None };
        assert_eq!(ledger.effective_now(after(5)).await.unwrap(), mended);
        // The next commit does not bring the old mark back.
        ledger.deny(DenialSubject::Profile(tenant(), "p".parse().unwrap()), NOW).await.unwrap();
        drop(ledger);
    }
    let ledger = backend.open();
    assert_eq!(ledger.effective_now(NOW).await.unwrap().now, after(5));
    let (kind, body) = events(&ledger).await.swap_remove(0);
    assert_eq!(kind, "clock-reset");
    assert_eq!(body["operator"], "alice");
    assert_eq!(body["from"], spoilt.to_string());
    assert_eq!(body["to"], NOW.to_string());
}

pub(crate) async fn pruning_keeps_single_use_and_the_inventory(backend: &impl Backend) {
    let ledger = backend.open();
    let used = enrolment(1, "device-1", 1);
    let certificate = used.enrol(&ledger, NOW).await;
    let reasons = [Reason::SubjectNameMismatch];
    let guessed = enrolment(2, "device-2", 2);
    ledger.count_mismatch(&denied(&guessed, &reasons), NOW).await.unwrap();
    let (_permit, open) = enrolment(3, "device-3", 3).admit(&ledger, NOW).await.unwrap().redeem();
    ledger.leave_unknown(open, "timeout", NOW).await.unwrap();
    let late = enrolment(4, "device-4", 4);
    let (permit, open) = late.admit(&ledger, NOW).await.unwrap().redeem();
    drop(open);

    let over = after(HOUR + 300 + DAY);
    assert_eq!(ledger.prune(over).await, Ok(0));
    // Recorded by recovery only now: its window is not over.
    let left = ledger.unsettled().await.unwrap().swap_remove(1);
    let found = issue(permit.contents(), permit.serial().unwrap());
    ledger.settle_found(left, found.clone(), over).await.unwrap();
    assert_eq!(ledger.prune(over.plus(Duration::from_secs(1))).await, Ok(2));
    assert_eq!(late.recall(&ledger, over).await, Known::Certificate(found));

    // The use is forgotten and the certificate is not; the intent without an outcome stays.
    assert_eq!(used.recall(&ledger, over).await, Known::Nothing);
    let kept = ledger.inventory(10, None).await.unwrap();
    assert!(kept.iter().any(|entry| entry.certificate == certificate));
    assert_eq!(ledger.unsettled().await.unwrap().len(), 1);
    drop(ledger);
    // Even after an operator has set the mark back to when the challenge was good, it stays used. A challenge that
    // ends later than everything forgotten is not affected.
    let ledger = backend.open();
    ledger.clock_reset(NOW, "alice").await.unwrap();
    assert_eq!(used.refused(&ledger, NOW).await, Reason::ChallengeExpired);
    let mut claims = enrolment(5, "device-5", 5).claims;
    claims.issued_at = after(1);
    claims.expires_at = after(HOUR + 1);
    sealed(claims, &KEYS[5], 60).enrol(&ledger, NOW).await;
}

pub(crate) async fn an_idempotency_key_is_given_once(backend: &impl Backend) {
    let ledger = backend.open();
    enrolment(1, "device-1", 1).enrol(&ledger, NOW).await;
    assert_eq!(ledger.prune(after(2 * DAY)).await, Ok(1));
    let mut claims = enrolment(2, "device-2", 2).claims;
    claims.issued_at = after(1);
    claims.expires_at = after(HOUR + 1);
    sealed(claims, &KEYS[2], 60).enrol(&ledger, NOW).await;
    let events = events(&ledger).await;
    assert_ne!(events[0].1["idempotency_key"], events[1].1["idempotency_key"]);
}

pub(crate) async fn the_outbox_is_numbered_without_gaps_until_acknowledged(backend: &impl Backend) {
    let ledger = backend.open();
    let reasons = [Reason::SubjectNameMismatch];
    let first = enrolment(1, "device-1", 1);
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let ledger = ledger.clone();
            let of = enrolment(n, &format!("device-{n}"), usize::from(n));
            tokio::spawn(async move {
                let reasons = [Reason::SubjectNameMismatch];
                ledger.count_mismatch(&denied(&of, &reasons), NOW).await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let sequences = |events: Vec<scep_ledger::OutboxEvent>| -> Vec<u64> {
        events.into_iter().map(|event| event.sequence).collect()
    };
    assert_eq!(sequences(ledger.outbox(0, 100).await.unwrap()), (1..=8).collect::<Vec<_>>());
    assert_eq!(sequences(ledger.outbox(2, 3).await.unwrap()), [3, 4, 5]);
    assert_eq!(ledger.acknowledge(5, NOW).await, Ok(Acknowledged::Known));
    assert_eq!(sequences(ledger.outbox(0, 100).await.unwrap()), [6, 7, 8]);
    ledger.acknowledge(8, NOW).await.unwrap();
    // Repeated or late acknowledgements change nothing.
    ledger.acknowledge(3, NOW).await.unwrap();
    drop(ledger);
    let ledger = backend.open();
    ledger.count_mismatch(&denied(&first, &reasons), NOW).await.unwrap();
    let event = ledger.outbox(0, 100).await.unwrap().swap_remove(0);
    assert_eq!((event.sequence, event.at), (9, NOW));
    assert_eq!((event.tenant, event.device), (Some(tenant()), Some(first.claims.device)));
}

pub(crate) async fn a_restored_backup_refuses_what_was_issued_before(backend: &impl Backend) {
    let ledger = backend.open();
    let reasons = [Reason::SubjectNameMismatch];
    let old = enrolment(1, "device-1", 1);
    for _ in 0..2 {
        ledger.count_mismatch(&denied(&old, &reasons), NOW).await.unwrap();
    }
    let last = 2;
    let far = last + (1 << 32) + 1;
    let implausible = LedgerError::Implausible { acknowledged: far, last };
    assert_eq!(ledger.acknowledge(far, NOW).await, Err(implausible));
    let noticed = Acknowledged::RestoreNoticed { last };
    assert_eq!(ledger.acknowledge(7, after(60)).await, Ok(noticed));
    drop(ledger);
    let ledger = backend.open();
    assert_eq!(old.refused(&ledger, after(61)).await, Reason::ChallengeBeforeRestore);
    // The events that the issuer may lack are sent again, under numbers that it does not know.
    let outbox = ledger.outbox(0, 10).await.unwrap();
    let numbers: Vec<_> = outbox.iter().map(|event| event.sequence).collect();
    assert_eq!(numbers, [8, 9, 10]);
    assert_eq!(kinds(&ledger).await, ["refused", "refused", "restored"]);
    assert!(outbox[0].idempotency_key.ends_with(":1"));
    assert_eq!(ledger.acknowledge(10, after(60)).await, Ok(Acknowledged::Known));
    assert!(ledger.outbox(0, 10).await.unwrap().is_empty());
    // What was issued since is as good as ever.
    let mut claims = enrolment(2, "device-2", 2).claims;
    claims.issued_at = after(61);
    sealed(claims, &KEYS[2], 60).enrol(&ledger, after(61)).await;
    assert_eq!(ledger.outbox(0, 10).await.unwrap()[0].sequence, 11);
    // A ledger whose outbox is empty learns it too.
    ledger.acknowledge(11, after(62)).await.unwrap();
    let noticed = Acknowledged::RestoreNoticed { last: 11 };
    assert_eq!(ledger.acknowledge(20, after(62)).await, Ok(noticed));
    assert_eq!(ledger.outbox(0, 10).await.unwrap()[0].sequence, 21);
}

pub(crate) async fn delivery_is_on_record_after_an_orderly_shutdown(backend: &impl Backend) {
    let ledger = backend.open();
    let certificate = enrolment(1, "device-1", 1).enrol(&ledger, NOW).await;
    let fingerprint = certificate.fingerprint();
    let delivered = async |ledger: &scep_ledger::Ledger| {
        ledger.inventory(1, None).await.unwrap().swap_remove(0).delivered
    };
    assert_eq!(delivered(&ledger).await, None);
    ledger.sent(fingerprint, Delivery::ConnectionLost, NOW).await.unwrap();
    drop(ledger);
    let ledger = backend.open();
    assert_eq!(delivered(&ledger).await, Some(Delivery::ConnectionLost));
    ledger.sent(fingerprint, Delivery::Flushed, NOW).await.unwrap();
    ledger.sent(fingerprint, Delivery::ConnectionLost, NOW).await.unwrap();
    ledger.sent(fingerprint, Delivery::Flushed, NOW).await.unwrap();
    ledger.flush().await.unwrap();
    assert_eq!(delivered(&ledger).await, Some(Delivery::Flushed));
    assert_eq!(ledger.counters().await.unwrap().delivered, 1);
    let events = events(&ledger).await;
    let replies: Vec<_> = events.iter().map(|(_, body)| body["reply"].as_str()).collect();
    assert_eq!(replies, [None, Some("connection-lost"), Some("flushed")]);
}

pub(crate) async fn the_inventory_comes_in_pages_newest_first(backend: &impl Backend) {
    let ledger = backend.open();
    let mut issued = Vec::new();
    for n in 1..=5 {
        let of = enrolment(n, &format!("device-{n}"), usize::from(n));
        issued.insert(0, of.enrol(&ledger, NOW).await);
    }
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = ledger.inventory(2, before).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.row);
        assert!(page.len() <= 2);
        seen.extend(page.into_iter().map(|entry| entry.certificate));
    }
    assert_eq!(seen, issued);

    let newest = &issued[0];
    let live = ledger.live_certificate(newest.fingerprint(), NOW).await.unwrap().unwrap();
    assert_eq!(&live.certificate, newest);
    assert_eq!(live.device.as_str(), "device-5");
    assert_eq!(live.user.as_ref().map(scep_types::UserId::as_str), Some("user-7"));
    assert_eq!((live.transaction, live.signer), (transaction("T1"), signer()));
    assert_eq!((live.issued_at, live.standing), (NOW, Standing::Issued));
    let is_live = async |at: Timestamp| {
        ledger.live_certificate(newest.fingerprint(), at).await.unwrap().is_some()
    };
    let second = Duration::from_secs(1);
    assert!(is_live(newest.not_before()).await && is_live(newest.not_after()).await);
    assert!(!is_live(newest.not_before().minus(second)).await);
    assert!(!is_live(newest.not_after().plus(second)).await);
    let revoked = issued[1].fingerprint();
    ledger.mark_revoked(revoked, RevocationReason::Superseded, NOW).await.unwrap();
    assert_eq!(ledger.live_certificate(revoked, NOW).await.unwrap(), None);
}

pub(crate) async fn what_is_disabled_is_not_admitted(backend: &impl Backend) {
    let ledger = backend.open();
    let first = enrolment(1, "device-1", 1);
    let (device, user, profile) = (
        DenialSubject::Device(tenant(), first.claims.device.clone()),
        DenialSubject::User(tenant(), first.claims.user.clone().unwrap()),
        DenialSubject::Profile(tenant(), first.claims.profile.clone()),
    );
    for subject in [&device, &user, &profile] {
        ledger.deny(subject.clone(), NOW).await.unwrap();
        let reason = Reason::ScepProfileNoLongerTargetedToTheClient;
        assert_eq!(first.refused(&ledger, NOW).await, reason);
        ledger.allow(subject.clone()).await.unwrap();
    }
    // Ids of other kinds and other tenants are other ids.
    for subject in [
        DenialSubject::User(tenant(), "device-1".parse().unwrap()),
        DenialSubject::Device("other".parse().unwrap(), first.claims.device.clone()),
    ] {
        ledger.deny(subject, NOW).await.unwrap();
    }
    ledger.deny(device.clone(), NOW).await.unwrap();
    ledger.deny(device, after(1)).await.unwrap();
    drop(ledger);
    let ledger = backend.open();
    let denials = ledger.denials().await.unwrap();
    assert_eq!((denials.devices.len(), denials.users.len(), denials.profiles.len()), (2, 1, 0));
    assert!(denials.devices.contains(&(tenant(), first.claims.device.clone())));
    ledger.allow(DenialSubject::Device(tenant(), first.claims.device.clone())).await.unwrap();
    first.enrol(&ledger, NOW).await;
}

pub(crate) async fn the_counters_count(backend: &impl Backend) {
    let ledger = backend.open_with(LedgerSettings { max_mismatches: 1, ..Default::default() });
    let certificate = enrolment(1, "device-1", 1).enrol(&ledger, NOW).await;
    ledger.sent(certificate.fingerprint(), Delivery::Flushed, NOW).await.unwrap();
    let (_permit, unsettled) =
        enrolment(2, "device-2", 2).admit(&ledger, NOW).await.unwrap().redeem();
    ledger.hand_back(unsettled, Reason::CaUnavailable, "", NOW).await.unwrap();
    let (_permit, unsettled) =
        enrolment(3, "device-3", 3).admit(&ledger, NOW).await.unwrap().redeem();
    ledger.withhold(unsettled, &certificate, "", NOW).await.unwrap_err();
    let (permit, unsettled) =
        enrolment(4, "device-4", 4).admit(&ledger, NOW).await.unwrap().redeem();
    let other = issue(permit.contents(), &serial(200));
    ledger.withhold(unsettled, &other, "", NOW).await.unwrap();
    let guessed = enrolment(5, "device-5", 5);
    let reasons = [Reason::SubjectNameMismatch];
    ledger.count_mismatch(&denied(&guessed, &reasons), NOW).await.unwrap();
    ledger.count_mismatch(&denied(&guessed, &reasons), NOW).await.unwrap();
    ledger.flush().await.unwrap();
    drop(ledger);
    let counters = backend.open().counters().await.unwrap();
    let expected = scep_ledger::Counters {
        issued: 1,
        delivered: 1,
        refused: 1,
        failed: 1,
        withheld: 1,
        unsettled: 1,
        pending: 0,
        held: 0,
        waiting_since: None,
        outbox: 5,
        reported: 0,
        last_event: 5,
    };
    assert_eq!(counters, expected);
}
