//! The model against the ledger: what the model says of a step, the SQLite ledger must do.
//!
//! Each state of a small world is gone to on a shortest way, with the real evidence in hand, and after every step the two
//! are compared: what each request is told, what recovery is given, and at the end the counters and the reports.

use crate::explorer::{Model as _, explore};
use crate::protocol::{Protocol, Recalled, Recover, Verdict};
use crate::support::{
    DAY, Enrolment, HOUR, KEYS, Known, NOW, after, enrolment_with, issue, signer, transaction,
};
use crate::world::{At, CallId, Faults, Phase, Recovery, Refusal, State, Step, USES, World};
use scep_ledger::{
    Admission, AdmitError, Asked, Counters, EventKind, IssuePermit, Ledger, LedgerError,
    LedgerSettings, Recoverable, Releasable, RevocationReason, Unsettled,
};
use scep_policy::{CertificateContents, RetryKey};
use scep_types::{
    AuthorityName, CertificateDer, ChallengeId, DistinguishedName, Reason,
    ReleasedCertificate as _, SerialNumber, Timestamp,
};
use std::collections::HashSet;
use std::path::PathBuf;

/// What a request holds.
enum Held {
    Nothing,
    Admission(Admission),
    Redeemed(IssuePermit, Unsettled),
    Unsettled(Unsettled),
    Releasable(Releasable),
}

/// The ledger on its way through one path of the model.
struct Played<'a> {
    protocol: &'a Protocol,
    path: PathBuf,
    ledger: Option<Ledger>,
    requests: Vec<Enrolment>,
    keys: Vec<RetryKey>,
    held: Vec<Held>,
    left: Option<Recoverable>,
    /// What each call of the CA was given, and what it made.
    permits: Vec<Option<(CertificateContents, SerialNumber)>>,
    certificates: Vec<Option<CertificateDer>>,
    now: Timestamp,
}

fn open(path: &std::path::Path) -> Ledger {
    Ledger::open_sqlite(path, LedgerSettings::default()).unwrap()
}

fn reason(refusal: Refusal) -> Reason {
    match refusal {
        Refusal::AlreadyUsed => Reason::ChallengeAlreadyUsed,
        Refusal::Expired => Reason::ChallengeExpired,
        Refusal::CaUnavailable => Reason::CaUnavailable,
        Refusal::CaOutcomeUnknown => Reason::CaOutcomeUnknown,
        Refusal::CertificateDiffers => Reason::CertificateDiffers,
        Refusal::Denied => Reason::ApprovalDenied,
        Refusal::Ledger => Reason::InternalError,
    }
}

fn serial(nth: u64, of: usize) -> SerialNumber {
    let mut octets = [1; 16];
    octets[..8].copy_from_slice(&nth.to_be_bytes());
    octets[15] = u8::try_from(of).unwrap();
    SerialNumber::from_random(octets)
}

impl Played<'_> {
    fn ledger(&self) -> &Ledger {
        self.ledger.as_ref().unwrap()
    }

    fn take(&mut self, request: usize) -> Held {
        std::mem::replace(&mut self.held[request], Held::Nothing)
    }

    fn unsettled(&mut self, request: usize) -> Unsettled {
        match self.take(request) {
            Held::Unsettled(unsettled) => unsettled,
            _ => panic!("holds no intent"),
        }
    }

    fn known(&self, recalled: Recalled) -> Known {
        match recalled {
            Recalled::Nothing => Known::Nothing,
            Recalled::InProgress => Known::InProgress,
            Recalled::Pending => Known::Pending,
            Recalled::Approved => Known::Approved,
            Recalled::Over(refusal) => Known::Over(reason(refusal)),
            Recalled::Releasable { call, .. } => {
                Known::Certificate(self.certificates[call].clone().unwrap())
            }
        }
    }

    async fn admit(&mut self, request: usize, nth: u64, before: &World) {
        let free = before.uses.iter().position(Option::is_none).unwrap();
        let authority = AuthorityName::main();
        let asked = Asked {
            authority: &authority,
            serial: Some(serial(nth, free)),
            signer: signer(),
            transaction: &transaction("T1"),
        };
        let approval = self.requests[request].approval();
        let admitted = self.ledger().admit(approval, &asked, self.now).await;
        match (self.protocol.judge_admission(before, request), admitted) {
            (Verdict::Admit, Ok(admission)) => self.held[request] = Held::Admission(admission),
            (Verdict::InProgress, Err(AdmitError::Refused(Reason::RequestInProgress))) => {}
            (Verdict::Refuse(refusal), Err(AdmitError::Refused(got))) => {
                assert_eq!(got, reason(refusal));
            }
            (verdict, admitted) => panic!("{verdict:?}, not {admitted:?}"),
        }
    }

    async fn settle_left(&mut self, step: Step, before: &World) {
        let left = self.left.take().unwrap();
        let Recovery::Looked(of, ..) = before.recoveries[0] else { panic!("has not looked") };
        let settled = match step {
            Step::SettleFound(_) => {
                let certificate = self.certificates[of].clone().unwrap();
                let standing = match before.calls[of].unwrap().at {
                    At::Issued { conforms: true } => scep_ledger::Standing::Issued,
                    _ => scep_ledger::Standing::Withheld,
                };
                let found = self.ledger().settle_found(left, certificate, self.now).await;
                found.map(|found| assert_eq!(found, standing))
            }
            Step::SettleNothing(_) => self.ledger().settle_nothing(left, self.now).await,
            _ => self.ledger().settle_orphan(left, "cannot tell", self.now).await,
        };
        let Recovery::Looked(_, seen, _) = before.recoveries[0] else { panic!("has not looked") };
        let state = before.uses[of].unwrap().state;
        let has_changed = matches!(step, Step::SettleNothing(_)) && state != seen;
        let expected = if state.is_settled() || has_changed {
            Err(LedgerError::AlreadySettled)
        } else {
            Ok(())
        };
        assert_eq!(settled, expected);
    }

    async fn step(&mut self, step: Step, nth: u64, before: &World) {
        let certificate = |call: CallId, all: &[Option<CertificateDer>]| all[call].clone().unwrap();
        let of = |request: usize| match before.phases[request] {
            Phase::Redeemed(_, of) | Phase::Answered(_, of) => of,
            phase => panic!("{phase:?}"),
        };
        match step {
            Step::Recall(request, _) => {
                let recall = self.ledger().recall(self.keys[request], self.now);
                if let scep_ledger::Recall::Releasable(releasable) = recall.await.unwrap() {
                    self.held[request] = Held::Releasable(releasable);
                }
            }
            Step::Admit(request) => self.admit(request, nth, before).await,
            Step::Redeem(request) => {
                let Held::Admission(admission) = self.take(request) else { panic!("{step:?}") };
                let (permit, unsettled) = admission.redeem();
                self.held[request] = Held::Redeemed(permit, unsettled);
            }
            Step::Issue(request) => {
                let Held::Redeemed(permit, unsettled) = self.take(request) else {
                    panic!("{step:?}")
                };
                let serial = permit.serial().cloned().unwrap();
                self.permits[of(request)] = Some((permit.contents().clone(), serial));
                self.held[request] = Held::Unsettled(unsettled);
            }
            Step::CaIssues(call, conforms) => {
                let (mut contents, serial) = self.permits[call].clone().unwrap();
                if !conforms {
                    contents.subject = "CN=admin".parse::<DistinguishedName>().unwrap();
                }
                self.certificates[call] = Some(issue(&contents, &serial));
            }
            Step::Record(request) => {
                let unsettled = self.unsettled(request);
                let issued = certificate(of(request), &self.certificates);
                let conforming = unsettled.approval().check_certificate(&issued).unwrap();
                let releasable = self.ledger().record(unsettled, conforming, self.now).await;
                self.held[request] = Held::Releasable(releasable.unwrap());
            }
            Step::Withhold(request) => {
                let unsettled = self.unsettled(request);
                let issued = certificate(of(request), &self.certificates);
                assert!(unsettled.approval().check_certificate(&issued).is_err());
                let withheld = self.ledger().withhold(unsettled, &issued, "differs", self.now);
                withheld.await.unwrap();
            }
            Step::HandBack(request) => {
                let unsettled = self.unsettled(request);
                let reason = Reason::CaUnavailable;
                self.ledger().hand_back(unsettled, reason, "refused", self.now).await.unwrap();
            }
            Step::LeaveUnknown(request) => {
                let unsettled = self.unsettled(request);
                self.ledger().leave_unknown(unsettled, "timeout", self.now).await.unwrap();
            }
            Step::Release(request) => {
                let Phase::Releasable { call, .. } = before.phases[request] else {
                    panic!("{step:?}")
                };
                let Held::Releasable(releasable) = self.take(request) else { panic!("{step:?}") };
                let expected = certificate(call, &self.certificates);
                assert_eq!(*releasable.certificate(), expected);
            }
            Step::Unsettled(_, of) => {
                let left = self.ledger().unsettled().await.unwrap();
                let wanted = serial(nth, of);
                self.left = left.into_iter().find(|left| left.serial() == Some(&wanted));
                assert!(self.left.is_some());
            }
            Step::SettleFound(_) | Step::SettleNothing(_) | Step::SettleOrphan(_) => {
                self.settle_left(step, before).await;
            }
            Step::Crash(_) => {
                self.held.iter_mut().for_each(|held| *held = Held::Nothing);
                (self.left, self.ledger) = (None, None);
                self.ledger = Some(open(&self.path));
            }
            Step::Revoke(call) => {
                let fingerprint = certificate(call, &self.certificates).fingerprint();
                let reason = RevocationReason::Superseded;
                self.ledger().mark_revoked(fingerprint, reason, self.now).await.unwrap();
            }
            Step::WindowsEnd => self.now = after(DAY + HOUR),
            // In the CA's or a process's memory alone.
            Step::CaRefuses(_) | Step::CaAnswers(_) | Step::CaAnswerLost(_) | Step::Find(..) => {}
            Step::Report(_)
            | Step::LeaseEnds(_)
            | Step::Hold(_)
            | Step::DecideHeld(..)
            | Step::CaPends(_)
            | Step::LeavePending(_) => panic!("{step:?} is not of this world"),
        }
    }

    /// What can be seen of the ledger is what the model says.
    async fn compare(&self, nth: u64, world: &World) {
        for (request, key) in self.keys.iter().enumerate() {
            let known = Known::from(self.ledger().recall(*key, self.now).await.unwrap());
            assert_eq!(known, self.known(self.protocol.recall(world, request)));
        }
        let left = self.ledger().unsettled().await.unwrap();
        for (of, row) in world.uses.iter().enumerate() {
            let wanted = serial(nth, of);
            let given = left.iter().any(|left| left.serial() == Some(&wanted));
            let may = row.as_ref().is_some_and(|row| self.protocol.may_settle(world, 0, row));
            assert_eq!(given, may, "{of}");
        }
    }
}

/// How many enrolments have come to be issued, withheld, failed, orphans, and are open: as the model says.
fn tally(world: &World) -> [u64; 5] {
    let outcomes = [State::Issued, State::Withheld, State::Freed, State::Orphan];
    let mut tally = [0; 5];
    for of in world.uses.iter().flatten() {
        tally[outcomes.iter().position(|outcome| *outcome == of.state).unwrap_or(4)] += 1;
    }
    tally
}

/// The same by the ledger's reports since `before`, which its counters must agree with.
async fn tally_of(ledger: &Ledger, before: &Counters) -> [u64; 5] {
    let counters = ledger.counters().await.unwrap();
    let kinds =
        [EventKind::Issued, EventKind::Withheld, EventKind::Failed, EventKind::PossibleOrphan];
    let mut tally = [0; 5];
    for event in ledger.outbox(before.last_event, 1_000).await.unwrap() {
        if let Some(at) = kinds.iter().position(|kind| *kind == event.kind) {
            tally[at] += 1;
        }
    }
    let [issued, withheld, failed, orphans, _] = tally;
    assert_eq!(counters.issued, before.issued + issued);
    assert_eq!(counters.withheld, before.withheld + withheld + orphans);
    assert_eq!(counters.failed, before.failed + failed);
    tally[4] = counters.unsettled - before.unsettled;
    tally
}

/// Goes one way, and compares in every state that was not compared before.
async fn play(
    protocol: &Protocol,
    ledger: Ledger,
    path: PathBuf,
    nth: u64,
    steps: &[Step],
    compared: &mut HashSet<World>,
) -> Ledger {
    let mut challenge = [0; 16];
    challenge[..8].copy_from_slice(&nth.to_be_bytes());
    let id = ChallengeId::from_bytes(challenge);
    let first = enrolment_with(id, "device-1", &KEYS[1], 1_000_000, 365 * DAY);
    let other = first.with_key(2);
    let requests = vec![first, other];
    let counters = ledger.counters().await.unwrap();
    let mut played = Played {
        protocol,
        path,
        ledger: Some(ledger),
        keys: requests.iter().map(Enrolment::retry_key).collect(),
        requests,
        held: vec![Held::Nothing, Held::Nothing],
        left: None,
        permits: vec![None; USES],
        certificates: vec![None; USES],
        now: NOW,
    };
    let mut world = protocol.start();
    for step in steps {
        played.step(*step, nth, &world).await;
        world = protocol.after(&world, *step);
        if compared.insert(world) {
            played.compare(nth, &world).await;
        }
    }
    let ledger = played.ledger.take().unwrap();
    assert_eq!(tally_of(&ledger, &counters).await, tally(&world));
    // The next way is to find nothing of this one.
    drop(played);
    for left in ledger.unsettled().await.unwrap() {
        ledger.settle_nothing(left, NOW).await.unwrap();
    }
    ledger
}

/// One gateway; a request that may come twice, and another one with the same challenge.
fn follow(faults: Faults) {
    let first = crate::world::Asked { info: 0, challenge: 0, key: 0 };
    let other = crate::world::Asked { info: 1, challenge: 0, key: 1 };
    let requests = vec![(first, 2), (other, 1)];
    let protocol = Protocol { requests, faults, ..crate::one_gateway(Recover::BySerial) };
    let explored = explore(&protocol, &crate::properties::invariants());
    let ways: Vec<Vec<Step>> = explored.ways().map(|way| way.steps).collect();
    // A way that others go on from is gone with them.
    let before: HashSet<&[Step]> =
        ways.iter().filter_map(|way| way.split_last()).map(|(_, before)| before).collect();
    let last: Vec<&[Step]> =
        ways.iter().map(Vec::as_slice).filter(|way| !before.contains(way)).collect();
    println!("{} states, {} ways", ways.len(), last.len());
    // Several ledgers at once: most of the time goes by waiting for the disk.
    let numbered: Vec<(u64, &[Step])> = (1..).zip(last).collect();
    let protocol = &protocol;
    let compared: HashSet<World> = std::thread::scope(|scope| {
        let parts = numbered.chunks(numbered.len().div_ceil(4));
        let threads: Vec<_> =
            parts.map(|part| scope.spawn(move || follow_each(protocol, part))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(compared.len() + 1, ways.len(), "every state but the first");
}

/// Goes these ways, one after the other, on one ledger; gives back in which states the two were compared.
fn follow_each(protocol: &Protocol, ways: &[(u64, &[Step])]) -> HashSet<World> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap().join("ledger.sqlite");
    let mut ledger = open(&path);
    let mut compared = HashSet::new();
    for (nth, way) in ways {
        println!("{way:?}");
        let played = play(protocol, ledger, path.clone(), *nth, way, &mut compared);
        ledger = runtime.block_on(played);
    }
    compared
}

#[test]
fn attack_52_the_sqlite_ledger_crashes_as_the_model_does() {
    follow(Faults { crashes: 1, ..Faults::default() });
}

#[test]
fn the_sqlite_ledger_recalls_as_the_model_does() {
    follow(Faults { revocations: 1, windows: 1, ..Faults::default() });
}

/// Why recovery must know everything on record: a ledger settles no second intent with a certificate, live or not.
#[test]
fn attack_53_a_certificate_on_record_settles_no_other_intent() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder.path().canonicalize().unwrap().join("ledger.sqlite"));
    let authority = AuthorityName::main();
    // A CA that chooses its serial numbers and is looked through by key.
    let transaction = transaction("T1");
    let asked =
        Asked { authority: &authority, serial: None, signer: signer(), transaction: &transaction };
    runtime.block_on(async {
        let [first, second] = [1, 2].map(|n| crate::support::enrolment(n, "device-1", 1));
        let admission = ledger.admit(first.approval(), &asked, NOW).await.unwrap();
        let (permit, unsettled) = admission.redeem();
        let certificate = issue(permit.contents(), &serial(1, 0));
        let conforming = unsettled.approval().check_certificate(&certificate).unwrap();
        ledger.record(unsettled, conforming, NOW).await.unwrap();
        let reason = RevocationReason::Superseded;
        ledger.mark_revoked(certificate.fingerprint(), reason, NOW).await.unwrap();
        drop(ledger.admit(second.approval(), &asked, NOW).await.unwrap());

        let live = ledger.live_certificate(certificate.fingerprint(), NOW).await.unwrap();
        assert!(live.is_none());
        let left = ledger.unsettled().await.unwrap().pop().unwrap();
        assert!(ledger.settle_found(left, certificate, NOW).await.is_err());
        assert_eq!(ledger.unsettled().await.unwrap().len(), 1);
        assert_eq!(second.recall(&ledger, NOW).await, Known::InProgress);
        let left = ledger.unsettled().await.unwrap().pop().unwrap();
        ledger.settle_orphan(left, "no other certificate", NOW).await.unwrap();
    });
}
