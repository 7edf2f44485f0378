//! The connector through proxies that tunnel: tinyproxy, and one of the tests' own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests: what does not fit is a failed test"
)]

#[allow(dead_code, reason = "shared with the other tests, which need more of it")]
#[path = "../it/gateway.rs"]
mod gateway;
#[allow(dead_code, reason = "shared with the other tests, which need more of it")]
#[path = "../it/issuer.rs"]
mod issuer;
mod own;
mod tinyproxy;

use libtest_mimic::{Arguments, Trial};
use scep_testkit::process::peers::{Peer, trial};

/// Runs a test on a runtime of its own.
fn on_a_runtime(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}

fn main() {
    if own::is_child() {
        return on_a_runtime(own::child());
    }
    let own = |name: &str, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let tinyproxy = |name, test| trial(name, &[Peer::program("tinyproxy")], test);
    let trials = vec![
        tinyproxy("everything_goes_through_tinyproxy", || {
            on_a_runtime(tinyproxy::everything_goes_through());
        }),
        tinyproxy("tinyproxy_knows_its_users", || on_a_runtime(tinyproxy::knows_its_users())),
        own("attack_61_a_proxy_that_refuses_is_named_and_its_password_is_not", || {
            on_a_runtime(own::refuses());
        }),
        own("what_is_no_proxy_is_named", || on_a_runtime(own::is_none())),
        own("a_proxy_is_spoken_to_by_tls_as_the_machine_trusts", || {
            on_a_runtime(own::by_tls());
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
