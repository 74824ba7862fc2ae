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

/// Wire row H8: a 429 has text or HTML for a body, and a wait in seconds or as a date, which may
/// be hours away. Short ones are waited for, long ones are an error that says until when.
#[tokio::test]
async fn limits_end_at_once_or_are_waited_for() {
    let world = World::new("limits.toml");
    let client = &world.client;
    for name in ["a/hour", "a/html", "a/date"] {
        let begun = Instant::now();
        let error = client.manifest(&world.reference(&format!("{name}:1"))).await.unwrap_err();
        assert_eq!(error.kind(), Kind::RateLimited, "{name}: {error}");
        assert!(begun.elapsed() < Duration::from_millis(500), "{name}");
        assert!(error.to_string().contains("; it lifts at "), "{name}: {error}");
    }
    assert_eq!(world.events.retries(), 0);
    let begun = Instant::now();
    client.manifest(&world.reference("a/busy:1")).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let waited = Duration::from_secs(1)..Duration::from_millis(1200);
    assert!(world.events.events().iter().any(
        |event| matches!(event, Event::Retrying { delay, attempt: 2, .. } if waited.contains(delay))
    ));
}

/// Wire row H7: a used-up quota is not asked again, though it says no time; what is left of one is
/// known after any answer.
#[tokio::test]
async fn a_used_up_quota_is_not_asked_again() {
    let world = World::new("limits.toml");
    let reference = world.reference("a/counted:1");
    world.client.manifest(&reference).await.unwrap();
    let quota = world.client.rate_limit(&reference.repository).unwrap();
    assert_eq!((quota.remaining, quota.limit, quota.window_seconds), (7, Some(100), Some(21600)));
    for name in ["a/spent:1", "a/words:1"] {
        let error = world.client.manifest(&world.reference(name)).await.unwrap_err();
        assert_eq!(error.limited().unwrap().limit, Limit::Quota, "{error}");
        assert_eq!(error.kind(), Kind::RateLimited);
    }
    assert_eq!(world.events.retries(), 0);
    assert_eq!(world.client.rate_limit(&reference.repository).unwrap().remaining, 0);
}

/// Wire row H9: GitHub signals secondary limits by 403; a 403 about rights stays one.
#[tokio::test]
async fn a_403_about_a_limit_is_a_limit() {
    let world = World::new("limits.toml");
    world.client.manifest(&world.reference("a/secondary:1")).await.unwrap();
    world.client.manifest(&world.reference("a/abuse:1")).await.unwrap();
    assert_eq!(world.events.retries(), 2);
    let repository = world.repository("a/secondary");
    let digest = Digest::of(CONTENT);
    assert_eq!(world.client.blob_exists(&repository, &digest).await.unwrap(), Some(13));
    let error = world.client.manifest(&world.reference("a/denied:1")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert_eq!(world.events.retries(), 3);
}

/// A registry that asks for a pause gets it from all requests, not only from the one it refused.
#[tokio::test]
async fn the_whole_registry_pauses() {
    let world = World::new("limits.toml");
    let busy = world.reference("a/busy:1");
    let (busy, client) = (&busy, &world.client);
    let refused = client.manifest(busy);
    let other = async {
        // After the refusal has come.
        while world.events.retries() == 0 {
            tokio::task::yield_now().await;
        }
        let begun = Instant::now();
        client.manifest(&world.reference("a/counted:1")).await.unwrap();
        begun.elapsed()
    };
    let (refused, waited) = tokio::join!(refused, other);
    refused.unwrap();
    assert!(waited >= Duration::from_millis(900), "{waited:?}");
    let said = |event: &Event| matches!(event, Event::Waiting { what, .. } if *what == *busy.repository.registry.as_str());
    assert_eq!(world.events.events().iter().filter(|event| said(event)).count(), 1);
}

/// Wire row U14: a body that cannot be had again is not sent again.
#[tokio::test]
async fn a_body_that_cannot_be_opened_again_ends_the_push() {
    struct Once(std::sync::atomic::AtomicBool);
    impl Source for Once {
        fn size(&self) -> u64 {
            CONTENT.len() as u64
        }
        fn open(&self, _offset: u64) -> std::io::Result<Box<dyn std::io::Read + Send>> {
            if self.0.swap(true, std::sync::atomic::Ordering::SeqCst) {
                return Err(std::io::Error::other("it is gone"));
            }
            Ok(Box::new(CONTENT))
        }
    }
    let world = World::new("upload_faults.toml");
    let (descriptor, repository) = (Descriptor::of("x", CONTENT), world.repository("a/cut"));
    let source: Arc<dyn Source> = Arc::new(Once(false.into()));
    let transfer = TransferId::next();
    let pushed = world.client.push_blob(&repository, &descriptor, source, &[], transfer).await;
    let error = pushed.unwrap_err();
    assert!(matches!(error, Error::Source { .. }), "{error}");
    assert_eq!(world.events.retries(), 1);
    assert_eq!(world.events.outcomes(), [TransferOutcome::Failed]);
}

/// The rate is kept over all transfers together.
#[tokio::test]
async fn a_limited_rate_is_kept() {
    let world = World::with(play("cut.toml", &[]), |options| {
        options.bytes_per_second = std::num::NonZeroU64::new(100);
    });
    let begun = Instant::now();
    assert_eq!(world.fetch("a/b").await.unwrap(), CONTENT);
    assert!(begun.elapsed() >= Duration::from_millis(125), "{:?}", begun.elapsed());
}
