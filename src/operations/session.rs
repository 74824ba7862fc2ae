//! What every operation works with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::credentials::Credentials;
use crate::event::{Event, Sink};
use crate::image::{Digest, RegistryName, Repository, RepositoryName};
use crate::registry::{Client, Hosts};
use crate::store::Store;

use super::{Error, Kind};

/// The store, the registries and the user's ear.
#[derive(Clone)]
pub struct Session {
    /// The local store.
    pub store: Store,
    /// The client of all registries.
    pub client: Client,
    /// Mirrors and insecure registries.
    pub hosts: Hosts,
    /// Where logins are kept.
    pub credentials: Credentials,
    /// Where events go.
    pub sink: Arc<dyn Sink>,
    /// Which blobs are on their way in.
    pub arrivals: Arrivals,
}

/// Blobs on their way into the store: each is fetched once, however many want it.
#[derive(Clone, Default)]
pub struct Arrivals(Arc<Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>>);

impl Arrivals {
    /// Waits until nobody else fetches `digest`; until the guard is dropped, others wait.
    pub(super) async fn turn(&self, digest: &Digest) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(digest.clone()).or_default())
        };
        turn.lock_owned().await
    }
}

impl Session {
    /// Says something once.
    pub fn note(&self, text: impl Into<String>) {
        self.sink.emit(Event::Note { text: text.into() });
    }

    /// Says something the user should know though the work goes on.
    pub fn warn(&self, text: impl Into<String>) {
        self.sink.emit(Event::Warning { text: text.into() });
    }

    /// Returns the names that `repository`'s content has in `registry`, when pulls of it go there:
    /// the registry can then mount it instead of being sent it.
    pub(super) fn names_in(
        &self,
        registry: &RegistryName,
        repository: &Repository,
    ) -> Vec<RepositoryName> {
        let endpoints = self.hosts.for_pull(repository).into_iter();
        endpoints
            .map(|endpoint| endpoint.repository)
            .filter(|repository| repository.registry == *registry)
            .map(|repository| repository.name)
            .collect()
    }
}

/// Runs blocking work beside the runtime.
pub(super) async fn blocking<T, E, F>(work: F) -> Result<T, Error>
where
    T: Send + 'static,
    E: Into<Error> + Send + 'static,
    F: FnOnce() -> Result<T, E> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Into::into),
        Err(panic) => Err(Error::new(Kind::Internal, "a worker thread failed").because(panic)),
    }
}
