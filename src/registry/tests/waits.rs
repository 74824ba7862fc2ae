//! Waits: for registries that are silent, busy, or have quotas.

use super::*;

/// Returns a world that waits a tenth of a second for a registry, and tries twice.
fn impatient(name: &str) -> World {
    World::with(play(name, &[]), |options| {
        options.retry.attempts = 2;
        options.retry.idle_timeout = Duration::from_millis(100);
    })
}

#[tokio::test]
async fn a_silent_registry_is_left_and_asked_again() {
    let world = impatient("drip.toml");
    world.client.manifest(&world.reference("a/silent:1")).await.unwrap();
    assert_eq!(world.events.retries(), 1);
    let begun = Instant::now();
    let error = world.client.manifest(&world.reference("a/dead:1")).await.unwrap_err();
    assert!(matches!(error, Error::Stalled { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}
