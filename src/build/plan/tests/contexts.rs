use super::*;

fn with_contexts(text: &str, contexts: &[(&str, NamedContext)]) -> Plan {
    let mut options = options();
    for (name, context) in contexts {
        options.contexts.insert(context_key(name).expect("valid"), context.clone());
    }
    plan_with(text, &options, &RuntimeConfig::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn image(name: &str) -> NamedContext {
    NamedContext::Image(name.parse().expect("valid"))
}

fn images(plan: &Plan) -> Vec<String> {
    plan.bases.iter().map(|base| base.reference.familiar()).collect()
}

#[test]
fn an_image_stands_in_for_a_base() {
    for name in ["alpine", "docker.io/library/alpine:latest", "alpine::linux/amd64"] {
        let plan = with_contexts("FROM alpine\nRUN a\n", &[(name, image("other:1"))]);
        assert_eq!(images(&plan), ["other:1"], "{name}");
    }
    let other = [("alpine::linux/arm64", image("other:1")), ("alpine:3", image("x"))];
    assert_eq!(images(&with_contexts("FROM alpine\n", &other)), ["alpine:latest"]);
    let both = [("alpine::linux/amd64", image("exact")), ("alpine", image("any"))];
    assert_eq!(images(&with_contexts("FROM alpine\n", &both)), ["exact:latest"]);
}

#[test]
fn a_context_stands_in_for_a_stage() {
    let text = "FROM alpine AS build\nRUN never\nFROM scratch\nCOPY --from=build /a /a\n\
                COPY --from=0 /b /b\n";
    let plan = with_contexts(text, &[("build", image("done"))]);
    assert_eq!(images(&plan), ["done:latest"]);
    assert_eq!(plan.stages.len(), 1);
    let plan = with_contexts(text, &[("build", NamedContext::Files)]);
    assert_eq!(plan.contexts, [ContextName::Named("build".to_owned())]);
    assert!(plan.bases.is_empty());
    let from = |step: &Step| match &step.work {
        Work::Copy(copy) => copy.from,
        other => panic!("{other:?}"),
    };
    let origins: Vec<Origin> = plan.stages[0].steps.iter().map(from).collect();
    assert_eq!(origins, [Origin::Context(0), Origin::Context(0)]);
    let mut options = options();
    options.target = Some("build".to_owned());
    options.contexts.insert("build".to_owned(), image("done"));
    let plan = plan_with(text, &options, &RuntimeConfig::default()).expect("valid");
    assert!(plan.stages[0].steps.is_empty(), "its own instructions do not count");
    assert!(matches!(plan.stages[0].base, StartingPoint::Image(0)));
}

#[test]
fn files_as_a_base_are_one_step() {
    let text = "FROM alpine AS a\nRUN one\nFROM a\nRUN two\n";
    let plan = with_contexts(text, &[("alpine", NamedContext::Files)]);
    assert_eq!(plan.stages[0].base, StartingPoint::Scratch);
    let names: Vec<&str> = plan.stages[0].steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["[context alpine] FROM alpine", "[a 2/2] RUN one"]);
    let Work::Copy(copy) = &plan.stages[0].steps[0].work else { panic!("no copy") };
    assert_eq!((copy.from, copy.destination.as_str()), (Origin::Context(0), "/"));
    assert_eq!(history_of(&plan.stages[0]), ["RUN /bin/sh -c one # buildkit"]);
    assert_eq!(plan.stages[0].config.config.working_dir, "/");
    let scratch = with_contexts("FROM alpine\nCOPY a /\n", &[("alpine", NamedContext::Scratch)]);
    assert_eq!(scratch.stages[0].steps.len(), 1);
}

fn history_of(stage: &Stage) -> Vec<&str> {
    stage.history.iter().map(|item| item.created_by.as_str()).collect()
}

#[test]
fn mounts_and_copies_take_from_contexts() {
    let text = "FROM base\nCOPY --from=assets /a /a\nRUN --mount=from=assets,target=/m x\n\
                COPY b /b\n";
    let plan = with_contexts(text, &[("assets", NamedContext::Files), ("unused", image("never"))]);
    let assets = ContextName::Named("assets".to_owned());
    assert_eq!(plan.contexts, [assets, ContextName::Main]);
    assert!(matches!(runs(&plan)[0].mounts[0], RunMount::Bind { from: Origin::Context(0), .. }));
    assert_eq!(images(&plan), ["base:latest"], "what nothing uses is not resolved");
    let plan = with_contexts("FROM base\nCOPY --from=l /a /a\n", &[("l", NamedContext::Layout)]);
    assert_eq!(plan.bases.len(), 2);
}

#[test]
fn reserved_names_are_not_replaced() {
    let plan = with_contexts("FROM scratch\nCOPY a /\n", &[("scratch", image("other"))]);
    assert!(plan.bases.is_empty());
}
