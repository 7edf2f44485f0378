//! The logic of batches, orders and the brake, on SQLite and without HTTP. With both: `tests/service`.

use super::*;
use crate::profile::RevokeOn;
use crate::service::link::revocations;
use crate::service::orders::{Decision, Which};
use crate::service::store::Store;
use crate::service::token::put_tenant;
use crate::service::upkeep;
use core::time::Duration;
use proptest::prelude::*;
use scep_link::{
    Body, EventKind, IdempotencyKey, RevocationReason, RevocationResult, RevocationResults,
    RevocationState,
};
use scep_types::{ConnectorId, OrderId};
use serde_json::json;
use std::collections::BTreeMap;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const LEDGER: LedgerId = LedgerId::from_bytes([0x1e; 16]);
const OTHER_LEDGER: LedgerId = LedgerId::from_bytes([0x2e; 16]);
const CONNECTOR: ConnectorId = ConnectorId::from_bytes([0x0c; 16]);
const BRAKE: RevocationBrake = RevocationBrake { percent: 10, at_least: 20 };

fn tenant() -> TenantId {
    TenantId::new("contoso").unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// An issuer's database with a tenant that has two groups, each with its ledger, and a second tenant.
struct Desk {
    _dir: tempfile::TempDir,
    store: Store,
    runtime: tokio::runtime::Runtime,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("issuer.db")).unwrap();
        let desk = Self { _dir: dir, store, runtime: runtime() };
        desk.write(|tx| {
            for (tenant, group, ledger) in [
                ("contoso", "main", Some(LEDGER)),
                ("contoso", "far", Some(OTHER_LEDGER)),
                ("contoso", "empty", None),
                ("fabrikam", "main", None),
            ] {
                put_tenant(tx, &TenantId::new(tenant).unwrap())?;
                tx.execute(
                    "INSERT INTO gateway_group (tenant, id, public_key, ledger) VALUES (?1, ?2, ?3, ?4)",
                    values![tenant, group, &[0_u8; 4], ledger.map(|l| l.to_string()).as_ref()],
                )?;
            }
            Ok(())
        });
        desk
    }

    fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        self.runtime.block_on(self.store.write(work)).unwrap()
    }

    fn device(&self, device: &str, state: &str) {
        let (device, state) = (device.to_owned(), state.to_owned());
        self.write(move |tx| {
            tx.execute(
                "INSERT INTO device (tenant, id, state, attributes) VALUES ('contoso', ?1, ?2, '{}') \
                 ON CONFLICT (tenant, id) DO UPDATE SET state = excluded.state",
                values![&device, &state],
            )
        });
    }

    /// A challenge that the issuer has made.
    fn challenge(&self, n: u32, device: &str) {
        let device = device.to_owned();
        self.write(move |tx| {
            tx.execute(
                "INSERT INTO challenge (tenant, id, device, profile, gateway_group, purpose, issued_at, \
                 expires_at) VALUES ('contoso', ?1, ?2, 'wifi', 'main', 'enrol', ?3, ?4)",
                values![&challenge(n), &device, NOW.seconds(), NOW.seconds() + 3600],
            )
        });
    }

    fn report_as(
        &self,
        (tenant, group): (&str, &str),
        ledger: LedgerId,
        events: Vec<Event>,
    ) -> Result<u64, Refusal> {
        let source =
            Source { tenant: TenantId::new(tenant).unwrap(), group: group.to_owned(), ledger };
        let batch = ReportBatch { v: V1, connector: CONNECTOR, ledger, events };
        self.write(move |tx| record(tx, BRAKE, &source, &batch, NOW))
    }

    fn report(&self, events: Vec<Event>) -> Result<u64, Refusal> {
        self.report_as(("contoso", "main"), LEDGER, events)
    }

    fn tell(&self, ledger: LedgerId, order: &str, state: RevocationState, at: Timestamp) {
        let group = if ledger == LEDGER { "main" } else { "far" };
        let source = Source { tenant: tenant(), group: group.to_owned(), ledger };
        let order = OrderId::from_hex(order).unwrap();
        let results = vec![RevocationResult { order, state, at }];
        let results = RevocationResults { v: V1, connector: CONNECTOR, ledger, results };
        let recorded = self.write(move |tx| revocations::record(tx, &source, &results, NOW));
        assert_eq!(recorded, Ok(1));
    }

    fn column(&self, sql: &'static str) -> Vec<String> {
        self.write(move |tx| {
            tx.query(sql, &[], |row| row.get::<Option<String>>(0).map(Option::unwrap_or_default))
        })
    }

    fn alarms(&self) -> Vec<String> {
        self.column("SELECT kind FROM alarm ORDER BY id")
    }

    fn states(&self) -> Vec<String> {
        self.column("SELECT state FROM revocation ORDER BY seq")
    }

    fn orders(&self) -> Vec<String> {
        self.column("SELECT id FROM revocation ORDER BY seq")
    }

    fn order(&self, device: &str, now: Timestamp) -> orders::Ordered {
        let device = DeviceId::new(device).unwrap();
        self.write(move |tx| {
            let reason = RevocationReason::KeyCompromise;
            orders::place(tx, BRAKE, &tenant(), &Which::Device(&device), reason, "operator", now)
        })
    }

    /// The orders that a gateway on this ledger would be given, and whether there is news.
    fn open(&self, ledger: LedgerId) -> (Vec<String>, bool) {
        let (orders, news) = self.write(move |tx| orders::open(tx, &tenant(), ledger, 500));
        (orders.iter().map(|order| order.order.to_string()).collect(), news)
    }

    fn counts(&self) -> BTreeMap<String, i64> {
        self.write(|tx| crate::service::certificates::counts(tx, &LEDGER.to_string()))
    }
}

fn hash(n: u32) -> String {
    format!("{n:064x}")
}

fn challenge(n: u32) -> String {
    format!("{n:032x}")
}

fn event(sequence: u64, kind: &str, key: &str, device: Option<&str>, facts: &Value) -> Event {
    Event {
        sequence,
        idempotency_key: IdempotencyKey::new(key).unwrap(),
        kind: EventKind::new(kind).unwrap(),
        tenant: device.map(|_| tenant()),
        device: device.map(|device| DeviceId::new(device).unwrap()),
        at: NOW,
        body: Body::parse(&facts.to_string()).unwrap(),
    }
}

/// Certificate `n`, for challenge `n`.
fn issued(sequence: u64, n: u32, device: &str) -> Event {
    let facts = json!({
        "tenant": "contoso", "device": device, "profile": "wifi", "audience": "main",
        "challenge": challenge(n), "thumbprint_sha256": hash(n), "serial": format!("40{n:08X}"),
        "issuer": "CN=CA", "issuer_sha256": hash(0xca), "not_before": NOW.to_string(),
        "not_after": NOW.plus(Duration::from_secs(365 * 86_400)).to_string(),
        "signer_spki_sha256": hash(n), "spki_sha256": hash(n), "recovered": false,
    });
    event(sequence, "issued", &format!("issued:{n}"), Some(device), &facts)
}

fn about(sequence: u64, kind: &str, n: u32, more: Value) -> Event {
    let mut facts = json!({ "tenant": "contoso", "thumbprint_sha256": hash(n) });
    facts.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let key = format!("{kind}:{n}:{sequence}");
    event(sequence, kind, &key, Some("laptop"), &facts)
}

/// A device with certificates 1 to `count`, each for a challenge of the issuer's.
fn furnished(count: u32) -> Desk {
    let desk = Desk::new();
    desk.device("laptop", "enrolled");
    for n in 1..=count {
        desk.challenge(n, "laptop");
    }
    let events = (1..=count).map(|n| issued(n.into(), n, "laptop")).collect();
    assert_eq!(desk.report(events), Ok(count.into()));
    assert_eq!(desk.alarms(), [""; 0]);
    desk
}

#[test]
fn a_certificate_follows_its_events() {
    let desk = furnished(1);
    let one = "SELECT state || ' ' || coalesce(delivered, '-') || ' ' || coalesce(reason, '-') \
               FROM certificate";
    assert_eq!(desk.column(one), ["live - -"]);
    desk.report(vec![about(2, "delivery", 1, json!({ "reply": "connection-lost" }))]).unwrap();
    assert_eq!(desk.column(one), ["live connection-lost -"]);
    desk.report(vec![about(3, "delivery", 1, json!({ "reply": "flushed" }))]).unwrap();
    // What got out once stays out.
    desk.report(vec![about(4, "delivery", 1, json!({ "reply": "connection-lost" }))]).unwrap();
    assert_eq!(desk.column(one), ["live flushed -"]);
    desk.report(vec![about(5, "revoked", 1, json!({ "reason": "superseded" }))]).unwrap();
    assert_eq!(desk.column(one), ["revoked flushed superseded"]);
    desk.report(vec![about(6, "on-crl", 1, json!({ "crl_number": "7" }))]).unwrap();
    assert_eq!(desk.column("SELECT state FROM certificate WHERE on_crl_at > 0"), ["revoked"]);
    let counts = desk.counts();
    let count = |kind: &str| counts.get(kind).copied();
    assert_eq!(
        (count("issued"), count("delivered"), count("delivery")),
        (Some(1), Some(1), Some(3))
    );
    assert_eq!(desk.alarms(), [""; 0]);
}

#[test]
fn a_gap_is_refused_and_what_is_known_counts_once() {
    let desk = furnished(3);
    let refused = desk.report(vec![event(5, "future", "f:5", None, &json!({}))]).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::EventOutOfOrder);
    assert_eq!(desk.alarms(), ["events-missing"]);
    desk.write(|tx| tx.execute("DELETE FROM alarm", &[]));
    // A batch that overlaps, and one that is wholly known.
    let overlap = vec![
        issued(2, 2, "laptop"),
        issued(3, 3, "laptop"),
        event(4, "future", "f:4", None, &json!({ "unheard": [1, "of"] })),
    ];
    assert_eq!(desk.report(overlap.clone()), Ok(4));
    assert_eq!(desk.report(overlap), Ok(4));
    let counts = desk.counts();
    assert_eq!((counts["issued"], counts["future"]), (3, 1));
    // Kinds and facts that are not known are kept whole.
    let body = desk.column("SELECT body FROM event WHERE kind = 'future'");
    assert_eq!(body, [r#"{"unheard":[1,"of"]}"#]);
    assert_eq!(desk.alarms(), [""; 0]);
}

#[test]
fn a_ledger_that_goes_on_from_a_backup_is_noticed_and_loses_nothing() {
    let desk = furnished(3);
    desk.challenge(9, "laptop");
    // It has lost events 2 and 3, and goes on with others: one under a new key, one under a key that was used.
    let forked = Event {
        idempotency_key: IdempotencyKey::new("issued:2").unwrap(),
        ..issued(2, 9, "laptop")
    };
    assert_eq!(desk.report(vec![forked, issued(3, 4, "laptop")]), Ok(3));
    assert_eq!(desk.alarms(), ["ledger-forked", "unknown-challenge"]);
    let twice = desk.column("SELECT kind FROM alarm WHERE times = 2");
    assert_eq!(twice, ["ledger-forked"], "for a key, and for a number");
    let certificates = desk.column("SELECT thumbprint FROM certificate ORDER BY thumbprint");
    assert_eq!(certificates, [1, 2, 3, 4, 9].map(hash));
    // Once it has noticed, it tells what it has under new numbers: nothing is news.
    let again = vec![issued(4, 3, "laptop"), issued(5, 4, "laptop")];
    assert_eq!(desk.report(again), Ok(5));
    assert_eq!(desk.counts()["issued"], 4);
}

#[test]
fn a_certificate_that_no_challenge_explains_is_an_alarm() {
    let desk = furnished(1);
    desk.device("tablet", "enrolled");
    desk.challenge(2, "laptop");
    // Never made; for another device; used twice.
    desk.report(vec![issued(2, 77, "laptop")]).unwrap();
    assert_eq!(desk.alarms(), ["unknown-challenge"]);
    desk.report(vec![issued(3, 2, "tablet")]).unwrap();
    assert_eq!(desk.alarms(), ["unknown-challenge", "challenge-differs"]);
    let detail = desk.column("SELECT detail FROM alarm WHERE kind = 'challenge-differs'");
    assert!(detail[0].contains(r#"device Some("tablet"), not Some("laptop")"#), "{detail:?}");
    let mut twice = issued(4, 5, "laptop");
    let mut facts = twice.body.facts().clone();
    facts.insert("challenge".into(), challenge(1).into());
    twice.body = Body::parse(&Value::Object(facts).to_string()).unwrap();
    desk.report(vec![twice]).unwrap();
    assert_eq!(desk.alarms().last().unwrap(), "challenge-used-twice");
    // What cannot be read, and what is about nothing.
    desk.report(vec![event(5, "issued", "x:5", Some("laptop"), &json!({ "serial": 1 }))]).unwrap();
    desk.report(vec![about(6, "revoked", 1_000, json!({}))]).unwrap();
    let alarms = desk.alarms();
    assert_eq!(alarms[3..], ["unreadable-event", "unknown-certificate"]);
    for (n, kind) in (7..).zip(["breach", "possible-orphan", "restored", "brake-engaged"]) {
        let facts = json!({ "challenge": challenge(1) });
        desk.report(vec![event(n, kind, &format!("{kind}:1"), None, &facts)]).unwrap();
        assert_eq!(desk.alarms().last().unwrap(), kind);
    }
}

#[test]
fn events_of_another_tenant_group_or_ledger_are_refused_and_alarmed() {
    let desk = furnished(1);
    let alarms = |tenant: &'static str| {
        desk.write(move |tx| {
            let sql = "SELECT kind FROM alarm WHERE tenant = ?1 ORDER BY id";
            tx.query(sql, values![tenant], |row| row.get::<String>(0))
        })
    };
    // Another tenant's connector with our ledger, and a group with a ledger that is not its own.
    let next = || vec![issued(2, 2, "laptop")];
    for source in [("fabrikam", "main"), ("contoso", "empty"), ("contoso", "far")] {
        let refused = desk.report_as(source, LEDGER, next()).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::LedgerNotAccepted);
    }
    assert_eq!(alarms("fabrikam"), ["foreign-ledger"]);
    assert_eq!(alarms("contoso"), ["foreign-ledger"]);
    // One event of another tenant, said around it or in it: nothing of the batch is kept.
    let around =
        Event { tenant: Some(TenantId::new("fabrikam").unwrap()), ..issued(3, 3, "laptop") };
    let inside = event(3, "refused", "r:3", None, &json!({ "tenant": "fabrikam" }));
    for foreign in [around, inside] {
        let refused = desk.report(vec![issued(2, 2, "laptop"), foreign]).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::LedgerNotAccepted);
    }
    assert_eq!(alarms("contoso"), ["foreign-ledger", "foreign-tenant"]);
    assert_eq!(desk.column("SELECT thumbprint FROM certificate"), [hash(1)]);
    assert_eq!(desk.counts()["issued"], 1);
}

#[test]
fn an_order_goes_its_way_once_for_all_gateways() {
    let desk = furnished(1);
    let ordered = desk.order("laptop", NOW);
    assert_eq!((ordered.orders.len(), ordered.already, ordered.held), (1, 0, false));
    let again = desk.order("laptop", NOW);
    assert_eq!((again.orders.len(), again.already), (0, 1));
    let order = desk.orders().remove(0);
    // The ledger that has reported the certificate is asked, and no other.
    assert_eq!(desk.open(LEDGER), (vec![order.clone()], true));
    assert_eq!(desk.open(OTHER_LEDGER), (vec![], false));
    assert_eq!(desk.states(), ["queued"]);
    for (state, seen) in [
        (RevocationState::AwaitingOperator, "sent"),
        (RevocationState::Queued, "sent"),
        (RevocationState::Revoked, "revoked"),
    ] {
        desk.tell(LEDGER, &order, state, NOW);
        assert_eq!(desk.states(), [seen]);
        // Repeated until it is final, and no news.
        assert_eq!(desk.open(LEDGER), (vec![order.clone()], false));
    }
    desk.tell(LEDGER, &order, RevocationState::Published, NOW);
    assert_eq!(desk.states(), ["on-crl"]);
    // Final.
    desk.tell(LEDGER, &order, RevocationState::Queued, NOW);
    desk.tell(LEDGER, &order, RevocationState::NotIssuedHere, NOW);
    assert_eq!(desk.states(), ["on-crl"]);
    assert_eq!(desk.open(LEDGER), (vec![], false));
    assert_eq!(desk.alarms(), [""; 0]);
}

#[test]
fn events_move_an_order_too_and_a_failure_says_why() {
    let desk = furnished(1);
    desk.order("laptop", NOW);
    let order = desk.orders().remove(0);
    desk.tell(LEDGER, &order, RevocationState::Queued, NOW);
    desk.report(vec![about(2, "revocation-failed", 1, json!({ "detail": "no such permission" }))])
        .unwrap();
    assert_eq!(desk.states(), ["failed"]);
    assert_eq!(desk.column("SELECT failure FROM revocation"), ["no such permission"]);
    assert_eq!(desk.alarms(), ["revocation-failed"]);
    // It is asked for again, and a gateway that has tried anew says so.
    assert_eq!(desk.open(LEDGER).0, [order.as_str()]);
    desk.tell(LEDGER, &order, RevocationState::Queued, NOW.plus(Duration::from_secs(1)));
    assert_eq!(desk.states(), ["sent"]);
    desk.report(vec![about(3, "revoked", 1, json!({ "reason": "superseded" }))]).unwrap();
    assert_eq!(desk.states(), ["revoked"]);
    desk.report(vec![about(4, "on-crl", 1, json!({}))]).unwrap();
    assert_eq!(desk.states(), ["on-crl"]);
}

#[test]
fn attack_54_a_certificate_is_unknown_only_when_every_ledger_has_said_so() {
    let desk = furnished(1);
    let serial = orders::serial("4A01").unwrap();
    let issuer = NameHash::from_hex(&hash(0xca)).unwrap();
    desk.write(move |tx| {
        let which = Which::Name(issuer, &serial);
        let reason = RevocationReason::Unspecified;
        orders::order(tx, BRAKE, &tenant(), &which, reason, "operator", NOW)
    });
    let order = desk.orders().remove(0);
    for ledger in [LEDGER, OTHER_LEDGER] {
        assert_eq!(desk.open(ledger), (vec![order.clone()], true));
    }
    desk.tell(LEDGER, &order, RevocationState::NotIssuedHere, NOW);
    assert_eq!(desk.states(), ["queued"]);
    assert_eq!(desk.open(LEDGER), (vec![], false));
    // Final for that ledger.
    desk.tell(LEDGER, &order, RevocationState::Published, NOW);
    assert_eq!(desk.states(), ["queued"]);
    desk.tell(OTHER_LEDGER, &order, RevocationState::NotIssuedHere, NOW);
    assert_eq!(desk.states(), ["not-found"]);
    assert_eq!(desk.alarms(), ["revocation-not-found"]);
    // The ledger that has reported a certificate denies it: then the others are asked.
    desk.order("laptop", NOW);
    let order = desk.orders().remove(1);
    assert_eq!(desk.open(OTHER_LEDGER), (vec![], false));
    desk.tell(LEDGER, &order, RevocationState::NotIssuedHere, NOW);
    assert_eq!(desk.open(OTHER_LEDGER), (vec![order.clone()], true));
    desk.tell(OTHER_LEDGER, &order, RevocationState::Published, NOW);
    assert_eq!(desk.states(), ["not-found", "on-crl"]);
}

#[test]
fn attack_54_another_groups_ledger_settles_nothing_about_a_certificate() {
    let desk = furnished(1);
    let order = desk.order("laptop", NOW).orders.remove(0);
    let lies = vec![
        about(1, "delivery", 1, json!({ "reply": "flushed" })),
        about(2, "revoked", 1, json!({ "reason": "superseded" })),
        about(3, "on-crl", 1, json!({ "crl_number": "7" })),
        about(4, "revocation-failed", 1, json!({ "detail": "no" })),
    ];
    // Events are kept whatever they say; they mean nothing here.
    assert_eq!(desk.report_as(("contoso", "far"), OTHER_LEDGER, lies), Ok(4));
    let one = "SELECT state || ' ' || coalesce(delivered, '-') || ' ' || coalesce(on_crl_at, 0) \
               FROM certificate";
    assert_eq!(desk.column(one), ["live - 0"]);
    assert_eq!(desk.states(), ["queued"]);
    assert_eq!(desk.open(LEDGER), (vec![order], true));
    assert_eq!(desk.alarms(), ["foreign-ledger"]);
}

#[test]
fn attack_54_a_certificate_that_two_ledgers_claim_or_tell_in_two_ways_is_an_alarm() {
    let desk = furnished(1);
    let claimed = desk.report_as(("contoso", "far"), OTHER_LEDGER, vec![issued(1, 1, "laptop")]);
    assert_eq!(claimed, Ok(1));
    assert_eq!(desk.column("SELECT ledger FROM certificate"), [LEDGER.to_string()]);
    assert_eq!(desk.alarms(), ["foreign-ledger"]);
    // The same words of its own ledger again are no alarm, other words are.
    desk.write(|tx| tx.execute("DELETE FROM alarm", &[]));
    let again = |sequence: u64, serial: &str| {
        let mut event = issued(sequence, 1, "laptop");
        let facts = event.body.to_json().replace("4000000001", serial);
        event.body = Body::parse(&facts).unwrap();
        event.idempotency_key = IdempotencyKey::new(format!("issued:1:{sequence}")).unwrap();
        event
    };
    desk.report(vec![again(2, "4000000001")]).unwrap();
    assert_eq!(desk.alarms(), [""; 0]);
    desk.report(vec![again(3, "4000000002")]).unwrap();
    assert_eq!(desk.alarms(), ["ledger-forked"]);
    assert_eq!(desk.column("SELECT serial FROM certificate"), ["4000000001"]);
}

#[test]
fn attack_54_a_serial_number_has_one_form_and_twenty_octets() {
    let desk = furnished(0);
    let told = |sequence: u64, n: u32, serial: &str| {
        let mut event = issued(sequence, n, "laptop");
        let facts = event.body.to_json().replace(&format!("40{n:08X}"), serial);
        event.body = Body::parse(&facts).unwrap();
        event
    };
    for n in 1..=2 {
        desk.challenge(n, "laptop");
    }
    // A sign octet, which the link's form leaves out: a second name for one certificate.
    desk.report(vec![told(1, 1, "009a01")]).unwrap();
    assert_eq!(desk.column("SELECT serial FROM certificate"), ["9A01"]);
    assert_eq!(desk.alarms(), [""; 0]);
    // Longer than an index of PostgreSQL can hold.
    desk.report(vec![told(2, 2, &"7A".repeat(20_000))]).unwrap();
    assert_eq!(desk.alarms(), ["unreadable-event"]);
    assert_eq!(desk.column("SELECT serial FROM certificate"), ["9A01"]);
}

#[test]
fn an_order_finds_its_certificate_when_that_is_reported() {
    let desk = furnished(1);
    desk.challenge(2, "laptop");
    let serial = orders::serial("4000000002").unwrap();
    let issuer = NameHash::from_hex(&hash(0xca)).unwrap();
    desk.write(move |tx| {
        let which = Which::Name(issuer, &serial);
        let reason = RevocationReason::Unspecified;
        orders::order(tx, BRAKE, &tenant(), &which, reason, "operator", NOW)
    });
    assert_eq!(desk.open(OTHER_LEDGER).0.len(), 1);
    desk.report(vec![issued(2, 2, "laptop")]).unwrap();
    let known =
        "SELECT thumbprint || ' ' || device || ' ' || profile || ' ' || ledger FROM revocation";
    assert_eq!(desk.column(known), [format!("{} laptop wifi {LEDGER}", hash(2))]);
    assert_eq!((desk.open(LEDGER).0.len(), desk.open(OTHER_LEDGER).0.len()), (1, 0));
    // It is revoked by other means while the brake holds the order.
    desk.write(|tx| tx.execute("UPDATE revocation SET state = 'held', held = 1", &[]));
    assert_eq!(desk.open(LEDGER), (vec![], false));
    desk.report(vec![about(3, "revoked", 2, json!({ "reason": "superseded" }))]).unwrap();
    assert_eq!(desk.states(), ["revoked"]);
}

#[test]
fn attack_54_a_ledger_cannot_settle_what_it_was_not_asked() {
    let desk = furnished(1);
    desk.order("laptop", NOW);
    let order = desk.orders().remove(0);
    for state in [RevocationState::Published, RevocationState::Declined, RevocationState::Revoked] {
        desk.tell(OTHER_LEDGER, &order, state, NOW);
        assert_eq!(desk.states(), ["queued"]);
    }
    assert_eq!(desk.alarms(), ["foreign-order"]);
    // Nor of another tenant.
    desk.write(|tx| tx.execute("UPDATE revocation SET tenant = 'fabrikam'", &[]));
    desk.tell(LEDGER, &order, RevocationState::Published, NOW);
    assert_eq!(desk.states(), ["queued"]);
    assert_eq!(desk.column("SELECT state FROM revocation_result"), [""; 0]);
}

#[test]
fn attack_55_the_brake_holds_what_is_ordered_at_once_until_an_operator_has_decided() {
    let desk = furnished(250);
    for n in 1..=250_u32 {
        desk.write(move |tx| {
            tx.execute(
                "UPDATE certificate SET device = ?2 WHERE thumbprint = ?1",
                values![&hash(n), &format!("d{n}")],
            )
        });
    }
    // 10 % of 250: one by one counts as much as at once.
    for n in 1..=25 {
        assert!(!desk.order(&format!("d{n}"), NOW).held, "{n}");
    }
    assert!(desk.order("d26", NOW).held);
    assert!(
        desk.order("d27", NOW.plus(Duration::from_secs(7_200))).held,
        "until an operator decides"
    );
    assert_eq!(desk.alarms(), ["revocation-brake"]);
    assert_eq!(desk.open(LEDGER).0.len(), 25);
    // One is declined, one confirmed; the brake goes on holding.
    let orders = desk.orders();
    let (first, second) = (orders[25].clone(), orders[26].clone());
    let decide = |order: Option<String>, decision| {
        desk.write(move |tx| {
            orders::decide(tx, &tenant(), order.as_deref(), decision, Some("ada"), NOW)
        })
    };
    assert_eq!(decide(Some(first.clone()), Decision::Decline), 1);
    assert_eq!(decide(Some(first), Decision::Confirm), 0);
    assert_eq!(decide(Some(second), Decision::Confirm), 1);
    assert_eq!(desk.states()[25..], ["declined", "queued"]);
    assert!(desk.order("d28", NOW).held);
    assert_eq!(decide(None, Decision::Confirm), 1);
    // It counts from nothing. A device whose order was declined can be ordered again.
    let again = desk.order("d26", NOW);
    assert_eq!((again.orders.len(), again.held), (1, false));
    // At once: all are held, not those beyond.
    let which = |tx: &Tx<'_>| {
        let profile = ProfileId::new("wifi").unwrap();
        let reason = RevocationReason::Superseded;
        orders::place(tx, BRAKE, &tenant(), &Which::Profile(&profile), reason, "operator", NOW)
    };
    let all = desk.write(which);
    assert_eq!((all.orders.len(), all.already, all.held), (222, 28, true));
    // Another tenant's brake is its own.
    let engaged = desk.column("SELECT tenant FROM revocation_brake WHERE engaged_at IS NOT NULL");
    assert_eq!(engaged, ["contoso"]);
}

#[test]
fn the_brake_lets_twenty_go_however_few_there_are() {
    let desk = furnished(21);
    let ordered = desk.order("laptop", NOW);
    assert_eq!((ordered.orders.len(), ordered.held), (21, true));
    let desk = furnished(20);
    let ordered = desk.order("laptop", NOW);
    assert_eq!((ordered.orders.len(), ordered.held), (20, false));
    // After an hour they no longer count.
    desk.challenge(30, "laptop");
    desk.report(vec![issued(21, 30, "laptop")]).unwrap();
    let hour = NOW.plus(Duration::from_secs(3_600));
    assert!(!desk.order("laptop", hour).held);
}

#[test]
fn what_was_issued_before_the_gateway_knew_is_revoked_when_it_is_reported() {
    let desk = Desk::new();
    for (n, device, state) in
        [(1, "wiped", Some("wiped")), (2, "off", Some("disabled")), (3, "gone", None)]
    {
        desk.challenge(n, device);
        if let Some(state) = state {
            desk.device(device, state);
        }
    }
    desk.report(vec![issued(1, 1, "wiped"), issued(2, 2, "off"), issued(3, 3, "gone")]).unwrap();
    // By default a disabled device keeps its certificates.
    let causes = desk.column("SELECT device || ' ' || cause FROM revocation ORDER BY seq");
    assert_eq!(causes, ["wiped wipe", "gone unenrol"]);
    // A device is wiped and comes back: what had its challenge before goes, what is new stays.
    let end = NOW.plus(Duration::from_secs(60));
    desk.device("back", "enrolled");
    desk.challenge(5, "back");
    desk.challenge(6, "back");
    desk.write(move |tx| {
        let device = DeviceId::new("back").unwrap();
        orders::on_device(tx, BRAKE, &tenant(), &device, RevokeOn::Wipe, end)?;
        tx.execute(
            "UPDATE challenge SET issued_at = ?2 WHERE id = ?1",
            values![&challenge(6), end.seconds()],
        )
    });
    desk.report(vec![issued(4, 5, "back"), issued(5, 6, "back")]).unwrap();
    let causes = desk.column("SELECT thumbprint || ' ' || cause FROM revocation ORDER BY seq");
    assert_eq!(causes[2..], [format!("{} wipe", hash(5))]);
    // Of a challenge that was not made here nothing is known, and nothing is revoked.
    desk.report(vec![issued(6, 77, "nobody")]).unwrap();
    assert_eq!(desk.orders().len(), 3);
}

#[test]
fn a_profile_decides_what_is_revoked() {
    let desk = furnished(1);
    let profile = |revoke_on: &str| {
        let toml = format!(
            "id = 'wifi'\nfor = 'device'\nsubject = 'CN={{{{DeviceId}}}}'\nkey_usage = ['digitalSignature']\n\
             extended_key_usages = ['clientAuth']\nkey_algorithms = ['p256']\nvalidity = '365d'\n\
             revoke_on = {revoke_on}\n"
        );
        desk.write(move |tx| {
            tx.execute(
                "INSERT INTO profile (tenant, id, toml) VALUES ('contoso', 'wifi', ?1) \
                 ON CONFLICT (tenant, id) DO UPDATE SET toml = excluded.toml",
                values![&toml],
            )
        });
    };
    let happen = |event| {
        let device = DeviceId::new("laptop").unwrap();
        desk.write(move |tx| orders::on_device(tx, BRAKE, &tenant(), &device, event, NOW))
    };
    profile("[]");
    for event in [RevokeOn::Wipe, RevokeOn::Unenrol, RevokeOn::Disable] {
        assert_eq!(happen(event), 0);
    }
    profile("['disable']");
    assert_eq!((happen(RevokeOn::Wipe), happen(RevokeOn::Disable)), (0, 1));
    assert_eq!(desk.column("SELECT reason FROM revocation"), ["privilegeWithdrawn"]);
}

#[test]
fn reconciliation_finds_what_needs_attention() {
    let desk = furnished(3);
    let day = |n: u64| NOW.plus(Duration::from_secs(n * 86_400));
    let toml = "id = 'wifi'\nfor = 'device'\nsubject = 'CN={{DeviceId}}'\nkey_usage = ['digitalSignature']\n\
                extended_key_usages = ['clientAuth']\nkey_algorithms = ['p256']\nvalidity = '365d'\n\
                renewal_threshold = '20d'\n";
    desk.write(move |tx| {
        let sql = "INSERT INTO profile (tenant, id, toml) VALUES ('contoso', 'wifi', ?1)";
        tx.execute(sql, values![toml])
    });
    let look = |at| desk.write(move |tx| upkeep::reconcile(tx, &tenant(), at));
    let found = look(NOW);
    assert_eq!((found.device_gone.count, found.renewal_overdue.count), (0, 0));
    assert_eq!((found.expiring.within_30_days, found.unused_challenges), (0, 0));
    // One certificate of three ends later; so the others have a successor.
    let later = day(400).seconds();
    desk.write(move |tx| {
        tx.execute(
            "UPDATE certificate SET not_after = ?1 WHERE thumbprint = ?2",
            values![later, &hash(3)],
        )
    });
    assert_eq!(look(day(350)).expiring.within_30_days, 0);
    desk.write(|tx| tx.execute("UPDATE certificate SET device = 'd' || thumbprint", &[]));
    let found = look(day(340));
    assert_eq!((found.expiring.within_14_days, found.expiring.within_30_days), (0, 2));
    assert_eq!(look(day(360)).expiring.within_7_days, 2);
    assert_eq!(look(day(366)).expiring.within_30_days, 0, "expired");
    // Their devices are unknown now.
    assert_eq!(found.device_gone.count, 3);
    assert_eq!(found.device_gone.items[0].why, "gone");
    desk.write(|tx| tx.execute("UPDATE certificate SET device = 'laptop' || device", &[]));
    for n in 1..=3 {
        desk.device(&format!("laptopd{}", hash(n)), if n == 1 { "disabled" } else { "enrolled" });
    }
    let found = look(day(346));
    assert_eq!((found.device_gone.count, found.renewal_overdue.count), (1, 1));
    assert_eq!(found.renewal_overdue.items[0].thumbprint, hash(2));
    // A challenge since it was due.
    let due = day(345).seconds();
    desk.challenge(50, &format!("laptopd{}", hash(2)));
    assert_eq!(look(day(346)).renewal_overdue.count, 1);
    desk.write(move |tx| {
        let sql = "UPDATE challenge SET issued_at = ?1 WHERE id = ?2";
        tx.execute(sql, values![due, &challenge(50)])
    });
    assert_eq!(look(day(346)).renewal_overdue.count, 0);
    assert_eq!(look(day(346)).unused_challenges, 1);
    desk.report(vec![event(4, "possible-orphan", "o:1", None, &json!({}))]).unwrap();
    assert_eq!(look(day(346)).possible_orphans, 1);
}

/// What a gateway's network does to its batches: each is a part of the outbox that begins somewhere at or before what was
/// acknowledged, and may be sent again by another gateway of the group.
#[derive(Clone, Debug)]
struct Sending {
    back: u64,
    length: u64,
    /// The answer is lost: the sender goes on from what it knew.
    lost: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_repeated_and_lost_every_event_is_here_once(
        total in 1_u64..40,
        sends in proptest::collection::vec(
            (0_u64..8, 1_u64..12, any::<bool>()).prop_map(|(back, length, lost)| Sending { back, length, lost }),
            1..30,
        ),
        restore_from in proptest::option::of(1_u64..40),
    ) {
        let desk = Desk::new();
        desk.device("laptop", "enrolled");
        let outbox: Vec<Event> = (1..=total)
            .map(|sequence| {
                let n = u32::try_from(sequence.div_ceil(2)).unwrap();
                if sequence % 2 == 1 {
                    desk.challenge(n, "laptop");
                    issued(sequence, n, "laptop")
                } else {
                    about(sequence, "delivery", n, json!({ "reply": "flushed" }))
                }
            })
            .collect();
        let part = |from: u64, length: u64| -> Vec<Event> {
            let from = usize::try_from(from).unwrap();
            outbox.iter().skip(from).take(usize::try_from(length).unwrap()).cloned().collect()
        };
        let (mut here, mut known) = (0, 0);
        for send in sends {
            // Beyond the next event: refused, and nothing is kept.
            if here + 1 < total {
                let ahead = desk.report(part(here + 1, 1)).unwrap_err();
                prop_assert_eq!(ahead.code(), ErrorCode::EventOutOfOrder);
            }
            let from = known.min(here) - known.min(here).min(send.back);
            let events = part(from, send.length);
            let Some(last) = events.last().map(|event| event.sequence) else { continue };
            let acknowledged = desk.report(events).unwrap();
            here = here.max(last);
            prop_assert_eq!(acknowledged, here);
            if !send.lost {
                known = acknowledged;
            }
        }
        let told = |n: u64| i64::try_from(n).unwrap();
        let counts = desk.counts();
        let count = |kind: &str| counts.get(kind).copied().unwrap_or(0);
        prop_assert_eq!(count("issued"), told(here.div_ceil(2)));
        prop_assert_eq!(count("delivered"), told(here / 2));
        let sequences = desk.write(|tx| {
            tx.query("SELECT sequence FROM event ORDER BY id", &[], |row| row.get::<i64>(0))
        });
        prop_assert_eq!(sequences, (1..=told(here)).collect::<Vec<_>>());
        // Restored from a backup, it gives what it has new numbers: still once each.
        if let Some(from) = restore_from.filter(|from| *from <= here) {
            let renumbered: Vec<Event> = part(from - 1, total)
                .into_iter()
                .take_while(|event| event.sequence <= here)
                .zip(here + 1..)
                .map(|(event, sequence)| Event { sequence, ..event })
                .collect();
            desk.report(renumbered).unwrap();
            prop_assert_eq!(desk.counts(), counts);
        }
        let alarms = desk.alarms();
        prop_assert!(alarms.iter().all(|kind| kind == "events-missing"), "{:?}", alarms);
    }
}

/// Certificate `n` as the successor of certificate `of`, without a challenge.
fn renewed(sequence: u64, n: u32, of: u32, generation: i64) -> Event {
    let mut event = issued(sequence, n, "laptop");
    let mut facts = event.body.facts().clone();
    let predecessor = CertificateFingerprint::from_hex(&hash(of)).unwrap();
    facts.insert("challenge".into(), json!(lineage::successor_id(predecessor).to_string()));
    facts.insert("renews".into(), json!(hash(of)));
    facts.insert("generation".into(), json!(generation));
    event.body = Body::parse(&Value::Object(facts).to_string()).unwrap();
    event
}

/// With one fact changed; a null takes it away.
fn but(mut event: Event, name: &str, value: &Value) -> Event {
    let mut facts = event.body.facts().clone();
    facts.insert(name.into(), value.clone());
    event.body = Body::parse(&Value::Object(facts).to_string()).unwrap();
    event
}

#[test]
fn a_renewal_without_a_challenge_is_linked_to_the_certificate_that_it_follows() {
    let desk = furnished(1);
    desk.report(vec![renewed(2, 11, 1, 1), renewed(3, 12, 11, 2), renewed(4, 13, 12, 3)]).unwrap();
    assert_eq!(desk.alarms(), [""; 0]);
    let renews = desk.column("SELECT renews FROM certificate ORDER BY id");
    assert_eq!(renews, [String::new(), hash(1), hash(11), hash(12)]);
    let generations = "SELECT CAST(generation AS TEXT) FROM certificate ORDER BY id";
    assert_eq!(desk.column(generations), ["0", "1", "2", "3"]);
    // They are the device's: what is ordered for it is ordered for them.
    desk.order("laptop", NOW);
    assert_eq!(desk.states().len(), 4);
}

#[test]
fn attack_03_a_renewal_that_does_not_fit_its_predecessor_is_alarmed() {
    let differs = "renewal-differs";
    for (what, event, alarm) in [
        ("user", but(renewed(2, 11, 1, 1), "user", &json!("boss")), differs),
        ("profile", but(renewed(2, 11, 1, 1), "profile", &json!("vpn")), differs),
        ("generation", renewed(2, 11, 1, 2), differs),
        ("no generation", but(renewed(2, 11, 1, 1), "generation", &json!(null)), differs),
        ("another's id", but(renewed(2, 11, 1, 1), "challenge", &json!(challenge(9))), differs),
        ("predecessor", renewed(2, 11, 9, 1), "unknown-certificate"),
        ("no predecessor", but(renewed(2, 11, 1, 1), "renews", &json!(null)), "unknown-challenge"),
        ("nonsense", but(renewed(2, 11, 1, 1), "renews", &json!("x")), "unreadable-event"),
    ] {
        let desk = furnished(1);
        desk.report(vec![event]).unwrap();
        assert_eq!(desk.alarms(), [alarm], "{what}");
        // It is there all the same, and can be revoked.
        let there = if what == "nonsense" { 1 } else { 2 };
        assert_eq!(desk.column("SELECT thumbprint FROM certificate").len(), there, "{what}");
    }
    // Of another device.
    let desk = furnished(1);
    desk.device("phone", "enrolled");
    let mut event = but(renewed(2, 11, 1, 1), "device", &json!("phone"));
    event.device = Some(DeviceId::new("phone").unwrap());
    desk.report(vec![event]).unwrap();
    assert_eq!(desk.alarms(), [differs]);
    // The fourth, a second successor, and one of a certificate that was revoked before.
    let desk = furnished(1);
    let line = vec![renewed(2, 11, 1, 1), renewed(3, 12, 11, 2), renewed(4, 13, 12, 3)];
    desk.report(line).unwrap();
    desk.report(vec![renewed(5, 14, 13, 4)]).unwrap();
    assert_eq!(desk.alarms(), [differs]);
    desk.report(vec![renewed(6, 15, 12, 3)]).unwrap();
    assert_eq!(desk.alarms()[1..], ["challenge-used-twice"]);
    desk.report(vec![about(7, "revoked", 13, json!({ "reason": "keyCompromise" }))]).unwrap();
    let mut late = but(renewed(8, 16, 13, 4), "generation", &json!(4));
    late.at = NOW.plus(Duration::from_secs(1));
    desk.report(vec![late]).unwrap();
    let details =
        desk.column("SELECT detail FROM alarm WHERE kind = 'renewal-differs' ORDER BY id");
    assert!(details.last().unwrap().contains("was revoked before"), "{details:?}");
}

#[test]
fn attack_03_the_line_of_a_former_life_of_the_device_is_revoked_when_it_is_renewed() {
    let desk = furnished(1);
    desk.report(vec![renewed(2, 11, 1, 1)]).unwrap();
    // Wiped after the challenge of the line was made, and set up anew since.
    desk.write(move |tx| {
        let (device, end) = (DeviceId::new("laptop").unwrap(), NOW.plus(Duration::from_secs(60)));
        orders::on_device(tx, BRAKE, &tenant(), &device, RevokeOn::Wipe, end)
    });
    let mut late = renewed(3, 12, 11, 2);
    late.at = NOW.plus(Duration::from_secs(100));
    desk.report(vec![late]).unwrap();
    let ordered = desk.column("SELECT thumbprint FROM revocation ORDER BY seq");
    assert_eq!(ordered, [hash(1), hash(11), hash(12)]);
    assert_eq!(desk.alarms(), [""; 0]);
}
