//! Measures the main commands beside Debian's tools, in turn (A B A B), in one run, as an
//! unprivileged user: `cargo bench --bench publish [NAME...]`.
//!
//! Prints medians of wall time, the ratio to the peer, and the largest process's peak memory as
//! GNU time reports it. Everything happens in directories never used before: unpacking again where
//! a tree was just removed is several times slower on ext4, for every tool.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a bench may panic")]
#![expect(clippy::print_stdout, reason = "a bench prints its table")]

mod copies;
mod measure;
mod registry;

use measure::{Bench, Measure, ROUNDS, Row, median, path, sum};
use std::path::Path;

fn main() {
    measure::run(
        &["time", "buildah", "skopeo", "umoci"],
        &[
            ("start", start),
            ("step", step),
            ("pull", pull),
            ("copy", copy),
            ("cached", cached),
            ("memory", memory),
            ("layers", registry::layers),
            ("pull-layer", registry::pull_layer),
            ("pull-again", registry::pull_again),
            ("push-again", registry::push_again),
            ("mount", registry::mount),
            ("copy-large", copies::large),
            ("mirror-cold", copies::cold),
            ("mirror-again", copies::again),
            ("mirror-many", copies::many),
            ("mirror-immutable", copies::immutable),
        ],
    );
}

fn start(bench: &Bench) -> Row {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS * 4 {
        ours.push(bench.rpub(&["--version"], None));
        theirs.push(bench.peer(&["skopeo", "--version"]));
    }
    Row {
        name: "start, `--version`",
        goal: "< 5 ms",
        peer: "skopeo",
        ours: median(ours),
        theirs: Some(median(theirs)),
    }
}

fn step(bench: &Bench) -> Row {
    const STEPS: u32 = 20;
    let base = bench.world.hub.reference("library/busybox:latest");
    let make = |steps: u32| {
        let runs: Vec<String> = (0..steps).map(|n| format!("RUN true {n}\n")).collect();
        bench
            .world
            .dockerfile(&format!("steps-{steps}"), &format!("FROM {base}\n{}", runs.concat()))
    };
    let (one, many) = (make(1), make(STEPS + 1));
    let (store, storage) = (bench.fresh("store"), bench.fresh("storage"));
    let ours = |directory: &Path| {
        bench.rpub(&["build", "--no-cache", "-q", path(directory)], Some(&store))
    };
    let theirs = |directory: &Path| bench.buildah(&storage, &["bud", "--no-cache"], directory);
    let slope = |many: Measure, one: Measure| Measure {
        wall: many.wall.saturating_sub(one.wall) / STEPS,
        cpu: many.cpu.saturating_sub(one.cpu) / STEPS,
        peak_kib: many.peak_kib,
    };
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        a.push(slope(ours(&many), ours(&one)));
        b.push(slope(theirs(&many), theirs(&one)));
    }
    Row {
        name: "one `RUN true`, committed (slope over 20)",
        goal: "<= 10 ms",
        peer: "buildah",
        ours: median(a),
        theirs: Some(median(b)),
    }
}

fn pull(bench: &Bench) -> Row {
    let base = bench.world.hub.reference("library/python:3.10");
    let text = format!("FROM {base}\nRUN true\n");
    let directory = bench.world.dockerfile("pull", &text);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let store = bench.fresh("store");
        ours.push(bench.rpub(&["build", "-q", path(&directory)], Some(&store)));
        let layout = format!("{}:image", bench.fresh("layout").display());
        let bundle = bench.fresh("bundle");
        let source = format!("docker://{base}");
        let target = format!("oci:{layout}");
        let copied = bench.peer(&[
            "skopeo",
            "--insecure-policy",
            "copy",
            "--quiet",
            "--src-tls-verify=false",
            &source,
            &target,
        ]);
        let unpacked =
            bench.peer(&["umoci", "unpack", "--rootless", "--image", &layout, path(&bundle)]);
        theirs.push(sum(copied, unpacked));
    }
    Row {
        name: "pull the Python base, unpack, `RUN true`",
        goal: "<= half",
        peer: "skopeo copy + umoci unpack",
        ours: median(ours),
        theirs: Some(median(theirs)),
    }
}

fn copy(bench: &Bench) -> Row {
    let base = bench.world.hub.reference("library/busybox:latest");
    let directory = bench.world.dockerfile("copy", &format!("FROM {base}\nCOPY data /data\n"));
    bench.world.context.write("copy/data", mixed(500 << 20, 0));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..3 {
        let name = bench.world.registry.reference(&format!("ours/copy-{round}:1"));
        let store = bench.fresh("store");
        ours.push(bench.rpub(&["build-push", "-q", "-t", &name, path(&directory)], Some(&store)));
        let name = bench.world.registry.reference(&format!("theirs/copy-{round}:1"));
        theirs.push(bench.buildah_publish(&bench.fresh("storage"), &name, &directory));
    }
    Row {
        name: "build-push of a 500 MiB `COPY`",
        goal: "<= half",
        peer: "buildah bud + push",
        ours: median(ours),
        theirs: Some(median(theirs)),
    }
}

fn cached(bench: &Bench) -> Row {
    let base = bench.world.hub.reference("library/python:3.10");
    let text = format!("FROM {base}\nRUN echo hi > /hi\nCOPY Dockerfile /\nCMD [\"true\"]\n");
    let directory = bench.world.dockerfile("cached", &text);
    let (store, storage) = (bench.fresh("store"), bench.fresh("storage"));
    let ours_name = bench.world.registry.reference("ours/cached:1");
    let theirs_name = bench.world.registry.reference("theirs/cached:1");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..=ROUNDS {
        let args = ["build-push", "-q", "-t", &ours_name, path(&directory)];
        ours.push(bench.rpub(&args, Some(&store)));
        theirs.push(bench.buildah_publish(&storage, &theirs_name, &directory));
    }
    Row {
        name: "build-push, nothing changed",
        goal: "< 60 ms",
        peer: "buildah bud + push",
        ours: median(ours.split_off(1)),
        theirs: Some(median(theirs.split_off(1))),
    }
}

fn memory(bench: &Bench) -> Row {
    let base = bench.world.hub.reference("library/busybox:latest");
    let directory = bench.world.dockerfile("memory", &format!("FROM {base}\nCOPY data /data\n"));
    bench.world.context.write("memory/data", mixed(1 << 30, 0));
    let name = bench.world.registry.reference("ours/memory:1");
    let store = bench.fresh("store");
    let ours = bench.rpub(&["build-push", "-q", "-t", &name, path(&directory)], Some(&store));
    Row { name: "build-push of a 1 GiB layer", goal: "< 100 MiB", peer: "-", ours, theirs: None }
}

/// Returns bytes of which about three in ten compress away; other ones for another `seed`.
fn mixed(length: usize, seed: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (seed << 1);
    let mut bytes = Vec::with_capacity(length + 4096);
    while bytes.len() < length {
        for _ in 0..2867 / 8 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes.resize(bytes.len() + 1229, b' ');
    }
    bytes.truncate(length);
    bytes
}
