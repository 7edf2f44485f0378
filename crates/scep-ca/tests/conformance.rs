//! The suite for adapters, for the CA that is not remote.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

use core::time::Duration;
use scep_ca::{LocalCa, LocalCaSettings};
use scep_testkit::ca::{Alteration, AlteringCa};
use scep_testkit::conformance::{Subject, run};
use scep_testkit::house::OPENS;
use scep_testkit::{House, keys};
use std::sync::Arc;

#[tokio::test]
async fn the_local_ca_conforms() {
    let house = House::new();
    let signer = || keys::p256(0).signer();
    let other = keys::p256(1).public_key().clone();
    let altering = AlteringCa::new(house.ca.clone(), signer(), other, Alteration::Subject);
    // It ends before any certificate would.
    let (name, day) = ("CN=Short".parse().unwrap(), Duration::from_secs(86_400));
    let root = LocalCa::self_signed_root(&*signer(), &name, day, OPENS, &*house.provider).unwrap();
    let provider = Arc::clone(&house.provider);
    let short = LocalCa::new(signer(), root, vec![], LocalCaSettings::default(), provider).unwrap();
    let subject = Subject {
        refusing: Some(Arc::new(short)),
        altering: Some(Arc::new(altering)),
        ..Subject::new(Arc::new(house.ca.clone()), OPENS)
    };
    assert_eq!(run(&subject).await, ["issues", "duplicate", "revokes", "refuses", "alters"]);
}
