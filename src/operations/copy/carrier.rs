//! What all images of one run share, and how one blob gets to its destinations.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;

use crate::blob::{Source, VerifyingReader};
use crate::event::TransferId;
use crate::image::{Descriptor, RegistryName, Repository, RepositoryName};
use crate::operations::fetch::fetch_blob;
use crate::operations::place::Place;
use crate::operations::session::blocking;
use crate::operations::{Error, Kind, Session};
use crate::registry::Pushed;

use super::claims::{Claims, Role, Share, Stage};
use super::delivery::Delivery;
use super::hold::Hold;
use super::relay::{Relay, SpoolRoom};

/// Copies images, as many as one likes at once: each blob crosses once to each registry, however many
/// of the images and repositories want it. Cloning it is cheap; clones share everything.
#[derive(Clone)]
pub struct Carrier {
    pub(super) session: Session,
    shared: Arc<Shared>,
}

struct Shared {
    claims: Claims,
    room: SpoolRoom,
    images: AtomicU64,
    tags: Mutex<HashMap<Repository, Arc<BTreeSet<String>>>>,
    without_api: Mutex<HashSet<RegistryName>>,
    unreachable: Mutex<HashSet<RegistryName>>,
}

/// A blob where it is copied from.
enum Origin {
    Registry(Arc<Relay>),
    File(Arc<dyn Source>),
}

impl Carrier {
    /// Returns a carrier for one run.
    #[must_use]
    pub fn new(session: &Session) -> Self {
        let shared = Shared {
            claims: Claims::default(),
            room: SpoolRoom::new(),
            images: AtomicU64::new(0),
            tags: Mutex::default(),
            without_api: Mutex::default(),
            unreachable: Mutex::default(),
        };
        Self { session: session.clone(), shared: Arc::new(shared) }
    }

    /// Takes note of all tags of a repository that is copied from: what is not among them need not be
    /// asked for.
    pub fn know_tags(&self, repository: &Repository, tags: impl IntoIterator<Item = String>) {
        let tags = Arc::new(tags.into_iter().collect());
        lock(&self.shared.tags).insert(repository.clone(), tags);
    }

    /// Returns whether the repository may have the tag.
    pub(super) fn may_have_tag(&self, repository: &Repository, tag: &str) -> bool {
        lock(&self.shared.tags).get(repository).is_none_or(|tags| tags.contains(tag))
    }

    /// Returns whether the registry has turned out to lack the referrers API.
    pub(super) fn lacks_api(&self, registry: &RegistryName) -> bool {
        lock(&self.shared.without_api).contains(registry)
    }

    pub(super) fn note_lack_of_api(&self, registry: &RegistryName) {
        lock(&self.shared.without_api).insert(registry.clone());
    }

    /// Returns whether only mirrors of the registry have turned out to answer.
    pub(super) fn is_unreachable(&self, registry: &RegistryName) -> bool {
        lock(&self.shared.unreachable).contains(registry)
    }

    /// Takes note that a registry could not be asked, when that need not stop the copy of an image that
    /// its mirrors have: the user is told once.
    pub(super) fn do_without(
        &self,
        repository: &Repository,
        error: crate::registry::Error,
    ) -> Result<(), Error> {
        let is_silent = error.kind() == crate::registry::Kind::Network && error.status().is_none();
        if !is_silent || self.session.reads_from_itself(repository) {
            return Err(error.into());
        }
        let registry = &repository.registry;
        if lock(&self.shared.unreachable).insert(registry.clone()) {
            self.session.warn(format!(
                "`{registry}` cannot be reached: signatures and other referrers are copied as far as \
                 its mirrors know them"
            ));
        }
        tracing::debug!(%error, "what belongs to an image is asked of mirrors alone");
        Ok(())
    }

    /// Claims what an image needs at all of its destinations.
    pub(super) fn claim(&self, holds: &[Hold], blobs: &[Descriptor]) -> Vec<Share> {
        let image = self.shared.images.fetch_add(1, Ordering::Relaxed);
        self.shared.claims.claim(image, holds, blobs)
    }

    /// Brings a blob of `place` to all destinations that have not failed. What fails at one of them is
    /// noted there and harms no other.
    ///
    /// # Errors
    ///
    /// When the blob cannot be had where it is.
    pub(super) async fn bring(
        &self,
        place: &Place,
        blob: &Descriptor,
        deliveries: &[&Delivery],
    ) -> Result<(), Error> {
        let mut wanting: Vec<&Delivery> = Vec::new();
        let waits = join_all(deliveries.iter().map(|it| it.is_brought_by_others(blob))).await;
        for (delivery, is_there) in deliveries.iter().copied().zip(waits) {
            if is_there {
                delivery.note(Pushed::AlreadyThere, blob.size);
            } else if !delivery.has_failed() {
                wanting.push(delivery);
            }
        }
        let is_store = |delivery: &&Delivery| delivery.hold == Hold::Store;
        let (keep, send): (Vec<_>, Vec<_>) = wanting.into_iter().partition(is_store);
        let mut place = place;
        if !keep.is_empty() {
            let kept = self.keep(place, blob).await?;
            for delivery in keep {
                delivery.arrived(kept, blob);
            }
            place = &Place::Store;
        }
        if send.is_empty() {
            return Ok(());
        }
        let origin = Arc::new(self.origin(place, blob, send.len()).await?);
        join_all(send.into_iter().map(|delivery| self.send(place, blob, &origin, delivery))).await;
        origin.check(blob, deliveries).await
    }

    /// Brings a blob into the store.
    async fn keep(&self, place: &Place, blob: &Descriptor) -> Result<Pushed, Error> {
        if self.session.store.has_blob(&blob.digest) {
            return Ok(Pushed::AlreadyThere);
        }
        let uploaded = Pushed::Uploaded { bytes: blob.size };
        if let Place::Repository(repository) = place {
            fetch_blob(&self.session, repository, blob, None).await?;
            return Ok(uploaded);
        }
        let Origin::File(source) = self.origin(place, blob, 1).await? else {
            unreachable!("only a registry's blobs are relayed")
        };
        let (store, blob) = (self.session.store.clone(), blob.clone());
        blocking(move || {
            let mut writer = store.writer()?;
            let about = |error| spoilt(&blob, error);
            let mut reader = VerifyingReader::new(source.open(0).map_err(about)?, blob.clone());
            io::copy(&mut reader, &mut writer).map_err(about)?;
            writer.commit(Some(&blob))?;
            Ok::<_, Error>(uploaded)
        })
        .await
    }

    async fn origin(
        &self,
        place: &Place,
        blob: &Descriptor,
        readers: usize,
    ) -> Result<Origin, Error> {
        match place {
            Place::Repository(repository) => {
                let room = &self.shared.room;
                let kept = if readers > 1 { Some(room.take(blob.size).await) } else { None };
                let relay = Relay::new(&self.session, repository, blob, room, kept);
                Ok(Origin::Registry(Arc::new(relay)))
            }
            Place::Store if !self.session.store.has_blob(&blob.digest) => {
                let message = format!("the store lacks the blob {}", blob.digest);
                Err(Error::new(Kind::NotFound, message).hint("pull the image for its platform"))
            }
            Place::Store => Ok(Origin::File(Arc::new(self.session.store.blob_source(blob)))),
            Place::Archive(archive) => Ok(Origin::File(archive.source(blob)?)),
        }
    }

    /// Brings a blob to a destination other than the store.
    async fn send(&self, place: &Place, blob: &Descriptor, origin: &Origin, delivery: &Delivery) {
        let follows = match delivery.share.role(&blob.digest) {
            Some(Role::Follow(following)) => Some(following),
            Some(Role::Lead(_)) | None => None,
        };
        if let Some(following) = follows.filter(|following| following.is_same_image) {
            let is_there = following.reaches(Stage::Arrived).await;
            if is_there && following.hold == delivery.hold {
                return delivery.note(Pushed::AlreadyThere, blob.size);
            }
        }
        let sent = match &delivery.hold {
            Hold::Store => return,
            Hold::Archive(target) => target.bring(blob, origin.source()).await,
            Hold::Repository(repository) => {
                let mut mount_from = self.mountable(place, repository);
                let held = follows.and_then(|following| following.hold.repository());
                mount_from.splice(..0, held.map(|held| held.name.clone()));
                mount_from.retain(|name| *name != repository.name);
                let (client, source) = (&self.session.client, origin.source());
                let transfer = TransferId::next();
                let pushed = client.push_blob(repository, blob, source, &mount_from, transfer);
                pushed.await.map_err(Error::from)
            }
        };
        match sent {
            Ok(pushed) => delivery.arrived(pushed, blob),
            Err(error) => delivery.fail(error),
        }
    }

    /// Returns from where a registry may take the blobs of `place`.
    fn mountable(&self, place: &Place, to: &Repository) -> Vec<RepositoryName> {
        let Place::Repository(from) = place else { return Vec::new() };
        self.session.names_in(&to.registry, from)
    }
}

impl Origin {
    fn source(&self) -> Arc<dyn Source> {
        match self {
            Self::Registry(relay) => relay.clone(),
            Self::File(file) => Arc::clone(file),
        }
    }

    /// Says whether it was the blob itself that kept it from its destinations.
    async fn check(&self, blob: &Descriptor, deliveries: &[&Delivery]) -> Result<(), Error> {
        match self {
            Self::Registry(relay) => relay.take_failure().map_or(Ok(()), Err),
            Self::File(_) if deliveries.iter().all(|delivery| !delivery.has_failed()) => Ok(()),
            Self::File(file) => {
                let (file, blob) = (Arc::clone(file), blob.clone());
                blocking(move || verify(&*file, &blob)).await
            }
        }
    }
}

/// Reads a file that a registry would not take, to see whether it is what it should be.
fn verify(file: &dyn Source, blob: &Descriptor) -> Result<(), Error> {
    let about = |error| spoilt(blob, error);
    let mut reader = VerifyingReader::new(file.open(0).map_err(about)?, blob.clone());
    io::copy(&mut reader, &mut io::sink()).map(drop).map_err(about)
}

/// Returns what is wrong when a blob could not be copied from or to a file.
pub(super) fn spoilt(blob: &Descriptor, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::InvalidData => Kind::Integrity,
        io::ErrorKind::NotFound => Kind::NotFound,
        _ => Kind::Internal,
    };
    let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let error = Error::new(kind, format!("failed to copy the blob {}", blob.digest)).because(error);
    if is_full { error.hint("make room on the disk, and run the command again") } else { error }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
