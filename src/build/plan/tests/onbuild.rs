use super::*;

/// Plans with bases that have these triggers by name.
fn with_triggers(text: &str, triggers: &[(&str, &[&str])]) -> Result<Plan, Error> {
    plan_from(text, &options(), |image| {
        let name = image.reference.familiar();
        let own = triggers.iter().find(|(of, _)| name == format!("{of}:latest"));
        let on_build = own.map_or(&[][..], |(_, triggers)| *triggers);
        let on_build = on_build.iter().map(|text| (*text).to_owned()).collect();
        base(image, &RuntimeConfig { on_build, ..RuntimeConfig::default() })
    })
}

#[test]
fn triggers_run_before_the_stages_own_instructions() {
    let text = "FROM base\nRUN own\n";
    let triggers = ["ENV A=1", "RUN first $A", "COPY . /app"];
    let plan = with_triggers(text, &[("base", &triggers)]).expect("valid");
    assert_eq!(
        history(&plan),
        [
            "ENV A=1",
            "RUN /bin/sh -c first $A # buildkit",
            "COPY . /app # buildkit",
            "RUN /bin/sh -c own # buildkit",
        ]
    );
    let stage = &plan.stages[0];
    assert!(stage.config.config.on_build.is_empty(), "triggers are not inherited");
    let names: Vec<&str> = stage.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["[2/4] ONBUILD RUN first 1", "[3/4] ONBUILD COPY . /app", "[4/4] RUN own"]);
    assert_eq!(stage.steps[0].span.position(text).to_string(), "1:1");
    assert_eq!(plan.contexts, [ContextName::Main]);
}

#[test]
fn a_stage_fires_the_triggers_of_the_stage_it_starts_from() {
    let text = "FROM base AS a\nONBUILD RUN child\nRUN a\nFROM a AS b\nRUN b\nFROM b\nRUN c\n";
    let plan = with_triggers(text, &[]).expect("valid");
    assert_eq!(plan.stages[0].config.config.on_build, ["RUN child"]);
    let commands: Vec<Vec<&str>> = plan
        .stages
        .iter()
        .map(|stage| stage.history.iter().map(|item| item.created_by.as_str()).collect())
        .collect();
    assert_eq!(
        commands[0],
        ["RUN /bin/sh -c a # buildkit"],
        "ONBUILD itself is not in the history"
    );
    assert_eq!(commands[1], ["RUN /bin/sh -c child # buildkit", "RUN /bin/sh -c b # buildkit"]);
    assert_eq!(commands[2], ["RUN /bin/sh -c c # buildkit"], "grandchildren have none");
    assert!(plan.stages[1].config.config.on_build.is_empty());
}

#[test]
fn triggers_may_need_stages_and_images() {
    let text = "FROM scratch AS files\nFROM base\n";
    let triggers: [(&str, &[&str]); 2] = [
        ("base", &["COPY --from=files /a /a", "RUN --mount=from=tool,target=/t x"]),
        ("tool", &["RUN never"]),
    ];
    let plan = with_triggers(text, &triggers).expect("valid");
    let names: Vec<&str> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["files", "stage-1"]);
    assert_eq!(plan.bases.len(), 2);
    assert_eq!(history(&plan).len(), 2, "an image that is only mounted fires nothing");
    let text = "FROM base AS a\nFROM other AS b\nCOPY --from=a /x /x\n";
    let plan = with_triggers(text, &[("other", &["COPY --from=a /y /y"])]).expect("valid");
    assert_eq!(plan.stages.len(), 2);
    let chained: [(&str, &[&str]); 2] =
        [("one", &["COPY --from=next /x /x"]), ("two", &["COPY --from=three /x /x"])];
    let plan = with_triggers("FROM two AS next\nFROM one\n", &chained).expect("valid");
    let images: Vec<String> = plan.bases.iter().map(|base| base.reference.familiar()).collect();
    assert_eq!(images, ["one:latest", "two:latest", "three:latest"]);
}

#[test]
fn what_is_wrong_with_a_trigger_is_said_at_from() {
    for (trigger, message) in [
        ("EXPOSE x", "in `ONBUILD EXPOSE x` of the base: invalid containerPort: x"),
        (
            "COPPY a b",
            "in `ONBUILD COPPY a b` of the base: unknown instruction: COPPY (did you mean COPY?)",
        ),
        (
            "ONBUILD RUN x",
            "in `ONBUILD ONBUILD RUN x` of the base: Chaining ONBUILD via `ONBUILD ONBUILD` isn't \
             allowed",
        ),
        (
            "RUN a\nRUN b",
            "in `ONBUILD RUN a` of the base: onbuild trigger should be a single expression",
        ),
        (
            "COPY --from=later a b",
            "in `ONBUILD COPY --from=later a b` of the base: cannot copy from stage \"later\", it \
             needs to be defined before current stage \"here\"",
        ),
    ] {
        let text = "FROM scratch AS one\nFROM  base AS here\nFROM base AS later\nFROM here\n";
        let error = with_triggers(text, &[("base", &[trigger])]).expect_err("refused");
        let Error::Refused { message: said, span, .. } = error else { panic!("{error}") };
        assert_eq!(said, message);
        let at = span.map(|span| span.position(text).to_string());
        assert_eq!(at.as_deref(), Some("2:7"), "{trigger}");
    }
}

#[test]
fn a_trigger_with_a_here_document_is_kept_whole() {
    let plan = with_triggers("FROM base\nONBUILD RUN <<E\necho a\nE\n", &[]).expect("valid");
    let stored = plan.stages[0].config.config.on_build.clone();
    let text = with_triggers("FROM base\n", &[("base", &[stored[0].as_str()])]).expect("valid");
    assert_eq!(runs(&text)[0].args[2], "echo a\n");
}
