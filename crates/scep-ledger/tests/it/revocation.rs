//! Revocations and CRLs of a ledger.

use crate::support::*;
use core::time::Duration;
use scep_keys::SoftwareKey;
use scep_ledger::{
    CertificateStatus, CrlEntry, Ledger, LedgerError, LedgerSettings, OrderedBy, QueueOutcome,
    RevocationBrake, RevocationOrder, RevocationReason, RevocationState,
};
use scep_types::tlv::{self, tag};
use scep_types::{
    CertificateDer, ChallengeId, CrlDer, KeyAlgorithm, NameHash, Reason, SerialNumber, Timestamp,
};

/// Hands a store and the names of all functions to a macro.
macro_rules! every_revocation {
    ($module:ident::$then:ident, $backend:expr) => {
        $module::$then! {
            $backend;
            attack_54_only_what_this_ledger_issued_is_revoked
            attack_54_a_revocation_is_acknowledged_when_the_crl_shows_it
            attack_55_mass_revocation_waits_for_an_operator
            what_the_ca_refuses_is_reported_and_may_be_ordered_again
            the_revocation_brake_forgets_after_an_hour
            an_expired_certificate_leaves_the_crl_after_one_more
            a_serial_number_is_looked_up_as_it_is
            the_status_of_a_certificate_is_that_of_the_last_commit
        }
    };
}
pub(crate) use every_revocation;

pub(crate) fn issuer(certificate: &CertificateDer) -> NameHash {
    NameHash::of(certificate.issuer_der())
}

pub(crate) fn order(certificate: &CertificateDer) -> RevocationOrder {
    RevocationOrder {
        issuer: issuer(certificate),
        serial: certificate.serial().unwrap(),
        reason: RevocationReason::KeyCompromise,
        by: OrderedBy::Tenant(tenant()),
    }
}

fn by_operator(certificate: &CertificateDer) -> RevocationOrder {
    RevocationOrder { by: OrderedBy::Operator("alice".into()), ..order(certificate) }
}

/// A CRL as far as the ledger looks at it.
pub(crate) fn crl(this_update: Timestamp, entries: &[CrlEntry]) -> CrlDer {
    let list: Vec<u8> = entries
        .iter()
        .flat_map(|entry| {
            let serial = tlv::encode(tag::INTEGER, entry.serial.as_content());
            tlv::sequence(&[&serial, &tlv::time(entry.revoked_at)])
        })
        .collect();
    let list = if list.is_empty() { list } else { tlv::encode(tag::SEQUENCE, &list) };
    let none = tlv::sequence(&[]);
    let tbs = tlv::sequence(&[&tlv::small_int(1), &none, &none, &tlv::time(this_update), &list]);
    CrlDer::parse(&tlv::sequence(&[&tbs, &none, &tlv::whole_bits(b"")])).unwrap()
}

async fn enrolled(ledger: &Ledger, n: u8) -> CertificateDer {
    enrolment(n, &format!("device-{n}"), usize::from(n)).enrol(ledger, NOW).await
}

pub(crate) async fn state(
    ledger: &Ledger,
    certificate: &CertificateDer,
) -> Option<RevocationState> {
    ledger.revocation(issuer(certificate), &certificate.serial().unwrap()).await.unwrap()
}

/// Sends and confirms everything that may go; how many.
async fn revoke_all(ledger: &Ledger, issuer: NameHash, now: Timestamp) -> usize {
    let jobs = ledger.next_revocations(issuer, 1_000, now).await.unwrap();
    for job in &jobs {
        ledger.revocation_done(job, now, now).await.unwrap();
    }
    jobs.len()
}

pub(crate) async fn attack_54_only_what_this_ledger_issued_is_revoked(backend: &impl Backend) {
    let ledger = backend.open();
    let certificate = enrolled(&ledger, 1).await;
    let right = order(&certificate);
    let other_serial = RevocationOrder { serial: serial(0x55), ..right.clone() };
    let other_issuer = RevocationOrder { issuer: NameHash::of(b"another CA"), ..right.clone() };
    let other_tenant =
        RevocationOrder { by: OrderedBy::Tenant("other".parse().unwrap()), ..right.clone() };
    for wrong in [other_serial, other_issuer, other_tenant] {
        assert_eq!(ledger.queue_revocation(wrong, NOW).await, Ok(QueueOutcome::NotFound));
    }
    let before = ledger.revocation_work(right.issuer).await.unwrap();
    assert_eq!((before.waiting, before.held, before.unpublished), (0, 0, 0));
    assert!(ledger.next_revocations(right.issuer, 9, NOW).await.unwrap().is_empty());
    assert_eq!(ledger.queue_revocation(right, NOW).await, Ok(QueueOutcome::Queued));
    assert_eq!(state(&ledger, &certificate).await, Some(RevocationState::Queued));
}

pub(crate) async fn attack_54_a_revocation_is_acknowledged_when_the_crl_shows_it(
    backend: &impl Backend,
) {
    let ledger = backend.open();
    let enrolment = enrolment(1, "device-1", 1);
    let certificate = enrolment.enrol(&ledger, NOW).await;
    let other = enrolled(&ledger, 2).await;
    let issuer = issuer(&certificate);
    assert_eq!(ledger.queue_revocation(order(&certificate), NOW).await, Ok(QueueOutcome::Queued));
    let again = QueueOutcome::Already(RevocationState::Queued);
    assert_eq!(ledger.queue_revocation(order(&certificate), NOW).await, Ok(again));

    let jobs = ledger.next_revocations(issuer, 9, NOW).await.unwrap();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].serial, certificate.serial().unwrap());
    assert_eq!(jobs[0].certificate, certificate.fingerprint());
    assert_eq!(state(&ledger, &certificate).await, Some(RevocationState::Sent));
    assert!(ledger.crl_entries(issuer).await.unwrap().is_empty(), "the CA has not said so yet");
    // After a crash here it is asked for again, and a second answer changes nothing.
    drop(ledger);
    let ledger = backend.open();
    assert_eq!(ledger.next_revocations(issuer, 9, NOW).await.unwrap(), jobs);
    for at in [after(1), after(2)] {
        ledger.revocation_done(&jobs[0], at, at).await.unwrap();
    }
    let again = QueueOutcome::Already(RevocationState::Revoked);
    assert_eq!(ledger.queue_revocation(order(&certificate), after(2)).await, Ok(again));
    assert_eq!(
        enrolment.recall(&ledger, after(2)).await,
        Known::Over(Reason::ChallengeExpired),
        "a retry gets it no more"
    );

    drop(ledger);
    let ledger = backend.open();
    let work = ledger.revocation_work(issuer).await.unwrap();
    assert_eq!((work.waiting, work.unpublished, work.last_crl), (0, 1, None));
    let entries = ledger.crl_entries(issuer).await.unwrap();
    let wanted = CrlEntry {
        serial: certificate.serial().unwrap(),
        revoked_at: after(1),
        reason: RevocationReason::KeyCompromise,
    };
    assert_eq!(entries, [wanted]);
    // A CRL that does not list it fulfils nothing.
    assert_eq!(ledger.record_crl(issuer, None, 1, &crl(after(3), &[]), after(3)).await, Ok(0));
    assert_eq!(state(&ledger, &certificate).await, Some(RevocationState::Revoked));
    let list = crl(after(4), &entries);
    let lower = LedgerError::CrlNumber { got: 1, last: 1 };
    assert_eq!(ledger.record_crl(issuer, Some(1), 1, &list, after(4)).await, Err(lower));
    // Made from what was there before the last one, whatever its number.
    let overtaken = LedgerError::CrlOvertaken { last: 1 };
    assert_eq!(ledger.record_crl(issuer, None, 9, &list, after(4)).await, Err(overtaken));
    assert_eq!(ledger.record_crl(issuer, Some(1), 2, &list, after(4)).await, Ok(1));
    assert_eq!(ledger.record_crl(issuer, Some(2), 3, &list, after(5)).await, Ok(0));

    drop(ledger);
    let ledger = backend.open();
    assert_eq!(state(&ledger, &certificate).await, Some(RevocationState::OnCrl));
    assert_eq!(ledger.last_crl(issuer).await, Ok(Some(list)));
    assert_eq!(
        ledger.revocation_work(issuer).await.unwrap().last_crl,
        Some((3, after(4))),
        "thisUpdate is the CRL's"
    );
    assert_eq!(state(&ledger, &other).await, None);
    let told: Vec<_> = events(&ledger)
        .await
        .into_iter()
        .filter(|(kind, _)| kind == "revoked" || kind == "on-crl")
        .map(|(kind, body)| (kind, body["thumbprint_sha256"].as_str().unwrap().to_owned()))
        .collect();
    let print = certificate.fingerprint().to_string();
    assert_eq!(told, [("revoked".to_owned(), print.clone()), ("on-crl".to_owned(), print)]);
}

pub(crate) async fn what_the_ca_refuses_is_reported_and_may_be_ordered_again(
    backend: &impl Backend,
) {
    let ledger = backend.open();
    let certificate = enrolled(&ledger, 1).await;
    let issuer = issuer(&certificate);
    for _ in 0..2 {
        let outcome = ledger.queue_revocation(by_operator(&certificate), NOW).await;
        assert_eq!(outcome, Ok(QueueOutcome::Queued));
        let jobs = ledger.next_revocations(issuer, 9, NOW).await.unwrap();
        ledger.revocation_failed(&jobs[0], "no such certificate", NOW).await.unwrap();
        let failed = RevocationState::Failed("no such certificate".into());
        assert_eq!(state(&ledger, &certificate).await, Some(failed));
        assert!(ledger.next_revocations(issuer, 9, NOW).await.unwrap().is_empty());
    }
    let mut keys: Vec<_> = events(&ledger)
        .await
        .into_iter()
        .filter(|(kind, _)| kind == "revocation-failed")
        .map(|(_, body)| body["idempotency_key"].to_string())
        .collect();
    keys.dedup();
    assert_eq!(keys.len(), 2, "each failure is an event of its own");
}

pub(crate) async fn attack_55_mass_revocation_waits_for_an_operator(backend: &impl Backend) {
    let settings = LedgerSettings {
        revocations: RevocationBrake { percent: 50, at_least: 2 },
        ..LedgerSettings::default()
    };
    let ledger = backend.open_with(settings);
    let mut certificates = Vec::new();
    for n in 0..8 {
        let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
        let id = ChallengeId::from_bytes([n + 1; 16]);
        let one = enrolment_with(id, &format!("device-{n}"), &key, 1_000, 300 * DAY);
        certificates.push(one.enrol(&ledger, NOW).await);
    }
    let issuer = issuer(&certificates[0]);
    // Half of eight may go within an hour, one by one or together.
    for certificate in &certificates[..3] {
        ledger.queue_revocation(order(certificate), NOW).await.unwrap();
    }
    assert_eq!(revoke_all(&ledger, issuer, NOW).await, 3);
    // Two more are five, and five are left alive: all that waits is held, not the surplus only.
    for certificate in &certificates[3..5] {
        ledger.queue_revocation(order(certificate), after(60)).await.unwrap();
    }
    assert_eq!(revoke_all(&ledger, issuer, after(60)).await, 0);
    let work = ledger.revocation_work(issuer).await.unwrap();
    assert_eq!((work.waiting, work.held), (0, 2));
    // Neither a restart lets it go, nor time, though two are not too many within an hour.
    drop(ledger);
    let ledger = backend.open_with(settings);
    assert_eq!(revoke_all(&ledger, issuer, after(5 * HOUR)).await, 0);
    // What an operator orders goes.
    ledger.queue_revocation(by_operator(&certificates[7]), after(5 * HOUR)).await.unwrap();
    assert_eq!(revoke_all(&ledger, issuer, after(5 * HOUR)).await, 1);
    // So does what the operator confirms; and counting starts anew.
    assert_eq!(ledger.confirm_revocations("alice", after(5 * HOUR)).await, Ok(2));
    assert_eq!(revoke_all(&ledger, issuer, after(5 * HOUR)).await, 2);
    ledger.queue_revocation(order(&certificates[6]), after(5 * HOUR)).await.unwrap();
    assert_eq!(revoke_all(&ledger, issuer, after(5 * HOUR)).await, 1);

    let kinds = kinds(&ledger).await;
    let count = |kind: &str| kinds.iter().filter(|k| *k == kind).count();
    assert_eq!(count("revocation-brake-engaged"), 1);
    assert_eq!(count("revocations-confirmed"), 1);
    assert_eq!(count("revoked"), 7);
}

pub(crate) async fn the_revocation_brake_forgets_after_an_hour(backend: &impl Backend) {
    let settings = LedgerSettings {
        revocations: RevocationBrake { percent: 0, at_least: 1 },
        ..LedgerSettings::default()
    };
    let ledger = backend.open_with(settings);
    for n in 1..4_u8 {
        let certificate = enrolled(&ledger, n).await;
        let now = NOW.plus(Duration::from_secs(HOUR * u64::from(n)));
        ledger.queue_revocation(order(&certificate), now).await.unwrap();
        assert_eq!(revoke_all(&ledger, issuer(&certificate), now).await, 1);
    }
}

pub(crate) async fn an_expired_certificate_leaves_the_crl_after_one_more(backend: &impl Backend) {
    let ledger = backend.open();
    let certificate = enrolled(&ledger, 1).await;
    let issuer = issuer(&certificate);
    ledger.queue_revocation(order(&certificate), NOW).await.unwrap();
    revoke_all(&ledger, issuer, NOW).await;
    let end = certificate.not_after();
    let second = Duration::from_secs(1);
    // Made at notAfter: that is still within the validity.
    for (number, at, listed) in [
        (1, end.minus(second), 1),
        (2, end, 1),
        (3, end.plus(second), 1),
        (4, end.plus(second * 2), 0),
    ] {
        let entries = ledger.crl_entries(issuer).await.unwrap();
        assert_eq!(entries.len(), listed, "CRL {number}");
        let last = (number > 1).then(|| number - 1);
        ledger.record_crl(issuer, last, number, &crl(at, &entries), at).await.unwrap();
    }
    assert_eq!(state(&ledger, &certificate).await, Some(RevocationState::OnCrl));
}

pub(crate) async fn a_serial_number_is_looked_up_as_it_is(backend: &impl Backend) {
    let ledger = backend.open();
    let certificate = enrolled(&ledger, 1).await;
    let mut octets = certificate.serial_content().to_vec();
    octets.pop();
    let shorter = SerialNumber::from_content(&octets).unwrap();
    let order = RevocationOrder { serial: shorter, ..order(&certificate) };
    assert_eq!(ledger.queue_revocation(order, NOW).await, Ok(QueueOutcome::NotFound));
}

pub(crate) async fn the_status_of_a_certificate_is_that_of_the_last_commit(backend: &impl Backend) {
    let ledger = backend.open();
    let (one, other) = (enrolled(&ledger, 1).await, enrolled(&ledger, 2).await);
    let (name, number) = (issuer(&one), one.serial().unwrap());
    let status = async || ledger.certificate_status(name, &number).await.unwrap();
    assert_eq!(status().await, Some(CertificateStatus::Issued));
    assert_eq!(ledger.certificate_status(name, &serial(0x55)).await, Ok(None));
    let another = NameHash::of(b"another CA");
    assert_eq!(ledger.certificate_status(another, &number).await, Ok(None));

    // What is only ordered is not revoked: the brake may hold it, and the CA may refuse.
    ledger.queue_revocation(order(&one), NOW).await.unwrap();
    assert_eq!(status().await, Some(CertificateStatus::Issued));
    assert_eq!(revoke_all(&ledger, name, after(9)).await, 1);
    let revoked =
        CertificateStatus::Revoked { at: after(9), reason: RevocationReason::KeyCompromise };
    assert_eq!(status().await, Some(revoked));
    let untouched = ledger.certificate_status(issuer(&other), &other.serial().unwrap()).await;
    assert_eq!(untouched, Ok(Some(CertificateStatus::Issued)));
}
