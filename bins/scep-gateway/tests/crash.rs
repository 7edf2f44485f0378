//! The gateway's process, killed at random moments under load and started again: no certificate is lost, unrecorded,
//! made twice or unreported, and no counter goes back.
//!
//! `SCEP_CRASH_KILLS`, `SCEP_CRASH_ENROLMENTS` and `SCEP_CRASH_SEED` make more of it, or the same again; what the seed
//! cannot fix is how the machine schedules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use core::time::Duration;
use scep_client::{ClientError, Identity, ScepClient, Server};
use scep_keys::AwsLc;
use scep_ledger::{Delivery, EventKind, InventoryEntry, Ledger, OutboxEvent, Standing};
use scep_server::SystemClock;
use scep_types::{CertificateDer, Clock, CryptoProvider};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use support::{Device, Gateway, enrol, identity};

/// How many devices enrol at once.
const CLIENTS: usize = 8;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| {
        text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}"))
    })
}

/// Past what the tests' harness keeps back: who runs this with more kills wants to see what came of it.
fn say(text: &str) {
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap();
}

/// SplitMix64.
#[derive(Clone, Debug)]
struct Chance(u64);

impl Chance {
    /// Of the environment, or a new one; said, so that a failure can be tried again.
    fn seed(test: &str) -> Self {
        let mut random = [0; 8];
        AwsLc.random(&mut random).unwrap();
        let seed = number("SCEP_CRASH_SEED", u64::from_be_bytes(random));
        say(&format!("{test}: SCEP_CRASH_SEED={seed}"));
        Self(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// How devices behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manners {
    /// They wait for every answer and ask once.
    Good,
    /// At times they hang up before the answer, at times they ask once more.
    Bad,
}

/// What all clients share.
#[derive(Debug)]
struct Load {
    client: ScepClient,
    server: Server,
    identity: Identity,
    manners: Manners,
    deadline: Instant,
    /// Devices that have a certificate.
    done: AtomicUsize,
    /// Exchanges that a stopped gateway or an impatient device has cut off, or that found nobody.
    cut_off: AtomicUsize,
}

/// What an exchange came to, unless it was cut off.
enum Heard {
    Certificate(CertificateDer),
    CutOff,
}

impl Load {
    async fn ask(&self, request: &[u8]) -> Heard {
        match enrol(&self.client, &self.server, request, &self.identity).await {
            Ok(certificate) => Heard::Certificate(certificate),
            Err(ClientError::Connection { .. } | ClientError::Unreachable { .. }) => self.cut_off(),
            // A good request is never refused, whatever has happened to the gateway.
            Err(error) => panic!("{error:?}"),
        }
    }

    fn cut_off(&self) -> Heard {
        assert!(Instant::now() < self.deadline, "the gateway has not answered for too long");
        self.cut_off.fetch_add(1, Ordering::Relaxed);
        Heard::CutOff
    }

    /// Asks with one request until it has been answered that often.
    async fn enrol(
        &self,
        request: &[u8],
        answers: usize,
        chance: &mut Chance,
    ) -> Vec<CertificateDer> {
        let mut heard = Vec::new();
        while heard.len() < answers {
            let answer = if self.manners == Manners::Bad && chance.below(8) == 0 {
                let patience = Duration::from_micros(chance.below(40_000));
                match tokio::time::timeout(patience, self.ask(request)).await {
                    Ok(answer) => answer,
                    Err(_) => self.cut_off(),
                }
            } else {
                self.ask(request).await
            };
            match answer {
                Heard::Certificate(certificate) => heard.push(certificate),
                Heard::CutOff => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        heard
    }
}

/// Devices by their place, and what each was answered.
type Answers = BTreeMap<usize, Vec<CertificateDer>>;

/// Devices that enrol while something happens to the gateway.
#[derive(Debug)]
struct Crowd {
    load: Arc<Load>,
    devices: Arc<Vec<Device>>,
    clients: tokio::task::JoinSet<Answers>,
    heard: Answers,
}

impl Crowd {
    async fn start(gateway: &Gateway, size: u64, manners: Manners, chance: &mut Chance) -> Self {
        let (client, server) = gateway.client().await;
        let load = Arc::new(Load {
            client,
            server,
            identity: identity(),
            manners,
            deadline: Instant::now() + Duration::from_secs(180 + size / 2),
            done: AtomicUsize::new(0),
            cut_off: AtomicUsize::new(0),
        });
        let devices: Arc<Vec<Device>> = Arc::new((0..size).map(|_| gateway.device()).collect());
        let next = Arc::new(AtomicUsize::new(0));
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..CLIENTS {
            let (load, devices) = (Arc::clone(&load), Arc::clone(&devices));
            let next = Arc::clone(&next);
            let mut chance = Chance(chance.below(u64::MAX));
            clients.spawn(async move {
                let mut all = Answers::new();
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(device) = devices.get(at) else { return all };
                    let twice = load.manners == Manners::Bad && chance.below(4) == 0;
                    let answers = 1 + usize::from(twice);
                    let heard = load.enrol(&device.request(), answers, &mut chance).await;
                    load.done.fetch_add(1, Ordering::Relaxed);
                    all.insert(at, heard);
                }
            });
        }
        Self { load, devices, clients, heard: Answers::new() }
    }

    /// Until so many devices have a certificate.
    async fn until(&mut self, done: u64, gateway: &Gateway) {
        while (self.load.done.load(Ordering::Relaxed) as u64) < done {
            assert!(Instant::now() < self.load.deadline, "{}", gateway.log());
            match self.clients.try_join_next() {
                Some(Ok(all)) => self.heard.extend(all),
                Some(Err(error)) => panic!("a client has failed: {error}: {}", gateway.log()),
                None => {}
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Until all have one.
    async fn all(&mut self) {
        while let Some(client) = self.clients.join_next().await {
            self.heard.extend(client.unwrap());
        }
        assert_eq!(self.heard.len(), self.devices.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_52_53_no_certificate_is_lost_doubled_or_unrecorded_by_a_killed_gateway() {
    let name = "attack_52_53_no_certificate_is_lost_doubled_or_unrecorded_by_a_killed_gateway";
    let kills = number("SCEP_CRASH_KILLS", 5);
    let enrolments = number("SCEP_CRASH_ENROLMENTS", 200);
    let mut chance = Chance::seed(name);
    let begun = Instant::now();

    let mut gateway = Gateway::init();
    gateway.start(&[]);
    let mut crowd = Crowd::start(&gateway, enrolments, Manners::Bad, &mut chance).await;
    let share = enrolments / (kills + 1);
    for kill in 0..kills {
        // Somewhere in its share of the enrolments, and then not just after an answer.
        crowd.until(kill * share + chance.below(share.max(1)), &gateway).await;
        tokio::time::sleep(Duration::from_micros(chance.below(30_000))).await;
        gateway.kill();
        while chance.below(3) == 0 {
            gateway.start_in_vain(Duration::from_micros(chance.below(150_000)));
        }
        gateway.start(&[]);
    }
    crowd.all().await;
    // After everything, some ask once more: the gateway that answers has seen none of it.
    gateway.kill();
    gateway.start(&[]);
    let Crowd { load, devices, mut heard, .. } = crowd;
    for (at, device) in devices.iter().enumerate().step_by(10) {
        let again = load.enrol(&device.request(), 1, &mut chance).await;
        heard.get_mut(&at).unwrap().extend(again);
    }
    gateway.stop();

    let ledger = gateway.ledger();
    let entries = inventory(&ledger).await;
    each_device_has_one(&devices, &heard, &entries);
    assert!(ledger.unsettled().await.unwrap().is_empty());
    let counters = ledger.counters().await.unwrap();
    assert_eq!((counters.issued, counters.unsettled, counters.withheld), (enrolments, 0, 0));
    let events = outbox(&ledger).await;
    each_certificate_is_reported_once(&entries, &events);
    drop(ledger);
    let intents = intents(&gateway);
    each_certificate_has_the_serial_of_its_intent(&entries, &intents);

    let cut_off = load.cut_off.load(Ordering::Relaxed);
    assert!(kills == 0 || cut_off > 0, "nothing was cut off: this test has tested nothing");
    say(&format!(
        "{name}: {enrolments} enrolments, {kills} kills under load, {cut_off} exchanges cut off, {} intents of which \
         {} were freed by recovery, {} replies compared, {} events, {:.1} s",
        intents.len(),
        events.iter().filter(|event| event.kind == EventKind::Failed).count(),
        heard.values().map(Vec::len).sum::<usize>(),
        events.len(),
        begun.elapsed().as_secs_f64(),
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_told_to_stop_under_load_finishes_what_it_has_begun() {
    let stops = 4;
    let share = 25;
    let mut chance =
        Chance::seed("a_gateway_that_is_told_to_stop_under_load_finishes_what_it_has_begun");
    let mut gateway = Gateway::init();
    gateway.start(&[]);
    let mut crowd = Crowd::start(&gateway, stops * share, Manners::Good, &mut chance).await;
    for stop in 1..=stops {
        if stop == stops {
            crowd.all().await;
        } else {
            crowd.until(stop * share - chance.below(share), &gateway).await;
            tokio::time::sleep(Duration::from_micros(chance.below(30_000))).await;
        }
        gateway.stop();
        let ledger = gateway.ledger();
        assert!(ledger.unsettled().await.unwrap().is_empty());
        let entries = inventory(&ledger).await;
        each_certificate_is_reported_once(&entries, &outbox(&ledger).await);
        // Every answer that was begun got out: nobody has to ask again for what is on record.
        for entry in entries {
            assert_eq!(entry.delivered, Some(Delivery::Flushed), "{entry:?}");
        }
        drop(ledger);
        if stop < stops {
            gateway.start(&[]);
        }
    }
    let ledger = gateway.ledger();
    each_device_has_one(&crowd.devices, &crowd.heard, &inventory(&ledger).await);
    let counters = ledger.counters().await.unwrap();
    assert_eq!((counters.issued, counters.delivered, counters.failed), (100, 100, 0));
    assert!(crowd.load.cut_off.load(Ordering::Relaxed) > 0, "no stop was under load");
}

#[test]
fn a_gateway_that_is_told_to_stop_as_soon_as_it_is_up_ends_in_good_order() {
    let mut gateway = Gateway::init();
    for _ in 0..10 {
        gateway.start(&[]);
        gateway.stop();
    }
}

/// Every page, the newest first.
async fn inventory(ledger: &Ledger) -> Vec<InventoryEntry> {
    let mut all: Vec<InventoryEntry> = Vec::new();
    loop {
        let page = ledger.inventory(100, all.last().map(|entry| entry.row)).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// Every event, numbered without gaps.
async fn outbox(ledger: &Ledger) -> Vec<OutboxEvent> {
    let mut all: Vec<OutboxEvent> = Vec::new();
    loop {
        let page = ledger.outbox(all.last().map_or(0, |event| event.sequence), 100).await.unwrap();
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    for (event, sequence) in all.iter().zip(1..) {
        assert_eq!(event.sequence, sequence, "{event:?}");
    }
    let keys: BTreeSet<&str> = all.iter().map(|event| &*event.idempotency_key).collect();
    assert_eq!(keys.len(), all.len(), "two events with one key");
    all
}

/// One certificate on record for each challenge, and each reply with it, byte for byte.
fn each_device_has_one(devices: &[Device], heard: &Answers, entries: &[InventoryEntry]) {
    let mut by_challenge = BTreeMap::new();
    for entry in entries {
        assert_eq!(entry.standing, Standing::Issued);
        let earlier = by_challenge.insert(*entry.challenge.as_bytes(), entry);
        assert!(earlier.is_none(), "two certificates for one challenge: {earlier:?} {entry:?}");
    }
    assert_eq!(entries.len(), devices.len());
    for (at, replies) in heard {
        let device = &devices[*at];
        let entry = by_challenge[device.claims.challenge_id.as_bytes()];
        assert_eq!(entry.device, device.claims.device);
        assert_eq!(entry.certificate.spki(), device.public_key());
        assert!(!replies.is_empty());
        for reply in replies {
            assert_eq!(reply.as_der(), entry.certificate.as_der(), "{}", entry.device);
        }
    }
}

fn each_certificate_is_reported_once(entries: &[InventoryEntry], events: &[OutboxEvent]) {
    let mut reported: BTreeMap<String, usize> = BTreeMap::new();
    for event in events.iter().filter(|event| event.kind == EventKind::Issued) {
        let body: serde_json::Value = serde_json::from_str(&event.body_json).unwrap();
        let thumbprint = body["thumbprint_sha256"].as_str().unwrap().to_owned();
        *reported.entry(thumbprint).or_default() += 1;
    }
    for entry in entries {
        let count = reported.remove(&entry.fingerprint().to_string());
        assert_eq!(count, Some(1), "reports of {}", entry.fingerprint());
    }
    assert!(reported.is_empty(), "reported and not on record: {reported:?}");
}

/// A row of the ledger's table of admissions.
#[derive(Debug)]
struct IntentRow {
    serial: Option<Vec<u8>>,
    challenge: Vec<u8>,
    certificate: Option<Vec<u8>>,
}

/// Read beside the ledger's own code: its interface does not show an intent that has its outcome.
fn intents(gateway: &Gateway) -> Vec<IntentRow> {
    let file = rusqlite::Connection::open(gateway.ledger_file()).unwrap();
    let mut rows = file
        .prepare(
            "SELECT e.serial, e.challenge, c.der FROM enrolment e \
             LEFT JOIN certificate c ON c.id = e.certificate",
        )
        .unwrap();
    let read = |row: &rusqlite::Row<'_>| {
        Ok(IntentRow { serial: row.get(0)?, challenge: row.get(1)?, certificate: row.get(2)? })
    };
    rows.query_map([], read).unwrap().map(Result::unwrap).collect()
}

fn each_certificate_has_the_serial_of_its_intent(
    entries: &[InventoryEntry],
    intents: &[IntentRow],
) {
    let mut serials = BTreeSet::new();
    let mut of_intents = BTreeSet::new();
    for intent in intents {
        let serial = intent.serial.clone().expect("our own CA's serial numbers are chosen before");
        assert!(serials.insert(serial.clone()), "two intents with one serial number");
        let Some(der) = &intent.certificate else { continue };
        let certificate = CertificateDer::parse(der).unwrap();
        assert_eq!(certificate.serial().unwrap().as_content(), serial);
        let entry = entries.iter().find(|entry| entry.certificate == certificate).unwrap();
        assert_eq!(entry.challenge.as_bytes().as_slice(), intent.challenge);
        assert!(of_intents.insert(der.clone()), "two intents with one certificate");
    }
    assert_eq!(of_intents.len(), entries.len(), "a certificate without an intent");
}

/// Refusals of one challenge, as the device has seen them.
#[derive(Debug, Default)]
struct Refusals {
    begun: u32,
    heard: u32,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_10_counted_mismatches_survive_a_killed_gateway() {
    /// Until a challenge is refused whatever comes.
    const LIMIT: u32 = 10;
    let mut chance = Chance::seed("attack_10_counted_mismatches_survive_a_killed_gateway");
    let mut gateway = Gateway::init();
    gateway.start(&[]);
    let (client, server) = gateway.client().await;
    let (client, server, identity) = (Arc::new(client), Arc::new(server), Arc::new(identity()));
    // Some are tried to the limit, some less often.
    let wanted = [LIMIT, LIMIT, 6, 3];
    let devices: Vec<Arc<Device>> = wanted.iter().map(|_| Arc::new(gateway.device())).collect();
    let (heard_one, mut hearing) = tokio::sync::mpsc::unbounded_channel();
    let mut clients = tokio::task::JoinSet::new();
    for (wanted, device) in wanted.into_iter().zip(&devices) {
        let (client, server, identity) =
            (Arc::clone(&client), Arc::clone(&server), Arc::clone(&identity));
        let (device, heard_one) = (Arc::clone(device), heard_one.clone());
        clients.spawn(async move {
            let deadline = Instant::now() + Duration::from_secs(120);
            let mut of = Refusals::default();
            // A refusal that was cut off may be counted or not, so that attempts are limited, not answers.
            while of.begun < wanted {
                assert!(Instant::now() < deadline, "{of:?}");
                of.begun += 1;
                let request = device.request_for(&format!("CN=administrator {}", of.begun));
                match enrol(&client, &server, &request, &identity).await {
                    Err(ClientError::Refused { .. }) => {
                        of.heard += 1;
                        heard_one.send(()).unwrap();
                    }
                    Err(ClientError::Connection { .. } | ClientError::Unreachable { .. }) => {
                        // Tried again as often as it takes, until it is heard: the limit is of answers here.
                        if wanted == LIMIT {
                            of.begun -= 1;
                        }
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    other => panic!("{other:?}"),
                }
            }
            (device, of)
        });
    }
    drop(heard_one);
    for _ in 0..3 {
        for _ in 0..=chance.below(6) {
            hearing.recv().await;
        }
        tokio::time::sleep(Duration::from_micros(chance.below(5_000))).await;
        gateway.kill();
        gateway.start(&[]);
    }
    let mut all = Vec::new();
    while let Some(client) = clients.join_next().await {
        all.push(client.unwrap());
    }
    gateway.kill();
    gateway.start(&[]);
    let mut granted = 0;
    for (device, of) in &all {
        let answer = enrol(&client, &server, &device.request(), &identity).await;
        if of.heard >= LIMIT {
            assert!(matches!(answer, Err(ClientError::Refused { .. })), "{of:?}: {answer:?}");
        } else {
            // What was refused has spent nothing.
            assert_eq!(answer.unwrap().spki(), device.public_key());
            granted += 1;
        }
    }
    gateway.stop();

    assert_eq!(granted, 2);
    let ledger = gateway.ledger();
    assert_eq!(ledger.counters().await.unwrap().issued, granted);
    let events = outbox(&ledger).await;
    for (device, of) in &all {
        let claims = &device.claims;
        let now = SystemClock.now();
        let locked = ledger.locked(&claims.tenant, claims.challenge_id, now).await.unwrap();
        assert_eq!(locked, of.heard >= LIMIT, "{of:?}");
        let refused = events
            .iter()
            .filter(|event| event.kind == EventKind::Refused)
            .filter(|event| event.device.as_ref() == Some(&claims.device))
            .count();
        let refused = u32::try_from(refused).unwrap();
        assert!(refused >= of.heard, "{of:?} heard, {refused} reported");
        assert!(refused <= LIMIT, "{refused}");
    }
}
