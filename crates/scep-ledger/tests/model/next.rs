//! What each step does.

use crate::protocol::{Broken, Protocol, Recalled, Recover, Store, Verdict};
use crate::world::State as S;
use crate::world::*;

/// What a settlement came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Now,
    /// Somebody was faster, or the ledger failed; nothing was written.
    No,
}

/// A state that is being made.
pub(crate) struct Next<'a> {
    pub(crate) protocol: &'a Protocol,
    pub(crate) world: World,
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

    pub(crate) fn step(&mut self, step: Step) {
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
            Step::CaRefuses(call) => self.ca(call, At::Nothing),
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
                self.late_unknown(of, settled);
                self.world.phases[request] = Phase::Refused(Refusal::CaOutcomeUnknown);
            }
            Step::LeavePending(request) => {
                let (at, of) = self.held(request);
                self.renew(at);
                let settled = self.settle(of, S::Pending);
                self.late_unknown(of, settled);
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

    /// Settles an intent without a certificate, unless it is settled. What the CA decides on later, only what it says then
    /// ends; what a person has approved stays approved when nothing was issued.
    fn settle(&mut self, of: UseId, state: State) -> Settled {
        let twice = self.is(Broken::SettlesTwice);
        let Some(of) = &mut self.world.uses[of] else { return Settled::No };
        let may = match of.state {
            S::Pending => matches!(state, S::Orphan | S::Refused),
            before => before.is_left(),
        };
        if !may && !twice {
            return Settled::No;
        }
        let state = if state == S::Freed && of.approved { S::Held } else { state };
        of.state = state;
        of.outcomes += u8::from(state.is_settled());
        Settled::Now
    }

    /// PostgreSQL: an outcome that gets unknown after others have found that nothing was issued is reported.
    fn late_unknown(&mut self, of: UseId, settled: Settled) {
        let forgets = self.is(Broken::ForgetsLateUnknowns);
        let Some(of) = &mut self.world.uses[of] else { return };
        let found_nothing = matches!(of.state, S::Freed | S::Held | S::Refused);
        of.suspected |= settled == Settled::No && found_nothing && !forgets;
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
        let has_changed = self.world.uses[of].is_some_and(|of| of.state != seen);
        if has_changed && !self.is(Broken::FreesWhatHasChanged) {
            return;
        }
        if self.is(Broken::RecoveryIssues) {
            self.call(self.process(at), of, true);
            self.ca(of, At::Issued { conforms: true });
            self.put(of, of, Standing::Issued, true);
        } else {
            self.settle(of, if seen == S::Pending { S::Refused } else { S::Freed });
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
