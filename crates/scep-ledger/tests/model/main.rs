//! The protocol of single use, retry and crash, explored in every order that things can happen in.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

mod explorer;
mod properties;
mod protocol;

use explorer::{Explored, Outcome, Property, explore};
use properties::*;
use protocol::{Asked, Broken, Faults, Protocol, Recover, State, Step, Store};

/// A request, the same once more (by another connection, at any replica), and another one with the same challenge.
fn same_challenge(again: u8) -> Vec<(Asked, u8)> {
    let first = Asked { info: 0, challenge: 0, key: 0 };
    let other = Asked { info: 1, challenge: 0, key: 1 };
    vec![(first, again), (first, 1), (other, 1)]
}

/// Two challenges for one key of one device.
fn same_key() -> Vec<(Asked, u8)> {
    let first = Asked { info: 0, challenge: 0, key: 0 };
    let second = Asked { info: 1, challenge: 1, key: 0 };
    vec![(first, 2), (second, 2)]
}

/// One gateway with its SQLite ledger.
fn one_gateway(recover: Recover) -> Protocol {
    Protocol {
        store: Store::Sqlite,
        recover,
        replicas: 1,
        requests: same_challenge(2),
        faults: Faults { crashes: 2, revocations: 1, windows: 1, outlived: 0 },
        differs: true,
        asks_for_live_only: true,
        broken: None,
    }
}

/// Two gateways with one PostgreSQL ledger.
fn two_gateways(recover: Recover) -> Protocol {
    Protocol {
        store: Store::Postgres,
        replicas: 2,
        faults: Faults { crashes: 1, ..Faults::default() },
        ..one_gateway(recover)
    }
}

fn holds(name: &str, protocol: &Protocol, reached: impl IntoIterator<Item = Property<Protocol>>) {
    let mut properties = invariants();
    properties.extend(reached);
    let start = std::time::Instant::now();
    let explored = explore(protocol, &properties);
    println!("{name}: {} states {:?}", explored.states(), start.elapsed());
    match explored.outcome {
        Outcome::Holds => {}
        Outcome::Violated(what, way) => panic!("{name}: {what}: {:?}\n{:?}", way.steps, way.end),
        outcome => panic!("{name}: {outcome:?}"),
    }
}

/// The protocol broken in one place must violate this property.
fn breaks(protocol: Protocol, broken: Broken, name: &'static str) {
    violates(&Protocol { broken: Some(broken), ..protocol }, name);
}

fn violates(protocol: &Protocol, name: &'static str) {
    let explored = explore(protocol, &invariant(name));
    println!("{:?}: {} states", protocol.broken, explored.states());
    match explored.outcome {
        Outcome::Violated(_, way) => println!("  {:?}", way.steps),
        outcome => panic!("{:?}, {name}: {outcome:?}", protocol.broken),
    }
}

#[test]
fn try_outlived() {
    for (recover, crashes) in [
        (Recover::BySerial, 0),
        (Recover::BySerial, 1),
        (Recover::NothingKept, 1),
        (Recover::None, 1),
    ] {
        let p = Protocol {
            faults: Faults { outlived: 1, crashes, ..Faults::default() },
            ..two_gateways(recover)
        };
        for i in invariants() {
            let t = std::time::Instant::now();
            let e = explore(&p, &[i]);
            println!(
                "{recover:?} {crashes} {} {:?} {}",
                e.states(),
                t.elapsed(),
                match e.outcome {
                    Outcome::Violated(n, w) => format!("{n} {:?}", w.steps),
                    o => format!("{o:?}"),
                }
            );
        }
    }
}
#[test]
fn try_key() {
    for live in [true, false] {
        for rev in [0, 1] {
            for differs in [false, true] {
                for p in [one_gateway(Recover::ByKey), two_gateways(Recover::ByKey)] {
                    let p = Protocol {
                        requests: same_key(),
                        asks_for_live_only: live,
                        differs,
                        faults: Faults { revocations: rev, crashes: 1, ..Faults::default() },
                        ..p
                    };
                    let e = explore(&p, &invariants());
                    println!(
                        "live {live} rev {rev} differs {differs} {:?} {}",
                        e.states(),
                        match e.outcome {
                            Outcome::Violated(n, w) => format!("{n} {:?}", w.steps),
                            o => format!("{o:?}"),
                        }
                    );
                }
            }
        }
    }
}
