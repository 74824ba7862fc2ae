//! Killed at any moment, then run again: everything is there, exactly, and no tag is half.

use super::Pair;
use crate::context::{variable, verify_image, verify_store};

#[test]
fn a_killed_mirror_is_finished_by_the_next() {
    let kills = if variable("RPUB_TEST_CORPUS").is_some_and(|it| it == "all") { 30 } else { 5 };
    let Some(pair) = Pair::new() else { return };
    let names: Vec<String> = (0..6).map(|number| format!("team/app:1.{number}")).collect();
    let digests: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(number, name)| pair.image(&format!("content {number}").repeat(50_000), &[name]))
        .collect();
    let file = |round: u32| {
        pair.file(
            "mirror.toml",
            &format!(
                "[[rules]]\nfrom = \"SOURCE/team/app\"\nto = \"DESTINATION/round-{round}/app\"\n\
                 immutable = \"1.[0-2]\"\n"
            ),
        );
    };
    file(0);
    let whole = pair.mirror(&["mirror.toml"]).success().elapsed;
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for round in 1..=kills {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let part = f64::from(u32::try_from(random >> 40).unwrap()) / f64::from(1 << 24);
        file(round);
        let mut running = pair.mirror(&["mirror.toml"]).spawn();
        running.wait_until(whole.mul_f64(part * 1.1));
        running.kill();
        let _ended = running.finish();
        let repository = format!("round-{round}/app");
        for tag in pair.destination.tags(&repository) {
            verify_image(&pair.destination, &repository, &tag);
        }
        verify_store(&pair.context.path("mirrored"));
        pair.mirror(&["mirror.toml"]).success();
        for (number, digest) in digests.iter().enumerate() {
            let there = pair.there(&format!("{repository}:1.{number}"));
            assert_eq!(there.as_ref(), Some(digest));
            verify_image(&pair.destination, &repository, &format!("1.{number}"));
        }
    }
}
