//! What a run copies, leaves alone, removes and writes down.

use serde_json::Value;

use super::{Pair, map};
use crate::context::{Passed, Proxy, Registry, verify_image};

const FILE: &str = r#"
[defaults]
to = "DESTINATION/mirror/{repository}"

[[rules]]
name = "apps"
from = "SOURCE/team/app"
tags = ["latest", "1.*"]
exclude = "*-rc*"
"#;

#[test]
fn what_a_file_says_is_brought_about_and_kept_so() {
    let Some(pair) = Pair::new() else { return };
    let one = pair.image("one", &["team/app:1.0", "team/app:1.0-rc1", "team/app:2.0"]);
    let two = pair.image("two", &["team/app:1.1", "team/app:latest"]);
    pair.file("mirror.toml", FILE);
    let copied = map(&[
        ("mirror/team/app:1.0", "copied"),
        ("mirror/team/app:1.1", "copied"),
        ("mirror/team/app:latest", "copied"),
    ]);
    assert_eq!(pair.outcomes(&["mirror.toml"], 0), copied);
    assert_eq!(pair.destination.tags("mirror/team/app"), ["1.0", "1.1", "latest"]);
    assert_eq!(pair.there("mirror/team/app:1.0"), Some(one));
    assert_eq!(pair.there("mirror/team/app:latest"), Some(two));
    verify_image(&pair.destination, "mirror/team/app", "latest");

    let three = pair.image("three", &["team/app:latest"]);
    let outcomes = pair.outcomes(&["mirror.toml"], 0);
    assert_eq!(outcomes["mirror/team/app:1.0"], "unchanged");
    assert_eq!(outcomes["mirror/team/app:latest"], "copied");
    assert_eq!(pair.there("mirror/team/app:latest"), Some(three));
    let said = pair.mirror(&["mirror.toml"]).success();
    assert_eq!(said.stdout, "", "what is unchanged is not printed");
    assert!(said.stderr.contains("mirrored: 0 copied, 3 unchanged"), "{}", said.stderr);
}

/// How many tags the issue wants a run to look at that has nothing to do.
const TAGS: usize = 500;
/// The most memory that such a run fills itself. The issue's 48 MB are of the released program with its
/// file, which the bench measures.
const MAX_MEMORY: u64 = 12 << 20;

fn manifests(proxy: &Proxy, method: &str) -> usize {
    let is_meant = |it: &Passed| it.method == method && it.target.contains("/manifests/");
    proxy.passed().into_iter().filter(is_meant).count()
}

/// Returns the requests of other methods than `HEAD`, but for those that find out the way.
fn others(proxy: &Proxy) -> Vec<String> {
    let passed = proxy.passed().into_iter().filter(|it| it.method != "HEAD");
    let lines = passed.map(|it| format!("{} {}", it.method, it.target));
    lines.filter(|line| !line.ends_with("/v2/")).collect()
}

#[test]
fn nothing_is_read_that_a_head_tells_and_nothing_asked_of_what_never_changes() {
    let Some(pair) = Pair::new() else { return };
    pair.image("one", &["team/app:1.0"]);
    let rule = "[[rules]]\nfrom = \"SOURCE/team/app\"\nto = \"DESTINATION/team/app\"\n";
    pair.file("mirror.toml", rule);
    pair.mirror(&["mirror.toml"]).success();
    for registry in [&pair.source, &pair.destination] {
        multiply(registry, "team/app", "1.0", TAGS);
    }
    let (from, to) = (Pair::proxy(&pair.source), Pair::proxy(&pair.destination));
    let text = format!(
        "[[rules]]\nfrom = \"{}\"\nto = \"{}\"\nimmutable = \"1.*\"\n",
        from.reference("team/app"),
        to.reference("team/app")
    );
    pair.file("mirror.toml", &text);
    let mut running = pair.mirror(&["mirror.toml"]).spawn();
    let peak = running.peak_own_memory();
    let said = running.finish();
    assert!(said.stderr.contains(&format!("0 copied, {TAGS} unchanged")), "{}", said.stderr);
    assert!((1..MAX_MEMORY).contains(&peak), "{peak} bytes");
    assert_eq!([manifests(&from, "HEAD"), manifests(&to, "HEAD")], [TAGS, TAGS]);
    assert_eq!(others(&from).len(), 1, "the tags are listed: {:?}", others(&from));
    assert!(others(&to).is_empty(), "{:?}", others(&to));

    from.forget();
    to.forget();
    let said = pair.mirror(&["mirror.toml"]).success();
    assert!(said.stderr.contains(&format!("0 copied, {TAGS} immutable")), "{}", said.stderr);
    assert_eq!(manifests(&from, "HEAD"), 0);
    assert!(to.passed().is_empty(), "{:?}", to.passed());
}

/// Gives an image `1.1`, `1.2` and so on as further tags, on the registry's disk.
fn multiply(registry: &Registry, repository: &str, tag: &str, count: usize) {
    let tags = format!("docker/registry/v2/repositories/{repository}/_manifests/tags");
    let tags = registry.storage().join(tags);
    let link = fs_err::read(tags.join(tag).join("current/link")).unwrap();
    for number in 1..count {
        let current = tags.join(format!("1.{number}/current"));
        fs_err::create_dir_all(&current).unwrap();
        fs_err::write(current.join("link"), &link).unwrap();
    }
}

#[test]
fn an_index_is_carried_whole_with_what_refers_to_it_or_trimmed_and_remembered() {
    let Some(pair) = Pair::new() else { return };
    let whole = pair.index("app", "team/app:1", &["linux/amd64", "linux/arm64", "linux/s390x"]);
    pair.context.write("bill.json", "{}");
    let name = pair.source.reference("team/app:1");
    let attach = ["artifact", "attach", "--artifact-type", "example/bill", &name, "bill.json"];
    pair.context.rpub(attach).success();
    let proxy = Pair::proxy(&pair.source);
    let from = proxy.reference("team/app");
    let file = |immutable: &str| {
        format!(
            "defaults: {{to: 'DESTINATION/whole/{{name}}', immutable: {immutable}}}\nrules:\n\
             - {{from: '{from}', tags: [1]}}\n\
             - {{from: '{from}', tags: [1], to: 'DESTINATION/some/{{name}}', \
                platforms: [linux/amd64, arm64]}}\n\
             - {{from: '{from}', tags: [1], to: 'DESTINATION/one/{{name}}', platforms: arm64}}\n"
        )
    };
    pair.file("mirror.yaml", &file("[]"));
    let outcomes = pair.outcomes(&["mirror.yaml"], 0);
    assert!(outcomes.values().all(|outcome| outcome == "copied"), "{outcomes:?}");
    assert_eq!(pair.there("whole/app:1"), Some(whole));
    let (_, some) = pair.destination.manifest("some/app", "1").unwrap();
    assert_eq!(some["manifests"].as_array().unwrap().len(), 2);
    let (_, one) = pair.destination.manifest("one/app", "1").unwrap();
    assert!(one["config"].is_object());
    let referrers = |name: &str| {
        let listed = pair.context.rpub(["referrers", name, "--format", "json"]).success();
        let document: Value = serde_json::from_str(listed.stdout.lines().next().unwrap()).unwrap();
        document["digest"].clone()
    };
    assert_eq!(referrers(&pair.destination.reference("whole/app:1")), referrers(&name));

    // What became of an index is known the next time.
    proxy.forget();
    let outcomes = pair.outcomes(&["mirror.yaml"], 0);
    assert!(outcomes.values().all(|outcome| outcome == "unchanged"), "{outcomes:?}");
    assert!(others(&proxy).is_empty(), "{:?}", others(&proxy));
    pair.file("mirror.yaml", &file("['1']"));
    pair.outcomes(&["mirror.yaml"], 0);
    let outcomes = pair.outcomes(&["mirror.yaml"], 0);
    assert!(outcomes.values().all(|outcome| outcome == "immutable"), "{outcomes:?}");
    let outcomes = pair.outcomes(&["mirror.yaml", "--recheck"], 0);
    assert!(outcomes.values().all(|outcome| outcome == "unchanged"), "{outcomes:?}");
}

#[test]
fn several_destinations_are_filled_by_reading_once() {
    let Some(pair) = Pair::new() else { return };
    let digest = pair.image("one", &["team/app:1"]);
    let from = Pair::proxy(&pair.source);
    let source = from.reference("team/app:1");
    pair.file(
        "mirror.toml",
        &format!(
            "[[rules]]\nfrom = \"{source}\"\n\
             to = [\"DESTINATION/a/{{name}}\", \"DESTINATION/b/{{name}}:{{tag}}-copy\", \
             \"SOURCE/c/app:${{STAGE}}\"]\n"
        ),
    );
    let unset = pair.mirror(&["mirror.toml"]).code(2);
    assert!(unset.stderr.contains("the variable `STAGE` is not set"), "{}", unset.stderr);
    pair.mirror(&["mirror.toml"]).env("STAGE", "live").success();
    assert_eq!(pair.there("a/app:1"), Some(digest.clone()));
    assert_eq!(pair.there("b/app:1-copy"), Some(digest.clone()));
    assert_eq!(pair.source.manifest("c/app", "live").unwrap().0, digest);
    let blobs: Vec<String> = from
        .passed()
        .into_iter()
        .filter(|it| it.method == "GET" && it.target.contains("/blobs/"))
        .map(|it| it.target)
        .collect();
    let mut once = blobs.clone();
    once.sort();
    once.dedup();
    assert_eq!(blobs.len(), once.len(), "{blobs:?}");
}

#[test]
fn extra_tags_go_only_when_that_is_confirmed() {
    let Some(pair) = Pair::new() else { return };
    pair.image("one", &["team/app:1", "team/app:2"]);
    pair.file(
        "mirror.toml",
        "[[rules]]\nfrom = \"SOURCE/team/app\"\nto = \"DESTINATION/team/app\"\n\
         tags = [\"1\"]\ndelete = \"extra\"\n",
    );
    let extra =
        ["copy", &pair.source.reference("team/app:2"), &pair.destination.reference("team/app:old")];
    pair.context.rpub(extra).success();
    let said = pair.mirror(&["mirror.toml"]).success();
    assert!(said.stderr.contains("1 tags are extra and stay"), "{}", said.stderr);
    assert_eq!(pair.destination.tags("team/app"), ["1", "old"]);
    let plan = pair.mirror(&["plan", "mirror.toml"]).success().stdout.clone();
    assert!(plan.contains("remove  ") && plan.contains("team/app:old"), "{plan}");
    let outcomes = pair.outcomes(&["mirror.toml", "--delete"], 0);
    assert_eq!(outcomes["team/app:old"], "removed");
    assert_eq!(pair.destination.tags("team/app"), ["1"]);

    // Nothing is removed on the word of a source that cannot be listed.
    pair.context.rpub(extra).success();
    pair.file(
        "mirror.toml",
        "[[rules]]\nfrom = \"SOURCE/team/app\"\nto = \"DESTINATION/team/app\"\ntags = [\"1\"]\n\
         delete = \"extra\"\n[[rules]]\nfrom = \"SOURCE/team/gone\"\nto = \"DESTINATION/team/app\"\n",
    );
    pair.mirror(&["mirror.toml", "--delete"]).code(6);
    assert_eq!(pair.destination.tags("team/app"), ["1", "old"]);
}

#[test]
fn what_was_done_is_written_down_and_can_be_done_again() {
    let Some(pair) = Pair::new() else { return };
    let one = pair.image("one", &["team/a:1"]);
    let two = pair.image("two", &["team/b:1"]);
    pair.file(
        "mirror.toml",
        "[[rules]]\nfrom = \"SOURCE/team/*\"\nrepositories = [\"team/a\", \"/team\\\\/b/\"]\n\
         to = \"DESTINATION/{repository}\"\n",
    );
    let files = ["--digest-file", "digests", "--report", "report.json"];
    pair.mirror(&["mirror.toml"]).args(files).success();
    let read = |name: &str| fs_err::read_to_string(pair.context.path(name)).unwrap();
    let names = ["team/a:1", "team/b:1"].map(|name| pair.destination.reference(name));
    assert_eq!(read("digests"), format!("{} {one}\n{} {two}\n", names[0], names[1]));
    let report: Value = serde_json::from_str(&read("report.json")).unwrap();
    assert_eq!(report["copied"], 2);
    assert_eq!(report["images"][1]["digest"], two.as_str());

    // The list is a mirror file, of those very images.
    pair.image("three", &["team/a:1"]);
    let back = pair.source.reference("again/{name}");
    pair.mirror(&["digests", "--to", &back, "--digestfile", "again.json"]).success();
    assert_eq!(pair.source.manifest("again/a", "1").unwrap().0, one);
    assert_eq!(pair.source.manifest("again/b", "1").unwrap().0, two);
    let again: Value = serde_json::from_str(&read("again.json")).unwrap();
    assert_eq!(again[0]["digest"], one.as_str());
    pair.mirror(&["again.json", "--to", &pair.destination.reference("json/{name}")]).success();
    assert_eq!(pair.there("json/b:1"), Some(two));
}
