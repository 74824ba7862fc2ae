//! Compares `fixtures/dockerfile/COVERAGE.md` with the directory it stands in.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::case;
use crate::context::fixtures;

/// A row of the table: what it covers and the patterns of its cases.
struct Row {
    name: String,
    patterns: Vec<String>,
    /// Whether it names tests elsewhere.
    elsewhere: bool,
}

fn rows() -> Vec<Row> {
    let text = fs_err::read_to_string(fixtures().join("dockerfile/COVERAGE.md")).unwrap();
    let table = text.lines().filter(|line| line.starts_with("| 1."));
    table
        .map(|line| {
            let [name, cases, elsewhere] = line
                .trim_matches('|')
                .split('|')
                .map(str::trim)
                .collect::<Vec<_>>()
                .try_into()
                .unwrap_or_else(|_| panic!("not three columns: {line}"));
            let patterns = cases.split('`').map(str::trim).filter(|word| !word.is_empty());
            Row {
                name: name.to_owned(),
                patterns: patterns.map(str::to_owned).collect(),
                elsewhere: !elsewhere.is_empty(),
            }
        })
        .collect()
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

#[test]
fn every_row_has_cases_and_every_case_a_row() {
    let names: Vec<String> = case::directories().into_iter().map(|case| case.name).collect();
    assert!(names.len() >= 400, "only {} cases", names.len());
    let mut uncovered: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let mut table = String::new();
    for row in rows() {
        let mut count = 0;
        for pattern in &row.patterns {
            let found: Vec<&String> = names.iter().filter(|name| matches(pattern, name)).collect();
            assert!(!found.is_empty(), "{}: no case is named `{pattern}`", row.name);
            for name in &found {
                uncovered.remove(name.as_str());
            }
            count += found.len();
        }
        assert!(count > 0 || row.elsewhere, "nothing shows {}", row.name);
        writeln!(table, "{count:4} {}: {}", row.name, row.patterns.join(" ")).unwrap();
    }
    assert!(uncovered.is_empty(), "no row of COVERAGE.md names {uncovered:?}");
    super::say(&format!("{table}{} cases", names.len()));
}
