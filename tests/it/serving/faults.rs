//! A pull-through cache when things go wrong.

use std::time::Duration;

use super::Upstream;
use crate::context::{Cut, Manners, Passed, Proxy, Serve, Side, digest_of, get, verify_blobs};

#[test]
fn a_wrong_blob_is_broken_off_and_not_kept() {
    let Some(upstream) = Upstream::new() else { return };
    let (_, layer) = upstream.push("library/app:1", 1 << 20);
    let path = upstream.registry.blob_path(&layer);
    let right = fs_err::read(&path).unwrap();
    let mut wrong = right.clone();
    wrong[500_000] ^= 1;
    fs_err::write(&path, &wrong).unwrap();
    let mut cache = upstream.cache(&[]);
    assert_eq!(cache.get("/v2/library/app/manifests/1").status, 200);
    let blob = format!("/v2/library/app/blobs/{layer}");
    let answer = cache.get(&blob);
    // Sent as it came, but for the end: a client cannot take it for whole.
    let length = answer.header("content-length").and_then(|text| text.parse::<usize>().ok());
    if answer.status == 200 {
        assert_eq!(length, Some(right.len()));
        assert!(answer.body.len() < right.len());
    } else {
        assert_eq!(answer.status, 503);
    }
    assert!(!upstream.kept(&layer).exists());
    assert_eq!(fs_err::read_dir(upstream.context.path("cache/ingest")).unwrap().count(), 0);
    fs_err::write(&path, &right).unwrap();
    assert_eq!(digest_of(&cache.get(&blob).body), layer);
    assert!(cache.says("does not match its digest"));
}

#[test]
fn a_killed_cache_goes_on_where_it_was() {
    let Some(upstream) = Upstream::new() else { return };
    let (_, layer) = upstream.push("library/app:1", 4 << 20);
    let cut = Cut {
        method: "GET",
        path: "/blobs/".to_owned(),
        side: Side::Registry,
        after: 3 << 20,
        times: u32::MAX,
    };
    let manners = Manners { cuts: vec![cut], ..Manners::default() };
    let proxy = Proxy::start(&upstream.registry.name(), manners);
    upstream.is_at(proxy.reference("").trim_end_matches('/'));
    let blob = format!("/v2/library/app/blobs/{layer}");
    let mut cache = upstream.cache(&[]);
    std::thread::scope(|scope| {
        let name = cache.name();
        let blob = blob.clone();
        let client = scope.spawn(move || get(&name, &blob, &[]));
        // The rest is asked for again and again.
        assert!(cache.says("try 2"));
        cache.kill();
        let broken = client.join().unwrap();
        assert!(broken.is_none_or(|answer| answer.body.len() < 4 << 20));
    });
    assert!(!upstream.kept(&layer).exists());
    proxy.settle();
    proxy.behave(Manners::default());
    proxy.forget();
    let cache = upstream.cache(&[]);
    assert_eq!(digest_of(&cache.get(&blob).body), layer);
    let passed = proxy.passed();
    let bytes: u64 =
        passed.iter().filter(|one| one.target.contains("/blobs/")).map(|one| one.received).sum();
    assert!(bytes < 2 << 20, "{bytes} bytes were fetched again");
}

#[test]
fn a_cache_that_is_killed_at_any_instant_leaves_a_sound_store() {
    let Some(upstream) = Upstream::new() else { return };
    let (digest, layer) = upstream.push("library/app:1", 3 << 20);
    let manifest = "/v2/library/app/manifests/1";
    let blob = format!("/v2/library/app/blobs/{layer}");
    for round in 0..10 {
        let cache = upstream.cache(&["--revalidate", "0s"]);
        std::thread::scope(|scope| {
            for path in [manifest, &blob] {
                let name = cache.name();
                // Whatever comes, or does not.
                scope.spawn(move || get(&name, path, &[]));
            }
            std::thread::sleep(Duration::from_millis(round * 8));
            cache.kill();
        });
        let store = upstream.context.path("cache");
        verify_blobs(&store);
        if round % 3 == 2 {
            fs_err::remove_dir_all(store).unwrap();
        }
    }
    let cache = upstream.cache(&[]);
    assert_eq!(digest_of(&cache.get(manifest).body), digest);
    assert_eq!(digest_of(&cache.get(&blob).body), layer);
}

#[test]
fn two_caches_of_one_store_fetch_a_blob_once() {
    let Some(upstream) = Upstream::new() else { return };
    let (_, layer) = upstream.push("library/app:1", 4 << 20);
    let proxy = Proxy::start(&upstream.registry.name(), Manners::default());
    upstream.is_at(proxy.reference("").trim_end_matches('/'));
    let caches = [upstream.cache(&[]), upstream.cache(&[])];
    let blob = format!("/v2/library/app/blobs/{layer}");
    std::thread::scope(|scope| {
        for cache in caches.iter().cycle().take(10) {
            let (name, blob, layer) = (cache.name(), &blob, &layer);
            scope
                .spawn(move || assert_eq!(digest_of(&get(&name, blob, &[]).unwrap().body), *layer));
        }
    });
    let passed = proxy.passed();
    let fetched = |one: &&Passed| one.method == "GET" && one.target.contains("/blobs/");
    assert_eq!(passed.iter().filter(fetched).count(), 1);
}

/// A machine whose clients use the cache as a mirror, the cache itself included.
#[test]
fn a_cache_that_is_its_own_mirror_asks_the_registry() {
    let Some(upstream) = Upstream::new() else { return };
    let (digest, layer) = upstream.push("library/app:1", 1000);
    let origin = upstream.registry.name();
    let cache = Serve::at(&upstream.context, "cache", &["--proxy", "docker.io"], |address| {
        let text = format!(
            "[[registry]]\nprefix = \"docker.io\"\nlocation = \"{origin}\"\ninsecure = true\n\
             [[registry.mirror]]\nlocation = \"{address}\"\ninsecure = true\n"
        );
        upstream.context.write("home/settings/containers/registries.conf", text);
    });
    let manifest = cache.get("/v2/library/app/manifests/1");
    assert_eq!(digest_of(&manifest.body), digest);
    let blob = cache.get(&format!("/v2/library/app/blobs/{layer}"));
    assert_eq!(digest_of(&blob.body), layer);
}
