//! How a gateway becomes known, once and again.

use crate::gateway::{Gateway, eventually};
use crate::issuer::{Issuer, NOW, Reply, key, tenant};
use scep_connector::{ConnectorError, KeySlot};
use scep_link::*;
use scep_types::{Fault, GatewayGroupId};
use std::time::Duration;

/// The honest answer, with a change.
fn altered(issuer: &Issuer, mut change: impl FnMut(&mut EnrolResponse) + Send + 'static) {
    issuer.twist(move |book, asked| {
        let reply = book.honest(asked);
        let mut answer: EnrolResponse = read(&reply.body).unwrap();
        change(&mut answer);
        Some(Reply::json(write(&answer).unwrap()))
    });
}

async fn refused(issuer: &Issuer, gateway: &Gateway, why: &str) -> ConnectorError {
    let error = gateway.enrol(issuer).await.unwrap_err();
    assert!(error.to_string().contains(why), "{error}");
    assert!(gateway.state_file().read().unwrap().is_none(), "enrolled all the same");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_asked_for_again_with_the_same_request() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::new(&issuer);
    issuer.twist(|book, asked| {
        book.honest(asked);
        Some(Reply { status: 502, ..Reply::new("text/html", b"<html>".to_vec()) })
    });
    let error = refused(&issuer, &gateway, "the answer has status 502").await;
    assert_eq!((error.retry(), error.fault()), (Retry::Later, Fault::OurDependency));
    // A crash at any point before is the same: the keys and the request are in the file.
    issuer.honest();
    gateway.enrol(&issuer).await.unwrap();
    let asked = issuer.book().asked.clone();
    assert_eq!(asked[0].body, asked[1].body, "another request");
    assert_eq!(gateway.keys.made.lock().unwrap().len(), 2, "other keys were made");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_token_is_for_other_keys_and_the_abandoned_ones_go() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::new(&issuer);
    let mut options = gateway.options(issuer.pin);
    options.token = EnrolmentToken::new("another-token-that-was-never-made").unwrap();
    let error = gateway.enrol_with(options).await.unwrap_err();
    assert!(
        matches!(
            &error,
            ConnectorError::Answer {
                error: AnswerError::Refused { code: ErrorCode::TokenNotAccepted, .. },
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(error.retry(), Retry::Never);
    gateway.enrol(&issuer).await.unwrap();
    assert_eq!(gateway.keys.made.lock().unwrap().len(), 4);
    assert_eq!(gateway.keys.count(KeySlot::Authentication), 1);
    assert_eq!(gateway.keys.count(KeySlot::Decryption), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_not_in_the_file() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::new(&issuer);
    issuer.twist(|_, _| Some(Reply::problem(ErrorCode::Unavailable)));
    gateway.enrol(&issuer).await.unwrap_err();
    let text = std::fs::read_to_string(gateway.state_path()).unwrap();
    assert!(text.contains("token_sha256") && !text.contains(crate::issuer::TOKEN), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_cannot_be_right_is_refused() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::new(&issuer);
    let other = key();
    altered(&issuer, move |answer| {
        let (of, by) = (other.public_key(), &other);
        let leaf =
            crate::issuer::certificate(of, by, "CN=a", NOW, NOW.plus(Duration::from_secs(9)));
        answer.certificate_chain = vec![leaf];
    });
    refused(&issuer, &gateway, "the certificate is of another key").await;
    altered(&issuer, |answer| answer.group = GatewayGroupId::new("other").unwrap());
    refused(&issuer, &gateway, "another group").await;
    // Proven to another tenant, it would be no proof at this one.
    let elsewhere = key();
    altered(&issuer, move |answer| {
        let (connector, key) = (answer.connector, elsewhere.public_key());
        let made = challenge(&scep_keys::AwsLc, key, &tenant(), connector).unwrap();
        answer.possession_challenge = made.0;
    });
    refused(&issuer, &gateway, "the challenge of possession").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_25_an_issuers_key_that_is_one_of_ours_is_refused() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::new(&issuer);
    altered(&issuer, |answer| {
        answer.signer_keys[0].key = answer.certificate_chain[0].spki().clone();
    });
    refused(&issuer, &gateway, "authentication key").await;
    issuer.twist(|book, asked| {
        let request: EnrolRequest = read(&asked.body).unwrap();
        let reply = book.honest(asked);
        let mut answer: EnrolResponse = read(&reply.body).unwrap();
        answer.command_keys[0].key = request.decryption_key;
        Some(Reply::json(write(&answer).unwrap()))
    });
    refused(&issuer, &gateway, "decryption key").await;
    let weak = scep_keys::SoftwareKey::generate(scep_types::KeyAlgorithm::P384).unwrap();
    altered(&issuer, move |answer| answer.signer_keys[0].key = weak.public_key().clone());
    refused(&issuer, &gateway, "neither P-256 nor RSA").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_58_a_success_is_spelled_so_and_under_status_200() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::new(&issuer);
    for (from, to) in [("\"Success\"", "\"success\""), ("\"Success\"", "\"TokenNotAccepted\"")] {
        issuer.twist(move |book, asked| {
            let reply = book.honest(asked);
            let body = String::from_utf8(reply.body.clone()).unwrap().replace(from, to);
            Some(Reply { body: body.into_bytes(), ..reply })
        });
        gateway.enrol(&issuer).await.unwrap_err();
    }
    issuer.twist(|book, asked| Some(Reply { status: 201, ..book.honest(asked) }));
    refused(&issuer, &gateway, "the answer has status 201").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decryption_key_that_is_there_already_is_used() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::new(&issuer);
    let imported = key();
    let id = gateway.keys.put(KeySlot::Decryption, &imported);
    let mut options = gateway.options(issuer.pin);
    options.decryption_key = Some(id);
    let enrolled = gateway.enrol_with(options).await.unwrap();
    assert_eq!(enrolled.state.trust.decryption[0].key, *imported.public_key());
    assert_eq!(gateway.keys.count(KeySlot::Decryption), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_56_enrolling_anew_keeps_the_ledger_and_what_challenges_need() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    let first = gateway.state();
    gateway.event(1).await;
    // The certificate has expired; the issuer does not know the connector any more.
    issuer.says(|book| book.clients.clear());
    gateway.start();
    let said = eventually("trouble", || gateway.trouble()).await;
    assert!(said.contains("enrol again"), "{said}");
    gateway.stop().await;
    gateway.enrol(&issuer).await.unwrap();
    let second = gateway.state();
    assert_ne!(first.authentication, second.authentication);
    let held = &second.trust.decryption;
    assert_eq!(held[1].key, first.trust.decryption[0].key);
    assert_eq!(held[1].until, Some(NOW.plus(Duration::from_secs(65 * 60))));
    assert_eq!(second.denial_cursor, 0);
    gateway.start();
    eventually("the event", || (issuer.book().events.len() == 1).then_some(())).await;
    eventually("the end of the old key", || {
        (!gateway.keys.has(KeySlot::Authentication, first.authentication)).then_some(())
    })
    .await;
    let old = first.trust.decryption[0].key.key_id();
    assert!(gateway.keys.has(KeySlot::Decryption, old), "challenges for it still live");
    gateway.clock.advance(Duration::from_secs(65 * 60 + 1));
    issuer.says(|book| book.now = NOW.plus(Duration::from_secs(65 * 60 + 1)));
    eventually("the end of the old decryption key", || {
        (!gateway.keys.has(KeySlot::Decryption, old)).then_some(())
    })
    .await;
    assert_eq!(gateway.host.trusts.lock().unwrap().last().unwrap().decryption.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_at_a_time_has_the_state() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::enrolled(&issuer).await;
    gateway.start();
    let error = gateway.enrol(&issuer).await.unwrap_err();
    assert!(matches!(error, ConnectorError::StateInUse { .. }), "{error}");
    let error = gateway.open().unwrap_err();
    assert!(matches!(error, ConnectorError::StateInUse { .. }), "{error}");
    assert_eq!(gateway.state().tenant, tenant(), "reading it is for everybody");
    gateway.stop().await;
    gateway.open().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named_at_opening() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::new(&issuer);
    let error = gateway.open().unwrap_err();
    assert!(matches!(error, ConnectorError::NotEnrolled { .. }), "{error}");
    gateway.enrol(&issuer).await.unwrap();
    let state = gateway.state();
    use scep_connector::KeyStore as _;
    gateway.keys.destroy(KeySlot::Decryption, state.trust.decryption[0].key.key_id()).unwrap();
    let error = gateway.open().unwrap_err();
    assert!(matches!(error, ConnectorError::KeyStore(_)), "{error}");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_state_is_closed_to_others_and_refused_when_it_is_not() {
    use std::os::unix::fs::PermissionsExt as _;
    let issuer = Issuer::start().await;
    let gateway = Gateway::enrolled(&issuer).await;
    let path = gateway.state_path();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = gateway.open().unwrap_err().to_string();
    assert!(error.contains("mode 640"), "{error}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&path, "{\"v\":1,\"enrolled\":{},\"pending\":null}").unwrap();
    let error = gateway.open().unwrap_err();
    assert!(matches!(error, ConnectorError::State { .. }), "{error}");
}
