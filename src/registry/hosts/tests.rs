//! The three kinds of files together.

use proptest::prelude::*;

use super::*;
use crate::image::Reference;

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn repository(text: &str) -> Repository {
    reference(text).repository
}

fn shown(endpoint: Endpoint) -> (String, TransportRule) {
    (endpoint.repository.to_string(), endpoint.reach.unwrap().transport)
}

fn pulls(hosts: &Hosts, text: &str) -> Vec<(String, TransportRule)> {
    let reference = reference(text);
    hosts.for_pull(PullTarget::Manifest(&reference)).into_iter().map(shown).collect()
}

fn places(hosts: &Hosts, text: &str) -> Vec<String> {
    pulls(hosts, text).into_iter().map(|(place, _)| place).collect()
}

const TEXT: &str = r#"
    unqualified-search-registries = ["docker.io"]
    short-name-mode = "permissive"
    credential-helpers = ["containers-auth.json", "pass"]
    [[registry]]
    prefix = "docker.io"
    location = "docker.io"
    [[registry.mirror]]
    location = "localhost:5000"
    [[registry.mirror]]
    location = "mirror.example/hub"
    insecure = true
    pull-from-mirror = "all"
    [[registry]]
    location = "old.example"
    insecure = true
    [[registry]]
    prefix = "old.example/moved"
    location = "new.example/here"
    [[registry]]
    prefix = "*.corp.example"
    insecure = true
    [[registry.mirror]]
    location = "near.example/corp"
    [[registry]]
    prefix = "*.lab.corp.example"
    location = "lab.example/all"
    [[registry]]
    location = "bad.example"
    blocked = true
    [[registry]]
    prefix = "r.example/app:1.0"
    blocked = true
    [aliases]
    "tool" = "quay.example/team/tool"
    "gone" = ""
"#;

#[test]
fn mirrors_come_first_then_the_registry() {
    let hosts = Hosts::parse(TEXT).unwrap();
    let expected = [
        ("localhost:5000/library/alpine".to_owned(), TransportRule::Local),
        ("mirror.example/hub/library/alpine".to_owned(), TransportRule::Insecure),
        ("docker.io/library/alpine".to_owned(), TransportRule::Verified),
    ];
    assert_eq!(pulls(&hosts, "alpine"), expected);
    assert_eq!(hosts.for_push(&repository("alpine")).repository, repository("alpine"));
    assert_eq!(hosts.credential_helpers(), ["containers-auth.json", "pass"]);
}

/// A short name is docker's, as for whoever builds the same Dockerfile elsewhere.
#[test]
fn aliases_change_no_name() {
    let hosts = Hosts::parse(TEXT).unwrap();
    let last = places(&hosts, "tool").pop();
    assert_eq!(last.as_deref(), Some("docker.io/library/tool"));
}

#[test]
fn the_longest_prefix_decides_and_components_stay_whole() {
    let mut hosts = Hosts::parse(TEXT).unwrap();
    let is = |hosts: &Hosts, text: &str, place: &str, transport: TransportRule| {
        assert_eq!(pulls(hosts, text), [(place.to_owned(), transport)], "{text}");
    };
    is(&hosts, "old.example/x", "old.example/x", TransportRule::Insecure);
    is(&hosts, "old.example/moved/x", "new.example/here/x", TransportRule::Verified);
    is(&hosts, "old.example/movedx/y", "old.example/movedx/y", TransportRule::Insecure);
    is(&hosts, "free.example/x", "free.example/x", TransportRule::Verified);
    is(&hosts, "corp.example/x", "corp.example/x", TransportRule::Verified);
    is(&hosts, "a.b.lab.corp.example:5000/x", "lab.example/all/x", TransportRule::Verified);
    let near = ["near.example/corp/x", "a.corp.example/x"];
    assert_eq!(places(&hosts, "a.corp.example/x"), near);
    hosts.allow_insecure("free.example".parse().unwrap());
    is(&hosts, "free.example/x", "free.example/x", TransportRule::Insecure);
}

#[test]
fn pushes_go_where_the_name_says() {
    let hosts = Hosts::parse(TEXT).unwrap();
    let push = |text: &str| shown(hosts.for_push(&repository(text)));
    assert_eq!(
        push("old.example/moved/x"),
        ("old.example/moved/x".to_owned(), TransportRule::Verified)
    );
    assert_eq!(push("old.example/x"), ("old.example/x".to_owned(), TransportRule::Insecure));
    let read = hosts.for_reading(&repository("old.example/moved/x"));
    assert_eq!(read.repository.to_string(), "new.example/here/x");
}

#[test]
fn what_is_blocked_is_refused_with_the_entrys_place() {
    let hosts = Hosts::parse(TEXT).unwrap();
    let why = |endpoint: &Endpoint| endpoint.reach.as_ref().unwrap_err().to_string();
    let bad = reference("bad.example/x");
    let [only] = &hosts.for_pull(PullTarget::Manifest(&bad))[..] else { panic!("one refusal") };
    let expected = "`bad.example/x` is blocked: `registries.conf`, line 28 says `blocked = true` \
                    for the prefix `bad.example`";
    assert_eq!(why(only), expected);
    assert_eq!(why(&hosts.for_push(&bad.repository)), expected);
    let tag = reference("r.example/app:1.0");
    assert!(hosts.for_pull(PullTarget::Manifest(&tag))[0].reach.is_err());
    assert_eq!(places(&hosts, "r.example/app:1.0.1"), ["r.example/app"]);
}

#[test]
fn mirrors_are_for_digests_or_tags() {
    let text = r#"
        [[registry]]
        location = "r.example"
        [[registry.mirror]]
        location = "tags.example"
        pull-from-mirror = "tag-only"
        [[registry.mirror]]
        location = "digests.example"
        pull-from-mirror = "digest-only"
        [[registry]]
        location = "s.example"
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = "m.example"
    "#;
    let hosts = Hosts::parse(text).unwrap();
    let digest = crate::image::Digest::of(b"x");
    assert_eq!(places(&hosts, "r.example/a:1"), ["tags.example/a", "r.example/a"]);
    let by_digest = places(&hosts, &format!("r.example/a@{digest}"));
    assert_eq!(by_digest, ["digests.example/a", "r.example/a"]);
    assert_eq!(places(&hosts, "s.example/a"), ["s.example/a"]);
    let by_digest = places(&hosts, &format!("s.example/a:1@{digest}"));
    assert_eq!(by_digest, ["m.example/a", "s.example/a"]);
    let repository = repository("r.example/a");
    assert_eq!(hosts.for_pull(PullTarget::Content(&repository)).len(), 3);
}

#[test]
fn what_is_wrong_is_named_with_file_and_line() {
    let cases = [
        ("[[registry]", "line 1: "),
        ("\n[registries.search]\nregistries = ['x']", "the format's version 1"),
        ("[[registry]]\nlocation = \"https://r.example\"", "line 2: `https://r.example` is a URL"),
        ("[[registry]]\nprefix = \"*.x/y\"", "line 2: the prefix `*.x/y` is not of the form"),
        ("[[registry]]\ninsecure = true", "line 1: a `[[registry]]` table needs"),
        ("[[registry]]\nlocation = \"r\"\nblocked = 1", "line 3: "),
        ("[[registry]]\nlocation = \"r..x\"", "line 2: "),
        ("[[registry]]\nlocation=\"r\"\nproxy=\"x\"", "line 3: a `proxy` is a URL"),
        ("credential-helpers = [\"pass\", \"a/b\"]", "line 1: a credential helper is the NAME"),
        (
            "[[registry]]\nlocation=\"r\"\n[[registry.mirror]]\nlocation=\"m\"\n\
             pull-from-mirror=\"never\"",
            "line 5: `pull-from-mirror` is",
        ),
        (
            "[[registry]]\nlocation=\"r\"\nmirror-by-digest-only=true\n[[registry.mirror]]\n\
             location=\"m\"\npull-from-mirror=\"all\"",
            "line 6: `pull-from-mirror` and",
        ),
        (
            "[[registry]]\nlocation=\"r\"\n[[registry]]\nprefix=\"r\"\nblocked=true",
            "line 3: the prefix `r` has another meaning in line 1",
        ),
    ];
    for (text, expected) in cases {
        let error = Hosts::parse(text).unwrap_err().to_string();
        assert!(error.starts_with("invalid `registries.conf`"), "{error}");
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn later_files_count_over_earlier_ones() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = root.path().join(name);
        fs_err::write(&path, text).unwrap();
        path
    };
    let one = "[[registry]]\nlocation=\"a.example\"\ninsecure=true\n[[registry]]\n\
               location=\"b.example\"\ninsecure=true";
    let two = "[[registry]]\nlocation=\"a.example\"";
    let registries = vec![write("1.conf", one), write("2.conf", two)];
    let settings = HostSettings { registries, ..HostSettings::default() };
    let hosts = Hosts::load(settings).unwrap();
    assert_eq!(pulls(&hosts, "a.example/x")[0].1, TransportRule::Verified);
    assert_eq!(pulls(&hosts, "b.example/x")[0].1, TransportRule::Insecure);
    let missing = root.path().join("missing.conf");
    let settings = HostSettings { registries: vec![missing], ..HostSettings::default() };
    let error = Hosts::load(settings).unwrap_err().to_string();
    assert!(error.starts_with("failed to read `") && error.contains("missing.conf"), "{error}");
}

/// Makes directories of `hosts.toml` files.
fn with_namespaces(files: &[(&str, &str)]) -> (tempfile::TempDir, Hosts) {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let directory = root.path().join(name);
        fs_err::create_dir_all(&directory).unwrap();
        fs_err::write(directory.join("hosts.toml"), text).unwrap();
    }
    let namespaces = vec![root.path().to_owned()];
    let mut settings = HostSettings { namespaces, ..HostSettings::default() };
    settings.headers.parse("X-Mine: 1").unwrap();
    let hosts = Hosts::load(settings).unwrap();
    (root, hosts)
}

#[test]
fn hosts_stand_in_by_their_capabilities() {
    let hub = r#"
        server = "https://registry-1.docker.io"
        [host."https://public.example"]
        capabilities = ["pull"]
        [host."http://private.example:5000/proxy"]
        capabilities = ["pull", "resolve"]
        [host."https://upload.example"]
        capabilities = ["push"]
        skip_verify = true
    "#;
    let (_root, hosts) = with_namespaces(&[("docker.io", hub)]);
    let private = ("private.example:5000/library/alpine".to_owned(), TransportRule::Plain);
    let hub = ("docker.io/library/alpine".to_owned(), TransportRule::Verified);
    assert_eq!(pulls(&hosts, "alpine"), [private.clone(), hub.clone()]);
    let public = ("public.example/library/alpine".to_owned(), TransportRule::Verified);
    let content = repository("alpine");
    let all: Vec<Endpoint> = hosts.for_pull(PullTarget::Content(&content));
    let roles: Vec<Role> = all.iter().map(|endpoint| endpoint.role).collect();
    assert_eq!(roles, [Role::Mirror, Role::Mirror, Role::Origin]);
    let reach = |at: usize| all[at].reach.as_ref().unwrap();
    assert_eq!(reach(0).namespace.as_ref().unwrap().as_str(), "docker.io");
    assert_eq!(reach(1).base.as_ref().unwrap().root, "/proxy/v2/");
    assert_eq!((reach(2).namespace.as_ref(), reach(2).base.as_ref()), (None, None));
    assert_eq!((reach(0).headers.names().len(), reach(2).headers.names().len()), (0, 1));
    let all: Vec<_> = all.into_iter().map(shown).collect();
    assert_eq!(all, [public, private, hub]);
    let push = shown(hosts.for_push(&content));
    assert_eq!(push, ("upload.example/library/alpine".to_owned(), TransportRule::Unverified));
}

#[test]
fn the_default_counts_where_there_is_no_other() {
    let (_root, hosts) = with_namespaces(&[
        ("_default", "server = \"https://only.example\""),
        (
            "r.example_5000_",
            "[host.\"https://near.example\"]\ncapabilities = [\"pull\",\"resolve\"]",
        ),
        ("broken.example", "server = 7"),
        ("idle.example", "capabilities = []"),
    ]);
    assert_eq!(places(&hosts, "any.example/a"), ["only.example/a"]);
    assert_eq!(places(&hosts, "r.example:5000/a"), ["near.example/a", "r.example:5000/a"]);
    let refused = |text: &str| {
        let reference = reference(text);
        let endpoints = hosts.for_pull(PullTarget::Manifest(&reference));
        endpoints[0].reach.clone().unwrap_err().to_string()
    };
    assert!(refused("broken.example/a").contains("hosts.toml`, line 1: "));
    let none = refused("idle.example/a");
    assert!(none.ends_with("hosts.toml` has the capability `resolve`"), "{none}");
}

#[test]
fn flags_choose_how_a_registry_is_reached() {
    let name = |text: &str| -> RegistryName { text.parse().unwrap() };
    let settings = HostSettings {
        insecure: vec![name("i.example")],
        plain_http: vec![name("p.example"), name("i.example:1")],
        unverified: vec![name("u.example"), name("127.0.0.1:1")],
        ..HostSettings::default()
    };
    let hosts = Hosts::load(settings).unwrap();
    let transport = |text: &str| pulls(&hosts, text)[0].1;
    assert_eq!(transport("i.example/a"), TransportRule::Insecure);
    assert_eq!(transport("i.example:1/a"), TransportRule::Plain);
    assert_eq!(transport("p.example/a"), TransportRule::Plain);
    assert_eq!(transport("u.example/a"), TransportRule::Unverified);
    assert_eq!(transport("127.0.0.1:1/a"), TransportRule::Unverified);
    assert_eq!(transport("127.0.0.1:2/a"), TransportRule::Local);
    assert_eq!(transport("o.example/a"), TransportRule::Verified);
}

proptest! {
    #[test]
    fn never_panics(text in ".*", prefix in "[a-z*.:/@-]{0,20}", name in "[a-z.:/@-]{0,30}") {
        let _ = Hosts::parse(&text);
        let entry = format!(
            "[[registry]]\nprefix = {prefix:?}\nlocation = {text:?}\n\
             [[registry.mirror]]\nlocation = {prefix:?}\n"
        );
        for text in [entry, format!("[[registry]]\nprefix = {prefix:?}\n")] {
            if let (Ok(hosts), Ok(reference)) = (Hosts::parse(&text), name.parse::<Reference>()) {
                let endpoints = hosts.for_pull(PullTarget::Manifest(&reference));
                prop_assert!(!endpoints.is_empty());
                prop_assert_eq!(hosts.for_push(&reference.repository).role, Role::Origin);
            }
        }
    }
}
