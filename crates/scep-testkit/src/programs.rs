//! Programs that tests run when they are there.

use std::io::Write;
use std::process::{Command, Stdio};

/// Whether `program version`, `program --version` or `program -v` can be run. Where neither can, it says so on stderr, for the test
/// to return; in CI (the environment variable `CI` is `true`) every program must be there.
///
/// # Panics
/// In CI, when the program is missing.
#[must_use]
pub fn available(program: &str, test: &str) -> bool {
    let runs = |argument| {
        Command::new(program)
            .arg(argument)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    if runs("--version") || runs("version") || runs("-v") {
        return true;
    }
    skip(test, program);
    false
}

/// Says on stderr that a test is skipped for want of something, for the test to return; in CI nothing may be wanting.
///
/// # Panics
/// In CI.
pub fn skip(test: &str, wanting: &str) {
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{test} needs {wanting}");
    // Not eprintln: the harness keeps that back when a test passes. When standard error is gone, nobody can be told.
    let said = format!("SKIPPED {test}: {wanting} is missing\n");
    let _ = std::io::stderr().write_all(said.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_there_is_found() {
        assert!(available(env!("CARGO"), "a_program_that_is_there_is_found"));
    }
}
