//! A good renewal by certificate with one change, and exactly what it is refused for.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a helper of tests may panic as a test may"
)]

mod support;

use core::time::Duration;
use scep_challenge::{ApprovalMode, DemandUsages, Purpose, Renewal};
use scep_policy::{
    Approval, Denial, Field, Grounds, InertContent, MAX_GENERATIONS, Predecessor, Rule,
    decide_renewal,
};
use scep_types::tlv::{self, tag};
use scep_types::{
    CertificateDer, ChallengeId, GeneralName, KeyAlgorithm, KeyUsages, Reason, Secret, Timestamp,
};
use sha2::{Digest, Sha256};
use support::*;

const WINDOW: Duration = Duration::from_secs(30 * DAY);
/// The predecessor's last instant.
const END: Timestamp = Timestamp::from_seconds(NOW.seconds() + 10 * 86_400);
const RENEWAL: (Field, Reason) = (Field::Renewal, Reason::RenewalNotAllowed);

/// A certificate that asks for its successor.
struct Renewing {
    case: Case,
    predecessor: CertificateDer,
    generation: u8,
    presented: Option<ChallengeId>,
    now: Timestamp,
}

/// In its window, with a new key and without a challenge.
fn renewing() -> Renewing {
    renewing_by(|_| {})
}

/// The certificate that was issued by changed claims.
fn renewing_by(change: impl FnOnce(&mut Case)) -> Renewing {
    let mut case = good_but(|case| {
        case.claims.expectation.renewal = Renewal::Certificate { window: WINDOW };
        // Long over by now.
        case.claims.issued_at = END.minus(Duration::from_secs(366 * DAY));
        case.claims.expires_at = END.minus(Duration::from_secs(364 * DAY));
        case.request.challenge_password = None;
        change(case);
    });
    let first = good_but(|first| {
        first.key = KEYS.other.clone();
        first.claims.expectation.validity = case.claims.expectation.validity;
    });
    let mut parts = Parts::of(&first.approved());
    parts.not_after = END;
    parts.not_before = END.minus(Duration::from_secs(365 * DAY));
    let predecessor = parts.build();
    case.claims.challenge_id = ChallengeId::from_bytes([7; 16]);
    Renewing { case, predecessor, generation: 0, presented: None, now: NOW }
}

impl Renewing {
    fn decide(&self) -> Result<Approval, Denial> {
        let claims = self.case.claims.to_der().unwrap();
        let predecessor =
            Predecessor::from_ledger(self.predecessor.clone(), &claims, self.generation).unwrap();
        let case = &self.case;
        let (csr, inert) = (case.csr(), case.inert);
        decide_renewal(
            &csr,
            predecessor,
            self.presented,
            &case.rules,
            &case.denials,
            inert,
            self.now,
        )
    }

    fn approved(&self) -> Approval {
        self.decide().unwrap_or_else(|denial| panic!("{denial:?}"))
    }

    #[track_caller]
    fn refused_for(&self, expected: &[(Field, Reason)]) -> Denial {
        let denial = self.decide().unwrap_err();
        assert_eq!(pairs(denial.reports()), expected, "{denial:?}");
        denial
    }
}

/// One change to the good renewal, and the one field and reason it is refused for.
#[track_caller]
fn one_change(expected: (Field, Reason), change: impl FnOnce(&mut Renewing)) {
    let mut renewing = renewing();
    change(&mut renewing);
    let denial = renewing.refused_for(&[expected]);
    assert_eq!(denial.reason(), expected.1);
}

#[test]
fn a_certificate_in_its_window_is_followed_by_the_same_with_a_new_key() {
    let renewing = renewing();
    let approval = renewing.approved();
    let (contents, expectation) = (approval.contents(), &renewing.case.claims.expectation);
    assert_eq!(contents.subject, expectation.subject);
    assert_eq!(contents.subject_alt_names, expectation.subject_alt_names);
    assert_eq!(contents.key_usage, expectation.key_usage);
    assert_eq!(contents.extended_key_usages, expectation.extended_key_usages);
    assert_eq!(contents.spki, *KEYS.device.public_key());
    // As long as the first, from now on.
    assert_eq!(contents.not_after, NOW.plus(Duration::from_secs(365 * DAY - 1)));
    let predecessor = renewing.predecessor.fingerprint();
    assert_eq!(approval.grounds(), Grounds::Renewal { predecessor, generation: 1 });
    // Its claims are those of the line, with an id and times of this renewal's own.
    let claims = approval.claims();
    assert_eq!(claims.expectation, *expectation);
    assert_eq!(claims.purpose, Purpose::Renew);
    assert_eq!(claims.issued_at, renewing.predecessor.not_before());
    assert_eq!(claims.expires_at, END);
    // The next one is judged by the claims of the first.
    assert_eq!(approval.renewable_by(), Some(renewing.case.claims.to_der().unwrap()));
}

#[test]
fn every_successor_of_one_certificate_has_one_id_and_no_other_has_it() {
    let first = renewing();
    let id = first.approved().claims().challenge_id;
    let hash = Sha256::new()
        .chain_update("scep renewal")
        .chain_update(first.predecessor.fingerprint().as_bytes())
        .finalize();
    assert_eq!(id.as_bytes(), &hash[..16]);
    // Whoever asks, whenever, with whichever key, and however far from the challenge.
    let mut second = renewing();
    second.predecessor = first.predecessor.clone();
    second.case.key = RSA.clone();
    second.now = END;
    second.generation = 2;
    assert_eq!(second.approved().claims().challenge_id, id);
    let mut parts = Parts::of(&good().approved());
    parts.not_after = END;
    second.predecessor = parts.build();
    second.case.key = KEYS.other.clone();
    assert_ne!(second.approved().claims().challenge_id, id);
}

#[test]
fn attack_03_a_renewal_is_within_the_window_of_the_claims() {
    let opens = END.minus(WINDOW);
    for (now, in_time) in [
        (opens.minus(Duration::from_secs(1)), false),
        (opens, true),
        (END, true),
        (END.plus(Duration::from_secs(1)), false),
        (Timestamp::EPOCH, false),
        (Timestamp::MAX, false),
    ] {
        let renewing = Renewing { now, ..renewing() };
        if in_time {
            renewing.approved();
        } else {
            let denial = renewing.refused_for(&[RENEWAL]);
            assert_eq!(denial.reports()[0].expected, format!("from {opens} to {END}"));
            assert_eq!(denial.reports()[0].got, now.to_string());
        }
    }
    // A CA may make a certificate shorter than its window; not before its beginning, all the same.
    let mut renewing = renewing();
    let mut parts = Parts::of(&good_but(|case| case.key = KEYS.other.clone()).approved());
    (parts.not_before, parts.not_after) = (NOW, END);
    renewing.predecessor = parts.build();
    renewing.approved();
    renewing.now = NOW.minus(Duration::from_secs(1));
    renewing.refused_for(&[RENEWAL]);
}

#[test]
fn attack_03_the_fourth_certificate_of_a_line_needs_a_challenge() {
    assert_eq!(MAX_GENERATIONS, 3);
    for generation in 0..3 {
        let predecessor = renewing().predecessor;
        let renewing = Renewing { generation, predecessor, ..renewing() };
        let Grounds::Renewal { generation: next, .. } = renewing.approved().grounds() else {
            panic!("no renewal");
        };
        assert_eq!(next, generation + 1);
    }
    for generation in [3, 4, u8::MAX] {
        let denial = Renewing { generation, ..renewing() }.refused_for(&[RENEWAL]);
        assert_eq!(denial.reports()[0].expected, "at most 3 renewals without a new challenge");
    }
}

#[test]
fn attack_03_only_a_profile_that_says_so_renews_by_certificate() {
    // Nothing else is known against it: whoever reads this knows what to change.
    let denial =
        renewing_by(|case| case.claims.expectation.renewal = Renewal::Blob).refused_for(&[RENEWAL]);
    assert!(denial.reports()[0].got.contains("new challenge"), "{denial:?}");
    let denial = renewing_by(|case| case.claims.expectation.approval = ApprovalMode::Manual)
        .refused_for(&[RENEWAL]);
    assert!(denial.reports()[0].got.contains("a person approves"), "{denial:?}");
}

#[test]
fn attack_03_a_renewal_gets_no_other_identity() {
    one_change((Field::Subject, Reason::SubjectNameMismatch), |renewing| {
        renewing.case.request.subject = name("CN=administrator");
    });
    let extra = GeneralName::dns("dc01.example.org").unwrap();
    one_change((Field::SubjectAltName, Reason::SubjectAltNameMismatch), |renewing| {
        renewing.case.request.subject_alt_names.push(extra);
    });
    one_change((Field::SubjectAltName, Reason::SubjectAltNameMissing), |renewing| {
        renewing.case.request.subject_alt_names.clear();
    });
    one_change((Field::KeyUsage, Reason::KeyUsageMismatch), |renewing| {
        renewing.case.request.key_usage = Some(KeyUsages::KEY_CERT_SIGN);
    });
    one_change((Field::ExtendedKeyUsage, Reason::EnhancedKeyUsageMismatch), |renewing| {
        renewing.case.request.extended_key_usages = Some(purposes(&["serverAuth"]));
    });
    one_change((Field::Extensions, Reason::ExtensionNotAllowed), |renewing| {
        renewing.case.request.extensions.push(extension("2.5.29.30", &[0x30, 0]));
    });
    one_change((Field::Attributes, Reason::AttributeNotAllowed), |renewing| {
        let set = tlv::encode(tag::SET, &[5, 0]);
        let attribute = tlv::sequence(&[&tlv::oid(&oid("1.2.3.4")), &set]);
        renewing.case.request.attributes.push(attribute);
    });
    // What is demanded of a first request is demanded of this one.
    let mut renewing =
        renewing_by(|case| case.claims.expectation.demand_usages = DemandUsages::Yes);
    renewing.approved();
    renewing.case.request.key_usage = None;
    renewing.refused_for(&[(Field::KeyUsage, Reason::KeyUsageMismatch)]);
    // So is inert content, where a CA copies requests.
    let inert = |inert| {
        let mut renewing = renewing_by(|case| case.inert = inert);
        renewing.case.request.extensions.push(extension("2.5.29.14", &[4, 1, 1]));
        renewing
    };
    inert(InertContent::Discard).approved();
    inert(InertContent::Refuse).refused_for(&[(Field::Inert, Reason::ExtensionNotAllowed)]);
}

#[test]
fn attack_03_a_renewals_key_is_of_the_claims_and_of_the_site() {
    let denial = {
        let mut renewing = renewing();
        renewing.case.key = KEYS.p384.clone();
        renewing.refused_for(&[
            (Field::Key, Reason::KeyLengthMismatch),
            (Field::SiteRule(Rule::Curves), Reason::SiteRuleViolated),
        ])
    };
    assert_eq!(denial.reason(), Reason::KeyLengthMismatch);
    // The same key, only where the site says so.
    let same = |rules: &[&str]| {
        let mut renewing = renewing();
        renewing.case.key = KEYS.other.clone();
        renewing.case.rules = rules_with(rules);
        renewing
    };
    let field = Field::SiteRule(Rule::RenewWithSameKey);
    same(&[]).refused_for(&[(field, Reason::RenewalNotAllowed)]);
    same(&["renew_with_same_key = false"]).refused_for(&[(field, Reason::RenewalNotAllowed)]);
    same(&["renew_with_same_key = true"]).approved();
    // A key that the claims pin is the only one there is.
    let pinned = |key: &scep_keys::SoftwareKey, rules: &[&str]| {
        let hash = KEYS.other.public_key().hash();
        let mut renewing = renewing_by(|case| case.claims.expectation.spki_hash = Some(hash));
        renewing.case.key = key.clone();
        renewing.case.rules = rules_with(rules);
        renewing
    };
    pinned(&KEYS.device, &["renew_with_same_key = true"])
        .refused_for(&[(Field::PinnedKey, Reason::RegisteredKeyMismatch)]);
    pinned(&KEYS.other, &["renew_with_same_key = true"]).approved();
    pinned(&KEYS.other, &[]).refused_for(&[(field, Reason::RenewalNotAllowed)]);
}

#[test]
fn attack_03_the_sites_rules_of_today_count() {
    let under = |rules: &[&str]| {
        let mut renewing = renewing();
        renewing.case.rules = rules_with(rules);
        renewing
    };
    under(&["renew_by_certificate = true"]).approved();
    let off = (Field::SiteRule(Rule::RenewByCertificate), Reason::RenewalNotAllowed);
    under(&["renew_by_certificate = false"]).refused_for(&[off]);
    let violated = |rule| (Field::SiteRule(rule), Reason::SiteRuleViolated);
    under(&["max_validity_days = 90"]).refused_for(&[violated(Rule::MaxValidityDays)]);
    let denial = under(&[r#"denied_names = ["device-7"]"#]).decide().unwrap_err();
    assert_eq!(denial.reasons(), [Reason::SiteRuleViolated]);
}

#[test]
fn attack_03_who_is_disabled_renews_nothing() {
    let gone = Reason::ScepProfileNoLongerTargetedToTheClient;
    let tenant = || "tenant".parse().unwrap();
    one_change((Field::Device, gone), |renewing| {
        renewing.case.denials.devices.insert((tenant(), "device-7".parse().unwrap()));
    });
    one_change((Field::User, gone), |renewing| {
        renewing.case.denials.users.insert((tenant(), "user-7".parse().unwrap()));
    });
    one_change((Field::Profile, gone), |renewing| {
        renewing.case.denials.profiles.insert((tenant(), "wifi".parse().unwrap()));
    });
}

#[test]
fn quirk_52_the_challenge_in_a_renewal_is_the_lines_or_none() {
    let with = |text: Option<&str>, presented| {
        let mut renewing = renewing();
        renewing.case.request.challenge_password = text.map(|text| Secret::new(text.to_owned()));
        renewing.presented = presented;
        renewing
    };
    let first = ChallengeId::from_bytes([7; 16]);
    with(Some("the first one"), Some(first)).approved();
    with(None, None).approved();
    // A blank one counts as absent.
    with(Some("  "), None).approved();
    let other = ChallengeId::from_bytes([8; 16]);
    let denial = with(Some("another"), Some(other)).refused_for(&[RENEWAL]);
    assert_eq!(denial.reports()[0].expected, format!("no challenge, or {first}"));
    assert_eq!(denial.reports()[0].got, other.to_string());
    let denial = with(Some("secret"), None).refused_for(&[RENEWAL]);
    assert_eq!(denial.reports()[0].got, "one that cannot be opened");
    // The id of a renewal is no challenge's.
    let own = renewing().approved().claims().challenge_id;
    with(Some("another"), Some(own)).refused_for(&[RENEWAL]);
}

#[test]
fn every_reason_against_a_renewal_is_said_at_once() {
    let mut renewing = renewing();
    renewing.generation = 3;
    renewing.now = Timestamp::EPOCH;
    renewing.case.key = KEYS.other.clone();
    renewing.case.request.subject = name("CN=administrator");
    renewing.case.claims.expectation.key_algorithms = vec![KeyAlgorithm::Rsa(2048)];
    let denial = renewing.refused_for(&[
        (Field::Subject, Reason::SubjectNameMismatch),
        (Field::Key, Reason::KeyLengthMismatch),
        RENEWAL,
        RENEWAL,
        (Field::SiteRule(Rule::RenewWithSameKey), Reason::RenewalNotAllowed),
    ]);
    // That a new challenge is needed is what the device has to know.
    assert_eq!(denial.reason(), Reason::RenewalNotAllowed);
}
