//! A small exhaustive explorer: breadth first, so that what it finds is a shortest way there.
//!
//! States are compared whole and not by a hash of them, so none is taken for another. What must come about in the end
//! is decided without approximation: the graph of all steps but the faults has no cycle, hence every way without
//! further faults ends, and every end is looked at.

use core::fmt::Debug;
use core::hash::Hash;
use std::collections::HashMap;

pub(crate) trait Model {
    type State: Copy + Eq + Hash + Debug;
    type Step: Copy + Eq + Debug;

    fn start(&self) -> Self::State;
    /// Everything that may happen next and changes something.
    fn steps(&self, state: &Self::State) -> Vec<Self::Step>;
    fn after(&self, state: &Self::State, step: Self::Step) -> Self::State;
    /// What may happen, and which nothing may depend on.
    fn is_fault(&self, step: Self::Step) -> bool;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// In every state.
    Always,
    /// Wherever nothing can happen any more but faults.
    AtRest,
    /// Somewhere: what is not reached is not checked either.
    Sometimes,
}

pub(crate) struct Property<M: Model> {
    pub(crate) name: &'static str,
    pub(crate) when: When,
    pub(crate) holds: fn(&M, &M::State) -> bool,
}

/// A state and a shortest way to it.
#[derive(Debug)]
pub(crate) struct Way<M: Model> {
    pub(crate) steps: Vec<M::Step>,
    pub(crate) end: M::State,
}

#[derive(Debug)]
pub(crate) enum Outcome<M: Model> {
    /// Every reachable state was looked at, and every property holds.
    Holds,
    /// A property does not hold at the end of this way.
    Violated(&'static str, Way<M>),
    /// Nothing like this is reachable.
    #[allow(dead_code, reason = "for people to read")]
    NeverReached(&'static str),
    /// The steps need not come to an end.
    Endless,
}

/// A state, the one before and the step between.
type Seen<M> = (<M as Model>::State, Option<(usize, <M as Model>::Step)>);

pub(crate) struct Explored<M: Model> {
    found: Vec<Seen<M>>,
    pub(crate) outcome: Outcome<M>,
}

impl<M: Model> Explored<M> {
    /// How many different states were seen.
    pub(crate) fn states(&self) -> usize {
        self.found.len()
    }

    /// Every state with a shortest way to it.
    pub(crate) fn ways(&self) -> impl Iterator<Item = Way<M>> {
        (0..self.found.len()).map(|at| way(&self.found, at))
    }
}

fn way<M: Model>(found: &[Seen<M>], end: usize) -> Way<M> {
    let (mut steps, mut at) = (Vec::new(), end);
    while let Some((before, step)) = found[at].1 {
        steps.push(step);
        at = before;
    }
    steps.reverse();
    Way { steps, end: found[end].0 }
}

/// Looks at every state that can be reached, or at those up to the first that violates a property.
pub(crate) fn explore<M: Model>(model: &M, properties: &[Property<M>]) -> Explored<M> {
    let mut found = vec![(model.start(), None)];
    let mut known = HashMap::from([(model.start(), 0)]);
    let mut reached = vec![false; properties.len()];
    // Steps that are no faults, as edges between states.
    let mut edges: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    while at < found.len() {
        let state = found[at].0;
        let steps = model.steps(&state);
        let at_rest = steps.iter().all(|step| model.is_fault(*step));
        for (property, reached) in properties.iter().zip(&mut reached) {
            let holds = || (property.holds)(model, &state);
            let violated = match property.when {
                When::Always => !holds(),
                When::AtRest => at_rest && !holds(),
                When::Sometimes => {
                    *reached = *reached || holds();
                    false
                }
            };
            if violated {
                let outcome = Outcome::Violated(property.name, way(&found, at));
                return Explored { found, outcome };
            }
        }
        for step in steps {
            let next = model.after(&state, step);
            let to = *known.entry(next).or_insert_with(|| {
                found.push((next, Some((at, step))));
                found.len() - 1
            });
            if !model.is_fault(step) {
                edges.push((at, to));
            }
        }
        at += 1;
    }
    let missing =
        properties.iter().zip(reached).find(|(p, reached)| p.when == When::Sometimes && !reached);
    let outcome = match missing {
        Some((property, _)) => Outcome::NeverReached(property.name),
        None if has_cycle(found.len(), &edges) => Outcome::Endless,
        None => Outcome::Holds,
    };
    Explored { found, outcome }
}

/// Takes away what nothing leads to, again and again; what stays is on a cycle or behind one.
fn has_cycle(states: usize, edges: &[(usize, usize)]) -> bool {
    let (mut into, mut out) = (vec![0_u32; states], vec![Vec::new(); states]);
    for (from, to) in edges {
        into[*to] += 1;
        out[*from].push(*to);
    }
    let mut free: Vec<usize> = (0..states).filter(|at| into[*at] == 0).collect();
    let mut taken = 0;
    while let Some(at) = free.pop() {
        taken += 1;
        for to in &out[at] {
            into[*to] -= 1;
            if into[*to] == 0 {
                free.push(*to);
            }
        }
    }
    taken < states
}
