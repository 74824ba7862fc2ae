//! Layers that are uploaded while they are being sealed.

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::build;
use crate::event::TransferId;
use crate::image::{Descriptor, Digest, Repository};
use crate::registry::{Growing, Growth, Pushed};

use super::Session;

/// Below this a layer is sealed before an upload that began now would be under way; and asking
/// first whether the registry has it, which needs the digest, is cheaper than sending it.
const WORTH_STREAMING_BYTES: u64 = 16 << 20;
/// How long a failed build waits for its upload sessions to be cancelled.
const CANCEL_PATIENCE: Duration = Duration::from_secs(4);

/// The upload of one layer, begun before its digest was known.
#[derive(Debug)]
pub(super) struct Stream {
    /// The transfer that the upload is to the user, also when it has to begin anew.
    pub(super) transfer: TransferId,
    task: JoinHandle<Option<Pushed>>,
}

impl Stream {
    /// Returns how the blob came there; `None` when it is still to be pushed.
    pub(super) async fn finish(self) -> Option<Pushed> {
        match self.task.await {
            Ok(pushed) => pushed,
            Err(error) => {
                tracing::debug!(%error, "the upload of a growing layer failed");
                None
            }
        }
    }
}

/// The layers of one build that are being sent while they grow, to one repository.
pub(super) struct Streams {
    session: Session,
    repository: Repository,
    runtime: tokio::runtime::Handle,
    tasks: TaskTracker,
    growths: Mutex<Vec<watch::Sender<Growth>>>,
    sealed: Arc<Mutex<Vec<(Digest, Stream)>>>,
}

impl Streams {
    pub(super) fn new(session: &Session, repository: Repository) -> Self {
        Self {
            session: session.clone(),
            repository,
            runtime: tokio::runtime::Handle::current(),
            tasks: TaskTracker::new(),
            growths: Mutex::default(),
            sealed: Arc::default(),
        }
    }

    /// Begins to follow the layer that the step called `step` writes to `file`.
    pub(super) fn follow(&self, step: &str, file: File) -> Arc<dyn build::Growth> {
        let (sender, growth) = watch::channel(Growth::Written(0));
        let transfer = TransferId::next();
        let growing = Growing { file: Arc::new(file), growth };
        let (session, repository) = (self.session.clone(), self.repository.clone());
        let upload = upload(session, repository, growing, name_of(step), transfer);
        let task = self.tasks.spawn_on(upload, &self.runtime);
        self.growths.lock().unwrap_or_else(PoisonError::into_inner).push(sender.clone());
        Arc::new(Layer {
            growth: sender,
            stream: Mutex::new(Some(Stream { transfer, task })),
            sealed: Arc::clone(&self.sealed),
        })
    }

    /// Takes the upload of the layer `digest`, when one was begun.
    pub(super) fn take(&self, digest: &Digest) -> Option<Stream> {
        let mut sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        let at = sealed.iter().position(|(have, _)| have == digest)?;
        Some(sealed.swap_remove(at).1)
    }

    /// Gives up what is under way, and waits a little until the registry knows.
    pub(super) async fn abandon(&self) {
        for growth in self.growths.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            growth.send_replace(Growth::Abandoned);
        }
        self.tasks.close();
        if tokio::time::timeout(CANCEL_PATIENCE, self.tasks.wait()).await.is_err() {
            tracing::debug!("upload sessions are left to the registry's own clean-up");
        }
    }
}

/// Returns what a layer without a digest is called: after its step's number.
fn name_of(step: &str) -> String {
    let number = step.split_inclusive(']').next().unwrap_or(step);
    format!("layer of {number}")
}

/// Sends a layer that grows large; one that does not is left to be pushed when it is whole.
async fn upload(
    session: Session,
    repository: Repository,
    mut growing: Growing,
    name: String,
    transfer: TransferId,
) -> Option<Pushed> {
    let is_decided =
        |now: &Growth| !matches!(now, Growth::Written(bytes) if *bytes < WORTH_STREAMING_BYTES);
    let is_large = match growing.growth.wait_for(is_decided).await.as_deref() {
        Ok(Growth::Written(_)) => true,
        Ok(Growth::Sealed(_) | Growth::Abandoned) | Err(_) => false,
    };
    if !is_large {
        return None;
    }
    match session.client.push_growing(&repository, growing, name, transfer).await {
        Ok(pushed) => Some(pushed),
        Err(error) => {
            tracing::debug!(%error, "a layer is pushed once more when it is whole");
            None
        }
    }
}

/// One layer on its way from the build to its upload.
struct Layer {
    growth: watch::Sender<Growth>,
    stream: Mutex<Option<Stream>>,
    sealed: Arc<Mutex<Vec<(Digest, Stream)>>>,
}

impl Layer {
    /// Changes the growth, unless the upload was given up.
    fn note(&self, news: Growth) {
        self.growth.send_if_modified(|growth| {
            let is_wanted = matches!(growth, Growth::Written(_));
            if is_wanted {
                *growth = news;
            }
            is_wanted
        });
    }
}

impl build::Growth for Layer {
    fn reached(&self, position_bytes: u64) {
        self.note(Growth::Written(position_bytes));
    }

    fn sealed(&self, descriptor: &Descriptor) {
        self.note(Growth::Sealed(Box::new(descriptor.clone())));
        if let Some(stream) = self.stream.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let mut sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
            sealed.push((descriptor.digest.clone(), stream));
        }
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        // Does nothing to a layer that was sealed.
        self.note(Growth::Abandoned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_called_after_its_step() {
        assert_eq!(name_of("[build 2/5] COPY [\"a\"] /"), "layer of [build 2/5]");
        assert_eq!(name_of("odd"), "layer of odd");
    }
}
