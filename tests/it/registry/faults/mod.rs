//! The fault matrix: every fault at every kind of request that the client makes.
//!
//! `fixtures/registry/FAULTS.md` says how each cell ends: `ok`, or the kind of a clear error. What
//! holds in every cell: it ends in time, it reads a bounded part of what has no end, no secret is
//! in what is said or traced, none goes to another origin, every transfer that began has ended, and
//! a success is one.

mod cell;
mod fault;
mod kind;
mod origin;
mod program;
mod rows;
mod table;
mod ways;
mod wire;
mod world;

use futures_util::stream::{self, StreamExt as _};

use cell::Outcome;
use fault::{Fault, Load};
use kind::KINDS;
use table::Table;

/// Each load with how many of its cells are played at the same time.
const LOADS: [(Load, usize); 3] = [(Load::Light, 32), (Load::Heavy, 4), (Load::Waits, 128)];

/// Plays everything, compares with the table, and says how many cells ended how.
#[test]
fn every_fault_at_every_request_ends_as_the_table_says() {
    cell::watch_traces();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let outcomes = runtime.block_on(play_all());
    let (expected, actual) = (Table::read(), Table::of(&outcomes));
    let mut complaints: Vec<String> =
        outcomes.iter().flat_map(|outcome| outcome.complaints.clone()).collect();
    complaints.extend(cell::traced_secrets());
    complaints.extend(expected.differences(&actual, &outcomes));
    crate::corpus::say(&actual.counts());
    if !complaints.is_empty() {
        let path = actual.write();
        complaints.sort();
        panic!(
            "{} complaints; what happened is in {}, to be read before it is believed\n{}",
            complaints.len(),
            path.display(),
            complaints.join("\n")
        );
    }
}

async fn play_all() -> Vec<Outcome> {
    let faults: Vec<Fault> = rows::faults();
    let mut outcomes = Vec::new();
    for (load, at_once) in LOADS {
        let mut cells = Vec::new();
        for (row, fault) in faults.iter().enumerate().filter(|(_, fault)| fault.load() == load) {
            let kinds = KINDS.into_iter().filter(|kind| (fault.fits)(*kind));
            cells.extend(kinds.map(|kind| cell::play(row, fault.clone(), kind)));
        }
        outcomes.extend(stream::iter(cells).buffer_unordered(at_once).collect::<Vec<_>>().await);
    }
    outcomes
}
