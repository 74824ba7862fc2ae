//! Large blobs over several connections: more of them where the network is slow, each byte once.

use std::path::PathBuf;

use crate::context::{
    Checked, Cut, Manners, Passed, Proxy, Registry, Role, Side, TestCommand, TestContext,
    digest_of, noise, verify_store,
};

const MIB: usize = 1 << 20;
const BLOB_BYTES: usize = 40 * MIB;
/// What a connection brings a second: so little that nothing else is waited for.
const RATE: u32 = 8_000_000;

/// A registry with a blob, and a slow proxy before it.
struct World {
    context: TestContext,
    registry: Registry,
    proxy: Proxy,
    blob: Vec<u8>,
}

impl World {
    fn new() -> Option<Self> {
        let context = TestContext::for_role(Role::Unprivileged)?;
        let registry = Registry::plain(&context)?;
        let blob = noise(BLOB_BYTES);
        let file = context.write("blob", &blob);
        let name = registry.reference("team/blobs");
        context.rpub(["blob", "put", &name]).arg(file).success();
        let proxy = Proxy::start(&registry.name(), slow());
        Some(Self { context, registry, proxy, blob })
    }

    fn get(&self) -> TestCommand {
        let name = self.proxy.reference(&format!("team/blobs@{}", digest_of(&self.blob)));
        self.context.rpub(["blob", "get", &name, "--progress=plain", "-o"]).arg(self.output())
    }

    fn output(&self) -> PathBuf {
        self.context.path("got")
    }

    fn expect_blob(&self, _got: Checked) {
        assert!(fs_err::read(self.output()).unwrap() == self.blob, "other bytes came");
        let fetched: u64 = gets(&self.proxy).iter().map(Passed::body).sum();
        assert_eq!(fetched, BLOB_BYTES as u64, "{:#?}", self.proxy.passed());
    }
}

fn slow() -> Manners {
    Manners { bytes_per_second: Some(RATE), ..Manners::default() }
}

fn is_get(passed: &Passed) -> bool {
    passed.method == "GET" && passed.target.contains("/blobs/")
}

fn gets(proxy: &Proxy) -> Vec<Passed> {
    proxy.passed().into_iter().filter(is_get).collect()
}

fn statuses(proxy: &Proxy) -> Vec<u16> {
    let mut statuses: Vec<u16> = gets(proxy).iter().map(|passed| passed.status).collect();
    statuses.dedup();
    statuses
}

/// Where a connection brings little, others are opened beside it, as far as the user allows; each
/// byte comes once.
#[test]
fn a_slow_network_is_used_by_several_connections() {
    let Some(world) = World::new() else { return };
    world.expect_blob(world.get().success());
    assert_eq!(statuses(&world.proxy), [206]);
    let most = world.proxy.most_at_once(is_get);
    assert!((3..=4).contains(&most), "{most} at once: {:#?}", world.proxy.passed());

    // One connection asks for more and more at once.
    world.proxy.behave(Manners::default());
    world.proxy.forget();
    world.expect_blob(world.get().args(["--concurrency", "1"]).success());
    assert!(gets(&world.proxy).len() <= 3, "{:#?}", world.proxy.passed());

    world.proxy.forget();
    world.expect_blob(world.get().args(["--limit-rate", "200MB"]).success());
    let got = gets(&world.proxy);
    assert_eq!((got.len(), got[0].status), (1, 200), "the rate is for one connection to reach");
}

#[test]
fn a_registry_without_ranges_gives_the_blob_at_once() {
    let Some(world) = World::new() else { return };
    world.proxy.behave(Manners { ignores_ranges: true, ..Manners::default() });
    world.expect_blob(world.get().success());
    assert_eq!(statuses(&world.proxy), [200]);
    assert_eq!(gets(&world.proxy).len(), 1);
}

#[test]
fn a_cut_in_any_part_is_mended() {
    let Some(world) = World::new() else { return };
    let (path, after) = ("/blobs/".to_owned(), 3 << 20);
    let cut = Cut { method: "GET", path, side: Side::Registry, after, times: 4 };
    world.proxy.behave(Manners { cuts: vec![cut], ..slow() });
    world.expect_blob(world.get().success());
    assert_eq!(statuses(&world.proxy), [206]);
    let cut = gets(&world.proxy).iter().filter(|passed| passed.body() == after).count();
    assert!(cut >= 4, "{:#?}", world.proxy.passed());
    assert!(world.proxy.most_at_once(is_get) > 1);
}

#[test]
fn a_wrong_byte_in_any_part_is_found() {
    let Some(world) = World::new() else { return };
    let hex = digest_of(&world.blob).split_off(7);
    let stored = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
    for at in [20 * MIB, BLOB_BYTES - 1] {
        let mut wrong = world.blob.clone();
        wrong[at] ^= 1;
        fs_err::write(world.registry.storage().join(&stored), wrong).unwrap();
        world.get().code(7).expect_error("digest");
    }
    assert!(world.proxy.most_at_once(is_get) > 1);
}

/// What a killed pull has in the store goes on from there: the parts that waited for their turn were
/// never in it.
#[test]
fn a_killed_pull_of_parts_goes_on() {
    let Some(World { context, registry, proxy, blob }) = World::new() else { return };
    context.write("app/Dockerfile", "FROM scratch\nCOPY data /data\n");
    context.write("app/data", blob);
    context.rpub(["build-push", "-t", &registry.reference("team/app:1"), "app"]).success();
    let (name, store) = (proxy.reference("team/app:1"), context.path("fresh"));
    let pull = || context.rpub(["pull", &name]).env("RPUB_STORE", &store);
    let there = || {
        let entries = fs_err::read_dir(store.join("ingest")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().metadata().map_or(0, |about| about.len())).max()
    };
    let mut running = pull().spawn();
    running.wait_until_so(|| there() > Some(10 << 20));
    running.kill();
    let (before, asked) = (there().unwrap(), proxy.most_at_once(is_get));
    assert!(asked > 1, "{:#?}", proxy.passed());
    proxy.settle();
    proxy.forget();
    pull().success();
    let fetched: u64 = gets(&proxy).iter().map(Passed::body).sum();
    let missing = BLOB_BYTES as u64 - before;
    // The layer is a tar with a head and an end, and there is a config.
    assert!((missing..missing + (32 << 10)).contains(&fetched), "{fetched} of {missing}");
    assert!(verify_store(&store).contains(&name));
}
