//! Blobs that are sent while they are still being written.

use super::*;

/// A blob that grows as a test says.
pub(super) struct Plant {
    file: std::fs::File,
    growth: tokio::sync::watch::Sender<Growth>,
}

impl Plant {
    fn new() -> Self {
        let (growth, _) = tokio::sync::watch::channel(Growth::Written(0));
        Self { file: tempfile::tempfile().unwrap(), growth }
    }

    fn growing(&self) -> Growing {
        let file = Arc::new(self.file.try_clone().unwrap());
        Growing { file, growth: self.growth.subscribe() }
    }

    fn grow_to(&mut self, end: usize) {
        let news = &CONTENT[self.position()..end];
        std::io::Write::write_all(&mut self.file, news).unwrap();
        self.growth.send_replace(Growth::Written(end as u64));
    }

    fn position(&self) -> usize {
        match *self.growth.borrow() {
            Growth::Written(position) => usize::try_from(position).unwrap(),
            Growth::Sealed(_) | Growth::Abandoned => panic!("the blob does not grow"),
        }
    }

    pub(super) fn seal(&mut self) {
        self.grow_to(CONTENT.len());
        self.growth.send_replace(Growth::Sealed(Box::new(Descriptor::of("x", CONTENT))));
    }
}

impl World {
    /// Pushes a blob that has five bytes at first, and does `then` when they are being sent.
    pub(super) async fn push_growing(
        &self,
        name: &str,
        then: impl FnOnce(&mut Plant),
    ) -> Result<Pushed> {
        let mut plant = Plant::new();
        plant.grow_to(5);
        let (repository, transfer) = (self.repository(name), TransferId::next());
        let push = self.client.push_growing(
            &repository,
            plant.growing(),
            "layer of [1/2]".to_owned(),
            transfer,
        );
        let mut push = std::pin::pin!(push);
        let is_sending = |event: &Event| matches!(event, Event::TransferProgress { .. });
        while !self.events.events().iter().any(is_sending) {
            tokio::select! {
                outcome = &mut push => return outcome,
                () = tokio::task::yield_now() => {}
            }
        }
        then(&mut plant);
        push.await
    }
}

/// Wire row U6: the newest location counts, with its query.
#[tokio::test]
async fn a_growing_blob_is_sent_as_it_grows() {
    let world = World::new("growing.toml");
    let pushed = world.push_growing("a/b", Plant::seal).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded { bytes: 13 });
    assert_eq!(world.requests("PATCH")[0].body, CONTENT);
    assert_eq!(world.script.log(), ["POST /v2/a/b/blobs/uploads/", "PATCH /up/1", "PUT /up/2"]);
    assert_eq!(world.script.unmatched(), [] as [&str; 0]);
    assert_eq!(world.events.outcomes(), [TransferOutcome::Moved]);
}

#[tokio::test]
async fn a_growing_blob_that_is_refused_is_cancelled_and_pushed_when_whole() {
    // Where the way of streaming ends, and how many sessions there were to cancel.
    let cases = [("a/closed", 0), ("a/patch", 1), ("a/commit", 1), ("a/cut", 1), ("a/early", 1)];
    for (name, sessions) in cases {
        let world = World::new("growing_faults.toml");
        let outcome = world.push_growing(name, Plant::seal).await;
        assert!(outcome.is_err(), "{name}: {outcome:?}");
        assert_eq!(world.requests("DELETE").len(), sessions, "{name}: {:?}", world.script.log());
        assert_eq!(world.events.outcomes(), [], "the transfer goes on as an ordinary one");
        assert_eq!(world.events.retries(), 0, "{name}");
        let pushed = world.push(name, &[]).await.unwrap();
        assert_eq!(pushed, Pushed::Uploaded { bytes: 13 });
        let whole = world.requests("PUT").into_iter().next_back().unwrap();
        assert_eq!(whole.body, CONTENT);
        assert_eq!(world.script.unmatched(), [] as [&str; 0]);
    }
}

#[tokio::test]
async fn a_growing_blob_that_is_given_up_is_cancelled() {
    for is_told in [true, false] {
        let world = World::new("growing.toml");
        let give_up = |plant: &mut Plant| {
            if is_told {
                plant.growth.send_replace(Growth::Abandoned);
            } else {
                *plant = Plant::new();
            }
        };
        let error = world.push_growing("a/b", give_up).await.unwrap_err();
        assert!(matches!(error, Error::Abandoned), "{error}");
        assert_eq!(world.requests("DELETE").len(), 1);
        assert_eq!(world.requests("PUT").len(), 0);
        assert_eq!(world.events.outcomes(), [TransferOutcome::Failed]);
    }
}

#[tokio::test]
async fn a_growing_blob_is_authorised_again_at_each_request() {
    let world = World::with_login("growing_token.toml", user(), &[]);
    let pushed = world.push_growing("a/b", Plant::seal).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded { bytes: 13 });
    assert_eq!(world.requests("PATCH").last().unwrap().body, CONTENT);
    assert_eq!(world.script.unmatched(), [] as [&str; 0]);
}

/// Wire row U7: a location at another host is followed without the credentials.
#[tokio::test]
async fn a_redirected_growing_blob_carries_no_credentials() {
    let store = play("growing_store.toml", &[]);
    let other = format!("http://{}", store.address());
    let world = World::with_login("growing_redirect.toml", user(), &[("other", &other)]);
    let pushed = world.push_growing("a/b", Plant::seal).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded { bytes: 13 });
    assert_eq!(store.unmatched(), [] as [&str; 0]);
    assert_eq!(store.seen()[0].body, CONTENT);
}
