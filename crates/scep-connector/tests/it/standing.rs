//! Whether the gateway may issue.

use crate::gateway::{Gateway, eventually};
use crate::issuer::{Issuer, NOW, Reply};
use scep_connector::{Offline, Standing};
use scep_link::{ErrorCode, Health, LedgerBinding};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

async fn until_standing(gateway: &Gateway, wanted: Standing) {
    eventually("the standing", || {
        let told = gateway.host.standings.lock().unwrap().last().copied();
        (told == Some(wanted)).then_some(())
    })
    .await;
    assert_eq!(gateway.connector().status().standing, wanted);
}

fn away(issuer: &Issuer) {
    issuer.twist(|_, _| Some(Reply::problem(ErrorCode::Unavailable)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_cut_off_stops_and_goes_on_when_it_hears_again() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    gateway.settings.offline = Offline::RefuseAfter(24 * HOUR);
    gateway.start();
    eventually("a check-in", || (gateway.state().last_sequence > 40).then_some(())).await;
    until_standing(&gateway, Standing::Serving).await;
    away(&issuer);
    eventually("trouble", || gateway.trouble()).await;
    let heard = gateway.state().last_heard.unwrap();
    assert_eq!(heard, NOW);
    gateway.clock.set(heard.plus(24 * HOUR));
    let asked = issuer.book().asked.len();
    eventually("more attempts", || (issuer.book().asked.len() > asked + 1).then_some(())).await;
    until_standing(&gateway, Standing::Serving).await;
    gateway.clock.set(heard.plus(24 * HOUR + Duration::from_secs(1)));
    until_standing(&gateway, Standing::Offline { since: Some(heard) }).await;
    // A clock set back does not shorten the silence.
    gateway.clock.set(heard);
    gateway.stop().await;
    // Nor does a restart.
    gateway.clock.set(heard.plus(25 * HOUR));
    gateway.start();
    until_standing(&gateway, Standing::Offline { since: Some(heard) }).await;
    let stopped = eventually("a check-in that says so", || {
        let last = issuer.book().check_ins().last().cloned()?;
        (last.health == Health::Stopped).then_some(last)
    })
    .await;
    assert_eq!(stopped.wait_seconds, 0);
    issuer.says(|book| book.now = heard.plus(25 * HOUR));
    issuer.honest();
    until_standing(&gateway, Standing::Serving).await;
    assert_eq!(gateway.state().last_heard, Some(heard.plus(25 * HOUR)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_to_serve_goes_on_however_long_it_is_cut_off() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    gateway.settings.offline = Offline::Serve;
    away(&issuer);
    gateway.clock.set(NOW.plus(1000 * HOUR));
    gateway.start();
    eventually("trouble", || gateway.trouble()).await;
    let asked = issuer.book().asked.len();
    eventually("more attempts", || (issuer.book().asked.len() > asked + 1).then_some(())).await;
    let told = gateway.host.standings.lock().unwrap().clone();
    assert!(told.iter().all(|standing| *standing == Standing::Serving), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_on_another_ledger_than_its_groups_does_not_issue() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    gateway.start();
    until_standing(&gateway, Standing::Serving).await;
    issuer.says(|book| book.binding = LedgerBinding::Another);
    until_standing(&gateway, Standing::AnotherLedger).await;
    let said = eventually("trouble", || gateway.trouble()).await;
    assert!(said.contains("LedgerNotAccepted"), "{said}");
    // Known before anybody is asked.
    gateway.stop().await;
    issuer.twist(|_, _| Some(Reply::problem(ErrorCode::Unavailable)));
    gateway.host.standings.lock().unwrap().clear();
    gateway.start();
    until_standing(&gateway, Standing::AnotherLedger).await;
    assert!(!gateway.host.standings.lock().unwrap().contains(&Standing::Serving));
    issuer.says(|book| book.binding = LedgerBinding::This);
    issuer.honest();
    until_standing(&gateway, Standing::Serving).await;
    eventually("no trouble", || gateway.trouble().is_none().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_the_gateway_did_not_enrol_with_is_noticed_without_the_issuer() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    issuer.twist(|_, _| Some(Reply::problem(ErrorCode::Unavailable)));
    let path = gateway.folder.path().join("another.sqlite");
    gateway.ledger =
        scep_ledger::Ledger::open_sqlite(&path, scep_ledger::LedgerSettings::default()).unwrap();
    gateway.start();
    until_standing(&gateway, Standing::AnotherLedger).await;
}
