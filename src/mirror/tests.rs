//! Whole files: in both syntaxes, in the words of other tools, and wrong in every way.

use std::collections::BTreeMap;

use serde_json::Value;

use super::keys::{FILE, Key, Kind, RULE};
use super::*;
use crate::image::{Reference, Repository};

const OWN: &str = r#"
version = 1
[defaults]
to = ["r.example/{repository}", "s.example:5000/${TEAM}/{name}"]
exclude = "*-rc*"
platforms = ["linux/amd64", "arm64"]

[[rules]]
name = "base images"
from = "alpine"
tags = ["latest", 3.10, "3.*", '/v\d+/', "sha256:0000000000000000000000000000000000000000000000000000000000000000"]
semver = ">=3.1"
latest = 2
immutable = "3.*.*"
delete = "extra"

[[rules]]
from = "quay.io/team/**"
exclude-repositories = "team/secret*"
to = "r.example/{registry}/{repository}:{tag}"
platforms = "linux/arm64"
referrers = false
digest-tags = false
"#;

fn no_files(path: &str) -> Result<String, String> {
    match path {
        "/run/prefix" => Ok("team\n".to_owned()),
        _ => Err("no such file".to_owned()),
    }
}

fn variables(name: &str) -> Option<String> {
    (name == "TEAM").then(|| "red".to_owned())
}

fn document(name: &str, text: &str, to: &[&str]) -> Result<Document, Error> {
    let to: Vec<String> = to.iter().map(|text| (*text).to_owned()).collect();
    Document::parse(name, text, None, &to, &no_files)
}

fn rules(name: &str, text: &str) -> Result<MirrorFile, Error> {
    document(name, text, &[])?.rules(&variables)
}

fn repository(text: &str) -> Repository {
    text.parse::<Reference>().expect("a repository").repository
}

fn listed(tags: &str) -> Vec<String> {
    tags.split_whitespace().map(ToOwned::to_owned).collect()
}

#[test]
fn a_file_gives_rules_and_rules_give_jobs() {
    let file = rules("mirror.toml", OWN).unwrap_or_else(|error| panic!("{error}"));
    let [base, team] = file.rules.as_slice() else { panic!("two rules") };
    assert_eq!(base.name, "base images");
    assert_eq!(team.name, "rule 2");
    assert!(base.removes_extra && !team.removes_extra);
    assert!(base.treatment.referrers && !team.treatment.referrers);
    let platform = |text: &str| text.parse().expect("a platform");
    let both = vec![platform("linux/amd64"), platform("linux/arm64")];
    assert_eq!(base.treatment.platforms, both);
    assert_eq!(team.treatment.platforms, vec![platform("linux/arm64")]);

    let tags = listed("3.1 3.2 3.2.1 3.3-rc1 3.10 v3 edge");
    let jobs = base.jobs(0, &repository("alpine"), &tags).expect("jobs");
    let said: Vec<String> = jobs.iter().map(|job| job.source.familiar()).collect();
    let zeros = format!("alpine@sha256:{}", "0".repeat(64));
    assert_eq!(said, ["alpine:latest", "alpine:3.10", "alpine:3.2", "alpine:3.2.1", &zeros]);
    let to: Vec<String> = jobs[0].destinations.iter().map(ToString::to_string).collect();
    assert_eq!(to, ["r.example/library/alpine:latest", "s.example:5000/red/alpine:latest"]);
    let fixed: Vec<bool> = jobs.iter().map(|job| job.is_immutable).collect();
    assert_eq!(fixed, [false, false, false, true, true]);

    let found = team.source.repositories(&listed("team/a team/secret-b team/c/d other"));
    assert_eq!(found, [repository("quay.io/team/a"), repository("quay.io/team/c/d")]);
    let jobs = team.jobs(1, &found[1], &listed("1")).expect("jobs");
    assert_eq!(jobs[0].destinations[0].to_string(), "r.example/quay.io/team/c/d:1");
}

#[test]
fn yaml_says_the_same() {
    let yaml = r#"
x-to: &to ["r.example/{repository}", "s.example:5000/${TEAM}/{name}"]
"#;
    assert_eq!(rules("m.yaml", yaml).expect_err("unknown").message, "unknown key `x-to`");
    let yaml = r#"
version: 1
defaults:
  to: ["r.example/{repository}", "s.example:5000/${TEAM}/{name}"]
  exclude: "*-rc*"
  platforms: [linux/amd64, arm64]
rules:
  - &first
    name: base images
    from: alpine
    tags: [latest, 3.10, "3.*", '/v\d+/', "sha256:0000000000000000000000000000000000000000000000000000000000000000"]
    semver: ">=3.1"
    latest: 2
    immutable: "3.*.*"
    delete: extra
  - <<: {to: "r.example/{registry}/{repository}:{tag}"}
    from: quay.io/team/**
    exclude-repositories: team/secret*
    platforms: linux/arm64
    referrers: false
    digest-tags: False
"#;
    let [toml, yaml] = [rules("m.toml", OWN), rules("m.yml", yaml)]
        .map(|file| file.unwrap_or_else(|error| panic!("{error}")));
    let said = |file: &MirrorFile| {
        let spanless = |rule: &Rule| format!("{:?}", Rule { span: 0..0, ..rule.clone() });
        file.rules.iter().map(spanless).collect::<Vec<_>>()
    };
    assert_eq!(said(&toml), said(&yaml));
}

/// What is wrong, its line, what is said of it, and what to do.
#[test]
fn what_is_wrong_is_named_with_its_line() {
    let rule = "[[rules]]\nfrom = \"a\"\nto = \"r.example/a\"\n";
    let with = |line: &str| format!("{rule}{line}\n");
    let cases: &[(String, usize, &str, &str)] = &[
        (with("tgas = []"), 4, "unknown key `tgas`", "did you mean `tags`?"),
        (with("digestTags = true"), 4, "unknown key `digestTags`", "did you mean `digest-tags`?"),
        (with("colour = 1"), 4, "unknown key `colour`", "known here: name, from"),
        (format!("defualts = 1\n{rule}"), 1, "unknown key `defualts`", "did you mean `defaults`?"),
        (with("tags = 1\ntags = 2"), 5, "duplicate key", ""),
        (with("tags = []"), 4, "`tags` is empty", "leave it out"),
        (with("tags = [\"ok\",\n \"/(/\"]"), 5, "`/(/` is no regular expression", ""),
        (with("tags = [\"a b\"]"), 4, "invalid reference `a b`: a tag is", ""),
        (with("tags = [[1]]"), 4, "`tags` must be a list of texts", ""),
        (with("semver = \"newest\""), 4, "`newest` is no version", ""),
        (with("latest = 0"), 4, "`latest` must be a number from 1", ""),
        (with("referrers = \"yes\""), 4, "`referrers` must be true or false", ""),
        (with("platforms = [\"a/b/c/d\"]"), 4, "invalid platform `a/b/c/d`", ""),
        ("[[rules]]\nfrom = \"Up\"".into(), 2, "must be lower case", ""),
        ("[[rules]]\nfrom = \"team/*\"".into(), 2, "does not begin with a registry", "in full"),
        ("[[rules]]\nfrom = \"${NOPE}\"".into(), 2, "the variable `NOPE` is not set", "NOPE=..."),
        ("[[rules]]\nfrom = \"${TEAM\"".into(), 2, "`${` without its `}`", ""),
        ("[[rules]]\nfrom = \"a\"\nto = \"r.example\"".into(), 3, "names no repository", ""),
        ("version = 2\nrules = []".into(), 1, "version 2, rpub knows version 1", "newer rpub"),
        ("version = \"x\"\nrules = []".into(), 1, "`version` must be the number 1", ""),
        ("rules = []".into(), 1, "the file has no rules", "`from` and `to`"),
        ("rules = 7".into(), 1, "`rules` must be a list", ""),
        ("rules = [1]".into(), 1, "`a rule` must be a table of keys", ""),
        ("[[rules]\n".into(), 1, "invalid TOML", ""),
    ];
    for (text, line, message, hint) in cases {
        let error = rules("mirror.toml", text).err().unwrap_or_else(|| panic!("{text}"));
        assert!(error.message.contains(message), "{text}: {error}");
        assert_eq!(error.line(text), *line, "{text}: {error}");
        let said = error.hint.unwrap_or_default();
        assert!(said.contains(hint), "{text}: {said}");
    }
}

#[test]
fn wrong_yaml_is_named_with_its_line() {
    let deep = format!("rules: {}{}", "[".repeat(100), "]".repeat(100));
    let mut bomb = "a: &a [1,1,1,1,1,1,1,1,1,1]\n".to_owned();
    for (new, old) in ('b'..'k').zip('a'..'j') {
        let many = vec![format!("*{old}"); 10].join(",");
        bomb.extend([&format!("{new}: &{new} "), "[", &many, "]\n"]);
    }
    for (text, line, message) in [
        ("rules:\n  - from: a\n    form: b\n", 3, "unknown key `form`"),
        ("rules:\n  - from: a\n    from: b\n", 3, "`from` is given twice"),
        ("rules:\n  - from: [\n", 2, "invalid YAML"),
        ("rules: *nobody\n", 1, "invalid YAML"),
        ("rules:\n  - a\n---\nrules: []\n", 3, "more than one YAML document"),
        ("? [a]\n: b\n", 1, "a key must be a word"),
        ("rules: &a [*a]\n", 1, "inside of its own anchor"),
        ("<<: 7\n", 1, "`<<` must be a map"),
        (deep.as_str(), 1, "nested deeper"),
        (bomb.as_str(), 6, "more than 200000 values"),
        ("", 1, "the file has no rules"),
    ] {
        let error = rules("mirror.yaml", text).err().unwrap_or_else(|| panic!("{text}"));
        assert!(error.message.contains(message), "{text}: {error}");
        assert_eq!(error.line(text), line, "{text}: {error}");
    }
}

#[test]
fn two_rules_for_one_tag_are_named() {
    let text = "[defaults]\nto = \"r.example/x\"\n[[rules]]\nfrom = \"a\"\n\
                [[rules]]\nname = \"two\"\nfrom = \"b\"\n[[rules]]\nfrom = \"a\"\n";
    let file = rules("m.toml", text).expect("rules");
    let jobs = |number: usize, name: &str, tags: &str| {
        file.rules[number].jobs(number, &repository(name), &listed(tags)).expect("jobs")
    };
    let conflict = file.without_conflicts([jobs(0, "a", "1 2"), jobs(1, "b", "2")].concat(), text);
    let error = conflict.expect_err("a conflict");
    assert_eq!(
        error.message,
        "two images would have the tag `r.example/x:2`: `rule 1` (line 3, of `a:2`) and `two` \
         (line 5, of `b:2`)"
    );
    assert_eq!(error.line(text), 5);
    // The same twice is done once.
    let twice = [jobs(0, "a", "1 2"), jobs(2, "a", "2 3"), jobs(1, "b", "4")].concat();
    let kept = file.without_conflicts(twice, text).expect("no conflict");
    let sources: Vec<String> = kept.iter().map(|job| job.source.familiar()).collect();
    assert_eq!(sources, ["a:1", "a:2", "a:3", "b:4"]);
}

#[test]
fn what_is_extra_is_found() {
    let text = "[[rules]]\nfrom = \"a\"\nto = \"r.example/x\"\ndelete = \"extra\"\n\
                [[rules]]\nfrom = \"b\"\nto = [\"r.example/x\", \"r.example/y\"]\n";
    let file = rules("m.toml", text).expect("rules");
    let mut jobs = file.rules[0].jobs(0, &repository("a"), &listed("1")).expect("jobs");
    jobs.extend(file.rules[1].jobs(1, &repository("b"), &listed("2")).expect("jobs"));
    let cleaned = file.cleaned(&jobs);
    let stay = &cleaned[&repository("r.example/x")];
    assert_eq!(cleaned.len(), 1, "only where a rule says so");
    let digest_tag = format!("sha256-{}.sig", "0".repeat(64));
    let gone = extra(&listed(&format!("1 2 3 {digest_tag} latest")), stay);
    let gone: Vec<&str> = gone.iter().map(crate::image::Tag::as_str).collect();
    assert_eq!(gone, ["3", "latest"]);
}

/// The schema and the reader are made of one table; every key of it is read, and an example that the
/// schema allows is taken.
#[test]
fn the_schema_is_what_the_reader_takes() {
    let example = |key: &Key| {
        match (key.name, key.kind) {
            ("from", _) => "\"r.example/**\"",
            ("to", _) => "\"s.example/{repository}\"",
            ("platforms", _) => "[\"linux/amd64\"]",
            ("semver", _) => "\">=1\"",
            (_, Kind::Text) => "\"x\"",
            (_, Kind::Texts) => "[\"x\", 1.10]",
            (_, Kind::Flag) => "false",
            (_, Kind::Count | Kind::Version(_)) => "1",
            (_, Kind::Word(words)) => return format!("\"{}\"", words[0]),
            (_, Kind::Table(_) | Kind::Tables(_)) => "",
        }
        .to_owned()
    };
    let schema = schema();
    let rule_schema = &schema["properties"]["rules"]["items"];
    for key in RULE {
        let mut lines = BTreeMap::from([("from", "\"r.example/**\"".to_owned())]);
        lines.insert("to", "\"s.example/{repository}\"".to_owned());
        lines.insert(key.name, example(key));
        let lines: Vec<String> =
            lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let text = format!("[[rules]]\n{}", lines.concat());
        rules("m.toml", &text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let wrong = format!(
            "[[rules]]\nfrom = \"r.example/**\"\nto = \"s.example/x\"\n{} = {{}}\n",
            key.name
        );
        assert!(rules("m.toml", &wrong).is_err(), "{wrong}");
        assert!(rule_schema["properties"][key.name]["description"].is_string(), "{}", key.name);
    }
    let known = rule_schema["properties"].as_object().expect("properties");
    assert_eq!(known.len(), RULE.len());
    assert_eq!(schema["additionalProperties"], Value::Bool(false));
    let names: Vec<&String> =
        schema["properties"].as_object().expect("properties").keys().collect();
    assert_eq!(names, FILE.iter().map(|key| key.name).collect::<Vec<_>>());
}

#[test]
fn lists_of_digests_are_rules() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let lines = format!("docker.io/library/a:1 {digest}\n\n{digest} docker://b.example/c:2\n");
    let json = format!("[{{\"reference\": \"a:1\", \"digest\": \"{digest}\"}}]");
    for (name, text, expected) in
        [("pins", &lines, vec!["library/a:1", "c:2"]), ("pins.json", &json, vec!["library/a:1"])]
    {
        let read = document(name, text, &["r.example/{repository}"]);
        let file = read.and_then(|document| document.rules(&variables));
        let file = file.unwrap_or_else(|error| panic!("{error}"));
        let jobs = file
            .rules
            .iter()
            .flat_map(|rule| rule.jobs(0, &repository("unused"), &[]).expect("jobs"));
        let jobs: Vec<Job> = jobs.collect();
        assert!(
            jobs.iter().all(|job| job
                .source
                .digest
                .as_ref()
                .is_some_and(|it| it.to_string() == digest))
        );
        let to: Vec<String> = jobs.iter().map(|job| job.destinations[0].to_string()).collect();
        let expected: Vec<String> = expected.iter().map(|it| format!("r.example/{it}")).collect();
        assert_eq!(to, expected);
        assert!(document(name, text, &[]).expect_err("no place").hint.is_some());
    }
}

const SKOPEO: &str = r#"
registry.example.com:
    images:
        busybox: []
        redis:
            - "1.0"
            - 2.0
            - "sha256:0000000000000000000000000000000011111111111111111111111111111111"
    images-by-tag-regex:
        nginx: ^1\.13\.[12]-alpine-perl$
    images-by-semver:
        alpine: ">= 3.12.0"
    credentials:
        username: john
        password: this is a secret
    tls-verify: true
    cert-dir: /home/john/certs
quay.io:
    tls-verify: false
    images:
        coreos/etcd:
            - latest
"#;

#[test]
fn skopeos_file_is_read() {
    let document = document("sync.yml", SKOPEO, &["my-registry.local.lan/repo/"]);
    let document = document.unwrap_or_else(|error| panic!("{error}"));
    let warnings: Vec<&str> = document.warnings.iter().map(|it| it.message.as_str()).collect();
    insta::assert_snapshot!(warnings.join("\n"), @r"
`credentials` of `registry.example.com` is not taken over: log in with `rpub login registry.example.com`
`cert-dir` of `registry.example.com` is not taken over: give `--cert-dir`, or put the files into `certs.d/registry.example.com`
`tls-verify` of `quay.io` is not taken over: give `--insecure-registry quay.io`
");
    let toml = document.to_toml(&variables).unwrap_or_else(|error| panic!("{error}"));
    insta::assert_snapshot!(toml, @r#"
version = 1

[defaults]
to = ["my-registry.local.lan/repo/{name}"]

[[rules]]
from = "registry.example.com/busybox"

[[rules]]
from = "registry.example.com/redis"
tags = [
    "1.0",
    "2.0",
    "sha256:0000000000000000000000000000000011111111111111111111111111111111",
]

[[rules]]
from = "registry.example.com/nginx"
tags = '/1\.13\.[12]-alpine-perl/'

[[rules]]
from = "registry.example.com/alpine"
semver = ">= 3.12.0"

[[rules]]
from = "quay.io/coreos/etcd"
tags = ["latest"]
"#);
    assert_eq!(
        format!("{:?}", rules("m.toml", &toml).expect("its own output").rules.len()),
        document.rules(&variables).expect("rules").rules.len().to_string()
    );
}

const REGSYNC: &str = r#"
x-sched-a: &sched-a "15 01 * * *"
x-sync-hub: &sync-hub
  target: registry:5000/hub/{{ .Sync.Source }}
x-sync-gcr: &sync-gcr
  target: registry:5000/gcr/{{ index (split .Sync.Source "gcr.io/") 1 }}
version: 1
creds:
  - registry: localhost:5000
    tls: disabled
  - registry: docker.io
    user: "{{env \"HUB_USER\"}}"
    pass: "{{file \"/var/run/secrets/hub_token\"}}"
defaults:
  ratelimit:
    min: 100
    retry: 15m
  parallel: 2
  referrers: true
sync:
  - source: busybox:latest
    target: localhost:5000/library/busybox:latest
    type: image
    interval: 60m
    backup: "backup-{{.Ref.Tag}}"
  - source: alpine
    target: localhost:5000/library/alpine
    type: repository
    tags:
      allow:
      - "latest"
      - "edge"
      - 3
      - "3.\\d+"
      deny:
      - "3.0"
    schedule: *sched-a
    backup: "{{$t := time.Now}}{{printf \"%s\" .Ref.Registry}}"
  - source: localreg:5000
    target: localcopy:5000
    type: registry
    repos:
      allow: ["team/.*"]
  - <<: *sync-hub
    source: debian
    type: repository
    tagSets:
      - semverRange: [">=11", "8"]
      - allow: [stable]
  - <<: *sync-gcr
    source: gcr.io/example/repo
    type: repository
    platform: linux/amd64
    digestTags: true
  - source: ${TEAM}/{{file "/run/prefix"}}-{{env "TEAM"}}
    target: registry:5000/{{lower "Up"}}
    type: image
"#;

#[test]
fn regsyncs_file_is_read() {
    let document = document("regsync.yml", REGSYNC, &[]);
    let document = document.unwrap_or_else(|error| panic!("{error}"));
    let warnings: Vec<&str> = document.warnings.iter().map(|it| it.message.as_str()).collect();
    insta::assert_snapshot!(warnings.join("\n"), @r"
`tls` of `localhost:5000` is not taken over: give `--plain-http localhost:5000`
`user` of `docker.io` is not taken over: log in with `rpub login docker.io`
`ratelimit` is not taken over: rpub stops at a registry's quota, says when it lifts, and goes on next time
`parallel` is not taken over: give `--concurrency`
`interval` is not taken over: run `rpub mirror` by a timer
`backup` is not taken over: an image that is replaced is not kept under another tag
`schedule` is not taken over: run `rpub mirror` by a timer
");
    let toml = document.to_toml(&variables).unwrap_or_else(|error| panic!("{error}"));
    insta::assert_snapshot!(toml, @r#"
version = 1

[[rules]]
from = "busybox:latest"
to = "localhost:5000/library/busybox:latest"
referrers = true
digest-tags = false

[[rules]]
from = "alpine"
to = "localhost:5000/library/alpine"
tags = ["/latest/", "/edge/", "/3/", '/3.\d+/']
exclude = ["/3.0/"]
referrers = true
digest-tags = false

[[rules]]
from = "localreg:5000/**"
to = "localcopy:5000/{repository}"
repositories = ["/team/.*/"]
referrers = true
digest-tags = true

[[rules]]
from = "debian"
to = "registry:5000/hub/debian"
semver = ">=11 || 8"
referrers = true
digest-tags = false

[[rules]]
from = "debian"
to = "registry:5000/hub/debian"
tags = ["/stable/"]
referrers = true
digest-tags = false

[[rules]]
from = "gcr.io/example/repo"
to = "registry:5000/gcr/example/repo"
platforms = "linux/amd64"
referrers = true
digest-tags = true

[[rules]]
from = "${TEAM}/team-${TEAM}"
to = "registry:5000/up:latest"
referrers = true
digest-tags = false
"#);
    let file = document.rules(&variables).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(rules("m.toml", &toml).expect("its own output").rules.len(), file.rules.len());
    // Lines are those of the file that was given.
    assert_eq!(line_of(REGSYNC, file.rules[0].span.start), 21);
}

#[test]
fn what_no_mirror_can_do_is_an_error() {
    let sync = |source: &str, more: &str| {
        format!("sync:\n- source: {source}\n  target: r:5000/a\n  type: image\n{more}")
    };
    for (text, line, message) in [
        (sync("\"{{range .X}}\"", ""), 2, "the template `{{range .X}}` is not understood"),
        (sync("\"{{file \\\"/gone\\\"}}\"", ""), 2, "the template `{{file"),
        (sync("ocidir://a", ""), 2, "`ocidir://a` is not in a registry"),
        (sync("a", "  tgas: 1\n"), 5, "unknown key `tgas`"),
        (sync("a", "").replace("image", "all"), 4, "`type` must be image, repository or registry"),
        ("sync:\n- type: image\n".into(), 2, "has no `source`"),
        ("version: 9\nsync: []\n".into(), 1, "`version` must be 1"),
        ("creds: 1\nsync: []\n".into(), 1, "`creds` must be a list"),
        ("defaults:\n  paralel: 1\nsync: []\n".into(), 2, "unknown key `paralel`"),
        ("q.io:\n  images: {a: [\"x y\"]}\n".into(), 2, "`x y` is no tag"),
        ("q.io:\n  images: {}\n  imags: {}\n".into(), 3, "unknown key `imags`"),
        ("q.io:\n  images: {}\n".into(), 1, "the file names no images"),
    ] {
        let to: &[&str] = if text.starts_with("q.io") { &["r.example/m"] } else { &[] };
        let read = document("m.yaml", &text, to).and_then(|document| document.rules(&variables));
        let error = read.err().unwrap_or_else(|| panic!("{text}"));
        assert!(error.message.contains(message), "{text}: {error}");
        assert_eq!(error.line(&text), line, "{text}: {error}");
    }
}

proptest::proptest! {
    #[test]
    fn never_panics(text in "(?s).{0,80}", lines in "([a-z]{1,8}[:=] ?[\\[\\]{}*&\"a-z$.0-9]{0,9}\n ?-? ?){0,6}") {
        for text in [text, lines] {
            for name in ["m.toml", "m.yaml", "m"] {
                let _ = rules(name, &text);
            }
        }
    }
}
