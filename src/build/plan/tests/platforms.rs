use super::*;

fn parse(text: &str) -> Platform {
    text.parse().expect("valid")
}

fn options_for(platforms: &[&str]) -> Vec<PlanOptions> {
    let options = platforms.iter().map(|platform| PlanOptions {
        platform_is_given: true,
        names_platform: platforms.len() > 1,
        emulated: vec![parse("linux/arm64")],
        ..PlanOptions::new(parse(platform), parse("linux/amd64"))
    });
    options.collect()
}

/// A base that exists for every platform.
fn multi(image: &BaseImage) -> Base {
    let mut base = base(image, &RuntimeConfig::default());
    base.config.architecture.clone_from(&image.platform.architecture);
    base.config.os.clone_from(&image.platform.os);
    base.config.variant.clone_from(&image.platform.variant);
    base.manifest = Descriptor::of("x", image.platform.to_string().as_bytes());
    base
}

fn merged(text: &str, platforms: &[&str]) -> Plan {
    let options = options_for(platforms);
    let plans = options.iter().map(|options| plan_from(text, options, multi).expect("valid"));
    Plan::merge(plans.collect())
}

#[test]
fn stages_of_the_build_platform_are_planned_once() {
    let text = "FROM --platform=$BUILDPLATFORM go AS deps\nRUN fetch\n\
                FROM deps AS build\nARG TARGETARCH\nRUN compile\n\
                FROM base\nRUN prepare\nCOPY --from=build /out /\nCOPY a /\n";
    let plan = merged(text, &["linux/amd64", "linux/arm64"]);
    let stages: Vec<String> =
        plan.stages.iter().map(|stage| format!("{} {}", stage.name, stage.platform)).collect();
    assert_eq!(
        stages,
        [
            "deps linux/amd64",
            "build linux/amd64",
            "stage-2 linux/amd64",
            "build linux/amd64",
            "stage-2 linux/arm64",
        ]
    );
    assert_eq!(plan.targets, [2, 4]);
    assert_eq!(plan.chain(1), [0, 1]);
    assert_eq!(plan.chain(3), [0, 3]);
    let names: Vec<&str> =
        plan.stages.iter().flat_map(|stage| &stage.steps).map(|step| step.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "[linux/amd64 deps 2/2] RUN fetch",
            "[linux/amd64 build 1/1] RUN compile",
            "[linux/amd64 stage-2 2/4] RUN prepare",
            "[linux/amd64 stage-2 3/4] COPY --from=build /out /",
            "[linux/amd64 stage-2 4/4] COPY a /",
            "[linux/amd64->arm64 build 1/1] RUN compile",
            "[linux/arm64 stage-2 2/4] RUN prepare",
            "[linux/arm64 stage-2 3/4] COPY --from=build /out /",
            "[linux/arm64 stage-2 4/4] COPY a /",
        ]
    );
    let ids: Vec<u64> = plan
        .stages
        .iter()
        .flat_map(|stage| &stage.steps)
        .map(|step| u64::from(step.id.0))
        .collect();
    assert_eq!(ids, (1..=9).collect::<Vec<_>>());
    assert_eq!(plan.bases.len(), 3);
    assert_eq!(plan.contexts, [ContextName::Main]);
    let copy = |stage: usize| match &plan.stages[stage].steps[1].work {
        Work::Copy(copy) => copy.from,
        other => panic!("{other:?}"),
    };
    assert_eq!((copy(2), copy(4)), (Origin::Stage(1), Origin::Stage(3)));
    let architectures: Vec<&str> = plan
        .targets
        .iter()
        .map(|target| plan.stages[*target].config.architecture.as_str())
        .collect();
    assert_eq!(architectures, ["amd64", "arm64"]);
}

#[test]
fn an_image_is_for_what_was_asked_for() {
    let architecture = |text: &str, options: &PlanOptions, base: &dyn Fn(&BaseImage) -> Base| {
        let plan = plan_from(text, options, base).expect("valid");
        plan.stages[plan.targets[0]].config.architecture.clone()
    };
    let asked = &options_for(&["linux/arm64"])[0];
    let single = |image: &BaseImage| base(image, &RuntimeConfig::default());
    assert_eq!(architecture("FROM base\n", asked, &single), "arm64");
    assert_eq!(architecture("FROM scratch\n", asked, &single), "arm64");
    assert_eq!(architecture("FROM --platform=$BUILDPLATFORM base\n", asked, &multi), "arm64");
    let foreign = |image: &BaseImage| {
        let mut base = single(image);
        "arm64".clone_into(&mut base.config.architecture);
        base
    };
    assert_eq!(architecture("FROM base\n", &options(), &foreign), "arm64", "it follows the base");
    let text = "FROM --platform=linux/arm64 scratch\n";
    assert_eq!(architecture(text, &options(), &single), "amd64", "as in BuildKit");
}

#[test]
fn what_this_machine_cannot_run_is_refused() {
    let run = |platform: &str, emulated: &[&str]| {
        let options = PlanOptions {
            emulated: emulated.iter().map(|text| parse(text)).collect(),
            ..PlanOptions::new(parse(platform), parse("linux/amd64"))
        };
        plan_from("FROM base\nRUN x\n", &options, multi)
    };
    for (platform, emulated) in [
        ("linux/amd64", &[][..]),
        ("linux/amd64/v2", &[]),
        ("linux/386", &[]),
        ("linux/arm64", &["linux/arm64"]),
        ("linux/arm/v6", &["linux/arm/v7"]),
    ] {
        assert!(run(platform, emulated).is_ok(), "{platform}");
    }
    for platform in ["linux/arm64", "linux/s390x", "windows/amd64"] {
        assert!(run(platform, &["linux/riscv64"]).is_err(), "{platform}");
    }
    let error = run("linux/arm64", &[]).expect_err("refused");
    let Error::Refused { message, hint, .. } = error else { panic!("{error}") };
    assert_eq!(message, "a `RUN` for linux/arm64 cannot run on this linux/amd64 machine");
    let hint = hint.expect("a hint");
    assert!(hint.contains("qemu-user-static") && hint.contains("$BUILDPLATFORM"), "{hint}");
}

#[test]
fn platform_arguments_say_what_is_built() {
    let text = "ARG TARGETARCH\nFROM base:$TARGETARCH AS named\nARG TARGETPLATFORM\n\
                ARG BUILDPLATFORM\nARG TARGETVARIANT\nARG TARGETSTAGE\nRUN x\n";
    let mut options = options_for(&["linux/arm/v7"]).remove(0);
    options.emulated.push(parse("linux/arm"));
    let plan = plan_from(text, &options, multi).expect("valid");
    assert_eq!(plan.bases[0].reference.familiar(), "base:arm");
    let env = runs(&plan)[0].env.list();
    for entry in [
        "TARGETPLATFORM=linux/arm/v7",
        "BUILDPLATFORM=linux/amd64",
        "TARGETVARIANT=v7",
        "TARGETSTAGE=named",
    ] {
        assert!(env.iter().any(|other| other == entry), "{entry} in {env:?}");
    }
    options.build_args.insert("TARGETARCH".to_owned(), "mine".to_owned());
    let plan = plan_from(text, &options, multi).expect("valid");
    assert_eq!(plan.bases[0].reference.familiar(), "base:mine");
}
