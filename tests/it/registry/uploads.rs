//! What a push sends, as the registry's side sees it: limits of proxies, cuts, kills, round trips.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::context::{
    Cut, Manners, Passed, Proxy, Registry, Role, Serve, Side, TestContext, digest_of, noise,
    variable, verify_image, verify_store,
};

const MIB: u64 = 1 << 20;
/// The size of the parts that a large blob is sent in.
const PART: u64 = 64 * MIB;

/// A context with an image of one layer in the store, under the name `image`; the layer has a little
/// more than `size` bytes.
fn image_of(size: u64) -> Option<TestContext> {
    let context = TestContext::for_role(Role::Unprivileged)?;
    context.write("app/Dockerfile", "FROM scratch\nCOPY data /data\n");
    context.write("app/data", noise(usize::try_from(size).unwrap()));
    context.rpub(["build", "-t", "image", "app"]).success();
    Some(context)
}

fn image_and_registry(size: u64) -> Option<(TestContext, Registry)> {
    let context = image_of(size)?;
    let registry = Registry::plain(&context)?;
    Some((context, registry))
}

/// Gives the image another name, and returns it.
fn tag(context: &TestContext, name: &str) -> String {
    context.rpub(["tag", "image", name]).success();
    name.to_owned()
}

fn cut(method: &'static str, side: Side, after: u64) -> Manners {
    let cut = Cut { method, path: "/blobs/".to_owned(), side, after, times: 1 };
    Manners { cuts: vec![cut], ..Manners::default() }
}

fn limited(max_body: u64) -> Manners {
    Manners { max_body: Some(max_body), ..Manners::default() }
}

#[test]
fn a_transfer_that_breaks_is_taken_up_again() {
    let Some((context, registry)) = image_and_registry(3 * MIB) else { return };
    let proxy = Proxy::start(&registry.name(), cut("PUT", Side::Client, MIB));
    let name = tag(&context, &proxy.reference("team/app:1"));
    context.rpub(["push", &name]).success();
    verify_image(&registry, "team/app", "1");
    assert!(proxy.blob_bytes() > 4 * MIB, "{:#?}", proxy.passed());

    proxy.forget();
    proxy.behave(cut("GET", Side::Registry, 2 * MIB));
    let store = context.path("fresh");
    context.rpub(["pull", &name]).env("RPUB_STORE", store).success();
    let received: u64 = proxy.passed().iter().map(|passed| passed.received).sum();
    assert!(received < 4 * MIB, "{:#?}", proxy.passed());
}

/// With 100 ms of latency: a push to a tag that has the image already is one question beyond that
/// for the protocol's version; under a new tag, four round trips put the manifest there.
#[test]
fn a_push_of_what_is_there_takes_few_round_trips() {
    let Some((context, registry)) = image_and_registry(1 << 10) else { return };
    let latency = Duration::from_millis(100);
    let proxy = Proxy::start(&registry.name(), Manners { latency, ..Manners::default() });
    let name = tag(&context, &proxy.reference("team/app:1"));
    context.rpub(["push", &name]).success();
    proxy.forget();
    let output = context.rpub(["push", &name]).success();
    assert!(proxy.round_trips() <= 2, "{:#?}", proxy.passed());
    assert!(proxy.passed().iter().all(|passed| passed.method != "PUT"), "{:#?}", proxy.passed());
    assert_eq!(proxy.blob_bytes(), 0);
    output.expect_output(&registry.manifest("team/app", "1").unwrap().0);

    let other = tag(&context, &proxy.reference("team/app:2"));
    proxy.forget();
    context.rpub(["push", &other]).success();
    assert!(proxy.round_trips() <= 4, "{:#?}", proxy.passed());
    assert_eq!(proxy.blob_bytes(), 0);
    verify_image(&registry, "team/app", "2");

    // What another repository has is mounted, the config too, without asking for it.
    let other = tag(&context, &proxy.reference("new/app:1"));
    proxy.forget();
    context.rpub(["push", &other]).success();
    assert!(proxy.round_trips() <= 5, "{:#?}", proxy.passed());
    assert_eq!(proxy.blob_bytes(), 0);
    let mut asked: Vec<String> = proxy.passed().into_iter().map(|passed| passed.method).collect();
    asked.sort();
    assert_eq!(asked, ["GET", "HEAD", "HEAD", "POST", "POST", "PUT"], "{:#?}", proxy.passed());
    verify_image(&registry, "new/app", "1");
}

/// Wire row U23: whether a manifest is there is never found out by getting it, which some registries
/// count as a pull.
#[test]
fn a_push_gets_no_manifest() {
    let Some((context, registry)) = image_and_registry(1 << 10) else { return };
    let name = tag(&context, &registry.reference("team/app:1"));
    for _ in 0..2 {
        context.rpub(["push", &name]).success();
    }
    let requests = registry.requests();
    assert!(requests.iter().any(|line| line.starts_with("HEAD /v2/team/app/manifests/1")));
    assert!(!requests.iter().any(|line| line.starts_with("GET /v2/team/")), "{requests:#?}");
}

/// Wire row U3: nothing is mounted from another registry.
#[test]
fn nothing_is_mounted_across_registries() {
    let Some((context, registry)) = image_and_registry(1 << 10) else { return };
    let other = Registry::plain(&context).unwrap();
    for registry in [&registry, &other] {
        let name = tag(&context, &registry.reference("team/app:1"));
        context.rpub(["push", &name]).success();
    }
    let requests = other.requests();
    assert!(requests.iter().all(|line| !line.contains("mount=")), "{requests:#?}");
    // Within one it is.
    let name = tag(&context, &other.reference("new/app:1"));
    context.rpub(["push", &name]).success();
    assert!(other.requests().iter().any(|line| line.contains("from=team%2Fapp")));
    verify_image(&other, "new/app", "1");
}

/// Wire row U16: a proxy's limit is met once, and known at the next run.
#[test]
fn a_limit_of_a_proxy_is_learnt_for_the_next_run() {
    let Some((context, registry)) = image_and_registry(3 * MIB) else { return };
    let proxy = Proxy::start(&registry.name(), limited(MIB + 1));
    let name = tag(&context, &proxy.reference("team/app:1"));
    context.rpub(["push", &name]).success();
    verify_image(&registry, "team/app", "1");
    let refused = |passed: &&Passed| passed.status == 413;
    assert_eq!(proxy.passed().iter().filter(refused).count(), 1, "{:#?}", proxy.passed());
    assert!(proxy.blob_bytes() < 4 * MIB, "the refused body was not read to its end");

    context.write("app/data", noise(2 * usize::try_from(MIB).unwrap()));
    context.rpub(["build", "-t", "image", "app"]).success();
    let name = tag(&context, &proxy.reference("team/app:2"));
    proxy.forget();
    context.rpub(["push", &name]).success();
    assert_eq!(proxy.passed().iter().filter(refused).count(), 0, "{:#?}", proxy.passed());
    verify_image(&registry, "team/app", "2");
}

/// A layer that is sent while it grows meets the limit in the middle; the next build does not begin
/// that way.
#[test]
fn a_growing_layer_obeys_a_limit() {
    let Some(context) = TestContext::for_role(Role::Unprivileged) else { return };
    let Some(registry) = Registry::plain(&context) else { return };
    let proxy = Proxy::start(&registry.name(), limited(17 * MIB));
    context.write("app/Dockerfile", "FROM scratch\nCOPY data /data\n");
    context.write("app/data", noise(40 << 20));
    let push = |tag: &str| {
        let name = proxy.reference(&format!("team/app:{tag}"));
        context.rpub(["build-push", "-t", &name, "app"]).success();
        verify_image(&registry, "team/app", tag);
    };
    push("1");
    assert!(proxy.passed().iter().any(|passed| passed.status == 413), "{:#?}", proxy.passed());
    context.write("app/data", noise(36 << 20));
    proxy.forget();
    push("2");
    assert!(proxy.passed().iter().all(|passed| passed.status != 413), "{:#?}", proxy.passed());
}

#[test]
fn a_limit_below_everything_is_said() {
    let Some((context, registry)) = image_and_registry(3 * MIB) else { return };
    let proxy = Proxy::start(&registry.name(), limited(1 << 10));
    let name = tag(&context, &proxy.reference("team/app:1"));
    context.rpub(["push", &name]).code(1).expect_error("413");
    assert!(registry.manifest("team/app", "1").is_none());
}

/// What the registry had of the layer when a push was killed, and what the next one sent.
struct Round {
    before: u64,
    after: u64,
}

/// Kills a push of an image of `size` bytes to `rpub serve` when about `at` of its bytes have
/// passed, and pushes again.
fn kill_and_push_again(context: &TestContext, serve: &Serve, at: u64, round: u32) -> Round {
    let proxy = Proxy::start(&serve.name(), Manners::default());
    let name = tag(context, &proxy.reference(&format!("team/app-{round}:1")));
    let mut push = context.rpub(["push", &name]).spawn();
    let begun = Instant::now();
    let instant = Duration::from_millis(1);
    while proxy.blob_bytes() < at && !push.wait_until(begun.elapsed() + instant) {}
    push.kill();
    let _ended = push.finish();
    proxy.settle();
    let before = proxy.blob_bytes();
    proxy.forget();
    context.rpub(["push", &name]).success();
    Round { before, after: proxy.blob_bytes() }
}

/// After a kill at any instant the next push sends what is missing and at most one part more.
#[test]
fn a_killed_push_goes_on_where_it_stopped() {
    // `RPUB_TEST_CORPUS=all` is for the whole of it: thirty instants of 500 MB.
    let is_all = variable("RPUB_TEST_CORPUS").is_some_and(|value| value == "all");
    let (size, rounds) = if is_all { (500_000_000, 30) } else { (160 * MIB, 4) };
    let Some(context) = image_of(size) else { return };
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..rounds {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let serve = Serve::start(&context, &format!("served-{round}"));
        let at = random % size;
        let Round { before, after } = kill_and_push_again(&context, &serve, at, round);
        let again = (before + after).saturating_sub(size);
        eprintln!("killed at {before}, then sent {after}: {again} again");
        assert!(again <= PART + MIB, "killed at {before}, then sent {after}");
        let fresh = context.path(format!("fresh-{round}"));
        let name = serve.reference(&format!("team/app-{round}:1"));
        context.rpub(["pull", &name]).env("RPUB_STORE", &fresh).success();
        drop(serve);
        for store in [context.path(format!("served-{round}")), fresh] {
            verify_store(&store);
            // Thirty of them would fill a disk.
            fs_err::remove_dir_all(store).unwrap();
        }
    }
    let left = fs_err::read_dir(context.store().join("ingest")).unwrap().count();
    assert_eq!(left, 0, "notes of uploads that are done");
}

/// Debian's registry signs how much has come into the upload's location, so a cut within a request
/// leaves a session that nothing can go on with: such registries get one body.
#[test]
fn a_signed_location_is_not_gone_on_with() {
    let Some((context, registry)) = image_and_registry(80 * MIB) else { return };
    let proxy = Proxy::start(&registry.name(), cut("PUT", Side::Client, 70 * MIB));
    let name = tag(&context, &proxy.reference("team/app:1"));
    context.rpub(["push", &name]).success();
    verify_image(&registry, "team/app", "1");
    let passed = proxy.passed();
    assert!(passed.iter().all(|passed| passed.method != "PATCH"), "{passed:#?}");
    let asked =
        passed.iter().find(|passed| passed.method == "GET" && passed.target.contains("_state"));
    assert_eq!(asked.map(|passed| passed.status), Some(404), "{passed:#?}");
}

/// Wire row U17: exact bytes, the children by digest before the index by tag.
#[test]
fn children_come_before_their_index() {
    let Some(context) = TestContext::for_role(Role::Unprivileged) else { return };
    let Some(registry) = Registry::plain(&context) else { return };
    context.write("app/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let platforms = "--platform=linux/amd64,linux/arm64";
    context.rpub(["build", platforms, "-t", "image", "app"]).success();
    let name = tag(&context, &registry.reference("team/app:1"));
    context.rpub(["push", &name]).success();
    let (digest, index) = registry.manifest("team/app", "1").unwrap();
    let layout: Value =
        serde_json::from_slice(&fs_err::read(context.store().join("index.json")).unwrap()).unwrap();
    let stored = layout["manifests"].as_array().unwrap().iter();
    assert!(stored.map(|entry| &entry["digest"]).any(|stored| *stored == digest));
    let puts: Vec<String> = registry
        .requests()
        .into_iter()
        .filter(|line| line.starts_with("PUT ") && line.contains("/manifests/"))
        .collect();
    assert_eq!(puts.len(), 3, "{puts:#?}");
    assert!(puts[2].contains("/manifests/1 "), "{puts:#?}");
    for child in index["manifests"].as_array().unwrap() {
        let digest = child["digest"].as_str().unwrap();
        assert!(puts[..2].iter().any(|line| line.contains(digest)), "{puts:#?}");
    }
}

/// Wire row U21: a manifest that mixes Docker's media types with those of OCI, or that names an
/// uncompressed layer in Docker's format, is refused before anything is sent.
#[test]
fn mixed_media_types_are_refused_before_the_push() {
    let Some((context, registry)) = image_and_registry(1 << 10) else { return };
    let oci = "application/vnd.oci.image";
    let docker = "application/vnd.docker";
    let cases = [
        (
            format!("{docker}.distribution.manifest.v2+json"),
            format!("{docker}.container.image.v1+json"),
            format!("{oci}.layer.v1.tar+gzip"),
            "mixes",
        ),
        (
            format!("{oci}.manifest.v1+json"),
            format!("{oci}.config.v1+json"),
            format!("{docker}.image.rootfs.diff.tar.gzip"),
            "mixes",
        ),
        (
            format!("{docker}.distribution.manifest.v2+json"),
            format!("{docker}.container.image.v1+json"),
            format!("{docker}.image.rootfs.diff.tar"),
            "uncompressed",
        ),
    ];
    for (number, (manifest, config, layer, says)) in cases.into_iter().enumerate() {
        let name = registry.reference(&format!("team/app:{number}"));
        put_in_store(&context, &name, [&manifest, &config, &layer]);
        let output = context.rpub(["push", &name]).code(1);
        output.expect_error(says);
        output.expect_error(&layer);
    }
    assert_eq!(registry.requests().iter().filter(|line| line.contains("team/app")).count(), 0);
}

/// Names an image in the store whose manifest, config and layer have these media types.
fn put_in_store(context: &TestContext, name: &str, [manifest, config, layer]: [&str; 3]) {
    let store = context.store();
    let write = |bytes: &[u8]| {
        let digest = digest_of(bytes);
        context.write(format!("store/blobs/sha256/{}", &digest[7..]), bytes);
        serde_json::json!({"digest": digest, "size": bytes.len()})
    };
    let with_type = |mut descriptor: Value, media_type: &str| {
        descriptor["mediaType"] = media_type.into();
        descriptor
    };
    let config = with_type(write(br#"{"rootfs":{"type":"layers","diff_ids":[]}}"#), config);
    let layer = with_type(write(b"layer"), layer);
    let text = serde_json::json!({
        "schemaVersion": 2, "mediaType": manifest, "config": config, "layers": [layer],
    });
    let mut entry = with_type(write(text.to_string().as_bytes()), manifest);
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": name});
    let path = store.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
    index["manifests"].as_array_mut().unwrap().push(entry);
    context.write("store/index.json", index.to_string());
}
