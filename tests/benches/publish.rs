//! Measures the main commands beside Debian's tools, in turn (A B A B), in one run, as an
//! unprivileged user: `cargo bench --bench publish [NAME...]`.
//!
//! Prints medians of wall time, the ratio to the peer, and the largest process's peak memory as
//! GNU time reports it. Everything happens in directories never used before: unpacking again where
//! a tree was just removed is several times slower on ext4, for every tool.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a bench may panic")]
#![expect(clippy::print_stdout, reason = "a bench prints its table")]

#[path = "../it/context/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the bench uses a part of the tests' context")]
mod context;

use std::cell::Cell;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use context::{Output, Role, TestCommand, World, has_tools};

/// How often each side of a comparison runs.
const ROUNDS: usize = 5;

/// One measured command, or several in a row as one.
#[derive(Debug, Clone, Copy, Default)]
struct Measure {
    wall: Duration,
    peak_kib: u64,
}

/// A comparison: what is measured, ours and the peer's.
struct Row {
    name: &'static str,
    goal: &'static str,
    peer: &'static str,
    ours: Measure,
    theirs: Option<Measure>,
}

/// One comparison's work.
type Work = fn(&Bench) -> Row;

struct Bench {
    world: World,
    count: Cell<u32>,
}

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let tools = ["time", "buildah", "skopeo", "umoci"];
    let Some(world) = World::new(Role::Unprivileged).filter(|_| has_tools(&tools)) else { return };
    // buildah wants the file to exist once `DOCKER_CONFIG` names its directory.
    world.context.write("home/docker/config.json", "{}");
    let bench = Bench { world, count: Cell::new(0) };
    println!(
        "{:<44} {:>10} {:>9} {:>10} {:>9} {:>7}  goal",
        "work (median wall, peak of largest process)", "rpub", "MiB", "peer", "MiB", "ratio"
    );
    let benches: [(&str, Work); 6] = [
        ("start", start),
        ("step", step),
        ("pull", pull),
        ("copy", copy),
        ("cached", cached),
        ("memory", memory),
    ];
    for (name, measure) in benches {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            print(&measure(&bench));
        }
    }
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
    bench.world.context.write("copy/data", mixed(500 << 20));
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
    bench.world.context.write("memory/data", mixed(1 << 30));
    let name = bench.world.registry.reference("ours/memory:1");
    let store = bench.fresh("store");
    let ours = bench.rpub(&["build-push", "-q", "-t", &name, path(&directory)], Some(&store));
    Row { name: "build-push of a 1 GiB layer", goal: "< 100 MiB", peer: "-", ours, theirs: None }
}

impl Bench {
    /// Returns a path below the root that has never been used.
    fn fresh(&self, name: &str) -> PathBuf {
        self.count.set(self.count.get() + 1);
        self.world.context.path(format!("{name}-{}", self.count.get()))
    }

    fn rpub(&self, args: &[&str], store: Option<&Path>) -> Measure {
        let command = self.timed(context::program()).args(args);
        self.measure(match store {
            Some(store) => command.env("RPUB_STORE", store),
            None => command,
        })
    }

    fn peer(&self, command: &[&str]) -> Measure {
        self.measure(self.timed(command[0]).args(&command[1..]))
    }

    fn buildah(&self, storage: &Path, args: &[&str], directory: &Path) -> Measure {
        let command = self.timed("buildah").arg("--root").arg(storage);
        let command = command.arg("--runroot").arg(storage.with_extension("run"));
        let command = command.args(["--storage-driver", "overlay"]).args(args);
        let command = if args[0] == "bud" {
            let options = ["--layers", "--isolation", "chroot", "--tls-verify=false", "--quiet"];
            command.args(options).arg(directory)
        } else {
            command
        };
        self.measure(command)
    }

    fn buildah_publish(&self, storage: &Path, name: &str, directory: &Path) -> Measure {
        let built = self.buildah(storage, &["bud", "-t", name], directory);
        let push = ["push", "--quiet", "--tls-verify=false", name];
        sum(built, self.buildah(storage, &push, directory))
    }

    /// Returns a command under GNU time, whose report goes to a file.
    fn timed(&self, program: impl AsRef<OsStr>) -> TestCommand {
        let report = self.world.context.directory("report").join("time");
        let command = self.world.context.command("time").args(["-f", "%M", "-o"]);
        command.arg(report).arg(program)
    }

    fn measure(&self, command: TestCommand) -> Measure {
        let output: Output = command.run();
        output.expect_code(0);
        let report = fs_err::read_to_string(self.world.context.path("report/time")).unwrap();
        let peak_kib = report.lines().last().and_then(|line| line.parse().ok()).unwrap_or(0);
        Measure { wall: output.elapsed, peak_kib }
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn sum(a: Measure, b: Measure) -> Measure {
    Measure { wall: a.wall + b.wall, peak_kib: a.peak_kib.max(b.peak_kib) }
}

fn median(mut measures: Vec<Measure>) -> Measure {
    measures.sort_by_key(|measure| measure.wall);
    let peak_kib = measures.iter().map(|measure| measure.peak_kib).max().unwrap_or(0);
    Measure { wall: measures[measures.len() / 2].wall, peak_kib }
}

#[expect(clippy::cast_precision_loss, reason = "a table for people")]
fn print(row: &Row) {
    let time = |measure: &Measure| format!("{:.1} ms", measure.wall.as_secs_f64() * 1e3);
    let memory = |measure: &Measure| format!("{:.1}", measure.peak_kib as f64 / 1024.0);
    let (peer, peer_memory, ratio) = row.theirs.as_ref().map_or_else(
        || ("-".to_owned(), "-".to_owned(), "-".to_owned()),
        |theirs| {
            let ratio = row.ours.wall.as_secs_f64() / theirs.wall.as_secs_f64();
            (time(theirs), memory(theirs), format!("{ratio:.2}"))
        },
    );
    println!(
        "{:<44} {:>10} {:>9} {:>10} {:>9} {:>7}  {} ({})",
        row.name,
        time(&row.ours),
        memory(&row.ours),
        peer,
        peer_memory,
        ratio,
        row.goal,
        row.peer
    );
}

/// Returns bytes of which about three in ten compress away.
fn mixed(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
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
