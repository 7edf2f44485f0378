//! What is disabled, by cursor into the ledger.

use crate::gateway::{Gateway, eventually};
use crate::issuer::Issuer;
use scep_link::*;
use scep_types::{DeviceId, ProfileId, UserId};
use std::collections::BTreeSet;

fn device(nth: u32) -> DenialSubject {
    DenialSubject::Device(DeviceId::new(format!("device-{nth}")).unwrap())
}

async fn denied_devices(gateway: &Gateway) -> BTreeSet<String> {
    let denials = gateway.ledger.denials().await.unwrap();
    denials.devices.iter().map(|(_, id)| id.to_string()).collect()
}

async fn until_denied(gateway: &Gateway, devices: &[u32]) {
    let wanted: BTreeSet<_> = devices.iter().map(|nth| format!("device-{nth}")).collect();
    let deadline = std::time::Instant::now() + crate::gateway::PATIENCE;
    while denied_devices(gateway).await != wanted {
        assert!(std::time::Instant::now() < deadline, "{:?}", denied_devices(gateway).await);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_disabled_is_in_the_ledger_and_the_host_hears_of_it() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    gateway.start();
    let user = DenialSubject::User(UserId::new("ada").unwrap());
    let profile = DenialSubject::Profile(ProfileId::new("laptops").unwrap());
    issuer.says(|book| book.denials.extend([(device(1), true), (user, true), (profile, true)]));
    eventually("the cursor", || (gateway.state().denial_cursor == 3).then_some(())).await;
    let denials = gateway.ledger.denials().await.unwrap();
    assert_eq!((denials.devices.len(), denials.users.len(), denials.profiles.len()), (1, 1, 1));
    eventually("the host", || (*gateway.host.denials_changed.lock().unwrap() == 1).then_some(()))
        .await;
    issuer.says(|book| book.denials.push((device(1), false)));
    until_denied(&gateway, &[]).await;
    eventually("the cursor", || (gateway.state().denial_cursor == 4).then_some(())).await;
    // A restart goes on from the cursor.
    gateway.stop().await;
    let asked = issuer.book().check_ins().len();
    issuer.says(|book| book.denials.push((device(2), true)));
    gateway.start();
    until_denied(&gateway, &[2]).await;
    assert_eq!(issuer.book().check_ins()[asked].denial_cursor, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_list_takes_the_old_ones_place_when_it_is_complete() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    gateway.start();
    issuer.says(|book| book.denials.extend([(device(1), true), (device(2), true)]));
    eventually("the cursor", || (gateway.state().denial_cursor == 2).then_some(())).await;
    // The issuer's list begins anew, in two answers.
    let mut pages = 0;
    issuer.twist(move |book, asked| {
        let request = asked.check_in()?;
        let mut commands = book.commands(&request);
        let page = |from, to, nth, complete| DenialChanges {
            from,
            to,
            added: vec![device(nth)],
            removed: vec![],
            complete,
        };
        pages += 1;
        commands.denials = match pages {
            1 => page(0, 10, 2, false),
            2 => {
                assert_eq!(request.denial_cursor, 10);
                assert_eq!(request.wait_seconds, 0, "there is more: asked at once");
                page(10, 11, 3, true)
            }
            _ => DenialChanges { from: 11, to: 11, complete: true, ..DenialChanges::default() },
        };
        Some(book.seal(&commands))
    });
    until_denied(&gateway, &[2, 3]).await;
    eventually("the cursor", || (gateway.state().denial_cursor == 11).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn until_a_new_list_is_complete_the_old_one_counts_and_a_crash_begins_it_anew() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    gateway.start();
    issuer.says(|book| book.denials.push((device(1), true)));
    until_denied(&gateway, &[1]).await;
    issuer.twist(|book, asked| {
        let request = asked.check_in()?;
        if request.denial_cursor == 10 {
            return Some(crate::issuer::Reply::mute());
        }
        let mut commands = book.commands(&request);
        let added = vec![device(2)];
        commands.denials =
            DenialChanges { from: 0, to: 10, added, removed: vec![], complete: false };
        Some(book.seal(&commands))
    });
    eventually("the second page is asked for", || {
        issuer.book().check_ins().iter().any(|request| request.denial_cursor == 10).then_some(())
    })
    .await;
    until_denied(&gateway, &[1, 2]).await;
    assert_eq!(gateway.state().denial_cursor, 1, "not durable before the list is complete");
    gateway.crash().await;
    issuer.honest();
    gateway.start();
    let asked = issuer.book().check_ins().len();
    eventually("a check-in", || issuer.book().check_ins().get(asked).cloned()).await;
    until_denied(&gateway, &[1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_from_another_cursor_are_ignored() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    gateway.start();
    issuer.says(|book| book.denials.push((device(1), true)));
    until_denied(&gateway, &[1]).await;
    let asked = issuer.book().check_ins().len();
    issuer.twist(|book, asked| {
        let request = asked.check_in()?;
        let mut commands = book.commands(&request);
        let removed = vec![device(1)];
        commands.denials = DenialChanges { from: 5, to: 6, added: vec![], removed, complete: true };
        Some(book.seal(&commands))
    });
    eventually("three such answers", || {
        (issuer.book().check_ins().len() > asked + 3).then_some(())
    })
    .await;
    until_denied(&gateway, &[1]).await;
    assert_eq!(gateway.state().denial_cursor, 1);
    let last = issuer.book().check_ins().last().cloned().unwrap();
    assert_eq!((last.denial_cursor, last.wait_seconds), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_never_had_an_entry_takes_nothing_away() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    let (tenant, id) = (crate::issuer::tenant(), DeviceId::new("device-1").unwrap());
    let denied = scep_ledger::DenialSubject::Device(tenant, id);
    gateway.ledger.deny(denied, crate::issuer::NOW).await.unwrap();
    gateway.start();
    eventually("two check-ins", || (issuer.book().check_ins().len() >= 3).then_some(())).await;
    until_denied(&gateway, &[1]).await;
}
