//! `COPY`, `ADD` and `WORKDIR` from end to end: the layers that a registry gets.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::context::{Output, Registry, Role, World, has_tools, verify_image};

/// Returns the entries of an image's layers: `number path mode uid:gid`, then a file's content or a
/// link's target.
fn entries(registry: &Registry, repository: &str) -> Vec<String> {
    verify_image(registry, repository, "1");
    let (_, manifest) = registry.manifest(repository, "1").unwrap();
    let mut lines = Vec::new();
    for (number, layer) in manifest["layers"].as_array().unwrap().iter().enumerate() {
        let blob = registry.blob(repository, layer["digest"].as_str().unwrap());
        let mut archive = tar::Archive::new(MultiGzDecoder::new(blob.as_slice()));
        let entries = archive.entries().unwrap();
        lines.extend(entries.map(|entry| describe(number, &mut entry.unwrap())));
    }
    lines
}

fn describe<R: Read>(number: usize, entry: &mut tar::Entry<'_, R>) -> String {
    let mut content = Vec::new();
    entry.read_to_end(&mut content).unwrap();
    let content = String::from_utf8(content).unwrap_or_else(|_| "(bytes)".to_owned());
    let path = entry.path().unwrap().display().to_string();
    let link = entry.link_name().unwrap().map(|link| link.display().to_string());
    let header = entry.header();
    let owner = format!("{}:{}", header.uid().unwrap(), header.gid().unwrap());
    let line = format!("{number} {path} {:o} {owner}", header.mode().unwrap());
    match (header.entry_type(), link) {
        (tar::EntryType::Symlink, Some(link)) => format!("{line} -> {link}"),
        (tar::EntryType::Link, Some(link)) => format!("{line} => {link}"),
        (tar::EntryType::Regular, _) => format!("{line} {}", content.trim_end()),
        _ => line,
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Returns a tar of one file, `in/file`.
fn tar_of_a_file() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o640);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(1);
    builder.append_data(&mut header, "in/file", &b"tar\n"[..]).unwrap();
    builder.into_inner().unwrap()
}

fn project(role: Role, dockerfile: &str) -> Option<World> {
    let world = World::new(role)?;
    world.dockerfile("app", dockerfile);
    for (path, content) in [
        ("app/src/a.txt", "a\n"),
        ("app/src/deep/b.txt", "b\n"),
        ("app/src/deep/c.md", "c\n"),
        ("app/docs/x.md", "x\n"),
        ("app/docs/keep.md", "k\n"),
        ("app/docs/y.txt", "y\n"),
    ] {
        world.context.write(path, content);
    }
    Some(world)
}

fn build_push(world: &World, args: &[&str]) -> Output {
    world.build_push("team/app:1", &world.context.path("app")).args(args).run()
}

const EVERY_FLAG: &str = "\
FROM busybox AS build
RUN mkdir -p /out/a/b /out/c && echo one > /out/a/b/f && ln /out/a/b/f /out/a/b/g \\
 && ln -s f /out/a/b/l && chmod 2750 /out/a/b && chown 5:6 /out/a/b/f && echo no > /out/c/no
FROM scratch
COPY --parents src/**/*.txt /p/
COPY --exclude=*.md --exclude=!keep.md docs /d/
COPY --link --chown=3:4 src/a.txt /l/new/
COPY --chmod=u+x,go= src/a.txt /m/
COPY --chmod=0701 src/a.txt /n/
COPY src/a.txt <<EOF <<'OTHER' /i/
${novar:-text}
EOF
${novar}
OTHER
COPY --from=build --parents /out/./a /b/
ADD archive /t/
ADD --chown=1:2 data.tgz /t
ADD --unpack=false data.tgz /u/
USER 11:12
WORKDIR /w/x
WORKDIR /w/x
";

const EVERY_LAYER: &str = "\
0 p/ 755 0:0
0 p/src/ 755 0:0
0 p/src/a.txt 644 0:0 a
0 p/src/deep/ 755 0:0
0 p/src/deep/b.txt 644 0:0 b
1 d/ 755 0:0
1 d/keep.md 644 0:0 k
1 d/y.txt 644 0:0 y
2 l/ 755 3:4
2 l/new/ 755 3:4
2 l/new/a.txt 644 3:4 a
3 m/ 755 0:0
3 m/a.txt 700 0:0 a
4 n/ 701 0:0
4 n/a.txt 701 0:0 a
5 i/ 755 0:0
5 i/EOF 644 0:0 text
5 i/OTHER 644 0:0 ${novar}
5 i/a.txt 644 0:0 a
6 b/ 755 0:0
6 b/a/ 755 0:0
6 b/a/b/ 2750 0:0
6 b/a/b/f 644 5:6 one
6 b/a/b/g 644 5:6 => b/a/b/f
6 b/a/b/l 777 0:0 -> f
7 t/ 755 0:0
7 t/in/ 755 0:0
7 t/in/file 640 7:8 tar
8 t/ 755 0:0
8 t/in/ 755 0:0
8 t/in/file 640 1:2 tar
9 u/ 755 0:0
9 u/data.tgz 644 0:0 (bytes)
10 w/ 755 11:12
10 w/x/ 755 11:12
";

fn every_flag_as(role: Role) {
    let Some(world) = project(role, EVERY_FLAG) else { return };
    let directory = world.context.path("app");
    let tar = tar_of_a_file();
    fs_err::write(directory.join("archive"), &tar).unwrap();
    fs_err::write(directory.join("data.tgz"), gzip(&tar)).unwrap();
    build_push(&world, &[]).expect_code(0);
    let lines = entries(&world.registry, "team/app");
    assert_eq!(lines, EVERY_LAYER.lines().collect::<Vec<_>>());
    // The second WORKDIR has its layer too, an empty one.
    let (_, manifest) = world.registry.manifest("team/app", "1").unwrap();
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 12);
}

#[test]
fn every_flag_as_root() {
    every_flag_as(Role::Root);
}

#[test]
fn every_flag_as_user() {
    every_flag_as(Role::Unprivileged);
}

/// Copies a base image to the registry, and returns its reference there.
fn base_in_registry(world: &World, name: &str) -> String {
    let source = format!("docker://{}", world.hub.reference(&format!("library/{name}:latest")));
    let reference = world.registry.reference(&format!("base/{name}:latest"));
    let flags = ["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"];
    let target = format!("docker://{reference}");
    world.context.tool("skopeo").args(flags).args([&source, &target]).run().expect_code(0);
    reference
}

/// Returns the requests for the content of layers of the base called `name`.
fn layers_fetched(world: &World, name: &str) -> Vec<String> {
    let (_, manifest) = world.registry.manifest(&format!("base/{name}"), "latest").unwrap();
    let layers = manifest["layers"].as_array().unwrap().clone();
    let names =
        |line: &str| layers.iter().any(|layer| line.contains(layer["digest"].as_str().unwrap()));
    let requests = world.registry.requests();
    requests.into_iter().filter(|line| line.starts_with("GET") && names(line)).collect()
}

/// Returns how the step whose name contains `text` ended.
fn outcome(output: &Output, text: &str) -> String {
    output.expect_code(0);
    let events = output.events();
    let find = |is_it: &dyn Fn(&Value) -> bool| events.iter().find(|event| is_it(event)).cloned();
    let started = find(&|event| {
        event["event"] == "step_started" && event["name"].as_str().unwrap().contains(text)
    });
    let step = started.unwrap_or_else(|| panic!("no step {text}\n{output}"))["step"].clone();
    let finished = find(&|event| event["event"] == "step_finished" && event["step"] == step);
    finished.unwrap()["outcome"].as_str().unwrap().to_owned()
}

#[test]
fn linked_layers_need_no_base_and_outlive_it() {
    let copies = "COPY --link src /app/src/\nADD --link docs /app/docs/\n";
    let Some(world) = project(Role::Unprivileged, copies) else { return };
    if !has_tools(&["skopeo"]) {
        return;
    }
    let build = || build_push(&world, &["--progress=rawjson"]);
    for (name, expected) in [("busybox", "done"), ("ubuntu", "cached")] {
        let base = base_in_registry(&world, name);
        world.dockerfile("app", &format!("FROM {base}\n{copies}"));
        let output = build();
        assert_eq!(outcome(&output, "src /app/src/"), expected);
        assert_eq!(outcome(&output, "docs /app/docs/"), expected);
        assert_eq!(layers_fetched(&world, name), Vec::<String>::new(), "{name}");
        verify_image(&world.registry, "team/app", "1");
    }

    // Even after a step that is redone.
    world.dockerfile("app", "FROM busybox\nCOPY --link src /1/\nCOPY --link docs /2/\n");
    assert_eq!(outcome(&build(), "docs /2/"), "done");
    world.context.write("app/src/a.txt", "changed\n");
    let changed = build();
    assert_eq!(outcome(&changed, "src /1/"), "done");
    assert_eq!(outcome(&changed, "docs /2/"), "cached");
}

#[test]
fn a_linked_layer_does_not_follow_links_below() {
    let dockerfile = "\
FROM busybox
RUN mkdir -m 700 /real && ln -s real /link && chown 9:9 /real
COPY src/a.txt /link/plain
COPY --link src/a.txt /link/linked
";
    let Some(world) = project(Role::Unprivileged, dockerfile) else { return };
    build_push(&world, &[]).expect_code(0);
    let lines = entries(&world.registry, "team/app");
    let expected =
        ["2 real/ 700 9:9", "2 real/plain 644 0:0 a", "3 link/ 755 0:0", "3 link/linked 644 0:0 a"];
    assert_eq!(lines[lines.len() - 4..], expected);
}

#[test]
fn a_rebuilt_source_with_the_same_files_changes_nothing() {
    let dockerfile = "\
FROM busybox AS build
ARG VALUE=1
RUN echo $VALUE > /noise && mkdir /out && echo same > /out/f
FROM scratch
COPY --from=build /out /out
";
    let Some(world) = project(Role::Unprivileged, dockerfile) else { return };
    let first = build_push(&world, &["--progress=rawjson"]);
    assert_eq!(outcome(&first, "COPY --from"), "done");
    let again = build_push(&world, &["--progress=rawjson", "--build-arg=VALUE=2"]);
    assert_eq!(outcome(&again, "RUN echo"), "done");
    assert_eq!(outcome(&again, "COPY --from"), "cached");
}

#[test]
fn what_cannot_be_copied_says_why() {
    let Some(world) = project(Role::Unprivileged, "FROM scratch\n") else { return };
    let directory = world.context.path("app");
    world.context.write("app/.dockerignore", "# not these\ndocs/*.md\n");
    let mut damaged = tar_of_a_file();
    damaged.truncate(514);
    fs_err::write(directory.join("damaged.tar"), &damaged).unwrap();
    let mut cut = gzip(&[tar_of_a_file(), vec![7; 4096]].concat());
    cut.truncate(cut.len() - 12);
    fs_err::write(directory.join("cut.tgz"), cut).unwrap();
    world.context.write("app/not-a.tar", "no tar at all\n");
    let cases: &[(&str, &[&str])] = &[
        ("COPY missing /", &["\"missing\": not found"]),
        ("COPY src/a.tx /", &["\"src/a.tx\": not found", "did you mean `src/a.txt`"]),
        ("COPY docs/x.md /", &["\"docs/x.md\": not found", "line 2 of .dockerignore", "docs/*.md"]),
        ("COPY --parents src/./none /", &["\"src/./none\": not found"]),
        ("COPY src/a.txt docs/y.txt /out", &["must be a directory and end with a /"]),
        ("COPY src/*.txt docs/*.txt /out", &["must be a directory and end with a /"]),
        ("COPY --chmod=99 src /", &["invalid mode `99`"]),
        ("COPY --exclude=[a src /", &["invalid pattern `[a`"]),
        ("COPY src/[a /", &["invalid pattern `src/[a`"]),
        ("COPY --chown=nobody src /", &["unknown user `nobody`"]),
        ("COPY --link --chown=nobody src /", &["unknown user `nobody`", "give `--chown` numbers"]),
        (
            "COPY --from=busybox /bin/busybos /",
            &[
                "\"/bin/busybos\": not found",
                "did you mean `/bin/busybox`, in the image `busybox:latest`?",
            ],
        ),
        (
            "COPY --from=busybox /none/x /",
            &["\"/none/x\": not found", "the image `busybox:latest` has no such file"],
        ),
        ("ADD damaged.tar /", &["failed to extract `damaged.tar`"]),
        ("ADD cut.tgz /", &["failed to extract `cut.tgz`"]),
    ];
    for (line, texts) in cases {
        world.dockerfile("app", &format!("FROM scratch\n{line}\n"));
        let output = world.context.rpub(["build"]).arg(&directory).run();
        output.expect_code(1);
        for text in texts.iter().chain([line]) {
            output.expect_error(text);
        }
    }
    // What is no archive is copied, and a pattern may match nothing.
    world.dockerfile("app", "FROM scratch\nADD not-a.tar /\nCOPY none* /x/\n");
    world.context.rpub(["build"]).arg(&directory).run().expect_code(0);
}

#[test]
fn a_file_of_an_image_is_copied() {
    let dockerfile = "FROM scratch\nCOPY --from=busybox /bin/busybox /bin/sh\n";
    let Some(world) = project(Role::Unprivileged, dockerfile) else { return };
    build_push(&world, &[]).expect_code(0);
    let lines = entries(&world.registry, "team/app");
    assert_eq!(lines[0], "0 bin/ 755 0:0");
    assert!(lines.len() == 2 && lines[1].starts_with("0 bin/sh 755 0:0"), "{lines:?}");
}
