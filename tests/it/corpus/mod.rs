//! Builds the cases of `fixtures/dockerfile` and compares what comes out with their goldens.
//!
//! A case is a directory with a `Dockerfile` and, as it needs them:
//!
//! - `context/`, the build context, and `setup`, a shell script that makes what git cannot hold; it
//!   runs in a copy of the case, where everything it does not date gets one old time;
//! - `options`, arguments of `rpub build`, one a line, and `environment`, `NAME=value` lines; both
//!   may name files of the case, which is where the program runs;
//! - the golden: `image`, what was built, or `build-error`, what was said instead;
//! - `buildah`: how another builder differs, see [`buildah`].
//!
//! Cases with `expected` or `error` are for the parser's own test. `RPUB_TEST_UPDATE=1` writes the
//! goldens, which must be read before they are kept; `RPUB_TEST_CASES=TEXT` takes only the cases
//! with this text in their names.

mod bases;
mod buildah;
mod case;
mod coverage;
mod image;
mod listing;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use case::Case;
use image::BaseImage;

use crate::context::{Output, Registry, Role, TestContext, has_tools, variable};

/// Where the program reads which registry stands for which.
const REGISTRIES: &str = "home/settings/containers/registries.conf";

/// Everything that the cases share.
struct World {
    bases: Vec<BaseImage>,
    _registry: Registry,
    context: TestContext,
}

impl World {
    fn new(role: Role) -> Option<Self> {
        if !has_tools(&["skopeo", "docker-registry"]) {
            return None;
        }
        let context = TestContext::for_role(role)?;
        let tars = crate::context::bases()?;
        let registry = Registry::plain(&context)?;
        let bases = bases::make(&context, &registry, &tars);
        // Not as a mirror: what it lacks must not be looked for anywhere else.
        let settings = format!(
            "[[registry]]\nprefix = \"docker.io\"\nlocation = \"{}\"\ninsecure = true\n",
            registry.name()
        );
        context.write(REGISTRIES, settings);
        Some(Self { bases, _registry: registry, context })
    }

    /// Builds a case; returns the golden that it must have.
    fn build(&self, case: &Case) -> (&'static str, String) {
        let directory = case.prepare(&self.context);
        let options = case.lines("options");
        let mut command = self.context.rpub(["build"]);
        command = command.current_dir(&directory).args(["--metadata-file", "metadata"]);
        // Options that end with `--` name the context, and leave the file to the program.
        let is_whole = options.last().is_some_and(|option| option == "--");
        if !is_whole && !options.iter().any(|option| option == "-f") {
            command = command.args(["-f", "Dockerfile"]);
        }
        for line in case.lines("environment") {
            let (name, value) = line.split_once('=').unwrap();
            command = command.env(name, value);
        }
        if !is_whole {
            command = command.arg("context");
        }
        let output = command.args(options.iter().filter(|option| *option != "--")).run();
        if output.status.success() {
            ("image", self.images(&directory))
        } else {
            ("build-error", failure(&output, &directory))
        }
    }

    fn images(&self, directory: &Path) -> String {
        let metadata = fs_err::read(directory.join("metadata")).unwrap();
        let metadata: serde_json::Value = serde_json::from_slice(&metadata).unwrap();
        let digest = metadata["containerimage.digest"].as_str().unwrap();
        let blobs = self.context.store().join("blobs/sha256");
        let images = image::read(&blobs, digest, &self.bases);
        images.iter().map(|image| image.text(&self.bases)).collect::<Vec<_>>().join("\n")
    }
}

/// Returns what a failed build said: exit code, message, place and hint, but no progress.
fn failure(output: &Output, directory: &Path) -> String {
    let code = output.status.code().map_or_else(|| "signal".to_owned(), |code| code.to_string());
    let lines = output.stderr.lines().skip_while(|line| !line.starts_with("error"));
    let text = lines.collect::<Vec<_>>().join("\n");
    let text = text.replace(&directory.display().to_string(), "[CASE]");
    let port = regex::Regex::new(r"127\.0\.0\.1:\d+").unwrap();
    format!("exit code {code}\n{}\n", port.replace_all(&text, "[REGISTRY]"))
}

/// Does something with each case, on all cores; returns what it said, sorted.
fn each(cases: &[Case], work: impl Fn(&Case) -> Option<String> + Sync) -> Vec<String> {
    let (next, said) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(2) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let text =
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(case)))
                            .unwrap_or_else(|_| Some(format!("== {}: panicked\n", case.name)));
                    said.lock().unwrap().extend(text);
                }
            });
        }
    });
    let mut said = said.into_inner().unwrap();
    said.sort();
    said
}

/// Says something that is not a failure.
#[expect(clippy::print_stderr, reason = "the harness shows it beside the test's name")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// Returns the built cases that `RPUB_TEST_CASES` asks for.
fn built_cases() -> Vec<Case> {
    let wanted = variable("RPUB_TEST_CASES").unwrap_or_default();
    let wanted = wanted.to_string_lossy().into_owned();
    let cases = case::directories().into_iter();
    cases.filter(|case| case.is_built() && case.name.contains(&wanted)).collect()
}

/// Marks the lines that only one of two texts has, in order.
fn difference(expected: &str, found: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    // Lengths of the longest common subsequences of all pairs of tails.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut text) = (0, 0, String::new());
    while i < old.len() || j < new.len() {
        let (mark, line) = if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
            (' ', old[i - 1])
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            i += 1;
            ('-', old[i - 1])
        } else {
            j += 1;
            ('+', new[j - 1])
        };
        writeln!(text, "{mark} {line}").unwrap();
    }
    text
}

#[test]
fn every_case_builds_to_its_golden() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let cases = built_cases();
    let update = variable("RPUB_TEST_UPDATE").is_some();
    let failures = each(&cases, |case| {
        let (golden, text) = world.build(case);
        let expected = case.text(golden);
        if case.has(golden) && expected == text {
            return None;
        }
        if update {
            case.update(golden, &text);
        }
        Some(format!("== {}/{golden}\n{}", case.name, difference(&expected, &text)))
    });
    let (count, failed) = (cases.len(), failures.len());
    assert!(failures.is_empty(), "{}\n{failed} of {count} cases differ", failures.concat());
}
