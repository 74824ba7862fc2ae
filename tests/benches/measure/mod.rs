//! What benches have in common: commands under GNU time beside a peer's, and the table.

#[path = "../../it/context/mod.rs"]
#[expect(dead_code, unused_imports, reason = "benches use a part of the tests' context")]
pub(crate) mod context;

use std::cell::Cell;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use context::{Output, Role, TestCommand, has_tools};

pub(crate) use context::World;

/// How often each side of a comparison runs.
pub(crate) const ROUNDS: usize = 5;

/// One measured command, or several in a row as one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Measure {
    pub(crate) wall: Duration,
    /// Time on processors, of the program and what it waited for.
    pub(crate) cpu: Duration,
    pub(crate) peak_kib: u64,
}

/// A comparison: what is measured, ours and the peer's.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) goal: &'static str,
    pub(crate) peer: &'static str,
    pub(crate) ours: Measure,
    pub(crate) theirs: Option<Measure>,
}

/// One comparison's work.
pub(crate) type Work = fn(&Bench) -> Row;

/// A world for an unprivileged user, and fresh names in it.
pub(crate) struct Bench {
    pub(crate) world: World,
    count: Cell<u32>,
}

/// Runs the comparisons that the command line names, or all, and prints a line for each.
pub(crate) fn run(tools: &[&str], benches: &[(&str, Work)]) {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let Some(world) = World::new(Role::Unprivileged).filter(|_| has_tools(tools)) else { return };
    // buildah wants the file to exist once `DOCKER_CONFIG` names its directory.
    world.context.write("home/docker/config.json", "{}");
    let bench = Bench { world, count: Cell::new(0) };
    println!(
        "{:<44} {:>10} {:>8} {:>7} {:>10} {:>8} {:>7} {:>6}  goal",
        "work (median wall, processors, peak)",
        "rpub",
        "cpu s",
        "MiB",
        "peer",
        "cpu s",
        "MiB",
        "ratio"
    );
    for (name, measure) in benches {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            print(&measure(&bench));
        }
    }
}

impl Bench {
    /// Returns a path below the root that has never been used.
    pub(crate) fn fresh(&self, name: &str) -> PathBuf {
        self.count.set(self.count.get() + 1);
        self.world.context.path(format!("{name}-{}", self.count.get()))
    }

    pub(crate) fn rpub(&self, args: &[&str], store: Option<&Path>) -> Measure {
        let command = self.timed(context::program()).args(args);
        self.measure(match store {
            Some(store) => command.env("RPUB_STORE", store),
            None => command,
        })
    }

    pub(crate) fn peer(&self, command: &[&str]) -> Measure {
        self.measure(self.timed(command[0]).args(&command[1..]))
    }

    pub(crate) fn buildah(&self, storage: &Path, args: &[&str], directory: &Path) -> Measure {
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

    pub(crate) fn buildah_publish(&self, storage: &Path, name: &str, directory: &Path) -> Measure {
        let built = self.buildah(storage, &["bud", "-t", name], directory);
        let push = ["push", "--quiet", "--tls-verify=false", name];
        sum(built, self.buildah(storage, &push, directory))
    }

    /// Returns a command under GNU time, whose report goes to a file.
    fn timed(&self, program: impl AsRef<OsStr>) -> TestCommand {
        let report = self.world.context.directory("report").join("time");
        let command = self.world.context.command("time").args(["-f", "%M %U %S", "-o"]);
        command.arg(report).arg(program)
    }

    fn measure(&self, command: TestCommand) -> Measure {
        let output: Output = command.run();
        output.expect_code(0);
        let report = fs_err::read_to_string(self.world.context.path("report/time")).unwrap();
        let numbers: Vec<f64> =
            report.lines().last().unwrap().split(' ').map(|word| word.parse().unwrap()).collect();
        let [peak_kib, user, system] = numbers[..] else { panic!("not a report: {report}") };
        Measure {
            wall: output.elapsed,
            cpu: Duration::from_secs_f64(user + system),
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "KiB")]
            peak_kib: peak_kib as u64,
        }
    }
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(crate) fn sum(a: Measure, b: Measure) -> Measure {
    Measure { wall: a.wall + b.wall, cpu: a.cpu + b.cpu, peak_kib: a.peak_kib.max(b.peak_kib) }
}

pub(crate) fn median(mut measures: Vec<Measure>) -> Measure {
    measures.sort_by_key(|measure| measure.wall);
    let peak_kib = measures.iter().map(|measure| measure.peak_kib).max().unwrap_or(0);
    Measure { peak_kib, ..measures[measures.len() / 2] }
}

#[expect(clippy::cast_precision_loss, reason = "a table for people")]
fn print(row: &Row) {
    let shown = |measure: &Measure| {
        let wall = format!("{:.1} ms", measure.wall.as_secs_f64() * 1e3);
        let cpu = format!("{:.2}", measure.cpu.as_secs_f64());
        [wall, cpu, format!("{:.1}", measure.peak_kib as f64 / 1024.0)]
    };
    let none = || ["-".to_owned(), "-".to_owned(), "-".to_owned()];
    let ratio = row.theirs.map_or_else(
        || "-".to_owned(),
        |theirs| format!("{:.2}", row.ours.wall.as_secs_f64() / theirs.wall.as_secs_f64()),
    );
    let [wall, cpu, peak] = shown(&row.ours);
    let [peer_wall, peer_cpu, peer_peak] = row.theirs.as_ref().map_or_else(none, shown);
    println!(
        "{:<44} {wall:>10} {cpu:>8} {peak:>7} {peer_wall:>10} {peer_cpu:>8} {peer_peak:>7} \
         {ratio:>6}  {} ({})",
        row.name, row.goal, row.peer
    );
}
