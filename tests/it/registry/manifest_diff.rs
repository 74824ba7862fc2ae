//! `manifest diff`.

use serde_json::json;

use super::editing::Editing;

#[test]
fn manifests_differ_in_lines_and_in_members() {
    let Some(it) = Editing::new() else { return };
    let one = it.image("team/app:1", ["x", "y"], "linux/amd64,linux/arm64");
    let two = it.reference("team/app:2");
    it.run(&["index", "annotate", &one, "-t", &two, "k=v"]);
    let (before, document) = it.manifest("team/app", "1");
    let (after, _) = it.manifest("team/app", "2");

    let text = it.run(&["manifest", "diff", &one, &two]);
    let head = format!("--- {one}\n+++ {two}\n@@ -");
    assert!(text.stdout.starts_with(&head), "{text}");
    text.expect_output("+    \"k\": \"v\"");
    let json = it.run(&["manifest", "diff", &one, &two, "--format", "json"]).json();
    assert_eq!(
        json,
        json!({
            "before": {"name": one, "digest": before},
            "after": {"name": two, "digest": after},
            "same": false,
            "manifest": [{"path": "/annotations", "before": null, "after": {"k": "v"}}],
        })
    );
    // One platform of both is the same manifest; the store has it too.
    let amd = ["--platform", "linux/amd64", "--format", "{{.same}}"];
    let same = it.run(&[&["manifest", "diff", &one, &two], &amd[..]].concat());
    assert_eq!(same.line(), "true");
    let nothing = it.run(&["manifest", "diff", "--local", &one, &one]);
    assert_eq!(nothing.stdout, "");
    assert!(document["annotations"].is_null());
}

#[test]
fn configs_are_compared_when_asked_for() {
    let Some(it) = Editing::new() else { return };
    let one = it.image("team/app:1", ["x", "y"], "linux/amd64");
    let two = it.reference("team/app:2");
    it.run(&["mutate", &one, "-t", &two, "-l", "who=me"]);
    let diff = ["manifest", "diff", "--config", &one, &two];
    let text = it.run(&diff);
    text.expect_output(&format!("--- config of {one}\n+++ config of {two}\n"));
    text.expect_output("+      \"who\": \"me\"");
    let json = it.run(&[&diff[..], &["--format", "json"]].concat()).json();
    let expected = json!([{"path": "/config/Labels", "before": null, "after": {"who": "me"}}]);
    assert_eq!(json["config"], expected);
    assert_eq!(json["manifest"][0]["path"], "/config/digest");

    let missing = it.reference("team/app:none");
    it.refused(&["manifest", "diff", &one, &missing], 3, "team/app:none");
    let diff = ["manifest", "diff", &one, &two, "--platform", "a/b/c/d"];
    it.refused(&diff, 2, "invalid `--platform`");
}
