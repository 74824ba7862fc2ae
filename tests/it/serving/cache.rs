//! A pull-through cache, with docker-compatible clients.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{Upstream, skopeo_copy};
use crate::context::{Manners, Proxy, Serve, TestContext, digest_of, get, has_tools};

/// Must show 5 of issue 5: upstream is stopped, and pulls go on.
#[test]
fn pulls_go_on_when_upstream_is_gone() {
    if !has_tools(&["skopeo", "podman"]) {
        return;
    }
    let Some(upstream) = Upstream::new() else { return };
    let (digest, layer) = upstream.push("library/app:1", 300_000);
    let mut cache = upstream.cache(&["--revalidate", "0s"]);
    let source = cache.reference("library/app:1");
    assert_eq!(skopeo(&upstream.context, &source, "before"), digest);
    assert!(upstream.kept(&layer).is_file());

    let Upstream { registry, context } = upstream;
    drop(registry);
    assert_eq!(skopeo(&context, &source, "after"), digest);
    let path = |name: &str| context.path(name).display().to_string();
    let places = ["--root", &path("podman"), "--runroot", &path("podman-run")];
    let apart = ["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"];
    let pull = ["pull", "-q", "--tls-verify=false", &source];
    context.tool("podman").args(places).args(apart).args(pull).run().expect_code(0);
    let pulled = context.rpub(["pull", &source]).success();
    assert!(pulled.stderr.contains("docker.io cannot be asked"), "{}", pulled.stderr);

    let answer = cache.get("/v2/library/app/manifests/1");
    let warnings: Vec<_> =
        answer.headers.iter().filter(|(name, _)| name == "warning").map(|(_, v)| &v[..3]).collect();
    assert_eq!((answer.status, warnings), (200, vec!["110", "299"]));
    // What a digest names cannot be stale.
    let answer = cache.get(&format!("/v2/library/app/manifests/{digest}"));
    assert_eq!((answer.status, answer.header("warning")), (200, None));
    let tags = cache.get("/v2/library/app/tags/list");
    assert_eq!(serde_json::from_slice::<Value>(&tags.body).unwrap()["tags"], json!(["1"]));
    assert!(tags.header("warning").is_some());
    assert!(cache.says("`docker.io` cannot be asked; serving what is cached"));
    let never_seen = cache.get("/v2/library/app/manifests/2");
    assert_eq!(never_seen.status, 503);
    assert!(String::from_utf8_lossy(&never_seen.body).contains("UNAVAILABLE"));
}

/// Copies an image with `skopeo` to a directory; returns its manifest's digest.
fn skopeo(context: &TestContext, source: &str, place: &str) -> String {
    let target = context.path(place);
    skopeo_copy(context, &format!("docker://{source}"), &format!("dir:{}", target.display()));
    digest_of(&fs_err::read(target.join("manifest.json")).unwrap())
}

#[test]
fn many_clients_cost_upstream_one_request() {
    let Some(upstream) = Upstream::new() else { return };
    let (digest, layer) = upstream.push("library/app:1", 2 << 20);
    let manners = Manners { latency: Duration::from_millis(20), ..Manners::default() };
    let proxy = Proxy::start(&upstream.registry.name(), manners);
    upstream.is_at(proxy.reference("").trim_end_matches('/'));
    let cache = upstream.cache(&["--revalidate", "1h"]);
    let blob = format!("/v2/library/app/blobs/{layer}");
    std::thread::scope(|scope| {
        for number in 0..100 {
            let (name, blob, layer, digest) = (cache.name(), &blob, &layer, &digest);
            let get =
                move |path: &str, headers: &[(&str, &str)]| get(&name, path, headers).unwrap();
            scope.spawn(move || match number % 3 {
                0 => assert_eq!(digest_of(&get("/v2/app/manifests/1", &[]).body), *digest),
                1 => assert_eq!(digest_of(&get(blob, &[]).body), *layer),
                _ => {
                    let part = get(blob, &[("Range", "bytes=1000000-1000009")]);
                    assert_eq!((part.status, part.body.len()), (206, 10));
                }
            });
        }
    });
    let passed = proxy.passed();
    let count = |method: &str, part: &str| {
        passed.iter().filter(|one| one.method == method && one.target.contains(part)).count()
    };
    // Without the manifest the size has to be asked for.
    assert_eq!((count("GET", "/blobs/"), count("GET", "/manifests/")), (1, 1));
    assert_eq!(count("HEAD", "/manifests/"), 1);
    assert!(count("HEAD", "/blobs/") <= 1);
}

#[test]
fn tags_follow_upstream_after_a_while() {
    let Some(upstream) = Upstream::new() else { return };
    let (first, _) = upstream.push("library/app:1", 1000);
    let at_once = upstream.cache(&["--revalidate", "0s"]);
    let later = Serve::with(
        &upstream.context,
        "other",
        &["--proxy", "docker.io", "--revalidate", "1h", "--name", "cache.example"],
    );
    let names = |serve: &Serve, path: &str| digest_of(&serve.get(path).body);
    for serve in [&at_once, &later] {
        assert_eq!(names(serve, "/v2/library/app/manifests/1"), first);
        assert_eq!(serve.get("/v2/library/app/manifests/2").status, 404);
    }
    let reference = upstream.registry.reference("library/app:1");
    upstream.context.write("context-library-app-1/noise", "another");
    let build = upstream.context.rpub(["build-push", "-t", &reference]);
    build.arg(upstream.context.path("context-library-app-1")).success();
    let (second, _) = upstream.registry.manifest("library/app", "1").unwrap();
    assert_ne!(first, second);
    // By every name that docker.io's images have here.
    for path in
        ["library/app/manifests/1", "app/manifests/1?ns=docker.io", "docker.io/app/manifests/1"]
    {
        assert_eq!(names(&at_once, &format!("/v2/{path}")), second, "{path}");
        assert_eq!(names(&later, &format!("/v2/{path}")), first, "{path}");
    }
    // The earlier one is still there by its digest.
    assert_eq!(names(&at_once, &format!("/v2/library/app/manifests/{first}")), first);
    let refused = at_once.get("/v2/library/app/manifests/1?ns=ghcr.io");
    assert_eq!(refused.status, 404, "only `docker.io` is cached");
}

#[test]
fn what_is_unused_for_longest_goes_when_it_is_too_much() {
    let Some(upstream) = Upstream::new() else { return };
    let (old, old_layer) = upstream.push("library/old:1", 600_000);
    let (_, new_layer) = upstream.push("library/new:1", 600_000);
    let mut cache = upstream.cache(&["--max-size", "1MB"]);
    let pull = |name: &str, layer: &str| {
        assert_eq!(cache.get(&format!("/v2/library/{name}/manifests/1")).status, 200);
        let blob = cache.get(&format!("/v2/library/{name}/blobs/{layer}"));
        assert_eq!(digest_of(&blob.body), layer);
    };
    pull("old", &old_layer);
    // An image that somebody pulled on purpose stays.
    let mine = upstream.context.rpub(["pull", "library/new:1"]);
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let age = |digest: &str| {
        let file = fs_err::OpenOptions::new().write(true).open(upstream.kept(digest)).unwrap();
        file.file().set_modified(hour_ago).unwrap();
    };
    age(&old);
    pull("new", &new_layer);
    assert!(cache.says("1 images left the cache"));
    assert!(!upstream.kept(&old_layer).exists());
    assert!(upstream.kept(&new_layer).exists());
    mine.env("RPUB_STORE", upstream.context.path("cache")).success();
    let pull = |name: &str, layer: &str| {
        let blob = cache.get(&format!("/v2/library/{name}/blobs/{layer}"));
        assert_eq!(digest_of(&blob.body), layer);
    };
    pull("old", &old_layer);
}

#[test]
fn a_cache_takes_no_pushes() {
    let Some(upstream) = Upstream::new() else { return };
    upstream.push("library/app:1", 1000);
    let cache = upstream.cache(&[]);
    let push = upstream.context.rpub(["build-push", "-t", &cache.reference("library/app:1")]);
    let refused = push.arg(upstream.context.path("context-library-app-1")).run();
    refused.expect_code(1);
    assert!(refused.stderr.contains("this registry is read-only"), "{}", refused.stderr);
}
