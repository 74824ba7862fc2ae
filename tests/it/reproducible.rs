//! `--reproducible`: the same files and bases give the same manifest, whoever builds where and when.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::context::{Role, World, has_tools, program};

const DOCKERFILE: &str = "\
FROM busybox AS tools
RUN mkdir /tools && echo tool > /tools/tool && chmod 755 /tools/tool
FROM busybox
WORKDIR /srv/app
COPY . .
COPY --link lib /opt/lib
COPY --from=tools /tools /usr/tools
ADD archive.tar /unpacked/
RUN cat lib/a > /made && mkdir -p /deep/er && ln -s /made /deep/er/link
CMD [\"cat\", \"/made\"]
";

/// What differs between two builds.
struct Circumstances {
    role: Role,
    umask: &'static str,
    /// What a checkout under that umask makes of files and directories.
    modes: (u32, u32),
    /// How long ago the checkout was.
    age: Duration,
    cores: &'static str,
}

fn set_mode(path: &std::path::Path, mode: u32) {
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Builds in a world of its own; returns the digest of the whole archive, and the metadata.
fn build(circumstances: &Circumstances, args: &[&str]) -> Option<(Vec<u8>, Value)> {
    let world = World::new(circumstances.role)?;
    let context = &world.context;
    let checkout = context.path("checkout");
    world.dockerfile("checkout", DOCKERFILE);
    for (path, content) in [
        ("checkout/lib/a", "a"),
        ("checkout/lib/b", "b"),
        ("checkout/run", "#!/bin/sh\n"),
        ("checkout/src/deep/file", "file"),
    ] {
        context.write(path, content);
    }
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_600_000_000);
    archive.append_data(&mut header, "in/the/archive", &b"x"[..]).unwrap();
    context.write("checkout/archive.tar", archive.into_inner().unwrap());
    let (file, directory) = circumstances.modes;
    for name in ["lib/a", "lib/b", "src/deep/file", "Dockerfile", "archive.tar"] {
        set_mode(&checkout.join(name), file);
        let time = SystemTime::now() - circumstances.age;
        let opened = fs_err::OpenOptions::new().write(true).open(checkout.join(name)).unwrap();
        opened.file().set_modified(time).unwrap();
    }
    set_mode(&checkout.join("run"), file | 0o100);
    for name in ["lib", "src", "src/deep"] {
        set_mode(&checkout.join(name), directory);
    }

    let Circumstances { umask, cores, .. } = circumstances;
    let script = format!("umask {umask}; exec taskset -c {cores} \"$@\"");
    let built = context.command("sh").args(["-c", &script, "sh"]).arg(program());
    let built = built.args(["build", "--reproducible", "--metadata-file=metadata.json"]);
    built.args(args).args(["-o", "type=oci,dest=image.tar", "checkout"]).run().expect_code(0);
    let text = fs_err::read_to_string(context.path("metadata.json")).unwrap();
    let metadata: Value = serde_json::from_str(&text).unwrap();
    let archive = fs_err::read(context.path("image.tar")).unwrap();
    Some((Sha256::digest(&archive).to_vec(), metadata))
}

fn all_cores() -> &'static str {
    match std::thread::available_parallelism().map_or(1, usize::from) {
        1 => "0",
        _ => "0,1",
    }
}

#[test]
fn who_builds_where_and_when_does_not_matter() {
    if !has_tools(&["taskset"]) {
        return;
    }
    let root = Circumstances {
        role: Role::Root,
        umask: "022",
        modes: (0o644, 0o755),
        age: Duration::ZERO,
        cores: all_cores(),
    };
    let user = Circumstances {
        role: Role::Unprivileged,
        umask: "077",
        modes: (0o600, 0o700),
        age: Duration::from_secs(400 * 24 * 60 * 60),
        cores: "0",
    };
    for args in [&[][..], &["--build-arg", "SOURCE_DATE_EPOCH=1700000000"], &["--squash"]] {
        let (Some(first), Some(second)) = (build(&root, args), build(&user, args)) else { return };
        assert_eq!(first.1["containerimage.digest"], second.1["containerimage.digest"], "{args:?}");
        assert_eq!(first, second, "the archives are the same bytes too: {args:?}");
    }
}

#[test]
fn layers_from_the_cache_and_new_ones_give_the_same_image() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    world.dockerfile("app", DOCKERFILE.replace("ADD archive.tar /unpacked/\n", "").as_str());
    world.context.write("app/lib/a", "a");
    let build = |args: &[&str]| {
        let built = world.context.rpub(["build", "-q"]).args(args).arg("app").run();
        built.expect_code(0);
        built.stdout
    };
    // Made without the flag, these layers have other times and wait in the cache.
    build(&[]);
    let cached = build(&["--reproducible"]);
    assert_eq!(build(&["--reproducible", "--no-cache"]), cached);
    let future = world.context.rpub(["build", "--reproducible"]);
    let future = future.args(["--build-arg", "SOURCE_DATE_EPOCH=99999999999", "app"]).code(2);
    assert!(future.stderr.contains("has passed"), "{}", future.stderr);
}
