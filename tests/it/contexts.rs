//! Build contexts of every kind.

use std::collections::BTreeMap;

use crate::context::{
    LayerFile, Page, Repository, Role, TestCommand, TestContext, WebServer, World, files_of,
    git_daemon, has_tools,
};

const COPY_ALL: &str = "FROM scratch\nCOPY . /all/\n";

/// A user's world and a web server.
struct Place {
    context: TestContext,
    web: WebServer,
}

impl Place {
    fn new() -> Option<Self> {
        let context = TestContext::for_role(Role::Unprivileged)?;
        has_tools(&["git"]).then(|| Self { context, web: WebServer::start() })
    }

    fn build(&self, context: &str) -> TestCommand {
        self.context.rpub(["build", "-q", context])
    }

    /// Builds and returns the image's files.
    fn files(&self, command: TestCommand) -> BTreeMap<String, LayerFile> {
        let output = command.success();
        files_of(&self.context.store(), output.line())
    }

    fn names(&self, command: TestCommand) -> Vec<String> {
        self.files(command).into_keys().collect()
    }
}

/// Makes a tar of files, compressed by `compress`.
fn tar_of(files: &[(&str, &str)], compress: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o640);
        header.set_mtime(1_000_000);
        header.set_uid(1234);
        header.set_gid(99);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    compress(&builder.into_inner().unwrap())
}

fn gzip(tar: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(tar).unwrap();
    encoder.finish().unwrap()
}

fn zstd(tar: &[u8]) -> Vec<u8> {
    zstd::encode_all(tar, 1).unwrap()
}

fn bzip2(tar: &[u8]) -> Vec<u8> {
    use std::io::Read as _;
    let mut out = Vec::new();
    let mut encoder = bzip2::read::BzEncoder::new(tar, bzip2::Compression::fast());
    encoder.read_to_end(&mut out).unwrap();
    out
}

const CONTENT: [(&str, &str); 4] =
    [("Dockerfile", COPY_ALL), (".dockerignore", "ignored"), ("ignored", "1"), ("d/kept", "2")];

#[test]
fn standard_input_is_a_tar_or_a_dockerfile() {
    let Some(place) = Place::new() else { return };
    let all = ["all/.dockerignore", "all/Dockerfile", "all/d/kept", "all/ignored"];
    for compress in [<[u8]>::to_vec, gzip, zstd, bzip2] as [fn(&[u8]) -> Vec<u8>; 4] {
        let files = place.files(place.build("-").input(tar_of(&CONTENT, compress)));
        // The ignore file of a context from elsewhere does not count.
        assert_eq!(files.keys().collect::<Vec<_>>(), all);
        let kept = &files["all/d/kept"];
        assert_eq!((kept.content.as_str(), kept.mode, kept.mtime), ("2", 0o640, 1_000_000));
        assert_eq!(kept.owner, (1234, 99), "an archive says whose its files are");
    }
    let other = [("sub/other", "FROM scratch\nCOPY d /x/\n"), ("d/kept", "2")];
    let other = place.build("-").args(["-f", "sub/other"]).input(tar_of(&other, gzip));
    assert_eq!(place.names(other), ["x/kept"]);
    place.build("-").input("FROM scratch\nENV a=b\n").success();
    let nothing_there = place.build("-").input("FROM scratch\nCOPY a /\n").code(1);
    nothing_there.expect_error("\"a\": not found");
    let misspelt = tar_of(&[("Dockerfile", "FROM scratch\nCOPY kep /\n"), ("kept", "1")], gzip);
    let misspelt = place.build("-").input(misspelt).code(1);
    misspelt.expect_error("did you mean `kept`, in standard input?");
    let left: Vec<_> = fs_err::read_dir(place.context.store().join("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn standard_input_must_be_one_thing() {
    let Some(place) = Place::new() else { return };
    place.build("-").code(1).expect_error("standard input is empty");
    let both = place.build("-").args(["-f", "-"]).input("FROM scratch\n").code(2);
    both.expect_error("can't use stdin for both build context and dockerfile");
    place.context.write("Dockerfile", "FROM scratch\n");
    let ambiguous = place.build("-").args(["-f", "Dockerfile"]).input("FROM scratch\n").code(1);
    ambiguous.expect_error("ambiguous Dockerfile source");
    let cut = tar_of(&CONTENT, gzip);
    let cut = place.build("-").input(&cut[..cut.len() / 2]).code(1);
    cut.expect_error("failed to unpack `standard input`");
    let outside = tar_of(&[("Dockerfile", COPY_ALL)], |tar| {
        let mut tar = tar.to_vec();
        let name = b"../../escape";
        tar[..name.len()].copy_from_slice(name);
        tar[148..156].fill(b' ');
        let sum: u32 = tar[..512].iter().map(|byte| u32::from(*byte)).sum();
        tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar
    });
    place.build("-").input(outside).code(1).expect_error("its name contains `..`");
    assert!(!place.context.store().join("escape").exists());
}

#[test]
fn a_dockerfile_may_be_outside_the_context_or_a_link() {
    let Some(place) = Place::new() else { return };
    let context = &place.context;
    context.write("ctx/.dockerignore", "b\nDockerfile\n.dockerignore\n");
    context.write("ctx/a", "1");
    context.write("ctx/b", "2");
    context.write("elsewhere/one.dockerfile", COPY_ALL);
    std::os::unix::fs::symlink("../elsewhere/one.dockerfile", context.path("ctx/Dockerfile"))
        .unwrap();
    // Read, though the ignore file leaves it out of the context.
    assert_eq!(place.names(place.build("ctx")), ["all/a"]);
    let outside = place.build("ctx").args(["-f", "elsewhere/one.dockerfile"]);
    assert_eq!(place.names(outside), ["all/a"]);
    context.write("elsewhere/one.dockerfile.dockerignore", "a\nDockerfile\n.dockerignore\n");
    let own = place.build("ctx").args(["-f", "elsewhere/one.dockerfile"]);
    assert_eq!(place.names(own), ["all/b"]);
    let stdin = place.build("ctx").args(["-f", "-"]).input(COPY_ALL);
    assert_eq!(place.names(stdin), ["all/a"]);
    context.write("lower/dockerfile", COPY_ALL);
    assert_eq!(place.names(place.build("lower")), ["all/dockerfile"]);
    place.build("absent").code(1).expect_error("the build context `absent` is not a directory");
}

#[test]
fn a_url_is_a_tar_or_a_dockerfile() {
    let Some(place) = Place::new() else { return };
    let page = |body| Page { body, etag: Some("\"one\""), ..Page::default() };
    let tar = place.web.put("/ctx.tar.gz", page(tar_of(&CONTENT, gzip)));
    let all = ["all/.dockerignore", "all/Dockerfile", "all/d/kept", "all/ignored"];
    assert_eq!(place.names(place.build(&tar)), all);
    let files = place.files(place.build(&tar).arg("--no-cache"));
    assert!(files.values().all(|file| file.owner == (1234, 99)), "{files:?}");
    let statuses: Vec<u16> = place.web.asked().iter().map(|asked| asked.status).collect();
    assert_eq!(statuses, [200, 304], "the second build transfers nothing");
    let single = place.web.put("/one", page(COPY_ALL.into()));
    assert_eq!(place.names(place.build(&single)), ["all/context"]);
    place.context.write("ctx/a", "1");
    let by_url = place.build("ctx").args(["-f", &single]);
    assert_eq!(place.names(by_url), ["all/a"]);
    let missing = place.build(&place.web.url("/missing")).code(3);
    missing.expect_error("404 Not Found");
    let no_dockerfile = place.web.put("/bare.tar", page(tar_of(&[("a", "1")], <[u8]>::to_vec)));
    place.build(&no_dockerfile).code(1).expect_error("no Dockerfile in the build context");
}

#[test]
fn a_dockerfile_of_a_tar_must_lie_in_it() {
    let Some(place) = Place::new() else { return };
    let secret = place.context.write("secret", "FROM scratch\nENV secret=1\n");
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "Dockerfile", &secret).unwrap();
    let tar = builder.into_inner().unwrap();
    place.build("-").input(tar).code(1).expect_error("it leads out of it");
}

#[test]
fn a_git_repository_is_a_context() {
    let Some(place) = Place::new() else { return };
    let repository = Repository::new(&place.context, "app");
    repository.write("Dockerfile", COPY_ALL).write(".dockerignore", "run").write("run", "1");
    repository.write("sub/Dockerfile", "FROM scratch\nCOPY . /s/\n").write("sub/x", "2");
    let first = repository.commit("one");
    repository.git(&["tag", "--annotate", "--message", "v1", "v1"]);
    repository.write("new", "3").commit("two");
    let daemon = git_daemon(place.context.path("git"));
    let url = |rest: &str| format!("git://{daemon}/app.git{rest}");
    let old = ["all/.dockerignore", "all/Dockerfile", "all/run", "all/sub/Dockerfile", "all/sub/x"];
    let new = [
        "all/.dockerignore",
        "all/Dockerfile",
        "all/new",
        "all/run",
        "all/sub/Dockerfile",
        "all/sub/x",
    ];
    let names = |rest: &str| place.names(place.build(&url(rest)));
    assert_eq!(names(""), new);
    assert_eq!(names("#v1"), old);
    assert_eq!(names("?tag=v1"), old);
    assert_eq!(names(&format!("#{first}")), old);
    assert_eq!(names("#main:sub"), ["s/Dockerfile", "s/x"]);
    assert_eq!(names("?branch=main&subdir=sub"), ["s/Dockerfile", "s/x"]);
    assert!(names("?keep-git-dir=1").iter().any(|name| name == "all/.git/HEAD"));
    let by_arg = place.build(&url("")).args(["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"]);
    assert!(place.names(by_arg).iter().any(|name| name == "all/.git/HEAD"));
    let other = place.build(&url("#v1")).args(["-f", "sub/Dockerfile"]);
    assert_eq!(place.names(other).len(), 5);
    place.build(&url("#nope")).code(3).expect_error("does not contain ref nope");
    place.build(&url("#main:nope")).code(3).expect_error("`nope` is no directory");
    place.build(&url("#main:../x")).code(3).expect_error("it leads outside");
}
#[test]
fn named_contexts_are_read_when_they_are_needed() {
    let Some(place) = Place::new() else { return };
    let context = &place.context;
    context.write("ctx/Dockerfile", "FROM scratch\nCOPY --from=extra . /e/\n");
    context.write("ctx/.dockerignore", "kept");
    context.write("extra/.dockerignore", "left\n.dockerignore\n");
    context.write("extra/kept", "1");
    context.write("extra/left", "2");
    let with =
        |place: &Place, at: &str| place.build("ctx").arg(format!("--build-context=extra={at}"));
    // Its own ignore file counts, not that of the main context.
    assert_eq!(place.names(with(&place, "extra")), ["e/kept"]);
    let url = place.web.url("/unneeded.tar");
    let unneeded = with(&place, "extra").arg(format!("--build-context=other={url}"));
    assert_eq!(place.names(unneeded), ["e/kept"]);
    assert!(place.web.asked().is_empty());
    let tar = Page { body: tar_of(&[("t", "1")], gzip), ..Page::default() };
    let tar = place.web.put("/extra.tar", tar);
    assert_eq!(place.names(with(&place, &tar)), ["e/t"]);
    let repository = Repository::new(context, "extra");
    repository.write("g/h", "1").commit("one");
    let git = format!("git://{}/extra.git#main:g", git_daemon(context.path("git")));
    assert_eq!(place.names(with(&place, &git)), ["e/h"]);
    let absent = with(&place, "absent").code(1);
    absent.expect_error("failed to get the build context `extra`");
    place.build("ctx").arg("--build-context=extra").code(2).expect_error("write `NAME=PLACE`");
}

#[test]
fn images_stand_in_for_others() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    if !has_tools(&["skopeo"]) {
        return;
    }
    let context = &world.context;
    let directory = world.dockerfile(
        "ctx",
        "FROM absent.example/base\nCOPY --from=files /etc/passwd /copied\nRUN cat /copied\n",
    );
    let layout = context.path("layout");
    let copied = context
        .tool("skopeo")
        .args(["--insecure-policy", "copy", "--src-tls-verify=false"])
        .arg(format!("docker://{}", world.hub.reference("library/busybox:latest")))
        .arg(format!("oci:{}:one", layout.display()))
        .run();
    copied.expect_code(0);
    let index = fs_err::read_to_string(layout.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let build = |base: &str| {
        let build = context.rpub(["build", "-q"]).arg(&directory);
        build
            .arg("--build-context=files=docker-image://busybox")
            .arg(format!("--build-context=absent.example/base={base}"))
    };
    let by_tag = build("oci-layout://layout:one").success();
    let by_digest = build(&format!("oci-layout://layout@{digest}")).success();
    assert_eq!(by_tag.line(), by_digest.line());
    build("docker-image://busybox:latest").success();
    let missing = build("oci-layout://layout").code(3);
    missing.expect_error("it has no image `latest`");
    missing.expect_error("it has one");
    build("oci-layout://ctx").code(1).expect_error("it is no image layout");
    let manifest = layout.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs_err::read(manifest).unwrap()).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let layer = layout.join("blobs/sha256").join(layer.strip_prefix("sha256:").unwrap());
    let mut bytes = fs_err::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs_err::write(&layer, bytes).unwrap();
    let fresh = build("oci-layout://layout:one").env("RPUB_STORE", context.path("fresh")).code(7);
    fresh.expect_error("cannot be read");
    let main = context.rpub(["build", "-q", "docker-image://busybox"]).code(1);
    main.expect_error("is not a directory");
}

/// Builds with a date and returns that of the files that it made.
fn date_of(place: &Place, context: &str, args: &[&str]) -> i64 {
    use std::os::unix::fs::MetadataExt as _;
    place.build(context).args(args).args(["-o", "out"]).success();
    let date = place.context.path("out/d").metadata().unwrap().mtime();
    fs_err::remove_dir_all(place.context.path("out")).unwrap();
    date
}

#[test]
fn contexts_and_stages_date_a_build() {
    let Some(place) = Place::new() else { return };
    let context = &place.context;
    let repository = Repository::new(context, "dated");
    repository.write("Dockerfile", "FROM scratch\nCOPY none /\n").commit("one");
    let git = format!("git://{}/dated.git#main", git_daemon(context.path("git")));
    let missing = place.build(&git).code(1);
    missing.expect_error(&format!("the build context is {git}"));
    repository.write("Dockerfile", "FROM scratch\nWORKDIR /d\n").commit("two");
    let by = |name: &str| format!("--build-arg=SOURCE_DATE_EPOCH={name}");
    let (committed, modified) = (981_173_106, 784_111_777);
    assert_eq!(date_of(&place, &git, &[&by("context")]), committed);

    context.write("ctx/Dockerfile", "FROM scratch\nWORKDIR /d\n");
    let named = format!("--build-context=src={git}");
    assert_eq!(date_of(&place, "ctx", &[&by("src"), &named]), committed);
    place.build("ctx").arg(by("context")).code(2).expect_error("is a local directory");
    place.build("ctx").arg(by("nothing")).code(2).expect_error("invalid SOURCE_DATE_EPOCH");

    let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
    let body = tar_of(&[("Dockerfile", "FROM scratch\nWORKDIR /d\n")], gzip);
    let tar = Page { body: body.clone(), last_modified: date, ..Page::default() };
    let tar = place.web.put("/dated.tar", tar);
    assert_eq!(date_of(&place, &tar, &[&by("context")]), modified);
    // Without a time, that of the newest file counts.
    let undated = place.web.put("/undated.tar", Page { body, ..Page::default() });
    assert_eq!(date_of(&place, &undated, &[&by("context")]), 1_000_000);

    let file = Page { body: b"x".to_vec(), last_modified: date, ..Page::default() };
    let file = place.web.put("/a/file", file);
    let stage = |last: &str| {
        let text = format!(
            "ARG SITE={file}\nARG SOURCE_DATE_EPOCH=Src\nFROM scratch AS src\nARG REST=\n{last}\n\
             FROM scratch\nWORKDIR /d\n"
        );
        context.write("ctx/Dockerfile", text);
    };
    stage("ADD ${SITE}$REST /x");
    assert_eq!(date_of(&place, "ctx", &[]), modified);
    for wrong in ["ADD Dockerfile /x", "ENV a=b", "ADD $SITE /x\nADD $SITE /y"] {
        stage(wrong);
        place.build("ctx").code(1).expect_error("the stage `src` has no date");
    }
}
