//! The tables of SECURITY.md, WHITEPAPER.md, CONFORMANCE.md and the README against the tree: every row is there once,
//! and every test named exists.
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

/// The names of all functions and trials in the Rust files below a folder.
fn functions(folder: &Path, into: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            // Tests against programs that may be missing: `trial("name", ...)`.
            for after in text.split("trial(").skip(1) {
                if let Some((name, _)) =
                    after.trim_start().strip_prefix('"').and_then(|after| after.split_once('"'))
                {
                    into.insert(name.to_owned());
                }
            }
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
    let whitepaper =
        "H1 H2 H3 B1 B2 B3 B4 B4.1 B4.2 B4.2.1 B4.3 B4.4 B4.5 B4.6 B4.6.1 B4.6.2 B4.7 B5.1 B5.2 B6";
    for statement in whitepaper.split(' ') {
        assert!(statements.contains(statement), "{statement} is not in the table");
    }
}

/// The cells of the one table that begins so, each row of four.
fn table(text: &str, head: &str) -> Vec<[String; 4]> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with(head));
    assert!(lines.next().is_some(), "no table {head}");
    lines.next().unwrap();
    lines
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let inner = line.strip_prefix('|').and_then(|line| line.strip_suffix('|'));
            let cells = inner.unwrap_or_else(|| panic!("{line}")).split('|');
            let cells: Vec<String> = cells.map(|cell| cell.trim().to_owned()).collect();
            cells.try_into().unwrap_or_else(|cells| panic!("{} cells: {line}", Vec::len(&cells)))
        })
        .collect()
}

fn conformance() -> String {
    std::fs::read_to_string(root().join("crates/scep-message/CONFORMANCE.md")).unwrap()
}

/// What is between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// What is wrong with a row: a status that is none, a test that is not there, neither test nor reason.
fn wrong_with(
    [key, _, status, tests]: &[String; 4],
    all: &BTreeSet<String>,
    wrong: &mut Vec<String>,
) {
    let tests = quoted(tests);
    for test in tests.iter().filter(|test| !all.contains(**test)) {
        wrong.push(format!("{key}: there is no test {test}"));
    }
    let shorter = |word: &str| status.strip_prefix(word).map(|rest| rest.split_once(':'));
    match (shorter("done"), shorter("not yet").or_else(|| shorter("decided otherwise"))) {
        (Some(_), None) if tests.is_empty() => wrong.push(format!("{key}: done without a test")),
        (Some(_), None) => {}
        (None, Some(reason)) if reason.is_some_and(|(_, why)| why.trim().len() > 10) => {}
        (None, Some(_)) => wrong.push(format!("{key}: no reason")),
        _ => wrong.push(format!("{key}: what is the status {status:?}?")),
    }
}

#[test]
fn every_demand_of_rfc_8894_has_a_status_and_a_test_or_a_reason() {
    // How many of MUST, MUST NOT, SHOULD, SHOULD NOT and RECOMMENDED each section has.
    const DEMANDS: &[(&str, usize)] = &[
        ("2.1.1", 1),
        ("2.1.2", 1),
        ("2.2", 3),
        ("2.3", 6),
        ("2.4", 4),
        ("2.5", 1),
        ("2.9", 2),
        ("3", 1),
        ("3.1", 1),
        ("3.2", 4),
        ("3.2.1", 2),
        ("3.2.1.1", 2),
        ("3.2.1.2", 2),
        ("3.2.1.3", 3),
        ("3.2.1.4", 3),
        ("3.2.1.5", 4),
        ("3.2.2", 3),
        ("3.3", 1),
        ("3.3.1", 1),
        ("3.3.2.1", 5),
        ("3.3.2.2", 2),
        ("3.3.2.3", 1),
        ("3.3.3", 1),
        ("3.3.4", 1),
        ("3.4", 1),
        ("3.5", 1),
        ("3.5.2", 10),
        ("4.1", 6),
        ("4.2", 1),
        ("4.3", 1),
        ("4.4", 4),
        ("4.5", 1),
        ("4.6", 1),
        ("4.7", 1),
        ("4.7.1", 1),
        ("5.2", 2),
        ("6", 1),
        ("7.5", 1),
    ];
    let text = conformance();
    let rows = table(&text, "| section | demand |");
    let mut sections: Vec<(&str, usize)> = Vec::new();
    for [section, demand, ..] in &rows {
        match sections.last_mut() {
            Some((last, count)) if last == section => *count += 1,
            _ => sections.push((section, 1)),
        }
        let words = ["MUST", "SHOULD", "RECOMMENDED"];
        assert!(words.iter().any(|word| demand.starts_with(word)), "{section}: {demand}");
    }
    assert_eq!(sections, DEMANDS, "each section once, in order, with all of its demands");

    let mut all = BTreeSet::new();
    functions(&root().join("crates"), &mut all);
    functions(&root().join("bins"), &mut all);
    let mut wrong = Vec::new();
    for row in rows.iter().chain(&table(&text, "| section | expectation |")) {
        wrong_with(row, &all, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_limit_of_the_readme_has_tests_that_exist() {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let mut all = BTreeSet::new();
    functions(&root().join("crates"), &mut all);
    functions(&root().join("bins"), &mut all);
    let mut wrong = Vec::new();
    for [limit, _, _, tests] in &table(&text, "| limit | value | set by | test |") {
        let tests = quoted(tests);
        if tests.is_empty() {
            wrong.push(format!("{limit}: no test"));
        }
        for test in tests.iter().filter(|test| !all.contains(**test)) {
            wrong.push(format!("{limit}: there is no test {test}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The numbers in a name like `attack_63_quirk_20_21_a_key`, where they follow `quirk`.
fn quirks_of(test: &str) -> Vec<u32> {
    let Some((before, after)) = test.split_once("quirk_") else { return Vec::new() };
    if !before.is_empty() && !before.ends_with('_') {
        return Vec::new();
    }
    after
        .split('_')
        .take_while(|part| part.len() == 2)
        .map_while(|part| part.parse().ok())
        .collect()
}

#[test]
fn every_quirk_of_the_field_has_its_row_and_the_tests_that_bear_its_number() {
    let rows = table(&conformance(), "| quirk |");
    let numbers: Vec<u32> = rows.iter().map(|[number, ..]| number.parse().unwrap()).collect();
    assert_eq!(numbers, (1..=58).collect::<Vec<_>>(), "each quirk once, in order");

    let mut all = BTreeSet::new();
    functions(&root().join("crates"), &mut all);
    functions(&root().join("bins"), &mut all);
    let mut wrong = Vec::new();
    for (number, row) in numbers.iter().zip(&rows) {
        wrong_with(row, &all, &mut wrong);
        let bears = |test: &str| quirks_of(test).contains(number);
        if all.iter().any(|test| bears(test)) && !quoted(&row[3]).iter().any(|test| bears(test)) {
            wrong.push(format!("{number}: names none of its own tests"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
