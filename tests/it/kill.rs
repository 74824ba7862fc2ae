//! Killed at any moment, then run again: nothing is lost and no partial tag appears.

use std::time::Duration;

use crate::context::{Role, World, verify_image, verify_store};

/// How often the command is killed.
const KILLS: u32 = 20;

const DOCKERFILE: &str = "\
FROM busybox
ARG ROUND
COPY data /data
RUN echo $ROUND > /round
RUN dd if=/dev/urandom of=/noise bs=1M count=4 2>/dev/null
COPY --chown=1:1 data /again
";

#[test]
fn a_killed_build_push_harms_neither_store_nor_registry() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let directory = world.dockerfile("app", DOCKERFILE);
    let data: Vec<u8> =
        (0..3 << 20).map(|n: u32| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    world.context.write("app/data", data);
    let build = |round: u32, name: &str| {
        let round = format!("--build-arg=ROUND={round}");
        world.build_push(name, &directory).args([round.as_str(), "--no-cache"])
    };
    let whole = build(0, "team/app:whole").success().elapsed;

    // The same instants in every run of the test, spread over a little more than the whole time.
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for round in 1..=KILLS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let part = f64::from(u32::try_from(random >> 40).unwrap()) / f64::from(1 << 24);
        let instant = whole.mul_f64(part * 1.1);
        let tag = format!("round-{round}");
        kill_and_verify(&world, build(round, &format!("team/app:{tag}")).spawn(), instant, &tag);
        build(round, &format!("team/app:{tag}")).success();
        verify_image(&world.registry, "team/app", &tag);
        verify_store(&world.context.store());
    }
    assert_eq!(world.registry.tags("team/app").len(), KILLS as usize + 1);
}

fn kill_and_verify(
    world: &World,
    mut running: crate::context::Running,
    instant: Duration,
    tag: &str,
) {
    running.wait_until(instant);
    running.kill();
    // This returns only when nothing holds the command's output any more: the worker and its step
    // die with it.
    let _ended = running.finish();
    if world.registry.manifest("team/app", tag).is_some() {
        verify_image(&world.registry, "team/app", tag);
    }
    verify_store(&world.context.store());
    world.context.rpub(["images"]).success();
}
