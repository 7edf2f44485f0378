//! The help of every command, as it is printed: `help.txt`. With the environment variable `SCEP_BLESS` it is written
//! anew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests: what does not fit is a failed test"
)]

use std::process::Command;

/// The help of a command, and of those below it.
fn help(path: &[String], into: &mut String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scep-issuer"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SCEP_") {
            command.env_remove(name);
        }
    }
    let output = command.args(path).arg("--help").env("COLUMNS", "100").output().unwrap();
    assert!(output.status.success(), "{path:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let name: Vec<&str> = ["scep-issuer"].into_iter().chain(path.iter().map(|s| &**s)).collect();
    // What every command of the API has is written down once.
    let (start, service) = text.split_once("\nThe service:\n").unwrap_or((&text, ""));
    let shown = if into.contains("\nThe service:\n") { start } else { &text };
    into.push_str(&format!("$ {} --help\n{shown}\n", name.join(" ")));
    let known = into.split_once("\nThe service:\n").map_or("", |(_, rest)| rest);
    // In columns that are as wide as each command needs.
    assert!(
        service
            .split_whitespace()
            .eq(known.split_whitespace().take(service.split_whitespace().count()))
    );
    let commands = text.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next());
    for line in commands.unwrap_or_default().lines() {
        let mut words = line.split_whitespace();
        // A line of two blanks begins with a command's name; more blanks continue what was said before.
        let name = words.next().filter(|_| line.starts_with("  ") && !line.starts_with("   "));
        if let Some(name) = name.filter(|name| *name != "help") {
            let path: Vec<String> = path.iter().cloned().chain([name.to_owned()]).collect();
            help(&path, into);
        }
    }
}

#[test]
fn every_command_explains_itself_as_written_down() {
    let mut text = String::new();
    help(&[], &mut text);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/help.txt");
    if std::env::var_os("SCEP_BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap();
    for (line, (got, expected)) in text.lines().zip(expected.lines()).enumerate() {
        assert_eq!(got, expected, "line {}", line + 1);
    }
    assert_eq!(text.lines().count(), expected.lines().count());
}
