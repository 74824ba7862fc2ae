//! A step is redone only when its inputs changed, and a step after a changed one is redone.

use serde_json::Value;

use crate::context::{Output, Role, World};

const DOCKERFILE: &str = "\
FROM busybox
RUN echo first > /first
COPY file /file
ARG VALUE=1
RUN echo $VALUE > /value
";

/// Returns how the steps of a build ended, in the order of their numbers: `done` or `cached`.
fn outcomes(output: &Output) -> Vec<String> {
    output.expect_code(0);
    let mut steps: Vec<(u64, String)> = output
        .events()
        .iter()
        .filter(|event| event["event"] == "step_finished")
        .map(|event: &Value| {
            let outcome = event["outcome"].as_str().unwrap().to_owned();
            (event["step"].as_u64().unwrap(), outcome)
        })
        .collect();
    steps.sort();
    steps.into_iter().map(|(_, outcome)| outcome).collect()
}

struct Project {
    world: World,
}

impl Project {
    fn new() -> Option<Self> {
        let world = World::new(Role::Unprivileged)?;
        world.dockerfile("app", DOCKERFILE);
        world.context.write("app/file", "one");
        Some(Self { world })
    }

    fn build(&self, args: &[&str]) -> Output {
        let directory = self.world.context.path("app");
        self.world.build_push("team/app:1", &directory).arg("--progress=rawjson").args(args).run()
    }

    /// Returns how the last three steps, the ones with a layer, ended.
    fn layers(&self, args: &[&str]) -> Vec<String> {
        let outcomes = outcomes(&self.build(args));
        outcomes[outcomes.len() - 3..].to_vec()
    }
}

#[test]
fn nothing_changed_means_nothing_done_and_nothing_sent() {
    let Some(project) = Project::new() else { return };
    let first = project.build(&[]);
    first.expect_code(0);
    let seen = project.world.registry.requests().len();
    let second = project.build(&[]);
    assert!(outcomes(&second).iter().all(|outcome| outcome == "cached"), "{second}");
    assert_eq!(first.stdout, second.stdout, "the same digest");
    let requests = project.world.registry.requests().split_off(seen);
    let sent = |line: &&String| line.starts_with("POST") || line.starts_with("PATCH");
    assert_eq!(requests.iter().filter(sent).count(), 0, "{requests:#?}");
}

#[test]
fn only_a_changed_step_and_those_after_it_are_redone() {
    let Some(project) = Project::new() else { return };
    assert_eq!(project.layers(&[]), ["done", "done", "done"]);
    assert_eq!(project.layers(&[]), ["cached", "cached", "cached"]);
    assert_eq!(project.layers(&["--build-arg=VALUE=2"]), ["cached", "cached", "done"]);

    // A new time on the same content changes nothing; new content does.
    project.world.context.write("app/file", "one");
    assert_eq!(project.layers(&[]), ["cached", "cached", "cached"]);
    project.world.context.write("app/file", "two");
    assert_eq!(project.layers(&[]), ["cached", "done", "done"]);

    project.world.dockerfile("app", &DOCKERFILE.replace("first >", "other >"));
    assert_eq!(project.layers(&[]), ["done", "done", "done"]);
    assert_eq!(project.layers(&["--no-cache"]), ["done", "done", "done"]);
}

#[test]
fn ignored_files_change_nothing() {
    let Some(project) = Project::new() else { return };
    project.world.context.write("app/.dockerignore", "*.log\nignored/\n!keep.log\n");
    project.world.dockerfile("app", "FROM busybox\nRUN true\nRUN true\nCOPY . /all/\n");
    assert_eq!(project.layers(&[]), ["done", "done", "done"]);
    project.world.context.write("app/new.log", "x");
    project.world.context.write("app/ignored/deep/file", "x");
    assert_eq!(project.layers(&[]), ["cached", "cached", "cached"]);
    project.world.context.write("app/keep.log", "x");
    assert_eq!(project.layers(&[]), ["cached", "cached", "done"]);
}

#[test]
fn a_stage_rebuilt_with_the_same_files_redoes_nothing_that_takes_them() {
    let Some(project) = Project::new() else { return };
    let text = "\
FROM busybox AS build
COPY file /file
RUN cut -c1 /file > /first && cat /file > /all
FROM busybox
COPY --from=build /first /first
RUN cat /first > /last
";
    project.world.dockerfile("app", text);
    project.world.context.write("app/file", "one");
    let build = |args: &[&str]| outcomes(&project.build(args));
    assert_eq!(build(&[]), ["done", "done", "done", "done"]);
    // The second key: what is copied is the same, though the stage is another.
    project.world.context.write("app/file", "other");
    assert_eq!(build(&[]), ["done", "done", "cached", "cached"]);
    assert_eq!(build(&[]), ["cached", "cached", "cached", "cached"]);
    // The first key alone is enough: what only the first stage needs is gone, and nobody asks for it.
    project.world.context.write("app/file", "one");
    assert_eq!(build(&[]), ["cached", "cached", "cached", "cached"]);
    project.world.context.write("app/file", "three");
    assert_eq!(build(&[]), ["done", "done", "done", "done"]);
}

#[test]
fn what_two_stages_have_in_common_is_done_once() {
    let Some(project) = Project::new() else { return };
    let text = "\
FROM busybox AS one
RUN cat /proc/sys/kernel/random/uuid > /id
FROM busybox AS two
RUN cat /proc/sys/kernel/random/uuid > /id
FROM scratch
COPY --from=one /id /one
COPY --from=two /id /two
";
    project.world.dockerfile("app", text);
    let mut outcomes = outcomes(&project.build(&["--no-cache"]));
    outcomes[..2].sort();
    assert_eq!(outcomes, ["cached", "done", "done", "done"]);
}
