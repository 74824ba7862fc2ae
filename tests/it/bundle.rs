//! Bundles: made where there is a network, loaded where there is none, whole or not at all.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::context::{
    Checked, Registry, Role, TestCommand, TestContext, has_tools, noise, variable, verify_store,
};

/// A registry with `team/app:1`, an index of two images with an artifact that refers to it and an
/// image under a digest tag, and one with `tools/cli:2`, which shares a layer with it.
struct World {
    context: TestContext,
    first: Registry,
    second: Registry,
}

const LAYER_BYTES: usize = 2 << 20;

fn world() -> Option<World> {
    let context = TestContext::for_role(Role::Unprivileged)?;
    let (first, second) = (Registry::plain(&context)?, Registry::plain(&context)?);
    context.write(
        "app/Dockerfile",
        "FROM scratch\nCOPY data /data\nARG TARGETARCH\nLABEL a=$TARGETARCH\n",
    );
    context.write("app/data", noise(LAYER_BYTES));
    let (app, cli) = (first.reference("team/app:1"), second.reference("tools/cli:2"));
    let platforms = "--platform=linux/amd64,linux/arm64";
    context.rpub(["build-push", platforms, "-t", &app, "app"]).success();
    context.rpub(["build-push", "--label=b=c", "-t", &cli, "app"]).success();
    context.write("signature", "signed");
    let attach = ["artifact", "attach", "--artifact-type", "application/x.signature", &app];
    context.rpub(attach).arg("signature").success();
    let digest = first.manifest("team/app", "1")?.0.replace(':', "-");
    let tag = first.reference(&format!("team/app:{digest}.sig"));
    context.rpub(["artifact", "push", &tag, "signature"]).success();
    Some(World { context, first, second })
}

impl World {
    fn names(&self) -> [String; 2] {
        [self.first.reference("team/app:1"), self.second.reference("tools/cli:2")]
    }

    fn bundle(&self, args: &[&str]) -> TestCommand {
        self.context.rpub(["bundle"]).args(args)
    }

    fn create(&self, file: &str) -> Checked {
        let [app, cli] = self.names();
        self.bundle(&["create", "-o", file, &app, &cli]).success()
    }

    fn fresh(&self, store: &str, args: &[&str]) -> TestCommand {
        self.bundle(args).env("RPUB_STORE", self.context.path(store))
    }
}

fn digest(registry: &Registry, repository: &str, tag: &str) -> String {
    let found = registry.manifest(repository, tag);
    found.unwrap_or_else(|| panic!("no {repository}:{tag}")).0
}

fn referrers(context: &TestContext, name: &str) -> Vec<Value> {
    let listed = context.rpub(["referrers", "--format", "json", name]).success().json();
    let listed = listed["referrers"].as_array().cloned().unwrap_or_default();
    listed.iter().map(|referrer| referrer["digest"].clone()).collect()
}

#[test]
fn archives_are_listed_verified_and_compared() {
    let Some(context) = TestContext::for_role(Role::Unprivileged) else { return };
    context.write("app/Dockerfile", "FROM scratch\nCOPY data /data\n");
    context.write("app/data", "content");
    let build = |name: &str, output: &str, label: &str| {
        let args = ["build", "-q", "-t", name, "-o", output, "--label", label, "app"];
        context.rpub(args).success();
    };
    build("example.com/app:1", "type=oci,dest=before.tar", "a=1");
    build("example.com/app:1", "type=docker,dest=after.tar", "a=2");
    let bundle = |args: &[&str]| context.rpub(["bundle"]).args(args);
    bundle(&["verify", "before.tar"]).success().expect_output("before.tar is whole: 1 images");
    let listed = bundle(&["ls", "--format", "json", "after.tar"]).success().json();
    assert_eq!(listed["images"][0]["name"], "example.com/app:1");
    bundle(&["ls", "--format", "{{.name}}", "after.tar"]).success().expect_output("example.com");
    let compared = bundle(&["diff", "before.tar", "after.tar"]).success();
    compared.expect_output("~ example.com/app:1 ");
    compared.expect_output("2 more");
    let inventory = bundle(&["ls", "--inventory", "before.tar"]).success().json();
    assert_eq!(inventory["blobs"].as_array().map(Vec::len), Some(3), "{inventory}");

    let mut bytes = fs_err::read(context.path("after.tar")).unwrap();
    let middle = bytes.windows(7).position(|window| window == b"\"a\":\"2\"").unwrap();
    bytes[middle + 5] = b'3';
    context.write("altered.tar", &bytes);
    let found = bundle(&["verify", "--format", "json", "altered.tar"]).code(7);
    assert!(found.stdout.contains("does not match its digest"), "{found}");
    context.write("cut.tar", &bytes[..1000]);
    bundle(&["ls", "cut.tar"]).code(7).expect_error("is cut short");
    bundle(&["ls", "nowhere"]).code(3).expect_error("failed to read `nowhere`");
    context.write("newer", r#"{"rpubInventory":2,"of":"x","blobs":[],"more":1}"#);
    let newer = bundle(&["ls", "--inventory", "newer"]).code(1);
    newer.expect_error("an inventory of version 2");
}

#[test]
fn images_of_two_registries_arrive_where_there_is_neither() {
    let Some(world) = world() else { return };
    let context = &world.context;
    let third = Registry::plain(context).unwrap();
    let [app, cli] = world.names();
    let (app_digest, cli_digest) =
        (digest(&world.first, "team/app", "1"), digest(&world.second, "tools/cli", "2"));
    let signed = referrers(context, &app);
    world.create("all.bundle");
    let listed = world.bundle(&["ls", "--format", "json", "all.bundle"]).success().json();
    let images = listed["images"].as_array().unwrap();
    let image = |name: &str| images.iter().find(|it| it["name"] == name).unwrap();
    assert_eq!(image(&app)["digest"], app_digest.as_str());
    assert_eq!(image(&app)["referrers"], 1);
    assert_eq!(image(&app)["platforms"], serde_json::json!(["linux/amd64", "linux/arm64"]));
    assert_eq!(image(&cli)["digest"], cli_digest.as_str());
    let size = context.path("all.bundle").metadata().unwrap().len();
    assert!(size < 2 * LAYER_BYTES as u64, "the layer is there once: {size}");
    world.bundle(&["verify", "all.bundle"]).success().expect_output("is whole");

    // Neither of the registries is there any more.
    let World { first, second, .. } = &world;
    let (first_name, second_name) = (first.name(), second.name());
    let to = format!("{}/mirror", third.name());
    let World { context, first, second } = world;
    drop((first, second));
    let bundle = |args: &[&str]| context.rpub(["bundle"]).args(args);
    let mapped = format!("--map={second_name}/tools={}/base", third.name());
    let load = ["load", "all.bundle", "--to", &to, &mapped];
    bundle(&load).success().expect_output(&third.reference("base/cli:2"));
    assert_eq!(digest(&third, "mirror/team/app", "1"), app_digest);
    assert_eq!(digest(&third, "base/cli", "2"), cli_digest);
    assert_eq!(referrers(&context, &third.reference("mirror/team/app:1")), signed);
    assert_eq!(third.tags("mirror/team/app").len(), 3, "the digest tag, and the list of referrers");
    context.rpub(["validate", &third.reference("mirror/team/app:1")]).success();

    let fresh = |args: &[&str]| context.rpub(args).env("RPUB_STORE", context.path("fresh"));
    fresh(&["bundle", "load", "all.bundle"]).success();
    fresh(&["validate", "--local", &app]).success();
    fresh(&["validate", "--local", &cli]).success();
    assert!(app.starts_with(&first_name));

    if has_tools(&["skopeo"]) {
        let source = format!("oci-archive:all.bundle:{cli}");
        let inspected = context.tool("skopeo").args(["inspect", &source]).run();
        inspected.expect_code(0);
        inspected.expect_output(&cli_digest);
    }
}

#[test]
fn a_delta_carries_what_the_other_side_lacks() {
    let Some(world) = world() else { return };
    let context = &world.context;
    let [app, cli] = world.names();
    world.bundle(&["create", "-o", "base", &app]).success();
    world.fresh("there", &["load", "base"]).success();
    let inventory = world.fresh("there", &["ls", "--inventory", "store:"]).success();
    context.write("inventory", &inventory.stdout);
    let list = context.write("list", format!("# what is new\n{cli}  # the tool\n\n{app}\n"));
    let list = list.to_str().unwrap();
    for from in ["inventory", "base"] {
        let created =
            world.bundle(&["create", "-o", "delta", "--file", list, "--delta-from", from]);
        created.success();
        let size = context.path("delta").metadata().unwrap().len();
        assert!(size < LAYER_BYTES as u64 / 4, "the layer is left out: {size}");
        let listed = world.bundle(&["ls", "--format", "json", "delta"]).success().json();
        assert!(listed["leftOut"].as_u64().unwrap() > 0, "{listed}");
        world.bundle(&["verify", "delta"]).success().expect_output("left out");
    }
    let refused = world.fresh("elsewhere", &["load", "delta"]).code(3);
    refused.expect_error("that the bundle leaves out, as it was made for `base`");
    refused.expect_error("sha256:");
    assert!(verify_store(&context.path("elsewhere")).is_empty());
    world.fresh("there", &["load", "delta"]).success();
    assert_eq!(verify_store(&context.path("there")).len(), 3);

    let third = Registry::plain(context).unwrap();
    let to = third.name();
    let refused = world.bundle(&["load", "delta", "--to", &to]).code(6);
    refused.expect_error("leaves out blob");
    world.bundle(&["load", "base", "--to", &to]).success();
    let tools = format!("--map={}={to}/team/app", cli.rsplit_once(':').unwrap().0);
    world.bundle(&["load", "delta", "--to", &to, &tools, &cli]).success();
    assert_eq!(digest(&third, "team/app", "2"), digest(&world.second, "tools/cli", "2"));

    let compared = world.bundle(&["diff", "base", "delta"]).success();
    compared.expect_output(&format!("+ {cli}@"));
}

#[test]
fn what_fails_is_named_and_what_is_there_is_kept() {
    let Some(world) = world() else { return };
    let context = &world.context;
    let [app, cli] = world.names();
    let gone = world.first.reference("team/app:gone");
    let failed = world.bundle(&["create", "-o", "b", &app, &gone, &cli]).code(6);
    failed.expect_error("team/app:gone");
    failed.expect_error("run the same command again to go on");
    assert!(!context.path("b").exists());
    assert!(context.path("b.partial").exists());
    // Without the wrong one nothing large is read again, and nothing is left behind.
    let created = world.create("b");
    created.expect_error("copied: 0 blobs");
    assert!(!context.path("b.partial").exists());
    world.bundle(&["verify", "b"]).success();

    let before = fs_err::read(context.path("b")).unwrap();
    world.bundle(&["add", "b", &gone]).code(3);
    let read = |path: &Path| fs_err::read(path).unwrap();
    assert_eq!(read(&context.path("b")), before, "nothing was added");
    let named = format!("example.com/renamed:9=store:{app}");
    world.bundle(&["add", "b", &named]).success();
    world.bundle(&["verify", "b"]).success().expect_output("images");
    world.bundle(&["ls", "b"]).success().expect_output("example.com/renamed:9");

    let whole = read(&context.path("b"));
    context.write("cut", &whole[..whole.len() - 700]);
    for command in ["ls", "verify", "load"] {
        world.fresh("fresh", &[command, "cut"]).code(7).expect_error("is cut short");
    }
    let mut altered = whole.clone();
    let middle = altered.len() / 3;
    altered[middle] ^= 1;
    context.write("altered", &altered);
    let verified = world.bundle(&["verify", "altered"]).code(7);
    verified.expect_output("does not match its digest");
    let loaded = world.fresh("fresh", &["load", "altered"]).run();
    assert!(!loaded.status.success(), "{loaded}");
    verify_store(&context.path("fresh"));
    let newer = String::from_utf8_lossy(&whole[512..525]).replace('1', "2");
    context.write("newer", [&whole[..512], newer.as_bytes(), &whole[525..]].concat());
    world.bundle(&["ls", "newer"]).code(1).expect_error("is a bundle of version 2");
    world.bundle(&["ls", "nowhere"]).code(3).expect_error("nowhere");
    world.bundle(&["create", "-o", "c"]).code(2).expect_error("no image is named");
    world.bundle(&["load", "b", "--map", "a"]).code(2).expect_error("write OLD=NEW");
    world.bundle(&["add", "b", &format!("other.example/renamed:9={cli}")]).success();
    let twice = world.bundle(&["load", "b", "--to", "x.example"]).code(1);
    twice.expect_error("two images would become `x.example/renamed:9`");
}

/// Runs `command` and kills it at an instant of its whole time, again and again.
fn killed(kills: u32, whole: Duration, command: impl Fn() -> TestCommand, check: impl Fn(u32)) {
    // The same instants in every run of the test, spread over a little more than the whole time.
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..kills {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let part = f64::from(u32::try_from(random >> 40).unwrap()) / f64::from(1 << 24);
        let mut running = command().spawn();
        running.wait_until(whole.mul_f64(part * 1.1));
        running.kill();
        let _ended = running.finish();
        check(round);
    }
}

/// `RPUB_TEST_CORPUS=all` is for all thirty instants of each.
fn kills() -> u32 {
    let is_all = variable("RPUB_TEST_CORPUS").is_some_and(|value| value == "all");
    if is_all { 30 } else { 4 }
}

#[test]
fn kills_at_any_instant_harm_nothing() {
    let Some(world) = world() else { return };
    let context = &world.context;
    let [app, cli] = world.names();
    let whole = world.create("whole").elapsed;
    let expected = world.bundle(&["ls", "whole"]).success().stdout.clone();
    let images = |text: &str| text.lines().filter(|it| it.contains(':')).count();

    let create = || world.bundle(&["create", "-o", "killed", &app, &cli]);
    killed(kills(), whole, create, |_| {
        if context.path("killed").exists() {
            world.bundle(&["verify", "killed"]).success();
        }
        create().success();
        world.bundle(&["verify", "killed"]).success();
        assert_eq!(world.bundle(&["ls", "killed"]).success().stdout, expected);
        fs_err::remove_file(context.path("killed")).unwrap();
    });

    world.bundle(&["create", "-o", "grown", &app]).success();
    let one = fs_err::read(context.path("grown")).unwrap();
    let add = || world.bundle(&["add", "grown", &cli]);
    killed(kills(), whole, add, |_| {
        let found = world.bundle(&["verify", "grown"]).success();
        assert!(found.stdout.contains("is whole"), "{found}");
        add().success();
        world.bundle(&["verify", "grown"]).success();
        let listed = world.bundle(&["ls", "grown"]).success();
        assert_eq!(images(&listed.stdout), images(&expected), "{listed}");
        context.write("grown", &one);
    });

    let load = || world.fresh("killed-store", &["load", "whole"]);
    let whole_load = world.fresh("other-store", &["load", "whole"]).success().elapsed;
    killed(kills(), whole_load, load, |_| {
        let store = context.path("killed-store");
        if store.join("oci-layout").exists() && store.join("index.json").exists() {
            verify_store(&store);
        }
        load().success();
        for name in [&app, &cli] {
            let validate = context.rpub(["validate", "--local", name]);
            validate.env("RPUB_STORE", &store).success();
        }
        fs_err::remove_dir_all(&store).unwrap();
    });
}
