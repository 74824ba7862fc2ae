//! Copies and mirrors between registries beside `skopeo`. Both registries are Debian's, and their own
//! work is a large part of what is measured.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::measure::context::{Registry, noise};
use crate::measure::{Bench, Measure, ROUNDS, Row, median, path};

/// How many tags a repository of small images has.
const TAGS: usize = 50;
/// How many one has that is looked at again and again.
const MANY_TAGS: usize = 500;
const LARGE_LAYERS: usize = 5;
const LARGE_BYTES: usize = 365_000_000;

fn registry(bench: &Bench) -> Registry {
    Registry::plain(&bench.world.context).unwrap()
}

fn skopeo(bench: &Bench, args: &[&str]) -> Measure {
    let plain = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    bench.peer(&[&["skopeo", "--insecure-policy", args[0]], &plain[..], &args[1..]].concat())
}

/// Mirrors all tags of `repository` into `to`, as skopeo does.
fn sync(bench: &Bench, repository: &str, to: &Registry) -> Measure {
    let source = bench.world.registry.reference(repository);
    skopeo(bench, &["sync", "--src", "docker", "--dest", "docker", &source, &to.name()])
}

/// Writes a mirror file that says the same.
fn mirror_file(bench: &Bench, repository: &str, to: &Registry, more: &str) -> PathBuf {
    let from = bench.world.registry.reference(repository);
    let to = to.reference(repository);
    let text = format!("version = 1\n[[rules]]\nfrom = \"{from}\"\nto = \"{to}\"\n{more}");
    let file = bench.fresh("mirror");
    bench.world.context.write(file.file_name().unwrap(), text)
}

fn mirror(bench: &Bench, file: &Path, store: &Path) -> Measure {
    bench.rpub(&["mirror", "-q", path(file)], Some(store))
}

/// Copies an image of five layers from one registry to another that has nothing.
pub(crate) fn large(bench: &Bench) -> Row {
    let copies = (0..LARGE_LAYERS).fold(String::new(), |mut text, n| {
        let _ = writeln!(text, "COPY {n} /{n}");
        text
    });
    let directory = bench.world.dockerfile("large", &format!("FROM scratch\n{copies}"));
    for (n, layer) in noise(LARGE_BYTES).chunks(LARGE_BYTES / LARGE_LAYERS).enumerate() {
        bench.world.context.write(format!("large/{n}"), layer);
    }
    let name = bench.world.registry.reference("large/image:1");
    bench.rpub(&["build-push", "-q", "-t", &name, path(&directory)], Some(&bench.fresh("store")));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let empty = registry(bench);
        let target = empty.reference("large/image:1");
        ours.push(bench.rpub(&["copy", "-q", &name, &target], Some(&bench.fresh("store"))));
        let empty = registry(bench);
        let target = format!("docker://{}", empty.reference("large/image:1"));
        theirs.push(skopeo(bench, &["copy", "--quiet", &format!("docker://{name}"), &target]));
    }
    Row {
        name: "copy 365 MB between registries",
        goal: "<= 1.0, <= half the cpu, < 16 MiB",
        peer: "skopeo copy",
        ours: median(ours),
        theirs: Some(median(theirs)),
    }
}

/// Makes a repository of images with three layers in common and one of their own each.
fn small_tags(bench: &Bench, repository: &str) {
    let world = &bench.world;
    let store = bench.fresh("store");
    let base = world.registry.reference(&format!("{repository}-base:1"));
    let copies = "FROM scratch\nCOPY 0 /0\nCOPY 1 /1\nCOPY 2 /2\n";
    let directory = world.dockerfile(&format!("{repository}-base"), copies);
    for n in 0..3 {
        world.context.write(format!("{repository}-base/{n}"), noise((n + 1) << 18));
    }
    bench.rpub(&["build-push", "-q", "-t", &base, path(&directory)], Some(&store));
    for n in 0..TAGS {
        let text = format!("FROM {base}\nCOPY own /own\n");
        let directory = world.dockerfile(&format!("{repository}-{n}"), &text);
        let own = [n.to_string().as_bytes(), &noise(30_000)].concat();
        world.context.write(format!("{repository}-{n}/own"), own);
        let name = world.registry.reference(&format!("{repository}:{n}"));
        bench.rpub(&["build-push", "-q", "-t", &name, path(&directory)], Some(&store));
    }
}

/// Mirrors the repository into registries that have nothing.
pub(crate) fn cold(bench: &Bench) -> Row {
    small_tags(bench, "small/cold");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let empty = registry(bench);
        let file = mirror_file(bench, "small/cold", &empty, "");
        ours.push(mirror(bench, &file, &bench.fresh("store")));
        theirs.push(sync(bench, "small/cold", &registry(bench)));
    }
    Row {
        name: "mirror 50 small tags",
        goal: "<= 0.33",
        peer: "skopeo sync",
        ours: median(ours),
        theirs: Some(median(theirs)),
    }
}

/// Mirrors the repository again.
pub(crate) fn again(bench: &Bench) -> Row {
    small_tags(bench, "small/again");
    repeated(bench, "small/again", "", ("mirror 50 small tags again", "< 50 ms"))
}

/// Names one image five hundred times.
fn many_tags(bench: &Bench, repository: &str) {
    let directory = bench.world.dockerfile(repository, "FROM scratch\nCOPY Dockerfile /\n");
    let name = |n: usize| bench.world.registry.reference(&format!("{repository}:1.{n}.0"));
    let mut args = vec!["build-push".to_owned(), "-q".to_owned(), path(&directory).to_owned()];
    for n in 0..MANY_TAGS {
        args.extend(["-t".to_owned(), name(n)]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    bench.rpub(&args, Some(&bench.fresh("store")));
}

pub(crate) fn many(bench: &Bench) -> Row {
    many_tags(bench, "many/tags");
    repeated(bench, "many/tags", "", ("mirror 500 tags again", "<= 0.1, < 48 MiB"))
}

pub(crate) fn immutable(bench: &Bench) -> Row {
    many_tags(bench, "many/immutable");
    let goal = ("mirror 500 immutable tags again", "no request for a tag");
    repeated(bench, "many/immutable", "immutable = [\"*\"]\n", goal)
}

/// Mirrors a repository once, and then again and again.
fn repeated(
    bench: &Bench,
    repository: &str,
    more: &str,
    (name, goal): (&'static str, &'static str),
) -> Row {
    let (here, there, store) = (registry(bench), registry(bench), bench.fresh("store"));
    let file = mirror_file(bench, repository, &here, more);
    mirror(bench, &file, &store);
    sync(bench, repository, &there);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(mirror(bench, &file, &store));
        theirs.push(sync(bench, repository, &there));
    }
    Row { name, goal, peer: "skopeo sync", ours: median(ours), theirs: Some(median(theirs)) }
}
