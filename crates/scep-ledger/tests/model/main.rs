//! The protocol of single use, retry and crash, explored in every order that things can happen in.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

#[cfg(feature = "sqlite")]
mod conformance;
mod explorer;
mod next;
mod properties;
mod protocol;
#[cfg(feature = "sqlite")]
#[path = "../it/support.rs"]
#[allow(dead_code, reason = "the other tests need more of it")]
mod support;
mod world;

use explorer::{Outcome, Property, explore};
use properties::*;
use protocol::{Broken, Protocol, Recover, Store};
use world::{Asked, Faults, State, Step};

/// A request, the same once more (by another connection, at any replica), and another one with the same challenge; how
/// often each asks.
fn same_challenge(tries: [u8; 3]) -> Vec<(Asked, u8)> {
    let first = Asked { info: 0, challenge: 0, key: 0 };
    let other = Asked { info: 1, challenge: 0, key: 1 };
    [first, first, other].into_iter().zip(tries).collect()
}

/// Two challenges for one key of one device.
fn same_key(tries: [u8; 2]) -> Vec<(Asked, u8)> {
    let first = Asked { info: 0, challenge: 0, key: 0 };
    let second = Asked { info: 1, challenge: 1, key: 0 };
    [first, second].into_iter().zip(tries).collect()
}

/// One gateway with its SQLite ledger.
fn one_gateway(recover: Recover) -> Protocol {
    Protocol {
        store: Store::Sqlite,
        recover,
        replicas: 1,
        requests: same_challenge([2, 1, 1]),
        faults: Faults { crashes: 2, revocations: 1, windows: 1, outlived: 0 },
        differs: true,
        holds: false,
        pends: false,
        knows_all_on_record: true,
        loses_answers: true,
        broken: None,
    }
}

/// Two gateways with one PostgreSQL ledger.
fn two_gateways(recover: Recover) -> Protocol {
    Protocol {
        store: Store::Postgres,
        replicas: 2,
        requests: same_challenge([1, 1, 1]),
        faults: Faults { crashes: 1, ..Faults::default() },
        ..one_gateway(recover)
    }
}

/// Two gateways, one of which stands still for longer than its lease, and goes on.
fn outlived(recover: Recover, crashes: u8) -> Protocol {
    Protocol {
        requests: same_challenge([2, 0, 1]),
        faults: Faults { outlived: 1, crashes, ..Faults::default() },
        ..two_gateways(recover)
    }
}

fn holds(protocol: &Protocol, reached: impl IntoIterator<Item = Property<Protocol>>) {
    let mut properties = invariants();
    properties.extend(reached);
    let explored = explore(protocol, &properties);
    println!("{} states: {protocol:?}", explored.states());
    match explored.outcome {
        Outcome::Holds => {}
        Outcome::Violated(what, way) => panic!("not so: {what}\n{:?}\n{:?}", way.steps, way.end),
        outcome => panic!("{outcome:?}"),
    }
}

/// The shortest way to a violation.
fn violates(protocol: &Protocol, name: &'static str) -> Vec<Step> {
    let explored = explore(protocol, &invariant(name));
    println!("{} states until: not so: {name}: {protocol:?}", explored.states());
    match explored.outcome {
        Outcome::Violated(_, way) => {
            println!("{:?}", way.steps);
            way.steps
        }
        outcome => panic!("{outcome:?}"),
    }
}

/// The protocol broken in one place must violate a property.
fn breaks(protocol: Protocol, broken: Broken, name: &'static str) {
    violates(&Protocol { broken: Some(broken), ..protocol }, name);
}

#[test]
fn attack_52_one_gateway_and_a_ca_that_is_looked_through_by_serial_number() {
    let reached = [
        a_retry_gets_what_recovery_found(),
        a_freed_challenge_is_used_again(),
        something_is_withheld(),
        a_loser_gets_the_winners_certificate(),
    ];
    holds(&one_gateway(Recover::BySerial), reached);
}

#[test]
fn attack_52_one_gateway_and_a_ca_in_its_process() {
    let reached = [something_is_withheld(), a_freed_challenge_is_used_again()];
    holds(&one_gateway(Recover::NothingKept), reached);
}

#[test]
fn attack_52_one_gateway_and_a_ca_that_cannot_be_looked_through() {
    holds(&one_gateway(Recover::None), [an_orphan_is_reported(), something_is_withheld()]);
}

#[test]
fn attack_52_two_gateways_and_a_ca_that_is_looked_through_by_serial_number() {
    let reached = [
        two_replicas_race(),
        a_retry_gets_what_recovery_found(),
        a_freed_challenge_is_used_again(),
        a_loser_gets_the_winners_certificate(),
    ];
    holds(&two_gateways(Recover::BySerial), reached);
}

#[test]
fn attack_52_two_gateways_and_a_ca_in_their_processes() {
    let reached = [two_replicas_race(), a_loser_gets_the_winners_certificate()];
    holds(&two_gateways(Recover::NothingKept), reached);
}

#[test]
fn attack_52_two_gateways_and_a_ca_that_cannot_be_looked_through() {
    holds(&two_gateways(Recover::None), [two_replicas_race(), an_orphan_is_reported()]);
}

#[test]
fn attack_53_a_ca_that_is_looked_through_by_key_and_two_challenges_of_one_key() {
    let faults = Faults { crashes: 1, revocations: 1, ..Faults::default() };
    let requests = same_key([2, 1]);
    let one = Protocol { requests, faults, ..one_gateway(Recover::ByKey) };
    holds(&one, [a_retry_gets_what_recovery_found(), an_orphan_is_reported()]);
    let faults = Faults { crashes: 1, ..Faults::default() };
    let requests = same_key([1, 1]);
    let two = Protocol { requests, faults, ..two_gateways(Recover::ByKey) };
    holds(&two, [an_orphan_is_reported()]);
}

#[test]
fn attack_53_a_gateway_that_outlives_its_lease() {
    let reached = [a_late_certificate_is_withheld(), two_replicas_race()];
    let protocol = Protocol { loses_answers: false, ..outlived(Recover::BySerial, 0) };
    holds(&protocol, reached);
}

#[test]
fn attack_53_a_gateway_with_a_ca_in_its_process_that_outlives_its_lease() {
    // A crash besides loses nothing: nobody else has what its memory had.
    let requests = same_challenge([1, 0, 1]);
    let protocol = Protocol { requests, ..outlived(Recover::NothingKept, 1) };
    holds(&protocol, [a_late_certificate_is_withheld()]);
}

/// What the protocol does not promise, so that nobody takes it for promised.
#[test]
fn limit_a_gateway_that_outlives_its_lease_and_crashes_can_lose_a_certificate() {
    let steps = violates(&outlived(Recover::BySerial, 1), NOTHING_LOST);
    assert!(steps.iter().any(|step| matches!(step, Step::LeaseEnds(_))));
    assert!(steps.iter().any(|step| matches!(step, Step::Crash(_))));
}

#[test]
fn attack_53_a_gateway_that_outlives_its_lease_and_loses_the_cas_answer() {
    let protocol = outlived(Recover::BySerial, 0);
    holds(&protocol, [a_late_unknown_is_reported(), a_late_certificate_is_withheld()]);
    breaks(protocol.clone(), Broken::ForgetsLateUnknowns, NOTHING_LOST);
    breaks(protocol, Broken::FreesWhatHasChanged, NOTHING_LOST);
}

#[test]
fn attack_53_a_gateway_that_outlives_its_lease_and_a_ca_that_decides_later() {
    let requests = same_challenge([1, 0, 1]);
    let protocol = Protocol { requests, pends: true, ..outlived(Recover::BySerial, 0) };
    holds(&protocol, [a_late_unknown_is_reported(), what_was_pending_is_released()]);
}

#[test]
fn recovery_must_know_what_is_on_record_and_not_live() {
    let faults = Faults { crashes: 1, ..Faults::default() };
    let requests = same_key([1, 1]);
    let one = one_gateway(Recover::ByKey);
    let protocol = Protocol { requests, faults, knows_all_on_record: false, ..one };
    violates(&protocol, SETTLED);
    let faults = Faults { revocations: 1, ..faults };
    violates(&Protocol { differs: false, faults, ..protocol }, SETTLED);
}

/// Two requests that ask once each, and nothing else goes wrong.
fn race(tries: [u8; 3]) -> Protocol {
    Protocol {
        requests: same_challenge(tries),
        faults: Faults::default(),
        differs: false,
        ..two_gateways(Recover::BySerial)
    }
}

#[test]
fn broken_it_releases_before_it_records() {
    breaks(one_gateway(Recover::BySerial), Broken::RecordsAfterReleasing, RECORDED);
}

#[test]
fn broken_it_reports_after_it_records() {
    breaks(one_gateway(Recover::BySerial), Broken::ReportsAfterRecording, EACH_REPORTED);
}

#[test]
fn broken_recovery_issues() {
    breaks(one_gateway(Recover::BySerial), Broken::RecoveryIssues, NEVER_ISSUES);
}

#[test]
fn broken_recovery_does_not_compare() {
    breaks(one_gateway(Recover::BySerial), Broken::RecoveryDoesNotCompare, RECORDED);
}

#[test]
fn broken_it_frees_when_the_outcome_is_unknown() {
    for property in [FREED, ONE_ISSUES, NOTHING_LOST] {
        breaks(one_gateway(Recover::BySerial), Broken::FreesOnUnknown, property);
    }
}

#[test]
fn broken_recovery_settles_what_is_being_worked_on() {
    breaks(one_gateway(Recover::NothingKept), Broken::SettlesWhatIsLive, FREED);
    breaks(two_gateways(Recover::NothingKept), Broken::SettlesWhatIsLive, FREED);
    breaks(race([1, 0, 1]), Broken::SettlesWhatIsLive, ONE_ISSUES);
}

#[test]
fn broken_an_intent_is_settled_twice() {
    breaks(outlived(Recover::BySerial, 0), Broken::SettlesTwice, REPORTED_ONCE);
}

#[test]
fn broken_a_challenge_is_checked_before_the_transaction() {
    for property in [OTHERS_GET_NOTHING, ONE_PER_CHALLENGE, ONE_ISSUES] {
        breaks(race([1, 0, 1]), Broken::ChecksBeforeTheTransaction, property);
    }
}

#[test]
fn broken_it_writes_no_intent() {
    breaks(one_gateway(Recover::BySerial), Broken::WritesNoIntent, NOTHING_LOST);
}

#[test]
fn broken_a_retry_is_whoever_has_the_challenge() {
    breaks(one_gateway(Recover::BySerial), Broken::RecallsByChallenge, OTHERS_GET_NOTHING);
}

#[test]
fn broken_it_recalls_what_is_over() {
    breaks(one_gateway(Recover::BySerial), Broken::RecallsWhatIsOver, NOT_OVER);
}

#[test]
fn broken_the_ca_finds_nothing_while_it_is_at_it() {
    for property in [FREED, NOTHING_LOST] {
        breaks(one_gateway(Recover::BySerial), Broken::FindsNothingUnderWay, property);
    }
}

#[test]
fn broken_what_comes_late_is_dropped() {
    breaks(outlived(Recover::NothingKept, 0), Broken::LosesWhatIsLate, NOTHING_LOST);
}

#[test]
fn two_gateways_and_a_person_who_must_approve() {
    let reached = [what_was_held_is_released(), a_person_or_the_ca_says_no()];
    let requests = same_challenge([2, 0, 1]);
    let protocol = Protocol { requests, holds: true, ..two_gateways(Recover::BySerial) };
    holds(&protocol, reached);
    breaks(protocol.clone(), Broken::AsksNobody, APPROVED);
    breaks(protocol, Broken::FreesOnUnknown, FREED);
}

#[test]
fn two_gateways_and_a_ca_that_decides_later() {
    let reached = [what_was_pending_is_released(), a_person_or_the_ca_says_no()];
    let requests = same_challenge([1, 0, 1]);
    let protocol = Protocol { requests, pends: true, ..two_gateways(Recover::BySerial) };
    holds(&protocol, reached);
    breaks(protocol, Broken::FindsNothingUnderWay, FREED);
}

#[test]
fn the_states_are_those_of_the_code() {
    let code = include_str!("../../src/store.rs");
    let body = code.split_once("enum State {").and_then(|(_, rest)| rest.split_once('}'));
    let lines = body.unwrap().0.lines().map(|line| line.trim().trim_end_matches(','));
    let names = State::ALL.map(|state| format!("{state:?}"));
    let unknown: Vec<&str> = lines
        .filter(|line| !line.starts_with("//") && !line.is_empty())
        .filter(|line| !names.iter().any(|name| name == line))
        .collect();
    assert!(unknown.is_empty(), "states that the model lacks: {unknown:?}");
}
