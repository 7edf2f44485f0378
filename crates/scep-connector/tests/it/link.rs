//! The link as it should be: enrolment, check-in, reports.

use crate::gateway::{Gateway, eventually};
use crate::issuer::{Issuer, tenant};
use scep_connector::{KeySlot, Standing};
use scep_link::Membership;

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_enrols_checks_in_and_reports() {
    let issuer = Issuer::start().await;
    let mut gateway = Gateway::new(&issuer);
    let enrolled = gateway.enrol(&issuer).await.unwrap();
    assert_eq!(enrolled.membership, Membership::AwaitingOperator);
    assert_eq!(enrolled.state.tenant, tenant());
    gateway.event(1).await;
    gateway.start();
    eventually("a second check-in", || (issuer.book().check_ins().len() >= 2).then_some(())).await;
    eventually("the event", || (issuer.book().events.len() == 1).then_some(())).await;
    eventually("an empty queue", || (gateway.connector().status().queue_depth == 0).then_some(()))
        .await;
    let status = gateway.connector().status();
    assert_eq!(status.trouble, None);
    assert_eq!(status.standing, Standing::Serving);
    let book = issuer.book();
    let first = &book.check_ins()[0];
    assert_eq!((first.wait_seconds, first.last_sequence), (0, 40));
    assert_eq!(book.proven, [gateway.state().trust.decryption[0].key.key_id()]);
    assert_eq!(book.check_ins()[1].wait_seconds, 1);
    assert!(book.check_ins()[1].possession.is_empty(), "a proof is shown once");
    assert_eq!(gateway.keys.count(KeySlot::Authentication), 1);
}
