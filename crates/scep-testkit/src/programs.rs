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
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{test} needs {program}");
    // Not eprintln: the harness keeps that back when a test passes. When standard error is gone, nobody can be told.
    let said = format!("SKIPPED {test}: {program} is missing\n");
    let _ = std::io::stderr().write_all(said.as_bytes());
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_there_is_found() {
        assert!(available(env!("CARGO"), "a_program_that_is_there_is_found"));
    }
}
