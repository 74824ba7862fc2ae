//! What is said before anything moves.

use serde_json::Value;

use super::Pair;

#[test]
fn a_plan_counts_and_moves_nothing() {
    let Some(pair) = Pair::new() else { return };
    pair.image("one", &["team/app:1", "team/app:2"]);
    pair.image("two", &["team/app:3"]);
    pair.file(
        "mirror.toml",
        "[[rules]]\nfrom = \"SOURCE/team/app\"\nto = \"DESTINATION/mirror/app\"\n",
    );
    let plan = pair.mirror(&["plan", "mirror.toml"]).success().stdout.clone();
    assert!(plan.contains("3 to copy, 0 unchanged, 0 immutable"), "{plan}");
    // Two configs and two layers; the two tags of one image share theirs.
    assert!(plan.contains("to move in 4 blobs, about"), "{plan}");
    assert_eq!(pair.mirror(&["mirror.toml", "--dry-run"]).success().stdout, plan);
    assert!(pair.destination.tags("mirror/app").is_empty());

    let json = pair.mirror(&["plan", "mirror.toml", "--format", "json"]).success().stdout.clone();
    let plan: Value = serde_json::from_str(&json).unwrap();
    let bytes = plan["bytes"].as_u64().unwrap();
    assert_eq!(plan["quotas"], serde_json::json!([]));
    let report = ["--report", "report.json"];
    pair.mirror(&["mirror.toml"]).args(report).success();
    let report = fs_err::read_to_string(pair.context.path("report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["sentBytes"].as_u64(), Some(bytes), "what was planned is what moved");
    let plan = pair.mirror(&["plan", "mirror.toml"]).success().stdout.clone();
    assert_eq!(plan, "0 to copy, 3 unchanged, 0 immutable\n");
    pair.image("four", &["team/app:2"]);
    let plan = pair.mirror(&["plan", "mirror.toml"]).success().stdout.clone();
    assert!(plan.starts_with("update  "), "{plan}");
}

#[test]
fn the_schema_is_json_and_knows_the_keys() {
    let context = crate::context::TestContext::new();
    let schema = context.rpub(["mirror", "schema"]).success().stdout.clone();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let rule = &schema["properties"]["rules"]["items"]["properties"];
    assert!(rule["from"].is_object() && rule["digest-tags"].is_object(), "{rule}");
}
