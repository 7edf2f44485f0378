//! Orders to revoke, on a gateway that issues and a CA that revokes.

use crate::gateway::{Gateway, eventually};
use crate::issuer::{Issuer, Reply, tenant};
use scep_link::*;
use scep_message::client::Reply as ScepReply;
use scep_testkit::house::House;
use scep_testkit::keys;
use scep_types::{CertificateDer, NameHash, OrderId, SerialNumber};

/// A gateway around the same ledger, with as many certificates issued as are asked for.
async fn issued(gateway: &Gateway, count: usize) -> (scep_server::Gateway, Vec<CertificateDer>) {
    let house = House::new();
    let server = scep_server::Gateway::new(house.parts_on(gateway.ledger.clone())).unwrap();
    let mut certificates = Vec::new();
    for nth in 0..count {
        let sent = house.enrolment(&keys::rsa2048(2 + nth));
        let answer = server.answer("/", sent.bytes.clone()).await.unwrap();
        let ScepReply::Success(all) = house.read(&sent, &answer) else { panic!("not issued") };
        certificates.push(all[0].clone());
    }
    (server, certificates)
}

fn order(nth: u8, certificate: &CertificateDer) -> RevocationOrder {
    RevocationOrder {
        order: OrderId::from_bytes([nth; 16]),
        issuer: NameHash::of(certificate.issuer_der()),
        serial: certificate.serial().unwrap(),
        reason: RevocationReason::CessationOfOperation,
    }
}

/// The states that were told of an order, one after the other.
fn told(issuer: &Issuer, nth: u8) -> Vec<RevocationState> {
    let book = issuer.book();
    let of = book.results.iter().filter(|result| result.order == OrderId::from_bytes([nth; 16]));
    let mut states: Vec<_> = of.map(|result| result.state).collect();
    states.dedup();
    states
}

async fn until_told(issuer: &Issuer, nth: u8, state: RevocationState) {
    eventually("the result", || (told(issuer, nth).last() == Some(&state)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_54_an_order_is_followed_until_the_crl_shows_it() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    let (server, certificates) = issued(&gateway, 1).await;
    gateway.start();
    issuer.says(|book| book.orders.push(order(1, &certificates[0])));
    until_told(&issuer, 1, RevocationState::Queued).await;
    // The order comes with every answer, and is queued once.
    let checked = issuer.book().check_ins().len();
    issuer.says(|_| ());
    eventually("more check-ins", || (issuer.book().check_ins().len() > checked).then_some(()))
        .await;
    gateway.crash().await;
    gateway.start();
    server.revoke_pending().await.unwrap();
    until_told(&issuer, 1, RevocationState::Published).await;
    assert!(issuer.book().orders.is_empty());
    eventually("the events", || {
        let book = issuer.book();
        let kinds: Vec<_> = book.events.iter().map(|event| event.kind.as_str()).collect();
        (kinds.iter().filter(|kind| **kind == "on-crl").count() == 1
            && kinds.iter().filter(|kind| **kind == "revoked").count() == 1)
            .then_some(())
    })
    .await;
    let counters = issuer.book().check_ins().last().unwrap().counters;
    assert_eq!(counters.issued, 1);
    eventually("the counter of reports", || {
        issuer.says(|_| ());
        let last = issuer.book().check_ins().last().cloned()?;
        (last.counters.reported == 1).then_some(())
    })
    .await;
    assert_eq!(gateway.trouble(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_54_what_was_not_issued_here_is_left_alone() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    let (server, certificates) = issued(&gateway, 1).await;
    let mut other = order(1, &certificates[0]);
    other.serial = SerialNumber::from_random([9; 16]);
    let mut elsewhere = order(2, &certificates[0]);
    elsewhere.issuer = NameHash::of(b"another CA");
    gateway.start();
    issuer.says(|book| book.orders = vec![other, elsewhere]);
    until_told(&issuer, 1, RevocationState::NotIssuedHere).await;
    until_told(&issuer, 2, RevocationState::NotIssuedHere).await;
    server.revoke_pending().await.unwrap();
    let (name, serial) =
        (NameHash::of(certificates[0].issuer_der()), certificates[0].serial().unwrap());
    assert_eq!(gateway.ledger.revocation(name, &serial).await.unwrap(), None);
    assert_eq!(tenant(), House::tenant());
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_55_what_the_brake_holds_awaits_an_operator() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::new(&issuer);
    let path = gateway.folder.path().join("braked.sqlite");
    let mut settings = scep_ledger::LedgerSettings::default();
    settings.revocations.at_least = 0;
    gateway.ledger = scep_ledger::Ledger::open_sqlite(&path, settings).unwrap();
    gateway.enrol(&issuer).await.unwrap();
    let (server, certificates) = issued(&gateway, 1).await;
    gateway.start();
    issuer.says(|book| book.orders.push(order(1, &certificates[0])));
    until_told(&issuer, 1, RevocationState::Queued).await;
    server.revoke_pending().await.unwrap();
    until_told(&issuer, 1, RevocationState::AwaitingOperator).await;
    gateway.ledger.confirm_revocations("ada", crate::issuer::NOW).await.unwrap();
    server.revoke_pending().await.unwrap();
    until_told(&issuer, 1, RevocationState::Published).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_was_lost_is_told_again() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    let (_server, certificates) = issued(&gateway, 1).await;
    let mut lost = 0;
    issuer.twist(move |_, asked| {
        (asked.path == "/connector/v1/revocations" && lost < 2).then(|| {
            lost += 1;
            Reply::problem(ErrorCode::Unavailable)
        })
    });
    issuer.says(|book| book.orders.push(order(1, &certificates[0])));
    gateway.start();
    let said = eventually("trouble", || gateway.trouble()).await;
    assert!(said.contains("revocations"), "{said}");
    until_told(&issuer, 1, RevocationState::Queued).await;
    eventually("no trouble", || {
        issuer.says(|_| ());
        gateway.trouble().is_none().then_some(())
    })
    .await;
}
