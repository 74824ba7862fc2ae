//! The table of how each cell ends: `fixtures/registry/FAULTS.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::cell::Outcome;
use super::kind::{KINDS, Kind};
use crate::context::fixtures;

/// What stands where a fault cannot befall a request.
const NONE: &str = "-";

/// Faults in their order, with a word for each kind of request.
pub(super) struct Table {
    rows: Vec<(String, BTreeMap<Kind, String>)>,
}

impl Table {
    /// Reads what is expected.
    pub(super) fn read() -> Self {
        let text = fs_err::read_to_string(fixtures().join("registry/FAULTS.md")).unwrap();
        let mut lines = text.lines().filter(|line| line.starts_with('|')).map(|line| {
            let cells = line.trim_matches('|').split('|').map(str::trim);
            cells.map(str::to_owned).collect::<Vec<_>>()
        });
        let heading = lines.next().unwrap_or_default();
        let kinds: Vec<Kind> = heading
            .iter()
            .skip(1)
            .map(|name| {
                let kind = KINDS.into_iter().find(|kind| kind.name() == name);
                kind.unwrap_or_else(|| panic!("FAULTS.md has a column `{name}`"))
            })
            .collect();
        let rows = lines.skip(1).map(|cells| {
            let words = kinds.iter().copied().zip(cells.iter().skip(1).cloned());
            (cells[0].clone(), words.filter(|(_, word)| word != NONE).collect())
        });
        Self { rows: rows.collect() }
    }

    /// Returns what happened.
    pub(super) fn of(outcomes: &[Outcome]) -> Self {
        let mut rows: BTreeMap<usize, (String, BTreeMap<Kind, String>)> = BTreeMap::new();
        for outcome in outcomes {
            let (_, words) =
                rows.entry(outcome.row).or_insert_with(|| (outcome.fault.clone(), BTreeMap::new()));
            words.insert(outcome.kind, outcome.word.to_owned());
        }
        Self { rows: rows.into_values().collect() }
    }

    fn word(&self, fault: &str, kind: Kind) -> &str {
        let row = self.rows.iter().find(|(name, _)| name == fault);
        row.and_then(|(_, words)| words.get(&kind)).map_or(NONE, String::as_str)
    }

    /// Returns in what `actual` differs.
    pub(super) fn differences(&self, actual: &Self, outcomes: &[Outcome]) -> Vec<String> {
        let mut found = Vec::new();
        for (fault, _) in self.rows.iter().chain(&actual.rows) {
            for kind in KINDS {
                let (want, have) = (self.word(fault, kind), actual.word(fault, kind));
                if want != have {
                    let mut outcomes = outcomes.iter();
                    let outcome = outcomes.find(|o| o.fault == *fault && o.kind == kind);
                    let text = outcome.map_or("", |outcome| &outcome.text);
                    let column = kind.name();
                    found.push(format!("{fault} | {column}: expected {want}, got {have}: {text}"));
                }
            }
        }
        found.sort();
        found.dedup();
        found
    }

    /// Returns how many cells there are, and how they end.
    pub(super) fn counts(&self) -> String {
        let words = self.rows.iter().flat_map(|(_, words)| words.values());
        let (mut cells, mut successes) = (0, 0);
        for word in words {
            cells += 1;
            successes += usize::from(word == "ok");
        }
        let (rows, columns) = (self.rows.len(), KINDS.len());
        let errors = cells - successes;
        format!(
            "fault matrix: {rows} faults x {columns} kinds of requests, {cells} cells: \
             {successes} success, {errors} clear errors"
        )
    }

    /// Writes it beside the build's files and returns where.
    pub(super) fn write(&self) -> PathBuf {
        let mut text = "| fault |".to_owned();
        for kind in KINDS {
            let _ = write!(text, " {} |", kind.name());
        }
        let _ = write!(text, "\n|{}", " --- |".repeat(KINDS.len() + 1));
        for (fault, _) in &self.rows {
            let _ = write!(text, "\n| {fault} |");
            for kind in KINDS {
                let _ = write!(text, " {} |", self.word(fault, kind));
            }
        }
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("FAULTS.md");
        fs_err::write(&path, text + "\n").unwrap();
        path
    }
}
