use super::*;

#[test]
fn refusals_point_at_the_place() {
    for (text, message, place) in [
        (
            "FROM scratch AS a\nCOPY --from=a x y\n",
            "circular dependency detected on stage: a",
            "2:6",
        ),
        (
            "FROM scratch AS a\nCOPY --from=b x y\nFROM scratch AS b\nCOPY --from=a x y\n",
            "circular dependency detected on stage: a",
            "2:6",
        ),
        (
            "FROM scratch AS a\nRUN --mount=from=b,target=/x c\nFROM a AS b\n",
            "circular dependency detected on stage: a",
            "2:5",
        ),
        (
            "FROM scratch AS a\nCOPY --from=b x y\nFROM scratch AS b\nFROM a\n",
            "cannot copy from stage \"b\", it needs to be defined before current stage \"a\"",
            "2:6",
        ),
        (
            "FROM scratch\nCOPY --from=1 x y\nFROM scratch\nFROM scratch\nCOPY --from=0 x y\n",
            "cannot copy from stage \"1\", it needs to be defined before current stage \"stage-0\"",
            "2:6",
        ),
        ("FROM scratch\nCOPY --from=7 x y\nFROM scratch\n", "invalid stage index 7", "2:6"),
        ("ARG X=\nFROM $X\n", "base name ($X) should not be blank", "2:6"),
        ("FROM Upper/x:y:z\n", "", "1:6"),
        ("FROM --platform=$X a\n", "empty platform value from expression $X", "1:6"),
        ("FROM --platform=a/b/c/d a\n", "", "1:6"),
        ("FROM scratch\nEXPOSE x\n", "invalid containerPort: x", "2:8"),
        ("FROM scratch\nEXPOSE 80/http\n", "invalid proto: http", "2:8"),
        ("FROM scratch\nSTOPSIGNAL NOPE\n", "invalid signal: NOPE", "2:12"),
        ("FROM scratch\nENV A=\"${B:?is needed}\"\n", "B: is needed", "2:7"),
        ("FROM scratch\nVOLUME $NOPE\n", "VOLUME specified can not be an empty string", "2:8"),
    ] {
        let (said, at) = refusal(text);
        assert!(message.is_empty() || said == message, "{text}: {said}");
        assert_eq!(at, place, "{text}: {said}");
    }
}

#[test]
fn stages_that_nothing_needs_may_wait_for_later_ones() {
    let plan = plan("FROM scratch AS a\nCOPY --from=b x y\nFROM scratch AS b\nFROM scratch\n");
    assert_eq!(plan.stages.len(), 1);
}

#[test]
fn hints_name_what_was_meant() {
    let hint = |text: &str, target: Option<&str>| {
        let mut options = options();
        options.target = target.map(str::to_owned);
        match plan_with(text, &options, &RuntimeConfig::default()) {
            Err(Error::Refused { hint, .. }) => hint.unwrap_or_default(),
            other => panic!("{other:?}"),
        }
    };
    let stages = "FROM a AS x\nFROM b AS y\n";
    assert_eq!(hint(stages, Some("nope")), "the stages are `x`, `y`");
    assert_eq!(hint("FROM a AS build\nFROM b\n", Some("biuld")), "did you mean `build`?");
    assert_eq!(hint("FROM a\n", Some("x")), "no stage of this Dockerfile has a name");
    assert_eq!(hint("ARG VERSION\nARG VERSIO=1\nFROM $VERSIN\n", None), "did you mean `$VERSIO`?");
    let arg = "FROM --platform=$BUILDPLATFROM a\n";
    assert_eq!(hint(arg, None), "did you mean `$BUILDPLATFORM`?");
    let bad = "FROM a AS build\nFROM b\nCOPY --from=build: x y\n";
    assert_eq!(hint(bad, None), "did you mean the stage `build`?");
}

#[test]
fn an_unknown_target_is_said() {
    let mut options = options();
    options.target = Some("nope".to_owned());
    let error = plan_with("FROM a AS x\n", &options, &RuntimeConfig::default());
    let Err(Error::Refused { message, .. }) = error else { panic!("accepted") };
    assert_eq!(message, "target stage \"nope\" could not be found");
}
