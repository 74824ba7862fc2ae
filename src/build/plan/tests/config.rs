use super::*;
use crate::image::Healthcheck;

/// The configuration that instructions make on a base of this config.
fn config(instructions: &str, base: &RuntimeConfig) -> RuntimeConfig {
    let plan = plan_with(&format!("FROM base\n{instructions}\n"), &options(), base).expect("valid");
    plan.stages[plan.targets[0]].config.config.clone()
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn stages_inherit_all_but_triggers_through_stages() {
    let base = RuntimeConfig {
        user: "u".to_owned(),
        env: vec!["PATH=/p".to_owned(), "A=1".to_owned()],
        shell: Some(strings(&["/s", "-c"])),
        stop_signal: Some("SIGINT".to_owned()),
        healthcheck: Some(Healthcheck { retries: 3, ..Healthcheck::default() }),
        working_dir: "/w".to_owned(),
        labels: BTreeMap::from([("k".to_owned(), "base".to_owned())]),
        on_build: Vec::new(),
        ..RuntimeConfig::default()
    };
    let text = "FROM base AS a\nVOLUME /v\nEXPOSE 80\nFROM a AS b\nLABEL k=own\nFROM b\nRUN x\n";
    let plan = plan_with(text, &options(), &base).expect("valid");
    let last = &plan.stages[plan.targets[0]].config.config;
    assert_eq!((last.user.as_str(), last.working_dir.as_str()), ("u", "/w"));
    assert_eq!(last.env, ["PATH=/p", "A=1"]);
    assert_eq!(last.healthcheck.as_ref().map(|check| check.retries), Some(3));
    assert_eq!(last.stop_signal.as_deref(), Some("SIGINT"));
    assert_eq!(last.labels.get("k").map(String::as_str), Some("own"));
    assert!(last.volumes.contains_key("/v") && last.exposed_ports.contains_key("80/tcp"));
    let step = runs(&plan)[0].clone();
    assert_eq!(step.args, ["/s", "-c", "x"]);
    assert_eq!((step.cwd.as_str(), step.user.as_str()), ("/w", "u"));
}

#[test]
fn instructions_change_the_config() {
    let none = RuntimeConfig::default();
    let shell = config("SHELL [\"/b\"]\nCMD a\nENTRYPOINT e", &none);
    assert_eq!(shell.cmd, Some(strings(&["/b", "a"])));
    assert_eq!(shell.entrypoint, Some(strings(&["/b", "e"])));
    let empty = config("CMD []\nENTRYPOINT []", &none);
    assert_eq!((empty.cmd, empty.entrypoint), (Some(strings(&[])), None));
    let volumes = config("ARG A=x\nVOLUME [\"/$A\", \"rel\"]\nVOLUME /c /d", &none).volumes;
    assert_eq!(volumes.keys().collect::<Vec<_>>(), ["/c", "/d", "/x", "rel"]);
    let ports = config("ARG P=\"1 2/udp\"\nEXPOSE $P 9-10/SCTP", &none).exposed_ports;
    assert_eq!(ports.keys().collect::<Vec<_>>(), ["1/tcp", "10/sctp", "2/udp", "9/sctp"]);
    assert_eq!(config("WORKDIR /a\nWORKDIR b\nWORKDIR ../c/$NOPE", &none).working_dir, "/a/c");
    assert_eq!(config("ARG U=me\nUSER $U:1", &none).user, "me:1");
    assert_eq!(config("HEALTHCHECK NONE", &none).healthcheck.expect("set").test, ["NONE"]);
    let empty_shell = RuntimeConfig { shell: Some(strings(&[])), ..RuntimeConfig::default() };
    let text = "FROM base\nRUN x\n";
    let plan = plan_with(text, &options(), &empty_shell).expect("valid");
    assert_eq!(runs(&plan)[0].args, ["/bin/sh", "-c", "x"]);
}

#[test]
fn arguments_show_their_values_in_the_history() {
    let text = "ARG G=global\nARG BARE\nFROM base\nARG G\nARG BARE\nARG TARGETARCH\nARG A=1 B=${A}2\n\
                ARG A=2\nRUN x\n";
    assert_eq!(
        history(&plan(text)),
        [
            "ARG G=global",
            "ARG BARE",
            "ARG TARGETARCH=amd64",
            "ARG A=1 B=12",
            "ARG A=2",
            "RUN |5 G=global BARE= TARGETARCH=amd64 A=2 B=12 /bin/sh -c x # buildkit",
        ]
    );
}

#[test]
fn settings_of_the_builder_are_no_variables() {
    let mut options = options();
    options.build_args.insert("BUILDKIT_SBOM_SCAN_STAGE".to_owned(), "1".to_owned());
    let text = "FROM base\nARG BUILDKIT_SBOM_SCAN_STAGE\nRUN x\n";
    let plan = plan_with(text, &options, &RuntimeConfig::default()).expect("valid");
    assert!(!runs(&plan)[0].env.list().iter().any(|entry| entry.contains("SBOM")));
}

#[test]
fn a_proxy_of_the_environment_wins() {
    let mut options = options();
    for name in ["HTTP_PROXY", "no_proxy"] {
        options.build_args.insert(name.to_owned(), "given".to_owned());
    }
    let text = "FROM base\nENV http_proxy=own\nARG no_proxy\nRUN x\n";
    let plan = plan_with(text, &options, &RuntimeConfig::default()).expect("valid");
    let step = runs(&plan)[0].clone();
    assert_eq!(step.proxy_env, ["HTTP_PROXY=given", "NO_PROXY=given"]);
    assert!(step.env.list().contains(&"no_proxy=given".to_owned()));
}

#[test]
fn the_cache_is_left_out_by_stage() {
    let text = "FROM base AS One\nRUN a\nFROM base AS two\nCOPY --from=one a a\nFROM two\nRUN b\n";
    let uses = |options: &PlanOptions| {
        let plan = plan_with(text, options, &RuntimeConfig::default()).expect("valid");
        plan.stages.iter().map(|stage| stage.uses_cache).collect::<Vec<_>>()
    };
    let mut options = options();
    assert_eq!(uses(&options), [true, true, true]);
    options.no_cache_stages = vec!["ONE".to_owned(), "nope".to_owned()];
    assert_eq!(uses(&options), [false, true, true]);
    options.no_cache = true;
    assert_eq!(uses(&options), [false, false, false]);
}

#[test]
fn steps_are_shown_with_the_values_of_variables() {
    let text = "FROM base AS only\nARG A=x\nrun echo $A \"$A\" $NOPE ${A:-y}\n\
                RUN --mount=type=secret,id=s,env=S echo $S\nRUN <<E\n one $A\ntwo\nE\n\
                COPY [\"$A\", \"/d\"]\n";
    let plan = plan(text);
    let names: Vec<&str> = plan.stages[0].steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "[2/5] RUN echo x \"x\" $NOPE x",
            "[3/5] RUN --mount=type=secret,id=s,env=S echo ****",
            "[4/5] RUN <<E (one $A...)",
            "[5/5] COPY [\"x\", \"/d\"]",
        ]
    );
}
