//! Everything that there is: the ledger, the CA, the processes and what they hold. Names are those of the code.

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
    pub(crate) life: u8,
}

/// A row of `enrolment`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Use {
    pub(crate) what: Asked,
    pub(crate) state: State,
    /// PostgreSQL: whose intent it is.
    pub(crate) owner: Process,
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
    pub(crate) revoked: bool,
    /// The retry window, counted from its recording, is over.
    pub(crate) window_over: bool,
}

impl Row {
    pub(crate) fn is_live(self) -> bool {
        self.standing == Standing::Issued && !self.revoked
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum At {
    /// The CA may be at it.
    UnderWay,
    /// The CA decides later.
    Pending,
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
    pub(crate) by: Process,
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
    pub(crate) fn at(self) -> Option<ReplicaId> {
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
    pub(crate) fn obligation(self) -> Option<UseId> {
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
    pub(crate) tries: [u8; REQUESTS],
    /// The certificates that each was given, as bits.
    pub(crate) released: [u8; REQUESTS],
    pub(crate) stale_released: bool,
    /// A request was released what another request was issued.
    pub(crate) of_another: bool,
    pub(crate) recoveries: [Recovery; REPLICAS],
    pub(crate) lives: [u8; REPLICAS],
    /// The process has outlived its lease.
    pub(crate) outlived: [bool; REPLICAS],
    pub(crate) faults: Faults,
    /// The challenges have expired.
    pub(crate) expired: bool,
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
    SettleOrphan(ReplicaId),
    Crash(ReplicaId),
    LeaseEnds(ReplicaId),
    Revoke(CallId),
    WindowsEnd,
}
