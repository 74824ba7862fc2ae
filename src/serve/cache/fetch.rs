//! Blobs through the cache: fetched once, read by many while they grow.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::event::Event;
use crate::image::{Content, Descriptor, Digest, Repository};
use crate::serve::growth::{Arrival, Growth, Watched};
use crate::serve::pieces::Pieces;
use crate::serve::reply::{Code, Failure};
use crate::serve::state::State;
use crate::store::ImageEntry;

use super::manifests::parts;
use super::{Cache, Fallback, UpstreamError, Why, failure, locked};

/// The media type does not matter for a blob that is asked for by its digest.
const BLOB: &str = "application/octet-stream";

/// Fetches under way.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<Digest, Watched>>);

/// A blob on its way, open for reading.
pub(in crate::serve) struct Arriving {
    file: File,
    arrival: Arrival,
}

impl Arriving {
    /// Returns the size that the blob will have.
    pub(in crate::serve) fn size(&self) -> u64 {
        self.arrival.size
    }

    /// Returns the bytes of `range`, which are read as they arrive.
    pub(in crate::serve) fn pieces(self, range: Range<u64>) -> Pieces {
        let reader = Growing { file: self.file, position: range.start };
        Pieces::arriving(Box::new(reader), range, self.arrival)
    }
}

/// Reads a file that grows. Its end is no end.
struct Growing {
    file: File,
    position: u64,
}

impl Read for Growing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Cache {
    /// Returns the size of a blob that is not in the store.
    pub(in crate::serve) async fn blob_size(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<u64, Failure> {
        let question = self.upstream.blob_size(repository.clone(), digest.clone());
        let asked = self.ask(&repository.registry, Fallback::None, Instant::now(), question).await;
        asked.map_err(|error| failure(&repository.registry, Code::BlobUnknown, &error))
    }

    /// Returns a blob that is not in the store, as soon as there is something of it to read.
    pub(in crate::serve) async fn bring_blob(
        self: &Arc<Self>,
        state: &Arc<State>,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Arriving, Failure> {
        let watched = self.join(repository, digest);
        // The fetch itself has told the server's user.
        let failed =
            |error| failure(&repository.registry, Code::BlobUnknown, &error).without_warning();
        let arrival = watched.begun().await.map_err(failed)?;
        let cache = Arc::clone(self);
        let descriptor = Descriptor::new(BLOB, digest.clone(), arrival.size);
        let file = state.blocking(move |_| Ok(cache.store.open_arriving(&descriptor)?)).await?;
        // Looked at after opening: the file may be that of a new beginning, or gone.
        match file {
            Some(file) if !arrival.has_restarted() => Ok(Arriving { file, arrival }),
            _ => Err(Failure::new(Code::Unavailable, "the blob is being fetched anew; try again")),
        }
    }

    /// Returns the size of a blob as manifests have it: those that passed, or after a restart those of
    /// the repository's images.
    async fn known_size(self: &Arc<Self>, repository: &Repository, digest: &Digest) -> Option<u64> {
        if let Some(size) = self.sizes.of(digest) {
            return Some(size);
        }
        let (cache, repository) = (Arc::clone(self), repository.clone());
        let learning = tokio::task::spawn_blocking(move || cache.learn_sizes(&repository)).await;
        if let Err(error) | Ok(Err(error)) = learning.map_err(io::Error::other) {
            tracing::debug!(%error, "sizes of blobs");
        }
        self.sizes.of(digest)
    }

    fn learn_sizes(&self, repository: &Repository) -> io::Result<()> {
        let images = self.store.shared_images().map_err(io::Error::other)?;
        let is_here =
            |image: &&ImageEntry| image.name.as_ref().is_some_and(|n| n.repository == *repository);
        let mut left: Vec<Digest> =
            images.iter().filter(is_here).map(|image| image.descriptor.digest.clone()).collect();
        let mut seen = HashSet::new();
        while let Some(digest) = left.pop() {
            if !seen.insert(digest.clone()) {
                continue;
            }
            // What is not here, or damaged, says nothing.
            let Ok(Some(manifest)) = self.store.manifest(&digest) else { continue };
            self.sizes.note(parts(&manifest));
            if let Content::Index(index) = manifest.content {
                left.extend(index.manifests.into_iter().map(|child| child.digest));
            }
        }
        Ok(())
    }

    /// Sees to it that the blob is being fetched.
    fn join(self: &Arc<Self>, repository: &Repository, digest: &Digest) -> Watched {
        let mut flights = locked(&self.flights.0);
        if let Some(watched) = flights.get(digest) {
            return watched.clone();
        }
        let (growth, watched) = Growth::channel();
        flights.insert(digest.clone(), watched.clone());
        let flight = Flight { cache: Arc::clone(self), digest: digest.clone() };
        let repository = repository.clone();
        // On its own: it goes on when the client that asked first goes away.
        tokio::spawn(async move {
            let (events, digest) = (Arc::clone(&flight.cache.events), flight.digest.clone());
            let outcome = flight.fly(&repository, &growth).await;
            if let Err(error) = &outcome
                && error.why != Why::Missing
            {
                let text = format!("failed to fetch {digest} of `{repository}`: {error}");
                events.emit(Event::Warning { text });
            }
            growth.end(outcome);
        });
        watched
    }
}

/// One fetch. It is over when it is dropped, also by a panic.
struct Flight {
    cache: Arc<Cache>,
    digest: Digest,
}

impl Flight {
    async fn fly(self, repository: &Repository, growth: &Growth) -> Result<(), UpstreamError> {
        let Self { cache, digest } = &self;
        let registry = &repository.registry;
        let size = if let Some(size) = cache.known_size(repository, digest).await {
            size
        } else {
            let question = cache.upstream.blob_size(repository.clone(), digest.clone());
            cache.ask(registry, Fallback::None, Instant::now(), question).await?
        };
        growth.expect(size);
        let descriptor = Descriptor::new(BLOB, digest.clone(), size);
        let question = cache.upstream.fetch(repository.clone(), descriptor, growth.clone());
        cache.ask(registry, Fallback::None, Instant::now(), question).await?;
        cache.has_grown_by(size);
        Ok(())
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        locked(&self.cache.flights.0).remove(&self.digest);
    }
}
