//! Blobs on their way in: ranges, cuts, sizes.

use super::*;
use crate::blob::Hasher;

async fn resume(world: &World, name: &str, first: &[u8]) -> Result<Vec<u8>> {
    let descriptor = Descriptor::of("x", CONTENT);
    let (repository, transfer) = (world.repository(name), TransferId::next());
    let mut hasher = Hasher::default();
    hasher.update(first);
    let mut stream = world.client.resume_blob(&repository, &descriptor, hasher, transfer).await?;
    let mut content = Vec::new();
    while let Some(chunk) = stream.next().await? {
        content.extend_from_slice(&chunk);
    }
    Ok(content)
}

/// Wire row P7: a presigned address is not used again: the registry is asked anew.
#[tokio::test]
async fn a_resumed_download_asks_the_registry_for_a_new_address() {
    let world = World::new("ranges.toml");
    assert_eq!(world.fetch("a/redirected").await.unwrap(), CONTENT);
    assert_eq!(world.script.unmatched(), [] as [&str; 0]);
    let blob = format!("GET /v2/a/redirected/blobs/{}", Digest::of(CONTENT));
    assert_eq!(world.script.log(), [&*blob, "GET /store/1", &*blob, "GET /store/1"]);
}

/// Wire row P8: only the range that was asked for counts as one; what is refused or answered with
/// another part is asked for as a whole, and what came before is skipped.
#[tokio::test]
async fn lying_and_refused_ranges_begin_anew() {
    let world = World::new("ranges.toml");
    for name in ["a/416", "a/other", "a/silent"] {
        let seen = world.script.seen().len();
        assert_eq!(world.fetch(name).await.unwrap(), CONTENT, "{name}");
        let seen = world.script.seen().split_off(seen);
        assert_eq!(seen.len(), 3, "{name}: {seen:?}");
        assert!(!seen[2].headers.contains_key("range"), "{name}");
    }
    assert_eq!(world.fetch("a/less").await.unwrap(), CONTENT);
    let asked = world.script.seen().pop().unwrap();
    assert_eq!(asked.headers["range"], "bytes=7-");
    assert!(!asked.headers.contains_key("accept-encoding"), "nobody may compress blobs");
}

/// Wire row P8: an earlier process's bytes are not fetched again.
#[tokio::test]
async fn what_an_earlier_process_has_is_not_fetched_again() {
    let world = World::new("cut.toml");
    assert_eq!(resume(&world, "a/b", b"hello").await.unwrap(), b", world!");
    assert_eq!(world.script.seen().len(), 1);
    assert_eq!(resume(&world, "a/b", CONTENT).await.unwrap(), b"");
    assert_eq!(world.script.seen().len(), 1, "all was there");
    let error = resume(&world, "a/b", b"HELLO").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Integrity);
}

/// Wire row P9: a length that is not the descriptor's is an error before a byte is read.
#[tokio::test]
async fn a_wrong_length_is_seen_before_the_first_byte() {
    let world = World::new("wrong_blob.toml");
    let descriptor = Descriptor::of("x", CONTENT);
    let repository = world.repository("a/long");
    let opened = world.client.fetch_blob(&repository, &descriptor, TransferId::next()).await;
    let is_size = |error: &Error| {
        matches!(error, Error::Mismatch { source: Mismatch::Size { actual: 22, .. }, .. })
    };
    assert!(is_size(&opened.unwrap_err()));
    // A smaller blob under the same digest ends at its size.
    let less = Descriptor { size: 5, ..descriptor };
    let opened = world.client.fetch_blob(&repository, &less, TransferId::next()).await;
    assert_eq!(opened.unwrap_err().kind(), Kind::Integrity);
}

/// Wire row P11: the empty blob needs no request, and `{}` is a blob like others.
#[tokio::test]
async fn the_empty_blob_and_the_empty_object_arrive() {
    let world = World::with(play("empty.toml", &[]), |_| {});
    let repository = world.repository("a/b");
    for content in [&b""[..], b"{}"] {
        let descriptor = Descriptor::of("x", content);
        let bytes = world.client.fetch_blob_bytes(&repository, &descriptor, 9).await.unwrap();
        assert_eq!(bytes, content);
        let source: Arc<dyn Source> = Arc::new(BytesSource(Bytes::copy_from_slice(content)));
        let transfer = TransferId::next();
        let pushed = world.client.push_blob(&repository, &descriptor, source, &[], transfer).await;
        assert_eq!(pushed.unwrap(), Pushed::Uploaded { bytes: content.len() as u64 });
    }
    assert_eq!(world.script.unmatched(), [] as [&str; 0]);
}

/// Wire row P10: layers that say where they are are had from there, without credentials; the registry
/// is asked where that fails.
#[tokio::test]
async fn foreign_layers_come_from_elsewhere_without_credentials() {
    let elsewhere = play("external.toml", &[]);
    let world = World::with_login("external_registry.toml", user(), &[]);
    let repository = world.repository("a/b");
    let mut descriptor =
        Descriptor::of("application/vnd.oci.image.layer.nondistributable.v1.tar", CONTENT);
    let fetch = async |descriptor: &Descriptor| {
        world.client.fetch_blob_bytes(&repository, descriptor, 99).await
    };
    descriptor.urls = vec![
        "file:///etc/passwd".to_owned(),
        format!("http://{}/gone", elsewhere.address()),
        format!("http://{}/layer?signature=1", elsewhere.address()),
    ];
    assert_eq!(fetch(&descriptor).await.unwrap(), CONTENT);
    assert_eq!(elsewhere.log(), ["GET /gone", "GET /layer", "GET /layer"]);
    assert!(elsewhere.seen().iter().all(|seen| !seen.headers.contains_key("authorization")));
    assert_eq!(world.script.log(), [] as [&str; 0]);
    descriptor.urls.truncate(2);
    assert_eq!(fetch(&descriptor).await.unwrap(), CONTENT);
    assert_eq!(world.script.log().len(), 1);
    // Only foreign layers may name places.
    let ordinary = Descriptor { media_type: media_type::OCI_LAYER_GZIP.to_owned(), ..descriptor };
    assert_eq!(fetch(&ordinary).await.unwrap(), CONTENT);
    assert_eq!(elsewhere.log().len(), 4);
}
