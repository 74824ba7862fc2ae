//! What every operation works with.

use std::collections::HashMap;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::credentials::{Credentials, Locations, Lookup};
use crate::event::{Event, Finding, Sink};
use crate::image::{DEFAULT_REGISTRY, Digest, RegistryName, Repository, RepositoryName};
use crate::registry::{
    self, Client, ClientOptions, Headers, HostSettings, Hosts, Reachable, RetryPolicy,
};
use crate::remote::GitSettings;
use crate::store::{SharedLock, Store};

use super::memory::StoreMemory;
use super::{Error, Kind};

/// The store, the registries and the user's ear.
#[derive(Clone)]
pub struct Session {
    /// The local store.
    pub(super) store: Store,
    /// The client of all registries.
    pub(super) client: Client,
    /// Mirrors and insecure registries.
    pub(super) hosts: Hosts,
    /// Where logins are kept.
    pub(super) credentials: Credentials,
    /// Where logins are kept for what is written.
    pub(super) push_credentials: Credentials,
    /// Where events go.
    pub(super) sink: Arc<dyn Sink>,
    /// How `git` is run.
    pub(super) git: GitSettings,
    /// Which blobs are on their way in.
    pub(super) arrivals: Arrivals,
    /// Whether anybody is asked anything.
    pub(super) reachable: Reachable,
}

/// Blobs on their way into the store: each is fetched once, however many want it.
#[derive(Clone, Default)]
pub(super) struct Arrivals(Arc<Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>>);

impl Arrivals {
    /// Waits until nobody else fetches `digest`; until the guard is dropped, others wait.
    pub(super) async fn turn(&self, digest: &Digest) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // A server fetches for months. Whoever waits, or fetches, has a handle too.
            if turns.len() > 1024 {
                turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            Arc::clone(turns.entry(digest.clone()).or_default())
        };
        turn.lock_owned().await
    }
}

/// Where a session finds what it works with. The command line fills it in.
#[derive(Debug, Clone, Default)]
pub struct SessionSettings {
    /// The store's directory.
    pub store: PathBuf,
    /// Where logins are.
    pub credentials: Locations,
    /// Where those are for what is written, when they are elsewhere.
    pub push_credentials: Option<Locations>,
    /// What the user says about registries, and where files about them are.
    pub hosts: HostSettings,
    /// What is put before the program's own name where registries ask who it is.
    pub user_agent_prefix: Option<String>,
    /// PEM files with authorities to trust besides the system's.
    pub ca_files: Vec<PathBuf>,
    /// When to try again, and how long to wait for a registry.
    pub retry: RetryPolicy,
    /// The most blobs that move at once each way; without it, what the client thinks good.
    pub concurrency: Option<NonZeroUsize>,
    /// The most bytes that move in a second, both ways together.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Whether anybody is asked anything: without, no socket is opened to any other machine.
    pub reachable: Reachable,
    /// How `git` is run; it trusts the authorities of `ca_files` as well.
    pub git: GitSettings,
}

impl Session {
    /// Opens the store and prepares the rest. Asks no registry yet.
    ///
    /// # Errors
    ///
    /// When the store cannot be opened or `registries.conf` makes no sense.
    pub fn open(settings: SessionSettings, sink: Arc<dyn Sink>) -> Result<Self, Error> {
        let credentials = Credentials::new(settings.credentials);
        let mut hosts = settings.hosts;
        add_docker_headers(&mut hosts.headers, &credentials)?;
        let hosts = Hosts::load(hosts).map_err(registry::Error::Hosts)?;
        let with_helpers =
            |credentials: Credentials| credentials.with_helpers(hosts.credential_helpers());
        let credentials = with_helpers(credentials);
        let push_credentials = settings.push_credentials.map(Credentials::new).map(with_helpers);
        let for_push =
            push_credentials.clone().map(|credentials| Arc::new(credentials) as Arc<dyn Lookup>);
        let git = GitSettings { ca_files: settings.ca_files.clone(), ..settings.git };
        let mut options = ClientOptions::new(Arc::new(credentials.clone()), Arc::clone(&sink));
        options.hosts = hosts.clone();
        options.ca_files = settings.ca_files;
        options.retry = settings.retry;
        options.concurrency = settings.concurrency.map_or(options.concurrency, NonZeroUsize::get);
        options.bytes_per_second = settings.bytes_per_second;
        if let Some(prefix) = settings.user_agent_prefix {
            options.user_agent = format!("{prefix} {}", options.user_agent);
        }
        let store = Store::open(&settings.store)?;
        options.memory = Arc::new(StoreMemory(store.clone()));
        options.push_credentials = for_push;
        options.reachable = settings.reachable;
        let client = Client::new(options);
        let arrivals = Arrivals::default();
        let push_credentials = push_credentials.unwrap_or_else(|| credentials.clone());
        let reachable = settings.reachable;
        Ok(Self {
            store,
            client,
            hosts,
            credentials,
            push_credentials,
            sink,
            git,
            arrivals,
            reachable,
        })
    }

    /// Returns whether nobody is asked anything.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.reachable == Reachable::Nobody
    }

    /// Keeps what this process uses of the store from being collected as garbage, until dropped.
    ///
    /// # Errors
    ///
    /// When the store's lock cannot be taken.
    pub fn hold_store(&self) -> Result<SharedLock, Error> {
        Ok(self.store.lock_shared()?)
    }

    /// Says something once.
    pub fn note(&self, text: impl Into<String>) {
        self.sink.emit(Event::Note { text: text.into() });
    }

    /// Says something the user should know though the work goes on.
    pub fn warn(&self, text: impl Into<String>) {
        self.sink.emit(Event::Warning { text: text.into() });
    }

    /// Says what a check found in a Dockerfile.
    pub(super) fn found(&self, finding: Finding) {
        self.sink.emit(Event::Finding(Box::new(finding)));
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

    /// Returns whether reading a manifest of `repository` counts against a quota: Docker Hub's does,
    /// and other registries say so.
    pub(super) fn counts_pulls(&self, repository: &Repository) -> bool {
        repository.registry.as_str() == DEFAULT_REGISTRY
            || self.client.rate_limit(repository).is_some()
    }

    /// Returns whether pulls of `repository` go to itself and nowhere else, so that what was read
    /// from it is there.
    pub(super) fn reads_from_itself(&self, repository: &Repository) -> bool {
        let endpoints = self.hosts.for_pull(repository);
        endpoints.iter().all(|endpoint| endpoint.repository == *repository)
    }
}

/// Adds `HttpHeaders` of docker's file, as far as the user gave no header of the same name.
fn add_docker_headers(headers: &mut Headers, credentials: &Credentials) -> Result<(), Error> {
    // A file that cannot be read is an error when a credential is looked for in it.
    let found = credentials.http_headers().unwrap_or_default();
    for (name, value) in found {
        if !headers.names().iter().any(|given| given.eq_ignore_ascii_case(&name)) {
            headers.insert(&name, value.expose()).map_err(|why| {
                let message = format!("invalid `HttpHeaders` in docker's `config.json`: {why}");
                Error::new(Kind::Settings, message)
            })?;
        }
    }
    Ok(())
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
