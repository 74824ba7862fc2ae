//! `df` says what `du` says, and `prune` gives it back without harm.

use serde_json::Value;

use crate::context::{Output, Role, World, verify_store};

const DOCKERFILE: &str = "\
FROM busybox
RUN head -c 300000 /dev/urandom > /first
COPY file /file
RUN head -c 300000 /dev/urandom > /last
";

fn build(world: &World, args: &[&str]) -> Output {
    let directory = world.context.path("app");
    world.context.rpub(["build"]).args(args).arg(directory).run()
}

fn world() -> Option<World> {
    let world = World::new(Role::Unprivileged)?;
    world.dockerfile("app", DOCKERFILE);
    world.context.write("app/file", "one");
    Some(world)
}

/// Returns the rows of `df` by their type.
fn df(world: &World) -> Vec<(String, u64)> {
    let output = world.context.rpub(["df", "--format=json"]).run();
    output.expect_code(0);
    let rows = output.stdout.lines().map(|line| {
        let row: Value = serde_json::from_str(line).unwrap();
        (row["Type"].as_str().unwrap().to_owned(), row["Bytes"].as_u64().unwrap())
    });
    rows.collect()
}

fn size(world: &World, kind: &str) -> u64 {
    df(world).into_iter().find(|(name, _)| name == kind).unwrap().1
}

/// Returns what `du` says of the store; run as the user who runs the tests, who may see all of it.
fn du(world: &World) -> u64 {
    let output = world.context.tool("du").args(["-s", "-B1"]).arg(world.context.store()).run();
    output.expect_code(0);
    output.stdout.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn df_says_what_du_says() {
    let Some(world) = world() else { return };
    build(&world, &["-t", "app:1"]).expect_code(0);
    let rows = df(&world);
    let total = rows.iter().find(|(name, _)| name == "Total").unwrap().1;
    let sum: u64 = rows.iter().filter(|(name, _)| name != "Total").map(|(_, bytes)| bytes).sum();
    assert_eq!(total, sum);
    assert_eq!(total, du(&world), "{rows:?}");
    let text = world.context.rpub(["system", "df"]).run();
    text.expect_code(0);
    assert!(text.stdout.starts_with("TYPE"), "{text}");
}

#[test]
fn prune_keeps_named_images_and_a_build_after_it_is_right() {
    let Some(world) = world() else { return };
    build(&world, &["-t", "app:1"]).expect_code(0);
    world.context.write("app/file", "two");
    build(&world, &["-t", "app:1"]).expect_code(0);

    let before = du(&world);
    let dry = world.context.rpub(["prune", "--dry-run"]).run();
    dry.expect_code(0);
    assert!(dry.stdout.contains("Total reclaimable space:"), "{dry}");
    assert_eq!(du(&world), before);
    world.context.rpub(["prune"]).run().expect_code(2);

    let pruned = world.context.rpub(["prune", "--force"]).run();
    pruned.expect_code(0);
    assert!(pruned.stdout.contains("image"), "the image that lost its name: {pruned}");
    assert!(du(&world) + 600_000 < before, "{pruned}");
    verify_store(&world.context.store());
    // What the named image needs is still in the cache.
    let output = build(&world, &["--progress=rawjson", "-t", "app:1"]);
    output.expect_code(0);
    assert!(!output.stderr.contains("\"done\""), "{output}");

    world.context.rpub(["builder", "prune", "--all", "-f"]).run().expect_code(0);
    assert_eq!(size(&world, "Unpacked Layers"), 0);
    assert_eq!(total(&world), du(&world));
    verify_store(&world.context.store());
    world.context.rpub(["inspect", "app:1"]).run().expect_code(0);
    build(&world, &["-t", "app:2"]).expect_code(0);
    verify_store(&world.context.store());
}

fn total(world: &World) -> u64 {
    size(world, "Total")
}

#[test]
fn what_was_used_last_stays() {
    let Some(world) = world() else { return };
    build(&world, &["-t", "app:1"]).expect_code(0);
    let until = world.context.rpub(["prune", "-af", "--filter=until=1h"]).run();
    until.expect_code(0);
    assert!(until.stdout.contains("Total reclaimed space: 0B"), "{until}");
    let keep = world.context.rpub(["prune", "-af", "--max-used-space=10GB"]).run();
    assert!(keep.stdout.contains("Total reclaimed space: 0B"), "{keep}");
    let bad = world.context.rpub(["prune", "-f", "--filter=colour=red"]).run();
    bad.expect_code(2);
    assert!(bad.stderr.contains("until=24h"), "{bad}");
}

#[test]
fn a_build_keeps_the_cache_within_its_size() {
    let Some(world) = world() else { return };
    build(&world, &["-t", "app:1", "--cache-size=100KB"]).expect_code(0);
    let kinds = ["Build Cache", "Unpacked Layers", "Cache Mounts", "Downloads"];
    let cache: u64 = df(&world)
        .iter()
        .filter(|(name, _)| kinds.contains(&name.as_str()))
        .map(|(_, bytes)| bytes)
        .sum();
    assert!(cache <= 200_000, "{:?}", df(&world));
    verify_store(&world.context.store());
}
