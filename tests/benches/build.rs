//! Measures building beside Debian's buildah, in turn (A B A B), in one run, as an unprivileged user:
//! `cargo bench --bench build [NAME...]`.
//!
//! Prints medians of wall time, the ratio to the peer, and the largest process's peak memory as
//! GNU time reports it. Other work on the machine slows both sides, so look at the ratios first.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a bench may panic")]
#![expect(clippy::print_stdout, reason = "a bench prints its table")]

#[expect(dead_code, reason = "this bench uses a part of it")]
mod measure;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use measure::{Bench, Measure, ROUNDS, Row, median, path};

/// How many files the large context has.
const FILES: usize = 20_000;

fn main() {
    measure::run(
        &["time", "buildah"],
        &[("unchanged", unchanged), ("files", files), ("cached", cached), ("stages", stages)],
    );
}

/// Makes the context of 20,000 small files of text, in 200 directories, once.
fn many_files(bench: &Bench, name: &str) -> PathBuf {
    let directory = bench.world.dockerfile(name, "FROM scratch\nCOPY . /\n");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..FILES {
        let mut text = String::new();
        for _ in 0..20 + number % 140 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            writeln!(text, "line {:08x} of a source file", state % 5000).unwrap();
        }
        let file = format!("{name}/part{}/sub{}/file{number}.txt", number / 2000, number / 100);
        bench.world.context.write(file, text);
    }
    directory
}

/// A build of 20,000 files that finds nothing changed.
fn unchanged(bench: &Bench) -> Row {
    let directory = many_files(bench, "unchanged");
    let (store, storage) = (bench.fresh("store"), bench.fresh("storage"));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..=ROUNDS {
        ours.push(bench.rpub(&["build", "-q", path(&directory)], Some(&store)));
        theirs.push(bench.buildah(&storage, &["bud"], &directory));
    }
    Row {
        name: "nothing changed in 20,000 files",
        goal: "< 100 ms",
        peer: "buildah",
        ours: median(ours.split_off(1)),
        theirs: Some(median(theirs.split_off(1))),
    }
}

/// `COPY . /` of 20,000 files into an empty store: read, and sealed as a layer.
fn files(bench: &Bench) -> Row {
    let directory = many_files(bench, "files");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let store = bench.fresh("store");
        ours.push(bench.rpub(&["build", "-q", path(&directory)], Some(&store)));
        theirs.push(bench.buildah(&bench.fresh("storage"), &["bud"], &directory));
    }
    Row {
        name: "`COPY . /` of 20,000 small files",
        goal: "<= a fifth",
        peer: "buildah",
        ours: median(ours),
        theirs: Some(median(theirs)),
    }
}

/// What one more cached step costs.
fn cached(bench: &Bench) -> Row {
    const STEPS: u32 = 200;
    /// As many as the peer can have: overlayfs takes no more layers on each other from it than 128.
    const PEER_STEPS: u32 = 100;
    let base = bench.world.hub.reference("library/busybox:latest");
    let make = |steps: u32| {
        let name = format!("cached-{steps}");
        let copies: Vec<String> = (0..steps).map(|n| format!("COPY file /{n}\n")).collect();
        bench.world.context.write(format!("{name}/file"), "content");
        bench.world.dockerfile(&name, &format!("FROM {base}\n{}", copies.concat()))
    };
    let (few, many, peer_many) = (make(1), make(STEPS + 1), make(PEER_STEPS + 1));
    let (store, storage) = (bench.fresh("store"), bench.fresh("storage"));
    let ours = |directory: &Path| bench.rpub(&["build", "-q", path(directory)], Some(&store));
    let theirs = |directory: &Path| bench.buildah(&storage, &["bud"], directory);
    let slope = |many: Measure, few: Measure, steps: u32| Measure {
        wall: many.wall.saturating_sub(few.wall) / steps,
        cpu: many.cpu.saturating_sub(few.cpu) / steps,
        peak_kib: many.peak_kib,
    };
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..=ROUNDS {
        a.push(slope(ours(&many), ours(&few), STEPS));
        if b.len() < 2 {
            b.push(slope(theirs(&peer_many), theirs(&few), PEER_STEPS));
        }
    }
    Row {
        name: "one more cached step (slope over 200)",
        goal: "< 0.3 ms",
        peer: "buildah",
        ours: median(a.split_off(1)),
        theirs: Some(median(b.split_off(1))),
    }
}

/// Twenty stages that need nothing of one another, beside one of them times twenty.
fn stages(bench: &Bench) -> Row {
    const STAGES: u32 = 20;
    let base = bench.world.hub.reference("library/busybox:latest");
    let work = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done > /out; echo stage";
    let make = |stages: u32| {
        let mut text = String::new();
        for n in 0..stages {
            // Each different: equal steps of a build are done once.
            writeln!(text, "FROM {base} AS s{n}\nRUN {work}-{n}").unwrap();
        }
        text.push_str("FROM scratch\n");
        for n in 0..stages {
            writeln!(text, "COPY --from=s{n} /out /{n}").unwrap();
        }
        bench.world.dockerfile(&format!("stages-{stages}"), &text)
    };
    let (one, all) = (make(1), make(STAGES));
    let store = bench.fresh("store");
    let build = |directory: &Path| {
        bench.rpub(&["build", "--no-cache", "-q", path(directory)], Some(&store))
    };
    let (mut ours, mut one_by_one) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(build(&all));
        let alone = build(&one);
        one_by_one.push(Measure { wall: alone.wall * STAGES, cpu: alone.cpu * STAGES, ..alone });
    }
    Row {
        name: "twenty independent stages",
        goal: "about 1 / cores",
        peer: "one stage, times twenty",
        ours: median(ours),
        theirs: Some(median(one_by_one)),
    }
}
