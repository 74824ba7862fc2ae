//! What Dockerfiles become. The helpers are here, the tests by topic in the files below.

mod config;
mod contexts;
mod copy;
mod mounts;
mod onbuild;
mod platforms;
mod refusals;
mod run;

use super::*;
use crate::dockerfile;
use crate::image::{Digest, History, RuntimeConfig};

fn options() -> PlanOptions {
    let platform: Platform = "linux/amd64".parse().expect("valid");
    PlanOptions::new(platform.clone(), platform)
}

/// A base whose config is `config`, under the name that the outline asked for.
fn base(image: &BaseImage, config: &RuntimeConfig) -> Base {
    let config = ImageConfig {
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        created: Some("2020-01-01T00:00:00Z".to_owned()),
        config: config.clone(),
        history: vec![History { created_by: Some("base".to_owned()), ..History::default() }],
        ..ImageConfig::default()
    };
    Base {
        reference: image.reference.clone(),
        manifest: Descriptor::of("x", b"{}"),
        config,
        layers: Vec::new(),
    }
}

/// Plans with bases that all have the same config.
fn plan_with(text: &str, options: &PlanOptions, config: &RuntimeConfig) -> Result<Plan, Error> {
    plan_from(text, options, |image| base(image, config))
}

/// Plans with the bases that `base` gives.
fn plan_from(
    text: &str,
    options: &PlanOptions,
    base: impl Fn(&BaseImage) -> Base,
) -> Result<Plan, Error> {
    let dockerfile = dockerfile::parse(text).unwrap_or_else(|error| panic!("{error}"));
    let mut outline = Outline::new(&dockerfile, options)?;
    while !outline.missing().is_empty() {
        let bases = outline.missing().iter().map(&base).collect();
        outline.resolve(bases)?;
    }
    Plan::new(outline)
}

fn plan(text: &str) -> Plan {
    plan_with(text, &options(), &RuntimeConfig::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(text: &str) -> (String, String) {
    let error = plan_with(text, &options(), &RuntimeConfig::default()).expect_err("refused");
    let Error::Refused { message, span, .. } = error else { panic!("{error}") };
    let place = span.map_or_else(String::new, |span| span.position(text).to_string());
    (message, place)
}

fn history(plan: &Plan) -> Vec<&str> {
    plan.stages[plan.targets[0]].history.iter().map(|item| item.created_by.as_str()).collect()
}

/// The only step of the plan's target, which must be a copy.
fn only_copy(plan: &Plan) -> &Copy {
    match plan.stages[plan.targets[0]].steps.as_slice() {
        [Step { work: Work::Copy(copy), .. }] => copy,
        steps => panic!("not one copy: {steps:?}"),
    }
}

fn runs(plan: &Plan) -> Vec<&Run> {
    let steps = plan.stages.iter().flat_map(|stage| &stage.steps);
    steps
        .filter_map(|step| if let Work::Run(run) = &step.work { Some(run) } else { None })
        .collect()
}

#[test]
fn history_reads_as_buildkit_writes_it() {
    let plan = plan(
        "FROM base\nARG A=1\nARG B\nENV C=x D=\"y z\"\nRUN echo $A\nRUN [\"ls\", \"-l\"]\n\
         WORKDIR /usr/src/app\nCOPY ./src .\nADD --chown=1:2 --chmod=755 a b /dst/\n\
         EXPOSE 8000 53/udp\nVOLUME /data\nUSER app\nLABEL k=v\nSTOPSIGNAL SIGINT\n\
         SHELL [\"/bin/bash\", \"-c\"]\nENTRYPOINT [\"python3\", \"./s.py\"]\nCMD run it\n\
         HEALTHCHECK --interval=5s CMD true\n",
    );
    assert_eq!(
        history(&plan),
        [
            "ARG A=1",
            "ARG B",
            "ENV C=x D=y z",
            "RUN |2 A=1 B= /bin/sh -c echo $A # buildkit",
            "RUN |2 A=1 B= ls -l # buildkit",
            "WORKDIR /usr/src/app",
            "COPY ./src . # buildkit",
            "ADD --chown=1:2 --chmod=755 a b /dst/ # buildkit",
            "EXPOSE [53/udp 8000/tcp]",
            "VOLUME [/data]",
            "USER app",
            "LABEL k=v",
            "STOPSIGNAL SIGINT",
            "SHELL [/bin/bash -c]",
            "ENTRYPOINT [\"python3\" \"./s.py\"]",
            "CMD [\"/bin/bash\" \"-c\" \"run it\"]",
            "HEALTHCHECK {Test:[CMD-SHELL true] Interval:5s Timeout:0s StartPeriod:0s \
             StartInterval:0s Retries:0}",
        ]
    );
    let layers = plan.stages[0].history.iter().filter(|item| item.makes_layer).count();
    assert_eq!(layers, plan.stages[0].steps.len());
}

#[test]
fn config_follows_the_instructions() {
    let text = "FROM scratch\nENV A=1\nENV B=$A A=2 C=$A\nWORKDIR app\nEXPOSE 5000\nUSER u\n\
                VOLUME [\"/a\", \"/b\"]\nCMD [\"x\"]\n";
    let plan = plan(text);
    let config = &plan.stages[0].config.config;
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(config.env, [path, "A=2", "B=1", "C=1"]);
    assert_eq!(config.working_dir, "/app");
    assert_eq!(config.user, "u");
    assert_eq!(config.cmd.as_deref(), Some(&["x".to_owned()][..]));
    assert_eq!(config.args_escaped, Some(true));
    assert!(config.exposed_ports.contains_key("5000/tcp"));
    assert_eq!(config.volumes.len(), 2);
}

#[test]
fn the_last_of_env_and_arg_wins() {
    let mut with_arg = options();
    with_arg.build_args.insert("X".to_owned(), "given".to_owned());
    let text = "FROM base\nENV X=env\nARG X\nRUN a\nENV X=later\nRUN b\n";
    let plan = plan_with(text, &with_arg, &RuntimeConfig::default()).expect("valid");
    let seen: Vec<bool> = runs(&plan)
        .iter()
        .zip(["X=given", "X=later"])
        .map(|(run, expected)| run.env.list().iter().any(|entry| entry == expected))
        .collect();
    assert_eq!(seen, [true, true]);
    let config = &plan.stages[0].config.config;
    assert!(config.env.contains(&"X=later".to_owned()), "ARG must not change the config");
}

#[test]
fn pairs_of_one_arg_see_earlier_ones() {
    let plan = plan("FROM base\nARG A=1 B=${A}2\nRUN x\n");
    assert!(runs(&plan)[0].env.list().contains(&"B=12".to_owned()));
}

#[test]
fn global_arguments_reach_a_stage_only_when_declared() {
    let plan = plan("ARG V=3\nFROM base:$V\nRUN a\nARG V\nARG TARGETARCH\nRUN b\n");
    assert_eq!(plan.bases[0].reference.to_string(), "docker.io/library/base:3");
    let runs = runs(&plan);
    assert!(!runs[0].env.list().iter().any(|entry| entry.starts_with("V=")));
    assert!(runs[1].env.list().contains(&"V=3".to_owned()));
    assert!(runs[1].env.list().contains(&"TARGETARCH=amd64".to_owned()));
}

#[test]
fn entrypoint_clears_only_an_inherited_cmd() {
    let inherited = RuntimeConfig { cmd: Some(vec!["sh".to_owned()]), ..RuntimeConfig::default() };
    let cmd = |text: &str| {
        let plan = plan_with(text, &options(), &inherited).expect("valid");
        plan.stages[plan.targets[0]].config.config.cmd.clone()
    };
    assert_eq!(cmd("FROM base\nENTRYPOINT [\"x\"]\n"), None);
    let own = Some(vec!["y".to_owned()]);
    assert_eq!(cmd("FROM base\nCMD [\"y\"]\nENTRYPOINT [\"x\"]\n"), own);
    assert_eq!(cmd("FROM base AS a\nCMD [\"y\"]\nFROM a\nENTRYPOINT [\"x\"]\n"), None);
}

#[test]
fn proxies_are_given_but_not_recorded() {
    let mut proxied = options();
    proxied.build_args.insert("http_proxy".to_owned(), "http://p".to_owned());
    let plan = plan_with("FROM base\nRUN a\n", &proxied, &RuntimeConfig::default()).expect("valid");
    assert_eq!(runs(&plan)[0].proxy_env, ["HTTP_PROXY=http://p", "http_proxy=http://p"]);
    assert!(!runs(&plan)[0].env.list().iter().any(|entry| entry.contains("proxy")));
    assert_eq!(history(&plan), ["RUN /bin/sh -c a # buildkit"]);
}

#[test]
fn only_needed_stages_are_planned() {
    let text = "FROM a AS one\nFROM b AS two\nRUN never\nFROM scratch\nCOPY --from=one /x /y\n\
                COPY --from=img:1 /z /\n";
    let plan = plan(text);
    let names: Vec<&str> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["one", "stage-2"]);
    let images: Vec<String> = plan.bases.iter().map(|base| base.reference.familiar()).collect();
    assert_eq!(images.len(), 2);
    assert!(images.contains(&"a:latest".to_owned()) && images.contains(&"img:1".to_owned()));
    let from: Vec<Origin> = plan.stages[1]
        .steps
        .iter()
        .filter_map(|step| if let Work::Copy(copy) = &step.work { Some(copy.from) } else { None })
        .collect();
    assert!(matches!(from[..], [Origin::Stage(0), Origin::Image(_)]));
}

#[test]
fn an_image_that_resembles_a_stage_is_noted() {
    let text = "FROM scratch AS build\nFROM scratch\nCOPY --from=buld /a /b\n";
    let dockerfile = dockerfile::parse(text).expect("valid");
    let options = options();
    let outline = Outline::new(&dockerfile, &options).expect("valid");
    let [image] = outline.images() else { panic!("one image") };
    assert_eq!(image.reference.familiar(), "buld:latest");
    assert_eq!(outline.resembling(image), Some("build"));
}

#[test]
fn a_stage_inherits_the_stage_it_starts_from() {
    let text = "FROM base AS a\nARG X=1\nENV Y=2\nRUN one\nFROM a AS b\nRUN two\n";
    let plan = plan(text);
    assert_eq!(plan.chain(plan.targets[0]), [0, 1]);
    assert!(runs(&plan)[1].env.list().contains(&"X=1".to_owned()));
    assert!(runs(&plan)[1].env.list().contains(&"Y=2".to_owned()));
    assert_eq!(history(&plan), ["RUN |1 X=1 /bin/sh -c two # buildkit"]);
    assert_eq!(plan.stages[1].steps[0].name, "[b 1/1] RUN two");
}

#[test]
fn labels_of_the_command_line_come_last() {
    let mut options = options();
    options.labels = vec![("k".to_owned(), "cli".to_owned())];
    let plan = plan_with("FROM scratch\nLABEL k=file l=m\n", &options, &RuntimeConfig::default());
    let labels = &plan.expect("valid").stages[0].config.config.labels;
    assert_eq!(labels.get("k").map(String::as_str), Some("cli"));
    assert_eq!(labels.get("l").map(String::as_str), Some("m"));
}

#[test]
fn a_base_keeps_its_history_and_loses_its_date() {
    let plan =
        plan("FROM base@sha256:0000000000000000000000000000000000000000000000000000000000000000\n");
    let config = &plan.stages[0].config;
    assert_eq!(config.history.len(), 1);
    assert_eq!(config.created, None);
    assert_eq!(plan.bases[0].manifest.digest, Digest::of(b"{}"));
}
