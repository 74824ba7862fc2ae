//! What a pull fetches, as the registry's side sees it: once, on from where it stopped, and nothing
//! that is there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::context::{
    Cut, Manners, Passed, Proxy, Registry, Role, Side, TestContext, noise, verify_image,
    verify_store,
};

const LAYER_BYTES: usize = 6 << 20;

/// A registry with the image `team/app:1` of one incompressible layer, and a proxy before it.
fn world() -> Option<(TestContext, Registry, Proxy)> {
    let context = TestContext::for_role(Role::Unprivileged)?;
    let registry = Registry::plain(&context)?;
    context.write("app/Dockerfile", "FROM scratch\nCOPY data /data\n");
    context.write("app/data", noise(LAYER_BYTES));
    let name = registry.reference("team/app:1");
    context.rpub(["build-push", "-t", &name, "app"]).success();
    let proxy = Proxy::start(&registry.name(), Manners::default());
    Some((context, registry, proxy))
}

/// Returns the requests that passed, without those that only ask whether a registry is there.
fn requests(proxy: &Proxy) -> Vec<String> {
    let passed = proxy.passed().into_iter().filter(|passed| passed.target != "/v2/");
    passed.map(|passed| format!("{} {}", passed.method, passed.target)).collect()
}

/// Returns the answers with blobs, without the small one with the config.
fn layers(proxy: &Proxy) -> Vec<Passed> {
    let is_layer =
        |passed: &Passed| passed.target.contains("/blobs/") && passed.received > 64 << 10;
    proxy.passed().into_iter().filter(is_layer).collect()
}

/// Returns the one partial blob of the store that has bytes.
fn partial(store: &Path) -> Option<(PathBuf, u64)> {
    let entries = fs_err::read_dir(store.join("ingest")).ok()?;
    let found = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let bytes = entry.metadata().ok()?.len();
        let is_partial = entry.path().extension().is_some_and(|name| name == "partial");
        (is_partial && bytes > 0).then(|| (entry.path(), bytes))
    });
    found.max_by_key(|(_, bytes)| *bytes)
}

/// A pull of what is there is one `HEAD`: of an image, of one platform of an index, and nothing at
/// all by digest.
///
/// Wire row H7: a `HEAD` counts for no quota.
#[test]
fn a_pull_of_what_is_there_is_one_head() {
    let Some((context, registry, proxy)) = world() else { return };
    context.write("both/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let both = registry.reference("team/both:1");
    let platforms = "--platform=linux/amd64,linux/arm64";
    context.rpub(["build-push", platforms, "-t", &both, "both"]).success();
    for name in ["team/app:1", "team/both:1"] {
        let name = proxy.reference(name);
        let pull = |name: &str| {
            context.rpub(["pull", name]).env("RPUB_STORE", context.path("fresh")).success()
        };
        let pulled = pull(&name).line().to_owned();
        proxy.forget();
        let again = pull(&name);
        assert_eq!(again.line(), pulled);
        let (_, rest) = name.split_once('/').unwrap();
        let (repository, tag) = rest.split_once(':').unwrap();
        let head = format!("HEAD /v2/{repository}/manifests/{tag}");
        assert_eq!(requests(&proxy), [head]);
        // Garbage collection keeps what the comparison needs.
        context.rpub(["prune", "-f"]).env("RPUB_STORE", context.path("fresh")).success();
        proxy.forget();
        pull(&name);
        assert_eq!(requests(&proxy).len(), 1);
        proxy.forget();
        pull(&pulled);
        assert_eq!(requests(&proxy), [] as [String; 0]);
    }
}

/// A pull that is killed, again and again, fetches each byte once.
///
/// Wire row P8: what is in the partial file is not asked for again.
#[test]
fn a_killed_pull_goes_on_where_it_stopped() {
    let Some((context, _registry, proxy)) = world() else { return };
    let (name, store) = (proxy.reference("team/app:1"), context.path("fresh"));
    let pull = || context.rpub(["pull", &name]).env("RPUB_STORE", &store);
    let mut there = 0;
    for _ in 0..4 {
        let mut running = pull().env("RPUB_LIMIT_RATE", "2MB").spawn();
        // Killed as soon as something has come since the last time.
        running.wait_until_so(|| partial(&store).is_some_and(|(_, bytes)| bytes > there));
        running.kill();
        there = partial(&store).unwrap().1;
    }
    proxy.forget();
    pull().success();
    let fetched: u64 = layers(&proxy).iter().map(|passed| passed.received).sum();
    let missing = LAYER_BYTES as u64 - there;
    assert!(layers(&proxy).iter().all(|passed| passed.status == 206), "{:#?}", proxy.passed());
    // The layer is a tar with a head and an end, and each answer has a head too.
    assert!((missing..missing + (32 << 10)).contains(&fetched), "{fetched} of {missing}");
    assert!(verify_store(&store).contains(&name));
    assert_eq!(partial(&store), None);
}

/// What was damaged since, as by a power cut, is found at the end and fetched anew.
#[test]
fn a_damaged_beginning_is_fetched_anew() {
    let Some((context, _registry, proxy)) = world() else { return };
    let (name, store) = (proxy.reference("team/app:1"), context.path("fresh"));
    let pull = || context.rpub(["pull", &name]).env("RPUB_STORE", &store);
    cut(&proxy, 99);
    pull().env("RPUB_RETRY_TIMES", "0").run().expect_code(1);
    let (path, bytes) = partial(&store).unwrap();
    assert!(bytes > 64 << 10, "{bytes}");
    let mut content = fs_err::read(&path).unwrap();
    content[..4096].fill(0);
    fs_err::write(&path, content).unwrap();
    proxy.behave(Manners::default());
    let pulled = pull().run();
    pulled.expect_code(0);
    assert!(pulled.stderr.contains("anew"), "{pulled}");
    assert!(verify_store(&store).contains(&name));
}

fn cut(proxy: &Proxy, times: u32) {
    let (path, after) = ("/blobs/".to_owned(), 2 << 20);
    let cut = Cut { method: "GET", path, side: Side::Registry, after, times };
    proxy.behave(Manners { cuts: vec![cut], ..Manners::default() });
}

/// Two processes that want the same layer fetch it once, and one takes over when the other dies.
#[test]
fn two_processes_fetch_a_layer_once() {
    let Some((context, registry, proxy)) = world() else { return };
    let (name, store) = (proxy.reference("team/app:1"), context.path("fresh"));
    let pull = || context.rpub(["pull", &name]).env("RPUB_STORE", &store);
    let mut first = pull().env("RPUB_LIMIT_RATE", "2MB").spawn();
    first.wait_until_so(|| partial(&store).is_some());
    let mut second = pull().spawn();
    assert!(second.wait_for_error("waiting for another rpub", Duration::from_secs(20)));
    assert_eq!(layers(&proxy).len(), 1);
    first.kill();
    second.finish().expect_code(0);
    let statuses: Vec<u16> = layers(&proxy).iter().map(|passed| passed.status).collect();
    assert_eq!(statuses, [200, 206]);
    assert!(verify_store(&store).contains(&name));
    verify_image(&registry, "team/app", "1");
}
