//! Programs that tests run when they are there.

use std::process::{Command, Output};

/// Whether `openssl` can be run. Says on stderr when a test is skipped for lack of it; in CI that is a failure.
pub(crate) fn have_openssl(test: &str) -> bool {
    if Command::new("openssl").arg("version").output().is_ok_and(|out| out.status.success()) {
        return true;
    }
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{test} needs openssl");
    eprintln!("SKIPPED {test}: openssl is missing");
    false
}

/// Runs openssl with arguments separated by spaces.
pub(crate) fn openssl(dir: &std::path::Path, arguments: &str) -> Output {
    let out = Command::new("openssl").current_dir(dir).args(arguments.split(' ')).output().unwrap();
    assert!(out.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&out.stderr));
    out
}
