//! What a build decides before its first step: contexts that stand in for others, arguments from
//! files, platforms that cannot be run.

use std::collections::BTreeMap;

use crate::context::{LayerFile, Output, Role, TestContext, files_of};

/// Builds the directory `ctx` of a user.
struct Place(TestContext);

impl Place {
    fn new(dockerfile: &str) -> Option<Self> {
        let context = TestContext::for_role(Role::Unprivileged)?;
        context.write("ctx/Dockerfile", dockerfile);
        Some(Self(context))
    }

    fn build(&self, args: &[&str]) -> Output {
        self.0.rpub(["build", "-q", "ctx"]).args(args).run()
    }

    fn files(&self, args: &[&str]) -> BTreeMap<String, LayerFile> {
        let output = self.build(args);
        output.expect_code(0);
        files_of(&self.0.store(), output.line())
    }

    fn config(&self, id: &str) -> serde_json::Value {
        let inspected = self.0.rpub(["inspect", id]).success();
        let value: serde_json::Value = serde_json::from_str(&inspected.stdout).unwrap();
        value[0].clone()
    }
}

#[test]
fn files_stand_in_for_a_base() {
    let text =
        "FROM absent.example/base:1 AS below\nCOPY own /app/own\nFROM below\nCOPY own /top\n";
    let Some(place) = Place::new(text) else { return };
    place.0.write("ctx/own", "own");
    place.0.write("base/app/a", "a");
    place.0.write("base/left", "left");
    place.0.write("base/.dockerignore", "left\n.dockerignore\n");
    let base = "--build-context=absent.example/base:1=base";
    let files = place.files(&[base]);
    assert_eq!(files.keys().collect::<Vec<_>>(), ["app/a", "app/own", "top"]);
    assert_eq!(files["app/a"].owner, (0, 0));
    // The name of one platform comes before the name of all.
    place.0.write("exact/b", "b");
    let exact = "--build-context=absent.example/base:1::linux/amd64=exact";
    let foreign = "--build-context=absent.example/base:1::linux/s390x=absent";
    let files = place.files(&[base, exact, foreign, "--platform=linux/amd64"]);
    assert_eq!(files.keys().collect::<Vec<_>>(), ["app/own", "b", "top"]);
}

#[test]
fn files_stand_in_for_a_stage() {
    let text = "FROM absent.example/tools AS make\nRUN make\nFROM scratch\nCOPY --from=make /out /\n\
                COPY --from=0 /other /\n";
    let Some(place) = Place::new(text) else { return };
    place.0.write("made/out/program", "p");
    place.0.write("made/other", "o");
    let files = place.files(&["--build-context=make=made"]);
    assert_eq!(files.keys().collect::<Vec<_>>(), ["other", "program"]);
}

#[test]
fn build_arguments_come_from_files_too() {
    let text = "FROM scratch\nARG A\nARG B\nARG C=default\nLABEL a=$A b=$B c=$C\n";
    let Some(place) = Place::new(text) else { return };
    place.0.write("args", "# versions\nA=1\n\n  B=two words\nC\n");
    let built = place.build(&["--build-arg-file=args", "--build-arg", "A=given"]);
    built.expect_code(0);
    let labels = place.config(built.line())["Config"]["Labels"].clone();
    assert_eq!(labels, serde_json::json!({ "a": "given", "b": "two words", "c": "default" }));
    place.0.write("args", "A=1\n=2\n");
    place.build(&["--build-arg-file=args"]).expect_error("args:2: it has no name");
    let missing = place.build(&["--build-arg-file=nope"]);
    missing.expect_code(2);
}

#[test]
fn a_step_for_another_machine_is_refused_before_anything_is_done() {
    let text = "FROM scratch AS never\nCOPY own /\nFROM never\nRUN make\n";
    let Some(place) = Place::new(text) else { return };
    let output = place.build(&["--platform=linux/mips64"]);
    output.expect_code(1);
    output.expect_error("a `RUN` for linux/mips64 cannot run on this");
    output.expect_error("--> Dockerfile:4:1");
    output.expect_error("qemu-user-static");
    place.build(&["--platform=linux/amd64,,"]).expect_error("\"own\": not found");
    place.build(&["--platform=a/b/c/d"]).expect_code(2);
}

#[test]
fn what_a_dockerfile_may_not_do_needs_permission() {
    let text = "FROM scratch\nRUN --network=host [\"/x\"]\n";
    let Some(place) = Place::new(text) else { return };
    let output = place.build(&[]);
    output.expect_code(1);
    output.expect_error("network.host is not allowed");
    output.expect_error("pass `--allow network.host`");
    place.build(&["--allow=network.hots"]).expect_code(2);
    place.build(&["--add-host=db"]).expect_code(2);
}

#[test]
fn a_base_of_this_store_fires_its_triggers() {
    let text = "FROM scratch\nONBUILD COPY app /app\nONBUILD LABEL from=trigger\n";
    let Some(place) = Place::new(text) else { return };
    place.build(&["-t", "local/base:1"]).expect_code(0);
    place.0.write("ctx/Dockerfile", "FROM local/base:1\nLABEL own=1\n");
    place.build(&[]).expect_error("in `ONBUILD COPY app /app` of the base");
    place.0.write("ctx/app", "1");
    let built = place.build(&[]);
    built.expect_code(0);
    let config = place.config(built.line());
    assert_eq!(config["Config"]["Labels"], serde_json::json!({ "from": "trigger", "own": "1" }));
    assert!(config["Config"]["OnBuild"].is_null(), "{config}");
}
