//! Copies between registries: whole, exact, once, and what happens when one side fails.

use serde_json::Value;

use crate::context::{Cut, Manners, Proxy, Registry, Role, Side, TestContext, has_tools, noise};

const LAYER_BYTES: usize = 3 << 20;

/// Two registries, each behind a proxy. The first has `team/app:1`, an index of four images that
/// share a layer, with a signature that refers to it, an attestation that refers to one of the images,
/// and something under a digest tag.
struct World {
    context: TestContext,
    near: Registry,
    far: Registry,
    near_proxy: Proxy,
    far_proxy: Proxy,
}

const PLATFORMS: &str = "linux/amd64,linux/arm64,linux/arm/v7,linux/s390x";

fn world() -> Option<World> {
    let context = TestContext::for_role(Role::Unprivileged)?;
    let (near, far) = (Registry::plain(&context)?, Registry::plain(&context)?);
    let dockerfile = "FROM scratch\nCOPY data /data\nARG TARGETARCH\nLABEL arch=$TARGETARCH\n";
    context.write("app/Dockerfile", dockerfile);
    context.write("app/data", noise(LAYER_BYTES));
    let name = near.reference("team/app:1");
    context.rpub(["build-push", "--platform", PLATFORMS, "-t", &name, "app"]).success();
    context.write("signature", "signed");
    let attach = ["artifact", "attach", "--artifact-type", "application/x.signature", &name];
    context.rpub(attach).arg("signature").success();
    let attest = ["artifact", "attach", "--artifact-type", "application/x.attestation"];
    let attest = context.rpub(attest).args(["--platform=linux/arm64", &name, "signature"]);
    attest.success();
    let digest = near.manifest("team/app", "1")?.0.replace(':', "-");
    let tag = near.reference(&format!("team/app:{digest}.sig"));
    context.rpub(["artifact", "push", &tag, "signature"]).success();
    let near_proxy = Proxy::start(&near.name(), Manners::default());
    let far_proxy = Proxy::start(&far.name(), Manners::default());
    Some(World { context, near, far, near_proxy, far_proxy })
}

impl World {
    fn copy(&self, targets: &[&str]) -> Vec<String> {
        let mut args = vec!["copy".to_owned(), self.near_proxy.reference("team/app:1")];
        args.extend(targets.iter().map(|target| self.far_proxy.reference(target)));
        args
    }
}

fn digest(registry: &Registry, repository: &str, tag: &str) -> Option<String> {
    registry.manifest(repository, tag).map(|(digest, _)| digest)
}

fn tags(registry: &Registry, repository: &str) -> Vec<String> {
    let mut tags = registry.tags(repository);
    tags.sort();
    tags
}

/// Returns how many bodies of large blobs came through, and how many went.
fn large_blobs(proxy: &Proxy) -> (usize, usize) {
    let passed = proxy.passed();
    let large = |bytes: u64| bytes > LAYER_BYTES as u64 / 2;
    let blobs = || passed.iter().filter(|one| one.target.contains("/blobs/"));
    (
        blobs().filter(|one| large(one.received)).count(),
        blobs().filter(|one| large(one.sent)).count(),
    )
}

/// Returns the digests of what refers to an image.
fn referrers(context: &TestContext, name: &str) -> Vec<Value> {
    let listed = context.rpub(["referrers", "--format", "json", name]).success().json();
    let listed = listed["referrers"].as_array().cloned().unwrap_or_default();
    listed.iter().map(|referrer| referrer["digest"].clone()).collect()
}

/// Everything arrives under the same digests, what refers to it included; again, nothing moves.
#[test]
fn a_copy_is_whole_and_exact_and_again_costs_questions() {
    let Some(world) = world() else { return };
    let copied = world.context.rpub(world.copy(&["mirror/app:1"])).success();
    copied.expect_error("with it: 2 referrers, 1 digest tags");
    let source = digest(&world.near, "team/app", "1").expect("it was pushed");
    assert_eq!(digest(&world.far, "mirror/app", "1").as_ref(), Some(&source));
    assert_eq!(
        tags(&world.far, "mirror/app"),
        tags(&world.near, "team/app"),
        "the digest tag and the list of referrers as well"
    );
    let near = referrers(&world.context, &world.near.reference("team/app:1"));
    assert_eq!(near.len(), 1);
    assert_eq!(referrers(&world.context, &world.far.reference("mirror/app:1")), near);
    let validate = ["validate", &world.far.reference("mirror/app:1")];
    world.context.rpub(validate).success();
    assert_eq!(large_blobs(&world.near_proxy), (1, 0));
    assert_eq!(large_blobs(&world.far_proxy), (0, 1));

    world.near_proxy.forget();
    world.far_proxy.forget();
    world.context.rpub(world.copy(&["mirror/app:1"])).success().expect_output(&source);
    let moved = |proxy: &Proxy| proxy.passed().iter().any(|one| one.method == "PUT");
    assert!(!moved(&world.far_proxy) || large_blobs(&world.far_proxy) == (0, 0));
    assert_eq!(large_blobs(&world.near_proxy), (0, 0));
}

/// Several targets are filled by reading once; in one registry a blob is sent once and mounted.
#[test]
fn several_targets_are_filled_by_reading_once() {
    let Some(world) = world() else { return };
    let third = Registry::plain(&world.context).expect("as the others");
    let mut args = world.copy(&["a/app:1", "b/app:1", "b/app:2"]);
    args.push(third.reference("c/app:1"));
    args.push("store:app:1".to_owned());
    world.context.rpub(args).env("RPUB_STORE", world.context.path("fresh")).success();
    assert_eq!(large_blobs(&world.near_proxy), (1, 0), "read once");
    assert_eq!(large_blobs(&world.far_proxy), (0, 1), "sent once, mounted once");
    let source = digest(&world.near, "team/app", "1");
    for (registry, repository, tag) in
        [(&world.far, "a/app", "1"), (&world.far, "b/app", "2"), (&third, "c/app", "1")]
    {
        assert_eq!(digest(registry, repository, tag), source, "{repository}:{tag}");
    }
    let validate = world.context.rpub(["validate", "--local", "app:1"]);
    validate.env("RPUB_STORE", world.context.path("fresh")).success();
}

/// All tags of a repository, side by side: what they share crosses once.
#[test]
fn all_tags_share_what_they_share() {
    let Some(world) = world() else { return };
    for tag in ["2", "3", "4"] {
        let name = world.near.reference(&format!("team/app:{tag}"));
        let label = format!("--label=tag={tag}");
        world.context.rpub(["build-push", &label, "-t", &name, "app"]).success();
    }
    let (from, to) = (world.near_proxy.reference("team/app"), world.far_proxy.reference("all/app"));
    world.context.rpub(["copy", "--all-tags", &from, &to]).success();
    assert_eq!(tags(&world.far, "all/app"), tags(&world.near, "team/app"));
    for tag in ["1", "2", "3", "4"] {
        let digests = (digest(&world.near, "team/app", tag), digest(&world.far, "all/app", tag));
        assert_eq!(digests.0, digests.1, "{tag}");
    }
    assert_eq!(large_blobs(&world.near_proxy), (1, 0));
    assert_eq!(large_blobs(&world.far_proxy), (0, 1));
}

/// Some platforms make a smaller index, one makes its image; either says what became of the index.
#[test]
fn platforms_are_chosen_and_told() {
    let Some(world) = world() else { return };
    let mut args = world.copy(&["trim/app:1"]);
    args.push("--platform=linux/amd64,linux/arm64".to_owned());
    let copied = world.context.rpub(args.clone()).success();
    copied.expect_error("left out the image for linux/arm/v7");
    copied.expect_error("left out the image for linux/s390x");
    copied.expect_error("with it: 1 referrers, 0 digest tags");
    copied.expect_error("which its signatures do not cover");
    let (digest, index) = world.far.manifest("trim/app", "1").expect("it was copied");
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2));
    world.context.rpub(["validate", &world.far.reference("trim/app:1")]).success();
    let again = world.context.rpub(args).success();
    again.expect_output(&digest);

    let mut args = world.copy(&["one/app:1"]);
    args.push("--platform=linux/arm64".to_owned());
    world.context.rpub(args).success().expect_error("took the image");
    let (_, image) = world.far.manifest("one/app", "1").expect("it was copied");
    assert!(image["layers"].is_array());

    let mut args = world.copy(&["none/app:1"]);
    args.push("--platform=linux/riscv64".to_owned());
    let failed = world.context.rpub(args).code(3);
    failed.expect_error("has no image for linux/riscv64");
    failed.expect_error("it has linux/amd64, linux/arm64, linux/arm/v7, linux/s390x");
    assert_eq!(world.far.manifest("none/app", "1"), None);
}

/// Connections that break on either side are taken up again, and what arrives is exact.
#[test]
fn broken_connections_are_taken_up_again() {
    let Some(world) = world() else { return };
    let cut = |method: &'static str, side: Side| Manners {
        cuts: vec![Cut { method, path: "/blobs/".into(), side, after: 1 << 20, times: 2 }],
        ..Manners::default()
    };
    world.near_proxy.behave(cut("GET", Side::Registry));
    world.far_proxy.behave(cut("PUT", Side::Client));
    world.context.rpub(world.copy(&["mirror/app:1"])).success();
    assert_eq!(digest(&world.far, "mirror/app", "1"), digest(&world.near, "team/app", "1"));
    world.context.rpub(["validate", &world.far.reference("mirror/app:1")]).success();
}

/// One target that refuses harms no other; the rerun does what is left.
#[test]
fn a_target_that_refuses_harms_no_other() {
    let Some(world) = world() else { return };
    let refused = vec![("PUT", "/v2/bad/app/manifests/1".to_owned())];
    world.far_proxy.behave(Manners { refused, ..Manners::default() });
    let args = world.copy(&["bad/app:1", "good/app:1"]);
    let failed = world.context.rpub(args.clone()).code(6);
    failed.expect_error("bad/app:1");
    failed.expect_error("1 of 2 copies failed");
    assert_eq!(world.far.manifest("bad/app", "1"), None);
    assert!(world.far.manifest("good/app", "1").is_some());
    world.far_proxy.behave(Manners::default());
    world.context.rpub(args).success();
    assert!(world.far.manifest("bad/app", "1").is_some());
}

/// A source whose bytes are not what their digest says gives nothing a name.
#[test]
fn a_source_that_lies_is_found_out() {
    let Some(world) = world() else { return };
    let (_, index) = world.near.manifest("team/app", "1").expect("it was pushed");
    let image = index["manifests"][0]["digest"].as_str().expect("a digest");
    let (_, image) = world.near.manifest("team/app", image).expect("an image");
    let layer = image["layers"][0]["digest"].as_str().expect("a digest");
    let path = world.near.blob_path(layer);
    let mut bytes = fs_err::read(&path).expect("the blob");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs_err::write(&path, bytes).expect("altered");
    for targets in [&["lie/app:1"][..], &["lie/app:1", "lie/app:2"]] {
        let failed = world.context.rpub(world.copy(targets)).code(7);
        failed.expect_error("content does not match its digest");
        assert!(world.far.manifest("lie/app", "1").is_none());
    }
}

/// What skopeo has copied is there for rpub, and the other way round.
#[test]
fn skopeo_reads_what_was_copied() {
    let Some(world) = world() else { return };
    if !has_tools(&["skopeo"]) {
        return;
    }
    world.context.rpub(world.copy(&["mirror/app:1"])).success();
    let name = format!("docker://{}", world.far.reference("mirror/app:1"));
    let tool = world.context.tool("skopeo").args(["inspect", "--raw", "--tls-verify=false", &name]);
    let raw = tool.success();
    let raw = crate::context::digest_of(raw.stdout.as_bytes());
    assert_eq!(Some(raw), digest(&world.near, "team/app", "1"));
}

/// Only when asked for are bytes changed: compression, media types; the files stay the same.
#[test]
fn another_form_is_made_when_asked_for() {
    let Some(world) = world() else { return };
    let media_types = |tag: &str| -> Vec<String> {
        let (_, image) = world.far.manifest("form/app", tag).expect("it was copied");
        let layers = image["layers"].as_array().cloned().unwrap_or_default();
        let mut kinds = vec![image["mediaType"].as_str().unwrap_or_default().to_owned()];
        kinds.extend(layers.iter().map(|it| it["mediaType"].as_str().unwrap_or_default().into()));
        kinds
    };
    let copy = |tag: &str, flags: &[&str]| {
        let mut args = world.copy(&[&format!("form/app:{tag}")]);
        args.push("--platform=linux/amd64".to_owned());
        args.extend(flags.iter().map(ToString::to_string));
        world.context.rpub(args)
    };
    copy("plain", &[]).success();
    let from = world.far.reference("form/app:plain");
    for (kind, ending) in [("zstd", "tar+zstd"), ("uncompressed", "tar"), ("gzip", "tar+gzip")] {
        let to = world.far.reference(&format!("form/app:{kind}"));
        let copied = world.context.rpub(["copy", "--compression", kind, &from, &to]).success();
        let kinds = media_types(kind);
        assert_eq!(kinds[1], format!("application/vnd.oci.image.layer.v1.{ending}"));
        world.context.rpub(["validate", &to]).success();
        if kind == "gzip" {
            copied.expect_error("nothing changed");
        }
    }
    let to = world.far.reference("form/app:docker");
    world.context.rpub(["copy", "--to-docker", &from, &to]).success();
    assert_eq!(media_types("docker")[0], "application/vnd.docker.distribution.manifest.v2+json");
    let args = ["copy", "--to-docker", "--compression=zstd", &from, &to];
    world.context.rpub(args).code(1).expect_error("knows no zstd");
}
