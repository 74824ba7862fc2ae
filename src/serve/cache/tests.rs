//! The cache in front of an upstream that fails in every way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::event::Event;
use crate::image::{Descriptor, Digest, Manifest, Reference, Repository, media_type};
use crate::serve::tests::Server;
use crate::serve::{Asked, CacheOptions, Growth, Served, Upstream, UpstreamError, Why};
use crate::store::Store;

/// A registry with one manifest under every tag, until it fails.
struct Fake {
    manifest: Manifest,
    fails: Mutex<Option<Why>>,
    /// How long an answer takes.
    latency: Duration,
    asked: AtomicUsize,
}

impl Fake {
    fn new(latency: Duration) -> Self {
        let config = Descriptor::of(media_type::OCI_CONFIG, b"{}");
        let text = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [],
        });
        let manifest = Manifest::parse(text.to_string().into_bytes(), None).unwrap();
        Self { manifest, fails: Mutex::default(), latency, asked: AtomicUsize::new(0) }
    }

    fn answer<T: Send + 'static>(&self, value: T) -> Asked<T> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (fails, latency) = (*self.fails.lock().unwrap(), self.latency);
        Box::pin(async move {
            tokio::time::sleep(latency).await;
            let error = |why| UpstreamError { why, message: "it fails".to_owned() };
            fails.map_or(Ok(value), |why| Err(error(why)))
        })
    }
}

impl Upstream for Fake {
    fn resolve(&self, _: Reference) -> Asked<Option<Descriptor>> {
        self.answer(Some(self.manifest.descriptor()))
    }

    fn manifest(&self, _: Reference) -> Asked<Manifest> {
        self.answer(self.manifest.clone())
    }

    fn blob_size(&self, _: Repository, _: Digest) -> Asked<u64> {
        self.answer(2)
    }

    fn fetch(&self, _: Repository, _: Descriptor, _: Growth) -> Asked<()> {
        self.answer(())
    }

    fn tags(&self, _: Repository, last: Option<String>, limit: usize) -> Asked<Vec<String>> {
        let all = (1..=5).map(|number| number.to_string());
        let rest = all.filter(|tag| last.as_ref().is_none_or(|last| tag > last)).take(limit);
        self.answer(rest.collect())
    }

    fn referrers(&self, _: Repository, _: Digest) -> Asked<Vec<Descriptor>> {
        let referrer = Descriptor::of(media_type::OCI_MANIFEST, b"signature");
        let artifact_type = Some("application/signature".to_owned());
        self.answer(vec![Descriptor { artifact_type, ..referrer }])
    }
}

fn cache(fake: &Arc<Fake>, store: &Store) -> Server {
    Server::serve(
        store,
        Served::Cache(CacheOptions {
            store: store.clone(),
            upstream: Arc::clone(fake) as Arc<dyn Upstream>,
            registries: vec!["docker.io".parse().unwrap()],
            revalidate: Duration::ZERO,
            max_bytes: u64::MAX,
            via: "rpub-test".to_owned(),
        }),
    )
}

#[test]
fn what_is_cached_is_served_whatever_upstream_does() {
    let cases = [
        (Why::Away, 503, "UNAVAILABLE"),
        (Why::Wrong, 503, "UNAVAILABLE"),
        (Why::Limited(Some(Duration::from_secs(9))), 429, "TOOMANYREQUESTS"),
        (Why::Denied, 403, "DENIED"),
        (Why::Local, 500, "UNKNOWN"),
        (Why::Missing, 404, "MANIFEST_UNKNOWN"),
    ];
    for (why, status, code) in cases {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let fake = Arc::new(Fake::new(Duration::ZERO));
        let server = cache(&fake, &store);
        let digest = fake.manifest.digest.clone();
        let fresh = server.get("/v2/app/manifests/1");
        assert_eq!((fresh.status, fresh.header("warning")), (200, ""), "{why:?}");
        *fake.fails.lock().unwrap() = Some(why);
        let missed = server.get("/v2/app/manifests/2");
        missed.assert_error(status, code);
        let retry_after = if status == 429 { "9" } else { "" };
        assert_eq!(missed.header("retry-after"), retry_after);
        let again = server.get("/v2/app/manifests/1");
        if why == Why::Missing {
            again.assert_error(404, "MANIFEST_UNKNOWN");
        } else {
            assert_eq!((again.status, &again.body), (200, &fake.manifest.bytes), "{why:?}");
            assert_eq!(again.header("warning"), "110 - \"Response is Stale\"");
            let tags = server.get("/v2/app/tags/list");
            assert_eq!(tags.json()["tags"], json!(["1"]));
        }
        // A digest is what it is.
        let exact = server.get(&format!("/v2/app/manifests/{digest}"));
        assert_eq!((exact.status, exact.header("warning")), (200, ""), "{why:?}");
        let warned = server
            .events()
            .iter()
            .any(|event| matches!(event, Event::Warning { text } if text.contains("it fails")));
        assert_eq!(warned, why != Why::Missing, "{why:?}");
    }
}

#[test]
fn who_waits_for_a_registry_that_is_away_fails_with_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    let fake = Arc::new(Fake::new(Duration::from_millis(300)));
    *fake.fails.lock().unwrap() = Some(Why::Away);
    let server = cache(&fake, &store);
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| server.get("/v2/app/manifests/1").assert_error(503, "UNAVAILABLE"));
        }
    });
    // A request that came late may ask again.
    assert!(fake.asked.load(Ordering::Relaxed) <= 3);
}

#[test]
fn sizes_are_known_from_manifests_after_a_restart_too() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    let fake = Arc::new(Fake::new(Duration::ZERO));
    drop(cache(&fake, &store).get("/v2/app/manifests/1"));
    let server = cache(&fake, &store);
    let asked = fake.asked.load(Ordering::Relaxed);
    // The fake says that it fetched, and did not.
    let blob = format!("/v2/app/blobs/{}", Digest::of(b"{}"));
    server.get(&blob).assert_error(503, "UNAVAILABLE");
    assert_eq!(fake.asked.load(Ordering::Relaxed), asked + 1, "only the fetch");
}

#[test]
fn lists_are_those_of_upstream() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    let fake = Arc::new(Fake::new(Duration::ZERO));
    let server = cache(&fake, &store);
    let first = server.get("/v2/app/tags/list?n=2");
    assert_eq!(first.json()["tags"], json!(["1", "2"]));
    assert_eq!(first.header("link"), "</v2/app/tags/list?n=2&last=2>; rel=\"next\"");
    let last = server.get("/v2/app/tags/list?n=3&last=2");
    assert_eq!((last.json()["tags"].clone(), last.header("link")), (json!(["3", "4", "5"]), ""));
    let path = format!("/v2/app/referrers/{}", fake.manifest.digest);
    for (query, count) in
        [("", 1), ("?artifactType=application/signature", 1), ("?artifactType=x", 0)]
    {
        let found = server.get(&format!("{path}{query}")).json();
        assert_eq!(found["manifests"].as_array().unwrap().len(), count, "{query}");
    }
    // A request that comes back from a mirror that is this cache asks nobody.
    let asked = fake.asked.load(Ordering::Relaxed);
    let via = [("via", "1.0 other, 1.1 rpub-test")];
    server.send("GET", "/v2/app/manifests/9", &via, b"").assert_error(404, "MANIFEST_UNKNOWN");
    server.send("GET", "/v2/app/tags/list", &via, b"").assert_error(404, "NAME_UNKNOWN");
    assert_eq!(fake.asked.load(Ordering::Relaxed), asked);
    server.send("PUT", "/v2/app/manifests/1", &[], b"{}").assert_error(405, "UNSUPPORTED");
}
