//! Which test shows which behaviour of `fixtures/registry/ROWS.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::context::fixtures;

/// Returns the rows' names, in their order.
fn rows() -> Vec<String> {
    let text = fs_err::read_to_string(fixtures().join("registry/ROWS.md")).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next());
    let rows = lines.filter(|name| is_row(name)).map(str::to_owned).collect::<Vec<_>>();
    assert!(rows.len() > 60, "ROWS.md has {} rows", rows.len());
    rows
}

fn is_row(word: &str) -> bool {
    let number = word.strip_prefix(['A', 'H', 'P', 'U']);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// Returns the names of the rows in a comment such as `/// Wire rows U5 and U15: ...`.
fn rows_of(comment: &str) -> Vec<String> {
    let Some(rest) = comment.trim_start().strip_prefix("/// Wire row") else { return Vec::new() };
    let before = rest.split(':').next().unwrap_or_default();
    let words = before.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|word| is_row(word)).map(str::to_owned).collect()
}

/// Returns each row that the comments of a file name with the test below the comment.
fn named_in(text: &str) -> Vec<(String, String)> {
    let mut named = Vec::new();
    let mut waiting: Vec<String> = Vec::new();
    for line in text.lines() {
        waiting.extend(rows_of(line));
        let function = line.trim_start().trim_start_matches("pub(super) ");
        let name = function.strip_prefix("fn ").or(function.strip_prefix("async fn "));
        if let Some((name, _)) = name.and_then(|rest| rest.split_once('(')) {
            named.extend(waiting.drain(..).map(|row| (row, name.to_owned())));
        }
    }
    named.extend(waiting.drain(..).map(|row| (row, "nothing".to_owned())));
    named
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs_err::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_row_has_a_test_and_every_test_a_row() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    sources(&root.join("tests/it"), &mut files);
    let mut tests: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let shown = file.strip_prefix(root).unwrap().with_extension("");
        for (row, test) in named_in(&fs_err::read_to_string(&file).unwrap()) {
            let place = format!("{}::{test}", shown.display());
            assert_ne!(test, "nothing", "{place}: no test follows the comment about {row}");
            tests.entry(row).or_default().insert(place);
        }
    }
    let (rows, mut table, mut missing) = (rows(), String::new(), Vec::new());
    for row in &rows {
        match tests.remove(row) {
            Some(names) => {
                let names = names.into_iter().collect::<Vec<_>>().join(", ");
                writeln!(table, "{row}: {names}").unwrap();
            }
            None => missing.push(row.as_str()),
        }
    }
    crate::corpus::say(&format!("{table}{} rows", rows.len()));
    assert!(tests.is_empty(), "ROWS.md has no row for {tests:?}");
    assert!(missing.is_empty(), "nothing shows {missing:?}");
}

#[test]
fn comments_are_read() {
    let lines = [
        "    /// Wire rows U5 and U15: a.",
        "    #[test]",
        "    fn one() {}",
        "/// Wire row A1: B2 is none.",
        "async fn two() {}",
        "// Wire row A2: no",
        "fn x() {}",
    ];
    let text = &lines.join("\n");
    let named = named_in(text);
    let expected = [("U5", "one"), ("U15", "one"), ("A1", "two")];
    assert_eq!(named, expected.map(|(row, test)| (row.to_owned(), test.to_owned())));
}
