//! What must hold, wherever and whenever.

use crate::explorer::{Property, When};
use crate::protocol::{Protocol, Recover};
use crate::world::{At, CallId, Phase, Standing, State, USES, Use, World};

fn property(
    name: &'static str,
    when: When,
    holds: fn(&Protocol, &World) -> bool,
) -> Property<Protocol> {
    Property { name, when, holds }
}

fn uses(world: &World) -> impl Iterator<Item = (usize, &Use)> {
    world.uses.iter().enumerate().filter_map(|(at, of)| of.as_ref().map(|of| (at, of)))
}

/// Whether there is such a certificate, or may be.
fn exists(world: &World, call: CallId) -> bool {
    matches!(world.calls[call].map(|call| call.at), Some(At::Issued { .. }))
}

fn is_withheld(world: &World, call: CallId) -> bool {
    world.rows[call].is_some_and(|row| row.standing == Standing::Withheld)
}

fn releases(world: &World) -> impl Iterator<Item = (usize, CallId)> {
    let each = |(request, bits): (usize, &u8)| {
        let bits = *bits;
        (0..USES).filter(move |call| bits & (1 << call) != 0).map(move |call| (request, call))
    };
    world.released.iter().enumerate().flat_map(each)
}

/// At most this many of a challenge's uses.
fn at_most_one(world: &World, counts: impl Fn(usize, &Use) -> bool) -> bool {
    uses(world).all(|(_, one)| {
        let same = uses(world)
            .filter(|(at, of)| of.what.challenge == one.what.challenge && counts(*at, of));
        same.count() <= 1
    })
}

pub(crate) const ONE_PER_CHALLENGE: &str = "at most one certificate is released for a challenge";
pub(crate) const RECORDED: &str = "what is released is on record and is what was approved";
pub(crate) const NOT_OVER: &str = "what is revoked, or whose retry window is over, is not recalled";
pub(crate) const ONE_ISSUES: &str =
    "no two calls for a challenge issue, unless the CA had issued nothing at the first";
pub(crate) const OTHERS_GET_NOTHING: &str =
    "another request with the challenge gets nothing while the use stands";
pub(crate) const FREED: &str = "a challenge that is free has no certificate";
pub(crate) const NEVER_ISSUES: &str = "recovery never issues";
pub(crate) const APPROVED: &str = "what a person must approve is not asked of the CA before";
pub(crate) const REPORTED_ONCE: &str = "nothing is reported twice, and no outcome without a report";
pub(crate) const NOTHING_LOST: &str =
    "what the CA has issued is in the end on record, or reported as a possible orphan";
pub(crate) const EACH_REPORTED: &str =
    "each certificate on record, and each outcome, has in the end exactly one report";
pub(crate) const SETTLED: &str = "every intent is settled in the end";

pub(crate) fn invariants() -> Vec<Property<Protocol>> {
    use When::{Always, AtRest};
    vec![
        property(ONE_PER_CHALLENGE, Always, |protocol, world| {
            let challenge = |request: usize| protocol.requests[request].0.challenge;
            releases(world).all(|(one, first)| {
                releases(world)
                    .all(|(two, second)| first == second || challenge(one) != challenge(two))
            })
        }),
        property(RECORDED, Always, |protocol, world| {
            releases(world).all(|(request, call)| {
                let key = protocol.requests[request].0.key;
                world.rows[call].is_some_and(|row| row.standing == Standing::Issued)
                    && world.calls[call].is_some_and(|call| {
                        call.key == key && call.at == At::Issued { conforms: true }
                    })
            })
        }),
        property(NOT_OVER, Always, |_, world| !world.stale_released),
        property(ONE_ISSUES, Always, |protocol, world| {
            // A process that outlives its lease may ask after recovery has looked: what it gets is withheld.
            if protocol.faults.outlived == 0 {
                at_most_one(world, |at, _| exists(world, at))
            } else {
                at_most_one(world, |_, of| of.certificate.is_some())
            }
        }),
        property(OTHERS_GET_NOTHING, Always, |_, world| {
            !world.of_another && at_most_one(world, |_, of| of.state != State::Freed)
        }),
        property(FREED, Always, |protocol, world| {
            let is_free = |of: &Use| matches!(of.state, State::Freed | State::Held);
            uses(world).filter(|(_, of)| is_free(of)).all(|(at, of)| {
                let outlived = protocol.faults.outlived > 0
                    && (world.rows[at].is_none() || is_withheld(world, at));
                of.certificate.is_none()
                    && (!exists(world, at) || outlived)
                    && releases(world).all(|(_, call)| call != at)
            })
        }),
        property(NEVER_ISSUES, Always, |_, world| {
            world.calls.iter().flatten().all(|call| !call.by_recovery)
        }),
        property(APPROVED, Always, |protocol, world| {
            let asked = |at: usize| world.calls[at].is_some();
            !protocol.holds || uses(world).all(|(at, of)| of.approved || !asked(at))
        }),
        property(REPORTED_ONCE, Always, |_, world| {
            world.rows.iter().flatten().all(|row| row.events <= 1)
                && uses(world).all(|(_, of)| of.outcomes == u8::from(of.state.is_settled()))
        }),
        property(NOTHING_LOST, AtRest, |protocol, world| {
            // Where a CA is looked through by key, an orphan is one of the key's certificates.
            let key = |at: usize| world.uses[at].map(|of| of.what.key);
            (0..USES).all(|one| {
                let same = || (0..USES).filter(|at| key(*at).is_some() && key(*at) == key(one));
                let is_lost = |at: &usize| exists(world, *at) && world.rows[*at].is_none();
                let is_orphan = |at: &usize| {
                    world.uses[*at].is_some_and(|of| of.state == State::Orphan || of.suspected)
                };
                if protocol.recover == Recover::ByKey {
                    same().filter(is_lost).count() <= same().filter(is_orphan).count()
                } else {
                    !is_lost(&one) || is_orphan(&one)
                }
            })
        }),
        property(EACH_REPORTED, AtRest, |_, world| {
            world.rows.iter().flatten().all(|row| row.events == 1)
                && uses(world).all(|(_, of)| of.outcomes == u8::from(of.state != State::Held))
        }),
        property(SETTLED, AtRest, |_, world| uses(world).all(|(_, of)| !of.state.is_left())),
    ]
}

pub(crate) fn invariant(name: &str) -> Vec<Property<Protocol>> {
    let found: Vec<_> = invariants().into_iter().filter(|one| one.name == name).collect();
    assert_eq!(found.len(), 1, "{name}");
    found
}

/// A certificate that came of an intent which a crash or a lost answer had left, and was given to a retry.
pub(crate) fn a_retry_gets_what_recovery_found() -> Property<Protocol> {
    property("a retry gets what recovery found", When::Sometimes, |_, world| {
        releases(world).any(|(_, call)| world.rows[call].is_some_and(|row| row.by_recovery))
    })
}

pub(crate) fn two_replicas_race() -> Property<Protocol> {
    property("two replicas race, and one is first", When::Sometimes, |protocol, world| {
        let challenge = |request: usize| protocol.requests.get(request).map(|r| r.0.challenge);
        let phases = || world.phases.iter().enumerate();
        phases().any(|(one, first)| {
            phases().any(|(two, second)| match (first, second) {
                (Phase::Approved(here), Phase::Admitted(there, _)) => {
                    here != there && challenge(one) == challenge(two)
                }
                _ => false,
            })
        })
    })
}

pub(crate) fn a_freed_challenge_is_used_again() -> Property<Protocol> {
    property("a freed challenge is used again", When::Sometimes, |_, world| {
        uses(world).any(|(at, of)| {
            of.state == State::Freed
                && uses(world).any(|(later, next)| {
                    later > at
                        && next.what.challenge == of.what.challenge
                        && next.what.info != of.what.info
                        && releases(world).any(|(_, call)| call == later)
                })
        })
    })
}

pub(crate) fn something_is_withheld() -> Property<Protocol> {
    property("something is withheld", When::Sometimes, |_, world| {
        uses(world).any(|(_, of)| of.state == State::Withheld)
    })
}

pub(crate) fn an_orphan_is_reported() -> Property<Protocol> {
    property("an orphan is reported", When::Sometimes, |_, world| {
        uses(world).any(|(at, of)| of.state == State::Orphan && exists(world, at))
    })
}

pub(crate) fn a_late_certificate_is_withheld() -> Property<Protocol> {
    property("a late certificate is withheld", When::Sometimes, |_, world| {
        uses(world).any(|(at, of)| of.state == State::Freed && is_withheld(world, at))
    })
}

pub(crate) fn a_late_unknown_is_reported() -> Property<Protocol> {
    property("a late unknown is reported", When::Sometimes, |_, world| {
        uses(world).any(|(at, of)| of.suspected && exists(world, at))
    })
}

pub(crate) fn a_loser_gets_the_winners_certificate() -> Property<Protocol> {
    property("two of the same get one certificate", When::Sometimes, |_, world| {
        releases(world)
            .any(|(one, first)| releases(world).any(|(two, second)| one != two && first == second))
    })
}

/// The CA has decided later, and its certificate was given to the device that asked again.
pub(crate) fn what_was_pending_is_released() -> Property<Protocol> {
    property("what was pending is released", When::Sometimes, |protocol, world| {
        protocol.pends
            && releases(world).any(|(_, call)| world.rows[call].is_some_and(|row| row.by_recovery))
    })
}

pub(crate) fn a_person_or_the_ca_says_no() -> Property<Protocol> {
    property("a person or the CA says no", When::Sometimes, |_, world| {
        uses(world).any(|(_, of)| of.state == State::Refused)
    })
}

pub(crate) fn what_was_held_is_released() -> Property<Protocol> {
    property("what was held is released", When::Sometimes, |protocol, world| {
        protocol.holds && releases(world).next().is_some()
    })
}
