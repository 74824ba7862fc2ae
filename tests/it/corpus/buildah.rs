//! Builds the same cases with Debian's `buildah` and explains every difference.
//!
//! The golden is the yardstick. What is compared: the config, but for what no builder could have
//! the same, and the whole file system: kind, mode, owner, content, link target and attributes of
//! every file; of a refusal, that there is one. Not compared: the history and the division into
//! layers, which `buildah` has its own way of, times, and the mount points that its isolation leaves
//! in every image with a `RUN`.
//!
//! A case's file `buildah` says where it differs, one after another:
//!
//! ```text
//! skip: it has no here-documents
//! ```
//!
//! for what this `buildah` does not know, or
//!
//! ```text
//! differs: its COPY keeps no extended attributes
//!   - f 0644 0:0 d/f "x" [user.note="hello"]
//!   + f 0644 0:0 d/f "x"
//! ```
//!
//! with the lines of the golden that it lacks (`-`) and those that it has instead (`+`). The lines
//! must be exactly the differences found. `RPUB_TEST_UPDATE=1` writes them, with `?` for the
//! explanation, which the test then refuses. `RPUB_TEST_CORPUS=all` takes all cases; without it
//! every fourth one is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::case::Case;
use super::image::{self, BaseImage};
use super::listing::{Entry, Kind};
use super::{World, built_cases, each};
use crate::context::{Role, has_tools, variable};

/// How many of the cases are taken by default: one of this many.
const SAMPLE: usize = 4;

/// Config lines that `buildah` cannot have: it does not know the field, or it sets one of its own.
const NOT_COMPARED: [&str; 4] = ["ArgsEscaped", "Created", "Hostname", "MediaType"];

/// What its isolation leaves of every `RUN`: the places where it mounts something. BuildKit and rpub
/// remove them.
const LEFT_BEHIND: [&str; 7] = [
    "d 0755 0:0 dev",
    "d 0755 0:0 proc",
    "d 0755 0:0 run",
    "d 0755 0:0 sys",
    "f 0755 0:0 etc/hostname \"\"",
    "f 0755 0:0 etc/hosts \"\"",
    "f 0755 0:0 etc/resolv.conf \"\"",
];

/// Stands for an image that was not built.
const REFUSED: &str = "refused";

#[test]
fn buildah_builds_the_same() {
    if !has_tools(&["buildah"]) {
        return;
    }
    let Some(world) = World::new(Role::Root) else { return };
    let settings = fs_err::read_to_string(world.context.path(super::REGISTRIES)).unwrap();
    let settings = format!("unqualified-search-registries = [\"docker.io\"]\n{settings}");
    world.context.write("buildah/registries.conf", settings);
    let all = variable("RPUB_TEST_CORPUS").is_some_and(|value| value == "all")
        || variable("RPUB_TEST_CASES").is_some();
    let cases: Vec<Case> = built_cases()
        .into_iter()
        .enumerate()
        .filter(|(number, _)| all || number % SAMPLE == 0)
        .map(|(_, case)| case)
        .collect();
    let counts = Counts::default();
    let failures = each(&cases, |case| judge(&world, case, &counts));
    let [equal, explained, unknown] = counts.0.map(AtomicUsize::into_inner);
    let summary = format!(
        "{} cases: {equal} equal, {explained} with explained differences, {unknown} not known to \
         buildah, {} with unexplained differences",
        cases.len(),
        failures.len()
    );
    assert!(failures.is_empty(), "{}\n{summary}", failures.concat());
    super::say(&summary);
}

/// Equal cases, explained ones, and ones that `buildah` does not know.
#[derive(Default)]
struct Counts([AtomicUsize; 3]);

impl Counts {
    fn count(&self, kind: usize) {
        self.0[kind].fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns what is wrong with a case or with what is said about it.
fn judge(world: &World, case: &Case, counts: &Counts) -> Option<String> {
    let said = case.text("buildah");
    if said.starts_with("skip: ") {
        counts.count(2);
        return None;
    }
    let found = differences(&golden(world, case), &build(world, case));
    let (explained, explanations) = parse(&said);
    if found == explained && explanations.iter().all(|text| text != "?" && !text.is_empty()) {
        counts.count(usize::from(!found.is_empty()));
        return None;
    }
    let lines: Vec<String> = found.iter().map(|line| format!("  {line}\n")).collect();
    let lines = lines.concat();
    if variable("RPUB_TEST_UPDATE").is_some() && found != explained {
        let why = explanations.first().map_or("?", String::as_str);
        let text =
            if found.is_empty() { String::new() } else { format!("differs: {why}\n{lines}") };
        case.write("buildah", &text);
    }
    Some(format!("== {}/buildah\n{lines}", case.name))
}

/// Returns the differences that a `buildah` file names, and its explanations.
fn parse(text: &str) -> (BTreeSet<String>, Vec<String>) {
    let (mut lines, mut explanations) = (BTreeSet::new(), Vec::new());
    for line in text.lines().filter(|line| !line.is_empty()) {
        match (line.strip_prefix("differs: "), line.strip_prefix("  ")) {
            (Some(text), _) => explanations.push(text.to_owned()),
            (None, Some(line)) => {
                lines.insert(line.to_owned());
            }
            (None, None) => panic!("what is this: {line}"),
        }
    }
    (lines, explanations)
}

/// What an image is, or that there is none, as lines.
type Lines = BTreeSet<String>;

fn differences(golden: &Lines, other: &Lines) -> BTreeSet<String> {
    match (golden.contains(REFUSED), other.contains(REFUSED)) {
        (true, false) => return BTreeSet::from(["- refused".to_owned()]),
        (false, true) => return BTreeSet::from(["+ refused".to_owned()]),
        (true, true) | (false, false) => {}
    }
    let missing = golden.difference(other).map(|line| format!("- {line}"));
    let added = other.difference(golden).filter(|line| !LEFT_BEHIND.contains(&line.as_str()));
    let added = added.map(|line| format!("+ {line}"));
    missing.chain(added).collect()
}

fn is_compared(line: &str) -> bool {
    // An empty list is as good as none, and the root as no working directory.
    let is_default = line.ends_with(" []") || line == "WorkingDir /";
    !is_default && !NOT_COMPARED.iter().any(|key| line.starts_with(key))
}

/// Reads the golden back: config and the file system that its layers and its base's make.
fn golden(world: &World, case: &Case) -> Lines {
    if case.has("build-error") {
        return Lines::from([REFUSED.to_owned()]);
    }
    let text = case.text("image");
    let (head, layers) = text.split_once("---\n").unwrap();
    let (from, config) = head.split_once('\n').unwrap();
    let name = from.strip_prefix("from ").unwrap();
    let base = world.bases.iter().find(|base| base.name == name);
    let mut files = Files::default();
    for layer in base.iter().flat_map(|base| &base.layers) {
        files.apply(&layer.entries);
    }
    let mut layer = Vec::new();
    for line in layers.lines() {
        match line.strip_prefix("  ") {
            Some("nothing") => {}
            Some(entry) => layer.push(Entry::parse(entry)),
            None => files.apply(&std::mem::take(&mut layer)),
        }
    }
    files.apply(&layer);
    let config = config.lines().filter(|line| is_compared(line)).map(str::to_owned);
    config.chain(files.lines()).collect()
}

/// Builds the case with `buildah`.
fn build(world: &World, case: &Case) -> Lines {
    let directory = case.prepare(&world.context);
    // One store for all, so that each base is fetched once.
    let state = world.context.directory("buildah");
    let buildah = |arguments: &[&str]| {
        let path = |name: &str| state.join(name).into_os_string();
        world
            .context
            .tool("buildah")
            .current_dir(&directory)
            .args(["--storage-driver", "vfs", "--root"])
            .arg(path("root"))
            .arg("--runroot")
            .arg(path("run"))
            .arg("--registries-conf")
            .arg(state.join("registries.conf"))
            .args(arguments)
            .env("TMPDIR", &state)
    };
    let options = case.lines("options");
    let is_whole = options.last().is_some_and(|option| option == "--");
    let names_file = is_whole || options.iter().any(|option| option == "-f");
    let mut command = buildah(&["bud", "--isolation", "chroot", "--format", "docker"]).args([
        "--identity-label=false",
        "--tls-verify=false",
        "--quiet",
        "--iidfile",
        "iid",
    ]);
    if !names_file {
        command = command.args(["-f", "Dockerfile"]);
    }
    command = command.args(options.iter().filter(|option| *option != "--"));
    for line in case.lines("environment") {
        let (name, value) = line.split_once('=').unwrap();
        command = command.env(name, value);
    }
    let output = if is_whole { command } else { command.arg("context") }.run();
    if output.status.success() {
        let id = fs_err::read_to_string(directory.join("iid")).unwrap();
        let target = format!("dir:{}", directory.join("pushed").display());
        let push = ["push", "--quiet", "--format", "v2s2", "--disable-compression", id.trim()];
        buildah(&push).arg(target).run().expect_code(0);
        let layers = pushed(&directory.join("pushed"), &world.bases);
        layers.into_iter().filter(|line| is_compared(line)).collect()
    } else {
        Lines::from([REFUSED.to_owned()])
    }
}

/// Reads the image in a directory of `skopeo`'s form.
fn pushed(directory: &Path, bases: &[BaseImage]) -> Vec<String> {
    let manifest = fs_err::read(directory.join("manifest.json")).unwrap();
    let manifest = serde_json::from_slice(&manifest).unwrap();
    let image = image::read_manifest(directory, &manifest, bases);
    let mut files = Files::default();
    for layer in &image.layers {
        files.apply(&layer.entries);
    }
    let mut lines = image::config_lines(&image.config);
    lines.extend(files.lines());
    lines
}

/// A file system: what a stack of layers makes.
#[derive(Default)]
struct Files(BTreeMap<String, Entry>);

impl Files {
    /// Puts a layer on top. Deletions count before what the layer brings.
    fn apply(&mut self, layer: &[Entry]) {
        for entry in layer {
            match entry.kind {
                Kind::Whiteout => self.remove(&entry.path, true),
                Kind::Opaque => self.remove(&entry.path, false),
                _ => {}
            }
        }
        for entry in layer {
            if matches!(entry.kind, Kind::Whiteout | Kind::Opaque) {
                continue;
            }
            if entry.kind != Kind::Directory {
                self.remove(&entry.path, true);
            }
            let mut entry = entry.clone();
            if let Kind::Hardlink(target) = &entry.kind {
                let path = std::mem::take(&mut entry.path);
                let same = self.0.get(target).unwrap_or_else(|| panic!("{path} => {target}"));
                entry = Entry { path, ..same.clone() };
            }
            entry.time.clear();
            self.0.insert(entry.path.clone(), entry);
        }
    }

    fn remove(&mut self, path: &str, itself: bool) {
        let below = format!("{path}/");
        self.0.retain(|other, _| !(other.starts_with(&below) || (itself && other == path)));
    }

    /// Returns a line for each file; the root itself, which layers may or may not list, has none.
    fn lines(self) -> impl Iterator<Item = String> {
        let files = self.0.into_values().filter(|entry| entry.path != ".");
        files.map(|entry| entry.to_string())
    }
}
