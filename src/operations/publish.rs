//! Publishing: layers as they come, then the config, then the manifest, tags last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::event::{Event, TransferId};
use crate::image::{Content, Descriptor, Digest, Manifest, Reference, Repository};
use crate::registry::{Pushed, Support};
use crate::store::Store;

use super::session::blocking;
use super::stream::Stream;
use super::transfer::push_blob;
use super::{Error, Kind, Session};

/// A blob to be published, and where it can be had or mounted from.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) descriptor: Descriptor,
    /// A repository that is known to hold the blob.
    pub(super) origin: Option<Repository>,
    /// Its upload to the first repository, when that began before its digest was known.
    pub(super) stream: Option<Stream>,
}

impl Parcel {
    pub(super) fn new(descriptor: Descriptor, origin: Option<Repository>) -> Self {
        Self { descriptor, origin, stream: None }
    }
}

/// What publishing moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Blobs that were sent.
    pub sent: usize,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Blobs that were there already.
    pub already_there: usize,
    /// Blobs that the registry took from another of its repositories.
    pub mounted: usize,
    /// The bytes that did not have to be sent.
    pub saved_bytes: u64,
}

impl Traffic {
    pub(super) fn add(&mut self, pushed: Pushed, size: u64) {
        match pushed {
            Pushed::AlreadyThere => self.already_there += 1,
            Pushed::Mounted => self.mounted += 1,
            Pushed::Uploaded { bytes } => {
                self.sent += 1;
                self.sent_bytes += bytes;
                return;
            }
        }
        self.saved_bytes += size;
    }

    /// Returns the traffic of a push that finds all of `blobs` there.
    pub(super) fn of_nothing<'a>(blobs: impl IntoIterator<Item = &'a Descriptor>) -> Self {
        let blobs: BTreeMap<&Digest, u64> =
            blobs.into_iter().map(|blob| (&blob.digest, blob.size)).collect();
        let mut traffic = Self::default();
        for size in blobs.into_values() {
            traffic.add(Pushed::AlreadyThere, size);
        }
        traffic
    }

    /// Returns what both moved.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.merge(other);
        self
    }

    fn merge(&mut self, other: Self) {
        self.sent += other.sent;
        self.sent_bytes += other.sent_bytes;
        self.already_there += other.already_there;
        self.mounted += other.mounted;
        self.saved_bytes += other.saved_bytes;
    }
}

/// What a registry is asked first about a blob that it has in another repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// Whether it has the blob here as well.
    Whether,
    /// To mount it from there.
    Mount,
}

/// Pushes blobs to all of `repositories` as they arrive on `parcels`, side by side, each once.
///
/// In one registry a blob is sent to one repository and mounted in the others.
pub(super) async fn publish_blobs(
    session: Session,
    repositories: Vec<Repository>,
    mut parcels: mpsc::UnboundedReceiver<Parcel>,
    first: First,
) -> Result<Traffic, Error> {
    let known = {
        let (store, repositories) = (session.store.clone(), repositories.clone());
        Arc::new(blocking(move || known_holders(&store, &repositories)).await?)
    };
    let mut seen: BTreeSet<Digest> = BTreeSet::new();
    let mut tasks = JoinSet::new();
    let mut traffic = Traffic::default();
    let mut is_open = true;
    while is_open || !tasks.is_empty() {
        tokio::select! {
            parcel = parcels.recv(), if is_open => match parcel {
                None => is_open = false,
                Some(parcel) => {
                    if seen.insert(parcel.descriptor.digest.clone()) {
                        let (session, known) = (session.clone(), Arc::clone(&known));
                        let repositories = repositories.clone();
                        tasks.spawn(publish_blob(session, repositories, known, parcel, first));
                    }
                }
            },
            Some(done) = tasks.join_next(), if !tasks.is_empty() => {
                let done = done.map_err(|error| {
                    Error::new(Kind::Internal, "an upload task failed").because(error)
                })?;
                traffic.merge(done?);
            }
        }
    }
    Ok(traffic)
}

/// Which repositories hold a blob, as far as is known here.
pub(super) type Holders = BTreeMap<Digest, Vec<Repository>>;

/// How many repositories are remembered for a blob: a registry is asked to mount from one or two,
/// and a base's layers are in every image.
const HOLDERS_KEPT: usize = 2;

/// Returns which other repositories of the same registries hold which blobs, as far as the names
/// in the store tell: what was pulled from there, or pushed to there, is there. A registry that
/// knows better starts an ordinary upload instead of mounting, so a wrong guess costs nothing.
pub(super) fn known_holders(store: &Store, destinations: &[Repository]) -> Result<Holders, Error> {
    let mut known = Holders::new();
    for entry in store.images()? {
        let Some(repository) = entry.name.map(|name| name.repository) else { continue };
        let is_near = destinations
            .iter()
            .any(|other| other.registry == repository.registry && *other != repository);
        if !is_near {
            continue;
        }
        for manifest in manifests_of(store, &entry.descriptor.digest)? {
            let image = manifest.as_image();
            // Mounting a config saves the second of the requests that would send it.
            for blob in image.iter().flat_map(|image| image.layers.iter().chain([&image.config])) {
                let holders = known.entry(blob.digest.clone()).or_default();
                if holders.len() < HOLDERS_KEPT && !holders.contains(&repository) {
                    holders.push(repository.clone());
                }
            }
        }
    }
    Ok(known)
}

/// Returns a manifest and, of an index, those in it, as far as the store has them.
fn manifests_of(store: &Store, digest: &Digest) -> Result<Vec<Manifest>, Error> {
    let mut manifests: Vec<Manifest> = store.manifest(digest)?.into_iter().collect();
    let children = match manifests.first().map(|manifest| &manifest.content) {
        Some(Content::Index(index)) => index.manifests.clone(),
        Some(Content::Image(_)) | None => Vec::new(),
    };
    for child in children {
        manifests.extend(store.manifest(&child.digest)?);
    }
    Ok(manifests)
}

async fn publish_blob(
    session: Session,
    repositories: Vec<Repository>,
    known: Arc<Holders>,
    mut parcel: Parcel,
    first: First,
) -> Result<Traffic, Error> {
    let mut traffic = Traffic::default();
    let mut holders: Vec<Repository> = parcel.origin.iter().cloned().collect();
    holders.extend(known.get(&parcel.descriptor.digest).into_iter().flatten().cloned());
    for repository in repositories {
        let mut transfer = None;
        // Only the first repository's round finds one.
        if let Some(stream) = parcel.stream.take() {
            transfer = Some(stream.transfer);
            if let Some(pushed) = stream.finish().await {
                traffic.add(pushed, parcel.descriptor.size);
                holders.push(repository);
                continue;
            }
        }
        let transfer = transfer.unwrap_or_else(TransferId::next);
        let mut mount_from = Vec::new();
        for holder in holders.iter().rev() {
            mount_from.extend(session.names_in(&repository.registry, holder));
        }
        mount_from.retain(|name| *name != repository.name);
        mount_from.dedup();
        if first == First::Whether {
            mount_from.push(repository.name.clone());
        }
        let (descriptor, origin) = (&parcel.descriptor, parcel.origin.clone());
        let pushed = push_blob(&session, &repository, descriptor, origin, &mount_from, transfer);
        let pushed = pushed.await.map_err(|error| {
            let error = error.about(format!("failed to push to `{}`", repository.familiar()));
            let quirks = session.client.quirks(&repository);
            if error.kind == Kind::NotFound && quirks.makes_repositories == Support::No {
                return error.hint(format!(
                    "this registry makes no repositories: run `aws ecr create-repository \
                     --repository-name {}` first",
                    repository.name
                ));
            }
            error
        })?;
        traffic.add(pushed, parcel.descriptor.size);
        holders.push(repository);
    }
    Ok(traffic)
}

/// Puts the manifest under every name, one after another: when one fails, the later ones are untouched.
pub(super) async fn publish_manifest(
    session: &Session,
    names: &[Reference],
    manifest: &Manifest,
) -> Result<(), Error> {
    for name in names {
        session.client.push_manifest(name, manifest).await.map_err(|error| {
            Error::from(error).about(format!("failed to push `{}`", name.familiar()))
        })?;
        let (reference, digest) = (name.clone(), manifest.digest.clone());
        session.sink.emit(Event::Tagged { reference, digest });
    }
    Ok(())
}

/// Returns the repositories of `names`, each once, in their order.
pub(super) fn repositories(names: &[Reference]) -> Vec<Repository> {
    let mut repositories: Vec<Repository> = Vec::new();
    for name in names {
        if !repositories.contains(&name.repository) {
            repositories.push(name.repository.clone());
        }
    }
    repositories
}
