//! Manifests on their way in.

use super::*;

const ALL: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Wire row P1: `HEAD` and `GET` accept all four types; parameters of the type that comes are
/// ignored, and where none comes the manifest itself tells.
#[tokio::test]
async fn all_types_are_accepted_and_parameters_ignored() {
    let world = World::new("reading.toml");
    for (name, is_index) in [("a/plain", false), ("a/parameters", false), ("a/sniffed", true)] {
        let reference = world.reference(&format!("{name}:1"));
        let resolved = world.client.resolve(&reference).await.unwrap();
        let manifest = world.client.manifest(&reference).await.unwrap();
        assert_eq!(resolved, manifest.descriptor(), "{name}");
        assert_eq!(media_type::is_index(&manifest.media_type), is_index, "{name}");
    }
    let mut wanted: Vec<&str> = ALL.split(", ").collect();
    wanted.sort_unstable();
    for seen in world.script.seen() {
        let mut accepted: Vec<&str> = seen.headers["accept"].split(", ").collect();
        accepted.sort_unstable();
        assert_eq!(accepted, wanted, "{}", seen.method);
    }
}

/// Wire row P1: a manifest that calls itself something else than it was sent as is refused.
#[tokio::test]
async fn two_types_at_once_are_refused() {
    let world = World::new("reading.toml");
    let error = world.client.manifest(&world.reference("a/twofold:1")).await.unwrap_err();
    assert!(text_of(&error).contains("was sent as"), "{}", text_of(&error));
}

/// Wire row P2: by tag the digest is the computed one, whatever the header says; by digest the body
/// is verified.
#[tokio::test]
async fn the_digest_of_a_header_is_not_believed() {
    let world = World::new("reading.toml");
    let by_tag = world.client.manifest(&world.reference("a/liar:1")).await.unwrap();
    assert_eq!(by_tag.digest, manifest().digest);
    world.client.manifest(&world.reference("a/liar:1")).await.unwrap();
    let warnings = world.events.events().into_iter();
    let warnings = warnings.filter(|event| matches!(event, Event::Warning { .. })).count();
    assert_eq!(warnings, 1, "it is said once");
    let by_digest = world.reference(&format!("a/liar@{}", Digest::of(b"other")));
    let error = world.client.manifest(&by_digest).await.unwrap_err();
    assert!(matches!(error, Error::ManifestDigest { .. }), "{error}");
    assert_eq!(error.kind(), Kind::Integrity);
}

/// Wire row P3: a `HEAD` that is switched off, says too little, or names another digest than the one
/// asked for, is followed by a `GET`, whose error says why.
#[tokio::test]
async fn what_a_head_does_not_tell_a_get_does() {
    let world = World::new("reading.toml");
    for name in ["a/405", "a/no-digest", "a/no-type", "a/no-length"] {
        let reference = world.reference(&format!("{name}:1"));
        assert_eq!(world.client.peek(&reference).await.unwrap(), None, "{name}");
        let resolved = world.client.resolve(&reference).await.unwrap();
        assert_eq!(resolved, manifest().descriptor(), "{name}");
    }
    let by_digest = world.reference(&format!("a/disagrees@{}", manifest().digest));
    let resolved = world.client.resolve(&by_digest).await.unwrap();
    assert_eq!(resolved, manifest().descriptor());
    let error = world.client.resolve(&world.reference("a/forbidden:1")).await.unwrap_err();
    assert!(error.to_string().ends_with("(DENIED: not for you)"), "{error}");
    assert_eq!(world.script.unmatched(), [] as [&str; 0]);
}

/// Wire row P4: schema 1 is refused in words.
#[tokio::test]
async fn schema_1_is_refused() {
    let world = World::new("reading.toml");
    for name in ["a/schema1", "a/signed"] {
        let error =
            world.client.manifest(&world.reference(&format!("{name}:1"))).await.unwrap_err();
        let text = text_of(&error);
        assert!(text.contains("schema 1 format, which is no longer supported"), "{name}: {text}");
    }
    assert_eq!(world.events.retries(), 0);
}

/// Wire row P5: a manifest over the limit is not read to its end, and a registry's own limit is an
/// error in its words.
#[tokio::test]
async fn large_manifests_are_refused() {
    let large = " ".repeat(crate::image::MAX_MANIFEST_BYTES + 1);
    let world = World::with(play("reading.toml", &[("large", &large)]), |_| {});
    let error = world.client.manifest(&world.reference("a/large:1")).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    let pushed = world.client.push_manifest(&world.reference("a/large:1"), &manifest()).await;
    let error = pushed.unwrap_err().to_string();
    assert!(error.contains("413") && error.contains("too large for us"), "{error}");
    assert_eq!(world.events.retries(), 0);
}

/// Fifty cold reads of one repository ask for one token.
#[tokio::test]
async fn fifty_cold_reads_ask_for_one_token() {
    let world = World::new("token_flight.toml");
    let reference = world.reference("a/b:1");
    let all = join_all((0..50).map(|_| world.client.manifest(&reference))).await;
    assert!(all.iter().all(|one| one.as_ref().unwrap().digest == manifest().digest));
    let tokens = world.script.log().iter().filter(|line| *line == "GET /token").count();
    assert_eq!(tokens, 1);
}
