//! The connector's own keys: renewed in time, when ordered, and across crashes.

use crate::gateway::{Gateway, eventually};
use crate::issuer::{DAY, Issuer, NOW, Reply};
use scep_connector::KeySlot;
use scep_link::*;
use scep_types::OrderId;
use std::time::Duration;

fn order(nth: u8, subject: RenewalSubject) -> RenewalOrder {
    RenewalOrder { order: OrderId::from_bytes([nth; 16]), subject, by: NOW.plus(DAY) }
}

/// Renewals that were asked for.
fn asked(issuer: &Issuer) -> Vec<Vec<u8>> {
    let book = issuer.book();
    let renewals = book.asked.iter().filter(|asked| asked.path == "/connector/v1/renew");
    renewals.map(|asked| asked.body.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_56_a_certificate_is_renewed_at_two_thirds_of_its_life_with_a_new_key() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    let first = gateway.state();
    gateway.start();
    eventually("a check-in", || (gateway.state().last_sequence > 40).then_some(())).await;
    // The life is 90 days and an hour.
    let two_thirds = NOW.plus(60 * DAY).minus(Duration::from_secs(1200));
    let just_before = two_thirds.minus(Duration::from_secs(1));
    issuer.says(|book| book.now = just_before);
    gateway.clock.set(just_before);
    let checked = issuer.book().check_ins().len();
    eventually("more check-ins", || (issuer.book().check_ins().len() > checked + 1).then_some(()))
        .await;
    assert!(asked(&issuer).is_empty(), "too early");
    issuer.says(|book| book.now = two_thirds);
    gateway.clock.set(two_thirds);
    eventually("the renewal", || {
        (gateway.state().authentication != first.authentication).then_some(())
    })
    .await;
    eventually("the old key's end", || {
        (!gateway.keys.has(KeySlot::Authentication, first.authentication)).then_some(())
    })
    .await;
    assert_eq!(asked(&issuer).len(), 1);
    let now = gateway.state();
    assert_eq!(issuer.book().clients, [now.authentication]);
    assert_eq!(gateway.connector().status().certificate, now.certificate);
    assert_eq!(now.certificate.not_after(), two_thirds.plus(90 * DAY));
    assert_eq!(now.trust, first.trust, "nothing else has changed");
    assert_eq!(gateway.trouble(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_56_the_old_identity_is_never_used_after_the_new_one() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    gateway.start();
    // Reports are under way all the time, while the identity changes ten times.
    for nth in 0..10_u8 {
        let before = gateway.state().authentication;
        issuer.says(|book| book.renewals = vec![order(nth, RenewalSubject::Authentication)]);
        let mut events = u32::from(nth) * 1000;
        let deadline = std::time::Instant::now() + crate::gateway::PATIENCE;
        while gateway.state().authentication == before {
            assert!(std::time::Instant::now() < deadline, "{:?}", gateway.trouble());
            events += 1;
            gateway.event(events).await;
        }
    }
    eventually("an empty queue", || (gateway.connector().status().queue_depth == 0).then_some(()))
        .await;
    assert_eq!(gateway.trouble(), None);
    // The issuer would have answered ConnectorCloned, and the connector would have asked again.
    let book = issuer.book();
    let mut order: Vec<_> = book.asked.iter().filter_map(|asked| asked.client).collect();
    order.dedup();
    let mut distinct = order.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(order.len(), distinct.len(), "an identity came back");
    assert_eq!(order.len(), 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_followed_once_however_often_it_comes() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    let first = gateway.state().authentication;
    gateway.start();
    // An issuer that goes on ordering what was done.
    let again = order(1, RenewalSubject::Authentication);
    issuer.twist(move |book, asked| {
        book.renewals = vec![again.clone()];
        asked.check_in().is_none().then(|| book.honest(asked))
    });
    eventually("the renewal", || (gateway.state().authentication != first).then_some(())).await;
    let checked = issuer.book().check_ins().len();
    eventually("more check-ins", || (issuer.book().check_ins().len() > checked + 2).then_some(()))
        .await;
    gateway.stop().await;
    gateway.start();
    let checked = issuer.book().check_ins().len();
    eventually("more check-ins", || (issuer.book().check_ins().len() > checked + 2).then_some(()))
        .await;
    assert_eq!(asked(&issuer).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_during_a_renewal_goes_on_with_the_same_key() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    let first = gateway.state().authentication;
    issuer.says(|book| book.renewals = vec![order(1, RenewalSubject::Authentication)]);
    // The issuer renews, and the answer is lost; so is the gateway.
    issuer.twist(|book, asked| {
        (asked.path == "/connector/v1/renew").then(|| {
            book.honest(asked);
            Reply::mute()
        })
    });
    gateway.start();
    eventually("the request", || (!asked(&issuer).is_empty()).then_some(())).await;
    gateway.crash().await;
    issuer.honest();
    gateway.start();
    eventually("the renewal", || (gateway.state().authentication != first).then_some(())).await;
    let requests: Vec<_> = asked(&issuer)
        .iter()
        .map(|body| match read::<RenewRequest>(body).unwrap().renewal {
            Renewal::Authentication { certificate_request } => certificate_request,
            Renewal::Decryption { .. } => panic!("another key"),
        })
        .collect();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0], requests[1], "another request");
    let made = gateway.keys.made.lock().unwrap().clone();
    assert_eq!(made.iter().filter(|(slot, _)| *slot == KeySlot::Authentication).count(), 2);
    eventually("a check-in with it", || {
        let state = gateway.state();
        (issuer.book().asked.last()?.client == Some(state.authentication)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_27_an_old_decryption_key_lives_as_long_as_challenges_for_it() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    let first = gateway.state().trust.decryption[0].key.clone();
    gateway.start();
    eventually("a check-in", || (gateway.state().last_sequence > 40).then_some(())).await;
    issuer.says(|book| book.renewals = vec![order(1, RenewalSubject::Decryption)]);
    let held = eventually("the new key", || {
        let held = gateway.state().trust.decryption;
        (held.len() == 2 && held[1].until.is_some()).then_some(held)
    })
    .await;
    assert_eq!(held[1].key, first);
    assert_eq!(held[1].until, Some(NOW.plus(Duration::from_secs(65 * 60))));
    let new = held[0].key.key_id();
    assert_eq!(issuer.book().proven.last(), Some(&new));
    // The host had both before the issuer saw the proof.
    let trusts = gateway.host.trusts.lock().unwrap().clone();
    let both = trusts.iter().find(|trust| trust.decryption.len() == 2).unwrap();
    assert!(both.decryption.iter().all(|held| held.until.is_none()), "{both:?}");
    // At the boundary it is there, and a second later it is not.
    let over = NOW.plus(Duration::from_secs(65 * 60));
    gateway.clock.set(over);
    issuer.says(|book| book.now = over);
    let checked = issuer.book().check_ins().len();
    eventually("more check-ins", || (issuer.book().check_ins().len() > checked + 1).then_some(()))
        .await;
    assert!(gateway.keys.has(KeySlot::Decryption, first.key_id()), "too early");
    // The issuer is not needed for it.
    issuer.twist(|_, _| Some(Reply::problem(ErrorCode::Unavailable)));
    gateway.clock.advance(Duration::from_secs(1));
    eventually("its end", || {
        (!gateway.keys.has(KeySlot::Decryption, first.key_id())).then_some(())
    })
    .await;
    assert_eq!(gateway.state().trust.decryption.len(), 1);
    assert_eq!(gateway.host.trusts.lock().unwrap().last(), Some(&gateway.state().trust));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_issuer_does_not_accept_is_replaced_and_destroyed() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    let first = gateway.state().authentication;
    issuer.says(|book| book.renewals = vec![order(1, RenewalSubject::Authentication)]);
    let mut refusals = 0;
    issuer.twist(move |_, asked| {
        (asked.path == "/connector/v1/renew" && refusals == 0).then(|| {
            refusals += 1;
            Reply::problem(ErrorCode::KeyNotAccepted)
        })
    });
    gateway.start();
    let said = eventually("trouble", || gateway.trouble()).await;
    assert!(said.contains("KeyNotAccepted"), "{said}");
    eventually("the renewal", || (gateway.state().authentication != first).then_some(())).await;
    eventually("one key", || (gateway.keys.count(KeySlot::Authentication) == 1).then_some(()))
        .await;
    let made = gateway.keys.made.lock().unwrap().clone();
    assert_eq!(made.iter().filter(|(slot, _)| *slot == KeySlot::Authentication).count(), 3);
    eventually("no trouble", || gateway.trouble().is_none().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decryption_key_that_the_issuer_does_not_accept_is_left_in_the_store() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    issuer.says(|book| book.renewals = vec![order(1, RenewalSubject::Decryption)]);
    issuer.twist(|_, asked| {
        (asked.path == "/connector/v1/renew").then(|| Reply::problem(ErrorCode::KeyNotAccepted))
    });
    gateway.start();
    let said = eventually("trouble", || gateway.trouble()).await;
    assert!(said.contains("KeyNotAccepted"), "{said}");
    let checked = issuer.book().check_ins().len();
    eventually("more check-ins", || (issuer.book().check_ins().len() > checked + 1).then_some(()))
        .await;
    // It may be the group's, which an operator has laid there.
    for (slot, id) in gateway.keys.made.lock().unwrap().clone() {
        assert!(gateway.keys.has(slot, id), "a key was destroyed");
    }
    assert_eq!(gateway.state().trust.decryption.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_key_is_no_renewal() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    let first = gateway.state();
    issuer.says(|book| book.renewals = vec![order(1, RenewalSubject::Authentication)]);
    let old = first.certificate.clone();
    issuer.twist(move |_, asked| {
        (asked.path == "/connector/v1/renew").then(|| {
            let renewed = Renewed::Authentication { certificate_chain: vec![old.clone()] };
            Reply::json(write(&RenewResponse { v: V1, code: Success, renewed }).unwrap())
        })
    });
    gateway.start();
    let said = eventually("trouble", || gateway.trouble()).await;
    assert!(said.contains("the certificate is of another key"), "{said}");
    assert_eq!(gateway.state().authentication, first.authentication);
}

/// Everything that changes keys and state at once, with a crash wherever it stands.
#[tokio::test(flavor = "multi_thread")]
async fn attack_52_a_crash_anywhere_leaves_one_identity_and_every_word_of_the_issuer() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    let mut devices = std::collections::BTreeSet::new();
    for round in 0..30_u8 {
        issuer.says(|book| {
            let device = scep_types::DeviceId::new(format!("device-{round}")).unwrap();
            devices.insert(device.to_string());
            book.denials.push((DenialSubject::Device(device), true));
            match round % 5 {
                0 => book.renewals.push(order(round, RenewalSubject::Authentication)),
                2 => book.renewals.push(order(round, RenewalSubject::Decryption)),
                _ => {}
            }
        });
        gateway.start();
        // Not to wait for anything: to be somewhere else each time.
        tokio::time::sleep(Duration::from_micros(u64::from(round) * 2_300)).await;
        gateway.crash().await;
    }
    gateway.start();
    eventually("every renewal", || issuer.book().renewals.is_empty().then_some(())).await;
    eventually("every denial", || {
        (gateway.state().denial_cursor == issuer.book().denials.len() as u64).then_some(())
    })
    .await;
    let denied = gateway.ledger.denials().await.unwrap().devices;
    assert_eq!(
        denied.iter().map(|(_, id)| id.to_string()).collect::<std::collections::BTreeSet<_>>(),
        devices
    );
    eventually("one identity", || {
        let state = gateway.state();
        (issuer.book().clients == [state.authentication]
            && gateway.keys.has(KeySlot::Authentication, state.authentication))
        .then_some(())
    })
    .await;
    // Whatever the issuer encrypts to, the gateway has.
    let (state, proven) = (gateway.state(), issuer.book().proven.clone());
    assert_eq!(proven.last(), Some(&state.trust.decryption[0].key.key_id()));
    for held in &state.trust.decryption {
        assert!(gateway.keys.has(KeySlot::Decryption, held.key.key_id()), "a key is lost");
    }
    eventually("no trouble", || gateway.trouble().is_none().then_some(())).await;
}
