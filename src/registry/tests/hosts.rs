//! Mirrors, hosts that stand in for a registry, and what else settings say about hosts.

use super::*;
use crate::registry::{HostSettings, HostsError, TransportRule};

/// Where `hosts.toml` files are, and the settings that say so.
fn namespaces(files: &[(&str, String)]) -> (tempfile::TempDir, HostSettings) {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let directory = root.path().join(name);
        fs_err::create_dir_all(&directory).unwrap();
        fs_err::write(directory.join("hosts.toml"), text).unwrap();
    }
    let mut settings =
        HostSettings { namespaces: vec![root.path().to_owned()], ..HostSettings::default() };
    settings.headers.parse("X-Mine: m").unwrap();
    (root, settings)
}

/// The registry of `guarded.toml`, which wants a password, with these hosts.
fn world_with(script: Script, hosts: Hosts) -> World {
    let registry = script.address().parse().unwrap();
    World::with(script, |options| {
        options.hosts = hosts;
        options.credentials = Arc::new(Fixed { registry, credential: user() });
    })
}

fn served_by_mirrors(world: &World) -> Vec<String> {
    let mirror = |event| match event {
        Event::ServedByMirror { mirror, .. } => Some(mirror),
        _ => None,
    };
    world.events.events().into_iter().filter_map(mirror).collect()
}

fn warnings(world: &World) -> Vec<String> {
    let text = |event| match event {
        Event::Warning { text } => Some(text),
        _ => None,
    };
    world.events.events().into_iter().filter_map(text).collect()
}

/// Wire row U26: only a host that stands in for another registry is told which, and it gets no
/// credentials of that registry; nor do headers for the registry go there.
#[tokio::test]
async fn a_host_that_stands_in_is_told_for_whom() {
    let script = play("guarded.toml", &[]);
    let origin = script.address().to_owned();
    let mirror = play("stand_in.toml", &[("upstream", &origin.replace(':', "%3A"))]);
    let zone = mirror.address();
    let text = format!(
        "server = 'http://{origin}'\n[host.'http://{zone}']\ncapabilities = ['pull', 'resolve']\n\
         [host.'http://{zone}'.header]\nx-zone = 'z'\n"
    );
    let (_root, settings) = namespaces(&[(&origin, text)]);
    let world = world_with(script, Hosts::load(settings).unwrap());
    world.client.manifest(&world.reference("a/b:1")).await.unwrap();
    world.fetch("a/b").await.unwrap_err();
    assert_eq!(mirror.unmatched(), [] as [&str; 0]);
    assert_eq!(mirror.seen().len(), 2);
    assert_eq!(served_by_mirrors(&world), [format!("{zone}/a/b")]);
    let seen = world.script.seen();
    assert!(!seen.is_empty());
    for request in seen {
        assert_eq!(request.query, "", "{request:?}");
        assert_eq!(request.headers.get("x-mine").map(String::as_str), Some("m"), "{request:?}");
        assert_eq!(request.headers.get("x-zone"), None, "{request:?}");
    }
}

/// A mirror is passed over whatever its fault, after two tries at most.
#[tokio::test]
async fn useless_mirrors_are_passed_over() {
    let script = play("guarded.toml", &[]);
    let mirror = play("useless_mirrors.toml", &[]);
    let paths = ["missing", "failing", "busy", "forbidden", "private", "page", "cut"];
    let mirrors = paths.map(|path| format!("{}/{path}", mirror.address()));
    let mirrors = ["127.0.0.1:1".to_owned()].into_iter().chain(mirrors);
    let mirrors = mirrors.map(|place| format!("[[registry.mirror]]\nlocation = '{place}'\n"));
    let conf = format!("[[registry]]\nlocation = '{}'\n", script.address());
    let conf: String = [conf].into_iter().chain(mirrors).collect();
    let world = world_with(script, Hosts::parse(&conf).unwrap());
    world.client.manifest(&world.reference("a/b:1")).await.unwrap();
    let count = |path: &str| {
        let path = format!("GET /v2/{path}/a/b/manifests/1");
        mirror.log().iter().filter(|line| **line == path).count()
    };
    assert_eq!(paths.map(count), [1, 2, 1, 1, 1, 1, 2]);
    assert_eq!(mirror.unmatched(), [] as [&str; 0]);
    assert_eq!(served_by_mirrors(&world), [] as [&str; 0]);
    assert_eq!(warnings(&world), [] as [&str; 0]);

    // When the registry cannot help either, the mirrors' faults are told.
    world.client.manifest(&world.reference("a/b:none")).await.unwrap_err();
    let told = warnings(&world);
    assert_eq!(told.len(), 8, "{told:?}");
    assert!(told[0].starts_with("mirror `127.0.0.1:1/a/b` was no help: "), "{told:?}");
}

/// What settings forbid, or say wrongly, is an error before anything is asked.
#[tokio::test]
async fn refusals_ask_nobody() {
    let script = play("guarded.toml", &[]);
    let conf = format!("[[registry]]\nlocation = '{}'\nblocked = true\n", script.address());
    let world = world_with(script, Hosts::parse(&conf).unwrap());
    let reference = world.reference("a/b:1");
    let error = world.client.manifest(&reference).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Settings);
    assert!(matches!(error, Error::Hosts(HostsError::Blocked { line: 1, .. })), "{error}");
    let error = world.push("a/b", &[]).await.unwrap_err();
    assert!(error.to_string().contains("`registries.conf`, line 1"), "{error}");
    assert_eq!(world.script.seen().len(), 0);
}

/// The registry's own warnings are shown, once each; not those of where a redirect leads.
#[tokio::test]
async fn warnings_are_shown_once() {
    let store = play("store.toml", &[]);
    let other = format!("http://{}", store.address());
    let world = World::with(play("warnings.toml", &[("other", &other)]), |_| {});
    let reference = world.reference("a/b:1");
    world.client.manifest(&reference).await.unwrap();
    world.client.manifest(&reference).await.unwrap();
    assert_eq!(world.fetch("a/b").await.unwrap(), CONTENT);
    let registry = world.script.address();
    let expected = format!("registry `{registry}` says: this registry closes in May");
    assert_eq!(warnings(&world), [expected]);
}

/// Plain HTTP where it was asked for is said, and nothing else than it is tried.
#[tokio::test]
async fn plain_http_is_not_probed() {
    let script = play("guarded.toml", &[]);
    let name = script.address().parse().unwrap();
    let settings = HostSettings { plain_http: vec![name], ..HostSettings::default() };
    let hosts = Hosts::load(settings).unwrap();
    let reach = hosts.for_push(&"127.0.0.1:1/x".parse::<Reference>().unwrap().repository).reach;
    assert_eq!(reach.unwrap().transport, TransportRule::Local);
    let world = world_with(script, hosts);
    world.client.manifest(&world.reference("a/b:1")).await.unwrap();
    assert_eq!(warnings(&world), [] as [&str; 0], "the loopback need not be told");
}

/// Where the user gives an address for a host, nobody else is asked for it, and the way is direct.
#[tokio::test]
async fn a_given_address_is_connected_to() {
    let script = play("guarded.toml", &[]);
    let (_, port) = script.address().split_once(':').unwrap();
    let name: crate::image::RegistryName = "registry.invalid".parse().unwrap();
    let settings = HostSettings {
        plain_http: vec![name.clone()],
        resolve: vec![format!("registry.invalid:80:127.0.0.1:{port}").parse().unwrap()],
        ..HostSettings::default()
    };
    let hosts = Hosts::load(settings).unwrap();
    let world = World::with(script, |options| {
        options.hosts = hosts;
        options.credentials = Arc::new(Fixed { registry: name, credential: user() });
    });
    let reference: Reference = "registry.invalid/a/b:1".parse().unwrap();
    world.client.manifest(&reference).await.unwrap();
    assert_eq!(world.script.seen()[0].headers["host"], "registry.invalid");
    assert_eq!(warnings(&world), ["registry `registry.invalid` is used by plain HTTP"]);
}
