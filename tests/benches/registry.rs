//! Transfers beside `skopeo`.
//!
//! `skopeo` compresses the layers of its directory while it pushes them; rpub makes them from files
//! and compresses them. How much each then stored is printed, so that they can be compared.

use std::path::{Path, PathBuf};

use crate::measure::context::Registry;
use crate::measure::{Bench, Measure, ROUNDS, Row, median, path};
use crate::mixed;

/// A directory with a Dockerfile that makes an image of `count` layers with `size` bytes each.
fn image(bench: &Bench, name: &str, count: u64, size: usize) -> PathBuf {
    let copies: Vec<String> = (0..count).map(|n| format!("COPY {n} /{n}\n")).collect();
    let directory = bench.world.dockerfile(name, &format!("FROM scratch\n{}", copies.concat()));
    for n in 0..count {
        bench.world.context.write(format!("{name}/{n}"), mixed(size, n));
    }
    directory
}

fn skopeo(bench: &Bench, args: &[&str]) -> Measure {
    let fixed = ["skopeo", "--insecure-policy", "copy", "--quiet"];
    bench.peer(&[&fixed, args].concat())
}

/// Builds and pushes the image as `name`, and returns it as skopeo's directory, uncompressed.
fn uncompressed(bench: &Bench, name: &str, directory: &Path) -> String {
    bench.rpub(&["build-push", "-q", "-t", name, path(directory)], Some(&bench.fresh("store")));
    let target = format!("dir:{}", bench.fresh("dir").display());
    let source = format!("docker://{name}");
    skopeo(bench, &["--src-tls-verify=false", "--dest-decompress", &source, &target]);
    target
}

/// Returns what this machine's programs and libraries hold, up to `length` bytes: compressing made-up
/// bytes says little about layers.
fn programs(length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut paths: Vec<PathBuf> = vec!["/usr/lib".into(), "/usr/bin".into()];
    while let Some(path) = paths.pop() {
        let about = fs_err::symlink_metadata(&path).unwrap();
        if about.is_dir() {
            let entries = fs_err::read_dir(&path).into_iter().flatten();
            paths.extend(entries.map(|entry| entry.unwrap().path()));
        } else if about.is_file() && about.len() < 20 << 20 {
            bytes.extend(fs_err::read(&path).unwrap_or_default());
        }
        if bytes.len() >= length {
            bytes.truncate(length);
            break;
        }
    }
    bytes
}

fn registry(bench: &Bench) -> Registry {
    Registry::plain(&bench.world.context).unwrap()
}

/// Returns how much a registry's blobs take.
fn stored_mib(registry: &Registry) -> u64 {
    let mut total = 0;
    let mut directories = vec![registry.storage().join("docker/registry/v2/blobs")];
    while let Some(directory) = directories.pop() {
        for entry in fs_err::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let about = entry.metadata().unwrap();
            if about.is_dir() { directories.push(entry.path()) } else { total += about.len() }
        }
    }
    total >> 20
}

pub(crate) fn layers(bench: &Bench) -> Row {
    let directory = image(bench, "layers", 10, 0);
    let programs = programs(500 << 20);
    for (n, layer) in programs.chunks(programs.len().div_ceil(10)).enumerate() {
        bench.world.context.write(format!("layers/{n}"), layer);
    }
    let reference = |name: &str| bench.world.registry.reference(name);
    let layout = uncompressed(bench, &reference("layers/first:1"), &directory);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        // Registries that have nothing yet.
        let empty = registry(bench);
        let name = empty.reference("ours/layers:1");
        let store = bench.fresh("store");
        ours.push(bench.rpub(&["build-push", "-q", "-t", &name, path(&directory)], Some(&store)));
        println!("  ours stored {} MiB", stored_mib(&empty));
        let empty = registry(bench);
        let target = format!("docker://{}", empty.reference("theirs/layers:1"));
        theirs.push(skopeo(bench, &["--dest-tls-verify=false", &layout, &target]));
        println!("  theirs stored {} MiB", stored_mib(&empty));
    }
    Row {
        name: "make and push ten 50 MiB layers of programs",
        goal: "<= 0.67 of the wall time, no more cpu",
        peer: "skopeo copy dir:",
        ours: median(ours),
        theirs: Some(median(theirs)),
    }
}

pub(crate) fn pull_layer(bench: &Bench) -> Row {
    let directory = image(bench, "pull", 1, 500 << 20);
    let name = bench.world.registry.reference("pull/one:1");
    bench.rpub(&["build-push", "-q", "-t", &name, path(&directory)], Some(&bench.fresh("store")));
    let source = format!("docker://{name}");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let store = bench.fresh("store");
        ours.push(bench.rpub(&["pull", "-q", &name], Some(&store)));
        let target = format!("oci:{}:1", bench.fresh("layout").display());
        theirs.push(skopeo(bench, &["--src-tls-verify=false", &source, &target]));
    }
    Row {
        name: "pull one 500 MiB layer",
        goal: "<= 1.0, < 40 MiB",
        peer: "skopeo copy",
        ours: median(ours),
        theirs: Some(median(theirs)),
    }
}

/// An image of ten small layers in a store of ours and in a directory of skopeo's.
struct Small {
    name: String,
    store: PathBuf,
    layout: String,
}

fn small(bench: &Bench, name: &str) -> Small {
    let directory = image(bench, name, 10, 1 << 20);
    let reference = bench.world.registry.reference(&format!("{name}/ours:1"));
    let store = bench.fresh("store");
    bench.rpub(&["build-push", "-q", "-t", &reference, path(&directory)], Some(&store));
    let layout = uncompressed(bench, &reference, &directory);
    Small { name: reference, store, layout }
}

pub(crate) fn push_again(bench: &Bench) -> Row {
    let small = small(bench, "again");
    let target = format!("docker://{}", bench.world.registry.reference("again/theirs:1"));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..=ROUNDS * 2 {
        ours.push(bench.rpub(&["push", "-q", &small.name], Some(&small.store)));
        theirs.push(skopeo(bench, &["--dest-tls-verify=false", &small.layout, &target]));
    }
    Row {
        name: "push again, nothing new",
        goal: "< 15 ms",
        peer: "skopeo copy dir:",
        ours: median(ours.split_off(1)),
        theirs: Some(median(theirs.split_off(1))),
    }
}

pub(crate) fn mount(bench: &Bench) -> Row {
    let small = small(bench, "mount");
    let first = format!("docker://{}", bench.world.registry.reference("mount/theirs:1"));
    skopeo(bench, &["--dest-tls-verify=false", &small.layout, &first]);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS * 2 {
        let name = bench.world.registry.reference(&format!("mount/ours-{round}:1"));
        bench.rpub(&["tag", &small.name, &name], Some(&small.store));
        ours.push(bench.rpub(&["push", "-q", &name], Some(&small.store)));
        let name = bench.world.registry.reference(&format!("mount/theirs-{round}:1"));
        let target = format!("docker://{name}");
        theirs.push(skopeo(bench, &["--dest-tls-verify=false", &small.layout, &target]));
    }
    Row {
        name: "push to another repository (ten mounts)",
        goal: "< 20 ms",
        peer: "skopeo copy dir:",
        ours: median(ours),
        theirs: Some(median(theirs)),
    }
}

pub(crate) fn pull_again(bench: &Bench) -> Row {
    let small = small(bench, "pull-again");
    let source = format!("docker://{}", small.name);
    let target = format!("oci:{}:1", bench.fresh("layout").display());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..=ROUNDS * 2 {
        ours.push(bench.rpub(&["pull", "-q", &small.name], Some(&small.store)));
        theirs.push(skopeo(bench, &["--src-tls-verify=false", &source, &target]));
    }
    Row {
        name: "pull again, nothing new",
        goal: "<= 0.5",
        peer: "skopeo copy oci:",
        ours: median(ours.split_off(1)),
        theirs: Some(median(theirs.split_off(1))),
    }
}
