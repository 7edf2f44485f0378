//! The protocol of a challenge's use as a machine of states and steps, named as in the code.
//!
//! One step is what is atomic in the code: one transaction of the ledger, one event at the CA, or one thing that happens
//! in a process's memory. Between any two of them anything else may happen.

use crate::explorer::Model;
use State as S;

/// The most enrolments, hence also the most calls of the CA; recovery must make none.
pub(crate) const USES: usize = 5;
pub(crate) const REQUESTS: usize = 3;
pub(crate) const REPLICAS: usize = 2;

pub(crate) type UseId = usize;
/// A call of the CA, and the certificate that it made: the call for an enrolment has its number.
pub(crate) type CallId = usize;
pub(crate) type ReplicaId = usize;
pub(crate) type RequestId = usize;

/// How far an enrolment is: as in `src/store.rs`, which a test compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    Open,
    Unknown,
    Orphan,
    Issued,
    Withheld,
    Freed,
    /// Waits for a person; the CA was not asked.
    Held,
    /// The CA has it, and decides later.
    Pending,
    /// A person or the CA has said no.
    Refused,
}

impl State {
    pub(crate) const ALL: [Self; 9] = [
        Self::Open,
        Self::Unknown,
        Self::Orphan,
        Self::Issued,
        Self::Withheld,
        Self::Freed,
        Self::Held,
        Self::Pending,
        Self::Refused,
    ];

    /// An intent without an outcome: the CA may have been asked.
    pub(crate) fn is_left(self) -> bool {
        matches!(self, Self::Open | Self::Unknown | Self::Pending)
    }

    pub(crate) fn is_settled(self) -> bool {
        !self.is_left() && self != Self::Held
    }
}

/// A process: a replica from one start to its crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) replica: ReplicaId,
    life: u8,
}

/// A row of `enrolment`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Use {
    pub(crate) what: Asked,
    pub(crate) state: State,
    /// PostgreSQL: whose intent it is.
    owner: Process,
    pub(crate) certificate: Option<CallId>,
    /// Events that tell what became of it.
    pub(crate) outcomes: u8,
    /// Reported, after it was settled, as one that may have a certificate all the same.
    pub(crate) suspected: bool,
    /// A person has approved it.
    pub(crate) approved: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Standing {
    Issued,
    Withheld,
}

/// A row of `certificate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) standing: Standing,
    /// Events `issued` and `withheld` that name it.
    pub(crate) events: u8,
    pub(crate) by_recovery: bool,
    revoked: bool,
    /// The retry window, counted from its recording, is over.
    window_over: bool,
}

impl Row {
    fn is_live(self) -> bool {
        self.standing == Standing::Issued && !self.revoked
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum At {
    /// The CA may be at it.
    UnderWay,
    /// The CA decides later.
    Pending,
    /// It has decided later, against it.
    Refused,
    /// The CA has issued; whether what was approved.
    Issued { conforms: bool },
    /// It has issued nothing, and never will for this call.
    Nothing,
    /// The certificate was in the memory of a process that is no more, and nowhere else.
    Gone,
}

/// One call of the CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Call {
    by: Process,
    pub(crate) by_recovery: bool,
    pub(crate) key: u8,
    pub(crate) at: At,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    /// Its CertificationRequestInfo.
    pub(crate) info: u8,
    pub(crate) challenge: u8,
    pub(crate) key: u8,
}

/// Why a request got no certificate, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    AlreadyUsed,
    Expired,
    CaUnavailable,
    CaOutcomeUnknown,
    CertificateDiffers,
    /// A person or the CA has said no.
    Denied,
    /// The ledger said that the intent is settled, or failed.
    Ledger,
}

/// Where a request is. What a process holds for it is in here, and gone with the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// Not asked yet, or the connection was lost.
    Idle,
    /// `recall` knew nothing; the policy has approved.
    Approved(ReplicaId),
    /// Holds an `Admission`.
    Admitted(ReplicaId, UseId),
    /// Holds `IssuePermit` and `Unsettled`.
    Redeemed(ReplicaId, UseId),
    /// Waits for the CA.
    Issuing(ReplicaId, UseId),
    /// Has the CA's certificate.
    Answered(ReplicaId, UseId),
    /// Has the CA's word that nothing was issued.
    NothingIssued(ReplicaId, UseId),
    /// Has the CA's word that it decides later.
    CaPending(ReplicaId, UseId),
    /// The CA's answer was lost, or says nothing.
    OutcomeUnknown(ReplicaId, UseId),
    /// Holds a `Releasable`; `stale`: it was over already when it was recalled.
    Releasable {
        at: ReplicaId,
        call: CallId,
        stale: bool,
    },
    /// Only where the report is broken off the record: recorded and not reported.
    Unreported(ReplicaId, UseId),
    Refused(Refusal),
    Released(CallId),
}

impl Phase {
    /// The process that works on it.
    fn at(self) -> Option<ReplicaId> {
        match self {
            Self::Approved(at)
            | Self::Admitted(at, _)
            | Self::Redeemed(at, _)
            | Self::Issuing(at, _)
            | Self::Answered(at, _)
            | Self::NothingIssued(at, _)
            | Self::CaPending(at, _)
            | Self::OutcomeUnknown(at, _)
            | Self::Releasable { at, .. }
            | Self::Unreported(at, _) => Some(at),
            Self::Idle | Self::Refused(_) | Self::Released(_) => None,
        }
    }

    /// The intent whose obligation it holds: its challenge is in `Live`.
    fn obligation(self) -> Option<UseId> {
        match self {
            Self::Admitted(_, of)
            | Self::Redeemed(_, of)
            | Self::Issuing(_, of)
            | Self::Answered(_, of)
            | Self::NothingIssued(_, of)
            | Self::CaPending(_, of)
            | Self::OutcomeUnknown(_, of) => Some(of),
            Self::Approved(_)
            | Self::Releasable { .. }
            | Self::Unreported(..)
            | Self::Idle
            | Self::Refused(_)
            | Self::Released(_) => None,
        }
    }
}

/// What recovery was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Found {
    Certificate(CallId),
    Nothing,
    Refused,
    Unknown,
}

/// What a replica's recovery is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Recovery {
    Idle,
    /// Holds a `Recoverable`, with the state in which it was read.
    Left(UseId, State),
    Looked(UseId, State, Found),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) uses: [Option<Use>; USES],
    pub(crate) calls: [Option<Call>; USES],
    pub(crate) rows: [Option<Row>; USES],
    pub(crate) phases: [Phase; REQUESTS],
    /// How often each may still ask.
    tries: [u8; REQUESTS],
    /// The certificates that each was given, as bits.
    pub(crate) released: [u8; REQUESTS],
    pub(crate) stale_released: bool,
    /// A request was released what another request was issued.
    pub(crate) of_another: bool,
    pub(crate) recoveries: [Recovery; REPLICAS],
    lives: [u8; REPLICAS],
    /// The process has outlived its lease.
    outlived: [bool; REPLICAS],
    pub(crate) faults: Faults,
    /// The challenges have expired.
    expired: bool,
}

/// How often each may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    pub(crate) crashes: u8,
    /// A process that is not dead stands still for longer than its lease.
    pub(crate) outlived: u8,
    pub(crate) revocations: u8,
    /// Time enough passes for every window and lifetime to be over.
    pub(crate) windows: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Recall(RequestId, ReplicaId),
    Admit(RequestId),
    Hold(RequestId),
    DecideHeld(UseId, bool),
    Redeem(RequestId),
    Issue(RequestId),
    /// The CA's own: it issues, or decides that it never will.
    CaIssues(CallId, bool),
    CaRefuses(CallId),
    CaPends(CallId),
    CaAnswers(RequestId),
    CaAnswerLost(RequestId),
    Record(RequestId),
    Withhold(RequestId),
    HandBack(RequestId),
    LeaveUnknown(RequestId),
    LeavePending(RequestId),
    Report(RequestId),
    Release(RequestId),
    Unsettled(ReplicaId, UseId),
    Find(ReplicaId, Found),
    SettleFound(ReplicaId),
    SettleNothing(ReplicaId),
    SettleRefused(ReplicaId),
    SettleOrphan(ReplicaId),
    Crash(ReplicaId),
    LeaseEnds(ReplicaId),
    Revoke(CallId),
    WindowsEnd,
}

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
    /// An outcome that becomes unknown after recovery has looked is not lost: of an intent that is settled it is
    /// reported, and recovery does not free what it has read before.
    pub(crate) minds_late_unknowns: bool,
    /// Answers of the CA may be lost.
    pub(crate) loses_answers: bool,
    pub(crate) broken: Option<Broken>,
}

impl Protocol {
    fn is(&self, broken: Broken) -> bool {
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
            true if is(of, At::Refused) => vec![Found::Refused],
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
                Recovery::Looked(_, _, Found::Refused) => steps.push(Step::SettleRefused(at)),
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

/// What a settlement came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Now,
    /// Somebody was faster, or the ledger failed; nothing was written.
    No,
}

/// A state that is being made.
struct Next<'a> {
    protocol: &'a Protocol,
    world: World,
}

impl Next<'_> {
    fn is(&self, broken: Broken) -> bool {
        self.protocol.is(broken)
    }

    fn process(&self, at: ReplicaId) -> Process {
        Process { replica: at, life: self.world.lives[at] }
    }

    /// Whoever writes renews its lease with it.
    fn renew(&mut self, at: ReplicaId) {
        self.world.outlived[at] = false;
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Recall(request, at) => self.recall(request, at),
            Step::Admit(request) => self.admit(request),
            Step::Hold(request) => self.hold(request),
            Step::DecideHeld(of, approve) => {
                if let Some(of) = &mut self.world.uses[of] {
                    of.approved = approve;
                    of.state = if approve { S::Held } else { S::Refused };
                    of.outcomes += u8::from(!approve);
                }
            }
            Step::Redeem(request) => {
                let (at, of) = self.held(request);
                self.world.phases[request] = Phase::Redeemed(at, of);
            }
            Step::Issue(request) => {
                let (at, of) = self.held(request);
                self.call(self.process(at), of, false);
                self.world.phases[request] = Phase::Issuing(at, of);
            }
            Step::CaIssues(call, conforms) => self.ca(call, At::Issued { conforms }),
            Step::CaRefuses(call) => {
                let later = self.world.calls[call].is_some_and(|call| call.at == At::Pending);
                self.ca(call, if later { At::Refused } else { At::Nothing });
            }
            Step::CaPends(call) => self.ca(call, At::Pending),
            Step::CaAnswers(request) => self.ca_answers(request),
            Step::CaAnswerLost(request) => {
                let (at, of) = self.held(request);
                self.world.phases[request] = Phase::OutcomeUnknown(at, of);
            }
            Step::Record(request) => self.record(request),
            Step::Withhold(request) => {
                let (at, of) = self.held(request);
                self.renew(at);
                self.put(of, of, Standing::Withheld, false);
                self.world.phases[request] = Phase::Refused(Refusal::CertificateDiffers);
            }
            Step::HandBack(request) => {
                let (at, of) = self.held(request);
                self.renew(at);
                self.settle(of, S::Freed);
                self.world.phases[request] = Phase::Refused(Refusal::CaUnavailable);
            }
            Step::LeaveUnknown(request) => {
                let (at, of) = self.held(request);
                self.renew(at);
                let frees = self.is(Broken::FreesOnUnknown);
                let settled = self.settle(of, if frees { S::Freed } else { S::Unknown });
                if let Some(of) = &mut self.world.uses[of] {
                    of.suspected |= settled == Settled::No && self.protocol.minds_late_unknowns;
                }
                self.world.phases[request] = Phase::Refused(Refusal::CaOutcomeUnknown);
            }
            Step::LeavePending(request) => {
                let (at, of) = self.held(request);
                self.renew(at);
                self.settle(of, S::Pending);
                self.world.phases[request] = Phase::Idle;
                self.world.tries[request] += 1;
            }
            Step::Report(request) => {
                let Phase::Unreported(at, of) = self.world.phases[request] else { return };
                self.report(of, of);
                self.world.phases[request] = Phase::Releasable { at, call: of, stale: false };
            }
            Step::Release(request) => self.release(request),
            Step::Unsettled(at, of) => self.unsettled(at, of),
            Step::Find(at, found) => {
                if let Recovery::Left(of, seen) = self.world.recoveries[at] {
                    self.world.recoveries[at] = Recovery::Looked(of, seen, found);
                }
            }
            Step::SettleFound(at) => self.settle_found(at),
            Step::SettleNothing(at) => self.settle_nothing(at),
            Step::SettleRefused(at) => {
                if let Some((of, _)) = self.done(at) {
                    self.settle(of, S::Refused);
                }
            }
            Step::SettleOrphan(at) => {
                if let Some((of, _)) = self.done(at) {
                    self.settle(of, S::Orphan);
                }
            }
            Step::Crash(at) => self.crash(at),
            Step::LeaseEnds(at) => {
                self.world.faults.outlived -= 1;
                self.world.outlived[at] = true;
            }
            Step::Revoke(call) => {
                self.world.faults.revocations -= 1;
                if let Some(row) = &mut self.world.rows[call] {
                    row.revoked = true;
                }
            }
            Step::WindowsEnd => {
                self.world.faults.windows -= 1;
                self.world.expired = true;
                for row in self.world.rows.iter_mut().flatten() {
                    row.window_over = true;
                }
            }
        }
    }

    /// The process and the intent that a request's evidence is of.
    fn held(&self, request: RequestId) -> (ReplicaId, UseId) {
        let phase = self.world.phases[request];
        phase.at().zip(phase.obligation()).expect("the request holds an intent")
    }

    fn recall(&mut self, request: RequestId, at: ReplicaId) {
        self.world.tries[request] -= 1;
        let checks_now = self.is(Broken::ChecksBeforeTheTransaction);
        self.world.phases[request] = match self.protocol.recall(&self.world, request) {
            Recalled::Nothing if checks_now => {
                match self.protocol.judge_admission(&self.world, request) {
                    Verdict::Admit => Phase::Approved(at),
                    Verdict::InProgress => Phase::Idle,
                    Verdict::Refuse(refusal) => Phase::Refused(refusal),
                }
            }
            Recalled::Nothing | Recalled::Approved => Phase::Approved(at),
            Recalled::InProgress | Recalled::Pending => Phase::Idle,
            Recalled::Over(refusal) => Phase::Refused(refusal),
            Recalled::Releasable { call, stale } => Phase::Releasable { at, call, stale },
        };
    }

    fn admit(&mut self, request: RequestId) {
        let Phase::Approved(at) = self.world.phases[request] else { return };
        self.renew(at);
        let verdict = if self.is(Broken::ChecksBeforeTheTransaction) {
            Verdict::Admit
        } else {
            self.protocol.judge_admission(&self.world, request)
        };
        self.world.phases[request] = match verdict {
            Verdict::Admit => {
                let info = self.protocol.requests[request].0.info;
                let held = self.world.uses.iter().position(|of| {
                    of.is_some_and(|of| of.state == S::Held && of.what.info == info)
                });
                let of = held.unwrap_or_else(|| self.first_use(request, at));
                let owner = self.process(at);
                if let Some(of) = &mut self.world.uses[of] {
                    (of.state, of.owner) = (S::Open, owner);
                }
                Phase::Admitted(at, of)
            }
            Verdict::InProgress => {
                // It is recalled again, on the same connection.
                self.world.tries[request] += 1;
                Phase::Idle
            }
            Verdict::Refuse(refusal) => Phase::Refused(refusal),
        };
    }

    /// Takes the challenge for a request that a person must approve; PENDING is the answer.
    fn hold(&mut self, request: RequestId) {
        let Phase::Approved(at) = self.world.phases[request] else { return };
        self.renew(at);
        self.world.phases[request] = match self.protocol.judge_admission(&self.world, request) {
            Verdict::Admit => {
                let of = self.first_use(request, at);
                if let Some(of) = &mut self.world.uses[of] {
                    of.state = S::Held;
                }
                self.world.tries[request] += 1;
                Phase::Idle
            }
            Verdict::InProgress => {
                self.world.tries[request] += 1;
                Phase::Idle
            }
            Verdict::Refuse(refusal) => Phase::Refused(refusal),
        };
    }

    fn first_use(&mut self, request: RequestId, at: ReplicaId) -> UseId {
        let free = self.world.uses.iter().position(Option::is_none);
        let of = free.expect("no more enrolments than tries");
        self.world.uses[of] = Some(Use {
            what: self.protocol.requests[request].0,
            state: S::Open,
            owner: self.process(at),
            certificate: None,
            outcomes: 0,
            suspected: false,
            approved: false,
        });
        of
    }

    fn call(&mut self, by: Process, of: UseId, by_recovery: bool) {
        let key = self.world.uses[of].map_or(0, |of| of.what.key);
        self.world.calls[of] = Some(Call { by, by_recovery, key, at: At::UnderWay });
    }

    fn ca(&mut self, call: CallId, at: At) {
        if let Some(call) = &mut self.world.calls[call] {
            call.at = at;
        }
    }

    fn ca_answers(&mut self, request: RequestId) {
        let (at, of) = self.held(request);
        self.world.phases[request] = match self.world.calls[of].map(|call| call.at) {
            Some(At::Issued { .. }) => Phase::Answered(at, of),
            Some(At::Pending) => Phase::CaPending(at, of),
            _ => Phase::NothingIssued(at, of),
        };
    }

    fn record(&mut self, request: RequestId) {
        let (at, of) = self.held(request);
        if self.is(Broken::RecordsAfterReleasing) && self.world.released[request] & (1 << of) == 0 {
            self.world.released[request] |= 1 << of;
            return;
        }
        self.renew(at);
        let settled = self.put(of, of, Standing::Issued, false);
        self.world.phases[request] = match settled {
            Settled::No => Phase::Refused(Refusal::Ledger),
            Settled::Now if self.is(Broken::ReportsAfterRecording) => Phase::Unreported(at, of),
            Settled::Now => Phase::Releasable { at, call: of, stale: false },
        };
    }

    fn release(&mut self, request: RequestId) {
        let Phase::Releasable { call, stale, .. } = self.world.phases[request] else { return };
        self.world.released[request] |= 1 << call;
        self.world.stale_released |= stale;
        let of = self.world.uses.iter().flatten().find(|of| of.certificate == Some(call));
        let info = self.protocol.requests[request].0.info;
        self.world.of_another |= of.is_none_or(|of| of.what.info != info);
        self.world.phases[request] = Phase::Released(call);
    }

    /// One event for the outcome of an intent, and for the certificate where there is one.
    fn report(&mut self, of: UseId, call: CallId) {
        if let Some(of) = &mut self.world.uses[of] {
            of.outcomes += 1;
        }
        if let Some(row) = &mut self.world.rows[call] {
            row.events += 1;
        }
    }

    /// Settles an intent without a certificate, unless it is settled.
    fn settle(&mut self, of: UseId, state: State) -> Settled {
        let twice = self.is(Broken::SettlesTwice);
        let Some(of) = &mut self.world.uses[of] else { return Settled::No };
        if !of.state.is_left() && !twice {
            return Settled::No;
        }
        of.state = state;
        of.outcomes += u8::from(state.is_settled());
        Settled::Now
    }

    /// Settles an intent with a certificate, and reports both in the same commit.
    fn put(&mut self, of: UseId, call: CallId, standing: Standing, by_recovery: bool) -> Settled {
        let row = Row { standing, events: 0, by_recovery, revoked: false, window_over: false };
        let open = self.world.uses[of].is_some_and(|of| of.state.is_left());
        if !open && !self.is(Broken::SettlesTwice) {
            self.late(call, row);
            return Settled::No;
        }
        if self.world.rows[call].is_some() && !self.is(Broken::SettlesTwice) {
            // The table holds a certificate once: the transaction is undone.
            return Settled::No;
        }
        self.world.rows[call].get_or_insert(row);
        if let Some(of) = &mut self.world.uses[of] {
            of.certificate = Some(call);
            of.state = match standing {
                Standing::Issued => S::Issued,
                Standing::Withheld => S::Withheld,
            };
        }
        if by_recovery || !self.is(Broken::ReportsAfterRecording) || standing == Standing::Withheld
        {
            self.report(of, call);
        }
        Settled::Now
    }

    /// PostgreSQL: a certificate that comes after its intent was settled is put on record, withheld and reported. One that
    /// recovery has found and that conforms is of another intent, who will record it.
    fn late(&mut self, call: CallId, row: Row) {
        let found = row.by_recovery && row.standing == Standing::Issued;
        let loses = self.is(Broken::LosesWhatIsLate);
        let known = self.world.rows[call].is_some();
        if self.protocol.store == Store::Sqlite || found || loses || known {
            return;
        }
        self.world.rows[call] = Some(Row { standing: Standing::Withheld, events: 1, ..row });
    }

    fn unsettled(&mut self, at: ReplicaId, of: UseId) {
        let process = self.process(at);
        if self.protocol.store == Store::Postgres {
            self.renew(at);
            // All that nobody living owns are taken over, not just the one that is looked at first.
            for at in 0..USES {
                let free = self.world.uses[at].is_some_and(|left| {
                    let owner = left.owner;
                    left.state.is_left()
                        && (owner.life != self.world.lives[owner.replica]
                            || self.world.outlived[owner.replica])
                });
                if let (true, Some(left)) = (free, &mut self.world.uses[at]) {
                    left.owner = process;
                }
            }
        }
        let seen = self.world.uses[of].map_or(S::Open, |of| of.state);
        self.world.recoveries[at] = Recovery::Left(of, seen);
    }

    /// Ends what recovery is at, with a transaction of its replica.
    fn done(&mut self, at: ReplicaId) -> Option<(UseId, State)> {
        self.renew(at);
        let Recovery::Looked(of, seen, _) = self.world.recoveries[at] else { return None };
        self.world.recoveries[at] = Recovery::Idle;
        Some((of, seen))
    }

    fn settle_found(&mut self, at: ReplicaId) {
        let Recovery::Looked(of, _, Found::Certificate(call)) = self.world.recoveries[at] else {
            return;
        };
        self.done(at);
        let conforms =
            self.world.calls[call].is_some_and(|call| call.at == At::Issued { conforms: true });
        let standing = if conforms || self.is(Broken::RecoveryDoesNotCompare) {
            Standing::Issued
        } else {
            Standing::Withheld
        };
        self.put(of, call, standing, true);
    }

    fn settle_nothing(&mut self, at: ReplicaId) {
        let Some((of, seen)) = self.done(at) else { return };
        let read_before = self.world.uses[of].is_some_and(|of| of.state != seen);
        if read_before && self.protocol.minds_late_unknowns {
            return;
        }
        if self.is(Broken::RecoveryIssues) {
            self.call(self.process(at), of, true);
            self.ca(of, At::Issued { conforms: true });
            self.put(of, of, Standing::Issued, true);
        } else {
            self.settle(of, S::Freed);
        }
    }

    fn crash(&mut self, at: ReplicaId) {
        self.world.faults.crashes -= 1;
        let process = self.process(at);
        for request in 0..REQUESTS {
            if self.world.phases[request].at() != Some(at) {
                continue;
            }
            if let (true, Some(of)) =
                (self.is(Broken::WritesNoIntent), self.world.phases[request].obligation())
            {
                self.world.uses[of] = self.world.uses[of].map(|of| Use { state: S::Freed, ..of });
            }
            self.world.phases[request] = Phase::Idle;
        }
        if self.protocol.recover == Recover::NothingKept {
            // What the process was signing, or had signed and not recorded, nobody will ever have.
            for (call, row) in self.world.calls.iter_mut().zip(&self.world.rows) {
                if let Some(call) = call
                    && call.by == process
                    && row.is_none()
                    && call.at != At::Nothing
                {
                    call.at = At::Gone;
                }
            }
        }
        self.world.recoveries[at] = Recovery::Idle;
        self.world.lives[at] += 1;
        self.renew(at);
    }
}
