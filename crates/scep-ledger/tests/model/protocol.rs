//! The protocol of a challenge's use as a machine of states and steps, named as in the code.
//!
//! One step is what is atomic in the code: one transaction of the ledger, one event at the CA, or one thing that happens
//! in a process's memory. Between any two of them anything else may happen.

use crate::explorer::Model;
use crate::next::Next;
use crate::world::State as S;
use crate::world::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    /// One process: what is open and not in its `Live` was left by a crash.
    Sqlite,
    /// Several: an intent is its owner's as long as that one's lease holds.
    Postgres,
}

/// How a CA is looked through: as `Recover` of scep-ca.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recover {
    /// It signs in our process and keeps nothing.
    NothingKept,
    BySerial,
    /// What it finds may be of another enrolment of the same key.
    ByKey,
    None,
}

/// A protocol that is broken in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    RecordsAfterReleasing,
    ReportsAfterRecording,
    RecoveryIssues,
    RecoveryDoesNotCompare,
    FreesOnUnknown,
    SettlesWhatIsLive,
    SettlesTwice,
    ChecksBeforeTheTransaction,
    WritesNoIntent,
    RecallsByChallenge,
    RecallsWhatIsOver,
    FindsNothingUnderWay,
    LosesWhatIsLate,
    ForgetsLateUnknowns,
    FreesWhatHasChanged,
    AsksNobody,
}

#[derive(Clone, Debug)]
pub(crate) struct Protocol {
    pub(crate) store: Store,
    pub(crate) recover: Recover,
    pub(crate) replicas: usize,
    /// What is asked, and how often it may be asked again.
    pub(crate) requests: Vec<(Asked, u8)>,
    pub(crate) faults: Faults,
    /// The CA may issue something else than it was asked for.
    pub(crate) differs: bool,
    /// A person must approve what is asked.
    pub(crate) holds: bool,
    /// The CA may decide later.
    pub(crate) pends: bool,
    /// Recovery knows everything on record when it sees it again, and not just what is live.
    pub(crate) knows_all_on_record: bool,
    /// Answers of the CA may be lost.
    pub(crate) loses_answers: bool,
    pub(crate) broken: Option<Broken>,
}

impl Protocol {
    pub(crate) fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    fn live(&self, world: &World, at: ReplicaId, challenge: u8) -> bool {
        world.phases.iter().enumerate().any(|(request, phase)| {
            phase.at() == Some(at)
                && phase.obligation().is_some()
                && self.requests[request].0.challenge == challenge
        })
    }

    /// Whether `unsettled` at this replica gives this intent, and takes it over where need be.
    pub(crate) fn may_settle(&self, world: &World, at: ReplicaId, of: &Use) -> bool {
        if !of.state.is_left() {
            return false;
        }
        if self.is(Broken::SettlesWhatIsLive) {
            return true;
        }
        let owner = of.owner;
        let is_free = self.store == Store::Sqlite
            || owner.replica == at
            || owner.life != world.lives[owner.replica]
            || world.outlived[owner.replica];
        is_free && !self.live(world, at, of.what.challenge)
    }

    /// What a CA may say about an intent. While a call may be at work it says nothing yet, except that it cannot know.
    fn findings(&self, world: &World, of: UseId) -> Vec<Found> {
        let key = world.uses[of].map(|of| of.what.key);
        let is = |at: usize, what| world.calls[at].is_some_and(|call| call.at == what);
        let under_way = |at: usize| is(at, At::UnderWay) || is(at, At::Pending);
        let issued =
            |at: usize| matches!(world.calls[at], Some(Call { at: At::Issued { .. }, .. }));
        let looked_at: Vec<CallId> = match self.recover {
            Recover::NothingKept => return vec![Found::Nothing],
            Recover::None => return vec![Found::Unknown],
            Recover::BySerial => vec![of],
            Recover::ByKey => {
                (0..USES).filter(|at| world.calls[*at].map(|call| call.key) == key).collect()
            }
        };
        if looked_at.iter().any(|at| under_way(*at)) {
            let wrong = self.is(Broken::FindsNothingUnderWay);
            return if wrong { vec![Found::Nothing] } else { Vec::new() };
        }
        let found: Vec<Found> =
            looked_at.into_iter().filter(|at| issued(*at)).map(Found::Certificate).collect();
        match found.is_empty() {
            false => found,
            true => vec![Found::Nothing],
        }
    }
}

impl Model for Protocol {
    type State = World;
    type Step = Step;

    fn start(&self) -> World {
        let mut tries = [0; REQUESTS];
        for (tries, (_, given)) in tries.iter_mut().zip(&self.requests) {
            *tries = *given;
        }
        World {
            uses: [None; USES],
            calls: [None; USES],
            rows: [None; USES],
            phases: [Phase::Idle; REQUESTS],
            tries,
            released: [0; REQUESTS],
            stale_released: false,
            of_another: false,
            recoveries: [Recovery::Idle; REPLICAS],
            lives: [0; REPLICAS],
            outlived: [false; REPLICAS],
            faults: self.faults,
            expired: false,
        }
    }

    fn is_fault(&self, step: Step) -> bool {
        matches!(step, Step::Crash(_) | Step::LeaseEnds(_) | Step::Revoke(_) | Step::WindowsEnd)
    }

    fn steps(&self, world: &World) -> Vec<Step> {
        let mut steps = Vec::new();
        self.steps_of_requests(world, &mut steps);
        self.steps_of_others(world, &mut steps);
        self.steps_of_recovery(world, &mut steps);
        self.faults_of(world, &mut steps);
        steps
    }

    fn after(&self, world: &World, step: Step) -> World {
        let mut next = Next { protocol: self, world: *world };
        next.step(step);
        next.world
    }
}

impl Protocol {
    fn steps_of_requests(&self, world: &World, steps: &mut Vec<Step>) {
        for (request, phase) in world.phases.iter().enumerate().take(self.requests.len()) {
            match *phase {
                Phase::Idle | Phase::Refused(_) | Phase::Released(_) => {
                    // A client that waits for the same request on another connection goes on waiting.
                    let recalled = self.recall(world, request);
                    let waits = matches!(recalled, Recalled::InProgress | Recalled::Pending);
                    if world.tries[request] > 0 && !waits {
                        steps.extend((0..self.replicas).map(|at| Step::Recall(request, at)));
                    }
                }
                Phase::Approved(_) => {
                    let was_held = self.recall(world, request) == Recalled::Approved;
                    let hold = self.holds && !was_held;
                    steps.push(if hold { Step::Hold(request) } else { Step::Admit(request) });
                }
                Phase::Admitted(..) => steps.push(Step::Redeem(request)),
                Phase::Redeemed(..) => steps.push(Step::Issue(request)),
                Phase::Issuing(_, of) => {
                    if world.calls[of].is_some_and(|call| call.at != At::UnderWay) {
                        steps.push(Step::CaAnswers(request));
                    }
                    if self.loses_answers && self.recover != Recover::NothingKept {
                        steps.push(Step::CaAnswerLost(request));
                    }
                }
                Phase::Answered(_, of) => match world.calls[of].map(|call| call.at) {
                    Some(At::Issued { conforms: false }) => steps.push(Step::Withhold(request)),
                    _ => steps.push(Step::Record(request)),
                },
                Phase::NothingIssued(..) => steps.push(Step::HandBack(request)),
                Phase::OutcomeUnknown(..) => steps.push(Step::LeaveUnknown(request)),
                Phase::CaPending(..) => steps.push(Step::LeavePending(request)),
                Phase::Unreported(..) => steps.push(Step::Report(request)),
                Phase::Releasable { .. } => steps.push(Step::Release(request)),
            }
        }
    }

    /// What the CA does, and the person that approves.
    fn steps_of_others(&self, world: &World, steps: &mut Vec<Step>) {
        for (of, call) in world.calls.iter().enumerate() {
            let at = call.map(|call| call.at);
            if matches!(at, Some(At::UnderWay | At::Pending)) {
                steps.extend([Step::CaIssues(of, true), Step::CaRefuses(of)]);
                if self.differs {
                    steps.push(Step::CaIssues(of, false));
                }
            }
            if self.pends && at == Some(At::UnderWay) {
                steps.push(Step::CaPends(of));
            }
        }
        for (at, of) in world.uses.iter().enumerate() {
            if of.is_some_and(|of| of.state == S::Held && !of.approved) {
                steps.extend([true, false].map(|approve| Step::DecideHeld(at, approve)));
            }
        }
    }

    fn steps_of_recovery(&self, world: &World, steps: &mut Vec<Step>) {
        for at in 0..self.replicas {
            match world.recoveries[at] {
                Recovery::Idle => {
                    let left = world.uses.iter().enumerate().filter(|(_, of)| {
                        of.as_ref().is_some_and(|of| self.may_settle(world, at, of))
                    });
                    steps.extend(left.map(|(of, _)| Step::Unsettled(at, of)));
                }
                Recovery::Left(of, _) => {
                    steps.extend(self.findings(world, of).into_iter().map(|f| Step::Find(at, f)));
                }
                Recovery::Looked(_, _, Found::Nothing) => steps.push(Step::SettleNothing(at)),
                Recovery::Looked(_, _, Found::Unknown) => steps.push(Step::SettleOrphan(at)),
                Recovery::Looked(of, _, Found::Certificate(call)) => {
                    let open = world.uses[of].is_some_and(|of| of.state.is_left());
                    match world.rows[call] {
                        None => steps.push(Step::SettleFound(at)),
                        Some(row) if row.is_live() || self.knows_all_on_record => {
                            steps.push(Step::SettleOrphan(at));
                        }
                        // The certificate is on record already, so that settling with it fails, each time anew.
                        Some(_) if open => {}
                        Some(_) => steps.push(Step::SettleFound(at)),
                    }
                }
            }
        }
    }

    fn faults_of(&self, world: &World, steps: &mut Vec<Step>) {
        for at in 0..self.replicas {
            let works = world.phases.iter().any(|phase| phase.at() == Some(at))
                || world.recoveries[at] != Recovery::Idle;
            if world.faults.crashes > 0 && works {
                steps.push(Step::Crash(at));
            }
            let holds = world.uses.iter().flatten().any(|of| {
                of.state.is_left() && of.owner == (Process { replica: at, life: world.lives[at] })
            });
            if world.faults.outlived > 0 && holds && !world.outlived[at] {
                steps.push(Step::LeaseEnds(at));
            }
        }
        if world.faults.revocations > 0 {
            let live =
                world.rows.iter().enumerate().filter(|(_, row)| row.is_some_and(Row::is_live));
            steps.extend(live.map(|(call, _)| Step::Revoke(call)));
        }
        if world.faults.windows > 0 && world.rows.iter().any(Option::is_some) {
            steps.push(Step::WindowsEnd);
        }
    }

    /// What the ledger knows of a request: `judge_recall`.
    pub(crate) fn recall(&self, world: &World, request: RequestId) -> Recalled {
        let asked = self.requests[request].0;
        let same = |of: &&Use| {
            of.what.info == asked.info
                || (self.is(Broken::RecallsByChallenge) && of.what.challenge == asked.challenge)
        };
        let Some(of) = world.uses.iter().flatten().rfind(same) else { return Recalled::Nothing };
        match of.state {
            S::Freed => Recalled::Nothing,
            S::Held if of.approved || self.is(Broken::AsksNobody) => Recalled::Approved,
            S::Held | S::Pending => Recalled::Pending,
            S::Open | S::Unknown => Recalled::InProgress,
            S::Refused => Recalled::Over(Refusal::Denied),
            S::Orphan => Recalled::Over(Refusal::CaOutcomeUnknown),
            S::Withheld => Recalled::Over(Refusal::CertificateDiffers),
            S::Issued => {
                let call = of.certificate.expect("an issued enrolment has a certificate");
                let stale = world.rows[call].is_some_and(|row| row.revoked || row.window_over);
                if stale && !self.is(Broken::RecallsWhatIsOver) {
                    Recalled::Over(Refusal::Expired)
                } else {
                    Recalled::Releasable { call, stale }
                }
            }
        }
    }

    /// Whether a request is admitted: `judge_admission`.
    pub(crate) fn judge_admission(&self, world: &World, request: RequestId) -> Verdict {
        let asked = self.requests[request].0;
        if world.expired {
            return Verdict::Refuse(Refusal::Expired);
        }
        let prior = world
            .uses
            .iter()
            .flatten()
            .find(|of| of.what.challenge == asked.challenge && of.state != S::Freed);
        match prior {
            None => Verdict::Admit,
            Some(prior)
                if prior.what.info == asked.info
                    && prior.state == S::Held
                    && (prior.approved || self.is(Broken::AsksNobody)) =>
            {
                Verdict::Admit
            }
            Some(prior)
                if prior.what.info == asked.info
                    && matches!(
                        prior.state,
                        S::Open | S::Unknown | S::Issued | S::Held | S::Pending
                    ) =>
            {
                Verdict::InProgress
            }
            Some(_) => Verdict::Refuse(Refusal::AlreadyUsed),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recalled {
    Nothing,
    InProgress,
    Pending,
    Approved,
    Over(Refusal),
    Releasable { call: CallId, stale: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Admit,
    InProgress,
    Refuse(Refusal),
}
