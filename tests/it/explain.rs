//! `--explain` names what made a step run again.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::context::{Output, Role, World};

const DOCKERFILE: &str = "\
FROM busybox AS build
RUN echo one > /one
FROM busybox
ARG VALUE=1
ENV GREETING=hello
WORKDIR /srv
COPY tree/ ./tree/
COPY --from=build /one ./
RUN cat one && echo $VALUE $GREETING
";

struct Project {
    world: World,
}

impl Project {
    fn new() -> Option<Self> {
        let world = World::new(Role::Unprivileged)?;
        let project = Self { world };
        project.world.dockerfile("app", DOCKERFILE);
        project.write("tree/a", "one");
        project.write("tree/b/c", "two");
        Some(project)
    }

    fn write(&self, file: &str, content: &str) {
        self.world.context.write(format!("app/{file}"), content);
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.world.context.path(format!("app/{file}"))
    }

    fn build(&self, args: &[&str]) -> Output {
        let directory = self.world.context.path("app");
        let command = self.world.context.rpub(["build", "--explain", "--progress=rawjson"]);
        command.args(args).arg(directory).run()
    }

    /// Returns why steps ran, as `NAME: REASON`, in the order of the steps.
    fn reasons(&self, args: &[&str]) -> Vec<String> {
        let output = self.build(args);
        output.expect_code(0);
        let events = output.events();
        let name = |step: &Value| {
            let started = events
                .iter()
                .find(|event| event["event"] == "step_started" && event["step"] == *step);
            started.unwrap()["name"].as_str().unwrap().to_owned()
        };
        let mut reasons: Vec<(u64, String)> = events
            .iter()
            .filter(|event| event["event"] == "step_missed")
            .map(|event| {
                let (step, reason) = (&event["step"], event["reason"].as_str().unwrap());
                (step.as_u64().unwrap(), format!("{}: {reason}", name(step)))
            })
            .collect();
        reasons.sort();
        reasons.into_iter().map(|(_, reason)| reason).collect()
    }

    /// Returns why the first step that ran did.
    fn first(&self, args: &[&str]) -> String {
        let reasons = self.reasons(args);
        reasons.into_iter().next().expect("a step ran")
    }

    /// Changes the Dockerfile for one build and returns why the first step that ran did.
    fn first_with(&self, from: &str, to: &str, args: &[&str]) -> String {
        assert!(DOCKERFILE.contains(from));
        self.world.dockerfile("app", &DOCKERFILE.replace(from, to));
        let reason = self.first(args);
        self.world.dockerfile("app", DOCKERFILE);
        reason
    }
}

#[test]
fn what_changed_in_the_files_is_named() {
    let Some(project) = Project::new() else { return };
    let reasons = project.reasons(&[]);
    assert_eq!(reasons.len(), 5, "{reasons:#?}");
    assert!(reasons.iter().all(|reason| reason.ends_with("no earlier record")), "{reasons:#?}");
    assert_eq!(project.reasons(&[]), Vec::<String>::new());

    let copy = "[stage-1 3/5] COPY tree/ ./tree/: file `tree/a` of the build context";
    // 1: content; and of the steps above, each says that what is below changed.
    project.write("tree/a", "two");
    let reasons = project.reasons(&[]);
    assert_eq!(reasons[0], format!("{copy}: its content changed, still 3 bytes"));
    assert_eq!(
        reasons[1],
        "[stage-1 4/5] COPY --from=build /one ./: the step below changed: \
         `[stage-1 3/5] COPY tree/ ./tree/`"
    );
    // 2: size.
    project.write("tree/a", "longer");
    assert_eq!(project.first(&[]), format!("{copy}: its content changed, from 3 to 6 bytes"));
    // 3: mode.
    let executable = std::fs::Permissions::from_mode(0o755);
    fs_err::set_permissions(project.path("tree/a"), executable).unwrap();
    assert_eq!(project.first(&[]), format!("{copy}: its mode changed from 0644 to 0755"));
    // 4: new and gone.
    project.write("tree/new", "x");
    let new = "[stage-1 3/5] COPY tree/ ./tree/: file `tree/new` of the build context is new";
    assert_eq!(project.first(&[]), new);
    fs_err::remove_file(project.path("tree/b/c")).unwrap();
    let gone = "[stage-1 3/5] COPY tree/ ./tree/: file `tree/b/c` of the build context is gone";
    assert_eq!(project.first(&[]), gone);
    // 5: what a link says.
    fs_err::os::unix::fs::symlink("a", project.path("tree/link")).unwrap();
    project.first(&[]);
    fs_err::remove_file(project.path("tree/link")).unwrap();
    fs_err::os::unix::fs::symlink("new", project.path("tree/link")).unwrap();
    let link = "[stage-1 3/5] COPY tree/ ./tree/: symbolic link `tree/link` of the build context: it links to \
                `new` instead of `a`";
    assert_eq!(project.first(&[]), link);
}

#[test]
fn what_changed_in_a_mounted_directory_is_named() {
    let Some(project) = Project::new() else { return };
    let run = "RUN --mount=type=bind,source=tree,target=/t cat /t/a";
    project.world.dockerfile("app", &format!("FROM busybox\n{run}\n"));
    assert!(project.first(&[]).ends_with("no earlier record"));
    project.write("other", "not mounted");
    assert_eq!(project.reasons(&[]), Vec::<String>::new());
    project.write("tree/a", "longer");
    let reason = project.first(&[]);
    let expected = "file `tree/a` of the build context: its content changed, from 3 to 6 bytes";
    assert!(reason.ends_with(expected), "{reason}");
}

#[test]
fn what_changed_in_the_dockerfile_is_named() {
    let Some(project) = Project::new() else { return };
    project.build(&[]).expect_code(0);
    let run = |words: &str| format!("[stage-1 5/5] RUN cat one && echo {words}");
    // 6: an argument.
    assert_eq!(
        project.first(&["--build-arg=VALUE=2"]),
        format!("{}: variable `VALUE` changed from `1` to `2`", run("2 hello"))
    );
    // 7: a variable.
    assert_eq!(
        project.first_with("GREETING=hello", "GREETING=bye", &[]),
        format!("{}: variable `GREETING` changed from `hello` to `bye`", run("1 bye"))
    );
    // 8: a command, and the stage that is copied from.
    assert_eq!(
        project.first_with("echo one >", "echo 1 >", &[]),
        "[build 2/2] RUN echo 1 > /one: the command changed from `echo one > /one` to \
         `echo 1 > /one`"
    );
    // 9: the network.
    assert_eq!(
        project.first(&["--network=none"]),
        "[build 2/2] RUN echo one > /one: the network changed from `host` to `none`"
    );
    // 10: a destination, and a flag.
    assert_eq!(
        project.first_with("tree/ ./tree/", "tree/ ./wood/", &[]),
        "[stage-1 3/5] COPY tree/ ./wood/: the destination changed from `/srv/tree/` to \
         `/srv/wood/`"
    );
    assert_eq!(
        project.first_with("COPY tree/", "COPY --chmod=700 tree/", &[]),
        "[stage-1 3/5] COPY --chmod=700 tree/ ./tree/: `--chmod` changed from nothing to `700`"
    );
    // 11: the user and the directory.
    assert_eq!(
        project.first_with("RUN cat one", "USER 5\nRUN cat one", &[]),
        format!("{}: the user changed from nothing to `5`", run("1 hello"))
    );
    // 12: no cache at all.
    let reasons = project.reasons(&["--no-cache"]);
    assert_eq!(reasons.len(), 5);
    assert!(reasons.iter().all(|reason| reason.ends_with("the cache is not used")), "{reasons:#?}");
}

#[test]
fn a_new_base_and_a_lost_layer_are_named() {
    let Some(project) = Project::new() else { return };
    let world = &project.world;
    let tag = |text: &str| {
        world.dockerfile("base", text);
        let directory = world.context.path("base");
        world.context.rpub(["build", "-q", "-t", "base:1"]).arg(directory).run().expect_code(0);
    };
    tag("FROM busybox\nRUN echo 1 > /base\n");
    world.dockerfile("app", "FROM base:1\nRUN cat /base\n");
    project.build(&[]).expect_code(0);
    // 13: the base.
    tag("FROM busybox\nRUN echo 2 > /base\n");
    let reason = project.first(&[]);
    let start = "[2/2] RUN cat /base: the base image `base:1` changed from sha256:";
    assert!(reason.starts_with(start), "{reason}");
    // 14: the layer.
    let output = world.context.rpub(["build", "-q", "-t", "app:1"]).arg(project.path("")).run();
    output.expect_code(0);
    let blobs = world.context.store().join("blobs/sha256");
    let index = fs_err::read_to_string(world.context.store().join("index.json")).unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    let manifest = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["annotations"].to_string().contains("app:1"))
        .unwrap();
    let hex = manifest["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let manifest = fs_err::read_to_string(blobs.join(hex)).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let layer = manifest["layers"].as_array().unwrap().last().unwrap()["digest"].clone();
    let hex = layer.as_str().unwrap().trim_start_matches("sha256:").to_owned();
    fs_err::remove_file(blobs.join(hex)).unwrap();
    let reason = project.first(&[]);
    assert!(reason.ends_with("the layer of its record is no longer in the store"), "{reason}");
}

#[test]
fn secrets_are_not_shown_and_lines_are_for_people() {
    let Some(project) = Project::new() else { return };
    project.world.dockerfile("app", "FROM busybox\nARG API_TOKEN\nRUN true\n");
    project.build(&["--build-arg=API_TOKEN=first-value"]).expect_code(0);
    let directory = project.world.context.path("app");
    let command = project.world.context.rpub(["build", "--explain", "--progress=plain"]);
    let output = command.arg("--build-arg=API_TOKEN=second-value").arg(directory).run();
    output.expect_code(0);
    let line = "MISSED variable `API_TOKEN` changed from `****` to `****`";
    assert!(output.stderr.contains(line), "{output}");
    assert!(!output.stderr.contains("-value"), "{output}");
}
