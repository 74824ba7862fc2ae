//! Files of other tools, run as they are.

use super::Pair;
use crate::context::has_tools;

const SKOPEO: &str = r#"
SOURCE:
    images:
        busybox: []
        redis:
            - "1.0"
            - "2.0"
            - "DIGEST"
    images-by-tag-regex:
        nginx: ^1\.13\.[12]-alpine-perl$
    images-by-semver:
        alpine: ">= 3.12.0"
    credentials:
        username: john
        password: this is a secret
    tls-verify: false
"#;

/// Must show 2 of the issue: what skopeo makes of its file, and what rpub makes of it.
#[test]
fn skopeos_file_gives_what_skopeo_gives() {
    let Some(pair) = Pair::new() else { return };
    pair.image("busybox", &["busybox:1", "busybox:latest"]);
    pair.image("redis", &["redis:1.0", "redis:2.0", "redis:3.0"]);
    let pinned = pair.image("redis by digest", &["redis:pinned"]);
    pair.image("nginx", &["nginx:1.13.1-alpine-perl", "nginx:1.13.3-alpine-perl", "nginx:1.13.1"]);
    pair.image("alpine", &["alpine:3.11.9", "alpine:3.12", "alpine:3.12.1", "alpine:v4.0.0"]);
    pair.image("alpine rc", &["alpine:3.13.0-rc.1", "alpine:edge"]);
    pair.file("sync.yml", &SKOPEO.replace("DIGEST", &pinned));
    let to = pair.destination.reference("ours");
    let said = pair.mirror(&["sync.yml", "--to", &to]).success();
    let host = pair.source.name();
    assert!(said.stderr.contains(&format!("log in with `rpub login {host}`")), "{}", said.stderr);
    assert!(!said.stderr.contains("this is a secret") && !said.stdout.contains("secret"));
    assert_eq!(pair.destination.tags("ours/alpine"), ["3.12", "3.12.1", "v4.0.0"]);
    assert_eq!(pair.destination.tags("ours/nginx"), ["1.13.1-alpine-perl"]);
    assert_eq!(pair.destination.tags("ours/redis"), ["1.0", "2.0"]);
    assert_eq!(pair.destination.manifest("ours/redis", &pinned).unwrap().0, pinned);

    // Converted, it does the same, and the password is nowhere.
    let toml = pair.mirror(&["convert", "sync.yml", "--to", &to]).success().stdout.clone();
    assert!(!toml.contains("secret") && !toml.contains("john"), "{toml}");
    pair.context.write("converted.toml", &toml);
    let again = pair.mirror(&["converted.toml"]).success();
    assert!(again.stderr.contains("0 copied, 8 unchanged, 1 immutable"), "{}", again.stderr);

    if !has_tools(&["skopeo"]) {
        return;
    }
    let theirs = pair.destination.reference("theirs");
    let sync = ["--insecure-policy", "sync", "--all", "--src", "yaml", "--dest", "docker"];
    let sync = pair.context.tool("skopeo").args(sync).arg("--dest-tls-verify=false");
    let path = pair.context.path("sync.yml").display().to_string();
    sync.args([path, theirs]).success();
    // Older ones know no `images-by-semver`.
    let knows_versions = !pair.destination.tags("theirs/alpine").is_empty();
    for name in ["busybox", "redis", "nginx", "alpine"] {
        if name == "alpine" && !knows_versions {
            continue;
        }
        let [ours, theirs] = ["ours", "theirs"].map(|place| format!("{place}/{name}"));
        let tags = pair.destination.tags(&theirs);
        assert_eq!(pair.destination.tags(&ours), tags, "{name}");
        for tag in tags {
            let [ours, theirs] =
                [&ours, &theirs].map(|name| pair.destination.manifest(name, &tag).unwrap().0);
            assert_eq!(ours, theirs, "{name}:{tag}");
        }
    }
}

const REGSYNC: &str = r#"
x-sched-a: &sched-a "15 01 * * *"
version: 1
creds:
  - registry: DESTINATION
    tls: disabled
  - registry: SOURCE
    user: "{{env \"HUB_USER\"}}"
    pass: "{{file \"/var/run/secrets/hub_token\"}}"
defaults:
  ratelimit:
    min: 100
    retry: 15m
  parallel: 2
sync:
  - source: SOURCE/busybox:latest
    target: DESTINATION/library/busybox:latest
    type: image
    interval: 60m
    backup: "backup-{{.Ref.Tag}}"
  - source: SOURCE/alpine
    target: DESTINATION/library/{{ env "NAME" }}
    type: repository
    tags:
      allow:
      - "latest"
      - "edge"
      - "3"
      - "3.\\d+"
      deny:
      - "3.0"
    schedule: *sched-a
  - source: SOURCE
    target: DESTINATION
    type: registry
    repos:
      allow: ["team/.*"]
"#;

/// Must show 2 of the issue: regsync is in no package, so that what it would do is written out.
#[test]
fn regsyncs_file_gives_what_regsync_says() {
    let Some(pair) = Pair::new() else { return };
    let busybox = pair.image("busybox", &["busybox:latest", "busybox:1"]);
    let names = ["3", "3.0", "3.1", "3.10", "3.10.1", "edge", "latest"];
    let names = names.map(|tag| format!("alpine:{tag}"));
    pair.image("alpine", &names.each_ref().map(String::as_str));
    pair.image("team", &["team/a:1", "team/b/c:2"]);
    pair.file("regsync.yml", REGSYNC);
    let said = pair.mirror(&["regsync.yml"]).env("NAME", "alpine").success();
    let said = &said.stderr;
    for word in ["`user` of", "`backup` is", "`schedule` is", "`ratelimit` is", "`tls` of"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(pair.there("library/busybox:latest"), Some(busybox));
    assert_eq!(pair.destination.tags("library/busybox"), ["latest"]);
    let alpine = pair.destination.tags("library/alpine");
    assert_eq!(alpine, ["3", "3.1", "3.10", "edge", "latest"]);
    assert_eq!(pair.destination.tags("team/a"), ["1"]);
    assert_eq!(pair.destination.tags("team/b/c"), ["2"]);
    let converted =
        pair.mirror(&["convert", "--from", "regsync", "regsync.yml"]).success().stdout.clone();
    assert!(converted.contains("${NAME}"), "{converted}");
    pair.context.write("converted.toml", &converted);
    let again = pair.mirror(&["converted.toml"]).env("NAME", "alpine").success();
    assert!(again.stderr.contains("0 copied, 8 unchanged"), "{}", again.stderr);
}
