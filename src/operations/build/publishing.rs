//! Uploads while the build runs.

use std::fs::File;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::build::{Form, Growth, Layer, Observer, Plan, StageResult};
use crate::image::{Reference, Repository};
use crate::operations::publish::{First, Parcel, Traffic, publish_blobs, repositories};
use crate::operations::stream::Streams;
use crate::operations::{Error, Kind, Session};

use super::cache::{CacheSources, Exports};

/// Uploads under way. Dropping it breaks them off.
pub(super) struct Publishing {
    /// `None` once there is nothing more to send.
    pub(super) channels: Option<Channels>,
    task: JoinHandle<Result<Traffic, Error>>,
}

/// The ways from the engine to the uploads.
#[derive(Clone)]
pub(super) struct Channels {
    /// For blobs that are complete.
    parcels: mpsc::UnboundedSender<Parcel>,
    /// For layers that are still growing.
    streams: Option<Arc<Streams>>,
}

impl Publishing {
    /// Starts to publish; the base's layers, which are known by now unless the form changes them, at
    /// once.
    pub(super) fn start(session: &Session, names: &[Reference], plan: &Plan, form: &Form) -> Self {
        let (parcels, receiver) = mpsc::unbounded_channel();
        let repositories: Vec<Repository> = repositories(names);
        let first = repositories.first().cloned();
        let streams = first.map(|first| Arc::new(Streams::new(session, first)));
        let task = publish_blobs(session.clone(), repositories, receiver, First::Whether);
        let task = tokio::spawn(task);
        let publishing = Self { channels: Some(Channels { parcels, streams }), task };
        let targets = plan.targets.iter().filter(|_| form.keeps_base());
        for base in targets.filter_map(|target| plan.base_of(*target)) {
            for layer in &base.layers {
                let origin = Some(base.reference.repository.clone());
                let descriptor = layer.descriptor.clone();
                publishing.send(Parcel::new(descriptor, origin));
            }
        }
        publishing
    }

    pub(super) fn send(&self, parcel: Parcel) {
        if let Some(channels) = &self.channels {
            // The receiver is gone only when an upload has failed; `finish` then says why.
            let _ = channels.parcels.send(parcel);
        }
    }

    /// Ready when the uploads fail while more is to come; never ready otherwise.
    pub(super) async fn failure(&mut self) -> Error {
        match (&mut self.task).await {
            Ok(Err(error)) => error,
            Err(error) => Error::new(Kind::Internal, "the uploads failed").because(error),
            Ok(Ok(_)) => std::future::pending().await,
        }
    }

    pub(super) async fn finish(mut self) -> Result<Traffic, Error> {
        let streams = self.channels.take().and_then(|channels| channels.streams);
        let traffic = (&mut self.task)
            .await
            .map_err(|error| Error::new(Kind::Internal, "the uploads failed").because(error))
            .flatten();
        if let Some(streams) = streams {
            // Unless the uploads failed, nothing is under way but a layer that was there twice.
            streams.abandon().await;
        }
        traffic
    }

    pub(super) async fn abort(mut self) {
        self.task.abort();
        if let Some(streams) = self.channels.take().and_then(|channels| channels.streams) {
            streams.abandon().await;
        }
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Passes layers on to the uploads.
pub(super) struct Forward {
    /// The ways to the uploads; `None` without a push.
    pub(super) channels: Option<Channels>,
    /// Where layers come from that an earlier build has made elsewhere.
    pub(super) caches: Arc<CacheSources>,
    /// What is to be kept elsewhere; `None` when nothing is.
    pub(super) exports: Option<Exports>,
}

impl Observer for Forward {
    fn sealed(&self, layer: &Layer) {
        if let Some(Channels { parcels, streams }) = &self.channels {
            let descriptor = layer.descriptor.clone();
            let stream = streams.as_ref().and_then(|streams| streams.take(&descriptor.digest));
            // A receiver that is gone has failed; the end of the build reports it.
            let origin = self.caches.origin(&descriptor.digest);
            let _ = parcels.send(Parcel { descriptor, origin, stream });
        }
    }

    fn begins(&self, step: &str, file: File) -> Option<Arc<dyn Growth>> {
        Some(self.channels.as_ref()?.streams.as_ref()?.follow(step, file))
    }

    fn wants_results(&self) -> bool {
        self.exports.is_some()
    }

    fn stage_finished(&self, result: StageResult) {
        if let Some(exports) = &self.exports {
            exports.add(result);
        }
    }
}
