//! Check-ins, from arrival to answer, without the connection.

use crate::service::db::values;
use crate::service::denials;
use crate::service::link::check_in::{Told, hear};
use crate::service::link::contact::Contact;
use crate::service::link::issuer_keys::{self, IssuerKey, IssuerKeys, IssuerKeysError, NoSigner};
use crate::service::link::told;
use crate::service::store::StoreError;
use crate::service::{Service, Store, changes, renewals};
use scep_keys::AwsLc;
use scep_link::{
    CertificateExpiry, CertificatePurpose, CheckInRequest, CommandError, CommandReason,
    CommandVerifier, Commands, Counters, DenialSubject, Health, LedgerBinding, LogLevel,
    MAX_DENIALS, RenewalSubject, SoftwareVersion, TrustedKey, V1,
};
use scep_testkit::clock::FixedClock;
use scep_testkit::keys::TestKey;
use scep_types::{
    CertificateFingerprint, CheckInNonce, Clock as _, ConnectorId, DeviceId, GatewayGroupId, KeyId,
    LedgerId, ProfileId, TenantId, Timestamp, UserId,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(86_400);
const LEDGER: LedgerId = LedgerId::from_bytes([0x1e; 16]);

fn tenant() -> TenantId {
    TenantId::new("contoso").unwrap()
}

fn group() -> GatewayGroupId {
    GatewayGroupId::new("main").unwrap()
}

fn device(id: &str) -> DenialSubject {
    DenialSubject::Device(DeviceId::new(id).unwrap())
}

fn key(key: TestKey) -> IssuerKey {
    IssuerKey {
        signer: key.signer(),
        not_before: FixedClock::DAY.minus(DAY),
        not_after: FixedClock::DAY.plus(DAY * 300),
    }
}

fn keys(signing: &[TestKey], command: &[TestKey]) -> IssuerKeys {
    let of = |all: &[TestKey]| all.iter().copied().map(key).collect();
    IssuerKeys { signing: of(signing), command: of(command) }
}

fn ids(keys: &[TrustedKey]) -> Vec<KeyId> {
    keys.iter().map(|key| key.key.key_id()).collect()
}

fn id(key: TestKey) -> KeyId {
    key.public_key().key_id()
}

struct Desk {
    dir: TempDir,
    clock: Arc<FixedClock>,
    service: Service,
}

impl Desk {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(FixedClock::default());
        let service = Self::open(&dir.path().join("issuer.db"), &clock);
        service.put_tenant(&tenant()).await.unwrap();
        service.put_group(&tenant(), &group(), &TestKey::RsaA.public_key()).await.unwrap();
        Self { dir, clock, service }
    }

    fn open(path: &Path, clock: &Arc<FixedClock>) -> Service {
        let clock = Arc::<FixedClock>::clone(clock);
        let store = Store::open(path).unwrap();
        let service = Service::new(store, TestKey::P256A.signer(), Arc::new(AwsLc), clock);
        service.set_keys(keys(&[TestKey::P256A], &[TestKey::P256B])).unwrap();
        service
    }

    /// The issuer on a copy of its database as it is now: a backup.
    fn backup(&self) -> std::path::PathBuf {
        let path = self.dir.path().join("backup.db");
        let from = rusqlite::Connection::open(self.dir.path().join("issuer.db")).unwrap();
        from.execute("VACUUM INTO ?1", [path.to_str().unwrap()]).unwrap();
        path
    }

    fn restore(&mut self, backup: &Path) {
        self.service = Self::open(backup, &self.clock);
    }

    async fn sql(&self, sql: &'static str, id: String) {
        let done = self.service.store.write(move |tx| tx.execute(sql, values![&id]));
        assert_eq!(done.await.unwrap(), 1);
    }

    /// A connector that has enrolled just now.
    async fn enrol(&self, number: u8, membership: &'static str) -> Peer {
        let connector = ConnectorId::from_bytes([number; 16]);
        let (keys, now) = (self.service.keys(), self.clock.now());
        let introduced = self.service.store.write(move |tx| {
            tx.execute(
                "INSERT INTO connector (id, tenant, gateway_group, name, ledger, membership, \
                 standing, decryption_key, software, enrolled_at) \
                 VALUES (?1, 'contoso', 'main', 'gateway', ?2, ?3, 'active', ?4, '0.1.0', ?5)",
                values![
                    &connector.to_string(),
                    &LEDGER.to_string(),
                    membership,
                    TestKey::RsaA.public_key().as_der(),
                    now.seconds()
                ],
            )?;
            issuer_keys::introduce(tx, connector, &keys, now)
        });
        let introduced = introduced.await.unwrap();
        Peer {
            connector,
            last_sequence: introduced.last_sequence,
            cursor: 0,
            denied: BTreeSet::new(),
            pending: None,
            signers: introduced.signer_keys,
            commanders: introduced.command_keys,
            asked: 0,
            change: |_| {},
        }
    }

    /// The alarms that an operator is shown, and how often each was raised.
    async fn raised(&self) -> Vec<String> {
        let alarms = self.service.store.read(|tx| {
            tx.query("SELECT kind, times FROM alarm ORDER BY id", values![], |row| {
                let (kind, times): (String, i64) = (row.get(0)?, row.get(1)?);
                Ok::<_, StoreError>(format!("{kind} {times}"))
            })
        });
        alarms.await.unwrap()
    }

    async fn deny(&self, subject: DenialSubject, denied: bool) {
        let done =
            self.service.store.write(move |tx| denials::set(tx, &tenant(), &subject, denied));
        done.await.unwrap();
    }

    async fn signer(&self) -> Result<KeyId, NoSigner> {
        let (keys, now) = (self.service.keys(), self.clock.now());
        let signer = self
            .service
            .store
            .read(move |tx| issuer_keys::signing_key(tx, &keys, &tenant(), &group(), now));
        signer.await.map(|signer| signer.public_key().key_id())
    }
}

/// A connector that does what it is told.
#[derive(Clone)]
struct Peer {
    connector: ConnectorId,
    last_sequence: u64,
    cursor: u64,
    denied: BTreeSet<DenialSubject>,
    /// A new list, not yet complete.
    pending: Option<BTreeSet<DenialSubject>>,
    signers: Vec<TrustedKey>,
    commanders: Vec<TrustedKey>,
    asked: u8,
    /// What is otherwise than usual in its requests.
    change: fn(&mut CheckInRequest),
}

impl Peer {
    fn request(&mut self, wait_seconds: u32) -> CheckInRequest {
        self.asked += 1;
        let mut request = CheckInRequest {
            v: V1,
            connector: self.connector,
            nonce: CheckInNonce::from_bytes([self.asked; 16]),
            last_sequence: self.last_sequence,
            denial_cursor: self.cursor,
            wait_seconds,
            software: SoftwareVersion::new("0.1.0").unwrap(),
            challenge_version: 1,
            health: Health::Serving,
            refused: None,
            queue_depth: 0,
            certificates: Vec::new(),
            counters: Counters::default(),
            ledger: LEDGER,
            outbox_high_mark: 0,
            possession: Vec::new(),
        };
        (self.change)(&mut request);
        request
    }

    fn open(
        &self,
        desk: &Desk,
        nonce: CheckInNonce,
        answer: &[u8],
    ) -> Result<Commands, CommandError> {
        let skew = Duration::from_secs(60);
        let verifier =
            CommandVerifier::new(tenant(), self.connector, self.commanders.clone(), skew).unwrap();
        let opened = verifier.open(answer, nonce, self.last_sequence, desk.clock.now(), &AwsLc)?;
        Ok(opened.commands().clone())
    }

    /// Whether its next check-in would be answered at once.
    async fn would_hear_news(&mut self, desk: &Desk) -> bool {
        let (request, keys) = (self.request(60), desk.service.keys());
        let now = desk.clock.now();
        let last = i64::try_from(self.last_sequence).unwrap();
        let told = desk.service.store.write(move |tx| {
            told::accepted(tx, &request.connector.to_string(), last)?;
            Told::gather(tx, &request, &keys, now)
        });
        told.await.unwrap().news
    }

    /// An answer that gets lost.
    async fn hear(&mut self, desk: &Desk, wait_seconds: u32) -> Commands {
        let request = self.request(wait_seconds);
        let nonce = request.nonce;
        let answer = hear(&desk.service, self.connector, request).await.unwrap();
        self.open(desk, nonce, &answer).unwrap()
    }

    async fn ask(&mut self, desk: &Desk, wait_seconds: u32) -> Commands {
        let commands = self.hear(desk, wait_seconds).await;
        self.take(&commands);
        commands
    }

    fn take(&mut self, commands: &Commands) {
        self.last_sequence = commands.sequence;
        for (mine, told) in [
            (&mut self.signers, &commands.signer_keys),
            (&mut self.commanders, &commands.command_keys),
        ] {
            mine.retain(|key| !told.retire.contains(&key.key.key_id()));
            for key in &told.add {
                mine.retain(|known| known.key.key_id() != key.key.key_id());
                mine.push(key.clone());
            }
        }
        let denials = &commands.denials;
        if denials.from == 0 {
            self.pending = Some(BTreeSet::new());
        } else if denials.from != self.cursor {
            return;
        }
        let list = self.pending.as_mut().unwrap_or(&mut self.denied);
        list.extend(denials.added.iter().cloned());
        list.retain(|subject| !denials.removed.contains(subject));
        self.cursor = denials.to;
        if denials.complete
            && let Some(list) = self.pending.take()
        {
            self.denied = list;
        }
    }
}

fn quiet(commands: &Commands) -> bool {
    commands.signer_keys.add.is_empty()
        && commands.signer_keys.retire.is_empty()
        && commands.command_keys.add.is_empty()
        && commands.command_keys.retire.is_empty()
        && commands.denials.added.is_empty()
        && commands.denials.removed.is_empty()
        && commands.renewals.is_empty()
}

#[tokio::test]
async fn an_answer_without_news_is_signed_and_its_number_rises() {
    let desk = Desk::new().await;
    let mut peer = desk.enrol(1, "confirmed").await;
    assert_eq!(ids(&peer.signers), [id(TestKey::P256A)]);
    let mut last = peer.last_sequence;
    for _ in 0..3 {
        let commands = peer.ask(&desk, 0).await;
        assert!(quiet(&commands), "{commands:?}");
        assert!(commands.sequence > last);
        last = commands.sequence;
        assert_eq!(commands.ledger, LedgerBinding::This);
        assert_eq!(commands.outbox_acknowledged, 0);
        assert_eq!(commands.log_level, None);
    }
}

#[tokio::test]
async fn attack_55_an_answer_is_for_one_request_of_one_connector() {
    let desk = Desk::new().await;
    let (mut one, mut other) = (desk.enrol(1, "confirmed").await, desk.enrol(2, "confirmed").await);
    let request = one.request(0);
    let nonce = request.nonce;
    let answer = hear(&desk.service, one.connector, request.clone()).await.unwrap();
    assert_eq!(other.open(&desk, nonce, &answer).unwrap_err(), CommandError::Connector);
    let elsewhere = one.request(0).nonce;
    assert_eq!(one.open(&desk, elsewhere, &answer).unwrap_err(), CommandError::Nonce);
    let commands = one.open(&desk, nonce, &answer).unwrap();
    one.take(&commands);
    let again = one.open(&desk, nonce, &answer).unwrap_err();
    assert_eq!(again.reason(), CommandReason::CommandsReplayed);
    // A message of another connector than the certificate's is not heard at all.
    let refusal = hear(&desk.service, one.connector, other.request(0)).await.unwrap_err();
    assert_eq!(refusal.code(), scep_link::ErrorCode::ConnectorMismatch);
    desk.clock.advance(Duration::from_secs(6 * 60 + 1));
    let request = one.request(0);
    let nonce = request.nonce;
    let answer = hear(&desk.service, one.connector, request).await.unwrap();
    desk.clock.advance(Duration::from_secs(6 * 60));
    let late = one.open(&desk, nonce, &answer).unwrap_err();
    assert_eq!(late.reason(), CommandReason::CommandsExpired);
}

#[tokio::test]
async fn what_is_disabled_is_told_at_once_and_what_is_enabled_again_too() {
    let desk = Desk::new().await;
    let mut peer = desk.enrol(1, "confirmed").await;
    peer.ask(&desk, 0).await;
    let waiting = peer.ask(&desk, 60);
    let change = async {
        // Whether it waits already makes no difference.
        tokio::task::yield_now().await;
        desk.deny(device("laptop-1"), true).await;
    };
    let (commands, ()) =
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(waiting, change) })
            .await
            .expect("a minute was waited for, not for news");
    assert_eq!(commands.denials.added, [device("laptop-1")]);
    let user = DenialSubject::User(UserId::new("ada").unwrap());
    let profile = DenialSubject::Profile(ProfileId::new("wifi").unwrap());
    desk.deny(user.clone(), true).await;
    desk.deny(profile.clone(), true).await;
    desk.deny(device("laptop-1"), false).await;
    let commands = peer.ask(&desk, 60).await;
    assert_eq!(commands.denials.removed, [device("laptop-1")]);
    assert_eq!(peer.denied, [user.clone(), profile].into());
    assert!(quiet(&peer.ask(&desk, 0).await));
    // Twice is once.
    desk.deny(user, true).await;
    assert!(!peer.would_hear_news(&desk).await);
}

#[tokio::test]
async fn what_was_lost_on_the_way_is_told_again() {
    let desk = Desk::new().await;
    let mut peer = desk.enrol(1, "confirmed").await;
    desk.deny(device("laptop-1"), true).await;
    desk.service.set_keys(keys(&[TestKey::P256A, TestKey::P256C], &[TestKey::P256B])).unwrap();
    let lost = peer.hear(&desk, 60).await;
    let again = peer.ask(&desk, 60).await;
    assert_eq!(lost.denials, again.denials);
    assert_eq!(lost.signer_keys, again.signer_keys);
    assert_eq!(ids(&again.signer_keys.add), [id(TestKey::P256C)]);
    assert!(again.sequence > lost.sequence);
    assert!(quiet(&peer.ask(&desk, 0).await));
}

#[tokio::test]
async fn a_list_that_is_too_long_for_one_answer_comes_in_several() {
    let desk = Desk::new().await;
    let count = MAX_DENIALS + 7;
    // As long as ids may be: the answer must still fit.
    let long = |n: usize| device(&format!("{n:0>128}"));
    let done = desk.service.store.write(move |tx| {
        for n in 0..count {
            denials::set(tx, &tenant(), &long(n), true)?;
        }
        Ok::<_, StoreError>(())
    });
    done.await.unwrap();
    let mut peer = desk.enrol(1, "confirmed").await;
    let first = peer.ask(&desk, 60).await.denials;
    assert_eq!((first.from, first.added.len(), first.complete), (0, MAX_DENIALS, false));
    assert!(peer.denied.is_empty(), "a list counts when it is complete");
    // What changes in between is not lost: one that was told already, one that was not, and a new one.
    desk.deny(long(0), false).await;
    desk.deny(long(count - 1), false).await;
    desk.deny(device("device-new"), true).await;
    let second = peer.ask(&desk, 60).await.denials;
    assert_eq!((second.from, second.complete), (first.to, true));
    assert_eq!(peer.denied.len(), count - 1);
    assert!(peer.denied.contains(&device("device-new")));
    assert!(!peer.denied.contains(&long(0)));
}

#[tokio::test]
async fn what_was_lifted_long_ago_is_forgotten_and_a_list_that_is_older_made_anew() {
    let desk = Desk::new().await;
    let mut old = desk.enrol(1, "confirmed").await;
    desk.deny(device("always"), true).await;
    desk.deny(device("once"), true).await;
    old.ask(&desk, 0).await;
    let mut recent = desk.enrol(2, "confirmed").await;
    desk.deny(device("once"), false).await;
    let done = desk.service.store.write(move |tx| {
        for n in 0..5000 {
            for denied in [true, false] {
                denials::set(tx, &tenant(), &device(&format!("device-{n}")), denied)?;
            }
        }
        Ok::<_, StoreError>(())
    });
    done.await.unwrap();
    while !recent.ask(&desk, 0).await.denials.complete {}
    let rows = desk
        .service
        .store
        .read(|tx| tx.query("SELECT 1 FROM denial", values![], |row| row.get::<i64>(0)));
    let rows = rows.await.unwrap().len();
    assert!(rows < 4500, "{rows} are remembered");
    let commands = old.ask(&desk, 0).await;
    assert_eq!(commands.denials.from, 0);
    for peer in [old, recent] {
        assert_eq!(peer.denied, [device("always")].into());
    }
}

#[tokio::test]
async fn a_device_that_is_gone_is_denied_for_as_long_as_something_can_come_of_it() {
    let desk = Desk::new().await;
    let mut peer = desk.enrol(1, "confirmed").await;
    let lapses = desk.clock.now().plus(DAY);
    let gone = move |tx: &crate::service::db::Tx<'_>| {
        denials::set_until(tx, &tenant(), &device("gone"), lapses)?;
        denials::set_until(tx, &tenant(), &device("back"), lapses)?;
        // Taken up again, and disabled on purpose.
        denials::set(tx, &tenant(), &device("back"), true)
    };
    desk.service.store.write(gone).await.unwrap();
    peer.ask(&desk, 60).await;
    assert_eq!(peer.denied, ["gone", "back"].map(device).into());
    desk.clock.advance(DAY);
    assert_eq!(peer.ask(&desk, 60).await.denials.removed, [device("gone")]);
    assert_eq!(peer.denied, [device("back")].into());
}

#[tokio::test]
async fn a_connector_that_nobody_has_confirmed_learns_nothing_of_the_tenant() {
    let desk = Desk::new().await;
    desk.deny(device("laptop-1"), true).await;
    let mut peer = desk.enrol(1, "awaiting-operator").await;
    desk.service.set_keys(keys(&[TestKey::P256A, TestKey::P256C], &[TestKey::P256B])).unwrap();
    let commands = peer.ask(&desk, 60).await;
    assert!(commands.denials.added.is_empty() && commands.revocations.is_empty());
    assert_eq!(ids(&commands.signer_keys.add), [id(TestKey::P256C)]);
    desk.sql(
        "UPDATE connector SET membership = 'confirmed' WHERE id = ?1",
        peer.connector.to_string(),
    )
    .await;
    let commands = peer.ask(&desk, 60).await;
    assert_eq!(commands.denials.added, [device("laptop-1")]);
}

#[tokio::test]
async fn a_connector_that_is_revoked_while_it_waits_is_told_nothing_more() {
    let desk = Desk::new().await;
    let mut peer = desk.enrol(1, "confirmed").await;
    peer.ask(&desk, 0).await;
    let request = peer.request(60);
    let waiting = hear(&desk.service, peer.connector, request);
    let revoke = async {
        tokio::task::yield_now().await;
        let sql = "UPDATE connector SET standing = 'revoked' WHERE id = ?1";
        desk.sql(sql, peer.connector.to_string()).await;
        let noted = desk.service.store.write(|tx| changes::note(tx, &tenant()));
        noted.await.unwrap();
    };
    let both = async { tokio::join!(waiting, revoke) };
    let (answer, ()) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    assert_eq!(answer.unwrap_err().code(), scep_link::ErrorCode::ConnectorRevoked);
}

#[tokio::test]
async fn a_second_check_in_takes_the_first_ones_place() {
    let desk = Desk::new().await;
    let mut peer = desk.enrol(1, "confirmed").await;
    peer.ask(&desk, 0).await;
    let first = hear(&desk.service, peer.connector, peer.request(60));
    let second = async {
        tokio::task::yield_now().await;
        peer.ask(&desk, 0).await
    };
    let both = async { tokio::join!(first, second) };
    let (first, _) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    assert_eq!(first.unwrap_err().code(), scep_link::ErrorCode::Unavailable);
}

#[tokio::test]
async fn a_second_check_in_at_another_issuer_takes_the_first_ones_place_too() {
    let desk = Desk::new().await;
    let elsewhere = Desk::open(&desk.dir.path().join("issuer.db"), &desk.clock);
    let mut peer = desk.enrol(1, "confirmed").await;
    peer.ask(&desk, 0).await;
    let (connector, id) = (peer.connector, peer.connector.to_string());
    let (first, second) = (peer.request(60), peer.request(0));
    let second = async {
        let arrivals = || {
            let id = id.clone();
            desk.service.store.read(move |tx| Contact::find(tx, &id))
        };
        while arrivals().await.unwrap().arrivals < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        hear(&elsewhere, connector, second).await.unwrap();
        desk.deny(device("laptop-1"), true).await;
    };
    let both = async { tokio::join!(hear(&desk.service, connector, first), second) };
    let (first, ()) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    assert_eq!(first.unwrap_err().code(), scep_link::ErrorCode::Unavailable);
}

#[tokio::test]
async fn a_service_that_stops_answers_those_who_wait() {
    let desk = Desk::new().await;
    let mut peer = desk.enrol(1, "confirmed").await;
    peer.ask(&desk, 0).await;
    let waiting = peer.ask(&desk, 60);
    let stop = async {
        tokio::task::yield_now().await;
        desk.service.stop.cancel();
    };
    let both = async { tokio::join!(waiting, stop) };
    let (commands, ()) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    assert!(quiet(&commands));
}

#[tokio::test]
async fn attack_26_a_signing_key_is_used_once_every_gateway_has_it() {
    let desk = Desk::new().await;
    // Nobody is to be waited for.
    let both = keys(&[TestKey::P256A, TestKey::P256C], &[TestKey::P256B]);
    assert_eq!(desk.signer().await, Ok(id(TestKey::P256A)));
    let (mut one, mut two) = (desk.enrol(1, "confirmed").await, desk.enrol(2, "confirmed").await);
    let awaiting = desk.enrol(3, "awaiting-operator").await;
    let mut later = key(TestKey::P256C);
    later.not_before = desk.clock.now();
    desk.service
        .set_keys(IssuerKeys { signing: vec![key(TestKey::P256A), later], ..both })
        .unwrap();
    assert_eq!(desk.signer().await, Ok(id(TestKey::P256A)));
    assert_eq!(ids(&one.ask(&desk, 60).await.signer_keys.add), [id(TestKey::P256C)]);
    // It has been told; that it has heard shows at its next check-in.
    two.ask(&desk, 60).await;
    one.ask(&desk, 0).await;
    assert_eq!(desk.signer().await, Ok(id(TestKey::P256A)));
    two.ask(&desk, 0).await;
    assert_eq!(desk.signer().await, Ok(id(TestKey::P256C)));
    // Both are trusted until the old one is taken away; then that is told, once.
    assert_eq!(ids(&one.signers), [id(TestKey::P256A), id(TestKey::P256C)]);
    desk.service.set_keys(keys(&[TestKey::P256C], &[TestKey::P256B])).unwrap();
    let told = one.ask(&desk, 60).await.signer_keys;
    assert_eq!(told.retire, [id(TestKey::P256A)]);
    assert_eq!(ids(&one.signers), [id(TestKey::P256C)]);
    assert!(quiet(&one.ask(&desk, 0).await));
    // Whoever was not confirmed held nothing up, and has only the old key.
    assert_eq!(ids(&awaiting.signers), [id(TestKey::P256A)]);
}

#[tokio::test]
async fn a_gateway_that_knows_no_valid_key_holds_nobody_up() {
    let desk = Desk::new().await;
    let mut old = key(TestKey::P256A);
    old.not_after = desk.clock.now().plus(DAY);
    let command = vec![key(TestKey::P256B)];
    let signing = vec![old.clone()];
    desk.service.set_keys(IssuerKeys { signing, command: command.clone() }).unwrap();
    let silent = desk.enrol(1, "confirmed").await;
    let signing = vec![old, key(TestKey::P256C)];
    desk.service.set_keys(IssuerKeys { signing, command }).unwrap();
    let mut awake = desk.enrol(2, "confirmed").await;
    awake.ask(&desk, 0).await;
    assert_eq!(desk.signer().await, Ok(id(TestKey::P256A)));
    desk.clock.advance(DAY * 2);
    assert_eq!(desk.signer().await, Ok(id(TestKey::P256C)));
    // Alone, it is not answered with challenges that it would refuse.
    desk.sql(
        "UPDATE connector SET standing = 'revoked' WHERE id = ?1",
        awake.connector.to_string(),
    )
    .await;
    assert_eq!(desk.signer().await, Err(NoSigner::NotKnown));
    assert_eq!(ids(&silent.signers), [id(TestKey::P256A)]);
}

#[tokio::test]
async fn a_command_key_signs_once_the_connector_has_it_and_rsa_does_too() {
    let desk = Desk::new().await;
    let mut peer = desk.enrol(1, "confirmed").await;
    // The new key comes first in the list; the connector does not have it yet.
    desk.service.set_keys(keys(&[TestKey::P256A], &[TestKey::RsaC, TestKey::P256B])).unwrap();
    let told = peer.ask(&desk, 60).await.command_keys;
    assert_eq!(ids(&told.add), [id(TestKey::RsaC)]);
    let mut without = peer.clone();
    without.commanders.retain(|key| key.key.key_id() == id(TestKey::P256B));
    let request = peer.request(0);
    let nonce = request.nonce;
    let answer = hear(&desk.service, peer.connector, request).await.unwrap();
    let refused = without.open(&desk, nonce, &answer).unwrap_err();
    assert_eq!(refused, CommandError::SignerNotPinned, "the new key has signed");
    let commands = peer.open(&desk, nonce, &answer).unwrap();
    peer.take(&commands);
    desk.service.set_keys(keys(&[TestKey::P256A], &[TestKey::RsaC])).unwrap();
    assert_eq!(peer.ask(&desk, 60).await.command_keys.retire, [id(TestKey::P256B)]);
    assert_eq!(ids(&peer.commanders), [id(TestKey::RsaC)]);
}

#[tokio::test]
async fn attack_26_a_key_for_challenges_is_never_one_for_commands() {
    let desk = Desk::new().await;
    let shared = keys(&[TestKey::P256A, TestKey::P256B], &[TestKey::P256B]);
    let error = desk.service.set_keys(shared).unwrap_err();
    assert_eq!(error, IssuerKeysError::SharedKey { key: id(TestKey::P256B) });
    let twice = keys(&[TestKey::P256A, TestKey::P256A], &[]);
    let error = desk.service.set_keys(twice).unwrap_err();
    assert_eq!(error, IssuerKeysError::SharedKey { key: id(TestKey::P256A) });
    let error = desk.service.set_keys(keys(&[], &[TestKey::P256B])).unwrap_err();
    assert_eq!(error, IssuerKeysError::NoSigningKey);
    let error = desk.service.set_keys(keys(&[TestKey::P384A], &[])).unwrap_err();
    assert!(matches!(error, IssuerKeysError::UnsuitableKey { .. }), "{error}");
    let mut never = key(TestKey::P256A);
    never.not_after = never.not_before;
    let never = IssuerKeys { signing: vec![never], command: Vec::new() };
    let error = desk.service.set_keys(never).unwrap_err();
    assert_eq!(error, IssuerKeysError::NeverValid { key: id(TestKey::P256A) });
    // None of them has replaced anything.
    assert_eq!(desk.signer().await, Ok(id(TestKey::P256A)));
    assert_eq!(desk.service.keys().command.len(), 1);
}

#[tokio::test]
async fn an_issuer_restored_from_a_backup_goes_on_above_and_lists_anew() {
    let mut desk = Desk::new().await;
    let mut peer = desk.enrol(1, "confirmed").await;
    desk.deny(device("laptop-1"), true).await;
    peer.ask(&desk, 0).await;
    let backup = desk.backup();
    // What happens after the backup is lost at the issuer, and known to the connector.
    for lost in ["laptop-2", "laptop-3"] {
        desk.deny(device(lost), true).await;
        peer.ask(&desk, 0).await;
    }
    assert_eq!(peer.denied.len(), 3);
    desk.restore(&backup);
    // The restored list gets as long as the connector's cursor says, with other contents.
    for other in ["laptop-4", "laptop-5"] {
        desk.deny(device(other), true).await;
    }
    let before = peer.last_sequence;
    // The first answer gets lost, so that the second must still know that something is wrong.
    assert_eq!(peer.hear(&desk, 60).await.denials.from, 0);
    let commands = peer.ask(&desk, 60).await;
    assert!(commands.sequence > before);
    assert_eq!(commands.denials.from, 0);
    let now: BTreeSet<_> = ["laptop-1", "laptop-4", "laptop-5"].map(device).into();
    assert_eq!(peer.denied, now);
    assert!(quiet(&peer.ask(&desk, 0).await));
}

#[tokio::test]
async fn a_list_that_takes_another_historys_place_is_told_until_it_is_known_whole() {
    let mut desk = Desk::new().await;
    let mut peer = desk.enrol(1, "confirmed").await;
    let count = MAX_DENIALS + 7;
    let done = desk.service.store.write(move |tx| {
        for n in 0..count {
            denials::set(tx, &tenant(), &device(&format!("device-{n}")), true)?;
        }
        Ok::<_, StoreError>(())
    });
    done.await.unwrap();
    while !peer.ask(&desk, 0).await.denials.complete {}
    let backup = desk.backup();
    desk.deny(device("lost"), true).await;
    peer.ask(&desk, 0).await;
    desk.restore(&backup);
    desk.deny(device("new"), true).await;
    let old = peer.cursor;
    // It has accepted an answer and crashes before it does what that says: the list begins anew.
    for crash_after in [0, 1, 2] {
        for _ in 0..crash_after {
            peer.ask(&desk, 0).await;
        }
        let accepted = peer.hear(&desk, 0).await;
        assert!(accepted.denials.to != old || !accepted.denials.complete);
        if crash_after < 2 {
            peer.last_sequence = accepted.sequence;
            (peer.cursor, peer.pending) = (old, None);
        } else {
            assert!(quiet(&accepted), "{:?}", accepted.denials);
        }
    }
    assert_eq!(peer.denied.len(), count + 1);
    assert!(peer.denied.contains(&device("new")) && !peer.denied.contains(&device("lost")));
    assert!(!peer.would_hear_news(&desk).await);
}

#[tokio::test]
async fn a_connector_restored_from_a_backup_is_told_again_what_it_has_lost() {
    let desk = Desk::new().await;
    let mut peer = desk.enrol(1, "confirmed").await;
    peer.ask(&desk, 0).await;
    let backup = peer.clone();
    desk.deny(device("laptop-1"), true).await;
    desk.service.set_keys(keys(&[TestKey::P256A, TestKey::P256C], &[TestKey::P256B])).unwrap();
    peer.ask(&desk, 60).await;
    assert!(quiet(&peer.ask(&desk, 0).await));
    let mut peer = backup;
    peer.asked = 100;
    let commands = peer.ask(&desk, 60).await;
    assert_eq!(ids(&commands.signer_keys.add), [id(TestKey::P256C)]);
    assert_eq!(commands.denials.added, [device("laptop-1")]);
}

#[tokio::test]
async fn attack_56_a_copied_gateway_or_a_restored_one_is_an_alarm() {
    let desk = Desk::new().await;
    let mut peer = desk.enrol(1, "confirmed").await;
    peer.ask(&desk, 0).await;
    let mut copy = peer.clone();
    copy.asked = 100;
    // An answer that got lost is asked for again, which is nothing.
    peer.hear(&desk, 0).await;
    for _ in 0..3 {
        peer.ask(&desk, 0).await;
    }
    assert_eq!(desk.raised().await, [""; 0]);
    // The copy knows less. As a restored backup it goes on from there.
    for _ in 0..3 {
        copy.ask(&desk, 0).await;
    }
    assert_eq!(desk.raised().await, ["answers-forgotten 1"]);
    // The first one is still there: two of them take turns.
    peer.ask(&desk, 0).await;
    copy.ask(&desk, 0).await;
    peer.ask(&desk, 0).await;
    assert_eq!(desk.raised().await, ["answers-forgotten 4"]);
}

#[tokio::test]
async fn another_ledger_than_the_groups_is_named_as_such() {
    let desk = Desk::new().await;
    let mut peer = desk.enrol(1, "confirmed").await;
    let sql = "UPDATE gateway_group SET ledger = ?1 WHERE id = 'main'";
    desk.sql(sql, LEDGER.to_string()).await;
    assert_eq!(peer.ask(&desk, 0).await.ledger, LedgerBinding::This);
    peer.change = |request| request.ledger = LedgerId::from_bytes([7; 16]);
    assert_eq!(peer.ask(&desk, 60).await.ledger, LedgerBinding::Another);
    assert!(!peer.would_hear_news(&desk).await);
    assert_eq!(peer.ask(&desk, 0).await.ledger, LedgerBinding::Another);
    assert_eq!(desk.raised().await, ["ledger-differs 1"]);
    peer.change = |_| {};
    assert_eq!(peer.ask(&desk, 60).await.ledger, LedgerBinding::This);
}

#[tokio::test]
async fn a_ledger_restored_from_a_backup_is_noticed_and_told_how_far_the_issuer_is() {
    let desk = Desk::new().await;
    let mut peer = desk.enrol(1, "confirmed").await;
    let reported = |tenant: &'static str, ledger: LedgerId| {
        desk.service.store.write(move |tx| {
            let ledger = ledger.to_string();
            let sql = "INSERT INTO tenant (id) VALUES (?1) ON CONFLICT DO NOTHING";
            tx.execute(sql, values![tenant])?;
            let sql = "INSERT INTO ledger (id, tenant) VALUES (?1, ?2)";
            tx.execute(sql, values![&ledger, tenant])?;
            tx.execute(
                "INSERT INTO ledger_report \
                 (ledger, tenant, gateway_group, acknowledged, pruned, heard_at) \
                 VALUES (?1, ?2, 'main', 100, 0, 0)",
                values![&ledger, tenant],
            )
        })
    };
    reported("contoso", LEDGER).await.unwrap();
    peer.change = |request| request.outbox_high_mark = 40;
    assert_eq!(peer.ask(&desk, 60).await.outbox_acknowledged, 100);
    // Until it has caught up it is told each time, and need not be told at once each time.
    assert!(!peer.would_hear_news(&desk).await);
    assert_eq!(peer.ask(&desk, 0).await.outbox_acknowledged, 100);
    assert_eq!(desk.raised().await, ["ledger-restored 1"]);
    // Restored a second time from the same backup, it is news again.
    peer.change = |request| request.outbox_high_mark = 100;
    peer.ask(&desk, 0).await;
    assert!(!peer.would_hear_news(&desk).await);
    peer.change = |request| request.outbox_high_mark = 40;
    assert!(peer.would_hear_news(&desk).await);
    // What is reported while a check-in waits is no backup, to whoever looks then.
    peer.change = |request| request.outbox_high_mark = 100;
    peer.ask(&desk, 0).await;
    let more = desk.service.store.write(move |tx| {
        let sql = "UPDATE ledger_report SET acknowledged = 130 WHERE ledger = ?1";
        tx.execute(sql, values![&LEDGER.to_string()])
    });
    more.await.unwrap();
    assert!(!peer.would_hear_news(&desk).await);
    assert_eq!(alarms(&desk, &peer).await, [""; 0]);
    peer.change = |request| request.outbox_high_mark = 120;
    peer.ask(&desk, 0).await;
    assert_eq!(alarms(&desk, &peer).await, [""; 0]);
    // At the next one it must know of them.
    peer.ask(&desk, 0).await;
    assert_eq!(alarms(&desk, &peer).await, ["ledger-restored"]);
    // How far another tenant is, is nobody's business.
    let foreign = LedgerId::from_bytes([7; 16]);
    reported("fabrikam", foreign).await.unwrap();
    peer.change = |request| request.ledger = LedgerId::from_bytes([7; 16]);
    assert_eq!(peer.ask(&desk, 0).await.outbox_acknowledged, 0);
}

#[tokio::test]
async fn orders_to_renew_come_until_they_are_done_and_a_log_level_until_it_is_known() {
    let desk = Desk::new().await;
    let mut peer = desk.enrol(1, "confirmed").await;
    peer.ask(&desk, 0).await;
    let (connector, now) = (peer.connector, desk.clock.now());
    let order = |by: Timestamp| {
        let subject = RenewalSubject::Authentication;
        desk.service.store.write(move |tx| renewals::order(tx, connector, subject, by))
    };
    let first = order(now.plus(DAY * 7)).await.unwrap();
    assert_eq!(order(now.plus(DAY * 9)).await.unwrap(), first);
    let told = peer.ask(&desk, 60).await.renewals;
    assert_eq!((told[0].order, told[0].by), (first, now.plus(DAY * 7)));
    assert_eq!(order(now.plus(DAY * 5)).await.unwrap(), first);
    assert_eq!(peer.ask(&desk, 60).await.renewals[0].by, now.plus(DAY * 5));
    assert!(!peer.would_hear_news(&desk).await);
    assert_eq!(peer.ask(&desk, 0).await.renewals.len(), 1);
    let subject = RenewalSubject::Authentication;
    let done = desk.service.store.write(move |tx| renewals::done(tx, connector, subject, now));
    done.await.unwrap();
    assert!(peer.ask(&desk, 0).await.renewals.is_empty());
    assert_ne!(order(now.plus(DAY)).await.unwrap(), first);

    let sql = "UPDATE connector_contact SET log_level = 'debug' WHERE connector = ?1";
    desk.sql(sql, connector.to_string()).await;
    assert_eq!(peer.ask(&desk, 60).await.log_level, Some(LogLevel::Debug));
    assert_eq!(peer.ask(&desk, 0).await.log_level, Some(LogLevel::Debug));
    let sql = "UPDATE connector_contact SET log_level = NULL WHERE connector = ?1";
    desk.sql(sql, connector.to_string()).await;
    assert_eq!(peer.ask(&desk, 60).await.log_level, None);
}

#[tokio::test]
async fn numbers_that_were_never_given_are_refused_and_large_ones_kept() {
    let desk = Desk::new().await;
    let mut peer = desk.enrol(1, "confirmed").await;
    for never in [u64::MAX, i64::MAX.unsigned_abs()] {
        let mut request = peer.request(0);
        request.last_sequence = never;
        let refusal = hear(&desk.service, peer.connector, request).await.unwrap_err();
        assert_eq!(refusal.code(), scep_link::ErrorCode::RequestMalformed);
    }
    peer.change = |request| {
        request.denial_cursor = u64::MAX;
        request.queue_depth = u64::MAX;
        request.outbox_high_mark = u64::MAX;
        request.counters = Counters { issued: u64::MAX, delivered: u64::MAX, reported: u64::MAX };
    };
    let commands = peer.ask(&desk, 60).await;
    assert_eq!(commands.denials.from, 0);
}

/// The alarms of a connector, as the API shows them.
async fn alarms(desk: &Desk, peer: &Peer) -> Vec<&'static str> {
    let (connector, now) = (peer.connector, desk.clock.now());
    let heard = desk.service.store.read(move |tx| {
        let sql =
            format!("SELECT {} FROM connector_contact WHERE connector = ?1", super::contact::HEARD);
        tx.one(&sql, values![&connector.to_string()], |row| super::contact::Heard::row(row, 0))
    });
    let heard = heard.await.unwrap().flatten().unwrap();
    heard.alarms(now).into_iter().map(|alarm| alarm.kind).collect()
}

#[tokio::test]
async fn counters_that_do_not_catch_up_within_an_hour_raise_an_alarm_and_those_that_do_none() {
    let desk = Desk::new().await;
    let mut peer = desk.enrol(1, "confirmed").await;
    let counters = |issued, delivered, reported| Counters { issued, delivered, reported };
    let mut said = async |counters: Counters, minutes: u64| {
        let mut request = peer.request(0);
        request.counters = counters;
        hear(&desk.service, peer.connector, request).await.unwrap();
        let alarms = alarms(&desk, &peer).await;
        desk.clock.advance(Duration::from_secs(60 * minutes));
        alarms
    };
    let none: [&str; 0] = [];
    // Always behind, and always catching up.
    assert_eq!(said(counters(10, 9, 8), 40).await, none);
    assert_eq!(said(counters(20, 19, 18), 40).await, none);
    assert_eq!(said(counters(30, 29, 28), 40).await, none);
    // Not any more.
    assert_eq!(said(counters(31, 29, 28), 59).await, none);
    assert_eq!(said(counters(32, 31, 29), 1).await, ["counters-differ"]);
    assert_eq!(said(counters(32, 32, 31), 1).await, none);
    assert_eq!(said(counters(32, 32, 32), 1).await, none);
    assert_eq!(desk.raised().await, ["counters-differ 1"]);
}

#[tokio::test]
async fn certificates_that_end_and_gateways_that_are_silent_raise_alarms() {
    let desk = Desk::new().await;
    let mut peer = desk.enrol(1, "confirmed").await;
    peer.change = |request| {
        request.certificates = vec![CertificateExpiry {
            purpose: CertificatePurpose::Ra,
            thumbprint_sha256: CertificateFingerprint::from_bytes([9; 32]),
            not_after: FixedClock::DAY.plus(DAY * 30),
        }];
        request.refused = Some(CommandReason::CommandsExpired);
    };
    let none: [&str; 0] = [];
    peer.ask(&desk, 0).await;
    assert_eq!(alarms(&desk, &peer).await, none);
    desk.clock.advance(Duration::from_secs(1));
    peer.ask(&desk, 0).await;
    assert_eq!(alarms(&desk, &peer).await, ["certificate-ends"]);
    desk.clock.advance(Duration::from_secs(600));
    assert_eq!(alarms(&desk, &peer).await, ["certificate-ends", "silent"]);
    peer.ask(&desk, 0).await;
    // Each refused answer counts; a certificate when there are 30, 14 and 7 days left.
    assert_eq!(desk.raised().await, ["answer-refused 3", "certificate-ends 1"]);
    for days in [16, 8] {
        desk.clock.advance(DAY * days);
        peer.ask(&desk, 0).await;
    }
    assert_eq!(desk.raised().await, ["answer-refused 5", "certificate-ends 3"]);
}
