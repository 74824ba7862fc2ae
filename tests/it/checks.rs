//! Build checks: as warnings of a build, and as answers to `--check` and `--call`.

use serde_json::{Value, json};

use crate::context::{Role, TestContext, World};

/// Needs no base image, so that it is answered without any registry.
const CHATTY: &str = "\
# A comment
ARG BASE=scratch
# build makes it
FROM $BASE AS build
ARG API_TOKEN
COPY $nothing /x
FROM scratch AS Last
CMD echo hello
";

fn file(context: &TestContext, text: &str) -> std::path::PathBuf {
    context.write("app/Dockerfile", text);
    context.path("app")
}

fn rules(value: &Value) -> Vec<&str> {
    let warnings = value["warnings"].as_array().unwrap();
    warnings.iter().map(|warning| warning["ruleName"].as_str().unwrap()).collect()
}

#[test]
fn check_says_what_it_found_and_fails() {
    let context = TestContext::new();
    let app = file(&context, "FROM scratch AS base\nCMD echo hello\n");
    let output = context.rpub(["build", "--check"]).arg(&app).code(1);
    insta::assert_snapshot!(output.snapshot(), @r"
    exit code: 1
    ----- stdout
    Check complete, 1 warning has been found!

    WARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/
    JSON arguments recommended for CMD to prevent unintended behavior related to OS signals
    Dockerfile:2
    --------------------
       1 |     FROM scratch AS base
       2 | >>> CMD echo hello
       3 |
    --------------------
    ----- stderr
    ");
    let app = file(&context, "FROM scratch\nCMD [\"x\"]\n");
    let output = context.rpub(["build", "--check"]).arg(&app).success();
    assert_eq!(output.stdout, "Check complete, no warnings found.\n");
}

#[test]
fn check_without_a_target_looks_at_all_stages() {
    let context = TestContext::new();
    let app = file(&context, CHATTY);
    let check = || context.rpub(["build", "--call=check,format=json"]).arg(&app);
    let all = check().code(1);
    let last = check().arg("--target=last").code(1);
    assert_eq!(
        rules(&all.json()),
        ["SecretsUsedInArgOrEnv", "UndefinedVar", "StageNameCasing", "JSONArgsRecommended"]
    );
    assert_eq!(rules(&last.json()), ["StageNameCasing", "JSONArgsRecommended"]);
    let ignoring = context.rpub(["build", "--call=check,format=json,ignorestatus=true"]);
    assert_eq!(ignoring.arg(&app).success().json(), all.json());
}

#[test]
fn json_has_the_shape_of_buildx() {
    let context = TestContext::new();
    let app = file(&context, "FROM scratch\nCMD a \\\n  b\n");
    let output = context.rpub(["build", "--call=check,format=json"]).arg(&app).code(1);
    let value = output.json();
    assert_eq!(
        value["warnings"],
        json!([{
            "ruleName": "JSONArgsRecommended",
            "description": "`CMD` and `ENTRYPOINT` use the JSON form, so that signals reach the program.",
            "url": "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/",
            "detail": "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
            "location": { "ranges": [{ "start": { "line": 2 }, "end": { "line": 3 } }] },
        }])
    );
    assert_eq!(value["sources"][0]["filename"], "Dockerfile");
    assert_eq!(value["sources"][0]["language"], "Dockerfile");
    assert_eq!(value["sources"][0]["data"], "RlJPTSBzY3JhdGNoCkNNRCBhIFwKICBiCg==");
    assert!(output.stderr.is_empty(), "{output}");
}

#[test]
fn what_would_fail_the_build_is_part_of_a_check() {
    let context = TestContext::new();
    let app = file(&context, "FROM scratch AS X\nCOPPY a /\n");
    let output = context.rpub(["build", "--check"]).arg(&app).code(1);
    output.expect_error("unknown instruction: COPPY (did you mean COPY?)");
    assert!(output.stdout.is_empty(), "{output}");
    let output = context.rpub(["build", "--call=check,format=json"]).arg(&app).code(1);
    let value = output.json();
    assert_eq!(value["buildError"]["message"], "unknown instruction: COPPY (did you mean COPY?)");
    assert_eq!(value["buildError"]["location"]["ranges"][0]["start"]["line"], 2);

    let app = file(&context, "FROM scratch AS X\nCOPY --from=nobody/no:t$t a /\n");
    context.rpub(["build", "--check"]).arg(&app).code(1).expect_error("--from");
    let app = file(&context, "# check=error=true\nFROM scratch AS X\n");
    let output = context.rpub(["build", "--call=check,format=json"]).arg(&app).code(1);
    assert_eq!(
        output.json()["buildError"],
        json!({ "message": "lint violation found for rules: StageNameCasing" })
    );
}

const STAGES: &str = "\
# BASE is what everything starts from
ARG BASE=scratch
FROM ${BASE} AS build
# MODE is release or debug
ARG MODE=release UNUSED
RUN --mount=type=secret,id=token,required --mount=type=ssh true
# app is the program alone
FROM scratch AS app
COPY --from=build /x /x
FROM scratch AS other
ARG ELSEWHERE
";

#[test]
fn outline_lists_what_a_target_can_be_given() {
    let context = TestContext::new();
    let app = file(&context, STAGES);
    let call = |method: &str| context.rpub(["build", "--call", method, "--target=app"]).arg(&app);
    insta::assert_snapshot!(call("outline").success().snapshot(), @r"
    exit code: 0
    ----- stdout
    TARGET:      app
    DESCRIPTION: is the program alone

    BUILD ARG   VALUE     DESCRIPTION
    BASE        scratch   is what everything starts from
    MODE        release   is release or debug
    UNUSED

    SECRET   REQUIRED
    token    true

    SSH       REQUIRED
    default
    ----- stderr
    ");
    let outline = call("outline,format=json").arg("--build-arg=MODE=debug").success().json();
    assert_eq!(outline["name"], "app");
    assert_eq!(
        outline["args"][1],
        json!({
            "name": "MODE",
            "description": "is release or debug",
            "value": "debug",
            "location": { "ranges": [{ "start": { "line": 5 }, "end": { "line": 5 } }] },
        })
    );
    assert_eq!(outline["secrets"][0]["required"], true);
}

#[test]
fn targets_and_requests_are_listed() {
    let context = TestContext::new();
    let app = file(&context, STAGES);
    let call = |method: &str| context.rpub(["build", "--call", method]).arg(&app);
    insta::assert_snapshot!(call("targets").success().snapshot(), @r"
    exit code: 0
    ----- stdout
    TARGET          DESCRIPTION
    build
    app             is the program alone
    other (default)
    ----- stderr
    ");
    let targets = call("targets,format=json").success().json();
    assert_eq!(targets["targets"][0]["base"], "${BASE}");
    assert_eq!(targets["targets"][2]["default"], true);
    let described = call("subrequests.describe").success();
    for name in ["outline", "targets", "lint", "subrequests.describe"] {
        described.expect_output(name);
    }
    assert_eq!(
        call("subrequests.describe,format=json").success().json()[2]["name"],
        "frontend.lint"
    );
    call("target").code(2).expect_error("did you mean `targets`?");
    context.rpub(["build", "--check", "--call=outline"]).arg(&app).code(2).expect_error("--call");
}

#[test]
fn a_build_shows_warnings_with_their_line() {
    let context = TestContext::new();
    let app = file(&context, "FROM scratch AS Base\nLABEL a=b\n");
    let output = context.rpub(["build"]).arg(&app).success();
    output.expect_error("warning: StageNameCasing: Stage name 'Base' should be lowercase");
    output.expect_error("1 | FROM scratch AS Base");
    output.expect_error("^^^^");
    output.expect_error("hint: Stage names are in lower case.");
    output.expect_error("1 warning found by checks of the Dockerfile");
    let quiet = context.rpub(["build", "-q"]).arg(&app).success();
    quiet.expect_error("StageNameCasing");
    let output = context.rpub(["build", "--progress=rawjson"]).arg(&app).success();
    let events = output.events();
    let warning = events.iter().find(|event| event["event"] == "warning").unwrap();
    assert_eq!(warning["rule"], "StageNameCasing");
    assert_eq!((&warning["file"], &warning["line"]), (&json!("Dockerfile"), &json!(1)));
    assert!(output.stderr.lines().all(|line| line.starts_with('{')), "{output}");
}

#[test]
fn warnings_are_skipped_and_made_errors_as_the_file_says() {
    let context = TestContext::new();
    let check = |text: &str, args: &[&str]| {
        let app = file(&context, text);
        let output = context.rpub(["build", "--call=check,format=json,ignorestatus=true"]);
        rules(&output.args(args).arg(&app).run().json()).join(" ")
    };
    let noisy = "FROM scratch AS A\nCMD x\n";
    assert_eq!(check(noisy, &[]), "StageNameCasing JSONArgsRecommended");
    assert_eq!(
        check(&format!("# check=skip=StageNameCasing\n{noisy}"), &[]),
        "JSONArgsRecommended"
    );
    assert_eq!(check(&format!("# check=skip=all\n{noisy}"), &[]), "");
    let local = "FROM scratch AS A\n# check=skip=JSONArgsRecommended\nCMD x\n";
    assert_eq!(check(local, &[]), "StageNameCasing");
    let given = "--build-arg=BUILDKIT_DOCKERFILE_CHECK=skip=JSONArgsRecommended";
    assert_eq!(check(&format!("# check=skip=all\n{noisy}"), &[given]), "StageNameCasing");
    let described = "# something else\nFROM scratch AS a\nCMD [\"x\"]\n";
    assert_eq!(check(described, &[]), "");
    assert_eq!(
        check(&format!("# check=experimental=all\n\n{described}"), &[]),
        "InvalidDefinitionDescription"
    );

    let app = file(&context, &format!("# check=error=true\n{noisy}"));
    let output = context.rpub(["build"]).arg(&app).code(1);
    output.expect_error("lint violation found for rules: JSONArgsRecommended, StageNameCasing");
    let app = file(&context, "# check=skp=all\nFROM scratch\n");
    let output = context.rpub(["build"]).arg(&app).code(1);
    output.expect_error("failed to parse check options: invalid check option \"skp\"");
}

#[test]
fn bases_and_ignore_files_are_known_to_checks() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let context = &world.context;
    context.write("app/.dockerignore", "secret\n");
    context.write("app/secret", "");
    let text = "\
FROM busybox AS base
ENV HELO=1
FROM base
WORKDIR $PATH/x
LABEL a=$HELLO
COPY secret* /x
EXPOSE 127.0.0.1:80:80 53/UDP
";
    let app = file(context, text);
    let output = context.rpub(["build", "--call=check,format=json"]).arg(&app).code(1);
    let value = output.json();
    let found: Vec<String> = value["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|warning| warning["detail"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        found,
        [
            "Usage of undefined variable '$HELLO' (did you mean $HELO?)",
            "EXPOSE instruction should not define an IP address or host-port mapping, found \
             '127.0.0.1:80:80'",
            "Defined protocol '53/UDP' in EXPOSE instruction should be lowercase",
        ]
    );
    let app = file(context, "FROM busybox\nCOPY secret /x\n");
    let output = context.rpub(["build", "--check"]).arg(&app).code(1);
    output.expect_output("Attempting to Copy file \"secret\" that is excluded by .dockerignore");
}

#[test]
fn a_dockerfile_from_standard_input_is_checked() {
    let context = TestContext::new();
    let output = context.rpub(["build", "--check", "-"]).input("FROM scratch AS X\n").code(1);
    output.expect_output("WARNING: StageNameCasing");
    let app = context.directory("app");
    let bytes = b"FROM scratch\nLABEL a=\xff\n".to_vec();
    let output = context.rpub(["build", "--check", "-f", "-"]).arg(&app).input(bytes).code(1);
    output.expect_error("invalid UTF-8 in the dockerfile: byte 0xff");
    output.expect_error("Dockerfile:2:9");
}

#[test]
fn frontends_are_never_fetched() {
    let context = TestContext::new();
    let build = |text: &str| {
        let app = file(&context, text);
        context.rpub(["build", "-q"]).arg(&app)
    };
    let silent = build("# syntax=docker/dockerfile:1.26-labs\nFROM scratch\nLABEL a=b\n").success();
    assert!(silent.stderr.is_empty(), "{silent}");
    let other = build("# syntax=example.org/other:1\nFROM scratch\nLABEL a=b\n").success();
    other.expect_error("rpub does not have the frontend `example.org/other:1` (Dockerfile:1)");
    let failed = build("// syntax=example.org/other:1\nsomething else\n").code(1);
    failed.expect_error("the file asks for the frontend `example.org/other:1`");
    let given = build("FROM scratch\nLABEL a=b\n").arg("--build-arg=BUILDKIT_SYNTAX=a/b").success();
    given.expect_error("rpub does not have the frontend `a/b` (BUILDKIT_SYNTAX)");
}
