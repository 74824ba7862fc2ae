//! `-o`: what comes out is what the Dockerfile says, for root and for an ordinary user, and other
//! tools read it.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::context::{Output, Role, TestCommand, World, has_tools, program};

const DOCKERFILE: &str = "\
FROM busybox
RUN mkdir -m 0555 /ro && echo kept > /ro/file && ln /ro/file /linked && chown 33:44 /ro/file
RUN echo gone > /gone && echo one > /changed && mkdir /hidden && echo x > /hidden/x
RUN rm /gone && echo two > /changed && rm -r /hidden && mkdir /hidden && ln -s /etc/passwd /absolute
COPY file /
CMD [\"cat\", \"/changed\"]
";

struct Project {
    world: World,
}

impl Project {
    fn new(role: Role) -> Option<Self> {
        let world = World::new(role)?;
        world.dockerfile("app", DOCKERFILE);
        world.context.write("app/file", "from the context\n");
        world.context.directory("out");
        Some(Self { world })
    }

    fn build(&self, args: &[&str]) -> TestCommand {
        self.world.context.rpub(["build"]).args(args).arg(self.path("app"))
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.world.context.path(relative)
    }

    /// Runs a tool of the machine and returns what it prints.
    fn tool(&self, program: &str, args: &[&str]) -> String {
        let output = self.world.context.tool(program).args(args).run();
        output.expect_code(0);
        output.stdout
    }

    fn manifest(&self, repository: &str, tag: &str) -> Value {
        let manifest = self.world.registry.manifest(repository, tag);
        manifest.unwrap_or_else(|| panic!("no {repository}:{tag}")).1
    }
}

fn read(path: &Path) -> String {
    fs_err::read_to_string(path).unwrap()
}

/// Lists a tar: name to mode, owner and, of a link, its target.
fn listing(project: &Project, tar: &str) -> BTreeMap<String, String> {
    let text = project.tool("tar", &["--numeric-owner", "-tvf", tar]);
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = words[5].trim_end_matches('/').to_owned();
        (name, format!("{} {} {}", words[0], words[1], words[6..].join(" ")).trim_end().to_owned())
    };
    text.lines().map(entry).collect()
}

#[test]
fn files_come_out_for_every_user() {
    for role in [Role::Root, Role::Unprivileged] {
        let Some(project) = Project::new(role) else { continue };
        project.build(&["-o", "out/files"]).success();
        let out = project.path("out/files");
        assert_eq!(read(&out.join("changed")), "two\n");
        assert_eq!(read(&out.join("file")), "from the context\n");
        assert_eq!(read(&out.join("ro/file")), "kept\n");
        assert!(!out.join("gone").exists());
        assert_eq!(fs_err::read_dir(out.join("hidden")).unwrap().count(), 0);
        assert_eq!(fs_err::read_link(out.join("absolute")).unwrap(), Path::new("/etc/passwd"));
        let mode = |name: &str| out.join(name).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode("ro"), 0o555);
        let (file, link) = (out.join("ro/file").metadata(), out.join("linked").metadata());
        let (file, link) = (file.unwrap(), link.unwrap());
        assert_eq!(file.ino(), link.ino(), "hard links stay");
        let own = out.metadata().unwrap().uid();
        let expected =
            if role == Role::Root { (33, 44) } else { (own, out.metadata().unwrap().gid()) };
        assert_eq!((file.uid(), file.gid()), expected);
        let left = fs_err::read_dir(&out).unwrap().flatten();
        let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with(".rpub"));
        assert_eq!(left.count(), 0, "nothing temporary stays");

        // A tar has the owners whoever writes it.
        project.build(&["-o", "type=tar,dest=out/files.tar"]).success();
        let tar = listing(&project, "out/files.tar");
        assert_eq!(tar["linked"], "-rw-r--r-- 33/44", "{tar:?}");
        assert_eq!(tar["ro/file"], "hrw-r--r-- 33/44 link to linked", "the first name is the file");
        assert!(!tar.contains_key("gone") && !tar.contains_key("hidden/x"), "{tar:?}");
    }
}

#[test]
fn a_second_output_replaces_files_and_deletes_nothing() {
    let Some(project) = Project::new(Role::Unprivileged) else { return };
    let context = &project.world.context;
    context.write("out/files/own", "mine");
    context.write("out/files/changed", "old");
    context.write("outside/file", "untouched");
    symlink(project.path("outside"), project.path("out/files/ro")).unwrap();
    symlink(project.path("outside/file"), project.path("out/files/file")).unwrap();
    project.build(&["-o", "out/files"]).success();
    project.build(&["-o", "type=local,dest=out/files"]).success();
    assert_eq!(read(&project.path("out/files/own")), "mine");
    assert_eq!(read(&project.path("out/files/changed")), "two\n");
    assert_eq!(read(&project.path("outside/file")), "untouched");
    assert_eq!(fs_err::read_dir(project.path("outside")).unwrap().count(), 1);
    project.build(&["-o", "type=local,dest=out/files,mode=delete"]).success();
    assert!(!project.path("out/files/own").exists());
    assert_eq!(read(&project.path("out/files/changed")), "two\n");
    assert_eq!(read(&project.path("outside/file")), "untouched");
}

#[test]
fn standard_output_takes_one_tar_and_nothing_else() {
    let Some(project) = Project::new(Role::Unprivileged) else { return };
    let context = &project.world.context;
    // The program and its arguments are those of the script.
    let shell = |script: &str| {
        let shell = context.command("sh").args(["-c", script, "sh"]).arg(program());
        shell.args(["build", "-o", "-", "app"]).run()
    };
    let piped = shell("\"$@\" | tar -tf -");
    piped.expect_code(0);
    assert!(piped.stdout.lines().any(|line| line == "ro/file"), "{piped}");
    let broken = shell("\"$@\" | head -c 10");
    assert!(!broken.stderr.contains("error"), "{broken}");
    let two = project.build(&["-o", "-", "-o", "type=oci"]).code(2);
    assert!(two.stderr.contains("only one output can go to standard output"), "{}", two.stderr);
    if has_tools(&["script"]) {
        let terminal = shell("script -qec \"$*\" /dev/null");
        assert!(terminal.stdout.contains("refusing to write to console"), "{terminal}");
    }
}

#[test]
fn bad_destinations_are_refused_before_anything_is_built() {
    let Some(project) = Project::new(Role::Unprivileged) else { return };
    project.world.context.write("out/file", "");
    for (output, expected) in [
        ("out/file", "is a file"),
        ("type=tar,dest=out", "is a directory"),
        ("type=oci,dest=out/none/x.tar", "does not exist"),
        ("/proc/1/out", "is not writable"),
        ("type=tar,dest=/etc/x.tar", "is not writable"),
        ("type=locl,dest=x", "did you mean `local`?"),
        ("type=tar,dset=x", "did you mean `dest`?"),
        ("type=image,push=true", "tag is needed when pushing to registry"),
        ("type=image,name=a.example/x:1,push=true,push-by-digest=true", "by digest"),
    ] {
        let output = project.build(&["-o", output]).run();
        assert!(!output.status.success() && output.stderr.contains(expected), "{output}");
        assert!(!output.stderr.contains("RUN"), "nothing was built: {output}");
    }
}

#[test]
fn a_full_disk_leaves_no_half_file() {
    let Some(project) = Project::new(Role::Root) else { return };
    project.build(&[]).success();
    let small = project.path("out");
    let program = project
        .build(&["-o", "type=oci,dest=out/image.tar", "-o", "type=local,dest=out/files"])
        .describe();
    let script = format!(
        "mount -t tmpfs -o size=256k tmpfs '{0}' || exit 77; echo old > '{0}/image.tar'; \
         {program} >/dev/null; echo code $?; ls -A '{0}'; cat '{0}/image.tar'",
        small.display()
    );
    let output = project.world.context.tool("unshare").args(["-m", "sh", "-c", &script]);
    let environment = project.world.context.store();
    let output = output.env("RPUB_STORE", environment).run();
    if output.stdout.is_empty() {
        eprintln!("SKIPPED: no mounts here");
        return;
    }
    assert!(output.stdout.starts_with("code 1\n"), "{output}");
    assert!(output.stderr.contains("No space left on device"), "{output}");
    assert_eq!(output.stdout.lines().last(), Some("old"), "{output}");
    assert!(!output.stdout.contains(".rpub"), "{output}");
}

/// Unpacks an OCI layout with a tool that is not ours; returns the root file system.
fn unpacked(project: &Project, layout: &str, name: &str) -> PathBuf {
    let bundle = format!("{layout}.bundle");
    project
        .tool("umoci", &["unpack", "--rootless", "--image", &format!("{layout}:{name}"), &bundle]);
    project.path(&bundle).join("rootfs")
}

#[test]
fn archives_are_read_by_other_tools() {
    let Some(project) = Project::new(Role::Unprivileged) else { return };
    if !has_tools(&["skopeo", "umoci"]) {
        return;
    }
    let built = project.build(&[
        "-t",
        "example.com/team/app:1",
        "-o",
        "type=oci,dest=out/oci.tar",
        "-o",
        "type=docker,dest=out/docker.tar",
        "-o",
        "type=oci,tar=false,dest=out/layout",
        "--metadata-file=out/metadata.json",
        "--iidfile=out/id",
    ]);
    built.success();
    let metadata: Value = serde_json::from_str(&read(&project.path("out/metadata.json"))).unwrap();
    let digest = metadata["containerimage.digest"].as_str().unwrap();
    assert_eq!(metadata["image.name"], "example.com/team/app:1");
    assert_eq!(metadata["containerimage.config.digest"], read(&project.path("out/id")));
    let copy = |from: &str, to: &str| {
        project.tool("skopeo", &["--insecure-policy", "copy", from, to]);
    };
    copy("oci-archive:out/oci.tar:1", "oci:out/from-oci:x");
    copy("docker-archive:out/docker.tar:example.com/team/app:1", "oci:out/from-docker:x");
    for (layout, name) in [("out/layout", "1"), ("out/from-oci", "x"), ("out/from-docker", "x")] {
        let root = unpacked(&project, layout, name);
        assert_eq!(read(&root.join("changed")), "two\n", "{layout}");
        assert!(!root.join("gone").exists(), "{layout}");
        assert_eq!(read(&root.join("ro/file")), "kept\n", "{layout}");
    }
    let inspected = project.tool("skopeo", &["inspect", "oci-archive:out/oci.tar:1"]);
    assert!(inspected.contains(digest), "{inspected}");
    // The store was not asked for it.
    assert!(!project.world.context.rpub(["images"]).success().stdout.contains("app"));
    // The same layout takes a second image, and the first stays.
    let more = ["-t", "example.com/team/app:2", "-o", "type=oci,tar=false,dest=out/layout"];
    project.build(&more).args(["--label", "a=b"]).success();
    for tag in ["1", "2"] {
        project.tool("skopeo", &["inspect", &format!("oci:out/layout:{tag}")]);
    }
}

#[test]
fn compression_is_that_of_the_output_and_runs_no_step_again() {
    let Some(project) = Project::new(Role::Unprivileged) else { return };
    let reference = project.world.registry.reference("team/app:gzip");
    project.build(&["-t", &reference, "--push"]).success();
    let media_types = |tag: &str| -> Vec<String> {
        let manifest = project.manifest("team/app", tag);
        let layers = manifest["layers"].as_array().unwrap().iter();
        layers.map(|layer| layer["mediaType"].as_str().unwrap().to_owned()).collect()
    };
    let base = media_types("gzip").len() - 4;
    for (tag, attributes, new, old) in [
        ("zstd", "compression=zstd,compression-level=7", "tar+zstd", "tar+gzip"),
        ("all", "compression=zstd,force-compression=true", "tar+zstd", "tar+zstd"),
        ("plain", "compression=uncompressed", "v1.tar", "tar+gzip"),
        ("docker", "oci-mediatypes=false", "docker.image.rootfs", "docker.image.rootfs"),
    ] {
        let reference = project.world.registry.reference(&format!("team/app:{tag}"));
        let output = format!("type=registry,name={reference},{attributes}");
        let built = project.build(&["-o", &output, "--progress=rawjson"]).run();
        built.expect_code(0);
        assert!(!built.stderr.contains("\"outcome\":\"done\""), "{tag}: a step ran: {built}");
        let types = media_types(tag);
        assert!(types[..base].iter().all(|name| name.contains(old)), "{tag}: {types:?}");
        assert!(types[base..].iter().all(|name| name.contains(new)), "{tag}: {types:?}");
        let config = |tag: &str| project.manifest("team/app", tag)["config"]["digest"].clone();
        assert_eq!(config(tag), config("gzip"), "{tag}: the content is the same");
        if has_tools(&["skopeo"]) {
            let from = format!("docker://{reference}");
            let to = format!("dir:out/{tag}");
            project.tool(
                "skopeo",
                &["--insecure-policy", "copy", "--src-tls-verify=false", &from, &to],
            );
        }
    }
    let again = project.world.registry.reference("team/app:zstd");
    let first = project.manifest("team/app", "zstd");
    let output = format!("type=registry,name={again},compression=zstd,compression-level=7");
    project.build(&["-o", &output]).success();
    assert_eq!(project.manifest("team/app", "zstd"), first);
}

#[test]
fn squashed_layers_do_what_they_did_apart() {
    let Some(project) = Project::new(Role::Unprivileged) else { return };
    if !has_tools(&["umoci"]) {
        return;
    }
    let whole = ["-t", "example.com/a:whole", "-o", "type=oci,tar=false,dest=out/layout"];
    project.build(&whole).success();
    let squashed = ["-t", "example.com/a:one", "-o", "type=oci,tar=false,dest=out/layout"];
    project.build(&squashed).arg("--squash").success();
    let layers = |tag: &str| {
        let text = project.tool("skopeo", &["inspect", &format!("oci:out/layout:{tag}")]);
        let value: Value = serde_json::from_str(&text).unwrap();
        value["Layers"].as_array().unwrap().len()
    };
    assert_eq!(layers("whole") - layers("one"), 3);
    let (one, whole) = (unpacked(&project, "out/layout", "one"), {
        fs_err::rename(project.path("out/layout.bundle"), project.path("out/one.bundle")).unwrap();
        unpacked(&project, "out/layout", "whole")
    });
    let one = project.path("out/one.bundle").join(one.file_name().unwrap());
    let list = |root: &Path| {
        let args = ["-c", "cd \"$0\" && find . -printf '%p %y %m %s %l\\n' | sort"];
        project.tool("sh", &[args[0], args[1], root.to_str().unwrap()])
    };
    assert_eq!(list(&one), list(&whole));
    assert_eq!(read(&one.join("changed")), "two\n");
}

#[test]
fn annotations_go_where_they_are_meant_to() {
    let Some(project) = Project::new(Role::Unprivileged) else { return };
    let reference = project.world.registry.reference("team/app:1");
    let output = format!("type=registry,name={reference},annotation.from.output=1");
    project.build(&["-o", &output, "--annotation", "from.flag=2"]).success();
    let annotations = project.manifest("team/app", "1")["annotations"].clone();
    assert_eq!(annotations["from.output"], "1");
    assert_eq!(annotations["from.flag"], "2");
    let refused = project.build(&["--annotation", "index:a=b"]).code(2);
    assert!(refused.stderr.contains("index annotations not supported"), "{}", refused.stderr);
    let unknown = project.build(&["--annotation", "manifst:a=b"]).code(2);
    assert!(unknown.stderr.contains("did you mean `manifest`?"), "{}", unknown.stderr);
}

#[test]
fn several_outputs_of_one_build_differ_only_in_form() {
    let Some(project) = Project::new(Role::Unprivileged) else { return };
    let reference = project.world.registry.reference("team/app:1");
    let built: Output = project
        .build(&["-t", &reference, "--load", "--push", "-o", "out/files"])
        .args(["-o", "type=docker,dest=out/docker.tar"])
        .run();
    built.expect_code(0);
    assert!(built.stdout.contains("team/app:1@sha256:"), "{built}");
    assert_eq!(read(&project.path("out/files/changed")), "two\n");
    assert!(project.path("out/docker.tar").exists());
    let images = project.world.context.rpub(["images"]).success();
    assert!(images.stdout.contains("team/app"), "{}", images.stdout);
}

#[test]
fn what_a_killed_build_left_in_the_destination_goes() {
    let Some(project) = Project::new(Role::Unprivileged) else { return };
    project.world.context.write("out/.rpub-output-killed/half", "x");
    project.world.context.write("out/mine", "x");
    project.build(&["-o", "out"]).success();
    assert!(!project.path("out/.rpub-output-killed").exists());
    assert!(project.path("out/mine").exists() && project.path("out/changed").exists());
}

#[test]
fn an_image_can_be_pushed_by_digest_alone() {
    let Some(project) = Project::new(Role::Unprivileged) else { return };
    let name = project.world.registry.reference("team/app");
    let output = format!("type=image,name={name},push=true,push-by-digest=true");
    let built = project.build(&["-o", &output]).run();
    built.expect_code(0);
    let digest = built.stdout.trim().split_once('@').unwrap().1.to_owned();
    assert!(project.world.registry.manifest("team/app", &digest).is_some(), "{built}");
    assert!(project.world.registry.tags("team/app").is_empty());
}

#[test]
fn a_source_date_epoch_dates_what_is_new() {
    let Some(project) = Project::new(Role::Unprivileged) else { return };
    let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1700000000"];
    let date = "2023-11-14T22:13:20Z";
    let reference = project.world.registry.reference("team/app:1");
    let output = format!("type=registry,name={reference}");
    project.build(&epoch).args(["-o", &output, "-o", "out/files"]).success();
    let config = |tag: &str| -> Value {
        let manifest = project.manifest("team/app", tag);
        let digest = manifest["config"]["digest"].as_str().unwrap();
        serde_json::from_slice(&project.world.registry.blob("team/app", digest)).unwrap()
    };
    let kept = config("1");
    assert_eq!(kept["created"], date);
    let history = kept["history"].as_array().unwrap();
    let new = history.iter().filter(|entry| entry["comment"] == "buildkit.dockerfile.v0");
    assert!(new.clone().count() >= 4 && new.clone().all(|entry| entry["created"] == date));
    assert_eq!(project.path("out/files/changed").metadata().unwrap().mtime(), 1_700_000_000);

    // The layers' files keep their times, unless asked otherwise; the base's always do.
    let reference = project.world.registry.reference("team/app:2");
    let output = format!("type=registry,name={reference},rewrite-timestamp=true");
    project.build(&epoch).args(["-o", &output]).success();
    let layers =
        |tag: &str| project.manifest("team/app", tag)["layers"].as_array().unwrap().clone();
    let (kept, rewritten) = (layers("1"), layers("2"));
    let base = kept.len() - 4;
    assert_eq!(kept[..base], rewritten[..base]);
    for layer in &rewritten[base..] {
        let digest = layer["digest"].as_str().unwrap();
        let blob = project.world.registry.blob("team/app", digest);
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&blob[..]));
        for entry in archive.entries().unwrap() {
            let header = entry.unwrap().header().clone();
            assert!(header.mtime().unwrap() <= 1_700_000_000, "{header:?}");
        }
    }
    let environment = project.build(&["-o", "out/again"]).env("SOURCE_DATE_EPOCH", "1600000000");
    environment.success();
    assert_eq!(project.path("out/again/changed").metadata().unwrap().mtime(), 1_600_000_000);
    let wrong = project.build(&["--build-arg", "SOURCE_DATE_EPOCH=yesterday"]).code(2);
    assert!(wrong.stderr.contains("invalid SOURCE_DATE_EPOCH"), "{}", wrong.stderr);
}
