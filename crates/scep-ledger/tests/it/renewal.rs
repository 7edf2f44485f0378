//! Certificates that follow others on their own word.

use crate::revocation::order;
use crate::support::*;
use core::time::Duration;
use scep_ledger::{Asked, DenialSubject, Ledger, RevocationReason, Standing};
use scep_policy::{Approval, MAX_GENERATIONS, Predecessor};
use scep_types::{AuthorityName, CertificateDer, Reason, SerialNumber, Timestamp};

/// Hands a store and the names of all functions to a macro.
macro_rules! every_renewal {
    ($module:ident::$then:ident, $backend:expr) => {
        $module::$then! {
            $backend;
            quirk_52_a_line_has_three_renewals
            attack_03_a_certificate_has_one_successor
            attack_03_what_is_no_live_certificate_of_this_ledger_has_no_successor
            attack_03_only_what_is_on_record_is_followed
            a_ca_that_takes_over_renews_what_was_anothers
            attack_03_a_forgotten_use_frees_no_certificate
            attack_20_a_restored_backup_renews_nothing_that_it_may_have_renewed
            what_recovery_finds_goes_on_with_its_line
            a_renewal_that_the_ca_fails_may_be_tried_again
        }
    };
}
pub(crate) use every_renewal;

/// Within the window of the first certificate of a line.
const LATER: u64 = 350 * DAY;

async fn first(ledger: &Ledger) -> (Enrolment, CertificateDer) {
    let of = enrolment(1, "device-1", 1).renewable(1);
    let certificate = of.enrol(ledger, NOW).await;
    (of, certificate)
}

/// The approval of a certificate's successor as the ledger knows the certificate.
async fn next(
    ledger: &Ledger,
    of: &Enrolment,
    old: &CertificateDer,
    key: usize,
    at: Timestamp,
) -> Approval {
    let predecessor = ledger.predecessor(old.fingerprint(), at).await.unwrap().unwrap();
    assert_eq!(predecessor.certificate(), old);
    of.successor(predecessor, key, at)
}

/// The same as somebody claims it to be.
fn claimed(of: &Enrolment, old: &CertificateDer, generation: u8, at: Timestamp) -> Approval {
    let claims = of.claims.to_der().unwrap();
    let predecessor = Predecessor::from_ledger(old.clone(), &claims, generation).unwrap();
    of.successor(predecessor, 4, at)
}

async fn is_offered(ledger: &Ledger, of: &CertificateDer, at: Timestamp) -> bool {
    ledger.predecessor(of.fingerprint(), at).await.unwrap().is_some()
}

pub(crate) async fn quirk_52_a_line_has_three_renewals(backend: &impl Backend) {
    let (of, mut old) = first(&backend.open()).await;
    for generation in 1..=MAX_GENERATIONS {
        let ledger = backend.open();
        let at = old.not_after().minus(Duration::from_secs(DAY));
        // Back and forth between two keys.
        let key = usize::from(generation % 2) + 1;
        let approval = next(&ledger, &of, &old, key, at).await;
        let retry = approval.retry_key();
        let new = finish(&ledger, admit(&ledger, approval, at).await.unwrap(), at).await;
        let known = Known::from(ledger.recall(retry, at).await.unwrap());
        assert_eq!(known, Known::Certificate(new.clone()));
        let entry = ledger.live_certificate(new.fingerprint(), at).await.unwrap().unwrap();
        assert_eq!((entry.generation, entry.renews), (generation, Some(old.fingerprint())));
        let (kind, body) = events(&ledger).await.pop().unwrap();
        assert_eq!(kind, "issued");
        assert_eq!(body["renews"], old.fingerprint().to_string());
        assert_eq!(body["generation"], generation);
        assert_eq!(body["authority"], "main");
        old = new;
    }
    let ledger = backend.open();
    let at = old.not_after().minus(Duration::from_secs(DAY));
    let last = ledger.predecessor(old.fingerprint(), at).await.unwrap().unwrap();
    assert_eq!(last.generation(), MAX_GENERATIONS);
    // Who says that it is nearer to its challenge than it is gets nothing.
    for generation in 0..MAX_GENERATIONS {
        let approval = claimed(&of, &old, generation, at);
        assert_eq!(reason(admit(&ledger, approval, at).await), Reason::RenewalNotAllowed);
    }
    let (_, body) = &events(&ledger).await[0];
    assert!(body.get("renews").is_none() && body.get("generation").is_none());
}

pub(crate) async fn attack_03_a_certificate_has_one_successor(backend: &impl Backend) {
    let ledger = backend.open();
    let (of, old) = first(&ledger).await;
    let at = after(LATER);
    let (one, again) =
        (next(&ledger, &of, &old, 2, at).await, next(&ledger, &of, &old, 2, at).await);
    let other = next(&ledger, &of, &old, 3, at).await;
    let retry = one.retry_key();
    let admission = admit(&ledger, one, at).await.unwrap();
    // ECDSA makes another signature each time; the request's contents are the same.
    assert_eq!(again.retry_key(), retry);
    assert_eq!(reason(admit(&ledger, again, at).await), Reason::RequestInProgress);
    assert_eq!(reason(admit(&ledger, other, at).await), Reason::ChallengeAlreadyUsed);
    let new = finish(&ledger, admission, at).await;
    drop(ledger);
    let ledger = backend.open();
    let known = Known::from(ledger.recall(retry, at).await.unwrap());
    assert_eq!(known, Known::Certificate(new));
    let other = next(&ledger, &of, &old, 3, at).await;
    assert_eq!(reason(admit(&ledger, other, at).await), Reason::ChallengeAlreadyUsed);
    assert_eq!(kinds(&ledger).await, ["issued", "breach", "issued", "breach"]);
}

pub(crate) async fn attack_03_what_is_no_live_certificate_of_this_ledger_has_no_successor(
    backend: &impl Backend,
) {
    let ledger = backend.open();
    let (at, not_allowed) = (after(LATER), Reason::RenewalNotAllowed);
    let line =
        |n: u8| enrolment(n, &format!("device-{n}"), usize::from(n)).renewable(usize::from(n));
    let refused = async |of: &Enrolment, old: &CertificateDer, at| {
        assert!(!is_offered(&ledger, old, at).await);
        // Not even if whoever asks claims that it is.
        reason(admit(&ledger, claimed_with(of, old, 7, at), at).await)
    };
    // Revoked; and ordered to be, with which its CA has not begun yet.
    let of = line(1);
    let old = of.enrol(&ledger, NOW).await;
    ledger.mark_revoked(old.fingerprint(), RevocationReason::Superseded, NOW).await.unwrap();
    assert_eq!(refused(&of, &old, at).await, not_allowed);
    let of = line(2);
    let old = of.enrol(&ledger, NOW).await;
    ledger.queue_revocation(order(&old), NOW).await.unwrap();
    assert_eq!(refused(&of, &old, at).await, not_allowed);
    // Withheld.
    let of = line(3);
    let (permit, unsettled) = of.admit(&ledger, NOW).await.unwrap().redeem();
    let old = issue(permit.contents(), permit.serial().unwrap());
    ledger.withhold(unsettled, &old, "", NOW).await.unwrap();
    assert_eq!(refused(&of, &old, at).await, not_allowed);
    // Of another ledger.
    let of = line(4);
    let (permit, unsettled) = of.admit(&ledger, NOW).await.unwrap().redeem();
    let old = issue(permit.contents(), permit.serial().unwrap());
    ledger.hand_back(unsettled, Reason::CaUnavailable, "", NOW).await.unwrap();
    assert_eq!(refused(&of, &old, at).await, not_allowed);
    // Of a profile that wants a challenge each time.
    let of = enrolment(5, "device-5", 5);
    let old = of.enrol(&ledger, NOW).await;
    assert_eq!(refused(&of.renewable(5), &old, at).await, not_allowed);
    // Expired between the decision and the admission.
    let of = line(6);
    let old = of.enrol(&ledger, NOW).await;
    assert!(is_offered(&ledger, &old, old.not_after()).await);
    let late = old.not_after().plus(Duration::from_secs(1));
    let approval = claimed_with(&of, &old, 7, old.not_after());
    assert!(!is_offered(&ledger, &old, late).await);
    assert_eq!(reason(admit(&ledger, approval, late).await), not_allowed);
    // Its device is disabled.
    let device = DenialSubject::Device(tenant(), of.claims.device.clone());
    ledger.deny(device.clone(), NOW).await.unwrap();
    let approval = next(&ledger, &of, &old, 7, at).await;
    let disabled = Reason::ScepProfileNoLongerTargetedToTheClient;
    assert_eq!(reason(admit(&ledger, approval, at).await), disabled);
    ledger.allow(device).await.unwrap();
    let approval = next(&ledger, &of, &old, 7, at).await;
    assert!(admit(&ledger, approval, at).await.is_ok());
}

fn claimed_with(of: &Enrolment, old: &CertificateDer, key: usize, at: Timestamp) -> Approval {
    let claims = of.claims.to_der().unwrap();
    let predecessor = Predecessor::from_ledger(old.clone(), &claims, 0).unwrap();
    of.successor(predecessor, key, at)
}

pub(crate) async fn a_ca_that_takes_over_renews_what_was_anothers(backend: &impl Backend) {
    let ledger = backend.open();
    let (of, old) = first(&ledger).await;
    let at = after(LATER);
    let [next_ca, stranger] = ["g2", "other"].map(|name| AuthorityName::new(name).unwrap());
    for (kin, allowed) in [(stranger, false), (AuthorityName::main(), true)] {
        let approval = next(&ledger, &of, &old, 2, at).await;
        let serial = SerialNumber::from_random(*approval.claims().challenge_id.as_bytes());
        let (signer, transaction) = (signer(), transaction("T2"));
        let serial = Some(serial);
        let asked = Asked { authority: &next_ca, serial, signer, transaction: &transaction };
        let admitted = ledger.admit_among(approval, &asked, &[kin], at).await;
        if allowed {
            let new = finish(&ledger, admitted.unwrap(), at).await;
            let entry = ledger.live_certificate(new.fingerprint(), at).await.unwrap().unwrap();
            assert_eq!((entry.authority, entry.renews), (next_ca.clone(), Some(old.fingerprint())));
        } else {
            assert_eq!(reason(admitted), Reason::RenewalNotAllowed);
        }
    }
}

pub(crate) async fn attack_03_only_what_is_on_record_is_followed(backend: &impl Backend) {
    let ledger = backend.open();
    let (of, old) = first(&ledger).await;
    let (at, not_allowed) = (after(LATER), Reason::RenewalNotAllowed);
    // By another CA.
    let other = AuthorityName::new("other").unwrap();
    let approval = next(&ledger, &of, &old, 2, at).await;
    assert_eq!(reason(admit_at(&ledger, approval, &other, at).await), not_allowed);
    // By other claims: of another device, or for longer.
    let mut changed = of.claims.clone();
    changed.device = "device-2".parse().unwrap();
    let thief = sealed(changed, &KEYS[2], 60);
    assert_eq!(reason(admit(&ledger, claimed(&thief, &old, 0, at), at).await), not_allowed);
    let mut changed = of.claims.clone();
    changed.expectation.validity += Duration::from_secs(DAY);
    let longer = sealed(changed, &KEYS[2], 60);
    assert_eq!(reason(admit(&ledger, claimed(&longer, &old, 0, at), at).await), not_allowed);
    // Further from its challenge than it is.
    assert_eq!(reason(admit(&ledger, claimed(&of, &old, 1, at), at).await), not_allowed);
    // A refusal spends nothing and tells nobody.
    assert_eq!(kinds(&ledger).await, ["issued"]);
    assert!(admit(&ledger, claimed(&of, &old, 0, at), at).await.is_ok());
}

pub(crate) async fn attack_03_a_forgotten_use_frees_no_certificate(backend: &impl Backend) {
    let ledger = backend.open();
    let (of, old) = first(&ledger).await;
    let at = after(LATER);
    let approval = next(&ledger, &of, &old, 2, at).await;
    finish(&ledger, admit(&ledger, approval, at).await.unwrap(), at).await;
    // As long as the predecessor lives, and a day and five minutes more, the use is remembered.
    let end = old.not_after().plus(Duration::from_secs(DAY + 300));
    ledger.prune(end).await.unwrap();
    let other = next(&ledger, &of, &old, 3, at).await;
    assert_eq!(reason(admit(&ledger, other, at).await), Reason::ChallengeAlreadyUsed);
    // Then it is forgotten; even if an operator sets the mark back, nothing follows the predecessor.
    assert_eq!(ledger.prune(end.plus(Duration::from_secs(1))).await, Ok(1));
    ledger.clock_reset(at, "alice").await.unwrap();
    let other = next(&ledger, &of, &old, 3, at).await;
    assert_eq!(reason(admit(&ledger, other, at).await), Reason::ChallengeExpired);
}

/// The certificate on record counts, even if its use was lost; `lose` loses all uses.
pub(crate) async fn without_its_use(backend: &impl Backend, lose: impl FnOnce()) {
    let ledger = backend.open();
    let (of, old) = first(&ledger).await;
    let at = after(LATER);
    let approval = next(&ledger, &of, &old, 2, at).await;
    finish(&ledger, admit(&ledger, approval, at).await.unwrap(), at).await;
    drop(ledger);
    lose();
    let ledger = backend.open();
    for key in [2, 3] {
        let approval = next(&ledger, &of, &old, key, at).await;
        assert_eq!(reason(admit(&ledger, approval, at).await), Reason::RenewalNotAllowed);
    }
}

pub(crate) async fn attack_20_a_restored_backup_renews_nothing_that_it_may_have_renewed(
    backend: &impl Backend,
) {
    let ledger = backend.open();
    let (of, old) = first(&ledger).await;
    // Also a certificate that begins later than it was issued.
    let other = enrolment(2, "device-2", 3).renewable(3);
    let (permit, unsettled) = other.admit(&ledger, NOW).await.unwrap().redeem();
    let mut contents = permit.contents().clone();
    contents.not_before = after(120);
    let late = issue(&contents, permit.serial().unwrap());
    let conforming = unsettled.approval().check_certificate(&late).unwrap();
    ledger.record(unsettled, conforming, NOW).await.unwrap();

    ledger.acknowledge(1_000, after(60)).await.unwrap();
    let at = after(LATER);
    for (of, old) in [(&of, &old), (&other, &late)] {
        let approval = next(&ledger, of, old, 5, at).await;
        assert_eq!(reason(admit(&ledger, approval, at).await), Reason::ChallengeBeforeRestore);
    }
}

pub(crate) async fn what_recovery_finds_goes_on_with_its_line(backend: &impl Backend) {
    let ledger = backend.open();
    let (of, old) = first(&ledger).await;
    let at = after(LATER);
    let approval = next(&ledger, &of, &old, 2, at).await;
    let (permit, unsettled) = admit(&ledger, approval, at).await.unwrap().redeem();
    let new = issue(permit.contents(), permit.serial().unwrap());
    drop(unsettled);
    drop(ledger);
    let ledger = backend.open();
    let left = ledger.unsettled().await.unwrap().swap_remove(0);
    let standing = ledger.settle_found(left, new.clone(), at).await.unwrap();
    assert_eq!(standing, Standing::Issued);
    let (_, body) = events(&ledger).await.pop().unwrap();
    assert_eq!(body["renews"], old.fingerprint().to_string());
    let at = new.not_after();
    let found = ledger.predecessor(new.fingerprint(), at).await.unwrap().unwrap();
    assert_eq!((found.generation(), found.claims()), (1, &of.claims));
    let approval = of.successor(found, 1, at);
    assert!(admit(&ledger, approval, at).await.is_ok());
}

pub(crate) async fn a_renewal_that_the_ca_fails_may_be_tried_again(backend: &impl Backend) {
    let ledger = backend.open();
    let (of, old) = first(&ledger).await;
    let at = after(LATER);
    let approval = next(&ledger, &of, &old, 2, at).await;
    let (_permit, unsettled) = admit(&ledger, approval, at).await.unwrap().redeem();
    ledger.hand_back(unsettled, Reason::CaUnavailable, "down", at).await.unwrap();
    let approval = next(&ledger, &of, &old, 3, at).await;
    finish(&ledger, admit(&ledger, approval, at).await.unwrap(), at).await;
    assert_eq!(kinds(&ledger).await, ["issued", "failed", "issued"]);
}
