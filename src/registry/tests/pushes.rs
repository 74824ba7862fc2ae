//! Blobs on their way out: mounts, cuts, sources that fail.

use super::*;

#[tokio::test]
async fn a_mount_asks_for_a_token_for_both_repositories() {
    let world = World::new("mount_created.toml");
    assert_eq!(world.push("a/b", &["c/d"]).await.unwrap(), Pushed::Mounted);
    assert_eq!(world.events.outcomes(), [TransferOutcome::Mounted]);
    assert_eq!(world.script.unmatched(), [] as [&str; 0]);
}

/// Wire row U1: what another repository has is mounted without a question, unless it may be there;
/// a registry that does not mount is asked first from then on.
#[tokio::test]
async fn what_others_have_is_mounted_at_once() {
    let world = World::new("mount_at_once.toml");
    assert_eq!(world.push("a/mounts", &["c/d"]).await.unwrap(), Pushed::Mounted);
    assert_eq!(world.script.seen().len(), 1);
    assert_eq!(world.push("a/mounts", &["c/d", "a/mounts"]).await.unwrap(), Pushed::Mounted);
    assert_eq!(world.requests("HEAD").len(), 1, "it was said to be there");
    assert_eq!(world.push("a/there", &["c/d"]).await.unwrap(), Pushed::AlreadyThere);
    assert_eq!(world.requests("DELETE").len(), 1, "nobody goes on with the session");
    assert_eq!(world.push("a/there", &["c/d"]).await.unwrap(), Pushed::AlreadyThere);
    assert_eq!(world.script.seen().len(), 3 + 3 + 1, "{:?}", world.script.log());
    assert_eq!(world.script.unmatched(), [] as [&str; 0]);
}

#[tokio::test]
async fn a_mount_that_opens_an_upload_uses_it() {
    let world = World::new("mount_accepted.toml");
    let pushed = world.push("a/b", &["c/d", "e/f"]).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded { bytes: 13 });
    let seen = world.script.seen();
    assert_eq!(seen.last().unwrap().body, CONTENT);
    assert_eq!(seen.len(), 3, "{:?}", world.script.log());
}

#[tokio::test]
async fn a_refused_mount_becomes_an_upload() {
    let world = World::new("mount_refused.toml");
    let pushed = world.push("a/b", &["private/d"]).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded { bytes: 13 });
    assert_eq!(world.script.unmatched(), [] as [&str; 0]);
    assert_eq!(world.events.retries(), 0);
}

#[tokio::test]
async fn uploads_survive_cuts_and_commits_that_seem_to_fail() {
    let world = World::new("upload_faults.toml");
    let error = world.push("a/none", &[]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Protocol);
    assert!(error.to_string().contains("location is missing"), "{error}");
    let pushed = world.push("a/cut", &[]).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded { bytes: 13 });
    assert_eq!(world.script.seen().last().unwrap().body, CONTENT);
    assert_eq!(world.push("a/stored", &[]).await.unwrap(), Pushed::AlreadyThere);
    let error = world.push("a/denied", &[]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.to_string().ends_with("(DENIED: push access required)"), "{error}");
}

/// A source whose file is shorter than it was.
struct Shrunk;

impl Source for Shrunk {
    fn size(&self) -> u64 {
        CONTENT.len() as u64
    }

    fn open(&self, _offset: u64) -> std::io::Result<Box<dyn std::io::Read + Send>> {
        Ok(Box::new(&CONTENT[..4]))
    }
}

#[tokio::test]
async fn an_unreadable_source_is_said_and_not_retried() {
    let world = World::new("mount_accepted.toml");
    let descriptor = Descriptor::of("x", CONTENT);
    let repository = world.repository("a/b");
    let from = ["c/d".parse().unwrap()];
    let pushed = world.client.push_blob(
        &repository,
        &descriptor,
        Arc::new(Shrunk),
        &from,
        TransferId::next(),
    );
    let error = pushed.await.unwrap_err();
    assert_eq!(error.kind(), Kind::Local, "{error}");
    assert_eq!(world.events.retries(), 0);
}
