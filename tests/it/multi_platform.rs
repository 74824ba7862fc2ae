//! `--platform a,b`: one index, whose manifests, names and files are where they should be.

use serde_json::Value;

use crate::context::{Role, World, has_tools};

/// Needs nothing of the foreign platform but its name.
const DOCKERFILE: &str = "\
FROM --platform=$BUILDPLATFORM busybox AS build
ARG TARGETARCH
RUN echo made for $TARGETARCH > /made
FROM scratch
COPY --from=build /made /made
COPY shared /shared
";

struct Project {
    world: World,
}

impl Project {
    fn new() -> Option<Self> {
        let world = World::new(Role::Unprivileged)?;
        world.dockerfile("app", DOCKERFILE);
        world.context.write("app/shared", "shared\n");
        world.context.directory("out");
        Some(Self { world })
    }

    fn build(&self, args: &[&str]) -> String {
        let command = self.world.context.rpub(["build", "--platform=linux/amd64,linux/arm64"]);
        let built = command.args(args).arg(self.world.context.path("app")).run();
        built.expect_code(0);
        built.stdout
    }

    fn read(&self, path: &str) -> String {
        fs_err::read_to_string(self.world.context.path(path)).unwrap()
    }
}

#[test]
fn an_index_is_published_with_its_manifests_and_used_by_name() {
    let Some(project) = Project::new() else { return };
    let world = &project.world;
    let reference = world.registry.reference("team/app:1");
    let stdout = project.build(&[
        "-t",
        &reference,
        "--push",
        "--annotation",
        "index:org.example.of=index",
        "--annotation",
        "manifest-descriptor[linux/arm64]:org.example.of=arm",
        "--iidfile=out/id",
        "--metadata-file=out/metadata.json",
    ]);
    let (digest, index) = world.registry.manifest("team/app", "1").unwrap();
    assert_eq!(stdout.trim(), format!("{reference}@{digest}"));
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(index["annotations"]["org.example.of"], "index");
    let manifests = index["manifests"].as_array().unwrap();
    let architectures: Vec<_> =
        manifests.iter().map(|m| m["platform"]["architecture"].as_str().unwrap()).collect();
    assert_eq!(architectures, ["amd64", "arm64"]);
    assert_eq!(manifests[1]["annotations"]["org.example.of"], "arm");
    for manifest in manifests {
        let digest = manifest["digest"].as_str().unwrap();
        let (_, image) = world.registry.manifest("team/app", digest).unwrap();
        assert_eq!(image["layers"].as_array().unwrap().len(), 2);
    }
    // Tags last: the index came after both manifests.
    let requests = world.registry.requests();
    let puts: Vec<&String> = requests
        .iter()
        .filter(|line| line.starts_with("PUT") && line.contains("/manifests/"))
        .collect();
    assert_eq!(puts.len(), 3, "{puts:#?}");
    assert!(puts[2].contains("/manifests/1"), "{puts:#?}");

    let metadata: Value = serde_json::from_str(&project.read("out/metadata.json")).unwrap();
    assert_eq!(metadata["containerimage.digest"], Value::String(digest.clone()));
    assert!(metadata.get("containerimage.config.digest").is_none());
    assert!(metadata["rpub.platforms"]["linux/arm64"]["containerimage.digest"].is_string());
    assert_eq!(project.read("out/id"), digest);

    let images = world.context.rpub(["images", "--digests"]).success();
    assert!(images.stdout.contains(&digest), "{}", images.stdout);
    world.context.rpub(["inspect", &reference]).success();
    world.context.rpub(["history", &reference]).success();
    let copy = world.registry.reference("team/copy:1");
    world.context.rpub(["tag", &reference, &copy]).success();
    world.context.rpub(["push", &copy]).success();
    assert_eq!(world.registry.manifest("team/copy", "1").unwrap().0, digest);
    world.context.rpub(["rmi", &reference, &copy]).success();
    world.context.rpub(["pull", "--platform=linux/arm64", &reference]).success();
}

#[test]
fn each_platform_has_a_directory_of_its_own() {
    let Some(project) = Project::new() else { return };
    project.build(&["-o", "out/files", "-o", "type=tar,dest=out/files.tar"]);
    for platform in ["amd64", "arm64"] {
        let made = project.read(&format!("out/files/linux_{platform}/made"));
        assert_eq!(made, format!("made for {platform}\n"));
        assert_eq!(project.read(&format!("out/files/linux_{platform}/shared")), "shared\n");
    }
    let listed = project.world.context.tool("tar").args(["-tf", "out/files.tar"]).run();
    listed.expect_code(0);
    for name in ["linux_amd64/", "linux_amd64/made", "linux_arm64/shared"] {
        assert!(listed.stdout.lines().any(|line| line == name), "{listed}");
    }
    let together = project.world.context.rpub(["build", "--platform=linux/amd64,linux/arm64"]);
    let together = together.args(["-o", "type=local,dest=out/one,platform-split=false", "app"]);
    let together = together.code(1);
    assert!(together.stderr.contains("cannot overwrite `made`"), "{}", together.stderr);
    assert!(!project.world.context.path("out/one/made").exists());
}

#[test]
fn an_archive_holds_all_platforms() {
    let Some(project) = Project::new() else { return };
    if !has_tools(&["skopeo"]) {
        return;
    }
    let output = ["-t", "example.com/app:1", "-o", "type=oci,dest=out/image.tar"];
    project.build(&output);
    let copied = project
        .world
        .context
        .tool("skopeo")
        .args(["--insecure-policy", "copy", "--all", "oci-archive:out/image.tar:1"])
        .arg("oci:out/layout:x")
        .run();
    copied.expect_code(0);
    let arm = ["--override-arch=arm64", "inspect", "oci:out/layout:x"];
    let inspected = project.world.context.tool("skopeo").args(arm).run();
    assert!(inspected.stdout.contains("\"Architecture\": \"arm64\""), "{inspected}");
    let docker = project.world.context.rpub(["build", "--platform=linux/amd64,linux/arm64"]);
    let docker = docker.args(["-o", "type=docker,dest=out/docker.tar", "app"]).code(2);
    assert!(docker.stderr.contains("exporting manifest lists"), "{}", docker.stderr);
}
