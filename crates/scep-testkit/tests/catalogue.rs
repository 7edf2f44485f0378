//! SECURITY.md's attack catalogue against the tree: every row is there once, and every test named exists.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

/// A line of the table.
struct Row {
    number: u32,
    defence: String,
    tests: Vec<String>,
}

/// The rows of the one table whose first column is `row`.
fn rows(text: &str) -> Vec<Row> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("| row | attack |"));
    lines.next().unwrap();
    lines.next().unwrap();
    lines
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            assert_eq!(cells.len(), 4, "{line}");
            let number = cells[0].parse().unwrap_or_else(|_| panic!("{line}"));
            // What stands between backticks.
            let tests = cells[3].split('`').skip(1).step_by(2).map(str::to_owned).collect();
            Row { number, defence: cells[2].to_owned(), tests }
        })
        .collect()
}

/// The names of all functions in the Rust files below a folder.
fn functions(folder: &Path, into: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for line in text.lines() {
                // Some tests are called by others: `pub(crate) async fn`.
                let line = line.trim_start().trim_start_matches("pub(crate) ");
                let line = line.trim_start_matches("async ");
                if let Some((name, _)) = line.strip_prefix("fn ").and_then(|f| f.split_once('(')) {
                    into.insert(name.to_owned());
                }
            }
        }
    }
}

#[test]
fn every_attack_is_in_the_catalogue_with_tests_that_exist() {
    let rows = rows(&std::fs::read_to_string(root().join("SECURITY.md")).unwrap());
    let numbers: Vec<u32> = rows.iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=64).collect::<Vec<_>>(), "each row once, in order");

    let mut all = BTreeSet::new();
    functions(&root().join("crates"), &mut all);
    functions(&root().join("bins"), &mut all);
    let mut wrong = Vec::new();
    for row in &rows {
        for test in &row.tests {
            if !all.contains(test) {
                wrong.push(format!("row {}: there is no test {test}", row.number));
            }
        }
        let explained = ["not served yet", "ecided otherwise"];
        if row.tests.is_empty() && !explained.iter().any(|why| row.defence.contains(why)) {
            wrong.push(format!("row {}: neither a test nor a reason", row.number));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_test_that_is_named_for_a_row_is_of_that_row_or_says_which() {
    let text = std::fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let rows = rows(&text);
    // Where there is a test with the row's number, the row names one.
    let mut all = BTreeSet::new();
    functions(&root().join("crates"), &mut all);
    functions(&root().join("bins"), &mut all);
    for row in &rows {
        let number = format!("{:02}", row.number);
        let of_row = |test: &str| {
            let Some(rest) = test.strip_prefix("attack_") else { return false };
            rest.split('_')
                .take_while(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit()))
                .any(|part| part == number)
        };
        if all.iter().any(|test| of_row(test)) {
            assert!(
                row.tests.iter().any(|test| of_row(test)),
                "row {number} names none of its own"
            );
        }
    }
}

#[test]
fn every_statement_of_the_whitepaper_has_its_place_and_tests_that_exist() {
    let text = std::fs::read_to_string(root().join("bins/WHITEPAPER.md")).unwrap();
    let mut lines = text.lines().skip_while(|line| !line.starts_with("| statement |"));
    lines.next().unwrap();
    lines.next().unwrap();
    let mut all = BTreeSet::new();
    functions(&root().join("crates"), &mut all);
    functions(&root().join("bins"), &mut all);
    let (mut statements, mut wrong) = (BTreeSet::new(), Vec::new());
    for line in lines.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 4, "{line}");
        statements.insert(cells[0].to_owned());
        let tests: Vec<&str> = cells[3].split('`').skip(1).step_by(2).collect();
        for test in tests.iter().filter(|test| !all.contains(**test)) {
            wrong.push(format!("{}: there is no test {test}", cells[0]));
        }
        let explained = ["own plumbing", "left out for now"];
        if tests.is_empty() && !explained.iter().any(|why| cells[2].contains(why)) {
            wrong.push(format!("{}: neither a test nor a reason", cells[0]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The whitepaper's own lists: three statements, then six with their parts and notes.
    let whitepaper = "H1 H2 H3 B1 B2 B3 B4 B4.1 B4.2 B4.2.1 B4.3 B4.4 B4.5 B4.6 B4.6.1 B4.6.2 B4.7 B5.1 B5.2 B6";
    for statement in whitepaper.split(' ') {
        assert!(statements.contains(statement), "{statement} is not in the table");
    }
}
