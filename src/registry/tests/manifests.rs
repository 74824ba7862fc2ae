//! Manifests: what is asked for, and what of the answer is believed.

use super::*;
use crate::image;

/// Returns what is said of the tag `1` of a repository.
async fn manifest_of(world: &World, name: &str) -> Result<Manifest> {
    world.client.manifest(&world.reference(&format!("{name}:1"))).await
}

fn world() -> World {
    let large = " ".repeat(image::MAX_MANIFEST_BYTES);
    let accept = media_type::MANIFESTS.join(", ");
    World::with(play("manifest_answers.toml", &[("large", &large), ("accept", &accept)]), |_| {})
}

/// Wire row P1: all types are accepted by GET and HEAD; parameters of a type do not count, a missing
/// one is found out, and one that is not the body's own is refused.
#[tokio::test]
async fn types_are_asked_for_and_compared() {
    let world = world();
    world.client.resolve(&world.reference("a/accepting:1")).await.unwrap();
    manifest_of(&world, "a/accepting").await.unwrap();
    assert_eq!(world.script.unmatched(), [] as [&str; 0]);
    for name in ["a/parameters", "a/untyped"] {
        let found = manifest_of(&world, name).await.unwrap();
        assert_eq!(found.media_type, media_type::OCI_MANIFEST, "{name}");
    }
    let error = manifest_of(&world, "a/contradicting").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Protocol);
    assert!(text_of(&error).contains("but was sent as"), "{}", text_of(&error));
}

/// Wire row P2: by a digest the bytes have to be right, whatever the header says; by a tag the
/// digest is that of the bytes.
#[tokio::test]
async fn the_bytes_decide_about_the_digest() {
    let world = world();
    let found = manifest_of(&world, "a/lying").await.unwrap();
    assert_eq!(found.digest, manifest().digest);
    let by = |digest: &Digest| format!("a/lying@{digest}");
    world.client.manifest(&world.reference(&by(&manifest().digest))).await.unwrap();
    let error = world.client.manifest(&world.reference(&by(&Digest::of(CONTENT)))).await;
    assert_eq!(error.unwrap_err().kind(), Kind::Integrity);
}

/// Wire row P3: a `HEAD` that is refused or says too little becomes a `GET`, whose error has a body.
#[tokio::test]
async fn a_head_that_does_not_tell_becomes_a_get() {
    let world = world();
    for name in ["a/headless", "a/parameters", "a/untyped"] {
        let found = world.client.resolve(&world.reference(&format!("{name}:1"))).await.unwrap();
        assert_eq!(found, manifest().descriptor(), "{name}");
    }
    let error = world.client.resolve(&world.reference("a/secret:1")).await.unwrap_err();
    assert!(error.to_string().ends_with("403 Forbidden (DENIED: not for you)"), "{error}");
}

/// Wire row P4: schema 1 is refused by its name, unsigned and signed.
#[tokio::test]
async fn schema_1_is_refused_by_its_name() {
    let world = world();
    for name in ["a/schema1", "a/signed"] {
        let error = manifest_of(&world, name).await.unwrap_err();
        let is_schema1 = matches!(error, Error::Manifest { source: image::Error::Schema1, .. });
        assert!(is_schema1, "{name}: {}", text_of(&error));
    }
}

/// Wire row P5: a manifest that is too large is not read to its end.
#[tokio::test]
async fn a_manifest_that_is_too_large_is_refused() {
    let world = world();
    let error = manifest_of(&world, "a/large").await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 8_388_608, .. }), "{error}");
    assert_eq!(world.events.retries(), 0);
}

/// Wire row P12: what an error says is found in every kind of body.
#[tokio::test]
async fn errors_say_what_their_bodies_say() {
    let world = world();
    for (name, expected) in [
        ("a/harbor", "404 Not Found (NOT_FOUND: artifact a/harbor:1 not found)"),
        ("a/details", "403 Forbidden (details and nothing else)"),
        ("a/plain", "400 Bad Request (in plain words)"),
        ("a/page", "502 Bad Gateway"),
        ("a/types", "400 Bad Request (7)"),
        ("a/empty", "404 Not Found"),
    ] {
        let error = manifest_of(&world, name).await.unwrap_err();
        assert!(error.to_string().ends_with(expected), "{name}: {error}");
    }
}
